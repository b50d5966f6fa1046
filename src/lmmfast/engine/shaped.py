"""Families whose shape moves with the mean: beta, beta-binomial, NB1."""

from __future__ import annotations

from typing import Any

import numpy as np

from .discrete import Binomial, NegativeBinomial
from .family import MOST_SIZE, Family, log_rising, ones, special

Weights = np.ndarray | None


class Beta(Family):
    """y between 0 and 1 with variance mu (1 - mu) / (1 + precision); weights multiply l."""

    name = "beta"
    links = ("logit",)
    response = "unit"
    extra = ("precision",)

    def _shapes(self, eta: np.ndarray, x: Any) -> tuple[np.ndarray, np.ndarray]:
        eta = np.asarray(eta, dtype=float)
        precision = np.minimum(np.exp(x[0]), MOST_SIZE)
        return precision * self.linkinv(eta), precision * self.linkinv(-eta)

    def variance(self, mu: np.ndarray, x: Any = None) -> np.ndarray:
        return np.asarray(mu * (1 - mu) / (1 + np.exp(x[0])))

    def log_density(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        a, b = self._shapes(eta, x)
        value = special("xlogy")(a - 1, y) + special("xlog1py")(b - 1, -np.asarray(y))
        return np.asarray(ones(eta, weights) * (value - special("betaln")(a, b)))

    def simulate(
        self, rng: np.random.Generator, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        """Draws; those that round to 0 or 1 become the nearest number between."""
        drawn = rng.beta(*self._shapes(eta, x))
        return np.asarray(np.clip(drawn, np.finfo(float).tiny, 1 - np.finfo(float).epsneg))

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        return np.asarray(special("betainc")(*self._shapes(eta, x), y))


class BetaBinomial(Binomial):
    """y successes of `weights` trials, whose probability is beta with this precision."""

    name = "beta-binomial"
    links = ("logit",)
    extra = ("precision",)
    limit = (1, "binomial")

    def _shapes(self, eta: np.ndarray, x: Any) -> tuple[np.ndarray, np.ndarray]:
        eta = np.asarray(eta, dtype=float)
        return np.exp(x[0]) * self.linkinv(eta), np.exp(x[0]) * self.linkinv(-eta)

    def log_density(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        n, (a, b), betaln = ones(eta, weights), self._shapes(eta, x), special("betaln")
        choose = -np.log1p(n) - betaln(n - y + 1, y + 1)
        drawn = log_rising(a, y) + log_rising(b, n - y) - log_rising(a + b, n)
        return np.asarray(choose + drawn)

    def simulate(
        self, rng: np.random.Generator, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        n, p = ones(eta, weights), rng.beta(*self._shapes(eta, x))
        if (n != np.rint(n)).any():
            raise ValueError("trials must be whole numbers to draw successes")
        return rng.binomial(n.astype(np.int64), p).astype(float)

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        """P(Y <= y), summed."""
        y, n = np.floor(np.asarray(y, dtype=float)), ones(eta, weights)
        found, most = np.zeros(np.shape(eta)), int(np.max(y, initial=-1))
        for k in range(most + 1):
            inside = (k <= y) & (k <= n)
            found += np.where(inside, np.exp(self.log_density(np.minimum(k, n), eta, x, n)), 0)
        return np.asarray(np.minimum(found, 1))

    def unit_deviance(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        return Family.unit_deviance(self, y, eta, x, weights)

    def pearson_residual(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        precision, n = np.exp(x[0]), ones(eta, weights)
        inflated = np.sqrt((n + precision) / (1 + precision))
        return np.asarray(super().pearson_residual(y, eta, x, weights) / inflated)


class NegativeBinomial1(NegativeBinomial):
    """Counts with variance mu (1 + dispersion) ("NB1"); weights multiply the log-density."""

    name = "nb1"
    links = ("log",)
    extra = ("dispersion",)
    limit = (-1, "Poisson")

    def variance(self, mu: np.ndarray, x: Any = None) -> np.ndarray:
        return np.asarray(mu * (1 + np.exp(x[0])))

    def log_density(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        phi, y = np.maximum(np.exp(x[0]), 1 / MOST_SIZE), np.asarray(y, dtype=float)
        size = self.linkinv(eta) / phi
        value = log_rising(size, y) - special("gammaln")(y + 1)
        value = value - size * np.log1p(phi) - y * np.log1p(1 / phi)
        return np.asarray(ones(eta, weights) * value)

    def simulate(
        self, rng: np.random.Generator, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        phi = np.exp(x[0])
        return np.asarray(rng.poisson(rng.gamma(self.linkinv(eta) / phi, phi)).astype(float))

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        phi, y = np.exp(x[0]), np.floor(np.asarray(y, dtype=float))
        size = self.linkinv(eta) / phi
        found = special("betaincc")(np.maximum(y, 0) + 1, size, phi / (1 + phi))
        return np.asarray(np.where(y < 0, 0.0, found))

    def unit_deviance(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        return Family.unit_deviance(self, y, eta, x, weights)
