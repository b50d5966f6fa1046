"""Cluster-based permutation tests: clusters, enhancement and shuffling by their definitions."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, sparse, stats

from lmmfast import (
    DataError,
    FitError,
    FormulaError,
    RankDeficientWarning,
    cluster_test,
    lmer,
)
from lmmfast.clusters.arguments import without_response
from lmmfast.clusters.components import Rule, clusters, enhanced
from lmmfast.clusters.exchange import Arrangements, Exchange, exchange_of
from lmmfast.clusters.flips import Effects, effects_of, flipped
from lmmfast.clusters.neighbours import neighbours, shape_of
from lmmfast.clusters.results import corrected
from lmmfast.clusters.shuffled import Shuffled
from lmmfast.engine.model import Model
from lmmfast.many.streams import Streams

CROSSED = "~ cond + (1 | subj) + (1 | item)"


def trials(subjects: int = 10, items: int = 6) -> pd.DataFrame:
    """Every subject sees every item, half of them in each condition."""
    subj, item = (grid.ravel() for grid in np.mgrid[:subjects, :items])
    return pd.DataFrame(
        {
            "subj": [f"s{i:02}" for i in subj],
            "item": [f"w{i:02}" for i in item],
            "cond": np.where((subj + item) % 2, "a", "b"),
            "group": np.where(subj % 2, "young", "old"),
            "freq": np.round(np.sin(item + 1.0), 3),
            "sound": np.array(["p", "t", "k"])[(subj + 2 * item) % 3],
        }
    )


def smooth(rng: np.random.Generator, rows: int, points: int, by: float = 0.8) -> np.ndarray:
    """Autoregressive courses with variance 1."""
    found = rng.normal(size=(rows, points))
    for t in range(1, points):
        found[:, t] = by * found[:, t - 1] + np.sqrt(1 - by**2) * found[:, t]
    return found


def recordings(data: pd.DataFrame, points: int = 12, seed: int = 0) -> np.ndarray:
    """Smooth courses with random intercepts of subjects and items, no effect."""
    rng = np.random.default_rng(seed)
    subj, item = (pd.factorize(data[name])[0] for name in ("subj", "item"))
    own = smooth(rng, len(data), points)
    return (
        own + smooth(rng, subj.max() + 1, points)[subj] + smooth(rng, item.max() + 1, points)[item]
    )


def bump(points: int, centre: float, width: float) -> np.ndarray:
    return np.exp(-((np.arange(points) - centre) ** 2) / (2 * width**2))


# ---- neighbours and clusters --------------------------------------------------------------------


def brute_clusters(signs: np.ndarray, matrix: np.ndarray) -> set[frozenset[int]]:
    """Components by breadth-first search."""
    left, found = set(np.flatnonzero(signs).tolist()), set()
    while left:
        queue, own = deque([left.pop()]), set()
        while queue:
            i = queue.popleft()
            own.add(i)
            for j in [j for j in left if matrix[i, j] and signs[i] == signs[j]]:
                left.discard(j)
                queue.append(j)
        found.add(frozenset(own))
    return found


def sets_of(labels: np.ndarray) -> set[frozenset[int]]:
    return {
        frozenset(np.flatnonzero(labels == k).tolist()) for k in range(1, int(labels.max()) + 1)
    }


@pytest.mark.parametrize("shape", [(40,), (6, 7), (3, 4, 5), (1, 9)])
def test_clusters_on_lattices_are_those_of_ndimage(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(shape))
    graph = neighbours(shape)
    for _ in range(20):
        signs = rng.integers(-1, 2, shape)
        found = clusters(signs.ravel(), graph)
        wanted = set()
        for sign in (-1, 1):
            labels, count = ndimage.label(signs == sign)
            wanted |= {frozenset(np.flatnonzero(labels == k)) for k in range(1, count + 1)}
        assert sets_of(found) == wanted
        assert np.array_equal(found == 0, signs.ravel() == 0)
        first = np.unique(found[found > 0], return_index=True)[1]
        assert (np.diff(first) > 0).all()  # numbered as they come


def test_clusters_on_any_graph_are_those_of_a_search() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        matrix = np.triu(rng.random((15, 15)) < 0.15, 1)
        matrix = matrix | matrix.T
        signs = rng.integers(-1, 2, 15)
        found = clusters(signs, neighbours((15,), sparse.csr_matrix(matrix)))
        assert sets_of(found) == brute_clusters(signs, matrix)


def test_channels_that_are_adjacent_are_neighbours_at_the_same_time() -> None:
    channels = np.zeros((4, 4), int)
    pairs = [(0, 1), (1, 3)]
    for i, j in pairs:
        channels[i, j] = 1
    times = np.diag(np.ones(2), 1)
    whole = np.kron(channels, np.eye(3)) + np.kron(np.eye(4), times)
    wanted = set(zip(*np.nonzero(whole), strict=True))
    for given in (channels, channels + channels.T + np.eye(4), sparse.coo_matrix(channels), pairs):
        graph = neighbours((4, 3), given)
        assert set(zip(graph.one.tolist(), graph.two.tolist(), strict=True)) == wanted
    every = neighbours((4, 3), whole)
    assert set(zip(every.one.tolist(), every.two.tolist(), strict=True)) == wanted


def test_shapes_and_adjacencies_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"as many points as Y has columns \(12\)"):
        shape_of((5, 3), 12)
    with pytest.raises(ValueError, match="adjacency is of 5 places"):
        neighbours((4, 3), np.ones((5, 5)))
    with pytest.raises(ValueError, match="names the place 4: there are 4"):
        neighbours((4, 3), [(0, 4)])
    with pytest.raises(ValueError, match="it is 4 x 3"):
        neighbours((4, 3), sparse.csr_matrix(np.ones((4, 3))))
    with pytest.raises(ValueError, match="adjacency should be a square matrix"):
        neighbours((4, 3), "grid")


def rule(kind: str = "mass", tail: str = "two-sided", threshold: float = 2.0) -> Rule:
    return Rule(kind, tail, threshold, 0.5, 2.0)


def test_masses_sizes_and_signs() -> None:
    graph = neighbours((10,))
    t = np.array([2.5, 3.0, -2.5, -4.0, np.nan, -2.2, 1.0, 2.1, 2.0, 5.0])
    labels = rule().labels(t, graph)
    np.testing.assert_array_equal(labels, [1, 1, 2, 2, 0, 3, 0, 4, 0, 5])
    np.testing.assert_allclose(rule().weights(t, labels), [5.5, -6.5, -2.2, 2.1, 5.0])
    np.testing.assert_array_equal(rule("size").weights(t, labels), [2, 2, 1, 1, 1])
    assert rule().largest(t, graph) == 6.5
    assert rule(tail="greater").largest(t, graph) == 5.5
    assert rule(tail="less").largest(t, graph) == 6.5
    assert rule("size").largest(t, graph) == 2
    assert rule(threshold=9.0).largest(t, graph) == 0


# ---- threshold-free enhancement -----------------------------------------------------------------


def brute_enhanced(
    values: np.ndarray, shape: tuple[int, ...], extent: float, height: float, steps: int
) -> np.ndarray:
    """The integral as a sum over thresholds (midpoints)."""
    grid, out = values.reshape(shape), np.zeros(values.size)
    dh = values.max() / steps
    for h in (np.arange(steps) + 0.5) * dh:
        labels = ndimage.label(grid >= h)[0].ravel()
        sizes = np.bincount(labels)
        sizes[0] = 0
        out += sizes[labels] ** extent * h**height * dh
    return out


@pytest.mark.parametrize(("extent", "height"), [(0.5, 2.0), (1.0, 1.0), (0.7, 3.0)])
@pytest.mark.parametrize("shape", [(30,), (6, 8)])
def test_enhancement_is_the_integral(shape: tuple[int, ...], extent: float, height: float) -> None:
    rng = np.random.default_rng(1)
    values = np.maximum(ndimage.gaussian_filter(3 * rng.normal(size=shape), 1), 0).ravel()
    values[[3, 9]] = values[4]  # ties
    found = enhanced(values, neighbours(shape), extent, height)
    wanted = brute_enhanced(values, shape, extent, height, 1500)
    np.testing.assert_allclose(found, wanted, rtol=5e-3, atol=5e-3 * wanted.max())
    assert (found[values == 0] == 0).all()


def test_enhancement_of_a_block_has_a_closed_form() -> None:
    values = np.array([0.0, 3, 3, 3, 3, 0, 2, 0])
    found = enhanced(values, neighbours((8,)), 0.5, 2.0)
    np.testing.assert_allclose(found, [0, *[2 * 9.0] * 4, 0, 8 / 3, 0])
    t = np.array([0.0, 3, 3, 3, 3, 0, -2, np.nan])
    graph = neighbours((8,))
    np.testing.assert_allclose(rule("tfce").enhanced(t, graph), [0, *[18.0] * 4, 0, -8 / 3, 0])
    assert rule("tfce").largest(t, graph) == pytest.approx(18)
    assert rule("tfce", "less").largest(t, graph) == pytest.approx(8 / 3)


# ---- what is shuffled ---------------------------------------------------------------------------


def numbers(values: object) -> np.ndarray:
    return np.unique(np.asarray(values), return_inverse=True)[1]


def exchanges() -> dict[str, Exchange]:
    data = trials(4, 4)
    subj, item = numbers(data["subj"]), numbers(data["item"])
    cell = numbers(data["subj"] + data["item"])
    rows = np.arange(len(data))
    cond, group = numbers(data["cond"]), numbers(data["group"])
    unequal = np.array([0, 0, 0, 1] * 4)
    return {
        "labels": Exchange("labels", subj, rows, cond, "subj", "rows"),
        "three labels": Exchange("labels", subj[:12], rows[:12], item[:12] % 3, "subj", "rows"),
        "within": Exchange("within", subj[:8], rows[:8], unequal[:8], "subj", "rows"),
        "cells": Exchange("within", subj.repeat(2), cell.repeat(2), unequal.repeat(2), "", ""),
        "between": Exchange("between", np.zeros(16, int), subj, group, "", "subj"),
    }


COUNTS = {"labels": 2**4, "three labels": 6**3, "within": 4**2, "cells": 4**4, "between": 6}


@pytest.mark.parametrize("name", COUNTS)
def test_every_arrangement_is_as_probable_as_the_others(name: str) -> None:
    exchange = exchanges()[name]
    total = COUNTS[name]
    assert exchange.arrangements == total
    streams = Streams(3)
    listed = Arrangements(exchange, streams, total)
    assert listed.all and listed.count == total - 1
    shared = streams.shared()
    every = {tuple(exchange.value[listed.source(k, shared)]) for k in range(total - 1)}
    assert len(every) == total - 1 and tuple(exchange.value) not in every
    every.add(tuple(exchange.value))
    some = Arrangements(exchange, streams, total - 2)
    assert not some.all and some.count == total - 2
    drawn = Counter(tuple(exchange.value[exchange.drawn(shared.at(k))]) for k in range(20 * total))
    assert set(drawn) <= every
    counts = [drawn[one] for one in every]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_labels_trade_places_as_a_whole_and_rows_do_not_leave_their_unit() -> None:
    rng = np.random.default_rng(0)
    for name, exchange in exchanges().items():
        made = exchange.value[exchange.drawn(rng)]
        for block in np.unique(exchange.block):
            own = exchange.block == block
            pairs = set(zip(exchange.value[own], made[own], strict=True))
            if "labels" in name:
                assert len(pairs) == len(set(exchange.value[own]))  # one label became one label
            else:
                np.testing.assert_array_equal(np.sort(made[own]), np.sort(exchange.value[own]))
        if "labels" not in name:
            for unit in np.unique(exchange.unit):
                assert len(set(made[exchange.unit == unit])) == 1


def scheme(predictor: str, formula: str, **how: object) -> str:
    """The words that say what is shuffled."""
    data = trials()
    Y = recordings(data, 2)
    return cluster_test(formula, data, Y, test=predictor, n=2, seed=1, **how).scheme


def test_what_is_shuffled_follows_from_where_the_predictor_varies() -> None:
    slopes = "~ cond + (1 | item) + (cond | subj)"
    assert scheme("cond", CROSSED) == "cond swapped within each of 10 subj"
    assert scheme("cond", slopes) == "cond swapped within each of 10 subj"
    flips = "signs of the effects of subj and item, and of residuals, are flipped"
    assert scheme("cond", "~ cond + (cond | subj) + (cond | item)") == flips
    assert scheme("freq", "~ freq + (freq | subj) + (1 | item)") == flips
    assert scheme("freq", "~ freq + (freq | subj) + (1 | item)", by="item") == (
        "freq shuffled among 6 item"
    )
    assert scheme("cond:group", "~ cond * group + (1 | subj) + (1 | item)") == flips
    assert scheme("cond", CROSSED, by="item") == "cond swapped within each of 6 item"
    assert scheme("cond", CROSSED, permute="within") == (
        "cond shuffled among rows within each of 10 subj"
    )
    assert scheme("group", "~ group + (1 | subj) + (1 | item)") == "group shuffled among 10 subj"
    assert scheme("freq", "~ freq + (1 | subj) + (1 | item)") == "freq shuffled among 6 item"
    assert scheme("sound", "~ sound + (1 | subj) + (1 | item)") == (
        "sound relabelled within each of 10 subj"
    )
    assert scheme("cond", "~ cond + (1 | subj) + (1 | subj:cond)") == (
        "cond swapped within each of 10 subj"
    )


def test_slopes_are_kept_by_swaps_of_what_they_are_nested_in() -> None:
    data = trials(6, 6)
    subj, item, cond = (numbers(data[name]) for name in ("subj", "item", "cond"))
    session = numbers(data["subj"] + data["sound"])
    swaps = exchange_of("labels", None, {"subj": subj, "item": item}, cond, "cond")
    assert swaps.keeps(subj) and swaps.keeps(session) and not swaps.keeps(item)
    rows = exchange_of("within", None, {"subj": subj, "item": item}, cond, "cond")
    assert not rows.keeps(subj)
    kinds = exchange_of("auto", None, {"item": item, "subj": subj}, item % 2, "kind")
    assert kinds.kind == "between" and kinds.keeps(item) and not kinds.keeps(subj)


def test_units_inside_of_larger_ones_are_shuffled_within_these() -> None:
    rng = np.random.default_rng(0)
    school = np.repeat(np.arange(3), 8)
    pupil = np.repeat(np.arange(12), 2)
    value = np.repeat([0, 0, 1, 0, 2, 1, 1, 0, 0, 1, 2, 2], 2)
    found = exchange_of("auto", None, {"pupil": pupil, "school": school}, value, "x")
    assert (found.kind, found.blocks, found.units) == ("within", "school", "pupil")
    made = value[found.drawn(rng)]
    assert (made[::2] == made[1::2]).all()
    nested = {"class": np.repeat(np.arange(6), 4), "school": school}
    rows = exchange_of("auto", None, nested, np.arange(24), "x")
    assert rows.words == "shuffled among rows within each of 3 school"
    pairs = exchange_of("within", None, nested | {"pupil": pupil}, value, "x", "pupil")
    assert pairs.words == "shuffled among pupil within each of 3 school"
    free = exchange_of("between", None, {"pupil": pupil, "school": school}, value, "x")
    assert free.words == "shuffled among 12 pupil"


def test_what_cannot_be_shuffled_is_said() -> None:
    data = trials()
    Y = recordings(data, 2)

    def refused(words: str, **how: object) -> None:
        given = {"test": "cond", "n": 2} | how
        with pytest.raises((ValueError, DataError), match=words):
            cluster_test(given.pop("formula", CROSSED), data, Y, **given)

    refused("cond varies within the levels of subj and item", permute="between")
    refused(
        "group does not vary within the levels of subj",
        formula="~ group + (1 | subj)",
        test="group",
        permute="within",
    )
    refused("cond varies within its levels", permute="within", together="item")
    refused(
        "its levels are not within those of subj",
        test="freq",
        formula="~ freq + (1 | subj)",
        permute="within",
        together="item",
    )
    refused("permute must be one of 'auto'", permute="rows")
    refused("the column of the units 'person'", by="person")
    refused(
        "made of cond and group: say which",
        formula="~ cond * group + (1 | subj)",
        test="cond:group",
        permute="labels",
    )
    refused("shuffle='freq' has none of the columns", shuffle="freq")
    refused("right-hand sides must be 0", test="cond[T.b] = 1")
    refused("made of no column of the data", test="Intercept", permute="labels")
    refused("which is not a coefficient", test="noun")
    refused("its hypotheses say the same thing twice", test=["cond[T.b]", "cond[T.b]"])
    refused("kind must be one of 'mass'", kind="sum")
    refused("tail must be one of", tail="both")
    refused("alpha is the p-value", alpha=5)
    refused("threshold must be a positive number", threshold=-2)
    refused("has no threshold", kind="tfce", threshold=2)
    refused("n must be a whole number", n=0)
    refused("threads must be a whole number", threads=1.5)
    refused("seed must be a whole number", seed=-1)
    refused("shape", shape=(3, 3))
    refused('tail="less": F', formula="~ sound + (1 | subj)", test="sound", tail="less")
    with pytest.raises(ValueError, match="nothing to shuffle"):
        one = data.assign(x=1.0)
        cluster_test("~ x + (1 | subj)", one, Y, test="x")
    with pytest.raises(FormulaError):
        cluster_test("~ nothing + (1 | subj)", data, Y, test="nothing")
    with pytest.raises(TypeError, match="write n=1000"):
        cluster_test(CROSSED, data, Y, test="cond", nsim=3)
    with pytest.raises(DataError, match="is shuffled, but it is in the weights"):
        cluster_test(
            "~ freq + (1 | subj)", data.assign(freq=data.freq + 2), Y, test="freq", weights="freq"
        )
    with pytest.raises(FitError, match="at any point"):
        cluster_test(CROSSED, data, np.ones((60, 3)), test="cond", n=2)


# ---- the statistics -----------------------------------------------------------------------------

MODELS = {
    "cond": CROSSED,
    "cond[T.b]": "~ cond + group + (cond | subj) + (1 | item)",
    "freq": "~ freq * group + (freq || subj) + (1 | item)",
    "2*cond[T.b] - freq": "~ cond + freq + (1 | subj)",
    "sound": "~ sound + cond + (1 | subj) + (1 | item)",
}


@pytest.mark.parametrize("test", MODELS)
def test_statistics_are_those_of_single_fits(test: str) -> None:
    data = trials().assign(w=np.linspace(0.5, 2, 60))
    Y = recordings(data, 4)
    Y[:7, 2] = np.nan
    how = {"weights": "w", "codings": {"group": "sum"}} if "group" in MODELS[test] else {}
    shuffle = "freq" if "freq" in test else None
    found = cluster_test(MODELS[test], data, Y, test=test, n=1, shuffle=shuffle, **how)
    if "codings" in how:
        how["contrasts"] = how.pop("codings")
    for k in range(4):
        fit = lmer(f"y {MODELS[test]}", data.assign(y=Y[:, k]), **how)
        if test == "sound":
            wanted = fit.f_test(np.eye(len(fit.params))[[1, 2]], ddf="z").statistic
            wanted = wanted / 2 if abs(wanted - found.statistic[k]) > 1e-3 * wanted else wanted
        else:
            name = "cond[T.b]" if test == "cond" else test
            wanted = fit.t_test(name, ddf="z").statistic[0]
        assert found.statistic[k] == pytest.approx(wanted, rel=1e-5)
    assert found.name == ("F" if test == "sound" else "t")


def test_shuffled_designs_are_those_of_shuffled_data() -> None:
    """Every statistic of a permutation is that of `lmer` with the column shuffled by hand."""
    data = trials(6, 4)
    formula = "~ sound * group + poly(freq, 2) + (0 + sound | subj) + (1 | item:sound)"
    design, table = without_response(formula, data, None, None, {"sound": "sum"})
    own = Shuffled.of(design, table, ("sound",))
    source = np.random.default_rng(1).permutation(len(data))
    made = own.design_at(source)
    by_hand = data.assign(sound=data["sound"].to_numpy()[source])
    wanted, _ = without_response(formula, by_hand, None, None, {"sound": "sum"})
    np.testing.assert_allclose(made.X, wanted.X)
    for term, other in zip(made.terms, wanted.terms, strict=True):
        np.testing.assert_array_equal(term.codes, other.codes)
        np.testing.assert_array_equal(term.z, other.z)
        np.testing.assert_array_equal(term.levels, other.levels)


def test_the_null_distribution_is_that_of_every_arrangement() -> None:
    """Twenty groups of three of six subjects, fitted by hand."""
    data = trials(6, 4)
    Y = recordings(data, 5, seed=2) + np.outer(data["group"] == "old", [0, 1, 2, 1, 0])
    formula = "~ group + (1 | subj) + (1 | item)"
    found = cluster_test(formula, data, Y, test="group", threshold=1.0, n=50)
    assert found.exhaustive and found.n == 19
    largest = []
    subjects = sorted(set(data["subj"]))
    own = np.flatnonzero([data.loc[data.subj == s, "group"].iloc[0] == "old" for s in subjects])
    for old in itertools.combinations(range(6), 3):
        chosen = {subjects[i] for i in old}
        x = data["subj"].isin(chosen).map({True: "old", False: "young"})
        t = np.array(
            [lmer(f"y {formula}", data.assign(y=y, group=x)).tvalues["group[T.young]"] for y in Y.T]
        )
        masses = [0.0]
        for sign in (1, -1):
            labels, count = ndimage.label(sign * t > 1)
            masses += [abs(t[labels == k].sum()) for k in range(1, count + 1)]
        if old == tuple(own):
            np.testing.assert_allclose(found.statistic, t, rtol=1e-6)
            assert np.abs(found.mass).max(initial=0) == pytest.approx(max(masses), rel=1e-6)
        else:
            largest.append(max(masses))
    np.testing.assert_allclose(np.sort(found.null), np.sort(largest), rtol=1e-5)
    for mass, p in zip(found.mass, found.pvalue, strict=True):
        count = sum(one >= abs(mass) * (1 - 1e-6) for one in largest)
        assert p == pytest.approx((1 + count) / 20)


def test_averages_of_two_conditions_are_tested_by_flipping_signs_of_differences() -> None:
    """Maris and Oostenveld's test of one group by its definition: t of pairs, all 2^7 flips."""
    rng = np.random.default_rng(8)
    subj = np.repeat(np.arange(7), 2)
    data = {"subj": subj, "cond": np.tile(["a", "b"], 7)}
    Y = 10 * rng.normal(size=(7, 1))[subj] + smooth(rng, 14, 9)
    Y[1::2] += 2 * bump(9, 4, 1.5)
    d = Y[1::2] - Y[::2]

    def largest(signs: np.ndarray) -> tuple[np.ndarray, float]:
        t = stats.ttest_1samp(signs[:, None] * d, 0).statistic
        masses = [0.0]
        for side in (t, -t):
            labels, count = ndimage.label(side > stats.t.isf(0.025, 6))
            masses += [side[labels == k].sum() for k in range(1, count + 1)]
        return t, max(masses)

    flips = [largest(np.array(s))[1] for s in itertools.product((1, -1), repeat=7)]
    t, own = largest(np.ones(7))
    found = cluster_test("~ cond + (1 | subj)", data, Y, test="cond", n=200)
    assert found.exhaustive and found.n == 127
    np.testing.assert_allclose(found.statistic, t, rtol=1e-6)
    np.testing.assert_allclose(np.sort([*found.null, own]), np.sort(flips), rtol=1e-5)
    share = np.mean([one >= own * (1 - 1e-6) for one in flips])
    assert found.pvalue.min() == pytest.approx(share)


def test_p_values_count_equal_values_and_never_are_zero() -> None:
    null = np.array([0.0, 1.0, 2.0, 2.0, np.inf])
    np.testing.assert_allclose(corrected(np.array([0.0, 1.5, 2.0, 9.0]), null) * 6, [6, 4, 4, 2])


# ---- sign flips ---------------------------------------------------------------------------------


def test_effects_have_the_estimated_covariances() -> None:
    data = trials(12, 8).assign(w=np.linspace(0.5, 2, 96))
    Y = recordings(data, 3)
    formula = "~ freq + (cond | subj) + (1 | item) + (0 + freq | item)"
    design, _ = without_response(formula, data, "w", None, None)
    model = Model(design)
    effects = effects_of(model, Y, np.array([True, False, True]), True)
    assert [len(terms) for terms in effects.terms] == [1, 2]  # one factor, one sign
    modes = [b for terms in effects.terms for _, b in terms]
    for t in (0, 2):
        fit = lmer(f"y {formula}", data.assign(y=Y[:, t]), weights="w")
        for b, T in zip(modes, fit.estimates.T, strict=True):
            wanted = fit.sigma**2 * T @ T.T
            np.testing.assert_allclose(b[:, :, t].T @ b[:, :, t] / len(b), wanted, atol=1e-6)
        e = effects.residuals[:, t] ** 2 * data["w"]
        assert e.mean() == pytest.approx(fit.sigma**2, rel=1e-6)
        own = fit.resid * np.sqrt(data["w"])
        assert np.corrcoef(effects.residuals[:, t] * np.sqrt(data["w"]), own)[0, 1] > 1 - 1e-9
    assert all((b[:, :, 1] == 0).all() for b in modes) and (effects.residuals[:, 1] == 0).all()


def test_effects_of_missing_rows_are_those_of_the_others() -> None:
    data = trials(6, 5)
    Y = recordings(data, 4)
    formula = "~ freq + (cond | subj) + (1 | item)"
    Y[:4, 1] = Y[(data["item"] == "w02").to_numpy(), 3] = np.nan
    design, _ = without_response(formula, data, None, None, None)
    effects = effects_of(Model(design), Y, np.ones(4, bool), True)
    for t in range(4):
        has = ~np.isnan(Y[:, t])
        own, _ = without_response(formula, data[has], None, None, None)
        alone = effects_of(Model(own), Y[has][:, [t]], np.ones(1, bool), True)
        np.testing.assert_allclose(effects.residuals[has, t], alone.residuals[:, 0], atol=1e-9)
        assert np.isnan(effects.residuals[~has, t]).all()
        for terms, others, kept in zip(effects.terms, alone.terms, own.terms, strict=True):
            at = np.isin(design.terms[len(kept.columns) == 1].levels, kept.levels)
            np.testing.assert_allclose(terms[0][1][at, :, t], others[0][1][:, :, 0], atol=1e-9)
            assert (terms[0][1][~at, :, t] == 0).all()
    how = {"test": "cond", "permute": "signs", "n": 3, "seed": 1}
    found = cluster_test("~ cond + (cond | subj) + (cond | item)", data, Y, **how)
    assert found.failed == 0 and np.isfinite(found.null).all()


def test_flips_are_signs_of_levels_and_rows() -> None:
    """Every level has one sign for all terms and points: those with which the sum is made."""
    rng = np.random.default_rng(0)
    codes = [np.repeat(np.arange(4), 3), np.tile(np.arange(3), 4)]
    z = [rng.normal(size=(12, k)) for k in (2, 1, 1)]
    b = [rng.normal(size=(m, k, 5)) for m, k in ((4, 2), (3, 1), (3, 1))]
    e = rng.normal(size=(12, 5))
    effects = Effects(codes, [[(z[0], b[0])], [(z[1], b[1]), (z[2], b[2])]], e)
    made = {}
    for seed in range(400):
        found = flipped(effects, np.random.default_rng(seed))
        again = np.random.default_rng(seed)
        signs = [2.0 * again.integers(0, 2, m) - 1 for m in (12, 4, 3)]
        wanted = signs[0][:, None] * e
        for i in range(12):
            s, w = codes[0][i], codes[1][i]
            wanted[i] += signs[1][s] * z[0][i] @ b[0][s]
            wanted[i] += signs[2][w] * (z[1][i] @ b[1][w] + z[2][i] @ b[2][w])
        np.testing.assert_allclose(found, wanted)
        made[seed] = found
    mean = np.mean(list(made.values()), axis=0)
    assert np.abs(mean).max() < 5 * np.std(list(made.values())) / np.sqrt(400)


def test_sign_flips_are_fitted_with_the_same_model() -> None:
    data = trials(8, 6)
    b = (data["cond"] == "b").to_numpy()
    Y = recordings(data, 8) + np.outer(b, 3 * bump(8, 4, 1.5))
    formula = "~ cond + (cond | subj) + (cond | item)"
    how = {"test": "cond", "permute": "signs", "seed": 4}
    found = cluster_test(formula, data, Y, n=20, **how)
    two = cluster_test(formula, data, Y, n=20, threads=2, **how)
    np.testing.assert_array_equal(found.null, two.null)
    assert "signs of the effects of subj and item" in str(found) and not found.exhaustive
    assert found.pvalue.min() == 1 / 21 and found.threshold == pytest.approx(stats.t.isf(0.025, 5))
    design, _ = without_response(formula, data, None, None, None)
    effects = effects_of(Model(design), Y, np.ones(8, bool), True)
    y = flipped(effects, Streams(4).generator(3))
    t = [lmer(f"y {formula}", data.assign(y=own)).tvalues["cond[T.b]"] for own in y.T]
    rule = Rule("mass", "two-sided", found.threshold, 0.5, 2.0)
    assert found.null[3] == pytest.approx(rule.largest(np.array(t), neighbours((8,))), rel=1e-5)
    shifted = cluster_test(formula, data, Y + 5 * b[:, None], n=20, **how)
    np.testing.assert_allclose(shifted.null, found.null, rtol=1e-4)  # whatever the effect is
    mean = {"test": "Intercept", "permute": "signs", "n": 2}
    every = cluster_test("~ cond * group + (1 | subj)", data, Y, **mean)
    assert every.untested == ()
    interaction = {"test": "cond:group", "permute": "signs", "n": 2}
    assert cluster_test("~ cond * group + (1 | subj)", data, Y, **interaction).n == 2


def test_sign_flips_shuffle_nothing() -> None:
    data = trials()
    Y = recordings(data, 2)
    with pytest.raises(ValueError, match="by='subj': permute='signs' shuffles nothing"):
        cluster_test(CROSSED, data, Y, test="cond", permute="signs", by="subj")
    Y[:, 1] = 1.0
    found = cluster_test(CROSSED, data, Y, test="cond", permute="signs", n=2)
    assert np.isnan(found.statistic[1]) and found.failed == 0
    twice = data.assign(other=data["freq"] * 2)
    with pytest.warns(RankDeficientWarning), pytest.raises(FitError, match="linear combinations"):
        cluster_test("~ freq + other + (1 | subj)", twice, Y, test="other", n=2)


# ---- the whole test -----------------------------------------------------------------------------


def test_a_planted_effect_is_found_where_it_is() -> None:
    data = trials(12, 8)
    b = (data["cond"] == "b").to_numpy()
    Y = recordings(data, 30, seed=3) + np.outer(b, 1.5 * bump(30, 15, 3))
    times = [f"{10 * k} ms" for k in range(30)]
    frame = pd.DataFrame(Y, columns=times, index=data.index)
    found = cluster_test(CROSSED, data, frame, test="cond", n=99, seed=1)
    first = found.to_frame().iloc[0]
    assert first["p"] == 1 / 100 and first["sign"] == "+"
    at = times.index(first["at"])
    assert 11 <= at <= 19 and times.index(first["first"]) <= at <= times.index(first["last"])
    np.testing.assert_array_equal(
        found.members(int(first["cluster"])),
        np.arange(times.index(first["first"]), times.index(first["last"]) + 1),
    )
    text = str(found)
    assert "cond swapped within each of 12 subj" in text and "99 permutations (random)" in text
    points = found.to_points()
    assert list(points["point"]) == times and (points["p"][points["cluster"] == 0] == 1).all()
    other = cluster_test(CROSSED, data, -frame, test="cond", n=19, seed=1)
    np.testing.assert_allclose(other.null, found.null[:19], rtol=1e-6)
    assert other.to_frame().iloc[0]["sign"] == "-"
    how = {"tail": "greater", "threshold": other.threshold}
    below = cluster_test(CROSSED, data, -frame, test="cond", n=19, seed=1, **how)
    assert (below.sign > 0).all() and (below.null <= other.null + 1e-9).all()


def test_threads_and_numbers_change_nothing() -> None:
    data = trials()
    Y = recordings(data, 6)
    formula = "~ cond + (cond | subj) + (1 | item)"
    one = cluster_test(formula, data, Y, test="cond", n=30, seed=5, threshold=1.0)
    two = cluster_test(formula, data, Y, test="cond", n=30, seed=5, threshold=1.0, threads=2)
    few = cluster_test(formula, data, Y, test="cond", n=11, seed=5, threshold=1.0)
    np.testing.assert_array_equal(one.null, two.null)
    np.testing.assert_array_equal(one.null[:11], few.null)
    again = cluster_test(formula, data, Y, test="cond", n=11, seed=few.seed, threshold=1.0)
    np.testing.assert_array_equal(again.pvalue, few.pvalue)
    drawn = cluster_test(formula, data, Y, test="cond", n=3)
    kept = cluster_test(formula, data, Y, test="cond", n=3, seed=drawn.seed)
    np.testing.assert_array_equal(drawn.null, kept.null)


def test_workers_and_interrupted_runs_give_the_same(tmp_path: Path) -> None:
    data = trials(6, 4)
    Y = recordings(data, 4)
    how = {"test": "cond", "seed": 5, "threshold": 1.0}
    formula = "~ cond + (cond | subj) + (1 | item)"
    alone = cluster_test(formula, data, Y, n=12, **how)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        sent = cluster_test(formula, data, Y, n=12, client=pool, **how)
    np.testing.assert_array_equal(sent.null, alone.null)
    file = tmp_path / "permutations"
    cluster_test(formula, data, Y, n=5, checkpoint=file, **how)
    resumed = cluster_test(formula, data, Y, n=12, checkpoint=file, **how)
    np.testing.assert_array_equal(resumed.null, alone.null)
    with pytest.raises(ValueError, match="of another run"):
        cluster_test(formula, data, -Y, n=12, checkpoint=file, **how)


def test_channels_and_times() -> None:
    data = trials(10, 6)
    b = (data["cond"] == "b").to_numpy()
    Y = np.stack([recordings(data, 10, seed=k) for k in range(4)], axis=1)
    Y[:, [0, 2]] += (b[:, None] * 2.0 * bump(10, 5, 1.5))[:, None]
    adjacency = [(0, 2), (1, 3)]
    found = cluster_test(CROSSED, data, Y, test="cond", adjacency=adjacency, n=39, seed=1)
    assert found.shape == (4, 10)
    first = found.to_frame().iloc[0]
    members = found.members(int(first["cluster"]))
    assert set(members[:, 0]) == {0, 2} and first["p"] == 1 / 40
    assert (first["first"], first["last"]) == (members[:, 1].min(), members[:, 1].max())
    flat = cluster_test(
        CROSSED,
        data,
        Y.reshape(60, -1),
        test="cond",
        shape=(4, 10),
        adjacency=adjacency,
        n=39,
        seed=1,
    )
    np.testing.assert_array_equal(flat.null, found.null)
    with pytest.raises(ValueError, match="clusters are 1 to"):
        found.members(99)


def test_enhanced_points_have_p_values_of_their_own() -> None:
    data = trials(12, 6)
    b = (data["cond"] == "b").to_numpy()
    Y = recordings(data, 20, seed=3) + np.outer(b, 2 * bump(20, 10, 2))
    found = cluster_test(CROSSED, data, Y, test="cond", kind="tfce", n=99, seed=1)
    np.testing.assert_allclose(
        found.enhanced,
        Rule("tfce", "two-sided", 0, 0.5, 2).enhanced(found.statistic, neighbours((20,))),
    )
    p = np.array([(1 + (found.null >= abs(e)).sum()) / 100 for e in found.enhanced])
    np.testing.assert_allclose(found.point_pvalue, p)
    np.testing.assert_array_equal(found.labels > 0, p <= 0.05)
    assert found.labels[10] > 0 and found.pvalue.min() == 0.01
    assert "tfce" in found.to_points()


def test_points_and_permutations_that_cannot_be_fitted() -> None:
    data = trials(4, 4)
    Y = recordings(data, 6, seed=4)
    Y[:, 2] = 1.0
    found = cluster_test(CROSSED, data, Y, test="cond", n=7, seed=1, threshold=0.5)
    assert np.isnan(found.statistic[2]) and found.labels[2] == 0 and found.failed == 0
    assert "1 points have no fit" in str(found) and "no residual variance" in str(found)
    # where only the rows of one subject are left in one condition, two swaps leave no contrast
    b = (data["cond"] == "b").to_numpy()
    lost = b & (data["subj"] != "s00").to_numpy()
    Y[lost, 4] = np.nan
    Y[(data["subj"] == "s00").to_numpy() & ~b, 4] = np.nan
    found = cluster_test(CROSSED, data, Y, test="cond", n=15, seed=1, threshold=0.5)
    assert np.isfinite(found.statistic[4])
    assert found.exhaustive and found.failed == np.isinf(found.null).sum() == 2
    assert found.pvalue.min() >= 3 / 16
    assert "2 permutations failed at a point" in str(found)


def test_what_is_shuffled_besides_the_hypothesis_is_said() -> None:
    data = trials()
    how = {"test": "cond:group", "shuffle": "cond", "n": 2, "seed": 1}
    found = cluster_test("~ cond * group + (cond | subj)", data, recordings(data, 3), **how)
    assert found.untested == ("cond[T.b]",)
    assert "Shuffled too: cond[T.b]" in str(found)
    alone = cluster_test("~ cond + (cond | subj)", data, recordings(data, 3), test="cond", n=2)
    assert alone.untested == () and "Shuffled too" not in str(alone)


def test_responses_in_other_containers() -> None:
    pl = pytest.importorskip("polars")
    data = trials()
    Y = recordings(data, 3)
    how = {"test": "cond", "n": 4, "seed": 1}
    wanted = cluster_test(CROSSED, data, Y, **how).null
    frame = pd.DataFrame(Y, columns=["a", "b", "c"])
    for given in (Y.tolist(), frame, pl.from_pandas(frame), [Y[:, :2], Y[:, 2:]], dict(frame)):
        np.testing.assert_array_equal(cluster_test(CROSSED, data, given, **how).null, wanted)
    one = cluster_test(CROSSED, data, frame["b"], **how)
    assert list(one.points) == ["b"] and one.shape == (1,)
    none = cluster_test(CROSSED, data, Y, adjacency=[], threshold=0.1, **how)
    assert (none.size == 1).all() and len(none) == 3
    with pytest.raises(DataError, match="missing everywhere"):
        cluster_test(CROSSED, data, np.full((60, 2), np.nan), **how)
    with pytest.raises(DataError, match="not equally many numbers"):
        cluster_test(CROSSED, data, [[1.0, 2.0], [1.0]], **how)


def test_missing_rows_of_predictors_are_no_rows() -> None:
    data = trials()
    Y = recordings(data, 4)
    gaps = data.copy()
    gaps.loc[[3, 17], "cond"] = None
    whole = cluster_test(CROSSED, gaps, Y, test="cond", n=5, seed=1)
    some = gaps["cond"].notna().to_numpy()
    less = cluster_test(CROSSED, data[some], Y[some], test="cond", n=5, seed=1)
    np.testing.assert_allclose(whole.null, less.null, rtol=1e-9)


@pytest.mark.parametrize("kind", ["mass", "tfce"])
def test_plots(kind: str) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    data = trials()
    b = (data["cond"] == "b").to_numpy()
    Y = recordings(data, 8) + np.outer(b, 3 * bump(8, 4, 1))
    course = cluster_test(CROSSED, data, Y, test="cond", kind=kind, n=19, seed=1)
    assert course.plot().get_ylabel() == "t"
    image = cluster_test(CROSSED, data, Y, test="cond", kind=kind, n=19, seed=1, shape=(2, 4))
    _, ax = plt.subplots()
    assert image.plot(ax) is ax
    cube = cluster_test(CROSSED, data, Y, test="cond", kind=kind, n=1, seed=1, shape=(2, 2, 2))
    with pytest.raises(ValueError, match="more than two axes"):
        cube.plot()
    plt.close("all")


# ---- error rates and power ----------------------------------------------------------------------


def rejections(predictor: str, formula: str, count: int, **how: object) -> float:
    """Share of data sets with a cluster of p at most 0.05."""
    found = 0
    for seed in range(count):
        rng = np.random.default_rng(seed)
        data = trials(12, 6)
        subj = pd.factorize(data["subj"])[0]
        data["group"] = np.where(rng.permutation(12) < 6, "young", "old")[subj]
        effect, slopes = how.get("effect", 0.0), how.get("slopes", 0.0)
        b = (data["cond"] == "b").to_numpy()
        Y = recordings(data, 12, seed) + np.outer(b, effect * bump(12, 6, 2))
        Y += slopes * smooth(rng, 12, 12)[subj] * b[:, None]
        item = pd.factorize(data["item"])[0]
        Y += how.get("item_slopes", 0.0) * smooth(rng, 6, 12)[item] * b[:, None]
        options = {name: value for name, value in how.items() if name in ("kind", "permute")}
        test = cluster_test(
            formula, data, Y, test=predictor, n=how.get("n", 19), seed=seed, **options
        )
        found += test.pvalue.min(initial=1.0) <= 0.05
    return found / count


SCHEMES = {
    "labels": ("cond", CROSSED, {}),
    "labels, size": ("cond", CROSSED, {"kind": "size"}),
    "labels, tfce": ("cond", CROSSED, {"kind": "tfce"}),
    "within": ("cond", CROSSED, {"permute": "within"}),
    "between": ("group", "~ group + (1 | subj) + (1 | item)", {}),
    "signs": (
        "cond",
        "~ cond + (cond | subj) + (cond | item)",
        {"slopes": 0.7, "item_slopes": 0.7},
    ),
    "slopes": ("cond", "~ cond + (cond | subj) + (1 | item)", {"slopes": 1.0}),
}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_error_rate_is_kept(scheme: str) -> None:
    """At most 5 % of data sets without an effect, but for 4 standard errors of so many."""
    predictor, formula, how = SCHEMES[scheme]
    rate = rejections(predictor, formula, 200, **how)
    assert rate <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mass", "tfce"])
def test_power_is_there(kind: str) -> None:
    assert rejections("cond", CROSSED, 40, effect=1.0, kind=kind, n=39) >= 0.8
