"""Memory that runs out at any allocation of the core: MemoryError, and everything else goes on.

A small library in front of malloc lets the n-th allocation of the core fail, for every n.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHIM = r"""
#include <stddef.h>
#include <stdint.h>

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
static _Thread_local long left; /* allocations until one fails; 0: none does */
static uintptr_t first, last;   /* where the code is whose allocations count */
static _Thread_local long failures;

void arm(long n, uintptr_t from, uintptr_t to) { left = n; first = from; last = to; failures = 0; }
long failed(void) { left = 0; return failures; }

static int fails(void *caller)
{
    const uintptr_t at = (uintptr_t)caller;
    if (!left || at < first || at >= last || --left) return 0;
    failures++;
    return 1;
}

void *malloc(size_t n) { return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t m)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(n, m);
}
void *realloc(void *p, size_t n)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(p, n);
}
"""

COMMON = r"""
import ctypes, sys, warnings
sys.path[:0] = {path!r}
import numpy as np
from structures import chain, problem, sparse_pair
from lmmfast import LMM, CrossProducts, Spec, _core
warnings.simplefilter("ignore")
shim = ctypes.CDLL(None)
shim.arm.argtypes = [ctypes.c_long, ctypes.c_size_t, ctypes.c_size_t]
shim.failed.restype = ctypes.c_long
own = [line.split()[0].split("-") for line in open("/proc/self/maps") if _core.__file__ in line]
first, last = min(int(a, 16) for a, _ in own), max(int(b, 16) for _, b in own)

def every_failure(work):
    "work() with each of its allocations failing in turn; what it gives when none does"
    for n in range(1, 100_000):
        shim.arm(n, first, last)
        try:
            result = work()
        except MemoryError:
            result = None
        if not shim.failed():
            assert result is not None
            return n - 1, result
        yield_up = result  # a failure may be made good, but never change what comes out

rng = np.random.default_rng(0)
"""

SET_UP = r"""
MODELS = dict(
    dense=([rng.integers(0, 6, 90), rng.integers(0, 5, 90)], [2, 1], "dense"),
    single=([rng.integers(0, 6, 60)], [3], "auto"),
    nested=(chain(rng, 90, 30, 6), [2, 1], "auto"),
    crossed=([*chain(rng, 120, 30, 6), rng.integers(0, 7, 120)], [1, 2, 1], "dense"),
    sparse=(sparse_pair(rng, 300, 60, 50), [2, 1], "sparse"),
    iterative=(sparse_pair(rng, 200, 40, 30), [1, 2], "iterative"),
    wide=([rng.integers(0, 6, 300)], [1], "auto"),
    collinear=([rng.integers(0, 6, 300)], [1], "auto"),
    coded=([rng.integers(0, 6, 300), rng.integers(0, 3, 300)], [1, 2], "dense"),
)
def check(name):
    factors, widths, storage = MODELS[name]
    factors = [np.unique(codes, return_inverse=True)[1] for codes in factors]
    made = problem(rng, factors, widths)
    X = np.asfortranarray(made.X)
    if name in ("wide", "collinear"):
        X = np.asfortranarray(np.column_stack([X, rng.normal(size=(300, 120)), X[:, 1]]))
        X[:, -1] += rng.normal(size=300) * (1e-5 if name == "collinear" else 1)
    if name == "coded":  # the last level has two columns to itself: one of these is dropped
        start, column = np.array([*range(20), 22]), np.array([*range(2, 21), 20, 21, 22])
        coded = [rng.integers(0, 20, 300), None, start, column, np.ones(22)]
        coded = [one if i in (1, 4) else one.astype(np.int32) for i, one in enumerate(coded)]
        X = 23, X, np.arange(2, dtype=np.int32), [tuple(coded)]
    terms = [(codes.astype(np.int32), int(codes.max()) + 1, np.ascontiguousarray(term.z),
              np.zeros(term.z.shape[1], np.int32)) for codes, term in zip(factors, made.terms)]
    options = dict(storage=storage)

    def model():
        return _core.Model(made.y, X, terms, **options)

    def value(m):
        m.evaluate(np.full(m.ntheta, 0.4))
        f = m.evaluate(np.full(m.ntheta, 0.5))
        m.derivatives(True)
        return f

    count, m = every_failure(model)
    f, theta = value(m), m.fit()[0].tolist()

    def evaluated():
        return value(m), m.fit()[0].tolist(), float(m.estimates()[2])

    wanted = evaluated()
    every_failure(evaluated)
    assert evaluated() == wanted
    for threads in (2, 3, 2, 5):
        for n in range(1, 1000):
            shim.arm(n, first, last)
            try:
                m.use_threads(threads)
            except MemoryError:
                pass
            failed = shim.failed()
            assert value(m) == f
            if not failed:
                break
    again = m.response
    every_failure(lambda: again(made.y, X, terms) or True)
    again(made.y, X, terms)
    assert abs(value(m) - f) < 1e-9 * abs(f)
    every_failure(lambda: _core.plan(made.y, X, terms, **options)["bytes"])
    return count

print("done", *map(check, MODELS))
"""

SUMS = r"""
import pandas as pd
n = 400
data = pd.DataFrame(dict(y=rng.normal(size=n), x=rng.normal(size=n), g=rng.integers(0, 9, n),
                         h=rng.integers(0, 300, n)))
spec = Spec.from_data("y ~ x + (x | g) + (1 | h)", data)
one, two = (CrossProducts.from_frame(part, spec) for part in (data[:200], data[200:]))
both = (one + two).to_bytes()
every_failure(lambda: CrossProducts.from_frame(data[:200], spec).to_bytes())
every_failure(lambda: (one + two).to_bytes())
every_failure(lambda: CrossProducts.from_bytes(both).to_bytes())
every_failure(lambda: LMM.from_cross_products(one + two).objective([1.0, 0.2, 0.5, 0.7]))
assert (one + two).to_bytes() == both
spoiled = 0
for k in range(1, 40):  # an addition in place that fails halfway is not used any more
    total = one.copy()
    shim.arm(k, first, last)
    try:
        total += two
    except MemoryError:
        shim.failed()
        try:
            assert total.to_bytes() == one.to_bytes()
        except ValueError as error:
            assert "broken off" in str(error)
            spoiled += 1
    shim.failed()
assert spoiled
print("done")
"""

ORDERS = r"""
full = rng.random((40, 40)) < 0.1
column, row = np.nonzero(np.tril(full | np.eye(40, dtype=bool)).T)
graph = np.searchsorted(column, np.arange(41)), row.astype(np.int32), np.ones(40, np.int32)
for how in (_core.AMD, _core.RCM):
    count, order = every_failure(lambda: _core.fill_reducing_order(how, *graph))
    assert count > 5 and sorted(order) == list(range(40))
    assert (order == _core.fill_reducing_order(how, *graph)).all()
one = np.repeat(np.arange(8000), 2)
two = np.r_[np.arange(4000), rng.integers(0, 4000, 12_000)]
made = problem(rng, [one, two], [1, 1])
terms = [(codes.astype(np.int32), int(codes.max()) + 1, np.ascontiguousarray(term.z),
          np.zeros(1, np.int32)) for codes, term in zip([one, two], made.terms)]
asked = []
def offered(ptr, row):
    asked.append(len(row))
    return "offered", np.arange(len(ptr) - 1)
wanted = _core.plan(made.y, np.asfortranarray(made.X), terms, storage="sparse")
count, found = every_failure(lambda: _core.plan(made.y, np.asfortranarray(made.X), terms,
                                                storage="sparse", order=offered))
assert found == wanted and found["ordered_by"] == _core.AMD and len(asked) > 10
print("done", count)
"""

RESIDUAL = r"""
import pandas as pd
from lmmfast import lmer
from lmmfast.engine.residual import linear_model
n = 240
data = pd.DataFrame(dict(y=rng.normal(size=n), x=rng.normal(size=n), g=np.repeat(range(40), 6),
                         t=np.tile(range(6), 40), s=rng.integers(0, 3, n), h=rng.integers(0, 9, n)))
data["y"] += rng.normal(size=40)[data["g"]] + rng.normal(size=9)[data["h"]]
both = lmer("y ~ x + (1 | g)", data, dispersion="~ s", residual="ar1(t | g)")
stream = lmer("y ~ x + (1 | g) + (1 | h)", [data[:90], data[90:]], dispersion="~ s")
total = 0
for fit in (both, stream):
    own, core = fit.estimates, fit.model._core

    def moments():
        core.place(own.delta)
        core.evaluate(own.theta, True, value=False)
        return [one.tolist() for one in core.directions()[:5]]

    wanted = moments()
    count, found = every_failure(moments)
    assert count > 10 and found == wanted and moments() == wanted
    criterion = lambda: linear_model(fit.design).objective(own.theta, delta=own.delta)
    total += every_failure(criterion)[0]
    assert criterion() == fit.model.objective(own.theta, delta=own.delta)
print("done", total)
"""

pytestmark = [
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's names of malloc"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    command = ["cc", "-shared", "-fPIC", "-O1", "-fno-builtin", "shim.c", "-o", "shim.so"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the compiler does not make it: {done.stderr[:200]}")
    return folder / "shim.so"


def run(shim: Path, code: str) -> str:
    path = [*sys.path, str(Path(__file__).parent)]
    text = (COMMON + code).replace("{path!r}", repr(path))
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LD_PRELOAD": str(shim), "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0 and done.stdout.startswith("done"), (
        done.stdout + done.stderr[-2000:]
    )
    return done.stdout


def test_memory_that_runs_out_in_set_up_and_threads(shim: Path) -> None:
    """Of one model for each kind of storage, and of wide ones."""
    counts = [int(one) for one in run(shim, SET_UP).split()[1:]]
    assert len(counts) == 9
    assert min(counts) > 30  # allocations that failed one by one


def test_memory_that_runs_out_while_orders_are_found(shim: Path) -> None:
    """Alone, and in all the analyses of a graph that is hard to factorize."""
    assert int(run(shim, ORDERS).split()[1]) > 100


def test_memory_that_runs_out_in_sums_of_rows(shim: Path) -> None:
    run(shim, SUMS)


def test_memory_that_runs_out_where_residuals_have_a_structure(shim: Path) -> None:
    assert int(run(shim, RESIDUAL).split()[1]) > 60
