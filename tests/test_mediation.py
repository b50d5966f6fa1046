"""statsmodels' `Mediation` of two mixed models, beside statsmodels' own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import seldom

pytest.importorskip("statsmodels.stats.mediation")


@cache
def trial() -> pd.DataFrame:
    """A treatment t, a mediator m and an outcome y of 40 groups, with 9 raters."""
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(40), 10)
    t, u = rng.integers(0, 2, 400).astype(float), rng.normal(size=40)[g]
    rater, age = rng.integers(0, 9, 400), rng.normal(size=400)
    v = rng.normal(0, 0.6, 9)[rater]
    m = 0.5 * t + 0.5 * u + v + rng.normal(size=400)
    y = 0.3 * t + 0.7 * m + u + v + rng.normal(size=400)
    return pd.DataFrame({"y": y, "m": m, "t": t, "g": g, "age": age, "rater": rater, "one": 1})


def _mediated(module: Any, outcome: dict[str, Any], mediator: dict[str, Any]) -> Any:
    data = outcome.pop("data", trial())
    make = module.MixedLM.from_formula
    models = (
        make(asked.pop("formula"), data, **{"groups": "g", **asked})
        for asked in (outcome, mediator)
    )
    return *models, "t", "m"


def _of_arrays(module: Any, framed: bool) -> Any:
    d = trial().assign(const=1.0)
    X, y, m, g = d[["const", "t", "m"]], d.y, d.m, d.g
    if not framed:
        X, y, m, g = (own.to_numpy() for own in (X, y, m, g))
    first_two = X[["const", "t"]] if framed else X[:, :2]
    return module.MixedLM(y, X, groups=g), module.MixedLM(m, first_two, groups=g), [1, 1], 2


CROSSED = {"groups": "one", "vc_formula": {"g": "0 + C(g)", "rater": "0 + C(rater)"}}
MEDIATED: dict[str, Callable[[Any], Any]] = {
    "intercepts": lambda M: _mediated(M, {"formula": "y ~ t + m"}, {"formula": "m ~ t"}),
    "interactions": lambda M: _mediated(M, {"formula": "y ~ t * m"}, {"formula": "m ~ t + age"}),
    "slopes": lambda M: _mediated(
        M, {"formula": "y ~ t + m", "re_formula": "~t"}, {"formula": "m ~ t"}
    ),
    "components": lambda M: _mediated(
        M, {"formula": "y ~ t + m", **CROSSED}, {"formula": "m ~ t"}
    ),
    "arrays": lambda M: _of_arrays(M, False),
    "frames": lambda M: _of_arrays(M, True),
}  # fmt: skip


def _summary(models: tuple[Any, ...], method: str = "parametric", **asked: Any) -> pd.DataFrame:
    from statsmodels.stats.mediation import Mediation

    how = {"n_rep": 16, "rng": 1, **asked}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (
            Mediation(*models, moderators=how.pop("moderators", None)).fit(method, **how).summary()
        )


# statsmodels fits each 32 times, for seconds: the others are slow
@pytest.mark.parametrize("name", seldom(MEDIATED, ["slopes", "interactions", "frames"]))
def test_mediation_is_statsmodels(name: str) -> None:
    import statsmodels.regression.mixed_linear_model as theirs

    import lmmfast.sm.model as ours

    wanted, found = (_summary(MEDIATED[name](module)) for module in (theirs, ours))
    assert list(found.index) == list(wanted.index)
    effects = ["ACME (average)", "ADE (average)", "Total effect"]
    width = (wanted["Upper CI bound"] - wanted["Lower CI bound"])[effects]
    # means of 16 draws: their own error is a quarter of a standard deviation, an interval four
    assert (np.abs(found["Estimate"] - wanted["Estimate"])[effects] < width / 4).all()
    # the product of coefficients, where nothing interacts
    if name != "interactions":
        a, b = (model.fit() for model in MEDIATED[name](ours)[1::-1])
        product = np.asarray(a.fe_params)[1] * np.asarray(b.fe_params)[2]
        assert abs(found.loc["ACME (average)", "Estimate"] - product) < width.iloc[0] / 4


def test_mediation_with_missing_values() -> None:
    """The same draws as of the rows that are complete."""
    import lmmfast.sm.model as ours

    data = trial().assign(m=trial().m.mask(trial().index % 50 == 3))
    outcome, mediator = {"formula": "y ~ t + m"}, {"formula": "m ~ t", "missing": "drop"}
    found = _summary(_mediated(ours, {**outcome, "missing": "drop", "data": data}, dict(mediator)))
    wanted = _summary(_mediated(ours, {**outcome, "data": data.dropna()}, dict(mediator)))
    pd.testing.assert_frame_equal(found, wanted)


def test_mediation_of_a_crossed_mediator() -> None:
    """statsmodels itself cannot draw these."""
    import lmmfast.sm.model as ours

    models = _mediated(ours, {"formula": "y ~ t + m"}, {"formula": "m ~ t", **CROSSED})
    found = _summary(models)
    assert 0.1 < found.loc["ACME (average)", "Estimate"] < 0.6
    assert np.isfinite(found.to_numpy()).all()


def test_moderated_mediation() -> None:
    import statsmodels.regression.mixed_linear_model as theirs

    import lmmfast.sm.model as ours

    asked = {"formula": "y ~ t * age + m"}, {"formula": "m ~ t * age"}
    wanted, found = (
        _summary(_mediated(M, *map(dict, asked)), moderators={"age": 2.0}, n_rep=16)
        for M in (theirs, ours)
    )
    width = wanted["Upper CI bound"] - wanted["Lower CI bound"]
    effects = ["ACME (average)", "ADE (average)", "Total effect"]
    assert (np.abs(found["Estimate"] - wanted["Estimate"])[effects] < width[effects] / 3).all()


def test_mediation_by_bootstrap() -> None:
    import lmmfast.sm.model as ours

    found = _summary(MEDIATED["intercepts"](ours), "bootstrap", n_rep=10)
    assert np.isfinite(found.to_numpy()).all()
