"""Families of numbers that are counted: binomial and counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from .family import MOST_SIZE, Family, LatentVariance, log_rising, off, ones, special

Weights = np.ndarray | None

TINY = 1e-300  # a standard deviation that is no divisor


class Binomial(Family):
    """y successes of `weights` trials (default 1), each with probability F(eta)."""

    name = "binomial"
    links: tuple[str, ...] = ("logit", "probit", "cloglog", "loglog", "cauchit", "log")
    response = "binomial"
    discrete = True

    def _tails(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self.link.log_tails is not None
        return self.link.log_tails(np.asarray(eta, dtype=float))

    def valid(self, eta: np.ndarray) -> np.ndarray:
        eta = np.asarray(eta, dtype=float)
        return np.asarray(eta < 0) if self.link.name == "log" else np.isfinite(eta)

    def variance(self, mu: np.ndarray, x: Any = None) -> np.ndarray:
        return np.asarray(mu * (1 - mu))

    def mean(self, eta: np.ndarray, x: Any = None, weights: Weights = None) -> np.ndarray:
        return np.asarray(ones(eta, weights) * self.linkinv(eta))

    def log_density(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        n, (log_f, log_g), betaln = ones(eta, weights), self._tails(eta), special("betaln")
        choose = -np.log1p(n) - betaln(n - y + 1, y + 1)
        with np.errstate(invalid="ignore"):
            return np.asarray(
                choose + np.where(y > 0, y * log_f, 0) + np.where(n > y, (n - y) * log_g, 0)
            )

    def simulate(
        self, rng: np.random.Generator, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        n = ones(eta, weights)
        if (n != np.rint(n)).any():
            raise ValueError("trials must be whole numbers to draw successes")
        return rng.binomial(n.astype(np.int64), self.linkinv(eta)).astype(float)

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        n, G = ones(eta, weights), np.exp(self._tails(eta)[1])
        y = np.floor(np.asarray(y, dtype=float))
        inside = special("betainc")(np.maximum(n - y, 0.5), np.maximum(y, 0) + 1, G)
        return np.where(y >= n, 1.0, np.where(y < 0, 0.0, inside))

    def unit_deviance(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        n, (log_f, log_g) = ones(eta, weights), self._tails(eta)
        y = np.asarray(y, dtype=float)
        best = off(y, n) + off(n - y, n)
        with np.errstate(invalid="ignore"):
            found = np.where(y > 0, y * log_f, 0) + np.where(n > y, (n - y) * log_g, 0)
        return np.asarray(np.maximum(2 * (best - found), 0))

    def pearson_residual(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        n, (log_f, log_g) = ones(eta, weights), self._tails(eta)
        sd = np.maximum(np.exp((log_f + log_g) / 2), TINY)  # nothing over nothing is nothing
        return np.asarray((y - n * np.exp(log_f)) / np.sqrt(n) / sd)

    def latent_variance(
        self, mu: np.ndarray, x: np.ndarray | None = None, method: LatentVariance = "lognormal"
    ) -> np.ndarray:
        if method == "lognormal" and np.isfinite(self.link.latent):
            return np.full_like(np.asarray(mu, dtype=float), self.link.latent)
        return super().latent_variance(mu, x, "delta" if method == "lognormal" else method)


class Poisson(Family):
    """Counts with mean and variance mu; weights multiply the log-density."""

    name = "poisson"
    links: tuple[str, ...] = ("log", "sqrt", "identity")
    response = "count"
    discrete = True

    def variance(self, mu: np.ndarray, x: Any = None) -> np.ndarray:
        return np.asarray(mu, dtype=float)

    def log_density(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        mu = self.linkinv(eta)
        value = special("xlogy")(y, mu) - mu - special("gammaln")(np.asarray(y) + 1)
        return np.asarray(ones(eta, weights) * value)

    def simulate(
        self, rng: np.random.Generator, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        return rng.poisson(self.linkinv(eta)).astype(float)

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        return np.asarray(special("pdtr")(y, self.linkinv(eta)))

    def unit_deviance(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        mu = self.linkinv(eta)
        return np.asarray(np.maximum(2 * ones(eta, weights) * (off(y, mu) - (y - mu)), 0))


class NegativeBinomial(Family):
    """Counts with variance mu + mu^2 / size ("NB2"), the size estimated; weights as of Poisson."""

    name = "negative binomial"
    links: tuple[str, ...] = ("log", "sqrt", "identity")
    response = "count"
    extra = ("size",)
    discrete = True
    limit: tuple[int, str] | None = (1, "Poisson")

    def variance(self, mu: np.ndarray, x: Any = None) -> np.ndarray:
        return np.asarray(mu + np.square(mu) * np.exp(-x[0]))

    def log_density(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        size, mu, y = np.exp(x[0]), self.linkinv(eta), np.asarray(y, dtype=float)
        size, xlogy = np.minimum(size, MOST_SIZE), special("xlogy")
        value = log_rising(size, y) - special("gammaln")(y + 1)
        value = value - size * np.log1p(mu / size) + xlogy(y, mu / (mu + size))
        return np.asarray(ones(eta, weights) * value)

    def simulate(
        self, rng: np.random.Generator, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        size = np.exp(min(float(x[0]), 200.0))
        return rng.poisson(self.linkinv(eta) * rng.gamma(size, 1 / size, np.shape(eta))).astype(
            float
        )

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        size, mu, y = np.exp(x[0]), self.linkinv(eta), np.floor(np.asarray(y, dtype=float))
        found = special("betaincc")(np.maximum(y, 0) + 1, size, mu / (mu + size))
        return np.where(y < 0, 0.0, found)

    def unit_deviance(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        size, mu, y = np.exp(x[0]), self.linkinv(eta), np.asarray(y, dtype=float)
        more = (y + size) * np.log1p((y - mu) / (mu + size))
        return np.asarray(np.maximum(2 * ones(eta, weights) * (off(y, mu) - more), 0))
