"""Rows of a generalized fit on the scale of the response: means, residuals, classes.

References
----------
McCullagh & Nelder (1989), *Generalized Linear Models*, 2.4 (Pearson and deviance residuals); Dunn &
Smyth (1996), *J. Comput. Graph. Statist.* 5 (randomized quantile residuals).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DataError
from ..ddf import check_choice
from .predict import fitted_of, row_series

if TYPE_CHECKING:
    import pandas as pd

    from ...engine.families import Family
    from ...fit import Fit


RESIDUALS = ("response", "pearson", "deviance", "quantile", "working")
CERTAIN = 1e-16  # a probability nearer to 0 or 1 than this is taken for this, to have a quantile


def family_of(fit: Fit) -> Family:
    """The family of a fit that has one."""
    assert fit.family is not None
    return fit.family


def observed(fit: Fit, y: np.ndarray | None = None) -> np.ndarray:
    """The response (n) in the units of its mean: of binomial counts the share of the trials."""
    y = fit.design.y if y is None else y
    trials = fit.design.weights
    return y if family_of(fit).response != "binomial" or trials is None else y / trials


def means(fit: Fit) -> np.ndarray:
    """Means of the rows used (n) given the conditional modes, computed once; read-only."""
    if means not in fit._known:
        found = family_of(fit).mean(fitted_of(fit), extra_of(fit))
        fit._known[means] = np.array(found, dtype=float)
        fit._known[means].flags.writeable = False
    values: np.ndarray = fit._known[means]
    return values


def pearson(fit: Fit, eta: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
    """Residuals over the standard deviations that the family has at a linear predictor (n)."""
    given = fit.design.y if y is None else y
    return np.asarray(
        family_of(fit).pearson_residual(given, eta, extra_of(fit), fit.design.weights)
    )


def extra_of(fit: Fit) -> np.ndarray:
    """The family's own parameters as they were optimized (r,)."""
    estimates: Any = fit.estimates
    return np.asarray(estimates.extra, dtype=float)


def residuals(fit: Fit, kind: str, seed: int) -> pd.Series:
    """Residuals of the rows used, as ``GLMMFit.residuals`` documents them."""
    check_choice("type", kind, RESIDUALS)
    family, eta = family_of(fit), fitted_of(fit)
    if is_ordered(fit) and kind in ("response", "working"):
        raise DataError(
            f"the classes of an ordered response have no {kind} residuals: use "
            'type="quantile", "pearson" or "deviance"',
            variable=fit.design.response,
        )
    if kind == "quantile":
        values = quantile_residuals(fit, eta, fit.design.y, np.random.default_rng(seed))
    elif kind == "deviance":
        given = fit.design.y, eta, extra_of(fit), fit.design.weights
        values = np.asarray(family.deviance_residual(*given))
    elif kind == "pearson":
        values = pearson(fit, eta)
    else:
        values = observed(fit) - means(fit)
        if kind == "working":
            values = values / family.mu_eta(eta)
    return row_series(fit.design, values, "resid")


def quantile_residuals(
    fit: Fit, eta: np.ndarray, y: np.ndarray, random: np.random.Generator | None
) -> np.ndarray:
    """Standard normal quantiles of the response's place in its distribution (n); where it has jumps
    a random place within the jump, the middle of it without random numbers."""
    from scipy.special import ndtri

    given = y, eta, extra_of(fit), fit.design.weights
    family = family_of(fit)
    upper, lower = np.asarray(family.cdf(*given)), np.asarray(family.cdf_below(*given))
    share = 0.5 if random is None else random.uniform(size=len(y))
    place = lower + share * (upper - lower)
    return np.asarray(ndtri(np.clip(place, CERTAIN, 1 - CERTAIN)))


# ---- ordered responses ---------------------------------------------------------------------------


def is_ordered(fit: Fit) -> bool:
    """Whether the response has ordered classes."""
    return fit.family is not None and fit.family.response == "ordered"


def probability_frame(fit: Fit, eta: np.ndarray, index: Any, variance: Any = 0.0) -> pd.DataFrame:
    """Probabilities of the classes at linear predictors (n), one column a class; with a variance,
    means over linear predictors that are normal around these. NaN where one is missing."""
    import pandas as pd

    family: Any = family_of(fit)
    there = np.where(np.isnan(eta), 0.0, eta)
    if np.any(variance):
        found = family.marginal_probabilities(there, variance, extra_of(fit))
    else:
        found = family.probabilities(there, extra_of(fit))
    found = np.where(np.isnan(eta)[:, None], np.nan, found)
    return pd.DataFrame(found, index=index, columns=list(family.levels))


def response_note(fit: Fit) -> str:
    """What a response that was not numbers means, in a sentence; empty for numbers."""
    outcome = fit.design.outcome
    if outcome is None:
        return ""
    if outcome.classes:
        return (
            f"Ordered response: {' < '.join(outcome.levels)}; thresholds take the place of an "
            "intercept"
        )
    return outcome.said[:1].upper() + outcome.said[1:]
