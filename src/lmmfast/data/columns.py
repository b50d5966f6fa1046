"""The user's tables: columns by name, whatever kind of table they come from."""

from __future__ import annotations

import difflib
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, LmmError
from ..formula.cells import array_of, read
from ..formula.column import Codes, Column
from ..formula.tree import quoted
from .spelling import seen


class Table:
    """Columns by name out of a pandas, polars or pyarrow table or a mapping of arrays."""

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
        self._natives: dict[str, Any] = {}  # series that columns were read from

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
        if not hasattr(data, "iloc"):
            raise DataError(
                f"data is a {type(data).__name__}: give the data frame that it is of; which rows "
                "belong together is said by the formula, (1 | group)"
            )
        if data.ndim != 2:
            raise DataError("data is a Series; give a data frame: data.to_frame()")
        if getattr(
            data, "attrs", None
        ):  # pandas copies them, whatever they hold, with every column that is read
            import pandas as pd

            data = pd.DataFrame(data)  # the same columns, without attrs
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
            if isinstance(data, (list, tuple)) and data and isinstance(data[0], Mapping):
                raise DataError(
                    "data is a list of records: make a table of it, pandas.DataFrame(data)"
                ) from error
            if isinstance(data, (str, os.PathLike)):
                raise DataError(
                    f"data is a path, {str(data)!r}, where a table is needed: "
                    "pandas.read_csv(path), polars.read_parquet(path), ..."
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
        """A column beside those of the data, in front of one of the same name."""
        self._read[name] = self.beside(name, values)

    def beside(self, name: str, values: Any) -> Column:
        """Values, one for each row, as a column."""
        array = values if hasattr(values, "dtype") else array_of(values)
        if len(np.shape(array)) != 1 or len(array) != self.n:
            raise DataError(
                f"{name} has shape {np.shape(array)}, but the data have {self.n} rows: "
                "give one value for each row, or the name of a column",
                variable=name,
            )
        return read(name, array)

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
        """The column of this name, read once; an error where several have it."""
        column = self._read.get(name)
        if column is None:
            native = self._native[name]
            if self.pandas and native.ndim != 1:
                raise DataError(
                    f"there are several columns named {name!r}: rename or drop all but one",
                    variable=name,
                )
            self._natives[name] = native
            column = self._read[name] = read(name, native, self._maker)
        return column

    def lasting(self, name: str, column: Column, copy: bool = True) -> Column:
        """A column of this name whose numbers nobody else can change: the table's memory where that
        is large and cannot be written to, else a copy; without `copy` the column as it is.
        """
        if column.values is None or column.lasting:
            return column
        native = self._natives.get(name)
        if self.n < LARGE or native is None or not self._is_immutable() or _is_writeable(column):
            return column.copy() if copy else column
        values = np.asarray(_Borrowed(column.values, native))
        return Column(name, values, missing=column.missing, lasting=True)

    def _is_immutable(self) -> bool:
        """Whether writing to the user's table leaves columns alone that others have taken from it:
        arrow memory is never written to, pandas copies it first.
        """
        if not self.pandas:
            return not isinstance(self._native, dict)
        import pandas as pd

        if int(pd.__version__.partition(".")[0]) >= 3:
            return True
        return pd.options.mode.copy_on_write is True

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


LARGE = 100_000  # rows from which on columns are not copied


class _Borrowed:
    """Memory of an array, and the series that it is of: while that is held, nobody writes to it."""

    def __init__(self, array: NDArray[Any], series: Any) -> None:
        self.held = array, series
        address = array.__array_interface__["data"][0]
        self.__array_interface__ = array.__array_interface__ | {"data": (address, True)}


def _is_writeable(column: Column) -> bool:
    return column.values is not None and bool(column.values.flags.writeable)


DECLARED = b"lmmfast.declared"  # marks arrow dictionaries whose order was declared
_POLARS_ENUM = b"_PL_ENUM_VALUES"  # polars' mark of the same


def _common_index(data: Mapping[str, Any]) -> Any:
    """The index of the pandas series of a mapping, which must be the same: rows go by position."""
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
    unsplit = _unsplit(names)
    if unsplit:
        return error(f"{what} {name!r} is not in the data: {unsplit}", variable=name)
    hint = _name_hint(name, names)
    if hint:
        return error(f"{what} {name!r} is not in the data: {hint}", variable=name)
    return error(f"{what} {name!r} is not in the data{suggest(name, names)}", variable=name)


def series_of(name: str, values: NDArray[Any], backend: Any) -> Any:
    """Numbers as a series of narwhals for a library that has nulls: these for NaN."""
    import narwhals.stable.v2 as nw

    series = nw.new_series(name, values, nw.Float64, backend=backend)
    own = nw.col(name)
    return series.to_frame().select(nw.when(~own.is_nan()).then(own).alias(name))[name]


def column_in(table: Table, name: str) -> Column:
    """A column that new data must have."""
    if not table.has(name):
        raise table.lacks(name, DataError, "column")
    return table.column(name)


BOM = "\ufeff"
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}


def _unsplit(names: Sequence[Any]) -> str:
    """What happened where the only column has a whole line of names for a name: another separator
    than that of the file was told, or none."""
    if len(names) != 1 or not isinstance(names[0], str):
        return ""
    found = {sign: names[0].count(sign) for sign in SEPARATORS if sign in names[0]}
    if not found:
        return ""
    sign = max(found, key=found.__getitem__)
    decimal = ", decimal=','" if sign == ";" else ""
    comma = " (decimal=',' for numbers such as 3,14)" if decimal else ""
    shown = names[0] if len(names[0]) <= 80 else names[0][:77] + "..."
    return (
        f"they have one column, named {shown!r}: the fields of the file seem to be separated by "
        f"{SEPARATORS[sign]}, pandas.read_csv(path, sep={sign!r}{decimal}) reads them{comma}"
    )


def _alike(name: str, names: Sequence[Any]) -> str:
    """What to do about a name that is another one only by characters that nobody sees."""
    plain = seen(unicodedata.normalize("NFKC", name))
    texts = [own for own in names if isinstance(own, str)]
    known = next((own for own in texts if seen(unicodedata.normalize("NFKC", own)) == plain), "")
    if not known:
        return ""
    if known.startswith(BOM):
        return (
            f"the first one begins with a byte order mark, {known!a}: read the file with "
            "encoding='utf-8-sig', or rename the column"
        )
    if known.strip() == name.strip():
        return (
            f"{known!r} differs by blanks: strip them off, in pandas data.columns = "
            f"data.columns.str.strip(), or write {quoted(known)}"
        )
    return (
        f"the name of its column looks like it, and has other characters ({known!a}, not "
        f"{name!a}): rename it, unicodedata.normalize('NFKC', name) for instance"
    )


def _name_hint(name: str, names: Sequence[Any]) -> str:
    """What to do about names that a formula cannot say, or says in backticks."""
    for known in names:
        if not isinstance(known, str) and str(known) == name:
            return (
                f"the names of its columns are not text ({known!r} is of type "
                f"{type(known).__name__}): data.columns = data.columns.astype(str)"
            )
    alike = _alike(name, names)
    if alike:
        return alike
    for known in names:
        if isinstance(known, str) and not known.replace(".", "_").isidentifier():
            words = re.split(r"\W+", known)
            if name in words or name == "".join(words) or name == ".".join(words):
                return f"names such as {known!r} are written in backticks: {quoted(known)}"
    return ""
