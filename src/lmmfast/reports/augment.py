"""The rows of a fit with what it says of them, in the kind of table that they came in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.columns import Table, series_of
from ..data.visits import RepeatedDesign
from ..errors import DataError
from ..inference.rows.generalized import is_ordered
from .same_rows import places_in

if TYPE_CHECKING:
    from ..fit import Fit

Columns = dict[str, np.ndarray]


def augment(
    fit: Any,
    data: Any,
    newdata: Any,
    influence: bool,
    type_residuals: str | None,
    options: dict[str, Any],
) -> Any:
    """As ``Labelled.augment`` documents it."""
    if newdata is not None:
        if data is not None or influence:
            raise DataError("newdata= are other rows: leave out data= and influence=")
        return beside(newdata, _predicted(fit, newdata, options))
    if options:
        raise DataError(
            f"{', '.join(options)}: how rows are predicted is for newdata=; the rows of the fit "
            "are shown with all their random effects and without any"
        )
    columns = _of_rows(fit, influence, type_residuals)
    if data is None:
        return beside(_own_rows(fit), columns)
    return beside(data, _spread(fit, data, columns))


# ---- what a fit says of rows --------------------------------------------------------------------


def _of_rows(fit: Any, influence: bool, type_residuals: str | None) -> Columns:
    """Columns of the rows used (n), by broom.mixed's names."""
    kind = type_residuals or ("response" if fit.family is None else "deviance")
    if is_ordered(fit):
        kind = type_residuals or "quantile"
    columns: Columns = {}
    if fit.family is None:
        columns[".fitted"] = np.asarray(fit.fittedvalues)
    else:
        columns[".fitted"] = np.asarray(fit.linear_predictor)
    columns[".resid"] = np.asarray(fit.residuals(kind))
    if not isinstance(fit.design, RepeatedDesign):
        columns[".fixed"] = np.asarray(fit.predict(re_form="none"))
    if fit.family is not None and not is_ordered(fit):
        columns[".mu"] = np.asarray(fit.fittedvalues)
    if influence:
        columns |= _influence(fit)
    for name, own in ((".offset", fit.design.offset), (".weights", fit.design.weights)):
        if own is not None:
            columns[name] = np.asarray(own)
    return columns


def _influence(fit: Any) -> Columns:
    """Leverages, and lme4's distances of Cook, which are made of these."""
    if isinstance(fit.design, RepeatedDesign):
        raise DataError("influence=True is of models with random effects")
    if fit.family is not None:
        return {".cooksd": fit.influence()["cooks_d"].to_numpy()}
    hat = fit.influence()["hat_diag"].to_numpy()
    pearson = np.asarray(fit.residuals("pearson"))  # of a linear model over sigma
    p = int(np.sum(fit.estimates.fixed_kept))
    with np.errstate(divide="ignore", invalid="ignore"):
        cook = (pearson / (1 - hat)) ** 2 * hat / p
    return {".hat": hat, ".cooksd": np.where(np.isfinite(cook), cook, np.nan)}


def _predicted(fit: Any, newdata: Any, options: dict[str, Any]) -> Columns:
    """What is predicted for other rows: the columns of `predict`, dots in front."""
    found = fit.predict(Table.of(_as_frame(newdata)), **options)  # of pandas, whatever the rows are
    if not hasattr(found, "columns"):
        return {".fitted": np.asarray(found)}
    names = {"fit": ".fitted", "se": ".se.fit", "lower": ".lower", "upper": ".upper"}
    return {
        names.get(str(name), f".{name}"): found.iloc[:, j].to_numpy()
        for j, name in enumerate(found.columns)
    }


# ---- beside the data ----------------------------------------------------------------------------


def _own_rows(fit: Fit) -> Any:
    """The rows that the fit used, of the table that it was given."""
    given = fit.design.given
    if given is None or given.data is None or not _is_table(given.data):
        raise DataError(
            "the data of this fit are not at hand (it was made from files, a stream, arrays or a "
            "pickle): give them, fit.augment(data)"
        )
    return taken(given.data, fit.design.rows)


def _is_table(data: Any) -> bool:
    return isinstance(data, Mapping) or hasattr(data, "columns")


def _spread(fit: Fit, data: Any, columns: Columns) -> Columns:
    """Columns of all rows of the data; missing where the fit did not use a row."""
    places, n = places_in(fit.design, data), Table.of(data).n
    out = {}
    for name, values in columns.items():
        whole = np.full(n, np.nan)
        whole[places] = values
        out[name] = whole
    return out


def taken(data: Any, rows: np.ndarray) -> Any:
    """Some rows of a table, which stays of its kind; a mapping becomes a pandas table."""
    data = _as_frame(data)
    if hasattr(data, "iloc"):
        return data.iloc[rows]
    import narwhals.stable.v2 as nw

    return nw.from_native(data, eager_only=True)[rows.tolist(), :].to_native()


def beside(data: Any, columns: Columns) -> Any:
    """A table with more columns, of the kind that it was."""
    data = _as_frame(data)
    if hasattr(data, "iloc"):
        return data.assign(**columns)
    import narwhals.stable.v2 as nw

    frame = nw.from_native(data, eager_only=True)
    made = [series_of(name, own, frame.implementation) for name, own in columns.items()]
    return frame.with_columns(*made).to_native()


def _as_frame(data: Any) -> Any:
    """A table as its library has it; one row of a pandas table as a table of one row."""
    if isinstance(data, Mapping) or getattr(getattr(data, "dtype", None), "names", None):
        import pandas as pd

        return pd.DataFrame({name: data[name] for name in _names(data)})
    if hasattr(data, "iloc") and data.ndim == 1:
        return data.to_frame().T
    return data


def _names(data: Any) -> Any:
    return data if isinstance(data, Mapping) else data.dtype.names
