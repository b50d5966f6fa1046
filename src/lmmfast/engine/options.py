"""The options of a fit, checked: one line in words for each value that means nothing."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from .free import Free
from .watch import Watch

__all__ = ["MAX_EVALS", "MOST_STARTS", "Options"]

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
        check_reml(self.reml)
        check_callback(self.callback)
        check_free(self.free)
        self.max_evals = whole("max_evals", self.max_evals, 1, MOST_EVALS)
        self.starts = whole("starts", self.starts, 0, MOST_STARTS)
        limit = seconds("max_seconds", self.max_seconds)
        self.watch = Watch(self.verbose, self.callback, limit, self.began)


def whole(name: str, value: Any, least: int, most: int) -> int:
    """A whole number from least to most.

    Raises
    ------
    TypeError
        When it is not a whole number.
    ValueError
        When it is too small or too large.
    """
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    if value > most:
        raise ValueError(f"{name} must be at most {most:,}, not {value}")
    return int(value)


def seconds(name: str, value: Any) -> float | None:
    """A time in seconds, zero or more; None and infinity: no limit.

    Raises
    ------
    TypeError
        When it is not a number.
    ValueError
        When it is negative or NaN.
    """
    if value is None:
        return None
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if math.isnan(value) or value < 0:
        raise ValueError(f"{name} must be zero or more seconds, not {value}")
    return float(value) if math.isfinite(value) else None


def check_reml(value: Any) -> None:
    """True or False; else TypeError."""
    if value not in (True, False):
        raise TypeError(f"reml must be True or False, not {value!r}")


def check_callback(value: Any) -> None:
    """A function or None; else TypeError."""
    if value is not None and not callable(value):
        raise TypeError(f"callback must be a function of an Evaluation, not {value!r}")


def check_free(value: Any) -> None:
    """A `Free` or None; else TypeError."""
    if value is not None and not isinstance(value, Free):
        raise TypeError(f"free must be a Free (what of theta moves), not {value!r}")
