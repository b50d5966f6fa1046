"""Separation: coefficients that the likelihood would move without end.

Where a direction d of the fixed effects has x'd > 0 in some rows in which the response is as high
as it can be, x'd < 0 in some in which it is as low, and x'd = 0 in all others, the likelihood rises
along d for ever (Albert and Anderson 1984, *Biometrika* 71). The linear programme

    maximize sum s x'd    over    |d| <= 1,  s x'd >= 0 where the response is extreme (s = 1 or -1),
                                  x'd = 0 elsewhere

finds such a direction where there is one (Konis 2007, thesis, Oxford). It is solved only when a
fitted mean has reached the edge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..formula.column import label_of

if TYPE_CHECKING:
    from ..data.design import Design
    from .families import Family

Mask = NDArray[np.bool_]
_NONE = np.zeros(0, dtype=np.int64)

APART = 10.0  # standard deviation of a predictor's effects: probabilities are all but 0 or 1
EDGE = 1e-6  # what a row of an extreme response may still gain, at the end of a fit: a sign
MOVED = 1e-5  # of a direction's largest entry: what counts as not zero
SHOWN = 5  # coefficients or levels that a message names
FEASIBLE = 1e-6  # by which a direction may violate a constraint; HiGHS allows 1e-7
SOME = 200_000  # rows that are looked at where all of them do not fit in memory
BLOCK = 65_536  # of these that are worked on together
AT_ONCE = 1000  # rows that are added to the programme when they violate its constraints


@dataclass(frozen=True)
class Separation:
    """A direction in which the likelihood has no maximum.

    Attributes
    ----------
    names : tuple of str
        Coefficients that move in it.
    rows : tuple of int
        Positions (0-based, in the data) of the first rows that they separate.
    count : int
        Number of such rows.
    message : str
    """

    names: tuple[str, ...]
    rows: tuple[int, ...]
    count: int
    message: str

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.names)


def separation(
    design: Design,
    family: Family,
    eta: NDArray[np.float64],
    x: NDArray[np.float64],
    keep: Mask,
) -> Separation | tuple[()]:
    """The coefficients of a separated response, () where it is not.

    eta (n,) and the family's parameters x are those at the end of a fit.
    """
    high, low = _extremes(design, family)
    if not keep.any() or not _at_edge(family, eta, x, high, low):
        return ()
    kept = np.flatnonzero(keep)
    in_file = design.reading is not None and design.reading.in_file
    look = _separated_in_files if in_file else _separated
    found, moved = look(design, kept, high, low)
    if found is None:
        return ()
    names = [design.x_names[kept[j]] for j in np.flatnonzero(np.abs(found) > MOVED)]
    rows = design.rows[moved]
    message = _said(names, moved, high, design)
    return Separation(tuple(names), tuple(rows[:10].tolist()), len(rows), message)


def _separated(
    design: Design, kept: NDArray[np.int64], high: Mask, low: Mask
) -> tuple[NDArray[np.float64] | None, Mask]:
    """A direction of the kept columns that separates the rows, or None; and rows that it moves."""
    X = design.X[:, kept]
    size = np.abs(X).max(axis=0)
    found = direction(X / size, high, low)
    return found, high if found is None else np.abs(X / size @ found) > MOVED


def _separated_in_files(
    design: Design, kept: NDArray[np.int64], high: Mask, low: Mask
) -> tuple[NDArray[np.float64] | None, Mask]:
    """The same where there is no memory for X: a direction of some rows that is one of all."""
    rows = np.unique(np.linspace(0, design.n - 1, min(design.n, SOME)).astype(np.int64))
    X = design.fixed.at(rows)[:, kept]
    size = np.abs(X).max(axis=0)
    size[size == 0] = 1.0  # what is zero in these rows
    found = direction(X / size, high[rows], low[rows])
    if found is None:
        return None, high
    moved = np.zeros(design.n, bool)
    for first in range(0, design.n, BLOCK):
        own = slice(first, first + BLOCK)
        by = design.fixed.at(own)[:, kept] / size @ found
        if (np.where(high[own], by, np.where(low[own], -by, -np.abs(by))) < -FEASIBLE).any():
            return None, high
        moved[own] = np.abs(by) > MOVED
    return found, moved


def settled_levels(
    design: Design, family: Family, T: Sequence[NDArray[np.float64]]
) -> Iterator[tuple[Any, str]]:
    """Terms whose effects have gone far apart, and every level of which has the response as high,
    or as low, as it can be, or the same class, in all of its rows, several in some: the farther,
    the higher the likelihood. T (k, k): roots of their covariances, at the end of a fit."""
    if not any(len(own) and np.hypot.reduce(own[0]) > APART for own in T):
        return
    high, low = _extremes(design, family)
    in_file = design.reading is not None and design.reading.in_file
    if not high.any() or not low.any() or in_file:
        return
    trials = family.response == "binomial" and design.weights is not None
    many = trials and bool((np.asarray(design.weights) > 1).any())
    for term, own in zip(design.terms, T, strict=True):
        plain = term.relation is None and term.covariance is None and not term.several
        if not plain or term.columns[0] != "Intercept" or np.hypot.reduce(own[0]) <= APART:
            continue
        count = np.bincount(term.codes)
        kinds = [design.y == k for k in range(family.classes)] or [high, low]
        most = [np.bincount(term.codes[own], minlength=len(count)) for own in kinds]
        if (np.max(most, axis=0) == count).all() and (many or count.max() > 1):
            yield (
                term,
                f"the response {design.response!r} is the same in all rows of a level, for each of "
                f"the {len(count)} levels of {term.group!r}: the likelihood rises without end with "
                f"the variance of ({term.label}), whose estimate, like the coefficients, says "
                "where the search ended. Such data have one answer a level: a row for each, and a "
                f"model without ({term.label})",
            )


def _extremes(design: Design, family: Family) -> tuple[Mask, Mask]:
    """Rows in which the response is as high, and as low, as it can be."""
    y, none = design.y, np.zeros(design.n, bool)
    if family.response == "binomial":
        trials = np.ones(design.n) if design.weights is None else design.weights
        ends = family.link.name == "log"  # a probability of 1 is reached at eta = 0
        return (none if ends else y == trials), y == 0
    if family.response == "ordered":
        return y == y.max(), y == 0
    if family.response == "count" and family.link.name == "log":
        return none, y == 0
    return none, none


def _at_edge(
    family: Family, eta: NDArray[np.float64], x: NDArray[np.float64], high: Mask, low: Mask
) -> bool:
    """Whether an extreme response has nothing left to gain: where eta is farthest, by one trial."""
    ends = []
    if high.any():
        far = int(np.argmax(np.where(high, eta, -np.inf)))
        ends.append((family.classes - 1.0 if family.classes else 1.0, eta[far]))
    if low.any():
        ends.append((0.0, eta[int(np.argmin(np.where(low, eta, np.inf)))]))
    if not ends:
        return False
    y, there = map(np.array, zip(*ends, strict=True))
    return bool((family.log_density(y, there, x) > -EDGE).any())


def direction(X: NDArray[np.float64], high: Mask, low: Mask) -> NDArray[np.float64] | None:
    """A direction d (p,), |d| <= 1, that separates the rows; None where there is none.

    X (n, p) with columns of size one; high, low (n,): where the response is extreme. Rows become
    constraints of the programme when its solution without them violates them.
    """
    sign = np.where(high, 1.0, np.where(low, -1.0, 0.0))
    rising = X[sign != 0] * sign[sign != 0, None]  # must not fall along d
    still = X[sign == 0]  # must not move
    gain = rising.sum(axis=0) / len(X)
    chosen = _spread(len(rising)), _spread(len(still))
    while True:
        d = _programme(gain, rising[chosen[0]], still[chosen[1]])
        if d is None or gain @ d <= MOVED / len(X):
            return None
        fall, move = -(rising @ d), np.abs(still @ d)
        if max(fall.max(), move.max(initial=0.0)) <= FEASIBLE:
            return d if -fall.min() > MOVED else None
        more = np.union1d(chosen[0], _worst(fall)), np.union1d(chosen[1], _worst(move))
        if sum(map(len, more)) == sum(map(len, chosen)):  # no direction is as exact as asked for
            return None
        chosen = more


def _spread(n: int) -> NDArray[np.int64]:
    """Some of n rows, from everywhere."""
    return np.unique(np.linspace(0, n - 1, min(n, AT_ONCE)).astype(np.int64)) if n else _NONE


def _worst(excess: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rows that violate the constraints most."""
    bad = np.flatnonzero(excess > FEASIBLE)
    return bad[np.argsort(-excess[bad])[:AT_ONCE]]


def _programme(
    gain: NDArray[np.float64], rising: NDArray[np.float64], still: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """The d of the largest gain with these rows as constraints."""
    from scipy.optimize import linprog

    equal = {"A_eq": still, "b_eq": np.zeros(len(still))} if len(still) else {}
    bounds = {"A_ub": -rising, "b_ub": np.zeros(len(rising)), "bounds": (-1, 1)}
    found = linprog(-gain, **bounds, **equal, method="highs")
    return None if found.x is None else np.asarray(found.x)


def _where(design: Design, moved: Mask) -> str:
    """The levels of one predictor that these rows have, and no others; "" where there are none."""
    for name, column in design.variables.items():
        if column.levels is None:
            continue
        own = np.unique(column.codes[moved])
        if 0 < len(own) <= SHOWN and np.array_equal(np.isin(column.codes, own), moved):
            levels = " or ".join(repr(label_of(level)) for level in column.levels[own])
            return f" where {name} is {levels}"
    return f" (first row {design.rows[moved][0]})"


def _said(names: list[str], moved: Mask, high: Mask, design: Design) -> str:
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" * (len(names) > SHOWN))
    count, up = int(moved.sum()), int((moved & high).sum())
    what = {count: "as high as it can be", 0: "as low as it can be"}.get(
        up, f"as high as it can be in {up} of them and as low in {count - up}"
    )
    where = f"{'all ' if count > 1 else ''}{count} row{'s' if count > 1 else ''}"
    many = len(names) > 1
    return (
        f"the response {design.response!r} is separated: it is {what} in {where}"
        f"{_where(design, moved)}, which the coefficient{'s' if many else ''} {shown} "
        f"set{'' if many else 's'} apart; the likelihood rises without end along "
        f"{'them' if many else 'it'}: estimates and standard errors of "
        f"{'these coefficients' if many else 'this coefficient'} mean nothing. Take the predictor "
        "out, join levels, compare models by likelihood ratios, or give priors, "
        f"prior={{{names[-1]!r}: 2.5}}"
    )
