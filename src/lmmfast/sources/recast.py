"""Cross-products of other columns: chosen, combined or left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .blocks import changed

if TYPE_CHECKING:
    from ..data.sums import Group
    from .columns import StreamColumns


Matrix = NDArray[np.float64]
SINGULAR = 1e-10
ROUNDING = 1e-13


@dataclass(frozen=True, eq=False)
class Recast:
    """Cross-products of a design's columns, as the compiled model takes them."""

    blocks: Any  # _core.Blocks
    C: list[Matrix]  # (k, k) of each factor: the blocks' columns are the design's times this
    CX: Matrix  # (p, p), of the fixed effects
    slope: Matrix  # (p,): what was subtracted from the response, in the columns of the blocks, ...
    shift: Matrix  # (p,): ... after the centre, which is this
    yscale: float

    @property
    def beta0(self) -> Matrix:
        """What was subtracted from the response, in the design's columns (p,)."""
        return np.asarray(self.CX @ self.slope + self.CX @ self.shift)


def recast(fixed: StreamColumns, factors: Sequence[Group]) -> Recast:
    """Cross-products of the columns of a model: fixed effects, and groups of `StreamColumns`."""
    cross = fixed.cross
    assert cross.spec.coordinates is not None
    own = cross.spec.coordinates
    old = [group.columns[0].factor for group in factors]
    changes = [_change(group) for group in factors]
    Q, CX, plain = _orthogonal(fixed.map, own.fixed.C, True)
    if plain and old == list(range(len(cross.spec.widths))) and all(c.plain for c in changes):
        slopes = own.slope, _shift(own.shift, len(Q))
        return Recast(cross._blocks, [c.C for c in changes], CX, *slopes, own.yscale)
    E = np.zeros((len(Q) + 1, Q.shape[1] + 1))
    E[:-1, :-1], E[-1, -1] = Q, 1.0
    slope, left = _along(Q, own.slope)
    shift, left_shift = _along(Q, _shift(own.shift, len(Q)))
    E[:-1, -1] = (left + left_shift) / own.yscale
    blocks = changed(cross._blocks, old, [change.P for change in changes], E)
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


def _change(group: Group) -> _Change:
    """How the columns of a factor's terms are made of those in its blocks."""
    first = group.columns[0]
    width = first.cross.spec.widths[first.factor]
    k = sum(own.width for own in group.columns)
    P, C, plain = np.zeros((width, k)), np.zeros((k, k)), True
    for own, there, full in group.terms():
        Q, own_C, same = _orthogonal(own.map, own.basis.C, full)
        at = own.inside
        P[at, there], C[there, there] = Q, own_C
        plain &= same and at.start == there.start
    return _Change(P, C, plain and k == width)


def _orthogonal(map: Matrix, C: Matrix, full: bool) -> tuple[Matrix, Matrix, bool]:
    """Q and C' such that columns C' = (the columns of the blocks) Q, for blocks made with C.

    Without `full` C' is diagonal: columns of `||` are terms of their own.
    """
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


def without(own: Recast, columns: NDArray[np.intp]) -> Recast:
    """The same without some columns of X, combinations of the others.

    They are zero in the blocks, the others do not use them.
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
    blocks = changed(own.blocks, range(len(own.C)), [np.eye(len(C)) for C in own.C], E)
    return Recast(blocks, own.C, CX, slope, shift, own.yscale)
