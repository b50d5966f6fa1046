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

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

if TYPE_CHECKING:
    from ..data.design import Design
    from .families import Family

EDGE = 1e-6  # what a row of an extreme response may still gain, at the end of a fit: a sign
MOVED = 1e-6  # of the largest coefficient of a direction
SHOWN = 5  # coefficients that a message names


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

    eta (n,) and the family's parameters x are those at the end of a fit. Where some row of an
    extreme response has nothing left to gain, the programme is solved.
    """
    high, low = _extremes(design, family)
    extreme = np.flatnonzero(high | low)
    if not len(extreme) or not keep.any():
        return ()
    weights = None if design.weights is None else design.weights[extreme]
    left = family.log_density(design.y[extreme], eta[extreme], x, weights)
    if not (left > -EDGE).any():
        return ()
    kept = np.flatnonzero(keep)
    X = design.X[:, kept]
    size = np.abs(X).max(axis=0)
    found = direction(X / size, high, low)
    if found is None:
        return ()
    moved = np.abs(X / size @ found) > MOVED
    names = [design.x_names[kept[j]] for j in np.flatnonzero(np.abs(found) > MOVED)]
    rows = design.rows[moved]
    message = _said(names, moved, high, design)
    return Separation(tuple(names), tuple(rows[:10].tolist()), len(rows), message)


def _extremes(design: Design, family: Family) -> tuple[Mask, Mask]:
    """Rows in which the response is as high, and as low, as it can be."""
    y, none = design.y, np.zeros(design.n, bool)
    if family.response == "binomial":
        trials = np.ones(design.n) if design.weights is None else design.weights
        return y == trials, y == 0
    if family.response == "ordered":
        return y == y.max(), y == 0
    if family.response == "count" and family.link.name == "log":
        return none, y == 0
    return none, none


def direction(X: NDArray[np.float64], high: Mask, low: Mask) -> NDArray[np.float64] | None:
    """A direction d (p,), |d| <= 1, that separates the rows; None where there is none.

    X (n, p) with columns of size one; high, low (n,): where the response is extreme.
    """
    from scipy.optimize import linprog

    sign = np.where(high, 1.0, np.where(low, -1.0, 0.0))
    rows, counts = np.unique(np.column_stack([X, sign]), axis=0, return_counts=True)
    X, sign = rows[:, :-1], rows[:, -1]
    signed = X[sign != 0] * sign[sign != 0, None]
    if not len(signed):
        return None
    found = linprog(
        -(counts[sign != 0] @ signed) / counts.sum(),
        A_ub=-signed,
        b_ub=np.zeros(len(signed)),
        A_eq=X[sign == 0] if (sign == 0).any() else None,
        b_eq=np.zeros(int((sign == 0).sum())) if (sign == 0).any() else None,
        bounds=(-1, 1),
        method="highs",
    )
    if found.x is None or (signed @ found.x).max() <= MOVED:
        return None
    return np.asarray(found.x)


def _said(names: list[str], moved: Mask, high: Mask, design: Design) -> str:
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" * (len(names) > SHOWN))
    count, up = int(moved.sum()), int((moved & high).sum())
    what = {count: "as high as it can be", 0: "as low as it can be"}.get(
        up, f"as high as it can be in {up} of them and as low in {count - up}"
    )
    where = f"{count} row{'s' if count > 1 else ''}"
    return (
        f"the response {design.response!r} is separated: it is {what} in {where} "
        f"(first row {design.rows[moved][0]}) that the coefficient{'s' if len(names) > 1 else ''} "
        f"{shown} set{'s' if len(names) == 1 else ''} apart, and the likelihood has no maximum "
        "there: estimates and standard errors of these coefficients mean nothing; take them out, "
        "join levels, or test them by likelihood ratios"
    )
