"""R's natural cubic splines, `ns(x, df)`: the same columns as splines::ns."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ns"]

Vector = NDArray[np.float64]


def ns(
    x: Any,
    df: int | None = None,
    knots: Any = None,
    intercept: bool = False,
    _state: MutableMapping[str, Any] | None = None,
) -> NDArray[np.float64]:
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
    _state : mapping
        Knots and projection of the training data; filled when empty.

    Returns
    -------
    (n, df) array
    """
    x = np.asarray(x, dtype=np.float64)
    state: MutableMapping[str, Any] = {} if _state is None else _state
    first = 0 if intercept else 1
    if "knots" not in state:
        ends = x.min(), x.max()
        if knots is None:
            inner = max((1 + int(intercept) if df is None else df) - 1 - int(intercept), 0)
            knots = np.quantile(x, np.linspace(0, 1, inner + 2)[1:-1])
        state["knots"] = np.concatenate(
            [[ends[0]] * 4, np.sort(np.atleast_1d(knots)), [ends[1]] * 4]
        )
        curvature = _cubic(state["knots"], np.array(ends), derivative=2)[:, first:]
        state["projection"] = np.linalg.qr(curvature.T, mode="complete")[0][:, 2:]
    result: NDArray[np.float64] = (
        _linear_outside(state["knots"], x)[:, first:] @ state["projection"]
    )
    return result


def _linear_outside(knots: Vector, x: Vector) -> NDArray[np.float64]:
    """Cubic B-splines at x, continued by their tangents outside of the outer knots."""
    inside = np.clip(x, knots[0], knots[-1])
    basis = _cubic(knots, inside)
    outside = np.flatnonzero(inside != x)
    if len(outside):
        slope = _cubic(knots, inside[outside], derivative=1)
        basis[outside] += (x - inside)[outside, None] * slope
    return basis


def _cubic(knots: Vector, x: Vector, derivative: int = 0) -> NDArray[np.float64]:
    from scipy.interpolate import BSpline

    spline = BSpline(knots, np.eye(len(knots) - 4), 3)
    return np.asarray(spline(x, nu=derivative), dtype=np.float64)
