"""Grouping factors: the level of each row, for one factor or for combinations of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, FormulaError
from ..formula.column import Codes, Column, factorize
from ..formula.expressions import Expression, Memory
from ..freeze import Frozen
from .columns import Levels
from .encode import factor_of, value_of


@dataclass(frozen=True, eq=False)
class Grouping(Frozen, arrays=("atom_levels", "pairs", "levels")):
    """A grouping factor of the model and how to find its levels in new data."""

    label: str  # "Subject", "school:class"
    atoms: tuple[Expression, ...]
    atom_levels: tuple[NDArray[Any], ...]
    pairs: tuple[NDArray[np.int64], ...]  # combinations that occur, one array per ":"
    levels: NDArray[Any]

    @cached_property
    def _training(self) -> tuple[Levels, ...]:
        return tuple(Levels(levels) for levels in self.atom_levels)

    def among(self, levels: NDArray[Any]) -> Grouping:
        """The same factor with these levels, of which the data may not have all."""
        return replace(self, atom_levels=(levels,), levels=levels)

    def codes(
        self, columns: Mapping[str, Column], memory: Memory, n: int
    ) -> tuple[Codes, NDArray[np.bool_]]:
        """Level of each row of new data (-1: unseen) and whether it is missing."""
        codes = np.zeros(n, dtype=np.int64)
        missing = np.zeros(n, dtype=bool)
        for i, atom in enumerate(self.atoms):
            factor = factor_for(self.label, atom, columns, memory, n)
            if factor.missing is not None:
                missing |= factor.missing
            found = self._training[i].codes(factor, unseen=-1).astype(np.int64)
            codes = found if i == 0 else self._pair(codes, found, i)
        return codes.astype(np.int32), missing

    def names(
        self, columns: Mapping[str, Column], memory: Memory, n: int, rows: NDArray[np.int64]
    ) -> list[str]:
        """Names of the levels of some rows of new data, none of them missing, unseen ones too."""
        parts = []
        for atom in self.atoms:
            factor = factor_for(self.label, atom, columns, memory, n)
            assert factor.codes is not None and factor.levels is not None
            parts.append(map(str, factor.levels[factor.codes[rows]]))
        return [":".join(own) for own in zip(*parts, strict=True)]

    def _pair(self, left: NDArray[np.int64], right: NDArray[np.int64], i: int) -> NDArray[np.int64]:
        keys, known = left * len(self.atom_levels[i]) + right, self.pairs[i - 1]
        where = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where((known[where] == keys) & (left >= 0) & (right >= 0), where, -1)


def factors_of(
    label: str, atoms: Sequence[Expression], columns: Mapping[str, Column], memory: Memory, n: int
) -> list[Column]:
    """The factors, without missing values, whose combinations are a grouping factor."""
    factors = [factor_for(label, atom, columns, memory, n) for atom in atoms]
    for atom, factor in zip(atoms, factors, strict=True):
        if factor.missing is not None:
            raise DataError(
                f"grouping factor {atom.label} gives missing values",
                variable=atom.label,
                rows=np.flatnonzero(factor.missing)[:10].tolist(),
            )
    return factors


def factor_for(
    label: str, atom: Expression, columns: Mapping[str, Column], memory: Memory, n: int
) -> Column:
    """The factor that one part of a grouping factor is; codes of -1 where it is missing."""
    if atom.is_name:
        return columns[atom.names[0]].as_factor()
    values = value_of(atom, columns, memory, n)
    if not isinstance(values, Column) and len(values) != 1:
        raise FormulaError(f"grouping factor {label!r} has several columns", variable=label)
    return factor_of(label, values)


def combine(
    label: str, atoms: tuple[Expression, ...], factors: Sequence[Column], fewest: int = 2
) -> tuple[Grouping, Codes]:
    """Combinations, two at least, of the levels of a factor for each atom, as a grouping factor.

    One is enough (`fewest`) where all its terms have covariance structures: a time series, a map.
    """
    codes: Codes = np.zeros(0, dtype=np.int32)
    levels: NDArray[Any] = np.zeros(0)
    atom_levels: list[NDArray[Any]] = []
    pairs: list[NDArray[np.int64]] = []
    for i, factor in enumerate(factors):
        assert factor.codes is not None and factor.levels is not None
        atom_levels.append(factor.levels)
        if i == 0:
            codes, levels = factor.codes, factor.levels
            continue
        size = len(factor.levels)
        codes, known = factorize(codes.astype(np.int64) * size + factor.codes)
        pairs.append(known)
        levels = _joined(levels[known // size], factor.levels[known % size])
    if len(levels) < fewest:
        only = f" ({str(levels[0])!r})" if len(levels) else ""
        raise DataError(
            f"grouping factor {label!r} has only one level{only} in the rows used: a variance "
            "between groups needs at least two; take the term out or use another factor",
            variable=label,
        )
    return Grouping(label, atoms, tuple(atom_levels), tuple(pairs), levels), codes


def _joined(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    labels = np.empty(len(left), dtype=object)
    labels[:] = [f"{a}:{b}" for a, b in zip(left.tolist(), right.tolist(), strict=True)]
    return labels
