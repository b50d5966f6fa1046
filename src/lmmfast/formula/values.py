"""What expressions work on: numbers, logicals, texts, dates, matrices, factors; R's coercions.

- numbers, logicals, dates: NumPy arrays with one dimension (integers, float64, bool, datetime64),
  or one Python value; logicals some of which are missing are a `Logical`
- texts: `Text` where they come from the data, arrays of objects (None: missing), or one `str`
- factors: `Column` with codes; matrices: `Matrix`
"""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cells import read
from .column import Column

__all__ = [
    "Logical",
    "Matrix",
    "Named",
    "Text",
    "Wrong",
    "aligned",
    "as_factor",
    "exposed",
    "flags",
    "is_textual",
    "label_of",
    "length",
    "number",
    "numbers",
    "plain",
    "reals",
    "texts",
    "truths",
]

Vector = NDArray[Any]


class Wrong(ValueError):
    """What a function cannot do with its arguments, in words for the user."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """Columns of numbers, with names if they have some.

    Attributes
    ----------
    values : (n, k) array
    names : tuple of str
        Of the columns; empty without names.
    """

    values: NDArray[Any]
    names: tuple[str, ...] = ()


class Logical(np.ndarray):
    """Logicals some of which are missing: 0, 1 and NaN."""


class Named(np.ndarray):
    """A vector with names, as c(a = 1, b = 2)."""

    names: tuple[str, ...] = ()


class Text(Column):
    """A column of the data that holds texts: R's character, which is a factor where it is used."""

    __slots__ = ()


def exposed(column: Column) -> Any:
    """A column of the data as expressions see it."""
    if column.values is not None:
        return np.asarray(column.values)
    assert column.codes is not None and column.levels is not None
    levels = column.levels
    if levels.dtype.kind == "b":
        return flags(np.asarray(levels)[column.codes], column.missing)
    if _are_dates(levels):
        return np.append(levels.astype("datetime64[us]"), np.datetime64("NaT"))[column.codes]
    if column.declared is None and levels.dtype.kind == "O":
        return Text(column.name, None, column.codes, levels, False, column.missing)
    return column


def _are_dates(levels: Vector) -> bool:
    """Dates, not times of the day."""
    if levels.dtype.kind in "mM":
        return levels.dtype.kind == "M"
    return len(levels) > 0 and all(isinstance(level, datetime.date) for level in levels)


def flags(values: Vector, missing: Vector | None) -> Vector:
    """Logicals: booleans, or 0, 1 and NaN where some are missing."""
    if missing is None or not np.any(missing):
        return np.asarray(values, dtype=bool)
    return np.where(missing, np.nan, values).view(Logical)


def plain(value: Any) -> Any:
    """A value without the wrapper of another library: formulaic's, or a pandas Series."""
    value = getattr(value, "__wrapped__", value)
    if hasattr(value, "to_numpy") and np.ndim(value) == 1:
        return exposed(read("", value))
    return value


def length(value: Any) -> int:
    """Number of entries; of a matrix too."""
    if isinstance(value, Column):
        return 0 if value.codes is None else len(value.codes)
    if isinstance(value, Matrix):
        return int(value.values.size)
    if isinstance(value, np.ndarray):
        return len(value) if value.ndim else 1
    if isinstance(value, (list, tuple, dict)):
        return len(value)
    return 0 if value is None else 1


def is_textual(value: Any) -> bool:
    """Whether a value holds texts or labels."""
    return isinstance(value, (str, Column)) or (
        isinstance(value, np.ndarray) and value.dtype.kind in "OUS"
    )


# ---- numbers ------------------------------------------------------------------------------------


def reals(value: Any, what: str = "arithmetic") -> Any:
    """A value as numbers: a float, an array or a `Matrix`.

    Raises
    ------
    Wrong
        For factors and texts.
    """
    if isinstance(value, (bool, int, float, np.number, np.bool_)):
        return np.float64(value)
    if isinstance(value, Matrix):
        return value
    if hasattr(value, "matrix"):  # contrasts
        return value.matrix()
    if isinstance(value, Column):
        kind = "text" if isinstance(value, Text) else "a factor"
        raise Wrong(f"{what} needs numbers, but {value.name or 'it'} is {kind}")
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "M":
            return days(value)
        if value.dtype.kind in "fiub":
            return np.asarray(value, dtype=np.float64)
        raise Wrong(f"{what} needs numbers, not texts")
    if isinstance(value, (list, tuple)):
        return reals(np.asarray(value), what)
    if value is None:
        raise Wrong(f"{what} needs numbers, not NULL")
    if isinstance(value, str):
        raise Wrong(f"{what} needs numbers, not the text {value!r}")
    if hasattr(value, "to_numpy") or hasattr(value, "__wrapped__"):
        return reals(plain(value), what)
    raise Wrong(f"{what} needs numbers, not a {type(value).__name__}")


def days(dates: Vector) -> NDArray[np.float64]:
    """Dates as days since 1970-01-01, R's number of a date."""
    missing = np.isnat(dates)
    count = dates.astype("datetime64[us]").astype(np.int64) / 86_400e6
    return np.where(missing, np.nan, count) if missing.any() else np.asarray(count)


def numbers(value: Any, what: str = "it") -> NDArray[np.float64]:
    """A value as a vector of numbers; of a matrix column by column, as R reads it."""
    found = reals(value, what)
    if isinstance(found, Matrix):
        return np.asarray(found.values, dtype=np.float64).ravel(order="F")
    return np.atleast_1d(np.asarray(found, dtype=np.float64))


def number(value: Any, what: str) -> float:
    """One number.

    Raises
    ------
    Wrong
        When it is not one.
    """
    found = numbers(value, what)
    if len(found) != 1:
        raise Wrong(f"{what} must be one number, not {len(found)}")
    return float(found[0])


def truths(value: Any, what: str) -> Any:
    """A value as logicals: numbers that are not zero are true, NaN is missing."""
    if isinstance(value, str) or (is_textual(value) and not isinstance(value, Column)):
        raise Wrong(f"{what} needs logicals, not texts")
    found = reals(value, what)
    if isinstance(found, Matrix):
        found = found.values
    missing = np.isnan(found)
    return flags(found != 0, missing)


def aligned(a: Any, b: Any) -> tuple[Any, Any]:
    """Two numeric values that can be combined entry by entry.

    Raises
    ------
    Wrong
        When their lengths differ and neither is one.
    """
    if not isinstance(a, Matrix) and not isinstance(b, Matrix):
        check_lengths(a, b)
        return a, b
    left, right = (_as_columns(value) for value in (a, b))
    check_lengths(left, right)
    return left, right


def _as_columns(value: Any) -> Any:
    """A vector as one column, so that it meets each column of a matrix."""
    if isinstance(value, Matrix):
        return value.values
    return value[:, None] if np.ndim(value) == 1 and len(value) > 1 else value


def check_lengths(a: Any, b: Any) -> None:
    """
    Raises
    ------
    Wrong
        When lengths differ and neither is one.
    """
    one, two = (np.shape(value)[0] if np.ndim(value) else 1 for value in (a, b))
    if one != two and 1 not in (one, two):
        raise Wrong(
            f"{one} values and {two} values cannot be combined entry by entry (whether values are "
            "among others is asked by %in%)"
        )


# ---- texts and factors --------------------------------------------------------------------------


def label_of(value: Any) -> str:
    """A number, logical or text as R's as.character() writes it."""
    if isinstance(value, (bool, np.bool_)):
        return "TRUE" if value else "FALSE"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return _decimal(float(value))
    return str(value)


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


def texts(value: Any) -> Vector:
    """A value as texts (n), None where missing."""
    if isinstance(value, Column):
        factor = value if value.codes is not None else as_factor(value)
        assert factor.codes is not None and factor.levels is not None
        labels = [label_of(level) for level in factor.levels.tolist()]
        return _objects([*labels, None])[factor.codes]
    if isinstance(value, str):
        return _objects([value])
    entries = np.atleast_1d(value.values.ravel(order="F") if isinstance(value, Matrix) else value)
    if isinstance(entries, Logical):
        words = {0.0: "FALSE", 1.0: "TRUE"}
        return _objects([words.get(entry) for entry in entries.tolist()])
    if entries.dtype.kind == "M":
        written = np.datetime_as_string(entries.astype("datetime64[D]")).tolist()
        return _objects([None if day == "NaT" else day for day in written])
    return _objects([None if _is_missing(entry) else label_of(entry) for entry in entries.tolist()])


def _is_missing(entry: Any) -> bool:
    return entry is None or (isinstance(entry, float) and math.isnan(entry))


def _objects(entries: Sequence[Any]) -> Vector:
    made = np.empty(len(entries), dtype=object)
    made[:] = entries
    return made


def as_factor(value: Any, name: str = "") -> Column:
    """A value as a factor; numbers become levels in increasing order, texts in order of text."""
    if isinstance(value, Logical):
        entries = np.atleast_1d(np.asarray(value))
        missing = np.isnan(entries)
        codes = np.where(missing, -1, entries).astype(np.int32)
        return Column(name, None, codes, np.array([False, True]), False, missing)
    if isinstance(value, Matrix):
        value = value.values.ravel(order="F")
    elif not isinstance(value, (Column, np.ndarray)) and not hasattr(value, "dtype"):
        value = np.atleast_1d(np.asarray(value, dtype=object if is_textual(value) else None))
    column = value if isinstance(value, Column) else read(name, value)
    if column.values is not None:
        return column.as_factor()
    own = (column.name, None, column.codes, column.levels, column.ordered, column.missing)
    made = Column(*own, column.contrasts, column.declared)
    return made if made.missing is not None else made.used()
