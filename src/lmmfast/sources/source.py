"""Source: frames that can be made again and again, read in chunks that know where they are."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

import numpy as np

from ..data.columns import Table, is_not
from ..errors import DataError, FormulaError, LmmError
from ..formula.vocabulary import is_known

ROWS = 200_000  # of a chunk at most
NUMBERS = 1 << 25  # of a chunk's design at most: wide designs have shorter chunks


@dataclass(frozen=True)
class Chunk:
    """Some rows of a source."""

    table: Table
    number: int  # of the chunk, from 0, or of the partition that it is a part of
    start: int  # position of its first row in the source
    kind: str = "chunk"

    @property
    def where(self) -> str:
        """For messages: which rows these are."""
        return f"{self.kind} {self.number} (rows {self.start} to {self.start + self.table.n - 1})"


@dataclass(frozen=True)
class Source:
    """Frames that can be made again and again."""

    name: str  # for messages: "the Parquet files in 'trials'"
    names: tuple[str, ...] | None  # columns, where they are known before anything is read
    # (columns wanted or None, rows at most) -> frames of any size; a generator is closed when a
    # pass ends, be it by an error
    frames: Callable[[Sequence[str] | None, int], Iterator[Any]]
    # of a column that is not there: who has it, or ""
    elsewhere: Callable[[str], str] = lambda _: ""

    def chunks(
        self, columns: Iterable[str] | None = None, rows: int = ROWS
    ) -> Generator[Chunk, None, None]:
        """All rows, in chunks that are not empty and have so many rows at most.

        Where the source knows its columns, only those that are needed are read.
        """
        wanted = None
        if columns is not None and self.names is not None:
            needed = set(columns)
            wanted = [name for name in self.names if name in needed]
        number = start = 0
        frames = self.frames(wanted, rows)
        # files and connections of a generator are free at once
        with closing(frames) if isinstance(frames, GeneratorType) else nullcontext():
            for frame in frames:
                for piece in _pieces(frame, rows):
                    with located(f"chunk {number}"):
                        table = Table.of(piece)
                    if table.n:
                        yield Chunk(table, number, start)
                        number, start = number + 1, start + table.n

    def columns(self) -> tuple[str, ...]:
        """Names of the columns; where they are not known before, those of the first chunk."""
        if self.names is not None:
            return self.names
        with closing(self.chunks()) as chunks:
            first = next(chunks, None)
        if first is None:
            raise DataError("the data have no rows")
        return tuple(map(str, first.table.names))


def check_columns(source: Source, plan: Any, roles: Any) -> None:
    """A model's columns are there, as far as the source knows before it is read."""
    if source.names is None:
        return
    own = [name for name in plan.names if name in plan.variables or not is_known(name)]
    wanted: list[tuple[str | None, str, type[LmmError]]]
    wanted = [(name, "column", FormulaError) for name in own]
    wanted += [(roles.weights, "the column for weights", DataError)]
    wanted += [(roles.offset, "the column for offset", DataError)]
    for name, what, error in wanted:
        if name is not None and name not in source.names:
            hint = source.elsewhere(name)
            if hint:
                raise DataError(hint, variable=name)
            raise is_not(name, source.names, error, what)


def rows_for(width: int) -> int:
    """Rows of a chunk whose design has this many columns."""
    return max(1000, min(ROWS, NUMBERS // max(width, 1)))


@contextmanager
def located(where: str, start: int = 0) -> Iterator[None]:
    """Errors about a model or its data say in which chunk they are found, and in which rows.

    `start` is the position in the source of the chunk's first row.
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


def _pieces(frame: Any, rows: int) -> Iterator[Any]:
    """A frame cut into pieces of so many rows; small ones are left as they are."""
    if library_of(frame) == "pyarrow" and type(frame).__name__ == "RecordBatch":
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
    if library_of(frame) == "pyarrow":
        return frame.slice(start, stop - start)
    return frame[start:stop]


def library_of(data: Any) -> str:
    """The package of the class of an object."""
    return type(data).__module__.partition(".")[0].lstrip("_")
