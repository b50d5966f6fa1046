"""Which random effects a prediction includes: all, none, some factors, or parts of terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.encode import layout_of
from ...errors import DataError, LmmError
from ...formula.plan import plan_of

if TYPE_CHECKING:
    from ...data.design import Design

NONE = ("none", "NA", "na", "~0", "~ 0")
Chosen = Mapping[int, np.ndarray]  # of each term that is in: which of its columns are (k)


def chosen_columns(design: Design, re_form: Any) -> dict[int, np.ndarray]:
    """The columns of random terms that ``re_form`` asks for, in the formula's order."""
    known = list(dict.fromkeys(term.group for term in design.terms))
    if re_form is None or (isinstance(re_form, str) and re_form == "all"):
        return _of_groups(design, known)
    if _is_missing(re_form) or (isinstance(re_form, str) and re_form.strip() in NONE):
        return {}
    if isinstance(re_form, str) and ("~" in re_form or "|" in re_form):
        return _of_formula(design, re_form)
    if isinstance(re_form, str) or not isinstance(re_form, Iterable):
        raise DataError(
            f're_form must be "all", "none", a list of grouping factors ({", ".join(known)}) or '
            f'terms as in "~(1 | {known[0]})", not {re_form!r} (R\'s NULL is "all" or None; NA and '
            '~0 are "none")'
        )
    wanted = list(re_form)
    if wanted and all(isinstance(one, str) and "|" in one for one in wanted):
        return _of_formula(design, " + ".join(_right(one) for one in wanted))
    for group in wanted:
        if group not in known:
            what = f"is no grouping factor of this model; it has {', '.join(known)}"
            raise DataError(f"re_form names {group!r}, which {what}", variable=str(group))
    return _of_groups(design, wanted)


def _is_missing(value: Any) -> bool:
    """NaN, or pandas' NA."""
    return (isinstance(value, float) and value != value) or type(value).__name__ == "NAType"


def _of_groups(design: Design, groups: Sequence[str]) -> dict[int, np.ndarray]:
    return {
        i: np.ones(len(term.columns), dtype=bool)
        for i, term in enumerate(design.terms)
        if term.group in groups
    }


def _of_formula(design: Design, text: str) -> dict[int, np.ndarray]:
    """Columns of the bars of a formula, which must be columns of the model's own terms."""
    if design.recipe is None:
        raise DataError("re_form: a model from arrays has no formula: name grouping factors")
    right = _right(text)
    if "|" not in right:
        known = design.terms[0].group
        raise DataError(
            f're_form: {text!r} has no random term: write "~(1 | {known})", or "~0" for none'
        )
    try:
        plan = plan_of(f"response ~ 1 + {right}")
    except LmmError as error:
        raise DataError(f"re_form: {text!r} cannot be read: {error}") from None
    found: dict[int, np.ndarray] = {}
    for bar, part in zip(plan.formula.random, plan.random, strict=True):
        own = [i for i, term in enumerate(design.terms) if term.group == bar.factor]
        if not own:
            known = ", ".join(dict.fromkeys(term.group for term in design.terms))
            raise DataError(
                f"re_form: {bar.factor!r} is no grouping factor of this model; it has {known}",
                variable=bar.factor,
            )
        for name in _names(design, part, text):
            _include(design, own, name, bar.factor, found)
    return found


def _right(text: str) -> str:
    """What stands right of "~"; terms without parentheses around get them."""
    right = text.rpartition("~")[2].strip()
    return right if right.startswith("(") or "(" in right else f"({right})"


def _names(design: Design, part: Any, text: str) -> tuple[str, ...]:
    """Names of the columns of one bar, coded as the model's are."""
    assert design.recipe is not None
    codings = design.recipe.codings
    for atom in part.atoms:
        if atom.label not in codings:
            raise DataError(
                f"re_form: {atom.label!r} in {text!r} is no variable of the model",
                variable=atom.label,
            )
    return tuple(layout_of(part, codings).names)


def _include(
    design: Design, own: list[int], name: str, group: str, found: dict[int, np.ndarray]
) -> None:
    for i in own:
        columns = design.terms[i].columns
        if name in columns:
            mask = found.setdefault(i, np.zeros(len(columns), dtype=bool))
            mask[list(columns).index(name)] = True
            return
    have = ", ".join(name for i in own for name in design.terms[i].columns)
    raise DataError(
        f"re_form: the random effects of {group!r} have no column {name!r}; they have {have}",
        variable=group,
    )
