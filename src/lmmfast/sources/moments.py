"""Moments of the columns of a design, of rows or from cross-products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..data.design import Design
    from ..fit import Fit

__all__ = ["mean_squares", "noise_along", "open_directions", "response_moments", "variances_of"]

Matrix = NDArray[np.float64]


def mean_squares(design: Design, i: int) -> Matrix:
    """Mean over the rows of the square of each column of random term i (k)."""
    z: Any = design.terms[i].z
    if design.cross is None:
        return np.asarray(np.mean(z**2, axis=0))
    own, second = _columns(design, i)
    return np.asarray(np.einsum("ij,ik,kj->j", own, second, own)) / design.n


def variances_of(fit: Fit) -> tuple[float, dict[str, float]]:
    """Of a streamed fit: variance of X beta over the rows, and of z'b by grouping factor."""
    design, kept = fit.design, fit.estimates.fixed_kept
    cross = design.cross
    assert cross is not None and cross.spec.coordinates is not None
    X: Any = design.X
    slope = X.map[:, kept] @ fit.estimates.beta[kept]
    slope = np.linalg.solve(cross.spec.coordinates.fixed.C, slope)
    square = float(slope @ cross.second_moments()[0] @ slope)
    mean = float(cross._columns @ slope) / fit.nobs
    fixed = max(square - fit.nobs * mean**2, 0.0) / (fit.nobs - 1)
    random: dict[str, float] = {}
    for i, term in enumerate(design.terms):
        own, second = _columns(design, i)
        effects = own @ (fit.sigma * fit.estimates.T[i])
        share = float(np.einsum("ij,ik,kj->", effects, second, effects)) / fit.nobs
        random[term.group] = random.get(term.group, 0.0) + share
    return fixed, random


def _columns(design: Design, i: int) -> tuple[Matrix, Matrix]:
    """A term's columns in the coordinates of the cross-products, and z'z in these."""
    cross = design.cross
    assert cross is not None and cross.spec.coordinates is not None
    z: Any = design.terms[i].z
    C = cross.spec.coordinates.random[z.term].C
    return np.linalg.solve(C, z.map), cross.second_moments()[1][z.term]


def open_directions(design: Design, kept: NDArray[np.bool_], small: float) -> Matrix:
    """Directions of the fixed effects about which the cross-products say nothing (p, dropped).

    Parameters
    ----------
    design : Design
        Of cross-products.
    kept : (p,) bool array
        Columns that were not dropped.
    small : float
        Shares of a column below this are rounding.
    """
    from .recast import gram

    G, A = gram(design)
    length = np.sqrt(np.maximum(np.einsum("ij,ik,kj->j", A, G, A), 0.0))
    size = np.sqrt(np.einsum("ij,i,ij->j", A, G.diagonal(), A))
    length = np.where(length > small * size, length, 1.0)
    directions = np.diag(length)[:, ~kept]
    if directions.size:
        Q, R = np.linalg.qr(A[:, kept] / length[kept])
        share = -np.linalg.solve(R, np.linalg.solve(Q.T @ G @ Q, Q.T @ G @ A[:, ~kept]))
        share[np.abs(share) < small * length[~kept]] = 0.0
        directions[kept] = share
    return np.asarray(directions / length[:, None])


def noise_along(design: Design, directions: Matrix) -> NDArray[np.float64]:
    """What rows have along directions that should be none (j): four root mean squares.

    Of squares no more is known than their rounding.
    """
    cross, X = design.cross, design.X
    assert cross is not None and cross.spec.coordinates is not None
    map: Matrix = X.map  # type: ignore[attr-defined]
    own = np.linalg.solve(cross.spec.coordinates.fixed.C, map @ directions)
    second = cross.second_moments()[0]
    squares = np.einsum("ij,ik,kj->j", own, second, own)
    rounding = np.finfo(float).eps * (own**2).T @ second.diagonal()
    return np.asarray(4 * np.sqrt(np.maximum(squares, rounding) / design.n))


def response_moments(design: Design) -> Matrix:
    """Mean and variance of the response without its offset, over the rows."""
    cross = design.cross
    if cross is None:
        y = design.y if design.offset is None else design.y - design.offset
        return np.array([y.mean(), y.var()])
    own = cross.spec.coordinates
    assert own is not None
    mean, square = cross._response / design.n
    return np.array([own.center + mean, square - mean**2])
