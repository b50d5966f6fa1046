"""The model with a residual structure straight from its definition, in dense NumPy: small n.

V = sum_k Z_k (I x T_k T_k') Z_k' + W^-1/2 D C D W^-1/2, formed row by row; sigma is profiled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


def correlation(
    kind: str, x: np.ndarray, subject: np.ndarray, time: np.ndarray, visits: int = 0
) -> np.ndarray:
    """C: correlations of rows of one subject."""
    n, same = len(subject), subject[:, None] == subject
    lag = np.abs(time[:, None] - time)
    if kind == "ar1":
        C = np.sin(x[0]) ** np.round(lag)
    elif kind == "car1":
        C = np.exp(-lag / np.exp(x[0]))
    elif kind == "cs":
        most = np.bincount(subject).max()
        C = np.full((n, n), 1 - most / (most - 1) * np.cos(x[0]) ** 2)
        np.fill_diagonal(C, 1.0)
    elif kind == "ante":
        rho, C = np.sin(x[:visits]), np.eye(n)
        for i in range(n):
            for j in range(n):
                a, b = sorted((int(time[i]), int(time[j])))
                C[i, j] = np.prod(rho[a:b])
    else:
        C = np.eye(n)
    return np.where(same, C, 0.0)


@dataclass(frozen=True, eq=False)
class Dense:
    """Rows of a model; theta by term as lme4 has it, delta: log deviations, then C's parameters."""

    y: np.ndarray
    X: np.ndarray
    terms: list[tuple[np.ndarray, np.ndarray]]
    columns: np.ndarray  # n x deviations: log d = columns @ delta
    kind: str
    subject: np.ndarray
    time: np.ndarray
    weights: np.ndarray | None
    reml: bool
    relations: tuple[np.ndarray | None, ...] = ()  # K of each term's levels

    @property
    def ntheta(self) -> int:
        return sum(z.shape[1] * (z.shape[1] + 1) // 2 for _, z in self.terms)

    def factors(self, theta: np.ndarray) -> list[np.ndarray]:
        out, at = [], 0
        for _, z in self.terms:
            k = z.shape[1]
            T = np.zeros((k, k))
            T.T[np.triu_indices(k)] = theta[at : at + k * (k + 1) // 2]
            out.append(T)
            at += k * (k + 1) // 2
        return out

    def related(self, k: int, codes: np.ndarray) -> np.ndarray:
        """Of the levels of term k in any two rows: whether they are one, or their entry of K."""
        K = self.relations[k] if self.relations else None
        same = codes[:, None] == codes
        return same.astype(float) if K is None else K[np.ix_(codes, codes)]

    def residual(self, delta: np.ndarray) -> np.ndarray:
        """W^-1/2 D C D W^-1/2."""
        k = self.columns.shape[1]
        d = np.exp(self.columns @ delta[:k])
        if self.weights is not None:
            d = d / np.sqrt(self.weights)
        visits = len(delta) - k
        C = correlation(self.kind, delta[k:], self.subject, self.time, visits)
        return d[:, None] * C * d

    def solved(self, psi: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, float]:
        """Criterion, beta, (X'V^-1 X)^-1 and the residual sum of squares."""
        theta, delta = psi[: self.ntheta], psi[self.ntheta :]
        V = self.residual(delta)
        for k, ((codes, z), T) in enumerate(zip(self.terms, self.factors(theta), strict=True)):
            V = V + ((z @ T) @ (z @ T).T) * self.related(k, codes)
        n, p = self.X.shape
        L = np.linalg.cholesky(V)
        X, y = np.linalg.solve(L, self.X), np.linalg.solve(L, self.y)
        C = np.linalg.inv(X.T @ X)
        beta = C @ X.T @ y
        r2, nu = float(np.sum((y - X @ beta) ** 2)), n - p * self.reml
        f = 2 * np.log(np.diag(L)).sum() + nu * (1 + np.log(2 * np.pi * r2 / nu))
        return f - np.linalg.slogdet(C)[1] * self.reml, beta, C, r2

    def objective(self, psi: np.ndarray) -> float:
        return self.solved(psi)[0]

    def gradient(self, psi: np.ndarray, step: float = 1e-5) -> np.ndarray:
        """By central differences."""
        moves = step * np.eye(len(psi))
        return np.array(
            [(self.objective(psi + h) - self.objective(psi - h)) / (2 * step) for h in moves]
        )

    def satterthwaite(self, psi: np.ndarray, L: np.ndarray) -> np.ndarray:
        """Degrees of freedom of contrasts from the Hessian in (psi, log sigma^2), all by
        differences of the criterion that is not profiled."""
        n, p = self.X.shape
        nu = n - p * self.reml
        _, _, _, r2 = self.solved(psi)
        at = np.append(psi, np.log(r2 / nu))

        def whole(x: np.ndarray) -> float:
            f, _, _, r2 = self.solved(x[:-1])
            return f - nu * (1 + np.log(r2 / nu)) + nu * x[-1] + r2 / np.exp(x[-1])

        def variance(x: np.ndarray) -> np.ndarray:
            C = self.solved(x[:-1])[2] * np.exp(x[-1])
            return np.einsum("ci,ij,cj->c", L, C, L)

        m, size = len(at), 1e-3 * np.maximum(np.abs(at), 0.3)
        h = np.diag(size)
        H = np.empty((m, m))
        for i in range(m):
            for j in range(i, m):
                corners = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
                total = sum(s * whole(at + a * h[i] + b * h[j]) for a, b, s in corners)
                H[i, j] = H[j, i] = total / (4 * size[i] * size[j])
        slope = np.array([(variance(at + e) - variance(at - e)) / (2 * e.sum()) for e in h])
        return 2 * variance(at) ** 2 / np.einsum("ic,ij,jc->c", slope, 2 * np.linalg.inv(H), slope)

    def covariance(self, gamma: np.ndarray) -> np.ndarray:
        """V at the entries of each term's covariance (columns of lower triangles), then delta."""
        V, at = self.residual(gamma[self.ntheta :]), 0
        for k, (codes, z) in enumerate(self.terms):
            for c in range(z.shape[1]):
                for r in range(c, z.shape[1]):
                    G = np.outer(z[:, r], z[:, c]) * gamma[at]
                    V = V + (G if r == c else G + G.T) * self.related(k, codes)
                    at += 1
        return V

    def entries(self, psi: np.ndarray) -> np.ndarray:
        """What `covariance` takes, of theta and delta."""
        parts = []
        for T in self.factors(psi[: self.ntheta]):
            S = T @ T.T
            parts += [S[c:, c] for c in range(len(S))]
        return np.concatenate([*parts, psi[self.ntheta :]])

    def kenward(
        self,
        z: np.ndarray,
        L: np.ndarray,
        observed: bool,
        covariance: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Kenward and Roger's covariance of the fixed effects, without the term of second
        derivatives, and degrees of freedom of single contrasts: V = covariance(z) over sigma^2,
        differentiated by differences, and sigma^2 are the parameters."""
        at = self.covariance if covariance is None else covariance
        V, h = at(z), 1e-5 * np.eye(len(z))
        inverse = np.linalg.inv(V)
        Phi = np.linalg.inv(self.X.T @ inverse @ self.X)
        beta = Phi @ self.X.T @ inverse @ self.y
        rest = self.y - self.X @ beta
        s2 = rest @ inverse @ rest / (len(self.y) - self.X.shape[1])
        G = [(at(z + e) - at(z - e)) / 2e-5 for e in h]
        G = [*G, V]  # of the residual variance, where the others are shares of it
        project = inverse - inverse @ self.X @ Phi @ self.X.T @ inverse
        q = inverse @ rest / np.sqrt(s2)
        expected = np.array([[np.sum((project @ a) * (b @ project)) for b in G] for a in G]) / 2
        information = expected
        if observed:
            information = np.array([[q @ a @ project @ b @ q for b in G] for a in G]) - expected
            for i, a in enumerate(100 * h):
                for j, b in enumerate(100 * h):
                    bend = at(z + a + b) - at(z + a - b) - at(z - a + b) + at(z - a - b)
                    bend /= 4e-6
                    information[i, j] += (np.sum(project * bend) - q @ bend @ q) / 2
        W = np.linalg.pinv(information, rcond=1e-11, hermitian=True)
        VX = inverse @ self.X
        P = np.array([-VX.T @ a @ VX for a in G])
        middle = sum(
            W[i, j] * (VX.T @ a @ inverse @ b @ VX - P[i] @ Phi @ P[j])
            for i, a in enumerate(G)
            for j, b in enumerate(G)
        )
        slopes = np.einsum("ci,rij,cj->cr", L @ Phi, P, L @ Phi)
        variance = np.einsum("ci,ij,cj->c", L, Phi, L)
        df = 2 * variance**2 / np.einsum("cr,rs,cs->c", slopes, W, slopes)
        return s2 * (Phi + 2 * Phi @ middle @ Phi), df
