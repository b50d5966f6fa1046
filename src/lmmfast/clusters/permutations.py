"""The null distribution: the same model with shuffled values, at every point, many times."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.model import Model
from ..errors import FitError, LmmError, LmmWarning
from ..many.streams import Shared
from .components import Rule
from .exchange import Arrangements
from .hypothesis import Tested
from .neighbours import Graph
from .points import Points, fitted
from .shuffled import Shuffled


@dataclass(frozen=True, eq=False)
class How:
    """How the model is fitted at each point."""

    reml: bool
    max_evals: int
    storage: str


@dataclass(frozen=True, eq=False)
class Permutations:
    """Permutations by number: of each the largest cluster, and how its fits ended.

    Number k is always the same, so that any part of them can run anywhere.
    """

    shuffled: Shuffled
    arrangements: Arrangements
    tested: Tested
    Y: np.ndarray  # (n, T)
    how: How
    rule: Rule
    graph: Graph
    known: np.ndarray  # (T,) points at which the data have a statistic

    @property
    def count(self) -> int:
        return self.arrangements.count

    def begin(self) -> Shared:
        """The random numbers of a thread; every permutation has a model of its own."""
        return self.arrangements.streams.shared()

    def part(self, first: int, stop: int) -> None:
        """The job has everything."""

    def run(self, state: Shared, first: int, stop: int, part: Any) -> dict[str, np.ndarray]:
        """Some permutations: the largest cluster of each, points that failed, doubtful fits.

        A permutation of which a point cannot be fitted, though the data can, has failed: its
        largest cluster is infinite, so that it counts against an effect.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LmmWarning)
            rows = [self._one(number, state) for number in range(first, stop)]
        largest, failed, doubtful = zip(*rows, strict=True)
        return {
            "largest": np.array(largest),
            "failed": np.array(failed),
            "doubtful": np.array(doubtful),
        }

    def _one(self, number: int, generators: Shared) -> tuple[float, int, int]:
        try:
            design = self.shuffled.design_at(self.arrangements.source(number, generators))
            fits = points_of(design, self.Y, self.tested, self.how)
        except LmmError:
            return np.inf, int(self.known.sum()), 0
        statistic = np.where(self.known, self.tested.of(fits), np.nan)
        failed = int((self.known & np.isnan(statistic)).sum())
        found = np.inf if failed else self.rule.largest(statistic, self.graph)
        doubtful = (fits.status != "converged") & np.isfinite(statistic)
        return found, failed, int(doubtful.sum())


def points_of(design: Any, Y: np.ndarray, tested: Tested, how: How) -> Points:
    """The fits of a design at every point."""
    model = Model(design, storage=how.storage)
    return fitted(model, Y, tested.contrasts, reml=how.reml, max_evals=how.max_evals)


def known_of(fits: Points, tested: Tested) -> np.ndarray:
    """(T,): at which points the data have a statistic, one at least."""
    known: np.ndarray = np.isfinite(tested.of(fits))
    if not known.any():
        raise FitError(f"the model could not be fitted at any point: {fits.status[0]}")
    return known
