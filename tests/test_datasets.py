"""The bundled data: what R has, with R's order of levels."""

import pandas as pd
import pytest
from reference_data import data, reference

from lmmfast import datasets, glmer
from lmmfast.errors import DataError

SHAPES = {
    "sleepstudy": (180, 3),
    "kb07": (1790, 10),
    "Penicillin": (144, 3),
    "Dyestuff": (30, 2),
    "Pastes": (60, 4),
    "cake": (270, 5),
    "Machines": (54, 3),
    "cbpp": (56, 4),
    "VerbAgg": (7584, 9),
}


def test_names_are_those_documented():
    assert set(datasets.names()) == set(SHAPES)
    assert all(name in datasets.__doc__ for name in datasets.names())


@pytest.mark.parametrize("name", SHAPES)
def test_shape_no_missing_values_and_no_unused_levels(name):
    frame = datasets.load(name)
    assert frame.shape == SHAPES[name]
    assert not frame.isna().any().any()
    for column in frame.select_dtypes("category"):
        assert set(frame[column]) == set(frame[column].cat.categories)


def test_sums_are_those_of_r():
    assert datasets.load("sleepstudy")["Reaction"].sum() == pytest.approx(53731.4205, abs=1e-9)
    assert datasets.load("Dyestuff")["Yield"].sum() == 45825
    assert datasets.load("Pastes")["strength"].mean() == pytest.approx(60.053333333333)
    assert datasets.load("Machines")["score"].mean() == pytest.approx(59.65)


def test_factors_are_as_in_r():
    workers = datasets.load("Machines")["Worker"].dtype
    assert list(workers.categories) == ["6", "2", "4", "1", "3", "5"]
    assert workers.ordered
    cake = datasets.load("cake")
    assert cake["temperature"].cat.ordered
    assert not cake["recipe"].cat.ordered
    assert cake["angle"].dtype == "int64"
    assert list(datasets.load("kb07")["subj"].cat.categories[:3]) == ["30", "31", "34"]


def test_generalized_models_of_them_are_those_of_r():
    cbpp = datasets.load("cbpp")
    fit = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp)
    assert fit.objective == pytest.approx(reference("glmm__cbpp__laplace")["criterion"], abs=1e-4)
    aggression = datasets.load("VerbAgg")
    assert ((aggression["resp"] == "no") == (aggression["r2"] == "N")).all()
    assert aggression["resp"].cat.ordered
    columns = aggression.drop(columns="resp")
    pd.testing.assert_frame_equal(columns, data("VerbAgg")[columns.columns])


def test_products_in_kb07_are_products():
    frame = datasets.load("kb07")
    assert (frame["SPC"] == frame["S"] * frame["P"] * frame["C"]).all()


def test_each_load_is_a_frame_of_its_own():
    first = datasets.load("Dyestuff")
    first["Yield"] = 0.0
    assert isinstance(datasets.load("Dyestuff"), pd.DataFrame)
    assert datasets.load("Dyestuff")["Yield"].min() > 0


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(DataError, match=r"no bundled data set 'sleepstdy'.*sleepstudy"):
        datasets.load("sleepstdy")


def test_about_names_the_source():
    assert "Belenky" in datasets.about("sleepstudy")
