"""Models for repeated measures against dense algebra, SAS's published numbers and nlme's gls."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dense_repeated import Dense
from scipy.optimize import minimize_scalar

import lmmfast
from lmmfast import DataError, FitError, FormulaError, mmrm
from lmmfast.inference.ddf import method_of

HERE = Path(__file__).parent / "reference" / "mmrm"
PUBLISHED = json.loads((HERE / "published.json").read_text())
STRUCTURES = ["us", "toep", "toeph", "ar1", "ar1h", "cs", "csh", "ad", "adh"]
WHOLE = "FEV1 ~ RACE + SEX + ARMCD * AVISIT + us(AVISIT | USUBJID)"


@pytest.fixture(scope="module")
def fev():
    data = pd.read_csv(HERE / "fev.csv.gz")
    data["ARMCD"] = pd.Categorical(data["ARMCD"], ["PBO", "TRT"])
    return data


@pytest.fixture(scope="module")
def orthodont():
    data = pd.read_csv(HERE.parent / "data" / "Orthodont.csv.gz")
    data["Sex"] = pd.Categorical(data["Sex"], ["Male", "Female"])
    data["fage"] = data["age"].astype(int).astype(str).pipe(pd.Categorical, ["8", "10", "12", "14"])
    return data


def term(structure):
    columns = "VISITN, VISITN2" if structure == "sp_exp" else "AVISIT"
    return f"{structure}({columns} | USUBJID)"


def dense_of(fit):
    design = fit.design
    visits = design.seen
    X = design.X[:, fit.estimates.fixed_kept]
    group = visits.group[visits.subject]
    return Dense(design.y, X, visits.subject, visits.visit, design.weights, group)


def small(seed=1, n=40, visits=4, arms=2):
    """Subjects with visits missing, weights, and a column that depends on others."""
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {"id": np.repeat(np.arange(n), visits), "visit": np.tile(np.arange(visits), n)}
    )
    data["arm"] = np.where(data["id"] % arms, "b", "a")
    data["x"] = rng.normal(size=n)[data["id"]]
    data["w"] = rng.uniform(0.5, 2, len(data))
    L = np.tril(rng.normal(size=(visits, visits))) + 2 * np.eye(visits)
    data["y"] = 50 + data["x"] + (rng.normal(size=(n, visits)) @ L.T).ravel()
    gone = rng.random(len(data)) < 0.2
    return data[~gone].sample(frac=1, random_state=seed).reset_index(drop=True)


# ---- the criterion -------------------------------------------------------------------------------


@pytest.mark.parametrize("own", PUBLISHED["criteria"], ids=lambda own: own["formula"])
def test_criterion_is_not_above_that_of_sas(fev, own):
    fit = mmrm(own["formula"], fev, reml=own["reml"], weights=own["weights"])
    assert fit.converged
    assert fit.objective == pytest.approx(own["criterion"], abs=2e-5)
    assert fit.objective < own["criterion"] + 1e-6


@pytest.mark.parametrize("own", PUBLISHED["gls"], ids=lambda own: own["id"])
def test_criterion_and_coefficients_are_those_of_gls(fev, orthodont, own):
    data = orthodont if "Subject" in own["formula"] else fev
    fit = mmrm(own["formula"], data, reml=own["reml"])
    assert fit.objective == pytest.approx(own["criterion"], abs=1e-5)
    assert fit.objective < own["criterion"] + 1e-6
    np.testing.assert_allclose(fit.params, list(own["beta"].values()), atol=2e-4)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_numbers_are_those_of_dense_algebra(structure, reml):
    data = small()
    formula = f"y ~ x + arm + {structure}(visit | arm / id)"
    fit = mmrm(formula, data, weights="w", reml=reml)
    model, own = dense_of(fit), fit.estimates
    _, Phi, beta, ml, restricted = model.solved(own.Sigma)
    assert fit.objective == pytest.approx(restricted if reml else ml, abs=1e-8)
    np.testing.assert_allclose(own.beta, beta, rtol=1e-9)
    np.testing.assert_allclose(own.vcov, Phi, rtol=1e-8, atol=1e-12)
    assert fit.converged and fit.certificate < 1e-6


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("structure", [*STRUCTURES, "sp_exp"])
def test_derivatives_are_exact(structure, reml):
    fit = mmrm(f"y ~ x + {structure}(visit | arm / id)", small(), reml=reml)
    core = fit.model._core
    rng = np.random.default_rng(1)
    phi = fit.theta / fit.model.per_unit
    phi = phi * (1 + 0.1 * rng.normal(size=len(phi)))
    core.evaluate(phi, reml)
    g, H = core.derivatives()
    A = core.slopes()
    for i in range(len(phi)):
        h = np.zeros(len(phi))
        h[i] = 1e-5
        values, slopes, sums = [], [], []
        for sign in (1, -1):
            values.append(core.evaluate(phi + sign * h, reml))
            slopes.append(core.derivatives()[0])
            sums.append(np.linalg.inv(core.estimates()[1]))
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(g[i], rel=1e-6, abs=1e-5)
        np.testing.assert_allclose((slopes[0] - slopes[1]) / 2e-5, H[i], rtol=1e-5, atol=1e-4)
        change = (sums[0] - sums[1]) / 2e-5
        np.testing.assert_allclose(change, A[i, :-1, :-1], rtol=1e-5, atol=1e-4 * np.abs(A).max())


def test_long_series_are_those_of_dense_algebra():
    """Of many visits derivatives are taken parameter by parameter."""
    rng = np.random.default_rng(8)
    n, m = 6, 45
    data = pd.DataFrame({"id": np.repeat(np.arange(n), m), "t": np.tile(np.arange(m), n)})
    noise = rng.normal(size=(n, m))
    for j in range(1, m):
        noise[:, j] += 0.7 * noise[:, j - 1]
    data["y"] = noise.ravel() + 0.1 * data["t"]
    data = data[rng.random(len(data)) < 0.9].reset_index(drop=True)
    fit = mmrm("y ~ t + ar1(t | id)", data)
    assert fit.converged
    assert fit.objective == pytest.approx(dense_of(fit).criterion(fit.estimates.Sigma), abs=1e-8)
    core, phi = fit.model._core, fit.theta / fit.model.per_unit + 0.1
    core.evaluate(phi)
    g, H = core.derivatives()
    A = core.slopes()
    for i, h in enumerate(1e-5 * np.eye(2)):
        ends = [
            (core.evaluate(x), core.derivatives()[0], core.estimates()[1])
            for x in (phi + h, phi - h)
        ]
        (a, one, C), (b, two, D) = ends
        assert (a - b) / 2e-5 == pytest.approx(g[i], rel=1e-6)
        np.testing.assert_allclose((one - two) / 2e-5, H[i], rtol=1e-5)
        change = (np.linalg.inv(C) - np.linalg.inv(D)) / 2e-5
        np.testing.assert_allclose(change, A[i, :-1, :-1], rtol=1e-5, atol=1e-4)


def test_units_and_origins_do_not_matter(fev):
    fit = mmrm(WHOLE, fev)
    far = fev.assign(FEV1=fev["FEV1"] * 1e-6 + 3, when=fev["FEV1_BL"] + 1e6)
    other = mmrm(WHOLE, far)
    np.testing.assert_allclose(other.bse, fit.bse * 1e-6, rtol=1e-6)
    np.testing.assert_allclose(other.df, fit.df, rtol=1e-5)
    near = mmrm("FEV1 ~ FEV1_BL + us(AVISIT | USUBJID)", fev)
    shifted = mmrm("FEV1 ~ when + us(AVISIT | USUBJID)", fev.assign(when=far["when"]))
    assert shifted.params["when"] == pytest.approx(near.params["FEV1_BL"], rel=1e-6)
    assert shifted.objective == pytest.approx(near.objective, abs=1e-6)


def test_order_of_rows_and_type_of_tables_do_not_matter(fev):
    fit = mmrm(WHOLE, fev)
    mixed = fev.sample(frac=1, random_state=3)
    assert mmrm(WHOLE, mixed).objective == pytest.approx(fit.objective, abs=1e-9)
    plain = {name: fev[name].to_numpy() for name in fev if name != "ARMCD"}
    plain["ARMCD"] = fev["ARMCD"].astype(str).to_numpy()
    assert mmrm(WHOLE, plain).objective == pytest.approx(fit.objective, abs=1e-9)


def test_dependent_columns_are_dropped(fev):
    with pytest.warns(lmmfast.RankDeficientWarning):
        fit = mmrm("FEV1 ~ ARMCD + I(2 * FEV1_BL) + FEV1_BL + us(AVISIT | USUBJID)", fev)
    plain = mmrm("FEV1 ~ ARMCD + I(2 * FEV1_BL) + us(AVISIT | USUBJID)", fev)
    assert np.isnan(fit.params["FEV1_BL"])
    assert fit.objective == pytest.approx(plain.objective, abs=1e-6)
    np.testing.assert_allclose(fit.pvalues.iloc[:3], plain.pvalues, rtol=1e-6)


# ---- degrees of freedom --------------------------------------------------------------------------


@pytest.mark.parametrize("structure", sorted(PUBLISHED["kenward_roger"]))
def test_kenward_roger_is_that_of_sas(fev, structure):
    own = PUBLISHED["kenward_roger"][structure]
    fit = mmrm(f"FEV1 ~ ARMCD + {term(structure)}", fev)
    full, linear = fit.coef_test(), fit.coef_test(ddf="kenward-roger-linear")
    assert full.sd[1] == pytest.approx(own["full"], rel=2e-4)
    assert linear.sd[1] == pytest.approx(own["linear"], rel=2e-4)
    for test in (full, linear, fit.coef_test(ddf="satterthwaite")):
        assert test.df_denom[1] == pytest.approx(own["df"], rel=5e-4)
    curved = own["full"] - own["linear"]  # the term of second derivatives alone
    assert full.sd[1] - linear.sd[1] == pytest.approx(curved, abs=3e-7)


def natural_derivatives(fit):
    """First and second derivatives of Sigma of one group in its entries (linear)."""
    m = fit.design.seen.m
    first = []
    for j in range(m):
        for i in range(j + 1):
            own = np.zeros((1, m, m))
            own[0, i, j] = own[0, j, i] = 1
            first.append(own)
    k = len(first)
    return np.array(first), np.zeros((k, k, 1, m, m))


def test_kenward_roger_is_that_of_its_definition():
    data = small(n=60)
    fit = mmrm("y ~ x + arm + us(visit | id)", data, weights="w")
    adjusted, df, _ = dense_of(fit).kenward_roger(fit.estimates.Sigma, *natural_derivatives(fit))
    method = method_of(fit, "kenward-roger")
    np.testing.assert_allclose(method.vcov, adjusted, rtol=1e-6)
    L = np.array([[0.0, 1, 0], [1, 0.5, 0.5]])
    np.testing.assert_allclose(method.df(L), [df(row) for row in L], rtol=1e-6)
    np.testing.assert_allclose(fit.coef_test(ddf="satterthwaite").sd, fit.bse)


def test_compound_symmetry_is_a_random_intercept(fev):
    fit = mmrm("FEV1 ~ RACE + ARMCD * AVISIT + cs(AVISIT | USUBJID)", fev)
    other = lmmfast.lmer("FEV1 ~ RACE + ARMCD * AVISIT + (1 | USUBJID)", fev)
    assert fit.objective == pytest.approx(other.objective, abs=1e-7)
    Sigma = fit.covariance().to_numpy()
    assert Sigma[0, 1] == pytest.approx(other.varcorr["vcov"].iloc[0], rel=1e-5)
    pairs = {"kenward-roger": "kenward-roger-observed", "satterthwaite": "satterthwaite"}
    for ddf, same in pairs.items():
        one, two = fit.coef_test(ddf=ddf), other.coef_test(ddf=same)
        np.testing.assert_allclose(one.sd, two.sd, rtol=1e-6)
        np.testing.assert_allclose(one.df_denom, two.df_denom, rtol=1e-4)
    L = np.eye(len(fit.params))[-3:]
    one, two = fit.f_test(L), other.f_test(L, ddf="kenward-roger-observed")
    assert one.fvalue == pytest.approx(two.fvalue, rel=1e-5)
    assert one.df_denom == pytest.approx(two.df_denom, rel=1e-4)


def test_degrees_of_freedom_between_and_within(fev):
    fit = mmrm("FEV1 ~ RACE + ARMCD * AVISIT + us(AVISIT | USUBJID)", fev, ddf="between-within")
    subjects, n = fit.n_levels["USUBJID"], fit.nobs
    df = fit.df
    assert df["ARMCD[T.TRT]" if "ARMCD[T.TRT]" in df else "ARMCDTRT"] == subjects - 3 - 1
    inner = [name for name in df.index if "AVISIT" in name]
    assert set(df[inner]) == {n - subjects - len(inner)}
    assert df["Intercept"] == n - subjects - len(inner)


def test_one_and_several_dimensions_agree(fev):
    fit = mmrm(WHOLE, fev)
    L = np.zeros((2, len(fit.params)))
    L[0, 1] = 1
    L[1, 1] = -3
    for ddf in (
        "kenward-roger",
        "kenward-roger-linear",
        "satterthwaite",
        "between-within",
        "residual",
    ):
        one, both = fit.t_test(L[:1], ddf=ddf), fit.f_test(L, ddf=ddf)
        assert both.df_num == 1
        assert both.fvalue == pytest.approx(float(one.tvalue[0] ** 2), rel=1e-8)
        assert both.df_denom == pytest.approx(float(one.df_denom[0]), rel=1e-8)


def test_maximum_likelihood_has_satterthwaites(fev):
    fit = mmrm(WHOLE, fev, reml=False)
    assert "Satterthwaite" in fit.coef_test().method
    with pytest.raises(FitError, match="REML"):
        fit.coef_test(ddf="kenward-roger")


def test_methods_of_repeated_measures_are_theirs_alone(fev):
    fit = lmmfast.lmer("FEV1 ~ ARMCD + (1 | USUBJID)", fev)
    with pytest.raises(FitError, match="mmrm"):
        fit.t_test(
            "ARMCD[T.TRT]" if "ARMCD[T.TRT]" in fit.params else "ARMCDTRT", ddf="between-within"
        )


# ---- places with coordinates ---------------------------------------------------------------------


@pytest.mark.parametrize("reml", [True, False])
def test_places_of_their_own_are_those_of_dense_algebra(reml):
    rng = np.random.default_rng(4)
    n = 40
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 4), "when": rng.uniform(0, 9, 4 * n)})
    data["where"] = rng.normal(size=4 * n)
    data["arm"] = np.where(data["id"] % 2, "b", "a")
    data["w"] = rng.uniform(0.5, 2, len(data))
    data["y"] = rng.normal(size=n)[data["id"]] + rng.normal(size=4 * n) + data["when"]
    data = data[rng.random(len(data)) < 0.8].reset_index(drop=True)
    fit = mmrm("y ~ when + arm + sp_exp(when, where | id)", data, weights="w", reml=reml)
    assert fit.converged
    sd, far = fit.parameters()["estimate"]
    xy = data[["when", "where"]].to_numpy()
    away = np.sqrt(((xy[:, None] - xy) ** 2).sum(axis=2))
    model = Dense(data["y"].to_numpy(), fit.design.X, data["id"], np.arange(len(data)), data["w"])
    R = np.exp(-away / far)
    assert fit.objective == pytest.approx(model.criterion([sd**2 * R], reml), abs=1e-8)
    for change in (1e-3, -1e-3):  # it is an optimum
        for a, b in ((sd + change, far), (sd, far * (1 + change))):
            near = model.criterion([a**2 * np.exp(-away / b)], reml)
            assert near > fit.objective - 1e-9
    if reml:  # variance and range
        first = np.array([[R], [sd**2 * R * away / far**2]])
        zero, both = np.zeros_like(R), R * away / far**2
        bend = sd**2 * R * (away**2 / far**4 - 2 * away / far**3)
        second = np.array([[[zero], [both]], [[both], [bend]]])
        adjusted, df, _ = model.kenward_roger([sd**2 * R], first, second)
        found = method_of(fit, "kenward-roger")
        np.testing.assert_allclose(found.vcov, adjusted, rtol=1e-6)
        np.testing.assert_allclose(found.df(np.eye(3)), [df(row) for row in np.eye(3)], rtol=1e-5)
    r = fit.resid.to_numpy()
    V = model.spread([sd**2 * R])
    values = fit.residuals("normalized")
    assert float(values @ values) == pytest.approx(float(r @ np.linalg.solve(V, r)), rel=1e-9)
    assert len(fit.predict(interval="prediction")) == len(data)


def test_a_range_of_zero_is_at_its_bound():
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"id": np.repeat(np.arange(50), 4), "when": np.tile(np.arange(4.0), 50)})
    noise = rng.normal(size=(50, 4))
    noise[:, 1::2] -= 0.8 * noise[:, ::2]  # neighbours differ
    data["y"] = noise.ravel()
    fit = mmrm("y ~ when + sp_exp(when | id)", data)
    assert fit.converged
    assert fit.estimates.bounded == (1,)
    assert fit.parameters()["se"].isna().tolist() == [False, True]
    assert "range is zero" in str(fit.summary())
    plain = Dense(data["y"].to_numpy(), fit.design.X, data["id"], np.tile(np.arange(4), 50))
    sd = fit.parameters().loc["sd", "estimate"]
    assert fit.objective == pytest.approx(plain.criterion([sd**2 * np.eye(4)]), abs=1e-8)
    assert fit.df.iloc[0] == pytest.approx(198, rel=1e-6)  # as least squares


# ---- what is asked of a fit ----------------------------------------------------------------------


def test_structures_are_compared(fev):
    fits = [mmrm(f"FEV1 ~ ARMCD + {term(s)}", fev) for s in ("cs", "csh", "us")]
    table = lmmfast.anova(*fits).table
    assert list(table["npar"] if "npar" in table else table.iloc[:, 0]) == [4, 7, 12]
    with_groups = mmrm("FEV1 ~ ARMCD + us(AVISIT | SEX / USUBJID)", fev)
    both = lmmfast.anova(fits[2], with_groups)
    assert "nested" not in str(both)
    other = lmmfast.anova(mmrm(f"FEV1 ~ ARMCD + {term('ar1')}", fev), fits[1])
    assert "not nested" in str(other)


def test_means_and_terms(fev):
    fit = mmrm(WHOLE, fev)
    means = fit.emmeans(["ARMCD", "AVISIT"], contrasts="pairwise")
    assert len(means.table) == 8
    assert "Kenward-Roger" in str(means)
    table = lmmfast.anova(fit).table
    assert len(table) == 5
    assert table.notna().all().all()
    joint = lmmfast.joint_tests(fit, by="AVISIT")
    assert joint is not None


def test_residuals_are_independent_when_normalized():
    data = small(n=400)
    fit = mmrm("y ~ x + us(visit | arm / id)", data, weights="w")
    model = dense_of(fit)
    values = fit.residuals("normalized")
    V = model.spread(fit.estimates.Sigma)
    r = fit.resid.to_numpy()
    assert float(values @ values) == pytest.approx(float(r @ np.linalg.solve(V, r)), rel=1e-9)
    pearson = fit.residuals("pearson")
    np.testing.assert_allclose(pearson, r / np.sqrt(V.diagonal()))
    assert list(values.index) == list(data.index)


def test_predictions(fev):
    fit = mmrm(WHOLE, fev)
    new = fev.iloc[:8]
    found = fit.predict(new, se=True)
    X = fit.design.recipe.fixed(new)[0]
    np.testing.assert_allclose(found["fit"], X @ fit.params)
    test = fit.t_test(X)
    np.testing.assert_allclose(found["se"], test.sd)
    np.testing.assert_allclose(found[["lower", "upper"]], test.conf_int())
    wide = fit.predict(new, interval="prediction")
    assert ((wide["upper"] - wide["lower"]) > (found["upper"] - found["lower"])).all()


def test_conditional_means_of_missing_visits(fev):
    fit = mmrm("FEV1 ~ ARMCD * AVISIT + us(AVISIT | ARMCD / USUBJID)", fev)
    filled, mean = fit.predict(fev, conditional=True), fit.predict(fev)
    there = fev["FEV1"].notna()
    np.testing.assert_array_equal(filled[there], fev.loc[there, "FEV1"])
    one = fev[fev["USUBJID"] == "PT1"]
    Sigma = fit.covariance(one["ARMCD"].iloc[0]).to_numpy()
    o = one["FEV1"].notna().to_numpy()
    left = (one["FEV1"] - mean[one.index])[o]
    wanted = mean[one.index][~o] + Sigma[np.ix_(~o, o)] @ np.linalg.solve(Sigma[np.ix_(o, o)], left)
    np.testing.assert_allclose(filled[one.index][~o], wanted)
    alone = fev["USUBJID"].isin(fit.design.seen.absent)
    np.testing.assert_allclose(filled[alone], mean[alone])


def test_simulated_responses_have_the_covariance(fev):
    fit = mmrm(WHOLE, fev)
    one, many = fit.simulate(1, seed=5), fit.simulate(300, seed=5)
    np.testing.assert_array_equal(one[0], many[0])
    noise = many.sub(fit.fittedvalues, axis=0).to_numpy()
    visits = fit.design.seen
    for visit in range(visits.m):
        own = noise[visits.visit == visit]
        assert np.mean(own**2) == pytest.approx(fit.estimates.Sigma[0, visit, visit], rel=0.05)
    again = fit.refit(many[0])
    assert abs(again.params.iloc[0] - fit.params.iloc[0]) < 5 * fit.bse.iloc[0]


def test_bootstrap_goes_with_the_errors(fev):
    fit = mmrm("FEV1 ~ ARMCD + cs(AVISIT | USUBJID)", fev)
    drawn = fit.bootstrap(60, seed=1)
    assert drawn.shape == (60, 4)
    np.testing.assert_allclose(drawn.std().iloc[:2], fit.bse, rtol=0.35)
    limits = fit.conf_int(0.9, method="boot", n=60, seed=1, parameters="all")
    np.testing.assert_allclose(limits.loc["rho"], drawn["rho"].quantile([0.05, 0.95]))
    np.testing.assert_array_equal(drawn.iloc[:9], fit.bootstrap(9, seed=1))


def test_profile_intervals_are_where_the_deviance_rises(fev):
    fit = mmrm("FEV1 ~ ARMCD + ar1h(AVISIT | USUBJID)", fev, reml=False)
    limits = fit.conf_int(method="profile", parameters="all")
    wald = fit.conf_int(parameters="all")
    assert list(limits.index) == [*fit.parameters().index, *fit.params.index]
    assert (limits["lower"] < limits["upper"]).all()
    np.testing.assert_allclose(limits, wald, rtol=0.1, atol=0.1)
    # of one coefficient: the model without it, its value known
    low = limits.loc[fit.params.index[1], "lower"]
    known = low * (fev["ARMCD"] == "TRT").to_numpy(float)
    held = mmrm("FEV1 ~ 1 + ar1h(AVISIT | USUBJID)", fev, reml=False, offset=known)
    assert held.objective - fit.objective == pytest.approx(3.841458820694124, abs=1e-5)


def test_profile_of_a_correlation_holds_it(fev):
    fit = mmrm("FEV1 ~ ARMCD + cs(AVISIT | USUBJID)", fev, reml=False)
    low = fit.conf_int(method="profile", parameters=["rho"])["lower"].iloc[0]
    model = dense_of(fit)
    shape = np.full((4, 4), low) + (1 - low) * np.eye(4)
    found = minimize_scalar(lambda s: model.criterion([s * shape], False), (60, 90, 130), tol=1e-3)
    assert found.fun - fit.objective == pytest.approx(3.8415, abs=2e-3)


def test_summary_says_what_there_is(fev):
    text = str(mmrm(WHOLE, fev).summary())
    for part in (
        "repeated measures",
        "REML criterion",
        "unstructured",
        "patterns of visits",
        "Kenward-Roger",
        "certified",
        "263 of 800 rows dropped",
        "VIS4",
    ):
        assert part in text
    assert "rho" in str(mmrm("FEV1 ~ ARMCD + ar1(AVISIT | SEX / USUBJID)", fev).summary())


def test_subjects_without_rows_are_named(fev):
    missing = set(fev["USUBJID"]) - set(fev.loc[fev["FEV1"].notna(), "USUBJID"])
    fit = mmrm(WHOLE, fev)
    assert set(fit.design.seen.absent) == missing
    assert "no row that can be used" in str(fit.summary())


def test_a_fit_can_be_pickled(fev):
    fit = mmrm(WHOLE, fev)
    other = pickle.loads(pickle.dumps(fit))
    assert other.objective == fit.objective
    np.testing.assert_allclose(other.df, fit.df)
    np.testing.assert_array_equal(other.covariance(), fit.covariance())


def test_covariance_and_its_parameters(fev):
    fit = mmrm("FEV1 ~ ARMCD + us(AVISIT | ARMCD / USUBJID)", fev)
    Sigma = fit.covariance("TRT")
    own = fit.varcorr
    own = own[own["group"] == "TRT"]
    np.testing.assert_allclose(own["vcov"].iloc[:4], np.diag(Sigma))
    assert fit.n_params == 2 + 20
    assert len(fit.parameters()) == 20
    with pytest.raises(ValueError, match="group"):
        fit.covariance()
    with pytest.raises(AttributeError, match="covariance"):
        _ = fit.sigma
    with pytest.raises(FitError, match="random effects"):
        fit.ranef()


# ---- rows that are not in memory -----------------------------------------------------------------


@pytest.mark.parametrize("order", ["by subject", "mixed"])
def test_chunks_give_the_fit_of_all_rows(fev, order, tmp_path):
    formula = "FEV1 ~ RACE + ARMCD * AVISIT + us(AVISIT | SEX / USUBJID)"
    plain = fev.assign(ARMCD=fev["ARMCD"].astype(str))
    rows = plain if order == "by subject" else plain.sample(frac=1, random_state=2)
    chunks = [rows[i : i + 90] for i in range(0, len(rows), 90)]
    one, many = mmrm(formula, plain, weights="WEIGHT"), mmrm(formula, chunks, weights="WEIGHT")
    assert many.objective == pytest.approx(one.objective, abs=1e-8)
    np.testing.assert_allclose(many.params, one.params, rtol=1e-8)
    np.testing.assert_allclose(many.df, one.df, rtol=1e-6)
    np.testing.assert_allclose(many.covariance("Male"), one.covariance("Male"), rtol=1e-6)
    means, wanted = (fit.emmeans(["ARMCD", "AVISIT"]).table for fit in (many, one))
    np.testing.assert_allclose(means["SE"], wanted["SE"], rtol=1e-6)
    assert "263 of 800 rows dropped" in str(many.summary())
    with pytest.raises(DataError, match="not in memory"):
        many.residuals("normalized")


def test_a_file_is_a_source(fev, tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "fev.parquet"
    plain = fev.assign(ARMCD=fev["ARMCD"].astype(str))
    plain.to_parquet(path)
    wanted = mmrm(WHOLE, plain).objective
    assert mmrm(WHOLE, str(path)).objective == pytest.approx(wanted, abs=1e-8)
    plain.to_csv(tmp_path / "fev.csv", index=False)
    assert mmrm(WHOLE, str(tmp_path / "fev.csv")).objective == pytest.approx(wanted, abs=1e-8)


def test_a_visit_twice_in_chunks_is_an_error(fev):
    seen = fev[fev["FEV1"].notna()]
    with pytest.raises(DataError, match=f"{seen['USUBJID'].iloc[3]}.*more than once"):
        mmrm(WHOLE, [fev, seen.iloc[3:4]])


# ---- errors --------------------------------------------------------------------------------------


def test_a_visit_twice_is_an_error_that_names_it(fev):
    twice = pd.concat([fev, fev[fev["FEV1"].notna()].iloc[[10]]])
    row = fev[fev["FEV1"].notna()].iloc[10]
    with pytest.raises(DataError, match=f"{row['USUBJID']}.*{row['AVISIT']}"):
        mmrm(WHOLE, twice)


def test_a_subject_in_two_groups_is_an_error(fev):
    other = fev.assign(SITE=np.arange(len(fev)) % 2)
    with pytest.raises(DataError, match="two groups"):
        mmrm("FEV1 ~ ARMCD + us(AVISIT | SITE / USUBJID)", other)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("FEV1 ~ ARMCD", "no covariance term"),
        ("FEV1 ~ ARMCD + (1 | USUBJID)", "lmer"),
        ("FEV1 ~ us(AVISIT | USUBJID) + cs(AVISIT | USUBJID)", "one covariance term"),
        ("FEV1 ~ us(AVISIT + SEX | USUBJID)", "one variable"),
        ("FEV1 ~ us(AVISIT, SEX | USUBJID)", "one variable"),
        ("FEV1 ~ banana(AVISIT | USUBJID)", "not known"),
        ("FEV1 ~ us(AVISIT | USUBJID + SEX)", "subject"),
        ("FEV1 ~ us(AVISIT || USUBJID)", "one bar"),
    ],
)
def test_formulas_that_cannot_be_read(fev, formula, message):
    with pytest.raises(FormulaError, match=message):
        mmrm(formula, fev)


def test_nothing_repeated_is_an_error(fev):
    first = fev[fev["FEV1"].notna()].drop_duplicates("USUBJID")
    with pytest.raises(DataError, match="nothing is repeated"):
        mmrm("FEV1 ~ ARMCD + us(AVISIT | USUBJID)", first)


def test_a_likelihood_without_maximum_is_an_error():
    with pytest.raises(FitError, match="no maximum"):  # four subjects have all four visits
        mmrm("y ~ x + arm + us(visit | id)", small(n=25), weights="w")


def test_visits_that_nobody_has_both_of_are_named(fev):
    odd = fev["USUBJID"].str[-1].isin(list("13579"))
    gone = (odd & (fev["AVISIT"] == "VIS2")) | (~odd & (fev["AVISIT"] == "VIS3"))
    with pytest.warns(lmmfast.IdentifiabilityWarning, match="both VIS2 and VIS3"):
        fit = mmrm("FEV1 ~ SEX + us(AVISIT | USUBJID)", fev[~gone])
    assert fit.n_params == 2 + 9
    own = fit.parameters()
    assert list(own.index[own["se"].isna()]) == ["cor(VIS2, VIS3)"]
    assert fit.pvalues.notna().all()
    assert "Not identified" in str(fit.summary())


def test_an_exact_fit_is_an_error():
    data = small()
    with pytest.raises(FitError):
        mmrm("z ~ x + us(visit | id)", data.assign(z=2 * data["x"] + 1))


# ---- fits that are watched, and what the core refuses --------------------------------------------


def test_callbacks_see_the_criterion_and_can_stop(fev):
    seen = []
    fit = mmrm(WHOLE, fev, callback=seen.append)
    assert seen[-1].best == pytest.approx(fit.objective, abs=1e-9)
    assert [one.n for one in seen] == list(range(1, fit.n_evals + 1))
    stopped = mmrm(WHOLE, fev, callback=lambda now: now.n == 2)
    assert stopped.estimates.status == "stopped by callback"
    assert not stopped.converged
    with pytest.warns(lmmfast.ConvergenceWarning, match="evaluation limit"):
        mmrm(WHOLE, fev, max_evals=2)
    with pytest.raises(ZeroDivisionError):
        mmrm(WHOLE, fev, callback=lambda now: 1 / 0)


def test_a_fit_begins_where_it_is_told_to(fev):
    fit = mmrm(WHOLE, fev)
    assert mmrm(WHOLE, fev, start=fit.theta).n_evals == 1
    assert fit.model.at(fit.theta).objective == pytest.approx(fit.objective, abs=1e-9)
    with pytest.raises(ValueError, match="10 parameters"):
        mmrm(WHOLE, fev, start=[1.0])
    with pytest.raises(FitError, match="positive definite"):
        fit.model.at(0 * fit.theta)


def test_sums_that_no_memory_holds_are_refused(fev, monkeypatch):
    monkeypatch.setattr("lmmfast.engine.repeated.SMALL", 0.0)
    monkeypatch.setattr("lmmfast.engine.repeated.available", lambda: 1e3)
    with pytest.raises(MemoryError, match="patterns of visits"):
        mmrm(WHOLE, fev)


def test_the_core_refuses_what_does_not_fit():
    from lmmfast import _core

    three = _core.Structure("us", 3)
    for patterns in ([(1, [0]), (0, [0])], [(0, [1, 0])], [(0, [3])], [(0, [])], [(2, [0])]):
        with pytest.raises(ValueError, match="pattern"):
            _core.Repeated(1, three, 2, [(g, np.array(v, np.int32)) for g, v in patterns])
    core = _core.Repeated(1, three, 1, [(0, np.array([0, 2], np.int32))])
    with pytest.raises(ValueError, match="numbers"):
        core.add(0, np.zeros((5, 3)))
    with pytest.raises(ValueError, match="no pattern"):
        core.add(1, np.zeros((5, 4)))
    with pytest.raises(ValueError, match="6 values"):
        core.evaluate(np.zeros(5))
    with pytest.raises(ValueError, match="pairs"):
        core.weighted(np.zeros((4, 1)))
    with pytest.raises(ValueError, match="structure each"):
        _core.Repeated(1, [three], 1, [(0, np.array([0], np.int32))] * 2, [0.0, 0.0])


def test_sums_are_additive():
    from lmmfast import _core

    rng = np.random.default_rng(1)
    z = rng.normal(size=(7, 2 * 3))
    patterns = [(0, np.array([0, 1], np.int32))]
    one, two, three = (_core.Repeated(2, _core.Structure("cs", 2), 1, patterns) for _ in range(3))
    one.add(0, z)
    two.add(0, z[:3].copy())
    two.add(0, z[3:].copy())
    three.add_sums(0, 7, np.ascontiguousarray(z.T @ z))
    wanted = [one.forms(np.eye(3)), one.evaluate(np.array([1.0, 1.5, 0.2]))]
    for other in (two, three):
        np.testing.assert_allclose(other.forms(np.eye(3)), wanted[0], rtol=1e-12)
        assert other.evaluate(np.array([1.0, 1.5, 0.2])) == pytest.approx(wanted[1], rel=1e-12)
    one.forget()
    np.testing.assert_array_equal(one.forms(np.eye(3)), 0)
