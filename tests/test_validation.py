"""Jackknife and cross-validation against their definitions."""

from __future__ import annotations

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from conftest import close
from dense import Problem
from structures import STRUCTURES

import lmmfast
from lmmfast import LMM, cross_validate, datasets, jackknife, lmer
from lmmfast.inference.rows.leaving import Leaving, are_identified_without

SLOPES = "Reaction ~ Days + (Days | Subject)"
NAMES = ["sparse-2-1", "sparse-five-weighted", "designed-four", "nested-crossed"]


@pytest.fixture(scope="module")
def sleep():
    return lmer(SLOPES, datasets.load("sleepstudy"))


def one_way() -> dict[str, np.ndarray]:
    """Balanced: 12 groups of 5."""
    rng = np.random.default_rng(8)
    g = np.repeat(np.arange(12), 5)
    return {"y": rng.gamma(2, size=12)[g] * 3 + rng.normal(size=60), "g": g}


# ---- jackknife -----------------------------------------------------------------------------------


def test_the_mean_of_balanced_groups() -> None:
    """Closed forms: the mean without group g is that of the other means."""
    data = one_way()
    found = jackknife(lmer("y ~ 1 + (1 | g)", data), "g")
    means = data["y"].reshape(12, 5).mean(axis=1)
    d = means - means.mean()
    close(found.values[:, -1], (means.sum() - means) / 11, 1, 1e-8)
    assert found.se["Intercept"] == pytest.approx(np.sqrt((d**2).sum() / (11 * 12)), rel=1e-6)
    assert found.bias["Intercept"] == pytest.approx(0, abs=1e-8)
    a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    assert found.acceleration["Intercept"] == pytest.approx(a, rel=1e-6)


def test_the_variances_of_balanced_groups() -> None:
    """Mean squares of the analysis of variance without each group."""
    data = one_way()
    found = jackknife(lmer("y ~ 1 + (1 | g)", data), "g")
    y, wanted = data["y"].reshape(12, 5), []
    for g in range(12):
        rest = np.delete(y, g, axis=0)
        within, between = rest.var(axis=1, ddof=1).mean(), 5 * rest.mean(axis=1).var(ddof=1)
        wanted.append([np.sqrt((between - within) / 5), np.sqrt(within)])
    close(found.values[:, :2], wanted, 1, 1e-6)
    assert found.names == ("sd(Intercept | g)", "sigma", "Intercept")
    mean = np.mean(wanted, axis=0)
    close(found.bias[:2], 11 * (mean - found.estimates[:2]), 1, 1e-5)
    close(found.se[:2], np.sqrt(11 / 12 * ((wanted - mean) ** 2).sum(axis=0)), 1, 1e-5)


def test_jackknife_of_crossed_factors_is_lmers() -> None:
    data = datasets.load("kb07")
    formula = "RTtrunc ~ S + P + (1 + P | subj) + (1 | item)"
    fit = lmer(formula, data)
    found = jackknife(fit, "item", threads=2)
    assert (found.status == "converged").all() and len(found) == 32
    for level in (0, 17):
        rest = lmer(formula, data[data["item"] != found.labels[level]])
        close(found.objective[level], rest.objective, 1, 1e-6)
        close(found.theta[level], rest.theta, np.abs(rest.theta).max(), 1e-5)
        sd = rest.varcorr["sdcor"].to_numpy()
        close(found.values[level][:5], sd[[0, 2, 1, 3, 4]], np.abs(sd).max(), 1e-5)
        close(found.values[level][5:], rest.params, rest.bse, 1e-6)
    frame = found.to_frame()
    assert frame.index.name == "item" and list(frame)[-2:] == ["objective", "status"]


@pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")
def test_levels_that_fail_are_counted() -> None:
    data = one_way()
    data["own"] = np.where(data["g"] == 4, np.arange(60) % 5, 0.0)
    fit = lmer("y ~ own + (1 | g)", data)
    found = jackknife(fit, "g")
    assert found.n_failed == 1 and found.status[4] == "cannot be estimated: own"
    rest = np.delete(found.values[:, -2], 4)
    wanted = np.sqrt(10 / 11 * ((rest - rest.mean()) ** 2).sum())
    assert found.se["Intercept"] == pytest.approx(wanted)
    assert "1 did not converge" in str(found)


def test_labels_of_the_users(sleep) -> None:
    data = datasets.load("sleepstudy")
    wanted = jackknife(sleep, "Subject")
    found = jackknife(sleep, data["Subject"].astype(str).to_numpy())
    np.testing.assert_array_equal(found.values, wanted.values)
    assert found.by == "by" and list(found.labels) == [str(one) for one in wanted.labels]


# ---- predictive densities ------------------------------------------------------------------------


def conditional(problem: Problem, theta, sigma, beta, out) -> tuple[np.ndarray, float]:
    """Mean of the rows that are left out given the others, and their log density: dense algebra."""
    V = problem.covariance(np.asarray(theta)) * sigma**2
    fixed = problem.X @ beta + (0 if problem.offset is None else problem.offset)
    rest = np.setdiff1d(np.arange(len(problem.y)), out)
    W = np.linalg.solve(V[np.ix_(rest, rest)], V[np.ix_(rest, out)]).T
    mean = fixed[out] + W @ (problem.y - fixed)[rest]
    left = problem.y[out] - mean
    S = V[np.ix_(out, out)] - W @ V[np.ix_(rest, out)]
    log_det = np.linalg.slogdet(2 * np.pi * S)[1]
    return mean, -(log_det + left @ np.linalg.solve(S, left)) / 2


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_densities_are_those_of_normal_vectors(name: str, reml: bool) -> None:
    """Of crossed and nested factors, with weights and an offset: levels that are new, and not."""
    problem, _ = STRUCTURES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lmmfast.LmmWarning)
        fit = LMM.from_arrays(*problem.arrays).fit(reml=reml)
    rng = np.random.default_rng(1)
    for codes in (problem.terms[-1].codes, rng.integers(0, 3, len(problem.y))):
        folds = codes % 3
        found = cross_validate(fit, folds=folds)
        sets = [np.flatnonzero(folds == fold) for fold in range(3)]
        leaving = Leaving(fit, are_identified_without(fit, sets))
        for fold in (0, 2):
            out, keep = sets[fold], folds != fold
            terms = [
                (np.unique(t.codes[keep], return_inverse=True)[1], t.z[keep], t.structure)
                for t in problem.terms
            ]
            rest = [None if v is None else v[keep] for v in (problem.weights, problem.offset)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", lmmfast.LmmWarning)
                model = LMM.from_arrays(problem.y[keep], problem.X[keep], terms, *rest)
            assert found.status[fold] == "converged"
            left = leaving.without(out).estimates  # to the last digit what the fold was fitted to
            assert left.objective == pytest.approx(model.fit(reml=reml).objective, abs=1e-6)
            mean, density = conditional(problem, left.theta, left.sigma, left.beta, out)
            assert found.elpd[fold] == pytest.approx(density, abs=1e-7)
            close(found.predictions.to_numpy()[out], mean, left.sigma, 1e-8)
            wanted = np.sqrt(np.mean((problem.y[out] - mean) ** 2))
            assert found.rmse[fold] == pytest.approx(wanted, rel=1e-5)


def test_densities_of_lme4(sleep) -> None:
    """lme4 1.1-31 and dense algebra, by validation/generate.R; lme4 stops above the optimum."""
    found = cross_validate(sleep, "Subject").to_frame().loc[["308", "335", "352"]]
    close(found["elpd"], [-61.2992468784, -47.5338509640, -48.3473938103], 1, 1e-4)
    close(found["rmse"], [71.6974015917, 66.1975791578, 48.0361155124], 1, 1e-4)
    fit = lmer("RTtrunc ~ S + P + (1 + P | subj) + (1 | item)", datasets.load("kb07"))
    frame = cross_validate(fit, "item").to_frame()
    found = frame[frame.index.astype(str).isin(["1", "12"])]
    close(found["elpd"], [-446.483408212, -452.243246609], 1, 3e-4)
    close(found["rmse"], [794.664020935, 1122.445024545], 1, 2e-3)


def test_new_subjects_are_predicted_by_the_fixed_effects(sleep) -> None:
    data = datasets.load("sleepstudy")
    found = cross_validate(sleep, "Subject")
    rest = lmer(SLOPES, data[data["Subject"] != "335"])
    own = data[data["Subject"] == "335"]
    wanted = rest.predict(own, re_form="none")
    close(found.predictions.loc[wanted.index], wanted, rest.sigma, 1e-6)
    assert found.to_frame().loc["335", "n"] == 10


def test_totals(sleep) -> None:
    """Sums, and standard errors from the variation among folds."""
    found = cross_validate(sleep, k=9, seed=4)
    assert found.n.sum() == 180 and set(found.n) == {20}
    total = found.total
    assert total["estimate"]["elpd"] == pytest.approx(found.elpd.sum())
    assert total["SE"]["elpd"] == pytest.approx(3 * found.elpd.std(ddof=1))
    errors = datasets.load("sleepstudy")["Reaction"] - found.predictions
    assert total["estimate"]["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
    spread = found.squares.std(ddof=1) * 3 / 180  # folds of equal size
    assert total["SE"]["rmse"] == pytest.approx(spread / (2 * total["estimate"]["rmse"]))
    assert "seed 4" in str(found)


def test_comparisons(sleep) -> None:
    data = datasets.load("sleepstudy")
    first = cross_validate(sleep, "Subject")
    other = cross_validate(lmer("Reaction ~ Days + (1 | Subject)", data), "Subject")
    found = first.compare(other)
    close(found.by_fold, first.elpd - other.elpd, 1, 0)
    assert found.difference == pytest.approx(found.by_fold.sum())
    assert found.se == pytest.approx(np.sqrt(18) * found.by_fold.std(ddof=1))
    assert other.compare(first).difference == -found.difference
    assert "elpd difference" in str(found)
    with pytest.raises(ValueError, match="different rows"):
        first.compare(cross_validate(sleep, k=18, seed=1))
    third = cross_validate(sleep.refit(data["Reaction"] + 1.0), "Subject")
    with pytest.raises(ValueError, match="different responses"):
        first.compare(third)


# ---- folds ---------------------------------------------------------------------------------------


def test_folds_at_random(sleep) -> None:
    """The same seed, the same folds; a new one is kept; levels stay together."""
    one, same = cross_validate(sleep, k=6, seed=2), cross_validate(sleep, k=6, seed=2)
    assert one.folds.is_same(same.folds) and list(one.elpd) == list(same.elpd)
    drawn = cross_validate(sleep, k=6)
    again = cross_validate(sleep, k=6, seed=drawn.seed)
    assert drawn.folds.is_same(again.folds) and not drawn.folds.is_same(one.folds)
    grouped = cross_validate(sleep, "Subject", k=4, seed=1)
    codes = sleep.design.terms[0].codes
    assert len(set(zip(codes.tolist(), grouped.folds.codes.tolist(), strict=True))) == 18
    assert sorted(grouped.n) == [40, 40, 50, 50]
    given = cross_validate(sleep, folds=one.folds.codes)
    np.testing.assert_array_equal(given.elpd, one.elpd)


def test_rows_that_were_dropped() -> None:
    """Labels of all rows of the data, or of those that were used."""
    data = datasets.load("sleepstudy")
    data.loc[[3, 50], "Reaction"] = np.nan
    fit = lmer(SLOPES, data)
    whole = cross_validate(fit, folds=data["Subject"].astype(str))
    used = cross_validate(fit, folds=data["Subject"].astype(str).to_numpy()[fit.design.rows])
    np.testing.assert_array_equal(whole.elpd, used.elpd)
    np.testing.assert_array_equal(whole.elpd, cross_validate(fit, "Subject").elpd)
    assert list(whole.predictions.index) == list(data.index.drop([3, 50]))


def test_folds_that_mean_nothing(sleep) -> None:
    with pytest.raises(lmmfast.DataError, match=r"'subject' is not a grouping factor.*Subject"):
        cross_validate(sleep, "subject")
    with pytest.raises(ValueError, match="say what is left out"):
        cross_validate(sleep)
    with pytest.raises(ValueError, match="without by= and k="):
        cross_validate(sleep, "Subject", folds=np.arange(180))
    with pytest.raises(ValueError, match="a single fold"):
        cross_validate(sleep, k=1)
    with pytest.raises(ValueError, match="only 18 Subject"):
        cross_validate(sleep, "Subject", k=19)
    with pytest.raises(lmmfast.DataError, match="each of the 180 rows"):
        cross_validate(sleep, folds=[1, 2])
    labels = pd.Series(["a", "b"] * 90, dtype=object)
    labels[7] = None
    with pytest.raises(lmmfast.DataError, match="missing labels"):
        cross_validate(sleep, folds=labels)
    with pytest.raises(ValueError, match="threads"):
        jackknife(sleep, "Subject", threads=0)


@pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")
def test_folds_that_cannot_be_left_out() -> None:
    """A coefficient that needs the fold, a factor that has one level without it: rows that say so,
    and no total."""
    data = one_way()
    data["own"] = np.where(data["g"] == 4, np.arange(60) % 5, 0.0)
    found = cross_validate(lmer("y ~ own + (1 | g)", data), "g")
    assert found.status[4] == "cannot be estimated: own" and found.n_failed == 1
    assert np.isnan(found.elpd[4]) and np.isfinite(np.delete(found.elpd, 4)).all()
    assert np.isnan(found.total["estimate"]).all()
    found = cross_validate(lmer("y ~ 1 + (1 | g)", data), folds=(data["g"] > 0).astype(int))
    assert found.status[1] == "'g' has a single level left" and found.status[0] == "converged"


# ---- who computes --------------------------------------------------------------------------------


def test_threads_give_the_same(sleep) -> None:
    one, two = jackknife(sleep, "Subject"), jackknife(sleep, "Subject", threads=2)
    np.testing.assert_array_equal(one.values, two.values)
    first, second = cross_validate(sleep, "Subject"), cross_validate(sleep, "Subject", threads=3)
    np.testing.assert_array_equal(first.elpd, second.elpd)
    np.testing.assert_array_equal(first.predictions, second.predictions)


class Elsewhere(ThreadPoolExecutor):
    """As a process would: what is sent and what comes back is pickled."""

    def submit(self, function, *arguments):
        packed = pickle.dumps((function, arguments))
        return super().submit(_unpacked, packed)


def _unpacked(packed):
    function, arguments = pickle.loads(packed)
    return pickle.loads(pickle.dumps(function(*arguments)))


def test_workers_give_the_same(sleep) -> None:
    with Elsewhere(2) as pool:
        found = jackknife(sleep, "Subject", client=pool)
        far = cross_validate(sleep, "Subject", client=pool)
    np.testing.assert_array_equal(found.values, jackknife(sleep, "Subject").values)
    np.testing.assert_array_equal(far.elpd, cross_validate(sleep, "Subject").elpd)


def test_estimated_determinants_have_no_density() -> None:
    problem, _ = STRUCTURES["sparse-2-1"]
    fit = LMM.from_arrays(*problem.arrays, storage="iterative").fit()
    found = cross_validate(fit, k=2, seed=1)
    assert np.isnan(found.elpd).all() and np.isfinite(found.rmse).all()


def test_streams_have_no_rows() -> None:
    data = datasets.load("sleepstudy")
    spec = lmmfast.Spec.from_data(SLOPES, data)
    fit = lmer(lmmfast.CrossProducts.from_frame(data, spec))
    for call in (lambda: jackknife(fit, "Subject"), lambda: cross_validate(fit, "Subject")):
        with pytest.raises(lmmfast.DataError, match="not in memory"):
            call()
