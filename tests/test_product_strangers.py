"""What users of other packages stumble over around a fit: saved fits, tables, pictures, data."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest

import lmmfast
from lmmfast import glmer, lmer, mmrm
from lmmfast.errors import DataError, FormulaError, SimilarLevelsWarning

N, GROUPS = 120, 12
RNG = np.random.default_rng(1)


def trials() -> pd.DataFrame:
    g = np.arange(N) % GROUPS
    x = RNG.normal(size=N)
    c = np.array(list("abc"))[RNG.integers(0, 3, N)]
    y = 2 + x + 0.5 * (c == "b") + RNG.normal(size=GROUPS)[g] + RNG.normal(size=N)
    k = RNG.integers(0, 6, N)
    return pd.DataFrame({"y": y, "x": x, "c": c, "g": g, "k": k, "left": 6 - k, "n": 6})


DATA = trials()
DATA["hit"] = np.where(DATA["y"] > 2, "yes", "no")
DATA["share"] = DATA["k"] / DATA["n"]


@pytest.fixture(scope="module")
def fit():
    return lmer("y ~ x + c + (1 + x | g)", DATA)


# ---- the rows of a fit beside its data -----------------------------------------------------------

FITS = {
    "linear": lambda data: lmer("y ~ x + (1 | g)", data),
    "transformed": lambda data: lmer("exp(y / 3) ~ x + (1 | g)", data),
    "factor": lambda data: glmer("hit ~ x + (1 | g)", data, "binomial"),
    "cbind": lambda data: glmer("cbind(k, left) ~ x + (1 | g)", data, "binomial"),
    "shares": lambda data: glmer("share ~ x + (1 | g)", data, "binomial", weights="n"),
    "counts": lambda data: glmer("k ~ x + (1 | g)", data, "poisson"),
    "repeated": lambda data: mmrm(
        "y ~ x + cs(v | s)", data.assign(v=[f"v{i % 4}" for i in range(N)], s=np.arange(N) // 4)
    ),
}


@pytest.mark.parametrize("kind", FITS)
def test_rows_in_another_order_have_their_own_values(kind):
    fit = FITS[kind](DATA)
    plain, order = fit.augment(DATA), np.random.default_rng(2).permutation(N)
    assert np.array_equal(plain[".fitted"], fit.augment()[".fitted"])
    pd.testing.assert_frame_equal(fit.augment(DATA.iloc[order]), plain.iloc[order])
    with pytest.raises(
        DataError, match=r"other responses .* in another order, or others"
    ) as caught:
        fit.augment(DATA.iloc[order].reset_index(drop=True))
    assert "newdata=" in str(caught.value)


def test_tables_without_labels_are_compared():
    data = pl.from_pandas(DATA)
    fit = lmer("y ~ x + (1 | g)", data)
    assert fit.augment(data).height == N
    with pytest.raises(DataError, match="other responses 'y' than the fit in 120 of its 120 rows"):
        fit.augment(data.reverse())


def test_rows_that_were_dropped_are_found_by_label():
    gaps = DATA.copy()
    gaps.loc[[5, 9], "x"] = np.nan
    fit = lmer("y ~ x + (1 | g)", gaps)
    for data in (gaps.sample(frac=1, random_state=3), gaps.dropna().sample(frac=1, random_state=3)):
        found = fit.augment(data)
        assert set(found.index[found[".fitted"].isna()]) == set(data.index[data["x"].isna()])
        known = found.dropna()
        assert np.allclose(known["y"] - known[".fitted"], known[".resid"], atol=1e-12)


def test_tables_without_the_response_go_by_order(fit):
    assert fit.augment(DATA.drop(columns="y"))[".resid"].equals(fit.augment(DATA)[".resid"])


# ---- saved fits and copies -----------------------------------------------------------------------


def test_fits_in_files_that_are_open(fit, tmp_path):
    buffer = io.BytesIO()
    fit.save(buffer)
    kept = buffer.getvalue()
    fit.save(tmp_path / "m.lmm")
    assert kept == (tmp_path / "m.lmm").read_bytes()
    assert np.array_equal(lmmfast.load(io.BytesIO(kept)).predict(DATA), fit.predict(DATA))
    with (tmp_path / "m.lmm").open("rb") as file:
        assert lmmfast.load(file).nobs == N
    with pytest.raises(DataError, match="'the file': the saved fit is damaged or cut short"):
        lmmfast.load(io.BytesIO(kept[:-300]))
    with pytest.raises(TypeError, match="open it for bytes"):
        fit.save(io.StringIO())
    with pytest.raises(TypeError, match="open it for bytes"):
        lmmfast.load(io.StringIO("{}"))
    with pytest.raises(TypeError, match="BytesIO"):
        lmmfast.load(kept)


def test_a_folder_is_no_file(fit, tmp_path):
    with pytest.raises(IsADirectoryError, match="give the name of a file in this folder") as caught:
        fit.save(tmp_path)
    assert caught.value.filename == str(tmp_path)
    assert not list(tmp_path.iterdir())


def test_copies_know_their_data(fit):
    for same in (copy.copy(fit), copy.deepcopy(fit), copy.deepcopy({"a": [fit]})["a"][0]):
        assert same.update(". ~ . - x").objective == fit.update(". ~ . - x").objective
        assert same.objective == fit.objective
    with pytest.raises(DataError, match="a pickle"):
        pickle.loads(pickle.dumps(fit)).update(". ~ . - x")


def test_shrinkage_needs_rows_or_their_sums(fit):
    with pytest.raises(DataError, match="least squares within levels would be needed"):
        fit.without_data().shrinkage()


# ---- pictures ------------------------------------------------------------------------------------


def test_dollars_in_names_are_no_mathematics():
    plt = pytest.importorskip("matplotlib.pyplot")
    from matplotlib import cbook, text

    prices = DATA.assign(price=DATA["c"].map({"a": "$0-$10", "b": "$10-$20", "c": "$\\over$"}))
    fit = lmer("`$y$` ~ price + (1 | `$g$`)", prices.rename(columns={"y": "$y$", "g": "$g$"}))
    means = lmmfast.emmeans(fit, "price")
    pictures = {
        "coefficients": lambda: lmmfast.plots.coefficients(fit).figure,
        "caterpillar": lambda: lmmfast.plots.caterpillar(fit)[0].figure,
        "means": lambda: means.plot()[0].figure,
        "contrasts": lambda: means.pairs().plot().figure,
        "fitted": lambda: lmmfast.plots.fitted(fit, "price")[0].figure,
    }
    for name, draw in pictures.items():
        figure = draw()
        figure.canvas.draw()  # mathematics that cannot be read would be an error
        labels = [own.get_text() for own in figure.findobj(text.Text) if own.get_text()]
        assert any("$" in label for label in labels), name
        assert not any(cbook.is_math_text(label) for label in labels), name
        plt.close(figure)


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "formula", "said"),
    [
        ("\ufeffy", "y ~ x + (1 | g)", r"byte order mark, '\\ufeffy': .*encoding='utf-8-sig'"),
        ("y ", "y ~ x + (1 | g)", r"'y ' differs by blanks: .*str\.strip\(\), or write `y `"),
        ("y\u200b", "y ~ x + (1 | g)", r"other characters \('y\\u200b', not 'y'\)"),
        ("gro\u0308\u00dfe", "gr\u00f6\u00dfe ~ x + (1 | g)", r"'gro\\u0308\\xdfe', not 'gr\\xf6"),
    ],
)
@pytest.mark.parametrize("table", [pd.DataFrame, pl.DataFrame])
def test_names_that_only_look_alike(name, formula, said, table):
    data = DATA.rename(columns={"y": name})
    with pytest.raises(FormulaError, match=said):
        lmer(formula, data if table is pd.DataFrame else pl.from_pandas(data))


def test_coefficients_have_names_of_their_own():
    for name, formula in {
        "Intercept": "y ~ Intercept + (1 | g)",
        "c[T.b]": "y ~ c + `c[T.b]` + (1 | g)",
    }.items():
        with pytest.raises(FormulaError, match="two columns of the model would be named") as caught:
            lmer(formula, DATA.rename(columns={"x": name}))
        assert caught.value.variable == name
    with pytest.raises(FormulaError, match="named 'Intercept'"):
        lmer("y ~ 1 + (Intercept | g)", DATA.rename(columns={"x": "Intercept"}))
    alone = lmer("y ~ 0 + Intercept + (1 | g)", DATA.assign(Intercept=1.0))
    assert np.isclose(alone.objective, lmer("y ~ 1 + (1 | g)", DATA).objective)


def test_a_column_named_as_a_word_of_python():
    data = DATA.rename(columns={"x": "lambda"})
    with pytest.raises(FormulaError, match="a column's name is `lambda`"):
        lmer("y ~ lambda + (1 | g)", data)
    assert lmer("y ~ `lambda` + (1 | g)", data).params.index[1] == "lambda"


@pytest.mark.parametrize("unit", ["timedelta64[ms]", "datetime64[s]"])
def test_times_are_turned_into_numbers(unit):
    data = DATA.assign(y=(1000 * DATA["y"]).astype("int64").astype(unit))
    with pytest.raises(DataError, match=r"holds dates or times.*data\['y'\]\.dt\.total_seconds"):
        lmer("y ~ x + (1 | g)", data)


# ---- tables --------------------------------------------------------------------------------------


def test_columns_of_wide_characters_are_aligned():
    data = DATA.rename(columns={"x": "刺激", "g": "e\u0301le\u0300ve"})
    summary = lmer("y ~ 刺激 + (1 | `e\u0301le\u0300ve`)", data).summary()
    intercept, wide = str(summary.tables["Fixed effects"]).splitlines()[1:3]
    assert len(intercept) - len(wide) == 2  # two letters take the room of four
    header, group = str(summary.tables["Random effects"]).splitlines()[:2]
    assert group.index("Intercept") - header.index("Name") == 2  # two accents take none
    intercept, wide = summary.to_markdown("Fixed effects", text=False).splitlines()[2:4]
    assert len(intercept) - len(wide) == 2


def test_floats_have_labels_of_their_own(fit):
    text = fit.summary().to_latex(caption="Model", label="tab:m")
    assert "\\label{tab:m}" in text
    assert "\\label{tab:m-2}" in text
    one = fit.summary().to_latex("Fixed effects", label="tab:m")
    assert one.count("\\label{") == one.count("\\label{tab:m}") == 1


# ---- arguments of emmeans ------------------------------------------------------------------------


def test_arguments_of_emmeans_are_answered(fit):
    with pytest.raises(TypeError, match=r"'cov_reduce': numbers are at their mean; at="):
        lmmfast.emmeans(fit, "c", cov_reduce="range")
    with pytest.raises(TypeError, match=r"'simple': write by="):
        lmmfast.emmeans(fit, "c").contrast("pairwise", simple="c")
    with pytest.raises(TypeError, match=r"'lmer_df': write ddf="):
        fit.emmeans("c", lmer_df="kenward-roger")
    with pytest.raises(TypeError, match=r"'contr': write contrasts="):
        lmmfast.emtrends(fit, "c", "x", contr="pairwise")


# ---- levels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["s{}\u200b", "s{} ", "s\u0301{}", "s{}\u00a0"])
def test_labels_that_differ_by_what_nobody_sees(other):
    right = "\u015b{}" if "\u0301" in other else "s{}"
    labels = [(other if i < 20 else right).format(i % 6) for i in range(N)]
    with pytest.warns(SimilarLevelsWarning, match="rows.* of 'who' are spelt alike") as caught:
        lmer("y ~ x + (1 | who)", DATA.assign(who=labels))
    said = str(caught[0].message)
    mended = said[said.index(".replace(") + 9 : said.index("})") + 1]
    found = pd.Series(labels).replace(eval(mended))
    assert found.nunique() == pd.Series(labels).nunique() - 1


@pytest.mark.parametrize("labels", [["a", "A", "B"], ["x2", "x\u00b2", "x"], ["é", "e", "è"]])
def test_labels_that_look_different(labels, recwarn):
    lmer("y ~ x + (1 | who)", DATA.assign(who=[labels[i % 3] for i in range(N)]))
    assert not [own for own in recwarn if own.category is SimilarLevelsWarning]


@pytest.mark.parametrize(
    ("was", "given", "said"),
    [
        (lambda g: g, "003", "the fit has 3 for '003'"),
        (lambda g: f"{g:03d}", 3, "the fit has '003' for '3'"),
        (lambda g: f"S{g}", "s3 ", "the fit has 'S3' for 's3 '"),
    ],
)
def test_levels_of_new_data_in_another_form(was, given, said):
    fit = lmer("y ~ x + (1 | g)", DATA.assign(g=DATA["g"].map(was)))
    with pytest.raises(DataError, match=said):
        fit.predict(pd.DataFrame({"x": [1.0], "g": [given]}))
    with pytest.raises(DataError, match="has not seen: 'new';"):
        fit.predict(pd.DataFrame({"x": [1.0], "g": ["new"]}))


def test_new_data_are_no_path(fit, tmp_path):
    with pytest.raises(DataError, match=r"a path, .*new\.csv', where a table is needed: pandas"):
        fit.predict(tmp_path / "new.csv")


def test_several_columns_are_no_groups():
    with pytest.raises(DataError, match=r"\(1 \| g\) \+ \(1 \| c\)"):
        lmmfast.mixedlm("y ~ x", DATA, groups=["g", "c"])
    labels = DATA["g"].astype(str).tolist()
    assert lmmfast.mixedlm("y ~ x", DATA, groups=labels).fit().model.n_groups == GROUPS


# ---- weights of means by their names -------------------------------------------------------------


def test_weights_of_means_go_by_name(fit):
    means = lmmfast.emmeans(fit, "c")
    wanted = means.contrast([[-1, 1, 0], [0, 1, -1]]).to_frame()[["estimate", "SE"]]
    by_name = {
        "dict": {"x": {"b": 1, "a": -1}, "y": {"c": -1, "b": 1}},
        "series": {"x": pd.Series({"b": 1, "a": -1}), "y": [0, 1, -1]},
        "words beside": {"x": {"b": 1, "a": -1}, "y": "b - c"},
        "columns": pd.DataFrame({"c": [0, -1], "b": [1, 1], "a": [-1, 0]}, index=["x", "y"]),
        "rows": pd.DataFrame({"x": [0, 1, -1], "y": [-1, 1, 0]}, index=["c", "b", "a"]),
    }
    for kind, weights in by_name.items():
        found = means.contrast(weights).to_frame()
        assert found["contrast"].tolist() == ["x", "y"], kind
        assert np.allclose(found[["estimate", "SE"]], wanted, atol=1e-12), kind
    with pytest.raises(ValueError, match="'z' is none of the means: a, b, c"):
        means.contrast({"x": {"a": 1, "z": -1}})


def test_a_file_is_no_bundled_data_set(tmp_path, capsys):
    from lmmfast import cli

    path = tmp_path / "trials.csv"
    DATA.to_csv(path)
    assert cli.main(["fit", "y ~ x + (1 | g)", "--data", str(path)]) == 2
    assert "give it without --data" in capsys.readouterr().err


# ---- values that carry labels --------------------------------------------------------------------


def test_values_of_a_picture_go_by_label(fit):
    shuffled = DATA["x"].sample(frac=1, random_state=4)
    found = lmmfast.plots.fitted_frame(fit, shuffled)
    assert found["x"].equals(lmmfast.plots.fitted_frame(fit, DATA["x"])["x"])
    with pytest.raises(DataError, match="its index is that of other rows"):
        lmmfast.plots.fitted_frame(fit, DATA["x"].set_axis(range(N, 2 * N)))


def test_columns_of_new_rows_go_by_name():
    X = pd.DataFrame({"one": 1.0, "x": DATA["x"]})
    terms = [(DATA["g"].to_numpy(), None)]
    fit = lmmfast.LMM.from_arrays(DATA["y"], X, terms, names=["one", "x"]).fit()
    Z = [(DATA["g"].to_numpy()[:3], None)]
    assert fit.predict(X=X[["x", "one"]][:3], Z=Z).equals(fit.predict(X=X[:3], Z=Z))


def test_standard_deviations_go_by_group(fit):
    with pytest.raises(ValueError, match="sd goes by grouping factors"):
        fit.simulate(params={"beta": {"x": 0}, "sd": 1.0, "sigma": 1})


def test_levels_that_files_cannot_hold(tmp_path):
    months = pd.period_range("2020-01", periods=GROUPS, freq="M")[DATA["g"]]
    fit = lmer("y ~ x + (1 | month)", DATA.assign(month=months))
    with pytest.raises(DataError, match=r"^a level of type Period .*use numbers, text, booleans"):
        fit.save(tmp_path / "m.lmm")
    assert not list(tmp_path.iterdir())
