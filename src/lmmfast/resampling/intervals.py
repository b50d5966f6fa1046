"""Bootstrap intervals: estimates (k,), replicates (n, k) with NaN where there is none -> (k, 2).

Davison & Hinkley 1997, *Bootstrap Methods and their Application*, chapter 5.
"""

from __future__ import annotations

import numpy as np

from ..inference.intervals.parameters import normal_quantile

KINDS = ("percentile", "basic", "normal", "studentized", "bca")


def quantiles(values: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Quantiles of each column (k, j): the (n + 1) share-th smallest, between neighbours on the
    normal scale (Davison & Hinkley, 5.8). Shares (j,), or (k, j) for each column."""
    out = np.full((values.shape[1], np.shape(share)[-1]), np.nan)
    shares = np.broadcast_to(share, out.shape)
    for k, column in enumerate(values.T):
        some = np.sort(column[~np.isnan(column)])
        if len(some) > 1:
            out[k] = [_quantile(some, one) for one in shares[k]]
    return out


def _quantile(ordered: np.ndarray, share: float) -> float:
    """NaN shares have none; what lies outside of all replicates is the outermost one."""
    from scipy.special import ndtri

    n = len(ordered)
    if np.isnan(share):
        return np.nan
    place = (n + 1) * share
    below = int(np.clip(np.floor(place), 0, n))
    if below == 0:
        return float(ordered[0])
    if below == n:
        return float(ordered[-1])
    a, b = ordered[below - 1], ordered[below]
    if a == b:
        return float(a)
    z = ndtri([share, below / (n + 1), (below + 1) / (n + 1)])
    return float(a + (z[0] - z[1]) / (z[2] - z[1]) * (b - a))


def _shares(level: float) -> np.ndarray:
    return np.array([(1 - level) / 2, (1 + level) / 2])


def percentile(estimates: np.ndarray, replicates: np.ndarray, level: float) -> np.ndarray:
    """Quantiles of the replicates (5.18)."""
    return quantiles(replicates, _shares(level))


def basic(estimates: np.ndarray, replicates: np.ndarray, level: float) -> np.ndarray:
    """Twice the estimate minus quantiles (5.6)."""
    return np.asarray(2 * estimates[:, None] - percentile(estimates, replicates, level)[:, ::-1])


def normal(estimates: np.ndarray, replicates: np.ndarray, level: float) -> np.ndarray:
    """Normal quantiles around the estimate minus its bias (5.5)."""
    bias = np.nanmean(replicates, axis=0) - estimates
    half = normal_quantile(level) * np.nanstd(replicates, axis=0, ddof=1)
    return np.column_stack([estimates - bias - half, estimates - bias + half])


def studentized(
    estimates: np.ndarray,
    replicates: np.ndarray,
    se: np.ndarray,
    errors: np.ndarray,
    level: float,
) -> np.ndarray:
    """From quantiles of (replicate - estimate) / its standard error (5.7).

    se (k,) of the estimates, errors (n, k) of the replicates.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (replicates - estimates) / errors
    t[~np.isfinite(t)] = np.nan
    return np.asarray(estimates[:, None] - se[:, None] * quantiles(t, _shares(level))[:, ::-1])


def bca(
    estimates: np.ndarray, replicates: np.ndarray, acceleration: np.ndarray, level: float
) -> np.ndarray:
    """Percentiles corrected for bias and skewness (Efron 1987, *JASA* 82, eq. 2.3).

    acceleration (k,). Half of the replicates that equal the estimate count as below it; NaN where
    all are on one side.
    """
    from scipy.special import ndtr, ndtri

    known = (~np.isnan(replicates)).sum(axis=0)
    with np.errstate(invalid="ignore"):
        below = (replicates < estimates).sum(axis=0) + (replicates == estimates).sum(axis=0) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        z0 = ndtri(below / known)
        z = z0[:, None] + ndtri(_shares(level))
        shares = ndtr(z0[:, None] + z / (1 - acceleration[:, None] * z))
    shares[~np.isfinite(z0)] = np.nan
    return quantiles(replicates, shares)


LIMITS = {"percentile": percentile, "basic": basic, "normal": normal}
