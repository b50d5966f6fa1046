"""Changed models, backward elimination and comparisons: against R's, and what is particular."""

from __future__ import annotations

import json
import pickle
import warnings
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import close
from reference_data import data
from scipy.optimize import minimize

import lmmfast
from lmmfast import (
    DataError,
    FitError,
    FormulaError,
    LMMFit,
    LmmWarning,
    anova,
    compare,
    drop1,
    lmer,
    mixedlm,
    ranova,
    simplify,
    step,
)
from lmmfast.formula.plan import plan_of
from lmmfast.formula.update import updated

CASES = json.loads((Path(__file__).parent / "models" / "cases.json").read_text())
SELECTED = [name for name, case in CASES.items() if "random" in case]
CRITERION = 1e-8  # relative; R's optimizer stops near 1e-9
RATIO = 1e-4  # absolute, of likelihood ratios: differences of two criteria
F, DF = 1e-4, 1e-3  # relative: optima known to 1e-5, Satterthwaite's derivatives are numerical


@cache
def fit_of(name: str) -> LMMFit:
    case = CASES[name]
    frame = data(case["dataset"]).iloc[:: case["every"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        return lmer(case["formula"], frame, reml=case["REML"], weights=case["weights"] or None)


def floats(values: Any) -> np.ndarray:
    """R's column: a missing value is null or the text NA."""
    found = [np.nan if v in (None, "NA") else v for v in np.atleast_1d(values)]
    return np.array(found, dtype=float)


def same_columns(table: pd.DataFrame, wanted: dict[str, Any], tolerances: dict[str, float]) -> None:
    for column, tolerance in tolerances.items():
        if column not in wanted:
            continue
        found, values = table[column].to_numpy(dtype=float), floats(wanted[column])
        there = ~np.isnan(values)
        scale = np.abs(values[there]) + (1e-12 if column.startswith("Pr") else 1e-9)
        scale = 1 if column in ("LRT", "Chisq") else scale
        close(found[there], values[there], scale, tolerance)


LIKELIHOOD = {"npar": 0, "logLik": 1e-7, "AIC": 1e-7, "LRT": RATIO, "Df": 0, "Pr(>Chisq)": 1e-3}
TERMS = {"Sum Sq": F, "Mean Sq": F, "NumDF": 0, "DenDF": DF, "F value": F, "Pr(>F)": 1e-2}


# ---- update: R ----------------------------------------------------------------------------------


def meaning(formula: str) -> tuple[Any, ...]:
    """What a formula stands for, however it is written."""
    plan = plan_of(formula)
    terms = {
        frozenset(plan.fixed.atoms[atom].label for atom in term.atoms) for term in plan.fixed.terms
    }
    bars = sorted((bar.columns, bar.group, bar.structure) for bar in plan.formula.random)
    return plan.formula.response, terms, bars, plan.formula.offsets


CHANGES = [(name, i) for name, case in CASES.items() for i in range(len(case.get("updates", [])))]


@pytest.mark.parametrize(("name", "i"), CHANGES)
@pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")
def test_updates(name: str, i: int) -> None:
    """The formula that R makes of a change, and the fit of it."""
    wanted = CASES[name]["updates"][i]
    found = fit_of(name).update(wanted["change"])
    assert meaning(found.formula) == meaning(wanted["formula"])
    assert (found.nobs, found.n_params) == (wanted["n"], wanted["npar"])
    close(found.objective, wanted["criterion"], abs(wanted["criterion"]), CRITERION)


# ---- update: the language -----------------------------------------------------------------------

UPDATED = [
    ("y ~ a*b + x + (x|s)", ". ~ . - x", "y ~ a + b + a:b + (x | s)"),
    ("y ~ a*b + x + (x|s)", "log(.) ~ .", "log(y) ~ a * b + x + (x | s)"),
    ("y ~ a*b + x + (x|s)", "~ . + z", "y ~ a + b + x + z + a:b + (x | s)"),
    ("y ~ a*b + (x|s)", ". ~ . * z", "y ~ a + b + z + a:b + a:z + b:z + a:b:z + (x | s)"),
    ("y ~ a + b + (x|s)", ". ~ .^2", "y ~ a + b + a:b + (x | s)"),
    ("y ~ x + (x|s)", ". ~ . - (1 + x | s) + (1 | s)", "y ~ x + (1 | s)"),
    ("y ~ x + (x || s)", ". ~ . - (x || s) + (1 | t)", "y ~ x + (1 | t)"),
    ("y ~ x + (1 | g/h)", ". ~ . - (1 | h:g)", "y ~ x + (1 | g)"),
    ("y ~ x + (1 | g) + (0 + x | g)", ". ~ . - (0 + x | g)", "y ~ x + (1 | g)"),
    ("y ~ x + diag(x | g)", ". ~ . + (1 | h)", "y ~ x + diag(x | g) + (1 | h)"),
    ("y ~ x + (1 | g)", ". ~ . + (1 | g)", "y ~ x + (1 | g)"),
    ("y ~ x - 1 + (1 | g)", ". ~ . + 1", "y ~ x + (1 | g)"),
    ("y ~ x + (1 | g)", ". ~ . - 1", "y ~ 0 + x + (1 | g)"),
    ("y ~ x + (1 | g)", ". ~ . - x - 1", "y ~ 0 + (1 | g)"),
    ("y ~ x + (1 | g)", ". ~ . - . + (1 | h)", "y ~ 1 + (1 | h)"),
    ("y ~ x + (1 | g)", ". ~ . - (x + (1 | g)) + (1 | h)", "y ~ 1 + (1 | h)"),
    ("y ~ x + (1 | g)", "z ~ a + (1 | h)", "z ~ a + (1 | h)"),
    ("y ~ x + offset(o) + (1 | g)", ". ~ . + z", "y ~ x + z + offset(o) + (1 | g)"),
    ("y ~ x + offset(o) + (1 | g)", ". ~ . - offset(o)", "y ~ x + (1 | g)"),
    ("y + z ~ x + (1 | g)", "2 * . ~ .", "2 * (y + z) ~ x + (1 | g)"),
    ("`a b` ~ `c d` + (1 | `e f`)", "log(.) ~ . - `c d`", "log(`a b`) ~ 1 + (1 | `e f`)"),
    ("y ~ x + I(z^2) + (1 | g)", ". ~ . - I(z^2)", "y ~ x + (1 | g)"),
    ("y ~ x | g", ". ~ . + z", "y ~ z + (x | g)"),
    ("y ~ a:b + a + (1 | g)", ". ~ . - b:a", "y ~ a + (1 | g)"),
]


@pytest.mark.parametrize(("old", "change", "wanted"), UPDATED)
def test_language(old: str, change: str, wanted: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert updated(old, change) == wanted


@pytest.mark.parametrize("change", [". ~ . - z", ". ~ . - (x | q)", ". ~ . - offset(o)"])
def test_what_is_not_there(change: str) -> None:
    with pytest.warns(LmmWarning, match="is not in the formula: nothing is taken out"):
        assert updated("y ~ x + (1 | g)", change) == "y ~ x + (1 | g)"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("+ x", "is no change of a formula"),
        (". ~ . - (1 | g)", "has no random term"),
        (". ~ . + (", "'\\)' is missing"),
        (". ~ . + (. | h)", "'\\.' stands for"),
        (". ~ . + (1 | h):z", "can only be added"),
        (". ~ . - (. - (1 | g))", "write one '-' for each"),
        ("", "empty"),
    ],
)
def test_changes_that_mean_nothing(change: str, words: str) -> None:
    with pytest.raises(FormulaError, match=words):
        updated("y ~ x + (1 | g)", change)


# ---- update: data, weights, offset --------------------------------------------------------------


def small(n: int = 120) -> pd.DataFrame:
    """Twelve groups, a factor, two numbers, weights, an offset."""
    rng = np.random.default_rng(11)
    g = np.arange(n) % 12
    frame = pd.DataFrame({"x": rng.normal(size=n), "z": rng.normal(size=n), "g": g})
    frame["f"] = np.array(list("abc"))[rng.integers(0, 3, n)]
    frame["w"], frame["o"] = rng.uniform(0.5, 2, n), rng.normal(size=n)
    noise = rng.normal(size=n) / np.sqrt(frame["w"])
    frame["y"] = 2 + frame["x"] + (frame["f"] == "b") + rng.normal(size=12)[g] + noise
    return frame


def equal(one: LMMFit, other: LMMFit) -> None:
    assert one.objective == pytest.approx(other.objective, rel=1e-10)
    assert one.params.index.equals(other.params.index)
    close(one.params, other.params, other.bse, 1e-5)


def test_everything_else_stays() -> None:
    frame = small()
    options: dict[str, Any] = {"weights": "w", "offset": "o", "contrasts": {"f": "sum"}}
    fit = lmer("y ~ x + f + (1 | g)", frame, **options, reml=False)
    equal(fit.update(". ~ . + z"), lmer("y ~ x + f + z + (1 | g)", frame, **options, reml=False))
    equal(fit.update(reml=True), lmer("y ~ x + f + (1 | g)", frame, **options))
    plain = lmer("y ~ x + f + (1 | g)", frame, contrasts={"f": "helmert"}, reml=False)
    equal(fit.update(weights=None, offset=None, contrasts={"f": "helmert"}), plain)
    half = frame.iloc[::2]
    equal(fit.update(data=half), lmer("y ~ x + f + (1 | g)", half, **options, reml=False))


def test_arrays_are_of_the_old_rows() -> None:
    frame = small()
    fit = lmer("y ~ x + (1 | g)", frame, weights=frame["w"].to_numpy())
    equal(fit.update(". ~ . + z"), lmer("y ~ x + z + (1 | g)", frame, weights="w"))
    with pytest.raises(DataError, match="weights=") as caught:
        fit.update(data=frame.iloc[::2])
    assert caught.value.variable == "weights"
    equal(
        fit.update(data=frame.iloc[::2], weights="w"),
        lmer("y ~ x + (1 | g)", frame.iloc[::2], weights="w"),
    )


def test_rows_that_were_left_out_come_back() -> None:
    frame = small()
    frame.loc[:9, "x"] = np.nan
    fit = lmer("y ~ x + (1 | g)", frame)
    assert (fit.nobs, fit.update(". ~ . - x").nobs) == (110, 120)


def test_data_that_have_changed() -> None:
    frame = small()
    fit = lmer("y ~ x + (1 | g)", frame)
    frame["x"] = frame["x"] + 1
    with pytest.warns(LmmWarning, match="changed since the fit, in x"):
        found = fit.update(". ~ . + z")
    equal(found, lmer("y ~ x + z + (1 | g)", frame))


def test_data_that_are_not_known() -> None:
    frame = small()
    fit = lmer("y ~ x + (1 | g)", frame, weights="w", contrasts={})
    again = pickle.loads(pickle.dumps(fit))
    for other in (again, fit.refit(frame["y"] + 1)):
        with pytest.raises(DataError, match="does not know its data"):
            other.update(". ~ . + z")
    equal(again.update(". ~ . + z", frame), fit.update(". ~ . + z"))
    with pytest.raises(FitError, match="lmer\\(formula, data\\)"):
        mixedlm("y ~ x", frame, groups="g").fit().lmm.update(". ~ . + z")


def test_streams_are_read_again() -> None:
    frame = small()
    parts = [frame[:50], frame[50:]]
    fit = lmer("y ~ x + (1 | g)", parts, weights="w")
    equal(fit.update(". ~ . + f"), lmer("y ~ x + f + (1 | g)", frame, weights="w"))


# ---- comparisons --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CASES if "regression" in CASES[name]])
def test_against_a_regression(name: str) -> None:
    """A fit of statsmodels' OLS or WLS, as R compares with lm()."""
    formulas = pytest.importorskip("statsmodels.formula.api")
    case, fit = CASES[name], fit_of(name)
    frame = data(case["dataset"]).iloc[:: case["every"]]
    frame = frame.apply(lambda c: c.astype(object) if c.dtype == "category" else c)
    text = case["regression"].replace("log(", "np.log(")
    if case["weights"]:
        least = formulas.wls(text, frame, weights=frame[case["weights"]]).fit()
    else:
        least = formulas.ols(text, frame).fit()
    wanted = case["against_regression"]
    table = anova(fit, least, names=["mixed", "least"]).table
    assert list(table.index) == ["least", "mixed"]
    tolerances = {"npar": 0, "AIC": 1e-8, "BIC": 1e-8, "logLik": 1e-8, "deviance": 1e-8}
    same_columns(table, wanted, tolerances | {"Chisq": RATIO, "Df": 0, "Pr(>Chisq)": 1e-3})
    made = compare(least, fit, names=["least", "mixed"]).table.loc[["mixed", "least"]]
    same_columns(made, case["criteria"], dict.fromkeys(("npar", "logLik", "AIC", "AICc"), 1e-8))
    delta = made["AIC"] - made["AIC"].min()
    close(made["weight"], np.exp(-delta / 2) / np.exp(-delta / 2).sum(), 1, 1e-12)


def test_rows_in_another_order() -> None:
    """Labels say which row is which; without labels the order must be the same."""
    frame = small()
    one = lmer("y ~ x + (1 | g)", frame, reml=False)
    shuffled = frame.sample(frac=1, random_state=3)
    wanted = anova(one, lmer("y ~ x + f + (1 | g)", frame, reml=False)).table
    found = anova(one, lmer("y ~ x + f + (1 | g)", shuffled, reml=False))
    close(found.table["Chisq"].iloc[1], wanted["Chisq"].iloc[1], 1, 1e-7)
    assert "in another order, compared by their labels" in found.notes[0]
    other = lmer("y ~ z + (1 | g)", shuffled)
    assert "not nested" in str(anova(one, lmer("y ~ z + f + (1 | g)", shuffled)))
    with pytest.raises(FitError, match="fixed effects differ"):
        anova(one.update(reml=True), other, refit=False)
    same = lmer("y ~ x + (x | g)", shuffled)
    assert anova(one.update(reml=True), same, refit=False).table["Df"].iloc[1] == 2
    with pytest.raises(DataError, match="in another order, and no labels"):
        anova(one, lmer("y ~ x + f + (1 | g)", shuffled.reset_index(drop=True)))
    coarse = frame.assign(y=frame["y"].round())  # many ties: the order shows in labels alone
    ties = coarse.sort_values(["y", "z"])
    found = anova(lmer("y ~ x + (1 | g)", ties), lmer("y ~ x + f + (1 | g)", coarse))
    assert not np.isnan(found.table["Pr(>Chisq)"].iloc[1])


def test_comparison() -> None:
    frame = small()
    fits = [lmer(f"y ~ {x} + (1 | g)", frame) for x in ("x", "z", "x + f")]
    found = compare(*fits, names=["x", "z", "xf"], criterion="BIC")
    table = found.table
    assert list(table.index) == ["x", "z", "xf"]
    assert table["against"].tolist() == ["", "", "x"]
    assert np.isnan(table.loc["z", "Pr(>Chisq)"]) and table.loc["xf", "Df"] == 2
    ratio = anova(fits[0], fits[2]).table["Chisq"].iloc[1]
    assert table.loc["xf", "Chisq"] == pytest.approx(ratio, rel=1e-10)
    assert table["delta"].min() == 0 and table["weight"].sum() == pytest.approx(1)
    assert (table["delta"] == table["BIC"] - table["BIC"].min()).all()
    assert "refitted by maximum likelihood" in " ".join(found.notes)
    assert "AICc" in str(found)


def test_comparisons_that_are_refused() -> None:
    frame = small()
    fit, other = lmer("y ~ x + (1 | g)", frame), lmer("y ~ z + (1 | g)", frame)
    with pytest.raises(TypeError, match="at least two"):
        compare(fit)
    with pytest.raises(ValueError, match='"AICc" or "BIC"'):
        compare(fit, other, criterion="R2")
    with pytest.raises(FitError, match="cannot be compared"):
        compare(fit, other, refit=False)
    formulas = pytest.importorskip("statsmodels.formula.api")
    least = formulas.ols("y ~ x", frame).fit()
    with pytest.raises(TypeError, match="one of the fits at least"):
        anova(least, least)
    with pytest.raises(TypeError, match="not GLS"):
        anova(fit, formulas.gls("y ~ x", frame).fit())
    with pytest.raises(FitError, match="some fits are by REML"):
        anova(fit, least, refit=False)


# ---- backward elimination -----------------------------------------------------------------------


def plain(labels: Any) -> list[str]:
    """Labels of random effects as lmerTest writes them: the intercept of a slope is not named."""
    return [str(label).replace("(1 + ", "(") for label in np.atleast_1d(labels)]


@pytest.mark.parametrize("name", SELECTED)
def test_steps(name: str) -> None:
    case, alpha = CASES[name], CASES[name]["alpha"]
    found = step(fit_of(name), case["ddf"], *alpha, keep=case["keep"] or ())
    assert plain(found.random.index) == plain(case["random"]["rows"])
    close(found.random["Eliminated"][1:], floats(case["random"]["Eliminated"])[1:], 1, 0)
    same_columns(found.random, case["random"], LIKELIHOOD)
    assert list(found.fixed.index) == np.atleast_1d(case["fixed"].get("rows", [])).tolist()
    if len(found.fixed):
        close(found.fixed["Eliminated"], floats(case["fixed"]["Eliminated"]), 1, 0)
    same_columns(found.fixed, case["fixed"], TERMS)
    assert meaning(found.fit.formula) == meaning(case["found"])
    assert found.fit.nobs == fit_of(name).nobs
    again = lmer(
        found.fit.formula,
        data(case["dataset"]).iloc[:: case["every"]],
        reml=case["REML"],
        weights=case["weights"] or None,
    )
    assert list(again.design.x_names) == list(found.fit.design.x_names)
    close(again.objective, found.fit.objective, 1, 1e-6)
    close(again.params, found.fit.params, again.bse, 1e-4)


@pytest.mark.parametrize("name", SELECTED)
def test_random_effects_one_by_one_and_term_by_term(name: str) -> None:
    for key, reduce_terms in (("ranova", True), ("ranova_terms", False)):
        table, wanted = ranova(fit_of(name), reduce_terms=reduce_terms).table, CASES[name][key]
        assert plain(table.index) == plain(wanted["rows"])
        same_columns(table, wanted, LIKELIHOOD)
    pd.testing.assert_frame_equal(ranova(fit_of(name), reduce=False).table, table)


@pytest.mark.parametrize("name", [name for name in CASES if "scope" in CASES[name]])
def test_scope(name: str) -> None:
    """Likelihood ratios as lme4's; F tests are those of the same terms without a scope."""
    case, fit = CASES[name], fit_of(name)
    table, wanted = drop1(fit, "Chisq", scope=case["scope"]).table, case["scope_chisq"]
    assert list(table.index) == wanted["rows"]
    same_columns(table, wanted, {"npar": 0, "AIC": 1e-7, "LRT": RATIO, "Pr(Chi)": 1e-3})
    terms = np.atleast_1d(case["scope"])
    tests, every = drop1(fit, scope=f"~ {' + '.join(terms)}").table, drop1(fit).table
    shared = [term for term in tests.index if term in every.index]
    pd.testing.assert_frame_equal(tests.loc[shared], every.loc[shared])
    assert set(drop1(fit, scope="~ .").table.index) >= set(every.index)
    with pytest.raises(ValueError, match="scope: 'nothing' is no term of the model, which has"):
        drop1(fit, scope="nothing")


def test_what_selection_does_is_said() -> None:
    text = str(step(fit_of("interaction")))
    assert "Backward reduced fixed-effect table:" in text and "Model found: " in text
    assert "its p-values are too small" in text.replace("\n  ", " ")
    kept = step(fit_of("covariate"))
    assert kept.fit is fit_of("covariate") and kept.notes == ()


def test_the_fit_found_is_a_fit() -> None:
    """It predicts without the variables that are gone, is tested, and can be changed."""
    frame = small().assign(k=np.random.default_rng(1).normal(size=120))
    found = step(lmer("y ~ x + f + k + z + (1 | g)", frame)).fit
    assert found.formula == "y ~ x + f + (1 | g)"
    new = frame[["x", "f", "g"]][:5]
    equal(found, lmer("y ~ x + f + (1 | g)", frame))
    close(found.predict(new), found.fittedvalues[:5], 1, 1e-9)
    assert list(found.emmeans("f").table["f"]) == ["a", "b", "c"]
    assert found.update("~ . + k").formula == "y ~ x + f + k + (1 | g)"


def test_streams_are_reduced_too() -> None:
    frame = small().assign(k=np.arange(120) % 7)
    formula = "y ~ x * f + k + (1 | g)"
    held, streamed = step(lmer(formula, frame)), step(lmer(formula, [frame[:70], frame[70:]]))
    assert streamed.fit.formula == held.fit.formula
    pd.testing.assert_frame_equal(streamed.fixed, held.fixed, rtol=1e-6)


def test_levels_of_a_factor_give_way_to_an_intercept() -> None:
    """As lmerTest: (1 | g) is what is left of (0 + f | g)."""
    frame = small()
    found = step(lmer("y ~ x + (0 + f | g)", frame), alpha_random=1e-9, alpha_fixed=1.0)
    assert found.random["Eliminated"].tolist()[1:] == [1, 0]
    assert found.fit.formula == "y ~ x + (1 | g)"
    assert found.random.index[1] == "f in (0 + f | g)"
    equal(found.fit, lmer("y ~ x + (1 | g)", frame))
    close(found.fit.predict(frame[:4]), found.fit.fittedvalues[:4], 1, 1e-9)
    assert found.fit.ranef()["g"].columns.tolist() == ["Intercept"]


def test_the_last_random_effect_stays() -> None:
    rng = np.random.default_rng(2)
    frame = small().assign(y=rng.normal(size=120))
    found = step(lmer("y ~ x + (1 | g) + (1 | f)", frame), alpha_fixed=1.0)
    assert found.random["Eliminated"].tolist()[1:] == [1, 0]
    assert "ordinary regression" in found.notes[0]


def test_steps_that_are_refused() -> None:
    fit = fit_of("covariate")
    with pytest.raises(ValueError, match="alpha_random"):
        step(fit, alpha_random=2)
    with pytest.raises(ValueError, match="keep: 'nothing'"):
        step(fit, keep="nothing")
    with pytest.raises(ValueError, match="F tests"):
        step(fit, "z")
    held = lmer(fit.formula, data("sleepstudy"), fixed={"theta": [None, 0, None]})
    with pytest.raises(FitError, match="held or tied"):
        step(held)


def test_beyond_what_is_singular() -> None:
    """Matuschek et al. (2017): on as long as the p-value is at least alpha."""
    fit = fit_of("covariate")
    assert simplify(fit).fit is fit
    found = simplify(fit, until="criterion")
    assert found.fit.formula == "Reaction ~ Days + (1 + Days || Subject)"
    assert (found.steps["p"][1:] >= 0.2).all()
    assert simplify(fit, alpha=0.9, until="criterion").fit is fit
    assert simplify(fit, "AIC", until="criterion").fit.formula == found.fit.formula
    with pytest.raises(ValueError, match='"not singular" or "criterion"'):
        simplify(fit, until="never")


# ---- held parameters ----------------------------------------------------------------------------


def test_held_by_name_and_in_order() -> None:
    frame = small()
    apart = lmer("y ~ x + (x || g)", frame)
    for theta in ({"g.x.Intercept": 0}, [None, 0, np.nan], np.array([np.nan, 0, np.nan])):
        fit = lmer("y ~ x + (x | g)", frame, fixed={"theta": theta})
        assert fit.converged and fit.n_params == apart.n_params
        assert fit.objective == pytest.approx(apart.objective, abs=1e-7)
    assert fit.model.theta_names == ["g.Intercept", "g.x.Intercept", "g.x"]
    known = lmer("y ~ x + (x | g)", frame, fixed={"theta": [0.8, 0.1, 0.0]})
    assert known.theta.tolist() == [0.8, 0.1, 0.0] and known.n_params == 3
    assert known.objective == known.model.at(known.theta).objective


def test_update_keeps_what_is_held() -> None:
    frame = small()
    fit = lmer("y ~ x + (x | g)", frame, fixed={"theta": {"g.x.Intercept": 0}})
    more = fit.update("~ . + z + (1 | f)")
    assert more.theta[1] == 0 and more.n_params == fit.n_params + 2
    assert fit.update(fixed=None).estimates.free is None
    assert fit.update("~ . - (x | g) + (1 | g)").estimates.free is None
    assert fit.update(fixed={"theta": {"g.x": 0.5}}).theta[2] == 0.5


@pytest.mark.parametrize(
    ("fixed", "words"),
    [
        ({"sigma": 0}, "sigma must be positive"),
        ({"sigma": "1"}, "sigma must be a number"),
        ({"beta": 1}, "fixed must be"),
        ({"theta": {"q": 1}}, "theta has no 'q': its entries are g.Intercept"),
        ({"theta": [1]}, "3 entries"),
        ({"theta": [-1, None, None]}, "zero or more"),
        ({"theta": ["a", 0, 0]}, "must be numbers"),
        ([1, 0, 0], "fixed must be"),
    ],
)
def test_what_cannot_be_held(fixed: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lmer("y ~ x + (x | g)", small(), fixed=fixed)


# ---- a known residual standard deviation ---------------------------------------------------------


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_meta_analysis(method: str) -> None:
    """metafor's random-effects model: the rows' variances are known."""
    wanted, frame = CASES["known"][method], data("meta")
    frame["study"] = np.arange(len(frame))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one row a study can be told from what is known
        fit = lmer("eff ~ x + (1 | study)", frame, weights="wi", sigma=1.0, reml=method == "REML")
    assert fit.sigma == 1.0 and fit.n_params == 3
    close(fit.varcorr["sdcor"].iloc[0], wanted["tau"], wanted["tau"], 1e-5)
    close(fit.params, wanted["beta"], fit.bse, 1e-5)
    close(fit.bse, wanted["se"], fit.bse, 1e-5)
    if wanted["llf"] is not None:
        assert fit.llf == pytest.approx(wanted["llf"], abs=1e-7)


def dense_criterion(frame: pd.DataFrame, reml: bool, sigma: float) -> Any:
    """y ~ x + (x | g) with weights w from its definition: theta -> criterion, Cov(beta)."""
    y, w, g = frame["y"].to_numpy(), frame["w"].to_numpy(), frame["g"].to_numpy()
    X = np.column_stack([np.ones(len(y)), frame["x"]])
    same = g[:, None] == g

    def at(theta: np.ndarray) -> tuple[float, np.ndarray]:
        T = np.array([[theta[0], 0], [theta[1], theta[2]]])
        V = sigma**2 * (np.diag(1 / w) + (X @ T @ T.T @ X.T) * same)
        inverse = np.linalg.inv(V)
        precision = X.T @ inverse @ X
        rest = y - X @ np.linalg.solve(precision, X.T @ inverse @ y)
        value = np.linalg.slogdet(V)[1] + rest @ inverse @ rest + len(y) * np.log(2 * np.pi)
        if reml:
            value += np.linalg.slogdet(precision)[1] - 2 * np.log(2 * np.pi)
        return float(value), np.linalg.inv(precision)

    return at


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("sigma", [0.5, 1.4])
def test_known_sigma(sigma: float, reml: bool) -> None:
    """The criterion, its minimum and Satterthwaite's degrees of freedom from their definitions."""
    frame = small()
    frame["y"] = frame["y"] + np.random.default_rng(5).normal(size=12)[frame["g"]] * frame["x"]
    fit = lmer("y ~ x + (x | g)", frame, weights="w", reml=reml, sigma=sigma)
    at = dense_criterion(frame, reml, sigma)
    value, covariance = at(fit.theta)
    assert fit.converged and fit.objective == pytest.approx(value, abs=1e-8)
    close(fit.cov_params(), covariance, covariance[0, 0], 1e-9)
    found = minimize(lambda theta: at(theta)[0], fit.theta, method="Nelder-Mead")
    assert fit.objective <= found.fun + 1e-8
    h = 1e-3 * np.eye(3)
    H = np.array(
        [
            [
                sum(a * b * at(fit.theta + a * u + b * v)[0] for a in (1, -1) for b in (1, -1))
                for v in h
            ]
            for u in h
        ]
    ) / (4e-6)
    slopes = np.array([(at(fit.theta + u)[1] - at(fit.theta - u)[1]) / 2e-3 for u in h])
    slopes = slopes[:, [0, 1], [0, 1]].T
    spread = np.einsum("ij,jk,ik->i", slopes, 2 * np.linalg.inv(H), slopes)
    wanted = 2 * covariance.diagonal() ** 2 / spread
    close(fit.coef_test().df_denom, wanted, wanted, 1e-3)
    assert np.isinf(fit.coef_test(ddf="residual").df_denom).all()


def test_sigma_as_estimated_changes_nothing_but_the_count() -> None:
    frame = small()
    fit = lmer("y ~ x + (1 | g)", frame, weights="w")
    known = lmer("y ~ x + (1 | g)", frame, weights="w", fixed={"sigma": fit.sigma})
    assert known.objective == pytest.approx(fit.objective, abs=1e-8)
    close(known.theta, fit.theta, 1, 1e-5)
    assert known.n_params == fit.n_params - 1
    assert "Held, not estimated: sigma =" in str(known.summary())


def test_zeros_are_exact_with_a_known_sigma() -> None:
    frame = small()
    fit = lmer("y ~ x + (x | g)", frame, sigma=3.0)
    assert fit.is_singular and fit.theta[2] == 0.0 and fit.converged
    smaller = lmer("y ~ x + (1 | g)", frame, sigma=20.0)
    assert smaller.theta.tolist() == [0.0] and smaller.is_singular


def test_everything_that_follows_knows_sigma() -> None:
    frame = small()
    fit = lmer("y ~ x + z + (x | g)", frame, sigma=1.2)
    for other in (
        fit.refit(frame["y"] * 1.5),
        fit.update(". ~ . - z"),
        pickle.loads(pickle.dumps(fit)),
        lmer("y ~ x + z + (x | g)", [frame[:50], frame[50:]], sigma=1.2),
    ):
        assert other.sigma == 1.2 and other.estimates.is_sigma_known
    less = fit.update(". ~ . - z")
    ratio = anova(less, fit).table["Chisq"].iloc[1]
    assert drop1(fit, "Chisq").table.loc["z", "LRT"] == pytest.approx(ratio, abs=1e-6)
    least = ranova(fit.update("~ . - (x | g) + (1 | g)")).table["LRT"].iloc[1]
    at = dense_criterion(frame.assign(w=1.0), True, 1.2)
    plain = lmer("y ~ x + (x | g)", frame, sigma=1.2)
    gone = ranova(plain, reduce_terms=False).table
    assert gone["LRT"].iloc[1] == pytest.approx(at(np.zeros(3))[0] - plain.objective, abs=1e-6)
    assert least > 0 and np.isnan(fit.varcorr_se()["se"].iloc[-1])
    free = fit.update(fixed=None)
    assert anova(fit, free).table["Df"].iloc[1] == 1
    other = lmer("y ~ x + z + (x | g)", frame, sigma=1.3)
    assert "the residual variance is known" in str(anova(less, other))
    for call in (fit.profile, lambda: fit.conf_int(method="profile")):
        with pytest.raises(FitError, match="it was held"):
            call()
    with pytest.raises(FitError, match="full"):
        fit.influence("g", refine=True)
    assert (fit.influence("g", refine="full")["sigma"] == 1.2).all()
    with pytest.raises(FitError, match="held or tied"):
        fit.t_test("x", ddf="kenward-roger")
    with pytest.raises(TypeError, match="twice"):
        lmer("y ~ x + (1 | g)", frame, sigma=1, fixed={"sigma": 1})


# ---- names of others ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fixef", "write fit.params"),
        ("vcov", "write fit.cov_params()"),
        ("VarCorr", "write fit.varcorr"),
        ("logLik", "write fit.llf"),
        ("random_effects", "write fit.ranef()"),
        ("fe_params", "write fit.params"),
        ("anova", "write lmmfast.anova(fit)"),
        ("param", "did you mean params?"),
        ("isSingular", "write fit.is_singular"),
    ],
)
def test_attributes_of_others(name: str, words: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(fit_of("covariate"), name)
    assert words in str(caught.value) and not hasattr(fit_of("covariate"), name)


def test_every_hint_is_true() -> None:
    """What hints say to write is there."""
    from lmmfast.hints import ATTRIBUTES

    fit = fit_of("covariate")
    for name, hint in ATTRIBUTES.items():
        assert not hasattr(LMMFit, name), f"{name} is there: it needs no hint"
        for word in hint.replace("(", " ").replace(",", " ").split():
            if word.startswith("lmmfast."):
                assert attrgetter(word[8:])(lmmfast), hint
            elif word.startswith("fit."):
                assert hasattr(fit, word[4:].split(".")[0]), hint


CALLS = {
    "REML": (lambda fit: lmer("y ~ x + (1 | g)", small(), REML=False), "reml=False"),
    "na_action": (lambda fit: lmer("y ~ x", small(), na_action="omit"), "dropped and counted"),
    "groups": (lambda fit: lmer("y ~ x", small(), groups="g"), "lmmfast.mixedlm"),
    "weight": (lambda fit: lmer("y ~ x", small(), weight="w"), "did you mean weights?"),
    "condVar": (lambda fit: fit.ranef(condVar=True), "write cond_var=True"),
    "allow_new_levels": (lambda fit: fit.predict(allow_new_levels=True), "new_levels="),
    "parm": (lambda fit: fit.conf_int(parm="theta_"), "parameters="),
    "use_t": (lambda fit: fit.t_test("Days", use_t=True), "ddf="),
    "whatever": (lambda fit: fit.summary(whatever=1), "its arguments are correlation, ddf"),
}


@pytest.mark.parametrize("name", CALLS)
def test_arguments_of_others(name: str) -> None:
    call, words = CALLS[name]
    with pytest.raises(TypeError) as caught:
        call(fit_of("covariate"))
    assert f"has no argument {name!r}" in str(caught.value) and words in str(caught.value)


def test_properties_keep_their_errors() -> None:
    """An AttributeError inside of a property is not taken for a missing attribute."""

    class Broken(LMMFit):
        @property
        def odd(self) -> int:
            return self.nothing_of_this_name  # type: ignore[no-any-return]

    fit = fit_of("covariate")
    broken = Broken(fit.estimates, fit.design, fit.model)
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = broken.odd


def test_alpha_says_the_level() -> None:
    fit = fit_of("covariate")
    pd.testing.assert_frame_equal(fit.conf_int(alpha=0.1), fit.conf_int(0.9))
    with pytest.raises(TypeError, match="give one of them"):
        fit.conf_int(0.9, alpha=0.1)
    with pytest.raises(ValueError, match="alpha"):
        fit.conf_int(alpha=1.5)


def test_the_criterion_has_names() -> None:
    fit = fit_of("covariate")
    found = fit.model.objective(fit.theta, gradient=True, hessian=True)
    value, gradient, information = found
    assert found.value == value and found.information is information
    assert found._fields == ("value", "gradient", "information")
    assert fit.model.objective(fit.theta) == value
    assert fit.model.objective(fit.theta, gradient=True)._fields == ("value", "gradient")
    assert fit.model.objective(fit.theta, hessian=True)._fields == ("value", "information")
    assert np.array_equal(found.gradient, gradient)


@pytest.mark.slow  # mypy reads the whole package; in CI it checks typed_program.py besides
def test_type_checkers_see_what_is_misspelled(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    text = """
from lmmfast import lmer

fit = lmer("y ~ x + (1 | g)", {}, REML=False)
fit.ranef(condVar=True)
fit.update(". ~ . - x", remll=True)
fit.fixef()
fit.conf_int(alpha=0.1)
"""
    path = tmp_path / "script.py"
    path.write_text(text)
    said, _, _ = api.run(["--no-incremental", "--follow-imports=silent", str(path)])
    wrong = sorted({int(line.split(":")[1]) for line in said.splitlines() if ": error:" in line})
    assert wrong == [4, 5, 6, 7], said
