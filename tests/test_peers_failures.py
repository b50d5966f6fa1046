"""Where other mixed-model packages have been seen to go wrong, each as a test.

Criteria that are not among the references come from lme4 1.1-31: the lowest of six BOBYQA runs
(random starts, tolerances 1e-12), followed by Newton steps with Richardson derivatives. Where
lme4's runs ended far apart the lowest is only an upper bound, and the comparison is one-sided.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import TOLERANCE, close
from reference_data import data, reference
from scipy.stats import multivariate_normal

import lmmfast

SLEEP_ML = 1751.93934446


# Columns: the rule for factors whose main effect or intercept is absent --------------------------


@pytest.mark.parametrize(
    ("fixed", "columns"),
    [
        ("Sex:age", ["Intercept", "Sex[Male]:age", "Sex[Female]:age"]),
        ("age + Sex:age", ["Intercept", "age", "age:Sex[T.Female]"]),
        ("Sex + Sex:age", ["Intercept", "Sex[T.Female]", "Sex[Male]:age", "Sex[Female]:age"]),
        ("0 + Sex + Sex:age", ["Sex[Male]", "Sex[Female]", "Sex[Male]:age", "Sex[Female]:age"]),
        ("0 + Sex * age", ["Sex[Male]", "Sex[Female]", "age", "Sex[T.Female]:age"]),
        ("age - 1", ["age"]),
    ],
)
def test_coding_by_marginality(fixed: str, columns: list[str]) -> None:
    fit = lmmfast.lmer(f"distance ~ {fixed} + (1 | Subject)", data("Orthodont"))
    assert list(fit.params.index) == columns


def test_group_slopes_are_one_model() -> None:
    """Four ways to write separate lines for the sexes: one likelihood."""
    ways = ["age * Sex", "Sex + Sex:age", "0 + Sex + Sex:age", "0 + Sex * age"]
    frame = data("Orthodont")
    found = [
        lmmfast.lmer(f"distance ~ {way} + (1 | Subject)", frame, reml=False).objective
        for way in ways
    ]
    wanted = reference("Orthodont__ri_ml")["criterion"]
    assert found == pytest.approx([wanted] * 4, rel=TOLERANCE.invariance)


def test_random_slopes_of_a_factor() -> None:
    """(0 + f | g) has a column per level, (f | g) an intercept and one less: the same model."""
    frame = data("Machines")
    full = lmmfast.lmer("score ~ Machine + (0 + Machine | Worker)", frame, reml=False)
    coded = lmmfast.lmer("score ~ Machine + (Machine | Worker)", frame, reml=False)
    assert list(full.ranef()["Worker"].columns) == ["Machine[A]", "Machine[B]", "Machine[C]"]
    assert list(coded.ranef()["Worker"].columns) == ["Intercept", "Machine[T.B]", "Machine[T.C]"]
    wanted = reference("Machines__slope_ml")["criterion"]
    assert full.objective == pytest.approx(wanted, rel=TOLERANCE.criterion)
    assert coded.objective == pytest.approx(wanted, rel=TOLERANCE.criterion)


# Units and origin --------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e3, 1e-3, 1e6, 1e-6, -1.0])
def test_units_of_a_predictor(scale: float) -> None:
    frame = data("sleepstudy")
    frame["Days"] = frame["Days"] * scale
    fit = lmmfast.lmer("Reaction ~ Days + (Days | Subject)", frame, reml=False)
    assert fit.converged
    assert fit.objective == pytest.approx(SLEEP_ML, rel=TOLERANCE.invariance)
    assert fit.params["Days"] * scale == pytest.approx(10.46728595959612, rel=1e-8)
    assert fit.bse["Days"] * abs(scale) == pytest.approx(1.5022367828721657, rel=TOLERANCE.beta)


@pytest.mark.parametrize("shift", [1e3, 1e5, 1e8, -1e5])
def test_origin_of_a_predictor(shift: float) -> None:
    frame = data("sleepstudy")
    frame["Days"] = frame["Days"] + shift
    fit = lmmfast.lmer("Reaction ~ Days + (Days | Subject)", frame, reml=False)
    assert fit.converged
    assert fit.objective == pytest.approx(SLEEP_ML, rel=TOLERANCE.invariance)
    assert fit.params["Days"] == pytest.approx(10.46728595959612, rel=1e-8)
    assert fit.bse["Days"] == pytest.approx(1.5022367828721657, rel=TOLERANCE.beta)


def test_origin_of_the_response() -> None:
    """The data keep 1e-7 of a millisecond beside 1e9; the criterion keeps its eight digits."""
    frame = data("sleepstudy")
    frame["Reaction"] = frame["Reaction"] + 1e9
    fit = lmmfast.lmer("Reaction ~ Days + (Days | Subject)", frame, reml=False)
    assert fit.converged
    assert fit.objective == pytest.approx(SLEEP_ML, rel=TOLERANCE.invariance)
    assert fit.params["Intercept"] - 1e9 == pytest.approx(251.40510484848568, abs=1e-5)


# Weights -----------------------------------------------------------------------------------------


def marginal_covariance(fit: lmmfast.LMMFit) -> np.ndarray:
    """sigma^2 (Z T T' Z' + W^-1), n x n, from the estimates."""
    n = fit.nobs
    weights = np.ones(n) if fit.weights is None else fit.weights
    cov = np.diag(1.0 / weights)
    for term, factor in zip(fit.design.terms, fit.estimates.T, strict=True):
        same = term.codes[:, None] == term.codes
        cov = cov + same * (term.z @ factor @ factor.T @ term.z.T)
    return fit.sigma**2 * cov


@pytest.mark.parametrize("weights", [None, "wt"])
def test_log_likelihood_is_the_normal_density(weights: str | None) -> None:
    """Weights count in the density's normalizing constant: sum(log w) is part of it."""
    frame = data("sleepstudy")
    fit = lmmfast.lmer("Reaction ~ Days + (1 | Subject)", frame, reml=False, weights=weights)
    mean = fit.design.X @ fit.params.to_numpy()
    density = multivariate_normal(mean, marginal_covariance(fit)).logpdf(fit.design.y)
    assert fit.llf == pytest.approx(density, rel=1e-10)
    name = "sleepstudy__wt_ri_ml" if weights else None
    if name:
        assert fit.objective == pytest.approx(reference(name)["criterion"], rel=TOLERANCE.criterion)


# Optima that others miss -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["lfbg__max_reml", "kb07__zcp_ml", "bs10__max_ml", "kb07__main_ml", "uighur2__rs_reml"]
)
def test_hard_reference(name: str) -> None:
    wanted = reference(name)
    asked = {
        factor: facts["name"].removeprefix("contr.")
        for factor, facts in wanted["contrasts"].items()
    }
    fit = lmmfast.lmer(
        wanted["formula"], data(wanted["dataset"]), reml=wanted["REML"], contrasts=asked
    )
    assert fit.converged
    assert fit.objective <= wanted["criterion"] + TOLERANCE.above


@pytest.mark.parametrize(
    ("dataset", "formula", "reml", "wanted", "exact"),
    [
        (
            "ScotsSec",  # lme4's runs end at 14865.505 or at 14866.341
            "attain ~ verbal * sex + (verbal | primary) + (verbal | second)",
            True,
            14865.5050629444,
            True,
        ),
        (
            "ScotsSec",  # 14832.551 or 14833.728
            "attain ~ verbal * sex + (sex | primary) + (verbal | second)",
            False,
            14832.5513173261,
            True,
        ),
        (
            "ScotsSec",  # six runs, six values: 14849.720 to 14851.290 before the Newton steps
            "attain ~ verbal * sex + (verbal + sex | primary) + (verbal + sex | second)",
            True,
            14849.4865707838,
            False,
        ),
        ("Sitka", "size ~ Time * treat + (Time | tree)", True, 130.1217589444, True),
        ("Sitka", "size ~ Time * treat + (Time | tree)", False, 98.0704519847, True),
        (
            "Sitka",  # Time is in days since planting, its square is near 1e5
            "size ~ treat * Time + I(Time^2) + (Time + I(Time^2) | tree)",
            True,
            -84.0016871527,
            False,
        ),
    ],
)
def test_hard_slopes(dataset: str, formula: str, reml: bool, wanted: float, exact: bool) -> None:
    fit = lmmfast.lmer(formula, data(dataset), reml=reml)
    assert fit.converged
    assert fit.objective <= wanted + TOLERANCE.above
    if exact:
        assert fit.objective == pytest.approx(wanted, rel=TOLERANCE.criterion)


# Contrasts ---------------------------------------------------------------------------------------


def test_contrasts_are_honoured() -> None:
    frame = data("ergoStool")
    for kind in ("sum", "treatment"):
        name = "ergoStool__sum_reml" if kind == "sum" else "ergoStool__trt_reml"
        wanted = reference(name)
        fit = lmmfast.lmer("effort ~ Type + (1 | Subject)", frame, contrasts={"Type": kind})
        se = np.array(wanted["se"])
        close(fit.params, wanted["beta"], se, TOLERANCE.beta)
        assert fit.objective == pytest.approx(wanted["criterion"], rel=TOLERANCE.criterion)


def test_own_contrast_matrix() -> None:
    """Successive differences: the coefficients are the differences of neighbouring cell means."""
    frame = data("ergoStool")
    cells = np.column_stack([np.full(4, 0.25), np.zeros((4, 3))])
    cells[:, 1:] = np.array(
        [[-0.75, -0.5, -0.25], [0.25, -0.5, -0.25], [0.25, 0.5, -0.25], [0.25, 0.5, 0.75]]
    )
    fit = lmmfast.lmer("effort ~ Type + (1 | Subject)", frame, contrasts={"Type": cells[:, 1:]})
    means = frame.groupby("Type", observed=True)["effort"].mean().to_numpy()
    close(fit.params.to_numpy()[1:], np.diff(means), fit.bse.to_numpy()[1:], 1e-9)


def test_unknown_contrast_is_an_error() -> None:
    with pytest.raises(lmmfast.LmmError, match="Type"):
        lmmfast.lmer("effort ~ Type + (1 | Subject)", data("ergoStool"), contrasts={"Type": "sums"})


# Dependent columns -------------------------------------------------------------------------------


def test_nearly_dependent_column_is_dropped_by_name() -> None:
    """A copy that differs by 1e-9 carries no information that double precision could keep."""
    frame = data("sleepstudy")
    noise = np.random.default_rng(1).normal(size=len(frame))
    frame["copy"] = frame["Days"] + 1e-9 * noise
    with pytest.warns(lmmfast.RankDeficientWarning, match="copy"):
        fit = lmmfast.lmer("Reaction ~ Days + copy + (1 | Subject)", frame)
    assert np.isnan(fit.params["copy"]) and np.isnan(fit.bse["copy"])
    wanted = reference("sleepstudy__ri_reml")
    assert fit.objective == pytest.approx(wanted["criterion"], rel=TOLERANCE.criterion)
    close(fit.params[["Intercept", "Days"]], wanted["beta"], wanted["se"], TOLERANCE.beta)


def test_correlated_columns_are_kept() -> None:
    """A correlation of 0.9999995 is still data: nothing is dropped, nothing warned."""
    frame = data("sleepstudy")
    frame["near"] = frame["Days"] + 3e-3 * np.random.default_rng(2).normal(size=len(frame))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = lmmfast.lmer("Reaction ~ Days + near + (1 | Subject)", frame)
    assert np.isfinite(fit.bse).all()


# Names -------------------------------------------------------------------------------------------


def names_frame() -> pd.DataFrame:
    """Dotted names, a factor with levels that look like code, and three crossed factors."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "log.rt": rng.normal(6, 0.3, 240),
            "word.len": rng.uniform(1, 9, 240),
            "grp": np.tile(["low dose", "high-dose"], 120),
            "a": np.tile(["a1", "a1", "a2", "a2"], 60),
            "b": np.repeat(["b1", "b2", "b3"], 80),
            "subj.id": np.tile(np.arange(20), 12),
        }
    )
    frame["log.rt"] += rng.normal(0, 0.5, 20)[frame["subj.id"]]
    return frame


def test_names_keep_levels_dots_and_functions() -> None:
    fit = lmmfast.lmer(
        "log.rt ~ grp + log(word.len) + I(word.len^2) + (1 | subj.id)", names_frame()
    )
    assert list(fit.params.index)[:2] == ["Intercept", "grp[T.low dose]"]
    assert "log(word.len)" in fit.params.index
    assert fit.n_levels == {"subj.id": 20}


def test_no_intercept() -> None:
    fit = lmmfast.lmer("log.rt ~ 0 + grp + word.len + (1 | subj.id)", names_frame())
    assert list(fit.params.index) == ["grp[high-dose]", "grp[low dose]", "word.len"]


def test_three_way_interaction_and_grouping() -> None:
    with pytest.warns(
        lmmfast.RankDeficientWarning, match="1 of 13 columns"
    ):  # as in R: + intercept
        fit = lmmfast.lmer("log.rt ~ grp:a:b + (1 | subj.id) + (1 | grp:a:b)", names_frame())
    kept = fit.params.notna().sum()
    assert kept == 12
    assert fit.n_levels == {"subj.id": 20, "grp:a:b": 12}
    assert set(fit.ranef()["grp:a:b"].index) >= {"low dose:a1:b1", "high-dose:a2:b3"}
