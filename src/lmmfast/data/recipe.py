"""How to encode new data exactly as the training data were: levels, contrasts, transforms."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..formula.column import Codes, Column
from ..formula.expressions import Expression, Memory
from ..freeze import Frozen, freeze
from .columns import Table
from .encode import Coding, Layout, Values, value_of
from .grouping import Grouping
from .members import Members
from .membership import MemberGrouping, SpannedGrouping
from .strays import not_numbers

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Recipe(Frozen):
    """Everything needed to build the design matrices of new data; holds no training rows."""

    codings: dict[str, Coding]  # by label of the variable
    fixed_layout: Layout
    random_layouts: tuple[Layout, ...]  # one for each random term
    groupings: tuple[Grouping | MemberGrouping | SpannedGrouping, ...]  # one for each random term
    offset_terms: tuple[Expression, ...]
    offset: str | None  # column given as offset=
    offset_is_array: bool  # offset= was an array: unknown for new rows
    names: frozenset[str]  # columns of the data that the formula uses
    memory: Memory  # what scale(), poly(), splines ... remember
    weights: str | None = None  # column given as weights=

    def __post_init__(self) -> None:
        for coding in self.codings.values():
            freeze((coding.levels, coding.contrast))

    def fixed(self, newdata: Any) -> tuple[Matrix, Matrix | None]:
        """Fixed-effects matrix X (n, p) of new data, NaN where a value is missing, and offset (n).

        The offset is the sum of the ``offset()`` terms and the column given as ``offset=``, None
        where there are none. An offset given as an array is not known for new rows and not in it.
        """
        table = Table.of(newdata)
        columns = self._read(table, self.fixed_layout.atoms + self.offset_terms)
        X = self._matrix(self.fixed_layout, columns, table.n, order="F")
        extra: Matrix | None = None
        if self.offset is not None:
            if not table.has(self.offset):
                raise table.lacks(self.offset, DataError, "the offset's column")
            extra = numbers_of(table.column(self.offset), "offset")
        return X, add_offsets(extra, self.offset_terms, columns, self.memory, table.n)

    def random(
        self, newdata: Any, groups: Collection[str] | None = None
    ) -> list[tuple[Codes | Members, Matrix]]:
        """Levels (n) and columns (n, k) of the random terms of new data, of some groups or of all.

        Codes are -1 for levels that the training data do not have and for missing ones; columns are
        NaN in rows where a variable or the level is missing.
        """
        table = Table.of(newdata)
        encoded: list[tuple[Codes | Members, Matrix]] = []
        levels: dict[str, tuple[Codes | Members, NDArray[np.bool_]]] = {}
        for layout, grouping in zip(self.random_layouts, self.groupings, strict=True):
            if groups is not None and grouping.label not in groups:
                continue
            hint = '; predictions without random effects need none of it: re_form="none"'
            columns = self._read(table, layout.atoms + grouping.atoms, hint)
            z = self._matrix(layout, columns, table.n, order="C")
            if grouping.label not in levels:
                levels[grouping.label] = grouping.codes(columns, self.memory, table.n)
            codes, missing = levels[grouping.label]
            if missing.any():
                z[missing] = np.nan
            encoded.append((codes, z))
        return encoded

    def level_names(self, newdata: Any, group: str, rows: NDArray[np.int64]) -> list[str]:
        """Names of the levels of a grouping factor in some rows of new data, unseen ones too."""
        table = Table.of(newdata)
        grouping = next(own for own in self.groupings if own.label == group)
        columns = self._read(table, grouping.atoms)
        return grouping.names(columns, self.memory, table.n, rows)

    def random_columns(self, newdata: Any) -> list[Matrix]:
        """Columns of every random term (n', k) of new data, which need no grouping factors."""
        table = Table.of(newdata)
        return [
            self._matrix(layout, self._read(table, layout.atoms), table.n, order="C")
            for layout in self.random_layouts
        ]

    def _read(self, table: Table, atoms: Iterable[Expression], hint: str = "") -> dict[str, Column]:
        """The columns that these variables use; `hint` is added where one is not there."""
        columns: dict[str, Column] = {}
        for name in (name for atom in atoms for name in atom.names if name in self.names):
            if not table.has(name):
                error = table.lacks(name, DataError, "column")
                raise type(error)(f"{error}{hint}", variable=name)
            columns[name] = table.column(name)
        return columns

    def _matrix(
        self, layout: Layout, columns: dict[str, Column], n: int, order: Literal["C", "F"]
    ) -> Matrix:
        values: dict[str, Values] = {}
        for atom in layout.atoms:
            if atom.label in self.codings:
                value = value_of(atom, columns, self.memory, n)
                values[atom.label] = self.codings[atom.label].recode(value)
        out: Matrix = np.empty((n, len(layout.names)), dtype=np.float64, order=order)
        return layout.fill(out, self.codings, values)


def numbers_of(column: Column, role: str) -> Matrix:
    """The values of a column as floats; a factor is an error."""
    if column.values is None:
        raise DataError(
            f"{column.name!r}, used as {role}, is not numeric: convert it to numbers"
            f"{not_numbers(column)}",
            variable=column.name,
        )
    return np.asarray(column.values, dtype=np.float64)


def add_offsets(
    offset: Matrix | None,
    terms: tuple[Expression, ...],
    columns: dict[str, Column],
    memory: Memory,
    n: int,
) -> Matrix | None:
    """The sum of offset= and the offset() terms, None when there is neither."""
    total = offset
    for term in terms:
        value = value_of(term, columns, memory, n)
        if isinstance(value, Column) or len(value) != 1:
            raise DataError(f"offset({term.label}) is not one number per row", variable=term.label)
        column = np.array(next(iter(value.values())), dtype=np.float64)
        total = column if total is None else total + column
    return total
