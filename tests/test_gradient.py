"""Gradient and curvature against the definition, on every structure and on the boundary."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from conftest import close, covering
from dense import Problem
from structures import STRUCTURES
from test_kernels import both, either, largest, thetas

from lmmfast import LMM

pytestmark = pytest.mark.filterwarnings("ignore::lmmfast.IdentifiabilityWarning")

GRADIENT = 1e-8  # of the largest entry
CURVATURE = 1e-9
FLOOR = 1e-6  # in units of the columns: derivatives on the boundary are taken this near to it

# Complex steps cost a dense LU for each parameter: the large ones only in the long version
COST = {name: len(p.y) ** 3 * p.ntheta for name, (p, _) in STRUCTURES.items()}
CHEAP = [name for name in STRUCTURES if COST[name] < 1e8]
costly = pytest.mark.parametrize("name", [name for name in STRUCTURES if COST[name] >= 1e8])


def check_gradient(problem: Problem, theta: np.ndarray, reml: bool) -> None:
    model = LMM.from_arrays(*problem.arrays)
    wanted = problem.gradient(theta, reml)
    _, found, H = model.objective(theta, reml=reml, gradient=True, hessian=True)
    close(found, wanted, GRADIENT * largest(wanted) + FLOOR * np.abs(H).max(axis=1), 1.0)


@pytest.mark.parametrize(("name", "reml"), covering(product(CHEAP, (True, False))))
def test_gradient(name: str, reml: bool) -> None:
    problem, _ = STRUCTURES[name]
    for theta in thetas(problem)[1:]:
        check_gradient(problem, theta, reml)


@pytest.mark.slow
@both
@costly
def test_gradient_of_large_problems(name: str, reml: bool) -> None:
    test_gradient(name, reml)


@costly
def test_slope_along_a_direction(name: str) -> None:
    """One complex step along a random direction sees every entry of the gradient at once."""
    problem, _ = STRUCTURES[name]
    model, rng = LMM.from_arrays(*problem.arrays), np.random.default_rng(8)
    for reml, theta in zip((True, False), thetas(problem)[:2], strict=True):
        _, gradient = model.objective(theta, reml=reml, gradient=True)
        for _ in range(3):
            direction = rng.normal(size=len(theta))
            wanted = problem.gradient_along(theta, direction, reml)
            size = largest(gradient * direction)
            assert gradient @ direction == pytest.approx(wanted, abs=GRADIENT * size)


@either
def test_curvature(name: str, reml: bool) -> None:
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays)
    _, inside, boundary = thetas(problem)
    for theta, tolerance in ((inside, CURVATURE), (boundary, FLOOR)):
        wanted = problem.curvature(theta, reml)
        found = model.objective(theta, reml=reml, hessian=True)[1]
        close(found, found.T, largest(wanted), 1e-12)
        close(found, wanted, largest(wanted), tolerance)


@both
@pytest.mark.parametrize("name", ["designed-four", "nested-three", "sparse-2-2", "two-terms"])
def test_curvature_at_zero_is_the_second_derivative(name: str, reml: bool) -> None:
    """Without variance the score says all, and the curvature's diagonal is exact: 2 S[r, r]."""
    problem, _ = STRUCTURES[name]
    zero = np.zeros(problem.ntheta)
    H = LMM.from_arrays(*problem.arrays).objective(zero, reml=reml, hessian=True)[1]
    for e, axis in enumerate(np.eye(problem.ntheta)):
        slope = problem.gradient_along(1e-6 * axis, axis, reml)
        assert slope / 1e-6 == pytest.approx(H[e, e], abs=1e-6 * largest(H))
