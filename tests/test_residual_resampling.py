"""Residual structures in simulation, bootstrap, power and fits of many responses."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_residual_inference import frame, made

import lmmfast
from lmmfast import LMMFit, lmer
from lmmfast.errors import DataError

NAMES = ["strata and ar1", "column and cs", "ante", "strata, crossed"]


@pytest.mark.parametrize("name", NAMES)
def test_many_responses_are_fitted_as_one(name: str) -> None:
    fit, rng = made(name), np.random.default_rng(1)
    Y = np.column_stack([fit.design.y, fit.design.y + rng.normal(size=fit.nobs)])
    many = fit.model.fit_many(Y, ddf="kenward-roger")
    assert many.converged.all()
    again = fit.refit(Y[:, 1])
    assert many.objective == pytest.approx([fit.objective, again.objective], abs=1e-7)
    for i, one in enumerate((fit, again)):
        np.testing.assert_allclose(many.beta[i], one.params, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            many.residual[i], one.residual_parameters["estimate"], rtol=1e-3, atol=1e-5
        )
        df = one.t_test(np.eye(len(one.params)), ddf="kr").df_denom
        np.testing.assert_allclose(many.df[i], df, rtol=1e-3)
    assert many.to_frame()[list(many.residual_names)].notna().all(axis=None)


def test_missing_responses_are_fits_of_the_other_rows() -> None:
    fit, data = made("strata and ar1"), frame()
    y = data["y"].to_numpy(copy=True)
    y[[0, 7, 8, 40]] = np.nan
    many = fit.model.fit_many(y[:, None])
    some = lmer(fit.formula, data.assign(y=y).dropna(), **_structure(fit))
    assert many.n[0] == some.nobs == len(data) - 4
    assert many.objective[0] == pytest.approx(some.objective, abs=1e-7)
    y[data["half"] == "a"] = np.nan
    assert "'a' has no rows here" in fit.model.fit_many(y[:, None]).status[0]


def _structure(fit: LMMFit) -> dict[str, Any]:
    given = fit.design.given
    assert given is not None
    return {"dispersion": given.dispersion, "residual": given.residual}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["parametric", "residual", "cases"])
def test_bootstrap(name: str, kind: str) -> None:
    fit = made(name)
    boot = fit.bootstrap(12, seed=2, kind=kind)
    assert boot.fits.converged.mean() > 0.7
    own = boot.to_frame()[list(fit.residual_parameters.index)]
    assert (own.std() > 0).all()
    again = fit.bootstrap(4, seed=2, kind=kind, threads=2)
    np.testing.assert_array_equal(boot.fits.objective[:4], again.fits.objective)
    if kind == "parametric":
        y = fit.simulate(2, seed=2)[1].to_numpy()
        assert boot.fits.objective[1] == pytest.approx(fit.refit(y).objective, abs=1e-6)


def test_bootstrap_recovers_the_parameters_of_a_large_sample() -> None:
    rng = np.random.default_rng(8)
    subject = np.repeat(np.arange(120), 8)
    data = pd.DataFrame({"subject": subject, "time": np.tile(np.arange(8), 120)})
    data["y"] = rng.normal(size=120)[subject] + rng.normal(size=960)
    fit = lmer("y ~ time + (1 | subject)", data, residual="ar1(time | subject)")
    params = {"theta": [0.8], "sigma": 2.0}
    rho = fit.residual_parameters["estimate"].iloc[0]
    Y = fit.simulate(40, seed=3, params=params).to_numpy()
    many = fit.model.fit_many(Y)
    error = many.residual[:, 0].std() / np.sqrt(40)
    assert many.residual[:, 0].mean() == pytest.approx(rho, abs=4 * error)
    assert many.sigma.mean() == pytest.approx(2.0, abs=4 * many.sigma.std() / np.sqrt(40) + 0.02)


def test_drawn_residuals_with_replacement_have_the_structure() -> None:
    from lmmfast.many.streams import Streams
    from lmmfast.resampling.draws import WithReplacement

    fit = made("strata and ar1")
    assert fit.design.residual is not None
    drawn = WithReplacement(fit.design, fit.estimates, Streams(1))
    Y = drawn.columns(0, 4000, None)[0]
    modes = np.einsum("ij,ij->i", fit.design.terms[0].z, np.zeros((fit.nobs, 1)))
    e = (Y - Y.mean(axis=1, keepdims=True) - modes[:, None])[:8]
    T, sigma = fit.estimates.T[0], fit.sigma
    codes = fit.design.terms[0].codes[:8]
    R = fit.design.residual.correlation(fit.estimates.delta, np.arange(8))
    d = fit.design.residual.deviation(fit.estimates.delta)[:8]
    V = sigma**2 * (d[:, None] * R * d + T[0, 0] ** 2 * (codes[:, None] == codes))
    size = np.sqrt(V.diagonal())
    error = np.abs(np.cov(e) - V) / np.outer(size, size)
    assert error.max() < 5 * np.sqrt(2 / 4000)


@pytest.mark.parametrize("name", ["strata and ar1", "column and cs", "strata and car1"])
def test_power_and_larger_samples(name: str) -> None:
    fit = made(name)
    own = lmmfast.power(fit, test="time", n=24, seed=1)
    assert own.outcomes[0].nobs == fit.nobs
    larger = lmmfast.extend(fit, along="subject", to=90)
    assert lmmfast.power(larger, test="time", n=8, seed=1).outcomes[0].nobs > 2 * fit.nobs
    delta, scale = larger.delta()
    structure = larger.design.residual
    assert delta is not None and structure is not None and fit.design.residual is not None
    own_natural = fit.design.residual.natural(np.asarray(fit.estimates.delta))[0]
    np.testing.assert_allclose(structure.natural(delta)[0], own_natural, rtol=1e-9)
    first = fit.sigma * fit.design.residual.deviation(fit.estimates.delta)
    again = scale * fit.sigma * structure.deviation(delta)
    np.testing.assert_allclose(again[: fit.nobs], first, rtol=1e-9)


def test_new_rows_are_drawn_with_their_correlations() -> None:
    fit = made("strata and ar1")
    new = pd.DataFrame(
        {
            "time": [4.0, 0.0, 2.0, 1.0],
            "treated": 0.0,
            "subject": ["s03", "s03", "new", "s03"],
            "half": ["a", "b", "a", "a"],
        }
    )
    drawn = fit.simulate(6000, seed=1, newdata=new, re="fixed").to_numpy()
    rho, ratio = fit.residual_parameters["estimate"].to_numpy()[::-1]
    R = np.array([[1, rho**4, 0, rho**3], [rho**4, 1, 0, rho], [0, 0, 1, 0], [rho**3, rho, 0, 1.0]])
    d = np.array([1, ratio, 1, 1])
    V = fit.sigma**2 * d[:, None] * R * d
    variance = fit.sigma**2 * float(fit.estimates.T[0][0, 0]) ** 2
    V[2, 2] += variance  # of a level that the fit has not seen
    size = np.sqrt(V.diagonal())
    assert (np.abs(np.cov(drawn) - V) / np.outer(size, size)).max() < 5 * np.sqrt(2 / 6000)


BAD_ROWS: list[tuple[str, dict[str, Any], str]] = [
    ("strata and ar1", {"time": [1.0, 1.0]}, "two rows at one"),
    ("strata and ar1", {"time": [1.0, 1.5]}, "multiple of 1"),
    ("strata and ar1", {"time": [1.0, np.nan]}, "a variable is missing"),
    ("strata and ar1", {"half": ["a", "z"]}, "no residual standard deviation"),
    ("ante", {"time": [1.0, 9.0]}, "has not seen"),
]


@pytest.mark.parametrize(("name", "change", "match"), BAD_ROWS)
def test_new_rows_that_cannot_be_drawn(name: str, change: dict[str, Any], match: str) -> None:
    new = {
        "time": [0.0, 1.0],
        "treated": [0.0, 0.0],
        "subject": ["s01", "s01"],
        "clinic": ["c0", "c0"],
        "half": ["a", "b"],
    }
    with pytest.raises(DataError, match=match):
        made(name).simulate(1, seed=1, newdata={**new, **change})


def test_fits_of_many_responses_are_pickled() -> None:
    fit = made("strata and ar1")
    many = fit.model.fit_many(fit.design.y[:, None])
    again = pickle.loads(pickle.dumps(many))
    np.testing.assert_array_equal(again.residual, many.residual)
    assert again.residual_names == many.residual_names


def test_jackknife_is_the_fits_without_each_level() -> None:
    fit, data = made("column and cs"), frame()
    found = lmmfast.jackknife(fit, "clinic")
    assert (found.status == "converged").all()
    some = lmer(fit.formula, data[data["clinic"] != "c1"], **_structure(fit))
    names = list(fit.residual_parameters.index)
    row = pd.Series(found.values[1], index=list(found.names))
    assert found.objective[1] == pytest.approx(some.objective, abs=1e-7)
    np.testing.assert_allclose(row[names], some.residual_parameters["estimate"], rtol=1e-3)
    boot = fit.bootstrap(30, seed=4)
    assert boot.conf_int(kind="bca", parameters=names).notna().all(axis=None)


def test_parametric_bootstrap_of_the_ratio() -> None:
    data = frame()
    plain = lmer("y ~ time + treated + (1 | clinic)", data)
    ar1 = lmer("y ~ time + treated + (1 | clinic)", data, residual="ar1(time | subject)")
    found = lmmfast.pb_test(plain, ar1, n=19, seed=1)
    assert found.statistic == pytest.approx(plain.objective - ar1.objective, abs=1e-6)
    assert found.used == 19
    assert 0 < np.nanmean(found.null) < 4
    smaller = lmer("y ~ time + (1 | clinic)", data, residual="ar1(time | subject)")
    assert lmmfast.pb_test(smaller, ar1, n=9, seed=1).used == 9
