"""glmer(): responses in every form, what is refused in words, and lme4's generalized models."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import close
from dense_glmm import DenseGeneralized
from reference_data import data, generalized_names, reference
from scipy import stats
from scipy.special import gammaln

import lmmfast
from lmmfast import GLMM, DataError, FitError, FormulaError, SeparationWarning, glmer, lmer
from lmmfast.engine.options import Options

LAPLACE = [name for name in generalized_names() if reference(name)["nAGQ"] == 1]


def choose(successes: np.ndarray, trials: np.ndarray) -> float:
    """Sum of log binomial coefficients."""
    log_choose = gammaln(trials + 1) - gammaln(successes + 1) - gammaln(trials - successes + 1)
    return float(log_choose.sum())


@pytest.fixture(scope="module")
def cbpp() -> pd.DataFrame:
    return data("cbpp")


@pytest.fixture(scope="module")
def herds(cbpp: pd.DataFrame) -> Any:
    return glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp)


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    """12 subjects with 20 rows of every kind of response."""
    rng = np.random.default_rng(11)
    subj, x = np.repeat(np.arange(12), 20), rng.normal(size=240)
    eta = 0.3 + 0.5 * x + 0.8 * rng.normal(size=12)[subj]
    hit = rng.random(240) < 1 / (1 + np.exp(-eta))
    return pd.DataFrame(
        {
            "subj": subj,
            "x": x,
            "cond": np.tile(["a", "b", "c", "d"], 60),
            "hit": hit,
            "word": np.where(hit, "yes", "no"),
            "count": rng.poisson(np.exp(0.5 + 0.3 * x)),
            "time": rng.gamma(3, np.exp(eta) / 3),
            "grade": pd.cut(eta + rng.logistic(size=240), [-99, -1, 0, 1, 99], labels=list("DCBA")),
            "k": rng.integers(1, 4, 240),
        }
    )


# ---- lme4's models -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAPLACE)
def test_fits_are_lme4s(name: str) -> None:
    """Not above lme4's criterion, below it by what its inexact modes add, at its parameters."""
    wanted = reference(name)
    given = wanted["formula"], data(wanted["dataset"]), wanted["family"], wanted["link"]
    fit = glmer(*given, information="expected")
    assert fit.converged
    assert 0 <= wanted["criterion"] - fit.objective + 1e-8 < 6e-5
    close(fit.params, wanted["beta"], wanted["se"], 1e-3)
    groups = [term["group"] for term in wanted["terms"]]
    theta = dict(zip(groups, wanted["theta"], strict=True))  # one intercept a term
    close(fit.theta, [theta[term.group] for term in fit.design.terms], 1.0, 1e-4)
    assert fit.nobs == wanted["n"]
    close(fit.fittedvalues.to_numpy().sum(), wanted["fitted_sum"], wanted["fitted_sum"], 1e-4)


def test_information_matters_for_other_links(cbpp: pd.DataFrame, herds: Any) -> None:
    """The two agree where the link is canonical, by the definition of canonical."""
    for link, differs in (("logit", False), ("probit", True)):
        one, other = (
            glmer(herds.formula, cbpp, "binomial", link, information=own)
            for own in ("observed", "expected")
        )
        assert (abs(one.objective - other.objective) > 0.05) == differs
        assert not np.isnan(other.bse).any()
    same = glmer(herds.formula, cbpp, information="expected")
    close(same.objective, herds.objective, 1.0, 1e-9)
    with pytest.raises(ValueError, match="observed"):
        glmer(herds.formula, cbpp, information="fisher")


@pytest.mark.parametrize("name", [name for name in LAPLACE if "Thailand" not in name])
def test_standard_errors_are_those_of_the_hessian(name: str) -> None:
    """lme4's of its defaults, from second differences of an inexact criterion; Thailand's are
    far off, its default fit stopped early."""
    wanted = reference(name)
    given = wanted["formula"], data(wanted["dataset"]), wanted["family"], wanted["link"]
    fit = glmer(*given, information="expected")
    theirs = np.sqrt(np.diag(wanted["vcov_default_hessian"]))
    close(fit.bse, theirs, theirs, 3e-2)


def dense_of(fit: Any) -> DenseGeneralized:
    """The dense model of a fit, without its formula."""
    design, terms = fit.design, fit.design.terms
    factors = [
        (t.codes, len(t.levels), t.source.values, np.full(t.source.width, -i - 1))
        for i, t in enumerate(terms)
    ]
    family = {"family": fit.family.core_name, "link": fit.family.core_link}
    family |= {"classes": fit.model.classes, "offset": design.offset}
    return DenseGeneralized(design.y, design.X, factors, design.weights, **family)


@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("hit ~ x + (1 | subj)", "binomial"),
        ("count ~ x + (1 + x | subj)", "poisson"),
        ("time ~ x + (1 | subj)", "gamma"),
        pytest.param("grade ~ x + (1 | subj)", "ordered", marks=pytest.mark.slow),
    ],
)
def test_covariance_is_twice_the_inverse_hessian(
    trials: pd.DataFrame, formula: str, family: str
) -> None:
    fit = glmer(formula, trials, family)
    dense, psi = dense_of(fit), fit.estimates.psi
    close(fit.objective, dense.value(psi), abs(fit.objective), 1e-12)
    free = ~np.isnan(fit.estimates.covariance.diagonal())
    H = np.empty((len(psi), len(psi)))
    for j, e in enumerate(np.eye(len(psi))):
        ends = [dense.value(psi + side * 1e-4 * e, gradient=True)[1] for side in (1, -1)]
        H[j] = (ends[0] - ends[1]) / 2e-4
    wanted = 2 * np.linalg.inv(H[np.ix_(free, free)])
    found = fit.estimates.covariance[np.ix_(free, free)]
    unit = np.sqrt(np.diag(wanted))
    close(found / np.outer(unit, unit), wanted / np.outer(unit, unit), 1.0, 1e-4)


def test_a_gaussian_model_is_lmers(trials: pd.DataFrame) -> None:
    linear = lmer("time ~ x + (1 + x | subj)", trials, reml=False, weights="k")
    fit = glmer("time ~ x + (1 + x | subj)", trials, "gaussian", weights="k")
    close(fit.objective, linear.objective, 1.0, 1e-7)
    close(fit.params, linear.params, linear.bse, 1e-4)
    close(fit.extra["dispersion"], linear.sigma**2, linear.sigma**2, 1e-4)
    close(fit.theta, linear.theta * linear.sigma, linear.sigma, 1e-3)


# lme4 leaves out -2 log-likelihood of the saturated model where it has more than one node.
SATURATED = {
    "glmm__cbpp__agq9": "binomial",
    "glmm__Contraception__agq9": None,  # which is 0 for binary rows
    "glmm__epil__agq9": "poisson",
}


@pytest.mark.parametrize("name", SATURATED)
def test_quadrature_is_lme4s(name: str) -> None:
    wanted = reference(name)
    fit = glmer(wanted["formula"], data(wanted["dataset"]), wanted["family"], nagq=9)
    y, w = fit.design.y, fit.design.weights
    constant = 0.0
    if SATURATED[name] == "binomial":
        constant = -2 * stats.binom.logpmf(y, w, y / w).sum()
    elif SATURATED[name] == "poisson":
        constant = -2 * stats.poisson.logpmf(y, y).sum()
    above = wanted["criterion"] + constant - fit.objective
    assert -1e-8 < above < 1e-7
    close(fit.params, wanted["beta"], wanted["se"], 1e-3)
    close(fit.theta, wanted["theta"], 1.0, 1e-4)


def test_quadrature_has_its_models(trials: pd.DataFrame) -> None:
    with pytest.raises(FitError, match="2 grouping factors"):
        glmer("hit ~ x + (1 | subj) + (1 | cond)", trials, nagq=5)
    with pytest.raises(FitError, match="4 random columns"):
        glmer("hit ~ x + (cond | subj)", trials, nagq=5)
    with pytest.raises(ValueError, match="at least 1"):
        glmer("hit ~ x + (1 | subj)", trials, nagq=0)
    two = glmer("hit ~ x + (1 + x | subj)", trials, nagq=7)
    close(two.objective, glmer(two.formula, trials, nagq=9).objective, 1.0, 1e-3)
    assert not np.isnan(two.bse).any()


# ---- the same response in several forms ----------------------------------------------------------


def test_successes_and_shares_are_one_response(cbpp: pd.DataFrame, herds: Any) -> None:
    weights: list[Any] = ["size", cbpp["size"], cbpp["size"].to_numpy(), list(cbpp["size"])]
    for given in weights:
        fit = glmer("incidence / size ~ period + (1 | herd)", cbpp, weights=given)
        assert fit.objective == herds.objective
        assert fit.design.outcome.form == "share"
    close(fit.design.y, cbpp["incidence"], 1.0, 0.0)
    close(fit.design.weights, cbpp["size"], 1.0, 0.0)


def test_shares_may_be_rounded(cbpp: pd.DataFrame, herds: Any) -> None:
    rounded = cbpp.assign(prop=cbpp["prop"].round(5))
    assert glmer("prop ~ period + (1 | herd)", rounded, weights="size").objective == herds.objective


def test_trials_one_by_one_differ_by_a_constant(cbpp: pd.DataFrame, herds: Any) -> None:
    sizes = cbpp["size"].astype(int)
    each = cbpp.loc[cbpp.index.repeat(sizes), ["herd", "period"]].reset_index(drop=True)
    rank = np.concatenate([np.arange(size) for size in sizes])
    each["ill"] = (rank < cbpp["incidence"].repeat(sizes).to_numpy()).astype(int)
    fit = glmer("ill ~ period + (1 | herd)", each)
    constant = choose(cbpp["incidence"].to_numpy(), cbpp["size"].to_numpy())
    close(fit.objective - 2 * constant, herds.objective, 1.0, 1e-8)
    close(fit.params, herds.params, herds.bse, 1e-5)
    close(fit.bse, herds.bse, herds.bse, 1e-5)


@pytest.mark.parametrize(
    "left", ["hit", "word", "(word == 'yes')", "as.numeric(hit)", "1 * hit", "factor(word)"]
)
def test_a_success_is_the_second_level(trials: pd.DataFrame, left: str) -> None:
    fit, wanted = (glmer(f"{one} ~ x + (1 | subj)", trials) for one in (left, "hit"))
    assert fit.objective == wanted.objective
    assert fit.params["x"] == wanted.params["x"]


def test_the_success_is_said(trials: pd.DataFrame) -> None:
    fit = glmer("word ~ x + (1 | subj)", trials)
    assert fit.design.outcome.levels == ("no", "yes")
    assert "'yes'" in fit.design.outcome.said
    turned = trials.assign(word=pd.Categorical(trials["word"], ["yes", "no"]))
    other = glmer("word ~ x + (1 | subj)", turned)
    close(other.params, -fit.params, fit.bse, 1e-5)
    assert glmer("hit ~ x + (1 | subj)", trials).design.outcome.said == ""


def test_binary_rows_with_trials(trials: pd.DataFrame) -> None:
    """A row of weight k is k rows, but for the constant, which is none: all or no successes."""
    fit = glmer("hit ~ x + (1 | subj)", trials, weights="k")
    each = trials.loc[trials.index.repeat(trials["k"])]
    close(fit.objective, glmer("hit ~ x + (1 | subj)", each).objective, 1.0, 1e-8)


@pytest.mark.parametrize(("left", "family"), [("count", "poisson"), ("count", "nbinom2")])
def test_weights_of_counts_repeat_rows(trials: pd.DataFrame, left: str, family: str) -> None:
    fit = glmer(f"{left} ~ x + (1 | subj)", trials, family, weights="k")
    each = trials.loc[trials.index.repeat(trials["k"])]
    wanted = glmer(f"{left} ~ x + (1 | subj)", each, family)
    close(fit.objective, wanted.objective, 1.0, 1e-7)
    close(fit.params, wanted.params, wanted.bse, 1e-4)


def test_offsets(trials: pd.DataFrame) -> None:
    exposed = trials.assign(time_at_risk=trials["k"].astype(float), known=np.log(trials["k"]))
    fits = [
        glmer("count ~ x + offset(log(time_at_risk)) + (1 | subj)", exposed, "poisson"),
        glmer("count ~ x + (1 | subj)", exposed, "poisson", offset="known"),
        glmer("count ~ x + offset(known / 2) + (1 | subj)", exposed, "poisson", offset="known"),
    ]
    assert fits[0].objective == fits[1].objective
    close(fits[0].objective, dense_of(fits[0]).value(fits[0].estimates.psi), 1.0, 1e-9)
    assert fits[2].objective != fits[0].objective
    close(fits[2].design.offset, 1.5 * exposed["known"], 1.0, 1e-14)


def test_two_classes_are_a_binary_response(trials: pd.DataFrame) -> None:
    binary = glmer("hit ~ x + (1 | subj)", trials)
    ordered = glmer("hit ~ x + (1 | subj)", trials, "ordered")
    close(ordered.objective, binary.objective, 1.0, 1e-8)
    close(ordered.params["x"], binary.params["x"], 1.0, 1e-5)
    assert list(ordered.params.index) == ["x"]
    close(ordered.extra.to_numpy()[0], -binary.params["Intercept"], 1.0, 1e-5)


def test_ordered_classes_in_every_form(trials: pd.DataFrame) -> None:
    wanted = glmer("grade ~ x + cond + (1 | subj)", trials, "ordered")
    assert list(wanted.extra.index) == ["D|C", "C|B", "B|A"]
    assert (np.diff(wanted.extra) > 0).all()
    assert "Intercept" not in wanted.params.index
    numbers = trials.assign(grade=trials["grade"].cat.codes + 10)
    texts = trials.assign(grade=trials["grade"].astype(str))
    fits = [
        glmer("grade ~ x + cond + (1 | subj)", numbers, "ordinal"),
        glmer(
            "factor(grade, levels = c('D', 'C', 'B', 'A')) ~ x + cond + (1 | subj)",
            texts,
            "ordered",
        ),
    ]
    for fit in fits:
        assert fit.objective == wanted.objective
    assert list(fits[0].extra.index) == ["10|11", "11|12", "12|13"]


def test_levels_that_no_row_has_are_no_classes(trials: pd.DataFrame) -> None:
    some = trials[trials["grade"] != "C"]
    fit = glmer("grade ~ x + (1 | subj)", some, "ordered")
    assert list(fit.extra.index) == ["D|B", "B|A"]


def test_one_row_per_level(cbpp: pd.DataFrame, herds: Any) -> None:
    """Overdispersion by an effect of every row: refused in linear models, not here."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = glmer(f"{herds.formula} + (1 | obs)", cbpp)
    assert fit.objective < herds.objective
    close(fit.objective, dense_of(fit).value(fit.estimates.psi), 1.0, 1e-9)


def test_variances_that_are_hard_to_tell(trials: pd.DataFrame) -> None:
    rows = trials.assign(row=np.arange(240), again=trials["subj"].astype(str))
    for left, family, words in (
        ("hit", "binomial", "that of the link"),
        ("grade", "ordered", "that of the link"),
        ("count", "nbinom2", "the size of the family"),
    ):
        with pytest.warns(lmmfast.OneRowPerLevelWarning, match=words):
            glmer(f"{left} ~ x + (1 | row)", rows, family)
    with pytest.warns(lmmfast.IdentifiabilityWarning, match="divide the rows in the same way"):
        glmer("hit ~ x + (1 | subj) + (1 | again)", rows)


# ---- what is refused -----------------------------------------------------------------------------

REFUSED = [
    ("x ~ cond + (1 | subj)", "binomial", {}, "'x' is .* in row 1 and .*cbind"),
    ("1 * hit + 1 ~ cond + (1 | subj)", "binomial", {}, r"is 2 in row .*== 2\) ~"),
    ("x / 10 + 0.5 ~ cond + (1 | subj)", "binomial", {}, "share .* weights=trials"),
    ("hit ~ cond + (1 | subj)", "binomial", {"weights": "x2"}, "whole numbers; in row 0"),
    ("k / 7 ~ cond + (1 | subj)", "binomial", {"weights": "k"}, "no whole number of successes"),
    ("cond ~ x + (1 | subj)", "binomial", {}, "has 4 levels .*cond == 'd'"),
    ("cbind(k, -count) ~ x + (1 | subj)", "binomial", {}, "negative count in row"),
    ("cbind(k, x2) ~ x + (1 | subj)", "binomial", {}, "not whole in row 0"),
    ("cbind(k - k, count - count) ~ x + (1 | subj)", "binomial", {}, "neither successes nor"),
    ("cbind(k, count) ~ x + (1 | subj)", "binomial", {"weights": "k"}, "has the trials already"),
    ("cbind(hit, 1 - hit, k) ~ x + (1 | subj)", "binomial", {}, "has 3 columns"),
    ("(k > 0) ~ x + (1 | subj)", "binomial", {}, "in all rows used"),
    ("0 * k ~ x + (1 | subj)", "binomial", {}, "no row has a success"),
    ("x2 ~ cond + (1 | subj)", "poisson", {}, "whole number; it is .* in row 0.*offset"),
    ("-1 * k ~ cond + (1 | subj)", "nbinom2", {}, "count, 0 or more; it is -"),
    ("0 * k ~ cond + (1 | subj)", "poisson", {}, "0 in all rows"),
    ("word ~ x + (1 | subj)", "poisson", {}, "'word' is not numeric"),
    ("k ~ x + (1 | subj)", "beta", {}, "between 0 and 1, neither of them; it is"),
    ("count ~ x + (1 | subj)", "truncated_poisson", {}, "1 or more; it is 0"),
    ("x ~ cond + (1 | subj)", "gamma", {}, "must be positive; it is -"),
    ("k - k + 2 ~ cond + (1 | subj)", "gamma", {}, "constant \\(2\\)"),
    ("word ~ x + (1 | subj)", "ordered", {}, "text .* order is not known"),
    ("x ~ cond + (1 | subj)", "ordered", {}, "has 240 classes"),
    ("k - k ~ cond + (1 | subj)", "ordered", {}, "only the class '0'"),
    ("hit ~ cond + (1 | subj)", "binomial", {"weights": "gone"}, "'gone' is not in the data"),
]


@pytest.mark.parametrize(("formula", "family", "more", "words"), REFUSED)
def test_responses_that_a_family_does_not_have(
    trials: pd.DataFrame, formula: str, family: str, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        glmer(formula, trials.assign(x2=trials["x"].abs() + 0.1), family, **more)
    assert caught.value.variable is not None


def test_rows_of_the_data_are_named(trials: pd.DataFrame) -> None:
    """Positions in the data, beside dropped rows."""
    wrong = trials.assign(count=trials["count"].astype(float))
    wrong.loc[3, "x"], wrong.loc[7, "count"] = np.nan, 2.5
    with pytest.raises(DataError, match=r"it is 2.5 in row 7") as caught:
        glmer("count ~ x + (1 | subj)", wrong, "poisson")
    assert caught.value.rows == (7,)
    assert caught.value.variable == "count"


def test_an_ordered_response_has_no_intercept_to_take_out(trials: pd.DataFrame) -> None:
    with pytest.raises(FormulaError, match=r"thresholds .* take the place of the intercept"):
        glmer("grade ~ 0 + x + (1 | subj)", trials, "ordered")
    X = np.column_stack([np.ones(len(trials)), trials["x"]])
    with pytest.raises(FitError, match=r"thresholds .* x0"):
        GLMM.from_arrays(trials["grade"].cat.codes, X, [(trials["subj"], None)], "ordered")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("nAGQ", "nagq=9"),
        ("REML", "write reml=True"),
        ("trials", "weights=trials"),
        ("exposure", "offset"),
        ("famly", "did you mean family"),
    ],
)
def test_arguments_of_others(trials: pd.DataFrame, argument: str, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        glmer("hit ~ x + (1 | subj)", trials, **{argument: 1})


def test_lmer_names_glmer(trials: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match=r"glmer\(formula, data, family\)"):
        lmer("hit ~ x + (1 | subj)", trials, family="binomial")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"family": "tweedy"}, ValueError, "there are binomial"),
        ({"link": "loglogit"}, ValueError, "logit, probit"),
        ({"storage": "iterative"}, ValueError, "exact factorization"),
        ({"start": [1.0]}, ValueError, r"shape \(3,\)"),
        ({"start": {"beta": [1.0]}}, ValueError, r"start\['beta'\] needs shape \(2,\)"),
        ({"start": {"sigma": 1}}, ValueError, "theta, beta, extra"),
        ({"max_evals": 0}, ValueError, "at least 1"),
        ({"threads": 0}, ValueError, "threads"),
    ],
)
def test_options_that_mean_nothing(
    trials: pd.DataFrame, more: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        glmer("hit ~ x + (1 | subj)", trials, **more)


# ---- data and labels -----------------------------------------------------------------------------


def test_missing_values_drop_rows(trials: pd.DataFrame, cbpp: pd.DataFrame) -> None:
    gaps = trials.assign(word=trials["word"].mask(trials.index < 2))
    gaps.loc[5, "x"] = np.nan
    fit = glmer("word ~ x + (1 | subj)", gaps)
    assert fit.nobs == 237
    assert fit.design.dropped == {"word": 2, "x": 1}
    assert list(fit.fittedvalues.index[:4]) == [2, 3, 4, 6]
    kept = trials.drop(index=[0, 1, 5])
    assert fit.objective == glmer("word ~ x + (1 | subj)", kept).objective
    empty = cbpp.assign(size=cbpp["size"].where(cbpp.index != 3, 0))
    fit = glmer("prop ~ period + (1 | herd)", empty, weights="size")
    assert fit.design.dropped == {"weights == 0": 1}


def test_tables_of_other_libraries(trials: pd.DataFrame) -> None:
    polars = pytest.importorskip("polars")
    wanted = glmer("word ~ x + cond + (1 | subj)", trials)
    columns = ["word", "x", "cond", "subj"]
    for table in (
        polars.DataFrame({name: trials[name].to_list() for name in columns}),
        {name: trials[name].to_numpy() for name in columns},
    ):
        fit = glmer("word ~ x + cond + (1 | subj)", table)
        assert fit.objective == wanted.objective
        assert list(fit.params.index) == list(wanted.params.index)


def test_text_files(trials: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "trials.csv"
    trials[["word", "count", "x", "subj"]].to_csv(path, index=False)
    for left, family in (("word", "binomial"), ("count", "poisson")):
        fit = glmer(f"{left} ~ x + (1 | subj)", str(path), family)
        close(fit.objective, glmer(f"{left} ~ x + (1 | subj)", trials, family).objective, 1.0, 1e-9)


def test_families_of_others(trials: pd.DataFrame) -> None:
    sm = pytest.importorskip("statsmodels.api")
    wanted = glmer("hit ~ x + (1 | subj)", trials, "binomial", "probit")
    for family in (sm.families.Binomial(sm.families.links.Probit()), "binomial(probit)"):
        assert glmer("hit ~ x + (1 | subj)", trials, family).objective == wanted.objective


def test_dependent_columns_are_dropped(trials: pd.DataFrame) -> None:
    twice = trials.assign(x2=2 * trials["x"])
    with pytest.warns(lmmfast.RankDeficientWarning, match="x2"):
        fit = glmer("hit ~ x + x2 + (1 | subj)", twice)
    wanted = glmer("hit ~ x + (1 | subj)", trials)
    close(fit.objective, wanted.objective, 1.0, 1e-9)
    close(fit.bse[:2], wanted.bse, wanted.bse, 1e-5)
    assert np.isnan(fit.params["x2"])
    assert np.isnan(fit.bse["x2"])


def test_from_arrays(trials: pd.DataFrame, cbpp: pd.DataFrame, herds: Any) -> None:
    X = np.column_stack([np.ones(240), trials["x"]])
    codes = trials["subj"].to_numpy()
    for left, family in (("count", "poisson"), ("time", "gamma")):
        wanted = glmer(f"{left} ~ x + (1 + x | subj)", trials, family)
        model = GLMM.from_arrays(trials[left].to_numpy(), X, [(codes, X)], family)
        close(model.fit().objective, wanted.objective, 1.0, 1e-8)
    counts = cbpp[["incidence", "size"]].to_numpy(float).copy()
    counts[:, 1] -= counts[:, 0]
    terms = [(cbpp["herd"].cat.codes.to_numpy(), None)]
    for y, weights in ((counts, None), (cbpp["prop"], cbpp["size"])):
        model = GLMM.from_arrays(y, herds.design.X, terms, weights=weights)
        close(model.fit().objective, herds.objective, 1.0, 1e-9)
    with pytest.raises(DataError, match="must be a count"):
        GLMM.from_arrays(trials["x"], X, [(codes, None)], "poisson")


# ---- fits ----------------------------------------------------------------------------------------


def test_starts_lead_to_one_optimum(trials: pd.DataFrame) -> None:
    fit = glmer("count ~ x + (1 | subj)", trials, "nbinom2")
    starts: list[Any] = [fit.estimates.psi, {"theta": [2.0]}, {"beta": [1.0, -1.0], "extra": [0.0]}]
    for start in starts:
        again = glmer("count ~ x + (1 | subj)", trials, "nbinom2", start=start)
        close(again.objective, fit.objective, 1.0, 1e-7)
        assert again.converged
    assert glmer("hit ~ x + (1 | subj)", trials, start=None).converged


def test_a_fit_that_is_stopped_says_so(trials: pd.DataFrame) -> None:
    seen: list[Any] = []
    fit = glmer("hit ~ x + (1 | subj)", trials, callback=lambda e: seen.append(e) or e.n >= 2)
    assert (fit.converged, fit.estimates.status) == (False, "stopped by callback")
    assert [e.n for e in seen] == [1, 2]
    assert seen[1].best <= seen[0].best
    with pytest.warns(lmmfast.ConvergenceWarning, match="can still fall"):
        fit = glmer("hit ~ x + (1 | subj)", trials, max_evals=2)
    assert (fit.converged, fit.estimates.status) == (False, "evaluation limit")
    with pytest.warns(lmmfast.ConvergenceWarning, match="out of time"):
        assert not glmer("hit ~ x + (1 | subj)", trials, max_seconds=0).converged


def test_at_and_pickles(trials: pd.DataFrame) -> None:
    fit = glmer("count ~ x + (1 | subj)", trials, "nbinom2")
    there = fit.model.at(fit.estimates.psi)
    assert there.converged
    close(there.objective, fit.objective, 1.0, 1e-9)
    elsewhere = fit.model.at(fit.estimates.psi + 0.3)
    assert not elsewhere.converged
    assert elsewhere.objective > fit.objective + 0.1
    close(fit.fittedvalues, there.fittedvalues, 1.0, 1e-8)  # the model had left
    again = pickle.loads(pickle.dumps(fit))
    assert again.objective == fit.objective
    close(again.bse, fit.bse, fit.bse, 1e-7)
    assert again.model.family == fit.model.family


def test_another_response_without_set_up(trials: pd.DataFrame) -> None:
    fit = glmer("count ~ x + (1 | subj)", trials, "nbinom2")
    model, y = fit.model, np.random.default_rng(3).permutation(fit.design.y)
    found = model.again(fit.design.with_rows(y=y).sums, start=fit.estimates.psi)
    wanted = glmer("count ~ x + (1 | subj)", trials.assign(count=y), "nbinom2")
    close(found.objective, wanted.objective, 1.0, 1e-7)
    close(np.sqrt(np.diag(found.vcov)), wanted.bse, wanted.bse, 1e-4)
    close(model.objective(fit.estimates.psi), fit.objective, 1.0, 1e-9)


def test_parameters_that_are_held(trials: pd.DataFrame) -> None:
    fit = glmer("count ~ x + (1 | subj)", trials, "nbinom2")
    psi = fit.estimates.psi.copy()
    psi[2] = 0.1
    held = np.arange(len(psi)) == 2
    found = fit.model.minimize(Options(False, psi), held)
    assert found.beta[1] == 0.1
    known = trials.assign(slope=0.1 * trials["x"])
    wanted = glmer("count ~ 1 + (1 | subj)", known, "nbinom2", offset="slope")
    close(found.objective, wanted.objective, 1.0, 1e-7)
    close(found.beta[0], wanted.params["Intercept"], wanted.bse["Intercept"], 1e-4)


def test_a_variance_of_zero(trials: pd.DataFrame) -> None:
    half = np.arange(240)
    none = trials.assign(coin=half % 2 == 0, pair=half // 4)  # every pair has as many of each
    fit = glmer("coin ~ x + (1 | pair)", none)
    assert fit.theta[0] == 0
    assert fit.is_singular
    covariance = fit.estimates.covariance
    assert np.isnan(covariance[0, 1:]).all()
    assert not np.isnan(covariance[1:, 1:]).any()


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_nothing(trials: pd.DataFrame, threads: int) -> None:
    one, more = (glmer("hit ~ x + (1 | subj)", trials, threads=k) for k in (1, threads))
    assert one.objective == more.objective
    assert (one.params == more.params).all()


# ---- separation ----------------------------------------------------------------------------------


def separated(trials: pd.DataFrame) -> pd.DataFrame:
    """Every row of one condition is a success."""
    return trials.assign(hit=trials["hit"] | (trials["cond"] == "c"))


def test_separation_names_coefficient_and_level(trials: pd.DataFrame) -> None:
    with pytest.warns(SeparationWarning, match=r"all 60 rows where cond is 'c'.*cond\[T\.c\]"):
        fit = glmer("hit ~ cond + x + (1 | subj)", separated(trials))
    assert fit.separation == ("cond[T.c]",)
    assert fit.estimates.separation.rows == tuple(range(2, 42, 4))
    assert fit.params["cond[T.c]"] > 10


def test_one_row_undoes_a_separation(trials: pd.DataFrame) -> None:
    nearly = separated(trials)
    nearly.loc[2, "hit"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = glmer("hit ~ cond + x + (1 | subj)", nearly)
    assert fit.separation == ()


def test_separation_in_the_reference_level_and_in_counts(trials: pd.DataFrame) -> None:
    with pytest.warns(SeparationWarning, match="where cond is 'c'"):
        fit = glmer("hit ~ cond + (1 | subj)", separated(trials), contrasts={"cond": "sum"})
    assert len(fit.separation) == 4
    none = trials.assign(count=trials["count"] * (trials["cond"] != "b"))
    with pytest.warns(SeparationWarning, match=r"as low as it can be in all 60 rows.*cond\[T\.b\]"):
        glmer("count ~ cond + (1 | subj)", none, "poisson")


def test_a_numeric_predictor_that_separates(trials: pd.DataFrame) -> None:
    with pytest.warns(SeparationWarning, match=r"coefficients? .*x"):
        glmer("(x > 0.2) ~ x + (1 | subj)", trials)


# ---- priors --------------------------------------------------------------------------------------


def test_a_prior_keeps_separated_coefficients(trials: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = glmer("hit ~ cond + x + (1 | subj)", separated(trials), prior={"cond[T.c]": 2.5})
    assert fit.separation == ()
    assert 1 < fit.params["cond[T.c]"] < 10
    assert fit.bse["cond[T.c]"] < 2.5
    assert "cond[T.c] ~ N(0, sd 2.5)" in str(fit.summary())
    assert "penalized" in str(fit.summary())
    penalty = (fit.params["cond[T.c]"] / 2.5) ** 2
    close(fit.estimates.penalty, penalty, 1.0, 1e-12)
    psi, dense = fit.estimates.psi, dense_of(fit)
    close(fit.objective, dense.value(psi), 1.0, 1e-8)
    slope = dense.value(psi, gradient=True)[1]
    slope[1 + list(fit.params.index).index("cond[T.c]")] += 2 * fit.params["cond[T.c]"] / 2.5**2
    close(slope, np.zeros(len(psi)), 1.0, 1e-3)


def test_wide_priors_are_none_and_narrow_ones_hold(trials: pd.DataFrame) -> None:
    formula = "hit ~ cond + x + (1 | subj)"
    free, wide = glmer(formula, trials), glmer(formula, trials, prior=1e6)
    close(wide.params, free.params, free.bse, 1e-5)
    assert "Intercept" not in wide.model.prior
    held = glmer(formula, trials, prior={"x": (0.25, 1e-4)})
    close(held.params["x"], 0.25, 1.0, 1e-3)
    again = pickle.loads(pickle.dumps(held))
    assert again.model.prior == {"x": (0.25, 1e-4)}
    small = glmer("hit ~ cond + (1 | subj)", trials)
    assert "have priors" in str(lmmfast.anova(small, held))
    assert "have priors" not in str(lmmfast.anova(small, free))


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        ({"cond[T.e]": 1}, "did you mean 'cond\\[T"),
        ({"x": 0}, "above 0"),
        ({"x": (1, 2, 3)}, "mean, standard"),
        ("wide", "standard deviation"),
    ],
)
def test_priors_that_mean_nothing(trials: pd.DataFrame, prior: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        glmer("hit ~ cond + x + (1 | subj)", trials, prior=prior)
