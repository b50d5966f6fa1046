"""Estimated marginal means against R's emmeans, and what is particular to them."""

import json
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import close
from reference_data import data, reference, reference_names

from lmmfast import LMM, datasets, emmeans, lmer
from lmmfast.errors import DataError, FitError, LmmWarning, RankDeficientWarning
from lmmfast.inference.means.adjust import Family, adjusted, critical
from lmmfast.inference.means.comparisons import contrast_weights

FOLDER = Path(__file__).parent / "emmeans"
DESIGNS = sorted(path.stem for path in FOLDER.glob("*.json"))
METHODS = ("satterthwaite", "kenward-roger")
NEAR = 1e-6  # estimates and their errors, in standard errors
DF = {"satterthwaite": 1e-4, "kenward-roger": 1e-5}  # relative


@cache
def design(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


@cache
def design_fit(name):
    """The fit of one of the designs of emmeans/generate.R."""
    facts = design(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        return lmer(
            facts["formula"],
            data(facts["dataset"]).iloc[:: facts["every"]],
            reml=facts["REML"],
            weights=facts.get("weights"),
            offset=facts.get("offset"),
            contrasts=facts.get("contrasts"),
        )


def numbers(values):
    return np.array(values, dtype=float)  # None becomes NaN


def known(values):
    """Where R has a number; both sides must agree on it."""
    return ~np.isnan(numbers(values))


def same_estimates(found, wanted, estimate, ddf):
    """Estimates, standard errors, degrees of freedom."""
    there = known(wanted["SE"])
    np.testing.assert_array_equal(~found["SE"].isna(), there)
    se = numbers(wanted["SE"])[there]
    own = found[there]
    close(own[estimate], numbers(wanted[estimate])[there], se, NEAR)
    close(own["SE"], se, se, NEAR)
    df = numbers(wanted["df"])[there]
    close(own["df"], df, df, DF[ddf])
    if "lower.CL" in wanted:
        close(own["lower"], numbers(wanted["lower.CL"])[there], se, 1e-4)
        close(own["upper"], numbers(wanted["upper.CL"])[there], se, 1e-4)


def same_cells(found, wanted, names):
    for name in names:
        assert found[name].astype(str).str.removesuffix(".0").to_list() == list(
            map(str, wanted[name])
        )


WITHOUT_KR = ("schools", "two_values", "weighted")  # ML fits; pbkrtest takes weights for one


@pytest.mark.parametrize("ddf", METHODS)
@pytest.mark.parametrize("name", DESIGNS)
def test_emmeans_of_r(name, ddf):
    results = design(name)["results"]
    if ddf == "kenward-roger" and name in WITHOUT_KR:
        assert not any(ddf in result for result in results)
        return
    assert results
    for result in results:
        ask, wanted = result["ask"], result[ddf]
        found = emmeans(design_fit(name), **ask, ddf=ddf)
        same_cells(found.table, wanted["means"], [*found.specs, *found.by])
        same_estimates(found.table, wanted["means"], "emmean", ddf)
        if "contrasts" not in ask:
            assert found.contrasts is None
            continue
        same_estimates(found.contrasts, wanted["contrasts"], "estimate", ddf)
        same_cells(found.contrasts, wanted["contrasts"], found.by)
        there = known(wanted["contrasts"]["p.value"])
        p = numbers(wanted["contrasts"]["p.value"])[there]
        close(found.contrasts["p"][there], p, 1.0, 1e-6)
        same_estimates(found.conf_int(), wanted["intervals"], "estimate", ddf)


WITH_MEANS = [name for name in reference_names() if "emmeans_satterthwaite" in reference(name)]


@pytest.mark.parametrize("name", WITH_MEANS)
def test_emmeans_of_the_reference_models(name):
    facts = reference(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        fit = lmer(facts["formula"], data(name.split("__")[0]), reml=facts["REML"])
    for ddf in METHODS:
        wanted = facts[f"emmeans_{ddf.replace('-', '_')}"]
        found = emmeans(fit, wanted["spec"], contrasts="pairwise", adjust="none", ddf=ddf)
        same_estimates(found.table, wanted["means"], "emmean", ddf)
        pairs = wanted["pairs_unadjusted"]
        same_estimates(found.contrasts, pairs, "estimate", ddf)
        assert found.contrasts["contrast"].to_list() == pairs["contrast"]


@pytest.fixture(scope="module")
def machines():
    return lmer("score ~ Machine + (1 | Worker)", datasets.load("Machines"))


@pytest.fixture(scope="module")
def cake():
    return lmer("angle ~ recipe * temp + (1 | recipe:replicate)", datasets.load("cake"))


def test_means_are_combinations_of_coefficients(cake):
    found = emmeans(cake, "recipe", at={"temp": 200})
    test = cake.t_test(found.L)
    np.testing.assert_allclose(found.table["emmean"], test.effect, rtol=1e-12)
    np.testing.assert_allclose(found.table["SE"], test.sd, rtol=1e-12)
    np.testing.assert_allclose(found.table[["lower", "upper"]], test.conf_int(), rtol=1e-12)
    own = cake.predict({"recipe": ["A", "B", "C"], "temp": [200] * 3}, re_form="none")
    np.testing.assert_allclose(found.table["emmean"], own, rtol=1e-12)


def test_ways_to_write_specs():
    fit = design_fit("obk")
    pairs = emmeans(fit, ["treatment", "gender"]).table
    for specs in ("treatment * gender", "treatment:gender", "~ treatment + gender"):
        pd.testing.assert_frame_equal(emmeans(fit, specs).table, pairs)
    within = emmeans(fit, "treatment", by="gender")
    for other in (emmeans(fit, "treatment | gender"), fit.emmeans("~ treatment | gender")):
        pd.testing.assert_frame_equal(other.table, within.table)
    assert within.specs == ("treatment",)
    assert within.by == ("gender",)


def test_the_text_says_what_was_done(cake):
    fit = lmer("log(angle) ~ recipe * temperature + (1 | recipe:replicate)", datasets.load("cake"))
    found = emmeans(fit, "recipe", contrasts="pairwise", ddf="kenward-roger")
    text = str(found)
    for part in (
        "Means are on the scale of log(angle)",
        "Averaged over the levels of: temperature",
        "Means may mislead",
        "Degrees of freedom: Kenward-Roger; standard errors are adjusted",
        "Confidence level: 0.95",
        "tukey method for comparing a family of 3 estimates",
    ):
        assert part in text
    assert text == repr(found)
    assert found._repr_html_().count("<table>") == 2
    plain = str(emmeans(cake, "recipe", contrasts="consec", by="temp", ddf="z"))
    assert "holm method for 2 tests in each level of temp" in plain
    assert "Contrasts" not in str(emmeans(cake, "recipe"))
    assert "At: temp = 200" in str(emmeans(cake, "recipe"))
    assert "  z  " in plain


def test_empty_cells_are_missing_and_said_to_be():
    found = emmeans(design_fit("empty"), "nitrof")
    assert found.table["emmean"].isna().sum() == 1
    assert "NA: 1 mean is not estimable" in str(found)
    assert emmeans(design_fit("stool"), "Type").table.notna().all().all()


def test_columns_that_were_dropped_change_nothing():
    frame = datasets.load("cake")
    with pytest.warns(RankDeficientWarning):
        fit = lmer("angle ~ recipe + temp + temperature + (1 | recipe:replicate)", frame)
    plain = lmer("angle ~ recipe + temperature + (1 | recipe:replicate)", frame)
    found = emmeans(fit, "recipe", contrasts="pairwise").contrasts.to_frame()
    wanted = emmeans(plain, "recipe", contrasts="pairwise").contrasts.to_frame()
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-6)
    # the mean temperature is not the temperature of any level
    assert emmeans(fit, "temperature").table["emmean"].isna().all()


def test_data_may_change_after_the_fit(cake):
    frame = datasets.load("cake")
    fit = lmer("angle ~ recipe * temp + (1 | recipe:replicate)", frame)
    frame.loc[:, "temp"] = 0.0
    pd.testing.assert_frame_equal(emmeans(fit, "recipe").table, emmeans(cake, "recipe").table)


def test_codings_do_not_matter():
    frame = data("obk.long")
    formula = "value ~ treatment * gender + (1 | id)"
    tables = [
        emmeans(lmer(formula, frame, contrasts=contrasts), "treatment").table
        for contrasts in (None, {"treatment": "sum", "gender": "helmert"})
    ]
    pd.testing.assert_frame_equal(*tables, rtol=1e-6)


def test_logical_variables_and_labels():
    frame = data("Orthodont").assign(
        old=lambda d: d["age"] > 10, sex=lambda d: d["Sex"].astype(str)
    )
    fit = lmer("distance ~ old * sex + (1 | Subject)", frame)
    found = emmeans(fit, "old", by="sex", contrasts="pairwise")
    assert found.table["old"].to_list() == [False, True] * 2
    assert found.contrasts["sex"].to_list() == ["Female", "Male"]
    cells = frame.groupby(["sex", "old"])["distance"].mean()
    np.testing.assert_allclose(found.table["emmean"], cells, rtol=1e-10)
    one = emmeans(fit, "sex", at={"old": True}).table
    np.testing.assert_allclose(one["emmean"], cells[:, True], rtol=1e-10)


def test_offset_given_as_an_array():
    frame = data("Orthodont")
    fit = lmer("distance ~ Sex + (1 | Subject)", frame, offset=frame["age"].to_numpy() / 2)
    term = design_fit("offsets")
    pd.testing.assert_frame_equal(emmeans(fit, "Sex").table, emmeans(term, "Sex").table, rtol=1e-6)


def test_contrasts_by_matrix_table_and_name(machines):
    rows = np.array([[1, -0.5, -0.5], [0, 1, -1]])
    found = emmeans(machines, "Machine", contrasts=rows).contrasts.to_frame()
    named = emmeans(
        machines, "Machine", contrasts={"rest": rows[0], "BC": rows[1]}
    ).contrasts.to_frame()
    table = pd.DataFrame(rows, index=["rest", "BC"], columns=list("ABC"))
    framed = emmeans(machines, "Machine", contrasts=table).contrasts.to_frame()
    pd.testing.assert_frame_equal(named, framed)
    assert found["contrast"].to_list() == ["c0", "c1"]
    assert named["contrast"].to_list() == ["rest", "BC"]
    np.testing.assert_array_equal(found["estimate"], named["estimate"])


def test_tukey_of_other_contrasts_is_sidak(machines):
    found = emmeans(machines, "Machine", contrasts="consec", adjust="tukey")
    assert found.adjust == "sidak"
    means = emmeans(machines, "Machine")
    pd.testing.assert_frame_equal(means.conf_int(), means.table)


def test_polynomials_are_those_of_the_tables():
    names, weights = contrast_weights("poly", [str(i) for i in range(7)])
    assert names == ["linear", "quadratic", "cubic", "quartic", "degree 5", "degree 6"]
    np.testing.assert_array_equal(weights[0], [-3, -2, -1, 0, 1, 2, 3])
    np.testing.assert_array_equal(weights[2], [-1, 1, 1, 0, -1, -1, 1])
    np.testing.assert_array_equal(weights[5], [1, -6, 15, -20, 15, -6, 1])
    assert len(contrast_weights("poly", [str(i) for i in range(9)])[0]) == 6


def test_adjustments():
    # R: p.adjust(c(.01, .04, .03, .005), "holm"); sidak by its formula; ptukey, qtukey
    t = np.array([-2.5758293035489, 2.0537489106318, 2.1700903775846, 2.8070337683438])
    z = np.full(4, np.inf)
    p = adjusted(t, z, Family(4, None), "none")
    np.testing.assert_allclose(p, [0.01, 0.04, 0.03, 0.005], rtol=1e-8)
    np.testing.assert_allclose(
        adjusted(t, z, Family(4, None), "holm"), [0.03, 0.06, 0.06, 0.02], rtol=1e-8
    )
    np.testing.assert_allclose(adjusted(t, z, Family(4, None), "bonferroni"), 4 * p, rtol=1e-12)
    np.testing.assert_allclose(
        adjusted(t, z, Family(4, None), "sidak"), 1 - (1 - p) ** 4, rtol=1e-12
    )
    df = np.array([10.2, 313.0])
    found = adjusted(np.full(2, 3.5 / np.sqrt(2)), df, Family(6, None), "tukey")
    np.testing.assert_allclose(found, [0.217205789356475, 0.134779915044374], atol=1e-9)
    np.testing.assert_allclose(
        critical(0.95, df, Family(6, None), "tukey", 15) * np.sqrt(2),
        [4.8926461783, 4.05520518506],
        rtol=1e-7,
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"specs": "Worker"}, DataError, "'Worker' is not in the fixed effects"),
        ({"specs": "Machine", "by": "Machine"}, ValueError, "no variable besides"),
        ({"specs": "Machine", "at": {"Mashine": 1}}, DataError, "did you mean 'Machine'"),
        ({"specs": "Machine", "at": {"Machine": ["D"]}}, DataError, "no level 'D'"),
        ({"specs": "Machine", "at": {"Machine": []}}, ValueError, "one value or a list"),
        ({"specs": "Machine", "contrasts": "all"}, ValueError, "'pairwise'"),
        ({"specs": "Machine", "contrasts": [1, -1]}, ValueError, "3 means"),
        ({"specs": "Machine", "contrasts": {"a": "b"}}, ValueError, "weights"),
        ({"specs": "Machine", "adjust": "hsd"}, ValueError, '"dunnettx" or "mvt"'),
        ({"specs": "Machine", "weights": "rows"}, ValueError, "proportional"),
        ({"specs": "Machine", "level": 95}, ValueError, "level"),
        ({"specs": "Machine", "ddf": "t"}, ValueError, "ddf"),
    ],
)
def test_bad_arguments(machines, arguments, error, message):
    with pytest.raises(error, match=message):
        print(emmeans(machines, **arguments))


def test_models_that_have_none():
    codes = np.repeat(np.arange(8), 5)
    y = np.random.default_rng(1).normal(size=40) + codes
    fit = LMM.from_arrays(y, np.ones((40, 1)), [(codes, None)]).fit()
    with pytest.raises(DataError, match="arrays"):
        emmeans(fit, "x0")
    ml = lmer("score ~ Machine + (1 | Worker)", datasets.load("Machines"), reml=False)
    with pytest.raises(FitError):
        emmeans(ml, "Machine", ddf="kenward-roger")


@pytest.mark.parametrize("coding", ["treatment", "sum", "helmert"])
def test_an_empty_cell_is_open_in_every_coding(coding):
    """The cell's own column is all zeros with treatment contrasts, a combination with others."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "a": np.repeat(list("pqr"), 40),
            "b": np.tile(list("uv"), 60),
            "g": np.tile(np.arange(10), 12),
            "y": rng.normal(size=120),
        }
    )
    frame = frame[(frame.a != "r") | (frame.b != "v")]
    with pytest.warns(RankDeficientWarning):
        fit = lmer("y ~ a * b + (1 | g)", frame, contrasts={"a": coding, "b": coding})
    cells = emmeans(fit, "a * b").table.set_index(["a", "b"])["emmean"]
    assert cells.index[cells.isna()].to_list() == [("r", "v")]
    assert emmeans(fit, "a").table["emmean"].isna().to_list() == [False, False, True]
    assert emmeans(fit, "b").table["emmean"].isna().to_list() == [False, True]
    tests = emmeans(fit, "a", contrasts="pairwise").contrasts
    assert tests["p"].isna().to_list() == [False, True, True]
    new = {"a": ["p", "r"], "b": ["v", "v"], "g": [1, 1]}
    with pytest.warns(RankDeficientWarning, match="row 1 of the new data"):
        predicted = fit.predict(new, se=True)
    assert predicted["se"].isna().to_list() == [False, True]


def test_contrasts_that_are_zero_are_not_tested():
    """A linear covariate has no quadratic contrast, whatever rounding makes of it."""
    rng = np.random.default_rng(6)
    x = rng.uniform(size=90)
    frame = pd.DataFrame({"x": x, "g": np.tile(np.arange(9), 10), "y": x + rng.normal(size=90)})
    fit = lmer("y ~ x + (1 | g)", frame)
    for values in ([0.1, 0.2, 0.3], [1, 2, 3], [2001.1, 2001.2, 2001.3]):
        found = emmeans(fit, "x", at={"x": values}, contrasts="poly").contrasts.loc[1]
        assert found["estimate"] == 0 and found["SE"] == 0 and np.isnan(found["p"])


def test_what_cannot_be_compared_is_refused_at_once(cake):
    with pytest.raises(ValueError):
        emmeans(cake, "recipe", contrasts="everything")
    for at in ({"temp": np.nan}, {"temp": "hot"}, {"temp": [1, 1]}, {"recipe": ["A", "A"]}):
        with pytest.raises(ValueError, match="at: "):
            emmeans(cake, "recipe", at=at)
    found = emmeans(cake, "recipe")
    table = found.table
    table["emmean"] = 0.0
    assert (found.table["emmean"] > 0).all()


def test_reversed_pairs_and_hints(cake):
    forward = emmeans(cake, "recipe", contrasts="pairwise").contrasts
    backward = emmeans(cake, "recipe", contrasts="revpairwise").contrasts
    assert backward["contrast"].to_list() == ["B - A", "C - A", "C - B"]
    assert np.allclose(forward["estimate"], -backward["estimate"])
    assert np.allclose(forward["p"], backward["p"])
    with pytest.raises(DataError, match="contrasts='pairwise'"):
        emmeans(cake, "pairwise ~ recipe")
    fit = lmer("angle ~ recipe * temperature + (1 | replicate)", datasets.load("cake"))
    assert "temperature, averaged over, interacts with recipe" in str(emmeans(fit, "recipe"))


@pytest.mark.parametrize(
    ("specs", "cure"),
    [("cut(Days, 3)", r"'Days' .*at=\{'Days': \[1, 2\]\}"), (["factor(treat)"], "'treat'$")],
)
def test_expressions_are_no_variables_of_a_grid(specs, cure):
    table = datasets.load("sleepstudy")
    table["treat"] = np.arange(len(table)) % 2
    fit = lmer("Reaction ~ cut(Days, 3) + factor(treat) + (1 | Subject)", table)
    with pytest.raises(DataError, match=f"no variable but an expression: name {cure}"):
        emmeans(fit, specs)
