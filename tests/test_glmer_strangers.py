"""glmer() as strangers use it: what threads of other packages report again and again."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from random_designs import draw

from lmmfast import (
    GLMM,
    ConvergenceWarning,
    DataError,
    FitError,
    LmmWarning,
    SeparationWarning,
    emmeans,
    glmer,
)


def near(found: object, wanted: object, relative: float) -> None:
    assert_allclose(found, wanted, rtol=relative)


@pytest.fixture(scope="module")
def answers() -> pd.DataFrame:
    """20 subjects with 20 rows each; no variance of items."""
    rng = np.random.default_rng(1)
    subj, item = np.repeat(np.arange(20), 20), np.tile(np.arange(20), 20)
    eta = 0.3 + 0.7 * (item % 2) + rng.normal(size=20)[subj]
    trials = rng.integers(1, 9, 400)
    hit = rng.random(400) < 1 / (1 + np.exp(-eta))
    return pd.DataFrame(
        {
            "subj": subj,
            "item": item,
            "cond": np.where(item % 2, "b", "a"),
            "trials": trials,
            "k": rng.binomial(trials, 1 / (1 + np.exp(-eta))),
            "word": np.where(hit, "yes", "no"),
            "grade": pd.cut(eta + rng.logistic(size=400), [-99, -1, 0, 1, 99], labels=list("DCBA")),
        },
        index=pd.RangeIndex(1000, 1400),
    )


def test_refit_takes_the_response_as_the_formula_had_it(answers: pd.DataFrame) -> None:
    k, trials = answers["k"], answers["trials"]
    shares = glmer("k / trials ~ cond + (1 | subj)", answers, weights="trials")
    both = pd.DataFrame({"yes": k, "no": trials - k})
    for again in (k, k / trials, both, both.iloc[::-1], both.to_numpy()):
        near(shares.refit(again).objective, shares.objective, 1e-10)
    fewer = np.column_stack([k, 2 * trials - k])
    other = glmer("cbind(k, 2 * trials - k) ~ cond + (1 | subj)", answers)
    near(shares.refit(fewer).objective, other.objective, 1e-9)
    words = glmer("word ~ cond + (1 | subj)", answers)
    for again in (answers["word"], answers["word"][::-1], answers["word"].astype("category")):
        near(words.refit(again).objective, words.objective, 1e-10)
    with pytest.raises(DataError, match="'word' is 'maybe' in row 0; the fit has the classes 'no'"):
        words.refit(answers["word"].replace({answers["word"].iloc[0]: "maybe"}))
    grades = glmer("grade ~ cond + (1 | subj)", answers, "ordered")
    for again in (answers["grade"], answers["grade"].astype(str), answers["grade"].cat.codes):
        near(grades.refit(again).objective, grades.objective, 1e-10)


def test_update_changes_family_and_approximation(answers: pd.DataFrame) -> None:
    formula = "word ~ cond + (1 | subj)"
    fit = glmer(formula, answers)
    assert fit.update(family="binomial(probit)").family.link.name == "probit"
    near(
        fit.update(link="cloglog").objective,
        glmer(formula, answers, link="cloglog").objective,
        1e-12,
    )
    near(fit.update(nagq=9).objective, glmer(formula, answers, nagq=9).objective, 1e-12)
    counts = glmer("k ~ cond + (1 | subj)", answers, "poisson")
    other = counts.update(". ~ . - cond", family="nb")
    assert other.extra.index.tolist() == ["size"]
    assert counts.update(family="ordered").thresholds.index[0] == "0|1"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # successes change with their trials: the data do not
        fit.update(weights="trials")


def test_modes_of_no_variance_are_zero(answers: pd.DataFrame) -> None:
    """And so are their conditional standard deviations; every item has the same shares here."""
    data = answers.assign(y=(answers["subj"] % 5 + answers["item"]) % 2)
    with pytest.warns(SeparationWarning, match="each of the 20 levels of 'item'"):
        fit = glmer("y ~ 1 + (1 | item) + (cond | subj)", data.assign(y=np.tile([0, 1], 200)[::-1]))
    assert fit.is_singular
    for term, T in zip(fit.design.terms, fit.estimates.T, strict=True):
        none = ~T.any(axis=1)
        found = fit.ranef(cond_var=True)[term.group].to_numpy().reshape(-1, 2, len(T))
        assert (found[:, :, none] == 0).all() and (found[:, 1, ~none] > 0).all()
    assert any(not T.any(axis=1).all() for T in fit.estimates.T)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("quasipoisson", "negativebinomial.*1 \\| obs"),
        ("quasibinomial", "betabinomial"),
        ("zinb", "a hurdle is two fits"),
        ("multinomial", "pair by pair"),
        ("tweedie", "gamma"),
    ],
)
def test_families_that_there_are_not(answers: pd.DataFrame, family: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"no family {family!r}: .*{words}"):
        glmer("k ~ cond + (1 | subj)", answers, family)


def test_large_counts_are_certified(answers: pd.DataFrame) -> None:
    """Log-likelihoods of 1e9 and more, whose rounding hides what steps gain."""
    rng = np.random.default_rng(5)
    for size in (1e5, 1e7, 1e9):
        y = rng.poisson(size * np.exp(rng.normal(size=20)[answers["subj"]]))
        fit = glmer("y ~ cond + (1 | subj)", answers.assign(y=y), "poisson")
        assert fit.converged and fit.certificate < 1e-6
        sums = np.log(np.bincount(answers["subj"], y) / 20 / size)
        near(fit.theta[0], sums.std(), 0.01)


def test_a_fit_that_was_stopped_at_once_says_so(answers: pd.DataFrame) -> None:
    with pytest.warns(ConvergenceWarning, match="out of time: the fit is where it began"):
        glmer("word ~ cond + (1 | subj)", answers, max_seconds=1e-9)


def test_a_predictor_at_its_edge_is_no_separation(answers: pd.DataFrame) -> None:
    """Of a log-binomial: probabilities of one are reached at eta = 0, nothing goes to infinity."""
    y, z = (answers["word"] == "yes").to_numpy(), np.arange(400) < 30
    data = answers.assign(y=y | z, z=z)
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            glmer("y ~ z + (1 | subj)", data, "binomial(log)")
        said = [str(own.message) for own in heard]
    except FitError as error:
        said = [str(error)]
    assert len(said) == 1 and "edge of the predictors" in said[0] and "logit" in said[0]


def test_what_is_drawn_outside_of_a_link_is_said(answers: pd.DataFrame) -> None:
    rng = np.random.default_rng(6)
    y = rng.poisson(np.maximum(2 + 1.2 * rng.normal(size=20)[answers["subj"]], 0.2))
    fit = glmer("y ~ 1 + (1 | subj)", answers.assign(y=y), "poisson(identity)")
    with pytest.raises(DataError, match="link 'identity' has no mean at the linear predictor -"):
        fit.simulate(200, seed=1)
    assert fit.simulate(2, seed=1, re="fixed").to_numpy().min() >= 0


def test_a_table_as_the_family(answers: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match=r"not a DataFrame: write glmer\(formula, data, family\)"):
        glmer("word ~ cond + (1 | subj)", "binomial", answers)


def test_advice_is_what_the_model_can_do() -> None:
    """information="expected" is advised where it is not what failed."""
    drawn = draw(21)
    for how, advised in ({}, True), ({"information": "expected"}, False):
        model = GLMM.from_arrays(*drawn.arrays, **how)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                model.fit()
            except FitError as error:
                said = str(error)
            else:
                said = str(heard[-1].message)
        assert "lose their curvature" in said and "'identity' has no bounds" in said
        assert ("information='expected'" in said) == advised


def test_who_asks_for_probabilities_gets_them(answers: pd.DataFrame) -> None:
    fit = glmer("grade ~ cond + (1 | subj)", answers, "ordered")
    for kind in ("prob", "class", "response"):
        assert "prob" in emmeans(fit, "cond", type=kind).table
    assert len(fit.predict(type="class")) == fit.nobs
    new = pd.DataFrame({"cond": ["a", "b"]})
    assert_allclose(fit.predict(new, type="response", marginal=True).sum(axis=1), 1, rtol=1e-12)


def test_trials_in_the_place_of_failures(answers: pd.DataFrame) -> None:
    with pytest.warns(LmmWarning, match=r"write cbind\(k, trials - k\)"):
        glmer("cbind(k, trials) ~ cond + (1 | subj)", answers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        glmer("cbind(k, trials - k) ~ cond + (1 | subj)", answers)
        glmer("cbind(k, misses) ~ cond + (1 | subj)", answers.assign(misses=answers["trials"]))
        glmer("cbind(trials, k) ~ cond + (1 | subj)", answers)
    with pytest.raises(TypeError, match='re="fixed" for the modes'):
        glmer("word ~ cond + (1 | subj)", answers).simulate(1, re_form="none")
