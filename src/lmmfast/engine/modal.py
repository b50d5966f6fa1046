"""A generalized model at its conditional modes, read lazily: what `Point` is for a linear one.

With W = -d2 l / d eta2 of the rows at the modes, B = (Z'WZ + (Lambda Lambda')^-1)^-1 is the
covariance of the random effects given y and the other parameters, from the curvature at the modes.
In the errors of beta-hat and b-hat together the covariance of beta-hat, from the Hessian of all
parameters, stands in the place of (X'V^-1 X)^-1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from ..errors import FitError
from .point import Basis, Parts, Point, in_words

if TYPE_CHECKING:
    from .generalized import GeneralizedEstimates, GeneralizedModel


class ModalPoint(Point):
    """A generalized model at its estimates.

    Parameters
    ----------
    model : GeneralizedModel
    estimates : GeneralizedEstimates
        Of this model: where it stands, and the covariance of its fixed effects.
    """

    def __init__(self, model: GeneralizedModel, estimates: GeneralizedEstimates) -> None:
        super().__init__(model, estimates.theta, False)
        self._own = estimates

    def __reduce__(self) -> tuple[Any, ...]:
        return ModalPoint, (self._model, self._own)

    @contextmanager
    def _core(self) -> Iterator[Any]:
        """The compiled model, standing here."""
        with in_words(), self._model._standing(self._own.psi) as core:
            yield core

    @cached_property
    def weights(self) -> np.ndarray:
        """W: minus the second derivatives of the rows' log-densities, (n,)."""
        design, family = self._engine.design, self._model.family
        x, eta = np.asarray(self._own.extra, dtype=float), self._own.point.predictor
        given = family.core_name, family.core_link, design.y, design.weights, eta, x
        return -np.asarray(_core.density(*given, family.classes, only=("d2",))["d2"])

    @cached_property
    def basis(self) -> Basis:
        """A root of the covariance of the fixed effects, and what it takes from the random ones."""
        kept = self._own.fixed_kept
        E = np.zeros((len(kept), int(kept.sum())))
        values, vectors = np.linalg.eigh(self._own.vcov[np.ix_(kept, kept)])
        E[kept] = vectors * np.sqrt(np.maximum(values, 0.0))
        weighted = self._engine.design.X @ E * self.weights[:, None]
        return Basis(E, (), self.solve([_sums(term, weighted) for term in self._terms]))

    @property
    def _terms(self) -> Any:
        return self._engine.design.terms

    @property
    def value(self) -> float:
        """-2 log-likelihood."""
        return self._own.point.value

    @property
    def gradient(self) -> np.ndarray:
        """Its gradient in psi."""
        return self._own.point.gradient

    @property
    def information(self) -> np.ndarray:
        """Of linear models."""
        raise _linear("average information")

    @property
    def projection(self) -> tuple[Parts, Parts]:
        """Of linear models."""
        raise _linear("a projection of the response")

    @property
    def traces(self) -> tuple[np.ndarray, np.ndarray]:
        """Of linear models."""
        raise _linear("traces")

    @property
    def hessian(self) -> tuple[np.ndarray, np.ndarray]:
        """Of linear models."""
        raise _linear("a Hessian in variances")


def _sums(term: Any, columns: np.ndarray) -> np.ndarray:
    """Z'V of a term, (m, k, r), for columns V (n, r)."""
    m = len(term.levels)
    out = np.empty((m, term.z.shape[1], columns.shape[1]))
    for j in range(out.shape[1]):
        for r in range(out.shape[2]):
            out[:, j, r] = np.bincount(term.codes, term.z[:, j] * columns[:, r], minlength=m)
    return out


def _linear(what: str) -> FitError:
    return FitError(f"{what} belongs to linear models: a generalized one has none")
