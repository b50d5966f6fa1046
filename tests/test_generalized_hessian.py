"""Second derivatives of generalized models, beside differences of the dense model's gradient."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import close, covering
from dense_glmm import DenseGeneralized
from test_dense_glmm import LINKS, simulated
from test_generalized import compiled

from lmmfast import _core

PRIOR = (np.array([0.1, -0.2]), np.array([0.5, 2.0]))


# Derivatives of rows are checked for every family and link (test_dense_glmm): here each of both
STORAGES = [("dense", name, link) for name, link in LINKS]
STORAGES += [("sparse", "binomial", "logit"), ("sparse", "gamma", "log")]


def differences(dense: DenseGeneralized, psi: np.ndarray, count: int, step: float) -> np.ndarray:
    """Second derivatives in the first parameters by central differences of the exact gradient."""
    out = np.empty((count, count))
    for j in range(count):
        moved = step * (np.arange(len(psi)) == j)
        up, down = (dense.value(psi + side * moved, True)[1] for side in (1, -1))
        out[j] = (up - down)[:count] / (2 * step)
    return (out + out.T) / 2


@pytest.mark.parametrize(("storage", "name", "link"), covering(STORAGES))
def test_hessian_is_that_of_differences(storage: str, name: str, link: str) -> None:
    dense, psi = simulated(name, link)
    model = compiled(dense, storage=storage)
    k = len(psi) - model.nextra
    wanted = differences(dense, psi, k, 5e-5)
    found = model.hessian(psi)
    size = np.sqrt(np.abs(wanted.diagonal()))
    close(found, wanted, np.outer(size, size), 5e-6)
    np.testing.assert_array_equal(found, found.T)
    again = model.value(psi, True)  # the model is where it was
    close(again[1], dense.value(psi, True)[1], np.maximum(1, np.abs(again[1])), 1e-7)


def test_readings_after_a_hessian_are_those_before() -> None:
    dense, psi = simulated("poisson", "log")
    model = compiled(dense)
    model.value(psi, True)
    before = model.condvar(), model.leverages(), model.modes(), model.predictor()
    model.hessian(psi)
    after = model.condvar(), model.leverages(), model.modes(), model.predictor()
    for own, other in zip(before, after, strict=True):
        for one, two in zip(own, other, strict=True):
            close(two, one, np.maximum(1, np.abs(one)), 1e-10)


def test_hessian_with_a_prior_has_its_precision() -> None:
    dense, psi = simulated("binomial", "logit")
    plain, with_prior = compiled(dense), compiled(dense, prior=PRIOR)
    first = dense.ntheta
    more = np.zeros((first + 2, first + 2))
    more[first:, first:] = np.diag(2 * PRIOR[1])
    close(with_prior.hessian(psi) - plain.hessian(psi), more, 1.0, 1e-8)


def test_hessian_where_a_column_of_t_is_zero() -> None:
    dense, psi = simulated("binomial", "logit")
    psi[2] = 0.0
    found = compiled(dense).hessian(psi)
    wanted = differences(dense, psi, len(psi), 5e-5)
    free = np.array([0, 1, 3, 4, 5])
    size = np.sqrt(np.abs(wanted.diagonal()[free]))
    close(found[np.ix_(free, free)], wanted[np.ix_(free, free)], np.outer(size, size), 1e-5)


def test_other_criteria_have_no_formula() -> None:
    dense, psi = simulated("binomial", "probit")
    assert compiled(dense, information="expected").hessian(psi) is None
    y, groups = np.array([0.0, 1, 1, 0, 1, 0]), np.array([0, 0, 1, 1, 2, 2], np.int32)
    factor = (groups, 3, np.ones((6, 1)), np.zeros(1, np.int32))
    nodes = _core.Generalized(y, np.ones((6, 1), order="F"), [factor], nagq=5)
    assert nodes.hessian(np.array([0.5, 0.1])) is None
