"""Rows of a fit for repeated measures: residuals made independent, predictions, what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.columns import Table, column_in
from ...data.encode import value_of
from ...errors import DataError
from ..ddf import check_choice, check_level, method_of
from ..wald import t_quantile
from .given_kind import as_given
from .predict import fitted_of, predict, recipe_of, row_series
from .prediction_errors import SHOWN, check_interval, prediction_frame, weights_of
from .shown import one_row

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit


KINDS = ("response", "pearson", "normalized")


def residuals(fit: Fit, kind: str) -> pd.Series:
    """Residuals of the rows used, as ``MMRMFit.residuals`` documents them."""
    check_choice("type", kind, KINDS)
    values = fit.design.y - fitted_of(fit)
    if kind != "response":
        values = scaled(fit, values, kind == "normalized")
    return row_series(fit.design, values, "resid")


def scaled(fit: Fit, values: np.ndarray, whole: bool) -> np.ndarray:
    """Values of the rows over the deviations of their visits or, if whole, L^-1 times those of each
    subject, L the Cholesky factor of its covariance with visits in their order (n)."""
    from scipy.linalg import solve_triangular

    own: Any = fit
    own.design.rows_for("visits of the rows would be needed")
    w = fit.weights
    values = values if w is None else values * np.sqrt(w)
    out = np.empty(len(values))
    for g, visits, rows in own.design.seen.patterns:
        Sigma = own.model.sigma(own.theta, g, visits)
        if whole:
            out[rows] = solve_triangular(np.linalg.cholesky(Sigma), values[rows].T, lower=True).T
        else:
            out[rows] = values[rows] / np.sqrt(Sigma.diagonal())
    return out


def correlated(fit: Fit, noise: np.ndarray) -> np.ndarray:
    """Independent standard normal values (n,) as residuals of the model (n,)."""
    own: Any = fit
    own.design.rows_for("visits of the rows would be needed")
    out = np.empty(len(noise))
    for g, visits, rows in own.design.seen.patterns:
        L = np.linalg.cholesky(own.model.sigma(own.theta, g, visits))
        out[rows] = noise[rows] @ L.T
    return out if fit.weights is None else out / np.sqrt(fit.weights)


def predictions(
    fit: Fit,
    newdata: Any,
    offset: Any,
    se: bool,
    interval: str | None,
    level: float,
    ddf: str | None,
) -> pd.Series | pd.DataFrame:
    """As ``MMRMFit.predict`` documents them."""
    check_interval(interval)
    rows = None if newdata is None else Table.of(one_row(newdata))
    found: Any = predict(fit, rows, "none", "error", offset, False, 0)
    if se or interval is not None:
        rest = level, ddf, None, True
        found = prediction_frame(fit, found, rows, "none", "confidence", *rest)
    if interval == "prediction":
        total = np.sqrt(np.square(found["se"].to_numpy()) + visit_variance(fit, rows))
        half = t_quantile((1 + level) / 2, _df(fit, rows, found, ddf, check_level(level))) * total
        middle = found["fit"].to_numpy()
        found = found.assign(lower=middle - half, upper=middle + half)[list(SHOWN)]
    return as_given(newdata, found)  # type: ignore[no-any-return]


def conditional(fit: Fit, newdata: Any, offset: Any) -> pd.Series:
    """Means of the rows without a response given those of their subject with one; the response
    itself of rows that have one."""
    own: Any = fit
    table = Table.of(newdata)
    mean = predict(fit, table, "none", "error", offset, False, 0)
    y, values = _responses(fit, table), mean.to_numpy().copy()
    visits = own.design.seen
    subject = column_in(table, visits.covariance.subject).as_factor().codes
    visit, group = visits_in(fit, table), groups_in(fit, table)
    w = weights_of(fit, table, None, table.n)
    order = np.argsort(subject, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(subject[order])) + 1):
        there = ~np.isnan(y[rows]) & ~np.isnan(values[rows])
        if there.any() and subject[rows[0]] >= 0:
            Sigma = own.model.sigma(own.theta, group[rows[0]], visit[rows])
            Sigma = Sigma / np.sqrt(np.outer(w[rows], w[rows]))
            left = y[rows][there] - values[rows][there]
            moved = Sigma[:, there] @ np.linalg.solve(Sigma[np.ix_(there, there)], left)
            values[rows] = np.where(there, y[rows], values[rows] + moved)
    return as_given(newdata, type(mean)(values, index=mean.index, name=mean.name))  # type: ignore[no-any-return]


def _responses(fit: Fit, table: Table) -> np.ndarray:
    """The response of new rows; NaN where it, or what it is made of, is missing."""
    plan, recipe = fit.design.plan, recipe_of(fit)
    columns = {name: column_in(table, name) for name in plan.response.names if table.has(name)}
    found = value_of(plan.response, columns, recipe.memory, table.n)
    assert isinstance(found, dict)
    return np.array(next(iter(found.values())), dtype=float)


def _df(fit: Fit, newdata: Any, found: pd.DataFrame, ddf: str | None, level: float) -> np.ndarray:
    """Degrees of freedom of the means that are predicted (n)."""
    method = method_of(fit, ddf)
    X = fit.design.X if newdata is None else recipe_of(fit).fixed(newdata)[0]
    kept = fit.estimates.fixed_kept
    L = np.where(kept, np.nan_to_num(X), 0.0)
    return np.asarray(method.df(L))


def visit_variance(fit: Fit, newdata: Any) -> np.ndarray:
    """Variance of an observation of each row: of its visit, in its group (n)."""
    own: Any = fit
    visits, spatial = own.design.seen, own.design.seen.places is not None
    places = np.arange(1 if spatial else visits.m)  # all places have one variance
    groups = range(len(visits.groups))
    variance = np.array([own.model.sigma(own.theta, g, places).diagonal() for g in groups])
    if newdata is None:
        visit = 0 if spatial else visits.visit
        of_rows = variance[visits.group[visits.subject], visit]
        return np.asarray(of_rows if fit.weights is None else of_rows / fit.weights)
    table = Table.of(newdata)
    same = spatial or np.ptp(variance[0]) == 0  # then visits need not be known
    visit = np.zeros(table.n, int) if same else visits_in(fit, table)
    return np.asarray(variance[groups_in(fit, table), visit])


def visits_in(fit: Fit, table: Table) -> np.ndarray:
    """Which visit each row of new data is."""
    own: Any = fit
    visits = own.design.seen
    if visits.places is None:
        return _places(table, visits.covariance.visit[0], visits.labels)
    raise DataError(
        "places of new data are not known to the fit: of new rows sp_exp has means alone, no "
        "prediction intervals and no drawn responses"
    )


def groups_in(fit: Fit, table: Table) -> np.ndarray:
    """Which group's covariance each row of new data has."""
    own: Any = fit
    visits = own.design.seen
    if visits.covariance.group is None:
        return np.zeros(table.n, int)
    return _places(table, visits.covariance.group, visits.groups)


def _places(table: Any, name: str, labels: np.ndarray) -> np.ndarray:
    """Which of some labels each row of new data has."""
    if not table.has(name):
        raise table.lacks(name, DataError, "the visit's or group's column")
    own = table.column(name).as_factor()
    known = {str(label): i for i, label in enumerate(labels)}
    found = [known.get(str(level), -1) for level in own.levels]
    places = np.array([*found, -1])[own.codes]
    if (places < 0).any():
        bad = int(np.flatnonzero(places < 0)[0])
        raise DataError(
            f"{name} has a value in row {bad} of the new data that the fit has not seen",
            variable=name,
            rows=[bad],
        )
    return np.asarray(places)
