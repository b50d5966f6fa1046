"""Trials that are planned and lost."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

TRIALS = "trials"


def without_lost(frame: pd.DataFrame, dropout: Any, rng: np.random.Generator) -> pd.DataFrame:
    """The rows that are left; categories without rows are gone."""
    lost = _lost(frame, dropout, rng)
    if not lost.any():
        return frame
    if lost.all():
        raise ValueError("dropout: no row is left")
    left = frame[~lost].reset_index(drop=True)
    for name in left.columns:
        if left[name].dtype == "category":
            left[name] = left[name].cat.remove_unused_categories()
    return left


def _lost(frame: pd.DataFrame, dropout: Any, rng: np.random.Generator) -> np.ndarray:
    if callable(dropout):
        return _told(frame, dropout, rng)
    shares = dropout if isinstance(dropout, Mapping) else {TRIALS: dropout}
    lost = np.zeros(len(frame), dtype=bool)
    # whole subjects first: shares of trials are of those that are left
    for name in sorted(shares, key=lambda name: name == TRIALS):
        share = _share(shares[name], name)
        if name == TRIALS:
            left = np.flatnonzero(~lost)
            lost[rng.choice(left, round(share * len(left)), replace=False)] = True
        elif name in frame.columns:
            levels, codes = np.unique(frame[name].to_numpy(), return_inverse=True)
            gone = rng.choice(len(levels), round(share * len(levels)), replace=False)
            lost |= np.isin(codes, gone)
        else:
            known = ", ".join(map(repr, [TRIALS, *frame.columns]))
            raise ValueError(f"dropout: {name!r} is none of {known}")
    return lost


def _share(value: Any, name: Any) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 <= float(value) < 1:
        raise ValueError(
            f"dropout of {name} must be a share from 0 to below 1, as in 0.1, not {value!r}"
        )
    return float(value)


def _told(
    frame: pd.DataFrame, function: Callable[..., Any], rng: np.random.Generator
) -> np.ndarray:
    lost = np.asarray(function(frame, rng))
    if lost.shape != (len(frame),) or lost.dtype != bool:
        raise ValueError(
            "dropout: the function must return a boolean for each row, true where it is lost; it "
            f"returned {lost.dtype} of shape {lost.shape} for {len(frame)} rows"
        )
    return lost
