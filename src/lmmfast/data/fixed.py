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
from .rows import Part, RowColumns

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
class FixedColumns(RowColumns, arrays=("parts", "place", "level")):
    """X (n, p) of which some columns are coded; `parts` are those of the stored ones."""

    place: Places  # of the stored columns in X
    coded: tuple[Coded, ...]  # the others
    p: int

    @classmethod
    def of_coded(
        cls,
        n: int,
        p: int,
        parts: tuple[tuple[Part, ...], ...],
        place: Places,
        coded: tuple[Coded, ...],
    ) -> FixedColumns:
        """p columns: by their parts, and coded ones."""
        made = cls.__new__(cls)
        vars(made).update(n=n, parts=parts, level=None, place=place, coded=coded, p=p)
        made.__post_init__()
        return made

    def _multiplied(self, rows: slice | NDArray[np.int64]) -> Matrix:
        stored = super()._multiplied(rows)
        out = np.zeros((len(stored), self.width), order="F")
        out[:, self.place] = stored
        for coded in self.coded:
            row, column, value = coded.entries(rows)
            out[row, column] = value
        return out

    def taken(self, rows: NDArray[np.int64]) -> FixedColumns:
        stored = super()._multiplied(rows)
        parts = tuple((stored[:, j],) for j in range(stored.shape[1]))
        coded = tuple(block.taken(rows) for block in self.coded)
        return self.of_coded(len(stored), self.p, parts, self.place, coded)

    def columns(self) -> Any:
        """The arguments of ``_core.Fixed``."""
        coded = [(c.codes, c.numbers, c.start, c.column, c.value) for c in self.coded]
        return self.width, super().columns(), self.place, coded

    @property
    def width(self) -> int:
        return self.p

    def chosen(self, columns: Sequence[int]) -> RowColumns:
        return RowColumns(np.asfortranarray(self.values[:, list(columns)]))

    def times(self, beta: Matrix) -> Matrix:
        out = super()._multiplied(slice(None)) @ beta[self.place]
        for coded in self.coded:
            out += coded.times(beta)
        return np.asarray(out)


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


def fixed_columns(
    n: int, layout: Layout, codings: Mapping[str, Coding], values: Mapping[str, Values]
) -> RowColumns:
    """The columns of a formula's fixed part."""
    coded = tuple(_coded(layout, codings, values))
    if not coded:
        return RowColumns.of_parts(n, layout.parts(codings, values))
    p = len(layout.names)
    left = np.ones(p, bool)
    for block in coded:
        left[block.column] = False
    place = np.flatnonzero(left).astype(np.int32)
    return FixedColumns.of_coded(n, p, layout.parts(codings, values, place.tolist()), place, coded)


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
    if dummy and coding.full_rank is None:
        every = np.arange(len(coding.dummy_names))
        return _Table(codes, (len(every), len(every)), every, every, np.ones(len(every)))
    table = coding.table(dummy)[:-1]  # the last row answers missing values
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
