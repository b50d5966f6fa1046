"""The options of a fit, checked, and who watches it: progress lines, a callback, a time limit."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from .estimates import Evaluation
from .free import Free

MOST_EVALS = 10**9  # no fit lasts so long
MOST_STARTS = 100_000
MAX_EVALS = 500  # far above any fit seen (48): a limit for the pathological


@dataclass
class Options:
    """The options of a fit, checked, and when it was asked for."""

    reml: Any = True
    start: Any = None
    verbose: Any = False
    callback: Any = None
    max_seconds: Any = None
    max_evals: Any = MAX_EVALS
    starts: Any = 0
    free: Any = None
    began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        if self.reml not in (True, False):
            raise TypeError(f"reml must be True or False, not {self.reml!r}")
        if self.callback is not None and not callable(self.callback):
            raise TypeError(f"callback must be a function of an Evaluation, not {self.callback!r}")
        if self.free is not None and not isinstance(self.free, Free):
            raise TypeError(f"free must be a Free (what of theta moves), not {self.free!r}")
        self.max_evals = whole("max_evals", self.max_evals, 1, MOST_EVALS)
        self.starts = whole("starts", self.starts, 0, MOST_STARTS)
        limit = seconds("max_seconds", self.max_seconds)
        self.watch = Watch(self.verbose, self.callback, limit, self.began)


def whole(name: str, value: Any, least: int, most: int) -> int:
    """A whole number from least to most."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    if value > most:
        raise ValueError(f"{name} must be at most {most:,}, not {value}")
    return int(value)


def seconds(name: str, value: Any) -> float | None:
    """A time in seconds, zero or more; None and infinity: no limit."""
    if value is None:
        return None
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if math.isnan(value) or value < 0:
        raise ValueError(f"{name} must be zero or more seconds, not {value}")
    return float(value) if math.isfinite(value) else None


@dataclass
class Watch:
    """Progress line, user callback and time limit of one fit."""

    verbose: bool = False
    callback: Callable[[Evaluation], object] | None = None
    max_seconds: float | None = None  # from asked on, set-up included
    asked: float = field(default_factory=time.perf_counter)
    reason: str = ""

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
        elif self.max_seconds is not None and time.perf_counter() - self.asked > self.max_seconds:
            self.reason = "out of time"
        return bool(self.reason)
