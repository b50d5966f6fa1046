"""Derivatives of the covariance of y in the parameters of residual structures.

Relative to sigma^2, V = sum gamma_r G_r + R(delta). Here the derivatives R_j of R stand behind the
G_r of `variances`, as parameters of value zero: what the residual variance contributes,
R = V - sum gamma_r G_r, does not have them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.relations import times_relation
from .variances import Moments, Variances, restricted

if TYPE_CHECKING:
    from ..fit import Fit

FLAT = 1e-6  # a parameter that changes the standardized residuals by less is at a boundary
# Four points: the error is of order STEP**4, that of rounding 1e-12 / STEP
STEP = 2e-3  # in units of the standard deviation of a parameter given the others
POINTS = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))


@dataclass(frozen=True, eq=False)
class Directions:
    """What `engine.residual.ResidualPoint.directions` reads, for e: X E and y - X beta."""

    trace: np.ndarray  # d  tr V^-1 R_j
    traces: np.ndarray  # d x d  tr V^-1 R_j V^-1 R_k
    cross: np.ndarray  # d x r  tr V^-1 R_j V^-1 G_r
    P: np.ndarray  # d x (p + 1) x (p + 1)  -e'V^-1 R_j V^-1 e
    Q: np.ndarray  # d x (p + 1) x d x (p + 1)  e'V^-1 R_j V^-1 R_k V^-1 e
    Z: tuple[np.ndarray, ...]  # m x k x d (p + 1) by term  Z'V^-1 R_j V^-1 e


class ResidualVariances(Variances):
    """As `Variances`, with the parameters of the residual structure behind those of the terms.

    Parameters
    ----------
    fit : Fit
        Of a model with a residual structure.
    """

    def __init__(self, fit: Fit) -> None:
        super().__init__(fit)
        self._fit = fit

    @cached_property
    def gamma(self) -> np.ndarray:
        """(r + d,) value of each; zero for the parameters of the residuals."""
        return np.append(super().gamma, np.zeros(self.extra))

    @property
    def extra(self) -> int:
        """d: parameters of the residuals that are not at a boundary, as the range of car1 at zero;
        the others are left out."""
        return len(self._directions.P)

    @cached_property
    def _moving(self) -> np.ndarray:
        point: Any = self.point
        squares = point.directions[1].diagonal()
        return np.flatnonzero(np.sqrt(np.maximum(squares, 0.0) / self._fit.nobs) > FLAT)

    @cached_property
    def _directions(self) -> Directions:
        point: Any = self.point
        trace, traces, cross, G, Q, Z = point.directions
        at, count = self._moving, len(trace)
        P = np.array(G[at])
        P[:, -1, :-1] *= -1  # of y - X beta, not of X beta - y
        P[:, :-1, -1] *= -1
        some = tuple(
            one.reshape(*one.shape[:2], count, -1)[:, :, at].reshape(*one.shape[:2], -1)
            for one in Z
        )
        return Directions(trace[at], traces[np.ix_(at, at)], cross[at], P, Q[at][:, :, at], some)

    @cached_property
    def moments(self) -> Moments:
        """Of all fixed effects."""
        trace, traces = self._traces()
        P, Q = self._whole(self.point.basis.projected, False, 1.0)
        return Moments(trace, traces, P, Q, self.point.basis.E)

    def observed(self, sigma: float) -> tuple[Moments, np.ndarray, np.ndarray]:
        """As `Variances.observed`; the score has half of what the slope of the criterion adds
        where R bends."""
        basis, residual = self.point.basis, self.point.projection[1]
        pairs = zip(basis.projected, residual, strict=True)
        P, Q = self._whole(tuple(np.dstack([J, g / sigma]) for J, g in pairs), True, sigma)
        trace, traces = self._traces()
        moments = Moments(trace, traces, P[:, :-1, :-1], Q[:, :-1, :, :-1], basis.E)
        score = Q[:, -1, :, -1] - P[:, -1, :-1] @ P[:, :-1, -1].T
        own = slice(len(score) - self.extra, None)
        expected = restricted(traces, moments.P, moments.Q)[own, own]
        score[own, own] = (self._curvature(sigma, expected.diagonal()) + expected) / 2
        return moments, -P[:, -1, -1], score

    def _traces(self) -> tuple[np.ndarray, np.ndarray]:
        own, (trace, traces) = self._directions, self.point.traces
        whole = np.block([[traces, own.cross.T], [own.cross, own.traces]])
        return np.append(trace, own.trace), whole

    def _whole(
        self, J: tuple[np.ndarray, ...], residual: bool, sigma: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """P and Q of all parameters, for X E and, if wanted, (y - X beta) / sigma."""
        own, d = self._directions, len(self._directions.P)
        kept = slice(None) if residual else slice(None, -1)
        unit = np.ones(own.P.shape[1])
        unit[-1] = 1 / sigma
        P, Q = self.forms(J)
        r, p = P.shape[:2]
        whole = np.empty((r + d, p, r + d, p))
        whole[:r, :, :r] = Q
        scaled = own.Q * unit[:, None, None] * unit
        whole[r:, :, r:] = scaled[:, kept, :, kept]
        whole[:r, :, r:] = self._mixed(J, unit)[:, :, :, kept]
        whole[r:, :, :r] = whole[:r, :, r:].transpose(2, 3, 0, 1)
        residuals = (own.P * unit[:, None] * unit)[:, kept, kept]
        return np.concatenate([P, residuals]), whole

    def _mixed(self, J: tuple[np.ndarray, ...], unit: np.ndarray) -> np.ndarray:
        """(r, p, d, p + 1): e'V^-1 G_r V^-1 R_j V^-1 e."""
        d, p, out = len(self._directions.P), J[0].shape[2], []
        for i, (term, full) in enumerate(zip(self._terms, J, strict=True)):
            _, moved = term.moved(full)
            moved = times_relation(self._design.terms[i], moved)
            other = np.asarray(term.C.T @ self._directions.Z[i][:, term.kept])
            count = len(term.row)
            rows = other.shape[0] * other.shape[1]
            flat = moved.reshape(rows, count * p).T @ other.reshape(rows, -1)
            out.append(flat.reshape(count, p, d, len(unit)) * unit)
        return np.concatenate(out)

    def _curvature(self, sigma: float, sizes: np.ndarray) -> np.ndarray:
        """(d, d) second derivatives in delta of the criterion at this sigma, which is not profiled:
        differences of its exact gradient."""
        fit, at = self._fit, self._moving
        delta = np.asarray(fit.estimates.delta)

        def gradient(moved: np.ndarray) -> np.ndarray:
            point = fit.model.point(fit.theta, reml=True, delta=moved)  # type: ignore[call-arg]
            _, slope, G = point.slopes()  # type: ignore[attr-defined]
            whole = slope + (1 / sigma**2 - 1 / point.sigma**2) * G[:, -1, -1]
            return np.asarray(whole[at])

        H = np.zeros((len(at),) * 2)
        steps = STEP / np.sqrt(np.maximum(sizes / 2, 1e-12 * sizes.max(initial=0.0)))
        for i, step in enumerate(steps):
            for place, weight in POINTS:
                moved = delta.copy()
                moved[at[i]] += place * step
                H[i] += weight / step * gradient(moved)
        return (H + H.T) / 2
