"""P-values and critical values of several tests at once.

References
----------
Tukey (1953) and Kramer (1956), *Biometrics* 12 (all pairs); Dunnett (1955), *J. Amer. Statist.
Assoc.* 50 (comparisons with a control); Scheffe (1953), *Biometrika* 40; Holm (1979), *Scand. J.
Stat.* 6; Benjamini & Hochberg (1995), *J. R. Stat. Soc. B* 57 (false discovery rate); Sidak (1967),
*J. Amer. Statist. Assoc.* 62; Hothorn, Bretz & Westfall (2008), *Biom. J.* 50 (multivariate t).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..wald import t_pvalues, t_quantile
from . import tukey
from .comparisons import DEFAULTS, kind_of
from .exceedance import Exceedance, equicorrelated, equicorrelated_critical

ADJUSTMENTS = (
    "none",
    "bonferroni",
    "holm",
    "fdr",
    "sidak",
    "scheffe",
    "tukey",
    "dunnettx",
    "mvt",
)
WITHOUT_INTERVALS = ("holm", "fdr")  # of their own: `critical` takes Bonferroni's
RANK = 1e-8  # relative variance below which tests have no further dimension


class Family(NamedTuple):
    """Tests that are adjusted together."""

    means: int  # that are compared
    covariance: np.ndarray | None  # of the estimates (k, k); only some adjustments need it

    @property
    def rank(self) -> int:
        """Dimension of what is tested."""
        assert self.covariance is not None
        C = np.nan_to_num(self.covariance)
        values = np.linalg.eigvalsh(C)
        return max(1, int((values > RANK * values.max(initial=0.0)).sum()))

    def correlations(self, known: np.ndarray) -> np.ndarray:
        """Of the tests that are known."""
        assert self.covariance is not None
        C = self.covariance[np.ix_(known, known)]
        unit = 1 / np.sqrt(np.diag(C))
        return np.asarray(C * unit[:, None] * unit)


def adjustment(kind: Any, asked: str | None) -> str:
    """What was asked for, or the default: Tukey's for all pairs, Holm's for other differences, none
    for polynomials and weights. Tukey's is for all pairs only, else it becomes Sidak's."""
    kind = kind_of(kind)
    default = DEFAULTS.get(kind, "none") if isinstance(kind, str) else "none"
    adjust = asked or default
    return "sidak" if adjust == "tukey" and default != "tukey" else adjust


def adjusted(statistic: np.ndarray, df: np.ndarray, family: Family, adjust: str) -> np.ndarray:
    """Two-sided p-values of one family of tests (k), by one of `ADJUSTMENTS`.

    NaN for contrasts that cannot be estimated: they count, as in R.
    """
    p, k, size = t_pvalues(statistic, df), len(statistic), np.abs(statistic)
    if adjust == "none" or k < 2:
        return p
    if adjust == "tukey":
        return tukey.tail(np.sqrt(2) * size, family.means, df)
    if adjust == "bonferroni":
        return np.asarray(np.minimum(1.0, k * p))
    if adjust == "sidak":
        with np.errstate(divide="ignore"):
            return np.asarray(-np.expm1(k * np.log1p(-p)))
    if adjust == "scheffe":
        return _f_tail(size**2 / family.rank, family.rank, df)
    if adjust == "dunnettx":
        return equicorrelated(size, k, df)
    if adjust == "mvt":
        return _mvt(size, df, family)
    return _stepwise(p, adjust)


def _stepwise(p: np.ndarray, adjust: str) -> np.ndarray:
    """Holm's step down, and Benjamini and Hochberg's step up; missing ones count as last."""
    k, order = len(p), np.argsort(p)
    if adjust == "holm":
        steps = np.maximum.accumulate((k - np.arange(k)) * p[order])
    else:
        raised = p[order] * k / np.arange(1.0, k + 1)
        steps = np.fmin.accumulate(raised[::-1])[::-1]
        steps[np.isnan(p[order])] = np.nan
    out = np.empty(k)
    out[order] = np.minimum(1.0, steps)
    return out


def _mvt(size: np.ndarray, df: np.ndarray, family: Family) -> np.ndarray:
    known = np.flatnonzero(~np.isnan(size) & ~np.isnan(df))
    out = np.full(len(size), np.nan)
    if len(known):
        union = Exceedance(family.correlations(known))
        out[known] = [union.probability(size[i], df[i]) for i in known]
    return out


def critical(
    level: float, df: np.ndarray, family: Family, adjust: str, tests: int | None = None
) -> np.ndarray:
    """Critical values (k) of simultaneous intervals; Holm's and the false discovery rate have none:
    Bonferroni's."""
    outside, k = 1 - level, len(df) if tests is None else tests
    if k < 2 or adjust == "none":
        return t_quantile(1 - outside / 2, df)
    if adjust == "tukey":
        return np.asarray(tukey.quantile(level, family.means, df) / np.sqrt(2))
    if adjust == "scheffe":
        return np.asarray(np.sqrt(family.rank * _f_quantile(level, family.rank, df)))
    if adjust == "dunnettx":
        return equicorrelated_critical(outside, k, df)
    if adjust == "mvt":
        known = np.flatnonzero(~np.isnan(df))
        union, out = Exceedance(family.correlations(known)), np.full(k, np.nan)
        found = {value: union.critical(outside, value) for value in np.unique(df[known])}
        out[known] = [found[value] for value in df[known]]
        return out
    each = -np.expm1(np.log1p(-outside) / k) if adjust == "sidak" else outside / k
    return t_quantile(1 - each / 2, df)


def _f_tail(f: np.ndarray, rank: int, df: np.ndarray) -> np.ndarray:
    from scipy.special import chdtrc, fdtrc

    finite = np.where(np.isinf(df), 1.0, df)
    return np.asarray(np.where(np.isinf(df), chdtrc(rank, rank * f), fdtrc(rank, finite, f)))


def _f_quantile(level: float, rank: int, df: np.ndarray) -> np.ndarray:
    from scipy.special import chdtri, fdtri

    finite = np.where(np.isinf(df), 1.0, df)
    return np.asarray(
        np.where(np.isinf(df), chdtri(rank, 1 - level) / rank, fdtri(rank, finite, level))
    )
