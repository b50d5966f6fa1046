"""One thread for BLAS while the core runs, and the setting of the process afterwards."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
from scipy.linalg import cython_blas

from lmmfast import LMM, threads
from lmmfast._core import OneThread
from lmmfast.threads import control

THREADS = 4
NAMES = ("scipy_openblas_{}_num_threads", "openblas_{}_num_threads")


def openblas() -> tuple[Callable[[int], object], Callable[[], int]]:
    """SciPy's own functions, found without the code under test."""
    library = ctypes.CDLL(cython_blas.__file__)
    for name in NAMES:
        if hasattr(library, name.format("set")):
            return getattr(library, name.format("set")), getattr(library, name.format("get"))
    pytest.skip("SciPy's BLAS is not OpenBLAS")


@pytest.fixture(params=[1, 2, 3])
def count(request: pytest.FixtureRequest) -> Iterator[Callable[[], int]]:
    """Sets the number of threads; gives the function that tells it, for which it is `before`."""
    set_count, get_count = openblas()
    usual = get_count()
    set_count(request.param)
    get_count.before = request.param
    yield get_count
    set_count(usual)


class Library:
    """A number of threads, of the process or of each thread, and who has set it to what."""

    def __init__(self, number: int) -> None:
        self.number, self.calls = number, []

    def set(self, number: int) -> None:
        self.calls.append(number)
        self.number = number

    def get(self) -> int:
        return self.number

    def swap(self, number: int) -> int:
        before = self.number
        self.set(number)
        return before


# What SciPy brings along -----------------------------------------------------------------------


def test_one_thread_inside_and_the_same_as_before_outside(count) -> None:
    with OneThread(control()):
        assert count() == 1
        scipy.linalg.cholesky(np.eye(300))
        assert count() == 1
    assert count() == count.before


def test_nested(count) -> None:
    with OneThread(control()):
        with OneThread(control()), OneThread(control()):
            assert count() == 1
        assert count() == 1
    assert count() == count.before


def test_exception(count) -> None:
    with pytest.raises(ZeroDivisionError), OneThread(control()), OneThread(control()):
        raise ZeroDivisionError
    assert count() == count.before


def test_concurrent_users(count) -> None:
    """Uses that overlap in every way: never more than one thread inside, restored by the last."""
    gate = threading.Barrier(THREADS)
    A = np.eye(120) + 1

    def use(_: int) -> bool:
        gate.wait(60)
        held = True
        for _ in range(100):
            with OneThread(control()):
                held &= count() == 1
                scipy.linalg.cholesky(A)
                held &= count() == 1
        return held

    for _ in range(5):
        with ThreadPoolExecutor(THREADS) as pool:
            assert all(pool.map(use, range(THREADS)))
        assert count() == count.before


def test_first_user_leaves_before_the_last(count) -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with OneThread(control()):
            inside.set()
            leave.wait(60)

    with OneThread(control()):
        thread = threading.Thread(target=other)
        thread.start()
        inside.wait(60)
    assert count() == 1
    leave.set()
    thread.join()
    assert count() == count.before


def test_number_that_somebody_sets_meanwhile_stays(count) -> None:
    set_count, _ = openblas()
    with OneThread(control()):
        set_count(4)
    assert count() == 4


def test_results_do_not_depend_on_the_number(count) -> None:
    A = np.random.default_rng(1).normal(size=(300, 300))
    with OneThread(control()):
        found = scipy.linalg.blas.dgemm(1.0, A, A)
    assert found.tobytes() == one_thread_product(A)


def one_thread_product(A: np.ndarray) -> bytes:
    set_count, get_count = openblas()
    usual = get_count()
    set_count(1)
    product = scipy.linalg.blas.dgemm(1.0, A, A).tobytes()
    set_count(usual)
    return product


FORK = """
import ctypes, os, sys, threading
sys.path[:0] = {path!r}
from scipy.linalg import cython_blas
from lmmfast._core import OneThread
from lmmfast.threads import control
library = ctypes.CDLL(cython_blas.__file__)
names = [n for n in {names!r} if hasattr(library, n.format("set"))]
if not names:
    raise SystemExit
get, set = (getattr(library, names[0].format(what)) for what in ("get", "set"))
set(2)

def child(work):
    process = os.fork()
    if process == 0:
        os._exit(0 if work() else 1)
    return os.waitpid(process, 0)[1] == 0

def use():
    with OneThread(control()):
        ok = get() == 1
    return ok and get() == 2

assert child(use) and use()
inside, leave = threading.Event(), threading.Event()
def other():
    with OneThread(control()):
        inside.set()
        leave.wait(30)
thread = threading.Thread(target=other)
thread.start()
inside.wait(30)
assert get() == 1
assert child(lambda: get() == 2 and use())  # the other thread does not live there
with OneThread(control()):
    process = os.fork()
    alone = get() == 1
if process == 0:
    os._exit(0 if alone and get() == 2 and use() else 1)
assert os.waitpid(process, 0)[1] == 0
assert get() == 1
leave.set()
thread.join()
assert get() == 2
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_children() -> None:
    """Forked before a use, beside a use of another thread, and within a use."""
    code = FORK.format(path=sys.path, names=NAMES)
    warnings = ["-W", "ignore::DeprecationWarning"]  # of forks in a process with threads
    done = subprocess.run(
        [sys.executable, *warnings, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_no_threads_are_started_in_a_forked_child() -> None:
    """OpenBLAS's own function would start its pool again, which spins for a while."""
    if not hasattr(ctypes.CDLL(cython_blas.__file__), "blas_cpu_number"):
        pytest.skip("the variable is hidden")
    code = (
        f"import os, sys; sys.path[:0] = {sys.path!r}\n"
        "from lmmfast._core import OneThread\n"
        "from lmmfast.threads import control\n"
        "process = os.fork()\n"
        "if process == 0:\n"
        "    with OneThread(control()):\n"
        "        inside = len(os.listdir('/proc/self/task'))\n"
        "    os._exit(inside + len(os.listdir('/proc/self/task')))\n"
        "assert os.WEXITSTATUS(os.waitpid(process, 0)[1]) == 2"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# Other libraries -------------------------------------------------------------------------------


def test_one_is_left_alone() -> None:
    library = Library(1)
    counter = threads._Process(library.set, library.get)
    with counter, counter:
        pass
    assert library.calls == []


def test_interrupted_use_is_made_good_by_the_next() -> None:
    library = Library(8)
    counter = threads._Process(library.set, library.get)
    step = itertools.count()

    def interrupted(number: int) -> None:
        library.set(number)
        if next(step) == 0:
            raise KeyboardInterrupt

    counter.set_count = interrupted
    with pytest.raises(KeyboardInterrupt), counter:
        pass
    assert library.number == 1
    with counter:
        assert library.number == 1
    assert library.number == 8


class Interrupt:
    """Ctrl-C at the k-th event (call, line or return) in the module under test."""

    def __init__(self, number: int) -> None:
        self.number, self.met = number, False

    def __call__(self, frame, event: str, arg: object):
        if not frame.f_code.co_filename.endswith(os.path.join("lmmfast", "threads.py")):
            return None
        if event != "exception":
            self.number -= 1
            if self.number < 0:
                sys.settrace(None)
                self.met = True
                raise KeyboardInterrupt
        return self


def interrupted(work: Callable[[], object], number: int) -> KeyboardInterrupt | None:
    """work() with Ctrl-C at one moment; the exception, None where there are no more moments."""
    tracer, before = Interrupt(number), sys.gettrace()
    sys.settrace(tracer)
    try:
        work()
    except KeyboardInterrupt as error:
        return error
    finally:
        sys.settrace(before)
    assert not tracer.met
    return None


def each_moment(work: Callable[[], object], check: Callable[[], None]) -> int:
    """Ctrl-C at every moment; how many there are."""
    for number in itertools.count():
        error = interrupted(work, number)
        if error is None:
            return number
        check()  # while the traceback is kept, as interactive sessions keep it
    raise AssertionError


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kind", ["process", "thread"])
def test_an_interrupt_at_any_moment_gives_the_number_back(kind: str, depth: int) -> None:
    library = Library(8)
    if kind == "process":
        counter = threads._Process(library.set, library.get)
    else:
        library.number = 0
        counter = threads._Thread(library.swap, 7)
    before = library.number

    def use() -> None:
        with OneThread(counter):
            assert library.number == 1
            if depth > 1:
                with OneThread(counter):
                    assert library.number == 1
            assert library.number == 1

    def check() -> None:
        assert library.number == before
        use()
        assert library.number == before and not counter.users

    assert each_moment(use, check) > 10
    other = threading.Thread(target=use, daemon=True)  # waits for ever where a lock was left behind
    other.start()
    other.join(30)
    assert not other.is_alive()


def test_an_interrupt_in_a_model_gives_the_number_back(count) -> None:
    codes = np.repeat(np.arange(6), 5)
    y = np.random.default_rng(1).normal(size=30) + codes
    model = LMM.from_arrays(y, np.ones((30, 1)), [(codes, None)])
    wanted = model.objective([0.7])

    def check() -> None:
        assert count() == count.before
        assert model.objective([0.7]) == wanted
        assert count() == count.before

    assert each_moment(lambda: model.objective([0.7]), check) > 10


def test_uses_that_nobody_holds_have_ended() -> None:
    library = Library(8)
    counter = threads._Process(library.set, library.get)
    use = OneThread(counter)
    use.__enter__()
    assert library.number == 1
    del use
    assert library.number == 8 and not counter.users


def test_an_interrupt_while_the_core_computes_ends_the_use(count) -> None:
    """The signal comes during the call and is seen when it returns."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("needs setitimer")
    rng = np.random.default_rng(1)
    codes = [rng.integers(0, 900, 9000) for _ in range(2)]
    terms = [(np.unique(own, return_inverse=True)[1], None) for own in codes]
    model = LMM.from_arrays(rng.normal(size=9000), np.ones((9000, 1)), terms)
    old = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(3):
            end = time.monotonic() + 20
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.01)  # in here: a busy machine may be late
                while time.monotonic() < end:
                    model.objective([0.5, 0.5], gradient=True)
            assert count() == count.before
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_reentry_while_leaving() -> None:
    """A finalizer that uses BLAS may run between any two lines."""
    library = Library(8)
    counter = threads._Process(library.set, library.get)
    step = itertools.count()

    def get() -> int:
        if next(step) == 1:  # about to restore
            with counter:
                assert library.number == 1
        return library.get()

    counter.get_count = get
    with counter:
        pass
    assert library.number == 8


def test_setting_of_each_thread() -> None:
    library = Library(0)
    counter = threads._Thread(library.swap, 7)
    with counter:
        with counter:
            assert library.number == 1
        assert library.number == 1
    assert library.number == 0
    with pytest.raises(ZeroDivisionError), counter:
        raise ZeroDivisionError
    assert library.number == 0


def test_mkl_and_accelerate_are_recognized() -> None:
    pages = ctypes.CDLL(None) if os.name != "nt" else ctypes.cdll.msvcrt
    stand_in = pages.abs  # int f(int), with an address
    mkl = threads._thread(SimpleNamespace(MKL_Set_Num_Threads_Local=stand_in))
    assert mkl is not None and mkl.address == ctypes.cast(stand_in, ctypes.c_void_p).value
    apple = threads._thread(SimpleNamespace(BLASSetThreading=stand_in, BLASGetThreading=pages.rand))
    assert apple is not None and apple.address == mkl.address
    assert threads._thread(SimpleNamespace()) is None
    assert threads._process(SimpleNamespace(openblas_set_num_threads=stand_in)) is None


def test_unknown_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_libraries", lambda: iter([SimpleNamespace()]))
    assert threads._control() is None


def test_local_setter_is_for_libraries_that_count_by_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = Library(0)
    monkeypatch.setattr(threads, "_CONTROL", threads._Thread(library.swap, 7))
    assert threads.local_setter() == 7
    monkeypatch.setattr(threads, "_CONTROL", threads._Process(library.set, library.get))
    assert threads.local_setter() == 0


def test_the_variable_of_another_copy_is_not_enough() -> None:
    """Where writing OpenBLAS's variable changes nothing that counts its function is called."""
    library = ctypes.PyDLL(cython_blas.__file__)
    if not hasattr(library, "blas_cpu_number"):
        pytest.skip("the variable is hidden")
    variable = ctypes.c_int.in_dll(library, "blas_cpu_number")
    usual, other = variable.value, Library(4)
    try:
        threads._openblas(library, other.set, other.get)(1)
        assert (other.number, other.calls) == (1, [1])
        same = Library(0)
        write = threads._openblas(library, same.set, lambda: variable.value)
        write(3)
        assert variable.value == 3 and same.calls == []
    finally:
        variable.value = usual
