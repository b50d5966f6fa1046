"""LMMFit: one frozen fit, with statsmodels' names where it has one and lme4's where it does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

from . import summary as _summary
from .inference.hypotheses import tests as _tests
from .inference.intervals import confidence as _intervals
from .inference.intervals import variance_errors as _variance_errors
from .inference.rows import influence as _influence
from .inference.rows import predict as _predict
from .inference.rows import quality as _quality
from .inference.rows import residuals as _residuals
from .inference.selection import singular as _singular
from .labelled import Labelled

if TYPE_CHECKING:
    import pandas as pd

    from .inference.intervals.profile import Profile
    from .inference.means.emmeans import EMMeans
    from .inference.means.marginal import Marginal
    from .inference.wald import TTest, WaldTest
    from .tables import Summary

__all__ = ["LMMFit"]


@dataclass(frozen=True, eq=False, repr=False)
class LMMFit(Labelled):
    """A fitted linear mixed model.

    Everything is labelled with pandas where it has names; the bare arrays are in ``estimates``,
    and cannot be changed.
    A singular fit is a normal result: every method works on it. Fixed-effect columns that depend
    linearly on others were dropped: they are missing (NaN) in ``params``, ``bse`` and the like.

    See Also
    --------
    lmmfast.anova : tables of terms, comparison of models; also ``drop1`` and ``ranova``.
    lmmfast.emmeans : marginal means and contrasts.
    lmmfast.simplify : the way from a singular fit to one that is not.

    Parameters
    ----------
    estimates : Estimates
        The numbers, as arrays in the user's units and coding.
    design : Design
        Response, columns, grouping factors and the recipe that encodes new data.
    model : LMM
        The machine that made the fit; it can evaluate the objective elsewhere and refit.

    Examples
    --------
    >>> from lmmfast import datasets, lmer
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> fit.params.round(3).to_dict()
    {'Intercept': 251.405, 'Days': 10.467}
    """

    # ---- fixed effects --------------------------------------------------------------------------

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of the fixed effects, t with Satterthwaite degrees of freedom."""
        return self._by_name(self.coef_test().pvalue, "pvalues")

    @property
    def df(self) -> pd.Series:
        """Satterthwaite degrees of freedom of the fixed effects."""
        return self._by_name(self.coef_test().df_denom, "df")

    def conf_int(
        self,
        level: float = 0.95,
        *,
        method: str = "wald",
        parameters: Any = "fixed",
        ddf: str = "satterthwaite",
    ) -> pd.DataFrame:
        """Confidence intervals of the parameters.

        Parameters
        ----------
        level : float, default 0.95
            Coverage (not statsmodels' alpha), at least 0.5.
        method : {"wald", "profile"}, default "wald"
            Wald: fixed effects with t quantiles, standard deviations symmetric on the logarithmic
            scale, correlations on Fisher's; NaN for what lies on its boundary. Profile: from the
            profile likelihood, see `profile`; that of the deviance, also for REML fits, as lme4's.
        parameters : {"fixed", "random", "all"} or list of str, default "fixed"
            Random: standard deviations, correlations and sigma. Names are the row names, for
            example "sd(Days | Subject)", "cor(Intercept, Days | Subject)", "sigma".
        ddf : {"satterthwaite", "kenward-roger", "residual", "z"}
            Wald intervals of fixed effects: as for `t_test`.

        Returns
        -------
        pandas.DataFrame
            Columns ``lower`` and ``upper``, one row per parameter.

        Raises
        ------
        ValueError
            If ``level`` is not strictly between 0 and 1, or a name is not known.
        NotImplementedError
            For "boot".

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.conf_int(method="profile", parameters=["sigma", "Days"]).round(3)
                lower   upper
        sigma  22.898  28.858
        Days    7.359  13.576
        """
        return _intervals.conf_int(self, level, method, parameters, ddf)

    def profile(self, which: Any = None, level: float = 0.99, *, reml: bool = False) -> Profile:
        """Profile likelihood: the criterion at values of a parameter, the others at their best.

        Parameters
        ----------
        which : {"fixed", "random", "all"} or list of str, optional
            As ``parameters`` of `conf_int`. Default: all.
        level : float, default 0.99
            Coverage of the intervals to whose ends the profiles are followed.
        reml : bool, default False
            Profile the REML criterion, which only the variance parameters have, instead of the
            deviance. The deviance of a REML fit is that of the model's fit by maximum likelihood,
            as in lme4.

        Returns
        -------
        Profile
            ``conf_int()``, ``frame``, ``plot()``.

        Raises
        ------
        ValueError
            If ``level`` is not strictly between 0 and 1, a name is not known, or fixed effects are
            asked for with ``reml=True``.
        """
        from .inference.intervals.profile import profile

        return profile(self, which, level, reml)

    def coef_test(self, *, ddf: str = "satterthwaite") -> TTest:
        """Tests of every coefficient against zero; see `t_test`."""
        return _tests.coef_test(self, ddf)

    def t_test(self, L: Any, *, ddf: str = "satterthwaite") -> TTest:
        """Tests of linear hypotheses L beta = q on the fixed effects, one by one.

        Parameters
        ----------
        L : array, str, dict, DataFrame or (array, values)
            Hypotheses: rows of p weights, text such as ``"x1 = x2, x3 = 0"``, weights by name.
        ddf : {"satterthwaite", "kenward-roger", "residual", "z"}
            Degrees of freedom: Satterthwaite's (as lmerTest), Kenward and Roger's (1997) with
            their adjusted covariance, rows minus rank, or infinitely many.

        Returns
        -------
        TTest
            ``effect``, ``sd``, ``tvalue``, ``df_denom``, ``pvalue``, ``conf_int()``,
            ``summary_frame()``.

        Raises
        ------
        ValueError
            When a hypothesis cannot be read or has another number of columns.
        FitError
            Kenward-Roger for a fit by maximum likelihood.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> test = fit.t_test("Days = 10", ddf="kenward-roger")
        >>> float(test.tvalue[0].round(3)), float(test.df_denom[0].round(2))
        (0.302, 17.0)
        """
        return _tests.t_test(self, L, ddf)

    def f_test(self, L: Any, *, ddf: str = "satterthwaite") -> WaldTest:
        """Joint test of linear hypotheses L beta = q on the fixed effects.

        Parameters
        ----------
        L : array, str, dict, DataFrame or (array, values)
            As for `t_test`.
        ddf : {"satterthwaite", "kenward-roger", "residual", "z"}
            As for `t_test`; "z" makes it a chi-squared test.

        Returns
        -------
        WaldTest
            ``fvalue``, ``df_num``, ``df_denom``, ``pvalue``, ``summary_frame()``.
        """
        return _tests.f_test(self, L, ddf)

    def emmeans(self, specs: str | Sequence[str], **options: Any) -> EMMeans:
        """Estimated marginal means, and contrasts among them; see `lmmfast.emmeans`."""
        from .inference.means.emmeans import emmeans

        return emmeans(self, specs, **options)

    def to_marginaleffects(self, ddf: str = "z") -> Marginal:
        """This fit as the package marginaleffects takes models.

        Predictions are those of the population (``re_form="none"``). marginaleffects computes
        standard errors of averaged slopes by differences with steps of 1.5e-8 times a coefficient,
        which can cost all but one or two digits where coefficients are small; ``eps_vcov=1.0`` is
        exact for predictions, differences and slopes, because the model is linear.

        Parameters
        ----------
        ddf : {"z", "residual", "kenward-roger"}
            Reference distribution: normal, t with the residual degrees of freedom, or normal with
            Kenward and Roger's covariance (marginaleffects has one number of degrees of freedom
            for all).

        Returns
        -------
        Marginal
            A ``marginaleffects.classes.ModelAbstract``:
            ``avg_slopes(fit.to_marginaleffects(), eps_vcov=1.0)``.

        Raises
        ------
        ImportError
            Without marginaleffects: ``pip install 'lmmfast[effects]'``.
        """
        from .inference.means.marginal import Marginal

        return Marginal(self, ddf)

    # ---- random effects -------------------------------------------------------------------------

    def varcorr_se(self) -> pd.DataFrame:
        """Standard deviations and correlations of the random effects with standard errors.

        Returns
        -------
        pandas.DataFrame
            ``varcorr`` without ``vcov``, and a column ``se``: by the delta method from the exact
            curvature of the criterion. NaN at the boundary (variances of zero, correlations of
            one) and for what is not identified. Standard errors of variance parameters are rough
            guides: their distributions are skewed.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.varcorr_se()[["sdcor", "se"]].round(2).to_numpy().tolist()
        [[24.74, 5.84], [5.92, 1.25], [0.07, 0.33], [25.59, 1.51]]
        """
        return _variance_errors.varcorr_se(self)

    def vcov_theta(self) -> pd.DataFrame:
        """Covariance matrix of theta and sigma, from the exact curvature of the criterion.

        Returns
        -------
        pandas.DataFrame
            Rows and columns by factor and entry: "Subject.Intercept" is on the diagonal of the
            factor T of the relative covariance T T', "Subject.Days.Intercept" below it; last,
            "sigma". NaN for parameters at the boundary, which are held where they are.
        """
        return _variance_errors.vcov_theta(self)

    def rePCA(self) -> _singular.RandomEffectsPCA:
        """Principal components of the random effects of each grouping factor, relative to sigma.

        Components without variance say how many dimensions the data do not support (Bates et al.
        2015, "Parsimonious mixed models").

        Returns
        -------
        RandomEffectsPCA
            ``components`` (``sd``, ``proportion``, ``cumulative``) and ``loadings``, data frames
            by grouping factor; prints as text and HTML. Terms of one factor stand side by side.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.rePCA().components["Subject"]["sd"].round(3).tolist()
        [0.967, 0.231]
        """
        return _singular.random_pca(self)

    def explain_singularity(self) -> _singular.Singularity:
        """What has no variance in a singular fit, how clearly so, and smaller models.

        Returns
        -------
        Singularity
            ``sentences``; ``directions``: every direction without variance, with its score, the
            slope of the criterion in the variance of that direction (over sigma^2), zero or more;
            ``reductions``: smaller models, each fitted and with its formula. Columns without
            variance come first: the model without them is the same, its criterion does not change.
            For perfectly correlated effects: the term without correlations, and without its least
            important column, as Bates et al. (2015) recommend. Formulas mean what they do in
            lmmfast: `||` sets all correlations to zero. Prints as text and HTML.

        See Also
        --------
        lmmfast.simplify : follows these to a fit that is not singular.
        """
        return _singular.explain_singularity(self)

    # ---- rows -----------------------------------------------------------------------------------

    @property
    def fittedvalues(self) -> pd.Series:
        """Fitted values of the rows used (n): fixed effects, conditional modes and offset."""
        return _predict.row_series(self.design, _predict.fitted_of(self), "fittedvalues")

    @property
    def resid(self) -> pd.Series:
        """Response residuals ``y - fittedvalues`` (n), not scaled by the weights."""
        return _predict.row_series(self.design, self.design.y - _predict.fitted_of(self), "resid")

    def residuals(self, type: str = "response") -> pd.Series:
        """Residuals of the rows used (n).

        Parameters
        ----------
        type : {"response", "pearson", "marginal", "scaled"}
            "response": ``y - fittedvalues``, as ``resid``. "pearson": the same times the square
            roots of the weights over sigma (lme4's with ``scaled=TRUE``). "marginal": from the
            fixed effects and the offset alone. "scaled": the marginal ones made independent with
            variance one by the Cholesky factor of their covariance, row by row given those before;
            dense in each set of rows that share random effects.

        Raises
        ------
        ValueError
            For another type.
        MemoryError
            "scaled" when too many rows share random effects.
        """
        return _residuals.residuals(self, type)

    def stream_residuals(self, source: Any, type: str = "response") -> Iterator[pd.DataFrame]:
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

    def influence(
        self, by: str | None = None, *, levels: Any = None, refine: bool | str = False
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
            Newton step for the deletion. "full": it is fitted anew from there. Both set up a model
            for each deletion. One step suffices where a level is a small part of the data; with
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
            estimated without the rows.

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

    def icc(self) -> pd.DataFrame:
        """Intraclass correlations: the share of the variance that lies between groups.

        Returns
        -------
        pandas.DataFrame
            Columns ``adjusted`` (of what the fixed effects leave) and ``unadjusted`` (of all);
            first row "all", all random effects together, then one row per grouping factor.
        """
        return _quality.icc(self)

    def vif(self) -> pd.DataFrame:
        """Variance inflation of the fixed effects by collinearity (Fox & Monette 1992).

        Returns
        -------
        pandas.DataFrame
            One row per term of the formula but the intercept (from arrays: per column): ``gvif``,
            the (generalized) variance inflation factor, ``df``, its columns, and ``per_df``,
            gvif^(1/(2 df)), comparable between terms. As car's ``vif``: from the covariance of the
            estimates. Terms that share variables (interactions) inflate each other by coding
            alone: center predictors first. Without an intercept inflation means little.

        Raises
        ------
        FitError
            When there is nothing besides an intercept.
        """
        return _quality.vif(self)

    @overload
    def predict(
        self, newdata: Any = None, *, re_form: str | Sequence[str] = ..., new_levels: str = ...,
        offset: Any = ..., se: Literal[False] = ..., interval: None = ...,
        level: float = ..., ddf: str = ..., weights: Any = ..., vary_left_out: bool = ...,
    ) -> pd.Series: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: Any = None, *, re_form: str | Sequence[str] = ..., new_levels: str = ...,
        offset: Any = ..., se: Literal[True], interval: str | None = ...,
        level: float = ..., ddf: str = ..., weights: Any = ..., vary_left_out: bool = ...,
    ) -> pd.DataFrame: ...  # fmt: skip

    @overload
    def predict(
        self, newdata: Any = None, *, re_form: str | Sequence[str] = ..., new_levels: str = ...,
        offset: Any = ..., se: bool = ..., interval: str,
        level: float = ..., ddf: str = ..., weights: Any = ..., vary_left_out: bool = ...,
    ) -> pd.DataFrame: ...  # fmt: skip

    def predict(
        self,
        newdata: Any = None,
        *,
        re_form: str | Sequence[str] = "all",
        new_levels: str = "error",
        offset: Any = None,
        se: bool = False,
        interval: str | None = None,
        level: float = 0.95,
        ddf: str = "satterthwaite",
        weights: Any = None,
        vary_left_out: bool = True,
    ) -> pd.Series | pd.DataFrame:
        """Predict the response, for the rows of the fit or for new ones.

        Parameters
        ----------
        newdata : data frame or dict of arrays, optional
            The variables of the formula's right-hand side. Default: the rows of the fit.
        re_form : {"all", "none"} or list of str, default "all"
            Random effects to include: all, none (population), or those of the named factors.
        new_levels : {"error", "population"}, default "error"
            What an unseen level of a grouping factor means: an error, or random effects of zero.
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
        ddf : {"satterthwaite", "kenward-roger", "residual", "z"}
            Of ``re_form="none"``, as for `t_test`. Conditional predictions have no degrees of
            freedom (normal distribution), or the residual ones with "residual".
        weights : float, array, Series or str, optional
            Prior weights of the rows for prediction intervals, given as `offset`. Default: the
            fit's own for its rows; for new ones its column of weights, where the fit's weights
            were a column and ``newdata`` has it, else 1: intervals for an observation of weight 1.
        vary_left_out : bool, default True
            Whether a prediction interval covers the random effects that ``re_form`` leaves out, as
            those of levels drawn anew.

        Returns
        -------
        pandas.Series
            One value per row; NaN where a predictor is missing, and (with a
            ``RankDeficientWarning``) where linearly dependent columns were dropped and the data
            say nothing about such a row: a cell without data.
        pandas.DataFrame
            With ``se`` or ``interval``: columns ``fit``, ``se``, ``lower`` and ``upper``.

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
        about a second for a million rows. Other combinations take a solve for each row, or for
        each level of the smaller factor: 500 pairs of 100,000 workers and 10,000 firms three
        seconds. With ``storage="iterative"`` all of them do.

        Raises
        ------
        DataError
            If variables or grouping factors are unknown, a level is unseen (and ``new_levels`` is
            "error"), or the fit had an ``offset=`` and none is given.
        FitError
            When so many levels that never occurred together need standard errors that the solves
            would take hours.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> new = {"Days": [5], "Subject": ["someone"]}
        >>> float(fit.predict(new, new_levels="population").round(3)[0])
        303.742
        """
        predicted = _predict.predict(self, newdata, re_form, new_levels, offset)
        if not se and interval is None:
            return predicted
        from .inference.rows.prediction_errors import prediction_frame

        return prediction_frame(
            self, predicted, newdata, re_form, interval, level, ddf, weights, vary_left_out
        )

    # ---- again, and on paper --------------------------------------------------------------------

    def summary(self, *, correlation: bool | None = None, ddf: str = "satterthwaite") -> Summary:
        """Tables as lme4 prints them; ``print(fit.summary())``, or HTML in a notebook.

        Parameters
        ----------
        correlation : bool, optional
            Show the correlations of the fixed effects. Default: when there are 2 to 8 of them.
        ddf : {"satterthwaite", "kenward-roger", "residual", "z"}
            Degrees of freedom of the tests, as for `t_test`. On singular fits the two may differ
            much: Satterthwaite's holds what is zero at zero, Kenward and Roger's does not.
        """
        return _summary.summarize(self, correlation, ddf)

    def __repr__(self) -> str:
        return _summary.one_line(self)

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()
