"""MixedLMResults: a fit under statsmodels' names."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ..effects import normal_pvalues, term_covariance
from ..errors import DataError, RestrictedLikelihoodWarning, warn
from .summary import Summary, summarize
from .terms import Component, is_component

if TYPE_CHECKING:
    import pandas as pd

    from ..inference.wald import TTest, WaldTest
    from ..results import LMMFit
    from .model import MixedLM
    from .params import MixedLMParams

__all__ = ["MixedLMResults", "RandomEffects", "Restricted"]


class Restricted(np.float64):
    """A criterion of a REML fit, which warns when it meets that of other fixed effects.

    Restricted likelihoods of models with different fixed effects are densities of different data
    (of different error contrasts); only those of maximum likelihood can be compared.
    """

    fixed: tuple[str, ...]

    def __new__(cls, value: float, fixed: tuple[str, ...]) -> Restricted:
        own = super().__new__(cls, value)
        own.fixed = fixed
        return own

    def __reduce__(self) -> Any:
        return Restricted, (float(self), self.fixed)

    def _check(self, other: object) -> np.float64:
        """The plain number; a warning if the other is of another model."""
        if isinstance(other, Restricted) and other.fixed != self.fixed:
            warn(
                RestrictedLikelihoodWarning(
                    "REML likelihoods of models with different fixed effects cannot be compared "
                    "(nor their AIC or BIC): fit both with reml=False for this test"
                )
            )
        return np.float64(self)

    def __neg__(self) -> Restricted:
        return Restricted(-float(self), self.fixed)

    def __mul__(self, other: Any) -> Any:
        scaled = np.float64(self) * other
        return Restricted(scaled, self.fixed) if isinstance(scaled, float) else scaled

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Any:
        return self._check(other) - _plain(other)

    def __lt__(self, other: Any) -> Any:
        return self._check(other) < _plain(other)

    def __gt__(self, other: Any) -> Any:
        return self._check(other) > _plain(other)

    def __le__(self, other: Any) -> Any:
        return self._check(other) <= _plain(other)

    def __ge__(self, other: Any) -> Any:
        return self._check(other) >= _plain(other)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Restricted) else value


class RandomEffects(dict):  # type: ignore[type-arg]
    """Values by group; a slice gives those of the first groups."""

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, slice):
            return super().__getitem__(key)
        return {label: self[label] for label in islice(self, *key.indices(len(self)))}


class MixedLMResults:
    """A fitted mixed model under statsmodels' names.

    Results carry names (pandas) when the model was made of pandas objects or a formula, else they
    are arrays. p-values and intervals are from the normal distribution.

    Parameters
    ----------
    model : MixedLM
    fit : LMMFit
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
        The model in lme4's syntax, for `lmer`.
    """

    def __init__(
        self,
        model: MixedLM,
        fit: LMMFit,
        components: tuple[Component, ...],
        hist: list[Any] | None,
        mask: MixedLMParams | None,
    ) -> None:
        self.model = model
        self.lmm = fit
        self.hist = hist
        self.freepat = mask
        self._components = components
        self._sizes = (model.k_fe, model.k_re, model.k_re2, model.k_vc)

    # ---- the fit --------------------------------------------------------------------------------

    k_constant = 0
    use_t = False
    cov_pen = None

    @property
    def formula_lme4(self) -> str | None:
        """The model in lme4's syntax; None when it has none (columns that share a variance)."""
        return self.model.formula_lme4

    @property
    def reml(self) -> bool:
        """Whether the fit maximizes the restricted likelihood."""
        return self.lmm.reml

    @property
    def method(self) -> str:
        """ "REML" or "ML"."""
        return "REML" if self.reml else "ML"

    @property
    def converged(self) -> bool:
        """Whether the optimum is certified."""
        return self.lmm.converged

    @property
    def nobs(self) -> int:
        """Rows used."""
        return self.lmm.nobs

    @property
    def k_fe(self) -> int:
        """Number of fixed effects."""
        return self._sizes[0]

    @property
    def k_re(self) -> int:
        """Number of random columns of the groups."""
        return self._sizes[1]

    @property
    def k_re2(self) -> int:
        """Number of variances and covariances of the groups' random effects."""
        return self._sizes[2]

    @property
    def k_vc(self) -> int:
        """Number of variance components."""
        return self._sizes[3]

    @property
    def use_sqrt(self) -> bool:
        """As given to the model."""
        return self.model.use_sqrt

    @property
    def df_resid(self) -> int:
        """Rows minus the rank of the fixed effects."""
        return self.nobs - int(np.sum(self.lmm.estimates.fixed_kept))

    @property
    def df_modelwc(self) -> int:
        """Number of parameters, those of the random effects too, without the residual variance."""
        return len(self._names)

    @property
    def llf(self) -> float:
        """Log likelihood (REML: restricted), as lme4's; see `Restricted`."""
        return self._comparable(self.lmm.llf)

    @property
    def aic(self) -> float:
        """Akaike's criterion; from the restricted likelihood for REML, as lme4."""
        return self._comparable(self.lmm.objective + 2 * self.lmm.n_params)

    @property
    def bic(self) -> float:
        """Bayesian criterion with the number of rows, as lme4."""
        return self._comparable(self.lmm.objective + float(np.log(self.nobs)) * self.lmm.n_params)

    def _comparable(self, value: float) -> float:
        return Restricted(value, self.lmm.design.x_names) if self.reml else np.float64(value)

    # ---- variance parameters --------------------------------------------------------------------

    @property
    def scale(self) -> float:
        """Residual variance."""
        return np.float64(self.lmm.scale)

    @cached_property
    def _unscaled(self) -> list[np.ndarray]:
        """T T' of each term."""
        return [T @ T.T for T in self.lmm.estimates.T]

    @cached_property
    def _scaled(self) -> list[np.ndarray]:
        """Covariance of the effects of each term, as `lmer` computes it."""
        estimates = self.lmm.estimates
        return [term_covariance(estimates, i)[0] for i in range(len(estimates.T))]

    def _of_groups(self, covariances: list[np.ndarray]) -> np.ndarray:
        out = np.zeros((self.k_re, self.k_re))
        for part in self._components:
            if part.kind == "re":
                for term, columns in part.terms:
                    out[np.ix_(columns, columns)] = covariances[term]
        return out

    def _of_components(self, covariances: list[np.ndarray]) -> np.ndarray:
        parts = [part for part in self._components if is_component(part)]
        return np.array([covariances[part.terms[0][0]][0, 0] for part in parts])

    @property
    def cov_re_unscaled(self) -> Any:
        """Covariance of the groups' random effects over `scale` (k_re, k_re)."""
        return self._frame(self._of_groups(self._unscaled), self._data.exog_re_names)

    @property
    def cov_re(self) -> Any:
        """Covariance of the groups' random effects (k_re, k_re)."""
        return self._frame(self._of_groups(self._scaled), self._data.exog_re_names)

    @property
    def vcomp(self) -> np.ndarray:
        """Variances of the components (k_vc), named in ``model.data.vcomp_names``."""
        return self._of_components(self._scaled)

    @cached_property
    def _places(self) -> list[tuple[int, int, int] | None]:
        """Term, row and column in its covariance of each variance parameter; None: held at 0."""
        own: dict[tuple[int, int], tuple[int, int, int]] = {}
        vcomp: list[tuple[int, int, int] | None] = []
        further: list[tuple[int, int, int] | None] = []
        for part in self._components:
            for term, columns in part.terms:
                if part.kind == "re":
                    for i, row in enumerate(columns):
                        own |= {(row, columns[j]): (term, i, j) for j in range(i + 1)}
                elif is_component(part):
                    vcomp.append((term, 0, 0))
                else:
                    full = self.lmm.design.terms[term].structure == "full"
                    size = len(columns)
                    further += [
                        (term, i, j) for i in range(size) for j in range(i + 1) if full or i == j
                    ]
        lower = [own.get((i, j)) for i in range(self.k_re) for j in range(i + 1)]
        return [*lower, *vcomp, *further]

    @cached_property
    def _variance_parameters(self) -> np.ndarray:
        """Entries of the covariances over `scale`, in the order of the parameters."""
        return np.array(
            [0.0 if p is None else self._unscaled[p[0]][p[1], p[2]] for p in self._places]
        )

    @cached_property
    def _uncertainty(self) -> tuple[np.ndarray, np.ndarray]:
        """Covariance of the variance parameters over `scale`, and standard errors of the others."""
        from .uncertainty import covariance_uncertainty

        return covariance_uncertainty(self.lmm, self._places)

    # ---- all parameters -------------------------------------------------------------------------

    @property
    def _data(self) -> Any:
        return self.model.data

    @property
    def _names(self) -> list[str]:
        return list(self._data.param_names)

    @property
    def params(self) -> Any:
        """Fixed effects, then variance parameters over `scale`, as statsmodels packs them."""
        return self._series(self._packed.copy(), self._names)

    @cached_property
    def _packed(self) -> np.ndarray:
        return np.concatenate([self.lmm.estimates.beta, self._variance_parameters])

    @property
    def params_object(self) -> MixedLMParams:
        """The same by parts."""
        from .params import MixedLMParams

        beta = self.lmm.estimates.beta.copy()
        own, vcomp = self._of_groups(self._unscaled), self._of_components(self._unscaled)
        return MixedLMParams.of(beta, own, vcomp)

    @property
    def fe_params(self) -> Any:
        """Fixed effects."""
        return self._series(self.lmm.estimates.beta.copy(), self._data.xnames)

    @cached_property
    def _cov(self) -> np.ndarray:
        k = self.k_fe
        out = np.zeros((len(self._names), len(self._names)))
        out[:k, :k] = self.lmm.estimates.vcov
        out[k:, k:] = self._uncertainty[0]
        return out

    def cov_params(self) -> Any:
        """Covariance of `params`.

        Fixed effects as `lmer` gives them; variance parameters from the exact Hessian of the
        criterion, NaN where a variance is zero or the data do not determine it. Both parts are
        asymptotically independent.
        """
        return self._frame(self._cov.copy(), self._names)

    @property
    def normalized_cov_params(self) -> Any:
        """`cov_params` over `scale`."""
        return self._frame(self._cov / self.scale, self._names)

    @property
    def bse(self) -> Any:
        """Standard errors of `params`."""
        return self._series(np.sqrt(np.diag(self._cov)), self._names)

    @property
    def bse_fe(self) -> Any:
        """Standard errors of the fixed effects."""
        return self._series(np.sqrt(np.diag(self.lmm.estimates.vcov)), self._data.xnames)

    @property
    def bse_re(self) -> Any:
        """Standard errors of the variances and covariances as `summary` shows them.

        In the units of `cov_re` and `vcomp`, the uncertainty of `scale` included (statsmodels'
        are not); from the exact Hessian.
        """
        return self._series(self._uncertainty[1].copy(), self._names[self.k_fe :])

    @property
    def tvalues(self) -> Any:
        """`params` over `bse` (z values)."""
        return self._series(self._z.copy(), self._names)

    @cached_property
    def _z(self) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self._packed / np.sqrt(np.diag(self._cov)))

    @property
    def pvalues(self) -> Any:
        """Two-sided p-values of `params`, from the normal distribution."""
        return self._series(normal_pvalues(self._z), self._names)

    def conf_int(self, alpha: float = 0.05, cols: Any = None) -> Any:
        """Wald intervals of `params`, with coverage 1 - alpha; columns 0 (lower) and 1 (upper).

        Parameters
        ----------
        alpha : float, default 0.05
        cols : sequence of int, optional
            Parameters to show. Default: all.
        """
        from scipy.special import ndtri

        if not 0 < alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1, for example 0.05; got {alpha!r}")
        estimate, half = self._packed, ndtri(1 - alpha / 2) * np.sqrt(np.diag(self._cov))
        chosen = np.arange(len(estimate)) if cols is None else np.asarray(cols)
        both = np.column_stack([estimate - half, estimate + half])[chosen]
        if not self.model.labelled:
            return both
        import pandas as pd

        return pd.DataFrame(both, index=[self._names[i] for i in chosen])

    # ---- tests ----------------------------------------------------------------------------------

    def t_test(self, r_matrix: Any, cov_p: Any = None, use_t: bool | None = None) -> TTest:
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
        self, r_matrix: Any, cov_p: Any = None, use_f: bool = False, scalar: bool = True
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
        scalar : bool
            Without effect: the statistic is a number.
        """
        from ..inference.linear import hypothesis
        from ..inference.wald import wald_test

        if isinstance(r_matrix, str) and any(n in r_matrix for n in self._names[self.k_fe :]):
            raise ValueError("hypotheses are about fixed effects: profile_re is for variances")
        L, q, _ = hypothesis(self._fixed_only(r_matrix), self._data.xnames, "r_matrix")
        cov = self.lmm.estimates.vcov if cov_p is None else np.asarray(cov_p)
        return wald_test(L, q, self.lmm.estimates.beta, cov, self.df_resid if use_f else None)

    def f_test(self, r_matrix: Any, cov_p: Any = None) -> WaldTest:
        """`wald_test` with F."""
        return self.wald_test(r_matrix, cov_p, use_f=True)

    def _fixed_only(self, given: Any) -> Any:
        """Hypotheses without the columns of variance parameters, which must be zero."""
        if isinstance(given, tuple) and len(given) == 2 and not isinstance(given[0], str):
            return self._fixed_only(given[0]), given[1]
        array = given if isinstance(given, np.ndarray) else None
        if array is None or array.shape[-1] != len(self._names) or not len(self._places):
            return given
        if np.any(array[..., self.k_fe :]):
            raise ValueError("hypotheses are about fixed effects: profile_re is for variances")
        return array[..., : self.k_fe]

    # ---- random effects -------------------------------------------------------------------------

    @cached_property
    def random_effects(self) -> RandomEffects:
        """Conditional means of the random effects by group: a mapping that can be sliced.

        Variance components come after the groups' own effects, a value for each level within the
        group. Effects of crossed factors are in `ranef`.
        """
        from .random import effects_of_group

        make = effects_of_group(self)
        return RandomEffects((label, make(i)) for i, label in enumerate(self.model.group_labels))

    @cached_property
    def random_effects_cov(self) -> RandomEffects:
        """Conditional covariances of `random_effects`, given all parameters."""
        from .random import covariance_of_group

        self._need_data("conditional covariances")
        make = covariance_of_group(self)
        return RandomEffects((label, make(i)) for i, label in enumerate(self.model.group_labels))

    def ranef(self, cond_var: bool = False) -> dict[str, pd.DataFrame]:
        """Conditional modes by grouping factor, as `lmer`'s `ranef`."""
        return self.lmm.ranef(cond_var)

    # ---- rows -----------------------------------------------------------------------------------

    @property
    def fittedvalues(self) -> Any:
        """Fitted values, random effects included (n)."""
        self._need_data("fitted values")
        return self._rows(self.lmm.fittedvalues)

    @property
    def resid(self) -> Any:
        """Response minus fitted values (n)."""
        self._need_data("residuals")
        return self._rows(self.lmm.resid)

    def _need_data(self, what: str) -> None:
        if self.lmm.model is None:
            raise DataError(f"the data of these results were removed: {what} need them")

    def _rows(self, series: pd.Series) -> Any:
        return series if self.model.labelled else series.to_numpy()

    def predict(self, exog: Any = None, transform: bool = True, **kwargs: Any) -> Any:
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
        recipe = self.lmm.design.recipe
        if exog is None:
            self._need_data("predictions of the rows of the fit")
        if exog is None or (recipe is not None and transform):
            return self._rows(self.lmm.predict(exog, **kwargs))
        if kwargs["re_form"] != "none":
            raise DataError("a model from arrays predicts by its fixed effects only")
        columns = self._columns_of(exog)
        values = self.model.predict(self.lmm.estimates.beta, columns)
        if not hasattr(exog, "iloc"):
            return values
        import pandas as pd

        return pd.Series(values, index=exog.index)

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
        re_ix: Any,
        vtype: str,
        num_low: int = 5,
        dist_low: float = 1.0,
        num_high: int = 5,
        dist_high: float = 1.0,
        **fit_kwargs: Any,
    ) -> np.ndarray:
        """Profile likelihood of a variance.

        Parameters
        ----------
        re_ix : int or str
            Which random column of the groups (``vtype="re"``), or the name of a component.
        vtype : {"re", "vc"}
        num_low, num_high : int
            Points below and above the estimate.
        dist_low, dist_high : float
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
        from .uncertainty import profile_variance

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
        xname_fe, xname_re : sequence of str, optional
            Other names for the fixed effects and for the variance parameters.
        alpha : float, default 0.05
            The intervals cover 1 - alpha.
        """
        return summarize(self, yname, xname_fe, xname_re, title, alpha)

    def remove_data(self) -> None:
        """Forget the data: what is left is small and still shows and predicts."""
        from .random import without_data

        without_data(self)

    def save(self, fname: Any, remove_data: bool = False) -> None:
        """Pickle the results to a file name, path or open binary file.

        Parameters
        ----------
        fname : str, path or file
        remove_data : bool
            Forget the data first.
        """
        if remove_data:
            self.remove_data()
        if hasattr(fname, "write"):
            pickle.dump(self, fname)
            return
        with open(fname, "wb") as file:
            pickle.dump(self, file)

    @classmethod
    def load(cls, fname: Any) -> MixedLMResults:
        """Results that `save` wrote. Open only files that you trust."""
        if hasattr(fname, "read"):
            return pickle.load(fname)  # type: ignore[no-any-return]
        with open(fname, "rb") as file:
            return pickle.load(file)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        model = self.formula_lme4 or self.model.endog_names
        return f"<MixedLMResults {model}: {self.method}, n = {self.nobs}, llf {self.lmm.llf:.4f}>"

    # ---- names ----------------------------------------------------------------------------------

    def _series(self, values: np.ndarray, names: Sequence[str]) -> Any:
        if not self.model.labelled:
            return values
        import pandas as pd

        return pd.Series(values, index=self._data.index(names))

    def _frame(self, values: np.ndarray, names: Sequence[str]) -> Any:
        if not self.model.labelled:
            return values
        import pandas as pd

        index = self._data.index(names)
        return pd.DataFrame(values, index=index, columns=index)
