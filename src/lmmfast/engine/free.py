"""Which covariance parameters a fit may move: the others are held, or tied to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..freeze import Frozen


@dataclass(frozen=True, eq=False)
class Free(Frozen, arrays=("fixed", "basis")):
    """theta = fixed + basis @ z: a fit moves z alone.

    Parameters
    ----------
    fixed : (ntheta,) array
        theta at z = 0: what is held.
    basis : (ntheta, nz) array
        Independent columns. One of the identity leaves a parameter free, one with several ones ties
        parameters to each other; a row of zeros holds a parameter.

    Raises
    ------
    ValueError
        When shapes differ, values are not finite, or columns of the basis are dependent.

    Examples
    --------
    >>> import numpy as np
    >>> from lmmfast import Free
    >>> Free(np.zeros(2), np.array([[1.0], [1.0]])).theta([0.5])
    array([0.5, 0.5])
    """

    fixed: np.ndarray
    basis: np.ndarray

    def __post_init__(self) -> None:
        fixed = np.array(self.fixed, dtype=np.float64)
        basis = np.array(self.basis, dtype=np.float64, order="F")
        if fixed.ndim != 1 or basis.ndim != 2 or len(basis) != len(fixed):
            raise ValueError(
                "fixed needs shape (ntheta,) and basis (ntheta, nz), not "
                f"{fixed.shape} and {basis.shape}"
            )
        if not (np.isfinite(fixed).all() and np.isfinite(basis).all()):
            raise ValueError("fixed and basis must be finite")
        if basis.shape[1] and np.linalg.matrix_rank(basis) < basis.shape[1]:
            raise ValueError(
                "the columns of basis depend on each other: what moves would not be unique"
            )
        object.__setattr__(self, "fixed", fixed)
        object.__setattr__(self, "basis", basis)
        super().__post_init__()

    @property
    def nz(self) -> int:
        """Number of parameters that move."""
        return int(self.basis.shape[1])

    @property
    def moving(self) -> np.ndarray:
        """(ntheta,) bool: which entries of theta are not held."""
        return np.asarray(self.basis.any(axis=1))

    def theta(self, z: Sequence[float] | np.ndarray) -> np.ndarray:
        """(ntheta,) theta of a z (nz,)."""
        return np.asarray(self.fixed + self.basis @ np.asarray(z, np.float64))

    def nearest(self, theta: np.ndarray) -> np.ndarray:
        """(nz,) the z whose theta is nearest to another, by least squares."""
        return np.asarray(np.linalg.lstsq(self.basis, theta - self.fixed, rcond=None)[0])

    def is_free(self, places: Sequence[int]) -> bool:
        """Whether these entries of theta move, each by itself."""
        own = self.basis[list(places)]
        alone = (self.basis[:, own.any(axis=0)] != 0).sum(axis=0) == 1
        return bool(alone.all() and (own != 0).sum() == len(places) == len(alone))

    def is_multiple(self, place: int) -> bool:
        """Whether an entry of theta is a multiple of one parameter that moves."""
        return bool(np.count_nonzero(self.basis[place]) == 1 and self.fixed[place] == 0)

    def lost(self, places: Sequence[int]) -> int:
        """How many parameters move these entries of theta and no others."""
        return self.nz - self.at([k for k in range(len(self.fixed)) if k not in set(places)]).nz

    def at(self, places: Sequence[int | None]) -> Free:
        """The same for the theta of another model, entry by entry; None: one of its own, free."""
        old = [i for i, place in enumerate(places) if place is not None]
        new = [i for i, place in enumerate(places) if place is None]
        there = [place for place in places if place is not None]
        rows = self.basis[there]
        rows = rows[:, rows.any(axis=0)]
        fixed, basis = np.zeros(len(places)), np.zeros((len(places), rows.shape[1] + len(new)))
        fixed[old] = self.fixed[there]
        basis[old, : rows.shape[1]] = rows
        basis[new, range(rows.shape[1], basis.shape[1])] = 1.0
        return Free(fixed, basis)


def directions(
    free: Free | None, T: Sequence[np.ndarray], entries: Sequence[tuple[int, int, int]]
) -> np.ndarray:
    """Directions in which the theta of a fit can move, (ntheta, k); free None: all parameters.

    Parameters in columns of T that are zero stay at this boundary: the criterion is even in them.
    T is by term, entries are (term, row, column) of each parameter.
    """
    varied = np.array([bool(T[i][:, c].any()) for i, _, c in entries], dtype=bool)
    basis = np.eye(len(varied)) if free is None else free.basis
    moved = np.where(varied[:, None], basis, 0.0)
    return np.asarray(moved[:, moved.any(axis=0)])
