"""Satterthwaite's degrees of freedom against lmerTest's results and against the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import close, covering
from dense import Problem
from reference_data import reference, reference_names
from structures import STRUCTURES
from test_kernels import both, either, largest, thetas
from test_reference import NOT_IDENTIFIED, Case, fit_reference

import lmmfast
from lmmfast import LMM
from lmmfast.engine import point
from lmmfast.inference.intervals.variance_errors import covariance_parameters
from lmmfast.inference.satterthwaite import Satterthwaite, joint_df

# relative; lmerTest differentiates numerically, at an optimum known to 1e-7 (test_definition shows
# that ours are good to 1e-8)
REFERENCE = 1e-5
JOINT = 1e-5  # the same for joint tests in models with ties among the variances of the contrasts
DENSE = 1e-8  # relative, of projections
DEFINITION = 1e-8  # relative, of degrees of freedom at an exact optimum

with_reference = [name for name in reference_names() if "satterthwaite" in reference(name)]


# ---- projections ---------------------------------------------------------------------------------


@either
@pytest.mark.filterwarnings("ignore::lmmfast.IdentifiabilityWarning")
def test_projection(name: str, reml: bool) -> None:
    """Z'V^-1 X (X'V^-1 X)^-1 and Z'P y in dense algebra, at random and singular points."""
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays)
    for theta in thetas(problem)[1:]:
        G, g = model.projection(theta, reml=reml)
        same_projection(problem, theta, G, g)


def same_projection(problem: Problem, theta: np.ndarray, G: Any, g: Any) -> None:
    V, C, beta, _ = problem._fixed(theta)
    VX = np.linalg.solve(V, problem.X)
    Py = np.linalg.solve(V, problem.response() - problem.X @ beta)
    for term, own_G, own_g in zip(problem.terms, G, g, strict=True):
        Z = term.matrix()
        wanted = np.linalg.solve(C, VX.T @ Z).T.reshape(own_G.shape)
        close(own_G, wanted, largest(wanted), DENSE)
        wanted = (Z.T @ Py).reshape(own_g.shape)
        close(own_g, wanted, largest(wanted), DENSE)


def test_projection_after_a_fit_and_a_refit() -> None:
    """The state that a fit leaves is used, that of another response is not."""
    problem, _ = STRUCTURES["nested-shared-terms-weighted"]
    model = LMM.from_arrays(*problem.arrays)
    fit = model.fit()
    same_projection(problem, fit.theta, *model.projection(fit.theta))
    model.refit(fit, problem.y[::-1])
    same_projection(problem, fit.theta, *model.projection(fit.theta))
    same_projection(problem, fit.theta, *model.projection(fit.theta, reml=False))


def test_projection_with_dropped_columns() -> None:
    """Zero for dropped columns of X and of Z, the others as without them."""
    problem, _ = STRUCTURES["nested-2-1"]
    first, second = problem.terms
    X = np.column_stack([problem.X, problem.X.sum(axis=1)])
    z = np.column_stack([first.z, first.z[:, 1] * 2])
    with pytest.warns(lmmfast.RankDeficientWarning):
        model = LMM.from_arrays(problem.y, X, [(first.codes, z), (second.codes, second.z)])
    theta = np.random.default_rng(1).normal(size=problem.ntheta)
    G, g = model.projection(theta)
    assert not G[0][:, :, 2].any() and not G[0][:, 2].any() and not g[0][:, 2].any()
    same_projection(problem, theta, [G[0][:, :2, :2], G[1][:, :, :2]], [g[0][:, :2], g[1]])
    with pytest.raises(ValueError, match="theta"):
        model.projection(theta[1:])


# ---- references ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=with_reference)
def tested(request: pytest.FixtureRequest) -> tuple[Case, Satterthwaite]:
    case = fit_reference(request.param)
    return case, Satterthwaite(case.fit)


def test_coefficients(tested: tuple[Case, Satterthwaite]) -> None:
    case, own = tested
    wanted = np.atleast_1d(case.wanted["satterthwaite"]["df"])
    df = own.df(np.eye(len(case.fit.design.x_names)))
    kept = case.fit.estimates.fixed_kept
    close(df[kept], wanted, wanted, REFERENCE)
    assert np.isnan(df[~kept]).all()


def test_joint_tests(tested: tuple[Case, Satterthwaite]) -> None:
    """Type I tests: a term's rows of D'X'X = lower triangular, D upper triangular."""
    case, own = tested
    if "anova_typeI_satterthwaite" not in case.wanted or not case.fit.estimates.fixed_kept.all():
        pytest.skip("no such test")
    names = case.fit.design.x_names
    L = np.linalg.cholesky(case.fit.design.X.T @ case.fit.design.X)
    L = (L / L.diagonal()).T
    labels = [":".join(part.split("[")[0] for part in name.split(":")) for name in names]
    wanted = case.wanted["anova_typeI_satterthwaite"]
    rows = zip(
        *(np.atleast_1d(wanted[key]) for key in ("rows", "F value", "NumDF", "DenDF")), strict=True
    )
    order = [label for label in dict.fromkeys(labels) if label != "Intercept"]
    for label, (_, *numbers) in zip(order, rows, strict=True):
        mine = [j for j, one in enumerate(labels) if one == label]
        close(own.f(L[mine]), numbers, np.abs(numbers), JOINT)


def lme4s_order(case: Case) -> list[int]:
    """Places in (theta, sigma) of lme4's parameters: its terms go by their number of levels."""
    blocks: dict[tuple[str, int], list[list[int]]] = {}
    at = 0
    for term in case.fit.design.terms:
        k = len(term.columns)
        sizes = [1] * k if term.structure == "diag" else [k]
        for size in sizes:
            count = size * (size + 1) // 2
            known = blocks.setdefault((case.r_group(term.group), size), [])
            known.append(list(range(at, at + count)))
            at += count
    theirs = [(term["group"], len(term["columns"])) for term in case.wanted["terms"]]
    return [place for key in theirs for place in blocks[key].pop(0)] + [at]


def test_covariance_of_parameters(tested: tuple[Case, Satterthwaite]) -> None:
    """(theta, sigma): lmerTest's, where all of it is inside the boundary."""
    case, _ = tested
    if case.fit.is_singular or case.name in NOT_IDENTIFIED:
        pytest.skip("not identified, or at the boundary")
    order = lme4s_order(case)
    found = covariance_parameters(case.fit).vcov[np.ix_(order, order)]
    wanted = np.array(case.wanted["satterthwaite_vcov_varpar"])
    se = np.sqrt(wanted.diagonal())
    close(found, wanted, np.outer(se, se), 1e-4)


# ---- the definition ------------------------------------------------------------------------------


def criterion_slope(problem: Problem, point: np.ndarray, reml: bool) -> np.ndarray:
    """Gradient of the criterion in (theta, sigma), sigma not profiled, by complex steps."""

    def criterion(theta: np.ndarray, sigma: Any) -> Any:
        nu = problem.degrees(reml)
        r2 = problem._fixed(theta)[3]
        logdets = problem.objective(theta, reml) - nu * (1 + np.log(2 * np.pi * r2 / nu))
        return logdets + nu * np.log(2 * np.pi * sigma**2) + r2 / sigma**2

    return slope(lambda at: criterion(at[:-1], at[-1]), point)


def slope(function: Any, point: np.ndarray) -> np.ndarray:
    steps = 1e-30j * np.eye(len(point))
    return np.array([np.imag(function(point + step)) / 1e-30 for step in steps])


def definition(problem: Problem, fit: lmmfast.LMMFit, L: np.ndarray) -> tuple[np.ndarray, Any]:
    """Degrees of freedom and the covariance of (theta, sigma), from n x n matrices."""
    point = np.append(fit.theta, fit.estimates.sigma)
    free = np.flatnonzero(point)
    L = L if L.shape[1] else L[:0]
    H = np.empty((len(free), len(free)))
    for i, j in enumerate(free):
        step = np.zeros(len(point))
        step[j] = 1e-3 * max(1.0, abs(point[j]))
        H[i] = sum(
            weight * criterion_slope(problem, point + place * step, fit.reml)[free]
            for place, weight in ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))
        )
        H[i] /= step[j]
    covariance = 2 * np.linalg.inv((H + H.T) / 2)
    df = []
    for row in L:

        def variance(at: np.ndarray, row: np.ndarray = row) -> Any:
            return at[-1] ** 2 * (row @ np.linalg.solve(problem._fixed(at[:-1])[1], row))

        v, g = variance(point), slope(variance, point)[free]
        df.append(2 * v**2 / (g @ covariance @ g))
    return np.array(df), (free, covariance)


SMALL = [
    *("single-1-full", "single-3-diag", "single-4-full", "designed-1-1", "sparse-1-1"),
    *("nested-2-1", "no-fixed", "no-fixed-weighted"),
]


@pytest.mark.parametrize(
    ("name", "reml"), covering((name, reml) for name in SMALL for reml in (True, False))
)
@pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")
def test_definition(name: str, reml: bool) -> None:
    """Degrees of freedom and covariances of parameters at the optimum, singular or not."""
    problem, _ = STRUCTURES[name]
    fit = LMM.from_arrays(*problem.arrays).fit(reml=reml)
    L = np.random.default_rng(2).normal(size=(2, problem.X.shape[1]))
    own = Satterthwaite(fit)
    wanted, (free, covariance) = definition(problem, fit, L)
    # the definition is not profiled: the two differ by as much as the fit is off the optimum
    tolerance = DEFINITION + 3 * np.sqrt(max(fit.certificate, 0))
    if problem.X.shape[1]:
        close(own.df(L), wanted, wanted, tolerance)
    found = covariance_parameters(fit).vcov[np.ix_(free, free)]
    se = np.sqrt(covariance.diagonal())
    close(found, covariance, np.outer(se, se), tolerance)


@both
@pytest.mark.parametrize(
    "name",
    [
        *("two-terms", "three-terms", "single-8-diag", "single-4-full", "no-fixed"),
        *("designed-3-4", "designed-diag", "designed-four", "sparse-2-3", "sparse-3-5"),
        *("nested-four", "nested-three-crossed", "sparse-five-weighted", "identical"),
    ],
)
@pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")
def test_both_ways_to_the_curvature(name: str, reml: bool) -> None:
    """Analytic second derivatives and differences of the gradient, wherever both can be had."""
    problem, _ = STRUCTURES[name]
    own = Satterthwaite(LMM.from_arrays(*problem.arrays).fit(reml=reml))
    wanted = own._analytic_hessian()
    size = np.sqrt(np.abs(wanted.diagonal()))
    close(own._numerical_hessian(), wanted, np.outer(size, size), 3e-6)


def test_without_memory_for_the_analytic_way(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, _ = STRUCTURES["designed-3-4"]
    fit = LMM.from_arrays(*problem.arrays).fit()
    wanted = Satterthwaite(fit).df(np.eye(2))
    monkeypatch.setattr(point, "SMALL", 0.0)
    monkeypatch.setattr(point, "memory_limit", lambda: 1e4)
    fit = LMM.from_arrays(*problem.arrays).fit()
    with pytest.raises(MemoryError, match="columns that are left"):
        Satterthwaite(fit)._analytic_hessian()
    close(Satterthwaite(fit).df(np.eye(2)), wanted, wanted, 1e-6)


def test_standard_errors() -> None:
    """Of standard deviations and correlations: the delta method by complex steps."""
    problem, _ = STRUCTURES["nested-1-3"]
    fit = LMM.from_arrays(*problem.arrays).fit()
    assert not fit.is_singular
    own = covariance_parameters(fit)
    point = np.append(fit.theta, fit.estimates.sigma)

    def covariances(at: np.ndarray) -> list[np.ndarray]:
        return [at[-1] ** 2 * T @ T.T for _, T in problem.factors(at[:-1])]

    for i, S in enumerate(covariances(point)):
        sd = np.sqrt(S.diagonal())
        close(own.sd[i], sd, sd, 1e-12)
        close(own.corr[i], S / np.outer(sd, sd), 1, 1e-12)
        for r in range(len(S)):
            g = slope(lambda at, i=i, r=r: np.sqrt(covariances(at)[i][r, r]), point)
            assert own.sd_se[i][r] == pytest.approx(np.sqrt(g @ own.vcov @ g), rel=1e-9)
            for c in range(r):

                def correlation(at: np.ndarray, i: int = i, r: int = r, c: int = c) -> Any:
                    S = covariances(at)[i]
                    return S[r, c] / np.sqrt(S[r, r] * S[c, c])

                g = slope(correlation, point)
                assert own.corr_se[i][r, c] == pytest.approx(np.sqrt(g @ own.vcov @ g), rel=1e-9)
    assert np.isnan(own.corr_se[0].diagonal()).all()
    assert own.sigma_se == pytest.approx(np.sqrt(own.vcov[-1, -1]), rel=1e-12)


def test_standard_errors_at_the_boundary() -> None:
    """None for a standard deviation of zero and a correlation of one; the others stay."""
    case = fit_reference("gb12__zcp_reml")
    own = covariance_parameters(case.fit)
    sd, se = np.concatenate(own.sd), np.concatenate(own.sd_se)
    assert (sd == 0).any() and (np.isnan(se) == (sd == 0)).all()
    assert np.isfinite(own.sigma_se)


# ---- behaviour -----------------------------------------------------------------------------------


def test_contrasts_as_in_lmertest() -> None:
    """lmerTest's contestMD for rows that are not orthogonal: cbpp, weights, ML; Machines."""
    own = Satterthwaite(fit_reference("cbpp__propw_ml").fit)
    assert own.f(np.eye(4)[1:]) == pytest.approx((6.09896554358, 3, 37.83918704657), rel=1e-6)
    own = Satterthwaite(fit_reference("Machines_unb__nested_reml").fit)
    assert own.f(np.eye(3)[1:]) == pytest.approx((19.96529375998, 2, 10.11198713833), rel=1e-6)
    assert own.f_df(np.eye(3)[[1, 2, 2]]) == own.f(np.eye(3)[[1, 2, 2]])[2]


def test_refit_of_another_response() -> None:
    """Refits share the model of the first response, but not its degrees of freedom."""
    problem, _ = STRUCTURES["designed-2-1"]
    model = LMM.from_arrays(*problem.arrays)
    y = problem.y + 2 * np.random.default_rng(5).normal(size=len(problem.y))
    again = model.refit(model.fit(), y)
    own = LMM.from_arrays(y, *problem.arrays[1:]).fit()
    assert Satterthwaite(again).df(np.eye(2)) == pytest.approx(
        Satterthwaite(own).df(np.eye(2)), rel=1e-5
    )


def test_joint_tests_of_two_degrees_of_freedom() -> None:
    """Two have no expectation, as fewer; a little more have one."""
    assert joint_df(np.array([2.0, 5.0])) == joint_df(np.array([1.5, 5.0])) == 2
    assert joint_df(np.array([2.0, 2.0])) == 2
    assert 2 < joint_df(np.array([2.001, 5.0])) < 2.01


def test_second_derivatives_after_a_refit() -> None:
    """They are of the fit's response, not of the one that its model was filled with last."""
    problem, _ = STRUCTURES["designed-2-1"]
    fit = LMM.from_arrays(*problem.arrays).fit()
    wanted = fit.vcov_theta().to_numpy()
    again = LMM.from_arrays(*problem.arrays).at(fit.theta)
    again.refit(problem.y + 2 * np.random.default_rng(5).normal(size=len(problem.y)))
    close(again.vcov_theta().to_numpy(), wanted, largest(wanted), 1e-6)


def test_missing_results() -> None:
    """Dropped columns and zero contrasts give NaN, other contrasts ignore dropped columns."""
    problem, _ = STRUCTURES["nested-2-1"]
    X = np.column_stack([problem.X, problem.X.sum(axis=1)])
    with pytest.warns(lmmfast.RankDeficientWarning):
        model = LMM.from_arrays(problem.y, X, [(t.codes, t.z) for t in problem.terms])
    own = Satterthwaite(model.fit())
    full = Satterthwaite(LMM.from_arrays(*problem.arrays).fit())
    df = own.df(np.vstack([np.eye(3), np.zeros(3)]))
    assert np.isnan(df[2:]).all()
    close(df[:2], full.df(np.eye(2)), df[:2], 1e-5)
    assert np.isnan(own.f(np.eye(3))[::2]).all()
    assert np.isnan(own.f(np.zeros((1, 3)))[::2]).all()
    assert own.f(np.eye(3)[:2]) == pytest.approx(full.f(np.eye(2)), rel=1e-5)
    with pytest.raises(ValueError, match="3 columns"):
        own.df(np.eye(2))


def test_units_and_coding() -> None:
    """Other units and origins of the columns: the same degrees of freedom, never above n - p."""
    problem, _ = STRUCTURES["designed-3-4"]
    terms = [(t.codes, t.z) for t in problem.terms]
    change = np.array([[1.0, 20.0], [0.0, 1e-2]])
    moved = [
        (c, z @ (np.eye(z.shape[1]) + np.triu(np.full(z.shape[1], 100.0), 1))) for c, z in terms
    ]
    one = Satterthwaite(LMM.from_arrays(problem.y, problem.X, terms).fit())
    two = Satterthwaite(LMM.from_arrays(problem.y, problem.X @ change, moved).fit())
    L = np.array([[0.3, 1.0], [1.0, 0.0]])
    assert two.df(L @ change) == pytest.approx(one.df(L), rel=1e-5)
    assert (one.df(L) <= one.nu).all()


def test_small_degrees_of_freedom() -> None:
    """A contrast with df <= 2 makes the joint denominator 2, as in lmerTest."""
    from lmmfast.inference.satterthwaite import joint_df

    assert joint_df(np.array([7.0])) == 7
    assert joint_df(np.array([7.0, 7.0 + 1e-10])) == pytest.approx(7)
    assert joint_df(np.array([1.5, 30.0])) == 2
    assert joint_df(np.array([4.0, 8.0])) == pytest.approx(2 * (2 + 4 / 3) / (2 + 4 / 3 - 2))
