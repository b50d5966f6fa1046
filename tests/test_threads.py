"""Threads, interrupts and memory: what a long-running program needs."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from structures import STRUCTURES, problem, sparse_pair

import lmmfast
from lmmfast import LMM, errors
from lmmfast.data.arrays import design_of

pytestmark = pytest.mark.filterwarnings("ignore::lmmfast.IdentifiabilityWarning")

THREADS = 4
NAMES = ["two-terms", "designed-four", "sparse-three", "nested-three-crossed"] * 2


def numbers(fit: lmmfast.LMMFit) -> list[bytes]:
    """Everything that a fit estimates, bit by bit."""
    found = fit.estimates
    arrays = [
        found.theta,
        found.beta,
        found.vcov,
        *found.b,
        np.array([found.objective, found.sigma]),
    ]
    return [array.tobytes() for array in arrays]


def in_threads(call, arguments: list) -> list:
    """call(argument) for all of them, in threads that start together."""
    gate, first = threading.Barrier(THREADS), itertools.count()

    def run(argument):
        if next(first) < THREADS:
            gate.wait(60)
        return call(argument)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, arguments))


# Threads ------------------------------------------------------------------------------------------


def test_own_models_give_the_serial_results_bit_by_bit() -> None:
    def whole(name: str) -> list[bytes]:
        return numbers(LMM.from_arrays(*STRUCTURES[name][0].arrays).fit())

    assert in_threads(whole, NAMES) == [whole(name) for name in NAMES]


@pytest.mark.parametrize("name", sorted(set(NAMES)))
def test_shared_model_gives_each_thread_its_own_values(name: str) -> None:
    model = LMM.from_arrays(*STRUCTURES[name][0].arrays)
    rng = np.random.default_rng(4)
    points = [rng.normal(size=model.ntheta) for _ in range(40)]

    def values(theta: np.ndarray) -> list[bytes]:
        f, g, H = model.objective(theta, gradient=True, hessian=True)
        return [
            np.float64(f).tobytes(),
            g.tobytes(),
            H.tobytes(),
            model.condvar(theta)[0].tobytes(),
        ]

    assert in_threads(values, points) == [values(theta) for theta in points]


def test_shared_model_refits_in_threads() -> None:
    """Each thread puts its own response into the one model, while others evaluate the old one."""
    made, _ = STRUCTURES["designed-four"]
    model = LMM.from_arrays(*made.arrays)
    fit = model.fit()
    rng = np.random.default_rng(5)
    responses = [made.y + rng.normal(size=len(made.y)) for _ in range(24)]

    def refit(y: np.ndarray) -> tuple[list[bytes], float]:
        return numbers(fit.refit(y)), model.objective(fit.theta)

    found = in_threads(refit, responses)
    assert found == [refit(y) for y in responses]
    assert len({value for _, value in found}) == 1
    again = model.fit()  # Z'Wy is summed in another order than at first
    assert again.objective == pytest.approx(fit.objective, rel=1e-12)
    assert again.theta == pytest.approx(fit.theta, rel=1e-6, abs=1e-6)


def long_model(rows: int = 60_000) -> LMM:
    """Evaluations of some 50 ms each: two crossed factors, trailing order 1500, held dense."""
    rng = np.random.default_rng(6)
    made = problem(rng, sparse_pair(rng, rows, 2400, 1500), [1, 1])
    return LMM.from_arrays(*made.arrays, storage="dense")


def test_gil_is_released() -> None:
    """A counter in another thread goes on counting while one evaluation of the core runs."""
    model, counts, stop = long_model(), [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            counts[0] += 1

    counter = threading.Thread(target=count)
    theta, usual = np.full(model.ntheta, 0.5), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # a turn between two calls lets the other count to a hundred
    counter.start()
    try:
        advanced = []
        for _ in range(3):
            before = counts[0]
            model.objective(theta, gradient=True)
            advanced.append(counts[0] - before)
    finally:
        stop.set()
        counter.join()
        sys.setswitchinterval(usual)
    assert max(advanced) > 20_000


def test_callback_that_uses_its_own_model_does_not_hang() -> None:
    """It gets an error or values, and the fit does not wait for itself."""
    model = LMM.from_arrays(*STRUCTURES["designed-four"][0].arrays)
    wanted = model.fit().objective

    def fit() -> None:
        with suppress(RuntimeError):
            model.fit(callback=lambda e: model.objective(np.full(model.ntheta, 0.5)) < 0)

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert model.fit().objective == wanted


def test_warnings_are_silenced_in_one_thread_and_its_jobs() -> None:
    """Filters of the process stay as they are: several threads would leave them in disorder."""
    warning = lmmfast.SeparationWarning("said")
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with errors.silenced(lmmfast.SeparationWarning):
            inside.set()
            leave.wait(60)
            errors.warn(warning)
            with pytest.warns(lmmfast.RankDeficientWarning):
                errors.warn(lmmfast.RankDeficientWarning("said"))

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(other)
        inside.wait(60)
        with pytest.warns(lmmfast.SeparationWarning):
            errors.warn(warning)
        leave.set()
        done.result(60)
    with errors.silenced():
        errors.warn(warning)


def test_nothing_changes_the_filters_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    own, usual = str(Path(lmmfast.__file__).parent), warnings.catch_warnings

    def refuse(*args: object, **options: object) -> object:
        assert not sys._getframe(1).f_code.co_filename.startswith(own)
        return usual(*args, **options)

    monkeypatch.setattr(warnings, "catch_warnings", refuse)
    data = lmmfast.datasets.load("sleepstudy")
    data["slow"] = (data["Reaction"] > 300).astype(float)
    lmmfast.lmer("Reaction ~ Days + (Days | Subject)", data, fixed={"sigma": 25.0})
    fit = lmmfast.lmer("Reaction ~ Days + (Days | Subject)", data)
    fit.bootstrap(20, threads=2, seed=1)
    fit.influence("Subject")
    fit.conf_int(method="profile")
    lmmfast.anova(fit, fit.update("~ . - Days"))
    lmmfast.ranova(fit)
    lmmfast.plan("Reaction ~ Days + (Days | Subject)", data)
    lmmfast.pb_test(fit.update("~ . - Days"), fit, n=10, seed=1)
    lmmfast.power(fit, test="Days", n=10, seed=1)
    fit.without_data().predict(data[:3])
    generalized = lmmfast.glmer("slow ~ Days + (1 | Subject)", data)
    generalized.conf_int(method="profile")
    generalized.bootstrap(4, seed=1)
    generalized.influence("Subject")


# Interrupts ---------------------------------------------------------------------------------------

LONG_FIT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where tests run
sys.path[:0] = {path!r}
from test_threads import long_model
model = long_model()
wanted = model.objective([0.5, 0.5])
print("ready", flush=True)
try:
    for _ in range(1000):
        model.fit(start=[100.0, 100.0])
except KeyboardInterrupt:
    assert model.objective([0.5, 0.5]) == wanted
    assert model.fit(max_seconds=60).converged
    print("usable", flush=True)
    raise
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process")
def test_interrupt_stops_a_long_fit() -> None:
    folder = str(Path(__file__).resolve().parent)
    code = LONG_FIT.format(path=[folder, *sys.path])
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    assert out == "usable\n", err
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert child.returncode in (1, -signal.SIGINT, 130)


# Memory -------------------------------------------------------------------------------------------


def limit_owner() -> ModuleType:
    """The module whose `memory_limit` decides."""
    owners = [
        m for k, m in sys.modules.items() if k.startswith("lmmfast") and "memory_limit" in vars(m)
    ]
    return max(owners, key=lambda m: m.memory_limit.__module__ == m.__name__)


def test_too_large_a_model_is_refused_with_its_size() -> None:
    """60,000 x 60,000 crossed levels: a dense rest of 29 GB and its factor."""
    rng = np.random.default_rng(7)
    n = m = 60_000
    codes = [rng.permutation(np.concatenate([np.arange(m)] * 2)) for _ in range(2)]
    y, X = rng.normal(size=2 * n), np.ones((2 * n, 1))
    with pytest.raises(MemoryError) as raised:
        LMM(design_of(y, X, [(codes[0], None), (codes[1], None)], None, None), storage="dense")
    message = str(raised.value)
    assert "57." in message and "GB" in message
    assert "g0 (60000 levels)" in message and "g1 (60000 levels)" in message


def test_limit_is_the_one_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = STRUCTURES["designed-four"]
    needs = LMM.from_arrays(*made.arrays).storage["bytes"]
    owner = limit_owner()
    monkeypatch.setattr(owner, "SMALL", 0)  # small models are not checked
    monkeypatch.setattr(owner, "memory_limit", lambda: needs)
    assert LMM.from_arrays(*made.arrays).fit().converged
    for share in (0.99, 0.5, 0.01, 0.0):
        monkeypatch.setattr(owner, "memory_limit", lambda share=share: share * needs)
        with pytest.raises(MemoryError, match=r"g0 \(12 levels\)"):
            LMM.from_arrays(*made.arrays)


MEMORY = """
import json, resource, sys
sys.path[:0] = {path!r}
import numpy as np
import lmmfast
from lmmfast import LMM, errors
from structures import dense_pair, problem

def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()

def grown(repeats, call):
    call()
    before = resident()
    kept = [call() for _ in range(repeats)]
    return resident() - before

def attempt(y, X, terms):
    try:
        LMM.from_arrays(y, X, terms).fit()
    except (MemoryError, lmmfast.LmmError):
        return
    raise SystemExit("no error")

rng = np.random.default_rng(8)
y, X, terms, _, _ = problem(rng, dense_pair(rng, 90, 60), [3, 2]).arrays
model = LMM.from_arrays(y, X, terms)
out = {{"bytes": model.storage["bytes"]}}

def whole():
    LMM.from_arrays(y, X, terms).fit(max_seconds=1e6).model.condvar(np.ones(9))

out["fits"] = grown(60, whole)
out["no variance"] = grown(60, lambda: attempt(X @ np.ones(2), X, terms))
out["zero column"] = grown(60, lambda: attempt(y, X, [(terms[0][0], 0 * y)]))
where = sys.modules[{owner!r}]
where.SMALL, where.memory_limit = 0, lambda: 1000.0
out["too large"] = grown(60, lambda: attempt(y, X, terms))
where.memory_limit = lambda: 1e10
times = 100
y = np.tile(y, times)
X = np.asfortranarray(np.tile(X, (times, 1)))
terms = [(np.tile(c, times).astype(np.int32), np.tile(z, (times, 1)), k) for c, z, k in terms]
before = resident()
many = LMM.from_arrays(y, X, terms)
out["rows"], out["many rows"] = len(y), resident() - before
print(json.dumps(out))
"""


def measured() -> dict[str, float]:
    folder = str(Path(__file__).resolve().parent)
    code = MEMORY.format(path=[folder, *sys.path], owner=limit_owner().__name__)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="ASan keeps freed memory")
def test_memory_is_given_back_and_does_not_depend_on_rows() -> None:
    found = measured()
    assert found["bytes"] > 5e5  # one forgotten model would show at once
    for what in ("fits", "no variance", "zero column", "too large"):
        assert found[what] < 10 * found["bytes"], what  # of 60
    # y, its copy and two codes are kept (24 bytes a row); the whitened rows, 64 bytes, are not
    assert found["many rows"] < 40 * found["rows"] + 2 * found["bytes"]


FORK = """
import os, sys, threading, time, warnings
sys.path[:0] = {path!r}
warnings.simplefilter("ignore")
import numpy as np
from test_threads import long_model

model = long_model()
theta = np.full(model.ntheta, 0.5)
wanted = model.objective(theta)
stop = threading.Event()

def work():
    while not stop.is_set():
        model.objective(theta, gradient=True)

thread = threading.Thread(target=work)
thread.start()
time.sleep(0.05)
child = os.fork()
if child == 0:
    os._exit(0 if model.objective(theta) == wanted else 1)
until = time.monotonic() + 20
found = (0, 0)
while found[0] == 0 and time.monotonic() < until:
    found = os.waitpid(child, os.WNOHANG)
    time.sleep(0.01)
if found[0] == 0:
    os.kill(child, 9)
stop.set()
thread.join()
sys.exit(os.waitstatus_to_exitcode(found[1]) if found[0] else 2)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_can_use_a_model_that_was_busy() -> None:
    """The thread that held its lock is not in the child."""
    folder = str(Path(__file__).resolve().parent)
    code = FORK.format(path=[folder, *sys.path])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
