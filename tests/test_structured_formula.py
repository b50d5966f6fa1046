"""Covariance structures in formulas: what is read, shown and changed, and which words refuse it."""

from __future__ import annotations

import pytest

from lmmfast.errors import FormulaError, LmmWarning
from lmmfast.formula.bars import Bar, parse
from lmmfast.formula.plan import plan_of
from lmmfast.formula.update import updated


def bar(term: str) -> Bar:
    """The random term of a formula that has one."""
    (found,) = parse(f"y ~ x + {term}").random
    return found


# term -> how it is shown, the kind of its covariance (empty: it needs none)
READ = {
    "us(x | g)": ("(1 + x | g)", ""),
    "diag(x | g)": ("(1 + x || g)", ""),
    "diag(0 + f | g, hom=FALSE)": ("(0 + f || g)", ""),
    "diag(0 + f | g, hom=TRUE)": ("homdiag(0 + f | g)", "homdiag"),
    "homdiag(0 + f | g)": ("homdiag(0 + f | g)", "homdiag"),
    "cs(0 + f | g)": ("cs(0 + f | g)", "cs"),
    "cs(0 + f | g, hom = TRUE)": ("homcs(0 + f | g)", "homcs"),
    "cs(0 + f | g, hom = T)": ("homcs(0 + f | g)", "homcs"),
    "homcs(0 + f | g)": ("homcs(0 + f | g)", "homcs"),
    "ar1(0 + f | g)": ("ar1(0 + f | g)", "ar1"),
    "ar1(0 + f | g, hom=FALSE)": ("hetar1(0 + f | g)", "hetar1"),
    "hetar1(0 + f | g)": ("hetar1(0 + f | g)", "hetar1"),
    "toep(0 + f | g)": ("toep(0 + f | g)", "toep"),
    "toep(0 + f | g, hom=TRUE)": ("homtoep(0 + f | g)", "homtoep"),
    "ad(0 + f | g)": ("ad(0 + f | g)", "ad"),
    "homad(0 + f | g)": ("homad(0 + f | g)", "homad"),
    "rr(0 + f | g)": ("rr(0 + f | g, d=2)", "rr"),
    "rr(0 + f | g, d=3)": ("rr(0 + f | g, d=3)", "rr"),
    "rr(0 + f | g, 3L)": ("rr(0 + f | g, d=3)", "rr"),
    "exp(0 + x + y | g)": ("exp(0 + x + y | g)", "exp"),
    "exp(x + y | 1)": ("exp(1 + x + y | 1)", "exp"),
    "gau(0 + numFactor(x, y) | g)": ("gau(0 + numFactor(x, y) | g)", "gau"),
    "ou(times + 0 | g)": ("ou(times + 0 | g)", "exp"),
    "mat(0 + x + y | g)": ("mat(0 + x + y | g, nu=1.5)", "mat32"),
    "mat(0 + x + y | g, nu=2.5)": ("mat(0 + x + y | g, nu=2.5)", "mat52"),
    "ar1(0 + f | g:h)": ("ar1(0 + f | g:h)", "ar1"),
}


@pytest.mark.parametrize("term", READ)
def test_read(term: str) -> None:
    shown, kind = READ[term]
    found = bar(term)
    assert found.term == shown
    assert (found.covariance.kind if found.covariance else "") == kind
    if kind:
        assert bar(shown) == found  # what is shown can be read again


def test_options() -> None:
    three = bar("rr(0 + f | g, d=3)").covariance
    assert three is not None and three.rank == 3
    assert bar("ar1(0 + f | g)") != bar("ar1(0 + f | g, hom=FALSE)")
    assert [one.factor for one in parse("y ~ ar1(0 + f | g/h)").random] == ["g", "g:h"]


# term -> what the message must contain
REFUSED = {
    "foo(0 + f | g)": "foo() is not known",
    "csh(0 + f | g)": "did you mean cs()?",
    "un(0 + f | g)": "did you mean us()?",
    "corAR1(0 + f | g)": "did you mean ar1()?",
    "ar1(0 + f || g)": "write ar1(0 + f | g)",
    "cs(0 + f | g, het=TRUE)": "its only option is hom=",
    "cs(0 + f | g, hom=2)": "TRUE (one standard deviation) or FALSE",
    "hetar1(0 + f | g, hom=TRUE)": "it has no options",
    "us(0 + f | g, hom=TRUE)": "it has no options",
    "rr(0 + f | g, d=0)": "is 1, 2, ..., not 0",
    "rr(0 + f | g, d=1.5)": "not 1.5",
    "mat(0 + x | g, nu=1)": "1.5 or 2.5, not 1",
    "exp(x * y | g)": "write them as a sum: exp(0 + x + y | group)",
    "exp(1 | g)": "exp() needs coordinates",
    "gau(0 + x - y | g)": "stand coordinates alone",
    "propto(0 + sp | g, K)": "write propto(0 + species | 1, K)",
    "propto(0 + a + b | 1, K)": "relates the levels of one factor",
    "propto(0 + sp | 1)": "needs the name of a relationship matrix",
    "x:ar1(0 + f | g)": "only be added with '+'",
    "(1 | mm(a))": "mm() takes two factors or more",
    "(1 | mm(a, b):c)": "by itself",
    "(1 | mm(a, b, weights=cbind(u, v, w)))": "3 weights for 2 factors",
    "(1 | mm(a, b, shares=cbind(u, v)))": "weights= and scale=",
    "ar1(0 + f | g) + ar1(0 + f | g)": "stands twice",
}


@pytest.mark.parametrize("term", REFUSED)
def test_refused(term: str) -> None:
    with pytest.raises(FormulaError) as caught:
        plan_of(f"y ~ z + {term}")
    assert REFUSED[term] in str(caught.value)


def test_a_related_factor_is_an_intercept_and_a_matrix() -> None:
    found = bar("propto(0 + sp | 1, K)")
    assert (found.columns, found.group, found.relationship) == ("1", ("sp",), "K")
    assert [term.atoms for term in plan_of("y ~ propto(0 + sp | 1, K)").random[0].terms] == [()]


def test_several_levels_in_a_row() -> None:
    plan = plan_of("y ~ x + (x | mm(a, b, weights=cbind(u, v)))")
    (found,) = plan.formula.random
    assert found.membership is not None
    assert (len(found.membership.factors), len(found.membership.weights)) == (2, 2)
    assert [atom.label for atom in plan.groups[0]] == ["a", "b", "u", "v"]
    assert {"a", "b", "u", "v"} <= plan.variables
    assert bar("(1 | mm(a, b))").factor == "mm(a, b)"


def test_coordinates_are_one_factor() -> None:
    for term in ("exp(0 + x + y | g)", "exp(x + y | g)", "exp(0 + numFactor(x, y) | g)"):
        (columns,) = plan_of(f"z ~ {term}").random
        assert [atom.label for atom in columns.atoms] == ["numFactor(x, y)"]


# change -> the formula that it makes of OLD
OLD = "y ~ x + ar1(0 + f | g/h) + propto(0 + sp | 1, K) + cs(0 + f | h, hom=TRUE)"
CHANGES = {
    ". ~ . - ar1(0 + f | g)": "y ~ x + ar1(0 + f | g:h) + propto(0 + sp | 1, K) + "
    "cs(0 + f | h, hom=TRUE)",
    ". ~ . - homcs(0 + f | h)": "y ~ x + ar1(0 + f | g / h) + propto(0 + sp | 1, K)",
    ". ~ . - propto(0 + sp | 1, K) - cs(0 + f | h, hom=TRUE)": "y ~ x + ar1(0 + f | g / h)",
    ". ~ . - ar1(0 + f | g:h) + (1 | g)": "y ~ x + ar1(0 + f | g) + propto(0 + sp | 1, K) + "
    "cs(0 + f | h, hom=TRUE) + (1 | g)",
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes(change: str) -> None:
    assert updated(OLD, change) == CHANGES[change]


@pytest.mark.parametrize("other", ["cs(0 + f | h)", "(0 + f | g)", "hetar1(0 + f | g)"])
def test_another_structure_is_another_term(other: str) -> None:
    with pytest.warns(LmmWarning, match="is not in the formula"):
        assert updated(OLD, f". ~ . - {other}") == OLD.replace("g/h", "g / h")
