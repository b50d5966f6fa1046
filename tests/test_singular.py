"""Singular fits explained and simplified: scores against dense algebra, models against refits."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import close
from dense import Problem, Term
from reference_data import data as reference_frame
from reference_data import reference
from test_reference import contrasts_of, fit_reference

import lmmfast
from lmmfast import LMM, datasets, lmer, simplify
from lmmfast.formula.bars import parse
from lmmfast.inference.selection.singular import boundary_slope, directions

SAME = 1e-6  # deviance units: two fits of one model

SINGULAR = [
    "Dyestuff2__ri_reml",
    "Early__rs_reml",
    "IGF__rs_ml",
    "KKL__max_ml",
    "KWDYZ__m0_ml",
    "PBG__nested_ml",
    "TVbo__four_ml",
    "Wafer__lin_ml",
    "bs10__max_ml",
    "gb12__m4_reml",
    "gb12__zcp_reml",
    "kb07__main_ml",
    "kb07__zcp_ml",
    "kbbb__max_reml",
    "lfbg__max_reml",
    "uighur2__rs_reml",
]
MAXIMAL = "RTtrunc ~ S * P * C + (S * P * C | subj) + (S * P * C | item)"


@pytest.fixture(scope="module")
def maximal():
    return lmer(MAXIMAL, datasets.load("kb07"), reml=False)


@pytest.fixture(scope="module")
def sleep():
    return lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))


# ---- principal components ------------------------------------------------------------------------


def test_components_of_lme4(sleep) -> None:
    """lme4 1.1-31: rePCA(fit), standard deviations and rotation."""
    found = sleep.rePCA()
    close(found.components["Subject"]["sd"], [0.96686797, 0.23087981], 1, 1e-5)
    close(found.components["Subject"]["proportion"], [0.9460, 0.0540], 1, 1e-4)
    close(np.abs(found.loadings["Subject"]["PC1"]), [0.99986158, 0.01663769], 1, 1e-5)
    fit = lmer("score ~ Machine + (Machine | Worker)", datasets.load("Machines"))
    found = fit.rePCA()
    close(found.components["Worker"]["sd"], [6.63442781, 4.63241880, 2.14693825], 1, 1e-4)
    rotation = [
        [0.40590245, 0.63967565, 0.65273139],
        [0.90426424, -0.17757523, -0.38829528],
        [0.13247410, -0.74785166, 0.65051403],
    ]
    wanted = rotation * np.sign([1, -1, 1])
    close(found.loadings["Worker"], wanted, 1, 1e-4)
    fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", datasets.load("Penicillin"))
    sd = [float(frame["sd"].iloc[0]) for frame in fit.rePCA().components.values()]
    close(sd, [1.53967555, 3.51251886], 1, 2e-4)


def test_terms_of_one_factor_stand_together() -> None:
    """lme4 1.1-31: rePCA of (1 | Subject) + (0 + Days | Subject)."""
    data = datasets.load("sleepstudy")
    fit = lmer("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", data)
    found = fit.rePCA()
    close(found.components["Subject"]["sd"], [0.97989653, 0.23423123], 1, 1e-5)
    assert list(found.loadings["Subject"].index) == ["Intercept", "Days"]
    close(found.loadings["Subject"], np.eye(2), 1, 1e-12)


def test_components_of_a_singular_fit(maximal) -> None:
    """As many components without variance as the fit has zeros on its diagonals."""
    found = maximal.rePCA()
    for group, T in zip(found.components, maximal.estimates.T, strict=True):
        frame = found.components[group]
        assert int((frame["sd"] < 1e-12).sum()) == int((T.diagonal() == 0).sum())
        close(frame["cumulative"].iloc[-1], 1, 1, 1e-12)
        U, sd = found.loadings[group].to_numpy(), frame["sd"].to_numpy()
        close(U * sd**2 @ U.T, T @ T.T, np.abs(T).max() ** 2, 1e-12)


def test_components_without_variance() -> None:
    found = fit_reference("Dyestuff2__ri_reml").fit.rePCA()
    assert found.components["Batch"]["sd"].tolist() == [0.0]
    assert found.components["Batch"]["proportion"].isna().all()


def test_components_on_paper(sleep) -> None:
    text = str(sleep.rePCA())
    assert text.startswith("Principal components of Subject:")
    assert "Standard deviation / sigma  0.9669  0.2309" in text
    assert repr(sleep.rePCA()) == text
    assert sleep.rePCA()._repr_html_().count("<table>") == 2


# ---- scores --------------------------------------------------------------------------------------


def singular_problem(seed: int, kind: str = "full", weighted: bool = False) -> Problem:
    """Three columns by level whose effects have one dimension only."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(12), 8)
    z = np.column_stack([np.ones(96), rng.normal(size=(96, 2)) + 0.5])
    effects = rng.normal(size=(12, 1)) * [1.0, 0.6, 0.0]
    y = (z * effects[codes]).sum(axis=1) + rng.normal(size=96) * 2
    weights = rng.uniform(0.5, 2, 96) if weighted else None
    return Problem(y, z[:, :2].copy(), [Term(codes, z, kind)], weights)


def slope_along(problem: Problem, fit, v: np.ndarray) -> float:
    """d f / d t of the relative covariance T T' + t v v' at 0, by a complex step."""
    term, h = problem.terms[0], 1e-30
    same = term.codes[:, None] == term.codes

    class Moved(Problem):
        def covariance(self, theta: np.ndarray) -> Any:
            extra = np.outer(term.z @ v, term.z @ v) * same
            return Problem.covariance(self, theta) + 1j * h * extra

    moved = Moved(problem.y, problem.X, problem.terms, problem.weights)
    return float(moved.objective(fit.theta + 0j, fit.reml).imag / h)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
def test_slope_at_the_boundary(seed: int, reml: bool) -> None:
    """v'S v is the slope along any v, as exactly as theta is the optimum; it is not negative."""
    problem = singular_problem(seed, weighted=seed % 2 == 1)
    fit = LMM.from_arrays(*problem.arrays).fit(reml=reml)
    assert fit.is_singular
    _, curvature = fit.model.objective(fit.theta, reml=reml, hessian=True)
    S = boundary_slope(fit, 0, curvature)
    for v in np.vstack([np.eye(3), np.random.default_rng(1).normal(size=(3, 3))]):
        close(v @ S @ v, slope_along(problem, fit, v), np.abs(S).max() * (v @ v), 2e-4)
    assert np.linalg.eigvalsh(S).min() > -1e-6 * np.abs(S).max()


@pytest.mark.parametrize("seed", range(6))
def test_directions_make_up_the_slope(seed: int) -> None:
    """Combinations without variance: T'u = 0, and S is the sum of score times u u'."""
    fit = LMM.from_arrays(*singular_problem(seed).arrays).fit()
    _, curvature = fit.model.objective(fit.theta, hessian=True)
    S, T = boundary_slope(fit, 0, curvature), fit.estimates.T[0]
    found = directions(fit)
    assert len(found) == int((T.diagonal() == 0).sum())
    for one in found:
        assert np.abs(T.T @ one.weights).max() < 1e-9 * np.abs(T).max()
        assert one.score >= 0
    if not fit.estimates.singular[0].zero:
        total = sum(one.score * np.outer(one.weights, one.weights) for one in found)
        close(total, S, np.abs(S).max(), 1e-8)


def test_slope_of_single_columns() -> None:
    problem = singular_problem(4, "diag")
    fit = LMM.from_arrays(*problem.arrays).fit()
    assert fit.estimates.singular[0].zero == (2,)
    (found,) = directions(fit)
    assert list(found.weights) == [0, 0, 1]
    close(found.score, slope_along(problem, fit, np.array([0.0, 0, 1])), found.score, 1e-8)


def test_the_slope_predicts_the_rise() -> None:
    """A little variance v in the direction raises the criterion by v times the score."""
    fit = fit_reference("Dyestuff2__ri_reml").fit
    (found,) = directions(fit)
    variance = 1e-5
    rise = fit.model.objective(np.sqrt([variance]), reml=True) - fit.objective
    close(rise, variance * found.score, rise, 1e-3)


# ---- explanation ---------------------------------------------------------------------------------


def test_a_fit_that_is_not_singular(sleep) -> None:
    found = sleep.explain_singularity()
    assert not found.singular and len(found.directions) == len(found.reductions) == 0
    assert str(found) == "The fit is not singular: every direction has variance."


@pytest.mark.parametrize("name", SINGULAR)
def test_explanations(name: str) -> None:
    """Every direction has a score that is not negative; what is free costs nothing when refitted;
    formulas are lme4's and give the same model again."""
    fit = fit_reference(name).fit
    found = fit.explain_singularity()
    assert found.singular and len(found.sentences) == len(fit.estimates.singular)
    assert (found.directions["score"] >= 0).all()
    count = sum(int((T.diagonal() == 0).sum()) for T in fit.estimates.T)
    assert len(found.directions) == count
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 120 and not any(line.count("*") > 40 for line in lines)
    for long, (_, short) in zip(found.directions["direction"], found.shown, strict=True):
        named = len(re.split(r" [-+] ", short.split(" and ")[0]))
        rest = re.search(r" and (\d+) smaller part", short)
        assert named <= 4 and named + (int(rest[1]) if rest else 0) == len(re.split(" [-+] ", long))
    free = found.reductions["removed"].str.endswith("no variance")
    assert (found.reductions.loc[free, "change"].abs() < SAME).all()
    assert (found.reductions["change"] > -SAME).all()
    assert (found.reductions["df"] > 0).all()
    assert str(found) and found._repr_html_()
    for row in found.reductions.itertuples():
        assert parse(row.formula).random
        close(refitted(name, row.formula).objective, row.criterion, 1, SAME)


def refitted(name: str, formula: str):
    wanted = reference(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.LmmWarning)
        return lmer(
            formula,
            reference_frame(wanted["dataset"]),
            reml=wanted["REML"],
            contrasts=contrasts_of(wanted) or None,
            weights=wanted.get("weights"),
        )


def test_explanation_on_paper() -> None:
    fit = fit_reference("kb07__zcp_ml").fit
    text = str(fit.explain_singularity())
    assert "the variance" in text and "Slope of the criterion" in text
    assert "no variance" in text and "Stram & Lee 1994" in text
    assert max(map(len, text.split("\n"))) <= 100


def test_a_factor_without_variance() -> None:
    """Its last term stays in simplify, but the model without it is named."""
    found = fit_reference("bs10__max_ml").fit
    last = simplify(found).fit
    assert last.is_singular and last.formula.endswith("(1 + S | subj) + (1 | item)")
    (row,) = last.explain_singularity().reductions.itertuples()
    assert row.removed == "all terms of item: no variance"
    assert row.formula == "dif ~ 1 + S + F + SF + (1 + S | subj)"
    assert abs(row.change) < SAME and not row.singular


# ---- the path ------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", ["LRT", "AIC"])
@pytest.mark.parametrize("name", SINGULAR)
def test_paths(name: str, criterion: str) -> None:
    """Not singular at the end unless all that is left of a factor has no variance; every factor
    has a term; the criterion never falls; the same model is fitted from the formula."""
    fit = fit_reference(name).fit
    found = simplify(fit, criterion)
    last, steps = found.fit, found.steps
    assert list(last.n_levels) == list(fit.n_levels)
    for item in last.estimates.singular:
        assert last.design.terms[item.term].columns == ("Intercept",)
    assert (steps["change"] > -SAME).all() and (steps["npar"].diff()[1:] < 0).all()
    assert (steps["singular"][:-1]).all()
    assert last.converged and steps["criterion"].iloc[-1] == last.objective
    free = steps["removed"].str.endswith("no variance")
    assert (steps.loc[free, "change"].abs() < SAME).all()
    again = refitted(name, last.formula)
    close(again.objective, last.objective, 1, SAME)
    for one, other in zip(again.design.terms, last.design.terms, strict=True):
        assert (one.label, one.columns, one.structure) == (
            other.label,
            other.columns,
            other.structure,
        )
    close(again.params, last.params, last.bse, 1e-3)


def test_maximal_kb07(maximal) -> None:
    """The maximal model of Kronmueller and Barr's data, as Bates et al. (2015) reduce it."""
    found = simplify(maximal)
    random = "(1 + P | subj) + (1 + P + C + P:C | item)"
    assert found.fit.formula == f"RTtrunc ~ S * P * C + {random}"
    assert not found.fit.is_singular and found.fit.n_params == 22
    assert found.steps["singular"].tolist() == [True] * 10 + [False]
    by_aic = simplify(maximal, "AIC")
    assert not by_aic.fit.is_singular and by_aic.fit.n_params == 21
    assert (by_aic.steps["aic"] <= 0).all()
    assert by_aic.fit.formula.endswith("(1 + P + C + S:C + P:C + S:P:C || item)")


def test_the_same_path_again() -> None:
    fit = fit_reference("kb07__main_ml").fit
    found, again = simplify(fit), simplify(fit)
    pd.testing.assert_frame_equal(again.steps, found.steps)
    assert list(again.fit.theta) == list(found.fit.theta)


def test_steps_on_paper(maximal) -> None:
    found = simplify(maximal, "AIC")
    text = str(found)
    assert (
        "0: the fit given" in text and "1: without correlations of (1 + S * P * C | item)" in text
    )
    assert text.rstrip().endswith("not singular")
    assert found._repr_html_().startswith("<table>")


def test_nothing_to_do(sleep) -> None:
    found = simplify(sleep)
    assert found.fit is sleep and len(found.steps) == 1
    assert str(found) == "The fit is not singular: nothing was removed."


def test_alpha() -> None:
    """With alpha = 0 correlations may always go, however much they matter; with 1 the candidate
    that matters least."""
    fit = fit_reference("kb07__main_ml").fit
    first = {alpha: simplify(fit, alpha=alpha).steps.iloc[1] for alpha in (0, 1)}
    assert first[0]["removed"].startswith("correlations of")
    assert first[1]["p"] == max(fit.explain_singularity().reductions["p"])


def test_refused(sleep) -> None:
    with pytest.raises(ValueError, match='"LRT" or "AIC"'):
        simplify(sleep, "BIC")
    with pytest.raises(ValueError, match="alpha"):
        simplify(sleep, alpha=1.5)


# ---- formulas ------------------------------------------------------------------------------------


def frame(seed: int = 1, n_groups: int = 15) -> pd.DataFrame:
    """Groups whose intercepts and slopes vary together; x, a factor, and odd names."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_groups), 12)
    x, cond = rng.normal(size=len(g)), np.tile(["a", "b", "c"], len(g) // 3)
    b = rng.normal(size=n_groups)
    y = b[g] * (1 + 0.5 * x) + x + (cond == "b") + rng.normal(size=len(g))
    odd = np.char.add("s", (g % 5).astype(str))
    return pd.DataFrame({"y": y, "x": x, "cond": cond, "g": g, "my item": odd, "w": 1 + x**2})


def test_names_offsets_and_nesting() -> None:
    """What stands around the random terms stays; odd names are quoted, nested factors written out,
    and new data are encoded as by the formula."""
    data = frame()
    data["my x"] = data["x"]
    formula = "y ~ x + offset(w) + (1 + `my x` + I(x^2) | g) + (`my x` || `my item`/cond)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.LmmWarning)
        fit = lmer(formula, data, reml=False)
        found = simplify(fit)
        again = lmer(found.fit.formula, data, reml=False)
    assert fit.is_singular and "offset(w)" in found.fit.formula
    close(again.objective, found.fit.objective, 1, SAME)
    new = data.iloc[[3, 50, 100]]
    close(found.fit.predict(new), again.predict(new), 1, 1e-4)
    close(found.fit.predict(new), found.fit.fittedvalues.iloc[[3, 50, 100]], 1, 1e-10)


def test_factors_are_not_recoded() -> None:
    """Without its intercept (cond | g) would be another model: the intercept stays."""
    rng = np.random.default_rng(11)
    data = frame()
    effects = rng.normal(size=(15, 3)) * [0, 2, 2]
    data["y"] = effects[data["g"], pd.Categorical(data["cond"]).codes] + rng.normal(size=len(data))
    noise = np.where(data["cond"] == "a", data["y"], 0.0)
    data["y"] -= (np.bincount(data["g"], noise) / 4)[data["g"]] * (data["cond"] == "a")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.LmmWarning)
        fit = lmer("y ~ cond + (1 + cond || g)", data)
    assert fit.estimates.singular[0].zero == (0,)
    found = simplify(fit)
    assert "0 + cond" not in " ".join(found.steps["formula"])
    assert found.steps["removed"].iloc[1] == "cond of (1 + cond || g)"


def test_factors_leave_whole() -> None:
    """A factor's columns go together, when all of them have no variance."""
    data = frame(2)
    rng = np.random.default_rng(3)
    data["y"] = rng.normal(size=15)[data["g"]] + rng.normal(size=len(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.LmmWarning)
        fit = lmer("y ~ cond + (cond | g)", data)
    assert fit.is_singular
    found = simplify(fit)
    assert found.fit.formula == "y ~ cond + (1 | g)"


def test_variables_in_another_order() -> None:
    """Without the main effect the product is written S:C but coded C:S: the same column."""
    data = datasets.load("kb07")
    fit = lmer("RTtrunc ~ S * C + (1 | subj) + (1 + S * C || item)", data)
    zero = fit.estimates.singular[0].zero
    assert fit.is_singular and 1 in zero
    found = simplify(fit).fit
    again = lmer(found.formula, data)
    assert [term.columns for term in again.design.terms] == [
        term.columns for term in found.design.terms
    ]
    close(again.objective, found.objective, 1, SAME)


def test_terms_that_become_equal() -> None:
    """Two terms of one factor that are reduced to the same columns are one."""
    data = frame(2)
    rng = np.random.default_rng(8)
    data["y"] = rng.normal(size=15)[data["g"]] + rng.normal(size=len(data))
    fit = lmer("y ~ x + (1 | g) + (1 + x | g)", data)
    assert fit.is_singular
    found = simplify(fit).fit
    assert found.formula == "y ~ x + (1 | g)" and not found.is_singular


# ---- arrays, dependent columns, other responses --------------------------------------------------


def test_models_from_arrays() -> None:
    """No formula: the random terms in words."""
    fit = LMM.from_arrays(*singular_problem(2).arrays).fit()
    found = simplify(fit)
    assert not found.fit.is_singular and found.fit.formula == ""
    assert found.steps["formula"].iloc[0] == "(z0 + z1 + z2 | g0)"
    assert found.steps["formula"].str.startswith("(z0").all()
    text = str(fit.explain_singularity())
    assert "z0" in text and "~" not in text


def test_weights_stay() -> None:
    fit = LMM.from_arrays(*singular_problem(3, weighted=True).arrays).fit()
    found = simplify(fit).fit
    assert found.design.weights is not None and not found.is_singular


def test_a_dropped_random_column() -> None:
    """It depends on the others and cannot vary: no score, and it is the first to go."""
    data = frame(4)
    data["twice"] = 2 * data["x"]
    with pytest.warns(lmmfast.RankDeficientWarning):
        fit = lmer("y ~ x + (x + twice | g)", data)
    found = fit.explain_singularity()
    first = found.directions.iloc[0]
    assert first["direction"] == "twice" and np.isnan(first["score"])
    steps = simplify(fit).steps
    assert steps["removed"].iloc[1].startswith("twice of (1 + x + twice | g)")
    assert abs(steps["change"].iloc[1]) < SAME and steps["df"].iloc[1] == 0


def test_another_response() -> None:
    """A refit shares the model that holds another response."""
    problem = singular_problem(5)
    y = singular_problem(2).y
    fit = LMM.from_arrays(*problem.arrays).fit().refit(y)
    own = LMM.from_arrays(y, *problem.arrays[1:]).fit()
    assert own.is_singular
    found, wanted = fit.explain_singularity(), own.explain_singularity()
    close(found.directions["score"], wanted.directions["score"], wanted.directions["score"], 1e-4)
    close(simplify(fit).fit.objective, simplify(own).fit.objective, 1, SAME)
