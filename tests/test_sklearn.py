"""Mixed models as regressors of scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from lmmfast import DataError, datasets, lmer

sklearn = pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone  # noqa: E402
from sklearn.linear_model import LinearRegression  # noqa: E402
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from lmmfast.sklearn import LMMRegressor  # noqa: E402


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return datasets.load("sleepstudy")


def test_it_is_an_estimator() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(LMMRegressor())


def test_groups_are_an_intercept_each(data: pd.DataFrame) -> None:
    fit = lmer("Reaction ~ Days + (1 | Subject)", data)
    model = LMMRegressor().fit(data[["Days"]], data["Reaction"], groups=data["Subject"])
    np.testing.assert_allclose([model.intercept_, *model.coef_], fit.params, rtol=1e-9)
    np.testing.assert_allclose(
        model.predict(data[["Days"]], groups=data["Subject"]), fit.fittedvalues, rtol=1e-9
    )
    np.testing.assert_allclose(
        model.predict(data[["Days"]]), fit.predict(re_form="none"), rtol=1e-9
    )
    assert model.feature_names_in_.tolist() == ["Days"]


def test_unseen_groups(data: pd.DataFrame) -> None:
    own = {"groups": np.repeat("new", 180)}
    x, y = data[["Days"]], data["Reaction"]
    model = LMMRegressor().fit(x, y, groups=data["Subject"])
    np.testing.assert_array_equal(model.predict(x, **own), model.predict(x))
    strict = LMMRegressor(new_levels="error").fit(x, y, groups=data["Subject"])
    with pytest.raises(DataError, match="has not seen: \\['new'\\]"):
        strict.predict(x, **own)
    missing = LMMRegressor(new_levels="missing").fit(x, y, groups=data["Subject"])
    assert np.isnan(missing.predict(x, **own)).all()
    with pytest.raises(DataError, match="groups has shape"):
        model.predict(x, groups=["a"])


def test_weights_of_zero_leave_rows_out(data: pd.DataFrame) -> None:
    weights = np.where(np.arange(180) % 10 == 3, 0.0, 2.0)
    used = weights > 0
    x, y, groups = data[["Days"]].to_numpy(), data["Reaction"].to_numpy(), data["Subject"]
    one = LMMRegressor().fit(x, y, groups=groups, sample_weight=weights)
    two = LMMRegressor().fit(x[used], y[used], groups=groups[used])
    np.testing.assert_allclose(one.coef_, two.coef_, rtol=1e-8)


@pytest.mark.parametrize("kind", ["pandas", "polars", "array"])
def test_formulas(data: pd.DataFrame, kind: str) -> None:
    polars = pytest.importorskip("polars")
    fit = lmer("Reaction ~ Days + (Days | Subject)", data)
    X, formula = data.drop(columns="Reaction"), "~ Days + (Days | Subject)"
    if kind == "polars":
        X = polars.from_pandas(X)
    elif kind == "array":
        X, formula = X.astype(float).to_numpy(), "~ x0 + (x0 | x1)"
    model = LMMRegressor(formula).fit(X, data["Reaction"])
    np.testing.assert_allclose(model.predict(X), fit.fittedvalues, rtol=1e-8)
    population = LMMRegressor(formula, re_form="none").fit(X, data["Reaction"])
    np.testing.assert_allclose(population.predict(X), fit.predict(re_form="none"), rtol=1e-8)


def test_cross_validation_by_group(data: pd.DataFrame) -> None:
    model, folds = LMMRegressor("~ Days + (Days | Subject)"), GroupKFold(6)
    y, groups = data["Reaction"], data["Subject"]
    predicted = cross_val_predict(model, data, y, groups=groups, cv=folds)
    for train, test in folds.split(data, y, groups):
        fit = lmer("Reaction ~ Days + (Days | Subject)", data.iloc[train])
        own = fit.predict(data.iloc[test], re_form="none")
        np.testing.assert_allclose(predicted[test], own, rtol=1e-8)


def test_pipelines_and_grids(data: pd.DataFrame) -> None:
    x, y = data[["Days"]].to_numpy(), data["Reaction"].to_numpy()
    pipe = make_pipeline(StandardScaler(), LMMRegressor())
    pipe.fit(x, y, lmmregressor__groups=data["Subject"])
    plain = LMMRegressor().fit(x, y, groups=data["Subject"])
    np.testing.assert_allclose(pipe.predict(x), plain.predict(x))
    grid = GridSearchCV(LMMRegressor("~ Days + (1 | Subject)"), {"reml": [True, False]}, cv=2)
    assert set(grid.fit(data, y).best_params_) == {"reml"}
    assert clone(LMMRegressor("~ x", reml=False)).get_params()["reml"] is False


def test_without_groups_it_is_least_squares(data: pd.DataFrame) -> None:
    x, y = data[["Days"]], data["Reaction"]
    model, other = LMMRegressor().fit(x, y), LinearRegression().fit(x, y)
    assert model.fit_ is None
    np.testing.assert_allclose(model.coef_, other.coef_)


def test_what_formulas_must_be(data: pd.DataFrame) -> None:
    for wrong in ("Reaction ~ Days + (1 | Subject)", "Days"):
        with pytest.raises(DataError, match="formula is a right-hand side"):
            LMMRegressor(wrong).fit(data, data["Reaction"])
    with pytest.raises(DataError, match="groups= is for models without a formula"):
        LMMRegressor("~ Days + (1 | Subject)").fit(data, data["Reaction"], groups=data["Subject"])
