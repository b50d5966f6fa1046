"""The rows of a model in memory, and the sums that are taken from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..formula.column import Codes, Column
from ..freeze import Frozen, freeze
from .members import Members, together
from .sums import Columns, Group, Sums

Matrix = NDArray[np.float64]
# An array (n,) of numbers; or codes (n,) and what each of them stands for.
Part = NDArray[Any] | tuple[Codes, NDArray[np.float64]]
_ALL = slice(None)


def multiplied(
    columns: Sequence[Sequence[Part]],
    n: int,
    rows: slice | NDArray[np.int64] = _ALL,
    order: Literal["C", "F"] = "F",
) -> Matrix:
    """The columns that parts make, of some n rows, as a matrix (n, k)."""
    made: Matrix = np.ones((n, len(columns)), order=order)
    for j, column in enumerate(columns):
        for i, part in enumerate(column):
            own = part[1][part[0][rows]] if isinstance(part, tuple) else part[rows]
            made[:, j] = own if i == 0 else made[:, j] * own
    return made


@dataclass(frozen=True, eq=False, init=False)
class RowColumns(Frozen, Columns, arrays=("parts", "level")):
    """The columns of a model matrix in memory; arrays are read-only.

    Columns of a formula stay what they are made of: `parts` of the data, whose products they are.
    """

    n: int
    parts: tuple[tuple[Part, ...], ...] | None  # of each of k columns; None: only `values`
    level: Codes | Members | None  # (n,), 0-based, every one used; terms of one factor share it

    def __init__(self, values: Matrix, level: Codes | Members | None = None) -> None:
        # frozen fields one by one take thrice as long
        vars(self).update(n=len(values), parts=None, level=level, values=values)
        self.__post_init__()
        freeze((values,))

    @classmethod
    def of_parts(
        cls, n: int, parts: tuple[tuple[Part, ...], ...], level: Codes | Members | None = None
    ) -> RowColumns:
        """Columns by their parts."""
        made = cls.__new__(cls)
        vars(made).update(n=n, parts=parts, level=level)
        made.__post_init__()
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Without the matrix where parts make it."""
        kept = dict(vars(self))
        if self.parts is not None:
            kept.pop("values", None)
        return kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        freeze((state.get("values"),))

    @cached_property
    def values(self) -> Matrix:
        """The matrix (n, k): C-contiguous of random terms, Fortran order of the fixed effects."""
        made = self.at(slice(None))
        freeze((made,))
        return made

    def at(self, rows: slice | NDArray[np.int64]) -> Matrix:
        return self.values[rows] if "values" in vars(self) else self._multiplied(rows)

    def _multiplied(self, rows: slice | NDArray[np.int64]) -> Matrix:
        """Some rows of the products of parts."""
        assert self.parts is not None
        n = len(range(self.n)[rows]) if isinstance(rows, slice) else len(rows)
        return multiplied(self.parts, n, rows, "F" if self.level is None else "C")

    def taken(self, rows: NDArray[np.int64]) -> RowColumns:
        assert self.level is None, "levels may have none of these rows"
        return self._with(self.at(rows))

    def columns(self) -> Any:
        """The columns as the compiled core takes them."""
        return self.values if self.parts is None else list(self.parts)

    @property
    def codes(self) -> Codes:
        assert self.level is not None, "fixed effects have no levels"
        assert not isinstance(self.level, Members), "these are for rows with one level"
        return self.level

    @property
    def incidence(self) -> Codes | Members | None:
        return self.level

    @property
    def sharing(self) -> float:
        if not isinstance(self.level, Members):
            return 1.0
        return float(np.mean(np.square(together(self.level, np.ones((len(self.level), 1))))))

    @property
    def width(self) -> int:
        return int(self.values.shape[1]) if self.parts is None else len(self.parts)

    @property
    def what(self) -> str:
        return "the columns"

    @property
    def factor(self) -> int:
        return id(self.level)

    def chosen(self, columns: Sequence[int]) -> RowColumns:
        if self.parts is not None:
            return self.of_parts(self.n, tuple(self.parts[j] for j in columns), self.level)
        return self._with(self.values[:, list(columns)])

    def combined(self, M: Matrix) -> RowColumns:
        return self._with(self.values @ M)

    def _with(self, values: Matrix) -> RowColumns:
        made = np.asfortranarray(values) if self.level is None else np.ascontiguousarray(values)
        return RowColumns(made, self.level)

    def root(self, kept: NDArray[np.bool_]) -> Matrix:
        order = np.argsort(~kept, kind="stable")
        rank = int(kept.sum())
        R = np.empty((rank, self.width))
        R[:, order] = np.linalg.qr(self.values[:, order], mode="r")[:rank]
        return R

    def variance(self, v: NDArray[np.float64]) -> float:
        return float(np.var(self.values @ v, ddof=1))

    def mean_squares(self, M: Matrix) -> NDArray[np.float64]:
        values = self.values if self.level is None else together(self.level, self.values)
        return np.asarray(np.mean(np.square(values @ M), axis=0))

    def largest(self, directions: Matrix) -> NDArray[np.float64]:
        return np.asarray(np.abs(self.values @ directions).max(axis=0, initial=0.0))

    def constant(self) -> NDArray[np.bool_]:
        return np.asarray((self.values == self.values[:1]).all(axis=0))

    def by_level(self, M: Matrix) -> Matrix:
        assert self.level is not None
        z = self.values @ M
        if isinstance(self.level, Members):
            rows = np.repeat(np.arange(len(z)), np.diff(self.level.ptr))
            return _grams(self.level.level, self.level.weight[:, None] * z[rows], self.level.m)
        return _grams(self.level, z, int(self.level.max()) + 1)

    def divides_as(self, other: RowColumns) -> bool:
        assert self.level is not None and other.level is not None
        if isinstance(self.level, Members) or isinstance(other.level, Members):
            return False  # whatever they share is found by `identify`
        image = np.empty(int(self.level.max()) + 1, other.level.dtype)
        image[self.level] = other.level
        return bool((image[self.level] == other.level).all())


@dataclass(frozen=True, eq=False, init=False)
class Rows(Frozen, Sums, arrays=("y", "weights", "offset", "positions")):
    """The observations that a model uses, but for its model matrices; arrays are read-only."""

    y: Matrix  # (n,), offset not subtracted
    weights: Matrix | None  # (n,), positive
    offset: Matrix | None  # (n,): sum of ``offset=`` and the ``offset()`` terms
    positions: NDArray[np.int64] | range  # (n,): places in the data
    index: Any  # of pandas data: labels of these rows, else None

    def __init__(
        self,
        y: Matrix,
        weights: Matrix | None,
        offset: Matrix | None,
        positions: NDArray[np.int64] | range,
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

    def source(self, fixed: RowColumns, factors: Sequence[Group]) -> tuple[Any, ...]:
        given = [
            (
                g.columns[0].codes if g.members is None else g.members,
                *(g.nlev, _side_by_side(g), g.owners, g.precision),
            )
            for g in factors
        ]
        return self.response(), fixed.columns(), given, self.weights


class Remaining(Rows):
    """The rows of a model without some: these have weight zero, nothing else changes."""

    def __init__(self, rows: Rows, left_out: NDArray[np.int64] | NDArray[np.bool_]) -> None:
        weights = np.ones(rows.n) if rows.weights is None else rows.weights.copy()
        weights[left_out] = 0
        super().__init__(rows.y, weights, rows.offset, rows.positions, rows.index)

    @cached_property
    def n(self) -> int:
        assert self.weights is not None
        return int(np.count_nonzero(self.weights))


def _grams(level: Codes, z: Matrix, m: int) -> Matrix:
    """z'z by level (m, k, k)."""
    k = z.shape[1]
    sums = [np.bincount(level, z[:, r] * z[:, c], m) for r in range(k) for c in range(k)]
    return np.asarray(np.column_stack(sums).reshape(m, k, k), np.float64)


def _side_by_side(group: Group) -> Any:
    """The columns of a factor as the compiled core takes them."""
    own: Sequence[RowColumns] = group.columns
    if any(columns.parts is None for columns in own):
        matrices = [columns.values for columns in own]
        whole = matrices[0] if len(own) == 1 else np.concatenate(matrices, axis=1)
        return np.ascontiguousarray(whole)
    return [column for columns in own for column in columns.parts or ()]


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
