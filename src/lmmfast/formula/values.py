"""What expressions work on: numbers, logicals, texts, dates, matrices, factors.

- numbers, logicals, dates: NumPy arrays with one dimension (integers, float64, bool, datetime64),
  or one Python value; logicals some of which are missing are a `Logical`
- texts: `Text` where they come from the data, arrays of objects (None: missing), or one `str`
- factors: `Column` with codes; matrices: `Matrix`
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cells import read
from .column import Column, Text

Vector = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Matrix:
    """Columns of numbers, with names if they have some."""

    values: NDArray[Any]  # (n, k)
    names: tuple[str, ...] = ()  # k, or empty


class Logical(np.ndarray):
    """Logicals some of which are missing: 0, 1 and NaN."""


class Named(np.ndarray):
    """A vector with names, as c(a = 1, b = 2)."""

    names: tuple[str, ...] = ()


def exposed(column: Column) -> Any:
    """A column of the data as expressions see it."""
    if column.values is not None:
        return np.asarray(column.values)
    levels = column.levels
    if levels.dtype.kind == "b":
        return flags(np.asarray(levels)[column.codes], column.missing)
    if _are_dates(levels):
        return np.append(levels.astype("datetime64[us]"), np.datetime64("NaT", "us"))[column.codes]
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
    if isinstance(value, Matrix):
        return int(value.values.size)
    if isinstance(value, Column):
        value = value.codes
    if isinstance(value, (list, tuple, dict)) or (isinstance(value, np.ndarray) and value.ndim):
        return len(value)
    return 0 if value is None else 1


def is_textual(value: Any) -> bool:
    """Whether a value holds texts or labels."""
    return isinstance(value, (str, Column)) or (
        isinstance(value, np.ndarray) and value.dtype.kind in "OUS"
    )


def whole(value: Any) -> Any:
    """2 rather than 2.0, as levels, decimals and axes are written."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
