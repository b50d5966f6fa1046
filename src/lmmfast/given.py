"""Types of the data that users give; `lmmfast.typing` has them with all others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from narwhals.stable.v2.typing import IntoDataFrame, IntoFrame
    from pandas import DataFrame, Series
else:
    from .late import name

    DataFrame, Series = name("pandas.DataFrame"), name("pandas.Series")
    IntoDataFrame, IntoFrame = name("narwhals.IntoDataFrame"), name("narwhals.IntoFrame")

__all__ = ["Data", "IntoDataFrame", "Matrix", "NewData", "PandasRows", "Parts", "PathLike"]
__all__ += ["Rows", "SparseMatrix"]

PathLike: TypeAlias = str | os.PathLike[str]


class Parts(Protocol):
    """What is read in parts: DuckDB's relations, Dask's frames, CrossProducts."""

    @property
    def columns(self) -> Any:
        """Names of the columns."""


class SparseMatrix(Protocol):
    """A matrix of scipy.sparse."""

    def tocsc(self) -> Any:
        """The same by columns."""


# a table in memory, also as a dict of columns
NewData: TypeAlias = IntoDataFrame | Mapping[str, ArrayLike]
# ... of which answers are pandas': a frame, one row of it, a dict of columns
PandasRows: TypeAlias = DataFrame | Series | Mapping[str, ArrayLike]
# ... or files, or what is read in chunks
Data: TypeAlias = (
    IntoFrame
    | Mapping[str, ArrayLike]
    | PathLike
    | Parts
    | Sequence[PathLike]
    | Sequence[IntoDataFrame]
    | Callable[[], Iterable[Any]]
)
# weights and offsets: a column's name, or one value for each row
Rows: TypeAlias = str | ArrayLike
# relationships and neighbours: an array, a labelled frame, a sparse matrix
Matrix: TypeAlias = ArrayLike | DataFrame | SparseMatrix
