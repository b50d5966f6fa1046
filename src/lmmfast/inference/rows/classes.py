"""Predictions of ordered classes: their probabilities, what is linear in these, and the class.

Errors are by the delta method in the linear predictor and the thresholds together; limits of
probabilities are those of their logits, as in R's ordinal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DataError
from ...tables import name_index
from ..classes import ClassScale
from ..ddf import check_level
from ..wald import t_quantile
from .prediction_errors import SHOWN, check_interval, moves, unknown_variance

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit
    from .asked import Asked

ROWS = 8_192  # that are computed together


def of_classes(
    fit: Fit, newdata: Any, asked: Asked, kind: str, predicted: pd.Series
) -> pd.Series | pd.DataFrame:
    """One kind of numbers of the classes at linear predictors, as ``GLMMFit.predict`` documents
    them."""
    import pandas as pd

    check_interval(asked.interval)
    if asked.interval == "prediction":
        raise DataError(
            'interval="prediction" is for numbers: type="prob" has the distribution of a new '
            "ordered response itself"
        )
    errors = asked.se or asked.interval is not None
    if errors and asked.type == "class":
        raise DataError('type="class" has no standard errors: type="prob" has them')
    scale = ClassScale.of(fit, kind)
    spread: Any = 0.0
    if asked.averaged:
        spread = unknown_variance(fit, newdata, asked.re_form, asked.new_levels, asked.weights)
    eta = predicted.to_numpy()
    missing = np.isnan(eta)
    at, spread = np.where(missing, 0.0, eta), np.nan_to_num(np.broadcast_to(spread, eta.shape))
    below, slope = scale.below(at, spread)
    numbers = np.where(missing[:, None], np.nan, scale.numbers(at, spread, below))
    if asked.type == "class":
        best = np.where(missing, -1, np.argmax(np.where(missing[:, None], 0, numbers), axis=1))
        levels = pd.CategoricalDtype(list(scale.names), ordered=True)
        return pd.Series(
            pd.Categorical.from_codes(best, dtype=levels), predicted.index, name="class"
        )
    if not errors:
        if kind == "mean.class":
            return pd.Series(numbers[:, 0], predicted.index, name=kind)
        return pd.DataFrame(numbers, index=predicted.index, columns=list(scale.names))
    se = _errors(scale, slope, moves(fit, newdata, asked.re_form, not asked.averaged))
    se[missing] = np.nan
    lower, upper = _limits(kind, numbers, se, check_level(asked.level))
    table = np.stack([numbers, se, lower, upper], axis=2)
    if kind == "mean.class":
        return pd.DataFrame(table[:, 0], index=predicted.index, columns=name_index(SHOWN))
    columns = pd.MultiIndex.from_product([list(scale.names), SHOWN])
    return pd.DataFrame(table.reshape(len(eta), -1), index=predicted.index, columns=columns)


def _errors(scale: ClassScale, slope: np.ndarray, moved: Any) -> np.ndarray:
    """Standard errors of the numbers (n, m), from derivatives of cumulative probabilities in the
    thresholds (n, K - 1)."""
    along, extra, own = moved
    thresholds = scale.thresholds @ extra  # (K - 1, rank)
    out = np.empty((len(along), len(scale.turn)))
    for a in range(0, len(along), ROWS):
        cut = slice(a, a + ROWS)
        h = slope[cut]
        each = h[:, :, None] * (thresholds - along[cut, None, :])
        each = np.einsum("mk,ikr->imr", scale.turn, each)
        variance = np.square(each).sum(axis=2)
        out[cut] = variance + np.square(h @ scale.turn.T) * own[cut, None]
    return np.sqrt(out)


def _limits(
    kind: str, numbers: np.ndarray, se: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of probabilities those of their logits; of a mean those of itself."""
    z = float(t_quantile((1 + level) / 2, np.array(np.inf)))
    if kind == "mean.class":
        return numbers - z * se, numbers + z * se
    with np.errstate(divide="ignore", invalid="ignore"):
        logit = np.log(numbers) - np.log1p(-numbers)
        half = z * se / (numbers * (1 - numbers))
        return 1 / (1 + np.exp(half - logit)), 1 / (1 + np.exp(-half - logit))
