"""What a generalized fit says of rows: means, residuals, predictions, explained variance."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, overload

from numpy.typing import ArrayLike

from .data.new_rows import rows_given
from .fit import Fit
from .given import IntoDataFrame, NewData, PandasRows, Rows
from .hints import hinted
from .inference.rows import generalized as _generalized
from .inference.rows import influence_generalized as _influence
from .inference.rows import predict as _predict
from .inference.rows import quality as _quality
from .inference.rows.asked import Asked
from .inference.rows.given_kind import as_given
from .inference.rows.shown import predictions
from .rowwise import RowOptions
from .typing import Effects, NewColumns, NewLevels, PredictedType

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from typing_extensions import Unpack
else:
    from .late import Unpack
    from .late import pandas as pd
    from .late import polars as pl


class PredictOptions(RowOptions, total=False):
    """Arguments of `predict` by name that do not change the kind of the answer."""

    marginal: bool


class GeneralizedRows(Fit):
    """The part of a generalized fit that is about rows, of the data or new ones."""

    @property
    def linear_predictor(self) -> pd.Series:
        """Linear predictor of the rows used (n): fixed effects, conditional modes and offset."""
        values = _predict.fitted_of(self)
        return _predict.row_series(self.design, values, "linear_predictor")

    @property
    def fittedvalues(self) -> pd.Series | pd.DataFrame:
        """Means of the rows used (n) given the conditional modes, on the scale of the response: of
        binomial counts probabilities. Of an ordered response a table, the probabilities of its
        classes.
        """
        if _generalized.is_ordered(self):
            own = self.linear_predictor
            return _generalized.probability_frame(self, own.to_numpy(), own.index)
        return _predict.row_series(self.design, _generalized.means(self), "fittedvalues")

    @property
    def resid(self) -> pd.Series:
        """Response residuals (n): response, or share of the trials, minus ``fittedvalues``."""
        return _generalized.residuals(self, "response", 0)

    @hinted
    def residuals(
        self,
        type: Literal["response", "pearson", "deviance", "quantile", "working"] = "response",
        *,
        seed: int = 0,
    ) -> pd.Series:
        """Residuals of the rows used (n), given the conditional modes.

        Parameters
        ----------
        type : {"response", "pearson", "deviance", "quantile", "working"}
            "response": as ``resid``. "pearson": over the standard deviation that the family has at
            the fitted mean. "deviance": signed roots of the contributions to the deviance.
            "quantile": the standard normal quantile of the response's place in its distribution, a
            random place within the jumps of discrete ones (Dunn & Smyth 1996): close to standard
            normal where the model is right. "working": over the derivative of the mean.
        seed : int, default 0
            Of "quantile".

        Returns
        -------
        pandas.Series

        Raises
        ------
        ValueError
            For another type.
        DataError
            For an ordered response, which has "quantile" alone.
        """
        return _generalized.residuals(self, type, seed)

    @overload
    def predict(
        self, newdata: PandasRows | None = None, *,
        type: Literal["link", "class", "mean.class"] = ...,
        se: Literal[False] = ..., interval: None = ...,
        **options: Unpack[PredictOptions],
    ) -> pd.Series: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: PandasRows | None = None, *, type: PredictedType = ...,
        se: Literal[True], interval: Literal["confidence", "prediction"] | None = ...,
        **options: Unpack[PredictOptions],
    ) -> pd.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: PandasRows | None = None, *, type: PredictedType = ...,
        se: bool = ..., interval: Literal["confidence", "prediction"],
        **options: Unpack[PredictOptions],
    ) -> pd.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: PandasRows | None = None, *, type: PredictedType = ...,
        se: bool = ..., interval: None = ...,
        **options: Unpack[PredictOptions],
    ) -> pd.Series | pd.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: pl.DataFrame, *, type: Literal["link", "class", "mean.class"] = ...,
        se: Literal[False] = ..., interval: None = ...,
        **options: Unpack[PredictOptions],
    ) -> pl.Series: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: pl.DataFrame, *, type: PredictedType = ...,
        se: Literal[True], interval: Literal["confidence", "prediction"] | None = ...,
        **options: Unpack[PredictOptions],
    ) -> pl.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: pl.DataFrame, *, type: PredictedType = ...,
        se: bool = ..., interval: Literal["confidence", "prediction"],
        **options: Unpack[PredictOptions],
    ) -> pl.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: pl.DataFrame, *, type: PredictedType = ...,
        se: bool = ..., interval: None = ...,
        **options: Unpack[PredictOptions],
    ) -> pl.Series | pl.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: IntoDataFrame, *, type: PredictedType = ...,
        se: bool = ..., interval: Literal["confidence", "prediction"] | None = ...,
        **options: Unpack[PredictOptions],
    ) -> Any: ...  # fmt: skip

    @hinted
    def predict(
        self,
        newdata: NewData | pd.Series | None = None,
        *,
        X: ArrayLike | None = None,
        Z: NewColumns | None = None,
        type: PredictedType = "link",
        re_form: Effects | None = None,
        marginal: bool = False,
        new_levels: NewLevels = "error",
        offset: Rows | None = None,
        se: bool = False,
        interval: Literal["confidence", "prediction"] | None = None,
        level: float = 0.95,
        weights: Rows | None = None,
        vary_left_out: bool = True,
        random_only: bool = False,
        seed: int = 0,
    ) -> pd.Series | pd.DataFrame | pl.Series | pl.DataFrame:
        """Predict the linear predictor or the mean, for the rows of the fit or for new ones.

        Parameters
        ----------
        newdata : data frame or dict of arrays, optional
            The variables of the formula's right-hand side; one row of a pandas frame,
            ``df.iloc[0]``, too. Default: the rows of the fit.
        X : (n', p) array, optional
            New rows in place of `newdata`: their columns of the design, as
            `LMM.from_arrays` takes them.
        Z : sequence of (codes, columns), optional
            With `X`: levels (n',) and columns (n', k; None: ones) of each random term, in the
            order of the terms. A code that is no level of the fit is an unseen level.
        type : {"link", "response", "prob", "class", "cum.prob", "exc.prob", "mean.class"}
            The linear predictor, or the mean of the response (of binomial counts the probability).
            Of an ordered response: the probability of each class ("prob", or "response"), the most
            probable class ("class"), probabilities of the classes up to each threshold
            ("cum.prob") or above it ("exc.prob"), or the mean number of the class, from 1
            ("mean.class").
        re_form : {"all", "none"}, list of str, or formula, optional
            Random effects to include: all, none (also "~0", "NA"), those of the named factors, or
            parts of terms, ``"~(1 | subj)"``. Default: all; with ``marginal=True`` none.
        marginal : bool, default False
            With ``type="response"``, or those of classes: the mean over the random effects that
            `re_form` leaves out and over those of unseen levels, not the mean where they are zero
            (errors take their variance as known). The linear predictor is
            normal with variance z'Cov(b) z, over which the inverse link is integrated: in a
            population probabilities are nearer to 1/2, and means of a log link larger, than those
            of its typical member.
        new_levels : {"error", "population", "missing", "sample"}, default "error"
            What an unseen level of a grouping factor means: an error, random effects of zero, a
            missing prediction, or effects drawn from their estimated distribution.
        offset : float, array, Series or str, optional
            Offset of the new rows, for fits with the argument ``offset=``: a number, one for each
            row (a Series by its labels), or the name of a column of ``newdata``.
        se : bool, default False
            Also give standard errors (on the scale of the response by the delta method), and the
            limits of ``interval``.
        interval : {"confidence", "prediction"}, optional
            Limits for the mean (the default with ``se=True``), transformed from the link's scale;
            or, with ``type="response"``, for a new observation: quantiles of its distribution (of
            binomial counts the number of successes in ``weights`` trials).
        level : float, default 0.95
            Coverage of the interval.
        weights : float, array, Series or str, optional
            Of "prediction" intervals: trials of binomial counts, or prior weights. Default: as for
            `LMMFit.predict`.
        vary_left_out : bool, default True
            Whether a prediction interval covers the random effects that ``re_form`` leaves out.
        random_only : bool, default False
            The random effects alone, without fixed effects and offset; no standard errors.
        seed : int, default 0
            Of ``new_levels="sample"``.

        Returns
        -------
        pandas.Series
            One value per row; NaN where a predictor is missing or the data say nothing about a row.
        pandas.DataFrame
            With ``se`` or ``interval``: columns ``fit``, ``se``, ``lower`` and ``upper``. Of
            probabilities of classes: a column each, with errors under each class these four; limits
            are those of the logits of probabilities. "class" is a Series of categories. Of new rows
            in a polars or pyarrow table all are of that library, missing values null.

        Raises
        ------
        DataError
            If variables or grouping factors are unknown, a level is unseen (and ``new_levels`` is
            "error"), or arguments do not go together.

        Notes
        -----
        ``se`` is that of x'beta-hat + z'b-hat as an estimate of x'beta + z'b, from the covariance
        of beta and the curvature at the conditional modes, given the variance parameters. Of
        classes thresholds are among what is estimated.
        """
        form = ("none" if marginal else "all") if re_form is None else re_form
        asked = Asked(
            form, new_levels, offset, se, interval, level, None, weights, vary_left_out,
            random_only, seed, type, None, marginal,
        )  # fmt: skip
        found = predictions(self, rows_given(self.design, newdata, X, Z), asked)
        return as_given(newdata, found)  # type: ignore[no-any-return]

    @hinted
    def influence(
        self, by: str | None = None, *, levels: str | Iterable[object] | None = None
    ) -> pd.DataFrame:
        """What the fixed effects would be without each row, or without each level of a factor.

        Parameters
        ----------
        by : str, optional
            A grouping factor. Default: by row.
        levels : str or sequence, optional
            Levels of `by`, by their labels: which ones to leave out. Default: each.

        Returns
        -------
        pandas.DataFrame
            ``nobs``, the rows left out; ``cooks_d``, Cook's distance (change' vcov^-1 change / p
            with the fit's vcov); ``dfb_...``, the change (fit minus deletion) of each coefficient
            over its standard error; ``theta_...`` without them; ``status``: "converged", or why a
            row has no numbers or not those of an optimum.

        Raises
        ------
        DataError
            For what is not a grouping factor of the model, or a level of it.

        Notes
        -----
        Every deletion is fitted anew, from the estimates of all rows: a few evaluations each.
        """
        return _influence.influence(self, by, levels)

    def r2(self) -> pd.Series:
        """Marginal and conditional R2 on the link's scale (Nakagawa, Johnson & Schielzeth 2017).

        Returns
        -------
        pandas.Series
            ``marginal``: share of the variance that the fixed effects explain; ``conditional``:
            the random effects too. The variance of a row given its linear predictor is that of the
            latent variable: pi^2/3 (logit), 1 (probit), pi^2/6 (cloglog), ln(1 + 1/mu) (Poisson,
            log link) and so on, mu the mean of the response over the population. A grouping factor
            with a level for each row counts as such variance (overdispersion), not as explained.
        """
        return _quality.r2(self)
