"""Inverses of relationship matrices, singular ones too.

Of a singular K (q, q) of rank r, r levels are chosen by pivoted Cholesky factorization (Higham
1990) so that their K_11 has an inverse. The effects of the others are sums of theirs,

    b_2 = C b_1,   C = K_21 K_11^-1,   as K_22 = C K_12 exactly:

rows of the others have several levels (`Members`), and b_1 the precision K_11^-1. Nothing is added
to K.

References
----------
Higham (1990), *Analysis of the Cholesky decomposition of a semi-definite matrix*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..freeze import Frozen

SYMMETRIC = 1e-8  # eigenvalue, relative to the largest, below which one is called negative
SINGULAR = 1e-10  # pivot, relative to the largest diagonal entry, that counts as zero
NOISE = 1e-12  # share in a sum that is rounding

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Dependent(Frozen, arrays=("kept", "others", "labels", "ptr", "level", "weight")):
    """Levels whose effects are sums of those of others, in the order of K."""

    kept: NDArray[np.intp]  # (r,), places in K of levels with effects of their own
    others: NDArray[np.intp]  # (d,), of the others
    labels: NDArray[Any]  # (d,), of these; empty where they are not known yet
    ptr: NDArray[np.intp]  # C (d, r) by rows
    level: NDArray[np.int32]
    weight: Matrix

    def named(self, levels: NDArray[Any] | None) -> Dependent:
        """With labels, those of all levels of K given."""
        return self if levels is None else replace(self, labels=levels[self.others])

    def shares(self) -> Any:
        """C (d, r), scipy.sparse.csr_matrix."""
        from scipy import sparse

        shape = len(self.others), len(self.kept)
        return sparse.csr_matrix((self.weight, self.level, self.ptr), shape=shape)

    def spread(self, r: int) -> Any:
        """[I; C] (r + d, r): effects of all levels from those of their own."""
        from scipy import sparse

        return sparse.vstack([sparse.identity(r, format="csr"), self.shares()], format="csr")


def inverse_of(K: Any, families: Sequence[NDArray[np.intp]]) -> tuple[Any, Dependent | None]:
    """The inverse of a sparse K, whose levels are related in families only, one by one.

    Returns
    -------
    Q : (r, r) array or scipy.sparse.csc_matrix
        The inverse for the levels that are kept, in their order.
    dependent : Dependent or None
        The others; None where K has full rank.

    Raises
    ------
    DataError
        When K has negative eigenvalues.
    """
    from scipy import sparse

    found = [
        _family(K[own][:, own].toarray() if len(families) > 1 else K.toarray()) for own in families
    ]
    kept = [own[pivots] for own, (pivots, _, _) in zip(families, found, strict=True)]
    r, q = sum(map(len, kept)), K.shape[0]
    if len(families) == 1 and r == q:
        return found[0][1], None
    whole = np.sort(np.concatenate(kept))
    at = np.full(q, -1, np.intp)
    at[whole] = np.arange(r)
    parts = [_entries(at[k], at[k], Q) for k, (_, Q, _) in zip(kept, found, strict=True)]
    Q = sparse.csc_matrix(_joined(parts), shape=(r, r))
    if r == q:
        return Q, None
    others = np.flatnonzero(at < 0)
    row = np.full(q, -1, np.intp)
    row[others] = np.arange(len(others))
    shares = []
    for own, mine, (_, _, C) in zip(families, kept, found, strict=True):
        shares.append(_entries(row[own[at[own] < 0]], at[mine], C))
    C = sparse.csr_matrix(_joined(shares), shape=(len(others), r))
    C.sort_indices()
    arrays = C.indptr.astype(np.intp), C.indices.astype(np.int32), C.data
    return Q, Dependent(whole, others, np.zeros(0, object), *arrays)


def _entries(rows: NDArray[Any], columns: NDArray[Any], values: Matrix) -> tuple[Matrix, ...]:
    """Values, rows and columns of a dense block, without rounding's noise."""
    at = np.abs(values) > NOISE * np.abs(values).max(initial=0.0)
    i, j = np.nonzero(at)
    return values[at], rows[i], columns[j]


def _joined(parts: Sequence[tuple[Matrix, ...]]) -> Any:
    values, rows, columns = (np.concatenate(part) for part in zip(*parts, strict=True))
    return values, (rows, columns)


def _family(K: Matrix) -> tuple[NDArray[np.intp], Matrix, Matrix]:
    """Places that are kept, ascending, the inverse of K there, and their shares in the others."""
    from scipy.linalg import cho_factor, cho_solve, eigvalsh

    every = np.arange(len(K))
    if len(K) == 1 and K[0, 0] > 0:
        return every, np.asarray(1 / K), np.zeros((0, 1))
    try:
        factor = cho_factor(K, lower=True)
        pivots = np.square(np.diag(factor[0]))
        if pivots.min() > SINGULAR * K.diagonal().max():
            inverse = np.asarray(cho_solve(factor, np.eye(len(K))))
            return every, np.asarray((inverse + inverse.T) / 2), np.zeros((0, len(K)))
    except np.linalg.LinAlgError:
        pass
    values = eigvalsh(K)
    if values[0] < -SYMMETRIC * values[-1] or values[-1] <= 0:
        raise DataError(
            "the relationship matrix is not positive semidefinite: its smallest eigenvalue is "
            f"{values[0]:.3g}, its largest {values[-1]:.3g}; is it a matrix of relationships, with "
            "its rows and columns in the same order?"
        )
    return _reduced(K)


def _reduced(K: Matrix) -> tuple[NDArray[np.intp], Matrix, Matrix]:
    """The same of a singular K."""
    from scipy.linalg import cho_factor, cho_solve
    from scipy.linalg.lapack import dpstrf

    _, order, rank, _ = dpstrf(K, tol=SINGULAR * K.diagonal().max(), lower=1)
    kept = np.sort(order[:rank] - 1)
    rest = np.setdiff1d(np.arange(len(K)), kept)
    factor = cho_factor(K[np.ix_(kept, kept)], lower=True)
    inverse = np.asarray(cho_solve(factor, np.eye(rank)))
    shares = np.asarray(cho_solve(factor, K[np.ix_(kept, rest)])).T
    return kept, np.asarray((inverse + inverse.T) / 2), shares
