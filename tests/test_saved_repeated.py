"""Fits for repeated measures to files and back: what they say is what the fit said."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lmmfast
from lmmfast import DataError, anova, emmeans, joint_tests, load, mmrm, verify


def frame(subjects: int = 50, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    visits = ["w1", "w2", "w3", "w4"]
    who = np.repeat(np.arange(subjects), 4)
    arm = np.where(who % 2, "drug", "placebo")
    y = rng.normal(size=subjects)[who] + rng.normal(size=4 * subjects) + 0.5 * (arm == "drug")
    data = pd.DataFrame(
        {
            "y": y,
            "who": [f"P{i}" for i in who],
            "visit": np.tile(visits, subjects),
            "arm": arm,
            "x": rng.normal(size=subjects)[who],
            "at": np.tile([0.0, 1.0, 3.0, 4.0], subjects),
            "w": rng.uniform(0.5, 2, 4 * subjects),
        }
    )
    data.loc[rng.choice(len(data), 25, replace=False), "y"] = np.nan
    return data


DATA = frame()
NEW = DATA.iloc[:11]
FITS: dict[str, Callable[[], Any]] = {
    "unstructured": lambda: mmrm("y ~ scale(x) + arm * visit + us(visit | who)", DATA),
    "groups": lambda: mmrm("y ~ arm * visit + ar1h(visit | arm / who)", DATA, weights="w"),
    "likelihood": lambda: mmrm("y ~ x * visit + toeph(visit | who)", DATA, reml=False),
    "linear": lambda: mmrm("y ~ arm + visit + csh(visit | who)", DATA, ddf="kenward-roger-linear"),
    "dropped": lambda: mmrm("y ~ x + I(2 * x) + arm + cs(visit | who)", DATA),
    "places": lambda: mmrm("y ~ x + arm + sp_exp(at | who)", DATA),
}
KINDS = (False, "cross-products", True)
pytestmark = pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")


@pytest.fixture(scope="module", params=FITS)
def fit(request: pytest.FixtureRequest) -> Any:
    return FITS[request.param]()


def saved(fit: Any, folder: Path, data: Any = False, **more: Any) -> Any:
    if data == "cross-products" and fit.structure == "sp_exp":
        pytest.skip("places have no sums by pattern")
    fit.save(folder / "fit.lmm", data, **more)
    return load(folder / "fit.lmm")


def close(one: Any, other: Any, tolerance: float = 1e-8) -> None:
    a, b = (np.asarray(v, float) for v in (one, other))
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("data", KINDS)
def test_predictions_are_the_same(fit: Any, data: Any, tmp_path: Path) -> None:
    same = saved(fit, tmp_path, data)
    assert type(same) is type(fit) and same.ddf == fit.ddf
    assert np.array_equal(same.predict(NEW), fit.predict(NEW))
    for interval in ("confidence", "prediction"):
        try:
            wanted = fit.predict(NEW, interval=interval)
        except DataError as error:
            with pytest.raises(DataError, match=str(error)[:20]):
                same.predict(NEW, interval=interval)
            continue
        close(same.predict(NEW, interval=interval), wanted)
    if fit.structure != "sp_exp":
        close(same.predict(NEW, conditional=True), fit.predict(NEW, conditional=True))


@pytest.mark.parametrize("data", KINDS)
def test_tables_are_the_same(fit: Any, data: Any, tmp_path: Path) -> None:
    same = saved(fit, tmp_path, data)
    assert str(anova(same)) == str(anova(fit)) and str(same.report()) == str(fit.report())
    close(joint_tests(same).to_numpy()[:, 1:], joint_tests(fit).to_numpy()[:, 1:])
    close(same.conf_int(parameters="all"), fit.conf_int(parameters="all"))
    close(same.parameters(), fit.parameters())
    close(same.vcov_theta(), fit.vcov_theta())
    means = (emmeans(one, "1").to_frame().select_dtypes(float) for one in (same, fit))
    close(*means)
    lines = set(str(same.summary()).splitlines())
    missing = [line for line in str(fit.summary()).splitlines() if line not in lines]
    assert len(missing) == (0 if data is True else 3)  # quantiles of residuals
    assert same.n_levels == fit.n_levels and same.aic == fit.aic


def test_degrees_of_freedom_that_were_kept(tmp_path: Path) -> None:
    fit = FITS["linear"]()
    kept = ("satterthwaite", "kenward-roger", "kenward-roger-linear", "between-within", "z")
    same = saved(fit, tmp_path, ddf=kept)
    for ddf in kept:
        close(same.coef_test(ddf=ddf).pvalue, fit.coef_test(ddf=ddf).pvalue)
    with pytest.raises(DataError, match=r"not kept: ddf= of fit\.save"):
        FITS["linear"]().without_data().coef_test(ddf="kenward-roger")


def test_new_subjects_are_drawn(tmp_path: Path) -> None:
    fit = FITS["groups"]()
    same = saved(fit, tmp_path)
    assert same.simulate(2, 5, newdata=NEW).equals(fit.simulate(2, 5, newdata=NEW))
    many = pd.concat([NEW.iloc[:4].assign(who=i, w=2.0) for i in range(4000)])
    drawn = same.simulate(1, 1, newdata=many)[0].to_numpy().reshape(-1, 4)
    Sigma = fit.covariance(NEW["arm"].iloc[0]).to_numpy() / 2
    assert np.abs(np.cov(drawn.T) - Sigma).max() < 6 * np.diag(Sigma).max() / np.sqrt(2000)
    close(drawn.mean(axis=0), fit.predict(NEW.iloc[:4]), 6 * np.sqrt(Sigma.max() / 4000))
    with pytest.raises(DataError, match="visit twice"):
        same.simulate(1, 1, newdata=pd.concat([NEW, NEW]))
    with pytest.raises(DataError, match="lack a value"):
        same.simulate(1, 1, newdata=NEW.assign(visit=[None, *NEW["visit"][1:]]))


def test_what_needs_rows_says_so() -> None:
    fit = FITS["unstructured"]().without_data()
    uses: list[Callable[[], Any]] = [
        lambda: fit.resid,
        lambda: fit.simulate(1),
        lambda: fit.refit(np.ones(fit.nobs)),
        lambda: fit.conf_int(method="profile"),
        lambda: fit.update("y ~ arm + us(visit | who)", DATA),
        lambda: fit.check(),
    ]
    for use in uses:
        with pytest.raises(DataError, match="without its data"):
            use()
    with pytest.raises(DataError, match="without its data"):
        FITS["likelihood"]().without_data().profile("fixed")


@pytest.mark.parametrize("name", ["unstructured", "groups", "likelihood", "dropped"])
def test_sums_by_pattern_make_the_model_again(name: str, tmp_path: Path) -> None:
    fit = FITS[name]()
    same = saved(fit, tmp_path, "cross-products")
    close(same.point.hessian, fit.point.hessian)
    close(same.conf_int(method="profile"), fit.conf_int(method="profile"), 1e-6)
    other = same.model.fit(reml=not fit.reml)
    close(other.objective, fit.model.fit(reml=not fit.reml).objective)
    assert same.without_data().predict(NEW).equals(fit.predict(NEW))
    same.save(tmp_path / "again.lmm", "cross-products")
    close(load(tmp_path / "again.lmm").point.hessian, fit.point.hessian)


def test_with_rows_all_is_there(fit: Any, tmp_path: Path) -> None:
    same = saved(fit, tmp_path, True)
    assert same.resid.equals(fit.resid) and same.simulate(1, 3).equals(fit.simulate(1, 3))
    y = fit.design.y + 1
    close(same.refit(y).params, fit.refit(y).params)


def test_fits_of_streams(tmp_path: Path) -> None:
    whole = mmrm("y ~ arm * visit + us(visit | who)", DATA)
    fit = mmrm("y ~ arm * visit + us(visit | who)", [DATA[:90], DATA[90:]])
    for data in (False, "cross-products"):
        same = saved(fit, tmp_path, data)
        close(same.predict(NEW), whole.predict(NEW))
        close(same.coef_test().pvalue, whole.coef_test().pvalue, 1e-6)
    with pytest.raises(DataError, match="cross-products"):
        fit.save(tmp_path / "rows.lmm", True)


def test_verify_and_pickles(fit: Any, tmp_path: Path) -> None:
    lean = fit.without_data()
    again = pickle.loads(pickle.dumps(lean))
    assert again.predict(NEW).equals(fit.predict(NEW))
    found = verify(saved(fit, tmp_path), DATA)
    assert found and found.same_responses and "The optimum holds" in str(found)
    other = verify(lean, DATA.assign(y=DATA["y"] + np.arange(len(DATA)) % 3))
    assert not other.optimum and not other.same_data
    assert lmmfast.load(tmp_path / "fit.lmm").without_data().nobs == fit.nobs
