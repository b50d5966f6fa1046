"""A model filled again with another response and weights is the one that set-up makes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dense import Problem
from structures import STRUCTURES

from lmmfast import LMM, _core
from lmmfast.data.arrays import design_of
from lmmfast.engine.compiled import Engine

pytestmark = pytest.mark.filterwarnings("ignore::lmmfast.IdentifiabilityWarning")

CASES = [
    ("single-3-diag", "auto"),
    ("designed-four", "auto"),
    ("sparse-3-2", "dense"),
    ("sparse-3-2", "sparse"),
    ("sparse-three", "iterative"),
    ("sparse-five-weighted", "auto"),
    ("nested-three", "auto"),
    ("nested-three-crossed", "dense"),
    ("nested-three-crossed", "sparse"),
    ("no-fixed-weighted", "auto"),
]
every = pytest.mark.parametrize(("name", "storage"), CASES)


def rows(problem: Problem) -> tuple[Any, ...]:
    """What the compiled model is made of."""
    engine = Engine(design_of(*problem.arrays))
    return engine.design.sums.source(engine.design.fixed, engine._groups)


def made(source: tuple[Any, ...], storage: str = "auto") -> _core.Model:
    return _core.Model(*source, storage=storage)


def changed(problem: Problem, seed: int) -> Problem:
    """The same columns with another response and other weights."""
    rng, n = np.random.default_rng(seed), len(problem.y)
    return replace(problem, y=5 * rng.normal(size=n) + 40, weights=rng.uniform(0.2, 3, n))


def readings(model: _core.Model, exact: bool = True) -> list[np.ndarray]:
    """Criterion, derivatives and estimates at one theta, and what a fit ends with."""
    theta = np.random.default_rng(4).normal(size=model.ntheta)
    found = [model.evaluate(theta), *model.derivatives(True)]
    beta, vcov, sigma, b = model.estimates()
    found += [beta, vcov, sigma, *b]
    if exact:
        found += [*model.condvar(), *model.traces()]
    return [np.asarray(one) for one in [*found, *model.fit()[:2]]]


def same_bits(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    for own, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(own, theirs)


@every
def test_other_weights_give_the_model_of_set_up(name: str, storage: str) -> None:
    """Bit for bit, whatever was evaluated before; with weights, with others and without any."""
    first, _ = STRUCTURES[name]
    plain = replace(changed(first, 2), weights=None)
    model = made(rows(first), storage)
    for problem in (changed(first, 1), plain, first):
        source, exact = rows(problem), storage != "iterative"
        readings(model, exact)
        model.refill(*source)
        same_bits(readings(model, exact), readings(made(source, storage), exact))


def test_the_model_stands_nowhere_when_it_is_filled() -> None:
    """The criterion at the theta of the last evaluation is not remembered."""
    first, _ = STRUCTURES["two-terms"]
    other = changed(first, 1)
    model = made(rows(first))
    theta = np.full(model.ntheta, 0.5)
    before = model.evaluate(theta)
    model.refill(*rows(other))
    found = model.evaluate(theta)
    assert found != before
    assert found == pytest.approx(other.objective(theta, True), rel=1e-10)


def test_dropped_columns_stay_dropped() -> None:
    first, _ = STRUCTURES["sparse-3-2"]
    wide = replace(first, X=np.column_stack([first.X[:, :1], first.X[:, :1] * 3, first.X[:, 1:]]))
    model = made(rows(wide))
    assert model.keep.tolist() == [True, False, True]
    source = rows(changed(wide, 1))
    model.refill(*source)
    same_bits(readings(model), readings(made(source)))


def almost(problem: Problem) -> tuple[Problem, Problem]:
    """Two columns of X that differ in one row alone, whose weight is one, and next to nothing."""
    n = len(problem.y)
    twin = problem.X[:, -1:].copy()
    twin[0] += 1
    weights = np.ones(n)
    weights[0] = 1e-14
    wide = replace(problem, X=np.column_stack([problem.X, twin]))
    return wide, replace(wide, weights=weights)


@pytest.mark.parametrize("fewer", [True, False], ids=["fewer", "more"])
def test_other_independent_columns_of_X_are_refused(fewer: bool) -> None:
    """And the model serves again once it is filled with weights that leave them as they were."""
    pair = almost(STRUCTURES["sparse-3-2"][0])
    first, other = pair if fewer else pair[::-1]
    model = made(rows(first))
    assert model.keep.all() == fewer
    with pytest.raises(_core.Dependent):
        model.refill(*rows(other))
    source = rows(replace(first, y=first.y + 1))
    model.refill(*source)
    same_bits(readings(model), readings(made(source)))


def test_dependent_columns_of_a_random_term_are_refused() -> None:
    first, _ = STRUCTURES["sparse-3-2"]
    one, two = first.terms
    z = np.column_stack([one.z[:, :2], one.z[:, 1]])
    z[0, 2] += 1
    first = replace(first, terms=[replace(one, z=z), two])
    weights = np.ones(len(first.y))
    weights[0] = 1e-14
    model = made(rows(first))
    with pytest.raises(_core.Dependent):
        model.refill(*rows(first)[:3], weights)
    model.refill(*rows(first))
    same_bits(readings(model), readings(made(rows(first))))


def test_a_response_without_variance_is_refused() -> None:
    first, _ = STRUCTURES["sparse-3-2"]
    model = made(rows(first))
    with pytest.raises(_core.NoVariance):
        model.refill(first.X @ [3.0, 2.0], *rows(first)[1:])
    model.refill(*rows(first))
    same_bits(readings(model), readings(made(rows(first))))


def test_threads_stay() -> None:
    """Workers' buffers are kept: the same bits with them."""
    first, _ = STRUCTURES["sparse-strips-3"]
    source = rows(changed(first, 1))
    model = made(rows(first))
    model.use_threads(2)
    model.refill(*source)
    same_bits(readings(model), readings(made(source)))


def test_models_of_other_rows_and_of_sums_are_not_filled() -> None:
    first, _ = STRUCTURES["two-terms"]
    model = made(rows(first))
    wanted = readings(model)
    y, X, factors, weights = rows(first)
    for other in (
        (y, X[:, :1], factors, weights),
        (y, X, [*factors, factors[0]], weights),
        rows(STRUCTURES["no-fixed"][0]),
    ):
        with pytest.raises(ValueError, match="not the rows"):
            model.refill(*other)
    same_bits(readings(model), wanted)
    assert LMM.from_arrays(*first.arrays).objective(np.full(model.ntheta, 0.5)) == model.evaluate(
        np.full(model.ntheta, 0.5)
    )
