"""Residual structures by definition: tests of fixed effects, beside other terms, streams."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import seldom
from dense_residual import Dense
from test_residual_structures import dense_of, fitted

from lmmfast import LMMFit, lmer, load, mmrm
from lmmfast.errors import DataError


@cache
def frame() -> pd.DataFrame:
    """Subjects with gaps in clinics, crossed items."""
    rng = np.random.default_rng(3)
    subject = np.repeat(np.arange(30), rng.integers(2, 6, 30))
    n = len(subject)
    time = np.concatenate([np.sort(rng.choice(5, k, replace=False)) for k in np.bincount(subject)])
    treated = (subject % 2).astype(float)
    e = rng.normal(size=n) * (1 + 0.8 * (time > 2))
    slopes = 0.3 + 0.5 * rng.normal(size=30)
    item = rng.integers(0, 8, n)
    y = 1 + slopes[subject] * time + 0.5 * treated + rng.normal(size=30)[subject] + e
    y += 1.5 * rng.normal(size=6)[subject // 5] + 1.5 * rng.normal(size=8)[item]
    return pd.DataFrame(
        {
            "y": y,
            "time": time,
            "treated": treated,
            "subject": [f"s{i:02d}" for i in subject],
            "clinic": [f"c{i // 5}" for i in subject],
            "item": [f"i{i}" for i in item],
            "half": np.where(rng.random(n) < 0.5, "a", "b"),
            "x": rng.normal(size=n) + 3,
            "w": rng.uniform(0.5, 2, n),
            "visit": pd.Categorical([f"v{t:.0f}" for t in time]),
        }
    )


FITS: dict[str, tuple[str, dict[str, Any]]] = {
    "strata, crossed": (
        "y ~ time + treated + (1 | subject) + (1 | item)",
        {"dispersion": "~ half"},
    ),
    "column, slopes": ("y ~ time + treated + (time | subject)", {"dispersion": "exp(x)"}),
    "ar1, nested": (
        "y ~ time + treated + (1 | clinic)",
        {"residual": "ar1(time | subject)", "weights": "w"},
    ),
    "strata and ar1": (
        "y ~ time + treated + (1 | subject)",
        {"residual": "ar1(time | subject)", "dispersion": "~ half"},
    ),
    "column and cs": (
        "y ~ time + treated + (1 | clinic)",
        {"residual": "cs(time | subject)", "dispersion": "power(x)"},
    ),
    "ante": ("y ~ time * treated + (1 | clinic)", {"residual": "ante(time | subject)"}),
    "strata and car1": (
        "y ~ time + treated + (1 | clinic)",
        {"residual": "car1(time | subject)", "dispersion": "~ half"},
    ),
}


@cache
def made(name: str) -> LMMFit:
    formula, how = FITS[name]
    return lmer(formula, frame(), **how)


# Second differences in the many parameters of antedependence take as long as all the others
@pytest.mark.parametrize(
    ("name", "observed"),
    [
        pytest.param(*case, marks=pytest.mark.slow if case == ("ante", True) else ())
        for case in product(FITS, (False, True))
    ],
)
def test_kenward_roger_is_that_of_the_definition(name: str, observed: bool) -> None:
    fit = made(name)
    own, psi = dense_of(fit)
    compare(fit, own.kenward(own.entries(psi), np.eye(len(fit.params)), observed), observed)


def compare(fit: LMMFit, expected: tuple[np.ndarray, np.ndarray], observed: bool) -> None:
    vcov, df = expected
    table = fit.t_test(np.eye(len(df)), ddf="kr-observed" if observed else "kr")
    np.testing.assert_allclose(table.sd, np.sqrt(vcov.diagonal()), rtol=3e-6)
    np.testing.assert_allclose(table.df_denom, df, rtol=3e-5)


@pytest.mark.parametrize("name", ["orthodont_varident_reml", "sleepstudy_corar1_reml"])
def test_kenward_roger_of_the_references(name: str) -> None:
    fit = fitted(name)
    own, psi = dense_of(fit)
    compare(fit, own.kenward(own.entries(psi), np.eye(len(fit.params)), False), False)


@pytest.mark.parametrize("name", seldom(FITS, ["ante"]))
def test_satterthwaite_is_that_of_the_definition(name: str) -> None:
    fit = made(name)
    if (fit.theta == 0).any():  # differences of the definition cross the boundary
        pytest.skip("singular")
    own, psi = dense_of(fit)
    np.testing.assert_allclose(fit.df, own.satterthwaite(psi, np.eye(len(fit.params))), rtol=5e-3)


# ---- beside structured and related terms ---------------------------------------------------------

STRUCTURED: dict[str, tuple[str, dict[str, Any]]] = {
    "ar1 and strata": ("y ~ time + treated + ar1(0 + visit | subject)", {"dispersion": "~ half"}),
    "cs beside ar1": (
        "y ~ time + treated + cs(1 + time | clinic)",
        {"residual": "ar1(time | subject)"},
    ),
    "diag, and both": (
        "y ~ time + treated + diag(1 + time | subject, hom = TRUE) + (1 | clinic)",
        {"residual": "car1(time | subject)", "dispersion": "exp(x)"},
    ),
}


@cache
def structured(name: str) -> tuple[LMMFit, Dense, np.ndarray, Any]:
    """A fit, its definition, its parameters, and how these are theta and delta."""
    formula, how = STRUCTURED[name]
    fit = lmer(formula, frame(), **how)
    own, _ = dense_of(fit)
    phi, delta, model = fit.estimates.phi, fit.estimates.delta, fit.model.structured
    assert phi is not None and delta is not None and model is not None

    def psi(z: np.ndarray) -> np.ndarray:
        return np.concatenate([model.theta(z[: len(phi)]), z[len(phi) :]])

    return fit, own, np.concatenate([phi, delta]), psi


@pytest.mark.parametrize("name", STRUCTURED)
def test_beside_structured_terms(name: str) -> None:
    fit, own, z, psi = structured(name)
    assert fit.converged
    assert fit.objective == pytest.approx(own.objective(psi(z)), abs=1e-8)
    slope = [own.objective(psi(z + h)) - own.objective(psi(z - h)) for h in 1e-4 * np.eye(len(z))]
    at_bound = (fit.parameters()["status"] != "").any()
    if not at_bound:
        np.testing.assert_allclose(np.array(slope) / 2e-4, 0, atol=2e-4)
    assert fit.n_params == len(z) + 1 + len(fit.params)
    assert fit.residual_parameters["se"].notna().all()


@pytest.mark.parametrize("name", STRUCTURED)
def test_tests_beside_structured_terms(name: str) -> None:
    fit, own, z, psi = structured(name)
    if (fit.parameters()["status"] != "").any():
        pytest.skip("at a bound")
    for observed in (False, True):
        expected = own.kenward(
            z, np.eye(3), observed, lambda at: own.covariance(own.entries(psi(at)))
        )
        compare(fit, expected, observed)


@pytest.mark.parametrize("how", [{"dispersion": "~ half"}, {"residual": "ar1(time | subject)"}])
def test_beside_related_levels(how: dict[str, Any]) -> None:
    data, rng = frame(), np.random.default_rng(4)
    names = sorted(data["subject"].unique())
    A = rng.normal(size=(30, 45))
    K = A @ A.T / 90 + 0.5 * np.eye(30)
    codes = np.searchsorted(names, data["subject"])
    data = data.assign(y=data["y"] + 2 * (np.linalg.cholesky(K) @ rng.normal(size=30))[codes])
    related = {"subject": pd.DataFrame(K, index=names, columns=names)}
    fit = lmer("y ~ time + treated + (1 | subject)", data, relationship=related, **how)
    own, psi = dense_of(fit)
    own = replace(own, relations=(K,))
    assert fit.objective == pytest.approx(own.objective(psi), abs=1e-8)
    np.testing.assert_allclose(own.gradient(psi), 0, atol=1e-4)
    np.testing.assert_allclose(fit.df, own.satterthwaite(psi, np.eye(3)), rtol=5e-3)
    for observed in (False, True):
        compare(fit, own.kenward(own.entries(psi), np.eye(3), observed), observed)


# ---- strata of streams ---------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, "w"])
def test_strata_of_streams_are_those_of_rows(weights: str | None) -> None:
    data = frame().assign(half=lambda d: d["half"].where(d.index != 5))
    formula = "y ~ time + treated + (1 | subject) + (1 | item)"
    how: dict[str, Any] = {"dispersion": "~ half", "weights": weights}
    rows, stream = lmer(formula, data, **how), lmer(formula, [data[:37], data[37:]], **how)
    assert stream.nobs == len(data) - 1
    assert stream.design.dropped == {"half": 1}
    assert stream.objective == pytest.approx(rows.objective, abs=1e-9)
    np.testing.assert_allclose(stream.params, rows.params, rtol=1e-7)
    np.testing.assert_allclose(stream.residual_parameters, rows.residual_parameters, rtol=1e-6)
    for ddf in ("satterthwaite", "kr"):
        one, two = (fit.t_test(np.eye(3), ddf=ddf) for fit in (stream, rows))
        np.testing.assert_allclose(one.df_denom, two.df_denom, rtol=1e-5)
    with pytest.raises(DataError, match="not in memory"):
        stream.residual_sd  # noqa: B018


def test_strata_of_streams_need_rows() -> None:
    data = frame().assign(alone=lambda d: np.where(d.index == 40, "b", "a"))
    with pytest.raises(DataError, match="only one row"):
        lmer("y ~ time + (1 | subject)", [data[:37], data[37:]], dispersion="~ alone")


# ---- the same model for repeated measures --------------------------------------------------------

REPEATED = [
    ("cs", "cs(AVISIT | USUBJID)", None),
    ("ar1", "ar1(AVISIT | USUBJID)", None),
    ("ar1h", "ar1(AVISIT | USUBJID)", "~ AVISIT"),
    ("ad", "ante(AVISIT | USUBJID)", None),
    ("adh", "ante(AVISIT | USUBJID)", "~ AVISIT"),
]


@pytest.mark.parametrize(("structure", "residual", "dispersion"), REPEATED)
def test_without_random_effects_it_is_mmrm(
    structure: str, residual: str, dispersion: str | None
) -> None:
    """SAS's and mmrm's degrees of freedom: `mmrm` reproduces what these publish."""
    data = pd.read_csv(Path(__file__).parent / "reference" / "mmrm" / "fev.csv.gz")
    fixed = "FEV1 ~ RACE + SEX + ARMCD * AVISIT"
    more: dict[str, Any] = {"residual": residual, "dispersion": dispersion}
    fit = lmer(f"{fixed} + (1 | USUBJID)", data, fixed={"theta": [0]}, **more)
    other = mmrm(f"{fixed} + {structure}(AVISIT | USUBJID)", data)
    assert fit.objective == pytest.approx(other.objective, abs=1e-8)
    L = np.eye(len(fit.params))
    for mine, theirs in (("kr-observed", "kr-linear"), ("satterthwaite", "satterthwaite")):
        one, two = fit.t_test(L, ddf=mine), other.t_test(L, ddf=theirs)
        np.testing.assert_allclose(one.sd, two.sd, rtol=1e-6)
        np.testing.assert_allclose(one.df_denom, two.df_denom, rtol=1e-6)


@pytest.mark.parametrize("name", ["strata and ar1", "cs beside ar1"])
def test_fits_without_their_data_keep_what_tests_need(name: str, tmp_path: Path) -> None:
    fit = made(name) if name in FITS else structured(name)[0]
    fit.save(tmp_path / "m.lmm", data=False, ddf=["satterthwaite", "kenward-roger"])
    again, L = load(tmp_path / "m.lmm"), np.eye(3)
    for ddf in ("satterthwaite", "kr"):
        one, two = again.t_test(L, ddf=ddf), fit.t_test(L, ddf=ddf)
        np.testing.assert_allclose(one.df_denom, two.df_denom, rtol=1e-9)
        np.testing.assert_allclose(one.sd, two.sd, rtol=1e-12)


@pytest.mark.parametrize("weights", [None, "w"])
def test_strata_of_dask_frames(weights: str | None) -> None:
    frames = pytest.importorskip("dask.dataframe")
    data = frame()
    formula = "y ~ time + treated + (1 | subject) + (1 | item)"
    how: dict[str, Any] = {"dispersion": "~ half:treated", "weights": weights}
    rows = lmer(formula, data, **how)
    stream = lmer(formula, frames.from_pandas(data, npartitions=11), **how)
    assert stream.objective == pytest.approx(rows.objective, abs=1e-8)
    np.testing.assert_allclose(stream.residual_parameters, rows.residual_parameters, rtol=1e-5)
    with pytest.raises(DataError, match="rows in memory"):
        lmer(formula, frames.from_pandas(data, npartitions=2), dispersion="exp(x)")


def test_a_range_of_zero_is_left_out() -> None:
    """Residuals that alternate have no positive correlation: those of the fit are independent."""
    data = frame()
    data["y"] += 8 * (data.groupby("subject").cumcount() % 2)
    plain = lmer("y ~ time + treated + (1 | subject)", data)
    fit = lmer("y ~ time + treated + (1 | subject)", data, residual="car1(time | subject)")
    assert fit.objective == pytest.approx(plain.objective, abs=1e-4)
    for ddf in ("kr", "kr-observed", "satterthwaite"):
        one, two = (which.t_test(np.eye(3), ddf=ddf) for which in (fit, plain))
        np.testing.assert_allclose(one.sd, two.sd, rtol=1e-3)
        np.testing.assert_allclose(one.df_denom, two.df_denom, rtol=1e-3)
