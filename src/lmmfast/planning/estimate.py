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

    @property
    def power(self) -> float:
        return self.significant / self.n


def estimates_of(outcome: Outcome, alpha: float, level: float) -> list[PowerEstimate]:
    """One for each effect."""
    found = outcome.found
    n = len(found["p"])
    shares: dict[str, float] = {
        "singular": float(found["singular"].mean()),
        "not_converged": float((found["fitted"] & ~found["converged"]).mean()),
        "failed": float(np.isnan(found["p"]).any(axis=1).mean()),
    }
    out = []
    for e, effect in enumerate(outcome.effects):
        hit = found["p"][:, e] < alpha  # False for NaN
        count = int(hit.sum())
        sizes = np.full(count, np.nan)
        if "estimate" in found:
            sizes = found["estimate"][hit] + effect - outcome.drawn
        errors = _errors(sizes, float(effect))
        low, high = map(float, share_interval(count, n, level))
        out.append(PowerEstimate(n, count, low, high, **shares, **errors))
    return out


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
