"""Responses drawn from a model for repeated measures, and its fits to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FitError, silenced
from ..inference.intervals.repeated import covariances_of
from ..inference.rows.predict import fitted_of
from ..inference.rows.repeated import correlated
from .job import checked_count
from .streams import Streams

if TYPE_CHECKING:
    import pandas as pd

    from ..fit import Fit


def drawn(fit: Fit, n: int, seed: Any) -> Iterator[np.ndarray]:
    """Responses drawn from the model, one at a time."""
    streams = Streams(seed).shared()
    mean = fitted_of(fit)
    for i in range(n):
        yield mean + correlated(fit, streams.at(i).standard_normal(fit.nobs))


def simulated(fit: Fit, n: int, seed: Any) -> np.ndarray:
    """Responses (rows, n), as ``MMRMFit.simulate`` documents them."""
    return np.column_stack(list(drawn(fit, checked_count(n), seed)))


def bootstrapped(
    fit: Fit, n: int, seed: Any, statistic: Callable[[Any], Any] | None
) -> pd.DataFrame:
    """Replicates, as ``MMRMFit.bootstrap`` documents them."""
    import pandas as pd

    told = statistic or _numbers
    names = pd.Series(told(fit)).index
    rows = []
    for y in drawn(fit, checked_count(n), seed):
        with silenced():
            try:
                found = pd.Series(told(fit.refit(y))).to_numpy(float)
            except FitError:
                found = np.full(len(names), np.nan)
        rows.append(found)
    return pd.DataFrame(np.array(rows), columns=names)


def _numbers(fit: Any) -> pd.Series:
    """Coefficients, and parameters of the covariance structure."""
    import pandas as pd

    own = covariances_of(fit)
    values = np.concatenate([fit.estimates.beta, own.values])
    return pd.Series(values, index=[*fit.design.x_names, *own.names])
