"""Confidence intervals of all parameters: Wald and profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ddf import check_choice, check_level, without_residual_structure
from ..hypotheses.tests import coef_test
from .parameters import (
    Parameter,
    chosen,
    natural_extra,
    normal_quantile,
    parameters_of,
    values_of,
)
from .profile import Profile, base_of, check_sigma
from .residual_profile import limits as ends_of_residual
from .variance_errors import covariance_parameters

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit


def conf_int(fit: Fit, level: float, method: str, parameters: Any, ddf: str | None) -> pd.DataFrame:
    """As ``Fit.conf_int`` documents it."""
    import pandas as pd

    check_level(level)
    check_choice("method", method, ("wald", "profile", "boot"))
    wanted = chosen(parameters_of(fit), parameters)
    if method == "profile":  # from the deviance, as lme4's
        check_sigma(fit)
        limits = profiled(fit, level, wanted)
    else:
        limits = wald(fit, level, wanted, ddf)
    return pd.DataFrame(limits, index=[one.name for one in wanted], columns=["lower", "upper"])


def profiled(fit: Fit, level: float, parameters: Sequence[Parameter]) -> np.ndarray:
    """Profile intervals (k, 2), of the deviance."""
    if fit.design.residual is not None and fit.family is None:
        if any(one.kind != "residual" for one in parameters):
            without_residual_structure(
                fit, "a profile of other parameters than those of the residuals"
            )
        found: Any = [ends_of_residual(fit, one.i, level) for one in parameters]
    else:
        found = (
            Profile(base_of(fit, False), parameters, level).conf_int(level) if parameters else ()
        )
    return np.asarray(found, dtype=float).reshape(-1, 2)


def wald(fit: Fit, level: float, parameters: Sequence[Parameter], ddf: str | None) -> np.ndarray:
    """Wald intervals (k, 2): fixed effects by ``ddf``, standard deviations on the logarithmic
    scale, correlations on Fisher's, both with normal quantiles; NaN on the boundary."""
    fixed = [k for k, one in enumerate(parameters) if one.is_fixed]
    out = np.full((len(parameters), 2), np.nan)
    if fixed:
        limits = coef_test(fit, ddf).conf_int(1 - level)
        out[fixed] = limits[[parameters[k].i for k in fixed]]
    if len(fixed) < len(parameters):
        own, width = covariance_parameters(fit), normal_quantile(level)
        for k, one in enumerate(parameters):
            if one.kind == "sigma":
                out[k] = _of_positive(own.sigma, own.sigma_se, width)
            elif one.kind == "residual":
                out[k] = _of_residual(fit, own.residual_se, one.i, width)
            elif one.kind == "extra":
                out[k] = _of_extra(fit, one.i, width)
            elif one.kind == "sd":
                sd, se = own.sd[one.term][one.i], own.sd_se[one.term][one.i]
                out[k] = _of_positive(float(sd), float(se), width)
            elif one.kind == "cor":
                corr, se = own.corr[one.term][one.i, one.j], own.corr_se[one.term][one.i, one.j]
                out[k] = _of_correlation(float(corr), float(se), width)
            elif one.kind in ("range", "loading"):
                value, se = values_of([one], fit)[0], own.error(fit, one.term, one.reading)
                ends = value - width * se, value + width * se
                out[k] = ends if one.kind == "loading" else _of_positive(float(value), se, width)
    return out


def _of_extra(fit: Fit, i: int, width: float) -> tuple[float, float]:
    """Symmetric on the scale on which it was optimized, where it is not bounded; thresholds, made
    of several numbers there, on their own."""
    assert fit.family is not None
    estimates: Any = fit.estimates
    values, J = natural_extra(estimates, fit.family)
    own = slice(len(estimates.theta) + len(estimates.beta), None)
    V = estimates.covariance[own, own]
    if np.count_nonzero(J) > len(J):
        half = width * np.sqrt(J[i] @ V @ J[i])
        return float(values[i] - half), float(values[i] + half)
    ends = []
    for sign in (-1.0, 1.0):
        x = np.array(estimates.extra, dtype=float)
        x[i] += sign * width * np.sqrt(V[i, i])
        ends.append(float(np.asarray(fit.family.natural(x)[0])[i]))
    return min(ends), max(ends)


def _of_residual(fit: Fit, errors: Any, i: int, width: float) -> tuple[float, float]:
    """Symmetric in the parameter as it is optimized: a logarithm, or the angle of a correlation."""
    residual, delta = fit.design.residual, fit.estimates.delta
    assert residual is not None and delta is not None
    half = width * errors[i] / abs(residual.natural(delta)[1][i])
    if not np.isfinite(half):
        return np.nan, np.nan
    ends = []
    for sign in (-1.0, 1.0):
        moved = np.array(delta)
        moved[i] = residual.within(i, delta[i] + sign * half)
        ends.append(float(residual.natural(moved)[0][i]))
    return min(ends), max(ends)


def _of_positive(value: float, se: float, width: float) -> tuple[float, float]:
    """Symmetric on the logarithmic scale."""
    if not 0 < value < np.inf:
        return np.nan, np.nan
    factor = float(np.exp(width * se / value))
    return value / factor, value * factor


def _of_correlation(value: float, se: float, width: float) -> tuple[float, float]:
    """Symmetric on Fisher's scale, artanh."""
    if not abs(value) < 1:
        return np.nan, np.nan
    half = width * se / (1 - value * value)
    return float(np.tanh(np.arctanh(value) - half)), float(np.tanh(np.arctanh(value) + half))
