"""Tables of tests against lmerTest's and lme4's, and against what defines them.

Numbers in this file are from R 4.2.2 with lme4 1.1-31, lmerTest 3.1-3 and pbkrtest 0.5.2.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import close
from reference_data import data, reference, reference_names
from scipy.stats import chi2
from test_reference import fit_reference

import lmmfast
from lmmfast import LMM, DataError, FitError, LMMFit, anova, drop1, lmer, ranova
from lmmfast.inference.hypotheses.estimable import effects_of
from lmmfast.inference.hypotheses.nesting import nesting

F = 1e-5  # relative: lmerTest's contrasts are rounded to 1e-8
DENOMINATOR = 1e-4  # relative: lmerTest differentiates numerically
RATIO = 1e-7  # of likelihood ratios and criteria, relative to the criterion
SAME = 1e-8  # relative: one model in several codings

LARGE = 20_000  # rows; references above that are slow


@cache
def sleep(formula: str = "Reaction ~ Days + (Days | Subject)", reml: bool = True) -> LMMFit:
    return lmer(formula, data("sleepstudy"), reml=reml)


def same_tests(table: pd.DataFrame, wanted: list[tuple[str, int, float, float]]) -> None:
    labels, df, f, denominator = (list(column) for column in zip(*wanted, strict=True))
    assert list(table.index) == labels
    assert table["NumDF"].to_list() == df
    close(table["F value"], f, np.maximum(f, 0.01), F)
    close(table["DenDF"], denominator, denominator, DENOMINATOR)


# ---- terms: references ---------------------------------------------------------------------------

TYPES = {"typeI": 1, "typeII": 2, "typeIII": 3}
tables = [name for name in reference_names() if any("anova" in key for key in reference(name))]
with_tables = [
    pytest.param(name, marks=pytest.mark.slow) if reference(name)["n"] > LARGE else name
    for name in tables
]


@pytest.mark.parametrize("name", with_tables)
def test_references(name: str) -> None:
    """Every table of lmerTest: types I, II and III, Satterthwaite and Kenward-Roger."""
    case = fit_reference(name)
    for key in (key for key in case.wanted if key.startswith("anova_type")):
        _, kind, ddf = key.split("_", 2)
        made = anova(case.fit, type=TYPES[kind], ddf=ddf.replace("_", "-"))
        same_table(name, made.table, case.wanted[key])


def same_table(name: str, table: pd.DataFrame, wanted: dict[str, Any]) -> None:
    labels = [label.strip() for label in np.atleast_1d(wanted.get("rows", []))]
    assert list(table.index) == labels
    tolerances = {"Sum Sq": F, "Mean Sq": F, "NumDF": 0, "DenDF": DENOMINATOR, "F value": F}
    untold = name == "cake__rankdef_reml"  # see test_terms_that_cannot_be_told_apart
    tested = ~(table["F value"].isna().to_numpy() & untold)
    for column, tolerance in tolerances.items():
        values = np.atleast_1d(np.array(wanted.get(column, []), float))[tested]
        close(table[column].to_numpy()[tested], values, np.abs(values), tolerance)
    p = np.atleast_1d(np.array(wanted.get("Pr(>F)", []), float))[tested]
    close(table["Pr(>F)"].to_numpy()[tested], p, np.maximum(p, 1e-300) + 1e-12, 1e-3)


def test_terms_that_cannot_be_told_apart() -> None:
    """lmerTest tests `temp` beside the factor of the same temperatures, in a way that depends on
    which column was dropped; nothing about it can be estimated given the factor."""
    fit = fit_reference("cake__rankdef_reml").fit
    for kind in (2, 3):
        made = anova(fit, type=kind)
        row = made.table.loc["temp"]
        assert row["NumDF"] == 0 and row.drop("NumDF").isna().all()
        assert "temp cannot be told from the other terms" in made.notes[0]
        assert "temperature: only 4 of its 5 columns can be tested" in made.notes
    assert anova(fit, type=1).table["NumDF"].to_list() == [2, 1, 4]
    assert anova(fit, ddf="z").table.loc["temp", "Df"] == 0
    dropped = drop1(fit)
    assert np.isnan(dropped.table.loc["temp", "F value"])
    assert np.isnan(drop1(fit, test="Chisq").table.loc["temp", "Pr(Chi)"])


# ---- terms: empty cells, unbalanced data, nesting ------------------------------------------------


def cake_with_empty_cells() -> pd.DataFrame:
    cake = data("cake")
    empty = (cake.recipe == "C") & (cake.temp >= 215)
    return cake[~empty & (np.arange(len(cake)) % 7 != 0)]


def ham_with_an_empty_cell() -> pd.DataFrame:
    ham = data("ham")
    empty = (ham.Product == "2") & (ham.Gender == "1") & (ham.Information == "2")
    return ham[~empty & (np.arange(len(ham)) % 5 != 0)]


def rats() -> pd.DataFrame:
    frame = data("RatPupWeight")
    return frame.assign(Treatment=frame.Treatment.cat.as_unordered())


MODELS = {
    "two factors, two empty cells": (
        "angle ~ recipe * temperature + (1 | recipe:replicate)",
        cake_with_empty_cells,
    ),
    "three factors, an empty cell": (
        "Informed.liking ~ Product * Information * Gender + (1 | Consumer)"
        " + (1 | Product:Consumer)",
        ham_with_an_empty_cell,
    ),
    "covariate": ("weight ~ Lsize * sex * Treatment + (1 | Litter)", rats),
    "nested": ("weight ~ Treatment / sex + Lsize:sex + (1 | Litter)", rats),
}

LMERTEST: dict[str, dict[str, list[tuple[str, int, float, float]]]] = {
    "two factors, two empty cells": {
        "1": [
            ("recipe", 2, 0.4802492626, 41.820648),
            ("temperature", 5, 11.79728639, 148.10208),
            ("recipe:temperature", 8, 1.418457488, 148.19299),
        ],
        "2": [
            ("recipe", 2, 0.1793356056, 42.409034),
            ("temperature", 5, 11.79728639, 148.10208),
            ("recipe:temperature", 8, 1.418457488, 148.19403),
        ],
        "3": [
            ("recipe", 2, 0.1803474553, 42.409365),
            ("temperature", 5, 11.78341913, 148.11096),
            ("recipe:temperature", 8, 1.418457488, 148.1939),
        ],
        "3 KR": [
            ("recipe", 2, 0.1803443371, 42.504633),
            ("temperature", 5, 11.77843301, 148.21093),
            ("recipe:temperature", 8, 1.417855309, 148.29367),
        ],
        "drop1": [("recipe:temperature", 8, 1.418457488, 148.19403)],
    },
    "three factors, an empty cell": {
        "1": [
            ("Product", 3, 5.363262183, 232.20262),
            ("Information", 1, 2.765833947, 254.94441),
            ("Gender", 1, 0.3449389325, 81.148663),
            ("Product:Information", 3, 1.322370517, 232.31625),
            ("Product:Gender", 3, 0.01003443229, 246.07838),
            ("Information:Gender", 1, 0.001407810173, 196.74353),
            ("Product:Information:Gender", 2, 1.400920648, 195.01752),
        ],
        "2": [
            ("Product", 3, 4.711965673, 231.20934),
            ("Information", 1, 3.209577094, 196.59101),
            ("Gender", 1, 0.4120969889, 85.634715),
            ("Product:Information", 3, 1.312476223, 194.81933),
            ("Product:Gender", 3, 0.009912885199, 251.33702),
            ("Information:Gender", 1, 0.001407810173, 196.74353),
            ("Product:Information:Gender", 2, 1.400920648, 194.99805),
        ],
        "3": [
            ("Product", 3, 4.675851765, 235.56185),
            ("Information", 1, 3.177747766, 196.36302),
            ("Gender", 1, 0.420465749, 84.163133),
            ("Product:Information", 3, 1.320317553, 194.87136),
            ("Product:Gender", 3, 0.01020804266, 253.98833),
            ("Information:Gender", 1, 0.001515881707, 196.74854),
            ("Product:Information:Gender", 2, 1.400920648, 194.99805),
        ],
        "3 KR": [
            ("Product", 3, 4.672084743, 234.29476),
            ("Information", 1, 3.167228843, 198.89265),
            ("Gender", 1, 0.4202765397, 83.379454),
            ("Product:Information", 3, 1.315235734, 197.2841),
            ("Product:Gender", 3, 0.01020308297, 253.24943),
            ("Information:Gender", 1, 0.001510776502, 199.27598),
            ("Product:Information:Gender", 2, 1.395161475, 197.42234),
        ],
        "drop1": [("Product:Information:Gender", 2, 1.400920648, 194.99805)],
    },
    "covariate": {
        "1": [
            ("Lsize", 1, 20.85950583, 25.744414),
            ("sex", 1, 60.71466186, 309.18054),
            ("Treatment", 2, 13.69134123, 21.18669),
            ("Lsize:sex", 1, 0.6410728092, 296.65046),
            ("Lsize:Treatment", 2, 1.646651042, 30.800614),
            ("sex:Treatment", 2, 0.7936306359, 300.1184),
            ("Lsize:sex:Treatment", 2, 2.637897608, 307.52001),
        ],
        "2": [
            ("Lsize", 1, 48.55859796, 28.406278),
            ("sex", 1, 5.791258423, 305.58619),
            ("Treatment", 2, 0.8121944716, 33.4371),
            ("Lsize:sex", 1, 1.035507978, 305.71078),
            ("Lsize:Treatment", 2, 1.518544601, 31.169551),
            ("sex:Treatment", 2, 3.014256177, 308.56501),
            ("Lsize:sex:Treatment", 2, 2.637897608, 308.13322),
        ],
        "3": [
            ("Lsize", 1, 43.89817877, 32.566817),
            ("sex", 1, 2.207241754, 309.56412),
            ("Treatment", 2, 1.232901939, 35.567152),
            ("Lsize:sex", 1, 0.04136621854, 309.33555),
            ("Lsize:Treatment", 2, 1.941480893, 32.546965),
            ("sex:Treatment", 2, 3.014256177, 308.56501),
            ("Lsize:sex:Treatment", 2, 2.637897608, 308.13322),
        ],
        "3 KR": [
            ("Lsize", 1, 43.60149814, 31.76041),
            ("sex", 1, 2.185338466, 309.55177),
            ("Treatment", 2, 1.218066309, 34.586394),
            ("Lsize:sex", 1, 0.04096500354, 309.31674),
            ("Lsize:Treatment", 2, 1.927102658, 31.793538),
            ("sex:Treatment", 2, 2.9842123, 306.62754),
            ("Lsize:sex:Treatment", 2, 2.608291258, 307.65326),
        ],
        "drop1": [("Lsize:sex:Treatment", 2, 2.637897608, 308.13322)],
    },
    "nested": {
        "1": [
            ("Treatment", 2, 4.337094444, 23.489935),
            ("Treatment:sex", 3, 16.02036472, 303.984),
            ("sex:Lsize", 2, 24.54725318, 56.8286),
        ],
        "drop1": [
            ("Treatment:sex", 3, 2.921150878, 304.6006),
            ("sex:Lsize", 2, 24.54725318, 56.8286),
        ],
    },
}


@cache
def fitted(name: str, coding: str | None = None) -> LMMFit:
    formula, frame = MODELS[name]
    made = frame()
    contrasts = None
    if coding:
        factors = ("recipe", "temperature", "Product", "Information", "Gender", "sex", "Treatment")
        contrasts = {factor: coding for factor in factors if factor in made}
    return lmer(formula, made, contrasts=contrasts)


@pytest.mark.filterwarnings("ignore::lmmfast.RankDeficientWarning")
@pytest.mark.parametrize("name", MODELS)
def test_unbalanced(name: str) -> None:
    """lmerTest's tables with empty cells, covariates in interactions and nested factors."""
    fit = fitted(name)
    for key, wanted in LMERTEST[name].items():
        if key == "drop1":
            same_tests(drop1(fit).table, wanted)
            continue
        kind, _, method = key.partition(" ")
        ddf = "kenward-roger" if method else "satterthwaite"
        same_tests(anova(fit, type=kind, ddf=ddf).table, wanted)


@pytest.mark.filterwarnings("ignore::lmmfast.RankDeficientWarning")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger", "residual", "z"])
def test_coding_does_not_matter(name: str, ddf: str) -> None:
    """Type III tables are the same in treatment, sum, Helmert and polynomial contrasts."""
    wanted = anova(fitted(name), ddf=ddf).table
    for coding in ("sum", "helmert", "poly"):
        found = anova(fitted(name, coding), ddf=ddf).table
        assert list(found.index) == list(wanted.index)
        for column in wanted.columns.drop([c for c in wanted if c.startswith("Pr")]):
            values = wanted[column].to_numpy(float)
            close(found[column], values, np.abs(values), SAME)


@pytest.mark.filterwarnings("ignore::lmmfast.RankDeficientWarning")
@pytest.mark.parametrize("name", MODELS)
def test_coding_does_not_matter_for_types_one_and_two(name: str) -> None:
    """F is the same; Satterthwaite's denominator depends on the columns, as in lmerTest."""
    for kind, coding in itertools.product((1, 2), ("sum", "poly")):
        wanted = anova(fitted(name), type=kind).table
        found = anova(fitted(name, coding), type=kind).table
        close(found["F value"], wanted["F value"], wanted["F value"], SAME)
        close(found["DenDF"], wanted["DenDF"], wanted["DenDF"], 0.02)


def test_weights() -> None:
    """Types I and II do not weight the columns, as in lmerTest."""
    fit = lmer("lang ~ IQ * COMB + SES + (1 | class)", data("nlschools"), weights="GS")
    wanted = [
        ("IQ", 1, 1414.96718061, 2281.7216387),
        ("COMB", 1, 11.53572566, 141.6746587),
        ("SES", 1, 125.52128007, 2245.9786754),
        ("IQ:COMB", 1, 12.61308239, 2270.3629601),
    ]
    same_tests(anova(fit, type="I").table, wanted)
    wanted = [
        ("IQ", 1, 1018.08358693, 2268.469594),
        ("COMB", 1, 19.35772817, 1950.773101),
        ("SES", 1, 124.23411461, 2246.502971),
        ("IQ:COMB", 1, 12.61308239, 2270.362960),
    ]
    same_tests(anova(fit, type="II").table, wanted)


def test_a_factor_nested_in_another() -> None:
    """Type III of a in a / b is that in a * b, the same model: SAS's.

    lmerTest tests it in the first level of b, or not, with the contrasts of the fit.
    """
    one = anova(lmer("weight ~ Treatment / sex + (1 | Litter)", rats())).table
    two = anova(lmer("weight ~ Treatment * sex + (1 | Litter)", rats())).table
    wanted = two.loc["Treatment"].to_numpy()
    close(one.loc["Treatment"], wanted, np.abs(wanted), SAME)
    covariate = anova(lmer("weight ~ Lsize + Lsize:sex + (1 | Litter)", rats()))
    fit = lmer("weight ~ Lsize:sex + (1 | Litter)", rats())
    mean = fit.f_test([[0, 0.5, 0.5]])
    assert covariate.table.loc["Lsize", "F value"] == pytest.approx(mean.fvalue, rel=1e-7)


def test_type_three_is_about_unweighted_means() -> None:
    """All cells there: differences of means over cells, by hand."""
    fit = fitted("covariate", "sum")
    names = list(fit.design.x_names)
    mine = [i for i, name in enumerate(names) if name.startswith("sex[") and ":" not in name]
    L = np.eye(len(names))[mine]
    assert anova(fit).table.loc["sex", "F value"] == pytest.approx(fit.f_test(L).fvalue, rel=1e-9)


def test_without_intercept() -> None:
    """Single terms keep all their means; of two factors one cannot tell more than differences."""
    one = lmer("weight ~ 0 + Treatment + (1 | Litter)", rats())
    assert anova(one).table["NumDF"].to_list() == [3]
    both = anova(lmer("weight ~ 0 + Treatment + sex + (1 | Litter)", rats()))
    assert both.table["NumDF"].to_list() == [2, 1]
    assert both.notes == ("Treatment: only 2 of its 3 columns can be tested",)
    wanted = anova(lmer("weight ~ Treatment + sex + (1 | Litter)", rats())).table
    close(both.table["F value"], wanted["F value"], wanted["F value"], SAME)
    close(both.table["DenDF"], wanted["DenDF"], wanted["DenDF"], DENOMINATOR)
    first = anova(lmer("weight ~ 0 + Treatment + sex + (1 | Litter)", rats()), type=1)
    assert first.table["NumDF"].to_list() == [3, 1]


def test_own_contrasts() -> None:
    """A factor with fewer contrasts than levels: its columns count as covariates."""
    own = {"Treatment": {"lin": [-1.0, 0.0, 1.0]}}
    fit = lmer("weight ~ Treatment * sex + (1 | Litter)", rats(), contrasts=own)
    frame = rats().assign(lin=rats().Treatment.cat.codes.astype(float) - 1)
    wanted = anova(lmer("weight ~ lin * sex + (1 | Litter)", frame)).table
    close(anova(fit).table, wanted, np.abs(wanted), SAME)


def test_splines_and_powers() -> None:
    """Several columns of one expression are one term; the columns' scale does not matter."""
    made = anova(sleep("Reaction ~ bs(Days, df=4) + (Days | Subject)"))
    assert made.table["NumDF"].to_list() == [4]
    made = anova(sleep("Reaction ~ Days + I(Days**2) + (Days | Subject)"))
    wanted = sleep("Reaction ~ Days + I(Days**2) + (Days | Subject)").tvalues.to_numpy()[1:] ** 2
    close(made.table["F value"], wanted, wanted, SAME)
    big = data("sleepstudy").assign(Days=lambda frame: frame.Days * 1e6)
    other = anova(lmer("Reaction ~ Days + I(Days**2) + (Days | Subject)", big))
    close(other.table["F value"], wanted, wanted, 1e-6)


def test_columns_in_very_different_units() -> None:
    """Powers of large numbers in one term: none of them is lost beside the others."""
    frame = data("sleepstudy").assign(Days=lambda frame: 3e5 + 1e5 * frame.Days)
    raw = lmer("Reaction ~ poly(Days, 2, raw=True) + (1 | Subject)", frame)
    wanted = anova(sleep("Reaction ~ poly(Days, 2) + (1 | Subject)")).table
    close(anova(raw).table, wanted, np.abs(wanted) + 1e-12, 1e-6)
    assert anova(raw, ddf="z").table["Df"].to_list() == [2]


def test_functions_are_estimable() -> None:
    """Every hypothesis is a combination of the rows of X, in balanced and empty cells."""
    with pytest.warns(lmmfast.RankDeficientWarning):
        fit = lmer(
            *(part() if callable(part) else part for part in MODELS["two factors, two empty cells"])
        )
    design, kept = fit.design, fit.estimates.fixed_kept
    assert design.recipe is not None
    effects = effects_of(design.fixed, kept, design.recipe.fixed_layout, design.recipe.codings)
    for kind, term in itertools.product((1, 2, 3), range(1, 4)):
        L = effects.hypothesis(term, kind)
        assert not L[:, ~kept].any()
        rows = design.X[:, kept]
        coefficients = np.linalg.lstsq(rows.T, L[:, kept].T, rcond=None)[0]
        close(rows.T @ coefficients, L[:, kept].T, 1, 1e-8)


# ---- terms: methods and results ------------------------------------------------------------------


def test_methods() -> None:
    fit = fitted("covariate")
    z, residual = anova(fit, ddf="z").table, anova(fit, ddf="residual").table
    assert list(z.columns) == ["Chisq", "Df", "Pr(>Chisq)"]
    close(z["Chisq"] / z["Df"], residual["F value"], residual["F value"], 1e-12)
    close(z["Pr(>Chisq)"], chi2.sf(z["Chisq"], z["Df"]), 1, 1e-12)
    assert (residual["DenDF"] == fit.nobs - 12).all()
    kr = anova(fit, ddf="kenward-roger")
    assert kr.notes == ("sums and mean squares go with F before Kenward and Roger's scaling",)
    ml = lmer("weight ~ sex + (1 | Litter)", rats(), reml=False)
    assert anova(ml).table["F value"].notna().all()
    with pytest.raises(FitError, match="Satterthwaite"):
        anova(ml, ddf="kenward-roger")
    with pytest.raises(FitError, match="Satterthwaite"):
        drop1(ml, ddf="kenward-roger")
    with pytest.raises(ValueError, match='ddf must be "satterthwaite"'):
        anova(fit, ddf="containment")
    with pytest.raises(ValueError, match="type must be"):
        anova(fit, type=4)


def test_paper() -> None:
    made = anova(sleep())
    text = str(made).split("\n")
    assert text[0] == "Type III analysis of variance table, Satterthwaite degrees of freedom"
    assert text[1] == "Model: Reaction ~ Days + (Days | Subject)"
    assert " ".join(text[3].split()) == "Sum Sq Mean Sq NumDF DenDF F value Pr(>F)"
    assert text[4].split() == ["Days", "30031", "30031", "1", "17", "45.8530", "3.26e-06"]
    assert repr(made) == str(made)
    assert "<th>Days</th><td>30031</td>" in made._repr_html_()
    table = anova(sleep(), sleep("Reaction ~ Days + (1 | Subject)"))
    assert str(table).count("\n") == 9 and "nan" not in str(table) and "NA" not in str(table)


def test_models_without_terms() -> None:
    made = anova(lmer("Yield ~ 1 + (1 | Batch)", data("Dyestuff")))
    assert len(made.table) == 0 and made.notes == ("the model has no terms beside the intercept",)
    assert str(made)
    fit = lmer("Yield ~ 1 + (1 | Batch)", data("Dyestuff"))
    assert len(drop1(fit).table) == 0 and list(drop1(fit, test="Chisq").table.index) == ["<none>"]
    none = lmer("Yield ~ 0 + (1 | Batch)", data("Dyestuff"))
    assert len(anova(none).table) == 0


def arrays_of(fit: LMMFit) -> LMMFit:
    terms = [(term.codes, term.z) for term in fit.design.terms]
    return LMM.from_arrays(fit.design.y, fit.design.X, terms).fit(reml=fit.reml)


def test_models_from_arrays() -> None:
    fit = arrays_of(sleep())
    for call in (anova, drop1):
        with pytest.raises(DataError, match="f_test"):
            call(fit)
    assert ranova(fit).table.index.to_list() == ["<none>", "z1 in (z0 + z1 | g0)"]
    close(ranova(fit).table["LRT"][1:], [42.8368134364], 43, RATIO)
    assert anova(fit, sleep("Reaction ~ Days + (1 | Subject)")).notes[1:] != ()


def test_other_objects() -> None:
    with pytest.raises(TypeError, match="at least one"):
        anova()
    with pytest.raises(TypeError, match="not int"):
        anova(3)  # type: ignore[arg-type]
    model = lmmfast.mixedlm("Reaction ~ Days", data("sleepstudy"), groups="Subject")
    results = model.fit()
    assert anova(results).table.equals(anova(results.lmm).table)


# ---- nested models -------------------------------------------------------------------------------


def test_likelihood_ratios_as_in_lme4() -> None:
    fits = [
        sleep(),
        sleep("Reaction ~ Days + (1 | Subject)"),
        sleep("Reaction ~ 1 + (1 | Subject)"),
    ]
    made = anova(*fits, names=["f", "f0", "f00"])
    table = made.table
    assert table.index.to_list() == ["f00", "f0", "f"]
    assert table["npar"].to_list() == [3, 4, 6]
    wanted = {
        "AIC": [1916.54105807, 1802.07864301, 1763.93934446],
        "BIC": [1926.11992863, 1814.85047041, 1783.09708557],
        "logLik": [-955.270529037, -897.039321503, -875.969672232],
        "deviance": [1910.54105807, 1794.07864301, 1751.93934446],
    }
    for column, values in wanted.items():
        close(table[column], values, np.abs(values), RATIO)
    close(table["Chisq"][1:], [116.4624150678, 42.1392985419], 1, 1e-5)
    assert table["Df"][1:].to_list() == [1, 2]
    close(table["Pr(>Chisq)"][1:], [3.76446147655e-27, 7.07241254753e-10], [1e-26, 1e-9], 1e-4)
    assert table.loc["f00"].isna()[["Chisq", "Df", "Pr(>Chisq)"]].all()
    assert "f, f0, f00: refitted by maximum likelihood" in made.notes[0]
    assert "f against f0" in made.notes[1] and "conservative" in made.notes[1]
    assert len(made.notes) == 2
    assert made.models[0] == "f00: Reaction ~ 1 + (1 | Subject)"
    again = anova(*(sleep(fit.formula, reml=False) for fit in fits), names=["f", "f0", "f00"])
    close(again.table["Chisq"][1:], table["Chisq"][1:], 1, 1e-6)
    assert len(again.notes) == 1


def test_restricted_likelihood_ratios() -> None:
    made = anova(sleep(), sleep("Reaction ~ Days + (1 | Subject)"), refit=False)
    close(made.table["Chisq"][1:], [42.8368134364], 43, RATIO)
    close(made.table["AIC"], [1794.46508539, 1755.62827196], 1800, RATIO)
    assert "REML criteria are compared" in made.notes[0]
    with pytest.raises(FitError, match="refit=True"):
        anova(sleep(), sleep("Reaction ~ 1 + (1 | Subject)"), refit=False)
    with pytest.raises(FitError, match="refit=True"):
        anova(sleep(), sleep("Reaction ~ 1 + (1 | Subject)", reml=False), refit=False)
    with pytest.raises(FitError, match="coded differently"):
        anova(sleep(), sleep("Reaction ~ I(Days * 2) + (1 | Subject)"), refit=False)


def test_compound_symmetry_is_nested_in_a_full_matrix() -> None:
    """lme4's numbers; both variances are inside: nothing is on the boundary."""
    small = lmer("score ~ Machine + (1 | Worker) + (1 | Worker:Machine)", data("Machines"))
    for columns in ("Machine", "0 + Machine"):
        large = lmer(f"score ~ Machine + ({columns} | Worker)", data("Machines"))
        made = anova(large, small)
        close(made.table["Chisq"][1:], [8.85161963016], 225, RATIO)
        close(made.table["Pr(>Chisq)"][1:], [0.0649172009833], 1, 1e-6)
        assert made.table["Df"].to_list()[1] == 4
        assert len(made.notes) == 1
        assert nesting(large, small).reason
    ri = lmer("score ~ Machine + (1 | Worker)", data("Machines"))
    assert nesting(ri, small).boundary and not nesting(ri, small).reason
    assert nesting(ri, large).boundary and not nesting(ri, large).reason


@pytest.mark.parametrize(
    ("small", "large", "nested", "boundary"),
    [
        ("(1 | Subject)", "(Days || Subject)", True, True),
        ("(Days || Subject)", "(Days | Subject)", True, False),
        ("(1 | Subject) + (0 + Days | Subject)", "(Days | Subject)", True, False),
        ("(1 | Subject) + (0 + Days | Subject)", "(Days || Subject)", True, False),
        ("(Days || Subject)", "(1 | Subject) + (0 + Days | Subject)", True, False),
        ("(Days | Subject)", "(Days + I(Days**2) || Subject)", False, False),
        ("(Days | Subject)", "(I(Days - 5) | Subject)", True, False),
        ("(Days || Subject)", "(I(Days - 5) || Subject)", False, False),
        ("(0 + Days | Subject)", "(1 | Subject)", False, False),
        ("(1 | Subject)", "(1 | Subject) + (1 | Days)", True, True),
        ("(1 | Days)", "(1 | Subject)", False, False),
        ("(1 | Subject:Days)", "(Days | Subject)", False, False),
    ],
)
@pytest.mark.filterwarnings("ignore::lmmfast.IdentifiabilityWarning")
def test_nesting_of_random_terms(small: str, large: str, nested: bool, boundary: bool) -> None:
    frame = pd.concat([data("sleepstudy")] * 2, ignore_index=True)
    frame["Reaction"] += 10 * np.sin(np.arange(len(frame)))
    one, two = (lmer(f"Reaction ~ Days + {term}", frame) for term in (small, large))
    found = nesting(one, two)
    assert (not found.reason, found.boundary) == (nested, boundary)


def test_models_that_are_not_nested() -> None:
    frame = data("sleepstudy").assign(x=np.sin(np.arange(180.0)))
    one = lmer("Reaction ~ x + (1 | Subject)", frame)
    two = lmer("Reaction ~ Days + (Days | Subject)", frame)
    made = anova(one, two)
    assert np.isnan(made.table.loc["m2", "Pr(>Chisq)"]) and made.table.loc["m2", "Df"] == 2
    assert "fixed effects" in made.notes[1] and "not nested" in made.notes[1]
    near = frame.assign(near=frame.Days + 1e-3 * frame.x)
    made = anova(lmer("Reaction ~ near + (1 | Subject)", near), two)
    assert "fixed effects" in made.notes[1] and "not nested" in made.notes[1]
    columns = lmer("Reaction ~ Days + (near | Subject)", near)
    assert (
        "no special case"
        in nesting(lmer("Reaction ~ Days + (Days | Subject)", near), columns).reason
    )
    equal = anova(one, lmer("Reaction ~ Days + (1 | Subject)", frame))
    assert "equally many parameters" in equal.notes[1]
    assert equal.table.iloc[1].isna()[["Chisq", "Pr(>Chisq)"]].all()
    weighted = lmer("Reaction ~ Days + (Days | Subject)", frame, weights=1 + frame.Days)
    made = anova(weighted, lmer("Reaction ~ Days + (1 | Subject)", frame))
    assert "different weights" in made.notes[1]
    shifted = lmer("Reaction ~ Days + (Days | Subject)", frame, offset=frame.x)
    made = anova(shifted, lmer("Reaction ~ Days + (1 | Subject)", frame))
    assert "different offset" in made.notes[1]


def test_fits_to_other_data() -> None:
    frame = data("sleepstudy")
    with pytest.raises(DataError, match=r"180 and 179 rows.*dropped for x"):
        anova(sleep(), lmer("Reaction ~ x + (1 | Subject)", frame.assign(x=[np.nan, *range(179)])))
    with pytest.raises(DataError, match=r"different responses.*log\(Reaction\)") as caught:
        anova(sleep(), sleep("log(Reaction) ~ Days + (1 | Subject)"))
    assert caught.value.rows == tuple(range(10))
    twins = pd.concat([frame.iloc[:1], frame], ignore_index=True)
    one, two = (twins.Days.astype(float) for _ in range(2))
    one[0], two[1] = np.nan, np.nan
    with pytest.raises(DataError, match="different rows"):
        anova(*(lmer("Reaction ~ x + (1 | Subject)", twins.assign(x=x)) for x in (one, two)))
    with pytest.raises(ValueError, match="2 different names"):
        anova(sleep(), sleep(), names=["a", "a"])


def test_refits_of_another_response() -> None:
    """A refit is compared with its own response, not with that of its model."""
    y = data("sleepstudy").Reaction * 2 + 3 * np.cos(np.arange(180))
    large = sleep().refit(y)
    small = sleep("Reaction ~ 1 + (Days | Subject)").refit(y)
    frame = data("sleepstudy").assign(Reaction=y)
    wanted = [lmer(fit.formula, frame) for fit in (small, large)]
    found, made = anova(small, large).table, anova(*wanted).table
    close(found.iloc[1], made.iloc[1], np.abs(made.iloc[1]) + 1e-6, 1e-6)
    for table in (ranova, lambda fit: drop1(fit, test="Chisq")):
        mine, theirs = table(large).table, table(wanted[1]).table
        close(mine["LRT"][1:], theirs["LRT"][1:], 1, 1e-5)
    with pytest.raises(DataError, match="different responses"):
        anova(sleep(), small)


def test_the_larger_model_did_not_converge() -> None:
    far = sleep().model.at(np.array([30.0, 0.0, 5.0]), reml=False)
    made = anova(sleep("Reaction ~ Days + (1 | Subject)", reml=False), far)
    assert "higher likelihood" in made.notes[0]
    assert made.table.loc["m2", "Chisq"] == 0 and made.table.loc["m2", "Pr(>Chisq)"] == 1
    for made in (ranova(far), drop1(far, test="Chisq")):
        assert "the likelihood is higher without" in made.notes[0]
        assert made.table["LRT"].iloc[1] == 0


# ---- single deletions ----------------------------------------------------------------------------


def ratios(table: pd.DataFrame, wanted: dict[str, tuple[float, ...]], p: str) -> None:
    """Rows of (npar or Df, criterion, LRT, p): lme4's or lmerTest's."""
    assert table.index.to_list() == ["<none>", *wanted]
    df, criterion, ratio, probability = np.array(list(wanted.values())).T
    assert table["Df" if "Df" in table else "npar"][1:].to_list() == df.tolist()
    close(table["AIC"][1:], criterion, np.maximum(1, np.abs(criterion)), RATIO)
    close(table["LRT"][1:], ratio, np.maximum(1, np.abs(criterion)), RATIO)
    close(table[p][1:], probability, probability, 2e-5)


def test_drop1_by_likelihood() -> None:
    """lme4's drop1(test = "Chisq"): REML and ML, weights, offsets, factors, empty cells."""
    made = drop1(sleep(), test="Chisq")
    assert made.table["AIC"].iloc[0] == pytest.approx(1763.93934446, rel=RATIO)
    assert made.notes == ("fitted by maximum likelihood (instead of REML)",)
    ratios(made.table, {"Days": (1, 1785.47588196, 23.5365374978, 1.22563995725e-6)}, "Pr(Chi)")
    fit = lmer("prop ~ period + (1 | herd)", data("cbpp"), weights="size", reml=False)
    wanted = {"period": (3, -47.5487496923, 15.6918952739, 0.00131141843143)}
    ratios(drop1(fit, test="Chisq").table, wanted, "Pr(Chi)")
    fit = lmer("lang ~ IQ + SES + (IQ | class)", data("nlschools"), weights="GS")
    wanted = {
        "IQ": (1, 15442.6658930, 256.370286244, 1.06103105373e-57),
        "SES": (1, 15304.8909737, 118.595366971, 1.28428571200e-27),
    }
    ratios(drop1(fit, test="Chisq").table, wanted, "Pr(Chi)")
    fit = sleep("Reaction ~ Days + offset(3 * Days) + (Days | Subject)")
    wanted = {"Days": (1, 1777.49187376, 15.5525292949, 8.02442211029e-5)}
    ratios(drop1(fit, test="Chisq").table, wanted, "Pr(Chi)")
    fit = lmer("score ~ Machine + (Machine | Worker)", data("Machines"))
    wanted = {"Machine": (2, 249.557168308, 17.1393409987, 0.000189775170554)}
    ratios(drop1(fit, test="Chisq").table, wanted, "Pr(Chi)")


@pytest.mark.filterwarnings("ignore::lmmfast.RankDeficientWarning")
def test_drop1_by_likelihood_unbalanced() -> None:
    wanted = {"recipe:temperature": (8, 1303.78863141691, 11.9138064258245, 0.155091260807986)}
    table = drop1(fitted("two factors, two empty cells"), test="Chisq").table
    ratios(table, wanted, "Pr(Chi)")
    wanted = {"Product:Information:Gender": (2, 2099.568511, 2.88776064005651, 0.236010184546822)}
    table = drop1(fitted("three factors, an empty cell"), test="Chisq").table
    ratios(table, wanted, "Pr(Chi)")
    wanted = {
        "Treatment:sex": (3, 398.568153083991, 8.7945462386491, 0.0321509780034695),
        "sex:Lsize": (2, 425.967185475481, 34.193578630139, 3.75801701585518e-08),
    }
    ratios(drop1(fitted("nested"), test="Chisq").table, wanted, "Pr(Chi)")


def test_drop1() -> None:
    made = drop1(fitted("covariate"), ddf="kenward-roger")
    wanted = anova(fitted("covariate"), ddf="kenward-roger").table
    assert made.title == "Single term deletions, Kenward-Roger degrees of freedom"
    close(made.table["F value"], wanted["F value"][-1:], wanted["F value"][-1:], SAME)
    assert drop1(fitted("covariate"), ddf="z").table["Df"].to_list() == [2]
    several = drop1(sleep("Reaction ~ Days + I(Days**2) + (1 | Subject)"))
    assert several.table.index.to_list() == ["Days", "I(Days ** 2)"]
    with pytest.raises(ValueError, match="test must be"):
        drop1(sleep(), test="LRT")


def test_ranova_as_in_lmertest() -> None:
    """REML and ML, weights, offsets, several terms, whole terms, no random term left."""
    days = "Days in (1 + Days | Subject)"
    wanted = {days: (2, 1794.46508539, 42.8368134364, 4.99004142696e-10)}
    table = ranova(sleep()).table
    ratios(table, wanted, "Pr(>Chisq)")
    assert table["npar"].to_list() == [6, 4]
    close(table["logLik"], [-871.814135979, -893.232542697], 872, RATIO)
    ratios(
        ranova(sleep("Reaction ~ Days + offset(3 * Days) + (Days | Subject)")).table,
        wanted,
        "Pr(>Chisq)",
    )
    wanted = {"(1 + Days | Subject)": (3, 1899.66366347, 150.035391514, 2.58899864066e-32)}
    ratios(ranova(sleep(), reduce=False).table, wanted, "Pr(>Chisq)")
    wanted = {days: (2, 1802.07864301, 42.139298542, 7.07241254719e-10)}
    ratios(ranova(sleep(reml=False)).table, wanted, "Pr(>Chisq)")
    fit = lmer("prop ~ period + (1 | herd)", data("cbpp"), weights="size", reml=False)
    wanted = {"(1 | herd)": (1, -57.5607934854, 1.67985148077, 0.194944188393)}
    ratios(ranova(fit).table, wanted, "Pr(>Chisq)")
    fit = lmer("lang ~ IQ + SES + (IQ | class)", data("nlschools"), weights="GS")
    wanted = {"IQ in (1 + IQ | class)": (2, 15214.4271957, 19.6713187124, 5.35090715794e-05)}
    ratios(ranova(fit).table, wanted, "Pr(>Chisq)")
    wanted = {"(1 + IQ | class)": (3, 15462.7497383, 269.993861393, 3.09595488438e-58)}
    ratios(ranova(fit, reduce=False).table, wanted, "Pr(>Chisq)")


def test_ranova_of_several_terms() -> None:
    wanted = {
        "(1 | Subject)": (1, 1774.52502749, 22.8557339043, 1.74627589656e-06),
        "(0 + Days | Subject)": (1, 1794.46508539, 42.7957918136, 6.07627309890e-11),
    }
    ratios(ranova(sleep("Reaction ~ Days + (Days || Subject)")).table, wanted, "Pr(>Chisq)")
    two = ranova(sleep("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)")).table
    ratios(
        two.rename({"Days in (0 + Days | Subject)": "(0 + Days | Subject)"}), wanted, "Pr(>Chisq)"
    )
    fit = lmer("score ~ Machine + (1 | Worker) + (1 | Worker:Machine)", data("Machines"))
    wanted = {
        "(1 | Worker)": (1, 231.255590050, 5.56802204135, 0.0182914118476),
        "(1 | Worker:Machine)": (1, 296.878201978, 71.19063396950, 3.24324044273e-17),
    }
    ratios(ranova(fit).table, wanted, "Pr(>Chisq)")
    numbers = (5, 296.878201978, 78.5669836613, 1.67320934944e-15)
    for columns in ("1 + Machine", "0 + Machine"):
        fit = lmer(f"score ~ Machine + ({columns} | Worker)", data("Machines"))
        ratios(ranova(fit).table, {f"Machine in ({columns} | Worker)": numbers}, "Pr(>Chisq)")


def test_ranova_reductions() -> None:
    """What is taken out of which term; lmerTest turns (0 + x | g) into (1 | g), not nested."""
    fit = sleep("Reaction ~ Days + (0 + Days | Subject)")
    made = ranova(fit).table
    assert made["Df"].iloc[1] == 1 and made["LRT"].iloc[1] == pytest.approx(127.13863597, rel=1e-7)
    fit = sleep("Reaction ~ Days + (1 | Subject) + (Days + I(Days ** 2) | Days)")
    labels = ranova(fit).table.index.to_list()
    assert labels[2:] == [
        "Days in (1 + Days + I(Days ** 2) | Days)",
        "I(Days ** 2) in (1 + Days + I(Days ** 2) | Days)",
    ]
    frame = data("Machines")
    frame["half"] = pd.Categorical(np.where(np.arange(len(frame)) % 2, "a", "b"))
    fit = lmer("score ~ Machine + (0 + Machine + half | Worker)", frame)
    made = ranova(fit).table
    assert made["npar"].to_list() == [14, 7, 10]  # (0 + half | Worker), (0 + Machine | Worker)
    wanted = lmer("score ~ Machine + (0 + half | Worker)", frame)
    assert made["logLik"].iloc[1] == pytest.approx(wanted.llf, abs=1e-5)
    fit = lmer("score ~ Machine + (half * Machine | Worker)", frame)
    assert ranova(fit).table.index.to_list()[1:] == [
        "half:Machine in (1 + half * Machine | Worker)"
    ]
    with pytest.warns(lmmfast.DoubleBarWarning):
        fit = lmer("score ~ Machine + (Machine || Worker)", frame)
    assert ranova(fit).table.index.to_list()[1:] == ["(1 | Worker)", "(0 + Machine || Worker)"]
    made = ranova(sleep("Reaction ~ Days + (1 | Subject) + (1 + Days | Subject)")).table
    assert made["npar"].to_list() == [7, 6, 5]  # two intercepts of one factor
    close(made["LRT"][1:], [0, 42.8368134364], 1, 1e-4)
    fit = sleep()
    terms = [(fit.design.terms[0].codes, np.column_stack([fit.design.X[:, 1], np.zeros(180)]))]
    with pytest.warns(lmmfast.RankDeficientWarning):
        fit = LMM.from_arrays(fit.design.y, fit.design.X, terms).fit()
    made = ranova(fit).table  # nothing is left where the column of zeros stays
    assert made["npar"].iloc[0] == 4 and 3 in made["npar"].to_list()
    both = lmer("score ~ Machine + (1 | Worker) + (0 + Machine | Worker)", frame)
    assert ranova(both).table["npar"].to_list()[1:] == [10, 5]


def test_mixtures() -> None:
    """Stram and Lee's: one variance with its k covariances."""
    row = ranova(sleep()).table.iloc[1]
    assert row["mixture"] == "0.5 chi2(1) + 0.5 chi2(2)"
    wanted = (chi2.sf(row["LRT"], 1) + chi2.sf(row["LRT"], 2)) / 2
    assert row["Pr(mixture)"] == pytest.approx(wanted, rel=1e-9)
    fit = lmer("Yield ~ 1 + (1 | Batch)", data("Dyestuff"))
    row = ranova(fit).table.iloc[1]
    assert row["mixture"] == "0.5 chi2(0) + 0.5 chi2(1)"
    assert row["Pr(mixture)"] == pytest.approx(row["Pr(>Chisq)"] / 2, rel=1e-12)
    whole = ranova(sleep(), reduce=False)
    assert whole.table["mixture"].iloc[1] == "" and np.isnan(whole.table["Pr(mixture)"].iloc[1])
    assert "conservative" in whole.notes[-1]


def test_mixture_is_the_distribution() -> None:
    """Simulated under no variance of the slopes: uniform p-values, the naive ones too large."""
    rng = np.random.default_rng(4)
    m, n = 40, 8
    codes, x = np.repeat(np.arange(m), n), np.tile(np.linspace(-1, 1, n), m)
    X, z = np.column_stack([np.ones(m * n), x]), np.column_stack([np.ones(m * n), x])
    model = LMM.from_arrays(rng.normal(size=m * n), X, [(codes, z)])
    fit = model.fit()
    p = []
    for _ in range(200):
        fit = model.refit(fit, rng.normal(size=m)[codes] + rng.normal(size=m * n))
        row = ranova(fit).table.iloc[1]
        p.append((row["Pr(mixture)"], row["Pr(>Chisq)"]))
    mixture, naive = np.mean(np.array(p) < 0.2, axis=0)
    assert 0.12 < mixture < 0.28
    assert naive < mixture


def test_singular_fits() -> None:
    """Variances of zero: likelihood ratios of zero, and everything else works."""
    fit = lmer("Yield ~ 1 + (1 | Batch)", data("Dyestuff2"))
    assert fit.is_singular
    row = ranova(fit).table.iloc[1]
    assert row["LRT"] == 0 and row["Pr(>Chisq)"] == 1 and row["Pr(mixture)"] == 1
    assert row["AIC"] == pytest.approx(165.828277812, rel=RATIO)
    tv = data("TVbo")
    for factor in ("TVset", "Picture"):
        tv[factor] = tv[factor].cat.as_unordered()
    fit = lmer("Coloursaturation ~ TVset * Picture + (TVset + Picture | Assessor)", tv)
    assert fit.is_singular
    made = ranova(fit)
    assert made.table["npar"].to_list() == [34, 23, 19]
    wanted = [-275.450541506, -301.509939689, -280.086044947]  # lme4's, not quite at the optimum
    assert (made.table["logLik"] >= np.array(wanted) - 1e-5).all()
    close(made.table["logLik"], wanted, 1, 0.05)
    assert anova(fit).table["F value"].notna().all()
    assert drop1(fit, test="Chisq").table["Pr(Chi)"][1:].notna().all()
    fit = lmer("RTtrunc ~ S * P * C + (S + P + C | subj) + (S + P + C | item)", data("kb07"))
    made = ranova(fit)
    assert "no mixture is known" in made.notes[0]
    assert np.isnan(made.table["Pr(mixture)"].to_numpy(float)).all()


def test_starts_do_not_matter() -> None:
    """Warm starts from a singular fit reach the optimum of cold ones."""
    formula = "RTtrunc ~ S + P + C + (S + P + C | subj) + (P | item)"
    fit = lmer(formula, data("kb07"))
    assert fit.is_singular
    table = ranova(fit).table
    for left, row in (("P + C", 1), ("S + C", 2), ("S + P", 3)):
        cold = lmer(formula.replace("(S + P + C |", f"({left} |"), data("kb07"))
        assert table["logLik"].iloc[row] == pytest.approx(cold.llf, abs=1e-5)
    cold = lmer(formula, data("kb07"), reml=False)
    assert anova(fit, cold).table["deviance"].iloc[0] == pytest.approx(cold.objective, abs=1e-5)
