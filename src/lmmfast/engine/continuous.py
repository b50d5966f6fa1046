"""Families of numbers that are measured: Gamma, inverse Gaussian, Gaussian."""

from __future__ import annotations

from typing import Any

import numpy as np

from .family import Family, LatentVariance, ones, special

Weights = np.ndarray | None


LOG_2PI = float(np.log(2 * np.pi))


class _Dispersed(Family):
    """A family with a dispersion phi = exp(x): variance phi V(mu) / weight."""

    extra = ("dispersion",)

    def _unit(self, mu: np.ndarray) -> np.ndarray:
        """V(mu)."""
        raise NotImplementedError

    def variance(self, mu: np.ndarray, x: Any = None) -> np.ndarray:
        return np.asarray(np.exp(x[0]) * self._unit(np.asarray(mu, dtype=float)))

    def _phi(self, eta: np.ndarray, x: Any, weights: Weights) -> np.ndarray:
        """Dispersions of the rows."""
        return np.asarray(np.exp(x[0]) / ones(eta, weights))


class Gamma(_Dispersed):
    """Positive y with variance phi mu^2 / weight: the likelihood of shape weight / phi.

    lme4's is another model: its random effects are relative to the dispersion.
    """

    name = "gamma"
    links = ("inverse", "log", "identity")
    response = "positive"

    def _unit(self, mu: np.ndarray) -> np.ndarray:
        return np.asarray(np.square(mu))

    def log_density(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        shape, ratio = 1 / self._phi(eta, x, weights), y / self.linkinv(eta)
        rate = shape * ratio
        value = shape * np.log(rate) - rate - special("gammaln")(shape) - np.log(y)
        return np.asarray(value)

    def simulate(
        self, rng: np.random.Generator, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        shape = 1 / self._phi(eta, x, weights)
        return np.asarray(rng.gamma(shape, self.linkinv(eta) / shape))

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        shape = 1 / self._phi(eta, x, weights)
        return np.asarray(special("gammainc")(shape, shape * (y / self.linkinv(eta))))

    def unit_deviance(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        above = y / self.linkinv(eta) - 1
        return np.asarray(np.maximum(2 * ones(eta, weights) * (above - np.log1p(above)), 0))


class InverseGaussian(_Dispersed):
    """Positive y with variance phi mu^3 / weight."""

    name = "inverse Gaussian"
    links = ("inversesquared", "inverse", "log", "identity")
    response = "positive"

    def _unit(self, mu: np.ndarray) -> np.ndarray:
        return np.asarray(mu**3)

    def log_density(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        phi, ratio = self._phi(eta, x, weights), y / self.linkinv(eta)
        return np.asarray(
            -(np.log(phi) + LOG_2PI + 3 * np.log(y) + (ratio - 1) ** 2 / (y * phi)) / 2
        )

    def simulate(
        self, rng: np.random.Generator, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        return np.asarray(rng.wald(self.linkinv(eta), 1 / self._phi(eta, x, weights)))

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        rate, mu, ndtr = 1 / self._phi(eta, x, weights), self.linkinv(eta), special("ndtr")
        root = np.sqrt(rate / y)
        other = np.exp(2 * rate / mu + special("log_ndtr")(-root * (y / mu + 1)))
        return np.asarray(np.minimum(ndtr(root * (y / mu - 1)) + other, 1))

    def unit_deviance(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        return np.asarray(ones(eta, weights) * (y / self.linkinv(eta) - 1) ** 2 / y)


class Gaussian(_Dispersed):
    """Any y with variance phi / weight, phi the residual variance."""

    name = "gaussian"
    links = ("identity", "log", "inverse")
    response = "real"

    def _unit(self, mu: np.ndarray) -> np.ndarray:
        return np.ones_like(mu)

    def log_density(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        phi = self._phi(eta, x, weights)
        return np.asarray(-(np.log(phi) + LOG_2PI + (y - self.linkinv(eta)) ** 2 / phi) / 2)

    def simulate(
        self, rng: np.random.Generator, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        return np.asarray(rng.normal(self.linkinv(eta), np.sqrt(self._phi(eta, x, weights))))

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        scale = np.sqrt(self._phi(eta, x, weights))
        return np.asarray(special("ndtr")((y - self.linkinv(eta)) / scale))

    def unit_deviance(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        return np.asarray(ones(eta, weights) * (y - self.linkinv(eta)) ** 2)

    def latent_variance(
        self, mu: np.ndarray, x: np.ndarray | None = None, method: LatentVariance = "lognormal"
    ) -> np.ndarray:
        return super().latent_variance(mu, x, "delta" if self.link.name != "log" else method)
