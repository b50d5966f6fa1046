"""Two tutorials written for statsmodels run as they stand, after changes of the imports only.

`tests/tutorials` holds the documents. In the second, slide 7 replaces the data of slide 1, on which
slides 9 to 13 build again: they are given slide 1's data back (they fail without it anywhere).
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import close

import lmmfast
from lmmfast import IdentifiabilityWarning, RestrictedLikelihoodWarning, lmer

plt = pytest.importorskip("matplotlib.pyplot")
pytest.importorskip("statsmodels")
pytest.importorskip("seaborn")

TUTORIALS = Path(__file__).resolve().parent / "tutorials"
IMPORTS = {
    "from statsmodels.formula.api import mixedlm": "from lmmfast import mixedlm",
    "sm.MixedLM": "lmmfast.MixedLM",
}

# lme4 1.1-31: lmer(bp ~ time_num + (1 | patient)) and, on the data of slides 7 and 8,
# lmer(response ~ condition + (1 | subject) + (1 | item)); nloptwrap at tolerances of 1e-12
BLOOD_PRESSURE = {
    "fe": [151.95, -4.05],
    "se": [2.194192753, 0.247531674],
    "group": 47.123619531,
    "scale": 1.225438593,
    "llf": -67.18016143,
}
CROSSED = {
    "fe": [0.064164114501, -0.003617321161],
    "se": [0.03990103218, 0.05114668337],
    "group": 0.0,
    "item": 0.008788091035,
    "scale": 0.975572548444,
    "llf": -2119.055632,
}
CROSSED_MISSING = {
    "fe": [0.073021890766, -0.005279321715],
    "se": [0.04238340802, 0.05259396704],
    "group": 0.001883039178,
    "item": 0.012314615630,
    "scale": 0.960749827337,
    "llf": -1974.55233,
}


def snippets(name: str) -> list[str]:
    text = (TUTORIALS / name).read_text(encoding="utf-8")
    found = re.findall(r"```python\n(.*?)```", text, re.S)
    for old, new in IMPORTS.items():
        found = [code.replace(old, new) for code in found]
    return found


class Tutorial:
    """The names that the snippets define; each snippet is run once, in order."""

    def __init__(self, name: str, seed: int) -> None:
        self.code = snippets(name)
        self.names: dict[str, Any] = {"lmmfast": lmmfast}
        self.seen: dict[int, dict[str, Any]] = {}
        self.printed: dict[int, str] = {}
        self.warned: dict[int, list[warnings.WarningMessage]] = {}
        np.random.seed(seed)  # noqa: NPY002 (the snippets draw from it)
        for number, code in enumerate(self.code, start=1):
            if number == 9:
                self.names["data"] = self.seen[1]["data"]
            out = io.StringIO()
            with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(out):
                warnings.simplefilter("always")
                exec(compile(code, f"{name}, slide {number}", "exec"), self.names)
            self.warned[number] = [w for w in caught if issubclass(w.category, lmmfast.LmmWarning)]
            self.printed[number] = out.getvalue()
            self.seen[number] = dict(self.names)
        plt.close("all")


def agrees(result: lmmfast.MixedLMResults, expected: dict[str, Any]) -> None:
    """Fixed effects, standard errors, variances and likelihood as lme4's."""
    close(result.fe_params, expected["fe"], expected["se"], 1e-5)
    close(result.bse_fe, expected["se"], expected["se"], 1e-5)
    close(result.cov_re.iloc[0, 0], expected["group"], expected["group"] or 1, 1e-4)
    close(result.scale, expected["scale"], expected["scale"], 1e-5)
    close(result.llf, expected["llf"], abs(expected["llf"]), 1e-8)


@pytest.fixture(scope="module")
def slides() -> Tutorial:
    return Tutorial("mixed_models.md", seed=1)


def test_blood_pressure() -> None:
    (code,) = snippets("blood_pressure.md")
    names: dict[str, Any] = {}
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "blood pressure", "exec"), names)
    result = names["result"]
    agrees(result, BLOOD_PRESSURE)
    text = out.getvalue()
    for expected in (
        "Mixed Linear Model Regression Results",
        "No. Groups:",
        "Group Var",
        "151.950",
    ):
        assert expected in text
    assert "lme4: bp ~ time_num + (1 | patient)" in text


def test_warnings_are_those_with_a_reason(slides: Tutorial) -> None:
    """None but slide 3's (16 effects for 20 rows) and slide 10's (REML fits compared)."""
    expected = {3: IdentifiabilityWarning, 10: RestrictedLikelihoodWarning}
    for number, caught in slides.warned.items():
        kinds = {w.category for w in caught}
        assert kinds <= {expected.get(number)}, (number, [str(w.message) for w in caught])
    (warning,) = slides.warned[10]
    assert "reml=False" in str(warning.message)


@pytest.mark.parametrize("number", [1, 2, 4, 6, 9, 10, 12, 13])
def test_the_same_as_lmer(slides: Tutorial, number: int) -> None:
    """Every result that a slide leaves behind has lmer's numbers (columns are in patsy's order)."""
    data = slides.seen[number]["data"]
    found = {
        name: value
        for name, value in slides.seen[number].items()
        if isinstance(value, lmmfast.MixedLMResults) and value.model.data.frame is data
    }
    assert found
    for result in found.values():
        fit = lmer(result.formula_lme4, result.model.data.frame)
        assert result.converged and fit.converged
        names = list(fit.params.index)
        close(result.fe_params[names], fit.params, fit.bse, 1e-7)
        close(result.bse_fe[names], fit.bse, fit.bse, 1e-7)
        assert np.isfinite([result.aic, result.bic]).all()
        for name in ("llf", "aic", "bic", "scale"):
            assert float(getattr(result, name)) == pytest.approx(getattr(fit, name), rel=1e-7)


def test_variances_of_slide_3(slides: Tutorial) -> None:
    """A constant, a column of labels and dummies as arrays: treatment contrasts."""
    result = slides.seen[3]["results"]
    assert list(result.fe_params.index) == ["const", "time", "treatment[T.treatment]"]
    assert result.cov_re.shape == (4, 4) and result.converged
    data = slides.seen[1]["data"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = lmer("response ~ time + treatment + (0 + subject || subject)", data)
    close(result.llf, fit.llf, 1, 1e-6)  # covariances of different subjects change nothing


def test_crossed_effects_of_slides_7_and_8(slides: Tutorial) -> None:
    """np.random.seed(42) fixes the data; lme4 1.1-31 on the same file gave these numbers."""
    seventh, eighth = slides.seen[7]["results"], slides.seen[8]["results"]
    for result, expected in ((seventh, CROSSED), (eighth, CROSSED_MISSING)):
        assert result.formula_lme4 == "response ~ condition + (1 | subject) + (1 | item)"
        agrees(result, expected)
        close(result.vcomp, [expected["item"]], expected["item"], 1e-4)
    # as in statsmodels the frame of the model is that of the rows used
    assert eighth.model.data.frame["response"].notna().all()
    assert eighth.nobs == 1500 - 97 == len(eighth.resid) == len(eighth.model.data.frame)
    assert "Observations used in model: 1403" in slides.printed[8]


def test_finite_criteria(slides: Tutorial) -> None:
    for number in (2, 5, 6):
        assert "nan" not in slides.printed[number]


def test_likelihood_ratio_of_slide_10(slides: Tutorial) -> None:
    names = slides.seen[10]
    assert names["df"] == 1
    assert 0 <= names["p_value"] <= 1
    full = lmer(names["results2"].formula_lme4, names["data"], reml=False)
    less = lmer(names["results1"].formula_lme4, names["data"], reml=False)
    assert names["model2"].fit(reml=False).llf - names["model1"].fit(
        reml=False
    ).llf == pytest.approx(full.llf - less.llf, abs=1e-10)


def test_power_of_slide_11(slides: Tutorial) -> None:
    """1,000 fits: the power of the z test at an effect of 0.3 is about 0.8."""
    assert 0.74 < slides.seen[11]["power"] < 0.88


def test_random_effects_of_slide_13(slides: Tutorial) -> None:
    names = slides.seen[13]
    first = names["random_effects"][:3]
    assert list(first) == ["A", "B", "C"]
    modes = names["results"].ranef()["subject"]
    assert np.array_equal(first["B"], modes.loc["B"])
    assert "Random Effects (first 3 subjects):" in slides.printed[13]
    assert list(names["conf_int"].columns) == [0, 1]
