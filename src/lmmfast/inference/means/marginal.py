"""A fit as the Python package marginaleffects takes models: population-level predictions.

marginaleffects knows classes of models by name and offers no registration, but takes instances of
its ``ModelAbstract``; this is one. marginaleffects 0.6 itself needs polars 1: it uses functions
that polars 2 has removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

try:
    import polars as pl
    from marginaleffects.classes import ModelAbstract, ModelVault
except ImportError as error:
    raise ImportError(
        "to_marginaleffects() needs the package marginaleffects: pip install 'lmmfast[effects]'"
    ) from error

from ..ddf import check_choice, method_of
from ..rows.predict import recipe_of

if int(pl.__version__.split(".")[0]) > 1:
    raise ImportError(
        f"marginaleffects does not work with polars {pl.__version__}: "
        "pip install 'lmmfast[effects]' brings versions that do"
    )

if TYPE_CHECKING:
    from ...fit import Fit
    from ...formula.column import Column


class Marginal(ModelAbstract):  # type: ignore[misc]
    """The fixed effects of a fit, for ``marginaleffects.avg_slopes`` and the like.

    Predictions are x'beta (``re_form="none"``) with the offset; columns that were dropped are left
    out. Data are the variables of the fixed part in the rows that the fit used.

    Parameters
    ----------
    fit : Fit
        Made from a formula.
    ddf : {"z", "residual", "kenward-roger"}
        Reference distribution: normal, t with the residual degrees of freedom, or normal with
        Kenward and Roger's covariance (marginaleffects has no degrees of freedom by contrast).

    Raises
    ------
    ValueError
        For another ``ddf``.
    DataError
        For a model made from arrays.
    """

    def __init__(self, fit: Fit, ddf: str = "z") -> None:
        check_choice("ddf", ddf, ("z", "residual", "kenward-roger"))
        recipe_of(fit)  # refuses models made from arrays
        kept = fit.estimates.fixed_kept
        self._ddf, self._kept = ddf, kept
        vault = ModelVault(
            coef=fit.estimates.beta[kept].copy(),
            coefnames=np.array(fit.design.x_names, dtype=object)[kept],
            formula=lambda newdata: (None, _columns(fit, newdata)),
            modeldata=_data(fit),
            package="lmmfast",
            vcov=np.array(method_of(fit, ddf).vcov[np.ix_(kept, kept)]),
            variable_names=[fit.design.response, *fit.design.variables],
        )
        super().__init__(fit, vault)

    @property
    def df_resid(self) -> float:
        """Degrees of freedom of all tests; infinite for the normal distribution."""
        if self._ddf != "residual":
            return float("inf")
        return float(self.model.nobs - self._kept.sum())

    def get_vcov(self, vcov: Any = True) -> np.ndarray | None:
        """Covariance of the fixed effects, None if ``vcov`` is False; there is no other."""
        if not isinstance(vcov, bool):
            raise ValueError(f"vcov must be True, False or a matrix for this model, not {vcov!r}")
        return self.vault.vcov if vcov else None

    def get_predict(self, params: np.ndarray, newdata: Any) -> pl.DataFrame:
        """Predictions at other fixed effects; ``newdata`` is what ``get_exog`` made."""
        exog = np.asarray(newdata, dtype=float)
        values = exog[:, : len(params)] @ np.asarray(params) + exog[:, len(params) :].sum(axis=1)
        if self.model.family is not None:
            values = self.model.family.linkinv(values)
        rows = pl.Series("rowid", range(len(values)), dtype=pl.Int32)
        return pl.DataFrame([rows, pl.Series("estimate", values)])

    def get_autodiff_args(self) -> dict[str, Any] | None:
        """Of a linear model: derivatives are exact where marginaleffects has JAX."""
        if self.model.family is not None:
            return None
        return {"model_type": "linear", "family": None, "link": None}


def _columns(fit: Fit, newdata: Any) -> np.ndarray:
    """Kept columns of the fixed part; the offset, where there is one, as a further column."""
    recipe = recipe_of(fit)
    X, offset = recipe.fixed(newdata)
    own = X[:, fit.estimates.fixed_kept]
    if recipe.offset_is_array and fit.design.offset is not None:
        offset = np.full(len(own), fit.design.offset.mean())
    return own if offset is None else np.column_stack([own, offset])


def _data(fit: Fit) -> pl.DataFrame:
    """Response and variables of the rows used, as polars columns."""
    response = pl.Series(fit.design.response, fit.design.y)
    columns = [_series(name, column) for name, column in fit.design.variables.items()]
    return pl.DataFrame([response, *(column for column in columns if column.name != response.name)])


def _series(name: str, column: Column) -> pl.Series:
    """A variable; factors are enumerations in the order of their levels."""
    if column.codes is None or column.levels is None:
        return pl.Series(name, column.values)
    if column.levels.dtype == bool:
        return pl.Series(name, column.levels[column.codes])
    labels = [str(level) for level in column.levels]
    return pl.Series(name, [labels[code] for code in column.codes], dtype=pl.Enum(labels))
