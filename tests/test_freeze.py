"""Arrays of a fit cannot be changed, whichever way one comes to them."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lmmfast import LMM, LMMFit, datasets, lmer, mixedlm
from lmmfast.formula.column import Column


def arrays_in(value: Any, path: str = "fit", seen: set[int] | None = None) -> Iterator[Any]:
    """Every array that attributes, tuples and dicts lead to, with its path."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        yield path, value
    elif isinstance(value, (tuple, list)):
        for i, part in enumerate(value):
            yield from arrays_in(part, f"{path}[{i}]", seen)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from arrays_in(part, f"{path}[{key!r}]", seen)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from arrays_in(getattr(value, field.name), f"{path}.{field.name}", seen)
    elif isinstance(value, LMM):
        yield from arrays_in(value.design, f"{path}.design", seen)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return datasets.load("cake").assign(w=np.tile([1.0, 2.0, 1.5], 90))


@pytest.fixture(scope="module")
def fit(frame) -> LMMFit:
    return lmer("angle ~ recipe * temp + (temp | recipe:replicate)", frame, weights="w")


COPIES = {
    "itself": lambda fit: fit,
    "pickled": lambda fit: pickle.loads(pickle.dumps(fit)),
    "copied": copy.copy,
    "copied deeply": copy.deepcopy,
    "refitted": lambda fit: fit.refit(fit.design.y + np.arange(fit.nobs) % 7),
    "at theta": lambda fit: fit.model.at(fit.theta),
}


@pytest.mark.parametrize("way", COPIES)
def test_every_array_is_read_only(fit, way):
    own = COPIES[way](fit)
    found = dict(arrays_in(own))
    for name in ("theta", "beta", "vcov", "T[0]", "b[0]", "fixed_kept"):
        assert f"fit.estimates.{name}" in found
    factor = "fixed.parts[1][0]"  # codes, and what they mean
    for name in (f"{factor}[0]", f"{factor}[1]", "fixed.parts[3][0]", "terms[0].source.level"):
        assert f"fit.design.{name}" in found
    for name in ("sums.y", "sums.weights", "terms[0].levels"):
        assert f"fit.design.{name}" in found
    design, term = own.design, own.design.terms[0]
    shown = (design.y, design.X, design.weights, design.rows, term.codes, term.z)
    assert not any(array.flags.writeable for array in shown)
    writeable = [path for path, array in found.items() if array.flags.writeable]
    assert not writeable
    assert own.llf == pytest.approx(fit.llf, abs=1e-6) or way == "refitted"


def test_a_pickle_does_not_depend_on_what_was_asked(frame):
    """Numbers, design and model: results are computed again, and are the same."""
    own = lmer("angle ~ recipe * temp + (temp | recipe:replicate)", frame, weights="w")
    before = pickle.dumps(own)
    text, modes, fitted = str(own.summary()), own.point.b, own.fittedvalues
    again = pickle.loads(pickle.dumps(own))
    assert len(pickle.dumps(own)) == len(before)
    assert set(vars(again)) == {"estimates", "design", "model"}
    assert str(again.summary()) == text
    np.testing.assert_allclose(again.point.b[0], modes[0], rtol=1e-12)
    pd.testing.assert_series_equal(again.fittedvalues, fitted)


def test_what_is_computed_later_does_not_change(fit):
    before = fit.df.copy()
    for array in (fit.theta, fit.estimates.beta, fit.weights, fit.design.X):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9
    pd.testing.assert_series_equal(fit.df, before)
    changed = fit.theta.copy()
    changed[0] = 9.0  # a copy is the user's


def test_tables_are_copies(fit):
    for name in ("params", "bse", "tvalues", "resid", "fittedvalues"):
        table = getattr(fit, name)
        table.iloc[0] = 99.0
        assert getattr(fit, name).iloc[0] != 99.0
    covariance = fit.cov_params()
    covariance.iloc[0, 0] = 99.0
    assert fit.cov_params().iloc[0, 0] != 99.0
    for group, frame in fit.ranef().items():
        frame.iloc[0, 0] = 99.0
        assert fit.ranef()[group].iloc[0, 0] != 99.0


def test_arrays_of_the_user_stay_writeable(frame):
    y = frame["angle"].to_numpy(dtype=float, copy=True)
    X = np.asfortranarray(np.column_stack([np.ones(270), frame["temp"]]))
    codes = (np.arange(270) % 15).astype(np.int32)
    z = np.ones((270, 1))
    weights, levels = np.ones(270), np.arange(15)
    model = LMM.from_arrays(y, X, [(codes, z)], weights, np.zeros(270))
    assert not any(array.flags.writeable for _, array in arrays_in(model))
    columns = {"y": y, "x": X[:, 1].copy(), "g": codes, "w": weights}
    lmer("y ~ x + (1 | g)", columns, weights=weights)
    categories = pd.Categorical.from_codes(codes, levels)
    lmer("y ~ x + (1 | g)", {**columns, "g": categories}, weights="w")
    for array in (y, X, codes, z, weights, levels, *columns.values()):
        assert array.flags.writeable
    assert list(categories.categories) == list(levels)
    assert categories.categories.get_loc(3) == 3


def test_a_response_that_was_refitted_stays_the_users(fit):
    y, w = fit.design.y + 1, np.linspace(1, 2, fit.nobs)
    again = fit.refit(y, weights=w)
    wanted = y.copy(), w.copy()
    y[:], w[:] = 0, 0
    np.testing.assert_array_equal(again.design.y, wanted[0])
    np.testing.assert_array_equal(again.weights, wanted[1])


def test_singular_directions(frame):
    flat = lmer("y ~ 1 + (1 | g)", {"y": np.tile([1.0, 2, 3, 4.5], 9), "g": np.repeat(range(9), 4)})
    assert flat.is_singular
    assert not any(array.flags.writeable for _, array in arrays_in(flat.estimates))


def test_streams(frame):
    fit = lmer("angle ~ temp + (1 | recipe)", [frame[:100], frame[100:]])
    found = dict(arrays_in(pickle.loads(pickle.dumps(fit)).estimates))
    assert found
    assert not any(array.flags.writeable for array in found.values())


def test_columns_in_variables(fit):
    assert isinstance(fit.design.variables["temp"], Column)
    with pytest.raises(ValueError, match="read-only"):
        fit.design.variables["temp"].values[0] = 1


def test_statsmodels_interface(frame):
    result = mixedlm("angle ~ temp", frame, groups="recipe").fit()
    for name in ("params", "tvalues", "bse"):
        table = getattr(result, name)
        table.iloc[0] = 99.0
        assert getattr(result, name).iloc[0] != 99.0
    with pytest.raises(ValueError, match="read-only"):
        result.model.exog[0, 0] = 5
