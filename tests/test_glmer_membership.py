"""Generalized models of rows with several levels of one factor, ``(1 | mm(a, b))``: the compiled
ones against the dense definition, and against the same models written in other ways."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import close
from dense_families import TRIALS, Family
from dense_glmm import DenseGeneralized
from test_dense_glmm import CLASSES, drawn
from test_generalized import compiled

from lmmfast import _core

FAMILIES = [
    ("binomial", "logit"),
    ("binomial", "cloglog"),
    ("poisson", "log"),
    ("gamma", "log"),
    ("negativebinomial", "log"),
    ("ordered", "probit"),
]
LEVELS, ITEMS, CLASSES_OF_ITEMS = 9, 6, 3


def incidence(rng: np.random.Generator, n: int, most: int = 3) -> np.ndarray:
    """Weights (n, LEVELS) of one to `most` levels a row; one row has none."""
    W = np.zeros((n, LEVELS))
    for row in range(n):
        own = rng.choice(LEVELS, rng.integers(1, most + 1), replace=False)
        W[row, own] = rng.uniform(0.2, 1, len(own))
    W[n // 2] = 0
    return W


def factors_of(shape: str, rng: np.random.Generator, z: np.ndarray) -> list:
    """Grouping factors: alone, beside a crossed one, beside nested ones, two with several levels."""
    n = len(z)
    W, item = incidence(rng, n), rng.permutation(np.arange(n) % ITEMS)
    both, one = np.array([-1, -1]), np.array([0])
    several, slope = (W, LEVELS, z[:, :1], one), (W, LEVELS, z, both)
    items = (item, ITEMS, z[:, :1], one)
    classes = (item % CLASSES_OF_ITEMS, CLASSES_OF_ITEMS, z[:, :1], one)
    other = (incidence(rng, n, 2), LEVELS, z[:, 1:], one)
    return {
        "alone": [several],
        "slope": [slope],
        "crossed": [slope, items],
        "nested": [classes, several, (item, ITEMS, z, both)],
        "twice": [slope, other],
    }[shape]


SHAPES = ["alone", "slope", "crossed", "nested", "twice"]


def simulated(
    name: str, link: str, shape: str, information: str = "observed", n: int = 70
) -> tuple[DenseGeneralized, np.ndarray]:
    """A small model with weights and an offset, and parameters near which it was drawn."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=n)
    X, z = np.column_stack([np.ones(n), x]), np.column_stack([np.ones(n), x])
    factors = factors_of(shape, rng, z)
    family = Family(name, link, CLASSES if name == "ordered" else 0)
    beta, extra = np.array([0.3, 0.2]), np.array([-1.0])[: family.nextra]
    w = rng.uniform(0.5, 2, n)
    if name in TRIALS:
        w = rng.integers(1, 9, n).astype(float)
    y = drawn(rng, family, X @ beta + 0.3 * rng.normal(size=n), w)
    if name == "ordered":
        X, beta, extra = X[:, 1:], beta[1:], np.array([-0.5, -0.2, 0.3])
    how = {"classes": family.classes, "offset": rng.normal(size=n) * 0.05}
    how["information"] = information
    model = DenseGeneralized(y, X, factors, w, family=name, link=link, **how)
    theta = np.concatenate([0.7 * np.array([1.0, 0.3, 0.8])[: len(t.theta)] for t in model.terms])
    theta[[place for t in model.terms if len(t.theta) == 1 for place in t.theta]] = 0.6
    return model, np.concatenate([theta, beta, extra])


WAYS = [("dense", "observed"), ("sparse", "observed"), ("dense", "expected")]


@pytest.mark.parametrize(("storage", "information"), WAYS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "link"), FAMILIES)
def test_value_and_gradient(
    name: str, link: str, shape: str, storage: str, information: str
) -> None:
    dense, psi = simulated(name, link, shape, information)
    model = compiled(dense, storage=storage, information=information)
    wanted, slope = dense.value(psi, gradient=True)
    value, gradient = model.value(psi, gradient=True)
    close(value, wanted, 1 + abs(wanted), 1e-11)
    close(gradient, slope, 1 + np.abs(slope).max(), 1e-8)
    for i, step in enumerate(1e-4 * np.eye(len(psi))):
        ends = [model.value(psi + sign * step) for sign in (2, 1, -1, -2)]
        quotient = (8 * (ends[1] - ends[2]) - (ends[0] - ends[3])) / 12e-4
        assert gradient[i] == pytest.approx(quotient, abs=1e-7 * (1 + np.abs(slope).max()))


@pytest.mark.parametrize("storage", ["dense", "sparse"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "link"), FAMILIES)
def test_readings(name: str, link: str, shape: str, storage: str) -> None:
    dense, psi = simulated(name, link, shape)
    model = compiled(dense, storage=storage)
    dense.value(psi)
    model.value(psi)
    for found, wanted in zip(model.modes(), dense.modes(), strict=True):
        close(found, wanted, 1 + np.abs(wanted).max(), 1e-9)
    close(model.predictor(), dense.predictor(), 1.0, 1e-9)
    # the factorization may be that of a point before the mode, from which a step promised 1e-14
    for found, wanted in zip(model.condvar(), dense.condvar(), strict=True):
        close(found, wanted, 1 + np.abs(wanted).max(), 1e-7)
    close(model.leverages(), dense.leverages(), 1.0, 1e-7)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "link"), FAMILIES)
def test_second_derivatives(name: str, link: str, shape: str) -> None:
    dense, psi = simulated(name, link, shape)
    model = compiled(dense)
    H = model.hessian(psi)
    for i in range(len(H)):
        step = 1e-5 * (np.arange(len(psi)) == i)
        ends = [model.value(psi + sign * step, gradient=True)[1] for sign in (1, -1)]
        quotient = ((ends[0] - ends[1]) / 2e-5)[: len(H)]
        np.testing.assert_allclose(H[i], quotient, atol=2e-5 * np.abs(H).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_end_of_a_fit_is_an_optimum(shape: str) -> None:
    dense, start = simulated("binomial", "logit", shape, n=150)
    model = compiled(dense)
    psi, info = model.minimize(None)
    assert info["status"] == "converged"
    value, gradient = dense.value(psi, gradient=True)
    close(info["objective"], value, 1 + abs(value), 1e-10)
    moving = np.concatenate([np.abs(psi[: dense.ntheta]) > 1e-3, dense.keep])
    close(gradient[moving], np.zeros(moving.sum()), 1.0, 1e-4)
    assert dense.minimize(psi)[1]["objective"] > info["objective"] - 1e-7
