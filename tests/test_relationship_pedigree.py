"""Pedigrees: order, inbreeding, the inverse of A, and animal models against dense matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from related import Term, generations, objective, solution, tabular

from lmmfast import DataError, Pedigree, Relationship, glmer, lmer


def test_inverse_and_inbreeding_are_those_of_the_tabular_method() -> None:
    for seed, size in ((1, 6), (2, 3), (3, 10)):
        own = generations(120, 120 // size, seed)
        found = Pedigree(own.id, own.sire, own.dam)
        A = tabular(found.sire, found.dam)
        assert found.inbreeding.max() > 0.05
        np.testing.assert_allclose(1 + found.inbreeding, A.diagonal(), atol=1e-12)
        np.testing.assert_allclose(found.relationship(), A, atol=1e-12)
        Q = found.precision().matrix.toarray()
        np.testing.assert_allclose(Q @ A, np.eye(len(A)), atol=1e-10)


def test_order_does_not_matter() -> None:
    own = generations(200, 8, 4)
    one = Pedigree(own.id, own.sire, own.dam)
    mixed = own.sample(frac=1, random_state=1)
    other = Pedigree(mixed.id, mixed.sire, mixed.dam)
    for found in (one, other):
        places = np.arange(len(found))
        assert (found.sire < places).all() and (found.dam < places).all()
    F = pd.Series(other.inbreeding, other.levels)[one.levels]
    np.testing.assert_allclose(F, one.inbreeding, atol=1e-14)


def test_unlisted_and_unknown_parents() -> None:
    found = Pedigree([3, 4, 5], [1, 1.0, 3], [2, np.nan, 0])
    assert sorted(found.levels.tolist()) == [1, 2, 3, 4, 5]
    place = {label: i for i, label in enumerate(found.levels.tolist())}
    assert found.dam[place[4]] == -1 and found.dam[place[5]] == -1
    assert found.sire[place[4]] == place[1]
    zero = Pedigree([0, 1], [None, 0], [None, ""])  # an animal of the name 0
    assert zero.sire.tolist() == [-1, 0]


def test_selfing() -> None:
    found = Pedigree(["p", "s", "t"], ["", "p", "s"], ["", "p", "s"], hermaphrodite=True)
    assert found.inbreeding.tolist() == [0.0, 0.5, 0.75]
    A = tabular(found.sire, found.dam)
    np.testing.assert_allclose(found.precision().matrix @ A, np.eye(3), atol=1e-14)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((["a", "a"], [0, 0], [0, 0]), "'a' is in the pedigree twice"),
        ((["a", "b"], ["b", "a"], [0, 0]), "among its own ancestors"),
        ((["a"], ["a"], [0]), "'a' is its own parent"),
        ((["a", "b", "c"], [0, "a", 0], [0, 0, "a"]), "'a': both a sire and a dam"),
        ((["a", "b"], [0], [0, 0]), "2 animals, 1 sires"),
        ((["a", None], [0, 0], [0, 0]), "has no label"),
    ],
)
def test_pedigrees_that_cannot_be(given: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Pedigree(*given)


def _records(pedigree: Pedigree, n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    animal = rng.integers(0, len(pedigree), n)
    a = np.zeros(len(pedigree))
    F = np.append(pedigree.inbreeding, -1.0)
    d = 0.5 - (F[pedigree.sire] + F[pedigree.dam]) / 4
    for i, (s, m) in enumerate(zip(pedigree.sire, pedigree.dam, strict=True)):
        mean = (a[s] if s >= 0 else 0) / 2 + (a[m] if m >= 0 else 0) / 2
        a[i] = mean + np.sqrt(d[i]) * rng.normal()
    sex = rng.integers(0, 2, n)
    y = 3 + sex + a[animal] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "sex": sex, "animal": pedigree.levels[animal], "place": animal})


def test_a_thousand_animals() -> None:
    own = generations(1000, 10, 6)
    pedigree = Pedigree(own.id, own.sire, own.dam)
    data = _records(pedigree, 750, 7)
    fit = lmer("y ~ sex + (1 | animal)", data, relationship={"animal": pedigree})
    assert fit.converged and fit.model.storage["storage"] == "sparse"
    X = np.column_stack([np.ones(750), data.sex])
    term = Term(data.place.to_numpy(), np.ones((750, 1)), pedigree.relationship())
    value = objective(data.y.to_numpy(), X, [term], fit.theta, True)
    assert fit.objective == pytest.approx(value, abs=1e-8)
    step = 1e-4
    slope = [objective(data.y.to_numpy(), X, [term], fit.theta + s, True) for s in (step, -step)]
    assert (slope[0] - slope[1]) / (2 * step) == pytest.approx(0, abs=1e-3)


def test_a_pedigree_is_its_relationship_matrix() -> None:
    own = generations(300, 6, 8)
    pedigree = Pedigree(own.id, own.sire, own.dam)
    data = _records(pedigree, 250, 9)
    formula = "y ~ sex + (1 + sex | animal)"
    fits = [
        lmer(formula, data, relationship={"animal": given})
        for given in (pedigree, Relationship(pedigree.relationship(), pedigree.levels))
    ]
    assert fits[0].objective == pytest.approx(fits[1].objective, abs=1e-7)
    np.testing.assert_allclose(fits[0].estimates.b[0], fits[1].estimates.b[0], atol=1e-5)
    theta = fits[0].theta
    X = np.column_stack([np.ones(250), data.sex])
    wanted = solution(
        data.y.to_numpy(), X, [Term(data.place.to_numpy(), X, pedigree.relationship())], theta, True
    )
    found = fits[0].point
    np.testing.assert_allclose(fits[0].estimates.b[0], wanted.b[0], atol=1e-7)
    np.testing.assert_allclose(fits[0].scale * found.condvar[0], wanted.errors[0], atol=1e-7)


def test_errors_and_reliabilities_of_breeding_values() -> None:
    """Henderson's mixed model equations: PEV is the random part of their inverse."""
    own = generations(200, 5, 3)
    pedigree = Pedigree(own.id, own.sire, own.dam)
    data = _records(pedigree, 150, 2)
    fit = lmer("y ~ sex + (1 | animal)", data, relationship={"animal": pedigree})
    X = np.column_stack([np.ones(150), data.sex])
    A = pedigree.relationship()
    Z = Term(data.place.to_numpy(), np.ones((150, 1)), A).matrix()
    ratio = 1 / fit.theta[0] ** 2
    left = np.block([[X.T @ X, X.T @ Z], [Z.T @ X, Z.T @ Z + ratio * np.linalg.inv(A)]])
    inverse = np.linalg.inv(left)
    found = fit.reliability()["1 | animal"]["Intercept"]
    pev = fit.scale * inverse.diagonal()[2:]
    np.testing.assert_allclose(found["se"] ** 2, pev, rtol=1e-8)
    wanted = 1 - pev / (A.diagonal() * (fit.theta[0] * fit.sigma) ** 2)
    np.testing.assert_allclose(found["reliability"], wanted, atol=1e-8)
    modes = inverse[2:] @ np.concatenate([X.T @ data.y, Z.T @ data.y])
    np.testing.assert_allclose(found["mode"], modes, atol=1e-8)
    h2 = fit.theta[0] ** 2 / (fit.theta[0] ** 2 + 1)
    assert fit.icc()["adjusted"]["animal"] == pytest.approx(h2)


@pytest.mark.filterwarnings("error")
def test_one_record_an_animal_is_nothing_to_warn_of() -> None:
    own = generations(400, 8, 5)
    pedigree = Pedigree(own.id, own.sire, own.dam)
    data = _records(pedigree, 400, 3).drop_duplicates("animal")
    data["count"] = np.random.default_rng(1).poisson(np.exp(0.5 + 0.3 * (data.y - data.y.mean())))
    given = {"animal": pedigree}
    assert lmer("y ~ sex + (1 | animal)", data, relationship=given).converged
    assert glmer("count ~ sex + (1 | animal)", data, "poisson", relationship=given).converged
