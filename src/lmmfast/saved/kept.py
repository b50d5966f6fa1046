"""What stays of a design when its rows are left out: names, levels, sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..data.sums import Columns, Group, Sums
from ..errors import DataError
from ..formula.column import Column
from ..freeze import Frozen
from ..sources.sums import Variable

Matrix = NDArray[np.float64]

FEW = 1_000  # distinct values of a number that are kept
UNKNOWN = 20_000  # more than a factor has: of a number whose values were too many to be kept


def no_data(what: str) -> DataError:
    """The error for what needs rows, or cross-products, that this fit does not have."""
    return DataError(
        f"{what}: this fit was saved, or made by without_data(), without its data; "
        "fit.save(path, data=True) keeps the rows, and a fit loaded from that file can all"
    )


@dataclass(frozen=True, eq=False)
class KeptColumns(Frozen, Columns, arrays=("root_", "covariance", "squares", "constants")):
    """The columns of a model matrix of which only sums were kept."""

    name: str  # "the fixed-effects columns"
    owner: int  # number of the grouping factor; -1: the fixed effects
    constants: NDArray[np.bool_]  # (k,) which have one value
    root_: Matrix | None = None  # (rank, k) R, R'R = X'X; of fixed effects
    covariance: Matrix | None = None  # (k, k) of the columns over the rows; of fixed effects
    squares: Matrix | None = None  # (k, k) Z'Z / n; of random terms
    sharing: float = 1.0

    @property
    def width(self) -> int:
        return len(self.constants)

    @property
    def what(self) -> str:
        return self.name

    @property
    def factor(self) -> int:
        return self.owner

    @property
    def values(self) -> NoReturn:
        raise no_data(f"{self.name} would be needed")

    @property
    def codes(self) -> NoReturn:
        raise no_data(f"the levels beside {self.name} would be needed")

    def taken(self, rows: NDArray[np.int64]) -> NoReturn:
        raise no_data(f"rows of {self.name} would be needed")

    def chosen(self, columns: Sequence[int]) -> KeptColumns:
        at = list(columns)
        parts = (self.covariance, self.squares)
        covariance, squares = (None if own is None else own[np.ix_(at, at)] for own in parts)
        root = None if self.root_ is None else self.root_[:, at]
        own = root, covariance, squares, self.sharing
        return KeptColumns(self.name, self.owner, self.constants[at], *own)

    def combined(self, M: Matrix) -> KeptColumns:
        parts = (self.covariance, self.squares)
        covariance, squares = (None if own is None else M.T @ own @ M for own in parts)
        root = None if self.root_ is None else self.root_ @ M
        constants = np.array([self.constants[column != 0].all() for column in M.T], dtype=bool)
        own = root, covariance, squares, self.sharing
        return KeptColumns(self.name, self.owner, constants, *own)

    def root(self, kept: NDArray[np.bool_]) -> Matrix:
        if self.root_ is None:
            raise no_data(f"cross-products of {self.name}, which are many, would be needed")
        order = np.argsort(~kept, kind="stable")
        rank = int(kept.sum())
        R = np.empty((rank, self.width))
        R[:, order] = np.linalg.qr(self.root_[:, order], mode="r")[:rank]
        return R

    def variance(self, v: NDArray[np.float64]) -> float:
        if self.covariance is None:
            raise no_data(f"the variance of {self.name} would be needed")
        return float(v @ self.covariance @ v)

    def mean_squares(self, M: Matrix) -> NDArray[np.float64]:
        if self.squares is None:
            raise no_data(f"mean squares of {self.name} would be needed")
        return np.asarray(np.einsum("ij,ik,kj->j", M, self.squares, M))

    def largest(self, directions: Matrix) -> NDArray[np.float64]:
        if not directions.shape[1]:
            return np.zeros(0)
        raise no_data(f"the largest values of {self.name} would be needed")

    def constant(self) -> NDArray[np.bool_]:
        return self.constants

    def by_level(self, M: Matrix) -> NoReturn:
        raise no_data(f"sums of {self.name} by level would be needed")

    def divides_as(self, other: Any) -> bool:
        return bool(self.owner == other.owner)


@dataclass(frozen=True, eq=False)
class Cells:
    """Rows in each combination of values of the variables that have few."""

    names: tuple[str, ...]
    values: tuple[NDArray[Any], ...]
    counts: NDArray[np.int64]

    def frequencies(self, wanted: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
        """Rows in the combinations of some values of some of the variables, in this order."""
        if not wanted.keys() <= set(self.names):
            raise no_data("counts of combinations would be needed")
        rest = tuple(i for i, name in enumerate(self.names) if name not in wanted)
        counts = self.counts.sum(axis=rest)
        left = [name for name in self.names if name in wanted]
        for axis, name in enumerate(left):
            known = {v: i for i, v in enumerate(self.values[self.names.index(name)].tolist())}
            places = [known.get(one, -1) for one in np.asarray(wanted[name]).tolist()]
            padded = np.concatenate([counts, np.zeros_like(counts.take([0], axis))], axis)
            counts = padded.take(places, axis)
        return np.asarray(counts.transpose([left.index(name) for name in wanted]))


@dataclass(frozen=True, eq=False)
class KeptSums(Frozen, Sums, arrays=("moments",)):
    """What was known of the rows beside their model matrices."""

    count: int
    weighted: bool
    shifted: bool  # whether there was an offset
    moments: Matrix  # mean and variance of the response without its offset
    cells: Cells | None

    @property
    def n(self) -> int:
        return self.count

    @property
    def is_weighted(self) -> bool:
        return self.weighted

    @property
    def has_offset(self) -> bool:
        return self.shifted

    def response(self) -> None:
        return None

    def response_moments(self) -> Matrix:
        return self.moments

    def frequencies(
        self, variables: Mapping[str, Column], values: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.int64]:
        if self.cells is None:
            raise no_data("counts of combinations, which are too many to be kept, would be needed")
        return self.cells.frequencies(values)

    def source(self, fixed: Any, factors: Sequence[Group]) -> NoReturn:
        raise no_data("the rows would be needed")

    def refused(self, what: str) -> DataError:
        return no_data(what)


class KeptVariable(Variable):
    """A variable of which only the values are known, and its mean."""

    __slots__ = ("ends",)

    def __init__(
        self,
        name: str,
        levels: NDArray[Any] | None,
        numeric: bool,
        ordered: bool,
        mean: float,
        ends: tuple[float, float],
    ) -> None:
        super().__init__(name, levels, numeric, ordered, mean)
        self.ends = ends  # least and largest

    @property
    def values(self) -> NoReturn:  # type: ignore[override]
        raise no_data(f"the values of {self.name!r} would be needed")

    @property
    def codes(self) -> NoReturn:  # type: ignore[override]
        raise no_data(f"the levels of {self.name!r} would be needed")

    def __reduce__(self) -> tuple[Any, ...]:
        own = (self.name, self._distinct, self.numeric, self.ordered, self._mean, self.ends)
        return KeptVariable, own

    def distinct(self) -> NDArray[Any]:
        """Its values; of a number with very many, as many between the least and the largest."""
        if self._distinct is not None:
            return self._distinct
        return np.linspace(*self.ends, UNKNOWN)
