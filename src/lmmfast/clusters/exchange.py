"""What is exchangeable under the hypothesis: how the values of a predictor are shuffled."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..many.streams import Shared, Streams
from ..tables import joined

KINDS = ("labels", "within", "between")
SIGNS = "signs"  # which shuffles nothing
ROWS = "rows"
Names = Mapping[str, np.ndarray]  # numbers of the levels in each row (n), by the factor's name


@dataclass(frozen=True, eq=False)
class Exchange:
    """Values of a predictor that are shuffled within blocks.

    Attributes
    ----------
    kind : str
        "labels": the distinct values of every block trade places as a whole. "within": its units,
        in each of which the value is constant, trade values. "between": the same of a single block.
    block, unit : (n,) arrays of int
        Numbers of the block and of the unit of each row, from 0 on without gaps.
    value : (n,) array of int
        The number of its value among the k distinct ones, from 0 on.
    blocks, units : str
        What these are called: "subj", "rows".
    """

    kind: str
    block: np.ndarray
    unit: np.ndarray
    value: np.ndarray
    blocks: str
    units: str

    @property
    def size(self) -> int:
        """Number of blocks, or of the units of a single one."""
        return _count(self.unit if self.kind == "between" else self.block)

    @property
    def values(self) -> int:
        """Number of distinct values, k."""
        return _count(self.value)

    @property
    def words(self) -> str:
        """What is done, without saying of what."""
        if self.kind == "between":
            return f"shuffled among {self.size:,} {self.units}"
        where = f"within each of {self.size:,} {self.blocks}"
        if self.kind == "within":
            return f"shuffled among {self.units} {where}"
        return f"swapped {where}" if self.values == 2 else f"relabelled {where}"

    @cached_property
    def arrangements(self) -> float:
        """How many different ones there are, that of the data included; infinite for too many."""
        from scipy.special import gammaln

        if self.kind == "labels":
            present, k = (self.table(self.value, self.block) > 0).sum(axis=1), self.values
            log = float((gammaln(k + 1) - gammaln(k - present + 1)).sum())
        else:
            table = self.table(self._of_unit(self.value), self._of_unit(self.block))
            log = float((gammaln(table.sum(axis=1) + 1) - gammaln(table + 1).sum(axis=1)).sum())
        return float(round(math.exp(log))) if log < 30 else math.inf

    def table(self, value: np.ndarray, block: np.ndarray) -> np.ndarray:
        """(blocks, k): how often each block has each value."""
        shape = _count(self.block), self.values
        flat = np.bincount(block.astype(np.int64) * shape[1] + value, minlength=math.prod(shape))
        return flat.reshape(shape)

    # ---- arrangements: for each row the row whose value it gets (n) ------------------------------

    def drawn(self, rng: np.random.Generator) -> np.ndarray:
        """One at random, each with the same probability."""
        if self.kind == "labels":
            order = np.argsort(rng.random((self.size, self.values)), axis=1)
            return np.asarray(self._representatives[order[self.block, self.value]])
        block, value = self._of_unit(self.block), self._of_unit(self.value)
        made = np.empty_like(value)
        made[np.argsort(block, kind="stable")] = value[np.lexsort((rng.random(len(block)), block))]
        return np.asarray(self._representatives[made[self.unit]])

    def listed(self, number: int) -> np.ndarray:
        """One of all but that of the data, by its number from 0 on; where there are few."""
        number += number >= self._own
        made = np.empty_like(self.value)
        for places, ways in self._ways:
            number, way = divmod(number, len(ways))
            for rows, value in zip(places, ways[way], strict=True):
                made[rows] = value
        return np.asarray(self._representatives[made])

    @cached_property
    def _representatives(self) -> np.ndarray:
        """(k,): a row that has each value."""
        return np.unique(self.value, return_index=True)[1]

    def _of_unit(self, numbers: np.ndarray) -> np.ndarray:
        """What is constant within units, by unit."""
        found = np.empty(_count(self.unit), dtype=np.int64)
        found[self.unit] = numbers
        return found

    @cached_property
    def _ways(self) -> list[tuple[list[np.ndarray], list[tuple[int, ...]]]]:
        """Of each block the sets of rows that keep one value, and all ways to give them values."""
        found = []
        for block in range(_count(self.block)):
            rows = np.flatnonzero(self.block == block)
            if self.kind == "labels":
                own = self.value[rows]
                places = [rows[own == value] for value in np.unique(own)]
                ways = list(itertools.permutations(range(self.values), len(places)))
            else:
                own = self.unit[rows]
                places = [rows[own == unit] for unit in np.unique(own)]
                ways = list(_distinct([int(self.value[place[0]]) for place in places]))
            found.append((places, ways))
        return found

    @cached_property
    def _own(self) -> int:
        """The number of the arrangement of the data."""
        number, radix = 0, 1
        for places, ways in self._ways:
            number += radix * ways.index(tuple(int(self.value[rows[0]]) for rows in places))
            radix *= len(ways)
        return number


@dataclass(frozen=True, eq=False)
class Arrangements:
    """All but that of the data where these are no more than asked for, else random ones."""

    exchange: Exchange
    streams: Streams
    asked: int

    @property
    def all(self) -> bool:
        """Whether every arrangement is among them."""
        return self.exchange.arrangements - 1 <= self.asked

    @property
    def count(self) -> int:
        return int(self.exchange.arrangements) - 1 if self.all else self.asked

    def source(self, number: int, generators: Shared) -> np.ndarray:
        """For each row the row whose value it gets; generators: one thread's, of the streams."""
        if self.all:
            return self.exchange.listed(number)
        return self.exchange.drawn(generators.at(number))


def exchange_of(
    permute: str,
    by: str | None,
    factors: Names,
    value: np.ndarray,
    what: str,
    together: str | None = None,
) -> Exchange:
    """The exchange that is asked for, of a predictor whose values have these numbers.

    `factors` are those that could be blocks or units, the likelier first; `by` names one, or none,
    `together` the units of "within".
    """
    if permute not in ("auto", *KINDS):
        known = joined([repr(kind) for kind in ("auto", *KINDS, SIGNS)])
        raise ValueError(f"permute must be one of {known}, not {permute!r}")
    constant = {name: own for name, own in factors.items() if _is_constant(value, own)}
    varying = {name: own for name, own in factors.items() if name not in constant}
    if by is not None:
        chosen = [by]
    elif permute == "between":
        chosen = list(constant)
    else:  # units of a larger one, in which the predictor varies, are no units of their own
        chosen = [a for a, own in constant.items() if not _inside(own, varying)]
    whole = [name for name in chosen if name in constant]
    if permute == "between" or (permute == "auto" and whole):
        if not whole:
            raise ValueError(
                f"permute='between' shuffles the values of whole units, but {what} varies within "
                f"the levels of {joined([by] if by else list(factors))}: name other units by by=, "
                "or write permute='within'"
            )
        return _checked(_between(whole, factors, value), what)
    if by is None:  # the first that is in no larger one
        others = {a: {b: own for b, own in varying.items() if b != a} for a in varying}
        names = [a for a, own in varying.items() if not _inside(own, others[a])] or list(varying)
    else:
        names = [by] if by in varying else []
    if not names:
        raise ValueError(
            f"permute={permute!r}: {what} does not vary within the levels of "
            f"{joined([by] if by else list(factors))}: write permute='between', or name larger "
            "units by by="
        )
    own = constant if together is None else _only(together, names[0], factors, constant, what)
    return _checked(_within(permute, names[0], factors, own, value), what)


def _only(name: str, block: str, factors: Names, constant: Names, what: str) -> Names:
    """The units that are asked for."""
    if name not in constant:
        raise ValueError(f"together={name!r}: {what} varies within its levels")
    if not _is_constant(factors[block], constant[name]):
        raise ValueError(f"together={name!r}: its levels are not within those of {block}")
    return {name: constant[name]}


def _between(names: Sequence[str], factors: Names, value: np.ndarray) -> Exchange:
    """Among the largest of these units."""
    name = min(names, key=lambda own: _count(factors[own]))
    return Exchange("between", np.zeros_like(value), factors[name], value, "", name)


def _within(
    permute: str, name: str, factors: Names, constant: Names, value: np.ndarray
) -> Exchange:
    """Within the levels of a factor: labels, or its largest units with a constant value."""
    block = factors[name]
    nested = [own for own in constant if _is_constant(block, constant[own])]
    if nested:
        units = min(nested, key=lambda own: _count(constant[own]))
        found = Exchange("within", block, constant[units], value, name, units)
    else:
        found = Exchange("within", block, np.arange(len(value)), value, name, ROWS)
    complete = bool((found.table(value, block) > 0).all())
    if permute == "labels" or (permute == "auto" and complete):
        return Exchange("labels", block, found.unit, value, name, found.units)
    return found


def _inside(unit: np.ndarray, larger: Names) -> bool:
    """Whether a factor is nested in one of others."""
    return any(_is_constant(own, unit) for own in larger.values())


def _is_constant(value: np.ndarray, unit: np.ndarray) -> bool:
    """Whether each unit has one value only."""
    first = np.empty(_count(unit), dtype=np.int64)
    first[unit] = value
    return bool((first[unit] == value).all())


def _count(numbers: np.ndarray) -> int:
    return int(numbers.max()) + 1


def _checked(exchange: Exchange, what: str) -> Exchange:
    if exchange.arrangements < 2:
        raise ValueError(
            f"there is nothing to shuffle: {what} can be {exchange.words} in one way only"
        )
    return exchange


def _distinct(values: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All different orders of some numbers, ascending (Knuth, *The Art of Computer Programming*
    4A, 7.2.1.2, algorithm L)."""
    left = sorted(values)
    while True:
        yield tuple(left)
        i = next((i for i in range(len(left) - 2, -1, -1) if left[i] < left[i + 1]), None)
        if i is None:
            return
        j = next(j for j in range(len(left) - 1, i, -1) if left[j] > left[i])
        left[i], left[j] = left[j], left[i]
        left[i + 1 :] = left[i + 1 :][::-1]
