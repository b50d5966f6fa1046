"""Parameters of a generalized model as coordinates of its profile: see `held`.

Entries of psi are coordinates by themselves: fixed effects, parameters of the distribution, and the
standard deviation of a term's first column, which is the entry T[0, 0] of theta (T is absolute).
Correlations are as in linear models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .held import SMALLEST, Correlation, Held, Local, entries_below

if TYPE_CHECKING:
    from ...engine.families import Family
    from ...engine.psi import PsiCriterion
    from ...fit import Fit


class Entry(Held):
    """One entry of psi: w, the others z."""

    def __init__(self, criterion: PsiCriterion, psi: np.ndarray, at: int) -> None:
        super().__init__(criterion)  # type: ignore[arg-type]
        self.at, self.best = at, float(psi[at])
        self.z = np.delete(psi, at)
        self._moving = np.delete(criterion.varied, at)

    def free(self, w: float) -> np.ndarray:
        return np.asarray(super().free(w) & self._moving)

    def _psi(self, w: float, z: np.ndarray) -> np.ndarray:
        return np.asarray(np.insert(z, self.at, w))

    def local(self, w: float, z: np.ndarray) -> Local:
        f, slope, curvature = self.criterion.profiled(self._psi(w, z))
        rest = np.arange(len(slope)) != self.at
        inside, mixed = curvature[np.ix_(rest, rest)], curvature[rest, self.at]
        own = float(slope[self.at]), mixed, float(curvature[self.at, self.at])
        return Local(f, slope[rest], inside, *own)

    def state(self, w: float, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        psi = self._psi(w, z)
        return psi, self.criterion.estimates(psi)[0], 1.0


class EntryOfRoot(Entry):
    """An entry of theta that is a standard deviation."""

    low = 0.0
    zero_at = (0.0,)

    def __init__(self, criterion: PsiCriterion, psi: np.ndarray, place: int) -> None:
        super().__init__(criterion, psi, place)
        self.best = abs(self.best)
        self.place = place
        below = entries_below(self.criterion, place)
        self.below = [k - (k > place) for k in below]

    def entering(self, w: float, z: np.ndarray) -> np.ndarray:
        if w not in self.zero_at:
            return z
        return np.delete(super().entering(w, self._psi(w, z)), self.at)


class Extra(Entry):
    """A parameter of the distribution of which psi has the logarithm."""

    def __init__(self, criterion: PsiCriterion, psi: np.ndarray, at: int, family: Family) -> None:
        super().__init__(criterion, psi, at)
        self._family, self._extra = family, criterion.extra(psi).copy()
        self._place = at - (len(psi) - len(self._extra))
        reach = -float(np.log(SMALLEST))
        self.low, self.high = self.best - reach, self.best + reach
        if family.at_limit(self._extra)[self._place] and family.limit is not None:
            sign = family.limit[0]  # beyond, nothing changes: the walk begins where it is felt
            self.best = sign * family.gone
            self.low, self.high = sorted((self.best, -sign * reach))

    def value(self, w: float) -> float:
        if w <= self.low:
            return 0.0
        return float("inf") if w >= self.high else self.natural(w)

    def natural(self, w: float) -> float:
        """The parameter as users see it."""
        x = self._extra.copy()
        x[self._place] = w
        return float(np.asarray(self._family.natural(x)[0])[self._place])


class Threshold(Entry):
    """The k-th threshold of an ordered response, k > 0: it takes the place of the first one, and
    the steps between thresholds, whose logarithms psi has, stay."""

    def __init__(self, criterion: PsiCriterion, psi: np.ndarray, k: int) -> None:
        first = len(psi) - len(criterion.extra(psi))
        super().__init__(criterion, psi, first)
        self._steps = np.arange(first, first + k)  # in z, where the first one is left out
        self.best = float(psi[first] + np.exp(self.z[self._steps]).sum())

    def _psi(self, w: float, z: np.ndarray) -> np.ndarray:
        return np.insert(z, self.at, w - np.exp(z[self._steps]).sum())

    def local(self, w: float, z: np.ndarray) -> Local:
        value = super().local(w, z)
        pull, own = np.zeros(len(z)), value.slope_held
        pull[self._steps] = -np.exp(z[self._steps])
        across = value.mixed[:, None] * pull
        curvature = value.curvature + across + across.T
        curvature += value.curvature_held * pull[:, None] * pull + np.diag(own * pull)
        mixed = value.mixed + value.curvature_held * pull
        return Local(value.f, value.slope + own * pull, curvature, own, mixed, value.curvature_held)


class CorrelationOfPsi(Correlation):
    """A correlation, beside all else that psi has."""

    def __init__(self, criterion: PsiCriterion, psi: np.ndarray, places: tuple[int, ...]) -> None:
        super().__init__(criterion, psi, places)  # type: ignore[arg-type]
        self._moving = criterion.varied

    def free(self, w: float) -> np.ndarray:
        return np.asarray(super().free(w) & self._moving)


class DeviationOfXi(Entry):
    """A standard deviation of a covariance structure: an entry of xi."""

    low = 0.0

    def __init__(self, criterion: PsiCriterion, xi: np.ndarray, at: int) -> None:
        super().__init__(criterion, xi, at)
        self.best = abs(self.best)


class ParameterOfXi(Entry):
    """Another parameter of a covariance structure, a function of one entry of xi alone."""

    def __init__(
        self,
        criterion: PsiCriterion,
        xi: np.ndarray,
        at: int,
        natural: Callable[[float], float],
        bounds: tuple[float, float],
    ) -> None:
        super().__init__(criterion, xi, at)
        self.low, self.high = bounds
        self._natural = natural

    def value(self, w: float) -> float:
        return self._natural(w)


def psi_in(fit: Fit, theta: np.ndarray) -> np.ndarray:
    """The estimates of a fit, with another theta (its columns in another order)."""
    own: Any = fit
    return np.concatenate([theta, own.psi[len(fit.theta) :]])
