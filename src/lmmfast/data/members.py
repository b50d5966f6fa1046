"""Levels of rows that have several of one grouping factor: looked up and summed by them.

Functions take both kinds: the level of each row (n,), or `Members`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError
from ..formula.column import Codes
from ..freeze import Frozen

Matrix = NDArray[np.float64]
MOST_SLOTS = 64  # levels of one row where each is a part of its own


@dataclass(frozen=True, eq=False)
class Members(Frozen, arrays=("ptr", "level", "weight", "unseen")):
    """W (n, m), the weight of each level in each row, by rows."""

    m: int  # levels
    ptr: NDArray[np.int64]  # (n + 1,), where the levels of each row begin
    level: NDArray[np.int32]  # ascending in each row
    weight: Matrix
    unseen: Matrix  # (n,), root of the sum of squared weights of levels that are none of the m

    @classmethod
    def of(cls, codes: NDArray[Any], weights: Matrix, m: int) -> Members:
        """Of s levels a row (n, s), -1 for others than the m, and weights, zero where none is."""
        from scipy import sparse

        known = (codes >= 0) & (weights != 0)
        unseen = np.sqrt(np.square(np.where(codes < 0, weights, 0.0)).sum(axis=1))
        rows = np.broadcast_to(np.arange(len(codes))[:, None], codes.shape)[known]
        W = sparse.csr_matrix((weights[known], (rows, codes[known])), shape=(len(codes), m))
        return cls._made(W, unseen)

    @classmethod
    def _made(cls, W: Any, unseen: Matrix) -> Members:
        W.sum_duplicates()
        W.eliminate_zeros()
        W.sort_indices()
        indices = W.indptr.astype(np.int64), W.indices.astype(np.int32)
        return cls(W.shape[1], *indices, W.data.astype(np.float64, copy=False), unseen)

    @cached_property
    def matrix(self) -> Any:
        """W, scipy.sparse.csr_matrix."""
        from scipy import sparse

        shape = len(self), self.m
        return sparse.csr_matrix((self.weight, self.level, self.ptr), shape=shape)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "matrix"}

    def __len__(self) -> int:
        return len(self.ptr) - 1

    def __getitem__(self, rows: Any) -> Members:
        return self._made(self.matrix[rows], self.unseen[rows])

    @property
    def unknown(self) -> NDArray[np.bool_]:
        """Rows with a level that is none of the m (n)."""
        return np.asarray(self.unseen != 0)

    def slots(self, what: str = "this") -> Iterator[tuple[Codes, Matrix]]:
        """One level of each row (n), -1 for none, and its weight (n), as often as rows have any.

        FitError where these are too many for `what`.
        """
        count = np.diff(self.ptr)
        most = int(count.max(initial=0))
        if most > MOST_SLOTS:
            raise FitError(
                f"{what} is not available where the effect of one row is a sum over {most} levels: "
                f"{MOST_SLOTS} at most"
            )
        for s in range(most):
            there = count > s
            codes, weights = np.full(len(self), -1, np.int32), np.zeros(len(self))
            at = self.ptr[:-1][there] + s
            codes[there], weights[there] = self.level[at], self.weight[at]
            yield codes, weights
        if self.unseen.any():
            yield np.full(len(self), -1, np.int32), self.unseen

    def gathered(self, b: NDArray[Any]) -> NDArray[Any]:
        """sum_s w_s b[level_s] of every row (n, ...); levels that are not known add nothing."""
        return np.asarray((self.matrix @ b.reshape(len(b), -1)).reshape(len(self), *b.shape[1:]))

    def summed(self, values: Matrix) -> Matrix:
        """Sums (m,) over rows of w_s times values (n,), by level."""
        return np.asarray(self.matrix.T @ values)

    def moved(self, place: Sequence[int] | NDArray[Any], m: int) -> Members:
        """The same where level i is number place[i] of m, or none of them (-1)."""
        place = np.asarray(place, np.int64)
        rows = np.repeat(np.arange(len(self)), np.diff(self.ptr))
        to = place[self.level]
        lost = np.bincount(rows[to < 0], np.square(self.weight[to < 0]), len(self))
        unseen = np.sqrt(lost + np.square(self.unseen))
        return Members.of(to[:, None], self.weight[:, None], m)._stacked(rows, unseen)

    def _stacked(self, rows: NDArray[Any], unseen: Matrix) -> Members:
        """Rows of these, numbers of other rows, added up."""
        from scipy import sparse

        ones = np.ones(len(rows))
        shape = len(unseen), len(rows)
        by = sparse.csr_matrix((ones, (rows, np.arange(len(rows)))), shape=shape)
        return self._made(by @ self.matrix, unseen)

    def through(self, S: Any) -> Members:
        """The same where level i is a sum over others, row i of the sparse S (m, r)."""
        return self._made((self.matrix @ S).tocsr(), self.unseen)


def gathered(codes: Codes | Members, b: NDArray[Any]) -> NDArray[Any]:
    """What each row (n) has of values by level (m, ...)."""
    return codes.gathered(b) if isinstance(codes, Members) else b[codes]


def same_levels(one: Codes | Members, other: Codes | Members) -> bool:
    """Whether rows have the same levels with the same weights."""
    if not (isinstance(one, Members) and isinstance(other, Members)):
        return False
    same = np.array_equal(one.ptr, other.ptr) and np.array_equal(one.level, other.level)
    return same and bool(np.allclose(one.weight, other.weight, rtol=1e-12, atol=0))


def flat(codes: Codes | Members) -> tuple[NDArray[Any], ...] | Codes:
    """The arrays it is made of, for fingerprints."""
    return (codes.ptr, codes.level, codes.weight) if isinstance(codes, Members) else codes


def slots(codes: Codes | Members, z: Matrix, what: str = "this") -> Iterator[tuple[Codes, Matrix]]:
    """Levels of rows that have one (-1: none), and columns (n, k) times its weight: several times
    where rows have several. FitError where these are too many for `what`."""
    if not isinstance(codes, Members):
        yield codes, z
        return
    for own, weights in codes.slots(what):
        yield own, weights[:, None] * z


def together(codes: Codes | Members, z: Matrix) -> Matrix:
    """Columns (n, k) as they are where levels, a row's different, get independent new effects."""
    if not isinstance(codes, Members):
        return z
    squares = np.asarray(codes.matrix.multiply(codes.matrix).sum(axis=1)).ravel()
    return np.asarray(np.sqrt(squares + np.square(codes.unseen))[:, None] * z, np.float64)


def summed(codes: Codes | Members, values: Matrix, m: int) -> Matrix:
    """Sums (m,) of values (n,) by level."""
    if isinstance(codes, Members):
        return codes.summed(values)
    return np.asarray(np.bincount(codes, values, m), np.float64)
