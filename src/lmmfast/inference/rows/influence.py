"""Leverage and deletion diagnostics: what the fit would be without some rows or a group.

Rows are scaled by the square roots of their weights. With V = I + Z T T'Z' (relative to sigma^2),
P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1 and e = P y, the residuals of the fit, at given variance
parameters

    d yhat / d y = I - P,    beta - beta_(g) = (X'V^-1 X)^-1 X_g'V^-1 P_gg^-1 e_g

for any set g of rows that is left out: adding an effect for each of them is the same. P_gg^-1 e_g
needs V^-1 only in the rows and columns of g. The largest grouping factor (1) is eliminated level by
level, V_1^-1 = I - Z_1 K Z_1', and V^-1 = V_1^-1 - V_1^-1 Z_R B Z_R'V_1^-1; the columns R of the
other factors are dense: memory is of the order of the square of their number.

References
----------
Cook (1977), *Technometrics* 19; Belsley, Kuh & Welsch (1980), *Regression Diagnostics*;
Christensen, Pearson & Johnson (1992), *Technometrics* 34; Demidenko & Stukel (2005), *Stat. Med.*
24 (leverage and deletion of groups in mixed models).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ...effects import standard_errors
from ...engine.compiled import _memory_limit
from ...engine.free import directions
from ...errors import DataError, FitError, LmmWarning
from ...linalg import trust_step
from ..qspace import Rows, rows_of, trailing
from ..refits import refitted
from .predict import fitted_of

if TYPE_CHECKING:
    import pandas as pd

    from ...data.design import Design
    from ...data.terms import RandomTerm
    from ...engine.model import Model
    from ...fit import Fit

__all__ = ["influence"]

LOST = 1e-10  # share of the information on a coefficient below which a deletion leaves none
RADIUS = 4.0  # longest step in theta, in standard deviations of the parameters given the others


# ---- V^-1 in some rows ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Level:
    """A level of the eliminated factor."""

    rows: np.ndarray  # its rows
    columns: np.ndarray  # columns of the other factors that these rows have
    KC: np.ndarray  # k x columns   K Z_1'Z_R


class Inverse:
    """V^-1 of a fit, by rows.

    Parameters
    ----------
    rows : Rows
        Of ``qspace.rows_of``: whitened columns, so that units and origins do not matter.

    Raises
    ------
    MemoryError
        When the columns of all factors but the largest are too many for a dense matrix.
    """

    def __init__(self, rows: Rows) -> None:
        first, rest = rows.factors[0], rows.factors[1:]
        starts = np.cumsum([0, *(factor.q for factor in rest)])
        self._z, self._codes, self._q = first.z, first.codes, int(starts[-1])
        _check_memory(self._q, first.name)
        T = first.T
        inner = np.eye(first.k) + T.T @ first.diagonal_blocks() @ T
        self._K = T @ np.linalg.solve(inner, np.broadcast_to(T.T, inner.shape))
        n = len(first.codes)
        at = [
            start + factor.codes[:, None].astype(np.int64) * factor.k + np.arange(factor.k)
            for start, factor in zip(starts, rest, strict=False)
        ]
        self._at = np.concatenate(at, axis=1) if rest else np.zeros((n, 0), np.int64)
        self._zR = np.concatenate([f.z for f in rest], axis=1) if rest else np.zeros((n, 0))
        S = np.zeros((self._q, self._q))
        self._levels: list[_Level] = []
        for some in _groups(first.codes) if rest else []:
            level = self._level(some)
            Z, A = self._dense(some, level)
            S[np.ix_(level.columns, level.columns)] += Z.T @ A
            self._levels.append(level)
        self._B = trailing((S + S.T) / 2, rest)

    def _level(self, rows: np.ndarray) -> _Level:
        columns = np.unique(self._at[rows])
        Z = self._own_columns(rows, columns)
        return _Level(rows, columns, self._K[self._codes[rows[0]]] @ (self._z[rows].T @ Z))

    def _own_columns(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        Z = np.zeros((len(rows), len(columns)))
        Z[np.arange(len(rows))[:, None], np.searchsorted(columns, self._at[rows])] = self._zR[rows]
        return Z

    def _dense(self, rows: np.ndarray, level: _Level) -> tuple[np.ndarray, np.ndarray]:
        """Z_R and V_1^-1 Z_R in rows of one level and the columns that it has."""
        Z = self._own_columns(rows, level.columns)
        return Z, Z - self._z[rows] @ level.KC

    @cached_property
    def diagonal(self) -> np.ndarray:
        """(n,) diagonal of V^-1."""
        out = 1 - np.einsum("ia,iab,ib->i", self._z, self._K[self._codes], self._z)
        for level in self._levels:
            _, A = self._dense(level.rows, level)
            B = self._B[np.ix_(level.columns, level.columns)]
            out[level.rows] -= np.einsum("ij,ij->i", A @ B, A)
        return np.asarray(out)

    def block(self, rows: np.ndarray) -> np.ndarray:
        """V^-1 in some rows and the columns of the same rows."""
        V, codes = np.eye(len(rows)), self._codes[rows]
        used = np.unique(self._at[rows])
        own = [np.flatnonzero(codes == code) for code in np.unique(codes)]
        if self._q:
            touched = [self._levels[codes[some[0]]].columns for some in own]
            used = np.unique(np.concatenate(touched))
        A = np.zeros((len(rows), len(used)))
        for some in own:
            z = self._z[rows[some]]
            V[np.ix_(some, some)] -= z @ self._K[codes[some[0]]] @ z.T
            if self._q:
                level = self._levels[codes[some[0]]]
                columns = np.searchsorted(used, level.columns)
                A[np.ix_(some, columns)] = self._dense(rows[some], level)[1]
        return np.asarray(V - A @ self._B[np.ix_(used, used)] @ A.T)

    def times(self, X: np.ndarray) -> np.ndarray:
        """V^-1 X = V_1^-1 (X - Z_R B Z_R'V_1^-1 X)."""
        first = self._times_first(X)
        if not self._q:
            return first
        met = np.zeros((self._q, X.shape[1]))
        for j in range(self._at.shape[1]):
            np.add.at(met, self._at[:, j], self._zR[:, j, None] * first)
        effects = self._B @ met
        left = X.copy()
        for j in range(self._at.shape[1]):
            left -= self._zR[:, j, None] * effects[self._at[:, j]]
        return self._times_first(left)

    def _times_first(self, X: np.ndarray) -> np.ndarray:
        met = np.zeros((len(self._K), self._z.shape[1], X.shape[1]))
        np.add.at(met, self._codes, self._z[:, :, None] * X[:, None, :])
        effects = self._K @ met
        return np.asarray(X - np.einsum("ia,iap->ip", self._z, effects[self._codes]))


def _check_memory(q: int, eliminated: str) -> None:
    need = 4 * 8.0 * float(q) ** 2
    if need > _memory_limit():
        raise MemoryError(
            f"leverages need {need / 1e9:.1f} GB: only the largest grouping factor ({eliminated}) "
            f"is eliminated, the {q} columns of the others are dense; refit without the groups of "
            "interest instead"
        )


def _groups(codes: np.ndarray) -> list[np.ndarray]:
    """Rows of each level."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


# ---- deletion at fixed variance parameters -------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RowDeletion:
    """Deletions of rows from one fit, at its variance parameters.

    Attributes
    ----------
    inverse : Inverse
    VX : (n, p) array
        V^-1 X in the basis of X in which X'V^-1 X = I; kept columns.
    back : (p, p) array
        Coefficients of the user's kept columns are this times those in that basis.
    residuals : (n,) array
        P y: those of the fit, times the square roots of the weights.
    """

    inverse: Inverse
    VX: np.ndarray
    back: np.ndarray
    residuals: np.ndarray

    @classmethod
    def of(cls, fit: Fit) -> RowDeletion:
        rows = rows_of(fit)
        inverse = Inverse(rows)
        VX = inverse.times(rows.X)
        C = rows.X.T @ VX
        basis = np.linalg.inv(np.linalg.cholesky((C + C.T) / 2)).T
        residuals = fit.design.y - fitted_of(fit)
        if fit.weights is not None:
            residuals = residuals * np.sqrt(fit.weights)
        return cls(inverse, VX @ basis, np.linalg.solve(rows.R, basis), residuals)

    @cached_property
    def leverage(self) -> np.ndarray:
        """(n,) diagonal of d yhat / d y."""
        return np.asarray(1 - self.inverse.diagonal + (self.VX**2).sum(axis=1))

    def by_row(self) -> np.ndarray:
        """(n, p) changes of the coefficients in the basis of VX, each row left out."""
        left = 1 - self.leverage  # P_ii = (V^-1)_ii times the share of information that is left
        lost = left <= LOST * self.inverse.diagonal
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = np.where(lost, np.nan, self.residuals / left)
        return np.asarray(self.VX * weight[:, None])

    def of_group(self, rows: np.ndarray) -> np.ndarray:
        """(p,) change of the coefficients in the basis of VX, these rows left out."""
        X = self.VX[rows]
        solved = np.linalg.solve(
            self.inverse.block(rows), np.column_stack([X, self.residuals[rows]])
        )
        left = np.eye(X.shape[1]) - X.T @ solved[:, :-1]
        if np.linalg.eigvalsh((left + left.T) / 2)[:1].min(initial=1.0) <= LOST:
            return np.full(X.shape[1], np.nan)
        return np.asarray(np.linalg.solve(left, X.T @ solved[:, -1]))


def influence(fit: Fit, by: str | None, refine: bool | str) -> pd.DataFrame:
    """Deletion diagnostics, as ``Fit.influence`` documents them."""
    import pandas as pd

    design = fit.design
    design.rows_for("influence is that of rows")
    if refine not in (False, True, "full"):
        raise ValueError(f'refine must be False, True or "full", not {refine!r}')
    if by is not None and by not in fit.n_levels:
        raise DataError(
            f"{by!r} is not a grouping factor of the model; it has {', '.join(fit.n_levels)}",
            variable=by,
        )
    own = RowDeletion.of(fit)
    columns: dict[str, np.ndarray] = {}
    if by is None:
        index = pd.Index(design.rows if design.index is None else design.index)
        sets = list(np.arange(fit.nobs)[:, None])
        changes = own.by_row()
        columns["hat_diag"] = own.leverage
    else:
        term = next(term for term in design.terms if term.group == by)
        index = pd.Index(term.levels, name=by)
        sets = _groups(term.codes)
        changes = np.array([own.of_group(rows) for rows in sets])
        columns["nobs"] = np.bincount(term.codes)
        columns["hat_trace"] = np.bincount(term.codes, own.leverage)
    kept = fit.estimates.fixed_kept
    beta = np.full((len(sets), len(kept)), np.nan)
    beta[:, kept] = changes @ own.back.T
    scale = standard_errors(fit.estimates)
    if refine:
        beta, scale, columns["sigma"] = _refined(fit, sets, refine == "full")
    columns["cooks_d"] = _cooks_distance(fit, beta)
    names = [f"dfb_{name}" for name in design.x_names]
    shifts = pd.DataFrame(beta / scale, index=index, columns=names)
    return pd.concat([pd.DataFrame(columns, index=index), shifts], axis=1)


def _cooks_distance(fit: Fit, change: np.ndarray) -> np.ndarray:
    """Squared length of the change of beta in units of its covariance, over its rank."""
    kept = fit.estimates.fixed_kept
    if not kept.any():
        return np.full(len(change), np.nan)
    L = np.linalg.cholesky(fit.estimates.vcov[np.ix_(kept, kept)])
    return np.asarray((np.linalg.solve(L, change[:, kept].T) ** 2).sum(axis=0) / kept.sum())


# ---- and with the variance parameters moved ------------------------------------------------------


def _refined(
    fit: Fit, sets: list[np.ndarray], full: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Changes of beta, standard errors and sigma when theta moves too after each deletion."""
    beta = np.full((len(sets), len(fit.design.x_names)), np.nan)
    scale, sigma = np.full_like(beta, np.nan), np.full(len(sets), np.nan)
    for i, rows in enumerate(sets):
        smaller = _moved(fit, rows, full)
        if smaller is not None:
            beta[i] = fit.estimates.beta - smaller.estimates.beta
            scale[i] = standard_errors(smaller.estimates)
            sigma[i] = smaller.sigma
    return beta, scale, sigma


def _moved(fit: Fit, rows: np.ndarray, full: bool) -> Fit | None:
    """The model without some rows, from the fit's theta; None if it lacks a parameter."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LmmWarning)
            model = type(fit.model)(without(fit.design, rows))
            if model.theta_entries != fit.model.theta_entries:
                return None
            if full:
                return refitted(fit, model, fit.theta, free=fit.estimates.free)
            return _one_step(fit, model)
    except (FitError, DataError):
        return None


def _one_step(fit: Fit, model: Model) -> Fit:
    """Newton's step with the average information, within a trust radius, if it leads down.

    Parameters at the boundary stay there: the criterion is even in them.
    """
    f, slope, curvature = model.objective(fit.theta, reml=fit.reml, gradient=True, hessian=True)
    along = directions(fit.estimates.free, fit.estimates.T, fit.model.theta_entries)
    slope, curvature = along.T @ slope, along.T @ curvature @ along
    size = np.abs(curvature.diagonal())  # may be negative: it is an optimum of other rows
    unit = 1 / np.sqrt(np.maximum(size, 1e-8 * size.max(initial=1e-300)))
    step = trust_step(unit * slope, unit[:, None] * curvature * unit, RADIUS)[0]
    theta = fit.theta + along @ (unit * step)
    moved = model.estimates_at(theta, reml=fit.reml)
    if moved.objective > f:
        moved = model.estimates_at(fit.theta, reml=fit.reml)
    return fit.remade(moved, model.design, model)


def without(design: Design, rows: np.ndarray) -> Design:
    """The design without some rows; levels that have none left are gone.

    Raises
    ------
    DataError
        When a grouping factor has a single level left.
    """
    keep = np.ones(len(design.y), bool)
    keep[rows] = False
    known: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for term in design.terms:
        if id(term.codes) not in known:
            left, codes = np.unique(term.codes[keep], return_inverse=True)
            if len(left) < 2:
                raise DataError(f"{term.group!r} has a single level left", variable=term.group)
            known[id(term.codes)] = codes.astype(np.int32), term.levels[left]
    terms = tuple(_shortened(term, keep, *known[id(term.codes)]) for term in design.terms)
    return replace(design, terms=terms).with_rows(
        X=design.X[keep],
        y=design.y[keep],
        weights=None if design.weights is None else design.weights[keep],
        offset=None if design.offset is None else design.offset[keep],
        positions=design.rows[keep],
        index=None if design.index is None else design.index[keep],
    )


def _shortened(
    term: RandomTerm, keep: np.ndarray, codes: np.ndarray, levels: np.ndarray
) -> RandomTerm:
    return term.with_rows(codes, np.ascontiguousarray(term.z[keep]), levels=levels)
