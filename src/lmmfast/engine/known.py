"""Fits with a known residual standard deviation: the criterion at this sigma, in theta alone.

It is f(theta) + nu (k - 1 - log k), with f the criterion at the best sigma and k = r^2(theta) / nu
over sigma^2 (see `criterion`). Newton's method in a trust region; the curvature is the average
information, corrected by what the steps show (symmetric rank one). A column of T that ends near
zero is tried at zero, as every fit has exact zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..errors import FitError
from ..linalg import rank_one, trust_step
from .criterion import Criterion, ValueWithSigma

GAIN = 1e-9  # predicted decrease at which it ends, deviance units
NEAR_ZERO = 1e-2  # diagonal entries of T, in units of the whitened columns, that are tried at zero
SMALLEST = 1e-14  # radius of a step, beside rounding


class Minimum(NamedTuple):
    """Where the search ended."""

    z: np.ndarray
    value: float
    gain: float  # decrease that slope and curvature still predict
    evals: int
    status: str


Watch = Callable[[int, float, float, float, float], bool]


def minimum(
    criterion: Criterion, z: np.ndarray, sigma: float, most: int, watch: Watch | None
) -> Minimum:
    """The minimum over the coordinates z of theta, from a start."""
    found = _Search(criterion, sigma, most, watch).end(z)
    zero = _at_zero(criterion, found.z)
    if zero is None or found.status != "converged":
        return found
    search = _Search(criterion, sigma, most, watch, found.evals)
    there = search.end(zero)
    return there if there.value <= found.value + GAIN else found._replace(evals=there.evals)


class _Search:
    """One search, and how many evaluations it took."""

    def __init__(
        self, criterion: Criterion, sigma: float, most: int, watch: Watch | None, evals: int = 0
    ) -> None:
        self.criterion, self.log_variance = criterion, 2 * float(np.log(sigma))
        self.most, self.watch, self.evals = most, watch, evals

    def at(self, z: np.ndarray) -> ValueWithSigma | None:
        self.evals += 1
        try:
            found = self.criterion.with_sigma(z, self.log_variance)
        except FitError:
            return None
        return found if np.isfinite(found.f) else None

    def end(self, z: np.ndarray) -> Minimum:
        here = self.at(z)
        if here is None:
            raise FitError("the objective is not finite at the starting value with this sigma")
        learnt, radius, gain = np.zeros((len(z), len(z))), 1.0, np.inf
        while True:
            free = here.curvature.diagonal() > 0  # a column at zero has neither slope nor curvature
            unit = 1 / np.sqrt(np.where(free, here.curvature.diagonal(), 1.0))
            model = unit[:, None] * (here.curvature + learnt) * unit
            scaled, gain = trust_step(unit * here.slope, model, radius)
            if self.watch and self.watch(self.evals, here.f, here.f, radius, gain):
                return Minimum(z, here.f, gain, self.evals, "stopped")
            if gain <= GAIN or radius < SMALLEST:
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


def _at_zero(criterion: Criterion, z: np.ndarray) -> np.ndarray | None:
    """The coordinates with columns of T at zero that are near it; None where none is."""
    theta, entries = criterion.theta(z), criterion.entries
    out = z.copy()
    for place, (term, row, column) in enumerate(entries):
        if row != column or abs(theta[place]) > NEAR_ZERO * criterion.unit[place]:
            continue
        mine = [k for k, (t, _, c) in enumerate(entries) if (t, c) == (term, column)]
        own = [criterion.coordinate(k) for k in mine]
        if all(e is not None for e in own):
            out[[e for e in own if e is not None]] = 0.0
    return None if np.array_equal(out, z) else out
