"""What stands where a design has rows that are not in memory: it knows its shape and no number."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

__all__ = ["Absent", "AbsentColumns", "columns_of", "no_rows"]


def no_rows(what: str) -> DataError:
    """The error for what only rows can answer."""
    return DataError(
        f"{what}: the rows of this fit are not in memory, it was made from a stream or from "
        "cross-products. fit.stream_residuals(source) gives fitted values and residuals chunk by "
        "chunk, fit.predict(new) predicts the rows that you give; for the rest fit data in memory"
    )


class Absent:
    """An array of which only the shape is there.

    Parameters
    ----------
    what : str
        For messages: "the response".
    shape : tuple of int
    """

    def __init__(self, what: str, shape: tuple[int, ...]) -> None:
        self.what, self.shape = what, shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values that an array would have."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{self.what}, {' x '.join(map(str, self.shape))}, not in memory>"

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise no_rows(f"{self.what} would be needed")

    __array__ = __iter__ = __bool__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __truediv__ = __rtruediv__ = __pow__ = __rmatmul__ = __neg__ = __abs__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse  # type: ignore[assignment]
    __hash__ = object.__hash__

    def __getitem__(self, key: Any) -> Absent:
        self._refuse()

    def __matmul__(self, other: Any) -> Absent:
        self._refuse()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()


class AbsentCodes(Absent):
    """Levels of the rows of one grouping factor.

    Attributes
    ----------
    factor : int
        Its number in the cross-products.
    """

    def __init__(self, what: str, n: int, factor: int) -> None:
        super().__init__(what, (n,))
        self.factor = factor


class AbsentColumns(Absent):
    """A model matrix: linear combinations of the columns of one that cross-products are of.

    Attributes
    ----------
    term : int
        Random term whose columns these are combinations of; -1: the fixed effects.
    map : (k, j) array
        These columns are those of the cross-products' model (k of them) times this.
    """

    def __init__(self, what: str, n: int, term: int, map: NDArray[np.float64]) -> None:
        super().__init__(what, (n, map.shape[1]))
        self.term, self.map = term, map

    def __getitem__(self, key: Any) -> AbsentColumns:
        """Some columns, as in x[:, columns]; rows are not there."""
        if isinstance(key, tuple) and len(key) == 2 and key[0] == slice(None):
            columns = self.map[:, key[1]]
            if columns.ndim == 2:
                return AbsentColumns(self.what, len(self), self.term, columns)
        self._refuse()

    def __matmul__(self, other: Any) -> AbsentColumns:
        """Combinations of the columns; a vector would make rows."""
        if np.ndim(other) == 2 and not isinstance(other, Absent):
            return AbsentColumns(self.what, len(self), self.term, self.map @ np.asarray(other))
        self._refuse()


def columns_of(z: Any, columns: Any) -> Any:
    """Some columns of a model matrix in memory (n, k), C-contiguous, or of one that is not."""
    own = z[:, list(columns)]
    return own if isinstance(own, Absent) else np.ascontiguousarray(own)
