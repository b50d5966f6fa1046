"""Blocks of cross-products with levels in another order or of other columns; dependent columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core

Matrix = NDArray[np.float64]
SQUARED = 1e-13  # share of a column's square that is left of it, as for rows (moments.c)


def reordered(
    blocks: Any, widths: list[int], border: int, orders: Sequence[NDArray[np.intp]]
) -> Any:
    """Blocks of some levels of each factor, in another order; the others have no rows."""
    K = len(widths)
    places = []
    for order, m in zip(orders, blocks.nlev, strict=True):
        place = np.full(m, -1, dtype=np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        places.append(place)
    pairs = {}
    for a in range(K):
        for c in range(a + 1, K):
            la, lc, values = blocks.pairs(a, c)
            first, second = places[a][la], places[c][lc]
            there = (first >= 0) & (second >= 0)
            pairs[a, c] = (first[there], second[there], values[there])
    return _core.Blocks.of_arrays(
        widths,
        border,
        [len(order) for order in orders],
        [blocks.diagonal(k)[orders[k]] for k in range(K)],
        [blocks.edge(k)[orders[k]] for k in range(K)],
        blocks.corner,
        pairs,
    )


def changed(blocks: Any, old: Sequence[int], P: Sequence[Matrix], E: Matrix) -> Any:
    """Blocks of other columns: [z Q | X y E]."""
    pairs = {}
    for a in range(len(old)):
        for c in range(a + 1, len(old)):
            if old[a] < old[c]:
                la, lc, values = blocks.pairs(old[a], old[c])
            else:
                lc, la, values = blocks.pairs(old[c], old[a])
                values = values.swapaxes(1, 2)
            pairs[a, c] = (la, lc, P[a].T @ values @ P[c])
    return _core.Blocks.of_arrays(
        [own.shape[1] for own in P],
        E.shape[1],
        [blocks.nlev[f] for f in old],
        [own.T @ blocks.diagonal(f) @ own for f, own in zip(old, P, strict=True)],
        [own.T @ blocks.edge(f) @ E for f, own in zip(old, P, strict=True)],
        E.T @ blocks.corner @ E,
        pairs,
    )


def dependent(G: Matrix, C: Matrix, constant: bool) -> NDArray[np.intp]:
    """Columns that are combinations of earlier ones, as they would be judged by their rows.

    G (k, k) are the cross-products of columns that are the user's times C, upper triangular. Where
    the first column is constant, lengths are those of the centred columns.
    """
    size = np.sqrt(np.maximum(G.diagonal(), 1e-300))
    L = cholesky(G / np.outer(size, size))
    M = (L.T * size) @ np.linalg.inv(C)  # of each of the user's columns, along orthogonal axes
    found: list[int] = []
    axes = np.zeros((len(G), 0))  # of the columns that are kept
    for j in range(len(G)):
        left = M[:, j]
        for _ in range(2):
            left = left - axes @ (axes.T @ left)
        length = np.linalg.norm(M[1:, j] if constant and j else M[:, j])
        if np.linalg.norm(left) > np.sqrt(SQUARED) * length:
            axes = np.column_stack([axes, left / np.linalg.norm(left)])
        else:
            found.append(j)
    return np.array(found, dtype=np.intp)


def cholesky(G: Matrix) -> Matrix:
    """Lower triangle; what is left of columns that depend on others counts as zero."""
    k = len(G)
    L = np.zeros((k, k))
    for j in range(k):
        left = G[j, j] - L[j, :j] @ L[j, :j]
        if left > 1e-15:
            L[j, j] = np.sqrt(left)
            L[j + 1 :, j] = (G[j + 1 :, j] - L[j + 1 :, :j] @ L[j, :j]) / L[j, j]
    return L
