"""One variable of the data, as numbers or as a factor: what expressions are made of."""

from __future__ import annotations

import decimal
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..freeze import freeze

Codes = NDArray[np.int32]
Mask = NDArray[np.bool_]
PIECE = 65_536  # rows that are worked on together: what is made of them stays in the cache
MANY = 10_000  # values from which on hashing is faster than sorting


@dataclass(slots=True)
class Column:
    """One variable: numbers (`values`) or a factor (`codes`, `levels`, which numbers lack)."""

    name: str
    values: NDArray[Any] | None = None  # n numbers in their own dtype, NaN where missing
    codes: Codes = None  # type: ignore[assignment]  # n, -1 where missing
    levels: NDArray[Any] = None  # type: ignore[assignment]  # L labels
    ordered: bool = False
    missing: Mask | None = None  # n, None when nothing is missing
    contrasts: Any = None  # how C() and the like want it coded
    declared: NDArray[Any] | None = None  # a categorical's categories, unused ones included
    lasting: bool = False  # nobody else can change its numbers

    @classmethod
    def factor(cls, name: str, codes: NDArray[Any], levels: NDArray[Any], **more: Any) -> Column:
        """A factor whose missing entries are those of code -1."""
        gaps = codes < 0 if len(codes) and codes.min() < 0 else None
        return cls(name, None, codes.astype(np.int32, copy=False), levels, missing=gaps, **more)

    @property
    def numeric(self) -> bool:
        """Whether it has numbers, else levels."""
        return self.values is not None

    @property
    def known(self) -> list[Any]:
        """A factor's levels, a categorical's unused ones included."""
        levels: list[Any] = (self.levels if self.declared is None else self.declared).tolist()
        return levels

    @property
    def labels(self) -> list[str]:
        """A factor's levels as texts."""
        return [label_of(level) for level in self.levels.tolist()]

    def freeze(self) -> None:
        """Makes its arrays read-only; they must be its own."""
        freeze((self.values, self.codes, self.levels, self.missing))

    def take(self, rows: NDArray[np.int64]) -> Column:
        """The given rows; levels stay (see `used`)."""
        values = None if self.values is None else self.values[rows]
        codes = self.codes if self.codes is None else self.codes[rows]
        own = (self.name, values, codes, self.levels, self.ordered, None, self.contrasts)
        return Column(*own, self.declared)

    def copy(self) -> Column:
        """The column with numbers of its own; codes are never the user's."""
        if self.values is None or self.lasting:
            return self
        return Column(self.name, self.values.copy(), missing=self.missing, lasting=True)

    def used(self) -> Column:
        """The same factor without levels that no row has."""
        if self.codes is None or self.levels is None:
            return self
        present = occurring(self.codes, len(self.levels))
        if present.all():
            return self
        rank = np.cumsum(present, dtype=np.int32) - np.int32(1)
        codes = looked_up(np.append(rank, np.int32(-1)), self.codes)  # the last answers code -1
        levels = self.levels[present]
        own = (self.name, None, codes, levels, self.ordered, self.missing, self.contrasts)
        return Column(*own, self.declared)

    def recoded(self, places: Sequence[int], levels: NDArray[Any]) -> Column:
        """The factor with other levels; `places`: where each of its levels is among them, or -1."""
        codes = looked_up(np.array([*places, -1], dtype=np.int32), self.codes)
        more = {"ordered": self.ordered, "contrasts": self.contrasts}
        return Column.factor(self.name, codes, levels, **more)

    def as_factor(self) -> Column:
        """Numbers become levels in increasing order; missing values get code -1."""
        if self.values is None:
            return self
        codes, levels = factorize(self.values, self.missing, self.lasting)
        return Column(self.name, None, codes, levels, False, self.missing)

    def distinct(self) -> NDArray[Any]:
        """The distinct values of a column without missing ones, in increasing order."""
        return np.asarray(self.levels) if self.values is None else np.unique(self.values)

    def mean(self) -> float:
        """The mean of a numeric column without missing values."""
        assert self.values is not None
        return float(self.values.mean())


class Text(Column):
    """A column of the data that holds texts: R's character, which is a factor where it is used."""

    __slots__ = ()


def factorize(
    values: NDArray[Any], missing: Mask | None = None, lasting: bool = False
) -> tuple[Codes, NDArray[Any]]:
    """Numbers (or dates) -> codes 0..m-1 in increasing order of the m distinct values.

    Integers in a narrow range, the usual labels of subjects and items, cost a few passes. Codes may
    be the values themselves where these are `lasting`.
    """
    if missing is not None:
        codes = np.full(len(values), -1, dtype=np.int32)
        present = ~missing
        codes[present], levels = factorize(values[present])
        return codes, levels
    if values.dtype.kind == "f" and len(values):
        whole = values.astype(np.int64, copy=False) if abs(values).max() < 2**53 else values
        if (whole == values).all():
            values = whole  # labels 1, 2 rather than 1.0, 2.0
    if values.dtype.kind in "iu" and len(values):
        low, high = int(values.min()), int(values.max())
        if high < 2**62 and high - low <= 4 * len(values) + 1000:
            return _ranked(values, low, high, lasting)
    if len(values) >= MANY and values.dtype.kind in "iuf":
        return _hashed(values)
    levels, inverse = np.unique(values, return_inverse=True)
    return inverse.astype(np.int32), levels


def _ranked(values: NDArray[Any], low: int, high: int, lasting: bool) -> tuple[Codes, NDArray[Any]]:
    """`factorize` of integers in a narrow range."""
    seen = occurring(values, high - low + 1, low)
    levels = np.flatnonzero(seen) + low
    if seen.all() and low == 0 and lasting and values.dtype == np.int32 and values.dtype.isnative:
        return np.ascontiguousarray(values), levels
    rank = np.cumsum(seen, dtype=np.int32) - np.int32(1)
    return looked_up(rank, values, low), levels


def _hashed(values: NDArray[Any]) -> tuple[Codes, NDArray[Any]]:
    """`factorize` of any numbers, none of them missing."""
    import pandas as pd

    raw, distinct = pd.factorize(values)
    order = np.argsort(distinct)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return looked_up(rank, raw), distinct[order]


def occurring(values: NDArray[Any], size: int, low: int = 0) -> Mask:
    """Which of the integers low, ..., low + size - 1 occur; negative codes are missing values."""
    seen = np.zeros(size + 1, dtype=bool)
    for a in range(0, len(values), PIECE):
        piece = values[a : a + PIECE]
        seen[_shifted(piece, low)] = True
    return seen[:-1]


def looked_up(
    table: NDArray[Any], values: NDArray[Any], low: int = 0, into: NDArray[Any] | None = None
) -> NDArray[Any]:
    """What a table says of each value: its entry value - low. `into`: room, maybe the values'."""
    out = np.empty(len(values), dtype=table.dtype) if into is None else into
    for a in range(0, len(values), PIECE):
        piece = values[a : a + PIECE]
        out[a : a + PIECE] = table[_shifted(piece, low)]
    return out


def _shifted(values: NDArray[Any], low: int) -> NDArray[Any]:
    return values.astype(np.intp) - low if low else values


def places(rows: NDArray[np.int64] | range) -> NDArray[np.int64]:
    """Positions of rows as an array; those of all rows are kept as a range."""
    if not isinstance(rows, range):
        return rows
    made = np.arange(rows.start, rows.stop)
    freeze((made,))
    return made


def first_rows(mask: Mask, limit: int = 5) -> str:
    """Where a mask is true, in words: "rows 0, 7, 9 and 12 more" (positions, from 0)."""
    where = np.flatnonzero(mask)
    shown = ", ".join(str(row) for row in where[:limit])
    more = f" and {len(where) - limit} more" if len(where) > limit else ""
    return f"row{'s' if len(where) > 1 else ''} {shown}{more}"


def objects(entries: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    """An array of Python objects, lists and texts as they are."""
    made = np.empty(len(entries), dtype=object)
    made[:] = entries
    return made


def label_of(value: Any) -> str:
    """A number, logical or text as R's as.character() writes it."""
    if isinstance(value, (bool, np.bool_)):
        return "TRUE" if value else "FALSE"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    return _decimal(float(value)) if isinstance(value, (float, np.floating)) else str(value)


def _decimal(value: float) -> str:
    """15 significant digits; in powers of ten where that is shorter, as R writes numbers."""
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    sign, digits, exponent = decimal.Decimal(f"{value:.15g}").normalize().as_tuple()
    assert isinstance(exponent, int)
    written = "".join(map(str, digits))
    power = len(written) - 1 + exponent
    scientific = f"{written[0]}{'.' * (len(written) > 1)}{written[1:]}e{power:+03d}"
    fixed = f"{decimal.Decimal((0, digits, exponent)):f}"
    return "-" * sign + (fixed if len(fixed) <= len(scientific) else scientific)
