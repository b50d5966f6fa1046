"""Many responses of one model: each fit is the one that `lmer` makes of it alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import lmmfast
from lmmfast import DataError, FormulaError, RankDeficientWarning, datasets, fit_many, lmer


def crossed(n: int = 300, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "s": rng.integers(0, 20, n),
            "i": rng.integers(0, 9, n),
            "x": rng.normal(size=n),
            "w": rng.uniform(0.5, 2, n),
            "o": rng.normal(size=n),
            "f": rng.choice(list("abc"), n),
        }
    )


def responses(data: pd.DataFrame, m: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    s, i = rng.normal(size=(20, m)), rng.normal(size=(9, m))
    slope = rng.normal(0, 0.5, size=(20, m)) * rng.integers(0, 2, m)  # some without
    x = data["x"].to_numpy()[:, None]
    return s[data["s"]] + i[data["i"]] + slope[data["s"]] * x + rng.normal(size=(len(data), m))


FORMULAS = {
    "~ x + (1 | s)": {},
    "~ x + f + (1 + x | s) + (1 | i)": {},
    "~ f + (1 + x || s) + (1 | i)": {"weights": "w"},
    "~ x + (0 + f | s)": {"offset": "o"},
    "~ x + f + (1 | s) + (1 | i)": {"weights": "w", "offset": "o"},
}


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("formula", FORMULAS)
def test_every_fit_is_that_of_its_response_alone(formula: str, reml: bool) -> None:
    data = crossed()
    Y = responses(data, 12)
    found = fit_many(formula, data, Y, reml=reml, **FORMULAS[formula])
    for k, y in enumerate(Y.T):
        fit = lmer(f"y {formula}", data.assign(y=y), reml=reml, **FORMULAS[formula])
        assert found.objective[k] == pytest.approx(fit.objective, rel=1e-12, abs=1e-9)
        np.testing.assert_allclose(found.beta[k], fit.params, rtol=1e-7)
        np.testing.assert_allclose(found.se[k], fit.bse, rtol=1e-7)
        np.testing.assert_allclose(found.theta[k], fit.theta, atol=1e-5)
        assert found.sigma[k] == pytest.approx(fit.sigma, rel=1e-7)
        test = fit.t_test(np.eye(len(fit.params)))
        np.testing.assert_allclose(found.df[k], test.df_denom, rtol=1e-4)
        np.testing.assert_allclose(found.pvalue[k], test.pvalue, rtol=2e-4)
    assert found.converged.all() and set(found.status) == {"converged"}


def test_threads_order_and_blocks_change_nothing() -> None:
    data = crossed()
    Y = responses(data, 150)
    one = fit_many("~ x + (1 | s) + (1 | i)", data, Y)
    two = fit_many("~ x + (1 | s) + (1 | i)", data, Y, threads=2)
    back = fit_many("~ x + (1 | s) + (1 | i)", data, Y[:, ::-1])
    chunks = fit_many(
        "~ x + (1 | s) + (1 | i)", data, (Y[:, a : a + 40] for a in range(0, 150, 40))
    )
    for name in ("objective", "beta", "se", "theta", "sigma", "df", "estimate", "certificate"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        np.testing.assert_array_equal(getattr(one, name), getattr(back, name)[::-1])
        np.testing.assert_array_equal(getattr(one, name), getattr(chunks, name))
    assert list(chunks.responses) == list(range(150))


def test_a_start_for_all_changes_the_way_and_not_the_end() -> None:
    data = crossed()
    Y = responses(data, 40)
    model = lmer("x ~ o + f + (1 + o | s) + (1 | i)", data.assign(x=Y[:, 0])).model
    L = np.eye(len(model.design.x_names))
    how = {"reml": True, "max_evals": 500, "df": True}
    moments = model.many(Y, L, **how)
    for start in ([0.5, 0.1, 0.3, 0.4], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 30.0]):
        found = model.many(Y, L, start=np.array(start), **how)
        assert set(found["status"]) == {"converged"} and (found["certificate"] < 1e-6).all()
        np.testing.assert_allclose(found["objective"], moments["objective"], rtol=1e-12, atol=1e-8)
        np.testing.assert_allclose(found["beta"], moments["beta"], rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(found["theta"], moments["theta"], atol=2e-5)
        back = model.many(Y[:, ::-1], L, start=np.array(start), **how)
        few = model.many(Y[:, 7:9], L, start=np.array(start), **how)
        for name in ("objective", "theta", "sigma", "beta", "se", "variance", "df", "certificate"):
            np.testing.assert_array_equal(back[name][::-1], found[name])
            np.testing.assert_array_equal(few[name], found[name][7:9])
    with pytest.raises(ValueError, match="shape"):
        model.many(Y, L, start=np.ones(3), **how)


def test_missing_values_drop_the_rows_of_their_response() -> None:
    data = crossed()
    Y = responses(data, 6)
    Y[3:7, 1] = Y[3:7, 4] = np.nan
    Y[data["s"].to_numpy() == 2, 2] = np.nan  # a level is gone
    found = fit_many("~ x + f + (1 | s) + (1 | i)", data, Y)
    for k, y in enumerate(Y.T):
        fit = lmer("y ~ x + f + (1 | s) + (1 | i)", data.assign(y=y))
        assert found.objective[k] == pytest.approx(fit.objective, abs=1e-8)
        np.testing.assert_allclose(found.beta[k], fit.params, rtol=1e-6)
        assert found.n[k] == fit.nobs


def test_rows_without_predictors_are_no_rows_of_any() -> None:
    data = crossed()
    data.loc[[4, 9], "x"] = np.nan
    Y = responses(data, 3)
    found = fit_many("~ x + (1 | s)", data, Y)
    fit = lmer("y ~ x + (1 | s)", data.assign(y=Y[:, 1]))
    assert found.n[1] == fit.nobs == 298
    assert found.objective[1] == pytest.approx(fit.objective, abs=1e-9)
    used = fit_many("~ x + (1 | s)", data, np.delete(Y, [4, 9], axis=0))
    np.testing.assert_array_equal(used.objective, found.objective)


def test_responses_that_cannot_be_fitted_say_so_and_spoil_nothing() -> None:
    data = crossed()
    Y = responses(data, 8)
    Y[:, 1] = 3.0
    Y[:, 2] = 2 * data["x"] + 1
    Y[5, 3] = np.inf
    Y[:, 4] = np.nan
    Y[6:, 5] = np.nan
    good = [0, 6, 7]
    found = fit_many("~ x + (1 | s)", data, Y)
    alone = fit_many("~ x + (1 | s)", data, Y[:, good])
    np.testing.assert_array_equal(found.beta[good], alone.beta)
    assert list(found.converged) == [True, False, False, False, False, False, True, True]
    assert found.status[1] == found.status[2] == "no residual variance"
    assert found.status[3] == "not finite"
    assert all(found.status[k].startswith("no model: ") for k in (4, 5))
    assert np.isnan(found.beta[1:6]).all() and np.isnan(found.pvalue[1:6]).all()


def test_dropped_columns_are_missing() -> None:
    data = crossed().assign(x2=lambda d: 2 * d.x)
    with pytest.warns(RankDeficientWarning, match="x2"):
        found = fit_many(
            "~ x + x2 + (1 | s)", data, responses(data, 3), contrasts=["x", "x2", "x = 1"]
        )
    assert np.isnan(found.beta[:, 2]).all() and np.isnan(found.estimate[:, 1]).all()
    assert np.isnan(found.pvalue[:, 1]).all() and np.isfinite(found.pvalue[:, [0, 2]]).all()
    np.testing.assert_allclose(
        found.statistic[:, 2], (found.beta[:, 1] - 1) / found.se[:, 1], rtol=1e-12
    )


def test_tables_name_their_responses() -> None:
    pl = pytest.importorskip("polars")
    data = crossed()
    Y = responses(data, 3)
    frame = pd.DataFrame(Y, columns=["a", "b", "c"])
    found = fit_many("~ x + (1 | s)", data, frame, ddf="z", contrasts={"x": 1})
    assert list(found.responses) == ["a", "b", "c"] and np.isinf(found.df).all()
    table = found.to_frame()
    assert list(table["response"]) == ["a", "b", "c"] and "z" in table
    shuffled = frame.sample(frac=1, random_state=0)
    for other in (shuffled, pl.from_pandas(frame), dict(frame.items())):
        again = fit_many("~ x + (1 | s)", data, other, ddf="z")
        np.testing.assert_array_equal(again.objective, found.objective)
        assert list(again.responses) == ["a", "b", "c"]
    assert "3 responses" in str(found) and "converged" in str(found)


def test_what_cannot_be_meant_is_refused() -> None:
    data = crossed()
    Y = responses(data, 2)
    with pytest.raises(DataError, match="Y has 299 rows, the data have 300"):
        fit_many("~ x + (1 | s)", data, Y[1:])
    with pytest.raises(DataError, match="not numbers"):
        fit_many("~ x + (1 | s)", data, Y.astype(str).astype(object) + "a")
    with pytest.raises(ValueError, match="ddf must be one of"):
        fit_many("~ x + (1 | s)", data, Y, ddf="kr")
    with pytest.raises(ValueError, match="threads must be"):
        fit_many("~ x + (1 | s)", data, Y, threads=0)
    with pytest.raises(ValueError, match="no chunks"):
        fit_many("~ x + (1 | s)", data, [])
    with pytest.raises(FormulaError, match="nope"):
        fit_many("~ nope + (1 | s)", data, Y)


def test_a_model_keeps_its_own_response() -> None:
    fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    before = fit.model.objective(fit.theta)
    found = fit.model.fit_many(np.random.default_rng(0).normal(size=(180, 3)))
    assert len(found) == 3
    assert fit.model.objective(fit.theta) == before
    assert lmmfast.fit_many is fit_many


def test_iterative_models_have_no_degrees_of_freedom() -> None:
    data = crossed(600)
    rng = np.random.default_rng(2)
    Y = rng.normal(size=20)[data["s"]][:, None] + rng.normal(size=(600, 2))
    found = fit_many("~ x + (1 | s) + (1 | i)", data, Y, storage="iterative")
    assert np.isnan(found.df).all() and np.isfinite(found.se).all()


# ---- weights by response, starts, Kenward-Roger --------------------------------------------------


def test_weights_of_each_response() -> None:
    data = crossed()
    Y = responses(data, 7)
    W = np.random.default_rng(2).uniform(0.5, 3, Y.shape)
    W[:5, 2] = 0
    W[7, 3] = np.nan
    formula = "~ x + f + (1 + x | s) + (1 | i)"
    found = fit_many(formula, data, Y, weights=W)
    for k in range(7):
        fit = lmer(f"y {formula}", data.assign(y=Y[:, k], w=W[:, k]), weights="w")
        assert found.objective[k] == pytest.approx(fit.objective, abs=1e-8)
        np.testing.assert_allclose(found.beta[k], fit.params, rtol=1e-6)
        np.testing.assert_allclose(found.se[k], fit.bse, rtol=1e-6)
        np.testing.assert_allclose(found.df[k], fit.df, rtol=1e-4)
        assert found.n[k] == fit.nobs
    two = fit_many(formula, data, Y, weights=W, threads=2)
    np.testing.assert_array_equal(two.objective, found.objective)
    chunks = fit_many(formula, data, (Y[:, :3], Y[:, 3:]), weights=(W[:, :3], W[:, 3:]))
    np.testing.assert_array_equal(chunks.objective, found.objective)
    names = list("abcdefg")
    frame, back = pd.DataFrame(Y, columns=names), pd.DataFrame(W, columns=names)[names[::-1]]
    named = fit_many(formula, data, frame, weights=back)
    np.testing.assert_array_equal(named.objective, found.objective)
    same = fit_many(formula, data, Y[:, 4:], weights=np.tile(W[:, [4]], 3))
    one = fit_many(formula, data, Y[:, 4:], weights=W[:, 4])
    np.testing.assert_allclose(same.objective, one.objective, rtol=1e-12)


def test_a_model_keeps_its_weights() -> None:
    data = crossed()
    Y = responses(data, 3)
    fit = lmer("y ~ x + (1 | s)", data.assign(y=Y[:, 0]), weights="w")
    before = fit.model.objective(fit.theta)
    fit.model.fit_many(Y, weights=np.full(Y.shape, 2.0))
    assert fit.model.objective(fit.theta) == before
    assert fit.refit(Y[:, 1]).objective == fit.model.fit_many(Y).objective[1]


def test_weights_that_cannot_be_meant() -> None:
    data = crossed()
    Y = responses(data, 3)
    for bad, words in (
        (np.ones((300, 2)), "2 columns"),
        (np.ones((3, 3)), "has 3 rows|have 3 rows"),
        (np.full((300, 3), -1.0), "not negative"),
        (np.full((300, 3), np.inf), "finite"),
    ):
        with pytest.raises(DataError, match=words):
            fit_many("~ x + (1 | s)", data, Y, weights=bad)
    with pytest.raises(DataError, match="fewer chunks"):
        fit_many("~ x + (1 | s)", data, (Y, Y), weights=(np.ones(Y.shape),))


def test_kenward_roger() -> None:
    data = crossed(120)
    Y = responses(data, 3)
    Y[4, 1], Y[:, 2] = np.nan, 1.0
    found = fit_many("~ x + (1 + x | s) + (1 | i)", data, Y, ddf="kenward-roger", contrasts="x")
    for k in range(2):
        fit = lmer("y ~ x + (1 + x | s) + (1 | i)", data.assign(y=Y[:, k]))
        test = fit.t_test("x", ddf="kenward-roger")
        np.testing.assert_allclose(found.df[k], test.df_denom, rtol=1e-3)
        np.testing.assert_allclose(found.contrast_se[k], test.sd.ravel(), rtol=1e-5)
        np.testing.assert_allclose(found.pvalue[k], test.pvalue, rtol=1e-3)
    assert not found.converged[2] and np.isnan(found.pvalue[2])
    with pytest.raises(ValueError, match="REML"):
        fit_many("~ x + (1 | s)", data, Y, ddf="kenward-roger", reml=False)


def test_fits_with_other_weights_before_and_after_leave_no_trace() -> None:
    data = crossed()
    Y = responses(data, 4)
    model = lmer("y ~ x + (1 + x | s) + (1 | i)", data.assign(y=Y[:, 0])).model
    how = {"reml": True, "max_evals": 500, "df": True}
    wanted = model.many(Y, np.eye(2), **how)
    again = [model.again(model.design.with_rows(y=y).sums, reml=True, start=None) for y in Y.T]
    for k, fit in enumerate(again):
        assert fit.objective == wanted["objective"][k]
        np.testing.assert_array_equal(fit.theta, wanted["theta"][k])
    other = model.design.with_rows(weights=data["w"].to_numpy()).sums
    assert abs(model.again(other, reml=True, start=None).objective - again[0].objective) > 1
    found = model.many(Y, np.eye(2), **how)
    np.testing.assert_allclose(found["objective"], wanted["objective"], rtol=1e-13)


def test_a_shared_start_finds_the_same() -> None:
    data = crossed()
    Y = responses(data, 6)
    fit = lmer("y ~ x + (1 + x | s) + (1 | i)", data.assign(y=Y[:, 0]))
    how = {"reml": True, "max_evals": 500, "df": True}
    free = fit.model.many(Y, np.eye(2), **how)
    begun = fit.model.many(Y, np.eye(2), start=fit.theta, **how)
    np.testing.assert_allclose(begun["objective"], free["objective"], atol=1e-8)
    np.testing.assert_allclose(begun["df"], free["df"], rtol=1e-4)
    for k, y in enumerate(Y.T):
        again = fit.model.again(fit.design.with_rows(y=y).sums, reml=True, start=fit.theta)
        assert again.objective == begun["objective"][k]
        np.testing.assert_array_equal(again.theta, begun["theta"][k])
    with pytest.raises(ValueError, match="theta needs shape"):
        fit.model.many(Y, np.eye(2), start=np.ones(2), **how)


def test_arrow() -> None:
    pytest.importorskip("pyarrow")
    data = crossed()
    found = fit_many("~ x + (1 | s)", data, responses(data, 3))
    assert found.to_arrow().num_rows == 6


@pytest.mark.parametrize(
    ("Y", "words"), [(None, "not None"), ("y", r"data\[\["), (np.empty((300, 0)), "no columns")]
)
def test_what_are_no_responses(Y: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        fit_many("~ x + (1 | s)", crossed(), Y)
