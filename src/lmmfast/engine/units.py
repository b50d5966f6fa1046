"""How far parameters of a generalized model move for a change of its criterion by about one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core

if TYPE_CHECKING:
    from ..data.design import Design
    from .families import Family

BLOCK = 65_536  # rows of X that are made at a time where there is no memory for all


def units(model: Any, psi: np.ndarray, eta: np.ndarray) -> np.ndarray:
    """(size,) changes of each parameter of a `GeneralizedModel` from psi for which the curvature is
    about one: a guess.

    eta (n,) is the predictor there.
    """
    theta, beta, extra = model.split(psi)
    design, n = model.design, model.design.n
    T = model._engine.factors(theta)
    out = np.full(model.size, 3 / np.sqrt(n))
    for place, (i, row, _) in enumerate(model.theta_entries):
        size = float(np.linalg.norm(T[i][row])) or 1.0
        out[place] = size / np.sqrt(len(design.terms[i].levels))
    w = _expected_weights(model.family, design, model.classes, eta, extra)
    squares = _mean_squares(design) * n * max(w, 1e-300)
    out[model.ntheta : model.ntheta + len(beta)] = 3 / np.sqrt(np.where(squares > 0, squares, 1.0))
    return out


def _expected_weights(
    family: Family, design: Design, classes: int, eta: np.ndarray, extra: np.ndarray
) -> float:
    """The mean of the rows' Fisher information in eta."""
    given = family.core_family, family.core_link, design.y, design.weights, eta, extra, classes
    w = _core.density(*given, only=("w",))["w"]
    return float(np.mean(w[np.isfinite(w)])) if np.isfinite(w).any() else 1.0


def _mean_squares(design: Design) -> np.ndarray:
    """Of each column of X, over the rows (p,)."""
    fixed = design.fixed
    if design.reading is None or not design.reading.in_file:
        return np.asarray(fixed.mean_squares(np.eye(fixed.width)))
    total = np.zeros(fixed.width)
    for first in range(0, design.n, BLOCK):
        total += np.square(fixed.at(slice(first, first + BLOCK))).sum(axis=0)
    return total / design.n
