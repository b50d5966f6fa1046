"""Columns of all rows, filled chunk by chunk, in memory or in files where that has no room."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import memory

ALIGNED = 64  # bytes, to which columns of a file are


class Store:
    """Columns (n,) whose rows come one chunk after the other.

    Parameters
    ----------
    n : int
        Rows of all chunks.
    in_file : bool
        Whether columns are kept in temporary files.

    Attributes
    ----------
    nbytes : int
        Of all columns.
    """

    def __init__(self, n: int, in_file: bool) -> None:
        self.n, self.in_file = n, in_file
        self.nbytes = 0
        self._columns: dict[Hashable, NDArray[Any]] = {}
        self._rest: NDArray[np.uint8] = np.zeros(0, np.uint8)  # of the last file
        self._reserved = 0  # bytes of all files

    def __contains__(self, key: Hashable) -> bool:
        return key in self._columns

    def __getitem__(self, key: Hashable) -> NDArray[Any]:
        """A column, of all rows."""
        return self._columns[key]

    def get(self, key: Hashable) -> NDArray[Any] | None:
        """The same; None where there is none."""
        return self._columns.get(key)

    def put(self, key: Hashable, first: int, values: NDArray[Any]) -> None:
        """The rows of a column from `first` on.

        It has the type of its first chunk; of numbers of several types it has floats.
        """
        if key not in self._columns:
            self._columns[key] = self._made(values.dtype)
        column = self._columns[key]
        if not np.can_cast(values.dtype, column.dtype):
            wider = self._made(np.dtype(np.float64))
            wider[:first] = column[:first]
            self.nbytes -= column.nbytes
            self._columns[key] = column = wider
        column[first : first + len(values)] = values

    def _made(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        self.nbytes += self.n * dtype.itemsize
        return (
            self._room(self.n * dtype.itemsize).view(dtype)
            if self.in_file
            else np.empty(self.n, dtype)
        )

    def _room(self, size: int) -> NDArray[np.uint8]:
        """Bytes of a file. Files grow with what there is: so they are few."""
        whole = -(-size // ALIGNED) * ALIGNED
        if len(self._rest) < whole:
            length = max(whole, self._reserved // 2)
            self._rest = memory.in_file(length, "the columns of the data")
            self._reserved += length
        found, self._rest = self._rest[:size], self._rest[whole:]
        return found
