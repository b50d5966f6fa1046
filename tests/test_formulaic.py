"""What comes from formulaic by its public interface; run with the oldest and newest version."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from formulaic.transforms import TRANSFORMS
from formulaic.utils.stateful_transforms import stateful_transform

from lmmfast import lmer, mixedlm
from lmmfast.data.design import build

contr = TRANSFORMS["contr"]


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    f = np.tile(list("abc"), 20)
    x = rng.normal(size=60)
    y = rng.normal(size=60) + x + (f == "b")
    return pd.DataFrame({"y": y, "x": x, "f": f, "g": np.repeat(list("uvwxyz"), 10)})


@pytest.mark.parametrize(
    "part", ["cr(x, df=4)", "cc(x, df=4)", "cs(x, df=4)", "hashed(f, levels=9)"]
)
def test_transforms_are_remembered(frame: pd.DataFrame, part: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        design = build(f"y ~ {part} + (1 | g)", frame)
        assert design.X.shape[1] > 2
        again = design.recipe.fixed(frame.iloc[[3, 30]])[0]
    np.testing.assert_allclose(again, design.X[[3, 30]], rtol=1e-12)


@pytest.mark.parametrize(
    ("given", "name"),
    [(contr.sum, "sum"), (contr.helmert(), "helmert"), (contr.treatment(base="b"), None)],
)
def test_contrast_objects(frame: pd.DataFrame, given: object, name: str | None) -> None:
    fit = lmer("y ~ f + (1 | g)", frame, contrasts={"f": given})
    own = lmer("y ~ f + (1 | g)", frame, contrasts={"f": name or "treatment(base='b')"})
    np.testing.assert_allclose(fit.fittedvalues, own.fittedvalues, atol=1e-8)
    if name == "sum":
        assert fit.params.index.tolist() == own.params.index.tolist()
        np.testing.assert_allclose(fit.params, own.params, rtol=1e-12)


def test_stateful_transforms_of_the_caller(frame: pd.DataFrame) -> None:
    @stateful_transform
    def less_mean(x, _state=None):
        if "mean" not in _state:
            _state["mean"] = np.mean(x)
        return x - _state["mean"]

    result = mixedlm("y ~ less_mean(x)", frame, groups="g").fit()
    np.testing.assert_allclose(result.model.exog[:, 1], frame.x - frame.x.mean())
    np.testing.assert_allclose(result.predict(frame[:5]), result.predict()[:5])
