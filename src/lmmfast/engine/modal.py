"""A generalized model at its conditional modes, read lazily: what `Point` is for a linear one.

With W = -d2 l / d eta2 of the rows at the modes, B = (Z'WZ + (Lambda Lambda')^-1)^-1 is the
covariance of the random effects given y and the other parameters, from the curvature at the modes.
The modes b = Lambda u move with the parameters: with c = Z'l',

    db = dLambda u - B Z'W (X dbeta + Z dLambda u) + B Lambda^-T dLambda'c + B Z'l'_x dx,

and errors of predictions have the covariance of all parameters, through these, beside B.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from ..data.members import gathered, summed
from ..errors import FitError
from .point import Basis, Parts, Point, in_words

if TYPE_CHECKING:
    from .generalized import GeneralizedModel
    from .generalized_estimates import GeneralizedEstimates


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
        """The compiled model with the weights of the rows here and T as it is, zeros included."""
        with in_words(), self._model.standing(self._own.psi) as core:
            core.evaluate(self._theta, False, value=False)
            yield core

    @cached_property
    def condvar(self) -> Parts:
        """Covariance of each level's effects given y, (m, k, k) by term."""
        return self._own.point.condvar

    @cached_property
    def _rows(self) -> dict[str, np.ndarray]:
        """Derivatives of the rows' log-densities in eta: d1, d2 (n,) and d1x (nextra, n)."""
        design, family, own = self._engine.design, self._model.family, self._own
        x, eta = np.asarray(own.extra, dtype=float), own.point.predictor
        given = family.core_family, family.core_link, design.y, design.weights, eta, x
        found: dict[str, np.ndarray] = _core.density(
            *given, family.classes, only=("d1", "d2", "d1x")
        )
        return found

    @cached_property
    def _root(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A root R of the covariance of all parameters: its rows of theta, beta and the family's
        own."""
        free = ~np.isnan(self._own.covariance.diagonal())
        values, vectors = np.linalg.eigh(self._own.covariance[np.ix_(free, free)])
        R = np.zeros((len(free), len(values)))
        R[free] = vectors * np.sqrt(np.maximum(values, 0.0))
        theta, beta, extra = self._model.split(R)
        return theta, beta, extra

    @property
    def extra(self) -> np.ndarray:
        """The rows of the root that `basis` has of the family's own parameters, (nextra, rank)."""
        return self._root[2]

    @cached_property
    def basis(self) -> Basis:
        """A root R of the covariance of all parameters: E has its rows of the fixed effects, and
        moved is -J R with J the derivatives of the modes in the parameters."""
        theta, beta, extra = self._root
        along = self._engine.design.X @ beta * self._rows["d2"][:, None]
        if len(extra):
            along += self._rows["d1x"].T @ extra
        at_rest, pulled = self._along_theta(theta, along)
        parts = zip(self._terms, pulled, strict=True)
        solved = self.solve([_sums(term, along) + pull for term, pull in parts])
        moved = tuple(-(s + a) for s, a in zip(solved, at_rest, strict=True))
        return Basis(beta, (), moved)

    def _along_theta(
        self, directions: np.ndarray, along: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """How the modes b = T u move with theta, for directions (ntheta, r) of it: at fixed u, by
        term (m, k, r), and what else pulls at them, B Lambda^-T dLambda'Z'l' without B. What eta
        does at fixed u is added to `along` (n, r), times d2."""
        at_rest, pulled = [], []
        entries = self._model.theta_entries
        for i, (term, T) in enumerate(zip(self._terms, self._own.T, strict=True)):
            c = _sums(term, self._rows["d1"][:, None])[:, :, 0]
            u, dT = c @ T, np.zeros((*T.shape, directions.shape[1]))
            for place, (owner, row, column) in enumerate(entries):
                if owner == i:
                    dT[row, column] = directions[place]
            rest = np.einsum("rcd,mc->mrd", dT, u)
            moved = np.einsum("nr,nrd->nd", term.z, gathered(term.incidence, rest))
            along += moved * self._rows["d2"][:, None]
            back = np.einsum("rcd,mr->mcd", dT, c)  # dT'c; in T' of something where it matters
            inverse = np.linalg.pinv(T.T, rcond=1e-10)
            pulled.append(np.einsum("kc,mcd->mkd", inverse, back))
            at_rest.append(rest)
        return at_rest, pulled

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
            out[:, j, r] = summed(term.incidence, term.z[:, j] * columns[:, r], m)
    return out


def _linear(what: str) -> FitError:
    return FitError(f"{what} belongs to linear models: a generalized one has none")
