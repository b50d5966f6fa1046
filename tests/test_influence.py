"""Leverage and deletions against dense algebra, lme4 and fits without the rows."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import close, seldom
from dense import Problem
from structures import MORE_WIDTHS, STRUCTURES
from test_kernels import both

import lmmfast
from lmmfast import LMM, datasets, lmer
from lmmfast.inference.rows.deletion import Deletion
from lmmfast.inference.rows.influence import without

every = pytest.mark.parametrize("name", seldom(STRUCTURES, MORE_WIDTHS))
DENSE = 1e-9  # of deletions at given theta, relative to the largest
# What theta = the fit's costs in dfbetas (units of a standard error), and what one step leaves,
# where a level holds 1 / 18 (sleepstudy) to 1 / 56 of the rows.
ONE_STEP = 0.02


@pytest.fixture(scope="module")
def sleep():
    return lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))


def at_random(name: str, reml: bool = True, seed: int = 7, storage: str = "auto"):
    """A model of this structure at a theta that is not an optimum; some theta are zero."""
    problem, _ = STRUCTURES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.LmmWarning)
        model = LMM.from_arrays(*problem.arrays, storage=storage)
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=model.ntheta) * 0.5
    theta[rng.random(model.ntheta) < 0.2] = 0
    return problem, model.at(theta, reml=reml)


def scaled(problem: Problem, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V, X and y of rows times the square roots of their weights."""
    n = len(problem.y)
    root = np.ones(n) if problem.weights is None else np.sqrt(problem.weights)
    V = problem.covariance(theta) * np.outer(root, root)
    return V, problem.X * root[:, None], problem.response() * root


def gls(V: np.ndarray, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    VX = np.linalg.solve(V, X)
    return np.linalg.solve(X.T @ VX, VX.T @ y)


def columns(frame: pd.DataFrame) -> np.ndarray:
    return frame.filter(like="dfb_").to_numpy()


# ---- at given theta ------------------------------------------------------------------------------


@every
def test_leverage(name: str) -> None:
    """The diagonal of I - P, and V^-1 X, on every structure."""
    problem, fit = at_random(name)
    V, X, _ = scaled(problem, fit.theta)
    inverse = np.linalg.inv(V)
    P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    own = Deletion.of(fit)
    close(own.leverage(), 1 - np.diag(P), 1, DENSE)
    close(fit.influence()["hat_diag"], own.leverage(), 1, 0)
    some = np.random.default_rng(1).choice(fit.nobs, 17, replace=False)
    close(own.leverage(some), 1 - np.diag(P)[some], 1, DENSE)
    if X.shape[1]:
        close(own.VX @ own.VX.T, inverse - P, 1, DENSE)


@pytest.mark.parametrize("name", list(STRUCTURES)[::4])
def test_leverage_is_the_derivative_of_the_fitted_values(name: str) -> None:
    """d yhat_i / d y_i by a difference: fitted values are linear in y at given theta."""
    problem, fit = at_random(name)
    leverage = fit.influence()["hat_diag"]
    for i in (0, fit.nobs // 2):
        y = problem.y.copy()
        y[i] += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lmmfast.LmmWarning)
            moved = LMM.from_arrays(y, *problem.arrays[1:]).at(fit.theta)
        close(moved.fittedvalues[i] - fit.fittedvalues[i], leverage[i], 1, 1e-8)


@every
def test_deletion_of_rows(name: str) -> None:
    """Generalized least squares without the row, in dense algebra."""
    problem, fit = at_random(name)
    if not problem.X.shape[1]:
        return
    V, X, y = scaled(problem, fit.theta)
    found = fit.influence()
    for i in (1, fit.nobs - 1):
        left = np.delete(np.arange(fit.nobs), i)
        check_deletion(fit, found.iloc[i], gls(V[np.ix_(left, left)], X[left], y[left]))


@every
def test_deletion_of_levels(name: str) -> None:
    """The same for levels of every factor."""
    problem, fit = at_random(name)
    if not problem.X.shape[1]:
        return
    V, X, y = scaled(problem, fit.theta)
    for group in fit.n_levels:
        codes = next(term.codes for term in fit.design.terms if term.group == group)
        found = fit.influence(group)
        close(found["hat_trace"].sum(), fit.influence()["hat_diag"].sum(), 1, 1e-8)
        assert list(found["nobs"]) == list(np.bincount(codes))
        for level in (0, codes.max()):
            left = np.flatnonzero(codes != level)
            if np.linalg.matrix_rank(X[left]) == X.shape[1]:
                beta = gls(V[np.ix_(left, left)], X[left], y[left])
                check_deletion(fit, found.iloc[level], beta)


STORED = [
    *[("sparse", name) for name in ("sparse-3-2", "sparse-five-weighted", "nested-three-crossed")],
    *[("iterative", name) for name in ("sparse-1-1", "sparse-three", "nested-crossed")],
]


@pytest.mark.parametrize(("storage", "name"), STORED)
def test_every_storage_says_the_same(storage: str, name: str) -> None:
    """As a dense trailing matrix does; where covariances cannot be read they are solved for."""
    _, wanted = at_random(name, storage="dense")
    _, fit = at_random(name, storage=storage)
    assert fit.model.storage["storage"] == storage
    close(fit.influence(), wanted.influence(), 1 + np.abs(wanted.influence()), DENSE)
    for group in fit.n_levels:
        theirs = wanted.influence(group)
        close(fit.influence(group), theirs, 1 + np.abs(theirs), DENSE)


@pytest.mark.parametrize("name", ["sparse-strips-3", "nested-three-crossed", "designed-four"])
def test_levels_in_small_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few levels at a time, few right-hand sides at a time."""
    _, fit = at_random(name)
    wanted = {group: fit.influence(group) for group in fit.n_levels}
    monkeypatch.setattr("lmmfast.inference.rows.levels.NUMBERS", 1000)
    monkeypatch.setattr("lmmfast.inference.rows.remaining.AT_ONCE", 5000)
    monkeypatch.setattr("lmmfast.inference.rows.remaining.ROWS", 50)
    for group, theirs in wanted.items():
        close(fit.influence(group), theirs, 1 + np.abs(theirs), 1e-11)


def test_some_of_the_levels() -> None:
    """In the order in which they are asked for, by their labels or as text."""
    data = datasets.load("kb07")
    data["number"] = data["item"].astype(str).astype("category").cat.codes.astype(int) + 100
    fit = lmer("RTtrunc ~ S + P + (1 + P | subj) + (1 | number)", data)
    wanted = fit.influence("number")
    for given in ([117, 101, 130], np.array([117, 101, 130]), ["117", "101", "130"]):
        found = fit.influence("number", levels=given)
        assert list(found.index) == [117, 101, 130]
        close(found, wanted.loc[[117, 101, 130]], 1 + np.abs(found), 1e-11)
    own = fit.influence("number", levels=117, refine=True)
    close(own, fit.influence("number", refine=True).loc[[117]], 1 + np.abs(own), 1e-11)
    subject = fit.n_levels["subj"] - 1
    name = fit.design.terms[0].levels[subject]
    close(
        fit.influence("subj", levels=name),
        fit.influence("subj").iloc[[subject]],
        1 + own.abs().max().max(),
        1e-11,
    )
    with pytest.raises(lmmfast.DataError, match=r"'number' has no level 7, 'x'"):
        fit.influence("number", levels=[117, 7, "x"])
    with pytest.raises(lmmfast.DataError, match="given twice"):
        fit.influence("number", levels=[117, "117"])
    with pytest.raises(ValueError, match="by="):
        fit.influence(levels=[117])
    assert len(fit.influence("number", levels=[])) == 0


def large_chain() -> lmmfast.LMM:
    """Pupils in 10,000 classes in schools, and crossed with neighbourhoods."""
    rng = np.random.default_rng(11)
    n, pupils, classes, schools = 60_000, 25_000, 10_000, 1_000
    pupil = rng.permutation(np.arange(n) % pupils)
    klass = (rng.permutation(np.arange(pupils) % classes))[pupil]
    school = (np.arange(classes) % schools)[klass]
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    y = rng.normal(size=n) + rng.normal(size=classes)[klass] + rng.normal(size=schools)[school]
    return LMM.from_arrays(y, X, [(pupil, None), (klass, X), (school, None)])


def test_a_chain_with_ten_thousand_classes() -> None:
    """Deletions as fits without the rows say, at the same theta."""
    model = large_chain()
    theta = [0.6, 0.9, 0.1, 0.2, 0.7]
    fit = model.at(theta)
    assert fit.model.storage["eliminated"] == 3
    for group in ("g0", "g1", "g2"):
        codes = next(term.codes for term in fit.design.terms if term.group == group)
        found = fit.influence(group)
        assert len(found) == codes.max() + 1
        level = int(np.argmax(found["cooks_d"]))
        smaller = LMM(without(fit.design, np.flatnonzero(codes == level))).at(theta)
        change = (fit.params - smaller.params) / fit.bse
        close(found.iloc[level].filter(like="dfb_"), change, np.abs(change).max(), 1e-7)
    rows = fit.influence()["hat_diag"]
    close(rows.sum(), fit.influence("g2")["hat_trace"].sum(), rows.sum(), 1e-10)


def test_workers_at_firms() -> None:
    """A trailing factor with thousands of levels: some of them are left out."""
    rng = np.random.default_rng(12)
    n, workers, firms = 60_000, 20_000, 2_500
    worker = rng.permutation(np.arange(n) % workers)
    firm = (rng.integers(0, firms, workers)[worker] + (rng.random(n) < 0.2)) % firms
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    y = rng.normal(size=n) + rng.normal(size=workers)[worker] + rng.normal(size=firms)[firm]
    fit = LMM.from_arrays(y, X, [(worker, None), (firm, None)], storage="sparse").at([0.8, 0.5])
    for group, codes in (("g0", worker), ("g1", firm)):
        some = np.unique(rng.choice(codes, 5))
        found = fit.influence(group, levels=some)
        for level in some[:2]:
            smaller = LMM(without(fit.design, np.flatnonzero(codes == level))).at([0.8, 0.5])
            change = (fit.params - smaller.params) / fit.bse
            close(found.loc[level].filter(like="dfb_"), change, np.abs(change).max(), 1e-7)


def test_hours_of_solves_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _, fit = at_random("sparse-3-2")
    monkeypatch.setattr("lmmfast.inference.rows.remaining.HOURS", 100.0)
    assert len(fit.influence()) == fit.nobs  # nothing is solved for
    assert len(fit.influence("g0")) == 84
    with pytest.raises(lmmfast.FitError, match=r"216 solves with 282 random effects.*fewer"):
        fit.influence("g1")


def check_deletion(fit, found: pd.Series, beta: np.ndarray) -> None:
    change = fit.estimates.beta - beta
    largest = np.abs(change / fit.bse).max()
    close(found.filter(like="dfb_"), change / fit.bse, max(largest, 1e-3), 1e-7)
    distance = change @ np.linalg.solve(fit.estimates.vcov, change) / len(change)
    close(found["cooks_d"], distance, max(distance, 1e-6), 1e-6)


# ---- lme4 ----------------------------------------------------------------------------------------


def test_leverage_of_lme4(sleep) -> None:
    """lme4 1.1-31: hatvalues(fit) and cooks.distance(fit), which is made of leverages."""
    found = sleep.influence()["hat_diag"].to_numpy()
    hat = [0.22930404, 0.16972999, 0.12682372, 0.10058520, 0.09101445]
    hat += [0.09811147, 0.12187625, 0.16230880, 0.21940911, 0.29317719]
    close(found, np.tile(hat, 18), 1, 3e-6)
    cooks = (sleep.resid / (1 - found)) ** 2 * found / (2 * sleep.scale)
    close(cooks[:5], [0.00496313, 0.04020620, 0.22609918, 0.00731325, 0.05057304], 1, 3e-5)


def test_leverage_of_lme4_with_weights() -> None:
    data = datasets.load("sleepstudy")
    data["w"] = (np.arange(1, 181) % 5 + 1) / 2
    fit = lmer("Reaction ~ Days + (Days | Subject)", data, weights="w")
    hat = [0.18474251, 0.20069371, 0.19291415, 0.18181581, 0.03130177, 0.06608876]
    close(fit.influence()["hat_diag"][:6], hat, 1, 1e-5)
    fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", datasets.load("Penicillin"))
    close(fit.influence()["hat_diag"], np.full(144, 0.19078027), 1, 3e-6)


def test_deletions_of_lme4(sleep) -> None:
    """lme4 1.1-31: dfbeta and dfbetas of influence(fit, "Subject"), which fits 18 times; its
    deletions are minus ours, and its fits stop a little above the optimum."""
    found = sleep.influence("Subject", refine="full").iloc[:4]
    dfbetas = [[0.05872488, -0.44892744], [0.41087492, 0.30989690]]
    dfbetas += [[0.42760879, 0.15834122], [-0.32953784, 0.27909779]]
    close(columns(found), -np.array(dfbetas), 1, 2e-4)
    dfbeta = [[0.42426093, -0.66455391], [2.72647996, 0.48267650]]
    found = sleep.influence("Subject").iloc[:2]
    close(columns(found) * sleep.bse.to_numpy(), -np.array(dfbeta), sleep.bse, 2e-4)


# ---- with theta moved ----------------------------------------------------------------------------

REAL = {
    "sleepstudy": ("Reaction ~ Days + (Days | Subject)", "Subject", True),
    "Penicillin": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "plate", False),
    "kb07": ("RTtrunc ~ S * P * C + (1 + P | subj) + (1 + P | item)", "item", True),
    "kb07 singular": ("RTtrunc ~ S + P + (1 + S + P | subj) + (1 + P | item)", "subj", True),
}


@pytest.mark.parametrize("name", REAL)
def test_against_fits_without_the_level(name: str) -> None:
    """A full refinement is such a fit; one step, and none, are as close as the docstring says."""
    formula, group, reml = REAL[name]
    fit = lmer(formula, datasets.load(name.split()[0]), reml=reml)
    codes = next(term.codes for term in fit.design.terms if term.group == group)
    some = range(0, fit.n_levels[group], 7)
    beta, se, sigma = [], [], []
    for level in some:
        smaller = LMM(without(fit.design, np.flatnonzero(codes == level))).fit(reml=reml)
        beta.append(fit.params - smaller.params)
        se.append(smaller.bse)
        sigma.append(smaller.sigma)
    wanted = np.array(beta) / np.array(se)
    full = fit.influence(group, refine="full").iloc[some]
    close(columns(full), wanted, 1, 1e-5)
    close(full["sigma"], sigma, sigma, 1e-6)
    step = fit.influence(group, refine=True).iloc[some]
    close(columns(step), wanted, 1, ONE_STEP)
    close(step["sigma"], sigma, sigma, 5e-3)
    none = fit.influence(group).iloc[some]
    close(columns(none), np.array(beta) / fit.bse.to_numpy(), 1, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("group", ["subj", "item"])
def test_maximal_model_without_each_level(group: str) -> None:
    """72 variance parameters, singular: one step and none, against fits without the level."""
    formula = "RTtrunc ~ S * P * C + (S * P * C | subj) + (S * P * C | item)"
    fit = lmer(formula, datasets.load("kb07"), reml=False)
    full = columns(fit.influence(group, refine="full"))
    close(columns(fit.influence(group, refine=True)), full, 1, 0.05)
    close(columns(fit.influence(group)), full, 1, 0.1)


def test_rows_with_theta_moved(sleep) -> None:
    """One step is closer to the fit without the row than none, for the most influential rows."""
    none, step, full = (columns(sleep.influence(refine=r)) for r in (False, True, "full"))
    assert np.abs(step - full).max() < np.abs(none - full).max() / 4 < 3e-3


def test_a_step_that_leads_up_is_not_taken() -> None:
    """Few groups, heavy tails: without some group Newton's step goes too far, and theta stays."""
    rng = np.random.default_rng(9)
    g = np.repeat(np.arange(5), 5)
    x = rng.normal(size=25)
    y = rng.standard_t(2, size=25) + rng.standard_t(2, size=5)[g] * 2
    y += x * rng.standard_t(2, size=5)[g]
    fit = lmer("y ~ x + (1 | g)", {"y": y, "x": x, "g": g})
    found, stayed = fit.influence("g", refine=True)["sigma"], []
    for level in range(5):
        rest = g != level
        model = lmer("y ~ x + (1 | g)", {"y": y[rest], "x": x[rest], "g": g[rest]}).model
        f, slope, curvature = model.objective(fit.theta, gradient=True, hessian=True)
        beyond = fit.theta - slope / curvature[0]
        if model.objective(beyond) > f:
            assert found[level] == pytest.approx(model.at(fit.theta).sigma)
            stayed.append(level)
        else:
            assert found[level] == pytest.approx(model.at(beyond).sigma)
    assert 1 <= len(stayed) < 5


def test_singular_fits() -> None:
    """Parameters at the boundary stay there in one step; a full refinement may leave it."""
    fit = lmer("RTtrunc ~ S + P + (1 + S + P || subj) + (1 + S + P | item)", datasets.load("kb07"))
    for refine in (False, True):
        found = fit.influence("item", refine=refine)
        assert np.isfinite(found.to_numpy()).all()


# ---- labels, and what cannot be had --------------------------------------------------------------


def test_labels() -> None:
    data = datasets.load("sleepstudy").iloc[:60]
    data.index = data.index + 1000
    fit = lmer("Reaction ~ Days + (1 | Subject)", data)
    found = fit.influence()
    assert list(found.index) == list(data.index)
    assert list(found) == ["hat_diag", "cooks_d", "dfb_Intercept", "dfb_Days"]
    found = fit.influence("Subject", refine=True)
    assert found.index.name == "Subject"
    assert list(found.index) == list(fit.ranef()["Subject"].index)
    assert list(found)[:4] == ["nobs", "hat_trace", "sigma", "cooks_d"]


def test_coefficients_that_need_the_rows() -> None:
    """A column that only one level, and one that only one row has."""
    data = datasets.load("sleepstudy")
    first = data["Subject"].astype(str) == "308"
    data["own"] = np.where(first & (data["Days"] > 4), 1.0, 0.0)
    data["row"] = 0.0
    data.loc[3, "row"] = 1.0
    fit = lmer("Reaction ~ Days + own + row + (1 | Subject)", data)
    rows = fit.influence()
    assert np.isnan(rows.loc[3, "cooks_d"]) and np.isnan(rows.loc[3].filter(like="dfb_")).all()
    assert rows.drop(index=3).notna().all(axis=None)
    close(rows.loc[3, "hat_diag"], 1, 1, 1e-10)
    for refine in (False, True, "full"):
        levels = fit.influence("Subject", refine=refine)
        assert np.isnan(columns(levels.loc[["308"]])).any()
        assert levels.drop(index="308").notna().all(axis=None)


def test_dropped_columns() -> None:
    data = datasets.load("sleepstudy")
    plain = lmer("Reaction ~ Days + (Days | Subject)", data)
    data["twice"] = 2 * data["Days"]
    with pytest.warns(lmmfast.RankDeficientWarning):
        fit = lmer("Reaction ~ Days + twice + (Days | Subject)", data)
    found = fit.influence("Subject", refine=True)
    assert found["dfb_twice"].isna().all()
    wanted = plain.influence("Subject", refine=True)
    close(found.drop(columns="dfb_twice"), wanted, 1 + np.abs(wanted), 1e-6)


def test_a_random_column_that_needs_the_level() -> None:
    """A parameter of theta that cannot be estimated without the level: missing when refined."""
    rng = np.random.default_rng(5)
    codes = np.repeat(np.arange(8), 6)
    z = np.column_stack([np.ones(48), np.where(codes == 2, rng.normal(size=48), 0.0)])
    y = rng.normal(size=8)[codes] + rng.normal(size=48)
    fit = LMM.from_arrays(y, np.ones((48, 1)), [(codes, z, "diag")]).fit()
    found = fit.influence("g0", refine=True)
    assert list(np.flatnonzero(found["sigma"].isna())) == [2]
    assert fit.influence("g0")["cooks_d"].notna().all()


def test_two_levels() -> None:
    """Without one of two levels there is no model to refine."""
    data = datasets.load("sleepstudy")
    data = data[data["Subject"].astype(str).isin(["308", "309"])]
    fit = lmer("Reaction ~ Days + (1 | Subject)", data)
    assert fit.influence("Subject", refine=True)["sigma"].isna().all()
    assert fit.influence("Subject").notna().all(axis=None)


@both
def test_no_fixed_effects(reml: bool) -> None:
    _, fit = at_random("no-fixed", reml)
    found = fit.influence()
    assert list(found) == ["hat_diag", "cooks_d"] and found["cooks_d"].isna().all()


def test_another_response(sleep) -> None:
    """A refit shares the model that holds another response."""
    y = sleep.design.y[::-1].copy()
    data = datasets.load("sleepstudy").assign(Reaction=y)
    found = sleep.refit(y).influence("Subject", refine=True)
    wanted = lmer("Reaction ~ Days + (Days | Subject)", data).influence("Subject", refine=True)
    close(found, wanted, 1 + np.abs(wanted), 1e-5)


def test_refused(sleep, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(lmmfast.DataError, match=r"'Day' is not a grouping factor.*Subject"):
        sleep.influence("Day")
    with pytest.raises(ValueError, match="refine must be"):
        sleep.influence(refine="twice")
    monkeypatch.setattr("lmmfast.inference.rows.levels.memory_limit", lambda: 100.0)
    monkeypatch.setattr("lmmfast.inference.rows.levels.PLENTY", 0)
    fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", datasets.load("Penicillin"))
    with pytest.raises(MemoryError, match=r"leaving out 24 rows .* choose other levels"):
        fit.influence("sample")
