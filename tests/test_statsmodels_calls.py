"""Calls of statsmodels' interface, one by one beside statsmodels itself.

`NUMBERS` agree to the tolerance of statsmodels' optimum, `SAME` to the last letter; `MEANT` are the
calls that differ, each with what statsmodels says, what is said here, and why.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import each, seldom

from lmmfast import FitError, mixedlm

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


def first(model: Any, result: Any) -> np.ndarray:
    """The hypothesis of the second fixed effect, with columns for all parameters."""
    return np.eye(len(result.params))[1:2]


def away(result: Any) -> Any:
    """Parameters beside the optimum, the same for both."""
    point = result.params_object.copy()
    point.fe_params = np.round(point.fe_params + 0.1, 2)
    point.cov_re, point.vcomp = np.round(1.3 * point.cov_re, 2), np.round(0.8 * point.vcomp, 2)
    return point


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
    "model.predict of columns": lambda m, r: m.predict(r.fe_params.to_numpy(), m.exog[3:6]),
    "model.predict of params": lambda m, r: m.predict(r.params.to_numpy()),
    "predict of one row": lambda m, r: r.predict(frame()[["x", "z", "f"]].iloc[[0]]),
    "predict of a dict": lambda m, r: r.predict(
        {"x": np.array([1.0, 2]), "z": np.array([1.0, 3]), "f": np.array(["a", "b"])}
    ),
    "predict of columns": lambda m, r: r.predict(m.exog[:3], transform=False),
    "cov_re_unscaled": lambda m, r: r.cov_re_unscaled,
    "normalized_cov_params": lambda m, r: r.normalized_cov_params.iloc[: m.k_fe, : m.k_fe],
    "params_object.fe_params": lambda m, r: r.params_object.fe_params,
    "params_object.cov_re": lambda m, r: r.params_object.cov_re,
    "params_object.vcomp": lambda m, r: r.params_object.vcomp,
    "get_packed": lambda m, r: r.params_object.get_packed(use_sqrt=False),
    "get_packed, roots": lambda m, r: r.params_object.get_packed(use_sqrt=True, has_fe=True),
    "t_test tvalue": lambda m, r: r.t_test(np.eye(m.k_fe)).tvalue,
    "t_test pvalue": lambda m, r: r.t_test(np.eye(m.k_fe)).pvalue,
    "t_test conf_int": lambda m, r: r.t_test(np.eye(m.k_fe)).conf_int(),
    "t_test of a difference": lambda m, r: r.t_test(np.eye(m.k_fe)[1:2] - 1).effect,
    "wald_test, chi2": lambda m, r: np.squeeze(r.wald_test(first(m, r), scalar=True).statistic),
    "f_test": lambda m, r: np.squeeze(r.f_test(first(m, r)).fvalue),
    "tests of long terms": lambda m, r: r.wald_test_terms(skip_single=True).statistic,
    "combined terms": lambda m, r: (
        r.wald_test_terms(combine_terms=["x"]).summary_frame()
        if "x" in " ".join(m.exog_names)
        else 0
    ),
    "an extra test": lambda m, r: (
        r.wald_test_terms(extra_constraints=[("second", first(m, r))]).table
    ),
    "statistics of terms": lambda m, r: r.wald_test_terms().statistic,
    "df of terms": lambda m, r: r.wald_test_terms().df_constraints,
    "loglike": lambda m, r: m.loglike(away(r)),
    "loglike at fixed effects": lambda m, r: m.loglike(away(r), profile_fe=False),
    "score": lambda m, r: m.score(away(r)),
    "score at fixed effects": lambda m, r: m.score(away(r), profile_fe=False),
    "score_sqrt": lambda m, r: np.concatenate(m.score_sqrt(away(r))),
    "score_sqrt without": lambda m, r: np.concatenate(m.score_sqrt(away(r), calc_fe=False)),
    "score_full": lambda m, r: np.concatenate(m.score_full(away(r), True)),
    "score_full without": lambda m, r: np.concatenate(m.score_full(away(r), False)),
    "hessian": lambda m, r: m.hessian(r.params_object)[0],
    "get_fe_params": lambda m, r: m.get_fe_params(away(r).cov_re, away(r).vcomp)[0],
    "get_scale": lambda m, r: m.get_scale(away(r).fe_params, away(r).cov_re, away(r).vcomp),
    "data.endog": lambda m, r: m.data.endog,
    "data.exog": lambda m, r: m.data.exog,
    "data.orig_endog": lambda m, r: m.data.orig_endog,
    "data.orig_exog": lambda m, r: m.data.orig_exog,
    "exog": lambda m, r: m.exog,
    "exog_re": lambda m, r: 0 if m.exog_re is None else m.exog_re,
    "exog_li": lambda m, r: m.exog_li[0],
    "exog_re2_li": lambda m, r: m.exog_re2_li[0] if m.k_re else 0,
    "table of effects": lambda m, r: pd.to_numeric(r.summary().tables[1]["Coef."].iloc[: m.k_fe]),
}
# small errors of standard errors grow in these
LOOSE = {"pvalues", "t_test pvalue", "wald_test", "wald_test, chi2", "f_test", "an extra test"}
LOOSE |= {"wald_test_terms", "combined terms", "tests of long terms", "statistics of terms"}
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
    "k_constant": lambda m, r: (m.k_constant, r.k_constant, m.data.k_constant),
    "const_idx": lambda m, r: m.data.const_idx,
    "data.param_names": lambda m, r: (list(m.data.param_names), list(m.data.cov_names)),
    "data.exog_re_names": lambda m, r: list(m.data.exog_re_names),
    "data.exog_re_names_full": lambda m, r: list(m.data.exog_re_names_full),
    "data.formula": lambda m, r: m.data.formula,
    "data.frame": lambda m, r: (list(m.data.frame.columns), m.data.frame.shape),
    "data.missing_row_idx": lambda m, r: list(m.data.missing_row_idx),
    "model_spec.column_names": lambda m, r: list(m.data.model_spec.column_names),
    "model_spec.term_names": lambda m, r: list(m.data.model_spec.term_names),
    "model_spec.term_name_slices": lambda m, r: dict(m.data.model_spec.term_name_slices),
    "model_spec.slice": lambda m, r: m.data.model_spec.slice(m.data.model_spec.term_names[-1]),
    "columns of orig_endog": lambda m, r: list(m.data.orig_endog.columns),
    "groups": lambda m, r: list(m.groups),
    "row_indices": lambda m, r: {k: list(v) for k, v in m.row_indices.items()},
    "group_list": lambda m, r: [list(own) for own in m.group_list(m.endog)],
    "penalties": lambda m, r: (m.fe_pen, m.cov_pen, m.re_pen, r.cov_pen),
    "use_sqrt": lambda m, r: (m.use_sqrt, r.use_sqrt),
    "method": lambda m, r: r.method,
    "freepat and hist": lambda m, r: (r.freepat, r.hist),
    "df_modelwc": lambda m, r: int(r.df_modelwc),
    "sizes of results": lambda m, r: (r.k_fe, r.k_re, r.k_re2, r.k_vc),
    "n_totobs": lambda m, r: int(m.n_totobs),
    "singular": lambda m, r: bool(m.get_fe_params(away(r).cov_re, away(r).vcomp)[1]),
    "groups of random effects": lambda m, r: list(r.random_effects),
    "names of covariances": lambda m, r: [
        list(own.columns) for own in [next(iter(r.random_effects_cov.values()))]
    ],
    "names of conf_int": lambda m, r: (list(r.conf_int().index), list(r.conf_int().columns)),
    "names of cov_params": lambda m, r: list(r.cov_params().columns),
    "names of cov_re": lambda m, r: list(r.cov_re.columns) if m.k_re else [],
    "distribution of tests": lambda m, r: r.wald_test_terms().distribution,
    "col_names": lambda m, r: r.wald_test_terms().col_names,
    "names of fitted values": lambda m, r: list(r.fittedvalues.index) == list(r.resid.index),
    "head of the summary": lambda m, r: r.summary().tables[0].iloc[:, :3].to_numpy().tolist(),
    "rows of the summary": lambda m, r: list(r.summary().tables[1].index),
    "columns of the summary": lambda m, r: list(r.summary(alpha=0.1).tables[1].columns),
    "other names in the summary": lambda m, r: list(
        r.summary(xname_fe=[f"b{j}" for j in range(m.k_fe)]).tables[1].index[: m.k_fe]
    ),
    "title of the summary": lambda m, r: r.summary(title="Yields").title,
}
# What differs: what statsmodels says, what is said here (both as functions that are true), and why.
MEANT: dict[str, tuple[Call, Call, str]] = {
    "aic": (
        lambda m, r: not r.reml or np.isnan(r.aic),
        lambda m, r: np.isclose(r.aic, -2 * r.llf + 2 * (len(r.params) + 1)),
        "of a REML fit by its restricted likelihood, as lme4's; NaN in statsmodels",
    ),
    "bic": (
        lambda m, r: not r.reml or np.isnan(r.bic),
        lambda m, r: np.isclose(r.bic, -2 * r.llf + np.log(r.nobs) * (len(r.params) + 1)),
        "as aic",
    ),
    "covariance of fixed effects and variances": (
        lambda m, r: np.abs(r.cov_params().iloc[: m.k_fe, m.k_fe :].to_numpy()).max() > 0,
        lambda m, r: np.abs(r.cov_params().iloc[: m.k_fe, m.k_fe :].to_numpy()).max() == 0,
        "zero asymptotically; statsmodels inverts the observed Hessian of all parameters",
    ),
    "k_params": (
        lambda m, r: m.k_params == m.k_fe + m.k_re2,
        lambda m, r: m.k_params == len(r.params),
        "the variance components are parameters, too",
    ),
    "hypotheses in words": (
        lambda m, r: _fails(lambda: r.t_test(f"{m.exog_names[0]} = 0")),
        lambda m, r: np.isclose(r.t_test(f"{m.exog_names[0]} = 0").effect[0], r.fe_params.iloc[0]),
        "statsmodels' t_test of mixed models takes arrays only",
    ),
    "a hypothesis of one dimension": (
        lambda m, r: _fails(lambda: r.t_test(np.eye(m.k_fe)[0])),
        lambda m, r: r.t_test(np.eye(m.k_fe)[0]).effect[0] == r.fe_params.iloc[0],
        "as above: two dimensions only",
    ),
    "conf_int of some": (
        lambda m, r: _fails(lambda: r.conf_int(cols=[0])),
        lambda m, r: len(r.conf_int(cols=[0])) == 1,
        "statsmodels' other models have cols=, its mixed models no longer",
    ),
    "t_test_pairwise": (
        lambda m, r: _fails(lambda: r.t_test_pairwise("f")),
        lambda m, r: not hasattr(r, "t_test_pairwise"),
        "fails for statsmodels' mixed models; lmmfast.emmeans has pairwise comparisons",
    ),
    "bsejac": (
        lambda m, r: _fails(lambda: r.bsejac),
        lambda m, r: not hasattr(r, "bsejac"),
        "fails for statsmodels' mixed models, which have no score by observation",
    ),
}


def _fails(call: Callable[[], Any]) -> bool:
    try:
        call()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return True
    return False


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of statsmodels: a dict as new rows
@pytest.mark.parametrize("name", MODELS)
def test_numbers(name: str) -> None:
    (model, result), (own_model, own) = both(name)

    def check(call: str) -> None:
        wanted, found = NUMBERS[call](model, result), NUMBERS[call](own_model, own)
        if isinstance(wanted, (pd.Series, pd.DataFrame)):
            assert list(found.index) == list(wanted.index)
        theirs = np.asarray(wanted, dtype=float)
        scale = max(1e-8, float(np.nanmax(np.abs(theirs)))) if theirs.size else 1.0
        close = 0.03 if call in LOOSE else 5e-3
        np.testing.assert_allclose(np.asarray(found, dtype=float), theirs, close, 2e-3 * scale)

    each(NUMBERS, check)


@pytest.mark.parametrize("name", MODELS)
def test_names_and_counts(name: str) -> None:
    (model, result), (own_model, own) = both(name)

    def check(call: str) -> None:
        assert SAME[call](own_model, own) == SAME[call](model, result)

    each(SAME, check)


# Models made and fitted in other ways, of a module with MixedLM.
Make = Callable[[Any], Any]


def _columns() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    d = frame()
    X = np.column_stack([np.ones(len(d)), d.x, d.z])
    return d.y.to_numpy(), X, d.g.to_numpy()


def _framed() -> tuple[pd.Series, pd.DataFrame, pd.Series]:
    d = frame()
    return d.y, d[["x", "z"]].assign(one=1.0), d.g


def _with_holes() -> pd.DataFrame:
    d = frame()
    return d.assign(x=d.x.mask(d.index % 37 == 5), f=d.f.mask(d.index % 41 == 7))


def _free(model: Any, MixedLMParams: Any) -> Any:
    free = MixedLMParams.from_components(np.ones(model.k_fe), np.eye(model.k_re))
    return model.fit(free=free)


def _from(module: Any, formula: str, **asked: Any) -> Any:
    fit = asked.pop("fit", {})
    data = asked.pop("data", None)
    data = frame() if data is None else data
    return module.MixedLM.from_formula(formula, data, **{"groups": "g", **asked}).fit(**fit)


MADE: dict[str, Make] = {
    "arrays": lambda M: M.MixedLM(*_columns()).fit(),
    "arrays, ML": lambda M: M.MixedLM(*_columns()).fit(reml=False),
    "arrays by name": lambda M: M.MixedLM(
        endog=_columns()[0], exog=_columns()[1], groups=_columns()[2]
    ).fit(),
    "arrays, exog_re": lambda M: M.MixedLM(*_columns(), exog_re=_columns()[1][:, :2]).fit(),
    "arrays, one exog_re": lambda M: M.MixedLM(*_columns(), exog_re=_columns()[1][:, 1]).fit(),
    "arrays, use_sqrt": lambda M: M.MixedLM(*_columns(), use_sqrt=False).fit(),
    "arrays, labels of groups": lambda M: M.MixedLM(
        *_columns()[:2], np.array([f"s{k}" for k in _columns()[2]])
    ).fit(),
    "frames": lambda M: M.MixedLM(*_framed()).fit(),
    "frames, exog_re": lambda M: M.MixedLM(*_framed(), exog_re=_framed()[1][["one", "x"]]).fit(),
    "frames, missing": lambda M: M.MixedLM(*_framed(), missing="drop").fit(),
    "from_formula": lambda M: _from(M, "y ~ x"),
    "groups given": lambda M: _from(M, "y ~ x", groups=frame().g),
    "groups as an array": lambda M: _from(M, "y ~ x", groups=frame().g.to_numpy()),
    "re_formula 1": lambda M: _from(M, "y ~ x", re_formula="1"),
    "re_formula ~1": lambda M: _from(M, "y ~ x", re_formula="~1"),
    "re_formula ~x": lambda M: _from(M, "y ~ x", re_formula="~x"),
    "re_formula x": lambda M: _from(M, "y ~ x", re_formula="x"),
    "re_formula 0 + x": lambda M: _from(M, "y ~ x", re_formula="0 + x"),
    "re_formula 1 + x": lambda M: _from(M, "y ~ x", re_formula="1 + x"),
    "re_formula of two": lambda M: _from(M, "y ~ x + z", re_formula="~ x + z"),
    "re_formula, reml": lambda M: _from(M, "y ~ x", re_formula="~x", fit={"reml": False}),
    "vc_formula": lambda M: _from(M, "y ~ x", vc_formula={"item": "0 + C(item)"}),
    "vc_formula, slopes": lambda M: _from(M, "y ~ x", re_formula="1", vc_formula={"x": "0 + x"}),
    "vc_formula, labels": lambda M: _from(
        M, "y ~ x", re_formula="1", vc_formula={"item": "0 + item"}
    ),
    "independent slopes": lambda M: _free(
        M.MixedLM.from_formula("y ~ x", frame(), groups="g", re_formula="~x"),
        M.MixedLMParams,
    ),
    "missing": lambda M: _from(M, "y ~ x + f", data=_with_holes(), missing="drop"),
    "missing, slopes": lambda M: _from(
        M, "y ~ z", data=_with_holes(), missing="drop", re_formula="~x"
    ),
    "eval_env": lambda M: _from(M, "y ~ np.abs(x)", eval_env=0),
    "a start": lambda M: _from(M, "y ~ x", fit={"start_params": np.ones(1)}),
    "full_output": lambda M: _from(M, "y ~ x", fit={"full_output": True}),
    "do_cg and niter_sa": lambda M: _from(M, "y ~ x", fit={"do_cg": True, "niter_sa": 0}),
    "method": lambda M: _from(M, "y ~ x", fit={"method": "bfgs"}),
    "maxiter": lambda M: _from(M, "y ~ x", fit={"maxiter": 200, "gtol": 1e-8}),
    "no intercept": lambda M: _from(M, "y ~ 0 + f + x"),
    "intercept alone": lambda M: _from(M, "y ~ 1"),
    "interactions": lambda M: _from(M, "y ~ x:f + z"),
    "powers": lambda M: _from(M, "y ~ (x + z + f) ** 2"),
    "functions": lambda M: _from(M, "np.exp(y / 9) ~ np.log(z + 1) + I(x > 0)"),
    "Q": lambda M: _from(M, "Q('y') ~ Q('x')"),
}


# statsmodels is slow where it hardly converges
@pytest.mark.parametrize("name", seldom(MADE, ["re_formula of two", "re_formula 0 + x"]))
def test_models_made_in_other_ways(name: str) -> None:
    import statsmodels.regression.mixed_linear_model as theirs

    import lmmfast.sm.model as ours

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted, found = MADE[name](theirs), MADE[name](ours)
    assert found.llf > wanted.llf - 1e-6
    at_optimum = wanted.converged and found.llf < wanted.llf + 1e-4  # statsmodels often is not
    for call in ("fe_params", "cov_re", "vcomp", "scale", "llf", "params", "bse_fe"):
        one, other = getattr(wanted, call), getattr(found, call)
        expected = np.asarray(one, dtype=float)
        size = max(1e-8, float(np.abs(expected).max())) if expected.size else 1.0
        if at_optimum and call != "bse_fe":  # other standard errors are meant, see `NUMBERS`
            np.testing.assert_allclose(np.asarray(other, float), expected, 5e-3, 3e-3 * size)
        assert np.shape(other) == np.shape(one)
        assert isinstance(one, pd.Series) == isinstance(other, pd.Series)
        if isinstance(one, (pd.Series, pd.DataFrame)):
            assert list(one.index) == list(other.index)
    assert wanted.model.exog_names == found.model.exog_names
    assert wanted.model.endog_names == found.model.endog_names
    assert wanted.nobs == found.nobs
    assert list(wanted.model.group_labels) == list(found.model.group_labels)
    assert hasattr(wanted.model, "formula") == hasattr(found.model, "formula")
    assert isinstance(wanted.model.data.orig_exog, pd.DataFrame) == isinstance(
        found.model.data.orig_exog, pd.DataFrame
    )
    names = [list(own.index) for own in list(wanted.random_effects.values())[:1]]
    assert [list(own.index) for own in list(found.random_effects.values())[:1]] == names


@pytest.mark.parametrize("name", MODELS)
def test_meant_differences(name: str) -> None:
    theirs, ours = both(name)

    def check(call: str) -> None:
        wanted, found, reason = MEANT[call]
        assert reason
        assert wanted(*theirs)
        assert found(*ours)

    each(MEANT, check)


def test_columns_of_components_are_the_same() -> None:
    for name in ("components", "crossed"):
        (model, _), (own, _) = both(name)
        for theirs, found in zip(model.exog_vc.mats, own.exog_vc.mats, strict=True):
            for one, other in zip(theirs, found, strict=True):
                np.testing.assert_array_equal(np.asarray(one), other)


def test_models_made_again_have_their_random_part() -> None:
    """What statsmodels' tools are given makes the same model, by arrays and by formulas."""
    for name in ("intercepts", "slopes", "components", "crossed"):
        model, result = both(name)[1]
        kwds = model._get_init_kwds()
        by_arrays = type(model)(model.endog, model.exog, **kwds).fit()
        assert by_arrays.llf == pytest.approx(result.llf, abs=1e-6)
        by_formula = type(model).from_formula(data=model.data.frame, **kwds)
        assert by_formula.formula_lme4.replace("Group", model.group_name) == model.formula_lme4
        assert by_formula.fit().llf == pytest.approx(result.llf, abs=1e-9)


def test_missing_parameters_draw_nothing() -> None:
    model, result = both("intercepts")[1]
    with pytest.raises(FitError, match="missing values"):
        model.get_distribution(result.params * np.nan, result.scale, model.exog)


def test_terms_of_a_model_without_a_formula() -> None:
    result = MADE["frames"](ours_of_models())
    table = result.wald_test_terms(combine_terms=["x"]).table
    assert list(table.index) == ["x", "z", "one", "x"]
    np.testing.assert_allclose(table["statistic"].iloc[:3], result.tvalues.iloc[:3] ** 2)


def ours_of_models() -> Any:
    import lmmfast.sm.model

    return lmmfast.sm.model


def test_combined_and_extra_tests_of_terms() -> None:
    result = mixedlm("y ~ x * f", frame(), groups="g").fit()
    table = result.wald_test_terms(
        skip_single=True, combine_terms=["x"], extra_constraints=["x = 0.4"]
    ).table
    assert list(table.index) == ["f", "x:f", "x", "x = 0.4"]
    assert list(table["df_constraint"]) == [2, 2, 3, 1]
    with pytest.raises(ValueError, match="no term contains"):
        result.wald_test_terms(combine_terms=["nope"])
