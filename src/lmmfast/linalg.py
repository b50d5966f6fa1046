"""Square roots of matrices that may be singular."""

from __future__ import annotations

import numpy as np

__all__ = ["inverse_root", "triangular_root"]

FLAT = 1e-8  # curvature relative to the largest, both scaled, below which a direction is unknown


def triangular_root(root: np.ndarray) -> np.ndarray:
    """Lower triangular L, k x k, with L L' = root root' and no negative diagonal; root is k x m."""
    L = np.zeros((len(root), len(root)))
    R = np.asarray(np.linalg.qr(root.T, mode="r"))
    L[:, : len(R)] = R.T
    return np.asarray(L * np.where(L.diagonal() < 0, -1.0, 1.0))


def inverse_root(H: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R with R R' = 2 H^-1 where H is positive, and the other directions.

    Eigenvalues are those of H with a unit diagonal: what counts as flat does not depend on units.
    """
    size = np.abs(np.diag(H))
    scale = np.sqrt(np.where(size > 0, size, 1.0))
    values, axes = np.linalg.eigh(H / np.outer(scale, scale))
    known = values > FLAT * values.max(initial=0.0)
    own = axes / scale[:, None]
    return np.sqrt(2 / values[known]) * own[:, known], axes[:, ~known] / scale[:, None]
