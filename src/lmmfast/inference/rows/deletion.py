"""Leverages, and what the coefficients would be without some rows, at given variance parameters.

Rows are scaled by the square roots of their weights. With V = I + Z T T'Z' (relative to sigma^2),
P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1 and e = P y, the residuals of the fit,

    d yhat / d y = I - P,    beta - beta_(g) = (X'V^-1 X)^-1 X_g'V^-1 P_gg^-1 e_g

for any set g of rows that is left out: adding an effect for each of them is the same. Of a row,
(V^-1)_ii = 1 - z_i'B z_i; P_gg of the levels of a factor is in levels.py.

References
----------
Cook (1977), *Technometrics* 19; Belsley, Kuh & Welsch (1980), *Regression Diagnostics*;
Christensen, Pearson & Johnson (1992), *Technometrics* 34; Demidenko & Stukel (2005), *Stat. Med.*
24 (leverage and deletion of groups in mixed models).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ...data.members import gathered, slots
from . import remaining
from .levels import Levels
from .predict import fitted_of

if TYPE_CHECKING:
    from ...data.design import Design
    from ...engine.point import Point
    from ...fit import Fit


LOST = 1e-10  # share of the information on a coefficient below which a deletion leaves none


def groups(codes: np.ndarray) -> list[np.ndarray]:
    """Rows of each level."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def root_weights(design: Design) -> np.ndarray:
    """Square roots of the rows' weights (n)."""
    return np.ones(len(design.y)) if design.weights is None else np.sqrt(design.weights)


@dataclass(frozen=True, eq=False)
class Deletion:
    """Deletions of rows from one fit, at its variance parameters."""

    point: Point  # the model at the estimates
    parts: list[remaining.Loading]  # random terms in the rows
    T: list[np.ndarray]  # their relative factors, in whitened columns
    VX: np.ndarray  # (n, p), V^-1 X in the basis of X in which X'V^-1 X = I; kept columns
    back: np.ndarray  # coefficients of the user's kept columns are this times those in that basis
    residuals: np.ndarray  # P y: those of the fit, times the square roots of the weights

    @classmethod
    def of(cls, fit: Fit) -> Deletion:
        design, point = fit.design, fit.point
        root = root_weights(design)
        back = point.basis.E[fit.estimates.fixed_kept]
        VX = design.X[:, fit.estimates.fixed_kept] @ back
        parts, T = [], []
        for i, term in enumerate(design.terms):
            moved = gathered(term.incidence, point.basis.moved[i])
            VX -= np.einsum("ij,ijr->ir", term.z, moved)
            for codes, z in slots(term.incidence, term.z * root[:, None]):
                parts.append(remaining.loading(point, i, codes, z))
                T.append(point.unwhitening[i].T @ fit.estimates.T[i])
        residuals = (design.y - fitted_of(fit)) * root
        return cls(point, parts, T, VX * root[:, None], back, residuals)

    def uncertain(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The diagonal of V^-1 in some rows."""
        return 1 - remaining.variances(self.point, [part.at(rows) for part in self.parts])

    @cached_property
    def diagonal(self) -> np.ndarray:
        """(n,) diagonal of V^-1."""
        return self.uncertain()

    def leverage(self, rows: np.ndarray | None = None) -> np.ndarray:
        """The diagonal of d yhat / d y, of all rows (None) or of some."""
        if rows is None:
            return np.asarray(1 - self.diagonal + (self.VX**2).sum(axis=1))
        return np.asarray(1 - self.uncertain(rows) + (self.VX[rows] ** 2).sum(axis=1))

    def by_row(self) -> np.ndarray:
        """(n, p) changes of the coefficients in the basis of VX, each row left out."""
        left = 1 - self.leverage()  # P_ii = (V^-1)_ii times the share of information that is left
        lost = left <= LOST * self.diagonal
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = np.where(lost, np.nan, self.residuals / left)
        return np.asarray(self.VX * weight[:, None])

    def by_level(self, codes: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Changes (g, p) of coefficients in the basis of VX, each of the chosen levels left out;
        codes (n): the rows' levels. NaN where the others do not determine the coefficients."""
        found = np.empty((len(chosen), self.VX.shape[1]))
        Y = np.column_stack([self.VX, self.residuals])
        for at, gram in Levels(self.point, self.parts, self.T, Y, codes).grams(chosen):
            found[at] = _changes(gram)
        return found


def _changes(gram: np.ndarray) -> np.ndarray:
    """From Y'N^-1 Y, Y = (V^-1 X, P y) in the rows that are left out (g, p + 1, p + 1)."""
    p = gram.shape[1] - 1
    left = np.eye(p) - gram[:, :p, :p]
    least = np.linalg.eigvalsh((left + left.swapaxes(1, 2)) / 2)[:, :1].min(axis=1, initial=1.0)
    lost = least <= LOST
    left[lost] = np.eye(p)
    change = np.linalg.solve(left, gram[:, :p, p:])[:, :, 0]
    return np.where(lost[:, None], np.nan, change)
