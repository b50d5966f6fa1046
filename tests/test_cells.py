"""What stands in the columns of a table: kinds of cells, order of categories, names of columns."""

from __future__ import annotations

import datetime
import decimal
import enum
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from lmmfast import lmer
from lmmfast.data.columns import Table
from lmmfast.errors import DataError, FormulaError, LmmError
from lmmfast.formula.cells import read

N = 120
PLACE = np.arange(N) % 4
RNG = np.random.default_rng(8)
X = RNG.normal(size=N)


def trial(**columns: Any) -> dict[str, Any]:
    return {"y": RNG.normal(size=N) + X, "x": X, "g": np.arange(N) // 10, **columns}


def objects(cells: list[Any]) -> np.ndarray:
    out = np.empty(len(cells), dtype=object)
    out[:] = cells
    return out


class Thing:
    """An object that is equal to nothing but itself."""


class Size(enum.Enum):
    """Labels that are no text."""

    S, M, L, XL = range(4)


DAY = datetime.date(2020, 5, 1)
NESTED = {
    "lists": [[int(i)] for i in PLACE],
    "dicts": [{"a": int(i)} for i in PLACE],
    "arrays": [np.full(2, i) for i in PLACE],
    "sets": [{int(i)} for i in PLACE],
    "tuples of lists": [([int(i)],) for i in PLACE],
    "frames": [pd.DataFrame({"a": [i]}) for i in PLACE],
    "things": [Thing() for _ in PLACE],
    "complex objects": [complex(i, 1) for i in PLACE],
    "a late list": ["a", "b", "c", *[[1]] * (N - 3)],
}
ARROW_NESTED = {
    "list": pl.Series([[int(i)] for i in PLACE]),
    "struct": pl.Series([{"a": int(i)} for i in PLACE]),
    "array": pl.Series([[int(i), 1] for i in PLACE], dtype=pl.Array(pl.Int64, 2)),
}


def refused(data: Any) -> None:
    """An error of ours that names the column, wherever it stands in the formula."""
    for formula in ("c ~ x + (1 | g)", "y ~ c + (1 | g)", "y ~ x + (c | g)", "y ~ x + (1 | c)"):
        with pytest.raises(DataError, match="'c' has") as caught:
            lmer(formula, data)
        assert caught.value.variable == "c"
    with pytest.raises(DataError, match="'c' has"):
        lmer("y ~ x + (1 | g)", data, weights="c")


@pytest.mark.parametrize("kind", NESTED)
def test_cells_that_are_no_labels(kind):
    cells = objects(NESTED[kind])
    refused(pd.DataFrame(trial(c=cells)))
    refused(trial(c=cells))


def test_the_first_nested_cell_is_named():
    with pytest.raises(DataError, match=r"cells of type list \(row 3 is the first\)") as caught:
        read("c", objects(NESTED["a late list"]))
    assert caught.value.rows == (3,)


@pytest.mark.parametrize("kind", ARROW_NESTED)
def test_nested_columns_of_polars_and_arrow(kind):
    frame = pl.DataFrame(trial(c=ARROW_NESTED[kind]))
    refused(frame)
    refused(frame.to_arrow())
    refused(frame.to_pandas(use_pyarrow_extension_array=True))


def test_objects_of_polars():
    refused(pl.DataFrame(trial(c=pl.Series(NESTED["things"], dtype=pl.Object))))


@pytest.mark.parametrize(
    "cells", [np.ones((N, 2)), [[1, 2]] * N, np.zeros(N, [("a", int)]), X + 1j, (i for i in X)]
)
def test_columns_of_a_dict_that_are_none(cells):
    with pytest.raises(DataError, match="'c' has"):
        lmer("y ~ c + (1 | g)", trial(c=cells))


LABELS = {
    "bytes": objects([b"abcd"[i : i + 1] for i in PLACE]),
    "fixed bytes": np.array([b"a", b"b", b"c", b"d"])[PLACE],
    "decimals": objects([decimal.Decimal(int(i)) for i in PLACE]),
    "enum members": objects([list(Size)[i] for i in PLACE]),
    "tuples": objects([(int(i), "a") for i in PLACE]),
    "dates": objects([DAY + datetime.timedelta(int(i)) for i in PLACE]),
    "durations": np.timedelta64(1, "D") * PLACE,
    "periods": pd.period_range("2020-01", periods=4, freq="M")[PLACE],
    "sparse integers": pd.arrays.SparseArray(PLACE),
    "half precision": PLACE.astype(np.float16),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_many_kinds(kind):
    wanted = lmer("y ~ x + (1 | c)", trial(c=PLACE, y=X**2))
    found = lmer("y ~ x + (1 | c)", pd.DataFrame(trial(c=LABELS[kind], y=X**2)))
    assert found.llf == pytest.approx(wanted.llf, rel=1e-12)
    assert found.n_levels == {"c": 4}


def test_bytes_are_text():
    names = lmer("y ~ c + (1 | g)", trial(c=LABELS["bytes"])).params.index
    assert list(names[1:]) == ["c[T.b]", "c[T.c]", "c[T.d]"]
    latin = objects([bytes([200 + i]) for i in PLACE])
    with pytest.raises(DataError, match=r"bytes that are not UTF-8.*decode"):
        lmer("y ~ c + (1 | g)", trial(c=latin))


@pytest.mark.parametrize(
    "cells",
    [
        LABELS["dates"],
        LABELS["durations"],
        LABELS["periods"],
        objects([datetime.timedelta(int(i)) for i in PLACE]),
        pd.Categorical(LABELS["periods"]),
        pd.Categorical(pd.to_datetime("2020-01-01") + pd.to_timedelta(PLACE, "D")),
    ],
)
def test_times_are_no_predictors(cells):
    with pytest.raises(DataError, match="'c' holds dates or times: turn them into numbers"):
        lmer("y ~ c + (1 | g)", pd.DataFrame(trial(c=cells)))


def test_intervals_of_cut_are_ordered_categories():
    frame = pd.DataFrame(trial(y=X**2))
    frame["c"] = pd.cut(frame["x"], [-9, -0.5, 0.5, 9])
    named = frame.assign(c=frame["c"].cat.rename_categories(str))
    fit = lmer("y ~ c + (1 | g)", frame)
    assert list(fit.params.index) == ["Intercept", "c[.L]", "c[.Q]"]
    np.testing.assert_array_equal(fit.params, lmer("y ~ c + (1 | g)", named).params)
    new = pd.DataFrame({"c": pd.cut([0.1, 3.0], [-9, -0.5, 0.5, 9]), "g": [0, 1]})
    np.testing.assert_allclose(
        fit.predict(new), fit.predict(new.assign(c=new["c"].astype(str))), rtol=1e-14
    )
    plain = frame.assign(c=pd.arrays.IntervalArray(frame["c"]))
    names = list(lmer("y ~ c + (1 | g)", plain).params.index)
    assert names == ["Intercept", "c[T.(-0.5, 0.5]]", "c[T.(0.5, 9.0]]"]
    again = lmer("y ~ c + (1 | g)", [frame[:50], frame[50:]])
    np.testing.assert_allclose(again.params, fit.params, rtol=1e-9)


MASKED = {
    "floats": X,
    "integers": PLACE,
    "wide integers": PLACE + 2**60,
    "booleans": PLACE > 1,
    "text": np.array(list("abcd"))[PLACE],
    "objects": np.array(list("abcd"), dtype=object)[PLACE],
    "days": np.datetime64("2020-01-01") + PLACE.astype("timedelta64[D]"),
}


@pytest.mark.parametrize("kind", MASKED)
def test_masked_entries_are_missing(kind):
    mask = np.arange(N) % 7 == 2
    masked = np.ma.array(MASKED[kind], mask=mask)
    column = read("c", masked)
    np.testing.assert_array_equal(column.missing, mask)
    full = read("c", MASKED[kind][~mask])
    full = full if column.codes is None else full.as_factor()  # floats would lose digits
    for own, other in ((column.values, full.values), (column.codes, full.codes)):
        if other is not None:
            np.testing.assert_array_equal(own[~mask], other)
    assert read("c", np.ma.array(MASKED[kind])).missing is None


def test_masked_weights_and_offsets():
    mask = np.arange(N) < 5
    weights = np.where(mask, 99.0, 1 + X**2)
    fit = lmer("y ~ x + (1 | g)", trial(), weights=np.ma.array(weights, mask=mask))
    assert fit.design.dropped == {"weights": 5}
    np.testing.assert_array_equal(fit.weights, weights[5:])


def test_sparse_columns():
    holes = np.where(PLACE == 0, np.nan, X)
    frame = pd.DataFrame(trial(c=pd.arrays.SparseArray(holes), flag=X > 0))
    frame["flag"] = pd.arrays.SparseArray(X > 0)
    fit = lmer("y ~ c + flag + (1 | g)", frame)
    assert fit.design.dropped == {"c": N // 4}
    assert list(fit.params.index) == ["Intercept", "c", "flag[T.True]"]


# ---- order of categories -------------------------------------------------------------------------

WORDS = np.array(["mid", "hi", "lo"])[RNG.integers(0, 3, N)]
ORDER = ["mid", "lo", "hi"]


def contrasts_of(table: Any) -> list[str]:
    return list(lmer("y ~ f + (1 | g)", table).params.index[1:])


def arrow(f: Any) -> pa.Table:
    return pa.table({**trial(), "f": f})


@pytest.mark.parametrize("seed", range(4))
def test_dictionaries_are_numbered_by_rows_and_have_no_order(seed):
    words = np.random.default_rng(seed).permutation(WORDS)
    lexical = ["f[T.lo]", "f[T.mid]"]
    frame = pl.DataFrame(trial(f=words)).with_columns(pl.col("f").cast(pl.Categorical))
    assert contrasts_of(frame) == lexical
    assert contrasts_of(frame.to_arrow()) == lexical
    assert contrasts_of([frame[:40], frame[40:]]) == lexical
    assert contrasts_of([frame[:40].to_arrow(), frame[40:].to_arrow()]) == lexical
    assert contrasts_of(arrow(pa.array(words).dictionary_encode())) == lexical
    parts = [pa.array(own).dictionary_encode() for own in (words[:7], words[7:])]
    assert contrasts_of(arrow(pa.chunked_array(parts))) == lexical


def test_enums_have_the_order_that_was_declared(tmp_path):
    frame = pl.DataFrame(trial(f=WORDS)).with_columns(pl.col("f").cast(pl.Enum([*ORDER, "never"])))
    declared = ["f[T.lo]", "f[T.hi]"]
    path = tmp_path / "enum.parquet"
    frame.write_parquet(path)
    for table in (frame, frame.to_arrow(), [frame[:50], frame[50:]], str(path)):
        assert contrasts_of(table) == declared


def test_enums_of_duckdb_have_the_order_that_was_declared():
    duckdb = pytest.importorskip("duckdb")
    frame = pd.DataFrame(trial(f=WORDS))  # noqa: F841, read by name
    query = "select y, g, f::ENUM('mid', 'lo', 'hi') as f from frame"
    assert contrasts_of(duckdb.sql(query)) == ["f[T.lo]", "f[T.hi]"]
    assert contrasts_of(duckdb.sql("select y, g, f from frame")) == ["f[T.lo]", "f[T.mid]"]


@pytest.mark.parametrize("ordered", [False, True])
def test_categories_of_pandas_have_the_order_that_was_declared(ordered, tmp_path):
    categories = pd.Categorical(WORDS, [*ORDER, "never"], ordered=ordered)
    frame = pd.DataFrame(trial(f=categories))
    wanted = contrasts_of(frame)
    assert wanted == (["f[.L]", "f[.Q]"] if ordered else ["f[T.lo]", "f[T.hi]"])
    path = tmp_path / "categories.parquet"
    frame.to_parquet(path, row_group_size=50)
    for table in (pa.Table.from_pandas(frame), str(path)):
        assert contrasts_of(table) == wanted


def test_ordered_dictionaries_of_arrow():
    codes = pa.array([ORDER.index(word) for word in WORDS])
    ordered = pa.DictionaryArray.from_arrays(codes, pa.array(ORDER), ordered=True)
    assert contrasts_of(arrow(ordered)) == ["f[.L]", "f[.Q]"]
    holes = pd.Series(ordered, dtype=pd.ArrowDtype(ordered.type))
    assert contrasts_of(pd.DataFrame(trial(f=holes))) == ["f[.L]", "f[.Q]"]


def test_missing_categories_of_polars():
    words = [None if i % 5 == 0 else word for i, word in enumerate(WORDS)]
    frame = pl.DataFrame(trial(f=words)).with_columns(pl.col("f").cast(pl.Categorical))
    fit = lmer("y ~ f + (1 | g)", frame)
    assert fit.design.dropped == {"f": N // 5}
    assert list(fit.params.index[1:]) == ["f[T.lo]", "f[T.mid]"]


# ---- names of columns ----------------------------------------------------------------------------


def test_names_that_are_no_text():
    frame = pd.DataFrame(trial())[["y", "x", "g"]].set_axis([0, 1, 2], axis=1)
    with pytest.raises(
        FormulaError, match=r"not text \(0 is of type int\).*columns.astype\(str\)"
    ) as caught:
        lmer("`0` ~ `1` + (1 | `2`)", frame)
    assert "did you mean" not in str(caught.value)
    frame.columns = frame.columns.astype(str)
    assert lmer("`0` ~ `1` + (1 | `2`)", frame).converged


def test_the_index_is_no_column():
    frame = pd.DataFrame(trial()).set_index("g")
    for call in (
        lambda: lmer("y ~ x + (1 | g)", frame),
        lambda: lmer("y ~ x + g + (1 | x)", frame.set_index("y", append=True)),
        lambda: lmer("y ~ x + (1 | x)", frame, weights="g"),
    ):
        with pytest.raises(LmmError, match=r"is the index of the data.*data.reset_index\(\)"):
            call()
    assert lmer("y ~ x + (1 | g)", frame.reset_index()).converged


def test_names_of_several_levels():
    frame = pd.DataFrame(trial())
    frame.columns = pd.MultiIndex.from_product([["a"], frame.columns])
    with pytest.raises(DataError, match=r"2 levels of names; join them"):
        lmer("y ~ x + (1 | g)", frame)


@pytest.mark.parametrize("name", ["total length", "total-length", "length (mm)", "% length"])
def test_names_that_need_backticks(name):
    frame = pd.DataFrame(trial()).rename(columns={"x": name})
    with pytest.raises(FormulaError, match="backticks") as caught:
        lmer("y ~ length + (1 | g)", frame)
    assert f"`{name}`" in str(caught.value)
    assert name in lmer(f"y ~ `{name}` + (1 | g)", frame).params


def test_several_columns_of_one_name():
    frame = pd.DataFrame(trial(z=X))
    twice = frame.rename(columns={"z": "x"})
    with pytest.raises(DataError, match="several columns named 'x'"):
        lmer("y ~ x + (1 | g)", twice)
    assert lmer("y ~ 1 + (1 | g)", twice).converged
    table = pa.Table.from_arrays([pa.array(X), pa.array(X), pa.array(X)], names=["y", "x", "x"])
    with pytest.raises(DataError, match="several columns of one name"):
        Table(table)


@pytest.mark.parametrize("spec", [{"base": "b"}, {"b": [1, 0]}, {"b": 1}, {}, {"b": None}])
def test_dicts_as_contrasts(spec):
    data = trial(f=np.array(list("abc"))[PLACE % 3])
    with pytest.raises(
        DataError, match=r"contrasts for 'f': a dict gives columns by name"
    ) as caught:
        lmer("y ~ f + (1 | g)", data, contrasts={"f": spec})
    assert "(a, b, c)" in str(caught.value)
    if spec == {"base": "b"}:
        assert "treatment(base='c')" in str(caught.value)
    fit = lmer("y ~ f + (1 | g)", data, contrasts={"f": {"up": [-1, 0, 1], "bend": [1, -2, 1]}})
    assert list(fit.params.index[1:]) == ["f[up]", "f[bend]"]


def test_contrasts_go_by_the_labels_of_levels():
    data = trial(f=np.array(list("abc"))[PLACE % 3])
    rows = {"c": [1.0, 1.0], "a": [-1.0, 1.0], "b": [0.0, -2.0]}
    frame = pd.DataFrame(rows, index=["up", "bend"]).T
    wanted = lmer("y ~ f + (1 | g)", data, contrasts={"f": frame.loc[list("abc")].to_numpy()})
    for spec in (
        frame,
        {"up": frame["up"], "bend": frame["bend"]},
        {name: frame[name].loc[list("abc")].reset_index(drop=True) for name in frame},
    ):
        fit = lmer("y ~ f + (1 | g)", data, contrasts={"f": spec})
        np.testing.assert_array_equal(fit.params, wanted.params)
        assert list(fit.params.index[1:]) == ["f[up]", "f[bend]"]
    other = frame.rename({"c": "d"})
    for spec in (other, {"up": other["up"]}, other["up"]):
        with pytest.raises(DataError, match="contrasts for 'f': its index has no level 'c'"):
            lmer("y ~ f + (1 | g)", data, contrasts={"f": spec})
