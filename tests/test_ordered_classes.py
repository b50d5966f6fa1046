"""Probabilities of ordered classes: means and predictions with their errors, against integrals,
differences, and the binomial model that two classes are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import close
from scipy import integrate, stats

from lmmfast import DataError, emmeans, glmer, load

CDF = {"logit": stats.logistic.cdf, "probit": stats.norm.cdf, "cloglog": stats.gumbel_l.cdf}
CLASSES = ["low", "mid", "high", "top"]


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 500
    g, x = rng.integers(0, 25, n), rng.normal(size=n)
    f, h = rng.choice(["a", "b"], n), rng.choice(["u", "v", "w"], n, p=[0.5, 0.3, 0.2])
    eta = 0.8 * (f == "b") + 0.5 * x + (h == "w") + rng.normal(size=25)[g]
    y = np.digitize(eta + rng.logistic(size=n), [-0.7, 0.6, 2])
    data = {"g": g, "x": x, "f": f, "h": h, "two": (y > 1) * 1.0}
    data["y"] = pd.Categorical(np.array(CLASSES)[y], CLASSES, ordered=True)
    data["half"] = pd.Categorical(np.array(["no", "yes"])[1 * (y > 1)], ["no", "yes"], ordered=True)
    return pd.DataFrame(data)


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return frame()


@pytest.fixture(scope="module")
def fits(data: pd.DataFrame) -> dict[str, Any]:
    formula = "y ~ f * x + h + (1 + x | g)"
    return {link: glmer(formula, data, family="ordered", link=link) for link in CDF}


def cells(fit: Any, at: dict[str, list[Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Linear predictors and variances of the random effects in some rows."""
    new = pd.DataFrame(at)
    T = fit.estimates.T[0]
    z = np.column_stack([np.ones(len(new)), new["x"]])
    return fit.predict(new, re_form="none").to_numpy(), np.square(z @ T).sum(axis=1)


def integrated(fit: Any, link: str, eta: float, variance: float) -> np.ndarray:
    """Probabilities of the classes over normal random effects."""
    sd, F = np.sqrt(variance), CDF[link]

    def density(b: float, a: float) -> float:
        return float(F(a - eta - sd * b) * stats.norm.pdf(b))

    below = [integrate.quad(density, -12, 12, args=(a,), epsabs=1e-12)[0] for a in fit.thresholds]
    return np.diff(np.r_[0.0, below, 1.0])


@pytest.mark.parametrize("link", CDF)
def test_means_are_integrals_averaged_over_cells(fits: dict[str, Any], link: str) -> None:
    fit = fits[link]
    found = emmeans(fit, "f", type="prob", at={"x": [0.7]}).table
    for f in "ab":
        grid = {"f": [f] * 3, "x": [0.7] * 3, "h": ["u", "v", "w"]}
        eta, variance = cells(fit, grid)
        each = [integrated(fit, link, e, v) for e, v in zip(eta, variance, strict=True)]
        close(found.query("f == @f")["prob"], np.mean(each, axis=0), 1.0, 1e-10)
        marginal = fit.predict(pd.DataFrame(grid), type="prob", marginal=True)
        close(marginal, each, 1.0, 1e-10)


@pytest.mark.parametrize("bias", [None, False])
@pytest.mark.parametrize("link", CDF)
def test_what_is_linear_in_probabilities(fits: dict[str, Any], link: str, bias: Any) -> None:
    fit = fits[link]
    how: dict[str, Any] = {"bias_adjust": bias}
    prob, below, above, mean = (
        emmeans(fit, "f", type=kind, **how).table
        for kind in ("prob", "cum.prob", "exc.prob", "mean.class")
    )
    P = prob.pivot(index="f", columns="y", values="prob")[CLASSES].to_numpy()
    close(P.sum(axis=1), [1, 1], 1.0, 1e-12)
    cumulative = below["cum.prob"].to_numpy().reshape(3, 2).T
    close(cumulative, P.cumsum(axis=1)[:, :3], 1.0, 1e-12)
    close(above["exc.prob"] + below["cum.prob"], np.ones(6), 1.0, 1e-12)
    close(above["SE"], below["SE"], 1.0, 1e-12)
    close(mean["mean.class"], P @ [1, 2, 3, 4], 1.0, 1e-12)
    assert list(below["cut"].unique()) == ["low|mid", "mid|high", "high|top"]
    assert emmeans(fit, "f", type="response", **how).table.equals(prob)
    assert emmeans(fit, "f", type="class", **how).table.equals(prob)


def by_differences(fit: Any, numbers: Any) -> np.ndarray:
    """Standard errors of a function of beta and the thresholds, given the variances."""
    own, first = fit.estimates, len(fit.theta)
    V = own.covariance[first:, first:]
    J = []
    for j in range(len(V)):
        ends = []
        for step in (1e-5, -1e-5):
            moved = fit.psi[first:].copy()
            moved[j] += step
            ends.append(numbers(moved[: len(own.beta)], moved[len(own.beta) :]))
        J.append((ends[0] - ends[1]) / 2e-5)
    return np.sqrt(np.einsum("jm,jk,km->m", J, V, J))


@pytest.mark.parametrize("link", CDF)
def test_errors_are_those_of_the_delta_method(fits: dict[str, Any], link: str) -> None:
    fit = fits[link]
    recipe, family = fit.design.recipe, fit.family
    new = pd.DataFrame({"f": ["b"] * 3, "x": [0.7] * 3, "h": ["u", "v", "w"]})
    X, (_, variance) = recipe.fixed(new)[0], cells(fit, new)

    def probabilities(beta: np.ndarray, x: np.ndarray) -> np.ndarray:
        return family.marginal_probabilities(X @ beta, variance, x)

    found = emmeans(fit, "f", type="prob", at={"x": [0.7]}).table.query("f == 'b'")
    wanted = by_differences(fit, lambda beta, x: probabilities(beta, x).mean(axis=0))
    close(found["SE"], wanted, 1.0, 1e-8)
    mean = emmeans(fit, "f", type="mean.class", at={"x": [0.7]}).table["SE"][1]
    score = np.arange(1, 5)
    wanted = by_differences(
        fit, lambda beta, x: np.array([probabilities(beta, x).mean(axis=0) @ score])
    )
    close(mean, wanted[0], 1.0, 1e-8)
    rows = fit.predict(new, type="prob", marginal=True, se=True)
    for row in range(3):
        wanted = by_differences(fit, lambda beta, x, row=row: probabilities(beta, x)[row])
        close(rows.xs("se", axis=1, level=1).iloc[row], wanted, 1.0, 1e-8)


def test_errors_of_predictions_have_those_of_the_modes(data: pd.DataFrame) -> None:
    """With one threshold the probability is a function of one difference, as the binomial one."""
    ordered = glmer("half ~ f + x + (1 + x | g)", data, family="ordered")
    binary = glmer("two ~ f + x + (1 + x | g)", data)
    for rows in (None, data.head(9)):
        one = ordered.predict(rows, type="prob", se=True)["yes"]
        other = binary.predict(rows, type="response", se=True)
        close(one[["fit", "se"]], other[["fit", "se"]], 1.0, 1e-6)
        mean = ordered.predict(rows, type="mean.class", se=True)
        close(mean[["fit", "se"]], other[["fit", "se"]] + [1, 0], 1.0, 1e-6)


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_two_classes_are_a_binomial_response(data: pd.DataFrame, link: str) -> None:
    ordered = glmer("half ~ f * x + (1 | g)", data, family="ordered", link=link)
    binary = glmer("two ~ f * x + (1 | g)", data, link=link)
    psi = np.r_[binary.theta, binary.params[1:], -binary.params.iloc[0]]
    ordered = ordered.model.at(psi)
    for bias in (None, False):
        one = emmeans(ordered, "f", type="prob", bias_adjust=bias).table.query("half == 'yes'")
        other = emmeans(binary, "f", type="response", bias_adjust=bias).table
        close(one["prob"], other["response"], 1.0, 1e-8)
        close(one["SE"], other["SE"], 1.0, 1e-7)


def test_contrasts_and_roles(fits: dict[str, Any]) -> None:
    fit = fits["logit"]
    within = emmeans(fit, "f", type="prob", contrasts="pairwise")
    assert within.specs == ("f",) and within.by == ("y",)
    P = within.table["prob"].to_numpy().reshape(4, 2)
    close(within.contrasts["estimate"], P[:, 0] - P[:, 1], 1.0, 1e-12)
    V = within.vcov.to_numpy()
    close(within.contrasts["SE"][0] ** 2, V[0, 0] + V[1, 1] - 2 * V[0, 1], 1.0, 1e-12)
    for asked in (("y | f",), (["y"], "f")):
        along = emmeans(fit, asked[0], by=asked[1] if asked[1:] else None, type="prob")
        assert along.specs == ("y",) and along.by == ("f",)
        close(along.table["prob"].to_numpy().reshape(2, 4), P.T, 1.0, 1e-12)
    overall = emmeans(fit, "1", type="prob")
    assert overall.specs == ("y",) and list(overall.table["y"]) == CLASSES
    cut = emmeans(fit, "f * h | cut", type="cum.prob")
    assert cut.by == ("cut",) and len(cut.table) == 18
    text = str(within)
    assert "Probabilities of the classes: low < mid < high < top" in text
    assert "Averaged over random effects, variance" in text
    letters = emmeans(fit, "h", type="mean.class").cld()
    assert set(letters["h"]) == {"u", "v", "w"}


def test_weights_and_open_cells(data: pd.DataFrame) -> None:
    fit = glmer("y ~ f + h + (1 | g)", data, family="ordered")
    found = emmeans(fit, "f", type="prob", weights="proportional", bias_adjust=False).table
    share = data["h"].value_counts(normalize=True)
    for f in "ab":
        new = pd.DataFrame({"f": f, "h": share.index})
        P = fit.predict(new, type="prob", re_form="none").to_numpy()
        close(found.query("f == @f")["prob"], share.to_numpy() @ P, 1.0, 1e-12)
    few = data[~((data["f"] == "a") & (data["h"] == "w"))]
    with pytest.warns(match="dependent|dropped"):
        other = glmer("y ~ f * h + (1 | g)", few, family="ordered")
    table = emmeans(other, "f", type="prob").table
    assert table.query("f == 'a'")["prob"].isna().all()
    assert table.query("f == 'b'")["prob"].notna().all()


def test_predicted_classes(fits: dict[str, Any], data: pd.DataFrame, tmp_path: Any) -> None:
    fit = fits["logit"]
    P = fit.predict(type="prob")
    found = fit.predict(type="class")
    assert list(found.cat.categories) == CLASSES and found.cat.ordered
    assert (found.to_numpy() == np.array(CLASSES)[P.to_numpy().argmax(axis=1)]).all()
    gaps = data.head(4).assign(x=[0.1, np.nan, 0.2, 0.3])
    assert fit.predict(gaps, type="class").isna().tolist() == [False, True, False, False]
    table = fit.predict(gaps, type="prob", interval="confidence")
    assert table.iloc[1].isna().all() and table.iloc[[0, 2, 3]].notna().all().all()
    lower, fitted, upper = (table.xs(k, axis=1, level=1) for k in ("lower", "fit", "upper"))
    inside = [0, 2, 3]
    assert ((lower < fitted) & (fitted < upper)).iloc[inside].all().all()
    assert (lower.iloc[inside] > 0).all().all() and (upper.iloc[inside] < 1).all().all()
    close(fit.predict(type="cum.prob"), P.to_numpy().cumsum(axis=1)[:, :3], 1.0, 1e-12)
    close(fit.predict(type="exc.prob"), 1 - P.to_numpy().cumsum(axis=1)[:, :3], 1.0, 1e-12)
    close(fit.predict(type="mean.class"), P @ [1, 2, 3, 4], 1.0, 1e-12)
    path = tmp_path / "fit.lmm"
    fit.save(path, data=False)
    own = load(path)
    pd.testing.assert_frame_equal(
        emmeans(own, "f", type="prob").table, emmeans(fit, "f", type="prob").table
    )
    rows = data.head(3)
    one, two = (own.predict(rows, type="prob", re_form="none", se=True) for own in (own, fit))
    pd.testing.assert_frame_equal(one, two)


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_new_rows_of_other_libraries(
    fits: dict[str, Any], data: pd.DataFrame, library: str
) -> None:
    """Answers are tables of theirs, with columns such as "low fit" where each class has several."""
    fit = fits["logit"]
    rows = data[["f", "x", "h", "g"]].head(4).assign(x=[0.1, np.nan, 0.2, 0.3])
    if library == "polars":
        given = pytest.importorskip("polars").from_pandas(rows)
    else:
        given = pytest.importorskip("pyarrow").Table.from_pandas(rows)
    found, classes = fit.predict(given, type="class"), fit.predict(rows, type="class")
    listed = found.to_pylist() if library == "pyarrow" else found.to_list()
    assert listed == [None if pd.isna(one) else one for one in classes]
    table, wanted = (fit.predict(own, type="prob", se=True) for own in (given, rows))
    columns = table.column_names if library == "pyarrow" else table.columns
    assert list(columns)[:4] == ["low fit", "low se", "low lower", "low upper"]
    values = np.column_stack([np.array(table[name], float) for name in columns])
    np.testing.assert_allclose(values, wanted, rtol=1e-12)


def test_small_probabilities_keep_their_digits(fits: dict[str, Any]) -> None:
    fit = fits["logit"]
    far = pd.DataFrame({"f": ["a"], "x": [-200.0], "h": ["u"]})
    eta = fit.predict(far, re_form="none")[0]
    top = fit.predict(far, re_form="none", type="prob")["top"][0]
    assert top == pytest.approx(np.exp(eta - fit.thresholds.iloc[-1]), rel=1e-10)
    assert 0 < top < 1e-15


def test_what_is_refused(fits: dict[str, Any], data: pd.DataFrame) -> None:
    binary = glmer("two ~ f + (1 | g)", data)
    for call in (
        lambda: emmeans(binary, "f", type="prob"),
        lambda: binary.predict(type="class"),
        lambda: binary.predict(type="cum.prob"),
    ):
        with pytest.raises(DataError, match=r"ordered response, and 'two' has none"):
            call()
    fit = fits["logit"]
    with pytest.raises(DataError, match="has the distribution of a new"):
        fit.predict(type="prob", interval="prediction")
    with pytest.raises(DataError, match="has no standard errors"):
        fit.predict(type="class", se=True)
    with pytest.raises(ValueError, match="inverse"):
        emmeans(fit, "f", type="prob", inverse=np.exp)
    for call in (
        lambda: fit.predict(type="median"),
        lambda: emmeans(fit, "f", type="median"),
    ):
        with pytest.raises(ValueError, match=r'"cum\.prob"'):
            call()
