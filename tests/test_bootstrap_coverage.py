"""How often bootstrap intervals cover the truth.

A balanced one-way design is known by three numbers, which are independent: the mean, the mean
square between the groups and that within. A bootstrap of these three numbers, by normal and
chi-squared random numbers alone, says how often each kind of interval should cover.
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
SETS, DRAWS, LEVEL = 500, 399, 0.9
TRUTH = {"sd(Intercept | g)": SD, "sigma": SIGMA, "Intercept": 0.0}
G = np.repeat(np.arange(m), k)
KINDS = ("percentile", "basic", "normal", "studentized", "bca")

pytestmark = pytest.mark.slow


@cache
def expected() -> dict[tuple[str, str], float]:
    """Coverage by kind and parameter of a parametric bootstrap, REML, variances not zero."""
    rng = np.random.default_rng(1)
    outer, inner = 3000, 2000
    A = (k * SD**2 + SIGMA**2) * rng.chisquare(m - 1, outer) / (m - 1)
    E = SIGMA**2 * rng.chisquare(m * (k - 1), outer) / (m * (k - 1))
    mean = rng.normal(size=outer) * np.sqrt((k * SD**2 + SIGMA**2) / (m * k))
    ratio_a = rng.chisquare(m - 1, inner) / (m - 1)
    ratio_e = rng.chisquare(m * (k - 1), inner) / (m * (k - 1))
    normal = rng.normal(size=inner)
    hits: dict[tuple[str, str], list[bool]] = {}
    for a, e, y in zip(A, E, mean, strict=True):
        a_star, e_star, y_star = a * ratio_a, e * ratio_e, y + normal * np.sqrt(a / (m * k))
        own = {
            "sd(Intercept | g)": (deviation(a, e), deviation(a_star, e_star)),
            "sigma": (np.sqrt(e), np.sqrt(e_star)),
            "Intercept": (y, y_star),
        }
        for name, (estimate, replicates) in own.items():
            for kind, (low, high) in limits(estimate, replicates).items():
                hits.setdefault((kind, name), []).append(low <= TRUTH[name] <= high)
        t = (y_star - y) / np.sqrt(a_star / (m * k))
        high, low = y - np.sqrt(a / (m * k)) * np.quantile(t, SHARES)
        hits.setdefault(("studentized", "Intercept"), []).append(low <= 0 <= high)
    return {key: float(np.mean(own)) for key, own in hits.items()}


SHARES = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])


def deviation(a: Any, e: Any) -> Any:
    return np.sqrt(np.maximum(a - e, 0) / k)


def limits(estimate: float, replicates: np.ndarray) -> dict[str, tuple[float, float]]:
    low, high = np.quantile(replicates, SHARES)
    centre = 2 * estimate - replicates.mean()
    half = stats.norm.ppf(SHARES[1]) * replicates.std()
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
        for number in range(SETS):
            y = SD * rng.normal(size=m)[G] + SIGMA * rng.normal(size=m * k)
            fit = lmer("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": G}))
            boot = fit.bootstrap(DRAWS, seed=number, kind=kind)
            for interval in KINDS:
                table = boot.conf_int(LEVEL, kind=interval)
                for name, truth in TRUTH.items():
                    low, high = table.loc[name]
                    hits.setdefault((interval, name), []).append(low <= truth <= high)
    return {key: float(np.mean(own)) for key, own in hits.items()}


def error(share: float) -> float:
    return 4 * float(np.sqrt(share * (1 - share) / SETS))


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
    z = stats.norm.ppf(SHARES[1]) * shrink
    should = 1 - 2 * stats.t.sf(z, m - 1) if interval != "studentized" else LEVEL
    found = observed(kind)[interval, "Intercept"]
    assert found == pytest.approx(should, abs=error(should) + 0.02)


@pytest.mark.parametrize("interval", ["percentile", "basic", "normal"])
def test_the_residual_deviation_is_covered_by_resampled_residuals(interval: str) -> None:
    should = expected()[interval, "sigma"]
    found = observed("residual")[interval, "sigma"]
    assert found == pytest.approx(should, abs=error(should) + 0.04)
