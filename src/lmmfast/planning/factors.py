"""Factors of a design: names, levels, the cells that they make, and units shared out over these."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Factor:
    """A name and its levels; numbers are a covariate."""

    name: str
    levels: tuple[Any, ...]

    def column(self, codes: np.ndarray) -> Any:
        """The levels of rows: numbers or booleans, or a pandas categorical in the order given."""
        kinds = {type(level) for level in self.levels}
        if kinds <= {bool, np.bool_}:
            return np.array(self.levels, dtype=bool)[codes]
        if all(isinstance(level, numbers.Real) for level in self.levels):
            return np.array(self.levels)[codes]
        return categorical(codes, [str(level) for level in self.levels])


@dataclass(frozen=True)
class Cells:
    """All combinations of the levels of some factors; the last one changes first."""

    factors: tuple[Factor, ...]

    @classmethod
    def read(cls, given: Any, role: str) -> Cells:
        """Of ``{"cond": ["a", "b"]}``."""
        if given is None:
            return cls(())
        if not isinstance(given, Mapping):
            raise ValueError(
                f'{role} must name factors and their levels, as in {{"cond": ["a", "b"]}}, '
                f"not {given!r}"
            )
        found = (Factor(str(name), _levels(levels, name, role)) for name, levels in given.items())
        return cls(tuple(found))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(factor.name for factor in self.factors)

    @property
    def count(self) -> int:
        """Number of combinations; 1 without factors."""
        return math.prod(len(factor.levels) for factor in self.factors)

    def chosen(self, names: Iterable[str]) -> Cells:
        """Of some of the factors."""
        wanted = set(names)
        return Cells(tuple(factor for factor in self.factors if factor.name in wanted))

    def columns(self, cell: np.ndarray) -> dict[str, Any]:
        """A column a factor, of rows in these cells (n)."""
        shape = [len(factor.levels) for factor in self.factors]
        codes = np.unravel_index(cell, shape) if shape else ()
        return {
            factor.name: factor.column(code)
            for factor, code in zip(self.factors, codes, strict=True)
        }


def _levels(given: Any, name: Any, role: str) -> tuple[Any, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ValueError(f"{role}: give the levels of {name!r} as a list, not {given!r}")
    levels = tuple(given)
    if len(levels) < 2 or len(set(levels)) < len(levels):
        raise ValueError(f"{role}: {name!r} needs two or more different levels, not {given!r}")
    return levels


def categorical(codes: np.ndarray, labels: Sequence[str]) -> Any:
    """A pandas categorical with these labels, in this order."""
    import pandas as pd

    return pd.Categorical.from_codes(codes.astype(np.int64), categories=pd.Index(list(labels)))


def labels_of(letter: str, count: int) -> list[str]:
    """S01, S02, ...: sorted as text they are in order."""
    width = len(str(count))
    return [f"{letter}{i + 1:0{width}d}" for i in range(count)]


def interleaved(counts: Sequence[int]) -> np.ndarray:
    """The cells of units, so many in each, in an order whose every beginning has nearly the same
    shares; with equal counts 0, 1, 2, 0, 1, 2, ... ."""
    cell = np.repeat(np.arange(len(counts)), counts)
    place = np.concatenate([(np.arange(count) + 0.5) / max(count, 1) for count in counts])
    return np.asarray(cell[np.lexsort((cell, place))])


def occurrence(cell: np.ndarray) -> np.ndarray:
    """For each unit how many before it are in the same cell."""
    order = np.argsort(cell, kind="stable")
    firsts = np.searchsorted(cell[order], cell[order])
    out = np.empty(len(cell), dtype=np.intp)
    out[order] = np.arange(len(cell)) - firsts
    return out
