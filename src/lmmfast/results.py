"""LMMFit: one frozen fit, with statsmodels' names where it has one and lme4's where it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from numpy.typing import ArrayLike

from . import summary as _summary
from .data.design import Given
from .engine.estimates import Evaluation
from .engine.options import MAX_EVALS, Options
from .given import Data, Rows
from .hints import hinted
from .inference.ddf import coverage
from .inference.intervals import confidence as _intervals
from .inference.intervals.profile import Profile
from .inference.selection import update as _update
from .inference.selection.update import AS_BEFORE, AsBefore
from .labelled import Labelled
from .resampled import Resampled
from .saved.mixin import Saved
from .spatial import Spatial
from .tables import Summary
from .typing import (
    BootstrapLimits,
    Coding,
    Held,
    IntervalMethod,
    LinearDdf,
    ParameterNames,
    Related,
)

if TYPE_CHECKING:
    import pandas as pd

    from .inference.means.marginal import Marginal
else:
    from .late import Marginal
    from .late import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class LMMFit(Labelled, Resampled, Spatial, Saved):
    """A fitted linear mixed model.

    Everything is labelled with pandas where it has names; the bare arrays are in ``estimates``,
    and cannot be changed.
    A singular fit is a normal result: every method works on it. Fixed-effect columns that depend
    linearly on others were dropped: they are missing (NaN) in ``params``, ``bse`` and the like.

    Parameters
    ----------
    estimates : Estimates
        The numbers, as arrays in the user's units and coding.
    design : Design
        Response, columns, grouping factors and the recipe that encodes new data.
    model : LMM
        The machine that made the fit; it can evaluate the objective elsewhere and refit.

    See Also
    --------
    lmmfast.anova : Tables of terms, comparison of models; also ``drop1`` and ``ranova``.
    lmmfast.emmeans : Marginal means and contrasts.
    lmmfast.simplify : The way from a singular fit to one that is not.

    Examples
    --------
    >>> from lmmfast import datasets, lmer
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> fit.params.round(3).to_dict()
    {'Intercept': 251.405, 'Days': 10.467}
    """

    @hinted
    def conf_int(
        self,
        level: float = 0.95,
        *,
        method: IntervalMethod = "wald",
        parameters: ParameterNames = "fixed",
        ddf: LinearDdf | None = None,
        alpha: float | None = None,
        n: int = 1000,
        seed: int | None = None,
        kind: BootstrapLimits = "percentile",
        threads: int = 1,
    ) -> pd.DataFrame:
        """Confidence intervals of the parameters.

        Parameters
        ----------
        level : float, default 0.95
            Coverage, at least 0.5.
        method : {"wald", "profile", "boot"}, default "wald"
            Wald: fixed effects with t quantiles, standard deviations symmetric on the logarithmic
            scale, correlations on Fisher's; NaN for what lies on its boundary. Profile: from the
            profile likelihood, see `profile`; that of the deviance, also for REML fits, as lme4's.
            Boot: from `n` parametric replicates, see `bootstrap`.
        parameters : {"fixed", "random", "all"} or list of str, default "fixed"
            Random: standard deviations, correlations and sigma. Names are the row names, for
            example "sd(Days | Subject)", "cor(Intercept, Days | Subject)", "sigma".
        ddf : {"satterthwaite", "kenward-roger", "kenward-roger-observed", "residual", "z"}
            Wald intervals of fixed effects: as for `t_test`.
        alpha : float, optional
            statsmodels' way to say it: ``alpha=0.05`` for ``level=0.95``.
        n, seed, threads : optional
            "boot": as for `bootstrap`.
        kind : {"percentile", "basic", "normal", "studentized", "bca"}
            "boot": as for `Bootstrap.conf_int`.

        Returns
        -------
        pandas.DataFrame
            Columns ``lower`` and ``upper``, one row per parameter.

        Raises
        ------
        ValueError
            If ``level`` is not strictly between 0 and 1, or a name is not known.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.conf_int(method="profile", parameters=["sigma", "Days"]).round(3)
                lower   upper
        sigma  22.898  28.858
        Days    7.359  13.576
        """
        level = coverage(level, alpha)
        if method != "boot":
            return _intervals.conf_int(self, level, method, parameters, ddf)
        boot = self.bootstrap(n, seed, threads=threads)
        return boot.conf_int(level, kind=kind, parameters=parameters)

    @hinted
    def profile(
        self, which: ParameterNames | None = None, level: float = 0.99, *, reml: bool = False
    ) -> Profile:
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

    def to_marginaleffects(self, ddf: Literal["z", "residual", "kenward-roger"] = "z") -> Marginal:
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

    # ---- again, and on paper --------------------------------------------------------------------

    @hinted
    def update(
        self,
        formula: str | None = None,
        data: Data | AsBefore = AS_BEFORE,
        *,
        reml: bool | None = None,
        weights: Rows | AsBefore | None = AS_BEFORE,
        offset: Rows | AsBefore | None = AS_BEFORE,
        contrasts: Mapping[str, Coding] | AsBefore | None = AS_BEFORE,
        relationship: Mapping[str, Related] | AsBefore | None = AS_BEFORE,
        start: ArrayLike | None = None,
        verbose: bool = False,
        callback: Callable[[Evaluation], object] | None = None,
        max_seconds: float | None = None,
        max_evals: int = MAX_EVALS,
        starts: int = 0,
        fixed: Mapping[str, Held] | AsBefore | None = AS_BEFORE,
        dispersion: str | AsBefore | None = AS_BEFORE,
        residual: str | AsBefore | None = AS_BEFORE,
    ) -> LMMFit:
        """The fit of a changed model: R's ``update``.

        Parameters
        ----------
        formula : str, optional
            What changes, in R's language: ``". ~ . - x + (1 | item)"``, ``"log(.) ~ ."``,
            ``"~ . * z"``. On the left ``.`` is the response, on the right all terms. Random terms
            are taken out by what they mean: ``- (1 + x | g)`` takes out ``(x | g)``; in products
            and functions ``.`` is the fixed part. What is taken out and is not there gives a
            warning. Default: the same formula.
        data : table or source, optional
            As for `lmmfast.lmer`. Default: the object that the fit was given, as it is now, which
            the fit refers to (but does not hold in a pickle): rows that were left out for a
            variable that is gone come back, as in R. A warning tells when values have changed.
        reml : bool, optional
            Default: as before.
        weights, offset, contrasts, relationship, dispersion, residual : optional
            As for `lmmfast.lmer`; None for none. Default: as before.
        start, verbose, callback, max_seconds, max_evals, starts : optional
            As for `lmmfast.lmer`. Storage and threads are as before.
        fixed : dict, optional
            As for `lmmfast.lmer`; None: nothing is held. Default: what was held or tied, as far as
            the changed model has these parameters.

        Returns
        -------
        LMMFit

        Raises
        ------
        FormulaError
            When the change cannot be read, or no random term is left.
        DataError
            When the data are not known (a fit of cross-products, made by `refit` or unpickled), or
            values given as weights or offset are of other rows than new data.
        FitError
            For fits of `mixedlm` and of arrays.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> fit.update(". ~ . - (Days | Subject) + (1 | Subject)", reml=False).formula
        'Reaction ~ Days + (1 | Subject)'
        """
        given = Given(data, weights, offset, contrasts, relationship, dispersion, residual)
        reml = self.reml if reml is None else reml
        options = Options(reml, start, verbose, callback, max_seconds, max_evals, starts)
        return _update.update(self, formula, given, options, fixed)

    @hinted
    def summary(self, *, correlation: bool | None = None, ddf: LinearDdf | None = None) -> Summary:
        """Tables as lme4 prints them; ``print(fit.summary())``, or HTML in a notebook.

        Parameters
        ----------
        correlation : bool, optional
            Show the correlations of the fixed effects. Default: when there are 2 to 8 of them.
        ddf : {"satterthwaite", "kenward-roger", "kenward-roger-observed", "residual", "z"}
            Degrees of freedom of the tests, as for `t_test`. On singular fits the two may differ
            much: Satterthwaite's holds what is zero at zero, Kenward and Roger's does not.

        Returns
        -------
        Summary
            Prints as text, in notebooks as HTML.
        """
        return _summary.summarize(self, correlation, ddf)
