"""A file that holds the replicates which are done, so that an interrupted run can go on."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from ..sources.archive import bytes_of

if TYPE_CHECKING:
    from .job import Columns

MAGIC = b"lmmfast replicates 1\n"
HEAD = struct.Struct("<QI")  # bytes of a record, and their checksum
PATIENCE = 1.0  # seconds after which what is done is written
PART = "part of"  # name of the column that says what a record was computed from

Part = Callable[[int, int], Any]


class Checkpoint:
    """Records of replicates in order, each complete or not there; `with Checkpoint(...)`.

    A record that a crash cut short is dropped. One run at a time has the file.

    Parameters
    ----------
    path : path
        Made where it is not there.
    fingerprint : str
        Of the run: ValueError for a file of another one.
    """

    def __init__(self, path: Any, fingerprint: str) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"checkpoint must be the path of a file, not {path!r}")
        self._path = Path(path)
        self._file = self._open()
        try:
            self._lock()
            self._end = self._begin(fingerprint.encode())
        except BaseException:
            self._file.close()
            raise
        self._place = self._end if self._fresh else self._start
        self._is_cut = False  # a record was read in part: nothing may follow
        self._waiting: list[tuple[int, Columns, int]] = []
        self._written = time.monotonic()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._write()
        finally:
            self._file.close()

    # ---- what is there ---------------------------------------------------------------------------

    def _open(self) -> Any:
        try:
            return open(self._path, "r+b" if self._path.exists() else "x+b")
        except OSError as error:
            raise DataError(f"the checkpoint {self._path} cannot be used: {error}") from error

    def _lock(self) -> None:
        """Another run must not write into the same file; where the system has no locks, trust."""
        try:
            import fcntl
        except ImportError:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"the checkpoint {self._path} is in use by another run") from None

    def _begin(self, fingerprint: bytes) -> int:
        """Reads or writes the head. Returns where complete records end."""
        head = MAGIC + fingerprint + b"\n"
        there = self._file.read(len(head))
        self._start, self._fresh = len(head), not there
        if self._fresh:
            self._file.write(head)
            self._file.flush()
            return len(head)
        if there != head:
            if not there.startswith(MAGIC):
                raise ValueError(f"the file {self._path} is no checkpoint: give another path")
            raise ValueError(
                f"the checkpoint {self._path} is of another run (its model, data, seed or options "
                "differ): delete it or give another path"
            )
        end = len(head)
        size = os.fstat(self._file.fileno()).st_size
        while end < size and (record := self._record(end)) is not None:
            end += HEAD.size + len(record)
        self._file.truncate(end)
        return end

    def _record(self, place: int) -> bytes | None:
        """The record at this place, None where it is not complete."""
        self._file.seek(place)
        head = self._file.read(HEAD.size)
        if len(head) < HEAD.size:
            return None
        size, checksum = HEAD.unpack(head)
        if size > os.fstat(self._file.fileno()).st_size:
            return None
        record: bytes = self._file.read(size)
        return record if len(record) == size and zlib.crc32(record) == checksum else None

    def next(self, before: int, first: int, most: int, part: Part) -> Columns | None:
        """The next record: of a job's replicates `first` on, at most up to `most`; None at the end.

        before: replicates of earlier jobs. DataError where the record was computed from another
        part, the responses.
        """
        if self._place >= self._end:
            return None
        record = self._record(self._place)
        assert record is not None
        found = _unpacked(record)
        at, digest = found.pop(PART)
        rows = len(next(iter(found.values())))
        if self._is_cut or int(at) != before + first:
            raise DataError(
                f"the checkpoint {self._path} was made of chunks of other sizes: delete it or give "
                "another path"
            )
        if first + rows > most:
            self._is_cut = True
            return {name: values[: most - first] for name, values in found.items()}
        if int(digest) != _digest(part(first, first + rows)):
            raise DataError(
                f"the checkpoint {self._path} has fits of other responses, from {before + first} "
                "on: delete it or give another path"
            )
        self._place += HEAD.size + len(record)
        return found

    # ---- what is new -----------------------------------------------------------------------------

    def keep(self, before: int, first: int, found: Columns, part: Part) -> None:
        """Holds more rows, written within a second and when the run ends."""
        stop = first + len(next(iter(found.values())))
        self._waiting.append((before + first, found, _digest(part(first, stop))))
        if time.monotonic() - self._written > PATIENCE:
            self._write()

    def _write(self) -> None:
        self._file.seek(self._end)
        for first, found, digest in self._waiting:
            record = _packed(found | {PART: np.array([first, digest], dtype=np.uint64)})
            self._file.write(HEAD.pack(len(record), zlib.crc32(record)) + record)
            self._end += HEAD.size + len(record)
        self._file.flush()
        self._place = self._end
        self._waiting.clear()
        self._written = time.monotonic()


def _packed(columns: Columns) -> bytes:
    plain = {
        name: values.astype(str) if values.dtype == object else values
        for name, values in columns.items()
    }
    return bytes_of(plain)


def _unpacked(record: bytes) -> Columns:
    try:
        with np.load(io.BytesIO(record), allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
    except (ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"a record of the checkpoint cannot be read: {error}") from error
    return {
        name: values.astype(object) if values.dtype.kind == "U" else values
        for name, values in found.items()
    }


def _digest(part: Any) -> int:
    """Of arrays, or of None."""
    found = hashlib.sha256()
    add_to(found, part)
    return int.from_bytes(found.digest()[:8], "little")


def fingerprint(*parts: Any) -> str:
    """Of whatever a run depends on: arrays, numbers, text, None, tuples and dicts of these."""
    found = hashlib.sha256()
    add_to(found, parts)
    return found.hexdigest()


def add_to(found: Any, part: Any) -> None:
    """Adds one part to a hash, with its type and shape."""
    if isinstance(part, np.ndarray) and part.dtype != object:
        found.update(f"{part.dtype.str}{part.shape}".encode())
        found.update(np.ascontiguousarray(part).tobytes())
    elif isinstance(part, (tuple, list)):
        found.update(f"({len(part)}".encode())
        for one in part:
            add_to(found, one)
    elif isinstance(part, dict):
        add_to(found, list(part.items()))
    elif isinstance(part, np.ndarray):
        add_to(found, part.tolist())
    else:
        found.update(f"{type(part).__name__}:{part!r}|".encode())
