"""Wide fixed effects: coded columns, whitening in sums, what is dropped, where rows must decide."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import close
from dense import Problem, Term
from test_kernels import largest

from lmmfast import LMM, LMMFit, RankDeficientWarning, _core, anova, lmer
from lmmfast.data.fixed import FixedColumns
from lmmfast.data.rows import RowColumns

pytestmark = pytest.mark.filterwarnings(
    "ignore::lmmfast.IdentifiabilityWarning", "ignore::lmmfast.RankDeficientWarning"
)

N, LEVELS, GROUPS = 600, 30, 6


def frame() -> pd.DataFrame:
    """A factor of 30 levels inside five others' ten, one with an empty combination, dates."""
    rng = np.random.default_rng(12)
    f, h, g = rng.integers(0, LEVELS, N), rng.integers(0, 4, N), rng.integers(0, GROUPS, N)
    f[:LEVELS] = np.arange(LEVELS)
    h[(f == 7) & (h == 2)] = 0
    x = rng.normal(size=N)
    data = {
        "f": [f"f{i:02d}" for i in f],
        "nest": [f"n{i // 3}" for i in f],
        "h": [f"h{i}" for i in h],
        "g": [f"g{i}" for i in g],
        "x": x,
        "z": rng.normal(size=N),
        "level": rng.normal(size=LEVELS)[f],  # a number that belongs to the level
        "date": 20_000.0 + rng.integers(0, 400, N),
        "w": rng.uniform(0.5, 2, N),
        "y": rng.normal(size=LEVELS)[f] + rng.normal(size=GROUPS)[g] + x + rng.normal(size=N) + 40,
    }
    return pd.DataFrame(data)


DATA = frame()


def problem(fit: LMMFit) -> Problem:
    """What was fitted, with the columns of X that are kept."""
    design = fit.design
    terms = [Term(term.codes, term.z) for term in design.terms]
    X = design.X[:, fit.estimates.fixed_kept]
    return Problem(design.y, X, terms, design.weights, design.offset)


def same(fit: LMMFit) -> None:
    """The definition gives these estimates."""
    made, found = problem(fit), fit.estimates
    kept = found.fixed_kept
    wanted = made.solve(found.theta, found.reml)
    assert found.objective == pytest.approx(wanted.objective, rel=1e-10)
    close(found.beta[kept], wanted.beta, largest(wanted.beta), 1e-8)
    close(found.vcov[np.ix_(kept, kept)], wanted.vcov, largest(wanted.vcov), 1e-8)
    assert found.sigma == pytest.approx(wanted.sigma, rel=1e-8)
    fitted = design_times(fit) + sum(
        (term.z * b[term.codes]).sum(axis=1) for term, b in zip(made.terms, wanted.b, strict=True)
    )
    close(fit.fittedvalues.to_numpy(), fitted, wanted.sigma, 1e-7)


def design_times(fit: LMMFit) -> np.ndarray:
    found = fit.estimates
    X = fit.design.X[:, found.fixed_kept] @ found.beta[found.fixed_kept]
    return X if fit.design.offset is None else X + fit.design.offset


def independent(X: np.ndarray) -> np.ndarray:
    """Columns that are not combinations of earlier ones, by orthogonalization one by one."""
    kept, Q = np.zeros(X.shape[1], bool), np.zeros((len(X), 0))
    center = X - X.mean(axis=0) if (X[:, 0] == X[0, 0]).all() else X.copy()
    center[:, 0] = X[:, 0]
    for j, x in enumerate(center.T):
        left = x - Q @ (Q.T @ x)
        left -= Q @ (Q.T @ left)
        if np.linalg.norm(left) > 3e-7 * np.linalg.norm(x):
            kept[j] = True
            Q = np.column_stack([Q, left / np.linalg.norm(left)])
    return kept


FORMULAS: dict[str, tuple[str, dict[str, Any]]] = {
    "a factor": ("y ~ f + x + (1 | g)", {}),
    "slopes": ("y ~ f * x + (1 + x | g)", {}),
    "a level each": ("y ~ 0 + f + x + (1 | g)", {}),
    "slopes without an intercept": ("y ~ 0 + f:x + (1 | g)", {}),
    "weights": ("y ~ f * x + (1 | g)", {"weights": "w"}),
    "weights without an intercept": ("y ~ 0 + f + f:x + (1 | g)", {"weights": "w"}),
    "offset, two factors": ("y ~ f + x + offset(z) + (1 | g) + (1 | h)", {}),
    "likelihood": ("y ~ f * x + (1 | g)", {"reml": False}),
    "sum contrasts": ("y ~ f * x + (1 | g)", {"contrasts": {"f": "sum"}}),
    "helmert": ("y ~ f * x + (1 | g)", {"contrasts": {"f": "helmert"}}),
    "neighbours": ("y ~ f + z + (1 | g)", {"contrasts": {"f": "sdif"}}),
    "an empty cell": ("y ~ f * h + (1 | g)", {}),
    "an empty cell, slopes": ("y ~ f * h * x + (1 | g)", {}),
    "products of contrasts": ("y ~ f * h + (1 | g)", {"contrasts": {"f": "sum", "h": "helmert"}}),
    "nested": ("y ~ nest + f + x + (1 | g)", {}),
    "nested, the finer first": ("y ~ f + nest + x + (1 | g)", {}),
    "nesting": ("y ~ nest / f + (1 | g)", {}),
    "a number of the level": ("y ~ f + level + x + (1 | g)", {}),
    "a number before its level": ("y ~ level + f + x + (1 | g)", {}),
    "polynomials by level": ("y ~ f * poly(x, 2) + (1 | g)", {}),
    "dates by level": ("y ~ f * date + (1 | g)", {}),
    "powers of dates": ("y ~ f + date + I((date - 20000)^2) + (1 | g)", {}),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_what_is_kept_and_its_estimates(name: str) -> None:
    formula, options = FORMULAS[name]
    fit = lmer(formula, DATA, **options)
    assert name in ("helmert", "neighbours") or fit.design.fixed.coded  # those are not sparse
    assert list(fit.estimates.fixed_kept) == list(independent(fit.design.X))
    same(fit)


def test_messages_name_the_columns_that_are_dropped() -> None:
    with pytest.warns(RankDeficientWarning) as caught:
        fit = lmer("y ~ f + nest + x + level + z + (1 | g)", DATA)
    names = [*(f"nest[T.n{i}]" for i in range(1, 10)), "level"]
    message = "the fixed effects are linearly dependent: 10 of 42 columns are dropped and reported"
    assert [str(one.message) for one in caught] == [f"{message} as missing: {', '.join(names)}"]
    assert [fit.design.x_names[j] for j in np.flatnonzero(~fit.estimates.fixed_kept)] == names


@pytest.mark.parametrize("unit", [1e-8, 1e-4, 1e4, 1e8])
def test_units(unit: float) -> None:
    """Slopes by level in another unit: the same columns, the same fit."""
    one = lmer("y ~ f * x + z + (1 | g)", DATA)
    other = lmer("y ~ f * x + z + (1 | g)", DATA.assign(x=unit * DATA.x))
    assert (one.estimates.fixed_kept == other.estimates.fixed_kept).all()
    moved = one.design.X.any(axis=0) & np.array(["x" in name for name in one.design.x_names])
    shift = 2 * moved.sum() * np.log(unit)  # of log|X'V^-1 X|
    assert other.objective == pytest.approx(one.objective + shift, rel=1e-9)
    close(other.fittedvalues.to_numpy(), one.fittedvalues.to_numpy(), one.sigma, 1e-7)


NEAR = {"kept": (1e-3, 1e-4, 1e-5, 1e-6), "dropped": (3e-8, 1e-9)}


@pytest.mark.parametrize("by", ["", "f:"])
@pytest.mark.parametrize("distance", [d for own in NEAR.values() for d in own])
def test_nearly_collinear(distance: float, by: str) -> None:
    data = DATA.assign(c=DATA.x + distance * DATA.z)
    fit = lmer(f"y ~ f * x + {by}c + (1 | g)", data)
    close_ones = np.array([name.endswith("c") for name in fit.design.x_names])
    kept = fit.estimates.fixed_kept
    assert kept[~close_ones].all()
    assert kept[close_ones].all() if distance in NEAR["kept"] else not kept[close_ones].any()
    # the same space, far from collinear: log|X'V^-1 X| differs by the distance
    if distance in NEAR["kept"]:
        plain = lmer(f"y ~ f * x + {by}c + (1 | g)", DATA.assign(c=DATA.z))
        shift = 2 * close_ones.sum() * np.log(distance)
        assert fit.objective == pytest.approx(plain.objective + shift, rel=1e-8)
        close(fit.fittedvalues.to_numpy(), plain.fittedvalues.to_numpy(), plain.sigma, 1e-6)


def test_roundings_are_no_columns() -> None:
    """Cells with fewer rows than columns, others nearly so: sums alone would keep roundings."""
    rng = np.random.default_rng(3)
    cell = np.repeat(np.arange(40), 8)
    x = rng.normal(size=len(cell))
    x[cell < 8] = rng.integers(0, 3, 64)  # three values, four columns
    x[cell == 9] += 1e-2 * np.arange(8) + 50  # nearly collinear powers
    X = np.zeros((len(cell), 160))
    for power in range(4):
        X[np.arange(len(cell)), 4 * cell + power] = x**power
    X = np.column_stack([np.ones(len(cell)), X[:, 1:]])
    y, g = rng.normal(size=len(cell)), rng.integers(0, 5, len(cell))
    fit = LMM.from_arrays(y, X, [(g, None)]).fit()
    assert list(fit.estimates.fixed_kept) == list(independent(X))


# ---- columns ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMULAS)
def test_columns_are_those_of_the_formula(name: str) -> None:
    formula, options = FORMULAS[name]
    fit = lmer(formula, DATA, **options)
    fixed, recipe = fit.design.fixed, fit.design.recipe
    assert recipe is not None
    wanted = recipe.fixed(DATA)[0]
    np.testing.assert_array_equal(fixed.values, wanted)
    rows = np.array([5, 3, 599, 5, 0])
    np.testing.assert_array_equal(fixed.at(rows), wanted[rows])
    np.testing.assert_array_equal(fixed.taken(rows).values, wanted[rows])
    beta = np.random.default_rng(0).normal(size=fixed.width)
    close(fixed.times(beta), wanted @ beta, largest(wanted), 1e-13)
    assert not fixed.values.flags.writeable
    assert fixed.values is fixed.values  # made once


def test_narrow_factors_are_stored() -> None:
    fit = lmer("y ~ h * x + (1 | g)", DATA)
    assert not isinstance(fit.design.fixed, FixedColumns)


def test_pickles_hold_no_matrix_that_was_made() -> None:
    fit = lmer("y ~ f * x + (1 | g)", DATA)
    before = len(pickle.dumps(fit))
    assert fit.design.X.shape == (N, 2 * LEVELS)
    text = pickle.dumps(fit)
    assert len(text) == before < fit.design.X.nbytes
    np.testing.assert_array_equal(pickle.loads(text).design.X, fit.design.X)


# ---- after the fit ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coded() -> LMMFit:
    return lmer("y ~ f * x + (1 | g)", DATA, weights="w")


@pytest.fixture(scope="module")
def stored() -> LMMFit:
    """The same model from a matrix."""
    fit = lmer("y ~ f * x + (1 | g)", DATA, weights="w")
    design = fit.design.with_rows(fixed=RowColumns(np.asfortranarray(fit.design.X)))
    return LMM(design).fit()


READINGS = {
    "estimates": lambda fit: fit.params,
    "errors": lambda fit: fit.bse,
    "p-values": lambda fit: fit.pvalues,
    "fitted values": lambda fit: fit.fittedvalues,
    "residuals": lambda fit: fit.residuals("marginal"),
    "predictions": lambda fit: fit.predict(DATA.iloc[:9]),
    "errors of predictions": lambda fit: fit.predict(DATA.iloc[:9], se=True)["se"],
    "influence": lambda fit: fit.influence(by="g")["cooks_d"],
    "another response": lambda fit: fit.refit(DATA.y + DATA.z).params,
    "other weights": lambda fit: fit.refit(weights=DATA.w**2).params,
    "both": lambda fit: fit.refit(DATA.y - DATA.z, weights=1 / DATA.w).bse,
    "variance explained": lambda fit: np.array(list(fit.r2())),
}


@pytest.mark.parametrize("name", READINGS)
def test_readings_are_those_of_stored_columns(coded: LMMFit, stored: LMMFit, name: str) -> None:
    found, wanted = (np.asarray(READINGS[name](fit)) for fit in (coded, stored))
    close(found, wanted, largest(wanted), 1e-7)


def test_analysis_of_variance(coded: LMMFit) -> None:
    """Terms of a wide model, by the definition of their F."""
    table = anova(coded, type=3, ddf="residual").table
    rows = [j for j, name in enumerate(coded.design.x_names) if "f[" in name and ":x" in name]
    L, vcov = coded.estimates.beta[rows], coded.estimates.vcov[np.ix_(rows, rows)]
    F = L @ np.linalg.solve(vcov, L) / len(rows)
    assert table.loc["f:x"].filter(like="F v").iloc[0] == pytest.approx(F, rel=1e-7)


def test_threads() -> None:
    one, two = (lmer("y ~ f * x + (1 + x | g)", DATA, threads=k) for k in (1, 2))
    assert one.objective == two.objective
    assert (one.estimates.vcov == two.estimates.vcov).all()


# ---- the corner of low rank ---------------------------------------------------------------------

CORNERS: dict[str, tuple[list[int], list[int], str]] = {  # levels, widths
    "one factor": ([7], [2], "auto"),
    "crossed, dense": ([9, 5], [1, 1], "dense"),
    "nested": ([9, 3], [1, 1], "auto"),
    "three, a chain and another": ([12, 3, 4], [1, 1, 1], "dense"),
}


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", CORNERS)
def test_corner_of_low_rank(name: str, reml: bool) -> None:
    """Many more columns of X than of Z: criterion, derivatives and estimates by definition."""
    levels, widths, storage = CORNERS[name]
    rng, n, p = np.random.default_rng(5), 420, 240
    first = rng.integers(0, levels[0], n)
    first[: levels[0]] = np.arange(levels[0])
    codes = [first]
    for k, m in enumerate(levels[1:]):
        inside = k == 0 and levels[0] % m == 0
        codes.append(first % m if inside else rng.permutation(np.arange(n) % m))
    x = rng.normal(size=(n, p)) + rng.normal(size=p)
    terms = [
        Term(c, np.column_stack([np.ones(n), rng.normal(size=(n, k - 1))]))
        for c, k in zip(codes, widths, strict=True)
    ]
    y = rng.normal(size=n) + sum(rng.normal(size=t.levels)[t.codes] for t in terms)
    made = Problem(y, np.column_stack([np.ones(n), x]), terms)
    model = LMM.from_arrays(*made.arrays, storage=storage)
    for theta in (np.full(made.ntheta, 0.8), np.full(made.ntheta, 20.0)):
        f, g, H = model.objective(theta, reml=reml, gradient=True, hessian=True)
        assert f == pytest.approx(made.objective(theta, reml), rel=1e-10)
        wanted = made.gradient(theta, reml)
        close(g, wanted, largest(wanted), 1e-6)
        curvature = made.curvature(theta, reml)
        close(H, curvature, largest(curvature), 1e-6)
        same(model.at(theta, reml=reml))


# ---- what cannot be identified, and what the core refuses ---------------------------------------


def test_variance_that_wide_fixed_effects_take_up() -> None:
    """More fixed effects than a basis on some rows is made for."""
    rng = np.random.default_rng(2)
    f = np.arange(1200) % 300
    data = pd.DataFrame({"f": [f"f{i}" for i in f], "y": rng.normal(size=1200), "g": f % 5})
    data["x"] = rng.normal(size=1200)
    fit = lmer("y ~ f + x + (1 | f) + (0 + x | g)", data)
    assert len(fit.unidentified) == 1
    assert "the fixed effects already take up" in fit.unidentified[0]
    assert not lmer("y ~ f + x + (0 + x | g)", data).unidentified
    w = rng.uniform(1, 2, 1200)
    assert len(lmer("y ~ f + x + (1 | f) + (0 + x | g)", data, weights=w).unidentified) == 1


X = np.ones((4, 1), order="F")
PLACE = np.zeros(1, np.int32)
LEVEL = np.array([0, 1, 1, 0], np.int32)
START = np.array([0, 1, 2], np.int32)
COLUMN = np.array([1, 2], np.int32)
VALUE = np.ones(2)
GOOD: dict[str, Any] = {
    "p": 3, "X": X, "place": PLACE, "level": LEVEL, "v": np.arange(4.0), "start": START,
    "column": COLUMN, "value": VALUE,
}  # fmt: skip
BAD: dict[str, dict[str, Any]] = {
    "no X": {"X": None},
    "no places": {"place": None},
    "too many places": {"place": np.arange(2, dtype=np.int32)},
    "a place beyond": {"place": np.full(1, 3, np.int32)},
    "a place below": {"place": np.full(1, -1, np.int32)},
    "stored and coded": {"place": np.ones(1, np.int32)},
    "levels of other rows": {"level": LEVEL[:3]},
    "numbers of other rows": {"v": np.arange(3.0)},
    "missing numbers": {"v": np.array([1.0, np.nan, 0.0, 0.0])},
    "a level beyond": {"level": np.full(4, 2, np.int32)},
    "a level below": {"level": np.full(4, -1, np.int32)},
    "no levels": {"level": None},
    "no start": {"start": np.zeros(0, np.int32)},
    "a start that falls": {"start": np.array([0, 2, 1], np.int32)},
    "a start beyond": {"start": np.array([0, 1, 3], np.int32)},
    "a start behind": {"start": np.array([1, 1, 2], np.int32)},
    "a column beyond": {"column": np.array([1, 3], np.int32)},
    "a column below": {"column": np.array([-1, 2], np.int32)},
    "a column twice in a level": {"start": np.array([0, 2, 2], np.int32), "column": COLUMN[[0, 0]]},
    "missing values": {"value": np.array([1.0, np.nan])},
    "values of other columns": {"value": np.ones(3)},
    "too many columns": {"p": 50_000},
}


def coded_columns(**changes: Any) -> _core.Fixed:
    own = GOOD | changes
    coded = [tuple(own[name] for name in ("level", "v", "start", "column", "value"))]
    return _core.Fixed(len(LEVEL), own["p"], own["X"], own["place"], coded)


@pytest.mark.parametrize("name", BAD)
def test_coded_columns_that_are_none(name: str) -> None:
    coded_columns()
    with pytest.raises((ValueError, TypeError), match=r"\w"):
        coded_columns(**BAD[name])


def test_two_lists_of_one_column() -> None:
    one = (LEVEL, None, START, COLUMN, VALUE)
    with pytest.raises(ValueError, match="another list"):
        _core.Fixed(len(LEVEL), 3, X, PLACE, [one, one])


def test_coded_columns_of_other_rows() -> None:
    rng = np.random.default_rng(1)
    one = (LEVEL, None, START, COLUMN, VALUE)
    factor = np.arange(5, dtype=np.int32) % 2, 2, np.ones((5, 1)), np.zeros(1, np.int32)
    with pytest.raises(ValueError, match="same number of rows"):
        _core.Model(rng.normal(size=5), (3, X, PLACE, [one]), [factor], None)
