"""Contrasts, adjustments, nested factors, trends and response scales against R's emmeans."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import seldom
from scipy import stats

import lmmfast
from lmmfast import datasets, emmeans, emtrends, joint_tests, lmer
from lmmfast.errors import DataError, LmmWarning
from lmmfast.inference.means.exceedance import Exceedance, equicorrelated
from lmmfast.inference.means.letters import letters
from lmmfast.inference.means.tukey import quantile, tail
from lmmfast.inference.response import response_scale

FOLDER = Path(__file__).parent / "means"
FACTS = json.loads((FOLDER / "cases.json").read_text())
CASES = {case["name"]: case for case in FACTS["cases"]}
ESTIMATES = ("emmean", "estimate", "response", "ratio", "odds.ratio", "x.trend", "log(x).trend")
APPROXIMATE = {
    "adjust mvt": 4e-3,
    "limits mvt": 2e-3,
    "adjust dunnettx": 0.03,
    "limits dunnettx": 0.01,
}


@cache
def trials() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "trials.csv")


@cache
def fit_of(name: str) -> Any:
    formula, rows, *weights = FACTS["models"][name]
    data = trials()
    if rows == "empty":
        data = data[~((data.f == "c") & (data.g == "q"))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        return lmer(formula, data, weights=weights[0] if weights else None)


def found(case: dict[str, Any]) -> pd.DataFrame:
    call, fit = dict(case["call"]), fit_of(case["model"])
    if call.pop("joint", False):
        return joint_tests(fit, ddf="kenward-roger", **call)
    made = (emtrends if "var" in call else emmeans)(fit, **{"ddf": "kenward-roger"} | call)
    if "contrasts" not in call and "interaction" not in call:
        return made.table
    return made.conf_int() if "lower.CL" in case else made.contrasts


# Quantiles of six t at once take as long as all the others; p-values of them are not put off
@pytest.mark.parametrize("name", seldom(CASES, ["limits mvt"]))
def test_numbers_of_r(name: str) -> None:
    case = CASES[name]
    table = found(case)
    if "F.ratio" in case:  # rounded, in another order, and df2 by another approximation
        np.testing.assert_allclose(sorted(table["F"]), sorted(case["F.ratio"]), atol=6e-4)
        assert sorted(table["df1"]) == sorted(case["df1"])
        np.testing.assert_allclose(sorted(table["df2"]), sorted(case["df2"]), rtol=0.05)
        return
    column = next(own for own in ESTIMATES if own in case)
    shown = next(own for own in (*ESTIMATES, "trend") if own in table)
    wanted = np.array(case[column], dtype=float)
    se = np.array(case["SE"], dtype=float)
    np.testing.assert_array_equal(np.isnan(table[shown]), np.isnan(wanted))
    assert np.nanmax(np.abs(table[shown] - wanted) / se) < 1e-5
    np.testing.assert_allclose(table["SE"], se, rtol=1e-5)
    np.testing.assert_allclose(table["df"], np.array(case["df"], dtype=float), rtol=1e-4)
    close = APPROXIMATE.get(name, 1e-4)
    if "p.value" in case:
        np.testing.assert_allclose(
            table["p"], np.array(case["p.value"], float), rtol=close, atol=1e-9
        )
    if "lower.CL" in case:
        for own, theirs in (("lower", "lower.CL"), ("upper", "upper.CL")):
            off = np.abs(table[own] - np.array(case[theirs], dtype=float)) / se
            assert np.nanmax(off) < max(1e-5, 3 * close)


# ---- Tukey's range and its kin ------------------------------------------------------------------


@pytest.mark.parametrize("df", [1.0, 2.5, 7.0, 40.0, 1e4, np.inf])
def test_range_of_two_is_a_t_test(df: float) -> None:
    q = np.array([0.01, 0.3, 1.0, 3.0, 8.0, 30.0])
    wanted = 2 * (stats.norm if np.isinf(df) else stats.t(df)).sf(q / np.sqrt(2))
    np.testing.assert_allclose(tail(q, 2, df), wanted, rtol=1e-10)
    for p in (0.5, 0.95, 0.999):
        two = (stats.norm if np.isinf(df) else stats.t(df)).isf((1 - p) / 2)
        np.testing.assert_allclose(quantile(p, 2, [df]), np.sqrt(2) * two, rtol=1e-9)


def test_studentized_ranges_are_those_of_tables() -> None:
    # Pearson & Hartley's table 29, upper 5 % points
    for k, df, q in (
        (3, 10, 3.877),
        (5, 20, 4.232),
        (10, 30, 4.824),
        (20, 60, 5.241),
        (8, 5, 6.582),
    ):
        assert quantile(0.95, k, [df])[0] == pytest.approx(q, abs=6e-4)
        assert tail([q], k, df)[0] == pytest.approx(0.05, abs=2e-4)


def test_quantiles_of_many_degrees_of_freedom_are_those_of_each() -> None:
    df = np.geomspace(2.1, 900, 150)
    together = quantile(0.95, 12, df)
    alone = np.concatenate([quantile(0.95, 12, [one]) for one in df[::29]])
    np.testing.assert_allclose(together[::29], alone, rtol=1e-11)
    np.testing.assert_allclose(tail(together, 12, df), 0.05, rtol=1e-9)


def test_tails_are_relative() -> None:
    """Bonferroni's bound is sharp far out, whatever is left of the probability."""
    for k in (3, 40):
        q = np.array([20.0, 40.0])
        bound = k * (k - 1) / 2 * 2 * stats.norm.sf(q / np.sqrt(2))
        np.testing.assert_allclose(tail(q, k, np.inf), bound, rtol=1e-6)
    assert np.isnan(tail([np.nan, 1.0], 3, [5.0, np.nan])).all()
    assert tail([0.0, np.inf], 3, 5.0).tolist() == [1.0, 0.0]


def test_multivariate_t_of_known_cases() -> None:
    R = np.full((5, 5), 0.5) + 0.5 * np.eye(5)
    union = Exceedance(R)
    for df in (7.0, 130.0, np.inf):
        for size in (1.0, 2.5, 4.0, 8.0):
            exact = equicorrelated(np.array([size]), 5, np.array([df]))[0]
            assert union.probability(size, df) == pytest.approx(exact, rel=5e-3)
    assert union.relative_error < 3e-3
    pairs = np.array(
        [[1, -1, 0, 0], [1, 0, -1, 0], [1, 0, 0, -1], [0, 1, -1, 0], [0, 1, 0, -1], [0, 0, 1, -1]]
    )
    tukeys = Exceedance(pairs @ pairs.T / 2)  # singular
    for size in (1.5, 3.0, 6.0):
        exact = tail([np.sqrt(2) * size], 4, 15.0)[0]
        assert tukeys.probability(size, 15.0) == pytest.approx(exact, rel=6e-3)
    assert tukeys.critical(0.05, 15.0) == pytest.approx(
        quantile(0.95, 4, [15.0])[0] / np.sqrt(2), rel=2e-3
    )
    independent = Exceedance(np.eye(3))
    assert independent.probability(2.0, np.inf) == pytest.approx(
        1 - (1 - 2 * stats.norm.sf(2)) ** 3, rel=2e-3
    )
    with pytest.raises(ValueError, match="at most"):
        Exceedance(np.eye(500))


def test_letters() -> None:
    assert letters([0, 1, 2], []) == ["a", "a", "a"]
    assert letters([2, 1, 0], [(0, 2)]) == [" b", "ab", "a "]
    assert letters([0, 1, 2, 3], [(0, 2), (0, 3), (1, 3)]) == ["a  ", "ab ", " bc", "  c"]
    assert letters([0, 1, 2], [(0, 1), (0, 2), (1, 2)]) == ["a  ", " b ", "  c"]


# ---- what the tables say ------------------------------------------------------------------------


def test_contrasts_of_contrasts_and_other_families() -> None:
    fit = fit_of("crossed")
    means = emmeans(fit, "f", by="g")
    pairs = means.pairs()
    assert list(pairs.table.columns) == ["contrast", "g", "estimate", "SE", "df", "t", "p"]
    again = pairs.contrast("pairwise", by=None)
    assert len(again.table) == 15 and again.table["contrast"][0] == "(a - b p) - (a - c p)"
    all_pairs = means.contrast("pairwise", by=None)
    assert len(all_pairs.table) == 15 and all_pairs.table["contrast"][0] == "a p - b p"
    other = means.contrast("pairwise", by="f")
    assert list(other.table["contrast"]) == ["p - q"] * 3 and list(other.table["f"]) == [
        "a",
        "b",
        "c",
    ]
    words = means.contrast({"middle": "(b + c) / 2 - a"}, by="g").table
    np.testing.assert_allclose(
        words["estimate"],
        [
            means.table["emmean"][1:3].mean() - means.table["emmean"][0],
            means.table["emmean"][4:6].mean() - means.table["emmean"][3],
        ],
    )
    np.testing.assert_allclose(np.sqrt(np.diag(pairs.vcov)), pairs.table["SE"], rtol=1e-12)
    assert pairs.to_frame().equals(pairs.table)
    lower = means.conf_int(adjust="bonferroni")["lower"]
    assert (lower < means.table["lower"]).all()


def test_interactions_in_one_word() -> None:
    fit = fit_of("crossed")
    one = emmeans(fit, "f * g", contrasts="pairwise", interaction=True).contrasts.to_frame()
    two = emmeans(fit, "f * g", interaction={"f": "pairwise", "g": "pairwise"}).contrasts.to_frame()
    pd.testing.assert_frame_equal(one, two)
    assert list(one.columns[:2]) == ["f_pairwise", "g_pairwise"]
    with pytest.raises(ValueError, match="a kind for each of f, g"):
        emmeans(fit, "f * g", interaction=["pairwise"] * 3)


def test_compact_letters() -> None:
    fit = fit_of("crossed")
    table = emmeans(fit, "f").cld()
    assert list(table["f"]) == ["a", "b", "c"]
    p = emmeans(fit, "f", contrasts="pairwise").contrasts["p"].to_numpy()
    own = table["letters"].to_list()
    for (i, j), value in zip(((0, 1), (0, 2), (1, 2)), p, strict=True):
        assert bool((set(own[i]) & set(own[j])) - {" "}) == (value > 0.05)
    by = emmeans(fit_of("empty"), "f", by="g").cld()
    assert (by.loc[by["emmean"].isna(), "letters"] == "").all()


def test_nested_factors_of_both_kinds() -> None:
    fit = fit_of("nested")
    found = emmeans(fit, "g")
    assert "Nested: fg in g" in str(found) and found.table["emmean"].notna().all()
    assert list(emmeans(fit, "fg").table.columns[:2]) == ["fg", "g"]
    crossed = emmeans(fit_of("crossed"), "g")
    assert "Nested" not in str(crossed)


SCALES = (
    "log(y)", "log(y + 3)", "-1000 / y", "sqrt(y)", "log10(y)", "y^2", "1/y", "2 * log2(y)",
    "I(y / 10)", "log(y, 2)", "np.log(y)", "y**-1", "log(y / 10)", "log1p(y)", "np.sqrt(y + 1)",
)  # fmt: skip


@pytest.mark.parametrize("left", SCALES)
def test_transformations_are_undone(left: str) -> None:
    data = trials()
    fit = lmer(f"{left} ~ f + (1 | subj)", data)
    scale, eta = response_scale(fit), fit.design.y
    np.testing.assert_allclose(scale.to_response(eta), data["y"], rtol=1e-12)
    h = 1e-6 * np.abs(eta)
    slope = (scale.to_response(eta + h) - scale.to_response(eta - h)) / (2 * h)
    np.testing.assert_allclose(scale.slope(eta), slope, rtol=1e-6)
    assert scale.variable == "y"
    assert bool(scale.ratio) == (
        left in ("log(y)", "log10(y)", "log(y, 2)", "np.log(y)", "log(y / 10)")
    )


def test_means_of_the_response_and_responses_of_the_mean() -> None:
    data = trials()
    fit = lmer("log(y) ~ f + (x | subj) + (1 | item)", data)
    plain = emmeans(fit, "f", type="response")
    right = emmeans(fit, "f", type="response", bias_adjust=True)
    variance = fit.sigma**2 + sum(
        float(np.einsum("ij,jk,ik->i", term.z, T @ T.T * fit.sigma**2, term.z).mean())
        for term, T in zip(fit.design.terms, fit.estimates.T, strict=True)
    )
    np.testing.assert_allclose(
        right.table["response"] / plain.table["response"], np.exp(variance / 2), rtol=1e-10
    )
    own = lmer("z ~ f + (1 | subj)", data.assign(z=np.log(data.y)))
    given = emmeans(own, "f", type="response", inverse={"inverse": np.exp, "derivative": np.exp})
    same = emmeans(lmer("log(y) ~ f + (1 | subj)", data), "f", type="response")
    for column in ("response", "SE", "lower", "upper"):
        np.testing.assert_allclose(given.table[column], same.table[column], rtol=1e-9)
    numeric = emmeans(own, "f", type="response", inverse=np.exp)
    np.testing.assert_allclose(numeric.table["SE"], same.table["SE"], rtol=1e-7)


def test_bad_arguments() -> None:
    fit = fit_of("crossed")
    with pytest.raises(DataError, match="not transformed"):
        emmeans(fit, "f", type="response")
    with pytest.raises(ValueError, match='type="response"'):
        emmeans(fit, "f", bias_adjust=True)
    with pytest.raises(ValueError, match="ref: 'z' is none of the means: a, b, c"):
        emmeans(fit, "f", contrasts="trt.vs.ctrl", ref="z")
    with pytest.raises(ValueError, match="ref is for"):
        emmeans(fit, "f", contrasts="pairwise", ref="a")
    with pytest.raises(ValueError, match="an expression of the means"):
        emmeans(fit, "f", contrasts="a - nope")
    with pytest.raises(DataError, match="must be a numeric variable"):
        emtrends(fit, "g", "f")
    with pytest.raises(ValueError, match="is among specs"):
        emtrends(fit, "x", "x")
    odd = lmer("cumsum(y) ~ f + (1 | subj)", trials())
    with pytest.raises(DataError, match="cannot be undone"):
        emmeans(odd, "f", type="response")


def test_joint_tests_are_type_three() -> None:
    fit = fit_of("crossed")
    joint = joint_tests(fit).set_index("term")
    table = lmmfast.anova(fit, type="III").table
    for term in ("f", "g", "f:g"):
        assert joint.loc[term, "F"] == pytest.approx(table.loc[term, "F value"], rel=1e-6)
    empty = joint_tests(fit_of("empty"))
    assert empty.set_index("term").loc["f:g", "df1"] == 1


def test_trends_of_streams_and_machines() -> None:
    fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    slope = emtrends(fit, "1", "Days").table
    assert slope["trend"][0] == pytest.approx(fit.params["Days"], rel=1e-9)
    assert slope["SE"][0] == pytest.approx(fit.bse["Days"], rel=1e-9)


def test_what_prints_as_a_table_is_used_as_its_frame():
    machines = lmer("score ~ Machine + (1 | Worker)", datasets.load("Machines"))
    joint = joint_tests(machines)
    pairs = emmeans(machines, "Machine", contrasts="pairwise").contrasts
    for one, column in ((joint, "F"), (pairs, "p")):
        whole = one.to_frame()
        assert one[column].equals(whole[column]) and one.loc[0].equals(whole.loc[0])
        assert one[[column]].equals(whole[[column]]) and len(one) == len(whole)
        assert list(one) == list(whole.columns) and column in one and "loc" in dir(one)
        assert np.array_equal(np.asarray(one[[column]]), whole[[column]].to_numpy())
        assert np.asarray(one).shape == whole.shape
        assert (
            column in one.to_latex() and column in one.to_markdown() and "<table" in one.to_html()
        )
        assert not hasattr(one, "nothing_like_this")
    assert str(joint).splitlines() == [
        "Joint tests of contrasts of means:",
        "term     df1  df2       F       p",
        "Machine    2   46  87.798  <2e-16",
        "Degrees of freedom: Satterthwaite",
    ]
