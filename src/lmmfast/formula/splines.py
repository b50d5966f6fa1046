"""Splines of R's package splines: `bs` and `ns`, with its knots, columns and continuation.

B-splines by SciPy; de Boor (1978), *A Practical Guide to Splines*. `ns` is the part of the cubic
B-splines whose second derivative vanishes at the boundary knots (Hastie 1992, in Chambers and
Hastie, "Statistical Models in S", ch. 7).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .coerce import number, numbers
from .function import State, Wrong
from .values import Matrix

Vector = NDArray[np.float64]
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

    `df` (default 1 + intercept) columns, from df - 1 - intercept inner `knots` at quantiles of x;
    `intercept` keeps the first B-spline, so that the columns span the constant. `Boundary_knots`
    are the ends of x by default. `state` keeps the knots and the projection of the training data.
    """
    values = numbers(x, "ns()")
    first = 0 if intercept else 1
    if "knots" not in state:
        state["knots"] = _placed(values, df, 2 - first, knots, Boundary_knots, 3)
        curvature = _basis(state["knots"], 3, state["knots"][[0, -1]], derivative=2)[:, first:]
        state["projection"] = np.linalg.qr(curvature.T, mode="complete")[0][:, 2:]
    knots_ = state["knots"]
    inside = np.clip(values, knots_[0], knots_[-1])
    basis = _basis(knots_, 3, inside)
    outside = np.flatnonzero((inside != values) & ~np.isnan(values))
    if len(outside):
        slope = _basis(knots_, 3, inside[outside], derivative=1)
        basis[outside] += (values - inside)[outside, None] * slope
    return numbered(basis[:, first:] @ state["projection"])


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

    `df` (default degree + intercept) columns, from df - degree - intercept inner `knots` at
    quantiles of x; `intercept` keeps the first column. `Boundary_knots` are the ends of x by
    default. patsy says `include_intercept`, `lower_bound` and `upper_bound`. `state` keeps the
    knots of the training data.
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
        state["knots"] = _placed(values, df, power + whole, knots, Boundary_knots, power)
    basis = _continued(state["knots"], power, values)
    return numbered(basis[:, 0 if whole else 1 :])


def _placed(x: Vector, df: Any, spent: int, knots: Any, boundary: Any, degree: int) -> Vector:
    """Inner knots between boundary knots, these degree + 1 times; `df - spent` of them, or 0."""
    seen = x[~np.isnan(x)]
    asked = 0.0 if df is None else max(number(df, "df") - spent, 0.0)
    if not len(seen):
        raise Wrong("there are no values to learn knots from")
    ends = np.array([seen.min(), seen.max()]) if boundary is None else np.sort(numbers(boundary))
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise Wrong("the two boundary knots must differ")
    inner = None if knots is None else np.sort(numbers(knots, "knots"))
    if (int(asked) if inner is None else len(inner)) > MOST_COLUMNS:
        raise Wrong(f"splines have at most {MOST_COLUMNS} columns")
    if inner is None:
        within = seen[(seen >= ends[0]) & (seen <= ends[1])]
        inner = np.quantile(within, np.linspace(0, 1, int(asked) + 2)[1:-1])
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
    for edge, neighbour, outside in (
        (knots[0], knots[degree + 1], x < knots[0]),
        (knots[-1], knots[-degree - 2], x > knots[-1]),
    ):
        if not outside.any():
            continue
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


def numbered(basis: Vector, start: int = 1) -> Matrix:
    """A matrix whose columns are called by their number."""
    return Matrix(basis, tuple(str(j + start) for j in range(basis.shape[1])))
