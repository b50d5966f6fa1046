"""Relationship matrices: criterion, derivatives, modes and their errors against the definition."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from related import Term, objective, relationship, solution

from lmmfast import (
    LMM,
    Adjacency,
    DataError,
    FitError,
    Precision,
    Relationship,
    cross_validate,
    fit_many,
    glmer,
    lmer,
    plan,
    simulate,
)
from lmmfast.data.design import build
from lmmfast.inference.satterthwaite import Satterthwaite

pytestmark = pytest.mark.filterwarnings("ignore::lmmfast.IdentifiabilityWarning")

CRITERION, DERIVATIVE, MODE = 1e-8, 1e-8, 1e-9
N, ANIMALS, ITEMS = 90, 40, 12
NAMES = [f"k{i}" for i in range(ANIMALS)]


class Case:
    """One model and its definition; the last animals have no records."""

    def __init__(self, formula: str, sparse: bool = False, seed: int = 3) -> None:
        rng = np.random.default_rng(seed)
        codes = rng.integers(0, ANIMALS - 4, N)
        x = rng.normal(size=N)
        item = rng.permutation(np.arange(N) % ITEMS)
        Q = _band() if sparse else np.linalg.inv(relationship(ANIMALS, seed))
        K = np.linalg.inv(Q)
        y = 2 + x + rng.multivariate_normal(np.zeros(ANIMALS), K)[codes] + rng.normal(size=N)
        order = rng.permutation(ANIMALS)
        self.given: Any = pd.DataFrame(K, NAMES, NAMES).iloc[order, order]
        if sparse:
            self.given = Precision(Q, NAMES)
        self.levels = NAMES if sparse else [NAMES[i] for i in order]
        self.place = np.arange(ANIMALS) if sparse else order
        self.data = pd.DataFrame(
            {
                "y": y + rng.normal(size=ITEMS)[item],
                "x": x,
                "animal": np.array(NAMES)[codes],
                "item": item,
                "pen": codes // 6,
            }
        )
        self.formula = f"y ~ x + {formula}"
        self.X = np.column_stack([np.ones(N), x])
        Z = {"1": np.ones((N, 1)), "1 + x": self.X}
        self.terms = []
        for bar in formula.split(" + ("):
            columns, group = bar.strip("()").split(" | ")
            if group == "animal":
                self.terms.append(Term(codes, Z[columns], K))
            else:
                own = self.data[group].to_numpy()
                self.terms.append(Term(own, Z[columns], np.eye(own.max() + 1)))

    def model(self, storage: str = "auto") -> LMM:
        design = build(self.formula, self.data, relationship={"animal": self.given})
        return LMM(design, storage=storage)

    def theta(self, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        out = []
        for term in self.terms:
            k = term.z.shape[1]
            T = np.tril(rng.normal(size=(k, k)) * 0.3) + 0.7 * np.eye(k)
            out += [T[r, c] for c in range(k) for r in range(c, k)]
        return np.array(out)

    @property
    def animal(self) -> int:
        return next(i for i, term in enumerate(self.terms) if len(term.K) == ANIMALS)


def _band() -> np.ndarray:
    off = -0.45 * np.ones(ANIMALS - 1)
    return np.eye(ANIMALS) + np.diag(off, 1) + np.diag(off, -1)


FORMULAS = [
    "(1 | animal)",
    "(1 + x | animal)",
    "(1 | animal) + (1 | item)",
    "(1 + x | animal) + (1 | pen)",
    "(1 | pen) + (1 | animal) + (1 + x | item)",
]
each = pytest.mark.parametrize("formula", FORMULAS)
stored = pytest.mark.parametrize("storage", ["dense", "sparse"])
both = pytest.mark.parametrize("reml", [True, False])


@each
@stored
@both
def test_criterion_and_gradient(formula: str, storage: str, reml: bool) -> None:
    for sparse in (False, True):
        case = Case(formula, sparse)
        model, theta = case.model(storage), case.theta()
        value, gradient, _ = model.objective(theta, reml=reml, gradient=True, hessian=True)
        own = case.data.y.to_numpy(), case.X, case.terms
        assert value == pytest.approx(objective(*own, theta, reml), abs=CRITERION)
        step = 1e-20
        for i in range(len(theta)):
            moved = theta.astype(complex)
            moved[i] += 1j * step
            wanted = objective(*own, moved, reml).imag / step
            assert gradient[i] == pytest.approx(
                wanted, abs=DERIVATIVE * max(1, np.abs(gradient).max())
            )


@each
@stored
def test_estimates_and_modes(formula: str, storage: str) -> None:
    case = Case(formula)
    theta = case.theta()
    fit = case.model(storage).at(theta)
    wanted = solution(case.data.y.to_numpy(), case.X, case.terms, theta, True)
    np.testing.assert_allclose(fit.estimates.beta, wanted.beta, atol=MODE)
    np.testing.assert_allclose(fit.estimates.vcov, wanted.vcov, atol=MODE)
    assert fit.sigma == pytest.approx(wanted.sigma, abs=MODE)
    errors = [fit.scale * own for own in fit.point.condvar]
    for i, (b, error) in enumerate(zip(wanted.b, wanted.errors, strict=True)):
        place = case.place if i == case.animal else np.arange(len(b))
        np.testing.assert_allclose(fit.estimates.b[i], b[place], atol=MODE)
        np.testing.assert_allclose(errors[i], error[place], atol=MODE)


def test_zero_variance_is_exact() -> None:
    case = Case("(1 + x | animal) + (1 | item)")
    for theta in (np.array([0.0, 0, 0, 0.5]), np.array([0.7, 0.3, 0, 0.0])):
        own = case.data.y.to_numpy(), case.X, case.terms
        fit = case.model().at(theta)
        wanted = solution(*own, theta, True)
        assert fit.objective == pytest.approx(wanted.objective, abs=1e-7)
        np.testing.assert_allclose(fit.estimates.b[0], wanted.b[0][case.place], atol=1e-8)


@each
def test_the_fit_is_a_minimum_of_the_definition(formula: str) -> None:
    from scipy.optimize import minimize

    case = Case(formula)
    fit = lmer(case.formula, case.data, relationship={"animal": case.given})
    assert fit.converged
    own = case.data.y.to_numpy(), case.X, case.terms
    assert fit.objective == pytest.approx(objective(*own, fit.theta, True), abs=CRITERION)
    found = minimize(lambda t: objective(*own, t, True), fit.theta, method="Nelder-Mead")
    assert found.fun > fit.objective - 1e-6


def test_second_derivatives_are_exact() -> None:
    for formula in FORMULAS:
        case = Case(formula)
        fit = lmer(case.formula, case.data, relationship={"animal": case.given})
        own = Satterthwaite(fit)
        exact, near = own._analytic_hessian(), own._numerical_hessian()
        np.testing.assert_allclose(exact, near, atol=2e-5 * np.abs(exact).max())


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_degrees_of_freedom_are_those_of_the_rotated_model(ddf: str) -> None:
    """One record a level: eigenvectors of K make the levels independent."""
    rng = np.random.default_rng(5)
    n = 60
    K = relationship(n, 2)
    x = rng.normal(size=n)
    y = x + rng.multivariate_normal(np.zeros(n), K) + 0.5 * rng.normal(size=n)
    data = pd.DataFrame({"y": y, "x": x, "g": np.arange(n)})
    fit = lmer("y ~ x + (1 | g)", data, relationship={"g": K})
    values, U = np.linalg.eigh(K)
    X = U.T @ np.column_stack([np.ones(n), x])
    own = (np.arange(n), np.sqrt(values)[:, None])
    other = LMM.from_arrays(U.T @ y, X, [own]).fit()
    assert fit.objective == pytest.approx(other.objective, abs=1e-8)
    one, two = (f.t_test(np.eye(2), ddf=ddf) for f in (fit, other))
    np.testing.assert_allclose(one.df_denom, two.df_denom, rtol=1e-6)
    np.testing.assert_allclose(one.sd, two.sd, rtol=1e-8)


def test_levels_without_records_have_modes() -> None:
    case = Case("(1 | animal)")
    fit = lmer(case.formula, case.data, relationship={"animal": case.given})
    table = fit.ranef()["animal"]
    assert table.index.tolist() == case.levels
    assert set(case.levels) - set(case.data.animal)
    new = pd.DataFrame({"x": [0.0, 0.0], "animal": [NAMES[-1], NAMES[0]]})
    b = dict(zip(case.levels, fit.estimates.b[0][:, 0], strict=True))
    wanted = fit.estimates.beta[0] + np.array([b[NAMES[-1]], b[NAMES[0]]])
    np.testing.assert_allclose(fit.predict(new), wanted)
    with pytest.raises(DataError, match="relationship of 'animal' lacks stranger"):
        fit.predict(new.assign(animal=["stranger", NAMES[0]]), new_levels="population")


def test_prediction_errors() -> None:
    """Var(x'beta-hat + b-hat - x'beta - b) for an animal with records and one without."""
    case = Case("(1 | animal)")
    fit = lmer(case.formula, case.data, relationship={"animal": case.given})
    new = pd.DataFrame({"x": [0.3, -1.0], "animal": [NAMES[-1], NAMES[0]]})
    found = fit.predict(new, interval="confidence")
    term, t2, n = case.terms[0], fit.theta[0] ** 2, N
    Z = term.matrix()
    V = np.eye(n) + t2 * Z @ term.K @ Z.T
    W = np.linalg.inv(V)
    C = np.linalg.inv(case.X.T @ W @ case.X)
    for i, level in enumerate([ANIMALS - 1, 0]):
        k = t2 * term.K[level]
        x = np.array([1.0, new.x[i]])
        left = x - case.X.T @ W @ Z @ k
        wanted = k[level] - (Z @ k) @ W @ (Z @ k) + left @ C @ left
        assert found["se"].iloc[i] == pytest.approx(fit.sigma * np.sqrt(wanted), rel=1e-8)


def test_rows_that_are_left_out() -> None:
    """Changes of the coefficients at given theta, and fits without a row."""
    case = Case("(1 | animal) + (1 | item)")
    fit = lmer(case.formula, case.data, relationship={"animal": case.given})
    found = fit.influence()
    V = np.eye(N)
    for term, T in zip(case.terms, fit.estimates.T, strict=True):
        V += term.matrix() @ np.kron(term.K, T @ T.T) @ term.matrix().T
    for row in (0, 17):
        keep = np.arange(N) != row
        W = np.linalg.inv(V[np.ix_(keep, keep)])
        C = np.linalg.inv(case.X[keep].T @ W @ case.X[keep])
        beta = C @ case.X[keep].T @ W @ case.data.y.to_numpy()[keep]
        wanted = (fit.estimates.beta - beta) / np.sqrt(np.diag(fit.estimates.vcov))
        own = found[["dfb_Intercept", "dfb_x"]].iloc[row]
        np.testing.assert_allclose(own, wanted, atol=1e-8)
    rest = lmer(case.formula, case.data.drop(index=17), relationship={"animal": case.given})
    one = fit.influence(refine="full").iloc[17]
    assert one["sigma"] == pytest.approx(rest.sigma, rel=1e-5)


def test_folds_are_predicted_through_their_relatives() -> None:
    case = Case("(1 | animal)")
    fit = lmer(case.formula, case.data, relationship={"animal": case.given})
    fold = np.where(np.isin(case.data.animal, NAMES[:5]), "left", "kept")
    found = cross_validate(fit, fold).to_frame()
    out = fold == "left"
    rest = lmer(case.formula, case.data[~out], relationship={"animal": case.given})
    term, y = case.terms[0], case.data.y.to_numpy()
    V = rest.scale * (np.eye(N) + rest.theta[0] ** 2 * term.matrix() @ term.K @ term.matrix().T)
    W = np.linalg.inv(V[np.ix_(~out, ~out)])
    C = np.linalg.inv(case.X[~out].T @ W @ case.X[~out])
    back = V[np.ix_(out, ~out)] @ W
    mean = case.X[out] @ rest.estimates.beta + back @ (y - case.X @ rest.estimates.beta)[~out]
    left = case.X[out] - back @ case.X[~out]
    spread = V[np.ix_(out, out)] - back @ V[np.ix_(~out, out)]
    from scipy.stats import multivariate_normal

    dense = {
        "known": multivariate_normal(mean, spread).logpdf(y[out]),
        "estimated": multivariate_normal(mean, spread + left @ C @ left.T).logpdf(y[out]),
    }
    near = [abs(found.loc["left", "elpd"] - value) for value in dense.values()]
    assert min(near) < 1e-3


def test_scaled_residuals_are_independent() -> None:
    case = Case("(1 + x | animal) + (1 | item)")
    fit = lmer(case.formula, case.data, relationship={"animal": case.given})
    V = np.eye(N)
    for term, T in zip(case.terms, fit.estimates.T, strict=True):
        V += term.matrix() @ np.kron(term.K, T @ T.T) @ term.matrix().T
    L = np.linalg.cholesky(fit.scale * V)
    r = case.data.y - case.X @ fit.estimates.beta
    np.testing.assert_allclose(fit.residuals("scaled"), np.linalg.solve(L, r), atol=1e-8)


def test_draws_have_the_covariance() -> None:
    from lmmfast.engine.relations import covariance, diagonal, draws

    for sparse in (False, True):
        case = Case("(1 | animal)", sparse)
        relation = case.model().design.terms[0].relation
        assert relation is not None
        K = case.terms[0].K[np.ix_(case.place, case.place)]
        root = draws(relation, np.eye(ANIMALS))
        np.testing.assert_allclose(root.T @ root, K, atol=1e-10)
        np.testing.assert_allclose(diagonal(relation, ANIMALS), K.diagonal(), atol=1e-10)
        levels = np.array([3, 1, 7])
        np.testing.assert_allclose(
            covariance(relation, levels), K[np.ix_(levels, levels)], atol=1e-10
        )


def test_simulated_responses() -> None:
    case = Case("(1 | animal)")
    fit = lmer(case.formula, case.data, relationship={"animal": case.given})
    few, many = fit.simulate(2, seed=1), fit.simulate(4000, seed=1)
    assert (few == many[[0, 1]]).all(axis=None)
    term = case.terms[0]
    V = fit.scale * (np.eye(N) + fit.theta[0] ** 2 * term.matrix() @ term.K @ term.matrix().T)
    found = np.cov(many.to_numpy())
    assert np.abs(found - V).max() < 6 * V.max() / np.sqrt(4000)
    refit = fit.refit(many[0])
    assert refit.converged


def test_many_responses_are_fitted_one_by_one_or_rotated() -> None:
    rng = np.random.default_rng(8)
    n = 80
    K = relationship(n, 4)
    data = pd.DataFrame({"x": rng.normal(size=n), "g": [f"g{i}" for i in range(n)]})
    Y = rng.multivariate_normal(np.zeros(n), K, size=5).T + rng.normal(size=(n, 5))
    Y[3, 4] = np.nan
    given = {"g": pd.DataFrame(K, data.g, data.g)}
    found = fit_many("~ x + (1 | g)", data, Y, relationship=given)
    for j in range(5):
        own = data.assign(y=Y[:, j])
        fit = lmer("y ~ x + (1 | g)", own, relationship=given)
        np.testing.assert_allclose(found.theta[j], fit.theta, atol=1e-5)
        np.testing.assert_allclose(found.beta[j], fit.estimates.beta, atol=1e-6)
        assert found.objective[j] == pytest.approx(fit.objective, abs=1e-7)
        df = np.ravel(fit.t_test("x").df_denom)[0]
        assert np.ravel(found.df[j])[1] == pytest.approx(df, rel=1e-4)


def test_a_copy_of_a_fit_keeps_the_relationship() -> None:
    case = Case("(1 | animal)")
    fit = lmer(case.formula, case.data, relationship={"animal": case.given})
    other = pickle.loads(pickle.dumps(fit))
    assert other.model.at(fit.theta).objective == pytest.approx(fit.objective, abs=1e-9)
    small = fit.update(". ~ . - x")
    assert small.design.terms[0].relation is not None
    plain = fit.update(". ~ . - (1 | animal) + (1 | item)")
    assert plain.design.terms[0].relation is None


# ---- generalized models --------------------------------------------------------------------------


def _laplace(
    y: np.ndarray, X: np.ndarray, terms: list[Term], T: list[np.ndarray], beta: np.ndarray
) -> float:
    """Deviance of a Poisson model by Laplace's approximation: b = (I x T) c, c ~ N(0, K x I)."""
    from scipy.linalg import block_diag
    from scipy.special import gammaln

    parts = list(zip(terms, T, strict=True))
    ZL = np.hstack([term.matrix() @ np.kron(np.eye(len(term.K)), t) for term, t in parts])
    Q = block_diag(*(np.kron(np.linalg.inv(term.K), np.eye(len(t))) for term, t in parts))
    c = np.zeros(len(Q))
    for _ in range(100):
        mu = np.exp(X @ beta + ZL @ c)
        c = c + np.linalg.solve(ZL.T @ (mu[:, None] * ZL) + Q, ZL.T @ (y - mu) - Q @ c)
    eta = X @ beta + ZL @ c
    mu = np.exp(eta)
    value = -2 * (y @ eta - mu.sum() - gammaln(y + 1).sum()) + c @ Q @ c
    M = ZL.T @ (mu[:, None] * ZL) + Q
    return float(value + np.linalg.slogdet(M)[1] - np.linalg.slogdet(Q)[1])


@pytest.mark.parametrize("formula", FORMULAS[:4])
@stored
def test_generalized_models(formula: str, storage: str) -> None:
    case = Case(formula)
    rng = np.random.default_rng(1)
    case.data["y"] = rng.poisson(np.exp(0.3 * case.data.y.clip(-3, 5)))
    given = {"animal": case.given}
    fit = glmer(case.formula, case.data, "poisson", relationship=given, storage=storage)
    assert fit.converged
    y = case.data.y.to_numpy()

    def deviance(T: list[np.ndarray], beta: np.ndarray) -> float:
        return _laplace(y, case.X, case.terms, T, beta)

    T, beta = list(fit.estimates.T), fit.estimates.beta
    assert fit.objective == pytest.approx(deviance(T, beta), abs=1e-6)
    for move in 1e-4 * np.eye(2):
        slope = (deviance(T, beta + move) - deviance(T, beta - move)) / 2e-4
        assert abs(slope) < 1e-3
    psi = fit.estimates.psi.copy()
    psi[: len(fit.theta)] += 0.1
    value, gradient = fit.model.objective(psi, gradient=True)
    for i in range(len(psi)):
        move = 1e-5 * np.eye(len(psi))[i]
        near = fit.model.objective(psi + move), fit.model.objective(psi - move)
        assert gradient[i] == pytest.approx((near[0] - near[1]) / 2e-5, abs=1e-4 * abs(value))


# ---- what is refused -----------------------------------------------------------------------------


def _fit(K: Any, **data: Any) -> Any:
    rng = np.random.default_rng(0)
    table = {"y": rng.normal(size=12), "g": list("abcd") * 3} | data
    return lmer("y ~ 1 + (1 | g)", pd.DataFrame(table), relationship={"g": K})


@pytest.mark.parametrize(
    ("K", "words"),
    [
        (np.ones((3, 4)), r"shape \(3, 4\)"),
        (np.eye(3), "3 rows, and the data have 4 levels"),
        (np.triu(np.ones((4, 4))), "not symmetric"),
        (np.full((4, 4), np.nan), "not finite"),
        (np.eye(4) - 0.5, "not positive semidefinite: its smallest eigenvalue is -1"),
        (np.ones((4, 4)), "singular"),
        (Precision(np.ones((4, 4))), "not positive definite"),
        (Precision(-np.eye(4)), "diagonal that is not positive"),
        (Relationship(np.eye(3), list("abc")), "lacks levels that the data have: d"),
        ("K", "matrix of numbers"),
    ],
)
def test_matrices_that_cannot_be_used(K: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        _fit(K)


def test_neighbours() -> None:
    W = np.eye(4, k=1) + np.eye(4, k=-1)
    K = np.linalg.inv(np.diag(W.sum(axis=0)) - 0.8 * W)
    wanted = _fit(K)
    assert _fit(Adjacency(W, 0.8)).objective == pytest.approx(wanted.objective, abs=1e-9)
    for given, words in (
        ((W, 1.0), "rho must be between"),
        ((-W, 0.5), "no negative entries"),
        ((np.zeros((4, 4)), 0.5, "abcd"), "'a' has no neighbours"),
    ):
        with pytest.raises(DataError, match=words):
            Adjacency(*given)


def test_labels_are_matched_by_name() -> None:
    K = relationship(4, 1)
    order = [2, 0, 3, 1]
    names = np.array(list("abcd"))
    labelled = pd.DataFrame(K[np.ix_(order, order)], names[order], names[order])
    assert _fit(labelled).objective == pytest.approx(_fit(K).objective, abs=1e-9)
    numbers = [str(i) for i in range(4)]
    text = _fit(Relationship(K, numbers), g=list(range(4)) * 3)
    assert text.objective == pytest.approx(_fit(K).objective, abs=1e-9)
    with pytest.raises(DataError, match="there twice"):
        Relationship(K, list("abca"))
    with pytest.raises(DataError, match="no grouping factor of the model"):
        lmer("y ~ 1 + (1 | g)", {"y": [1.0, 2, 3], "g": list("aab")}, relationship={"h": K})


def test_what_takes_levels_as_independent_is_refused() -> None:
    case = Case("(1 | animal)")
    fit = lmer(case.formula, case.data, relationship={"animal": case.given})
    from lmmfast import extend, rlr_test

    with pytest.raises(FitError, match="independent"):
        rlr_test(fit, n=10, seed=1)
    with pytest.raises(FitError, match="independent"):
        fit.influence("animal")
    with pytest.raises(FitError, match="independent"):
        extend(fit, along="animal", to=50)
    with pytest.raises(FitError, match="independent"):
        fit.bootstrap(5, kind="residual", seed=1)
    with pytest.raises(FitError, match="independent"):
        lmer(case.formula, case.data, relationship={"animal": case.given}, storage="iterative")
    with pytest.raises(FitError, match="different variances"):
        fit.predict(case.data, re_form="none", interval="prediction", vary_left_out=True)
    with pytest.raises(FitError, match="independent"):
        glmer("x > 0 ~ 1 + (1 | animal)", case.data, relationship={"animal": case.given}, nagq=5)


def test_a_dense_matrix_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy import sparse

    import lmmfast.data.relationship as own

    monkeypatch.setattr(own, "available", lambda: 1e6)
    monkeypatch.setattr(own, "BYTES", 1e6)
    block = sparse.csr_matrix(np.full((20, 20), 0.5) + 0.5 * np.eye(20))
    with pytest.raises(MemoryError, match="block of 20 that are all related"):
        Relationship(block).precision()
    families = sparse.block_diag([block[:4][:, :4]] * 5)
    assert Relationship(families).precision().matrix.nnz == 5 * 16


def test_plans_and_simulations_know_the_relationship() -> None:
    case = Case("(1 | animal)", sparse=True)
    given = {"animal": case.given}
    planned = plan(case.formula, case.data, relationship=given)
    assert planned.order == ANIMALS
    params = {"beta": [0, 0], "sd": {"animal": [2]}, "sigma": 1}
    drawn = simulate("~ x + (1 | animal)", case.data, params, 3000, seed=1, relationship=given)
    term = case.terms[0]
    V = np.eye(N) + 4 * term.matrix() @ term.K @ term.matrix().T
    assert np.abs(np.cov(drawn.to_numpy()) - V).max() < 6 * V.max() / np.sqrt(3000)
