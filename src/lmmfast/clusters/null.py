"""The null distribution: the largest cluster of many maps without an effect."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from ..data.design import Design
from ..errors import FitError, LmmError, silenced
from ..many.asked import Asked
from ..many.checkpoint import fingerprint
from ..many.job import Columns, Job
from ..many.run import design_fingerprint
from ..many.streams import Streams
from .components import Rule
from .hypothesis import Tested
from .neighbours import Graph
from .points import Points


@dataclass(eq=False)
class Null(Job):
    """Replicates by number: of each the largest cluster, and how its fits ended.

    Number k is always the same, so that any part of them can run anywhere.
    """

    design: Design
    tested: Tested
    Y: np.ndarray  # (n, T)
    want: Asked
    storage: str
    rule: Rule
    graph: Graph
    known: np.ndarray  # (T,) points at which the data have a statistic
    streams: Streams
    count: int

    @property
    @abstractmethod
    def words(self) -> str:
        """What is done to the data."""

    @property
    def is_exhaustive(self) -> bool:
        """Whether there are no other replicates."""
        return False

    @property
    def untested(self) -> tuple[str, ...]:
        """Coefficients whose effects become noise."""
        return ()

    @abstractmethod
    def fits(self, number: int, state: Any) -> Points:
        """The fits of one replicate."""

    @abstractmethod
    def facts(self) -> tuple[Any, ...]:
        """What a replicate depends on besides the data and the model, for a checkpoint."""

    def run(self, state: Any, first: int, stop: int, part: Any) -> Columns:
        """Some replicates: the largest cluster of each, points that failed, doubtful fits.

        A replicate of which a point cannot be fitted, though the data can, has failed: its largest
        cluster is infinite, so that it counts against an effect.
        """
        with silenced():
            rows = [self._one(number, state) for number in range(first, stop)]
        names = ("largest", "failed", "doubtful")
        return {
            name: np.array(own) for name, own in zip(names, zip(*rows, strict=True), strict=True)
        }

    def fingerprint(self) -> str:
        """Of the design, the responses, how replicates are made, and how maps are read."""
        graph, seed = self.graph, self.streams.seed
        maps = astuple(self.rule), graph.shape, graph.one, graph.two, self.known
        model = design_fingerprint(self.design), self.want.facts(), len(self.tested.L)
        return fingerprint(model, self.Y, type(self).__name__, self.facts(), seed, maps)

    def _one(self, number: int, state: Any) -> tuple[float, int, int]:
        try:
            fits = self.fits(number, state)
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
    if not known.any() and (fits.status == "converged").any():
        raise FitError(
            f"test={tested.name!r} has columns that were dropped from the model: they are linear "
            "combinations of the others"
        )
    if not known.any():
        raise FitError(f"the model could not be fitted at any point: {fits.status[0]}")
    return known
