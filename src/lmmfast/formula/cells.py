"""Arrays and series of whatever library as columns: which cells are numbers, labels, missing.

The order of levels is made here: that of a categorical, else increasing.
"""

from __future__ import annotations

import decimal
import enum
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .column import PIECE, Column, Mask, factorize, first_rows, looked_up, objects, occurring

FEW = 1_000  # labels in a piece of a column that are found by their names in the whole
ROWS = 16  # texts of new data that are taken one by one


def _nobody(name: str) -> str:
    return ""


def read(name: str, values: Any, maker: Callable[[str], str] = _nobody) -> Column:
    """A column from an array, a pandas, polars or narwhals series or a pandas categorical.

    Levels are sorted, but pandas categories, enums and ordered arrow dictionaries have their own
    order. Other dictionaries (and polars' Categorical) are numbered as labels appear in
    the rows: that is no order. `maker` tells whether an arrow dictionary was a "pandas"
    categorical or an "enum" (polars, DuckDB), whose order it has then. Values that are neither
    numbers nor labels, or are infinite, are a DataError.
    """
    column = _read(name, values, maker)
    if column.values is None or column.values.flags.aligned:
        return column
    # fields of records, and what came in packets from other processes: the core reads no such
    return replace(column, values=column.values.copy())


def _read(name: str, values: Any, maker: Callable[[str], str]) -> Column:
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
        return Column.factor(name, *factorize(values, missing if missing.any() else None))
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
    return Column.factor(name, codes, np.array([False, True]))


def _from_objects(name: str, values: NDArray[Any]) -> Column:
    """Strings, or Python objects that are all numbers, all booleans, or labels."""
    raw, uniques = _distinct_objects(name, values)
    kinds = set(map(type, uniques))
    if kinds and kinds <= {bool, np.bool_}:
        return _boolean(name, np.asarray(uniques, dtype=bool)[raw], raw < 0)
    if kinds and all(issubclass(kind, (numbers.Real, decimal.Decimal)) for kind in kinds):
        if all(issubclass(kind, numbers.Integral) for kind in kinds):
            return _integers(name, [int(value) for value in uniques], raw)
        return _numbers(name, np.append(np.asarray(uniques, dtype=np.float64), np.nan)[raw])
    if any(kind is not str for kind in kinds):
        _check_labels(name, values, uniques)
        if any(issubclass(kind, bytes) for kind in kinds):
            raw, uniques = _decoded(name, raw, uniques)
    return _sorted_factor(name, raw, objects(list(uniques)))


def _distinct_objects(name: str, values: Any) -> tuple[NDArray[Any], Any]:
    """Codes by order of appearance (-1: missing) and the distinct objects, which are no lists."""
    if len(values) == 1 and type(values) is np.ndarray and type(values[0]) is str:
        return np.zeros(1, dtype=np.intp), values  # pandas takes 0.1 ms
    import pandas as pd

    try:
        return pd.factorize(values)
    except (TypeError, NotImplementedError, ValueError) as error:  # pyarrow's are of two kinds
        for row, cell in enumerate(values):
            if not _is_hashable(cell):
                has = f"cells of type {type(cell).__name__} (row {row} is the first)"
                hint = ": take these out of the cells into columns of their own"
                raise _unusable(name, has, [row], hint) from error
        raise _unusable(name, f"values of type {getattr(values, 'dtype', 'object')}") from error


def _is_hashable(cell: Any) -> bool:
    try:
        hash(cell)
    except TypeError:  # a list, or a tuple of lists
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


def _integers(name: str, distinct: list[int], raw: NDArray[Any]) -> Column:
    """Integers as numbers; as a factor where these would take several for the same."""
    low, high = min(distinct), max(distinct)
    for dtype in () if (raw < 0).any() else (np.int64, np.uint64):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return Column(name, np.array(distinct, dtype=dtype)[raw])
    if all(is_exact(value) for value in distinct):
        return _numbers(name, np.array([*map(float, distinct), np.nan])[raw])
    return _sorted_factor(name, raw, objects(distinct))


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
    return _integers(name, distinct.tolist(), raw)


def _sorted_factor(name: str, raw: NDArray[Any], levels: NDArray[Any]) -> Column:
    """A factor whose levels come in order of appearance, put in order of their labels."""
    try:
        order = sorted(range(len(levels)), key=levels.__getitem__)
    except TypeError:  # labels of several types
        order = sorted(range(len(levels)), key=lambda i: (str(type(levels[i])), str(levels[i])))
    rank = np.full(len(levels) + 1, -1, dtype=np.int32)  # the last entry answers code -1
    rank[order] = np.arange(len(levels), dtype=np.int32)
    into = raw if raw.dtype == np.int32 and raw.flags.writeable else None  # nobody else has it
    return Column.factor(name, looked_up(rank, raw, into=into), levels[order])


def _from_pandas(name: str, values: Any, dtype: Any) -> Column:
    """Categorical, string, nullable and arrow columns of pandas."""
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        codes = np.asarray(getattr(values, "array", values).codes)  # .cat.codes makes a Series
        levels = _without_intervals(np.asarray(dtype.categories).view())
        return _categorical(name, codes, levels, bool(dtype.ordered))
    if isinstance(dtype, pd.StringDtype) and dtype.storage.startswith("pyarrow"):
        return _from_arrow_text(name, getattr(values, "array", values).__arrow_array__())
    if isinstance(dtype, pd.SparseDtype):
        return _from_array(name, np.asarray(values))
    if hasattr(getattr(dtype, "pyarrow_dtype", None), "index_type") and dtype.kind == "O":
        return _from_narwhals(name, values.array.__arrow_array__(), _nobody)
    if pd.api.types.is_bool_dtype(dtype):
        flags = values.to_numpy(dtype=bool, na_value=False)
        return _boolean(name, flags, np.asarray(values.isna()))
    if pd.api.types.is_numeric_dtype(dtype):
        missing = np.asarray(values.isna())
        if not pd.api.types.is_integer_dtype(dtype):
            return _numbers(name, values.to_numpy(dtype=np.float64, na_value=np.nan))
        whole = np.uint64 if pd.api.types.is_unsigned_integer_dtype(dtype) else np.int64
        if missing.any():
            return _with_gaps(name, values.to_numpy(dtype=whole, na_value=0), missing)
        return Column(name, values.to_numpy(dtype=whole))
    array = getattr(values, "array", values)
    raw, uniques = _distinct_objects(name, array)
    column = _sorted_factor(name, raw, np.asarray(uniques, dtype=object))
    if isinstance(dtype, pd.IntervalDtype):
        column.levels = _without_intervals(column.levels)
    return column


def _without_intervals(levels: NDArray[Any]) -> NDArray[Any]:
    """Labels "(0, 1]" for the intervals of pandas.cut."""
    if not len(levels) or type(levels[0]).__name__ != "Interval":
        return levels
    return objects([str(level) for level in levels])


def _categorical(name: str, codes: NDArray[Any], levels: NDArray[Any], ordered: bool) -> Column:
    codes = codes.astype(np.int32)  # never the user's
    column = Column.factor(name, codes, levels, ordered=ordered, declared=levels)
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
        flags = series.fill_null(False).to_numpy().astype(bool)
        return _boolean(name, flags, series.is_null().to_numpy())
    if dtype.is_numeric():
        if dtype in (nw.Int128, nw.UInt128):  # NumPy has none
            return _from_array(name, array_of(series.to_list()))
        if dtype.is_integer() and series.null_count() == 0:
            return Column(name, series.to_numpy())
        if dtype.is_integer():
            return _with_gaps(name, series.fill_null(0).to_numpy(), series.is_null().to_numpy())
        if dtype not in (nw.Float32, nw.Float64):
            series = series.cast(nw.Float64)
        return _numbers(name, series.to_numpy())
    if isinstance(dtype, nw.String) and (text := _arrow(series)) is not None:
        return _from_arrow_text(name, text)
    return _from_array(name, np.asarray(series.to_numpy()))


def _arrow(series: Any) -> Any:
    """The arrow array of a narwhals series; None where pyarrow is not installed."""
    try:
        return series.to_arrow()
    except ImportError:
        return None


def _from_arrow_text(name: str, text: Any) -> Column:
    """Arrow's strings: hashed there, and never made objects."""
    raw, labels = _coded_in_pieces(text)
    return _sorted_factor(name, raw, labels)


def _coded_in_pieces(text: Any) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Codes (-1: missing) and labels of arrow's strings; piece by piece where labels are few."""
    known: dict[str, int] = {}
    if len(text) <= ROWS:  # a dictionary takes longer to make
        place = [
            -1 if label is None else known.setdefault(label, len(known))
            for label in text.to_pylist()
        ]
        return np.array(place, dtype=np.int32), objects(list(known))
    codes = np.empty(len(text), dtype=np.int32)
    for a in range(0, len(text), PIECE):
        part = text.slice(a, PIECE)
        part = part.combine_chunks() if hasattr(part, "chunks") else part
        own, labels = _coded(part.dictionary_encode())
        if len(labels) > FEW:
            return _coded(text.dictionary_encode())
        place = [known.setdefault(label, len(known)) for label in labels.tolist()]
        codes[a : a + PIECE] = np.array([*place, -1], dtype=np.int32)[own]
    return codes, objects(list(known))


def _coded(encoded: Any) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Codes (-1: missing) and labels of an arrow dictionary, in chunks or not."""
    if hasattr(encoded, "chunks"):
        encoded = encoded.unify_dictionaries()
    chunks = getattr(encoded, "chunks", [encoded])
    codes = np.empty(len(encoded), dtype=np.int32)
    at = 0
    for chunk in chunks:
        own = chunk.indices
        if own.null_count:
            own = own.cast("int64").fill_null(-1)
        codes[at : at + len(chunk)] = own.to_numpy(zero_copy_only=False)
        at += len(chunk)
    return codes, objects(chunks[0].dictionary.to_pylist() if chunks else [])


def _dictionary(name: str, series: Any, maker: Callable[[str], str]) -> Column:
    """A polars Categorical or Enum, or a pyarrow dictionary."""
    import narwhals.stable.v2 as nw

    raw, distinct = _labels_used(series)
    arrow = getattr(series.to_native(), "type", None)
    made = "" if arrow is None else maker(name)
    declared = arrow is None and isinstance(series.dtype, nw.Enum)
    if not (declared or made or getattr(arrow, "ordered", False)):
        return _sorted_factor(name, raw, distinct)
    levels = np.array(series.cat.get_categories().to_list(), dtype=object)
    position = {level: i for i, level in enumerate(levels)}
    lookup = np.array([position[level] for level in distinct] + [-1], dtype=np.int32)
    # polars' Enum says "ordered" in arrow, but is a plain factor here, as from polars itself
    ordered = made != "enum" and bool(getattr(arrow, "ordered", False))
    return _categorical(name, looked_up(lookup, raw), levels, ordered)


def _labels_used(series: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Codes (-1: missing) and the labels that occur, each once, of a narwhals series of these."""
    arrow = _arrow(series)
    if arrow is None:
        return factorize_objects(series.to_list())
    raw, labels = _coded(arrow if hasattr(arrow.type, "index_type") else arrow.dictionary_encode())
    present = occurring(raw, len(labels))
    codes, distinct = factorize_objects(labels[present])
    table = np.full(len(labels) + 1, -1, dtype=np.intp)
    table[:-1][present] = codes
    return looked_up(table, raw), distinct


def factorize_objects(
    values: Sequence[Any] | NDArray[Any],
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Codes by order of appearance (-1: missing) and the labels."""
    import pandas as pd

    codes, labels = pd.factorize(objects(values))
    return codes, labels


def array_of(value: Any) -> NDArray[Any]:
    """A list or scalar as an array; strings and None stay Python objects."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        array = objects(value)
    if array.dtype.kind in "US" or array.dtype == object:
        return np.asarray(value, dtype=object)
    return array


def floats_of(values: Any, name: str) -> NDArray[Any]:
    """The values as floats, maybe the user's own array; masked ones are missing (NaN).

    Not numbers, or complex, whose imaginary part would be lost: a DataError.
    """
    if type(values) is np.ndarray and values.dtype == np.float64:
        return values
    if np.iscomplexobj(values):
        message = f"{name} is complex; a linear mixed model needs real numbers"
        raise DataError(message, variable=name)
    try:
        if isinstance(values, np.ma.MaskedArray):
            return np.ma.filled(values.astype(np.float64), np.nan)
        array = np.asarray(values)
        if array.dtype.kind in "OUS" and any(isinstance(cell, str) for cell in array.flat):
            raise ValueError("these are text")
        return np.asarray(array, np.float64)
    except (TypeError, ValueError) as error:
        message = f"{name} must be numbers, one for each row: {error}"
        raise DataError(message, variable=name) from error
