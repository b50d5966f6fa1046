"""Structures of many columns: fits in their parameters alone, by the same optimum and inference."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lmmfast import LMM, lmer
from lmmfast.engine import compiled
from lmmfast.errors import FitError

SAME = 1e-9  # difference of criteria that is none
KINDS = ("ar1", "homcs", "homtoep", "homdiag")  # of one optimum


def series(m: int, p: int, seed: int = 1) -> pd.DataFrame:
    """m autoregressive series of p times, with noise, and a level of each."""
    rng = np.random.default_rng(seed)
    e = rng.normal(size=(m, p))
    for t in range(1, p):
        e[:, t] = 0.7 * e[:, t - 1] + np.sqrt(1 - 0.49) * e[:, t]
    data = pd.DataFrame({"g": np.repeat(np.arange(m), p), "x": rng.normal(size=m * p)})
    noise = 0.5 * rng.normal(size=m * p) + np.repeat(0.5 * rng.normal(size=m), p)
    data["y"] = 1 + 0.3 * data.x + e.ravel() + noise
    data["t"] = pd.Categorical(np.tile([f"{t:04d}" for t in range(p)], m))
    return data


def small(kind: str, p: int, extra: bool) -> LMM:
    data = series(12, p, seed=p)
    data = pd.concat([data, data.assign(y=data.y + series(12, p, seed=p + 1).x)])  # two rows a cell
    g, t = data.g.to_numpy(), data.t.cat.codes.to_numpy()
    terms = [(g, np.eye(p)[t], kind)]
    if extra:
        terms.append((g, np.ones((len(g), 1)), "full"))
    X = np.column_stack([np.ones(len(g)), data.x])
    return LMM.from_arrays(data.y.to_numpy(), X, terms)


@pytest.mark.parametrize(
    ("kind", "extra"), [*((kind, False) for kind in KINDS), ("ar1", True), ("homdiag", True)]
)
def test_the_optimum_is_that_of_fits_in_all_entries(
    kind: str, extra: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small(kind, 8, extra)
    expected = whole.fit()
    monkeypatch.setattr(compiled, "MANY", 0)
    few = small(kind, 8, extra)
    found = few.fit()
    assert whole._engine.moves == 0 and 0 < few._engine.moves < 20
    assert found.estimates.converged
    assert found.objective == pytest.approx(expected.objective, abs=SAME, rel=0)
    assert found.estimates.sigma == pytest.approx(expected.estimates.sigma, rel=1e-4)


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + ar1(0 + t | g)",
        "y ~ x + (1 | g) + ar1(0 + t | g)",
    ],
)
def test_inference_is_that_of_fits_in_all_entries(
    formula: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = series(12, 10)
    expected = lmer(formula, data)
    monkeypatch.setattr(compiled, "MANY", 0)
    found = lmer(formula, data)
    assert found.model._engine.moves and not expected.model._engine.moves
    assert (
        str(found.summary()).split("Fixed effects")[1].split("Optimum")[0]
        == (str(expected.summary()).split("Fixed effects")[1].split("Optimum")[0])
    )
    np.testing.assert_allclose(found.parameters()["se"], expected.parameters()["se"], rtol=1e-3)
    np.testing.assert_allclose(found.vcov_theta(), expected.vcov_theta(), rtol=1e-3, atol=1e-7)


def test_the_gradient_is_that_of_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MANY", 0)
    model = small("ar1", 40, True)
    own = model.structured
    assert own is not None
    phi = np.array([0.8, 0.5, 0.4])[: own.nphi]

    def at(z: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        found: tuple[float, np.ndarray, np.ndarray] = model._core.within(own.everything(), z)
        return found

    gradient = at(phi)[1]
    for i in range(own.nphi):
        step = 1e-5 * np.eye(own.nphi)[i]
        slope = (at(phi + step)[0] - at(phi - step)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-6, abs=1e-5)


def test_series_of_100_times() -> None:
    fit = lmer("y ~ x + ar1(0 + t | g)", series(5, 100))
    assert fit.model.ntheta == 5050 and fit.model._engine.moves == 2
    assert fit.estimates.converged and fit.estimates.n_evals < 40
    assert "Satterthwaite" in str(fit.summary())
    assert fit.parameters()["se"].notna().all()
    with pytest.raises(FitError, match="5,050 entries"):
        fit.summary(ddf="kenward-roger")
    with pytest.raises(FitError, match="5,050 entries"):
        fit.model.objective(fit.theta, hessian=True)


def test_a_map_of_400_places() -> None:
    """One level alone has a determinant beyond the range of numbers."""
    rng = np.random.default_rng(2)
    q = 400
    place = np.repeat(np.arange(q), 2)
    u, v = rng.uniform(0, 10, size=(2, q))
    distance = np.hypot(np.subtract.outer(u, u), np.subtract.outer(v, v))
    b = np.linalg.cholesky(np.exp(-distance / 1.5) + 1e-10 * np.eye(q)) @ rng.normal(size=q)
    data = pd.DataFrame({"u": u[place], "v": v[place], "x": rng.normal(size=2 * q)})
    data["y"] = 1 + 0.5 * data.x + b[place] + 0.7 * rng.normal(size=2 * q)
    fit = lmer("y ~ x + exp(0 + u + v | 1)", data)
    assert fit.estimates.converged
    X = np.column_stack([np.ones(2 * q), data.x])
    order = columns_of(fit, u, v)
    R = (fit.estimates.T[0] @ fit.estimates.T[0].T)[np.ix_(order[place], order[place])]
    V = np.eye(2 * q) + R
    W = np.linalg.solve(V, np.column_stack([X, data.y]))
    C = X.T @ W[:, :2]
    beta = np.linalg.solve(C, X.T @ W[:, 2])
    r2 = float(data.y @ W[:, 2] - beta @ (X.T @ W[:, 2]))
    nu = 2 * q - 2
    expected = np.linalg.slogdet(V)[1] + np.linalg.slogdet(C)[1]
    expected += nu * (1 + np.log(2 * np.pi * r2 / nu))
    assert fit.objective == pytest.approx(expected, abs=1e-6)


def columns_of(fit: object, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The column of each place in the term of the map."""
    coordinates = fit.design.terms[0].covariance.coordinates  # type: ignore[attr-defined]
    apart = np.abs(coordinates[:, 0][None] - u[:, None]) + np.abs(
        coordinates[:, 1][None] - v[:, None]
    )
    return np.asarray(apart.argmin(axis=1))
