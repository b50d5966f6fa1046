"""Generalized models with covariance structures: the covariance of their estimates."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from .generalized_point import GeneralizedPoint, covariance_of

STEP = 1e-5  # of differences of the slopes of theta in phi, relative


class StructuredPoint(GeneralizedPoint):
    """A generalized model at a psi whose theta is that of a phi; as `GeneralizedPoint`.

    Attributes
    ----------
    phi : (nphi,) array
    """

    def __init__(self, model: Any, psi: np.ndarray, phi: np.ndarray, sums: Any = None) -> None:
        super().__init__(model, psi, sums)
        self.phi = phi.copy()
        self.phi.setflags(write=False)

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of the estimates psi, (size, size), which move with phi; NaN for dropped
        columns of X, for entries of theta that do not move, and everywhere when the likelihood is
        not curved in all directions."""
        J, moving, free = self._slopes()
        found = J @ covariance_of(self._hessian(J, moving)) @ J.T
        found[~free], found[:, ~free] = np.nan, np.nan
        return np.asarray(found)

    def _slopes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Derivatives of psi (size, k) in the parameters that move: phi, then the others; which of
        phi move, and which of psi."""
        model = self._model
        own, n = model.structured, model.ntheta
        moving = own.moving(self.phi)
        rest = np.ones(len(self.psi) - n, dtype=bool)
        rest[: len(model.design.x_names)] = model._core.keep
        k = int(moving.sum())
        J = np.zeros((len(self.psi), k + int(rest.sum())))
        J[:n, :k] = own.theta_jacobian(self.phi)[:, moving]
        J[n:, k:] = np.eye(len(rest))[:, rest]
        return J, moving, np.asarray(J.any(axis=1))

    def _hessian(self, J: np.ndarray, moving: np.ndarray) -> np.ndarray:
        """Second derivatives of f in these parameters: J'HJ, and the slope times the bend of
        theta."""
        own, n = self._model.structured, self._model.ntheta
        H = J.T @ self.curvature @ J
        slope, bend = self.gradient[:n], np.zeros((own.nphi, own.nphi))
        for j in np.flatnonzero(moving):
            step = STEP * max(1.0, abs(float(self.phi[j])))
            ends = []
            for side in (1, -1):
                phi = self.phi.copy()
                phi[j] += side * step
                ends.append(own.theta_jacobian(phi).T @ slope)
            bend[j] = (ends[0] - ends[1]) / (2 * step)
        k = int(moving.sum())
        H[:k, :k] += ((bend + bend.T) / 2)[np.ix_(moving, moving)]
        return np.asarray(H)
