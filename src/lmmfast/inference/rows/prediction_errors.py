"""Standard errors and intervals of predictions.

The error of a conditional prediction x'beta + z'b is w'(estimates - truth) with w = (Lambda'z, x)
in the coordinates of Henderson's mixed-model equations, and their inverse M^-1 times sigma^2 is its
covariance, that of beta and b with each other included:

    sigma^2 w' M^-1 w,    M = [ Lambda'Z'WZ Lambda + I,  Lambda'Z'WX ;  X'WZ Lambda,  X'WX ].

The grouping factor with the most columns is eliminated level by level; the order of the rest,
the columns of the other factors and of X, decides what that costs. Variance parameters count as
known, as in every standard error that is called conditional.

References
----------
Henderson (1975), *Biometrics* 31, 423-447; Robinson (1991), *Statist. Sci.* 6, 15-32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.columns import Table
from ...data.given import aligned_to_fit
from ...engine.compiled import _memory_limit
from ...errors import DataError
from .. import qspace
from ..ddf import check_level, method_of
from ..wald import t_quantile
from .predict import chosen_groups, open_rows, recipe_of, values_for

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit
    from ..ddf import Method

__all__ = ["prediction_frame"]

INTERVALS = (None, "confidence", "prediction")
AT_ONCE = 8e6  # numbers of a block of right-hand sides
SMALL = 500  # unknowns that are solved for densely whatever their zeros
SPARSE = 0.1  # share of nonzeros below which the rest of the equations is factored as sparse


def prediction_frame(
    fit: Fit,
    predicted: pd.Series,
    newdata: Any,
    re_form: str | Sequence[str],
    interval: str | None,
    level: float,
    ddf: str,
    weights: Any,
    vary_left_out: bool,
) -> pd.DataFrame:
    """Predictions with standard errors and limits, as ``Fit.predict`` documents them."""
    import pandas as pd

    if interval not in INTERVALS:
        raise DataError(f'interval must be "confidence" or "prediction", not {interval!r}')
    check_level(level)
    groups = chosen_groups(fit.design, re_form)
    newdata = None if newdata is None else Table.of(newdata)
    everything = interval == "prediction" and vary_left_out
    rows = _rows(fit, newdata, groups, everything)
    method = method_of(fit, ddf)
    if groups:
        variance, df = _conditional(fit, rows), np.asarray(_conditional_df(fit, ddf))
    else:
        variance, df = _population(fit, rows.X, method)
    variance = variance + rows.unseen_variance(fit)
    total = variance
    if interval == "prediction":
        total = variance + fit.scale / _weights(fit, newdata, weights, len(variance))
        if everything:
            total = total + rows.left_out_variance(fit)
    variance, total = (np.where(rows.open, np.nan, values) for values in (variance, total))
    half = t_quantile((1 + level) / 2, df) * np.sqrt(total)
    fitted = predicted.to_numpy()
    columns = {
        "fit": fitted,
        "se": np.sqrt(variance),
        "lower": fitted - half,
        "upper": fitted + half,
    }
    return pd.DataFrame(columns, index=predicted.index)


# ---- what is predicted --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows to predict; X without dropped columns. Missing values are NaN."""

    X: np.ndarray
    open: np.ndarray  # rows that depend on which columns were dropped (n)
    chosen: dict[int, tuple[np.ndarray, np.ndarray]]  # per term: codes (-1: unseen) and columns
    left_out: dict[int, np.ndarray]  # per term, where their variance is asked for: columns

    def unseen_variance(self, fit: Fit) -> np.ndarray:
        """Variance of the effects of unseen levels (n)."""
        total = np.zeros(len(self.X))
        for i, (codes, z) in self.chosen.items():
            total += np.where(codes < 0, _variance(fit, i, z), 0.0)
        return total

    def left_out_variance(self, fit: Fit) -> np.ndarray:
        """Variance of the random effects that are not predicted, for levels drawn anew (n)."""
        parts = [_variance(fit, i, z) for i, z in self.left_out.items()]
        return np.asarray(sum(parts, np.zeros(len(self.X))))


def _variance(fit: Fit, term: int, z: np.ndarray) -> np.ndarray:
    """Variance of z'b of one term (n)."""
    return np.asarray(fit.scale * np.square(z @ fit.estimates.T[term]).sum(axis=1))


def _rows(fit: Fit, newdata: Table | None, groups: list[str], everything: bool) -> _Rows:
    terms = fit.design.terms
    inside = [i for i, term in enumerate(terms) if term.group in groups]
    outside = [i for i in range(len(terms)) if everything and i not in inside]
    if newdata is None:
        X = fit.design.X
        chosen = {i: (terms[i].codes, terms[i].z) for i in inside}
        left_out = {i: terms[i].z for i in outside}
    else:
        recipe = recipe_of(fit)
        X, _ = replace(recipe, offset=None, offset_terms=()).fixed(newdata)
        chosen = dict(zip(inside, recipe.random(newdata, groups), strict=True)) if inside else {}
        columns = recipe.random_columns(newdata) if outside else []
        left_out = {i: columns[i] for i in outside}
    kept = fit.estimates.fixed_kept
    unknown = np.zeros(len(X), bool) if newdata is None or kept.all() else open_rows(fit, X)
    return _Rows(X[:, kept], unknown, chosen, left_out)


def _weights(fit: Fit, newdata: Table | None, given: Any, n: int) -> np.ndarray:
    """Prior weights of the rows.

    Those that are given; else the fit's own for its rows, and for new ones those of the fit's
    column of weights where they have it (0: missing, no limits), 1 where not.
    """
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
        raise DataError(
            "weights must be positive: the residual variance is sigma^2 / weight",
            variable="weights",
            rows=np.flatnonzero(bad)[:10].tolist(),
        )
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


def _conditional_df(fit: Fit, ddf: str) -> float:
    """Degrees of freedom of conditional predictions: only "residual" gives them any."""
    return fit.nobs - float(fit.estimates.fixed_kept.sum()) if ddf == "residual" else np.inf


def _conditional(fit: Fit, rows: _Rows) -> np.ndarray:
    """Variance of x'(beta-hat - beta) + z'(b-hat - b) over the levels that the fit has seen."""
    few_first = sorted(rows.chosen, key=lambda i: len(fit.design.terms[i].levels))
    codes = [rows.chosen[i][0][:, None] for i in few_first]
    z = [
        np.where(own < 0, 0.0 * rows.chosen[i][1], rows.chosen[i][1])
        for i, own in zip(few_first, codes, strict=True)
    ]
    parts = [*codes, *z, rows.X]
    distinct, back = _distinct(np.concatenate(parts, axis=1))
    present = ~np.isnan(distinct).any(axis=1)
    ends = list(accumulate((part.shape[1] for part in parts), initial=0))
    *own, X = [distinct[present, a:b] for a, b in pairwise(ends)]
    levels = {
        i: (own[j][:, 0].astype(np.int64), own[len(few_first) + j]) for j, i in enumerate(few_first)
    }
    variance: np.ndarray = np.full(len(distinct), np.nan)
    variance[present] = fit.scale * _Equations(fit).quadratic(X, levels)
    return np.asarray(variance[back])


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows without repetitions, and where each one is among them."""
    if rows.shape[1] == 0:
        return rows[:1], np.zeros(len(rows), dtype=np.intp)
    distinct, back = np.unique(rows, axis=0, return_inverse=True)
    return distinct, back.ravel()


class _Equations:
    """Mixed-model equations of a fit, in whitened coordinates, with one factor eliminated.

    With N the block-diagonal part of the first factor, C what it has in common with the rest and
    S = (the rest) - C'N^-1 C, w'M^-1 w = w1'N^-1 w1 + t'S^-1 t, t = w2 - C'N^-1 w1.
    """

    def __init__(self, fit: Fit) -> None:
        from scipy.sparse import block_diag, bsr_matrix, csr_matrix, eye, kron

        rows = qspace.rows_of(fit)
        self.first, *self.others = rows.factors
        self.R = rows.R
        self.kept = {i: list(fit.model._engine.kept(i)) for i in range(len(fit.design.terms))}
        first, T = self.first, self.first.T
        self.inverse = np.linalg.inv(T.T @ rows.blocks_of_first() @ T + np.eye(first.k))
        m = first.nlev
        N = bsr_matrix((self.inverse, np.arange(m), np.arange(m + 1))).tocsr()
        q, p = sum(factor.q for factor in self.others), rows.X.shape[1]
        parts = [kron(eye(factor.nlev), factor.T) for factor in self.others]
        Lambda = block_diag([*parts, eye(p)], format="csr")
        self.C = (kron(eye(m), T.T, format="csr") @ _first_by_all(rows) @ Lambda).tocsr()
        ones = block_diag([eye(q), csr_matrix((p, p))]) if q else csr_matrix((p, p))
        self.solve = _solver(Lambda.T @ _all_by_all(rows) @ Lambda + ones - self.C.T @ (N @ self.C))

    def quadratic(
        self, X: np.ndarray, levels: dict[int, tuple[np.ndarray, np.ndarray]]
    ) -> np.ndarray:
        """w' M^-1 w of rows of X and, per term, levels (-1: none) and columns."""
        step = max(1, int(AT_ONCE / max(1, self.C.shape[1])))
        parts = [
            self._quadratic(
                X[a : a + step],
                {i: (codes[a : a + step], z[a : a + step]) for i, (codes, z) in levels.items()},
            )
            for a in range(0, len(X), step)
        ]
        return np.concatenate([np.empty(0), *parts])

    def _quadratic(
        self, X: np.ndarray, levels: dict[int, tuple[np.ndarray, np.ndarray]]
    ) -> np.ndarray:
        from scipy.sparse import csr_matrix, hstack

        codes, w = self._columns(self.first, levels, len(X))
        solved = np.einsum("iab,ib->ia", self.inverse[codes], w)
        rest = [_placed(factor, *self._columns(factor, levels, len(X))) for factor in self.others]
        rest.append(csr_matrix(np.linalg.solve(self.R.T, X.T).T))
        t = hstack(rest, format="csr") - _placed(self.first, codes, solved) @ self.C
        return np.asarray((w * solved).sum(axis=1) + self._rest(t.tocsr()))

    def _rest(self, t: Any) -> np.ndarray:
        """t'S^-1 t of sparse rows, which often have few columns in common: solved for those."""
        columns = np.unique(t.indices)
        if len(columns) >= t.shape[0]:
            dense = t.toarray()
            return np.asarray((dense * self.solve(dense.T).T).sum(axis=1))
        units = np.zeros((t.shape[1], len(columns)))
        units[columns, np.arange(len(columns))] = 1.0
        own = t[:, columns]
        return np.asarray(own.multiply(own @ self.solve(units)[columns]).sum(axis=1)).ravel()

    def _columns(
        self, factor: qspace.Factor, levels: dict[int, tuple[np.ndarray, np.ndarray]], n: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Levels of a factor and Lambda'z there; zero for rows without a level."""
        codes, w = np.zeros(n, dtype=np.int64), np.zeros((n, factor.k))
        for i, part, R in zip(factor.terms, factor.parts, factor.R, strict=True):
            if i in levels:
                codes, z = np.maximum(levels[i][0], 0), levels[i][1]
                w += np.linalg.solve(R.T, z[:, self.kept[i]].T).T @ factor.T[part]
        return codes, w


def _first_by_all(rows: qspace.Rows) -> Any:
    """Z_1'[Z_R X], sparse."""
    from scipy.sparse import csr_matrix, hstack

    fixed = csr_matrix(rows.first_by_fixed())
    return hstack([rows.first_by_rest(), fixed], format="csr") if rows.factors[1:] else fixed


def _all_by_all(rows: qspace.Rows) -> Any:
    """[Z_R X]'[Z_R X], sparse."""
    from scipy.sparse import bmat, csr_matrix

    fixed = csr_matrix(rows.fixed_by_fixed())
    if not rows.factors[1:]:
        return fixed
    across = csr_matrix(rows.rest_by_fixed())
    return bmat([[rows.rest_by_rest(), across], [across.T, fixed]], format="csr")


def _placed(factor: qspace.Factor, codes: np.ndarray, values: np.ndarray) -> Any:
    """Values in the columns of their levels, n x q, sparse."""
    return replace(factor, codes=codes, z=values).matrix()


def _solver(S: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Solves with a positive definite matrix."""
    from scipy.linalg import cho_factor, cho_solve
    from scipy.sparse.linalg import splu

    size = S.shape[0]
    if size > SMALL and S.nnz < SPARSE * size * size:
        options = {"SymmetricMode": True}
        lu = splu(S.tocsc(), "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
        return lambda right: np.asarray(lu.solve(np.ascontiguousarray(right)))
    limit = _memory_limit()
    if 16.0 * size * size > limit:
        raise MemoryError(
            f"standard errors of conditional predictions need {16e-9 * size * size:.1f} GB, more "
            f"than the {limit / 1e9:.1f} GB that may be used: all grouping factors but the largest "
            f'have {size} columns with the fixed effects; use re_form="none"'
        )
    factor = cho_factor(S.toarray(), lower=True, overwrite_a=True)
    return lambda right: np.asarray(cho_solve(factor, right))
