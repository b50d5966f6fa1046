"""What `inference.qspace` needs of the rows of a fit, from cross-products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..inference import qspace
from .columns import StreamColumns
from .cross import CrossProducts
from .sums import StreamSums

if TYPE_CHECKING:
    from ..fit import Fit

__all__ = ["CrossRows", "rows_of"]

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CrossRows(qspace.Rows):
    """Whitened columns of which only the cross-products are there."""

    cross: CrossProducts
    numbers: list[int]  # of each factor, in the cross-products
    changes: list[Matrix]  # from the columns of the blocks of each factor to whitened ones
    fixed: Matrix  # the same of the fixed effects

    def blocks_of_first(self) -> Matrix:
        """Z_1'Z_1 by level (m, k, k)."""
        return self._diagonal(0)

    def first_by_fixed(self) -> Matrix:
        """Z_1'X (q_1, p)."""
        return self._edge(0)

    def fixed_by_fixed(self) -> Matrix:
        """X'X (p, p)."""
        p = len(self.fixed)
        return np.asarray(self.fixed.T @ self.cross._blocks.corner[:p, :p] @ self.fixed)

    def first_by_rest(self) -> Any:
        """Z_1'Z_R, sparse (q_1, q_R)."""
        from scipy.sparse import hstack

        return hstack([self._pair(0, k) for k in range(1, len(self.factors))], format="csr")

    def rest_by_rest(self) -> Any:
        """Z_R'Z_R, sparse (q_R, q_R)."""
        from scipy.sparse import block_array, bsr_array

        K = range(1, len(self.factors))
        parts: list[list[Any]] = [[None for _ in K] for _ in K]
        for a in K:
            own = self._diagonal(a)
            m = len(own)
            parts[a - 1][a - 1] = bsr_array((own, np.arange(m), np.arange(m + 1)))
            for c in range(a + 1, len(self.factors)):
                parts[a - 1][c - 1] = self._pair(a, c)
                parts[c - 1][a - 1] = parts[a - 1][c - 1].T
        return block_array(parts, format="csr")

    def rest_by_fixed(self) -> Matrix:
        """Z_R'X (q_R, p)."""
        return np.concatenate([self._edge(k) for k in range(1, len(self.factors))])

    def _diagonal(self, k: int) -> Matrix:
        P = self.changes[k]
        return np.asarray(P.T @ self.cross._blocks.diagonal(self.numbers[k]) @ P)

    def _edge(self, k: int) -> Matrix:
        P = self.changes[k]
        edge = self.cross._blocks.edge(self.numbers[k])[:, :, : len(self.fixed)]
        return np.asarray((P.T @ edge @ self.fixed).reshape(-1, self.fixed.shape[1]))

    def _pair(self, a: int, c: int) -> Any:
        """Z_a'Z_c, sparse."""
        from scipy.sparse import bsr_array

        first, second = self.numbers[a], self.numbers[c]
        swap = first > second
        la, lc, values = self.cross._blocks.pairs(min(first, second), max(first, second))
        if swap:
            order = np.lexsort((la, lc))
            la, lc, values = lc[order], la[order], values[order].swapaxes(1, 2)
        own = self.changes[a].T @ values @ self.changes[c]
        one, two = self.factors[a], self.factors[c]
        at = np.searchsorted(la, np.arange(one.nlev + 1))
        return bsr_array((own, lc, at), shape=(one.q, two.q))


def rows_of(fit: Fit) -> CrossRows:
    """What stands for the rows of a fit from cross-products."""
    design, engine = fit.design, fit.model._engine
    assert isinstance(design.sums, StreamSums) and isinstance(design.fixed, StreamColumns)
    cross = design.sums.cross
    factors: list[tuple[qspace.Factor, int, Matrix]] = []
    for terms in engine.grouped():
        source: Any = design.terms[terms[0]].source
        number = source.factor
        factors.append((*_factor(fit, cross, terms, number),))
    factors.sort(key=lambda item: -item[0].q)
    p = len(design.fixed.map)
    G = cross._blocks.corner[:p, :p]
    A = np.asarray(np.linalg.solve(design.fixed.basis.C, design.fixed.map), np.float64)
    W, R = _white(G, A[:, fit.estimates.fixed_kept], fit.nobs, True)
    X = np.broadcast_to(np.nan, (fit.nobs, W.shape[1]))  # of which only the shape is asked for
    return CrossRows(
        X=X,
        R=R,
        factors=[item[0] for item in factors],
        cross=cross,
        numbers=[item[1] for item in factors],
        changes=[item[2] for item in factors],
        fixed=W,
    )


def _factor(
    fit: Fit, cross: CrossProducts, terms: list[int], number: int
) -> tuple[qspace.Factor, int, Matrix]:
    """A grouping factor with whitened columns, and how they are made of those of the blocks."""
    design, engine, spec = fit.design, fit.model._engine, cross.spec
    assert spec.coordinates is not None
    total = cross._blocks.diagonal(number).sum(axis=0)
    starts, width = {}, 0
    for i in spec.factors[number][1]:
        starts[i], width = width, width + len(spec.random[i].names)
    T, E, changes, P = [], [], [], []
    for i in terms:
        kept, full = list(engine.kept(i)), design.terms[i].structure == "full"
        z: Any = design.terms[i].source
        C = spec.coordinates.random[z.term].C
        at = slice(starts[z.term], starts[z.term] + len(C))
        W, R = _white(total[at, at], np.linalg.solve(C, z.map[:, kept]), fit.nobs, full)
        own = np.zeros((width, len(kept)))
        own[at] = W
        P.append(own)
        T.append(R @ fit.estimates.T[i][np.ix_(kept, kept)])
        E.append(qspace._derivatives(len(kept), full))
        changes.append(R)
    first = design.terms[terms[0]]
    width = sum(p.shape[1] for p in P)
    columns = np.broadcast_to(np.nan, (fit.nobs, width))  # of which only the shape is asked for
    made = qspace.Factor(
        name=first.group,
        codes=np.zeros(0, np.int32),
        nlev=len(first.levels),
        z=columns,
        T=qspace._diagonal(T),
        E=qspace._stacked(E),
        terms=tuple(terms),
        parts=tuple(qspace._slices([part.shape[1] for part in P])),
        R=tuple(changes),
    )
    return made, number, np.concatenate(P, axis=1)


def _white(G: Matrix, A: Matrix, n: int, full: bool) -> tuple[Matrix, Matrix]:
    """W and R: x W is white and the columns x A are (x W) R, where x'x = G; white'white = n I.

    Without `full` only the lengths of the columns are made one and R is diagonal.
    """
    if not full:
        size = np.sqrt(np.einsum("ij,ik,kj->j", A, G, A) / n)
        return A / size, np.diag(size)
    Q, inner = np.linalg.qr(A)
    L = np.linalg.cholesky(Q.T @ G @ Q)
    own, R = np.linalg.qr(L.T @ inner)
    return np.asarray(Q @ np.linalg.solve(L.T, own)) * np.sqrt(n), R / np.sqrt(n)
