"""The rows of a model in memory, and the sums that are taken from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formula.column import Codes, Column
from ..freeze import Frozen
from .fixed import FixedColumns
from .sums import Columns, Group, Sums

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False, init=False)
class RowColumns(Frozen, Columns, arrays=("matrix", "level")):
    """The columns of a random term in memory; its arrays are read-only."""

    matrix: Matrix  # (n, k), C-contiguous
    level: Codes  # (n,), 0-based, every one used; terms of one factor share it

    def __init__(self, matrix: Matrix, level: Codes) -> None:
        # frozen fields one by one take thrice as long
        vars(self).update(matrix=matrix, level=level)
        self.__post_init__()

    @property
    def values(self) -> Matrix:
        return self.matrix

    @property
    def codes(self) -> Codes:
        return self.level

    @property
    def width(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def what(self) -> str:
        return "the columns"

    @property
    def factor(self) -> int:
        return id(self.level)

    def chosen(self, columns: Sequence[int]) -> RowColumns:
        return self._with(self.matrix[:, list(columns)])

    def combined(self, M: Matrix) -> RowColumns:
        return self._with(self.matrix @ M)

    def _with(self, values: Matrix) -> RowColumns:
        return RowColumns(np.ascontiguousarray(values), self.level)

    def root(self, kept: NDArray[np.bool_]) -> Matrix:
        order = np.argsort(~kept, kind="stable")
        rank = int(kept.sum())
        R = np.empty((rank, self.width))
        R[:, order] = np.linalg.qr(self.matrix[:, order], mode="r")[:rank]
        return R

    def variance(self, v: NDArray[np.float64]) -> float:
        return float(np.var(self.matrix @ v, ddof=1))

    def mean_squares(self, M: Matrix) -> NDArray[np.float64]:
        return np.asarray(np.mean(np.square(self.matrix @ M), axis=0))

    def largest(self, directions: Matrix) -> NDArray[np.float64]:
        return np.asarray(np.abs(self.matrix @ directions).max(axis=0, initial=0.0))

    def constant(self) -> NDArray[np.bool_]:
        return np.asarray((self.matrix == self.matrix[:1]).all(axis=0))

    def by_level(self, M: Matrix) -> Matrix:
        z = self.matrix @ M
        m, k = int(self.level.max()) + 1, z.shape[1]
        sums = [np.bincount(self.level, z[:, r] * z[:, c], m) for r in range(k) for c in range(k)]
        return np.asarray(np.column_stack(sums).reshape(m, k, k), np.float64)

    def divides_as(self, other: RowColumns) -> bool:
        image = np.empty(int(self.level.max()) + 1, other.level.dtype)
        image[self.level] = other.level
        return bool((image[self.level] == other.level).all())


@dataclass(frozen=True, eq=False, init=False)
class Rows(Frozen, Sums, arrays=("y", "weights", "offset", "positions")):
    """The observations that a model uses, but for its model matrices; arrays are read-only."""

    y: Matrix  # (n,), offset not subtracted
    weights: Matrix | None  # (n,), positive
    offset: Matrix | None  # (n,): sum of ``offset=`` and the ``offset()`` terms
    positions: NDArray[np.int64]  # (n,): places in the data
    index: Any  # of pandas data: labels of these rows, else None

    def __init__(
        self,
        y: Matrix,
        weights: Matrix | None,
        offset: Matrix | None,
        positions: NDArray[np.int64],
        index: Any,
    ) -> None:
        vars(self).update(y=y, weights=weights, offset=offset, positions=positions, index=index)
        self.__post_init__()

    @property
    def n(self) -> int:
        return len(self.y)

    @property
    def is_weighted(self) -> bool:
        return self.weights is not None

    @property
    def has_offset(self) -> bool:
        return self.offset is not None

    def response(self) -> Matrix:
        y = self.y if self.offset is None else self.y - self.offset
        return np.ascontiguousarray(y, np.float64)

    def response_moments(self) -> Matrix:
        y = self.response()
        return np.array([y.mean(), y.var()])

    def frequencies(
        self, variables: Mapping[str, Column], values: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.int64]:
        sizes = [len(own) for own in values.values()]
        places = [{value: i for i, value in enumerate(own.tolist())} for own in values.values()]
        columns = [variables[name] for name in values]
        return cell_counts(columns, places, sizes, self.n).reshape(sizes)

    def source(self, fixed: FixedColumns, factors: Sequence[Group]) -> tuple[Any, ...]:
        given = [(g.columns[0].codes, g.nlev, _side_by_side(g), g.owners) for g in factors]
        return self.response(), fixed.compiled, given, self.weights


def _side_by_side(group: Group) -> Matrix:
    """The columns of a factor (n, k), C-contiguous."""
    parts = [columns.values for columns in group.columns]
    return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))


def cell_counts(
    columns: Sequence[Column], places: Sequence[Mapping[Any, int]], sizes: Sequence[int], n: int
) -> NDArray[np.int64]:
    """Rows in each combination of the known values of some columns, whose places are given."""
    flat, inside = np.zeros(n, dtype=np.int64), np.ones(n, dtype=bool)
    for column, known, size in zip(columns, places, sizes, strict=True):
        place = _places(column, known)
        inside &= place >= 0
        flat = flat * size + place
    return np.bincount(flat[inside], minlength=int(np.prod(sizes, dtype=int))).astype(np.int64)


def _places(column: Column, known: Mapping[Any, int]) -> NDArray[np.int64]:
    """Place of each row's value among the known ones, -1 for others."""
    if column.codes is not None and column.levels is not None:
        found = [known.get(level, -1) for level in column.levels.tolist()]
        return np.array([*found, -1], dtype=np.int64)[column.codes]
    assert column.values is not None
    distinct, back = np.unique(column.values, return_inverse=True)
    return np.array([known.get(value, -1) for value in distinct.tolist()], dtype=np.int64)[back]
