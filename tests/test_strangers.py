"""What strangers reported of other packages, and what of it had not held here."""

from __future__ import annotations

import os
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import lmmfast
from lmmfast import (
    Adjacency,
    DataError,
    FitError,
    FormulaError,
    IdentifiabilityWarning,
    LmmWarning,
    Pedigree,
    SeparationWarning,
    glmer,
    lmer,
    mmrm,
)
from lmmfast.engine.families import find_family
from lmmfast.errors import SpacingWarning
from lmmfast.formula.tree import quoted, unquoted

UNITS = [  # family, link, the power of the response's unit that is the predictor's
    ("gamma", "log", 0),
    ("gamma", "inverse", -1),
    ("gamma", "identity", 1),
    ("inversegaussian", "log", 0),
    ("inversegaussian", "inversesquared", -2),
    ("gaussian", "identity", 1),
    ("gaussian", "log", 0),
]


def drawn(seed: int = 1, sd: float = 0.1, rows: int = 10) -> pd.DataFrame:
    """20 groups; y is positive, k a count with less variance than a Poisson's."""
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(20), rows), rng.normal(size=20 * rows)
    mean = np.exp(0.2 * x + sd * rng.normal(size=20)[g])
    y = mean * rng.gamma(6, 1 / 6, len(x))
    return pd.DataFrame({"g": g, "x": x, "y": y, "k": rng.binomial(10, 0.5, len(x))})


def trial(seed: int = 5, subjects: int = 40) -> pd.DataFrame:
    """Four visits of each subject, in weeks 1, 2, 10 and 4."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(0.5 + 0.5 * np.eye(4))
    return pd.DataFrame(
        {
            "id": np.repeat([f"p{i:02d}" for i in range(subjects)], 4),
            "week": np.tile([1, 2, 10, 4], subjects),
            "visit": np.tile(["W1", "W2", "W10", "W4"], subjects),
            "arm": np.repeat(rng.choice(["pbo", "trt"], subjects), 4),
            "y": (rng.normal(size=(subjects, 4)) @ root.T).ravel(),
        }
    )


# ---- units of the response -----------------------------------------------------------------------


@pytest.mark.parametrize(("family", "link", "power"), UNITS)
@pytest.mark.parametrize("sd", [0.02, 0.4])
def test_generalized_fits_do_not_depend_on_the_unit(family, link, power, sd) -> None:
    """Estimates of a response in another unit are the same in that one, variances next to zero
    among them; log densities differ by the logarithm of the unit."""
    data = drawn(sd=sd)
    one = glmer("y ~ x + (1 | g)", data, family, link)
    for unit in (1e-5, 1e-2, 1e3) if power in (0, 1) else (1e-3, 1e-1, 1e3):
        other = glmer("y ~ x + (1 | g)", data.assign(y=data["y"] * unit), family, link)
        assert other.converged
        shift = 2 * len(data) * np.log(unit)
        assert_allclose(other.objective - shift, one.objective, atol=2e-6)
        assert_allclose(other.theta / unit**power, one.theta, rtol=1e-3, atol=1e-4)
        assert other.is_singular == one.is_singular


def test_units_that_a_link_cannot_have_are_refused() -> None:
    data = drawn()
    far = data.assign(y=data["y"] * 1e12)
    with pytest.raises(FitError, match=r"'y' .* link 'inverse' .* divided by 1e12, or write link="):
        glmer("y ~ x + (1 | g)", far, "gamma")
    assert glmer("y ~ x + (1 | g)", far, "gamma", "log").converged
    with pytest.raises(DataError, match=r"values of 'x' \(up to .*e\+200\) are too large"):
        glmer("y ~ x + (1 | g)", data.assign(x=data["x"] * 1e200), "gamma", "log")


def test_predictors_of_mmrm_beyond_floating_point_are_refused() -> None:
    data = trial().assign(x=lambda own: own["week"] * 1e200)
    with pytest.raises(DataError, match=r"values of 'x' .* too large"):
        mmrm("y ~ x + cs(visit | id)", data)
    with pytest.raises(DataError, match=r"values of 'y' .* too small"):
        mmrm("y ~ arm + cs(visit | id)", data.assign(y=data["y"] * 1e-200))


# ---- families at their limit ---------------------------------------------------------------------

LIMITS = [
    ("negativebinomial", "k", "poisson", "size", "infinity"),
    ("nb1", "k", "poisson", "dispersion", "zero"),
    ("truncatednegativebinomial", "k + 1", "truncatedpoisson", "size", "infinity"),
    ("betabinomial", "cbind(5, 4)", "binomial", "precision", "infinity"),
]


@pytest.mark.parametrize(("family", "response", "other", "name", "where"), LIMITS)
def test_a_family_at_its_limit_is_the_other_one(family, response, other, name, where) -> None:
    """Without more variance than a Poisson model's a size is infinite: standard errors are those of
    the Poisson model, and the summary says so."""
    data = drawn().assign(five=5, four=4)
    text = f"{response.replace('5', 'five').replace('4', 'four')} ~ x + (1 | g)"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit, plain = glmer(text, data, family), glmer(text, data, other)
        said = " ".join(str(fit.summary()).split())
        assert_allclose(fit.bse, plain.bse, rtol=1e-5)
    assert_allclose(fit.objective, plain.objective, atol=1e-5)
    assert f"The {name} has gone to {where}" in said
    assert fit.extra_se.isna().all()


def test_the_profile_of_an_infinite_size_has_its_lower_end() -> None:
    fit = glmer("k ~ x + (1 | g)", drawn(), "nb")
    lower, upper = fit.conf_int(method="profile", parameters="all").loc["size"]
    assert upper == np.inf
    held = [glmer("k ~ x + (1 | g)", drawn(), fixed_size(size)).objective for size in (lower,)]
    assert_allclose(held[0] - fit.objective, 3.841459, atol=0.01)


def fixed_size(size: float) -> lmmfast.CustomFamily:
    """The negative binomial family of a known size."""
    from scipy.special import gammaln

    class Fixed(lmmfast.CustomFamily):
        name = "nb of a known size"
        links = ("log",)
        response = "count"
        discrete = True

        def log_density(self, y, eta, x=None, weights=None):
            mean = np.exp(eta)
            total = gammaln(y + size) - gammaln(size) - gammaln(y + 1) + size * np.log(size)
            return total + y * eta - (y + size) * np.log(mean + size)

    return Fixed()


@pytest.mark.parametrize(
    ("family", "other", "sign"),
    [("nb", "poisson", 1), ("nb1", "poisson", -1), ("betabinomial", "binomial", 1)],
)
def test_densities_near_the_limit_keep_their_digits(family, other, sign) -> None:
    """They differ from the limit's by a term in 1 / size, however large that is."""
    one, two = find_family(family), find_family(other)
    y, eta, trials = np.arange(20.0), np.full(20, 0.4), np.full(20, 20.0)
    given = trials if other == "binomial" else None
    limit = two.log_density(y, eta, None, given)
    apart = [
        (one.log_density(y, eta, np.array([sign * x]), given) - limit) * np.exp(x)
        for x in (12.0, 18.0)
    ]
    assert_allclose(apart[0], apart[1], atol=0.02 * np.abs(apart[0]).max())
    end = one.log_density(y, eta, np.array([sign * 700.0]), given)
    assert_allclose(end, limit, atol=1e-12)


# ---- separation by levels ------------------------------------------------------------------------


def heard_of(fit) -> list[str]:
    """What warnings of separation say; others, of a search without an end, may come, too."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        fit()
    return [str(own.message) for own in heard if issubclass(own.category, SeparationWarning)]


def test_levels_whose_response_does_not_vary_are_told() -> None:
    data = drawn().assign(hit=lambda own: own["g"] < 9, trials=4)
    heard = heard_of(lambda: glmer("hit ~ x + (1 | g)", data))
    assert "each of the 20 levels of 'g'" in heard[0]
    assert "variance of (1 | g)" in heard[0]
    grades = data.assign(hit=pd.cut(data["g"], [-1, 5, 12, 30], labels=list("abc")))
    heard = heard_of(lambda: glmer("hit ~ x + (1 | g)", grades, "ordered"))
    assert "'hit' is the same in all rows of a level" in heard[0]
    mixed = data.assign(hit=data["hit"] ^ (np.arange(len(data)) % 7 == 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        glmer("hit ~ x + (1 | g)", mixed)


# ---- visits --------------------------------------------------------------------------------------


def test_orders_and_steps_of_visits_are_told() -> None:
    data = trial()
    for structure in ("ar1", "toep", "adh"):
        with pytest.warns(SpacingWarning, match="in this order, W1, W10, W2, W4"):
            mmrm(f"y ~ arm + {structure}(visit | id)", data)
    with pytest.warns(SpacingWarning, match=r"1, 2, 4, 10 as equally spaced; sp_exp\(times \| id"):
        mmrm("y ~ arm + ar1(week | id)", data)
    with pytest.warns(SpacingWarning, match="in this order, W1, W10"):
        lmer("y ~ arm + (1 | id)", data, residual="ar1(visit | id)")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mmrm("y ~ arm + us(visit | id)", data)
        mmrm("y ~ arm + adh(week | id)", data)  # each pair of neighbours has its correlation


def test_visits_that_nobody_had_are_told() -> None:
    """Neighbours of ar1 are those with rows: a declared visit between them does not count."""
    data = trial()
    data["visit"] = pd.Categorical(data["visit"], ["W1", "W2", "W3", "W4", "W10"])
    data["visit"] = data["visit"].cat.rename_categories(list("abcde"))
    with pytest.warns(SpacingWarning, match="no row has 'c' of 'visit'"):
        mmrm("y ~ arm + ar1(visit | id)", data)
    with pytest.warns(SpacingWarning, match="before and after 'c', which no row has"):
        lmer("y ~ arm + (1 | id)", data, residual="ar1(visit | id)")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mmrm("y ~ arm + cs(visit | id)", data)


def test_pairs_of_visits_that_nobody_had_both_of() -> None:
    """Their correlation is a direction without curvature: the rest has degrees of freedom."""
    data = trial()
    half = data["id"] < "p20"
    data = data[np.where(half, data["week"] < 4, data["week"] >= 4)]
    with pytest.warns(IdentifiabilityWarning, match="no subject has both W1 and W10"):
        fit = mmrm("y ~ arm + us(visit | id)", data)
    assert np.isfinite(fit.coef_test().to_frame().to_numpy(float)).all()
    assert "Not identified" in str(fit.summary())


def test_what_stands_beside_the_covariance_term_is_refused() -> None:
    data = trial()
    with pytest.raises(FormulaError, match="random effects are for lmer"):
        mmrm("y ~ arm + us(visit | id) + (1 | id)", data)
    with pytest.raises(FormulaError, match=r"un\(\) is not known: write us\(\)"):
        mmrm("y ~ arm + un(visit | id)", data)
    with pytest.raises(TypeError, match='write ddf="kenward-roger"'):
        mmrm("y ~ arm + us(visit | id)", data, method="Kenward-Roger")
    with pytest.raises(DataError, match="only one visit, 'W1', in 'visit'"):
        mmrm("y ~ arm + us(visit | id)", data[data["week"] == 1])


@pytest.mark.filterwarnings("ignore::lmmfast.errors.SpacingWarning")
def test_times_that_are_no_visits_are_refused() -> None:
    """Structures with a parameter for each time would be searched for hours."""
    rng = np.random.default_rng(1)
    data = trial().assign(time=lambda own: own["week"] + rng.uniform(0, 0.3, len(own)))
    with pytest.raises(FitError, match=r"toep.*160 parameters.*160 rows.*sp_exp\(time \| id\)"):
        mmrm("y ~ arm + toep(time | id)", data)
    assert mmrm("y ~ arm + sp_exp(time | id)", data).converged


def test_rows_of_one_time_are_named() -> None:
    data = pd.concat([trial(), trial().iloc[[5]]])
    with pytest.raises(DataError, match="level 'p01' of 'id' has two rows at one 'week'"):
        lmer("y ~ arm + (1 | id)", data, residual="car1(week | id)")


def test_updates_of_repeated_measures_by_parts() -> None:
    fit = mmrm("y ~ arm * visit + us(visit | id)", trial())
    assert fit.update(". ~ . - arm:visit").formula == "y ~ arm + visit + us(visit | id)"
    assert fit.update(". ~ . + cs(visit | id)").formula == "y ~ arm * visit + cs(visit | id)"
    change = "log(y + 9) ~ . - us(visit | id) + csh(visit | id)"
    assert fit.update(change).formula == "log(y + 9) ~ arm * visit + csh(visit | id)"
    with pytest.raises(FormulaError, match="leaves no covariance term"):
        fit.update("y ~ arm")


# ---- names ---------------------------------------------------------------------------------------

NAMES = ["lambda", "a`b", "a\\b", "`", "..1", "x y", "else", "a:b`c", "a'b", "été"]


@pytest.mark.parametrize("name", NAMES)
def test_columns_of_any_name(name: str, tmp_path) -> None:
    """In the place of a predictor, a group, a visit, in saved fits and updates."""
    data, term = trial().assign(x=lambda own: own["week"] / 10), quoted(name)
    assert unquoted(term) == name
    by_name = lmer(f"y ~ arm + {term} + (1 | id)", data.rename(columns={"x": name}))
    assert by_name.objective == lmer("y ~ arm + x + (1 | id)", data).objective
    path = tmp_path / "fit.lmm"
    by_name.save(path)
    new = data.rename(columns={"x": name}).head(3)
    assert_allclose(lmmfast.load(path).predict(new), by_name.predict(new))
    assert by_name.update(f". ~ . - {term}").params.index.tolist() == ["Intercept", "arm[T.trt]"]
    renamed = data.rename(columns={"visit": name})
    assert mmrm(f"y ~ arm + us({term} | id)", renamed).objective == pytest.approx(
        mmrm("y ~ arm + us(visit | id)", data).objective, abs=1e-9
    )
    grouped = data.rename(columns={"id": name})
    assert list(lmer(f"y ~ arm + (1 | {term})", grouped).ranef()) == [name]


def test_characters_of_word_processors_are_named() -> None:
    written = "y ~ arm + (1 | id)"
    for one, other in (("~", "\u223c"), ("|", "\u2223"), ("+", "\u2212"), ("(", "\uff08")):
        with pytest.raises(FormulaError, match=f"U\\+{ord(other):04X}\\) only looks like"):
            lmer(written.replace(one, other), trial())


def test_powers_of_a_variable_are_told() -> None:
    """A term is crossed with itself by x^2, as in R: who wants squares writes I(x^2)."""
    with pytest.warns(LmmWarning, match=r"week\^2 among terms is week .* I\(week\^2\)"):
        fit = lmer("y ~ week^2 + (1 | id)", trial())
    assert fit.params.index.tolist() == ["Intercept", "week"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lmer("y ~ (arm + week)^2 + I(week^2) + (1 | id)", trial())


def test_columns_of_cbind_that_are_the_same_variable() -> None:
    data = trial().assign(five=5)
    fit = glmer("cbind(five, five) ~ arm + (1 | id)", data)
    assert_allclose(fit.params, 0, atol=1e-9)


def test_a_name_is_shown_as_it_is_written() -> None:
    data = trial().rename(columns={"week": "a\\b"})
    with pytest.raises(FormulaError, match=r"in backticks: `a\\\\b`"):
        lmer("y ~ ab + (1 | id)", data)


# ---- pedigrees and neighbours --------------------------------------------------------------------


@pytest.mark.parametrize("unknown", ["NA", ".", "*", "nan", "None", "<NA>", -1, -9, 0, ""])
def test_unknown_parents_as_tables_have_them(unknown) -> None:
    ids, sires, dams = ["a", "b", "c", "d"], [None, None, "a", "a"], [None, None, "b", None]
    plain = Pedigree(ids, sires, dams)
    given = [[unknown if own is None else own for own in own] for own in (sires, dams)]
    found = Pedigree(ids, *given)
    assert found.levels.tolist() == plain.levels.tolist()
    assert_allclose(found.relationship(), plain.relationship())
    named = Pedigree([unknown or "", "b"], [None, unknown or ""], [None, None]) if unknown else None
    assert named is None or named.sire.tolist() == [-1, 0]  # an animal of this name


def test_parents_of_another_type_are_no_new_founders() -> None:
    with pytest.raises(DataError, match="1 among the parents is of type int, and '1' among"):
        Pedigree(["1", "2"], [None, 1], [None, None])
    with pytest.raises(DataError, match="sire of a pedigree must be one column"):
        Pedigree(["a"], None, ["b"])


def test_islands_are_told_what_to_do() -> None:
    W = np.diag([1.0, 0, 0], 1) + np.diag([1.0, 0, 0], -1)
    with pytest.raises(DataError, match=r"row 2 has no neighbours \(and 1 more\).*leroux"):
        Adjacency(W, 0.5)


# ---- processes and tables ------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes of this kind")
def test_models_of_repeated_measures_live_in_forked_processes() -> None:
    """Their locks are new there, and those of the other models too."""
    fits = [
        mmrm("y ~ arm + us(visit | id)", trial()),
        lmer("y ~ arm + (1 | id)", trial()),
        mmrm("y ~ arm + cs(visit | id)", trial()),
    ]
    before = [fit.model._lock for fit in fits]
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            ok = all(fit.model._lock is not old for fit, old in zip(fits, before, strict=True))
            again = [fit.refit(trial(6)["y"]).objective for fit in fits]
            os.write(write, b"1" if ok and np.isfinite(again).all() else b"0")
        finally:
            os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"1"
    os.waitpid(child, 0)
    os.close(read)
    assert pickle.loads(pickle.dumps(fits[0])).objective == fits[0].objective


def test_a_response_of_true_and_false() -> None:
    data = trial().assign(up=lambda own: own["y"] > 0)
    with pytest.raises(DataError, match=r"True and False: as.numeric\(up\) for 1 and 0"):
        lmer("up ~ arm + (1 | id)", data)
    assert lmer("as.numeric(up) ~ arm + (1 | id)", data).converged


def test_what_is_no_frame_is_told_so() -> None:
    with pytest.raises(DataError, match="DataFrameGroupBy: give the data frame"):
        lmer("y ~ arm + (1 | id)", trial().groupby("id"))
    with pytest.raises(DataError, match="Rolling: give the data frame"):
        lmer("y ~ arm + (1 | id)", trial().rolling(2))


def test_residuals_of_probabilities_that_are_exactly_one() -> None:
    family = lmmfast.glmer("b ~ x + (1 | g)", drawn().assign(b=[0, 1] * 100), link="cloglog").family
    found = family.pearson_residual(np.array([1.0, 0.0]), np.array([9.0, -800.0]))
    assert found.tolist() == [0.0, 0.0]
