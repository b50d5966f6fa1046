"""Standard errors and intervals of predictions.

The error of a conditional prediction x'beta + z'b is w'(estimates - truth) with w = (Lambda'z, x)
in the coordinates of Henderson's mixed-model equations, and their inverse M^-1 times sigma^2 is its
covariance, that of beta and b with each other included:

    sigma^2 w' M^-1 w,    M = [ Lambda'Z'WZ Lambda + I,  Lambda'Z'WX ;  X'WZ Lambda,  X'WX ].

With B the covariance of b given y and beta over sigma^2, and E a basis in which X E is orthonormal
in V^-1,

    w' M^-1 w = z'B z + |E'(x - X'WZ B z)|^2.

Variance parameters count as known, as in every standard error that is called conditional.

References
----------
Henderson (1975), *Biometrics* 31, 423-447; Robinson (1991), *Statist. Sci.* 6, 15-32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.columns import Table
from ...data.design import aligned_to_fit
from ...data.members import slots, together
from ...engine.relations import common_variance
from ...errors import DataError
from ...tables import name_index
from ..classes import covariance_of
from ..ddf import check_level, method_of
from ..wald import t_quantile
from . import remaining
from .chosen import Chosen, chosen_columns
from .predict import encoded_terms, open_rows, recipe_for, values_for

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit
    from ..ddf import Method


INTERVALS = (None, "confidence", "prediction")
SHOWN = ("fit", "se", "lower", "upper")
ROWS = 65_536  # rows that are computed together


def prediction_frame(
    fit: Fit,
    predicted: pd.Series,
    newdata: Any,
    re_form: Any,
    interval: str | None,
    level: float,
    ddf: str | None,
    weights: Any,
    vary_left_out: bool,
) -> pd.DataFrame:
    """Predictions with standard errors and limits, as ``Fit.predict`` documents them."""
    import pandas as pd

    check_interval(interval)
    check_level(level)
    chosen = chosen_columns(fit.design, re_form)
    newdata = None if newdata is None else Table.of(newdata)
    everything = interval == "prediction" and vary_left_out
    rows = _rows(fit, newdata, chosen, everything)
    method = method_of(fit, ddf)
    if chosen:  # only "residual" has degrees of freedom there
        residual = fit.nobs - float(fit.estimates.fixed_kept.sum())
        variance, df = _conditional(fit, rows), np.array(residual if ddf == "residual" else np.inf)
    else:
        variance, df = _population(fit, rows.X, method)
    variance = variance + rows.unseen_variance(fit)
    total = variance
    if interval == "prediction":
        total = variance + fit.scale / weights_of(fit, newdata, weights, len(variance))
        if everything:
            total = total + rows.left_out_variance(fit)
    variance, total = (np.where(rows.open, np.nan, values) for values in (variance, total))
    fitted = predicted.to_numpy()
    variance = np.where(np.isnan(fitted), np.nan, variance)  # new_levels="missing"
    half = t_quantile((1 + level) / 2, df) * np.sqrt(total)
    values = np.array([fitted, np.sqrt(variance), fitted - half, fitted + half])
    return pd.DataFrame(values.T, index=predicted.index, columns=name_index(SHOWN), copy=False)


def check_interval(interval: str | None) -> None:
    """DataError for an interval that there is not."""
    if interval not in INTERVALS:
        raise DataError(f'interval must be "confidence" or "prediction", not {interval!r}')


def unknown_variance(
    fit: Fit, newdata: Any, re_form: Any, new_levels: str, weights: Any
) -> np.ndarray:
    """Variance of an observation around its prediction at known parameters (n): of the residual,
    the random effects that are left out, and those of unseen levels unless they are drawn."""
    chosen = chosen_columns(fit.design, re_form)
    newdata = None if newdata is None else Table.of(newdata)
    rows = _rows(fit, newdata, chosen, True)
    total = rows.left_out_variance(fit)
    if new_levels != "sample":
        total = total + rows.unseen_variance(fit)
    if fit.family is not None:  # eta is all that varies: the mean given eta is known
        return np.asarray(total)
    return np.asarray(total + fit.scale / weights_of(fit, newdata, weights, len(total)))


# ---- what is predicted --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows to predict; X without dropped columns. Missing values are NaN."""

    X: np.ndarray
    open: np.ndarray  # rows that depend on which columns were dropped (n)
    chosen: list[tuple[int, np.ndarray, np.ndarray]]  # term, codes (-1: unseen) and columns
    left_out: dict[int, np.ndarray]  # per term, where their variance is asked for: columns

    def unseen_variance(self, fit: Fit) -> np.ndarray:
        """Variance of the effects of unseen levels (n)."""
        total = np.zeros(len(self.X))
        for i, codes, z in self.chosen:
            related = fit.design.terms[i].relation is not None  # levels are known, or missing
            own = 0.0 * z.sum(axis=1) if related else _variance(fit, i, z)
            total += np.where(codes < 0, own, 0.0)
        return total

    def left_out_variance(self, fit: Fit) -> np.ndarray:
        """Variance of the random effects that are not predicted, for levels drawn anew (n)."""
        parts = [_variance(fit, i, z) for i, z in self.left_out.items()]
        return np.asarray(sum(parts, np.zeros(len(self.X))))


def _variance(fit: Fit, term: int, z: np.ndarray) -> np.ndarray:
    """Variance of z'b of one term (n)."""
    what = "the variance of random effects that are left out"
    size = common_variance(fit.design.terms[term], what)
    spread = fit.estimates.sigma * fit.estimates.T[term]
    return np.asarray(size * np.square(z @ spread).sum(axis=1))


def _rows(fit: Fit, newdata: Table | None, chosen: Chosen, everything: bool) -> _Rows:
    terms, kept = fit.design.terms, fit.estimates.fixed_kept
    outside = [
        i for i in range(len(terms)) if everything and not (i in chosen and bool(np.all(chosen[i])))
    ]
    if newdata is None:
        X = fit.design.X
        inside = {i: (terms[i].incidence, terms[i].z) for i in chosen}
        columns = [together(term.incidence, term.z) for term in terms] if outside else []
    else:
        recipe = recipe_for(fit, newdata)
        X, _ = replace(recipe, offset=None, offset_terms=()).fixed(newdata)
        inside = encoded_terms(recipe, newdata, terms, chosen)
        columns = recipe.random_columns(newdata) if outside else []
        for i in [i for i in outside if terms[i].several]:
            columns[i] = together(*encoded_terms(recipe, newdata, terms, {i: np.ones(1)})[i])
    loads = [
        (i, own, part)
        for i, (codes, z) in inside.items()
        for own, part in slots(codes, z * chosen[i])
    ]
    left_out = {i: columns[i] * ~chosen[i] if i in chosen else columns[i] for i in outside}
    unknown = np.zeros(len(X), bool) if newdata is None or kept.all() else open_rows(fit, X)
    return _Rows(X[:, kept], unknown, loads, left_out)


def weights_of(fit: Fit, newdata: Table | None, given: Any, n: int) -> np.ndarray:
    """sigma^2 over the residual variances of the rows: prior weights, and what a residual structure
    says of standard deviations. New rows are not correlated with those of the fit."""
    weights, residual, delta = _prior(fit, newdata, given, n), fit.design.residual, None
    if fit.family is None:
        delta = fit.estimates.delta
    if residual is None or delta is None:
        return weights
    if newdata is None:
        return np.asarray(weights / residual.deviation(delta) ** 2)
    memory = recipe_for(fit, newdata).memory
    return np.asarray(weights / residual.new_deviation(delta, newdata, memory) ** 2)


def _prior(fit: Fit, newdata: Table | None, given: Any, n: int) -> np.ndarray:
    """Prior weights of the rows: those that are given; else the fit's own for its rows, and for new
    ones those of its column of weights where they have it (0: missing, no limits), 1 where not."""
    column = None if fit.design.recipe is None else fit.design.recipe.weights
    if newdata is None and (given is None or (isinstance(given, str) and given == column)):
        return np.ones(n) if fit.weights is None else fit.weights
    if newdata is None:
        given = aligned_to_fit(given, fit.design, "weights")
    elif given is None and (column is None or not newdata.has(column)):
        return np.ones(n)
    values = values_for(column if given is None else given, newdata, "weights", n)
    bad = (values < 0) | np.isinf(values) | ((values == 0) & (given is not None))
    if bad.any():
        message = "weights must be positive: the residual variance is sigma^2 / weight"
        rows = np.flatnonzero(bad)[:10].tolist()
        raise DataError(message, variable="weights", rows=rows)
    return np.broadcast_to(np.where(values == 0, np.nan, values), (n,))


# ---- variances ----------------------------------------------------------------------------------


def _population(fit: Fit, X: np.ndarray, method: Method) -> tuple[np.ndarray, np.ndarray]:
    """x'Vx and degrees of freedom (n)."""
    kept = fit.estimates.fixed_kept
    vcov = method.vcov[np.ix_(kept, kept)]
    distinct, back = _distinct(X)
    L = np.zeros((len(distinct), len(kept)))
    L[:, kept] = np.nan_to_num(distinct)
    variance = np.einsum("ij,jk,ik->i", distinct, vcov, distinct)
    return variance[back], method.df(L)[back]


def _conditional(fit: Fit, rows: _Rows) -> np.ndarray:
    """Variance of x'(beta-hat - beta) + z'(b-hat - b) over the levels that the fit has seen."""
    variance: np.ndarray = np.full(len(rows.X), np.nan)
    present, levels = _seen(rows)
    variance[present] = fit.estimates.sigma**2 * _quadratic(fit, rows.X[present], levels)
    return variance


def _seen(rows: _Rows) -> tuple[np.ndarray, list[tuple[int, np.ndarray, np.ndarray]]]:
    """Rows in which nothing is missing, and their levels and columns of each term."""
    # columns are zero where the level is none that the fit has seen, NaN if missing
    seen = [(i, codes, np.where(codes[:, None] < 0, 0.0 * z, z)) for i, codes, z in rows.chosen]
    missing = np.isnan(rows.X).any(axis=1)
    for _, _, z in seen:
        missing |= np.isnan(z).any(axis=1)
    present = np.flatnonzero(~missing)
    return present, [(i, codes[present], z[present]) for i, codes, z in seen]


def _quadratic(
    fit: Fit, X: np.ndarray, levels: list[tuple[int, np.ndarray, np.ndarray]]
) -> np.ndarray:
    """w'M^-1 w of rows of X and, of each term, levels (-1: none) and columns."""
    point = fit.point
    parts = [remaining.loading(point, i, codes, z) for i, codes, z in levels]
    total = remaining.variances(point, parts) if parts else np.zeros(len(X))
    for a in range(0, len(X), ROWS):
        cut = slice(a, a + ROWS)
        total[cut] += np.square(_along(fit, X, levels, cut)).sum(axis=1)
    return total


def _along(
    fit: Fit, X: np.ndarray, levels: list[tuple[int, np.ndarray, np.ndarray]], cut: slice
) -> np.ndarray:
    """E'(x - X'WZ B z) of some rows, (r, rank)."""
    point = fit.point
    t = X[cut] @ point.basis.E[fit.estimates.fixed_kept]
    for i, codes, z in levels:
        own = point.basis.moved[i][np.maximum(codes[cut], 0)]
        t -= np.einsum("ij,ijr->ir", np.where(codes[cut, None] < 0, 0.0, z[cut]), own)
    return np.asarray(t)


def moves(
    fit: Fit, newdata: Any, re_form: Any, unseen: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How linear predictors of a generalized model move with a root of the covariance of its
    parameters (n, rank), the same of the family's own parameters (nextra, rank), and the variance
    of the predictors given all these (n), with that of unseen levels if asked for; NaN where a row
    is missing or open."""
    chosen = chosen_columns(fit.design, re_form)
    newdata = None if newdata is None else Table.of(newdata)
    rows = _rows(fit, newdata, chosen, False)
    own: np.ndarray = np.full(len(rows.X), np.nan)
    if chosen:
        present, levels = _seen(rows)
        point: Any = fit.point
        along: np.ndarray = np.full((len(rows.X), point.extra.shape[1]), np.nan)
        along[present] = _along(fit, rows.X[present], levels, slice(None))
        parts = [remaining.loading(point, i, codes, z) for i, codes, z in levels]
        own[present] = remaining.variances(point, parts)
        extra = point.extra
    else:
        root = _root_of(covariance_of(fit))
        kept = fit.estimates.fixed_kept
        along, extra = rows.X @ root[: len(kept)][kept], root[len(kept) :]
        own = 0.0 * along.sum(axis=1)
    if unseen:
        own = own + rows.unseen_variance(fit)
    along[rows.open] = np.nan
    return along, extra, own


def _root_of(covariance: np.ndarray) -> np.ndarray:
    """R with R R' = covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows without repetitions, and where each one is among them."""
    if rows.shape[1] == 0:
        return rows[:1], np.zeros(len(rows), dtype=np.intp)
    distinct, back = np.unique(rows, axis=0, return_inverse=True)
    return distinct, back.ravel()
