"""What a fit says of rows: fitted values, residuals, predictions, influence, explained variance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload

from numpy.typing import ArrayLike

from .data.new_rows import rows_given
from .fit import Fit
from .given import Data, IntoDataFrame, NewData, PandasRows, Rows
from .hints import hinted
from .inference.intervals import residual as _residual
from .inference.rows import influence as _influence
from .inference.rows import modes as _modes
from .inference.rows import predict as _predict
from .inference.rows import quality as _quality
from .inference.rows import residual_covariance as _of_rows
from .inference.rows import residuals as _residuals
from .inference.rows import shrinkage as _shrinkage
from .inference.rows.asked import Asked
from .inference.rows.given_kind import as_given
from .inference.rows.shown import predictions
from .typing import Effects, Inverse, LinearDdf, NewColumns, NewLevels

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from typing_extensions import Unpack
else:
    from .late import Unpack
    from .late import pandas as pd
    from .late import polars as pl


class RowOptions(TypedDict, total=False):
    """Arguments of `predict` by name that do not change the kind of the answer."""

    X: ArrayLike | None
    Z: NewColumns | None
    re_form: Effects | None
    new_levels: NewLevels
    offset: Rows | None
    level: float
    weights: Rows | None
    vary_left_out: bool
    random_only: bool
    seed: int


class PredictOptions(RowOptions, total=False):
    """... those of linear models."""

    ddf: LinearDdf | None
    type: Literal["link", "response"]
    inverse: Inverse | None
    bias_adjust: bool


class Rowwise(Fit):
    """The part of a fit that is about rows, of the data or new ones."""

    @property
    def fittedvalues(self) -> pd.Series:
        """Fitted values of the rows used (n): fixed effects, conditional modes and offset."""
        return _predict.row_series(self.design, _predict.fitted_of(self), "fittedvalues")

    @property
    def resid(self) -> pd.Series:
        """Response residuals ``y - fittedvalues`` (n), not scaled by the weights."""
        return _predict.row_series(self.design, self.design.y - _predict.fitted_of(self), "resid")

    @hinted
    def residuals(
        self, type: Literal["response", "pearson", "normalized", "marginal", "scaled"] = "response"
    ) -> pd.Series:
        """Residuals of the rows used (n).

        Parameters
        ----------
        type : {"response", "pearson", "normalized", "marginal", "scaled"}
            "response": ``y - fittedvalues``, as ``resid``. "pearson": the same over the residual
            standard deviations (lme4's with ``scaled=TRUE``): sigma, weights and ``dispersion=``.
            "normalized": these made independent where ``residual=`` correlates them, row by row
            given those before in time (nlme's). "marginal": from the
            fixed effects and the offset alone. "scaled": the marginal ones made independent with
            variance one by the Cholesky factor of their covariance, row by row given those before;
            dense in each set of rows that share random effects.

        Returns
        -------
        pandas.Series
            Labelled as the data.

        Raises
        ------
        ValueError
            For another type.
        MemoryError
            "scaled" when too many rows share random effects.
        """
        return _residuals.residuals(self, type)

    @property
    def residual_sd(self) -> pd.Series:
        """Residual standard deviations of the rows used (n): sigma, weights and ``dispersion=``."""
        sd = self.sigma * _of_rows.row_deviations(self)
        return _predict.row_series(self.design, sd, "residual_sd")

    @property
    def residual_parameters(self) -> pd.DataFrame:
        """Parameters of the residual structure with standard errors, as users see them.

        One row each: ratios of standard deviations to the first stratum's, the power or exponent,
        correlations, the range. Columns ``estimate`` and ``se`` (delta method, from the curvature
        of the criterion; NaN on a boundary).

        Raises
        ------
        FitError
            When the fit has no residual structure.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> data = datasets.load("sleepstudy")
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", data, residual="ar1(Days | Subject)")
        >>> fit.residual_parameters.round(3).values.tolist()
        [[0.492, 0.091]]
        """
        return _residual.parameters(self)

    def residual_covariance(self, subject: object = None) -> pd.DataFrame:
        """Covariance of the residuals of one subject's rows, ordered by time.

        Parameters
        ----------
        subject : label, optional
            Of the subject in ``residual=``; without it, of a level of the first grouping factor.
            Default: the one with the most rows.

        Returns
        -------
        pandas.DataFrame
            (k, k), labelled by the rows.

        Raises
        ------
        DataError
            When there is no such level.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> data = datasets.load("sleepstudy")
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", data, residual="ar1(Days | Subject)")
        >>> R = fit.residual_covariance(308)
        >>> float(round(R.iloc[0, 1] / R.iloc[0, 0], 3))
        0.492
        """
        return _of_rows.covariance(self, subject)

    def stream_residuals(
        self,
        source: Data | Iterable[IntoDataFrame],
        type: Literal["response", "pearson"] = "response",
    ) -> Iterator[pd.DataFrame]:
        """Fitted values and residuals chunk by chunk, for fits whose rows are not in memory.

        Parameters
        ----------
        source : table, or source
            The rows of the fit, or some of them: what `lmmfast.lmer` takes, also an iterator of
            frames. Read once, with the columns that the formula uses.
        type : {"response", "pearson"}
            As for `residuals`.

        Yields
        ------
        pandas.DataFrame
            Columns ``fitted`` and ``resid``; the index ``row`` is the position in the source. Rows
            with a missing value are left out.

        Raises
        ------
        ValueError
            For another type.
        DataError
            For rows that cannot be those of the fit: a column that is not there, unseen levels.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> data = datasets.load("sleepstudy")
        >>> chunks = [data[:100], data[100:]]
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", chunks)
        >>> squares = [(part["resid"] ** 2).sum() for part in fit.stream_residuals(chunks)]
        >>> float(round(sum(squares), 1))
        98881.6
        """
        from .inference.rows.streams import stream_residuals

        return stream_residuals(self, source, type)

    def reliability(self) -> dict[str, pd.DataFrame]:
        """Conditional modes with the errors of their prediction: breeding values, their PEV.

        Returns
        -------
        dict of str to pandas.DataFrame
            Per term, by its label (``"1 | animal"``): levels x columns of the term, each with
            ``mode``; ``se``, the standard deviation of mode minus effect, that of the fixed effects
            included, given the variance parameters (its square is the PEV); and ``reliability``,
            1 - se^2 / (K_ll Cov(b)_jj), the squared correlation of the two. K_ll is 1 + inbreeding
            in a pedigree, and 1 where levels are independent.

        References
        ----------
        Henderson (1975), *Biometrics* 31: 423-447.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (1 | Subject)", datasets.load("sleepstudy"))
        >>> table = fit.reliability()["1 | Subject"]["Intercept"]
        >>> float(table["reliability"].iloc[0].round(3))
        0.883
        """
        return _modes.reliability(self)

    @hinted
    def influence(
        self,
        by: str | None = None,
        *,
        levels: str | Iterable[object] | None = None,
        refine: bool | Literal["full"] = False,
    ) -> pd.DataFrame:
        """What the fixed effects would be without each row, or without each level of a factor.

        Parameters
        ----------
        by : str, optional
            A grouping factor. Default: by row.
        levels : str or sequence, optional
            Levels of `by`, by their labels: which ones to leave out. Default: each.
        refine : {False, True, "full"}
            False: theta and sigma stay as they are, exact in closed form. True: theta moves by one
            Newton step for the deletion. "full": everything is fitted anew from there, as `lmer`
            fits the other rows. One step suffices where a level is a small part of the data; with
            few levels it does not.

        Returns
        -------
        pandas.DataFrame
            By row: ``hat_diag``, the leverage, diagonal of d fitted / d y at given theta; by level:
            ``nobs`` and ``hat_trace``, the sum of the leverages. ``cooks_d``, Cook's distance
            (change' vcov^-1 change / p with the fit's vcov; lme4's by row is another statistic,
            from the leverage). ``dfb_...``, change (fit minus deletion; lme4: the opposite sign)
            of each coefficient over its standard error, with `refine` that of the deletion, which
            then also gives ``sigma``. NaN where a coefficient or a parameter of theta cannot be
            estimated without the rows. "full" also gives ``theta_...`` and ``status``:
            "converged", or why a row has no numbers or not those of an optimum.

        Raises
        ------
        DataError
            For what is not a grouping factor of the model, or a level of it; without rows (a fit
            of a stream).
        FitError
            When so many levels share others that the solves would take hours.
        MemoryError
            When one level has too many rows and random effects in common with others.

        Notes
        -----
        Rows, and levels of factors that are eliminated (the finest, and a chain of factors in
        which it is nested: ``fit.model.storage``), are read off one evaluation: seconds for a
        million rows. Levels of other factors take a solve for each random effect that they share
        with each other: 100 firms of 10,000, with 100,000 workers, take 9 seconds, all of them
        (70,000 workers who moved) five minutes; `levels` chooses.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.influence("Subject")["cooks_d"].nlargest(2).round(3).to_dict()
        {'309': 0.149, '335': 0.129}
        """
        return _influence.influence(self, by, levels, refine)

    def r2(self) -> pd.Series:
        """Marginal and conditional R2 of Nakagawa & Schielzeth (2013) and Johnson (2014).

        Returns
        -------
        pandas.Series
            ``marginal``: share of the variance that the fixed effects explain; ``conditional``:
            the random effects too. The variance of random slopes is the mean over the rows, that
            of the residuals sigma^2 (weight 1); an offset explains nothing. Singular fits too.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.r2().round(3).to_dict()
        {'marginal': 0.279, 'conditional': 0.799}
        """
        return _quality.r2(self)

    @overload
    def predict(
        self, newdata: PandasRows | None = None, *,
        se: Literal[False] = ..., interval: None = ...,
        **options: Unpack[PredictOptions],
    ) -> pd.Series: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: PandasRows | None = None, *,
        se: Literal[True], interval: Literal["confidence", "prediction"] | None = ...,
        **options: Unpack[PredictOptions],
    ) -> pd.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: PandasRows | None = None, *,
        se: bool = ..., interval: Literal["confidence", "prediction"],
        **options: Unpack[PredictOptions],
    ) -> pd.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: PandasRows | None = None, *,
        se: bool, interval: None = ...,
        **options: Unpack[PredictOptions],
    ) -> pd.Series | pd.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: pl.DataFrame, *,
        se: Literal[False] = ..., interval: None = ...,
        **options: Unpack[PredictOptions],
    ) -> pl.Series: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: pl.DataFrame, *,
        se: Literal[True], interval: Literal["confidence", "prediction"] | None = ...,
        **options: Unpack[PredictOptions],
    ) -> pl.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: pl.DataFrame, *,
        se: bool = ..., interval: Literal["confidence", "prediction"],
        **options: Unpack[PredictOptions],
    ) -> pl.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: pl.DataFrame, *,
        se: bool, interval: None = ...,
        **options: Unpack[PredictOptions],
    ) -> pl.Series | pl.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: IntoDataFrame, *,
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
        re_form: Effects | None = "all",
        new_levels: NewLevels = "error",
        offset: Rows | None = None,
        se: bool = False,
        interval: Literal["confidence", "prediction"] | None = None,
        level: float = 0.95,
        ddf: LinearDdf | None = None,
        weights: Rows | None = None,
        vary_left_out: bool = True,
        random_only: bool = False,
        seed: int = 0,
        type: Literal["link", "response"] = "link",
        inverse: Inverse | None = None,
        bias_adjust: bool = False,
    ) -> pd.Series | pd.DataFrame | pl.Series | pl.DataFrame:
        """Predict the response, for the rows of the fit or for new ones.

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
        re_form : {"all", "none"}, list of str, or formula, default "all"
            Random effects to include: all (None is R's NULL), none (the population; also "~0",
            "NA"), those of the named factors, or parts of terms, ``"~(1 | subj)"``.
        new_levels : {"error", "population", "missing", "sample"}, default "error"
            What an unseen level of a grouping factor means: an error, random effects of zero, a
            missing prediction, or effects drawn from their estimated distribution.
        offset : float, array, Series or str, optional
            Offset of the new rows, for fits with the argument ``offset=``: a number, one for each
            row (a Series by its labels), or the name of a column of ``newdata``. An ``offset()``
            term of the formula is computed from ``newdata``.
        se : bool, default False
            Also give standard errors, and the limits of ``interval``.
        interval : {"confidence", "prediction"}, optional
            Limits for what is predicted, x'beta + z'b (the default with ``se=True``), or for a new
            observation there.
        level : float, default 0.95
            Coverage of the interval.
        ddf : {"satterthwaite", "kenward-roger", "kenward-roger-observed", "residual", "z"}
            Of ``re_form="none"``, as for `t_test`. Conditional predictions have no degrees of
            freedom (normal distribution), or the residual ones with "residual".
        weights : float, array, Series or str, optional
            Prior weights of the rows for prediction intervals, given as `offset`. Default: the
            fit's own for its rows; for new ones its column of weights, where the fit's weights
            were a column and ``newdata`` has it, else 1: intervals for an observation of weight 1.
        vary_left_out : bool, default True
            Whether a prediction interval covers the random effects that ``re_form`` leaves out, as
            those of levels drawn anew.
        random_only : bool, default False
            The random effects alone, without fixed effects and offset; no standard errors.
        seed : int, default 0
            Of ``new_levels="sample"``: the same seed gives a level the same effects.
        type : {"link", "response"}
            "response": on the scale of the response itself, where the formula transforms it
            (``log(rt)``, ``-1000 / rt``, ...): predictions and limits are transformed, standard
            errors by the delta method.
        inverse, bias_adjust : optional
            As for ``lmmfast.emmeans``. The variance integrated over is, row by row, that of the
            residual (``weights``), of the random effects that ``re_form`` leaves out and of those
            of unseen levels. Missing, with a warning, where the response has no mean: where 1 / y
            may be of either sign, say.

        Returns
        -------
        pandas.Series
            One value per row; NaN where a predictor is missing, and (with a
            ``RankDeficientWarning``) where linearly dependent columns were dropped and the data
            say nothing about such a row: a cell without data.
        pandas.DataFrame
            With ``se`` or ``interval``: columns ``fit``, ``se``, ``lower`` and ``upper``. Of new
            rows in a polars or pyarrow table both are of that library, missing values null.

        Raises
        ------
        DataError
            If variables or grouping factors are unknown, a level is unseen (and ``new_levels`` is
            "error"), or the fit had an ``offset=`` and none is given.
        FitError
            When so many levels that never occurred together need standard errors that the solves
            would take hours.

        Notes
        -----
        ``se`` is the standard error of x'beta-hat + z'b-hat as an estimate of x'beta + z'b, with z
        the random effects that ``re_form`` asks for (Henderson's mixed-model equations, exact
        given the variance parameters, the covariance of beta-hat and b-hat included). Effects of
        unseen levels (``new_levels="population"``) are in it with their variance. A prediction
        interval has the variance se^2 + sigma^2 / weight, and, with ``vary_left_out``, plus that
        of the random effects that ``re_form`` leaves out; its degrees of freedom are those of the
        confidence interval.

        Conditional standard errors of levels that occurred together are read off one evaluation:
        about a second for a million rows; so are those of any others where the trailing matrix is
        dense. Elsewhere other combinations take a solve for each row, or for each level of the
        smaller factor: 500 pairs of 100,000 workers and 10,000 firms three seconds. With
        ``storage="iterative"`` all of them do.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> new = {"Days": [5], "Subject": ["someone"]}
        >>> float(fit.predict(new, new_levels="population").round(3)[0])
        303.742
        """
        asked = Asked(
            re_form, new_levels, offset, se, interval, level, ddf, weights, vary_left_out,
            random_only, seed, type, inverse, bias_adjust,
        )  # fmt: skip
        found = predictions(self, rows_given(self.design, newdata, X, Z), asked)
        return as_given(newdata, found)  # type: ignore[no-any-return]

    def shrinkage(self) -> pd.DataFrame:
        """Least squares within each level beside the conditional modes.

        Returns
        -------
        pandas.DataFrame
            A row for each level and column of each term: ``group``, ``level``, ``column``, its
            number of ``rows``, ``least_squares`` (of what the fixed effects and the other terms
            leave; missing where the level's rows do not determine it), ``mode`` and ``condsd``.

        Notes
        -----
        Fits of streams and of cross-products have it, too.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.shrinkage().loc[1, ["least_squares", "mode"]].astype(float).round(2).tolist()
        [11.3, 9.2]
        """
        return _shrinkage.shrinkage(self)
