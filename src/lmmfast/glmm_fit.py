"""GLMMFit: one frozen fit of a generalized model, with the names of LMMFit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from . import summary as _summary
from .data.design import Given, refilled
from .engine.estimates import Evaluation
from .engine.families import Family, find_family
from .engine.generalized import GeneralizedModel
from .engine.generalized_estimates import GeneralizedEstimates
from .engine.modal import ModalPoint
from .engine.options import MAX_EVALS, Options
from .given import Data, IntoDataFrame, NewData, PandasRows, PathLike, Rows
from .glmm_rowwise import GeneralizedRows
from .hints import hinted
from .inference.ddf import coverage
from .inference.intervals import confidence as _intervals
from .inference.intervals.approximation import Approximation
from .inference.intervals.approximation import approximation as _approximation
from .inference.intervals.parameters import natural_extra
from .inference.intervals.profile import Profile
from .inference.rows import checks as _checks
from .inference.rows.checks import Checks
from .inference.rows.given_kind import as_given
from .inference.selection import update as _update
from .inference.selection.update import AS_BEFORE, AsBefore
from .labelled import Labelled
from .many import generalized as _drawn
from .many.job import checked_count
from .many.parameters import Parameters
from .many.streams import Streams
from .resampling import generalized as _bootstrap
from .resampling.bootstrap import Bootstrap
from .saved.mixin import Saved
from .tables import Summary
from .typing import BootstrapLimits, Client, Coding, IntervalMethod, ParameterNames, Related

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from typing_extensions import Self

    from .inference.means.marginal import Marginal
else:
    from .late import Marginal, Self
    from .late import pandas as pd
    from .late import polars as pl


@dataclass(frozen=True, eq=False, repr=False)
class GLMMFit(Labelled, GeneralizedRows, Saved):
    """A fitted generalized linear mixed model.

    What `LMMFit` has it has by the same names, where it means something here: tests are z and
    chi-squared, there is no residual standard deviation, and random effects are on the
    scale of the linear predictor. A singular fit is a normal result: every method works on it.

    Parameters
    ----------
    estimates : GeneralizedEstimates
        The numbers, as arrays in the user's units and coding.
    design : Design
        Response, columns, grouping factors and the recipe that encodes new data.
    model : GLMM
        The machine that made the fit; it can evaluate the deviance elsewhere and refit.

    See Also
    --------
    lmmfast.anova : Tables of terms, likelihood-ratio tests; also ``drop1`` and ``ranova``.
    lmmfast.emmeans : Marginal means and contrasts.

    Examples
    --------
    >>> import numpy as np
    >>> from lmmfast import glmer
    >>> rng = np.random.default_rng(1)
    >>> subj, dose = np.repeat(np.arange(30), 20), np.tile([0.0, 1.0], 300)
    >>> eta = 0.5 + dose + 1.5 * rng.normal(size=30)[subj]
    >>> data = {"hit": rng.random(600) < 1 / (1 + np.exp(-eta)), "dose": dose, "subj": subj}
    >>> fit = glmer("hit ~ dose + (1 | subj)", data)
    >>> bool(fit.pvalues["dose"] < 0.001)
    True

    Of a typical subject, and over all subjects:

    >>> new = {"dose": [0, 1]}
    >>> typical = fit.predict(new, type="response", re_form="none")
    >>> overall = fit.predict(new, type="response", marginal=True)
    >>> bool((abs(overall - 0.5) < abs(typical - 0.5)).all())
    True
    """

    estimates: GeneralizedEstimates
    model: GeneralizedModel  # type: ignore[assignment]

    # ---- the model ------------------------------------------------------------------------------

    @property
    def family(self) -> Family:
        """Distribution and link."""
        return self.model.family

    @property
    def link(self) -> str:
        """Name of the link."""
        return str(self.family.link.name)

    @property
    def n_params(self) -> int:
        """Number of parameters: kept fixed effects, theta and those of the distribution."""
        own = self.estimates
        return int(np.sum(own.fixed_kept)) + own.n_theta + len(own.extra)

    @property
    def sigma(self) -> float:
        """There is none: AttributeError says what there is instead."""
        names = ", ".join(self.family.extra_names)
        raise AttributeError(
            "a generalized model has no residual standard deviation sigma: its random effects have "
            f"fit.varcorr{f', its distribution fit.extra ({names})' * bool(names)}"
        )

    @property
    def scale(self) -> float:
        """Dispersion: phi where the distribution has one, else 1."""
        return float(self.extra["dispersion"]) if "dispersion" in self.extra.index else 1.0

    @property
    def deviance(self) -> float:
        """-2 log likelihood, as ``objective``, all constants kept. The sum of squared deviance
        residuals, which R's ``deviance`` gives for such fits, is another number."""
        return self.objective

    @property
    def extra(self) -> pd.Series:
        """Parameters of the distribution besides the mean: "size" of the negative binomial,
        "dispersion", thresholds of an ordered response; empty for most."""
        import pandas as pd

        values = np.zeros(0)
        if len(self.estimates.extra):
            values = natural_extra(self.estimates, self.family)[0]
        return pd.Series(values, index=list(self.family.extra_names), name="extra", dtype=float)

    @property
    def extra_se(self) -> pd.Series:
        """Standard errors of ``extra``, by the delta method."""
        import pandas as pd

        own = slice(len(self.estimates.theta) + len(self.estimates.beta), None)
        se = np.zeros(0)
        if len(self.estimates.extra):
            J, V = (
                natural_extra(self.estimates, self.family)[1],
                self.estimates.covariance[own, own],
            )
            se = np.sqrt(np.diag(J @ V @ J.T))
        return pd.Series(se, index=list(self.family.extra_names), name="extra_se", dtype=float)

    @property
    def psi(self) -> np.ndarray:
        """All parameters as they were optimized: theta, fixed effects (zero for dropped columns)
        and those of the distribution; ``fit.model.at(psi)`` is the fit there (of a fit by `refit`
        the model has the response of the first one)."""
        own = self.estimates
        return np.concatenate([own.theta, np.where(own.fixed_kept, own.beta, 0.0), own.extra])

    @property
    def thresholds(self) -> pd.Series:
        """Thresholds of an ordered response, by the classes on both sides; else AttributeError."""
        if self.family.response != "ordered":
            raise AttributeError(f"a {self.family.name} response has no thresholds")
        return self.extra.rename("thresholds")

    @property
    def separation(self) -> tuple[str, ...]:
        """Fixed effects without finite estimates: combinations of them separate the responses."""
        found = self.estimates.separation
        return tuple(found.names) if found else ()

    def start_of(self, model: Any, theta: np.ndarray) -> np.ndarray | None:
        """theta with the fixed effects and the distribution of this fit, where these are the
        model's."""
        if model.design.x_names != self.design.x_names:
            return None
        beta = np.where(self.estimates.fixed_kept, self.estimates.beta, 0.0)
        return np.concatenate([theta, beta, self.estimates.extra])

    @cached_property
    def point(self) -> ModalPoint:
        """The model at the estimates: what inference reads of it is computed once."""
        read: ModalPoint | None = self.model.read_before(self)
        if read is not None:
            return read
        model = self.model if self.design is self.model.design else self._remodelled(self.design)
        return ModalPoint(model, self.estimates)

    # ---- intervals ------------------------------------------------------------------------------

    @hinted
    def conf_int(
        self,
        level: float = 0.95,
        *,
        method: IntervalMethod = "wald",
        parameters: ParameterNames = "fixed",
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
            Wald: fixed effects with normal quantiles, standard deviations and parameters of the
            distribution symmetric on the logarithmic scale, correlations on Fisher's; NaN for what
            lies on its boundary. Profile: all values that a likelihood-ratio test does not reject.
            Boot: from `n` parametric replicates, see `bootstrap`.
        parameters : {"fixed", "random", "all"} or list of str, default "fixed"
            Random: standard deviations, correlations and parameters of the distribution. Names are
            the row names, for example "sd(Intercept | herd)", "size".
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
        """
        level = coverage(level, alpha)
        if method != "boot":
            return _intervals.conf_int(self, level, method, parameters, None)
        boot = self.bootstrap(n, seed, threads=threads)
        return boot.conf_int(level, kind=kind, parameters=parameters)

    @hinted
    def profile(self, which: ParameterNames | None = None, level: float = 0.99) -> Profile:
        """Profile likelihood: the deviance at values of a parameter, the others at their best.

        Parameters
        ----------
        which : {"fixed", "random", "all"} or list of str, optional
            As ``parameters`` of `conf_int`. Default: all.
        level : float, default 0.99
            Coverage of the intervals to whose ends the profiles are followed.

        Returns
        -------
        Profile
            ``conf_int()``, ``frame``, ``plot()``.

        Raises
        ------
        ValueError
            If ``level`` is not strictly between 0 and 1, or a name is not known.
        """
        from .inference.intervals.profile import profile

        return profile(self, which, level, False)

    # ---- again, and on paper --------------------------------------------------------------------

    @hinted
    def refit(self, y: ArrayLike | None = None, *, weights: ArrayLike | None = None) -> Self:
        """The same model fitted to another response or with other weights.

        Parameters
        ----------
        y : (n,) array, or Series, optional
            One value for each row that the fit used, in their order, as ``simulate`` gives them: of
            a binomial response successes, of an ordered one places of classes, 0 to K - 1. Or as
            the formula had it: labels of classes, shares of the trials, or (n, 2) successes and
            failures. A Series goes by its labels. Default: the fit's response.
        weights : (n,) array, or Series, optional
            Positive; of binomial counts the trials. Default: the fit's weights.

        Returns
        -------
        The same kind of fit.

        Raises
        ------
        DataError
            When y or weights have another length, labels of other rows, or values that the family
            does not have; when neither is given.
        """
        design = refilled(self.design, y, weights)
        return self.remade(self.model.again(design.sums, start=self.psi), design)

    def _remodelled(self, design: Any) -> Any:
        """The model of another design of the same columns."""
        from .inference.refits import model_of_part

        return model_of_part(self, design)

    @overload
    def simulate(
        self, n: int = ..., seed: int | None = ..., *, re: Literal["new", "fixed"] = ...,
        params: Parameters | Mapping[str, object] | None = ...,
        newdata: PandasRows | None = ...,
    ) -> pd.DataFrame: ...  # fmt: skip

    @overload
    def simulate(
        self, n: int = ..., seed: int | None = ..., *, re: Literal["new", "fixed"] = ...,
        params: Parameters | Mapping[str, object] | None = ...,
        newdata: pl.DataFrame,
    ) -> pl.DataFrame: ...  # fmt: skip

    @overload
    def simulate(
        self, n: int = ..., seed: int | None = ..., *, re: Literal["new", "fixed"] = ...,
        params: Parameters | Mapping[str, object] | None = ...,
        newdata: IntoDataFrame,
    ) -> Any: ...  # fmt: skip

    @hinted
    def simulate(
        self,
        n: int = 1,
        seed: int | None = None,
        *,
        re: Literal["new", "fixed"] = "new",
        params: Parameters | Mapping[str, object] | None = None,
        newdata: NewData | None = None,
    ) -> pd.DataFrame | pl.DataFrame:
        """Responses drawn from the model.

        Parameters
        ----------
        n : int, default 1
            Responses; the i-th is the same for every n.
        seed : int, optional
            From 0 on. Default: a new one each time.
        re : {"new", "fixed"}, default "new"
            New random effects for each response, or the conditional modes of the fit (lme4's
            ``use.u=TRUE``); levels that the fit has not seen get new ones either way.
        params : Parameters or dict, optional
            Assumed fixed effects, standard deviations, correlations and, as ``extra``, parameters
            of the distribution. Default: the estimates.
        newdata : table, optional
            Rows to simulate. Default: those of the fit.

        Returns
        -------
        pandas.DataFrame
            One row a row, labelled as the data, and one column a response, 0 .. n - 1: counts (of
            binomial responses successes), values, or classes 0 .. K - 1.

        Raises
        ------
        ValueError
            For arguments that mean nothing.
        DataError
            When rows of `newdata` lack a value.
        """
        found = _drawn.simulate(self, n, seed, re, params, newdata)
        return as_given(newdata, found)  # type: ignore[no-any-return]

    @hinted
    def bootstrap(
        self,
        n: int = 1000,
        seed: int | None = None,
        *,
        statistic: Callable[[Self], object] | None = None,
        re: Literal["new", "fixed"] = "new",
        threads: int = 1,
        client: Client | None = None,
        checkpoint: PathLike | None = None,
    ) -> Bootstrap:
        """Replicates of the fit, each to a response that was drawn from it.

        Parameters
        ----------
        n : int, default 1000
            Replicates.
        seed : int, optional
            The same seed gives the same replicates, whatever `n`, `threads` and `client`. Default:
            a new one, kept in the result.
        statistic : callable, optional
            Called with each replicate's fit, it returns a number, an array, a Series or a dict; of
            these intervals can be had too. Where it fails, the row says so.
        re : {"new", "fixed"}, default "new"
            As for `simulate`; "fixed" keeps the conditional modes (lme4's ``use.u=TRUE``).
        threads : int, default 1
            Threads that work; the result is identical for any number.
        client : concurrent.futures.Executor or dask.distributed.Client, optional
            Workers in place of threads.
        checkpoint : path, optional
            File of the replicates that are done; the same call with the same file (and a seed) goes
            on from there, also to a larger `n`.

        Returns
        -------
        Bootstrap
            ``conf_int``, ``se``, ``bias``, ``to_frame``.

        Raises
        ------
        ValueError, TypeError
            For arguments that mean nothing.
        """
        how: dict[str, Any] = {"threads": threads, "client": client, "checkpoint": checkpoint}
        return _bootstrap.bootstrap(self, n, seed, statistic, re, **how)

    @hinted
    def check(self, n: int = 250, seed: int = 0) -> Checks:
        """Whether the model could have made its response, by responses drawn from it.

        Dispersion, the distribution of quantile residuals, outliers and, for counts, zeros: each
        statistic of the data beside those of responses that are drawn with new random effects and
        have conditional modes of their own. Residuals given modes are too small, which makes
        chi-squared tests with n - p degrees of freedom miss overdispersion; here both are.

        Parameters
        ----------
        n : int, default 250
            Responses drawn, each of which takes one search for its modes.
        seed : int, default 0
            Of the random numbers; default: a new one, kept in the result.

        Returns
        -------
        Checks
            Prints a verdict a line; ``verdicts``, ``table``, ``simulated``, ``residuals``,
            ``plot()``.

        Raises
        ------
        FitError
            For an ordered response; when the modes of too few responses are found.
        """
        streams, simulator = Streams(seed), _drawn.simulator_of(self)
        return _checks.check(
            self,
            checked_count(n),
            streams.seed,
            lambda first, stop: simulator.draw(streams, first, stop),
            self.linear_predictor.index,
        )

    def approximation(self) -> Approximation:
        """The error of Laplace's approximation, from its next order: what it adds to -2 log
        likelihood, and how far it would move each estimate.

        It takes two evaluations a parameter. What is left after the next order is smaller, but not
        zero where levels have very few rows.

        Returns
        -------
        Approximation
            ``correction``, ``table``, ``largest``, ``exact``, ``advice``.

        Raises
        ------
        FitError
            For fits by quadrature, with the correction, with expected information or by REML.

        References
        ----------
        Shun & McCullagh (1995), *J. R. Statist. Soc. B* 57, 749-760.
        """
        return _approximation(self)

    def to_marginaleffects(self) -> Marginal:
        """This fit as the package marginaleffects takes models.

        Predictions are means of the response at random effects of zero (``re_form="none"``), tests
        z.

        Returns
        -------
        Marginal
            A ``marginaleffects.classes.ModelAbstract``.

        Raises
        ------
        ImportError
            Without marginaleffects: ``pip install 'lmmfast[effects]'``.
        """
        from .inference.means.marginal import Marginal

        return Marginal(self, "z")

    @hinted
    def update(
        self,
        formula: str | None = None,
        data: Data | AsBefore = AS_BEFORE,
        *,
        weights: Rows | AsBefore | None = AS_BEFORE,
        offset: Rows | AsBefore | None = AS_BEFORE,
        contrasts: Mapping[str, Coding] | AsBefore | None = AS_BEFORE,
        family: Family | None = None,
        link: str | None = None,
        nagq: int | None = None,
        information: Literal["observed", "expected"] | None = None,
        accuracy: Literal["laplace", "second-order"] | None = None,
        relationship: Mapping[str, Related] | AsBefore | None = AS_BEFORE,
        reml: bool | None = None,
        start: ArrayLike | Mapping[str, ArrayLike] | None = None,
        verbose: bool = False,
        callback: Callable[[Evaluation], object] | None = None,
        max_seconds: float | None = None,
        max_evals: int = MAX_EVALS,
    ) -> GLMMFit:
        """The fit of a changed model: R's ``update``.

        Parameters
        ----------
        formula : str, optional
            What changes, in R's language: ``". ~ . - x + (1 | item)"``; see `LMMFit.update`.
            Default: the same formula.
        data : table, optional
            As for `lmmfast.glmer`. Default: the object that the fit was given, as it is now.
        weights, offset, contrasts, relationship : optional
            As for `lmmfast.glmer`; None for none. Default: as before.
        family, link, nagq, information, accuracy : optional
            As for `lmmfast.glmer`. Default: as before; the link of another family is its first one.
        reml : bool, optional
            Default: the criterion of the fit.
        start, verbose, callback, max_seconds, max_evals : optional
            As for `lmmfast.glmer`. Priors, storage and threads are as before.

        Returns
        -------
        GLMMFit

        Raises
        ------
        FormulaError
            When the change cannot be read, or no random term is left.
        DataError
            When the data are not known (a fit made by `refit` or unpickled), or values given as
            weights or offset are of other rows than new data.
        FitError
            For fits of arrays.
        """
        given = Given(data, weights, offset, contrasts, relationship)
        reml = self.reml if reml is None else reml
        options = Options(reml, start, verbose, callback, max_seconds, max_evals)
        asked: dict[str, Any] = {"nagq": nagq, "information": information, "accuracy": accuracy}
        other = {name: value for name, value in asked.items() if value is not None}
        if family is not None or link is not None:
            other["family"] = find_family(self.family if family is None else family, link)
        return _update.update(self, formula, given, options, other=other)

    @hinted
    def summary(self, *, correlation: bool | None = None) -> Summary:
        """Tables as lme4 prints them; ``print(fit.summary())``, or HTML in a notebook.

        Parameters
        ----------
        correlation : bool, optional
            Show the correlations of the fixed effects. Default: when there are 2 to 8 of them.

        Returns
        -------
        Summary
            Prints as text, in notebooks as HTML.
        """
        return _summary.summarize(self, correlation, None)
