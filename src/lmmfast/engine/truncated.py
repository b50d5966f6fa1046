"""Families of counts above zero: with a binomial for the zeros, they make a hurdle model."""

from __future__ import annotations

from typing import Any

import numpy as np

from .discrete import NegativeBinomial, Poisson
from .family import Family, ones
from .links import PI, normal_mean

Weights = np.ndarray | None


class _Truncated(Family):
    """y given y > 0. mu is the mean before zeros are taken away, `mean` the one after."""

    links: tuple[str, ...] = ("log",)
    discrete = True
    response = "positive count"

    def _log_zero(self, eta: np.ndarray, x: Any) -> np.ndarray:
        """Log-probability of zero before."""
        return np.asarray(super().log_density(np.zeros(np.shape(eta)), eta, x))

    def mean(self, eta: np.ndarray, x: Any = None, weights: Weights = None) -> np.ndarray:
        g = np.maximum(-self._log_zero(eta, x), np.finfo(float).tiny)
        return np.asarray(np.maximum(self.linkinv(eta) / -np.expm1(-g), 1.0))

    def variance(self, mu: np.ndarray, x: Any = None) -> np.ndarray:
        """Var(y) where mu is the mean before."""
        mu = np.asarray(mu, dtype=float)
        mean = self.mean(np.log(mu), x)
        return np.asarray(mean * (super().variance(mu, x) / mu + mu - mean))

    def log_density(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        g = np.maximum(-self._log_zero(eta, x), np.finfo(float).tiny)
        lost = np.where(g < 0.5, np.log(-np.expm1(-g)), np.log1p(-np.exp(-np.maximum(g, 0.5))))
        return np.asarray(ones(eta, weights) * (super().log_density(y, eta, x) - lost))

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        zero = np.exp(self._log_zero(eta, x))
        return np.asarray(np.maximum(super().cdf(y, eta, x) - zero, 0) / (1 - zero))

    def unit_deviance(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        return Family.unit_deviance(self, y, eta, x, weights)

    def latent_variance(
        self, mu: np.ndarray, x: Any = None, method: str = "lognormal"
    ) -> np.ndarray:
        raise ValueError(f"family {self.name!r}: no variance on the scale of eta is known")

    def marginal_mean(self, eta: np.ndarray, v: np.ndarray, x: Any = None) -> np.ndarray:
        eta, v = np.broadcast_arrays(np.asarray(eta, dtype=float), np.asarray(v, dtype=float))
        reach = 9 + float(np.sqrt(v.max(initial=0.0)))  # the mean grows like e^eta
        return normal_mean(lambda t: self.mean(t, x), eta, v, PI / 2, reach)


class TruncatedPoisson(_Truncated, Poisson):
    """Poisson counts above zero; weights multiply the log-density."""

    name = "truncated Poisson"

    def simulate(
        self, rng: np.random.Generator, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        """The first event of a Poisson process in [0, 1], given one; then the rest."""
        mu = self.linkinv(eta)
        first = -np.log1p(rng.random(np.shape(eta)) * np.expm1(-mu)) / mu
        return np.asarray(1.0 + rng.poisson(mu * np.clip(1 - first, 0, 1)))


class TruncatedNegativeBinomial(_Truncated, NegativeBinomial):
    """Negative binomial counts (variance mu + mu^2 / size) above zero."""

    name = "truncated negative binomial"
    limit = (1, "truncated Poisson")

    def simulate(
        self, rng: np.random.Generator, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        """As of Poisson; the rate is gamma, also given the time of the first event."""
        size, mu = np.exp(min(float(x[0]), 200.0)), self.linkinv(eta)
        none = np.expm1(-size * np.log1p(mu / size))  # less one
        log_none = np.log1p(rng.random(np.shape(eta)) * none)
        first = np.clip(np.expm1(-log_none / size) * size / mu, 0, 1)
        rate = rng.gamma(size + 1, 1 / (size / mu + first))
        return np.asarray(1.0 + rng.poisson(rate * (1 - first)))
