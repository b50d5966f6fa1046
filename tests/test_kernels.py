"""Every way of storing and eliminating, against the definition in dense algebra."""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pytest
from conftest import close, covering
from dense import Problem, Solution
from structures import STRUCTURES

import lmmfast
from lmmfast import LMM

pytestmark = pytest.mark.filterwarnings("ignore::lmmfast.IdentifiabilityWarning")

OBJECTIVE = 1e-10  # relative
ESTIMATE = 1e-8  # of the largest entry

both = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
every = pytest.mark.parametrize("name", STRUCTURES)
# The two criteria share all but a few lines: every structure with one of them, if slow with both
either = pytest.mark.parametrize(("name", "reml"), covering(product(STRUCTURES, (True, False))))


def thetas(problem: Problem) -> list[np.ndarray]:
    """Two random points, and one with a column of zeros in every T."""
    rng = np.random.default_rng(problem.ntheta)
    points = [rng.normal(size=problem.ntheta) * scale for scale in (0.5, 2.0, 1.0)]
    at = 0
    for term in problem.terms:
        for i, (_, c) in enumerate(term.free):
            if c == term.z.shape[1] - 1:
                points[2][at + i] = 0
        at += len(term.free)
    return points


def estimates_at(model: LMM, theta: np.ndarray, reml: bool) -> lmmfast.LMMFit:
    """Estimates at the starting value: a fit of one evaluation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.ConvergenceWarning)
        return model.fit(start=theta, max_evals=1, reml=reml)


def largest(a: np.ndarray) -> float:
    return float(np.abs(a).max(initial=1e-300))


def same_solution(fit: lmmfast.LMMFit, problem: Problem, wanted: Solution) -> None:
    found = fit.estimates
    assert found.objective == pytest.approx(wanted.objective, rel=OBJECTIVE)
    close(found.beta, wanted.beta, largest(wanted.beta), ESTIMATE)
    close(found.vcov, wanted.vcov, largest(wanted.vcov), ESTIMATE)
    close(found.sigma, wanted.sigma, wanted.sigma, ESTIMATE)
    scale = max(map(largest, wanted.b))
    for own, theirs in zip(found.b, wanted.b, strict=True):
        close(own, theirs, scale, ESTIMATE)
    variances = fit.model.condvar(fit.theta)
    for own, theirs in zip(variances, wanted.condvar, strict=True):
        close(own, theirs, max(largest(theirs), 1e-6), ESTIMATE)


@every
def test_storage_is_the_one_that_is_meant(name: str) -> None:
    problem, storage = STRUCTURES[name]
    found = LMM.from_arrays(*problem.arrays).storage
    assert (found["eliminated"], found["full"], found["order"]) == storage


@both
@every
def test_objective(name: str, reml: bool) -> None:
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays)
    for theta in thetas(problem):
        wanted = problem.objective(theta, reml)
        assert model.objective(theta, reml=reml) == pytest.approx(wanted, rel=OBJECTIVE)


@either
def test_estimates(name: str, reml: bool) -> None:
    problem, _ = STRUCTURES[name]
    theta = thetas(problem)[0]
    fit = estimates_at(LMM.from_arrays(*problem.arrays), theta, reml)
    same_solution(fit, problem, problem.solve(fit.theta, reml))
    turned = zip(problem.factors(theta), fit.estimates.T, strict=True)
    for (_, T), found in turned:  # the start itself, up to the signs of its columns
        assert found @ found.T == pytest.approx(T @ T.T, rel=1e-8, abs=1e-3)


@pytest.mark.parametrize(
    "name",  # 17 columns on 13 levels take many evaluations and prove nothing more
    [name for name in STRUCTURES if not name.startswith(("sparse-", "single-17"))],
)
def test_estimates_at_the_optimum(name: str) -> None:
    """These are singular in part: exact zeros on the diagonal of T."""
    problem, _ = STRUCTURES[name]
    fit = LMM.from_arrays(*problem.arrays).fit()
    assert fit.converged
    same_solution(fit, problem, problem.solve(fit.theta, True))


@both
def test_new_response_replaces_all_of_the_old(reml: bool) -> None:
    """refit on every structure: only y's cross-products are made anew."""
    rng = np.random.default_rng(3)
    for name in ("two-terms", "designed-four", "sparse-five-weighted", "nested-three-crossed"):
        problem, _ = STRUCTURES[name]
        y = rng.normal(size=len(problem.y)) * 5 + 100
        fit = LMM.from_arrays(*problem.arrays).fit(reml=reml)
        other = fit.refit(y)
        fresh = Problem(y, problem.X, problem.terms, problem.weights, problem.offset)
        same_solution(other, fresh, fresh.solve(other.theta, reml))
        again = fit.refit(problem.y)  # and back
        assert again.objective == pytest.approx(fit.objective, rel=1e-9)


@every
def test_refilled_models_are_new_ones(name: str) -> None:
    """Another response and other weights in a model's memory: not a bit differs, there and back."""
    problem, _ = STRUCTURES[name]
    rng = np.random.default_rng(5)
    y = problem.y + rng.normal(size=len(problem.y))
    w = 10 ** rng.uniform(-1.5, 1.5, len(y))
    model = LMM.from_arrays(*problem.arrays)
    changed = Problem(y, problem.X, problem.terms, w, problem.offset)
    fresh = LMM.from_arrays(*changed.arrays)
    theta = rng.normal(size=model.ntheta)
    before = model.objective(theta, gradient=True, hessian=True)
    sums = model.design.with_rows(y=y, weights=w).sums
    point, wanted = model.point(theta, sums=sums), fresh.point(theta)
    assert point.value == wanted.value
    np.testing.assert_array_equal(point.gradient, wanted.gradient)
    np.testing.assert_array_equal(point.information, wanted.information)
    for own, new in zip(point.projection[1], wanted.projection[1], strict=True):
        np.testing.assert_array_equal(own, new)
    for own, old in zip(model.objective(theta, gradient=True, hessian=True), before, strict=True):
        np.testing.assert_array_equal(own, old)


def test_weights_under_which_other_columns_are_independent() -> None:
    """A refit says so, and the model serves its own fit as before."""
    rng = np.random.default_rng(6)
    codes, x = np.repeat(np.arange(8), 5), rng.normal(size=40)
    X = np.column_stack([np.ones(40), x, x + np.where(np.arange(40) == 3, 1.0, 0)])
    fit = LMM.from_arrays(rng.normal(size=40), X, [(codes, None)]).fit()
    w = np.where(np.arange(40) == 3, 1e-20, 1.0)
    with pytest.raises(lmmfast.FitError, match="other columns are linearly independent"):
        fit.refit(weights=w)
    again = fit.model.fit()
    assert again.objective == fit.objective
    with pytest.raises(lmmfast.FitError, match="linear combination of the fixed effects"):
        fit.refit(X @ [1.0, 2.0, 3.0])
    assert fit.refit(weights=np.ones(40)).objective == pytest.approx(fit.objective, rel=1e-12)


@pytest.mark.parametrize("name", ["two-terms", "designed-four", "sparse-2-2", "nested-three"])
def test_the_other_likelihood_at_the_theta_of_a_fit(name: str) -> None:
    """What a fit leaves behind is of its criterion: estimates of the other one are made anew."""
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays)
    for reml in (True, False):
        theta = model.fit(reml=reml).theta
        other = model.at(theta, reml=not reml)
        same_solution(other, problem, problem.solve(theta, not reml))
        again = model.at(theta, reml=reml)
        same_solution(again, problem, problem.solve(theta, reml))
