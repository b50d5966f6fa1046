"""The statsmodels facade: the same numbers as lmer, statsmodels' names, data of every kind."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import close

import lmmfast
from lmmfast import (
    DataError,
    FitError,
    FormulaError,
    MixedLM,
    MixedLMParams,
    MixedLMResults,
    UnusedArgumentWarning,
    datasets,
    lmer,
    mixedlm,
)


def simulated(seed: int = 3, groups: int = 24, per: int = 9) -> pd.DataFrame:
    """Rows in groups with classes in them, crossed with items; not sorted."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), per)
    n = len(g)
    frame = pd.DataFrame(
        {
            "g": g,
            "c": np.tile(np.arange(3), n // 3),
            "item": rng.integers(0, 7, n),
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "cond": rng.choice(["a", "b"], n),
        }
    )
    by_class = rng.normal(size=(groups, 3)) * 0.8
    by_group = rng.normal(size=(groups, 3)) * [1.0, 0.6, 0.4]
    frame["y"] = (
        1
        + 0.5 * frame.x
        + by_group[g, 0]
        + by_group[g, 1] * frame.x
        + by_group[g, 2] * frame.z
        + by_class[g, frame.c]
        + rng.normal(size=7)[frame.item]
        + rng.normal(size=n)
    )
    return frame.sample(frac=1, random_state=1).reset_index(drop=True)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return simulated()


def quiet(function: Any, *args: Any, **kwargs: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


# ---- the same model, the same numbers -----------------------------------------------------------

CASES = {
    "intercept": ({}, "y ~ x + (1 | g)"),
    "slopes": ({"re_formula": "~x"}, "y ~ x + (x | g)"),
    "no intercept": ({"re_formula": "0 + x + z"}, "y ~ x + (0 + x + z | g)"),
    "crossed": ({"re_formula": "~1|item"}, "y ~ x + (1 | g) + (1 | item)"),
    "slope and crossed": ({"re_formula": "~x + (1 | item)"}, "y ~ x + (x | g) + (1 | item)"),
    "crossed slope": ({"re_formula": "~x|item"}, "y ~ x + (1 | g) + (x | item)"),
    "nlme's way": ({"re_formula": "~x|g"}, "y ~ x + (x | g)"),
    "classes": (
        {"re_formula": "1", "vc_formula": {"class": "0 + C(c)"}},
        "y ~ x + (1 | g) + (1 | g:c)",
    ),
    "independent slope": (
        {"re_formula": "1", "vc_formula": {"slope": "0 + x"}},
        "y ~ x + (1 | g) + (0 + x | g)",
    ),
    "component only": ({"vc_formula": {"slope": "0 + x"}}, "y ~ x + (0 + x | g)"),
    "slope by class": (
        {"re_formula": "1", "vc_formula": {"s": "0 + C(c):x"}},
        "y ~ x + (1 | g) + (0 + x | g:c)",
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("reml", [True, False])
def test_formulas_are_lme4s(frame: pd.DataFrame, case: str, reml: bool) -> None:
    arguments, formula = CASES[case]
    result = mixedlm("y ~ x", frame, groups="g", **arguments).fit(reml=reml)
    fit = lmer(formula, frame, reml=reml)
    assert result.converged
    assert result.llf == fit.llf and result.aic == fit.aic and result.bic == fit.bic
    assert np.array_equal(result.fe_params, fit.params)
    assert np.array_equal(result.bse_fe, fit.bse)
    assert result.scale == fit.scale
    assert np.array_equal(result.fittedvalues, fit.fittedvalues)
    again = lmer(result.formula_lme4, frame, reml=reml)
    assert again.objective == fit.objective


def test_single_group_idiom(frame: pd.DataFrame) -> None:
    """groups=np.ones(n) with dummies is statsmodels' way to crossed factors."""
    vc = {"g": "0 + C(g)", "item": "0 + C(item)"}
    result = mixedlm("y ~ x", frame, groups=np.ones(len(frame)), vc_formula=vc).fit()
    fit = lmer("y ~ x + (1 | g) + (1 | item)", frame)
    assert result.formula_lme4 == "y ~ x + (1 | g) + (1 | item)"
    assert result.llf == fit.llf
    assert np.array_equal(result.vcomp, fit.varcorr.vcov[:2])
    effects = result.random_effects[1.0]
    assert effects["item[C(item)[3]]"] == fit.ranef()["item"].loc[3, "Intercept"]
    assert result.random_effects_cov[1.0].shape == (31, 31)


def test_arrays_are_the_same(frame: pd.DataFrame) -> None:
    X = np.column_stack([np.ones(len(frame)), frame.x])
    by_formula = mixedlm("y ~ x", frame, groups="g", re_formula="~x").fit()
    by_arrays = MixedLM(frame.y.to_numpy(), X, frame.g.to_numpy(), exog_re=X).fit()
    by_pandas = MixedLM(frame.y, pd.DataFrame(X, columns=["const", "x"]), frame.g, X).fit()
    for result in (by_arrays, by_pandas):
        assert result.llf == by_formula.llf
        assert np.array_equal(result.params, by_formula.params)
        assert np.array_equal(result.bse, by_formula.bse)
    assert isinstance(by_arrays.params, np.ndarray) and isinstance(by_pandas.params, pd.Series)
    assert by_pandas.formula_lme4 == "y ~ x + (0 + x_re1 + x_re2 | g)"


def test_matrices_of_components(frame: pd.DataFrame) -> None:
    """exog_vc as dicts and as names, colnames, mats: levels become levels."""
    X = np.column_stack([np.ones(len(frame)), frame.x])
    rows = {g: np.flatnonzero(frame.g == g) for g in sorted(frame.g.unique())}
    dummies = {g: np.eye(3)[frame.c.to_numpy()[where]] for g, where in rows.items()}
    formula = lmer("y ~ x + (1 | g) + (1 | g:c)", frame)
    ones = np.ones(len(frame))
    result = MixedLM(frame.y.to_numpy(), X, frame.g.to_numpy(), ones, {"c": dummies}).fit()
    assert result.llf == formula.llf
    assert result.model.components[1].tied is False
    spec = SimpleNamespace(names=["c"], colnames=[[]], mats=[list(dummies.values())])
    again = MixedLM(frame.y.to_numpy(), X, frame.g.to_numpy(), ones, spec).fit()
    assert again.llf == result.llf


def dense_criterion(frame: pd.DataFrame, tied: float, own: float, reml: bool) -> float:
    """Deviance of y ~ x with (1 | g) of relative variance own, and x, z by g with one variance."""
    Z = (frame.g.to_numpy()[:, None] == np.unique(frame.g)).astype(float)
    V = np.eye(len(frame)) + own * Z @ Z.T
    for column in ("x", "z"):
        W = Z * frame[column].to_numpy()[:, None]
        V += tied * W @ W.T
    X = np.column_stack([np.ones(len(frame)), frame.x])
    y = frame.y.to_numpy()
    inner = X.T @ np.linalg.solve(V, X)
    r = y - X @ np.linalg.solve(inner, X.T @ np.linalg.solve(V, y))
    nu = len(frame) - 2 * reml
    f = np.linalg.slogdet(V)[1] + nu * (1 + np.log(2 * np.pi * (r @ np.linalg.solve(V, r)) / nu))
    return float(f + reml * np.linalg.slogdet(inner)[1])


@pytest.mark.parametrize("reml", [True, False])
def test_columns_that_share_a_variance(frame: pd.DataFrame, reml: bool) -> None:
    """vc_formula with several numeric columns: no lme4 formula, checked by dense algebra."""
    vc = {"slopes": "0 + x + z"}
    model = mixedlm("y ~ x", frame, groups="g", re_formula="1", vc_formula=vc)
    result = model.fit(reml=reml)
    assert result.formula_lme4 is None and "no formula" in str(result.summary())
    assert result.converged and result.model.components[1].tied
    own, tied = result.cov_re_unscaled.iloc[0, 0], result.vcomp[0] / result.scale
    best = dense_criterion(frame, tied, own, reml)
    close(-2 * result.llf, best, abs(best), 1e-10)
    for step in (0.97, 1.03):
        assert dense_criterion(frame, tied * step, own, reml) > best
        assert dense_criterion(frame, tied, own * step, reml) > best
    X = np.column_stack([np.ones(len(frame)), frame.x])
    rows = {g: np.flatnonzero(frame.g == g) for g in sorted(frame.g.unique())}
    both = {g: frame[["x", "z"]].to_numpy()[where] for g, where in rows.items()}
    ones = np.ones(len(frame))
    arrays = MixedLM(frame.y.to_numpy(), X, frame.g.to_numpy(), ones, {"slopes": both})
    close(arrays.fit(reml=reml).params, result.params, 1, 1e-6)


@pytest.mark.parametrize("seed", [9, 10, 12, 33])
def test_tied_columns_beside_the_same_columns(seed: int) -> None:
    """x has a variance of its own and a share of the tied one: negative curvature on the way."""
    data = simulated(seed, groups=14, per=18)
    arguments = {"groups": "g", "re_formula": "~x + cond", "vc_formula": {"t": "0 + x + z"}}
    result = mixedlm("y ~ cond", data, **arguments).fit()
    bare = mixedlm("y ~ cond", data, groups="g", re_formula="~x + cond").fit()
    assert result.converged and result.llf >= bare.llf - 1e-8


# ---- uncertainty of variances -------------------------------------------------------------------


def test_standard_errors_of_variances_by_differences(frame: pd.DataFrame) -> None:
    """bse_re against second differences of the likelihood in variances and residual variance."""
    result = mixedlm("y ~ x", frame, groups="g", re_formula="~x").fit(reml=False)
    assert not result.lmm.is_singular
    X = np.column_stack([np.ones(len(frame)), frame.x])
    y, g = frame.y.to_numpy(), frame.g.to_numpy()
    same = g[:, None] == g

    def deviance(v: np.ndarray) -> float:
        cov = np.array([[v[0], v[1]], [v[1], v[2]]])
        V = v[3] * np.eye(len(y)) + same * (X @ cov @ X.T)
        r = y - X @ np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, y))
        return float(np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r))

    at = np.array([*result.cov_re.to_numpy()[[0, 1, 1], [0, 0, 1]], result.scale])
    h = 1e-3 * np.abs(at)
    H = np.empty((4, 4))
    for i in range(4):
        for j in range(4):
            corners = [
                si * sj * deviance(at + si * h * (np.arange(4) == i) + sj * h * (np.arange(4) == j))
                for si in (-1, 1)
                for sj in (-1, 1)
            ]
            H[i, j] = sum(corners) / (4 * h[i] * h[j])
    close(result.bse_re, np.sqrt(np.diag(2 * np.linalg.inv(H)))[:3], result.bse_re, 1e-3)


def test_variance_at_zero_has_no_standard_error() -> None:
    frame = simulated()
    rng = np.random.default_rng(1)
    frame["y"] = rng.normal(size=len(frame))
    result = mixedlm("y ~ x", frame, groups="g", re_formula="1", vc_formula={"c": "0 + C(c)"}).fit()
    assert result.lmm.is_singular
    zero = np.r_[np.diag(result.cov_re), result.vcomp] == 0
    assert zero.any() and (np.isnan(result.bse_re) == zero).all()
    assert len(result.random_effects) == 24 and "Singular fit" in str(result.summary())


@pytest.mark.parametrize("vtype", ["re", "vc"])
@pytest.mark.parametrize("reml", [True, False])
def test_profile(frame: pd.DataFrame, vtype: str, reml: bool) -> None:
    """Highest at the estimate, and equal to a fit in which the ratio is held."""
    vc = {"class": "0 + C(c)"}
    result = mixedlm("y ~ x", frame, groups="g", re_formula="~x", vc_formula=vc).fit(reml=reml)
    which: Any = 1 if vtype == "re" else "class"
    estimate = result.cov_re.iloc[1, 1] if vtype == "re" else result.vcomp[0]
    likelihood = result.profile_re(which, vtype, 2, 0.4 * estimate, 2, 0.4 * estimate)
    assert likelihood.shape == (5, 2)
    close(likelihood[2], [estimate, result.llf], [estimate, abs(result.llf)], 1e-8)
    assert (np.delete(likelihood[:, 1], 2) < result.llf).all()
    assert (np.diff(likelihood[:, 0]) > 0).all()


def test_profile_errors(frame: pd.DataFrame) -> None:
    result = mixedlm("y ~ x", frame, groups="g").fit()
    for arguments, message in (
        ((0, "xx"), "vtype"),
        ((3, "re"), "re_ix"),
        (("nothing", "vc"), "nothing"),
        ((0, "re", 2, 1e9), "negative"),
    ):
        with pytest.raises(ValueError, match=message):
            result.profile_re(*arguments)


# ---- masks --------------------------------------------------------------------------------------


def test_independent_random_effects(frame: pd.DataFrame) -> None:
    free = MixedLMParams.from_components(fe_params=np.ones(2), cov_re=np.eye(3))
    result = mixedlm("y ~ x", frame, groups="g", re_formula="~x + z").fit(free=free)
    fit = lmer("y ~ x + (1 | g) + (0 + x | g) + (0 + z | g)", frame)
    close(result.llf, fit.llf, abs(fit.llf), 1e-12)
    assert result.aic == pytest.approx(fit.aic)
    cov = result.cov_re.to_numpy()
    assert (cov[~np.eye(3, dtype=bool)] == 0).all()
    held = [name.endswith("Cov") for name in result.bse_re.index]
    assert ((result.bse_re == 0) == held).all()
    assert list(result.random_effects[0].index) == ["g", "x", "z"]
    close(result.random_effects[0], [fit.ranef()["g"].loc[0].iloc[j] for j in range(3)], 1, 1e-7)


def test_blocks_of_random_effects(frame: pd.DataFrame) -> None:
    """A mask that lets the first and the last column correlate."""
    mask = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]])
    free = MixedLMParams.from_components(fe_params=np.ones(2), cov_re=mask)
    result = mixedlm("y ~ x", frame, groups="g", re_formula="~x + z").fit(free=free)
    fit = lmer("y ~ x + (z | g) + (0 + x | g)", frame)
    close(result.llf, fit.llf, abs(fit.llf), 1e-10)
    assert result.cov_re.iloc[0, 1] == 0 and result.cov_re.iloc[0, 2] != 0


def test_variance_held_at_its_start(frame: pd.DataFrame) -> None:
    free = MixedLMParams.from_components(np.ones(2), np.zeros((1, 1)))
    start = MixedLMParams.from_components(np.zeros(2), np.array([[0.7]]))
    model = mixedlm("y ~ x", frame, groups="g")
    held = model.fit(free=free, start_params=start)
    assert held.cov_re_unscaled.iloc[0, 0] == pytest.approx(0.7)
    assert held.llf == pytest.approx(model.loglike(start))
    assert held.llf < model.fit().llf
    assert model.fit(do_cg=False, start_params=start).llf == held.llf


def test_no_certificate_away_from_the_optimum(frame: pd.DataFrame) -> None:
    """Where the curvature is indefinite too: a saddle's predicted gain is not negative."""
    fit = lmer("y ~ x + (x + z | g)", frame)
    assert fit.model.at(fit.theta).converged
    rng = np.random.default_rng(2)
    for size in (1e-3, 0.1, 1.0, 5.0):
        for _ in range(5):
            there = fit.model.at(size * rng.normal(size=6))
            assert not there.converged and there.certificate > 1e-6


def test_likelihood_at_given_parameters(frame: pd.DataFrame) -> None:
    model = mixedlm("y ~ x", frame, groups="g", re_formula="~x")
    for reml in (True, False):
        result = model.fit(reml=reml)
        at = result.params_object
        assert model.loglike(at) == pytest.approx(result.llf, abs=1e-9)
        assert model.loglike(at, profile_fe=False) == pytest.approx(result.llf, abs=1e-9)
        away = at.copy()
        away.fe_params = at.fe_params + 0.1
        assert model.loglike(away, profile_fe=False) < result.llf
    X = np.column_stack([np.ones(len(frame)), frame.x])
    same = (frame.g.to_numpy()[:, None] == frame.g.to_numpy()).astype(float)
    V = np.eye(len(frame)) + same * (X @ away.cov_re @ X.T)
    r = frame.y.to_numpy() - X @ away.fe_params
    n = len(frame)
    deviance = np.linalg.slogdet(V)[1] + n * (1 + np.log(2 * np.pi * r @ np.linalg.solve(V, r) / n))
    assert model.loglike(away, profile_fe=False) == pytest.approx(-deviance / 2, abs=1e-8)


# ---- data of every kind -------------------------------------------------------------------------

LABELS = {
    "integers": lambda g: g * 7 - 20,
    "strings": lambda g: np.array([f"s{v}" for v in g], dtype=object),
    "pandas strings": lambda g: pd.Series([f"s{v}" for v in g], dtype="string"),
    "categories": lambda g: pd.Categorical([f"s{v}" for v in g]),
    "booleans": lambda g: g % 2 == 0,
    "a list": lambda g: [f"s{v}" for v in g],
    "floats": lambda g: g / 2,
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_groups(frame: pd.DataFrame, kind: str) -> None:
    labels = LABELS[kind](frame.g.to_numpy())
    data = frame.assign(label=labels)
    by_name = mixedlm("y ~ x", data, groups="label").fit()
    by_array = mixedlm("y ~ x", frame, groups=labels).fit()
    arrays = MixedLM(frame.y, frame[["x"]], labels).fit()
    fit = lmer("y ~ x + (1 | label)", data)
    assert by_name.llf == fit.llf == by_array.llf
    assert len(by_name.random_effects) == fit.n_levels["label"] == arrays.model.n_groups
    assert list(by_name.random_effects) == fit.ranef()["label"].index.tolist()


def test_series_of_the_data_keeps_its_name(frame: pd.DataFrame) -> None:
    assert mixedlm("y ~ x", frame, groups=frame["g"]).formula_lme4 == "y ~ x + (1 | g)"
    other = frame["g"] + 1
    assert mixedlm("y ~ x", frame, groups=other).formula_lme4 == "y ~ x + (1 | Group)"


def test_missing_values_in_any_column(frame: pd.DataFrame) -> None:
    data = frame.copy()
    for row, name in enumerate(["y", "g", "x", "z", "c", "cond"]):
        data[name] = data[name].astype(object)
        data.loc[row, name] = None
    data = data.infer_objects()
    arguments = {"groups": "g", "re_formula": "~z", "vc_formula": {"c": "0 + C(c)"}}
    result = mixedlm("y ~ x + cond", data, **arguments).fit()
    assert result.nobs == len(data) - 6 == len(result.resid)
    assert list(result.resid.index) == list(data.index[6:])
    complete = mixedlm("y ~ x + cond", data.dropna(), **arguments).fit()
    assert complete.llf == result.llf
    assert "6 of 216 rows dropped" in str(result.summary())
    for missing in ("none", "raise"):
        with pytest.raises(DataError, match='missing="drop"'):
            mixedlm("y ~ x + cond", data, missing=missing, **arguments)
    with pytest.raises(DataError, match="missing"):
        MixedLM.from_formula("y ~ x", data, groups="g")
    with pytest.raises(ValueError, match="must be"):
        mixedlm("y ~ x", data, groups="g", missing="omit")


def test_missing_values_in_arrays(frame: pd.DataFrame) -> None:
    y = frame.y.copy()
    y[3] = np.nan
    groups = frame.g.astype(float).copy()
    groups[5] = np.nan
    with pytest.raises(DataError, match="endog has missing"):
        MixedLM(y, frame[["x"]], groups)
    result = MixedLM(y, frame[["x"]], groups, missing="drop").fit()
    kept = frame.drop(index=[3, 5])
    assert result.llf == MixedLM(kept.y, kept[["x"]], kept.g).fit().llf
    assert list(result.fittedvalues.index) == list(kept.index)


def test_labels_in_exog(frame: pd.DataFrame) -> None:
    X = frame[["x", "cond"]].assign(const=1.0)
    result = MixedLM(frame.y, X, frame.g).fit()
    fit = lmer("y ~ x + cond + (1 | g)", frame)
    close(result.llf, fit.llf, abs(fit.llf), 1e-12)
    assert list(result.fe_params.index) == ["x", "cond[T.b]", "const"]
    assert result.formula_lme4 == "y ~ x + cond + (1 | g)"


def test_other_tables(frame: pd.DataFrame) -> None:
    polars = pytest.importorskip("polars")
    result = mixedlm("y ~ x", frame, groups="g").fit()
    for data in (polars.from_pandas(frame), {name: frame[name].to_numpy() for name in frame}):
        assert mixedlm("y ~ x", data, groups="g").fit().llf == result.llf


def test_functions_of_the_caller(frame: pd.DataFrame) -> None:
    def doubled(x: Any) -> Any:
        return 2 * x

    half = 0.5
    result = mixedlm("y ~ doubled(x)", frame, groups="g").fit()
    plain = mixedlm("y ~ x", frame, groups="g").fit()
    close(2 * result.fe_params["doubled(x)"], plain.fe_params["x"], 1, 1e-8)
    scaled = mixedlm("y ~ I(x * half)", frame, groups="g").fit()
    close(half * scaled.fe_params.iloc[1], plain.fe_params["x"], 1, 1e-8)
    close(result.predict({"x": [1.0]}), plain.predict({"x": [1.0]}), 1, 1e-8)
    with pytest.raises(FormulaError, match="doubled"):
        mixedlm("y ~ doubled(x)", frame, groups="g", eval_env=-1)


def test_patsys_dialect(frame: pd.DataFrame) -> None:
    """Order of columns, ordered categories and scale() as statsmodels' formulas have them."""
    data = frame.assign(
        o=pd.Categorical(np.where(frame.x > 0.5, "hi", "lo"), ["lo", "hi"], ordered=True),
        flag=frame.z > 0,
        **{"a b": frame.z},
    )
    names = {
        "y ~ x * cond + C(c)": ["cond[T.b]", "C(c)[T.1]", "C(c)[T.2]", "x", "x:cond[T.b]"],
        "y ~ o": ["o[T.hi]"],
        "y ~ x:cond + np.log(z + 9)": ["x:cond[a]", "x:cond[b]", "np.log(z + 9)"],
        'y ~ Q("a b")': ['Q("a b")'],
        'y ~ C(cond, Treatment("b")) + I(.5 * x)': ['C(cond, Treatment("b"))[T.a]', "I(.5 * x)"],
        "y ~ I(flag * 1)": ["I(flag * 1)"],
        "y ~ C(cond, Treatment(1))": ["C(cond, Treatment(1))[T.a]"],  # a position from 0
        "y ~ C(c, Diff)": ["C(c, Diff)[D.0]", "C(c, Diff)[D.1]"],
        "y ~ C(c, Poly)": ["C(c, Poly).Linear", "C(c, Poly).Quadratic"],
        "y ~ bs(x, df=4)": [f"bs(x, df=4)[{j}]" for j in range(4)],
    }
    for formula, expected in names.items():
        result = mixedlm(formula, data, groups="g").fit()
        assert list(result.fe_params.index) == ["Intercept", *expected]
    scaled = mixedlm("y ~ scale(x)", data, groups="g").fit()
    z = (data.x - data.x.mean()) / data.x.std(ddof=0)
    close(scaled.model.exog[:, 1], z, 1, 1e-12)
    close(scaled.predict(data.head(2)), scaled.predict()[:2], 1, 1e-12)
    by_n_1 = mixedlm("y ~ standardize(x, ddof=1)", data, groups="g").fit()
    close(by_n_1.model.exog[:, 1], (data.x - data.x.mean()) / data.x.std(ddof=1), 1, 1e-12)
    kept = pickle.loads(pickle.dumps(scaled))
    close(kept.predict(data.head(2)), scaled.predict()[:2], 1, 1e-12)


def test_names_of_the_caller_come_first(frame: pd.DataFrame) -> None:
    def scale(x: Any) -> Any:
        return 3 * x

    result = mixedlm("y ~ scale(x)", frame, groups="g").fit()
    close(result.model.exog[:, 1], 3 * frame.x, 1, 1e-12)
    again = pickle.loads(pickle.dumps(result))  # without the local function
    assert again.llf == result.llf
    for _ in range(2):  # never R's function of the same name in its place
        again = pickle.loads(pickle.dumps(again))
        with pytest.raises(FormulaError, match=r"'scale' .* could not be pickled"):
            again.predict(frame.head(2))
    fit = lmer("y ~ scale(x) + (1 | g)", frame)  # lme4's formulas are R's
    close(fit.design.X[:, 1].std(ddof=1), 1, 1, 1e-12)


def test_order_of_rows_of_groups(frame: pd.DataFrame) -> None:
    for call in (
        lambda g: mixedlm("y ~ x", frame, groups=g),
        lambda g: MixedLM(frame.y, frame[["x"]], g),
    ):
        with pytest.raises(DataError, match="another order"):
            call(frame.g.sample(frac=1, random_state=2))


def test_empty_random_effects_formulas(frame: pd.DataFrame) -> None:
    vc = {"slope": "0 + x"}
    bare = mixedlm("y ~ x", frame, groups="g", vc_formula=vc).fit()
    assert mixedlm("y ~ x", frame, groups="g", re_formula="0", vc_formula=vc).fit().llf == bare.llf
    plain = mixedlm("y ~ x", frame, groups="g").fit()
    assert mixedlm("y ~ x", frame, groups="g", re_formula="").fit().llf == plain.llf
    nested = mixedlm("y ~ x", frame, groups="g", re_formula="~1|g/c").fit()
    assert nested.llf == lmer("y ~ x + (1 | g/c)", frame).llf


def test_subset(frame: pd.DataFrame) -> None:
    chosen = frame.x > 0
    expected = mixedlm("y ~ x", frame[chosen], groups="g").fit().llf
    assert mixedlm("y ~ x", frame, groups="g", subset=chosen).fit().llf == expected
    by_array = mixedlm("y ~ x", frame, groups=frame.g.to_numpy(), subset=chosen)
    assert by_array.fit().llf == expected


# ---- the results --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result(frame: pd.DataFrame) -> MixedLMResults:
    vc = {"class": "0 + C(c)"}
    return mixedlm("y ~ x + cond", frame, groups="g", re_formula="~x", vc_formula=vc).fit()


def test_names(result: MixedLMResults) -> None:
    fixed = ["Intercept", "cond[T.b]", "x"]  # patsy's order
    own = ["g Var", "g x x Cov", "x Var"]
    names = [*fixed, *own, "class Var"]
    for values in (result.params, result.bse, result.tvalues, result.pvalues):
        assert list(values.index) == names
    assert list(result.cov_params().columns) == names
    assert list(result.cov_re.index) == list(result.cov_re_unscaled.columns) == ["g", "x"]
    assert list(result.bse_re.index) == [*own, "class Var"]
    assert result.model.data.exog_re_names_full == own
    assert result.df_modelwc == 7 and result.df_resid == result.nobs - 3
    assert result.model.k_params == 7 and result.model.exog_names == fixed
    assert result.use_t is False and result.method == "REML"


def test_everything_hangs_together(result: MixedLMResults, frame: pd.DataFrame) -> None:
    close(result.cov_re, result.scale * result.cov_re_unscaled, 1, 1e-14)
    close(np.asarray(result.params)[3:], np.r_[1, 1, 1, 1] * _packed(result), 1, 1e-14)
    close(result.tvalues, result.params / result.bse, 1, 1e-12)
    close(result.normalized_cov_params * result.scale, result.cov_params(), 1, 1e-12)
    interval = result.conf_int(0.1)
    close(interval[1] - interval[0], 2 * 1.6448536269514722 * result.bse, 1, 1e-9)
    close(result.fittedvalues + result.resid, frame.y, 1, 1e-12)
    close(result.lmm.llf, result.llf, 1, 0)
    assert result.predict().equals(result.lmm.predict(re_form="none"))
    assert result.predict(frame.head(3), re_form="all").equals(result.lmm.predict(frame.head(3)))
    sizes = [len(rows) for rows in result.model.row_indices.values()]
    assert sum(sizes) == result.nobs and len(sizes) == result.model.n_groups
    assert [len(part) for part in result.model.group_list(result.model.endog)] == sizes


def _packed(result: MixedLMResults) -> np.ndarray:
    own = result.cov_re_unscaled.to_numpy()
    return np.r_[own[0, 0], own[1, 0], own[1, 1], result.vcomp / result.scale]


def test_random_effects(result: MixedLMResults, frame: pd.DataFrame) -> None:
    effects = result.random_effects
    assert isinstance(effects, dict) and len(effects) == 24
    names = ["g", "x", "class[C(c)[0]]", "class[C(c)[1]]", "class[C(c)[2]]"]
    table = pd.DataFrame.from_dict(effects, orient="index")
    assert list(table.columns) == names and list(table.index) == list(range(24))
    modes = result.ranef()
    assert np.array_equal(table[["g", "x"]], modes["g"])
    assert table.loc[4, "class[C(c)[2]]"] == modes["g:c"].loc["4:2", "Intercept"]
    assert list(effects[:3]) == [0, 1, 2] and list(effects[-1:]) == [23]
    assert pd.DataFrame(effects).shape == (5, 24)
    assert effects.get("nobody") is None and 3 in effects
    with pytest.raises(KeyError):
        effects["nobody"]
    for kept in (
        pickle.loads(pickle.dumps(effects)),
        {**effects},
        dict(effects),
        copy.copy(effects),
    ):
        assert list(kept) == list(effects) and kept[3].equals(effects[3])


def test_conditional_covariances(result: MixedLMResults, frame: pd.DataFrame) -> None:
    """Against sigma^2 (Z'Z + Psi^-1)^-1 of one group."""
    assert not result.lmm.is_singular
    covariance = result.random_effects_cov[5]
    rows = np.flatnonzero(frame.g == 5)
    Z = np.column_stack(
        [np.ones(len(rows)), frame.x.to_numpy()[rows], np.eye(3)[frame.c.to_numpy()[rows]]]
    )
    psi = np.zeros((5, 5))
    psi[:2, :2] = result.cov_re_unscaled
    psi[2:, 2:] = np.eye(3) * result.vcomp[0] / result.scale
    expected = result.scale * np.linalg.inv(Z.T @ Z + np.linalg.inv(psi))
    close(covariance, expected, np.abs(expected).max(), 1e-10)
    crossed = mixedlm("y ~ x", frame, groups="g", re_formula="~1|item").fit()
    sd = crossed.ranef(cond_var=True)["g"]["condsd"]["Intercept"]
    close(crossed.random_effects_cov[2].iloc[0, 0], sd.loc[2] ** 2, 1, 1e-12)


def test_hypotheses(result: MixedLMResults) -> None:
    test = result.t_test(np.eye(3))
    assert np.array_equal(test.effect, result.fe_params) and np.array_equal(test.sd, result.bse_fe)
    close(test.tvalue, result.tvalues[:3], 1, 1e-12)
    named = result.wald_test("x = 0, cond[T.b] = 0")
    padded = np.zeros((2, 7))
    padded[0, 2] = padded[1, 1] = 1
    close(result.wald_test(padded).statistic, named.statistic, 1, 1e-12)
    close(result.f_test("x = 0").pvalue, result.t_test("x = 0", use_t=True).pvalue[0], 1, 1e-10)
    with pytest.raises(ValueError, match="should have 3 columns"):
        result.t_test(np.eye(4))
    for variances in (np.eye(7), "g Var = 0"):
        with pytest.raises(ValueError, match="profile_re"):
            result.wald_test(variances)


def test_summary(result: MixedLMResults) -> None:
    summary = result.summary()
    text = str(summary)
    for line in ("Mixed Linear Model Regression Results", "No. Observations:", "g x x Cov"):
        assert line in text
    assert "lme4: y ~ x + cond + (x | g) + (1 | g:c)" in text and "Optimum certified" in text
    widths = {len(line) for line in text.split("\n") if set(line) in ({"="}, {"-"})}
    assert len(widths) == 1
    assert list(summary.tables[1].index) == list(result.params.index)
    assert "<table" in summary.as_html() and summary._repr_html_() == summary.as_html()
    latex = summary.as_latex(label="tab:m")
    assert r"\begin{tabular}" in latex and r"\label{tab:m}" in latex and r"P\textgreater{}" in latex
    other = result.summary(yname="out", xname_fe=["a", "b_1", "c"], title="T", alpha=0.1)
    assert list(other.tables[1].index[:3]) == ["a", "b_1", "c"] and r"b\_1" in other.as_latex()
    assert "[0.05" in other.tables[1].columns and other.title == "T"
    with pytest.raises(ValueError, match="length 3"):
        result.summary(xname_fe=["a"])


def test_save_and_remove_data(frame: pd.DataFrame, tmp_path: Path) -> None:
    for arguments in ({"re_formula": "~x"}, {"vc_formula": {"c": "0 + C(c)"}, "re_formula": "1"}):
        model = mixedlm("y ~ x + cond", frame, groups="g", **arguments)
        result, sibling = model.fit(), model.fit()
        text, interval = str(result.summary()), result.conf_int()
        whole, small = tmp_path / "whole.pickle", tmp_path / "small.pickle"
        result.save(whole)
        loaded = MixedLMResults.load(whole)
        assert loaded.llf == result.llf and str(loaded.summary()) == text
        assert loaded.model.fit().llf == result.llf
        effects = result.random_effects[3]
        result.save(str(small), remove_data=True)
        for bare in (result, MixedLMResults.load(small)):
            assert str(bare.summary()).split("rows dropped")[0] == text.split("rows dropped")[0]
            assert bare.conf_int().equals(interval) and bare.random_effects[3].equals(effects)
            close(bare.predict(frame.head(2)), loaded.predict(frame.head(2)), 1, 0)
            with pytest.raises(lmmfast.LmmError, match="removed"):
                _ = bare.random_effects_cov
            with pytest.raises(lmmfast.LmmError, match="removed"):
                _ = bare.fittedvalues
        assert small.stat().st_size < whole.stat().st_size
        assert sibling.model.fit().llf == sibling.llf and len(sibling.resid) == len(frame)


def test_simulated_responses(frame: pd.DataFrame) -> None:
    """Variances of draws are those of the model."""
    model = mixedlm("y ~ x", frame, groups="g", re_formula="~x", vc_formula={"c": "0 + C(c)"})
    result = model.fit()
    draw = model.get_distribution(np.asarray(result.params), result.scale, None)
    rng = np.random.default_rng(1)
    draws = np.array([draw.rvs(0, rng=rng) for _ in range(2000)])
    X = result.model.exog
    variance = np.einsum("ni,ij,nj->n", X, result.cov_re, X) + result.vcomp[0] + result.scale
    assert abs(draws.mean(0) - X @ result.fe_params).max() < 5 * np.sqrt(variance.max() / 2000)
    assert abs(draws.var(0) / variance - 1).max() < 0.2


# ---- notes and errors ---------------------------------------------------------------------------


def test_unused_arguments_are_noted_once(frame: pd.DataFrame) -> None:
    model = mixedlm("y ~ x", frame, groups="g")
    with pytest.warns(UnusedArgumentWarning, match="method") as caught:
        result = model.fit(method="lbfgs", maxiter=200, gtol=1e-6, cov_type="hc1")
    assert len(caught) == 1
    for name in ("cov_type", "method", "maxiter", "gtol"):
        assert name in str(caught[0].message)
    assert Path(caught[0].filename) == Path(__file__)
    assert result.llf == model.fit().llf
    history = model.fit(full_output=True).hist
    assert history and min(e.objective for e in history) == pytest.approx(-2 * result.llf)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"groups": None}, FormulaError, "groups= is required"),
        ({"groups": "nobody"}, DataError, "nobody"),
        ({"groups": [1, 2, 3]}, DataError, "216 rows"),
        ({"groups": "g", "re_formula": "y ~ x"}, FormulaError, "one-sided"),
        ({"groups": "g", "re_formula": 3}, FormulaError, "text"),
        ({"groups": "g", "re_formula": "~nothing"}, FormulaError, "nothing"),
        ({"groups": "g", "vc_formula": "0 + C(c)"}, FormulaError, "name its components"),
        ({"groups": "g", "vc_formula": {"a": "C(c)"}}, FormulaError, "0 \\+ C"),
        (
            {"groups": "g", "vc_formula": {"a": "0 + C(c) + x"}},
            FormulaError,
            "component of its own",
        ),
        ({"groups": np.ones(216)}, DataError, "one level"),
        (
            {"groups": "g", "re_formula": "0 + x", "vc_formula": {"s": "0 + x"}},
            FormulaError,
            "once more",
        ),
    ],
)
def test_errors(
    frame: pd.DataFrame, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        mixedlm("y ~ x", frame, **arguments).fit()


def test_errors_of_arrays(frame: pd.DataFrame) -> None:
    y, X, g = frame.y, frame[["x"]], frame.g
    for arguments, message in (
        ((y, X, g[:5]), "groups has shape"),
        ((y, X[:5].reset_index(), g), "different indices"),
        ((y.to_numpy(), X.to_numpy()[:5], g), "exog has shape"),
        ((y.to_numpy(), frame[["cond"]].to_numpy(), g), "not numbers"),
        ((y * np.inf, X, g), "infinite"),
        ((y * 0, X, g), "constant"),
        ((y, X, np.ones(len(y))), "one level"),
        ((y, X, g, None, {"a": {0: np.ones((2, 1))}}), "no matrix for group"),
    ):
        with pytest.raises(DataError, match=message):
            quiet(MixedLM, *arguments)
    with pytest.raises(ValueError, match="no argument"):
        MixedLM(y, X, g, weights=y)
    model = MixedLM(y, X, g)
    with pytest.raises(FitError, match="penalized"):
        model.fit(fe_pen=object())
    with pytest.raises(FitError, match="penalized"):
        model.fit_regularized()
    with pytest.raises(ValueError, match="start_params"):
        model.fit(start_params=np.ones(7))
    with pytest.raises(DataError, match="must be a dict"):
        MixedLM(y, X, g, exog_vc=np.ones((3, 3)))
    result = model.fit()
    close(result.predict([1.0]), result.fe_params, 1, 1e-12)
    with pytest.raises(DataError, match="needs 1 columns"):
        result.predict(np.ones((2, 2)))


def test_restricted_likelihoods_are_not_compared(frame: pd.DataFrame) -> None:
    less, more = (mixedlm(f, frame, groups="g").fit() for f in ("y ~ 1", "y ~ x"))
    for compare in (lambda: less.llf - more.llf, lambda: less.aic < more.aic):
        with pytest.warns(lmmfast.RestrictedLikelihoodWarning, match="reml=False"):
            compare()
    slopes = mixedlm("y ~ x", frame, groups="g", re_formula="~x").fit()
    assert slopes.llf - more.llf > 0 and slopes.aic != more.aic
    with pytest.warns(lmmfast.RestrictedLikelihoodWarning):
        assert -2 * less.llf - -2 * more.llf == -2 * (float(less.llf) - float(more.llf))
    assert less.llf.round(2) == round(float(less.llf), 2)
    kept = pickle.loads(pickle.dumps(less.llf))
    assert kept == less.llf and kept + 1 == float(less.llf) + 1


def test_example_data() -> None:
    """The docstring's example, and the names of groups given by column."""
    data = datasets.load("sleepstudy")
    result = mixedlm("Reaction ~ Days", data, groups="Subject", re_formula="~Days").fit()
    assert result.formula_lme4 == "Reaction ~ Days + (Days | Subject)"
    assert list(result.cov_re.columns) == ["Subject", "Days"]
