"""What a model is told of rows that are not in memory: sums that cross-products hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..data.sums import Columns, Group, Sums, no_rows
from ..errors import DataError, FitError
from ..formula.column import Column
from .coordinates import Basis
from .cross import CrossProducts
from .recast import Recast, dependent, recast, without

__all__ = ["StreamColumns", "StreamSums", "Variable"]

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StreamColumns(Columns):
    """Linear combinations of the columns of a model matrix that cross-products are of.

    Attributes
    ----------
    cross : CrossProducts
    term : int
        Random term whose columns these are combinations of; -1: the fixed effects.
    map : (k, j) array
        These columns are those of the cross-products' model (k of them) times this.
    """

    cross: CrossProducts
    term: int
    map: Matrix

    @property
    def width(self) -> int:
        return int(self.map.shape[1])

    @property
    def what(self) -> str:
        if self.term < 0:
            return "the fixed-effects columns"
        return f"the columns of ({self.cross.spec.plan.formula.random[self.term].label})"

    @property
    def factor(self) -> int:
        """Number of the grouping factor in the cross-products."""
        found = (k for k, (_, own) in enumerate(self.cross.spec.factors) if self.term in own)
        return next(found)

    @property
    def basis(self) -> Basis:
        """The coordinates in which there are cross-products."""
        coordinates = self.cross.spec.coordinates
        assert coordinates is not None
        return coordinates.fixed if self.term < 0 else coordinates.random[self.term]

    @property
    def inside(self) -> slice:
        """Place of the term's columns among those of its factor."""
        at = 0
        for i in self.cross.spec.factors[self.factor][1]:
            width = len(self.cross.spec.random[i].names)
            if i == self.term:
                break
            at += width
        return slice(at, at + width)

    @property
    def begins_constant(self) -> bool:
        """Whether the first column is the constant one."""
        map = self.map
        return bool(
            self.basis.constant and map.shape[1] and map[0, 0] == 1 and not map[1:, 0].any()
        )

    def chosen(self, columns: Sequence[int]) -> StreamColumns:
        return StreamColumns(self.cross, self.term, self.map[:, list(columns)])

    def combined(self, M: Matrix) -> StreamColumns:
        return StreamColumns(self.cross, self.term, self.map @ M)

    def _moments(self) -> tuple[Matrix, Matrix]:
        """S and A: x'x = S in the coordinates x, and these columns are x A."""
        fixed, random = self.cross.second_moments()
        A = np.linalg.solve(self.basis.C, self.map)
        return (fixed if self.term < 0 else random[self.term]), np.asarray(A)

    def root(self, kept: NDArray[np.bool_]) -> Matrix:
        S, A = self._moments()
        Q, inner = np.linalg.qr(A[:, kept])
        L = np.linalg.cholesky(Q.T @ S @ Q)
        own, R = np.linalg.qr(L.T @ inner)
        out = np.empty((len(R), len(kept)))
        out[:, kept] = R
        out[:, ~kept] = own.T @ np.linalg.solve(L, Q.T @ S @ A[:, ~kept])
        return out

    def variance(self, v: NDArray[np.float64]) -> float:
        S, A = self._moments()
        n, slope = self.cross.n, A @ v
        if self.basis.constant:  # the first coordinate, which takes up the means
            slope[0] = 0.0
        mean = float(self.cross._columns @ slope) / n
        return max(float(slope @ S @ slope) - n * mean**2, 0.0) / (n - 1)

    def mean_squares(self, M: Matrix) -> NDArray[np.float64]:
        S, A = self._moments()
        own = A @ M
        return np.asarray(np.einsum("ij,ik,kj->j", own, S, own)) / self.cross.n

    def largest(self, directions: Matrix) -> NDArray[np.float64]:
        """Four root mean squares; of squares no more is known than their rounding."""
        S, A = self._moments()
        own = A @ directions
        squares = np.einsum("ij,ik,kj->j", own, S, own)
        rounding = np.finfo(float).eps * (own**2).T @ S.diagonal()
        return np.asarray(4 * np.sqrt(np.maximum(squares, rounding) / self.cross.n))

    def constant(self) -> NDArray[np.bool_]:
        found = np.zeros(self.width, dtype=bool)
        found[:1] = self.begins_constant
        return found

    def by_level(self, M: Matrix) -> Matrix:
        own = np.linalg.solve(self.basis.C, self.map @ M)
        blocks = self.cross._blocks.diagonal(self.factor)[:, self.inside, self.inside]
        return np.asarray(own.T @ blocks @ own)

    def divides_as(self, other: StreamColumns) -> bool:
        first, second = sorted((self.factor, other.factor))
        blocks = self.cross._blocks
        return first == second or len(blocks.pairs(first, second)[0]) == blocks.nlev[first]


@dataclass(frozen=True, eq=False)
class StreamSums(Sums):
    """The sums of cross-products.

    Attributes
    ----------
    cross : CrossProducts
        Levels in the order of data in memory.
    """

    cross: CrossProducts

    @property
    def n(self) -> int:
        return self.cross.n

    @property
    def is_weighted(self) -> bool:
        return self.cross.spec.weights is not None

    @property
    def has_offset(self) -> bool:
        return bool(self.cross.spec.plan.offsets) or self.cross.spec.offset is not None

    def response(self) -> None:
        return None

    def response_moments(self) -> Matrix:
        coordinates = self.cross.spec.coordinates
        assert coordinates is not None
        mean, square = self.cross._response / self.n
        return np.array([coordinates.center + mean, square - mean**2])

    def frequencies(
        self, variables: Mapping[str, Column], values: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.int64]:
        found = self.cross.frequencies()
        if found is None:
            raise DataError("weights='proportional': too many combinations of levels to count")
        names, counts = found
        for axis, name in enumerate(names):
            if name in values:
                places = self.cross.spec.variables[name].places
                at = np.array([places.get(value, -1) for value in values[name].tolist()])
                shape = [1] * counts.ndim
                shape[axis] = -1
                counts = np.take(counts, at, axis=axis) * (at >= 0).reshape(shape)
        # numbers that are few, but are not asked for
        rest = tuple(axis for axis, name in enumerate(names) if name not in values)
        inside = [name for name in names if name in values]
        order = [inside.index(name) for name in values]
        return np.asarray(counts.sum(axis=rest)).transpose(order)

    # ---- the compiled model ----------------------------------------------------------------------

    def products(self, fixed: StreamColumns, factors: Sequence[Group]) -> tuple[Any, list[Matrix]]:
        """Blocks of cross-products, and C of each factor: their columns are the model's times C."""
        own = recast(fixed, factors)
        return own.blocks, own.C

    def source(
        self, fixed: StreamColumns, factors: Sequence[Group], y: Matrix | None
    ) -> tuple[Any, ...]:
        own = _judged(recast(fixed, factors), fixed, factors)
        numbers = (own.C, np.asfortranarray(own.CX), own.beta0, own.yscale)
        finite = [np.isfinite(one).all() for one in (*own.C, numbers[1], own.beta0)]
        if not all(finite) or not np.isfinite(own.yscale):
            raise FitError(
                "the columns of the cross-products are too large or too small for floating-point "
                "numbers: measure the response and the predictors in other units"
            )
        cross, owners = self.cross, [group.owners for group in factors]
        return (_core.Cross(own.blocks, cross.n, cross._sumlogw, owners, *numbers),)


def _judged(own: Recast, fixed: StreamColumns, factors: Sequence[Group]) -> Recast:
    """Columns that nearly depend on others are judged as those of rows would be.

    Raises
    ------
    _core.Dependent
        At the first dependent column of a random term.
    """
    for factor, group in enumerate(factors):
        total, at = own.blocks.diagonal(factor).sum(axis=0), 0
        for columns, correlated in zip(group.columns, group.correlated, strict=True):
            cut = slice(at, at + columns.width)
            at = cut.stop
            if not correlated or not columns.basis.doubtful:
                continue
            found = dependent(total[cut, cut], own.C[factor][cut, cut], columns.begins_constant)
            if len(found):
                raise _core.Dependent(factor, cut.start + int(found[0]))
    if not fixed.basis.doubtful:
        return own
    found = dependent(own.blocks.corner[:-1, :-1], own.CX, fixed.begins_constant)
    return without(own, found) if len(found) else own


class Variable(Column):
    """A variable of the fixed part of which only the values are known, not where they stand."""

    __slots__ = ("_distinct", "_mean", "_numeric")

    def __init__(
        self, name: str, levels: NDArray[Any] | None, numeric: bool, ordered: bool, mean: float
    ) -> None:
        self.name, self.ordered = name, ordered
        self.levels = None if numeric else levels
        self.missing = self.contrasts = self.declared = None
        self._distinct, self._mean, self._numeric = levels, mean, numeric

    @property
    def numeric(self) -> bool:
        """Whether it has numbers, else levels."""
        return self._numeric

    @property
    def values(self) -> NoReturn:  # type: ignore[override]
        """Not there."""
        raise no_rows(f"the values of {self.name!r} would be needed")

    @property
    def codes(self) -> NoReturn:  # type: ignore[override]
        """Not there."""
        raise no_rows(f"the levels of {self.name!r} would be needed")

    def __repr__(self) -> str:
        return f"<{self.name!r}, not in memory>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Variable, (self.name, self._distinct, self._numeric, self.ordered, self._mean)

    def freeze(self) -> None:
        """It has no rows."""

    def copy(self) -> Column:
        """Itself: it has no rows."""
        return self

    def distinct(self) -> NDArray[Any]:
        """The distinct values; where they are many and not known, more than a factor may have."""
        if self._distinct is not None:
            return self._distinct
        return np.arange(20_000)  # more than any predictor has levels

    def mean(self) -> float:
        """The mean over the rows."""
        return self._mean
