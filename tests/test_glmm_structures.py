"""Generalized models with covariance structures: glmmTMB's results, derivatives, what fits say."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_generalized_structured import counts

from lmmfast import CustomCovariance, GLMMFit, anova, emmeans, glmer, ranova
from lmmfast.errors import FitError

FOLDER = Path(__file__).parent / "reference" / "structures"
CASES = {case["id"]: case for case in json.loads((FOLDER / "glmer.json").read_text())}
KINDS = ["ar1", "hetar1", "cs", "homcs", "homdiag", "toep", "homtoep", "ad", "homad", "rr"]


def frame(name: str) -> pd.DataFrame:
    data = pd.read_csv(FOLDER / f"glmer_{name}.csv.gz", dtype={"g": "category"})
    return data.assign(time=data["t"].str[1:].astype(float))


def fit_of(kind: str, **how: Any) -> GLMMFit:
    more = ", d = 1" if kind == "rr" else ""
    return glmer(f"y ~ x + {kind}(0 + t | g{more})", counts(3), "poisson", **how)


def differences(function: Any, at: np.ndarray, step: float) -> np.ndarray:
    """Central ones of a function of at, one row a parameter."""
    steps = step * np.eye(len(at))
    return np.array([(function(at + h) - function(at - h)) / (2 * step) for h in steps])


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_glmmtmb(name):
    case = CASES[name]
    fit = glmer(case["formula"], frame(case["data"]), case["family"], reml=case["REML"])
    assert fit.converged
    assert fit.objective <= case["objective"] + 1e-6
    assert fit.objective == pytest.approx(case["objective"], abs=1e-5)
    np.testing.assert_allclose(fit.params, case["beta"], atol=1e-4)
    np.testing.assert_allclose(fit.bse, case["se"], rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_slope_and_second_derivatives_are_those_of_the_criterion(kind):
    model = fit_of(kind).model
    within = model.within
    xi = within.xi(fit_of(kind).estimates.phi, fit_of(kind).psi)
    xi = xi + 0.05 * np.random.default_rng(0).normal(size=len(xi))
    phi = xi[: model.structured.nphi]
    point = model.point(within.psi(xi), phi=phi).within
    slope = differences(lambda at: model.objective(within.psi(at)), xi, 1e-5)
    np.testing.assert_allclose(point.slope, slope, atol=1e-6 * np.abs(slope).max())
    assert point._by_formula()[1].all()
    H = differences(point.slope_at, xi, 1e-4)
    found = point.second(np.arange(len(xi)))
    np.testing.assert_allclose(found, H, atol=1e-6 * np.abs(H).max())


def test_errors_of_related_levels_are_of_the_criterion():
    data = counts(3)
    names = data["g"].cat.categories
    K = pd.DataFrame(0.5 * np.eye(len(names)) + 0.5, index=names, columns=names)
    for term in ("homcs(0 + t | g)", "(1 | g)"):
        fit = glmer(f"y ~ x + {term}", data, "poisson", relationship={"g": K})
        point = fit.estimates.point
        if point.within is not None:
            at, slope = point.within.xi, point.within.slope_at
            found = point.within.covariance_of_xi
        else:
            at, found = point.psi, point.covariance

            def slope(psi: np.ndarray, model: Any = fit.model) -> np.ndarray:
                return np.asarray(model.objective(psi, gradient=True)[1])

        H = differences(slope, at, 1e-4)
        np.testing.assert_allclose(found, 2 * np.linalg.inv(H), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("kind", "plain"), [("us", "(0 + t | g)"), ("diag", "(0 + t || g)")])
@pytest.mark.filterwarnings("ignore::lmmfast.errors.DoubleBarWarning")
def test_us_and_diag_are_the_bars(kind, plain):
    fit, other = fit_of(kind), glmer(f"y ~ x + {plain}", counts(3), "poisson")
    assert fit.objective == pytest.approx(other.objective, abs=1e-9)
    np.testing.assert_allclose(fit.bse, other.bse, rtol=1e-8)


def test_restricted_likelihood_is_at_its_minimum():
    fit = fit_of("ar1", reml=True)
    model, phi = fit.model, fit.estimates.phi
    slope = differences(
        lambda at: model.objective(model.within.psi(at)), fit.model.within.xi(phi, fit.psi), 1e-4
    )
    assert np.abs(slope[: len(phi)]).max() < 1e-3
    assert fit.objective > fit_of("ar1").objective


def test_what_a_fit_says():
    fit = fit_of("ar1")
    assert fit.n_params == 4
    table = fit.parameters()
    assert list(table.index) == ["sd(t | g)", "rho(t | g)"] and (table["se"] > 0).all()
    sd, rho = table["estimate"]
    lag = np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    np.testing.assert_allclose(fit.covariance("g"), sd**2 * rho**lag, rtol=1e-8)
    assert "ar1(0 + t | g)" in str(fit.summary())
    again = fit.refit(fit.simulate(1, seed=1)[0])
    assert again.converged and again.estimates.phi is not None
    assert fit.bootstrap(3, seed=1).to_frame()["converged"].all()
    at = fit.model.at(fit.psi)
    assert at.converged
    np.testing.assert_allclose(at.bse, fit.bse, rtol=1e-6)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(fit)).bse, fit.bse)


@pytest.mark.parametrize(
    "structure", ["rr(0 + t | g, d = 1)", "exp(0 + time | g)", "cs(0 + t | g)"]
)
def test_bootstrap_has_the_parameters_of_each_fit(structure):
    fit = glmer(f"y ~ x + {structure}", frame("poisson"), "poisson")
    table = fit.bootstrap(2, seed=1).to_frame()
    drawn = fit.simulate(2, seed=1)
    for i in range(2):
        estimates = fit.refit(drawn[i]).parameters()["estimate"]
        np.testing.assert_allclose(table.loc[i, estimates.index], estimates, rtol=1e-4)


def test_predictions_of_known_and_new_levels():
    fit = fit_of("ar1")
    new = pd.DataFrame({"x": [0.0, 0.0], "t": ["t1", "t1"], "g": [3, 99]})
    found = fit.predict(new, new_levels="population", se=True)
    mode = fit.ranef()["g"].loc[3, "t[t1]"]
    np.testing.assert_allclose(found["fit"], fit.params["Intercept"] + np.array([mode, 0.0]))
    assert found["se"].iloc[1] > found["se"].iloc[0]


def test_comparisons():
    fit, wide = fit_of("ar1"), fit_of("us")
    table = anova(fit, wide).table
    assert table["Df"].iloc[1] == 8
    assert table["Chisq"].iloc[1] == pytest.approx(fit.objective - wide.objective, abs=1e-6)
    assert any("homdiag" in str(name) for name in ranova(fit).table.index)
    means = emmeans(glmer("y ~ t + ar1(0 + t | g)", counts(3), "poisson"), "t").to_frame()
    assert len(means) == 4


def test_profiles():
    fit = fit_of("ar1")
    ends = fit.conf_int(method="profile", parameters="all")
    found = pd.concat([fit.parameters()["estimate"], fit.params])
    assert (ends["lower"] < found[ends.index]).all() and (found[ends.index] < ends["upper"]).all()
    end, model = float(ends.loc["x", "upper"]), fit.model
    held = np.concatenate([fit.estimates.phi, fit.psi[model.ntheta :]])
    assert criterion_at(model, held, len(held) - 1, end) == pytest.approx(
        fit.objective + 1.959964**2, abs=1e-3
    )


def criterion_at(model: Any, xi: np.ndarray, place: int, value: float) -> float:
    """The least criterion with one of xi held at a value."""
    from scipy.optimize import minimize

    def whole(z: np.ndarray) -> np.ndarray:
        return np.insert(z, place, value)

    def slope(z: np.ndarray) -> np.ndarray:
        psi = model.within.psi(whole(z))
        g = model.objective(psi, gradient=True)[1] @ model.within.jacobian(whole(z))
        return np.delete(g, place)

    start = np.delete(xi, place)
    return float(
        minimize(lambda z: model.objective(model.within.psi(whole(z))), start, jac=slope).fun
    )


def test_no_variance_is_zero():
    data = frame("poisson")
    data["y"] = np.random.default_rng(1).poisson(np.exp(0.8 + 0.3 * data["x"]))
    fit = glmer("y ~ x + ar1(0 + t | g)", data, "poisson")
    assert fit.converged and fit.n_params == 4
    assert np.isfinite(fit.bse).all()


def test_a_covariance_of_your_own():
    def sigma(phi: np.ndarray) -> np.ndarray:
        return phi[0] ** 2 * np.exp(-np.exp(phi[1]) * lag)

    lag = np.abs(np.subtract.outer(np.arange(5.0), np.arange(5.0)))
    own = CustomCovariance(5, sigma, [0.5, -1.0], nonnegative=1)
    data = frame("poisson")
    fit = glmer("y ~ x + (0 + t | g)", data, "poisson", covariance={"g": own})
    other = glmer("y ~ x + ar1(0 + t | g)", data, "poisson")  # its rho is positive here
    assert fit.objective == pytest.approx(other.objective, abs=1e-6)
    np.testing.assert_allclose(fit.bse, other.bse, rtol=1e-4)
    assert (fit.parameters()["se"].iloc[:2] > 0).all()


def test_wide_terms_are_refused_where_they_are_too_wide():
    data = pd.DataFrame({"g": np.repeat(np.arange(30), 120), "time": np.tile(np.arange(120.0), 30)})
    data["y"] = np.random.default_rng(1).poisson(2, len(data))
    with pytest.raises(FitError, match=r"exp\(0 \+ time \| g\).*7,260 entries"):
        glmer("y ~ exp(0 + time | g)", data, "poisson")


def test_errors_of_wide_terms_are_those_of_narrow_ones(monkeypatch):
    fit = fit_of("ar1")
    monkeypatch.setattr("lmmfast.engine.generalized_structured.WIDE", 0)
    found = fit_of("ar1")
    assert not found.estimates.point.within._by_formula()[1].any()
    np.testing.assert_allclose(found.bse, fit.bse, rtol=1e-6)
    np.testing.assert_allclose(found.parameters()["se"], fit.parameters()["se"], rtol=1e-5)


def test_quadrature_of_wide_terms_is_refused():
    with pytest.raises(FitError, match="at most 3"):
        fit_of("ar1", nagq=5)
