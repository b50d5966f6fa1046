"""Fits to files and back, and without their data: what they say is what the fit said."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lmmfast
from lmmfast import DataError, FitError, glmer, lmer, load, verify
from lmmfast.cli import main
from lmmfast.sources import archive


def frame(seed: int = 0, n: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    subj, item = rng.integers(0, 12, n), rng.integers(0, 8, n)
    x, cond = rng.normal(size=n), rng.choice(["a", "b", "c"], n)
    eta = 0.4 * x + rng.normal(size=12)[subj] + 0.7 * rng.normal(size=8)[item] + (cond == "b")
    return pd.DataFrame(
        {
            "y": eta + rng.normal(size=n),
            "rt": np.exp(0.3 * eta + 0.2 * rng.normal(size=n)),
            "hit": (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int),
            "count": rng.poisson(np.exp(0.5 * eta)),
            "rating": np.digitize(eta + rng.logistic(size=n), [-1, 1]),
            "x": x,
            "w": rng.uniform(0.5, 2, n),
            "cond": pd.Categorical(cond, ["c", "a", "b"]),
            "phase": rng.choice(["early", "late"], n),
            "subj": subj,
            "item": [f"item {i}" for i in item],
            "second": rng.integers(0, 12, n),
            "time": np.arange(n) % 20,
            "block": np.arange(n) // 20,
        },
        index=[f"row {i}" for i in range(n)],
    )


DATA = frame()
NEW = DATA.iloc[::17]

LINEAR: dict[str, Callable[[], Any]] = {
    "slopes": lambda: lmer("y ~ x * cond + (x | subj) + (1 | item)", DATA),
    "likelihood": lambda: lmer("y ~ x + (1 | subj)", DATA, reml=False),
    "learned": lambda: lmer("y ~ scale(x) + poly(w, 2) + ns(x, 3) + (scale(x) || subj)", DATA),
    "contrasts": lambda: lmer("y ~ cond * phase + (1 | subj)", DATA, contrasts={"cond": "sum"}),
    "in formula": lambda: lmer("y ~ C(cond, 'helmert') + I(x > 0) + (1 | subj:phase)", DATA),
    "nested": lambda: lmer("rt ~ x + offset(w) + (1 | phase/item)", DATA, weights="w"),
    "transformed": lambda: lmer("log(rt) ~ x + cut(w, [0, 1, 3]) + (1 | subj)", DATA),
    "dropped": lambda: lmer("y ~ x + I(2 * x) + cond + (1 | subj)", DATA),
    "singular": lambda: lmer("y ~ x + (x | phase)", DATA),
    "held": lambda: lmer("y ~ x + (x | subj)", DATA, fixed={"theta": [np.nan, 0.0, np.nan]}),
    "structure": lambda: lmer("y ~ x + cs(0 + cond | subj)", DATA),
    "members": lambda: lmer("y ~ x + (1 | mm(subj, second))", DATA),
    "residual": lambda: lmer("y ~ x + (1 | block)", DATA, residual="ar1(time | block)"),
    "dispersion": lambda: lmer("y ~ x + (1 | subj)", DATA, dispersion="~ phase"),
    "related": lambda: lmer(
        "y ~ x + (1 | subj)",
        DATA,
        relationship={"subj": 0.7 * np.eye(12) + 0.3 * np.ones((12, 12))},
    ),
}
GENERALIZED: dict[str, Callable[[], Any]] = {
    "binomial": lambda: glmer("hit ~ x + cond + (x | subj) + (1 | item)", DATA, "binomial"),
    "poisson": lambda: glmer("count ~ scale(x) + (1 | subj)", DATA, "poisson"),
    "size": lambda: glmer("count ~ x + (1 | subj)", DATA, "negativebinomial"),
    "ordered": lambda: glmer("rating ~ x + (1 | subj)", DATA, "ordered"),
    "quadrature": lambda: glmer("hit ~ x + (1 | subj)", DATA, "binomial", nagq=7),
    "prior": lambda: glmer("hit ~ x + (1 | subj)", DATA, "binomial", "probit", prior=2.5),
}
ALL = {**LINEAR, **GENERALIZED}
pytestmark = pytest.mark.filterwarnings("ignore::lmmfast.LmmWarning")


@pytest.fixture(scope="module", params=ALL)
def fit(request: pytest.FixtureRequest) -> Any:
    return ALL[request.param]()


def saved(fit: Any, folder: Path, data: Any = False, **more: Any) -> Any:
    fit.save(folder / "fit.lmm", data, **more)
    return load(folder / "fit.lmm")


def close(one: Any, other: Any, tolerance: float = 1e-9) -> None:
    a, b = (np.asarray(v, float) for v in (one, other))
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# ---- what is the same ---------------------------------------------------------------------------


@pytest.mark.parametrize("data", [False, True])
def test_predictions_are_the_same_to_the_last_digit(fit: Any, data: Any, tmp_path: Path) -> None:
    same = saved(fit, tmp_path, data)
    assert type(same) is type(fit)
    for how in ({}, {"re_form": "none"}, {"random_only": True}):
        assert np.array_equal(same.predict(NEW, **how), fit.predict(NEW, **how), equal_nan=True)
    unseen = NEW.assign(subj=99, item="another", second=98, block=77)
    for how in ({"new_levels": "sample", "seed": 3}, {"new_levels": "missing"}):
        try:
            wanted = fit.predict(unseen, **how)
        except (DataError, FitError) as error:
            with pytest.raises(type(error)):
                same.predict(unseen, **how)
            continue
        assert np.array_equal(same.predict(unseen, **how), wanted, equal_nan=True)


@pytest.mark.parametrize("data", [False, True])
def test_tables_are_the_same(fit: Any, data: Any, tmp_path: Path) -> None:
    same = saved(fit, tmp_path, data)
    assert same.params.equals(fit.params) and same.bse.equals(fit.bse)
    assert (same.objective, same.aic, same.converged) == (fit.objective, fit.aic, fit.converged)
    assert str(same.varcorr) == str(fit.varcorr)
    assert str(same.parameters()) == str(fit.parameters())
    assert str(same.coef_test()) == str(fit.coef_test())
    for group, modes in fit.ranef().items():
        assert same.ranef()[group].equals(modes)
    if data:
        assert str(same.summary()) == str(fit.summary())
    else:  # which quartiles of residuals are not in
        assert set(str(same.summary()).split("\n")) <= set(str(fit.summary()).split("\n"))


def test_errors_of_predictions_are_the_same(fit: Any, tmp_path: Path) -> None:
    same = saved(fit, tmp_path)
    for how in ({"se": True}, {"se": True, "re_form": "none"}):
        if fit.family is not None and fit.family.response == "ordered":
            continue
        try:
            wanted = fit.predict(NEW, **how)
        except (DataError, FitError) as error:
            with pytest.raises(type(error)):
                same.predict(NEW, **how)
            continue
        try:
            found = same.predict(NEW, **how)
        except DataError as error:  # rows that join levels which are not kept together
            assert "data=True" in str(error) and "re_form" not in how
            assert "mm(" in fit.formula
            continue
        close(found, wanted, 1e-10)


def test_new_responses_are_the_same(fit: Any, tmp_path: Path) -> None:
    same = saved(fit, tmp_path)
    try:
        wanted = fit.simulate(2, 1, newdata=NEW)
    except (DataError, FitError) as error:
        with pytest.raises(type(error)):
            same.simulate(2, 1, newdata=NEW)
        return
    assert np.array_equal(same.simulate(2, 1, newdata=NEW), wanted)


@pytest.mark.parametrize("name", ["slopes", "learned", "contrasts", "binomial", "size"])
def test_means_are_the_same(name: str, tmp_path: Path) -> None:
    fit = ALL[name]()
    same = saved(fit, tmp_path)
    specs = "cond" if "cond" in fit.formula else "1"
    for how in ({}, {"weights": "proportional"}):
        if specs == "1" and how:
            continue
        one, other = (lmmfast.emmeans(own, specs, **how) for own in (same, fit))
        close(one.to_frame().select_dtypes("number"), other.to_frame().select_dtypes("number"))


def test_intervals_and_tests_are_the_same(tmp_path: Path) -> None:
    fit = LINEAR["slopes"]()
    same = saved(fit, tmp_path, ddf=["satterthwaite", "kenward-roger"])
    for ddf in ("satterthwaite", "kenward-roger", "residual", "z"):
        close(same.conf_int(ddf=ddf), fit.conf_int(ddf=ddf), 1e-10)
        one, other = (own.f_test(np.eye(6)[1:], ddf=ddf) for own in (same, fit))
        close([one.fvalue, one.df_denom], [other.fvalue, other.df_denom], 1e-9)
        tables = [lmmfast.anova(own, ddf=ddf).to_frame() for own in (same, fit)]
        close(*(table.select_dtypes("number") for table in tables), 1e-8)
    close(same.conf_int(parameters="all"), fit.conf_int(parameters="all"), 1e-9)
    close(same.r2(), fit.r2())
    close(same.vcov_theta(), fit.vcov_theta())
    for group, table in fit.rePCA().components.items():
        close(same.rePCA().components[group], table)


def test_what_was_not_kept_says_how_to_keep_it() -> None:
    fit = LINEAR["slopes"]().without_data()
    with pytest.raises(DataError, match='ddf="kenward-roger"'):
        fit.t_test("x", ddf="kenward-roger")
    lean = LINEAR["slopes"]().without_data(ddf="z")
    with pytest.raises(DataError, match='ddf="satterthwaite"'):
        _ = lean.pvalues
    assert lean.t_test("x", ddf="z").pvalue[0] > 0
    uses: list[Callable[[], Any]] = [
        lambda: fit.resid,
        lambda: fit.fittedvalues,
        fit.predict,
        fit.influence,
        lambda: fit.refit(DATA["y"]),
        lambda: fit.bootstrap(5),
        fit.profile,
        lambda: fit.simulate(1),
        lambda: fit.model.objective(fit.theta),
        lambda: fit.design.X,
        lambda: fit.design.variables["x"].values,
        lambda: fit.save("never", True),
    ]
    for use in uses:
        with pytest.raises(DataError, match="data"):
            use()


# ---- with data ----------------------------------------------------------------------------------


def test_with_rows_all_is_there(fit: Any, tmp_path: Path) -> None:
    same = saved(fit, tmp_path, True)
    if fit.family is None or fit.family.response != "ordered":
        assert same.resid.equals(fit.resid) and same.resid.index.equals(fit.resid.index)
    drawn = fit.simulate(1, 7)[0]
    one, other = (own.refit(drawn) for own in (same, fit))
    assert abs(one.objective - other.objective) < 1e-9 * abs(other.objective)


def test_cross_products_make_the_model_again(tmp_path: Path) -> None:
    fit = lmer("y ~ x * cond + (x | subj) + (1 | item)", DATA)
    same = saved(fit, tmp_path, "cross-products")
    assert same.predict(NEW).equals(fit.predict(NEW))
    close(same.profile("x").conf_int(), fit.profile("x").conf_int(), 1e-6)
    close(same.t_test("x", ddf="kenward-roger").pvalue, fit.t_test("x", ddf="kr").pvalue, 1e-7)
    with pytest.raises(DataError, match="not in memory"):
        _ = same.resid


def test_fits_of_streams_have_cross_products(tmp_path: Path) -> None:
    spec = lmmfast.Spec.from_data("y ~ x * cond + (x | subj)", DATA)
    fit = lmer(lmmfast.CrossProducts.from_frame(DATA, spec))
    for data in (False, "cross-products"):
        same = saved(fit, tmp_path, data)
        assert same.predict(NEW).equals(fit.predict(NEW))
        close(same.df, fit.df, 1e-8)
    with pytest.raises(DataError, match="cross-products"):
        fit.save(tmp_path / "no.lmm", True)


def test_changed_data_make_no_cross_products(tmp_path: Path) -> None:
    data = {name: DATA[name].to_numpy().copy() for name in ("y", "x", "subj")}
    fit = lmer("y ~ x + (1 | subj)", data)
    data["x"] = data["x"] + np.arange(len(DATA))
    with pytest.raises(DataError, match="changed since"):
        fit.save(tmp_path / "no.lmm", "cross-products")


def test_arrays_have_no_formula(tmp_path: Path) -> None:
    codes = DATA["subj"].to_numpy()
    X = np.column_stack([np.ones(len(DATA)), DATA["x"]])
    fit = lmmfast.LMM.from_arrays(DATA["y"].to_numpy(), X, [(codes, None)]).fit()
    for data in (False, True):
        same = saved(fit, tmp_path, data)
        assert same.params.equals(fit.params) and same.theta.tolist() == fit.theta.tolist()
        close(same.df, fit.df, 1e-9)


# ---- names of the user's own --------------------------------------------------------------------


class Share(lmmfast.CustomFamily):
    """Normal with a known deviation."""

    def log_density(self, y: Any, eta: Any, x: Any, weights: Any = None) -> Any:
        return -0.5 * (y - eta) ** 2 - 0.5 * np.log(2 * np.pi)


def test_families_of_the_user_are_given_again(tmp_path: Path) -> None:
    fit = glmer("y ~ x + (1 | subj)", DATA, Share())
    fit.save(tmp_path / "own.lmm")
    with pytest.raises(DataError, match=r"names=\{\"Share\": Share\(\)\}"):
        load(tmp_path / "own.lmm")
    same = load(tmp_path / "own.lmm", names={"Share": Share()})
    assert same.predict(NEW).equals(fit.predict(NEW))


def test_covariances_of_the_user_are_refused(tmp_path: Path) -> None:
    own = lmmfast.CustomCovariance(2, lambda phi: np.exp(phi[0]) * np.eye(2), [0.0])
    fit = lmer("y ~ x + (x | subj)", DATA, covariance={"subj": own})
    with pytest.raises(DataError, match="user's own"):
        fit.save(tmp_path / "own.lmm")
    assert not list(tmp_path.iterdir())


# ---- files --------------------------------------------------------------------------------------


def test_other_processes_predict_the_same(tmp_path: Path) -> None:
    fit = LINEAR["learned"]()
    fit.save(tmp_path / "fit.lmm")
    NEW.to_pickle(tmp_path / "new.pkl")
    program = (
        "import sys, pandas as pd, lmmfast\n"
        "fit = lmmfast.load(sys.argv[1])\n"
        "print([value.hex() for value in fit.predict(pd.read_pickle(sys.argv[2]))])\n"
    )
    paths = [str(tmp_path / name) for name in ("fit.lmm", "new.pkl")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program, *paths],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.strip() == str([value.hex() for value in fit.predict(NEW)])


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = LINEAR["likelihood"]()
    path = tmp_path / "fit.lmm"
    fit.save(path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        LINEAR["slopes"]().save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # open files
def test_ctrl_c_leaves_no_half_file(tmp_path: Path) -> None:
    """Interrupted before each line of what writes: the old file or the new one, and no other."""
    fit, other, path = LINEAR["likelihood"](), LINEAR["slopes"](), tmp_path / "fit.lmm"
    fit.save(path)
    other.save(tmp_path / "other.lmm")
    before, after = path.read_bytes(), (tmp_path / "other.lmm").read_bytes()
    (tmp_path / "other.lmm").unlink()
    code, seen = archive.write.__code__, []

    def traced(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code is not code:
            return None
        if event == "line":
            count[0] -= 1
            if count[0] == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return traced

    for line in range(1, 100):
        count, was = [line], sys.gettrace()
        try:
            sys.settrace(traced)
            other.save(path)
            break
        except KeyboardInterrupt:
            seen.append(path.read_bytes())
            assert seen[-1] in (before, after) and list(tmp_path.iterdir()) == [path]
            path.write_bytes(before)
        finally:
            sys.settrace(was)
    assert before in seen and after in seen and len(seen) > 8


def test_pickles_still_work() -> None:
    for make in (LINEAR["slopes"], GENERALIZED["size"]):
        fit = make()
        for own in (fit, fit.without_data()):
            again = pickle.loads(pickle.dumps(own))
            assert again.predict(NEW).equals(fit.predict(NEW))
            close(again.coef_test().pvalue, fit.coef_test().pvalue, 1e-9)


def test_without_data_is_small(tmp_path: Path) -> None:
    many = frame(1, 20_000)
    fit = lmer("y ~ x + cond + (1 | subj) + (1 | item)", many)
    fit.save(tmp_path / "lean.lmm")
    assert (tmp_path / "lean.lmm").stat().st_size < 40_000
    assert fit.without_data().without_data().predict(NEW).equals(fit.predict(NEW))


def test_no_choice_of_data_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cross-products"):
        LINEAR["likelihood"]().save(tmp_path / "x", "rows")


# ---- verify -------------------------------------------------------------------------------------


def test_verify(fit: Any, tmp_path: Path) -> None:
    same = saved(fit, tmp_path)
    found = verify(tmp_path / "fit.lmm", DATA)
    assert found and found.optimum and found.same_data and found.same_responses
    assert found.n == found.n_saved == fit.nobs and "The optimum holds" in str(found)
    name = fit.formula.split("~")[0].strip().removeprefix("log(").removesuffix(")")
    other = DATA.copy()
    other[name] = other[name].to_numpy()[::-1]  # the same responses of other rows
    found = verify(same, other)
    assert not found and found.same_responses and not found.same_data


def test_verify_with_contrasts_of_every_kind(tmp_path: Path) -> None:
    table = pd.DataFrame([[1.0, 0], [0, 1], [-1, -1]], ["c", "a", "b"], ["c-b", "a-b"])
    kinds: list[Any] = [
        lmmfast.hypotheses({"a-c": "a - c", "b-c": "b - c"}),
        table,
        table.to_numpy(),
        {"x": [1, 0, -1], "y": [0, 1, -1]},
        "treatment(base='b')",
    ]
    for own in kinds:
        fit = lmer("y ~ cond + phase + (1 | subj)", DATA, contrasts={"cond": own})
        assert verify(saved(fit, tmp_path), DATA), own


def test_archives_hold_what_they_were_given_and_no_objects() -> None:
    """NumPy before 2.2 takes every keyword of `savez` for an array."""
    packed = archive.bytes_of({"a": np.arange(3)})
    with np.load(io.BytesIO(packed)) as kept:
        assert kept.files == ["a"]
    with pytest.raises(ValueError, match="cannot be written: b"):
        archive.bytes_of({"a": np.arange(3), "b": np.array([{}])})


def test_a_folder_that_is_not_there_is_named_as_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "m.lmm"
    with pytest.raises(FileNotFoundError, match="no file can be written in this folder") as caught:
        ALL["slopes"]().save(path)
    assert caught.value.filename == str(path)


def test_verify_says_when_rows_are_missing() -> None:
    fit = LINEAR["slopes"]()
    found = verify(fit, DATA[:-5])
    assert not found.same_data and found.same_responses is False and "NOT the same" in str(found)
    with pytest.raises(DataError, match="other fixed effects"):
        verify(fit, DATA.assign(cond=DATA["cond"].astype(str).replace({"a": "z"})))


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    DATA.to_csv(tmp_path / "trials.csv")
    DATA.assign(y=DATA["y"] + DATA["x"]).to_csv(tmp_path / "others.csv")
    files = [str(tmp_path / name) for name in ("fit.json", "fit.lmm")]
    formula = "y ~ x + (1 | subj) + (1 | item)"
    data = str(tmp_path / "trials.csv")
    assert main(["fit", formula, data, "--json", files[0], "--save", files[1]]) == 0
    fit = lmer(formula, pd.read_csv(data))
    for file in files:
        same = load(file)
        assert same.predict(NEW).equals(fit.predict(NEW)) and same.pvalues.equals(
            load(file).pvalues
        )
        assert main(["verify", file, data]) == 0
        assert main(["verify", file, str(tmp_path / "others.csv")]) == 1
    assert "NOT the same" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "none.lmm"), data]) == 2
    record = json.loads(Path(files[0]).read_text())
    record["saved"]["arrays"]["a0"]["base64"] = "AAAA"
    Path(files[0]).write_text(json.dumps(record))
    with pytest.raises(DataError, match="damaged"):
        load(files[0])
