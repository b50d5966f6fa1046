"""Bootstraps of likelihood ratios: each is that of two lmer calls; pbkrtest's distributions."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lmmfast import DataError, FitError, datasets, lmer, lr_test, pb_test
from lmmfast.inference.hypotheses.regression import comparable_fit
from lmmfast.many.streams import Streams
from lmmfast.resampling import ratios

R = json.loads((Path(__file__).parent / "simulated" / "pbmodcomp.json").read_text())
CASES = {case["name"]: case for case in R["cases"]}


def frame(n: int = 120, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, h = rng.integers(0, 10, n), rng.integers(0, 6, n)
    return pd.DataFrame(
        {
            "y": rng.normal(size=n) + 0.7 * rng.normal(size=10)[g] + 0.4 * rng.normal(size=6)[h],
            "g": g,
            "h": h,
            "x": rng.normal(size=n),
            "w": rng.uniform(0.5, 2, n),
            "o": rng.normal(size=n),
        }
    )


# ---- each ratio ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("small", "large", "reml"),
    [
        ("y ~ 1 + (1 + x | g)", "y ~ x + (1 + x | g)", False),
        ("y ~ x + (1 | g)", "y ~ x + (1 | g) + (1 | h)", True),
        ("y ~ x + (1 + x || g)", "y ~ x + (1 + x | g)", True),
    ],
)
def test_ratios_are_those_of_the_same_responses(small: str, large: str, reml: bool) -> None:
    data, how = frame(), {"weights": "w", "offset": "o"}
    fit0, fit1 = lmer(small, data, **how), lmer(large, data, **how)
    test = pb_test(fit0, fit1, n=12, seed=5)
    assert test.reml is reml
    drawn = fit0.update(reml=reml).simulate(12, seed=5)
    for k in range(12):
        own = data.assign(y=drawn[k])
        a, b = (lmer(formula, own, reml=reml, **how).objective for formula in (small, large))
        assert test.null[k] == pytest.approx(max(a - b, 0.0), abs=1e-5)
    a, b = (lmer(formula, data, reml=reml, **how).objective for formula in (small, large))
    assert test.statistic == pytest.approx(max(a - b, 0.0), abs=1e-5)
    assert test.pvalue == (1 + np.sum(test.null >= test.statistic)) / 13
    assert test.boundary is (small == "y ~ x + (1 | g)")


def test_parameters_that_are_held_stay_so() -> None:
    data = frame()
    held = {"fixed": {"theta": {"g.x.Intercept": 0}}, "reml": False}
    fit0 = lmer("y ~ 1 + (1 + x | g)", data, **held)
    fit1 = lmer("y ~ x + (1 + x | g)", data, **held)
    test = pb_test(fit0, fit1, n=6, seed=1)
    drawn = fit0.simulate(6, seed=1)
    for k in range(6):
        own = data.assign(y=drawn[k])
        a = lmer("y ~ 1 + (1 + x | g)", own, **held).objective
        b = lmer("y ~ x + (1 + x | g)", own, **held).objective
        assert test.null[k] == pytest.approx(max(a - b, 0.0), abs=1e-5)


def test_who_works_changes_nothing(tmp_path: Path) -> None:
    data = frame()
    fits = lmer("y ~ 1 + (1 | g)", data), lmer("y ~ x + (1 | g)", data)
    one = pb_test(*fits, n=150, seed=2)
    two = pb_test(*fits, n=150, seed=2, threads=2)
    with ThreadPoolExecutor(2) as pool:
        pooled = pb_test(*fits, n=150, seed=2, client=pool)
    kept = pb_test(*fits, n=150, seed=2, checkpoint=tmp_path / "ratios")
    again = pb_test(*fits, n=150, seed=2, checkpoint=tmp_path / "ratios")
    for other in (two, pooled, kept, again):
        np.testing.assert_array_equal(one.null, other.null)
    first = pb_test(*fits, n=40, seed=2)
    np.testing.assert_array_equal(one.null[:40], first.null)
    assert (pb_test(*fits, n=40, seed=3).null != first.null).any()
    drawn = pb_test(*fits, n=10)
    np.testing.assert_array_equal(pb_test(*fits, n=10, seed=drawn.seed).null, drawn.null)


def test_a_packed_job_is_the_same() -> None:
    sm = pytest.importorskip("statsmodels.formula.api")
    data = frame()
    fit = lmer("y ~ x + (1 | g)", data, reml=False)
    for fit0 in (lmer("y ~ 1 + (1 | g)", data, reml=False), comparable(sm.ols("y ~ x", data))):
        job = ratios.job_of(fit0, fit, Streams(7), 20)
        other = pickle.loads(pickle.dumps(job))
        assert other.fingerprint() == job.fingerprint()
        one, two = job.run(job.begin(), 3, 9, None), other.run(other.begin(), 3, 9, None)
        np.testing.assert_array_equal(one["ratio"], two["ratio"])
        assert ratios.job_of(fit0, fit, Streams(8), 20).fingerprint() != job.fingerprint()


def comparable(model: Any) -> Any:
    """A regression as comparisons take it."""
    return comparable_fit(model.fit())


# ---- distributions -------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, "w"])
def test_a_regression_may_be_the_hypothesis(weights: str | None) -> None:
    """Its ratios have the exact distribution that `lr_test` draws."""
    sm = pytest.importorskip("statsmodels.formula.api")
    data = frame()
    fit = lmer("y ~ x + (1 | g)", data, weights=weights, reml=False)
    if weights:
        fit0 = sm.wls("y ~ 1", data, weights=data[weights]).fit()
    else:
        fit0 = sm.ols("y ~ 1", data).fit()
    test, exact = pb_test(fit0, fit, n=2000, seed=3), lr_test(fit, fit0, n=20_000, seed=3)
    assert test.statistic == pytest.approx(exact.statistic, abs=1e-6)
    assert stats.ks_2samp(test.null, exact.null).pvalue > 0.001
    error = np.sqrt(exact.pvalue * (1 - exact.pvalue) / 2000)
    assert test.pvalue == pytest.approx(exact.pvalue, abs=4 * error + 1 / 2000)


@pytest.mark.parametrize("name", CASES)
def test_pbkrtest(name: str) -> None:
    case = CASES[name]
    data = datasets.load("sleepstudy") if name == "sleepstudy" else pd.DataFrame(R["data"])
    fit0, fit1 = (lmer(case[size], data, reml=False) for size in ("small", "large"))
    test = pb_test(fit0, fit1, n=3000, seed=1)
    table = {row["_row"]: row for row in case["table"]}
    assert test.statistic == pytest.approx(table["LRT"]["stat"], abs=1e-4)
    assert test.df == table["LRT"]["df"]
    assert test.table.loc["LRT", "pvalue"] == pytest.approx(table["LRT"]["p.value"], abs=1e-5)
    assert test.failed == 0
    theirs = np.maximum(np.array(case["ref"], dtype=float), 0)
    theirs[theirs < 1e-4], ours = 0.0, np.where(test.null < 1e-4, 0.0, test.null)
    zero = np.mean(theirs == 0)
    error = np.sqrt(zero * (1 - zero) * (1 / 2000 + 1 / 3000))
    assert np.mean(ours == 0) == pytest.approx(zero, abs=4 * error + 1e-3)
    assert stats.ks_2samp(ours, theirs).pvalue > 0.001
    p = (1 + np.sum(theirs >= test.statistic)) / 2001  # pbkrtest counts the positive ones alone
    error = np.sqrt(p * (1 - p) * (1 / 2000 + 1 / 3000))
    assert test.pvalue == pytest.approx(p, abs=4 * error + 1e-3)


@pytest.mark.parametrize("name", ["sleepstudy", "factor"])
def test_approximations_are_those_of_pbkrtest(name: str) -> None:
    case = CASES[name]
    table = {row["_row"]: row for row in case["table"]}
    df = table["LRT"]["df"]
    null = np.array(case["ref"], dtype=float)
    own = of_ratios(null[null > 0], table["LRT"]["stat"], df).table  # it leaves out what is not
    for row in ("LRT", "Gamma", "Bartlett"):
        assert own.loc[row, "stat"] == pytest.approx(table[row]["stat"], rel=1e-5)
        assert own.loc[row, "pvalue"] == pytest.approx(table[row]["p.value"], rel=1e-3, abs=1e-9)
    assert own.loc["F", "stat"] == pytest.approx(table["F"]["stat"], rel=1e-6)
    mean = null[null > 0].mean() / df
    assert own.loc["F", "ddf"] == pytest.approx(2 * mean / (mean - 1))  # F(df, ddf) has this mean
    if df == 1:
        assert own.loc["F", "ddf"] == pytest.approx(table["F"]["ddf"], rel=1e-3)
        assert own.loc["F", "pvalue"] == pytest.approx(table["F"]["p.value"], rel=1e-3)


def of_ratios(null: np.ndarray, statistic: float, df: int) -> Any:
    """A test with these ratios."""
    from lmmfast.resampling.pb import PBTest

    n = len(null)
    status = np.full(n, "converged", dtype=object)
    sizes = {"n": n, "used": n, "failed": 0, "seed": 0}
    rest = {"boundary": False, "reml": False, "seconds": 0.0, "notes": ()}
    return PBTest("", (), statistic, df, 0.5, (0.4, 0.6), null, status, **sizes, **rest)


def test_gamma_fits_gamma_ratios() -> None:
    null = stats.gamma.ppf((np.arange(20_000) + 0.5) / 20_000, 0.7, scale=2.5)
    own = of_ratios(null, 4.0, 1).table
    assert own.loc["Gamma", "pvalue"] == pytest.approx(stats.gamma.sf(4, 0.7, scale=2.5), rel=0.01)
    halves = np.concatenate([null, np.zeros(20_000)])
    tail = of_ratios(halves, 4.0, 1).table.loc["Gamma", "pvalue"]
    assert tail == pytest.approx(own.loc["Gamma", "pvalue"] / 2)


# ---- failures and notes --------------------------------------------------------------------------


def test_fits_that_fail_are_counted_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    data = frame()
    fits = lmer("y ~ 1 + (1 | g)", data), lmer("y ~ x + (1 | g)", data)
    whole = pb_test(*fits, n=30, seed=1)
    first = fits[0].update(reml=False).simulate(30, seed=1).iloc[0].to_numpy()
    bad = {1: first[3], 2: first[7]}  # the hypothesis has one column of X, the alternative two
    fitted = ratios.fitted_columns

    def failing(model: Any, Y: Any, weights: Any, want: Any) -> Any:
        found = fitted(model, Y, weights, want)
        found["status"][abs(Y[0] - bad[len(model.design.x_names)]) < 1e-5] = "evaluation limit"
        return found

    monkeypatch.setattr(ratios, "fitted_columns", failing)
    test = pb_test(*fits, n=30, seed=1)
    assert (test.n, test.used, test.failed) == (30, 28, 2)
    gone = np.isnan(test.null)
    assert list(np.flatnonzero(gone)) == [3, 7]
    assert list(test.status[gone]) == ["hypothesis: evaluation limit", "evaluation limit"]
    np.testing.assert_array_equal(test.null[~gone], whole.null[~gone])
    assert test.pvalue == (1 + np.sum(test.null[~gone] >= test.statistic)) / 29
    assert "2 responses are left out" in str(test)


def test_what_cannot_be_tested_is_refused_in_words() -> None:
    data = frame()
    one, two = lmer("y ~ x + (1 | g)", data), lmer("y ~ x + (1 | g) + (1 | h)", data)
    with pytest.raises(FitError, match="no special case of the second"):
        pb_test(two, one)
    with pytest.raises(FitError, match="no special case of the second"):
        pb_test(lmer("y ~ x + (1 | h)", data), one)
    with pytest.raises(FitError, match="no special case of the second: fixed effects"):
        pb_test(lmer("y ~ o + (1 | g)", data), two)
    with pytest.raises(DataError, match="different responses"):
        pb_test(lmer("w ~ x + (1 | g)", data), two)
    with pytest.raises(DataError, match="rows"):
        pb_test(lmer("y ~ x + (1 | g)", [data]), lmer("y ~ x + (1 | g) + (1 | h)", [data]))
    with pytest.raises(ValueError, match="n must be a whole number"):
        pb_test(one, two, n=0)
    with pytest.raises(ValueError, match="threads must be a whole number"):
        pb_test(one, two, threads=0)
    with pytest.raises(TypeError, match="a fit as lmer gives it"):
        pb_test(one, "y ~ x")


def test_the_interval_is_that_of_a_binomial_share() -> None:
    data = frame()
    test = pb_test(lmer("y ~ 1 + (1 | g)", data), lmer("y ~ x + (1 | g)", data), n=200, seed=1)
    extreme = int(np.sum(test.null >= test.statistic))
    own = stats.binomtest(extreme, 200).proportion_ci(0.95, method="exact")
    assert test.interval == pytest.approx((own.low, own.high))
    nothing = pb_test(
        lmer("y ~ 1 + (1 | g)", data.assign(y=data["y"] + 5 * data["x"])),
        lmer("y ~ x + (1 | g)", data.assign(y=data["y"] + 5 * data["x"])),
        n=50,
        seed=1,
    )
    assert nothing.interval[0] == 0 and nothing.pvalue == 1 / 51


def test_it_prints() -> None:
    data = frame()
    test = pb_test(lmer("y ~ x + (1 | g)", data), lmer("y ~ x + (1 | g) + (1 | h)", data), 99, 1)
    text = str(test)
    assert "Parametric bootstrap of the likelihood ratio, REML" in text
    assert "99 ratios drawn under the hypothesis (seed 1" in text and "Bartlett" in text
    assert np.isnan(test.table.loc["Bartlett", "pvalue"])  # on the boundary
    assert "<table>" in test._repr_html_()
    assert list(test.to_frame().columns) == ["stat", "df", "ddf", "pvalue"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("small", "large"),
    [("y ~ 1 + (1 | g)", "y ~ x + (1 | g)"), ("y ~ 1 + (1 | g)", "y ~ 1 + (1 | g) + (1 | h)")],
)
def test_p_values_are_uniform_under_the_hypothesis(small: str, large: str) -> None:
    """P(p <= a) is a, at the small a where a ratio of zero plays no part."""
    data = frame(n=40)
    drawn = lmer(small, data).simulate(200, seed=1, params={"sd": {"g": 0.5}, "sigma": 1.0})
    p = []
    for k in range(200):
        own = data.assign(y=drawn[k])
        p.append(pb_test(lmer(small, own), lmer(large, own), n=199, seed=k).pvalue)
    for level in (0.05, 0.1, 0.2):
        error = 4 * np.sqrt(level * (1 - level) / 200)
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=error)
