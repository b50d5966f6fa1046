"""Standard errors and intervals of predictions, against dense algebra and against simulation."""

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import close
from reference_data import data
from scipy import stats
from scipy.linalg import block_diag

from lmmfast import LMM, datasets, emmeans, lmer
from lmmfast.data.columns import Table
from lmmfast.engine.point import Point
from lmmfast.errors import DataError, FitError, LmmWarning
from lmmfast.inference.rows import remaining

SLOPES = "Reaction ~ Days + (Days | Subject)"
MODELS = {
    "slopes": (SLOPES, "sleepstudy", {}),
    "no correlation": ("Reaction ~ Days + (Days || Subject)", "sleepstudy", {}),
    "two terms": ("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", "sleepstudy", {}),
    "crossed": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin", {}),
    "nested": ("strength ~ 1 + (1 | batch/cask)", "Pastes", {"reml": False}),
    "singular": ("Yield ~ 1 + (1 | Batch)", "Dyestuff2", {}),
    "dropped": ("angle ~ recipe + temp + temperature + (temp | recipe:replicate)", "cake", {}),
    "weights": ("lang ~ IQ + SES + (IQ | class)", "nlschools", {"weights": "GS"}),
    "no fixed part": ("strength ~ 0 + (1 | batch) + (1 | cask)", "Pastes", {}),
    "crossed slopes": ("RTtrunc ~ S * P + (S + P | subj) + (P | item)", "kb07", {"reml": False}),
}
MOST = 400  # rows, for dense algebra


def frame_of(name):
    frame = datasets.load(name) if name == "Penicillin" else data(name)
    return frame.iloc[:: max(1, len(frame) // MOST)]


@pytest.fixture(scope="module", params=MODELS)
def fit(request):
    formula, name, options = MODELS[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        return lmer(formula, frame_of(name), **options)


def dense_variance(fit, X, z):
    """By V, n x n: variance of x'(beta-hat - beta) + z'(b-hat - b) of rows of X (kept columns) and
    of Z, all terms side by side."""
    n, kept = fit.nobs, fit.estimates.fixed_kept
    own, blocks, covariances = fit.design.X[:, kept], [], []
    for term, T in zip(fit.design.terms, fit.estimates.T, strict=True):
        Z = np.zeros((n, len(term.levels), term.z.shape[1]))
        Z[np.arange(n), term.codes] = term.z
        blocks.append(Z.reshape(n, -1))
        covariances.append(np.kron(np.eye(len(term.levels)), fit.scale * T @ T.T))
    Z, G = np.concatenate(blocks, axis=1), block_diag(*covariances)
    w = np.ones(n) if fit.weights is None else fit.weights
    V = Z @ G @ Z.T + np.diag(fit.scale / w)
    VZ = np.linalg.solve(V, Z)
    rest = X - z @ G @ VZ.T @ own
    variance = np.einsum("ij,jk,ik->i", z, G - G @ Z.T @ VZ @ G, z)
    C = own.T @ np.linalg.solve(V, own)
    return variance + np.einsum("ij,ji->i", rest, np.linalg.solve(C, rest.T))


def dense_se(fit, groups):
    """Of the rows of the fit, with the effects of these factors."""
    z, n = [], fit.nobs
    for term in fit.design.terms:
        Z = np.zeros((n, len(term.levels), term.z.shape[1]))
        Z[np.arange(n), term.codes] = term.z * (term.group in groups)
        z.append(Z.reshape(n, -1))
    X = fit.design.X[:, fit.estimates.fixed_kept]
    return np.sqrt(dense_variance(fit, X, np.concatenate(z, axis=1)))


def test_conditional_standard_errors(fit):
    groups = list(fit.n_levels)
    found = fit.predict(se=True)
    np.testing.assert_array_equal(found["fit"], fit.predict())
    close(found["se"], dense_se(fit, groups), found["se"], 1e-8)
    half = stats.norm.ppf(0.975) * found["se"]
    np.testing.assert_allclose(found["upper"] - found["fit"], half, rtol=1e-9)
    np.testing.assert_allclose(found["fit"] - found["lower"], half, rtol=1e-9)


def test_some_of_the_factors(fit):
    for group in fit.n_levels if len(fit.n_levels) > 1 else []:
        found = fit.predict(re_form=[group], se=True)["se"]
        close(found, dense_se(fit, [group]), found, 1e-8)


@pytest.mark.parametrize("few", ["rows", "columns"])
def test_levels_that_never_occur_together_are_solved_for(fit, few, monkeypatch):
    """Nothing is read off: a right-hand side for each row, or for each level, in many pieces."""
    some = slice(None, 7) if few == "rows" else slice(None)
    known = fit.predict(se=True)["se"]
    parts = [
        remaining.loading(fit.point, i, term.codes[some], term.z[some])
        for i, term in enumerate(fit.design.terms)
    ]
    read = remaining.variances(fit.point, parts)
    monkeypatch.setattr(Point, "is_exact", False)
    monkeypatch.setattr(remaining, "AT_ONCE", 1000)
    close(remaining.variances(fit.point, parts), read, read.max() + 1e-9, 1e-9)
    np.testing.assert_allclose(fit.predict(se=True)["se"], known, rtol=1e-8)


LAYOUTS = {
    "chain": ("y ~ x + (1 | pupil) + (x | klass) + (1 | school)", "auto"),
    "chain, crossed": ("y ~ x + (1 | pupil) + (x | klass) + (1 | school) + (1 | area)", "dense"),
    "chain, crossed, sparse": ("y ~ x + (1 | pupil) + (x | klass) + (1 | area)", "sparse"),
    "crossed, sparse": ("y ~ x + (x | pupil) + (0 + x || area) + (1 | klass)", "sparse"),
    "crossed, iterative": ("y ~ x + (x | pupil) + (1 | area)", "iterative"),
    "singular": ("y ~ x + (x | pupil) + (1 | area)", "dense"),
}


def pupils():
    rng = np.random.default_rng(8)
    n = 420
    pupil = rng.permutation(np.arange(n) % 90)
    klass = (np.arange(90) % 20)[pupil]
    area = (pupil + rng.integers(0, 2, n)) % 15
    frame = pd.DataFrame({"x": rng.normal(size=n) + 1, "pupil": pupil, "klass": klass})
    frame["school"], frame["area"], frame["w"] = klass % 6, area, rng.uniform(0.3, 3, n)
    for name, sd in (("pupil", 0.8), ("klass", 0.7), ("school", 0.5), ("area", 0.6)):
        frame["y"] = frame.get("y", 0.0) + rng.normal(0, sd, 90)[frame[name]]
    frame["y"] += (frame["x"] + 1) * rng.normal(1, 0.4, 20)[klass] + rng.normal(size=n)
    return frame


@pytest.fixture(scope="module", params=LAYOUTS)
def stored(request):
    formula, storage = LAYOUTS[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        fit = lmer(formula, pupils(), weights="w", storage=storage)
        if request.param != "singular":
            return fit
        return fit.model.at(fit.theta * [1, 0, 0, 1])


def test_chains_and_sparse_models(stored):
    found = stored.predict(se=True)["se"]
    close(found, dense_se(stored, list(stored.n_levels)), found, 1e-8)
    for group in stored.n_levels:
        found = stored.predict(re_form=[group], se=True)["se"]
        close(found, dense_se(stored, [group]), found, 1e-8)


@pytest.mark.parametrize("rows", [3, 400])
def test_levels_that_never_met(stored, rows):
    """New combinations of known levels, a few and many, some with a level that is not known."""
    rng = np.random.default_rng(rows)
    new = pd.DataFrame({"x": rng.normal(size=rows)})
    for group in stored.n_levels:
        new[group] = rng.integers(0, stored.n_levels[group], rows)
    new.loc[1, "pupil"] = 1000
    found = stored.predict(new, new_levels="population", se=True)["se"]
    terms, X = stored.design.terms, np.column_stack([np.ones(rows), new["x"]])
    z = []
    for term, (codes, own) in zip(terms, stored.design.recipe.random(Table.of(new)), strict=True):
        Z = np.zeros((rows, len(term.levels) + 1, own.shape[1]))
        Z[np.arange(rows), codes] = own  # the last: levels that are not known
        z.append(Z[:, :-1].reshape(rows, -1))
    variance = dense_variance(stored, X, np.concatenate(z, axis=1))
    at = next(i for i, term in enumerate(terms) if term.group == "pupil")
    own = stored.design.recipe.random(Table.of(new))[at][1][1]
    variance[1] += stored.scale * np.square(own @ stored.estimates.T[at]).sum()
    close(found, np.sqrt(variance), found, 1e-8)


@pytest.mark.parametrize("name", ["chain", "chain, crossed", "crossed, sparse"])
def test_streams_predict_as_data_in_memory(name):
    formula, storage = LAYOUTS[name]
    frame = pupils()
    fit = lmer(formula, frame, weights="w", storage=storage)
    model = lmer(formula, [frame[:200], frame[200:]], weights="w", storage=storage).model
    stream = model.at(fit.theta)  # at one theta: optima agree to a certificate only
    new = frame.assign(area=frame["area"][::-1].to_numpy())
    for rows in (frame, new):
        for re_form in ("all", ["pupil"], "none"):
            wanted = fit.predict(rows, re_form=re_form, se=True, ddf="z")
            found = stream.predict(rows, re_form=re_form, se=True, ddf="z")
            close(found["se"], wanted["se"], wanted["se"], 1e-9)


def test_hours_of_solves_are_refused(monkeypatch):
    fit = lmer("y ~ x + (x | pupil) + (1 | area)", pupils(), storage="sparse")
    monkeypatch.setattr(remaining, "HOURS", 100.0)
    known = pupils()
    assert fit.predict(known, se=True)["se"].notna().all()
    with pytest.raises(FitError, match=r"solves with 195 random effects.*fewer rows"):
        fit.predict(known.assign(area=known["area"][::-1].to_numpy()), se=True)


def test_the_rows_of_the_fit_as_new_data():
    for name in ("slopes", "crossed slopes"):
        formula, dataset, options = MODELS[name]
        frame = frame_of(dataset)
        fit = lmer(formula, frame, **options)
        shuffled = frame.sample(frac=1, random_state=1)
        found = fit.predict(shuffled, interval="prediction")
        assert found.index.equals(shuffled.index)
        own = fit.predict(interval="prediction")
        pd.testing.assert_frame_equal(found.sort_index(), own.sort_index(), rtol=1e-9)


def test_population_standard_errors_and_degrees_of_freedom(fit):
    if fit.design.X.shape[1] == 0:
        return
    own = fit.estimates.fixed_kept
    X = np.where(own, fit.design.X, 0.0)
    for ddf in ("satterthwaite", "kenward-roger", "residual", "z"):
        if ddf == "kenward-roger" and not fit.reml:
            continue
        found = fit.predict(re_form="none", se=True, ddf=ddf, level=0.9)
        test = fit.t_test(X[:5], ddf=ddf)
        np.testing.assert_allclose(found["se"][:5], test.sd, rtol=1e-10)
        np.testing.assert_allclose(
            found[["lower", "upper"]][:5] - found[["fit"]][:5].to_numpy(),
            test.conf_int(0.1) - test.effect[:, None],
            rtol=1e-8,
        )


def test_population_limits_are_those_of_marginal_means():
    fit = lmer("score ~ Machine + (1 | Worker)", datasets.load("Machines"))
    found = fit.predict({"Machine": ["A", "B", "C"]}, re_form="none", se=True)
    table = emmeans(fit, "Machine").table
    np.testing.assert_allclose(found, table[["emmean", "SE", "lower", "upper"]], rtol=1e-12)


@pytest.fixture(scope="module")
def sleepstudy():
    return lmer(SLOPES, datasets.load("sleepstudy"))


def test_unseen_levels_have_the_variance_of_random_effects(sleepstudy):
    new = {"Days": [0.0, 7.0, 7.0], "Subject": ["new", "new", "308"]}
    found = sleepstudy.predict(new, new_levels="population", se=True)
    fixed = sleepstudy.predict(new, re_form="none", se=True)
    T = sleepstudy.estimates.T[0]
    random = sleepstudy.scale * ((np.array([[1.0, 0], [1, 7]]) @ T) ** 2).sum(axis=1)
    np.testing.assert_allclose(found["se"][:2] ** 2, fixed["se"][:2] ** 2 + random, rtol=1e-10)
    known = sleepstudy.predict({"Days": [7.0], "Subject": ["308"]}, se=True)
    np.testing.assert_allclose(found.iloc[2], known.iloc[0], rtol=1e-10)
    with pytest.raises(DataError, match="'new'"):
        sleepstudy.predict(new, se=True)


def half(frame, df=np.inf, level=0.95):
    """Variance that an interval was made of."""
    return (((frame["upper"] - frame["lower"]) / 2 / stats.t.ppf((1 + level) / 2, df)) ** 2).array


def test_what_a_prediction_interval_holds(sleepstudy):
    s2, T = sleepstudy.scale, sleepstudy.estimates.T[0]
    new = {"Days": [0.0, 7.0], "Subject": ["308", "309"]}
    found = sleepstudy.predict(new, interval="prediction")
    np.testing.assert_allclose(half(found), found["se"] ** 2 + s2, rtol=1e-10)
    found = sleepstudy.predict(new, interval="prediction", weights=[1.0, 4.0])
    np.testing.assert_allclose(half(found), found["se"] ** 2 + [s2, s2 / 4], rtol=1e-10)
    days = {"Days": [0.0, 7.0]}  # grouping factors are not needed
    random = s2 * ((np.array([[1.0, 0], [1, 7]]) @ T) ** 2).sum(axis=1)
    found = sleepstudy.predict(days, re_form="none", interval="prediction", ddf="z")
    np.testing.assert_allclose(half(found), found["se"] ** 2 + s2 + random, rtol=1e-10)
    found = sleepstudy.predict(
        days, re_form="none", interval="prediction", ddf="z", vary_left_out=False
    )
    np.testing.assert_allclose(half(found), found["se"] ** 2 + s2, rtol=1e-10)
    found = sleepstudy.predict(days, re_form="none", interval="prediction")
    np.testing.assert_allclose(half(found, 17.0)[0], found["se"][0] ** 2 + s2 + random[0], 1e-4)
    found = sleepstudy.predict(new, interval="prediction", ddf="residual", level=0.5)
    np.testing.assert_allclose(half(found, 178.0, 0.5), found["se"] ** 2 + s2, rtol=1e-10)


def test_factors_left_out_vary_in_a_prediction_interval():
    fit = lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", datasets.load("Penicillin"))
    found = fit.predict({"sample": ["A"]}, re_form=["sample"], interval="prediction")
    plate = fit.scale * fit.estimates.T[0][0, 0] ** 2
    np.testing.assert_allclose(half(found), found["se"] ** 2 + fit.scale + plate, rtol=1e-10)


def test_weights_of_the_fit_are_those_of_its_rows():
    formula, name, options = MODELS["weights"]
    fit = lmer(formula, frame_of(name), **options)
    found = fit.predict(interval="prediction")
    np.testing.assert_allclose(half(found), found["se"] ** 2 + fit.scale / fit.weights, rtol=1e-9)


def test_missing_values(sleepstudy):
    new = {"Days": [1.0, np.nan, 3.0], "Subject": ["308", "308", None]}
    found = sleepstudy.predict(new, interval="prediction")
    assert found.isna().all(axis=1).to_list() == [False, True, True]
    assert not found.iloc[0].isna().any()
    found = sleepstudy.predict(new, re_form="none", se=True)
    assert found.isna().all(axis=1).to_list() == [False, True, False]


def test_offsets_do_not_change_standard_errors():
    frame = datasets.load("sleepstudy")
    plain = lmer(SLOPES, frame)
    shifted = lmer(SLOPES, frame.assign(Reaction=frame["Reaction"] + 5), offset=np.full(180, 5.0))
    new = frame.iloc[[3, 50]]
    found = shifted.predict(new, offset=5.0, se=True)
    np.testing.assert_allclose(found["se"], plain.predict(new, se=True)["se"], rtol=1e-7)
    term = lmer("Reaction ~ Days + offset(2 * Days) + (Days | Subject)", frame)
    np.testing.assert_allclose(
        term.predict(new, se=True)["se"], plain.predict(new, se=True)["se"], rtol=1e-6
    )


def test_models_from_arrays():
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(8), 5)
    X = np.column_stack([np.ones(40), rng.normal(size=40)])
    fit = LMM.from_arrays(rng.normal(size=40) + codes, X, [(codes, None)]).fit()
    close(fit.predict(se=True)["se"], dense_se(fit, ["g0"]), 1.0, 1e-9)


def test_far_origins_keep_their_digits():
    frame = datasets.load("sleepstudy")
    near = lmer(SLOPES, frame).predict(se=True)["se"]
    far = frame.assign(Days=frame["Days"] + 20_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        found = lmer(SLOPES, far).predict(se=True)["se"]
    np.testing.assert_allclose(found, near, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"interval": "both"}, DataError, "confidence"),
        ({"se": True, "level": 95}, ValueError, "level"),
        ({"se": True, "ddf": "t"}, ValueError, "ddf"),
        ({"interval": "prediction", "weights": [1.0, 2.0]}, DataError, "shape"),
        ({"interval": "prediction", "weights": 0.0}, DataError, "positive"),
    ],
)
def test_bad_arguments(sleepstudy, arguments, error, message):
    with pytest.raises(error, match=message):
        sleepstudy.predict({"Days": [1.0], "Subject": ["308"]}, **arguments)


def test_coverage_of_simulated_data():
    """At the true variance parameters; estimated ones would make the intervals a bit short."""
    rng = np.random.default_rng(4)
    g, h = np.repeat(np.arange(12), 8), np.tile(np.arange(8), 12)
    X = np.column_stack([np.ones(96), rng.normal(size=96)])
    T = np.array([[1.0, 0.0], [0.3, 0.8]])
    inside = 0
    for _ in range(60):
        b = rng.normal(size=(12, 2)) @ T.T
        truth = X @ [1.0, 2.0] + np.einsum("ij,ij->i", X, b[g]) + rng.normal(size=8)[h]
        y = truth + rng.normal(size=96)
        fit = LMM.from_arrays(y, X, [(g, X), (h, None)]).at([1.0, 0.3, 0.8, 1.0])
        found = fit.predict(se=True)
        inside += int(((found["lower"] < truth) & (truth < found["upper"])).sum())
    assert 0.935 < inside / (60 * 96) < 0.965


def test_new_rows_have_the_weights_of_the_column_of_the_fit():
    frame = datasets.load("sleepstudy")
    frame["w"] = np.linspace(0.5, 4, 180)
    fit = lmer(SLOPES, frame, weights="w")
    new = frame.iloc[[3, 90, 170]]
    s2 = fit.scale
    for options in ({}, {"weights": "w"}, {"weights": new["w"]}):
        found = fit.predict(new, interval="prediction", **options)
        np.testing.assert_allclose(half(found), found["se"] ** 2 + s2 / new["w"], rtol=1e-10)
    found = fit.predict(new, interval="prediction", weights=2.0)  # what is given wins
    np.testing.assert_allclose(half(found), found["se"] ** 2 + s2 / 2, rtol=1e-10)
    for other in (
        fit.predict(new.drop(columns="w"), interval="prediction"),
        lmer(SLOPES, frame, weights=frame["w"]).predict(new, interval="prediction"),
    ):
        np.testing.assert_allclose(half(other), other["se"] ** 2 + s2, rtol=1e-10)  # weight 1
    stream = lmer(SLOPES, [frame[:100], frame[100:]], weights="w")
    again = stream.predict(new, interval="prediction")
    np.testing.assert_allclose(again, fit.predict(new, interval="prediction"), rtol=1e-7)


def test_weights_of_new_rows_that_are_zero_missing_or_negative():
    frame = datasets.load("sleepstudy")
    frame["w"] = np.linspace(0.5, 4, 180)
    fit = lmer(SLOPES, frame, weights="w")
    new = frame.iloc[:3].assign(w=[0.0, np.nan, 2.0])
    found = fit.predict(new, interval="prediction")
    assert found["lower"].isna().to_list() == [True, True, False]
    assert found[["fit", "se"]].notna().all(axis=None)
    with pytest.raises(DataError, match="positive") as caught:
        fit.predict(new.assign(w=[1.0, -1.0, 1.0]), interval="prediction")
    assert caught.value.rows == (1,)
