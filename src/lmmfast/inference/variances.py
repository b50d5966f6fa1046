"""Derivatives of the covariance of y in the random effects' variances and covariances.

Relative to sigma^2, V = W^-1 + sum gamma_r G_r. The gamma are the entries of every term's relative
covariance matrix (variances only, for ``||``), in whitened columns: units, origins and codings do
not matter. A term's relative covariance matrix is C S C' with S of the whitened columns, so that
G_r = Z (I x C E_r C') Z' with E_r the entry and its mirror image.

What is asked of G_r is read off one evaluation (`Point`): V^-1 is never formed, nor a column of Z.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..engine.relations import times_relation

if TYPE_CHECKING:
    from ..fit import Fit


@dataclass(frozen=True, eq=False)
class Moments:
    """What the derivatives G_r of V come to in X, in a basis E in which (X E)'V^-1 X E = I.

    Attributes
    ----------
    trace : (r,) array
        tr V^-1 G_r.
    traces : (r, r) array
        tr V^-1 G_r V^-1 G_s.
    P : (r, p, p) array
        -E'X'V^-1 G_r V^-1 X E.
    Q : (r, p, r, p) array
        E'X'V^-1 G_r V^-1 G_s V^-1 X E.
    basis : (columns of X, p) array
        E.
    """

    trace: np.ndarray
    traces: np.ndarray
    P: np.ndarray
    Q: np.ndarray
    basis: np.ndarray


@dataclass(frozen=True, eq=False)
class _Term:
    """A random term in whitened columns."""

    kept: np.ndarray  # k  its independent columns
    C: np.ndarray  # k x k  effects of these = C times effects of the whitened ones
    S: np.ndarray  # k x k  relative covariance matrix of the latter
    row: np.ndarray  # place in S of each parameter
    column: np.ndarray

    def moved(self, J: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """C'J, (m, k, p), and E_r C'J, (m, k, r p), for J (m, columns, p)."""
        own = np.asarray(self.C.T @ J[:, self.kept])
        m, k, p = own.shape
        out = np.zeros((m, k, len(self.row), p))
        each = np.arange(len(self.row))
        out[:, self.row, each] = own[:, self.column]
        out[:, self.column, each] = own[:, self.row]
        return own, out.reshape(m, k, len(each) * p)


class Variances:
    """The variance parameters of a fit, and what is asked of their derivatives.

    Parameters
    ----------
    fit : Fit
    """

    def __init__(self, fit: Fit) -> None:
        self.point, engine, T = fit.point, fit.model._engine, fit.estimates.T
        self._design = fit.design
        self._terms = []
        for i, C in enumerate(engine.whitening()):
            kept = np.array(engine.kept(i))
            root = np.linalg.solve(C, T[i][np.ix_(kept, kept)])
            self._terms.append(_Term(kept, C, root @ root.T, *engine.entries(i)))

    @cached_property
    def gamma(self) -> np.ndarray:
        """(r,) value of each, term by term."""
        return np.concatenate([term.S[term.row, term.column] for term in self._terms])

    @property
    def extra(self) -> int:
        """How many of them are none of the terms'."""
        return 0

    @cached_property
    def moments(self) -> Moments:
        """Of all fixed effects."""
        trace, traces = self.point.traces
        P, Q = self.forms(self.point.basis.projected)
        return Moments(trace, traces, P, Q, self.point.basis.E)

    def observed(self, sigma: float) -> tuple[Moments, np.ndarray, np.ndarray]:
        """The moments of all fixed effects, and what the observed information is made of.

        With q = V^-1 (y - X beta) / sigma and P = V^-1 - V^-1 X E E'X'V^-1.

        Parameters
        ----------
        sigma : float
            Residual standard deviation.

        Returns
        -------
        moments : Moments
        slope : (r,) array
            q'G_r q.
        score : (r, r) array
            q'G_r P G_s q.
        """
        basis, residual = self.point.basis, self.point.projection[1]
        pairs = zip(basis.projected, residual, strict=True)
        P, Q = self.forms(tuple(np.dstack([J, g / sigma]) for J, g in pairs))
        trace, traces = self.point.traces
        score = Q[:, -1, :, -1] - P[:, -1, :-1] @ P[:, :-1, -1].T
        moments = Moments(trace, traces, P[:, :-1, :-1], Q[:, :-1, :, :-1], basis.E)
        return moments, -P[:, -1, -1], score

    def forms(self, J: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
        """-J'(I x C E_r C') J, (r, p, p), and J'(I x C E_r C') Z'V^-1 Z (I x C E_s C') J; K for I
        where levels are related.

        Parameters
        ----------
        J : tuple of (m, k, p) arrays
            One for each term: Z'V^-1 of p vectors.

        Returns
        -------
        (r, p, p) and (r, p, r, p) arrays
        """
        p, number = J[0].shape[2], sum(len(term.row) for term in self._terms)
        P, V, at = [], [], 0
        for i, (term, full) in enumerate(zip(self._terms, J, strict=True)):
            own, moved = term.moved(full)
            moved = times_relation(self._design.terms[i], moved)
            here = moved.shape[2]
            rows = own.shape[0] * own.shape[1]
            flat = own.reshape(rows, p).T @ moved.reshape(rows, here)
            P.append(-flat.reshape(p, len(term.row), p).swapaxes(0, 1))
            wide = np.zeros((*full.shape[:2], number * p))
            wide[:, term.kept, at : at + here] = term.C @ moved
            V.append(wide)
            at += here
        Q = self.point.forms(V)
        return np.concatenate(P), Q.reshape(number, p, number, p)


def chain(
    slope: np.ndarray,
    second: np.ndarray,
    roots: list[tuple[np.ndarray | None, np.ndarray, np.ndarray, np.ndarray]],
) -> np.ndarray:
    """The Hessian in entries of roots of the covariance matrices, from that in their own entries.

    A change dT of a root makes S change by A (dT T' + T dT') A'; two changes of one column of T
    meet in the second derivative too.

    Parameters
    ----------
    slope, second : (r,) and (r, r) arrays
        As `Point.hessian` gives them.
    roots : list of (A, T, row, column), one for each term
        S = A T T'A' of the whitened columns, A None for the identity; row and column of its
        parameters, in S as in T.

    Returns
    -------
    (r, r) array
    """
    J, H = np.zeros(second.shape), np.zeros(second.shape)
    at = 0
    for A, T, row, column in roots:
        mine = slice(at, at + len(row))
        left = np.eye(len(T)) if A is None else A
        half = left.T[row][:, :, None] * (T if A is None else A @ T).T[column][:, None, :]
        J[mine, mine] = (half + half.swapaxes(1, 2))[:, row, column].T
        S = np.zeros(T.shape)
        S[row, column] = S[column, row] = np.where(row == column, 1.0, 0.5) * slope[mine]
        inner = S if A is None else A.T @ S @ A
        H[mine, mine] = 2 * inner[row[:, None], row] * (column[:, None] == column)
        at = mine.stop
    return np.asarray(H + J.T @ second @ J)


def restricted(traces: np.ndarray, P: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """tr(P G_r P G_s), P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1, from what `Moments` holds."""
    fixed = np.einsum("rij,sij->rs", P, P)
    return np.asarray(traces - 2 * np.einsum("risi->rs", Q) + fixed)
