"""Bootstraps beside single lmer calls of the same responses, and beside lme4's distributions."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lmmfast import datasets, lmer
from lmmfast.many.streams import Streams
from lmmfast.resampling.draws import WithReplacement

LME4 = json.loads((Path(__file__).parent / "simulated" / "bootmer.json").read_text())
MODELS = {
    "y ~ x + (1 | s)": {},
    "y ~ x + f + (1 + x | s) + (1 | i)": {"weights": "w", "offset": "o"},
    "y ~ x + (1 + x || s) + (1 | i)": {"reml": False},
    "y ~ x + I(2 * x) + (1 | s:f) + (1 | s)": {},
}


def frame(n: int = 150, seed: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    s, i = rng.integers(0, 14, n), rng.integers(0, 7, n)
    x = rng.normal(size=n)
    y = rng.normal(size=n) + rng.normal(size=14)[s] + 0.6 * rng.normal(size=14)[s] * x
    return pd.DataFrame(
        {
            "y": y + 0.5 * rng.normal(size=7)[i],
            "s": s,
            "i": i,
            "x": x,
            "f": rng.choice(list("ab"), n),
            "w": rng.uniform(0.5, 2, n),
            "o": rng.normal(size=n),
        }
    )


def fitted(formula: str, data: Any, **how: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lmer(formula, data, **how)


def check(boot: Any, k: int, fit: Any) -> None:
    """Row k is this fit."""
    assert boot.fits.objective[k] == pytest.approx(fit.objective, abs=1e-6)
    np.testing.assert_allclose(boot.fits.beta[k], fit.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(boot.fits.se[k], fit.bse, rtol=1e-5)
    assert boot.fits.sigma[k] == pytest.approx(fit.sigma, rel=1e-6)
    np.testing.assert_allclose(boot.fits.theta[k], fit.theta, atol=2e-4)
    columns = dict(zip(boot.names, boot.replicates[k], strict=True))
    assert columns["sigma"] == boot.fits.sigma[k]
    assert columns["x"] == boot.fits.beta[k, list(fit.params.index).index("x")]
    T = fit.estimates.T
    for t, term in enumerate(fit.design.terms):
        sizes = fit.sigma * np.linalg.norm(T[t], axis=1)
        for name, size in zip(term.columns, sizes, strict=True):
            assert columns[f"sd({name} | {term.group})"] == pytest.approx(size, abs=2e-4)


@pytest.mark.parametrize("formula", MODELS)
def test_parametric_replicates_are_fits_of_simulated_responses(formula: str) -> None:
    data, how = frame(), MODELS[formula]
    fit = fitted(formula, data, **how)
    boot = fit.bootstrap(8, seed=3)
    drawn = fit.simulate(8, seed=3)
    for k in range(8):
        check(boot, k, fitted(formula, data.assign(y=drawn[k]), **how))


@pytest.mark.parametrize("formula", MODELS)
def test_residual_replicates_are_fits_of_resampled_responses(formula: str) -> None:
    data, how = frame(), MODELS[formula]
    fit = fitted(formula, data, **how)
    boot = fit.bootstrap(8, seed=3, kind="residual")
    drawn, _ = WithReplacement(fit.design, fit.estimates, Streams(3)).columns(0, 8, None)
    offset = 0 if fit.design.offset is None else fit.design.offset
    for k in range(8):
        check(boot, k, fitted(formula, data.assign(y=drawn[:, k] + offset), **how))


@pytest.mark.parametrize("formula", MODELS)
def test_resampled_responses_have_the_estimated_moments(formula: str) -> None:
    """Mean and covariance over all draws are those of the fit: sums over levels and residuals."""
    data, how = frame(), MODELS[formula]
    fit = fitted(formula, data, **how)
    own = WithReplacement(fit.design, fit.estimates, Streams(1))
    drawn, _ = own.columns(0, 6000, None)
    beta = np.nan_to_num(fit.estimates.beta)
    mean = fit.design.X @ beta
    w = np.ones(fit.nobs) if fit.design.weights is None else fit.design.weights
    V = np.diag(fit.scale / w)
    for term, T in zip(fit.design.terms, fit.estimates.T, strict=True):
        same = term.codes[:, None] == term.codes
        V += same * (term.z @ (fit.scale * T @ T.T) @ term.z.T)
    error = np.sqrt(V.diagonal() / 6000)
    assert (abs(drawn.mean(axis=1) - mean) < 5 * error).all()
    centred = drawn - mean[:, None]
    np.testing.assert_allclose((centred**2).mean(), V.diagonal().mean(), rtol=0.03)
    for term in fit.design.terms:  # of sums over levels
        m = len(term.levels)
        Z = np.eye(m)[term.codes]
        sums = Z.T @ centred
        np.testing.assert_allclose((sums**2).mean(), np.trace(Z.T @ V @ Z) / m, rtol=0.06)


@pytest.mark.parametrize("by", ["s", "i"])
@pytest.mark.parametrize("formula", list(MODELS)[:3])
def test_cases_are_fits_of_the_rows_of_drawn_levels(formula: str, by: str) -> None:
    if by == "i" and "| i)" not in formula:
        pytest.skip("no such factor")
    data, how = frame(), MODELS[formula]
    fit = fitted(formula, data, **how)
    boot = fit.bootstrap(6, seed=3, kind="cases", by=by)
    levels = np.unique(data[by])
    for k in range(6):
        drawn = Streams(3).generator(k).integers(0, len(levels), len(levels))
        parts = [
            data[data[by] == levels[g]].assign(**{by: 100 + place}) for place, g in enumerate(drawn)
        ]
        check(boot, k, fitted(formula, pd.concat(parts, ignore_index=True), **how))


def test_lme4_has_the_same_distributions() -> None:
    """Of `bootMer`, by Kolmogorov and Smirnov, and of correlations the share at the ends."""
    fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    boot = fit.bootstrap(4000, seed=1)
    own = dict(zip(boot.names, boot.replicates.T, strict=True))
    pairs = {
        "intercept": own["Intercept"],
        "days": own["Days"],
        "sd_intercept": own["sd(Intercept | Subject)"],
        "sd_days": own["sd(Days | Subject)"],
        "cor": own["cor(Intercept, Days | Subject)"],
        "sigma": own["sigma"],
        "se_days": boot.fits.se[:, 1],
    }
    for name, values in pairs.items():
        theirs = np.array([v for v in LME4["sorted"][name] if v not in ("NaN", None)], float)
        ours = values[~np.isnan(values)]
        assert stats.ks_2samp(ours, theirs).pvalue > 0.001, name
    estimates = dict(zip(boot.names, boot.estimates, strict=True))
    assert estimates["sd(Days | Subject)"] == pytest.approx(LME4["estimates"]["sd_days"], rel=1e-5)
    share = LME4["singular"]
    error = np.sqrt(share * (1 - share) * (1 / 2000 + 1 / 4000))
    assert boot.is_singular.mean() == pytest.approx(share, abs=4 * error)
