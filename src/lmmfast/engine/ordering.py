"""Nested dissection of trailing matrices that are hard to factorize: METIS, through CHOLMOD."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

MANY = 5_000_000  # entries from which METIS takes seconds, in which nothing can stop it


@cache
def _cholmod() -> Any:
    """scikit-sparse's module, None where it is not installed or finds no SuiteSparse."""
    try:
        from sksparse import cholmod
    except ImportError:
        return None
    return cholmod


def nested_dissection(ptr: np.ndarray, row: np.ndarray) -> tuple[str, np.ndarray] | None:
    """METIS's order for a sparse Cholesky factor.

    Parameters
    ----------
    ptr : (n + 1,) int
        Where each column begins in `row`.
    row : (nnz,) int
        Rows of the lower triangle by columns, the diagonal included.

    Returns
    -------
    name, (n,) array
        How it was found, and the i-th node to eliminate. None where scikit-sparse is not installed,
        its CHOLMOD has no METIS or runs out of memory, or there are so many entries that it would
        take long.
    """
    cholmod = _cholmod()
    if cholmod is None or len(row) > MANY:
        return None
    import scipy.sparse

    n = len(ptr) - 1
    parts = np.ones(len(row)), row, ptr.astype(np.int32)
    lower = scipy.sparse.csc_array(parts, shape=(n, n))
    try:
        return "nested dissection (METIS)", _by_metis(cholmod, lower)
    except cholmod.CholmodError:  # no METIS, or no memory for it: we have other orders
        return None


def _by_metis(cholmod: Any, lower: Any) -> np.ndarray:
    if hasattr(cholmod, "CholeskyFactor"):  # scikit-sparse 0.5
        factor = cholmod.CholeskyFactor(
            lower, lower=True, order="metis", supernodal_mode="simplicial"
        )
        return np.asarray(factor.get_perm())
    return np.asarray(cholmod.analyze(lower, mode="simplicial", ordering_method="metis").P())
