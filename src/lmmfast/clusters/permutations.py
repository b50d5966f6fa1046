"""The null distribution: the same model with shuffled values, at every point, many times."""

from __future__ import annotations

import warnings
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from ..errors import FitError, LmmError, LmmWarning
from ..many.asked import Asked
from ..many.checkpoint import fingerprint
from ..many.job import Columns, Job
from ..many.run import design_fingerprint
from ..many.streams import Shared
from .components import Rule
from .exchange import Arrangements
from .hypothesis import Tested
from .neighbours import Graph
from .points import Permuted, Points, points_of
from .shuffled import Shuffled


@dataclass(eq=False)
class Permutations(Job):
    """Permutations by number: of each the largest cluster, and how its fits ended.

    Number k is always the same, so that any part of them can run anywhere.
    """

    shuffled: Shuffled
    arrangements: Arrangements
    tested: Tested
    Y: np.ndarray  # (n, T)
    want: Asked
    storage: str
    rule: Rule
    graph: Graph
    known: np.ndarray  # (T,) points at which the data have a statistic
    count: int

    def begin(self) -> Shared:
        """The random numbers of a thread; every permutation has a model of its own."""
        return self.arrangements.streams.shared()

    def run(self, state: Shared, first: int, stop: int, part: Any) -> Columns:
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

    def fingerprint(self) -> str:
        """Of the design, the responses, what is shuffled how, and how maps are read."""
        exchange, graph = self.arrangements.exchange, self.graph
        shuffled = exchange.kind, exchange.block, exchange.unit, exchange.value
        how = self.arrangements.streams.seed, self.arrangements.all, self.shuffled.variables
        maps = astuple(self.rule), graph.shape, graph.one, graph.two, self.known
        model = design_fingerprint(self.shuffled.design), self.want.facts(), len(self.tested.L)
        return fingerprint(model, self.Y, shuffled, how, maps)

    def _one(self, number: int, generators: Shared) -> tuple[float, int, int]:
        try:
            design = self.shuffled.design_at(self.arrangements.source(number, generators))
            model = Permuted(design, storage=self.storage)
            fits = points_of(model, self.Y, self.want)
        except LmmError:
            return np.inf, int(self.known.sum()), 0
        statistic = np.where(self.known, self.tested.of(fits), np.nan)
        failed = int((self.known & np.isnan(statistic)).sum())
        found = np.inf if failed else self.rule.largest(statistic, self.graph)
        doubtful = (fits.status != "converged") & np.isfinite(statistic)
        return found, failed, int(doubtful.sum())


def known_of(fits: Points, tested: Tested) -> np.ndarray:
    """(T,): at which points the data have a statistic, one at least."""
    known: np.ndarray = np.isfinite(tested.of(fits))
    if not known.any():
        raise FitError(f"the model could not be fitted at any point: {fits.status[0]}")
    return known
