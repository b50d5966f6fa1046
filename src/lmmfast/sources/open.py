"""Data -> Source: files, datasets, relations, lists and makers of frames.

Each kind is recognized by the name of the module of its class. Text files are read in paths.py;
Parquet and Arrow files are opened here as datasets of pyarrow, which libraries.py reads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.columns import Table
from ..errors import DataError
from .libraries import (
    ONE_SHOT,
    arrow_for,
    arrow_source,
    dask_source,
    dataset_source,
    duckdb_source,
    imported,
    reading,
)
from .paths import KINDS, Text, columns_of, ending, expand, kind_of, text_frames
from .source import ROWS, Source, library_of

TEXT = Text()


def is_dask(data: Any) -> bool:
    """Whether this is a Dask data frame."""
    frame = hasattr(data, "to_delayed") and hasattr(data, "columns")
    if library_of(data) != "dask" or not frame:
        return False
    return isinstance(data.ndim, int) and data.ndim == 2  # a Delayed object has anything


def stream_of(data: Any) -> Source | None:
    """The source that `data` is; None for tables in memory, and for what nobody can read.

    What can be read only once is refused.
    """
    top = library_of(data)
    _refuse_odd(data, top)
    if top in ("pandas", "polars", "numpy", "narwhals") or isinstance(data, Mapping):
        return None
    if isinstance(data, Source):
        return data
    if isinstance(data, (str, os.PathLike)):
        return files_source(data)
    if top == "pyarrow":
        return arrow_source(data)
    if top == "duckdb":
        return duckdb_source(data)
    if is_dask(data):
        return dask_source(data)
    if isinstance(data, Table) or hasattr(data, "__narwhals_dataframe__"):
        return None
    if isinstance(data, (list, tuple)):
        return _listed(data)
    if hasattr(data, "__next__"):
        raise DataError(ONE_SHOT.format(f"a {type(data).__name__}"))
    if hasattr(data, "__dataframe__") or hasattr(data, "__arrow_c_stream__"):
        return None
    if callable(data):
        return Source("the function", None, _maker(data))
    if hasattr(data, "__iter__"):
        return Source(f"the {type(data).__name__}", None, lambda *_: iter(data))
    return None


def source_of(data: Any) -> Source:
    """Anything with rows as a source: a table in memory is a single frame."""
    data = collected(data)
    source = stream_of(data)
    if source is not None:
        return source
    names = tuple(map(str, Table.of(data).names))  # refuses what is not a table
    return Source("the data", names, lambda *_: iter([data]))


def collected(data: Any) -> Any:
    """A lazy frame of polars as the frame that it stands for; anything else as it is."""
    if type(data).__name__ != "LazyFrame" or library_of(data) != "polars":
        return data
    with reading("the polars LazyFrame"):
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


# ---- files ---------------------------------------------------------------------------------------


def files_source(
    given: Any, text: Text = TEXT, numeric: Collection[str] = (), most: int = ROWS
) -> Source:
    """Files by path, pattern or list: Parquet, Arrow or text; or a directory of Parquet files.

    Text files are written as `text` says, and read so many rows at a time at `most`; in the
    `numeric` columns numbers are expected.
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
        names = columns_of(paths[0], text)
        return Source(name, names, lambda _, n: text_frames(paths, text, numeric, min(n, most)))
    dataset = arrow_for(paths[0], kind)
    with reading(name):
        opened = dataset.dataset([str(path) for path in paths], format=kind)
    return dataset_source(opened, name)


def _folder(folder: Path, name: str) -> Source:
    dataset = imported("pyarrow.dataset", "parquet", f"a directory of Parquet files {name}")
    files = _files_in(folder)
    if not files:
        others = [path for path in sorted(folder.iterdir()) if ending(path) in KINDS]
        hint = "".join(
            f"; its others are read by a pattern, {str(folder / ('*' + ''.join(one.suffixes)))!r}"
            for one in others[:1]
        )
        raise DataError(f"the directory {name} has no Parquet files (.parquet, .pq){hint}")
    with reading(name):
        options = {"partitioning": "hive", "partition_base_dir": str(folder)}
        return dataset_source(dataset.dataset(files, format="parquet", **options), name)


def _files_in(folder: Path) -> list[str]:
    """Its Parquet files and those of its directories, but hidden ones."""
    found = (path for path in folder.rglob("*") if KINDS.get(path.suffix.lower()) == "parquet")
    return sorted(
        str(path)
        for path in found
        if path.is_file() and not any(p[0] in "._" for p in path.relative_to(folder).parts)
    )
