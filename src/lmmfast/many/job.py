"""What a job is: replicates, each a row of numbers that depends on no other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

Columns = dict[str, np.ndarray]  # by name: one row a replicate


class Job(ABC):
    """Replicates 0 .. count - 1, each computed alone, so that it does not matter how they are cut.

    A job is pickled once for each worker; what only some replicates need travels as their `part`.
    """

    count: int

    @abstractmethod
    def begin(self) -> Any:
        """What one thread needs for itself: its models."""

    def part(self, first: int, stop: int) -> Any:
        """What these replicates need besides the job: nothing, unless a job says otherwise."""
        return None

    @abstractmethod
    def run(self, state: Any, first: int, stop: int, part: Any) -> Columns:
        """Replicates first .. stop - 1, a row each."""

    @abstractmethod
    def fingerprint(self) -> str:
        """What a checkpoint must agree with: everything that results depend on, but `part`."""


def checked_threads(threads: Any) -> int:
    """A number of threads."""
    if not isinstance(threads, (int, np.integer)) or isinstance(threads, bool) or threads < 1:
        raise ValueError(f"threads must be a whole number from 1 on, not {threads!r}")
    return int(threads)


def checked_count(n: Any, what: str = "n") -> int:
    """A number of replicates."""
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 1:
        raise ValueError(f"{what} must be a whole number from 1 on, not {n!r}")
    return int(n)
