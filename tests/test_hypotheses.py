"""Contrasts by hypotheses, and hypotheses of contrasts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lmmfast import DataError, datasets, hypotheses, lmer
from lmmfast.formula.contrasts import contrast_matrix
from lmmfast.formula.hypotheses import _weights, hypothesis_text

LEVELS = ["a", "b", "c", "d"]
EVERYTHING = "mean(a, b, c, d)"


def matrix(given: dict[str, str], rest: bool = False) -> np.ndarray:
    return hypotheses(given, rest=rest).matrix(LEVELS, "f")[0]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("treatment", {"Intercept": "a", "b": "b - a", "c": "c = a", "d": "d == a"}),
        ("sdif", {"b-a": "b - a", "c-b": "c - b", "d-c": "d - c"}),
        ("deviation", {"b": "b - a", "c": "c - a", "d": "d - a"}),
        ("sum", {x: f"{x} - mean(a, b, c, d)" for x in "abc"}),
        (
            "helmert",
            {
                "b": "(b - a) / 2",
                "c": "c / 3 - (a + b) / 6",
                "d": "1/4 * (d - (a + b + c) * (1 / 3))",
            },
        ),
    ],
)
def test_known_codings_follow_from_their_hypotheses(kind: str, given: dict[str, str]) -> None:
    np.testing.assert_allclose(matrix(given), contrast_matrix(kind, LEVELS, "f")[0], atol=1e-12)


def test_schads_example() -> None:
    """Two groups against a third, and against each other: Schad et al. 2020, section 3."""
    given = {"c-ab": "c - (a + b) / 2", "b-a": "b - a"}
    C, names = hypotheses(given).matrix(["a", "b", "c"], "cond")
    np.testing.assert_allclose(C, [[-1 / 3, -0.5], [-1 / 3, 0.5], [2 / 3, 0]], atol=1e-12)
    assert names == ("cond[c-ab]", "cond[b-a]")


@pytest.mark.parametrize("rest", [False, True])
def test_coefficients_are_the_hypotheses_of_the_means(rest: bool) -> None:
    data = datasets.load("Machines")
    given = {"B-A": "B - A"} if rest else {"B-A": "B - A", "C-AB": "C - mean(A, B)"}
    coding = hypotheses(given, rest=rest)
    fit = lmer("score ~ Machine + (1 | Worker)", data, contrasts={"Machine": coding})
    means = data.groupby("Machine", observed=True)["score"].mean()  # a balanced design
    assert fit.params["Machine[B-A]"] == pytest.approx(means["B"] - means["A"])
    if not rest:
        other = means["C"] - (means["A"] + means["B"]) / 2
        assert fit.params["Machine[C-AB]"] == pytest.approx(other)
    else:
        assert fit.params.index[2] == "Machine[rest 1]"
    plain = lmer("score ~ Machine + (1 | Worker)", data)
    assert fit.predict(data).to_numpy() == pytest.approx(plain.predict(data).to_numpy())


def test_levels_that_are_no_names() -> None:
    given = {"new": "`2` - `1`", "other": "`very high` = `2`"}
    C, _ = hypotheses(given).matrix([1, 2, "very high"], "f")
    np.testing.assert_allclose(np.diff(C, axis=0), np.eye(2), atol=1e-12)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": "b - a"}, "its 4 levels need 3 hypotheses, there are 1: add some, or write"),
        ({"x": "b - z"}, "there is no level 'z'; its levels are a, b, c, d"),
        ({"x": "b - 1"}, "has a number that multiplies no level"),
        ({"x": "a * b"}, "a \\* b is no sum of weighted levels"),
        ({"x": "a / b"}, "is no sum of weighted levels"),
        ({"x": "a / 0"}, "is no sum of weighted levels"),
        ({"x": "log(a)"}, "is no sum of weighted levels"),
        ({"x": "a - a"}, "is zero whatever the means are"),
        ({"x": "a = b = c"}, "has several equals signs"),
        ({"x": "a -"}, "'a -' cannot be read"),
        ({"x": "a"}, "the weights of 'x' sum to 1, not 0: it compares no means"),
        ({"Intercept": "a - b"}, "the weights of 'Intercept' sum to 0, not 1"),
        ({"x": "a-b", "y": "b-c", "z": "a-c"}, "one hypothesis follows from the others"),
        (
            {"x": "a-b", "y": "b-c", "z": "c-d", "w": "d-a"},
            "its 4 levels have room for 3 hypotheses, not 4",
        ),
    ],
)
def test_what_does_not_fit_is_said(given: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=f"hypotheses for 'f': .*{message}"):
        matrix(given)


@pytest.mark.parametrize("given", [{}, "b - a", {"x": 1}])
def test_what_is_no_hypothesis_is_a_type_error(given: object) -> None:
    with pytest.raises(TypeError, match="hypothes"):
        hypotheses(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "b - a",
        "a - mean of all",
        "(b + c)/2 - a",
        "(a - b)/2",
        "(c + d/2) - (a + b/2)",
        "0.707 (d - a)",
        "mean of all",
        "a",
    ],
)
def test_words_and_weights_are_the_same(text: str) -> None:
    written = text.replace("0.707", str(np.sqrt(0.5)) + " *").replace("mean of all", EVERYTHING)
    assert hypothesis_text(_weights(written, LEVELS, "f"), LEVELS) == text


# ---- of fits ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": np.tile(list("pqr"), 80), "b": np.repeat(["g", "h"], 120)})
    frame["s"], frame["x"] = np.tile(np.arange(24), 10), rng.normal(size=240)
    frame["y"] = rng.normal(size=240)
    return frame


def test_interactions_say_where(data: pd.DataFrame) -> None:
    fit = lmer("y ~ a * b + a:x + (1 | s)", data, contrasts={"b": "sum"})
    assert str(fit.hypotheses()) == "\n".join(
        [
            "What each coefficient tests:",
            "               hypothesis             where",
            "Intercept      mean                   a = p, mean over b, x = 0",
            "a[T.q]         q - p                  mean over b, x = 0",
            "a[T.r]         r - p                  mean over b, x = 0",
            "b[S.g]         (g - h)/2              a = p",
            "a[T.q]:b[S.g]  (q - p) x ((g - h)/2)",
            "a[T.r]:b[S.g]  (r - p) x ((g - h)/2)",
            "a[p]:x         slope of x             a = p",
            "a[q]:x         slope of x             a = q",
            "a[r]:x         slope of x             a = r",
            "Formula: y ~ a * b + a:x + (1 | s)",
        ]
    )


def test_hypotheses_are_what_coefficients_are_of_cell_means(data: pd.DataFrame) -> None:
    """A saturated model: its coefficients are these comparisons of its predicted means."""
    for coding in ("treatment", "sum", "helmert", "sdif", "deviation", "poly"):
        fit = lmer("y ~ a + (1 | s)", data, contrasts={"a": coding})
        new = pd.DataFrame({"a": list("pqr")})
        means = fit.predict(new, re_form="none").to_numpy()
        C = contrast_matrix(coding, list("pqr"), "a")[0]
        weights = np.linalg.inv(np.column_stack([np.ones(3), C]))
        np.testing.assert_allclose(weights @ means, fit.params, atol=1e-9)
        said = fit.hypotheses().table["hypothesis"].tolist()
        assert said[1:] == [hypothesis_text(row, list("pqr")) for row in weights[1:]]


def test_without_an_intercept(data: pd.DataFrame) -> None:
    table = lmer("y ~ 0 + a + b + (1 | s)", data).hypotheses().table
    assert table["hypothesis"].tolist() == ["mean", "mean", "mean", "h - g"]
    assert table["where"].tolist() == ["a = p, b = g", "a = q, b = g", "a = r, b = g", ""]
