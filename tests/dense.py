"""The model straight from its definition, in dense NumPy: slow, small n, for checking the engine.

Nothing here follows the engine's way: no whitening, no elimination, no cross-products. V is formed
row by row and its determinant taken by LU, which works for complex theta too (complex steps).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Term:
    """One random term, as `LMM.from_arrays` takes it."""

    codes: np.ndarray
    z: np.ndarray
    structure: str = "full"

    @property
    def free(self) -> list[tuple[int, int]]:
        """(row, column) of T for each parameter: the lower triangle by columns."""
        k = self.z.shape[1]
        if self.structure == "diag":
            return [(j, j) for j in range(k)]
        return [(r, c) for c in range(k) for r in range(c, k)]

    @property
    def levels(self) -> int:
        return int(self.codes.max()) + 1

    def matrix(self) -> np.ndarray:
        """Z of this term, n x (levels k), level by level."""
        n, k = self.z.shape
        Z = np.zeros((n, self.levels, k))
        Z[np.arange(n), self.codes] = self.z
        return Z.reshape(n, -1)


@dataclass(frozen=True)
class Solution:
    """Everything that the definition gives at one theta."""

    objective: Any
    beta: np.ndarray
    vcov: np.ndarray
    sigma: float
    b: list[np.ndarray]
    condvar: list[np.ndarray]


@dataclass(frozen=True, eq=False)
class Problem:
    """Data of one model; `arrays` is what `LMM.from_arrays` takes."""

    y: np.ndarray
    X: np.ndarray
    terms: list[Term]
    weights: np.ndarray | None = None
    offset: np.ndarray | None = None

    @property
    def arrays(self) -> tuple[Any, ...]:
        terms = [(t.codes, t.z, t.structure) for t in self.terms]
        return self.y, self.X, terms, self.weights, self.offset

    @property
    def ntheta(self) -> int:
        return sum(len(t.free) for t in self.terms)

    def factors(self, theta: np.ndarray) -> Iterator[tuple[Term, np.ndarray]]:
        """Each term with its T."""
        at = 0
        for term in self.terms:
            k = term.z.shape[1]
            T = np.zeros((k, k), theta.dtype)
            for r, c in term.free:
                T[r, c] = theta[at]
                at += 1
            yield term, T

    def covariance(self, theta: np.ndarray) -> np.ndarray:
        """V = Z Lambda Lambda' Z' + W^-1."""
        w = np.ones(len(self.y)) if self.weights is None else self.weights
        V = np.diag(1 / w).astype(theta.dtype)
        for term, T in self.factors(theta):
            zT = term.z @ T
            V += (zT @ zT.T) * (term.codes[:, None] == term.codes)
        return V

    def random(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Z of all terms side by side, and Lambda Lambda'."""
        parts = [(t.matrix(), np.kron(np.eye(t.levels), T @ T.T)) for t, T in self.factors(theta)]
        Z, q = np.hstack([Z for Z, _ in parts]), sum(len(G) for _, G in parts)
        variance, at = np.zeros((q, q)), 0
        for _, G in parts:
            variance[at : at + len(G), at : at + len(G)] = G
            at += len(G)
        return Z, variance

    def remaining(self, theta: np.ndarray) -> np.ndarray:
        """Covariance of the random effects given y and beta, over sigma^2."""
        Z, G = self.random(theta)
        return G - G @ Z.T @ np.linalg.solve(self.covariance(theta), Z @ G)

    def response(self) -> np.ndarray:
        return self.y if self.offset is None else self.y - self.offset

    def _fixed(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
        """V, X'V^-1 X, beta and the residual sum of squares r'V^-1 r."""
        V, y = self.covariance(theta), self.response()
        VX = np.linalg.solve(V, self.X)
        C = self.X.T @ VX
        beta = np.linalg.solve(C, VX.T @ y)
        r = y - self.X @ beta
        return V, C, beta, r @ np.linalg.solve(V, r)

    def degrees(self, reml: bool) -> int:
        return len(self.y) - (self.X.shape[1] if reml else 0)

    def objective(self, theta: np.ndarray, reml: bool) -> Any:
        """REML criterion or deviance; analytic in theta."""
        V, C, _, r2 = self._fixed(theta)
        nu = self.degrees(reml)
        f = _logdet(V) + nu * (1 + np.log(2 * np.pi * r2 / nu))
        return f + _logdet(C) if reml and len(C) else f

    def gradient_along(self, theta: np.ndarray, direction: np.ndarray, reml: bool) -> float:
        """Slope of the objective by a complex step: exact to rounding."""
        return float(self.objective(theta + 1e-30j * direction, reml).imag / 1e-30)

    def gradient(self, theta: np.ndarray, reml: bool) -> np.ndarray:
        return np.array([self.gradient_along(theta, axis, reml) for axis in np.eye(len(theta))])

    def curvature(self, theta: np.ndarray, reml: bool) -> np.ndarray:
        """Average information and boundary term.

        nu y'P V_e P V_f P y / r2 - nu a_e a_f / r2^2 with a_e = y'P V_e P y, plus 2 S[r, r'] for
        entries of one column of one T, S being the sum over levels of
        Z_l'(V^-1 - [REML] V^-1 X C^-1 X'V^-1) Z_l - (nu / r2) g_l g_l'  with  g = Z'P y.
        """
        V, C, _, r2 = self._fixed(theta)
        inverse = np.linalg.inv(V)
        VX = inverse @ self.X
        P = inverse - VX @ np.linalg.solve(C, VX.T)
        Py, nu = P @ self.response(), self.degrees(reml)
        moved, boundary, at = [], np.zeros((len(theta),) * 2), 0
        for term, T in self.factors(theta):
            k, Z = term.z.shape[1], term.matrix()
            own = (P if reml else inverse) - nu / r2 * np.outer(Py, Py)
            levels = Z.reshape(-1, term.levels, k)
            S = np.einsum("ilr,ij,jls->rs", levels, own, levels, optimize=True)
            for i, (r, c) in enumerate(term.free):
                E = np.zeros((k, k))
                E[r, c] = 1
                change = term.z @ (E @ T.T + T @ E.T) @ term.z.T
                moved.append(change * (term.codes[:, None] == term.codes) @ Py)
                for j, (s, d) in enumerate(term.free):
                    boundary[at + i, at + j] = 2 * S[r, s] if c == d else 0
            at += len(term.free)
        M = np.array(moved)
        a = M @ Py
        return nu * M @ P @ M.T / r2 - nu * np.outer(a, a) / r2**2 + boundary

    def solve(self, theta: np.ndarray, reml: bool) -> Solution:
        """Estimates at theta."""
        V, C, beta, r2 = self._fixed(theta)
        variance = r2 / self.degrees(reml)
        r = self.response() - self.X @ beta
        ranef, variances = [], []
        for term, T in self.factors(theta):
            k, Z = term.z.shape[1], term.matrix()
            G = np.kron(np.eye(term.levels), T @ T.T)
            ranef.append((G @ Z.T @ np.linalg.solve(V, r)).reshape(-1, k))
            left = G - G @ Z.T @ np.linalg.solve(V, Z @ G)
            blocks = left.reshape(term.levels, k, term.levels, k)
            variances.append(np.stack([blocks[i, :, i] for i in range(term.levels)]))
        vcov = variance * np.linalg.inv(C)
        f = self.objective(theta, reml)
        return Solution(f, beta, vcov, float(np.sqrt(variance)), ranef, variances)


def _logdet(A: np.ndarray) -> Any:
    sign, size = np.linalg.slogdet(A)
    return size + np.log(sign) if np.iscomplexobj(A) else size
