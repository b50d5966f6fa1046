"""Types of what users give: for annotations of functions that call this package.

>>> from lmmfast.typing import Data
>>> def share(data: Data) -> float: ...
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, Union

from narwhals.stable.v2.typing import IntoDataFrame, IntoFrame
from numpy.typing import ArrayLike

from .data.relationship import Adjacency, Precision, Relationship
from .engine.family import Family as _Family
from .engine.pedigree import Pedigree
from .formula.hypotheses import Hypotheses

__all__ = ["Client", "Coding", "Data", "Family", "Held", "NewData", "Parts", "PathLike", "Priors"]
__all__ += ["Related", "Rows", "Storage"]

PathLike: TypeAlias = Union[str, "os.PathLike[str]"]


class Parts(Protocol):
    """What is read in parts: DuckDB's relations, Dask's frames, CrossProducts."""

    @property
    def columns(self) -> Any:
        """Names of the columns."""


# a table in memory, also as a dict of columns
NewData: TypeAlias = IntoDataFrame | Mapping[str, ArrayLike]
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
# how a factor is coded: a name, a matrix with a row a level, hypotheses
Coding: TypeAlias = str | ArrayLike | IntoDataFrame | Hypotheses
# how levels are related: an object, or a matrix
Related: TypeAlias = Relationship | Precision | Pedigree | Adjacency | ArrayLike | IntoDataFrame
# covariance parameters that are held: of theta by name or in order, and sigma
Held: TypeAlias = float | Mapping[str, float | None] | Sequence[float | None]
# standard deviation, or mean and standard deviation, of coefficients
Priors: TypeAlias = float | Mapping[str, float | tuple[float, float]]
# the matrix that is left when the first factor is eliminated
Storage: TypeAlias = Literal["auto", "dense", "sparse", "iterative"]


class _Foreign(Protocol):
    """A family of statsmodels."""

    @property
    def link(self) -> Any: ...


# of the response: a name in any package's spelling, an object, statsmodels' too
Family: TypeAlias = str | _Family | type[_Family] | _Foreign


class Client(Protocol):
    """An executor of concurrent.futures, or a client of dask.distributed."""

    def submit(self, *args: Any, **options: Any) -> Any:
        """What begins a call and gives its future."""
