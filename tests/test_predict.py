"""Predictions for the rows of the fit and for new ones."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from lmmfast import LMM, datasets, glmer, lmer, mmrm
from lmmfast.errors import DataError, RankDeficientWarning

SLOPES = "Reaction ~ Days + (Days | Subject)"
# lme4 1.1-31, predict(allow.new.levels=TRUE), of which the three in the middle are new subjects
NEW = {"Days": [0.0, 5, 9, 4, 9], "Subject": ["308", "new1", "new2", "new3", "372"]}
CONDITIONAL = [253.66367038783906, 303.7415346, 345.6106785, 293.2742487, 369.48148513502395]
POPULATION = [251.40510484848443, 303.7415346, 345.6106785, 293.2742487, 345.6106785]


@pytest.fixture(scope="module")
def sleepstudy():
    return datasets.load("sleepstudy")


@pytest.fixture(scope="module")
def fit(sleepstudy):
    return lmer(SLOPES, sleepstudy)


@pytest.fixture(scope="module")
def crossed():
    return lmer("diameter ~ 1 + (1 | plate) + (1 | sample)", datasets.load("Penicillin"))


def test_without_new_data_it_is_the_fitted_values(fit):
    np.testing.assert_array_equal(fit.predict(), fit.fittedvalues)
    fixed = fit.params["Intercept"] + fit.params["Days"] * datasets.load("sleepstudy")["Days"]
    np.testing.assert_allclose(fit.predict(re_form="none"), fixed, rtol=1e-14)


def test_lme4s_predictions(fit):
    found = fit.predict(NEW, new_levels="population")
    np.testing.assert_allclose(found, CONDITIONAL, rtol=1e-6)
    np.testing.assert_allclose(fit.predict(NEW, re_form="none"), POPULATION, rtol=1e-8)


def test_the_rows_of_the_fit_as_new_data(fit, sleepstudy):
    shuffled = sleepstudy.sample(frac=1, random_state=1)
    found = fit.predict(shuffled)
    assert found.index.equals(shuffled.index)
    np.testing.assert_allclose(found.sort_index(), fit.fittedvalues, rtol=1e-13)


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame, dict])
def test_kinds_of_tables(fit, kind):
    assert fit.predict(kind({"Days": [3], "Subject": ["308"]}))[0] == pytest.approx(
        fit.fittedvalues[3], rel=1e-13
    )


def test_one_of_two_factors(crossed):
    modes = crossed.ranef()
    new = pd.DataFrame({"plate": ["a", "b"], "sample": ["A", "F"]}, index=["one", "two"])
    mean = crossed.params["Intercept"]
    by_plate = mean + modes["plate"]["Intercept"][["a", "b"]].to_numpy()
    found = crossed.predict(new, re_form=["plate"])
    assert list(found.index) == ["one", "two"]
    np.testing.assert_allclose(found, by_plate, rtol=1e-13)
    both = by_plate + modes["sample"]["Intercept"][["A", "F"]].to_numpy()
    np.testing.assert_allclose(crossed.predict(new, re_form=["sample", "plate"]), both, rtol=1e-13)
    np.testing.assert_allclose(crossed.predict(new, re_form=[]), mean, rtol=1e-13)
    inside = crossed.predict(re_form=["plate"])
    assert inside[0] == pytest.approx(by_plate[0], rel=1e-13)


def test_factors_left_out_need_not_be_in_the_new_data(crossed):
    found = crossed.predict({"plate": ["c"]}, re_form=["plate"])
    mode = crossed.ranef()["plate"].loc["c", "Intercept"]
    assert found[0] == pytest.approx(crossed.params["Intercept"] + mode, rel=1e-13)


def test_an_unseen_level_is_an_error_that_names_it(fit):
    with pytest.raises(DataError, match=r"'Subject'.*'new1', 'new2', 'new3'.*population") as caught:
        fit.predict(NEW)
    assert caught.value.variable == "Subject"
    assert caught.value.rows == (1, 2, 3)


def test_an_unseen_combination_of_seen_levels():
    data = datasets.load("Pastes")
    fit = lmer("strength ~ 1 + (1 | batch/cask)", data[data["sample"] != "B:c"])
    new = {"batch": ["B"], "cask": ["c"]}
    with pytest.raises(DataError, match="'B:c'"):
        fit.predict(new)
    expected = fit.params["Intercept"] + fit.ranef()["batch"].loc["B", "Intercept"]
    found = fit.predict(new, new_levels="population")
    assert found[0] == pytest.approx(expected, rel=1e-13)


def test_missing_values_give_missing_predictions(fit):
    new = {"Days": [1.0, np.nan, 3.0, 3.0], "Subject": ["308", "308", None, "309"]}
    assert fit.predict(new).isna().to_list() == [False, True, True, False]
    assert fit.predict(new, re_form="none").isna().to_list() == [False, True, False, False]


def test_dropped_columns_contribute_nothing():
    data = datasets.load("cake")
    with pytest.warns(RankDeficientWarning):
        fit = lmer("angle ~ recipe + temp + temperature + (1 | recipe:replicate)", data)
    np.testing.assert_allclose(fit.predict(data), fit.fittedvalues, rtol=1e-12)


def test_offset_term_is_computed_from_new_data(sleepstudy):
    fit = lmer("Reaction ~ Days + offset(2 * Days) + (1 | Subject)", sleepstudy)
    np.testing.assert_allclose(fit.predict(sleepstudy), fit.fittedvalues, rtol=1e-13)


@pytest.mark.parametrize("kind", [pd.DataFrame, dict])
def test_offsets_are_added_up_beside_the_new_data(sleepstudy, kind):
    """A column given as offset= and an offset() term; neither changes."""
    data = sleepstudy.assign(base=np.linspace(0, 3, len(sleepstudy)))
    fit = lmer("Reaction ~ Days + offset(2 * Days) + (1 | Subject)", data, offset="base")
    new = kind({"Days": np.arange(3.0), "base": np.array([1.0, 4, 9])})
    found = fit.predict(new, re_form="none")
    np.testing.assert_array_equal(new["base"], [1, 4, 9])
    wanted = fit.params["Intercept"] + (fit.params["Days"] + 2) * np.arange(3) + [1, 4, 9]
    np.testing.assert_allclose(found, wanted, rtol=1e-13)


def test_offset_argument_must_be_given_again(sleepstudy):
    shift = np.linspace(0, 50, len(sleepstudy))
    fit = lmer(SLOPES, sleepstudy, offset=shift)
    with pytest.raises(DataError, match="offset="):
        fit.predict(sleepstudy)
    np.testing.assert_allclose(fit.predict(sleepstudy, offset=shift), fit.fittedvalues, rtol=1e-13)
    np.testing.assert_allclose(
        fit.predict(sleepstudy, offset=0), fit.fittedvalues - shift, rtol=1e-12
    )
    with pytest.raises(DataError, match="one per row"):
        fit.predict(sleepstudy, offset=shift[:3])
    with pytest.raises(DataError, match="new data"):
        fit.predict(offset=shift)


def test_many_levels():
    rng = np.random.default_rng(1)
    levels = np.repeat(np.arange(10_000), 2)
    data = {"y": rng.normal(size=20_000) + levels % 7, "g": levels}
    fit = lmer("y ~ 1 + (1 | g)", data)
    assert fit.predict({"g": [9_999]})[0] == pytest.approx(fit.fittedvalues.iloc[-1], rel=1e-13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"re_form": ["Item"]}, "'Item'.*Subject"),
        ({"re_form": "Subject"}, '"all", "none", a list'),
        ({"re_form": 3}, '"all", "none", a list'),
        ({"new_levels": "nan"}, '"error", "population"'),
    ],
)
def test_bad_arguments(fit, arguments, message):
    with pytest.raises(DataError, match=message):
        fit.predict(NEW, **arguments)


def test_a_model_from_arrays_cannot_encode_new_data(sleepstudy):
    codes = sleepstudy["Subject"].cat.codes.to_numpy().astype(np.int32)
    ones = np.ones((180, 1))
    fit = LMM.from_arrays(sleepstudy["Reaction"].to_numpy(), ones, [(codes, ones)]).fit()
    with pytest.raises(DataError, match="arrays"):
        fit.predict({"x": [1]})
    np.testing.assert_array_equal(fit.predict(), fit.fittedvalues)


# ---- rows about which the data say nothing -------------------------------------------------------


def unbalanced(n: int = 120) -> pd.DataFrame:
    """Two factors without the cell (c, q), and a column that is twice another."""
    rng = np.random.default_rng(21)
    frame = pd.DataFrame(
        {"f": np.array(list("abc"))[rng.integers(0, 3, n)], "s": np.arange(n) % 12}
    )
    frame["h"] = np.where((frame.f != "c") & (rng.random(n) > 0.5), "q", "p")
    frame["x"] = rng.normal(size=n)
    frame["twice"] = 2 * frame.x
    frame["y"] = rng.normal(size=n) + frame.x + rng.normal(size=12)[frame.s]
    return frame


@pytest.fixture(scope="module")
def cells():
    with pytest.warns(RankDeficientWarning):
        return lmer("y ~ f * h + x + (1 | s)", unbalanced())


@pytest.mark.parametrize(
    "options", [{}, {"re_form": "none"}, {"se": True}, {"interval": "prediction"}]
)
def test_a_cell_without_data_is_missing_with_a_warning(cells, options):
    new = pd.DataFrame({"f": list("cac"), "h": list("qqp"), "x": [1.0, 2, 3], "s": [0, 1, 2]})
    with pytest.warns(RankDeficientWarning, match="row 0 of the new data cannot be pre") as caught:
        found = pd.DataFrame(cells.predict(new, **options))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert caught[0].message.rows == (0,)
    assert found.isna().all(axis=1).to_list() == [True, False, False]
    assert not found[1:].isna().any(axis=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rest = pd.DataFrame(cells.predict(new[1:], **options))
    pd.testing.assert_frame_equal(rest, found[1:])


def test_predictions_that_are_estimable_do_not_depend_on_the_coding(cells):
    data = unbalanced()
    with pytest.warns(RankDeficientWarning):
        other = lmer("y ~ f * h + x + (1 | s)", data, contrasts={"f": "sum", "h": "helmert"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(cells.predict(data), other.predict(data), rtol=1e-7)


def test_a_column_that_was_twice_another():
    data = unbalanced()
    with pytest.warns(RankDeficientWarning):
        fit = lmer("y ~ x + twice + (1 | s)", data)
    new = {"x": [1.0, 1.0, np.nan], "twice": [2.0, 3.0, 2.0], "s": [1, 1, 1]}
    with pytest.warns(RankDeficientWarning, match="row 1 of the new data.*twice"):
        found = fit.predict(new)
    assert found.isna().to_list() == [False, True, True]


def test_full_rank_costs_no_check(fit, monkeypatch):
    def never(fit):
        raise AssertionError

    monkeypatch.setattr("lmmfast.inference.estimability._openness", never)
    assert fit.predict(NEW, new_levels="population").notna().all()


def test_streams_know_what_they_have_not_seen():
    data = unbalanced()
    with pytest.warns(RankDeficientWarning):
        fit = lmer("y ~ f * h + x + (1 | s)", [data[:60], data[60:]])
    new = {"f": ["c", "a"], "h": ["q", "q"], "x": [1.0, 1.0], "s": [0, 0]}
    with pytest.warns(RankDeficientWarning, match="row 0 of"):
        assert fit.predict(new).isna().to_list() == [True, False]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("error", [1e-7, 1e-8, 1e-9, 1e-10, 0.0])
def test_rows_like_those_of_the_fit_are_predicted(error, streamed):
    """A column that is the sum of two others but for an error that is still dropped."""
    data = unbalanced()
    rng = np.random.default_rng(9)
    data["z"] = rng.normal(size=120)
    data["both"] = data.x + data.z + error * rng.normal(size=120)
    with pytest.warns(RankDeficientWarning):
        fit = lmer("y ~ x + z + both + (1 | s)", [data[:50], data[50:]] if streamed else data)
    assert not fit.estimates.fixed_kept.all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit.predict(data).notna().all()
    with pytest.warns(RankDeficientWarning, match="rows 0, 1, 2, 3, 4 and 115 more"):
        fit.predict(data.assign(both=data.both + 0.01))


ROWS = {"Days": [3.0, 5.0, np.nan], "Subject": ["308", "309", "309"], "id": ["a", "b", "c"]}
HIT = {"hit": [0, 1] * 90, "rating": [0, 1, 2] * 60}


@pytest.mark.parametrize("kind", ["polars", "arrow"])
@pytest.mark.parametrize("model", ["lmer", "glmer", "ordered", "mmrm"])
def test_answers_are_of_the_kind_of_the_new_rows(sleepstudy, kind, model):
    data = sleepstudy.assign(**HIT)
    fit = {
        "lmer": lambda: lmer(SLOPES, data),
        "glmer": lambda: glmer("hit ~ Days + (1 | Subject)", data, "binomial"),
        "ordered": lambda: glmer("rating ~ Days + (1 | Subject)", data, "ordered"),
        "mmrm": lambda: mmrm("Reaction ~ Days + ar1(factor(Days) | Subject)", data),
    }[model]()
    pandas = pd.DataFrame(ROWS)
    frame = pl.DataFrame(ROWS, nan_to_null=True)
    new = frame if kind == "polars" else frame.to_arrow()
    calls = [{}] if model == "ordered" else [{}, {"se": True}]
    calls += [{"type": "response"}] if model == "ordered" else []
    for call in calls:
        found, wanted = fit.predict(new, **call), fit.predict(pandas, **call)
        if isinstance(wanted, pd.Series):
            assert type(found) is (pl.Series if kind == "polars" else pa.ChunkedArray)
            assert (found.null_count() if kind == "polars" else found.null_count) == 1
            values = {"": found.to_numpy()}
            wanted = wanted.to_frame("")
        else:
            assert type(found) is type(new)
            names = found.columns if kind == "polars" else found.column_names
            assert names == [str(name) for name in wanted.columns]
            values = {name: found[name].to_numpy() for name in names}
        for j, own in enumerate(values.values()):
            np.testing.assert_array_equal(own.astype(float), wanted.iloc[:, j].to_numpy(float))
    augmented = fit.augment(newdata=new)
    assert type(augmented) is type(new)
    if model != "mmrm":
        assert type(fit.simulate(2, seed=1, newdata=new[:2])) is type(new)
