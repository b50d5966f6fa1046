"""Predictions with parts of the random effects, modes in other forms, against lme4."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lmmfast import datasets, lmer
from lmmfast.errors import DataError, LmmWarning

FOLDER = Path(__file__).parent
FACTS = json.loads((FOLDER / "modes/cases.json").read_text())
NEW = pd.DataFrame(FACTS["new"])


@cache
def trials() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "means/trials.csv")


@cache
def fit_of(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        weights = "w" if name == "weighted" else None
        return lmer(FACTS["models"][name], trials(), weights=weights)


@pytest.mark.parametrize("case", FACTS["predictions"], ids=lambda c: f"{c['model']} {c['re_form']}")
def test_parts_of_terms(case: dict[str, Any]) -> None:
    found = fit_of(case["model"]).predict(NEW, re_form=case["re_form"])
    np.testing.assert_allclose(found, case["predicted"], rtol=2e-5)


@pytest.mark.parametrize("case", FACTS["random"], ids=lambda c: c["model"])
def test_random_effects_alone(case: dict[str, Any]) -> None:
    found = fit_of(case["model"]).predict(NEW, random_only=True)
    np.testing.assert_allclose(found, case["values"], atol=2e-4)


@pytest.mark.parametrize("case", FACTS["coefs"], ids=lambda c: c["model"])
def test_coefficients_by_level(case: dict[str, Any]) -> None:
    found = fit_of(case["model"]).coef()
    for group, theirs in case["groups"].items():
        own = found[":".join(reversed(group.split(":"))) if group not in found else group]
        assert own.shape == np.shape(theirs["values"])
        names = [name.replace("(Intercept)", "Intercept") for name in theirs["columns"]]
        plain = own.rename(columns=lambda name: name.replace("[T.", "").replace("]", ""))
        order = [
            ":".join(reversed(v.split(":"))) if v not in plain.index else v
            for v in theirs["levels"]
        ]
        np.testing.assert_allclose(plain.loc[order, names], theirs["values"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("case", FACTS["covs"], ids=lambda c: c["model"])
def test_conditional_covariances(case: dict[str, Any]) -> None:
    found = next(iter(fit_of(case["model"]).ranef_cov().values()))
    np.testing.assert_allclose(found[0], case["first"], rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(found[-1], case["last"], rtol=2e-3, atol=1e-4)


def test_words_for_all_and_none() -> None:
    fit = fit_of("slopes")
    everything, nothing = fit.predict(NEW), fit.predict(NEW, re_form="none")
    for word in (None, ["subj", "item"], "~(x | subj) + (1 | item)"):
        pd.testing.assert_series_equal(fit.predict(NEW, re_form=word), everything)
    for word in ("~0", "NA", float("nan"), pd.NA, []):
        pd.testing.assert_series_equal(fit.predict(NEW, re_form=word), nothing)
    own = fit.predict(re_form="~(1 | subj)")
    same = fit.predict(trials(), re_form="~(1 | subj)")
    np.testing.assert_allclose(own, same, rtol=1e-12)


def test_errors_of_parts_of_terms() -> None:
    """A part of a term has the variance of its own columns; what is left out varies."""
    fit = fit_of("slopes")
    part = fit.predict(NEW, re_form="~(1 | subj)", interval="prediction")
    whole = fit.predict(NEW, re_form=["subj"], interval="prediction")
    none = fit.predict(NEW, re_form="none", interval="prediction", ddf="z")
    width = {
        name: (own.upper - own.lower) for name, own in (("p", part), ("w", whole), ("n", none))
    }
    assert (width["w"] < width["p"]).all() and (width["p"] < width["n"]).all()
    intercepts = fit.predict(NEW.assign(x=0.0), re_form="~(1 | subj)", se=True)
    both = fit.predict(NEW.assign(x=0.0), re_form="~(x | subj)", se=True)
    np.testing.assert_allclose(intercepts["se"], both["se"], rtol=1e-12)


def test_unseen_levels() -> None:
    fit = fit_of("slopes")
    new = NEW.assign(subj=["s01", "new", "new", "other"])
    assert fit.predict(new, new_levels="missing").isna().tolist() == [False, True, True, True]
    one = fit.predict(new, new_levels="sample", seed=3)
    pd.testing.assert_series_equal(one, fit.predict(new, new_levels="sample", seed=3))
    plain = fit.predict(new, new_levels="population")
    assert one[0] == plain[0] and (one[1:] != plain[1:]).all()
    assert (one != fit.predict(new, new_levels="sample", seed=4)).tolist() == [
        False,
        True,
        True,
        True,
    ]
    alone = fit.predict(new[2:], new_levels="sample", seed=3)
    np.testing.assert_allclose(alone, one[2:])  # whatever other rows there are
    many = (
        NEW.iloc[[0]]
        .assign(x=0.0)
        .loc[np.zeros(4000, int)]
        .assign(subj=[f"n{i}" for i in range(4000)])
    )
    drawn = fit.predict(many, new_levels="sample") - fit.predict(many, new_levels="population")
    sd = float(fit.varcorr["sdcor"].iloc[0])
    assert drawn.std() == pytest.approx(sd, rel=0.05) and abs(drawn.mean()) < 4 * sd / 60
    with pytest.raises(DataError, match='"missing" as missing'):
        fit.predict(new)


def test_one_row() -> None:
    fit, data = fit_of("slopes"), trials()
    row = fit.predict(data.iloc[7])
    assert len(row) == 1 and row.iloc[0] == pytest.approx(fit.fittedvalues.iloc[7], rel=1e-12)
    scalars = fit.predict({name: NEW[name][0] for name in NEW})
    assert scalars.iloc[0] == pytest.approx(fit.predict(NEW).iloc[0], rel=1e-12)


def test_partial_fitted_adds_up() -> None:
    fit = fit_of("slopes")
    parts = [fit.partial_fitted(own) for own in ("Intercept", "f", "x")]
    parts += [
        fit.partial_fitted("none", own) for own in ("~(1 | subj)", "~(0 + x | subj)", ["item"])
    ]
    np.testing.assert_allclose(sum(parts), fit.fittedvalues, rtol=1e-10)
    y = fit.partial_fitted("all", "all", residuals=True)
    np.testing.assert_allclose(y, trials()["y"], rtol=1e-10)
    without = fit.partial_fitted(["Intercept", "f"], "none", residuals=True)
    removed = trials()["y"] - fit.partial_fitted("x") - fit.predict(random_only=True)
    np.testing.assert_allclose(without, removed, rtol=1e-9)
    np.testing.assert_allclose(
        fit.partial_fitted("f[T.b]"), fit.params["f[T.b]"] * (trials().f == "b")
    )
    with pytest.raises(DataError, match="no term or coefficient"):
        fit.partial_fitted("nope")


def test_shrinkage_of_balanced_means() -> None:
    """Balanced random intercepts shrink least squares by one factor (a textbook formula)."""
    data = datasets.load("sleepstudy")
    fit = lmer("Reaction ~ Days + (1 | Subject)", data)
    table = fit.shrinkage()
    T = float(fit.estimates.T[0][0, 0])
    np.testing.assert_allclose(
        table["mode"], table["least_squares"] * 10 * T**2 / (1 + 10 * T**2), rtol=1e-9
    )
    residual = data["Reaction"] - fit.predict(re_form="none")
    np.testing.assert_allclose(
        table["least_squares"].astype(float), residual.groupby(data["Subject"]).mean(), rtol=1e-9
    )
    wide = lmer("y ~ f + x + (x | subj)", trials()[trials().subj.ne("s01") | (trials().index == 0)])
    assert wide.shrinkage().loc[:1, "least_squares"].isna().all()  # one row, two columns


def test_predictions_on_the_scale_of_the_response() -> None:
    data = trials()
    fit = lmer("log(y) ~ f + x + (1 | subj)", data)
    plain, shown = (fit.predict(NEW, se=True, type=own) for own in ("link", "response"))
    for column in ("fit", "lower", "upper"):
        np.testing.assert_allclose(shown[column], np.exp(plain[column]), rtol=1e-12)
    np.testing.assert_allclose(shown["se"], np.exp(plain["fit"]) * plain["se"], rtol=1e-12)
    mean = fit.predict(NEW, type="response", bias_adjust=True)
    np.testing.assert_allclose(mean / shown["fit"], np.exp(fit.sigma**2 / 2), rtol=1e-10)
    marginal = fit.predict(NEW, re_form="none", type="response", bias_adjust=True)
    total = fit.sigma**2 * (1 + float(fit.estimates.T[0][0, 0]) ** 2)
    expected = np.exp(fit.predict(NEW, re_form="none") + total / 2)
    np.testing.assert_allclose(marginal, expected, rtol=1e-10)
    inverse = lmer("-1000 / y ~ f + (1 | subj)", data).predict(NEW, se=True, type="response")
    assert (inverse["lower"] < inverse["fit"]).all() and (inverse["fit"] < inverse["upper"]).all()
    assert (inverse["se"] > 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"re_form": "~(1 | nobody)"}, "'nobody' is no grouping factor"),
        ({"re_form": "~(f | subj)"}, "have no column"),
        ({"re_form": "~(1 | subj"}, "cannot be read"),
        ({"re_form": "~(zz | subj)"}, "'zz'"),
        ({"random_only": True, "se": True}, "no standard errors"),
        ({"type": "response"}, "not transformed"),
        ({"bias_adjust": True}, 'type="response"'),
        ({"new_levels": "nan"}, '"missing", "sample"'),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_of("slopes").predict(NEW, **arguments)


@pytest.mark.parametrize(
    ("formula", "arguments"),
    [
        ("y ~ f + x + (x | subj) + (1 | item)", {}),
        ("y ~ f + x + (x || subj)", {}),
        ("y ~ f + (1 | item / subj)", {"weights": "w"}),
        ("y ~ x + (1 | subj) + (0 + x | subj) + (f | item)", {"offset": "dose"}),
        ("y ~ f + (0 + f | subj)", {"weights": "w"}),
    ],
)
@pytest.mark.parametrize("empty", [False, True])
def test_shrinkage_is_least_squares_in_each_level(
    formula: str, arguments: dict[str, Any], empty: bool
) -> None:
    """From rows, from cross-products, and by numpy's least squares with the terms' own columns."""
    data = trials()
    if empty:
        data = data[~((data.f == "c") & (data.g == "q"))].reset_index(drop=True)
        formula = formula.replace("y ~", "y ~ f:g +")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        fit = lmer(formula, data, **arguments)
        streamed = lmer(formula, [data[:60], data[60:]], **arguments)
    table, other = fit.shrinkage(), streamed.shrinkage()
    pd.testing.assert_frame_equal(table, other, rtol=1e-6, atol=1e-8)
    root = np.sqrt(data["w"].to_numpy()) if "weights" in arguments else np.ones(len(data))
    at = 0
    for i, term in enumerate(fit.design.terms):
        left = fit.resid.to_numpy() + np.einsum("ij,ij->i", term.z, fit.estimates.b[i][term.codes])
        for level in range(len(term.levels)):
            rows, k = term.codes == level, len(term.columns)
            z = term.z[rows] * root[rows, None]
            own = table.iloc[at : at + k]
            at += k
            assert (own["rows"] == rows.sum()).all()
            if np.linalg.matrix_rank(z) < k:
                assert own["least_squares"].isna().all()
                continue
            expected = np.linalg.lstsq(z, left[rows] * root[rows], rcond=None)[0]
            np.testing.assert_allclose(own["least_squares"].astype(float), expected, rtol=1e-6)


LEFT_SIDES = [
    "log(p / (1 - p))",
    "qlogis(p)",
    "qnorm(p)",
    "expm1(p)",
    "scale(y)",
    "scale(log(y))",
    "center(sqrt(y))",
    "standardize(y)",
    "log(base = 2, x = y)",
    "np.square(y)",
    "np.reciprocal(y)",
    "np.power(y, 0.25)",
    "(y^0.3 - 1) / 0.3",
    "asin(sqrt(p))",
    "-1000 / y",
    "100 * log1p(y)",
]


@pytest.mark.parametrize("left", LEFT_SIDES)
def test_ways_back(left: str) -> None:
    """The transformation of the prediction is the prediction of the transformation; the standard
    error goes by the derivative, here by differences."""
    from lmmfast.inference.response import response_scale

    data = positive()
    fit = lmer(f"{left} ~ x + (1 | subj)", data)
    scale = response_scale(fit)
    np.testing.assert_allclose(scale.to_response(fit.design.y), data[scale.variable], rtol=1e-9)
    eta = fit.fittedvalues.to_numpy()
    h = 1e-6 * np.maximum(np.abs(eta), 1e-3)
    slope = (scale.to_response(eta + h) - scale.to_response(eta - h)) / (2 * h)
    np.testing.assert_allclose(scale.slope(eta), slope, rtol=1e-5)


@cache
def positive() -> pd.DataFrame:
    """Positive responses, and shares."""
    data = trials()
    y = data["y"] - data["y"].min() + 20
    return data.assign(y=y, p=(y - 19) / (y.max() - 18))


@pytest.mark.parametrize("left", ["log(y)", "sqrt(y)", "qlogis(p)", "log10(y + 1)", "1 / y"])
@pytest.mark.parametrize("re_form", ["none", "~(1 | subj)", "all"])
def test_means_row_by_row(left: str, re_form: str) -> None:
    """Beside adaptive quadrature over what is left out, whose variance depends on the row."""
    from scipy.integrate import quad
    from scipy.stats import norm

    from lmmfast.inference.response import response_scale

    data = positive()
    fit = lmer(f"{left} ~ f + x + (x | subj)", data, weights="w")
    new = data.iloc[[0, 40, 90]]
    found = fit.predict(new, re_form=re_form, type="response", bias_adjust=True)
    T, back = fit.estimates.T[0], response_scale(fit).to_response
    z = np.column_stack([np.ones(3), new["x"]])
    left_out = {"none": z, "~(1 | subj)": z * [0, 1], "all": z * 0}[re_form]
    sd = fit.sigma * np.sqrt(np.square(left_out @ T).sum(axis=1) + 1 / new["w"].to_numpy())
    eta = fit.predict(new, re_form=re_form).to_numpy()
    for mean, at, width in zip(found, eta, sd, strict=True):
        ends = (at - 9 * width, at + 9 * width)
        if left == "1 / y":
            ends = (max(ends[0], 0.05 * at), ends[1])
        expected = quad(lambda v, at=at, s=width: back(v) * norm.pdf(v, at, s), *ends, limit=200)
        assert mean == pytest.approx(expected[0], rel=1e-6)


def test_means_that_do_not_exist() -> None:
    """1 / y has no mean where the model lets it have either sign."""
    data = trials()
    y = data["y"] - data["y"].min() + 0.5
    fit = lmer("1 / y ~ f + (1 | subj)", data.assign(y=y))
    with pytest.warns(LmmWarning, match="has no mean there"):
        found = fit.predict(type="response", bias_adjust=True)
    assert found.isna().any() and fit.predict(type="response").notna().all()


def test_unseen_levels_of_expressions() -> None:
    """A level is one level in all rows, whatever the grouping factor is made of."""
    data = trials().assign(number=lambda d: d["subj"].str[1:].astype(int))
    fit = lmer("y ~ x + (1 | factor(number)) + (1 | f:item)", data)
    new = data.iloc[:4].assign(number=[1, 77, 77, 78])
    drawn = fit.predict(new, new_levels="sample") - fit.predict(new, new_levels="population")
    assert drawn.iloc[0] == 0 and drawn.iloc[1] == pytest.approx(drawn.iloc[2], rel=1e-12)
    assert drawn.iloc[1] != pytest.approx(drawn.iloc[3])
    with pytest.raises(DataError, match="not seen: '77', '78'"):
        fit.predict(new)
    table = fit.predict(new, new_levels="missing", se=True)
    assert table.isna().all(axis=1).tolist() == [False, True, True, True]


def test_terms_in_lists() -> None:
    fit = fit_of("slopes")
    expected = fit.predict(NEW, re_form="~(1 | subj) + (1 | item)")
    for form in (["~(1 | subj)", "~(1 | item)"], ["1 | subj", "(1 | item)"]):
        pd.testing.assert_series_equal(fit.predict(NEW, re_form=form), expected)
    with pytest.raises(DataError, match="has no random term"):
        fit.predict(NEW, re_form="~subj")
