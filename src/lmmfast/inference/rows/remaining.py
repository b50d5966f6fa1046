"""What the data leave open about random effects: their covariances B given y, over sigma^2.

Blocks of levels that occur together are read off the evaluation of the fit; those of other levels
are columns of B, which are solved for once each. Columns are whitened, so that units and origins do
not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import FitError
from ...progress import progress

if TYPE_CHECKING:
    from ...engine.point import Point


AT_ONCE = 8e6  # numbers of a block of right-hand sides
TOGETHER = 64  # of which the core takes so many at once
ROWS = 65_536  # rows that are read together
HOURS = 1e13  # operations of the solves of one call: a few hours


@dataclass(frozen=True, eq=False)
class Loading:
    """What one random term adds in some rows: z'b of a level."""

    term: int  # in the formula's order
    codes: np.ndarray  # levels (n); -1 where the term adds nothing
    z: np.ndarray  # whitened columns (n, kept); finite

    def at(self, rows: np.ndarray | slice) -> Loading:
        """Some of the rows."""
        return replace(self, codes=self.codes[rows], z=self.z[rows])


def loading(point: Point, term: int, codes: np.ndarray, z: np.ndarray) -> Loading:
    """Levels and columns of rows, in the user's units; no level where a code is -1."""
    present = codes >= 0
    own = z if present.all() else np.where(present[:, None], z, 0.0)
    return Loading(term, codes, own @ point.whitening[term])


def variances(point: Point, parts: Sequence[Loading]) -> np.ndarray:
    """z'B z of every row (n), z over all the loadings; those of one term have different levels.

    FitError when levels that do not occur together are so many that solving for them takes hours,
    or when conjugate gradients do not converge.
    """
    n = len(parts[0].codes) if parts else 0
    total: np.ndarray = np.full(n, np.nan)
    exact = n if point.is_exact else 0
    with progress(exact, "standard errors", "row", 2 * ROWS) as advance:
        for a in range(0, exact, ROWS):
            cut = slice(a, min(a + ROWS, n))
            total[cut] = _sum(point, [part.at(cut) for part in parts], solve=False)
            advance(cut.stop - a)
    left = np.flatnonzero(np.isnan(total))
    if len(left):
        total[left] = _solved(point, [part.at(left) for part in parts])
    return total


def _sum(point: Point, parts: Sequence[Loading], solve: bool) -> np.ndarray:
    """z'B z by pairs of terms; NaN where a block is not known and is not to be solved for."""
    total = np.zeros(len(parts[0].codes))
    for one, other in combinations_with_replacement(parts, 2):
        both = np.flatnonzero((one.codes >= 0) & (other.codes >= 0))
        levels = one.codes[both], other.codes[both]
        if solve:
            B = blocks(point, one.term, other.term, *levels)
        else:
            B = point.covariances(one.term, other.term, levels, whitened=True)
        share = np.einsum("ia,iab,ib->i", one.z[both], B, other.z[both])
        total[both] += share if one is other else 2 * share
    return total


def _solved(point: Point, parts: Sequence[Loading]) -> np.ndarray:
    """The same where levels do not occur together: a solve for each row, or for each level."""
    keys = np.concatenate([np.column_stack([part.codes, part.z]) for part in parts], axis=1)
    _, first, back = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    distinct = [part.at(first) for part in parts]
    sizes = [len(np.unique(part.codes)) * part.z.shape[1] for part in parts]
    columns = sum(sizes) - (max(sizes) if point.is_exact else 0)
    if columns < len(first):
        return _sum(point, distinct, solve=True)[back.ravel()]
    _check_price(point, len(first))
    step, found = _at_once(point), []
    with progress(len(first), "standard errors, solved for", "row", 2 * step) as advance:
        for a in range(0, len(first), step):
            found.append(_by_rows(point, [part.at(slice(a, a + step)) for part in distinct]))
            advance(len(found[-1]))
    return np.concatenate(found)[back.ravel()]


def _by_rows(point: Point, parts: Sequence[Loading]) -> np.ndarray:
    """z'(B z), a right-hand side for each row."""
    n = len(parts[0].codes)
    V = _empty(point, n)
    for part in parts:
        rows = np.flatnonzero(part.codes >= 0)
        V[part.term][part.codes[rows], :, rows] = part.z[rows] @ point.unwhitening[part.term].T
    X, total = point.solve(V), np.zeros(n)
    for part in parts:
        rows = np.flatnonzero(part.codes >= 0)
        own = X[part.term][part.codes[rows], :, rows] @ point.unwhitening[part.term]
        total[rows] += np.einsum("ij,ij->i", part.z[rows], own)
    return total


def of_sums(point: Point, i: int, shares: Any) -> np.ndarray:
    """Covariances (d, k, k) over sigma^2 of sums of the levels of term i, by their shares (d, m),
    sparse: a column of B for each."""
    k, found = point.shapes[i][1], []
    step = max(1, _at_once(point) // k)
    _check_price(point, shares.shape[0] * k)
    for a in range(0, shares.shape[0], step):
        own = shares[a : a + step].toarray()
        V = _empty(point, len(own) * k)
        for j in range(k):
            V[i][:, j, j::k] = own.T
        X = point.solve(V)[i]
        found.append(np.einsum("dm,mjdl->djl", own, X.reshape(*X.shape[:2], len(own), k)))
    return np.concatenate(found)


def blocks(point: Point, i: int, j: int, li: np.ndarray, lj: np.ndarray) -> np.ndarray:
    """Blocks of B at any pairs of levels li, lj (n) of terms i and j: (n, k_i, k_j), of whitened
    columns. FitError as for `variances`."""
    if point.is_exact:
        B = point.covariances(i, j, (li, lj), whitened=True)
    else:
        B = np.full((len(li), point.whitening[i].shape[1], point.whitening[j].shape[1]), np.nan)
    unknown = np.flatnonzero(np.isnan(B).any(axis=(1, 2)))
    if len(unknown) == 0:
        return B
    one, other = np.unique(li[unknown]), np.unique(lj[unknown])
    if len(one) * B.shape[1] <= len(other) * B.shape[2]:
        B[unknown] = _columns_at(point, i, one, li[unknown], j, lj[unknown])
    else:
        B[unknown] = _columns_at(point, j, other, lj[unknown], i, li[unknown]).swapaxes(1, 2)
    return B


def _columns_at(
    point: Point, i: int, levels: np.ndarray, li: np.ndarray, j: int, lj: np.ndarray
) -> np.ndarray:
    """Blocks (n, k_i, k_j) from the columns of B of these levels of term i."""
    k = point.whitening[i].shape[1]
    out = np.empty((len(li), k, point.whitening[j].shape[1]))
    place = np.searchsorted(levels, li)
    order = np.argsort(place, kind="stable")
    ends = np.searchsorted(place[order], np.arange(len(levels) + 1))
    for a, b, X in _columns(point, i, levels):
        rows = order[ends[a] : ends[b]]
        own = X[j].reshape(*X[j].shape[:2], b - a, k)[lj[rows], :, place[rows] - a]
        out[rows] = own.swapaxes(1, 2) @ point.unwhitening[j]
    return out


def _columns(
    point: Point, i: int, levels: np.ndarray
) -> Iterator[tuple[int, int, tuple[np.ndarray, ...]]]:
    """Columns of B of so many levels of term i at a time: from, to, B of all terms (m, k, r)."""
    dual = point.unwhitening[i]
    k = dual.shape[1]
    _check_price(point, len(levels) * k)
    step = max(1, _at_once(point) // k)
    for a in range(0, len(levels), step):
        b = min(a + step, len(levels))
        V = _empty(point, (b - a) * k)
        own = V[i].reshape(*V[i].shape[:2], b - a, k)
        own[levels[a:b], :, np.arange(b - a)] = dual
        yield a, b, point.solve(V)


def _empty(point: Point, r: int) -> list[np.ndarray]:
    """r right-hand sides of zeros."""
    return [np.zeros((*shape, r)) for shape in point.shapes]


def _at_once(point: Point) -> int:
    """Right-hand sides that are solved for together: some times as many as the core takes."""
    many = max(1, int(AT_ONCE / sum(m * k for m, k in point.shapes)))
    return many - many % TOGETHER if many > TOGETHER else many


def _check_price(point: Point, solves: int) -> None:
    """Hours of work are refused."""
    if solves * point.price <= HOURS:
        return
    effects = sum(m * k for m, k in point.shapes)
    raise FitError(
        f"covariances of levels that do not occur together take {solves:,} solves with {effects:,} "
        "random effects, hours of work: ask for fewer rows or levels at a time"
    )
