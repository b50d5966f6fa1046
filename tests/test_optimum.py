"""The minimizer: its certificate, its independence of the start, exact zeros, and how it stops."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from itertools import pairwise, product

import numpy as np
import pandas as pd
import pytest
from dense import Problem, Term
from structures import STRUCTURES, dense_pair, problem

import lmmfast
from lmmfast import LMM, Free, lmer
from lmmfast.engine.starts import random_theta

pytestmark = pytest.mark.filterwarnings("ignore::lmmfast.IdentifiabilityWarning")

CERTIFIED = 1e-9  # deviance units
SAME = 1e-6  # two runs to one optimum, deviance units


def crossed(seed: int = 1) -> Problem:
    """Two crossed factors with three and two columns; both have all their variances."""
    rng = np.random.default_rng(seed)
    return problem(rng, dense_pair(rng, 24, 16), [3, 2])


def flat(columns: int = 1) -> Problem:
    """Group means differ less than chance allows: no variance at all."""
    rng = np.random.default_rng(2)
    codes = np.repeat(np.arange(12), 8)
    x = np.tile(np.linspace(-1, 1, 8), 12)
    z = np.column_stack([x**j for j in range(columns)])
    y = rng.normal(size=96)
    for level in range(12):
        own = codes == level
        y[own] -= z[own] @ np.linalg.lstsq(z[own], y[own], rcond=None)[0]
    return Problem(y + 1, np.ones((96, 1)), [Term(codes, z)])


def line() -> Problem:
    """Intercepts and slopes that are one and the same effect: correlation 1."""
    rng = np.random.default_rng(5)
    codes = np.repeat(np.arange(15), 10)
    z = np.column_stack([np.ones(150), np.tile(np.linspace(-1, 1, 10), 15)])
    y = (1 + 0.5 * z[:, 1]) * rng.normal(size=15)[codes]
    for level in range(15):  # noise without a level's own line
        own = codes == level
        noise = rng.normal(size=10)
        y[own] += noise - z[own] @ np.linalg.lstsq(z[own], noise, rcond=None)[0]
    return Problem(y, z, [Term(codes, z)])


# Certificate and starts ---------------------------------------------------------------------------


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("name", ["single-3-full", "designed-3-4", "sparse-2-3", "nested-three"])
def test_certificate_is_the_newton_decrement(name: str, reml: bool) -> None:
    model = LMM.from_arrays(*STRUCTURES[name][0].arrays)
    fit = model.fit(reml=reml)
    assert fit.converged and fit.estimates.status == "converged"
    assert 0 <= fit.certificate < CERTIFIED
    _, g, H = model.objective(fit.theta, reml=reml, gradient=True, hessian=True)
    free = fit.theta != 0
    left = g[free] @ np.linalg.pinv(H[np.ix_(free, free)], rcond=1e-10, hermitian=True) @ g[free]
    assert abs(left) / 2 < CERTIFIED


@pytest.mark.parametrize("name", ["single-3-full", "designed-3-4", "sparse-2-3", "nested-three"])
def test_no_better_point_nearby(name: str) -> None:
    model = LMM.from_arrays(*STRUCTURES[name][0].arrays)
    fit = model.fit()
    rng = np.random.default_rng(0)
    for size in (1e-4, 1e-2, 0.3):
        for _ in range(10):
            near = fit.theta + size * rng.normal(size=len(fit.theta))
            assert model.objective(near) >= fit.objective - CERTIFIED


STARTS = {
    "crossed": crossed(),
    "singular": STRUCTURES["designed-3-4"][0],
    "flat": flat(2),
    "line": line(),
    "nested": STRUCTURES["nested-three-crossed"][0],
}


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("name", STARTS)
def test_every_start_leads_to_one_optimum(name: str, reml: bool) -> None:
    model = LMM.from_arrays(*STARTS[name].arrays)
    wanted = model.fit(reml=reml).objective
    rng = np.random.default_rng(9)
    starts = [np.zeros(model.ntheta), np.full(model.ntheta, 3.0), np.full(model.ntheta, 1e-6)]
    starts += [rng.normal(size=model.ntheta) * 10.0**size for size in (-3, -2, -1, 0, 0, 1, 2)]
    for start in starts:
        fit = model.fit(start=start, reml=reml)
        assert fit.converged
        assert fit.objective == pytest.approx(wanted, abs=SAME)


def test_saddle_at_zero_is_left() -> None:
    """At zero variance the slope is zero whatever the score: only its sign says where to go."""
    model = LMM.from_arrays(*crossed().arrays)
    zero = np.zeros(model.ntheta)
    at_zero, H = model.objective(zero, hessian=True)
    assert np.linalg.eigvalsh(H)[0] < -1
    fit = model.fit(start=zero)
    assert fit.objective < at_zero - 10
    assert fit.objective == pytest.approx(model.fit().objective, abs=SAME)
    assert not fit.is_singular


def mirrored(seed: int) -> Problem:
    """Each level of a group has a twin with the same response and slopes of the other sign.

    The criterion is the same for a correlation and its negative. Where the slopes' diagonal of T is
    zero and the entry below it has the variance of the intercepts, no change of one entry helps,
    though slopes of their own do.
    """
    rng = np.random.default_rng(seed)
    codes, x = np.repeat(np.arange(12), 10), np.tile(np.linspace(-1, 1, 10), 12)
    effects = rng.normal(size=(12, 2)) * [3.0, 0.35]
    y = effects[codes, 0] + effects[codes, 1] * x + rng.normal(size=120)
    z = np.column_stack([np.concatenate([x, -x]), np.ones(240)])
    return Problem(np.tile(y, 2), np.ones((240, 1)), [Term(np.concatenate([codes, codes + 12]), z)])


def test_saddle_where_the_zero_variance_stands_first() -> None:
    """T = [[0, 0], [a, b]] has no zero column, and a zero variance all the same; in a plane."""
    model = LMM.from_arrays(*mirrored(0).arrays)
    start, whole = [0.1, 1.0, 0.01], Free(np.zeros(3), np.eye(3))
    fit = model.fit(reml=False, start=start, free=whole)
    assert fit.converged
    assert fit.objective == pytest.approx(model.fit(reml=False).objective, abs=1e-8)


@pytest.mark.parametrize("seed", [0, 4, 7])
def test_saddle_of_a_mirrored_design_is_left(seed: int) -> None:
    """Minima in every entry of T that are none in the covariance matrix."""
    model = LMM.from_arrays(*mirrored(seed).arrays)
    wanted = model.fit(reml=False)
    assert not wanted.is_singular
    for start in product((0.1, 0.3), (1.0, 2.0, 3.0), (0.01, 0.3, 1.0)):
        fit = model.fit(start=start, reml=False)
        assert fit.converged
        assert fit.objective == pytest.approx(wanted.objective, abs=SAME)


def test_signs_of_the_start_do_not_matter() -> None:
    model = LMM.from_arrays(*crossed().arrays)
    start = np.array([1.0, 0.2, -0.3, 0.8, 0.1, 1.2, 0.7, 0.4, 0.9])
    one, other = model.fit(start=start), model.fit(start=-start)
    assert one.theta == pytest.approx(other.theta, abs=1e-6)
    for T in one.estimates.T:
        assert (np.diag(T) >= 0).all()


def test_the_first_start_is_the_moment_estimate() -> None:
    """One way, equal groups: mean squares between and within groups have known expectations."""
    rng = np.random.default_rng(12)
    m, each = 20, 6
    for share in (0.05, 0.3, 0.6):
        group = rng.normal(size=m)
        y = np.sqrt(share) * np.repeat(group, each) + np.sqrt(1 - share) * rng.normal(size=m * each)
        groups = y.reshape(m, each)
        between, within = each * groups.mean(axis=1).var(ddof=1), groups.var(axis=1, ddof=1).mean()
        variance = (between - within) / each / within  # over that of the residuals
        fit = at_the_start(
            Problem(
                y,
                np.ones((m * each, 1)),
                [Term(np.arange(m * each) // each, np.ones((m * each, 1)))],
            )
        )
        assert fit.theta == pytest.approx([max(np.sqrt(max(variance, 0)), 0.03)], rel=1e-7)


def at_the_start(made: Problem) -> lmmfast.LMMFit:
    """A fit of one evaluation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.ConvergenceWarning)
        return LMM.from_arrays(*made.arrays).fit(max_evals=1)


# Most evaluations of a fit, and of one from zero, a longer way. About a third above what they are.
EVALUATIONS = {
    "single-3-full": (13, 20),
    "single-8-full": (18, 28),
    "designed-1-3": (11, 15),
    "designed-2-1": (9, 14),
    "designed-8-2": (28, 40),
    "nested-2-1": (9, 15),
    "nested-several": (11, 16),
    "nested-shared-terms": (30, 57),
    "nested-three-crossed": (15, 23),
}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_number_of_evaluations_is_bounded(name: str) -> None:
    model = LMM.from_arrays(*STRUCTURES[name][0].arrays)
    few, more = EVALUATIONS[name]
    assert model.fit().n_evals <= few
    assert model.fit(start=np.zeros(model.ntheta)).n_evals <= more


# Exact zeros --------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
def test_no_variance_is_exactly_zero(columns: int, reml: bool) -> None:
    fit = LMM.from_arrays(*flat(columns).arrays).fit(reml=reml)
    assert fit.converged and fit.is_singular
    assert (fit.theta == 0).all()
    assert (fit.estimates.b[0] == 0).all()
    assert fit.estimates.singular[0].zero == tuple(range(columns))


@pytest.mark.parametrize("columns", [1, 2])
def test_zeros_of_many_rows_promise_nothing(columns: int) -> None:
    """The slope at the floor grows with the rows; what it predicts is not available."""
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(4000), 5)
    z = np.column_stack([np.ones(20_000), np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], 4000)])[:, :columns]
    y = rng.normal(size=(4000, 5))
    for column in z[:5].T:  # less than chance allows between the groups
        y -= 0.9 * np.outer(y @ column, column) / (column @ column)
    for start in (None, np.zeros(columns * (columns + 1) // 2)):
        fit = LMM.from_arrays(y.ravel(), np.ones((20_000, 1)), [(codes, z)]).fit(start=start)
        assert fit.converged and (fit.theta == 0).all()
        assert fit.certificate < CERTIFIED


@pytest.mark.parametrize("origin", [0.0, 1 / 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_column_without_variance_has_no_covariance_either(seed: int, origin: float) -> None:
    """Rows mirrored in x have one response: what rounding leaves of the slope is zero."""
    rng = np.random.default_rng(seed)
    order, codes = rng.permutation(96), np.repeat(np.arange(12), 8)
    x = (rng.normal(size=48)[:, None] * [1, -1]).ravel() + origin
    y = np.repeat(rng.normal(size=48), 2) + rng.normal(size=12)[codes]
    z = np.column_stack([np.ones(96), x])[order]
    fit = LMM.from_arrays(y[order], z, [(codes[order], z)]).fit()
    assert fit.converged
    assert fit.theta[0] > 0.3 and not fit.theta[1:].any()


def test_correlation_one_is_an_exact_zero() -> None:
    fit = LMM.from_arrays(*line().arrays).fit()
    (T,) = fit.estimates.T
    assert fit.converged and fit.is_singular
    assert T[1, 1] == 0 and T[0, 0] > 0 and T[1, 0] > 0
    (singular,) = fit.estimates.singular
    assert singular.zero == ()
    assert T.T @ singular.direction == pytest.approx(np.zeros(2), abs=1e-12)


def test_rank_deficit_of_several_has_as_many_zeros() -> None:
    """A term of eight columns of which five vary: three zeros on the diagonal, none of 1e-9."""
    fit = LMM.from_arrays(*STRUCTURES["single-8-full"][0].arrays).fit()
    (T,) = fit.estimates.T
    diagonal = np.diag(T)
    assert np.sum(diagonal == 0) == np.sum(np.linalg.svd(T)[1] < 1e-6)
    assert ((diagonal == 0) | (diagonal > 1e-6)).all()


def test_regular_fit_has_no_zeros() -> None:
    fit = LMM.from_arrays(*crossed().arrays).fit()
    assert not fit.is_singular
    assert all((np.diag(T) > 0.1).all() for T in fit.estimates.T)


# Certificates hold --------------------------------------------------------------------------------


def small_design(seed: int) -> Problem:
    """At most 40 rows, one to three terms of random size, of which some may fit y exactly."""
    rng = np.random.default_rng(seed)
    n, p = int(rng.integers(8, 40)), int(rng.integers(0, 4))
    terms = []
    for _ in range(int(rng.integers(1, 4))):
        m, k = int(rng.integers(2, max(3, n // int(rng.integers(1, 6))))), int(rng.integers(1, 4))
        codes = np.unique(rng.integers(0, m, n), return_inverse=True)[1]
        z = rng.normal(size=(n, k))
        z[:, 0] = 1 if rng.random() < 0.6 else z[:, 0]
        terms.append(Term(codes, z, "diag" if rng.random() < 0.3 else "full"))
    y = rng.normal(size=n)
    for term in terms:
        scale = 10.0 ** rng.uniform(-1, 1, term.z.shape[1])
        y += (term.z * (rng.normal(size=(term.levels, len(scale))) * scale)[term.codes]).sum(axis=1)
    weights = rng.uniform(0.1, 10, n) if rng.random() < 0.3 else None
    return Problem(y, rng.normal(size=(n, p)), terms, weights)


def fits(seeds: Iterable[int]) -> Iterator[tuple[Problem, lmmfast.LMMFit]]:
    for seed in seeds:
        made = small_design(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lmmfast.LmmWarning)
            try:
                yield made, LMM.from_arrays(*made.arrays).fit(reml=bool(seed % 2))
            except lmmfast.LmmError:
                continue


def test_what_is_certified_is_the_criterion() -> None:
    """Random effects that can fit y exactly: right, or not called converged."""
    count = saturated = 0
    for made, fit in fits(range(400)):
        if not fit.converged:
            reasons = ("limited by rounding", "flat direction", "evaluation limit")
            assert fit.estimates.status in reasons
            continue
        exact = made.solve(fit.theta, reml=fit.reml).objective
        assert fit.objective == pytest.approx(exact, abs=1e-4)
        count += 1
        saturated += fit.sigma < 1e-2 * made.y.std()
    assert count > 300 and saturated > 1


def test_an_objective_that_nothing_is_known_of() -> None:
    """Counted in steps of 2 from 2^53: what random slopes leave is rounding, of any size."""
    frame = {"x": np.tile(np.arange(10.0), 18), "g": np.repeat(np.arange(18), 10)}
    frame["y"] = 2.0**53 + 2.0 * np.arange(180)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.ConvergenceWarning)
        try:
            assert not lmmfast.lmer("y ~ x + (x | g)", [frame]).converged
        except lmmfast.FitError as error:  # which is what exact numbers would find
            assert "fit the response exactly" in str(error)


def test_certificates_cover_what_is_left() -> None:
    """Parameters near zero held there, the others minimized: no more is gained than was stated."""
    tried = 0
    for made, fit in fits([*range(400, 700), 4646]):
        if not fit.converged or fit.sigma < 0.01 * made.y.std():
            continue
        near = np.flatnonzero((np.abs(fit.theta) < 3e-3) & (fit.theta != 0))
        for i in near:
            others = np.delete(np.arange(len(fit.theta)), i)
            if not len(others):
                continue
            free = Free(np.zeros(len(fit.theta)), np.eye(len(fit.theta))[:, others])
            held = fit.model.fit(reml=fit.reml, start=fit.theta, free=free)
            assert fit.objective - held.objective < fit.certificate + 1e-8
            tried += 1
    assert tried > 0


def test_near_null_rows_do_not_hide_a_zero() -> None:
    """The middle column hardly varies: the last diagonal of T turns into it, and is zero."""
    found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        codes = np.repeat(np.arange(3), 9)
        z = rng.normal(size=(27, 3))
        b = rng.normal(size=(3, 3)) @ np.diag([0.3, 0.01, 0.7])
        made = Problem(
            rng.normal(size=27) + (z * b[codes]).sum(axis=1), np.ones((27, 1)), [Term(codes, z)]
        )
        fit = LMM.from_arrays(*made.arrays).fit()
        start = fit.theta * (1 + 1e-3 * rng.normal(size=6))
        again = fit.model.fit(start=start)
        if again.objective < fit.objective - 1e-4:
            continue  # another optimum
        assert fit.objective - again.objective < fit.certificate + 1e-9
        found += fit.is_singular and (np.abs(fit.theta[fit.theta != 0]) > 1e-5).all()
    assert found > 30


def test_derivatives_that_are_not_finite() -> None:
    """Their squares overflow: an error in words, no certificate."""
    model = LMM.from_arrays(*flat(2).arrays)
    for theta in ([1e100, 0, 1e100], [1e153, 0, 1e153], [1e-160, 1e160, 0]):
        with pytest.raises(lmmfast.FitError, match="not finite"):
            model.objective(theta, gradient=True, hessian=True)


# Several starts -----------------------------------------------------------------------------------


def two_optima() -> Problem:
    """A likelihood with two optima; the usual start leads to the worse one."""
    return small_design(493)


def test_starts_find_the_same_optimum() -> None:
    model = LMM.from_arrays(*crossed().arrays)
    fit = model.fit(starts=4)
    assert fit.starts is not None and fit.starts.converged.all()
    assert fit.starts.objectives.shape == (5,) and fit.starts.thetas.shape == (5, model.ntheta)
    assert len(fit.starts.optima) == 1 and fit.starts.spread == 0
    assert str(fit.starts) == "5 starts: all reached the same optimum"
    assert "5 starts: all reached the same optimum." in str(fit.summary())
    assert fit.objective == pytest.approx(model.fit().objective, abs=SAME)
    assert fit.n_evals > model.fit().n_evals
    assert model.fit().starts is None


def test_evaluations_of_all_starts_count() -> None:
    seen: list[lmmfast.Evaluation] = []
    fit = LMM.from_arrays(*STRUCTURES["two-terms"][0].arrays).fit(starts=3, callback=seen.append)
    first = [e.n for e in seen].index(1, 1)  # where the second start begins
    assert len(seen) == fit.n_evals
    assert fit.n_evals > 2 * first


def test_random_starts_differ() -> None:
    engine = LMM.from_arrays(*crossed().arrays)._engine
    first, second, again = (random_theta(engine, number) for number in (0, 1, 0))
    assert (first == again).all() and (first != second).all()


def test_starts_find_a_better_optimum() -> None:
    model = LMM.from_arrays(*two_optima().arrays)
    fit = model.fit(starts=20)
    assert fit.starts is not None and len(fit.starts.optima) > 1
    best, *others = fit.starts.optima
    assert fit.objective == pytest.approx(best, abs=SAME)
    assert fit.starts.spread == others[-1] - best > 0.01
    assert fit.objective < model.fit().objective - 0.5
    assert f"{len(others) + 1} optima; the others are" in str(fit.starts)
    for theta, value in zip(fit.starts.thetas, fit.starts.objectives, strict=True):
        assert model.objective(theta, reml=True) == pytest.approx(value, abs=1e-5)
    with pytest.raises(ValueError, match="read-only"):
        fit.starts.thetas[0] = 0


def test_starts_are_always_the_same() -> None:
    one, other = (LMM.from_arrays(*two_optima().arrays).fit(starts=6) for _ in range(2))
    assert one.starts is not None and other.starts is not None
    assert (one.starts.objectives == other.starts.objectives).all()
    assert (one.theta == other.theta).all()


def test_starts_stop_when_the_fit_is_stopped() -> None:
    model = LMM.from_arrays(*crossed().arrays)
    seen: list[object] = []
    fit = model.fit(starts=50, callback=lambda e: seen.append(e) or len(seen) >= 30)
    assert len(seen) == 30
    assert fit.starts is not None and len(fit.starts.objectives) < 50
    assert not fit.starts.converged[-1] and fit.starts.converged[0]
    assert fit.converged  # the best of them is


# Stopping -----------------------------------------------------------------------------------------


def seen(model: LMM, stop: int, **options: object) -> tuple[list, lmmfast.LMMFit]:
    """Evaluations of a fit that the callback stops after so many."""
    found: list = []
    fit = model.fit(callback=lambda e: found.append(e) or len(found) >= stop, **options)
    return found, fit


def check_best_so_far(model: LMM, fit: lmmfast.LMMFit, evaluations: list) -> None:
    assert not fit.converged
    best = min(e.objective for e in evaluations)
    assert evaluations[-1].best == best
    assert fit.objective == pytest.approx(best, rel=1e-12)
    assert model.objective(fit.theta) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_callback_stops_with_the_best_so_far(stop: int) -> None:
    model = LMM.from_arrays(*crossed().arrays)
    evaluations, fit = seen(model, stop)
    assert [e.n for e in evaluations] == list(range(1, stop + 1))
    assert fit.estimates.status == "stopped by callback" and fit.n_evals == stop
    check_best_so_far(model, fit, evaluations)


def test_best_so_far_is_not_the_last() -> None:
    """A step may be rejected: stopping right after it returns the point before."""
    model = LMM.from_arrays(*small_design(8).arrays)
    evaluations, _ = seen(model, 40)
    worse = [e.n for e in evaluations if e.objective > e.best]
    assert worse
    evaluations, fit = seen(model, worse[0])
    assert evaluations[-1].objective > fit.objective
    check_best_so_far(model, fit, evaluations)


def test_callback_sees_every_evaluation() -> None:
    evaluations, fit = seen(LMM.from_arrays(*crossed().arrays), 500)
    assert fit.converged
    assert len(evaluations) == fit.n_evals
    assert np.isnan(evaluations[0].predicted)
    assert all(e.predicted > 0 for e in evaluations[1:])
    assert all(a.best >= b.best for a, b in pairwise(evaluations))
    assert all(a.seconds <= b.seconds for a, b in pairwise(evaluations))


def test_error_in_the_callback_comes_through() -> None:
    model = LMM.from_arrays(*crossed().arrays)
    wanted = model.fit().objective

    def fail(evaluation: lmmfast.Evaluation) -> None:
        if evaluation.n == 3:
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        model.fit(callback=fail)
    assert model.fit().objective == wanted


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_limit_of_evaluations(limit: int) -> None:
    model = LMM.from_arrays(*crossed().arrays)
    evaluations: list = []
    with pytest.warns(lmmfast.ConvergenceWarning, match="evaluation limit"):
        fit = model.fit(max_evals=limit, callback=evaluations.append)
    assert fit.n_evals == len(evaluations) == limit
    assert fit.estimates.status == "evaluation limit"
    check_best_so_far(model, fit, evaluations)


def test_limit_of_time() -> None:
    model = LMM.from_arrays(*crossed().arrays)
    with pytest.warns(lmmfast.ConvergenceWarning, match="out of time"):
        fit = model.fit(max_seconds=0.0)
    assert fit.estimates.status == "out of time" and not fit.converged
    assert fit.n_evals == 1 and np.isfinite(fit.objective)
    assert model.fit(max_seconds=1e6).converged


def test_time_of_set_up_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of set-up leaves one evaluation to a fit of at most a minute."""
    data = lmmfast.datasets.load("sleepstudy")
    clock = time.perf_counter
    late = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + late[0])
    build = lmmfast.api.design_from

    def slow(*args: object) -> object:
        late[0] = 3600.0
        return build(*args)

    monkeypatch.setattr(lmmfast.api, "design_from", slow)
    with pytest.warns(lmmfast.ConvergenceWarning, match="out of time"):
        fit = lmmfast.lmer("Reaction ~ Days + (Days | Subject)", data, max_seconds=60)
    assert fit.n_evals == 1
    assert lmmfast.lmer("Reaction ~ 1 + (1 | Subject)", data, max_seconds=np.inf).converged


def test_verbose_writes_to_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    fit = LMM.from_arrays(*flat().arrays).fit(verbose=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == fit.n_evals


def given_to_lmer(data: object, **options: object) -> lmmfast.LMMFit:
    return lmmfast.lmer("Reaction ~ Days + (Days | Subject)", data, reml=False, **options)


@pytest.mark.parametrize("way", ["in memory", "as chunks"])
def test_lmer_passes_the_options_of_fits_on(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    data: object = lmmfast.datasets.load("sleepstudy")
    data = data if way == "in memory" else [data[:70], data[70:]]
    seen: list[lmmfast.Evaluation] = []
    wanted = given_to_lmer(data)
    assert capsys.readouterr() == ("", "")
    fit = given_to_lmer(data, callback=seen.append, verbose=True)
    assert fit.objective == wanted.objective and fit.n_evals == wanted.n_evals
    assert len(seen) == wanted.n_evals > 2
    shown = capsys.readouterr().err.splitlines()
    assert all(f"{e.objective:.8f}" in line for e, line in zip(seen, shown, strict=True))
    assert given_to_lmer(data, callback=lambda e: e.n == 2).n_evals == 2
    for option in ({"max_evals": 2}, {"max_seconds": 0}):
        with pytest.warns(lmmfast.ConvergenceWarning, match="evaluation limit|out of time"):
            fit = given_to_lmer(data, **option)
        assert fit.n_evals == option.get("max_evals", 1) and not fit.converged
        assert fit.objective > wanted.objective


@pytest.mark.parametrize("theta", [[np.nan], [np.inf]])
def test_theta_that_is_not_a_number(theta: list[float]) -> None:
    model = LMM.from_arrays(*flat().arrays)
    for use in (lambda: model.fit(start=theta), lambda: model.objective(theta)):
        with pytest.raises(ValueError, match="not finite"):
            use()
    assert model.fit().converged


def test_theta_without_a_finite_objective() -> None:
    """An error to evaluate there; as a start it is brought back to where numbers mean something."""
    model = LMM.from_arrays(*flat().arrays)
    with pytest.raises(lmmfast.FitError, match="not finite"):
        model.objective([1e200])
    with pytest.raises(lmmfast.FitError, match="not finite"):
        model.condvar([1e200])
    assert model.fit(start=[1e200]).objective == pytest.approx(model.fit().objective, abs=1e-6)


def test_theta_of_the_wrong_length() -> None:
    model = LMM.from_arrays(*flat().arrays)
    for call in (model.objective, model.condvar, lambda theta: model.fit(start=theta)):
        with pytest.raises(ValueError, match=r"shape \(1,\)"):
            call([0.1, 0.2])


def test_start_far_away() -> None:
    """Rounding hides the slope there, but the optimum is found, and soon."""
    model = LMM.from_arrays(*STRUCTURES["single-1-full"][0].arrays)
    wanted = model.fit().objective
    for start in ([1e3], [1e5], [1e6], [1e8]):
        fit = model.fit(start=start)
        assert fit.converged and fit.n_evals <= 25
        assert fit.objective == pytest.approx(wanted, abs=SAME)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reml": "no"}, TypeError, "reml must be True or False"),
        ({"max_evals": 0}, ValueError, "max_evals must be at least 1"),
        ({"max_evals": 10**12}, ValueError, "max_evals must be at most 1,000,000,000"),
        ({"max_evals": 2.5}, TypeError, "max_evals must be a whole number, not 2.5"),
        ({"max_evals": True}, TypeError, "max_evals must be a whole number, not True"),
        ({"max_seconds": np.nan}, ValueError, "max_seconds must be zero or more seconds, not nan"),
        ({"max_seconds": -1}, ValueError, "max_seconds must be zero or more seconds, not -1"),
        ({"max_seconds": "a"}, TypeError, "max_seconds must be a number of seconds, not 'a'"),
        ({"starts": -1}, ValueError, "starts must be at least 0, not -1"),
        ({"starts": 1.5}, TypeError, "starts must be a whole number, not 1.5"),
        ({"callback": 3}, TypeError, "callback must be a function of an Evaluation, not 3"),
    ],
)
def test_options_that_mean_nothing(
    options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        LMM.from_arrays(*flat().arrays).fit(**options)


@pytest.mark.parametrize("unit", [1e200, 1e-200])
def test_units_beyond_the_range_of_numbers(unit: float) -> None:
    y, X, terms, *_ = flat().arrays
    with pytest.raises(lmmfast.FitError, match="in other units"):
        LMM.from_arrays(y * unit, X, terms).fit()


def test_a_curve_along_which_the_criterion_does_not_change() -> None:
    """Four persons of one sex each: two variances, three parameters."""
    frame = pd.DataFrame(
        {
            "y": [1.0, 2, 3, 4, 5, 6, 10, 11, 12, 1, 2, 3],
            "person": np.repeat(list("ABCD"), 3),
            "female": np.repeat([1.0, 0, 1, 0], 3),
        }
    )
    fit = lmer("y ~ (1 + female | person)", frame)
    assert fit.converged and fit.objective == pytest.approx(44.6192390, abs=1e-6)
    assert fit.unidentified and "too few different values" in fit.unidentified[0]
    assert "one choice of many" in str(fit.summary())
