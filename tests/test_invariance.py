"""The same model written, ordered or measured differently is the same fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TOLERANCE, close
from reference_data import data
from structures import STRUCTURES

import lmmfast
from lmmfast import LMM

FORMULA = "RTtrunc ~ 1 + S + P + C + x + (1 + P + x | subj) + (1 + S | item)"


@cache
def kb07() -> pd.DataFrame:
    """kb07 with a continuous predictor x that matters to everyone differently."""
    frame = data("kb07")
    rng = np.random.default_rng(7)
    frame["x"] = rng.normal(2.0, 3.0, len(frame))
    slopes = 40.0 + rng.normal(0, 30.0, frame["subj"].nunique())[frame["subj"].cat.codes]
    frame["RTtrunc"] = frame["RTtrunc"] + slopes * frame["x"]
    frame["w"] = rng.uniform(0.5, 2.0, len(frame))
    return frame


@cache
def base(reml: bool) -> lmmfast.LMMFit:
    return lmmfast.lmer(FORMULA, kb07(), reml=reml)


both = pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])


CODED = ["single-3-full", "single-8-full", "designed-3-4", "nested-three-crossed", "two-terms"]


@both
@pytest.mark.parametrize("name", CODED)
def test_codings_take_the_same_steps(name: str, reml: bool) -> None:
    """Other coordinates of a term's columns, other orders of levels: one way to the optimum."""
    problem = STRUCTURES[name][0]
    rng = np.random.default_rng(3)
    fits = [LMM.from_arrays(*problem.arrays).fit(reml=reml)]
    for _ in range(4):
        terms, orders = [], {}
        for term in problem.terms:
            order = orders.setdefault(term.codes.tobytes(), rng.permutation(term.levels))
            k = term.z.shape[1]
            full = np.linalg.qr(rng.normal(size=(k, k)))[0] @ np.diag(10.0 ** rng.uniform(-1, 1, k))
            z = term.z @ full if term.structure == "full" else term.z
            terms.append((order[term.codes], z, term.structure))
        y, X, _, *rest = problem.arrays
        fits.append(LMM.from_arrays(y, X, terms, *rest).fit(reml=reml))
    counts = [fit.n_evals for fit in fits]
    assert max(counts) - min(counts) <= 3
    for fit in fits:
        assert fit.converged
        assert fit.objective == pytest.approx(fits[0].objective, abs=1e-6)


def same_criterion(fit: lmmfast.LMMFit, reml: bool, jacobian: float = 0.0) -> None:
    assert fit.converged
    wanted = base(reml).objective
    assert fit.objective - jacobian == pytest.approx(wanted, rel=TOLERANCE.invariance)


def same_estimates(fit: lmmfast.LMMFit, reml: bool, order: list[str] | None = None) -> None:
    wanted = base(reml)
    names = list(wanted.params.index)
    se = wanted.bse.to_numpy()
    close(fit.params[names], wanted.params, se, TOLERANCE.beta)
    close(fit.bse[names], se, se, TOLERANCE.beta)
    close(fit.sigma, wanted.sigma, wanted.sigma, TOLERANCE.beta)
    key = ["group", "var1", "var2"]
    for (_, found), (_, expected) in zip(
        fit.varcorr.fillna("").sort_values(key).iterrows(),
        wanted.varcorr.fillna("").sort_values(key).iterrows(),
        strict=True,
    ):
        assert tuple(found[key]) == tuple(expected[key])
        assert found["sdcor"] == pytest.approx(expected["sdcor"], rel=TOLERANCE.spread, abs=1e-5)


@both
def test_row_order(reml: bool) -> None:
    frame = kb07()
    order = np.random.default_rng(1).permutation(len(frame))
    fit = lmmfast.lmer(FORMULA, frame.iloc[order], reml=reml)
    same_criterion(fit, reml)
    same_estimates(fit, reml)
    back = fit.fittedvalues.to_numpy()[np.argsort(order)]
    close(back, base(reml).fittedvalues, base(reml).sigma, TOLERANCE.fitted)


@both
def test_level_order_and_names(reml: bool) -> None:
    frame = kb07().copy()
    names = {level: f"s{k}" for k, level in enumerate(reversed(frame["subj"].cat.categories))}
    frame["subj"] = frame["subj"].map(names).astype(object)
    frame["item"] = frame["item"].cat.reorder_categories(frame["item"].cat.categories[::-1])
    fit = lmmfast.lmer(FORMULA, frame, reml=reml)
    same_criterion(fit, reml)
    same_estimates(fit, reml)
    wanted = base(reml).ranef()["subj"]
    found = fit.ranef()["subj"].loc[[names[level] for level in wanted.index]]
    close(found, wanted, base(reml).sigma, TOLERANCE.fitted)


@both
@pytest.mark.parametrize(
    "formula",
    [
        "RTtrunc ~ 1 + S + P + C + x + (1 + S | item) + (1 + P + x | subj)",
        "RTtrunc ~ x + C + P + S + (x + P | subj) + (S | item)",
        "RTtrunc ~ (S | item) + S + P + (P + x | subj) + C + x",
    ],
)
def test_term_order(formula: str, reml: bool) -> None:
    fit = lmmfast.lmer(formula, kb07(), reml=reml)
    same_criterion(fit, reml)
    names = list(base(reml).params.index)
    close(fit.params[names], base(reml).params, base(reml).bse, TOLERANCE.beta)
    close(fit.fittedvalues, base(reml).fittedvalues, base(reml).sigma, TOLERANCE.fitted)


@both
@pytest.mark.parametrize("unit", [1e6, 1e-6, -3.0])
def test_unit_of_a_predictor(unit: float, reml: bool) -> None:
    """REML's criterion contains log|X'V^-1 X|: a column in other units shifts it by 2 log|unit|."""
    frame = kb07().assign(x=kb07()["x"] * unit)
    fit = lmmfast.lmer(FORMULA, frame, reml=reml)
    same_criterion(fit, reml, 2 * np.log(abs(unit)) if reml else 0.0)
    close(fit.params["x"] * unit, base(reml).params["x"], base(reml).bse["x"], TOLERANCE.beta)
    close(fit.bse["x"] * abs(unit), base(reml).bse["x"], base(reml).bse["x"], TOLERANCE.beta)
    close(fit.fittedvalues, base(reml).fittedvalues, base(reml).sigma, TOLERANCE.fitted)


@both
@pytest.mark.parametrize("deviations", [1.0, 1e3, 1e6, -1e6])
def test_origin_of_a_predictor(deviations: float, reml: bool) -> None:
    frame = kb07()
    frame = frame.assign(x=frame["x"] + deviations * frame["x"].std())
    fit = lmmfast.lmer(FORMULA, frame, reml=reml)
    same_criterion(fit, reml)
    slopes = ["S", "P", "C", "x"]
    se = base(reml).bse[slopes]
    close(fit.params[slopes], base(reml).params[slopes], se, TOLERANCE.beta)
    close(fit.bse[slopes], se, se, TOLERANCE.beta)
    close(fit.fittedvalues, base(reml).fittedvalues, base(reml).sigma, TOLERANCE.fitted)


@both
@pytest.mark.parametrize("unit", [1e6, 1e-6])
def test_unit_of_the_response(unit: float, reml: bool) -> None:
    frame = kb07().assign(RTtrunc=kb07()["RTtrunc"] * unit)
    fit = lmmfast.lmer(FORMULA, frame, reml=reml)
    rows = fit.nobs - (len(fit.params) if reml else 0)
    same_criterion(fit, reml, 2 * rows * np.log(unit))
    close(fit.params / unit, base(reml).params, base(reml).bse, TOLERANCE.beta)
    close(fit.sigma / unit, base(reml).sigma, base(reml).sigma, TOLERANCE.beta)


@both
@pytest.mark.parametrize("shift", [1e9, -1e6 * 1000.0, 123.0])
def test_origin_of_the_response(shift: float, reml: bool) -> None:
    frame = kb07().assign(RTtrunc=kb07()["RTtrunc"] + shift)
    fit = lmmfast.lmer(FORMULA, frame, reml=reml)
    same_criterion(fit, reml)
    slopes = ["S", "P", "C", "x"]
    close(fit.params[slopes], base(reml).params[slopes], base(reml).bse[slopes], TOLERANCE.beta)
    close(fit.bse, base(reml).bse, base(reml).bse, TOLERANCE.beta)


@both
@pytest.mark.parametrize("factor", [1e6, 1e-6, 17.0, 1e40, 1e-40])
def test_weights_times_a_constant(factor: float, reml: bool) -> None:
    """sigma^2 is the variance of a row with weight 1: it takes the constant, nothing else moves."""
    frame = kb07().assign(v=kb07()["w"] * factor)
    one = lmmfast.lmer(FORMULA, frame, reml=reml, weights="w")
    other = lmmfast.lmer(FORMULA, frame, reml=reml, weights="v")
    assert other.objective == pytest.approx(one.objective, rel=TOLERANCE.invariance)
    close(other.params, one.params, one.bse, TOLERANCE.beta)
    close(other.bse, one.bse, one.bse, TOLERANCE.beta)
    assert other.sigma == pytest.approx(one.sigma * np.sqrt(factor), rel=TOLERANCE.beta)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("factor", [1e40, 1e-40])
def test_rounding_is_no_variance_whatever_the_unit_of_the_weights(
    factor: float, streamed: bool
) -> None:
    frame = kb07().assign(v=kb07()["w"] * factor)
    frame["RTtrunc"] = 1 / 3 + 2 / 7 * frame["x"]
    with pytest.raises(lmmfast.FitError, match="no residual variance is left"):
        lmmfast.lmer(FORMULA, [frame] if streamed else frame, weights="v")


def test_weights_of_any_unit_in_a_stream() -> None:
    frame = kb07().assign(v=kb07()["w"] * 1e-40)
    one = lmmfast.lmer(FORMULA, [frame], weights="w")
    other = lmmfast.lmer(FORMULA, [frame], weights="v")
    close(other.params, one.params, one.bse, TOLERANCE.beta)
    assert other.sigma == pytest.approx(one.sigma * 1e-20, rel=TOLERANCE.beta)


def test_a_response_near_the_end_of_the_range_of_numbers() -> None:
    """Its sum is infinite: that is no statement about its residuals."""
    huge = kb07().assign(RTtrunc=kb07()["RTtrunc"] * (1e307 / kb07()["RTtrunc"].max()))
    with pytest.raises(lmmfast.FitError, match="too large or too small") as caught:
        lmmfast.lmer(FORMULA, huge)
    assert caught.value.variable == "RTtrunc"
    with pytest.raises(lmmfast.FitError, match="too large or too small"):
        base(True).refit(huge["RTtrunc"])


@both
def test_unit_weights_and_zero_offset_change_nothing(reml: bool) -> None:
    frame = kb07()
    n = len(frame)
    fit = lmmfast.lmer(FORMULA, frame, reml=reml, weights=np.ones(n), offset=np.zeros(n))
    same_criterion(fit, reml)
    same_estimates(fit, reml)


SCRIPT = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
import lmmfast
from test_invariance import FORMULA, kb07
fit = lmmfast.lmer(FORMULA, kb07())
print(json.dumps([fit.objective, *fit.params, *fit.bse]))
"""


def fit_with_threads(number: int) -> np.ndarray:
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    folder = str(Path(__file__).resolve().parent)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([folder, *sys.path])],
        env={**os.environ, **dict.fromkeys(names, str(number))},
        capture_output=True,
        text=True,
        check=True,
    )
    return np.array(json.loads(done.stdout))


def test_thread_count() -> None:
    one, two = fit_with_threads(1), fit_with_threads(2)
    assert two[0] == pytest.approx(one[0], rel=TOLERANCE.invariance)
    close(two, one, np.abs(one), TOLERANCE.beta)
