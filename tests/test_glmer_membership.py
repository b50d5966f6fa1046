"""Generalized models of rows with several levels of one factor, ``(1 | mm(a, b))``: the compiled
ones against the dense definition, and against the same models written in other ways."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from conftest import close
from dense_families import TRIALS, Family
from dense_glmm import DenseGeneralized
from test_dense_glmm import CLASSES, drawn
from test_generalized import compiled

from lmmfast import GLMM, FitError, anova, emmeans, fit_many, glmer, load, plan
from lmmfast.data.design import build

FAMILIES = [
    ("binomial", "logit"),
    ("binomial", "cloglog"),
    ("poisson", "log"),
    ("gamma", "log"),
    ("negativebinomial", "log"),
    ("ordered", "probit"),
]
LEVELS, ITEMS, CLASSES_OF_ITEMS = 9, 6, 3


def incidence(rng: np.random.Generator, n: int, most: int = 3) -> np.ndarray:
    """Weights (n, LEVELS) of one to `most` levels a row; one row has none."""
    W = np.zeros((n, LEVELS))
    for row in range(n):
        own = rng.choice(LEVELS, rng.integers(1, most + 1), replace=False)
        W[row, own] = rng.uniform(0.2, 1, len(own))
    W[n // 2] = 0
    return W


def factors_of(shape: str, rng: np.random.Generator, z: np.ndarray) -> list:
    """Grouping factors: alone, beside a crossed one, beside nested ones, two of these."""
    n = len(z)
    W, item = incidence(rng, n), rng.permutation(np.arange(n) % ITEMS)
    both, one = np.array([-1, -1]), np.array([0])
    several, slope = (W, LEVELS, z[:, :1], one), (W, LEVELS, z, both)
    items = (item, ITEMS, z[:, :1], one)
    classes = (item % CLASSES_OF_ITEMS, CLASSES_OF_ITEMS, z[:, :1], one)
    other = (incidence(rng, n, 2), LEVELS, z[:, 1:], one)
    return {
        "alone": [several],
        "slope": [slope],
        "crossed": [slope, items],
        "nested": [classes, several, (item, ITEMS, z, both)],
        "twice": [slope, other],
    }[shape]


SHAPES = ["alone", "slope", "crossed", "nested", "twice"]


def simulated(
    name: str, link: str, shape: str, information: str = "observed", n: int = 70
) -> tuple[DenseGeneralized, np.ndarray]:
    """A small model with weights and an offset, and parameters near which it was drawn."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=n)
    X, z = np.column_stack([np.ones(n), x]), np.column_stack([np.ones(n), x])
    factors = factors_of(shape, rng, z)
    family = Family(name, link, CLASSES if name == "ordered" else 0)
    beta, extra = np.array([0.3, 0.2]), np.array([-1.0])[: family.nextra]
    w = rng.uniform(0.5, 2, n)
    if name in TRIALS:
        w = rng.integers(1, 9, n).astype(float)
    y = drawn(rng, family, X @ beta + 0.3 * rng.normal(size=n), w)
    if name == "ordered":
        X, beta, extra = X[:, 1:], beta[1:], np.array([-0.5, -0.2, 0.3])
    how = {"classes": family.classes, "offset": rng.normal(size=n) * 0.05}
    how["information"] = information
    model = DenseGeneralized(y, X, factors, w, family=name, link=link, **how)
    theta = np.concatenate([0.7 * np.array([1.0, 0.3, 0.8])[: len(t.theta)] for t in model.terms])
    theta[[place for t in model.terms if len(t.theta) == 1 for place in t.theta]] = 0.6
    return model, np.concatenate([theta, beta, extra])


WAYS = [("dense", "observed"), ("sparse", "observed"), ("dense", "expected")]


@pytest.mark.parametrize(("storage", "information"), WAYS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "link"), FAMILIES)
def test_value_and_gradient(
    name: str, link: str, shape: str, storage: str, information: str
) -> None:
    dense, psi = simulated(name, link, shape, information)
    model = compiled(dense, storage=storage, information=information)
    wanted, slope = dense.value(psi, gradient=True)
    value, gradient = model.value(psi, gradient=True)
    close(value, wanted, 1 + abs(wanted), 1e-11)
    close(gradient, slope, 1 + np.abs(slope).max(), 1e-8)
    for i, step in enumerate(1e-4 * np.eye(len(psi))):
        ends = [model.value(psi + sign * step) for sign in (2, 1, -1, -2)]
        quotient = (8 * (ends[1] - ends[2]) - (ends[0] - ends[3])) / 12e-4
        assert gradient[i] == pytest.approx(quotient, abs=1e-7 * (1 + np.abs(slope).max()))


@pytest.mark.parametrize("storage", ["dense", "sparse"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "link"), FAMILIES)
def test_readings(name: str, link: str, shape: str, storage: str) -> None:
    dense, psi = simulated(name, link, shape)
    model = compiled(dense, storage=storage)
    dense.value(psi)
    model.value(psi)
    for found, wanted in zip(model.modes(), dense.modes(), strict=True):
        close(found, wanted, 1 + np.abs(wanted).max(), 1e-9)
    close(model.predictor(), dense.predictor(), 1.0, 1e-9)
    # the factorization may be that of a point before the mode, from which a step promised 1e-14
    for found, wanted in zip(model.condvar(), dense.condvar(), strict=True):
        close(found, wanted, 1 + np.abs(wanted).max(), 1e-7)
    close(model.leverages(), dense.leverages(), 1.0, 1e-7)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "link"), FAMILIES)
def test_second_derivatives(name: str, link: str, shape: str) -> None:
    dense, psi = simulated(name, link, shape)
    model = compiled(dense)
    H = model.hessian(psi)
    for i in range(len(H)):
        step = 1e-5 * (np.arange(len(psi)) == i)
        ends = [model.value(psi + sign * step, gradient=True)[1] for sign in (1, -1)]
        quotient = ((ends[0] - ends[1]) / 2e-5)[: len(H)]
        np.testing.assert_allclose(H[i], quotient, atol=2e-5 * np.abs(H).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_end_of_a_fit_is_an_optimum(shape: str) -> None:
    dense, _start = simulated("binomial", "logit", shape, n=150)
    model = compiled(dense)
    psi, info = model.minimize(None)
    assert info["status"] == "converged"
    value, gradient = dense.value(psi, gradient=True)
    close(info["objective"], value, 1 + abs(value), 1e-10)
    moving = np.concatenate([np.abs(psi[: dense.ntheta]) > 1e-3, dense.keep])
    close(gradient[moving], np.zeros(moving.sum()), 1.0, 1e-4)
    assert dense.minimize(psi)[1]["objective"] > info["objective"] - 1e-7


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_rows_are_one(shape: str) -> None:
    """The likelihood is that of all rows; members count in what is equal."""
    dense, psi = simulated("binomial", "logit", shape)
    often = np.repeat(np.arange(len(dense.y)), 4)
    dense.y, dense.w, dense.X, dense.o = (
        own[often] for own in (dense.y, dense.w, dense.X, dense.o)
    )
    dense.given = [(codes[often], m, z[often], own) for codes, m, z, own in dense.given]
    one, all_rows = (compiled(dense, merge=merge) for merge in (True, False))
    assert one.rows == len(often) // 4
    assert all_rows.rows == len(often)
    (value, gradient), (wanted, slope) = (own.value(psi, True) for own in (one, all_rows))
    close(value, wanted, 1 + abs(wanted), 1e-11)
    close(gradient, slope, 1 + np.abs(slope).max(), 1e-8)
    close(one.leverages(), all_rows.leverages(), 1.0, 1e-7)


@pytest.mark.parametrize("shape", ["slope", "crossed", "nested"])
def test_threads_do_not_matter(shape: str) -> None:
    dense, psi = simulated("poisson", "log", shape)
    often = np.tile(np.arange(len(dense.y)), 300)  # enough blocks of rows for threads
    dense.y, dense.w, dense.X = dense.y[often], dense.w[often], dense.X[often]
    dense.o = 0.01 * np.sin(np.arange(len(often)))
    dense.given = [(codes[often], m, z[often], own) for codes, m, z, own in dense.given]
    found = []
    for threads in (1, 2):
        model = compiled(dense, merge=False)
        model.use_threads(threads)
        found.append((*model.value(psi, True), model.leverages()))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("shape", ["slope", "crossed"])
def test_rows_in_files(shape: str) -> None:
    """Rows that memory has no room for are elsewhere, in the order of the data."""
    dense, psi = simulated("poisson", "log", shape, n=3000)
    wanted = compiled(dense, merge=False)
    rooms = []

    def room(size: int) -> np.ndarray:
        rooms.append(np.zeros(size, np.uint8))
        return rooms[-1]

    found = compiled(dense, merge=False, limit=3e5, elsewhere=room)
    assert rooms and found.outside > 1e5 and wanted.outside == 0
    (value, gradient), (other, slope) = (own.value(psi, True) for own in (found, wanted))
    close(value, other, 1 + abs(other), 1e-12)
    close(gradient, slope, 1 + np.abs(slope).max(), 1e-9)
    close(found.leverages(), wanted.leverages(), 1.0, 1e-7)


# ---- formulas ------------------------------------------------------------------------------------

JUDGES, ROWS = 16, 500


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Three judges a row, items, and responses of several kinds."""
    rng = np.random.default_rng(5)
    own, x = rng.integers(0, JUDGES, (ROWS, 3)), rng.normal(size=ROWS)
    item = rng.integers(0, 12, ROWS)
    effects, slopes = rng.normal(size=JUDGES), 0.7 * rng.normal(size=JUDGES)
    eta = 0.2 + 0.6 * x + 1.5 * (effects[own] + x[:, None] * slopes[own]).mean(axis=1)
    eta += 0.6 * rng.normal(size=12)[item]
    names = np.array([f"j{i:02d}" for i in range(JUDGES)])[own]
    columns = {"x": x, "item": item, "a": names[:, 0], "b": names[:, 1], "c": names[:, 2]}
    columns["f"] = np.where(rng.random(ROWS) < 0.5, "old", "new")
    columns["y"] = 1.0 * (rng.random(ROWS) < 1 / (1 + np.exp(-eta)))
    columns["n"] = rng.poisson(np.exp(eta / 2))
    classes = np.digitize(eta + rng.logistic(size=ROWS), [-1, 0.5, 2])
    return pd.DataFrame(columns).assign(grade=pd.Categorical(classes, ordered=True))


FORMULA = "y ~ x * f + (x | mm(a, b, c)) + (1 | item)"


@pytest.fixture(scope="module")
def fit(frame: pd.DataFrame) -> object:
    return glmer(FORMULA, frame)


RESPONSES = [("y", "binomial"), ("n", "poisson"), ("n", "nb"), ("grade", "ordered")]


@pytest.mark.parametrize(("response", "family"), RESPONSES)
def test_one_factor_twice_is_that_factor(frame: pd.DataFrame, response: str, family: str) -> None:
    same = frame.assign(b=frame["a"])
    one, other = (
        glmer(f"{response} ~ x + (x | {g}) + (1 | item)", same, family=family)
        for g in ("mm(a, b)", "a")
    )
    close(one.objective, other.objective, 1.0, 1e-8)
    close(one.bse, other.bse, other.bse, 1e-5)
    close(one.ranef()["mm(a, b)"], other.ranef()["a"], 1.0, 1e-5)
    modes, wanted = one.predict(same.head(), se=True), other.predict(same.head(), se=True)
    close(modes, wanted, 1.0, 1e-5)


@pytest.mark.parametrize("how", [{"reml": True}, {"accuracy": "second-order"}])
def test_other_criteria(frame: pd.DataFrame, how: dict) -> None:
    same = frame.assign(b=frame["a"])
    one, other = (glmer(f"y ~ x + (x | {g})", same, **how) for g in ("mm(a, b)", "a"))
    close(one.objective, other.objective, 1.0, 1e-7)
    close(one.bse, other.bse, other.bse, 1e-4)
    assert glmer("y ~ x + (1 | mm(a, b, c))", frame, **how).converged


def test_the_next_order_is_a_sum_over_all_pairs_of_rows(frame: pd.DataFrame) -> None:
    """By its definition, from Sigma = Z B Z'."""
    few = frame.head(120)
    fit = glmer("y ~ x + (x | mm(a, b, c)) + (1 | item)", few)
    names = sorted(set(few[["a", "b", "c"]].to_numpy().ravel()))
    W = np.zeros((len(few), len(names)))
    for column in "abc":
        np.add.at(W, (np.arange(len(few)), few[column].map(names.index)), 1 / 3)
    z = np.column_stack([np.ones(len(few)), few["x"]])
    items = (few["item"].to_numpy()[:, None] == np.unique(few["item"])).astype(float)
    Z = np.hstack([(W[:, :, None] * z[:, None, :]).reshape(len(few), -1), items])
    T, own = fit.estimates.T
    sizes = len(names), items.shape[1]
    Lambda = np.kron(np.eye(sizes[0]), T)
    Lambda = np.block(
        [
            [Lambda, np.zeros((len(Lambda), sizes[1]))],
            [np.zeros((sizes[1], len(Lambda))), own[0, 0] * np.eye(sizes[1])],
        ]
    )
    mu = fit.fittedvalues.to_numpy()
    V = mu * (1 - mu)
    M = np.eye(len(Lambda)) + Lambda.T @ (Z.T @ (V[:, None] * Z)) @ Lambda
    B = Lambda @ np.linalg.solve(M, Lambda.T)
    Sigma = Z @ B @ Z.T
    h = Sigma.diagonal()
    third, fourth = -V * (1 - 2 * mu), -V * (1 - 6 * V)
    s = Z.T @ (h * third)
    wanted = fourth @ h**2 / 8 + s @ B @ s / 8 + third @ Sigma**3 @ third / 12
    close(fit.model.correction(fit.psi), -2 * wanted, 1.0, 1e-6)


def test_the_fit_is_a_minimum(fit: object) -> None:
    assert fit.converged and not fit.is_singular
    for j, se in enumerate(fit.estimates.covariance.diagonal() ** 0.5):
        for side in (0.1, -0.1):
            moved = fit.psi + side * se * (np.arange(len(fit.psi)) == j)
            assert fit.model.objective(moved) > fit.objective + 1e-3
    assert fit.ranef()["mm(a, b, c)"].index.tolist() == [f"j{i:02d}" for i in range(JUDGES)]


def test_predictions(fit: object, frame: pd.DataFrame) -> None:
    rows = frame.head(6)
    close(fit.predict(rows), fit.linear_predictor.head(6), 1.0, 1e-10)
    errors = fit.predict(se=True)["se"].head(6)
    close(fit.predict(rows, se=True)["se"], errors, 1.0, 1e-8)
    b = fit.ranef()["mm(a, b, c)"]
    without = fit.predict(rows, re_form="~ (1 | item)")
    judges = sum(b.loc[rows[c]]["Intercept"].to_numpy() for c in "abc")
    judges = judges + sum(b.loc[rows[c]]["x"].to_numpy() for c in "abc") * rows["x"].to_numpy()
    close(fit.predict(rows), without + judges / 3, 1.0, 1e-9)
    new = rows.assign(a="new")
    assert np.isnan(fit.predict(new, new_levels="missing")).all()
    close(
        fit.predict(new, new_levels="population"),
        fit.predict(rows) - (b.loc[rows["a"]] @ [1, 0]).to_numpy() / 3
        - b.loc[rows["a"]]["x"].to_numpy() * rows["x"].to_numpy() / 3,
        1.0,
        1e-9,
    )  # fmt: skip


def test_means_over_judges_have_the_variance_of_their_mean(
    fit: object, frame: pd.DataFrame
) -> None:
    """Of predictions by row, and of emmeans on average over the rows."""
    T, own = fit.estimates.T
    rows = frame.head(4)
    z = np.column_stack([np.ones(4), rows["x"]])
    counts = [rows[c].to_numpy()[:, None] == fit.design.terms[0].levels for c in "abc"]
    squares = np.square(sum(counts) / 3).sum(axis=1)
    spread = squares * np.square(z @ T).sum(axis=1) + own[0, 0] ** 2
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    eta = fit.predict(rows, re_form="none").to_numpy()[:, None] + np.sqrt(spread)[:, None] * nodes
    wanted = (1 / (1 + np.exp(-eta))) @ weights / weights.sum()
    close(fit.predict(rows, type="response", marginal=True), wanted, 1.0, 1e-8)
    found = emmeans(fit, "f", type="response", at={"x": 0.0})
    counts = [frame[c].to_numpy()[:, None] == fit.design.terms[0].levels for c in "abc"]
    share = np.square(sum(counts) / 3).sum(axis=1).mean()
    spread = share * T[0, 0] ** 2 + own[0, 0] ** 2
    eta = (found.L @ fit.params.to_numpy())[:, None] + np.sqrt(spread) * nodes
    wanted = (1 / (1 + np.exp(-eta))) @ weights / weights.sum()
    close(found.table["response"], wanted, 1.0, 1e-8)


def test_other_responses(fit: object, frame: pd.DataFrame) -> None:
    draws = fit.simulate(3, seed=2)
    again = fit.refit(draws[1])
    fresh = glmer(FORMULA, frame.assign(y=draws[1]))
    close(again.objective, fresh.objective, 1.0, 1e-8)
    many = fit_many(FORMULA, frame, draws, family="binomial")
    close(many.beta[1], fresh.params, 1.0, 1e-4)
    for threads in (1, 2):
        boot = fit.bootstrap(4, seed=1, threads=threads)
        assert np.isfinite(boot.replicates).all().all()
    assert fit.simulate(2, seed=1, newdata=frame.head(9)).shape == (9, 2)


def test_linear_predictors_are_drawn_with_the_covariance(fit: object, frame: pd.DataFrame) -> None:
    from lmmfast.many.generalized import simulator_of
    from lmmfast.many.streams import Streams

    simulator, streams = simulator_of(fit), Streams(3).shared()
    eta = np.array([simulator.predictor(streams.at(i))[:40] for i in range(5000)])
    rows = frame.head(40)
    eta -= fit.predict(rows, re_form="none").to_numpy()
    T, own = fit.estimates.T
    counts = [rows[c].to_numpy()[:, None] == fit.design.terms[0].levels for c in "abc"]
    W = sum(counts) / 3
    z = np.column_stack([np.ones(40), rows["x"]])
    V = (W @ W.T) * (z @ T @ T.T @ z.T)
    V += own[0, 0] ** 2 * (rows["item"].to_numpy()[:, None] == rows["item"].to_numpy())
    size = np.sqrt(np.outer(V.diagonal(), V.diagonal()))
    assert np.abs((eta.T @ eta / len(eta) - V) / size).max() < 0.1


def test_saved_fits(fit: object, frame: pd.DataFrame, tmp_path: object) -> None:
    wanted = fit.predict(frame.head(), se=True)
    means = emmeans(fit, "f", type="response").table
    for data in (True, False):
        path = tmp_path / f"fit{data}.lmm"
        fit.save(path, data=data)
        own = load(path)
        if data:
            close(own.predict(frame.head(), se=True), wanted, 1.0, 1e-12)
            close(own.r2(), fit.r2(), 1.0, 1e-12)
        close(own.predict(frame.head()), wanted["fit"], 1.0, 1e-12)
        pd.testing.assert_frame_equal(emmeans(own, "f", type="response").table, means)
    copy = pickle.loads(pickle.dumps(fit))
    close(copy.predict(frame.head()), wanted["fit"], 1.0, 0)


def test_what_follows_from_estimates(fit: object, frame: pd.DataFrame) -> None:
    small = glmer("y ~ x * f + (1 | mm(a, b, c)) + (1 | item)", frame)
    assert np.isfinite(anova(small, fit).table["Pr(>Chisq)"].iloc[1])
    assert fit.check(20, seed=1).table["p"].between(0, 1).all()
    assert "mm(a, b, c)" in str(plan(FORMULA, frame, family="binomial"))
    lower, upper = fit.conf_int(method="profile", parameters=["x"]).to_numpy()[0]
    assert lower < fit.params["x"] < upper
    few = glmer("y ~ x + (1 | mm(a, b, c)) + (1 | item)", frame.head(60))
    found = few.influence(by="item", levels=[3])
    fresh = glmer("y ~ x + (1 | mm(a, b, c)) + (1 | item)", frame.head(60).query("item != 3"))
    moved = (few.params["x"] - fresh.params["x"]) / few.bse["x"]
    close(found["dfb_x"].iloc[0], moved, 1.0, 1e-3)


def test_what_is_refused(fit: object, frame: pd.DataFrame) -> None:
    with pytest.raises(FitError, match="deletion of levels takes rows that have one level"):
        fit.influence(by="mm(a, b, c)")
    with pytest.raises(
        FitError, match=r"nagq=5: quadrature takes rows that have one level.*; nagq=1 is"
    ):
        GLMM(build("y ~ x + (1 | mm(a, b))", frame, kind="binomial"), nagq=5)
