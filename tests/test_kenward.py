"""Kenward-Roger against pbkrtest's results and against its definition in n x n matrices."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from conftest import close, seldom
from dense import Problem
from reference_data import reference, reference_names
from scipy import stats
from structures import MORE_WIDTHS, STRUCTURES
from test_kernels import estimates_at, thetas
from test_reference import fit_reference

import lmmfast
from lmmfast import LMM, lmer
from lmmfast.engine import point
from lmmfast.inference.kenward import KenwardRoger
from lmmfast.inference.satterthwaite import Satterthwaite

REFERENCE = 1e-6  # relative; pbkrtest at lme4's optimum, which is known to about 1e-7
DENSE = 1e-8  # relative

with_reference = [name for name in reference_names() if "kenward_roger" in reference(name)]


@pytest.fixture(scope="module", params=with_reference)
def tested(request: pytest.FixtureRequest) -> tuple[Any, KenwardRoger]:
    case = fit_reference(request.param)
    return case, KenwardRoger(case.fit)


def test_coefficients(tested: tuple[Any, KenwardRoger]) -> None:
    """Adjusted covariance and degrees of freedom of every coefficient."""
    case, own = tested
    kept = case.fit.estimates.fixed_kept
    wanted = np.atleast_2d(np.array(case.wanted["vcov_kenward_roger"], float))
    se = np.sqrt(wanted.diagonal())
    close(own.vcov[np.ix_(kept, kept)], wanted, np.outer(se, se), REFERENCE)
    assert np.isnan(own.vcov[~kept]).all()
    df = np.atleast_1d(case.wanted["kenward_roger"]["df"])
    close(own.df(np.eye(len(kept)))[kept], df, df, REFERENCE)


def test_joint_tests(tested: tuple[Any, KenwardRoger]) -> None:
    """Type III tests of models without interactions: all columns of a variable."""
    case, own = tested
    names = case.fit.design.x_names
    if any(":" in name for name in names) or not case.fit.estimates.fixed_kept.all():
        pytest.skip("needs R's estimable functions")
    wanted = case.wanted["anova_typeIII_kenward_roger"]
    rows = zip(
        *(np.atleast_1d(wanted[key]) for key in ("rows", "F value", "NumDF", "DenDF")), strict=True
    )
    for row, *numbers in rows:
        label = str(row).replace(" ", "")
        mine = [j for j, name in enumerate(names) if name.split("[")[0].replace(" ", "") == label]
        assert len(mine) == numbers[1]
        close(own.f(np.eye(len(names))[mine]), numbers, np.abs(numbers), 10 * REFERENCE)
        test = case.fit.f_test(np.eye(len(names))[mine], ddf="kenward-roger")
        found = [test.fvalue, test.df_num, test.df_denom]
        close(found, numbers, np.abs(numbers), 10 * REFERENCE)


def test_crossed_factors() -> None:
    """pbkrtest 0.5.2 for a model with 1,790 rows that the references leave out (13 s there)."""
    case = fit_reference("kb07__m6_reml")
    own = KenwardRoger(case.fit)
    df = [51.9505527446, 1666.0447110893, 30.4606141657, 1666.0454573268]
    close(own.df(np.eye(8)[:4]), df, df, REFERENCE)
    se = [78.1475191119, 16.0337666844, 48.2458029011, 16.0337652217]
    close(np.sqrt(own.vcov.diagonal()[:4]), se, se, REFERENCE)
    joint = [14.4033691552, 3, 1666.04492834]
    close(own.f(np.eye(8)[[1, 3, 5]]), joint, joint, REFERENCE)


def test_hypotheses_with_values() -> None:
    """L beta = q of y is L beta = 0 of y less columns of X; the scaling of F is part of both."""
    rng = np.random.default_rng(4)
    n = 60
    x, z, g = rng.normal(size=n), rng.normal(size=n), rng.integers(0, 8, n)
    y = x + rng.normal(size=8)[g] + rng.normal(size=8)[g] * x + rng.normal(size=n)
    data = {"y": y, "less": y - 0.7 * x + 0.4 * z, "x": x, "z": z, "g": g}
    fit, shifted = (lmer(f"{name} ~ x + z + (x + z | g)", data) for name in ("y", "less"))
    found = fit.f_test("x = 0.7, z = -0.4", ddf="kenward-roger")
    wanted = shifted.f_test("x = 0, z = 0", ddf="kenward-roger")
    F, q, df = KenwardRoger(shifted).f(np.eye(3)[1:])
    for test in (found, wanted):
        close([test.fvalue, test.df_num, test.df_denom], [F, q, df], [F, q, df], REFERENCE)
        assert test.pvalue == pytest.approx(stats.f.sf(F, q, df), rel=1e-5)
    beta, cov = shifted.params.to_numpy()[1:], KenwardRoger(shifted).vcov[1:, 1:]
    plain = beta @ np.linalg.solve(cov, beta) / 2
    assert plain > 1.05 * F  # the scaling


# ---- the definition ------------------------------------------------------------------------------


def derivatives(problem: Problem, fit: lmmfast.LMMFit) -> list[np.ndarray]:
    """The derivative of the covariance of y in every variance parameter, n x n."""
    out = []
    for term in problem.terms:
        same = term.codes[:, None] == term.codes
        for r, c in term.free:
            change = np.outer(term.z[:, r], term.z[:, c]) * same
            out.append(change if r == c else change + change.T)
    w = np.ones(fit.nobs) if problem.weights is None else problem.weights
    return [*out, np.diag(1 / w)]


def definition(
    problem: Problem, fit: lmmfast.LMMFit, observed: bool = False
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Adjusted covariance, derivatives of the unadjusted one, W: Halekoh & Højsgaard (2014)."""
    X = problem.X
    G = np.array(derivatives(problem, fit))
    inverse = np.linalg.inv(fit.estimates.sigma**2 * problem.covariance(fit.theta))
    Phi = np.linalg.inv(X.T @ inverse @ X)
    VG = inverse @ G
    VX = inverse @ X
    GVX = G @ VX
    P = -np.einsum("ia,rib->rab", VX, GVX)
    Q = np.einsum("ria,ij,sjb->rsab", GVX, inverse, GVX, optimize=True)
    flat, other = VG.reshape(len(G), -1), VG.swapaxes(1, 2).reshape(len(G), -1)
    information = flat @ other.T - 2 * np.einsum("ab,rsba->rs", Phi, Q)
    PhiP = Phi @ P
    information += np.einsum("rab,sba->rs", PhiP, PhiP)
    if observed:  # half the Hessian of the REML criterion in the variances, times two
        projector = inverse - VX @ Phi @ VX.T
        y = problem.y if problem.offset is None else problem.y - problem.offset
        Gq = G @ projector @ y
        information = 2 * Gq @ projector @ Gq.T - information
    scale = np.sqrt(np.abs(information.diagonal()))
    W = 2 * np.linalg.pinv(information / np.outer(scale, scale), rcond=1e-10, hermitian=True)
    W /= np.outer(scale, scale)
    middle = np.einsum("rs,rsab->ab", W, Q) - np.einsum("rs,rab,sbc->ac", W, P, PhiP)
    middle = (middle + middle.T) / 2
    return Phi + 2 * Phi @ middle @ Phi, [Phi @ p @ Phi for p in P], W


def definition_f(
    L: np.ndarray, fit: lmmfast.LMMFit, adjusted: np.ndarray, slopes: list[np.ndarray], W: Any
) -> tuple[float, int, float]:
    q, Phi, beta = len(L), fit.estimates.vcov, fit.estimates.beta
    Theta = L.T @ np.linalg.solve(L @ Phi @ L.T, L)
    u = np.array([Theta @ slope for slope in slopes])
    traces = np.trace(u, axis1=1, axis2=2)
    A1, A2 = traces @ W @ traces, np.einsum("rs,rab,sba->", W, u, u, optimize=True)
    B = (A1 + 6 * A2) / (2 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    c = np.array([g, q - g, q + 2 - g]) / (3 * q + 2 * (1 - g))
    E, V = 1 / (1 - A2 / q), 2 / q * (1 + c[0] * B) / ((1 - c[1] * B) ** 2 * (1 - c[2] * B))
    rho = V / (2 * E**2)
    df = 4 + (q + 2) / (q * rho - 1)
    wald = (L @ beta) @ np.linalg.solve(L @ adjusted @ L.T, L @ beta) / q
    return df / (E * (df - 2)) * wald, q, df


@pytest.mark.parametrize("name", seldom(STRUCTURES, MORE_WIDTHS))
@pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")
def test_definition(name: str) -> None:
    """At points that are no optimum, singular ones too."""
    problem, _ = STRUCTURES[name]
    model = LMM.from_arrays(*problem.arrays)
    for theta in thetas(problem)[::2]:
        fit = estimates_at(model, theta, True)
        own, p = KenwardRoger(fit), problem.X.shape[1]
        if p == 0:
            assert own.vcov.shape == (0, 0)
            continue
        adjusted, slopes, W = definition(problem, fit)
        se = np.sqrt(adjusted.diagonal())
        close(own.vcov, adjusted, np.outer(se, se), DENSE)
        L = np.random.default_rng(p).normal(size=(min(p, 3), p))
        for rows in (L, *L[:, None]):
            wanted = definition_f(rows, fit, adjusted, slopes, W)
            close(own.f(rows), wanted, np.abs(wanted), 1e3 * DENSE)
        close(own.df(L), [own.f(row)[2] for row in L], own.df(L), 1e-10)


# 153 parameters take as long as all the others
@pytest.mark.parametrize("name", seldom(STRUCTURES, [*MORE_WIDTHS, "single-17-full"]))
@pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")
def test_observed_information(name: str) -> None:
    """At the optimum: the definition with the observed information, or a refusal."""
    problem, _ = STRUCTURES[name]
    fit = LMM.from_arrays(*problem.arrays).fit()
    p = problem.X.shape[1]
    if p == 0:
        return
    own = KenwardRoger(fit, observed=True)
    adjusted, slopes, W = definition(problem, fit, observed=True)
    size = np.abs(W.diagonal())
    lowest = np.linalg.eigvalsh(W / np.sqrt(np.outer(size, size)))[0]
    if lowest < -1e-6:
        with pytest.raises(lmmfast.FitError, match="observed information"):
            _ = own.vcov
        return
    se = np.sqrt(adjusted.diagonal())
    close(own.vcov, adjusted, np.outer(se, se), 1e2 * DENSE)
    L = np.random.default_rng(p).normal(size=(min(p, 3), p))
    for rows in (L, *L[:, None]):
        wanted = definition_f(rows, fit, adjusted, slopes, W)
        close(own.f(rows), wanted, np.abs(wanted), 1e4 * DENSE)


def test_observed_information_is_the_hessian() -> None:
    """Of the REML criterion in the variances themselves, by differences of dense determinants."""
    data = lmmfast.datasets.load("Dyestuff").iloc[:-3]
    fit = lmer("Yield ~ 1 + (1 | Batch)", data)
    y, batch = data["Yield"].to_numpy(float), data["Batch"].to_numpy()
    same, one = (batch[:, None] == batch).astype(float), np.ones((len(y), 1))

    def criterion(between: float, within: float) -> float:
        V = between * same + within * np.eye(len(y))
        inverse = np.linalg.inv(V)
        precision = float((one.T @ inverse @ one).item())
        rest = y - float((one.T @ inverse @ y).item()) / precision
        logs = np.linalg.slogdet(V)[1] + np.log(precision)
        return float(logs + rest @ inverse @ rest)

    at = np.array([fit.scale * fit.theta[0] ** 2, fit.scale])
    h = 1e-3 * at
    H = np.empty((2, 2))
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        u, v = np.eye(2)[i] * h, np.eye(2)[j] * h
        ends = criterion(*(at + u + v)) - criterion(*(at + u - v))
        ends += criterion(*(at - u - v)) - criterion(*(at - u + v))
        H[i, j] = ends / (4 * h[i] * h[j])
    wanted = 2 * np.linalg.inv(H)
    own = KenwardRoger(fit, observed=True)
    close(own._W * fit.scale**2, wanted, np.abs(wanted), 1e-4)
    assert own.df(np.eye(1)) != pytest.approx(KenwardRoger(fit).df(np.eye(1)), rel=1e-4)


def test_balanced_data_have_one_information() -> None:
    """Observed and expected information are the same there; every way to ask for it works."""
    fit = lmer("Reaction ~ Days + (Days | Subject)", lmmfast.datasets.load("sleepstudy"))
    for ddf in ("kenward-roger-observed", "Kenward-Roger (observed)", "kr_observed"):
        assert fit.coef_test(ddf=ddf).df_denom == pytest.approx([17.0, 17.0], rel=1e-6)
    assert "Kenward-Roger (observed information)" in str(fit.summary(ddf="kr-observed"))


def tiny() -> lmmfast.LMMFit:
    problem, _ = STRUCTURES["nested-2-1"]
    return LMM.from_arrays(*problem.arrays).fit()


def test_unidentified_covariances() -> None:
    """Two terms with the same columns: the same model as one of them, and the same tests."""
    problem, _ = STRUCTURES["single-1-full"]
    codes = problem.terms[0].codes
    one = LMM.from_arrays(problem.y, problem.X, [(codes, None)]).fit()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.LmmWarning)
        twins = [(codes, np.ones(len(codes))), (codes.max() - codes, np.ones(len(codes)))]
        two = LMM.from_arrays(problem.y, problem.X, twins).fit()
    assert two.objective == pytest.approx(one.objective, abs=1e-7)
    first, second = KenwardRoger(one), KenwardRoger(two)
    close(second.vcov, first.vcov, np.abs(first.vcov).max(), 1e-6)
    close(second.df(np.eye(2)), first.df(np.eye(2)), first.df(np.eye(2)), 1e-5)


def test_units_and_coding() -> None:
    """Other units, origins and codings of the columns: the same tests."""
    problem, _ = STRUCTURES["designed-3-4"]
    X, terms = problem.X, [(t.codes, t.z) for t in problem.terms]
    change = np.array([[1.0, 2000.0], [0.0, 1e-4]])
    moved = [
        (c, z @ (np.eye(z.shape[1]) + np.triu(np.full(z.shape[1], 100.0), 1))) for c, z in terms
    ]
    one = KenwardRoger(LMM.from_arrays(problem.y, X, terms).fit())
    two = KenwardRoger(LMM.from_arrays(problem.y, X @ change, moved).fit())
    L = np.array([[0.3, 1.0]])
    assert two.df(L @ change) == pytest.approx(one.df(L), rel=1e-5)
    assert two.f(L @ change) == pytest.approx(one.f(L), rel=1e-5)
    assert two.f(np.eye(2)) == pytest.approx(one.f(np.eye(2)), rel=1e-5)


def test_dependent_rows_of_a_hypothesis() -> None:
    own = KenwardRoger(tiny())
    L = np.array([[1.0, 2.0], [0.0, 1.0], [1.0, 0.0]])
    assert own.f(L) == pytest.approx(own.f(np.eye(2)), rel=1e-9)


def test_missing_results() -> None:
    """Dropped columns and zero contrasts give NaN, other contrasts ignore dropped columns."""
    problem, _ = STRUCTURES["nested-2-1"]
    X = np.column_stack([problem.X, problem.X.sum(axis=1)])
    with pytest.warns(lmmfast.RankDeficientWarning):
        model = LMM.from_arrays(problem.y, X, [(t.codes, t.z) for t in problem.terms])
    own, full = KenwardRoger(model.fit()), KenwardRoger(tiny())
    df = own.df(np.vstack([np.eye(3), np.zeros(3)]))
    assert np.isnan(df[2:]).all()
    close(df[:2], full.df(np.eye(2)), 1, 1e-6)
    assert np.isnan(own.f(np.eye(3))[::2]).all()
    assert own.f(np.eye(3)[:2]) == pytest.approx(full.f(np.eye(2)), rel=1e-6)
    with pytest.raises(ValueError, match="3 columns"):
        own.df(np.eye(2))


def test_dropped_random_column() -> None:
    """A dependent random column has no parameter: the model without it, and its tests."""
    problem, _ = STRUCTURES["nested-2-1"]
    first, second = problem.terms
    doubled = np.column_stack([first.z, first.z[:, 1] * 2])
    with pytest.warns(lmmfast.RankDeficientWarning):
        model = LMM.from_arrays(
            problem.y, problem.X, [(first.codes, doubled), (second.codes, second.z)]
        )
    own, full = KenwardRoger(model.fit()), KenwardRoger(tiny())
    close(own.df(np.eye(2)), full.df(np.eye(2)), 1, 1e-6)


def test_only_for_reml() -> None:
    problem, _ = STRUCTURES["nested-2-1"]
    fit = LMM.from_arrays(*problem.arrays).fit(reml=False)
    with pytest.raises(lmmfast.FitError, match="reml=True"):
        KenwardRoger(fit)


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is known before anything large is made."""
    problem, _ = STRUCTURES["sparse-2-3"]
    fit = LMM.from_arrays(*problem.arrays).fit()
    monkeypatch.setattr(point, "SMALL", 0.0)
    monkeypatch.setattr(point, "memory_limit", lambda: 1e4)
    with pytest.raises(MemoryError, match=r"45 columns that are left .* Satterthwaite"):
        KenwardRoger(fit).df(np.eye(2))


# ---- large and sparse ----------------------------------------------------------------------------


def test_a_balanced_chain_with_ten_thousand_classes() -> None:
    """Each stratum of a balanced design has its degrees of freedom, exactly."""
    rng = np.random.default_rng(3)
    schools, per, pupils = 1_000, 10, 4
    classes = schools * per
    klass = np.repeat(np.arange(classes), pupils)
    school = klass // per
    x_school = rng.normal(size=schools)[school]
    x_class = rng.normal(size=(schools, per))
    x_class = (x_class - x_class.mean(axis=1, keepdims=True)).ravel()[klass]
    x_pupil = rng.normal(size=(classes, pupils))
    x_pupil = (x_pupil - x_pupil.mean(axis=1, keepdims=True)).ravel()
    y = rng.normal(size=schools)[school] + rng.normal(size=classes)[klass]
    y += rng.normal(size=len(klass))
    X = np.column_stack([np.ones(len(klass)), x_school, x_class, x_pupil])
    fit = lmmfast.LMM.from_arrays(y, X, [(klass, None), (school, None)]).fit()
    assert fit.model.storage["eliminated"] == 2
    wanted = [schools - 2, schools - 2, classes - schools - 1, len(klass) - classes - 1]
    assert KenwardRoger(fit).df(np.eye(4)) == pytest.approx(wanted, rel=1e-7)


def moves(workers: int, firms: int, storage: str) -> lmmfast.LMMFit:
    """Workers who stay at a firm or move to one nearby."""
    rng = np.random.default_rng(4)
    n = 5 * workers
    worker = np.repeat(np.arange(workers), 5)
    firm = (rng.integers(0, firms, workers)[worker] + (rng.random(n) < 0.15)) % firms
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    y = 0.6 * rng.normal(size=workers)[worker] + 0.3 * rng.normal(size=firms)[firm]
    y += 0.5 * rng.normal(size=n)
    model = lmmfast.LMM.from_arrays(y, X, [(worker, None), (firm, None)], storage=storage)
    return model.at([1.2, 0.6])


def test_sparse_and_dense_trailing_matrices_agree() -> None:
    sparse, dense = (KenwardRoger(moves(4_000, 700, way)) for way in ("sparse", "dense"))
    assert sparse.df(np.eye(2)) == pytest.approx(dense.df(np.eye(2)), rel=1e-9)
    close(sparse.vcov, dense.vcov, np.abs(dense.vcov).max(), 1e-11)


@pytest.mark.slow
def test_a_hundred_thousand_workers_at_ten_thousand_firms() -> None:
    fit = moves(100_000, 10_000, "sparse")
    kenward, satterthwaite = KenwardRoger(fit), Satterthwaite(fit)
    # information of the data on two variances grows with the levels: both are close to normal
    assert kenward.df(np.eye(2)) == pytest.approx(satterthwaite.df(np.eye(2)), rel=0.02)
    ratio = np.diag(kenward.vcov) / np.diag(fit.estimates.vcov)
    assert ((ratio >= 1) & (ratio < 1.001)).all()


def test_an_iterative_model_says_what_it_lacks() -> None:
    rng = np.random.default_rng(5)
    codes = np.arange(400) % 80, rng.integers(0, 30, 400)
    made = [(np.unique(own, return_inverse=True)[1], None) for own in codes]
    model = LMM.from_arrays(rng.normal(size=400), np.ones((400, 1)), made, storage="iterative")
    with pytest.raises(lmmfast.FitError, match=r"Kenward-Roger.* exact factorization.*plan"):
        KenwardRoger(model.at([0.5, 0.5])).df(np.eye(1))
