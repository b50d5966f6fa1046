"""The covariance structure of a random term: what its formula asks for, and its columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, FormulaError, SpacingWarning, warn
from ..formula.covariances import LAGGED, SPATIAL
from ..formula.factors import located
from .structures import Structure

if TYPE_CHECKING:
    from ..formula.bars import Bar
    from ..formula.plan import Plan
    from .encode import Coding, Layout

_NUMBERED = re.compile(r"(.*?)(\d+(?:\.\d+)?)\D*")
NEIGHBOURS = ("ad", "homad")  # of LAGGED: only the order counts, each pair has its correlation
MOST_LOCATIONS = 2_000  # of a spatial structure in one level: 1,000 take half a minute


def structure_of(bar: Bar, layout: Layout, codings: Mapping[str, Coding]) -> Structure | None:
    """The structure of a random term; None where its covariance has none of its own.

    FormulaError when the columns are none that the structure is for; a warning when columns that
    count as equally spaced, or as ordered, have labels that say otherwise.
    """
    asked = bar.covariance
    if asked is None:
        return None
    if asked.name in SPATIAL:
        coordinates = _coordinates(bar, layout, codings)
        return Structure(asked.kind, layout.names, coordinates=coordinates)
    _check_columns(bar, layout, codings)
    if asked.kind in LAGGED:
        _check_order(bar, _labels(layout, codings))
    if asked.rank > len(layout.names):
        columns = f"the term has {len(layout.names)} columns"
        raise FormulaError(
            f"{bar.label}: {asked.rank} latent variables, but {columns}", term=bar.label
        )
    return Structure(asked.kind, layout.names, rank=asked.rank)


def custom_structure(own: Any, columns: tuple[str, ...]) -> Structure | None:
    """The structure of a covariance that a user wrote; None for anything else."""
    if not all(hasattr(own, name) for name in ("names", "p", "nonnegative", "sigma")):
        return None
    return Structure("custom", columns, own=own)


def fewest_levels(plan: Plan, bar: Bar) -> int:
    """How many levels the grouping factor of a term must have: one will do where all its terms have
    structures, in which columns are what is repeated (a time series, a map)."""
    if bar.covariance is None:
        return 2
    own = [one for one in plan.formula.random if one.factor == bar.factor]
    return 1 if all(one.covariance is not None for one in own) else 2


def _check_columns(bar: Bar, layout: Layout, codings: Mapping[str, Coding]) -> None:
    """Two columns or more, and no contrasts where columns stand for successive times."""
    assert bar.covariance is not None
    numeric = [atom.label for atom in layout.atoms if codings[atom.label].levels is None]
    if len(layout.names) < 2:
        name = numeric[0] if numeric else layout.names[0]
        how = bar.covariance.term(f"0 + factor({name}) | {bar.factor}") if numeric else ""
        raise FormulaError(
            f"{bar.label} has one column, {layout.names[0]!r}, and so no correlation: "
            f"write {f'{how}, a column for each level, or ' * bool(how)}"
            f"({bar.columns} | {bar.factor})",
            term=bar.label,
        )
    if bar.covariance.kind not in LAGGED:
        return
    contrasted = [
        name
        for factors in layout.columns
        for name, dummy, _ in factors
        if codings[name].levels is not None and not dummy
    ]
    if contrasted or () in layout.columns:
        rest = bar.columns.removeprefix("1 + ")
        raise FormulaError(
            f"{bar.label} has an intercept and differences from it as columns, which are not "
            f"successive times: write {bar.covariance.term(f'0 + {rest} | {bar.factor}')}",
            term=bar.label,
        )


def _labels(layout: Layout, codings: Mapping[str, Coding]) -> list[str]:
    """The level that each column is of, where they are those of one factor; else none."""
    places = [factors[0] for factors in layout.columns if len(factors) == 1]
    if len(places) != len(layout.columns) or len({name for name, _, _ in places}) != 1:
        return []
    levels = codings[places[0][0]].levels
    return [] if levels is None else [str(levels[j]) for _, _, j in places]


def _check_order(bar: Bar, labels: Sequence[str]) -> None:
    """A warning for labels that say that the columns are not what the structure takes them for."""
    name = bar.covariance.name if bar.covariance is not None else ""
    equal = bar.covariance is not None and bar.covariance.kind not in NEIGHBOURS
    what = misplaced(labels, equal, f"ou(0 + times | {bar.factor})")
    if what:
        text = f"{bar.label}: {name} {what}"
        warn(SpacingWarning(text, variable=bar.factor, term=bar.label))


def misplaced(
    labels: Sequence[str],
    equal: bool,
    other: str,
    declaration: str = "declare it, as factor(times, levels=...)",
) -> str:
    """Labels that are numbers, or end in numbers, should increase, and by equal steps where a
    structure takes them so: what to say of those that do not; other: what goes by distances."""
    steps = np.diff(label_numbers(labels))
    shown = ", ".join(labels[:6]) + ", ..." * (len(labels) > 6)
    if not len(steps):
        return ""
    if (steps <= 0).any():
        return f"takes the levels in this order, {shown}: {declaration}"
    if equal and np.ptp(steps) > 1e-6 * steps.max():
        return f"takes the levels {shown} as equally spaced; {other} goes by their distances"
    return ""


def unseen_between(declared: Any, seen: Any) -> list[str]:
    """Declared levels without rows between others that have some, by name; declared: None where
    nobody said which levels there are."""
    names = [] if declared is None else [str(level) for level in declared]
    there = {str(level) for level in seen}
    places = [i for i, name in enumerate(names) if name in there]
    return [] if not places else [n for n in names[places[0] : places[-1]] if n not in there]


def label_numbers(labels: Sequence[str]) -> np.ndarray:
    """Numbers of labels that are some, or end in some; none where others are among them."""
    found = [_NUMBERED.fullmatch(label) for label in labels]
    numbered = [(own[1], float(own[2])) for own in found if own is not None]
    if len(numbered) < len(labels) or len({name for name, _ in numbered}) != 1:
        return np.zeros(0)
    return np.array([number for _, number in numbered])


def _coordinates(bar: Bar, layout: Layout, codings: Mapping[str, Coding]) -> np.ndarray:
    """Where the columns of a spatial term are (k, d)."""
    points = [located(label) for label in _labels(layout, codings)]
    known = [point for point in points if point is not None]
    assert len(known) == len(layout.names), "numFactor() names its levels by coordinates"
    if len(known) > MOST_LOCATIONS:
        raise DataError(
            f"{bar.label} has {len(known)} locations: fits take the third power of their number, "
            f"and go to {MOST_LOCATIONS}; round the coordinates",
            term=bar.label,
        )
    return np.array(known)
