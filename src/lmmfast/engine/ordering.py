"""Fill-reducing orders of sparse symmetric matrices, by CHOLMOD through scikit-sparse."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

MANY = 5_000_000  # entries above which METIS takes longer than it is likely to save

HOW_TO_GET_IT = (
    "scikit-sparse finds it an order: install libsuitesparse-dev (Debian, Ubuntu) or suite-sparse "
    "(Homebrew, conda), then pip install 'lmmfast[sparse]'"
)


@cache
def _cholmod() -> Any:
    """scikit-sparse's module, None where it is not installed or finds no SuiteSparse."""
    try:
        from sksparse import cholmod
    except ImportError:
        return None
    return cholmod


def available() -> bool:
    """Whether scikit-sparse can be used."""
    return _cholmod() is not None


def fill_reducing_order(ptr: np.ndarray, row: np.ndarray) -> np.ndarray | None:
    """CHOLMOD's order for a sparse Cholesky factor: AMD; METIS too where that fills in too much.

    The i-th column to eliminate, (n,), or None without scikit-sparse; of the lower triangle by
    columns, ptr (n + 1,) is where each begins in row, the diagonal included.
    """
    import scipy.sparse

    cholmod = _cholmod()
    if cholmod is None:
        return None
    n = len(ptr) - 1
    kind = np.int32 if len(row) < 2**31 else np.int64
    data = np.ones(len(row))
    lower = scipy.sparse.csc_matrix((data, row.astype(kind), ptr.astype(kind)), shape=(n, n))
    how = "amd" if len(row) > MANY else "default"
    if hasattr(cholmod, "CholeskyFactor"):  # scikit-sparse 0.5
        factor = cholmod.CholeskyFactor(lower, lower=True, order=how, supernodal_mode="simplicial")
        return np.asarray(factor.get_perm())
    return np.asarray(cholmod.analyze(lower, mode="simplicial", ordering_method=how).P())
