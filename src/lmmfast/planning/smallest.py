"""The smallest study, or the smallest effect, that reaches a power."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import tables
from .estimate import PowerEstimate, estimates_of, share_interval
from .simulation import Outcome, Simulation, Sizes

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd

TIMES = 100  # how far sizes are doubled beyond the first
NEAR = 3.0  # sizes within this factor of the result say where the curve is there
STEPS = 50  # of bisections of effects, and of Newton's method


@dataclass(frozen=True, eq=False, repr=False)
class Smallest(tables.Printed):
    """A size, or an effect, that reaches a power.

    Attributes
    ----------
    along : str
    target : float
        The power that was asked for.
    size : int or float
        The smallest that reaches it, as far as is known: `crossing`, rounded up.
    crossing : float
        Where the curve of power crosses the target.
    lower, upper : float
        Interval of the crossing: how well it is known from so many simulations.
    level : float
        Coverage of the interval.
    tried : tuple of (size, PowerEstimate)
        Sizes that were simulated.
    """

    along: str
    target: float
    size: float
    crossing: float
    lower: float
    upper: float
    level: float
    tried: tuple[tuple[int, PowerEstimate], ...]

    def to_frame(self) -> pd.DataFrame:
        """What was tried: size, power, lower, upper, n."""
        import pandas as pd

        rows = [
            (size, estimate.power, estimate.lower, estimate.upper, estimate.n)
            for size, estimate in self.tried
        ]
        return pd.DataFrame(rows, columns=[self.along, "power", "lower", "upper", "n"])

    def summary(self) -> tables.Summary:
        """The size and what was tried."""
        at, low, high = (tables.general(x, 4) for x in (self.crossing, self.lower, self.upper))
        line = (
            f"Power {self.target:g} is reached at {self.along} = {tables.general(self.size, 4)} "
            f"(the curve crosses it at {at}, {self.level:.0%} interval {low} to {high})"
        )
        if not self.tried:
            return tables.Summary(((line,),))
        rows = tuple(
            (
                str(size),
                f"{estimate.power:.3f}",
                f"{estimate.lower:.3f} - {estimate.upper:.3f}",
                f"{estimate.n:,}",
            )
            for size, estimate in self.tried
        )
        header = (self.along, "power", f"{self.level:.0%} interval", "simulations")
        return tables.Summary(((line,), ("Tried:", tables.Table(header, rows, 1))))


# ---- sizes ---------------------------------------------------------------------------------------


def smallest_size(
    simulation: Simulation,
    sizes: Sizes,
    along: str,
    n: int,
    alpha: float,
    level: float,
    target: float,
    by: int,
    most: int | None,
) -> Smallest:
    """By doubling and bisection; `sizes` are those of what else varies."""
    known: dict[int, PowerEstimate] = {}

    def power_at(size: int) -> float:
        if size not in known:
            # simulations of their own for each size: what they err in does not add up
            found = simulation.at({**sizes, along: size}, n, branch=size, quiet=True)
            (known[size],) = estimates_of(found, alpha, level)
        return known[size].power

    first = by * max(1, -(-int(sizes.get(along, 0) or simulation.count(along)) // by))
    low, high = _bracket(
        power_at, first, by, first * TIMES if most is None else most, target, along
    )
    while high - low > by:
        middle = by * ((low + high) // (2 * by))
        if power_at(middle) < target:
            low = middle
        else:
            high = middle
    size, *ends = _crossing(known, high, target, level)
    rounded = int(by * np.ceil(size / by - 1e-9))
    tried = tuple(sorted(known.items()))
    return Smallest(along, target, rounded, size, ends[0], ends[1], level, tried)


def _bracket(
    power_at: Callable[[int], float], first: int, by: int, most: int, target: float, along: str
) -> tuple[int, int]:
    """Two sizes below and above the target."""
    size = first
    if power_at(size) >= target:
        while size > by:
            smaller = max(by, by * (size // (2 * by)))
            if smaller < 2 or power_at(smaller) < target:
                return smaller, size
            size = smaller
        return 0, size
    while True:
        larger = min(2 * size, by * (most // by))
        if larger <= size:
            raise ValueError(
                f"power {target:g} is not reached with {along} up to {size}: it is "
                f"{power_at(size):.3f} there; another size, effect or design has to change (most= "
                "allows more)"
            )
        if power_at(larger) >= target:
            return size, larger
        size = larger


def _crossing(
    known: dict[int, PowerEstimate], found: int, target: float, level: float
) -> tuple[float, float, float]:
    """Where a probit curve in the square root of the size reaches the target, and an interval."""
    from scipy.special import ndtri

    near = {s: estimate for s, estimate in known.items() if found / NEAR <= s <= found * NEAR}
    x = np.sqrt(np.array(sorted(near), dtype=float))
    hits = np.array([near[s].significant for s in sorted(near)], dtype=float)
    n = np.array([near[s].n for s in sorted(near)], dtype=float)
    fitted = _probit(x, hits, n) if len(x) > 1 else None
    if fitted is None or fitted[0][1] <= 0:
        return float(found), 0.0, np.inf
    (a, b), cov = fitted
    at = (ndtri(target) - a) / b
    low, high = _fieller(ndtri(target), a, b, cov, float(ndtri(0.5 + level / 2)))
    return max(at, 0.0) ** 2, max(low, 0.0) ** 2, high**2


def _probit(x: np.ndarray, hits: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Coefficients and their covariance of P(hit) = Phi(a + b x), by Fisher scoring."""
    from scipy.special import ndtr, ndtri

    X = np.column_stack([np.ones_like(x), x])
    z = ndtri((hits + 0.5) / (n + 1))
    beta = np.linalg.lstsq(X, z, rcond=None)[0]
    for _ in range(STEPS):
        eta = X @ beta
        p = np.clip(ndtr(eta), 1e-12, 1 - 1e-12)
        slope = np.exp(-0.5 * eta**2) / np.sqrt(2 * np.pi)
        weight = n * slope**2 / (p * (1 - p))
        information = (X.T * weight) @ X
        if not np.isfinite(information).all() or np.linalg.cond(information) > 1e14:
            return None
        step = np.linalg.solve(information, X.T @ (slope * (hits - n * p) / (p * (1 - p))))
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    return beta, np.linalg.inv(information)


def _fieller(z: float, a: float, b: float, cov: np.ndarray, quantile: float) -> tuple[float, float]:
    """All x for which a + b x may be z: those with (a + b x - z)^2 <= q^2 Var(a + b x)."""
    A = b**2 - quantile**2 * cov[1, 1]
    B = (a - z) * b - quantile**2 * cov[0, 1]
    C = (a - z) ** 2 - quantile**2 * cov[0, 0]
    inside = B**2 - A * C
    if A <= 0 or inside < 0:
        return 0.0, np.inf
    return (-B - np.sqrt(inside)) / A, (-B + np.sqrt(inside)) / A


# ---- effects -------------------------------------------------------------------------------------


def smallest_effect(outcome: Outcome, alpha: float, level: float, target: float) -> Smallest:
    """From the fits at hand: they do not depend on the effect."""
    from ..inference.wald import t_pvalues

    found = outcome.found
    if "separated" in found:
        raise ValueError(
            "along='effect' is for linear models, whose fits do not depend on it: give effect= "
            "several values"
        )
    if "estimate" not in found or np.isnan(found["se"]).all():
        raise ValueError(
            "along='effect' needs a test of one row by satterthwaite, kenward-roger or z: for "
            "others give effect= or scale= several values"
        )
    sign = -1.0 if (outcome.effects < 0).any() else 1.0  # powers are the same on both sides
    error = found["estimate"] - outcome.drawn
    n = len(error)

    def reached(share: float) -> float:
        """The effect that this share of studies finds."""
        low, high = 0.0, float(np.nanmax(found["se"]))
        while power(high) < share:
            low, high = high, 2 * high
            if not np.isfinite(high):
                return np.inf
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if power(middle) < share else (low, middle)
        return high

    def power(size: float) -> float:
        p = t_pvalues((error + sign * size) / found["se"], found["df"])
        return float((p < alpha).mean())

    # counts whose interval ends at the target
    counts = np.arange(n + 1)
    lower, upper = share_interval(counts, n, level)
    few, many = counts[upper >= target].min() / n, counts[lower <= target].max() / n
    value, low, high = (sign * reached(share) for share in (target, few, many))
    low, high = min(low, high), max(low, high)
    return Smallest("effect", target, value, value, low, high, level, ())
