"""A generalized model at one psi, to be read: derivatives, modes, the covariance of estimates."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import ConvergenceWarning, warn
from ..linalg import predicted_gain

STEP = 2e-3  # of differences of the gradient, in units in which the curvature is one, ...
SHORT, LONG = 0.1, 5.0  # ... and the shortest and the longest relative to it that are as good
MOST_LONGER = 1e3  # times a step that was too short


class GeneralizedPoint:
    """A generalized model at one psi; what is read is computed then, and kept.

    May be used from several threads, and after the model has gone elsewhere; made by
    `GeneralizedModel.point`.

    Attributes
    ----------
    psi : (size,) array
        theta, beta of all columns of X (zero for dropped ones), parameters of the family.
    within : XiPoint or None
        The same in the parameters of covariance structures, where theta is of these.
    """

    def __init__(
        self, model: Any, psi: np.ndarray, sums: Any = None, phi: np.ndarray | None = None
    ) -> None:
        self._model, self._sums, self._phi = model, sums, phi
        self.psi = psi.copy()
        self.psi.setflags(write=False)

    @cached_property
    def value(self) -> float:
        """-2 log-likelihood."""
        with self._model.standing(self.psi, self._sums) as core:
            return float(core.value(self.psi))

    @cached_property
    def gradient(self) -> np.ndarray:
        """Its gradient in psi, (size,); exact, zero for dropped columns."""
        return self._slope(self.psi)

    def _slope(self, psi: np.ndarray) -> np.ndarray:
        with self._model.standing(psi, self._sums) as core:
            return np.asarray(core.value(psi, True)[1])

    @cached_property
    def predictor(self) -> np.ndarray:
        """eta of every row, offset and conditional modes included, (n,)."""
        with self._model.standing(self.psi, self._sums) as core:
            return np.asarray(core.predictor())

    @cached_property
    def leverages(self) -> np.ndarray:
        """Conditional variance of z'b of every row given the parameters, (n,)."""
        with self._model.standing(self.psi, self._sums) as core:
            return np.asarray(core.leverages())

    @cached_property
    def b(self) -> tuple[np.ndarray, ...]:
        """Conditional modes of each term, (m, k)."""
        with self._model.standing(self.psi, self._sums) as core:
            found = self._model._engine.modes(core.modes())
        return tuple(own * has for own, has in zip(found, self._varied, strict=True))

    @cached_property
    def condvar(self) -> tuple[np.ndarray, ...]:
        """Conditional covariances of each level's effects given y and psi, (m, k, k) by term."""
        with self._model.standing(self.psi, self._sums) as core:
            found = self._model._engine.conditional_variances(core.condvar())
        pairs = zip(found, self._varied, strict=True)
        return tuple(own * np.outer(has, has) for own, has in pairs)

    @property
    def _varied(self) -> list[np.ndarray]:
        """Which columns of each term vary, (k,) bool: the core has a little of the others."""
        return [T.any(axis=1) for T in self._model._engine.factors(self._model.split(self.psi)[0])]

    @cached_property
    def curvature(self) -> np.ndarray:
        """Second derivatives of f, (size, size), zero for dropped columns; in columns of T that are
        zero, too, in which f is even."""
        size, p = len(self.psi), len(self._model.design.x_names)
        keep = np.ones(size, bool)
        keep[self._model.ntheta :][:p] = self._model._core.keep
        out, places = np.zeros((size, size)), np.flatnonzero(keep)
        out[np.ix_(places, places)] = self.second(places)
        return out

    @cached_property
    def hessian(self) -> np.ndarray:
        """Second derivatives of f, (size, size).

        NaN in rows and columns of parameters in which f does not move freely: those of dropped
        columns of X, and of columns of T that are zero.
        """
        places = np.flatnonzero(self._model.free(self.psi))
        out = np.full((len(self.psi),) * 2, np.nan)
        out[np.ix_(places, places)] = self.second(places)
        return out

    def second(self, places: np.ndarray) -> np.ndarray:
        """Second derivatives of f in some parameters, (k, k): by their formulas in theta and the
        fixed effects, where there are any; else by central differences of the exact gradient, two
        evaluations each."""
        whole, known = self._by_formula()
        steps = STEP * self._model.units(self.psi, self.predictor)
        for j in places[~known[places]]:
            column = derivative(self._slope, self.psi, int(j), steps[j])
            whole[:, j] = column
            whole[j, known] = column[known]
        H = whole[np.ix_(places, places)]
        return np.asarray((H + H.T) / 2)

    @property
    def curves(self) -> bool:
        """Whether the second derivatives are those of all that the criterion has."""
        return True

    def more(self, psi_of: Any, z: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Second derivatives of what the criterion has beside the compiled one: nothing here."""
        return np.zeros((len(z), len(z)))

    def _by_formula(self) -> tuple[np.ndarray, np.ndarray]:
        """Second derivatives, (size, size), and which rows and columns of them are known."""
        whole, known = np.zeros((len(self.psi),) * 2), np.zeros(len(self.psi), bool)
        with self._model.standing(self.psi, self._sums) as core:
            H = core.hessian(self.psi)
        if H is not None and np.isfinite(H).all():
            whole[: len(H), : len(H)] = H
            known[: len(H)] = True
        return whole, known

    def _moved(self, j: int, step: float) -> np.ndarray:
        psi = self.psi.copy()
        psi[j] += step
        return psi

    @cached_property
    def within(self) -> Any:
        return None if self._phi is None else self._model.within.at(self, self._phi)

    def gain(self) -> float:
        """What a step of length one, in units of the curvature, is predicted to gain."""
        if self.within is not None:
            places = np.flatnonzero(self.within.free)
            return predicted_gain(self.within.slope[places], self.within.second(places))
        free = self._model.free(self.psi)
        return predicted_gain(self.gradient[free], self.hessian[np.ix_(free, free)])

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of the estimates psi, (size, size): twice the inverse of the Hessian.

        NaN where `hessian` is, and everywhere when it is not positive definite.
        """
        return covariance_of(self.hessian) if self.within is None else self.within.covariance


def derivative(
    slope: Callable[[np.ndarray], np.ndarray], at: np.ndarray, j: int, step: float
) -> np.ndarray:
    """The derivative of a slope in one parameter, by central differences; the step is corrected
    where its unit turns out to be far from that in which the curvature is one."""

    def change(step: float) -> np.ndarray:
        ends = []
        for side in (1, -1):
            moved = at.copy()
            moved[j] += side * step
            ends.append(slope(moved))
        return np.asarray((ends[0] - ends[1]) / (2 * step))

    found = change(step)
    right = STEP / np.sqrt(max(abs(found[j]), 1e-300))
    if SHORT < step / right < LONG:
        return found
    return change(min(right, MOST_LONGER * step))


def covariance_of(H: np.ndarray) -> np.ndarray:
    """Twice the inverse of a Hessian; NaN where its diagonal is, and everywhere, with a warning,
    when it is not positive definite."""
    free = ~np.isnan(H.diagonal())
    out = np.full_like(H, np.nan)
    size = H.diagonal()[free]
    unit = 1 / np.sqrt(np.where(size > 0, size, 1.0))  # others are found not to be positive
    scaled = unit[:, None] * H[np.ix_(free, free)] * unit
    try:
        root = np.linalg.inv(np.linalg.cholesky(scaled))
    except np.linalg.LinAlgError:
        what = (
            "the likelihood is not curved in all directions at the estimates: there are no "
            "standard errors"
        )
        warn(ConvergenceWarning(what))
        return out
    out[np.ix_(free, free)] = 2 * unit[:, None] * (root.T @ root) * unit
    return out
