"""Cross-products of other columns: levels put in order, columns chosen, combined or left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _core

if TYPE_CHECKING:
    from ..data.design import Design
    from .absent import AbsentColumns

__all__ = ["Recast", "cholesky", "dependent", "gram", "recast", "reordered", "without"]

Matrix = NDArray[np.float64]
SINGULAR = 1e-10
ROUNDING = 1e-13
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


@dataclass(frozen=True, eq=False)
class Recast:
    """Cross-products of a design's columns, as the compiled model takes them.

    Attributes
    ----------
    blocks : _core.Blocks
    C : list of (k, k) arrays
        One for each factor: the columns of the blocks are the design's times this.
    CX : (p, p) array
    slope : (p,) array
        What was subtracted from the response, in the columns of the blocks, but for the shift.
    shift : (p,) array
        What was subtracted before that, the centre.
    yscale : float
    """

    blocks: Any
    C: list[Matrix]
    CX: Matrix
    slope: Matrix
    shift: Matrix
    yscale: float

    @property
    def beta0(self) -> Matrix:
        """What was subtracted from the response, in the design's columns (p,)."""
        return np.asarray(self.CX @ self.slope + self.CX @ self.shift)


def recast(
    design: Design, factors: Sequence[Sequence[int]], kept: Sequence[Sequence[int]]
) -> Recast:
    """Cross-products of the columns of a streamed design.

    Parameters
    ----------
    design : Design
        Its model matrices are `AbsentColumns`.
    factors : list of lists of int
        Terms of each grouping factor.
    kept : list of tuple of int
        Columns that are kept of each term.
    """
    cross = design.cross
    assert cross is not None and cross.spec.coordinates is not None
    own = cross.spec.coordinates
    old = [design.terms[terms[0]].codes.factor for terms in factors]  # type: ignore[attr-defined]
    changes = [
        _change(design, terms, [kept[i] for i in terms], old[k]) for k, terms in enumerate(factors)
    ]
    Q, CX, plain = _orthogonal(design.X, own.fixed.C, True)  # type: ignore[arg-type]
    if plain and old == list(range(len(cross.spec.widths))) and all(c.plain for c in changes):
        slopes = own.slope, _shift(own.shift, len(Q))
        return Recast(cross._blocks, [c.C for c in changes], CX, *slopes, own.yscale)
    E = np.zeros((len(Q) + 1, Q.shape[1] + 1))
    E[:-1, :-1], E[-1, -1] = Q, 1.0
    slope, left = _along(Q, own.slope)
    shift, left_shift = _along(Q, _shift(own.shift, len(Q)))
    E[:-1, -1] = (left + left_shift) / own.yscale
    blocks = _changed(cross._blocks, old, [change.P for change in changes], E)
    return Recast(blocks, [change.C for change in changes], CX, slope, shift, own.yscale)


def _shift(shift: float, p: int) -> Matrix:
    """A multiple of the first column."""
    out = np.zeros(p)
    out[:1] = shift
    return out


def _along(Q: Matrix, slope: Matrix) -> tuple[Matrix, Matrix]:
    """What of a slope is along orthonormal columns, in these, and what is left of it.

    Nothing is, where that is rounding: of a centre that is far from zero it would not be little.
    """
    along = Q.T @ slope
    left = slope - Q @ along
    if np.linalg.norm(left) <= ROUNDING * np.linalg.norm(slope):
        left = np.zeros_like(left)
    return along, left


@dataclass(frozen=True, eq=False)
class _Change:
    P: Matrix  # columns of the old blocks of a factor to those of the new
    C: Matrix
    plain: bool  # nothing changes


def _change(
    design: Design, terms: Sequence[int], kept: Sequence[Sequence[int]], factor: int
) -> _Change:
    """How the columns of a factor's terms are made of those in its blocks."""
    assert design.cross is not None and design.cross.spec.coordinates is not None
    spec, coordinates = design.cross.spec, design.cross.spec.coordinates
    columns: list[AbsentColumns] = [
        design.terms[i].z[:, list(own)]  # type: ignore[misc]
        for i, own in zip(terms, kept, strict=True)
    ]
    starts, at = {}, 0
    for i in spec.factors[factor][1]:
        starts[i], at = at, at + len(spec.random[i].names)
    k = sum(own.shape[1] for own in columns)
    P, C, plain, to = np.zeros((at, k)), np.zeros((k, k)), True, 0
    for i, own in zip(terms, columns, strict=True):
        full = design.terms[i].structure == "full"
        Q, own_C, same = _orthogonal(own, coordinates.random[own.term].C, full)
        start, j = starts[own.term], own.shape[1]
        P[start : start + len(Q), to : to + j] = Q
        C[to : to + j, to : to + j] = own_C
        plain &= same and start == to
        to += j
    return _Change(P, C, plain and k == at)


def _orthogonal(columns: AbsentColumns, C: Matrix, full: bool) -> tuple[Matrix, Matrix, bool]:
    """Q and C' such that columns C' = (the columns of the blocks) Q, for blocks made with C.

    Without `full` C' is diagonal: columns of `||` are terms of their own.
    """
    map = columns.map
    k = len(map)
    same = map.shape == (k, k) and bool((map == np.eye(k)).all())
    if same and (full or (np.diag(C.diagonal()) == C).all()):
        return np.eye(k), C, True
    own = np.linalg.solve(C, map)
    size = np.linalg.norm(own, axis=0)
    size = np.where(size > 0, size, 1.0)
    if full and own.shape[1] <= k:
        Q, R = np.linalg.qr(own / size)
        if (abs(R.diagonal()) > SINGULAR).all():
            return Q, np.linalg.inv(R) / size[:, None], False
    return own / size, np.diag(1.0 / size), False


def _changed(blocks: Any, old: Sequence[int], P: Sequence[Matrix], E: Matrix) -> Any:
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

    Parameters
    ----------
    G : (k, k) array
        Cross-products of columns that are the user's times C.
    C : (k, k) array
        Upper triangular.
    constant : bool
        Whether the first column is constant: lengths are those of the centred columns then.
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


def without(own: Recast, columns: NDArray[np.intp]) -> Recast:
    """The same without some columns of X: they are zero in the blocks, the others do not use them.

    Parameters
    ----------
    own : Recast
    columns : array of int
        Combinations of the other columns.
    """
    p = len(own.CX)
    kept = np.setdiff1d(np.arange(p), columns)
    inverse = np.linalg.inv(own.CX)
    size = np.linalg.norm(inverse[:, kept], axis=0)
    Q, R = np.linalg.qr(inverse[:, kept] / size)
    E = np.zeros((p + 1, p + 1))
    E[:-1, kept], E[-1, -1] = Q, 1.0
    (along, left), (along_shift, left_shift) = _along(Q, own.slope), _along(Q, own.shift)
    E[:-1, -1] = (left + left_shift) / own.yscale
    CX = np.eye(p)
    CX[np.ix_(kept, kept)] = np.linalg.inv(R) / size[:, None]
    slope, shift = np.zeros(p), np.zeros(p)
    slope[kept], shift[kept] = along, along_shift
    blocks = _changed(own.blocks, range(len(own.C)), [np.eye(len(C)) for C in own.C], E)
    return Recast(blocks, own.C, CX, slope, shift, own.yscale)


def gram(design: Design) -> tuple[Matrix, Matrix]:
    """Cross-products of the columns of X in the blocks' coordinates, and X in these.

    Returns
    -------
    G : (k, k) array
        x'Wx.
    A : (k, p) array
        X = x A.
    """
    cross, X = design.cross, design.X
    assert cross is not None and cross.spec.coordinates is not None
    map: Matrix = X.map  # type: ignore[attr-defined]
    G = cross._blocks.corner[:-1, :-1]
    return G, np.asarray(np.linalg.solve(cross.spec.coordinates.fixed.C, map))
