"""Derivatives by differences of high order, with a step for each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

# values at shifts: (rows (m,) of them, shifts (k, m)) -> (..., k, m)
Function = Callable[[np.ndarray, np.ndarray], np.ndarray]

HALF = 6  # points on either side; one and two less give what the error is judged by
POINTS = np.arange(-HALF, HALF + 1.0)
SHRINK = 3.0  # steps of rows where they were too long
CLOSE = 1e-8  # how well nine and eleven points must agree with thirteen, which err far less
EPS = float(np.finfo(float).eps)


@lru_cache(maxsize=32)
def weights(half: int, order: int) -> np.ndarray:
    """Of values at -half .. half in their derivative of that order at 0, for step one.

    Fornberg (1988), doi:10.1090/S0025-5718-1988-0935077-0.
    """
    x = np.arange(-half, half + 1.0)
    c = np.zeros((len(x), order + 1))
    c[0, 0] = last = 1.0
    for i in range(1, len(x)):
        most, product = min(i, order), 1.0
        for j in range(i):
            apart = x[i] - x[j]
            product *= apart
            if j == i - 1:
                for k in range(most, -1, -1):
                    lower = k * c[j, k - 1] if k else 0.0
                    c[i, k] = last * (lower - x[j] * c[j, k]) / product
            for k in range(most, -1, -1):
                c[j, k] = (x[i] * c[j, k] - (k * c[j, k - 1] if k else 0.0)) / apart
        last = product
    return c[:, order]


def differences(
    function: Function,
    orders: Sequence[int],
    step: np.ndarray,
    *,
    noise: float = EPS,
    tries: int = 8,
) -> list[np.ndarray]:
    """Derivatives of a function of every row at shift 0, one array (..., n) for each order.

    Parameters
    ----------
    function : of rows (m,) and shifts (k, m), which gives values (..., k, m)
    orders : sequence of int
    step : (n,) array
        The longest step of each row. Shorter ones are taken where differences of lower order
        disagree by more than rounding, or values are not finite.
    noise : float, optional
        Relative error of the values.
    tries : int, default 8
        Different steps.

    Returns
    -------
    list of arrays
        NaN where no step has finite values.
    """
    rows, h = np.arange(len(step)), np.asarray(step, dtype=float)
    first, error = h, np.full(len(h), np.inf)
    best: list[np.ndarray] = []
    for _ in range(tries):
        values = function(rows, POINTS[:, None] * h[rows])
        found, off, fine = _judged(values, orders, h[rows], first[rows], noise)
        if not best:
            best = [np.full((*one.shape[:-1], len(step)), np.nan) for one in found]
        better = off < error[rows]
        for whole, part in zip(best, found, strict=True):
            whole[..., rows[better]] = part[..., better]
        error[rows[better]] = off[better]
        rows = rows[~fine]
        if not len(rows):
            break
        h = h / SHRINK
    return best


def _applied(w: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("k,...km->...m", w, values))


def _judged(
    values: np.ndarray, orders: Sequence[int], h: np.ndarray, unit: np.ndarray, noise: float
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Derivatives, their errors in the units of first steps, and which are good enough."""
    lead = tuple(range(values.ndim - 2))
    most = np.abs(values).max(axis=-2)
    found, error, fine = [], np.zeros(len(h)), np.ones(len(h), bool)
    for order in orders:
        wide = weights(HALF, order)
        one = _applied(wide, values) / h**order
        less = (_applied(weights(HALF - k, order), values[..., k:-k, :]) for k in (1, 2))
        off = np.maximum(*(np.abs(one - other / h**order) for other in less))
        rounding = 4 * noise * np.abs(wide).sum() * most / h**order
        fine &= (off <= CLOSE * np.abs(one) + rounding).all(axis=lead)
        error = np.maximum(error, (off * unit**order).max(axis=lead, initial=0.0))
        found.append(one)
    return found, np.where(np.isnan(error), np.inf, error), fine
