"""Random terms with one covariance matrix: the optimum within it, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from lmmfast import DataError, anova, lmer


def data(seed: int = 1, n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    mother, father = rng.integers(0, 30, n), rng.integers(0, 25, n)
    x = rng.normal(size=n)
    columns = np.column_stack([np.ones(n), x])
    y = 1 + x + rng.normal(size=n)
    for codes, m in ((mother, 30), (father, 25)):
        y += (columns * rng.normal(size=(m, 2))[codes] * 0.8).sum(axis=1)
    return pd.DataFrame({"y": y, "x": x, "mother": mother, "father": father, "farm": mother % 7})


FORMULA = "y ~ x + (x | mother) + (x | father)"


@pytest.mark.parametrize("reml", [True, False])
def test_the_optimum_is_that_of_one_covariance(reml: bool) -> None:
    frame = data()
    fit = lmer(FORMULA, frame, ties=[("mother", "father")], reml=reml)
    assert fit.converged
    assert fit.theta[:3] == pytest.approx(fit.theta[3:], abs=0)
    free = lmer(FORMULA, frame, reml=reml)

    def criterion(theta: np.ndarray) -> float:
        return float(free.model.objective(np.concatenate([theta, theta]), reml=reml))

    options = {"xatol": 1e-8, "fatol": 1e-10}
    best = minimize(criterion, fit.theta[:3] + 0.1, method="Nelder-Mead", options=options)
    assert fit.objective == pytest.approx(best.fun, abs=1e-7)
    assert free.n_params - fit.n_params == 3
    assert fit.covariance("mother").to_numpy() == pytest.approx(
        fit.covariance("father").to_numpy(), abs=0
    )
    assert "mother.x = father.x" in " ".join(str(fit.summary()).split())
    table = anova(fit, free, refit=False).table
    assert table["Df"].iloc[1] == 3
    assert table["Pr(>Chisq)"].iloc[1] > 0


def test_terms_are_named_by_label_where_a_factor_has_several() -> None:
    formula = "y ~ x + (1 | mother) + (0 + x | mother) + (1 | father) + (1 | farm)"
    fit = lmer(formula, data(), ties=[("1 | mother", "(1 | father)", "farm")])
    assert fit.theta[[0, 2]] == pytest.approx(fit.theta[3], abs=0)
    assert len({*fit.theta}) == 2
    assert fit.n_params == 2 + 2 + 1


def test_held_entries_are_held_in_both() -> None:
    frame = data()
    names = ["mother.x.Intercept", "father.x.Intercept"]
    held = {"theta": dict.fromkeys(names, 0.0)}
    fit = lmer(FORMULA, frame, ties=[("mother", "father")], fixed=held)
    assert fit.theta[[1, 4]].tolist() == [0, 0]
    assert fit.theta[[0, 2]] == pytest.approx(fit.theta[[3, 5]], abs=0)
    with pytest.raises(DataError, match="hold both"):
        lmer(FORMULA, frame, ties=[("mother", "father")], fixed={"theta": {names[0]: 0.0}})


REFUSED: dict[str, tuple[str, Any]] = {
    "each of two names or more": (FORMULA, [("mother",)]),
    "there is no random term 'x'": (FORMULA, [("mother", "x")]),
    "stands in two ties": (FORMULA, [("mother", "father"), ("father", "mother")]),
    "must be a list of groups": (FORMULA, "mother"),
    "the same columns in both": ("y ~ x + (x | mother) + (1 | father)", [("mother", "father")]),
    "with correlations in both": ("y ~ x + (x || mother) + (x | father)", [("mother", "father")]),
    "several terms are 'mother'": (
        "y ~ x + (1 | mother) + (0 + x | mother) + (1 | father)",
        [("mother", "father")],
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_refused(words: str) -> None:
    formula, ties = REFUSED[words]
    with pytest.raises(ValueError) as caught:
        lmer(formula, data(), ties=ties)
    assert words in str(caught.value)


def test_structures_are_not_tied() -> None:
    frame = data().assign(f=lambda own: pd.Categorical(np.arange(len(own)) % 3))
    formula = "y ~ x + ar1(0 + f | mother) + ar1(0 + f | father)"
    with pytest.raises(ValueError, match="has a structure, which cannot be tied"):
        lmer(formula, frame, ties=[("mother", "father")])
