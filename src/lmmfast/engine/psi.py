"""The deviance of a generalized model in some of its parameters, and its minimum with others held.

psi = (theta, fixed effects, parameters of the distribution), as the compiled model takes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .criterion import Value
from .options import MAX_EVALS
from .search import Minimum, Search

if TYPE_CHECKING:
    from .generalized import GeneralizedModel


class PsiCriterion:
    """The deviance of one model at any psi, with what profiles ask of a criterion.

    Parameters
    ----------
    model : GeneralizedModel
    """

    nu = 1.0  # there is no sigma to estimate

    def __init__(self, model: GeneralizedModel) -> None:
        self.model, self.entries = model, model.theta_entries
        free = np.ones(len(self.entries) + len(model._core.keep) + model._core.nextra, dtype=bool)
        free[len(self.entries) :][: len(model._core.keep)] = model._core.keep
        self.varied = free  # all but dropped columns of X

    def profiled(self, psi: np.ndarray) -> Value:
        """Deviance, gradient and model of the curvature."""
        point = self.model.point(psi)
        return Value(point.value, point.gradient, point.curvature)

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
        return self.fixed(psi), None, 1.0

    def fixed(self, psi: np.ndarray) -> np.ndarray:
        """Fixed effects in psi."""
        first = len(self.entries)
        return np.asarray(psi[first : first + len(self.model._core.keep)])

    def extra(self, psi: np.ndarray) -> np.ndarray:
        """Parameters of the distribution in psi."""
        return np.asarray(psi[len(psi) - self.model._core.nextra :])

    def minimum(self, psi: np.ndarray, held: np.ndarray, most: int = MAX_EVALS) -> Minimum:
        """The minimum over what is not held (a boolean for each parameter), from psi."""
        moving = self.varied & ~held

        def whole(z: np.ndarray) -> np.ndarray:
            out = psi.copy()
            out[moving] = z
            return out

        def at(z: np.ndarray) -> Value:
            f, slope, curvature = self.profiled(whole(z))
            return Value(f, slope[moving], curvature[np.ix_(moving, moving)])

        found = Search(at, most, None).end(psi[moving])
        return found._replace(z=whole(found.z))
