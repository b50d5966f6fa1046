"""Standard errors of variance parameters, for results under statsmodels' names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..inference.satterthwaite import Satterthwaite
from ..results import LMMFit

__all__ = ["covariance_uncertainty"]


def covariance_uncertainty(
    fit: LMMFit, places: Sequence[tuple[int, int, int] | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of entries of the T T', and standard errors of the same times sigma^2.

    Cov(theta) = 2 / f'' of the profiled criterion f; sigma^2 is r^2(theta) / nu at its best, with
    the further variance 2 sigma^4 / nu of its own (see `satterthwaite`); then the delta method.

    Parameters
    ----------
    fit : LMMFit
    places : sequence of (term, row, column) or None
        Entries; None for one that is held at zero.

    Returns
    -------
    cov : (len(places), len(places)) array
        Rows and columns of parameters that are at zero, or that the data do not determine, are NaN.
    se : (len(places),) array
    """
    moved, entries, known = _movement(fit, places)
    variance = fit.sigma**2
    step = moved @ known.root
    cov = step @ step.T
    both = variance * (moved + np.outer(entries, known.slope)) @ known.root
    se = np.sqrt((both**2).sum(axis=1) + 2 * (variance * entries) ** 2 / known.nu)
    lost = np.linalg.norm(moved @ known.unknown, axis=1) > 1e-6 * np.linalg.norm(moved, axis=1)
    lost |= _at_boundary(fit, places)
    cov[lost], cov[:, lost], se[lost] = np.nan, np.nan, np.nan
    held = np.array([place is None for place in places], dtype=bool)
    cov[held], cov[:, held], se[held] = 0.0, 0.0, 0.0
    return cov, se


def _movement(
    fit: LMMFit, places: Sequence[tuple[int, int, int] | None]
) -> tuple[np.ndarray, np.ndarray, Satterthwaite]:
    """Derivatives of the entries in the free parameters, the entries, what is known."""
    known = Satterthwaite(fit)
    first = np.cumsum([0, *(len(term.row) for term in known.terms)])
    J, entries = np.zeros((len(places), first[-1])), np.zeros(len(places))
    for at, place in enumerate(places):
        if place is None:
            continue
        t, i, j = place
        T, term = fit.estimates.T[t], known.terms[t]
        entries[at] = T[i] @ T[j]
        own = np.zeros((len(T), len(term.kept)))
        own[term.kept] = term.C
        moved = own @ term.T
        r, c = term.row, term.column
        J[at, first[t] : first[t + 1]] = own[i, r] * moved[j, c] + own[j, r] * moved[i, c]
    return J @ known.directions, entries, known


def _at_boundary(fit: LMMFit, places: Sequence[tuple[int, int, int] | None]) -> np.ndarray:
    """Which entries involve a variance of zero."""
    out = np.zeros(len(places), dtype=bool)
    for at, place in enumerate(places):
        if place is not None:
            T = fit.estimates.T[place[0]]
            out[at] = not (T[place[1]].any() and T[place[2]].any())
    return out
