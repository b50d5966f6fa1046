"""What a fit of any kind gives other programs and papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeVar, overload

from ..fit import Fit
from ..given import IntoDataFrame, NewData, PandasRows
from ..typing import Ddf, IntervalMethod, TidyEffects
from .augment import augment
from .columns import Column, StatsmodelsColumn
from .equation import WIDTH, Equation, equation
from .paragraph import Report, report
from .tested import Tested, tested
from .tidy import glance, tidy

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
else:
    from ..late import pandas as pd
    from ..late import polars as pl


Frame = TypeVar("Frame", bound="IntoDataFrame")


class Reported(Fit, Column):
    """The part of a fit that is for other programs and for papers."""

    def tidy(
        self,
        effects: TidyEffects | Sequence[TidyEffects] = ("fixed", "ran_pars"),
        *,
        conf_int: bool = False,
        conf_level: float = 0.95,
        conf_method: IntervalMethod = "wald",
        ddf: Ddf | None = None,
        exponentiate: bool = False,
        scales: Literal["sdcor", "vcov"] = "sdcor",
        **options: object,
    ) -> pd.DataFrame:
        """One row a parameter, with the columns of R's broom.mixed.

        Parameters
        ----------
        effects : {"fixed", "ran_pars", "ran_vals", "ran_coefs"} or several of them
            Fixed effects; standard deviations and correlations (of generalized models also what
            their distribution has); modes of the random effects by level; coefficients by level,
            which are both together. Default: fixed effects and variance parameters.
        conf_int : bool, default False
            Also limits of confidence intervals, of the variance parameters too. Those of modes are
            normal, from their conditional standard deviations; coefficients have none.
        conf_level : float, default 0.95
            Coverage.
        conf_method : {"wald", "profile", "boot"}, default "wald"
            As ``method`` of `conf_int`, which gives the limits.
        ddf : str, optional
            Degrees of freedom of the fixed effects, as for `t_test`.
        exponentiate : bool, default False
            Fixed effects and their limits as exp(estimate): odds ratios, rate ratios; standard
            errors by the delta method. Tests are those of the estimate.
        scales : {"sdcor", "vcov"}, default "sdcor"
            Variance parameters as standard deviations and correlations, or as variances and
            covariances ("var__Days", "cov__Intercept.Days"): errors of variances by the delta
            method, their limits are squares; covariances have neither.
        **options
            More arguments of `conf_int`: ``n``, ``seed``, ... of "boot".

        Returns
        -------
        pandas.DataFrame
            Columns ``effect`` ("fixed", "ran_pars", ...), ``group`` (missing for fixed effects,
            "Residual" for the residuals, "Distribution" for a distribution's own), ``level`` (if
            levels are asked for), ``term``, ``estimate``, ``std.error``, ``statistic``, ``df``
            (where tests are t), ``p.value``, ``conf.low``, ``conf.high`` (if asked for). Terms of
            variance parameters are "sd__Days", "cor__Intercept.Days" and "sd__Observation", the
            residual one. ``std.error`` is missing at bounds and for what is held; see `parameters`.

        Raises
        ------
        ValueError
            For other effects or another method; when the coverage is not between 0.5 and 1.
        FitError
            For random effects of a model for repeated measures, which has none.

        See Also
        --------
        LMMFit.glance : One row of criteria.
        LMMFit.augment : The rows with fitted values and residuals.

        References
        ----------
        Bolker & Robinson, *broom.mixed* (R package), ``tidy.merMod``.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.tidy()[["term", "estimate", "std.error"]].round(2).values.tolist()[:3]
        [['Intercept', 251.41, 6.82], ['Days', 10.47, 1.55], ['sd__Intercept', 24.74, 5.84]]
        """
        how = conf_int, conf_level, conf_method, ddf, exponentiate, scales
        return tidy(self, effects, *how, options)

    def glance(self) -> pd.DataFrame:
        """One row a fit, with the columns of R's broom.mixed.

        Returns
        -------
        pandas.DataFrame
            ``nobs``, ``sigma`` (of linear models), ``logLik``, ``AIC``, ``BIC``, ``REMLcrit`` or
            ``deviance`` (-2 log likelihood), ``df.residual``; and what broom.mixed lacks: ``npar``,
            ``converged`` (whether the optimum is certified) and ``singular``.

        See Also
        --------
        LMMFit.tidy : One row a parameter.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.glance()[["nobs", "REMLcrit"]].round(3).values.tolist()
        [[180.0, 1743.628]]
        """
        return glance(self)

    @overload
    def augment(
        self, data: PandasRows, *, newdata: None = ..., influence: bool = ...,
        type_residuals: str | None = ..., **options: object,
    ) -> pd.DataFrame: ...  # fmt: skip

    @overload
    def augment(
        self, data: Frame, *, newdata: None = ..., influence: bool = ...,
        type_residuals: str | None = ..., **options: object,
    ) -> Frame: ...  # fmt: skip

    @overload
    def augment(
        self, data: None = ..., *, newdata: PandasRows, influence: bool = ...,
        type_residuals: str | None = ..., **options: object,
    ) -> pd.DataFrame: ...  # fmt: skip

    @overload
    def augment(
        self, data: None = ..., *, newdata: Frame, influence: bool = ...,
        type_residuals: str | None = ..., **options: object,
    ) -> Frame: ...  # fmt: skip

    @overload
    def augment(
        self, data: None = ..., *, newdata: None = ..., influence: bool = ...,
        type_residuals: str | None = ..., **options: object,
    ) -> pd.DataFrame | pl.DataFrame: ...  # fmt: skip

    def augment(
        self,
        data: NewData | None = None,
        *,
        newdata: NewData | None = None,
        influence: bool = False,
        type_residuals: str | None = None,
        **options: object,
    ) -> IntoDataFrame:
        """The data with fitted values and residuals, with the columns of R's broom.mixed.

        Parameters
        ----------
        data : data frame or dict of arrays, optional
            The data of the fit, all rows or those used. pandas rows go by their labels, others by
            their order, and their responses are compared. Rows that were not used have missing
            values. Default: the rows used, of the table that the fit was given.
        newdata : data frame or dict of arrays, optional
            Other rows: `predict` gives ``.fitted``.
        influence : bool, default False
            Also ``.hat``, leverages, and ``.cooksd``, Cook's distances as lme4 computes them from
            leverages (those of `influence` are exact changes of the coefficients). Seconds for a
            million rows. Of generalized models ``.cooksd`` alone, from `influence`: a fit a row.
        type_residuals : str, optional
            As ``type`` of `residuals`. Default: "response" of linear models, "deviance" of
            generalized ones ("quantile" of ordered responses).
        **options
            Of `newdata`: arguments of `predict`, ``re_form="none"``, ``se=True``, ...

        Returns
        -------
        data frame
            Of the kind of the data: pandas (with its index), polars, pyarrow, ...; of a dict,
            pandas. Columns of the data and ``.fitted`` (of generalized models the linear
            predictor), ``.resid``, ``.fixed`` (the same without random effects), ``.mu`` (of
            generalized models the mean), ``.offset`` and ``.weights`` (where there are any). Of
            `newdata` ``.fitted`` and, if asked for, ``.se.fit``, ``.lower``, ``.upper``.

        Raises
        ------
        DataError
            When the data are not at hand, or `data` has another number of rows, or other responses.

        See Also
        --------
        LMMFit.predict : New rows, intervals.
        LMMFit.residuals : Other residuals.
        LMMFit.influence : Without each row.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> data = datasets.load("sleepstudy")
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", data)
        >>> fit.augment()[["Reaction", ".fitted", ".resid"]].round(1).values.tolist()[0]
        [249.6, 253.7, -4.1]
        """
        found: IntoDataFrame = augment(self, data, newdata, influence, type_residuals, options)
        return found

    def hypotheses(self) -> Tested:
        """What each coefficient tests: the coding of factors in words.

        Returns
        -------
        Tested
            ``table``; prints as text and HTML. "b - a": the difference of two levels' means;
            "a - mean of all"; "(b - a) x (h - g)": a difference of differences; "slope of x: b -
            a": a difference of slopes. Coefficients of variables that also interact with others
            are those at one level of these, at zero, or at their mean: that is ``where``.

        Raises
        ------
        DataError
            For a model from arrays.

        See Also
        --------
        lmmfast.hypotheses : Codings by what coefficients shall test.

        References
        ----------
        Schad, Vasishth, Hohenstein & Kliegl (2020), *Journal of Memory and Language* 110: 104038.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> data = datasets.load("Machines")
        >>> fit = lmer("score ~ Machine + (1 | Worker)", data, contrasts={"Machine": "sum"})
        >>> fit.hypotheses().table["hypothesis"].tolist()
        ['mean', 'A - mean of all', 'B - mean of all']
        """
        return tested(self)

    def equation(
        self, *, numbers: bool = False, short: bool = False, width: int = WIDTH
    ) -> Equation:
        """The model in LaTeX.

        Parameters
        ----------
        numbers : bool, default False
            Estimates in place of symbols, with the digits of the summary.
        short : bool, default False
            Random effects of a term with several columns as one vector, their covariance matrix
            by its name; with `numbers` their standard deviations. Terms with more than four columns
            are written so anyway.
        width : int, default 80
            Characters, as they are read, after which a long sum goes on in a new line.

        Returns
        -------
        Equation
            ``str()`` is an ``aligned`` block for within mathematics, ``to_latex()`` an
            ``equation*`` (package amsmath), ``to_markdown()`` has double dollar signs; notebooks
            typeset it. i are rows, j levels of a grouping factor; columns of factors have their
            names in the summary. Dropped columns are left out.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (1 | Subject)", datasets.load("sleepstudy"))
        >>> print(fit.equation(numbers=True).lines[-1])
        \\varepsilon_{i} &\\sim \\mathcal{N}(0,\\, 30.99^2)
        """
        return equation(self, numbers, short, width)

    def report(self, *, ddf: str | None = None) -> Report:
        """A paragraph for the methods section: how the model was fitted, and of what.

        Parameters
        ----------
        ddf : str, optional
            Degrees of freedom of the tests that are reported, as for `t_test`.

        Returns
        -------
        Report
            ``sentences``: model, formula, estimation and software; random effects; weights, offset
            and structures; what coefficients of factors compare; observations, levels and rows left
            out, by variable; how sure the optimum is; whether the fit is singular; the tests.
            ``str()`` is plain text, ``to_markdown()`` and ``to_latex()`` set the formula as code.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.report().sentences[1]
        'Random effects: intercept and Days by Subject (18 levels), correlated.'
        """
        return report(self, ddf)

    def to_statsmodels(self, *, ddf: str | None = None) -> StatsmodelsColumn:
        """This fit as statsmodels' tables take results: ``summary_col([fit.to_statsmodels()])``.

        Parameters
        ----------
        ddf : str, optional
            Degrees of freedom of tests and intervals, as for `t_test`.

        Returns
        -------
        StatsmodelsColumn
            ``params``, ``bse``, ``tvalues``, ``pvalues``, ``conf_int(alpha)``, ``model``: of the
            fixed effects.

        See Also
        --------
        lmmfast.mixedlm : Fits whose results are statsmodels' throughout.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.to_statsmodels().conf_int(0.05).round(2).values.tolist()
        [[237.01, 265.8], [7.21, 13.73]]
        """
        return StatsmodelsColumn(self, ddf)
