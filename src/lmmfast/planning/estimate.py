"""A power as simulations estimate it: shares, intervals, errors of size and sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .simulation import Outcome


@dataclass(frozen=True)
class PowerEstimate:
    """Of one effect at one size.

    A study without a p-value, because it could not be fitted, is one in which the test failed.
    """

    n: int
    significant: int
    lower: float
    upper: float
    singular: float  # shares of the n
    not_converged: float
    failed: float
    type_s: float
    type_m: float
    separated: float = 0.0

    @property
    def power(self) -> float:
        return self.significant / self.n


def estimates_of(outcome: Outcome, alpha: float, level: float) -> list[PowerEstimate]:
    """One for each effect."""
    found = outcome.found
    n = len(found["p"])
    out = []
    for e, effect in enumerate(outcome.effects):
        hit = found["p"][:, e] < alpha  # False for NaN
        count = int(hit.sum())
        sizes = np.full(count, np.nan)
        if "estimate" in found:
            shift = effect - outcome.drawn if found["estimate"].ndim == 1 else 0.0
            sizes = _of(found["estimate"], e)[hit] + shift
        errors = _errors(sizes, float(effect))
        low, high = map(float, share_interval(count, n, level))
        out.append(PowerEstimate(n, count, low, high, **_shares(outcome, e), **errors))
    return out


def _of(values: np.ndarray, e: int) -> np.ndarray:
    """Those of one effect, where fits depend on it."""
    return values if values.ndim == 1 else values[:, e]


def _shares(outcome: Outcome, e: int) -> dict[str, float]:
    """Shares of studies that went wrong, by how."""
    found, p = outcome.found, outcome.found["p"]
    lost = np.isnan(p).any(axis=1) if found["fitted"].ndim == 1 else np.isnan(p[:, e])
    short = _of(found["fitted"] & ~found["converged"], e)
    shares = {"singular": float(_of(found["singular"], e).mean())}
    shares |= {"not_converged": float(short.mean()), "failed": float(lost.mean())}
    if "separated" in found:
        shares["separated"] = float((_of(found["separated"], e) != "").mean())
    return shares


def _errors(estimates: np.ndarray, effect: float) -> dict[str, float]:
    """Share of significant estimates with the wrong sign, and by what factor they are too large
    (Gelman & Carlin 2014)."""
    if not len(estimates) or effect == 0 or np.isnan(effect):
        return {"type_s": np.nan, "type_m": np.nan}
    wrong = float((np.sign(estimates) != np.sign(effect)).mean())
    return {"type_s": wrong, "type_m": float(np.abs(estimates).mean() / abs(effect))}


def share_interval(count: Any, n: int, level: float) -> tuple[Any, Any]:
    """Clopper and Pearson's interval of a probability, of one count or several."""
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = betaincinv(np.maximum(count, 1), n - np.maximum(count, 1) + 1, tail)
    most = np.minimum(count, n - 1)
    high = betaincinv(most + 1, n - most, 1 - tail)
    return np.where(np.equal(count, 0), 0.0, low), np.where(np.equal(count, n), 1.0, high)
