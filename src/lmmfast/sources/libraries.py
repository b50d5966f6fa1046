"""How chunks are read through other libraries: pyarrow (Parquet, Arrow), DuckDB, Dask's partitions.

These libraries are imported only when an object of theirs, or a Parquet file, is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ..data.columns import DECLARED, is_not
from ..errors import DataError, FormulaError, LmmError
from .part import Roles
from .source import Chunk, Source

SPLIT = 8  # results that are united at a time
ONE_SHOT = (
    "a stream is read twice, but {} can be read only once: give a function that makes it anew, "
    "as in lmer(formula, lambda: read_chunks(path)), or a list of frames"
)


# ---- pyarrow ------------------------------------------------------------------------------------


def arrow_source(data: Any) -> Source | None:
    """Datasets and Parquet files of pyarrow; its tables are in memory."""
    kinds = {base.__name__ for base in type(data).__mro__}
    if "Dataset" in kinds:
        return dataset_source(data, "the dataset")
    if "ParquetFile" in kinds:
        return Source(
            "the Parquet file",
            tuple(data.schema_arrow.names),
            lambda columns, rows: data.iter_batches(batch_size=rows, columns=columns),
        )
    if "RecordBatchReader" in kinds or "Scanner" in kinds:
        raise DataError(ONE_SHOT.format(f"a {type(data).__name__}"))
    return None


def dataset_source(data: Any, name: str) -> Source:
    """A dataset of pyarrow, file by file; small batches are joined."""

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
        with reading(own):
            if fragment is not data:
                options["schema"] = data.schema
                for column in data.schema.names if columns is None else columns:
                    if not _has(fragment, column):
                        raise DataError(_who_has(data, column), variable=column)
            batches = iter(fragment.to_batches(**options))
        yield from _read(batches, own)


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


def _read(batches: Iterator[Any], name: str) -> Iterator[Any]:
    """Batches; errors of reading one name the file."""
    while True:
        with reading(name):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Errors of reading name the file."""
    try:
        yield
    except LmmError:
        raise
    except Exception as error:  # pyarrow's and duckdb's own, and OSError
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read {name}: {reason}") from error


def imported(module: str, extra: str, what: str) -> Any:
    """A module that reads `what`; ImportError that says what to install without it."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"reading {what} needs the package {package}: pip install 'lmmfast[{extra}]'"
        ) from error


def arrow_for(path: Any, kind: str) -> Any:
    """pyarrow's module of datasets, to read a file of a kind, "parquet" or "ipc"."""
    name = "a Parquet" if kind == "parquet" else "an Arrow"
    return imported("pyarrow.dataset", "parquet", f"{name} file {str(path)!r}")


# ---- DuckDB -------------------------------------------------------------------------------------


def duckdb_source(data: Any) -> Source | None:
    """A DuckDB relation: its query runs anew for each pass."""
    if not (hasattr(data, "project") and hasattr(data, "columns")):
        raise DataError(
            f"data is a {type(data).__name__} of DuckDB; give a relation, as "
            "duckdb.sql('select ...') or connection.table('name')"
        )

    def frames(columns: Sequence[str] | None, rows: int) -> Iterator[Any]:
        with reading("the DuckDB relation"):
            own = data.project(", ".join(map(_quoted, columns))) if columns else data
            fetch = getattr(own, "to_arrow_reader", None) or own.fetch_arrow_reader
            batches = fetch(rows)
        try:
            yield from map(_with_enums, _read(batches, "the DuckDB relation"))
        finally:
            batches.close()  # the connection is the user's

    imported("pyarrow", "duckdb", "a DuckDB relation")
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


# ---- Dask: partitions are reduced where they are, and results are united in a tree --------------


def dask_source(data: Any) -> Source:
    """The partitions of a Dask data frame, one after the other."""

    def frames(columns: Sequence[str] | None, rows: int) -> Iterator[Any]:
        own = data if columns is None else data[list(columns)]
        for part in own.to_delayed():
            yield part.compute()

    return Source("the Dask data frame", tuple(map(str, data.columns)), frames)


def partitions(formula: str, data: Any, roles: Roles) -> list[Any]:
    """The partitions, with the columns that are needed."""
    plan = roles.plan(formula)
    columns = list(map(str, data.columns))
    for name in sorted(plan.variables):
        if name not in columns:
            raise is_not(name, columns, FormulaError, "column")
    wanted = set(roles.names(plan))
    return list(data[[name for name in data.columns if name in wanted]].to_delayed())


def later(function: Callable[..., Any]) -> Any:
    """The function as one whose calls Dask runs, each anew."""
    from dask.delayed import delayed

    return delayed(function, pure=False)


def reduced(
    parts: Sequence[Any],
    one: Callable[[Any, Any, int], Any],
    given: Any,
    unite: Callable[[list[Any]], Any],
) -> Any:
    """A function of every partition and of what it is given, united eight at a time."""
    from dask.delayed import delayed

    reduce, combine = later(one), later(unite)
    shared = delayed(given, traverse=False)  # sent once to each worker
    level = [reduce(shared, part, number) for number, part in enumerate(parts)]
    while len(level) > 1:
        level = [combine(level[a : a + SPLIT]) for a in range(0, len(level), SPLIT)]
    return level[0].compute()


def chunks_of(part: Any, number: int, rows: int) -> Iterator[Chunk]:
    """A partition in chunks."""
    source = Source("the partition", None, lambda *_: iter([part]))
    return (replace(chunk, number=number, kind="partition") for chunk in source.chunks(rows=rows))
