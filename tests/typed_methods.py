"""A user's program, as `typed_program`: each public method of fits, models and results once.

What is annotated here is what a type checker must know of an answer: pandas' classes where data
are pandas', polars' where they are polars'.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import numpy as np
import pandas as pd
import polars as pl
from matplotlib.axes import Axes

import lmmfast
from lmmfast import GLMM, LMM, GLMMFit, LMMFit, MMRMFit, Parameters, datasets, plots
from lmmfast.inference.intervals.profile import Profile
from lmmfast.inference.means.contrasts import Contrasts
from lmmfast.inference.means.emmeans import EMMeans
from lmmfast.inference.rows.checks import Checks
from lmmfast.inference.wald import TTest, WaldTest
from lmmfast.many.fits import ManyFits
from lmmfast.planning.power import Power
from lmmfast.planning.study import Study
from lmmfast.resampling.bootstrap import Bootstrap
from lmmfast.tables import Summary


def tests_and_intervals(fit: LMMFit) -> None:
    """Words for degrees of freedom, methods, parameters."""
    table: pd.DataFrame = fit.conf_int(method="wald", parameters=["Days", "sigma"], ddf="residual")
    table = fit.conf_int(parameters="all", ddf="kenward-roger")
    profile: Profile = fit.profile(["sigma"])
    table = profile.conf_int()
    table = profile.curves("sigma")
    test: TTest = fit.t_test("Days = 10", ddf="satterthwaite")
    test = fit.t_test({"Days": 1.0, "Intercept": 0.5})
    test = fit.t_test((np.eye(2), [0.0, 1.0]))
    joint: WaldTest = fit.f_test(np.eye(2), ddf="z")
    test = fit.coef_test(ddf="kenward-roger")
    summary: Summary = fit.summary(correlation=True, ddf="satterthwaite")
    table = fit.tidy("fixed", conf_int=True, scales="vcov")
    table = fit.tidy(["fixed", "ran_vals"])
    table = fit.glance()
    assert len(table) and str(summary) and joint is not None and test is not None


def rows(fit: LMMFit) -> None:
    """Predictions, residuals, influence; answers of the kind of the data."""
    column: pd.Series = fit.predict()
    new = {"Days": np.array([1.0, 2.0]), "Subject": np.array(["308", "309"])}
    column = fit.predict(new, re_form="none", new_levels="population")
    column = fit.predict(pd.DataFrame(new), re_form=["Subject"], type="link")
    table: pd.DataFrame = fit.predict(new, se=True, ddf="residual")
    table = fit.predict(new, interval="prediction", level=0.9)
    other: pl.Series = fit.predict(pl.DataFrame(new))
    others: pl.DataFrame = fit.predict(pl.DataFrame(new), se=True)
    X = np.column_stack([np.ones(2), [1.0, 2.0]])
    column = fit.predict(X=X, Z=[(np.array([0, 1]), X)])
    column = fit.residuals("scaled")
    table = fit.residual_covariance("308")
    table = fit.influence("Subject", levels=["308", "309"], refine=True)
    table = fit.simulate(2, seed=1, re="fixed")
    table = fit.simulate(2, params={"sigma": 3.0}, newdata=new)
    others = fit.simulate(2, newdata=pl.DataFrame(new))
    table = fit.augment(datasets.load("sleepstudy"))
    others = fit.augment(pl.from_pandas(datasets.load("sleepstudy")))
    column = fit.partial_fitted("Days", random="all")
    column = fit.r2()
    table = fit.shrinkage()
    tables: dict[str, pd.DataFrame] = fit.reliability()
    assert len(column) and len(table) and len(tables) and len(other) and len(others)


def again(fit: LMMFit, folder: Path) -> None:
    """Other fits of the same model."""
    other: LMMFit = fit.update(". ~ . - (Days | Subject) + (1 | Subject)", reml=False)
    other = fit.update(weights=None, fixed=None, residual=None)
    other = fit.refit(fit.simulate(1, seed=1)[0])
    boot: Bootstrap = fit.bootstrap(20, seed=1, kind="parametric", re="new")
    table: pd.DataFrame = boot.conf_int(kind="basic", parameters="fixed")
    checks: Checks = fit.check(20)
    fit.save(folder / "fit.lmm", data="cross-products", ddf=["satterthwaite", "kenward-roger"])
    small: LMMFit = fit.without_data(ddf="satterthwaite")
    loaded: LMMFit | GLMMFit | MMRMFit = lmmfast.load(folder / "fit.lmm")
    assert len(table) and checks is not None and small.nobs == other.nobs == loaded.nobs


def means(data: pd.DataFrame) -> None:
    """Marginal means, contrasts, trends."""
    fit = lmmfast.lmer("angle ~ recipe * temp + (1 | replicate)", data)
    found: EMMeans = lmmfast.emmeans(
        fit, "recipe", at={"temp": 200}, weights="equal", adjust="holm", contrasts="pairwise"
    )
    same: EMMeans = fit.emmeans("recipe", at={"temp": [180, 220]}, by="temp", ddf="residual")
    pairs: Contrasts = found.contrast("trt.vs.ctrl", ref="B", adjust="dunnettx")
    pairs = found.contrast({"B - A": [-1, 1, 0]})
    pairs = found.pairs(adjust="tukey")
    table: pd.DataFrame = pairs.conf_int(0.9)
    slopes = lmmfast.emtrends(fit, "recipe", "temp", contrasts="consec")
    tests = lmmfast.joint_tests(fit, ddf="kenward-roger")
    anova = lmmfast.anova(fit, type="II", ddf="satterthwaite")
    anova = lmmfast.drop1(fit, test="F")
    anova = lmmfast.compare(fit, fit.update(". ~ . - recipe:temp"), criterion="AICc")
    chosen = lmmfast.simplify(fit, "AIC", until="criterion")
    ax: Axes = plots.contrasts(pairs)
    drawn: np.ndarray = plots.means(same)
    drawn = same.plot()
    assert len(drawn)
    assert len(table) and ax is not None and chosen is not None and anova is not None
    assert slopes is not None and tests is not None and same is not None


def pictures(fit: LMMFit) -> None:
    """Axes in, axes out."""
    ax: Axes = plots.residuals(fit, "pearson")
    ax = plots.qq(fit, ax=ax)
    ax = plots.coefficients({"one": fit, "two": fit}, ax=ax)
    drawn: np.ndarray = plots.caterpillar(fit)
    drawn = plots.shrinkage(fit)
    table: pd.DataFrame = plots.caterpillar_frame(fit, "Subject")
    found: Profile = fit.profile(["sigma", "Days"])
    drawn = plots.profile(found, "sigma")
    drawn = plots.profile_density(found)
    drawn = found.plot(kind="zeta")
    drawn = plots.bootstrap(fit.bootstrap(20, seed=1), "fixed")
    drawn = plots.check(fit.check(20))
    ax = plots.influence(fit, "Subject")
    ax = plots.simulated(fit, 5)
    grid: Axes | np.ndarray = plots.fitted(fit, "Days", "Subject")
    assert grid is not None
    assert len(drawn) and len(table)


def planning() -> Power:
    """Trials, larger samples, power."""
    trials: pd.DataFrame = lmmfast.design(8, 4, within={"cond": ["a", "b"]}, dropout=0.0)
    more: pd.DataFrame = lmmfast.extend(trials, along="subj", to=10)
    other: pl.DataFrame = lmmfast.extend(pl.from_pandas(trials), along="subj", to=10)
    fit = lmmfast.lmer("Reaction ~ Days + (1 | Subject)", datasets.load("sleepstudy"))
    study: Study = lmmfast.extend(fit, along="Subject", to=20)
    assert len(more) and len(other) and study is not None
    assumed = Parameters(beta={"cond[T.b]": 20.0}, sd={"subj": 80.0, "item": [30.0]}, sigma=200.0)
    formula = "y ~ cond + (1 | subj) + (1 | item)"
    found: Power = lmmfast.power(
        formula, more, test="cond[T.b]", params=assumed, n=20, method="z", effect=[10.0, 20.0]
    )
    ax: Axes = plots.power(found)
    ax = found.plot(ax=ax)
    assert ax is not None
    return found


def models() -> None:
    """Arrays in the place of formulas."""
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(10), 5)
    y = rng.normal(size=10)[codes] + rng.normal(size=50)
    model = LMM.from_arrays(y, np.ones((50, 1)), [(codes, None), (codes % 5, None, "full")])
    fit: LMMFit = model.fit(reml=False, start=[0.5, 0.5])
    value: float = model.objective(fit.theta)
    gradient: np.ndarray = model.objective(fit.theta, gradient=True).gradient
    kept: str = model.storage["storage"]
    many: ManyFits = model.fit_many(np.column_stack([y, y]), ddf="z")
    at: LMMFit = model.at(fit.theta)
    other = GLMM.from_arrays(
        (y > 0).astype(float), np.ones((50, 1)), [(codes, None)], "binomial", accuracy="laplace"
    )
    odds: GLMMFit = other.fit()
    slope: tuple[float, np.ndarray] = other.objective(odds.psi, gradient=True)
    assert np.isfinite(value + slope[0]) and len(gradient) and kept and at.nobs == 50 and many


def generalized(fit: GLMMFit) -> None:
    """What a generalized fit has of its own."""
    new = {"Days": np.array([1.0]), "Subject": np.array(["308"])}
    column: pd.Series = fit.predict(new)
    answer: pd.Series | pd.DataFrame = fit.predict(new, type="response", marginal=True)
    table: pd.DataFrame = fit.predict(new, type="response", se=True)
    column = fit.residuals("quantile", seed=1)
    table = fit.conf_int(method="wald", parameters="all")
    table = fit.influence("Subject", levels="308")
    other: GLMMFit = fit.update(". ~ 1 + (1 | Subject)", information="expected")
    table = fit.simulate(1, re="new")
    assert len(column) and len(table) and len(answer) and other.nobs == fit.nobs


def repeated(fit: MMRMFit) -> None:
    """What a fit for repeated measures has of its own."""
    table: pd.DataFrame = fit.covariance()
    column: pd.Series = fit.predict()
    table = fit.predict(se=True, ddf="between-within")
    column = fit.residuals("normalized")
    test: TTest = fit.t_test("Intercept", ddf="kenward-roger-linear")
    other: MMRMFit = fit.update(ddf="satterthwaite")
    assert len(table) and len(column) and test is not None and other.ddf


def statsmodels(data: pd.DataFrame) -> None:
    """Names of statsmodels."""
    model = lmmfast.mixedlm("Reaction ~ Days", data, groups="Subject", missing="drop")
    found = model.fit(reml=True)
    params: pd.Series | np.ndarray = found.params
    test: TTest = found.t_test("Days = 0")
    joint: WaldTest = found.wald_test(np.eye(2))
    table: pd.DataFrame = found.tidy(("fixed", "ran_pars"))
    ax: Axes = plots.coefficients(found)
    assert len(params) and len(table) and ax is not None and test is not None and joint is not None


def mistakes(fit: LMMFit, odds: GLMMFit, visits: MMRMFit) -> None:
    """Never called."""
    fit.conf_int(method="walt")  # type: ignore[arg-type]
    fit.conf_int(parameters="fixd")  # type: ignore[arg-type]
    fit.t_test("Days", ddf="satterthwait")  # type: ignore[arg-type]
    fit.summary(ddf="between-within")  # type: ignore[arg-type]
    fit.residuals("deviance")  # type: ignore[arg-type]
    odds.residuals("scaled")  # type: ignore[arg-type]
    visits.residuals("scaled")  # type: ignore[arg-type]
    fit.predict(3)  # type: ignore[call-overload]
    fit.predict(new_levels="mean")  # type: ignore[call-overload]
    odds.predict(type="probability")  # type: ignore[call-overload]
    column: pd.Series = fit.predict(se=True)  # type: ignore[assignment]
    column = fit.predict(pl.DataFrame())  # type: ignore[assignment]
    assert column is not None
    fit.simulate(re="old")  # type: ignore[call-overload]
    fit.bootstrap(kind="wild")  # type: ignore[arg-type]
    fit.influence(refine="half")  # type: ignore[arg-type]
    fit.update(data=3)  # type: ignore[arg-type]
    fit.tidy("random")  # type: ignore[arg-type]
    fit.save("fit.lmm", data="rows")  # type: ignore[arg-type]
    fit.emmeans("Days", adjust="tuckey")  # type: ignore[arg-type]
    fit.emmeans("Days", wieghts="equal")  # type: ignore[call-arg]
    lmmfast.emmeans(fit, "Days", weights="same")  # type: ignore[arg-type]
    lmmfast.anova(fit, type=4)  # type: ignore[arg-type]
    lmmfast.compare(fit, fit, criterion="DIC")  # type: ignore[arg-type]
    lmmfast.power(fit, method="t")  # type: ignore[arg-type]
    lmmfast.mixedlm("y ~ x", {}, missing="keep")  # type: ignore[arg-type]
    LMM.from_arrays(np.ones(3), np.ones((3, 1)), [np.zeros(3)], storage="thick")  # type: ignore[arg-type, list-item]
    plots.caterpillar("fit")  # type: ignore[arg-type]
    plots.means(fit)  # type: ignore[arg-type]
