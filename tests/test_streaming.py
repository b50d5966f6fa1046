"""Fits of sources that are read in chunks are those of the same data in memory."""

from __future__ import annotations

import gc
import io
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streams import CASES, SAME, assert_same, gappy, in_memory, mixed, pieces, sleep, worst

import lmmfast
from lmmfast import (
    CrossProducts,
    DataError,
    FitError,
    FormulaError,
    LmmWarning,
    Spec,
    anova,
    drop1,
    emmeans,
    lmer,
    ranova,
)
from lmmfast.data.columns import Table
from lmmfast.sources import source as pieces_of
from lmmfast.sources.open import source_of
from lmmfast.sources.source import Source

pa = pytest.importorskip("pyarrow")
pl = pytest.importorskip("polars")
dataset = pytest.importorskip("pyarrow.dataset")
parquet = pytest.importorskip("pyarrow.parquet")

FORMULA = "Reaction ~ Days + (Days | Subject)"
quiet = pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")
pytestmark = quiet


def streamed(name: str, seed: int = 0, reml: bool = True) -> lmmfast.LMMFit:
    case = CASES[name]
    return lmer(case.formula, pieces(case.data(), seed), reml=reml, **case.options)


# ---- the same answer ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("reml", [True, False])
def test_chunks_give_the_fit_in_memory(name: str, reml: bool) -> None:
    assert_same(streamed(name, reml=reml), in_memory(name, reml), flat=CASES[name].flat)


@pytest.mark.parametrize("name", ["maximal", "factors", "gaps"])
def test_sorted_data_where_the_first_chunk_is_not_like_the_others(name: str) -> None:
    case = CASES[name]
    data = case.data()
    response = case.formula.split(" ~")[0]
    data = data.sort_values([c for c in ("x", "S", "Days", response) if c in data])
    data.index = range(len(data))
    wanted = lmer(case.formula, data, **case.options)
    cuts = [data[:40], data[40:200], data[200:]] if len(data) > 200 else [data[:12], data[12:]]
    assert_same(lmer(case.formula, cuts, **case.options), wanted)


def test_objective_and_derivatives_away_from_the_optimum() -> None:
    found, wanted = streamed("maximal").model, in_memory("maximal").model
    rng = np.random.default_rng(3)
    for _ in range(5):
        theta = rng.normal(size=wanted.ntheta)
        for one, other in zip(
            found.objective(theta, gradient=True, hessian=True),
            wanted.objective(theta, gradient=True, hessian=True),
            strict=True,
        ):
            assert worst(one, other) < SAME


KINDS = {
    "polars": lambda part: pl.from_pandas(part.reset_index(drop=True)),
    "pyarrow": lambda part: pa.Table.from_pandas(part, preserve_index=False),
    "batch": lambda part: pa.RecordBatch.from_pandas(part, preserve_index=False),
    "dict": lambda part: {name: part[name].to_numpy() for name in part.columns},
}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("name", ["slope", "nested", "gaps"])
def test_chunks_of_any_kind(kind: str, name: str) -> None:
    case = CASES[name]
    data = case.data()
    for column in data.select_dtypes("category"):
        data[column] = data[column].astype(str).astype(object)  # the same levels, sorted
    chunks = [KINDS[kind](part) for part in pieces(data)]
    assert_same(
        lmer(case.formula, chunks, **case.options), lmer(case.formula, data, **case.options)
    )


def test_long_frames_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = pieces_of._cut
    monkeypatch.setattr(pieces_of, "_cut", lambda f, a, b: sizes.append(b - a) or original(f, a, b))
    data = sleep()
    source = source_of([data])
    assert [chunk.table.n for chunk in source.chunks(rows=50)] == [50, 50, 50, 30]
    for one in (data, pl.from_pandas(data), pa.Table.from_pandas(data), data.to_dict("list")):
        parts = [p.table.n for p in source_of([one]).chunks(rows=70)]
        assert parts == [70, 70, 40]
    assert max(sizes) <= 70


def test_functions_and_iterables_are_sources() -> None:
    parts = pieces(sleep())

    class Reader:
        def __iter__(self):
            return iter(parts)

    wanted = in_memory("slope")
    assert_same(lmer(FORMULA, lambda: iter(parts)), wanted)
    assert_same(lmer(FORMULA, lambda: (part for part in parts)), wanted)
    assert_same(lmer(FORMULA, Reader()), wanted)
    assert_same(lmer(FORMULA, tuple(parts)), wanted)


# ---- files --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, part in enumerate(pieces(sleep())):
        parquet.write_table(pa.Table.from_pandas(part), tmp_path / f"part{number}.parquet")
    return tmp_path


def test_parquet_files(folder: Path) -> None:
    wanted = in_memory("slope")
    for source in (folder, str(folder), sorted(folder.iterdir()), dataset.dataset(folder)):
        assert_same(lmer(FORMULA, source), wanted)
    whole = folder / "whole.pq"
    parquet.write_table(pa.Table.from_pandas(sleep()), whole, row_group_size=17)
    assert_same(lmer(FORMULA, whole), wanted)
    assert_same(lmer(FORMULA, str(whole)), wanted)
    assert_same(lmer(FORMULA, parquet.ParquetFile(whole)), wanted)


def test_many_small_files_are_few_chunks(tmp_path: Path) -> None:
    data = sleep().astype({"Subject": str})
    data["Subject"] = data["Subject"].astype("category")
    for number in range(30):
        part = data[6 * number : 6 * number + 6]
        part = part.assign(Subject=part["Subject"].cat.remove_unused_categories())
        part.to_parquet(tmp_path / f"{number:02}.parquet")
    source = source_of(tmp_path)
    assert [chunk.table.n for chunk in source.chunks(rows=100)] == [96, 84]
    assert_same(lmer(FORMULA, tmp_path), lmer(FORMULA, data))


def test_other_files_beside_parquet_files_are_left_out(folder: Path) -> None:
    (folder / "README.md").write_text("what this is")
    (folder / "_temporary").mkdir()
    (folder / "_temporary" / "half.parquet").write_text("PAR1")
    (folder / ".part0.parquet").write_text("PAR1")
    assert_same(lmer(FORMULA, folder), in_memory("slope"))


@pytest.mark.parametrize("name", ["part00.parquet", "zz.parquet"])
def test_a_file_without_a_column_is_named(folder: Path, name: str) -> None:
    parquet.write_table(pa.Table.from_pandas(sleep().drop(columns="Days")), folder / name)
    for source in (folder, sorted(folder.iterdir()), dataset.dataset(folder)):
        with pytest.raises(DataError, match=rf"file '[^']*{name}' has no column 'Days'") as error:
            lmer(FORMULA, source)
        assert error.value.variable == "Days"
    assert lmer("Reaction ~ 1 + (1 | Subject)", folder).nobs == 360


def test_filtered_datasets(folder: Path) -> None:
    data = sleep()
    few = dataset.dataset(folder).filter(dataset.field("Days") < 5)
    wanted = lmer(FORMULA, data[data["Days"] < 5])
    fit = lmer(FORMULA, few)
    assert worst(fit.objective, wanted.objective) < SAME
    assert (fit.nobs, sum(len(part) for part in fit.stream_residuals(few))) == (90, 90)


def test_columns_that_sources_lack_are_told_with_all_others(folder: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    connection.register("trials", sleep())
    spec = Spec.from_data(FORMULA, folder)
    for source in (folder, dataset.dataset(folder), connection.table("trials")):
        with pytest.raises(FormulaError, match=r"'Dais' is not .*; did you mean 'Days'"):
            lmer("Reaction ~ Dais + (1 | Subject)", source)
        with pytest.raises(FormulaError, match=r"columns are .*Reaction, Days, Subject"):
            lmer("Reaction ~ zzz + (1 | Subject)", source)
        with pytest.raises(DataError, match="weights 'w' is not in the data; the columns"):
            lmer(FORMULA, source, weights="w")
    parquet.write_table(pa.table({"Dayz": [1]}), folder / "other.pq")
    other = folder / "other.pq"
    with pytest.raises(FormulaError, match="'Reaction' is not in the data; the columns are Dayz"):
        CrossProducts.from_frame(other, spec)
    with pytest.raises(FormulaError, match="'Reaction' is not in the data; the columns are Dayz"):
        next(lmer(FORMULA, sleep()).stream_residuals(other))


def test_hive_partitions_are_columns(tmp_path: Path) -> None:
    data = sleep()
    data["site"] = np.where(data["Days"] < 5, "early", "late")
    table = pa.Table.from_pandas(data.astype({"Subject": str}))
    parquet.write_to_dataset(table, tmp_path, partition_cols=["site"])
    formula = "Reaction ~ site + (1 | Subject)"
    assert_same(lmer(formula, tmp_path), lmer(formula, data.astype({"Subject": str})))


def test_only_the_columns_of_the_formula_are_read(folder: Path) -> None:
    data = dataset.dataset(folder)
    read: list = []
    source = source_of(data)
    spied = Source(source.name, source.names, lambda c, r: read.append(c) or source.frames(c, r))
    lmer("Reaction ~ 1 + (1 | Subject)", spied)
    assert read == [["Reaction", "Subject"]] * 2  # levels; coordinates and cross-products


def test_duckdb_relations() -> None:
    duckdb = pytest.importorskip("duckdb")
    data = sleep().astype({"Subject": str}).rename(columns={"Days": 'the "days"'})
    connection = duckdb.connect()
    connection.register("trials", data)
    relation = connection.sql("select * from trials where 1 = 1")
    formula = 'Reaction ~ `the "days"` + (1 | Subject)'
    assert_same(lmer(formula, relation), lmer(formula, data))
    fit = lmer(formula, connection.table("trials"))
    assert sum(len(part) for part in fit.stream_residuals(relation)) == 180


def test_connections_are_free_after_an_abandoned_pass() -> None:
    duckdb = pytest.importorskip("duckdb")
    data = pd.concat([sleep()] * 5000, ignore_index=True)  # more than is read ahead
    data.loc[3, "Reaction"] = np.inf
    connection = duckdb.connect()
    connection.execute("create table trials as select * from data")
    relation = connection.table("trials")
    made: list = []
    source = source_of(relation)
    gc.disable()
    try:
        with pytest.raises(DataError, match="infinite") as error:
            lmer(FORMULA, relation)
        assert connection.sql("select 42").fetchall() == [(42,)] and error.value
        chunks = source.chunks(["Days"], 1000)
        made.append(next(chunks))
        chunks.close()
        assert connection.sql("select 42").fetchall() == [(42,)]
        parts = lmer(FORMULA, sleep()).stream_residuals(relation)
        with pytest.raises(DataError, match="infinite"):
            list(parts)
        assert connection.sql("select 42").fetchall() == [(42,)]
    finally:
        gc.enable()


def test_generators_are_closed_when_a_pass_fails() -> None:
    closed: list[str] = []

    def frames(bad: int):
        try:
            for i in range(3):
                yield sleep().assign(Reaction=np.inf) if i == bad else sleep()
        finally:
            closed.append("closed")

    with pytest.raises(DataError, match="chunk 1") as error:
        lmer(FORMULA, lambda: frames(1))
    assert closed == ["closed"] and error.value.rows
    residuals = lmer(FORMULA, sleep()).stream_residuals(lambda: frames(5))
    next(residuals)
    residuals.close()
    assert closed == ["closed"] * 2
    with pytest.raises(DataError):
        spec = Spec.from_data(FORMULA, sleep())
        CrossProducts.from_frame(lambda: frames(2), spec)
    assert closed == ["closed"] * 3


# ---- levels -------------------------------------------------------------------------------------


def test_categories_keep_their_order_whatever_chunk_they_are_in_first() -> None:
    data = mixed().sort_values("c", ascending=False)
    formula = "y ~ c + o + (1 | g)"
    chunks = [data[:150], data[150:300], data[300:]]
    assert "never" in chunks[0]["c"].cat.categories
    assert_same(lmer(formula, chunks), lmer(formula, data))


def test_chunks_with_their_own_categories() -> None:
    data = mixed()
    parts = [part.assign(c=part["c"].cat.remove_unused_categories()) for part in pieces(data, 4)]
    wanted = lmer("y ~ c + (1 | g)", pd.concat(parts))
    assert_same(lmer("y ~ c + (1 | g)", parts), wanted)
    assert_same(lmer("y ~ c + (1 | g)", parts[::-1]), wanted)
    groups = [part.assign(h=part["h"].astype("category")) for part in pieces(data, 4)]
    assert_same(lmer("y ~ x + (1 | h)", groups), lmer("y ~ x + (1 | h)", pd.concat(groups)))


def test_an_order_that_chunks_do_not_agree_on_is_none() -> None:
    data = mixed()[["y", "x", "g"]]
    data["o"] = pd.Categorical(
        np.where(data["x"] < 0, "small", "big"), ["small", "big"], ordered=True
    )
    parts = [data[:300], data[300:].assign(o=lambda d: d["o"].cat.set_categories(["big", "small"]))]
    parts[1]["o"] = parts[1]["o"].cat.add_categories("huge")
    formula = "y ~ o + (1 | g)"
    assert_same(lmer(formula, parts), lmer(formula, pd.concat(parts)))
    assert_same(lmer(formula, [data[:300], data[300:]]), lmer(formula, data))


def test_ordered_categories_of_contradicting_orders_have_none() -> None:
    """The levels are the same, but which is first is not: they are sorted, with dummies."""
    data = mixed()[["y", "x", "g", "o"]]
    other = data[300:].assign(o=lambda d: d["o"].cat.reorder_categories(["high", "mid", "low"]))
    parts = [data[:300], other]
    assert parts[0]["o"].cat.ordered and parts[1]["o"].cat.ordered
    formula = "y ~ o + (1 | g)"
    for chunks in (parts, parts[::-1]):
        found = lmer(formula, chunks)
        assert list(found.params.index) == ["Intercept", "o[T.low]", "o[T.mid]"]
        assert_same(found, lmer(formula, pd.concat(chunks)))


def test_categories_in_another_order_are_the_same_categories() -> None:
    """Without an order of their own the first chunk's counts, as where pandas joins them."""
    data = mixed()[["y", "g", "c"]].assign(c=lambda d: d["c"].cat.remove_unused_categories())
    other = data[300:].assign(c=lambda d: d["c"].cat.reorder_categories(["low", "high", "mid"]))
    formula = "y ~ c + (1 | g)"
    for chunks, first in (([data[:300], other], "mid"), ([other, data[:300]], "low")):
        found = lmer(formula, chunks)
        assert f"c[T.{first}]" not in found.params
        assert_same(found, lmer(formula, pd.concat(chunks)))


def test_categories_that_are_ordered_in_some_chunks_only_have_dummies() -> None:
    data = mixed()[["y", "g", "o"]]
    parts = [data[:300], data[300:].assign(o=lambda d: d["o"].cat.as_unordered())]
    wanted = data.assign(o=data["o"].cat.as_unordered())
    for chunks in (parts, parts[::-1]):
        assert_same(lmer("y ~ o + (1 | g)", chunks), lmer("y ~ o + (1 | g)", wanted))


def test_categories_in_some_chunks_and_text_in_others_are_sorted() -> None:
    data = mixed()
    text = data.assign(c=data["c"].astype(object))
    formula = "y ~ c + (1 | g) + (1 | c:h)"
    wanted = lmer(formula, text)
    assert_same(lmer(formula, [data[:300], text[300:]]), wanted)
    assert_same(lmer(formula, [text[:300], data[300:]]), wanted)


def test_a_column_may_be_read_as_integers_and_as_floats() -> None:
    data = mixed()[["y", "x", "g"]]
    chunks = [data[:200], data[200:400].astype({"g": float}), data[400:].astype({"g": object})]
    assert_same(lmer("y ~ x + (1 | g)", chunks), lmer("y ~ x + (1 | g)", data))
    assert_same(lmer("y ~ x + (1 | g)", chunks[::-1]), lmer("y ~ x + (1 | g)", data))


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + (1 | h:g)"])
def test_numbers_in_one_chunk_and_text_in_another_are_refused(
    formula: str, backwards: bool
) -> None:
    data = mixed()[["y", "x", "g", "h"]]
    text = data.assign(g=[f"{g:03}" for g in data["g"]])
    for numbers in (data, data.astype({"g": float})):
        chunks = [text[:300], numbers[300:]] if backwards else [numbers[:300], text[300:]]
        with pytest.raises(DataError, match=r"'g' has (text|numbers) such as .* in chunk 0") as e:
            lmer(formula, chunks)
        assert re.search(r"but (text such as '\d+'|numbers such as \d+) in chunk 1", str(e.value))
        assert "dtype={'g': str}" in str(e.value) and e.value.variable == "g"


HASHES = [2**63 + 1025 * i + k for i in range(3) for k in (1, 2, 3)]


@pytest.mark.parametrize(
    "labels",
    [
        np.array(HASHES, dtype=np.uint64),
        np.array([h - 2**63 - 2**62 for h in HASHES]),
        np.array([10**30 + k for k in range(9)], dtype=object),
        np.array(HASHES, dtype=object),
        np.array([-5, *HASHES[1:]], dtype=object),
        np.array([0, 1, *HASHES[2:]], dtype=np.uint64),
        np.array([10**400 + k for k in range(9)], dtype=object),
    ],
    ids=["uint64", "int64", "objects", "object hashes", "both signs", "small too", "huge"],
)
def test_integers_of_any_size_stay_different(labels: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(9), 20)
    y = rng.normal(size=180) + 3 * rng.normal(size=9)[codes]
    data = pd.DataFrame({"y": y, "g": labels[codes], "h": rng.integers(0, 4, 180)})
    for formula in ("y ~ 1 + (1 | g)", "y ~ 1 + (1 | h:g)"):
        named = lmer(formula, data.assign(g=codes))
        whole = lmer(formula, data)
        for found in (whole, lmer(formula, pieces(data)), lmer(formula, [data[:61], data[61:]])):
            assert worst(found.objective, named.objective) < SAME
            assert found.n_levels == named.n_levels
            assert list(found.design.terms[0].levels) == list(whole.design.terms[0].levels)


def test_large_numbers_without_fractions_are_integers() -> None:
    """Chunks of floats, which a missing value makes of integers, beside chunks of integers."""
    data = mixed()[["y", "x", "g"]]
    data["g"] = 2**53 + 2 * data["g"]
    chunks = [data[:300].assign(g=lambda d: d["g"].astype(float)), data[300:]]
    for some in (chunks, chunks[::-1]):
        found = lmer("y ~ x + (1 | g)", some)
        assert found.ranef()["g"].index.dtype == np.int64
        assert_same(found, lmer("y ~ x + (1 | g)", data))


@pytest.mark.parametrize(
    "make",
    [
        lambda ids: pd.DataFrame({"g": pd.array(ids, dtype="UInt64")}),
        lambda ids: pd.DataFrame({"g": pd.Series(ids, dtype=object)}),
        lambda ids: pl.DataFrame({"g": pl.Series(ids, dtype=pl.UInt64)}),
        lambda ids: pa.table({"g": pa.array(ids, pa.uint64())}),
    ],
    ids=["nullable", "objects", "polars", "pyarrow"],
)
@pytest.mark.parametrize("gaps", [False, True])
def test_large_integers_of_which_some_are_missing(make, gaps: bool) -> None:
    ids = [None if gaps and i % 7 == 0 else HASHES[i % 9] for i in range(90)]
    column = Table(make(ids)).column("g")
    levels = column.as_factor().levels
    assert levels is not None
    assert levels.tolist() == HASHES
    assert (column.missing is not None) == gaps
    few = Table(make([None if gaps and i == 3 else i for i in range(9)])).column("g")
    assert few.values is not None  # numbers that floats tell apart stay numbers


@pytest.mark.parametrize(
    "levels",
    [
        np.arange("2024-01-01", "2024-01-13", dtype="datetime64[D]").astype("datetime64[ns]"),
        np.array([True, False]),
        np.arange(12) + 0.5,
        np.arange(12, dtype=np.uint8),
        np.array([*range(6), *"abcdef"], dtype=object),
    ],
    ids=["dates", "flags", "floats", "bytes", "objects"],
)
def test_levels_of_any_type(levels: np.ndarray) -> None:
    rng = np.random.default_rng(7)
    codes = np.tile(np.arange(len(levels)), 120 // len(levels))
    data = pd.DataFrame(
        {"g": levels[codes], "y": rng.normal(size=120) + codes, "h": rng.integers(0, 5, 120)}
    )
    formula = "y ~ 1 + (1 | g) + (1 | g:h)"
    found, wanted = lmer(formula, pieces(data)), lmer(formula, data)
    assert_same(found, wanted)
    assert found.design.terms[0].levels.dtype == wanted.design.terms[0].levels.dtype


def test_an_all_missing_chunk_says_nothing_of_the_type() -> None:
    data = gappy()
    bad = data[:20].assign(Days=None, w=None, Subject=None, o=None)
    chunks = [bad, data[20:100], bad, data[100:]]
    found = lmer(FORMULA, chunks, weights="w", offset="o")
    wanted = lmer(FORMULA, data[20:], weights="w", offset="o")
    assert worst(found.objective, wanted.objective) < SAME
    assert found.design.n_rows == 200 and found.nobs == wanted.nobs
    counts = found.design.dropped
    assert counts["Days"] == 40 + wanted.design.dropped["Days"]


# ---- what follows from a fit --------------------------------------------------------------------

QUESTIONS = {
    "tests": lambda fit: fit.coef_test().pvalue,
    "Kenward-Roger": lambda fit: fit.coef_test(ddf="kenward-roger").df_denom,
    "intervals": lambda fit: fit.conf_int(),
    "intervals of all": lambda fit: fit.conf_int(parameters="all"),
    "profile": lambda fit: fit.conf_int(method="profile", parameters=["sigma"]),
    "varcorr": lambda fit: fit.varcorr["sdcor"],
    "standard errors of variances": lambda fit: fit.varcorr_se()["se"],
    "modes": lambda fit: pd.concat(fit.ranef(cond_var=True).values()),
    "anova": lambda fit: anova(fit).table,
    "anova, type 1": lambda fit: anova(fit, type=1).table,
    "anova, type 2": lambda fit: anova(fit, type=2).table,
    "drop1": lambda fit: drop1(fit).table,
    "drop1 by likelihood": lambda fit: drop1(fit, test="Chisq").table,
    "ranova": lambda fit: ranova(fit).table.drop(columns="mixture"),
    "R2": lambda fit: fit.r2(),
    "ICC": lambda fit: fit.icc(),
    "VIF": lambda fit: fit.vif(),
}


def answer(question, fit: lmmfast.LMMFit) -> pd.DataFrame:
    found = question(fit)
    found = pd.DataFrame(np.asarray(found)) if isinstance(found, np.ndarray) else found
    return found.to_frame() if isinstance(found, pd.Series) else found


ASKED = [
    (name, question)
    for name in ("slope", "factors", "gaps", "dependent fixed", "full factor", "small factor first")
    for question in QUESTIONS
    if (name, question) != ("full factor", "VIF")  # no intercept: inflation means little
]


@pytest.mark.parametrize(("name", "question"), ASKED)
def test_answers_are_those_in_memory(name: str, question: str) -> None:
    ask = QUESTIONS[question]
    found, wanted = answer(ask, streamed(name)), answer(ask, in_memory(name))
    assert list(found.index) == list(wanted.index)
    for column in wanted:
        one, other = (t[column].to_numpy(float) for t in (found, wanted))
        shown = np.isfinite(other)
        assert (shown == np.isfinite(one)).all()
        size = np.abs(other[shown]) + 1e-3 * np.abs(other[shown]).max(initial=1e-12)
        assert (np.abs(one - other)[shown] <= 1e-5 * size).all(), column


@pytest.mark.parametrize("name", ["factors", "expressions", "gaps", "learned levels"])
def test_predictions_of_new_rows(name: str) -> None:
    new = CASES[name].data().dropna()[:20]
    found, wanted = streamed(name), in_memory(name)
    assert worst(found.predict(new), wanted.predict(new)) < 1e-9
    for options in ({"se": True}, {"re_form": "none", "interval": "prediction"}):
        assert worst(found.predict(new, **options), wanted.predict(new, **options)) < 1e-6


def test_marginal_means() -> None:
    found, wanted = streamed("factors"), in_memory("factors")
    for options in (
        {"specs": "f", "by": "c"},
        {"specs": "flag", "weights": "proportional"},
        {"specs": "o", "weights": "proportional", "at": {"c": ["low", "mid"]}},
        {"specs": "f", "contrasts": "pairwise", "at": {"x": 1.5}},
    ):
        assert str(emmeans(found, **options)) == str(emmeans(wanted, **options))
    found, wanted = streamed("expressions"), in_memory("expressions")
    assert str(emmeans(found, "k")) == str(emmeans(wanted, "k"))
    found, wanted = streamed("gaps"), in_memory("gaps")
    assert str(emmeans(found, "Days")) == str(emmeans(wanted, "Days"))


def test_nested_models_are_compared() -> None:
    data = mixed()
    small, large = "y ~ x + (1 | g)", "y ~ x + f + (x | g)"
    found = anova(lmer(small, pieces(data)), lmer(large, pieces(data, 1)))
    wanted = anova(lmer(small, data), lmer(large, data))
    assert worst(found.table, wanted.table) < 1e-9
    assert "taken for granted" in str(found)
    with pytest.raises(DataError, match="different responses"):
        anova(
            lmer(small, pieces(data)), lmer("y ~ x + (x | g)", pieces(data.assign(y=data["y"] * 2)))
        )


def test_the_summary_has_all_but_the_residuals() -> None:
    lines, wanted = (
        re.sub(r"[\d.]+ m?s\)", "", str(fit.summary())).splitlines()
        for fit in (streamed("factors"), in_memory("factors"))
    )
    at = wanted.index("Scaled residuals:")
    assert lines == wanted[:at] + wanted[at + 4 :]
    assert "with prior weights and an offset" in str(streamed("gaps").summary())
    assert "rows dropped" in str(streamed("gaps").summary())


@pytest.mark.parametrize(
    "ask",
    [
        lambda fit: fit.resid,
        lambda fit: fit.fittedvalues,
        lambda fit: fit.residuals("scaled"),
        lambda fit: fit.influence(),
        lambda fit: fit.influence("Subject"),
        lambda fit: fit.predict(),
        lambda fit: fit.refit(np.arange(180.0)),
        lambda fit: np.asarray(fit.design.y),
        lambda fit: fit.design.X[3],
        lambda fit: fit.design.X @ fit.estimates.beta,
        lambda fit: fit.design.terms[0].codes + 1,
        lambda fit: np.sqrt(fit.design.terms[0].z),
        lambda fit: list(fit.design.rows),
    ],
)
def test_what_needs_rows_says_so(ask) -> None:
    with pytest.raises(DataError, match=r"not in memory.*stream_residuals"):
        ask(streamed("slope"))


@pytest.mark.parametrize("name", ["slope", "gaps", "expressions", "nested", "dependent fixed"])
@pytest.mark.parametrize("kind", ["response", "pearson"])
def test_residuals_as_a_stream(name: str, kind: str) -> None:
    data = CASES[name].data().reset_index(drop=True)
    fit, wanted = streamed(name), in_memory(name)
    parts = list(fit.stream_residuals(iter(pieces(data, 5)), kind))
    assert all(len(part) <= len(data) for part in parts)
    found = pd.concat(parts)
    assert list(found.index) == list(wanted.design.rows)
    assert worst(found["fitted"], wanted.fittedvalues) < 1e-8
    assert worst(found["resid"], wanted.residuals(kind)) < 1e-8


@pytest.mark.parametrize("kind", ["response", "pearson"])
def test_residuals_of_fits_in_memory_as_a_stream(kind: str) -> None:
    """Weights that are a column are known by its name."""
    data, fit = CASES["gaps"].data().reset_index(drop=True), in_memory("gaps")
    found = pd.concat(fit.stream_residuals(pieces(data, 5), kind))
    assert list(found.index) == list(fit.design.rows)
    assert worst(found["resid"], fit.residuals(kind)) < 1e-12
    given = lmmfast.lmer(FORMULA, sleep(), weights=np.linspace(1, 2, 180))
    with pytest.raises(DataError, match="no column of the data"):
        given.stream_residuals([sleep()], kind)


def test_residuals_of_other_rows_are_refused() -> None:
    fit = streamed("slope")
    with pytest.raises(DataError, match=r"chunk 0.*not seen"):
        list(fit.stream_residuals([sleep().assign(Subject="someone")]))
    with pytest.raises(ValueError, match="response"):
        fit.stream_residuals([sleep()], "marginal")


def test_fits_can_be_pickled() -> None:
    fit = streamed("factors")
    again = pickle.loads(pickle.dumps(fit))
    assert_same(again, fit)
    assert again.model.objective(fit.theta) == fit.model.objective(fit.theta)
    assert str(emmeans(again, "f")) == str(emmeans(fit, "f"))
    with pytest.raises(DataError, match="not in memory"):
        again.resid  # noqa: B018


def test_warnings_are_those_in_memory() -> None:
    for name in ("dependent fixed", "dependent random", "double bar", "too far"):
        case = CASES[name]
        messages = []
        for data in (case.data(), pieces(case.data())):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", LmmWarning)
                lmer(case.formula, data)
            messages.append([str(w.message) for w in caught])
        assert messages[0] == messages[1]
        assert bool(messages[0]) == case.warns


# ---- what goes wrong ----------------------------------------------------------------------------


def test_errors_count_rows_from_the_start_of_the_source() -> None:
    bad = sleep()
    bad.loc[170, "Reaction"] = -np.inf
    with pytest.raises(DataError, match=r"chunk 1 \(rows 100 to 179\).*row 70.*first, 100") as e:
        lmer(FORMULA, [bad[:100], bad[100:]])
    assert e.value.rows == (170,)
    assert e.value.variable == "Reaction"


def chunks_with(change, number: int = 1) -> list[pd.DataFrame]:
    parts = [sleep()[:60], sleep()[60:120].reset_index(drop=True), sleep()[120:]]
    parts[number] = change(parts[number])
    return parts


def _same(made):
    return lambda: made


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((part for part in [sleep()]), "read only once.*lambda"),
        (iter([sleep()]), "read only once"),
        ([], "empty list"),
        ([{"Reaction": 1.0, "Days": 2}], "list of records"),
        (lambda: sleep(), "returns a DataFrame"),
        (lambda: iter([]), "no rows"),
        (_same(iter([sleep()])), "same iterator again, which is exhausted.*new one"),
        (
            pd.read_csv(io.StringIO("a,b\n1,2"), chunksize=1),
            r"lambda: pandas.read_csv\(path, chunks",
        ),
        (pd.DataFrame, "class DataFrame"),
        (dict, "class dict"),
        (b"trials.parquet", "data are bytes.*path"),
        ({1, 2}, "a set, which has no order"),
        (pl.DataFrame({"a": [1]}).lazy(), r"'Reaction' is not in the data"),
        (pl.DataFrame({"a": [1]}).lazy().select("b"), r"polars LazyFrame: .*b"),
        ([sleep()[:0], sleep()[:0]], "no rows"),
        ([sleep().assign(Days=None)], "no rows are left.*Days in 180"),
        ([sleep(), 3], "chunk 1: data is a int"),
        ("nothing.parquet", "no file or directory"),
        (__file__, "only Parquet"),
        (chunks_with(lambda d: d.drop(columns="Days")), r"chunk 1 \(rows 60 to 119\).*'Days'"),
        (chunks_with(lambda d: d.assign(Reaction=1.0), 1)[1:2], "constant"),
        (chunks_with(lambda d: d.assign(Days=d["Days"].astype(str))), "numeric in chunk 0.*labels"),
        (chunks_with(lambda d: d.assign(Days=np.inf)), "chunk 1.*infinite"),
        (chunks_with(lambda d: d.assign(Reaction="slow")), "chunk 1.*not numeric"),
        ([sleep().assign(Subject="a")], "only one level"),
    ],
)
def test_faults_of_sources(data, message: str) -> None:
    with pytest.raises((DataError, FormulaError), match=message):
        lmer(FORMULA, data)


@pytest.mark.parametrize("data", [FORMULA, "sleep.csv", [sleep()]])
def test_arguments_in_the_wrong_order(data) -> None:
    with pytest.raises(FormulaError, match="the formula comes first: it must be text, not Data"):
        lmer(sleep(), data)


@pytest.mark.parametrize(
    "term",
    [
        "scale(Days)",
        "poly(Days, 2)",
        "bs(Days, df=4)",
        "I(Days - mean(Days))",
        "ns(Days, 3)",
        "I(Days - np.mean(Days))",
        "np.cumsum(Days)",
        "factor(scale(Days))",
        "match(Days, Days)",
    ],
)
def test_transforms_of_all_rows_are_refused(term: str) -> None:
    with pytest.raises(FormulaError, match=r"all rows at once.*beforehand"):
        lmer(f"Reaction ~ {term} + (1 | Subject)", pieces(sleep()))
    with pytest.raises(FormulaError, match="all rows at once"):
        lmer("scale(Reaction) ~ Days + (1 | Subject)", pieces(sleep()))


def test_arguments_that_streams_cannot_have() -> None:
    with pytest.raises(DataError, match=r"weights.*name of a column"):
        lmer(FORMULA, pieces(sleep()), weights=np.ones(180))
    with pytest.raises(DataError, match=r"offset.*name of a column"):
        lmer(FORMULA, pieces(sleep()), offset=np.ones(180))
    with pytest.raises(DataError, match="'w' is not in the data"):
        lmer(FORMULA, pieces(sleep()), weights="w")
    with pytest.raises(DataError, match=r"chunk 1.*negative"):
        parts = [sleep().assign(w=1.0), sleep().assign(w=-1.0)]
        lmer(FORMULA, parts, weights="w")
    with pytest.raises(DataError, match="not a predictor"):
        lmer(FORMULA, pieces(sleep()), contrasts={"Dais": "sum"})
    with pytest.raises(TypeError, match="needs data"):
        lmer(FORMULA)
    with pytest.raises(FormulaError, match="must be text"):
        lmer(3, pieces(sleep()))


def changing(*passes):
    """A source that yields other frames at each pass."""
    left = list(passes)
    return lambda: iter(left.pop(0) if len(left) > 1 else left[0])


def test_data_that_change_between_the_passes() -> None:
    first = [mixed()[:300], mixed()[300:]]
    new = mixed()[:300].assign(f="new")
    with pytest.raises(DataError, match=r"chunk 0 .*'new'.*changed between"):
        lmer("y ~ f + (1 | g)", changing(first, [new]))
    group = mixed()[:300].assign(g=-7)
    with pytest.raises(DataError, match=r"chunk 1 .*'g' has levels.*'-7'.*changed between"):
        lmer("y ~ x + (1 | g)", changing(first, [first[0], group]))
    moved = [first[0].assign(g=first[0]["g"].iloc[0]), first[1]]
    with pytest.raises(DataError, match=r"changed.*'g' '\d+' has \d+ rows in the first, \d+ in"):
        lmer("y ~ x + (1 | g)", changing(first, moved))
    with pytest.raises(DataError, match=r"600 rows.*first, 300 in the second"):
        lmer("y ~ x + (1 | g)", changing(first, first[:1]))


def test_a_damaged_parquet_file_is_named(folder: Path) -> None:
    target = sorted(folder.iterdir())[-1]
    whole = target.read_bytes()
    target.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"cannot read.*{target.name}"):
        lmer(FORMULA, folder)
    with pytest.raises(DataError, match=rf"cannot read.*{target.name}"):
        lmer(FORMULA, target)
    middle = bytearray(whole)
    middle[20:400] = bytes(380)
    target.write_bytes(bytes(middle))
    with pytest.raises(DataError, match=rf"cannot read.*{target.name}"):
        lmer(FORMULA, folder)
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="no Parquet files"):
        lmer(FORMULA, folder / "empty")


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def interrupted():
        raise KeyboardInterrupt
        yield

    passes = [lambda: iter([sleep()]), interrupted]
    with pytest.raises(KeyboardInterrupt):
        lmer(FORMULA, lambda: passes.pop(0)())
    assert not list(tmp_path.iterdir())
    assert_same(lmer(FORMULA, [sleep()]), in_memory("slope"))


def test_other_libraries_are_imported_only_for_objects_of_theirs() -> None:
    code = (
        "import sys, lmmfast; d = lmmfast.datasets.load('sleepstudy'); "
        f"lmmfast.lmer({FORMULA!r}, d); lmmfast.lmer({FORMULA!r}, [d[:90], d[90:]]); "
        "print([m for m in ('dask', 'distributed', 'duckdb', 'polars') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_specs_say_what_they_need() -> None:
    spec = Spec.from_data(FORMULA, sleep(), weights="Days")
    assert set(spec.names) == {"Reaction", "Days", "Subject"}
    assert (spec.formula, spec.weights, spec.offset) == (FORMULA, "Days", None)


# ---- digits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("formula", ["y ~ x + f + (x | g)", "y ~ x + x2 + f + (1 | g)"])
@pytest.mark.parametrize("reml", [True, False])
def test_a_response_far_from_zero_loses_no_digits(formula: str, reml: bool) -> None:
    data = mixed()
    data["x2"] = 2 * data["x"] + 1
    data["y"] = data["y"] * 1e-3 + 1e9
    data["x"] += 1e8
    found, wanted = lmer(formula, pieces(data), reml=reml), lmer(formula, data, reml=reml)
    assert worst(found.objective, wanted.objective) < 1e-9
    assert worst(found.params[1:], wanted.params[1:], wanted.bse[1:]) < 1e-4
    assert worst(found.sigma, wanted.sigma) < 1e-8
    near = lmer(formula, data.assign(y=data["y"] - 1e9), reml=reml)
    tables = [drop1(fit, test="Chisq").table for fit in (found, near)]
    assert worst(tables[0]["AIC"], tables[1]["AIC"]) < 1e-11


EXACT = {
    "slopes": lambda d: 1 / 3 + 2 / 7 * d["x"] + (d["f"] == "a"),
    "far from zero": lambda d: 1e12 * (1 + 2e-6 * d["x"]),
    "tiny": lambda d: 1e-12 * (1 - d["x"]),
    "of the offset": lambda d: 2 * d["x"] + d["w"],
}


@pytest.mark.parametrize("name", EXACT)
def test_a_response_without_residuals_is_refused_as_in_memory(name: str) -> None:
    """Least squares leave nothing but rounding: no variance is estimated from that."""
    data = mixed().assign(w=lambda d: 1 + 0.5 * np.sin(d["x"]))
    data["y"] = EXACT[name](data)
    formula = "y ~ x + f + (x | g)"
    options = {"offset": "w"} if name == "of the offset" else {"weights": "w"}
    spec = Spec.from_data(formula, data, **options)
    cross = CrossProducts.from_frame(data[:200], spec) + CrossProducts.from_frame(data[200:], spec)
    for arguments in ((formula, data), (formula, pieces(data)), (cross,)):
        own = options if len(arguments) == 2 else {}
        with pytest.raises(FitError, match="no residual variance is left") as caught:
            lmer(*arguments, **own)
        assert caught.value.variable == "y"


def test_residuals_that_are_little_are_fitted() -> None:
    """A hundred times what rounding leaves: as in memory."""
    data = mixed()
    noise = np.random.default_rng(8).normal(size=len(data))
    data["y"] = 1 / 3 + 2 / 7 * data["x"] + 1e-13 * (noise + data["g"] % 7)
    found, wanted = lmer("y ~ x + (1 | g)", pieces(data)), lmer("y ~ x + (1 | g)", data)
    assert worst(found.sigma, wanted.sigma) < 1e-2 and 0.5e-13 < wanted.sigma < 2e-13


def test_memory_that_is_not_aligned_is_read() -> None:
    """Fields of records, and what other processes send."""
    rng = np.random.default_rng(0)
    records = np.zeros(60, dtype=[("k", "i1"), ("y", "f8"), ("x", "f8"), ("g", "i4"), ("w", "f4")])
    records["y"], records["x"] = rng.normal(size=(2, 60))
    records["g"], records["w"] = np.repeat(np.arange(6), 10), rng.uniform(1, 2, 60)
    assert not records["x"].flags.aligned
    whole = lmer("y ~ x + (x | g)", records, weights="w")
    streamed = lmer("y ~ x + (x | g)", [records[:30], records[30:]], weights="w")
    assert streamed.objective == pytest.approx(whole.objective, abs=1e-9)
