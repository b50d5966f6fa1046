"""Random designs of every kind and scale: a certified optimum or a stated reason."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
from dense import Problem, Term
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import lmmfast
from lmmfast import LMM

pytestmark = pytest.mark.filterwarnings("ignore::lmmfast.IdentifiabilityWarning")

CERTIFIED = 1e-6  # deviance units
EXAMPLES = 60
MOST_EVALS = 500  # the default of a fit
quick = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Recipe:
    """What a random design is made of; hypothesis shrinks these few numbers."""

    seed: int
    n: int
    levels: tuple[int, ...]  # per factor
    widths: tuple[int, ...]
    kinds: tuple[str, ...]
    fixed: int
    spread: tuple[float, ...]  # standard deviation of each factor's effects; 0: singular
    unit_y: float
    unit_z: float
    unit_x: float
    weights: float  # decades; 0: none
    copies: int  # rows that repeat others
    nested: bool
    reml: bool

    def problem(self) -> Problem:
        rng = np.random.default_rng(self.seed)
        terms: list[Term] = []
        y = rng.normal(size=self.n)
        for m, k, kind, sd in zip(self.levels, self.widths, self.kinds, self.spread, strict=True):
            codes = self._codes(rng, m, terms)
            z = np.column_stack([np.ones(self.n), rng.normal(size=(self.n, k - 1))])
            y += (z * rng.normal(size=(codes.max() + 1, k))[codes]).sum(axis=1) * sd
            z[:, 1:] *= self.unit_z
            terms.append(Term(codes, z, kind))
        X = rng.normal(size=(self.n, self.fixed)) * self.unit_x
        X[:, :1] = 1
        w = 10 ** rng.uniform(-self.weights, self.weights, self.n) if self.weights else None
        made = Problem(y * self.unit_y, X, terms, w)
        return self._with_copies(made, rng) if self.copies else made

    def _codes(self, rng: np.random.Generator, m: int, terms: list[Term]) -> np.ndarray:
        """Unbalanced codes; nested: each level of the last factor in one level of this."""
        if self.nested and terms:
            parents = np.unique(rng.integers(0, m, terms[-1].levels), return_inverse=True)[1]
            codes = parents[terms[-1].codes]
            return codes if codes.max() else terms[-1].codes
        p = rng.dirichlet(np.ones(m))
        rest = rng.choice(m, self.n - m, p=p)
        return rng.permutation(np.concatenate([np.arange(m), rest]))

    def _with_copies(self, made: Problem, rng: np.random.Generator) -> Problem:
        rows = np.concatenate([np.arange(self.n), rng.integers(0, self.n, self.copies)])
        terms = [replace(t, codes=t.codes[rows], z=t.z[rows]) for t in made.terms]
        w = None if made.weights is None else made.weights[rows]
        return Problem(made.y[rows], made.X[rows], terms, w)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    count = draw(st.integers(1, 3))
    widths = draw(st.tuples(*[st.integers(1, 4)] * count))
    levels = draw(st.tuples(*[st.integers(2, 12)] * count))
    unit = st.sampled_from([1.0, 1e-12, 1e-6, 1e-3, 1e3, 1e6, 1e12])
    columns = sum(m * k for m, k in zip(levels, widths, strict=True))
    # barely more rows than random effects, fewer, or many more
    n = draw(st.sampled_from([columns + 1, columns + 5, 2 * columns, 5 * columns, columns // 2]))
    return Recipe(
        seed=draw(st.integers(0, 10**6)),
        n=max(n, max(levels) + 1, 4),
        levels=levels,
        widths=widths,
        kinds=draw(st.tuples(*[st.sampled_from(["full", "diag"])] * count)),
        fixed=draw(st.integers(0, 3)),
        spread=draw(st.tuples(*[st.sampled_from([0.0, 1e-3, 1.0, 30.0])] * count)),
        unit_y=draw(unit),
        unit_z=draw(unit),
        unit_x=draw(unit),
        weights=draw(st.sampled_from([0.0, 0.0, 1.0, 3.0, 6.0])),
        copies=draw(st.sampled_from([0, 0, 7])),
        nested=draw(st.booleans()),
        reml=draw(st.booleans()),
    )


def attempt(recipe: Recipe) -> tuple[Problem, LMM | None, lmmfast.LMMFit | None, str]:
    """The fit, and the reason that was given when there is none or it is not converged."""
    problem = recipe.problem()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = LMM.from_arrays(*problem.arrays)
            fit = model.fit(reml=recipe.reml)
        except (lmmfast.FitError, lmmfast.DataError) as error:
            return problem, None, None, f"{type(error).__name__}: {error}"
    assert all(issubclass(w.category, lmmfast.LmmWarning) for w in caught)
    reasons = [str(w.message) for w in caught if w.category is lmmfast.ConvergenceWarning]
    return problem, model, fit, "; ".join(reasons)


def check_numbers(fit: lmmfast.LMMFit) -> None:
    """No NaN or infinity anywhere but in the rows of dropped columns, and no negative variance."""
    found = fit.estimates
    kept = found.fixed_kept
    arrays = [found.theta, found.beta[kept], found.vcov[np.ix_(kept, kept)], *found.b, *found.T]
    assert all(np.isfinite(a).all() for a in arrays)
    assert np.isfinite(found.objective) and np.isfinite(found.sigma) and found.sigma > 0
    assert (np.diag(found.vcov)[kept] >= 0).all()
    assert all((np.diag(T) >= 0).all() for T in found.T)
    assert np.isfinite(fit.model.condvar(fit.theta)[0]).all()


def weights(problem: Problem) -> np.ndarray:
    return np.ones(len(problem.y)) if problem.weights is None else problem.weights


def effects(problem: Problem) -> int:
    return problem.X.shape[1] + sum(t.levels * t.z.shape[1] for t in problem.terms)


def units(problem: Problem) -> np.ndarray:
    """What 1 is for each parameter: one over the size of its column."""
    w = weights(problem)[:, None]
    sizes = [np.sqrt((w * t.z**2).mean(axis=0)) for t in problem.terms]
    rows = [[r for r, _ in t.free] for t in problem.terms]
    return np.concatenate([1 / size[row] for size, row in zip(sizes, rows, strict=True)])


def resolution(problem: Problem, fit: lmmfast.LMMFit) -> float:
    """What rounding hides: Z'V^-1 Z is a difference of numbers T'A_l T times larger than it."""
    w, largest = weights(problem), 0.0
    for term, T in zip(problem.terms, fit.estimates.T, strict=True):
        size = w * ((term.z @ T) ** 2).sum(axis=1)
        largest = max(largest, float(np.bincount(term.codes, size).max()))
    return 1e-16 * len(w) * largest


def check_no_better_point(
    model: LMM, fit: lmmfast.LMMFit, problem: Problem, recipe: Recipe
) -> None:
    """Perturbed thetas are not lower than the fit by more than the certificate allows."""
    rng = np.random.default_rng(recipe.seed)
    slack = CERTIFIED + 1e-10 * abs(fit.objective)
    scale = np.abs(fit.theta) + 1e-2 * units(problem)
    for size in (1e-3, 1e-2, 1e-1):
        for _ in range(3):
            near = fit.theta + size * scale * rng.normal(size=len(fit.theta))
            assert model.objective(near, reml=recipe.reml) >= fit.objective - slack


def check_reason(problem: Problem, recipe: Recipe, fit: lmmfast.LMMFit | None, reason: str) -> None:
    """What is said where there is no certified optimum is true of the problem."""
    if fit is None:
        assert "the random effects fit the response exactly" in reason
        assert effects(problem) >= recipe.n  # of which none is a copy
    elif reason.startswith("limited by rounding: "):
        assert resolution(problem, fit) > 1e-12
    elif reason.startswith("flat direction: "):
        assert f"promises about {fit.certificate:.2g}:" in reason
    else:
        told = float(
            reason.removeprefix("evaluation limit: the objective can still fall by about ")
        )
        if told > 1.06 * fit.certificate:  # what rounding hides is more
            assert resolution(problem, fit) > 1e-12
        else:
            assert told == pytest.approx(fit.certificate, rel=0.06)
        assert fit.n_evals >= MOST_EVALS


def check(recipe: Recipe) -> tuple[bool, int]:
    """Whether there is a certified optimum, and how many evaluations it took."""
    problem, model, fit, reason = attempt(recipe)
    if fit is None or model is None:
        check_reason(problem, recipe, None, reason)
        return False, 0
    check_numbers(fit)
    if not fit.converged:
        check_reason(problem, recipe, fit, reason)
        return False, fit.n_evals
    assert 0 <= fit.certificate <= CERTIFIED
    assert fit.n_evals <= MOST_EVALS
    if len(fit.theta) != problem.ntheta:
        event("a dependent column was dropped")
    elif resolution(problem, fit) > 1e-8:
        event("no residual variance to speak of: rounding decides")
    elif recipe.weights > 3 or len(problem.y) < 1.5 * effects(problem):
        event("few rows or few that count: there may be several optima")
    else:
        check_no_better_point(model, fit, problem, recipe)
    return True, fit.n_evals


def check_many(examples: int, share: float, evals: int) -> None:
    """So many designs, of which a share at least is fitted, half of these in few evaluations."""
    found: list[tuple[bool, int]] = []

    @settings(quick, max_examples=examples)
    @given(recipes())
    def each(recipe: Recipe) -> None:
        found.append(check(recipe))

    each()
    fitted = [count for converged, count in found if converged]
    assert len(fitted) >= share * len(found) > 0.5 * share * examples
    assert np.median(fitted) <= evals


def test_random_designs() -> None:
    check_many(EXAMPLES, 0.5, 50)


@pytest.mark.slow
def test_many_random_designs() -> None:
    check_many(5000, 0.7, 30)


@settings(quick, max_examples=40)
@given(recipes())
def test_objective_is_the_definition(recipe: Recipe) -> None:
    """Away from the optimum too: random theta in the columns' own units."""
    recipe = replace(recipe, weights=min(recipe.weights, 1.0))
    problem, model, _, _ = attempt(recipe)
    if model is None or not all(map(_independent, [problem.X, *(t.z for t in problem.terms)])):
        event("dependent columns or no fit")
        return
    rng = np.random.default_rng(recipe.seed)
    theta = rng.normal(size=problem.ntheta) * units(problem)
    found = model.objective(theta, reml=recipe.reml)
    wanted = problem.objective(theta, recipe.reml)
    n = len(problem.y)
    assert found == pytest.approx(wanted, rel=1e-8, abs=1e-8 * n)


def _independent(columns: np.ndarray) -> bool:
    scaled = columns / np.sqrt((columns**2).mean(axis=0))
    return np.linalg.matrix_rank(scaled, tol=1e-6) == columns.shape[1]


@settings(quick, max_examples=25)
@given(recipes())
def test_units_change_nothing(recipe: Recipe) -> None:
    """The same numbers in other units: the criterion moves by the Jacobian alone."""
    plain = replace(recipe, unit_y=1.0, unit_z=1.0, unit_x=1.0, weights=0.0)
    scaled = replace(plain, unit_y=recipe.unit_y, unit_z=recipe.unit_z)
    _, _, one, _ = attempt(plain)
    _, _, other, _ = attempt(scaled)
    assert (one is None) == (other is None)
    if one is None or other is None or not (one.converged and other.converged):
        event("no fit")
        return
    nu = one.nobs - (one.estimates.fixed_kept.sum() if recipe.reml else 0)
    shift = 2 * nu * np.log(recipe.unit_y)
    assert other.objective - shift == pytest.approx(one.objective, rel=1e-8, abs=1e-5)
