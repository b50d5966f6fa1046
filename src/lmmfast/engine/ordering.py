"""Fill-reducing orders of sparse matrices: minimum degree, reverse Cuthill-McKee, CHOLMOD."""

from __future__ import annotations

from collections.abc import Generator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

MANY = 5_000_000  # entries above which METIS takes longer than it is likely to save
HARD = 1e8  # multiplications of a factorization from which another order may be worth its time

Order = tuple[str, NDArray[np.int32]]


@cache
def _cholmod() -> Any:
    """scikit-sparse's module, None where it is not installed or finds no SuiteSparse."""
    try:
        from sksparse import cholmod
    except ImportError:
        return None
    return cholmod


def fill_reducing_orders(ptr: np.ndarray, row: np.ndarray) -> Generator[Order, float, None]:
    """Orders for a sparse Cholesky factor, most of them only where they can be the best.

    Parameters
    ----------
    ptr : (n + 1,) int
        Where each column begins in `row`.
    row : (nnz,) int
        Rows of the lower triangle by columns, the diagonal included.

    Yields
    ------
    name, (n,) array
        How it was found, and the i-th column to eliminate. What is sent back are the
        multiplications of a factorization in the best order so far.
    """
    import scipy.sparse

    n = len(ptr) - 1
    kind = np.int32 if len(row) < 2**31 else np.int64
    parts = np.ones(len(row)), row.astype(kind), ptr.astype(kind)
    lower = scipy.sparse.csc_matrix(parts, shape=(n, n))
    best = yield "minimum degree", _minimum_degree(lower)
    band = scipy.sparse.csgraph.reverse_cuthill_mckee((lower + lower.T).tocsr(), True)
    if _envelope(lower, band) < best:
        best = yield "reverse Cuthill-McKee", band
    if best > HARD and _cholmod() is not None:
        yield "CHOLMOD", _by_cholmod(lower)


def _minimum_degree(lower: Any) -> np.ndarray:
    """SuperLU's order of the pattern of A + A'; it factorizes too, but drops all entries here."""
    from scipy.sparse.linalg import spilu

    pattern = lower.astype(np.float64)
    pattern.data[:] = 1e-30
    diagonal = (pattern + pattern.T).tocsc()
    diagonal.setdiag(1.0)
    found = spilu(
        diagonal,
        drop_tol=0.5,
        fill_factor=1,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0,
        options={"SymmetricMode": True},
    )
    return np.argsort(found.perm_c)


def _envelope(lower: Any, order: np.ndarray) -> float:
    """Multiplications of a factorization that fills the envelope of this order."""
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    columns = np.repeat(np.arange(len(order)), np.diff(lower.indptr))
    a, b = rank[lower.indices], rank[columns]
    first = np.arange(len(order))
    np.minimum.at(first, np.maximum(a, b), np.minimum(a, b))
    width = (np.arange(len(order)) - first + 1).astype(float)
    return float((width**2).sum() / 2)


def _by_cholmod(lower: Any) -> np.ndarray:
    """CHOLMOD's order: AMD; METIS too where that fills in too much."""
    cholmod = _cholmod()
    how = "amd" if lower.nnz > MANY else "default"
    if hasattr(cholmod, "CholeskyFactor"):  # scikit-sparse 0.5
        factor = cholmod.CholeskyFactor(lower, lower=True, order=how, supernodal_mode="simplicial")
        return np.asarray(factor.get_perm())
    return np.asarray(cholmod.analyze(lower, mode="simplicial", ordering_method=how).P())
