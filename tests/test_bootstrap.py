"""Bootstrap: replicates are the fits of the responses drawn, whoever computes them; intervals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lmmfast import ConvergenceWarning, datasets, lmer
from lmmfast.inference.intervals.parameters import parameters_of, values_of
from lmmfast.resampling import intervals
from lmmfast.resampling.draws import reflated

FORMULA = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def sleep():
    return lmer(FORMULA, datasets.load("sleepstudy"))


@pytest.fixture(scope="module")
def crossed():
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"a": np.repeat(np.arange(10), 12), "b": np.tile(np.arange(6), 20)})
    data["x"], data["w"] = rng.normal(size=120), rng.uniform(0.5, 2, 120)
    data["y"] = rng.normal(size=10)[data.a] + rng.normal(size=6)[data.b] + rng.normal(size=120)
    return lmer("y ~ x + (1 + x | a) + (1 | b)", data, weights="w"), data


def parameters(fit):
    return values_of(parameters_of(fit), fit)


def test_replicates_are_fits_of_what_was_simulated(sleep):
    boot = sleep.bootstrap(12, seed=5)
    Y = sleep.simulate(12, seed=5)
    for i in range(12):
        fit = lmer(FORMULA, datasets.load("sleepstudy").assign(Reaction=Y[i]))
        assert boot.fits.objective[i] == pytest.approx(fit.objective, abs=1e-8)
        np.testing.assert_allclose(boot.replicates[i], parameters(fit), rtol=1e-4)
        np.testing.assert_allclose(boot.fits.se[i], fit.bse, rtol=1e-6)
    assert list(boot.to_frame().columns[:6]) == list(boot.names)


@pytest.mark.parametrize("kind", ["parametric", "residual", "cases"])
def test_nobody_changes_a_replicate(crossed, kind, tmp_path):
    fit, _ = crossed
    one = fit.bootstrap(24, seed=2, kind=kind)
    two = fit.bootstrap(24, seed=2, kind=kind, threads=2)
    np.testing.assert_array_equal(one.replicates, two.replicates)
    np.testing.assert_array_equal(one.replicates[:9], fit.bootstrap(9, 2, kind=kind).replicates)
    with ThreadPoolExecutor(2) as pool:
        there = fit.bootstrap(24, seed=2, kind=kind, client=pool)
    np.testing.assert_array_equal(one.replicates, there.replicates)
    fit.bootstrap(9, seed=2, kind=kind, checkpoint=tmp_path / "boot")
    resumed = fit.bootstrap(24, seed=2, kind=kind, checkpoint=tmp_path / "boot")
    np.testing.assert_array_equal(one.replicates, resumed.replicates)
    with pytest.raises(ValueError, match="of another run"):
        fit.bootstrap(24, seed=3, kind=kind, checkpoint=tmp_path / "boot")
    other = fit.bootstrap(24, seed=3, kind=kind)
    assert (one.replicates != other.replicates).any() and one.seed == 2


def test_a_refit_bootstraps_its_own_response(sleep):
    y = sleep.simulate(1, seed=77)[0]
    fit = sleep.refit(y)
    boot = fit.bootstrap(5, seed=1)
    again = lmer(FORMULA, datasets.load("sleepstudy").assign(Reaction=y)).bootstrap(5, seed=1)
    np.testing.assert_allclose(boot.replicates, again.replicates, rtol=1e-4)


def test_residual_draws_have_the_estimated_moments(crossed):
    fit, _ = crossed
    for b, T in zip(fit.estimates.b, fit.estimates.T, strict=True):
        own = reflated(b, fit.sigma * T)
        np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(own.T @ own / len(own), fit.sigma**2 * T @ T.T, atol=1e-10)
    boot = fit.bootstrap(300, seed=4, kind="residual")
    assert abs(boot.bias["x"]) < 4 * boot.se["x"] / np.sqrt(300)
    assert boot.replicates[:, boot.names.index("sigma")].mean() == pytest.approx(fit.sigma, rel=0.1)


def test_modes_without_variance_stay_without():
    b = np.array([[1.0, 2.0], [2.0, 4.0], [-1.0, -2.0], [0.5, 1.0]])
    own = reflated(b, np.array([[1.0, 0.0], [2.0, 0.0]]))
    np.testing.assert_allclose(own.T @ own / 4, [[1, 2], [2, 4]], atol=1e-12)
    assert not reflated(np.zeros((5, 2)), np.zeros((2, 2))).any()


def test_cases_are_whole_levels(crossed):
    fit, data = crossed
    boot = fit.bootstrap(6, seed=3, kind="cases", by="a")
    from lmmfast.many.streams import Streams

    for i in range(6):
        drawn = Streams(3).generator(i).integers(0, 10, 10)
        parts = [data[data.a == g].assign(a=copy) for copy, g in enumerate(drawn)]
        again = lmer("y ~ x + (1 + x | a) + (1 | b)", pd.concat(parts), weights="w")
        assert boot.fits.objective[i] == pytest.approx(again.objective, abs=1e-7)
        np.testing.assert_allclose(boot.fits.beta[i], again.params, rtol=1e-5)
    assert boot.by == "a" and fit.bootstrap(2, seed=3, kind="cases", by="b").by == "b"


def test_nested_factors_are_copied_with_their_level():
    data = datasets.load("Pastes")
    fit = lmer("strength ~ 1 + (1 | batch / cask)", data)
    boot = fit.bootstrap(4, seed=6, kind="cases", by="batch")
    from lmmfast.many.streams import Streams

    names = fit.design.terms[[term.group for term in fit.design.terms].index("batch")].levels
    for i in range(4):
        drawn = Streams(6).generator(i).integers(0, 10, 10)
        parts = [
            data[data.batch == names[g]].assign(batch=f"copy {copy}")
            for copy, g in enumerate(drawn)
        ]
        again = lmer("strength ~ 1 + (1 | batch / cask)", pd.concat(parts))
        assert boot.fits.objective[i] == pytest.approx(again.objective, abs=1e-7)


def test_statistics_are_rows_too(sleep):
    def ratio(fit):
        if fit.params["Days"] > 11.5:
            raise ArithmeticError("too large")
        return {"ratio": fit.params["Days"] / fit.sigma, "llf": fit.llf}

    boot = sleep.bootstrap(20, seed=5, statistic=ratio)
    plain = sleep.bootstrap(20, seed=5)
    days = plain.fits.beta[:, 1]
    failed = days > 11.5
    assert 0 < failed.sum() < 10
    column = boot.replicates[:, boot.names.index("ratio")]
    np.testing.assert_allclose(column[~failed], (days / plain.fits.sigma)[~failed], rtol=1e-6)
    assert np.isnan(column[failed]).all()
    assert all("too large" in word for word in boot.fits.status[failed])
    assert boot.n_failed == failed.sum() and len(boot.to_frame()) == 20
    with pytest.warns(ConvergenceWarning, match=f"{failed.sum()} lack numbers"):
        limits = boot.conf_int(parameters="ratio")
    assert list(limits.index) == ["ratio"]
    with pytest.raises(ArithmeticError):
        sleep.bootstrap(3, statistic=lambda fit: 1 / 0)
    for value in (None, "x", object()):
        with pytest.raises(TypeError, match="statistic must return"):
            sleep.bootstrap(3, statistic=lambda fit, value=value: value)
    with pytest.raises(TypeError, match="function of a fit"):
        sleep.bootstrap(3, statistic="Days")


def test_modes_may_be_kept(sleep):
    boot = sleep.bootstrap(6, seed=4, re="fixed")
    Y = sleep.simulate(6, seed=4, re="fixed")
    for i in range(6):
        assert boot.fits.objective[i] == pytest.approx(sleep.refit(Y[i]).objective, abs=1e-8)
    with pytest.raises(ValueError, match='re="fixed" is for'):
        sleep.bootstrap(3, kind="residual", re="fixed")


def test_explained_variance_has_intervals(sleep):
    limits = sleep.bootstrap(40, seed=1, statistic=lambda fit: fit.r2()).conf_int()
    shares = limits.loc[list(sleep.r2().index)]
    assert ((shares["lower"] < sleep.r2()) & (sleep.r2() < shares["upper"])).all()


def test_held_parameters_stay_held():
    data = datasets.load("sleepstudy")
    fit = lmer(FORMULA, data, fixed={"theta": {"Subject.Days.Intercept": 0.0}})
    boot = fit.bootstrap(8, seed=1)
    assert (boot.fits.theta[:, 1] == 0).all() and boot.fits.converged.all()
    known = lmer(FORMULA, data, sigma=25.0).bootstrap(4, seed=1)
    assert (known.fits.sigma == 25).all()


# ---- intervals -----------------------------------------------------------------------------------


def test_quantiles_are_order_statistics():
    values = np.random.default_rng(1).normal(size=(999, 1))
    ordered = np.sort(values[:, 0])
    found = intervals.quantiles(values, np.array([0.025, 0.5, 0.975]))[0]
    np.testing.assert_allclose(found, ordered[[24, 499, 974]])
    values[3] = np.nan
    assert np.isfinite(intervals.quantiles(values, np.array([0.025]))).all()
    between = intervals.quantiles(np.arange(1.0, 11)[:, None], np.array([0.25]))[0, 0]
    z = stats.norm.ppf([0.25, 2 / 11, 3 / 11])
    assert between == pytest.approx(2 + (z[0] - z[1]) / (z[2] - z[1]))
    outside = intervals.quantiles(np.arange(1.0, 11)[:, None], np.array([0.001, 0.999]))[0]
    assert list(outside) == [1, 10]


def test_intervals_agree_with_scipys():
    rng = np.random.default_rng(2)
    x = rng.exponential(size=40)
    found = stats.bootstrap((x,), np.mean, n_resamples=4000, method="BCa", rng=rng)
    replicates = found.bootstrap_distribution[:, None]
    jack = np.array([np.delete(x, i).mean() for i in range(40)])
    d = jack.mean() - jack
    a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    estimate = np.array([x.mean()])
    ours = intervals.bca(estimate, replicates, np.array([a]), 0.95)[0]
    theirs = found.confidence_interval
    np.testing.assert_allclose(ours, [theirs.low, theirs.high], rtol=5e-3)
    ours = intervals.basic(estimate, replicates, 0.95)[0]
    theirs = stats.bootstrap(
        (x,), np.mean, n_resamples=0, bootstrap_result=found, method="basic"
    ).confidence_interval
    np.testing.assert_allclose(ours, [theirs.low, theirs.high], rtol=5e-3)


def test_bca_without_skewness_is_the_percentile_interval():
    values = np.concatenate([np.arange(-50, 51.0), [0.0]])[:, None]
    plain = intervals.percentile(np.zeros(1), values, 0.9)
    np.testing.assert_allclose(intervals.bca(np.zeros(1), values, np.zeros(1), 0.9), plain)
    assert np.isnan(intervals.bca(np.full(1, 99.0), values, np.zeros(1), 0.9)).all()


def test_studentized_intervals_of_normal_data_are_students():
    rng = np.random.default_rng(3)
    x = rng.normal(3, 2, size=9)
    draws = rng.normal(x.mean(), x.std(ddof=1), size=(60_000, 9))
    se = x.std(ddof=1) / 3
    errors = draws.std(axis=1, ddof=1)[:, None] / 3
    found = intervals.studentized(
        np.array([x.mean()]), draws.mean(axis=1)[:, None], np.array([se]), errors, 0.95
    )[0]
    np.testing.assert_allclose(found, stats.t.interval(0.95, 8, x.mean(), se), atol=0.07)


def test_kinds_of_a_fit(sleep):
    boot = sleep.bootstrap(400, seed=9)
    wald = sleep.conf_int()
    for kind in ("percentile", "basic", "normal", "studentized"):
        limits = boot.conf_int(kind=kind, parameters="fixed")
        np.testing.assert_allclose(limits, wald, rtol=0.1, atol=1)
    limits = sleep.conf_int(method="boot", n=400, seed=9, parameters=["Days", "sigma"])
    pd.testing.assert_frame_equal(limits, boot.conf_int(parameters=["Days", "sigma"]))
    assert boot.conf_int(kind="studentized").loc["sigma"].isna().all()
    assert "400 parametric bootstrap replicates" in str(boot) and "seed 9" in str(boot)
    with pytest.raises(ValueError, match="there is no parameter 'Day'"):
        boot.conf_int(parameters="Day")
    with pytest.raises(ValueError, match="kind must be"):
        boot.conf_int(kind="wald")
    with pytest.raises(ValueError, match="more are needed"):
        sleep.bootstrap(1, seed=1).conf_int()


def test_arguments_that_mean_nothing(sleep):
    for bad in (0, 2.5, True):
        with pytest.raises(ValueError, match="n must be"):
            sleep.bootstrap(bad)
    with pytest.raises(ValueError, match="kind must be"):
        sleep.bootstrap(3, kind="wild")
    with pytest.raises(ValueError, match="by must be a grouping factor"):
        sleep.bootstrap(3, kind="cases", by="Days")
    with pytest.raises(ValueError, match='by= is for kind="cases"'):
        sleep.bootstrap(3, by="Subject")
    with pytest.raises(ValueError, match="seed must be"):
        sleep.bootstrap(3, seed=-1)


def test_singular_replicates_are_counted():
    fit = lmer("Yield ~ 1 + (1 | Batch)", datasets.load("Dyestuff"))
    boot = fit.bootstrap(300, seed=1)
    assert 10 < boot.is_singular.sum() < 100
    np.testing.assert_array_equal(boot.is_singular, boot.replicates[:, 0] == 0)
    assert f"{boot.is_singular.sum()} singular" in str(boot)


def test_bca_intervals_of_a_fit(crossed):
    fit, data = crossed
    boot = fit.bootstrap(300, seed=3)
    limits = boot.conf_int(kind="bca", parameters=["x", "sigma", "sd(Intercept | a)"])
    plain = boot.conf_int(parameters=["x", "sigma", "sd(Intercept | a)"])
    assert (limits["lower"] < limits["upper"]).all() and (limits != plain).to_numpy().any()
    # the acceleration by its definition, from fits without each level
    cubes = squares = 0.0
    for group in ("a", "b"):
        some = [data[data[group] != level] for level in data[group].unique()]
        beta = np.array(
            [lmer("y ~ x + (1 + x | a) + (1 | b)", part, weights="w").params["x"] for part in some]
        )
        m = len(beta)
        influence = (m - 1) * (beta.mean() - beta)
        cubes += (influence**3).sum() / m**3
        squares += (influence**2).sum() / m**2
    place = boot.names.index("x")
    assert boot._accelerations[place] == pytest.approx(cubes / (6 * squares**1.5), rel=1e-4)
    with pytest.raises(ValueError, match="jackknife of a statistic"):
        fit.bootstrap(30, seed=1, statistic=lambda fit: fit.llf).conf_int(kind="bca")
    cases = fit.bootstrap(40, seed=1, kind="cases", by="a")
    assert np.isfinite(cases.conf_int(kind="bca", parameters="fixed")).to_numpy().all()
