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
    return y if family_of(fit).core_name != "binomial" or trials is None else y / trials


def means(fit: Fit) -> np.ndarray:
    """Means of the rows used (n) given the conditional modes, computed once; read-only."""
    if means not in fit._known:
        fit._known[means] = np.asarray(family_of(fit).linkinv(fitted_of(fit)), dtype=float)
        fit._known[means].flags.writeable = False
    values: np.ndarray = fit._known[means]
    return values


def pearson(fit: Fit, mu: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
    """Residuals over the standard deviations that the family has at these means (n)."""
    variance = family_of(fit).variance(mu, extra_of(fit))
    root = 1.0 if fit.design.weights is None else np.sqrt(fit.design.weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((observed(fit, y) - mu) * root / np.sqrt(variance))


def extra_of(fit: Fit) -> np.ndarray:
    """The family's own parameters as they were optimized (r,)."""
    estimates: Any = fit.estimates
    return np.asarray(estimates.extra, dtype=float)


def residuals(fit: Fit, kind: str, seed: int) -> pd.Series:
    """Residuals of the rows used, as ``GLMMFit.residuals`` documents them."""
    check_choice("type", kind, RESIDUALS)
    family, eta = family_of(fit), fitted_of(fit)
    if is_ordered(fit) and kind != "quantile":
        raise DataError(
            f'the classes of an ordered response have no {kind} residuals: use type="quantile"',
            variable=fit.design.response,
        )
    if kind == "quantile":
        values = quantile_residuals(fit, eta, fit.design.y, np.random.default_rng(seed))
    elif kind == "deviance":
        given = fit.design.y, eta, extra_of(fit), fit.design.weights
        values = np.asarray(family.deviance_residual(*given))
    elif kind == "pearson":
        values = pearson(fit, means(fit))
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
    return fit.family is not None and fit.family.core_name == "ordered"


def probabilities(fit: Fit, eta: np.ndarray) -> np.ndarray:
    """Probability of each class at linear predictors (n, K); NaN where these are missing."""
    family, x = family_of(fit), extra_of(fit)
    below = [np.zeros(len(eta))]
    for k in range(len(x)):
        below.append(np.asarray(family.cdf(np.full(len(eta), float(k)), eta, x, None)))
    below.append(np.ones(len(eta)))
    found = np.diff(np.array(below), axis=0).T
    return np.where(np.isnan(eta)[:, None], np.nan, np.maximum(found, 0.0))


def probability_frame(fit: Fit, eta: np.ndarray, index: Any) -> pd.DataFrame:
    """The same as a table, one column a class."""
    import pandas as pd

    names = class_names(fit, len(extra_of(fit)) + 1)
    return pd.DataFrame(probabilities(fit, eta), index=index, columns=names)


def class_names(fit: Fit, count: int) -> list[Any]:
    """Names of the classes of an ordered response, lowest first."""
    levels = response_levels(fit)
    return list(levels) if levels and len(levels) == count else list(range(count))


def response_levels(fit: Fit) -> tuple[Any, ...]:
    """Levels of a response that is a factor, lowest first; none where it is numbers."""
    return tuple(getattr(fit.model, "response_levels", None) or ())


def response_note(fit: Fit) -> str:
    """What a response that was not numbers means, in a sentence; empty for numbers."""
    return str(getattr(fit.model, "response_note", "") or "")
