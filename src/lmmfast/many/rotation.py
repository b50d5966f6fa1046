"""Many responses to one dense relationship matrix: rotated once, its levels become independent.

Where every row is a level of its own and b ~ N(0, sigma^2 theta^2 K), K = U diag(l) U',

    U'y ~ N(U'X beta, sigma^2 (theta^2 diag(l) + I)):

a model with one level a row, whose column is the square root of l (Lippert et al. 2011, *Nature
Methods* 8: 833-835; Zhou & Stephens 2012, *Nature Genetics* 44: 821-824). beta, theta and sigma are
the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from ..data.arrays import design_of
from ..engine.model import Model
from ..engine.relations import covariance
from ..errors import silenced

if TYPE_CHECKING:
    from ..data.design import Design

DENSE = 0.05  # share of the precision that is not zero, from which eigenvectors are worth it
FEWEST = 50  # rows
BLOCK = 32  # responses that are rotated together, always as many: no digit depends on the others


@dataclass(frozen=True, eq=False)
class Rotation:
    """The eigenvectors U (n, n), and the design of U'X."""

    U: np.ndarray
    design: Design

    def times(self, values: np.ndarray) -> np.ndarray:
        """U'Y, in Fortran order."""
        n, m = values.shape
        out = np.empty((n, m), order="F")
        block = np.zeros((n, BLOCK), order="F")
        for a in range(0, m, BLOCK):
            width = min(BLOCK, m - a)
            block[:, :width], block[:, width:] = values[:, a : a + width], 0.0
            out[:, a : a + width] = (self.U.T @ block)[:, :width]
        return out


_KNOWN: WeakKeyDictionary[Design, Rotation | None] = WeakKeyDictionary()


def rotation_of(model: Any) -> Rotation | None:
    """The rotation that makes a model's levels independent; None: there is none, or no need."""
    if not isinstance(model, Model):
        return None
    if model.design not in _KNOWN:
        _KNOWN[model.design] = _rotation(model.design)
    return _KNOWN[model.design]


def _rotation(design: Design) -> Rotation | None:
    term = design.terms[0]
    if len(design.terms) > 1 or term.relation is None or design.weights is not None or term.several:
        return None
    if term.source.width > 1 or not term.source.constant().all() or design.n < FEWEST:
        return None
    q = len(term.levels)
    if 2 * len(term.relation.x) < DENSE * q**2 or np.bincount(term.codes).max() > 1:
        return None
    values, U = np.linalg.eigh(covariance(term.relation, term.codes))
    z = float(term.z[0, 0]) * np.sqrt(np.maximum(values, 0.0))
    X = U.T @ design.X
    with silenced():  # one row a level, which K tells from the residuals
        own = np.arange(design.n, dtype=np.int32), z[:, None]
        made = design_of(U.T @ np.arange(float(design.n)), X, [own], None, None)
    return Rotation(U, made)
