"""Probability that the largest of several correlated |t| exceeds a value.

For equal thresholds the probability of a union of equally likely events E_1 .. E_k is

    P(any) = k P(E_1) mean over j of E[1 / S | E_j],    S: number of events that happen

whose mean lies between 1/k and 1: an estimate has a small relative error however rare the events
are (Owen, Maximov & Chertkov 2019, *Electron. J. Stat.* 13). Given T_j = a the others are again of
multivariate t, with df + 1 degrees of freedom and scale (df + a^2) / (df + 1). Points are Sobol's,
scrambled with fixed seeds: the result is always the same, and the spread between scramblings is its
error.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ..wald import t_quantile

POINTS = 4096  # of a scrambling; a power of two
SCRAMBLINGS = 8
MOST_TESTS = 400  # whose correlations are used
KEPT = 2**24  # numbers that are drawn once for all sizes, at most
STEPS = 60  # of a bisection
GRID = 200  # nodes of an integral over one variable


class Exceedance:
    """The largest |t| of k statistics with correlations R (k, k)."""

    def __init__(self, R: np.ndarray) -> None:
        if len(R) > MOST_TESTS:
            raise ValueError(
                f"adjust='mvt' is for at most {MOST_TESTS} tests of a family, not {len(R)}: "
                "use 'tukey' for all pairs, 'dunnettx' for comparisons with a control, or 'holm'"
            )
        values, axes = np.linalg.eigh(R)
        kept = values > 1e-12 * values.max(initial=0.0)
        self.R, self.k = R, len(R)
        self._root = axes[:, kept] * np.sqrt(values[kept])
        self._count = max(POINTS, 1 << (4 * self.k - 1).bit_length())
        many = SCRAMBLINGS * self._count * 2 * self.k > KEPT
        self._points = self._drawn if many else cache(self._drawn)
        self.relative_error = 0.0  # the largest so far

    def probability(self, size: float, df: float) -> float:
        """P(max |T| > size)."""
        if not np.isfinite(size) or np.isnan(df):
            return float("nan")
        single = float(_tail(np.array([size]), df)[0])
        means = [self._share(size, df, single, seed) for seed in range(SCRAMBLINGS)]
        share = float(np.mean(means))
        error = float(np.std(means, ddof=1)) / np.sqrt(SCRAMBLINGS) / share
        self.relative_error = max(self.relative_error, error)
        return min(1.0, 2 * self.k * single * share)

    def critical(self, outside: float, df: float) -> float:
        """The size that is exceeded with probability `outside`."""
        from scipy.optimize import brentq

        if np.isnan(df):
            return float("nan")
        own = np.array([df])
        ends = [float(t_quantile(1 - outside / n, own)[0]) for n in (2, 2 * self.k)]
        logs = [float(np.log(self.probability(size, df) / outside)) for size in ends]
        if logs[0] <= 0 or logs[1] >= 0:  # but for the points: one test, or independent ones
            return ends[0] if logs[0] <= 0 else ends[1]
        return float(
            brentq(lambda size: np.log(self.probability(size, df) / outside), *ends, rtol=1e-9)
        )

    def _share(self, size: float, df: float, single: float, seed: int) -> float:
        """Mean of 1 / S over points each of which has one event, in turns."""
        from scipy.special import chdtri

        u, event, towards, free = self._points(seed)
        a = _upper_quantile(single * u[:, 0], df)
        if np.isinf(df):
            T = towards * a[:, None] + free
        else:
            chi = chdtri(df + 1, u[:, 1]) / (df + 1)
            spread = np.sqrt((df + a * a) / (df + 1) / chi)
            T = towards * a[:, None]
            T += spread[:, None] * free
        T[np.arange(len(T)), event] = np.inf
        return float(np.mean(1 / (np.abs(T, out=T) > size).sum(axis=1)))

    def _drawn(self, seed: int) -> tuple[np.ndarray, ...]:
        """Of a scrambling: uniform numbers (count, 2), the events (count,), their correlations with
        all tests (count, k), and what of these is independent of the event (count, k), normal."""
        from scipy.special import ndtri
        from scipy.stats import qmc

        sobol = qmc.Sobol(self._root.shape[1] + 3, rng=np.random.default_rng(seed))
        u = np.clip(sobol.random(self._count), 1e-12, 1 - 1e-12)
        event = (u[:, 2] * self.k).astype(int)
        normal = ndtri(u[:, 3:]) @ self._root.T
        towards = self.R[event]
        own = normal[np.arange(self._count), event]
        return u[:, :2], event, towards, normal - towards * own[:, None]


def equicorrelated(size: np.ndarray, k: int, df: np.ndarray) -> np.ndarray:
    """P(max |T| > size) of k statistics with correlations of one half: comparisons of k means with
    one control, all of equal size (Dunnett 1955, *J. Amer. Statist. Assoc.* 50)."""
    from scipy.special import gammaln, ndtr

    out = np.full(size.shape, np.nan)
    x = np.linspace(-9, 9, GRID)
    weight = np.exp(-x * x / 2) / np.sqrt(2 * np.pi) * (x[1] - x[0])
    for i, (c, v) in enumerate(zip(size, df, strict=True)):
        if np.isnan(c) or np.isnan(v):
            continue
        if np.isinf(v):
            s, density = np.ones(1), np.ones(1)
        else:
            spread = 12 / np.sqrt(2 * v)
            t = np.linspace(
                -spread - 40 / v - 0.5 * np.log1p(c * c / v),
                0.5 * np.log1p(2 * spread + spread**2),
                2 * GRID,
            )
            log = np.log(2) + v / 2 * np.log(v / 2) - gammaln(v / 2) + v * t - v / 2 * np.exp(2 * t)
            s, density = np.exp(t), np.exp(log) * (t[1] - t[0])
        upper = np.sqrt(2) * c * s[:, None] - x
        lower = -np.sqrt(2) * c * s[:, None] - x
        outside = ndtr(-upper) + ndtr(lower)
        inside = np.log1p(-np.minimum(outside, 1 - 1e-15))
        out[i] = density @ (-np.expm1(k * inside) @ weight)
    return np.asarray(np.clip(out, 0.0, 1.0))


def equicorrelated_critical(outside: float, k: int, df: np.ndarray) -> np.ndarray:
    """The sizes that are exceeded with probability `outside`."""
    found: dict[float, float] = {}
    for value in np.unique(df[~np.isnan(df)]):
        own = np.array([value])
        low = float(t_quantile(1 - outside / 2, own)[0])
        high = float(t_quantile(1 - outside / (2 * k), own)[0])
        for _ in range(STEPS):
            middle = (low + high) / 2
            if equicorrelated(np.array([middle]), k, own)[0] > outside:
                low = middle
            else:
                high = middle
            if high - low < 1e-10 * high:
                break
        found[value] = (low + high) / 2
    return np.array([found.get(value, np.nan) for value in df])


def _tail(size: np.ndarray, df: float) -> np.ndarray:
    """P(T > size), one-sided."""
    from scipy.special import ndtr, stdtr

    return np.asarray(ndtr(-size) if np.isinf(df) else stdtr(df, -size))


def _upper_quantile(p: np.ndarray, df: float) -> np.ndarray:
    """The T that is exceeded with probability p."""
    from scipy.special import ndtri, stdtrit

    return np.asarray(-ndtri(p) if np.isinf(df) else -stdtrit(df, p))
