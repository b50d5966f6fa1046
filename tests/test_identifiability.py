"""Covariance parameters that no response can tell apart are found by structure and named."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import seldom
from structures import MORE_WIDTHS, STRUCTURES

import lmmfast
from lmmfast import LMM, CrossProducts, DataError, IdentifiabilityWarning, LmmWarning, Spec, lmer
from lmmfast.engine import identify
from lmmfast.engine.identify import overlaps


def rows() -> pd.DataFrame:
    """12 villages of 4 houses, 20 visits each; 20 interviewers; everything labelled twice."""
    rng = np.random.default_rng(3)
    village, visit = np.repeat(np.arange(12), 20), np.tile(np.arange(20), 12)
    house = village * 4 + visit // 5
    y = rng.normal(size=240) + rng.normal(size=12)[village] + rng.normal(size=20)[visit] / 2
    return pd.DataFrame(
        {
            "y": y,
            "x": rng.normal(size=240),
            "w": rng.uniform(0.5, 2, 240),
            "village": village,
            "place": [f"V{v}" for v in village],
            "house": house,
            "address": [f"no. {h}" for h in house],
            "visit": visit,
            "kind": np.array(list("abcd"))[visit // 5],
            "coast": np.array(["in", "by"])[village % 2],
            "height": rng.normal(size=12)[village],
        }
    )


def fit(formula: str, data: Any = None, **options: Any) -> tuple[Any, list[str]]:
    """A fit and the warnings about identifiability that it gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = lmer(formula, rows() if data is None else data, **options)
    said = [str(w.message) for w in caught if issubclass(w.category, IdentifiabilityWarning)]
    return made, said


def ways(formula: str, **options: Any) -> list[tuple[Any, list[str]]]:
    """The same fit from rows in memory and from chunks."""
    data = rows()
    return [fit(formula, data, **options), fit(formula, [data[:90], data[90:]], **options)]


# Factors that divide the rows in the same way -----------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "factors"),
    [
        ("y ~ x + (1 | village) + (1 | place)", ("'village'", "'place'")),
        ("y ~ x + (1 | house) + (1 | address)", ("'house'", "'address'")),
        ("y ~ x + (1 | house) + (1 | village:house)", ("'house'", "'village:house'")),
        ("y ~ (1 | house) + (1 | kind:village)", ("'house'", "'kind:village'")),
        ("y ~ (x | village) + (0 + I(2 * x) | place)", ("'village'", "'place'")),
        ("y ~ (x | village) + (1 | visit) + (x || place)", ("'village'", "'place'")),
    ],
)
def test_equal_partitions_are_named(formula: str, factors: tuple[str, str]) -> None:
    for made, said in ways(formula):
        assert len(said) == 1 and said == list(made.unidentified)
        assert "in the same way" in said[0] and "keep one" in said[0]
        assert all(name in said[0] for name in factors)
        assert made.converged


def test_weights_change_nothing_about_it() -> None:
    for made, said in ways("y ~ x + (1 | village) + (1 | place)", weights="w"):
        assert len(said) == 1 and "in the same way" in made.unidentified[0]


def test_the_warning_says_where() -> None:
    with pytest.warns(IdentifiabilityWarning) as caught:
        lmer("y ~ x + (1 | village) + (1 | place)", rows())
    (warning,) = caught
    assert warning.filename == __file__
    assert warning.message.variable == "village"


def test_arrays() -> None:
    data, rng = rows(), np.random.default_rng(0)
    codes = data["village"].to_numpy()
    terms = [(codes, None), (rng.permutation(12)[codes], None)]
    with pytest.warns(IdentifiabilityWarning, match="'g0' and 'g1' divide the rows"):
        LMM.from_arrays(data["y"], np.ones((240, 1)), terms).fit()


def test_factors_that_agree_in_some_levels_only() -> None:
    """Halves, and which of them agree: together they make up the cells, no two are the same."""
    a, b = np.arange(24) % 2, np.arange(24) // 2 % 2
    y = np.random.default_rng(3).normal(size=24) + a
    data = pd.DataFrame({"y": y, "g": a, "h": b, "c": a ^ b, "cell": a + 2 * b})
    made, said = fit("y ~ 1 + (1 | g) + (1 | h) + (1 | c) + (1 | cell)", data)
    assert not said and len(made.unidentified) == 1
    assert "the fixed effects already take up" in made.unidentified[0]


def test_equal_level_counts_are_not_equal_partitions() -> None:
    """One row in another level, and two variances are two."""
    data = rows()
    data.loc[7, "place"] = "V5"
    for made, said in (
        fit("y ~ x + (1 | village) + (1 | place)", data),
        fit("y ~ x + (1 | village) + (1 | place)", [data[:90], data[90:]]),
    ):
        assert not said and made.unidentified == ()


def test_equal_codes_are_one_factor() -> None:
    """In arrays of their own, too: nothing is divided twice."""
    data = rows()
    codes, x = data["village"].to_numpy(), data["x"].to_numpy()
    model = LMM.from_arrays(data["y"], np.ones((240, 1)), [(codes, None), (codes.copy(), x)])
    assert [term.group for term in model.design.terms] == ["g0", "g0"]
    assert model.fit().n_levels == {"g0": 12} and len(model.fit().ranef()) == 1


def test_all_rows_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what some rows cannot tell apart, the rows that were left out tell a part."""
    data = rows().assign(call=[f"call {v}" for v in rows().visit])
    names = ("village", "place", "house", "address", "visit", "call")
    count = identify.FIRST + 2 * (7 + 2)  # of 7 parts and 2 fixed effects
    seen = [*range(count // 2), *np.linspace(count // 2, 239, count - count // 2).astype(int)]
    data.loc[np.setdiff1d(np.arange(240), seen)[[2, 9]], "place"] = "V0"
    for most in (identify.MOST_NUMBERS, 1.0):
        monkeypatch.setattr(identify, "MOST_NUMBERS", most)
        made, said = fit(f"y ~ x + {' + '.join(f'(1 | {name})' for name in names)}", data)
        assert said == [*made.unidentified] and len(said) == 2
        assert "'house' and 'address' divide" in said[0]
        assert "'visit' and 'call' divide" in said[1]


# Overlaps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "spare"),
    [
        ("y ~ (kind | village) + (1 | village:kind)", "take (1 | village:kind) out"),
        ("y ~ (0 + kind | village) + (x | visit) + (1 | kind:village)", "(1 | kind:village) out"),
    ],
)
def test_a_term_that_another_contains(formula: str, spare: str) -> None:
    for made, said in ways(formula):
        assert said == list(made.unidentified) and len(said) == 1
        assert "overlap" in said[0] and spare in said[0]


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ (1 | village) + (0 + kind | village)", "take (1 | village) out"),
        ("y ~ (1 | village) + (x | village)", "take (1 | village) out"),
        ("y ~ (coast | village)", "write (1 + coast || village)"),
        ("y ~ place + (1 | village)", "fixed effects already take up what (1 | village)"),
        ("y ~ place * x + (x | village)", "fixed effects already take up what (1 + x | village)"),
    ],
)
def test_parts_of_one_factor_are_noted(formula: str, words: str) -> None:
    """lme4's users fit these knowingly: no warning, but the fit says it, on paper too."""
    for made, said in ways(formula):
        assert said == [] and len(made.unidentified) == 1
        assert words in made.unidentified[0]
        text = " ".join(str(made.summary()).split())
        assert f"Not identified: {made.unidentified[0]}." in text
        assert "one choice of many" in text


def test_what_is_written_instead_is_identified() -> None:
    for formula in ("y ~ (1 + coast || village)", "y ~ (0 + kind | village)", "y ~ (x | village)"):
        made, said = fit(formula)
        assert made.unidentified == () and said == []


def test_fixed_effects_take_up_a_factor_under_reml_only() -> None:
    made, _ = fit("y ~ place + (1 | village)", reml=False)
    assert made.unidentified == ()
    assert made.theta[0] == 0


def test_the_residual_variance() -> None:
    """Slopes and intercepts of single rows: sigma^2 is one of their variances."""
    data = rows().assign(row=np.arange(240))
    for made, said in (
        fit("y ~ (x | row)", data),
        fit("y ~ (x | row)", [data[:90], data[90:]]),
    ):
        assert any("from the residual variance, whatever the response" in text for text in said)
        assert len(made.unidentified) == 1


def test_the_residual_variance_has_no_standard_error_then() -> None:
    made, _ = fit("y ~ (0 + kind | visit:village)")
    assert "from the residual variance" in made.unidentified[0]
    assert np.isnan(made.varcorr_se()["se"].iloc[-1])
    assert made.conf_int(parameters=["sigma"]).isna().all(axis=None)


@pytest.mark.parametrize("formula", ["y ~ (1 + place | place)", "y ~ x + (0 + place | place)"])
def test_the_columns_of_the_factor_itself_are_refused(formula: str) -> None:
    for data in (rows(), [rows()[:90], rows()[90:]]):
        with pytest.raises(DataError, match=r"write \(1 \| place\)") as caught:
            lmer(formula, data)
        assert caught.value.variable == "place"


# Models that are identified -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + (x | village)",
        "y ~ x + (x | village) + (x | visit)",
        "y ~ (1 | village / house)",
        "y ~ (1 | village) + (1 | village:kind) + (1 | kind)",
        "y ~ (height | village)",
        "y ~ kind + (kind || village)",
        "y ~ x + (0 + x | village) + (1 | place)",  # one partition, but other columns
        "y ~ coast * kind + (kind | village)",
    ],
)
@pytest.mark.filterwarnings("ignore::lmmfast.DoubleBarWarning")
def test_nothing_is_said_without_reason(formula: str) -> None:
    for made, said in ways(formula):
        assert made.unidentified == () and said == []


@pytest.mark.parametrize("name", seldom(STRUCTURES, MORE_WIDTHS))
def test_rank_of_the_parts(name: str) -> None:
    """Something is found exactly where the parts, as n x n matrices, are dependent."""
    problem = STRUCTURES[name][0]
    n = len(problem.y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        model = LMM.from_arrays(*problem.arrays)
    root = np.ones(n) if problem.weights is None else np.sqrt(problem.weights)
    parts = [np.eye(n)]
    for term in problem.terms:
        z = np.linalg.qr(term.z * root[:, None])[0]
        same = term.codes[:, None] == term.codes
        for r, c in term.free:
            own = np.outer(z[:, r], z[:, c]) * same
            parts.append(own + own.T)
    Q = np.linalg.qr(problem.X * root[:, None])[0]
    free = np.eye(n) - Q @ Q.T
    for reml in (True, False):
        seen = [free @ part @ free if reml else part for part in parts]
        images = np.array([part.ravel() / np.linalg.norm(parts[i]) for i, part in enumerate(seen)])
        dependent = np.linalg.matrix_rank(images, tol=1e-9) < len(parts)
        assert bool(overlaps(model.design, model._engine, reml)) == dependent


def test_one_factor_is_settled_at_set_up() -> None:
    """The usual model of one factor asks nothing: its levels stand alone."""
    data = lmmfast.datasets.load("sleepstudy")
    made = lmer("Reaction ~ Days + (Days | Subject)", data)
    assert made.model.storage["identified"]
    cross = CrossProducts.from_frame(data, Spec.from_data(made.formula, data))
    assert lmer(cross).model.storage["identified"]


def test_profiles_and_errors_of_what_is_not_identified() -> None:
    """Missing standard errors, finite profiles, no division by zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IdentifiabilityWarning)
        made = lmer("y ~ x + (1 | village) + (1 | place)", rows())
        errors = made.varcorr_se()["se"]
        assert errors[:2].isna().all() and np.isfinite(errors.iloc[-1])
        limits = made.conf_int(method="profile", parameters="random")
    assert (limits["lower"] <= limits["upper"]).all()
    assert limits.loc["sd(Intercept | village)", "lower"] == 0


def test_the_residual_of_very_many_rows_is_seen() -> None:
    """Cross-products of a billion rows are large; the residual variance is not lost beside them."""
    rng = np.random.default_rng(5)
    data = {"y": rng.normal(size=600), "x": rng.normal(size=600)}
    data |= {"g": np.arange(600) % 20, "h": np.arange(600) // 20}
    formula = "y ~ x + (1 + x | g) + (1 | h)"
    total = CrossProducts.from_frame(data, Spec.from_data(formula, data))
    for _ in range(21):
        total = total + total
    model = LMM(lmer(total).design)
    engine = model._engine
    parts = identify._parts(engine, 2)
    found = identify._combinations(model.design, engine, parts, True)
    assert found is not None and found.shape == (len(parts), 0)
