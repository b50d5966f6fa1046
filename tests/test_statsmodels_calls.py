"""Calls of statsmodels' interface, one by one beside statsmodels itself: no difference is meant."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lmmfast import mixedlm

smf = pytest.importorskip("statsmodels.formula.api")

Call = Callable[[Any, Any], Any]  # of a model and its results


@cache
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 300
    g, item = np.repeat(np.arange(30), 10), rng.integers(0, 8, n)
    d = pd.DataFrame(
        {
            "g": g,
            "item": [f"i{k}" for k in item],
            "x": rng.normal(size=n),
            "z": rng.uniform(0, 4, n),
            "f": rng.choice(list("abc"), n),
            "one": 1,
        }
    )
    u, v, w = rng.normal(0, 1.5, 30), rng.normal(0, 0.8, 30), rng.normal(0, 1, 8)
    slope = (d["f"] == "b") * 0.7 + 0.4 * d["x"] + 0.3 * d["z"]
    return d.assign(y=slope + u[g] + v[g] * d["x"] + w[item] + rng.normal(size=n))


MODELS: dict[str, dict[str, Any]] = {
    "intercepts": {"formula": "y ~ x + f", "groups": "g"},
    "slopes": {"formula": "y ~ x + z", "groups": "g", "re_formula": "~x"},
    "ML": {"formula": "y ~ x * f", "groups": "g", "fit": {"reml": False}},
    "components": {"formula": "y ~ x", "groups": "g", "re_formula": "1",
                   "vc_formula": {"item": "0 + C(item)"}},
    "crossed": {"formula": "y ~ x", "groups": "one",
                "vc_formula": {"g": "0 + C(g)", "item": "0 + C(item)"}},
    "splines": {"formula": "y ~ bs(z, df=4) + C(f, Sum)", "groups": "g"},
    "Diff": {"formula": "y ~ C(f, Diff) + x", "groups": "g"},
    "treatment": {"formula": "y ~ C(f, Treatment(1)) + x", "groups": "g"},
    "reference": {"formula": "y ~ C(f, Treatment(reference='c')) + np.exp(x)", "groups": "g"},
    "Helmert": {"formula": "y ~ C(f, Helmert) + scale(x)", "groups": "g"},
    "Poly": {"formula": "y ~ C(f, Poly) + I(x**2)", "groups": "g"},
}  # fmt: skip


@cache
def both(name: str) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    asked = dict(MODELS[name])
    how = asked.pop("fit", {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = smf.mixedlm(data=frame(), **asked)
        ours = mixedlm(data=frame(), **asked)
        return (theirs, theirs.fit(**how, gtol=1e-9)), (ours, ours.fit(**how))


def joint(model: Any, result: Any) -> float:
    """The test of all fixed effects but the first; statsmodels wants columns for variances too."""
    L = np.eye(len(result.params))[1 : model.k_fe]
    return float(np.squeeze(result.wald_test(L, scalar=True).statistic))


# Numbers that agree, with the tolerance of statsmodels' optimum.
NUMBERS: dict[str, Call] = {
    "params": lambda m, r: r.params,
    "fe_params": lambda m, r: r.fe_params,
    "bse": lambda m, r: r.bse[: m.k_fe],
    "bse_fe": lambda m, r: r.bse_fe,
    "tvalues": lambda m, r: r.tvalues[: m.k_fe],
    "pvalues": lambda m, r: r.pvalues[: m.k_fe],
    "conf_int": lambda m, r: r.conf_int().iloc[: m.k_fe],
    "conf_int of 90 %": lambda m, r: r.conf_int(alpha=0.1).iloc[: m.k_fe],
    "cov_params": lambda m, r: r.cov_params().iloc[: m.k_fe, : m.k_fe],
    "cov_re": lambda m, r: r.cov_re,
    "vcomp": lambda m, r: r.vcomp,
    "scale": lambda m, r: r.scale,
    "llf": lambda m, r: float(r.llf),
    "fittedvalues": lambda m, r: r.fittedvalues,
    "resid": lambda m, r: r.resid,
    "predict": lambda m, r: r.predict(),
    "predict of new rows": lambda m, r: r.predict(frame().iloc[:7]),
    "random_effects": lambda m, r: r.random_effects[list(r.random_effects)[1 % m.n_groups]],
    "t_test": lambda m, r: r.t_test(np.eye(m.k_fe)).effect,
    "t_test sd": lambda m, r: r.t_test(np.eye(m.k_fe)).sd,
    "wald_test": lambda m, r: joint(m, r),
    "wald_test_terms": lambda m, r: r.wald_test_terms().summary_frame(),
    "model.predict": lambda m, r: m.predict(r.fe_params.to_numpy())[:9],
}
LOOSE = {"pvalues", "wald_test", "wald_test_terms"}  # small errors of standard errors grow in these
# What is the same to the last letter or digit.
SAME: dict[str, Call] = {
    "nobs": lambda m, r: int(r.nobs),
    "k_fe": lambda m, r: (m.k_fe, m.k_re, m.k_re2, m.k_vc),
    "n_groups": lambda m, r: m.n_groups,
    "df_resid": lambda m, r: int(r.df_resid),
    "converged": lambda m, r: bool(r.converged),
    "use_t": lambda m, r: bool(getattr(r, "use_t", False)),
    "exog_names": lambda m, r: list(m.exog_names),
    "endog_names": lambda m, r: m.endog_names,
    "names of parameters": lambda m, r: list(r.params.index),
    "names of fixed effects": lambda m, r: list(r.fe_params.index),
    "names of terms": lambda m, r: list(r.wald_test_terms().summary_frame().index),
    "columns of tests of terms": lambda m, r: list(r.wald_test_terms().summary_frame().columns),
    "names of random effects": lambda m, r: list(next(iter(r.random_effects.values())).index),
    "names of components": lambda m, r: list(m.exog_vc.names),
    "names of their columns": lambda m, r: [[list(c) for c in own] for own in m.exog_vc.colnames],
    "group_labels": lambda m, r: list(m.group_labels),
    "formula": lambda m, r: m.formula,
    "endog": lambda m, r: m.endog.tolist(),
    "data.ynames": lambda m, r: m.data.ynames,
    "data.xnames": lambda m, r: list(m.data.xnames),
    "orig_exog": lambda m, r: list(m.data.orig_exog.columns),
    "row_labels": lambda m, r: list(m.data.row_labels),
    "rows of groups": lambda m, r: [len(own) for own in m.endog_li],
    "reml": lambda m, r: bool(r.reml),
}


@pytest.mark.parametrize("call", NUMBERS)
@pytest.mark.parametrize("name", MODELS)
def test_numbers(name: str, call: str) -> None:
    (model, result), (own_model, own) = both(name)
    wanted, found = NUMBERS[call](model, result), NUMBERS[call](own_model, own)
    if isinstance(wanted, (pd.Series, pd.DataFrame)):
        assert list(found.index) == list(wanted.index)
    theirs = np.asarray(wanted, dtype=float)
    scale = max(1e-8, float(np.nanmax(np.abs(theirs)))) if theirs.size else 1.0
    close = 0.03 if call in LOOSE else 5e-3
    np.testing.assert_allclose(np.asarray(found, dtype=float), theirs, close, 2e-3 * scale)


@pytest.mark.parametrize("call", SAME)
@pytest.mark.parametrize("name", MODELS)
def test_names_and_counts(name: str, call: str) -> None:
    (model, result), (own_model, own) = both(name)
    assert SAME[call](own_model, own) == SAME[call](model, result)


def test_columns_of_components_are_the_same() -> None:
    for name in ("components", "crossed"):
        (model, _), (own, _) = both(name)
        for theirs, found in zip(model.exog_vc.mats, own.exog_vc.mats, strict=True):
            for one, other in zip(theirs, found, strict=True):
                np.testing.assert_array_equal(np.asarray(one), other)


@pytest.mark.parametrize("method", ["parametric", "bootstrap"])
def test_mediation_of_two_mixed_models(method: str) -> None:
    from statsmodels.stats.mediation import Mediation

    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(40), 10)
    t, u = rng.integers(0, 2, 400).astype(float), rng.normal(size=40)[g]
    m = 0.5 * t + 0.5 * u + rng.normal(size=400)
    data = pd.DataFrame({"y": 0.3 * t + 0.7 * m + u + rng.normal(size=400), "m": m, "t": t, "g": g})
    outcome, mediator = mixedlm("y ~ t + m", data, groups="g"), mixedlm("m ~ t", data, groups="g")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = Mediation(outcome, mediator, "t", "m").fit(method, n_rep=40, rng=1).summary()
    total = mixedlm("y ~ t", data, groups="g").fit().params["t"]
    assert found.loc["Total effect", "Estimate"] == pytest.approx(total, abs=0.25)
    assert 0.1 < found.loc["ACME (average)", "Estimate"] < 0.6


def test_combined_and_extra_tests_of_terms() -> None:
    result = mixedlm("y ~ x * f", frame(), groups="g").fit()
    table = result.wald_test_terms(
        skip_single=True, combine_terms=["x"], extra_constraints=["x = 0.4"]
    ).table
    assert list(table.index) == ["f", "x:f", "x", "x = 0.4"]
    assert list(table["df_constraint"]) == [2, 2, 3, 1]
    with pytest.raises(ValueError, match="no term contains"):
        result.wald_test_terms(combine_terms=["nope"])
