"""Formula + data -> matrices: R's coding, kinds of data, missing values, refusals, new data."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from design_check import N, design_differences, trials

import lmmfast
from lmmfast.data.design import build
from lmmfast.errors import (
    DataError,
    DoubleBarWarning,
    FormulaError,
    OneRowPerLevelWarning,
)


@pytest.fixture
def frame() -> pd.DataFrame:
    return trials()


def dummies(frame: pd.DataFrame, name: str, *levels: Any) -> list[np.ndarray]:
    return [(frame[name] == level).to_numpy(float) for level in levels]


# ---- fixed effects: columns and names ----------------------------------------------------------


def test_slopes_by_group(frame: pd.DataFrame) -> None:
    design = build("y ~ x + (x | g)", frame)
    assert design.x_names == ("Intercept", "x")
    np.testing.assert_array_equal(design.X, np.column_stack([np.ones(N), frame.x]))
    np.testing.assert_array_equal(design.y, frame.y)
    assert design.X.flags.f_contiguous
    term = design.terms[0]
    assert (term.label, term.group, term.structure) == ("1 + x | g", "g", "full")
    assert term.z.flags.c_contiguous
    np.testing.assert_array_equal(term.z, design.X)
    assert term.codes.dtype == np.int32
    np.testing.assert_array_equal(term.levels, [1, 3, 5, 7, 11, 20])
    np.testing.assert_array_equal(term.levels[term.codes], frame.g)
    assert (design.n_rows, design.dropped) == (N, {})


# right-hand side -> R's columns, in R's order
COLUMNS = {
    "f": ["Intercept", "f[T.b]", "f[T.c]"],
    "0 + f": ["f[a]", "f[b]", "f[c]"],
    "0 + f + flag": ["f[a]", "f[b]", "f[c]", "flag[T.True]"],
    "0 + x + f": ["x", "f[a]", "f[b]", "f[c]"],
    "x:f": ["Intercept", "x:f[a]", "x:f[b]", "x:f[c]"],
    "f:x + x": ["Intercept", "x", "f[T.b]:x", "f[T.c]:x"],
    "flag / h": ["Intercept", "flag[T.True]", "flag[False]:h[T.v]", "flag[True]:h[T.v]"],
    "flag:h": [
        "Intercept",
        "flag[False]:h[u]",
        "flag[True]:h[u]",
        "flag[False]:h[v]",
        "flag[True]:h[v]",
    ],
    "o": ["Intercept", "o[.L]", "o[.Q]"],
    "factor(k)": ["Intercept", "factor(k)[T.3]", "factor(k)[T.5]", "factor(k)[T.7]"],
    "relevel(f, ref = 'c')": [
        "Intercept",
        "relevel(f, ref='c')[T.a]",
        "relevel(f, ref='c')[T.b]",
    ],
    "C(f, contr.sum)": ["Intercept", "C(f, contr.sum)[S.a]", "C(f, contr.sum)[S.b]"],
    "C(f, Treatment('b'))": [
        "Intercept",
        "C(f, Treatment('b'))[T.a]",
        "C(f, Treatment('b'))[T.c]",
    ],
    "poly(x, 2)": ["Intercept", "poly(x, 2)[1]", "poly(x, 2)[2]"],
    "I(x > 3)": ["Intercept", "I(x > 3)[T.True]"],
    "x + w.t + log(w.t)": ["Intercept", "x", "w.t", "log(w.t)"],
    "f * x": ["Intercept", "f[T.b]", "f[T.c]", "x", "f[T.b]:x", "f[T.c]:x"],
    "1": ["Intercept"],
    "0": [],
}


@pytest.mark.parametrize("text", COLUMNS)
def test_column_names(frame: pd.DataFrame, text: str) -> None:
    design = build(f"y ~ {text} + (1 | g)", frame)
    assert list(design.x_names) == COLUMNS[text]
    assert design.X.shape == (N, len(COLUMNS[text]))


def test_full_dummies_without_main_effect(frame: pd.DataFrame) -> None:
    design = build("y ~ f:x + (0 + f | g)", frame)
    columns = dummies(frame, "f", "a", "b", "c")
    expected = np.column_stack([np.ones(N), *(column * frame.x for column in columns)])
    np.testing.assert_allclose(design.X, expected, rtol=1e-15)
    np.testing.assert_array_equal(design.terms[0].z, np.column_stack(columns))


# expression -> the column it must give
TRANSFORMS = {
    "I(x^2)": lambda d: d.x**2,
    "I(x ** 2)": lambda d: d.x**2,
    "log(x)": lambda d: np.log(d.x),
    "log(x, 2)": lambda d: np.log2(d.x),
    "np.log(x)": lambda d: np.log(d.x),
    "sqrt(w.t)": lambda d: np.sqrt(d["w.t"]),
    "exp(x / pi)": lambda d: np.exp(d.x / np.pi),
    "sin(x) ": lambda d: np.sin(d.x),
    "scale(x)": lambda d: (d.x - d.x.mean()) / d.x.std(),
    "scale(x, scale=FALSE)": lambda d: d.x - d.x.mean(),
    "I(x - mean(x))": lambda d: d.x - d.x.mean(),
    "as.numeric(factor(f))": lambda d: d.f.map({"a": 1, "b": 2, "c": 3}),
    "ifelse(f == 'a', x, 0)": lambda d: np.where(d.f == "a", d.x, 0),
    "I(k %% 3)": lambda d: d.k % 3,
    "pmin(x, 3)": lambda d: np.minimum(d.x, 3),
}


@pytest.mark.parametrize("text", TRANSFORMS)
def test_transforms(frame: pd.DataFrame, text: str) -> None:
    design = build(f"y ~ 0 + {text} + (1 | g)", frame)
    np.testing.assert_allclose(design.X[:, 0], TRANSFORMS[text](frame), rtol=1e-13, atol=1e-14)
    one = design.recipe.fixed(frame.iloc[[17]])[0]
    np.testing.assert_allclose(one, design.X[[17]], rtol=1e-13)


def test_poly_is_rs(frame: pd.DataFrame) -> None:
    data = {"y": np.arange(10.0), "t": np.tile([1, 2, 3, 4, 5], 2), "g": np.repeat([0, 1], 5)}
    X = build("y ~ poly(t, 2) + (1 | g)", data).X[:5] * np.sqrt(2)
    root10, root14 = np.sqrt(10), np.sqrt(14)  # contr.poly(5), which poly(rep(1:5, 2), 2) repeats
    np.testing.assert_allclose(X[:, 1], np.array([-2, -1, 0, 1, 2]) / root10, atol=1e-14)
    np.testing.assert_allclose(X[:, 2], np.array([2, -1, -2, -1, 2]) / root14, atol=1e-14)


NS = np.array(  # rows: t = -2, 0, 2, 5, 10, 12
    [
        [0.137161022072880084, -0.457203406909600318, 0.320042384836720206],
        [0.0, 0.0, 0.0],
        [-0.083818493250284121, 0.406379104485074027, -0.284465373139551780],
        [0.333008202367691797, 0.461401230202932000, -0.294409432570623797],
        [-0.132911392405063278, 0.443037974683544333, 0.689873417721519000],
        [-0.778481012658227778, 0.594936708860759556, 1.183544303797468444],
    ]
)


def test_natural_splines_are_rs() -> None:
    """splines::ns(t, df = 3) for t = 0, 1, ..., 10, and at -2 and 12 by predict(), from R 4.2."""
    data = {"y": np.arange(22.0), "t": np.tile(np.arange(11.0), 2), "g": np.repeat([0, 1], 11)}
    design = build("y ~ ns(t, df = 3) + (1 | g)", data)
    assert design.x_names == ("Intercept", *(f"ns(t, df=3)[{j}]" for j in (1, 2, 3)))
    np.testing.assert_allclose(design.X[[0, 2, 5, 10], 1:], NS[1:5], atol=1e-14)
    new, _ = design.recipe.fixed({"t": [-2.0, 12.0]})
    np.testing.assert_allclose(new[:, 1:], NS[[0, 5]], atol=1e-14)


# contrasts -> names and matrix for levels a, b, c
CONTRASTS = {
    "treatment": (["f[T.b]", "f[T.c]"], [[0, 0], [1, 0], [0, 1]]),
    "sum": (["f[S.a]", "f[S.b]"], [[1, 0], [0, 1], [-1, -1]]),
    "contr.sum": (["f[S.a]", "f[S.b]"], [[1, 0], [0, 1], [-1, -1]]),
    "helmert": (["f[H.b]", "f[H.c]"], [[-1, -1], [1, -1], [0, 2]]),
    "poly": (
        ["f[.L]", "f[.Q]"],
        [[-(0.5**0.5), 6**-0.5], [0, -2 * 6**-0.5], [0.5**0.5, 6**-0.5]],
    ),
    "SAS": (["f[T.a]", "f[T.b]"], [[1, 0], [0, 1], [0, 0]]),
}


@pytest.mark.parametrize("kind", CONTRASTS)
def test_contrasts_in_both_parts(frame: pd.DataFrame, kind: str) -> None:
    names, matrix = CONTRASTS[kind]
    design = build("y ~ f + (f | g)", frame, contrasts={"f": kind})
    assert list(design.x_names) == ["Intercept", *names]
    expected = np.array(matrix)[frame.f.map({"a": 0, "b": 1, "c": 2})]
    np.testing.assert_allclose(design.X[:, 1:], expected, atol=1e-15)
    np.testing.assert_array_equal(design.terms[0].z, design.X)
    assert design.terms[0].columns == design.x_names


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (np.array([[1, 0.5], [0, 0.5], [-1, -1]]), ("f[1]", "f[2]")),
        ({"up": [1, 0, -1], "mid": [0.5, 0.5, -1]}, ("f[up]", "f[mid]")),
        (
            pd.DataFrame({"up": [-1, 0, 1], "mid": [-1, 0.5, 0.5]}, index=["c", "b", "a"]),
            ("f[up]", "f[mid]"),
        ),
    ],
)
def test_own_contrasts(frame: pd.DataFrame, given: Any, names: tuple[str, ...]) -> None:
    design = build("y ~ f + (1 | g)", frame, contrasts={"f": given})
    assert design.x_names == ("Intercept", *names)
    expected = np.array([[1, 0.5], [0, 0.5], [-1, -1]])[frame.f.map({"a": 0, "b": 1, "c": 2})]
    np.testing.assert_array_equal(design.X[:, 1:], expected)


def test_against_a_reference(frame: pd.DataFrame) -> None:
    """The checker itself: it accepts R's design and names what differs."""
    design = build("y ~ f + x + (x | g)", frame)
    reference: dict[str, Any] = {
        "n": N,
        "p": 4,
        "X_columns": ["(Intercept)", "fb", "fc", "x"],
        "X_head": [[1, 1, 0, frame.x[0]], [1, 0, 0, frame.x[1]], [1, 0, 1, frame.x[2]]],
        "dropped_columns": [],
        "n_theta": 3,
        "n_levels": {"g": 6},
    }
    assert design_differences(design, reference) == []
    assert design_differences(design, {**reference, "n_theta": 2}) == [
        "3 covariance parameters, R has 2"
    ]
    reference["X_head"][0][2] = 1
    assert design_differences(design, reference) == ["column f[T.c]"]


# ---- random terms -------------------------------------------------------------------------------


def test_nested_groups(frame: pd.DataFrame) -> None:
    outer, inner = build("y ~ (1 | h / g)", frame).terms
    assert (outer.group, inner.group) == ("h", "h:g")
    assert len(outer.levels) == 2
    assert len(inner.levels) == 12
    joined = frame.h + ":" + frame.g.astype(str)
    np.testing.assert_array_equal(inner.levels[inner.codes], joined)


def test_terms_of_one_factor_share_codes(frame: pd.DataFrame) -> None:
    first, other, second = build("y ~ x + (1 | g) + (1 | h) + (0 + x | g)", frame).terms
    assert first.codes is second.codes
    assert first.codes is not other.codes
    np.testing.assert_array_equal(second.z[:, 0], frame.x)


def test_double_bar(frame: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        design = build("y ~ x + (x || g)", frame)
    assert [(t.columns, t.structure) for t in design.terms] == [(("Intercept", "x"), "diag")]


def test_double_bar_with_factors_warns_once(frame: pd.DataFrame) -> None:
    with pytest.warns(DoubleBarWarning) as caught:
        design = build("y ~ x + (f || g) + (x + flag || h)", frame)
    assert len(caught) == 1
    assert "(1 | g) + (0 + f | g) + (1 | h) + (0 + x | h) + (0 + flag | h)" in str(
        caught[0].message
    )
    assert design.terms[0].columns == ("Intercept", "f[T.b]", "f[T.c]")
    assert {term.structure for term in design.terms} == {"diag"}


def test_one_row_per_level(frame: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="one row per level") as caught:
        build("y ~ x + (1 | row)", frame)
    assert caught.value.variable == "row"
    with pytest.raises(DataError, match="one row per level"):
        build("y ~ x + (1 | row)", frame, weights=np.full(N, 2.0))
    for formula, options in [
        ("y ~ x + (x | row)", {}),
        ("y ~ x + (1 | row) + (0 + x | row)", {}),
        ("y ~ x + (1 | row)", {"weights": "w.t"}),
    ]:
        with pytest.warns(OneRowPerLevelWarning):
            assert len(build(formula, frame, **options).terms[0].levels) == N


# ---- refusals ------------------------------------------------------------------------------------

# formula, changes to the data, options -> error, variable, fragment of the message
BAD = [
    ("y ~ xx + (1 | g)", {}, {}, FormulaError, "xx", "did you mean 'x'"),
    ("y ~ x + (1 | G)", {}, {}, FormulaError, "G", "did you mean 'g'"),
    ("y ~ x + T + (1 | g)", {}, {}, FormulaError, "T", "not in the data"),
    ("y ~ log(zzz) + (1 | g)", {}, {}, FormulaError, "zzz", "the columns are y, x"),
    ("y ~ x + (. | g)", {}, {}, FormulaError, None, "name the columns"),
    ("y ~ as.numeric(f) + (1 | g)", {}, {}, FormulaError, None, "no numbers: 'a', 'b', 'c'"),
    ("y ~ lowess(x) + (1 | g)", {}, {}, FormulaError, None, "'lowess' is not a function"),
    ("y ~ x + (1 | g) + (1 | g)", {}, {}, FormulaError, None, "stands twice"),
    ("y ~ x + (0 | g)", {}, {}, FormulaError, None, "no columns"),
    ("y ~ x + (1 | g)", {"x": np.r_[np.inf, np.ones(N - 1)]}, {}, DataError, "x", "infinite"),
    ("y ~ log(x) + (1 | g)", {"x": -1.0}, {}, DataError, "log(x)", "not a finite number in rows"),
    ("y ~ log(x) + (1 | g)", {"x": 0.0}, {}, DataError, "log(x)", "not a finite number in rows"),
    (
        "y ~ ifelse(is.na(x), 0, log(x)) + (1 | g)",
        {"x": np.r_[np.nan, -1.0, np.arange(2.0, N)]},
        {},
        DataError,
        "ifelse(is.na(x), 0, log(x))",
        "not a finite number in row 1",
    ),
    (
        "y ~ x + offset(log(x)) + (1 | g)",
        {"x": np.r_[-1.0, np.arange(1.0, N)]},
        {},
        DataError,
        "the offset",
        "not a finite number in row 0 of the data",
    ),
    ("f ~ x + (1 | g)", {}, {}, DataError, "f", "not numeric"),
    ("flag ~ x + (1 | g)", {}, {}, DataError, "flag", "not numeric"),
    ("y ~ x + (1 | g)", {"y": 3.0}, {}, DataError, "y", "constant"),
    ("y ~ x + (1 | g)", {"y": 2**60 + np.arange(N)}, {}, DataError, "y", "subtract a constant"),
    ("y ~ x + (1 | g)", {"g": "only"}, {}, DataError, "g", "only one level ('only')"),
    ("y ~ f + (1 | g)", {"f": "only"}, {}, DataError, "f", "only one level"),
    ("y ~ x + (1 | g)", {"x": np.nan}, {}, DataError, None, "no rows are left"),
    ("y ~ x + (1 | g)", {"x": pd.Timestamp("2020-01-01")}, {}, DataError, "x", "dates"),
    ("y ~ x + (1 | g)", {}, {"weights": "nope"}, DataError, "nope", "not in the data"),
    ("y ~ x + (1 | g)", {}, {"weights": "f"}, DataError, "f", "not numeric"),
    ("y ~ x + (1 | g)", {}, {"weights": [1, 2]}, DataError, "weights", "one value for each row"),
    ("y ~ x + (1 | g)", {"w": -1.0}, {"weights": "w"}, DataError, "w", "negative in rows 0, 1"),
    ("y ~ x + (1 | g)", {"w": 0.0}, {"weights": "w"}, DataError, "w", "all weights"),
    ("y ~ x + (1 | g)", {}, {"offset": [1, 2]}, DataError, "offset", "one value for each row"),
    ("y ~ f + (1 | g)", {}, {"contrasts": {"f": "sums"}}, DataError, "f", "use 'treatment'"),
    ("y ~ f + (1 | g)", {}, {"contrasts": {"F": "sum"}}, DataError, "F", "did you mean 'f'"),
    ("y ~ x + (1 | g)", {}, {"contrasts": {"x": "sum"}}, DataError, "x", "numeric"),
    ("y ~ f + (1 | g)", {}, {"contrasts": {"f": np.eye(2)}}, DataError, "f", "matrix is 2 x 2"),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: f"{case[0]} {case[5]}")
def test_refusals(frame: pd.DataFrame, case: tuple[Any, ...]) -> None:
    formula, changes, options, error, variable, fragment = case
    with pytest.raises(error) as caught:
        build(formula, frame.assign(**changes), **options)
    assert fragment in str(caught.value)
    assert caught.value.variable == variable


def test_bad_tables(frame: pd.DataFrame) -> None:
    formula = "y ~ x + (1 | g)"
    bad = {
        "the data have no rows": frame.iloc[:0],
        "several columns named 'x'": pd.concat([frame, frame[["x"]]], axis=1),
        "give a data frame": frame.y,
        "data is a str": "data.csv",
        "has 2 values": {"y": [1.0, 2.0, 3.0], "x": [1.0, 2.0], "g": [1, 1, 2]},
    }
    for fragment, data in bad.items():
        with pytest.raises(DataError, match=fragment):
            build(formula, data)
    with pytest.raises(FormulaError, match="must be text"):
        build(["y ~ x"], frame)


def test_errors_name_the_rows(frame: pd.DataFrame) -> None:
    data = frame.assign(x=frame.x.where(~frame.index.isin([4, 9]), -1.0))
    data.loc[0, "y"] = np.nan  # positions are those of the data, not of the rows kept
    with pytest.raises(DataError, match="rows 4, 9 of the data") as caught:
        build("y ~ log(x) + (1 | g)", data)
    assert caught.value.rows == (4, 9)


def test_comments_of_a_copied_formula() -> None:
    data = {"y": np.arange(6.0), "x": np.array([1.0, 3, 2, 5, 4, 6]), "g": list("aabbcc")}
    design = build("y ~ x +  # the slope\n (1 | g)", data)
    assert design.x_names == ("Intercept", "x")


def test_contrasts_must_name_their_factor(frame: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"as in \{\"cond\": \"sum\"\}"):
        build("y ~ x + (1 | g)", frame, contrasts="sum")  # type: ignore[arg-type]


def test_a_predictor_with_very_many_levels_is_refused() -> None:
    n = 24_000
    words = np.array([f"w{i}" for i in range(n // 2)] * 2)
    data = {"y": np.arange(float(n)), "word": words, "g": np.arange(n) % 7}
    with pytest.raises(DataError, match=r"'word' has 12000 levels.*\(1 \| word\)"):
        build("y ~ word + (1 | g)", data)


def test_a_design_of_more_columns_than_memory_has_is_refused() -> None:
    """Before it is made: 160,000 columns for 200,000 rows would take 256 GB."""
    n = 200_000
    one, two = np.arange(n) % 400, (np.arange(n) // 400) % 400
    data = {"y": np.sin(np.arange(n)), "g": np.arange(n) % 7}
    data |= {"one": pd.Categorical(one), "two": pd.Categorical(two)}
    with pytest.raises(DataError, match=r"160000 columns for 200000 rows.*grouping factor"):
        build("y ~ one * two + (1 | g)", data)


@pytest.mark.parametrize("call", [lmmfast.lmer, lmmfast.plan])
def test_columns_that_memory_does_not_hold(
    call: Any, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy's error says how much was asked for; here is for what, and what else can be done."""

    def exhausted(*_: Any) -> None:
        np.empty(2**59)

    monkeypatch.setattr("lmmfast.data.design.response_of", exhausted)
    with pytest.raises(MemoryError, match=r"columns of 'y ~ x.*4.00 EiB.*read in chunks"):
        call("y ~ x + (1 | g)", frame)


@pytest.mark.parametrize("given", ["array", "column"])
def test_what_the_user_changes_afterwards_changes_nothing(frame: pd.DataFrame, given: str) -> None:
    """Weights and offsets are copied, those given as arrays and those of the data."""
    weights, offset = np.linspace(1, 2, N), np.linspace(-1, 1, N)
    data = {name: frame[name].to_numpy(copy=True) for name in ("y", "x", "g")}
    data |= {"w": weights, "o": offset}
    options = {"weights": weights, "offset": offset}
    if given == "column":
        options = {"weights": "w", "offset": "o"}
    design = build("y ~ x + (1 | g)", data, **options)
    for name in ("y", "x", "w", "o"):
        data[name][:] = 7.0
    np.testing.assert_array_equal(design.weights, np.linspace(1, 2, N))
    np.testing.assert_array_equal(design.offset, np.linspace(-1, 1, N))
    np.testing.assert_array_equal(design.y, frame.y)
    np.testing.assert_array_equal(design.X[:, 1], frame.x)
