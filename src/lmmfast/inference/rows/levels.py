"""V^-1 in the rows of each level of a factor, inverted: what the deletion of a level needs.

Rows are scaled by the square roots of their weights and sorted by level g. With Z_g the columns of
levels (of other factors) that also occur elsewhere, shared ones, and V_in = I + Z T T'Z' of those
that occur in g alone, g itself among them,

    N^-1 = V_in + Z_g D Z_g',    D = (I - B S)^-1 B,    S = Z_g'V_in^-1 Z_g,

N being the rows and columns g of V^-1: D is the covariance of the shared effects given y without g,
B that given y; effects inside are then as if they had not been seen. Where the shared columns
outnumber the rows, N = V_in^-1 - V_in^-1 Z_g B Z_g'V_in^-1 itself is solved with.

Levels of equal shape (rows, effects inside, shared ones) are computed together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...engine.compiled import memory_limit
from . import remaining

if TYPE_CHECKING:
    from ...engine.point import Point


NUMBERS = 4e6  # that are held at a time, unless one level needs more
PLENTY = 1e8  # bytes that are there: no need to ask


@dataclass(frozen=True, eq=False)
class _Term:
    """A random term in the sorted rows."""

    part: remaining.Loading
    T: np.ndarray
    inside: np.ndarray  # g + 1; where the levels inside each g begin in `sums`
    sums: np.ndarray  # levels inside, g by g, x k x columns of Y: T'Z'Y
    shared: np.ndarray  # shared levels, g by g ...
    starts: np.ndarray  # g + 1; ... beginning here
    place: np.ndarray  # of each row: its level among those inside g, or among the shared ones of g
    is_inside: np.ndarray  # of each row

    @property
    def k(self) -> int:
        return int(self.T.shape[1])


def _term(part: remaining.Loading, T: np.ndarray, codes: np.ndarray, Y: np.ndarray) -> _Term:
    """codes: g of each row, ascending."""
    m, numbers = int(part.codes.max()) + 1, np.arange(codes[-1] + 2)
    home = np.empty(m, codes.dtype)
    home[part.codes] = codes
    alone = np.bincount(part.codes, codes != home[part.codes], m) == 0
    levels = np.flatnonzero(alone)
    levels = levels[np.argsort(home[levels], kind="stable")]
    inside = np.searchsorted(home[levels], numbers)
    rank = np.empty(m, np.int64)
    rank[levels] = np.arange(len(levels))
    is_inside = alone[part.codes]
    keys = codes[~is_inside].astype(np.int64) * m + part.codes[~is_inside]
    keys, back = np.unique(keys, return_inverse=True)
    starts = np.searchsorted(keys, numbers * np.int64(m))
    place = rank[part.codes] - inside[codes]
    place[~is_inside] = back.ravel() - starts[codes[~is_inside]]
    mine = np.flatnonzero(is_inside)
    sums = _sums(rank[part.codes[mine]], part.z[mine] @ T, Y[mine], len(levels))
    return _Term(part, T, inside, sums, keys % m, starts, place, is_inside)


def _sums(codes: np.ndarray, z: np.ndarray, Y: np.ndarray, m: int) -> np.ndarray:
    """Z'Y by level (m, k, columns of Y)."""
    from scipy.sparse import csr_array

    k = z.shape[1]
    columns = codes[:, None] * k + np.arange(k)
    ends = np.arange(0, z.size + 1, k)
    Z = csr_array((z.ravel(), columns.ravel(), ends), shape=(len(z), m * k))
    return np.asarray((Z.T @ Y).reshape(m, k, Y.shape[1]))


# ---- B at shared levels --------------------------------------------------------------------------


class _Blocks(NamedTuple):
    """Blocks of B at the shared levels of two terms in g of equal shape, each pair once."""

    B: np.ndarray  # pairs x k_i x k_j
    place: np.ndarray  # g x l_i x l_j: which pair

    def matrix(self) -> np.ndarray:
        """g x l_i k_i x l_j k_j"""
        own = self.B[self.place].transpose(0, 1, 3, 2, 4)
        G, li, ki, lj, kj = own.shape
        return np.asarray(own.reshape(G, li * ki, lj * kj))

    def forms(self, one: _Sharing, other: _Sharing) -> np.ndarray:
        """z_i'B z_j of all rows i and j of g (g, n, n)."""
        G, n = one.place.shape
        out, g = np.empty((G, n, n)), np.arange(G)[:, None, None]
        step = max(1, int(NUMBERS / (G * n * self.B[0].size)))
        for a in range(0, n, step):
            cut = slice(a, a + step)
            own = self.B[self.place[g, one.place[:, cut, None], other.place[:, None, :]]]
            half = np.einsum("gijab,gjb->gija", own, other.z)
            out[:, cut] = np.einsum("gija,gia->gij", half, one.z[:, cut])
        return out


class _Sharing(NamedTuple):
    """A shared level of one term in each row of some g; z is zero where the row has none."""

    place: np.ndarray  # g x n
    z: np.ndarray  # g x n x k


# ---- levels --------------------------------------------------------------------------------------


class Levels:
    """Y'N^-1 Y for the levels g of one factor, codes (n) in the rows.

    ``parts`` are all random terms in the rows, times the square roots of the weights; T their
    relative factors, in whitened columns.
    """

    def __init__(
        self,
        point: Point,
        parts: Sequence[remaining.Loading],
        T: Sequence[np.ndarray],
        Y: np.ndarray,
        codes: np.ndarray,
    ) -> None:
        order = np.argsort(codes, kind="stable")
        codes = codes[order]
        self._point, self._Y = point, Y[order]
        self._ends = np.searchsorted(codes, np.arange(codes[-1] + 2))
        self._terms = [
            _term(part.at(order), own, codes, self._Y) for part, own in zip(parts, T, strict=True)
        ]
        self._shared = [i for i, term in enumerate(self._terms) if len(term.shared)]

    def grams(self, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Y'N^-1 Y of the chosen levels: places among these, and so many (j, j) matrices. FitError
        when what the levels share takes hours to solve for, MemoryError when one is too large."""
        for batch in self._batches(chosen) if len(chosen) else []:
            some = chosen[batch]
            B = {pair: self._read(some, *pair) for pair in self._pairs}
            for stack in self._stacks(some):
                own = {
                    pair: _Blocks(blocks, np.stack([places[at] for at in stack]))
                    for pair, (blocks, places) in B.items()
                }
                yield batch[stack], self._gram(some[stack], own)

    @property
    def _pairs(self) -> list[tuple[int, int]]:
        return [(i, j) for a, i in enumerate(self._shared) for j in self._shared[a:]]

    def _widths(self, chosen: np.ndarray) -> np.ndarray:
        """Shared columns of each."""
        width = np.zeros(len(chosen), np.int64)
        for term in self._terms:
            width += np.diff(term.starts)[chosen] * term.k
        return width

    def _batches(self, chosen: np.ndarray) -> Iterator[np.ndarray]:
        """Places of levels whose parts of B are read, or solved for, together."""
        total = np.cumsum(self._widths(chosen).astype(float) ** 2)
        batch = (total // (2 * NUMBERS)).astype(np.int64)
        yield from np.split(np.arange(len(chosen)), np.flatnonzero(np.diff(batch)) + 1)

    def _stacks(self, some: np.ndarray) -> Iterator[np.ndarray]:
        """Places of levels of equal shape."""
        shape = [np.diff(self._ends)[some]]
        for term in self._terms:
            shape += [np.diff(term.inside)[some], np.diff(term.starts)[some]]
        keys, back = np.unique(np.column_stack(shape), axis=0, return_inverse=True)
        order = np.argsort(back.ravel(), kind="stable")
        ends = np.searchsorted(back.ravel()[order], np.arange(len(keys) + 1))
        for key, a, b in zip(keys, ends, ends[1:], strict=False):
            step = max(1, int(NUMBERS / self._size(key)))
            for first in range(a, b, step):
                yield order[first : min(first + step, b)]

    def _size(self, key: np.ndarray) -> float:
        """Numbers that one level of this shape takes, which must fit."""
        n, k = int(key[0]), np.array([term.k for term in self._terms])
        inside, width = int(key[1::2] @ k), int(key[2::2] @ k)
        size = float((n + inside) * self._Y.shape[1])
        if width:
            least = min(n, width)
            size += 2 * n * (inside + width) + 2 * inside**2 + 4 * least**2
            size += 2 * width**2 if width < n else (n * int(k.max())) ** 2
        if 8 * size > PLENTY and 8 * (size + 2 * width**2) > memory_limit():
            raise MemoryError(
                f"leaving out {n:,} rows needs {8e-9 * size:.1f} GB: they have {width:,} "
                f"random effects in common with other rows, and {inside:,} of their own; choose "
                "other levels, or refit without these rows instead"
            )
        return size

    def _read(self, some: np.ndarray, i: int, j: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Blocks of B at the shared levels of two terms in some g, each pair of levels once; and
        for each g which of them they are (l_i x l_j)."""
        one, other = self._terms[i], self._terms[j]
        m = int(other.part.codes.max()) + 1
        keys, shapes = [], []
        for g in some:
            a = one.shared[one.starts[g] : one.starts[g + 1]]
            b = other.shared[other.starts[g] : other.starts[g + 1]]
            keys.append((a[:, None] * m + b).ravel())
            shapes.append((len(a), len(b)))
        distinct, back = np.unique(np.concatenate(keys), return_inverse=True)
        levels = np.divmod(distinct, m)
        B = remaining.blocks(self._point, one.part.term, other.part.term, *levels)
        places = np.split(back.ravel(), np.cumsum([len(key) for key in keys])[:-1])
        return B, [own.reshape(s) for own, s in zip(places, shapes, strict=True)]

    def _gram(self, some: np.ndarray, B: dict[tuple[int, int], _Blocks]) -> np.ndarray:
        rows = self._ends[some][:, None] + np.arange(self._ends[some[0] + 1] - self._ends[some[0]])
        Y, width = self._Y[rows], int(self._widths(some[:1])[0])
        if width == 0:
            return self._apart(some, Y)
        Q = self._inner_root(some, rows)
        if Y.shape[1] <= width:
            return _by_rows(Y, Q, self._among(rows, B))
        Z = np.concatenate([self._matrix(i, some, rows, False) for i in self._shared], axis=2)
        whole = {pair: own.matrix() for pair, own in B.items()}
        whole |= {(j, i): _t(matrix) for (i, j), matrix in whole.items() if i != j}
        cov = np.block([[whole[i, j] for j in self._shared] for i in self._shared])
        ZQ, ZY = _t(Q) @ Z, _t(Z) @ Y
        S = _t(Z) @ Z - _t(ZQ) @ ZQ
        D = np.linalg.solve(np.eye(width) - cov @ S, cov @ ZY)
        return np.asarray(self._apart(some, Y) + _t(ZY) @ D)

    def _apart(self, some: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """Y'V_in Y = Y'Y + the squares of T'Z'Y of all levels inside."""
        out = _t(Y) @ Y
        for term in self._terms:
            first = term.inside[some]
            count = term.inside[some[0] + 1] - first[0]
            own = term.sums[first[:, None] + np.arange(count)]
            own = own.reshape(len(some), -1, Y.shape[2])
            out += _t(own) @ own
        return np.asarray(out)

    def _inner_root(self, some: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Q with V_in^-1 = I - Q Q'."""
        every = range(len(self._terms))
        ZT = np.concatenate([self._matrix(i, some, rows, True) for i in every], axis=2)
        L = np.linalg.cholesky(np.eye(ZT.shape[2]) + _t(ZT) @ ZT)
        return _t(np.linalg.solve(L, _t(ZT)))

    def _matrix(self, i: int, some: np.ndarray, rows: np.ndarray, inside: bool) -> np.ndarray:
        """Columns of a term in the rows of each g: Z T of levels inside, or Z of those shared."""
        term = self._terms[i]
        first = term.inside if inside else term.starts
        G, n = rows.shape
        out = np.zeros((G, n, first[some[0] + 1] - first[some[0]], term.k))
        g, r = np.nonzero(term.is_inside[rows] == inside)
        z = term.part.z[rows[g, r]]
        out[g, r, term.place[rows[g, r]]] = z @ term.T if inside else z
        return out.reshape(G, n, -1)

    def _among(self, rows: np.ndarray, B: dict[tuple[int, int], _Blocks]) -> np.ndarray:
        """Z_g B Z_g': a row has one level of each term."""
        H = np.zeros((*rows.shape, rows.shape[1]))
        for (i, j), own in B.items():
            if own.place.size == 0:
                continue
            part = own.forms(self._sharing(i, rows), self._sharing(j, rows))
            H += part if i == j else part + _t(part)
        return H

    def _sharing(self, i: int, rows: np.ndarray) -> _Sharing:
        term = self._terms[i]
        other = term.is_inside[rows]
        z = np.where(other[:, :, None], 0.0, term.part.z[rows])
        return _Sharing(np.where(other, 0, term.place[rows]), z)


def _by_rows(Y: np.ndarray, Q: np.ndarray, H: np.ndarray) -> np.ndarray:
    """Y'N^-1 Y from N = V_in^-1 - V_in^-1 H V_in^-1, H = Z_g B Z_g'."""
    H = H - Q @ (_t(Q) @ H)
    H -= (H @ Q) @ _t(Q)
    N = np.eye(Y.shape[1]) - Q @ _t(Q) - H
    return np.asarray(_t(Y) @ np.linalg.solve(N, Y))


def _t(A: np.ndarray) -> np.ndarray:
    return A.swapaxes(-1, -2)
