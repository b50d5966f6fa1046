"""Columns of the user's data as numbers or factors, whatever kind of table they come from."""

from __future__ import annotations

import decimal
import difflib
import enum
import json
import math
import numbers
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, LmmError
from ..freeze import freeze

__all__ = [
    "DECLARED",
    "Column",
    "Levels",
    "Table",
    "array_of",
    "factorize",
    "first_rows",
    "is_exact",
    "is_not",
    "is_time",
    "suggest",
]

Codes = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(slots=True)
class Column:
    """One variable: numbers (`values`) or a factor (`codes`, `levels`)."""

    name: str
    values: NDArray[Any] | None = None  # n numbers in their own dtype, NaN where missing
    codes: Codes | None = None  # n, -1 where missing
    levels: NDArray[Any] | None = None  # L labels
    ordered: bool = False
    missing: Mask | None = None  # n, None when nothing is missing
    contrasts: Any = None  # how C() and the like want it coded
    declared: NDArray[Any] | None = None  # a categorical's categories, unused ones included

    def freeze(self) -> None:
        """Makes its arrays read-only; they must be its own."""
        freeze((self.values, self.codes, self.levels, self.missing))

    def take(self, rows: NDArray[np.int64]) -> Column:
        """The given rows; levels stay (see `used`)."""
        values = None if self.values is None else self.values[rows]
        codes = None if self.codes is None else self.codes[rows]
        own = (self.name, values, codes, self.levels, self.ordered, None, self.contrasts)
        return Column(*own, self.declared)

    def copy(self) -> Column:
        """The column with numbers of its own; codes are never the user's."""
        if self.values is None:
            return self
        return Column(self.name, self.values.copy(), missing=self.missing)

    def used(self) -> Column:
        """The same factor without levels that no row has."""
        if self.codes is None or self.levels is None:
            return self
        seen = self.codes if self.missing is None else self.codes[~self.missing]
        present = np.bincount(seen, minlength=len(self.levels)) > 0
        if present.all():
            return self
        rank = np.cumsum(present, dtype=np.int32) - np.int32(1)
        codes = np.append(rank, np.int32(-1))[self.codes]  # the last entry answers code -1
        levels = self.levels[present]
        own = (self.name, None, codes, levels, self.ordered, self.missing, self.contrasts)
        return Column(*own, self.declared)

    def as_factor(self) -> Column:
        """Numbers become levels in increasing order; missing values get code -1."""
        if self.values is None:
            return self
        codes, levels = factorize(self.values, self.missing)
        return Column(self.name, None, codes, levels, False, self.missing)

    def distinct(self) -> NDArray[Any]:
        """The distinct values of a column without missing ones, in increasing order."""
        return np.asarray(self.levels) if self.values is None else np.unique(self.values)

    def mean(self) -> float:
        """The mean of a numeric column without missing values."""
        assert self.values is not None
        return float(self.values.mean())


class Table:
    """Columns by name out of a pandas, polars or pyarrow table or a mapping of arrays.

    Parameters
    ----------
    data : table, or mapping from names to arrays, lists or scalars
    """

    def __init__(self, data: Any) -> None:
        self._native: Any = None
        self.pandas = False
        self.index: Any = None  # of pandas tables, and of mappings of pandas series
        if any(base.__module__.startswith("pandas.") for base in type(data).__mro__[:-1]):
            self._open_pandas(data)
        elif isinstance(data, Mapping):
            self._open_mapping(data)
        elif isinstance(data, np.ndarray) and data.dtype.names:
            self._open_mapping({name: data[name] for name in data.dtype.names})
        else:
            self._open_other(data)
        self._read: dict[str, Column] = {}

    @classmethod
    def of(cls, data: Any) -> Table:
        """The data as a table; a table is one already."""
        return data if isinstance(data, Table) else cls(data)

    @classmethod
    def of_columns(cls, columns: Mapping[str, Column], n: int) -> Table:
        """A table of columns that were read already, n rows."""
        table = cls({})
        table._read, table.names, table.n = dict(columns), list(columns), n
        return table

    def _open_pandas(self, data: Any) -> None:
        if not hasattr(data, "ndim"):
            raise DataError(
                f"data is a {type(data).__name__}, which is no table; a reader of chunks can be "
                "read only once: give a function that makes it anew, as in "
                "lmer(formula, lambda: pandas.read_csv(path, chunksize=200_000))"
            )
        if data.ndim != 2:
            raise DataError("data is a Series; give a data frame: data.to_frame()")
        self._native, self.pandas = data, True
        self.n: int = len(data)
        self.names: Iterable[Any] = data.columns
        self.index = data.index
        if data.columns.nlevels > 1:
            raise DataError(
                f"the columns of data have {data.columns.nlevels} levels of names; join them: "
                'data.columns = ["_".join(map(str, name)) for name in data.columns]'
            )

    def _open_mapping(self, data: Mapping[str, Any]) -> None:
        arrays: dict[str, Any] = {}
        for name, value in data.items():
            plain = hasattr(value, "dtype") and hasattr(value, "__len__") and np.ndim(value) > 0
            arrays[name] = value if plain else np.atleast_1d(array_of(value))
        lengths = {name: len(value) for name, value in arrays.items()}
        self.n = max(lengths.values(), default=0)
        for name, length in lengths.items():
            if length == 1 and self.n > 1 and np.ndim(data[name]) == 0:
                arrays[name] = np.repeat(arrays[name], self.n)
            elif length != self.n:
                raise DataError(
                    f"column {name!r} has {length} values, others have {self.n}", variable=name
                )
        self._native, self.names, self.index = arrays, arrays, _common_index(data)

    def _open_other(self, data: Any) -> None:
        import narwhals.stable.v2 as nw

        try:
            frame = nw.from_native(data, eager_only=True)
        except nw.exceptions.DuplicateError as error:
            which = " ".join(str(error).split())
            raise DataError(
                f"there are several columns of one name: rename or drop all but one ({which})"
            ) from error
        except TypeError as error:
            if type(data).__name__ == "LazyFrame":
                raise DataError(
                    "data is a LazyFrame: collect it, data.collect(), or write a file that can be "
                    "streamed, data.sink_parquet(path), and give its path"
                ) from error
            raise DataError(
                f"data is a {type(data).__name__}; give a pandas, polars or pyarrow table "
                "(a lazy one collected first) or a dict of arrays"
            ) from error
        if frame.implementation.is_pandas():
            self._open_pandas(frame.to_native())
            return
        self._native, self.n, self.names = frame, len(frame), frame.columns

    def has(self, name: str) -> bool:
        """Whether there is a column of this name."""
        return name in self._read or name in self.names

    def add(self, name: str, values: Any) -> None:
        """A column beside those of the data, in front of one of the same name.

        Raises
        ------
        DataError
            When it has another length, or its values are neither numbers nor labels.
        """
        if len(np.shape(values)) != 1 or len(values) != self.n:
            raise DataError(
                f"{name} has shape {np.shape(values)}, but the data have {self.n} rows: "
                "give one value for each row, or the name of a column",
                variable=name,
            )
        plain = values if hasattr(values, "dtype") else array_of(values)
        self._read[name] = read(name, plain)

    def lacks(self, name: str, error: type[LmmError], what: str) -> LmmError:
        """The error for a column that is not there."""
        if self.pandas and (name in self.index.names or name == "index"):
            return error(
                f"{what} {name!r} is the index of the data, not a column: make it one, "
                "data.reset_index()",
                variable=name,
            )
        return is_not(name, self.names, error, what)

    def column(self, name: str) -> Column:
        """The column of this name, read once.

        Raises
        ------
        DataError
            When the name stands for several columns, or its values are neither numbers nor labels.
        """
        column = self._read.get(name)
        if column is None:
            native = self._native[name]
            if self.pandas and native.ndim != 1:
                raise DataError(
                    f"there are several columns named {name!r}: rename or drop all but one",
                    variable=name,
                )
            column = self._read[name] = read(name, native, self._maker)
        return column

    def _maker(self, name: str) -> str:
        """What an arrow dictionary was: a "pandas" categorical, an "enum", or "" (unknown)."""
        native = self._native.to_native()
        if type(native).__module__.partition(".")[0] != "pyarrow":
            return ""
        field = native.schema.field(name)
        if any(key.startswith((_POLARS_ENUM, DECLARED)) for key in field.metadata or ()):
            return "enum"
        known = json.loads((native.schema.metadata or {}).get(b"pandas", b"{}"))
        categorical = any(
            own.get("field_name") == name and own.get("pandas_type") == "categorical"
            for own in known.get("columns", ())
        )
        return "pandas" if categorical else ""


DECLARED = b"lmmfast.declared"  # marks arrow dictionaries whose order was declared
_POLARS_ENUM = b"_PL_ENUM_VALUES"  # polars' mark of the same


def _common_index(data: Mapping[str, Any]) -> Any:
    """The index of the pandas series of a mapping, which must be the same: rows go by position.

    Raises
    ------
    DataError
        Naming two that have different ones.
    """
    found = {name: own for name, own in data.items() if hasattr(own, "iloc")}
    if not found:
        return None
    first, index = next((name, own.index) for name, own in found.items())
    for name, own in found.items():
        if own.index is not index and not own.index.equals(index):
            raise DataError(
                f"columns {first!r} and {name!r} have different indices: which values belong to a "
                "row? pandas.DataFrame(data) puts them together by label, .to_numpy() takes them "
                "in their order",
                variable=name,
            )
    return index


def _nobody(name: str) -> str:
    return ""


def read(name: str, values: Any, maker: Callable[[str], str] = _nobody) -> Column:
    """A column from an array, a pandas, polars or narwhals series or a pandas categorical.

    Levels are sorted, but pandas categories, enums and ordered arrow dictionaries have their own
    order. Other dictionaries (and polars' Categorical) are numbered as labels appear in
    the rows: that is no order. `maker` tells whether an arrow dictionary was a "pandas"
    categorical or an "enum" (polars, DuckDB), whose order it has then.

    Raises
    ------
    DataError
        When the values are neither numbers nor labels, or some are infinite.
    """
    if type(values) is np.ndarray:
        return _from_array(name, values)
    dtype = getattr(values, "dtype", None)
    if isinstance(dtype, np.dtype):
        if isinstance(values, np.ma.MaskedArray):
            return _from_masked(name, values)
        plain = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
        return _from_array(name, plain)
    if hasattr(values, "to_native") or not type(values).__module__.startswith("pandas"):
        return _from_narwhals(name, values, maker)
    return _from_pandas(name, values, dtype)


def _from_array(name: str, values: NDArray[Any]) -> Column:
    if values.ndim != 1:
        raise DataError(
            f"column {name!r} has shape {values.shape}: a column has one value in each row, give "
            "several columns several names",
            variable=name,
        )
    kind = values.dtype.kind
    if kind == "f":  # half precision overflows in sums and comparisons
        return _numbers(name, values if values.itemsize > 2 else values.astype(np.float64))
    if kind in "iu":
        return Column(name, values)
    if kind == "b":
        return _boolean(name, values, None)
    if kind in "OUST":
        return _from_objects(name, values)
    if kind in "mM":
        missing = np.isnat(values)
        codes, levels = factorize(values, missing if missing.any() else None)
        return Column(name, None, codes, levels, False, missing if missing.any() else None)
    raise _unusable(name, f"values of type {values.dtype}")


def _unusable(name: str, has: str, rows: Sequence[int] = (), hint: str = "") -> DataError:
    return DataError(
        f"column {name!r} has {has}; numbers or labels are needed{hint}", variable=name, rows=rows
    )


def _from_masked(name: str, values: np.ma.MaskedArray[Any, Any]) -> Column:
    """Masked entries are missing values."""
    data, mask = np.asarray(values.data), np.ma.getmaskarray(values)
    if not mask.any() or data.ndim != 1:
        return _from_array(name, data)
    kind = data.dtype.kind
    if kind == "f":
        return _numbers(name, np.where(mask, np.nan, data))
    if kind in "iu":
        return _with_gaps(name, np.where(mask, data.dtype.type(0), data), mask)
    if kind == "b":
        return _boolean(name, data, mask)
    if kind in "mM":
        return _from_array(name, np.where(mask, np.array("NaT", data.dtype), data))
    labels = np.array(data, dtype=object if kind in "OUST" else None)
    if labels.dtype == object:
        labels[mask] = None
    return _from_array(name, labels)


def _numbers(name: str, values: NDArray[Any]) -> Column:
    with np.errstate(all="ignore"):
        total = values.sum()  # one fast pass: an infinite or missing value shows in the sum
    if math.isfinite(total):
        return Column(name, values)
    infinite = np.isinf(values)
    if infinite.any():
        raise DataError(
            f"{name!r} has infinite values in {first_rows(infinite)}: remove or replace them",
            variable=name,
            rows=np.flatnonzero(infinite)[:10].tolist(),
        )
    missing = np.isnan(values)
    return Column(name, values, missing=missing if missing.any() else None)


def _boolean(name: str, values: NDArray[np.bool_], missing: Mask | None) -> Column:
    codes = values.astype(np.int32)
    if missing is not None:
        codes[missing] = -1
    return Column(name, None, codes, np.array([False, True]), False, missing)


def _from_objects(name: str, values: NDArray[Any]) -> Column:
    """Strings, or Python objects that are all numbers, all booleans, or labels."""
    raw, uniques = _distinct_objects(name, values)
    missing = raw < 0 if (raw < 0).any() else None
    kinds = {type(value) for value in uniques}
    if kinds and kinds <= {bool, np.bool_}:
        return _boolean(name, np.asarray(uniques, dtype=bool)[raw], missing)
    if kinds and all(issubclass(kind, (numbers.Real, decimal.Decimal)) for kind in kinds):
        if all(issubclass(kind, numbers.Integral) for kind in kinds):
            return _integers(name, [int(value) for value in uniques], raw, missing)
        return _numbers(name, np.append(np.asarray(uniques, dtype=np.float64), np.nan)[raw])
    if any(kind is not str for kind in kinds):
        _check_labels(name, values, uniques)
        if any(issubclass(kind, bytes) for kind in kinds):
            raw, uniques = _decoded(name, raw, uniques)
    levels = np.empty(len(uniques), dtype=object)
    levels[:] = list(uniques)
    return _sorted_factor(name, raw.astype(np.int32), levels, missing)


def _distinct_objects(name: str, values: Any) -> tuple[NDArray[Any], Any]:
    """Codes by order of appearance (-1: missing) and the distinct objects.

    Raises
    ------
    DataError
        When cells are lists, records, arrays or the like.
    """
    import pandas as pd

    try:
        return pd.factorize(values)
    except (TypeError, NotImplementedError, ValueError) as error:  # pyarrow's are of two kinds
        for row, cell in enumerate(values):
            if not isinstance(cell, Hashable) or not _is_hashable(cell):
                has = f"cells of type {type(cell).__name__} (row {row} is the first)"
                hint = ": take these out of the cells into columns of their own"
                raise _unusable(name, has, [row], hint) from error
        raise _unusable(name, f"values of type {getattr(values, 'dtype', 'object')}") from error


def _is_hashable(cell: Any) -> bool:
    try:
        hash(cell)
    except TypeError:  # a tuple of lists
        return False
    return True


def _check_labels(name: str, values: NDArray[Any], distinct: Any) -> None:
    """Objects must be labels: complex numbers are not, nor what is equal to nothing but itself."""
    for cell in distinct:
        kind = type(cell)
        if isinstance(cell, numbers.Complex) and not isinstance(cell, numbers.Real):
            what = f"complex numbers such as {cell}"
        elif "__eq__" not in _methods(kind) and not isinstance(cell, enum.Enum):
            what = f"objects of type {kind.__name__}"
        else:
            continue
        row = next(i for i, other in enumerate(values) if other is cell)
        raise _unusable(name, what, [row])


def _methods(kind: type) -> set[str]:
    """Names that a class defines, or inherits from others than object."""
    return {name for base in kind.__mro__[:-1] for name in vars(base)}


def _decoded(name: str, raw: NDArray[Any], distinct: Any) -> tuple[NDArray[Any], Any]:
    """Labels of bytes as text."""
    try:
        text = [cell.decode() if isinstance(cell, bytes) else cell for cell in distinct]
    except UnicodeDecodeError as error:
        hint = f": decode them, data[{name!r}].str.decode(encoding)"
        raise _unusable(name, "bytes that are not UTF-8", (), hint) from error
    codes, labels = factorize_objects(text)
    return np.append(codes, -1)[raw], labels


def _integers(name: str, distinct: list[int], raw: NDArray[Any], missing: Mask | None) -> Column:
    """Integers as numbers; as a factor where these would take several for the same."""
    low, high = min(distinct), max(distinct)
    for dtype in (np.int64, np.uint64) if missing is None else ():
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return Column(name, np.array(distinct, dtype=dtype)[raw])
    if all(is_exact(value) for value in distinct):
        return _numbers(name, np.array([*map(float, distinct), np.nan])[raw])
    levels = np.empty(len(distinct), dtype=object)
    levels[:] = distinct
    return _sorted_factor(name, raw.astype(np.int32), levels, missing)


def is_exact(value: int) -> bool:
    """Whether a float can be this integer."""
    try:
        return int(float(value)) == value
    except OverflowError:
        return False


def _with_gaps(name: str, values: NDArray[Any], missing: Mask) -> Column:
    """Integers of which some are missing: floats, unless these would not tell them apart."""
    floats = values.astype(np.float64)
    floats[missing] = np.nan
    present = values[~missing]
    if not len(present) or max(abs(int(present.min())), abs(int(present.max()))) <= 2**53:
        return _numbers(name, floats)
    distinct, back = np.unique(present, return_inverse=True)
    raw = np.full(len(values), -1, dtype=np.intp)
    raw[~missing] = back
    return _integers(name, distinct.tolist(), raw, missing)


def _sorted_factor(name: str, raw: Codes, levels: NDArray[Any], missing: Mask | None) -> Column:
    """A factor whose levels come in order of appearance, put in order of their labels."""
    try:
        order = sorted(range(len(levels)), key=levels.__getitem__)
    except TypeError:  # labels of several types
        order = sorted(range(len(levels)), key=lambda i: (str(type(levels[i])), str(levels[i])))
    rank = np.full(len(levels) + 1, -1, dtype=np.int32)  # the last entry answers code -1
    rank[order] = np.arange(len(levels), dtype=np.int32)
    return Column(name, None, rank[raw], levels[order], False, missing)


def _from_pandas(name: str, values: Any, dtype: Any) -> Column:
    """Categorical, string, nullable and arrow columns of pandas."""
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        codes = np.asarray(getattr(values, "array", values).codes)  # .cat.codes makes a Series
        levels = _without_intervals(np.asarray(dtype.categories).view())
        return _categorical(name, codes, levels, bool(dtype.ordered))
    if isinstance(dtype, pd.SparseDtype):
        return _from_array(name, np.asarray(values))
    if isinstance(dtype, pd.ArrowDtype) and dtype.kind == "O" and _is_dictionary(dtype):
        return _from_narwhals(name, values.array.__arrow_array__(), _nobody)
    if pd.api.types.is_bool_dtype(dtype):
        missing = np.asarray(values.isna())
        flags = values.to_numpy(dtype=bool, na_value=False)
        return _boolean(name, flags, missing if missing.any() else None)
    if pd.api.types.is_numeric_dtype(dtype):
        missing = np.asarray(values.isna())
        if not pd.api.types.is_integer_dtype(dtype):
            return _numbers(name, values.to_numpy(dtype=np.float64, na_value=np.nan))
        whole = np.uint64 if pd.api.types.is_unsigned_integer_dtype(dtype) else np.int64
        if missing.any():
            return _with_gaps(name, values.to_numpy(dtype=whole, na_value=0), missing)
        return Column(name, values.to_numpy(dtype=whole))
    raw, uniques = _distinct_objects(name, getattr(values, "array", values))
    levels = np.asarray(uniques, dtype=object)
    missing = raw < 0
    gaps = missing if missing.any() else None
    column = _sorted_factor(name, raw.astype(np.int32), levels, gaps)
    if isinstance(dtype, pd.IntervalDtype):
        assert column.levels is not None
        column.levels = _without_intervals(column.levels)
    return column


def _is_dictionary(dtype: Any) -> bool:
    return hasattr(dtype.pyarrow_dtype, "index_type")


def _without_intervals(levels: NDArray[Any]) -> NDArray[Any]:
    """Labels "(0, 1]" for the intervals of pandas.cut."""
    if not len(levels) or type(levels[0]).__name__ != "Interval":
        return levels
    labels = np.empty(len(levels), dtype=object)
    labels[:] = [str(level) for level in levels]
    return labels


def _categorical(name: str, codes: NDArray[Any], levels: NDArray[Any], ordered: bool) -> Column:
    codes = codes.astype(np.int32)
    missing = codes < 0
    gaps = missing if missing.any() else None
    column = Column(name, None, codes, levels, ordered, gaps, declared=levels)
    return column if column.missing is not None else column.used()


def _from_narwhals(name: str, values: Any, maker: Callable[[str], str]) -> Column:
    """Columns of polars and pyarrow tables."""
    import narwhals.stable.v2 as nw

    try:
        series = nw.from_native(values, series_only=True)
    except TypeError as error:
        raise _unusable(name, f"values of type {type(values).__name__}") from error
    dtype = series.dtype
    if isinstance(dtype, (nw.Categorical, nw.Enum)):
        return _dictionary(name, series, maker)
    if isinstance(dtype, (nw.List, nw.Array, nw.Struct)):
        kind = type(dtype).__name__.lower()
        hint = ": take these out into columns of their own"
        raise _unusable(name, f"{'an' if kind == 'array' else 'a'} {kind} in each row", (), hint)
    if dtype == nw.Boolean:
        missing = series.is_null().to_numpy()
        flags = series.fill_null(False).to_numpy().astype(bool)
        return _boolean(name, flags, missing if missing.any() else None)
    if dtype.is_numeric():
        if dtype in (nw.Int128, nw.UInt128):  # NumPy has none
            return _from_array(name, array_of(series.to_list()))
        if dtype.is_integer() and series.null_count() == 0:
            return Column(name, series.to_numpy())
        if dtype.is_integer():
            return _with_gaps(name, series.fill_null(0).to_numpy(), series.is_null().to_numpy())
        return _numbers(name, series.cast(nw.Float64).to_numpy().astype(np.float64))
    return _from_array(name, np.asarray(series.to_numpy()))


def _dictionary(name: str, series: Any, maker: Callable[[str], str]) -> Column:
    """A polars Categorical or Enum, or a pyarrow dictionary."""
    import narwhals.stable.v2 as nw

    raw, distinct = factorize_objects(series.to_list())
    arrow = getattr(series.to_native(), "type", None)
    made = "" if arrow is None else maker(name)
    declared = arrow is None and isinstance(series.dtype, nw.Enum)
    if not (declared or made or getattr(arrow, "ordered", False)):
        missing = raw < 0
        gaps = missing if missing.any() else None
        return _sorted_factor(name, raw.astype(np.int32), distinct, gaps)
    levels = np.array(series.cat.get_categories().to_list(), dtype=object)
    position = {level: i for i, level in enumerate(levels)}
    lookup = np.array([position[level] for level in distinct] + [-1], dtype=np.int32)
    # polars' Enum says "ordered" in arrow, but is a plain factor here, as from polars itself
    ordered = made != "enum" and bool(getattr(arrow, "ordered", False))
    return _categorical(name, lookup[raw], levels, ordered)


def factorize_objects(values: Sequence[Any]) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Codes by order of appearance (-1: missing) and the labels."""
    import pandas as pd

    array = np.empty(len(values), dtype=object)
    array[:] = values
    codes, labels = pd.factorize(array)
    return codes, labels


def factorize(values: NDArray[Any], missing: Mask | None = None) -> tuple[Codes, NDArray[Any]]:
    """Numbers (or dates) -> codes 0..m-1 in increasing order of the m distinct values.

    Integers in a narrow range, the usual labels of subjects and items, cost a few passes.
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
            shifted = values.astype(np.intp) - low
            seen = np.zeros(high - low + 1, dtype=bool)
            seen[shifted] = True
            rank = np.cumsum(seen, dtype=np.int32) - np.int32(1)
            return rank[shifted], np.flatnonzero(seen) + low
    levels, inverse = np.unique(values, return_inverse=True)
    return inverse.astype(np.int32), levels


class Levels:
    """Where each label stands among the training levels; built at the first prediction.

    New data may have read labels as numbers where the training data had text, or the other way
    round: 308 finds "308".
    """

    def __init__(self, levels: NDArray[Any]) -> None:
        labels = levels.tolist()
        self._position: dict[Any, int] = {str(label): i for i, label in enumerate(labels)}
        self._position.update((label, i) for i, label in enumerate(labels))

    def codes(self, factor: Column, unseen: int) -> Codes:
        """Training code of each row of a factor: -1 where missing, `unseen` for other labels."""
        assert factor.codes is not None and factor.levels is not None
        find = self._position.get
        lookup = [find(label, find(str(label), unseen)) for label in factor.levels.tolist()]
        return np.array([*lookup, -1], dtype=np.int32)[factor.codes]


def first_rows(mask: Mask, limit: int = 5) -> str:
    """Where a mask is true, in words: "rows 0, 7, 9 and 12 more" (positions, from 0)."""
    where = np.flatnonzero(mask)
    shown = ", ".join(str(row) for row in where[:limit])
    more = f" and {len(where) - limit} more" if len(where) > limit else ""
    return f"row{'s' if len(where) > 1 else ''} {shown}{more}"


def suggest(name: str, names: Iterable[Any], what: str = "columns") -> str:
    """ "; did you mean 'x'?" for a misspelt name, else "; the columns are ..."."""
    known = [str(known) for known in names]
    lower = {key.lower(): key for key in known}
    close = difflib.get_close_matches(name.lower(), list(lower), n=3, cutoff=0.6)
    if close:
        return "; did you mean " + " or ".join(repr(lower[key]) for key in close) + "?"
    listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"; the {what} are {listed}" if known else f"; there are no {what}"


def is_time(levels: NDArray[Any]) -> bool:
    """Whether these are dates, times, periods or durations."""
    if levels.dtype.kind in "mM":
        return True
    first = levels[0] if len(levels) and levels.dtype == object else None
    return any(hasattr(first, name) for name in ("isoformat", "total_seconds", "to_timestamp"))


def is_not(name: str, names: Iterable[Any], error: type[LmmError], what: str) -> LmmError:
    """The error for a column that is not there."""
    names = list(names)
    hint = _name_hint(name, names)
    if hint:
        return error(f"{what} {name!r} is not in the data: {hint}", variable=name)
    return error(f"{what} {name!r} is not in the data{suggest(name, names)}", variable=name)


def _name_hint(name: str, names: Sequence[Any]) -> str:
    """What to do about names that a formula cannot say, or says in backticks."""
    for known in names:
        if not isinstance(known, str) and str(known) == name:
            return (
                f"the names of its columns are not text ({known!r} is of type "
                f"{type(known).__name__}): data.columns = data.columns.astype(str)"
            )
    for known in names:
        if isinstance(known, str) and not known.replace(".", "_").isidentifier():
            words = re.split(r"\W+", known)
            if name in words or name == "".join(words) or name == ".".join(words):
                return f"names such as {known!r} are written in backticks: `{known}`"
    return ""


def array_of(value: Any) -> NDArray[Any]:
    """A list or scalar as an array; strings and None stay Python objects."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        array = np.empty(len(value), dtype=object)
        array[:] = value
    if array.dtype.kind in "US" or array.dtype == object:
        return np.asarray(value, dtype=object)
    return array
