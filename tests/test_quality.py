"""R2, intraclass correlations, variance inflation, residuals and errors of variance parameters."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from conftest import close
from reference_data import reference, reference_names
from structures import STRUCTURES
from test_kernels import every
from test_reference import fit_reference

import lmmfast
from lmmfast import LMM, datasets, lmer
from lmmfast.inference.intervals.variance_errors import covariance_parameters
from lmmfast.inference.rows.quality import variances

R2 = 1e-6  # absolute, of performance's results
with_r2 = [name for name in reference_names() if "r2_nakagawa" in reference(name)]


@pytest.fixture(scope="module")
def sleep():
    return lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))


def at_random(name: str, theta: float = 0.5):
    """A model of this structure at a theta that is not an optimum."""
    problem, _ = STRUCTURES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.LmmWarning)
        model = LMM.from_arrays(*problem.arrays)
    rng = np.random.default_rng(7)
    return problem, model.at(rng.normal(size=model.ntheta) * theta)


# ---- R2 and ICC ----------------------------------------------------------------------------------


def performance_leaves_out(fit) -> bool:
    """Models where performance 0.10 does not count all of the random effects' variance.

    Singular fits (conditional R2 missing, marginal as if there were no random effects), several
    terms of one factor (only one is counted), terms without an intercept, and slopes of variables
    that are not a column of the fixed effects.
    """
    terms = fit.design.terms
    several = len(terms) > len(fit.n_levels) or any(term.structure == "diag" for term in terms)
    columns = {column for term in terms for column in term.columns}
    bare = any("Intercept" not in term.columns for term in terms)
    return fit.is_singular or several or bare or not columns <= set(fit.design.x_names)


@cache
def fitted(name: str):
    return fit_reference(name).fit


@pytest.mark.parametrize("name", with_r2)
def test_r2_of_performance(name: str) -> None:
    fit, wanted = fitted(name), reference(name)["r2_nakagawa"]
    found = fit.r2()
    if not performance_leaves_out(fit):
        assert abs(found["marginal"] - wanted["marginal"]) < R2
        assert abs(found["conditional"] - wanted["conditional"]) < R2
    assert 0 <= found["marginal"] <= found["conditional"] < 1


def test_most_references_are_compared() -> None:
    """The rule above leaves 58 of the 78 models."""
    assert sum(not performance_leaves_out(fitted(name)) for name in with_r2) == 58


@every
def test_variance_of_the_random_effects(name: str) -> None:
    """The mean diagonal of Z Cov(b) Z', in dense algebra."""
    problem, fit = at_random(name)
    found = variances(fit)
    V = problem.covariance(fit.theta) * fit.scale
    noise = 1 if problem.weights is None else 1 / problem.weights
    wanted = np.mean(np.diag(V) - fit.scale * noise)
    close(sum(found.random.values()), wanted, wanted + fit.scale, 1e-10)


def test_icc_of_performance(sleep) -> None:
    """performance 0.10: icc(fit), and icc(fit, by_group = TRUE)."""
    close(sleep.icc().loc["all"], [0.721660, 0.520569], 1, 5e-6)
    fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", datasets.load("Penicillin"))
    close(fit.icc()["adjusted"][["plate", "sample"]], [0.150913, 0.785427], 1, 2e-5)
    close(fit.icc()["adjusted"]["all"], 0.150913 + 0.785427, 1, 2e-5)


def test_r2_without_random_variance() -> None:
    """A singular fit: all there is comes from the fixed effects."""
    rng = np.random.default_rng(3)
    codes, x = np.repeat(np.arange(10), 6), np.tile(np.arange(6.0), 10)
    noise = rng.normal(size=60)
    noise -= np.bincount(codes, noise)[codes] / 6
    fit = LMM.from_arrays(x + noise, np.column_stack([np.ones(60), x]), [(codes, None)]).fit()
    assert fit.is_singular
    assert fit.r2()["marginal"] == fit.r2()["conditional"]
    assert (fit.icc() == 0).all(axis=None)


# ---- variance inflation --------------------------------------------------------------------------


def test_vif_of_car() -> None:
    """car 3.1: vif(lmer(angle ~ recipe * temp + (1 | recipe:replicate), cake)) and the same with
    the ordered factor."""
    data = datasets.load("cake")
    data["temp"] = data["temperature"].astype(str).astype(float)
    found = lmer("angle ~ recipe * temp + (1 | recipe:replicate)", data).vif()
    assert list(found.index) == ["recipe", "temp", "recipe:temp"]
    assert list(found["df"]) == [2, 1, 2]
    close(found["gvif"], [133.413551, 3, 156.514508], found["gvif"], 1e-6)
    close(found["per_df"], [3.39859948, 1.73205081, 3.53702924], 1, 1e-6)
    found = lmer("angle ~ recipe * temperature + (1 | recipe:replicate)", data).vif()
    close(found["gvif"], [1, 243, 243], found["gvif"], 1e-8)


def test_vif_is_regression_on_the_others() -> None:
    """For single columns 1 / (1 - R2) of a weighted regression on the others and the intercept."""
    problem, fit = at_random("single-2-full")
    rng = np.random.default_rng(1)
    X = np.column_stack([problem.X, problem.X[:, 1] + rng.normal(size=len(problem.y))])
    fit = LMM.from_arrays(problem.y, X, *problem.arrays[2:]).at(fit.theta)
    root = np.linalg.cholesky(np.linalg.inv(problem.covariance(fit.theta))).T
    rows = root @ X
    for j, found in zip([1, 2], fit.vif()["gvif"], strict=True):
        inner = rows.T @ rows
        residual = 1 / np.linalg.inv(inner)[j, j]
        alone = inner[j, j] - inner[j, 0] ** 2 / inner[0, 0]
        close(found, alone / residual, found, 1e-9)


def test_vif_with_a_dropped_column() -> None:
    data = datasets.load("sleepstudy")
    data["twice"] = 2 * data["Days"]
    with pytest.warns(lmmfast.RankDeficientWarning):
        fit = lmer("Reaction ~ Days + twice + (1 | Subject)", data)
    assert fit.vif().to_dict("list") == {"gvif": [1.0], "df": [1], "per_df": [1.0]}


def test_vif_of_an_intercept() -> None:
    with pytest.raises(lmmfast.FitError, match="besides the intercept"):
        lmer("Yield ~ 1 + (1 | Batch)", datasets.load("Dyestuff")).vif()


# ---- residuals -----------------------------------------------------------------------------------


def test_residuals_of_lme4() -> None:
    """lme4 1.1: residuals(fit, "pearson", scaled = TRUE), without and with weights."""
    data = datasets.load("sleepstudy")
    fit = lmer("Reaction ~ Days + (Days | Subject)", data)
    close(fit.residuals("pearson")[:3], [-0.16035044, -0.57148071, -1.64879322], 1, 1e-5)
    data["w"] = (np.arange(1, 181) % 5 + 1) / 2
    fit = lmer("Reaction ~ Days + (Days | Subject)", data, weights="w")
    close(fit.residuals("pearson")[:3], [0.04954604, -0.34840376, -1.70170205], 1, 1e-5)


@every
def test_residuals(name: str) -> None:
    """Each kind from its definition in dense algebra."""
    problem, fit = at_random(name)
    marginal = problem.response() - problem.X @ fit.estimates.beta
    close(fit.residuals("marginal"), marginal, fit.sigma, 1e-9)
    close(fit.residuals(), fit.resid, fit.sigma, 0)
    w = np.ones(fit.nobs) if problem.weights is None else problem.weights
    close(fit.residuals("pearson"), np.sqrt(w) * fit.resid / fit.sigma, 1, 1e-12)
    L = np.linalg.cholesky(problem.covariance(fit.theta)) * fit.sigma
    close(fit.residuals("scaled"), np.linalg.solve(L, marginal), 1, 1e-7)


def test_scaled_residuals_have_the_right_size(sleep) -> None:
    """Their sum of squares is that of the criterion."""
    total = float((sleep.residuals("scaled") ** 2).sum())
    close(total, sleep.nobs - 2, 1, 1e-6)


def test_residuals_refused(sleep, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match='"normalized", "marginal" or "scaled"'):
        sleep.residuals("deviance")
    monkeypatch.setattr("lmmfast.inference.rows.residuals.memory_limit", lambda: 100.0)
    with pytest.raises(MemoryError, match='type="pearson"'):
        sleep.residuals("scaled")


# ---- errors of the variance parameters -----------------------------------------------------------


def test_vcov_theta_of_lmertest() -> None:
    """Covariance of (theta, sigma), by lmerTest 3.1's numerical derivatives."""
    name = "sleepstudy__rs_reml"
    found = fit_reference(name).fit.vcov_theta()
    wanted = np.array(reference(name)["satterthwaite_vcov_varpar"])
    names = ["Subject.Intercept", "Subject.Days.Intercept", "Subject.Days", "sigma"]
    assert list(found.index) == list(found.columns) == names
    sd = np.sqrt(np.diag(wanted))
    close(found, wanted, np.outer(sd, sd), 1e-5)


def test_varcorr_se() -> None:
    """The rows of varcorr, each with its error; terms without correlations have none."""
    data = datasets.load("kb07")
    fit = lmer("RTtrunc ~ S + P + (1 + S || subj) + (1 + P | item)", data)
    own, found = covariance_parameters(fit), fit.varcorr_se()
    pd.testing.assert_frame_equal(found.drop(columns="se"), fit.varcorr.drop(columns="vcov"))
    close(found["se"][:4], [*own.sd_se[0], *own.sd_se[1]], own.sd_se[1].max(), 1e-12)
    close(found["se"][4:], [own.corr_se[1][1, 0], own.sigma_se], own.sigma_se, 1e-12)
    assert list(fit.vcov_theta().index) == [
        "subj.Intercept",
        "subj.S",
        "item.Intercept",
        "item.P.Intercept",
        "item.P",
        "sigma",
    ]


def test_errors_at_the_boundary() -> None:
    fit = fit_reference("kb07__zcp_ml").fit
    zero = fit.varcorr["vcov"] == 0
    assert zero.any()
    assert list(fit.varcorr_se()["se"].isna()) == list(zero)
    missing = np.isnan(np.diag(fit.vcov_theta()))
    assert list(missing[:-1]) == list(fit.theta == 0)
