"""Tests of linear hypotheses: against statsmodels' OLS and closed forms."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lmmfast.inference.linear import hypothesis
from lmmfast.inference.wald import t_test, wald_test

NAMES = ["Intercept", "time", "treatment[T.b]", "time:treatment[T.b]"]
BETA = np.array([2.0, -1.0, 0.5, 3.0])


def covariance(p, seed=1):
    root = np.random.default_rng(seed).normal(size=(p + 3, p))
    return root.T @ root / p


VCOV = covariance(4)


def unit(*columns, p=4):
    return np.eye(p)[list(columns)]


# ---- what users give ----------------------------------------------------------------------------


@pytest.mark.parametrize("given", [unit(1, 2), unit(1, 2).tolist(), unit(1, 2).astype(int)])
def test_array_rows_are_numbered(given):
    L, q, labels = hypothesis(given, NAMES)
    np.testing.assert_array_equal(L, unit(1, 2))
    assert L.dtype == float
    np.testing.assert_array_equal(q, [0, 0])
    assert labels == ("c0", "c1")


def test_one_dimension_is_one_row():
    L, _, labels = hypothesis([0, 1, 0, -1], NAMES)
    np.testing.assert_array_equal(L, [[0, 1, 0, -1]])
    assert labels == ("c0",)


@pytest.mark.parametrize("given", [np.eye(5), np.ones(3), 1.0, np.zeros((2, 4, 1)), []])
def test_wrong_columns(given):
    with pytest.raises(ValueError, match=r"r_matrix should have 4 columns.*Intercept, time"):
        hypothesis(given, NAMES, role="r_matrix")


def test_no_rows():
    with pytest.raises(ValueError, match="no rows"):
        hypothesis(np.zeros((0, 4)), NAMES)


@pytest.mark.parametrize("given", [[[1, 2], [3]], [[0, 0, 0, "x"]], np.ones(4) * 1j, object()])
def test_not_numbers(given):
    with pytest.raises(ValueError, match="must be numbers"):
        hypothesis(given, NAMES)


def test_missing_weights():
    with pytest.raises(ValueError, match="missing or infinite"):
        hypothesis([0, 1, np.nan, 0], NAMES)


def test_frames_are_aligned_by_name():
    frame = pd.DataFrame({"treatment[T.b]": [1, 0], "time": [0, 2]}, index=["diff", "slope"])
    L, _, labels = hypothesis(frame, NAMES)
    np.testing.assert_array_equal(L, [[0, 0, 1, 0], [0, 2, 0, 0]])
    assert labels == ("diff", "slope")
    _, _, labels = hypothesis(frame.reset_index(drop=True), NAMES)
    assert labels == ("c0", "c1")


def test_frames_without_names_are_arrays():
    L, _, _ = hypothesis(pd.DataFrame(np.eye(4)), NAMES)
    np.testing.assert_array_equal(L, np.eye(4))
    L, _, _ = hypothesis(pd.Series(BETA), NAMES)
    np.testing.assert_array_equal(L, [BETA])


def test_polars_frame():
    polars = pytest.importorskip("polars")
    L, _, labels = hypothesis(polars.DataFrame({"time": [1.0], "Intercept": [2.0]}), NAMES)
    np.testing.assert_array_equal(L, [[2, 1, 0, 0]])
    assert labels == ("c0",)


def test_series_are_aligned_by_name():
    series = pd.Series([1.0, -1.0], index=["time", "Intercept"], name="slope")
    L, _, labels = hypothesis(series, NAMES)
    np.testing.assert_array_equal(L, [[-1, 1, 0, 0]])
    assert labels == ("slope",)


def test_dicts_are_weights():
    L, q, labels = hypothesis({"time": 2, "Intercept": -1}, NAMES)
    np.testing.assert_array_equal(L, [[-1, 2, 0, 0]])
    assert q == [0]
    assert labels == ("2*time - Intercept",)


def test_lists_may_mix():
    L, q, labels = hypothesis([{"time": 1}, "time = 3, Intercept", [0, 0, 0, 1]], NAMES)
    np.testing.assert_array_equal(L, unit(1, 1, 0, 3))
    np.testing.assert_array_equal(q, [0, 3, 0, 0])
    assert labels == ("time", "time = 3", "Intercept", "c3")


@pytest.mark.parametrize(
    "given",
    [{"tmie": 1}, pd.Series({"tmie": 1}), pd.DataFrame({"tmie": [1]}), "tmie = 0", "2*tmie"],
)
def test_unknown_names(given):
    with pytest.raises(
        ValueError, match="L names 'tmie', which is not a coefficient; did you mean"
    ):
        hypothesis(given, NAMES)


def test_a_dict_has_one_weight_per_name():
    with pytest.raises(ValueError, match="one weight per name"):
        hypothesis({"time": [1, 2]}, NAMES)


@pytest.mark.parametrize("q, expected", [(2, [2, 2]), ([1, 2], [1, 2]), ([[1], [2]], [1, 2])])
def test_right_hand_sides(q, expected):
    L, values, labels = hypothesis((unit(1, 2), q), NAMES)
    np.testing.assert_array_equal(L, unit(1, 2))
    np.testing.assert_array_equal(values, expected)
    assert labels == ("c0", "c1")


def test_right_hand_sides_of_another_length():
    with pytest.raises(ValueError, match=r"has 3 values for 1 row$"):
        hypothesis(({"time": 1}, [1, 2, 3]), NAMES)


@pytest.mark.parametrize("given", [(1, 0, 0, 0), (), ("time", 3)])
def test_other_tuples(given):
    with pytest.raises(ValueError, match=r"a tuple is \(L, q\)"):
        hypothesis(given, NAMES)


# ---- text ---------------------------------------------------------------------------------------

ODD = [
    "Intercept",
    "x",
    "x:z",
    "C(x)[T.b]",
    "np.log(x)",
    "I(x ** 2)",
    "a b",
    "a b - x",
    "x.1",
    "y=z",
]


@pytest.mark.parametrize(
    "text, weights, q",
    [
        ("time = 0", [[0, 1, 0, 0]], [0]),
        ("time", [[0, 1, 0, 0]], [0]),
        ("  time==1 ", [[0, 1, 0, 0]], [1]),
        ("1 = time", [[0, -1, 0, 0]], [-1]),
        ("time - treatment[T.b] = 0, 2*time = 1", [[0, 1, -1, 0], [0, 2, 0, 0]], [0, 1]),
        ("Intercept = time = 0", [[1, -1, 0, 0], [0, 1, 0, 0]], [0, 0]),
        ("Intercept + 3*time", [[1, 3, 0, 0]], [0]),
        ("Intercept + 3", [[1, 0, 0, 0]], [-3]),
        ("time:treatment[T.b]=-1.5e-1", [[0, 0, 0, 1]], [-0.15]),
        ("-(time - 2*Intercept)*2/4 + .5", [[1, -0.5, 0, 0]], [-0.5]),
        ("(Intercept) - -time", [[1, 1, 0, 0]], [0]),
        ("2*3*time/6 - 1 = 2 + time - Intercept", [[1, 0, 0, 0]], [3]),
    ],
)
def test_text(text, weights, q):
    L, values, _ = hypothesis(text, NAMES)
    np.testing.assert_allclose(L, weights, rtol=1e-15)
    np.testing.assert_allclose(values, q, rtol=1e-15)


def test_labels_of_text():
    _, _, labels = hypothesis("Intercept  = time=0,2*time", NAMES)
    assert labels == ("Intercept = time", "time = 0", "2*time")


def test_every_odd_name_is_read():
    for j, name in enumerate(ODD):
        L, _, _ = hypothesis(f"2*{name} = 1", ODD)
        np.testing.assert_array_equal(L, 2 * unit(j, p=len(ODD)))
        L, _, _ = hypothesis(f"x/2 + ({name})", ODD)
        np.testing.assert_array_equal(L[0], unit(j, p=len(ODD))[0] + unit(1, p=len(ODD))[0] / 2)


def test_names_end_where_words_end():
    L, _, _ = hypothesis("ab - a", ["a", "ab"])
    np.testing.assert_array_equal(L, [[-1, 1]])
    for text, name in [
        ("abc", "abc"),
        ("a:b", "a:b"),
        ("a[T.x]", r"a\[T.x\]"),
        ("f(a)", r"f\(a\)"),
    ]:
        with pytest.raises(ValueError, match=f"names '{name}'"):
            hypothesis(text, ["a", "ab"])


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "at its end: expected a coefficient"),
        ("time = ", "at its end: expected a coefficient"),
        ("time,", "at its end: expected a coefficient"),
        ("time Intercept", "at 'Intercept': expected an operator"),
        ("2 time", "at 'time': expected an operator"),
        ("(time", r"at its end: expected '\)'"),
        ("time * Intercept", "multiplies coefficients"),
        ("1 / time", "divides by a coefficient"),
        ("time / 0", "divides by zero"),
        ("1 = 2", "no coefficient is left in '1 = 2'"),
        ("time = time", "no coefficient is left"),
        ("time > 0", "names '>', which is not a coefficient"),
        ("time ** 2", "expected a coefficient"),
        ("2time", "names '2time'"),
    ],
)
def test_text_that_cannot_be_read(text, message):
    with pytest.raises(ValueError, match=message):
        hypothesis(text, NAMES)


def test_same_rows_as_patsy():
    patsy = pytest.importorskip("patsy")
    for text in ["time = Intercept = 2", "2*(time - 1) = Intercept/4, treatment[T.b]", "-time + 1"]:
        expected = patsy.DesignInfo(NAMES).linear_constraint(text)
        L, q, _ = hypothesis(text, NAMES)
        np.testing.assert_array_equal(L, expected.coefs)
        np.testing.assert_array_equal(q, expected.constants.ravel())


# ---- statsmodels --------------------------------------------------------------------------------

HYPOTHESES = [
    "x1 = 0",
    "x1 - x2 = 0.5, 2*x3 = 1",
    "x1 = x2 = x3 = 0",
    np.array([[0.0, 1, 1, 1], [1, 0, 0, -1]]),
    (np.array([[0.0, 1, 1, 1], [1, 0, 0, -1]]), [0.3, 0.1]),
]


@pytest.fixture(scope="module")
def ols():
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(5)
    X = pd.DataFrame(rng.normal(size=(25, 4)), columns=["const", "x1", "x2", "x3"])
    X["const"] = 1.0
    y = X @ [1.0, 0.5, 0.0, -0.3] + rng.normal(size=25)
    return sm.OLS(y, X).fit()


@pytest.mark.parametrize("given", HYPOTHESES)
@pytest.mark.parametrize("use_t", [True, False])
def test_t_test_of_statsmodels(ols, given, use_t):
    expected = ols.t_test(given, use_t=use_t)
    L, q, labels = hypothesis(given, list(ols.params.index))
    df = ols.df_resid if use_t else None
    test = t_test(L, q, labels, ols.params.to_numpy(), ols.cov_params().to_numpy(), df)
    for name in ("effect", "sd", "tvalue", "statistic", "pvalue"):
        np.testing.assert_allclose(
            getattr(test, name), np.ravel(getattr(expected, name)), rtol=1e-10
        )
    np.testing.assert_allclose(test.conf_int(), expected.conf_int(), rtol=1e-10)
    np.testing.assert_allclose(test.conf_int(0.2), expected.conf_int(0.2), rtol=1e-10)
    assert test.distribution == expected.distribution.replace("normal", "norm")
    ours, theirs = test.summary_frame(), expected.summary_frame()
    assert list(ours.columns) == [*theirs.columns, *(["df"] if use_t else [])]
    np.testing.assert_allclose(ours[list(theirs.columns)], theirs, rtol=1e-10)


@pytest.mark.parametrize("given", HYPOTHESES)
def test_joint_tests_of_statsmodels(ols, given):
    L, q, _ = hypothesis(given, list(ols.params.index))
    beta, vcov = ols.params.to_numpy(), ols.cov_params().to_numpy()
    expected = ols.f_test(given)
    test = wald_test(L, q, beta, vcov, ols.df_resid)
    assert test.distribution == expected.distribution == "F"
    for name in ("fvalue", "statistic", "pvalue", "df_num", "df_denom"):
        np.testing.assert_allclose(getattr(test, name), getattr(expected, name), rtol=1e-9)
    expected = ols.wald_test(given, use_f=False, scalar=True)
    test = wald_test(L, q, beta, vcov)
    assert test.distribution == expected.distribution == "chi2"
    np.testing.assert_allclose(test.statistic, expected.statistic, rtol=1e-9)
    np.testing.assert_allclose(test.pvalue, expected.pvalue, rtol=1e-9)
    assert test.df_num == expected.df_denom  # statsmodels has the rank there
    assert np.isinf(test.df_denom)


# ---- closed forms -------------------------------------------------------------------------------


def single(given, beta=BETA, vcov=VCOV, **options):
    return t_test(*hypothesis(given, NAMES), beta, vcov, **options)


def jointly(given, beta=BETA, vcov=VCOV, **options):
    L, q, _ = hypothesis(given, NAMES)
    return wald_test(L, q, beta, vcov, **options)


def test_each_row_has_its_df():
    test = single("time = 1, Intercept", df=[3.5, np.inf], method="Satterthwaite")
    sd = np.sqrt(np.diag(VCOV))[[1, 0]]
    t = (BETA[[1, 0]] - [1, 0]) / sd
    np.testing.assert_allclose(test.tvalue, t)
    np.testing.assert_allclose(
        test.pvalue, [2 * stats.t.sf(abs(t[0]), 3.5), 2 * stats.norm.sf(abs(t[1]))]
    )
    half = sd * [stats.t.ppf(0.975, 3.5), stats.norm.ppf(0.975)]
    np.testing.assert_allclose(test.conf_int()[:, 1] - test.effect, half, rtol=1e-9)
    np.testing.assert_array_equal(test.df, [3.5, np.inf])
    assert test.zvalue is test.tvalue
    assert (test.distribution, test.method) == ("t", "Satterthwaite")


def test_without_df_it_is_z():
    test = single(np.eye(4))
    np.testing.assert_allclose(test.pvalue, 2 * stats.norm.sf(np.abs(test.statistic)))
    assert np.all(np.isinf(test.df_denom))
    assert (test.distribution, test.method) == ("norm", "z")


def test_df_of_another_length():
    with pytest.raises(ValueError, match="df has 2 values for 4 rows"):
        single(np.eye(4), df=[1, 2])


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 95])
def test_alpha(alpha):
    with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
        single("time").conf_int(alpha)


def test_joint_test_in_closed_form():
    test = jointly(unit(1, 3), df_denom=7.5, method="Kenward-Roger", scale=0.9)
    b = BETA[[1, 3]]
    f = 0.9 * b @ np.linalg.solve(VCOV[np.ix_([1, 3], [1, 3])], b) / 2
    assert test.fvalue == pytest.approx(f)
    assert test.pvalue == pytest.approx(stats.f.sf(f, 2, 7.5))
    assert (test.df_num, test.df_denom, test.method) == (2, 7.5, "Kenward-Roger")


def test_one_row_is_t_squared():
    alone, joint = single("time = 2*Intercept", df=9), jointly("time = 2*Intercept", df_denom=9)
    assert joint.fvalue == pytest.approx(alone.tvalue[0] ** 2)
    assert joint.pvalue == pytest.approx(alone.pvalue[0])


def test_infinite_df_is_chi_squared():
    f, chi2 = jointly(unit(0, 1), df_denom=np.inf), jointly(unit(0, 1))
    assert f.pvalue == pytest.approx(chi2.pvalue)
    assert f.fvalue == pytest.approx(chi2.fvalue)
    assert chi2.statistic == pytest.approx(2 * f.statistic)


def test_dependent_rows_count_once():
    reduced = jointly("Intercept = 1, time = 2", df_denom=5)
    more = jointly("Intercept = 1, time = 2, Intercept - time/3 = 1/3, 1e6*time = 2e6", df_denom=5)
    assert more.df_num == 2
    assert more.fvalue == pytest.approx(reduced.fvalue)
    assert more.pvalue == pytest.approx(reduced.pvalue)


def test_rounded_zeros_do_not_count():
    L = np.array([[0, 1, -1, 0], [0, 1e-17, 0, 0], [0.0, 0, 0, 0]])
    assert jointly(L).df_num == 1


def test_units_do_not_change_the_rank():
    units = np.array([1.0, 1e-9, 1e9, 1e4])
    L = np.array([[1.0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]])
    expected = wald_test(L, np.ones(3), BETA, VCOV)
    test = wald_test(L / units, np.ones(3), BETA * units, VCOV * units * units[:, None])
    assert test.df_num == 3
    assert test.statistic == pytest.approx(expected.statistic, rel=1e-8)


@pytest.mark.parametrize("text", ["time = 1, time = 2", "time = 1, 2*time = 1, Intercept"])
def test_contradictions(text):
    with pytest.raises(ValueError, match="contradict"):
        jointly(text)


def test_rows_that_nearly_depend_are_two():
    """By less than what rounding adds they would be one."""
    for angle, rank in ((1e-3, 2), (1e-6, 2), (1e-13, 1)):
        rows = np.array([[0, 1, 0, 0], [0, np.cos(angle), np.sin(angle), 0]])
        test = jointly(rows, vcov=np.eye(4))
        assert test.df_num == rank
        wanted = BETA[1] ** 2 + (BETA[2] ** 2 if rank == 2 else 0)
        assert test.statistic == pytest.approx(wanted, rel=1e-5)


def test_zero_rows():
    with pytest.raises(ValueError, match="nothing to test"):
        jointly(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="contradict"):
        jointly(([[0, 0, 0, 0], [1, 0, 0, 0]], [1, 0]))


def test_singular_covariance():
    with pytest.raises(ValueError, match="singular"):
        jointly(unit(0, 1), vcov=np.ones((4, 4)))


@pytest.mark.parametrize("df_denom", [8, 8.0, np.array(8.0), np.array([[8.0]])])
def test_df_denom_of_any_kind(df_denom):
    test = jointly(unit(0), df_denom=df_denom)
    assert type(test.df_denom) is float
    assert np.asarray(test.df_denom) == 8


# ---- dropped columns ----------------------------------------------------------------------------


@pytest.fixture
def dropped():
    """Estimates without the third coefficient."""
    beta, vcov = BETA.copy(), VCOV.copy()
    beta[2] = vcov[2, :] = vcov[:, 2] = np.nan
    return {"beta": beta, "vcov": vcov}


def test_rows_without_weight_ignore_dropped_columns(dropped):
    test = single("time, time - treatment[T.b], Intercept - time", df=9, **dropped)
    whole = single("time, time, Intercept - time", df=9)
    for name in ("effect", "sd", "statistic", "pvalue"):
        ours, expected = getattr(test, name), getattr(whole, name)
        assert np.isnan(ours[1])
        np.testing.assert_allclose(ours[[0, 2]], expected[[0, 2]])
    assert np.isnan(test.conf_int()[1]).all()
    assert list(test.summary_frame().index) == ["time", "time - treatment[T.b]", "Intercept - time"]
    assert "NA, weight on a dropped column: time - treatment[T.b]" in str(test)


def test_joint_tests_with_dropped_columns(dropped):
    test, whole = jointly(unit(0, 3), df_denom=9, **dropped), jointly(unit(0, 3), df_denom=9)
    assert test.fvalue == pytest.approx(whole.fvalue)
    test = jointly(unit(0, 2), df_denom=9, **dropped)
    assert np.isnan(test.fvalue) and np.isnan(test.pvalue)
    assert "NA: a contrast has weight on a dropped column" in str(test)


# ---- on paper -----------------------------------------------------------------------------------

DIAGONAL = np.diag([0.25, 0.04, 1.0, 1.0])

T_SUMMARY = """\
Tests of linear hypotheses:
               Estimate  Std. Error  t value  Pr(>|t|)   [0.025   0.975]     df  Null
Intercept        2.0000      0.5000    4.000    0.0010   0.9396   3.0604  15.92     0
2*time = -2.5   -2.0000      0.4000    1.250    0.3377  -3.7211  -0.2789   2.00  -2.5
p-values: t, Satterthwaite degrees of freedom"""

F_SUMMARY = """\
Joint test of linear hypotheses:
F value  NumDF  DenDF    Pr(>F)
 20.500      2   9.50  3.58e-04
p-value: F, Kenward-Roger degrees of freedom"""

CHI2_SUMMARY = """\
Joint test of linear hypotheses:
 Chisq  Df  Pr(>Chisq)
41.000   2    1.25e-09
p-value: chi-squared (normal approximation)"""


def test_t_on_paper():
    test = single("Intercept, 2*time = -2.5", vcov=DIAGONAL, df=[15.92, 2], method="Satterthwaite")
    assert str(test) == repr(test) == str(test.summary()) == T_SUMMARY
    html = test._repr_html_()
    assert "<th>2*time = -2.5</th>" in html and "Satterthwaite" in html


def test_z_on_paper():
    text = str(single(unit(0), vcov=DIAGONAL).summary(["mean"], alpha=0.1))
    assert "z value  Pr(>|z|)   [0.05   0.95]" in text
    assert text.splitlines()[2].startswith("mean")
    assert "df" not in text and "Null" not in text


def test_names_of_rows():
    test = single(unit(0, 1))
    assert list(test.summary_frame(["a", "b"], 0.1).index) == ["a", "b"]
    with pytest.raises(ValueError, match="1 names for 2 rows"):
        test.summary(["a"])


def test_joint_tests_on_paper():
    f = jointly(unit(0, 1), vcov=DIAGONAL, df_denom=9.5, method="Kenward-Roger")
    assert str(f) == repr(f) == F_SUMMARY
    chi2 = jointly(unit(0, 1), vcov=DIAGONAL)
    assert str(chi2) == CHI2_SUMMARY
    assert "<td>41.000</td>" in chi2._repr_html_()


def test_joint_tests_as_tables():
    f = jointly(unit(0, 1), vcov=DIAGONAL, df_denom=9.5).summary_frame()
    assert list(f.columns) == ["F", "P>F", "df constraint", "df denom"]
    assert f.loc["joint", "F"] == pytest.approx(20.5)
    chi2 = jointly(unit(0, 1), vcov=DIAGONAL).summary_frame()
    assert list(chi2.columns) == ["chi2", "P>chi2", "df constraint"]


def test_tests_do_not_import_scipy_stats():
    """It takes a second, longer than most fits."""
    calls = ["from lmmfast.inference import wald", "lmmfast.simplify(fit)", "lmmfast.ranova(fit)"]
    code = (
        "import sys, lmmfast; data = lmmfast.datasets.load('sleepstudy')\n"
        "fit = lmmfast.lmer('Reaction ~ Days + (1 | Subject)', data)\n"
        f"for call in {calls}:\n"
        "    exec(call)\n"
        "    if 'scipy.stats' in sys.modules:\n"
        "        sys.exit(call)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
