"""Rows with several levels of one grouping factor, ``(1 | mm(judge1, judge2))``.

The random part of a row is sum_s w_s z'b of its levels, with weights w that sum to one unless
others are given (Browne, Goldstein & Rasbash 2001, *Statistical Modelling* 1, 103-124).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..formula.column import Codes, Column, first_rows
from ..formula.expressions import Expression, Memory
from ..freeze import Frozen
from .columns import Levels
from .encode import value_of
from .grouping import Grouping, factor_for
from .members import Members

if TYPE_CHECKING:
    from ..formula.bars import Bar

Matrix = NDArray[np.float64]
SHOWN = 5  # levels that a message names


@dataclass(frozen=True, eq=False)
class MemberGrouping(Frozen, arrays=("levels",)):
    """mm(a, b): factors that share their levels, and how to find these in new data."""

    label: str  # "mm(judge1, judge2)"
    factors: tuple[Expression, ...]
    shares: tuple[Expression, ...]  # weights, one for each factor; none: equal ones
    scale: bool  # whether weights are divided by their sum
    levels: NDArray[Any]

    @property
    def atoms(self) -> tuple[Expression, ...]:
        """What it is made of."""
        return (*self.factors, *self.shares)

    @cached_property
    def _training(self) -> Levels:
        return Levels(self.levels)

    def among(self, levels: NDArray[Any]) -> MemberGrouping:
        """The same factor with these levels, of which the data may not have all."""
        return replace(self, levels=levels)

    def codes(
        self, columns: Mapping[str, Column], memory: Memory, n: int
    ) -> tuple[Members, NDArray[np.bool_]]:
        """Levels of each row of new data (-1: unseen), and whether none is known or a level that
        counts is missing."""
        factors = [factor_for(self.label, atom, columns, memory, n) for atom in self.factors]
        labels, found = _shared(factors)
        weights, missing = self.weights(found, columns, memory, n)
        as_column = Column.factor(self.label, np.arange(len(labels), dtype=np.int32), labels)
        place = self._training.codes(as_column, unseen=-1)
        members = Members.of(found, weights, len(labels))
        return members.moved(place, len(self.levels)), missing

    def names(
        self, columns: Mapping[str, Column], memory: Memory, n: int, rows: NDArray[np.int64]
    ) -> list[str]:
        """Names of levels of some rows of new data that the fit has not seen."""
        factors = [factor_for(self.label, atom, columns, memory, n) for atom in self.factors]
        labels, found = _shared(factors)
        as_column = Column.factor(self.label, np.arange(len(labels), dtype=np.int32), labels)
        place = np.append(self._training.codes(as_column, unseen=-1), 0)
        codes = found[rows]
        return [str(labels[code]) for code in codes[place[codes] < 0].tolist()]

    def weights(
        self, codes: NDArray[np.int32], columns: Mapping[str, Column], memory: Memory, n: int
    ) -> tuple[Matrix, NDArray[np.bool_]]:
        """Weights (n, s), zero where a level is missing, and rows that lack a level that counts."""
        there = codes >= 0
        if not self.shares:
            count = there.sum(axis=1)
            with np.errstate(divide="ignore"):
                weights = np.where(there, 1.0 / count[:, None], 0.0)
            return weights, np.asarray(count == 0)
        given = np.column_stack([self._share(atom, columns, memory, n) for atom in self.shares])
        missing = np.asarray((~there & (given != 0)).any(axis=1) | np.isnan(given).any(axis=1))
        if self.scale:
            total = given.sum(axis=1)
            bad = (np.abs(total) <= 1e-12 * np.abs(given).max(axis=1)) & ~missing
            if bad.any():
                raise DataError(
                    f"the weights of {self.label} sum to zero in {first_rows(bad)}, so they cannot "
                    "be made to sum to one: leave these rows out, or say scale=FALSE",
                    variable=self.label,
                    rows=np.flatnonzero(bad)[:10].tolist(),
                )
            given = given / np.where(missing | bad, 1.0, total)[:, None]
        return np.where(there, given, 0.0), missing

    def _share(
        self, atom: Expression, columns: Mapping[str, Column], memory: Memory, n: int
    ) -> Matrix:
        value = value_of(atom, columns, memory, n)
        if isinstance(value, Column) or len(value) != 1:
            raise DataError(
                f"{atom.label!r}, used as a weight in {self.label}, is not one number for each row",
                variable=atom.label,
            )
        return np.asarray(next(iter(value.values())), np.float64)


@dataclass(frozen=True, eq=False)
class SpannedGrouping:
    """A factor of which some levels are sums of others: those of a singular relationship matrix."""

    inner: Grouping | MemberGrouping  # of all levels, the r with effects of their own first
    spread: Any  # [I; C] (levels, r), scipy.sparse.csr_matrix

    @property
    def label(self) -> str:
        """The factor's name."""
        return self.inner.label

    @property
    def atoms(self) -> tuple[Expression, ...]:
        """What it is made of."""
        return self.inner.atoms

    @property
    def levels(self) -> NDArray[Any]:
        """Those with effects of their own."""
        return self.inner.levels[: self.spread.shape[1]]

    def spanned(self, codes: Codes | Members) -> Codes | Members:
        """Rows' levels among the r, from those among all; still one a row where none is a sum."""
        q, r = self.spread.shape
        if isinstance(codes, Members):
            return codes.through(self.spread)
        if codes.max(initial=-1) < r:
            return codes
        return Members.of(codes[:, None], np.ones((len(codes), 1)), q).through(self.spread)

    def codes(
        self, columns: Mapping[str, Column], memory: Memory, n: int
    ) -> tuple[Codes | Members, NDArray[np.bool_]]:
        """Levels of each row of new data, and whether they are missing."""
        codes, missing = self.inner.codes(columns, memory, n)
        return self.spanned(codes), missing

    def names(
        self, columns: Mapping[str, Column], memory: Memory, n: int, rows: NDArray[np.int64]
    ) -> list[str]:
        """Names of levels of some rows of new data, unseen ones too."""
        return self.inner.names(columns, memory, n, rows)


# A grouping factor and the level, or levels, of each row.
Grouped = tuple[Grouping, Codes] | tuple[MemberGrouping, Members]


def not_seen(group: str, names: Sequence[str]) -> DataError:
    """The error for levels of new rows that have several, which the fit has not seen."""
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - SHOWN} more" if len(distinct) > SHOWN else ""
    return DataError(
        f"levels of {group!r} that the fit has not seen: {', '.join(distinct[:SHOWN])}{more}",
        variable=group,
    )


def members_of(
    label: str,
    atoms: Sequence[Expression],
    bar: Bar,
    columns: Mapping[str, Column],
    memory: Memory,
    n: int,
) -> tuple[MemberGrouping, Members]:
    """The grouping factor of a bar with mm() and the levels of each row.

    Raises
    ------
    DataError
        When fewer than two levels have a weight, or weights are not finite.
    """
    own = _of_bar(label, atoms, bar)
    factors = [factor_for(label, atom, columns, memory, n) for atom in own.factors]
    labels, codes = _shared(factors)
    weights, missing = own.weights(codes, columns, memory, n)
    bad = missing | ~np.isfinite(weights).all(axis=1)
    if bad.any():
        raise DataError(
            f"{label} lacks a level, or a finite weight, in {first_rows(bad)}",
            variable=label,
            rows=np.flatnonzero(bad)[:10].tolist(),
        )
    members = Members.of(codes, weights, len(labels))
    used = np.bincount(members.level, minlength=len(labels)) > 0
    if used.sum() < 2:
        raise DataError(
            f"grouping factor {label!r} has fewer than two levels in the rows used: a variance "
            "between groups needs at least two; take the term out or use other factors",
            variable=label,
        )
    place = np.where(used, np.cumsum(used) - 1, -1)
    own = own.among(labels[used])
    return own, members.moved(place, len(own.levels))


def lacking(
    label: str,
    atoms: Sequence[Expression],
    bar: Bar,
    columns: Mapping[str, Column],
    memory: Memory,
    n: int,
) -> NDArray[np.bool_]:
    """Rows in which a level that counts is missing (n), or all are."""
    own = _of_bar(label, atoms, bar)
    factors = [factor_for(label, atom, columns, memory, n) for atom in own.factors]
    there = np.column_stack([factor.codes >= 0 for factor in factors])
    if not own.shares:
        return np.asarray(~there.any(axis=1))
    given = np.column_stack([own._share(atom, columns, memory, n) for atom in own.shares])
    return np.asarray((~there & (given != 0)).any(axis=1) | np.isnan(given).any(axis=1))


def _of_bar(label: str, atoms: Sequence[Expression], bar: Bar) -> MemberGrouping:
    assert bar.membership is not None
    count = len(bar.membership.factors)
    factors, shares = tuple(atoms[:count]), tuple(atoms[count:])
    return MemberGrouping(label, factors, shares, bar.membership.scale, np.zeros(0))


def _shared(factors: Sequence[Column]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """The levels that some factors have together, and codes among these (n, s).

    Sorted where those of every factor are; else those of the first in their order, then others.
    """
    known: dict[Any, int] = {}
    for factor in factors:
        for level in factor.levels.tolist():
            known.setdefault(level, len(known))
    labels = list(known)
    if all(_ascends(factor.levels.tolist()) for factor in factors):
        with suppress(TypeError):  # texts in one factor, numbers in another
            labels.sort()
    known = {label: i for i, label in enumerate(labels)}
    codes = []
    for factor in factors:
        place = np.array([*(known[level] for level in factor.levels.tolist()), -1], np.int32)
        codes.append(place[factor.codes])
    out = np.empty(len(labels), object)
    out[:] = labels
    plain = {factor.levels.dtype for factor in factors}
    same = plain.pop() if len(plain) == 1 else np.dtype(object)
    return out.astype(same), np.column_stack(codes)


def _ascends(levels: Sequence[Any]) -> bool:
    try:
        return all(a < b for a, b in pairwise(levels))
    except TypeError:
        return False
