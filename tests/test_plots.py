"""Pictures show the numbers of their frames, in the caller's style, for fits of every kind."""

from __future__ import annotations

import builtins
import itertools
import sys
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import lmmfast
from lmmfast import DataError, FitError, datasets, emmeans, emtrends, glmer, lmer, mmrm, plots
from lmmfast.plots.checks import draw_influence

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

SLEEP = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(autouse=True)
def closed() -> Any:
    """No test leaves figures behind."""
    with matplotlib.rc_context():
        yield
    plt.close("all")


@pytest.fixture(scope="module")
def sleep() -> Any:
    return lmer(SLEEP, datasets.load("sleepstudy"))


@pytest.fixture(scope="module")
def crossed() -> pd.DataFrame:
    """Subjects and items; 80 subjects are more than labels can be read of."""
    rng = np.random.default_rng(3)
    subj, item = np.repeat(np.arange(80), 8), np.tile(np.arange(8), 80)
    cond = np.where((subj + item) % 2, "a", "b")
    freq = rng.normal(size=8)[item]
    y = 3 + (cond == "b") + freq + rng.normal(size=80)[subj] + rng.normal(size=8)[item]
    y = y + rng.normal(size=640)
    data = {"y": y, "cond": cond, "freq": freq, "subj": subj, "item": [f"item {i}" for i in item]}
    data["hit"] = (rng.random(640) < 1 / (1 + np.exp(-(y - 3)))).astype(int)
    data["n"] = rng.poisson(np.exp(0.2 * y))
    return pd.DataFrame(data)


@pytest.fixture(scope="module")
def crossed_fit(crossed: pd.DataFrame) -> Any:
    return lmer("y ~ cond * freq + (cond | subj) + (1 | item)", crossed)


@pytest.fixture(scope="module")
def binary(crossed: pd.DataFrame) -> Any:
    return glmer("hit ~ cond + freq + (1 | subj)", crossed, "binomial")


@pytest.fixture(scope="module")
def visits() -> Any:
    rng = np.random.default_rng(4)
    id, visit = np.repeat(np.arange(40), 3), np.tile(["w1", "w2", "w3"], 40)
    arm = np.where(id % 2, "drug", "placebo")
    y = rng.normal(size=40)[id] + rng.normal(size=120) + (arm == "drug")
    data = pd.DataFrame({"y": y, "arm": arm, "visit": visit, "id": id})
    return mmrm("y ~ arm * visit + us(visit | id)", data)


# ---- random effects -------------------------------------------------------------------------


def test_caterpillar_holds_modes_and_intervals(sleep: Any) -> None:
    frame = plots.caterpillar_frame(sleep, level=0.9)
    modes = sleep.ranef(cond_var=True)["Subject"]
    days = frame[frame["column"] == "Days"].set_index("level")
    np.testing.assert_allclose(days["mode"], modes["condval"]["Days"])
    half = stats.norm.ppf(0.95) * modes["condsd"]["Days"].to_numpy()
    np.testing.assert_allclose(days["upper"] - days["mode"], half)
    axes = plots.caterpillar(sleep, level=0.9)
    assert [ax.get_xlabel() for ax in axes] == ["Intercept", "Days"]
    order = modes["condval"]["Intercept"].sort_values(ascending=False).index
    assert [text.get_text() for text in axes[0].get_yticklabels()] == list(order)
    drawn = axes[1].containers[0].lines[0].get_xdata()  # in the order of the intercepts
    np.testing.assert_allclose(drawn, modes["condval"]["Days"].loc[order])
    spans = axes[1].containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([s[1, 0] - s[0, 0] for s in spans], 2 * half[0], rtol=1e-6)


def test_orders_of_a_caterpillar(sleep: Any) -> None:
    by_days = plots.caterpillar(sleep, order="Days")[1].containers[0].lines[0].get_xdata()
    assert (np.diff(by_days) <= 0).all()  # downwards from the top
    plain = plots.caterpillar(sleep, order=None)[0]
    labels = [text.get_text() for text in plain.get_yticklabels()]
    assert labels == list(sleep.ranef()["Subject"].index)
    with pytest.raises(ValueError, match="order must be a column"):
        plots.caterpillar(sleep, order="days")


def test_many_levels_have_no_labels_but_a_number(crossed_fit: Any) -> None:
    axes = plots.caterpillar(crossed_fit)
    names = ["Intercept | subj", "cond[T.b] | subj", "Intercept | item"]
    assert [ax.get_xlabel() for ax in axes] == names
    assert axes[0].get_ylabel() == "subj (80 levels)" and not axes[0].get_yticklabels()
    assert len(axes[2].get_yticklabels()) == 8
    assert len(plots.caterpillar(crossed_fit, "item")) == 1


def test_labels_do_not_overlap(crossed_fit: Any) -> None:
    ax = plots.caterpillar(crossed_fit, "item")[0]
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.get_yticklabels()]
    heights = sorted((box.y0, box.y1) for box in boxes)
    assert all(low[1] <= high[0] for low, high in itertools.pairwise(heights))
    assert min(box.x0 for box in boxes) >= 0


def test_a_singular_fit_is_drawn(sleep: Any) -> None:
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"g": np.repeat(np.arange(10), 5), "x": np.tile(np.arange(5.0), 10)})
    fit = lmer("y ~ x + (1 | g)", data.assign(y=data["x"] + rng.normal(size=50) - data["g"] % 2))
    flat = lmer("y ~ x + (1 | g)", data.assign(y=data["x"] + np.tile(rng.normal(size=5), 10) / 9))
    assert not fit.is_singular and flat.is_singular
    for draw in (plots.caterpillar, plots.qq_ranef, plots.shrinkage):
        (ax,) = draw(flat)
        ax.figure.canvas.draw()
    assert (plots.caterpillar_frame(flat)["mode"] == 0).all()
    plots.check(flat)[0].figure.canvas.draw()


def test_quantiles_of_modes(sleep: Any) -> None:
    frame = plots.qq_ranef_frame(sleep)
    for _, part in frame.groupby("column"):
        assert part["mode"].is_monotonic_increasing and part["theoretical"].is_monotonic_increasing
    ax = plots.qq_ranef(sleep)[0]
    line = ax.containers[0].lines[0]
    part = frame[frame["column"] == "Intercept"]
    np.testing.assert_allclose(line.get_xdata(), part["theoretical"])
    np.testing.assert_allclose(line.get_ydata(), part["mode"])


def test_shrinkage_goes_from_least_squares_to_modes(sleep: Any) -> None:
    (ax,) = plots.shrinkage(sleep)
    frame = plots.shrinkage_frame(sleep)
    intercepts = frame[frame["column"] == "Intercept"]
    raw, modes = ax.lines
    np.testing.assert_allclose(raw.get_xdata(), intercepts["least_squares"])
    np.testing.assert_allclose(modes.get_xdata(), intercepts["mode"])
    arrows = ax.collections[0]
    np.testing.assert_allclose(arrows.U, intercepts["mode"] - intercepts["least_squares"])


def test_results_of_mixedlm_are_drawn_as_their_fits(sleep: Any) -> None:
    data = datasets.load("sleepstudy")
    theirs = lmmfast.mixedlm("Reaction ~ Days", data, groups="Subject", re_formula="~Days").fit()
    own = plots.caterpillar_frame(sleep)
    np.testing.assert_allclose(plots.caterpillar_frame(theirs)["mode"], own["mode"], atol=1e-3)
    for draw in (plots.caterpillar, plots.shrinkage, plots.check):
        assert len(draw(theirs))
    assert plots.coefficients(theirs).get_xlabel() == "estimate, 95% interval"
    with pytest.raises(TypeError, match="a fit as lmer gives it is needed, not DataFrame"):
        plots.residuals(data)


def test_what_has_no_random_effects_says_so(visits: Any, binary: Any) -> None:
    for draw in (plots.caterpillar, plots.qq_ranef, plots.shrinkage, plots.influence):
        with pytest.raises(FitError, match="no random effects"):
            draw(visits)
    with pytest.raises(FitError, match="no random effects"):
        plots.fitted(visits, "arm")
    with pytest.raises(FitError, match="least squares"):
        plots.shrinkage(binary)
    with pytest.raises(ValueError, match="group must be one of 'subj'"):
        plots.caterpillar(binary, "item")


# ---- coefficients ---------------------------------------------------------------------------


def test_coefficients_of_several_models(crossed: pd.DataFrame, crossed_fit: Any) -> None:
    small = lmer("y ~ cond + (1 | subj) + (1 | item)", crossed)
    frame = plots.coefficients_frame({"small": small, "whole": crossed_fit}, level=0.9)
    assert "Intercept" not in set(frame["name"])
    own = frame[(frame["model"] == "whole") & (frame["name"] == "freq")].iloc[0]
    limits = crossed_fit.conf_int(0.9).loc["freq"]
    assert (own["lower"], own["upper"]) == (limits["lower"], limits["upper"])
    ax = plots.coefficients({"small": small, "whole": crossed_fit}, level=0.9)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["small", "whole"]
    assert ax.get_xlabel() == "estimate, 90% interval"
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == ["cond[T.b]", "freq", "cond[T.b]:freq"]
    points = ax.lines[1]
    np.testing.assert_allclose(points.get_xdata(), crossed_fit.params.iloc[1:])
    top, bottom = ax.get_ylim()[::-1]
    assert top < bottom  # the first coefficient is at the top


def test_intercepts_and_ratios(binary: Any) -> None:
    with_it = plots.coefficients_frame(binary, drop_intercept=False)
    assert with_it["name"].tolist() == list(binary.params.index)
    ax = plots.coefficients(binary, exponentiate=True)
    assert ax.get_xscale() == "log"
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.exp(binary.params.iloc[1:]))
    with pytest.raises(ValueError, match="at least one fit"):
        plots.coefficients([])


def test_parameters_of_any_kind_in_the_order_asked_for(sleep: Any, binary: Any) -> None:
    names = ["sigma", "Days", "Intercept", "sd(Days | Subject)"]
    frame = plots.coefficients_frame(sleep, parameters=names)
    assert frame["name"].tolist() == names
    beta = sleep.params
    expected = [
        sleep.sigma,
        beta["Days"],
        beta["Intercept"],
        np.sqrt(sleep.covariance().loc["Days", "Days"]),
    ]
    np.testing.assert_allclose(frame["estimate"], expected)
    ax = plots.coefficients(sleep, parameters=names)
    assert [text.get_text() for text in ax.get_yticklabels()] == names
    random = plots.coefficients_frame(binary, parameters="random")
    assert random["name"].tolist() == ["sd(Intercept | subj)"]
    assert binary.parameters().loc["sd(Intercept | subj)", "estimate"] == random["estimate"][0]


def test_dropped_coefficients_are_left_out(crossed: pd.DataFrame) -> None:
    with pytest.warns(lmmfast.RankDeficientWarning):
        fit = lmer("y ~ freq + I(2 * freq) + (1 | subj)", crossed)
    frame = plots.coefficients_frame(fit)
    assert len(frame) == 1 and frame["estimate"].notna().all()
    only = lmer("y ~ 1 + (1 | subj)", crossed)
    assert plots.coefficients_frame(only)["name"].tolist() == ["Intercept"]


# ---- residuals ------------------------------------------------------------------------------


def test_residuals_of_each_kind_of_fit(sleep: Any, binary: Any, visits: Any) -> None:
    for fit, kind in ((sleep, "pearson"), (binary, "quantile"), (visits, "normalized")):
        frame = plots.residuals_frame(fit)
        np.testing.assert_array_equal(frame["residual"], fit.residuals(kind))
        ax = plots.residuals(fit)
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), frame["residual"])
        assert ax.get_ylabel() == f"{kind} residual"
        root = plots.scale_location(fit).lines[0].get_ydata()
        np.testing.assert_allclose(root**2, np.abs(frame["residual"]))
    np.testing.assert_array_equal(
        plots.residuals_frame(binary)["fitted"], binary.linear_predictor.to_numpy()
    )


def test_the_trend_is_the_mean_of_parts() -> None:
    from lmmfast.plots.axes import trend

    x = np.repeat([1.0, 2.0, 5.0], [40, 1, 9])  # equal values are never divided
    y = np.arange(50.0)
    at, mean = trend(x, y)
    assert set(at) <= set(x) | {x[40:].mean()}
    np.testing.assert_allclose(mean[0], y[:40].mean())


def test_quantiles_stay_in_the_band_of_the_right_model() -> None:
    inside = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        data = pd.DataFrame({"g": np.repeat(np.arange(30), 10), "y": rng.normal(size=300)})
        data["y"] += rng.normal(size=30)[data["g"]]
        frame = plots.qq_frame(lmer("y ~ 1 + (1 | g)", data))
        inside.append(
            ((frame["lower"] <= frame["residual"]) & (frame["residual"] <= frame["upper"])).mean()
        )
    assert np.mean(inside) > 0.93  # pointwise; the line follows the quartiles
    scores = stats.norm.ppf((np.arange(1, 301) - 0.375) / 300.25)
    np.testing.assert_allclose(frame["theoretical"], scores)


def test_very_many_rows_are_counted_in_hexagons_and_thinned_in_the_middle() -> None:
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(60), 2_000)
    data = pd.DataFrame({"g": g, "y": rng.normal(size=len(g)) + rng.normal(size=60)[g]})
    fit = lmer("y ~ 1 + (1 | g)", data)
    ax = plots.residuals(fit)
    assert type(ax.collections[0]).__name__ == "PolyCollection"
    assert ax.collections[0].get_array().sum() == len(data)
    drawn = plots.qq(fit).lines[1].get_ydata()
    whole = np.sort(fit.residuals("pearson"))
    assert len(drawn) <= 4_000
    np.testing.assert_array_equal(drawn[:100], whole[:100])
    np.testing.assert_array_equal(drawn[-100:], whole[-100:])


def test_residuals_of_a_stream(sleep: Any) -> None:
    data = datasets.load("sleepstudy")
    fit = lmer(SLEEP, [data[:100], data[100:]])
    with pytest.raises(DataError):
        plots.residuals(fit)
    frame = plots.residuals_frame(fit, source=[data[:100], data[100:]])
    np.testing.assert_allclose(frame["residual"], sleep.residuals("pearson"), atol=1e-6)
    axes = plots.check(fit, source=iter([data[:100], data[100:]]))  # read once
    titles = [ax.get_title() for ax in axes]
    assert titles == ["linearity", "equal variances", "normal residuals", "normal random effects"]


# ---- lines ----------------------------------------------------------------------------------


def test_lines_by_group(sleep: Any) -> None:
    axes = plots.fitted(sleep, "Days", levels=["308", "309"])
    frame = plots.fitted_frame(sleep, "Days", levels=["308"])
    data, line, dashed = axes[0].lines
    np.testing.assert_array_equal(data.get_ydata(), frame["observed"])
    np.testing.assert_allclose(line.get_ydata(), frame.sort_values("x")["fitted"])
    np.testing.assert_allclose(dashed.get_ydata(), sleep.params @ [np.ones(10), np.arange(10)])
    assert len(plots.fitted(sleep, "Days")) == 12
    _, ax = plt.subplots()
    assert plots.fitted(sleep, "Days", ax=ax) is ax and len(ax.lines) == 19
    with pytest.raises(DataError, match="no level '999'"):
        plots.fitted(sleep, "Days", levels=["999"])
    with pytest.raises(DataError, match="no variable of the fixed effects"):
        plots.fitted(sleep, "days")


def test_lines_over_levels_of_a_factor_and_over_values(crossed_fit: Any, crossed: Any) -> None:
    axes = plots.fitted(crossed_fit, "cond", levels=[0, 1])
    assert [text.get_text() for text in axes[0].get_xticklabels()] == ["a", "b"]
    values = np.arange(len(crossed))
    frame = plots.fitted_frame(crossed_fit, values, "item")
    np.testing.assert_array_equal(frame["x"], values)
    with pytest.raises(DataError, match="the fit used 640 rows"):
        plots.fitted_frame(crossed_fit, values[:3])


def test_lines_of_a_generalized_model_are_means(binary: Any) -> None:
    frame = plots.fitted_frame(binary, "freq", levels=[0])
    assert frame["fitted"].between(0, 1).all() and set(frame["observed"]) <= {0, 1}
    means = binary.predict(re_form="none", type="response")
    np.testing.assert_allclose(frame["population"], means.loc[frame.index])


def test_partial_residuals(crossed: pd.DataFrame) -> None:
    fit = lmer("y ~ cond + freq + I(freq**2) + (1 | subj)", crossed)
    frame = plots.partial_residuals_frame(fit, "freq")
    curve = fit.params["freq"] * crossed["freq"] + fit.params.iloc[3] * crossed["freq"] ** 2
    np.testing.assert_allclose(frame["effect"], curve)
    np.testing.assert_allclose(frame["partial"] - frame["effect"], fit.resid)
    np.testing.assert_array_equal(
        plots.partial_residuals(fit, "freq").lines[0].get_ydata(), frame["partial"]
    )
    ax = plots.partial_residuals(fit, "cond")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b"]
    with pytest.raises(DataError, match="no term of its own"):
        plots.partial_residuals(lmer("y ~ cond:freq + (1 | subj)", crossed), "cond")


# ---- profiles -------------------------------------------------------------------------------


def test_densities_of_profiles(sleep: Any) -> None:
    profile = sleep.profile(level=0.999)
    frame = plots.profile_density_frame(profile)
    for name, part in frame.groupby("parameter"):
        value, height = part["value"].to_numpy(), part["density"].to_numpy()
        mass = ((height[1:] + height[:-1]) / 2 * np.diff(value)).sum()
        assert abs(mass - 0.999) < 2e-3, name
    # of a fixed effect in a balanced design: close to normal with the profile's quartiles
    days = frame[frame["parameter"] == "Days"]
    assert abs(days["value"].iloc[days["density"].argmax()] - sleep.params["Days"]) < 0.1
    axes = profile.plot(kind="density")
    assert [ax.get_ylabel() for ax in axes] == ["density"] * 6


def test_contours_are_where_the_deviance_is(sleep: Any) -> None:
    """On a contour the deviance, at its best over the rest, is the quantile of chi-squared."""
    ml = lmer(SLEEP, datasets.load("sleepstudy"), reml=False)
    names = ["Intercept", "Days"]
    frame = plots.profile_contours_frame(ml.profile(names), levels=(0.5, 0.9))
    data = datasets.load("sleepstudy")
    for level, curve in frame.groupby("level"):
        for _, row in curve.iloc[::25].iterrows():
            held = data.assign(r=data["Reaction"] - row["x_value"] - row["y_value"] * data["Days"])
            there = lmer("r ~ 0 + (Days | Subject)", held, reml=False)
            rise = there.objective - ml.objective
            assert abs(rise - stats.chi2.ppf(level, 2)) < 0.05
    axes = ml.profile(names).plot(kind="contours")
    assert (axes[0].get_xlabel(), axes[0].get_ylabel()) == ("Intercept", "Days")
    assert len(axes[0].lines) == 6  # four contours below the level of the profiles, two traces
    with pytest.raises(ValueError, match="two parameters"):
        ml.profile("Days").plot(kind="contours")


def test_contours_stop_at_bounds(crossed: pd.DataFrame) -> None:
    fit = lmer("y ~ cond + (1 | subj) + (1 | item)", crossed.assign(y=crossed["n"]))
    profile = fit.profile(["sd(Intercept | item)", "sigma"])
    frame = plots.profile_contours_frame(profile)
    assert (frame["x_value"] >= 0).all() and frame.notna().all().all()


def test_profiles_of_repeated_measures_are_frames(visits: Any) -> None:
    frame = visits.profile(["arm[T.placebo]"])
    (ax,) = plots.profile(frame)
    part = frame[frame["parameter"] == "arm[T.placebo]"]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), part["zeta"])
    assert plots.profile_density(frame)[0].get_ylabel() == "density"
    with pytest.raises(ValueError, match="other parameters"):
        plots.profile_contours(frame)


def test_dashes_of_a_profile_lead_to_the_ends_of_intervals(sleep: Any) -> None:
    profile = sleep.profile("Days")
    (ax,) = profile.plot()
    ends = profile.conf_int(0.95).loc["Days"]
    dashes = {round(float(line.get_ydata()[1]), 4): line.get_xdata()[1] for line in ax.lines[2:]}
    np.testing.assert_allclose([dashes[-1.96], dashes[1.96]], ends, rtol=1e-4)
    assert len(dashes) == 10


# ---- results --------------------------------------------------------------------------------


def test_means_and_interactions(crossed_fit: Any) -> None:
    means = emmeans(crossed_fit, ["freq", "cond"], at={"freq": [-1.0, 0.0, 1.0]})
    (ax,) = means.plot()
    table = means.table
    for container, (level, part) in zip(ax.containers, table.groupby("cond"), strict=True):
        np.testing.assert_array_equal(container.lines[0].get_xdata(), part["freq"])
        np.testing.assert_array_equal(container.lines[0].get_ydata(), part["emmean"])
        assert container.get_label() == level
    spans = ax.containers[0].lines[2][0].get_segments()
    a = table[table["cond"] == "a"]
    np.testing.assert_allclose([s[:, 1] for s in spans], a[["lower", "upper"]])
    assert ax.get_xlabel() == "freq" and ax.get_legend().get_title().get_text() == "cond"
    axes = emmeans(crossed_fit, "cond | freq", at={"freq": [-1.0, 1.0]}).plot()
    assert [ax.get_title() for ax in axes] == ["freq = -1.0", "freq = 1.0"]
    assert emtrends(crossed_fit, "cond", var="freq").plot()[0].get_ylabel() == "slope, 95% interval"
    with pytest.raises(ValueError, match="x must be one of"):
        means.plot("subj")


def test_contrasts_and_ratios(binary: Any, crossed_fit: Any) -> None:
    pairs = emmeans(crossed_fit, "cond").pairs()
    ax = pairs.plot()
    assert ax.lines[0].get_xdata() == pairs.table["estimate"].to_numpy()
    assert ax.get_xscale() == "linear" and ax.lines[1].get_xdata()[0] == 0
    ratios = emmeans(binary, "cond", type="response").pairs()
    ax = ratios.plot(level=0.9)
    assert ax.get_xscale() == "log" and ax.lines[1].get_xdata()[0] == 1
    frame = plots.contrasts_frame(ratios, level=0.9)
    span = ax.collections[0].get_segments()[0][:, 0]
    np.testing.assert_allclose(span, [frame["lower"][0], frame["upper"][0]])


def test_densities_of_replicates(sleep: Any) -> None:
    boot = sleep.bootstrap(200, seed=1)
    axes = boot.plot("random", level=0.9)
    assert [ax.get_xlabel() for ax in axes] == list(boot.conf_int(parameters="random").index)
    limits = boot.conf_int(0.9, parameters="random")
    for ax, (_, ends) in zip(axes, limits.iterrows(), strict=True):
        np.testing.assert_array_equal(ax.lines[2].get_xdata(), ends)
        value, height = ax.lines[0].get_data()
        assert abs(height.sum() * (value[1] - value[0]) - 1) < 1e-3
    frame = plots.bootstrap_frame(boot)
    assert frame.loc[frame["parameter"] == "sigma", "value"].min() > 0
    correlation = frame[frame["parameter"] == "cor(Intercept, Days | Subject)"]
    assert correlation["value"].between(-1, 1).all()


def test_a_density_is_that_of_scipy() -> None:
    from lmmfast.plots.axes import density

    values = np.random.default_rng(5).normal(size=4_000)
    at, height = density(values)
    width = 0.9 * min(values.std(), stats.iqr(values) / 1.34) * 4_000**-0.2
    theirs = stats.gaussian_kde(values, width / values.std(ddof=1))(at)
    np.testing.assert_allclose(height, theirs, atol=2e-3 * theirs.max())
    assert density(np.array([np.nan]))[0].size == 0
    assert np.isfinite(density(np.ones(5))[1]).all()


# ---- checks ---------------------------------------------------------------------------------


def test_drawn_responses(crossed: pd.DataFrame, sleep: Any) -> None:
    counts = glmer("n ~ cond + (1 | subj)", crossed, "poisson")
    frame = plots.simulated_frame(counts, n=3, seed=1)
    own = frame[frame["draw"] == -1]
    share = (crossed["n"].to_numpy()[:, None] == own["value"].to_numpy()).mean(axis=0)
    np.testing.assert_allclose(own["density"], share)
    assert sorted(frame["draw"].unique()) == [-1, 0, 1, 2]
    ax = plots.simulated(sleep, n=4, seed=1)
    assert len(ax.lines) == 5 and ax.get_xlabel() == "Reaction"


def test_influence_names_the_largest(sleep: Any) -> None:
    ax = plots.influence(sleep)
    largest = sleep.influence("Subject")["cooks_d"].nlargest(3).index
    assert {text.get_text() for text in ax.texts} == set(largest)
    frame = plots.influence_frame(sleep, "rows")
    np.testing.assert_array_equal(frame["cooks_d"], sleep.influence()["cooks_d"])


def test_collinearity(crossed_fit: Any) -> None:
    ax = plots.collinearity(crossed_fit)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), crossed_fit.vif()["per_df"])


def test_a_check_of_every_kind_of_fit(sleep: Any, binary: Any, visits: Any) -> None:
    for fit in (sleep, binary, visits):
        found = fit.check(20, seed=1)
        assert set(found.verdicts["verdict"]) <= {"fine", "look"}
        assert found.verdicts["check"].is_unique
        text = str(found)
        assert all(says in text for says in found.verdicts["says"])
        axes = found.plot()
        assert len(axes) >= 5 and axes[0].get_title() == "linearity"
        axes[0].figure.canvas.draw()


def test_checks_find_what_is_wrong_and_nothing_where_all_is_right() -> None:
    rng = np.random.default_rng(7)
    g, x = np.repeat(np.arange(40), 15), rng.uniform(0, 4, size=600)
    right = x + rng.normal(size=40)[g] + rng.normal(size=600)
    data = pd.DataFrame({"g": g, "x": x, "right": right})
    data["skewed"] = x + rng.normal(size=40)[g] + rng.exponential(size=600)
    data["growing"] = x + rng.normal(size=40)[g] + (0.2 + x / 2) * rng.normal(size=600)
    data["curved"] = x**2 / 2 + rng.normal(size=40)[g] + rng.normal(size=600)
    data["levels"] = x + 3 * (rng.exponential(size=40) ** 2)[g] + rng.normal(size=600)
    names = {
        "skewed": "normal residuals",
        "growing": "equal variances",
        "curved": "linearity",
        "levels": "normal modes of Intercept | g",
    }
    for response, name in names.items():
        found = lmer(f"{response} ~ x + (1 | g)", data).check().verdicts.set_index("check")
        assert found.loc[name, "verdict"] == "look", response
    found = lmer("right ~ x + (1 | g)", data).check().verdicts
    assert (found["verdict"] == "fine").all()


@pytest.mark.slow
def test_p_values_of_checks_are_uniform() -> None:
    """Where the model is right the residuals' statistics are those of drawn responses."""
    p: dict[str, list[float]] = {}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        g, x = np.repeat(np.arange(12), 6), rng.normal(size=72)
        y = x + rng.normal(size=12)[g] + rng.normal(size=72)
        fit = lmer("y ~ x + (1 | g)", {"y": y, "x": x, "g": g})
        for name, value in fit.check(60, seed).table["p"].items():
            p.setdefault(str(name), []).append(float(value))
    for name, values in p.items():
        assert stats.kstest(values, "uniform").pvalue > 1e-3, name


def test_a_check_draws_what_simulate_draws(crossed: pd.DataFrame) -> None:
    from lmmfast.many.simulate import drawn

    fit = lmer("y ~ cond + offset(freq) + (1 | subj)", crossed)
    theirs = fit.simulate(3, seed=5).to_numpy()
    np.testing.assert_array_equal(np.column_stack(list(drawn(fit, 3, 5))), theirs)
    with pytest.raises(FitError, match="ask for more with n="):
        fit.check(5)


def test_verdicts_of_a_singular_and_of_a_collinear_fit() -> None:
    rng = np.random.default_rng(1)
    g, x = np.repeat(np.arange(20), 5), rng.normal(size=100)
    data = {"g": g, "x": x, "z": x + 0.05 * rng.normal(size=100)}
    data["y"] = x + np.tile(rng.normal(size=5), 20)
    found = lmer("y ~ x + z + (1 | g)", data).check().verdicts.set_index("check")
    assert found.loc["random effects", "says"].startswith("singular in 1 | g")
    assert found.loc["collinearity", "says"].startswith("high")


# ---- what users of other packages ran into --------------------------------------------------


def test_a_ratio_as_response_is_checked(crossed: pd.DataFrame) -> None:
    """easystats/performance issue 591: no check of models whose response is a ratio."""
    data = crossed.assign(size=2.0 + crossed["subj"] % 3)
    fit = lmer("y / size ~ cond + freq + (1 | subj)", data)
    axes = fit.check(30).plot()
    assert axes[-1].get_xlabel() == "y / size"


def test_several_terms_of_one_factor_each_have_a_panel() -> None:
    """strengejacke/sjPlot issue 604: an error where a factor has two terms; merTools issue 21."""
    data = datasets.load("sleepstudy")
    fit = lmer("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", data)
    axes = plots.caterpillar(fit)
    assert [ax.get_xlabel() for ax in axes] == ["Intercept", "Days"]
    assert len(plots.shrinkage(fit)) == 1  # the pair of columns of the factor


def test_intercept_alone_and_a_single_predictor() -> None:
    """easystats/performance issue 104: a check needs no two terms; sjPlot issue 683."""
    data = datasets.load("sleepstudy")
    for formula in ("Reaction ~ 1 + (1 | Subject)", "Reaction ~ 0 + C(Days) + (1 | Subject)"):
        fit = lmer(formula, data)
        titles = [ax.get_title() for ax in fit.check(30).plot()]
        assert "linearity" in titles and "collinearity" not in titles
        assert len(plots.coefficients(fit).get_yticklabels()) == len(fit.params)


def test_missing_rows_keep_their_labels(crossed: pd.DataFrame) -> None:
    data = crossed.copy()
    data.loc[[5, 100], "freq"] = np.nan
    data.index = [f"row {i}" for i in range(len(data))]
    fit = lmer("y ~ freq + (1 | subj)", data)
    frame = plots.fitted_frame(fit, "freq")
    assert len(frame) == 638 and "row 5" not in frame.index
    np.testing.assert_array_equal(frame["observed"], data.loc[frame.index, "y"])
    np.testing.assert_array_equal(plots.residuals_frame(fit).index, frame.index)


# ---- rules of all ---------------------------------------------------------------------------


def test_every_picture_has_a_frame() -> None:
    drawn = {name for name in plots.__all__ if not name.endswith("_frame")} - {"check"}
    assert {f"{name}_frame" for name in drawn} == {n for n in plots.__all__ if n.endswith("_frame")}
    assert set(dir(plots)) == set(plots.__all__)


def test_the_style_is_the_callers(sleep: Any) -> None:
    from cycler import cycler

    plt.rcParams["axes.prop_cycle"] = cycler(color=["#123456", "#abcdef", "#fedcba"])
    assert plots.qq(sleep).lines[1].get_color() == "C0"
    ax = plots.caterpillar(sleep)[0]
    assert matplotlib.colors.to_hex(ax.containers[0].lines[0].get_color()) == "#123456"
    before = dict(plt.rcParams)
    plots.check(sleep)
    assert dict(plt.rcParams) == before


def test_given_axes_are_used(sleep: Any) -> None:
    _, (first, second) = plt.subplots(1, 2)
    count = len(plt.get_fignums())
    assert list(plots.caterpillar(sleep, axes=[first, second])) == [first, second]
    for draw in (plots.residuals, plots.scale_location, plots.qq, plots.influence):
        assert draw(sleep, ax=second) is second
    assert plots.coefficients(sleep, ax=first) is first
    assert len(plt.get_fignums()) == count
    with pytest.raises(ValueError, match="2 columns of random effects need as many axes, not 1"):
        plots.caterpillar(sleep, axes=first)


def test_without_matplotlib_a_sentence_says_what_to_install(
    sleep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    calls = {
        "caterpillar": lambda: plots.caterpillar(sleep),
        "coefficients": lambda: plots.coefficients(sleep),
        "residuals": lambda: plots.residuals(sleep),
        "fitted": lambda: plots.fitted(sleep, "Days"),
        "check": lambda: plots.check(sleep),
        "profile": lambda: sleep.profile("Days").plot(),
        "means": lambda: emmeans(sleep, "1").plot(),
    }
    for name, call in calls.items():
        with pytest.raises(ImportError, match=rf"^{name}\(\) needs the package matplotlib: pip"):
            call()


def test_frames_need_no_matplotlib(sleep: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    for frame in (plots.caterpillar_frame, plots.coefficients_frame, plots.qq_frame):
        assert len(frame(sleep))
    assert len(sleep.check(30).verdicts) > 5


def test_lines_are_averaged_over_what_else_rows_have() -> None:
    """With another predictor and crossed items a line of a linear effect is straight, and its
    height the mean of predictions of the level's rows."""
    rng = np.random.default_rng(3)
    n = 240
    data = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "cond": rng.choice(["a", "b"], n),
            "subj": [f"s{i}" for i in np.arange(n) % 8],
            "item": rng.integers(0, 6, n),
        }
    )
    data["y"] = data["x"] + 3 * data["z"] + rng.normal(size=6)[data["item"]] + rng.normal(size=n)
    fit = lmer("y ~ x + z + cond + (x | subj) + (1 | item)", data)
    for own in plots.fitted(fit, "x")[:3]:
        level = own.get_title().split()[1]
        for line, form in zip(own.get_lines()[1:], ("all", "none"), strict=True):
            x, y = line.get_data()
            assert np.abs(np.diff(y, 2)).max() < 1e-9 and len(x) == 40
            rows = data[data["subj"] == level].assign(x=x[7])
            assert abs(fit.predict(rows, re_form=form).mean() - y[7]) < 1e-9
    nested = lmer("y ~ x + z + (z | subj/item)", data)  # of which only labels "s0:1" are kept
    line = plots.fitted(nested, "x")[0].get_lines()[1].get_ydata()
    assert len(line) == 40 and np.abs(np.diff(line, 2)).max() < 1e-9
    ax = plots.fitted(fit, "x", ax=plt.subplots()[1])
    assert all(np.abs(np.diff(line.get_ydata(), 2)).max() < 1e-9 for line in ax.get_lines())
    conditions = plots.fitted(fit, "cond")[0].get_lines()[1].get_ydata()
    rows = data[data["subj"] == "s0"]
    wanted = [fit.predict(rows.assign(cond=own)).mean() for own in ("a", "b")]
    np.testing.assert_allclose(conditions, wanted, rtol=1e-9)
    plt.close("all")


@pytest.mark.parametrize("at", [[1, 2, 3], [0, 1, 2], [27, 28, 29], [5, 6, 20]])
def test_names_of_neighbours_do_not_overlap(at: list[int]) -> None:
    heights = np.full(30, 0.02)
    heights[at] = [0.3, 0.29, 0.28]
    frame = pd.DataFrame({"level": [f"subject {i}" for i in range(30)], "cooks_d": heights})
    figure, ax = plt.subplots(figsize=(4, 3), layout="constrained")
    draw_influence(ax, frame, "subj")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 3 and not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(box.y1 <= ax.get_window_extent().y1 + 2 for box in boxes)
    plt.close(figure)


def test_the_legend_of_many_modes_is_beside_the_points() -> None:
    data = datasets.load("kb07")
    fit = lmer("RTtrunc ~ S + P + (S + P | subj) + (S + P || item)", data)
    axes = plots.check(fit)
    axes[0].figure.canvas.draw()
    (own,) = (ax for ax in axes if ax.get_title() == "normal random effects")
    assert len(own.get_legend().get_texts()) > 2
    assert own.get_legend().get_window_extent().y1 < own.get_window_extent().y0
    plt.close("all")
