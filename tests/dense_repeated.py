"""Models for repeated measures written down plainly: V row by row, dense, and its derivatives.

model = Dense(y, X, subject, visit, weights=None, group=None)
f = model.criterion(Sigmas, reml)
"""

from __future__ import annotations

import numpy as np


class Dense:
    """y ~ N(X beta, V), V_ij = Sigma[visit_i, visit_j] / sqrt(w_i w_j) for rows of a subject."""

    def __init__(self, y, X, subject, visit, weights=None, group=None):
        self.y, self.X, self.subject, self.visit = y, X, np.asarray(subject), np.asarray(visit)
        self.w = np.ones(len(y)) if weights is None else weights
        self.group = np.zeros(len(y), int) if group is None else np.asarray(group)
        self.same = self.subject[:, None] == self.subject

    def spread(self, Sigmas):
        """V, or one of its derivatives, from matrices of the groups."""
        own = np.asarray(Sigmas)[self.group[:, None], self.visit[:, None], self.visit[None, :]]
        return np.where(self.same, own, 0.0) / np.sqrt(np.outer(self.w, self.w))

    def solved(self, Sigmas):
        """V^-1, Phi = (X'V^-1 X)^-1, beta and -2 log likelihoods (restricted, or not)."""
        V = self.spread(Sigmas)
        Vi = np.linalg.inv(V)
        Phi = np.linalg.inv(self.X.T @ Vi @ self.X)
        beta = Phi @ (self.X.T @ (Vi @ self.y))
        r = self.y - self.X @ beta
        n, p = self.X.shape
        plain = np.linalg.slogdet(V)[1] + r @ Vi @ r
        ml = plain + n * np.log(2 * np.pi)
        reml = plain + (n - p) * np.log(2 * np.pi) - np.linalg.slogdet(Phi)[1]
        return Vi, Phi, beta, ml, reml

    def criterion(self, Sigmas, reml=True):
        return self.solved(Sigmas)[4 if reml else 3]

    def hessian(self, Sigmas, first, second, reml=True):
        """Exact; derivatives of Sigma are first (k, g, m, m) and second (k, k, g, m, m)."""
        Vi, Phi, _, _, _ = self.solved(Sigmas)
        P = Vi - Vi @ self.X @ Phi @ self.X.T @ Vi
        Py = P @ self.y
        Q = P if reml else Vi
        dV = [self.spread(one) for one in first]
        k = len(dV)
        H = np.empty((k, k))
        for i in range(k):
            for j in range(k):
                dd = self.spread(second[i][j])
                H[i, j] = np.sum(Q * dd) - np.sum((Q @ dV[i]) * (Q @ dV[j]).T)
                H[i, j] += 2 * Py @ dV[i] @ P @ dV[j] @ Py - Py @ dd @ Py
        return H

    def kenward_roger(self, Sigmas, first, second, linear=False):
        """Adjusted covariance, and per contrast the degrees of freedom, by the definitions."""
        Vi, Phi, _, _, _ = self.solved(Sigmas)
        W = 2 * np.linalg.inv(self.hessian(Sigmas, first, second))
        dV = [self.spread(one) for one in first]
        k, p = len(dV), len(Phi)
        ViX = Vi @ self.X
        A = [-ViX.T @ d @ ViX for d in dV]
        middle = np.zeros((p, p))
        for i in range(k):
            for j in range(k):
                Q = ViX.T @ dV[i] @ Vi @ dV[j] @ ViX
                R = 0.0 if linear else ViX.T @ self.spread(second[i][j]) @ ViX
                middle += W[i, j] * (Q - A[i] @ Phi @ A[j] - R / 4)
        adjusted = Phi + 2 * Phi @ middle @ Phi

        def df(row):
            g = np.array([-row @ Phi @ a @ Phi @ row for a in A])
            return 2 * (row @ Phi @ row) ** 2 / (g @ W @ g)

        return adjusted, df, W
