"""Fits for other programs and for papers: tidy frames, equations, paragraphs, columns of tables."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from statsmodels.iolib.summary2 import summary_col

import lmmfast
from lmmfast import DataError, FitError, datasets, glmer, lmer, mixedlm, mmrm


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return datasets.load("sleepstudy")


@pytest.fixture(scope="module")
def sleep(data: pd.DataFrame) -> lmmfast.LMMFit:
    return lmer("Reaction ~ Days + (Days | Subject)", data)


@pytest.fixture(scope="module")
def hits() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    subj, dose = np.repeat(np.arange(30), 20), np.tile([0.0, 1.0], 300)
    eta = 0.5 + dose + 1.5 * rng.normal(size=30)[subj]
    hit = rng.random(600) < 1 / (1 + np.exp(-eta))
    count = rng.poisson(np.exp(eta / 2) * rng.gamma(2, 0.5, size=600))
    return {"hit": hit, "dose": dose, "subj": subj, "count": count}


@pytest.fixture(scope="module")
def binary(hits: dict[str, Any]) -> lmmfast.GLMMFit:
    return glmer("hit ~ dose + (1 | subj)", hits)


@pytest.fixture(scope="module")
def visits() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    subject, visit = np.repeat(np.arange(40), 3), np.tile(["w1", "w2", "w3"], 40)
    arm = np.where(subject % 2, "drug", "placebo")
    y = rng.normal(size=40)[subject] + rng.normal(size=120) + (arm == "drug")
    return {"y": y, "arm": arm, "visit": visit, "id": subject}


@pytest.fixture(scope="module")
def repeated(visits: dict[str, Any]) -> lmmfast.MMRMFit:
    return mmrm("y ~ arm + us(visit | id)", visits)


# ---- tidy and glance ----------------------------------------------------------------------------


def test_tidy_has_broom_mixeds_columns(sleep: lmmfast.LMMFit) -> None:
    found = sleep.tidy(conf_int=True)
    assert found.columns.tolist() == [
        "effect",
        "group",
        "term",
        "estimate",
        "std.error",
        "statistic",
        "df",
        "p.value",
        "conf.low",
        "conf.high",
    ]
    assert found["term"].tolist() == [
        "Intercept",
        "Days",
        "sd__Intercept",
        "cor__Intercept.Days",
        "sd__Days",
        "sd__Observation",
    ]
    assert found["effect"].tolist() == ["fixed"] * 2 + ["ran_pars"] * 4
    assert found["group"].tolist()[2:] == ["Subject"] * 3 + ["Residual"]
    assert found["group"][:2].isna().all()
    assert not found[["estimate", "std.error", "conf.low", "conf.high"]].isna().any(axis=None)
    np.testing.assert_array_equal(found["estimate"][:2], sleep.params)
    limits = sleep.conf_int(parameters="all")
    np.testing.assert_array_equal(found["conf.low"][:2], limits["lower"].tail(2))
    np.testing.assert_array_equal(found["conf.high"][2:], limits["upper"].head(4))


def test_limits_of_standard_deviations_are_profiled_if_asked(sleep: lmmfast.LMMFit) -> None:
    """broom.mixed gives none for variance parameters but with conf.method = "profile"."""
    found = sleep.tidy("ran_pars", conf_int=True, conf_method="profile", conf_level=0.9)
    own = sleep.conf_int(0.9, method="profile", parameters="random")
    np.testing.assert_array_equal(found[["conf.low", "conf.high"]], own)


def test_variances_and_covariances(sleep: lmmfast.LMMFit, repeated: lmmfast.MMRMFit) -> None:
    """broom.mixed's scales = "vcov"."""
    sd = sleep.tidy("ran_pars", conf_int=True).set_index("term")
    var = sleep.tidy("ran_pars", conf_int=True, scales="vcov").set_index("term")
    names = ["var__Intercept", "cov__Intercept.Days", "var__Days", "var__Observation"]
    assert list(var.index) == names
    np.testing.assert_allclose(var["estimate"], sleep.varcorr["vcov"].iloc[[0, 2, 1, 3]])
    for name in ("Intercept", "Days", "Observation"):
        one, two = sd.loc[f"sd__{name}"], var.loc[f"var__{name}"]
        np.testing.assert_allclose(two["std.error"], 2 * one["estimate"] * one["std.error"])
        np.testing.assert_allclose(two["conf.low"], one["conf.low"] ** 2)
    assert var.loc["cov__Intercept.Days"].iloc[3:].isna().all()
    visits = repeated.tidy("ran_pars", scales="vcov")
    wanted = repeated.varcorr.set_index(["var1", "var2"])["vcov"]
    for term, value in zip(visits["term"], visits["estimate"], strict=True):
        kind, _, inside = term.partition("__")
        one, _, two = inside.partition(".")
        np.testing.assert_allclose(value, wanted[one, two if kind == "cov" else None])
    with pytest.raises(ValueError, match='scales must be "sdcor" or "vcov"'):
        sleep.tidy(scales="variance")


def test_levels(sleep: lmmfast.LMMFit) -> None:
    modes = sleep.tidy("ran_vals", conf_int=True)
    own = sleep.ranef(cond_var=True)["Subject"]
    assert modes.columns[:4].tolist() == ["effect", "group", "level", "term"]
    assert len(modes) == 36 and modes["level"][2] == own.index[1]
    np.testing.assert_array_equal(modes["estimate"], own["condval"].to_numpy().ravel())
    half = (modes["conf.high"] - modes["conf.low"]) / 2 / modes["std.error"]
    np.testing.assert_allclose(half, 1.959964, rtol=1e-6)
    coefficients = sleep.tidy(["ran_coefs"])
    np.testing.assert_array_equal(
        coefficients["estimate"], sleep.coef()["Subject"].to_numpy().ravel()
    )


def test_odds_ratios(binary: lmmfast.GLMMFit) -> None:
    plain, ratios = (binary.tidy(conf_int=True, exponentiate=own) for own in (False, True))
    assert "df" not in plain
    fixed = plain["effect"] == "fixed"
    for name in ("estimate", "conf.low", "conf.high"):
        np.testing.assert_allclose(ratios[name][fixed], np.exp(plain[name][fixed]))
        np.testing.assert_array_equal(ratios[name][~fixed], plain[name][~fixed])
    np.testing.assert_allclose(
        ratios["std.error"][fixed], plain["std.error"][fixed] * np.exp(plain["estimate"][fixed])
    )
    np.testing.assert_array_equal(ratios["p.value"], plain["p.value"])


def test_parameters_of_a_distribution(hits: dict[str, Any]) -> None:
    fit = glmer("count ~ dose + (1 | subj)", hits, "negative-binomial")
    last = fit.tidy().iloc[-1]
    assert (last["group"], last["term"]) == ("Distribution", "size")
    assert last["estimate"] == fit.extra["size"] and last["std.error"] == fit.extra_se["size"]


def test_parameters_of_structures(data: pd.DataFrame) -> None:
    fit = lmer("Reaction ~ Days + (1 | Subject)", data, residual="ar1(Days | Subject)")
    own = fit.tidy("ran_pars").iloc[-1]
    assert own["estimate"] == fit.residual_parameters["estimate"].iloc[0]
    assert own["std.error"] == fit.residual_parameters["se"].iloc[0]
    assert fit.parameters()["status"].tolist() == ["", "", ""]
    shared = lmer("Reaction ~ Days + ar1(0 + factor(Days) | Subject)", data)
    terms = shared.tidy("ran_pars")["term"].tolist()
    assert terms == ["sd__factor(Days)", "rho__factor(Days)", "sd__Observation"]


def test_repeated_measures(repeated: lmmfast.MMRMFit, visits: dict[str, Any]) -> None:
    found = repeated.tidy("ran_pars", conf_int=True)
    assert found["term"].tolist() == [
        "sd__w1",
        "sd__w2",
        "sd__w3",
        "cor__w1.w2",
        "cor__w1.w3",
        "cor__w2.w3",
    ]
    assert (found["group"] == "id").all() and not found.isna().any(axis=None)
    grouped = mmrm("y ~ arm + ar1(visit | arm / id)", visits).tidy("ran_pars")
    assert grouped["group"].tolist() == ["id: drug"] * 2 + ["id: placebo"] * 2
    assert grouped["term"].tolist() == ["sd", "rho"] * 2
    with pytest.raises(FitError, match="no random effects"):
        repeated.tidy("ran_vals")


def test_tidy_of_statsmodels_results(data: pd.DataFrame) -> None:
    result = mixedlm("Reaction ~ Days", data, groups=data["Subject"]).fit()
    found = result.tidy("fixed", conf_int=True)
    np.testing.assert_allclose(found[["conf.low", "conf.high"]], result.conf_int()[:2])
    np.testing.assert_allclose(found["p.value"], result.pvalues[:2])
    assert result.glance()["nobs"].item() == 180
    assert ".fitted" in result.augment(data)


def test_wrong_effects_are_said(sleep: lmmfast.LMMFit) -> None:
    with pytest.raises(ValueError, match='effects must be "fixed", "ran_pars", "ran_vals" or'):
        sleep.tidy("random")
    with pytest.raises(ValueError, match="is the coverage"):
        sleep.tidy(conf_int=True, conf_level=5)


def test_glance(sleep: lmmfast.LMMFit, binary: lmmfast.GLMMFit, repeated: Any) -> None:
    row = sleep.glance().iloc[0]
    assert row["REMLcrit"] == sleep.objective and row["sigma"] == sleep.sigma
    assert (row["nobs"], row["df.residual"], row["npar"]) == (180, 174, 6)
    assert row["converged"] and not row["singular"]
    assert "sigma" not in binary.glance() and "deviance" in binary.glance()
    assert repeated.glance()["REMLcrit"].item() == repeated.objective


# ---- augment ------------------------------------------------------------------------------------

KINDS = {"pandas": pd.DataFrame, "polars": pl.from_pandas, "pyarrow": pa.Table.from_pandas}


@pytest.mark.parametrize("kind", KINDS)
def test_augment_gives_the_kind_it_got(data: pd.DataFrame, kind: str) -> None:
    frame = data.copy()
    frame.loc[3, "Reaction"] = np.nan
    given = KINDS[kind](frame)
    fit = lmer("Reaction ~ Days + (Days | Subject)", given)
    used = fit.augment()
    assert type(used) is type(given) and used.shape[0] == 179
    whole = fit.augment(given, influence=True)
    assert type(whole) is type(given) and whole.shape == (180, 8)
    resid = whole[".resid"]
    values = resid.to_numpy() if kind == "pandas" else np.array(resid.to_pylist(), float) if (
        kind == "pyarrow"
    ) else resid.to_numpy()  # fmt: skip
    assert np.isnan(values[3]) and not np.isnan(np.delete(values, 3)).any()
    np.testing.assert_array_equal(np.delete(values, 3), fit.resid)
    if kind == "polars":
        assert resid.null_count() == 1
    new = fit.augment(newdata=given, re_form="none", se=True)
    assert type(new) is type(given)
    assert list(getattr(new, "columns", None) if kind != "pyarrow" else new.column_names)[-2:] == [
        ".lower",
        ".upper",
    ]


def test_augment_keeps_the_index(data: pd.DataFrame) -> None:
    frame = data.set_index(np.arange(180) + 1000)
    fit = lmer("Reaction ~ Days + (1 | Subject)", frame)
    assert fit.augment().index.equals(frame.index)
    assert fit.augment(newdata=frame.iloc[0]).shape == (1, 4)


def test_cooks_distances_are_lme4s(data: pd.DataFrame) -> None:
    """lme4 1.1-38: cooks.distance(lmer(Reaction ~ Days + (1 | Subject), sleepstudy)) is
    (pearson / (1 - hat))^2 hat / (sigma^2 p)."""
    fit = lmer("Reaction ~ Days + (1 | Subject)", data)
    found = fit.augment(influence=True)
    hat = fit.influence()["hat_diag"].to_numpy()
    own = (fit.resid / (1 - hat)) ** 2 * hat / (fit.sigma**2 * 2)
    np.testing.assert_allclose(found[".cooksd"], own)
    np.testing.assert_array_equal(found[".hat"], hat)


def test_augment_of_generalized_models(binary: lmmfast.GLMMFit, hits: dict[str, Any]) -> None:
    found = binary.augment()
    np.testing.assert_array_equal(found[".fitted"], binary.linear_predictor)
    np.testing.assert_array_equal(found[".mu"], binary.fittedvalues)
    np.testing.assert_array_equal(found[".resid"], binary.residuals("deviance"))
    other = binary.augment(type_residuals="pearson")[".resid"]
    np.testing.assert_array_equal(other, binary.residuals("pearson"))
    few = glmer("hit ~ dose + (1 | subj)", {name: own[:100] for name, own in hits.items()})
    cooks = few.augment(influence=True)[".cooksd"]
    np.testing.assert_array_equal(cooks, few.influence()["cooks_d"])


def test_augment_says_what_is_missing(sleep: lmmfast.LMMFit, data: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="data has 10 rows, the fit was made of 180"):
        sleep.augment(data[:10])
    with pytest.raises(DataError, match="is for newdata="):
        sleep.augment(re_form="none")
    with pytest.raises(DataError, match="leave out data= and influence="):
        sleep.augment(data, newdata=data)
    arrays = lmmfast.LMM.from_arrays(
        data["Reaction"].to_numpy(),
        np.ones((180, 1)),
        [(np.repeat(np.arange(18), 10), np.ones((180, 1)))],
    ).fit()
    with pytest.raises(DataError, match="are not at hand"):
        arrays.augment()


# ---- equations ----------------------------------------------------------------------------------


def test_equation(sleep: lmmfast.LMMFit) -> None:
    assert str(sleep.equation()) == "\n".join(
        [
            r"\begin{aligned}",
            r"\text{Reaction}_{i} &= \beta_{0} + \beta_{1} \, \text{Days}_{i} "
            r"+ u_{0,\text{Subject}[i]} + u_{1,\text{Subject}[i]} \, \text{Days}_{i} "
            r"+ \varepsilon_{i} \\",
            r"\begin{pmatrix} u_{0,j} \\ u_{1,j} \end{pmatrix} &\sim "
            r"\mathcal{N}\!\left(\mathbf{0},\, \begin{pmatrix} \sigma_{u0}^2 & "
            r"\rho_{u01} \sigma_{u0} \sigma_{u1} \\ \rho_{u01} \sigma_{u0} \sigma_{u1} & "
            r"\sigma_{u1}^2 \end{pmatrix}\right), \quad j = 1, \ldots, 18 \text{ of } "
            r"\text{Subject} \\",
            r"\varepsilon_{i} &\sim \mathcal{N}(0,\, \sigma^2)",
            r"\end{aligned}",
        ]
    )
    numbers = sleep.equation(numbers=True).lines
    assert numbers[0].startswith(r"\text{Reaction}_{i} &= 251.405 + 10.467 \, \text{Days}_{i} + u")
    assert r"\begin{pmatrix} 612.1 & 9.604 \\ 9.604 & 35.07 \end{pmatrix}" in numbers[1]
    assert numbers[2] == r"\varepsilon_{i} &\sim \mathcal{N}(0,\, 25.59^2)"
    assert sleep.equation().to_latex().startswith("\\begin{equation*}\n\\begin{aligned}")
    assert sleep.equation()._repr_latex_() == sleep.equation().to_markdown()


def test_short_equations() -> None:
    fit = lmer("RTtrunc ~ S + (S + P + C | subj) + (1 | item)", lmmfast.datasets.load("kb07"))
    long, short = fit.equation(), fit.equation(short=True)
    assert len(str(short)) < len(str(long)) / 2 and "rho" in str(long) and "rho" not in str(short)
    assert r"\mathbf{z}_{u,i}^{\top} \mathbf{u}_{\text{subj}[i]}" in short.lines[0]
    names = r"\mathbf{z}_{u} = (\text{Intercept}, \text{S}, \text{P}, \text{C})"
    assert short.lines[1].endswith(names)
    assert str(short.lines[2]).startswith("v_j &")  # one column stays as it is
    deviations = fit.varcorr.query("group == 'subj' and var2.isna()")["sdcor"]
    shown = str(fit.equation(short=True, numbers=True))
    numbers = re.search(r"boldsymbol\{\\sigma\}_\{u\} = \((.*?)\)", shown)
    assert numbers is not None
    np.testing.assert_allclose([float(n) for n in numbers[1].split(",")], deviations, rtol=1e-3)


def test_thousands_have_commas(data: pd.DataFrame) -> None:
    many = pd.concat([data] * 7, ignore_index=True)
    many.loc[:1009, "Reaction"] = np.nan
    said = str(lmer("Reaction ~ Days + (1 | Subject)", many[:1500]).report())
    assert "1,010 of 1,260 rows were left out" in " ".join(said.split())
    whole = str(lmer("Days ~ 1 + (1 | Subject)", many).report())
    assert "1,260 observations" in " ".join(whole.split())


def test_fits_say_where_pictures_are(sleep: lmmfast.LMMFit) -> None:
    with pytest.raises(AttributeError, match=r"lmmfast\.plots.*lmmfast\[plot\].*fit\.check\(\)"):
        sleep.plot()


def test_equation_of_generalized_models(binary: lmmfast.GLMMFit, hits: dict[str, Any]) -> None:
    lines = binary.equation().lines
    assert lines[0] == r"\text{hit}_{i} &\sim \operatorname{Bernoulli}(p_i)"
    assert lines[1].startswith(r"\operatorname{logit}(p_i) &= \beta_{0} + \beta_{1} \, \text{dose}")
    counted = glmer("count ~ 0 + dose + (1 | subj)", hits, "negative-binomial")
    lines = counted.equation(numbers=True).lines
    assert lines[0] == (
        r"\text{count}_{i} &\sim \operatorname{NegativeBinomial}(\mu_i, \text{size} = "
        f"{counted.extra['size']:.4g})"
    )
    classes = {**hits, "o": pd.Categorical(np.array(["l", "m", "h"])[hits["count"] % 3],
                                           ["l", "m", "h"], ordered=True)}  # fmt: skip
    lines = glmer("o ~ dose + (1 | subj)", classes, "ordered").equation().lines
    assert lines[0] == (
        r"\operatorname{logit}\!\left(\Pr(\text{o}_i \le k)\right) &= \tau_k - \eta_i"
    )
    assert r"\beta_{1} \, \text{dose}_{i}" in lines[1]


def test_equation_of_hostile_names_and_long_sums() -> None:
    rng = np.random.default_rng(2)
    data = {"y": rng.normal(size=400), "a_b%&$#{}~^": rng.normal(size=400)}
    data |= {"c": np.tile(np.arange(8), 50), "g": np.repeat(np.arange(20), 20)}
    fit = lmer(r"y ~ `a_b%&$#{}~^` * factor(c) + (0 + factor(c) | g)", data)
    lines = fit.equation(numbers=True).lines
    assert all(line.startswith(r"&\quad ") for line in lines[1:-2]) and len(lines) > 5
    name = r"{\text{a}\_\text{b}\%\&\$\#\{\}\sim \wedge }_{i}"
    assert name in lines[0]
    assert r"\mathbf{z}_{u,i}^{\top} \mathbf{u}_{\text{g}[i]}" in lines[-3]
    assert lines[-2].endswith(
        r"\mathbf{z}_{u} = (\text{factor(c)[0]}, \ldots, \text{factor(c)[7]})"
    )
    for line in lines:
        assert line.count("{") == line.count("}"), line


def test_equation_of_zero_variances_and_many_terms(data: pd.DataFrame) -> None:
    frame = data.assign(y=np.tile(np.arange(10.0), 18))
    for k in range(3):
        frame[f"g{k}"] = (np.arange(180) * (k + 3) + k) % (7 + k)
    formula = "y ~ 1 + (1 | Subject) + (1 | g0) + (1 | g1) + (1 | g2)"
    lines = lmer(formula, frame).equation(numbers=True).lines
    assert r"u^{(1)}_{\text{Subject}[i]} + u^{(2)}_{\text{g0}[i]}" in lines[0]
    assert r"u^{(1)}_j &\sim \mathcal{N}(0,\, 0)," in lines[1]


def test_equation_of_repeated_measures(repeated: lmmfast.MMRMFit) -> None:
    lines = repeated.equation().lines
    assert lines[0] == (
        r"\text{y}_{it} &= \beta_{0} + \beta_{1} \, \text{arm[T.placebo]}_{it} + \varepsilon_{it}"
    )
    assert r"\boldsymbol{\Sigma} \text{: } {\text{us(visit }{|}\text{ id)}}" in lines[1]


# ---- paragraphs ---------------------------------------------------------------------------------


def test_report(data: pd.DataFrame) -> None:
    frame = data.assign(half=np.where(data["Days"] > 4, "late", "early"))
    frame.loc[[3, 5, 8], "Reaction"] = np.nan
    frame.loc[5, "half"] = None
    fit = lmer("Reaction ~ half + (1 | Subject)", frame)
    assert fit.report(ddf="kenward-roger").sentences == (
        "A linear mixed model, Reaction ~ half + (1 | Subject), was fitted by restricted maximum "
        f"likelihood (REML) with lmmfast {lmmfast.__version__} for Python.",
        "Random effects: intercept by Subject (18 levels).",
        "Coefficients of half are late - early (the intercept is early).",
        "The model was fitted to 177 observations; 3 of 180 rows were left out, with missing or "
        "unusable values of Reaction (3) and half (1).",
        fit.report().sentences[4],
        "The fit is not singular.",
        "Tests of fixed effects are t tests with Kenward and Roger's degrees of freedom (Kenward & "
        "Roger, 1997).",
    )
    assert fit.report().sentences[4].startswith("The optimum was verified by slope and curvature")
    assert "`Reaction ~ half + (1 | Subject)`, was fitted" in fit.report().to_markdown()
    assert r"\texttt{Reaction \textasciitilde{} half" in fit.report().to_latex()
    assert max(map(len, str(fit.report()).split("\n"))) <= 100


def test_reports_of_other_kinds(
    binary: lmmfast.GLMMFit, repeated: lmmfast.MMRMFit, data: pd.DataFrame
) -> None:
    first = binary.report().sentences[0]
    assert "(binomial distribution, logit link)" in first and "Laplace approximation" in first
    assert binary.report().sentences[-1] == "Tests of fixed effects are Wald z tests."
    assert "(unstructured)" in str(repeated.report())
    zero = lmer("y ~ 1 + (1 | Subject)", data.assign(y=np.tile(np.arange(10.0), 18)))
    assert "The fit is singular: (1 | Subject): the variance of Intercept is zero." in (
        zero.report().sentences
    )


def test_formulas_with_backticks_and_models_without_formula(hits: dict[str, Any]) -> None:
    named = {"a b": hits["dose"], "y": hits["count"], "subj": hits["subj"]}
    text = lmer("`y` ~ `a b` + (1 | subj)", named).report().to_markdown()
    assert "mixed model, `` `y` ~ `a b` + (1 | subj) ``, was fitted" in text
    one = np.ones((600, 1))
    arrays = lmmfast.LMM.from_arrays(named["y"], one, [(named["subj"], None)]).fit()
    assert str(arrays.report()).startswith("A linear mixed model, made from arrays, was fitted by")
    assert arrays.equation().lines[0] == (
        r"\text{y}_{i} &= \beta_{1} \, \text{x0}_{i} + u_{\text{g0}[i]} + \varepsilon_{i}"
    )


def test_a_fit_that_did_not_converge_says_so(data: pd.DataFrame) -> None:
    with pytest.warns(lmmfast.ConvergenceWarning):
        fit = lmer("Reaction ~ Days + (Days | Subject)", data, max_evals=1, start=[9, 0, 9])
    assert "should not be reported" in str(fit.report())


def test_where_tables_of_a_fit_are(sleep: lmmfast.LMMFit) -> None:
    with pytest.raises(AttributeError, match=r"fit\.summary\(\)\.to_latex\(\)"):
        sleep.to_latex()
    with pytest.raises(AttributeError, match=r"fit\.tidy\(\)"):
        sleep.to_frame()


# ---- columns of tables --------------------------------------------------------------------------


def test_summary_col(sleep: lmmfast.LMMFit, data: pd.DataFrame) -> None:
    result = mixedlm("Reaction ~ Days", data, groups=data["Subject"]).fit()
    table = summary_col([sleep.to_statsmodels(), result], stars=True).tables[0]
    assert table.columns.tolist() == ["Reaction I", "Reaction II"]
    assert table.loc["Days"].tolist() == ["10.4673***", "10.4673***"]
    np.testing.assert_array_equal(sleep.to_statsmodels().conf_int(0.1), sleep.conf_int(0.9))


def test_maketables(sleep: lmmfast.LMMFit, binary: lmmfast.GLMMFit, data: pd.DataFrame) -> None:
    maketables = pytest.importorskip("maketables")
    import lmmfast.maketables

    result = mixedlm("Reaction ~ Days", data, groups=data["Subject"]).fit()
    frame = maketables.ETable(
        [sleep, result, binary], coef_fmt="b:.3f [ci95l:.2f, ci95u:.2f]"
    ).df  # fmt: skip
    cells = {row[-1]: own.tolist() for row, own in frame.iterrows()}
    assert cells["Days"] == ["10.467 [7.21, 13.73]", "10.467 [8.89, 12.04]", ""]
    assert cells["SD (Days | Subject)"][0] == "5.922"
    assert cells["Cor (Intercept, Days | Subject)"][0] == "0.066"
    assert cells["SD (residual)"][1] == "30.991" and cells["Observations"][2] == "600"
    assert [name[0] for name in frame.columns] == ["Reaction", "Reaction", "hit"]
    table = sleep.__maketables_coef_table__
    np.testing.assert_array_equal(table[["ci95l", "ci95u"]], sleep.conf_int())
    assert sleep.__maketables_stat__("ddf") == "Satterthwaite"
    assert sleep.__maketables_stat__("reml") == sleep.objective
    assert sleep.__maketables_stat__("deviance") is None
    assert sleep.__maketables_stat__("marginal_r2") == sleep.r2()["marginal"]
    assert binary.__maketables_stat__("converged") == "yes"
    lmmfast.maketables.register()  # once more changes nothing
    known = maketables.extractors._EXTRACTOR_REGISTRY
    assert sum(isinstance(own, lmmfast.maketables.Extractor) for own in known) == 1
