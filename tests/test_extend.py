"""Larger and smaller samples of data and fits: labels, groups, nesting."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lmmfast import DataError, datasets, design, extend, lmer


@pytest.fixture(scope="module")
def sleepstudy() -> pd.DataFrame:
    return datasets.load("sleepstudy")


def test_levels_are_repeated_under_new_labels(sleepstudy) -> None:
    larger = extend(sleepstudy, along="Subject", to=40)
    assert larger["Subject"].nunique() == 40 and len(larger) == 400
    assert len(sleepstudy) == 180  # untouched
    first = larger.iloc[:180]
    pd.testing.assert_frame_equal(
        first.astype({"Subject": str}), sleepstudy.astype({"Subject": str})
    )
    for label, rows in larger.groupby("Subject", observed=True):
        source = sleepstudy[sleepstudy["Subject"].astype(str) == str(label).split(".")[0]]
        np.testing.assert_array_equal(rows["Reaction"], source["Reaction"])


def test_levels_are_left_out(sleepstudy) -> None:
    smaller = extend(sleepstudy, along="Subject", to=7)
    assert smaller["Subject"].nunique() == 7 == len(smaller["Subject"].cat.categories)
    whole = extend(sleepstudy, along="Subject", to=18)
    pd.testing.assert_frame_equal(whole, sleepstudy)


@pytest.mark.parametrize("to", [4, 8, 12, 16, 20, 36])
def test_groups_and_lists_stay_balanced(to) -> None:
    trials = design(12, 8, within={"c": ["a", "b"]}, between={"g": ["x", "y"]})
    blocked = trials.sort_values(["g", "list"], kind="stable").reset_index(drop=True)
    found = extend(blocked, along="subj", to=to)
    people = found.drop_duplicates("subj")
    assert len(people) == to and set(people.groupby(["g", "list"], observed=True).size()) == {
        to // 4
    }


def test_beginnings_are_contained_in_each_other() -> None:
    trials = design(10, 4, within={"c": ["a", "b"]}, balanced=False)
    seen: set[str] = set()
    for to in range(2, 25, 3):
        now = set(extend(trials, along="subj", to=to)["subj"])
        assert seen < now
        seen = now


def test_numbers_go_on_and_nested_levels_are_new() -> None:
    data = pd.DataFrame(
        {
            "school": np.repeat([1, 2, 5], 4),
            "pupil": [f"p{i}" for i in np.repeat(range(6), 2)],
            "code": np.repeat(range(100, 106), 2),
            "size": np.repeat(["big", "small", "big"], 4),
        }
    )
    larger = extend(data, along="school", to=6, nested="code")
    assert sorted(larger["school"].unique()) == [1, 2, 5, 6, 7, 10]
    assert larger["pupil"].nunique() == 12 == larger["code"].nunique()
    assert (larger.groupby("pupil")["school"].nunique() == 1).all()
    assert set(larger["size"]) == {"big", "small"}
    plain = extend(data, along="school", to=6)
    assert plain["code"].nunique() == 6  # numbers are covariates unless they are named


def test_grouping_factors_of_a_fit_are_found() -> None:
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"a": np.repeat(range(8), 6), "b": np.repeat(range(24), 2)})
    data["y"] = rng.normal(size=8)[data["a"]] + rng.normal(size=24)[data["b"]] + rng.normal(size=48)
    fit = lmer("y ~ 1 + (1 | a) + (1 | b)", data)
    study = extend(fit, along="a", to=10)
    assert study.data["b"].nunique() == 30
    assert (study.data.groupby("b")["a"].nunique() == 1).all()
    assert study.estimates is fit.estimates and "Study: y ~ 1" in str(study)
    again = extend(study, along="a", to=4)
    assert again.data["a"].nunique() == 4


def test_rows_within_cells(sleepstudy) -> None:
    tripled = extend(sleepstudy, within=["Subject", "Days"], to=3)
    assert set(tripled.groupby(["Subject", "Days"], observed=True).size()) == {3}
    assert set(extend(sleepstudy, within="Subject", to=4).groupby("Subject").size()) == {4}
    simr = extend(sleepstudy, within="Subject+Days", to=2)
    assert len(simr) == 360


def test_other_tables(sleepstudy) -> None:
    pl = pytest.importorskip("polars")
    found = extend(pl.from_pandas(sleepstudy), along="Subject", to=20)
    assert isinstance(found, pl.DataFrame) and found["Subject"].n_unique() == 20
    arrow = pytest.importorskip("pyarrow").Table.from_pandas(sleepstudy)
    assert type(extend(arrow, along="Subject", to=20)) is type(arrow)
    assert extend(dict(sleepstudy.items()), along="Subject", to=20)["Subject"].nunique() == 20


def test_words_for_what_cannot_be(sleepstudy) -> None:
    with pytest.raises(ValueError, match="give along="):
        extend(sleepstudy, to=3)
    with pytest.raises(ValueError, match="whole number"):
        extend(sleepstudy, along="Subject", to=2.5)
    with pytest.raises(ValueError, match="two levels"):
        extend(sleepstudy, along="Subject", to=1)
    with pytest.raises(DataError, match=r"no column 'subject'.*Subject"):
        extend(sleepstudy, along="subject", to=20)
    with pytest.raises(DataError, match="missing values"):
        holes = sleepstudy.assign(Subject=sleepstudy["Subject"].where(sleepstudy["Days"] > 0))
        extend(holes, along="Subject", to=20)
    with pytest.raises(DataError, match="give a pandas"):
        extend(3, along="Subject", to=20)
    weights = np.ones(len(sleepstudy))
    fit = lmer("Reaction ~ Days + (1 | Subject)", sleepstudy, weights=weights)
    with pytest.raises(DataError, match="weights= was given as an array"):
        extend(fit, along="Subject", to=20)
