"""Watching a fit: progress lines on stderr, the user's callback, a time limit."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from .estimates import Evaluation

__all__ = ["Watch"]


class Watch:
    """Progress line, user callback and time limit of one fit."""

    def __init__(
        self,
        verbose: bool = False,
        callback: Callable[[Evaluation], object] | None = None,
        max_seconds: float | None = None,
        asked: float | None = None,
    ) -> None:
        """max_seconds count from asked, a time of time.perf_counter: set-up included."""
        self.verbose, self.callback, self.max_seconds = verbose, callback, max_seconds
        self.asked = time.perf_counter() if asked is None else asked
        self.reason = ""

    def active(self, began: float) -> Callable[..., bool] | None:
        """The callback for the compiled fit, None when there is nothing to watch."""
        if not self.verbose and self.callback is None and self.max_seconds is None:
            return None
        return partial(self._see, began)

    def _see(
        self, began: float, n: int, objective: float, best: float, radius: float, predicted: float
    ) -> bool:
        now = Evaluation(n, objective, best, radius, predicted, time.perf_counter() - began)
        if self.verbose:
            print(
                f"{n:4d}  objective {objective:.8f}  best {best:.8f}  radius {radius:.2g}  "
                f"predicted {predicted:.2g}  {now.seconds:.3f} s",
                file=sys.stderr,
            )
        if self.callback is not None and self.callback(now):
            self.reason = "stopped by callback"
        elif self._late():
            self.reason = "out of time"
        return bool(self.reason)

    def _late(self) -> bool:
        return self.max_seconds is not None and time.perf_counter() - self.asked > self.max_seconds
