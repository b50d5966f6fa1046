"""What formulas mean for data: errors, `.`, contrasts, missing values, new rows; strange ones."""

from __future__ import annotations

import pickle
import random
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lmmfast import (
    CrossProducts,
    DataError,
    FormulaError,
    LmmError,
    Spec,
    emmeans,
    lmer,
    mixedlm,
)
from lmmfast.data.columns import Table
from lmmfast.data.design import build
from lmmfast.data.encode import value_of
from lmmfast.errors import LmmWarning, UnusedContrastsWarning
from lmmfast.formula.bars import parse
from lmmfast.formula.expressions import Memory, evaluate, read_expression
from lmmfast.formula.parser import parse_text
from lmmfast.formula.plan import plan_of, without_dot
from lmmfast.formula.tree import shown
from lmmfast.formula.vocabulary import FUNCTIONS
from lmmfast.sources.open import files_source

N = 120


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    g = np.arange(N) % 10
    data = pd.DataFrame(
        {
            "y": rng.normal(size=N) + rng.normal(size=10)[g],
            "x": rng.normal(5, 2, N),
            "z": rng.uniform(1, 9, N),
            "f": np.array(list("abc"))[rng.integers(0, 3, N)],
            "flag": rng.random(N) > 0.5,
            "num": rng.integers(1, 6, N),
            "g": [f"s{i}" for i in g],
        }
    )
    data["y"] += 0.3 * data.x + (data.f == "b")
    return data


def fixed(formula: str, data: pd.DataFrame, **options) -> np.ndarray:
    return build(f"y ~ 0 + {formula} + (1 | g)", data, **options).X


# ---- errors -------------------------------------------------------------------------------------

# formula -> the text under the carets, and a part of the reason
PLACES = {
    "y ~ x + log(z + (1 | g)": ("", "a ')' is missing"),
    "y ~ x ++* z + (1 | g)": ("*", "nothing stands left of '*'"),
    "y ~ x1 2 + (1 | g)": ("2", "written in backticks"),
    "y ~ reaction time + (1 | g)": ("time", "written in backticks"),
    "y ~ I(x <- 3) + (1 | g)": ("<-", "assigns in R"),
    "y ~ (x = 3) + (1 | g)": ("(x = 3)", "write =="),
    "y ~ I(1 < x < 3) + (1 | g)": ("1 < x < 3", "cannot be chained"),
    "y ~ x + (1 | g) + 3": ("3", "is not a term"),
    "y ~ x:3 + (1 | g)": ("x:3", "no product of variables"),
    "y ~ (x + z)^z + (1 | g)": ("(x + z)^z", "whole number"),
    "y ~ x + (1 | 7)": ("7", "which group each row belongs to"),
    'y ~ f["a" + (1 | g)': ("", "a ']' is missing"),
    "y ~ 'a + (1 | g)": ("'", "a closing ' is missing"),
    "y ~ x %+% z + (1 | g)": ("%+%", "is not known"),
    "y ~ function(x) x + (1 | g)": ("function", "cannot be defined"),
    "y ~ if (x > 1) x else z + (1 | g)": ("if", "write ifelse"),
    "y ~ x$z + (1 | g)": ("$", "name the column alone"),
    "y ~ [x] + (1 | g)": ("[x]", "square brackets"),
}


@pytest.mark.parametrize("formula", PLACES)
def test_errors_show_the_place(formula: str) -> None:
    with pytest.raises(FormulaError) as caught:
        plan_of(formula)
    place, reason = PLACES[formula]
    first, line, carets = str(caught.value).split("\n")
    assert reason in first
    assert line == f"    {formula}"
    under = formula[carets.index("^") - 4 : carets.rindex("^") - 3]
    assert under == place


def test_the_line_of_a_long_formula_is_cut() -> None:
    formula = "y ~ " + " + ".join(f"x{i}" for i in range(500)) + " + 2 +\n  z + (1 | g)"
    with pytest.raises(FormulaError) as caught:
        plan_of(formula)
    _, line, carets = str(caught.value).split("\n")
    assert line.startswith("    ...") and len(line) < 90
    assert line[carets.index("^")] == "2"


@pytest.mark.parametrize(
    "text",
    ["(" * 3000 + "x" + ")" * 3000, "-" * 5000 + "x", "x^" * 5000 + "x", "[" * 999, "x" * 100_001],
)
def test_depth_and_length_are_bounded(text: str) -> None:
    with pytest.raises(FormulaError, match=r"deep|characters"):
        parse_text(text)


def test_long_sums_are_no_depth(frame: pd.DataFrame) -> None:
    long = "I(" + "x + " * 3000 + "x)"
    fit = lmer(f"y ~ {long} + (1 | g)", frame)
    assert fit.params.iloc[1] * 3001 == pytest.approx(lmer("y ~ x + (1 | g)", frame).params["x"])
    again = pickle.loads(pickle.dumps(fit))
    assert np.allclose(again.predict(frame), fit.fittedvalues)
    many = plan_of("y ~ " + " + ".join(f"a{i}" for i in range(2000)) + " + (1 | g)")
    assert len(many.fixed.terms) == 2001


@pytest.mark.parametrize(
    "part",
    [
        "(x + z)^1000000",
        "I(1:1e11)",
        "I(rep(1, 1e12))",
        "I(seq(1, 1e12))",
        "I(np.arange(1e12))",
        "I(np.zeros(1e12))",
        "poly(x, 1e9)",
        "bs(x, df = 1e9)",
        "ns(x, df = 1e9)",
        "cut(x, 1e12)",
        "I(contr.sum(1e9)[1, 1])",
        "I(matrix(1, 1e9, 1e9)[, 1])",
        "I(x^(2^(2^(2^2000))))",
        "(a + b + c + d + e)*(k + l + m + n + o)*(p + q + r + s + t)*(u + v + w + h + i)^9",
    ],
)
def test_work_is_bounded(frame: pd.DataFrame, part: str) -> None:
    try:
        plan_of(f"y ~ {part} + (1 | g)")
        build(f"y ~ {part} + (1 | g)", frame)
    except LmmError:
        return


# ---- the columns that '.' stands for -----------------------------------------------------------


def test_dot(frame: pd.DataFrame) -> None:
    small = frame[["y", "x", "f", "g"]]
    names = ["y", "x", "f", "g"]
    assert without_dot("y ~ . - g + (1 | g)", lambda: names) == "y ~ (x + f + g) - g + (1 | g)"
    dotted, plain = lmer("y ~ . - g + (1 | g)", small), lmer("y ~ x + f + (1 | g)", small)
    assert dotted.params.equals(plain.params)
    assert np.allclose(dotted.predict(small), plain.predict(small))
    crossed = lmer("y ~ x * (. - g) + (1 | g)", small)
    assert list(crossed.params.index) == list(lmer("y ~ x * f + (1 | g)", small).params.index)


def test_dot_takes_grouping_factors_as_r_does(frame: pd.DataFrame) -> None:
    small = frame[["y", "x", "g"]]
    with pytest.warns(LmmWarning, match=r"write '\. - g'") as caught:
        design = build("y ~ . + (1 | g)", small)
    assert [w.message.variable for w in caught] == ["g"]
    assert design.x_names[:3] == ("Intercept", "x", "g[T.s1]")
    with pytest.raises(FormulaError, match="there are none"):
        build("y ~ . + (1 | y)", small[["y"]])


def test_a_dot_in_names_is_no_dot(frame: pd.DataFrame) -> None:
    data = frame.rename(columns={"x": "x.1", "z": ".z"})
    design = build("y ~ x.1 + .z + log(.z) + (1 | g)", data)
    assert design.x_names == ("Intercept", "x.1", ".z", "log(.z)")


# ---- contrasts ----------------------------------------------------------------------------------

# contrasts for a, b, c -> names, matrix
CONTRASTS = {
    "treatment(base='b')": ("[T.a]", "[T.c]", [[1, 0], [0, 0], [0, 1]]),
    "contr.treatment(base = 3)": ("[T.a]", "[T.b]", [[1, 0], [0, 1], [0, 0]]),
    "sdif": ("[b-a]", "[c-b]", [[-2 / 3, -1 / 3], [1 / 3, -1 / 3], [1 / 3, 2 / 3]]),
    "repeated": ("[b-a]", "[c-b]", [[-2 / 3, -1 / 3], [1 / 3, -1 / 3], [1 / 3, 2 / 3]]),
    "diff": ("[b-a]", "[c-b]", [[-2 / 3, -1 / 3], [1 / 3, -1 / 3], [1 / 3, 2 / 3]]),
    "deviation": ("[D.b]", "[D.c]", [[-1 / 3, -1 / 3], [2 / 3, -1 / 3], [-1 / 3, 2 / 3]]),
}


@pytest.mark.parametrize("kind", CONTRASTS)
def test_contrasts_by_name(frame: pd.DataFrame, kind: str) -> None:
    first, second, matrix = CONTRASTS[kind]
    design = build("y ~ f + (1 | g)", frame, contrasts={"f": kind})
    assert design.x_names[1:] == (f"f{first}", f"f{second}")
    wanted = np.array(matrix)[frame.f.map({"a": 0, "b": 1, "c": 2})]
    np.testing.assert_allclose(design.X[:, 1:], wanted, atol=1e-15)
    assert np.allclose(design.recipe.fixed(frame.head(9))[0], design.X[:9])


def test_two_levels_of_deviation_contrasts_are_halves(frame: pd.DataFrame) -> None:
    X = build("y ~ flag + (1 | g)", frame, contrasts={"flag": "deviation"}).X
    np.testing.assert_array_equal(X[:, 1], np.where(frame.flag, 0.5, -0.5))


@pytest.mark.parametrize(
    "same",
    [
        "C(f, base = 2)",
        "C(f, contr.treatment, base = 2)",
        "C(f, contr.treatment(3, base = 2))",
        "C(f, Treatment('b'))",
        "C(f, treatment(base='b'))",
        "C(f, 'treatment(base=2)')",
    ],
)
def test_ways_to_choose_a_reference(frame: pd.DataFrame, same: str) -> None:
    X = build(f"y ~ {same} + (1 | g)", frame).X
    np.testing.assert_array_equal(X[:, 1:], np.column_stack([frame.f == "a", frame.f == "c"]))


def test_contrasts_that_are_not_used_are_told(frame: pd.DataFrame) -> None:
    with pytest.warns(UnusedContrastsWarning, match=r"give contrasts for that name") as caught:
        build("y ~ C(f) + (1 | g)", frame, contrasts={"f": "sum"})
    assert caught[0].filename == __file__
    with pytest.warns(UnusedContrastsWarning, match="not used"):
        build("y ~ x + (1 | g)", frame, contrasts={"f": "sum"})


@pytest.mark.parametrize(
    "bad", ["sums", "treatment(base='q')", "treatment(base=9)", "sum(", "sd(1)"]
)
def test_contrasts_that_are_none(frame: pd.DataFrame, bad: str) -> None:
    with pytest.raises(LmmError) as caught:
        build("y ~ f + (1 | g)", frame, contrasts={"f": bad})
    assert caught.value.variable == "f"


# ---- missing values -----------------------------------------------------------------------------


def with_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    holes = frame.assign(x=frame.x.where(frame.index % 7 != 0))
    holes.loc[holes.index % 11 == 3, "f"] = None
    return holes


def test_rows_with_a_value_are_kept(frame: pd.DataFrame) -> None:
    """As in R: what an expression makes of missing values counts, not that they are missing."""
    data = with_gaps(frame)
    filled = data.assign(x=data.x.fillna(0), missing=data.x.isna().astype(float))
    fit = lmer("y ~ ifelse(is.na(x), 0, x) + as.numeric(is.na(x)) + (1 | g)", data)
    assert fit.nobs == N
    assert np.allclose(fit.params, lmer("y ~ x + missing + (1 | g)", filled).params)
    assert lmer("y ~ I(f %in% c('a', 'b')) + (1 | g)", data).nobs == N
    half = lmer("y ~ ifelse(is.na(f), 'none', f) + log(x) + (1 | g)", data)
    assert half.nobs == data.x.notna().sum() and half.design.dropped == {"x": N - half.nobs}


def test_logic_with_missing_values_is_rs(frame: pd.DataFrame) -> None:
    """FALSE & NA is FALSE: such rows are kept."""
    data = with_gaps(frame).assign(z=frame.z.where(frame.index % 5 != 1))
    design = build("y ~ I(x > 5 & z < 5) + (1 | g)", data)
    gone = (data.x.isna() & ~(data.z >= 5)) | (data.z.isna() & ~(data.x <= 5))
    assert design.n == N - gone.sum()
    np.testing.assert_array_equal(design.X[:, 1], ((data.x > 5) & (data.z < 5))[~gone])


def test_streams_keep_the_rows_that_memory_keeps(frame: pd.DataFrame) -> None:
    data = with_gaps(frame)
    formula = "y ~ ifelse(is.na(x), 0, x) + I(f %in% c('a', 'b')) + (1 | g)"
    streamed = lmer(formula, [data[:50], data[50:]])
    assert streamed.nobs == N
    assert streamed.objective == pytest.approx(lmer(formula, data).objective, abs=1e-9)


def test_new_rows_with_missing_values(frame: pd.DataFrame) -> None:
    fit = lmer("y ~ I(x > 5) + (1 | g)", frame)
    new = frame.head(3).assign(x=[np.nan, 6.0, 4.0])
    assert list(np.isnan(fit.predict(new))) == [True, False, False]
    scaled = lmer("y ~ scale(x) + poly(z, 2) + (1 | g)", frame)
    assert list(np.isnan(scaled.predict(new))) == [True, False, False]


# ---- what is remembered -------------------------------------------------------------------------

REMEMBERED = [
    "scale(x)",
    "c(scale(x))",
    "I(x - mean(x))",
    "I((x - min(x)) / (max(x) - min(x)))",
    "poly(x, 3)",
    "poly(x, z, degree = 2)",
    "ns(x, 3)",
    "bs(x, df = 5)",
    "bs(x, knots = quantile(x, c(.33, .66)))",
    "splines::ns(x, knots = c(3, 6), Boundary.knots = c(0, 10))",
    "cut(x, 3)",
    "cut(x, quantile(x, c(0, .5, 1)), include.lowest = TRUE)",
    "interaction(f, flag)",
    "factor(num, labels = c('one', 'two', 'three', 'four', 'five'))",
    "relevel(f, 'c')",
    "dummy(f, c('b', 'c'))",
    "as.numeric(factor(f))",
    "ave(x, g)",
    "I(x - ave(x, g))",
    "cr(x, df = 4)",
    "paste0(f, num)",
    "ifelse(x > median(x), 'high', 'low')",
    "cbind(x, z = log(z))",
]


@pytest.mark.parametrize("part", REMEMBERED)
def test_new_rows_are_coded_as_the_old_ones(frame: pd.DataFrame, part: str) -> None:
    design = build(f"y ~ {part} + (1 | g)", frame)
    again = pickle.loads(pickle.dumps(design)).recipe
    for rows in (np.arange(N), np.array([3]), np.array([5, 0, 77])):
        np.testing.assert_allclose(again.fixed(frame.iloc[rows])[0], design.X[rows], rtol=1e-10)


def test_numbers_of_levels_are_told_where_labels_are_numbers(frame: pd.DataFrame) -> None:
    dose = frame.num.map({1: "10", 2: "5", 3: "100", 4: "20", 5: "2.5"})
    data = frame.assign(dose=dose, level=pd.Categorical(dose))
    parsed = fixed("as.numeric(dose)", data)
    np.testing.assert_array_equal(parsed[:, 0], dose.astype(float))
    with pytest.warns(LmmWarning, match=r"as\.numeric\(as\.character\(x\)\)"):
        codes = fixed("as.numeric(level)", data)
    np.testing.assert_array_equal(codes[:, 0], data.level.cat.codes + 1)
    np.testing.assert_array_equal(fixed("as.numeric(as.character(level))", data), parsed)


def test_dates_are_days(frame: pd.DataFrame) -> None:
    data = frame.assign(day=pd.date_range("2020-01-01", periods=N))
    np.testing.assert_array_equal(fixed("as.numeric(day)", data)[:, 0], 18262 + np.arange(N))
    after = fixed("I(day >= '2020-02-01')", data)
    np.testing.assert_array_equal(after[:, 1], np.arange(N) >= 31)
    weeks = fixed("I(as.numeric(day - as.Date('2020-01-01')) / 7)", data)
    np.testing.assert_allclose(weeks[:, 0], np.arange(N) / 7)


# ---- Python's spellings -------------------------------------------------------------------------

SAME = {
    "x ** 2": "I(x^2)",
    "I(x**2)": "I(x^2)",
    "np.log(z)": "log(z)",
    "I((x > 5) and not flag)": "I(x > 5 & !flag)",
    "I(f in ['a', 'b'])": "I(f %in% c('a', 'b'))",
    "I(f not in ['a'])": "I(f != 'a')",
    "I(num // 2)": "I(num %/% 2)",
    "I(num % 2)": "I(num %% 2)",
    "I(x if num > 2 else z)": "ifelse(num > 2, x, z)",
    "np.where(x > 5, x, 0)": "ifelse(x > 5, x, 0)",
    "I(x * True)": "I(x * TRUE)",
    "pow(x, 2)": "I(x^2)",
    "str(num)": "as.character(num)",
}


@pytest.mark.parametrize("python", [text for text in SAME if text != "x ** 2"])
def test_pythons_spellings(frame: pd.DataFrame, python: str) -> None:
    np.testing.assert_array_equal(fixed(python, frame), fixed(SAME[python], frame))


def test_mixedlm_binds_operators_as_python(frame: pd.DataFrame) -> None:
    """`x > 5 & flag` is x > (5 & flag) there, in R (x > 5) & flag."""
    r = build("y ~ I(x > 5 & flag) + (1 | g)", frame).X[:, 1]
    np.testing.assert_array_equal(r, (frame.x > 5) & frame.flag)
    python = mixedlm("y ~ I(x > 5 & flag)", frame, groups="g").exog[:, 1]
    np.testing.assert_array_equal(python, frame.x > (5 & frame.flag))
    result = mixedlm("y ~ I((x > 5) & flag)", frame, groups="g").fit()
    np.testing.assert_array_equal(result.model.exog[:, 1], r)
    assert np.allclose(result.predict(frame), result.model.exog @ result.fe_params)


def test_texts_are_read_again_as_they_are_shown() -> None:
    for text in [*SAME, *REMEMBERED, "-x^2 * !a | b", "x[1:3, ]", "`a b`:c", "f(g(h), i = 'j')"]:
        node = parse_text(text)
        assert shown(parse_text(shown(node))) == shown(node)
        assert parse_text(shown(node)) == node


# ---- fuzz ---------------------------------------------------------------------------------------

WORDS = r"""
    y x z g f 1 0 2 -1 1e308 .5 3L ( ) [ ] { } + - * / ^ ** : | || ~ & && ! == != < > <= %% %/%
    %in% % // @ , ; = <- $ ? :: ' " ` # . .. TRUE NA NULL Inf if else in not and log( factor(
    scale( poly( I( C( offset( c( us( diag( cs( \ é function
"""
STARTS = [
    "y ~ x + (1|g)",
    "y ~ x*f + (x||g)",
    "log(z) ~ poly(x, 2) + I(x^2) + (1|g/f) + offset(z)",
    "y ~ cut(x, 3) + (1 + scale(x)|g)",
    "y ~ ifelse(x > 0 & z < 5, 'a', \"b\") + (0 + dummy(f, 'a')|g) + .",
]


def strange(rng: random.Random) -> str:
    """A formula with changes, or words at random."""
    if rng.random() < 0.4:
        return "".join(
            rng.choice([*WORDS.split(), "\0", ""]) + rng.choice(["", " "])
            for _ in range(rng.randint(1, 40))
        )
    text = list(rng.choice(STARTS))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(text) + 1)
        change = rng.random()
        if change < 0.4:
            text.insert(at, rng.choice([*WORDS.split(), "\0", ""]))
        elif change < 0.7:
            del text[at : at + 1]
        else:
            text[at : at + 1] = chr(rng.choice([rng.randrange(32, 127), rng.randrange(1, 12_288)]))
    return "".join(text)


def try_formulas(seed: int, count: int, data: pd.DataFrame) -> int:
    """Reads and evaluates strange formulas; how many could be read."""
    rng, read = random.Random(seed), 0
    columns = {name: Table(data).column(name) for name in data.columns}
    for _ in range(count):
        text = strange(rng)
        try:
            plan = plan_of(without_dot(text, lambda: data.columns))
        except LmmError:
            continue
        read += 1
        for atom in plan.everything:
            try:
                if not atom.is_name:
                    value_of(atom, columns, Memory(), len(data))
            except LmmError:
                continue
    return read


def test_strange_formulas_are_read_or_refused(frame: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert try_formulas(1, 4_000, frame) > 100


@pytest.mark.slow
def test_very_many_strange_formulas(frame: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert try_formulas(2, 100_000, frame) > 2_000


ARGUMENTS = """
    x z f flag num g 1 0 2 -1 1e9 1e308 NA Inf -Inf NULL TRUE 'a' '' c(1,2,3) c('a','b') 1:3
    c(a=1,b=2) [1,2] contr.sum(3) pi
"""
NAMES = ["df", "knots", "levels", "labels", "breaks", "na.rm", "ref", "base", "raw", "n", "type"]


def call(rng: random.Random, depth: int) -> str:
    """A call of a known function with arguments at random."""
    if depth == 0 or rng.random() < 0.25:
        return rng.choice(ARGUMENTS.split())
    if rng.random() < 0.25:
        operator = rng.choice(["+", "*", "^", "%%", "%in%", ":", "<", "&", "%*%", "@", "in"])
        return f"({call(rng, depth - 1)} {operator} {call(rng, depth - 1)})"
    if rng.random() < 0.1:
        return f"{call(rng, depth - 1)}[{rng.choice(['1', ',1', '-1', call(rng, depth - 1)])}]"
    given = []
    for _ in range(rng.randint(0, 3)):
        name = rng.choice(NAMES) + "=" if rng.random() < 0.2 else ""
        given.append(name + call(rng, depth - 1))
    return f"{rng.choice(list(FUNCTIONS))}({', '.join(given)})"


@pytest.mark.parametrize("seed", range(4))
def test_strange_arguments_are_used_or_refused(frame: pd.DataFrame, seed: int) -> None:
    rng, used = random.Random(seed), 0
    columns = {name: Table(frame).column(name) for name in frame.columns}
    few = {name: column.take(np.arange(7)) for name, column in columns.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(1500):
            expression = read_expression(f"I({call(rng, 3)})")
            memory = Memory()
            try:
                evaluate(expression, columns, memory)
                value_of(expression, columns, memory, N)
                used += 1
                value_of(expression, few, memory, 7)
            except LmmError:
                continue
    assert used > 50


def test_bars_keep_their_text() -> None:
    assert [bar.label for bar in parse("y ~ us(1 + x | g) + diag(f | a:b)").random] == [
        "1 + x | g",
        "1 + f || a:b",
    ]
    assert re.match(r".*\(1 \| g\) stands twice", _message("y ~ (1 | g) + us(1 | g)"))


def _message(formula: str) -> str:
    with pytest.raises(FormulaError) as caught:
        plan_of(formula)
    return str(caught.value)


# ---- terms that swallow others, functions of other rows, kinds of columns ------------------------


@pytest.mark.parametrize(
    ("formula", "operator"),
    [
        ("y ~ x > 5 + (1 | g)", ">"),
        ("y ~ f == 'a' + (1 | g)", "=="),
        ("y ~ z + !flag + (1 | g)", "!"),
        ("y ~ (1 | g) + !flag + (1 | num)", "!"),
        ("y ~ x if flag else z + (1 | g)", "if"),
    ],
)
def test_a_random_term_behind_a_comparison_is_told(frame, formula, operator):
    with pytest.raises(FormulaError, match=r"binds less tightly than '\+'") as caught:
        lmer(formula, frame)
    assert repr(operator) in str(caught.value)


def test_logic_in_parentheses_stays_logic(frame):
    X = fixed("((x > 5 | flag) & z > 3)", frame)
    want = ((frame.x > 5) | frame.flag) & (frame.z > 3)
    np.testing.assert_array_equal(X[:, 1], want)


def test_mixedlm_takes_a_comparison_as_the_right_hand_side(frame):
    fit = mixedlm("y ~ x > 5", frame, groups="g").fit()
    same = lmer("y ~ I(x > 5) + (1 | g)", frame)
    np.testing.assert_allclose(fit.fe_params, same.params, rtol=1e-6)
    assert list(fit.fe_params.index) == ["Intercept", "x > 5[T.True]"]


def test_a_set_of_values_among_terms_is_told(frame):
    with pytest.raises(FormulaError, match=r"write I\(f %in% c\('a', 'b'\)\)"):
        lmer("y ~ f %in% c('a', 'b') + x + (1 | g)", frame)


@pytest.mark.parametrize("term", ["factor(f, levels = c('b', 'a'))", "cut(x, c(0, 4, 5))"])
def test_rows_outside_of_the_levels_are_told(frame, term):
    with pytest.raises(LmmError, match="has no level in row"):
        lmer(f"y ~ {term} + (1 | g)", frame)


SUMMARIES = [
    ("I(x - np.mean(x))", lambda x: x - x.mean()),
    ("I((x - np.min(x)) / np.ptp(x))", lambda x: (x - x.min()) / (x.max() - x.min())),
    ("I(x / np.std(x))", lambda x: x / x.std(ddof=0)),
    ("I(x > np.median(x))", lambda x: x > x.median()),
    (
        "np.digitize(x, np.quantile(x, [0.25, 0.5]))",
        lambda x: (x >= x.quantile(0.25)).astype(int) + (x >= x.quantile(0.5)),
    ),
    ("np.mean(np.c_[x, z], axis=1)", None),
]


@pytest.mark.parametrize(("term", "value"), SUMMARIES)
def test_numpys_summaries_are_those_of_the_training_data(frame, term, value):
    fit = lmer(f"y ~ {term} + (1 | g)", frame)
    column = (frame.x + frame.z) / 2 if value is None else value(frame.x).astype(float)
    want = fit.params.iloc[0] + fit.params.iloc[1] * column
    for i in (0, 5):
        one = fit.predict(frame.iloc[[i]], re_form="none")
        np.testing.assert_allclose(one, want[[i]], rtol=1e-12)


@pytest.mark.parametrize("term", ["rank(x)", "cumsum(x)", "rev(x)", "np.cumsum(x)"])
def test_values_that_depend_on_other_new_rows_are_told(frame, term):
    fit = lmer(f"y ~ {term} + (1 | g)", frame)
    with pytest.warns(LmmWarning, match="depends on the other rows"):
        pickle.loads(pickle.dumps(fit)).predict(frame.iloc[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit.refit(frame.y + frame.x)


NUMERALS = ["10", "2", "7"]  # numbers as text: their order as text is another


@pytest.mark.filterwarnings("ignore:as.numeric\\(\\) of a factor")
@pytest.mark.parametrize(
    "term", ["as.numeric(t)", "as.integer(t)", "as.numeric(as.character(t))", "I(t == '7')"]
)
def test_new_data_are_of_the_kind_that_they_had_in_training(frame, term):
    text = frame.assign(t=np.array(NUMERALS)[np.arange(N) % 3])
    as_category = text.assign(t=pd.Categorical(text.t, ["7", "10", "2"]))
    for training, new in ((text, as_category), (as_category, text)):
        fit = lmer(f"y ~ {term} + (1 | g)", training)
        for own in (fit, pickle.loads(pickle.dumps(fit))):
            np.testing.assert_allclose(own.predict(new.iloc[:9]), fit.fittedvalues[:9], rtol=1e-12)


@pytest.mark.filterwarnings("ignore:as.numeric\\(\\) of a factor")
def test_whole_numbers_and_categories_of_them_are_one(frame):
    category = frame.assign(
        num=frame.num.astype("category").cat.reorder_categories([5, 1, 4, 2, 3])
    )
    for training, new in ((frame, category), (category, frame)):
        fit = lmer("y ~ as.numeric(num) + (1 | g)", training)
        np.testing.assert_allclose(fit.predict(new.iloc[:9]), fit.fittedvalues[:9], rtol=1e-12)


def test_terms_that_were_taken_out_need_no_values(frame):
    dated = frame.assign(day=pd.Timestamp("2024-01-01"), w=np.where(np.arange(N) < 7, np.nan, 1.0))
    fit = lmer("y ~ . - day - w - g + (1 | g)", dated)
    assert "day" not in "".join(fit.params.index)
    assert fit.nobs == N - 7  # as in R: rows without w are left out
    new = dated.drop(columns=["day", "w"]).iloc[10:12]
    np.testing.assert_allclose(fit.predict(new), fit.fittedvalues[3:5], rtol=1e-12)


def test_names_of_months_and_weekdays(frame):
    days = pd.date_range("2023-12-30", periods=N, freq="D")
    columns = Table.of({"day": days.to_numpy()})
    for name, want in (("months", days.month_name()), ("weekdays", days.day_name())):
        value = evaluate(read_expression(f"{name}(day)"), {"day": columns.column("day")}, Memory())
        assert list(value) == list(want)


def test_replaced_values(frame):
    X = fixed("replace(x, x < 5, 5)", frame)
    np.testing.assert_array_equal(X[:, 0], frame.x.clip(lower=5))


# ---- rows in chunks -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:as.numeric\\(\\) of a factor")
@pytest.mark.parametrize(
    "term",
    [
        "as.numeric(t)",
        "as.integer(f)",
        "interaction(f, t)",
        "relevel(f, 'a'):x",
        "f:t",
        "ordered(t)",
    ],
)
@pytest.mark.parametrize("category", [False, True])
@pytest.mark.filterwarnings("ignore::lmmfast.errors.NumbersAsTextWarning")  # t is numerals
def test_factors_in_chunks_are_those_in_memory(frame, term, category, tmp_path):
    data = frame.assign(t=np.array(NUMERALS)[np.arange(N) % 3])
    if category or "(f)" in term:
        data["f"] = pd.Categorical(data.f, ["c", "a", "b"])
        data["t"] = pd.Categorical(data.t, ["7", "10", "2"])
    formula = f"y ~ {term} + (1 | g)"
    chunks = [data.iloc[:50], data.iloc[50:]]
    spec = Spec.from_data(formula, chunks)
    total = sum(CrossProducts.from_frame(chunk, spec) for chunk in chunks)
    total.save(tmp_path / "sums.lmm")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the fixed effects are linearly dependent")
        whole = lmer(formula, data)
        fits = [lmer(formula, chunks), lmer(CrossProducts.load(tmp_path / "sums.lmm"))]
    for fit in fits:
        assert list(fit.params.index) == list(whole.params.index)
        np.testing.assert_allclose(fit.llf, whole.llf, rtol=1e-9)
        near = fit.predict(data.iloc[:9])
        np.testing.assert_allclose(near, whole.fittedvalues[:9], rtol=1e-4)


def test_variables_missing_in_rows_that_are_used(frame, tmp_path):
    data = frame.assign(x=frame.x.where(np.arange(N) % 9 > 0))
    formula = "y ~ ifelse(is.na(x), 0, x) * f + (1 | g)"
    total = CrossProducts.from_frame(data, Spec.from_data(formula, [data]))
    total.save(tmp_path / "sums.lmm")
    fit = lmer(CrossProducts.load(tmp_path / "sums.lmm"))
    with pytest.raises(DataError, match=r"the mean of 'x' is not known.*at=\{'x': 0\}"):
        emmeans(fit, "f")
    want = emmeans(lmer(formula, data), "f", at={"x": 5}).table
    np.testing.assert_allclose(
        emmeans(fit, "f", at={"x": 5}).table["emmean"], want["emmean"], rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["frames", "function", "Parquet", "text"])
def test_dot_in_chunks(frame: pd.DataFrame, kind: str, tmp_path: Path) -> None:
    small = frame[["y", "x", "f", "g"]]
    chunks = [small[:50], small[50:]]
    small.to_parquet(tmp_path / "data.parquet")
    small.to_csv(tmp_path / "data.csv", index=False)
    data = {
        "frames": chunks,
        "function": lambda: iter(chunks),
        "Parquet": tmp_path / "data.parquet",
        "text": files_source(tmp_path / "data.csv"),
    }[kind]
    found, wanted = lmer("y ~ . - g + (1 | g)", data), lmer("y ~ x + f + (1 | g)", small)
    assert not found.design.is_held
    np.testing.assert_allclose(found.params, wanted.params, rtol=1e-8)
    np.testing.assert_allclose(found.predict(small), wanted.predict(small), rtol=1e-8)
    spec = Spec.from_data("y ~ . - g + (1 | g)", data)
    assert spec.fixed.names == wanted.design.x_names
    total = CrossProducts.from_frame(data, spec)
    np.testing.assert_allclose(lmer(total).params, wanted.params, rtol=1e-8)


def test_dot_of_no_rows(frame: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="the data have no rows"):
        lmer("y ~ . + (1 | g)", lambda: iter([frame[:0]]))


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ f + (f || g)",
        "y ~ x + I(2 * x) + (1 | g)",
        "y ~ x + (x + I(2 * x) | g)",
        "y ~ x + (x | row)",
        "y ~ . + (1 | g)",
        "y ~ x + (1 | g) + (1 | again)",
        "y ~ as.numeric(dose) + (1 | g)",
    ],
)
def test_warnings_point_to_the_line_that_called(frame, formula):
    data = frame[["y", "x", "f", "g"]].assign(again=frame.g.str.upper())
    data["row"] = np.arange(N)
    data["dose"] = pd.Categorical(np.tile(["10", "5", "20"], N // 3))
    if "." in formula.split():
        data = data[["y", "x", "g"]]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lmer(formula, data)
        mixedlm("y ~ x + I(2 * x)", data, groups="g").fit()
    assert len(caught) >= 2
    assert {warning.filename for warning in caught} == {__file__}
