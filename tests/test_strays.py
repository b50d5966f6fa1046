"""Numbers read as text: predictors in which a few entries are words."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest

from lmmfast import MixedLM, lmer, mixedlm
from lmmfast.errors import (
    DataError,
    FormulaError,
    LmmWarning,
    NumbersAsTextWarning,
    SimilarLevelsWarning,
)

N = 180
RNG = np.random.default_rng(12)
MEASURED = RNG.normal(50, 9, N).round(2)
WHOLE = RNG.integers(18, 80, N)
FEW = RNG.integers(1, 6, N)


def trial(**columns: object) -> pd.DataFrame:
    frame = pd.DataFrame({"y": RNG.normal(size=N) + MEASURED / 9, "g": np.arange(N) % 9})
    return frame.assign(**columns)


def text(values: np.ndarray, **entries: list[int]) -> pd.Series:
    """Values as text, with these entries in some rows."""
    out = pd.Series(values).astype(str)
    for entry, rows in entries.items():
        out[rows] = entry
    return out


STRAYS = ["NA", "-", "?", "n/a", "", "nan", ".", "unknown", "lost", "<5", "1,5"]


@pytest.mark.parametrize("entry", STRAYS)
@pytest.mark.parametrize("values", [MEASURED, WHOLE])
@pytest.mark.parametrize("formula", ["y ~ h + (1 | g)", "y ~ 1 + (h | g)", "y ~ z * h + (1 | g)"])
def test_many_numbers_and_a_stray_entry(entry, values, formula):
    frame = trial(h=text(values, **{entry: [3, 17, 40]}), z=1.0 * FEW)
    with pytest.raises(DataError, match=r"'h' is text, but .* are numbers") as caught:
        lmer(formula, frame)
    assert f"Not numbers: {entry!r} (3 times, first in row 3)" in str(caught.value)
    assert "factor(h)" in str(caught.value)
    assert caught.value.variable == "h"
    assert caught.value.rows == (3, 17, 40)


def test_entries_with_their_counts_the_most_frequent_first():
    frame = trial(h=text(MEASURED, NA=[9], lost=[1, 2, 5], x=[7, 8]))
    with pytest.raises(DataError) as caught:
        lmer("y ~ h + (1 | g)", frame)
    message = str(caught.value)
    assert "174 of 180 entries are numbers" in message
    assert (
        "'lost' (3 times, first in row 1), 'x' (2 times, first in row 7), 'NA' (row 9)" in message
    )
    assert "pandas.to_numeric(data['h'], errors='coerce')" in message
    repaired = frame.assign(h=pd.to_numeric(frame["h"], errors="coerce"))
    assert lmer("y ~ h + (1 | g)", repaired).design.dropped == {"h": 6}


def test_rows_are_those_of_the_data():
    frame = trial(h=text(MEASURED, **{"?": [20, 21]}))
    frame.loc[:9, "y"] = np.nan
    with pytest.raises(DataError, match=r"'\?' \(2 times, first in row 20\)") as caught:
        lmer("y ~ h + (1 | g)", frame)
    assert caught.value.rows == (20, 21)


def test_decimal_commas():
    commas = pd.Series(MEASURED).astype(str).str.replace(".", ",")
    with pytest.raises(DataError, match="decimal=','"):
        lmer("y ~ h + (1 | g)", trial(h=commas))
    thousands = pd.Series(1000 * MEASURED).map("{:,.1f}".format)
    with pytest.raises(DataError, match="thousands=','"):
        lmer("y ~ h + (1 | g)", trial(h=thousands))
    read = commas.str.replace(",", ".").astype(float)
    assert "h" in lmer("y ~ h + (1 | g)", trial(h=read)).params


def test_measurements_that_are_all_numbers():
    with pytest.raises(DataError, match=r"'h' is text, but 180 of 180 .*to_numeric\(data\['h'\]\)"):
        lmer("y ~ h + (1 | g)", trial(h=text(MEASURED)))
    with pytest.raises(DataError, match="'h' is text"):
        lmer("y ~ h + (1 | g)", trial(h=text(np.arange(N))))


@pytest.mark.parametrize("kind", ["objects", "polars", "dict", "string", "numbers and words"])
def test_every_kind_of_table(kind):
    words = text(MEASURED, **{"?": [4]})
    frame = trial(h=words)
    data = {
        "objects": lambda: frame.assign(h=words.astype(object)),
        "polars": lambda: pl.from_pandas(frame),
        "dict": lambda: {name: frame[name].tolist() for name in frame},
        "string": lambda: frame.assign(h=words.astype("string")),
        "numbers and words": lambda: frame.assign(
            h=pd.Series(MEASURED).astype(object).where(frame.index != 4, "?")
        ),
    }[kind]()
    with pytest.raises(DataError, match=r"'h' is text.*'\?' \(row 4\)"):
        lmer("y ~ h + (1 | g)", data)


def test_streams():
    frame = trial(h=text(MEASURED, **{"?": [4]}), k=text(FEW, NA=[7, 9]))
    chunks = [frame[:90], frame[90:]]
    with pytest.raises(DataError, match=r"'h' is text.*Not numbers: '\?'"):
        lmer("y ~ h + (1 | g)", chunks)
    with pytest.warns(NumbersAsTextWarning, match="'k' is text") as caught:
        lmer("y ~ k + (1 | g)", chunks)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("entry", ["NA", "?", "-", "n/a", "", "missing"])
def test_few_numbers_and_a_missing_value_spelt_out(entry):
    frame = trial(k=text(FEW, **{entry: [6, 7]}))
    with pytest.warns(NumbersAsTextWarning, match="'k' is text") as caught:
        fit = lmer("y ~ k + (1 | g)", frame)
    assert f"{entry!r} (2 times, first in row 6)" in str(caught[0].message)
    assert caught[0].message.rows == (6, 7)
    assert caught[0].filename == __file__
    assert len(fit.params) == 6


NUMBERS = {
    "decimal doses": pd.Series(np.array(["0.5", "1.0", "2.5"])[FEW % 3]),
    "doses with commas": pd.Series(np.array(["0,5", "1,0", "2,5"])[FEW % 3]),
    "whole numbers": text(np.arange(N) % 24 + 301),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_nothing_but_numbers_is_a_factor_and_said_to_be_one(kind):
    with pytest.warns(
        NumbersAsTextWarning, match=r"'k' is text, but .* entries are numbers"
    ) as caught:
        fit = lmer("y ~ k + (1 | g)", trial(k=NUMBERS[kind]))
    assert len(fit.params) == NUMBERS[kind].nunique()
    assert "write factor(k)" in str(caught[0].message) and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", LmmWarning)
        assert len(lmer("y ~ factor(k) + (1 | g)", trial(k=NUMBERS[kind])).params) == len(
            fit.params
        )
        lmer("y ~ k + (1 | g)", trial(k=NUMBERS[kind].astype("category")))
        warnings.simplefilter("ignore", LmmWarning)
        warnings.simplefilter("error", NumbersAsTextWarning)
        lmer("y ~ k + (0 + factor(k) || g)", trial(k=NUMBERS[kind]))  # it is said to be one


LABELS = {
    "few digit strings": text(FEW),
    "zeros before them": text(FEW).str.zfill(2),
    "a control": text(FEW, control=[*range(0, N, 4)]),
    "an open end": pd.Series(np.array(["1", "2", "3", "4", "5+"])[FEW - 1]),
    "ids with letters": pd.Series([f"{i % 20}{'ab' if i % 3 else ''}" for i in range(N)]),
    "some ids with letters": pd.Series([f"{i % 60}{'a' if i % 60 < 8 else ''}" for i in range(N)]),
    "words": pd.Series(np.array(["yes", "no", "7"])[FEW % 3]),
    "ranges": pd.Series(np.array(["0-9", "10-19", "20-29"])[FEW % 3]),
    "mostly missing": text(FEW, NA=[*range(0, 120)]),
    "categories": text(FEW, NA=[6, 7]).astype("category"),
    "words with NA": pd.Series(np.array(["lo", "hi", "NA"])[FEW % 3]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_that_are_meant_as_such(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error", LmmWarning)
        fit = lmer("y ~ k + (1 | g)", trial(k=LABELS[kind]))
    assert len(fit.params) == LABELS[kind].nunique()


def test_what_is_said_to_be_a_factor_is_one():
    frame = trial(h=text(WHOLE, lost=[4, 5]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", NumbersAsTextWarning)
        fit = lmer("y ~ factor(h) + (1 | g)", frame)
        assert len(fit.params) == frame["h"].nunique()
        assert lmer("y ~ 1 + (1 | h)", frame).converged  # a grouping factor has labels


@pytest.mark.parametrize(
    ("formula", "options", "what"),
    [
        ("h ~ 1 + (1 | g)", {}, "the response 'h' is not numeric"),
        ("y ~ 1 + (1 | g)", {"weights": "h"}, "'h', used as weights, is not numeric"),
        ("y ~ 1 + (1 | g)", {"offset": "h"}, "'h', used as offset, is not numeric"),
    ],
)
def test_text_where_numbers_are_needed(formula, options, what):
    frame = trial(h=text(MEASURED, **{"?": [4], "1,5": [5]}))
    with pytest.raises(DataError, match=what) as caught:
        lmer(formula, frame, **options)
    assert "'?' (row 4)" in str(caught.value)
    assert "decimal=','" in str(caught.value)
    with pytest.raises(DataError, match="; 'h' is text such as 'hi'"):
        lmer(formula, trial(h=["lo", "hi"] * (N // 2)), **options)


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ log(h) + (1 | g)",
        "y ~ I(h^2) + (1 | g)",
        "log(h) ~ 1 + (1 | g)",
        "y ~ poly(h, 2) + (1 | g)",
    ],
)
def test_functions_of_text(formula):
    with pytest.raises(FormulaError, match=r"'h' is text. Not numbers: '\?' \(row 4\). Make it"):
        lmer(formula, trial(h=text(MEASURED, **{"?": [4]})))


def test_columns_of_statsmodels_interface():
    frame = trial(h=text(MEASURED, **{"?": [4]}), z=text(FEW, NA=[7, 9]))
    for call in (
        lambda name: MixedLM(frame["y"], frame[[name]], frame["g"]),
        lambda name: mixedlm(f"y ~ {name}", frame, groups="g"),
    ):
        with pytest.raises(DataError, match=r"'h' is text.*'\?' \(row 4\)"):
            call("h")
        with pytest.warns(NumbersAsTextWarning, match=r"'z' is text"):
            assert call("z").fit().converged
    assert mixedlm("y ~ C(z)", frame, groups="g").fit().converged


ALIKE = {
    "a letter": (["related", "unrelated", "neutral"], {5: "unrelatet"}, "unrelated"),
    "a letter too many": (["valid", "other"], {5: "vallid", 9: "vallid"}, "valid"),
    "changed places": (["valid", "other"], {5: "vaild"}, "valid"),
    "case": (["valid", "other"], dict.fromkeys(range(0, N, 6), "Valid"), "valid"),
    "a blank": (["valid cue", "none"], dict.fromkeys(range(0, N, 6), " valid  cue"), "valid cue"),
}


@pytest.mark.parametrize("case", ALIKE)
@pytest.mark.parametrize("kind", ["text", "category", "polars"])
def test_levels_that_are_spelt_alike(case, kind):
    words, slips, right = ALIKE[case]
    cond = pd.Series(np.array(words)[np.arange(N) % len(words)]).astype(object)
    for row, word in slips.items():
        cond[row] = word
    frame = trial(cond=cond.astype("category") if kind == "category" else cond)
    data = pl.from_pandas(frame) if kind == "polars" else frame
    with pytest.warns(SimilarLevelsWarning, match="spelt alike") as caught:
        fit = lmer("y ~ cond + (1 | g)", data)
    assert len(caught) == 1 and caught[0].filename == __file__
    message = str(caught[0].message)
    wrong = next(iter(slips.values()))
    assert f"levels {right!r} (" in message and f"{wrong!r}: {right!r}" in message
    assert len(fit.params) == len(words) + 1 and caught[0].message.variable == "cond"


@pytest.mark.parametrize(
    "words",
    [
        ["related", "unrelated", "neutral"],
        ["condition A", "condition B", "condition C"],
        ["male", "female"],
        ["low", "slow"],
    ],
)
def test_levels_that_only_look_alike(words):
    cond = np.array(words)[np.arange(N) % len(words)]
    rare = np.array(["block1", "block2"])[(np.arange(N) == 3).astype(int)]  # numbers are no slips
    with warnings.catch_warnings():
        warnings.simplefilter("error", LmmWarning)
        lmer("y ~ cond + rare + (1 | g)", trial(cond=cond, rare=rare))
        lmer("y ~ 1 + (1 | who)", trial(who=np.where(np.arange(N) % 9 < 5, "Smith", "smith")))
