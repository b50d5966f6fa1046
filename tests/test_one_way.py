"""One way in: every question has the same answer for rows in memory and for rows only summed over.

Both models are evaluated at the same theta, so that no optimizer stands between the answers.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streams import CASES, in_memory, pieces

import lmmfast
from lmmfast import anova, drop1, emmeans, ranova
from lmmfast.data.sums import Columns
from lmmfast.errors import LmmWarning
from lmmfast.inference.estimability import openness_of

EQUAL = 1e-9
FOUND = 1e-8  # where minimizers or differences of gradients stand between them after all

MODELS = [
    "slope",
    "double bar",
    "two terms",
    "no intercept",
    "small factor first",
    "crossed",
    "nested",
    "factor slopes",
    "sum contrasts",
    "gaps",
    "factors",
    "full factor",
    "expressions",
    "dependent fixed",
    "dependent random",
    "three factors",
]


@cache
def pair(name: str) -> tuple[lmmfast.LMMFit, lmmfast.LMMFit]:
    """A case streamed and in memory, both at the theta that was found in memory."""
    case = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        held = in_memory(name)
        streamed = lmmfast.lmer(case.formula, pieces(case.data()), **case.options)
        return streamed.model.at(held.theta), held.model.at(held.theta)


def values(found: Any) -> np.ndarray:
    """Numbers of an answer in one row."""
    if isinstance(found, dict):
        return np.concatenate([values(own) for own in found.values()])
    if isinstance(found, (list, tuple)):
        return np.concatenate([values(own) for own in found])
    if isinstance(found, pd.DataFrame):
        found = found.select_dtypes("number")
    return np.asarray(found, dtype=float).ravel()


def directions(fit: lmmfast.LMMFit) -> np.ndarray:
    return openness_of(fit).directions


def new_rows(name: str) -> pd.DataFrame:
    return CASES[name].data().dropna()[5:40]


QUESTIONS: dict[str, Callable[[lmmfast.LMMFit], Any]] = {
    "criterion": lambda fit: fit.objective,
    "derivatives": lambda fit: fit.model.objective(fit.theta, gradient=True, hessian=True)[2],
    "fixed effects": lambda fit: [fit.params, fit.bse],
    "Satterthwaite": lambda fit: fit.coef_test().df_denom,
    "Wald intervals": lambda fit: fit.conf_int(),
    "intervals of all": lambda fit: fit.conf_int(parameters="all"),
    "variances": lambda fit: fit.varcorr["sdcor"],
    "their standard errors": lambda fit: fit.varcorr_se()["se"],
    "modes": lambda fit: fit.ranef(cond_var=True),
    "type I": lambda fit: anova(fit, type=1).table,
    "type II": lambda fit: anova(fit, type=2).table,
    "type III": lambda fit: anova(fit, type=3).table,
    "deletions": lambda fit: drop1(fit).table,
    "R2": lambda fit: fit.r2(),
    "ICC": lambda fit: fit.icc(),
    "what is not estimable": directions,
}


@pytest.mark.parametrize("question", list(QUESTIONS))
@pytest.mark.parametrize("name", MODELS)
def test_one_answer(name: str, question: str) -> None:
    found, wanted = (values(QUESTIONS[question](fit)) for fit in pair(name))
    compare(found, wanted, FOUND if question == "intervals of all" else EQUAL)


def compare(found: np.ndarray, wanted: np.ndarray, tolerance: float = EQUAL) -> None:
    assert found.shape == wanted.shape
    there = np.isfinite(wanted)
    assert (np.isfinite(found) == there).all()
    size = np.abs(wanted[there]) + 1e-3 * np.abs(wanted[there]).max(initial=1e-12)
    assert (np.abs(found - wanted)[there] <= tolerance * size).all()


@pytest.mark.parametrize("name", ["slope", "gaps", "factors", "expressions", "small factor first"])
def test_one_prediction(name: str) -> None:
    new = new_rows(name)
    found, wanted = pair(name)
    compare(values(found.predict(new)), values(wanted.predict(new)))
    for options, tolerance in (
        ({"se": True}, EQUAL),
        ({"re_form": "none", "interval": "prediction"}, FOUND),
    ):
        answers = (values(fit.predict(new, **options)) for fit in (found, wanted))
        compare(*answers, tolerance)


@pytest.mark.parametrize("weights", ["equal", "proportional"])
@pytest.mark.parametrize(
    ("name", "specs"),
    [("factors", "f"), ("factors", "o | c"), ("gaps", "Days"), ("expressions", "k")],
)
def test_one_mean(name: str, specs: str, weights: str) -> None:
    found, wanted = (emmeans(fit, specs, weights=weights).table for fit in pair(name))
    compare(values(found), values(wanted))


@pytest.mark.parametrize("name", ["slope", "gaps", "factors", "full factor", "dependent random"])
def test_smaller_models_are_the_same(name: str) -> None:
    """Fits anew: their criteria agree to what an optimum is found to."""
    found, wanted = pair(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        for table in (lambda fit: drop1(fit, test="Chisq").table, lambda fit: ranova(fit).table):
            one, two = (table(fit) for fit in (found, wanted))
            assert list(one.index) == list(two.index)
            criteria = one.filter(["AIC", "logLik"]), two.filter(["AIC", "logLik"])
            compare(values(criteria[0]), values(criteria[1]))


@pytest.mark.parametrize("name", ["slope", "gaps", "factors", "nested", "three factors"])
def test_columns_are_changed_alike(name: str) -> None:
    """Chosen and combined columns of a term make the same model."""
    found, wanted = pair(name)
    for one, two in zip(found.design.terms, wanted.design.terms, strict=True):
        k = one.source.width
        M = np.tril(np.ones((k, k))) + np.eye(k)
        same_columns(one.source.combined(M), two.source.combined(M))
        same_columns(one.source.chosen(range(k)[::-1]), two.source.chosen(range(k)[::-1]))
        same_columns(one.source.chosen([k - 1]), two.source.chosen([k - 1]))


@pytest.mark.parametrize("name", ["slope", "gaps", "factors", "full factor"])
def test_fixed_effects_are_changed_alike(name: str) -> None:
    found, wanted = (fit.design.fixed for fit in pair(name))
    k = wanted.width
    same_columns(found, wanted)
    for columns in ([k - 1], list(range(k))[::-1]):
        same_columns(found.chosen(columns), wanted.chosen(columns))
    M = np.random.default_rng(4).normal(size=(k, 2))
    for one, two in ((found, wanted), (found.combined(M), wanted.combined(M))):
        v = np.arange(1.0, two.width + 1)
        compare(np.array([one.variance(v)]), np.array([two.variance(v)]))


@pytest.mark.parametrize("name", ["slope", "factors"])
def test_roots_beside_a_dependent_column(name: str) -> None:
    """It stands in front of columns that it is made of, and is not kept."""
    fits = pair(name)
    X = fits[1].design.X
    k = X.shape[1]
    M = np.insert(np.eye(k), 1, np.linspace(1, 2, k), axis=1)
    kept = np.arange(k + 1) != 1
    for fit in fits:
        R = fit.design.fixed.combined(M).root(kept)
        assert R.shape == (k, k + 1) and not np.tril(R[:, kept], -1).any()
        compare((R.T @ R).ravel(), (M.T @ X.T @ X @ M).ravel())


def same_columns(found: Columns, wanted: Columns) -> None:
    k = wanted.width
    assert found.width == k
    compare(found.mean_squares(np.eye(k)), wanted.mean_squares(np.eye(k)))
    R, S = found.root(np.ones(k, bool)), wanted.root(np.ones(k, bool))
    compare((R.T @ R).ravel(), (S.T @ S).ravel())


@pytest.mark.parametrize("name", ["gaps", "factors", "expressions"])
def test_sums_of_the_rows_are_the_same(name: str) -> None:
    found, wanted = (fit.design.sums for fit in pair(name))
    assert found.n == wanted.n and found.is_weighted == wanted.is_weighted
    assert found.has_offset == wanted.has_offset
    compare(found.response_moments(), wanted.response_moments())


def test_partitions_are_told_apart_alike() -> None:
    data = CASES["factors"].data()
    data["twin"] = data["g"].map(str)  # the same division under other names
    rng = np.random.default_rng(3)
    data["other"] = rng.permutation(data["g"].to_numpy())  # as many levels, another division
    formula = "y ~ x + (1 | g) + (1 | twin) + (1 | other)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        fits = lmmfast.lmer(formula, pieces(data)), lmmfast.lmer(formula, data)
    for fit in fits:
        sources = [term.source for term in fit.design.terms]
        same = [a.divides_as(b) for a, b in itertools.combinations(sources, 2)]
        assert same == [True, False, False]
    assert fits[0].unidentified == fits[1].unidentified != ()
