"""Roots of matrices that may be singular; steps within a trust region."""

from __future__ import annotations

import numpy as np

FLAT = 1e-8  # curvature relative to the largest, both scaled, below which a direction is unknown


def triangular_root(root: np.ndarray) -> np.ndarray:
    """Lower triangular L, k x k, with L L' = root root' and no negative diagonal; root is k x m."""
    L = np.zeros((len(root), len(root)))
    R = np.asarray(np.linalg.qr(root.T, mode="r"))
    L[:, : len(R)] = R.T
    return np.asarray(L * np.where(L.diagonal() < 0, -1.0, 1.0))


def root_slopes(T: np.ndarray, dS: np.ndarray) -> np.ndarray:
    """Derivatives (k, k, t) of the lower triangular T from those of T T', (t, k, k).

    dL = L low(L^-1 dS L^-T), low: lower triangle with half the diagonal, in the rows with a pivot;
    the other rows are a solve with that. Zero for zero columns of T.
    """
    pivots = np.flatnonzero(T.diagonal())
    L = T[np.ix_(pivots, pivots)]
    inner = np.linalg.solve(L, np.linalg.solve(L, dS[:, pivots[:, None], pivots]).swapaxes(1, 2))
    low = np.tril(inner)
    low[:, range(len(pivots)), range(len(pivots))] /= 2
    dL = L @ low
    rest = dS[:, :, pivots] - T[:, pivots] @ dL.swapaxes(1, 2)
    out = np.zeros((len(dS), *T.shape))
    out[:, :, pivots] = np.linalg.solve(L, rest.swapaxes(1, 2)).swapaxes(1, 2)
    out[:, pivots[:, None], pivots] = dL
    return np.moveaxis(out, 0, 2)


def inverse_root(H: np.ndarray, flat: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """R with R R' = 2 H^-1 where H is positive, and the other directions; the `flat` least curved
    ones are among these.

    Eigenvalues are those of H with a unit diagonal: what counts as flat does not depend on units.
    """
    size = np.abs(np.diag(H))
    scale = np.sqrt(np.where(size > 0, size, 1.0))
    values, axes = np.linalg.eigh(H / np.outer(scale, scale))
    known = values > FLAT * values.max(initial=0.0)
    known[:flat] = False
    own = axes / scale[:, None]
    return np.sqrt(2 / values[known]) * own[:, known], axes[:, ~known] / scale[:, None]


def predicted_gain(slope: np.ndarray, curvature: np.ndarray) -> float:
    """Gain of a step of length one, in units in which the diagonal of the curvature is one."""
    size = np.abs(curvature.diagonal())  # negative beside a saddle
    unit = 1 / np.sqrt(np.where(size > 0, size, 1.0))
    return trust_step(unit * slope, unit[:, None] * curvature * unit, 1.0)[1]


def trust_step(slope: np.ndarray, curvature: np.ndarray, radius: float) -> tuple[np.ndarray, float]:
    """The step that minimizes the quadratic model within the radius, and the decrease it predicts.

    Through the eigenvalues, as Moré & Sorensen (1983), *SIAM J. Sci. Stat. Comput.* 4: the
    curvature is symmetric, not necessarily positive definite.
    """
    if not len(slope):
        return np.zeros(0), 0.0
    values, vectors = np.linalg.eigh(curvature)
    g = vectors.T @ slope
    flat = 1e-12 * max(abs(values[0]), abs(values[-1]), 1e-300)
    shift = 0.0 if values[0] > flat else flat - values[0]
    step = -g / (values + shift)
    if step @ step > radius * radius:
        step = -g / (values + _shift_to(radius, g, values, shift))
    return vectors @ step, -float(step @ (g + 0.5 * values * step))


def rank_one(
    learnt: np.ndarray, change: np.ndarray, step: np.ndarray, unit: np.ndarray
) -> np.ndarray:
    """The symmetric rank-one correction of a curvature that explains how the slope changed along a
    step, besides what is known; parameters in these units."""
    missing, along = (change - learnt @ step) * unit, step / unit
    product = float(missing @ along)
    if product * product <= 1e-12 * float(missing @ missing) * float(along @ along):
        return learnt
    whole = missing / unit
    return np.asarray(learnt + whole[:, None] * whole / product)


def _shift_to(radius: float, g: np.ndarray, values: np.ndarray, least: float) -> float:
    """The shift of the eigenvalues that shortens the step to the radius: bisection, for its norm
    falls with the shift."""
    low, high = least, least + float(np.linalg.norm(g)) / radius
    for _ in range(60):
        middle = (low + high) / 2
        if np.linalg.norm(g / (values + middle)) > radius:
            low = middle
        else:
            high = middle
    return high
