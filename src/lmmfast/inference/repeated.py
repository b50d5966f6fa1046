"""Degrees of freedom in models for repeated measures.

With Phi = (X'V^-1 X)^-1, A_i = d(X'V^-1 X)/d phi_i and the covariance W of the parameters phi of
the covariance matrices, twice the inverse of the exact Hessian of -2 log likelihood (observed
information, as SAS and mmrm take it), the variance v = l'Phi l of a contrast has the gradient
-l'Phi A_i Phi l, so that Satterthwaite's degrees of freedom are 2 v^2 / Var(v). Kenward and Roger's
covariance is

    Phi + 2 Phi [ sum W_ij (Q_ij - A_i Phi A_j - R_ij / 4) ] Phi,
    Q_ij = X'V^-1 V_i V^-1 V_j V^-1 X,   R_ij = X'V^-1 V_ij V^-1 X.

The last term is zero where Sigma is linear in its parameters, and depends on what these are: they
are variances and correlations, and of compound symmetry and Toeplitz' structure with one variance
covariances, as in SAS. ``kenward-roger-linear`` leaves it out.

References
----------
Kenward & Roger (1997), *Biometrics* 53, 983-997; Kenward & Roger (2009), *CSDA* 53, 2583-2595 (the
linear form); Schluchter & Elashoff (1990), *J. Stat. Comput. Simul.* 37 (between and within).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FitError
from ..linalg import inverse_root
from .estimability import contrasts, usable_rows
from .kenward import KenwardRoger
from .repeated_parameters import bent
from .satterthwaite import joint_df
from .variances import Moments

if TYPE_CHECKING:
    from ..fit import Fit


class RepeatedInformation:
    """What the degrees of freedom of one fit are made of; computed once, at the first use."""

    def __init__(self, fit: Fit) -> None:
        self.fit = fit
        self.point: Any = fit.point

    @cached_property
    def free(self) -> np.ndarray:
        """Which parameters are not held at zero."""
        bounded: Any = self.fit.estimates
        out = np.ones(len(self.point.phi), bool)
        out[list(bounded.bounded)] = False
        return out

    @cached_property
    def root(self) -> np.ndarray:
        """(nphi, j) R with R R' = W; FitError where the Hessian is not positive. Correlations of
        visits that nobody has both of change nothing: each is a direction without curvature."""
        free, flat = self.free, len(self.fit.estimates.unidentified)
        H = self.point.hessian[np.ix_(free, free)]
        size = np.sqrt(np.abs(H.diagonal()))
        size = np.where(size > 0, size, 1.0)
        if np.linalg.eigvalsh(H / np.outer(size, size))[flat:].min(initial=0.0) < -1e-6:
            raise FitError(
                "the observed information of the covariance parameters is not positive definite "
                'at this fit: use ddf="residual" or "between-within", or another structure'
            )
        out = np.zeros((len(free), 0))
        known = inverse_root(H, flat)[0]
        out = np.zeros((len(free), known.shape[1]))
        out[free] = known
        return out

    @cached_property
    def basis(self) -> np.ndarray:
        """E, kept x kept: E E' = Phi of the core's columns."""
        return np.linalg.cholesky(self.point.vcov)

    @cached_property
    def user_basis(self) -> np.ndarray:
        """H, p x kept: H H' = Phi."""
        return np.asarray(self.point.model.units.back @ self.basis)

    @cached_property
    def P(self) -> np.ndarray:
        """(nphi, kept, kept): E'A_i E"""
        return np.asarray(self.basis.T @ self.point.slopes @ self.basis)


def information_of(fit: Fit) -> RepeatedInformation:
    """The one of a fit, made when it is needed first."""
    if RepeatedInformation not in fit._known:
        fit._known[RepeatedInformation] = RepeatedInformation(fit)
    found: RepeatedInformation = fit._known[RepeatedInformation]
    return found


class RepeatedKenwardRoger(KenwardRoger):
    """Kenward-Roger covariance and tests of a fit for repeated measures.

    Parameters
    ----------
    fit : Fit
        By REML.
    linear : bool
        Whether the term of second derivatives is left out.

    Raises
    ------
    FitError
        For a fit by maximum likelihood; where the observed information is not positive definite.
    """

    def __init__(self, fit: Fit, linear: bool) -> None:
        super().__init__(fit, True)
        self._linear = linear

    @cached_property
    def _own(self) -> RepeatedInformation:
        return information_of(self._fit)

    @cached_property
    def _moments(self) -> Moments:
        none = np.zeros(0)
        return Moments(none, none, self._own.P, none, self._own.user_basis)

    @cached_property
    def _W(self) -> np.ndarray:
        return np.asarray(self._own.root @ self._own.root.T)

    @cached_property
    def _adjusted(self) -> np.ndarray:
        own, point = self._own, self._own.point
        root = own.root.reshape(point.groups, -1, own.root.shape[1])

        def squares(i: int, g: int, v: np.ndarray, W: np.ndarray) -> np.ndarray:
            along = np.tensordot(root[g].T, point.changes_of(i), axes=1)
            return np.asarray(np.einsum("lab,lbc->ac", along @ W, along))

        middle = point.products(squares)
        if not self._linear:
            curved = bent(self._fit.design, point, root)
            if curved is not None:
                middle -= point.products(lambda _, g, v, W: curved(g, v)) / 4
        middle = own.basis.T @ middle @ own.basis
        turned = np.tensordot(own.root.T, own.P, axes=1)
        middle -= np.einsum("lik,lkj->ij", turned, turned)
        return np.asarray(np.eye(len(middle)) + middle + middle.T)


class RepeatedSatterthwaite:
    """Satterthwaite degrees of freedom of a fit for repeated measures, REML or ML."""

    def __init__(self, fit: Fit) -> None:
        self._fit, self._own = fit, information_of(fit)

    @property
    def vcov(self) -> np.ndarray:
        """(p, p) covariance of the fixed effects; NaN for dropped columns."""
        return self._fit.estimates.vcov

    def df(self, L: Any) -> np.ndarray:
        """Degrees of freedom of single contrasts (k): NaN for those of dropped columns."""
        L = contrasts(L, len(self._fit.estimates.beta))
        own = L @ self._own.user_basis
        with np.errstate(invalid="ignore", divide="ignore"):
            own = own / np.linalg.norm(own, axis=1)[:, None]
            u = np.einsum("ki,rij,kj->kr", own, self._own.P, own, optimize=True)
            df = np.asarray(2 / np.square(u @ self._own.root).sum(axis=1))
        df[~usable_rows(L, self._fit.estimates.fixed_kept)] = np.nan
        return df

    def f(self, L: Any) -> tuple[float, int, float]:
        """The F test of L beta = 0 as `Satterthwaite.f` has it."""
        return f_of(self, self._fit, L)


class BetweenWithin:
    """Degrees of freedom by whether a column of X varies within subjects.

    Between: subjects less columns that do not, and the intercept; within: rows less subjects less
    columns that do. The intercept counts as within; a contrast of both kinds has the smaller number
    (as mmrm).
    """

    def __init__(self, fit: Fit) -> None:
        self._fit = fit

    @property
    def vcov(self) -> np.ndarray:
        """(p, p) covariance of the fixed effects; NaN for dropped columns."""
        return self._fit.estimates.vcov

    @cached_property
    def of_columns(self) -> np.ndarray:
        """(p,) degrees of freedom of each coefficient."""
        design: Any = self._fit.design
        visits, kept = design.seen, self._fit.estimates.fixed_kept
        X = design.X
        first = visits.order[visits.first[:-1]]
        within = (X[first][visits.subject] != X).any(axis=0)
        constant = design.fixed.constant() & kept
        inner = int((within & kept).sum())
        outer = int((~within & kept & ~constant).sum())
        subjects = len(visits.subjects)
        between = subjects - outer - int(constant.any())
        inside = design.n - subjects - inner
        return np.where(within | constant, float(inside), float(between))

    def df(self, L: Any) -> np.ndarray:
        """Degrees of freedom of single contrasts (k): NaN for those of dropped columns."""
        L = contrasts(L, len(self._fit.estimates.beta))
        found = np.where(L == 0, np.inf, self.of_columns).min(axis=1, initial=np.inf)
        return np.asarray(np.where(usable_rows(L, self._fit.estimates.fixed_kept), found, np.nan))

    def f(self, L: Any) -> tuple[float, int, float]:
        """Wald statistic over its rank, the rank, the smallest degrees of freedom."""
        from .wald import wald_test

        own = contrasts(L, len(self._fit.estimates.beta))
        test = wald_test(own, np.zeros(len(own)), self._fit.estimates.beta, self.vcov)
        return test.fvalue, test.df_num, float(np.min(self.df(own)))


RANK = 1.5e-8  # relative variance below which a joint hypothesis has no further dimension


def f_of(method: Any, fit: Fit, L: Any) -> tuple[float, int, float]:
    """Mean square of uncorrelated contrasts, their number, and the denominator of their mean."""
    estimates = fit.estimates
    L = contrasts(L, len(estimates.beta))
    if L[:, ~estimates.fixed_kept].any():
        return np.nan, 0, np.nan
    values, axes = np.linalg.eigh(L @ np.nan_to_num(method.vcov) @ L.T)
    kept = values > RANK * values.max(initial=0.0)
    if not kept.any():
        return np.nan, 0, np.nan
    own = (axes[:, kept].T @ L)[::-1]
    statistic = float(np.mean((own @ np.nan_to_num(estimates.beta)) ** 2 / values[kept][::-1]))
    return statistic, len(own), joint_df(method.df(own))


def repeated_method(fit: Fit, ddf: str) -> Any:
    """The method of this name for a fit for repeated measures."""
    if ddf == "satterthwaite":
        return RepeatedSatterthwaite(fit)
    if ddf == "between-within":
        return BetweenWithin(fit)
    return RepeatedKenwardRoger(fit, ddf.endswith("linear"))
