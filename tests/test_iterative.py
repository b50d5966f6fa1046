"""The iterative trailing matrix: what is exact, what is estimated, and how true its errors are."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from conftest import close, covering
from dense import Problem
from structures import problem
from test_kernels import largest

import lmmfast
from lmmfast import LMM
from lmmfast.data.arrays import design_of

pytestmark = pytest.mark.filterwarnings("ignore::lmmfast.IdentifiabilityWarning")


def crossed(
    seed: int, n: int, levels: tuple[int, int], widths: tuple[int, int], fixed: int = 2
) -> Problem:
    """Two factors that cross at random."""
    rng = np.random.default_rng(seed)
    codes = [rng.permutation(np.arange(n) % m) for m in levels]
    return problem(rng, codes, list(widths), fixed=fixed)


def both_ways(made: Problem) -> tuple[LMM, LMM]:
    design = design_of(*made.arrays)
    return LMM(design, storage="iterative"), LMM(design, storage="dense")


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize(
    ("levels", "widths"),
    [((60, 8), (1, 1)), ((60, 4), (2, 2)), ((60, 2), (1, 3)), ((20, 2), (7, 1))],
)
def test_few_trailing_columns_leave_nothing_to_chance(
    levels: tuple[int, int], widths: tuple[int, int], reml: bool
) -> None:
    """The directions that are treated exactly are all there are: the definition, without error."""
    made = crossed(3, 160, levels, widths)
    model = LMM.from_arrays(*made.arrays, storage="iterative")
    assert model.storage["storage"] == "iterative" and model.storage["order"] <= 8
    for scale in (0.5, 10.0):
        theta = np.random.default_rng(1).normal(size=made.ntheta) * scale
        f, g, H = model.objective(theta, reml=reml, gradient=True, hessian=True)
        assert f == pytest.approx(made.objective(theta, reml), rel=1e-9)
        wanted = made.gradient(theta, reml)
        close(g, wanted, largest(wanted) + 1e-6 * np.abs(H).max(axis=1), 1e-7)
        assert model.monte_carlo(theta, reml=reml)[0] < 1e-9


def nested(
    seed: int, n: int, chain: tuple[int, ...], trailing: tuple[int, ...], widths: tuple[int, ...]
) -> Problem:
    """A chain of factors, each nested in the next, and factors that cross it at random."""
    rng = np.random.default_rng(seed)
    codes = [rng.permutation(np.arange(n) % chain[0])]
    for coarser in chain[1:]:
        codes.append(codes[-1] % coarser)
    codes += [rng.permutation(np.arange(n) % m) for m in trailing]
    return problem(rng, codes, list(widths), fixed=2)


@pytest.mark.parametrize(
    ("chain", "trailing", "widths", "reml"),
    covering(
        (*shape, reml)
        for shape in [
            ((60, 12), (8,), (1, 1, 1)),
            ((60, 12), (4,), (2, 1, 2)),
            ((60, 12), (2,), (1, 4, 3)),
            ((80, 20, 10), (6,), (1, 2, 1, 1)),
            ((80, 40, 10), (2, 2), (4, 1, 1, 2, 1)),
        ]
        for reml in (True, False)
    ),
)
def test_chains_of_nested_factors_are_eliminated_too(
    chain: tuple[int, ...], trailing: tuple[int, ...], widths: tuple[int, ...], reml: bool
) -> None:
    """A chain goes whole before the iterations begin; its derivatives are exact all the same."""
    made = nested(4, 400, chain, trailing, widths)
    model = LMM.from_arrays(*made.arrays, storage="iterative")
    assert model.storage["eliminated"] == len(chain) and model.storage["order"] <= 8
    for scale in (10.0, 0.5):
        theta = np.random.default_rng(1).normal(size=made.ntheta) * scale
        f, g, H = model.objective(theta, reml=reml, gradient=True, hessian=True)
        assert f == pytest.approx(made.objective(theta, reml), rel=1e-9)
        wanted = made.gradient(theta, reml)
        close(g, wanted, largest(wanted) + 1e-6 * np.abs(H).max(axis=1), 1e-7)
    found, exact = (one.at(theta).estimates for one in both_ways(made))
    for one, other in zip(found.b, exact.b, strict=True):
        close(one, other, largest(other), 1e-8)


@pytest.mark.parametrize("fixed", [6, 7, 8, 15, 16, 17])
def test_many_fixed_effects_are_exact(fixed: int) -> None:
    """Solutions for X and y come in blocks of eight; none is estimated."""
    iterative, dense = both_ways(crossed(5, 600, (90, 50), (1, 2), fixed))
    theta = np.array([0.8, 0.6, -0.3, 0.5])
    found, wanted = iterative.at(theta).estimates, dense.at(theta).estimates
    close(found.beta, wanted.beta, largest(wanted.beta), 1e-9)
    close(found.vcov, wanted.vcov, largest(wanted.vcov), 1e-9)
    assert found.sigma == pytest.approx(wanted.sigma, rel=1e-9)
    for one, other in zip(found.b, wanted.b, strict=True):
        close(one, other, largest(other), 1e-8)
    H, exact = (model.objective(theta, hessian=True)[1] for model in (iterative, dense))
    # the boundary term of a T is estimated, it lies within the columns: across factors nothing is
    close(H[0, 1:], exact[0, 1:], largest(exact), 1e-8)


def test_stated_errors_are_those_that_are_made() -> None:
    """Over many designs: errors of the criterion and of theta in units of those that are stated.

    A standard error from 16 random vectors has 15 degrees of freedom: the mean square of an error
    in its units is 15/13 in expectation.
    """
    objective, optimum, slope = [], [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        levels = (90 + seed, 40 + seed // 2)
        iterative, dense = both_ways(crossed(seed, 700, levels, (1, 1 + seed % 2)))
        diagonal = np.array([row == column for _, row, column in iterative.theta_entries])
        theta = np.where(diagonal, rng.uniform(0.6, 1.0, iterative.ntheta), 0.0)
        f, g, H = iterative.objective(theta, gradient=True, hessian=True)
        exact, exact_g = dense.objective(theta, gradient=True)
        se, cov = iterative.monte_carlo(theta)
        objective.append((f - exact) / se)
        optimum.append(np.linalg.solve(H, g - exact_g) / np.sqrt(np.diag(cov)))
        slope.append((g - exact_g) / np.sqrt(np.diag(H @ cov @ H)))
    for errors in (objective, np.concatenate(optimum), np.concatenate(slope)):
        square = np.mean(np.square(errors))
        assert 0.7 < square < 1.5
        assert abs(np.mean(errors)) < 0.3


def path(levels: int) -> tuple[np.ndarray, list[tuple[np.ndarray, None]]]:
    """Each level of one factor meets two of the other, the next ones: what hardly crosses."""
    row = np.arange(2 * levels)
    y = np.random.default_rng(0).normal(size=2 * levels)
    return y, [(row // 2, None), ((row + 1) // 2, None)]


def test_iterations_that_do_not_converge_are_an_error() -> None:
    y, terms = path(1100)
    model = LMM.from_arrays(y, np.ones((len(y), 1)), terms, storage="iterative")
    theta = [1e3, 1e3]
    for ask in (
        lambda: model.objective(theta),
        lambda: model.at(theta),
        lambda: model.fit(start=theta, max_evals=1),
    ):
        with pytest.raises(lmmfast.FitError, match=r"did not converge.*hardly cross"):
            ask()
    assert np.isfinite(model.objective([1.0, 1.0]))  # the failure is forgotten


def test_curvature_that_does_not_converge_is_an_error() -> None:
    """A smooth response takes few iterations, what the curvature is made of takes too many."""
    noise, terms = path(400)
    y = np.sin(np.linspace(0, 3, len(noise))) + 1e-6 * noise
    model = LMM.from_arrays(y, np.empty((len(y), 0)), terms, storage="iterative")
    theta = [1e6, 1e6]
    assert np.isfinite(model.objective(theta, gradient=True)[0])
    with pytest.raises(lmmfast.FitError, match=r"did not converge.*hardly cross"):
        model.objective(theta, hessian=True)


def test_solutions_that_do_not_converge_are_forgotten() -> None:
    """The next right-hand side is tried, and it has a solution."""
    noise, terms = path(500)
    y = np.sin(np.linspace(0, 3, len(noise))) + 1e-6 * noise
    point = LMM.from_arrays(y, np.empty((len(y), 0)), terms, storage="iterative").point([1e6, 1e6])
    rng = np.random.default_rng(0)
    V = [rng.normal(size=(*b.shape, 1)) for b in point.b]
    with pytest.raises(lmmfast.FitError, match=r"did not converge.*hardly cross"):
        point.solve(V)
    assert not any(X.any() for X in point.solve([0 * v for v in V]))


def test_estimated_criteria_lead_as_straight_to_the_optimum() -> None:
    """Steps are judged by the integral of the gradient: that of a quadratic in Sigma is exact."""
    for seed in range(6):
        made = crossed(seed, 4000, (300, 160), (1 + seed % 2, 2))
        iterative, dense = both_ways(made)
        fit = iterative.fit()
        assert fit.converged
        assert fit.n_evals <= dense.fit().n_evals + 1
        start = np.full(made.ntheta, 5.0) * (1 - np.arange(made.ntheta) % 2 / 2)
        far = iterative.fit(start=start)
        assert far.n_evals <= dense.fit(start=start).n_evals + 2
        assert far.theta == pytest.approx(fit.theta, abs=1e-3)


def test_objectives_of_a_fit_fall_as_the_criterion_does() -> None:
    """From one evaluation to the next the estimated gradient is integrated: near the optimum, where
    the criterion is a quadratic, a trapezoid is right but for what chance does to the gradient."""
    iterative, dense = both_ways(crossed(1, 4000, (300, 160), (2, 2)))
    wanted = dense.fit()
    start = wanted.theta * [1.1, 1, 0.9, 1.1, 1, 1.1]
    seen: list[float] = []
    fit = iterative.fit(start=start, callback=lambda e: seen.append(e.objective))
    assert fit.converged
    fall = dense.objective(start) - wanted.objective
    assert fall > 1
    assert seen[0] - min(seen) == pytest.approx(fall, rel=0.1)


@pytest.mark.parametrize("noise", [4e-5, 1.2e-5])
def test_criteria_that_rounding_hides_are_not_certified(noise: float) -> None:
    """Two factors explain all but so little: the residual sum of squares has few digits left.

    Its relative error is that of the sum of squares it is taken from; times the residual degrees of
    freedom that of the criterion, of which a thousandth is allowed.
    """
    rng = np.random.default_rng(0)
    row = np.arange(900)
    codes = row % 30, row // 30
    y = sum(rng.normal(size=30)[own] for own in codes) + noise * rng.normal(size=900)
    design = design_of(y, np.ones((900, 1)), [(own, None) for own in codes], None, None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit = LMM(design, storage="iterative").fit()
    bound = np.finfo(float).eps * 899 * (1 + 900 * y.var() / (899 * fit.sigma**2))
    assert 1e-4 < bound < 1e-2
    assert fit.converged == (bound < 1e-3)
    if not fit.converged:
        (known,) = re.findall(r"uncertain by about ([0-9.e-]+);", str(said[-1].message))
        assert float(known) == pytest.approx(bound, rel=0.05)
