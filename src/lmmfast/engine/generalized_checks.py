"""Generalized models that cannot be fitted as they are, or are hardly identified."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import FitError, IdentifiabilityWarning, OneRowPerLevelWarning, warn
from .custom import CustomFamily
from .custom_rows import check_custom
from .identify import twins
from .relations import refuse_related

if TYPE_CHECKING:
    from ..data.design import Design
    from .families import Family

MOST_DIRECTIONS = 3  # random effects of one level that it goes over
CONSTANT = 1e-9  # how near combinations of columns come to a constant that is one


def check_quadrature(design: Design, nagq: int) -> None:
    """Quadrature goes over the effects of one level: one grouping factor, few columns."""
    if nagq == 1:
        return
    refuse_related(design, f"nagq={nagq}: quadrature")
    groups = dict.fromkeys(term.source.factor for term in design.terms)
    width = sum(term.source.width for term in design.terms)
    if len(groups) > 1 or width > MOST_DIRECTIONS:
        has = f"{len(groups)} grouping factors" if len(groups) > 1 else f"{width} random columns"
        raise FitError(
            f"nagq={nagq}: quadrature is for one grouping factor with at most {MOST_DIRECTIONS} "
            f"columns, this model has {has}; nagq=1 is Laplace's approximation"
        )


def check_family(family: Family, design: Design, information: str) -> None:
    """FitError where a user's own family is wrong, or has no expected weights and these are asked
    for."""
    if not isinstance(family, CustomFamily):
        return
    rows = design.rows_for("a generalized model needs its rows")
    known = check_custom(family, np.asarray(rows.y), rows.weights)
    if information == "expected" and "w" not in known:
        raise FitError(
            f"information='expected' needs the expectation of -d2: derivatives() of family "
            f"{family.name!r} must give it as 'w'"
        )


def note_identification(design: Design, family: Family) -> None:
    """Warnings for variances that cannot be told apart, or hardly."""
    for term, what in twins(design.terms):
        warn(IdentifiabilityWarning(what, variable=term.group, term=term.label))
    alone = (term for term in design.terms if term.relation is None)
    single = next((term for term in alone if len(term.levels) == design.n), None)
    if single is None:
        return
    binary = family.response == "binomial" and (
        design.weights is None or (design.weights == 1).all()
    )
    if binary or family.classes:
        other = (
            "that of the link: a row that is one of a few classes tells nothing of its own variance"
        )
    elif family.nextra:
        other = f"the {family.extra_names[0]} of the family"
    else:
        return
    what = (
        f"grouping factor {single.group!r} has one row per level: its variance is hard to tell "
        f"from {other}; take ({single.label}) out"
    )
    warn(OneRowPerLevelWarning(what, variable=single.group, term=single.label))


def check_thresholds(design: Design, keep: np.ndarray) -> None:
    """Columns that add up to a constant shift all thresholds: neither could be told."""
    kept = np.flatnonzero(keep)
    X = design.X[:, kept]
    d = np.linalg.lstsq(X, np.ones(design.n), rcond=None)[0]
    if not len(kept) or np.abs(X @ d - 1).max() > CONSTANT:
        return
    part = np.abs(d) * np.abs(X).max(axis=0)
    names = ", ".join(design.x_names[kept[j]] for j in np.flatnonzero(part > CONSTANT))
    raise FitError(
        "the thresholds of an ordered response take the place of an intercept, but the fixed "
        f"effects have one: {names} add up to a constant; take a column out",
        variable=design.x_names[kept[int(part.argmax())]],
    )
