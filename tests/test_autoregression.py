"""rho of a conditional autoregression, estimated, against the criterion from its definition."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from related import Term, objective

from lmmfast import (
    Adjacency,
    DataError,
    FitError,
    anova,
    fit_many,
    glmer,
    lmer,
    simulate,
)
from lmmfast.engine.autoregression import profile_of, quiet, slope

SIDE, EACH = 6, 4
Q_ = SIDE * SIDE


def neighbours() -> np.ndarray:
    """Of the cells of a square."""
    W = np.zeros((Q_, Q_))
    for i in range(SIDE):
        for j in range(SIDE):
            for a, b in ((i + 1, j), (i, j + 1)):
                if a < SIDE and b < SIDE:
                    W[i * SIDE + j, a * SIDE + b] = W[a * SIDE + b, i * SIDE + j] = 1
    return W


def precision(kind: str, rho: Any) -> np.ndarray:
    W = neighbours()
    D = np.diag(W.sum(axis=0))
    return D - rho * W if kind == "car" else (1 - rho) * np.eye(Q_) + rho * (D - W)


class Case:
    def __init__(self, kind: str, columns: str = "1", rho: float = 0.9, seed: int = 8) -> None:
        rng = np.random.default_rng(seed)
        self.kind = kind
        b = rng.multivariate_normal(
            np.zeros(Q_), 3 * np.linalg.inv(precision(kind, rho)), method="cholesky"
        )
        g = rng.permutation(np.repeat(np.arange(Q_), EACH))
        x = rng.normal(size=len(g))
        y = 1 + x + b[g] + 0.5 * x * b[g][::-1] + 0.7 * rng.normal(size=len(g))
        self.data = pd.DataFrame({"y": y, "x": x, "g": g, "h": np.arange(len(g)) % 7})
        self.formula = f"y ~ x + ({columns} | g) + (1 | h)"
        X = np.column_stack([np.ones(len(g)), x])
        z = X if columns == "1 + x" else X[:, :1]
        self.own = lambda r: [
            Term(g, z, np.linalg.inv(precision(kind, r))),
            Term(self.data["h"].to_numpy(), X[:, :1], np.eye(7)),
        ]
        self.numbers = y, X

    def criterion(self, theta: np.ndarray, rho: Any, reml: bool) -> Any:
        return objective(*self.numbers, self.own(rho), np.asarray(theta), reml)

    def fit(self, **how: Any) -> Any:
        given = {"g": Adjacency(neighbours(), "estimate", kind=self.kind)}
        return lmer(self.formula, self.data, relationship=given, **how)


kinds = pytest.mark.parametrize("kind", ["car", "leroux"])


@kinds
@pytest.mark.parametrize("columns", ["1", "1 + x"])
@pytest.mark.parametrize("reml", [True, False])
def test_the_derivative_is_exact(kind: str, columns: str, reml: bool) -> None:
    case = Case(kind, columns)
    fit = case.fit(reml=reml)
    profile = profile_of(fit.model, 0, quiet(reml, fit.theta))
    for rho in (0.2, 0.7, 0.97):
        estimates, model = profile.fit(rho)
        wanted = case.criterion(estimates.theta.astype(complex), rho + 1e-20j, reml).imag / 1e-20
        assert slope(model, estimates, 0, rho) == pytest.approx(wanted, rel=1e-6, abs=1e-6)


@kinds
@pytest.mark.parametrize("columns", ["1", "1 + x"])
@pytest.mark.parametrize("reml", [True, False])
def test_all_parameters_are_at_the_optimum(kind: str, columns: str, reml: bool) -> None:
    from scipy.optimize import minimize

    case = Case(kind, columns)
    fit = case.fit(reml=reml)
    rho = fit.estimates.rho
    assert fit.converged and not rho.at_bound
    value = case.criterion(fit.theta, rho.estimate, reml)
    assert fit.objective == pytest.approx(value, abs=1e-8)

    def joint(p: np.ndarray) -> float:
        inside = (0 if kind == "leroux" else -1) < p[-1] < 1
        return float(case.criterion(p[:-1], p[-1], reml)) if inside else 1e10

    here = np.append(fit.theta, rho.estimate)
    step = 1e-5 * np.eye(len(here))
    gradient = [(joint(here + h) - joint(here - h)) / 2e-5 for h in step]
    assert np.abs(gradient).max() < 1e-4
    found = minimize(joint, here, method="Nelder-Mead")
    assert found.fun > fit.objective - 1e-6
    held = lmer(
        case.formula,
        case.data,
        reml=reml,
        relationship={"g": Adjacency(neighbours(), rho.estimate, kind=kind)},
    )
    assert held.objective == pytest.approx(fit.objective, abs=1e-9)
    assert fit.n_params == held.n_params + 1


@kinds
def test_standard_error_and_interval(kind: str) -> None:
    from scipy.optimize import minimize

    case = Case(kind)
    fit = case.fit()
    rho = fit.estimates.rho

    def best(r: float) -> float:
        found = minimize(
            lambda t: float(case.criterion(t, r, True)), fit.theta, method="BFGS", tol=1e-9
        )
        return float(found.fun)

    h = 0.02 * (1 - rho.estimate)
    second = (best(rho.estimate + h) - 2 * best(rho.estimate) + best(rho.estimate - h)) / h**2
    assert rho.se == pytest.approx(np.sqrt(2 / second), rel=0.01)
    table = fit.rho()
    assert table.loc["g", "status"] == "estimated"
    lower, upper = table.loc["g", "lower"], table.loc["g", "upper"]
    assert best(lower) == pytest.approx(fit.objective + 3.841459, abs=1e-4)
    assert np.isnan(upper) or best(upper) == pytest.approx(fit.objective + 3.841459, abs=1e-4)
    narrow = fit.rho(level=0.5)
    assert narrow.loc["g", "lower"] > lower


def test_rho_at_its_bound_is_said() -> None:
    rng = np.random.default_rng(4)
    line = np.eye(30, k=1) + np.eye(30, k=-1)
    g = np.repeat(np.arange(30), 6)
    y = 3 * np.sin(g / 8) + 0.3 * rng.normal(size=len(g))  # smoother than any proper one
    data = pd.DataFrame({"y": y, "g": g})
    fit = lmer("y ~ 1 + (1 | g)", data, relationship={"g": Adjacency(line, "estimate")})
    assert fit.estimates.rho.at_bound and fit.estimates.rho.estimate > 0.9999
    assert fit.rho().loc["g", "status"] == "at bound"
    assert "at its bound" in str(fit.summary())


def test_no_variance_leaves_rho_open() -> None:
    """Where levels have no variance the criterion does not depend on rho."""
    case = Case("car")
    rng = np.random.default_rng(0)
    data = case.data.assign(y=rng.normal(size=len(case.data)))
    data["y"] -= data.groupby("g")["y"].transform("mean")
    fit = lmer("y ~ x + (1 | g)", data, relationship={"g": Adjacency(neighbours(), "estimate")})
    assert fit.theta[0] == 0 and np.isnan(fit.estimates.rho.se)


def test_what_follows_from_the_fit() -> None:
    case = Case("leroux")
    fit = case.fit()
    assert "conditional autoregression, rho = " in str(fit.summary())
    copy = pickle.loads(pickle.dumps(fit))
    assert copy.estimates.rho == fit.estimates.rho
    np.testing.assert_allclose(copy.predict(case.data), fit.fittedvalues)
    held = {"g": Adjacency(neighbours(), fit.estimates.rho.estimate, kind="leroux")}
    draw = fit.simulate(1, seed=1)[0]
    plain = lmer(case.formula, case.data.assign(y=draw), relationship=held)
    assert fit.refit(draw).objective == pytest.approx(plain.objective, abs=1e-7)
    assert fit.bootstrap(3, seed=1).replicates.shape[0] == 3
    with pytest.raises(FitError, match="fit with reml=False"):
        anova(fit, lmer("y ~ 1 + (1 | h)", case.data))
    with pytest.raises(FitError, match="no rho was estimated"):
        plain.rho()


def test_levels_without_neighbours_are_independent() -> None:
    W = neighbours()
    W[0] = W[:, 0] = 0
    assert Adjacency(W, 0.5, kind="leroux").precision().matrix[0, 0] == 0.5
    with pytest.raises(DataError, match="has no neighbours"):
        Adjacency(W, 0.5)


def test_what_is_refused() -> None:
    W, case = neighbours(), Case("car")
    given = {"g": Adjacency(W, "estimate")}
    for rho, kind, words in (
        ("guess", "car", 'a number or "estimate"'),
        (-0.5, "leroux", "between 0 and 1"),
        (1.0, "leroux", "between 0 and 1"),
        (0.5, "sar", '"car" or "leroux"'),
    ):
        with pytest.raises(DataError, match=words):
            Adjacency(W, rho, kind=kind)
    with pytest.raises(FitError, match="of one random term"):
        lmer("y ~ x + (1 | g) + (0 + x | g)", case.data, relationship=given)
    with pytest.raises(DataError, match="which a generalized model does not do"):
        counts = case.data.assign(y=1.0 * (case.data["y"] > 0))
        glmer(case.formula, counts, family="binomial", relationship=given)
    with pytest.raises(DataError, match="which a fit of many responses does not do"):
        fit_many("~ x + (1 | g)", case.data, case.data[["y"]], relationship=given)
    with pytest.raises(DataError, match="which a simulation does not do"):
        simulate(
            "~ x + (1 | g)",
            case.data,
            {"beta": [0, 1], "theta": [1.0], "sigma": 1.0},
            relationship=given,
        )
