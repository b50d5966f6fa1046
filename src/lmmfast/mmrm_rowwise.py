"""What a fit for repeated measures says of rows: means, residuals, predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from .errors import DataError
from .fit import Fit
from .given import IntoDataFrame, NewData, PandasRows, Rows
from .hints import hinted
from .inference.ddf import check_level
from .inference.rows import predict as _predict
from .inference.rows import repeated as _rows
from .typing import Ddf

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
else:
    from .late import pandas as pd
    from .late import polars as pl


class RepeatedRows(Fit):
    """The part of a fit for repeated measures that is about rows, of the data or new ones."""

    @property
    def fittedvalues(self) -> pd.Series:
        """Fitted values of the rows used (n): fixed effects and offset."""
        return _predict.row_series(self.design, _predict.fitted_of(self), "fittedvalues")

    @property
    def resid(self) -> pd.Series:
        """Response residuals ``y - fittedvalues`` (n)."""
        return _rows.residuals(self, "response")

    @hinted
    def residuals(
        self, type: Literal["response", "pearson", "normalized"] = "response"
    ) -> pd.Series:
        """Residuals of the rows used (n).

        Parameters
        ----------
        type : {"response", "pearson", "normalized"}
            "pearson": over the standard deviation of the visit. "normalized": those of a subject
            made independent with variance one by the Cholesky factor of their covariance, visits in
            their order (nlme's and mmrm's).

        Returns
        -------
        pandas.Series
            Labelled as the data.

        Raises
        ------
        ValueError
            For another type.
        """
        return _rows.residuals(self, type)

    @overload
    def predict(
        self, newdata: PandasRows | None = None, *, offset: Rows | None = ...,
        se: Literal[False] = ..., interval: None = ...,
        level: float = ..., ddf: Ddf | None = ..., conditional: bool = ...,
    ) -> pd.Series: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: PandasRows | None = None, *, offset: Rows | None = ...,
        se: Literal[True], interval: Literal["confidence", "prediction"] | None = ...,
        level: float = ..., ddf: Ddf | None = ..., conditional: bool = ...,
    ) -> pd.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: PandasRows | None = None, *, offset: Rows | None = ...,
        se: bool = ..., interval: Literal["confidence", "prediction"],
        level: float = ..., ddf: Ddf | None = ..., conditional: bool = ...,
    ) -> pd.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: PandasRows | None = None, *, offset: Rows | None = ...,
        se: bool, interval: None = ...,
        level: float = ..., ddf: Ddf | None = ..., conditional: bool = ...,
    ) -> pd.Series | pd.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: pl.DataFrame, *, offset: Rows | None = ...,
        se: Literal[False] = ..., interval: None = ...,
        level: float = ..., ddf: Ddf | None = ..., conditional: bool = ...,
    ) -> pl.Series: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: pl.DataFrame, *, offset: Rows | None = ...,
        se: Literal[True], interval: Literal["confidence", "prediction"] | None = ...,
        level: float = ..., ddf: Ddf | None = ..., conditional: bool = ...,
    ) -> pl.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: pl.DataFrame, *, offset: Rows | None = ...,
        se: bool = ..., interval: Literal["confidence", "prediction"],
        level: float = ..., ddf: Ddf | None = ..., conditional: bool = ...,
    ) -> pl.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: pl.DataFrame, *, offset: Rows | None = ...,
        se: bool, interval: None = ...,
        level: float = ..., ddf: Ddf | None = ..., conditional: bool = ...,
    ) -> pl.Series | pl.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: IntoDataFrame, *, offset: Rows | None = ...,
        se: bool = ..., interval: Literal["confidence", "prediction"] | None = ...,
        level: float = ..., ddf: Ddf | None = ..., conditional: bool = ...,
    ) -> Any: ...  # fmt: skip

    @hinted
    def predict(
        self,
        newdata: NewData | pd.Series | None = None,
        *,
        offset: Rows | None = None,
        se: bool = False,
        interval: Literal["confidence", "prediction"] | None = None,
        level: float = 0.95,
        ddf: Ddf | None = None,
        conditional: bool = False,
    ) -> pd.Series | pd.DataFrame | pl.Series | pl.DataFrame:
        """Means of the response, for the rows of the fit or for new ones.

        Parameters
        ----------
        newdata : data frame or dict of arrays, optional
            The variables of the fixed part; for prediction intervals visits and groups, too.
        offset : float, array, Series or str, optional
            Offset of the new rows, for fits with the argument ``offset=``.
        se : bool, default False
            Also give standard errors, and the limits of ``interval``.
        interval : {"confidence", "prediction"}, optional
            Limits for the mean, or for the response of a new subject.
        level : float, default 0.95
            Coverage of the intervals.
        ddf : optional
            As for `t_test`.
        conditional : bool, default False
            Means given the responses of the same subject in ``newdata``, which has subjects and
            visits then; rows that have a response keep it. No standard errors.

        Returns
        -------
        pandas.Series, or with ``se`` or ``interval`` pandas.DataFrame
            Columns ``fit``, ``se``, ``lower`` and ``upper``.

        Raises
        ------
        DataError
            For variables that are not there and levels that the fit has not seen.
        """
        check_level(level)
        if conditional:
            if se or interval is not None or newdata is None:
                raise DataError("conditional=True needs new data, and gives means alone")
            return _rows.conditional(self, newdata, offset)
        return _rows.predictions(self, newdata, offset, se, interval, level, ddf)
