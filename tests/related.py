"""Models with relationship matrices straight from their definition, in dense NumPy; pedigrees by
the tabular method. Slow: for checking the engine."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd


class Term(NamedTuple):
    """A random term: level of each row, columns, and K of its levels."""

    codes: np.ndarray
    z: np.ndarray
    K: np.ndarray

    def matrix(self) -> np.ndarray:
        """Z (n, m k), level by level."""
        (n, k), m = self.z.shape, len(self.K)
        Z = np.zeros((n, m, k))
        Z[np.arange(n), self.codes] = self.z
        return Z.reshape(n, -1)


class Dense(NamedTuple):
    """What the definition gives at T of each term."""

    objective: Any
    beta: np.ndarray
    vcov: np.ndarray
    sigma: float
    b: list[np.ndarray]
    errors: list[np.ndarray]  # Var(b-hat - b) given T and sigma, (m, k, k)


def roots(theta: np.ndarray, widths: list[int]) -> list[np.ndarray]:
    """T of each term: lower triangles by columns."""
    out, at = [], 0
    for k in widths:
        T = np.zeros((k, k), np.asarray(theta).dtype)
        for c in range(k):
            T[c:, c] = theta[at : at + k - c]
            at += k - c
        out.append(T)
    return out


def objective(
    y: np.ndarray, X: np.ndarray, terms: list[Term], theta: np.ndarray, reml: bool
) -> Any:
    """REML criterion or deviance; theta may be complex."""
    n, p = X.shape
    V = np.eye(n, dtype=np.asarray(theta).dtype)
    for term, T in zip(terms, roots(theta, [t.z.shape[1] for t in terms]), strict=True):
        V = V + term.matrix() @ np.kron(term.K, T @ T.T) @ term.matrix().T
    C = X.T @ np.linalg.solve(V, X)
    e = y - X @ np.linalg.solve(C, X.T @ np.linalg.solve(V, y))
    nu = n - p if reml else n
    total = _logdet(V) + (_logdet(C) if reml else 0)
    return total + nu * (1 + np.log(2 * np.pi * (e @ np.linalg.solve(V, e)) / nu))


def _logdet(A: np.ndarray) -> Any:
    """Logarithm of the determinant, of a complex matrix too."""
    from scipy.linalg import lu

    return np.log(np.diag(lu(A)[2]) ** 2).sum() / 2


def solution(
    y: np.ndarray, X: np.ndarray, terms: list[Term], theta: np.ndarray, reml: bool
) -> Dense:
    """Everything at a real theta."""
    n, p = X.shape
    T = roots(theta, [t.z.shape[1] for t in terms])
    Z = [term.matrix() for term in terms]
    G = [np.kron(term.K, t @ t.T) for term, t in zip(terms, T, strict=True)]
    V = np.eye(n) + sum(z @ g @ z.T for z, g in zip(Z, G, strict=True))
    W = np.linalg.inv(V)
    C = np.linalg.inv(X.T @ W @ X)
    beta = C @ X.T @ W @ y
    P = W - W @ X @ C @ X.T @ W
    sigma2 = y @ P @ y / (n - p if reml else n)
    b, errors = [], []
    for term, z, g in zip(terms, Z, G, strict=True):
        m, k = len(term.K), term.z.shape[1]
        b.append((g @ z.T @ P @ y).reshape(m, k))
        given = (g - g @ z.T @ W @ z @ g) * sigma2
        own = (slice(k * j, k * j + k) for j in range(m))
        errors.append(np.array([given[at, at] for at in own]))
    value = objective(y, X, terms, theta, reml)
    return Dense(float(value), beta, sigma2 * C, float(np.sqrt(sigma2)), b, errors)


# ---- pedigrees -----------------------------------------------------------------------------------


def generations(n: int, count: int, seed: int) -> pd.DataFrame:
    """A pedigree of so many generations: parents come from the one before; some are unknown."""
    rng = np.random.default_rng(seed)
    size = n // count
    rows: list[tuple[str, str | None, str | None]] = []
    for i in range(n):
        before = (i // size - 1) * size
        if before < 0:
            rows.append((f"a{i}", None, None))
            continue
        sire = before + 2 * int(rng.integers(size // 2))
        dam = before + 2 * int(rng.integers(size // 2)) + 1
        known = rng.random(2) > 0.05
        rows.append((f"a{i}", f"a{sire}" if known[0] else None, f"a{dam}" if known[1] else None))
    return pd.DataFrame(rows, columns=["id", "sire", "dam"])


def tabular(sire: np.ndarray, dam: np.ndarray) -> np.ndarray:
    """A by the tabular method (Emik & Terrill 1949); parents come first, -1 is unknown."""
    n = len(sire)
    A = np.zeros((n, n))
    for i in range(n):
        s, d = sire[i], dam[i]
        row = np.zeros(i)
        for parent in (s, d):
            if parent >= 0:
                row += A[parent, :i] / 2
        A[i, :i] = A[:i, i] = row
        A[i, i] = 1 + (A[s, d] / 2 if s >= 0 and d >= 0 else 0)
    return A


def relationship(q: int, seed: int) -> np.ndarray:
    """A positive definite matrix with an uneven diagonal."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(q, 2 * q))
    return np.asarray(A @ A.T / (2 * q) + 0.2 * np.eye(q))
