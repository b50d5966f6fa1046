"""What set-up makes of columns, and of memory: constants of any value, dependence, storage."""

from __future__ import annotations

import ctypes
import gc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import close
from dense import Problem, Term
from structures import dense_pair, problem, sparse_pair
from test_kernels import largest

import lmmfast
from lmmfast import LMM
from lmmfast.data.arrays import design_of

pytestmark = pytest.mark.filterwarnings("ignore::lmmfast.IdentifiabilityWarning")


def one_way(columns: list[np.ndarray], weights: bool = False) -> Problem:
    """Twelve groups, a response far from zero, and these columns of X."""
    rng = np.random.default_rng(4)
    codes = np.arange(96) % 12
    y = 50 + rng.normal(size=12)[codes] + rng.normal(size=96)
    w = rng.uniform(0.5, 2, 96) if weights else None
    return Problem(y, np.column_stack(columns), [Term(codes, np.ones((96, 1)))], w)


def same_fit(made: Problem, model: LMM) -> None:
    """The columns that the model keeps are fitted as the definition says."""
    theta = np.array([0.8])
    found = model.at(theta).estimates
    kept = found.fixed_kept
    wanted = replace(made, X=made.X[:, kept]).solve(theta, True)
    assert found.objective == pytest.approx(wanted.objective, rel=1e-10)
    close(found.beta[kept], wanted.beta, largest(wanted.beta), 1e-9)
    close(found.vcov[np.ix_(kept, kept)], wanted.vcov, largest(wanted.vcov), 1e-9)


X1 = np.random.default_rng(7).normal(size=96) + 20
CONSTANTS = {
    "first": [np.full(96, 2.5), X1],
    "negative": [np.full(96, -0.1), X1],
    "last": [X1, np.full(96, 3.0)],
    "alone": [np.full(96, 1e-3)],
}


@pytest.mark.parametrize("weights", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("name", CONSTANTS)
def test_constant_column_of_any_value(name: str, weights: bool) -> None:
    made = one_way(CONSTANTS[name], weights)
    same_fit(made, LMM.from_arrays(*made.arrays))


@pytest.mark.parametrize("constant", [1.0, 4.0])
def test_zero_column_before_the_constant(constant: float) -> None:
    """It is constant, too, but nothing can be centred along it: it is dropped, by name."""
    made = one_way([np.zeros(96), np.full(96, constant), X1])
    with pytest.warns(lmmfast.RankDeficientWarning, match="x0"):
        model = LMM.from_arrays(*made.arrays)
    found = model.at([0.8]).estimates
    assert found.fixed_kept.tolist() == [False, True, True]
    same_fit(made, model)


@pytest.mark.parametrize("value", [1 / 3, 0.7])
def test_dependence_is_seen_in_many_rows(value: float) -> None:
    """Equal values round alike: so many sums in one direction must not hide that three x is x."""
    n = 400_000
    row = np.arange(n)
    x = np.where(row % 3 == 0, value, 2 * value)
    y = np.sin(row) + row % 7
    X = np.column_stack([np.ones(n), x, 3 * x])
    with pytest.warns(lmmfast.RankDeficientWarning, match="x2"):
        LMM.from_arrays(y, X, [(row % 50, None)])


# ---- wide blocks --------------------------------------------------------------------------------


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("widths", [(1, 7), (2, 9), (5, 8)])
def test_wide_crossed_blocks(widths: tuple[int, int], reml: bool) -> None:
    """Trailing blocks wider than any kernel of their own, by lists of the levels that co-occur."""
    rng = np.random.default_rng(6)
    made = problem(rng, sparse_pair(rng, 200, 120, 10), list(widths), ["diag", "diag"])
    model = LMM.from_arrays(*made.arrays)
    assert not model.storage["full"] and model.storage["order"] == 10 * widths[1]
    theta = rng.normal(size=made.ntheta)
    f, g, H = model.objective(theta, reml=reml, gradient=True, hessian=True)
    assert f == pytest.approx(made.objective(theta, reml), rel=1e-10)
    wanted, curvature = made.gradient(theta, reml), made.curvature(theta, reml)
    close(g, wanted, largest(wanted), 1e-8)
    close(H, curvature, largest(curvature), 1e-9)


# ---- memory -------------------------------------------------------------------------------------


class _Mallinfo(ctypes.Structure):
    """mallinfo2's result. In use: uordblks bytes of the heap, and hblkhd in maps of their own."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks")
    _fields_ = tuple((name, ctypes.c_size_t) for name in (*_names, "fordblks", "keepcost"))


def allocated() -> int:
    gc.collect()
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        pytest.skip("the C library does not tell what it has given out")
    mallinfo.restype = _Mallinfo
    found = mallinfo()
    return int(found.uordblks + found.hblkhd)


def sized(name: str) -> Problem:
    """Models of some megabytes."""
    rng = np.random.default_rng(8)
    if name == "nested":
        pupil = np.arange(20_000) % 4000
        return problem(rng, [pupil, pupil // 5], [4, 3])
    if name == "one factor":
        return problem(rng, [np.arange(20_000) % 4000], [5])
    if name == "designed":
        return problem(rng, dense_pair(rng, 200, 100), [3, 2])
    codes = [rng.permutation(np.arange(20_000) % m) for m in (4000, 500)]
    return problem(rng, codes, [2, 2])


@pytest.mark.parametrize(
    ("name", "storage"),
    [
        ("nested", "auto"),
        ("one factor", "auto"),
        ("designed", "dense"),
        ("crossed", "dense"),
        ("crossed", "sparse"),
        ("crossed", "iterative"),
    ],
)
def test_memory_is_what_was_said(name: str, storage: str) -> None:
    """What the model holds, and what set-up sorts besides, are at most what is stated."""
    made = sized(name)
    design = design_of(*made.arrays)
    before = allocated()
    model = LMM(design, storage=storage)
    theta = np.full(made.ntheta, 0.1)
    model.objective(theta, gradient=True, hessian=True)
    taken, stated = allocated() - before, model.storage["bytes"]
    assert 0.5 * stated < taken
    assert taken + 4 * len(made.y) < 1.02 * stated


def ratings(n: int, users: int, films: int) -> pd.DataFrame:
    rng = np.random.default_rng(9)
    data = pd.DataFrame({"u": rng.integers(0, users, n), "m": rng.integers(0, films, n)})
    return data.assign(y=rng.normal(size=n))


def test_sparse_where_dense_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """No faster, but exact: whatever fits comes before the iterative way."""
    data, formula = ratings(40_000, 2500, 1200), "y ~ 1 + (1 | u) + (1 | m)"
    free = lmmfast.plan(formula, data)
    (dense, fast), (sparse, slow) = free.considered["dense"], free.considered["sparse"]
    assert free.storage == "dense" and fast <= slow and sparse < dense
    monkeypatch.setattr(lmmfast.engine.compiled, "memory_limit", lambda: (sparse + dense) / 2)
    assert lmmfast.plan(formula, data).storage == "sparse"
    monkeypatch.setattr(lmmfast.engine.compiled, "memory_limit", lambda: 0.9 * sparse)
    assert lmmfast.plan(formula, data).storage == "iterative"


def test_evaluations_of_many_minutes_become_iterative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory there is; but a factor of order 30,000 would take twenty minutes an evaluation."""
    monkeypatch.setattr(lmmfast.engine.compiled, "memory_limit", lambda: 1e12)
    rng = np.random.default_rng(0)
    n, names = 60_000, [f"z{j}" for j in range(20)]
    data = pd.DataFrame(rng.normal(size=(n, 20)), columns=names)
    data = data.assign(**{name: rng.integers(0, 1500, n) for name in ("a", "b", "y")})
    columns = " + ".join(names)
    formula = f"y ~ 1 + (0 + {columns} || a) + (0 + {columns} || b)"
    chosen = lmmfast.plan(formula, data)
    assert chosen.storage == "iterative"
    memory, seconds = chosen.considered["dense"]
    assert memory < 1e12 and seconds > 600
    assert lmmfast.plan(formula, data, storage="dense").storage == "dense"  # if it is asked for
