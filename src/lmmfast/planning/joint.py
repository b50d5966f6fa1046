"""F tests of many replicates at once, with the degrees of freedom of `Satterthwaite.f`.

The variance v of a contrast l'beta is quadratic in l, and so is its gradient in the covariance
parameters; the variance of v that Satterthwaite's method takes, 2 v^2 / df, is quadratic in that
and a polynomial of degree four in l. Values at as many contrasts as it has coefficients give it
everywhere, so at the eigenvectors of the contrasts' covariance, which differ from replicate to
replicate, too.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..inference.satterthwaite import EQUAL

MOST = 6  # rows of a hypothesis: 126 contrasts


@dataclass(frozen=True, eq=False)
class Joint:
    """Rows of a hypothesis, and contrasts of them from which all others follow."""

    L: np.ndarray  # r x p
    root: np.ndarray  # r x r  L = root times rows that are about uncorrelated, of equal variance

    @classmethod
    def of(cls, L: np.ndarray, vcov: np.ndarray) -> Joint:
        """vcov: a covariance of beta, at the assumed parameters for example."""
        return cls(L, np.linalg.cholesky(L @ vcov @ L.T))

    @property
    def contrasts(self) -> np.ndarray:
        """(m, p) contrasts whose variances and degrees of freedom are needed."""
        return np.asarray(_nodes(len(self.L)).points @ np.linalg.solve(self.root, self.L))

    def covariance(self, variance: np.ndarray) -> np.ndarray:
        """(c, r, r) covariances of L beta, from variances of the contrasts (c, m)."""
        r = len(self.L)
        form = _row_by_row(variance, _nodes(r).quadratic)
        inner = np.empty((len(variance), r, r))
        pairs = itertools.combinations_with_replacement(range(r), 2)
        for k, (i, j) in enumerate(pairs):
            inner[:, i, j] = inner[:, j, i] = form[:, k] / (1 if i == j else 2)
        return np.asarray(self.root @ inner @ self.root.T)

    def square(self, effect: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """(c,) effect' Cov^-1 effect of effects (c, r)."""
        values, axes = _eigen(self.covariance(variance))
        along = np.einsum("ci,cik->ck", effect, axes)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((along**2 / values).sum(axis=1))

    def denominator(self, variance: np.ndarray, df: np.ndarray) -> np.ndarray:
        """(c,) denominators of F tests, from variances and df of the contrasts (c, m)."""
        values, axes = _eigen(self.covariance(variance))
        places = np.einsum("cik,ij->ckj", axes, self.root)
        with np.errstate(divide="ignore", invalid="ignore"):
            form = _row_by_row(2 * variance**2 / df, _nodes(len(self.L)).quartic)
            spread = np.einsum("ckm,cm->ck", _monomials(places, 4), form)
            return _joint_df(2 * values**2 / spread)


def _row_by_row(rows: np.ndarray, M: np.ndarray) -> np.ndarray:
    """rows @ M.T, each row alone: the same however many there are."""
    return np.asarray((rows[:, None, :] @ M.T)[:, 0])


def _eigen(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and vectors of each, NaN where it is not finite."""
    bad = ~np.isfinite(covariance).all(axis=(1, 2))
    values, axes = np.linalg.eigh(np.where(bad[:, None, None], 0.0, covariance))
    return np.where(bad[:, None], np.nan, values), axes


def _joint_df(df: np.ndarray) -> np.ndarray:
    """As `satterthwaite.joint_df`, of rows (c, k)."""
    E = (df / (df - 2)).sum(axis=1)
    out = 2 * E / (E - df.shape[1])
    out = np.where((df <= 2).any(axis=1), 2.0, out)
    out = np.where(np.ptp(df, axis=1) < EQUAL * df.max(axis=1), df.mean(axis=1), out)
    return np.asarray(np.where(np.isfinite(df).all(axis=1), out, np.nan))


@dataclass(frozen=True, eq=False)
class _Nodes:
    points: np.ndarray  # m x r
    quadratic: np.ndarray  # values at the points -> coefficients of a form of degree two
    quartic: np.ndarray  # ... four


@lru_cache(maxsize=MOST)
def _nodes(r: int) -> _Nodes:
    """Points in r dimensions that determine forms of degree two and four, well spread."""
    from scipy.linalg import qr

    steps = np.array(list(itertools.product(range(-2, 3), repeat=r)), dtype=float)
    first = np.array([next((step for step in row if step), 0.0) for row in steps])
    steps = steps[first > 0]  # one of each pair of opposite points
    steps = np.unique(np.round(steps / np.linalg.norm(steps, axis=1)[:, None], 12), axis=0)
    values = _monomials(steps, 4)
    chosen = np.sort(qr(values.T, pivoting=True, mode="r")[1][: values.shape[1]])
    points = steps[chosen]
    return _Nodes(points, np.linalg.pinv(_monomials(points, 2)), np.linalg.inv(values[chosen]))


def _monomials(points: np.ndarray, degree: int) -> np.ndarray:
    """Products of `degree` coordinates, one for each way to choose them: (..., ways)."""
    ways = itertools.combinations_with_replacement(range(points.shape[-1]), degree)
    return np.stack([points[..., list(way)].prod(axis=-1) for way in ways], axis=-1)
