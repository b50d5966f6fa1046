"""What a fit of any kind says under names: coefficients and their tests, random effects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import summary as _summary
from .effects import ratios, standard_errors, term_covariance, varcorr_frame
from .hints import attribute_error, hinted
from .inference.hypotheses import tests as _tests
from .inference.intervals import table as _table
from .inference.intervals import variance_errors as _variance_errors
from .inference.means.emmeans import EMMeans, MeansOptions
from .inference.rows import modes as _modes
from .inference.rows import quality as _quality
from .inference.selection import singular as _singular
from .inference.wald import TTest, WaldTest
from .reports.reported import Reported
from .tables import Summary, name_index
from .typing import Ddf, Effects, Hypothesis

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Unpack
else:
    from .late import Unpack
    from .late import pandas as pd


class Labelled(Reported):
    """The part of a fit that has names: those of statsmodels, and of lme4 where it has none."""

    # ---- fixed effects --------------------------------------------------------------------------

    @property
    def params(self) -> pd.Series:
        """Fixed-effect estimates; NaN for dropped columns."""
        return self._by_name(self.estimates.beta, "params")

    @property
    def bse(self) -> pd.Series:
        """Standard errors of the fixed effects; NaN for dropped columns."""
        return self._by_name(standard_errors(self.estimates), "bse")

    @property
    def tvalues(self) -> pd.Series:
        """Estimates over standard errors."""
        return self._by_name(ratios(self.estimates), "tvalues")

    def cov_params(self) -> pd.DataFrame:
        """Covariance matrix of the fixed effects; NaN for dropped columns.

        Returns
        -------
        pandas.DataFrame
            Rows and columns as ``params``.
        """
        import pandas as pd

        names = list(self.design.x_names)
        return pd.DataFrame(self.estimates.vcov, index=names, columns=names, copy=True)

    def _by_name(self, values: np.ndarray, name: str) -> pd.Series:
        import pandas as pd

        return pd.Series(values, index=name_index(self.design.x_names), name=name, copy=True)

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of the fixed effects: t with Satterthwaite degrees of freedom, z in
        generalized models."""
        return self._by_name(self.coef_test().pvalue, "pvalues")

    @property
    def df(self) -> pd.Series:
        """Satterthwaite degrees of freedom of the fixed effects; infinite in generalized models."""
        return self._by_name(self.coef_test().df_denom, "df")

    @hinted
    def coef_test(self, *, ddf: Ddf | None = None) -> TTest:
        """Tests of every coefficient against zero; see `t_test`.

        Parameters
        ----------
        ddf : {"satterthwaite", "kenward-roger", "kenward-roger-observed", "residual", "z"}
            As for `t_test`.

        Returns
        -------
        TTest
            One row a coefficient.
        """
        return _tests.coef_test(self, ddf)

    @hinted
    def t_test(self, L: Hypothesis, *, ddf: Ddf | None = None) -> TTest:
        """Tests of linear hypotheses L beta = q on the fixed effects, one by one.

        Parameters
        ----------
        L : array, str, dict, DataFrame or (array, values)
            Hypotheses: rows of p weights, text such as ``"x1 = x2, x3 = 0"``, weights by name.
        ddf : {"satterthwaite", "kenward-roger", "kenward-roger-observed", "residual", "z"}
            Degrees of freedom: Satterthwaite's (as lmerTest), Kenward and Roger's (1997) with
            their adjusted covariance (from the expected information of the variance parameters, as
            pbkrtest, or from the observed one, as SAS and JMP), rows minus rank, or infinitely
            many. Default: Satterthwaite's; of generalized models "z", which is all they have.

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
            Kenward-Roger for a fit by maximum likelihood; degrees of freedom for a generalized
            model.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> test = fit.t_test("Days = 10", ddf="kenward-roger")
        >>> float(test.tvalue[0].round(3)), float(test.df_denom[0].round(2))
        (0.302, 17.0)
        """
        return _tests.t_test(self, L, ddf)

    @hinted
    def f_test(self, L: Hypothesis, *, ddf: Ddf | None = None) -> WaldTest:
        """Joint test of linear hypotheses L beta = q on the fixed effects.

        Parameters
        ----------
        L : array, str, dict, DataFrame or (array, values)
            As for `t_test`.
        ddf : {"satterthwaite", "kenward-roger", "kenward-roger-observed", "residual", "z"}
            As for `t_test`; "z" makes it a chi-squared test.

        Returns
        -------
        WaldTest
            ``fvalue``, ``df_num``, ``df_denom``, ``pvalue``, ``summary_frame()``.
        """
        return _tests.f_test(self, L, ddf)

    def emmeans(self, specs: str | Sequence[str], **options: Unpack[MeansOptions]) -> EMMeans:
        """Estimated marginal means, and contrasts among them; see `lmmfast.emmeans`.

        Parameters
        ----------
        specs : str or list of str
            Variables whose means are asked for.
        **options : optional
            The other arguments of `lmmfast.emmeans`.

        Returns
        -------
        EMMeans
            Means, and contrasts where they were asked for.
        """
        from .inference.means.emmeans import emmeans

        return emmeans(self, specs, **options)

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

    # ---- random effects -------------------------------------------------------------------------

    @property
    def varcorr(self) -> pd.DataFrame:
        """Variances and covariances of the random effects, as lme4's ``as.data.frame(VarCorr())``.

        Columns ``group``, ``var1``, ``var2``, ``vcov`` (variance or covariance) and ``sdcor``
        (standard deviation or correlation). ``var2`` is None for variances. The last row, group
        ``Residual``, is the residual variance; generalized models have none. Correlations with a
        zero variance are NaN. Of a covariance structure its standard deviations and what its
        correlations are made of: ``var2`` is "rho", "rho 2" (of columns two places apart), "range"
        or "factor 1" (loadings), and ``sdcor`` the value. `covariance` has the matrix.
        """
        return varcorr_frame(self.estimates, self.design, self.family is None)

    @hinted
    def covariance(self, term: str | int | None = None) -> pd.DataFrame:
        """Covariance matrix of the random effects of one level of a term.

        Parameters
        ----------
        term : str or int, optional
            Grouping factor, label ("1 + Days | Subject") or place among the random terms. Default:
            the only term.

        Returns
        -------
        pandas.DataFrame
            k x k, rows and columns named as the term's columns; in units of the response, whatever
            structure the term has.

        Raises
        ------
        ValueError
            When `term` means none of the terms, or several.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.covariance("Subject").round(1).to_numpy().tolist()
        [[612.1, 9.6], [9.6, 35.1]]
        """
        import pandas as pd

        i = self.design.place_of(term)
        names = list(self.design.terms[i].columns)
        return pd.DataFrame(term_covariance(self.estimates, i)[0], index=names, columns=names)

    @hinted
    def ranef(self, cond_var: bool = False) -> dict[str, pd.DataFrame]:
        """Conditional modes of the random effects (BLUPs).

        Parameters
        ----------
        cond_var : bool, default False
            Also give the conditional standard deviations, given the variance parameters.

        Returns
        -------
        dict of str to pandas.DataFrame
            Per grouping factor, in the formula's order, a frame levels x columns; the columns of
            terms with the same factor stand side by side. With ``cond_var=True`` the columns have
            two levels: ``frame["condval"]`` are the modes, ``frame["condsd"]`` their deviations.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> float(round(fit.ranef()["Subject"].loc["308", "Days"], 3))
        9.199
        >>> float(round(fit.ranef(cond_var=True)["Subject"]["condsd"].loc["308", "Days"], 3))
        2.305
        """
        pairs = zip(self.design.terms, self.estimates.b, strict=True)
        modes = self._frames(term.shown(b) for term, b in pairs)
        if not cond_var:
            return modes
        if isinstance(cond_var, str):
            raise TypeError(f"the modes of one factor are fit.ranef()[{cond_var!r}]")
        import pandas as pd

        variances = _modes.conditional_variances(self)
        sd = [self.estimates.sigma * np.sqrt(np.einsum("mkk->mk", block)) for block in variances]
        deviations = self._frames(sd)
        return {
            group: pd.concat({"condval": modes[group], "condsd": deviations[group]}, axis=1)
            for group in modes
        }

    def coef(self) -> dict[str, pd.DataFrame]:
        """Coefficients of each level: fixed effects plus conditional modes.

        Returns
        -------
        dict of str to pandas.DataFrame
            Per grouping factor a frame levels x coefficients; columns of random effects without a
            fixed effect come last.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.coef()["Subject"].loc["308"].round(2).tolist()
        [253.66, 19.67]
        """
        return _modes.coef(self)

    def ranef_cov(self) -> dict[str, np.ndarray]:
        """Conditional covariance matrices of the modes, given the variance parameters.

        Returns
        -------
        dict of str to (m, k, k) array
            Per term, by its label ("1 + Days | Subject"): one matrix a level, as lme4's
            ``ranef(condVar=TRUE)``.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.ranef_cov()["1 + Days | Subject"][0].round(1).tolist()
        [[145.7, -21.4], [-21.4, 5.3]]
        """
        return _modes.ranef_cov(self)

    def _frames(self, blocks: Iterable[np.ndarray]) -> dict[str, pd.DataFrame]:
        import pandas as pd

        parts: dict[str, list[pd.DataFrame]] = {}
        for term, block in zip(self.design.terms, blocks, strict=True):
            index = pd.Index(term.labels, name=term.group)
            frame = pd.DataFrame(block, index=index, columns=list(term.columns), copy=True)
            parts.setdefault(term.group, []).append(frame)
        return {group: pd.concat(frames, axis=1) for group, frames in parts.items()}

    def varcorr_se(self) -> pd.DataFrame:
        """Standard deviations and correlations of the random effects with standard errors.

        Returns
        -------
        pandas.DataFrame
            ``varcorr`` without ``vcov``, and a column ``se``: by the delta method from the
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

    def parameters(self) -> pd.DataFrame:
        """The parameters of the random effects' covariances, with standard errors.

        Returns
        -------
        pandas.DataFrame
            One row a parameter, by its name in `conf_int` and `profile`: "sd(Days | Subject)",
            "cor(Intercept, Days | Subject)"; of covariance structures "rho(times | Subject)", "rho
            2(times | Subject)" (two places apart), "range(x + y | site)" in the units of the
            coordinates, "loading(f[a], 1 | g)"; "sigma", and the parameters of a residual
            structure. Columns ``estimate``, ``se`` (by the delta method from the curvature of the
            criterion, as `varcorr_se`) and ``status``: empty, "at bound" (a standard deviation of
            zero, correlations of one), "not estimable" (a correlation of what does not vary), "not
            identified" (no data tell it from others) or "held".

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.parameters().loc["sd(Days | Subject)", ["estimate", "se"]].round(2).tolist()
        [5.92, 1.25]
        """
        return _table.parameter_table(self)

    def vcov_theta(self) -> pd.DataFrame:
        """Covariance matrix of theta and sigma, from the exact curvature of the criterion.

        Of a generalized model that of theta, from the Hessian of all its parameters.

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
        lmmfast.simplify : Follows these to a fit that is not singular.
        """
        return _singular.explain_singularity(self)

    def icc(self) -> pd.DataFrame:
        """Intraclass correlations: the share of the variance that lies between groups.

        Returns
        -------
        pandas.DataFrame
            Columns ``adjusted`` (of what the fixed effects leave) and ``unadjusted`` (of all);
            first row "all", all random effects together, then one row per grouping factor.
        """
        return _quality.icc(self)

    def partial_fitted(
        self,
        fixed: str | Sequence[str] = "all",
        random: Effects | None = "none",
        *,
        residuals: bool = False,
    ) -> pd.Series:
        """Fitted values of some effects alone, of the rows used.

        Parameters
        ----------
        fixed : {"all", "none"}, str or list of str
            Fixed effects to keep: names of terms ("cond", "cond:x") or coefficients ("Intercept").
        random : as `re_form` of `predict`, default "none"
            Random effects to keep.
        residuals : bool, default False
            Add the residuals: partial residuals, or, with all that is not removed, the response
            without what is (Hohenstein & Kliegl's remef).

        Returns
        -------
        pandas.Series
            The offset is not in it.

        Raises
        ------
        DataError
            For unknown names; without rows (a fit of a stream).

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> float(fit.partial_fitted("Days", residuals=True).iloc[0].round(2))
        -4.1
        """
        return _modes.partial_fitted(self, fixed, random, residuals)

    # ---- on paper -------------------------------------------------------------------------------

    def summary(self, *, correlation: bool | None = None) -> Summary:
        """Tables as lme4 prints them."""
        return _summary.summarize(self, correlation, None)

    if not TYPE_CHECKING:  # type checkers know every attribute

        def __getattr__(self, name: str) -> Any:
            """Names of R and statsmodels are errors that say what to write."""
            if hasattr(type(self), name):  # a property that raised AttributeError: let it
                return object.__getattribute__(self, name)
            raise AttributeError(attribute_error(type(self).__name__, name, dir(type(self))))

    def __repr__(self) -> str:
        return _summary.one_line(self)

    def _repr_html_(self) -> str:
        return str(self.summary()._repr_html_())
