"""The same fits whoever computes them: threads, processes, clusters, a run that goes on."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from lmmfast import LMM, DataError, datasets, fit_many, lmer
from lmmfast.errors import LostWorkerWarning
from lmmfast.many import checkpoint as checkpoints
from lmmfast.many.job import Job
from lmmfast.many.jobs import run_job

FORMULA = "~ Days + (Days | Subject)"
NUMBERS = ("objective", "beta", "se", "theta", "sigma", "df", "estimate", "certificate", "evals")


@pytest.fixture(scope="module")
def data():
    return datasets.load("sleepstudy")


@pytest.fixture(scope="module")
def Y(data):
    fit = lmer("Reaction ~ Days + (Days | Subject)", data)
    values = fit.simulate(60, seed=3).to_numpy(copy=True)
    values[:, 7] = 1.0
    values[3, 9] = values[3, 30] = values[4, 40] = np.nan
    return values


@pytest.fixture(scope="module")
def alone(data, Y):
    return fit_many(FORMULA, data, Y)


def assert_same(one, other):
    for name in NUMBERS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert list(one.status) == list(other.status)
    assert list(one.responses) == list(other.responses)


def processes(number):
    return ProcessPoolExecutor(number, mp_context=get_context("spawn"))


def test_executors_give_what_one_thread_gives(data, Y, alone):
    with ThreadPoolExecutor(2) as pool:
        assert_same(fit_many(FORMULA, data, Y, client=pool), alone)
    with processes(2) as pool:
        assert_same(fit_many(FORMULA, data, Y, client=pool), alone)
        assert_same(fit_many(FORMULA, data, (Y[:, :20], Y[:, 20:]), client=pool), alone)


def test_dask_gives_what_one_thread_gives(data, Y, alone):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert_same(fit_many(FORMULA, data, Y, client=client), alone)


class Fatal(Job):
    """Its last replicates end the process that computes them, but for this one."""

    def __init__(self):
        self.count, self.home = 40, os.getpid()

    def begin(self):
        return None

    def run(self, state, first, stop, part):
        if stop > 30 and os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"square": np.arange(first, stop) ** 2}

    def fingerprint(self):
        return "fatal"


def test_a_worker_that_dies_is_said_and_its_work_is_done():
    with processes(2) as pool, pytest.warns(LostWorkerWarning, match="in this process"):
        found = run_job(Fatal(), client=pool)
    np.testing.assert_array_equal(found["square"], np.arange(40) ** 2)


class FatalOnce(Fatal):
    """The first worker that gets so far dies; who comes after it finds the sign."""

    def __init__(self, sign):
        super().__init__()
        self.sign = sign

    def run(self, state, first, stop, part):
        if stop > 30 and os.getpid() != self.home and not self.sign.exists():
            self.sign.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"square": np.arange(first, stop) ** 2}


@pytest.mark.slow
def test_dask_repeats_what_a_worker_lost_and_it_is_said(tmp_path, data, Y, alone):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert_same(fit_many(FORMULA, data, Y, client=client), alone)
        fit = lmer("Reaction ~ Days + (Days | Subject)", data)
        there = fit.bootstrap(50, seed=1, client=client).replicates
        np.testing.assert_array_equal(there, fit.bootstrap(50, seed=1).replicates)
        with pytest.warns(LostWorkerWarning, match="computed again"):
            found = run_job(FatalOnce(tmp_path / "sign"), client=client)
        np.testing.assert_array_equal(found["square"], np.arange(40) ** 2)


def test_memory_is_that_of_a_chunk(data):
    import tracemalloc

    fit = lmer("Reaction ~ Days + (Days | Subject)", data)
    base = fit.simulate(500, seed=1).to_numpy()

    def peak(count):
        tracemalloc.start()
        found = fit.model.fit_many((base + i for i in range(count)), ddf="z", contrasts="Days")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most, sum(value.nbytes for value in vars(found).values() if hasattr(value, "nbytes"))

    one, rows = peak(1)
    many, more = peak(8)
    assert many - one < 3 * (more - rows)  # results grow, responses (n = 180 numbers each) do not
    assert 3 * (more - rows) < 7 * base.nbytes


def test_what_cannot_work_is_refused(data, Y):
    with pytest.raises(TypeError, match="client must be"):
        fit_many(FORMULA, data, Y, client="tcp://somewhere")
    with pytest.raises(TypeError, match="client must be"):
        fit_many(FORMULA, data, Y[:, :1], client=4)  # also where there is nothing left for it
    with pytest.raises(TypeError, match="path of a file"):
        fit_many(FORMULA, data, Y, checkpoint=5)
    for bad in (0, 1.5, True):
        with pytest.raises(ValueError, match="threads must be"):
            fit_many(FORMULA, data, Y, threads=bad)


class Promises:
    """An executor whose first answer is an error, and whose others never come."""

    _max_workers = 2

    def __init__(self):
        self.futures = []

    def submit(self, *_):
        future = Future()
        if not self.futures:
            future.set_exception(ArithmeticError("enough"))
        self.futures.append(future)
        return future


def test_an_error_leaves_nothing_behind_in_the_executor():
    pool = Promises()
    with pytest.raises(ArithmeticError, match="enough"):
        run_job(Counted(3000), client=pool)
    assert len(pool.futures) > 2 and all(own.cancelled() for own in pool.futures[1:])


# ---- checkpoints ---------------------------------------------------------------------------------


class Counted(Job):
    """Draws a number a replicate, and may be interrupted."""

    def __init__(self, count, until=None):
        self.count, self.until, self.ran = count, until, []

    def begin(self):
        return None

    def run(self, state, first, stop, part):
        if self.until is not None and stop > self.until:
            raise KeyboardInterrupt
        self.ran += range(first, stop)
        return {
            "x": np.random.default_rng(7).random(self.count)[first:stop],
            "word": np.array([f"n{i}" for i in range(first, stop)], dtype=object),
        }

    def fingerprint(self):
        return "counted"


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("lmmfast.many.jobs.MOST", 3)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, small_blocks):
    whole = run_job(Counted(20))
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_job(Counted(20, until=11), checkpoint=path)
    job = Counted(20)
    found = run_job(job, checkpoint=path)
    assert job.ran == list(range(10, 20))
    for name in whole:
        np.testing.assert_array_equal(found[name], whole[name])
    again = Counted(20)
    np.testing.assert_array_equal(run_job(again, checkpoint=path)["word"], whole["word"])
    assert again.ran == []
    fewer = Counted(5)
    assert len(run_job(fewer, checkpoint=path)["x"]) == 5 and fewer.ran == []
    more = Counted(26)
    run_job(more, checkpoint=path)
    assert more.ran == list(range(20, 26))


def test_a_record_that_was_cut_short_is_computed_again(tmp_path, small_blocks):
    path = tmp_path / "run"
    whole = run_job(Counted(10), checkpoint=path)
    complete = path.read_bytes()
    for kept in (len(complete) - 1, len(complete) - 40, len(complete) // 2):
        path.write_bytes(complete[:kept])
        found = run_job(Counted(10), checkpoint=path)
        np.testing.assert_array_equal(found["x"], whole["x"])
        again = Counted(10)
        run_job(again, checkpoint=path)
        assert again.ran == []
    spoiled = bytearray(complete)
    spoiled[len(complete) // 2] ^= 255
    path.write_bytes(bytes(spoiled))
    np.testing.assert_array_equal(run_job(Counted(10), checkpoint=path)["x"], whole["x"])


def test_other_files_are_refused(tmp_path, data, Y, small_blocks):
    path = tmp_path / "run"
    path.write_text("precious")
    with pytest.raises(ValueError, match="is no checkpoint"):
        run_job(Counted(5), checkpoint=path)
    assert path.read_text() == "precious"
    with pytest.raises(DataError, match="cannot be used"):
        run_job(Counted(5), checkpoint=tmp_path / "nowhere" / "run")
    other = tmp_path / "fits"
    fit_many(FORMULA, data, Y[:, :6], checkpoint=other)
    with pytest.raises(ValueError, match="of another run"):
        fit_many(FORMULA, data, Y[:, :6], reml=False, checkpoint=other)
    with pytest.raises(DataError, match="other responses"):
        fit_many(FORMULA, data, Y[:, 1:7], checkpoint=other)
    with pytest.raises(DataError, match="other sizes"):
        fit_many(FORMULA, data, (Y[:, :2], Y[:, 2:6]), checkpoint=other)


def test_two_runs_do_not_share_a_file(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "run"
    with checkpoints.Checkpoint(path, "a"), pytest.raises(ValueError, match="in use"):
        checkpoints.Checkpoint(path, "a")


def test_fits_go_on(tmp_path, data, Y, alone, small_blocks):
    path = tmp_path / "fits"
    half = fit_many(FORMULA, data, Y[:, :31], checkpoint=path)
    np.testing.assert_array_equal(half.beta, alone.beta[:31])

    def chunks():
        yield Y[:, :31]
        yield Y[:, 31:]

    assert_same(fit_many(FORMULA, data, chunks, checkpoint=path), alone)
    assert_same(fit_many(FORMULA, data, chunks, checkpoint=path, threads=2), alone)


# ---- interrupts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_ends_it(data, Y, threads):
    model = LMM(lmer("Reaction ~ Days + (Days | Subject)", data).design)
    wide = np.tile(Y[:, :6], 20_000)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # may be ignored
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            model.fit_many(wide, threads=threads)
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)
    assert model.fit_many(Y[:, :2]).converged.all()
