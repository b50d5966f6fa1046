"""Columns of X that depend on others only by rounding: what is dropped is what the rows say."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import each

from lmmfast import lmer

FORMULA = "y ~ a * b + (1 | g)"


def design(seed: int) -> tuple[dict[str, np.ndarray], int]:
    """Two crossed factors with two empty cells, and how many cells have rows."""
    rng = np.random.default_rng(seed)
    a, b, n = rng.integers(3, 6), rng.integers(4, 8), 220
    A, B, g = rng.integers(0, a, n), rng.integers(0, b, n), rng.integers(0, 20, n)
    has = ~np.isin(A * b + B, rng.choice(a * b, size=2, replace=False))
    cells = len(np.unique((A * b + B)[has]))
    y = rng.normal(size=n) + rng.normal(size=20)[g]
    names = {"a": np.char.add("a", A.astype(str)), "b": np.char.add("b", B.astype(str))}
    return {name: own[has] for name, own in ({"y": y, "g": g} | names).items()}, cells


@pytest.mark.filterwarnings("ignore::lmmfast.RankDeficientWarning")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("coding", ["poly", "helmert", "sum"])
def test_as_many_columns_are_kept_as_cells_have_rows(coding: str, weighted: bool) -> None:
    def check(seed: int) -> None:
        data, cells = design(seed)
        weights = np.random.default_rng(seed).uniform(0.2, 5, len(data["y"])) if weighted else None
        how = {"reml": False, "weights": weights}
        fit = lmer(FORMULA, data, contrasts=dict.fromkeys("ab", coding), **how)
        assert fit.estimates.fixed_kept.sum() == cells
        wanted = lmer("y ~ 0 + a:b + (1 | g)", data, **how)
        assert fit.objective == pytest.approx(wanted.objective, abs=1e-6)

    each(range(20), check)


def test_columns_that_nearly_depend_on_others_are_kept() -> None:
    """A millionth of a column is left, all of it data."""
    rng = np.random.default_rng(3)
    g, x, z = np.repeat(np.arange(30), 10), rng.normal(size=300), rng.normal(size=300)
    data = {
        "g": g,
        "x": x,
        "near": x + 1e-6 * z,
        "y": rng.normal(size=300) + rng.normal(size=30)[g],
    }
    fit = lmer("y ~ x + near + (1 | g)", data, reml=False)
    assert fit.estimates.fixed_kept.all()
    plain = lmer("y ~ x + z + (1 | g)", data | {"z": z}, reml=False)
    assert fit.objective == pytest.approx(plain.objective, abs=1e-6)
