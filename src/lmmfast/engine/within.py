"""Minimization of the criterion on a plane theta = fixed + basis z, by Newton in a trust region."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import FitError

if TYPE_CHECKING:
    from .model import Model

__all__ = ["minimize_within", "scaled_step", "trust_step"]

TOLERANCE = 1e-10  # predicted decrease at which it stops, deviance units
MAX_EVALS = 200


def minimize_within(
    model: Model, fixed: np.ndarray, basis: np.ndarray, z: np.ndarray, reml: bool
) -> tuple[np.ndarray, float, int]:
    """theta at the minimum within the plane, the decrease still predicted there, evaluations.

    Steps solve the trust-region problem of More & Sorensen (1983) with the average information,
    in units in which its diagonal is one.

    Raises
    ------
    FitError
        When the criterion is not finite at the start.
    """
    here = _evaluate(model, fixed + basis @ z, basis, reml)
    if here is None:
        raise FitError("the objective is not finite at the starting value")
    radius, evals = 1.0, 1
    while True:
        f, slope, curvature = here
        unit, step, gain = scaled_step(slope, curvature, radius)
        if gain <= TOLERANCE or evals >= MAX_EVALS:
            return fixed + basis @ z, gain, evals
        trial = _evaluate(model, fixed + basis @ (z + unit * step), basis, reml)
        evals += 1
        decrease = f - trial[0] if trial is not None else -np.inf
        if decrease > 0.75 * gain:
            radius = max(radius, 2 * float(np.linalg.norm(step)))
        elif decrease < 0.25 * gain:
            radius = float(np.linalg.norm(step)) / 4
        if trial is not None and decrease > 0:
            z, here = z + unit * step, trial
        elif gain < 1e-12 * max(abs(f), 1.0):  # the rest is rounding
            return fixed + basis @ z, gain, evals


def _evaluate(
    model: Model, theta: np.ndarray, basis: np.ndarray, reml: bool
) -> tuple[float, np.ndarray, np.ndarray] | None:
    """Criterion, slope and curvature in z; None where the criterion is not finite."""
    try:
        f, g, H = model.objective(theta, reml=reml, gradient=True, hessian=True)
    except FitError:
        return None
    return f, basis.T @ g, basis.T @ H @ basis


def scaled_step(
    slope: np.ndarray, curvature: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Units in which the diagonal of the curvature is one, the step in these, and its gain."""
    size = np.abs(np.diag(curvature))  # negative beside a saddle
    unit = 1 / np.sqrt(np.where(size > 0, size, 1.0))
    return unit, *trust_step(unit * slope, unit[:, None] * curvature * unit, radius)


def trust_step(slope: np.ndarray, curvature: np.ndarray, radius: float) -> tuple[np.ndarray, float]:
    """The step that minimizes the quadratic model within the radius, and the decrease it predicts.

    Parameters
    ----------
    slope : (k,) array
    curvature : (k, k) array
        Symmetric, not necessarily positive definite.
    radius : float

    Returns
    -------
    step : (k,) array
    gain : float
    """
    values, vectors = np.linalg.eigh(curvature)
    g = vectors.T @ slope
    lowest = values[0] if len(values) else 0.0
    flat = 1e-12 * max(abs(values[-1]) if len(values) else 0.0, 1e-300)
    shift = 0.0 if lowest > flat else flat - lowest

    def at(extra: float) -> np.ndarray:
        return np.asarray(-g / (values + extra))

    step = at(shift)
    if np.linalg.norm(step) > radius:
        low, high = shift, shift + float(np.linalg.norm(g)) / radius
        for _ in range(60):  # bisection: the norm falls with the shift
            middle = (low + high) / 2
            if np.linalg.norm(at(middle)) > radius:
                low = middle
            else:
                high = middle
        step = at(high)
    gain = -float(g @ step + 0.5 * step @ (values * step))
    return vectors @ step, gain
