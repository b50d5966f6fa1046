"""What a generalized fit says: against lme4, glmmTMB and emmeans, and against definitions.

Numbers of R are those of glmmTMB 1.1.5 (fits, their errors, emmeans, car's Anova) and lme4
(profiles, residuals).
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import reference_data
import scipy.linalg as sl
from scipy import stats

import lmmfast
from lmmfast import GLMM, DataError, FitError, GLMMFit, _core, anova, drop1, glmer, ranova

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"


@pytest.fixture(scope="module")
def cbpp() -> GLMMFit:
    return glmer(CBPP, reference_data.data("cbpp"))


@pytest.fixture(scope="module")
def ticks() -> GLMMFit:
    formula = "TICKS ~ YEAR + scale(cHEIGHT) + (1 | BROOD) + (1 | LOCATION)"
    return glmer(formula, reference_data.data("grouseticks"), "nbinom2")


@pytest.fixture(scope="module")
def sleep() -> GLMMFit:
    data = lmmfast.datasets.load("sleepstudy")
    return glmer("Reaction ~ Days + (Days | Subject)", data, "gamma", "log")


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    """Responses of several kinds with random slopes of g; h has no effect."""
    rng = np.random.default_rng(9)
    n = 600
    g, h, x = rng.integers(0, 30, n), rng.integers(0, 12, n), rng.normal(size=n)
    f = rng.choice(list("abc"), n)
    eta = 0.4 + 0.5 * x + np.array([0, 0.3, -0.4])[np.searchsorted(["a", "b", "c"], f)]
    eta = eta + 0.8 * rng.normal(size=30)[g] + 0.5 * rng.normal(size=30)[g] * x
    place = np.digitize(eta + rng.logistic(size=n), [-1, 0.5, 2])
    return pd.DataFrame(
        {
            "g": g,
            "h": h,
            "x": x,
            "f": f,
            "yes": rng.random(n) < 1 / (1 + np.exp(-eta)),
            "count": rng.poisson(np.exp(eta / 2)),
            "grade": pd.Categorical.from_codes(place, ["lo", "mid", "hi", "top"], ordered=True),
            "row": np.arange(n),
        }
    )


@pytest.fixture(scope="module")
def slopes(made: pd.DataFrame) -> GLMMFit:
    """Singular: h has no variance."""
    return glmer("yes ~ x * f + (1 + x | g) + (1 | h)", made)


@pytest.fixture(scope="module")
def ordered(made: pd.DataFrame) -> GLMMFit:
    return glmer("grade ~ x + f + (1 | g)", made, "ordered")


def near(found: Any, wanted: Any, relative: float = 2e-6, absolute: float = 1e-9) -> None:
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=relative, atol=absolute)


# ---- coefficients --------------------------------------------------------------------------------


def test_coefficients_are_glmmtmbs(cbpp: GLMMFit) -> None:
    near(cbpp.params, [-1.3985324664, -0.9923322929, -1.1286712975, -1.5803136871])
    near(cbpp.bse, [0.232472050657, 0.306642494971, 0.326637808481, 0.427436596684])
    near(cbpp.tvalues, cbpp.params / cbpp.bse)
    near(cbpp.pvalues, 2 * stats.norm.sf(np.abs(cbpp.tvalues)))
    assert np.isinf(cbpp.df).all()
    near(np.sqrt(np.diag(cbpp.cov_params())), cbpp.bse)


def test_wald_intervals_are_glmmtmbs(cbpp: GLMMFit) -> None:
    found = cbpp.conf_int(parameters="all")
    near(found.loc["sd(Intercept | herd)"], [0.3724432155, 1.1075515366], 1e-5)
    near(found.loc["period[T.2]"], [-1.5933405391, -0.3913240466])
    near(cbpp.conf_int(alpha=0.1), cbpp.conf_int(0.9))


def test_parameters_of_the_distribution_are_glmmtmbs(ticks: GLMMFit, sleep: GLMMFit) -> None:
    near(ticks.objective, 1777.81685179, 1e-10)
    near(ticks.extra["size"], 3.29299834906, 1e-5)
    near(ticks.extra_se["size"], 3.29299834906 * 0.17328451, 1e-4)
    near(ticks.conf_int(parameters=["size"]), [[2.3447226, 4.6247851]], 1e-5)
    near(ticks.bse, [0.1947505486, 0.2328951486, 0.2571061312, 0.1261523512], 1e-5)
    near(sleep.objective, 1732.03668618, 1e-10)
    near(sleep.scale, 0.0808527910375**2, 1e-5)
    near(sleep.params, [5.53251791782, 0.03384995542])
    near(sleep.bse, [0.026276285542, 0.004628558785], 1e-5)
    near(sleep.varcorr["sdcor"], [0.100857875, 0.017508403, -0.028677], 1e-4)


def test_errors_of_standard_deviations_are_glmmtmbs(ticks: GLMMFit, sleep: GLMMFit) -> None:
    found = ticks.varcorr_se()  # glmmTMB has logarithms
    near(found["se"] / found["sdcor"], [0.18690755, 0.31723509], 1e-4)
    found = sleep.varcorr_se()
    near((found["se"] / found["sdcor"])[:2], [0.2040653903, 0.2102632213], 1e-4)
    assert list(ticks.vcov_theta().index) == ["BROOD.Intercept", "LOCATION.Intercept"]


def test_random_effects(cbpp: GLMMFit, sleep: GLMMFit) -> None:
    modes = cbpp.ranef(cond_var=True)["herd"]
    near(cbpp.coef()["herd"]["Intercept"], cbpp.params["Intercept"] + modes["condval"]["Intercept"])
    near(modes["condsd"]["Intercept"] ** 2, cbpp.ranef_cov()["1 | herd"][:, 0, 0])
    assert list(cbpp.varcorr["group"]) == ["herd"]  # no residual row
    near(cbpp.varcorr["sdcor"], [0.6422616722], 1e-5)
    assert cbpp.ranef()["herd"].shape == (15, 1)
    pca = sleep.rePCA()
    covariance = sleep.estimates.T[0] @ sleep.estimates.T[0].T
    near(pca.components["Subject"]["sd"] ** 2, np.linalg.eigvalsh(covariance)[::-1], 1e-8)
    assert "sigma" not in str(pca)


def test_there_is_no_sigma(cbpp: GLMMFit) -> None:
    with pytest.raises(AttributeError, match="no residual standard deviation"):
        _ = cbpp.sigma
    assert cbpp.scale == 1.0
    with pytest.raises(AttributeError, match="has no thresholds"):
        _ = cbpp.thresholds


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger", "residual"])
def test_degrees_of_freedom_are_refused(cbpp: GLMMFit, ddf: str) -> None:
    with pytest.raises(FitError, match="belong to linear models"):
        cbpp.t_test("period[T.2] = 0", ddf=ddf)
    with pytest.raises(FitError, match="belong to linear models"):
        cbpp.emmeans("period", ddf=ddf)
    with pytest.raises(FitError, match="belong to linear models"):
        anova(cbpp, ddf=ddf)


def test_what_is_for_linear_models_says_so(cbpp: GLMMFit) -> None:
    for call in (lmmfast.step, lmmfast.rlr_test, lmmfast.lr_test):
        with pytest.raises(FitError, match="is for linear mixed models"):
            call(cbpp)
    with pytest.raises(FitError, match="is for linear mixed models"):
        lmmfast.cross_validate(cbpp, by="herd")


def test_criteria(cbpp: GLMMFit, ticks: GLMMFit) -> None:
    near(cbpp.objective, 184.052563729862, 1e-11)
    assert (cbpp.n_params, ticks.n_params) == (5, 7)
    near(
        [cbpp.llf, cbpp.aic, cbpp.deviance], [-184.052563729862 / 2, 194.052563729862, 184.05256373]
    )
    near(cbpp.bic, 184.052563729862 + 5 * np.log(56))
    assert cbpp.df_resid == 51


# ---- hypotheses ----------------------------------------------------------------------------------


def test_tests_of_terms_are_cars(cbpp: GLMMFit) -> None:
    near(anova(cbpp).table.loc["period", "Chisq"], 24.94855, 1e-6)
    near(cbpp.f_test(np.eye(4)[1:]).statistic, 24.94855, 1e-6)
    near(cbpp.f_test(np.eye(4)[1:]).pvalue, 1.5828e-05, 1e-4)
    near(cbpp.t_test("Intercept = 0").statistic ** 2, [36.19125], 1e-5)
    near(drop1(cbpp, test="F").table["Chisq"], [24.94855], 1e-6)


def test_likelihood_ratios(cbpp: GLMMFit) -> None:
    small = cbpp.update("~ . - period")
    ratio = small.objective - cbpp.objective
    table = anova(small, cbpp).table
    near(table.loc["m2", "Chisq"], ratio, 1e-9)
    near(table.loc["m2", "Pr(>Chisq)"], stats.chi2.sf(ratio, 3), 1e-6)
    dropped = drop1(cbpp).table
    near(dropped.loc["period", ["npar", "AIC", "LRT"]].astype(float), [3, small.aic, ratio], 1e-7)


def test_deletion_of_all_random_effects_is_a_regression(cbpp: GLMMFit) -> None:
    """The binomial likelihood of four shares, at their estimates."""
    table = ranova(cbpp).table
    data = reference_data.data("cbpp")
    sums = data.groupby("period", observed=True)[["incidence", "size"]].sum()
    p = data["period"].map(sums["incidence"] / sums["size"]).astype(float)
    llf = stats.binom.logpmf(data["incidence"], data["size"], p).sum()
    near(table.loc["(1 | herd)", "logLik"], llf, 1e-9)
    near(table.loc["(1 | herd)", "LRT"], -2 * llf - cbpp.objective, 1e-7)
    near(
        table.loc["(1 | herd)", "Pr(mixture)"],
        stats.chi2.sf(-2 * llf - cbpp.objective, 1) / 2,
        1e-6,
    )


def test_random_slopes_are_deleted_one_by_one(slopes: GLMMFit) -> None:
    table = ranova(slopes).table
    assert list(table.index) == ["<none>", "x in (1 + x | g)", "(1 | h)"]
    assert table.loc["(1 | h)", "LRT"] == 0
    small = slopes.update("~ . - (1 + x | g) + (1 | g)")
    near(table["LRT"].iloc[1], small.objective - slopes.objective, 1e-6)


def test_counts_without_overdispersion_are_a_boundary(made: pd.DataFrame) -> None:
    poisson = glmer("count ~ x + (1 | g)", made, "poisson")
    negative = glmer("count ~ x + (1 | g)", made, "nbinom2")
    found = anova(poisson, negative)
    ratio = poisson.objective - negative.objective
    near(found.table.loc["m2", ["Df", "Chisq"]].astype(float), [1, ratio], 1e-7)
    assert any("overdispersion" in note for note in found.notes)


def test_other_distributions_are_not_nested(made: pd.DataFrame) -> None:
    logit = glmer("yes ~ x + (1 | g)", made)
    probit = glmer("yes ~ x + f + (1 | g)", made, link="probit")
    found = anova(logit, probit)
    assert np.isnan(found.table["Pr(>Chisq)"]).all()
    assert any("distributions or links differ" in note for note in found.notes)
    linear = lmmfast.lmer("count ~ x + f + (1 | g)", made, reml=False)
    counts = glmer("count ~ x + (1 | g)", made, "poisson")
    assert np.isnan(anova(counts, linear).table["Pr(>Chisq)"]).all()


def test_comparison(cbpp: GLMMFit) -> None:
    small = cbpp.update("~ . - period")
    table = lmmfast.compare(small, cbpp).table
    near(table["AIC"], [small.aic, cbpp.aic], 1e-9)


def test_models_of_other_links_are_told_apart(cbpp: GLMMFit) -> None:
    heads = lmmfast.compare(cbpp, cbpp.update(link="probit")).models
    assert [head.rpartition(" (")[2] for head in heads] == ["binomial, logit)", "binomial, probit)"]
    assert "logit" not in "".join(lmmfast.compare(cbpp, cbpp.update(". ~ 1 + (1 | herd)")).models)


# ---- means ---------------------------------------------------------------------------------------


def test_means_of_a_typical_group_are_emmeans(cbpp: GLMMFit, ticks: GLMMFit) -> None:
    link = cbpp.emmeans("period").table
    near(link["emmean"], [-1.3985325, -2.3908648, -2.5272038, -2.9788462], 1e-6)
    near(link["SE"], [0.23247205, 0.31021398, 0.33027516, 0.43007195], 1e-6)
    found = cbpp.emmeans("period", type="response", bias_adjust=False)
    near(found.table["response"], [0.198049090, 0.083871962, 0.073972963, 0.048390735], 2e-6)
    near(found.table["SE"], [0.036922524, 0.023836053, 0.022624167, 0.019804414], 2e-6)
    found = ticks.emmeans("YEAR", type="response", bias_adjust=False)
    near(found.table["response"], [1.68829828, 5.42430869, 0.62843477], 1e-5)
    near(found.table["SE"], [0.32879702, 0.89437616, 0.13188570], 1e-4)


def test_ratios_are_emmeans(cbpp: GLMMFit) -> None:
    found = cbpp.emmeans("period", type="response").pairs().table
    assert list(found.columns) == ["contrast", "odds.ratio", "SE", "df", "z", "p"]
    wanted = [2.6975185, 3.0915460, 4.8564790, 1.1460704, 1.8003505, 1.5708901]
    near(found["odds.ratio"], wanted, 1e-5)
    wanted = [0.82717382, 1.00981582, 2.07583685, 0.43631844, 0.84661843, 0.76075737]
    near(found["SE"], wanted, 1e-5)


def test_means_are_over_random_effects(cbpp: GLMMFit, made: pd.DataFrame) -> None:
    """By default: integrals over the normal distribution of the predictor."""
    found = cbpp.emmeans("period", type="response").table
    eta, v = cbpp.emmeans("period").table["emmean"].to_numpy(), cbpp.varcorr["vcov"][0]
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    wanted = [weights @ (1 / (1 + np.exp(-(e + np.sqrt(v) * nodes)))) / weights.sum() for e in eta]
    near(found["response"], wanted, 1e-8)
    probit = glmer("yes ~ f + (1 | g)", made, link="probit")
    eta, v = probit.emmeans("f").table["emmean"].to_numpy(), probit.varcorr["vcov"][0]
    found = probit.emmeans("f", type="response").table
    near(found["response"], stats.norm.cdf(eta / np.sqrt(1 + v)), 1e-10)


def test_the_variance_averaged_over_is_that_of_the_predictors(slopes: GLMMFit) -> None:
    """Random slopes: other variances at other values of x."""
    found = slopes.emmeans("1", at={"x": [-1, 0, 2]}, by="x", type="response", weights="cells")
    T = slopes.estimates.T[0]
    wanted = [np.square(np.array([1, x]) @ T).sum() for x in (-1, 0, 2)]
    near(found.bias, wanted, 1e-10)


def test_trends_and_joint_tests(slopes: GLMMFit) -> None:
    trends = lmmfast.emtrends(slopes, "f", "x").table["trend"]
    near(trends[0], slopes.params["x"], 1e-8)
    near(trends[1] - trends[0], slopes.params["x:f[T.b]"], 1e-8)
    joint = lmmfast.joint_tests(slopes).set_index("term")
    wald = anova(slopes).table
    near(joint.loc["x:f", "F"] * 2, wald.loc["x:f", "Chisq"], 1e-8)


# ---- predictions ---------------------------------------------------------------------------------


def test_predictions_are_glmmtmbs(cbpp: GLMMFit, ticks: GLMMFit, sleep: GLMMFit) -> None:
    """Standard errors with all that parameters are uncertain by."""
    found = cbpp.predict(se=True)[:4]
    near(found["fit"], [-0.80851226553, -1.80084455839, -1.93718356304, -2.38882595262], 1e-6)
    near(found["se"], [0.378330128527, 0.430200063614, 0.449510770861, 0.532487500589], 1e-6)
    found = cbpp.predict(se=True, type="response")[:4]
    near(found["se"], [0.0806659157961, 0.0523362946877, 0.0494876663184, 0.0409844556873], 1e-5)
    found = cbpp.predict(se=True, re_form="none")[:4]
    near(found["se"], [0.232472050657, 0.310213977865, 0.33027515999, 0.430071954784], 1e-6)
    found = ticks.predict(se=True)[:4]
    near(found["se"], [0.712992588594, 0.712992588594, 0.706156356642, 0.461168268896], 2e-5)
    found = sleep.predict(se=True)[:4]
    near(found["se"], [0.0429392287706, 0.0366974359144, 0.0312844944441, 0.0271998297276], 1e-5)


@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("yes ~ x + (1 + x | g) + (1 | h)", "binomial"),
        ("count ~ x + (1 + x || g) + (0 + f | h)", "poisson"),
        ("count ~ x + (1 + x | g) + (1 | h)", "nbinom2"),
        ("grade ~ x + (1 + x | g)", "ordered"),
    ],
)
def test_errors_of_predictions_by_their_definition(
    made: pd.DataFrame, formula: str, family: str
) -> None:
    """Modes that move with the parameters, by differences; B as a dense inverse."""
    fit = glmer(formula, made, family)
    psi, V = fit.psi, fit.estimates.covariance
    eta, free = fit.model.point(psi).predictor, np.flatnonzero(~np.isnan(V.diagonal()))
    J = np.zeros((fit.nobs, len(free)))
    for k, j in enumerate(free):
        step = 1e-5 * np.eye(len(psi))[j]
        J[:, k] = fit.model.point(psi + step).predictor - fit.model.point(psi - step).predictor
    J /= 2e-5
    columns, roots = [], []
    for term, T in zip(fit.design.terms, fit.estimates.T, strict=True):
        z = np.zeros((fit.nobs, len(term.levels), term.z.shape[1]))
        z[np.arange(fit.nobs), term.codes] = term.z
        columns.append(z.reshape(fit.nobs, -1))
        roots.append(np.kron(np.eye(len(term.levels)), T))
    ZL = np.hstack(columns) @ sl.block_diag(*roots)
    own = fit.family
    rows = _core.density(
        own.core_name, own.core_link, fit.design.y, None, eta, fit.estimates.extra, own.classes
    )
    M = ZL.T @ (-rows["d2"][:, None] * ZL) + np.eye(ZL.shape[1])
    own_variance = np.einsum("ij,ji->i", ZL, np.linalg.solve(M, ZL.T))
    wanted = own_variance + np.einsum("ij,jk,ik->i", J, V[np.ix_(free, free)], J)
    fit.model.objective(psi, gradient=True)  # the inverse may have taken the factor's place
    near(fit.predict(se=True)["se"], np.sqrt(wanted), 1e-6)


def test_fitted_values(cbpp: GLMMFit) -> None:
    near(cbpp.fittedvalues, 1 / (1 + np.exp(-cbpp.linear_predictor)))
    near(cbpp.fittedvalues, cbpp.predict(type="response"))
    share = cbpp.design.y / cbpp.design.weights
    near(cbpp.resid, share - cbpp.fittedvalues)


def test_marginal_predictions(slopes: GLMMFit, made: pd.DataFrame) -> None:
    new = {"x": [0.0, 1.0], "f": ["a", "b"], "g": [1, 99], "h": [2, 98]}
    found = slopes.predict(new, type="response", marginal=True)
    eta = slopes.predict(new, re_form="none")
    T = slopes.estimates.T[0]
    v = [np.square(np.array([1, x]) @ T).sum() for x in new["x"]]
    near(found, slopes.family.marginal_mean(eta.to_numpy(), np.array(v)), 1e-9)
    own = slopes.predict(
        new, type="response", marginal=True, re_form="all", new_levels="population"
    )
    seen = {name: values[:1] for name, values in new.items()}
    near(own[0], slopes.predict(seen, type="response")[0], 1e-9)  # its level is known
    near(own[1], found[1], 1e-9)  # this one is not
    with pytest.raises(DataError, match="marginal needs"):
        slopes.predict(new, marginal=True)


def test_intervals_of_observations(sleep: GLMMFit, cbpp: GLMMFit) -> None:
    """Quantiles of draws: predictor normal around the prediction, then the family."""
    row = lmmfast.datasets.load("sleepstudy")[:1]
    found = sleep.predict(row, type="response", interval="prediction").iloc[0]
    at = sleep.predict(row, se=True).iloc[0]
    rng = np.random.default_rng(1)
    eta = at["fit"] + at["se"] * rng.normal(size=400_000)
    y = sleep.family.simulate(rng, eta, sleep.estimates.extra, None)
    near([found["lower"], found["upper"]], np.quantile(y, [0.025, 0.975]), 3e-3)
    counts = cbpp.predict(type="response", interval="prediction")
    inside = (counts["lower"] <= cbpp.design.y) & (cbpp.design.y <= counts["upper"])
    assert inside.mean() > 0.9
    assert (counts["upper"] <= cbpp.design.weights).all()
    with pytest.raises(DataError, match='add type="response"'):
        cbpp.predict(interval="prediction")


def test_an_offset_is_in_the_predictor(made: pd.DataFrame) -> None:
    data = made.assign(t=np.linspace(0.5, 2, len(made)))
    fit = glmer("count ~ x + offset(log(t)) + (1 | g)", data, "poisson")
    plain = fit.predict(data.assign(t=1.0), type="response")
    near(fit.fittedvalues, plain * data["t"], 1e-9)
    twice = fit.simulate(400, seed=1).mean(axis=1)
    eta = fit.predict(re_form="none")
    wanted = np.exp(eta + fit.varcorr["vcov"][0] / 2)
    assert abs(twice.mean() / wanted.mean() - 1) < 0.02


# ---- residuals and checks ------------------------------------------------------------------------


def test_residuals_are_rs(cbpp: GLMMFit, ticks: GLMMFit) -> None:
    """Pearson's are glmmTMB's; deviance residuals lme4's, whose modes are less exact."""
    wanted = [-1.33986142178, 1.07512545306, 2.87961428567, -0.677264071994]
    near(cbpp.residuals("pearson")[:4], wanted, 1e-5)
    wanted = [-1.43770782359, 0.988471951761, 2.35668825774, -0.937022711859]
    near(cbpp.residuals("deviance")[:4], wanted, 1e-3)
    wanted = [-0.732936781053, -0.732936781053, -0.885933561874, -0.920643422388]
    near(ticks.residuals("pearson")[:4], wanted, 1e-5)
    near(cbpp.residuals("working"), cbpp.resid / (cbpp.fittedvalues * (1 - cbpp.fittedvalues)))
    with pytest.raises(ValueError, match="type must be"):
        cbpp.residuals("scaled")


def test_quantile_residuals_are_normal_where_the_model_is_right(made: pd.DataFrame) -> None:
    """Of the model that made them, given its random effects."""
    fit = glmer("count ~ x + f + (1 | g)", made, "poisson")
    y = fit.simulate(1, seed=5, re="fixed")[0].to_numpy()
    rng = np.random.default_rng(1)
    from lmmfast.inference.rows.generalized import quantile_residuals

    own = quantile_residuals(fit, fit.linear_predictor.to_numpy(), y, rng)
    assert stats.kstest(own, "norm").pvalue > 0.01
    again = fit.residuals("quantile", seed=3)
    pd.testing.assert_series_equal(again, fit.residuals("quantile", seed=3))


def test_checks_find_overdispersion(made: pd.DataFrame) -> None:
    rng = np.random.default_rng(8)
    right = glmer("count ~ x + (1 | g) + (1 | row)", made, "poisson").simulate(1, seed=4)[0]
    over = made.assign(count=rng.negative_binomial(0.8, 0.8 / (0.8 + 2.0), len(made)))
    found = glmer("count ~ x + (1 | g)", over, "poisson").check(80, seed=1)
    assert found.table.loc["dispersion", "p"] < 0.05
    assert found.table.loc["dispersion", "ratio"] > 1.5
    assert found.table.loc["zeros", "ratio"] > 1.2
    assert "varies more" in str(found)
    fit = glmer("count ~ x + (1 | g)", made.assign(count=right), "nbinom2")
    assert fit.check(80, seed=1).table["p"].min() > 0.02
    assert len(found.simulated) == 80
    assert len(found.residuals) == len(made)


def test_p_values_of_checks_are_uniform() -> None:
    """Few rows a level, where residuals given modes are far too small."""
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(40), 3)
    p = []
    for i in range(30):
        y = rng.poisson(np.exp(0.5 + 0.7 * rng.normal(size=40)[g]))
        fit = glmer("y ~ 1 + (1 | g)", {"y": y, "g": g}, "poisson")
        p.append(fit.check(40, seed=i).table.loc["dispersion", "p"])
    assert stats.kstest(p, "uniform").pvalue > 0.005


def test_explained_variance(cbpp: GLMMFit, made: pd.DataFrame) -> None:
    """Nakagawa, Johnson & Schielzeth (2017), tables 1 and 2."""
    fixed = np.var(cbpp.design.X @ cbpp.params.to_numpy(), ddof=1)
    random, latent = cbpp.varcorr["vcov"][0], np.pi**2 / 3
    total = fixed + random + latent
    near(cbpp.r2(), [fixed / total, (fixed + random) / total], 1e-8)
    near(cbpp.icc().loc["herd", "adjusted"], random / (random + latent), 1e-8)
    counts = glmer("count ~ x + (1 | g) + (1 | row)", made, "poisson")
    g, row = counts.varcorr["vcov"]
    eta = counts.design.X @ counts.params.to_numpy()
    fixed = np.var(eta, ddof=1)
    latent = row + np.log1p(1 / np.mean(np.exp(eta + (g + row) / 2)))
    total = fixed + g + latent
    near(counts.r2(), [fixed / total, (fixed + g) / total], 1e-8)
    assert list(counts.icc().index) == ["all", "g"]


# ---- profiles, replicates ------------------------------------------------------------------------


def test_profiles_are_lme4s(cbpp: GLMMFit) -> None:
    found = cbpp.conf_int(method="profile", parameters="all")
    wanted = [
        [0.3460732, 1.09997465],
        [-1.9012120, -0.94775401],
        [-1.6167833, -0.40776307],
        [-1.8010244, -0.51153607],
        [-2.5007506, -0.80075532],
    ]
    near(found, wanted, 2e-4)  # lme4's deviance is 2e-5 off, its spline 1e-4


@pytest.mark.parametrize("name", ["sd(x | g)", "cor(Intercept, x | g)", "x", "sd(Intercept | h)"])
def test_ends_of_profiles_are_on_the_deviance(slopes: GLMMFit, name: str) -> None:
    profile = slopes.profile([name], level=0.95)
    upper = profile.conf_int().loc[name, "upper"]
    frame = profile.frame
    below = frame[frame["value"] <= upper]["zeta"].abs().max()
    assert below <= stats.norm.ppf(0.975) + 1e-6
    best = slopes.objective
    at = frame.iloc[-1]
    extra: list[float] = []
    beta = at[list(slopes.design.x_names)].to_numpy(float)
    sd = at[["sd(Intercept | g)", "sd(x | g)"]].to_numpy(float)
    r = at["cor(Intercept, x | g)"]
    theta = [sd[0], r * sd[1], np.sqrt(1 - r * r) * sd[1], at["sd(Intercept | h)"]]
    value = slopes.model.objective(np.r_[theta, beta, extra])
    near(np.sqrt(value - best), abs(at["zeta"]), 1e-4, 1e-4)


def test_profiles_of_other_parameters(ticks: GLMMFit, ordered: GLMMFit) -> None:
    """Near Wald's intervals, and by definition: the deviance rises by 3.84 at the ends."""
    lower, upper = ticks.conf_int(method="profile", parameters=["size"]).iloc[0]
    near([lower, upper], ticks.conf_int(parameters=["size"]).iloc[0], 0.1)
    found = ordered.conf_int(method="profile", parameters=["mid|hi"]).iloc[0]
    near(found, ordered.conf_int(parameters=["mid|hi"]).iloc[0], 0.1)
    frame = ordered.profile(["mid|hi"], level=0.95).frame
    a = frame.iloc[-1][["lo|mid", "mid|hi", "hi|top"]].to_numpy(float)
    assert a[1] == pytest.approx(frame.iloc[-1]["value"])
    x = np.r_[a[0], np.log(np.diff(a))]
    beta = frame.iloc[-1][list(ordered.design.x_names)].to_numpy(float)
    psi = np.r_[frame.iloc[-1]["sd(Intercept | g)"], beta, x]
    rise = ordered.model.objective(psi) - ordered.objective
    near(np.sqrt(rise), abs(frame.iloc[-1]["zeta"]), 1e-5)


def test_replicates(ticks: GLMMFit) -> None:
    boot = ticks.bootstrap(60, seed=1, statistic=lambda fit: fit.icc().loc["all", "adjusted"])
    again = ticks.bootstrap(30, seed=1)
    near(again.replicates, boot.replicates[:30, :-1], 1e-9)
    assert "size" in boot.names
    assert boot.n_failed == 0
    y = ticks.simulate(1, seed=1)[0]
    first = ticks.refit(y)
    near(boot.replicates[0, list(boot.names).index("size")], first.extra["size"], 1e-6)
    near(boot.replicates[0, list(boot.names).index("YEAR[T.96]")], first.params["YEAR[T.96]"], 1e-6)
    near(boot.se["YEAR[T.96]"], ticks.bse["YEAR[T.96]"], 0.35)
    with pytest.raises(FitError, match="studentized"):
        boot.conf_int(kind="studentized")


def test_ratio_by_replicates(cbpp: GLMMFit) -> None:
    small = cbpp.update("~ . - period")
    test = lmmfast.pb_test(small, cbpp, n=40, seed=1)
    near(test.statistic, small.objective - cbpp.objective, 1e-8)
    y = small.simulate(1, seed=1)[0]
    ratio = small.refit(y).objective - cbpp.refit(y).objective
    near(test.null[0], ratio, 1e-5, 1e-6)


def test_simulated_responses(sleep: GLMMFit, ordered: GLMMFit) -> None:
    y = sleep.simulate(300, seed=2)
    eta = sleep.predict(re_form="none")
    z = sleep.design.terms[0].z @ sleep.estimates.T[0]
    wanted = np.exp(eta + np.square(z).sum(axis=1) / 2)
    near(y.mean(axis=1).mean(), wanted.mean(), 0.02)
    pd.testing.assert_series_equal(y[3], sleep.simulate(4, seed=2)[3])
    new = sleep.simulate(2, seed=2, newdata={"Days": [1, 2], "Subject": ["308", "new"]})
    assert new.shape == (2, 2)
    fixed = sleep.simulate(300, seed=2, re="fixed")
    near(fixed.mean(axis=1), sleep.fittedvalues, 0.03)
    assert set(np.unique(ordered.simulate(1, seed=1))) <= {0, 1, 2, 3}
    with pytest.raises(ValueError, match="a generalized one has none"):
        sleep.simulate(1, params={"sigma": 1.0})


def test_refit_and_pickle(cbpp: GLMMFit) -> None:
    same = cbpp.refit(cbpp.design.y)
    near(same.objective, cbpp.objective, 1e-12)
    back = pickle.loads(pickle.dumps(cbpp))
    near(back.params, cbpp.params, 1e-15)
    near(back.predict(se=True)["se"], cbpp.predict(se=True)["se"], 1e-9)


def test_deletions(cbpp: GLMMFit) -> None:
    """Of a level: the fit of the other rows."""
    data = reference_data.data("cbpp")
    found = cbpp.influence("herd", levels=["1"])
    rest = glmer(CBPP, data[data["herd"].astype(str) != "1"])
    wanted = (cbpp.params - rest.params) / cbpp.bse
    near(found.filter(like="dfb_").iloc[0], wanted, 1e-4)
    change = (cbpp.params - rest.params).to_numpy()
    distance = change @ np.linalg.solve(cbpp.cov_params().to_numpy(), change) / 4
    near(found["cooks_d"], [distance], 1e-4)
    near(found["theta_herd.Intercept"], rest.theta, 1e-4)
    jack = lmmfast.jackknife(cbpp, "herd")
    near(jack.values[0, 1:], rest.params, 1e-5)
    assert len(cbpp.influence()) == 56


# ---- singular fits, ordered responses, arrays ----------------------------------------------------


def test_singular_fits(slopes: GLMMFit) -> None:
    assert slopes.is_singular
    found = slopes.explain_singularity()
    assert found.sentences == ("(1 | h): the variance of Intercept is zero.",)
    psi = slopes.psi.copy()
    psi[3] = 1e-3  # the slope in the variance itself
    slope = (slopes.model.objective(psi) - slopes.objective) / 1e-6
    near(found.directions["score"], [slope], 1e-3)
    assert "over sigma" not in str(found)
    assert np.isnan(slopes.varcorr_se()["se"].iloc[3])
    assert np.isnan(slopes.conf_int(parameters=["sd(Intercept | h)"])).all(axis=None)
    profile = slopes.conf_int(method="profile", parameters=["sd(Intercept | h)"])
    assert profile["lower"].iloc[0] == 0


def test_dropped_columns(made: pd.DataFrame) -> None:
    with pytest.warns(lmmfast.RankDeficientWarning):
        fit = glmer("yes ~ x + I(2 * x) + f + (1 | g)", made)
    plain = glmer("yes ~ x + f + (1 | g)", made)
    kept = fit.params.dropna()
    near(kept, plain.params, 1e-6)
    near(fit.bse.dropna(), plain.bse, 1e-5)
    near(fit.predict(se=True)["se"], plain.predict(se=True)["se"], 1e-5)
    near(fit.profile("x").conf_int(), plain.profile("x").conf_int(), 1e-4)
    assert fit.n_params == plain.n_params


def test_ordered_responses(ordered: GLMMFit) -> None:
    assert list(ordered.thresholds.index) == ["lo|mid", "mid|hi", "hi|top"]
    assert (np.diff(ordered.thresholds) > 0).all()
    eta, a = ordered.linear_predictor.to_numpy(), ordered.thresholds.to_numpy()
    below = 1 / (1 + np.exp(-(a - eta[:, None])))
    wanted = np.diff(np.column_stack([np.zeros(len(eta)), below, np.ones(len(eta))]), axis=1)
    near(ordered.fittedvalues, wanted, 1e-9)
    assert list(ordered.fittedvalues.columns) == ["lo", "mid", "hi", "top"]
    marginal = ordered.predict(type="response", marginal=True)
    near(marginal.sum(axis=1), np.ones(len(eta)), 1e-9)
    assert abs(marginal.to_numpy() - wanted).max() > 0.01
    for call in (
        lambda: ordered.residuals(),
        lambda: ordered.predict(type="response", interval="prediction"),
    ):
        with pytest.raises(DataError):
            call()
    assert "Thresholds:" in str(ordered.summary())
    assert "lo < mid < hi < top" in str(ordered.summary())
    near(ordered.conf_int(parameters=["hi|top"]).mean(axis=1), ordered.thresholds["hi|top"])


def test_models_of_arrays(made: pd.DataFrame) -> None:
    X = np.column_stack([np.ones(len(made)), made["x"]])
    terms = [(made["g"].to_numpy(), None)]
    fit = GLMM.from_arrays(made["count"].to_numpy(float), X, terms, "poisson").fit()
    same = glmer("count ~ x + (1 | g)", made, "poisson")
    near(fit.params, same.params, 1e-6)
    near(fit.predict(se=True)["se"], same.predict(se=True)["se"], 1e-5)
    near(fit.simulate(1, seed=3)[0], same.simulate(1, seed=3)[0])
    with pytest.raises(DataError, match="made from arrays"):
        anova(fit)


# ---- on paper ------------------------------------------------------------------------------------


def test_summary(cbpp: GLMMFit, ticks: GLMMFit, made: pd.DataFrame) -> None:
    text = str(cbpp.summary())
    assert text.startswith(
        "Generalized linear mixed model fit by maximum likelihood (Laplace approximation)\n"
        "Family: binomial (logit)"
    )
    assert "Pr(>|z|)" in text
    assert "Residual" not in text
    assert "-1.3985" in text
    assert "size" in str(ticks.summary())
    assert repr(cbpp).startswith("<GLMMFit cbind(incidence, size - incidence) ~ period")
    assert "<table>" in cbpp._repr_html_()
    answers = made.assign(answer=np.where(made["yes"], "yes", "no"))
    said = str(glmer("answer ~ x + (1 | g)", answers).summary())
    assert "The probability of 'yes' (not 'no') is modelled" in said


def test_names_of_r_are_explained(cbpp: GLMMFit) -> None:
    with pytest.raises(AttributeError, match=r"write fit.params"):
        _ = cbpp.fixef
    with pytest.raises(TypeError, match="no argument 'ddf'"):
        cbpp.conf_int(ddf="z")


def test_other_approximations_are_not_compared(made: pd.DataFrame) -> None:
    one = glmer("yes ~ x + (1 | g)", made, link="probit")
    two = glmer("yes ~ x + f + (1 | g)", made, link="probit")
    finer = glmer("yes ~ x + f + (1 | g)", made, link="probit", nagq=5)
    assert anova(one, two).table["Pr(>Chisq)"].notna().any()
    found = anova(one, finer)
    assert any("approximated" in note for note in found.notes)


def test_bounds_of_dispersions(made: pd.DataFrame) -> None:
    """Counts that vary as Poisson's or less: any large size is as good."""
    rng = np.random.default_rng(4)
    data = made.assign(
        count=rng.poisson(np.exp(0.3 * made["x"] + 0.5 * rng.normal(size=30)[made["g"]]))
    )
    fit = glmer("count ~ x + (1 | g)", data, "nbinom2")
    profile = fit.profile(["size"])
    assert np.isinf(profile.conf_int().loc["size", "upper"])
    assert bool(profile.open_ends().loc["size", "upper"])
    assert np.isfinite(profile.conf_int().loc["size", "lower"])


def test_truncated_counts(made: pd.DataFrame) -> None:
    """Means are those of what is there, not those of the counts before."""
    data = made[made["count"] > 0]
    fit = glmer("count ~ x + (1 | g)", data, "truncatedpoisson")
    rate = np.exp(fit.linear_predictor)
    wanted = rate / -np.expm1(-rate)
    near(fit.fittedvalues, wanted, 1e-9)
    near(fit.predict(type="response"), wanted, 1e-9)
    found = fit.predict(type="response", se=True)["se"] / fit.predict(se=True)["se"]
    step = 1e-4
    up, down = np.exp(fit.linear_predictor + step), np.exp(fit.linear_predictor - step)
    slope = (up / -np.expm1(-up) - down / -np.expm1(-down)) / (2 * step)
    near(found, slope, 1e-6)
    near(fit.simulate(400, seed=1, re="fixed").mean(axis=1), wanted, 0.25)


def test_separation_is_said(made: pd.DataFrame) -> None:
    data = made.assign(z=(made["f"] == "a").astype(int))
    data.loc[data["z"] == 1, "yes"] = True
    with pytest.warns(lmmfast.LmmWarning, match="separated"):
        fit = glmer("yes ~ x + z + (1 | g)", data)
    assert fit.separation == ("z",)
    assert "Separated:" in str(fit.summary())
    assert drop1(fit).table.loc["z", "LRT"] > 10  # without the same warning again


def test_every_hint_is_true(cbpp: GLMMFit) -> None:
    from lmmfast.hints import ATTRIBUTES, GENERALIZED

    for name, hint in (ATTRIBUTES | GENERALIZED).items():
        if hasattr(GLMMFit, name):
            assert name in ("deviance",), name
            continue
        for word in hint.replace("(", " ").replace(",", " ").split():
            if word.startswith("fit."):
                assert hasattr(cbpp, word[4:].split(".")[0]), hint
    with pytest.raises(AttributeError, match=r"write fit.check\(\)"):
        _ = cbpp.testDispersion
