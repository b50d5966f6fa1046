"""Rows that are left out of a compiled model, and the fits without them."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import close
from dense import Problem, Term
from structures import STRUCTURES

import lmmfast
from lmmfast import LMM, datasets, lmer
from lmmfast.data.rows import Remaining
from lmmfast.inference.rows.leaving import Leaving, are_identified_without

EXACT = 1e-8  # relative, against dense algebra
SAME = 1e-6  # of refits: estimates in standard errors, theta relative to its largest


def subset(problem: Problem, keep: np.ndarray) -> tuple[Problem, list[np.ndarray]]:
    """Some of the rows, and the levels of each term that these have."""
    terms, levels = [], []
    for term in problem.terms:
        own, codes = np.unique(term.codes[keep], return_inverse=True)
        terms.append(Term(codes, term.z[keep], term.structure))
        levels.append(own)
    rest = [None if v is None else v[keep] for v in (problem.weights, problem.offset)]
    return Problem(problem.y[keep], problem.X[keep], terms, *rest), levels


@pytest.mark.parametrize("name", [name for name in STRUCTURES if "strips" not in name])
def test_every_structure_without_rows(name: str) -> None:
    """Criterion, slope, estimates, modes and covariances of the other rows, at one theta."""
    problem, _ = STRUCTURES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.LmmWarning)
        model = LMM.from_arrays(*problem.arrays)
    rng = np.random.default_rng(5)
    theta = rng.normal(size=model.ntheta) * 0.5
    first = problem.terms[-1].codes
    out = first == first[0]  # a level, and some rows from everywhere
    out[rng.choice(len(out), 5, replace=False)] = True
    rest, levels = subset(problem, ~out)
    if np.linalg.matrix_rank(rest.X) < rest.X.shape[1]:
        pytest.fail("this level determines a coefficient: choose another one")
    for reml in (True, False):
        point = model.point(theta, reml=reml, sums=Remaining(model.design.sums, out))
        wanted = rest.solve(theta, reml)
        close(point.value, wanted.objective, abs(wanted.objective), EXACT)
        direction = rng.normal(size=len(theta))
        slope = rest.gradient_along(theta, direction, reml)
        close(point.gradient @ direction, slope, 1 + np.abs(point.gradient).max(), 1e-6)
        close(point.sigma, wanted.sigma, wanted.sigma, EXACT)
        if len(wanted.beta):
            se = np.sqrt(wanted.vcov.diagonal())
            close(point.beta, wanted.beta, se, EXACT)
            close(point.vcov, wanted.vcov, np.outer(se, se), EXACT)
    T = [T for _, T in problem.factors(theta)]
    for own, b, left, condvar, wanted_variance, factor in zip(
        levels, point.b, wanted.b, point.condvar, wanted.condvar, T, strict=True
    ):
        gone = np.setdiff1d(np.arange(len(b)), own)
        close(b[own], left, 1 + np.abs(left).max(), EXACT)
        close(condvar[own], wanted_variance, 1 + np.abs(wanted_variance).max(), EXACT)
        assert (b[gone] == 0).all()
        for block in condvar[gone]:
            close(block, factor @ factor.T, 1, EXACT)


def test_the_model_comes_back() -> None:
    """All rows again, to the last bit."""
    fit = lmer("RTtrunc ~ S + P + (1 + P | subj) + (1 | item)", datasets.load("kb07"))
    other = Leaving(fit, True)
    other.without(np.arange(100))
    again = other.model.again(fit.design.sums, reml=True, start=None)
    np.testing.assert_array_equal(again.beta, fit.estimates.beta)
    np.testing.assert_array_equal(again.theta, fit.theta)
    assert again.objective == fit.objective and again.n == fit.nobs


# ---- against fits of the data without a level ----------------------------------------------------


def kb07(n: int = 1790) -> pd.DataFrame:
    data = datasets.load("kb07").iloc[:n].copy()
    rng = np.random.default_rng(2)
    data["w"] = rng.uniform(0.3, 3, len(data))
    data["o"] = rng.normal(size=len(data)) * 100
    return data


PLAIN = "RTtrunc ~ S + P * C + (1 + P | subj) + (1 + P | item)"
CASES = {
    "sleepstudy": ("Reaction ~ Days + (Days | Subject)", {}),
    "ml": ("Reaction ~ Days + (Days || Subject)", {"reml": False}),
    "crossed": (PLAIN, {"weights": "w", "offset": "o"}),
    "item": (PLAIN, {"reml": False}),
    "three": ("strength ~ 1 + (1 | batch/cask)", {}),
}
DATA = {
    "sleepstudy": "Subject",
    "ml": "Subject",
    "crossed": "subj",
    "item": "item",
    "three": "batch",
}


@pytest.mark.parametrize("case", CASES)
def test_refits_are_lmers(case: str) -> None:
    """Estimates, theta and objective of `lmer` for the other rows, from its own start."""
    formula, how = CASES[case]
    by = DATA[case]
    name = {"Subject": "sleepstudy", "batch": "Pastes"}.get(by)
    data = kb07() if name is None else datasets.load(name)
    fit = lmer(formula, data, **how)
    leaving = Leaving(fit, True)
    term = next(term for term in fit.design.terms if term.group == by)
    for level in range(0, len(term.levels), 9):
        found, status, _ = leaving.without(np.flatnonzero(term.codes == level))
        rest = data[data[by] != term.levels[level]]
        wanted = lmer(formula, rest, **how)
        assert status == "converged" and found is not None and found.n == len(rest)
        close(found.objective, wanted.objective, 1, SAME)
        close(found.beta, wanted.params, wanted.bse, SAME)
        close(found.vcov, wanted.cov_params(), np.outer(wanted.bse, wanted.bse), 1e-5)
        close(found.sigma, wanted.sigma, wanted.sigma, SAME)
        close(found.theta, wanted.theta, np.abs(wanted.theta).max(), 1e-5)
        for b, theirs, own in zip(found.b, wanted.estimates.b, fit.design.terms, strict=True):
            if own.group != by and ":" not in own.group:
                close(b, theirs, wanted.sigma, 1e-5)


def test_parameters_that_are_held() -> None:
    """sigma, or an entry of theta."""
    data = datasets.load("sleepstudy")
    rest = data[data["Subject"] != "335"]
    for fixed in ({"sigma": 25.0}, {"theta": {"Subject.Days.Intercept": 0.0}}):
        fit = lmer("Reaction ~ Days + (Days | Subject)", data, fixed=fixed)
        wanted = lmer("Reaction ~ Days + (Days | Subject)", rest, fixed=fixed)
        out = np.flatnonzero(data["Subject"] == "335")
        found, status, _ = Leaving(fit, True).without(out)
        assert status == "converged"
        close(found.objective, wanted.objective, 1, SAME)
        close(found.theta, wanted.theta, 1, 1e-5)
        close(found.beta, wanted.params, wanted.bse, SAME)
        close(found.vcov, wanted.cov_params(), np.outer(wanted.bse, wanted.bse), 1e-5)
        assert found.sigma == pytest.approx(wanted.sigma, rel=1e-6)


def test_another_response() -> None:
    """Of a refit: its own response, not the model's."""
    data = datasets.load("sleepstudy")
    fit = lmer("Reaction ~ Days + (Days | Subject)", data)
    y = data["Reaction"].to_numpy() ** 1.1
    again = fit.refit(y)
    out = np.arange(20, 30)
    found, _, _ = Leaving(again, True).without(out)
    own = data.assign(Reaction=y).drop(index=data.index[out])
    close(found.objective, lmer("Reaction ~ Days + (Days | Subject)", own).objective, 1, SAME)


# ---- what cannot be left out ---------------------------------------------------------------------


def small() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(6), 5)
    h = np.tile(np.repeat([0, 1], [1, 4]), 6)
    h[g < 3] = 1
    h[0] = 0
    own = np.where(g == 4, rng.normal(size=30), 0.0)
    return {"y": rng.normal(size=30) + rng.normal(size=6)[g], "g": g, "h": h, "own": own}


def status_of(fit, rows) -> str:
    sets = [np.asarray(rows), np.arange(2)]
    return Leaving(fit, are_identified_without(fit, sets)).without(sets[0]).status


@pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")
def test_rows_that_are_needed() -> None:
    data = small()
    g, h = data["g"], data["h"]
    fit = lmer("y ~ own + (1 | g)", data)
    assert status_of(fit, np.flatnonzero(g == 4)) == "cannot be estimated: own"
    assert status_of(fit, np.arange(28)) == "too few rows are left: 2"
    fit = lmer("y ~ 1 + (1 | g) + (1 | h)", data)
    assert status_of(fit, np.flatnonzero(h == 0)) == "'h' has a single level left"
    fit = lmer("y ~ 1 + (1 + own | g)", data)
    why = status_of(fit, np.flatnonzero(g == 4))
    assert why == "columns of random terms are linearly dependent"
    fit = lmer("y ~ 1 + (1 | g) + (0 + own | g)", data)
    assert "'own', is zero" in status_of(fit, np.flatnonzero(g == 4))


@pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")
def test_covariance_parameters_that_need_a_level() -> None:
    """One level alone has two rows: without it the intercepts are the residuals."""
    rng = np.random.default_rng(4)
    g = np.array([0, 0, 0, 0, *range(1, 20)])
    data = {"y": rng.normal(size=23) + rng.normal(size=20)[g], "g": g}
    fit = lmer("y ~ 1 + (1 | g)", data)
    sets = [np.flatnonzero(g == level) for level in range(20)]
    assert not are_identified_without(fit, sets)
    leaving = Leaving(fit, False)
    assert "variance" in leaving.without(sets[0]).status
    found = leaving.without(sets[1])
    assert found.status == "converged"
    keep = g != 1
    wanted = lmer("y ~ 1 + (1 | g)", {name: own[keep] for name, own in data.items()})
    close(found.estimates.objective, wanted.objective, 1, SAME)


def test_levels_that_all_tell_the_parameters_apart() -> None:
    fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    codes = fit.design.terms[0].codes
    assert are_identified_without(fit, [np.flatnonzero(codes == level) for level in range(18)])
    assert are_identified_without(fit, list(np.arange(180)[:, None]))
    assert not are_identified_without(fit, [np.arange(175), np.arange(175, 180)])


# ---- influence -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")
def test_influence_says_how_refits_ended() -> None:
    data = small()
    found = lmer("y ~ own + (1 | g)", data).influence("g", refine="full")
    assert list(found) == [
        "nobs", "hat_trace", "sigma", "theta_g.Intercept", "cooks_d", "dfb_Intercept", "dfb_own",
        "status",
    ]  # fmt: skip
    assert found["status"].tolist() == ["converged"] * 4 + ["cannot be estimated: own", "converged"]
    assert found.index[np.isnan(found["dfb_own"])].tolist() == [4]
    wanted = lmer("y ~ own + (1 | g)", {name: own[data["g"] != 2] for name, own in data.items()})
    assert found.loc[2, "theta_g.Intercept"] == pytest.approx(wanted.theta[0], abs=1e-6)
    assert found.loc[2, "sigma"] == pytest.approx(wanted.sigma, rel=1e-6)
    assert len(lmer("y ~ own + (1 | g)", data).influence("g", levels=[], refine="full")) == 0


def test_influence_without_fixed_effects() -> None:
    data = datasets.load("sleepstudy")
    found = lmer("Reaction ~ 0 + (1 | Subject)", data).influence("Subject", refine="full")
    assert (found["status"] == "converged").all() and found["sigma"].gt(0).all()
