"""Newton's method in a trust region, for criteria that have a value, a slope and a curvature.

The curvature may be a model of the Hessian, the average information for example: it is corrected by
what the steps show (symmetric rank one).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..errors import FitError
from ..linalg import rank_one, trust_step

GAIN = 1e-9  # predicted decrease at which it ends, deviance units
SMALLEST = 1e-14  # radius of a step, beside rounding


class Minimum(NamedTuple):
    """Where the search ended."""

    z: np.ndarray
    value: float
    gain: float  # decrease that slope and curvature still predict
    evals: int
    status: str


Watch = Callable[[int, float, float, float, float], bool]


class Search:
    """One search, and how many evaluations it took.

    Parameters
    ----------
    at : callable
        Of z (k,): the criterion there with ``f``, ``slope`` (k,) and ``curvature`` (k, k); FitError
        where it has none.
    most : int
        Evaluations.
    watch : callable, optional
        Called before each step; a true result stops the search.
    evals : int, default 0
        Made before.
    gain : float, optional
        Predicted decrease at which it ends.
    """

    def __init__(
        self,
        at: Callable[[np.ndarray], Any],
        most: int,
        watch: Watch | None,
        evals: int = 0,
        *,
        gain: float = GAIN,
    ) -> None:
        self._at, self.most, self.watch, self.evals = at, most, watch, evals
        self.gain = gain

    def at(self, z: np.ndarray) -> Any:
        """The criterion there; None where it is not finite."""
        try:
            return self._evaluated(z)
        except FitError:
            return None

    def _evaluated(self, z: np.ndarray) -> Any:
        self.evals += 1
        found = self._at(z)
        return found if np.isfinite(found.f) else None

    def end(self, z: np.ndarray) -> Minimum:
        """The minimum, from z; FitError where there is nothing to begin with."""
        here = self._evaluated(z)  # an error here says why
        if here is None:
            raise FitError("the objective is not finite at the starting value")
        learnt, radius, gain = np.zeros((len(z), len(z))), 1.0, np.inf
        while True:
            free = here.curvature.diagonal() > 0  # a column at zero has neither slope nor curvature
            unit = 1 / np.sqrt(np.where(free, here.curvature.diagonal(), 1.0))
            model = unit[:, None] * (here.curvature + learnt) * unit
            scaled, gain = trust_step(unit * here.slope, model, radius)
            if self.watch and self.watch(self.evals, here.f, here.f, radius, gain):
                return Minimum(z, here.f, gain, self.evals, "stopped")
            if gain <= self.gain or radius < SMALLEST:
                return Minimum(z, here.f, gain, self.evals, "converged")
            if self.evals >= self.most:
                return Minimum(z, here.f, gain, self.evals, "evaluation limit")
            step = unit * scaled
            trial = self.at(z + step)
            decrease = -np.inf if trial is None else here.f - trial.f
            if trial is not None:
                change = trial.slope - here.slope - (here.curvature + trial.curvature) @ step / 2
                learnt = rank_one(learnt, change, step, unit)
            length = float(np.linalg.norm(scaled))
            if decrease > 0.75 * gain:
                radius = max(radius, 2 * length)
            elif decrease < 0.25 * gain:
                radius = length / 4
            if trial is not None and decrease > 0:
                z, here = z + step, trial
            elif gain < 1e-12 * max(abs(here.f), 1.0):  # the rest is rounding
                return Minimum(z, here.f, gain, self.evals, "converged")
