"""Units in which sums of products keep their digits: columns about their means, of unit size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import DataError
from ..freeze import Frozen

Matrix = np.ndarray
LEAST, MOST = 1e-140, 1e140  # of largest values: their squares, and ratios of these, are numbers


@dataclass(frozen=True, eq=False)
class Units(Frozen, arrays=("center", "size", "kept")):
    """X = center + size x columns that the core sees, and the same of the response."""

    center: Matrix  # (p,)
    size: Matrix  # (p,)
    constant: int | None  # the column that is the same in every row
    mean: float  # of the response
    scale: float  # a unit of the response in the core, in the user's units
    kept: Matrix  # (p,) bool: the columns of the core

    @cached_property
    def back(self) -> Matrix:
        """(p, kept): the user's coefficients from those of the core, the mean apart."""
        places = np.flatnonzero(self.kept)
        out = np.zeros((len(self.kept), len(places)))
        out[places, np.arange(len(places))] = self.scale / self.size[places]
        if self.constant is not None:
            out[self.constant] -= (
                self.scale * (self.center / self.size)[places] / self.size[self.constant]
            )
        return out

    def rows(self, X: Matrix, y: Matrix, w: Matrix | None) -> Matrix:
        """(n, p + 1) of the core: (x, y), scaled by the roots of the weights."""
        out = np.empty((len(y), X.shape[1] + 1))
        np.subtract(X, self.center, out=out[:, :-1])
        out[:, :-1] /= self.size
        out[:, -1] = (y - self.mean) / self.scale
        if w is not None:
            out *= np.sqrt(w)[:, None]
        return out

    def log_determinant(self) -> float:
        """log|X'V^-1 X| less that of the core, its V in the user's units."""
        return float(2 * np.log(self.size[self.kept]).sum())


def units_of(X: Matrix, y: Matrix, constant: int | None) -> Units:
    """Units in which columns have mean squares of one, about their means if there is a constant."""
    p = X.shape[1]
    center, size = np.zeros(p), np.ones(p)
    mean = 0.0
    if constant is not None:
        center, mean = X.mean(axis=0), float(y.mean())
        center[constant] = 0.0
        size[constant] = X[0, constant]
    for j in set(range(p)) - {constant}:
        own = np.sqrt(np.mean(np.square(X[:, j] - center[j])))
        if own > 1e-14 * max(abs(center[j]), 1e-300):
            size[j] = own
        else:
            center[j] = 0.0  # a second constant depends on the first
    scale = float(np.sqrt(np.mean(np.square(y - mean))))
    return Units(center, size, constant, mean, scale or 1.0, np.ones(p, bool))


def check_range(values: Matrix, name: str) -> None:
    """DataError where squares of the largest values are no floating-point numbers."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0 or LEAST < largest < MOST:
        return
    extreme = "large" if largest > 1 else "small"
    raise DataError(
        f"the values of {name!r} (up to {largest:.1g}) are too {extreme} for floating-point "
        "numbers, in which their squares must be: measure it in other units",
        variable=name,
    )


def constant_of(X: Matrix) -> int | None:
    """The first column that is the same, and not zero, in every row."""
    same = (j for j in range(X.shape[1]) if X[0, j] != 0 and (X[:, j] == X[0, j]).all())
    return next(same, None)
