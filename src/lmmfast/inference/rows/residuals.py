"""Residuals of a fit: raw, standardized, without the random effects, made independent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.members import slots
from ...engine.compiled import memory_limit
from ...engine.relations import covariance
from ..ddf import check_choice
from .deletion import groups
from .predict import fitted_of, fixed_part_of, row_series
from .residual_covariance import row_deviations

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit


def residuals(fit: Fit, kind: str) -> pd.Series:
    """Residuals of the rows used, as ``Fit.residuals`` documents them."""
    check_choice("type", kind, ("response", "pearson", "normalized", "marginal", "scaled"))
    design = fit.design
    if kind in ("response", "pearson", "normalized"):
        values = design.y - fitted_of(fit)
        if kind != "response":
            values = values / (fit.sigma * row_deviations(fit))
        if kind == "normalized" and design.residual is not None:
            assert fit.estimates.delta is not None
            values = design.residual.correlate(fit.estimates.delta, values[:, None], True)[:, 0]
    else:
        values = design.y - fixed_part_of(fit.estimates, design)
        if design.offset is not None:
            values = values - design.offset
        if kind == "scaled":
            values = _whitened(fit, values)
    return row_series(design, values, "resid")


def _whitened(fit: Fit, marginal: np.ndarray) -> np.ndarray:
    """L^-1 r with L L' = Cov(y), in each set of rows that share random effects."""
    from scipy.linalg import solve_triangular

    root, labels = 1 / row_deviations(fit), _connected_rows(fit)
    residual, delta = fit.design.residual, fit.estimates.delta
    largest = int(np.bincount(labels).max())
    need = 4 * 8.0 * float(largest) ** 2
    if need > memory_limit():
        raise MemoryError(
            f"scaled residuals need the covariance of {largest} rows that share random effects "
            f'({need / 1e9:.1f} GB): use type="pearson" or "marginal"'
        )
    out = np.empty(fit.nobs)
    for rows in groups(labels):
        V = np.eye(len(rows))
        if residual is not None and delta is not None:
            V = residual.correlation(delta, rows)
        for i, term in enumerate(fit.design.terms):
            effects = (term.z[rows] * root[rows, None]) @ fit.estimates.T[i]
            if term.several:
                V += (effects @ effects.T) * _shared(term, rows)
                continue
            codes = term.codes[rows]
            alike = codes[:, None] == codes
            if term.relation is not None:
                levels, back = np.unique(codes, return_inverse=True)
                alike = covariance(term.relation, levels)[np.ix_(back, back)]
            V += (effects @ effects.T) * alike
        L = np.linalg.cholesky(V)
        out[rows] = solve_triangular(L, (root * marginal)[rows], lower=True) / fit.sigma
    return out


def _shared(term: Any, rows: np.ndarray) -> np.ndarray:
    """Covariance of the levels' sums in some rows that have several, W K W' (r, r)."""
    W = term.incidence[rows].matrix
    used = np.unique(W.indices)
    own = W[:, used].toarray()
    if term.relation is None:
        return np.asarray(own @ own.T)
    return np.asarray(own @ covariance(term.relation, used) @ own.T)


def _connected_rows(fit: Fit) -> np.ndarray:
    """A number for each row (n); rows with different numbers are independent."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n, at = fit.nobs, fit.nobs
    levels = []
    for term in fit.design.terms:
        related = term.relation is not None  # all of them are taken as one
        for codes, _ in slots(term.incidence, term.z):
            place = at + (0 if related else 1) * codes.astype(np.int64)
            levels.append(np.where(codes < 0, np.arange(n), place))
        at += len(term.levels)
    rows, columns = np.tile(np.arange(n), len(levels)), np.concatenate(levels)
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(at, at))
    return np.asarray(connected_components(graph, directed=False)[1][:n])
