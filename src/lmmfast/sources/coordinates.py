"""Coordinates in which cross-products lose no digits: columns centred, scaled and whitened.

They are learned from a sample and fixed for all rows, so that cross-products can be added. They
need only be good: the compiled model whitens again, from the cross-products themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.encode import Layout

Matrix = NDArray[np.float64]
DEPENDENT = 1e-9  # share of a column that others leave, below which it is only scaled
DOUBTFUL = 1e-5  # share below which it may be one that is dropped


@dataclass(frozen=True, eq=False)
class Basis:
    """New columns of one model matrix: (x - mean) B."""

    mean: Matrix  # (k,), zero where there is no constant column
    B: Matrix  # (k, k), upper triangular
    constant: float  # value of the first column where that is the constant one, else 0
    own: NDArray[np.bool_]  # (k,): no combinations of earlier ones, as far as the sample tells
    doubtful: bool  # whether one of these nearly is: all rows judge whether it counts as one

    def apply(self, x: Matrix) -> Matrix:
        """The new columns of rows (n, k)."""
        return np.asarray((x - self.mean) @ self.B)

    @property
    def C(self) -> Matrix:
        """(k, k): the same as x @ C; what is subtracted is a multiple of the constant column."""
        if not self.constant:
            return np.ascontiguousarray(self.B)
        C = self.B.copy()
        C[0] -= self.mean @ self.B / self.constant
        return C


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Of the fixed effects, of every random term, and of the response.

    `slope` (p,) is what is subtracted from the centred response, in the new columns of the fixed
    effects. `shift` is the centre along the first of these, where that is constant: what is
    subtracted first. Else it is 0, and the response is not centred.
    """

    fixed: Basis
    random: tuple[Basis, ...]
    slope: Matrix
    yscale: float
    center: float  # near the mean of the response: sums of it and its squares are taken from it
    shift: float


def basis_of(x: Matrix, constant: float, full: bool) -> Basis:
    """Coordinates of a matrix x (n, k) from a sample of its rows.

    `constant` is the value of the first column if it is constant in all rows, else 0. Columns may
    be combined only where they are `full`; else they are scaled.
    """
    k = x.shape[1]
    mean = np.zeros(k)
    if constant and full:
        mean[1:] = x[:, 1:].mean(axis=0)
    moved = x - mean
    scale = np.sqrt(np.mean(np.square(moved), axis=0))
    scale = np.where(scale > 1e-12 * np.maximum(abs(mean), 1e-300), scale, np.maximum(abs(mean), 0))
    scale = np.where((scale > 0) & np.isfinite(scale), scale, 1.0)
    B = np.diag(1.0 / scale)
    own, doubtful = _independent(moved / scale) if full else (np.arange(k), False)
    if full and len(own):
        root = _root((moved / scale)[:, own]) / np.sqrt(len(x))
        B[np.ix_(own, own)] = _inverse(root) / scale[own, None]
    chosen = np.zeros(k, dtype=bool)
    chosen[own] = True
    return Basis(mean, np.ascontiguousarray(B), constant, chosen, doubtful)


def _independent(x: Matrix) -> tuple[NDArray[np.intp], bool]:
    """Columns that are no combinations of earlier ones in these rows; whether one nearly is."""
    n, k = x.shape
    if n <= k:
        return np.zeros(0, dtype=np.intp), True
    length = np.linalg.norm(x, axis=0)
    chosen, doubtful = np.flatnonzero(length > 0), False
    while len(chosen):
        left = abs(_root(x[:, chosen]).diagonal())
        bad = left <= DEPENDENT * length[chosen]
        doubtful = bool((left <= DOUBTFUL * length[chosen]).any())
        if not bad.any():
            break
        chosen = chosen[~bad]
    return chosen, doubtful


def _root(x: Matrix) -> Matrix:
    return np.asarray(np.linalg.qr(x, mode="r"))


def _inverse(root: Matrix) -> Matrix:
    from scipy.linalg import solve_triangular

    signs = np.sign(root.diagonal())
    return np.asarray(solve_triangular(root * signs[:, None], np.eye(len(root)), lower=False))


def coordinates_of(
    X: Matrix, z: Sequence[Matrix], y: Matrix, constants: Sequence[float], full: Sequence[bool]
) -> Coordinates:
    """Coordinates from a sample of n rows: X, z of each random term, y without its offset.

    `constants` are as for `basis_of`, of X and of each random term; `full` tells of each random
    term whether its columns are correlated.
    """
    fixed = basis_of(X, constants[0], True)
    random = tuple(
        basis_of(own, constant, whole)
        for own, constant, whole in zip(z, constants[1:], full, strict=True)
    )
    center, x = float(y.mean()), fixed.apply(X)
    shift = center / (constants[0] * float(fixed.B[0, 0])) if constants[0] else 0.0
    centred = y - center if shift else y
    slope = _slope(x, centred, constants[0], fixed.own)
    rest = centred - x @ slope
    scale, size = float(np.sqrt(np.mean(np.square(rest)))), float(abs(y).max(initial=0.0))
    if not scale > max(1e-12 * float(abs(centred).max(initial=0.0)), 1e-15 * size):
        scale = size or 1.0
    return Coordinates(fixed, random, slope, scale, center, shift)


def _slope(x: Matrix, y: Matrix, constant: float, own: NDArray[np.bool_]) -> Matrix:
    """Least squares where there are rows enough, else the mean; zero for dependent columns."""
    p = x.shape[1]
    slope: Matrix = np.zeros(p)
    if len(y) > 2 * p + 10:
        slope[own] = np.linalg.lstsq(x[:, own], y, rcond=None)[0]
    elif p and constant:
        slope[0] = y.mean() / x[0, 0]
    return slope


def constant_of(layout: Layout) -> float:
    """1 where the first column is the intercept, else 0."""
    return 1.0 if layout.columns[:1] == ((),) else 0.0
