"""What estimates are linear functions of: the fixed effects, or numbers with a covariance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..estimability import openness_of

if TYPE_CHECKING:
    from ...fit import Fit
    from ..ddf import Method


class Coefficients(ABC):
    """Numbers, and the distribution of their estimates."""

    @abstractmethod
    def estimable(self, L: np.ndarray) -> np.ndarray:
        """Which rows of L (k, p) the data determine (k)."""

    @abstractmethod
    def times(self, L: np.ndarray) -> np.ndarray:
        """L times them (k)."""

    @abstractmethod
    def covariance(self, L: np.ndarray) -> np.ndarray:
        """Covariance of that (k, k)."""

    @abstractmethod
    def df(self, L: np.ndarray) -> np.ndarray:
        """Degrees of freedom of each (k)."""


@dataclass(frozen=True, eq=False)
class FixedEffects(Coefficients):
    """Those of a fit; weights of dropped ones count for nothing."""

    fit: Fit
    method: Method

    def estimable(self, L: np.ndarray) -> np.ndarray:
        return openness_of(self.fit).estimable(L)

    def times(self, L: np.ndarray) -> np.ndarray:
        kept = self.fit.estimates.fixed_kept
        return np.asarray(self._own(L) @ self.fit.estimates.beta[kept])

    def covariance(self, L: np.ndarray) -> np.ndarray:
        kept, own = self.fit.estimates.fixed_kept, self._own(L)
        return np.asarray(own @ self.method.vcov[np.ix_(kept, kept)] @ own.T)

    def df(self, L: np.ndarray) -> np.ndarray:
        return self.method.df(np.where(self.fit.estimates.fixed_kept, L, 0.0))

    def _own(self, L: np.ndarray) -> np.ndarray:
        kept = self.fit.estimates.fixed_kept
        return np.asarray(np.where(kept, L, 0.0)[:, kept])


@dataclass(frozen=True, eq=False)
class Numbers(Coefficients):
    """Estimates (p,) whose errors are normal, with covariance (p, p); NaN where they are open."""

    values: np.ndarray
    vcov: np.ndarray

    def estimable(self, L: np.ndarray) -> np.ndarray:
        return np.asarray(~((L != 0) & np.isnan(self.values)).any(axis=1))

    def times(self, L: np.ndarray) -> np.ndarray:
        return np.asarray(L @ np.nan_to_num(self.values))

    def covariance(self, L: np.ndarray) -> np.ndarray:
        return np.asarray(L @ np.nan_to_num(self.vcov) @ L.T)

    def df(self, L: np.ndarray) -> np.ndarray:
        return np.full(len(L), np.inf)
