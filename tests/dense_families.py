"""Densities of the families as they are in the books, in jets: l and all of its derivatives.

One expression a density: no derivative is written by hand. The names and the parametrization are
those of the engine's families: y of a binomial is the number of successes and w its trials; x is
log size (negative binomial), log phi (dispersion), thresholds (ordered).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import jets
import numpy as np
from jets import Jet
from scipy.special import gammaln

BINARY = ("logit", "probit", "cloglog", "loglog", "cauchit", "log")
FAMILIES: dict[str, tuple[str, ...]] = {
    "binomial": BINARY,
    "poisson": ("log", "sqrt", "identity"),
    "negativebinomial": ("log", "sqrt", "identity"),
    "gamma": ("log", "inverse", "identity"),
    "inversegaussian": ("log", "inverse", "identity", "inversesquared"),
    "gaussian": ("identity", "log", "inverse"),
    "ordered": ("logit", "probit", "cloglog", "loglog"),
    "beta": ("logit",),
    "betabinomial": ("logit",),
    "nb1": ("log",),
    "truncatedpoisson": ("log",),
    "truncatednegativebinomial": ("log",),
}
TRIALS = ("binomial", "betabinomial")


@dataclass(frozen=True)
class Rows:
    """One family's density at n rows with r extra parameters: arrays (n,) or (r, n)."""

    l: np.ndarray  # noqa: E741 (its name in the mathematics)
    d1: np.ndarray
    d2: np.ndarray
    d3: np.ndarray
    d4: np.ndarray
    w: np.ndarray
    dw: np.ndarray
    lx: np.ndarray
    d1x: np.ndarray
    d2x: np.ndarray
    wx: np.ndarray


@dataclass(frozen=True)
class Family:
    """A family with its link; `classes` of an ordered response."""

    name: str
    link: str
    classes: int = 0

    def __post_init__(self) -> None:
        assert self.link in FAMILIES[self.name], (self.name, self.link)

    @property
    def nextra(self) -> int:
        if self.name == "ordered":
            return self.classes - 1
        return 0 if self.name in ("binomial", "poisson", "truncatedpoisson") else 1

    def rows(self, y: np.ndarray, w: np.ndarray, eta: np.ndarray, x: np.ndarray) -> Rows:
        """l with all constants, -inf outside the domain, and its derivatives."""
        t = Jet.variable(np.asarray(eta, float), self.nextra)
        extra = [Jet.parameter(v, j, self.nextra, len(eta)) for j, v in enumerate(x)]
        with np.errstate(all="ignore"):
            density, information = _DENSITIES[self.name](self.link, y, w, t, extra)
            value = np.where(np.isfinite(density.value), density.value, -np.inf)
        d = [density.derivative(k) for k in range(1, 5)]
        return Rows(
            value,
            *d,
            information.value,
            information.derivative(1),
            density.mixed(0),
            density.mixed(1),
            density.mixed(2),
            information.mixed(0),
        )

    def mean(self, eta: np.ndarray) -> np.ndarray:
        """The mean (of one trial, before truncation) at eta; of no ordered response."""
        t = Jet.constant(np.asarray(eta, float), 0)
        if self.name in (*TRIALS, "beta"):
            return np.exp(log_tails(self.link, t)[0].value)
        return mean(self.link, t)[0].value

    def feasible(self, y: np.ndarray, w: np.ndarray) -> np.ndarray:
        """An eta at which l is finite, near the response; of an ordered one zero."""
        share = y / w if self.name in TRIALS else y
        mu = 0.8 * share + 0.2 * share.mean()
        inverse: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "log": np.log,
            "sqrt": np.sqrt,
            "identity": lambda m: m,
            "inverse": lambda m: 1 / m,
            "inversesquared": lambda m: m**-2.0,
        }
        return inverse.get(self.link, np.zeros_like)(mu)


def log_tails(link: str, a: Jet) -> tuple[Jet, Jet]:
    """log F and log(1 - F) of the latent distribution of a binary or ordered response."""
    if link == "logit":
        return -_softplus(-a), -_softplus(a)
    if link == "probit":
        return jets.log_normal(a), jets.log_normal(-a)
    if link == "cloglog":
        e = jets.exp(a)
        return _log_one_minus_exp(e), -e
    if link == "loglog":
        e = jets.exp(-a)
        return -e, _log_one_minus_exp(e)
    if link == "log":
        return a, _log_one_minus_exp(-a)
    return jets.log(_cauchy(a)), jets.log(_cauchy(-a))


def _softplus(a: Jet) -> Jet:
    """log(1 + e^a)."""
    large = a.value > 0
    return jets.where(large, a + jets.log(jets.exp(-a) + 1.0), jets.log(jets.exp(a) + 1.0))


def _log_one_minus_exp(e: Jet) -> Jet:
    """log(1 - exp(-e)) of e > 0."""
    x = e.value
    # the slope s = 1 / (exp(e) - 1) has s' = -s (1 + s)
    s = [1 / np.expm1(x)]
    for k in range(jets.ORDER + 1):
        s.append(-(s[k] + sum(s[i] * s[k - i] for i in range(k + 1))) / (k + 1))
    return e.of(jets.integral(np.log(-np.expm1(-x)), s))


def _cauchy(a: Jet) -> Jet:
    """The Cauchy distribution function, without cancellation in its lower tail."""
    x = a.value
    with np.errstate(divide="ignore"):
        F = np.where(x < -1, np.arctan(-1 / np.minimum(x, -1)), np.pi / 2 + np.arctan(x)) / np.pi
    t = Jet.variable(x, 0)
    slope = jets.lorentz(t).c[0] / np.pi
    # one more coefficient of 1 / (1 + x^2): c_k (1 + x^2) + 2 x c_(k-1) + c_(k-2) = 0
    k = len(slope)
    last = -(2 * x * slope[k - 1] + slope[k - 2]) / (1 + x * x)
    return a.of(jets.integral(F, [*slope, last]))


def mean(link: str, t: Jet) -> tuple[Jet, Jet]:
    """mu and d mu / d eta; NaN where there is no positive mean."""
    if link == "log":
        mu = jets.exp(t)
        return mu, mu
    if link == "identity":
        return t, t * 0.0 + 1.0
    if link == "sqrt":
        return t * t, t * 2.0
    if link == "inverse":
        return 1.0 / t, -jets.power(t, -2.0)
    return jets.power(t, -0.5), jets.power(t, -1.5) * -0.5


def _binomial(link: str, y: np.ndarray, w: np.ndarray, t: Jet, extra: list[Jet]) -> tuple[Jet, Jet]:
    F, G = log_tails(link, t)
    choose = gammaln(w + 1) - gammaln(y + 1) - gammaln(w - y + 1)
    none = t * 0.0
    density = jets.where(y > 0, F * y, none) + jets.where(y < w, G * (w - y), none) + choose
    slope = _density(link, t)
    return density, slope * slope * jets.exp(-F - G) * w


def _density(link: str, t: Jet) -> Jet:
    """f of the latent distribution."""
    if link == "logit":
        F, G = log_tails(link, t)
        return jets.exp(F + G)
    if link == "probit":
        return jets.exp(t * t * -0.5) / np.sqrt(2 * np.pi)
    if link == "cloglog":
        return jets.exp(t - jets.exp(t))
    if link == "loglog":
        return jets.exp(-t - jets.exp(-t))
    if link == "log":
        return jets.exp(t)
    return jets.lorentz(t) / np.pi


def _counts(y: np.ndarray, mu: Jet) -> Jet:
    """y log mu, zero where y is, also at mu = 0."""
    return jets.where(y > 0, jets.log(mu) * y, mu * 0.0)


def _poisson(link: str, y: np.ndarray, w: np.ndarray, t: Jet, extra: list[Jet]) -> tuple[Jet, Jet]:
    mu, slope = mean(link, t)
    mu = jets.where(mu.value > 0, mu, mu * np.nan)
    density = (_counts(y, mu) - mu - gammaln(y + 1)) * w
    return density, slope * slope / mu * w


def _negative_binomial(
    link: str, y: np.ndarray, w: np.ndarray, t: Jet, extra: list[Jet]
) -> tuple[Jet, Jet]:
    mu, slope = mean(link, t)
    mu = jets.where(mu.value > 0, mu, mu * np.nan)
    size = jets.exp(extra[0])
    share = jets.log(size / (mu + size))
    choose = jets.gammaln(size + y) - jets.gammaln(size) - gammaln(y + 1)
    density = (choose + size * share + _counts(y, mu) - jets.log(mu + size) * y) * w
    return density, slope * slope / (mu + mu * mu / size) * w


def _gamma(link: str, y: np.ndarray, w: np.ndarray, t: Jet, extra: list[Jet]) -> tuple[Jet, Jet]:
    mu, slope = mean(link, t)
    mu = jets.where(mu.value > 0, mu, mu * np.nan)
    shape = jets.exp(-extra[0]) * w
    density = shape * jets.log(shape * y / mu) - shape * y / mu - np.log(y) - jets.gammaln(shape)
    return density, slope * slope * shape / (mu * mu)


def _inverse_gaussian(
    link: str, y: np.ndarray, w: np.ndarray, t: Jet, extra: list[Jet]
) -> tuple[Jet, Jet]:
    mu, slope = mean(link, t)
    mu = jets.where(mu.value > 0, mu, mu * np.nan)
    scale = jets.exp(-extra[0]) * w
    off = (y - mu) / mu
    density = jets.log(scale) * 0.5 - np.log(2 * np.pi * y**3) / 2 - scale * off * off / (2 * y)
    return density, slope * slope * scale / (mu * mu * mu)


def _gaussian(link: str, y: np.ndarray, w: np.ndarray, t: Jet, extra: list[Jet]) -> tuple[Jet, Jet]:
    mu, slope = mean(link, t)
    scale = jets.exp(-extra[0]) * w
    off = y - mu
    density = jets.log(scale) * 0.5 - np.log(2 * np.pi) / 2 - scale * off * off * 0.5
    return density, slope * slope * scale


@dataclass(frozen=True)
class _End:
    """The end of a class, less eta: F and 1 - F there, and f."""

    value: np.ndarray
    F: Jet
    G: Jet
    f: Jet

    @classmethod
    def of(cls, link: str, a: Jet) -> _End:
        F, G = map(jets.exp, log_tails(link, a))
        return cls(a.value, F, G, _density(link, a))


def _ordered(link: str, y: np.ndarray, w: np.ndarray, t: Jet, extra: list[Jet]) -> tuple[Jet, Jet]:
    ends = [extra[0]]
    for gap in extra[1:]:
        ends.append(ends[-1] + jets.exp(gap))
    zero, one = t * 0.0, t * 0.0 + 1.0
    lowest = _End(np.full(len(y), -np.inf), zero, one, zero)
    highest = _End(np.full(len(y), np.inf), one, zero, zero)
    bounds = [lowest, *(_End.of(link, end - t) for end in ends), highest]
    density, information = t * np.nan, zero
    for k, (lower, upper) in enumerate(pairwise(bounds)):
        high = lower.value + upper.value > 0  # by the smaller tails
        share = jets.where(high, lower.G - upper.G, upper.F - lower.F)
        density = jets.where(y == k, jets.log(share) * w, density)
        slope = lower.f - upper.f
        information = information + slope * slope / share * w
    return density, information


def _shares(link: str, t: Jet, extra: list[Jet]) -> tuple[Jet, Jet, Jet, Jet]:
    """mu and its slope, and the shapes of a beta distribution of this precision."""
    F, G = map(jets.exp, log_tails(link, t))
    precision = jets.exp(extra[0])
    return F, _density(link, t), precision * F, precision * G


def _beta(link: str, y: np.ndarray, w: np.ndarray, t: Jet, extra: list[Jet]) -> tuple[Jet, Jet]:
    _, slope, a, b = _shares(link, t, extra)
    density = jets.gammaln(a + b) - jets.gammaln(a) - jets.gammaln(b)
    density = density + (a - 1.0) * np.log(y) + (b - 1.0) * np.log1p(-y)
    scaled = (a + b) * slope
    return density * w, scaled * scaled * (jets.trigamma(a) + jets.trigamma(b)) * w


def _beta_binomial(
    link: str, y: np.ndarray, w: np.ndarray, t: Jet, extra: list[Jet]
) -> tuple[Jet, Jet]:
    mu, slope, a, b = _shares(link, t, extra)
    choose = gammaln(w + 1) - gammaln(y + 1) - gammaln(w - y + 1)
    above = jets.gammaln(a + y) + jets.gammaln(b + (w - y)) - jets.gammaln(a + b + w)
    density = choose + above - jets.gammaln(a) - jets.gammaln(b) + jets.gammaln(a + b)
    variance = mu * (1.0 - mu) * (a + b + w) / (a + b + 1.0)  # of the mean, times the trials
    return density, slope * slope / variance * w


def _nb1(link: str, y: np.ndarray, w: np.ndarray, t: Jet, extra: list[Jet]) -> tuple[Jet, Jet]:
    mu, slope = mean(link, t)
    phi = jets.exp(extra[0])
    size, one = mu / phi, jets.log(phi + 1.0)
    density = jets.gammaln(size + y) - jets.gammaln(size) - gammaln(y + 1)
    density = density - size * one + (extra[0] - one) * y
    return density * w, slope * slope / (mu * (phi + 1.0)) * w


def _above_zero(density: Jet, zero: Jet) -> Jet:
    """A log-density given y > 0, from the log-probability of zero."""
    return density - _log_one_minus_exp(-zero)


def _truncated_poisson(
    link: str, y: np.ndarray, w: np.ndarray, t: Jet, extra: list[Jet]
) -> tuple[Jet, Jet]:
    mu, slope = mean(link, t)
    density = _above_zero(_poisson(link, y, np.ones_like(y), t, extra)[0], -mu)
    rest = mu / (1.0 - jets.exp(-mu))  # the mean above zero
    return density * w, slope * slope * rest * (mu + 1.0 - rest) / (mu * mu) * w


def _truncated_negative_binomial(
    link: str, y: np.ndarray, w: np.ndarray, t: Jet, extra: list[Jet]
) -> tuple[Jet, Jet]:
    mu, slope = mean(link, t)
    size = jets.exp(extra[0])
    zero = size * jets.log(size / (mu + size))
    density = _above_zero(_negative_binomial(link, y, np.ones_like(y), t, extra)[0], zero)
    rest = mu / (1.0 - jets.exp(zero))
    variance = rest * (mu / size + mu + 1.0 - rest)
    score = slope * size / (mu * (mu + size))  # what y is multiplied by
    return density * w, score * score * variance * w


_DENSITIES = {
    "binomial": _binomial,
    "poisson": _poisson,
    "negativebinomial": _negative_binomial,
    "gamma": _gamma,
    "inversegaussian": _inverse_gaussian,
    "gaussian": _gaussian,
    "ordered": _ordered,
    "beta": _beta,
    "betabinomial": _beta_binomial,
    "nb1": _nb1,
    "truncatedpoisson": _truncated_poisson,
    "truncatednegativebinomial": _truncated_negative_binomial,
}
