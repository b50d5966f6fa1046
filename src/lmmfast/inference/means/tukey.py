"""The studentized range of k means: upper tail and quantiles.

With z the largest of k normal deviates, W the range of all and s^2 an independent variance on df
degrees of freedom,

    P(W > w) = k int phi(z) Phi(z)^(k-1) [1 - (1 - Phi(z - w) / Phi(z))^(k-1)] dz
    P(W / s > q) = int f(t) P(W > q e^t) dt,    t = log s

Nothing in either integrand cancels, so tails keep their relative accuracy; both are analytic and
fall off on either side, so that the trapezoidal rule converges exponentially (Trefethen &
Weideman 2014, *SIAM Review* 56). The first integral is taken once for every k, on a grid of w, and
its logarithm interpolated.

References
----------
Hartley (1942), *Biometrika* 32, 309-310 (range); Copenhaver & Holland (1988), *J. Stat. Comput.
Simul.* 30, 1-15 (studentized).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

USUAL = 24.0  # range that few tails go beyond, ...
WIDEST = 76.0  # ... and beyond which nothing is left: its tail is below 1e-300
STEP = 0.0625  # between two nodes of w
SPACING = 0.1  # of z
REACH = 9.5  # standard deviations after which a normal density is nothing
SPREAD = 0.1  # of t, at most; and of its standard deviation
DROP = 42.0  # an integrand that has fallen by e^-42 is nothing
KNOTS = 41  # of an interpolation over df
SPEED = 40  # steps of a root, at most
AT_ONCE = 500_000  # values of an integrand that are in memory


def tail(q: Any, k: int, df: Any) -> np.ndarray:
    """P(studentized range > q).

    Parameters
    ----------
    q : (m,) array
        Negative ones count as zero.
    k : int
        Number of means, at least 2.
    df : (m,) array or float
        Degrees of freedom of the standard deviation; infinite: it is known.

    Returns
    -------
    (m,) array
        To about ten digits, however small; NaN where q or df is.
    """
    q, df = (np.array(x, dtype=float) for x in np.broadcast_arrays(np.atleast_1d(q), df))
    out = np.full(q.shape, np.nan)
    known = np.isfinite(df) & (df > 0) & ~np.isnan(q)
    normal = np.isposinf(df) & ~np.isnan(q)
    q = np.maximum(q, 0.0)
    out[normal] = np.exp(_log_range_tail(q[normal], k))
    out[known & (q == 0)] = 1.0
    left = np.flatnonzero(known & (q > 0) & np.isfinite(q))
    out[known & np.isinf(q)] = 0.0
    for some in _batches(left, df):
        out[some] = _studentized(q[some], k, df[some])
    return out


def quantile(p: float, k: int, df: Any) -> np.ndarray:
    """The q with P(studentized range > q) = 1 - p.

    Parameters
    ----------
    p : float
        Between 0 and 1.
    k : int
        Number of means, at least 2.
    df : (m,) array

    Returns
    -------
    (m,) array
        NaN where df is.
    """
    df = np.atleast_1d(np.asarray(df, dtype=float))
    distinct, back = np.unique(df, return_inverse=True)
    usable = np.flatnonzero(~np.isnan(distinct) & (distinct > 0))
    found = np.full(distinct.shape, np.nan)
    found[usable] = _all_roots(1 - p, k, distinct[usable])
    return np.asarray(found[back.ravel()])


def _all_roots(p: float, k: int, df: np.ndarray) -> np.ndarray:
    """Where there are many, log q is interpolated over 1 / df, in which it is analytic."""
    if len(df) <= KNOTS:
        return _roots(p, k, df)
    low, high = 1 / df.max(), 1 / df.min()
    at = low + (high - low) * (1 - np.cos(np.pi * np.arange(KNOTS) / (KNOTS - 1))) / 2
    with np.errstate(divide="ignore"):
        knots = np.log(_roots(p, k, 1 / at))
    from scipy.interpolate import BarycentricInterpolator

    return np.asarray(np.exp(BarycentricInterpolator(at, knots)(1 / df)))


def _studentized(q: np.ndarray, k: int, df: np.ndarray) -> np.ndarray:
    """The second integral, for finite df; all by as many nodes as the one that needs most."""
    low, high = _window(q, df)
    nodes = int(np.ceil(((high - low) / _spacing(df)).max())) + 1
    t = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, nodes)
    # f(t) = 2 (df/2)^(df/2) / Gamma(df/2) exp(df t - df e^2t / 2); large terms must not cancel
    log = df[:, None] * (t - np.expm1(2 * t) / 2) + _log_range_tail(q[:, None] * np.exp(t), k)
    top = log.max(axis=1)
    sums = np.exp(log - top[:, None]).sum(axis=1) * (high - low) / (nodes - 1)
    return np.asarray(np.exp(top + _log_mode(df)) * sums)


def _log_mode(df: np.ndarray) -> np.ndarray:
    """Logarithm of the density of t = log s at 0."""
    from scipy.special import gammaln

    half = df / 2
    small = np.log(2) + half * np.log(half) - half - gammaln(half)
    large = 0.5 * np.log(df / np.pi) - 1 / (6 * df) + 1 / (45 * df**3)  # Stirling's series
    return np.where(df < 1e3, small, large)


def _window(q: np.ndarray, df: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the integrand is: around the mode of t, and around that with a tail e^(-w^2/4)."""
    mode = -0.5 * np.log1p(q * q / (2 * df))
    low = mode - DROP / df - np.sqrt(2 * DROP / df)
    high = 0.5 * np.log1p(2 * np.sqrt(2 * DROP / df) + 4 * DROP / df)
    return low, high


def _spacing(df: np.ndarray) -> np.ndarray:
    return np.asarray(np.minimum(SPREAD, 0.4 / np.sqrt(2 * df)))


def _batches(places: np.ndarray, df: np.ndarray) -> list[np.ndarray]:
    """Places whose integrals are taken together, of similar df."""
    order = places[np.argsort(df[places], kind="stable")]
    count = max(1, AT_ONCE // 800)
    return [order[a : a + count] for a in range(0, len(order), count)]


def _roots(p: float, k: int, df: np.ndarray) -> np.ndarray:
    """Of log tail(q) = log p, by secants in log q that stay in a bracket."""
    low, high = np.full(df.shape, 1e-8), np.full(df.shape, 4.0)
    target = np.log(p)
    while (short := tail(high, k, df) > p).any():
        low, high = np.where(short, high, low), np.where(short, 2 * high, high)
    low = np.log(low)
    high = np.log(high)
    with np.errstate(divide="ignore"):
        f_low, f_high = (np.log(tail(np.exp(x), k, df)) - target for x in (low, high))
    x = high
    for _ in range(SPEED):
        with np.errstate(invalid="ignore", divide="ignore"):
            x = low - f_low * (high - low) / (f_high - f_low)
        middle = (low + high) / 2
        x = np.where(np.isfinite(x) & (x > low) & (x < high), x, middle)
        with np.errstate(divide="ignore"):
            f = np.log(tail(np.exp(x), k, df)) - target
        above = f > 0
        # Illinois: the end that stays counts half, so that both ends move
        f_high = np.where(above, f_high / 2, f)
        f_low = np.where(above, f, f_low / 2)
        low, high = np.where(above, x, low), np.where(above, high, x)
        if (np.abs(f) < 1e-12).all() or (high - low < 1e-14).all():
            break
    return np.asarray(np.exp(x))


# ---- the range of normal deviates ---------------------------------------------------------------


def _log_range_tail(w: np.ndarray, k: int) -> np.ndarray:
    """log P(W > w), w not negative."""
    widest = USUAL if w.max(initial=0.0) <= USUAL else WIDEST
    found = np.asarray(_interpolant(k, widest)(np.minimum(w, widest)))
    return np.where(w < WIDEST, np.minimum(found, 0.0), -np.inf)


@lru_cache(maxsize=64)
def _interpolant(k: int, widest: float) -> Any:
    """The logarithm of the tail up to a range, as a function."""
    from scipy.interpolate import make_interp_spline

    w = np.arange(0.0, widest + STEP / 2, STEP)
    return make_interp_spline(w, _log_range_tails(w, k), k=9)


def _log_range_tails(w: np.ndarray, k: int) -> np.ndarray:
    """The first integral by the trapezoidal rule."""
    from scipy.special import log_ndtr

    out = np.empty(w.shape)
    for a in range(0, len(w), 64):
        own = w[a : a + 64]
        z = np.arange(-REACH, max(REACH, own[-1] / 2 + REACH), SPACING)
        below = log_ndtr(z)
        ratio = np.minimum(np.exp(log_ndtr(z - own[:, None]) - below), 1.0)
        with np.errstate(divide="ignore", under="ignore"):
            some = -np.expm1((k - 1) * np.log1p(-ratio))
            log = (k - 1) * below - z * z / 2 + np.log(some)
        top = log.max(axis=1)
        sums = np.exp(log - top[:, None]).sum(axis=1)
        out[a : a + 64] = top + np.log(k * SPACING / np.sqrt(2 * np.pi) * sums)
    out[w == 0] = 0.0
    return out
