"""Values beside the data go by their labels: weights, offsets, new responses, arrays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from lmmfast import LMM, MixedLM, lmer, mixedlm, plan
from lmmfast.data.alignment import aligned
from lmmfast.errors import DataError

FORMULA = "y ~ x + (1 | g)"


def trial(n: int = 96) -> pd.DataFrame:
    rng = np.random.default_rng(6)
    g = np.arange(n) % 8
    frame = pd.DataFrame({"x": rng.normal(size=n), "g": g}, index=[f"r{i:03d}" for i in range(n)])
    frame["w"] = rng.uniform(0.5, 3, n)
    frame["o"] = rng.normal(size=n)
    frame["y"] = 2 + frame.x + rng.normal(size=8)[g] + rng.normal(size=n) / np.sqrt(frame.w)
    return frame


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return trial()


def shuffled(series: pd.Series, seed: int = 3) -> pd.Series:
    return series.sample(frac=1, random_state=seed)


LABELLED = {
    "text": lambda frame: frame,
    "counted": lambda frame: frame.reset_index(drop=True),
    "filtered": lambda frame: frame.reset_index(drop=True).iloc[5::2],
    "two levels": lambda frame: frame.set_index([frame.g, np.arange(len(frame))]),
    "dates": lambda frame: frame.set_index(pd.date_range("2001-02-03", periods=len(frame))),
}


# ---- weights and offsets -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LABELLED)
@pytest.mark.parametrize("role", ["weights", "offset"])
def test_values_of_the_same_rows_are_put_in_their_order(frame, kind, role):
    data = LABELLED[kind](frame)
    values = data["w"]
    wanted = lmer(FORMULA, data, **{role: "w"}).llf
    assert lmer(FORMULA, data, **{role: values}).llf == wanted
    assert lmer(FORMULA, data, **{role: shuffled(values)}).llf == wanted
    assert lmer(FORMULA, data.sample(frac=1, random_state=2), **{role: values}).llf == (
        pytest.approx(wanted, rel=1e-12)
    )
    assert lmer(FORMULA, data, **{role: values.to_numpy()}).llf == wanted
    assert lmer(FORMULA, data, **{role: values.tolist()}).llf == wanted
    other = lmer(FORMULA, data, **{role: shuffled(values).to_numpy()}).llf
    assert abs(other - wanted) > 1e-3  # arrays go by position


def test_values_of_more_rows_than_the_data_have(frame):
    some = frame[frame.x > 0]
    wanted = lmer(FORMULA, some, weights="w").llf
    assert lmer(FORMULA, some, weights=frame.w).llf == wanted
    counted = frame.reset_index(drop=True)
    assert lmer(FORMULA, counted[counted.x > 0], weights=counted.w).llf == wanted
    fresh = counted[counted.x > 0].reset_index(drop=True)  # labels that say nothing
    with pytest.raises(DataError, match=r"weights.*merely counted"):
        lmer(FORMULA, fresh, weights=counted.w)


@pytest.mark.parametrize("role", ["weights", "offset"])
def test_values_of_other_rows_are_refused(frame, role):
    with pytest.raises(DataError, match=rf"{role}: its index is that of other rows: 96 of the 96"):
        lmer(FORMULA, frame, **{role: frame.w.reset_index(drop=True)})
    renamed = frame.w.rename({"r007": "r7"})
    with pytest.raises(DataError, match=r"1 of the 96 labels .* 'r007' first") as caught:
        lmer(FORMULA, frame, **{role: renamed})
    assert caught.value.variable == role
    assert caught.value.rows == (7,)
    with pytest.raises(DataError, match="shape"):
        lmer(FORMULA, frame, **{role: frame.w.iloc[:50]})


def test_labels_that_stand_several_times(frame):
    twice = frame.set_index(np.arange(96) // 2)
    assert lmer(FORMULA, twice, weights=twice.w).llf == lmer(FORMULA, twice, weights="w").llf
    with pytest.raises(DataError, match="stands several times"):
        lmer(FORMULA, twice, weights=shuffled(twice.w))
    with pytest.raises(DataError, match="in weights the label 0 stands several times"):
        lmer(FORMULA, frame.reset_index(drop=True), weights=twice.w)


def test_rows_that_are_dropped_do_not_shift_the_others(frame):
    holes = frame.assign(x=frame.x.where(frame.index != "r004"))
    wanted = lmer(FORMULA, holes, weights="w", offset="o").llf
    found = lmer(FORMULA, holes, weights=shuffled(frame.w), offset=shuffled(frame.o, 5))
    assert found.llf == wanted
    assert "r004" not in found.fittedvalues.index


def test_tables_without_labels(frame):
    table = pl.from_pandas(frame)
    wanted = lmer(FORMULA, table, weights="w").llf
    assert lmer(FORMULA, table, weights=table["w"]).llf == wanted
    assert lmer(FORMULA, table, weights=frame.w).llf == wanted  # text labels: no other order
    counted = frame.w.reset_index(drop=True)
    assert lmer(FORMULA, table, weights=counted).llf == wanted
    with pytest.raises(DataError, match="in another order"):
        lmer(FORMULA, table, weights=shuffled(counted))


def test_series_in_a_dict_have_one_index(frame):
    columns = {name: frame[name] for name in ("y", "x", "g")}
    fit = lmer(FORMULA, columns, weights=shuffled(frame.w))
    assert fit.llf == lmer(FORMULA, frame, weights="w").llf
    assert fit.resid.index.equals(frame.index)
    with pytest.raises(DataError, match=r"'y' and 'x' have different indices.*DataFrame\(data\)"):
        lmer(FORMULA, {**columns, "x": shuffled(frame.x)})
    with pytest.raises(DataError, match="different indices"):
        fit.predict({"x": frame.x, "g": shuffled(frame.g)})


def test_the_plan_of_a_model_reads_them_too(frame):
    with pytest.raises(DataError, match="other rows"):
        plan(FORMULA, frame, weights=frame.w.reset_index(drop=True))


def test_labels_of_the_same_index_cost_nothing(frame):
    weights = frame.w
    assert aligned(weights, frame.index, "weights") is weights
    assert aligned(weights, frame.index.copy(), "weights") is weights


# ---- another response ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def holes(frame) -> pd.DataFrame:
    return frame.assign(x=frame.x.where(~frame.index.isin(["r004", "r050"])))


@pytest.mark.parametrize("kind", LABELLED)
def test_a_response_of_all_rows_or_of_those_used(frame, holes, kind):
    data = LABELLED[kind](holes)
    fit = lmer(FORMULA, data)
    used = data.x.notna()
    other = data.y + data.o
    wanted = fit.refit(other[used].to_numpy()).params
    for given in (other, other[used], shuffled(other), shuffled(other[used])):
        pd.testing.assert_series_equal(fit.refit(given).params, wanted)
        pd.testing.assert_series_equal(fit.model.refit(fit, given).params, wanted)


def test_a_response_of_other_rows_is_refused(frame, holes):
    fit = lmer(FORMULA, holes)
    for other in (frame.y.reset_index(drop=True), frame.y.iloc[:94], frame.y.rename("a.{}".format)):
        with pytest.raises(DataError, match=r"the new response: its index is that of other rows"):
            fit.refit(other)
    with pytest.raises(DataError, match="shape"):
        fit.refit(frame.y.iloc[:60])
    with pytest.raises(DataError, match=r"fit.refit\(data\['y'\]\)"):
        fit.refit("y")
    with pytest.raises(DataError, match="must be numbers"):
        fit.refit(["a"] * 94)
    with pytest.raises(DataError, match="must be numbers, one for each row: these are text"):
        fit.refit(frame.y[fit.resid.index].astype(str))
    with pytest.raises(DataError, match="complex"):
        fit.refit(np.ones(94) * 1j)
    with pytest.raises(DataError, match="not finite"):
        fit.refit(np.ma.array(np.arange(94.0), mask=np.arange(94) == 3))


def test_a_response_where_repeated_labels_are_those_of_the_data(frame, holes):
    data = holes.set_index(np.arange(96) // 2)
    fit = lmer(FORMULA, data)
    wanted = fit.refit((data.y + data.o)[data.x.notna()].to_numpy()).llf
    assert fit.refit(data.y + data.o).llf == wanted
    assert fit.refit((data.y + data.o)[data.x.notna()]).llf == wanted
    with pytest.raises(DataError, match="several times"):
        fit.refit(shuffled(data.y[data.x.notna()]))


def test_a_response_for_a_table_without_labels(holes):
    table = pl.from_pandas(holes).with_columns(x=pl.col("x").fill_nan(None))
    fit = lmer(FORMULA, table)
    other = fit.fittedvalues + 1  # labelled by position in the data
    wanted = fit.refit(other.to_numpy() + fit.resid.to_numpy()).llf
    assert fit.refit(other + fit.resid).llf == wanted
    everything = pd.Series(np.nan, range(96))
    everything[other.index] = other + fit.resid
    assert fit.refit(everything).llf == wanted
    polars = pl.Series((other + fit.resid).to_numpy())
    assert fit.refit(polars).llf == wanted


# ---- predictions ---------------------------------------------------------------------------------


def test_offsets_and_weights_of_new_data(frame):
    fit = lmer(FORMULA, frame, weights="w", offset="o")
    new = frame.iloc[[5, 80, 33]]
    wanted = fit.predict(new, interval="prediction")
    pd.testing.assert_frame_equal(
        fit.predict(frame, offset=frame.o, interval="prediction").loc[new.index], wanted
    )
    for offset, weights in (
        ("o", "w"),
        (new.o, new.w),
        (shuffled(new.o), shuffled(new.w, 4)),
        (frame.o, frame.w),
        (new.o.to_numpy(), new.w.tolist()),
    ):
        found = fit.predict(new, offset=offset, weights=weights, interval="prediction")
        pd.testing.assert_frame_equal(found, wanted)
    for role in ("offset", "weights"):
        with pytest.raises(DataError, match=rf"{role}: its index is that of other rows"):
            fit.predict(new, interval="prediction", **{role: frame.w.iloc[:3]})
        with pytest.raises(DataError, match=f"column for {role} 'u' is not in the data"):
            fit.predict(new, interval="prediction", **{role: "u"})
        with pytest.raises(DataError, match="is not numeric"):
            fit.predict(new.assign(u=list("abc")), interval="prediction", **{role: "u"})


def test_weights_of_the_rows_of_the_fit(frame):
    fit = lmer(FORMULA, frame, weights="w")
    wanted = fit.predict(interval="prediction")
    for weights in ("w", shuffled(frame.w), frame.w.to_numpy()):
        found = fit.predict(interval="prediction", weights=weights)
        pd.testing.assert_frame_equal(found, wanted)
    with pytest.raises(DataError, match="without new data there are no columns"):
        fit.predict(interval="prediction", weights="o")


# ---- arrays and statsmodels' interface -----------------------------------------------------------


def test_models_from_arrays(frame):
    X = pd.DataFrame({"one": 1.0, "x": frame.x})
    plain = LMM.from_arrays(
        frame.y.to_numpy(), X.to_numpy(), [(frame.g.to_numpy(), None)], frame.w.to_numpy()
    ).fit()
    again = LMM.from_arrays(
        frame.y,
        X.sample(frac=1, random_state=1),
        [(shuffled(frame.g), None)],
        shuffled(frame.w, 2),
        pd.Series(0.0, index=frame.index[::-1]),
    ).fit()
    assert again.llf == pytest.approx(plain.llf, rel=1e-12)
    assert again.resid.index.equals(frame.index)
    for bad in ({"X": X.reset_index(drop=True)}, {"weights": frame.w.reset_index(drop=True)}):
        arguments = {"y": frame.y, "X": X, "terms": [(frame.g, None)], **bad}
        with pytest.raises(DataError, match=f"{next(iter(bad))}: its index is that of other rows"):
            LMM.from_arrays(**arguments)
    with pytest.raises(DataError, match="masked"):
        codes = np.ma.array(frame.g.to_numpy(), mask=frame.g.to_numpy() == 2)
        LMM.from_arrays(frame.y, X, [(codes, None)])


def test_groups_of_other_rows_are_refused(frame):
    other = frame.g.reset_index(drop=True)
    for call in (
        lambda g: mixedlm("y ~ x", frame, groups=g),
        lambda g: MixedLM(frame.y, frame[["x"]], g),
        lambda g: MixedLM(frame.y.to_numpy(), frame[["x"]], g),
    ):
        assert call(frame.g).fit().llf == call(frame.g.to_numpy()).fit().llf
        with pytest.raises(DataError, match="groups: its index is that of other rows"):
            call(other)
        with pytest.raises(DataError, match="another order"):
            call(shuffled(frame.g))


def test_a_subset_goes_by_labels(frame):
    keep = frame.x > -1
    wanted = mixedlm("y ~ x", frame[keep], groups="g").fit().llf
    for subset in (keep, shuffled(keep), frame.index[keep]):
        assert mixedlm("y ~ x", frame, groups=frame.g, subset=subset).fit().llf == (
            pytest.approx(wanted, rel=1e-12)
        )
    with pytest.raises(DataError, match="another order"):
        mixedlm("y ~ x", frame, groups=shuffled(frame.g), subset=keep)
    with pytest.raises(DataError, match="subset= does not choose rows"):
        mixedlm("y ~ x", frame, groups="g", subset=keep.reset_index(drop=True))
    with pytest.raises(DataError, match="subset= does not choose rows"):
        mixedlm("y ~ x", frame, groups="g", subset=["r001", "nobody"])
