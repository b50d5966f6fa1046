"""Second derivatives of the criterion, from its exact gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .._core import NotPositiveDefinite
from ..errors import FitError
from .criterion import Criterion

if TYPE_CHECKING:
    from .model import Model
    from .residual import ResidualModel


# The step, in units of the parameter's standard deviation given the others: the error of the
# four-point formula is of order step**4 (with a large factor where a group has few levels), that of
# rounding 1e-12 / step. Both stay below 1e-8 where the parameters are known at all.
FINE = (2e-3, ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12)))
# Two points do where an evaluation is expensive: many levels make the criterion smooth in these
# units (1e-8 on the megastudies), and rounding is still 1e-9.
COARSE = (5e-4, ((-1, -1 / 2), (1, 1 / 2)))
FIRST_LOOK = 1e-3  # step of parameters whose curvature is not known beforehand
LARGE = 500  # order of the trailing matrix from which evaluations are expensive


def hessian_along(
    model: Model, theta: np.ndarray, reml: bool, directions: np.ndarray, *, whitened: bool
) -> np.ndarray:
    """Hessian of the REML criterion or deviance along some directions of theta.

    Columns far from zero (years) make the Hessian in the user's coordinates nearly singular; that
    in whitened ones depends neither on origins nor on units.

    Parameters
    ----------
    model : Model
    theta : (ntheta,) array
        By term in the formula's order.
    reml : bool
    directions : (ntheta, k) array
        Columns of the identity for single parameters.
    whitened : bool
        Whether theta and the directions are in whitened coordinates.

    Returns
    -------
    (k, k) array
        Differences of the exact gradient (four points; two in large models), made symmetric;
        relative error about 1e-8. Of models whose gradient is estimated: the average information,
        which they have exactly.

    Raises
    ------
    FitError
        When the criterion is not finite near theta.
    """

    def derivatives(point: np.ndarray, curvature: bool) -> tuple[np.ndarray, np.ndarray]:
        with model._lock:
            model._use(None)
            model._core.evaluate(point, reml, whitened=whitened, value=False)
            g, H = model._core.derivatives(curvature)
        return g, H

    def gradient(point: np.ndarray) -> np.ndarray:
        return np.asarray(derivatives(point, False)[0] @ directions)

    try:
        information = directions.T @ derivatives(theta, True)[1] @ directions
        if model.storage["storage"] == "iterative":
            return np.asarray(information)
        return _differences(model, gradient, theta, information.diagonal(), directions)
    except NotPositiveDefinite:
        raise FitError("the criterion is not finite near this theta") from None


def hessian_within(model: Model, phi: np.ndarray, reml: bool, directions: np.ndarray) -> np.ndarray:
    """The same along directions of phi, (nphi, k), the parameters of covariance structures."""
    own = model.structured
    assert own is not None

    def derivatives(point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with model._lock:
            model._use(None)
            _, g, H = model._core.within(own.everything(), point[own.order], reml=reml)
        slope, curvature = np.empty_like(g), np.empty_like(H)
        slope[own.order], curvature[np.ix_(own.order, own.order)] = g, H
        return slope, curvature

    def gradient(point: np.ndarray) -> np.ndarray:
        return np.asarray(derivatives(point)[0] @ directions)

    try:
        curvature = directions.T @ derivatives(phi)[1] @ directions
        if model.storage["storage"] == "iterative":
            return np.asarray(curvature)
        return _differences(model, gradient, phi, curvature.diagonal(), directions)
    except NotPositiveDefinite:
        raise FitError("the criterion is not finite near these parameters") from None


def hessian_with_delta(
    model: ResidualModel, whole: np.ndarray, reml: bool, directions: np.ndarray, *, whitened: bool
) -> np.ndarray:
    """As `hessian_along`, of a model with a residual structure: along the directions of theta and
    in its own parameters, (k + ndelta, k + ndelta). whole: theta, then these."""
    n, k = directions.shape
    along = np.eye(len(whole))[:, n - k :]
    along[:n, :k] = directions

    def gradient(point: np.ndarray) -> np.ndarray:
        with model._lock:
            model._use(None)
            model._core.place(point[n:])
            theta = np.ascontiguousarray(point[:n])
            model._core.evaluate(theta, reml, whitened=whitened, value=False)
            g, slope, _ = model._core.slopes()
        return np.concatenate([g @ directions, slope])

    try:
        gradient(whole)
        with model._lock:
            curvature = directions.T @ model._core.derivatives(True)[1] @ directions
        step = FIRST_LOOK * np.eye(len(whole))[n:]
        own = [(gradient(whole + h) - gradient(whole - h)) / (2 * FIRST_LOOK) for h in step]
        sizes = np.append(curvature.diagonal(), [one[k + j] for j, one in enumerate(own)])
        return _differences(model, gradient, whole, sizes, along)
    except NotPositiveDefinite:
        raise FitError("the criterion is not finite near this theta") from None


def hessian_within_with_delta(
    model: ResidualModel, phi: np.ndarray, delta: np.ndarray, reml: bool, directions: np.ndarray
) -> np.ndarray:
    """As `hessian_with_delta`, along directions of phi, the parameters of covariance structures."""
    own = model.structured
    assert own is not None
    n, k = directions.shape
    along = np.eye(n + len(delta))[:, n - k :]
    along[:n, :k] = directions

    def derivatives(point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with model._lock:
            model._use(None)
            model._core.place(point[n:])
            _, g, H = model._core.within(own.everything(), point[:n][own.order], reml=reml)
            slope = model._core.slopes()[1]
        gradient, curvature = np.empty_like(g), np.empty_like(H)
        gradient[own.order], curvature[np.ix_(own.order, own.order)] = g, H
        return np.concatenate([gradient @ directions, slope]), curvature

    def gradient(point: np.ndarray) -> np.ndarray:
        return derivatives(point)[0]

    whole = np.concatenate([phi, delta])
    try:
        curvature = directions.T @ derivatives(whole)[1] @ directions
        steps = FIRST_LOOK * np.eye(len(whole))[n:]
        own_sizes = [
            (gradient(whole + h) - gradient(whole - h))[k + j] / (2 * FIRST_LOOK)
            for j, h in enumerate(steps)
        ]
        sizes = np.append(curvature.diagonal(), own_sizes)
        return _differences(model, gradient, whole, sizes, along)
    except NotPositiveDefinite:
        raise FitError("the criterion is not finite near these parameters") from None


def hessian_at_sigma(
    model: Model, theta: np.ndarray, reml: bool, directions: np.ndarray, sigma: float
) -> np.ndarray:
    """The same of the criterion at a known sigma (see `criterion`), in the user's coordinates."""
    criterion, log_variance = Criterion(model, reml), 2 * float(np.log(sigma))

    def gradient(point: np.ndarray) -> np.ndarray:
        return np.asarray(criterion.with_sigma(point, log_variance).slope @ directions)

    information = criterion.with_sigma(theta, log_variance).curvature
    along = np.einsum("ij,ik,kj->j", directions, information, directions)
    return _differences(model, gradient, theta, along, directions)


def _differences(
    model: Model,
    gradient: Callable[[np.ndarray], np.ndarray],
    theta: np.ndarray,
    curvature: np.ndarray,
    directions: np.ndarray,
) -> np.ndarray:
    curvature = np.abs(curvature)
    largest = curvature.max(initial=0.0)
    if not np.isfinite(largest):
        raise FitError("the curvature of the criterion is not finite at this theta")
    # a parameter that the data say nothing about moves as far as the least known of the others
    size, points = COARSE if model.storage["order"] >= LARGE else FINE
    steps = size / np.sqrt(np.maximum(curvature, 1e-12 * largest if largest > 0 else 1.0))
    if theta.any():  # nor farther than theta is from zero, where the data say nothing at all
        steps = np.minimum(steps, np.abs(theta).max())
    H = np.zeros((len(steps), len(steps)))
    for i, step in enumerate(steps):
        for place, weight in points:
            H[i] += weight / step * gradient(theta + place * step * directions[:, i])
    return (H + H.T) / 2
