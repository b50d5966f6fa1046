"""Estimated: what a fit has estimated, under statsmodels' names; the base of `MixedLMResults`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..effects import normal_pvalues, term_covariance
from ..results import LMMFit
from .params import MixedLMParams
from .restricted import Restricted
from .stated import Stated
from .terms import Component, is_component
from .uncertainty import covariance_uncertainty

__all__ = ["Estimated"]


class Estimated:
    """Numbers of a fit and their names; `MixedLMResults` has its arguments and attributes."""

    def __init__(
        self,
        model: Stated,
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
        pairs: dict[tuple[int, int], tuple[int, int, int]] = {}
        vcomp: list[tuple[int, int, int] | None] = []
        further: list[tuple[int, int, int] | None] = []
        for part in self._components:
            for term, columns in part.terms:
                if part.kind == "re":
                    for i, row in enumerate(columns):
                        pairs |= {(row, columns[j]): (term, i, j) for j in range(i + 1)}
                elif is_component(part):
                    vcomp.append((term, 0, 0))
                else:
                    full = self.lmm.design.terms[term].structure == "full"
                    size = len(columns)
                    further += [
                        (term, i, j) for i in range(size) for j in range(i + 1) if full or i == j
                    ]
        lower = [pairs.get((i, j)) for i in range(self.k_re) for j in range(i + 1)]
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
        beta = self.lmm.estimates.beta.copy()
        cov_re, vcomp = self._of_groups(self._unscaled), self._of_components(self._unscaled)
        return MixedLMParams.of(beta, cov_re, vcomp)

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

    # ---- groups and names -----------------------------------------------------------------------

    @cached_property
    def _group_sizes(self) -> tuple[int, int, float]:
        """Smallest, largest and mean number of rows of a group."""
        counts = np.bincount(self.model.group_codes)
        return int(counts.min()), int(counts.max()), float(counts.mean())

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
