"""The adapter for the package marginaleffects: its numbers are linear functions of beta."""

import numpy as np
import pytest
from conftest import close
from reference_data import data

from lmmfast import LMM, datasets, lmer
from lmmfast.errors import DataError

pl = pytest.importorskip("polars")
effects = pytest.importorskip("marginaleffects")
pytestmark = [
    pytest.mark.skipif(
        int(pl.__version__.split(".")[0]) > 1, reason="marginaleffects 0.6 needs polars 1"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
EXACT = {"eps_vcov": 1.0}


@pytest.fixture(scope="module")
def cake():
    return lmer("angle ~ recipe * temp + (1 | recipe:replicate)", datasets.load("cake"))


def same(found, test):
    """Estimates and standard errors of a table and of a t_test."""
    close(found["estimate"].to_numpy(), test.effect, test.sd, 1e-7)
    close(found["std_error"].to_numpy(), test.sd, test.sd, 1e-7)


def test_slopes_are_combinations_of_coefficients(cake):
    found = effects.avg_slopes(cake.to_marginaleffects(), variables="temp", by="recipe", **EXACT)
    rows = ["temp", "temp + recipe[T.B]:temp", "temp + recipe[T.C]:temp"]
    test = cake.t_test(rows, ddf="z")
    same(found, test)
    close(found["p_value"].to_numpy(), test.pvalue, 1.0, 1e-9)


def test_comparisons(cake):
    found = effects.avg_comparisons(cake.to_marginaleffects(), variables="recipe", **EXACT)
    mean = cake.design.X[:, cake.design.x_names.index("temp")].mean()
    rows = [f"recipe[T.{x}] + {float(mean)!r} * recipe[T.{x}]:temp" for x in "BC"]
    same(found, cake.t_test(rows, ddf="z"))


def test_predictions_are_those_of_the_population(cake):
    from marginaleffects.datagrid import datagrid as make_grid

    model = cake.to_marginaleffects()
    grid = make_grid(model=model, recipe=["A", "C"], temp=[180.0, 200.0])
    found = effects.predictions(model, newdata=grid, **EXACT)
    own = cake.predict(grid, re_form="none", se=True, ddf="z")
    close(found["estimate"].to_numpy(), own["fit"], own["se"], 1e-10)
    close(found["std_error"].to_numpy(), own["se"], own["se"], 1e-7)
    close(found["conf_low"].to_numpy(), own["lower"], own["se"], 1e-7)


def test_hypotheses(cake):
    found = effects.hypotheses(cake.to_marginaleffects(), hypothesis="b1 = b2", **EXACT)
    same(found, cake.t_test("recipe[T.B] = recipe[T.C]", ddf="z"))


def test_kinds_of_variables_and_transforms():
    frame = data("Orthodont").assign(old=lambda d: d["age"] > 10)
    fit = lmer("distance ~ old * Sex + poly(age, 2) + (1 | Subject)", frame)
    found = effects.avg_comparisons(fit.to_marginaleffects(), variables="old", **EXACT)
    girls = float((frame["Sex"] == "Female").mean())
    row = {"old[T.True]": 1.0, "old[T.True]:Sex[T.Female]": girls}
    same(found, fit.t_test(row, ddf="z"))
    slope = effects.avg_slopes(fit.to_marginaleffects(), variables="age", **EXACT)
    assert np.isfinite(slope["std_error"].to_numpy()).all()


def test_offsets_are_in_the_predictions():
    frame = data("Orthodont")
    fit = lmer("distance ~ Sex + offset(age / 2) + (1 | Subject)", frame)
    found = effects.predictions(fit.to_marginaleffects(), **EXACT)
    np.testing.assert_allclose(found["estimate"].to_numpy(), fit.predict(re_form="none"))


def test_distributions(cake):
    kenward = effects.avg_slopes(
        cake.to_marginaleffects("kenward-roger"), variables="temp", by="recipe", **EXACT
    )
    se = cake.t_test("temp", ddf="kenward-roger").sd[0]
    assert kenward["std_error"].to_numpy()[0] == pytest.approx(se, rel=1e-7)
    residual = cake.to_marginaleffects("residual")
    assert residual.df_resid == 264
    found = effects.hypotheses(residual, hypothesis="b5 = 0", **EXACT)
    test = cake.t_test("recipe[T.C]:temp", ddf="residual")
    close(found["p_value"].to_numpy(), test.pvalue, 1.0, 1e-7)
    with pytest.raises(ValueError, match="ddf"):
        cake.to_marginaleffects("satterthwaite")
    with pytest.raises(ValueError, match="vcov"):
        effects.avg_slopes(cake.to_marginaleffects(), vcov="HC3")


def test_a_model_from_arrays_is_refused():
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(8), 5)
    fit = LMM.from_arrays(rng.normal(size=40) + codes, np.ones((40, 1)), [(codes, None)]).fit()
    with pytest.raises(DataError, match="arrays"):
        fit.to_marginaleffects()
