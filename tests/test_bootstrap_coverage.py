"""How often bootstrap intervals cover the truth.

A balanced one-way design is known by three independent numbers: the mean, the mean square between
the groups and that within. So is its parametric bootstrap, whose coverage has closed forms (between
groups: a simulation of chi-squared numbers).
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lmmfast import lmer

m, k = 12, 5  # groups, rows in each
SD, SIGMA = 2.0, 1.0
SETS = {"parametric": 500, "residual": 500, "cases": 150}  # fits of levels drawn are slower
DRAWS, LEVEL = 399, 0.9
TRUTH = {"sd(Intercept | g)": SD, "sigma": SIGMA, "Intercept": 0.0}
G = np.repeat(np.arange(m), k)
KINDS = ("percentile", "basic", "normal", "studentized", "bca")

pytestmark = pytest.mark.slow


SHARES = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
Z = stats.norm.ppf(SHARES[1])


@cache
def expected() -> dict[tuple[str, str], float]:
    """Coverage by kind and parameter of a parametric bootstrap, REML, variances not zero."""
    own = {(kind, "sigma"): share for kind, share in of_a_deviation(m * (k - 1)).items()}
    for kind in ("percentile", "basic", "normal"):  # the replicates' mean is normal, the mean t
        own[kind, "Intercept"] = 1 - 2 * float(stats.t.sf(Z, m - 1))
    own["studentized", "Intercept"] = LEVEL
    return own | {(kind, "sd(Intercept | g)"): share for kind, share in between().items()}


def of_a_deviation(df: int) -> dict[str, float]:
    """Of a deviation whose square is chi-squared with these degrees of freedom: estimate over
    truth, and replicate over estimate, are r = chi(df) / sqrt(df)."""
    r = stats.chi(df, scale=1 / np.sqrt(df))
    low, high = r.ppf(SHARES)
    ends = {  # the truth over the estimate
        "percentile": (low, high),
        "basic": (2 - high, 2 - low),
        "normal": (2 - r.mean() - Z * r.std(), 2 - r.mean() + Z * r.std()),
    }
    return {kind: float(r.cdf(1 / a) - r.cdf(1 / b)) for kind, (a, b) in ends.items()}


def between() -> dict[str, float]:
    """Of the deviation between groups: both mean squares drawn anew from each pair of them."""
    rng = np.random.default_rng(1)
    outer, inner = 4000, 2000
    even = (np.arange(inner) + 0.5) / inner
    ratio_a = stats.chi2.ppf(even, m - 1) / (m - 1)
    ratio_e = rng.permutation(stats.chi2.ppf(even, m * (k - 1)) / (m * (k - 1)))
    A = (k * SD**2 + SIGMA**2) * rng.chisquare(m - 1, outer) / (m - 1)
    E = SIGMA**2 * rng.chisquare(m * (k - 1), outer) / (m * (k - 1))
    hits: dict[str, list[bool]] = {}
    for a, e in zip(A, E, strict=True):
        ends = limits(deviation(a, e), deviation(a * ratio_a, e * ratio_e))
        for kind, (low, high) in ends.items():
            hits.setdefault(kind, []).append(low <= SD <= high)
    return {kind: float(np.mean(own)) for kind, own in hits.items()}


def deviation(a: Any, e: Any) -> Any:
    return np.sqrt(np.maximum(a - e, 0) / k)


def limits(estimate: float, replicates: np.ndarray) -> dict[str, tuple[float, float]]:
    low, high = np.quantile(replicates, SHARES)
    centre, half = 2 * estimate - replicates.mean(), Z * replicates.std()
    return {
        "percentile": (low, high),
        "basic": (2 * estimate - high, 2 * estimate - low),
        "normal": (centre - half, centre + half),
    }


@cache
def observed(kind: str) -> dict[tuple[str, str], float]:
    """Coverage by interval and parameter of bootstraps of this kind."""
    rng = np.random.default_rng(2)
    hits: dict[tuple[str, str], list[bool]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(SETS[kind]):
            y = SD * rng.normal(size=m)[G] + SIGMA * rng.normal(size=m * k)
            fit = lmer("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": G}))
            boot = fit.bootstrap(DRAWS, seed=number, kind=kind)
            for interval in KINDS:
                table = boot.conf_int(LEVEL, kind=interval)
                for name, truth in TRUTH.items():
                    low, high = table.loc[name]
                    hits.setdefault((interval, name), []).append(low <= truth <= high)
    return {key: float(np.mean(own)) for key, own in hits.items()}


def error(share: float, kind: str = "parametric") -> float:
    return 4 * float(np.sqrt(share * (1 - share) * (1 / SETS[kind] + 1 / 4000)))


@pytest.mark.parametrize("name", TRUTH)
@pytest.mark.parametrize("interval", ["percentile", "basic", "normal", "studentized"])
def test_parametric_intervals_cover_as_often_as_they_should(interval: str, name: str) -> None:
    if (interval, name) not in expected():
        pytest.skip("studentized intervals are those of fixed effects")
    should = expected()[interval, name]
    assert observed("parametric")[interval, name] == pytest.approx(should, abs=error(should))


@pytest.mark.parametrize("name", TRUTH)
def test_bca_intervals_cover_as_often_as_they_say(name: str) -> None:
    """To second order: the mean's are those of percentiles, twelve groups with normal quantiles."""
    should = expected()["percentile", name] if name == "Intercept" else LEVEL
    found = observed("parametric")["bca", name]
    assert found == pytest.approx(should, abs=error(should) + 0.02)


@pytest.mark.parametrize("kind", ["residual", "cases"])
@pytest.mark.parametrize("interval", ["percentile", "basic", "normal", "studentized"])
def test_the_mean_is_covered_by_resampling_too(kind: str, interval: str) -> None:
    """A mean of resampled groups: its variance is that between m groups, (m - 1) / m of it where
    deviations are not scaled."""
    shrink = np.sqrt((m - 1) / m) if kind == "cases" else 1.0
    should = 1 - 2 * stats.t.sf(Z * shrink, m - 1) if interval != "studentized" else LEVEL
    found = observed(kind)[interval, "Intercept"]
    assert found == pytest.approx(should, abs=error(should, kind) + 0.02)


@pytest.mark.parametrize("interval", ["percentile", "basic", "normal"])
def test_the_residual_deviation_is_covered_by_resampled_residuals(interval: str) -> None:
    should = expected()[interval, "sigma"]
    found = observed("residual")[interval, "sigma"]
    assert found == pytest.approx(should, abs=error(should) + 0.04)
