"""MixedLMResults: a fit under statsmodels' names, and what may be asked of it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError
from ..given import IntoDataFrame, NewData, PathLike
from ..inference.wald import TTest, WaldTest
from ..reports.columns import Column
from ..typing import Hypothesis, TidyEffects
from .estimated import Estimated
from .profile import profile_variance
from .random import RandomEffects, covariance_of_group, effects_of_group, without_data
from .summary import Summary, summarize

if TYPE_CHECKING:
    import pandas as pd

    from .termwise import TermTests
else:
    from ..late import TermTests
    from ..late import pandas as pd


class MixedLMResults(Estimated, Column):
    """A fitted mixed model under statsmodels' names.

    Results carry names (pandas) when the model was made of pandas objects or a formula, else they
    are arrays. p-values and intervals are from the normal distribution.

    Parameters
    ----------
    model : MixedLM
        The model that was fitted.
    fit : LMMFit
        Of `lmmfast.lmer`.
    components : tuple of Component
        What the terms of the fit are for statsmodels.
    hist : list or None
        Evaluations of the fit.
    mask : MixedLMParams or None
        The ``free`` of the fit.

    Attributes
    ----------
    lmm : LMMFit
        The same fit as `lmer` gives it.
    formula_lme4 : str or None
        The model in lme4's syntax, for `lmer`; None when it has none (columns that share a
        variance).
    nobs, k_fe, k_re, k_re2, k_vc : int
        Rows used; numbers of fixed effects, of random columns of the groups, of their variances and
        covariances, and of variance components.
    reml, converged : bool
        Whether the fit maximizes the restricted likelihood; whether the optimum is certified.
    method : {"REML", "ML"}
    use_sqrt : bool
        As given to the model.
    """

    # ---- tests ----------------------------------------------------------------------------------

    def t_test(
        self, r_matrix: Hypothesis, cov_p: ArrayLike | None = None, use_t: bool | None = None
    ) -> TTest:
        """z tests of linear hypotheses on the fixed effects, one by one.

        Parameters
        ----------
        r_matrix : (k, k_fe) array, str or (array, values)
            Hypotheses: rows of weights, or text such as ``"x1 = x2, x3 = 0"``.
        cov_p : (k_fe, k_fe) array, optional
            Another covariance.
        use_t : bool, optional
            True: t with `df_resid` degrees of freedom.
        """
        from ..inference.linear import hypothesis
        from ..inference.wald import t_test

        L, q, labels = hypothesis(r_matrix, self._data.xnames, "r_matrix")
        cov = self.lmm.estimates.vcov if cov_p is None else np.asarray(cov_p)
        df = self.df_resid if use_t else None
        return t_test(L, q, labels, self.lmm.estimates.beta, cov, df)

    def wald_test(
        self,
        r_matrix: Hypothesis,
        cov_p: ArrayLike | None = None,
        use_f: bool = False,
        scalar: bool = True,
    ) -> WaldTest:
        """Joint Wald test of linear hypotheses on the fixed effects.

        Parameters
        ----------
        r_matrix : (k, k_fe) array, str or (array, values)
            Columns for all of `params` may be given: those of variances must be zero.
        cov_p : (k_fe, k_fe) array, optional
            Another covariance.
        use_f : bool, default False
            F with `df_resid` degrees of freedom instead of chi-squared.
        scalar : bool, default True
            Without effect: the statistic is a number.
        """
        from ..inference.linear import hypothesis
        from ..inference.wald import wald_test

        L, q, _ = hypothesis(self._fixed_only(r_matrix), self._data.xnames, "r_matrix")
        cov = self.lmm.estimates.vcov if cov_p is None else np.asarray(cov_p)
        return wald_test(L, q, self.lmm.estimates.beta, cov, self.df_resid if use_f else None)

    def f_test(self, r_matrix: Hypothesis, cov_p: ArrayLike | None = None) -> WaldTest:
        """`wald_test` with F."""
        return self.wald_test(r_matrix, cov_p, use_f=True)

    def wald_test_terms(
        self,
        skip_single: bool = False,
        extra_constraints: Sequence[Hypothesis | tuple[str, ArrayLike]] | None = None,
        combine_terms: Sequence[str] | None = None,
        scalar: bool = True,
    ) -> TermTests:
        """Wald tests of each term of the fixed effects, of each column where there is no formula.

        Parameters
        ----------
        skip_single : bool, default False
            Leave out terms of one column.
        extra_constraints : list, optional
            More hypotheses, as for `wald_test`, or pairs of a name and a matrix.
        combine_terms : list of str, optional
            Parts of names: all terms that contain one are tested together, too.
        scalar : bool, default True
            Without effect: statistics are numbers.

        Returns
        -------
        TermTests
            ``table`` and ``summary_frame()``.
        """
        from .termwise import wald_test_terms

        more = extra_constraints or [], combine_terms or []
        return wald_test_terms(self.lmm.design, self.model.spec, self.wald_test, skip_single, *more)

    def _fixed_only(self, given: Any) -> Any:
        """Hypotheses without the columns of variance parameters, which must be zero."""
        if isinstance(given, tuple) and len(given) == 2 and not isinstance(given[0], str):
            return self._fixed_only(given[0]), given[1]
        whole = isinstance(given, np.ndarray) and given.shape[-1] == len(self._names)
        if isinstance(given, str):
            touched = any(name in given for name in self._names[self.k_fe :])
        else:
            touched = whole and bool(np.any(given[..., self.k_fe :]))
        if touched:
            raise ValueError("hypotheses are about fixed effects: profile_re is for variances")
        return given[..., : self.k_fe] if whole else given

    # ---- random effects -------------------------------------------------------------------------

    @cached_property
    def random_effects(self) -> RandomEffects:
        """Conditional means of the random effects by group: a mapping that can be sliced.

        Variance components come after the groups' own effects, a value for each level within the
        group. Effects of crossed factors are in `ranef`.
        """
        return self._by_group(effects_of_group(self))

    @cached_property
    def random_effects_cov(self) -> RandomEffects:
        """Conditional covariances of `random_effects`, given all parameters."""
        self._need_data("conditional covariances")
        return self._by_group(covariance_of_group(self))

    def _by_group(self, make: Callable[[int], Any]) -> RandomEffects:
        return RandomEffects((label, make(i)) for i, label in enumerate(self.model.group_labels))

    def ranef(self, cond_var: bool = False) -> dict[str, pd.DataFrame]:
        """Conditional modes by grouping factor, as `lmer`'s `ranef`."""
        return self.lmm.ranef(cond_var)

    # ---- rows -----------------------------------------------------------------------------------

    @property
    def fittedvalues(self) -> pd.Series | np.ndarray:
        """Fitted values, random effects included (n)."""
        self._need_data("fitted values")
        return self._rows(self.lmm.fittedvalues)

    @property
    def resid(self) -> pd.Series | np.ndarray:
        """Response minus fitted values (n)."""
        self._need_data("residuals")
        return self._rows(self.lmm.resid)

    def _need_data(self, what: str) -> None:
        if self.lmm.model is None:
            raise DataError(f"the data of these results were removed: {what} need them")

    def _rows(self, series: pd.Series) -> pd.Series | np.ndarray:
        return series if self.model.labelled else series.to_numpy()

    def predict(
        self, exog: NewData | ArrayLike | None = None, transform: bool = True, **kwargs: object
    ) -> pd.Series | np.ndarray:
        """Mean of the response by the fixed effects, as in statsmodels.

        Parameters
        ----------
        exog : data frame, dict or (m, k_fe) array, optional
            New data: the variables of the formula, or (models from arrays, ``transform=False``)
            columns of `exog`. Default: the rows of the fit.
        transform : bool, default True
            Whether `exog` are variables of the formula.
        **kwargs
            ``re_form="all"`` and the like: as ``LMMFit.predict``, with random effects.
        """
        kwargs.setdefault("re_form", "none")
        given: Any = exog
        how: dict[str, Any] = kwargs
        if exog is None:
            self._need_data("predictions of the rows of the fit")
        if exog is None or (transform and self.lmm.design.recipe is not None):
            return self._rows(self.lmm.predict(given, **how))
        if kwargs["re_form"] != "none":
            raise DataError("a model from arrays predicts by its fixed effects only")
        values = self.model.predict(self.lmm.estimates.beta, self._columns_of(exog))
        if not hasattr(given, "iloc"):
            return values
        import pandas as pd

        return pd.Series(values, index=given.index)

    def _columns_of(self, exog: Any) -> np.ndarray:
        """New rows of the fixed-effects columns; those of a frame go by name."""
        names = self._data.xnames
        if hasattr(exog, "columns") and set(names) <= set(map(str, exog.columns)):
            exog = exog[names]
        columns = np.atleast_2d(np.asarray(exog, dtype=float))
        if columns.ndim != 2 or columns.shape[1] != len(names):
            raise DataError(
                f"exog has shape {np.shape(exog)}; it needs {len(names)} columns: "
                f"{', '.join(names)}"
            )
        return columns

    # ---- profile --------------------------------------------------------------------------------

    def profile_re(
        self,
        re_ix: int | str,
        vtype: Literal["re", "vc"],
        num_low: int = 5,
        dist_low: float = 1.0,
        num_high: int = 5,
        dist_high: float = 1.0,
        **fit_kwargs: object,
    ) -> np.ndarray:
        """Profile likelihood of a variance.

        Parameters
        ----------
        re_ix : int or str
            Which random column of the groups (``vtype="re"``), or the name of a component.
        vtype : {"re", "vc"}
        num_low, num_high : int, default 5
            Points below and above the estimate.
        dist_low, dist_high : float, default 1.0
            How far they go, in units of the variance.

        Returns
        -------
        (num_low + num_high + 1, 2) array
            Variances and log likelihoods. As in statsmodels the variance over `scale` is held.

        Raises
        ------
        ValueError
            When `vtype` is none of the two or a variance would be negative.
        """
        self._need_data("profiles")
        return profile_variance(self, re_ix, vtype, (num_low, dist_low), (num_high, dist_high))

    # ---- on paper, and kept ---------------------------------------------------------------------

    def summary(
        self,
        yname: str | None = None,
        xname_fe: Sequence[str] | None = None,
        xname_re: Sequence[str] | None = None,
        title: str | None = None,
        alpha: float = 0.05,
    ) -> Summary:
        """Tables that look like statsmodels'.

        Parameters
        ----------
        yname, title : str, optional
            Name of the response; default: its own.
        xname_fe, xname_re : sequence of str, optional
            Other names for the fixed effects and for the variance parameters.
        alpha : float, default 0.05
            The intervals cover 1 - alpha.
        """
        return summarize(self, yname, xname_fe, xname_re, title, alpha)

    def tidy(
        self,
        effects: TidyEffects | Sequence[TidyEffects] = ("fixed", "ran_pars"),
        **options: object,
    ) -> pd.DataFrame:
        """One row a parameter, as `LMMFit.tidy`; tests and intervals are normal here.

        Parameters
        ----------
        effects, **options : optional
            As for `LMMFit.tidy`.
        """
        how: dict[str, Any] = {"ddf": "z", **options}
        return self.lmm.tidy(effects, **how)

    def glance(self) -> pd.DataFrame:
        """One row a fit, as `LMMFit.glance`."""
        return self.lmm.glance()

    def augment(self, data: NewData | None = None, **options: object) -> IntoDataFrame:
        """The data with fitted values and residuals, as `LMMFit.augment`.

        Parameters
        ----------
        data, **options : optional
            As for `LMMFit.augment`.
        """
        self._need_data("fitted values")
        given: Any = data
        how: dict[str, Any] = options
        found: IntoDataFrame = self.lmm.augment(given, **how)
        return found

    def remove_data(self) -> None:
        """Forget the data: what is left is small and still shows and predicts."""
        without_data(self)

    def save(self, fname: PathLike | IO[bytes], remove_data: bool = False) -> None:
        """Pickle the results to a file name, path or open binary file.

        Parameters
        ----------
        fname : str, path or file
            File to write, a path or an open one.
        remove_data : bool, default False
            Forget the data first.
        """
        if remove_data:
            self.remove_data()
        if not isinstance(fname, (str, os.PathLike)):
            pickle.dump(self, fname)
            return
        with open(fname, "wb") as file:
            pickle.dump(self, file)

    @classmethod
    def load(cls, fname: PathLike | IO[bytes]) -> MixedLMResults:
        """Results that `save` wrote. Open only files that you trust."""
        if not isinstance(fname, (str, os.PathLike)):
            return pickle.load(fname)  # type: ignore[no-any-return]
        with open(fname, "rb") as file:
            return pickle.load(file)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        model = self.formula_lme4 or self.model.endog_names
        return f"<MixedLMResults {model}: {self.method}, n = {self.nobs}, llf {self.lmm.llf:.4f}>"
