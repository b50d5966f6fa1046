"""New data are encoded exactly as the training data were."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from design_check import N, trials

from lmmfast.data.design import build
from lmmfast.errors import LmmError


@pytest.fixture
def frame() -> pd.DataFrame:
    return trials()


RECIPE = "y ~ scale(x) * f + poly(w.t, 2) + bs(x, df=4) + o + factor(k) + (f | g) + (flag | h:k)"


def test_recipe_repeats_the_design(frame: pd.DataFrame) -> None:
    design = build(RECIPE, frame)
    recipe = pickle.loads(pickle.dumps(design.recipe))
    for rows in (range(N), [5], [30, 2, 2]):
        new = frame.iloc[list(rows)].drop(columns="y")
        X, offset = recipe.fixed(new)
        np.testing.assert_allclose(X, design.X[list(rows)], rtol=1e-12, atol=1e-14)
        assert offset is None
        for (codes, z), term in zip(recipe.random(new), design.terms, strict=True):
            np.testing.assert_array_equal(codes, term.codes[list(rows)])
            np.testing.assert_array_equal(z, term.z[list(rows)])


def test_recipe_takes_scalars(frame: pd.DataFrame) -> None:
    design = build("y ~ x + f + (x | g) + (1 | h)", frame)
    X, _ = design.recipe.fixed({"x": 2, "f": "c"})
    np.testing.assert_array_equal(X, [[1, 2, 0, 1]])
    ((codes, z),) = design.recipe.random({"x": [2, 3], "g": [20, 99]}, groups=["g"])
    np.testing.assert_array_equal(codes, [5, -1])
    np.testing.assert_array_equal(z, [[1, 2], [1, 3]])


def test_recipe_finds_levels_read_as_another_type(frame: pd.DataFrame) -> None:
    text = build("y ~ factor(k) + (1 | g)", frame.assign(g=frame.g.astype(str)))
    number = build("y ~ factor(k) + (1 | g)", frame)
    for design, g, level in (
        (text, [7, 4], "7"),
        (text, [7.0, np.nan], "7"),
        (number, ["7", "4"], 7),
    ):
        ((codes, _),) = design.recipe.random({"g": g})
        assert codes.tolist() == [design.terms[0].levels.tolist().index(level), -1]


def test_recipe_missing_and_unseen(frame: pd.DataFrame) -> None:
    design = build("y ~ x + f + (x | g:h)", frame)
    new = pd.DataFrame(
        {"x": [1, np.nan, 2], "f": [None, "a", "b"], "g": [1, 1, 3], "h": ["u", "v", None]}
    )
    X, _ = design.recipe.fixed(new)
    np.testing.assert_array_equal(X, [[1, 1, np.nan, np.nan], [1, np.nan, 0, 0], [1, 2, 1, 0]])
    ((codes, z),) = design.recipe.random(new)
    np.testing.assert_array_equal(codes, [0, 1, -1])
    np.testing.assert_array_equal(z, [[1, 1], [1, np.nan], [np.nan, np.nan]])


def test_missing_labels_where_each_level_has_a_column(frame: pd.DataFrame) -> None:
    design = build("y ~ 0 + f + (0 + f | g)", frame)
    new = {"f": [None, "b"], "g": [1, 1]}
    wanted = [[np.nan, np.nan, np.nan], [0, 1, 0]]
    np.testing.assert_array_equal(design.recipe.fixed(new)[0], wanted)
    ((_, z),) = design.recipe.random(new)
    np.testing.assert_array_equal(z, wanted)


def test_recipe_refusals(frame: pd.DataFrame) -> None:
    recipe = build("y ~ x + f + (1 | g)", frame).recipe
    bad: dict[str, dict[str, Any]] = {
        "level 'z' that the training data do not have": {"x": 1.0, "f": "z"},
        "column 'f' is not in the data": {"x": 1.0},
        "'x' was numeric when the model was fitted": {"x": "high", "f": "a"},
    }
    for fragment, new in bad.items():
        with pytest.raises(LmmError, match=fragment):
            recipe.fixed(new)
