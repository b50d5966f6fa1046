"""Rows of a fit for repeated measures: residuals made independent, predictions, what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DataError
from ..ddf import check_choice, check_level, method_of
from ..wald import t_quantile
from .predict import fitted_of, predict, row_series
from .prediction_errors import SHOWN, check_interval, prediction_frame
from .shown import _one_row

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
        Sigma = own.estimates.Sigma[g][np.ix_(visits, visits)]
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
        L = np.linalg.cholesky(own.estimates.Sigma[g][np.ix_(visits, visits)])
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
    if newdata is not None:
        newdata = _one_row(newdata)
    predicted = predict(fit, newdata, "none", "error", offset, False, 0)
    if not se and interval is None:
        return predicted
    rest = level, ddf, None, True
    found = prediction_frame(fit, predicted, newdata, "none", "confidence", *rest)
    if interval != "prediction":
        return found
    spread = visit_variance(fit, newdata)
    total = np.sqrt(np.square(found["se"].to_numpy()) + spread)
    df = _df(fit, newdata, found, ddf, check_level(level))
    half = t_quantile((1 + level) / 2, df) * total
    middle = found["fit"].to_numpy()
    return found.assign(lower=middle - half, upper=middle + half)[list(SHOWN)]


def _df(fit: Fit, newdata: Any, found: pd.DataFrame, ddf: str | None, level: float) -> np.ndarray:
    """Degrees of freedom of the means that are predicted (n)."""
    from .predict import recipe_of

    method = method_of(fit, ddf)
    X = fit.design.X if newdata is None else recipe_of(fit).fixed(newdata)[0]
    kept = fit.estimates.fixed_kept
    L = np.where(kept, np.nan_to_num(X), 0.0)
    return np.asarray(method.df(L))


def visit_variance(fit: Fit, newdata: Any) -> np.ndarray:
    """Variance of an observation of each row: of its visit, in its group (n)."""
    from ...data.columns import Table

    own: Any = fit
    visits, Sigma = own.design.seen, own.estimates.Sigma
    if newdata is None:
        of_rows = Sigma[visits.group[visits.subject], visits.visit, visits.visit]
        return np.asarray(of_rows if fit.weights is None else of_rows / fit.weights)
    table = Table.of(newdata)
    if np.ptp(Sigma[0].diagonal()) == 0 and len(Sigma) == 1:
        return np.full(table.n, Sigma[0, 0, 0])
    visit = _places(table, visits.covariance.visit[0], visits.labels)
    group = np.zeros(table.n, int)
    if visits.covariance.group is not None:
        group = _places(table, visits.covariance.group, visits.groups)
    return np.asarray(Sigma[group, visit, visit])


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
