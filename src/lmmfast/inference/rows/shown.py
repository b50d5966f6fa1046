"""Predictions as users ask for them: with errors and limits, and on the scale of the response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.columns import Table
from ...errors import DataError
from ...tables import name_index
from ..classes import class_kind
from ..response import response_scale
from .asked import Asked
from .classes import of_classes
from .generalized import extra_of, family_of
from .predict import predict
from .prediction_errors import SHOWN, check_interval, prediction_frame, unknown_variance, weights_of

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit
    from ..response import ResponseScale


NODES = 121  # of the distribution of a linear predictor, for limits of new observations ...
FAR = 8.0  # ... so many standard deviations to each side
HALVINGS = 200  # of an interval in which a quantile lies
CLOSE = 1e-9  # width of that interval, relative, at which it is known


def predictions(fit: Fit, newdata: Any, asked: Asked) -> pd.Series | pd.DataFrame:
    """As ``Fit.predict`` documents them."""
    if newdata is not None:
        newdata = Table.of(one_row(newdata))  # columns are read once
    errors = asked.se or asked.interval is not None
    if asked.random_only and (errors or asked.type != "link"):
        raise DataError("random_only has no standard errors and no scale of the response")
    given = asked.re_form, asked.new_levels, asked.offset, asked.random_only, asked.seed
    kind = class_kind(fit, asked.type)
    if kind is not None:
        return of_classes(fit, newdata, asked, kind, predict(fit, newdata, *given))
    observation = fit.family is not None and asked.interval == "prediction"
    if observation and asked.type != "response":
        raise DataError(
            'interval="prediction" is for a new observation, which a generalized model has on the '
            'scale of the response: add type="response"'
        )
    scale = _scale(fit, asked)
    spread: Any = 0.0
    if asked.averaged:
        four = asked.re_form, asked.new_levels, asked.weights
        spread = unknown_variance(fit, newdata, *four)
    predicted = predict(fit, newdata, *given)
    if not errors:
        return predicted if scale is None else scale.averaged(spread).series(predicted)
    interval = "confidence" if observation else asked.interval
    rest = asked.level, asked.ddf, asked.weights, asked.vary_left_out
    found = prediction_frame(fit, predicted, newdata, asked.re_form, interval, *rest)
    if scale is None:
        return found
    shown = scale.averaged(spread).frame(found)
    return _of_observations(fit, newdata, asked, found, shown) if observation else shown


def one_row(newdata: Any) -> Any:
    """New data; a row of a pandas frame as a table of one row."""
    if hasattr(newdata, "iloc") and getattr(newdata, "ndim", 2) == 1:
        return {str(name): [value] for name, value in newdata.items()}
    return newdata


def _scale(fit: Fit, asked: Asked) -> ResponseScale | None:
    """The scale that predictions are shown on; None for the fitted one."""
    check_interval(asked.interval)
    if asked.type == "response":
        return response_scale(fit, asked.inverse)
    if asked.averaged or asked.inverse is not None:
        name = "bias_adjust and inverse need" if fit.family is None else "marginal needs"
        raise DataError(f'{name} type="response"')
    return None


# ---- generalized models --------------------------------------------------------------------------


def _of_observations(
    fit: Fit, newdata: Any, asked: Asked, found: pd.DataFrame, shown: pd.DataFrame
) -> pd.DataFrame:
    """Limits of new observations: quantiles of the family's distribution, its linear predictor
    normal around the prediction with the variance of its error and of what is not predicted."""
    from ..ddf import check_level

    level = check_level(asked.level)
    variance = np.square(found["se"].to_numpy())
    if asked.vary_left_out:
        four = asked.re_form, asked.new_levels, asked.weights
        variance = variance + unknown_variance(fit, newdata, *four)
    weights = weights_of(fit, newdata, asked.weights, len(found))
    mixture = _Mixture(fit, found["fit"].to_numpy(), variance, weights)
    lower, upper = (mixture.quantile(p) for p in ((1 - level) / 2, (1 + level) / 2))
    return shown.assign(lower=lower, upper=upper)[list(name_index(SHOWN))]


class _Mixture:
    """Distributions of new observations, row by row."""

    def __init__(
        self, fit: Fit, eta: np.ndarray, variance: np.ndarray, weights: np.ndarray
    ) -> None:
        self.family, self.x, self.weights = family_of(fit), extra_of(fit), weights
        nodes = np.linspace(-FAR, FAR, NODES)
        shares = np.exp(-nodes * nodes / 2)
        self.shares = shares / shares.sum()
        self.eta = eta + np.sqrt(variance) * nodes[:, None]

    def cdf(self, y: np.ndarray) -> np.ndarray:
        """P(Y <= y), (n,)."""
        total = np.zeros(len(y))
        with np.errstate(all="ignore"):
            for share, eta in zip(self.shares, self.eta, strict=True):
                total += share * np.asarray(self.family.cdf(y, eta, self.x, self.weights))
        return total

    def quantile(self, p: float) -> np.ndarray:
        """The smallest y with P(Y <= y) >= p, by halving; NaN where a row is missing."""
        missing = np.isnan(self.eta).any(axis=0)
        low, high = self._bracket(p)
        for _ in range(HALVINGS):
            middle = np.floor((low + high) / 2) if self.family.discrete else (low + high) / 2
            wide = high - low > CLOSE * np.maximum(np.abs(low), np.abs(high))
            if not (wide & (middle > low) & (middle < high)).any():
                break
            reached = self.cdf(middle) >= p
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
        return np.where(missing, np.nan, high)

    def _bracket(self, p: float) -> tuple[np.ndarray, np.ndarray]:
        """Values below and at or above the quantiles."""
        count = self.eta.shape[1]
        if self.family.response == "binomial":
            return np.full(count, -1.0), np.array(self.weights, dtype=float)
        high = np.ones(count)
        low = np.full(count, -1.0 if self.family.discrete else 0.0)
        for _ in range(1000):
            short = self.cdf(high) < p
            if not short.any():
                break
            low, high = np.where(short, high, low), np.where(short, 2 * high, high)
        if self.family.response == "real":
            low = -np.ones(count)
            for _ in range(1000):
                over = self.cdf(low) >= p
                if not over.any():
                    break
                low = np.where(over, 2 * low, low)
        return low, high
