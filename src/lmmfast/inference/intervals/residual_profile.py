"""Profile likelihood intervals of the parameters of a residual structure.

A parameter is held at values on either side of its estimate, all others are fitted anew, and the
ends are where the deviance is a quantile of chi-squared with one degree of freedom above its
minimum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..refits import by_likelihood, model_of
from .parameters import normal_quantile
from .variance_errors import covariance_parameters

if TYPE_CHECKING:
    from ...fit import Fit


FAR = 8.0  # logarithms and exponents are not followed further than this from their estimate
EXACT = 1e-6  # share of the first step
MOST = 60  # fits of one end


def limits(fit: Fit, i: int, level: float) -> tuple[float, float]:
    """The ends for the i-th parameter, as users see it.

    Where the deviance stays below on the whole way to a boundary, the boundary: correlations of
    -1 and 1 (of cs the lowest), a range of zero or infinitely long; NaN for others that are
    followed too far.
    """
    fit = by_likelihood(fit)
    residual, delta = fit.design.residual, fit.estimates.delta
    assert residual is not None and delta is not None
    errors = covariance_parameters(fit).residual_se
    assert errors is not None
    width = normal_quantile(level)
    step = width * float(errors[i]) / abs(float(residual.natural(delta)[1][i]))
    if not np.isfinite(step) or step <= 0:
        step = 0.3
    ends = [_end(fit, i, sign * step, width) for sign in (-1.0, 1.0)]
    return min(ends), max(ends)


def _end(fit: Fit, i: int, step: float, width: float) -> float:
    from scipy.optimize import brentq

    residual, delta = fit.design.residual, np.asarray(fit.estimates.delta)
    assert residual is not None
    model: Any = model_of(fit)
    start, best = float(delta[i]), float(fit.objective)
    last = residual.within(i, start + np.sign(step) * FAR)
    bounded = abs(last - start) < FAR

    def natural(x: float) -> float:
        moved = delta.copy()
        moved[i] = x
        return float(residual.natural(moved)[0][i])

    def root(x: float) -> float:
        """Signed root of the ratio, less what it is at the end."""
        f = model.holding_delta(i, x, fit.theta, delta, fit.reml)
        return float(np.sqrt(max(f - best, 0.0))) - width

    inside = start
    outside = start + step
    for _ in range(MOST):
        if abs(outside - start) >= abs(last - start) * (1 - 1e-9):
            if bounded:  # the criterion is infinite, or even, at the boundary itself
                outside = start + (last - start) * (1 - 1e-6)
                if root(outside) < 0:
                    return natural(last)
                break
            return _limit_far_away(fit, natural(last), step)
        if root(outside) >= 0:
            break
        inside = outside
        outside = start + 1.6 * (outside - start)
    return natural(float(brentq(root, inside, outside, xtol=EXACT * abs(step), maxiter=MOST)))


def _limit_far_away(fit: Fit, value: float, step: float) -> float:
    """Where a parameter without a finite boundary is followed to no end."""
    residual = fit.design.residual
    assert residual is not None
    if residual.subjects is not None and residual.subjects.asked.kind == "car1":
        return 0.0 if step < 0 else np.inf
    return np.nan if np.isfinite(value) else value
