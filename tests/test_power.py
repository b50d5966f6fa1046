"""Power by simulation: closed forms, each replicate by brute force, words for what cannot be."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lmmfast import (
    LMM,
    DataError,
    Parameters,
    RankDeficientWarning,
    anova,
    datasets,
    design,
    extend,
    lmer,
    mixedlm,
    power,
)
from lmmfast.many import jobs
from lmmfast.many.simulate import Simulator
from lmmfast.many.streams import Streams
from lmmfast.planning.replicates import Replicates

TWO = {"cond": ["a", "b"]}
CROSSED = "rt ~ cond + (1 | subj) + (1 | item)"
PAIRED, FAR = "y ~ cond + (1 | subj)", Parameters(sd={"subj": 5}, sigma=1)
SLEEP = {"sd": {"Subject": 30}, "sigma": 25}
ASSUMED = {"sd": {"subj": 80, "item": 30}, "sigma": 200}

FORMULA = "y ~ c * g + (1 + c | subj) + (1 | item)"
FULL = {
    "beta": {
        "c[T.b]": 0.6,
        "c[T.x]": 0.1,
        "g[T.v]": 0.2,
        "c[T.b]:g[T.v]": 0.1,
        "c[T.x]:g[T.v]": 0.7,
    },
    "sd": {"subj": [1, 0.4, 0.4], "item": 0.5},
    "sigma": 1,
}


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    return design(16, 8, within=TWO)


@pytest.fixture(scope="module")
def factorial() -> pd.DataFrame:
    within = {"c": ["a", "b", "x"]}
    return design(12, 6, within=within, between={"g": ["u", "v"]})


def within_error(found: float, expected: float, n: int) -> bool:
    """Four standard errors of a share of n simulations."""
    return abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / n)


# ---- closed forms --------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", [0.0, 0.4, 0.8])
def test_paired_t(effect) -> None:
    """One row in each of two conditions, subjects far apart: the paired t-test."""
    subjects, n = 20, 1500
    data = design(subjects, within=TWO)
    found = power(PAIRED, data, params=FAR, effect=effect, n=n, seed=1)
    df, shift = subjects - 1, effect / np.sqrt(2 / subjects)
    critical = stats.t.isf(0.025, df)
    expected = stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift)
    assert within_error(float(found), expected, n)
    assert found.to_frame()["singular"][0] == 0
    np.testing.assert_allclose(found.outcomes[0].found["df"], df, rtol=1e-5)


@pytest.mark.parametrize("method", ["satterthwaite", "z"])
def test_balanced_one_way(method) -> None:
    """Three groups of subjects: F with the subjects' degrees of freedom."""
    groups, each, rows, n = 3, 7, 6, 1500
    data = design(groups * each, between={"g": list("abc")}, within={"k": range(rows)})
    params = {"beta": {"g[T.b]": 1.0, "g[T.c]": 2.0}, "sd": {"subj": 1.5}, "sigma": 1.0}
    arguments = {"test": "g", "n": n, "seed": 2, "method": method}
    found = power("y ~ g + (1 | subj)", data, params=params, **arguments)
    variance = 1.5**2 + 1 / rows
    shift = each * np.sum((np.arange(3.0) - 1) ** 2) / variance
    df = groups - 1, groups * (each - 1)
    critical = stats.f.isf(0.05, *df) if method == "satterthwaite" else stats.chi2.isf(0.05, 2) / 2
    assert within_error(float(found), stats.ncf.sf(critical, *df, shift), n)


def test_between_subjects_t_and_the_intercept() -> None:
    n = 1500
    data = design(14, between=TWO, within={"k": range(4)})
    formula, sd = "y ~ cond + (1 | subj)", np.sqrt(1 + 1 / 4)
    found = power(formula, data, params={"sd": {"subj": 1}, "sigma": 1}, effect=1.5, n=n, seed=3)
    shift, critical = 1.5 / (sd * np.sqrt(2 / 7)), stats.t.isf(0.025, 12)
    expected = stats.nct.sf(critical, 12, shift) + stats.nct.cdf(-critical, 12, shift)
    assert within_error(float(found), expected, n)
    params = {"beta": {"Intercept": 0.8}, "sd": {"subj": 1}, "sigma": 1}
    one = power("y ~ 1 + (1 | subj)", data, params=params, n=n, seed=4)
    shift, critical = 0.8 / (sd / np.sqrt(14)), stats.t.isf(0.025, 13)
    assert within_error(float(one), stats.nct.sf(critical, 13, shift), n)


def test_without_an_effect_the_level_is_kept(factorial) -> None:
    params = FULL | {"sd": {"subj": 1, "item": 0.5}}
    formula = "y ~ c * g + (1 | subj) + (1 | item)"
    for test in ("c", "c:g"):
        found = power(formula, factorial, params=params, test=test, scale=0, n=600, seed=5)
        low, high = found.interval[0]
        assert low < 0.05 < high


def test_as_lme4_and_lmertest() -> None:
    """Shares of significant and singular fits of R's simulated studies."""
    theirs = json.loads((Path(__file__).parent / "power" / "power.json").read_text())
    data, n = design(16, 8, within=TWO), 1500
    for method in ("satterthwaite", "z", "lrt"):
        how = {"params": ASSUMED, "effect": theirs["effect"], "method": method}
        found = power(CROSSED, data, n=n, seed=1, **how)
        table = found.to_frame().iloc[0]
        pairs = [(float(found), theirs[method])]
        if method != "lrt":  # maximum likelihood is singular more often
            pairs.append((table["singular"], theirs["singular"]))
        for share, expected in pairs:
            error = np.sqrt(expected * (1 - expected) * (1 / n + 1 / theirs["n"]))
            assert abs(share - expected) < 4 * error, method
        if method == "satterthwaite":
            assert table["type_M"] == pytest.approx(theirs["type_m"], abs=0.05)
            df = found.outcomes[0].found["df"].mean()
            assert df == pytest.approx(theirs["mean_df"], rel=0.02)
            sd = found.outcomes[0].found["estimate"].std()
            assert sd == pytest.approx(theirs["sd_estimate"], rel=0.1)


# ---- each replicate by brute force ---------------------------------------------------------------


def simulated(found, place: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """The data of a power, and its responses with the effect of a row."""
    simulation, outcome = found.simulation, found.outcomes[0]
    study = simulation.sized(outcome.sizes)
    fit = lmer(
        f"y ~ {study._right.partition('~')[2]}", study.data.assign(y=np.sin(range(outcome.nobs)))
    )
    assumed, tested = simulation._assumed(study, fit.model)
    betas, _, _ = simulation._alternatives(tested, assumed.beta)

    drawn = Simulator.of_design(study.design, replace_beta(assumed, betas[place]))
    return study.data, drawn.draw(Streams(found.seed), 0, found.n)


def replace_beta(assumed, beta):
    return assumed._replace(beta=beta)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("test", ["c[T.b]", "c[T.b] = c[T.x]", "c", "c:g", "c[T.b] = 0.3, g[T.v]"])
@pytest.mark.parametrize("method", ["satterthwaite", "z", "lrt", "kenward-roger"])
def test_every_replicate_is_the_test_of_its_data(factorial, method, test, place) -> None:
    if method == "kenward-roger" and test not in ("c[T.b]", "c[T.b] = c[T.x]"):
        return
    how = {"test": test, "method": method, "scale": [1, 2], "n": 3, "seed": 7}
    found = power(FORMULA, factorial, params=FULL, **how)
    data, Y = simulated(found, place)
    for i, y in enumerate(Y.T):
        fit = lmer(FORMULA, data.assign(y=y), reml=method != "lrt")
        L = test if test not in ("c", "c:g") else None
        if method == "lrt":
            expected = likelihood_ratio(fit, data.assign(y=y), test)
        elif L is None:
            expected = anova(fit, ddf=method).table.loc[test].iloc[-1]
        else:
            rows = fit.t_test(L, ddf=method)
            expected = rows.pvalue[0] if len(rows.pvalue) == 1 else fit.f_test(L, ddf=method).pvalue
        assert found.outcomes[0].found["p"][i, place] == pytest.approx(expected, rel=2e-3, abs=1e-9)


def likelihood_ratio(fit, data: pd.DataFrame, test: str) -> float:
    """Against the model whose columns are those of the hypothesis."""
    from scipy.linalg import null_space

    from lmmfast.inference.hypotheses.anova import terms_of
    from lmmfast.inference.linear import hypothesis

    effects = terms_of(fit)
    if test in effects.labels:
        L = effects.hypothesis(effects.labels.index(test), 3)
        q = np.zeros(len(L))
    else:
        L, q, _ = hypothesis(test, fit.design.x_names)
    X, offset = fit.design.X, fit.design.X @ np.linalg.pinv(L) @ q
    terms = [(term.codes, term.z) for term in fit.design.terms]
    null = LMM.from_arrays(data["y"].to_numpy() - offset, X @ null_space(L), terms).fit(reml=False)
    return float(stats.chi2.sf(null.objective - fit.objective, len(L)))


@pytest.mark.parametrize("smaller", ["~ c + g", "~ g", "~ 1"])
def test_against_a_smaller_model(factorial, smaller) -> None:
    found = power(FORMULA, factorial, params=FULL, test=smaller, method="lrt", n=3, seed=7)
    data, Y = simulated(found)
    random = " + (1 + c | subj) + (1 | item)"
    for i, y in enumerate(Y.T):
        drawn = data.assign(y=y)
        fits = [lmer(f"y ~ {part} {random}", drawn, reml=False) for part in (smaller[1:], "c * g")]
        expected = anova(*fits).table["Pr(>Chisq)"].iloc[-1]
        assert found.outcomes[0].found["p"][i, 0] == pytest.approx(expected, rel=2e-3)
    if smaller == "~ c + g":
        term, same = (
            power(FORMULA, factorial, params=FULL, test=test, n=20, seed=7)
            for test in ("c:g", smaller)
        )
        np.testing.assert_allclose(
            term.outcomes[0].found["p"], same.outcomes[0].found["p"], rtol=1e-6
        )


def test_what_expressions_learned_stays() -> None:
    """poly(x, 2) of twice the rows would have columns of half the variance."""
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"s": np.repeat(range(12), 6), "x": rng.normal(size=72)})
    data["y"] = 0.3 * data["x"] ** 2 + rng.normal(size=12)[data["s"]] + rng.normal(size=72)
    fit = lmer("y ~ poly(x, 2) + (1 | s)", data)
    study = extend(fit, along="s", to=24)
    np.testing.assert_array_equal(study.design.X, np.tile(fit.design.X, (2, 1)))
    how = {"test": "poly(x, 2)[2]", "n": 100, "seed": 1, "effect": 3.0}
    ones = power(fit, along={"s": [12, 24]}, **how)
    params = {"sd": {"s": 1}, "sigma": 1}
    given = power("y ~ poly(x, 2) + (1 | s)", data, params=params, along={"s": [24]}, **how)
    assert ones.power[1] > ones.power[0] + 0.1 and given.power[0] > 0.9


def test_estimates_errors_of_sign_and_size(trials) -> None:
    found = power(CROSSED, trials, params=ASSUMED, effect=[-15.0, 30.0], n=300, seed=11)
    _, Y = simulated(found)
    numbers = found.outcomes[0].found
    for i in (0, 123, 299):
        fit = lmer(CROSSED, trials.assign(rt=Y[:, i]))
        shift = found.outcomes[0].effects[0] - found.outcomes[0].drawn
        assert numbers["estimate"][i] + shift == pytest.approx(fit.params["cond[T.b]"], abs=1e-6)
        assert numbers["singular"][i] == fit.is_singular
        assert numbers["converged"][i] == fit.converged
    table = found.to_frame()
    for e, effect in enumerate((-15.0, 30.0)):
        estimates = numbers["estimate"] + effect - found.outcomes[0].drawn
        hit = numbers["p"][:, e] < 0.05
        assert table["power"][e] == hit.mean()
        assert table["type_M"][e] == pytest.approx(np.abs(estimates[hit]).mean() / abs(effect))
        assert table["type_S"][e] == np.mean(np.sign(estimates[hit]) != np.sign(effect))
    assert table["type_S"][0] > 0 and table["type_M"][0] > table["type_M"][1] > 1
    low, high = found.interval[1]
    count = round(table["power"][1] * 300)
    assert stats.binom.sf(count - 1, 300, low) == pytest.approx(0.025)
    assert stats.binom.cdf(count, 300, high) == pytest.approx(0.025)


# ---- the same whoever works ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["satterthwaite", "lrt"])
@pytest.mark.parametrize("test", ["c[T.b]", "c:g"])
def test_threads_and_workers_change_nothing(factorial, method, test) -> None:
    how = {"params": FULL, "test": test, "method": method, "n": 60, "seed": 3}
    one = power(FORMULA, factorial, **how)
    with ThreadPoolExecutor(2) as pool:
        others = [power(FORMULA, factorial, threads=2, **how)]
        others.append(power(FORMULA, factorial, client=pool, **how))
    for other in others:
        for name, values in one.outcomes[0].found.items():
            np.testing.assert_array_equal(values, other.outcomes[0].found[name])


def test_an_interrupted_curve_goes_on(trials, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(jobs, "MOST", 7)
    how = {"params": ASSUMED, "effect": 60, "n": 40, "seed": 3, "along": {"subj": [8, 16]}}
    whole = power(CROSSED, trials, **how)
    run, left = Replicates.run, [9]

    def interrupted(self, *arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return run(self, *arguments)

    path = tmp_path / "power.bin"
    monkeypatch.setattr(Replicates, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        power(CROSSED, trials, checkpoint=path, **how)
    left[0] = 6  # fewer than all of it takes
    again = power(CROSSED, trials, checkpoint=path, **how)
    left[0] = 0
    once_more = power(CROSSED, trials, checkpoint=path, threads=2, **how)
    for other in (again, once_more):
        for mine, theirs in zip(whole.outcomes, other.outcomes, strict=True):
            for name, values in mine.found.items():
                np.testing.assert_array_equal(values, theirs.found[name])
    for changes in ({"seed": 4}, {"effect": 50}, {"n": 30}, {"method": "z"}):
        with pytest.raises(ValueError, match="of another run"):
            power(CROSSED, trials, checkpoint=path, **how | changes)


def test_seeds(trials) -> None:
    how = {"params": ASSUMED, "effect": 60, "n": 50}
    first = power(CROSSED, trials, **how)
    again = power(CROSSED, trials, seed=first.seed, **how)
    np.testing.assert_array_equal(first.outcomes[0].found["p"], again.outcomes[0].found["p"])
    longer = power(CROSSED, trials, seed=first.seed, **(how | {"n": 80}))
    np.testing.assert_array_equal(longer.outcomes[0].found["p"][:50], first.outcomes[0].found["p"])


# ---- sizes, effects ------------------------------------------------------------------------------


def test_curves_over_subjects_items_and_effects(trials) -> None:
    along = {"subj": [8, 24], "item": [8, 16]}
    how = {"params": ASSUMED, "n": 200, "seed": 1}
    found = power(CROSSED, trials, effect=[40, 80], along=along, **how)
    table = found.to_frame()
    assert list(table.columns[:4]) == ["subj", "item", "effect", "nobs"] and len(table) == 8
    assert (table["nobs"] == table["subj"] * table["item"]).all()
    power_of = table.set_index(["subj", "item", "effect"])["power"]
    assert power_of[24, 16, 80] > power_of[8, 8, 80] > power_of[8, 8, 40]
    alone = power(CROSSED, extend(trials, along="subj", to=24), effect=80, **how)
    assert float(alone) == power_of[24, 8, 80]
    made = power(
        CROSSED,
        lambda subj: design(subj, 8, within=TWO),
        effect=80,
        along={"subj": [8, 16]},
        **how,
    )
    assert made.power[0] == power_of[8, 8, 80]
    with pytest.raises(TypeError, match="there are 8 powers"):
        float(found)


def test_from_a_fit(recwarn) -> None:
    fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    found = power(fit, n=100, seed=2)
    assert "the estimate of the fit" in str(found) and found.test == "Days"
    curve = power(fit, effect=[0, 3], along={"Subject": [6, 18, 24]}, n=200, seed=2)
    assert "the estimate of the fit" not in str(curve)
    table = curve.to_frame().set_index(["Subject", "effect"])["power"]
    assert table[24, 3] > table[6, 3] and table[18, 0] < 0.12
    assert table[18, 3] == power(fit, effect=3, n=200, seed=2).power[0]
    study = extend(fit, along="Subject", to=24)
    assert float(power(study, effect=3, n=200, seed=2)) == table[24, 3]
    changed = power(fit, params={"beta": {"Days": 3}}, n=200, seed=2)
    assert float(changed) == pytest.approx(table[18, 3], abs=0.02)  # rounding of other sums
    assert not recwarn


def test_other_fits() -> None:
    """Of arrays, of statsmodels' interface, of transformed and missing responses."""
    data = datasets.load("sleepstudy")
    plain = lmer("Reaction ~ Days + (1 | Subject)", data)
    terms = [(term.codes, term.z) for term in plain.design.terms]
    arrays = LMM.from_arrays(data["Reaction"], plain.design.X, terms).fit()
    how = {"n": 40, "seed": 1, "effect": 2}
    expected = float(power(plain, **how))
    assert float(power(arrays, test="x1", **how)) == pytest.approx(expected, abs=0.03)
    other = mixedlm("Reaction ~ Days", data, groups="Subject").fit()
    assert float(power(other, **how)) == pytest.approx(expected, abs=0.03)
    data.loc[[3, 50], "Reaction"] = np.nan
    log = lmer("log(Reaction) ~ scale(Days) + (Days | Subject)", data)
    found = power(log, n=30, seed=1, effect=0.05, along={"Subject": [18, 36]})
    assert list(found.to_frame()["nobs"]) == [178, 356]
    dot = power("Reaction ~ . - Subject + (1 | Subject)", data, params=SLEEP, **how)
    bare = power("~ Days + (1 | Subject)", data, params=SLEEP, **how)
    assert dot.test == bare.test == "Days" and float(bare) > 0.5
    none = SLEEP | {"sd": {"Subject": 0}}
    assert power("~ Days + (1 | Subject)", data, params=none, **how).to_frame()["singular"][0] > 0.2


def test_dropped_columns() -> None:
    data = design(12, within=TWO).assign(twice=lambda d: 2.0 * (d["cond"] == "b"))
    formula = "y ~ cond + twice + (1 | subj)"
    how = {"params": FAR, "effect": 0.7, "n": 60, "seed": 1}
    with pytest.warns(RankDeficientWarning, match="twice"):
        found = power(formula, data, test="cond[T.b]", **how)
    plain = power(PAIRED, data, **how)
    np.testing.assert_allclose(
        found.outcomes[0].found["p"], plain.outcomes[0].found["p"], rtol=1e-6
    )
    for method in ("lrt", "z"):
        with pytest.warns(RankDeficientWarning, match="twice"):
            found = power(formula, data, test="cond[T.b]", method=method, **how)
        plain = power(PAIRED, data, method=method, **how)
        np.testing.assert_allclose(
            found.outcomes[0].found["p"], plain.outcomes[0].found["p"], rtol=1e-5, atol=1e-12
        )
    with pytest.warns(RankDeficientWarning), pytest.raises(DataError, match="'twice' cannot be"):
        power(formula, data, test="twice", **how)


def test_pickles(trials) -> None:
    how = {"params": ASSUMED, "effect": 60, "n": 20, "along": {"subj": [8]}}
    made = power(CROSSED, lambda subj: design(subj, 8, within=TWO), **how)
    again = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(again.power, made.power)
    with pytest.raises(DataError, match="a function of a module"):
        again.smallest(0.9)


def test_smallest_sizes() -> None:
    """The number of subjects of a paired t-test, beside its closed form."""
    data = design(10, within=TWO)
    found = power(
        "y ~ cond + (1 | subj)",
        data,
        params={"sd": {"subj": 5}, "sigma": 1},
        effect=0.7,
        n=400,
        seed=1,
    )
    answer = found.smallest(0.8, along="subj")

    def exact(m: int) -> float:
        critical = stats.t.isf(0.025, m - 1)
        return float(stats.nct.sf(critical, m - 1, 0.7 / np.sqrt(2 / m)))

    expected = next(m for m in range(3, 200) if exact(m) >= 0.8)
    assert abs(answer.size - expected) <= 2 and answer.lower < expected < answer.upper + 1
    assert answer.lower < answer.crossing < answer.upper and answer.size == np.ceil(answer.crossing)
    assert answer.upper - answer.lower < 10
    assert "is reached at subj" in str(answer) and len(answer.to_frame()) == len(answer.tried)
    even = found.smallest(0.8, along="subj", by=4, n=150)
    assert even.size % 4 == 0 and all(size % 4 == 0 for size, _ in even.tried)
    assert pickle.loads(pickle.dumps(found)).smallest(0.5, along="effect").size > 0
    with pytest.raises(ValueError, match=r"is not reached with subj up to 12"):
        found.smallest(0.99, along="subj", most=12)


def test_smallest_effect() -> None:
    data, m = design(16, within=TWO), 16
    found = power(
        "y ~ cond + (1 | subj)",
        data,
        params={"sd": {"subj": 5}, "sigma": 1},
        effect=-0.5,
        n=1500,
        seed=4,
    )
    answer = found.smallest(0.8, along="effect")

    def exact(effect: float) -> float:
        return float(stats.nct.sf(stats.t.isf(0.025, m - 1), m - 1, effect / np.sqrt(2 / m)))

    assert answer.lower < answer.size < answer.upper < 0
    assert exact(-answer.upper) < 0.8 < exact(-answer.lower)
    at = power(
        "y ~ cond + (1 | subj)",
        data,
        params={"sd": {"subj": 5}, "sigma": 1},
        effect=answer.size,
        n=1500,
        seed=4,
    )
    assert float(at) == pytest.approx(0.8, abs=1.5 / 700)


def test_weights_offsets_and_contrasts(trials) -> None:
    data = trials.assign(w=np.where(trials["item"].cat.codes < 4, 1.0, 4.0), o=3.0)
    how = {"params": ASSUMED, "effect": 60, "n": 150, "seed": 1}
    plain = power(CROSSED, data, **how)
    precise = power(CROSSED, data, weights="w", **how)
    assert float(precise) > float(plain)
    shifted = power(CROSSED, data, offset="o", **how)
    np.testing.assert_allclose(
        shifted.outcomes[0].found["p"], plain.outcomes[0].found["p"], rtol=1e-6
    )
    coded = power(CROSSED, data, contrasts={"cond": "deviation"}, **how)
    np.testing.assert_allclose(
        coded.outcomes[0].found["p"], plain.outcomes[0].found["p"], rtol=1e-5
    )


# ---- results, words ------------------------------------------------------------------------------


def test_it_prints_and_draws(trials) -> None:
    found = power(
        CROSSED, trials, params=ASSUMED, effect=[30, 60], along={"subj": [8, 16]}, n=50, seed=1
    )
    text = str(found)
    for part in (
        "Power of the test of cond[T.b]",
        "50 simulated studies",
        "95% interval",
        "seed 1",
    ):
        assert part in text
    assert "<table>" in found._repr_html_()
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    ax = found.plot()
    assert len(ax.lines) == 3 and ax.get_xlabel() == "subj"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"params": {"sigma": 1, "sd": {"subj": 1}}}, "sd lacks 'item'"),
        ({"params": {"sd": {"subj": 1, "item": 1}}}, "needs sigma"),
        ({"effect": None}, r"beta lacks cond\[T.b\], which"),
        ({"effect": None, "params": None}, "lacks"),
        ({"params": ASSUMED | {"beta": {"cond[T.c]": 1}}, "effect": None}, r"'cond\[T.c\]'"),
        ({"along": {"subj": [1]}}, "two levels of 'subj'"),
        ({"test": "condd"}, "condd"),
        ({"test": ["cond[T.b]", "Intercept"]}, "effect= are values of one coefficient"),
        ({"effect": "large"}, "must be a number or a list"),
        ({"effect": 1, "scale": 2}, "not both"),
        ({"method": "kr"}, "method must be"),
        ({"alpha": 5}, "alpha must be between"),
        ({"n": 0}, "n must be a whole number"),
        ({"along": {"subj": []}}, "no sizes"),
        ({"along": {"subj": [2.5]}}, "whole number"),
        ({"seed": -1}, "seed must be"),
        ({"threads": 0}, "threads must be"),
    ],
)
def test_arguments_that_mean_nothing(trials, changes, words) -> None:
    arguments = {"params": ASSUMED, "effect": 60, "n": 20} | changes
    with pytest.raises(ValueError, match=words):
        power(CROSSED, trials, **arguments)


def test_models_that_cannot_be(trials, factorial) -> None:
    with pytest.raises(ValueError, match=r"say what is tested.*terms c, g, c:g"):
        power(FORMULA, factorial, params=FULL)
    for test, words in (("~ c * g", "nothing to test"), ("~ c + item", "'item' is no variable")):
        with pytest.raises(ValueError, match=words):
            power(FORMULA, factorial, params=FULL, test=test)
    without = "y ~ c + (1 | subj) + (1 | item)"
    with pytest.raises(ValueError, match="'g' is no variable"):
        power(without, factorial, params=FULL, test="~ g")
    with pytest.raises(DataError, match="no column 'sbj'"):
        power(CROSSED, trials, params=ASSUMED, effect=60, along={"sbj": [8]})
    with pytest.raises(ValueError, match="data= is missing"):
        power(CROSSED, params=ASSUMED)
    with pytest.raises(TypeError, match="a formula, a fit"):
        power(trials, CROSSED)
    with pytest.raises(ValueError, match="along="):
        power(CROSSED, lambda: trials, params=ASSUMED, effect=60)
    fit = lmer("Reaction ~ Days + (1 | Subject)", datasets.load("sleepstudy"))
    with pytest.raises(ValueError, match="data= goes with a formula"):
        power(fit, trials)
    held = lmer("Reaction ~ Days + (1 | Subject)", datasets.load("sleepstudy"), sigma=30.0)
    with pytest.raises(ValueError, match="were held"):
        power(held)
    with pytest.raises(DataError, match="not at hand"):
        power(pickle.loads(pickle.dumps(fit)), along={"Subject": [10]}, n=10)
    assert len(power(pickle.loads(pickle.dumps(fit)), n=10, seed=1)) == 1
