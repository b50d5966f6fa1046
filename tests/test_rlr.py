"""Exact tests of one variance: spectra by dense algebra, suprema by search, F tests, RLRsim."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import lmmfast
from lmmfast import DataError, FitError, datasets, fit_many, lmer, lr_test, rlr_test
from lmmfast.resampling import spectrum as _spectrum
from lmmfast.resampling.spectrum import Spectrum, spectrum_of
from lmmfast.resampling.suprema import Ratio

R = json.loads((Path(__file__).parent / "simulated" / "rlrsim.json").read_text())


def frame(n: int = 80, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = rng.choice(14, n, p=np.arange(1, 15) / 105)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n) + rng.normal(0, 0.5, 14)[g],
            "g": g,
            "h": rng.integers(0, 6, n),
            "x": rng.normal(size=n),
            "c": rng.normal(size=14)[g],  # constant within levels
            "w": rng.uniform(0.5, 2, n),
        }
    )


def dense(fit: Any, i: int, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of Z'WZ beside X and of Z'WZ alone, by their definition."""
    term, w = fit.design.terms[i], fit.design.weights
    root = np.ones(fit.nobs) if w is None else np.sqrt(w)
    Z = np.eye(len(term.levels))[term.codes] * (root * term.z[:, column])[:, None]
    Q, _ = np.linalg.qr(root[:, None] * fit.design.X[:, fit.estimates.fixed_kept])
    M = Z.T @ Z
    return np.linalg.eigvalsh(M - Z.T @ Q @ Q.T @ Z), np.linalg.eigvalsh(M)


# ---- the spectrum --------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize(
    ("formula", "i", "column"),
    [
        ("y ~ x + (1 | g)", 0, 0),
        ("y ~ x + (0 + x | g)", 0, 0),
        ("y ~ x + c + (1 | g)", 0, 0),
        ("y ~ 0 + (1 | g)", 0, 0),
        ("y ~ x * c + (1 + x || g) + (1 | h)", 0, 1),
        ("y ~ x + (1 + x | g) + (1 | h)", 1, 0),
    ],
)
def test_eigenvalues_are_those_of_the_dense_matrix(
    formula: str, i: int, column: int, weights: str | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = lmer(formula, frame(), weights=weights)
    own = spectrum_of(fit, i, column)
    beside, alone = dense(fit, i, column)
    positive = beside[beside > 1e-9 * alone.max()]
    np.testing.assert_allclose(np.repeat(own.values, own.counts.astype(int)), positive, rtol=1e-9)
    np.testing.assert_allclose(np.repeat(own.diagonal, own.diagonal_counts.astype(int)), alone)
    rank = int(fit.estimates.fixed_kept.sum())
    assert own.residual == fit.nobs - rank
    assert own.rest == fit.nobs - rank - len(positive)


def test_a_term_of_which_nothing_is_left_is_refused_in_words() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = lmer("y ~ factor(h) + (1 | h)", frame())
    for test in (rlr_test, lr_test):
        with pytest.raises(FitError, match=r"take up all that \(1 \| h\) could explain"):
            test(fit)


def test_equal_levels_are_taken_together() -> None:
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(3000), rng.integers(1, 5, 3000))
    data = pd.DataFrame({"g": g, "x": rng.normal(size=len(g)), "y": rng.normal(size=len(g))})
    own = spectrum_of(lmer("y ~ x + (1 | g)", data), 0)
    assert len(own.values) <= 4 + 4 * 2
    assert own.counts.sum() == 3000 - 1  # the mean of all levels is a fixed effect
    assert own.values @ own.counts == pytest.approx(
        len(g) - dense_trace(data), rel=1e-12
    )  # the trace


def dense_trace(data: pd.DataFrame) -> float:
    """Trace of Z'QQ'Z."""
    Q, _ = np.linalg.qr(np.column_stack([np.ones(len(data)), data["x"]]))
    return float(sum(np.sum(np.bincount(data["g"], q) ** 2) for q in Q.T))


def test_too_many_different_levels_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_spectrum, "MOST", 10)
    fit = lmer("y ~ x + (1 | g)", frame(), weights="w")
    with pytest.raises(FitError, match=r"\(1 \| g\) has 1\d levels.*order 1\d.*lmmfast.ranova"):
        rlr_test(fit)


def test_streams_have_the_same_spectrum() -> None:
    data = frame()
    for how in ({}, {"weights": "w"}):
        own = spectrum_of(lmer("y ~ x + (1 | g)", data, **how), 0)
        streamed = spectrum_of(lmer("y ~ x + (1 | g)", [data[:30], data[30:]], **how), 0)
        np.testing.assert_allclose(streamed.values, own.values, rtol=1e-10)
        np.testing.assert_array_equal(streamed.counts, own.counts)
        np.testing.assert_allclose(streamed.diagonal, own.diagonal, rtol=1e-12)
        assert streamed.rest == own.rest
    test = rlr_test(lmer("y ~ x + (1 | g)", [data[:30], data[30:]]), n=500, seed=1)
    assert test.pvalue == rlr_test(lmer("y ~ x + (1 | g)", data), n=500, seed=1).pvalue


# ---- the distribution ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["restricted", "whole"])
@pytest.mark.parametrize("rest", [1, 40])
@pytest.mark.parametrize("K", [1, 9, 300])
def test_suprema_are_those_of_a_search(K: int, rest: int, kind: str) -> None:
    rng = np.random.default_rng(K)
    values = np.sort(rng.uniform(0.2, 30, K))
    counts = rng.integers(1, 3, K).astype(float)
    own = Spectrum(values, counts, rest, values * 1.1, counts)
    ratio = Ratio.restricted(own) if kind == "restricted" else Ratio.whole(own, own.residual + 3)
    found = ratio.draws(30, np.random.default_rng(1))
    c, left = next(ratio._squares(30, np.random.default_rng(1)))

    def values_at(logs: np.ndarray, i: int) -> np.ndarray:
        lam = np.exp(logs)[:, None]
        D = (c[i] / (1 + lam * values)).sum(axis=1) + left[i]
        penalty = np.log1p(lam * ratio.xi) @ ratio.times
        return np.asarray(ratio.nu * np.log((c[i].sum() + left[i]) / D) - penalty)

    for i, draw in enumerate(found):
        logs = np.linspace(-16, 14, 600)
        best = logs[values_at(logs, i).argmax()]
        closer = np.linspace(best - 0.06, best + 0.06, 500)
        assert draw == pytest.approx(max(0.0, values_at(closer, i).max()), abs=2e-5)
    assert (found == 0).any()
    assert kind == "whole" or (found > 0.1).any()


@pytest.mark.parametrize("m", [4, 25])
def test_balanced_groups_have_the_p_value_of_the_f_test(m: int) -> None:
    rng = np.random.default_rng(m)
    g = np.repeat(np.arange(m), 5)
    for effect in (0.5, 0.8):
        y = rng.normal(size=5 * m) + effect * rng.normal(size=m)[g]
        fit = lmer("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": g}))
        means = y.reshape(m, 5).mean(axis=1)
        within = ((y - means[g]) ** 2).sum() / (4 * m)
        p = stats.f.sf(5 * means.var(ddof=1) / within, m - 1, 4 * m)
        test = rlr_test(fit, n=40_000, seed=1)
        if test.statistic == 0:
            assert test.pvalue == 1
        else:  # the ratio rises with F
            assert test.pvalue == pytest.approx(p, abs=4 * test.pvalue_se)
        F = stats.f.ppf(1 - np.mean(test.null > 0), m - 1, 4 * m)
        assert abs(F - 1) < 0.05  # zero where F is below 1


@pytest.mark.parametrize("reml", [True, False], ids=["restricted", "whole"])
def test_ratios_of_drawn_responses_have_this_distribution(reml: bool) -> None:
    data = frame()
    rng = np.random.default_rng(5)
    Y = rng.normal(size=(len(data), 3000)) / np.sqrt(data["w"].to_numpy())[:, None]
    many = fit_many("~ x + c + (1 | g)", data, Y, reml=reml, weights="w", ddf="z")
    fit = lmer("y ~ x + c + (1 | g)", data, weights="w", reml=reml)
    w, X = data["w"].to_numpy(), fit.design.X
    rss = residual_squares(Y, X, w)
    n, p = X.shape
    if reml:
        nu = n - p
        log_det = np.linalg.slogdet(X.T @ (w[:, None] * X))[1]
    else:
        nu, log_det = n, 0.0
    null = nu * (1 + np.log(2 * np.pi * rss / nu)) + log_det - np.log(w).sum()
    ratios = np.maximum(null - many.objective, 0)
    draws = (rlr_test if reml else lr_test)(fit, n=20_000, seed=2).null
    zero = np.mean(draws == 0)
    assert np.mean(ratios < 1e-6) == pytest.approx(zero, abs=4 * np.sqrt(zero * (1 - zero) / 3000))
    positive = stats.ks_2samp(ratios[ratios > 1e-4], draws[draws > 1e-4])
    assert positive.pvalue > 0.001


def residual_squares(Y: np.ndarray, X: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Weighted residual sums of squares of the columns of Y."""
    root = np.sqrt(w)[:, None]
    Q, _ = np.linalg.qr(root * X)
    V = root * Y
    return np.asarray(((V - Q @ (Q.T @ V)) ** 2).sum(axis=0))


# ---- RLRsim --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", R["cases"], ids=lambda case: f"{case['kind']} {case['formula']}")
def test_rlrsim(case: dict[str, Any]) -> None:
    sm = pytest.importorskip("statsmodels.formula.api")
    data = pd.DataFrame(R["data"])
    fit = lmer(case["formula"], data)
    if case["kind"] == "whole":
        test = lr_test(fit, sm.ols(case["hypothesis"], data).fit(), n=40_000, seed=1)
    else:
        fit0 = lmer(case["hypothesis"], data) if case["kind"] == "beside" else None
        test = rlr_test(fit, fit0, n=40_000, seed=1)
    assert test.statistic == pytest.approx(max(case["statistic"], 0), abs=1e-5)
    if test.statistic > 0:  # RLRsim has 0.43 for a ratio of 1e-13
        error = np.sqrt(case["p"] * (1 - case["p"]) * (1 / 40_000 + 1 / case["draws"]))
        assert test.pvalue == pytest.approx(case["p"], abs=4 * error + 2 / 40_000)
    else:
        assert test.pvalue == 1
    error = 4 * np.sqrt(case["zero"] * (1 - case["zero"]) * (1 / 40_000 + 1 / case["draws"]))
    assert np.mean(test.null < 1e-8) == pytest.approx(case["zero"], abs=error)
    for prob, quantile in zip(case["probs"], case["quantiles"], strict=True):
        if quantile > 0.1:
            error = np.sqrt(prob * (1 - prob) * (1 / 40_000 + 1 / case["draws"]))
            assert np.mean(test.null <= quantile) == pytest.approx(prob, abs=4 * error)


# ---- the call ------------------------------------------------------------------------------------


def test_the_seed_repeats_the_test() -> None:
    fit = lmer("y ~ x + (1 | g)", frame())
    one, same, other = (rlr_test(fit, n=3000, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.null, same.null)
    assert (one.null != other.null).any()
    drawn = rlr_test(fit, n=3000)
    np.testing.assert_array_equal(rlr_test(fit, n=3000, seed=drawn.seed).null, drawn.null)
    assert one.pvalue == (1 + np.sum(one.null >= one.statistic)) / 3001
    assert one.pvalue_se == pytest.approx(np.sqrt(one.pvalue * (1 - one.pvalue) / 3000))


def test_other_criteria_are_refitted_and_said() -> None:
    data = frame()
    rest = lmer("y ~ x + (1 | h)", data, reml=False)
    both = lmer("y ~ x + (1 | g) + (1 | h)", data, reml=False)
    test = rlr_test(both, rest, n=500, seed=1)
    by_reml = rlr_test(both.update(reml=True), rest.update(reml=True), n=500, seed=1)
    assert test.statistic == pytest.approx(by_reml.statistic, abs=1e-6)
    assert "fitted by REML" in str(test) and "approximate" in str(test)
    alone = lmer("y ~ x + (1 | g)", data)
    whole = lr_test(alone, n=500, seed=1)
    assert whole.statistic == pytest.approx(
        lr_test(alone.update(reml=False), n=500, seed=1).statistic, abs=1e-6
    )
    assert "fitted by maximum likelihood" in str(whole)


def test_terms_are_recognized_by_their_numbers() -> None:
    data = frame().assign(k=lambda d: d["g"].map(lambda v: f"level {97 * v % 89}"))
    one = rlr_test(
        lmer("y ~ x + (1 | g) + (1 | h)", data), lmer("y ~ x + (1 | k)", data), n=200, seed=1
    )
    assert one.title.endswith("of Intercept by h")
    two = rlr_test(lmer("y ~ x + (1 + x || g)", data), lmer("y ~ x + (1 | g)", data), n=200, seed=1)
    assert two.title.endswith("of x by g")


def test_what_is_no_test_of_one_variance_is_refused_in_words() -> None:
    data = frame()
    one, two = lmer("y ~ x + (1 | g)", data), lmer("y ~ x + (1 | g) + (1 | h)", data)
    slopes = lmer("y ~ x + (1 + x | g)", data)
    with pytest.raises(FitError, match=r"one random term of one column.*\(1 \| g\), \(1 \| h\)"):
        rlr_test(two)
    with pytest.raises(FitError, match="one random term"):
        lr_test(slopes)
    with pytest.raises(FitError, match=r"no random effect of the alternative"):
        rlr_test(slopes, one)
    with pytest.raises(FitError, match=r"differ in none"):
        rlr_test(one, one)
    both = lmer("y ~ x + (1 + x | h) + (1 | g)", data)
    with pytest.raises(FitError, match="differ in Intercept by h and x by h"):
        rlr_test(both, one)
    with pytest.raises(FitError, match="fixed effects"):
        rlr_test(two, lmer("y ~ (1 | g)", data))
    with pytest.raises(DataError, match="different responses"):
        rlr_test(two, lmer("w ~ x + (1 | g)", data))
    with pytest.raises(FitError, match="held"):
        rlr_test(lmer("y ~ x + (1 | g)", data, sigma=1.0))
    with pytest.raises(FitError, match="no random effects"):
        lr_test(one, lmer("y ~ 1 + (1 | h)", data))
    with pytest.raises(ValueError, match="n must be a whole number"):
        rlr_test(one, n=0)
    with pytest.raises(ValueError, match="seed must be"):
        rlr_test(one, seed=-1)
    with pytest.raises(TypeError, match="a fit as lmer gives it"):
        rlr_test("y ~ x")


def test_regressions_must_be_nested() -> None:
    sm = pytest.importorskip("statsmodels.formula.api")
    data = frame()
    fit = lmer("y ~ x + (1 | g)", data)
    with pytest.raises(FitError, match="not nested"):
        lr_test(fit, sm.ols("y ~ c", data).fit())
    weighted = sm.wls("y ~ 1", data, weights=data["w"]).fit()
    with pytest.raises(FitError, match="different weights"):
        lr_test(fit, weighted)
    test = lr_test(lmer("y ~ x + (1 | g)", data, weights="w"), weighted, n=200, seed=1)
    assert test.title.endswith("of Intercept by g and 1 fixed effect")


def test_the_regression_without_the_term_is_no_news() -> None:
    sm = pytest.importorskip("statsmodels.formula.api")
    data = frame()
    fit = lmer("y ~ x + (1 | g)", data)
    own = rlr_test(fit, n=300, seed=1)
    np.testing.assert_array_equal(
        rlr_test(fit, sm.ols("y ~ x", data).fit(), n=300, seed=1).null, own.null
    )
    for other in ("y ~ 1", "y ~ c"):
        with pytest.raises(FitError, match="lr_test tests fixed effects, too"):
            rlr_test(fit, sm.ols(other, data).fit())
    with pytest.raises(FitError, match="one random term of one column"):
        rlr_test(lmer("y ~ x + (1 + x | g)", data), sm.ols("y ~ x", data).fit())


def test_it_prints() -> None:
    test = rlr_test(lmer("y ~ x + (1 | g)", frame()), n=1000, seed=1)
    text = str(test)
    assert "Restricted likelihood ratio of the variance of Intercept by g" in text
    assert "1,000 ratios drawn under the hypothesis (seed 1)" in text
    assert "<table>" in test._repr_html_()
    row = test.to_frame()
    assert row.loc[0, "pvalue"] == test.pvalue and row.loc[0, "n"] == 1000


def test_singular_fits_have_p_one() -> None:
    data = datasets.load("sleepstudy")
    rng = np.random.default_rng(2)
    y = rng.normal(size=180)
    y -= np.repeat(y.reshape(18, 10).mean(axis=1), 10)  # no differences between subjects
    fit = lmmfast.lmer("y ~ Days + (1 | Subject)", data.assign(y=y))
    test = rlr_test(fit, n=100, seed=1)
    assert (test.statistic, test.pvalue, test.pvalue_se) == (0.0, 1.0, 0.0)
