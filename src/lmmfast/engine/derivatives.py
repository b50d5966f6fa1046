"""Second derivatives of the criterion, from its exact gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .._core import NotPositiveDefinite
from ..errors import FitError

if TYPE_CHECKING:
    from .model import Model

__all__ = ["hessian", "whitened_hessian"]

# The step, in units of the parameter's standard deviation given the others: the error of the
# four-point formula is of order step**4 (with a large factor where a group has few levels), that of
# rounding 1e-12 / step. Both stay below 1e-8 where the parameters are known at all.
FINE = (2e-3, ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12)))
# Two points do where an evaluation is expensive: many levels make the criterion smooth in these
# units (1e-8 on the megastudies), and rounding is still 1e-9.
COARSE = (5e-4, ((-1, -1 / 2), (1, 1 / 2)))
LARGE = 500  # order of the trailing matrix from which evaluations are expensive


def hessian(model: Model, theta: np.ndarray, reml: bool) -> np.ndarray:
    """Hessian of the REML criterion or deviance in theta.

    Parameters
    ----------
    model : Model
    theta : (ntheta,) array
    reml : bool

    Returns
    -------
    (ntheta, ntheta) array
        Differences of the exact gradient (four points; two in large models), made symmetric;
        relative error about 1e-8. Of models whose gradient is estimated: the average information,
        which they have exactly.

    Raises
    ------
    FitError
        When the criterion is not finite near theta.
    """
    theta = np.asarray(theta, dtype=np.float64)
    _, information = model.objective(theta, reml=reml, hessian=True)
    if model.storage["storage"] == "iterative":
        return np.asarray(information)

    def gradient(point: np.ndarray) -> np.ndarray:
        return np.asarray(model.objective(point, reml=reml, gradient=True)[1])

    return _differences(model, gradient, theta, np.diag(information), np.arange(len(theta)))


def whitened_hessian(model: Model, theta: np.ndarray, reml: bool, free: np.ndarray) -> np.ndarray:
    """Hessian in some parameters of whitened coordinates, the others being held.

    Columns far from zero (years) make the Hessian in the user's coordinates nearly singular; this
    one depends neither on origins nor on units.

    Parameters
    ----------
    model : Model
    theta : (ntheta,) array
        In whitened coordinates, by term in the formula's order.
    reml : bool
    free : (k,) array of int
        Parameters that are varied.

    Returns
    -------
    (k, k) array
        As ``hessian``.
    """
    order = model._engine.order

    def derivatives(point: np.ndarray, curvature: bool) -> tuple[np.ndarray, np.ndarray]:
        own = np.empty_like(point)
        own[order] = point
        with model._lock:
            model._use(None)
            model._core.evaluate(own, reml, whitened=True, value=False)
            g, H = model._core.derivatives(curvature)
        return g, H

    def gradient(point: np.ndarray) -> np.ndarray:
        return np.asarray(derivatives(point, False)[0][order])

    try:
        information = derivatives(theta, True)[1][np.ix_(order, order)]
        if model.storage["storage"] == "iterative":
            return np.asarray(information[np.ix_(free, free)])
        curvature = information.diagonal()
        return _differences(model, gradient, theta, curvature, free)
    except NotPositiveDefinite:
        raise FitError("the criterion is not finite near this theta") from None


def _differences(
    model: Model,
    gradient: Callable[[np.ndarray], np.ndarray],
    theta: np.ndarray,
    curvature: np.ndarray,
    free: np.ndarray,
) -> np.ndarray:
    curvature = np.abs(curvature)
    largest = curvature.max(initial=0.0)
    if not np.isfinite(largest):
        raise FitError("the curvature of the criterion is not finite at this theta")
    # a parameter that the data say nothing about moves as far as the least known of the others
    size, points = COARSE if model.storage["order"] >= LARGE else FINE
    steps = size / np.sqrt(np.maximum(curvature, 1e-12 * largest if largest > 0 else 1.0))
    H = np.empty((len(free), len(free)))
    for i, j in enumerate(free):
        slope = np.zeros(len(free))
        for place, weight in points:
            point = theta.copy()
            point[j] += place * steps[j]
            slope += weight * gradient(point)[free]
        H[i] = slope / steps[j]
    return (H + H.T) / 2
