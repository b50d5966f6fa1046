"""statsmodels' own tests of mixed models, with its MixedLM replaced by lmmfast's.

The tests are read from the installed statsmodels and changed as `CHANGED` says; `LEFT_OUT` are not
run, each for its reason.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import statsmodels

FOLDER = Path(statsmodels.__file__).parent / "regression" / "tests"
SOURCE = FOLDER / "test_lme.py"

pytestmark = pytest.mark.filterwarnings("ignore")  # as in statsmodels' own configuration

NULL = "contextlib.nullcontext()"
CHANGED = [
    # the package under test
    (
        "from statsmodels.regression.mixed_linear_model import (\n    MixedLM,\n",
        "import contextlib\nfrom lmmfast import MixedLM\n"
        "from statsmodels.regression.mixed_linear_model import (\n",
    ),
    ("from statsmodels.formula.api import mixedlm", "from lmmfast import mixedlm"),
    (
        "from statsmodels.iolib.summary2 import Summary\n",
        "from lmmfast.sm.summary import Summary\n",
    ),
    # where the files are
    ("from .results import", "from statsmodels.regression.tests.results import"),
    ("Path(__file__).resolve().parent", f"Path({str(FOLDER)!r})"),
    # dictionaries as exog_vc are not deprecated here
    ('pytest.warns(FutureWarning, match="Using deprecated variance")', NULL),
    # with its own step rounding hides a small entry: 2e-3 from the true derivative, from which
    # differences with a step of 1e-3 are 1e-6 away
    ("approx_hess(params_vec, loglike_h)", "approx_hess(params_vec, loglike_h, epsilon=1e-3)"),
    # AIC and BIC of REML fits exist here, as in lme4
    ("assert_equal(result.aic, np.nan)", "assert np.isfinite(result.aic)"),
    ("assert_equal(result.bic, np.nan)", "assert np.isfinite(result.bic)"),
    # a singular fit is a result like any other, without a warning
    ('pytest.warns(SingularMatrixWarning, match=r"effects")', NULL),
    # standard errors of fixed effects: those of lme4 (1.48543, 0.16469, 1.43976, 0.13177);
    # statsmodels inverts the observed Hessian of all parameters together
    ("(1.6546)  (1.8882)", "(1.4854)  (1.4398)"),
    ("-1.2672   3.4842*  ", "-1.2672   3.4842** "),
    ("(0.1959) ", "(0.1647) "),
    ("(0.2080)", "(0.1318)"),
]
LEFT_OUT = {
    "TestMixedLM.test_regularized": "penalized fits are not part of lmmfast",
    "TestMixedLMSummaryRegularized": "penalized fits are not part of lmmfast",
    "TestSMWSolver": "statsmodels' private solver",
    "TestSMWLogdet": "statsmodels' private solver",
}

text = SOURCE.read_text(encoding="utf-8")
for old, new in CHANGED:
    if old not in text:
        raise AssertionError(
            f"statsmodels {statsmodels.__version__} has other tests, without {old!r}: see CHANGED"
        )
    text = text.replace(old, new)
exec(compile(text, str(SOURCE), "exec"), globals())

for name in LEFT_OUT:
    owner, _, test = name.partition(".")
    if test:
        delattr(globals()[owner], test)
    else:
        del globals()[owner]


def test_all_the_others_are_there() -> None:
    """What statsmodels tests and is not left out is collected here."""
    tests = set(re.findall(r"^def (test_\w+)", SOURCE.read_text(encoding="utf-8"), re.M))
    assert len(tests) >= 15
    assert tests <= set(globals())
