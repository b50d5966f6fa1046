"""Formulas of `mixedlm` beside patsy: names, values, order of columns, and those of new rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import patsy
import pytest

from lmmfast import FormulaError, anova, mixedlm


@pytest.fixture(scope="module")
def yields() -> pd.DataFrame:
    """Plots of 15 farms: three soils, four sorts, two years, doses and rain."""
    draw = np.random.default_rng(7)
    n = 180
    soil = np.array(["clay", "loam", "sand"])[draw.integers(0, 3, n)]
    frame = pd.DataFrame(
        {
            "farm": np.repeat(np.arange(15), 12),
            "soil": soil,
            "sort": np.array(list("hijk"))[draw.integers(0, 4, n)],
            "year": np.where(draw.random(n) < 0.5, "dry", "wet"),
            "dose": draw.integers(1, 4, n),
            "rain": np.round(draw.gamma(3, 2, n), 2),
            "sun": np.round(draw.normal(0, 1, n), 2),
            "limed": draw.random(n) < 0.4,
        }
    )
    frame["level"] = frame.dose.astype(float)
    frame["grade"] = pd.Categorical(
        frame.dose.map({1: "lo", 2: "mid", 3: "hi"}), ["lo", "mid", "hi"], ordered=True
    )
    farm = draw.normal(0, 1, 15)
    frame["y"] = 3 + 0.4 * frame.rain + (soil == "loam") + farm[frame.farm] + draw.normal(0, 1, n)
    return frame


FORMULAS = """
bs(rain, df=4)
bs(rain, df=5, degree=2, include_intercept=True) - 1
bs(rain, knots=[4, 8], lower_bound=0, upper_bound=40)
bs(rain, df=4):C(year, Sum)
cr(rain, df=4) - 1
cr(rain, df=3, constraints='center')
cr(rain, knots=[4, 8]) - 1
cc(rain, df=4) - 1
cc(rain, df=3, constraints='center')
te(cr(rain, df=3), cc(sun, df=3)) - 1
te(cr(rain, df=3), cr(sun, df=3), constraints='center')
te(bs(rain, df=4), sun)
te(cr(rain, df=3), cr(sun, df=3), constraints='center'):year
C(soil, Diff)
C(soil, Diff) - 1
C(sort, Diff)
C(soil, Poly)
0 + C(soil, Poly)
C(sort, Poly) * rain
C(dose, Poly([1, 2, 10]))
C(dose, Poly(scores=[1, 2, 10]))
0 + C(soil, Poly):rain
C(soil, Helmert)
0 + C(soil, Helmert)
rain + C(soil, Helmert):rain
C(soil, Helmert())
C(soil, Sum)
0 + C(soil, Sum)
C(soil, Sum(omit=0))
C(soil, Sum('clay'))
C(soil, Sum(omit=-3))
C(dose, Sum(1))
0 + C(soil, Sum(1))
C(sort, Sum('i')):rain + rain
C(soil, Treatment)
C(soil, Treatment())
C(soil, Treatment(1))
C(soil, Treatment('loam'))
C(soil, Treatment(reference='loam'))
C(soil, Treatment(reference=-1))
C(dose, Treatment(2))
C(level, Treatment(2.0))
C(level, Treatment(reference=2))
C(soil, levels=['sand', 'loam', 'clay'])
C(soil, Treatment('loam'), levels=['sand', 'loam', 'clay'])
C(soil, [[0, 0], [1, 0], [0, 1]])
C(soil, [[-1], [0], [1]])
C(soil, np.array([[1, 0], [0, 1], [-1, -1]]))
C(soil, Treatment(reference='sand')) * C(year, Sum)
C(soil, Diff):C(year, Sum)
C(soil, Sum):C(year, Poly)
soil:year
soil:year + year
soil:year:sort
soil:year + sort:soil
soil * year * sort - soil:year:sort
0 + soil:year
0 + soil * year
soil / year
soil / (rain + year)
(soil + year):rain
(rain + soil + year) ** 2
(rain + sun + soil) ** 2
(rain + soil + sun + year) ** 3
rain:soil:year
rain:soil + rain:year
0 + rain + rain:soil
year:rain + soil:rain
sun + soil:rain + rain
year + rain * soil
rain * sun * soil
soil - soil + rain
C(level)
C(level):rain
C(dose)
C(dose + 1)
C(dose * 2)
C(dose // 2)
C(dose / 2)
C(level * 2)
C(np.round(rain / 8))
limed
C(limed)
limed:rain
grade
C(grade, Diff)
C(Q('soil'), Treatment('sand'))
center(rain) + standardize(sun)
scale(rain)
np.log(rain) + I(rain ** 2)
"""


@pytest.mark.parametrize("formula", FORMULAS.strip().splitlines())
def test_columns_are_patsys(yields: pd.DataFrame, formula: str) -> None:
    expected = patsy.dmatrix(formula, yields)
    model = mixedlm(f"y ~ {formula}", yields, groups="farm")
    assert model.exog_names == expected.design_info.column_names
    np.testing.assert_allclose(model.exog, np.asarray(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize("formula", FORMULAS.strip().splitlines())
def test_new_rows_are_coded_as_patsy_does(yields: pd.DataFrame, formula: str) -> None:
    result = mixedlm(f"y ~ {formula}", yields, groups="farm").fit()
    some = yields.iloc[[5, 3, 77]]
    info = patsy.dmatrix(formula, yields).design_info
    columns = np.asarray(patsy.build_design_matrices([info], some)[0])
    beta = np.nan_to_num(result.fe_params.to_numpy())
    np.testing.assert_allclose(result.predict(some), columns @ beta, rtol=1e-9, atol=1e-9)


def test_random_columns_are_patsys(yields: pd.DataFrame) -> None:
    model = mixedlm("y ~ rain", yields, groups="farm", re_formula="~ C(year, Sum)")
    expected = patsy.dmatrix("C(year, Sum)", yields)
    np.testing.assert_allclose(model.exog_re, np.asarray(expected))
    assert model.data.exog_re_names == ["farm", "C(year, Sum)[S.dry]"]


@pytest.mark.parametrize("coding", ["Sum", "Diff", "Helmert", "Poly"])
@pytest.mark.parametrize("start", ["", "0 + "])
def test_terms_are_tested_alike(yields: pd.DataFrame, coding: str, start: str) -> None:
    """Type III tests do not depend on how the cells are coded."""
    plain = anova(mixedlm("y ~ soil * year", yields, groups="farm").fit().lmm)
    formula = f"y ~ {start}C(soil, {coding}) * C(year, {coding})"
    coded = anova(mixedlm(formula, yields, groups="farm").fit().lmm)
    np.testing.assert_allclose(coded.table["F value"], plain.table["F value"], rtol=1e-6)


def test_wrong_smooths(yields: pd.DataFrame) -> None:
    for text, words in {
        "te()": "te\\(\\) needs bases",
        "te(cr(rain, df=3), constraints='middle')": '"center" or numbers',
        "te(cr(rain, df=3), constraints=[1, 1])": "need 3 columns",
        "te(bs(rain, df=40), bs(sun, df=40))": "more than 1000",
    }.items():
        with pytest.raises(FormulaError, match=words):
            mixedlm(f"y ~ {text}", yields, groups="farm")
