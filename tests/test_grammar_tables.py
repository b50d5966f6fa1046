"""Expressions, syntax trees, model matrices and models as R reads them: tables that R made.

`tests/grammar/README.md` says what they hold. Where lmmfast differs on purpose the difference is
listed here with its reason.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import each

from lmmfast import FormulaError, LmmError, lmer
from lmmfast.data.columns import Table
from lmmfast.data.encode import coding_of, layout_of, value_of
from lmmfast.formula.coerce import as_factor, days, texts
from lmmfast.formula.column import Column, label_of
from lmmfast.formula.contrasts import Contrast
from lmmfast.formula.expressions import Memory, evaluate, read_expression
from lmmfast.formula.parser import parse_text
from lmmfast.formula.plan import plan_of
from lmmfast.formula.terms import Sum, read_sum
from lmmfast.formula.tree import INFIX, PREFIX, Constant, Name, Node, quoted
from lmmfast.formula.values import Logical, Matrix
from lmmfast.formula.vocabulary import function_of

HERE = Path(__file__).parent / "grammar"


def table(name: str) -> Any:
    return json.loads((HERE / f"{name}.json").read_text())


@cache
def frame(name: str) -> pd.DataFrame:
    """A table with the kinds of columns that R had."""
    data = pd.read_csv(HERE / f"{name}.csv", dtype={"dose": str, "day": str})
    if "o" in data:
        data["o"] = pd.Categorical(data["o"], table("columns")["o"]["levels"], ordered=True)
    return data


def columns(name: str) -> dict[str, Column]:
    read = Table(frame(name))
    return {column: read.column(column) for column in frame(name).columns}


def quiet(text: str, name: str, memory: Memory) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return evaluate(read_expression(text), columns(name), memory)


# ---- expressions --------------------------------------------------------------------------------

# R gives a value, lmmfast says what is wrong or what to write.
REFUSED = {
    "x<-1.5 + 1": "assigns",
    "{x; z}": "';'",
    "{x\nz}": "operator is missing",
    "which(num == 3)[1]": "not a function",
    "ifelse(TRUE, x, z)": "60 values do not fit a test of 1",  # R takes x[1] for all rows
    "ifelse(flag, c(1, 2), 0)": "2 values do not fit",
    "num == c(1, 2)": "asked by %in%",  # R recycles: a well-known trap
    "num == 1:5": "asked by %in%",
    "as.numeric(f)": "no numbers: 'a', 'b', 'c'",  # NA in R, with a warning
    'as.numeric("abc")': "no numbers",
    'as.numeric("")': "no numbers",
    'droplevels(factor(f), exclude = "a")': "exclude",
    "addNA(factor(f))": "not a function",
    "x - mean(range(x))": "not a function",  # Python's range is another one
    "range(x)": "not a function",
    "diff(range(x))": "not a function",
    "cor(x, z)": "not a function",
    "ns(x, knots = numeric(0))": "not a function",
    "strtoi(substr(day, 9, 10), 10L)": "not a function",
    "numeric(60)": "not a function",
    "contr.treatment(3, contrasts = FALSE)": "write 0 + f",
}
# R refuses, lmmfast has a meaning for it: texts as factors, Python's lists and remainders.
ACCEPTED = {
    'relevel(f, ref = "b")',
    "C(x, sum)",
    "C(num, contr.sum)",
    'C(factor(rep("a", 60)), sum)',  # refused as a predictor: it has one level
    "[x]",
    "x % z",
}
# Missing values as a level of their own are not supported; R leaves rows out of dummy(flag).
SKIPPED = {"factor(f, exclude = NULL)", "dummy(flag)"}
REMEMBERED = {
    "as.numeric(factor(dose))",
    "levels(factor(k))",
    "as.numeric(levels(factor(dose)))[factor(dose)]",
}  # R looks at the new levels
UP_TO_SIGN = {"C(k, matrix(c(-3, -1, 1, 3, 1, -1, -1, 1), 4))"}  # the column that C() adds


def written(record: dict[str, Any]) -> str:
    return f"I({record['text']})" if record.get("inside") else record["text"]


def numbers(entries: list[Any]) -> np.ndarray:
    words = {None: math.nan, "NaN": math.nan, "Inf": math.inf, "-Inf": -math.inf}
    return np.array([words.get(e, e) if e is None or isinstance(e, str) else e for e in entries])


def close(found: Any, wanted: list[Any], rtol: float = 1e-9, atol: float = 1e-10) -> None:
    """Equal numbers; one value stands for all rows."""
    a, b = np.broadcast_arrays(
        np.atleast_1d(np.asarray(found, float)), numbers(wanted).astype(float)
    )
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def labels(value: Any) -> tuple[list[Any], list[str], bool]:
    """Label of each row, levels in order, whether they are ordered."""
    factor = value if isinstance(value, Column) else as_factor(value)
    levels = [label_of(level) for level in factor.levels.tolist()]
    return [None if c < 0 else levels[c] for c in factor.codes], levels, factor.ordered


def check_value(value: Any, record: dict[str, Any], key: str) -> None:
    kind, wanted = record["kind"], record[key]
    if isinstance(value, Contrast):
        value = value.matrix()
    if kind == "text":
        found = texts(value).tolist()
        assert found * len(wanted) == wanted * len(found) if len(found) == 1 else found == wanted
    elif kind == "factor":
        found, levels, ordered = labels(value)
        assert found == [None if c is None else record["levels"][c - 1] for c in wanted]
        if key == "values":
            present = set(found)
            assert [level for level in record["levels"] if level in present] == [
                level for level in levels if level in present
            ]
            assert ordered == record["ordered"]
    elif kind in ("matrix", "contrast"):
        check_columns(value, record, key)
    elif kind == "date":
        close(days(value) if np.asarray(value).dtype.kind == "M" else value, wanted)
    else:
        assert kind == ("logical" if is_logical(value) else "numeric") or wanted[0] is None
        close(value.values[:, 0] if isinstance(value, Matrix) else value, wanted)


def is_logical(value: Any) -> bool:
    return (
        isinstance(value, (bool, Logical))
        or np.asarray(getattr(value, "values", value)).dtype == bool
    )


def check_columns(value: Any, record: dict[str, Any], key: str) -> None:
    wanted = record[key]
    if record["kind"] == "contrast":
        assert value.levels is not None
        found = coding_of("x", value, None).contrast[value.codes]
        names = ()
    else:
        found = value.values if isinstance(value, Matrix) else np.asarray(value, float)[:, None]
        names = getattr(value, "names", ())
    assert found.shape[1] == len(wanted)
    for j, column in enumerate(wanted):
        own = found[:, j]
        sign = -1 if record["text"] in UP_TO_SIGN and own[0] * column[0] < 0 else 1
        np.testing.assert_allclose(sign * own, numbers(column).astype(float), rtol=1e-8, atol=1e-9)
    if any(record.get("names") or ()) and names:
        given = [name or str(j + 1) for j, name in enumerate(record["names"])]
        assert list(names) == given


def learns(text: str) -> bool:
    """Whether lmmfast remembers something for new data."""
    functions = (function_of(call.function) for call in read_expression(text).calls)
    return any(
        function is not None and function.rows in ("learns", "all") for function in functions
    )


EXPRESSIONS = [
    record
    for record in table("expressions")
    if record["section"] != "beyond" and record["text"] not in SKIPPED
]


@pytest.mark.parametrize("section", sorted({record["section"] for record in EXPRESSIONS}))
def test_expressions(section: str) -> None:
    each([record for record in EXPRESSIONS if record["section"] == section], check_expression)


def check_expression(record: dict[str, Any]) -> None:
    text, data = written(record), record.get("data", "data")
    memory = Memory()
    if record["text"] in REFUSED:
        with pytest.raises(FormulaError, match=re.escape(REFUSED[record["text"]])):
            quiet(text, data, memory)
        return
    if record["kind"] in ("error", "refused") and record["text"] not in ACCEPTED:
        with pytest.raises(LmmError):
            quiet(text, data, memory)
        return
    value = quiet(text, data, memory)
    if record["kind"] in ("error", "refused"):
        return
    check_value(value, record, "values")
    again = record.get("remembers") or not (learns(text) or text in REMEMBERED)
    if "new" in record and again and record["kind"] != "contrast" and "[60:1]" not in text:
        check_value(quiet(text, "new", memory), record, "new")


def test_what_is_not_in_the_vocabulary_is_right_or_refused() -> None:
    def check(record: dict[str, Any]) -> None:
        try:
            value = quiet(written(record), record.get("data", "data"), Memory())
        except FormulaError:
            return
        check_value(value, record, "values")

    each([record for record in table("expressions") if record["section"] == "beyond"], check)


def test_most_of_the_table_is_compared_by_value() -> None:
    """Skips and refusals stay few."""
    values = [r for r in EXPRESSIONS if r["kind"] not in ("error", "refused")]
    assert len(values) > 1200 and len(REFUSED) < 25 and len(ACCEPTED) < 10 and len(SKIPPED) < 5


# ---- syntax -------------------------------------------------------------------------------------


# R's language for programs: lists, assignments, functions.
NO_FORMULAS = (
    "$",
    ")(",
    "->",
    "<-",
    "function",
    "\\(",
    "if (",
    "?",
    ":::",
    "|>",
    ";",
    "\nb",
    "%+%",
)


def full(node: Node | None) -> str:
    """The text with parentheses around every operation, as R's table has it."""
    if node is None:
        return ""
    if isinstance(node, Name):
        return f"({node.written})" if "::" in node.written else quoted(node.name)
    if isinstance(node, Constant):
        return constant(node)
    operands = node.operands
    if node.function == "(":
        return full(operands[0])
    if node.function in INFIX and len(node.args) == 2:
        operator = "^" if node.function == "**" else node.function
        if operator == "@":
            return f"({full(operands[0])}@{full(operands[1])})"
        return f"({full(operands[0])} {operator} {full(operands[1])})"
    if node.function in PREFIX and len(node.args) == 1:
        return f"({node.function}{full(operands[0])})"
    inside = ", ".join(f"{quoted(name)} = {full(v)}" if name else full(v) for name, v in node.args)
    if node.function == "[":
        return f"{full(operands[0])}[{', '.join(full(v) for _, v in node.args[1:])}]"
    if node.function in ("{", "list"):
        return f"{{{inside}}}" if node.function == "{" else f"[{inside}]"
    function = f"({node.namespace}::{node.function})" if node.namespace else node.function
    return f"{function}({inside})"


def constant(node: Constant) -> str:
    if isinstance(node.value, str):
        return json.dumps(node.value, ensure_ascii=False)
    if node.value is None or isinstance(node.value, bool) or not node.text[0].isdigit():
        return node.text if node.text[0] != "." else label_of(node.value)
    return label_of(node.value) + ("L" if isinstance(node.value, int) else "")


def test_precedence() -> None:
    each(table("precedence"), check_precedence)


def check_precedence(record: dict[str, Any]) -> None:
    if (
        record["full"] is None
        or any(sign in record["text"] for sign in NO_FORMULAS)
        or record["text"] == "a = b"
    ):
        with pytest.raises(FormulaError, match="cannot read the formula"):
            parse_text(record["text"])
    else:
        assert full(parse_text(record["text"])) == record["full"]


# ---- model matrices -----------------------------------------------------------------------------


# Here R gives terms that nobody means: x:1 is nothing, x * 1 is x, f*offset(x) is f.
NO_PRODUCTS = ("no product of variables", "must be a whole number", "only be added with '+'")


def terms_of(text: str) -> Sum:
    """Terms of a right-hand side; offsets are not among them."""
    if "offset(" in text:
        return plan_of(f"y ~ {text} + (1 | g)").fixed
    return read_sum(text)


@pytest.mark.filterwarnings("ignore:.* among terms is ")
def test_few_matrices_are_refused() -> None:
    def refused(text: str) -> bool:
        try:
            terms_of(text)
        except FormulaError:
            return True
        return False

    records = [r for r in table("matrices") if "refused" not in r]
    assert len(records) > 500 and sum(refused(r["text"]) for r in records) < len(records) / 8


def unspaced(label: str) -> str:
    return label.replace(" ", "")


@pytest.mark.filterwarnings("ignore:.* among terms is ")  # powers of one variable
def test_model_matrices() -> None:
    each(table("matrices"), check_model_matrix)


def check_model_matrix(record: dict[str, Any]) -> None:
    if "refused" in record:
        with pytest.raises(FormulaError):
            terms_of(record["text"])
        return
    try:
        terms = terms_of(record["text"])
    except FormulaError as error:
        assert any(word in str(error) for word in NO_PRODUCTS)
        return
    found = [":".join(terms.atoms[a].text for a in t.atoms) for t in terms.terms if t.atoms]
    assert [unspaced(label) for label in found] == [unspaced(label) for label in record["labels"]]
    assert terms.intercept == record["intercept"]
    own, memory, n = columns("data"), Memory(), len(frame("data"))
    values = {atom.label: value_of(atom, own, memory, n) for atom in terms.atoms}
    codings = {label: coding_of(label, value, None) for label, value in values.items()}
    layout = layout_of(terms, codings)
    X = layout.fill(np.empty((n, len(layout.names))), codings, values)
    assert X.shape[1] == len(record["assign"])
    if "columns" in record:
        for j, wanted in enumerate(record["columns"]):
            np.testing.assert_allclose(
                X[:, j], numbers(wanted).astype(float), rtol=1e-9, atol=1e-10
            )
        return
    i = np.arange(1, n + 1)
    weights = (7 * i) % 11 - 5 + i / 64
    for key, found in (("sum", X.sum(0)), ("squares", (X**2).sum(0)), ("dot", weights @ X)):
        size = np.abs(X).sum(0) + np.abs(X).max(0, initial=1.0) ** 2
        assert (np.abs(found - np.array(record[key], float)) <= 1e-11 * size * n).all()


# ---- models -------------------------------------------------------------------------------------


# lme4 has a model, lmmfast says what is wrong or what to write.
UNFITTED = {
    "y ~ 0 + x | g": "needs parentheses",
    "y ~ x + 1 | g": "needs parentheses",
    "y ~ x + z | g": "needs parentheses",
    "y ~ x + (1 | g) + (1 | g)": "stands twice",
    "y ~ x * (1 | g)": "only be added with '+'",
    "y ~ x + (1 | g):f": "only be added with '+'",
    "y ~ x - (1 | g)": "cannot be removed",
    "y ~ x + -(1 | g)": "cannot be removed",
    "y ~ x + (1 | f %in% k)": "not an expression with '%in%'",
    "y ~ x + (1 | g - f)": "not an expression with '-'",
    "y ~ x + (1 | g^2)": "not an expression with '^'",
    "y ~ x + (1 | (f + k)^2)": "not an expression with '^'",
    "flag ~ x + (1 | g)": "not numeric",
    "y ~ x - offset(z) + (1 | g)": "cannot be removed",
    "y ~ x + y + (1 | g)": "among its own predictors",
    "y ~ x + (. - g - h - y | g)": "name the columns",
}
# lme4 has an error, lmmfast a model.
FITTED = {
    "y ~ x + (1 || g)",
    "y ~ x + I(1 | flag) + (1 | g)",  # lme4 takes the bar for a random term
    "y ~ I(flag | x > 0) + (1 | g)",
    "y ~ (flag | x > 0) + (1 | g)",  # a random term with two levels
    "log(y + 20) ~ . - g + (1 | g)",  # in lme4 the response is among its predictors
    "y ~ I(x - mean(x)) + (1 | g)",  # with missing values: of those that are there
    "y ~ poly(x, 2) + (1 | g)",
    "y ~ poly(num, 2) + (1 | g)",
}
# The models differ: `||` of factors, which a warning tells; lme4's '.' takes log(z) twice.
OTHER = {
    "y ~ f + (f || g)",
    "y ~ f + (0 + f || g)",
    "y ~ f + x + (f * x || g)",
    "y ~ flag + (flag || g)",
    "y ~ (log(z) | g) + . - g - h",
}


def fitted(record: dict[str, Any]) -> Any:
    data = frame("crossed" if record["data"] == "small" else record["data"])
    if record["data"] == "small":
        data = data[["y", "x", "z", "f", "g", "h"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lmer(record["text"], data)


@pytest.mark.filterwarnings("ignore:.* among terms is ")
@pytest.mark.parametrize("data", sorted({record["data"] for record in table("models")}))
def test_models(data: str) -> None:
    each([record for record in table("models") if record["data"] == data], check_model)


def check_model(record: dict[str, Any]) -> None:
    if record["text"] in UNFITTED:
        with pytest.raises(LmmError, match=re.escape(UNFITTED[record["text"]])):
            fitted(record)
    elif record["text"] in OTHER:
        assert abs(fitted(record).objective - record["criterion"]) > 0.1
    elif "criterion" in record:
        fit = fitted(record)
        assert fit.nobs == record["rows"]
        assert fit.objective == pytest.approx(record["criterion"], abs=2e-5)
        kept = fit.params.dropna().to_numpy()
        # Not where dependent columns are left out, nor where fixed effects of g beside random
        # ones of g leave coefficients open.
        if not record.get("dropped") and record["text"] != "y ~ . - x + (x | g)":
            close(np.sort(kept), sorted(record["beta"]), rtol=1e-5, atol=1e-5)
    elif record["text"] not in FITTED:
        with pytest.raises(LmmError):
            fitted(record)
