"""R's coercions: values as numbers, logicals, texts or factors; `Wrong` where they cannot be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cells import read
from .column import Column, Text, label_of, objects
from .function import Wrong
from .values import Logical, Matrix, flags, is_textual, plain

Vector = NDArray[Any]


def reals(value: Any, what: str = "arithmetic") -> Any:
    """A value as numbers: a float, an array or a `Matrix`; `Wrong` for factors and texts."""
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
    """One number; `Wrong` when it is not one."""
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
    """Two numeric values that can be combined entry by entry."""
    if isinstance(a, Matrix) or isinstance(b, Matrix):
        a, b = _as_columns(a), _as_columns(b)
    check_lengths(a, b)
    return a, b


def _as_columns(value: Any) -> Any:
    """A vector as one column, so that it meets each column of a matrix."""
    if isinstance(value, Matrix):
        return value.values
    return value[:, None] if np.ndim(value) == 1 and len(value) > 1 else value


def check_lengths(a: Any, b: Any) -> None:
    """`Wrong` when lengths differ and neither is one."""
    one, two = (np.shape(value)[0] if np.ndim(value) else 1 for value in (a, b))
    if one != two and 1 not in (one, two):
        raise Wrong(
            f"{one} values and {two} values cannot be combined entry by entry (whether values are "
            "among others is asked by %in%)"
        )


def texts(value: Any) -> Vector:
    """A value as texts (n), None where missing."""
    if isinstance(value, Column):
        factor = value if value.codes is not None else as_factor(value)
        return objects([*factor.labels, None])[factor.codes]
    if isinstance(value, str):
        return objects([value])
    entries = np.atleast_1d(value.values.ravel(order="F") if isinstance(value, Matrix) else value)
    if isinstance(entries, Logical):
        words = {0.0: "FALSE", 1.0: "TRUE"}
        return objects([words.get(entry) for entry in entries.tolist()])
    if entries.dtype.kind == "M":
        written = np.datetime_as_string(entries.astype("datetime64[D]")).tolist()
        return objects([None if day == "NaT" else day for day in written])
    return objects([None if _is_missing(entry) else label_of(entry) for entry in entries.tolist()])


def _is_missing(entry: Any) -> bool:
    return entry is None or (isinstance(entry, float) and math.isnan(entry))


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
