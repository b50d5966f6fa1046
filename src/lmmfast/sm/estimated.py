"""Estimated: what a fit has estimated, under statsmodels' names; the base of `MixedLMResults`.

Standard errors of variance parameters are here too, and `Restricted`, a criterion of a REML fit.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..effects import normal_pvalues, standard_errors, term_covariance
from ..errors import RestrictedLikelihoodWarning, warn
from ..inference.satterthwaite import Satterthwaite
from ..results import LMMFit
from .params import MixedLMParams
from .stated import Stated
from .terms import Component, group_terms, is_component

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd

Places = list[tuple[int, int, int] | None]


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
        self.model, self.lmm, self._components = model, fit, components
        self.hist, self.freepat = hist, mask
        self.k_fe, self.k_re, self.k_re2, self.k_vc = (
            model.k_fe,
            model.k_re,
            model.k_re2,
            model.k_vc,
        )
        self.formula_lme4, self.use_sqrt = model.formula_lme4, model.use_sqrt
        self.reml, self.converged, self.nobs = fit.reml, fit.converged, fit.nobs
        self.method = "REML" if fit.reml else "ML"

    # ---- the fit --------------------------------------------------------------------------------

    use_t = False
    cov_pen = None

    @property
    def k_constant(self) -> int:
        """1 if a fixed-effects column is constant, else 0."""
        return self.model.k_constant

    @property
    def hessv(self) -> tuple[np.ndarray, bool]:
        """Hessian of the log likelihood at the estimates; whether it is singular."""
        model: Any = self.model
        H, singular = model.hessian(self.params_object)
        return np.asarray(H), bool(singular)

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
        return self._comparable(self.lmm.aic)

    @property
    def bic(self) -> float:
        """Bayesian criterion with the number of rows, as lme4."""
        return self._comparable(self.lmm.bic)

    def _comparable(self, value: float) -> float:
        return Restricted(value, self.lmm.design.x_names) if self.reml else np.float64(value)

    # ---- variance parameters --------------------------------------------------------------------

    @property
    def scale(self) -> float:
        """Residual variance."""
        return np.float64(self.lmm.scale)

    @cached_property
    def _unscaled(self) -> dict[int, np.ndarray]:
        """T T' of each term."""
        return {i: T @ T.T for i, T in enumerate(self.lmm.estimates.T)}

    @cached_property
    def _scaled(self) -> dict[int, np.ndarray]:
        """Covariance of the effects of each term, as `lmer` computes it."""
        return {i: term_covariance(self.lmm.estimates, i)[0] for i in self._unscaled}

    def _of_groups(self, covariances: Mapping[int, np.ndarray]) -> np.ndarray:
        out = np.zeros((self.k_re, self.k_re))
        for term, columns in group_terms(self._components):
            out[np.ix_(columns, columns)] = covariances[term]
        return out

    def _of_components(self, covariances: Mapping[int, np.ndarray]) -> np.ndarray:
        parts = [part for part in self._components if is_component(part)]
        return np.array([covariances[part.terms[0][0]][0, 0] for part in parts])

    @property
    def cov_re_unscaled(self) -> pd.DataFrame | np.ndarray:
        """Covariance of the groups' random effects over `scale` (k_re, k_re)."""
        return self._frame(self._of_groups(self._unscaled), self._data.exog_re_names)

    @property
    def cov_re(self) -> pd.DataFrame | np.ndarray:
        """Covariance of the groups' random effects (k_re, k_re)."""
        return self._frame(self._of_groups(self._scaled), self._data.exog_re_names)

    @property
    def vcomp(self) -> np.ndarray:
        """Variances of the components (k_vc), named in ``model.data.vcomp_names``."""
        return self._of_components(self._scaled)

    @cached_property
    def _places(self) -> Places:
        """Term, row and column in its covariance of each variance parameter; None: held at 0."""
        pairs: dict[tuple[int, int], tuple[int, int, int]] = {}
        vcomp, further = Places(), Places()
        for part in self._components:
            for term, columns in part.terms:
                if part.kind == "re":
                    for i, row in enumerate(columns):
                        pairs |= {(row, columns[j]): (term, i, j) for j in range(i + 1)}
                elif is_component(part):
                    vcomp.append((term, 0, 0))
                else:
                    full = self.lmm.design.terms[term].structure == "full"
                    pair = ((i, j) for i in range(len(columns)) for j in range(i + 1))
                    further += [(term, i, j) for i, j in pair if full or i == j]
        lower = [pairs.get((i, j)) for i in range(self.k_re) for j in range(i + 1)]
        return [*lower, *vcomp, *further]

    @cached_property
    def _variance_parameters(self) -> np.ndarray:
        """Entries of the covariances over `scale`, in the order of the parameters."""
        whole = self._unscaled
        return np.array(
            [0.0 if place is None else whole[place[0]][place[1:]] for place in self._places]
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
    def params(self) -> pd.Series | np.ndarray:
        """Fixed effects, then variance parameters over `scale`, as statsmodels packs them."""
        return self._series(self._packed.copy(), self._names)

    @cached_property
    def _packed(self) -> np.ndarray:
        return np.concatenate([self.lmm.estimates.beta, self._variance_parameters])

    @property
    def params_object(self) -> MixedLMParams:
        """The same by parts."""
        cov_re, vcomp = self._of_groups(self._unscaled), self._of_components(self._unscaled)
        return MixedLMParams.of(self.lmm.estimates.beta.copy(), cov_re, vcomp)

    @property
    def fe_params(self) -> pd.Series | np.ndarray:
        """Fixed effects."""
        return self._series(self.lmm.estimates.beta.copy(), self._data.xnames)

    @cached_property
    def _cov(self) -> np.ndarray:
        k = self.k_fe
        out = np.zeros((len(self._names), len(self._names)))
        out[:k, :k] = self.lmm.estimates.vcov
        out[k:, k:] = self._uncertainty[0]
        return out

    def cov_params(self) -> pd.DataFrame | np.ndarray:
        """Covariance of `params`.

        Fixed effects as `lmer` gives them; variance parameters from the exact Hessian of the
        criterion, NaN where a variance is zero or the data do not determine it. Both parts are
        asymptotically independent.
        """
        return self._frame(self._cov.copy(), self._names)

    @property
    def normalized_cov_params(self) -> pd.DataFrame | np.ndarray:
        """`cov_params` over `scale`."""
        return self._frame(self._cov / self.scale, self._names)

    @property
    def bse(self) -> pd.Series | np.ndarray:
        """Standard errors of `params`."""
        return self._series(np.sqrt(np.diag(self._cov)), self._names)

    @property
    def bse_fe(self) -> pd.Series | np.ndarray:
        """Standard errors of the fixed effects."""
        return self._series(standard_errors(self.lmm.estimates), self._data.xnames)

    @property
    def bse_re(self) -> pd.Series | np.ndarray:
        """Standard errors of the variances and covariances as `summary` shows them.

        In the units of `cov_re` and `vcomp`, the uncertainty of `scale` included (statsmodels'
        are not); from the exact Hessian.
        """
        return self._series(self._uncertainty[1].copy(), self._names[self.k_fe :])

    @property
    def tvalues(self) -> pd.Series | np.ndarray:
        """`params` over `bse` (z values)."""
        return self._series(self._z.copy(), self._names)

    @cached_property
    def _z(self) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self._packed / np.sqrt(np.diag(self._cov)))

    @property
    def pvalues(self) -> pd.Series | np.ndarray:
        """Two-sided p-values of `params`, from the normal distribution."""
        return self._series(normal_pvalues(self._z), self._names)

    def conf_int(
        self, alpha: float = 0.05, cols: Sequence[int] | None = None
    ) -> pd.DataFrame | np.ndarray:
        """Wald intervals of `params`, with coverage 1 - alpha; columns 0 (lower) and 1 (upper).

        Parameters
        ----------
        alpha : float, default 0.05
            One minus the coverage.
        cols : sequence of int, optional
            Parameters to show. Default: all.
        """
        from scipy.special import ndtri

        if not 0 < alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1, for example 0.05; got {alpha!r}")
        estimate, half = self._packed, ndtri(1 - alpha / 2) * np.sqrt(np.diag(self._cov))
        chosen = np.arange(len(estimate)) if cols is None else np.asarray(cols)
        both = np.column_stack([estimate - half, estimate + half])[chosen]
        return self._frame(both, [self._names[i] for i in chosen], range(2))

    # ---- groups and names -----------------------------------------------------------------------

    @cached_property
    def _levels(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """By term of a variance component: its levels ordered by group, and where each begins."""
        model = self.model
        out = {}
        for where in [part.terms[0][0] for part in self._components if part.kind == "vc"]:
            term = model._design.terms[where]
            owner = np.zeros(len(term.levels), np.intp)
            owner[term.codes] = model.group_codes
            order = np.argsort(owner, kind="stable")
            out[where] = order, np.searchsorted(owner[order], np.arange(model.n_groups + 1))
        return out

    def _levels_of(self, term: int, group: int) -> np.ndarray:
        order, starts = self._levels[term]
        return order[starts[group] : starts[group + 1]]

    @cached_property
    def _group_sizes(self) -> tuple[int, int, float]:
        """Smallest, largest and mean number of rows of a group."""
        counts = np.bincount(self.model.group_codes)
        return int(counts.min()), int(counts.max()), float(counts.mean())

    def _series(self, values: np.ndarray, names: Sequence[str]) -> pd.Series | np.ndarray:
        if not self.model.labelled:
            return values
        import pandas as pd

        return pd.Series(values, index=self._data.index(names))

    def _frame(
        self, values: np.ndarray, names: Sequence[str], columns: Any = None
    ) -> pd.DataFrame | np.ndarray:
        if not self.model.labelled:
            return values
        import pandas as pd

        index = self._data.index(names)
        return pd.DataFrame(values, index=index, columns=index if columns is None else columns)


# ---- standard errors of variances ----------------------------------------------------------------


def covariance_uncertainty(fit: LMMFit, places: Places) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of entries of the T T', and standard errors of the same times sigma^2.

    Cov(theta) = 2 / f'' of the profiled criterion f; sigma^2 is r^2(theta) / nu at its best, with
    the further variance 2 sigma^4 / nu of its own (see `satterthwaite`); then the delta method. NaN
    for parameters that are at zero or that the data do not determine.
    """
    moved, entries, lost, known = _movement(fit, places)
    variance = fit.sigma**2
    step = moved @ known.root
    cov = step @ step.T
    both = variance * (moved + np.outer(entries, known.slope)) @ known.root
    se = np.sqrt((both**2).sum(axis=1) + 2 * (variance * entries) ** 2 / known.nu)
    if known.unknown.size:
        size = np.linalg.norm(moved, axis=1)
        lost |= np.linalg.norm(moved @ known.unknown, axis=1) > 1e-6 * size
    held = np.array([place is None for place in places], dtype=bool)
    for where, value in ((lost, np.nan), (held, 0.0)):
        if where.any():
            cov[where], cov[:, where], se[where] = value, value, value
    return cov, se


def _movement(
    fit: LMMFit, places: Places
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Satterthwaite]:
    """Derivatives of the entries in the free parameters, the entries, which of them involve a
    variance of zero, and what is known."""
    known = Satterthwaite(fit)
    first = np.cumsum([0, *(len(term.row) for term in known.terms)])
    J, entries = np.zeros((len(places), first[-1])), np.zeros(len(places))
    at_boundary = np.zeros(len(places), dtype=bool)
    for at, place in enumerate(places):
        if place is None:
            continue
        t, i, j = place
        T, term = fit.estimates.T[t], known.terms[t]
        entries[at] = T[i] @ T[j]
        at_boundary[at] = not (T[i].any() and T[j].any())
        own = np.zeros((len(T), len(term.kept)))
        own[term.kept] = term.C
        moved = own @ term.T
        r, c = term.row, term.column
        J[at, first[t] : first[t + 1]] = own[i, r] * moved[j, c] + own[j, r] * moved[i, c]
    return J @ known.directions, entries, at_boundary, known


# ---- REML criteria -------------------------------------------------------------------------------


def _compared(operation: Callable[[Any, Any], Any]) -> Callable[[Restricted, Any], Any]:
    def method(self: Restricted, other: Any) -> Any:
        return operation(
            self._check(other), float(other) if isinstance(other, Restricted) else other
        )

    return method


class Restricted(np.float64):
    """A criterion of a REML fit, which warns when it meets that of other fixed effects.

    Restricted likelihoods of models with different fixed effects are densities of different data
    (of different error contrasts); only those of maximum likelihood can be compared.
    """

    fixed: tuple[str, ...]

    def __new__(cls, value: float, fixed: tuple[str, ...]) -> Restricted:
        new = super().__new__(cls, value)
        new.fixed = fixed
        return new

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
    __sub__ = _compared(operator.sub)
    __lt__ = _compared(operator.lt)
    __gt__ = _compared(operator.gt)
    __le__ = _compared(operator.le)
    __ge__ = _compared(operator.ge)
