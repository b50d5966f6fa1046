"""Designs: counts and counterbalancing by brute force, dropout, words for what cannot be."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from lmmfast import design

TWO = {"cond": ["a", "b"]}


def counts(frame: pd.DataFrame, *columns: str) -> np.ndarray:
    """Rows in each combination of values that there are."""
    return frame.groupby(list(columns), observed=True).size().to_numpy()


@pytest.mark.parametrize(
    ("within", "between", "between_items"),
    [
        (TWO, {}, {}),
        ({"cond": list("abc")}, {}, {}),
        ({**TWO, "load": ["low", "high"]}, {}, {}),
        (TWO, {"group": ["old", "young"]}, {"freq": ["rare", "common"]}),
        ({"soa": [0, 150, 300]}, {"g": list("xy"), "h": list("uvw")}, {"f": list("pq")}),
    ],
)
def test_latin_squares_are_balanced(within, between, between_items) -> None:
    lists = int(np.prod([len(levels) for levels in within.values()]))
    groups = int(np.prod([len(levels) for levels in between.values()]))
    kinds = int(np.prod([len(levels) for levels in between_items.values()]))
    subjects, items = 2 * lists * groups, 3 * lists * kinds
    trials = design(subjects, items, within=within, between=between, between_items=between_items)
    assert len(trials) == subjects * items
    assert set(counts(trials, "subj", "item")) == {1}  # each subject sees each item once
    cells = list(within)
    for whole, parts in (("subj", between_items), ("item", between)):
        each = counts(trials, whole, *cells, *parts)
        other = items if whole == "subj" else subjects
        per_cell = other // (lists * (kinds if whole == "subj" else groups))
        assert set(each) == {per_cell}
        assert len(each) == (subjects if whole == "subj" else items) * lists * (
            kinds if whole == "subj" else groups
        )
    for unit, parts in (("subj", between), ("item", between_items)):
        for name in parts:
            assert set(trials.groupby(unit, observed=True)[name].nunique()) == {1}
    assert set(counts(trials.drop_duplicates("subj"), *between, "list")) == {2}
    assert trials["list"].nunique() == lists


def test_two_subjects_of_a_list_see_the_same() -> None:
    trials = design(6, 9, within={"cond": list("abc")})
    seen = trials.pivot(index="subj", columns="item", values="cond").astype(str)
    lists = trials.drop_duplicates("subj").set_index("subj")["list"]
    for a, b in itertools.combinations(seen.index, 2):
        same = seen.loc[a] == seen.loc[b]
        assert same.all() if lists[a] == lists[b] else not same.any()


def test_full_crossing_and_partial_rotation() -> None:
    full = design(3, 5, within=TWO, counterbalancing="full", replicates=2)
    assert len(full) == 3 * 5 * 2 * 2 and set(counts(full, "subj", "item", "cond")) == {2}
    assert set(full["replicate"]) == {1, 2} and "list" not in full
    within = {**TWO, "block": [1, 2, 3]}
    some = design(4, 6, within=within, counterbalancing=["cond"])
    assert set(counts(some, "subj", "item")) == {3}
    assert set(counts(some, "subj", "item", "block")) == {1}
    assert (some.groupby(["subj", "item"], observed=True)["cond"].nunique() == 1).all()
    assert set(counts(some, "subj", "cond", "block")) == {3}


def test_designs_without_items() -> None:
    days = design(18, within={"Days": range(10)}, between={"group": ["old", "young"]})
    assert len(days) == 180 and set(counts(days, "subj", "Days")) == {1}
    assert days["Days"].dtype.kind == "i" and set(counts(days, "group")) == {90}
    assert list(days.columns) == ["subj", "group", "Days"]
    assert len(design(7)) == 7
    flags = design(4, within={"told": [False, True]})
    assert flags["told"].dtype == bool


def test_levels_keep_their_order_and_columns_their_names() -> None:
    trials = design(4, 4, within={"cond": ["new", "ctl"]}, subject="vp", item="word")
    assert list(trials["cond"].cat.categories) == ["new", "ctl"]
    assert list(trials.columns) == ["vp", "word", "list", "cond"]
    assert trials["vp"].cat.categories[0] == "S1"
    assert design(12).subj.cat.categories[0] == "S01"


def test_a_factor_between_both_pairs_subjects_with_their_items() -> None:
    both = {"lang": ["de", "en"]}
    trials = design(6, 10, between=both, between_items=both)
    assert len(trials) == 6 * 5
    of_item = trials.groupby("item", observed=True)["lang"].nunique()
    assert set(of_item) == {1} and set(trials.groupby("subj", observed=True)["lang"].nunique()) == {
        1
    }


def test_groups_of_different_sizes_alternate() -> None:
    trials = design({"a": 4, "b": 8}, within={"t": [0, 1]}, between={"g": ["a", "b"]})
    groups = trials.drop_duplicates("subj")["g"].astype(str).tolist()
    assert groups.count("a") == 4 and groups.count("b") == 8
    for k in (3, 6, 9):  # every beginning has the shares of the whole
        assert groups[:k].count("a") == k // 3
    with pytest.raises(ValueError, match="one for each of its levels"):
        design({"a": 4}, between={"g": ["a", "b"]})


def test_dropout_takes_exact_shares_and_repeats_by_seed() -> None:
    whole = design(20, 10, within=TWO)
    lost = design(20, 10, within=TWO, dropout=0.1, seed=3)
    assert len(lost) == 180 and lost.attrs["seed"] == 3
    pd.testing.assert_frame_equal(lost, design(20, 10, within=TWO, dropout=0.1, seed=3))
    assert len(lost.merge(whole)) == 180  # rows of the design, none changed
    some = design(20, 10, within=TWO, dropout={"subj": 0.25, "trials": 0.1}, seed=1)
    assert some["subj"].nunique() == 15 == len(some["subj"].cat.categories)
    assert len(some) == 135
    unseeded = design(20, 10, within=TWO, dropout=0.5)
    again = design(20, 10, within=TWO, dropout=0.5, seed=unseeded.attrs["seed"])
    pd.testing.assert_frame_equal(unseeded, again)


def test_dropout_by_a_function() -> None:
    def after(frame: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        """Everyone leaves after some week."""
        last = rng.integers(2, 6, frame["subj"].nunique())
        return (frame["week"] > last[frame["subj"].cat.codes]).to_numpy()

    trials = design(30, within={"week": range(6)}, dropout=after, seed=5)
    weeks = trials.groupby("subj", observed=True)["week"].agg(["max", "count"])
    assert (weeks["max"] + 1 == weeks["count"]).all() and weeks["max"].between(2, 5).all()
    with pytest.raises(ValueError, match="a boolean for each row"):
        design(4, within=TWO, dropout=lambda frame, rng: [True])
    with pytest.raises(ValueError, match="no row is left"):
        design(4, within=TWO, dropout=lambda frame, rng: np.ones(len(frame), dtype=bool))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"subjects": 9, "items": 8, "within": TWO}, "2 lists .cond.: use 8 or 10"),
        ({"subjects": 8, "items": 9, "within": TWO}, "9 items .* use 8 or 10, counterbalancing"),
        ({"subjects": 1, "items": 2, "within": TWO}, "use 2"),
        (
            {"subjects": 9, "between": {"g": [1, 2]}},
            "2 cells between subjects: use 8 or 10, or",
        ),
        ({"subjects": 1, "between": {"g": [1, 2]}}, "fewer than the 2 cells"),
        ({"subjects": 0}, "whole number"),
        ({"subjects": 4, "within": {"c": "ab"}}, "levels of 'c' as a list"),
        ({"subjects": 4, "within": {"c": 2}}, "levels of 'c' as a list"),
        ({"subjects": 4, "within": {"c": ["a", "a"]}}, "different levels"),
        ({"subjects": 4, "within": ["a"]}, "must name factors"),
        ({"subjects": 4, "between_items": TWO}, "needs items="),
        ({"subjects": 4, "within": TWO, "counterbalancing": ["cond"]}, "needs items"),
        ({"subjects": 4, "items": 4, "within": TWO, "counterbalancing": ["x"]}, "no factor"),
        ({"subjects": 4, "items": 4, "within": TWO, "counterbalancing": "none"}, "latin"),
        ({"subjects": 4, "within": TWO, "between": TWO}, "name of two columns"),
        ({"subjects": 4, "within": {"subj": [1, 2]}}, "name of two columns"),
        ({"subjects": 4, "within": TWO, "dropout": 1.5}, "a share from 0"),
        ({"subjects": 4, "within": TWO, "dropout": {"item": 0.1}}, "none of 'trials', 'subj'"),
    ],
)
def test_what_cannot_be_says_so(arguments, words) -> None:
    with pytest.raises(ValueError, match=words):
        design(**arguments)


def test_unbalanced_counts_as_even_as_possible() -> None:
    trials = design(9, 7, within=TWO, balanced=False)
    assert len(trials) == 63
    assert np.ptp(counts(trials, "subj", "cond")) <= 1
    assert np.ptp(counts(trials, "item", "cond")) <= 1
