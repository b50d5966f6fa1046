"""Splines of R's package splines: `bs` and `ns`, with its knots, columns and continuation.

B-splines by SciPy; de Boor (1978), *A Practical Guide to Splines*. `ns` is the part of the cubic
B-splines whose second derivative vanishes at the boundary knots (Hastie 1992, in Chambers and
Hastie, "Statistical Models in S", ch. 7).
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .values import Matrix, Wrong, number, numbers

__all__ = ["bs", "ns"]

Vector = NDArray[np.float64]
State = MutableMapping[str, Any]
MOST_COLUMNS = 1000


def ns(
    x: Any,
    df: Any = None,
    knots: Any = None,
    intercept: Any = False,
    Boundary_knots: Any = None,
    *,
    state: State,
) -> Matrix:
    """Natural cubic splines: second derivative zero at the ends, linear beyond them.

    Parameters
    ----------
    x : (n,) array
    df : int, default 1 + intercept
        Number of columns; df - 1 - intercept inner knots at quantiles of x.
    knots : sequence, optional
        Inner knots instead of df.
    intercept : bool, default False
        Keep the first B-spline, so that the columns span the constant.
    Boundary_knots : pair, default the range of x
    state : mapping
        Knots and projection of the training data; filled when empty.

    Returns
    -------
    Matrix of n rows
    """
    values = numbers(x, "ns()")
    first = 0 if intercept else 1
    if "knots" not in state:
        own = None if df is None else number(df, "df") - 1 - (1 - first)
        if own is not None and own < 0:
            own = 0.0
        ends, inner = _placed(values, own, knots, Boundary_knots, 0)
        state["knots"] = _repeated(ends, inner, 3)
        curvature = _basis(state["knots"], 3, np.array(ends), derivative=2)[:, first:]
        state["projection"] = np.linalg.qr(curvature.T, mode="complete")[0][:, 2:]
    knots_ = state["knots"]
    inside = np.clip(values, knots_[0], knots_[-1])
    basis = _basis(knots_, 3, inside)
    outside = np.flatnonzero((inside != values) & ~np.isnan(values))
    if len(outside):
        slope = _basis(knots_, 3, inside[outside], derivative=1)
        basis[outside] += (values - inside)[outside, None] * slope
    return _numbered(basis[:, first:] @ state["projection"])


def bs(
    x: Any,
    df: Any = None,
    knots: Any = None,
    degree: Any = 3,
    intercept: Any = False,
    Boundary_knots: Any = None,
    include_intercept: Any = None,
    lower_bound: Any = None,
    upper_bound: Any = None,
    *,
    state: State,
) -> Matrix:
    """B-splines; beyond the boundary knots their polynomial goes on, as R's does.

    Parameters
    ----------
    x : (n,) array
    df : int, default degree + intercept
        Number of columns; df - degree - intercept inner knots at quantiles of x.
    knots : sequence, optional
        Inner knots instead of df.
    degree : int, default 3
    intercept : bool, default False
        Keep the first column.
    Boundary_knots : pair, default the range of x
    include_intercept, lower_bound, upper_bound
        patsy's names for intercept and the boundary knots.
    state : mapping
        Knots of the training data; filled when empty.

    Returns
    -------
    Matrix of n rows
    """
    values = numbers(x, "bs()")
    whole = bool(intercept if include_intercept is None else include_intercept)
    power = int(number(degree, "degree"))
    if not 1 <= power <= 50:
        raise Wrong("the degree of bs() is 1 or more")
    if "knots" not in state:
        if lower_bound is not None or upper_bound is not None:
            Boundary_knots = [
                np.nanmin(values) if lower_bound is None else number(lower_bound, "lower_bound"),
                np.nanmax(values) if upper_bound is None else number(upper_bound, "upper_bound"),
            ]
        own = None if df is None else number(df, "df") - power - int(whole)
        if own is not None and own < 0:
            own = 0.0
        ends, inner = _placed(values, own, knots, Boundary_knots, 0)
        state["knots"] = _repeated(ends, inner, power)
    basis = _continued(state["knots"], power, values)
    return _numbered(basis[:, 0 if whole else 1 :])


def _placed(
    x: Vector, count: float | None, knots: Any, boundary: Any, default: int
) -> tuple[Vector, Vector]:
    """Boundary knots and inner knots."""
    seen = x[~np.isnan(x)]
    if not len(seen):
        raise Wrong("there are no values to learn knots from")
    ends = np.array([seen.min(), seen.max()]) if boundary is None else np.sort(numbers(boundary))
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise Wrong("the two boundary knots must differ")
    if knots is not None:
        return ends, np.sort(numbers(knots, "knots"))
    number_of = default if count is None else int(count)
    if number_of > MOST_COLUMNS:
        raise Wrong(f"splines have at most {MOST_COLUMNS} columns")
    within = seen[(seen >= ends[0]) & (seen <= ends[1])]
    return ends, np.quantile(within, np.linspace(0, 1, number_of + 2)[1:-1])


def _repeated(ends: Vector, inner: Vector, degree: int) -> Vector:
    if len(inner) > MOST_COLUMNS:
        raise Wrong(f"splines have at most {MOST_COLUMNS} columns")
    return np.concatenate([[ends[0]] * (degree + 1), inner, [ends[1]] * (degree + 1)])


def _basis(knots: Vector, degree: int, x: Vector, derivative: int = 0) -> Vector:
    from scipy.interpolate import BSpline

    spline = BSpline(knots, np.eye(len(knots) - degree - 1), degree)
    return np.asarray(spline(x, nu=derivative), dtype=np.float64)


def _continued(knots: Vector, degree: int, x: Vector) -> Vector:
    """B-splines at x; outside, the Taylor polynomial at a pivot inside the outermost interval.

    R takes the pivot a quarter of that interval (of the mean of the inner knots there) inwards.
    """
    basis = _basis(knots, degree, np.clip(x, knots[0], knots[-1]))
    for end, outside in ((0, x < knots[0]), (1, x > knots[-1])):
        if not outside.any():
            continue
        edge, neighbour = (
            (knots[0], knots[degree + 1]) if end == 0 else (knots[-1], knots[-degree - 2])
        )
        pivot = 0.75 * edge + 0.25 * neighbour
        away = x[outside] - pivot
        total = np.zeros((len(away), basis.shape[1]))
        factor = np.ones(len(away))
        for order in range(degree + 1):
            taylor = _basis(knots, degree, np.array([pivot]), derivative=order)
            total += factor[:, None] * taylor
            factor = factor * away / (order + 1)
        basis[outside] = total
    return basis


def _numbered(basis: Vector) -> Matrix:
    return Matrix(basis, tuple(str(j + 1) for j in range(basis.shape[1])))
