"""Likelihoods that have the second-order correction of Laplace's approximation: values, derivatives
and their maximum.

Laplace's part has an exact slope. That of the correction, a smooth function a few hundredths as
large, is by central differences; a fit begins at Laplace's maximum and takes Newton steps with
Laplace's Hessian there, corrected by what the steps show. At the end second differences of the
correction are added to the Hessian, from which standard errors come.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .generalized_point import GeneralizedPoint
from .search import Minimum, Search, Watch

STEP = 5e-3  # of differences of the correction, in units of `GeneralizedModel.units`, ...
SECOND_STEP = 0.05  # ... and of its second differences
GAIN = 1e-8  # predicted decrease at which a fit ends: slopes are known to about 1e-6
MOST_CURVED = 1e9  # pairs of rows that second differences may go through: some seconds
APART = 0.3  # of the size of a column of T that is tried where Laplace's estimate is zero
NONE = 1e-3  # size of a column of T, relative to its unit, that may be zero

At = Callable[[np.ndarray], Any]


class Corrected(NamedTuple):
    """The criterion at one psi."""

    f: float
    slope: np.ndarray
    curvature: np.ndarray


class CorrectedPoint(GeneralizedPoint):
    """A generalized model at one psi, with the correction in value, slope and second derivatives.

    The second derivatives are Laplace's alone where differences of the correction would take too
    long (`curves` is False then); they change standard errors by a percent or so, those of
    variances by more.
    """

    @cached_property
    def value(self) -> float:
        """-2 log-likelihood."""
        return float(self._model.objective(self.psi, sums=self._sums))

    @cached_property
    def gradient(self) -> np.ndarray:
        """Its gradient in psi, (size,); that of the correction by differences."""
        return np.asarray(self._model.objective(self.psi, gradient=True, sums=self._sums)[1])

    @property
    def curves(self) -> bool:
        """Whether the correction is in the second derivatives."""
        price = self._model.second_order.price * len(self.psi) ** 2
        return bool(price <= MOST_CURVED)

    def more(self, psi_of: At, z: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Second derivatives of the correction in coordinates z of psi; none where a step is
        zero, or where they would take too long."""
        if not self.curves:
            return np.zeros((len(z), len(z)))
        at = correction_of(self._model, self._sums, quick=True)
        with self._model._filled(self._sums):
            return second_differences(lambda z: at(psi_of(z)), z, SECOND_STEP * steps)

    @cached_property
    def _second_of_psi(self) -> np.ndarray:
        free = self._model.free(self.psi)
        units = self._model.units(self.psi, self.predictor)
        found: np.ndarray = self.more(lambda psi: psi, self.psi, np.where(free, units, 0.0))
        return found

    def second(self, places: np.ndarray) -> np.ndarray:
        """Second derivatives of f in some parameters, (k, k): as of other points, with those of
        the correction."""
        found: np.ndarray = super().second(places) + self._second_of_psi[np.ix_(places, places)]
        return found


def correction_of(model: Any, sums: Any, *, quick: bool = False) -> At:
    """The correction as a function of psi; quick: as differences do with it."""
    rows: Any = model.design.sums if sums is None else sums

    def at(psi: np.ndarray) -> float:
        with model.standing(psi, sums) as core:
            return float(model.second_order.at(core, psi, rows.y, rows.weights, quick=quick))

    return at


def differences(at: At, psi: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The slope of a function by central differences; zero where a step is zero."""
    out = np.zeros(len(psi))
    for j in np.flatnonzero(steps):
        step = steps[j] * (np.arange(len(psi)) == j)
        out[j] = (at(psi + step) - at(psi - step)) / (2 * steps[j])
    return out


def second_differences(at: At, psi: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Its second derivatives in the same way."""
    out, here, moved = np.zeros((len(psi), len(psi))), at(psi), np.diag(steps)
    places = np.flatnonzero(steps)
    both = {j: at(psi + moved[j]) + at(psi - moved[j]) - 2 * here for j in places}
    for n, i in enumerate(places):
        out[i, i] = both[i] / steps[i] ** 2
        for j in places[:n]:
            step = moved[i] + moved[j]
            mixed = at(psi + step) + at(psi - step) - 2 * here - both[i] - both[j]
            out[i, j] = out[j, i] = mixed / (2 * steps[i] * steps[j])
    return out


def maximum(
    model: Any,
    psi: np.ndarray,
    sums: Any,
    held: np.ndarray,
    most: int,
    watch: Watch | None,
    evals: int,
) -> tuple[np.ndarray, Minimum]:
    """psi at the maximum of the corrected likelihood, from that of Laplace's, and how it ended."""
    laplace = model.uncorrected(psi, sums)
    units, curvature = model.units(psi, laplace.predictor), laplace.curvature
    begin = _opened(model, psi, sums, held, units)
    free = model.free(begin) & ~held

    def whole(z: np.ndarray) -> np.ndarray:
        out = begin.copy()
        out[free] = z
        return out

    def at(z: np.ndarray) -> Corrected:
        value, slope = model.objective(whole(z), gradient=True, sums=sums)
        return Corrected(value, slope[free], curvature[np.ix_(free, free)])

    found = Search(at, most, watch, evals, gain=GAIN).end(begin[free])
    return _closed(model, whole(found.z), found, sums, held, units)


def _columns(model: Any) -> list[np.ndarray]:
    """Places in psi of each column of T, its diagonal first."""
    found: dict[tuple[int, int], list[int]] = {}
    for place, (term, _, column) in enumerate(model.theta_entries):
        found.setdefault((term, column), []).append(place)
    return [np.array(places) for places in found.values()]


def _opened(
    model: Any, psi: np.ndarray, sums: Any, held: np.ndarray, units: np.ndarray
) -> np.ndarray:
    """psi, with columns of T that are zero for Laplace's and should not be for this criterion: it
    is even in them, so that no slope says so."""
    for places in _columns(model):
        if psi[places].any() or held[places].any():
            continue
        other = psi.copy()
        other[places[0]] = APART * units[places[0]]
        if model.objective(other, sums=sums) < model.objective(psi, sums=sums):
            psi = other
    return psi


def _closed(
    model: Any,
    psi: np.ndarray,
    found: Minimum,
    sums: Any,
    held: np.ndarray,
    units: np.ndarray,
) -> tuple[np.ndarray, Minimum]:
    """The end of a search with diagonals of T that are not negative, and with columns that are
    nearly zero at zero where that costs nothing."""
    for places in _columns(model):
        if held[places].any():
            continue
        if psi[places[0]] < 0:
            psi[places] *= -1
        if psi[places].any() and (np.abs(psi[places]) < NONE * units[places]).all():
            other = psi.copy()
            other[places] = 0.0
            value = model.objective(other, sums=sums)
            if value <= found.value + GAIN:
                psi, found = other, found._replace(value=value)
    return psi, found
