"""What a fit looks like on paper."""

import dataclasses
import math
import re

import numpy as np
import pytest

from lmmfast import LMM, datasets, lmer, summary, tables
from lmmfast.errors import RankDeficientWarning
from lmmfast.inference.selection.singular import combination, singular_sentences

SUMMARY = """\
Linear mixed model fit by REML
Formula: Reaction ~ Days + (Days | Subject)

REML criterion: 1743.6283

Scaled residuals:
    Min       1Q  Median      3Q     Max
-3.9536  -0.4634  0.0231  0.4634  5.1793

Random effects:
Groups    Name       Variance  Std.Dev.  Corr
Subject   Intercept    612.09    24.740
          Days          35.07     5.922  0.07
Residual               654.94    25.592
Number of obs: 180, groups: Subject, 18

Fixed effects:
           Estimate  Std. Error  df  t value  Pr(>|t|)
Intercept   251.405       6.825  17   36.838    <2e-16
Days         10.467       1.546  17    6.771  3.26e-06
p-values: t, Satterthwaite degrees of freedom

Correlation of fixed effects:
                   1
1  Intercept
2  Days       -0.138

Optimum certified: no local step lowers the criterion by more than 3e-12 (7 evaluations, 0.4 ms)."""


@pytest.fixture(scope="module")
def fit():
    return lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))


def changed(fit, **values):
    """The fit with other values in its estimates."""
    return dataclasses.replace(fit, estimates=dataclasses.replace(fit.estimates, **values))


@pytest.fixture(scope="module")
def plain(fit):
    """The fit with its search replaced by one that is the same on every machine."""
    return changed(fit, n_evals=7, seconds=4e-4, certificate=3e-12)


# ---- summaries ----------------------------------------------------------------------------------


def test_summary(plain):
    assert str(plain.summary()) == SUMMARY
    assert repr(plain.summary()) == SUMMARY


def test_correlations_can_be_left_out(plain):
    assert "Correlation of fixed effects" not in str(plain.summary(correlation=False))


def test_summary_of_a_maximum_likelihood_fit():
    text = str(lmer("Yield ~ 1 + (1 | Batch)", datasets.load("Dyestuff"), reml=False).summary())
    assert "fit by maximum likelihood" in text
    assert re.search(r"AIC +BIC +logLik +deviance +df.resid\n *333.3271 +337.5307 ", text)
    assert "Correlation" not in text


def test_repr_is_one_line(fit):
    formula = "Reaction ~ Days + (Days | Subject)"
    assert repr(fit) == f"<LMMFit {formula}: REML criterion 1743.6283, n = 180, converged>"


def test_html_has_the_same_cells(plain):
    html = plain.summary()._repr_html_()
    for cell in ("<td>36.838</td>", "<th>Days</th>", "<td>&lt;2e-16</td>", "Optimum certified"):
        assert cell in html
    assert html.count("<table>") == 4
    assert html.count("<td>") == html.count("</td>")
    assert plain._repr_html_() == html


def test_rows_dropped_are_counted_by_variable():
    data = datasets.load("sleepstudy")
    data.loc[[0, 1], "Days"] = np.nan
    data.loc[[1, 2, 3], "Reaction"] = np.nan
    text = str(lmer("Reaction ~ Days + (Days | Subject)", data).summary())
    assert "4 of 180 rows dropped, missing or unusable: " in text
    assert "Days (2)" in text
    assert "Reaction (3)" in text


def test_dropped_columns_are_shown_as_missing():
    with pytest.warns(RankDeficientWarning):
        fit = lmer(
            "angle ~ temp + temperature + (1 | recipe:replicate)",
            datasets.load("cake"),
            weights=np.linspace(1, 2, 270),
        )
    text = str(fit.summary())
    assert re.search(r"\ntemperature\[\.L\] +NA +NA +NA +NA +NA\n", text)
    assert "Dropped: temperature[.L] (it depends linearly on the others)" in text
    assert "by REML, with prior weights\n" in text


def test_scaled_residuals_are_those_of_rows_of_equal_weight():
    data = datasets.load("sleepstudy")
    weights = np.where(data["Days"] < 5, 4.0, 0.25)
    fit = lmer("Reaction ~ Days + (Days | Subject)", data, weights=weights)
    scaled = fit.resid.to_numpy() * np.sqrt(weights) / fit.sigma
    wanted = "  ".join(f"{q:.4f}" for q in np.quantile(scaled, [0, 0.25, 0.5, 0.75, 1]))
    shown = str(fit.summary()).split("3Q     Max\n")[1].split("\n")[0]
    assert shown.split() == wanted.split()


def test_what_is_said_of_a_fit_that_was_stopped(fit):
    stopped = changed(
        fit, converged=False, status="out of time", certificate=0.25, n_evals=1, seconds=75.0
    )
    assert summary.proof(stopped) == (
        "Not converged: out of time (1 evaluation, 1.2 min); "
        "the next step would lower the criterion by about 0.2."
    )
    lost = changed(stopped, certificate=math.inf)
    assert "is not known" in summary.proof(lost)


def test_no_more_is_claimed_than_rounding_allows(fit):
    assert "by more than 2e-13 (" in summary.proof(changed(fit, certificate=1e-20))


def test_without_fixed_effects():
    text = str(lmer("Yield ~ 0 + (1 | Batch)", datasets.load("Dyestuff")).summary())
    assert "Fixed effects" not in text
    assert "Number of obs: 30, groups: Batch, 6\n\nOptimum certified" in text


def test_a_model_from_arrays_has_no_formula():
    data = datasets.load("Dyestuff")
    codes = data["Batch"].cat.codes.to_numpy().astype(np.int32)
    fit = LMM.from_arrays(data["Yield"].to_numpy(), np.ones((30, 1)), [(codes, None)]).fit()
    assert "Formula: none (made from arrays)\n" in str(fit.summary())


# ---- singular directions ------------------------------------------------------------------------


@dataclasses.dataclass
class Direction:
    term: int
    zero: tuple
    direction: np.ndarray


def singular(fit, T, zero, direction):
    """Sentences on a fit whose first term has covariance factor ``T``."""
    found = changed(
        fit, T=(np.array(T, float),), singular=(Direction(0, zero, np.array(direction, float)),)
    )
    assert found.is_singular
    return singular_sentences(found)


def test_one_variance_is_zero(fit):
    assert singular(fit, [[1, 0], [0, 0]], (1,), [0, 1]) == [
        "(1 + Days | Subject): the variance of Days is zero."
    ]


def test_all_variances_are_zero(fit):
    assert singular(fit, [[0, 0], [0, 0]], (0, 1), [0, 1]) == [
        "(1 + Days | Subject): the variances of Intercept and Days are zero."
    ]


def test_perfect_correlation(fit):
    assert singular(fit, [[1, 0], [0.25, 0]], (), [-0.25, 1]) == [
        "(1 + Days | Subject): the combination Intercept - 4*Days has no variance "
        "(random effects perfectly correlated)."
    ]


def test_one_zero_among_three_and_a_combination_of_the_others():
    fit = lmer("score ~ Machine + (Machine | Worker)", datasets.load("Machines"))
    label = fit.design.terms[0].label
    T = [[1, 0, 0], [0, 0, 0], [-2, 0, 0]]
    assert singular(fit, T, (1,), [2, 0, 1]) == [
        f"({label}): the variance of Machine[T.B] is zero, and the combination "
        "Intercept + 0.5*Machine[T.C] has no variance (random effects perfectly correlated)."
    ]
    assert singular(fit, [[1, 0, 0], [1, 0, 0], [-2, 0, 0]], (), [1, 1, 1]) == [
        f"({label}): the combination Intercept + Machine[T.B] + Machine[T.C] has no variance "
        "(one of 2 such combinations)."
    ]


def test_negligible_parts_of_a_combination_are_not_named():
    direction = np.array([1.0, -1e-6, 2.0])
    share = direction * np.array([1.0, 1.0, 3.0])
    assert combination(("a", "b", "c"), direction, share) == "0.5*a + c"


# ---- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        ([612.0899, 35.0717, 654.941], ["612.09", "35.07", "654.94"]),
        ([0.0, 35.0717], ["0.00", "35.07"]),
        ([1e6, 1e-6], ["1e+06", "1e-06"]),
        ([1.23456e-9, 2.5e-9], ["1.2346e-09", "2.5e-09"]),
        ([123456.7, 234567.8], ["123457", "234568"]),
        ([np.nan, 1.5], ["NA", "1.500"]),
        ([0.0, 0.0], ["0.000", "0.000"]),
        ([], []),
    ],
)
def test_columns_share_their_decimals(values, cells):
    assert tables.column(values) == cells


def test_estimates_are_rounded_by_their_standard_errors():
    assert tables.column([1e-14, 251.405104], by=[6.8245565, 1.54578]) == ["0.000", "251.405"]


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.05, "0.0500"), (1.2747e-11, "1.27e-11"), (0.0, "<2e-16"), (1.0, "1.0000"), (np.nan, "NA")],
)
def test_p_values(p, text):
    assert tables.p_value(p) == text


def test_fixed_has_no_negative_zero():
    assert tables.fixed(-1e-9, 2) == "0.00"
    assert tables.fixed(-math.inf, 2) == "-Inf"


@pytest.mark.parametrize(
    ("seconds", "text"), [(4e-4, "0.4 ms"), (0.035, "35 ms"), (2.14, "2.1 s"), (1200, "20.0 min")]
)
def test_durations(seconds, text):
    assert tables.duration(seconds) == text


def test_tables_are_aligned_and_escaped():
    table = tables.Table(("", "b"), (("x[T.<1>]", "1.0"), ("y", "-10.0")), 1)
    assert str(table) == "              b\nx[T.<1>]    1.0\ny         -10.0"
    assert "x[T.&lt;1&gt;]" in table._repr_html_()
