"""Fits for repeated measures that are made again: another structure, other data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lmmfast import FitError, extend, mmrm, pb_test, power, ranova


def trial(seed=1, n=40):
    rng = np.random.default_rng(seed)
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 4), "visit": np.tile(np.arange(4), n)})
    data["arm"] = np.where(data["id"] % 2, "b", "a")
    data["w"] = rng.uniform(0.5, 2, len(data))
    data["y"] = rng.normal(size=n)[data["id"]] + rng.normal(size=len(data))
    return data


def test_an_update_has_the_weights_and_contrasts_of_its_fit():
    data = trial()
    how = {"weights": "w", "contrasts": {"arm": "sum"}}
    fit = mmrm("y ~ arm + us(visit | id)", data, **how)
    new = fit.update("y ~ arm + ar1h(visit | id)")
    whole = mmrm("y ~ arm + ar1h(visit | id)", data, **how)
    assert new.structure == "ar1h"
    assert list(new.params.index) == ["Intercept", "arm[S.a]"]
    assert new.objective == pytest.approx(whole.objective, abs=1e-9)
    pd.testing.assert_series_equal(new.params, whole.params)


def test_an_update_by_another_criterion_or_with_other_data():
    data, other = trial(), trial(2)
    fit = mmrm("y ~ arm + ar1(visit | id)", data)
    assert fit.update(reml=False).objective == pytest.approx(
        mmrm("y ~ arm + ar1(visit | id)", data, reml=False).objective, abs=1e-9
    )
    assert fit.update(data=other).objective == pytest.approx(
        mmrm("y ~ arm + ar1(visit | id)", other).objective, abs=1e-9
    )


def test_an_update_without_data_says_so():
    import pickle

    fit = pickle.loads(pickle.dumps(mmrm("y ~ arm + ar1(visit | id)", trial())))
    with pytest.raises(FitError, match="give them"):
        fit.update("y ~ arm + us(visit | id)")


def test_what_is_for_random_effects_says_so():
    """Its formula would be read as that of a mixed model whose random term is the covariance."""
    fit = mmrm("y ~ arm + us(visit | id)", trial())
    smaller = fit.update(". ~ . - arm")
    for asked in (
        lambda: power(fit, test="arm", n=2),
        lambda: extend(fit, along="id", to=60),
        lambda: pb_test(smaller, fit, n=2),
        lambda: ranova(fit),
    ):
        with pytest.raises(FitError, match="is for models with random effects"):
            asked()
