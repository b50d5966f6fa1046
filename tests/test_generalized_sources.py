"""glmer() of files, streams and data larger than memory: the fit of the same rows in memory."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streams import pieces, worst

import lmmfast
from lmmfast import DataError, FormulaError, SeparationWarning, glmer, memory
from lmmfast.engine import separation
from lmmfast.sources import kept
from lmmfast.sources.store import Store

SAME = 1e-10

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "binary": ("y ~ x * c + (1 | id) + (1 | item)", {"family": "binomial"}),
    "words": ("word ~ x + (1 + x | id)", {"family": "binomial"}),
    "logicals": ("y == 1 ~ x + (1 | id)", {"family": "binomial", "link": "probit"}),
    "two columns": ("cbind(hits, 5 - hits) ~ x + (1 | id)", {"family": "binomial"}),
    "shares": ("share ~ x + (1 | id)", {"family": "binomial", "weights": "trials"}),
    "counts": (
        "count ~ x + log(z) + offset(x / 2) + (1 | id) + (1 | id:c)",
        {"family": "poisson", "offset": "o"},
    ),
    "ordered": ("grade ~ x + c + (1 | id)", {"family": "ordered"}),
    "quadrature": ("y ~ x + (1 | id)", {"family": "binomial", "nagq": 7}),
    "restricted": ("y ~ x + c + (1 | id)", {"family": "binomial", "reml": True}),
    "gamma": ("z ~ x + c + (1 | id)", {"family": "gamma", "link": "log"}),
}


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    """1,500 rows with a response of every kind; some values are missing."""
    rng = np.random.default_rng(5)
    n = 1500
    made = pd.DataFrame(
        {
            "id": rng.integers(0, 40, n) * 3,
            "item": rng.choice(list("abcdefghijkl"), n),
            "x": rng.normal(size=n),
            "c": rng.choice(["u", "v", "w"], n),
            "o": rng.normal(size=n) / 10,
            "trials": rng.integers(3, 8, n),
        }
    )
    eta = -0.3 + 0.5 * made.x + (made.c == "v") + rng.normal(size=120)[made["id"]]
    mean = 1 / (1 + np.exp(-eta))
    made["y"] = (rng.random(n) < mean).astype(int)
    made["word"] = np.where(made.y == 1, "yes", "no")
    made["hits"] = rng.binomial(5, mean)
    made["share"] = rng.binomial(made.trials, mean) / made.trials
    made["count"] = rng.poisson(np.exp(eta / 2))
    made["z"] = rng.gamma(3, np.exp(eta) / 3)
    grade = np.digitize(eta + rng.logistic(size=n), [-1, 0, 1])
    made["grade"] = pd.Categorical.from_codes(grade, list("srqp"), ordered=True)
    made.loc[[5, 700, 701], "x"] = np.nan
    made.loc[9, "c"] = None
    return made


def assert_same(found: Any, wanted: Any, tolerance: float = SAME) -> None:
    """Two fits of the same model and rows."""
    assert worst(found.objective, wanted.objective) <= tolerance
    assert list(found.params.index) == list(wanted.params.index)
    assert worst(found.params, wanted.params, wanted.bse.to_numpy()) <= 1e4 * tolerance
    assert worst(found.bse, wanted.bse) <= 1e4 * tolerance
    assert worst(found.estimates.extra, wanted.estimates.extra, 1.0) <= 1e4 * tolerance
    for one, other in zip(found.estimates.T, wanted.estimates.T, strict=True):
        assert worst(one @ one.T, other @ other.T) <= 1e-6
    modes = wanted.ranef()
    for group, frame in found.ranef().items():
        assert list(frame.index) == list(modes[group].index)
        assert worst(frame, modes[group], 1.0) <= 1e-6
    assert (found.nobs, found.n_levels) == (wanted.nobs, wanted.n_levels)
    mine, other = found.design, wanted.design
    assert (mine.n_rows, mine.dropped) == (other.n_rows, other.dropped)
    assert mine.outcome == other.outcome
    np.testing.assert_array_equal(mine.rows, other.rows)


@pytest.mark.parametrize("name", MODELS)
def test_chunks_give_the_fit_in_memory(name: str, data: pd.DataFrame) -> None:
    formula, how = MODELS[name]
    assert_same(glmer(formula, pieces(data), **how), glmer(formula, data, **how))


def parquet(data: pd.DataFrame, folder: Path) -> str:
    pytest.importorskip("pyarrow")
    path = folder / "trials.parquet"
    data.to_parquet(path, row_group_size=300)
    return str(path)


def directory(data: pd.DataFrame, folder: Path) -> str:
    pytest.importorskip("pyarrow")
    (folder / "parts").mkdir()
    data[:800].to_parquet(folder / "parts" / "a.parquet")
    data[800:].to_parquet(folder / "parts" / "b.parquet")
    return str(folder / "parts")


def text(data: pd.DataFrame, folder: Path) -> str:
    data.to_csv(folder / "trials.csv", index=False)
    return str(folder / "trials.csv")


def dask(data: pd.DataFrame, folder: Path) -> Any:
    frames = pytest.importorskip("dask.dataframe")
    return frames.from_pandas(data, npartitions=4)


def duckdb(data: pd.DataFrame, folder: Path) -> Any:
    engine = pytest.importorskip("duckdb")
    return engine.connect(":memory:").from_df(data)


def dataset(data: pd.DataFrame, folder: Path) -> Any:
    return pytest.importorskip("pyarrow.dataset").dataset(parquet(data, folder))


def function(data: pd.DataFrame, folder: Path) -> Any:
    return lambda: iter(pieces(data))


SOURCES = [parquet, directory, text, dask, duckdb, dataset, function]


@pytest.mark.parametrize("source", SOURCES)
def test_every_source(
    source: Callable[[pd.DataFrame, Path], Any], data: pd.DataFrame, tmp_path: Path
) -> None:
    formula, how = MODELS["words"]
    assert_same(glmer(formula, source(data, tmp_path), **how), glmer(formula, data, **how))


def test_an_iterator_that_cannot_begin_again_is_refused(data: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="twice"):
        glmer("y ~ x + (1 | id)", iter(pieces(data)))


def test_a_source_that_changes_is_refused(data: pd.DataFrame) -> None:
    calls: list[int] = []

    def changing() -> Any:
        calls.append(1)
        return iter([data if len(calls) == 1 else data[:-1]])

    with pytest.raises(DataError, match="changed between the two passes"):
        glmer("y ~ x + (1 | id)", changing)


def test_other_levels_of_the_response_in_the_second_pass_are_refused(data: pd.DataFrame) -> None:
    calls: list[int] = []

    def changing() -> Any:
        calls.append(1)
        own = data if len(calls) == 1 else data.assign(word=data.word.replace("no", "nope"))
        return iter([own])

    with pytest.raises(DataError, match="has other levels"):
        glmer("word ~ x + (1 | id)", changing)


def test_a_bad_response_is_told_by_its_row_in_the_source(data: pd.DataFrame) -> None:
    bad = data.assign(count=data["count"].astype(float))
    bad.loc[1203, "count"] = 2.5
    with pytest.raises(DataError, match="whole number") as told:
        glmer("count ~ x + (1 | id)", pieces(bad), family="poisson")
    assert told.value.rows == (1203,) or list(told.value.rows) == [1203]


def test_functions_of_all_rows_are_refused(data: pd.DataFrame) -> None:
    with pytest.raises(FormulaError, match="needs all rows at once"):
        glmer("y ~ scale(x) + (1 | id)", pieces(data))


def test_cross_products_are_refused(data: pd.DataFrame) -> None:
    spec = lmmfast.Spec.from_data("z ~ x + (1 | id)", data)
    cross = lmmfast.CrossProducts.from_frame(data, spec)
    with pytest.raises(DataError, match="cross-products have none"):
        glmer("z ~ x + (1 | id)", cross, family="gamma")


def test_the_fit_says_what_was_read(data: pd.DataFrame, tmp_path: Path) -> None:
    fit = glmer("y ~ x + (1 | id)", parquet(data, tmp_path))
    said = str(fit.summary())
    assert "2 passes over" in said and "trials.parquet" in said
    assert f"{fit.estimates.passes} over rows" in " ".join(said.split())
    assert fit.design.reading is not None and fit.design.reading.passes == 2


def test_rows_can_be_read(data: pd.DataFrame) -> None:
    found, wanted = (glmer("y ~ x + c + (1 | id)", own) for own in (pieces(data), data))
    assert worst(found.fittedvalues, wanted.fittedvalues) <= 1e-9
    assert worst(found.residuals("pearson"), wanted.residuals("pearson")) <= 1e-9
    frames = [lmmfast.emmeans(fit, "c").to_frame() for fit in (found, wanted)]
    assert worst(frames[0].iloc[:, 1:3], frames[1].iloc[:, 1:3]) <= 1e-8


# ---- rows in files -------------------------------------------------------------------------------


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for the model, but hardly for rows."""
    from lmmfast.engine import compiled

    monkeypatch.setattr(compiled, "SMALL", 0.0)
    monkeypatch.setattr(compiled, "memory_limit", lambda: 600e3)
    monkeypatch.setattr(kept, "MEMORY_SHARE", 0.0)


@pytest.mark.usefixtures("scarce")
@pytest.mark.parametrize("name", MODELS)
def test_rows_in_files_give_the_same_fit(name: str, data: pd.DataFrame, request: Any) -> None:
    formula, how = MODELS[name]
    many = pd.concat([data] * 4, ignore_index=True)
    many["x"] += np.random.default_rng(1).normal(size=len(many))
    found = glmer(formula, pieces(many), **how)
    assert found.estimates.outside > 0
    assert found.design.reading is not None and found.design.reading.in_file
    assert " in files" in str(found.summary())
    request.getfixturevalue("monkeypatch").undo()
    wanted = glmer(formula, many, **how)
    assert wanted.estimates.outside == 0
    assert_same(found, wanted)
    assert worst(found.fittedvalues, wanted.fittedvalues) <= 1e-9


@pytest.mark.usefixtures("scarce")
@pytest.mark.parametrize("how", [{}, {"reml": True}])
def test_no_matrix_of_all_rows_is_made(how: dict[str, Any], data: pd.DataFrame) -> None:
    fit = glmer("y ~ x + c + offset(o) + (1 + x | id)", pieces(data), **how)
    fit.summary()
    own = fit.linear_predictor
    made = [fit.design.fixed, *(term.source for term in fit.design.terms)]
    assert not any("values" in vars(columns) for columns in made)
    assert worst(own, fit.model.point(fit.psi).predictor) <= 1e-9


@pytest.mark.usefixtures("scarce")
@pytest.mark.parametrize("some", [100_000, 50])
def test_separation(some: int, data: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named as in memory, by some rows as by all."""
    monkeypatch.setattr(separation, "SOME", some)
    own = data.assign(y=np.where(data.c == "v", 1, data.y))
    with pytest.warns(SeparationWarning, match="c is 'v'"):
        fit = glmer("y ~ x + c + (1 | id)", pieces(own))
    assert fit.estimates.separation.names == ("c[T.v]",)
    own.loc[own.index[own.c == "v"][-1], "y"] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", SeparationWarning)
        glmer("y ~ x + c + (1 | id)", pieces(own))


@pytest.mark.usefixtures("scarce")
def test_a_pickle_has_its_rows_in_memory(data: pd.DataFrame) -> None:
    fit = glmer("z ~ x + (1 | id)", pieces(data), family="gamma", link="log")
    again = pickle.loads(pickle.dumps(fit))
    assert fit.design.reading.in_file and not again.design.reading.in_file
    assert worst(again.fittedvalues, fit.fittedvalues) <= 1e-12


@pytest.mark.usefixtures("scarce")
def test_a_table_in_memory_whose_rows_do_not_fit(data: pd.DataFrame) -> None:
    fit = glmer("z ~ x + c + (1 | id)", pd.concat([data] * 4), family="gamma", link="log")
    assert fit.converged
    assert fit.estimates.outside > 0


@pytest.mark.usefixtures("scarce")
def test_a_full_disk_is_told(data: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memory, "_reserve", full)
    with pytest.raises(MemoryError, match=r"No space left on device.*TMPDIR"):
        glmer("y ~ x + (1 | id)", pieces(data))
    with pytest.raises(MemoryError, match=r"the rows of the model.*TMPDIR"):
        glmer("z ~ x + (1 | id)", pd.concat([data] * 4), family="gamma", link="log")


def test_files_hold_zeros_and_what_is_written() -> None:
    room = memory.in_file(5000, "a test")
    assert room.shape == (5000,) and not room.any()
    room[4321] = 7
    assert room[4321] == 7
    with pytest.raises(MemoryError, match="a test: 1e"):
        memory.in_file(10**18, "a test")


def test_columns_share_files(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    own = memory.in_file
    monkeypatch.setattr(memory, "in_file", lambda size, what: made.append(size) or own(size, what))
    store = Store(1000, True)
    for j in range(200):
        store.put(j, 0, np.arange(1000.0))
    assert len(made) < 15
    assert sum(made) < 2 * store.nbytes


@pytest.mark.parametrize("in_file", [False, True])
def test_store(in_file: bool) -> None:
    store = Store(7, in_file)
    store.put("a", 0, np.arange(3, dtype=np.int8))
    store.put("a", 3, np.array([0.5, 2.0]))
    store.put("a", 5, np.array([1, 300]))
    np.testing.assert_array_equal(store["a"], [0, 1, 2, 0.5, 2, 1, 300])
    assert store.nbytes == 7 * 8
    for j in range(40):
        store.put(j, 0, np.full(7, j, np.int16))
    assert all((store[j] == j).all() for j in range(40))
    np.testing.assert_array_equal(store["a"], [0, 1, 2, 0.5, 2, 1, 300])
    assert "b" not in store and store.get("b") is None


@pytest.mark.usefixtures("scarce")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes fork elsewhere")
def test_a_forked_child_has_rows_of_its_own(data: pd.DataFrame) -> None:
    """Files are shared between processes: what a child writes must not be the parent's."""
    many = pd.concat([data] * 4)
    fit = glmer("z ~ x + c + (1 | id)", many, family="gamma", link="log")
    assert fit.estimates.outside > 0
    model = fit.model
    psi = fit.estimates.psi
    with model.standing(psi) as core:
        before = core.predictor()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
            child = os.fork()
        if not child:
            code = 1
            try:
                other = model.objective(psi + 0.3)
                code = int(not np.isfinite(other))
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        np.testing.assert_array_equal(core.predictor(), before)


LIMITED = """
import resource, sys
import numpy, pandas, pyarrow.dataset, scipy.linalg
import lmmfast
from lmmfast import glmer
with open("/proc/self/statm") as sizes:
    used = int(sizes.read().split()[5]) * resource.getpagesize()
most = used + int(float(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
fit = glmer({formula!r}, sys.argv[1], family="binomial")
print(repr(float(fit.objective)), fit.estimates.outside)
"""
ROWS = 1_000_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_more_rows_than_memory(tmp_path: Path) -> None:
    """A process that may not have as much memory as its rows take."""
    pytest.importorskip("pyarrow")
    rng = np.random.default_rng(3)
    formula = "y ~ x1 + x2 + x3 + (1 + x1 | id) + (1 | item)"
    frame = pd.DataFrame(rng.normal(size=(ROWS, 3)), columns=["x1", "x2", "x3"])
    frame["id"], frame["item"] = rng.integers(0, 2000, ROWS), rng.integers(0, 100, ROWS)
    eta = frame.x1 / 2 + rng.normal(size=2000)[frame["id"]] + rng.normal(size=100)[frame["item"]]
    frame["y"] = (rng.random(ROWS) < 1 / (1 + np.exp(-eta))).astype(np.int8)
    path = tmp_path / "trials.parquet"
    frame.to_parquet(path, row_group_size=50_000)
    own = lmmfast.plan(formula, frame, family="binomial")
    limit = own.bytes + 0.9 * own.rows
    run = [sys.executable, "-c", LIMITED.format(formula=formula), str(path), str(limit)]
    said = subprocess.run(run, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr[-2000:]
    objective, outside = map(float, said.stdout.split())
    assert outside > own.rows / 4
    wanted = glmer(formula, frame)
    assert wanted.estimates.outside == 0
    assert worst(objective, wanted.objective) <= SAME


def test_plan_counts_rows(data: pd.DataFrame) -> None:
    made = lmmfast.plan("y ~ x + (1 | id)", data, family="binomial")
    assert made.rows > 100 * len(data)
    assert "rows: " in str(made)
    assert lmmfast.plan("z ~ x + (1 | id)", data).rows == 0
    with pytest.raises(ValueError, match="give family="):
        lmmfast.plan("z ~ x + (1 | id)", data, link="log")
