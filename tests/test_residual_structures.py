"""``dispersion=`` and ``residual=`` of `lmer`: nlme's results, inference, rows, refusals."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dense_residual import Dense
from reference_data import FOLDER

import lmmfast
from lmmfast import LMMFit, datasets, lmer
from lmmfast.errors import DataError, FitError, FormulaError

OWN = Path(__file__).resolve().parent / "residual"
NLME = json.loads((OWN / "nlme.json").read_text())


@cache
def table(name: str) -> pd.DataFrame:
    own = OWN / f"{name}.csv.gz"
    frame = pd.read_csv(own if own.exists() else FOLDER / "data" / f"{name}.csv.gz")
    if name == "Orthodont":
        frame["Sex"] = pd.Categorical(frame["Sex"], ["Male", "Female"])
    if name == "Ovary":
        frame["k"] = frame.groupby("Mare").cumcount()
    for factor in ("QB", "Diet"):
        if factor in frame:
            frame[factor] = frame[factor].astype(str).astype("category")
    return frame


NONE = {"theta": [0]}  # no random effects
POWERS = "pressure + I(pressure**2) + I(pressure**3) + I(pressure**4)"
SEASON = "I(sin(2 * 3.141592653589793 * Time)) + I(cos(2 * 3.141592653589793 * Time))"
FITS: dict[str, Callable[[], LMMFit]] = {
    "orthodont_varident_reml": lambda: lmer(
        "distance ~ age * Sex + (age | Subject)", table("Orthodont"), dispersion="~ Sex"
    ),
    "dialyzer_varpower_reml": lambda: lmer(
        f"rate ~ ({POWERS}) * QB + (pressure + I(pressure**2) | Subject)",
        table("Dialyzer"),
        dispersion="power(pressure)",
    ),
    "bodyweight_corexp_reml": lambda: lmer(
        "weight ~ Time * Diet + (Time | Rat)", table("BodyWeight"), residual="car1(Time | Rat)"
    ),
    "oxboys_corcar1_ml": lambda: lmer(
        "height ~ age + I(age**2) + (age | Subject)",
        table("Oxboys"),
        residual="car1(age | Subject)",
        reml=False,
    ),
    "ovary_gls_ar1_ml": lambda: lmer(
        f"follicles ~ {SEASON} + (1 | Mare)",
        table("Ovary"),
        residual="ar1(k | Mare)",
        reml=False,
        fixed=NONE,
    ),
    "sleepstudy_corar1_reml": lambda: lmer(
        "Reaction ~ Days + (Days | Subject)",
        datasets.load("sleepstudy"),
        residual="ar1(Days | Subject)",
    ),
    "orthodont_cs_reml": lambda: lmer(
        "distance ~ age * Sex + (1 | Subject)",
        table("Orthodont"),
        residual="cs(Subject)",
        fixed=NONE,
    ),
    "fev_ar1_null_reml": lambda: lmer(
        "FEV1 ~ 1 + (1 | USUBJID)",
        table("fev"),
        residual="ar1(AVISIT | USUBJID)",
        dispersion="~ AVISIT",
        fixed=NONE,
    ),
}


@cache
def fitted(name: str) -> LMMFit:
    return FITS[name]()


@pytest.mark.parametrize("name", FITS)
def test_reaches_the_criterion_of_nlme_or_better(name: str) -> None:
    fit, ref = fitted(name), NLME[name]
    assert fit.converged
    assert fit.nobs == ref["n"]
    assert fit.objective <= ref["criterion"] + 1e-6
    assert fit.objective == pytest.approx(ref["reachable"], abs=1e-6)
    np.testing.assert_allclose(fit.bse, ref["se_dense"], rtol=2e-4)
    assert fit.n_evals <= 20


def test_natural_parameters_are_those_of_nlme() -> None:
    def estimates(name: str) -> np.ndarray:
        return fitted(name).residual_parameters["estimate"].to_numpy()

    sex = NLME["orthodont_varident_reml"]
    assert estimates("orthodont_varident_reml")[0] == pytest.approx(
        1 / sex["var"]["Male"], rel=1e-4
    )
    fit = fitted("orthodont_varident_reml")
    sd = fit.residual_sd.to_numpy()[(table("Orthodont")["Sex"] == "Female").to_numpy()]
    np.testing.assert_allclose(sd, sex["sigma"], rtol=1e-4)
    power = NLME["dialyzer_varpower_reml"]
    assert estimates("dialyzer_varpower_reml")[0] == pytest.approx(power["var"]["power"], rel=1e-4)
    x = table("Dialyzer")["pressure"].to_numpy()
    sd = fitted("dialyzer_varpower_reml").residual_sd
    np.testing.assert_allclose(sd, power["sigma"] * x ** power["var"]["power"], rtol=1e-4)
    rat = NLME["bodyweight_corexp_reml"]["cor"]
    assert estimates("bodyweight_corexp_reml")[0] == pytest.approx(rat, rel=1e-4)
    boys = NLME["oxboys_corcar1_ml"]["cor"]
    assert np.exp(-1 / estimates("oxboys_corcar1_ml")[0]) == pytest.approx(boys, rel=1e-4)
    for name in ("ovary_gls_ar1_ml", "orthodont_cs_reml"):
        assert estimates(name)[0] == pytest.approx(NLME[name]["cor"], rel=1e-4)
    fev = NLME["fev_ar1_null_reml"]
    VIS2 = fitted("fev_ar1_null_reml").residual_sd.loc[
        fitted("fev_ar1_null_reml").residual_sd.index.isin(
            table("fev").index[table("fev")["AVISIT"] == "VIS2"]
        )
    ]
    np.testing.assert_allclose(VIS2, fev["sigma"], rtol=1e-4)
    assert estimates("fev_ar1_null_reml")[-1] == pytest.approx(fev["cor"], rel=1e-4)


def dense_of(fit: LMMFit) -> tuple[Dense, np.ndarray]:
    """The definition of a fit, and its parameters."""
    own, design = fit.design.residual, fit.design
    assert own is not None and fit.estimates.delta is not None
    columns = np.zeros((fit.nobs, 0))
    if own.deviations is not None and own.deviations.stratum is not None:
        levels = np.arange(own.deviations.count) + 1
        columns = (own.deviations.stratum[:, None] == levels).astype(float)
    elif own.deviations is not None and own.deviations.column is not None:
        columns = own.deviations.column[:, None]
    kind, subject, time = "", np.zeros(fit.nobs, int), np.zeros(fit.nobs)
    if own.subjects is not None:
        kind, subject, time = own.subjects.asked.kind, own.subjects.codes, own.subjects.time
    terms = [(term.codes, term.z) for term in design.terms]
    given = design.y, design.X, terms, columns, kind, subject, time, design.weights, fit.reml
    return Dense(*given), np.concatenate([fit.theta, fit.estimates.delta])


NAMES = ["orthodont_varident_reml", "bodyweight_corexp_reml", "sleepstudy_corar1_reml"]


@pytest.mark.parametrize("name", NAMES)
def test_satterthwaite_takes_the_structure_as_estimated(name: str) -> None:
    fit = fitted(name)
    own, psi = dense_of(fit)
    df = own.satterthwaite(psi, np.eye(len(fit.params)))
    np.testing.assert_allclose(fit.df, df, rtol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_errors_of_residual_parameters(name: str) -> None:
    fit = fitted(name)
    own, psi = dense_of(fit)
    m, h = len(psi), 1e-3 * np.eye(len(psi))
    H = np.array([(own.gradient(psi + e) - own.gradient(psi - e)) / 2e-3 for e in h])
    V = 2 * np.linalg.inv((H + H.T) / 2)
    residual, delta = fit.design.residual, fit.estimates.delta
    assert residual is not None and delta is not None
    k = len(delta)
    slope = residual.natural(delta)[1]
    expected = np.abs(slope) * np.sqrt(np.diag(V)[m - k :])
    np.testing.assert_allclose(fit.residual_parameters["se"], expected, rtol=1e-3)
    limits = fit.conf_int(parameters="random").loc[fit.residual_parameters.index]
    assert (limits["lower"] < fit.residual_parameters["estimate"]).all()
    assert (limits["upper"] > fit.residual_parameters["estimate"]).all()


@pytest.mark.parametrize("name", ["orthodont_varident_reml", "oxboys_corcar1_ml"])
def test_profile_intervals_of_residual_parameters(name: str) -> None:
    from scipy.optimize import minimize

    fit = fitted(name)
    names = list(fit.residual_parameters.index)
    lower, upper = fit.conf_int(method="profile", parameters=names).to_numpy()[0]
    if fit.reml:
        fit = fit.update(reml=False)
    own, psi = dense_of(fit)
    free = fit.ntheta if hasattr(fit, "ntheta") else len(fit.theta)
    for end in (lower, upper):
        residual = fit.design.residual
        assert residual is not None
        x = np.log(end / residual.natural(np.zeros(1))[0][0])

        def held(theta: np.ndarray, x: float = x) -> float:
            return own.objective(np.append(theta, x))

        tight = {"xatol": 1e-8, "fatol": 1e-9, "maxiter": 4000, "maxfev": 4000}
        best = minimize(held, psi[:free], method="Nelder-Mead", options=tight).fun
        assert best - fit.objective == pytest.approx(3.841458820694124, abs=2e-4)


def test_random_effects_and_covariances_are_those_of_the_definition() -> None:
    fit = fitted("sleepstudy_corar1_reml")
    own, psi = dense_of(fit)
    _, beta, C, r2 = own.solved(psi)
    np.testing.assert_allclose(fit.params, beta, rtol=1e-9)
    np.testing.assert_allclose(fit.cov_params(), C * fit.sigma**2, rtol=1e-8)
    assert fit.sigma**2 == pytest.approx(r2 / (fit.nobs - 2), rel=1e-10)
    (codes, z), T = own.terms[0], own.factors(psi[:3])[0]
    Z = np.zeros((fit.nobs, 18, 2))
    Z[np.arange(fit.nobs), codes] = z
    Z = Z.reshape(fit.nobs, -1)
    G = np.kron(np.eye(18), T @ T.T)
    V = own.residual(psi[3:]) + Z @ G @ Z.T
    b = G @ Z.T @ np.linalg.solve(V, own.y - own.X @ beta)
    np.testing.assert_allclose(fit.estimates.b[0].ravel(), b, rtol=1e-7, atol=1e-8)
    R = fit.sigma**2 * own.residual(psi[3:])
    rows = np.flatnonzero(codes == 0)
    np.testing.assert_allclose(fit.residual_covariance(308), R[np.ix_(rows, rows)], rtol=1e-9)
    marginal = fit.residuals("marginal").to_numpy()
    L = np.linalg.cholesky(V * fit.sigma**2)
    np.testing.assert_allclose(fit.residuals("scaled"), np.linalg.solve(L, marginal), rtol=1e-6)
    raw = np.linalg.solve(np.linalg.cholesky(R), fit.resid.to_numpy())
    np.testing.assert_allclose(fit.residuals("normalized"), raw, rtol=1e-6)
    np.testing.assert_allclose(fit.residuals("pearson"), fit.resid / fit.sigma, rtol=1e-12)


def test_simulated_residuals_have_the_structure() -> None:
    fit = fitted("sleepstudy_corar1_reml")
    drawn = fit.simulate(4000, seed=1, re="fixed").to_numpy() - fit.fittedvalues.to_numpy()[:, None]
    rows = np.flatnonzero(fit.design.terms[0].codes == 0)
    expected = fit.residual_covariance(308).to_numpy()
    error = np.cov(drawn[rows]) - expected
    assert np.abs(error).max() < 5 * expected[0, 0] * np.sqrt(2 / 4000)
    fit = fitted("orthodont_varident_reml")
    drawn = fit.simulate(4000, seed=2, re="fixed").to_numpy() - fit.fittedvalues.to_numpy()[:, None]
    np.testing.assert_allclose(drawn.std(axis=1), fit.residual_sd, rtol=0.08)


def test_prediction_intervals_take_the_deviation_of_new_rows() -> None:
    fit = fitted("orthodont_varident_reml")
    new = {"age": [8.0, 8.0], "Sex": ["Male", "Female"], "Subject": ["M01", "F01"]}
    errors = fit.predict(new, se=True)["se"].to_numpy()
    found = fit.predict(new, interval="prediction")
    half = (found["upper"] - found["lower"]).to_numpy() / 2 / 1.959963984540054
    sd = fit.sigma * np.array([1.0, fit.residual_parameters["estimate"].iloc[0]])
    np.testing.assert_allclose(half, np.sqrt(errors**2 + sd**2), rtol=1e-9)
    with pytest.raises(DataError, match="Sex"):
        fit.predict({**new, "Sex": ["Male", "Other"]}, interval="prediction")


def test_counting_and_likelihood_ratios() -> None:
    data = table("Orthodont")
    plain = lmer("distance ~ age * Sex + (age | Subject)", data, reml=False)
    own = lmer("distance ~ age * Sex + (age | Subject)", data, reml=False, dispersion="~ Sex")
    assert own.n_params == plain.n_params + 1
    found = lmmfast.anova(plain, own).table
    assert found["Df"].iloc[1] == 1
    assert found["Chisq"].iloc[1] == pytest.approx(plain.objective - own.objective)
    assert found["Pr(>Chisq)"].iloc[1] < 1e-4
    other = lmer(
        "distance ~ age * Sex + (1 | Subject)", data, reml=False, residual="ar1(age | Subject)"
    )
    assert np.isnan(lmmfast.anova(other, own).table["Pr(>Chisq)"].iloc[1])


def test_refit_update_pickle_and_summary() -> None:
    fit = fitted("orthodont_varident_reml")
    again = fit.refit(table("Orthodont")["distance"] * 2 + 1)
    assert again.sigma == pytest.approx(2 * fit.sigma, rel=1e-5)
    np.testing.assert_allclose(again.estimates.delta, fit.estimates.delta, atol=1e-5)
    assert fit.objective == fitted("orthodont_varident_reml").objective
    np.testing.assert_allclose(fit.df, pickle.loads(pickle.dumps(fit)).df, rtol=1e-9)
    plain = lmer("distance ~ age * Sex + (age | Subject)", table("Orthodont"))
    assert fit.update(dispersion=None).objective == pytest.approx(plain.objective, abs=1e-8)
    assert plain.update(dispersion="~ Sex").objective == pytest.approx(fit.objective, abs=1e-7)
    assert fit.update(". ~ . - age:Sex").design.residual is not None
    text = str(fit.summary())
    assert "Residuals: standard deviations ~ Sex" in text
    assert "sigma is that of Sex = Male" in text
    assert "sd(Female) / sd(Male)" in text


def test_weights_multiply_the_structure() -> None:
    data = table("Orthodont").assign(w=np.linspace(0.5, 2, 108))
    fit = lmer("distance ~ age + (age | Subject)", data, weights="w", dispersion="~ Sex")
    own, psi = dense_of(fit)
    log_weights = np.log(data["w"]).sum()
    assert fit.objective == pytest.approx(own.objective(psi), abs=1e-8)
    assert np.abs(own.gradient(psi)).max() < 1e-3
    assert np.isfinite(log_weights)


def test_one_scale_per_level_is_another_unit() -> None:
    """Strata that are a row's unit: the fit of rows in other units is the same model."""
    data = table("Orthodont")
    data = data.assign(x=np.where(data["Sex"] == "Male", 1.0, 0.0))
    by_factor = lmer("distance ~ age + (age | Subject)", data, dispersion="~ Sex")
    by_number = lmer("distance ~ age + (age | Subject)", data, dispersion="exp(x)")
    assert by_factor.objective == pytest.approx(by_number.objective, abs=1e-7)
    ratio = np.log(by_factor.residual_parameters["estimate"].iloc[0])
    assert by_number.residual_parameters["estimate"].iloc[0] == pytest.approx(-ratio, rel=1e-4)


def test_missing_values_drop_their_rows() -> None:
    data = table("Orthodont").astype({"Sex": object}).copy()
    data.loc[3, "Sex"] = None
    fit = lmer("distance ~ age + (age | Subject)", data, dispersion="~ Sex")
    assert fit.nobs == 107
    assert fit.design.dropped == {"Sex": 1}


REFUSED = {
    "profile": lambda fit: fit.profile(),
    "profile intervals": lambda fit: fit.conf_int(method="profile"),
    "profile of sigma": lambda fit: fit.conf_int(method="profile", parameters="sigma"),
    "influence": lambda fit: fit.influence(),
    "cross-validation": lambda fit: lmmfast.cross_validate(fit, "Subject"),
    "rlr_test": lambda fit: lmmfast.rlr_test(fit),
    "shrinkage": lambda fit: fit.shrinkage(),
    "objective": lambda fit: fit.model.objective(fit.theta),
    "point": lambda fit: fit.model.point(fit.theta),
    "at": lambda fit: fit.model.at(fit.theta),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_know_of_structures_is_refused(what: str) -> None:
    with pytest.raises(FitError, match="residual structure"):
        REFUSED[what](fitted("orthodont_varident_reml"))


CROSSED = "distance ~ age + (1 | Subject) + (1 | age)"
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"dispersion": "foo(age)"}, FormulaError, "cannot be read"),
    ({"dispersion": "~ Sex + age"}, FormulaError, "one factor"),
    ({"dispersion": "~ nope"}, FormulaError, "nope"),
    ({"dispersion": "power(zero)"}, DataError, "zero in some rows"),
    ({"dispersion": "~ alone"}, DataError, "only one row"),
    ({"dispersion": "exp(one)"}, DataError, "constant"),
    ({"dispersion": "exp(Sex)"}, DataError, "one number"),
    ({"dispersion": 3}, FormulaError, "text"),
    ({"residual": "ar1(Subject)"}, FormulaError, "time"),
    ({"residual": "toeplitz(age | Subject)"}, FormulaError, "cannot be read"),
    ({"residual": "ar1(half | Subject)"}, DataError, "whole numbers"),
    ({"residual": "car1(Sex | Subject)"}, DataError, "numbers"),
    ({"residual": "ar1(one | Subject)"}, DataError, "two rows at one"),
    ({"residual": "cs(Subject)"}, DataError, "say the same"),
    ({"residual": "ar1(age | Subject)", "formula": CROSSED}, FitError, "varies within"),
    ({"dispersion": "~ Sex", "sigma": 1.0}, FitError, "sigma cannot be held"),
]


@pytest.mark.parametrize(("given", "error", "match"), BAD)
def test_errors_say_what_is_wrong(given: dict[str, Any], error: Any, match: str) -> None:
    data = table("Orthodont").assign(zero=0.0, one=1.0, half=lambda d: d["age"] + 0.5)
    data["alone"] = np.where(np.arange(len(data)) == 7, "b", "a")
    how = dict(given)
    formula = how.pop("formula", "distance ~ age + (1 | Subject)")
    with pytest.raises(error, match=match):
        lmer(formula, data, **how)


def test_what_streams_cannot_sum_is_refused() -> None:
    data = table("Orthodont")
    with pytest.raises(DataError, match="rows in memory"):
        lmer(
            "distance ~ age + (1 | Subject)", [data[:50], data[50:]], residual="ar1(age | Subject)"
        )
    with pytest.raises(DataError, match="rows in memory"):
        lmer("distance ~ age + (1 | Subject)", [data[:50], data[50:]], dispersion="exp(age)")


def test_the_table_of_all_parameters_has_those_of_the_residuals():
    data = lmmfast.datasets.load("sleepstudy")
    how = {"residual": "ar1(Days | Subject)", "dispersion": "exp(Days)"}
    fit = lmmfast.lmer("Reaction ~ Days + (Days | Subject)", data, **how)
    own = fit.residual_parameters
    table = fit.parameters().loc[own.index]
    np.testing.assert_array_equal(table[["estimate", "se"]].to_numpy(), own.to_numpy())
    assert (table["status"] == "").all()
