"""What a newcomer writes first, and what the answer says."""

from __future__ import annotations

import numpy as np
import pytest

from lmmfast import datasets, design, errors, fit_many, lmer, plan


@pytest.fixture(scope="module")
def fit():
    return lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))


def test_the_modes_of_one_factor_are_not_asked_for_by_its_name(fit):
    with pytest.raises(TypeError, match=r"fit\.ranef\(\)\['Subject'\]"):
        fit.ranef("Subject")


def test_a_method_of_intervals_is_given_by_name(fit):
    with pytest.raises(ValueError, match="method='profile'"):
        fit.conf_int("profile")


@pytest.mark.parametrize(
    ("argument", "answer"), [("correlation", "residual="), ("dispformula", "dispersion=")]
)
def test_arguments_of_nlme_and_glmmtmb_are_answered(argument, answer):
    data = datasets.load("sleepstudy")
    with pytest.raises(TypeError, match=answer):
        lmer("Reaction ~ Days + (Days | Subject)", data, **{argument: "ar1"})


def test_codings_are_not_taken_for_hypotheses():
    trials = design(subjects=8, items=8, within={"cond": ["a", "b"]})
    Y = np.random.default_rng(0).normal(size=(len(trials), 3))
    with pytest.raises(ValueError, match="codings="):
        fit_many("~ cond + (1 | subj)", trials, Y, contrasts={"cond": "deviation"})


def test_many_fits_are_printed_without_a_name_for_what_they_have_many_of():
    trials = design(subjects=8, items=8, within={"cond": ["a", "b"]})
    Y = np.random.default_rng(0).normal(size=(len(trials), 3))
    assert str(fit_many("~ cond + (1 | subj)", trials, Y)).startswith("3 responses, ~ cond +")


def test_plans_have_no_exponents():
    rng = np.random.default_rng(0)
    data = {name: rng.integers(3000, size=20_000) for name in ("g", "h")}
    shown = str(plan("y ~ (1 | g) + (1 | h)", data | {"y": rng.normal(size=20_000)}))
    assert " ms" in shown or " s" in shown
    assert "e+" not in shown


def test_many_dimensions_without_variance_are_counted_in_place_of_long_sums():
    data = datasets.load("kb07")
    formula = "RTtrunc ~ S * P * C + (S * P * C | subj) + (S * P * C | item)"
    summary = str(lmer(formula, data, reml=False).summary())
    assert "subj): 4 of the 8 dimensions have no variance" in summary
    assert "combination" not in summary


def test_an_update_is_silent_on_codings_of_factors_that_it_takes_out(recwarn):
    data = datasets.load("cake")
    codings = {"recipe": "sum", "temperature": "sum"}
    fit = lmer("angle ~ recipe + temperature + (1 | replicate)", data, contrasts=codings)
    assert "recipe" not in fit.update(". ~ . - recipe").formula
    assert not recwarn.list
    with pytest.warns(errors.UnusedContrastsWarning, match="recipe"):
        fit.update(". ~ . - recipe", contrasts=codings)
