"""Rows that are equal are kept once: likelihood, gradient and all readings stay the same."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streams import worst

from lmmfast import glmer
from lmmfast.engine.generalized import GeneralizedModel

BY_COLUMNS = ("binomial", "poisson", "truncatedpoisson")  # whatever the response is
BY_RESPONSE = ("negativebinomial", "nb1", "truncatednegativebinomial", "ordered")
NEVER = ("gamma", "gaussian", "inversegaussian", "beta", "betabinomial")


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    """20 subjects, 6 conditions, 15 trials a cell, in no order; responses of all kinds."""
    rng = np.random.default_rng(8)
    n = 20 * 6 * 15
    cell = rng.permutation(n) % 120
    made = pd.DataFrame({"subj": cell // 6, "a": cell % 2, "b": np.array(list("uvw"))[cell % 3]})
    eta = -0.2 + 0.5 * made.a + 0.3 * (made.b == "v") + 0.7 * rng.normal(size=20)[made.subj]
    mean = 1 / (1 + np.exp(-eta))
    made["y"] = (rng.random(n) < mean).astype(int)
    made["trials"] = rng.integers(1, 4, n)
    made["hits"] = rng.binomial(made.trials, mean)
    made["share"] = made.hits / made.trials
    made["w"] = rng.integers(1, 4, n) / 2
    made["o"] = made.a / 3
    made["count"] = rng.poisson(np.exp(eta))
    made["more"] = made["count"] + 1
    made["grade"] = np.digitize(eta + rng.logistic(size=n), [-1, 0, 1])
    made["time"] = rng.gamma(3, np.exp(eta) / 3)
    made["spread"] = rng.binomial(6, rng.beta(2 * mean, 2 * (1 - mean)))
    made["part"] = rng.beta(3 * mean, 3 * (1 - mean)).clip(0.01, 0.99)
    return made


RESPONSES = {
    "binomial": "y",
    "betabinomial": "cbind(spread, 6 - spread)",
    "poisson": "count",
    "negativebinomial": "count",
    "nb1": "count",
    "truncatedpoisson": "more",
    "truncatednegativebinomial": "more",
    "ordered": "grade",
    "gamma": "time",
    "gaussian": "time",
    "inversegaussian": "time",
    "beta": "part",
}


def both(fit: Any) -> tuple[GeneralizedModel, GeneralizedModel]:
    """The model of a fit, and the same with every row by itself."""
    apart = GeneralizedModel(fit.design, **fit.model._options())
    apart._compile_again(merge=False)
    assert apart._core.rows == fit.nobs
    return fit.model, apart


def assert_alike(fit: Any, psi: np.ndarray) -> None:
    """Value, gradient and readings of merged rows and of rows apart."""
    merged, apart = both(fit)
    found, wanted = (model.objective(psi, gradient=True) for model in (merged, apart))
    assert worst(found[0], wanted[0]) <= 1e-13
    assert worst(found[1], wanted[1], 1 + np.abs(wanted[1]).max()) <= 1e-9
    for name in ("predictor", "leverages"):
        own, other = (getattr(model._core, name)() for model in (merged, apart))
        assert own.shape == (fit.nobs,)
        assert worst(own, other, 1.0) <= 1e-9
    for name in ("modes", "condvar"):
        pairs = zip(*(getattr(model._core, name)() for model in (merged, apart)), strict=True)
        assert all(worst(own, other, 1.0) <= 1e-9 for own, other in pairs)


def fitted(formula: str, data: pd.DataFrame, **how: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return glmer(formula, data, **how)


@pytest.mark.parametrize("family", RESPONSES)
def test_every_family(family: str, cells: pd.DataFrame) -> None:
    link = "log" if family in ("gamma", "gaussian", "inversegaussian") else None
    fit = fitted(f"{RESPONSES[family]} ~ a + b + (1 | subj)", cells, family=family, link=link)
    wanted = {120: BY_COLUMNS, fit.nobs: NEVER}.get(fit.estimates.rows, BY_RESPONSE)
    assert family in wanted
    rng = np.random.default_rng(1)
    for size in (0, 0.2):
        assert_alike(fit, fit.psi + size * rng.normal(size=len(fit.psi)))


@pytest.mark.parametrize(
    ("formula", "how"),
    [
        ("cbind(hits, trials - hits) ~ a + b + (1 | subj)", {}),
        ("share ~ a * b + (a | subj)", {"weights": "trials"}),
        ("count ~ a + b + (1 | subj)", {"family": "poisson", "weights": "w"}),
        ("count ~ b + (1 | subj)", {"family": "poisson", "offset": "o", "link": "sqrt"}),
        ("count ~ a + (1 | subj)", {"family": "negativebinomial", "weights": "w"}),
        ("grade ~ a + b + (1 | subj)", {"family": "ordered", "weights": "w"}),
        ("y ~ a + b + (1 | subj) + (1 | subj:b)", {"link": "probit"}),
        ("y ~ a + b + (1 + a | subj)", {"link": "cauchit", "information": "expected"}),
        ("y ~ a + b + (1 | subj)", {"nagq": 7}),
        ("y ~ a + b + (1 | subj)", {"prior": 2.0}),
    ],
)
def test_every_model(formula: str, how: dict[str, Any], cells: pd.DataFrame) -> None:
    fit = fitted(formula, cells, **how)
    assert fit.estimates.rows < fit.nobs / 2
    assert_alike(fit, fit.psi)
    assert_alike(fit, fit.psi + 0.1)


@pytest.mark.parametrize("how", [{"reml": True}, {"accuracy": "second-order"}])
def test_further_criteria(how: dict[str, Any], cells: pd.DataFrame) -> None:
    fit = fitted("y ~ a + b + (1 | subj)", cells, **how)
    assert fit.estimates.rows == 120
    merged, apart = both(fit)
    if fit.reml:
        assert merged._core._whole.rows == 120  # where the fixed effects are in the offset, too
    found, wanted = (model.objective(fit.psi, gradient=True) for model in (merged, apart))
    assert worst(found[0], wanted[0]) <= 1e-12
    assert worst(found[1], wanted[1], 1.0) <= 1e-6


def test_fits_end_at_the_same_place(cells: pd.DataFrame) -> None:
    for family in (*BY_COLUMNS, *BY_RESPONSE):
        fit = fitted(f"{RESPONSES[family]} ~ a + b + (1 | subj)", cells, family=family)
        apart = both(fit)[1].minimize(_options())
        assert worst(fit.objective, apart.objective) <= 1e-10
        assert worst(fit.params, apart.beta, fit.bse.to_numpy()) <= 1e-4
        assert fit.n_evals <= apart.n_evals + 2


def _options() -> Any:
    from lmmfast.engine.options import Options

    return Options(False)


def test_another_response(cells: pd.DataFrame) -> None:
    """Of binomial rows any response is merged; of others rows come apart when they must."""
    rng = np.random.default_rng(2)
    fit = fitted("y ~ a + b + (1 | subj)", cells)
    other = rng.integers(0, 2, len(cells)).astype(float)
    assert (
        worst(
            fit.refit(other).objective,
            fitted("v ~ a + b + (1 | subj)", cells.assign(v=other)).objective,
        )
        <= 1e-10
    )
    assert fit.model._core.rows == 120
    fit = fitted("count ~ a + b + (1 | subj)", cells, family="negativebinomial")
    assert fit.model._core.rows < 1000
    before = fit.model.objective(fit.psi)
    other = rng.permutation(cells["count"].to_numpy()).astype(float)
    wanted = fitted("v ~ a + b + (1 | subj)", cells.assign(v=other), family="negativebinomial")
    assert worst(fit.refit(other).objective, wanted.objective) <= 1e-9
    assert fit.model._core.rows == fit.nobs
    assert worst(fit.model.objective(fit.psi), before) <= 1e-13
    assert fit.estimates.rows < 1000  # what the fit took is what it took


def test_a_model_is_read_while_its_rows_come_apart(cells: pd.DataFrame) -> None:
    """Who reads the merged model inside goes on with it."""
    fit = fitted("grade ~ a + (1 | subj)", cells, family="ordered")
    other = fit.design.with_rows(y=fit.design.y[::-1].copy()).sums
    with fit.model.standing(fit.psi) as core:
        before = core.modes()[0].copy()
        fit.model.objective(fit.psi, sums=other)
        np.testing.assert_array_equal(core.modes()[0], before)
    assert worst(fit.model.objective(fit.psi), fit.objective) <= 1e-12


def test_readings_are_of_the_users_rows(cells: pd.DataFrame) -> None:
    fit = fitted("y ~ a + b + (1 | subj)", cells)
    assert len(fit.fittedvalues) == len(cells)
    eta = fit.linear_predictor.to_numpy()
    codes = pd.factorize(pd.MultiIndex.from_frame(cells[["subj", "a", "b"]]))[0]
    spread = pd.Series(eta).groupby(codes).agg(np.ptp)
    assert spread.max() < 1e-12
    assert set(np.unique(fit.resid + fit.fittedvalues).round(12)) == {0.0, 1.0}
    assert len(fit.residuals("quantile")) == len(cells)
    assert fit.simulate(2, seed=1).shape == (len(cells), 2)
    assert "1800 rows, equal ones merged: 120" in str(fit.summary())


def test_the_constant_is_that_of_the_users_rows(cells: pd.DataFrame) -> None:
    """Trials of a cell one by one have no binomial coefficient; merged by hand they have."""
    fit = fitted("y ~ a + b + (1 | subj)", cells)
    sums = cells.groupby(["subj", "a", "b"]).y.agg(["sum", "count"]).reset_index()
    grouped = glmer("cbind(sum, count - sum) ~ a + b + (1 | subj)", sums)
    from scipy.special import gammaln

    n, k = sums["count"], sums["sum"]
    choose = (gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)).sum()
    assert worst(fit.objective - 2 * choose, grouped.objective) <= 1e-11
    assert worst(fit.params, grouped.params) <= 1e-6


def test_what_differs_is_not_merged(cells: pd.DataFrame) -> None:
    """Offsets, columns of X and of Z, and levels."""
    rng = np.random.default_rng(3)
    n = len(cells)
    own = cells.assign(x=rng.normal(size=n), row=rng.permutation(n))
    for formula, how in [
        ("y ~ a + x + (1 | subj)", {}),
        ("y ~ a + (1 + x | subj)", {}),
        ("y ~ a + (1 | subj)", {"offset": "x"}),
        ("count ~ a + (1 | subj) + (1 | row)", {"family": "poisson"}),
    ]:
        fit = fitted(formula, own, **how)
        assert fit.estimates.rows == n
        assert "merged" not in str(fit.summary())


def test_wide_factors(cells: pd.DataFrame) -> None:
    """Columns of X that are coded, not stored, are compared by their levels."""
    rng = np.random.default_rng(4)
    own = cells.assign(site=rng.integers(0, 40, len(cells)).astype(str))
    fit = fitted("y ~ a + site + (1 | subj)", pd.concat([own] * 3))
    assert fit.estimates.rows <= len(own)
    assert_alike(fit, fit.psi)


def test_few_equal_rows_stay_apart(cells: pd.DataFrame) -> None:
    own = cells.assign(x=np.random.default_rng(5).normal(size=len(cells)))
    own = pd.concat([own, own[:40]])
    fit = fitted("y ~ x + (1 | subj)", own)
    assert fit.estimates.rows == len(own)
