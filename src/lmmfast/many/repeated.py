"""Responses drawn from a model for repeated measures, and its fits to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.columns import Table, column_in
from ..errors import DataError, FitError, silenced
from ..inference.intervals.repeated import covariances_of
from ..inference.rows.given_kind import as_given
from ..inference.rows.predict import fitted_of, predict
from ..inference.rows.prediction_errors import weights_of
from ..inference.rows.repeated import correlated, groups_in, visits_in
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


def simulate(fit: Fit, n: int, seed: Any, newdata: Any) -> pd.DataFrame:
    """Responses, as ``MMRMFit.simulate`` documents them."""
    import pandas as pd

    if newdata is not None:
        return as_given(newdata, _simulated_anew(fit, newdata, n, seed))  # type: ignore[no-any-return]
    design = fit.design
    design.rows_for("simulated responses need the rows (or newdata=)")
    index = design.rows if design.index is None else design.index
    return pd.DataFrame(np.column_stack(list(drawn(fit, checked_count(n), seed))), index=index)


def _simulated_anew(fit: Fit, newdata: Any, n: int, seed: Any) -> pd.DataFrame:
    import pandas as pd

    table = Table.of(newdata)
    mean = predict(fit, table, "none", "error", None, False, 0)
    w = weights_of(fit, table, None, table.n)
    missing = np.flatnonzero(np.isnan(mean.to_numpy()) | np.isnan(w))
    if len(missing):
        raise DataError(
            f"rows of the new data lack a value of the fixed part or a weight, the first is row "
            f"{missing[0]}: leave them out",
            rows=missing[:10].tolist(),
        )
    blocks = list(_subjects_of(fit, table))
    streams = Streams(seed).shared()
    out = np.empty((table.n, checked_count(n)))
    for i in range(n):
        noise = streams.at(i).standard_normal(table.n)
        for rows, L in blocks:
            out[rows, i] = L @ noise[rows]
    return pd.DataFrame(mean.to_numpy()[:, None] + out / np.sqrt(w)[:, None], index=mean.index)


def _subjects_of(fit: Fit, table: Table) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of each subject in the order of visits, and a root of their covariance."""
    own: Any = fit
    name = own.design.seen.covariance.subject
    visit, group = visits_in(fit, table), groups_in(fit, table)
    subject = column_in(table, name).as_factor().codes
    if (subject < 0).any():
        raise DataError(
            f"{name} is missing in row {int(np.argmin(subject))} of the new data", variable=name
        )
    roots: dict[tuple[int, ...], np.ndarray] = {}
    order = np.lexsort((visit, subject))
    for rows in np.split(order, np.flatnonzero(np.diff(subject[order])) + 1):
        key = (int(group[rows[0]]), *visit[rows].tolist())
        if len(set(key[1:])) < len(rows) or (group[rows] != key[0]).any():
            raise DataError(
                f"the subject of row {rows[0]} of the new data has a visit twice, or two groups",
                variable=name,
                rows=[int(row) for row in rows[:10]],
            )
        if key not in roots:
            roots[key] = np.linalg.cholesky(own.model.sigma(own.theta, key[0], visit[rows]))
        yield rows, roots[key]


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
