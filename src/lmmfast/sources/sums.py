"""What a model is told of rows that are not in memory: sums that cross-products hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..data.sums import Group, Sums, no_rows
from ..errors import DataError, FitError
from ..formula.column import Column
from .blocks import cholesky, dependent
from .columns import StreamColumns
from .cross import CrossProducts
from .recast import Recast, recast, without

Matrix = NDArray[np.float64]
ROUNDED = 4e-16  # residuals below this share of the response are rounding, as for rows (moments.c)


@dataclass(frozen=True, eq=False)
class StreamSums(Sums):
    """The sums of cross-products, whose levels are in the order of data in memory."""

    cross: CrossProducts
    strata: tuple[CrossProducts, ...] = ()  # of which they are the sum, where residuals have some

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

    def source(self, fixed: StreamColumns, factors: Sequence[Group]) -> tuple[Any, ...]:
        own, _ = _judged(recast(fixed, factors), fixed, factors)
        numbers = (own.C, np.asfortranarray(own.CX), own.beta0, own.yscale)
        finite = [np.isfinite(one).all() for one in (*own.C, numbers[1], own.beta0)]
        if not all(finite) or not np.isfinite(own.yscale):
            raise FitError(
                "the columns of the cross-products are too large or too small for floating-point "
                "numbers: measure the response and the predictors in other units"
            )
        self._check_residuals(own)
        cross, owners = self.cross, [group.owners for group in factors]
        return (_core.Cross(own.blocks, cross.n, cross._sumlogw, owners, *numbers),)

    def strata_sources(self, fixed: StreamColumns, factors: Sequence[Group]) -> list[Any]:
        if not self.strata:
            return []
        _, dropped = _judged(recast(fixed, factors), fixed, factors)
        owners, out = [group.owners for group in factors], []
        for cross in self.strata:
            own = recast(replace(fixed, cross=cross), factors)
            own = without(own, dropped) if len(dropped) else own
            numbers = (own.C, np.asfortranarray(own.CX), own.beta0, own.yscale)
            out.append(_core.Cross(own.blocks, cross.n, cross._sumlogw, owners, *numbers))
        return out

    def _check_residuals(self, own: Recast) -> None:
        """Least squares must leave more of the response than its rounding, as with rows.

        The size of the response is its root mean square: its largest value is not known. The size
        of the weights is their geometric mean: their sum is not known.
        """
        G = own.blocks.corner
        size = np.sqrt(np.where(G.diagonal() > 0, G.diagonal(), 1.0))
        share = cholesky(G / np.outer(size, size))[-1, -1]
        left = own.yscale * size[-1] * share / np.sqrt(self.n)
        left *= np.exp(-self.cross._sumlogw / (2 * self.n))
        mean, variance = self.response_moments()
        if not left > ROUNDED * np.sqrt((mean**2 + max(variance, 0.0)) * len(G)):
            raise _core.NoVariance


def _judged(
    own: Recast, fixed: StreamColumns, factors: Sequence[Group]
) -> tuple[Recast, NDArray[np.intp]]:
    """Columns that nearly depend on others are judged as those of rows would be; and which of the
    fixed effects are left out for that.

    The first dependent column of a random term raises `_core.Dependent`.
    """
    for factor, group in enumerate(factors):
        total = own.blocks.diagonal(factor).sum(axis=0)
        for columns, cut, correlated in group.terms():
            if not correlated or not columns.basis.doubtful:
                continue
            found = dependent(total[cut, cut], own.C[factor][cut, cut], columns.begins_constant)
            if len(found):
                raise _core.Dependent(factor, cut.start + int(found[0]))
    if not fixed.basis.doubtful:
        return own, np.zeros(0, np.intp)
    found = dependent(own.blocks.corner[:-1, :-1], own.CX, fixed.begins_constant)
    return without(own, found) if len(found) else own, np.asarray(found, np.intp)


class Variable(Column):
    """A variable of the fixed part of which only the values are known, not where they stand."""

    __slots__ = ("_distinct", "_mean", "_numeric")

    def __init__(
        self, name: str, levels: NDArray[Any] | None, numeric: bool, ordered: bool, mean: float
    ) -> None:
        self.name, self.ordered = name, ordered
        self.levels = None if numeric else levels  # type: ignore[assignment]
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
