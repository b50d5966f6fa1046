"""Formula text -> its parts: what is read, and what is refused with which words."""

from __future__ import annotations

import pytest

from lmmfast.errors import FormulaError
from lmmfast.formula.bars import Bar, parse
from lmmfast.formula.expressions import read_expression
from lmmfast.formula.terms import read_sum


def full(columns: str, *group: str) -> Bar:
    return Bar(columns, group, "full")


def diag(columns: str, *group: str) -> Bar:
    return Bar(columns, group, "diag")


# formula -> (response, fixed part, random terms, offsets)
PARSED = {
    "y ~ (1|g)": ("y", "1", [full("1", "g")], []),
    "y ~ x + (1 | g)": ("y", "x", [full("1", "g")], []),
    "y ~ x + (x|g)": ("y", "x", [full("1 + x", "g")], []),
    "y ~ x + (1+x|g)": ("y", "x", [full("1 + x", "g")], []),
    "y ~ x + (0+x|g)": ("y", "x", [full("0 + x", "g")], []),
    "y ~ x + (-1+x|g)": ("y", "x", [full("0 + x", "g")], []),
    "y ~ x + (x-1|g)": ("y", "x", [full("x - 1", "g")], []),
    "y ~ x + (x||g)": ("y", "x", [diag("1 + x", "g")], []),
    "y ~ (1|g/h)": ("y", "1", [full("1", "g"), full("1", "g", "h")], []),
    "y ~ (1|g/h/i)": (
        "y",
        "1",
        [full("1", "g"), full("1", "g", "h"), full("1", "g", "h", "i")],
        [],
    ),
    "y ~ (1|g:h)": ("y", "1", [full("1", "g", "h")], []),
    "y ~ (1|(g:h))": ("y", "1", [full("1", "g", "h")], []),
    "y ~ (1|g:h:g)": ("y", "1", [full("1", "g", "h")], []),
    "y ~ (1|g/h/g)": ("y", "1", [full("1", "g"), full("1", "g", "h")], []),
    "y ~ (1|(g + h)/g/i)": (
        "y",
        "1",
        [full("1", "g"), full("1", "h"), full("1", "g", "h"), full("1", "g", "h", "i")],
        [],
    ),
    "y ~ (1|g:h/i)": ("y", "1", [full("1", "g", "h"), full("1", "g", "h", "i")], []),
    "y ~ x + (1|g) + (0+x|g) + (1|h)": (
        "y",
        "x",
        [full("1", "g"), full("0 + x", "g"), full("1", "h")],
        [],
    ),
    "y ~ (a*b|g)": ("y", "1", [full("1 + a * b", "g")], []),
    "y ~ (np.log(x)|g)": ("y", "1", [full("1 + np.log(x)", "g")], []),
    "y ~ (1|factor(g))": ("y", "1", [full("1", "factor(g)")], []),
    "y~-1+x+(1|g)": ("y", "-1 + x", [full("1", "g")], []),
    "y ~ 0 + x + (1|g)": ("y", "0 + x", [full("1", "g")], []),
    "y ~ x - 1 + (1|g)": ("y", "x - 1", [full("1", "g")], []),
    "y ~ ((1|g)) + (x + (z|h))": ("y", "x", [full("1", "g"), full("1 + z", "h")], []),
    "y ~ (a+b)^2 + a:(b + c) + (1|g)": ("y", "(a + b)^2 + a:(b + c)", [full("1", "g")], []),
    "y ~ b %in% a + (1|g)": ("y", "b %in% a", [full("1", "g")], []),
    "y ~ x + offset(2 * z) + (1|g) + offset(w)": ("y", "x", [full("1", "g")], ["2 * z", "w"]),
    "log(rt) ~ poly(x, 2) + (1|g)": ("log(rt)", "poly(x, 2)", [full("1", "g")], []),
    "-1000 / rt ~ x + (1|g)": ("-1000 / rt", "x", [full("1", "g")], []),
    "total.fruits ~ wl.c + (1|g)": ("total.fruits", "wl.c", [full("1", "g")], []),
    "`my y` ~ `my x` + (1|`my g`)": ("`my y`", "`my x`", [full("1", "`my g`")], []),
    "y ~ x + + (1|g)": ("y", "x", [full("1", "g")], []),
    "y ~ 1|g": ("y", "1", [full("1", "g")], []),
    "y ~ x|g": ("y", "1", [full("1 + x", "g")], []),
    "y ~ (1|g+h)": ("y", "1", [full("1", "g"), full("1", "h")], []),
    "y ~ (1|g*h)": ("y", "1", [full("1", "g"), full("1", "h"), full("1", "g", "h")], []),
    "y ~ (1|g/(h+i))": (
        "y",
        "1",
        [full("1", "g"), full("1", "g", "h"), full("1", "g", "i")],
        [],
    ),
    "y ~ us(x|g) + diag(0 + f|h)": ("y", "1", [full("1 + x", "g"), diag("0 + f", "h")], []),
    "y ~ {x + z} + (1|g)": ("y", "{x + z}", [full("1", "g")], []),
    "y ~ (x > 5) + (1|g)": ("y", "(x > 5)", [full("1", "g")], []),
}


@pytest.mark.parametrize("text", PARSED)
def test_parse(text: str) -> None:
    response, fixed, random, offsets = PARSED[text]
    formula = parse(text)
    assert formula.text == text
    assert formula.response == response
    assert formula.fixed == fixed
    assert list(formula.random) == random
    assert list(formula.offsets) == offsets


# formula -> what the message must contain
REFUSED = {
    "y x (1|g)": "no '~'",
    "y ~ x ~ (1|g)": "more than one '~'",
    "~ x + (1|g)": "left of '~'",
    "y ~": "right of '~'",
    "y ~ x": "no random term",
    "y ~ (1|g": "unbalanced parentheses",
    "y ~ 1|g)": "unbalanced parentheses",
    "y ~ log(x + (1|g)": "unbalanced parentheses",
    "y ~ x $ z + (1|g)": "name the column alone",
    "y ~ x + 1|g": "write (1 | group)",
    "y ~ (1|x-y)": "(1 | a) + (1 | b)",
    "y ~ (1|a^b)": "not an expression with '^'",
    "y ~ (1|a %in% b)": "not an expression with '%in%'",
    "y ~ (1|3)": "3 is a number",
    "y ~ (1|1)": "1 is a number",
    "y ~ (|g)": "left of the bar",
    "y ~ (1|)": "right of the bar",
    "y ~ (1|g|h)": "exactly one bar",
    "y ~ (1|(g|h))": "exactly one bar",
    "y ~ (1|g:(x|h))": "exactly one bar",
    "y ~ x:(1|g)": "only be added with '+'",
    "y ~ x - (1|g)": "cannot be removed",
    "y ~ x - offset(z) + (1|g)": "cannot be removed",
    "y ~ x + (1|g) +": "ends with '+'",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert REFUSED[text] in str(caught.value)


def test_errors_carry_the_term() -> None:
    with pytest.raises(FormulaError) as caught:
        parse("y ~ x + (1|3)")
    assert caught.value.term == "(1 | 3)"


def test_labels() -> None:
    labels = [bar.label for bar in parse("y ~ (Days|Subject) + (x||a:`b c`)").random]
    assert labels == ["1 + Days | Subject", "1 + x || a:b c"]


# right-hand side -> its terms, factors that need a column for each level marked with "*"
TERMS = {
    "x": ["1", "x"],
    "0 + x": ["x"],
    "a * b": ["1", "a", "b", "a:b"],
    "a:b": ["1", "a*:b*"],
    "a + a:b": ["1", "a", "a*:b"],
    "a / b": ["1", "a", "a*:b"],
    "b + a + a:b": ["1", "b", "a", "b:a"],
    "b * a + c:b": ["1", "b", "a", "b:a", "b*:c"],
    "a * b * c": ["1", "a", "b", "c", "a:b", "a:c", "b:c", "a:b:c"],
    "(a + b + c)^2 - a:c": ["1", "a", "b", "c", "a:b", "b:c"],
    "b %in% a + a": ["1", "a", "b:a*"],
    "a:b:c + a:b": ["1", "a*:b*", "a*:b*:c"],
    "a:x + b": ["1", "b", "a*:x*"],
}


@pytest.mark.parametrize("text", TERMS)
def test_terms_and_coding(text: str) -> None:
    terms = read_sum(text)
    found = []
    for term in terms.terms:
        labels = [terms.atoms[atom].label for atom in term.atoms]
        marks = ["*" if dummy else "" for dummy in term.dummy]
        found.append(":".join(a + m for a, m in zip(labels, marks, strict=True)) or "1")
    assert found == TERMS[text]


# expression -> how the user sees it
EXPRESSIONS = {
    "I(x^2)": "I(x^2)",
    "I( x **2 )": "I(x ** 2)",
    "poly(x,2,raw=TRUE)": "poly(x, 2, raw=TRUE)",
    "as.factor(wl.c)": "as.factor(wl.c)",
    "log( `my x`+1 )": "log(my x + 1)",
    "np.log(class)": "np.log(class)",
    "I(x %% 2 == 0)": "I(x %% 2 == 0)",
    "C(f, contr.sum)": "C(f, contr.sum)",
}


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_expression_label(text: str) -> None:
    assert read_expression(text).label == EXPRESSIONS[text]


@pytest.mark.parametrize("text", ["x y", "log(x", "x$y", "function(x) x"])
def test_unreadable_expression(text: str) -> None:
    with pytest.raises(FormulaError, match="cannot read"):
        read_expression(text)
