"""Random terms with a covariance structure, made simpler: hetar1 to ar1, cs to homcs, ..."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...formula.covariances import Covariance
from ..hypotheses.structures import INSIDE

if TYPE_CHECKING:
    from ...data.design import Design
    from ...data.terms import RandomTerm


def simpler(term: RandomTerm) -> tuple[str, ...]:
    """The next simpler structures of a term that has one."""
    return INSIDE.get(term.covariance.kind, ()) if term.covariance is not None else ()


def term_text(design: Design, i: int, kind: str = "", group: str = "") -> str:
    """A structured term as a formula writes it, with its own structure or another one."""
    term = design.terms[i]
    assert term.covariance is not None
    group = group or term.group
    if design.recipe is not None:
        bar = design.plan.formula.random[i]
        columns, own = bar.columns, bar.covariance
    else:
        columns, own = " + ".join(["0", *term.columns]), None
    if kind == "diag":
        return f"diag({columns} | {group})"
    if kind or own is None:
        kind = kind or term.covariance.kind
        own = Covariance(kind, kind)
    return own.term(f"{columns} | {group}")


def with_kind(design: Design, i: int, kind: str) -> RandomTerm:
    """A structured term with a simpler structure."""
    term = design.terms[i]
    assert term.covariance is not None
    label = term_text(design, i, kind)
    if kind == "diag":
        label = label.removeprefix("diag(").removesuffix(")").replace(" | ", " || ")
        return replace(term, label=label, structure="diag", covariance=None)
    return replace(term, label=label, covariance=replace(term.covariance, kind=kind))
