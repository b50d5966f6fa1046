"""What a model needs to know of its rows, whether these are in memory or were only summed over.

A model sees names, levels and sums. `Rows` (rows.py) takes its sums from rows at hand; a stream has
cross-products (`sources.sums`). What only rows can answer asks for `Design.rows_for`,
`Columns.values` or `Columns.codes`; where there are none, these raise the one error of `no_rows`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..formula.column import Codes, Column

Matrix = NDArray[np.float64]


def no_rows(what: str) -> DataError:
    """The error for what only rows can answer."""
    return DataError(
        f"{what}: the rows of this fit are not in memory, it was made from a stream or from "
        "cross-products. fit.stream_residuals(source) gives fitted values and residuals chunk by "
        "chunk, fit.predict(new) predicts the rows that you give; for the rest fit data in memory"
    )


class Columns(ABC):
    """The columns of one model matrix over all n rows: of the fixed effects, or of a random term.

    Sums are not weighted.
    """

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of columns, k."""

    @property
    @abstractmethod
    def what(self) -> str:
        """What these are, for messages: "the columns of (1 | g)"."""

    @property
    def values(self) -> Matrix:
        """The columns themselves (n, k); an error where rows are not in memory."""
        raise no_rows(f"{self.what} would be needed")

    def at(self, rows: slice | NDArray[np.int64]) -> Matrix:
        """Some rows of the columns; an error where rows are not in memory."""
        return self.values[rows]

    @property
    def codes(self) -> Codes:
        """Level of each row (n), of a random term; an error where rows are not in memory."""
        raise no_rows(f"the levels beside {self.what} would be needed")

    @property
    def incidence(self) -> Any:
        """Level of each row (n) of a random term, or `Members`; None where there are no rows."""
        return None

    @property
    def sharing(self) -> float:
        """Mean over the rows of the sum of squared weights of a row's levels, of a random term; 1
        where rows have one."""
        return 1.0

    @property
    @abstractmethod
    def factor(self) -> Hashable:
        """Equal for random terms of one grouping factor."""

    @abstractmethod
    def chosen(self, columns: Sequence[int]) -> Columns:
        """Some of the columns, in this order."""

    @abstractmethod
    def combined(self, M: Matrix) -> Columns:
        """The columns times M (k, j)."""

    def taken(self, rows: NDArray[np.int64]) -> Any:
        """The same columns of some rows, of fixed effects; an error where there are none."""
        raise no_rows(f"rows of {self.what} would be needed")

    def times(self, beta: Matrix) -> Matrix:
        """The columns times coefficients (k), of the fixed effects; an error without rows."""
        return np.asarray(self.values @ beta)

    @abstractmethod
    def root(self, kept: NDArray[np.bool_]) -> Matrix:
        """R (rank, k) with R'R = X'X for the columns X, upper triangular in the kept ones (k).

        The kept ones are linearly independent, rank of them.
        """

    @abstractmethod
    def variance(self, v: NDArray[np.float64]) -> float:
        """Variance over the rows of the columns times v (k), divisor n - 1; of fixed effects."""

    @abstractmethod
    def mean_squares(self, M: Matrix) -> NDArray[np.float64]:
        """Mean over the rows of the square of each of the columns times M (k, j); where rows have
        several levels, times the sum of their squared weights."""

    @abstractmethod
    def largest(self, directions: Matrix) -> NDArray[np.float64]:
        """The largest absolute value of the columns times each direction (k, j), or a bound."""

    @abstractmethod
    def constant(self) -> NDArray[np.bool_]:
        """Which columns have the same value in every row (k)."""

    @abstractmethod
    def by_level(self, M: Matrix) -> Matrix:
        """Cross-products of the columns times M, level by level (m, j, j), of a random term.

        Rows count by their weights where they are only summed over; spans are the same.
        """

    @abstractmethod
    def divides_as(self, other: Any) -> bool:
        """Whether the grouping factor of another term with equally many levels differs from this
        one's in the names of its levels only."""


class Group(NamedTuple):
    """A grouping factor of the compiled model.

    `owners` has one number for each column: equal and negative for those of a term whose columns
    are correlated, different ones for those of `||`, which are terms of their own.
    """

    columns: tuple[Any, ...]  # `Columns` of each of its random terms
    owners: NDArray[np.int32]
    nlev: int  # number of levels
    precision: Any = None  # of related levels, as the compiled core takes it
    members: Any = None  # levels of rows that have several, as the compiled core takes them

    def terms(self) -> Iterator[tuple[Any, slice, bool]]:
        """Columns of each term, their place in the factor, and whether they are correlated."""
        at = 0
        for columns in self.columns:
            yield columns, slice(at, at + columns.width), bool(self.owners[at] < 0)
            at += columns.width


class Sums(ABC):
    """Sums over the rows of a model, of what is not in its model matrices."""

    @property
    @abstractmethod
    def n(self) -> int:
        """Number of rows used."""

    def refused(self, what: str) -> DataError:
        """The error for what only rows can answer, where there are none."""
        return no_rows(what)

    @property
    @abstractmethod
    def is_weighted(self) -> bool:
        """Whether rows have weights."""

    @property
    @abstractmethod
    def has_offset(self) -> bool:
        """Whether the linear predictor has a known part."""

    @abstractmethod
    def response(self) -> Matrix | None:
        """The response without its offset (n); None where it is only summed over."""

    @abstractmethod
    def response_moments(self) -> Matrix:
        """Mean and variance (divisor n) over the rows of the response without its offset."""

    @abstractmethod
    def frequencies(
        self, variables: Mapping[str, Column], values: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.int64]:
        """Rows in each combination of the given values of some of the model's variables.

        An axis for each variable; rows with other values are not counted. An error where
        combinations were too many to be counted.
        """

    @abstractmethod
    def source(self, fixed: Any, factors: Sequence[Group]) -> tuple[Any, ...]:
        """What the compiled model is made of: the first arguments of ``_core.Model``.

        Raises `_core.Dependent` when columns of a random term are linearly dependent.
        """

    def strata_sources(self, fixed: Any, factors: Sequence[Group]) -> list[Any]:
        """Where there are sums by stratum of the residuals, and no rows: what `source` gives, of
        each stratum."""
        return []
