"""Restricted likelihood of generalized models: its definition in dense NumPy, REML of linear
models, and numbers of glmmTMB 1.1.5 (REML=TRUE, R 4.2)."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import close, covering
from dense_families import TRIALS
from dense_glmm import DenseGeneralized
from test_dense_glmm import LINKS, simulated

from lmmfast import (
    GLMM,
    FitError,
    RankDeficientWarning,
    anova,
    datasets,
    drop1,
    glmer,
    lmer,
    ranova,
)

UNORDERED = [pair for pair in LINKS if pair[0] != "ordered"]


class Joint:
    """-2 log of the integral over (u, beta) of a dense model by Laplace's approximation: with D the
    prior's precisions, 2 j + log|K'WK + D| - p log 2 pi at the mode of j, K = [Z Lambda, X]."""

    def __init__(self, dense: DenseGeneralized) -> None:
        self.dense = dense

    def at(self, psi: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """The value, and mode and covariance of beta."""
        own = self.dense
        theta, beta, x = own._split(psi)
        X = own.X[:, own.keep]
        K = np.column_stack([own.Z @ own._lambda(theta), X])
        p = X.shape[1]
        D = np.diag(np.r_[np.ones(own.q), np.zeros(p)])
        v = np.r_[np.zeros(own.q), beta[own.keep]]

        def j(v: np.ndarray) -> float:
            return float(-own.family.rows(own.y, own.w, own.o + K @ v, x).l.sum() + v @ D @ v / 2)

        for _ in range(100):
            rows = own.family.rows(own.y, own.w, own.o + K @ v, x)
            M = K.T @ (-rows.d2[:, None] * K) + D
            if np.linalg.eigvalsh(M)[0] <= 0:
                M = K.T @ (rows.w[:, None] * K) + D
            slope = K.T @ rows.d1 - D @ v
            step = np.linalg.solve(M, slope)
            length = 1.0
            while length > 1e-6 and not j(v + length * step) <= j(v) + 1e-9:
                length /= 2
            v = v + length * step
            if slope @ step < 1e-20:
                break
        rows = own.family.rows(own.y, own.w, own.o + K @ v, x)
        M = K.T @ (-rows.d2[:, None] * K) + D
        value = 2 * j(v) + np.linalg.slogdet(M)[1] - p * np.log(2 * np.pi)
        return float(value), v[own.q :], np.linalg.inv(M)[own.q :, own.q :]


def restricted(dense: DenseGeneralized) -> GLMM:
    """The compiled model of the same rows."""
    terms = [(codes, z) for codes, _, z, _ in dense.given]
    y, w = dense.y, dense.w
    if dense.family.name in TRIALS:
        y, w = np.column_stack([y, w - y]), None
    given = dense.family.name, dense.family.link, w, dense.o
    return GLMM.from_arrays(y, dense.X, terms, *given, reml=True)


@pytest.mark.parametrize(("name", "link"), covering(UNORDERED))
def test_value_and_gradient(name: str, link: str) -> None:
    dense, psi = simulated(name, link)
    joint, model = Joint(dense), restricted(dense)
    wanted, beta, C = joint.at(psi)
    value, gradient = model.objective(psi, gradient=True)
    close(value, wanted, 1 + abs(wanted), 1e-8)
    with model.standing(psi) as core:
        close(core.coefficients(), beta, 1.0, 1e-6)
        close(core.coefficient_covariance(), C, np.abs(C).max(), 1e-6)
    first, p = dense.ntheta, dense.p
    assert not gradient[first : first + p].any()
    along = np.random.default_rng(2).normal(size=len(psi))
    along[first : first + p] = 0.0
    h = 1e-3
    far, near = (
        joint.at(psi + k * h * along)[0] - joint.at(psi - k * h * along)[0] for k in (2, 1)
    )
    slope = (8 * near - far) / (12 * h)
    close(gradient @ along, slope, 1 + abs(slope), 1e-6)


@pytest.mark.parametrize("name", ["binomial", "negativebinomial", "gamma"])
def test_readings_are_those_of_the_likelihood_at_its_beta(name: str) -> None:
    """Modes given beta are the joint ones; no beta that is given changes them."""
    dense, psi = simulated(name, "logit" if name == "binomial" else "log")
    model = restricted(dense)
    there = psi.copy()
    there[dense.ntheta :][: dense.p] = Joint(dense).at(psi)[1]
    dense.value(there)
    for given in (psi, there):
        point = model.point(given)
        close(point.psi, there, 1.0, 1e-6)
        close(point.predictor, dense.predictor(), 1.0, 1e-6)
        close(point.leverages, dense.leverages(), 1.0, 1e-6)
        for found, wanted in zip(point.condvar, dense.condvar(), strict=True):
            close(found, wanted, 1.0, 1e-6)


# ---- fits ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    data = datasets.load("sleepstudy").copy()
    data["count"] = np.floor((data["Reaction"] - 190) / 20)
    data["slow"] = data["Reaction"] > 300
    data["wave"] = np.sin(np.arange(len(data)))
    return data


@pytest.fixture(scope="module")
def counts(sleep: pd.DataFrame) -> Any:
    return glmer("count ~ Days + wave + (1 | Subject)", sleep, "poisson", reml=True)


@pytest.fixture(scope="module")
def by_likelihood(sleep: pd.DataFrame) -> Any:
    return glmer("count ~ Days + wave + (1 | Subject)", sleep, "poisson")


@pytest.mark.parametrize("drop", [[], [8, 19, 32, 33, 34, 70, *range(100, 139)]])
def test_gaussian_is_lmer(sleep: pd.DataFrame, drop: list[int]) -> None:
    data = sleep.drop(sleep.index[drop])
    formula = "Reaction ~ Days + wave + (Days || Subject)"
    how = {"weights": 1 + data["Days"], "offset": 10 * data["wave"]}
    fit, linear = glmer(formula, data, "gaussian", reml=True, **how), lmer(formula, data, **how)
    close(fit.objective, linear.objective, 1.0, 1e-6)
    close(fit.params, linear.params, np.abs(linear.params).max(), 1e-6)
    close(fit.extra["dispersion"], linear.sigma**2, linear.sigma**2, 1e-5)
    for T, own in zip(fit.estimates.T, linear.estimates.T, strict=True):
        close(T, own * linear.sigma, linear.sigma, 1e-5)
    close(fit.aic, linear.aic, 1.0, 1e-6)
    # the uncertainty of theta is in it, that of the linear fit is given theta
    assert (fit.bse > linear.bse * (1 - 1e-6)).all()
    close(fit.bse, linear.bse, linear.bse.max(), 0.02)


GLMMTMB = {  # -2 log restricted likelihood, coefficients, standard errors, their covariance
    ("Reaction ~ Days + (Days | Subject)", "gamma", "log"): (
        1746.36912632,
        [5.53202033379, 0.0338372229534],
        [0.027036680289, 0.00476247870539],
        -2.38939083934e-05,
    ),
    ("Reaction ~ Days + (1 | Subject)", "gamma", "log"): (
        1782.42503899,
        [5.53351880887, 0.0338413639472],
        [0.0331061426744, 0.00251418550932],
        -2.84411486907e-05,
    ),
    ("count ~ Days + (1 | Subject)", "poisson", "log"): (
        731.152778531,
        [0.980018882746, 0.108275964355],
        [0.137206616201, 0.01202843535],
        -0.0007778354378,
    ),
    ("slow ~ Days + (1 | Subject)", "binomial", "logit"): (
        177.409101895,
        [-2.96996700743, 0.54465830661],
        [0.673371241902, 0.0917918156459],
        -0.0425336415411,
    ),
}


@pytest.mark.parametrize("which", GLMMTMB)
def test_fits_are_glmmtmbs(sleep: pd.DataFrame, which: tuple[str, str, str]) -> None:
    value, beta, se, covariance = GLMMTMB[which]
    formula, family, link = which
    fit = glmer(formula, sleep, family, link, reml=True)
    assert fit.converged
    assert fit.reml
    close(fit.objective, value, 1.0, 1e-6)
    close(fit.params, beta, np.abs(beta).max(), 1e-6)
    close(fit.bse / se, np.ones(2), 1.0, 1e-4)
    close(fit.estimates.vcov[0, 1] / covariance, 1.0, 1.0, 1e-4)


NB = {
    "value": 553.938160954,
    "beta": [1.07668484952, 0.481725869844],
    "se": [0.152380406504, 0.139403938127],
    "size": 1.20795181464,
    "sd": 0.388367570854,
}


def overdispersed() -> pd.DataFrame:
    """Counts that any language makes."""
    i = np.arange(120)
    g, x = i % 12, np.sin(i)
    scatter = 0.2 + 1.6 * ((i * 37) % 11) / 10 * ((i * 53) % 7) / 3
    return pd.DataFrame(
        {"y": np.floor(np.exp(1.2 + 0.3 * x + 0.6 * np.cos(3 * g)) * scatter), "x": x, "g": g}
    )


def test_negative_binomial_is_glmmtmbs() -> None:
    """glmmTMB(y ~ x + (1 | g), family = nbinom2, REML = TRUE)."""
    data = overdispersed()
    fit = glmer("y ~ x + (1 | g)", data, "negativebinomial", reml=True)
    close(fit.objective, NB["value"], 1.0, 1e-6)
    close(fit.params, NB["beta"], 1.0, 1e-5)
    close(fit.bse / NB["se"], np.ones(2), 1.0, 1e-3)
    close(fit.extra["size"] / NB["size"], 1.0, 1.0, 1e-4)
    close(fit.estimates.T[0][0, 0] / NB["sd"], 1.0, 1.0, 1e-4)


def test_domains_of_links(sleep: pd.DataFrame) -> None:
    """Where eta = 0 is outside; the restricted sd is above that of the likelihood."""
    for family, link in [("gamma", "inverse"), ("poisson", "sqrt"), ("inversegaussian", None)]:
        y = "count" if family == "poisson" else "Reaction"
        given = f"{y} ~ Days + (1 | Subject)", sleep, family, link
        fit, plain = glmer(*given, reml=True), glmer(*given)
        assert fit.converged
        assert fit.estimates.T[0][0, 0] > plain.estimates.T[0][0, 0]


def test_dependent_columns(sleep: pd.DataFrame, counts: Any) -> None:
    formula = "count ~ Days + I(2 * Days) + wave + (1 | Subject)"
    with pytest.warns(RankDeficientWarning):
        fit = glmer(formula, sleep, "poisson", reml=True)
    close(fit.objective, counts.objective, 1.0, 1e-8)
    kept = [0, 1, 3]
    assert np.isnan(fit.params.iloc[2])
    close(fit.params.iloc[kept], counts.params, 1.0, 1e-7)
    close(fit.estimates.vcov[np.ix_(kept, kept)], counts.estimates.vcov, 1e-2, 1e-6)


def test_columns_of_a_wide_factor(sleep: pd.DataFrame) -> None:
    """Columns of X that are not stored one by one."""
    formula = "Reaction ~ 0 + Subject + (1 | Days)"
    fit, linear = glmer(formula, sleep, "gaussian", reml=True), lmer(formula, sleep)
    close(fit.objective, linear.objective, 1.0, 1e-6)
    close(fit.params, linear.params, 100.0, 1e-6)


def test_refits(sleep: pd.DataFrame, counts: Any) -> None:
    more = sleep.assign(count=sleep["count"] + 1)
    anew = glmer("count ~ Days + wave + (1 | Subject)", more, "poisson", reml=True)
    again = counts.refit(more["count"])
    assert again.reml
    close(again.objective, anew.objective, 1.0, 1e-7)
    close(again.params, anew.params, 1.0, 1e-5)
    close(again.bse, anew.bse, 1.0, 1e-5)
    close(counts.model.objective(counts.psi), counts.objective, 1.0, 1e-9)
    other = pickle.loads(pickle.dumps(counts))
    assert other.model.reml
    close(other.model.objective(counts.psi), counts.objective, 1.0, 1e-9)
    at = counts.model.at(np.where(np.arange(4) == 0, counts.psi, 0.0))  # beta is not read
    close(at.params, counts.params, 1.0, 1e-6)
    assert at.converged


def test_tests_of_fixed_effects_refit_by_likelihood(
    sleep: pd.DataFrame, counts: Any, by_likelihood: Any
) -> None:
    smaller = [
        glmer("count ~ Days + (1 | Subject)", sleep, "poisson", reml=reml) for reml in (True, False)
    ]
    pairs = [
        (drop1(counts, test="Chisq"), drop1(by_likelihood, test="Chisq")),
        (anova(counts, smaller[0]), anova(by_likelihood, smaller[1])),
    ]
    for found, wanted in pairs:
        assert any("maximum likelihood (instead of REML)" in note for note in found.notes)
        np.testing.assert_allclose(found.table, wanted.table, rtol=1e-5, atol=1e-6)
    with pytest.raises(FitError, match="fixed effects differ"):
        anova(counts, smaller[0], refit=False)
    close(counts.update(reml=False).objective, by_likelihood.objective, 1.0, 1e-7)
    close(by_likelihood.update(reml=True).objective, counts.objective, 1.0, 1e-7)


def test_random_terms_are_tested_by_restricted_likelihood(sleep: pd.DataFrame) -> None:
    formula = "Reaction ~ Days + (1 | Subject)"
    found = ranova(glmer(formula, sleep, "gaussian", reml=True)).table
    wanted = ranova(lmer(formula, sleep)).table
    numbers = wanted.select_dtypes("number").columns
    np.testing.assert_allclose(found[numbers], wanted[numbers], rtol=1e-6)


def test_profiles_are_of_the_likelihood(counts: Any, by_likelihood: Any) -> None:
    found, wanted = (fit.conf_int(method="profile") for fit in (counts, by_likelihood))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_errors_of_predictions(counts: Any, by_likelihood: Any, sleep: pd.DataFrame) -> None:
    """Close to those of the likelihood, whose theta is near."""
    found, wanted = (fit.predict(sleep, interval="confidence") for fit in (counts, by_likelihood))
    close(found["se"] / wanted["se"], np.ones(len(sleep)), 1.0, 0.03)


def test_summary(counts: Any) -> None:
    text = str(counts.summary())
    assert "fit by restricted maximum likelihood (Laplace approximation)" in text
    assert f"REML criterion: {counts.objective:.4f}" in text


@pytest.mark.parametrize(
    "how",
    [{"nagq": 5}, {"information": "expected"}, {"prior": 2.5}, {"accuracy": "second-order"}],
)
def test_other_approximations_are_refused(sleep: pd.DataFrame, how: dict[str, Any]) -> None:
    with pytest.raises(FitError, match=f"leave out {next(iter(how))}="):
        glmer("count ~ Days + (1 | Subject)", sleep, "poisson", reml=True, **how)


def test_models_without_one_are_refused(sleep: pd.DataFrame, counts: Any) -> None:
    with pytest.raises(FitError, match="thresholds"):
        glmer("count ~ Days + (1 | Subject)", sleep, "ordered", reml=True)
    with pytest.raises(FitError, match="no fixed effects"):
        glmer("count ~ 0 + (1 | Subject)", sleep, "poisson", reml=True)
    with pytest.raises(TypeError, match="reml must be True or False"):
        glmer("count ~ Days + (1 | Subject)", sleep, "poisson", reml="REML")  # type: ignore[arg-type]
    with pytest.raises(FitError, match="restricted likelihood"):
        counts.approximation()
    with pytest.raises(FitError, match="cannot be held"):
        counts.model._core.minimize(counts.psi, held=np.arange(4) == 0)
