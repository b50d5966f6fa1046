"""Profile likelihood and confidence intervals: lme4's, the dense definition, boundaries, errors."""

from __future__ import annotations

import pickle
import sys
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dense import Problem, Term
from reference_data import reference, reference_names
from scipy.optimize import minimize
from scipy.stats import chi2, norm, t
from test_reference import Case, fit_reference

import lmmfast
from lmmfast import LMM, datasets, lmer
from lmmfast.engine.criterion import Criterion
from lmmfast.inference.intervals.held import (
    Correlation,
    Deviation,
    Effect,
    Sigma,
    lower_root,
)
from lmmfast.inference.intervals.parameters import Parameter, parameters_of
from lmmfast.inference.intervals.variance_errors import covariance_parameters

PROFILED = [name for name in reference_names() if "confint_profile" in reference(name)]
# lme4's profile of sigma breaks off in these two (no upper end): see test_ends_by_definition.
BROKEN = {"Dyestuff2__ri_reml", "Orthodont__sex_reml"}


@pytest.fixture(scope="module")
def sleep() -> Any:
    return lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))


@pytest.fixture(scope="module")
def orthodont() -> Any:
    return fit_reference("Orthodont__sex_reml").fit


@pytest.fixture(scope="module")
def dyestuff2() -> Any:
    return fit_reference("Dyestuff2__ri_reml").fit


# ---- against lme4 ----------------------------------------------------------------------------


def lme4_name(case: Case, one: Parameter) -> str:
    """The name of a parameter in the references."""
    if one.kind == "sigma":
        return "sigma"
    if one.kind == "fixed":
        return case.r_name(one.name)
    term = case.fit.design.terms[one.term]
    columns = [case.r_name(name) for name in term.columns]
    group = case.r_group(term.group)
    if one.kind == "sd":
        return f"sd_{columns[one.i]}|{group}"
    return f"cor_{columns[one.j]}.{columns[one.i]}|{group}"


@pytest.mark.parametrize("name", PROFILED)
def test_intervals_are_those_of_lme4(name: str) -> None:
    """All 21 references, to 1e-3 of the width (lme4 interpolates), and zeta increases."""
    case = fit_reference(name)
    profile = case.fit.profile()
    found = profile.conf_int().set_axis([lme4_name(case, one) for one in profile.parameters])
    wanted = reference(name)["confint_profile"]
    assert set(found.index) == set(wanted["names"])
    compared = 0
    rows = zip(wanted["names"], wanted["lower"], wanted["upper"], strict=True)
    for one, lower, upper in rows:
        if one == "sigma" and name in BROKEN:
            assert upper is None
            continue
        low, high = found.loc[one]
        assert [low, high] == pytest.approx([lower, upper], abs=1e-3 * (high - low)), one
        compared += 1
    assert compared >= len(wanted["names"]) - 1
    for _, points in profile.frame.groupby("parameter"):
        assert (np.diff(points["value"]) > 0).all() and (np.diff(points["zeta"]) >= 0).all()


# ---- against the definition --------------------------------------------------------------------


def problem_of(fit: Any) -> Problem:
    """The fit's data for the dense definition."""
    own = fit.design
    terms = [Term(one.codes, one.z, one.structure) for one in own.terms]
    return Problem(own.y, own.X, terms, own.weights, own.offset)


def dense_criterion(problem: Problem, theta: np.ndarray, sigma: float, reml: bool) -> float:
    """Deviance or REML criterion at theta and sigma."""
    f = float(problem.objective(theta, reml))
    nu = problem.degrees(reml)
    k = problem._fixed(theta)[3] / nu / sigma**2
    return f + nu * (k - 1 - np.log(k))


def theta_of(base: Any, x: np.ndarray, held: Parameter, value: float) -> tuple[np.ndarray, float]:
    """theta and sigma from standard deviations in units of their estimates (of either sign),
    arc sines of correlations and log sigma, so that no boundary is at infinity; one is held."""
    random = [one for one in parameters_of(base) if not one.is_fixed]
    values: dict[Parameter, float] = {}
    for one, own in zip(random, x, strict=True):
        if one.kind == "sd":
            estimate = base.sigma * np.linalg.norm(base.estimates.T[one.term][one.i])
            values[one] = own * max(estimate, 0.1 * base.sigma)
        else:
            values[one] = np.sin(own) if one.kind == "cor" else base.sigma * np.exp(own)
    values[next(one for one in random if one == held)] = value
    sigma = next(own for one, own in values.items() if one.kind == "sigma")
    theta: list[float] = []
    for k in range(len(base.design.terms)):
        sds = [own / sigma for one, own in values.items() if (one.kind, one.term) == ("sd", k)]
        cors = [own for one, own in values.items() if (one.kind, one.term) == ("cor", k)]
        assert len(sds) == 1 + len(cors)
        theta += [sds[0]] + [sds[1] * part for r in cors for part in (r, np.sqrt(1 - r * r))]
    return np.array(theta), float(sigma)


def dense_profile(base: Any, held: Parameter, value: float, starts: int = 1) -> float:
    """Criterion at the held value above its minimum, by BFGS on the dense definition."""
    problem, reml = problem_of(base), base.reml
    if held.is_fixed:
        rest = np.delete(problem.X, held.i, axis=1)
        shifted = replace(problem, y=problem.y - problem.X[:, held.i] * value, X=rest)
        first = base.theta + 0.1
    else:
        random = [one for one in parameters_of(base) if not one.is_fixed]
        first = np.array([float(one.kind == "sd") for one in random])

    def criterion(x: np.ndarray) -> float:
        if held.is_fixed:
            return float(shifted.objective(x, reml))
        return dense_criterion(problem, *theta_of(base, x, held, value), reml)

    rng = np.random.default_rng(0)
    lowest = np.inf
    for k in range(starts):
        x = first + 0.3 * k * rng.normal(size=len(first))
        for _ in range(2):
            with np.errstate(all="ignore"):
                found = minimize(criterion, x, method="BFGS", options={"gtol": 1e-6})
            x = found.x
        lowest = min(lowest, float(found.fun))
    return lowest - float(problem.objective(base.theta, reml))


def named(profile: Any, name: str) -> Parameter:
    return next(one for one in profile.parameters if one.name == name)


@pytest.mark.parametrize(
    ("model", "name", "reml"),
    [
        ("sleepstudy__rs_reml", "sd(Intercept | Subject)", False),
        ("sleepstudy__rs_reml", "Days", False),
        ("sleepstudy__rs_reml", "sd(Days | Subject)", True),
        ("sleepstudy__rs_reml", "cor(Intercept, Days | Subject)", True),
        *[
            pytest.param("sleepstudy__rs_reml", *one, marks=pytest.mark.slow)
            for one in [("cor(Intercept, Days | Subject)", False), ("sigma", True)]
        ],
        ("sleepstudy__wt_ri_ml", "sd(Intercept | Subject)", False),
        ("sleepstudy__wt_ri_ml", "Days", False),
        ("sleepstudy__offterm_ml", "sigma", False),
        ("Orthodont__sex_reml", "sigma", False),
        ("Dyestuff2__ri_reml", "sigma", False),
        ("Dyestuff2__ri_reml", "Intercept", False),
        ("Pastes__nested_reml", "sd(Intercept | batch:cask)", False),
        ("md_16.1__ri_reml", "sigma", True),
    ],
)
def test_ends_by_definition(model: str, name: str, reml: bool) -> None:
    """At the ends the criterion, minimized anew by scipy from its dense definition, is above its
    minimum by the chi-squared quantile, to 1e-6; these include ends where lme4's are others."""
    fit = fit_reference(model).fit
    profile = fit.profile([name], reml=reml)
    for end in profile.conf_int().loc[name]:
        found = dense_profile(profile.fit, named(profile, name), float(end))
        assert found == pytest.approx(chi2.ppf(0.95, 1), abs=1e-6), end


def test_end_that_lme4_misses(orthodont: Any) -> None:
    """At lme4's end (reference, interpolated) the deviance is 0.008 above the quantile."""
    name = "sd(Intercept | Subject)"
    profile = orthodont.profile([name])
    one, theirs = profile.parameters[0], reference("Orthodont__sex_reml")["confint_profile"]
    above = [
        dense_profile(profile.fit, one, end) - chi2.ppf(0.95, 1)
        for end in (float(profile.conf_int().loc[name, "upper"]), theirs["upper"][0])
    ]
    assert theirs["names"][0] == "sd_(Intercept)|Subject"
    assert above[0] == pytest.approx(0, abs=1e-6) and above[1] > 5e-3


def test_correlation_where_both_deviations_may_be_zero() -> None:
    """Any correlation is as good as the better one of the two models without it."""
    rng = np.random.default_rng(2)
    codes, x = np.repeat(np.arange(12), 6), rng.normal(size=72)
    Z = np.column_stack([np.ones(72), x])
    b = rng.multivariate_normal([0, 0], [[0.2, 0.1], [0.1, 0.1]], 12)
    y = (Z * b[codes]).sum(axis=1) + rng.normal(size=72)
    profile = LMM.from_arrays(y, Z, [(codes, Z)]).fit(reml=False).profile("random")
    assert profile.open_ends(0.99).iloc[:3, 0].all()
    frame = profile.frame
    at_zero = frame[frame["parameter"].str.startswith("sd") & (frame["value"] == 0)]["zeta"]
    assert len(at_zero) == 2 and np.ptp(at_zero) > 0.1
    top = profile._ceiling(named(profile, "cor(z0, z1 | g0)"), norm.ppf(0.995))
    assert top is not None and abs(top[1].zeta) == at_zero.abs().min()


def test_correlation_whose_deviation_may_be_zero(orthodont: Any) -> None:
    """The standard deviation of age may be zero at 95 %, so its correlation may be anything: as
    the deviation goes to zero the deviance does not depend on the correlation."""
    profile = orthodont.profile(["cor(Intercept, age | Subject)", "sd(age | Subject)"])
    assert profile.conf_int().to_numpy().tolist()[0] == [-1, 1]
    assert profile.open_ends().to_numpy().tolist() == [[True, True], [True, False]]
    cor = named(profile, "cor(Intercept, age | Subject)")
    zeta = profile.frame.set_index("parameter").loc["sd(age | Subject)"].iloc[0]
    assert zeta["value"] == 0
    found = dense_profile(profile.fit, cor, -0.97, starts=3)
    assert found <= zeta["zeta"] ** 2 + 1e-4
    wide = profile.conf_int(0.5)
    assert -1 < wide.loc[cor.name, "lower"] < wide.loc[cor.name, "upper"] < 1


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")
def test_derivatives(reml: bool) -> None:
    """Slopes of every coordinate against differences, away from the optimum."""
    rng = np.random.default_rng(3)
    n = 160
    codes, other = np.arange(n) % 12, np.arange(n) // 20
    x = rng.normal(size=(n, 2))
    z = np.column_stack([np.ones(n), x])
    y = (rng.normal(size=(12, 3))[codes] * z).sum(1) + rng.normal(size=8)[other]
    terms = [(codes, z), (other, np.ones((n, 1)))]
    weights = rng.uniform(0.5, 2, n)
    model = lmmfast.LMM.from_arrays(y + rng.normal(size=n), z, terms, weights)
    fit = model.fit(reml=reml)
    criterion = Criterion(model, reml)
    places = {(t, r, c): k for k, (t, r, c) in enumerate(model.theta_entries)}
    helds = [
        Sigma(criterion, fit),
        Deviation(criterion, fit.theta, fit.sigma, places[0, 0, 0]),
        Deviation(criterion, fit.theta, fit.sigma, places[1, 0, 0]),
        Correlation(criterion, fit.theta, (places[0, 0, 0], places[0, 1, 0], places[0, 1, 1])),
    ]
    if not reml:
        helds.append(Effect(criterion, fit, 1))
    for held in helds:
        start = held.local(held.best, held.z)
        assert start.f == pytest.approx(fit.objective, abs=1e-9)
        assert np.abs(start.slope).max() < 1e-3
        w, point = held.best + 0.2, held.z + 0.05 * rng.normal(size=len(held.z))
        here = held.local(w, point)
        step = 1e-5
        ahead, behind = held.local(w + step, point), held.local(w - step, point)
        assert here.slope_held == pytest.approx((ahead.f - behind.f) / (2 * step), rel=1e-5)
        for k in np.flatnonzero(held.free(w)):
            e = step * np.eye(len(point))[k]
            slope = (held.local(w, point + e).f - held.local(w, point - e).f) / (2 * step)
            assert here.slope[k] == pytest.approx(slope, rel=1e-5, abs=1e-5)


def test_lower_root_of_dependent_rows() -> None:
    rows = np.array([[0.0, 0, 0], [1, 2, 0], [2, 4, 0], [1, 1, 1]])
    L = lower_root(rows)
    assert pytest.approx(rows @ rows.T) == L @ L.T
    assert not L[:, [0, 2]].any() and not np.triu(L, 1).any()


# ---- the profile object ------------------------------------------------------------------------


def test_points_are_on_the_profile(sleep: Any) -> None:
    """Every row of the frame is a model whose deviance is the minimum plus zeta^2."""
    profile = sleep.profile(["sd(Days | Subject)", "cor(Intercept, Days | Subject)", "sigma"])
    frame, n = profile.frame, sleep.nobs
    assert list(frame.columns[:3]) == ["parameter", "value", "zeta"]
    assert list(frame.columns[3:]) == [one.name for one in parameters_of(sleep)]
    assert frame.groupby("parameter")["zeta"].agg(lambda z: np.abs(z).min()).eq(0).all()
    for _, row in frame.iterrows():
        assert row["value"] == pytest.approx(row[row["parameter"]], rel=1e-9)
        sigma, r = row["sigma"], row["cor(Intercept, Days | Subject)"]
        a, b = row["sd(Intercept | Subject)"] / sigma, row["sd(Days | Subject)"] / sigma
        here = sleep.model.at([a, r * b, np.sqrt(1 - r * r) * b], reml=False)
        k = here.scale / sigma**2
        deviance = here.objective + n * (k - 1 - np.log(k))
        assert deviance - profile.fit.objective == pytest.approx(row["zeta"] ** 2, abs=1e-7)
        assert here.params["Days"] == pytest.approx(row["Days"], rel=1e-6)


def test_points_of_a_fixed_effect(sleep: Any) -> None:
    """Every row is the model without it, of what its value leaves of the response."""
    design, codes = sleep.design, sleep.design.terms[0].codes
    profile = sleep.profile(["Days"])
    for _, row in profile.frame.iterrows():
        assert row["Days"] == pytest.approx(row["value"], rel=1e-12)
        rest = design.y - row["value"] * design.X[:, 1]
        model = LMM.from_arrays(rest, design.X[:, :1], [(codes, design.terms[0].z)])
        sigma, r = row["sigma"], row["cor(Intercept, Days | Subject)"]
        a, b = row["sd(Intercept | Subject)"] / sigma, row["sd(Days | Subject)"] / sigma
        here = model.at([a, r * b, np.sqrt(1 - r * r) * b], reml=False)
        assert here.objective - profile.fit.objective == pytest.approx(row["zeta"] ** 2, abs=1e-7)
        assert here.params.iloc[0] == pytest.approx(row["Intercept"], rel=1e-7)
        assert here.sigma == pytest.approx(sigma, rel=1e-6)


def test_levels(sleep: Any) -> None:
    """A level beyond that of the profile follows it further; ends are nested."""
    profile = sleep.profile(["sigma", "Days"], 0.8)
    wide, narrow = profile.conf_int(0.999), profile.conf_int(0.5)
    assert (wide["lower"] < narrow["lower"]).all() and (wide["upper"] > narrow["upper"]).all()
    again = sleep.profile(["sigma", "Days"], 0.9999).conf_int(0.999)
    assert again.to_numpy() == pytest.approx(wide.to_numpy(), rel=1e-7)
    assert pickle.loads(pickle.dumps(profile)).conf_int(0.5).equals(narrow)


def test_reml_profile(sleep: Any) -> None:
    """The REML criterion is profiled on request, for variance parameters; the ends are wider."""
    restricted = sleep.profile(reml=True)
    assert restricted.names == [one.name for one in parameters_of(sleep)[:4]]
    assert restricted.fit is sleep and restricted.reml
    names = ["sd(Intercept | Subject)", "sd(Days | Subject)"]
    deviance = sleep.profile(names).conf_int()
    assert (restricted.conf_int().loc[names, "upper"] > deviance["upper"]).all()
    with pytest.raises(ValueError, match="does not depend on the fixed effects"):
        sleep.profile(["Days"], reml=True)


def test_on_paper(orthodont: Any) -> None:
    profile = orthodont.profile("random")
    text = str(profile)
    assert text.startswith("Profile of the deviance, ")
    assert "sd(age | Subject): the lower bound is not excluded" in text
    assert "cor(Intercept, age | Subject): the lower and upper bounds are not excluded" in text
    assert "Lower 95%" in profile._repr_html_() and "4 parameters" in repr(profile)


def test_plot(orthodont: Any) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    profile = orthodont.profile("random")
    axes = profile.plot()
    assert [ax.get_xlabel() for ax in axes] == profile.names
    for ax in axes:
        zeta = ax.lines[0].get_ydata()
        assert (np.diff(zeta) > -1e-12).all() and len(zeta) > 100
    _, ax = plt.subplots()
    assert profile.plot("sigma", axes=ax)[0] is ax
    with pytest.raises(ValueError, match="need as many axes"):
        profile.plot(axes=ax)
    plt.close("all")


def test_plot_without_matplotlib(orthodont: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install 'lmmfast\[plot\]'"):
        orthodont.profile("sigma").plot()


# ---- boundaries, dropped columns, other responses ----------------------------------------------


def test_zero_variance(dyestuff2: Any) -> None:
    """A standard deviation estimated as zero: only an upper end; Wald has nothing to say."""
    profile = dyestuff2.profile()
    ends, at_bound = profile.conf_int(), profile.open_ends()
    name = "sd(Intercept | Batch)"
    assert ends.loc[name, "lower"] == 0 < ends.loc[name, "upper"]
    assert at_bound.loc[name].to_list() == [True, False]
    assert not at_bound.drop(name).to_numpy().any()
    wald = dyestuff2.conf_int(parameters="all")
    assert wald.loc[name].isna().all() and wald.drop(name).notna().all(axis=None)


@pytest.mark.parametrize("model", ["kbbb__max_reml", "gb12__m4_reml", "uighur2__rs_reml"])
def test_singular_fits(model: str) -> None:
    """Everything has an interval that contains the estimate, and zeta never falls."""
    fit = fit_reference(model).fit
    assert fit.is_singular
    profile = fit.profile()
    ends = profile.conf_int()
    estimates = profile.frame[profile.frame["zeta"] == 0].groupby("parameter")["value"].first()
    for name, value in estimates.items():
        assert ends.loc[name, "lower"] <= value <= ends.loc[name, "upper"]
    assert ends.notna().all(axis=None)
    for _, points in profile.frame.groupby("parameter"):
        assert (np.diff(points["zeta"]) >= -1e-9).all()


def test_correlation_with_a_zero_deviation() -> None:
    """It has no estimate, and every value is as good."""
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(15), 8)
    x = np.tile(np.linspace(-1, 1, 8), 15)
    y = rng.normal(size=15)[codes] + 0.5 * rng.normal(size=120)
    for level in range(15):  # the same slope, zero, in every level
        own = codes == level
        y[own] -= x[own] * (x[own] @ y[own]) / (x[own] @ x[own])
    z = np.column_stack([np.ones(120), x])
    fit = lmmfast.LMM.from_arrays(y, z, [(codes, z)]).fit()
    assert fit.estimates.T[0][1].tolist() == [0, 0]
    profile = fit.profile("random")
    ends = profile.conf_int()
    cor = next(name for name in profile.names if name.startswith("cor"))
    assert ends.loc[cor].to_list() == [-1, 1]
    assert profile.open_ends().loc[cor].all()
    assert fit.conf_int(parameters=[cor]).isna().all(axis=None)
    assert ends.notna().all(axis=None)


def test_dropped_columns() -> None:
    """NaN for dropped fixed and random columns; the others as without them."""
    data = datasets.load("sleepstudy").assign(Twice=lambda d: 2 * d["Days"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.LmmWarning)
        fit = lmer("Reaction ~ Days + Twice + (Days + Twice | Subject)", data)
    plain = lmer("Reaction ~ Days + (Days | Subject)", data)
    wanted = plain.conf_int(method="profile", parameters="all")
    found = fit.conf_int(method="profile", parameters="all")
    assert found.loc[wanted.index].to_numpy() == pytest.approx(wanted.to_numpy(), rel=1e-6)
    assert found.drop(wanted.index).isna().all(axis=None) and len(found) == len(wanted) + 4


def test_forms_of_one_model(sleep: Any) -> None:
    """Refits, the order of the columns of a term, `||` as two terms."""
    data = datasets.load("sleepstudy")
    other = sleep.refit(data["Reaction"] + 5 * data["Days"])
    wanted, found = (fit.conf_int(method="profile", parameters="all") for fit in (sleep, other))
    wanted.loc["Days"] += 5
    assert found.to_numpy() == pytest.approx(wanted.to_numpy(), rel=1e-6)
    one = lmer("Reaction ~ Days + (Days || Subject)", data)
    two = lmer("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", data)
    first, second = (fit.conf_int(method="profile", parameters="random") for fit in (one, two))
    assert list(first.index) == list(second.index)
    assert first.to_numpy() == pytest.approx(second.to_numpy(), rel=1e-6)


def test_refits_by_likelihood_have_their_response() -> None:
    data = datasets.load("sleepstudy")
    y = data["Reaction"] + 5 * np.sin(np.arange(180))
    again = lmer("Reaction ~ Days + (1 | Subject)", data, reml=False).refit(y)
    wanted = lmer("Reaction ~ Days + (1 | Subject)", data.assign(Reaction=y), reml=False)
    found = again.profile("random").conf_int()
    assert found.to_numpy() == pytest.approx(wanted.profile("random").conf_int(), rel=1e-5)


def test_two_crossed_factors_with_slopes() -> None:
    """kb07: lme4's ends of two parameters are interpolated across a boundary and off by a tenth of
    their width; at ours the deviance has the right height (see test_points_are_on_the_profile)."""
    fit = lmer("RTtrunc ~ P + (1 + P | subj) + (1 + P | item)", datasets.load("kb07"))
    ends = fit.conf_int(method="profile", parameters="all")
    lme4 = {
        "sd(Intercept | subj)": (241.03530392, 375.027189794),
        "sd(Intercept | item)": (283.14640503, 479.019893214),
        "cor(Intercept, P | item)": (-0.85729098, -0.417766420),
        "sd(P | item)": (190.40724913, 340.647550939),
        "sigma": (662.51203553, 709.453623503),
        "Intercept": (2026.72359932, 2334.687145165),
        "P": (-430.25755744, -237.455874477),
    }
    for name, wanted in lme4.items():
        low, high = ends.loc[name]
        assert [low, high] == pytest.approx(wanted, abs=1e-3 * (high - low))
    assert ends.loc["cor(Intercept, P | subj)", "lower"] == -1


def test_lower_criterion_is_reported(sleep: Any) -> None:
    """The profile of a point that is not the optimum says how much lower it got."""
    elsewhere = sleep.model.at([0.5, 0.0, 0.5], reml=False)
    with pytest.warns(lmmfast.errors.ConvergenceWarning, match="lower than the fit's by"):
        elsewhere.profile(["sd(Days | Subject)"])


# ---- conf_int ----------------------------------------------------------------------------------


def test_default_is_wald_of_fixed_effects(sleep: Any) -> None:
    ends = sleep.conf_int(0.9)
    assert list(ends.index) == ["Intercept", "Days"] and list(ends.columns) == ["lower", "upper"]
    half = t.ppf(0.95, 17) * sleep.bse
    assert (ends["upper"] - sleep.params).to_list() == pytest.approx(half.to_list(), rel=1e-6)
    assert sleep.conf_int(0.9, parameters="all").tail(2).equals(ends)


def test_wald_of_variance_parameters(sleep: Any) -> None:
    """Logarithms of standard deviations and Fisher's z of correlations, plus or minus 1.96 SE."""
    ends = sleep.conf_int(parameters="random")
    own, q = covariance_parameters(sleep), norm.ppf(0.975)
    assert list(ends.index) == [
        "sd(Intercept | Subject)",
        "cor(Intercept, Days | Subject)",
        "sd(Days | Subject)",
        "sigma",
    ]
    for name, value, se in [
        ("sd(Intercept | Subject)", own.sd[0][0], own.sd_se[0][0]),
        ("sd(Days | Subject)", own.sd[0][1], own.sd_se[0][1]),
        ("sigma", own.sigma, own.sigma_se),
    ]:
        wanted = value * np.exp(np.array([-q, q]) * se / value)
        assert ends.loc[name].to_numpy() == pytest.approx(wanted)
    r, se = own.corr[0][0, 1], own.corr_se[0][0, 1]
    wanted = np.tanh(np.arctanh(r) + np.array([-q, q]) * se / (1 - r * r))
    assert ends.loc["cor(Intercept, Days | Subject)"].to_numpy() == pytest.approx(wanted)
    assert ends.notna().all(axis=None)


def test_profile_method(sleep: Any) -> None:
    ends = sleep.conf_int(0.9, method="profile", parameters=["sigma", "Days"])
    wanted = sleep.profile(["sigma", "Days"]).conf_int(0.9)
    assert list(ends.index) == list(wanted.index) == ["sigma", "Days"]
    assert ends.to_numpy() == pytest.approx(wanted.to_numpy(), rel=1e-7)
    assert list(sleep.conf_int(method="profile").index) == ["Intercept", "Days"]


def test_without_fixed_effects() -> None:
    data = datasets.load("sleepstudy")
    fit = lmer("Reaction ~ 0 + (1 | Subject)", data)
    assert fit.conf_int(parameters="fixed").empty and fit.profile("fixed").frame.empty
    assert fit.conf_int(method="profile", parameters="all").notna().all(axis=None)


def test_names_are_unique() -> None:
    data = datasets.load("sleepstudy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.LmmWarning)
        fit = lmer("Reaction ~ Days + (1 | Subject) + (1 + Days | Subject)", data)
    names = [one.name for one in parameters_of(fit)]
    assert names[:2] == ["sd(Intercept | Subject)", "sd(Intercept | Subject.1)"]
    assert len(set(names)) == len(names)


def test_errors(sleep: Any) -> None:
    with pytest.raises(ValueError, match='"wald", "profile" or "boot", not'):
        sleep.conf_int(method="likelihood")
    with pytest.raises(ValueError, match=r"did you mean 'sd\(Days \| Subject\)'"):
        sleep.conf_int(parameters=["sd(Day | Subject)"])
    with pytest.raises(ValueError, match="there is no parameter 3"):
        sleep.conf_int(parameters=3)
    for call in (sleep.conf_int, lambda level: sleep.profile(level=level)):
        with pytest.raises(ValueError, match="is the coverage"):
            call(95)
    with pytest.raises(ValueError, match="there is no parameter"):
        sleep.profile("beta")


@pytest.mark.slow
def test_maximal_model() -> None:
    """72 variance parameters, singular."""
    fit = lmer(
        "RTtrunc ~ S * P * C + (S * P * C | subj) + (S * P * C | item)",
        datasets.load("kb07"),
        reml=False,
    )
    profile = fit.profile("random", 0.95)
    ends = profile.conf_int()
    assert ends.notna().all(axis=None)
    sds = [name for name in profile.names if name.startswith("sd")]
    values = profile.frame[profile.frame["zeta"] == 0].groupby("parameter")["value"].first()
    assert (ends.loc[sds, "upper"] > values[sds]).all()
