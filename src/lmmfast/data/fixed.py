"""The columns of the fixed effects over rows in memory: stored ones, and coded ones.

A factor with many levels makes many columns that are zero in most rows, and so do its products.
These are not made: a row has a number v and a level, and every level a short list of columns with
what v is multiplied by,

  x_j = v t_j(level),   few t_j other than zero.

That is what the compiled model sums (src/_ext/setup/fixed.c); who wants a matrix gets one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..formula.column import Codes, Column
from ..freeze import Frozen
from .encode import Coding, Layout, Values
from .sums import Columns

Matrix = NDArray[np.float64]
Places = NDArray[np.int32]

MANY = 16  # columns of a term, below which they are stored
SPARSE = 0.1  # share of its table that is not zero, above which they are
MOST_LEVELS = 2**31 - 2  # combinations that have numbers


@dataclass(frozen=True, eq=False)
class Coded(Frozen, arrays=("codes", "numbers", "start", "column", "value")):
    """The columns of a term with factors; those of level l: column[start[l]:start[l + 1]]."""

    codes: Codes  # (n,) level of each row
    numbers: Matrix | None  # (n,) v, None for ones
    start: Places  # (levels + 1,)
    column: Places  # places in X, ascending within a level
    value: Matrix  # t of these

    def entries(self, rows: Any) -> tuple[NDArray[np.int64], Places, Matrix]:
        """What is not zero in some rows: the row's place among these, the column, the value."""
        codes = self.codes[rows]
        first, counts = self.start[codes], self.start[codes + 1] - self.start[codes]
        row = np.repeat(np.arange(len(codes)), counts)
        at = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts - first, counts)
        v = 1.0 if self.numbers is None else self.numbers[rows][row]
        return row, self.column[at], v * self.value[at]

    def times(self, beta: Matrix) -> Matrix:
        """The columns times coefficients (p) of all of X (n)."""
        terms = np.append(self.value * beta[self.column], 0.0)
        sums = np.add.reduceat(terms, self.start[:-1])
        sums[self.start[:-1] == self.start[1:]] = 0.0
        out = sums[self.codes]
        return out if self.numbers is None else self.numbers * out

    def taken(self, rows: Any) -> Coded:
        """The same columns of other rows."""
        numbers = None if self.numbers is None else self.numbers[rows]
        return Coded(self.codes[rows], numbers, self.start, self.column, self.value)


@dataclass(frozen=True, eq=False, init=False)
class FixedColumns(Frozen, Columns, arrays=("stored", "place")):
    """X (n, p) in memory; its arrays are read-only."""

    stored: Matrix  # (n, s), Fortran order
    place: Places  # (s,) their places in X
    coded: tuple[Coded, ...]  # the others
    columns: int  # p

    def __init__(
        self, stored: Matrix, place: Places, coded: tuple[Coded, ...], columns: int
    ) -> None:
        # frozen fields one by one take thrice as long
        vars(self).update(stored=stored, place=place, coded=coded, columns=columns)
        self.__post_init__()

    @classmethod
    def of(cls, X: Matrix) -> FixedColumns:
        """A matrix (n, p); not a copy where it is in Fortran order."""
        p = X.shape[1]
        return cls(np.asfortranarray(X), np.arange(p, dtype=np.int32), (), p)

    @classmethod
    def made(
        cls, layout: Layout, codings: Mapping[str, Coding], values: Mapping[str, Values], n: int
    ) -> FixedColumns:
        """The columns of a formula's fixed part."""
        found = list(_coded(layout, codings, values))
        width = len(layout.names)
        if not found:
            return cls.of(layout.fill(np.empty((n, width), order="F"), codings, values))
        left = np.ones(width, bool)
        for coded in found:
            left[coded.column] = False
        place = np.flatnonzero(left).astype(np.int32)
        stored = np.empty((n, len(place)), order="F")
        return cls(layout.fill(stored, codings, values, place.tolist()), place, tuple(found), width)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_whole"}

    @property
    def compiled(self) -> Any:
        """What the compiled model takes: a matrix, or the arguments of ``_core.Fixed``."""
        if not self.coded:
            return self.stored
        coded = [(c.codes, c.numbers, c.start, c.column, c.value) for c in self.coded]
        return self.columns, self.stored, self.place, coded

    @property
    def values(self) -> Matrix:
        if not self.coded:
            return self.stored
        if "_whole" not in vars(self):
            whole = self.some(slice(None))
            whole.flags.writeable = False
            vars(self)["_whole"] = whole
        made: Matrix = vars(self)["_whole"]
        return made

    def some(self, rows: Any) -> Matrix:
        """The columns in some rows (m, p), Fortran order."""
        stored = self.stored[rows]
        if not self.coded:
            return np.asfortranarray(stored)
        out = np.zeros((len(stored), self.columns), order="F")
        out[:, self.place] = stored
        for coded in self.coded:
            row, column, value = coded.entries(rows)
            out[row, column] = value
        return out

    def taken(self, rows: Any) -> FixedColumns:
        """The same columns of other rows."""
        stored = np.asfortranarray(self.stored[rows])
        coded = tuple(own.taken(rows) for own in self.coded)
        return FixedColumns(stored, self.place, coded, self.columns)

    @property
    def width(self) -> int:
        return self.columns

    @property
    def what(self) -> str:
        return "the columns"

    @property
    def factor(self) -> int:
        return id(self)

    def chosen(self, columns: Sequence[int]) -> FixedColumns:
        return FixedColumns.of(self.values[:, list(columns)])

    def combined(self, M: Matrix) -> FixedColumns:
        return FixedColumns.of(self.values @ M)

    def times(self, beta: Matrix) -> Matrix:
        out = np.asarray(self.stored @ beta[self.place])
        for coded in self.coded:
            out += coded.times(beta)
        return out

    def root(self, kept: NDArray[np.bool_]) -> Matrix:
        order = np.argsort(~kept, kind="stable")
        rank = int(kept.sum())
        R = np.empty((rank, self.width))
        R[:, order] = np.linalg.qr(self.values[:, order], mode="r")[:rank]
        return R

    def variance(self, v: NDArray[np.float64]) -> float:
        return float(np.var(self.times(v), ddof=1))

    def mean_squares(self, M: Matrix) -> NDArray[np.float64]:
        return np.asarray(np.mean(np.square(self.values @ M), axis=0))

    def largest(self, directions: Matrix) -> NDArray[np.float64]:
        return np.asarray(np.abs(self.values @ directions).max(axis=0, initial=0.0))

    def constant(self) -> NDArray[np.bool_]:
        return np.asarray((self.values == self.values[:1]).all(axis=0))

    def by_level(self, M: Matrix) -> Matrix:
        raise AssertionError("fixed effects have no levels")

    def divides_as(self, other: Any) -> bool:
        raise AssertionError("fixed effects have no levels")


# ---- from a formula's columns --------------------------------------------------------------------


class _Table(NamedTuple):
    """What is not zero in a table of levels by columns; and the codes of the rows."""

    codes: NDArray[np.int64]
    shape: tuple[int, int]
    level: NDArray[np.int64]
    column: NDArray[np.int64]
    value: Matrix

    @property
    def share(self) -> float:
        return len(self.value) / max(self.shape[0] * self.shape[1], 1)

    def times(self, other: _Table) -> _Table:
        """Products of their columns, this one's varying fastest, for pairs of levels alike."""
        one, two = len(self.value), len(other.value)
        return _Table(
            self.codes + self.shape[0] * other.codes,
            (self.shape[0] * other.shape[0], self.shape[1] * other.shape[1]),
            np.tile(self.level, two) + self.shape[0] * np.repeat(other.level, one),
            np.tile(self.column, two) + self.shape[1] * np.repeat(other.column, one),
            np.tile(self.value, two) * np.repeat(other.value, one),
        )


def _coded(
    layout: Layout, codings: Mapping[str, Coding], values: Mapping[str, Values]
) -> Iterator[Coded]:
    """Terms of a layout whose columns are many and mostly zero."""
    if len(layout.names) < MANY:
        return
    for key, places in _terms(layout, codings).items():
        factors = [part for part in key if codings[part[0]].levels is not None]
        if len(places) < MANY or not factors:
            continue
        tables = [_table(codings[label], values[label], bool(dummy)) for label, dummy in factors]
        share = np.prod([table.share for table in tables])
        levels = np.prod([float(table.shape[0]) for table in tables])
        if share <= SPARSE and levels <= MOST_LEVELS:
            numbers = [part for part in key if codings[part[0]].levels is None]
            parts = [codings[label].column(values[label], False, j) for label, j in numbers]
            yield _joined(tables, parts, np.array(places))


def _terms(
    layout: Layout, codings: Mapping[str, Coding]
) -> dict[tuple[tuple[str, int], ...], list[int]]:
    """Columns of the same factors times the same numbers; a factor's number is its coding."""
    found: dict[tuple[tuple[str, int], ...], list[int]] = {}
    for place, parts in enumerate(layout.columns):
        key = tuple((a, j if codings[a].levels is None else int(dummy)) for a, dummy, j in parts)
        found.setdefault(key, []).append(place)
    return found


def _table(coding: Coding, factor: Values, dummy: bool) -> _Table:
    assert isinstance(factor, Column) and coding.contrast is not None
    codes = factor.codes.astype(np.int64)
    if dummy:
        every = np.arange(len(coding.dummy_names))
        return _Table(codes, (len(every), len(every)), every, every, np.ones(len(every)))
    table = coding.contrast[:-1]  # the last row answers missing values
    level, column = np.nonzero(table)
    shape = (table.shape[0], table.shape[1])
    return _Table(codes, shape, level, column, table[level, column])


def _joined(tables: Sequence[_Table], parts: Sequence[NDArray[Any]], places: Places) -> Coded:
    """The columns of a product: of factors, the first varying fastest, and of numbers."""
    table = tables[0]
    for other in tables[1:]:
        table = table.times(other)
    order = np.lexsort((table.column, table.level))
    counts = np.bincount(table.level, minlength=table.shape[0])
    numbers = None
    if parts:
        numbers = np.array(parts[0], dtype=np.float64)
        for part in parts[1:]:
            numbers *= part
    return Coded(
        table.codes.astype(np.int32),
        numbers,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        places[table.column[order]].astype(np.int32),
        np.ascontiguousarray(table.value[order]),
    )
