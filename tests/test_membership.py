"""Rows with several levels of one factor, ``(1 | mm(a, b))``, against V from its definition."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from related import objective, relationship, solution

from lmmfast import (
    LMM,
    DataError,
    FitError,
    FormulaError,
    _core,
    anova,
    emmeans,
    fit_many,
    glmer,
    lmer,
    plan,
    ranova,
)
from lmmfast.data.design import build
from lmmfast.inference.satterthwaite import Satterthwaite

CRITERION, DERIVATIVE, MODE = 1e-8, 1e-7, 1e-8
N, JUDGES, ITEMS = 150, 14, 9
NAMES = [f"j{i:02d}" for i in range(JUDGES)]


def frame(seed: int = 5, n: int = N) -> pd.DataFrame:
    """Three judges a row, one of them twice in some rows; effects of judges, items and slopes."""
    rng = np.random.default_rng(seed)
    own = rng.integers(0, JUDGES, (n, 3))
    x, item = rng.normal(size=n), rng.permutation(np.arange(n) % ITEMS)
    w = rng.uniform(0.1, 1, (n, 3))
    effects, slopes = rng.normal(size=JUDGES), 0.5 * rng.normal(size=JUDGES)
    y = 2 + x + (effects[own] + x[:, None] * slopes[own]).mean(axis=1)
    y += rng.normal(size=ITEMS)[item] + 0.4 * rng.normal(size=n)
    labels = np.array(NAMES)[own]
    columns = {"a": labels[:, 0], "b": labels[:, 1], "c": labels[:, 2]}
    shares = {"u": w[:, 0], "v": w[:, 1], "t": w[:, 2]}
    group = np.where(rng.random(n) < 0.5, "old", "new")
    return pd.DataFrame({"y": y, "x": x, "item": item, "f": group} | columns | shares)


def incidence(data: pd.DataFrame, weights: Any = None, factors: str = "abc") -> np.ndarray:
    """W (n, judges) by its definition."""
    W = np.zeros((len(data), JUDGES))
    for s, name in enumerate(factors):
        own = np.full(len(data), 1 / len(factors)) if weights is None else weights[:, s]
        np.add.at(W, (np.arange(len(data)), [NAMES.index(j) for j in data[name]]), own)
    return W


class Shares(NamedTuple):
    """A random term: the weight of each level in each row (n, m), columns, and K of the levels."""

    W: np.ndarray
    z: np.ndarray
    K: np.ndarray

    def matrix(self) -> np.ndarray:
        """Z (n, m k), level by level."""
        return (self.W[:, :, None] * self.z[:, None, :]).reshape(len(self.W), -1)


def scaled(w: np.ndarray) -> np.ndarray:
    return w / w.sum(axis=1, keepdims=True)


SHARES = {"": None, ", weights=cbind(u, v, t)": scaled}
SHARES[", weights=cbind(u, v, t), scale=FALSE"] = np.asarray


class Case:
    """A model of the frame and its definition."""

    def __init__(self, formula: str, shares: str = "", K: Any = None) -> None:
        self.data = frame()
        self.formula = "y ~ x + " + formula.replace("(a, b, c)", f"(a, b, c{shares})")
        self.group = f"mm(a, b, c{shares})"
        self.given = {} if K is None else {"relationship": {self.group: K}}
        x, how = self.data["x"].to_numpy(), SHARES[shares]
        self.X = np.column_stack([np.ones(N), x])
        w = None if how is None else how(self.data[["u", "v", "t"]].to_numpy())
        self.W = incidence(self.data, w)
        self.terms: list[Any] = []
        for bar in formula.split(" + ("):
            columns, group = bar.strip("(").split(" | ")
            z = {"1": self.X[:, :1], "x": self.X, "0 + x": self.X[:, 1:]}[columns]
            member = group.startswith("mm")
            W = self.W if member else np.eye(ITEMS)[self.data["item"]]
            own = np.eye(W.shape[1]) if K is None or not member else K
            self.terms.append(Shares(W, z, own))

    @property
    def numbers(self) -> tuple[np.ndarray, np.ndarray, list[Any]]:
        return self.data["y"].to_numpy(), self.X, self.terms

    def model(self, storage: str = "auto") -> LMM:
        return LMM(build(self.formula, self.data, **self.given), storage=storage)

    def fit(self, **how: Any) -> Any:
        return lmer(self.formula, self.data, **self.given, **how)

    def theta(self, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        out = []
        for term in self.terms:
            k = term.z.shape[1]
            T = np.tril(rng.normal(size=(k, k)) * 0.3) + 0.7 * np.eye(k)
            out += [T[r, c] for c in range(k) for r in range(c, k)]
        return np.array(out)

    def V(self, T: Any) -> np.ndarray:
        pairs = zip(self.terms, T, strict=True)
        own = (t.matrix() @ np.kron(t.K, root @ root.T) @ t.matrix().T for t, root in pairs)
        return np.eye(N) + sum(own)


FORMULAS = [
    "(1 | mm(a, b, c))",
    "(x | mm(a, b, c))",
    "(1 | mm(a, b, c)) + (1 | item)",
    "(1 | item) + (x | mm(a, b, c)) + (0 + x | item)",
]
each = pytest.mark.parametrize("formula", FORMULAS)


@each
@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_criterion_and_gradient(formula: str, shares: str, storage: str) -> None:
    case = Case(formula, shares)
    model, theta = case.model(storage), case.theta()
    for reml in (True, False):
        value, gradient = model.objective(theta, reml=reml, gradient=True)
        assert value == pytest.approx(objective(*case.numbers, theta, reml), abs=CRITERION)
        for i in range(len(theta)):
            moved = theta.astype(complex)
            moved[i] += 1e-20j
            wanted = objective(*case.numbers, moved, reml).imag / 1e-20
            assert gradient[i] == pytest.approx(wanted, abs=DERIVATIVE)


def test_levels_that_are_related() -> None:
    K = relationship(JUDGES, 2)
    for storage in ("dense", "sparse"):
        case = Case(FORMULAS[2], "", pd.DataFrame(K, NAMES, NAMES))
        case.terms[0] = case.terms[0]._replace(K=K)
        theta = case.theta()
        fit = case.model(storage).at(theta)
        wanted = solution(*case.numbers, theta, True)
        assert fit.objective == pytest.approx(wanted.objective, abs=CRITERION)
        np.testing.assert_allclose(fit.estimates.b[0], wanted.b[0], atol=MODE)


@each
def test_estimates_and_modes(formula: str) -> None:
    case = Case(formula)
    for theta in (case.theta(), case.theta() * (np.arange(len(case.theta())) > 0)):
        fit = case.model().at(theta)
        wanted = solution(*case.numbers, theta, True)
        np.testing.assert_allclose(fit.estimates.beta, wanted.beta, atol=MODE)
        np.testing.assert_allclose(fit.estimates.vcov, wanted.vcov, atol=MODE)
        assert fit.sigma == pytest.approx(wanted.sigma, abs=MODE)
        for i, (b, error) in enumerate(zip(wanted.b, wanted.errors, strict=True)):
            np.testing.assert_allclose(fit.estimates.b[i], b, atol=MODE)
            np.testing.assert_allclose(fit.scale * fit.point.condvar[i], error, atol=MODE)


@each
def test_the_fit_is_a_minimum_of_the_definition(formula: str) -> None:
    from scipy.optimize import minimize

    case = Case(formula)
    fit = case.fit()
    assert fit.converged
    found = minimize(lambda t: objective(*case.numbers, t, True), fit.theta, method="Nelder-Mead")
    assert found.fun > fit.objective - 1e-6
    assert fit.ranef()[case.group].index.tolist() == NAMES


def test_second_derivatives_are_exact() -> None:
    for formula in FORMULAS:
        own = Satterthwaite(Case(formula).fit())
        exact, near = own._analytic_hessian(), own._numerical_hessian()
        np.testing.assert_allclose(exact, near, atol=2e-5 * np.abs(exact).max())


@pytest.mark.filterwarnings("ignore::lmmfast.OneRowPerLevelWarning")
@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_degrees_of_freedom_are_those_of_one_dense_level(ddf: str) -> None:
    """The same V by a column for each judge, of one level, all with one variance."""
    case = Case("(1 | mm(a, b, c))")
    fit = case.fit()
    values, U = np.linalg.eigh(case.W @ case.W.T)  # independent rows, whose variances are known
    z = np.sqrt(np.maximum(values, 0))[:, None]
    own = np.arange(N), z
    other = LMM.from_arrays(U.T @ case.data["y"].to_numpy(), U.T @ case.X, [own]).fit()
    assert fit.objective == pytest.approx(other.objective, abs=1e-8)
    one, two = (f.t_test(np.eye(2), ddf=ddf) for f in (fit, other))
    np.testing.assert_allclose(one.df_denom, two.df_denom, rtol=1e-5)
    np.testing.assert_allclose(one.sd, two.sd, rtol=1e-7)


def test_one_factor_twice_is_that_factor() -> None:
    data = frame().assign(b=lambda own: own["a"])
    fit, plain = (lmer(f"y ~ x + (x | {g})", data) for g in ("mm(a, b)", "a"))
    assert fit.objective == pytest.approx(plain.objective, abs=1e-8)
    np.testing.assert_allclose(fit.bse, plain.bse, rtol=1e-6)


def test_predictions_and_their_errors() -> None:
    case = Case("(x | mm(a, b, c)) + (1 | item)", ", weights=cbind(u, v, t)")
    fit = case.fit()
    V, theta = case.V(fit.estimates.T), fit.estimates.T
    W = np.linalg.inv(V)
    C = np.linalg.inv(case.X.T @ W @ case.X)
    Z = np.column_stack([term.matrix() for term in case.terms])
    G = [np.kron(t.K, T @ T.T) for t, T in zip(case.terms, theta, strict=True)]
    full = np.zeros((Z.shape[1],) * 2)
    at = 0
    for own in G:
        full[at : at + len(own), at : at + len(own)] = own
        at += len(own)
    b = full @ Z.T @ W @ (case.data["y"].to_numpy() - case.X @ fit.estimates.beta)
    for rows in (None, case.data.head(5)):
        found = fit.predict(rows, interval="prediction")
        part = slice(None) if rows is None else slice(0, 5)
        np.testing.assert_allclose(found["fit"], (case.X @ fit.estimates.beta + Z @ b)[part])
        k = full @ Z[part].T
        left = case.X[part].T - case.X.T @ W @ Z @ k
        variance = np.einsum("in,ni->i", Z[part], k - full @ Z.T @ W @ Z @ k)
        variance += np.einsum("pi,pq,qi->i", left, C, left)
        np.testing.assert_allclose(found["se"], fit.sigma * np.sqrt(variance), rtol=1e-8)
    whole = fit.predict(case.data.head(3), re_form="none", interval="prediction")
    spread = np.diag(V)[:3] + np.einsum("ip,pq,iq->i", case.X[:3], C, case.X[:3])
    half = 1.959963984540054 * fit.sigma * np.sqrt(spread)
    assert np.all(whole["upper"] - whole["fit"] > 0.98 * half)  # t with its degrees of freedom


def test_new_levels() -> None:
    fit = Case("(1 | mm(a, b, c))").fit()
    b = fit.ranef()[fit.design.terms[0].group]["Intercept"]
    new = pd.DataFrame({"x": 0.0, "a": ["new", "j01"], "b": ["j02", None], "c": ["j02", "j03"]})
    with pytest.raises(DataError, match="that the fit has not seen: 'new'"):
        fit.predict(new)
    found = fit.predict(new, new_levels="population") - fit.params["Intercept"]
    wanted = [2 * b["j02"] / 3, (b["j01"] + b["j03"]) / 2]
    np.testing.assert_allclose(found, wanted, rtol=1e-10)
    assert np.isnan(fit.predict(new, new_levels="missing")).tolist() == [True, False]
    with pytest.raises(FitError, match="several levels"):
        fit.predict(new, new_levels="sample")
    errors = fit.predict(new, new_levels="population", interval="confidence")["se"]
    known = fit.predict(new.assign(a="j01"), interval="confidence")["se"]
    assert errors[0] > known[0] and errors[1] == pytest.approx(known[1])


def test_missing_levels() -> None:
    """Without weights those that are there share; with weights a missing one must have none."""
    data = frame()
    gone = np.arange(N) % 3 == 0
    data.loc[gone, "c"] = None
    fit = lmer("y ~ x + (1 | mm(a, b, c))", data)
    assert fit.nobs == N
    share = np.where(gone[:, None], [0.5, 0.5, 0.0], [1 / 3] * 3)
    filled = data.assign(c=data["c"].fillna("j00"), u=share[:, 0], v=share[:, 1], t=share[:, 2])
    other = lmer("y ~ x + (1 | mm(a, b, c, weights=cbind(u, v, t)))", filled)
    assert fit.objective == pytest.approx(other.objective, abs=1e-9)
    zero = data.assign(t=np.where(gone, 0.0, data["t"]))
    formula = "y ~ x + (1 | mm(a, b, c, weights=cbind(u, v, t)))"
    assert lmer(formula, zero).nobs == N
    dropped = lmer(formula, data)
    assert dropped.nobs == N - gone.sum()
    assert list(dropped.design.dropped.values()) == [gone.sum()]
    nothing = data.assign(a=data["a"].where(~gone), b=data["b"].where(~gone))
    assert lmer("y ~ x + (1 | mm(a, b, c))", nothing).nobs == N - gone.sum()


def test_other_responses() -> None:
    case = Case("(x | mm(a, b, c)) + (1 | item)")
    fit = case.fit()
    draws = fit.simulate(3, seed=2)
    again = fit.refit(draws[1])
    fresh = lmer(case.formula, case.data.assign(y=draws[1]))
    assert again.objective == pytest.approx(fresh.objective, abs=1e-8)
    w = np.linspace(0.5, 2, N)
    heavy = fit.refit(weights=w)
    assert heavy.objective == pytest.approx(
        lmer(case.formula, case.data, weights=w).objective, abs=1e-8
    )
    many = fit_many(case.formula, case.data, draws)
    assert many.beta[1, 1] == pytest.approx(fresh.params["x"], abs=1e-6)
    boot = fit.bootstrap(5, seed=1)
    assert np.isfinite(boot.replicates).all().all()


def test_explained_variance_counts_the_weights() -> None:
    """The variance of a row's random part is that of its levels' weighted sum."""
    case = Case("(x | mm(a, b, c))", ", weights=cbind(u, v, t)")
    fit = case.fit()
    W = case.W
    own = np.einsum("ij,jk,ik->i", case.X, fit.estimates.T[0] @ fit.estimates.T[0].T, case.X)
    random = fit.scale * np.mean(np.square(W).sum(axis=1) * own)
    fixed = np.var(case.X @ fit.estimates.beta, ddof=1)
    total = fixed + random + fit.scale
    np.testing.assert_allclose(fit.r2(), [fixed / total, (fixed + random) / total], rtol=1e-10)


def test_draws_have_the_covariance() -> None:
    case = Case("(x | mm(a, b, c))")
    fit = case.model().at(case.theta())
    Y = fit.simulate(4000, seed=3).to_numpy()
    Y = Y - (case.X @ fit.estimates.beta)[:, None]
    V = fit.scale * case.V(fit.estimates.T)
    size = np.sqrt(np.outer(V.diagonal(), V.diagonal()))
    assert np.abs((Y @ Y.T / 4000 - V) / size).max() < 0.12


def test_rows_that_are_left_out() -> None:
    case = Case("(x | mm(a, b, c)) + (1 | item)")
    fit = case.fit()
    V, row = case.V(fit.estimates.T), 17
    keep = np.arange(N) != row
    W = np.linalg.inv(V[np.ix_(keep, keep)])
    C = np.linalg.inv(case.X[keep].T @ W @ case.X[keep])
    beta = C @ case.X[keep].T @ W @ case.data["y"].to_numpy()[keep]
    wanted = (fit.estimates.beta - beta) / np.sqrt(np.diag(fit.estimates.vcov))
    own = fit.influence()[["dfb_Intercept", "dfb_x"]].iloc[row]
    np.testing.assert_allclose(own, wanted, atol=1e-8)
    r = case.data["y"].to_numpy() - case.X @ fit.estimates.beta
    L = np.linalg.cholesky(fit.scale * V)
    np.testing.assert_allclose(fit.residuals("scaled"), np.linalg.solve(L, r), atol=1e-8)


def test_what_follows_from_estimates() -> None:
    data = frame()
    fit = lmer("y ~ x * f + (x | mm(a, b, c)) + (1 | item)", data)
    assert "mm(a, b, c)" in str(fit.summary())
    assert np.isfinite(emmeans(fit, "f").to_frame()["df"]).all()
    assert fit.profile().conf_int().shape[1] == 2
    copy = pickle.loads(pickle.dumps(fit))
    np.testing.assert_allclose(copy.predict(data.head()), fit.predict(data.head()))
    assert "mm(a, b, c)" in str(plan("y ~ x + (x | mm(a, b, c))", data))
    with pytest.raises(FitError, match="several"):
        fit.influence(by="item")


def test_nested_models_are_compared() -> None:
    data = frame()
    large, small, other = (
        lmer(f"y ~ x + {term} + (1 | item)", data, reml=False)
        for term in ("(x | mm(a, b, c))", "(1 | mm(a, b, c))", "(1 | mm(a, b))")
    )
    assert "the p-value is\n  conservative" in str(anova(small, large))
    assert "mm(a, b, c)" in str(ranova(large))
    assert "not nested: (1 | mm(a, b)) is no special case" in str(anova(other, large))


def test_levels_keep_their_order() -> None:
    data = frame().replace({"a": dict(zip(NAMES, range(JUDGES), strict=True))})
    data = data.replace({"b": dict(zip(NAMES, range(JUDGES), strict=True))})
    fit = lmer("y ~ x + (1 | mm(a, b))", data.astype({"a": int, "b": float}))
    assert fit.ranef()["mm(a, b)"].index.tolist() == list(range(JUDGES))
    order = NAMES[::-1]
    kinds = {name: pd.CategoricalDtype(order) for name in "ab"}
    fit = lmer("y ~ x + (1 | mm(a, b))", frame().astype(kinds))
    assert fit.ranef()["mm(a, b)"].index.tolist() == order


def test_what_is_refused() -> None:
    data = frame().assign(z=0.0, one="j00")
    with pytest.raises(DataError, match=r"weights of .* sum to zero in"):
        lmer("y ~ x + (1 | mm(a, b, weights=cbind(z, z)))", data)
    with pytest.raises(DataError, match="is not one number for each row"):
        lmer("y ~ x + (1 | mm(a, b, weights=cbind(u, f)))", data)
    with pytest.raises(DataError, match="fewer than two levels"):
        lmer("y ~ x + (1 | mm(one, one))", data)
    with pytest.raises(FormulaError, match="scale= of mm"):
        lmer("y ~ x + (1 | mm(a, b, scale=2))", data)
    with pytest.raises(FitError, match="nagq=5: quadrature takes rows that have one level"):
        glmer("y ~ x + (1 | mm(a, b))", data.assign(y=1.0 * (data["y"] > 2)), nagq=5)
    with pytest.raises(FormulaError, match="streams do not have rows with several"):
        lmer("y ~ x + (1 | mm(a, b))", [data.head(80), data.tail(70)])
    with pytest.raises(FitError, match="several levels in a row"):
        lmer("y ~ x + (1 | mm(a, b))", data, dispersion="~ f")
    with pytest.raises(FitError, match="have several of mm"):
        lmer("y ~ x + (1 | mm(a, b)) + (1 | item)", data, storage="iterative")
    with pytest.raises(FitError, match="have several of mm"):
        Case("(1 | mm(a, b, c))").fit().influence(by="mm(a, b, c)")


def test_threads_do_not_matter() -> None:
    case = Case("(x | mm(a, b, c)) + (1 | item)")
    theta = case.theta()
    for storage in ("dense", "sparse"):
        one, two = (
            LMM(build(case.formula, case.data), storage=storage, threads=threads).objective(
                theta, gradient=True
            )
            for threads in (1, 2)
        )
        assert one.value == two.value
        np.testing.assert_array_equal(one.gradient, two.gradient)


INVALID = {
    "levels once and ascending": ([0, 2], [1, 1], [0.5, 0.5], 3),
    "levels in range": ([0, 1], [3], [1.0], 3),
    "places within": ([0, 2, 1], [0], [1.0], 3),
    "a weight each": ([0, 2], [0, 1], [1.0], 3),
    "finite weights": ([0, 1], [0], [np.nan], 3),
    "rows": ([0], [], [], 3),
}


@pytest.mark.parametrize("what", INVALID)
def test_the_core_checks_members(what: str) -> None:
    ptr, level, weight, levels = INVALID[what]
    with pytest.raises(ValueError):
        _core.Members(
            np.array(ptr, np.int64), np.array(level, np.int32), np.array(weight, float), levels
        )


def test_wide_fixed_effects() -> None:
    """X of so many columns is whitened in another way."""
    case = Case("(1 | mm(a, b, c))")
    rng = np.random.default_rng(0)
    more = pd.DataFrame(rng.normal(size=(N, 60)), columns=[f"z{j}" for j in range(60)])
    data = pd.concat([case.data, more], axis=1)
    fit = lmer("y ~ x + " + " + ".join(more) + " + (1 | mm(a, b, c))", data)
    X = np.column_stack([case.X, more])
    wanted = objective(case.numbers[0], X, case.terms, fit.theta, True)
    assert fit.objective == pytest.approx(wanted, abs=CRITERION)
