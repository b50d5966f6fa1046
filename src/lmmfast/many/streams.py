"""Random numbers by replicate: the same whichever thread, worker or later run draws them."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np


class Streams:
    """One stream of random numbers for each replicate of a simulation.

    Philox is a function of a key and a counter (Salmon, Moraes, Dror & Shaw 2011, *SC11*): the seed
    makes the key, replicate and branch are the upper half of the counter, so that streams do not
    overlap and any of them is at hand without those before.

    Parameters
    ----------
    seed : int, optional
        From 0 on. Default: one that the operating system draws.
    branch : int, default 0
        For another set of streams of the same seed.

    Attributes
    ----------
    seed : int
    """

    def __init__(self, seed: Any = None, branch: int = 0) -> None:
        self.seed = checked_seed(seed)
        self.branch = branch

    def __getstate__(self) -> dict[str, Any]:
        return {"seed": self.seed, "branch": self.branch}

    def generator(self, replicate: int) -> np.random.Generator:
        """The random numbers of one replicate (from 0 on), from their beginning."""
        return self.shared().at(replicate)

    def shared(self) -> Shared:
        """The streams one after the other, by one generator: for many short ones."""
        return Shared(self)


class Shared:
    """A generator that is put at the beginning of one stream after the other."""

    def __init__(self, streams: Streams) -> None:
        self._bits = np.random.Philox(np.random.SeedSequence(streams.seed))
        self._generator = np.random.Generator(self._bits)
        self._state: Any = self._bits.state
        self._counter = self._state["state"]["counter"]
        self._counter[2] = streams.branch

    def at(self, replicate: int) -> np.random.Generator:
        """The generator, at the beginning of this replicate's stream."""
        self._counter[3] = replicate
        self._bits.state = self._state
        return self._generator


def checked_seed(seed: Any) -> int:
    """A seed as a whole number; a new one for None."""
    if seed is None:
        return int(np.random.SeedSequence().entropy)  # type: ignore[arg-type]
    try:
        found = operator.index(seed)
    except TypeError:
        found = -1
    if found < 0 or isinstance(seed, bool):
        raise ValueError(f"seed must be a whole number from 0 on, or None, not {seed!r}")
    return found
