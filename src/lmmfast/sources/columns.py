"""The columns of a model matrix of which only cross-products are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.sums import Columns
from .coordinates import Basis
from .cross import CrossProducts

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StreamColumns(Columns):
    """Linear combinations of the columns of a model matrix that cross-products are of."""

    cross: CrossProducts
    term: int  # random term whose columns these are combinations of; -1: the fixed effects
    map: Matrix  # (k, j): these are the k columns of the cross-products' model times this

    @property
    def width(self) -> int:
        return int(self.map.shape[1])

    @property
    def what(self) -> str:
        if self.term < 0:
            return "the fixed-effects columns"
        return f"the columns of ({self.cross.spec.plan.formula.random[self.term].label})"

    @property
    def factor(self) -> int:
        """Number of the grouping factor in the cross-products."""
        return self.cross.spec.places[self.term][0]

    @property
    def basis(self) -> Basis:
        """The coordinates in which there are cross-products."""
        coordinates = self.cross.spec.coordinates
        assert coordinates is not None
        return coordinates.fixed if self.term < 0 else coordinates.random[self.term]

    @property
    def inside(self) -> slice:
        """Place of the term's columns among those of its factor."""
        return self.cross.spec.places[self.term][1]

    @property
    def begins_constant(self) -> bool:
        """Whether the first column is the constant one."""
        map = self.map
        return bool(
            self.basis.constant and map.shape[1] and map[0, 0] == 1 and not map[1:, 0].any()
        )

    @property
    def level_counts(self) -> NDArray[np.int64]:
        """Rows of each level (m), of a random term."""
        return self.cross._groups[self.factor].counts

    def chosen(self, columns: Sequence[int]) -> StreamColumns:
        return StreamColumns(self.cross, self.term, self.map[:, list(columns)])

    def combined(self, M: Matrix) -> StreamColumns:
        return StreamColumns(self.cross, self.term, self.map @ M)

    def _moments(self) -> tuple[Matrix, Matrix]:
        """S and A: x'x = S in the coordinates x, and these columns are x A."""
        fixed, random = self.cross.second_moments()
        A = np.linalg.solve(self.basis.C, self.map)
        return (fixed if self.term < 0 else random[self.term]), np.asarray(A)

    def root(self, kept: NDArray[np.bool_]) -> Matrix:
        S, A = self._moments()
        Q, inner = np.linalg.qr(A[:, kept])
        L = np.linalg.cholesky(Q.T @ S @ Q)
        own, R = np.linalg.qr(L.T @ inner)
        out = np.empty((len(R), len(kept)))
        out[:, kept] = R
        out[:, ~kept] = own.T @ np.linalg.solve(L, Q.T @ S @ A[:, ~kept])
        return out

    def variance(self, v: NDArray[np.float64]) -> float:
        S, A = self._moments()
        n, slope = self.cross.n, A @ v
        if self.basis.constant:  # the first coordinate, which takes up the means
            slope[0] = 0.0
        mean = float(self.cross._columns @ slope) / n
        return max(float(slope @ S @ slope) - n * mean**2, 0.0) / (n - 1)

    def mean_squares(self, M: Matrix) -> NDArray[np.float64]:
        S, A = self._moments()
        own = A @ M
        return np.asarray(np.einsum("ij,ik,kj->j", own, S, own)) / self.cross.n

    def largest(self, directions: Matrix) -> NDArray[np.float64]:
        """Four root mean squares; of squares no more is known than their rounding."""
        S, A = self._moments()
        own = A @ directions
        squares = np.einsum("ij,ik,kj->j", own, S, own)
        rounding = np.finfo(float).eps * (own**2).T @ S.diagonal()
        return np.asarray(4 * np.sqrt(np.maximum(squares, rounding) / self.cross.n))

    def constant(self) -> NDArray[np.bool_]:
        found = np.zeros(self.width, dtype=bool)
        found[:1] = self.begins_constant
        return found

    def by_level(self, M: Matrix) -> Matrix:
        own = np.linalg.solve(self.basis.C, self.map @ M)
        blocks = self.cross._blocks.diagonal(self.factor)[:, self.inside, self.inside]
        return np.asarray(own.T @ blocks @ own)

    def divides_as(self, other: StreamColumns) -> bool:
        first, second = sorted((self.factor, other.factor))
        blocks = self.cross._blocks
        return first == second or len(blocks.pairs(first, second)[0]) == blocks.nlev[first]
