"""Linear functions of the fixed effects: which the data determine, when columns were dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..fit import Fit


ESTIMABLE = 1e-8  # share of a function along an open direction below which it is rounding
AS_DATA = 3.0  # times what the rows of the data have along a direction that is almost none


@dataclass(frozen=True, eq=False)
class Openness:
    """Directions of the fixed effects about which the data say nothing.

    Along each the rows of the data have noise at most: rounding, and more where a column was
    dropped that depends on others to seven digits only.
    """

    directions: np.ndarray  # (p, j), X directions = 0: one for each dropped column
    noise: np.ndarray  # (j)

    def estimable(self, L: np.ndarray) -> np.ndarray:
        """Which rows of L (k, p) do not depend on how dependent columns were dropped (k)."""
        size = np.abs(L) @ np.abs(self.directions)
        small = np.maximum(ESTIMABLE * size, AS_DATA * self.noise)
        return np.asarray((np.abs(L @ self.directions) <= small).all(axis=1))


def openness_of(fit: Fit) -> Openness:
    """The open directions of a fit; a dropped column of zeros is open by itself."""
    if Openness not in fit._known:
        fit._known[Openness] = _openness(fit)
    openness: Openness = fit._known[Openness]
    return openness


def _openness(fit: Fit) -> Openness:
    kept, X = fit.estimates.fixed_kept, fit.design.fixed
    if kept.all():
        return Openness(np.zeros((len(kept), 0)), np.zeros(0))
    directions = _open_directions(X.root(kept), kept)
    return Openness(directions, X.largest(directions))


def _open_directions(R: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Directions without rows (p, dropped), from R with R'R = X'X."""
    length = np.linalg.norm(R, axis=0)
    length = np.where(length > 0, length, 1.0)
    directions = np.diag(length)[:, ~kept]
    share = -np.linalg.lstsq(R[:, kept] / length[kept], R[:, ~kept], rcond=None)[0]
    share[np.abs(share) < ESTIMABLE * length[~kept]] = 0.0  # nothing but rounding
    directions[kept] = share
    return np.asarray(directions / length[:, None])


def contrasts(L: Any, p: int) -> np.ndarray:
    """L as a (k, p) array of floats."""
    own = np.atleast_2d(np.asarray(L, dtype=np.float64))
    if own.ndim != 2 or own.shape[1] != p:
        raise ValueError(f"contrasts need {p} columns, one for each fixed effect: {own.shape}")
    return own


def usable_rows(L: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Which rows of L are not zero and have no weight on dropped columns."""
    return np.asarray(L.any(axis=1) & ~L[:, ~kept].any(axis=1))
