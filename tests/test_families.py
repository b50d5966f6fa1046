"""Families: what the core computes for rows, against definitions, and what Python says of them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from lmmfast import _core
from lmmfast.engine.families import FAMILIES, Family, find_family
from lmmfast.engine.links import LINKS

CASES = [(name, link) for name, kind in FAMILIES.items() for link in kind.links]
EXTRA = {"ordered": [-0.8, 0.3, -0.4], "beta": [3.0]}
SOUGHT = {"beta", "betabinomial", "nb1", "truncatedpoisson", "truncatednegativebinomial"}
OF_MEANS = {"betabinomial", "nb1"}  # w is the information of the mean alone
WEIGHTED = {
    "binomial",
    "betabinomial",
    "gamma",
    "inversegaussian",
    "gaussian",
}  # the law of y depends on weights

# eighth-order central differences
OFFSETS = np.arange(-4, 5)
STENCIL = np.array([1 / 280, -4 / 105, 1 / 5, -4 / 5, 0, 4 / 5, -1 / 5, 4 / 105, -1 / 280])


def family_of(name: str, link: str) -> Family:
    family = find_family(name, link)
    return family.with_levels("abcd") if name == "ordered" else family


def extra_of(family: Family) -> np.ndarray | None:
    values = EXTRA.get(family.core_name, [0.3] * family.nextra)
    return np.array(values) if family.nextra else None


def rows_of(family: Family, n: int = 300, seed: int = 1) -> tuple:
    """y, weights, eta and x, everywhere in the domain and not too near to its edge."""
    rng, link = np.random.default_rng(seed), family.link.name
    eta = rng.uniform(-2.5, 2.5, n)
    if link in ("identity", "inverse", "inversesquared", "sqrt"):
        eta = rng.uniform(1.0, 2.5, n)
    if (family.core_name, link) == ("binomial", "log"):
        eta = rng.uniform(-2.5, -0.6, n)
    if link == "sqrt":
        eta *= rng.choice([-1, 1], n)
    weights = rng.uniform(0.5, 3, n)
    if family.response == "binomial":
        weights = rng.integers(1, 9, n).astype(float)
    law = weights if family.core_name in WEIGHTED else None
    x = extra_of(family)
    return family.simulate(rng, eta, x, law), weights, eta, x


def density(family: Family, y, w, eta, x, **more) -> dict:
    return _core.density(family.core_name, family.core_link, y, w, eta, x, family.classes, **more)


def constant(family: Family, y, w=None) -> float:
    return _core.density_constant(family.core_name, family.core_link, y, w, family.classes)


def slope(function, h: float = 0.01) -> np.ndarray:
    return sum(c * function(k * h) for k, c in zip(OFFSETS, STENCIL, strict=True)) / h


def worst(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.max(np.abs(found - expected) / (1 + np.abs(expected))))


@pytest.mark.parametrize("name, link", CASES)
def test_derivatives(name: str, link: str) -> None:
    family = family_of(name, link)
    y, w, eta, x = rows_of(family)
    at = density(family, y, w, eta, x)
    for of, derivative in (("l", "d1"), ("d1", "d2"), ("d2", "d3"), ("d3", "d4"), ("w", "dw")):
        numeric = slope(lambda t, of=of: density(family, y, w, eta + t, x)[of])
        assert worst(at[derivative], numeric) < 1e-10, derivative
    for j in range(family.nextra):
        for of in ("l", "d1", "d2", "w"):
            numeric = slope(
                lambda t, of=of, j=j: density(family, y, w, eta, x + t * (np.arange(len(x)) == j))[
                    of
                ]
            )
            assert worst(at[of + "x"][j], numeric) < 1e-10, (of, j)


REFERENCES = {
    "binomial": lambda y, mu, w, v: scipy.stats.binom.logpmf(y, w, mu),
    "poisson": lambda y, mu, w, v: w * scipy.stats.poisson.logpmf(y, mu),
    "negativebinomial": lambda y, mu, w, v: w * scipy.stats.nbinom.logpmf(y, v, v / (v + mu)),
    "gamma": lambda y, mu, w, v: scipy.stats.gamma.logpdf(y, w / v, scale=mu * v / w),
    "inversegaussian": lambda y, mu, w, v: scipy.stats.invgauss.logpdf(y, mu * v / w, scale=w / v),
    "gaussian": lambda y, mu, w, v: scipy.stats.norm.logpdf(y, mu, np.sqrt(v / w)),
}


@pytest.mark.parametrize("name, link", [case for case in CASES if case[0] in REFERENCES])
def test_densities_are_scipys(name: str, link: str) -> None:
    family = family_of(name, link)
    y, w, eta, x = rows_of(family)
    value = np.exp(x[0]) if family.nextra else None
    expected = REFERENCES[name](y, family.linkinv(eta), w, value)
    found = density(family, y, w, eta, x)["l"].sum() + constant(family, y, w)
    assert found == pytest.approx(expected.sum(), rel=1e-13)
    np.testing.assert_allclose(family.log_density(y, eta, x, w), expected, rtol=1e-10, atol=1e-12)
    one = np.ones_like(y)
    if family.response != "binomial":
        alike = density(family, y, None, eta, x)["l"], density(family, y, one, eta, x)["l"]
        np.testing.assert_array_equal(*alike)
        assert constant(family, y) == constant(family, y, one)


@pytest.mark.parametrize("link", FAMILIES["ordered"].links)
def test_classes_have_differences_of_probabilities(link: str) -> None:
    family = family_of("ordered", link)
    y, w, eta, x = rows_of(family)
    edges = np.r_[-np.inf, np.cumsum(np.r_[x[0], np.exp(x[1:])]), np.inf]
    F = {"logit": scipy.special.expit, "probit": scipy.special.ndtr}
    F["cloglog"] = lambda t: -np.expm1(-np.exp(t))
    F["loglog"] = lambda t: np.exp(-np.exp(-t))
    k = y.astype(int)
    P = F[link](edges[k + 1] - eta) - F[link](edges[k] - eta)
    np.testing.assert_allclose(density(family, y, w, eta, x)["l"], w * np.log(P), rtol=1e-11)
    np.testing.assert_allclose(family.log_density(y, eta, x, w), w * np.log(P), rtol=1e-11)
    probabilities = family.probabilities(eta, x)
    np.testing.assert_allclose(probabilities[np.arange(len(y)), k], P, rtol=1e-12)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-14)


@pytest.mark.parametrize("link", FAMILIES["ordered"].links)
def test_two_classes_are_bernoulli(link: str) -> None:
    rng = np.random.default_rng(2)
    eta, y = rng.normal(size=200) * 5, rng.integers(0, 2, 200).astype(float)
    ordered = _core.density("ordered", link, y, None, eta, np.array([0.7]), 2)
    # P(y = 0) = F(a - eta): a failure is what the binomial calls a success
    binary = _core.density("binomial", link, 1 - y, None, 0.7 - eta)
    for name, sign in (
        ("l", 1),
        ("d1", -1),
        ("d2", 1),
        ("d3", -1),
        ("d4", 1),
        ("w", 1),
        ("dw", -1),
    ):
        np.testing.assert_allclose(ordered[name], sign * binary[name], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(ordered["lx"][0], binary["d1"], rtol=1e-12)


@pytest.mark.parametrize("name, link", CASES)
def test_expected_weights(name: str, link: str) -> None:
    """E -d2 over y: sums, or integrals in the units of the distribution function."""
    family = family_of(name, link)
    _, w, eta, x = (v if v is None else v[:8] for v in rows_of(family, seed=4))
    law = w if name in WEIGHTED else None
    for i in range(8):
        wi, ei = w[i : i + 1], eta[i : i + 1]

        def curvature(y, wi=wi, ei=ei):
            y = np.atleast_1d(np.asarray(y, dtype=float))
            e, weight = np.full(len(y), ei[0]), np.full(len(y), wi[0])
            value = family.log_density(y, e, x, None if law is None else weight)
            return -np.exp(value) * density(family, y, weight, e, x)["d2"]

        if family.discrete:
            most = {"binomial": wi[0], "ordered": 3}.get(family.response, 5000)
            expected = curvature(np.arange(family.response == "positive count", most + 1)).sum()
        else:
            expected = integral(curvature, family.response)
        y = np.full(1, 0.5 if family.response == "unit" else 1.0)
        found = density(family, y, wi, ei, x)["w"][0]
        if name in OF_MEANS:
            mean = family.mean(ei, x, wi)[0]
            total = wi[0] if name == "betabinomial" else 1.0
            y = np.arange(most + 1)
            P = np.exp(
                family.log_density(
                    y, *(np.full(len(y), v[0]) for v in (ei,)), x, np.full(len(y), total)
                )
            )
            variance = (P * (y - mean) ** 2).sum()
            slope_of_mean = family.mu_eta(ei)[0] * total
            multiplier = 1.0 if name == "betabinomial" else wi[0]
            assert found == pytest.approx(multiplier * slope_of_mean**2 / variance, rel=1e-8)
            assert found <= expected * (1 + 1e-8)
        else:
            assert found == pytest.approx(expected, rel=1e-8), i


def integral(function, response: str) -> float:
    """Over all y, by equal steps in s: e^(2s - 20) is positive, expit(s) between 0 and 1."""
    s = np.linspace(-36.0, 36.0, 60_001)
    p = scipy.special.expit
    y, slopes = {
        "positive": (np.exp(2 * s - 20), 2 * np.exp(2 * s - 20)),
        "unit": (p(s), p(s) * p(-s)),
        "real": (s, 1.0),
    }[response]
    return float((function(y) * slopes).sum() * (s[1] - s[0]))


@pytest.mark.parametrize("name, link", CASES)
def test_blocks_and_subsets_change_nothing(name: str, link: str) -> None:
    """A row's numbers depend on no other row, and hardly on what else is wanted."""
    family = family_of(name, link)
    y, w, eta, x = rows_of(family, 261)
    whole = density(family, y, w, eta, x)
    for n in (1, 3, 127, 128, 129, 260):
        part = density(family, y[-n:], w[-n:], eta[-n:], x)
        for key, values in part.items():
            np.testing.assert_allclose(values, whole[key][..., -n:], rtol=1e-13, atol=1e-14)
    for only in (["l"], ["d1"], ["d2", "l"], ["w"], ["d4", "dw"], ["d2x"], ["lx", "l"]):
        part = density(family, y, w, eta, x, only=only)
        assert set(part) == {key for key in only if key in whole}
        for key, values in part.items():
            np.testing.assert_allclose(values, whole[key], rtol=1e-13, atol=1e-14)


FAR = np.array(
    [-1e300, -1e5, -800.0, -40.0, -1.0, -1e-9, 0.0, 1e-300, 1.0, 40.0, 800.0, 1e5, 1e300]
)


@pytest.mark.parametrize("name, link", CASES)
def test_everything_is_finite_in_the_domain(name: str, link: str) -> None:
    family = family_of(name, link)
    positive = link in ("identity", "inverse", "inversesquared") and name != "gaussian"
    eta = FAR[FAR > 0] if positive else FAR
    if (name, link) == ("binomial", "log"):
        eta = FAR[FAR < 0]
    if link == "sqrt" or (name, link) == ("gaussian", "inverse"):
        eta = eta[eta != 0]  # a pole
    for x in ([0.0], [-20.0], [20.0]) if family.nextra == 1 else (EXTRA.get(name),):
        ys = {"count": (0.0, 1.0, 3.0), "ordered": (0.0, 1.0, 3.0), "unit": (0.2,)}
        for y in ys.get(family.response, (1.0,)):
            found = density(
                family, np.full(len(eta), y), None, eta, None if x is None else np.array(x)
            )
            for key, values in found.items():
                where = np.isfinite(found["l"]) | (key == "l")
                assert not np.isnan(np.where(where, values, 0)).any(), (key, x, y)
            reasonable = (
                np.abs(eta) < 300
                if link != "inverse"
                else (np.abs(eta) < 300) & (np.abs(eta) > 1e-5)
            )
            if link in ("logit", "probit", "cauchit"):
                reasonable = eta == eta
            assert np.isfinite(found["l"][reasonable & (np.abs(eta) > 1e-10)]).all()


@pytest.mark.parametrize("name, link", CASES)
def test_outside_of_the_domain_nothing_is_likely(name: str, link: str) -> None:
    family = family_of(name, link)
    eta = np.array([-1.0, 0.0, -1e300])
    if (name, link) == ("binomial", "log"):
        eta = -eta
    elif link not in ("identity", "inverse", "inversesquared") or name == "gaussian":
        pytest.skip("every linear predictor is in the domain")
    found = density(family, np.ones(3), None, eta, extra_of(family))
    assert (found["l"] == -np.inf).all()
    assert not family.valid(eta).any()
    assert family.valid(rows_of(family)[2]).all()


def test_the_normal_tail_keeps_its_digits() -> None:
    z = np.array([0.0, 0.3, 1.0, 3.0, 8.0, 40.0, 1e3, 1e5])
    found = _core.density("binomial", "probit", np.ones(8), None, -z)
    np.testing.assert_allclose(found["l"], scipy.special.log_ndtr(-z), rtol=4e-16 * 8)
    hazard = np.sqrt(2 / np.pi) / scipy.special.erfcx(z / np.sqrt(2))
    np.testing.assert_allclose(found["d1"], hazard, rtol=2e-15)
    t = z[5:] ** -2  # asymptotic series of the derivatives of log Q
    np.testing.assert_allclose(found["d2"][5:], -1 + t - 6 * t**2 + 50 * t**3, rtol=1e-8)
    np.testing.assert_allclose(found["d3"][5:] * z[5:] ** 3, 2 - 24 * t + 300 * t**2, rtol=1e-5)
    np.testing.assert_allclose(found["d4"][5:] * z[5:] ** 4, 6 - 120 * t, rtol=1e-2)


def test_logits_keep_their_digits() -> None:
    eta = np.r_[-FAR[3:10], np.linspace(-45, 45, 1001)]
    one = np.ones_like(eta)
    found = _core.density("binomial", "logit", one, None, eta)
    np.testing.assert_allclose(found["l"], scipy.special.log_expit(eta), rtol=2e-15)
    np.testing.assert_allclose(found["d1"], scipy.special.expit(-eta), rtol=2e-15)
    variance = scipy.special.expit(eta) * scipy.special.expit(-eta)
    np.testing.assert_allclose(found["w"], variance, rtol=2e-15)
    far = _core.density("binomial", "logit", np.array([0.0, 1.0]), None, np.array([800.0, -800.0]))
    np.testing.assert_array_equal(far["l"], [-800, -800])
    np.testing.assert_array_equal(far["d1"], [-1, 1])


def test_extreme_values_keep_their_digits() -> None:
    eta = np.array([-800.0, -40.0, -5.0, -0.3, -1e-6, 0.0, 1e-6, 0.5, 2.0, 3.0])
    found = _core.density("binomial", "cloglog", np.ones(10), None, eta)
    u = np.exp(np.maximum(eta, -708))
    np.testing.assert_allclose(found["l"][2:7], np.log(-np.expm1(-u))[2:7], rtol=1e-14)
    np.testing.assert_allclose(found["l"][7:], np.log1p(-np.exp(-u[7:])), rtol=1e-14)
    np.testing.assert_allclose(found["l"][:2], eta[:2], rtol=1e-15)
    np.testing.assert_allclose(found["d1"], u / np.expm1(u), rtol=1e-14)
    np.testing.assert_allclose(found["d2"][:2], -u[:2] / 2, rtol=1e-12)  # -u/2 - u^2/12 ...


@pytest.mark.parametrize("size", [1e6, 1e9, 1e15, 1e60])
def test_large_sizes_are_poisson(size: float) -> None:
    rng = np.random.default_rng(5)
    y, eta = rng.poisson(4, 50).astype(float), rng.normal(1, 0.5, 50)
    poisson = _core.density("poisson", "log", y, None, eta)
    found = _core.density("negativebinomial", "log", y, None, eta, np.log([size]))
    mu = np.exp(eta)
    first = ((y - mu) ** 2 - y) / (2 * size)  # the next term in 1 / size
    np.testing.assert_allclose(found["l"], poisson["l"] + first, rtol=0, atol=1e-12 + 5e3 / size**2)
    np.testing.assert_allclose(found["lx"][0], -first, rtol=0, atol=5e-14 + 1e4 / size**2)
    np.testing.assert_allclose(found["d2"], poisson["d2"], rtol=1e-13 + 50 / size)


@pytest.mark.parametrize("little", [1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("name", ["betabinomial", "nb1"])
def test_derivatives_without_overdispersion_are_those_of_the_simpler_family(
    name: str, little: float
) -> None:
    """Every derivative differs by a multiple of 1 / precision, or dispersion: nothing cancels."""
    rng = np.random.default_rng(6)
    eta, trials = rng.normal(0.5, 0.5, 50), np.arange(1.0, 51)
    if name == "nb1":
        y, trials = rng.poisson(3, 50).astype(float), None
        given, x = ("poisson", "log", y, trials, eta), np.log([little])
    else:
        y = rng.binomial(trials.astype(int), 0.6).astype(float)
        given, x = ("binomial", "logit", y, trials, eta), -np.log([little])
    plain = _core.density(*given)
    link = "log" if name == "nb1" else "logit"
    found = _core.density(name, link, y, trials, eta, x)
    for order in ("l", "d1", "d2", "d3", "d4"):
        np.testing.assert_allclose(found[order], plain[order], rtol=0, atol=1e-11 + 3e4 * little)


@pytest.mark.parametrize("dispersion", [1e-12, 1e-6, 1e-2, 1.0, 1e3])
def test_the_gamma_functions_cancel_nowhere(dispersion: float) -> None:
    """Near y = mu the Gamma density is (2 pi phi)^-1/2 / y, however small phi is."""
    y, x = np.array([1.0, 1.0]), np.log([dispersion])
    a = 1 / dispersion
    found = _core.density("gamma", "log", y, None, np.zeros(2), x)
    exact = scipy.stats.gamma.logpdf(1, a, scale=dispersion)
    if dispersion < 1e-3:
        exact = -np.log(2 * np.pi * dispersion) / 2 - dispersion / 12
    assert found["l"][0] == pytest.approx(exact, rel=1e-13)
    slope_of_x = (
        -0.5 - dispersion / 12 if dispersion < 1e-3 else -a * (np.log(a) - scipy.special.digamma(a))
    )
    assert found["lx"][0, 0] == pytest.approx(slope_of_x, rel=1e-9 if dispersion >= 1e-3 else 1e-6)


@pytest.mark.parametrize("gap", [1e-9, 1e-5, 0.01, 0.04, 0.0499, 0.0501, 0.3])
@pytest.mark.parametrize("middle", [-30.0, -6.0, -0.99, 0.01, 2.0, 30.0])
def test_narrow_classes_of_probit(gap: float, middle: float) -> None:
    """Derivatives of the log-probability of an interval are moments of a truncated normal."""
    if gap * (1 + abs(middle)) > 3:
        pytest.skip("not narrow")
    x = np.array([middle - gap / 2, np.log(gap)])
    found = _core.density("ordered", "probit", np.ones(1), None, np.zeros(1), x, 3)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    s = gap / 2 * nodes
    f = np.exp(-middle * s - s * s / 2) * weights
    mean = (s * f).sum() / f.sum()
    k2, k3 = (((s - mean) ** k * f).sum() / f.sum() for k in (2, 3))
    log_p = np.log(f.sum() * gap / 2) - middle**2 / 2 - np.log(2 * np.pi) / 2
    assert found["l"][0] == pytest.approx(log_p, rel=1e-10)
    assert found["d1"][0] == pytest.approx(middle + mean, rel=1e-9, abs=1e-9)
    assert found["d2"][0] == pytest.approx(k2 - 1, rel=1e-8)
    assert found["d3"][0] == pytest.approx(k3, abs=1e-6)


def test_names() -> None:
    said = {
        "binomial": "binomial",
        "Bernoulli": "binomial",
        "binomial(probit)": "binomial",
        'Gamma(link = "log")': "gamma",
        "negative_binomial": "negativebinomial",
        "nbinom2": "negativebinomial",
        "NB2": "negativebinomial",
        "inverse.gaussian": "inversegaussian",
        "Gaussian": "gaussian",
        "cumulative(cloglog)": "ordered",
    }
    for name, core in said.items():
        assert find_family(name).core_name == core
    assert find_family("binomial(probit)").link.name == "probit"
    assert find_family('Gamma(link = "log")').link.name == "log"
    assert find_family("binomial(probit)", "cloglog").link.name == "cloglog"
    assert find_family("inverse.gaussian").link.name == "inversesquared"
    assert find_family("inverse_gaussian", "1/mu^2").link.name == "inversesquared"
    assert find_family(find_family("poisson"), "sqrt") == find_family("poisson(sqrt)")
    with pytest.raises(ValueError, match=r"no family 'tweedie'.*there are binomial"):
        find_family("tweedie")
    with pytest.raises(ValueError, match=r"no link 'sqrt'; it has logit, probit"):
        find_family("binomial", "sqrt")
    with pytest.raises(ValueError, match=r"no link 'lug'; there are logit"):
        find_family("binomial", "lug")
    with pytest.raises(TypeError, match="a family of lmmfast or one of statsmodels"):
        find_family(3)


def test_families_of_statsmodels() -> None:
    families = pytest.importorskip("statsmodels.genmod.families")
    links = families.links
    for given, name, link in (
        (families.Binomial(), "binomial", "logit"),
        (families.Binomial(links.CLogLog()), "binomial", "cloglog"),
        (families.Binomial(links.Cauchy()), "binomial", "cauchit"),
        (families.Poisson(links.Sqrt()), "poisson", "sqrt"),
        (families.NegativeBinomial(alpha=1.0), "negativebinomial", "log"),
        (families.Gamma(), "gamma", "inverse"),
        (families.Gamma, "gamma", "inverse"),
        (families.Gamma(links.InversePower()), "gamma", "inverse"),
        (families.InverseGaussian(), "inversegaussian", "inversesquared"),
        (families.Gaussian(links.Log()), "gaussian", "log"),
    ):
        found = find_family(given)
        assert (found.core_name, found.link.name) == (name, link)


@pytest.mark.parametrize("name, link", CASES)
def test_the_core_has_every_family(name: str, link: str) -> None:
    family = family_of(name, link)
    count, _ = _core.describe_family(family.core_name, family.core_link, family.classes)
    assert count == family.nextra == len(family.extra_names)
    again = pickle.loads(pickle.dumps(family))
    assert again == family
    assert hash(again) == hash(family)
    assert again.link.name == link


@pytest.mark.parametrize("name, link", CASES)
def test_concave_families_are(name: str, link: str) -> None:
    family = family_of(name, link)
    both = ("logit", "probit", "cloglog", "loglog", "cauchit", "log")
    eta = np.linspace(-8, 5, 200) if link in both else np.linspace(0.05, 6, 200)
    if (name, link) == ("binomial", "log"):
        eta = np.linspace(-8, -0.01, 200)
    y = np.array([0.0, 1.0, 2.0, 3.0, 9.0])
    y = {"ordered": y[:4], "positive": y[1:], "positive count": y[1:], "unit": y[1:] / 10}.get(
        family.response, y
    )
    w = np.full(200, 9.0) if family.response == "binomial" else None
    extras = [extra_of(family)] if family.nextra != 1 else [np.array([v]) for v in (-3.0, 0.3)]
    rising = any(
        (density(family, np.full(200, v), w, eta, x)["d2"] > 1e-12).any() for v in y for x in extras
    )
    assert _core.describe_family(family.core_name, family.core_link, family.classes)[1] == (
        not rising
    )


@pytest.mark.parametrize("name, link", CASES)
def test_draws_have_this_distribution(name: str, link: str) -> None:
    """Randomized distribution functions of draws are uniform."""
    family = family_of(name, link)
    rng = np.random.default_rng(11)
    _, w, eta, x = rows_of(family, 4000, seed=12)
    law = w if name in WEIGHTED else None
    y = family.simulate(rng, eta, x, law)
    low, high = family.cdf_below(y, eta, x, law), family.cdf(y, eta, x, law)
    assert (low <= high).all()
    u = low + rng.random(len(y)) * (high - low)
    assert scipy.stats.kstest(u, "uniform").pvalue > 0.005
    if family.discrete:
        np.testing.assert_allclose(
            high - low, np.exp(family.log_density(y, eta, x, law)), rtol=1e-8, atol=1e-14
        )


@pytest.mark.parametrize("name, link", CASES)
def test_residuals(name: str, link: str) -> None:
    family = family_of(name, link)
    _, w, eta, x = rows_of(family, 20_000, seed=13)
    law = w if name in WEIGHTED else None
    y = family.simulate(np.random.default_rng(14), eta, x, law)
    squares = np.square(family.pearson_residual(y, eta, x, law))
    assert squares.mean() == pytest.approx(1, abs=5 * squares.std() / np.sqrt(len(y)))
    if name == "ordered":
        return
    if name in SOUGHT:
        y, w, eta = y[:50], w[:50], eta[:50]
        law = w if name in WEIGHTED else None
        grid = np.linspace(-41, 41, 20_501)
        for yi, wi, ei, found in zip(y, w, eta, family.unit_deviance(y, eta, x, law), strict=True):
            weight = np.full_like(grid, wi) if name in WEIGHTED else None
            values = family.log_density(np.full_like(grid, yi), grid, x, weight)
            here = family.log_density(
                np.array([yi]), np.array([ei]), x, None if weight is None else weight[:1]
            )
            assert found == pytest.approx(
                2 * (np.max(values[np.isfinite(values)]) - here[0]), abs=1e-4
            )
        return
    inner = (y > 0) & (y < w) if name == "binomial" else y > 0
    y, w, eta = y[inner], w[inner], eta[inner]
    law = w if name in WEIGHTED else None
    best = family.linkfun(y / w if name == "binomial" else y) if name != "gaussian" else None
    if best is None:
        expected = w * (y - family.linkinv(eta)) ** 2
    else:
        phi = np.exp(x[0]) if "dispersion" in family.extra else 1
        gain = family.log_density(y, best, x, law) - family.log_density(y, eta, x, law)
        expected = 2 * phi * gain
    residual = family.deviance_residual(y, eta, x, law)
    np.testing.assert_allclose(residual**2, expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(
        np.sign(residual)[residual != 0], np.sign(y - family.mean(eta, x, law))[residual != 0]
    )


@pytest.mark.parametrize(
    "link", ["logit", "probit", "cloglog", "loglog", "cauchit", "log", "sqrt", "identity"]
)
@pytest.mark.parametrize("v", [0.0, 0.04, 1.0, 9.0, 100.0])
def test_marginal_means(link: str, v: float) -> None:
    eta = np.array([-4.0, -0.7, 0.0, 1.0, 3.0])
    found = LINKS[link].marginal(eta, v)
    for e, value in zip(eta, found, strict=True):

        def f(z, e=e):
            return LINKS[link].linkinv(e + np.sqrt(v) * z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)

        middle = -e / np.sqrt(v) if v else 0
        top = 12 + np.sqrt(v) * (link == "log")
        points = [
            p
            for p in (middle - 1 / np.sqrt(max(v, 1)), middle, middle + 1 / np.sqrt(max(v, 1)))
            if abs(p) < top
        ]
        exact = scipy.integrate.quad(
            f, -top, top, points=points, limit=500, epsabs=1e-14, epsrel=1e-12
        )[0]
        assert value == pytest.approx(exact, rel=1e-10, abs=1e-14)


def test_marginal_means_that_do_not_exist() -> None:
    for name in ("inverse", "inversesquared"):
        with pytest.raises(ValueError, match="does not exist"):
            LINKS[name].marginal(np.ones(2), 1.0)


@pytest.mark.parametrize("link", FAMILIES["ordered"].links)
def test_marginal_probabilities(link: str) -> None:
    family, x = family_of("ordered", link), np.array(EXTRA["ordered"])
    eta = np.array([-1.0, 0.4])
    found = family.marginal_probabilities(eta, 2.25, x)
    z = np.linspace(-10, 10, 20_001)
    w = np.exp(-z * z / 2)
    by_node = family.probabilities(eta[:, None] + 1.5 * z, x)
    np.testing.assert_allclose(found, np.einsum("ikc,k->ic", by_node, w / w.sum()), rtol=1e-9)


def test_parameters_in_the_users_terms() -> None:
    ordered = find_family("ordered").with_levels(["low", "middle", "high"])
    assert ordered.extra_names == ("low|middle", "middle|high")
    assert find_family("nbinom2").extra_names == ("size",)
    assert find_family("Gamma").extra_names == ("dispersion",)
    for family, x in ((ordered, np.array([-0.5, 0.2])), (find_family("nbinom2"), np.array([1.3]))):
        values, jacobian = family.natural(x)
        numeric = np.column_stack(
            [slope(lambda t, e=e, f=family, x=x: f.natural(x + t * e)[0]) for e in np.eye(len(x))]
        )
        np.testing.assert_allclose(jacobian, numeric, atol=1e-11)
        np.testing.assert_allclose(family.unconstrained(values), x, rtol=1e-14)
    with pytest.raises(ValueError, match="thresholds must increase"):
        ordered.unconstrained([1.0, 0.0])
    with pytest.raises(ValueError, match="size must be positive"):
        find_family("nbinom2").unconstrained(-1)
    with pytest.raises(ValueError, match=r"needs 2 values \(low\|middle, middle\|high\)"):
        ordered.unconstrained([1.0])


def test_latent_variances() -> None:
    """Nakagawa, Johnson and Schielzeth (2017), tables 1 and 2."""
    mu = np.array([0.3, 0.8])
    assert find_family("binomial").latent_variance(mu) == pytest.approx(np.pi**2 / 3)
    assert find_family("binomial(probit)").latent_variance(mu) == pytest.approx(1)
    assert find_family("binomial(cloglog)").latent_variance(mu) == pytest.approx(np.pi**2 / 6)
    delta = find_family("binomial").latent_variance(mu, method="delta")
    assert delta == pytest.approx(1 / (mu * (1 - mu)))
    poisson, nb, x = find_family("poisson"), find_family("nbinom2"), np.log([2.0])
    assert poisson.latent_variance(mu) == pytest.approx(np.log(1 + 1 / mu))
    assert poisson.latent_variance(mu, method="delta") == pytest.approx(1 / mu)
    assert poisson.latent_variance(mu, method="trigamma") == pytest.approx(
        scipy.special.polygamma(1, mu)
    )
    assert find_family("poisson(sqrt)").latent_variance(mu) == pytest.approx(0.25)
    assert nb.latent_variance(mu, x) == pytest.approx(np.log(1 + 1 / mu + 1 / 2))
    assert find_family("nbinom2(sqrt)").latent_variance(mu, x) == pytest.approx(0.25 * (1 + mu / 2))
    assert find_family("Gamma(log)").latent_variance(mu, x) == pytest.approx(np.log(3))
    assert find_family("gaussian").latent_variance(mu, x) == pytest.approx(2)
    with pytest.raises(ValueError, match="method must be"):
        poisson.latent_variance(mu, method="exact")


def test_the_entry_checks_what_it_is_given() -> None:
    y = np.ones(3)
    with pytest.raises(ValueError, match="no family 'beta' with link 'log' and 0 classes"):
        _core.density("beta", "log", y, None, y)
    with pytest.raises(ValueError, match="eta needs 3 values, not 2"):
        _core.density("poisson", "log", y, None, y[:2])
    with pytest.raises(ValueError, match="weights need 3 values"):
        _core.density("poisson", "log", y, y[:2], y)
    with pytest.raises(ValueError, match="needs 1 extra"):
        _core.density("gamma", "log", y, None, y)
    with pytest.raises(ValueError, match=r"y must be 0 \.\. 2"):
        _core.density("ordered", "logit", 3 * y, None, y, np.zeros(2), 3)
    with pytest.raises(ValueError, match="no family 'ordered'"):
        _core.density("ordered", "logit", y, None, y, None, 1)
