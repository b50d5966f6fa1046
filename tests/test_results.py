"""The fit object: lme4's numbers under statsmodels' names, labelled, and frozen."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lmmfast import anova, datasets, emmeans, lmer, mixedlm
from lmmfast.errors import DataError, RankDeficientWarning, UnusedContrastsWarning

SLOPES = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def sleepstudy():
    return datasets.load("sleepstudy")


@pytest.fixture(scope="module")
def fit(sleepstudy):
    return lmer(SLOPES, sleepstudy)


@pytest.fixture(scope="module")
def cake_fit():
    """Temp and temperature[.L] are the same but for shift and scale: the latter is dropped."""
    with pytest.warns(RankDeficientWarning):
        return lmer(
            "angle ~ recipe + temp + temperature + (1 | recipe:replicate)", datasets.load("cake")
        )


# ---- lme4's numbers (lme4 1.1-31, R 4.2.2) ------------------------------------------------------


def test_reml_fit(fit):
    assert fit.reml
    assert fit.objective == pytest.approx(1743.6282719584906, abs=1e-6)
    assert fit.llf == pytest.approx(-871.8141359792453, abs=1e-6)
    assert fit.aic == pytest.approx(1755.6282719584906, abs=1e-6)
    assert fit.bic == pytest.approx(1774.786013063832, abs=1e-6)
    assert (fit.nobs, fit.df_resid, fit.n_params) == (180, 174, 6)
    assert fit.sigma == pytest.approx(25.591815626414487, rel=1e-5)
    assert fit.scale == fit.sigma**2
    np.testing.assert_allclose(fit.theta, [0.9667329521, 0.0151690540, 0.2309095948], atol=1e-5)


def test_ml_fit(sleepstudy):
    fit = lmer(SLOPES, sleepstudy, reml=False)
    assert fit.objective == pytest.approx(1751.9393444631978, abs=1e-6)
    assert fit.aic == pytest.approx(1763.9393444631978, abs=1e-6)
    assert fit.bic == pytest.approx(1783.0970855685391, abs=1e-6)


def test_fixed_effects(fit):
    assert fit.params.to_dict() == pytest.approx(
        {"Intercept": 251.40510484848443, "Days": 10.467285959596534}, rel=1e-8
    )
    assert fit.bse.to_dict() == pytest.approx(
        {"Intercept": 6.824556533329713, "Days": 1.5457888963329485}, rel=1e-5
    )
    assert fit.tvalues["Days"] == pytest.approx(6.771484763817309, rel=1e-5)
    assert fit.df.to_list() == pytest.approx([17, 17], rel=1e-6)
    assert fit.pvalues["Days"] == pytest.approx(2 * stats.t.sf(fit.tvalues["Days"], 17), rel=1e-5)
    covariance = fit.cov_params()
    assert covariance.loc["Days", "Intercept"] == pytest.approx(-1.4510957141784004, rel=1e-5)


def test_wald_intervals(fit):
    ci = fit.conf_int(ddf="z")
    assert ci.loc["Intercept"].to_list() == pytest.approx(
        [238.02921983270068, 264.7809898642682], rel=1e-5
    )
    half = stats.t.ppf(0.975, 17) * fit.bse
    wide = fit.conf_int()
    assert (wide["upper"] - fit.params).to_list() == pytest.approx(half.to_list(), rel=1e-6)
    assert (fit.conf_int(0.5)["lower"] > wide["lower"]).all()
    with pytest.raises(ValueError, match="is the coverage"):
        fit.conf_int(95)
    with pytest.raises(ValueError, match=r"got 0\.05"):  # statsmodels' alpha
        fit.conf_int(0.05)


def test_varcorr_is_that_of_lme4(fit):
    table = fit.varcorr
    assert list(table.columns) == ["group", "var1", "var2", "vcov", "sdcor"]
    assert table[["group", "var1", "var2"]].to_numpy().tolist() == [
        ["Subject", "Intercept", None],
        ["Subject", "Days", None],
        ["Subject", "Intercept", "Days"],
        ["Residual", None, None],
    ]
    np.testing.assert_allclose(table["vcov"], [612.08994, 35.07166, 9.60433, 654.94103], rtol=2e-5)
    np.testing.assert_allclose(table["sdcor"], [24.74045, 5.92213, 0.06555, 25.59182], rtol=1e-4)


def test_conditional_modes_and_deviations(fit):
    both = fit.ranef(cond_var=True)["Subject"]
    assert both["condval"].equals(fit.ranef()["Subject"])
    assert both["condval"].loc["308"].to_list() == pytest.approx([2.258565539, 9.198971881], 1e-4)
    assert both["condsd"].loc["308"].to_list() == pytest.approx([12.070836911, 2.304837016], 1e-4)


# ---- terms --------------------------------------------------------------------------------------


def test_double_bar_has_no_covariance_rows(sleepstudy):
    table = lmer("Reaction ~ Days + (Days || Subject)", sleepstudy).varcorr
    assert table["var1"].to_list() == ["Intercept", "Days", None]
    assert table["var2"].to_list() == [None, None, None]


def test_terms_of_one_factor_stand_side_by_side(sleepstudy):
    fit = lmer("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", sleepstudy, reml=False)
    assert fit.n_levels == {"Subject": 18}
    frame = fit.ranef()["Subject"]
    assert list(frame.columns) == ["Intercept", "Days"]
    assert frame.index.name == "Subject"
    assert frame.loc["308"].to_list() == pytest.approx([1.8546561333, 9.2364345840], 1e-4)
    deviations = fit.ranef(cond_var=True)["Subject"]["condsd"]
    assert deviations.loc["308"].to_list() == pytest.approx([12.093250589, 2.311096656], 1e-4)


def test_factors_come_in_the_order_of_the_formula():
    fit = lmer("diameter ~ 1 + (1 | sample) + (1 | plate)", datasets.load("Penicillin"))
    assert list(fit.ranef()) == ["sample", "plate"]
    assert fit.n_levels == {"sample": 6, "plate": 24}


def test_dropped_columns_are_missing_everywhere(cake_fit):
    assert cake_fit.params.index[cake_fit.params.isna()].to_list() == ["temperature[.L]"]
    for values in (cake_fit.bse, cake_fit.tvalues, cake_fit.pvalues):
        assert values.isna().equals(cake_fit.params.isna())
    assert cake_fit.conf_int().loc["temperature[.L]"].isna().all()
    assert cake_fit.cov_params()["temperature[.L]"].isna().all()
    assert cake_fit.params["temp"] == pytest.approx(0.15803174603174916, rel=1e-6)
    assert cake_fit.df_resid == 260
    kept = cake_fit.params.notna().to_numpy()
    for test in (cake_fit.t_test, cake_fit.f_test):
        assert test("temp = 0", ddf="residual").df_denom == 270 - kept.sum()
    assert (cake_fit.coef_test(ddf="residual").df_denom[kept] == 270 - kept.sum()).all()
    assert cake_fit.fittedvalues.iloc[0] == pytest.approx(39.80560861640421, rel=1e-6)


# ---- rows ---------------------------------------------------------------------------------------


def test_rows_keep_their_labels(sleepstudy):
    data = sleepstudy.set_index(pd.Index([f"row {i}" for i in range(180)]))
    data.loc["row 3", "Days"] = np.nan
    fit = lmer(SLOPES, data)
    assert fit.nobs == 179
    assert "row 3" not in fit.fittedvalues.index
    assert fit.resid.index[3] == "row 4"


def test_rows_of_a_dict_are_labelled_by_position(sleepstudy):
    columns = {name: sleepstudy[name].to_numpy() for name in sleepstudy}
    columns["Days"] = columns["Days"].copy()
    columns["Days"][0] = np.nan
    assert lmer(SLOPES, columns).fittedvalues.index[0] == 1


def test_residuals_are_on_the_scale_of_the_response(sleepstudy):
    n = len(sleepstudy)
    data = sleepstudy.assign(w=np.linspace(0.5, 2, n), shift=np.linspace(0, 1000, n))
    fit = lmer(SLOPES, data, weights="w", offset="shift")
    np.testing.assert_allclose(fit.fittedvalues + fit.resid, data["Reaction"], rtol=1e-13)
    np.testing.assert_array_equal(fit.weights, data["w"])
    plain = lmer(SLOPES, data.assign(Reaction=data["Reaction"] - data["shift"]), weights="w")
    np.testing.assert_allclose(fit.resid, plain.resid, atol=1e-4)


def test_fitted_values_add_up(fit, sleepstudy):
    modes = fit.ranef()["Subject"].loc[sleepstudy["Subject"]].to_numpy()
    effects = fit.params.to_numpy() + modes
    by_hand = effects[:, 0] + effects[:, 1] * sleepstudy["Days"]
    np.testing.assert_allclose(fit.fittedvalues, by_hand, rtol=1e-13)


# ---- singular fits ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flat():
    """Batches with equal means: no variance between them."""
    data = datasets.load("Dyestuff")
    means = data.groupby("Batch", observed=True)["Yield"].transform("mean")
    return lmer("Yield ~ 1 + (1 | Batch)", data.assign(Yield=data["Yield"] - means + 1500))


def test_a_singular_fit_is_a_normal_result(flat):
    assert flat.is_singular
    assert flat.converged
    assert flat.varcorr["vcov"][0] == 0
    assert (flat.ranef()["Batch"] == 0).all().all()
    assert (flat.ranef(cond_var=True)["Batch"]["condsd"] == 0).all().all()
    assert flat.params["Intercept"] == pytest.approx(1500)
    assert flat.predict({"Batch": ["A"]})[0] == pytest.approx(1500)
    assert "the variance of Intercept is zero" in str(flat.summary())


def test_a_regular_fit_is_not_singular(fit):
    assert not fit.is_singular


# ---- the object ---------------------------------------------------------------------------------


def test_a_fit_is_frozen(fit):
    with pytest.raises(dataclasses.FrozenInstanceError):
        fit.estimates = None
    tables = (fit.params, fit.fittedvalues, fit.cov_params(), fit.ranef()["Subject"])
    for table in tables:
        table[:] = 0.0
    assert fit.params["Days"] > 10
    assert fit.fittedvalues.iloc[0] > 250
    assert fit.cov_params().iloc[0, 0] > 46
    assert fit.ranef()["Subject"].iloc[0, 0] > 2


def test_refit_to_another_response(fit, sleepstudy):
    doubled = fit.refit(2 * sleepstudy["Reaction"].to_numpy())
    np.testing.assert_allclose(doubled.params, 2 * fit.params, rtol=1e-8)
    assert doubled.sigma == pytest.approx(2 * fit.sigma, rel=1e-5)
    assert doubled.objective == pytest.approx(fit.objective + 2 * 178 * np.log(2), abs=1e-6)
    assert fit.params["Days"] == pytest.approx(10.467285959596534, rel=1e-8)


def test_refit_of_a_model_takes_the_rest_from_the_model(fit, sleepstudy):
    """Not from the fit that it begins with, which may have other weights or another response."""
    y, w = 2 * sleepstudy["Reaction"].to_numpy(), np.linspace(1, 2, 180)
    wanted = fit.model.refit(fit, y), fit.model.refit(fit, weights=w)
    assert fit.model.refit(wanted[1], y).llf == pytest.approx(wanted[0].llf, abs=1e-6)
    assert fit.model.refit(wanted[0], weights=w).llf == pytest.approx(wanted[1].llf, abs=1e-6)
    assert fit.model.refit(wanted[1], y).weights is None


def test_what_was_proved(fit):
    assert fit.converged
    assert fit.certificate <= 1e-6
    assert fit.n_evals > 0
    assert fit.formula == SLOPES


def test_other_spellings(fit):
    """Names that users of R and of other packages bring along."""
    for name in ("Kenward-Roger", "kenward_roger", "KR", "Satterthwaite"):
        assert "degrees of freedom" in str(fit.summary(ddf=name))
    with pytest.raises(ValueError, match="lmmfast\\.mmrm"):
        fit.summary(ddf="between-within")
    with pytest.raises(ValueError, match='"kenward-roger"'):
        fit.summary(ddf="containment")
    with pytest.raises(TypeError, match="reml=False"):
        lmer(SLOPES, datasets.load("sleepstudy"), REML=False)
    with pytest.raises(TypeError, match="no argument 'maxiter'"):
        lmer(SLOPES, datasets.load("sleepstudy"), maxiter=3)
    with pytest.raises(DataError, match="R's NULL"):
        fit.predict(re_form="NULL")
    assert fit.predict(re_form=None).equals(fit.predict())


def test_contrasts_of_another_models_columns_are_left_alone():
    cake = datasets.load("cake")
    codings = {"recipe": "sum", "temperature": "sum"}
    with pytest.warns(UnusedContrastsWarning, match="'temperature'"):
        small = lmer("angle ~ recipe + (1 | replicate)", cake, contrasts=codings)
    assert list(small.params.index) == ["Intercept", "recipe[S.A]", "recipe[S.B]"]
    with pytest.raises(DataError, match="recipe"):
        lmer("angle ~ recipe + (1 | replicate)", cake, contrasts={"recpie": "sum"})


def test_results_of_mixedlm_are_fits():
    """anova, emmeans and simplify take what mixedlm gives."""
    result = mixedlm("score ~ Machine", datasets.load("Machines"), groups="Worker").fit()
    fit = lmer("score ~ Machine + (1 | Worker)", datasets.load("Machines"))
    assert anova(result).table.equals(anova(fit).table)
    assert emmeans(result, "Machine").table.equals(emmeans(fit, "Machine").table)
