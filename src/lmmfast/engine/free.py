"""Which covariance parameters a fit may move: the others are held, or tied to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from ..data.design import Design
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
    sigma : float, optional
        The residual standard deviation where it is known. Default: it is estimated.

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
    sigma: float | None = None

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
        if self.sigma is not None and not 0 < self.sigma < np.inf:
            raise ValueError(f"sigma must be positive and finite, not {self.sigma!r}")
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
        return Free(fixed, basis, self.sigma)


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


def positive(theta: np.ndarray, entries: Sequence[tuple[int, int, int]], free: Free) -> np.ndarray:
    """theta with columns of T turned so that their diagonal entries are not negative, where all of
    a column is free: the criterion does not depend on the sign of a column."""
    out = theta.copy()
    for place, (term, row, column) in enumerate(entries):
        mine = [k for k, (t, _, c) in enumerate(entries) if (t, c) == (term, column)]
        if row == column and out[place] < 0 and free.is_free(mine) and not free.fixed[mine].any():
            out[mine] *= -1
    return out


# ---- by name -------------------------------------------------------------------------------------


def theta_names(design: Design, entries: Sequence[tuple[int, int, int]]) -> list[str]:
    """Names of the entries of theta: "g.x" on the diagonal of T, "g.x.Intercept" below it."""
    names = []
    for i, r, c in entries:
        term = design.terms[i]
        columns = [term.columns[r]] if r == c else [term.columns[r], term.columns[c]]
        names.append(".".join([term.group, *columns]))
    return names


def held(fixed: Any, names: Sequence[str], diagonal: Sequence[bool]) -> Free | None:
    """What may move when some parameters are held at values; None: all of them.

    Parameters
    ----------
    fixed : mapping, or None
        "theta": values by name, or for all entries with None or NaN for those that move. "sigma": a
        number.
    names : sequence of str
        Of the entries of theta.
    diagonal : sequence of bool
        Which of them are on the diagonal, and not negative.
    """
    if fixed is None:
        return None
    if not isinstance(fixed, Mapping) or not set(fixed) <= {"theta", "sigma"}:
        raise ValueError(f'fixed must be {{"theta": values, "sigma": number}}, not {fixed!r}')
    sigma = fixed.get("sigma")
    if sigma is not None and (isinstance(sigma, bool) or not isinstance(sigma, Real)):
        raise ValueError(f"sigma must be a number, not {sigma!r}")
    values = _values(fixed.get("theta", [None] * len(names)), names)
    moving = np.isnan(values)
    bad = np.flatnonzero(~moving & (~np.isfinite(values) | (np.array(diagonal) & (values < 0))))
    if len(bad):
        name, value = names[bad[0]], values[bad[0]]
        raise ValueError(f"theta {name!r} cannot be {value}: a diagonal entry is zero or more")
    if moving.all() and sigma is None:
        return None
    known = None if sigma is None else float(sigma)
    return Free(np.where(moving, 0.0, values), np.eye(len(values))[:, moving], known)


def _values(given: Any, names: Sequence[str]) -> np.ndarray:
    """One value for each entry, NaN for those that move."""
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise ValueError(f"theta has no {name!r}: its entries are {', '.join(names)}")
            if names.count(name) > 1:
                raise ValueError(f"theta has several {name!r}: give values in order, None for free")
        given = [given.get(name) for name in names]
    try:
        values = np.array([np.nan if v is None else v for v in np.atleast_1d(given)], dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"theta must be numbers, None for those that move: {given!r}") from None
    if values.shape != (len(names),):
        raise ValueError(
            f"theta has {len(names)} entries, {', '.join(names)}: {values.size} values were given"
        )
    return values
