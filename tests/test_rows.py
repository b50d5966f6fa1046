"""Rows are read where and as they are: types, strides, levels, products; tables stay the user's."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lmmfast import _core, lmer
from lmmfast.data.columns import LARGE
from lmmfast.data.design import build
from lmmfast.formula import cells
from lmmfast.formula.column import MANY, factorize

N = 3_000  # several blocks of rows
THETA = np.array([0.7, 0.2, 0.4, 0.5])
RNG = np.random.default_rng(11)
Y = RNG.normal(size=N)
CODES = np.resize(np.arange(40, dtype=np.int32), N)
OTHER = RNG.permutation(np.resize(np.arange(7, dtype=np.int32), N))
TABLE = np.array([0.0, 1.0, -1.0, 0.5, 2.0, -2.0, 3.0])
WHOLE = RNG.integers(-60, 60, N)
TYPES = ["f8", "f4", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


def evaluated(X: Any, z: Any, w: Any = None) -> tuple[Any, ...]:
    """Criterion, derivatives and rank of a model of two crossed factors."""
    factors = [
        (CODES, 40, z, np.zeros(2, np.int32)),
        (OTHER, 7, np.ones((N, 1)), np.zeros(1, np.int32)),
    ]
    model = _core.Model(Y, X, factors, w)
    return model.evaluate(THETA), *model.derivatives(True), model.keep


def same(found: tuple[Any, ...], wanted: tuple[Any, ...]) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def matrices(*columns: Any) -> tuple[Any, Any]:
    """As X, and its first two columns as Z."""
    X = np.asfortranarray(np.column_stack(columns), np.float64)
    return X, np.ascontiguousarray(X[:, :2])


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_numbers_of_every_type_are_read_as_they_are(kind: str, weighted: bool) -> None:
    w = RNG.uniform(0.5, 2, N) if weighted else None
    x = (abs(WHOLE) if kind[0] == "u" else WHOLE).astype(kind)
    apart = np.zeros((N, 3), kind)
    apart[:, 1] = x
    wanted = evaluated(*matrices(np.ones(N), x), w)
    for own in (x, apart[:, 1], x[::-1].copy()[::-1]):
        same(evaluated([(), (own,)], [(), (own,)], w), wanted)


def test_levels_and_products() -> None:
    x, v = RNG.normal(size=N), RNG.normal(size=N)
    level = (OTHER, TABLE)
    wanted = evaluated(*matrices(TABLE[OTHER] * x, TABLE[OTHER], x * v * TABLE[OTHER]))
    columns = [(level, x), (level,), (x, v, level)]
    same(evaluated(columns, columns[:2]), wanted)


def test_another_response_and_other_weights() -> None:
    x = RNG.normal(size=N)
    factors = [(CODES, 40, [(), (x,)], np.zeros(2, np.int32))]
    model = _core.Model(Y, [(), (x,)], factors)
    model.response(Y * 2 + x, [(), (x,)], factors)
    again = _core.Model(Y * 2 + x, [(), (x,)], factors)
    assert model.evaluate(THETA[:3]) == pytest.approx(again.evaluate(THETA[:3]), rel=1e-13)
    w = RNG.uniform(0.5, 2, N)
    model.refill(Y, [(), (x,)], factors, w)
    assert model.evaluate(THETA[:3]) == _core.Model(Y, [(), (x,)], factors, w).evaluate(THETA[:3])


BAD = {
    "complex": np.ones(N, complex),
    "half precision": np.ones(N, "f2"),
    "the other byte order": np.ones(N, np.dtype("f8").newbyteorder()),
    "a row less": np.ones(N - 1),
    "a matrix": np.ones((N, 2)),
    "missing": np.where(np.arange(N) == N - 1, np.nan, 1.0),
    "infinite, single precision": np.where(np.arange(N) == 5, np.inf, 1).astype("f4"),
    "missing, every second": np.where(np.arange(2 * N) == 4, np.nan, 1.0)[::2],
    "wide codes": (OTHER.astype(np.int64), TABLE),
    "codes above": (OTHER, TABLE[:6]),
    "codes below": (OTHER - np.int32(1), TABLE),
    "single precision of levels": (OTHER, TABLE.astype("f4")),
    "levels apart": (OTHER, np.repeat(TABLE, 2)[::2]),
}


@pytest.mark.parametrize("name", list(BAD))
def test_parts_that_cannot_be_read(name: str) -> None:
    with pytest.raises(ValueError, match=r"^(X|columns of factor 0)"):
        evaluated([(), (BAD[name],)], np.ones((N, 2)))
    with pytest.raises(ValueError, match=r"^columns of factor 0"):
        evaluated([()], [(), (BAD[name],)])


# ---- tables --------------------------------------------------------------------------------------


def columns(n: int = LARGE) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    g = np.resize(np.arange(50, dtype=np.int32), n)
    x = rng.normal(size=n)
    return {"y": x + rng.normal(size=n) + g % 3, "x": x, "g": g, "f": np.resize(list("abc"), n)}


def polars(data: dict[str, np.ndarray]) -> Any:
    return pytest.importorskip("polars").DataFrame(data)


FORMULA = "y ~ x * f + (x | g)"
KEPT = {"pandas": lambda data: pd.DataFrame(data), "polars": polars}
COW = int(pd.__version__.partition(".")[0]) >= 3


@pytest.mark.parametrize("kind", list(KEPT))
@pytest.mark.skipif(not COW, reason="pandas writes to shared memory")
def test_columns_of_large_tables_are_not_copied(kind: str) -> None:
    table = KEPT[kind](columns())
    design = build(FORMULA, table)
    for name, own in (("y", design.y), ("x", design.variables["x"].values)):
        assert np.shares_memory(own, table[name].to_numpy())
        assert not own.flags.writeable
    assert np.shares_memory(design.terms[0].codes, table["g"].to_numpy())


@pytest.mark.parametrize("make", [pd.DataFrame, dict, polars], ids=["pandas", "dict", "polars"])
@pytest.mark.parametrize("n", [LARGE, 1_000])
def test_later_changes_of_the_data_are_not_seen(make: Callable[[Any], Any], n: int) -> None:
    table = make(columns(n))
    fit = lmer(FORMULA, table)
    before = fit.design.y.copy(), fit.design.X.copy(), fit.design.terms[0].codes.copy()
    if make is dict:
        for name in ("y", "x", "g"):
            table[name][:] = table[name][::-1].copy()
    elif make is pd.DataFrame:
        table.loc[3, "y"] = 1e6
        table.iloc[5, 1] = -1e6
        table["x"] *= 2
        table.loc[:, "g"] = 0
    else:
        table[3, "y"] = 1e6
        table[5, "x"] = -1e6
    own = pickle.loads(pickle.dumps(fit))
    for design in (fit.design, own.design):
        for found, wanted in zip((design.y, design.X, design.terms[0].codes), before, strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert own.resid.to_numpy() == pytest.approx(fit.resid.to_numpy(), abs=1e-12)


def test_the_matrices_are_what_the_parts_say() -> None:
    data = columns(2_000)
    design = build("y ~ x * f + (x | g)", data, contrasts={"f": "sum"})
    sums = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])[np.resize([0, 1, 2], 2_000)]
    x = data["x"][:, None]
    wanted = np.column_stack([np.ones(2_000), x, sums, x * sums])
    order = [design.x_names.index(name) for name in ("Intercept", "x", "f[S.a]", "f[S.b]")]
    np.testing.assert_array_equal(design.X[:, order], wanted[:, :4])
    assert design.X.flags.f_contiguous and design.terms[0].z.flags.c_contiguous
    np.testing.assert_array_equal(design.terms[0].z, np.column_stack([np.ones(2_000), x]))
    some = np.array([5, 1_999, 0])
    np.testing.assert_array_equal(design.fixed.at(some), design.X[some])
    fresh = build("y ~ x * f + (x | g)", data, contrasts={"f": "sum"})
    np.testing.assert_array_equal(fresh.fixed.at(some), design.X[some])
    assert "values" not in vars(pickle.loads(pickle.dumps(design)).fixed)


@pytest.mark.skipif(not COW, reason="pandas copies before")
def test_a_design_takes_less_than_a_column() -> None:
    """Of six columns, most is the codes of a factor that is text."""
    data = pd.DataFrame(columns(2 * LARGE)).astype({"f": "category"})
    build(FORMULA, data)  # what is imported late
    tracemalloc.start()
    design = build(FORMULA, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * design.n


# ---- levels --------------------------------------------------------------------------------------


NUMBERS = {
    "narrow": RNG.integers(5, 900, 4 * MANY),
    "narrow, from zero": np.resize(np.arange(300, dtype=np.int32), 4 * MANY),
    "negative": RNG.integers(-900, -5, 4 * MANY, dtype=np.int16),
    "ids": RNG.integers(0, 2**63 - 1, 500)[RNG.integers(0, 500, 4 * MANY)],
    "few ids": RNG.integers(0, 2**63 - 1, 90)[RNG.integers(0, 90, 400)],
    "beyond 2^63": RNG.integers(2**63, 2**64 - 1, 500, np.uint64)[RNG.integers(0, 500, 4 * MANY)],
    "decimals": RNG.normal(size=700)[RNG.integers(0, 700, 4 * MANY)],
    "whole decimals": RNG.integers(0, 99, 4 * MANY).astype(float),
}


@pytest.mark.parametrize("name", list(NUMBERS))
@pytest.mark.parametrize("lasting", [False, True])
def test_levels_of_numbers(name: str, lasting: bool) -> None:
    values = NUMBERS[name]
    codes, levels = factorize(values, lasting=lasting)
    wanted, back = np.unique(values, return_inverse=True)
    np.testing.assert_array_equal(levels, wanted)
    np.testing.assert_array_equal(codes, back)
    assert codes.dtype == np.int32
    assert not np.shares_memory(codes, values) or (lasting and name == "narrow, from zero")


@pytest.mark.parametrize("many", [False, True], ids=["few labels", "many labels"])
@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "arrow in chunks", "dictionary"])
def test_levels_of_text(kind: str, many: bool) -> None:
    size = 3 * cells.FEW if many else 20
    labels = np.array([f"s{i}é" for i in range(size)], dtype=object)
    text = labels[RNG.integers(0, size, 3 * cells.PIECE)]
    text[::1_001] = None
    own: Any = pd.Series(text, dtype="str" if COW else "string[python]")
    if kind == "polars":
        own = pytest.importorskip("polars").Series(text.tolist())
    elif kind != "pandas":
        pa = pytest.importorskip("pyarrow")
        own = pa.chunked_array([pa.array(text)])
        if kind == "arrow in chunks":
            own = pa.chunked_array([own.slice(0, 70_000).chunk(0), own.slice(70_000).chunk(0)])
        elif kind == "dictionary":
            own = own.dictionary_encode()
    column = cells.read("s", own)
    present = np.array([cell is not None for cell in text])
    wanted, back = np.unique(text[present].astype(str), return_inverse=True)
    assert column.levels.tolist() == wanted.tolist()
    np.testing.assert_array_equal(column.codes[present], back)
    assert (column.codes[~present] == -1).all()
    np.testing.assert_array_equal(column.missing, ~present)
