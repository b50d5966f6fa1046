"""Dense, sparse and block-diagonal storage give the same numbers; plans say what they will take."""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lmmfast
from lmmfast import LMM, _core, lmer
from lmmfast.data.arrays import design_of
from lmmfast.engine import ordering


def workers(n_workers: int, n_firms: int, markets: int, years: int = 4) -> pd.DataFrame:
    """Spells of workers at firms: few move, most of them in their market."""
    rng = np.random.default_rng(11)
    size = n_firms // markets
    home = rng.integers(0, markets, n_workers)
    firm = np.empty((n_workers, years), int)
    firm[:, 0] = home * size + rng.integers(0, size, n_workers)
    for t in range(1, years):
        moves = rng.random(n_workers) < 0.2
        where = np.where(rng.random(n_workers) < 0.05, rng.integers(0, markets, n_workers), home)
        firm[:, t] = np.where(
            moves, where * size + rng.integers(0, size, n_workers), firm[:, t - 1]
        )
    worker, firm = np.repeat(np.arange(n_workers), years), firm.ravel()
    x = rng.normal(size=len(firm))
    effects = 0.6 * rng.normal(size=n_workers)[worker] + 0.4 * rng.normal(size=n_firms)[firm]
    y = 1 + 0.3 * x + effects + 0.5 * rng.normal(size=len(x))
    return pd.DataFrame({"y": y, "x": x, "worker": worker, "firm": firm})


def pupils(n: int = 3000, schools: int = 120, quarters: int = 150) -> pd.DataFrame:
    """Pupils measured three times; schools and neighbourhoods cross where they are near."""
    rng = np.random.default_rng(5)
    place = rng.random(n)
    school = np.clip((place * schools + rng.normal(size=n)).astype(int), 0, schools - 1)
    quarter = np.clip((place * quarters + rng.normal(size=n)).astype(int), 0, quarters - 1)
    pupil = np.repeat(np.arange(n), 3)
    x = rng.normal(size=3 * n)
    y = x + rng.normal(size=3 * n)
    y += (rng.normal(size=n) + rng.normal(size=schools)[school])[pupil]
    y += 0.5 * rng.normal(size=quarters)[quarter][pupil] * x
    data = {"y": y, "x": x, "pupil": pupil, "school": school[pupil], "quarter": quarter[pupil]}
    return pd.DataFrame(data)


def same(a: LMM, b: LMM) -> None:
    """Objective, derivatives, estimates and modes at a theta, and the fits."""
    rng = np.random.default_rng(3)
    theta = rng.normal(size=a.ntheta)
    for reml in (True, False):
        f, g, H = a.objective(theta, reml=reml, gradient=True, hessian=True)
        f2, g2, H2 = b.objective(theta, reml=reml, gradient=True, hessian=True)
        assert f2 == pytest.approx(f, rel=1e-9)
        assert np.abs(g2 - g).max() <= 1e-9 * np.abs(g).max()
        assert np.abs(H2 - H).max() <= 1e-9 * np.abs(H).max()
        one, two = a.at(theta, reml=reml), b.at(theta, reml=reml)
        for name in ("params", "bse"):
            mine, theirs = np.asarray(getattr(one, name)), np.asarray(getattr(two, name))
            assert np.abs(mine - theirs).max(initial=0) <= 1e-9 * np.abs(mine).max(initial=1e-300)
    for own, other in zip(a.condvar(theta), b.condvar(theta), strict=True):
        assert np.abs(own - other).max() <= 1e-9 * np.abs(own).max()
    one, two = a.fit(), b.fit()
    assert two.objective == pytest.approx(one.objective, rel=1e-12)
    assert np.abs(two.theta - one.theta).max() <= 1e-7
    for group, modes in one.ranef().items():
        assert np.abs(modes - two.ranef()[group]).to_numpy().max() < 1e-6


def arrays(rng: np.random.Generator, n: int, spec: list[tuple[int, int, str]], p: int) -> tuple:
    X = np.column_stack([np.ones(n)] + [rng.normal(size=n) for _ in range(p - 1)])[:, :p]
    y, terms = rng.normal(size=n) + X.sum(axis=1), []
    for m, k, structure in spec:
        codes = rng.permutation(np.arange(n) % m)
        z = np.column_stack([np.ones(n)] + [rng.normal(size=n) for _ in range(k - 1)])
        y += (rng.normal(size=(m, k))[codes] * z).sum(axis=1)
        terms.append((codes, z, structure))
    return y, X, terms, rng.uniform(0.5, 2, n), None


CROSSED = {
    "intercepts": ([(60, 1, "full"), (40, 1, "full")], 2),
    "slopes": ([(60, 2, "full"), (40, 3, "full")], 3),
    "three factors": ([(60, 3, "full"), (40, 1, "full"), (20, 2, "full")], 1),
    "diagonal, no fixed effects": ([(60, 2, "diag"), (40, 3, "diag"), (31, 1, "full")], 0),
}


@pytest.mark.parametrize("name", CROSSED)
def test_sparse_equals_dense(name: str) -> None:
    spec, p = CROSSED[name]
    design = design_of(*arrays(np.random.default_rng(1), 700, spec, p))
    dense, sparse = LMM(design, storage="dense"), LMM(design, storage="sparse")
    assert (dense.storage["storage"], sparse.storage["storage"]) == ("dense", "sparse")
    same(dense, sparse)


def test_sparse_equals_dense_below_nested_factors() -> None:
    """Two eliminated factors, the finer one inside the coarser, and two crossed ones."""
    rng = np.random.default_rng(2)
    y, X, terms, weights, _ = arrays(
        rng, 900, [(30, 3, "full"), (20, 1, "full"), (11, 2, "full")], 2
    )
    fine = np.unique(terms[0][0] * 7 + rng.integers(0, 7, 900), return_inverse=True)[1]
    design = design_of(y, X, [(fine, None), *terms], weights, None)
    dense, sparse = LMM(design, storage="dense"), LMM(design, storage="sparse")
    assert dense.storage["eliminated"] == sparse.storage["eliminated"] == 2
    same(dense, sparse)


def test_partly_crossed_designs_are_sparse() -> None:
    """Chosen by itself, and equal to the dense way."""
    data = workers(4000, 800, 80)
    formula = "y ~ x + (1 | worker) + (1 | firm)"
    chosen = lmmfast.plan(formula, data)
    assert chosen.storage == "sparse"
    assert chosen.density < 0.05
    sparse, dense = lmer(formula, data), lmer(formula, data, storage="dense")
    assert sparse.objective == pytest.approx(dense.objective, rel=1e-12)
    assert np.allclose(sparse.theta, dense.theta, rtol=0, atol=1e-8)
    assert np.allclose(sparse.bse, dense.bse, rtol=1e-9)


def test_sparse_results_do_not_depend_on_threads() -> None:
    """The same bits: objective, gradient and fit."""
    data = workers(3000, 600, 30)
    model = LMM(
        lmmfast.api.design_from("y ~ x + (1 | worker) + (1 | firm)", data),
        storage="sparse",
    )
    theta, found = np.array([0.7, 1.3]), []
    for threads in (1, 2, 3, 1):
        model.threads = threads
        objective, gradient = model.objective(theta, gradient=True)
        fit = model.fit()
        found.append(
            np.concatenate([[objective], gradient, [fit.objective], fit.theta, fit.params, fit.bse])
        )
    for other in found[1:]:
        assert np.array_equal(other, found[0])


def test_pupils_in_schools_and_neighbourhoods() -> None:
    data = pupils()
    formula = "y ~ x + (1 | pupil) + (1 | school) + (x | quarter)"
    sparse, dense = lmer(formula, data, storage="sparse"), lmer(formula, data, storage="dense")
    assert sparse.objective == pytest.approx(dense.objective, rel=1e-12)
    assert np.allclose(sparse.theta, dense.theta, rtol=0, atol=1e-7)
    assert sparse.converged


def test_nested_designs_leave_nothing_behind() -> None:
    data = pupils(300).assign(place=lambda d: d["pupil"] % 30)
    assert lmmfast.plan("y ~ x + (1 | place / pupil)", data).storage == "block diagonal"


def test_plan_prints_its_table() -> None:
    shown = str(lmmfast.plan("y ~ x + (1 | quarter) + (1 | school)", pupils(900, 20)))
    for part in ("quarter", "150", "level by level", "school", "trailing matrix", "dense", "kB"):
        assert part in shown


class Heap(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


def allocated() -> int:
    """Bytes that malloc has handed out."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Heap
    gc.collect()
    heap = libc.mallinfo2()
    return int(heap.uordblks + heap.hblkhd)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc's mallinfo2")
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="ASan has its own malloc")
@pytest.mark.parametrize("storage", ["dense", "sparse", "iterative"])
def test_plan_predicts_what_the_model_takes(storage: str) -> None:
    """What is allocated once it is made and evaluated, and what set-up sorts while it is made."""
    data, formula = workers(8000, 1000, 20), "y ~ x + (x | worker) + (1 | firm)"
    planned = lmmfast.plan(formula, data, storage=storage)
    assert planned.storage == storage and planned.order == 1000
    assert planned.parameters == 4 and planned.fits
    design = lmmfast.api.design_from(formula, data)
    before = allocated()
    model = LMM(design, storage=storage)
    model.objective(np.full(4, 0.5), gradient=True, hessian=True)
    rows = 4 * len(data)
    taken = allocated() - before + rows
    assert 0.8 * planned.bytes <= taken <= 1.02 * planned.bytes


def test_plan_predicts_the_time_of_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Cholesky factor takes m^3 / 3 operations, and one with its inverse m^3: with a clock by
    which factors of order 600, whatever they take, take 0.6^3 seconds, that is 3 m^3 1e-9."""
    costs = sys.modules[lmmfast.plan("y ~ x + (1 | school)", pupils(90, 9)).__module__]
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: 0.6**3 * next(ticks))
    costs._rate.cache_clear()
    data, formula = workers(12_000, 1500, 20), "y ~ x + (1 | worker) + (1 | firm)"
    planned = lmmfast.plan(formula, data, storage="dense")
    costs._rate.cache_clear()
    assert planned.order == 1500
    assert planned.seconds == pytest.approx(3e-9 * 1500**3, rel=0.1)
    assert planned.considered["dense"] == (planned.bytes, planned.seconds)


def test_plan_counts_the_model_of_all_arguments() -> None:
    """Weights of zero and missing offsets take rows, contrasts give columns."""
    data = pupils(300, 20, 30).assign(f=lambda d: pd.Categorical(d["pupil"] % 3), o=1.0, w=2.0)
    data.loc[:4, "w"], data.loc[10:12, "o"] = 0.0, np.nan
    options = {"weights": "w", "offset": "o", "contrasts": {"f": np.array([[1.0], [0], [-1]])}}
    formula = "y ~ x + f + (0 + f || school) + (x + f | quarter)"
    with pytest.warns(lmmfast.DoubleBarWarning):
        planned = lmmfast.plan(formula, data, **options)
        design = lmmfast.api.design_from(formula, data, *options.values())
    model = LMM(design)
    assert planned.n == len(data) - 8 == len(design.y)
    assert planned.fixed == 3 == design.X.shape[1]
    assert planned.parameters == 3 + 6 == model.ntheta
    assert [factor[:3] for factor in planned.factors] == [("school", 20, 3), ("quarter", 30, 3)]
    assert planned.bytes == model.storage["bytes"]


def test_too_large_is_refused_with_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    from lmmfast.engine import compiled as engine

    monkeypatch.setattr(engine, "SMALL", 0)
    monkeypatch.setattr(engine, "memory_limit", lambda: 5e4)
    with pytest.raises(MemoryError, match=r"used; grouping factors: quarter \(150 lev") as raised:
        lmer("y ~ x + (1 | quarter) + (1 | school)", pupils(900, 20), storage="dense")
    assert "trailing matrix: order 20" in str(raised.value)
    assert "it does not fit" in str(raised.value)


@pytest.mark.parametrize("installed", [True, False])
def test_sparse_without_scikit_sparse(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain install takes the sparse way too, and says how it was ordered."""
    if not installed:
        monkeypatch.setattr(ordering, "_cholmod", lambda: None)
    data, formula = workers(4000, 800, 80), "y ~ x + (1 | worker) + (1 | firm)"
    fit, dense = (lmer(formula, data, storage=way) for way in ("sparse", "dense"))
    assert fit.objective == pytest.approx(dense.objective, abs=1e-8)
    assert fit.model.storage["ordered_by"] in (_core.AMD, _core.RCM)
    assert dense.model.storage["ordered_by"] == ""


def test_unknown_storage_is_an_error() -> None:
    with pytest.raises(ValueError, match="storage must be one of"):
        lmer("y ~ x + (1 | school)", pupils(100, 10), storage="spares")


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", 10**12])
def test_threads_must_be_a_count(threads: object) -> None:
    with pytest.raises((ValueError, TypeError), match="threads"):
        lmer("y ~ x + (1 | school)", pupils(100, 10), threads=threads)


# ---- the iterative way ---------------------------------------------------------------------------

ITERATIVE = {
    "intercepts": ([(900, 1, "full"), (400, 1, "full")], 2, False),
    "slopes, weights": ([(700, 2, "full"), (300, 3, "full")], 3, True),
    "three factors": ([(900, 1, "full"), (300, 2, "full"), (90, 1, "full")], 1, False),
    "diagonal, no fixed effects": ([(600, 2, "diag"), (300, 2, "diag")], 0, True),
}


@pytest.fixture(params=ITERATIVE, scope="module")
def pair(request: pytest.FixtureRequest) -> tuple[LMM, LMM]:
    """The same crossed model, dense and iterative."""
    spec, p, weighted = ITERATIVE[request.param]
    y, X, terms, weights, _ = arrays(np.random.default_rng(8), 9000, spec, p)
    design = design_of(y, X, terms, weights if weighted else None, None)
    return LMM(design, storage="dense"), LMM(design, storage="iterative")


def test_iterative_is_within_its_stated_error(pair: tuple[LMM, LMM]) -> None:
    """Criterion and gradient at a theta, and where the fit ends, in units of their own errors."""
    dense, iterative = pair
    assert iterative.storage["storage"] == "iterative"
    one, two = dense.fit(), iterative.fit()
    assert two.converged
    se, cov = iterative.monte_carlo(two.theta)
    assert 0 < se < 1
    assert abs(iterative.objective(two.theta) - dense.objective(two.theta)) < 4.5 * se
    assert two.objective_se == pytest.approx(se, rel=0.05)
    error = np.sqrt(np.diag(cov)) + 1e-6
    assert (np.abs(two.theta - one.theta) < 5 * error).all()
    curvature = dense.objective(one.theta, hessian=True)[1]
    statistical = np.sqrt(2 * np.diag(np.linalg.inv(curvature)))
    assert (error < statistical / 20).all()  # chance hides nothing that the data say


def test_iterative_is_exact_where_nothing_is_drawn(pair: tuple[LMM, LMM]) -> None:
    """Coefficients, standard errors, modes, average information: only solutions, no traces."""
    dense, iterative = pair
    theta = dense.fit().theta
    one, two = dense.at(theta), iterative.at(theta)
    assert two.sigma == pytest.approx(one.sigma, rel=1e-8)
    assert np.allclose(two.params, one.params, rtol=1e-8, atol=1e-10)
    assert np.allclose(two.bse, one.bse, rtol=1e-8)
    for group, modes in one.ranef().items():
        assert np.allclose(two.ranef()[group], modes, rtol=0, atol=1e-7)


def test_iterative_fits_repeat(pair: tuple[LMM, LMM]) -> None:
    """Fixed seeds: the same bits again, and with another number of threads."""
    iterative = pair[1]
    first = iterative.fit()
    for threads in (2, 3, 1):
        iterative.threads = threads
        again = iterative.fit()
        assert np.array_equal(again.theta, first.theta)
        assert again.objective == first.objective


def test_iterative_fits_say_what_they_are(pair: tuple[LMM, LMM]) -> None:
    fit = pair[1].fit()
    assert "stochastic gradient" in str(fit.summary())
    with pytest.raises(
        lmmfast.FitError, match=r"conditional variances.* exact factorization.*lmmfast\.plan"
    ):
        fit.ranef(cond_var=True)
    assert (fit.conf_int().to_numpy()[:, 0] < fit.params.to_numpy()).all()


def test_iterative_needs_something_trailing() -> None:
    """Of nested factors nothing is left: they stay exact."""
    data = pupils(300).assign(place=lambda d: d["pupil"] % 30)
    fit = lmer("y ~ x + (1 | place)", data, storage="iterative")
    assert fit.objective_se == 0


def test_iterative_singular_fits_find_zero() -> None:
    rng = np.random.default_rng(4)
    n = 6000
    data = pd.DataFrame({"u": rng.integers(0, 500, n), "m": rng.integers(0, 300, n)})
    data["y"] = rng.normal(size=500)[data["u"]] + rng.normal(size=n)
    fit = lmer("y ~ 1 + (1 | u) + (1 | m)", data, storage="iterative", reml=False)
    exact = lmer("y ~ 1 + (1 | u) + (1 | m)", data, reml=False)
    assert fit.is_singular == exact.is_singular
    assert np.allclose(fit.theta, exact.theta, rtol=0, atol=1e-4)


def test_too_large_for_exact_ways_becomes_iterative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmmfast.engine.compiled, "memory_limit", lambda: 2e7)
    rng = np.random.default_rng(9)
    n = 20_000
    data = pd.DataFrame({"u": rng.integers(0, 4000, n), "m": rng.integers(0, 2500, n)})
    data["y"] = rng.normal(size=4000)[data["u"]] + rng.normal(size=n)
    chosen = lmmfast.plan("y ~ 1 + (1 | u) + (1 | m)", data)
    assert chosen.storage == "iterative"
    assert chosen.considered["dense"][0] > 2e7 > chosen.bytes
    assert lmer("y ~ 1 + (1 | u) + (1 | m)", data).objective_se > 0


# ---- threads -------------------------------------------------------------------------------------


def bits(model: LMM, theta: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(x) for x in model.objective(theta, gradient=True, hessian=True)]


@pytest.mark.parametrize(
    ("n", "spec"),
    [
        (4000, [(1100, 1, "full"), (900, 1, "full")]),  # tiles of the dense factor
        (5000, [(700, 2, "full"), (330, 3, "full")]),  # several strips of a tile each
        (3000, [(400, 5, "full"), (200, 6, "full")]),  # blocks without kernels of their own
    ],
)
def test_dense_results_do_not_depend_on_threads(n: int, spec: list[tuple[int, int, str]]) -> None:
    model = LMM(design_of(*arrays(np.random.default_rng(6), n, spec, 2)), storage="dense")
    assert not model.storage["full"]
    theta = np.random.default_rng(1).normal(size=model.ntheta)
    first = bits(model, theta)
    for threads in (2, 3, 1):
        model.threads = threads
        assert model.threads == threads
        for a, b in zip(first, bits(model, theta), strict=True):
            assert np.array_equal(a, b)


def test_tiles_of_the_dense_factor_equal_the_sparse_one() -> None:
    """Order 900: above LAPACK's own share."""
    spec = [(1100, 1, "full"), (450, 2, "full")]
    design = design_of(*arrays(np.random.default_rng(6), 4000, spec, 2))
    same(LMM(design, storage="dense"), LMM(design, storage="sparse"))


# ---- what is said of estimates, and of limits ---------------------------------------------------


def test_nothing_trailing_is_never_sparse() -> None:
    """Nested factors, and factors that are relabellings of each other."""
    data = pupils(300).assign(
        place=lambda d: d["pupil"] % 30, other=lambda d: (7 * d["pupil"]) % 300
    )
    for formula in ("y ~ x + (1 | place / pupil)", "y ~ x + (1 | pupil) + (1 | other)"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lmmfast.LmmWarning)
            exact, asked = lmer(formula, data), lmer(formula, data, storage="sparse")
        assert asked.objective == exact.objective
        planned = lmmfast.plan(formula, data, storage="sparse")
        assert planned.storage == "block diagonal"
        assert planned.fits


def test_comparisons_of_estimated_criteria_say_so() -> None:
    rng = np.random.default_rng(2)
    n = 3000
    data = pd.DataFrame({"u": rng.integers(0, 300, n), "m": rng.integers(0, 200, n)})
    data["x"] = rng.normal(size=n)
    data["y"] = rng.normal(size=300)[data["u"]] + rng.normal(size=200)[data["m"]]
    data["y"] += rng.normal(size=n)
    small = lmer("y ~ 1 + (1 | u) + (1 | m)", data, storage="iterative", reml=False)
    large = lmer("y ~ x + (1 | u) + (1 | m)", data, storage="iterative", reml=False)
    by_likelihood = lmmfast.drop1(large, test="Chisq")
    for table in (lmmfast.anova(small, large), lmmfast.ranova(large), by_likelihood):
        assert "estimated (storage='iterative')" in str(table)
    exact = lmmfast.anova(
        lmer("y ~ 1 + (1 | u) + (1 | m)", data), lmer("y ~ x + (1|u)+(1|m)", data)
    )
    assert "estimated" not in str(exact)
    assert small.model.with_design(small.design).storage["storage"] == "iterative"


def test_the_least_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the machine, the container and the process."""
    from lmmfast import memory

    def group(most: str) -> float:
        (tmp_path / "memory.max").write_text(most)
        (tmp_path / "memory.current").write_text("6000000")
        (tmp_path / "memory.stat").write_text("anon 4000000\ninactive_file 1000000\n")
        return memory.available()

    monkeypatch.setattr(memory, "V1", tmp_path / "none")
    monkeypatch.setattr(memory, "V2", tmp_path / "none")
    free = memory.available()
    assert free > 1e7
    monkeypatch.setattr(memory, "V2", tmp_path)
    assert group("8000000") == 3e6
    assert group("5000000") == 0
    assert group("max") > 1e7


# ---- at size ------------------------------------------------------------------------------------

WORKERS = "y ~ x + (1 | worker) + (1 | firm)"


def test_a_hundred_thousand_workers_in_ten_thousand_firms() -> None:
    data = workers(100_000, 10_000, 400)
    fit = lmer(WORKERS, data)
    assert fit.model.storage["storage"] == "sparse"
    assert fit.model.storage["order"] == data["firm"].nunique()
    assert fit.converged
    assert np.allclose(fit.theta * fit.sigma, [0.6, 0.4], rtol=0, atol=0.02)
    estimated = lmer(WORKERS, data, storage="iterative")
    assert estimated.objective == pytest.approx(fit.objective, abs=5 * estimated.objective_se)
    assert np.allclose(estimated.theta, fit.theta, rtol=0, atol=1e-3)
    assert np.allclose(estimated.bse, fit.bse, rtol=1e-3)


@pytest.mark.slow
def test_their_sparse_factor_equals_the_dense_one() -> None:
    """Order 10,000: a dense factor and inverse of 800 MB each."""
    design = lmmfast.api.design_from(WORKERS, workers(100_000, 10_000, 400))
    theta = np.array([1.1, 0.7])
    sparse = LMM(design).objective(theta, gradient=True, hessian=True)
    dense = LMM(design, storage="dense", threads=2).objective(theta, gradient=True, hessian=True)
    for own, other in zip(sparse, dense, strict=True):
        assert np.allclose(own, other, rtol=1e-9, atol=0)


# First steps the iterative way -------------------------------------------------------------------


def ratings(limit: float | None = None) -> LMM:
    """Users and movies that meet at random, so many that an exact evaluation is dear."""
    rng = np.random.default_rng(8)
    u, m = rng.integers(0, 2_000, 30_000), rng.integers(0, 1_200, 30_000)
    y = 0.5 * rng.normal(size=2_000)[u] + 0.3 * rng.normal(size=1_200)[m] + rng.normal(size=30_000)
    return LMM.from_arrays(y, np.ones((30_000, 1)), [(u, np.ones((30_000, 1))), (m, None)])


def test_first_steps_are_iterative_and_the_last_ones_exact() -> None:
    """The optimum is that of exact steps alone, the criterion too; what is certified is exact."""
    model = ratings()
    assert model.storage["storage"] == "dense" and model.storage["approach"]
    seen: list[lmmfast.Evaluation] = []
    fit = model.fit(callback=seen.append)
    assert fit.converged and fit.certificate <= 1e-7 and len(seen) == fit.n_evals
    assert fit.objective == pytest.approx(model.objective(fit.theta), abs=1e-8)
    exact = model.fit(free=lmmfast.Free(np.zeros(2), np.eye(2)), start=np.array([0.3, 0.3]))
    assert fit.objective == pytest.approx(exact.objective, abs=1e-6)
    assert fit.theta == pytest.approx(exact.theta, abs=1e-4)
    assert (model.fit().theta == fit.theta).all()


def test_first_steps_can_be_stopped() -> None:
    model = ratings()
    fit = model.fit(callback=lambda e: e.n == 2)
    assert fit.estimates.status == "stopped by callback" and fit.n_evals == 2
    assert fit.objective == pytest.approx(model.objective(fit.theta), abs=1e-8)
    with pytest.warns(lmmfast.ConvergenceWarning, match="evaluation limit"):
        assert model.fit(max_evals=1).n_evals <= 2
