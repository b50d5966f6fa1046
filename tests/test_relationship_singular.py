"""Relationship matrices of less than full rank, exactly as they are, against their definition."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from dense_glmm import DenseGeneralized
from related import Term, objective, relationship, solution

from lmmfast import DataError, Relationship, glmer, lmer
from lmmfast.many.generalized import simulator_of
from lmmfast.many.streams import Streams

pytestmark = pytest.mark.filterwarnings("ignore::lmmfast.IdentifiabilityWarning")

N, FOUNDERS = 120, 16


def clones() -> np.ndarray:
    """Two pairs of twins, and three of one kind."""
    own = np.r_[np.arange(FOUNDERS), 0, 3, 7, 7]
    return relationship(FOUNDERS, 2)[np.ix_(own, own)]


def centred() -> np.ndarray:
    """Genotypes of 20 animals less their means: of rank 19."""
    M = np.random.default_rng(1).binomial(2, 0.4, (20, 200)).astype(float)
    M -= M.mean(axis=0)
    return M @ M.T / 200


def few_markers() -> np.ndarray:
    """Of rank 5."""
    M = np.random.default_rng(2).normal(size=(20, 5))
    return M @ M.T / 5


def families() -> np.ndarray:
    """Five families of four, two of them with twins."""
    K = np.kron(np.eye(5), 0.5 * np.eye(4) + 0.5)
    for first in (1, 9):
        K[first + 1] = K[first]
        K[:, first + 1] = K[:, first]
    return K


KINDS = {kind.__name__: kind for kind in (clones, centred, few_markers, families)}
RANKS = {"clones": 16, "centred": 19, "few_markers": 5, "families": 18}
each = pytest.mark.parametrize("kind", KINDS)


class Case:
    def __init__(self, kind: str, columns: str = "1 + x") -> None:
        rng = np.random.default_rng(4)
        self.K = KINDS[kind]()
        q = len(self.K)
        codes, x = rng.integers(0, q, N), rng.normal(size=N)
        self.names = [f"k{i:02d}" for i in range(q)]
        b = np.linalg.svd(self.K)[0] @ (np.sqrt(np.linalg.svd(self.K)[1]) * rng.normal(size=q))
        y = 1 + x + b[codes] + 0.7 * rng.normal(size=N)
        names = np.array(self.names)[codes]
        item = rng.permutation(np.arange(N) % 8)
        self.data = pd.DataFrame({"y": y, "x": x, "g": names, "item": item})
        self.formula = f"y ~ x + ({columns} | g) + (1 | item)"
        self.X = np.column_stack([np.ones(N), x])
        z = self.X if columns == "1 + x" else self.X[:, :1]
        own = Term(item, np.ones((N, 1)), np.eye(8))
        self.numbers = y, self.X, [Term(codes, z, self.K), own]
        self.given = {"g": pd.DataFrame(self.K, self.names, self.names)}

    def fit(self):  # type: ignore[no-untyped-def]
        return lmer(self.formula, self.data, relationship=self.given)


@each
@pytest.mark.parametrize("columns", ["1", "1 + x"])
def test_criterion_modes_and_errors(kind: str, columns: str) -> None:
    case = Case(kind, columns)
    fit = case.fit()
    assert fit.converged
    wanted = solution(*case.numbers, fit.theta, True)
    assert fit.objective == pytest.approx(wanted.objective, abs=1e-8)
    np.testing.assert_allclose(fit.estimates.vcov, wanted.vcov, atol=1e-8)
    found = fit.ranef(cond_var=True)["g"].loc[case.names]
    np.testing.assert_allclose(found["condval"], wanted.b[0], atol=1e-7)
    variances = np.einsum("mkk->mk", wanted.errors[0])
    np.testing.assert_allclose(found["condsd"] ** 2, variances, atol=1e-8)
    names = [*fit.design.terms[0].labels]
    np.testing.assert_allclose(
        fit.ranef_cov()[fit.design.terms[0].label],
        wanted.errors[0][[case.names.index(name) for name in names]],
        atol=1e-8,
    )


@each
def test_gradient(kind: str) -> None:
    case = Case(kind)
    fit = case.fit()
    theta = np.array([0.8, 0.3, 0.5, 0.4])
    gradient = fit.model.objective(theta, gradient=True)[1]
    for i in range(4):
        moved = theta.astype(complex)
        moved[i] += 1e-20j
        wanted = objective(*case.numbers, moved, True).imag / 1e-20
        assert gradient[i] == pytest.approx(wanted, abs=1e-7)


def test_the_rank_is_said() -> None:
    for kind, rank in RANKS.items():
        fit = Case(kind, "1").fit()
        assert len(fit.design.terms[0].levels) == rank
        assert f"g, 20 ({rank} with effects of their own: K is singular)" in str(fit.summary())


def test_twins_have_one_effect() -> None:
    fit = Case("clones", "1").fit()
    b = fit.ranef()["g"]["Intercept"]
    for one, other in (("k00", "k16"), ("k03", "k17"), ("k07", "k18"), ("k07", "k19")):
        assert b[one] == pytest.approx(b[other], abs=1e-12)


@each
def test_predictions(kind: str) -> None:
    case = Case(kind)
    fit = pickle.loads(pickle.dumps(case.fit()))
    np.testing.assert_allclose(fit.predict(case.data), fit.fittedvalues, atol=1e-10)
    one, two = (fit.predict(rows, interval="confidence")["se"] for rows in (None, case.data))
    np.testing.assert_allclose(one, two, rtol=1e-8)
    _, X, terms = case.numbers
    V = np.eye(N)
    Z, G = [], []
    for term, T in zip(terms, fit.estimates.T, strict=True):
        Z.append(term.matrix())
        G.append(np.kron(term.K, T @ T.T))
        V += Z[-1] @ G[-1] @ Z[-1].T
    W = np.linalg.inv(V)
    C = np.linalg.inv(X.T @ W @ X)
    k = V - np.eye(N)  # of the rows' random parts
    left = X.T - X.T @ W @ k
    variance = np.diag(k - k @ W @ k) + np.einsum("pi,pq,qi->i", left, C, left)
    np.testing.assert_allclose(one, fit.sigma * np.sqrt(variance), rtol=1e-7)
    with pytest.raises(DataError, match="relationship of 'g' lacks stranger"):
        fit.predict(case.data.head(2).assign(g=["stranger", "k01"]))
    leverage = fit.influence()["hat_diag"]
    P = W - W @ X @ C @ X.T @ W
    np.testing.assert_allclose(leverage, 1 - np.diag(P), atol=1e-8)


def test_other_responses() -> None:
    case = Case("clones")
    fit = case.fit()
    draw = fit.simulate(1, seed=1)[0]
    fresh = lmer(case.formula, case.data.assign(y=draw), relationship=case.given)
    assert fit.refit(draw).objective == pytest.approx(fresh.objective, abs=1e-8)


def test_draws_have_the_covariance() -> None:
    case = Case("centred", "1")
    fit = case.fit()
    Y = fit.simulate(4000, seed=3).to_numpy() - (case.X @ fit.estimates.beta)[:, None]
    terms = case.numbers[2]
    pairs = zip(terms, fit.estimates.T, strict=True)
    parts = (t.matrix() @ np.kron(t.K, T @ T.T) @ t.matrix().T for t, T in pairs)
    V = fit.scale * (np.eye(N) + sum(parts))
    size = np.sqrt(np.outer(V.diagonal(), V.diagonal()))
    assert np.abs((Y @ Y.T / 4000 - V) / size).max() < 0.12


def test_levels_without_labels_go_by_their_order() -> None:
    case = Case("clones", "1")
    known = case.fit()
    fit = lmer(case.formula, case.data, relationship={"g": Relationship(case.K)})
    assert fit.objective == pytest.approx(known.objective, abs=1e-9)
    pd.testing.assert_frame_equal(fit.ranef()["g"], known.ranef()["g"], atol=1e-7)


def test_levels_that_are_no_sums_stay_plain() -> None:
    """Where only levels with effects of their own have records, nothing is different."""
    case = Case("clones", "1")
    kept = case.fit().design.terms[0].levels.tolist()
    data = case.data[case.data["g"].isin(kept)]
    fit = lmer(case.formula, data, relationship=case.given)
    wanted = lmer(case.formula, data, relationship={"g": case.given["g"].loc[kept, kept]})
    assert not fit.design.terms[0].several
    assert fit.objective == pytest.approx(wanted.objective, abs=1e-9)
    assert len(fit.ranef()["g"]) == 20
    logistic = data.assign(y=1.0 * (data["y"] > 1))
    assert glmer(case.formula, logistic, family="binomial", relationship=case.given).converged


@each
@pytest.mark.parametrize("family", ["binomial", "poisson"])
def test_generalized_models(kind: str, family: str) -> None:
    """Against the dense model of independent effects, whose weights are a root of K."""
    case = Case(kind)
    y = case.data["y"].to_numpy()
    data = case.data.assign(y=1.0 * (y > 1) if family == "binomial" else np.round(np.exp(y / 2)))
    fit = glmer(case.formula, data, family=family, relationship=case.given)
    vectors, sizes, _ = np.linalg.svd(case.K)
    codes = case.data["g"].map(case.names.index).to_numpy()
    roots = (vectors * np.sqrt(sizes))[codes][:, sizes > 1e-10]
    both, one = np.array([-1, -1]), np.array([0])
    factors = [
        (roots, roots.shape[1], case.X, both),
        (case.data["item"].to_numpy(), 8, np.ones((N, 1)), one),
    ]
    link = {"binomial": "logit", "poisson": "log"}[family]
    dense = DenseGeneralized(data["y"].to_numpy(), case.X, factors, family=family, link=link)
    assert fit.objective == pytest.approx(dense.value(fit.psi), abs=1e-8)
    for size in (0.5, 1.0):  # off the boundary
        psi = fit.psi + size * np.r_[0.3, 0.1, 0.3, 0.2, 0.1, -0.1]
        value, gradient = fit.model.objective(psi, gradient=True)
        wanted, slope = dense.value(psi, gradient=True)
        assert value == pytest.approx(wanted, abs=1e-8)
        np.testing.assert_allclose(gradient, slope, atol=1e-6)
    shown = fit.ranef()["g"]
    assert sorted(shown.index) == case.names
    again = pickle.loads(pickle.dumps(fit))
    np.testing.assert_array_equal(again.predict(data.head()), fit.predict(data.head()))
    assert fit.refit(fit.simulate(1, seed=1)[0]).converged


def test_drawn_responses_of_generalized_models_have_the_covariance() -> None:
    """Linear predictors of related levels, of which some are sums of others, and of plain ones."""
    case = Case("families")
    data = case.data.assign(y=np.round(np.exp(case.data["y"] / 2)))
    fit = glmer(case.formula, data, family="poisson", relationship=case.given)
    simulator = simulator_of(fit)
    streams = Streams(1).shared()
    eta = np.array([simulator.predictor(streams.at(i)) for i in range(6000)])
    eta -= case.X @ fit.estimates.beta
    T, own = fit.estimates.T
    codes = case.data["g"].map(case.names.index).to_numpy()
    V = case.K[np.ix_(codes, codes)] * (case.X @ T @ T.T @ case.X.T)
    V += own[0, 0] ** 2 * (case.data["item"].to_numpy()[:, None] == case.data["item"].to_numpy())
    size = np.sqrt(np.outer(V.diagonal(), V.diagonal()))
    assert np.abs((eta.T @ eta / len(eta) - V) / size).max() < 0.08


def test_what_is_refused() -> None:
    case = Case("clones", "1")
    with pytest.raises(DataError, match="singular, of rank 1"):
        lmer(case.formula, case.data, relationship={"g": np.ones((20, 20))})
    with pytest.raises(DataError, match="not positive semidefinite"):
        lmer(case.formula, case.data, relationship={"g": case.K - 0.2 * np.eye(20)})
