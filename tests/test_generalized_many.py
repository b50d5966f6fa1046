"""Many responses of generalized models: as single fits say, whoever works; power by counting."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from lmmfast import (
    GLMM,
    DataError,
    FitError,
    design,
    extend,
    fit_many,
    glmer,
    power,
    ranova,
    simulate,
)
from lmmfast.many import jobs

TRIALS = design(16, 8, within={"cond": ["a", "b"]})
FORMULA = "cond + (1 | subj) + (1 | item)"
HITS = {"beta": {"Intercept": 0.4, "cond[T.b]": 0.7}, "sd": {"subj": 0.8, "item": 0.5}}
EXTRA = {
    "binomial": None,
    "poisson": None,
    "negativebinomial": {"size": 3.0},
    "gamma": {"dispersion": 0.3},
    "ordered": {"lo|mid": -0.8, "mid|hi": 0.9},
}


def drawn(family: str, n: int = 4, seed: int = 1, data: pd.DataFrame = TRIALS, **how) -> np.ndarray:
    """Responses of a family with these parameters."""
    params = {**HITS, "extra": EXTRA[family]}
    if family == "ordered":
        params["beta"] = {"cond[T.b]": 0.7}
    link = "log" if family == "gamma" else None
    return simulate(f"~ {FORMULA}", data, params, n, seed, family=family, link=link, **how)


def alike(found, i: int, fit) -> None:
    """A row of many fits is this fit."""
    assert found.status[i] == fit.estimates.status == "converged"
    assert found.objective[i] == pytest.approx(fit.objective, abs=1e-6)
    np.testing.assert_allclose(found.beta[i], fit.params, atol=1e-5)
    np.testing.assert_allclose(found.theta[i], fit.theta, atol=1e-4)
    np.testing.assert_allclose(found.se[i], fit.bse, rtol=1e-4)
    np.testing.assert_allclose(found.statistic[i], fit.tvalues, atol=1e-3)
    np.testing.assert_allclose(found.pvalue[i], fit.pvalues, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.extra[i], fit.extra, rtol=1e-3, atol=1e-4)


# ---- many fits -----------------------------------------------------------------------------------


def test_restricted_likelihood() -> None:
    Y = drawn("binomial", 3)
    found = fit_many(f"~ {FORMULA}", TRIALS, Y, family="binomial", reml=True)
    assert found.reml
    for i in range(3):
        fit = glmer(f"y ~ {FORMULA}", TRIALS.assign(y=np.asarray(Y)[:, i]), reml=True)
        alike(found, i, fit)
    by_model = GLMM(fit.design, "binomial", reml=True).fit_many(Y)
    np.testing.assert_allclose(by_model.objective, found.objective, atol=1e-6)
    with pytest.raises(FitError, match="reml"):
        fit_many("~ cond + (1 | subj)", TRIALS, Y, family="binomial", reml=True, nagq=3)


def test_power_by_restricted_likelihood() -> None:
    """Simulated responses are fitted as is asked for, or as the fit that is assumed was."""
    formula, test = f"~ {FORMULA}", "cond[T.b]"
    how = {"family": "binomial", "n": 4, "seed": 3, "test": test, "params": HITS}
    found = power(formula, TRIALS, reml=True, **how)
    Y = simulate(formula, TRIALS, HITS, 4, 3, family="binomial")
    for i in range(4):
        fit = glmer(f"y ~ {FORMULA}", TRIALS.assign(y=Y[i]), reml=True)
        assert found.outcomes[0].found["p"][i, 0] == pytest.approx(fit.pvalues[test], rel=1e-4)
    other = power(formula, TRIALS, **how).outcomes[0].found["p"]
    assert abs(other / found.outcomes[0].found["p"] - 1).max() > 1e-3
    assert not power(formula, TRIALS, method="lrt", **how).simulation.reml
    assert power(fit, test=test, n=2, seed=3).simulation.reml
    assert not power(fit, test=test, n=2, seed=3, reml=False).simulation.reml


@pytest.mark.parametrize("family", list(EXTRA))
def test_every_row_is_the_fit_of_its_response(family) -> None:
    Y = drawn(family)
    link = "log" if family == "gamma" else None
    found = fit_many(f"~ {FORMULA}", TRIALS, Y, family=family, link=link)
    for i in range(Y.shape[1]):
        alike(found, i, glmer(f"y ~ {FORMULA}", TRIALS.assign(y=Y[i]), family, link))
    assert np.isinf(found.df).all() and found.ddf == "z"
    assert set(found.separated) == {""}
    frame = found.to_frame()
    assert {"z", "p", *found.extra_names} <= set(frame.columns) and "sigma" not in frame.columns


def test_trials_offsets_and_missing_values() -> None:
    rng = np.random.default_rng(3)
    data = TRIALS.assign(tries=rng.integers(1, 9, len(TRIALS)), ease=rng.normal(size=len(TRIALS)))
    formula = f"offset(ease) + {FORMULA}"
    Y = drawn("binomial", 3, 2, data, weights="tries")
    assert Y.to_numpy().max() > 1
    Y.iloc[:20, 1] = np.nan
    Y.iloc[data.index[data["subj"] == "S03"], 2] = np.nan
    found = fit_many(f"~ {formula}", data, Y, family="binomial", weights="tries")
    tries = np.repeat(data[["tries"]].to_numpy(float), 3, axis=1)
    own = fit_many(f"~ {formula}", data, Y, family="binomial", weights=tries)
    for i in range(3):
        part = data.assign(y=Y[i]).dropna()
        one = glmer(f"cbind(y, tries - y) ~ {formula}", part)
        alike(found, i, one)
        alike(own, i, one)
    assert list(found.n) == [len(TRIALS), len(TRIALS) - 20, len(TRIALS) - 8]


def test_quadrature_contrasts_and_expected_information() -> None:
    Y = drawn("binomial", 3)
    formula = "cond + (1 | subj)"
    how = {"nagq": 9, "link": "probit"}
    found = fit_many(f"~ {formula}", TRIALS, Y, family="binomial", contrasts="cond[T.b]", **how)
    expected = {"link": "cloglog", "information": "expected"}
    other = fit_many(f"~ {formula}", TRIALS, Y, family="binomial", **expected)
    assert found.contrast_names == ("cond[T.b]",)
    for i in range(3):
        data = TRIALS.assign(y=Y[i])
        one = glmer(f"y ~ {formula}", data, **how)
        assert found.objective[i] == pytest.approx(one.objective, abs=1e-6)
        assert found.pvalue[i, 0] == pytest.approx(one.pvalues.iloc[1], rel=1e-3)
        one = glmer(f"y ~ {formula}", data, **expected)
        assert other.objective[i] == pytest.approx(one.objective, abs=1e-6)


def test_failures_are_rows() -> None:
    Y = drawn("binomial", 4).to_numpy(copy=True)
    Y[:, 0] = 0
    Y[3, 1] = 2
    Y[:, 2] = np.where(TRIALS["cond"] == "b", 1, Y[:, 2])
    found = fit_many(f"~ {FORMULA}", TRIALS, Y, family="binomial")
    assert "no row has a success" in found.status[0] and "successes" in found.status[1]
    assert np.isnan(found.objective[:2]).all() and not found.converged[:2].any()
    assert found.separated[2] == "cond[T.b]" and found.separated[3] == ""
    alone = fit_many(f"~ {FORMULA}", TRIALS, Y[:, 3:], family="binomial")
    assert alone.objective[0] == found.objective[3]
    counts = drawn("ordered", 2).to_numpy(copy=True)
    counts[counts[:, 0] == 2, 0] = 1
    found = fit_many(f"~ {FORMULA}", TRIALS, counts, family="ordered")
    assert "all classes" in found.status[0] and found.converged[1]


def same(one, two) -> None:
    for name, values in vars(one).items():
        if isinstance(values, np.ndarray):
            np.testing.assert_array_equal(values, getattr(two, name), err_msg=name)


def test_threads_order_chunks_and_clients_change_nothing(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(jobs, "MOST", 3)
    Y = drawn("negativebinomial", 12).to_numpy(copy=True)
    Y[:5, 3] = np.nan
    arguments = f"~ {FORMULA}", TRIALS
    how = {"family": "nbinom2"}
    one = fit_many(*arguments, Y, **how)
    same(one, fit_many(*arguments, Y, threads=2, **how))
    same(one, fit_many(*arguments, (Y[:, :5], Y[:, 5:]), **how))
    back = fit_many(*arguments, Y[:, ::-1], **how)
    np.testing.assert_array_equal(one.beta, back.beta[::-1])
    np.testing.assert_array_equal(one.se, back.se[::-1])
    with ThreadPoolExecutor(2) as pool:
        same(one, fit_many(*arguments, Y, client=pool, **how))
    path = tmp_path / "fits"
    same(one, fit_many(*arguments, Y, checkpoint=path, **how))
    same(one, fit_many(*arguments, Y, checkpoint=path, **how))
    with pytest.raises(ValueError, match="another run"):
        fit_many(*arguments, Y, checkpoint=path, family="poisson")
    with pytest.raises(ValueError, match="another run"):
        fit_many(*arguments, Y, checkpoint=path, link="sqrt", **how)


def test_words() -> None:
    Y = drawn("binomial", 1)
    formula = f"~ {FORMULA}"
    with pytest.raises(ValueError, match='must be "z"'):
        fit_many(formula, TRIALS, Y, family="binomial", ddf="satterthwaite")
    with pytest.raises(ValueError, match="give family="):
        fit_many(formula, TRIALS, Y, nagq=3)
    with pytest.raises(ValueError, match="give family="):
        simulate(formula, TRIALS, HITS, link="log")
    with pytest.raises(FitError, match="quadrature is for one"):
        fit_many(formula, TRIALS, Y, family="binomial", nagq=3)
    with pytest.raises(DataError, match="must be a table of classes"):
        fit_many(formula, TRIALS, [Y], family="ordered")


# ---- refits share a model ------------------------------------------------------------------------


def test_replicates_and_refits_are_single_fits() -> None:
    y = drawn("negativebinomial", 1)[0]
    fit = glmer(f"y ~ {FORMULA}", TRIALS.assign(y=y), "nbinom2")
    found = fit.bootstrap(5, seed=3)
    two = fit.bootstrap(5, seed=3, threads=2)
    same(found.fits, two.fits)
    drawn_anew = fit.simulate(5, seed=3)
    for i in range(5):
        one = glmer(f"y ~ {FORMULA}", TRIALS.assign(y=drawn_anew[i]), "nbinom2")
        assert found.fits.objective[i] == pytest.approx(one.objective, abs=1e-6)
        np.testing.assert_allclose(found.fits.beta[i], one.params, atol=1e-5)
        again = fit.refit(drawn_anew[i])
        assert again.model is fit.model
        np.testing.assert_allclose(again.bse, one.bse, rtol=1e-4)
        assert again.aic == pytest.approx(one.aic, abs=1e-6)
        np.testing.assert_allclose(again.fittedvalues, one.fittedvalues, rtol=1e-4)
    np.testing.assert_allclose(
        again.profile(["cond[T.b]"]).conf_int(), one.profile(["cond[T.b]"]).conf_int(), atol=1e-4
    )
    tables = [ranova(own).table.select_dtypes("number") for own in (again, one)]
    np.testing.assert_allclose(*tables, rtol=1e-5, atol=1e-6)
    assert fit.refit(y).objective == pytest.approx(fit.objective, abs=1e-8)
    assert glmer(f"y ~ {FORMULA}", TRIALS.assign(y=y), "nbinom2").objective == fit.objective


def test_a_statistic_is_given_the_replicate() -> None:
    fit = glmer(f"y ~ {FORMULA}", TRIALS.assign(y=drawn("poisson", 1)[0]), "poisson")
    boot = fit.bootstrap(
        3, seed=1, statistic=lambda own: [own.objective, own.bse.iloc[1], own.nobs]
    )
    Y = fit.simulate(3, seed=1)
    for i in range(3):
        own = fit.refit(Y[i])
        wanted = [own.objective, own.bse.iloc[1], len(TRIALS)]
        np.testing.assert_allclose(boot.replicates[i, -3:], wanted, rtol=1e-6)


# ---- simulation without a fit --------------------------------------------------------------------


def test_simulated_without_a_fit_as_from_one() -> None:
    for family in EXTRA:
        Y = drawn(family, 2)
        link = "log" if family == "gamma" else None
        fit = glmer(f"y ~ {FORMULA}", TRIALS.assign(y=Y[0]), family, link)
        params = {
            "beta": fit.params.to_dict(),
            "theta": fit.theta,
            "extra": dict(fit.extra) if len(fit.extra) else None,
        }
        again = simulate(f"~ {FORMULA}", TRIALS, params, 2, 5, family=family, link=link)
        np.testing.assert_allclose(again, fit.simulate(2, seed=5), rtol=1e-9)


def test_words_of_parameters() -> None:
    formula = f"~ {FORMULA}"
    with pytest.raises(ValueError, match="params needs extra: size"):
        simulate(formula, TRIALS, HITS, family="nbinom2")
    with pytest.raises(ValueError, match="did you mean 'size'"):
        simulate(formula, TRIALS, HITS | {"extra": {"sizes": 1}}, family="nbinom2")
    with pytest.raises(ValueError, match="must be positive"):
        simulate(formula, TRIALS, HITS | {"extra": {"size": -1}}, family="nbinom2")
    with pytest.raises(ValueError, match="no extra parameters"):
        simulate(formula, TRIALS, HITS | {"extra": {"size": 1}}, family="poisson")
    with pytest.raises(ValueError, match="sigma is the residual"):
        simulate(formula, TRIALS, HITS | {"sigma": 1}, family="poisson")
    with pytest.raises(ValueError, match="extra is for generalized"):
        simulate(formula, TRIALS, HITS | {"sigma": 1, "extra": {"size": 1}})
    wrong = {"lo|mid": 1, "hi|top": 2}
    with pytest.raises(ValueError, match="between neighbouring classes"):
        simulate(formula, TRIALS, HITS | {"extra": wrong}, family="ordered")
    falling = HITS | {"beta": {"cond[T.b]": 1}, "extra": [1, 0.5]}
    with pytest.raises(ValueError, match="must increase"):
        simulate(formula, TRIALS, falling, family="ordered")


# ---- power ---------------------------------------------------------------------------------------


def counted(formula: str, data: pd.DataFrame, params, effect: float, n: int, seed: int, **how):
    """p-values of single fits, by z and by likelihood ratios."""
    link = how.pop("link", None)
    beta = params["beta"] | {"cond[T.b]": effect}
    family = how.pop("family")
    own = {"family": family, "link": link}
    Y = simulate(f"~ {formula}", data, params | {"beta": beta}, n, seed, **own, **how)
    z, ratio = np.empty(n), np.empty(n)
    for i in range(n):
        drawn_data = data.assign(y=Y[i])
        fit = glmer(f"y ~ {formula}", drawn_data, family, link, **how)
        small = glmer(f"y ~ {formula.replace('cond', '1')}", drawn_data, family, link, **how)
        z[i] = fit.pvalues["cond[T.b]"]
        ratio[i] = chi2.sf(small.objective - fit.objective, 1)
    return z, ratio


@pytest.mark.parametrize("family", ["binomial", "negativebinomial", "ordered"])
@pytest.mark.parametrize("method", ["z", "lrt"])
def test_power_is_the_count_of_single_fits(family, method) -> None:
    n = 12
    params = HITS | {"extra": EXTRA[family]}
    if family == "ordered":
        params = params | {"beta": {}}
    how = {"family": family, "method": method, "effect": [0.0, 0.9], "n": n, "seed": 5}
    found = power(f"y ~ {FORMULA}", TRIALS, params=params, **how)
    for place, effect in enumerate((0.0, 0.9)):
        p = counted(FORMULA, TRIALS, params, effect, n, 5, family=family)[method == "lrt"]
        mine = found.outcomes[0].found["p"][:, place]
        np.testing.assert_allclose(mine, p, rtol=2e-3, atol=1e-8)
        assert found.power[place] == (p < 0.05).mean()
    assert found.power[1] > found.power[0]
    assert found.to_frame()["effect"].tolist() == [0.0, 0.9]


def test_power_is_the_same_whoever_works(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(jobs, "MOST", 7)
    how = {"family": "binomial", "params": HITS, "scale": [1, 2], "n": 30, "seed": 3}
    for method in ("z", "lrt"):
        one = power(FORMULA, TRIALS, method=method, **how)
        others = [power(FORMULA, TRIALS, method=method, threads=2, **how)]
        with ThreadPoolExecutor(2) as pool:
            others.append(power(FORMULA, TRIALS, method=method, client=pool, **how))
        path = tmp_path / method
        others += [power(FORMULA, TRIALS, method=method, checkpoint=path, **how) for _ in range(2)]
        for other in others:
            for name, values in one.outcomes[0].found.items():
                np.testing.assert_array_equal(values, other.outcomes[0].found[name], err_msg=name)
    with pytest.raises(ValueError, match="another run"):
        power(FORMULA, TRIALS, checkpoint=path, **how | {"family": "poisson"}, method="lrt")


def test_terms_and_hypotheses_of_several_rows() -> None:
    data = design(15, 9, within={"c": ["a", "b", "x"]})
    formula = "c + (1 | subj)"
    params = {"beta": {"Intercept": 0.0, "c[T.b]": 0.8, "c[T.x]": 1.2}, "sd": {"subj": 0.7}}
    how = {"family": "binomial", "params": params, "n": 4, "seed": 2}
    Y = simulate(f"~ {formula}", data, params, 4, 2, family="binomial")
    wald = power(formula, data, test="c", **how).outcomes[0].found["p"][:, 0]
    ratio = power(formula, data, test="c", method="lrt", **how).outcomes[0].found["p"][:, 0]
    shifted = power(formula, data, test="c[T.b] = 0.5", method="lrt", **how).outcomes[0].found["p"]
    for i in range(4):
        drawn_data = data.assign(y=Y[i])
        fit = glmer(f"y ~ {formula}", drawn_data)
        small = glmer("y ~ 1 + (1 | subj)", drawn_data)
        at = glmer("y ~ offset(0.5 * (c == 'b')) + (c == 'x') + (1 | subj)", drawn_data)
        assert wald[i] == pytest.approx(fit.f_test("c[T.b], c[T.x]").pvalue, rel=2e-3)
        assert ratio[i] == pytest.approx(chi2.sf(small.objective - fit.objective, 2), rel=2e-3)
        p = chi2.sf(at.objective - fit.objective, 1)
        assert shifted[i, 0] == pytest.approx(p, rel=2e-3, abs=1e-6)


def test_curves_smallest_size_and_errors() -> None:
    how = {"family": "binomial", "params": HITS, "n": 60, "seed": 1, "threads": 2}
    found = power(FORMULA, TRIALS, effect=[0.5, 1.0], along={"subj": [8, 32]}, **how)
    table = found.to_frame().set_index(["subj", "effect"])
    assert table["power"][32, 1.0] > table["power"][8, 0.5]
    assert (table["lower"] < table["power"]).all() and (table["power"] < table["upper"]).any()
    assert "separated" in table and table["type_M"][8, 0.5] > 1
    own = found.outcomes[1].found
    hit = own["p"][:, 1] < 0.05
    assert table["type_M"][32, 1.0] == pytest.approx(np.abs(own["estimate"][hit, 1]).mean())
    size = found.smallest(0.8, along="subj", at={"effect": 1.0}, by=2, n=40)
    assert 2 < size.size <= 64
    with pytest.raises(ValueError, match="is for linear models"):
        found.smallest(0.8, along="effect", at={"subj": 8})


def test_separated_studies_are_counted_and_named() -> None:
    params = {"beta": {"Intercept": 1.0}, "sd": {"subj": 0.5}}
    data = design(8, within={"cond": ["a", "b"], "k": range(2)})
    found = power(
        "cond + (1 | subj)", data, family="binomial", params=params, effect=4, n=40, seed=2
    )
    table = found.to_frame()
    own = found.outcomes[0].found["separated"][:, 0]
    assert table["separated"][0] == (own != "").mean() > 0.2
    assert "cond[T.b] (" in str(found.summary()) and table["singular"][0] > 0
    ratio = power(
        "cond + (1 | subj)", data, family="binomial", params=params, effect=4, n=40, seed=2,
        method="lrt",
    )  # fmt: skip
    assert float(ratio) > float(found)


def test_of_a_fit_and_of_larger_samples() -> None:
    rng = np.random.default_rng(4)
    data = TRIALS.assign(tries=rng.integers(2, 6, len(TRIALS)))
    y = drawn("binomial", 1, 3, data, weights="tries")[0]
    data = data.assign(hits=y, misses=data["tries"] - y)
    fit = glmer(f"cbind(hits, misses) ~ {FORMULA}", data)
    how = {"effect": 0.5, "n": 4, "seed": 1}
    found = power(fit, **how)
    psi = {"beta": dict(fit.params) | {"cond[T.b]": 0.5}, "theta": fit.theta}
    Y = simulate(f"~ {FORMULA}", data, psi, 4, 1, family="binomial", weights="tries")
    for i in range(4):
        one = glmer(f"cbind(y, tries - y) ~ {FORMULA}", data.assign(y=Y[i]))
        assert found.outcomes[0].found["p"][i, 0] == pytest.approx(one.pvalues.iloc[1], rel=2e-3)
    larger = power(extend(fit, along="subj", to=32), **how)
    along = power(fit, along={"subj": [32]}, **how)
    assert larger.outcomes[0].nobs == 2 * len(data) and float(larger) == float(along)
    again = extend(data, along="subj", to=32)
    given = power(FORMULA, again, family="binomial", params=psi, weights="tries", **how)
    np.testing.assert_allclose(given.outcomes[0].found["p"], larger.outcomes[0].found["p"])
    observed = power(fit, n=3, seed=1)
    assert "says what its p-value says" in str(observed.summary()).replace("\n", " ")


def test_words_of_power() -> None:
    how = {"family": "binomial", "n": 3, "seed": 1}
    with pytest.raises(ValueError, match="beta lacks Intercept"):
        power(FORMULA, TRIALS, params={"sd": {"subj": 1, "item": 1}}, effect=1, **how)
    with pytest.raises(ValueError, match="beta lacks cond"):
        power(FORMULA, TRIALS, params=HITS | {"beta": {"Intercept": 1}}, **how)
    with pytest.raises(ValueError, match='must be "z" or "lrt"'):
        power(FORMULA, TRIALS, params=HITS, method="satterthwaite", **how)
    with pytest.raises(ValueError, match="give family="):
        power(FORMULA, TRIALS, params=HITS, nagq=5)
    with pytest.raises(ValueError, match="thresholds of an ordered"):
        power(FORMULA, TRIALS, params=HITS, family="ordered")
    fit = glmer(f"y ~ {FORMULA}", TRIALS.assign(y=drawn("binomial", 1)[0]))
    with pytest.raises(ValueError, match="family= goes with a formula"):
        power(fit, family="binomial")


def test_a_model_of_arrays_takes_many_responses() -> None:
    codes = TRIALS["subj"].cat.codes.to_numpy().astype(int)
    Y = drawn("poisson", 3).to_numpy()
    model = GLMM.from_arrays(Y[:, 0], np.ones((len(Y), 1)), [(codes, None)], "poisson")
    found = model.fit_many(Y, threads=2)
    for i in range(3):
        one = glmer("y ~ 1 + (1 | subj)", TRIALS.assign(y=Y[:, i]), "poisson")
        assert found.objective[i] == pytest.approx(one.objective, abs=1e-6)
