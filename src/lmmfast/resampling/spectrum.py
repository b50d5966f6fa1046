"""What one scalar random term leaves of its levels' squares beside the fixed effects.

With Z the term's column by levels and W the weights, the eigenvalues of Z'WZ - Z'WX (X'WX)^-1 X'WZ
are those that the restricted likelihood of its variance depends on (Crainiceanu & Ruppert 2004).
Z'WZ is diagonal, and what is taken from it has the rank of X.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..engine.relations import refuse_related
from ..errors import FitError

if TYPE_CHECKING:
    from ..data.terms import RandomTerm
    from ..fit import Fit

MOST = 4000  # order of a dense matrix whose eigenvalues are taken: some ten seconds
ZERO = 1e-10  # share of the largest diagonal entry that is rounding
SAME = 1e-8  # relative difference of eigenvalues that are equal


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Distinct positive eigenvalues, and how often each occurs."""

    values: np.ndarray  # K  of Z'WZ beside X
    counts: np.ndarray  # K
    rest: int  # residual degrees of freedom that the term does not reach
    diagonal: np.ndarray  # J  of Z'WZ alone
    diagonal_counts: np.ndarray  # J

    @property
    def residual(self) -> int:
        """Rows minus the rank of the fixed effects."""
        return self.rest + int(self.counts.sum())


def spectrum_of(fit: Fit, i: int, column: int = 0) -> Spectrum:
    """The spectrum of one column of random term i.

    Raises
    ------
    FitError
        When there are too many different levels, or the fixed effects leave nothing of the term.
    """
    refuse_related(fit.design, "the exact distribution of a likelihood ratio")
    term = fit.design.terms[i]
    sums = None if fit.design is fit.model.design else fit.design.sums
    alone = fit.model.point(np.zeros_like(fit.theta), reml=fit.reml, sums=sums)
    U = alone.basis.projected[i][:, column]  # Z'W of an orthonormal basis of X
    d = _diagonal(fit, term, column)
    largest = d.max()
    own, sizes = _eigenvalues(d, U, term)
    found = own > ZERO * largest
    if not found.any():
        raise FitError(
            f"the fixed effects take up all that ({term.label}) could explain: there is no test of "
            "its variance"
        )
    values, counts = _distinct(own[found], sizes[found])
    freedom = fit.nobs - int(np.sum(fit.estimates.fixed_kept))
    positive = d[d > ZERO * largest]
    return Spectrum(
        values, counts, freedom - int(counts.sum()), *_distinct(positive, np.ones(len(positive)))
    )


def _diagonal(fit: Fit, term: RandomTerm, column: int) -> np.ndarray:
    """Sums of weight times the square of the column, by level (m)."""
    if not fit.design.is_held:  # weighted as they are
        unit = np.eye(term.source.width)[:, [column]]
        return np.asarray(term.source.by_level(unit)[:, 0, 0])
    z, w = term.z[:, column], fit.design.weights
    squares = z * z if w is None else w * z * z
    return np.bincount(term.codes, squares, len(term.levels))


def _eigenvalues(d: np.ndarray, U: np.ndarray, term: RandomTerm) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of diag(d) - U U', and how often each occurs at least.

    Of r levels with the same d, r - p directions have no part in U (m, p): there d is eigenvalue.
    What is left of the levels are p directions, by a QR decomposition of their rows of U.
    """
    p = U.shape[1]
    distinct, first, sizes = np.unique(d, return_inverse=True, return_counts=True)
    order = int(np.minimum(sizes, p).sum())
    if order > MOST:
        raise FitError(
            f"({term.label}) has {len(d):,} levels, {len(distinct):,} of them with different sums "
            f"of squares: the eigenvalues of a matrix of order {order:,} would be needed, and at "
            f"most {MOST:,} are taken. With so many levels the mixture of lmmfast.ranova is as good"
        )
    members = np.split(np.argsort(first, kind="stable"), np.cumsum(sizes)[:-1])
    kept = [
        U[own] if len(own) <= p else np.linalg.qr(U[own], mode="r") for own in members if p
    ] or [np.zeros((0, p))]
    small = np.concatenate(kept)
    M = -small @ small.T
    M[np.diag_indices(order)] += np.repeat(distinct, np.minimum(sizes, p))
    many = sizes > p
    values = np.concatenate([np.linalg.eigvalsh(M), distinct[many]])
    return values, np.concatenate([np.ones(order), sizes[many] - p])


def _distinct(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values that differ by more than rounding, and how often each occurs."""
    if not len(values):
        return np.zeros(0), np.zeros(0)
    order = np.argsort(values)
    values, counts = values[order], counts[order]
    starts = np.flatnonzero(np.diff(values, prepend=-np.inf) > SAME * values)
    total = np.add.reduceat(counts, starts)
    return np.add.reduceat(values * counts, starts) / total, total
