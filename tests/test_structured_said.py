"""What is said of structured terms: designs, tables, comparisons, refusals, other ways to fit."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from test_structured_results import SIGMA, Dense, data

import lmmfast
from lmmfast import CrossProducts, Spec, anova, lmer, ranova
from lmmfast.data.design import build
from lmmfast.errors import (
    DataError,
    FitError,
    FormulaError,
    IdentifiabilityWarning,
    SpacingWarning,
)


def fit_of(term: str, rest: str = " + (1 | h)", **options: Any) -> Any:
    return lmer(f"y ~ x + {term}{rest}", data(), **options)


# ---- designs -------------------------------------------------------------------------------------

REFUSED = {
    "ar1(f | g)": "write ar1(0 + f | g)",
    "ar1(0 + x | g)": "ar1(0 + factor(x) | g), a column for each level",
    "toep(1 | g)": "write (1 | g)",
    "rr(0 + f | g, d=5)": "5 latent variables, but the term has 4 columns",
    "exp(0 + w | g)": "these levels are no coordinates: 'a'",
    "exp(0 + one | g)": "has only one level ('(2)')",
    "propto(0 + g | 1, K)": "relationship={'g': K}",
}


@pytest.mark.parametrize("term", REFUSED)
def test_designs_are_refused(term: str) -> None:
    frame = data().assign(w=lambda own: own["f"].map({0: "a", 1: "b", 2: "c", 3: "d"}))
    frame["one"] = np.where(frame["x"] > 0, "2", "2.0")
    with pytest.raises((FormulaError, DataError)) as caught:
        build(f"y ~ x + {term}", frame)
    assert REFUSED[term] in str(caught.value)


SPACING = {"0 1 2 4": "as equally spaced", "t2 t10 t11 t12": "in this order, t10, t11, t12, t2"}


@pytest.mark.parametrize("labels", SPACING)
def test_labels_that_are_no_steps_are_warned_of(labels: str) -> None:
    names = labels.split()
    frame = data()
    frame["t"] = [names[i] for i in frame["f"].cat.codes]
    with pytest.warns(SpacingWarning) as caught:
        build("y ~ x + ar1(0 + t | g)", frame)
    assert SPACING[labels] in str(caught[0].message)
    declared = frame.assign(t=pd.Categorical(frame["t"], names))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build("y ~ x + cs(0 + t | g)", frame)  # any order will do
        if labels.startswith("t"):
            with pytest.warns(SpacingWarning, match="equally spaced"):
                build("y ~ x + ar1(0 + t | g)", declared)


def test_coordinates_are_read_from_columns_and_labels() -> None:
    frame = data()
    frame["place"] = [f"({u:g},{v:g})" for u, v in zip(frame["u"], frame["v"], strict=True)]
    one = build("y ~ exp(0 + u + v | g)", frame).terms[0].covariance
    other = build("y ~ exp(0 + place | g)", frame).terms[0].covariance
    assert one is not None
    assert other is not None
    assert np.array_equal(one.coordinates, other.coordinates)
    assert np.asarray(one.coordinates).tolist() == [[0, 0], [0.3, 2], [1, 0.5], [2.5, 1]]


def test_many_locations_are_refused() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"y": rng.normal(size=2_001), "u": rng.normal(size=2_001), "g": "a"})
    with pytest.raises(DataError, match="2001 locations"):
        build("y ~ exp(0 + u | g)", frame)


def test_one_series_has_no_groups() -> None:
    """All rows are one level: its times are what is repeated."""
    frame = data().assign(all="a")
    one = lmer("y ~ x + ar1(0 + f | 1)", frame)
    assert one.objective == pytest.approx(lmer("y ~ x + ar1(0 + f | all)", frame).objective)
    with pytest.raises(DataError, match="only one level"):
        lmer("y ~ x + ar1(0 + f | all) + (1 | all)", frame)


# ---- tables --------------------------------------------------------------------------------------

NAMES = {
    "ar1(0 + f | g)": ["sd(f | g)", "rho(f | g)"],
    "homtoep(0 + f | g)": ["sd(f | g)", "rho 1(f | g)", "rho 2(f | g)", "rho 3(f | g)"],
    "cs(0 + f | g)": [*(f"sd(f[{j}] | g)" for j in range(4)), "rho(f | g)"],
    "homad(0 + f | g)": ["sd(f | g)", *(f"cor(f[{j}], f[{j + 1}] | g)" for j in range(3))],
    "exp(0 + u + v | g)": ["sd(u + v | g)", "range(u + v | g)"],
    "rr(0 + f | g, d=1)": [f"loading(f[{j}], 1 | g)" for j in range(4)],
}


@pytest.mark.parametrize("term", NAMES)
def test_names(term: str) -> None:
    fit = fit_of(term)
    names = [*NAMES[term], "sd(Intercept | h)", "sigma"]
    assert list(fit.parameters().index) == names
    assert list(fit.conf_int(parameters="all").index) == [*names, "Intercept", "x"]
    own = fit.varcorr
    assert list(own.columns) == ["group", "var1", "var2", "vcov", "sdcor"]
    errors = fit.varcorr_se()
    assert errors["sdcor"].to_numpy() == pytest.approx(own["sdcor"].to_numpy(), nan_ok=True)
    assert errors["se"].notna().all()


def test_summary_names_the_structure_and_its_default() -> None:
    text = str(fit_of("ar1(0 + f | g)").summary())
    assert "ar1(0 + f | g): one standard deviation, correlation rho^|i - j|" in text
    assert "a standard deviation for each column" in str(fit_of("cs(0 + f | g)").summary())
    assert "homcs(0 + f | g): one standard" in str(fit_of("cs(0 + f | g, hom=TRUE)").summary())
    assert "range" in str(fit_of("exp(0 + u + v | g)").summary())


def test_at_bounds() -> None:
    """No variance: the standard deviation is at its bound, its correlation has no value."""
    frame = data()
    rng = np.random.default_rng(3)
    for _ in range(20):
        fit = lmer("y ~ x + ar1(0 + f | g)", frame.assign(y=rng.normal(size=len(frame))))
        status = fit.parameters()["status"]
        if fit.estimates.T[0].any():
            continue
        assert status.tolist() == ["at bound", "not estimable", ""]
        assert fit.n_params == 2 + 2 + 1  # whatever is on the boundary
        assert "no variance" in fit.summary().__str__() or fit.is_singular
        break
    else:
        raise AssertionError("no data without variance")


def test_correlations_that_together_are_at_their_bound() -> None:
    fit = lmer("y ~ x + toep(0 + f | g) + (1 | h)", data(3))
    assert fit.parameters()["status"].tolist() == [*[""] * 6, "at bound", "", ""]
    assert fit.is_singular
    assert "toep(0 + f | g): its correlations are at their bound" in str(fit.summary())
    smaller = fit.explain_singularity().reductions["formula"]
    assert any("homtoep(0 + f | g)" in formula for formula in smaller)


def test_explained_variance() -> None:
    """Johnson's mean variance of the random part is the mean of Z Sigma Z' over the rows."""
    fit = fit_of("hetar1(0 + f | g)")
    rows = [
        ((term.z @ fit.covariance(term.label).to_numpy()) * term.z).sum(axis=1).mean()
        for term in fit.design.terms
    ]
    fixed = np.var(fit.design.X @ fit.params.to_numpy())
    total = fixed + sum(rows) + fit.scale
    assert fit.r2()["conditional"] == pytest.approx((fixed + sum(rows)) / total, rel=0.02)
    assert fit.icc().loc["g", "adjusted"] == pytest.approx(rows[0] / (sum(rows) + fit.scale))


def test_what_cannot_be_told_from_the_residual_variance() -> None:
    one = data().drop_duplicates(["f", "g"])
    with pytest.warns(IdentifiabilityWarning, match="cannot be told from the residual variance"):
        fit = lmer("y ~ x + homcs(0 + f | g)", one)
    assert fit.n_params == 2 + 1 + 1
    assert "not counted" in fit.unidentified[0]
    assert fit.parameters()["status"].iloc[[0, -1]].tolist() == ["not identified"] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        identified = lmer("y ~ x + ar1(0 + f | g)", one)
    assert identified.n_params == 2 + 2 + 1
    assert identified.unidentified == ()


# ---- comparisons ---------------------------------------------------------------------------------


def test_structures_are_compared() -> None:
    fits = [fit_of(term) for term in ("(1 | g)", "ar1(0 + f | g)", "hetar1(0 + f | g)")]
    found = anova(*fits, fit_of("(0 + f | g)"), refit=False)
    assert found.table["Df"].iloc[1:].tolist() == [1, 3, 5]
    assert found.table["Pr(>Chisq)"].iloc[1:].notna().all()
    notes = " ".join(found.notes)
    assert "m2 against m1: correlations are one in the smaller model" in notes
    assert "m3 against m2" not in notes  # inside of its parameters
    other = anova(fit_of("homcs(0 + f | g)"), fit_of("hetar1(0 + f | g)"), refit=False)
    assert "homcs(0 + f | g) is no special case of a term of the other" in " ".join(other.notes)


NESTED = [
    ("homdiag", "diag", True),
    ("homdiag", "ar1", True),
    ("ar1", "homtoep", True),
    ("ar1", "toep", True),
    ("homcs", "homtoep", True),
    ("cs", "toep", True),
    ("ar1", "ad", True),
    ("diag", "hetar1", True),
    ("toep", "ad", False),
    ("hetar1", "homtoep", False),
    ("ar1", "homcs", False),
]


@pytest.mark.parametrize(("small", "large", "nested"), NESTED)
def test_nesting(small: str, large: str, nested: bool) -> None:
    """Special cases do not fit better; a p-value is given for them alone."""
    one, two = (fit_of(f"{kind}(0 + f | g)") for kind in (small, large))
    if nested:
        assert two.objective < one.objective + 1e-6
    table = anova(one, two, refit=False).table
    if one.n_params != two.n_params:
        assert bool(table["Pr(>Chisq)"].notna().any()) == nested


def test_deletions() -> None:
    fit = fit_of("hetar1(0 + f | g)")
    table = ranova(fit).table
    assert list(table.index) == [
        "<none>",
        "hetar1(0 + f | g) to ar1",
        "hetar1(0 + f | g) to diag",
        "hetar1(0 + f | g)",
        "(1 | h)",
    ]
    assert table["Df"].iloc[1:].tolist() == [3, 1, 5, 1]
    wanted = fit_of("ar1(0 + f | g)").objective - fit.objective
    assert table["LRT"].iloc[1] == pytest.approx(wanted, abs=1e-6)
    steps = lmmfast.simplify(fit, until="criterion").steps
    assert "hetar1" in steps["formula"].iloc[0]
    for formula in steps["formula"]:
        lmer(formula, data())


# ---- profiles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rho(f | g)", "sd(f | g)"])
def test_profiles(name: str) -> None:
    """Ends of a profile interval, from the dense criterion minimized over the other parameters."""
    fit = fit_of("ar1(0 + f | g)", reml=False)
    dense = Dense(fit, SIGMA["ar1(0 + f | g)"])
    natural = fit.parameters()["estimate"].to_numpy()
    place = list(fit.parameters().index).index(name)
    rest = [i for i in range(len(natural)) if i != place]

    def least(value: float) -> float:
        def at(others: np.ndarray) -> float:
            own = natural.copy()
            own[place], own[rest] = value, others
            return dense.criterion(own)

        options = {"xatol": 1e-7, "fatol": 1e-9}
        return float(minimize(at, natural[rest], method="Nelder-Mead", options=options).fun)

    target = fit.objective + 3.841458820694124
    low, high = fit.conf_int(method="profile", parameters=[name]).iloc[0]
    assert least(low) == pytest.approx(target, abs=1e-4)
    assert least(high) == pytest.approx(target, abs=1e-4)
    assert low < natural[place] < high


def test_what_has_no_profile_is_said() -> None:
    text = str(fit_of("homcs(0 + f | g)").profile("random").summary())
    assert "sd(f | g), rho(f | g): no profile" in text
    beside = lmer("y ~ x + cs(0 + f | g) + (1 | h)", data(1), reml=False)  # a slope of zero there
    low, high = beside.profile(["sd(Intercept | h)"]).conf_int().iloc[0]
    assert low == 0
    assert high > beside.parameters().loc["sd(Intercept | h)", "estimate"]


# ---- other ways ----------------------------------------------------------------------------------


def test_other_ways_to_the_same_fit() -> None:
    frame = data()
    formula = "y ~ x + toep(0 + f | g) + (1 | h)"
    fit = lmer(formula, frame)
    again = pickle.loads(pickle.dumps(fit))
    assert again.parameters().equals(fit.parameters())
    spec = Spec.from_data(formula, frame)
    streamed = lmer(CrossProducts.from_frame(frame, spec))
    assert streamed.objective == pytest.approx(fit.objective, abs=1e-8)
    assert streamed.estimates.phi == pytest.approx(fit.estimates.phi, abs=1e-5)
    g, f, h = (frame[name].cat.codes.to_numpy().astype(int) for name in ("g", "f", "h"))
    terms = [(g, np.eye(4)[f], "toep"), (h, None)]
    made = lmmfast.LMM.from_arrays(frame["y"], fit.design.X, terms).fit()
    assert made.objective == pytest.approx(fit.objective, abs=1e-8)
    changed = fit.update(". ~ . - toep(0 + f | g) + ar1(0 + f | g)")
    assert changed.objective == pytest.approx(fit_of("ar1(0 + f | g)").objective, abs=1e-8)
    drawn = fit.simulate(2, seed=1)
    many = lmmfast.fit_many(formula, frame, drawn, threads=1)
    refits = [fit.refit(drawn[i]).objective for i in drawn]
    assert many.objective == pytest.approx(np.array(refits), abs=1e-8)
    assert fit.predict(frame).to_numpy() == pytest.approx(fit.fittedvalues.to_numpy())
    assert fit.ranef()["g"].shape == (frame["g"].nunique(), 4)


def test_one_step_without_a_group_is_near_the_fit_without_it() -> None:
    fit = fit_of("ar1(0 + f | g)")
    own = {how: fit.influence(by="g", refine=how) for how in (True, "full")}
    step, full = (own[how][["dfb_x", "sigma"]].to_numpy() for how in (True, "full"))
    plain = fit.influence(by="g")["dfb_x"].to_numpy()
    left = np.abs(step[:, 0] - full[:, 0]).mean()
    assert left < 0.5 * np.abs(plain - full[:, 0]).mean()
    assert step[:, 1] == pytest.approx(full[:, 1], rel=0.02)


def test_missing_rows_keep_the_structure() -> None:
    frame = data()
    y = frame[["y"]].copy()
    y.iloc[::9] = np.nan
    many = lmmfast.fit_many("~ x + ar1(0 + f | g)", frame, y)
    wanted = lmer("y ~ x + ar1(0 + f | g)", frame.assign(y=y["y"]))
    assert many.objective[0] == pytest.approx(wanted.objective, abs=1e-8)


def test_refusals() -> None:
    with pytest.raises(FitError, match="held or tied"):
        fit_of("ar1(0 + f | g)", fixed={"sigma": 1.0})
    with pytest.raises(ValueError, match="there is no random term 'k'"):
        fit_of("ar1(0 + f | g)").covariance("k")


def test_a_covariance_of_your_own() -> None:
    """ar1 written by hand is ar1: by name in lmer, and among the terms of arrays."""
    steps = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    own = lmmfast.CustomCovariance(
        4, lambda phi: phi[0] ** 2 * np.tanh(phi[1]) ** steps, [0.5, 0.3], names=["sd", "z"]
    )
    frame = data()
    fit = lmer("y ~ x + (0 + f | g) + (1 | h)", frame, covariance={"g": own})
    known = fit_of("ar1(0 + f | g)")
    assert fit.objective == pytest.approx(known.objective, abs=1e-8)
    assert fit.n_params == known.n_params
    table = fit.parameters()
    assert list(table.index[:2]) == ["sd(g)", "z(g)"]
    rho = known.parameters().loc["rho(f | g)"]
    z = table.loc["z(g)"]
    assert np.tanh(z["estimate"]) == pytest.approx(rho["estimate"], abs=1e-5)
    assert z["se"] / np.cosh(z["estimate"]) ** 2 == pytest.approx(rho["se"], rel=1e-4)
    assert fit.coef_test().df_denom == pytest.approx(known.coef_test().df_denom, rel=1e-5)
    g, f, h = (frame[name].cat.codes.to_numpy().astype(int) for name in ("g", "f", "h"))
    made = lmmfast.LMM.from_arrays(
        frame["y"], fit.design.X, [(g, np.eye(4)[f], own), (h, None)]
    ).fit()
    assert made.objective == pytest.approx(fit.objective, abs=1e-8)
    with pytest.raises(FitError, match="covariances of your own"):
        fit.update(". ~ . - x")
    with pytest.raises(TypeError, match="must be a CustomCovariance"):
        lmer("y ~ x + (0 + f | g)", frame, covariance={"g": "ar1"})
    with pytest.raises(ValueError, match="has a structure in the formula"):
        lmer("y ~ x + ar1(0 + f | g)", frame, covariance={"g": own})
