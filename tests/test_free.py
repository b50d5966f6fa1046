"""Covariance parameters that are held or tied: the same as models written without them."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from dense import Problem, Term
from scipy.optimize import minimize

import lmmfast
from lmmfast import LMM, FitError, Free, anova, datasets, drop1, lmer, ranova
from lmmfast.engine.free import directions
from lmmfast.inference.intervals.parameters import parameters_of
from lmmfast.inference.satterthwaite import Satterthwaite

N = 240


def problem(seed: int = 5, spread: float = 0.7) -> Problem:
    """Twenty groups with intercept and slope; twelve others with three columns of one variance."""
    rng = np.random.default_rng(seed)
    g, h = np.arange(N) % 20, rng.permutation(np.arange(N) % 12)
    x = rng.normal(size=N)
    columns, Z = np.column_stack([np.ones(N), x]), rng.normal(size=(N, 3))
    y = 1 + x + (columns * rng.normal(size=(20, 2))[g] * 0.6).sum(1) + rng.normal(size=N)
    y += spread * (Z * rng.normal(size=(12, 3))[h]).sum(1)
    return Problem(y, columns, [Term(g, columns), Term(h, Z, "diag")])


def tied(ntheta: int, first: int) -> Free:
    """Parameters from `first` on are one."""
    basis = np.zeros((ntheta, first + 1))
    basis[range(first), range(first)] = 1
    basis[first:, first] = 1
    return Free(np.zeros(ntheta), basis)


def same(one: Any, other: Any, free: list[int]) -> None:
    """Two fits of one model; `free` are the places in the first that the other's theta has."""
    assert one.converged and other.converged
    assert one.objective == pytest.approx(other.objective, abs=1e-8)
    assert (one.n_params, one.df_resid) == (other.n_params, other.df_resid)
    assert one.aic == pytest.approx(other.aic, abs=1e-8)
    assert one.bic == pytest.approx(other.bic, abs=1e-8)
    assert one.theta[free] == pytest.approx(other.theta, abs=1e-5)
    found, wanted = Satterthwaite(one).df(np.eye(2)), Satterthwaite(other).df(np.eye(2))
    assert found == pytest.approx(wanted, rel=1e-4)
    places = [*free, len(one.theta)]
    errors = one.vcov_theta().to_numpy()[np.ix_(places, places)]
    assert errors == pytest.approx(other.vcov_theta().to_numpy(), rel=1e-3, abs=1e-7, nan_ok=True)


def test_a_parameter_that_moves_from_a_number_has_no_profile() -> None:
    """A standard deviation is a multiple of what moves, or its bound 0 would not be a column's."""
    free = Free(np.array([0.3, 0, 0]), np.eye(3)[:, :2])
    assert [free.is_multiple(k) for k in range(3)] == [False, True, False]
    fit = LMM.from_arrays(*problem().arrays)
    own = Free(np.array([0.0, 0, 0, 0.3, 0, 0]), np.eye(6))
    made = fit.fit(reml=False, free=own)
    third = parameters_of(made)[3].name
    with pytest.raises(FitError, match="has no profile"):
        made.profile([third])


def test_evaluations_on_the_way_to_the_constraint_count() -> None:
    """Without a start all parameters are fitted first."""
    seen: list[lmmfast.Evaluation] = []
    made = LMM.from_arrays(*problem().arrays).fit(free=tied(6, 3), callback=seen.append)
    assert [e.n for e in seen].count(1) == 2
    assert len(seen) == made.n_evals


def test_columns_of_zeros_are_at_rest() -> None:
    """A parameter moves where its column of T does; other rows of it say nothing."""
    entries = [(0, 0, 0), (0, 1, 0), (0, 1, 1), (1, 0, 0)]
    correlated, zero = np.array([[0.9, 0.0], [-0.4, 0.0]]), np.zeros((1, 1))
    found = directions(None, (correlated, zero), entries)
    assert (found == np.eye(4)[:, :2]).all()
    found = directions(None, (np.array([[0.0, 0.0], [0.5, 0.2]]), zero + 1), entries)
    assert (found == np.eye(4)).all()
    together = Free(np.zeros(4), np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]]))
    found = directions(together, (correlated, zero), entries)
    assert (found == np.array([[1, 0], [0, 1], [0, 0], [0, 0]])).all()


# ---- the same model, written in another way ------------------------------------------------------


def one_column_each(seed: int) -> tuple[Problem, LMM]:
    """Each row has one of the three columns: their common variance is that of (z | h:column)."""
    rng = np.random.default_rng(seed)
    made = problem(seed)
    which = rng.integers(0, 3, N)
    z = rng.normal(size=N)
    h = made.terms[1].codes
    b = 0.8 * rng.normal(size=(12, 3))
    y = made.y + z * b[h, which]
    Z = z[:, None] * (which[:, None] == np.arange(3))
    pairs = np.unique(3 * h + which, return_inverse=True)[1]
    apart = Problem(y, made.X, [made.terms[0], Term(h, Z, "diag")])
    first = made.terms[0]
    return apart, LMM.from_arrays(y, made.X, [(first.codes, first.z), (pairs, z[:, None])])


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_tied_variances(seed: int, reml: bool) -> None:
    """Three columns of one variance are one column of a finer factor."""
    apart, joined = one_column_each(seed)
    found = LMM.from_arrays(*apart.arrays).fit(reml=reml, free=tied(6, 3))
    wanted = joined.fit(reml=reml)
    assert len(set(found.theta[3:])) == 1
    same(found, wanted, [0, 1, 2, 3])
    names = [one.name for one in parameters_of(found)]
    ends = found.conf_int(method="profile", parameters="all")
    expected = wanted.conf_int(method="profile", parameters="all")
    for k, name in enumerate(names):
        wanted_ends = expected.to_numpy()[min(k, 3) if k < 6 else k - 2]
        assert ends.loc[name].to_numpy() == pytest.approx(wanted_ends, rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize("reml", [True, False])
def test_held_at_zero_is_left_out(reml: bool) -> None:
    made = problem()
    found = LMM.from_arrays(*made.arrays).fit(reml=reml, free=Free(np.zeros(6), np.eye(6)[:, :3]))
    term = made.terms[0]
    wanted = LMM.from_arrays(made.y, made.X, [(term.codes, term.z)]).fit(reml=reml)
    same(found, wanted, [0, 1, 2])
    assert found.vcov_theta().iloc[3:6].isna().all(axis=None)
    ends = found.conf_int(method="profile", parameters="all").to_numpy()
    expected = wanted.conf_int(method="profile", parameters="all").to_numpy()
    assert ends[[0, 1, 2, 6, 7, 8]] == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert np.isnan(ends[3:6]).all()
    wald = found.conf_int(parameters="all").to_numpy()[[0, 1, 2, 6, 7, 8]]
    expected = wanted.conf_int(parameters="all").to_numpy()
    assert wald == pytest.approx(expected, rel=1e-4, abs=1e-6, nan_ok=True)
    se = wanted.varcorr_se()["se"].to_numpy()
    assert found.varcorr_se()["se"].to_numpy()[[0, 1, 2, 6]] == pytest.approx(se, rel=1e-3)


# ---- the definition ------------------------------------------------------------------------------


PLANES = {
    "tied": tied(6, 3),
    "held": Free([0, -0.2, 0.6, 0, 0.4, 0.4], np.eye(6)[:, [0, 3]]),
    "ratio": Free(np.zeros(6), np.array([[1, 0, 2, 0.5, 0.5, 0], [0, 1, 0, 0, 0, 3.0]]).T),
    "shifted": Free([0, 0.1, 0, 0.2, 0, 0], np.array([[1, 0, 1, 0, 0, 0], [0, 0, 0, 1, 2, 0.0]]).T),
    "none": Free([0.5, 0.1, 0.4, 0.7, 0.7, 0.7], np.zeros((6, 0))),
}


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", PLANES)
def test_minimum_within(name: str, reml: bool) -> None:
    """No point of the plane near the end is lower, by the dense definition."""
    made, free = problem(), PLANES[name]
    fit = LMM.from_arrays(*made.arrays).fit(reml=reml, free=free)
    assert fit.converged and fit.certificate < 1e-6
    assert fit.estimates.free is free and fit.n_params == 2 + free.nz + 1
    z = free.nearest(fit.theta)
    assert fit.theta == pytest.approx(free.theta(z), abs=1e-12)
    assert fit.objective == pytest.approx(float(made.objective(fit.theta, reml)), abs=1e-8)
    if free.nz:
        found = minimize(
            lambda at: float(made.objective(free.theta(at), reml)), z + 0.05, method="BFGS"
        )
        assert fit.objective <= found.fun + 1e-6
        assert found.x == pytest.approx(z, abs=1e-3)


@pytest.mark.parametrize("name", ["tied", "held", "ratio"])
def test_degrees_of_freedom_by_definition(name: str) -> None:
    """2 v^2 / Var(v) from differences of the dense definition along the plane."""
    made, free = problem(), PLANES[name]
    fit = LMM.from_arrays(*made.arrays).fit(free=free)
    nu, z, step = made.degrees(True), free.nearest(fit.theta), 1e-4

    def along(value: Any) -> np.ndarray:
        out = [
            (value(free.theta(z + step * e)) - value(free.theta(z - step * e))) / (2 * step)
            for e in np.eye(free.nz)
        ]
        return np.array(out)

    H = along(lambda t: along_of(lambda s: made.objective(s, True), t, free, step))
    for j in range(2):

        def relative(theta: np.ndarray, j: int = j) -> float:
            at = made.solve(theta, reml=True)
            return float(np.log(at.vcov[j, j] / at.sigma**2))

        h = along(relative) + along(lambda t: np.log(made.solve(t, reml=True).sigma ** 2))
        wanted = 2 / (h @ np.linalg.solve(H / 2, h) + 2 / nu)
        assert Satterthwaite(fit).df(np.eye(2)[j])[0] == pytest.approx(wanted, rel=1e-4)


def along_of(value: Any, theta: np.ndarray, free: Free, step: float) -> np.ndarray:
    """Slope of a function of theta along the plane, at a theta."""
    return np.array([
        float(value(theta + step * b) - value(theta - step * b)) / (2 * step) for b in free.basis.T
    ])  # fmt: skip


@pytest.mark.parametrize("columns", [np.eye(6)[:, :3], np.eye(6)[:, 3:], tied(6, 3).basis])
def test_saddles_are_left(columns: np.ndarray) -> None:
    """From zero, where the slope is zero too, to the optimum that other starts reach."""
    model = LMM.from_arrays(*problem().arrays)
    free = Free(np.zeros(6), columns)
    wanted = model.fit(free=free)
    assert model.fit(free=free, start=np.zeros(6)).objective == pytest.approx(
        wanted.objective, abs=1e-7
    )
    assert model.fit(free=free, starts=3).starts.optima[0] == pytest.approx(wanted.objective)


def mirrored(c: float) -> Free:
    """The first T is lower triangular with c held below the diagonal; the other variances are."""
    return Free([0, c, 0, 0.4, 0.4, 0.4], np.eye(6)[:, [0, 2]])


def test_signs_stay_where_the_plane_holds_a_column() -> None:
    """T and -T are one model, but with an entry that is held the sign of its column is not free."""
    model, start = LMM.from_arrays(*problem().arrays), np.array([0.6, 0.2, 0.6, 0.4, 0.4, 0.4])
    one = model.fit(free=mirrored(0.2), start=start)
    start[:2] *= -1
    other = model.fit(free=mirrored(-0.2), start=start)
    assert one.converged and other.converged and abs(one.theta[0]) > 0.1
    assert other.theta[0] == pytest.approx(-one.theta[0], abs=1e-5)
    for fit in (one, other):
        assert fit.objective == pytest.approx(model.objective(fit.theta), abs=1e-8)


def test_signs_are_turned_in_a_plane_that_has_both() -> None:
    """Variables that share parameters: all of theta, in coordinates that are not orthogonal."""
    model, basis = LMM.from_arrays(*problem().arrays), np.eye(6)
    basis[3:, 0], basis[4, 3], basis[0, 5] = 0.5, 1, 0.3
    wanted = model.fit()
    found = model.fit(free=Free(np.zeros(6), basis), start=-wanted.theta)
    assert found.converged
    assert found.theta == pytest.approx(wanted.theta, abs=1e-5)
    saddle = model.fit(free=Free(np.zeros(6), basis), start=np.zeros(6))
    assert saddle.objective == pytest.approx(wanted.objective, abs=1e-7)


@pytest.mark.parametrize("small", [-1e-5, 1e-5])
def test_a_start_near_zero_keeps_its_side(small: float) -> None:
    model = LMM.from_arrays(*problem().arrays)
    start = np.array([small, 0.2, 0.6, 0.4, 0.4, 0.4])
    with pytest.warns(lmmfast.ConvergenceWarning):
        fit = model.fit(free=mirrored(0.2), start=start, max_evals=1)
    assert fit.theta[0] / small > 100
    assert fit.theta[1:] == pytest.approx(start[1:], abs=1e-12)


def test_a_start_that_is_held_off_zero_stays() -> None:
    """The variable is zero, the diagonal is not."""
    model, start = LMM.from_arrays(*problem().arrays), np.array([0.6, 0.2, 0.6, 0.4, 0.4, 0.4])
    with pytest.warns(lmmfast.ConvergenceWarning):
        fit = model.fit(free=Free(start, np.eye(6)[:, [0, 3]]), start=start, max_evals=1)
    assert fit.theta == pytest.approx(start, abs=1e-12)


def test_zeros_are_exact() -> None:
    """A tied variance without any evidence is zero, and so is everything tied to it."""
    found = 0
    for seed in range(12):
        fit = LMM.from_arrays(*problem(seed, 0.0).arrays).fit(free=tied(6, 3))
        own = fit.theta[3:]
        assert fit.converged and (own == own[0]).all() and own[0] >= 0
        found += own[0] == 0
        assert own[0] == 0 or own[0] > 1e-3
    assert 2 < found < 12


@pytest.mark.parametrize("storage", ["dense", "sparse", "iterative"])
def test_storages(storage: str) -> None:
    """The same optimum however the trailing matrix is held; estimates within their error."""
    arrays = problem().arrays
    if storage == "sparse":
        pytest.importorskip("sksparse")
    model = LMM.from_arrays(*arrays, storage=storage)
    fit, exact = model.fit(free=tied(6, 3)), LMM.from_arrays(*arrays).fit(free=tied(6, 3))
    close = 0.05 if storage == "iterative" else 1e-6
    assert len(set(fit.theta[3:])) == 1 and fit.n_params == exact.n_params
    assert fit.theta == pytest.approx(exact.theta, abs=close)
    assert fit.objective == pytest.approx(exact.objective, abs=4 * fit.objective_se + 1e-7)


# ---- what follows --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three() -> tuple[Any, Any, Any]:
    """Held at zero, tied, all free."""
    model = LMM.from_arrays(*problem().arrays)
    held = model.fit(free=Free(np.zeros(6), np.eye(6)[:, :3]))
    return held, model.fit(free=tied(6, 3)), model.fit()


def test_models_are_compared(three: Any) -> None:
    """Degrees of freedom count what moves; what is not nested has no p-value."""
    held, equal, free = three
    table = anova(held, equal, free)
    assert table.table["npar"].to_list() == [6, 7, 9] and table.table["Df"].to_list()[1:] == [1, 2]
    notes = " ".join(table.notes)
    assert "m2 against m1: variances are zero in the smaller model" in notes
    assert "m3 against m2" not in notes and "taken for granted" not in notes
    other = held.model.fit(free=Free(np.zeros(6), np.eye(6)[:, [0, 1, 2, 3]]))
    across = anova(other, free.model.fit(free=Free([0, 0, 0, 0, 1, 1], np.eye(6)[:, :4])), free)
    assert across.table["npar"].to_list() == [7, 7, 9]
    apart = Free([0, 0, 0, 0.3, 0.3, 0.3], np.eye(6)[:, :2])
    reason = " ".join(anova(free.model.fit(free=apart), equal).notes)
    assert "parameters that move in one are held or tied in the other" not in reason
    within = " ".join(anova(other, free.model.fit(free=PLANES["held"]), refit=False).notes)
    assert "no p-value" in within and "held or tied in the other" in within


def test_terms_are_taken_out(three: Any) -> None:
    """A tied term as a whole, for its one parameter; a held one not at all."""
    held, equal, free = three
    table = ranova(equal)
    assert table.table["npar"].to_list() == [7, 5, 6] and table.table["Df"].to_list()[1:] == [2, 1]
    label = table.table.index[2]
    assert label.startswith("(z0 + z1 + z2 ||") and table.table["mixture"].iloc[2] != ""
    assert table.table["LRT"].iloc[2] == pytest.approx(held.objective - equal.objective, abs=1e-6)
    first = LMM.from_arrays(*problem().arrays)
    smaller = LMM.from_arrays(
        first.design.y, first.design.X, [(t.codes, t.z[:, :1] if i == 0 else t.z, t.structure)
                                         for i, t in enumerate(first.design.terms)],
    ).fit(free=tied(4, 1))  # fmt: skip
    assert table.table["LRT"].iloc[1] == pytest.approx(
        smaller.objective - equal.objective, abs=1e-6
    )
    alone = ranova(held)
    assert len(alone.table) == 2 and any("it is not tested" in note for note in alone.notes)
    assert len(ranova(free).table) == 5


def test_what_needs_all_parameters_says_so(three: Any) -> None:
    held, equal, _ = three
    with pytest.raises(FitError, match="held or tied"):
        equal.summary(ddf="kenward-roger")
    with pytest.raises(FitError, match="held or tied"):
        lmmfast.simplify(held)
    assert held.explain_singularity().reductions.empty
    mixed = held.model.fit(free=PLANES["ratio"])
    name = next(one.name for one in parameters_of(mixed) if one.kind == "cor")
    with pytest.raises(FitError, match="has no profile in this fit"):
        mixed.conf_int(method="profile", parameters=[name])
    assert mixed.conf_int(method="profile", parameters=["sigma", "x1"]).notna().all(axis=None)


def test_fits_that_follow(three: Any) -> None:
    """Refits, other criteria, deletions of fixed effects and influence keep what is held."""
    _, equal, _ = three
    y = equal.design.y + 0.5 * equal.design.X[:, 1]
    again = equal.refit(y)
    assert again.n_params == 7 and len(set(again.theta[3:])) == 1
    assert again.theta == pytest.approx(equal.theta, abs=1e-5)
    assert pickle.loads(pickle.dumps(equal)).n_params == 7
    group = equal.design.terms[1].group
    moved = equal.influence(by=group, refine="full")
    assert moved.notna().all(axis=None)
    data = datasets.load("sleepstudy")
    model = lmer("Reaction ~ Days + (Days || Subject)", data).model
    one = model.fit(reml=False, free=Free(np.zeros(2), np.array([[1.0], [0.5]])))
    smaller = lmer("Reaction ~ 1 + (Days || Subject)", data).model
    wanted = smaller.fit(reml=False, free=one.estimates.free).objective - one.objective
    assert drop1(one, test="Chisq").table["LRT"].iloc[1] == pytest.approx(wanted, abs=1e-6)


def test_words() -> None:
    model = LMM.from_arrays(*problem().arrays)
    with pytest.raises(ValueError, match="depend on each other"):
        Free(np.zeros(2), np.ones((2, 2)))
    with pytest.raises(ValueError, match="needs shape"):
        Free(np.zeros(2), np.ones((3, 1)))
    with pytest.raises(ValueError, match="finite"):
        Free([np.nan, 0], np.ones((2, 1)))
    with pytest.raises(ValueError, match="2 covariance parameters: the model has 6"):
        model.fit(free=Free(np.zeros(2), np.ones((2, 1))))
    with pytest.raises(TypeError, match="must be a Free"):
        model.fit(free=np.eye(6))
    free = Free(np.zeros(2), np.ones((2, 1)))
    assert not free.basis.flags.writeable and free.nz == 1
