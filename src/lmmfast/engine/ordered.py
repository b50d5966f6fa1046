"""The family of ordered classes: cumulative link models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .family import Family, ones
from .links import Link

Weights = np.ndarray | None


class Ordered(Family):
    """Classes 0 .. K-1 with P(y <= k) = F(a_k - eta) and thresholds a_0 < ... < a_{K-2}.

    The thresholds take the place of an intercept: X must not have one. Weights multiply the
    log-density.

    Parameters
    ----------
    link : str or Link, optional
        "logit" (default: the proportional odds model), "probit", "cloglog" or "loglog".
    levels : sequence, optional
        Names of the classes, ascending; known once there are data, see `with_levels`.
    """

    name = "ordered"
    links = ("logit", "probit", "cloglog", "loglog")
    response = "ordered"
    discrete = True

    def __init__(self, link: str | Link | None = None, levels: Sequence[Any] = ()) -> None:
        super().__init__(link)
        if len(levels) == 1:
            raise ValueError("an ordered response needs two classes or more")
        self.levels = tuple(str(level) for level in levels)
        self.classes = len(self.levels)

    def with_levels(self, levels: Sequence[Any]) -> Ordered:
        """The same family for classes of these names."""
        return Ordered(self.link, levels)

    def with_link(self, link: str | Link | None) -> Ordered:
        return self if link is None else Ordered(link, self.levels)

    @property
    def extra_names(self) -> tuple[str, ...]:
        """Names of the thresholds: "low|middle", "middle|high"."""
        return tuple(f"{a}|{b}" for a, b in zip(self.levels, self.levels[1:], strict=False))

    def natural(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """Thresholds (K-1,), and their derivative in x (K-1, K-1; lower triangular)."""
        steps = np.asarray(x, dtype=float).copy()
        steps[1:] = np.exp(steps[1:])
        slopes = np.r_[1.0, steps[1:]]
        return np.cumsum(steps), np.tril(np.broadcast_to(slopes, (len(steps), len(steps))))

    def _unconstrained(self, values: np.ndarray) -> np.ndarray:
        gaps = np.diff(values)
        if not (gaps > 0).all():
            raise ValueError(f"thresholds must increase, not {values}")
        return np.asarray(np.r_[values[:1], np.log(gaps)])

    def _ends(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end of every class on the scale of eta (K)."""
        a = self.natural(x)[0]
        return np.r_[-np.inf, a], np.r_[a, np.inf]

    def _log_mass(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """log(F(upper) - F(lower)), from whichever tail is small."""
        assert self.link.log_tails is not None
        with np.errstate(invalid="ignore", divide="ignore"):
            (lf, lg), (uf, ug) = self._log_tails(lower), self._log_tails(upper)
            left = uf + np.log(-np.expm1(np.minimum(lf - uf, 0)))
            right = lg + np.log(-np.expm1(np.minimum(ug - lg, 0)))
            return np.where(np.isneginf(lower), uf, np.where(uf < lg, left, right))

    def _log_tails(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(log F, log(1 - F)), at infinity too."""
        assert self.link.log_tails is not None
        inner = np.where(np.isfinite(t), t, 0.0)
        low, high = self.link.log_tails(inner)
        low = np.where(np.isposinf(t), 0.0, np.where(np.isneginf(t), -np.inf, low))
        return low, np.where(np.isposinf(t), -np.inf, np.where(np.isneginf(t), 0.0, high))

    def probabilities(self, eta: np.ndarray, x: Any) -> np.ndarray:
        """P(y = k) by rows and classes (n, K)."""
        lower, upper = self._ends(x)
        eta = np.asarray(eta, dtype=float)[..., None]
        return np.asarray(np.exp(self._log_mass(lower - eta, upper - eta)))

    def marginal_probabilities(self, eta: np.ndarray, v: np.ndarray, x: Any) -> np.ndarray:
        """P(y = k) over normal random effects of variance v, by rows and classes (n, K).

        Differences of `Link.marginal` at the thresholds, to 1e-13.
        """
        eta, v = np.broadcast_arrays(np.asarray(eta, dtype=float), np.asarray(v, dtype=float))
        a = self.natural(x)[0]
        below = self.link.marginal(a - eta[..., None], v[..., None])
        edge = np.ones((*eta.shape, 1))
        return np.asarray(np.diff(np.concatenate([0 * edge, below, edge], axis=-1), axis=-1))

    def mean(self, eta: np.ndarray, x: Any = None, weights: Weights = None) -> np.ndarray:
        return np.asarray(self.probabilities(eta, x) @ np.arange(self.classes))

    def variance(self, mu: np.ndarray, x: Any = None) -> np.ndarray:
        raise ValueError("classes have no variance: use probabilities()")

    def log_density(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        (lower, upper), y = self._ends(x), np.asarray(y).astype(np.int64)
        return np.asarray(ones(eta, weights) * self._log_mass(lower[y] - eta, upper[y] - eta))

    def simulate(
        self, rng: np.random.Generator, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        u = rng.random(np.shape(eta))
        below = self.link.linkinv(self.natural(x)[0] - np.asarray(eta)[..., None])
        return np.asarray((u[..., None] > below).sum(axis=-1), dtype=float)

    def cdf(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        y = np.asarray(y).astype(np.int64)
        a = np.r_[self.natural(x)[0], np.inf]
        inside = self.link.linkinv(np.where(y < self.classes - 1, a[y], 0.0) - eta)
        return np.where(y < self.classes - 1, inside, 1.0)

    def unit_deviance(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        return np.asarray(-2 * self.log_density(y, eta, x, weights))

    def pearson_residual(
        self, y: np.ndarray, eta: np.ndarray, x: Any = None, weights: Weights = None
    ) -> np.ndarray:
        """(y - mean) / standard deviation of the classes' numbers 0 .. K-1."""
        P, k = self.probabilities(eta, x), np.arange(self.classes)
        mean = P @ k
        return np.asarray((y - mean) / np.sqrt(P @ (k * k) - mean**2))

    def latent_variance(
        self, mu: np.ndarray, x: Any = None, method: str = "lognormal"
    ) -> np.ndarray:
        return np.full_like(np.asarray(mu, dtype=float), self.link.latent)
