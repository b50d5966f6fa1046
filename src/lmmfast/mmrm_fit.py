"""MMRMFit: one frozen fit of a model for repeated measures, with the names of LMMFit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, overload

import numpy as np
from numpy.typing import ArrayLike

from . import mmrm_summary as _summary
from .data.design import refilled
from .data.visits import RepeatedDesign
from .engine.options import MAX_EVALS, Options
from .engine.repeated import RepeatedEstimates, RepeatedModel, RepeatedPoint
from .errors import FitError
from .given import Data, IntoDataFrame, NewData, PandasRows
from .hints import hinted
from .inference import refits as _refits
from .inference.ddf import check_choice, check_level, coverage
from .inference.hypotheses import tests as _tests
from .inference.intervals import repeated as _intervals
from .inference.rows import linear_checks as _checks
from .inference.rows.checks import Checks
from .inference.wald import TTest
from .labelled import Labelled
from .many import repeated as _simulate
from .many.job import checked_count
from .mmrm_rowwise import RepeatedRows
from .saved.mixin import Saved
from .tables import Summary
from .typing import Ddf, Hypothesis, IntervalMethod, ParameterNames

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from typing_extensions import Self
else:
    from .late import Self
    from .late import pandas as pd
    from .late import polars as pl

NONE = "a model for repeated measures has no random effects"


@dataclass(frozen=True, eq=False, repr=False)
class MMRMFit(Labelled, RepeatedRows, Saved):
    """A fitted mixed model for repeated measures.

    What `LMMFit` has it has by the same names, where it means something here. There are no random
    effects and no residual variance besides the covariance matrices of the visits.

    Parameters
    ----------
    estimates : RepeatedEstimates
        The numbers, as arrays in the user's units and coding.
    design : RepeatedDesign
        Response, columns, visits and subjects, and the recipe that encodes new data.
    model : MMRM
        The machine that made the fit.
    ddf : str
        Degrees of freedom of its tests where none are asked for.

    See Also
    --------
    lmmfast.anova : Tables of terms, tests of nested covariance structures.
    lmmfast.emmeans : Marginal means and contrasts.

    Examples
    --------
    >>> import numpy as np
    >>> from lmmfast import mmrm
    >>> rng = np.random.default_rng(1)
    >>> id, visit = np.repeat(np.arange(40), 3), np.tile(["w1", "w2", "w3"], 40)
    >>> arm = np.where(id % 2, "drug", "placebo")
    >>> y = rng.normal(size=40)[id] + rng.normal(size=120) + (arm == "drug")
    >>> data = {"y": y, "arm": arm, "visit": visit, "id": id}
    >>> fit = mmrm("y ~ arm * visit + us(visit | id)", data)
    >>> fit.covariance().shape
    (3, 3)
    """

    estimates: RepeatedEstimates
    design: RepeatedDesign
    model: RepeatedModel  # type: ignore[assignment]
    ddf: Ddf = "kenward-roger"

    # ---- the model ------------------------------------------------------------------------------

    @property
    def usual_ddf(self) -> Ddf:
        """Degrees of freedom of its tests where none are asked for."""
        kenward = self.ddf.startswith("kenward-roger")
        return "satterthwaite" if kenward and not self.reml else self.ddf

    @property
    def structure(self) -> str:
        """Name of the covariance structure, as the formula has it: "us", "ar1h", ..."""
        return self.design.seen.covariance.structure

    @property
    def n_levels(self) -> dict[str, int]:
        """Number of subjects."""
        visits = self.design.seen
        return {visits.covariance.subject: len(visits.subjects)}

    @property
    def n_params(self) -> int:
        """Number of parameters: kept fixed effects and those of the covariance matrices (lme4's and
        gls's ``df`` of logLik; SAS and mmrm count the latter alone for AIC and BIC by REML). What
        cannot be identified does not count."""
        covariances = len(self.estimates.theta) - len(self.unidentified)
        return int(np.sum(self.estimates.fixed_kept)) + covariances

    @property
    def sigma(self) -> float:
        """There is none: AttributeError says what there is instead."""
        raise AttributeError(
            "a model for repeated measures has no residual standard deviation besides those of its "
            "visits: fit.covariance() and fit.varcorr have these"
        )

    @property
    def scale(self) -> float:
        """1: covariances of the visits are not relative to a residual variance."""
        return 1.0

    @cached_property
    def point(self) -> RepeatedPoint:  # type: ignore[override]
        """The model at the estimates: what inference reads of it is computed once."""
        model: Any = _refits.model_of(self)
        found: RepeatedPoint = model.point(self.theta, self.reml)
        return found

    @hinted
    def refit(self, y: ArrayLike | None = None, *, weights: ArrayLike | None = None) -> Self:
        """The same model fitted to another response or with other weights.

        Parameters
        ----------
        y : (n,) array, or Series, optional
            One value for each row that the fit used, in their order. A Series goes by its labels.
            Default: the fit's response.
        weights : (n,) array, or Series, optional
            Positive; rows as for `y`. Default: the fit's weights.

        Returns
        -------
        MMRMFit

        Raises
        ------
        DataError
            When y or weights have another length, labels of other rows, or values that are not
            finite; when weights are not positive, or one of `y` and `weights` is not given.
        FitError
            When no covariance matrix can be estimated.
        """
        design = refilled(self.design, y, weights)
        model: Any = _refits.model_of_part(self, design)
        return self.remade(model.minimize(Options(self.reml)), design, model)

    # ---- covariance -----------------------------------------------------------------------------

    def covariance(self, group: object = None) -> pd.DataFrame:
        """Covariance matrix of the visits of a subject (of weight 1).

        Parameters
        ----------
        group : optional
            A group of subjects, where the formula has groups: ``us(visit | group / subject)``.

        Returns
        -------
        pandas.DataFrame
            Rows and columns are visits.

        Raises
        ------
        ValueError
            For an unknown group; where there are groups and none is given.
        """
        import pandas as pd

        visits = self.design.seen
        _intervals.check_few(visits)
        names = [str(name) for name in visits.groups]
        if len(names) == 1 and group is None:
            place = 0
        elif str(group) in names and visits.covariance.group is not None:
            place = names.index(str(group))
        else:
            known = ", ".join(map(repr, names)) if len(names) > 1 else "there are no groups"
            raise ValueError(
                f"group must be one of {visits.covariance.group}: {known}; not {group!r}"
            )
        labels = list(visits.labels)
        return pd.DataFrame(self.estimates.Sigma[place], index=labels, columns=labels, copy=True)

    @property
    def varcorr(self) -> pd.DataFrame:
        """Variances and covariances of the visits, as `LMMFit`'s: columns ``group`` (of subjects;
        without groups the name of the subjects' factor), ``var1``, ``var2``, ``vcov``, ``sdcor``.
        """
        return _intervals.varcorr_frame(self)

    def parameters(self) -> pd.DataFrame:
        """Parameters of the covariance structure with standard errors.

        Returns
        -------
        pandas.DataFrame
            Columns ``estimate`` and ``se``, by the delta method from the observed information.
            Standard deviations, correlations ("rho" of structures with one; "rho(k)" at lag k), and
            the range of sp_exp, exp(-distance / range).
        """
        return _intervals.parameters_frame(self)

    def varcorr_se(self) -> pd.DataFrame:
        """As ``parameters()``.

        Returns
        -------
        pandas.DataFrame
            Columns ``estimate`` and ``se``.
        """
        return self.parameters()

    def vcov_theta(self) -> pd.DataFrame:
        """Covariance matrix of theta, as it is optimized, from the exact Hessian.

        Returns
        -------
        pandas.DataFrame
            Rows and columns ``theta1``, ``theta2``, ...
        """
        import pandas as pd

        from .inference.repeated import information_of

        root = information_of(self).root * self.model.per_unit[:, None]
        names = [f"theta{i + 1}" for i in range(len(root))]
        return pd.DataFrame(root @ root.T, index=names, columns=names)

    # ---- tests and intervals --------------------------------------------------------------------

    @hinted
    def t_test(self, L: Hypothesis, *, ddf: Ddf | None = None) -> TTest:
        """Tests of linear hypotheses L beta = q on the fixed effects, one by one.

        Parameters
        ----------
        L : array, str, dict, DataFrame or (array, values)
            As for `LMMFit.t_test`.
        ddf : str, optional
            Degrees of freedom: "kenward-roger", "kenward-roger-linear", "satterthwaite",
            "between-within", "residual" or "z" (infinitely many).
            Kenward and Roger's have their adjusted covariance, from the
            observed information, as SAS; "-linear" leaves out the term of second derivatives of the
            covariance matrix. Default: what the fit was given; of fits by maximum likelihood
            Satterthwaite's in place of Kenward and Roger's.

        Returns
        -------
        TTest
        """
        return _tests.t_test(self, L, ddf)

    @hinted
    def conf_int(
        self,
        level: float = 0.95,
        *,
        method: IntervalMethod = "wald",
        parameters: ParameterNames = "fixed",
        ddf: Ddf | None = None,
        alpha: float | None = None,
        n: int = 1000,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Confidence intervals of the parameters.

        Parameters
        ----------
        level : float, default 0.95
            Coverage, at least 0.5.
        method : {"wald", "profile", "boot"}, default "wald"
            Wald: fixed effects with t quantiles, standard deviations and ranges symmetric on the
            logarithmic scale, correlations on Fisher's. Profile: all values that a likelihood-ratio
            test does not reject. Boot: quantiles of `n` parametric replicates, see `bootstrap`.
        parameters : {"fixed", "random", "all"} or list of str, default "fixed"
            Random: those of the covariance structure, by the names of `parameters`.
        ddf : optional
            Wald intervals of fixed effects: as for `t_test`.
        alpha : float, optional
            statsmodels' way to say it: ``alpha=0.05`` for ``level=0.95``.
        n, seed : optional
            "boot": as for `bootstrap`.

        Returns
        -------
        pandas.DataFrame
            Columns ``lower`` and ``upper``, one row per parameter.

        Raises
        ------
        ValueError
            If ``level`` is not a coverage, or a name is not known.
        """
        from .inference.intervals.repeated_limits import limits

        level = check_level(coverage(level, alpha))
        check_choice("method", method, ("wald", "profile", "boot"))
        return limits(self, level, method, parameters, ddf, n, seed)

    @hinted
    def profile(self, which: ParameterNames | None = None, level: float = 0.99) -> pd.DataFrame:
        """Profile likelihood: parameters at values of zeta, the signed root of what the deviance is
        above its least, the others at their best.

        Parameters
        ----------
        which : {"fixed", "random", "all"} or list of str, optional
            As ``parameters`` of `conf_int`. Default: all.
        level : float, default 0.99
            Coverage of the intervals to whose ends the profiles go.

        Returns
        -------
        pandas.DataFrame
            Columns ``parameter``, ``value``, ``zeta``. The deviance of a REML fit is that of the
            model's fit by maximum likelihood.

        Raises
        ------
        ValueError
            If ``level`` is not a coverage, or a name is not known.
        """
        from .inference.intervals.repeated_limits import profiles

        return profiles(self, which, check_level(level))

    # ---- responses drawn from it ----------------------------------------------------------------

    @hinted
    def check(self, n: int = 100, seed: int = 0) -> Checks:
        """Whether the model could have made its response, by responses drawn from it; as
        `LMMFit.check`. Each response is fitted anew.

        Parameters
        ----------
        n : int, default 100
            Replicates.
        seed : int, default 0
            Of the random numbers; default: a new one, kept in the result.

        Returns
        -------
        Checks
            Prints a verdict a line; ``verdicts``, ``table``, ``plot()``.
        """
        again = _simulate.drawn(self, checked_count(n), seed)
        return _checks.check(self, again, seed, self.refit, "normalized")

    @overload
    def simulate(
        self, n: int = ..., seed: int | None = ..., *,
        newdata: PandasRows | None = ...,
    ) -> pd.DataFrame: ...  # fmt: skip

    @overload
    def simulate(
        self, n: int = ..., seed: int | None = ..., *,
        newdata: pl.DataFrame,
    ) -> pl.DataFrame: ...  # fmt: skip

    @overload
    def simulate(
        self, n: int = ..., seed: int | None = ..., *,
        newdata: IntoDataFrame,
    ) -> Any: ...  # fmt: skip

    @hinted
    def simulate(
        self, n: int = 1, seed: int | None = None, *, newdata: NewData | None = None
    ) -> pd.DataFrame | pl.DataFrame:
        """Responses of the rows used, or of new ones, drawn from the model.

        Parameters
        ----------
        n : int, default 1
            Responses; the i-th is the same for every n.
        seed : int, optional
            From 0 on. Default: a new one each time.
        newdata : table, optional
            Rows to simulate, with the variables of the fixed part, visits and subjects. Its
            subjects are new ones. Default: the rows of the fit.

        Returns
        -------
        pandas.DataFrame
            One row a row, labelled as the data, and one column a response, 0 .. n - 1.

        Raises
        ------
        DataError
            When new rows lack a value, or a subject has a visit twice; when the rows of the fit are
            not in memory.
        """
        return _simulate.simulate(self, n, seed, newdata)

    @hinted
    def bootstrap(
        self,
        n: int = 1000,
        seed: int | None = None,
        *,
        statistic: Callable[[Self], object] | None = None,
    ) -> pd.DataFrame:
        """Replicates of the fit, each to a response that was drawn from it.

        Parameters
        ----------
        n : int, default 1000
            Replicates.
        seed : int, optional
            The same seed gives the same replicates, whatever `n`. Default: a new one each time.
        statistic : callable, optional
            Called with each replicate's fit, it returns a number or a Series. Default: coefficients
            and parameters of the covariance structure.

        Returns
        -------
        pandas.DataFrame
            One row a replicate; missing where its fit failed.
        """
        return _simulate.bootstrapped(self, n, seed, statistic)

    @hinted
    def update(
        self, formula: str | None = None, data: Data | None = None, *, reml: bool | None = None,
        ddf: Ddf | None = None, max_evals: int = MAX_EVALS,
    ) -> MMRMFit:  # fmt: skip
        """The fit of another formula, of other data or by another criterion.

        Parameters
        ----------
        formula : str, optional
            Whole, or a change as R's, ". ~ . - x". Default: the same.
        data : table, optional
            Default: the object that the fit was given.
        reml, ddf : optional
            Default: as before.
        max_evals : int, default 500
            Evaluations of the objective at most.

        Returns
        -------
        MMRMFit

        Raises
        ------
        FitError
            When the data are not known (an unpickled fit).
        """
        from dataclasses import replace

        from .formula.update import updated_repeated
        from .sources.repeated import any_repeated

        given = self.design.given
        if data is None and (given is None or given.data is None):
            raise FitError("the data of this fit are not known: give them, update(..., data)")
        assert given is not None or data is not None
        rest = () if given is None else (given.weights, given.offset, given.contrasts)
        own = given.data if data is None and given is not None else data
        text = self.formula if formula is None else updated_repeated(self.formula, formula)
        design = any_repeated(text, own, *rest)
        model: Any = self.model.with_design(design)
        options = Options(self.reml if reml is None else reml, max_evals=max_evals)
        fit = self.remade(model.minimize(options), design, model)
        return fit if ddf is None else replace(fit, ddf=ddf)

    # ---- what it does not have ------------------------------------------------------------------

    def ranef(self, cond_var: bool = False) -> NoReturn:
        """There are none: FitError.

        Parameters
        ----------
        cond_var : bool, default False
            Not read.

        Raises
        ------
        FitError
            Always: the model has no random effects.
        """
        raise FitError(NONE)

    def coef(self) -> NoReturn:
        """There are no random effects: FitError."""
        raise FitError(f"{NONE}: fit.params has its coefficients")

    def ranef_cov(self) -> NoReturn:
        """There are no random effects: FitError."""
        raise FitError(NONE)

    def rePCA(self) -> NoReturn:
        """There are no random effects: FitError."""
        raise FitError(NONE)

    def icc(self) -> NoReturn:
        """There are no random effects: FitError."""
        raise FitError(f"{NONE}: fit.parameters() has its correlations")

    def explain_singularity(self) -> NoReturn:
        """There are no random effects: FitError."""
        raise FitError(NONE)

    # ---- on paper -------------------------------------------------------------------------------

    @hinted
    def summary(self, *, correlation: bool | None = None, ddf: Ddf | None = None) -> Summary:
        """Tables of the fit; ``print(fit.summary())``, or HTML in a notebook.

        Parameters
        ----------
        correlation : bool, optional
            Show the correlations of the fixed effects. Default: when there are 2 to 8 of them.
        ddf : optional
            As for `t_test`.

        Returns
        -------
        Summary
            Prints as text, in notebooks as HTML.
        """
        return _summary.summarize(self, correlation, ddf)
