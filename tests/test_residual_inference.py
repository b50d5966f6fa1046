"""Tests of fixed effects in models with residual structures: Kenward and Roger's, by definition."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_residual_structures import dense_of, fitted

from lmmfast import LMMFit, lmer


@cache
def frame() -> pd.DataFrame:
    """Subjects with gaps in clinics, crossed items."""
    rng = np.random.default_rng(3)
    subject = np.repeat(np.arange(30), rng.integers(2, 6, 30))
    n = len(subject)
    time = np.concatenate([np.sort(rng.choice(5, k, replace=False)) for k in np.bincount(subject)])
    treated = (subject % 2).astype(float)
    e = rng.normal(size=n) * (1 + 0.8 * (time > 2))
    slopes = 0.3 + 0.5 * rng.normal(size=30)
    y = 1 + slopes[subject] * time + 0.5 * treated + rng.normal(size=30)[subject] + e
    return pd.DataFrame(
        {
            "y": y,
            "time": time,
            "treated": treated,
            "subject": [f"s{i:02d}" for i in subject],
            "clinic": [f"c{i // 5}" for i in subject],
            "item": [f"i{i}" for i in rng.integers(0, 8, n)],
            "half": np.where(rng.random(n) < 0.5, "a", "b"),
            "x": rng.normal(size=n) + 3,
            "w": rng.uniform(0.5, 2, n),
        }
    )


FITS: dict[str, tuple[str, dict[str, Any]]] = {
    "strata, crossed": (
        "y ~ time + treated + (1 | subject) + (1 | item)",
        {"dispersion": "~ half"},
    ),
    "column, slopes": ("y ~ time + treated + (time | subject)", {"dispersion": "exp(x)"}),
    "ar1, nested": (
        "y ~ time + treated + (1 | clinic)",
        {"residual": "ar1(time | subject)", "weights": "w"},
    ),
    "strata and ar1": (
        "y ~ time + treated + (1 | subject)",
        {"residual": "ar1(time | subject)", "dispersion": "~ half"},
    ),
    "column and cs": (
        "y ~ time + treated + (1 | clinic)",
        {"residual": "cs(time | subject)", "dispersion": "power(x)"},
    ),
    "ante": ("y ~ time * treated + (1 | clinic)", {"residual": "ante(time | subject)"}),
    "strata and car1": (
        "y ~ time + treated + (1 | clinic)",
        {"residual": "car1(time | subject)", "dispersion": "~ half"},
    ),
}


@cache
def made(name: str) -> LMMFit:
    formula, how = FITS[name]
    return lmer(formula, frame(), **how)


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("observed", [False, True])
def test_kenward_roger_is_that_of_the_definition(name: str, observed: bool) -> None:
    fit = made(name)
    own, psi = dense_of(fit)
    L = np.eye(len(fit.params))
    vcov, df = own.kenward(psi, L, observed)
    ddf = "kenward-roger-observed" if observed else "kenward-roger"
    table = fit.t_test(L, ddf=ddf)
    np.testing.assert_allclose(table.sd, np.sqrt(vcov.diagonal()), rtol=2e-6)
    np.testing.assert_allclose(table.df_denom, df, rtol=2e-5)


@pytest.mark.parametrize("name", ["orthodont_varident_reml", "sleepstudy_corar1_reml"])
def test_kenward_roger_of_the_references(name: str) -> None:
    fit = fitted(name)
    own, psi = dense_of(fit)
    _, df = own.kenward(psi, np.eye(len(fit.params)), False)
    table = fit.t_test(np.eye(len(fit.params)), ddf="kenward-roger")
    np.testing.assert_allclose(table.df_denom, df, rtol=2e-5)
