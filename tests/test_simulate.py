"""Responses drawn from a model: their moments, their seeds, new rows, assumed parameters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lmmfast import DataError, Parameters, datasets, lmer, simulate
from lmmfast.many.streams import Streams

CROSSED = "y ~ x + (1 + x || a) + (1 | b)"


@pytest.fixture(scope="module")
def sleep():
    return lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))


@pytest.fixture(scope="module")
def crossed():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"a": np.repeat(np.arange(12), 8), "b": np.tile(np.arange(8), 12)})
    data = data.sample(80, random_state=1, ignore_index=True)
    data["x"], data["w"] = rng.normal(size=80), rng.uniform(0.5, 2, size=80)
    data["o"] = rng.normal(size=80) * 50
    data["y"] = rng.normal(size=12)[data.a] + rng.normal(size=8)[data.b] + rng.normal(size=80)
    data["y"] += data.o
    return lmer(CROSSED, data, weights="w", offset="o"), data


def covariance(fit, T, sigma):
    """V by its definition."""
    design = fit.design
    V = np.diag(sigma**2 / (np.ones(design.n) if design.weights is None else design.weights))
    for term, factor in zip(design.terms, T, strict=True):
        ZT = term.z @ factor
        V += (ZT @ ZT.T) * (term.codes[:, None] == term.codes)
    return V


def assert_moments(Y, mean, V):
    """Draws (n, r) are of N(mean, V): whitened sums and products, by their own errors."""
    n, r = Y.shape
    E = np.linalg.solve(np.linalg.cholesky(V), Y - mean[:, None])
    assert np.abs(E.mean(axis=1)).max() * np.sqrt(r) < 4.5
    S = E @ E.T / r - np.eye(n)
    assert np.abs(S).max() * np.sqrt(r) < 7.5
    assert abs((S**2).sum() * r / (n * (n + 1)) - 1) < 0.1


def test_moments_are_those_of_the_model(sleep):
    Y = sleep.simulate(4000, seed=11).to_numpy()
    V = covariance(sleep, [sleep.sigma * T for T in sleep.estimates.T], sleep.sigma)
    assert_moments(Y, sleep.design.X @ sleep.estimates.beta, V)


def test_weights_and_offsets_are_in_it(crossed):
    fit, data = crossed
    Y = fit.simulate(4000, seed=12).to_numpy()
    V = covariance(fit, [fit.sigma * T for T in fit.estimates.T], fit.sigma)
    assert_moments(Y, fit.design.X @ fit.estimates.beta + data.o.to_numpy(), V)


def test_given_modes_stay(crossed):
    fit, _ = crossed
    Y = fit.simulate(4000, seed=13, re="fixed").to_numpy()
    assert_moments(Y, fit.fittedvalues.to_numpy(), np.diag(fit.sigma**2 / fit.design.weights))


def test_new_rows_are_drawn_as_those_of_the_fit(crossed):
    fit, data = crossed
    new = data.drop(columns="y").iloc[::-1]
    there, here = fit.simulate(3, seed=5, newdata=data), fit.simulate(3, seed=5)
    np.testing.assert_allclose(there, here, rtol=1e-12)
    assert list(fit.simulate(2, seed=5, newdata=new).index) == list(new.index)


def test_unseen_levels_have_effects_of_their_own(crossed):
    fit, data = crossed
    new = pd.concat([data, data.assign(a=data.a + 100)], ignore_index=True).drop(columns="y")
    Y = fit.simulate(6000, seed=6, newdata=new, re="fixed").to_numpy()
    here, there = Y[:80], Y[80:]
    assert_moments(here, fit.fittedvalues.to_numpy(), np.diag(fit.sigma**2 / data.w))
    design = fit.design
    V = np.diag(fit.sigma**2 / data.w.to_numpy())
    for term, T in list(zip(design.terms, fit.estimates.T, strict=True))[:-1]:
        ZT = term.z @ (fit.sigma * T)
        V += (ZT @ ZT.T) * (term.codes[:, None] == term.codes)
    modes = fit.estimates.b[-1]
    mean = design.X @ fit.estimates.beta + data.o.to_numpy() + modes[design.terms[-1].codes, 0]
    assert_moments(there, mean, V)


def test_assumed_parameters(sleep):
    assumed = Parameters(
        beta={"Days": -3}, sd={"Subject": {"Days": 9}}, corr={"Subject": 0.4}, sigma=10
    )
    Y = sleep.simulate(4000, seed=14, params=assumed).to_numpy()
    sd = np.array([sleep.sigma * abs(sleep.estimates.T[0][0, 0]), 9])
    S = np.diag(sd) @ [[1, 0.4], [0.4, 1]] @ np.diag(sd)
    beta = [sleep.estimates.beta[0], -3]
    assert_moments(Y, sleep.design.X @ beta, covariance(sleep, [np.linalg.cholesky(S)], 10))


def test_theta_is_relative_to_sigma(sleep):
    assumed = {"theta": sleep.theta, "sigma": 2 * sleep.sigma, "beta": [0, 0]}
    Y = sleep.simulate(5, seed=1, params=assumed)
    plain = sleep.simulate(5, seed=1, params={"beta": [0, 0]})
    np.testing.assert_allclose(Y, 2 * plain, rtol=1e-12)


def test_a_replicate_does_not_depend_on_the_others(sleep):
    many = sleep.simulate(70, seed=9)
    assert many.iloc[:, :3].equals(sleep.simulate(3, seed=9))
    assert not many.equals(sleep.simulate(70, seed=10))
    assert not sleep.simulate().equals(sleep.simulate())


def test_streams_do_not_depend_on_what_was_drawn_before():
    streams = Streams(4)
    shared = streams.shared()
    shared.at(8).standard_normal(1001)
    shared.at(8).integers(0, 2**31, 3, dtype=np.int32)  # leaves half a number behind
    again = shared.at(2).integers(0, 2**31, 3, dtype=np.int32)
    assert (again == streams.generator(2).integers(0, 2**31, 3, dtype=np.int32)).all()
    other = Streams(4, branch=1).generator(2).integers(0, 2**31, 3, dtype=np.int32)
    assert (again != other).any()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"sd": {"Subj": 1}}, "did you mean 'Subject'"),
        ({"beta": {"Day": 1}}, "did you mean 'Days'"),
        ({"beta": [1, 2, 3]}, "beta needs 2 finite numbers"),
        ({"sd": {"Subject": [1, 2, 3]}}, "needs 2 finite numbers"),
        ({"sd": {"Subject": [1, -2]}}, "must not be negative"),
        ({"sd": {"Subject": {"Hours": 1}}}, "no column of 'Subject', 'Hours'"),
        ({"corr": {"Subject": 2}}, "no correlation matrix"),
        ({"corr": {"Subject": np.eye(3)}}, "symmetric 2 x 2"),
        ({"sigma": 0}, "sigma must be positive"),
        ({"theta": [1, 2]}, "theta needs 3 finite numbers"),
        ({"theta": [1, 2, 3], "sd": {"Subject": [1, 2]}}, "not both"),
        ({"tau": 1}, "has no 'tau'"),
        (3, "must be Parameters or a dict"),
    ],
)
def test_parameters_that_mean_nothing(sleep, params, words):
    with pytest.raises(ValueError, match=words):
        sleep.simulate(params=params)


def test_arguments_that_mean_nothing(sleep, crossed):
    for bad in (0, -1, 1.5, True, "3"):
        with pytest.raises(ValueError, match="n must be"):
            sleep.simulate(bad)
    for bad in (-1, 1.5, "a", True):
        with pytest.raises(ValueError, match="seed must be"):
            sleep.simulate(seed=bad)
    with pytest.raises(ValueError, match="re must be"):
        sleep.simulate(re="old")
    with pytest.raises(ValueError, match="mean nothing"):
        sleep.simulate(re="fixed", params={"sd": {"Subject": [1, 2]}})
    fit, data = crossed
    with pytest.raises(DataError, match="cannot be simulated"):
        fit.simulate(newdata=data.assign(x=np.nan))
    with pytest.raises(DataError, match="'b'"):
        fit.simulate(newdata=data.drop(columns="b"))


def test_correlations_of_one():
    data = datasets.load("sleepstudy")
    fit = lmer("Reaction ~ Days + (Days | Subject)", data)
    Y = fit.simulate(400, seed=2, params={"sd": {"Subject": [10, 10]}, "corr": {"Subject": 1}})
    levels = Y.sub(fit.predict(re_form="none"), axis=0).groupby(data.Subject).mean()
    expected = 10**2 * (1 + 4.5) ** 2 + fit.sigma**2 / 10
    assert abs((levels.to_numpy() ** 2).mean() / expected - 1) < 0.1


def test_nothing_needs_to_be_fitted(sleep):
    data = datasets.load("sleepstudy")
    assumed = {"beta": {"Intercept": 250, "Days": 10}, "sd": {"Subject": [25, 6]}, "sigma": 20}
    there = simulate("~ Days + (Days | Subject)", data[["Days", "Subject"]], assumed, 3, seed=8)
    here = sleep.simulate(3, seed=8, params=Parameters(**assumed, corr={"Subject": 0}))
    np.testing.assert_allclose(there, here, rtol=1e-12)
    for name, words in (("beta", "fixed effects"), ("sd", "lacks 'Subject'"), ("sigma", "sigma")):
        some = {key: value for key, value in assumed.items() if key != name}
        with pytest.raises(ValueError, match=words):
            simulate("~ Days + (Days | Subject)", data, some)
    with pytest.raises(ValueError, match="lacks Days"):
        simulate("~ Days + (Days | Subject)", data, {**assumed, "beta": {"Intercept": 1}})
