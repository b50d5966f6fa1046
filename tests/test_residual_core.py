"""The compiled criterion with a residual structure, its slopes and fits against the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import covering
from dense_residual import Dense

from lmmfast import _core

VISITS = 5
KINDS = ["", "ar1", "car1", "cs", "ante"]


def problem(
    seed: int, shape: str, deviations: str, kind: str, reml: bool, weighted: bool
) -> tuple[Dense, dict[str, Any]]:
    """Unbalanced subjects with gaps, rows in any order; and what `structure` takes."""
    rng = np.random.default_rng(seed)
    subjects = 30
    counts = rng.integers(1, VISITS + 1, subjects)
    counts[0] = VISITS
    subject = np.repeat(np.arange(subjects), counts)
    time = np.concatenate([rng.choice(VISITS, k, replace=False) for k in counts]).astype(float)
    order = rng.permutation(len(subject))
    subject, time = subject[order].astype(np.int32), time[order]
    if kind == "car1":
        time = time + 0.3 * rng.random(len(time))
    n = len(subject)
    x = rng.normal(size=n) + 3
    X = np.column_stack([np.ones(n), x, rng.normal(size=n)])
    slopes, one = np.column_stack([np.ones(n), x]), np.ones((n, 1))
    terms = {
        "one": [(subject, slopes)],
        "nested": [(subject, one), ((subject // 5).astype(np.int32), one)],
        "crossed": [(subject, slopes), (rng.permutation(n).astype(np.int32) % 7, one)],
        "three": [
            (subject, one),
            ((subject // 5).astype(np.int32), one),
            (rng.permutation(n).astype(np.int32) % 6, slopes),
        ],
    }[shape]
    y = X @ [1, 0.5, 0.2] + rng.normal(size=n) * (1 + (x > 3)) + rng.normal(size=subjects)[subject]
    w = rng.uniform(0.5, 2, n) if weighted else None
    given: dict[str, Any] = {}
    columns = np.zeros((n, 0))
    if deviations == "strata":
        given["stratum"] = rng.integers(-1, 2, n).astype(np.int32)
        columns = (given["stratum"][:, None] == np.arange(2)).astype(float)
    elif deviations == "columns":
        columns = given["columns"] = np.asfortranarray(rng.normal(size=(n, 2)))
    if kind:
        count = VISITS - 1 if kind == "ante" else 1
        given |= {"kind": kind, "count": count, "subject": subject, "time": time}
    return Dense(y, X, terms, columns, kind, subject, time, w, reml), given


def compiled(own: Dense, given: dict[str, Any], storage: str = "auto") -> Any:
    factors = [
        (codes, int(codes.max()) + 1, np.ascontiguousarray(z), np.zeros(z.shape[1], np.int32))
        for codes, z in own.terms
    ]
    source = (own.y, np.asfortranarray(own.X), factors, own.weights)
    model = _core.ResidualModel(*source, storage=storage)
    model.structure(source, **given)
    return model


def place(own: Dense, model: Any, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    theta = np.concatenate([[0.7, 0.2, 0.5] if z.shape[1] == 2 else [0.6] for _, z in own.terms])
    return np.concatenate([theta, rng.uniform(0.2, 0.9, model.ndelta)])


CASES = [
    (shape, deviations, kind)
    for shape in ("one", "nested", "crossed", "three")
    for deviations in ("", "strata", "columns")
    for kind in KINDS
    if (deviations or kind) and not (kind and shape in ("crossed", "three"))
]


@pytest.mark.parametrize(
    ("shape", "deviations", "kind", "reml"),
    covering([(*case, reml) for case in CASES for reml in (True, False)], together=2),
)
def test_criterion_and_slopes(shape: str, deviations: str, kind: str, reml: bool) -> None:
    own, given = problem(1, shape, deviations, kind, reml, weighted=reml)
    for storage in ("dense", "sparse") if shape in ("crossed", "three") else ("auto",):
        model = compiled(own, given, storage)
        psi = place(own, model, 2)
        model.place(psi[own.ntheta :])
        f = model.evaluate(psi[: own.ntheta], reml)
        assert f == pytest.approx(own.objective(psi), rel=1e-11)
        g, slope, _ = model.slopes()
        np.testing.assert_allclose(np.append(g, slope), own.gradient(psi), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("reml", [True, False])
def test_products_are_derivatives_of_estimates(reml: bool) -> None:
    own, given = problem(3, "nested", "strata", "ar1", reml, weighted=True)
    model = compiled(own, given)
    psi, step = place(own, model, 4), 1e-5
    model.place(psi[own.ntheta :])
    model.evaluate(psi[: own.ntheta], reml)
    E, G = model.basis()[0], model.slopes()[2]
    for j in range(model.ndelta):
        h = step * np.eye(len(psi))[own.ntheta + j]
        (_, _, C, r2), (_, _, C0, r20) = own.solved(psi + h), own.solved(psi - h)
        np.testing.assert_allclose(-E @ G[j, :-1, :-1] @ E.T, (C - C0) / (2 * step), atol=1e-8)
        assert G[j, -1, -1] == pytest.approx((r2 - r20) / (2 * step), rel=1e-6)


# cs says what a random intercept says; antedependence has many parameters for so few rows
FITTED = [case for case in CASES if case[2] != "cs" and not (case[2] == "ante" and case[1])]


@pytest.mark.parametrize(("shape", "deviations", "kind"), FITTED)
def test_fits_end_where_the_definition_is_flat(shape: str, deviations: str, kind: str) -> None:
    own, given = problem(5, shape, deviations, kind, True, weighted=False)
    model = compiled(own, given)
    start = np.zeros(model.ndelta)
    start[own.columns.shape[1] :] = 0.3
    found, delta = model.fit_all(start)
    assert found[-1] == "converged"
    psi = np.concatenate([found[0], delta])
    assert found[1] == pytest.approx(own.objective(psi), abs=1e-8)
    slope, theta = own.gradient(psi), found[0]
    at = np.concatenate([np.abs(theta) > 1e-5, np.ones(model.ndelta, bool)])
    assert np.abs(slope[at]).max() < 1e-3
    assert (slope[: own.ntheta][np.abs(theta) <= 1e-5] > -1e-3).all()


def test_held_parameters_stay() -> None:
    own, given = problem(6, "one", "strata", "ar1", True, weighted=False)
    model = compiled(own, given)
    whole = model.fit_all(np.array([0.0, 0.0, 0.3]))[0][1]
    found, delta = model.fit_all(np.array([0.0, 0.4, 0.3]), held=np.array([0, 1, 0]))
    assert delta[1] == 0.4
    assert found[1] > whole


def test_a_plane_of_theta_and_delta_together() -> None:
    own, given = problem(7, "nested", "columns", "ar1", True, weighted=False)
    model = compiled(own, given)
    free, _ = model.fit_all(np.array([0.0, 0.0, 0.3]))
    plane = np.array([0.0, 0.4]), np.array([[1.0], [0.0]], order="F")
    held, other = model.fit_all(np.array([0.0, 0.0, 0.3]), np.array([0.5]), plane=plane)
    assert held[0][1] == 0.4
    psi = np.concatenate([held[0], other])
    slope = own.gradient(psi)
    assert np.abs(slope[[0, 2, 3, 4]]).max() < 1e-3
    assert held[1] >= free[1] - 1e-9


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"count": 2}, "one parameter"),
        ({"time": np.array([1.0])}, "time for each row"),
        ({"kind": "ante", "count": 3}, "visits"),
        ({"subject": None}, "subject and a time"),
    ],
)
def test_what_is_no_structure_is_refused(change: dict[str, Any], match: str) -> None:
    own, given = problem(9, "one", "", "ar1", True, weighted=False)
    with pytest.raises(ValueError, match=match):
        compiled(own, given | change)


def test_factors_that_vary_within_subjects_are_refused() -> None:
    own, given = problem(8, "crossed", "", "ar1", True, weighted=False)
    with pytest.raises(_core.Unavailable):
        compiled(own, given)
