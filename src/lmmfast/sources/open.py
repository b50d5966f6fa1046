"""Where chunks come from: files, datasets, relations, lists and makers of frames.

Each kind is recognized by the name of the module of its class; pyarrow, duckdb and dask are
imported only when an object of theirs, or a Parquet file, is given.
"""

from __future__ import annotations

import os
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import GeneratorType
from typing import Any

import numpy as np

from ..data.columns import DECLARED, Table, is_not
from ..errors import DataError, FormulaError, LmmError
from .paths import KINDS, Text, columns_of, ending, expand, kind_of, text_frames

__all__ = [
    "Chunk",
    "Source",
    "check_columns",
    "collected",
    "files_source",
    "is_dask",
    "located",
    "source_of",
    "stream_of",
]

ROWS = 200_000  # of a chunk at most
NUMBERS = 1 << 25  # of a chunk's design at most: wide designs have shorter chunks
PARQUET = (".parquet", ".pq")
TEXT = Text()
_ONE_SHOT = (
    "a stream is read twice, but {} can be read only once: give a function that makes it anew, "
    "as in lmer(formula, lambda: read_chunks(path)), or a list of frames"
)


@dataclass(frozen=True)
class Chunk:
    """Some rows of a source."""

    table: Table
    number: int  # of the chunk, from 0
    start: int  # position of its first row in the source

    @property
    def where(self) -> str:
        """For messages: which rows these are."""
        return f"chunk {self.number} (rows {self.start} to {self.start + self.table.n - 1})"


def _nobody(column: str) -> str:
    return ""


@dataclass(frozen=True)
class Source:
    """Frames that can be made again and again.

    Attributes
    ----------
    name : str
        For messages: "the Parquet files in 'trials'".
    names : tuple of str or None
        Columns, where they are known before anything is read.
    frames : callable
        (columns wanted or None, rows at most) -> iterator of frames of any size; a generator is
        closed when a pass ends, be it by an error.
    """

    name: str
    names: tuple[str, ...] | None
    frames: Callable[[Sequence[str] | None, int], Iterator[Any]]
    elsewhere: Callable[[str], str] = _nobody  # of a column that is not there: who has it, or ""

    def chunks(
        self, columns: Iterable[str] | None = None, rows: int = ROWS
    ) -> Generator[Chunk, None, None]:
        """All rows in chunks that are not empty.

        Parameters
        ----------
        columns : iterable of str, optional
            Those that are needed: where the source knows its columns, only these are read.
        rows : int
            Most rows of a chunk.
        """
        wanted = None
        if columns is not None and self.names is not None:
            needed = set(columns)
            wanted = [name for name in self.names if name in needed]
        number = start = 0
        with _closing(self.frames(wanted, rows)) as frames:
            for frame in frames:
                for piece in _pieces(frame, rows):
                    table = _table(piece, number)
                    if table.n:
                        yield Chunk(table, number, start)
                        number, start = number + 1, start + table.n

    def columns(self) -> tuple[str, ...]:
        """Names of the columns; where they are not known before, those of the first chunk.

        Raises
        ------
        DataError
            When there are no rows.
        """
        if self.names is not None:
            return self.names
        with closing(self.chunks()) as chunks:
            first = next(chunks, None)
        if first is None:
            raise DataError("the data have no rows")
        return tuple(map(str, first.table.names))

    def check(self, names: Iterable[str], roles: Mapping[str, str | None]) -> None:
        """Columns are there, where the source knows its columns before it is read.

        Parameters
        ----------
        names : iterable of str
            Variables of a formula.
        roles : mapping
            The columns of weights and of the offset.

        Raises
        ------
        FormulaError, DataError
            For one that is not there; all columns are listed, or a similar name.
        """
        if self.names is None:
            return
        wanted: list[tuple[str, str, type[LmmError]]]
        wanted = [(name, "column", FormulaError) for name in names]
        wanted += [
            (name, f"the column for {role}", DataError)
            for role, name in roles.items()
            if name is not None
        ]
        for name, what, error in wanted:
            if name not in self.names:
                hint = self.elsewhere(name)
                if hint:
                    raise DataError(hint, variable=name)
                raise is_not(name, self.names, error, what)


@contextmanager
def _closing(frames: Iterator[Any]) -> Iterator[Iterator[Any]]:
    """Generators are closed at the end: files and connections are free at once."""
    try:
        yield frames
    finally:
        if isinstance(frames, GeneratorType):
            frames.close()


def check_columns(source: Source, plan: Any, roles: Any) -> None:
    """A model's columns are there, as far as the source knows before it is read.

    Raises
    ------
    FormulaError, DataError
    """
    from ..formula.vocabulary import is_known

    names = [n for n in plan.names if n in plan.variables or not is_known(n)]
    source.check(names, {"weights": roles.weights, "offset": roles.offset})


def rows_for(width: int) -> int:
    """Rows of a chunk whose design has this many columns."""
    return max(1000, min(ROWS, NUMBERS // max(width, 1)))


@contextmanager
def located(where: str, start: int = 0) -> Iterator[None]:
    """Errors about a model or its data say in which chunk they are found.

    Parameters
    ----------
    where : str
    start : int
        Position in the source of the chunk's first row.
    """
    try:
        yield
    except LmmError as error:
        counted = f" (rows are counted from the chunk's first, {start})"
        own = type(error)(
            f"{where}: {error}{counted if error.rows and start else ''}",
            variable=error.variable,
            term=error.term,
            rows=[start + row for row in error.rows],
        )
        raise own from error


def _table(piece: Any, number: int) -> Table:
    if isinstance(piece, Table):
        return piece
    with located(f"chunk {number}"):
        return Table(piece)


def _pieces(frame: Any, rows: int) -> Iterator[Any]:
    """A frame cut into pieces of so many rows; small ones are left as they are."""
    if _top(frame) == "pyarrow" and type(frame).__name__ == "RecordBatch":
        import pyarrow

        frame = pyarrow.Table.from_batches([frame])
    n = _length(frame)
    if n is None or n <= rows:
        yield frame
        return
    for start in range(0, n, rows):
        yield _cut(frame, start, min(start + rows, n))


def _length(frame: Any) -> int | None:
    """Rows of a frame; None for what `Table` shall judge."""
    if isinstance(frame, Mapping):
        return max((len(v) for v in frame.values() if np.ndim(v) > 0), default=1)
    shape = getattr(frame, "shape", None)
    return int(shape[0]) if isinstance(shape, tuple) and len(shape) in (1, 2) else None


def _cut(frame: Any, start: int, stop: int) -> Any:
    if isinstance(frame, Mapping):
        return {k: v[start:stop] if np.ndim(v) > 0 else v for k, v in frame.items()}
    if hasattr(frame, "iloc"):
        return frame.iloc[start:stop]
    if _top(frame) == "pyarrow":
        return frame.slice(start, stop - start)
    return frame[start:stop]


# ---- what is given ------------------------------------------------------------------------------


def _top(data: Any) -> str:
    """The package of the class of an object."""
    return type(data).__module__.partition(".")[0].lstrip("_")


def is_dask(data: Any) -> bool:
    """Whether this is a Dask data frame."""
    frame = hasattr(data, "to_delayed") and hasattr(data, "columns")
    if _top(data) != "dask" or not frame:
        return False
    return isinstance(data.ndim, int) and data.ndim == 2  # a Delayed object has anything


def stream_of(data: Any) -> Source | None:
    """The source that `data` is; None for tables in memory, and for what nobody can read.

    Raises
    ------
    DataError
        For what can be read only once, and for files that cannot be opened.
    """
    top = _top(data)
    _refuse_odd(data, top)
    if top in ("pandas", "polars", "numpy", "narwhals") or isinstance(data, Mapping):
        return None
    if isinstance(data, Source):
        return data
    if isinstance(data, (str, os.PathLike)):
        return files_source(data)
    if top == "pyarrow":
        return _arrow(data)
    if top == "duckdb":
        return _relation(data)
    if is_dask(data):
        return _partitions(data)
    if isinstance(data, Table) or hasattr(data, "__narwhals_dataframe__"):
        return None
    if isinstance(data, (list, tuple)):
        return _listed(data)
    if hasattr(data, "__next__"):
        raise DataError(_ONE_SHOT.format(f"a {type(data).__name__}"))
    if hasattr(data, "__dataframe__") or hasattr(data, "__arrow_c_stream__"):
        return None
    if callable(data):
        return Source("the function", None, _maker(data))
    if hasattr(data, "__iter__"):
        return Source(f"the {type(data).__name__}", None, lambda *_: iter(data))
    return None


def source_of(data: Any) -> Source:
    """Anything with rows as a source: a table in memory is a single frame.

    Raises
    ------
    DataError
        For what cannot be read.
    """
    data = collected(data)
    source = stream_of(data)
    if source is not None:
        return source
    table = data if isinstance(data, Table) else Table(data)  # refuses what is not a table
    names = tuple(map(str, table.names))
    return Source("the data", names, lambda *_: iter([data]))


def collected(data: Any) -> Any:
    """A lazy frame of polars as the frame that it stands for; anything else as it is.

    Raises
    ------
    DataError
        When its query fails.
    """
    if type(data).__name__ != "LazyFrame" or _top(data) != "polars":
        return data
    with _reading("the polars LazyFrame"):
        return data.collect()


def _refuse_odd(data: Any, top: str) -> None:
    """What looks like data, but is not."""
    kind = type(data).__name__
    odd = ""
    if isinstance(data, type) and data.__module__.partition(".")[0] in _LIBRARIES:
        odd = f"data is the class {data.__name__}: give a table, not its class"
    elif isinstance(data, (bytes, bytearray, memoryview)):
        odd = f"data are {kind}: give the path of a file as text, or a table"
    elif isinstance(data, (set, frozenset)):
        odd = f"data are a {kind}, which has no order: give a list of frames or of files"
    elif top == "dask" and not is_dask(data):
        odd = f"data is a {kind} of Dask: give a Dask data frame, as dask.dataframe.read_parquet()"
    if odd:
        raise DataError(odd)


_LIBRARIES = ("builtins", "pandas", "polars", "pyarrow", "numpy", "dask", "duckdb")


def _maker(maker: Callable[[], Any]) -> Callable[..., Iterator[Any]]:
    """Frames of a function, which must make them anew at each call."""
    last: list[Any] = []

    def frames(*_: Any) -> Iterator[Any]:
        made = _made(maker)
        if last and made is last[0]:
            raise DataError(
                "the function given as data returned the same iterator again, which is exhausted: "
                "a stream is read twice, so the function must make a new one at each call, as in "
                "lambda: read_chunks(path)"
            )
        last[:] = [made]
        return made

    return frames


def _made(maker: Callable[[], Any]) -> Iterator[Any]:
    made = maker()
    if isinstance(made, Mapping) or not hasattr(made, "__iter__") or hasattr(made, "columns"):
        raise DataError(
            f"the function given as data returns a {type(made).__name__}; it must return an "
            "iterator of frames (pandas, polars, pyarrow or dicts of arrays), anew at each call"
        )
    return iter(made)


def _listed(data: Sequence[Any]) -> Source:
    if not len(data):
        raise DataError("the data are an empty list: give frames, or files")
    if all(isinstance(one, (str, os.PathLike)) for one in data):
        return files_source(data)
    if all(isinstance(one, Mapping) for one in data) and not any(
        np.ndim(value) for value in data[0].values()
    ):
        raise DataError(
            "the data are a list of records; a list must hold frames (chunks of rows): make a "
            "table of it, pandas.DataFrame(data)"
        )
    return Source("the list of frames", None, lambda *_: iter(data))


# ---- pyarrow and Parquet ------------------------------------------------------------------------


def files_source(
    given: Any, text: Text = TEXT, numeric: Collection[str] = (), most: int = ROWS
) -> Source:
    """Files by path, pattern or list: Parquet, Arrow or text; or a directory of Parquet files.

    Parameters
    ----------
    given : path, or list of paths
    text : Text
        How text files are written.
    numeric : collection of str
        Columns in which numbers are expected.
    most : int
        Rows of a text file that are read at a time.
    """
    paths = expand(given)
    name = ", ".join(repr(str(path)) for path in paths[:3]) + ", ..." * (len(paths) > 3)
    folders = [path for path in paths if path.is_dir()]
    if folders and len(paths) > 1:
        raise DataError(f"give one directory, or a list of files, not {name}")
    if folders:
        return _folder(folders[0], name)
    kind = kind_of(paths)
    if kind == "text":
        return _texts(paths, name, text, numeric, most)
    dataset = _import("pyarrow.dataset", "parquet", f"Parquet file {str(paths[0])!r}")
    with _reading(name):
        opened = dataset.dataset([str(path) for path in paths], format=kind)
    return _dataset(opened, name)


def _folder(folder: Path, name: str) -> Source:
    dataset = _import("pyarrow.dataset", "parquet", f"directory of Parquet files {name}")
    files = _files_in(folder)
    if not files:
        others = [path for path in sorted(folder.iterdir()) if ending(path) in KINDS]
        hint = "".join(
            f"; its others are read by a pattern, {str(folder / ('*' + ''.join(one.suffixes)))!r}"
            for one in others[:1]
        )
        raise DataError(f"the directory {name} has no Parquet files (.parquet, .pq){hint}")
    with _reading(name):
        options = {"partitioning": "hive", "partition_base_dir": str(folder)}
        return _dataset(dataset.dataset(files, format="parquet", **options), name)


def _texts(paths: list[Path], name: str, text: Text, numeric: Collection[str], most: int) -> Source:
    """Text files, read anew for each pass."""

    def frames(_: Sequence[str] | None, rows: int) -> Iterator[Any]:
        return text_frames(paths, text, numeric, min(rows, most))

    return Source(name, columns_of(paths[0], text), frames)


def _files_in(folder: Path) -> list[str]:
    """Its Parquet files and those of its directories, but hidden ones."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in PARQUET)
    return sorted(
        str(path)
        for path in found
        if path.is_file() and not any(p[0] in "._" for p in path.relative_to(folder).parts)
    )


def _arrow(data: Any) -> Source | None:
    """Datasets and Parquet files of pyarrow; its tables are in memory."""
    kinds = {base.__name__ for base in type(data).__mro__}
    if "Dataset" in kinds:
        return _dataset(data, "the dataset")
    if "ParquetFile" in kinds:
        return Source(
            "the Parquet file",
            tuple(data.schema_arrow.names),
            lambda columns, rows: data.iter_batches(batch_size=rows, columns=columns),
        )
    if "RecordBatchReader" in kinds or "Scanner" in kinds:
        raise DataError(_ONE_SHOT.format(f"a {type(data).__name__}"))
    return None


def _dataset(data: Any, name: str) -> Source:
    def frames(columns: Sequence[str] | None, rows: int) -> Iterator[Any]:
        waiting: list[Any] = []
        for batch in _batches(data, name, columns, rows):
            if waiting and sum(map(len, waiting)) + len(batch) > rows:
                yield _joined(waiting)
                waiting = []
            waiting.append(batch)
        if waiting:
            yield _joined(waiting)

    return Source(name, tuple(data.schema.names), frames, lambda column: _who_has(data, column))


def _batches(data: Any, name: str, columns: Sequence[str] | None, rows: int) -> Iterator[Any]:
    for fragment in _fragments(data):
        options: dict[str, Any] = {"columns": columns, "batch_size": rows}
        options |= {"batch_readahead": 1, "fragment_readahead": 1}
        own = repr(fragment.path) if hasattr(fragment, "path") else name
        with _reading(own):
            if fragment is not data:
                options["schema"] = data.schema
                for column in data.schema.names if columns is None else columns:
                    if not _has(fragment, column):
                        raise DataError(_who_has(data, column), variable=column)
            batches = iter(fragment.to_batches(**options))
        while True:
            with _reading(own):
                batch = next(batches, None)
            if batch is None:
                break
            yield batch


def _fragments(data: Any) -> list[Any]:
    """The files of a dataset; itself where it is filtered, or is no dataset of files."""
    if type(data).__name__ != "FileSystemDataset":
        return [data]
    try:
        return list(data.get_fragments())
    except ValueError:  # of one that is filtered
        return [data]


def _has(fragment: Any, column: str) -> bool:
    """Whether a file has a column, or its directory's name says its value."""
    import pyarrow.dataset

    if column in fragment.physical_schema.names:
        return True
    return column in pyarrow.dataset.get_partition_keys(fragment.partition_expression)


def _who_has(data: Any, column: str) -> str:
    """The message for a column that only some files of a dataset have; "" where none has it."""
    fragments = [fragment for fragment in _fragments(data) if hasattr(fragment, "path")]
    lacking = next((f.path for f in fragments if not _has(f, column)), None)
    having = next((f.path for f in fragments if _has(f, column)), None)
    if lacking is None or having is None:
        return ""
    return (
        f"the Parquet file {lacking!r} has no column {column!r}, which {having!r} has: its rows "
        "would all be missing; write the column, or leave the file out"
    )


def _joined(batches: list[Any]) -> Any:
    """Batches as one table: many small files or row groups are not many small chunks."""
    import pyarrow

    return pyarrow.Table.from_batches(batches).unify_dictionaries().combine_chunks()


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Errors of reading name the file."""
    try:
        yield
    except LmmError:
        raise
    except Exception as error:  # pyarrow's and duckdb's own, and OSError
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read {name}: {reason}") from error


def _import(module: str, extra: str, what: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise DataError(
            f"reading a {what} needs {package}, which is not installed: "
            f"pip install 'lmmfast[{extra}]'"
        ) from error


# ---- DuckDB and Dask ----------------------------------------------------------------------------


def _relation(data: Any) -> Source | None:
    """A DuckDB relation: its query runs anew for each pass."""
    if not (hasattr(data, "project") and hasattr(data, "columns")):
        raise DataError(
            f"data is a {type(data).__name__} of DuckDB; give a relation, as "
            "duckdb.sql('select ...') or connection.table('name')"
        )

    def frames(columns: Sequence[str] | None, rows: int) -> Iterator[Any]:
        with _reading("the DuckDB relation"):
            own = data.project(", ".join(map(_quoted, columns))) if columns else data
            fetch = getattr(own, "to_arrow_reader", None) or own.fetch_arrow_reader
            batches = fetch(rows)
        try:
            while True:
                with _reading("the DuckDB relation"):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield _with_enums(batch)
        finally:
            batches.close()  # the connection is the user's

    _import("pyarrow", "duckdb", "DuckDB relation")
    return Source("the DuckDB relation", tuple(data.columns), frames)


def _with_enums(batch: Any) -> Any:
    """Dictionaries of DuckDB are its ENUMs, whose order is declared."""
    import pyarrow

    fields = [
        field.with_metadata({DECLARED: b"enum"})
        if pyarrow.types.is_dictionary(field.type)
        else field
        for field in batch.schema
    ]
    return pyarrow.RecordBatch.from_arrays(batch.columns, schema=pyarrow.schema(fields))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _partitions(data: Any) -> Source:
    """The partitions of a Dask data frame, one after the other."""

    def frames(columns: Sequence[str] | None, rows: int) -> Iterator[Any]:
        own = data if columns is None else data[list(columns)]
        for part in own.to_delayed():
            yield part.compute()

    return Source("the Dask data frame", tuple(map(str, data.columns)), frames)
