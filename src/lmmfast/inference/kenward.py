"""Kenward and Roger's adjusted covariance of the fixed effects and its F tests.

The variance parameters gamma are the entries of every term's relative covariance matrix T T'
(variances only, for ``||``) and the residual variance: V = sum gamma_r G_r + I for rows scaled by
the square roots of their weights, G_r = Z E_r Z'. In gamma the model is linear, so that singular
fits are nothing special. With Phi = (X'V^-1 X)^-1 and

    P_r = -X'V^-1 G_r V^-1 X,    Q_rs = X'V^-1 G_r V^-1 G_s V^-1 X,
    W^-1 = [tr(V^-1 G_r V^-1 G_s) - 2 tr(Phi Q_rs) + tr(Phi P_r Phi P_s)] / 2,

the adjusted covariance is Phi + 2 Phi [sum W_rs (Q_rs - P_r Phi P_s)] Phi (times sigma^2).

W is the covariance of the variance parameters, from the expected information as above, or from the
observed one, which SAS and JMP take (with q = V^-1 (y - X beta) / sigma),

    W^-1 = q'G_r P G_s q - tr(P G_r P G_s) / 2,   P = V^-1 - V^-1 X Phi X'V^-1,

exactly half the Hessian of the REML criterion in gamma sigma^2 and sigma^2, in units of sigma^4.

Of covariance structures gamma are the parameters of these, with the residual variance; those of
residual structures stand among them (`residual_variances`).

What the residual variance contributes follows from V^-1 = V^-1 V V^-1. All of it is read off one
evaluation of the model (`variances`): no matrix has a side of the number of rows.

References
----------
Kenward & Roger (1997), *Biometrics* 53; Halekoh & Højsgaard (2014), *J. Stat. Softw.* 59(9),
whose package pbkrtest gives the same numbers for models without weights (it takes all as one);
Gilmour, Thompson & Cullis (1995), *Biometrics* 51 (observed, expected and average information).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FitError
from .estimability import contrasts, usable_rows
from .residual_variances import ResidualVariances
from .structured import jacobian, moving
from .variances import Moments, Variances, restricted

if TYPE_CHECKING:
    from ..fit import Fit


KNOWN = 1e-10  # information relative to the largest, both scaled, that is not zero
RANK = 1e-10  # the same for singular values of a hypothesis


class KenwardRoger:
    """Kenward-Roger covariance and tests of the fixed effects of one REML fit.

    Computed at the first use, and once. Where covariance matrices are not identified one by one
    the information matrix is singular: its generalized inverse is used, and every choice of it
    gives the same result, for P_r and Q_rs are linear in G_r.

    Parameters
    ----------
    fit : Fit
        A REML fit; may be singular.
    observed : bool, default False
        Take the covariance of the variance parameters from the observed information, not from the
        expected one.

    Raises
    ------
    FitError
        For a fit by maximum likelihood, or with covariance parameters that are held or tied, unless
        all are held at zero: such a model has no random effects.
        On first use: with the observed information where that is not positive definite, as it may
        be for singular fits; for iterative models; and when the columns that are left when the
        nested or the largest grouping factors are eliminated are so many that it would take too
        long.
    MemoryError
        On first use, when there is no memory for dense matrices of their order.

    Examples
    --------
    >>> import numpy as np
    >>> from lmmfast import datasets, lmer
    >>> from lmmfast.inference.kenward import KenwardRoger
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> KenwardRoger(fit).df(np.eye(2)).round(3)
    array([17., 17.])
    """

    def __init__(self, fit: Fit, observed: bool = False) -> None:
        if not fit.reml:
            raise FitError(
                "Kenward-Roger tests are defined for REML fits: fit with reml=True, or use "
                "Satterthwaite degrees of freedom"
            )
        free = fit.estimates.free
        self._has_none = free is not None and not (free.fixed.any() or free.basis.any())
        if free is not None and not (self._has_none and free.sigma is None):
            raise FitError(
                "Kenward-Roger tests take every covariance parameter as estimated, but some were "
                "held or tied in this fit (all held at zero would do): use Satterthwaite degrees "
                "of freedom"
            )
        self._fit, self._observed = fit, observed

    @cached_property
    def _read(self) -> tuple[Moments, np.ndarray]:
        """The moments, and q'G_r P G_s q where it is asked for."""
        estimates, n = self._fit.estimates, self._fit.nobs
        plain = estimates.delta is None
        variances = Variances(self._fit) if plain else ResidualVariances(self._fit)
        gamma, delta = variances.gamma, variances.extra
        J = None if estimates.phi is None else _beside(jacobian(self._fit), np.eye(delta))
        if self._has_none:  # no random effects
            J = np.eye(len(gamma))[:, len(gamma) - delta :]
        if not self._observed:
            found = _with_residual(variances.moments, gamma, n)
            return found if J is None else _in_parameters(found, J), np.zeros((0, 0))
        moments, slope, score = variances.observed(self._fit.estimates.sigma)
        df = n - int(self._fit.estimates.fixed_kept.sum())
        moments = _with_residual(moments, gamma, n)
        score = _score_with_residual(slope, score, gamma, df)
        if J is None:
            return moments, score
        return _in_parameters(moments, J), self._score_in_parameters(score, J)

    def _score_in_parameters(self, score: np.ndarray, J: np.ndarray) -> np.ndarray:
        """The score in parameters of structures, with half of what the slope of the criterion adds
        where a covariance bends."""
        own: Any = self._fit.model.structured
        phi = self._fit.estimates.phi
        full = np.zeros((J.shape[0] + 1, J.shape[1] + 1))
        full[:-1, :-1], full[-1, -1] = J, 1.0
        out = np.asarray(full.T @ score @ full)
        if phi is None:
            return out
        slope, free = self._fit.point.hessian[0], moving(self._fit)
        bend = own.chain(phi, slope, np.zeros((len(slope),) * 2))[np.ix_(free, free)]
        out[: len(bend), : len(bend)] += bend / 2
        return out

    @property
    def _moments(self) -> Moments:
        return self._read[0]

    @cached_property
    def _W(self) -> np.ndarray:
        """Covariance of gamma (in units that cancel)."""
        m, score = self._read
        expected = restricted(m.traces, m.P, m.Q) / 2
        if not self._observed:
            return _generalized_inverse(expected)
        information = score - expected
        if not _is_positive(information):
            raise FitError(
                "the observed information of the variance parameters is not positive definite at "
                'this fit: use ddf="kenward-roger", which takes the expected one'
            )
        return _generalized_inverse(information)

    @cached_property
    def _adjusted(self) -> np.ndarray:
        """The adjusted covariance in the basis in which the unadjusted one is I."""
        m, W = self._moments, self._W
        middle = np.tensordot(W, m.Q, axes=([0, 1], [0, 2]))
        middle -= np.einsum("rik,rkj->ij", np.tensordot(W, m.P, axes=1), m.P)
        return np.asarray(np.eye(len(middle)) + middle + middle.T)

    @property
    def _basis(self) -> np.ndarray:
        """H, p x rank: H H' is the unadjusted covariance over sigma^2, zero for dropped columns."""
        return self._moments.basis

    @cached_property
    def vcov(self) -> np.ndarray:
        """(p, p) adjusted covariance of the fixed effects; NaN for dropped columns."""
        dropped = ~self._fit.estimates.fixed_kept
        found = self._fit.estimates.sigma**2 * self._basis @ self._adjusted @ self._basis.T
        found[dropped] = np.nan
        found[:, dropped] = np.nan
        return np.asarray((found + found.T) / 2)

    def df(self, L: Any) -> np.ndarray:
        """Degrees of freedom of single contrasts.

        For a hypothesis of one dimension Kenward and Roger's formulas come down to 2 / A2, and
        the scaling of the statistic to one.

        Parameters
        ----------
        L : (k, p) or (p,) array
            One contrast a row, over all columns of X.

        Returns
        -------
        (k,) array
            NaN for contrasts that are zero or involve a dropped column.
        """
        L = contrasts(L, len(self._basis))
        own = L @ self._basis
        with np.errstate(invalid="ignore", divide="ignore"):
            own /= np.linalg.norm(own, axis=1)[:, None]
            u = np.einsum("ki,rij,kj->kr", own, self._moments.P, own, optimize=True)
            df = np.asarray(2 / np.einsum("kr,rs,ks->k", u, self._W, u))
        df[~usable_rows(L, self._fit.estimates.fixed_kept)] = np.nan
        return df

    def f(self, L: Any) -> tuple[float, int, float]:
        """The F test of L beta = 0.

        Parameters
        ----------
        L : (k, p) or (p,) array
            Rows may be dependent: the rank counts.

        Returns
        -------
        statistic : float
            Kenward and Roger's scaled F.
        df_num : int
            Rank of L.
        df_denom : float
            All three as for a missing value (nan, 0, nan) when a dropped column is involved.
        """
        estimates = self._fit.estimates
        L = contrasts(L, len(self._basis))
        if L[:, ~estimates.fixed_kept].any() or not L.any():
            return np.nan, 0, np.nan
        own = L @ self._basis
        length = np.linalg.norm(own, axis=1)
        length[length == 0] = 1
        left, size, axes = np.linalg.svd(own / length[:, None], full_matrices=False)
        q = int((size > RANK * size[0]).sum())
        axes = axes[:q]
        values = L @ np.nan_to_num(estimates.beta) / length
        effect = (left[:, :q].T @ values) / size[:q]
        spread = estimates.sigma**2 * axes @ self._adjusted @ axes.T
        wald = float(effect @ np.linalg.solve(spread, effect)) / q
        P = axes @ self._moments.P @ axes.T
        A1 = _form(self._W, np.einsum("rii->r", P)[:, None])
        A2 = _form(self._W, P.reshape(len(P), -1))
        df, scaling = _denominator(q, A1, A2)
        return scaling * wald, q, df


def _form(W: np.ndarray, u: np.ndarray) -> float:
    """sum of W_rs u_r'u_s"""
    return float(np.sum(u * (W @ u)))


def _denominator(q: int, A1: float, A2: float) -> tuple[float, float]:
    """Degrees of freedom and scaling of F, from Halekoh & Højsgaard (2014), appendix A.2."""
    if q == 1:
        return 2 / A2 if A2 else np.inf, 1.0
    if A2 == 0:
        return np.inf, 1.0
    B = (A1 + 6 * A2) / (2 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    c1, c2, c3 = np.array([g, q - g, q + 2 - g]) / (3 * q + 2 * (1 - g))
    V0, V1, V2 = 1 + c1 * B, 1 - c2 * B, 1 - c3 * B
    E = 1 - A2 / q
    rho = (1.0 if max(abs(E), abs(V1)) < 1e-14 else E / V1) ** 2 * V0 / V2 / q
    df = 4 + (q + 2) / (q * rho - 1)
    return float(df), 1.0 if abs(df - 2) < 0.01 else float(df * E / (df - 2))


def _beside(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """The block-diagonal matrix of both."""
    out = np.zeros(np.add(A.shape, B.shape))
    out[: A.shape[0], : A.shape[1]], out[A.shape[0] :, A.shape[1] :] = A, B
    return out


def _is_positive(A: np.ndarray) -> bool:
    """Whether a symmetric matrix, scaled to a unit diagonal, has no negative eigenvalue."""
    size = A.diagonal()
    if not (size > 0).all():
        return False
    scale = np.sqrt(size)
    return bool(np.linalg.eigvalsh(A / np.outer(scale, scale))[0] > -KNOWN)


def _generalized_inverse(A: np.ndarray) -> np.ndarray:
    """Of a positive semidefinite matrix, scaled to a unit diagonal."""
    size = np.abs(np.diag(A))
    scale = np.sqrt(np.where(size > 0, size, 1.0))
    values, axes = np.linalg.eigh(A / np.outer(scale, scale))
    known = values > KNOWN * values.max()
    root = axes[:, known] / np.sqrt(values[known]) / scale[:, None]
    return np.asarray(root @ root.T)


def _with_residual(m: Moments, gamma: np.ndarray, n: int) -> Moments:
    """Adds the residual variance as last parameter: G = W^-1 = V - sum gamma_r G_r."""
    p = m.basis.shape[1]
    r = len(gamma)
    traces = np.empty((r + 1, r + 1))
    traces[:r, :r] = m.traces
    traces[:r, r] = traces[r, :r] = m.trace - m.traces @ gamma
    traces[r, r] = n - gamma @ m.trace - gamma @ traces[:r, r]
    P = np.concatenate([m.P, [-np.eye(p) - np.tensordot(gamma, m.P, axes=1)]])
    Q = np.empty((r + 1, p, r + 1, p))
    Q[:r, :, :r] = m.Q
    Q[:r, :, r] = -m.P - np.tensordot(m.Q, gamma, axes=([2], [0]))
    Q[r, :, :r] = Q[:r, :, r].transpose(2, 0, 1)
    Q[r, :, r] = -P[r] - np.tensordot(gamma, Q[:r, :, r], axes=1)
    trace = np.append(m.trace, n - gamma @ m.trace)
    return Moments(trace, traces, P, Q, m.basis)


def _in_parameters(m: Moments, J: np.ndarray) -> Moments:
    """The moments in parameters of which the entries of covariances are functions: G_i is the sum
    of J_ri G_r. Kenward and Roger's term in second derivatives of V is left out, as in SAS's
    DDFM=KENWARDROGER(FIRSTORDER): unlike the rest it depends on the choice of parameters."""
    own = np.zeros((J.shape[0] + 1, J.shape[1] + 1))
    own[:-1, :-1], own[-1, -1] = J, 1.0
    return Moments(
        own.T @ m.trace,
        own.T @ m.traces @ own,
        np.tensordot(own.T, m.P, axes=1),
        np.einsum("ri,rpsq,sj->ipjq", own, m.Q, own, optimize=True),
        m.basis,
    )


def _score_with_residual(
    slope: np.ndarray, score: np.ndarray, gamma: np.ndarray, df: int
) -> np.ndarray:
    """q'G_r P G_s q with the residual variance as last parameter: G q = V q - sum gamma_r G_r q,
    and q'V P G_s q is the slope q'G_s q, q'V P V q the residual sum of squares over sigma^2, df."""
    r = len(gamma)
    out = np.empty((r + 1, r + 1))
    out[:r, :r] = score
    out[:r, r] = out[r, :r] = slope - score @ gamma
    out[r, r] = df - 2 * gamma @ slope + gamma @ score @ gamma
    return out
