"""The same model from every kind of table and column; missing values, weights, offsets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from design_check import N, trials

import lmmfast
from lmmfast.data.design import Design, build
from lmmfast.errors import DataError, FormulaError


@pytest.fixture
def frame() -> pd.DataFrame:
    return trials()


MIXED = "log(x) ~ x * f + o + flag + (x | g) + (1 | h / f)"


def same(left: Design, right: Design) -> None:
    assert left.x_names == right.x_names
    np.testing.assert_array_equal(left.X, right.X)
    np.testing.assert_array_equal(left.y, right.y)
    for a, b in zip(left.terms, right.terms, strict=True):
        assert a.columns == b.columns
        np.testing.assert_array_equal(a.z, b.z)
        np.testing.assert_array_equal(a.codes, b.codes)
        assert list(map(str, a.levels)) == list(map(str, b.levels))


def variants(frame: pd.DataFrame) -> dict[str, Any]:
    plain = frame.assign(o=frame.o.cat.remove_unused_categories())
    arrays = {name: plain[name].array for name in plain if name == "o"}
    arrays |= {name: plain[name].to_numpy() for name in plain if name != "o"}
    return {
        "dict": arrays,
        "lists": {**{name: list(plain[name]) for name in plain}, "o": plain.o.array},
        "object strings": plain.assign(f=plain.f.astype(object), h=plain.h.astype(object)),
        "categories": plain.assign(f=plain.f.astype("category"), h=plain.h.astype("category")),
        "nullable": plain.convert_dtypes().assign(o=plain.o),
        "small integers": plain.assign(g=plain.g.astype(np.int8), k=plain.k.astype(np.uint16)),
        "float groups": plain.assign(g=plain.g.astype(float)),
        "objects": plain.assign(g=plain.g.astype(object), flag=plain.flag.astype(object)),
    }


@pytest.mark.parametrize(
    "kind",
    sorted(
        variants(
            pd.DataFrame({"o": pd.Categorical(["a"])}).assign(f="a", h="a", g=1, k=1, flag=True)
        )
    ),
)
def test_kinds_of_columns(frame: pd.DataFrame, kind: str) -> None:
    same(build(MIXED, frame), build(MIXED, variants(frame)[kind]))


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_other_tables(frame: pd.DataFrame, library: str) -> None:
    pytest.importorskip("pyarrow")
    module = pytest.importorskip(library)
    unordered = frame.assign(o=pd.Categorical(frame.o.astype(str), ["mid", "hi", "lo"]))
    if library == "polars":
        table = module.from_pandas(unordered.drop(columns="o")).with_columns(
            o=module.Series(unordered.o.tolist(), dtype=module.Enum(["mid", "hi", "lo"]))
        )
        lazy = table.lazy()
        with pytest.raises(DataError, match="LazyFrame: collect it"):
            build(MIXED, lazy)
    else:
        same(build(MIXED, frame), build(MIXED, module.Table.from_pandas(frame)))  # ordered
        table = module.Table.from_pandas(unordered)
    expected, design = build(MIXED, unordered), build(MIXED, table)
    same(expected, design)
    assert design.index is None
    new = table[3:5] if library == "polars" else table.slice(3, 2)
    np.testing.assert_allclose(design.recipe.fixed(new)[0], expected.X[3:5], rtol=1e-15)


def test_missing_values_of_all_kinds(frame: pd.DataFrame) -> None:
    holes = frame.assign(
        x=frame.x.where(frame.index != 1),
        f=frame.f.where(frame.index != 2),
        k=frame.k.astype("Int64").where(frame.index != 3),
        flag=frame.flag.astype("boolean").where(frame.index != 4),
        g=frame.g.astype("Int64").where(frame.index != 5),
        y=frame.y.where(frame.index != 5),
        row=None,
    )
    design = build("y ~ x + k + f + flag + (1 | g)", holes)
    assert design.dropped == {"y": 1, "x": 1, "k": 1, "f": 1, "flag": 1, "g": 1}
    np.testing.assert_array_equal(design.rows, [0, *range(6, N)])
    np.testing.assert_array_equal(design.index, frame.index[design.rows])
    assert design.n_rows == N
    same(design, build("y ~ x + k + f + flag + (1 | g)", frame.iloc[design.rows]))


def test_transforms_learn_from_all_rows_with_their_variables(frame: pd.DataFrame) -> None:
    """As in R, where rows are dropped after scale(), poly() ... were evaluated."""
    holes = frame.assign(x=frame.x.where(frame.index % 7 != 0))
    kept = np.flatnonzero(frame.index % 7 != 0)
    formula = "y ~ scale(x) + poly(w.t, 2) + (1 | g)"
    X, whole = build(formula, holes).X, build(formula, frame).X
    np.testing.assert_allclose(X[:, 2:], whole[kept, 2:], rtol=1e-13)
    x = frame.x.to_numpy()[kept]
    np.testing.assert_allclose(X[:, 1], (x - x.mean()) / x.std(ddof=1), rtol=1e-13)


def test_unused_levels_are_dropped(frame: pd.DataFrame) -> None:
    data = frame.assign(f=pd.Categorical(frame.f, ["zz", "c", "b", "a"]), y=frame.y)
    data.loc[data.f == "b", "x"] = np.nan
    design = build("y ~ f + x + (1 | g)", data)
    assert design.x_names == ("Intercept", "f[T.a]", "x")
    np.testing.assert_array_equal(design.terms[0].levels, [1, 3, 5, 7, 11, 20])


def test_weights_and_offsets(frame: pd.DataFrame) -> None:
    weights = frame["w.t"].where(frame.index > 2, 0.0)
    formula = "y ~ x + offset(log(x)) + (1 | g)"
    design = build(formula, frame, weights=weights, offset="k")
    assert design.dropped == {"weights == 0": 3}
    np.testing.assert_array_equal(design.weights, weights[3:])
    np.testing.assert_allclose(design.offset, (np.log(frame.x) + frame.k)[3:], rtol=1e-15)
    by_name = build(formula, frame.assign(w=weights), weights="w", offset=list(frame.k))
    np.testing.assert_array_equal(by_name.weights, design.weights)
    np.testing.assert_array_equal(by_name.offset, design.offset)
    assert build("y ~ x + (1 | g)", frame).offset is None
    new = {"x": 2.0, "k": 3}
    assert design.recipe.fixed(new)[1] == pytest.approx([np.log(2) + 3])
    assert by_name.recipe.offset_is_array
    assert by_name.recipe.fixed(new)[1] == pytest.approx([np.log(2)])


def test_data_are_not_changed_or_shared(frame: pd.DataFrame) -> None:
    before = frame.copy(deep=True)
    design = build("y ~ x * f + (x | g)", frame, weights="w.t")
    pd.testing.assert_frame_equal(frame, before)
    assert not np.shares_memory(design.y, frame.y.to_numpy())


@pytest.mark.parametrize(("sign", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
@pytest.mark.parametrize("library", [pd, pl])
def test_a_file_read_by_another_separator(tmp_path, sign, name, library):
    path = tmp_path / "trials.csv"
    path.write_text(f"subj{sign}rt (ms)\n" + "".join(f"{i % 3}{sign}{i}\n" for i in range(12)))
    for response in ("`rt (ms)`", "rt"):
        with pytest.raises(FormulaError, match=f"one column.*separated by {name}") as caught:
            lmmfast.lmer(f"{response} ~ 1 + (1 | subj)", library.read_csv(path))
        assert f"sep={sign!r}" in str(caught.value)
    records = [{"rt (ms)": 1.0, "subj": 1}, {"rt (ms)": 2.0, "subj": 2}]
    with pytest.raises(DataError, match=r"list of records.*pandas\.DataFrame\(data\)"):
        lmmfast.lmer("`rt (ms)` ~ 1 + (1 | subj)", records)
    with pytest.raises(FormulaError, match=r"the columns are y$"):
        lmmfast.lmer("z ~ 1 + (1 | g)", pd.DataFrame({"y": [1.0, 2.0]}))
