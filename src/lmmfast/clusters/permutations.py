"""Permutations: the same model with the values of a predictor shuffled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..many.streams import Shared
from .exchange import Arrangements
from .null import Null
from .points import Permuted, Points, points_of
from .shuffled import Shuffled


@dataclass(eq=False)
class Permutations(Null):
    """A design with shuffled values, and the data."""

    shuffled: Shuffled
    arrangements: Arrangements

    @property
    def words(self) -> str:
        return f"{self.shuffled.words} {self.arrangements.exchange.words}"

    @property
    def is_exhaustive(self) -> bool:
        return self.arrangements.all

    @property
    def untested(self) -> tuple[str, ...]:
        """Those of what is shuffled that are not in the hypothesis."""
        too = self.shuffled.columns_of() & ~self.tested.L.any(axis=0)
        return tuple(str(self.design.x_names[j]) for j in np.flatnonzero(too))

    def begin(self) -> Shared:
        """The random numbers of a thread; every permutation has a model of its own."""
        return self.streams.shared()

    def fits(self, number: int, state: Shared) -> Points:
        design = self.shuffled.design_at(self.arrangements.source(number, state))
        return points_of(Permuted(design, storage=self.storage), self.Y, self.want)

    def facts(self) -> tuple[Any, ...]:
        own = self.arrangements.exchange
        exchange = own.kind, own.block, own.unit, own.value
        return self.shuffled.variables, self.arrangements.all, exchange
