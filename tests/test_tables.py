"""Tables in LaTeX, Markdown and HTML, and the frames behind them."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import lmmfast
from lmmfast import anova, datasets, emmeans, lmer
from lmmfast.tables import Printed, Summary, Table


@pytest.fixture(scope="module")
def sleep() -> lmmfast.LMMFit:
    return lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))


HOSTILE = Table(
    ("", "a_b%&$", "Pr(>|t|)"),
    (
        ("[T.x]:z", "-1.50", "<2e-16"),
        ("*s* `c` ~x~ \\n", "0.25", "3.26e-06"),
        ("élan--vital", "Inf", "NA"),
    ),
    1,
)


def test_latex_of_hostile_names() -> None:
    assert HOSTILE.to_latex() == "\n".join(
        [
            r"\begin{tabular}{lrr}",
            r"\toprule",
            r" & a\_b\%\&\$ & Pr(\textgreater{}\textbar{}t\textbar{}) \\",
            r"\midrule",
            r"{[}T.x]:z & $-1.50$ & $<2 \times 10^{-16}$ \\",
            r"{*}s* \textasciigrave{}c\textasciigrave{} \textasciitilde{}x\textasciitilde{} "
            r"\textbackslash{}n & 0.25 & $3.26 \times 10^{-6}$ \\",
            r"élan-{}-vital & $\infty$ & NA \\",
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def test_markdown_of_hostile_names() -> None:
    assert HOSTILE.to_markdown() == "\n".join(
        [
            r"|                       | a_b%&\$ | Pr(>\|t\|) |",
            r"| :-------------------- | ------: | ---------: |",
            r"| [T.x]:z               |   -1.50 |    \<2e-16 |",
            r"| \*s\* \`c\` \~x\~ \\n |    0.25 |   3.26e-06 |",
            r"| élan--vital           |     Inf |         NA |",
        ]
    )


def test_html_of_hostile_names() -> None:
    table = Table(("", "<b>"), (("a&b", '"q"'),), 1)
    assert table.to_html() == (
        "<table><thead><tr><th></th><th>&lt;b&gt;</th></tr></thead>"
        "<tbody><tr><th>a&amp;b</th><td>&quot;q&quot;</td></tr></tbody></table>"
    )


def test_fixed_effects_as_a_table_of_a_paper(sleep: lmmfast.LMMFit) -> None:
    text = sleep.summary().to_latex("Fixed effects", caption="Effects of 1 %", label="tab:fixed")
    assert text == "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            r"\caption{Effects of 1 \%}",
            r"\label{tab:fixed}",
            r"\begin{tabular}{lrrrrr}",
            r"\toprule",
            r" & Estimate & Std. Error & df & t value & "
            r"Pr(\textgreater{}\textbar{}t\textbar{}) \\",
            r"\midrule",
            r"Intercept & 251.405 & 6.825 & 17 & 36.838 & $<2 \times 10^{-16}$ \\",
            r"Days & 10.467 & 1.546 & 17 & 6.771 & $3.26 \times 10^{-6}$ \\",
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip p-values: t, Satterthwaite degrees of freedom",
            r"\end{table}",
        ]
    )
    assert sleep.summary().to_markdown("Fixed effects:", text=False) == "\n".join(
        [
            r"|           | Estimate | Std. Error |  df | t value | Pr(>\|t\|) |",
            r"| :-------- | -------: | ---------: | --: | ------: | ---------: |",
            r"| Intercept |  251.405 |      6.825 |  17 |  36.838 |    \<2e-16 |",
            r"| Days      |   10.467 |      1.546 |  17 |   6.771 |   3.26e-06 |",
        ]
    )


def test_other_words_for_headers_and_labels(sleep: lmmfast.LMMFit) -> None:
    names = {"Estimate": "b", "Std. Error": "SE", "t value": "t", "Pr(>|t|)": "p", "Days": "Day"}
    assert sleep.summary().to_markdown("Fixed effects", text=False, rename=names) == "\n".join(
        [
            r"|           |       b |    SE |  df |      t |        p |",
            r"| :-------- | ------: | ----: | --: | -----: | -------: |",
            r"| Intercept | 251.405 | 6.825 |  17 | 36.838 |  \<2e-16 |",
            r"| Day       |  10.467 | 1.546 |  17 |  6.771 | 3.26e-06 |",
        ]
    )
    assert "<th>Day</th>" in sleep.coef_test().to_html(rename={"Days": "Day"})
    with pytest.raises(ValueError, match=r"there is no 'days' to rename: there are .*'Days'"):
        sleep.summary().to_latex(rename={"days": "Day"})


def test_a_long_table_has_no_float(sleep: lmmfast.LMMFit) -> None:
    text = sleep.summary().to_latex("Fixed effects", text=False, longtable=True)
    assert text.startswith("\\begin{longtable}{lrrrrr}\n\\toprule")
    assert "\\endhead\n\\bottomrule\n\\endfoot\nIntercept" in text


def test_summary_has_its_tables_by_heading(sleep: lmmfast.LMMFit) -> None:
    summary = sleep.summary()
    assert list(summary.tables) == [
        "Scaled residuals",
        "Random effects",
        "Fixed effects",
        "Correlation of fixed effects",
    ]
    frame = summary.to_frame()
    assert frame["Estimate"].tolist() == ["251.405", "10.467"]
    assert summary.to_frame("Random effects")["Std.Dev."].tolist() == ["24.740", "5.922", "25.592"]
    with pytest.raises(ValueError, match="there is no table 'Fixed': name one of 'Scaled res"):
        summary.to_frame("Fixed")
    with pytest.raises(ValueError, match="there is no table 'Fixed': name one of"):
        summary.to_latex("Fixed")
    with pytest.raises(ValueError, match="there is no table"):
        Summary((("words",),)).to_frame()


def test_lines_of_a_paragraph_stay_lines() -> None:
    summary = Summary((("# one", "[two] * x", "1. three"),))
    assert summary.to_markdown() == "\\# one\\\n[two] \\* x\\\n1\\. three"
    assert summary.to_latex() == "\\noindent \\# one \\\\\n{[}two] * x \\\\\n1. three"
    assert summary.to_html() == "<p># one<br>[two] * x<br>1. three</p>"


def test_every_printed_result_writes_itself(sleep: lmmfast.LMMFit) -> None:
    machines = lmer("score ~ Machine + (1 | Worker)", datasets.load("Machines"))
    smaller = lmer("Reaction ~ Days + (1 | Subject)", datasets.load("sleepstudy"))
    means = emmeans(machines, "Machine")
    results = [
        sleep.coef_test(),
        sleep.f_test("Days = 0"),
        anova(sleep),
        anova(sleep, smaller),
        lmmfast.drop1(sleep),
        lmmfast.ranova(sleep),
        means,
        means.pairs(),
        sleep.rePCA(),
        sleep.explain_singularity(),
        lmmfast.simplify(sleep),
        lmmfast.step(machines),
        sleep.profile(["sigma"]),
        sleep.bootstrap(20, 1),
        machines.hypotheses(),
    ]
    for result in results:
        assert isinstance(result, Printed)
        frame = result.to_frame()
        assert isinstance(frame, pd.DataFrame), type(result)
        text = str(result)
        markdown, latex, html = result.to_markdown(), result.to_latex(), result.to_html()
        assert html == result._repr_html_()
        # the digits that were printed, in each of the three
        for number in re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", text):
            assert number in markdown and number in latex and number in html, type(result)


def test_frames_are_not_rounded(sleep: lmmfast.LMMFit) -> None:
    np.testing.assert_array_equal(sleep.coef_test().to_frame()["coef"], sleep.params)


def test_sixty_coefficients() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"f": np.tile(np.arange(60), 20), "g": np.repeat(np.arange(20), 60)})
    data["y"] = rng.normal(size=1200)
    fit = lmer("y ~ factor(f) + (1 | g)", data)
    assert len(fit.summary().to_frame()) == 60
    assert fit.summary().to_latex("Fixed effects", longtable=True).count(r"\\") == 61
