"""The deviance of a generalized model in some of its parameters, and its minimum with others held.

psi = (theta, fixed effects, parameters of the distribution), as the compiled model takes it. Slopes
are exact; the curvature is that at one psi, the estimates, by differences of slopes: who follows
the deviance from there corrects it by what steps show.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .criterion import Value
from .point import in_words

if TYPE_CHECKING:
    from .generalized import GeneralizedModel


class PsiCriterion:
    """The deviance of one model at any psi, with what profiles ask of a criterion.

    Parameters
    ----------
    model : GeneralizedModel
    psi : (size,) array
        The estimates.
    """

    nu = 1.0  # there is no sigma to estimate

    def __init__(self, model: GeneralizedModel, psi: np.ndarray) -> None:
        self.model, self.entries, self.psi = model, model.theta_entries, psi
        free = np.ones(len(self.entries) + len(model._core.keep) + model._core.nextra, dtype=bool)
        free[len(self.entries) :][: len(model._core.keep)] = model._core.keep
        self.varied = free  # all but dropped columns of X

    @cached_property
    def curvature(self) -> np.ndarray:
        """Second derivatives at the estimates, (size, size); zero for dropped columns."""
        return self.model.point(self.psi).curvature

    def profiled(self, psi: np.ndarray) -> Value:
        """Deviance, gradient, and the curvature at the estimates."""
        point = self.model.point(psi)
        return Value(point.value, point.gradient, self.curvature)

    def coordinates(self, psi: np.ndarray) -> np.ndarray:
        """psi itself."""
        return psi

    def coordinate(self, place: int) -> int:
        """The place of an entry of theta in psi."""
        return place

    def factors(self, psi: np.ndarray) -> tuple[np.ndarray, ...]:
        """T of each term."""
        engine = self.model._engine
        return engine.factors(engine.checked(psi[: len(self.entries)]))

    def estimates(self, psi: np.ndarray, j: int = -1) -> tuple[np.ndarray, Any, float]:
        """Fixed effects, and what linear models have besides."""
        first = len(self.entries)
        return np.asarray(psi[first : first + len(self.model._core.keep)]), None, 1.0

    def extra(self, psi: np.ndarray) -> np.ndarray:
        """Parameters of the distribution in psi."""
        return np.asarray(psi[len(psi) - self.model._core.nextra :])


class XiCriterion(PsiCriterion):
    """The same of a model with covariance structures, in xi = (phi, fixed effects, parameters of
    the distribution).

    Parameters
    ----------
    model : GeneralizedModel
    psi : (size,) array
    phi : (nphi,) array
        The estimates.
    """

    def __init__(self, model: GeneralizedModel, psi: np.ndarray, phi: np.ndarray) -> None:
        super().__init__(model, psi)
        self._within, self._phi = model.within, phi
        self.xi = self._within.xi(phi, psi)
        rest = self.varied[len(self.entries) :]
        self.varied = np.concatenate([~self._within.held_by_bound(phi), rest])

    @cached_property
    def curvature(self) -> np.ndarray:
        """Second derivatives at the estimates, (size, size); zero for what does not move."""
        out, places = np.zeros((len(self.xi),) * 2), np.flatnonzero(self.varied)
        point = self.model.point(self.psi, phi=self._phi)
        out[np.ix_(places, places)] = point.within.second(places)
        return out

    def profiled(self, xi: np.ndarray) -> Value:
        """Deviance, gradient, and the curvature at the estimates."""
        point = self.model.point(self._within.psi(xi))
        slope = point.gradient @ self._within.jacobian(xi)
        return Value(point.value, np.where(self.varied, slope, 0.0), self.curvature)

    def coordinates(self, psi: np.ndarray) -> np.ndarray:
        """xi of the estimates."""
        return self.xi

    def factors(self, xi: np.ndarray) -> tuple[np.ndarray, ...]:
        """T of each term."""
        return super().factors(self._within.psi(xi))

    def estimates(self, xi: np.ndarray, j: int = -1) -> tuple[np.ndarray, Any, float]:
        """Fixed effects, and what linear models have besides."""
        first = len(self._phi)
        return np.asarray(xi[first : first + len(self.model._core.keep)]), None, 1.0


def minimum_with(model: GeneralizedModel, psi: np.ndarray, held: np.ndarray) -> float:
    """The deviance at the best of what is not held (a boolean for each of psi)."""
    with in_words():
        return model.minimum(psi, held)
