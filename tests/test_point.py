"""Readings of one evaluation, against the definition in dense algebra, in any order."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from conftest import close, covering
from dense import Problem, Term
from structures import STRUCTURES

import lmmfast
from lmmfast import LMM, FitError
from lmmfast.engine.point import Point

pytestmark = pytest.mark.filterwarnings("ignore::lmmfast.IdentifiabilityWarning")

READING = 1e-9  # of the largest entry

NAMES = [
    "single-1-full",
    "single-3-diag",
    "single-8-full",
    "three-terms",
    "no-fixed",
    "designed-2-1",
    "designed-3-4",
    "designed-four",
    "designed-diag",
    "sparse-1-1",
    "sparse-3-2",
    "sparse-5-4",
    "sparse-three",
    "sparse-no-fixed",
    "sparse-strips",
    "sparse-strips-3",
    "apart",
    "apart-trailing",
    "nested-1-1",
    "nested-3-5",
    "nested-three",
    "nested-diag",
    "nested-crossed",
    "nested-three-crossed",
    "nested-shared-terms",
    "no-fixed-weighted",
    "sparse-five-weighted",
    "nested-shared-terms-weighted",
]
SPARSE = [
    "sparse-1-1",
    "sparse-3-2",
    "sparse-fixed",  # more rows of X and parameters than the loops over lists take at a time
    "sparse-strips",
    "nested-crossed",
    "nested-three-crossed",
]
ITERATIVE = ["sparse-1-1", "sparse-three"]


def cases() -> Iterator[Any]:
    for name in NAMES:
        yield pytest.param(name, "auto", id=name)
    for name in SPARSE:
        yield pytest.param(name, "sparse", id=f"{name}-sparse")


exact = pytest.mark.parametrize(("name", "storage"), list(cases()))
# The definition costs n^3 for each parameter; other readings need the strips as well
lighter = pytest.mark.parametrize(
    ("name", "storage"),
    [
        pytest.param(
            *case.values, id=case.id, marks=pytest.mark.slow if "strips" in case.id else ()
        )
        for case in cases()
    ],
)


def thetas(problem: Problem) -> list[np.ndarray]:
    """A random point, one with a column of zeros in every T, one of rank one, and zero."""
    rng = np.random.default_rng(problem.ntheta + 1)
    points = [rng.normal(size=problem.ntheta) for _ in range(3)]
    at = 0
    for term in problem.terms:
        k = term.z.shape[1]
        for i, (r, c) in enumerate(term.free):
            if c == k - 1:
                points[1][at + i] = 0
            if c > 0 and (r, c) in term.free:
                points[2][at + i] = 0
        at += len(term.free)
    return [*points, np.zeros(problem.ntheta)]


def split(problem: Problem, rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """q x r by term, m x k x r."""
    sizes = [(term.levels, term.z.shape[1]) for term in problem.terms]
    cuts = np.cumsum([m * k for m, k in sizes])[:-1]
    parts = np.split(rows, cuts)
    return tuple(part.reshape(m, k, -1) for part, (m, k) in zip(parts, sizes, strict=True))


def same(found: tuple[np.ndarray, ...], wanted: tuple[np.ndarray, ...], limit: float) -> None:
    scale = max(max(np.abs(one).max(initial=0) for one in wanted), 1e-6)
    for own, theirs in zip(found, wanted, strict=True):
        close(own, theirs, scale, limit)


def right_hand_sides(problem: Problem, r: int) -> np.ndarray:
    q = sum(term.levels * term.z.shape[1] for term in problem.terms)
    return np.random.default_rng(r).normal(size=(q, r))


@exact
def test_squares(name: str, storage: str) -> None:
    """Sums over levels that derivatives of r^2 are made of, after derivatives and without them."""
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays, storage=storage)
    core, p = model._core, problem.X.shape[1]
    for theta, derivatives in zip(thetas(problem), (True, False, True, False), strict=True):
        own = model._engine.checked(theta)
        for j in {-1, 0, p - 1} if p else {-1}:
            core.evaluate(own, True)
            if derivatives:
                core.derivatives(True)
            r2, beta, column, M = core.squares(j)
            G, g = core.projection()
            wanted, vcov, sigma, _ = core.estimates()
            assert M.shape[0] == (1 if j < 0 else 3)
            assert r2 == pytest.approx(problem.degrees(True) * sigma**2, rel=READING)
            assert beta == pytest.approx(wanted, rel=READING, abs=READING)
            sums = np.zeros_like(M)
            at = 0
            for one, other in zip(g, G, strict=True):
                block = slice(at, at + one.shape[1])
                sums[0, block, block] = one.T @ one
                if j >= 0:
                    h = other[:, :, j]
                    sums[1, block, block] = one.T @ h + h.T @ one
                    sums[2, block, block] = h.T @ h
                at = block.stop
            for found, expected in zip(M, sums, strict=True):
                close(found, expected, max(np.abs(expected).max(), 1e-6), READING)
            if j >= 0:
                close(column, vcov[:, j] / sigma**2, np.abs(vcov).max() / sigma**2, READING)
    with pytest.raises(IndexError, match="columns"):
        core.squares(p)


@exact
def test_solve(name: str, storage: str) -> None:
    """B V for one, a few and many right-hand sides."""
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays, storage=storage)
    for theta, r in zip(thetas(problem), (1, 5, 70, 3), strict=True):
        V, B = right_hand_sides(problem, r), problem.remaining(theta)
        same(model.point(theta).solve(split(problem, V)), split(problem, B @ V), READING)


def changes_of_covariance(problem: Problem, model: LMM) -> list[np.ndarray]:
    """Derivatives G_r of V in the entries of relative covariance matrices of whitened columns."""
    G = []
    for term, C in zip(problem.terms, model._engine.whitening(), strict=True):
        z, together = term.z @ C, term.codes[:, None] == term.codes
        for r, c in term.free:
            half = np.outer(z[:, r], z[:, c]) * together
            G.append(half if r == c else half + half.T)
    return G


@pytest.mark.parametrize(
    ("name", "storage", "reml"),
    covering((*case.values, reml) for case in cases() for reml in (True, False)),
)
def test_hessian(name: str, storage: str, reml: bool) -> None:
    """Gradient and Hessian in the entries of covariance matrices, singular ones too."""
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays, storage=storage)
    G, X, nu = changes_of_covariance(problem, model), problem.X, problem.degrees(reml)
    for theta in thetas(problem):
        inverse = np.linalg.inv(problem.covariance(theta))
        P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
        Py, M = P @ problem.response(), P if reml else inverse
        r2, moved = problem.response() @ Py, np.array([one @ Py for one in G])
        a, MG = moved @ Py, np.array([M @ one for one in G])
        trace, traces = np.trace(MG, axis1=1, axis2=2), np.einsum("rij,sji->rs", MG, MG)
        second = nu * (2 * moved @ P @ moved.T / r2 - np.outer(a, a) / r2**2) - traces
        found = model.point(theta, reml=reml).hessian
        close(found[0], trace - nu * a / r2, np.abs(trace).max(), READING)
        close(found[1], second, max(np.abs(traces).max(), np.abs(second).max()), READING)


@lighter
def test_forms_and_traces(name: str, storage: str) -> None:
    """V'Z'V^-1 Z V, tr V^-1 G_r and tr V^-1 G_r V^-1 G_s, G_r in whitened columns."""
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays, storage=storage)
    G = changes_of_covariance(problem, model)
    V = right_hand_sides(problem, 7)
    for theta in thetas(problem):
        point, inverse = model.point(theta), np.linalg.inv(problem.covariance(theta))
        ZV = problem.random(theta)[0] @ V
        wanted = ZV.T @ inverse @ ZV
        close(point.forms(split(problem, V)), wanted, np.abs(wanted).max(), READING)
        VG = np.array([inverse @ one for one in G])
        single, pairs = point.traces
        close(single, np.trace(VG, axis1=1, axis2=2), np.abs(single).max(), READING)
        flat = VG.swapaxes(1, 2).reshape(len(G), -1)
        close(pairs, VG.reshape(len(G), -1) @ flat.T, np.abs(pairs).max(), READING)


@exact
def test_covariances(name: str, storage: str) -> None:
    """Blocks of B at all levels that occur together, and nothing at the others."""
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays, storage=storage)
    starts = np.cumsum([0] + [t.levels * t.z.shape[1] for t in problem.terms])
    for theta in thetas(problem):
        point, B = model.point(theta), problem.remaining(theta)
        scale = max(np.abs(B).max(), 1e-6)
        for (i, one), (j, other) in product(enumerate(problem.terms), repeat=2):
            la, lc = point.pairs(i, j)
            k, p = one.z.shape[1], other.z.shape[1]
            rows = starts[i] + la[:, None] * k + np.arange(k)
            columns = starts[j] + lc[:, None] * p + np.arange(p)
            close(point.covariances(i, j), B[rows[:, :, None], columns[:, None]], scale, READING)
            together = {*zip(one.codes.tolist(), other.codes.tolist(), strict=True)}
            if one.codes is not other.codes:
                assert together <= {*zip(la.tolist(), lc.tolist(), strict=True)}


@exact
def test_covariances_of_whitened_columns(name: str, storage: str) -> None:
    """b = C b_w: the same blocks in coordinates without units."""
    problem, _ = STRUCTURES[name]
    point = LMM.from_arrays(*problem.arrays, storage=storage).point(thetas(problem)[0])
    for i, j in product(range(len(problem.terms)), repeat=2):
        B = point.covariances(i, j)
        own = point.covariances(i, j, point.pairs(i, j), whitened=True)
        close(
            point.whitening[i] @ own @ point.whitening[j].T, B, np.abs(B).max(initial=1e-6), 1e-12
        )
        white = point.unwhitening[i].T @ B @ point.unwhitening[j]
        close(own, white, np.abs(own).max(initial=1e-6), 1e-12)


@pytest.mark.parametrize(
    ("name", "storage"),
    [
        ("designed-3-4", "dense"),
        ("designed-four", "dense"),
        ("sparse-three", "sparse"),
        ("nested-crossed", "dense"),
        ("nested-three-crossed", "sparse"),
    ],
)
def test_covariances_of_levels_of_one_trailing_factor(name: str, storage: str) -> None:
    """All that occur with one level of an eliminated factor; all, where the matrix is dense."""
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays, storage=storage)
    point = model.point(thetas(problem)[0])
    B = problem.remaining(thetas(problem)[0])
    starts = np.cumsum([0] + [t.levels * t.z.shape[1] for t in problem.terms])
    gone = [i for i in range(len(problem.terms)) if i in model.storage["which"]]
    for i, term in enumerate(problem.terms):
        if i in gone:
            continue
        k, every = term.z.shape[1], np.array(list(product(range(term.levels), repeat=2)))
        found = point.covariances(i, i, (every[:, 0], every[:, 1]))
        rows = starts[i] + every[:, :1] * k + np.arange(k)
        columns = starts[i] + every[:, 1:] * k + np.arange(k)
        wanted = B[rows[:, :, None], columns[:, None]]
        known = np.isfinite(found).all(axis=(1, 2))
        close(found[known], wanted[known], np.abs(B).max(), READING)
        for j in gone:
            met = np.zeros((problem.terms[j].levels, term.levels))
            met[problem.terms[j].codes, term.codes] = 1
            assert known[(met.T @ met).ravel() > 0].all()
        assert storage == "sparse" or known.all()


def test_a_point_can_be_pickled() -> None:
    problem, _ = STRUCTURES["sparse-3-2"]
    point = LMM.from_arrays(*problem.arrays).point(thetas(problem)[0], reml=False)
    wanted = point.beta
    again = pickle.loads(pickle.dumps(point))
    assert not again.reml
    close(again.beta, wanted, np.abs(wanted).max(), 1e-12)
    assert again.value == pytest.approx(point.value, rel=1e-12)


def test_a_point_stays_where_it_is() -> None:
    """The caller may move the theta that it was made of."""
    problem, _ = STRUCTURES["sparse-3-2"]
    model, theta = LMM.from_arrays(*problem.arrays), thetas(problem)[0].copy()
    point, wanted = model.point(theta), model.objective(theta)
    theta *= 2
    assert point.value == wanted


def test_a_fit_shares_one_point() -> None:
    """At the estimates, with the response of the fit: refits share the model of another one."""
    problem, _ = STRUCTURES["sparse-3-2"]
    fit = LMM.from_arrays(*problem.arrays).fit(reml=False)
    other = fit.refit(problem.y[::-1])
    for own in (fit, other):
        assert own.point is own.point
        assert own.point.value == pytest.approx(own.objective, rel=1e-12)
        close(own.point.beta, own.estimates.beta, np.abs(own.estimates.beta).max(), 1e-9)
        again = pickle.loads(pickle.dumps(own))
        close(again.point.beta, own.point.beta, np.abs(own.point.beta).max(), 1e-12)
    apart = LMM.from_arrays(problem.y[::-1].copy(), *problem.arrays[1:]).at(other.theta, reml=False)
    same(other.point.projection[1], apart.point.projection[1], 1e-8)


@pytest.mark.parametrize("name", ["single-3-diag", "sparse-3-2", "nested-3-5"])
def test_derivatives_where_a_fit_ended(name: str) -> None:
    """Its last evaluation was in whitened coordinates; derivatives are of the user's theta."""
    problem, _ = STRUCTURES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.ConvergenceWarning)
        fit = LMM.from_arrays(*problem.arrays).fit(max_evals=1)
    slope = problem.gradient(fit.theta, True)
    close(fit.point.gradient, slope, np.abs(slope).max(), 1e-8)


@exact
def test_covariances_of_levels_that_never_met(name: str, storage: str) -> None:
    """All of two factors where the trailing matrix is dense; elsewhere right, or not known."""
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays, storage=storage)
    starts = np.cumsum([0] + [t.levels * t.z.shape[1] for t in problem.terms])
    theta = thetas(problem)[0]
    point, B = model.point(theta), problem.remaining(theta)
    for (i, one), (j, other) in product(enumerate(problem.terms), repeat=2):
        k, p = one.z.shape[1], other.z.shape[1]
        la, lc = np.array(list(product(range(one.levels), range(other.levels)))).T
        rows, columns = starts[i] + la[:, None] * k, starts[j] + lc[:, None] * p
        wanted = B[(rows + np.arange(k))[:, :, None], (columns + np.arange(p))[:, None]]
        found = point.covariances(i, j, (la, lc))
        known = np.isfinite(found).all(axis=(1, 2))
        few = np.flatnonzero(known)[:: 1 + len(la) // 5]
        alone = model.point(theta).covariances(i, j, (la[few], lc[few]))
        close(alone, found[few], max(np.abs(B).max(), 1e-6), 1e-10)
        close(found[known], wanted[known], max(np.abs(B).max(), 1e-6), READING)
        together = {*zip(*(own.tolist() for own in point.pairs(i, j)), strict=True)}
        met = [pair in together for pair in zip(la.tolist(), lc.tolist(), strict=True)]
        assert known[met].all()
        same = point._engine.place(i).factor == point._engine.place(j).factor
        assert model.storage["storage"] == "sparse" or same or known.all()


@exact
def test_squares_of_contrasts(name: str, storage: str) -> None:
    """Sums over levels of g g' and h h', in whitened columns, beside the vectors themselves."""
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays, storage=storage)
    p = problem.X.shape[1]
    for theta, r in zip(thetas(problem), (0, 1, 3, 70), strict=False):
        point, L = model.point(theta), np.random.default_rng(r).normal(size=(r, p))
        G, g = point.projection
        found = point.contrasts(L)
        for M, C, own, residual in zip(found, point.whitening, G, g, strict=True):
            h = np.concatenate([residual[:, :, None], own @ L.T], axis=2)
            white = np.einsum("mkr,kj->rmj", h, C)
            wanted = white.swapaxes(1, 2) @ white
            assert M.shape == (r + 1, C.shape[1], C.shape[1])
            for one, other in zip(M, wanted, strict=True):
                close(one, other, max(np.abs(other).max(), 1e-300), 1e-9)


def test_contrasts_need_a_weight_for_each_fixed_effect() -> None:
    problem, _ = STRUCTURES["sparse-1-1"]
    point = LMM.from_arrays(*problem.arrays).point(np.ones(2))
    with pytest.raises(ValueError, match=f"need {problem.X.shape[1]} columns"):
        point.contrasts(np.ones((1, problem.X.shape[1] + 1)))


def test_levels_of_an_eliminated_factor_are_not_known() -> None:
    problem, _ = STRUCTURES["sparse-1-1"]
    point = LMM.from_arrays(*problem.arrays).point(np.ones(2))
    within = point.covariances(0, 0, (np.array([1, 1]), np.array([1, 2])))
    assert np.isfinite(within[0]).all()
    assert np.isnan(within[1]).all()


@exact
def test_fixed_effects(name: str, storage: str) -> None:
    """The basis of X, what it shares with Z, and what derivatives of vcov are made of."""
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays, storage=storage)
    w = np.ones(len(problem.y)) if problem.weights is None else problem.weights
    X = problem.X
    for theta in thetas(problem):
        point, V = model.point(theta), problem.covariance(theta)
        (Z, _), VX = problem.random(theta), np.linalg.solve(V, X)
        C, E = X.T @ VX, point.basis.E
        close(E.T @ C @ E, np.eye(X.shape[1]), 1, 1e-8)
        close(point.sigma**2 * E @ E.T, point.vcov, max(np.abs(point.vcov).max(initial=0), 1), 1e-8)
        same(point.basis.projected, split(problem, Z.T @ VX @ E), 1e-8)
        moved = problem.remaining(theta) @ Z.T @ (w[:, None] * X) @ E
        same(point.basis.moved, split(problem, moved), 1e-8)
        G, g = point.projection
        same(G, split(problem, Z.T @ VX @ np.linalg.inv(C)), 1e-8)
        r = problem.response() - X @ point.beta
        left = split(problem, Z.T @ np.linalg.solve(V, r)[:, None])
        same(g, tuple(part[:, :, 0] for part in left), 1e-8)


@lighter
def test_criterion_and_estimates(name: str, storage: str) -> None:
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays, storage=storage)
    for theta, reml in zip(thetas(problem)[:3], (True, False, True), strict=True):
        point, wanted = model.point(theta, reml=reml), problem.solve(theta, reml)
        assert point.value == pytest.approx(wanted.objective, rel=1e-10)
        if theta.all():
            slope = problem.gradient(theta, reml)
            close(point.gradient, slope, np.abs(slope).max(), 1e-8)
            information = problem.curvature(theta, reml)
            close(point.information, information, np.abs(information).max(), 1e-8)
        close(point.beta, wanted.beta, np.abs(wanted.beta).max(initial=1e-300), 1e-8)
        same(point.b, tuple(wanted.b), 1e-8)
        same(point.condvar, tuple(wanted.condvar), READING)


READINGS: dict[str, Callable[[Point], Any]] = {
    "value": lambda p: p.value,
    "gradient": lambda p: p.gradient,
    "information": lambda p: p.information,
    "estimates": lambda p: (p.beta, p.vcov, p.sigma, *p.b),
    "condvar": lambda p: p.condvar,
    "projection": lambda p: (*p.projection[0], *p.projection[1]),
    "basis": lambda p: (p.basis.E @ p.basis.E.T, *p.basis.moved),
    "solve": lambda p: p.solve([np.ones((*one.shape, 2)) for one in p.b]),
    "forms": lambda p: p.forms([np.ones((*one.shape, 2)) for one in p.b]),
    "traces": lambda p: p.traces,
    "hessian": lambda p: p.hessian,
    "covariances": lambda p: [p.covariances(i, j) for i in range(2) for j in range(2)],
}


@pytest.mark.parametrize(
    ("name", "storage"),
    [
        ("designed-3-4", "auto"),
        ("sparse-3-2", "dense"),
        ("sparse-3-2", "sparse"),
        ("nested-three", "auto"),
        ("nested-three-crossed", "auto"),
        ("nested-three-crossed", "sparse"),
    ],
)
@pytest.mark.parametrize("singular", [False, True], ids=["regular", "singular"])
def test_readings_in_any_order(name: str, storage: str, singular: bool) -> None:
    """None depends on what was read before, where the model was, or on another response."""
    problem, _ = STRUCTURES[name]
    theta, rng = thetas(problem)[singular], np.random.default_rng(4)
    wanted = {
        key: read(LMM.from_arrays(*problem.arrays, storage=storage).point(theta))
        for key, read in READINGS.items()
    }
    model = LMM.from_arrays(*problem.arrays, storage=storage)
    for turn in range(12):
        point = model.point(theta)
        for key in rng.permutation(list(READINGS)):
            if turn % 3 == 1:
                READINGS[str(rng.choice(list(READINGS)))](model.point(rng.normal(size=len(theta))))
            if turn % 3 == 2:
                w = rng.uniform(0.5, 2, len(problem.y)) if turn % 2 else model.design.weights
                others = model.design.with_rows(y=-2 * problem.y, weights=w).sums
                READINGS[str(rng.choice(list(READINGS)))](model.point(theta, sums=others))
            found = READINGS[key](point)
            for own, theirs in zip(np_list(found), np_list(wanted[key]), strict=True):
                close(own, theirs, max(np.abs(theirs).max(initial=0), 1e-6), 1e-10)


def np_list(found: Any) -> list[np.ndarray]:
    return [np.asarray(one) for one in (found if isinstance(found, (tuple, list)) else [found])]


@pytest.mark.parametrize("name", ["three-terms", "designed-3-4", "sparse-3-2", "nested-three"])
def test_after_a_fit(name: str) -> None:
    """A fit leaves the model at its result, in coordinates of its own."""
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays)
    fit = model.fit()
    fresh = LMM.from_arrays(*problem.arrays).point(fit.theta)
    for key in READINGS:
        model.fit()
        if key == "covariances" and len(problem.terms) < 2:
            continue
        found, wanted = READINGS[key](model.point(fit.theta)), READINGS[key](fresh)
        for own, theirs in zip(np_list(found), np_list(wanted), strict=True):
            limit = 1e-4 if key == "gradient" else 1e-7
            close(own, theirs, max(np.abs(theirs).max(initial=0), 1), limit)


def test_points_in_threads() -> None:
    """Points of one model do not disturb each other."""
    problem, _ = STRUCTURES["sparse-three"]
    model = LMM.from_arrays(*problem.arrays)
    rng = np.random.default_rng(9)
    where = [rng.normal(size=problem.ntheta) for _ in range(6)]
    V = split(problem, right_hand_sides(problem, 2))
    wanted = [model.point(theta).solve(V) for theta in where]

    def work(i: int) -> bool:
        point = model.point(where[i % 6])
        found = point.solve(V)
        exact = problem.objective(where[i % 6], True)
        agree = all((a == b).all() for a, b in zip(found, wanted[i % 6], strict=True))
        return agree and abs(point.value - exact) < 1e-9 * abs(exact)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(60)))


def deficient() -> tuple[Problem, Problem]:
    """A model with dependent columns in X and in a random term, and the same without them."""
    problem, _ = STRUCTURES["sparse-3-2"]
    first, second = problem.terms
    z = np.column_stack([first.z, first.z @ [1.0, 2.0, -1.0]])
    X = np.column_stack([problem.X, problem.X.sum(axis=1)])
    return replace(problem, X=X, terms=[Term(first.codes, z), second]), problem


def test_dropped_columns_are_zero() -> None:
    given, kept = deficient()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.RankDeficientWarning)
        point = LMM.from_arrays(*given.arrays).point(thetas(kept)[0])
    other = LMM.from_arrays(*kept.arrays).point(thetas(kept)[0])
    V = split(given, right_hand_sides(given, 3))
    X, Y = point.solve(V), other.solve([V[0][:, :3], V[1]])
    assert not X[0][:, 3].any()
    same((X[0][:, :3], X[1]), Y, READING)
    blocks = point.covariances(0, 1)
    assert not blocks[:, 3].any()
    close(blocks[:, :3], other.covariances(0, 1), 1, READING)
    assert not point.basis.E[2].any()
    close(point.basis.E[:2] @ point.basis.E[:2].T, other.basis.E @ other.basis.E.T, 1, READING)
    assert not point.basis.moved[0][:, 3].any()


@pytest.mark.parametrize("name", ITERATIVE)
def test_iterative_models_solve_by_conjugate_gradients(name: str) -> None:
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays, storage="iterative")
    for theta, r in zip(thetas(problem), (1, 5, 70, 3), strict=True):
        V, B = right_hand_sides(problem, r), problem.remaining(theta)
        point = model.point(theta)
        same(point.solve(split(problem, V)), split(problem, B @ V), READING)
        Z, _ = problem.random(theta)
        moved = B @ Z.T @ problem.X @ point.basis.E
        same(point.basis.moved, split(problem, moved), 1e-8)
        with pytest.raises(FitError, match="exact factorization"):
            point.covariances(0, 1)
        with pytest.raises(FitError, match="exact factorization"):
            _ = point.condvar


def test_what_cannot_be_read_is_said() -> None:
    problem, _ = STRUCTURES["sparse-3-2"]
    model = LMM.from_arrays(*problem.arrays)
    with pytest.raises(ValueError, match="shape"):
        model.point(np.ones(3))
    with pytest.raises(ValueError, match="not finite"):
        model.point(np.full(problem.ntheta, np.nan))
    point = model.point(np.ones(problem.ntheta))
    good = [np.ones((84, 3, 2)), np.ones((15, 2, 2))]
    for wrong in (good[:1], good[::-1], [good[0], good[1][..., :1]], [good[0][0], good[1]]):
        with pytest.raises(ValueError, match="shape"):
            point.solve(wrong)
    with pytest.raises(ValueError, match="finite"):
        point.solve([good[0] * np.nan, good[1]])
    with pytest.raises(ValueError, match="levels"):
        point.covariances(0, 1, (np.array([84]), np.array([0])))
    with pytest.raises(ValueError, match="levels"):
        point.covariances(0, 1, (np.array([0, 1]), np.array([0])))
    assert [one.shape for one in point.solve([v[..., :0] for v in good])] == [
        (84, 3, 0),
        (15, 2, 0),
    ]


def test_squares_beside_a_dropped_column() -> None:
    """The direction is that of the column that is meant, not of one before it."""
    problem, _ = STRUCTURES["sparse-3-2"]
    X = np.column_stack([problem.X[:, 0], 3 * problem.X[:, 0], problem.X[:, 1]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.RankDeficientWarning)
        core = LMM.from_arrays(problem.y, X, *problem.arrays[2:])._core
    core.evaluate(np.ones(problem.ntheta), True)
    _, _, column, M = core.squares(2)
    _, vcov, sigma, _ = core.estimates()
    close(column, vcov[:, 2] / sigma**2, np.abs(column).max(), READING)
    h = core.projection()[0][0][:, :, 2]
    close(M[2, :3, :3], h.T @ h, np.abs(M[2]).max(), READING)
