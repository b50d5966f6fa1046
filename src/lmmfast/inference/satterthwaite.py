"""Satterthwaite degrees of freedom of tests of fixed effects.

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

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.derivatives import (
    LARGE,
    hessian_along,
    hessian_at_sigma,
    hessian_with_delta,
    hessian_within,
    hessian_within_with_delta,
)
from ..engine.free import directions
from ..errors import FitError
from ..linalg import inverse_root, triangular_root
from .estimability import contrasts, usable_rows
from .refits import model_of
from .structured import jacobian, moving
from .variances import chain

if TYPE_CHECKING:
    from ..engine.model import Model
    from ..fit import Fit


RANK = 1.5e-8  # relative variance below which a joint hypothesis has no further dimension
EQUAL = 1e-8  # degrees of freedom closer than this are one number
DENSE = 500  # columns of a sparse trailing matrix that may be dense for second derivatives
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

    def gradient(self, squares: np.ndarray) -> np.ndarray:
        """Derivatives of the sum of w_l'T T'w_l over levels l, from sums of w_l w_l' (c, k, k)."""
        return np.asarray(2 * (squares @ self.T)[:, self.row, self.column])


def _whitened(
    T: np.ndarray, kept: np.ndarray, C: np.ndarray, row: np.ndarray, column: np.ndarray
) -> Whitened:
    own = np.linalg.solve(C, T[np.ix_(kept, kept)])
    diagonal = bool((row == column).all())
    if not diagonal:
        varied = own[:, own.any(axis=0)]
        own = triangular_root(varied)
    return Whitened(kept, C, own, row, column)


class Satterthwaite:
    """Satterthwaite degrees of freedom for the fixed effects of one fit.

    The curvature of the criterion is computed at the first use, and once, in whitened coordinates:
    units, origins and codings of the columns do not matter. Parameters that are zero at the
    boundary (zero columns of T) are held: the criterion is even in such a column, so that neither
    curvature nor the gradient of any contrast's variance leads there. Directions without curvature
    are left out, as in lmerTest; contrasts depend on them only if the model is not identified. Of a
    fit in which parameters were held or tied, the derivatives are in what was free; a sigma that is
    known adds no uncertainty. Of a model with covariance structures they are in the parameters of
    these, `Estimates.phi`.

    Parameters
    ----------
    fit : Fit
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

    def __init__(self, fit: Fit) -> None:
        self._fit = fit

    @cached_property
    def _model(self) -> Model:
        return model_of(self._fit)

    @cached_property
    def terms(self) -> list[Whitened]:
        """The random terms in whitened coordinates; in the user's where parameters are held or tied
        in these."""
        engine, T = self._model._engine, self._fit.estimates.T
        if self._fit.estimates.free is not None:
            kept = [np.array(engine.kept(i)) for i in range(len(T))]
            return [
                Whitened(own, np.eye(len(own)), T[i][np.ix_(own, own)], *engine.entries(i))
                for i, own in enumerate(kept)
            ]
        return [
            _whitened(T[i], np.array(engine.kept(i)), C, *engine.entries(i))
            for i, C in enumerate(engine.whitening())
        ]

    @cached_property
    def directions(self) -> np.ndarray:
        """(n, k): how the parameters of the terms move with those that are free.

        What lies at the boundary is not.
        """
        estimates = self._fit.estimates
        if estimates.phi is not None:
            return np.eye(len(estimates.phi))[:, moving(self._fit)]
        if estimates.free is not None:
            return directions(estimates.free, estimates.T, self._model.theta_entries)
        free = np.concatenate([term.free for term in self.terms])
        return np.eye(len(free))[:, free]

    @property
    def ndelta(self) -> int:
        """Number of parameters of the residual structure, which move besides theta."""
        delta = self._fit.estimates.delta
        return 0 if delta is None else len(delta)

    @cached_property
    def steps(self) -> np.ndarray:
        """(n, k + ndelta): the directions, and zeros for the parameters of the residuals."""
        return np.hstack([self.directions, np.zeros((len(self.directions), self.ndelta))])

    @cached_property
    def _information(self) -> tuple[np.ndarray, np.ndarray]:
        sigma = None if self._fit.estimates.free is None else self._fit.estimates.free.sigma
        if sigma is not None:
            place = self._model, self._fit.theta, self._fit.reml
            return inverse_root(hessian_at_sigma(*place, self.directions, sigma))
        if self._analytic_is_faster():
            with suppress(MemoryError, FitError):
                return inverse_root(self._analytic_hessian())
        return inverse_root(self._numerical_hessian())

    def _analytic_is_faster(self) -> bool:
        """Than differences: two evaluations a parameter, each of order^3 operations."""
        if self.ndelta:
            return False
        order, storage = self._model.storage["order"], self._model.storage["storage"]
        if self._model._engine.moves:
            return False
        if storage != "dense" and order > DENSE:
            return False
        free = self.directions.shape[1]
        return order < LARGE or bool(self._fit.point.traces_price[1] <= 2 * free * order**3)

    def _numerical_hessian(self) -> np.ndarray:
        """By differences of the exact gradient: four gradients a parameter."""
        phi, delta = self._fit.estimates.phi, self._fit.estimates.delta
        if phi is not None and delta is not None:
            both: Any = self._model
            return hessian_within_with_delta(both, phi, delta, self._fit.reml, self.directions)
        if phi is not None:
            return hessian_within(self._model, phi, self._fit.reml, self.directions)
        theta = np.concatenate([term.T[term.row, term.column] for term in self.terms])
        whitened = self._fit.estimates.free is None
        along = self.directions
        if self.ndelta:
            whole = np.concatenate([theta, self._fit.estimates.delta])
            own: Any = self._model
            return hessian_with_delta(own, whole, self._fit.reml, along, whitened=whitened)
        return hessian_along(self._model, theta, self._fit.reml, along, whitened=whitened)

    def _analytic_hessian(self) -> np.ndarray:
        """From second derivatives in the entries of T T', by the chain rule."""
        fit, terms = self._fit, self.terms
        slope, second = fit.point.hessian
        if fit.estimates.phi is not None:
            own: Any = self._model.structured
            H = own.chain(fit.estimates.phi, slope, second)
            return np.asarray(self.directions.T @ H @ self.directions)
        turns: list[np.ndarray | None] = [None] * len(terms)  # terms are in whitened columns
        if fit.estimates.free is not None:
            whitening = fit.model._engine.whitening()
            turns = [np.linalg.solve(C, term.C) for C, term in zip(whitening, terms, strict=True)]
        roots = [(A, term.T, term.row, term.column) for A, term in zip(turns, terms, strict=True)]
        return np.asarray(self.directions.T @ chain(slope, second, roots) @ self.directions)

    @property
    def root(self) -> np.ndarray:
        """(k + ndelta, j) array with Cov(theta, delta) = root root' for the free parameters, sigma
        profiled."""
        return self._information[0]

    @property
    def unknown(self) -> np.ndarray:
        """(k, i) array: directions of the free parameters about which the data say nothing."""
        return self._information[1]

    @property
    def is_sigma_known(self) -> bool:
        """Whether the residual standard deviation was held."""
        return self._fit.estimates.is_sigma_known

    @cached_property
    def nu(self) -> int:
        """Denominator of the residual variance: n - p (REML) or n (ML)."""
        estimates = self._fit.estimates
        return int(estimates.n - (estimates.fixed_kept.sum() if estimates.reml else 0))

    @cached_property
    def slope(self) -> np.ndarray:
        """(k,) gradient of log r^2, the logarithm of the residual sum of squares; zero where sigma
        is known, and does not follow it."""
        if self.is_sigma_known:
            return np.zeros(self.steps.shape[1])
        total = self.nu * self._fit.estimates.sigma**2
        none = np.zeros((0, len(self._fit.estimates.beta)))
        return np.asarray(-self._gradient(none)[0] / total)

    def _gradient(self, L: np.ndarray) -> np.ndarray:
        """(c + 1, k): derivatives in the free parameters of -r^2, and of the variances of the
        contrasts over sigma^2."""
        squares = self._fit.point.contrasts(L)
        if self._fit.estimates.phi is not None:
            found = self._structured_gradient(squares)
            return np.hstack([found, self._delta_gradient(L)]) if self.ndelta else found
        if self._fit.estimates.free is not None:  # the user's columns
            back = self._fit.point.unwhitening
            dual = [C[term.kept] for C, term in zip(back, self.terms, strict=True)]
            squares = tuple(D @ M @ D.T for D, M in zip(dual, squares, strict=True))
        parts = [term.gradient(one) for one, term in zip(squares, self.terms, strict=True)]
        found = np.concatenate(parts, axis=1) @ self.directions
        return np.hstack([found, self._delta_gradient(L)]) if self.ndelta else np.asarray(found)

    def _delta_gradient(self, L: np.ndarray) -> np.ndarray:
        """(c + 1, ndelta): the same in the parameters of the residual structure."""
        point: Any = self._fit.point
        G, own = self._products, L @ point.basis.E
        variances = np.einsum("ci,dij,cj->cd", own, G[:, :-1, :-1], own)
        return -np.concatenate([G[None, :, -1, -1], variances])

    @cached_property
    def _products(self) -> np.ndarray:
        point: Any = self._fit.point
        return np.asarray(point.slopes()[2])

    def _structured_gradient(self, squares: tuple[np.ndarray, ...]) -> np.ndarray:
        """The same from sums of w_l w_l' of whitened columns, whose covariance is S: tr(M dS)."""
        parts = []
        for i, M in enumerate(squares):
            row, column = self._model._engine.entries(i)
            parts.append(M[:, row, column] * np.where(row == column, 1.0, 2.0))
        return np.asarray(np.concatenate(parts, axis=1) @ jacobian(self._fit))

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
            NaN for contrasts that are zero or involve a dropped column. Never above ``nu``, unless
            sigma is known.
        """
        L = contrasts(L, len(self._fit.estimates.beta))
        found = [self._df(L[a : a + AT_ONCE]) for a in range(0, len(L), AT_ONCE)]
        df = np.concatenate([np.empty(0), *found])
        df[~usable_rows(L, self._fit.estimates.fixed_kept)] = np.nan
        return df

    def _df(self, L: np.ndarray) -> np.ndarray:
        variance = ((L @ self._vcov) * L).sum(axis=1)
        scale, total = self._fit.estimates.sigma**2, self.nu * self._fit.estimates.sigma**2
        gradient = self._gradient(L)
        if not self.is_sigma_known:
            self.__dict__.setdefault("slope", -gradient[0] / total)
        with np.errstate(invalid="ignore", divide="ignore"):
            h = scale * gradient[1:] / variance[:, None] + self.slope
            own = 0.0 if self.is_sigma_known else 2 / self.nu  # of sigma's estimate
            return np.asarray(2 / (((h @ self.root) ** 2).sum(axis=1) + own))

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
