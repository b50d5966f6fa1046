"""Satterthwaite degrees of freedom and standard errors of the variance parameters.

Everything follows from the profiled criterion f(theta). With s = sigma^2, nu = n - p (REML) or n
(ML) and r^2(theta) the residual sum of squares, the criterion in (theta, log s) has at the optimum
the second derivatives f'' + nu u u', -nu u and nu, where u is the gradient of log r^2; so that

    Cov(theta) = 2 / f'',  Cov(theta, log s) = Cov(theta) u,  Var(log s) = 2 / nu + u' Cov(theta) u

and, for the variance v = L vcov L' of a contrast with gradient v' in theta (sigma held),

    df = 2 v^2 / Var(v) = 2 / (h' Cov(theta) h + 2 / nu),    h = v' / v + u.

References
----------
Giesbrecht & Burns (1985), *Biometrics* 41; Fai & Cornelius (1996), *J. Stat. Comput. Simul.* 54
(joint tests); Kuznetsova, Brockhoff & Christensen (2017), *J. Stat. Softw.* 82(13).
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..derivatives import LARGE, whitened_hessian
from ..errors import LmmWarning
from . import qspace

if TYPE_CHECKING:
    from ..model import LMM
    from ..results import LMMFit

__all__ = ["CovarianceParameters", "Satterthwaite", "covariance_parameters"]

FLAT = 1e-8  # curvature relative to the largest, both scaled, below which a direction is unknown
RANK = 1.5e-8  # relative variance below which a joint hypothesis has no further dimension
EQUAL = 1e-8  # degrees of freedom closer than this are one number
FEW = 6  # free parameters up to which differences of the gradient are faster
FEW_LARGE = 15  # the same for large models, where they take two gradients a parameter
DENSE = 500  # columns that may be dense in any case, for analytic second derivatives
AT_ONCE = 64  # contrasts handled together: bounds the memory


@dataclass(frozen=True, eq=False)
class Whitened:
    """A random term in coordinates in which its columns have unit mean square (and, in a full
    term, are uncorrelated)."""

    kept: np.ndarray  # k      independent columns of the term
    C: np.ndarray  # k x k  effects of the columns = C times effects of the whitened ones
    T: np.ndarray  # k x k  lower triangular, zero columns last
    row: np.ndarray  # place in T of each parameter
    column: np.ndarray

    @property
    def free(self) -> np.ndarray:
        """Which parameters are not held at the boundary."""
        varied = np.abs(self.T).max(axis=0) > 0
        return np.asarray(varied[self.column])

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """Derivatives of the sum of w_l'T T'w_l over levels l, for each row of w (c, m, k)."""
        own = w[:, :, self.kept] @ self.C  # before it is squared: C may have large entries
        crossed = own.swapaxes(1, 2) @ own
        return np.asarray(2 * (crossed @ self.T)[:, self.row, self.column])


def _whitened(
    T: np.ndarray, kept: np.ndarray, C: np.ndarray, row: np.ndarray, column: np.ndarray
) -> Whitened:
    own = np.linalg.solve(C, T[np.ix_(kept, kept)])
    diagonal = bool((row == column).all())
    if not diagonal:
        varied = own[:, own.any(axis=0)]
        own = np.zeros_like(own)
        own[:, : varied.shape[1]] = np.asarray(np.linalg.qr(varied.T, mode="r")).T
    return Whitened(kept, C, own, row, column)


def _in_theta(
    factors: list[qspace.Factor], terms: list[Whitened], slope: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """The Hessian in the whitened theta of all terms, from derivatives in the entries of T T'.

    A change dT makes T T' change by A (dT T' + T dT') A', A from whitened to qspace's columns; two
    changes of one column of T meet in the second derivative of T T' too.
    """
    ends = np.cumsum([0, *(len(term.row) for term in terms)])
    J, H = np.zeros((len(slope), ends[-1])), np.zeros((ends[-1], ends[-1]))
    at = 0
    for factor in factors:
        mine = slice(at, at + len(factor.E))
        S = np.einsum("r,rab->ab", slope[mine] / factor.E.sum(axis=(1, 2)), factor.E)
        for i, part, R in zip(factor.terms, factor.parts, factor.R, strict=True):
            term, its = terms[i], slice(ends[i], ends[i + 1])
            row, column, A = term.row, term.column, R @ term.C
            half = A.T[row][:, :, None] * (A @ term.T).T[column][:, None, :]
            change = np.zeros((len(row), factor.k, factor.k))
            change[:, part, part] = half + half.swapaxes(1, 2)
            J[mine, its] = factor.coordinates(change)
            own = (A.T @ S[part, part] @ A)[np.ix_(row, row)]
            H[its, its] = 2 * own * (column[:, None] == column)
        at = mine.stop
    return np.asarray(H + J.T @ second @ J)


class Satterthwaite:
    """Satterthwaite degrees of freedom for the fixed effects of one fit.

    The curvature of the criterion is computed at the first use, and once, in whitened coordinates:
    units, origins and codings of the columns do not matter. Parameters that are zero at the
    boundary (zero columns of T) are held: the criterion is even in such a column, so that neither
    curvature nor the gradient of any contrast's variance leads there. Directions without curvature
    are left out, as in lmerTest; contrasts depend on them only if the model is not identified.

    Parameters
    ----------
    fit : LMMFit
        REML or ML; may be singular.

    Examples
    --------
    >>> import numpy as np
    >>> from lmmfast import datasets, lmer
    >>> from lmmfast.inference.satterthwaite import Satterthwaite
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> Satterthwaite(fit).df(np.eye(2)).round(3)
    array([17., 17.])
    """

    def __init__(self, fit: LMMFit) -> None:
        self._fit = fit

    @cached_property
    def _model(self) -> LMM:
        return model_of(self._fit)

    @cached_property
    def terms(self) -> list[Whitened]:
        """The random terms in whitened coordinates."""
        engine, T = self._model._engine, self._fit.estimates.T
        return [
            _whitened(T[i], np.array(engine.kept(i)), C, *engine.entries(i))
            for i, C in enumerate(engine.whitening())
        ]

    @cached_property
    def free(self) -> np.ndarray:
        """Whitened parameters that are not held at the boundary (indices)."""
        return np.flatnonzero(np.concatenate([term.free for term in self.terms]))

    @cached_property
    def _projection(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        return self._model.projection(self._fit.theta, reml=self._fit.reml)

    @cached_property
    def _information(self) -> tuple[np.ndarray, np.ndarray]:
        order = self._model.storage["order"]
        dense = max(DENSE, 2 * order)
        few = FEW if order < LARGE else FEW_LARGE
        if len(self.free) > few and qspace.order(self._fit) <= dense:
            with suppress(MemoryError):
                return _roots(self._analytic_hessian())
        return _roots(self._numerical_hessian())

    def _numerical_hessian(self) -> np.ndarray:
        """By differences of the exact gradient: four gradients a parameter."""
        theta = np.concatenate([term.T[term.row, term.column] for term in self.terms])
        return whitened_hessian(self._model, theta, self._fit.reml, self.free)

    def _analytic_hessian(self) -> np.ndarray:
        """From second derivatives in the entries of T T': no more for many parameters."""
        fit, r2 = self._fit, self.nu * self._fit.estimates.sigma**2
        rows = qspace.rows_of(fit)
        g = tuple(g[:, term.kept] for g, term in zip(self._projection[1], self.terms, strict=True))
        free = np.ix_(self.free, self.free)
        slope, second = qspace.curvature(rows, g, r2, self.nu, fit.reml)
        return np.asarray(_in_theta(rows.factors, self.terms, slope, second)[free])

    @property
    def root(self) -> np.ndarray:
        """(k, j) array with Cov(theta) = root root' for the free parameters, sigma profiled."""
        return self._information[0]

    @property
    def unknown(self) -> np.ndarray:
        """(k, i) array: directions of the free parameters about which the data say nothing."""
        return self._information[1]

    @cached_property
    def nu(self) -> int:
        """Denominator of the residual variance: n - p (REML) or n (ML)."""
        estimates = self._fit.estimates
        return int(estimates.n - (estimates.fixed_kept.sum() if estimates.reml else 0))

    @cached_property
    def slope(self) -> np.ndarray:
        """(k,) gradient of log r^2, the logarithm of the residual sum of squares."""
        total = self.nu * self._fit.estimates.sigma**2
        return np.asarray(-self._gradient([g[None] for g in self._projection[1]])[0] / total)

    def _gradient(self, w: list[np.ndarray]) -> np.ndarray:
        """Derivatives of the sum of w_l'T T'w_l in the free parameters: w (c, m, k) per term."""
        parts = [term.gradient(one) for one, term in zip(w, self.terms, strict=True)]
        return np.asarray(np.concatenate(parts, axis=1)[:, self.free])

    @cached_property
    def _vcov(self) -> np.ndarray:
        return np.asarray(np.nan_to_num(self._fit.estimates.vcov))

    @property
    def vcov(self) -> np.ndarray:
        """(p, p) covariance of the fixed effects; NaN for dropped columns."""
        return self._fit.estimates.vcov

    def df(self, L: Any) -> np.ndarray:
        """Degrees of freedom of single contrasts.

        Parameters
        ----------
        L : (k, p) or (p,) array
            One contrast a row, over all columns of X.

        Returns
        -------
        (k,) array
            NaN for contrasts that are zero or involve a dropped column. Never above ``nu``.
        """
        L = contrasts(L, len(self._fit.estimates.beta))
        found = [self._df(L[a : a + AT_ONCE]) for a in range(0, len(L), AT_ONCE)]
        df = np.concatenate([np.empty(0), *found])
        df[~estimable(L, self._fit.estimates.fixed_kept)] = np.nan
        return df

    def _df(self, L: np.ndarray) -> np.ndarray:
        variance = np.einsum("ij,jk,ik->i", L, self._vcov, L)
        w = [np.moveaxis(G @ L.T, 2, 0) for G in self._projection[0]]
        scale = self._fit.estimates.sigma**2
        with np.errstate(invalid="ignore", divide="ignore"):
            h = scale * self._gradient(w) / variance[:, None] + self.slope
            return np.asarray(2 / (((h @ self.root) ** 2).sum(axis=1) + 2 / self.nu))

    def f_df(self, L: Any) -> float:
        """Denominator degrees of freedom of the joint F test of L beta = 0 (see ``f``)."""
        return self.f(L)[2]

    def f(self, L: Any) -> tuple[float, int, float]:
        """The F test of L beta = 0.

        The statistic is the mean of the squared t values of the uncorrelated contrasts that the
        eigenvectors of L vcov L' make; its denominator has the expectation of their mean: with E
        the sum of df / (df - 2), 2 E / (E - rank) (Fai & Cornelius 1996). One with df <= 2 has no
        expectation: the result is 2 then, as in lmerTest 3.1.

        Parameters
        ----------
        L : (k, p) or (p,) array
            Rows may be dependent: the rank counts.

        Returns
        -------
        statistic : float
        df_num : int
            Rank of L vcov L'.
        df_denom : float
            All three as for a missing value (nan, 0, nan) when a dropped column is involved.
        """
        estimates = self._fit.estimates
        L = contrasts(L, len(estimates.beta))
        if L[:, ~estimates.fixed_kept].any():
            return np.nan, 0, np.nan
        values, axes = np.linalg.eigh(L @ self._vcov @ L.T)
        kept = values > RANK * values.max(initial=0.0)
        if not kept.any():
            return np.nan, 0, np.nan
        own = (axes[:, kept].T @ L)[::-1]
        beta = np.nan_to_num(estimates.beta)
        statistic = float(np.mean((own @ beta) ** 2 / values[kept][::-1]))
        return statistic, len(own), joint_df(self.df(own))


def joint_df(df: np.ndarray) -> float:
    """Denominator of an F test from those of its uncorrelated contrasts."""
    if np.ptp(df) < EQUAL:
        return float(df.mean())
    if (df <= 2).any():
        return 2.0
    E = float((df / (df - 2)).sum())
    return 2 * E / (E - len(df))


def contrasts(L: Any, p: int) -> np.ndarray:
    """L as a (k, p) array of floats."""
    own = np.atleast_2d(np.asarray(L, dtype=np.float64))
    if own.ndim != 2 or own.shape[1] != p:
        raise ValueError(f"contrasts need {p} columns, one for each fixed effect: {own.shape}")
    return own


def estimable(L: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Which rows of L are not zero and have no weight on dropped columns."""
    return np.asarray(L.any(axis=1) & ~L[:, ~kept].any(axis=1))


def model_of(fit: LMMFit) -> LMM:
    """The model that holds the response of this fit: refits share that of another response."""
    if fit.design is fit.model.design:
        return fit.model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        return type(fit.model)(fit.design)


def _roots(H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R with R R' = 2 H^-1 where H is positive, and the other directions.

    Eigenvalues are those of H with a unit diagonal: what counts as flat does not depend on units.
    """
    size = np.abs(np.diag(H))
    scale = np.sqrt(np.where(size > 0, size, 1.0))
    values, axes = np.linalg.eigh(H / np.outer(scale, scale))
    known = values > FLAT * values.max(initial=0.0)
    own = axes / scale[:, None]
    return np.sqrt(2 / values[known]) * own[:, known], axes[:, ~known] / scale[:, None]


@dataclass(frozen=True, eq=False)
class CovarianceParameters:
    """Variance parameters with their standard errors, from the curvature of the criterion.

    Standard errors are missing (NaN) for what lies on the boundary (standard deviations of zero,
    correlations of one) or is not identified; the others hold the zeros of T as they are.

    Attributes
    ----------
    sigma, sigma_se : float
    sd, sd_se : tuple of (k,) arrays
        Standard deviations of the random effects, per term.
    corr, corr_se : tuple of (k, k) arrays
        Correlations, per term; NaN where a standard deviation is zero.
    vcov : (ntheta + 1, ntheta + 1) array
        Covariance of (theta, sigma); NaN for parameters at the boundary.
    """

    sigma: float
    sigma_se: float
    sd: tuple[np.ndarray, ...]
    sd_se: tuple[np.ndarray, ...]
    corr: tuple[np.ndarray, ...]
    corr_se: tuple[np.ndarray, ...]
    vcov: np.ndarray


def covariance_parameters(fit: LMMFit, known: Satterthwaite | None = None) -> CovarianceParameters:
    """Standard deviations and correlations of a fit with standard errors by the delta method.

    Parameters
    ----------
    fit : LMMFit
    known : Satterthwaite, optional
        Of the same fit, to use its curvature again.

    Returns
    -------
    CovarianceParameters
    """
    own = known or Satterthwaite(fit)
    sigma, errors = fit.estimates.sigma, _Errors.of(own)
    theta: list[np.ndarray] = []
    sd, sd_se, corr, corr_se = [], [], [], []
    for term, user in zip(own.terms, fit.estimates.T, strict=True):
        T, dT = _root_of(term, user, own.free, len(theta))
        kept = np.ix_(term.kept, term.kept)
        slopes = _cholesky_slopes(user[kept], T[term.kept], dT[term.kept])
        theta.extend(slopes[term.row, term.column])
        length, dlog, R, dR = _spread(T, dT)
        sd.append(sigma * length)
        sd_se.append(np.where(length > 0, sigma * length * errors(dlog), np.nan))
        corr.append(R)
        corr_se.append(np.where(np.abs(R) < 1 - 1e-12, errors(dR), np.nan))
    log_sigma = np.zeros(len(own.free) + 1)
    log_sigma[-1] = 1
    return CovarianceParameters(
        sigma,
        float(sigma * errors(log_sigma)),
        tuple(sd),
        tuple(sd_se),
        tuple(corr),
        tuple(corr_se),
        errors.covariance(np.vstack([*theta, sigma * log_sigma])),
    )


@dataclass(frozen=True, eq=False)
class _Errors:
    """Standard errors by the delta method, from derivatives in (free theta, log sigma)."""

    root: np.ndarray  # root root' is their covariance
    lost: np.ndarray  # directions about which the data say nothing

    @classmethod
    def of(cls, own: Satterthwaite) -> _Errors:
        root = np.vstack([own.root, own.slope @ own.root / 2])
        alone = np.zeros((len(root), 1))
        alone[-1] = np.sqrt(1 / (2 * own.nu))
        lost = np.vstack([own.unknown, own.slope @ own.unknown / 2])
        return cls(np.hstack([root, alone]), lost / np.linalg.norm(lost, axis=0))

    def __call__(self, jacobian: np.ndarray) -> np.ndarray:
        """NaN for what moves along a direction that is not identified."""
        blind = np.linalg.norm(jacobian @ self.lost, axis=-1)
        known = blind <= 1e-6 * np.linalg.norm(jacobian, axis=-1)
        return np.where(known, np.linalg.norm(jacobian @ self.root, axis=-1), np.nan)

    def covariance(self, jacobian: np.ndarray) -> np.ndarray:
        """NaN also for what does not move at all."""
        moved = jacobian @ self.root
        out = moved @ moved.T
        missing = np.isnan(self(jacobian)) | ~jacobian.any(axis=1)
        out[missing] = np.nan
        out[:, missing] = np.nan
        return np.asarray(out)


def _spread(T: np.ndarray, dT: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Relative standard deviations, slopes of log(sigma times them); correlations, their slopes.

    T T' is the relative covariance; dT (k, k, N + 1) the derivatives, the last in log sigma. Where
    a standard deviation is zero, slopes are zero and correlations NaN.
    """
    length = np.linalg.norm(T, axis=1)
    size = np.where(length > 0, length, 1.0)
    unit = T / size[:, None]
    dlog = np.einsum("ij,ijt->it", unit, dT) / size[:, None]
    dunit = dT / size[:, None, None] - unit[:, :, None] * dlog[:, None, :]
    half = np.einsum("ijt,kj->ikt", dunit, unit)
    R = unit @ unit.T
    R[length == 0] = np.nan
    R[:, length == 0] = np.nan
    dlog[length > 0, -1] += 1
    return length, dlog, R, half + half.swapaxes(0, 1)


def _root_of(
    term: Whitened, user: np.ndarray, free: np.ndarray, at: int
) -> tuple[np.ndarray, np.ndarray]:
    """A square root C T of the term's relative covariance, and its derivatives (k, k, N + 1) in
    the free parameters; at: the term's first parameter."""
    k, N = len(term.kept), len(free)
    dT = np.zeros((k, k, N + 1))
    mine = np.flatnonzero((free >= at) & (free < at + len(term.row)))
    dT[term.row[free[mine] - at], term.column[free[mine] - at], mine] = 1
    root, slopes = np.zeros((len(user), k)), np.zeros((len(user), k, N + 1))
    root[term.kept] = term.C @ term.T
    slopes[term.kept] = np.tensordot(term.C, dT, axes=1)
    return root, slopes


def _cholesky_slopes(T: np.ndarray, root: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Derivatives of the lower triangular T with T T' = root root', from those of the root.

    dL = L low(L^-1 dS L^-T), low: lower triangle with half the diagonal, in the rows with a pivot;
    the other rows are a solve with that. Zero for zero columns of T.
    """
    pivots = np.flatnonzero(T.diagonal())
    dS = np.einsum("ict,jc->tij", slopes, root)
    dS = dS + dS.swapaxes(1, 2)
    L = T[np.ix_(pivots, pivots)]
    inner = np.linalg.solve(L, np.linalg.solve(L, dS[:, pivots[:, None], pivots]).swapaxes(1, 2))
    low = np.tril(inner)
    low[:, range(len(pivots)), range(len(pivots))] /= 2
    dL = L @ low
    rest = dS[:, :, pivots] - T[:, pivots] @ dL.swapaxes(1, 2)
    out = np.zeros((len(dS), *T.shape))
    out[:, :, pivots] = np.linalg.solve(L, rest.swapaxes(1, 2)).swapaxes(1, 2)
    out[:, pivots[:, None], pivots] = dL
    return np.moveaxis(out, 0, 2)
