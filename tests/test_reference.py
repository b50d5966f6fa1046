"""Every linear mixed model of the references, fitted and compared with lme4's results."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import IMPRECISE, TOLERANCE, close
from r_names import r_name
from reference_data import data, reference, reference_names, sidecar

import lmmfast

# `||` with a factor: lme4 keeps the correlations among the factor's columns, lmmfast does not.
# These are lme4's models in formulas that mean the same to both.
SAME_MODEL = {
    "Johnson__sum_ml": "response ~ focus * order + (1 | subject)"
    " + (0 + focus | subject) + (0 + order | subject)",
    "Machines__dbar_reml": "score ~ Machine + (1 | Worker) + (0 + Machine | Worker)",
    "sk2011.2__mid_reml": "response ~ instruction * inference * type + (inference | id)"
    " + (1 | content) + (0 + type | content)",
}
# Models whose covariance matrices are not identified one by one: an intercept beside a full set of
# indicator columns, and a slope of a predictor that is constant within levels (Oxide: Source, Lot).
NOT_IDENTIFIED = {*SAME_MODEL, "Oxide__source_ml"}


@dataclass(frozen=True)
class Case:
    """One reference with lmmfast's fit of the same model."""

    name: str
    wanted: dict[str, Any]
    fit: Any

    @property
    def better(self) -> float:
        """By how much lmmfast's criterion is lower than the reference's."""
        return self.wanted["criterion"] - self.fit.objective

    def close(self, found: object, wanted: object, scale: object, tolerance: float) -> None:
        """Compare with the reference, which may be imprecise."""
        close(found, wanted, scale, tolerance * (10 if self.name in IMPRECISE else 1))

    def r_name(self, name: str) -> str:
        """R's name of a column of ours."""
        return r_name(name, applied_contrasts(self.wanted))

    def r_group(self, group: str) -> str:
        """R's name of a grouping factor: for `a/b` lme4 writes "b:a" where lmmfast writes "a:b"."""
        parts = sorted(group.split(":"))
        names: list[str] = self.wanted["n_levels"]
        return next(name for name in names if sorted(factors(name)) == parts)

    def r_level(self, group: str, level: str) -> str:
        """R's label of a level of the grouping factor."""
        wanted = self.r_group(group)
        if wanted == group:
            return level
        parts = dict(zip(group.split(":"), level.split(":"), strict=True))
        return ":".join(parts[name] for name in factors(wanted))

    def need_same_optimum(self) -> None:
        """Parameters are compared where lme4 found the same optimum: so far everywhere."""
        assert self.better <= TOLERANCE.better


def factors(group: str) -> list[str]:
    """Factors of a grouping in R's order: "sp:(mp:rep)" -> ["sp", "mp", "rep"]."""
    return group.replace("(", "").replace(")", "").split(":")


def applied_contrasts(wanted: dict[str, Any]) -> dict[str, Any]:
    """Contrast facts by factor, with those that lmer's argument asked for instead."""
    facts = dict(wanted["contrasts"])
    for factor, name in wanted.get("contrasts_argument", {}).items():
        facts[factor] = {**facts[factor], "name": name}
        facts[factor]["columns"] = [str(k + 1) for k in range(len(facts[factor]["columns"]))]
    return facts


def contrasts_of(wanted: dict[str, Any]) -> dict[str, str]:
    """What has to be asked for, because R did not use its default contrast for the factor."""
    types = sidecar(wanted["dataset"])["columns"]
    asked = {}
    for factor, facts in applied_contrasts(wanted).items():
        ordered = types.get(factor, {}).get("type") == "ordered"
        if facts["name"] != ("contr.poly" if ordered else "contr.treatment"):
            asked[factor] = facts["name"].removeprefix("contr.")
    return asked


def fit_reference(name: str) -> Case:
    wanted = reference(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.LmmWarning)
        fit = lmmfast.lmer(
            SAME_MODEL.get(name, wanted["formula"]),
            data(wanted["dataset"]),
            reml=wanted["REML"],
            weights=wanted.get("weights"),
            offset=wanted.get("offset"),
            contrasts=contrasts_of(wanted) or None,
        )
    return Case(name, wanted, fit)


@pytest.fixture(scope="module", params=reference_names())
def case(request: pytest.FixtureRequest) -> Case:
    return fit_reference(request.param)


# How many references have what tests compare with, and skip where there is none.
TABLES = {
    "ranef": 117,
    "satterthwaite": 105,
    "satterthwaite_vcov_varpar": 105,
    "predictions": 78,
    "anova_typeI_satterthwaite": 77,
    "kenward_roger": 53,
    "anova_typeIII_kenward_roger": 53,
    "confint_profile": 21,
    "emmeans_satterthwaite": 8,
}


@pytest.mark.parametrize("table", TABLES)
def test_no_table_of_the_references_is_lost(table: str) -> None:
    assert sum(table in reference(name) for name in reference_names()) == TABLES[table]


def test_criterion(case: Case) -> None:
    """Never above the best optimizer's; equal to it where lme4's runs agreed."""
    assert case.fit.converged
    assert case.fit.certificate <= 1e-6
    wanted = case.wanted["criterion"]
    assert case.fit.objective <= wanted + TOLERANCE.above
    agreed = (
        abs(case.wanted.get("default_excess", 1.0)) < 1e-5 and case.wanted["spread_tight"] < 1e-5
    )
    if agreed:
        assert abs(case.fit.objective - wanted) <= TOLERANCE.criterion * max(1.0, abs(wanted))


def test_rows_and_degrees_of_freedom(case: Case) -> None:
    """Rows used, levels, AIC, BIC and the number of parameters."""
    fit, wanted = case.fit, case.wanted
    assert fit.nobs == wanted["n"]
    assert {case.r_group(name): m for name, m in fit.n_levels.items()} == wanted["n_levels"]
    assert fit.df_resid == wanted["df_residual"]
    assert fit.n_params == wanted["df_model"]
    shift = case.better if case.better > TOLERANCE.better else 0.0
    scale = max(1.0, abs(wanted["AIC"])) * TOLERANCE.criterion
    assert fit.aic == pytest.approx(wanted["AIC"] - shift, abs=scale)
    assert fit.bic == pytest.approx(wanted["BIC"] - shift, abs=scale)
    assert fit.llf == pytest.approx(wanted["logLik"] + shift / 2, abs=scale)


def test_design(case: Case) -> None:
    """The fixed-effect design is R's, column for column; the same dependent columns are dropped."""
    fit, wanted = case.fit, case.wanted
    kept = np.flatnonzero(fit.estimates.fixed_kept)
    names = [case.r_name(name) for name in fit.design.x_names]
    assert [names[k] for k in kept] == wanted["X_columns"]
    assert [name for name in names if name not in wanted["X_columns"]] == wanted["dropped_columns"]
    head = np.array(wanted["X_head"], float)
    largest = np.maximum(1.0, np.abs(fit.design.X[:, kept]).max(axis=0))
    close(fit.design.X[: len(head), kept], head, largest, TOLERANCE.design)


def test_fixed_effects(case: Case) -> None:
    """beta, standard errors and their covariance, in units of the standard error."""
    case.need_same_optimum()
    fit, wanted = case.fit, case.wanted
    kept = np.flatnonzero(fit.estimates.fixed_kept)
    se = np.array(wanted["se"])
    case.close(fit.params.to_numpy()[kept], wanted["beta"], se, TOLERANCE.beta)
    case.close(fit.bse.to_numpy()[kept], se, se, TOLERANCE.beta)
    vcov = np.atleast_2d(np.array(wanted["vcov"], float))
    case.close(
        fit.cov_params().to_numpy()[np.ix_(kept, kept)], vcov, np.outer(se, se), 2 * TOLERANCE.beta
    )


@pytest.mark.parametrize("name", sorted(IMPRECISE))
def test_imprecise_references(name: str) -> None:
    """Where the tolerance is wider, the reference's theta is further from stationary than ours."""
    case = fit_reference(name)
    assert decrement(case.fit, case.fit.theta) < 0.1 * decrement(case.fit, reference_theta(case))


def decrement(fit: Any, theta: np.ndarray) -> float:
    """Decrease of the criterion that slope and curvature predict at theta."""
    _, gradient, hessian = fit.model.objective(theta, reml=fit.reml, gradient=True, hessian=True)
    values, axes = np.linalg.eigh(hessian)
    curved = values > 1e-10 * values.max()
    return float(((axes.T @ gradient)[curved] ** 2 / values[curved]).sum() / 2)


def reference_theta(case: Case) -> np.ndarray:
    """lme4's theta with its terms in our order."""
    parts, at = {}, 0
    for term in case.wanted["terms"]:
        size = len(term["columns"]) * (len(term["columns"]) + 1) // 2
        parts[term["group"]] = case.wanted["theta"][at : at + size]
        at += size
    return np.concatenate([parts[case.r_group(term.group)] for term in case.fit.design.terms])


def spreads(case: Case) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], float]]:
    """Standard deviations by (group, R's column name): found and wanted."""
    table = case.fit.varcorr
    rows = table[table["var2"].isna() & (table["group"] != "Residual")]
    found = {
        (case.r_group(row.group), case.r_name(row.var1)): row.sdcor
        for row in rows.itertuples(index=False)
    }
    wanted = {
        (term["group"], name): sd
        for term in case.wanted["varcorr"]
        for name, sd in zip(term["names"], term["sd"], strict=True)
    }
    return found, wanted


def test_sigma_and_varcorr(case: Case) -> None:
    """sigma, and the standard deviations of the random effects where they are identified."""
    case.need_same_optimum()
    sigma = case.wanted["sigma"]
    case.close(case.fit.sigma, sigma, sigma, TOLERANCE.spread)
    found, wanted = spreads(case)
    assert set(found) == set(wanted)
    if case.name in NOT_IDENTIFIED:
        return
    values = np.array([wanted[key] for key in wanted])
    if case.wanted["isSingular_1e4"] or case.fit.is_singular:
        case.close([found[key] for key in wanted], values, sigma, TOLERANCE.spread_singular)
    else:
        case.close([found[key] for key in wanted], values, values, TOLERANCE.spread)


def test_covariance_of_rows(case: Case) -> None:
    """Covariance of the rows of one level, z Cov(b) z': identified in every model."""
    case.need_same_optimum()
    for group in {term.group for term in case.fit.design.terms}:
        terms = [k for k, term in enumerate(case.fit.design.terms) if term.group == group]
        names = [case.r_name(c) for k in terms for c in case.fit.design.terms[k].columns]
        found = _blocks([case.fit.estimates.T[k] @ case.fit.estimates.T[k].T for k in terms])
        wanted = _reference_covariance(case.wanted, case.r_group(group), names)
        z = np.hstack([case.fit.design.terms[k].z for k in terms])
        codes = case.fit.design.terms[terms[0]].codes
        for level in range(min(5, codes.max() + 1)):
            rows = z[codes == level][:40]
            same_covariance(
                case, rows @ found @ rows.T, rows @ wanted @ rows.T / case.wanted["sigma"] ** 2
            )


def same_covariance(case: Case, found: np.ndarray, wanted: np.ndarray) -> None:
    """Both in units of sigma^2; an entry is compared with what the rows' own variances allow."""
    scale = 1.0 + np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
    case.close(found, wanted, scale, TOLERANCE.spread_singular)


def _blocks(blocks: list[np.ndarray]) -> np.ndarray:
    size = sum(len(block) for block in blocks)
    out, at = np.zeros((size, size)), 0
    for block in blocks:
        out[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return out


def _reference_covariance(wanted: dict[str, Any], group: str, names: list[str]) -> np.ndarray:
    out = np.zeros((len(names), len(names)))
    for term in wanted["varcorr"]:
        if term["group"] == group:
            at = [names.index(name) for name in term["names"]]
            out[np.ix_(at, at)] = np.array(term["cov"], float).reshape(len(at), len(at))
    return out


def test_fitted_values(case: Case) -> None:
    """Fitted values and residuals, in units of sigma, at some rows and summed over all."""
    case.need_same_optimum()
    fit, wanted = case.fit, case.wanted
    sigma, n = wanted["sigma"], wanted["n"]
    rows = np.array(wanted["fitted_rows"]) - 1
    fitted, resid = np.asarray(fit.fittedvalues), np.asarray(fit.resid)
    case.close(fitted[rows], wanted["fitted"], sigma, TOLERANCE.fitted)
    case.close(resid[rows], wanted["resid"], sigma, TOLERANCE.fitted)
    case.close(fitted.sum(), wanted["fitted_sum"], n * sigma, TOLERANCE.fitted)
    case.close(resid @ resid, wanted["resid_sumsq"], wanted["resid_sumsq"], 4 * TOLERANCE.fitted)


def at_reference(
    case: Case, frames: dict[str, pd.DataFrame], factor: dict[str, Any]
) -> list[float]:
    """The numbers of ranef() at the levels and columns of one factor of the reference."""
    group = next(name for name in frames if case.r_group(name) == factor["factor"])
    frame = frames[group]
    columns = {case.r_name(str(name)): name for name in frame.columns}
    rows = {case.r_level(group, str(level)): k for k, level in enumerate(frame.index)}
    return [
        frame[columns[term]].to_numpy()[rows[level]]
        for level, term in zip(factor["level"], factor["term"], strict=True)
    ]


def test_conditional_modes(case: Case) -> None:
    """ranef() by level and column, in units of sigma."""
    case.need_same_optimum()
    if case.name in NOT_IDENTIFIED:
        pytest.skip("the split of the modes among the columns is not identified")
    modes = case.fit.ranef()
    for factor in case.wanted["ranef"]:
        found = at_reference(case, modes, factor)
        size = np.abs(factor["condval"]).max()
        case.close(found, factor["condval"], max(case.wanted["sigma"], size), 10 * TOLERANCE.fitted)


def test_conditional_deviations(case: Case) -> None:
    """ranef(cond_var=True): conditional standard deviations, in units of sigma."""
    case.need_same_optimum()
    if case.name in NOT_IDENTIFIED:
        pytest.skip("the split of the modes among the columns is not identified")
    both = case.fit.ranef(cond_var=True)
    deviations = {group: frame["condsd"] for group, frame in both.items()}
    for factor in case.wanted["ranef"]:
        if "condsd" in factor:
            found = at_reference(case, deviations, factor)
            size = max(case.wanted["sigma"], *factor["condsd"])
            case.close(found, factor["condsd"], size, TOLERANCE.deviations)


def new_rows(wanted: dict[str, Any]) -> pd.DataFrame:
    """The reference's new data with the types of the old: unseen levels only where R had them."""
    columns = {}
    for name, values in wanted["predictions"]["newdata"].items():
        facts = sidecar(wanted["dataset"])["columns"][name]
        known = set(values) <= set(facts.get("levels", ()))
        if known and facts["type"] in ("factor", "ordered"):
            columns[name] = pd.Categorical(
                values, categories=facts["levels"], ordered=facts["type"] == "ordered"
            )
        else:
            columns[name] = values
    return pd.DataFrame(columns)


def test_predictions(case: Case) -> None:
    """Known and unseen levels, with and without the random effects."""
    if "predictions" not in case.wanted:
        pytest.skip("the reference has no predictions")
    case.need_same_optimum()
    wanted, sigma = case.wanted["predictions"], case.wanted["sigma"]
    new = new_rows(case.wanted)
    found = case.fit.predict(new, new_levels="population")
    case.close(found, wanted["predict"], sigma, TOLERANCE.fitted)
    found = case.fit.predict(new, re_form="none")
    case.close(found, wanted["predict_population"], sigma, TOLERANCE.fitted)
    if wanted["grouping_columns_changed"]:
        with pytest.raises(lmmfast.DataError):
            case.fit.predict(new)


# Two models of MixedModels.jl's issue tracker ----------------------------------------------------

SADDLE = "log(AUCT) ~ trt + seq + per + (0 + trt | sub) + (0 + trt || row)"


def saddle_frame() -> pd.DataFrame:
    frame = data("saddle705")
    frame["row"] = [f"r{k}" for k in range(len(frame))]
    return frame


def starts(size: int, number: int) -> list[np.ndarray]:
    """Random points of all magnitudes from 0.01 to 10."""
    rng = np.random.default_rng(705)
    return [rng.normal(size=size) * 10.0 ** rng.uniform(-2, 1) for _ in range(number)]


@pytest.mark.parametrize("start", starts(5, 24), ids=range(24))
@pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")
def test_saddle_from_every_start(start: np.ndarray) -> None:
    """A flat ridge (the residual variance is not separately identified) and a saddle beside it."""
    fit = lmmfast.lmer(SADDLE, saddle_frame(), start=start)
    assert fit.nobs == 221
    assert fit.objective == pytest.approx(-286.16942, abs=1e-5)


def test_bioequivalence() -> None:
    """Issue 833: REML criterion 1143.3630490."""
    fit = lmmfast.lmer(
        "endpoint ~ formulation + sequence + period + (1 | id)", data("bioequivalence833")
    )
    assert fit.objective == pytest.approx(1143.3630490, abs=1e-7)
