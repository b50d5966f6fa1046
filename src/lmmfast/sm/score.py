"""Log likelihood, its derivatives and new responses at parameters in statsmodels' order.

The parameters are the fixed effects (unless they are profiled out), the lower triangle of the
covariance of the groups' random effects row by row, and the variances of the components, all over
the residual variance, which is profiled out. With `use_sqrt` the Cholesky factor and the standard
deviations take the place of covariance and variances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import FitError
from .params import MixedLMParams, cholesky_factor
from .stated import Stated
from .terms import Component, group_terms, is_component

if TYPE_CHECKING:
    from ..lmm import LMM
    from ..results import LMMFit


STEP = 1e-3  # relative, of the four-point differences of the exact score


def theta_of(model: LMM, components: tuple[Component, ...], params: MixedLMParams) -> np.ndarray:
    """theta of the covariances of `params`; random terms that these do not have start at one."""
    T = [np.eye(term.source.width) for term in model.design.terms]
    spreads = iter(np.sqrt(np.maximum(params.vcomp, 0.0)))
    for t, columns in group_terms(components):
        T[t] = cholesky_factor(params.cov_re[np.ix_(columns, columns)])
    for part in filter(is_component, components):
        T[part.terms[0][0]] *= next(spreads)
    return np.array([T[t][r, c] for t, r, c in model.theta_entries])


class _Point:
    """The model at given variance parameters, seen from other fixed effects than its best."""

    def __init__(self, fit: LMMFit, fe_params: np.ndarray) -> None:
        self.fit = fit
        kept = fit.estimates.fixed_kept
        self.freedom = fit.nobs - (int(kept.sum()) if fit.reml else 0)
        self.r2 = self.freedom * fit.sigma**2
        self.off = np.where(kept, fe_params - np.nan_to_num(fit.estimates.beta), 0.0)
        self.C = np.zeros((len(kept), len(kept)))  # X'V^-1 X
        inverse = np.linalg.inv(fit.estimates.vcov[np.ix_(kept, kept)] / fit.sigma**2)
        self.C[np.ix_(kept, kept)] = inverse
        self.excess = float(self.off @ self.C @ self.off)  # of the residual sum of squares

    @property
    def loglike(self) -> float:
        """Log likelihood at the other fixed effects."""
        return self.fit.llf - 0.5 * self.freedom * float(np.log1p(self.excess / self.r2))

    @property
    def scale(self) -> float:
        """Best residual variance at the other fixed effects."""
        return float((self.r2 + self.excess) / self.freedom)

    @property
    def score_fixed(self) -> np.ndarray:
        """Its gradient in the fixed effects."""
        return np.asarray(-self.freedom * (self.C @ self.off) / (self.r2 + self.excess))

    @property
    def score_theta(self) -> np.ndarray:
        """Its gradient in theta: of the profiled one, with the residuals exchanged."""
        model, theta, reml = self.fit.model, self.fit.theta, self.fit.reml
        _, profiled = model.objective(theta, reml=reml, gradient=True)
        G, g = model.projection(theta, reml=reml)
        h = [own - block @ (self.C @ self.off) for own, block in zip(g, G, strict=True)]
        best, here = self._slope(g), self._slope(h)
        other = self.freedom * (here / (self.r2 + self.excess) - best / self.r2)
        return np.asarray(-(profiled + other) / 2)

    def _slope(self, g: list[np.ndarray] | tuple[np.ndarray, ...]) -> np.ndarray:
        """Gradient of the residual sum of squares in theta, from Z'V^-1 (y - X beta)."""
        T = self.fit.estimates.T
        places = self.fit.model.theta_entries
        return np.array([-2 * float(g[t][:, r] @ (g[t] @ T[t][:, c])) for t, r, c in places])


class Likelihood(NamedTuple):
    """The log likelihood of a model, and its derivatives."""

    model: LMM
    components: tuple[Component, ...]
    reml: bool

    def _fit(self, params: MixedLMParams) -> LMMFit:
        return self.model.at(theta_of(self.model, self.components, params), reml=self.reml)

    def loglike(self, params: MixedLMParams, profile_fe: bool) -> float:
        """Log likelihood, at the fixed effects of `params` or at the best ones."""
        fit = self._fit(params)
        return fit.llf if profile_fe else _Point(fit, params.fe_params).loglike

    def fe_params(self, params: MixedLMParams) -> np.ndarray:
        """The best fixed effects."""
        return self._fit(params).estimates.beta.copy()

    def scale(self, params: MixedLMParams) -> float:
        """The best residual variance."""
        return _Point(self._fit(params), params.fe_params).scale

    def score(self, params: MixedLMParams, profile_fe: bool, use_sqrt: bool) -> np.ndarray:
        """Gradient of the log likelihood, exact."""
        fit = self._fit(params)
        fixed = np.nan_to_num(fit.estimates.beta) if profile_fe else params.fe_params
        here = _Point(fit, fixed)
        lower, packed = self._packing(len(params.cov_re))
        variances = packed @ here.score_theta
        if not use_sqrt:
            k2 = len(lower)
            J = _covariance_of_factor(cholesky_factor(params.cov_re), lower)
            variances[:k2] = np.linalg.solve(J.T, variances[:k2])
            variances[k2:] /= 2 * np.sqrt(params.vcomp)
        return variances if profile_fe else np.concatenate([here.score_fixed, variances])

    def hessian(self, params: MixedLMParams) -> np.ndarray:
        """Hessian of the log likelihood in fixed effects, covariances and variances."""
        rows, columns = np.tril_indices(len(params.cov_re))
        k, k2 = len(params.fe_params), len(rows)
        packed = np.concatenate([params.fe_params, params.cov_re[rows, columns], params.vcomp])
        sd, size = np.sqrt(np.diag(params.cov_re)), np.maximum(1.0, np.abs(params.fe_params))
        scale = np.concatenate([size, sd[rows] * sd[columns], params.vcomp])

        def at(point: np.ndarray) -> np.ndarray:
            cov = np.zeros_like(params.cov_re)
            cov[rows, columns] = cov[columns, rows] = point[k : k + k2]
            return self.score(MixedLMParams.of(point[:k], cov, point[k + k2 :]), False, False)

        H = np.empty((len(packed), len(packed)))
        for j, step in enumerate(STEP * scale):
            move = step * (np.arange(len(packed)) == j)
            H[j] = 8 * (at(packed + move) - at(packed - move))
            H[j] -= at(packed + 2 * move) - at(packed - 2 * move)
            H[j] /= 12 * step
        return (H + H.T) / 2

    def _packing(self, k_re: int) -> tuple[list[tuple[int, int]], np.ndarray]:
        """Places of the lower triangle, and which entries of theta each parameter is made of."""
        entries = self.model.theta_entries
        lower = [(i, j) for i in range(k_re) for j in range(i + 1)]
        rows: list[list[bool]] = []
        for part in self.components:
            t = part.terms[0][0]
            if part.kind == "re":
                rows = [[e == (t, i, j) for e in entries] for i, j in lower] + rows
            elif is_component(part):
                rows.append([e[0] == t for e in entries])
        return lower, np.array(rows, float).reshape(len(rows), len(entries))


def _covariance_of_factor(L: np.ndarray, lower: list[tuple[int, int]]) -> np.ndarray:
    """Derivatives of the lower triangle of L L' in that of L."""
    J = [[(r == i) * L[j, c] + (r == j) * L[i, c] for r, c in lower] for i, j in lower]
    return np.array(J).reshape(len(lower), len(lower))


class Simulator:
    """Draws responses of a model at given parameters, all random effects new.

    Parameters may be draws from the distribution of the estimates: of variances, what is negative
    counts as zero. Missing parameters are a FitError.
    """

    def __init__(self, model: Stated, params: np.ndarray, scale: float, exog: Any) -> None:
        if not np.isfinite(params).all():
            raise FitError(
                "the parameters have missing values: a column that the others determine, or a "
                "variance of zero, whose uncertainty is not known: leave it out of the model"
            )
        self._model, self._scale = model, scale
        self._mean = model.predict(params, exog)
        over = MixedLMParams.from_packed(params, model.k_fe, model.k_re, False, True)
        self._cov_re, self._vcomp = scale * over.cov_re, scale * np.maximum(over.vcomp, 0.0)

    def rvs(self, n: Any = None, rng: Any = None) -> np.ndarray:
        """One response (n), whatever `n` says.

        Parameters
        ----------
        n : int
            Without effect, as in statsmodels.
        rng : int, numpy Generator or RandomState, optional
            What draws; default: a new generator.
        """
        draw = rng if hasattr(rng, "normal") else np.random.default_rng(rng)
        y = self._mean.copy()
        spreads = iter(np.sqrt(self._vcomp))
        for part in self._model.components:
            for t, columns in part.terms:
                term = self._model._design.terms[t]
                if part.kind == "re":
                    factor = cholesky_factor(self._cov_re[np.ix_(columns, columns)])
                elif is_component(part):
                    factor = next(spreads) * np.eye(term.z.shape[1])
                else:
                    raise FitError(f"({term.label}) has no place in the parameters of statsmodels")
                b = draw.normal(size=(len(term.levels), len(factor))) @ factor.T
                y += np.einsum("nk,nk->n", term.z, b[term.codes])
        return np.asarray(y + np.sqrt(self._scale) * draw.normal(size=len(y)))
