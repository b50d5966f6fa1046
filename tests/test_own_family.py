"""Families that users write: the same fits as those of the core, errors, what is refused."""

from __future__ import annotations

import pickle
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import digamma, gammaln
from scipy.stats import poisson, t

import lmmfast
from lmmfast import GLMM, CustomFamily, FitError, _core, glmer
from lmmfast.engine.custom_rows import check_custom
from lmmfast.engine.families import NegativeBinomial, Poisson
from lmmfast.engine.stencils import differences

FORMULA = "y ~ x + (x | g) + (1 | h)"


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 700  # no whole number of the core's blocks of rows
    g, h, x = rng.integers(0, 25, n), rng.integers(0, 9, n), rng.normal(size=n)
    eta = 1 + 0.4 * x + 0.6 * rng.normal(size=25)[g] + 0.3 * rng.normal(size=9)[h]
    y = rng.poisson(np.exp(eta) * rng.gamma(2, 0.5, n))
    real = eta + 0.5 * rng.standard_t(3, n)
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h, "real": real, "w": rng.integers(1, 4, n)})


class Counts(CustomFamily):
    """Poisson, by its log-density alone."""

    response = "count"
    links = ("log",)
    discrete = True

    def log_density(self, y: Any, eta: Any, x: Any = None, weights: Any = None) -> Any:
        w = 1.0 if weights is None else weights
        return w * (y * eta - np.exp(eta) - gammaln(y + 1))


class KnownCounts(Counts):
    concave = True

    def derivatives(self, y: Any, eta: Any, x: Any, weights: Any) -> dict[str, Any]:
        w = 1.0 if weights is None else weights
        mu = w * np.exp(eta)
        return {"d1": w * y - mu, "d2": -mu, "d3": -mu, "w": mu}

    def simulate(self, rng: Any, eta: Any, x: Any = None, weights: Any = None) -> Any:
        return rng.poisson(np.exp(eta)).astype(float)

    def cdf(self, y: Any, eta: Any, x: Any = None, weights: Any = None) -> Any:
        return poisson.cdf(y, np.exp(eta))

    def variance(self, mu: Any, x: Any = None) -> Any:
        return mu


class Clumped(CustomFamily):
    """Negative binomial, by its log-density alone."""

    response = "count"
    extra = ("size",)
    discrete = True

    def log_density(self, y: Any, eta: Any, x: Any = None, weights: Any = None) -> Any:
        size, mu = np.exp(x[0]), np.exp(eta)
        value = gammaln(y + size) - gammaln(size) - gammaln(y + 1)
        return value - size * np.log1p(mu / size) + y * (eta - np.log(mu + size))


class KnownClumped(Clumped):
    def derivatives(self, y: Any, eta: Any, x: Any, weights: Any) -> dict[str, Any]:
        size, mu = np.exp(x[0]), np.exp(eta)
        total = mu + size
        lx = digamma(y + size) - digamma(size) + np.log(size / total) + (mu - y) / total
        return {
            "d1": size * (y - mu) / total,
            "d2": -size * mu * (y + size) / total**2,
            "d3": -size * mu * (y + size) * (size - mu) / total**3,
            "lx": (size * lx)[None],
            "d1x": (size * mu * (y - mu) / total**2)[None],
            "d2x": (-size * mu * (y * (mu - size) + 2 * size * mu) / total**3)[None],
        }


class Skewed(CustomFamily):
    """Gamma, by its log-density alone; eta must be positive with two of its links."""

    response = "positive"
    extra = ("dispersion",)
    links = ("inverse", "log", "identity")

    def log_density(self, y: Any, eta: Any, x: Any = None, weights: Any = None) -> Any:
        mu, shape = self.linkinv(eta), np.exp(-x[0])
        value = shape * np.log(shape / mu) + (shape - 1) * np.log(y) - shape * y / mu
        return np.where(mu > 0, value - gammaln(shape), -np.inf)


class StudentT(CustomFamily):
    extra = ("scale",)

    def __init__(self, df: float = 4.0, link: Any = None) -> None:
        super().__init__(link)
        self.df = df

    def start_extra(self, y: Any, weights: Any) -> Any:
        return np.log([np.std(y)])

    def log_density(self, y: Any, eta: Any, x: Any = None, weights: Any = None) -> Any:
        return t.logpdf(y, self.df, eta, np.exp(x[0]))


# ---- the same fits -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "built_in", "off"),
    [
        (KnownCounts, "poisson", 1e-8),
        (Counts, "poisson", 1e-6),
        (KnownClumped, "nbinom2", 1e-8),
        (Clumped, "nbinom2", 1e-6),
    ],
)
def test_equals_the_cores_family(data: pd.DataFrame, own: Any, built_in: str, off: float) -> None:
    fit, core = glmer(FORMULA, data, own()), glmer(FORMULA, data, built_in)
    assert fit.converged
    assert fit.objective == pytest.approx(core.objective, abs=off)
    np.testing.assert_allclose(fit.params, core.params, atol=1e-4)
    np.testing.assert_allclose(fit.bse, core.bse, rtol=1e-3)
    np.testing.assert_allclose(fit.extra, core.extra, rtol=1e-3)


@pytest.mark.parametrize("link", Skewed.links)
def test_links_with_bounds(data: pd.DataFrame, link: str) -> None:
    """Differences stay within the domain of eta."""
    some = data.assign(z=np.exp(data["real"] / 3))
    fit, core = (glmer("z ~ x + (1 | g)", some, one, link) for one in (Skewed(), "gamma"))
    assert fit.converged
    assert fit.objective == pytest.approx(core.objective, abs=1e-7)


@pytest.mark.parametrize("own", [Counts(), KnownCounts(), Clumped(), KnownClumped()])
def test_every_number_of_rows(own: CustomFamily) -> None:
    rng = np.random.default_rng(1)
    y, eta = rng.poisson(5.0, 40).astype(float), rng.normal(1, 1, 40)
    x = np.array([0.4]) if own.nextra else None
    core = "negativebinomial" if own.nextra else "poisson"
    only = ("l", "d1", "d2", "d3", "d4", "lx", "d1x", "d2x")
    expected = _core.density(core, "log", y, None, eta, x, only=only)
    found = _core.density(own, "log", y, None, eta, x, only=only)
    total = expected.pop("l").sum() + _core.density_constant(core, "log", y)
    assert found["l"].sum() == pytest.approx(total, abs=1e-9)
    for name, values in expected.items():
        close = 1e-4 if name == "d4" else 1e-7  # of which no gradient is made
        np.testing.assert_allclose(found[name], values, rtol=close, atol=1e-7, err_msg=name)


@pytest.mark.parametrize(
    "some", ["d1", "d1 d2", "d2", "d1 d3", "lx", "d1 lx d1x", "d1 d2 d3 lx", "d2x", "d1x d2"]
)
def test_some_derivatives(data: pd.DataFrame, some: str) -> None:
    """What is given is taken, the rest is by differences of it."""

    class Part(KnownClumped):
        def derivatives(self, y: Any, eta: Any, x: Any, weights: Any) -> dict[str, Any]:
            found = super().derivatives(y, eta, x, weights)
            return {name: found[name] for name in some.split()}

    y, eta, x = np.arange(9.0), np.linspace(-1, 3, 9), np.array([0.3])
    whole = KnownClumped().derivatives(y, eta, x, None)
    found = _core.density(Part(), "log", y, None, eta, x, only=tuple(whole))
    for name, values in whole.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-7, atol=1e-8, err_msg=name)
    for name in some.split():
        np.testing.assert_array_equal(found[name], whole[name])
    check_custom(Part(), data["y"].to_numpy(float), None)


def test_weights(data: pd.DataFrame) -> None:
    fit = glmer("y ~ x + (1 | g)", data, KnownCounts(), weights="w")
    core = glmer("y ~ x + (1 | g)", data, "poisson", weights="w")
    assert fit.objective == pytest.approx(core.objective, abs=1e-8)
    with pytest.raises(FitError, match="does not depend on them"):
        glmer("y ~ x + (1 | g)", data, Clumped(), weights="w")


def test_quadrature_expected_weights_and_the_next_order(data: pd.DataFrame) -> None:
    formula = "y ~ x + (1 | g)"
    for how in ({"nagq": 5}, {"accuracy": "second-order"}, {"information": "expected"}):
        fit = glmer(formula, data, KnownCounts(), **how)
        core = glmer(formula, data, "poisson", **how)
        assert fit.objective == pytest.approx(core.objective, abs=1e-6)
    with pytest.raises(FitError, match="information='expected' needs"):
        glmer(formula, data, Counts(), information="expected")


def test_without_a_formula(data: pd.DataFrame) -> None:
    terms = [(data["g"].to_numpy(), None)]
    X = np.column_stack([np.ones(len(data)), data["x"]])
    model = GLMM.from_arrays(data["y"], X, terms, KnownCounts)
    core = GLMM.from_arrays(data["y"], X, terms, "poisson")
    assert model.fit().objective == pytest.approx(core.fit().objective, abs=1e-8)


def test_a_response_that_is_not_log_concave(data: pd.DataFrame) -> None:
    fit = glmer("real ~ x + (1 | g)", data, StudentT(3.0))
    assert fit.converged
    psi = fit.psi
    gradient = fit.model.objective(psi, gradient=True)[1]
    step = 1e-4 * np.eye(len(psi))
    for i, one in enumerate(step):
        up, down = (fit.model.objective(psi + s * one) for s in (1, -1))
        assert gradient[i] == pytest.approx((up - down) / 2e-4, abs=1e-3)
        assert min(up, down) > fit.objective - 1e-8
    normal = lmmfast.lmer("real ~ x + (1 | g)", data, reml=False)
    assert fit.objective < normal.objective  # tails are heavy
    assert float(fit.extra["scale"]) == pytest.approx(0.5, rel=0.15)


# ---- errors --------------------------------------------------------------------------------------


class Broken(Counts):
    left = 0

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left, self.error = calls, KeyError("as written")

    def log_density(self, y: Any, eta: Any, x: Any = None, weights: Any = None) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().log_density(y, eta, x, weights)


@pytest.mark.parametrize("calls", [0, 5, 60, 120])
def test_errors_come_out_unchanged(data: pd.DataFrame, calls: int) -> None:
    family = Broken(calls)
    with pytest.raises(KeyError) as caught:
        glmer("y ~ x + (1 | g)", data, family)
    assert caught.value is family.error


def test_an_error_in_an_evaluation(data: pd.DataFrame) -> None:
    family = Broken(10**9)
    fit = glmer("y ~ x + (1 | g)", data, family)
    family.left = 3
    with pytest.raises(KeyError, match="as written"):
        fit.model.objective(fit.psi + 0.01)
    family.left = 10**9
    assert fit.model.objective(fit.psi) == pytest.approx(fit.objective, abs=1e-7)


def test_an_interrupt_stops_the_fit(data: pd.DataFrame) -> None:
    family = Broken(60)
    family.error = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        glmer("y ~ x + (1 | g)", data, family)


class Signalled(KnownCounts):
    calls = 0

    def log_density(self, y: Any, eta: Any, x: Any = None, weights: Any = None) -> Any:
        self.calls += 1
        if self.calls == 40:
            signal.raise_signal(signal.SIGINT)
        return super().log_density(y, eta, x, weights)


def test_a_signal_stops_the_fit(data: pd.DataFrame) -> None:
    family = Signalled()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # may be ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            glmer("y ~ x + (1 | g)", data, family)
    finally:
        signal.signal(signal.SIGINT, before)
    assert family.calls == 40


@pytest.mark.parametrize("name", ["d1", "d2", "d3", "lx", "d1x", "d2x"])
def test_a_wrong_derivative_is_named(data: pd.DataFrame, name: str) -> None:
    class Wrong(KnownClumped):
        def derivatives(self, y: Any, eta: Any, x: Any, weights: Any) -> dict[str, Any]:
            found = super().derivatives(y, eta, x, weights)
            return found | {name: found[name] * (1 + 1e-3)}

    with pytest.raises(FitError, match=f"derivative '{name}' of family 'Wrong' is wrong"):
        glmer("y ~ x + (1 | g)", data, Wrong())


def test_what_is_no_family() -> None:
    with pytest.raises(TypeError, match="subclassed"):
        CustomFamily()
    with pytest.raises(ValueError, match="response of family 'Odd' must be one of"):
        type("Odd", (CustomFamily,), {"response": "ordered"})
    with pytest.raises(ValueError, match="has no link 'sqrt'"):
        Counts("sqrt")


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda y: y.sum(), "a value for each of the rows"),
        (lambda y: np.full(len(y), np.nan), "is not finite in any"),
    ],
)
def test_what_is_no_log_density(data: pd.DataFrame, result: Any, said: str) -> None:
    class Odd(Counts):
        def log_density(self, y: Any, eta: Any, x: Any = None, weights: Any = None) -> Any:
            return result(y)

    with pytest.raises(FitError, match=said):
        glmer("y ~ x + (1 | g)", data, Odd())


# ---- afterwards ----------------------------------------------------------------------------------


def test_what_a_fit_says(data: pd.DataFrame) -> None:
    fit = glmer("y ~ x + (1 | g)", data, KnownCounts())
    core = glmer("y ~ x + (1 | g)", data, "poisson")
    assert "Family: KnownCounts (log)" in str(fit.summary())
    assert "Scaled residuals" in str(fit.summary())
    for kind in ("response", "pearson", "quantile"):
        np.testing.assert_allclose(fit.residuals(kind), core.residuals(kind), atol=1e-4)
    new = {"x": [0.0, 1.0]}
    for how in ({"re_form": "none"}, {"marginal": True}):
        mean = fit.predict(new, type="response", **how)
        np.testing.assert_allclose(mean, core.predict(new, type="response", **how), rtol=1e-5)
    np.testing.assert_array_equal(fit.simulate(2, seed=1), core.simulate(2, seed=1))
    refit = fit.refit(np.asarray(core.simulate(1, seed=2)).ravel())
    assert refit.converged


def test_what_it_lacks_is_refused(data: pd.DataFrame) -> None:
    fit = glmer("y ~ x + (1 | g)", data, Counts())
    assert "Scaled residuals" not in str(fit.summary())
    with pytest.raises(FitError, match=r"'Counts' has no simulate\(\): define it"):
        fit.simulate(1, seed=1)
    with pytest.raises(FitError, match=r"has no cdf\(\)"):
        fit.residuals("quantile")
    with pytest.raises(FitError, match=r"has no variance\(\)"):
        fit.residuals("pearson")
    with pytest.raises(FitError, match=r"has no unit_deviance\(\)"):
        fit.residuals("deviance")


def test_pickles(data: pd.DataFrame) -> None:
    fit = glmer("real ~ x + (1 | g)", data[:150], StudentT(5.0))
    other = pickle.loads(pickle.dumps(fit))
    assert other.family == fit.family
    assert other.model.objective(fit.psi) == pytest.approx(fit.objective, abs=1e-9)


def test_many_threads(data: pd.DataFrame) -> None:
    def fitted(threads: int) -> float:
        return float(glmer(FORMULA, data, KnownClumped(), threads=threads).objective)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fitted, [1, 1, 2, 2]))
    assert found == [found[0]] * 4


def test_compared_and_changed(data: pd.DataFrame) -> None:
    small, large = (glmer(f"y ~ {one} + (1 | g)", data, Clumped()) for one in ("1", "x"))
    core = lmmfast.anova(*(glmer(f"y ~ {one} + (1 | g)", data, "nbinom2") for one in ("1", "x")))
    np.testing.assert_allclose(
        lmmfast.anova(small, large).table["Chisq"], core.table["Chisq"], atol=1e-5
    )
    assert small.update(". ~ . + x").objective == pytest.approx(large.objective, abs=1e-7)
    with pytest.raises(ValueError):
        lmmfast.anova(small, glmer("y ~ x + (1 | g)", data, "gamma"))


def test_responses_drawn_from_it(data: pd.DataFrame) -> None:
    some = data[data["g"] < 12]
    own, core = (glmer("y ~ x + (1 | g)", some, one) for one in (KnownCounts(), "poisson"))
    drawn = [fit.bootstrap(6, seed=3, threads=2).replicates for fit in (own, core)]
    np.testing.assert_allclose(*drawn, atol=1e-5)
    Y = np.asarray(core.simulate(3, seed=2))
    many = [
        lmmfast.fit_many("~ x + (1 | g)", some, Y, family=one).objective
        for one in (KnownCounts(), "poisson")
    ]
    np.testing.assert_allclose(*many, atol=1e-7)


def test_equal_families() -> None:
    assert StudentT(3.0) == StudentT(3.0)
    assert hash(StudentT(3.0)) == hash(StudentT(3.0))
    assert StudentT(3.0) != StudentT(4.0)
    assert StudentT(3.0).core_name != StudentT(4.0).core_name
    assert StudentT(3.0).with_link("log").df == 3.0
    assert StudentT(3.0).with_link("log") != StudentT(3.0)
    assert Counts() not in (Poisson(), KnownCounts(), NegativeBinomial())


def test_differences_of_rows_of_any_width() -> None:
    y, eta, scale = np.array([0.0, 1.0, 5.0, -2.0]), np.zeros(4), np.array([1.0, 0.01, 30.0, 0.3])

    def values(rows: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        return -0.5 * np.log1p(np.square((y[rows] - eta[rows] - shifts) / scale[rows]))

    first, second = differences(values, (1, 2), np.full(4, 5.0))
    r, squares = y - eta, scale**2 + np.square(y - eta)
    np.testing.assert_allclose(first, r / squares, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(second, (r * r - scale**2) / squares**2, rtol=1e-9, atol=1e-12)
