"""What Laplace's approximation lacks: the next order of the expansion at the conditional modes.

With h = z_i'B z_i of the rows, B the covariance of the random effects given y from the curvature at
the modes, Sigma = Z B Z', and derivatives of the rows' log-densities l in eta,

    log L - Laplace ~ t1 + t2 + t3,   t1 = sum_i l''''_i h_i^2 / 8,
    t2 = s'B s / 8,  s = Z'(h l'''),   t3 = sum_ij l'''_i l'''_j Sigma_ij^3 / 12.

All three are of one order: with some of them alone the sign may be wrong.

Sums over pairs of rows: with one grouping factor only rows of one level have Sigma_ij other than
zero, and the sum of a level follows from its third moments, in time proportional to rows. With
several, rows that no chain of shared levels connects are apart; all other pairs are gone through
while there are not too many. Beyond that only pairs that share a level count: the others are
correlated by way of third rows alone. And where these are too many, Sigma_ij is z_i'B z_j over the
effects of the levels that they share, again by third moments, of the cells of each set of factors.
Where rows have several levels of one factor all pairs are gone through, or there is no correction.

References
----------
Shun & McCullagh (1995), *J. R. Statist. Soc. B* 57, 749-760 (the expansion for crossed factors).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import combinations, combinations_with_replacement, permutations
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..data.members import Members
from ..errors import FitError
from .relations import refuse_related

MOST_PAIRS = 5e7  # of rows that are gone through one by one: a quarter of a second
QUICK = 1e7  # of them, beyond which derivatives do with pairs that share a level
MOST_ENTRIES = 2.5e7  # of B that are held for them: 200 MB
PASSES = 20.0  # pairs that are gone through while a row is evaluated
SLACK = 1e-6  # of a variance, beside rounding
WIDE, LONG = 64, 512  # rows of a block of pairs, which stays in the cache


class Part(NamedTuple):
    """One grouping factor: level (n,) of each row, its random columns (n, k), number of levels."""

    codes: np.ndarray
    z: np.ndarray
    m: int


class SecondOrder:
    """The correction of Laplace's approximation for one model, wherever it stands.

    Parameters
    ----------
    model : GeneralizedModel
    """

    def __init__(self, model: Any) -> None:
        refuse_related(model.design, "the next order of Laplace's approximation")
        self._model = model
        several = any(term.several for term in model.design.terms)
        self._whole = Whole(model) if several else None
        self._parts = [] if several else parts_of(model)

    @property
    def exact(self) -> bool:
        """Whether all pairs of rows are in it; else those that share a level."""
        if self._whole is not None:
            return True
        return len(self._parts) == 1 or (self._pairs.exact and self._pairs.affordable)

    @property
    def price(self) -> float:
        """Pairs of rows that a quick one goes through, and what takes as long."""
        if self._whole is not None:
            return float(self._whole.count)
        crossed = len(self._parts) > 1 and self._quick.affordable
        return (self._quick.count if crossed else 0) + PASSES * len(self._parts[0].codes)

    @cached_property
    def _pairs(self) -> Pairs:
        return Pairs(self._parts, MOST_PAIRS)

    @cached_property
    def _quick(self) -> Pairs:
        return self._pairs if self._pairs.count <= QUICK else Pairs(self._parts, 0.0)

    def at(
        self,
        core: Any,
        psi: np.ndarray,
        y: np.ndarray,
        w: np.ndarray | None,
        *,
        quick: bool = False,
    ) -> float:
        """What is to be added to -2 log-likelihood where the compiled model stands.

        Parameters
        ----------
        core : _core.Generalized
            Evaluated at psi, with the response y and the weights w.
        psi : (size,) array
        quick : bool, default False
            For differences: of very many pairs of rows those that share a level.
        """
        family, x = self._model.family, self._model.split(psi)[2]
        given = family.core_family, family.core_link, y, w, core.predictor(), x
        rows = _core.density(*given, self._model.classes, only=("d3", "d4"))
        third, h = rows["d3"], core.leverages()
        first = float(rows["d4"] @ (h * h)) / 8
        if self._whole is not None:
            s = self._whole.sums(third * h)
        else:
            s = [_sums(part, third * h) for part in self._parts]
        solved = core.solve([one[:, :, None] for one in s])
        second = sum(float(np.vdot(a, b)) for a, b in zip(s, solved, strict=True)) / 8
        return -2 * (first + second + self._third(core, psi, third, quick) / 12)

    def _third(self, core: Any, psi: np.ndarray, third: np.ndarray, quick: bool) -> float:
        """The sum over pairs of rows."""
        if self._whole is not None:
            return self._whole.third(third, core.solve)
        if len(self._parts) == 1:
            part = self._parts[0]
            return contracted(moments(part.codes, part.z, third, part.m), core.condvar()[0])
        pairs = self._quick if quick else self._pairs
        if pairs.affordable:
            return pairs.sum(third, core.solve)
        self._check_levels(core.leverages(), core.condvar())
        core.evaluate(self._model.split(psi)[0], False, value=False)  # blocks of B can be read then
        return sharing(self._parts, third, core)

    def _check_levels(self, h: np.ndarray, blocks: list[np.ndarray]) -> None:
        """FitError where sums of effects are known far better than these: blocks of single levels
        say little of covariances then."""
        for part, B in zip(self._parts, blocks, strict=True):
            own = np.einsum("ij,ijk,ik->i", part.z, B[part.codes], part.z)
            if own.sum() > (1 + SLACK) * h.sum():
                raise FitError(
                    "the error of Laplace's approximation is a sum over pairs of rows, of which "
                    f"there are too many here (about {self._pairs.count:.1e}), and the levels of "
                    "one grouping factor lie within those of another"
                )


def parts_of(model: Any) -> list[Part]:
    """The grouping factors of a model with their kept columns, as the compiled model has them."""
    return [
        Part(
            np.asarray(group.columns[0].codes),
            np.hstack([columns.values for columns in group.columns]),
            group.nlev,
        )
        for group in model._engine._groups
    ]


def _sums(part: Part, values: np.ndarray) -> np.ndarray:
    """Z'values, (m, k)."""
    sums = [np.bincount(part.codes, column * values, part.m) for column in part.z.T]
    return np.column_stack(sums)


# ---- third moments of levels ---------------------------------------------------------------------


def moments(codes: np.ndarray, z: np.ndarray, weight: np.ndarray, m: int) -> np.ndarray:
    """sum weight_i z_i (x) z_i (x) z_i over the rows of each level, (m, k, k, k)."""
    k = z.shape[1]
    out = np.empty((m, k, k, k))
    for own in combinations_with_replacement(range(k), 3):
        sums = np.bincount(codes, weight * z[:, own].prod(axis=1), m)
        for a, b, c in set(permutations(own)):
            out[:, a, b, c] = sums
    return out


def contracted(C: np.ndarray, B: np.ndarray) -> float:
    """sum_ij a_i a_j (z_i'B z_j)^3 over the pairs of rows of each level, for its moments C (m, k,
    k, k) and its block B (m, k, k)."""
    turned = C
    for _ in range(3):  # one index after the other, which goes to the end
        turned = np.einsum("labc,lad->lbcd", turned, B)
    return float(np.vdot(turned, C))


# ---- all pairs of rows ---------------------------------------------------------------------------


class Whole:
    """All pairs of rows, of a model of which rows have several levels of one factor.

    Attributes
    ----------
    count : float
        How many there are, and numbers of Z B that are read for them.
    """

    def __init__(self, model: Any) -> None:
        from scipy import sparse

        blocks = [_columns_of(group) for group in model._engine._groups]
        self._shapes = [
            (own.nlev, sum(part.width for part in own.columns)) for own in model._engine._groups
        ]
        self._Z = sparse.hstack(blocks, format="csr")
        n, q = self._Z.shape
        self.count = n * n / 2 + float(n * q)
        self._affordable = self.count <= MOST_PAIRS and q * q <= MOST_ENTRIES

    def sums(self, values: np.ndarray) -> list[np.ndarray]:
        """Z'values by factor, (m, k)."""
        return [v[:, :, 0] for v in self._by_factor((self._Z.T @ values)[:, None])]

    def _by_factor(self, values: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum([m * k for m, k in self._shapes])[:-1]
        parts = np.split(values, ends)
        return [part.reshape(m, k, -1) for part, (m, k) in zip(parts, self._shapes, strict=True)]

    def third(self, a: np.ndarray, solve: Any) -> float:
        """sum_ij a_i a_j Sigma_ij^3 for a (n,); `solve` has B V for V (m, k, r) by factor.

        Raises
        ------
        FitError
            When these are too many.
        """
        if not self._affordable:
            raise FitError(
                "the error of Laplace's approximation is a sum over all pairs of rows where rows "
                f"have several levels of one factor: there are too many here ({self.count:.1e})"
            )
        n, q = self._Z.shape
        B = np.concatenate([v.reshape(-1, q) for v in solve(self._by_factor(np.eye(q)))])
        total = 0.0
        for begin in range(0, n, LONG):
            rows = slice(begin, begin + LONG)
            sigma = self._Z @ (self._Z[rows] @ B).T  # (n, rows)
            total += float(a @ (sigma * sigma * sigma) @ a[rows])
        return total


def _columns_of(group: Any) -> Any:
    """Z of one factor (n, m k), levels one after the other, scipy.sparse.csr_matrix."""
    from scipy import sparse

    z = np.hstack([columns.values for columns in group.columns])
    own = group.columns[0].incidence
    n, k = z.shape
    if isinstance(own, Members):
        rows = np.repeat(np.arange(n), np.diff(own.ptr))
        level, values = own.level, own.weight[:, None] * z[rows]
    else:
        rows, level, values = np.arange(n), np.asarray(group.columns[0].codes), z
    places = level[:, None] * k + np.arange(k)
    at = np.repeat(rows, k), places.ravel()
    return sparse.csr_matrix((values.ravel(), at), shape=(n, group.nlev * k))


# ---- all pairs of connected rows -----------------------------------------------------------------


class Pairs:
    """All pairs of rows that shared levels connect, of several factors; where these are more than
    `most`, pairs that share a level.

    Rows with the same levels and columns are one, with the sum of their derivatives.

    Attributes
    ----------
    exact : bool
        Whether all pairs are in it.
    affordable : bool
        Whether they can be gone through.
    count : float
        How many there are, and numbers of Z B that are read for them.
    """

    def __init__(self, parts: list[Part], most: float) -> None:
        self._inverse, first = _alike(parts)
        cluster, levels = _clusters(parts)
        self._parts = [Part(part.codes[first], part.z[first], part.m) for part in parts]
        self._local, self.width = _places(levels, [part.z.shape[1] for part in parts])
        self._within = [cluster[first]]
        self.exact = _count(self._within) <= most
        if not self.exact:
            self._within = [part.codes for part in self._parts]
        self.count = _count(self._within)
        effects = sum(part.m * part.z.shape[1] for part in parts)
        self.count += float(len(first) * self.width * len(self._within))  # Z B, which is as long
        self.affordable = self.count <= MOST_PAIRS and effects * float(self.width) <= MOST_ENTRIES

    @cached_property
    def _walks(self) -> list[Walk]:
        before = range(len(self._within))  # factors whose walks have a pair already
        return [Walk(self._parts, self._local, self._within[f], before[:f]) for f in before]

    def sum(self, a: np.ndarray, solve: Any) -> float:
        """sum_ij a_i a_j Sigma_ij^3 for a (n,); `solve` has B V for V (m, k, r) by factor."""
        B = self._covariance(solve)
        a = np.bincount(self._inverse, a)
        return sum(walk.sum(a, B) for walk in self._walks)

    def _covariance(self, solve: Any) -> list[np.ndarray]:
        """B by factor, (m, k, width): the columns of the effects of the same cluster."""
        unit = []
        for part, local in zip(self._parts, self._local, strict=True):
            V = np.zeros((part.m, part.z.shape[1], self.width))
            np.put_along_axis(V, local[:, :, None], 1.0, axis=2)
            unit.append(V)
        return [np.asarray(v) for v in solve(unit)]


class Walk:
    """Pairs of rows with the same label, block by block.

    Parameters
    ----------
    parts : list of Part
    local : list of (m, k) arrays
        Place of each effect among those of its cluster.
    label : (n,) array
        Of its cluster, or level of one factor.
    others : sequence of int
        Factors: pairs that share a level of these are in other walks.
    """

    def __init__(
        self,
        parts: list[Part],
        local: list[np.ndarray],
        label: np.ndarray,
        others: Sequence[int],
    ) -> None:
        self._order = order = np.argsort(label, kind="stable")
        self._label, self._others, self._local = label[order], others, local
        self._ends = np.searchsorted(self._label, self._label, side="right")
        self._parts = [Part(part.codes[order], part.z[order], part.m) for part in parts]
        self._plain = [bool((part.z == 1).all()) for part in parts]
        self._room = np.empty((2, LONG * WIDE))

    def sum(self, a: np.ndarray, B: list[np.ndarray]) -> float:
        """The sum over its pairs."""
        a, total = a[self._order], 0.0
        for begin in range(0, len(a), WIDE):
            rows = slice(begin, min(begin + WIDE, len(a)))
            block, last = self._covariances(B, rows), int(self._ends[rows.stop - 1])
            for low in range(begin, last, LONG):
                total += self._block(block, a, rows, slice(low, min(low + LONG, last)))
        return total

    def _covariances(self, B: list[np.ndarray], rows: slice) -> np.ndarray:
        """Covariances of the effects of its own cluster with each of some rows, (width, rows)."""
        found = sum(
            np.einsum("ik,ikr->ir", part.z[rows], own[part.codes[rows]])
            for part, own in zip(self._parts, B, strict=True)
        )
        return np.ascontiguousarray(np.asarray(found).T)

    def _block(self, block: np.ndarray, a: np.ndarray, rows: slice, others: slice) -> float:
        """The sum over some rows and others at or behind them; both orders."""
        shape = others.stop - others.start, block.shape[1]
        sigma, other = (room[: shape[0] * shape[1]].reshape(shape) for room in self._room)
        sigma[:] = 0.0
        for part, local, plain in zip(self._parts, self._local, self._plain, strict=True):
            codes = part.codes[others]
            for j, column in enumerate(part.z[others].T):
                np.take(block, local[codes, j], axis=0, out=other, mode="clip")
                if not plain:
                    other *= column[:, None]
                sigma += other
        cubes = np.multiply(sigma, sigma, out=other)
        cubes *= sigma
        if self._label[rows.start] != self._label[others.stop - 1]:
            cubes *= self._label[others, None] == self._label[None, rows]
        for f in self._others:
            codes = self._parts[f].codes
            cubes *= codes[others, None] != codes[None, rows]
        by_row = (cubes @ a[rows]) * a[others]
        inside = max(0, min(rows.stop, others.stop) - others.start)  # pairs that are there twice
        return float(by_row[:inside].sum() + 2 * by_row[inside:].sum())


def _count(labels: list[np.ndarray]) -> float:
    """Pairs of rows with one label."""
    sizes = (np.bincount(label).astype(float) for label in labels)
    return sum(float(size @ size) for size in sizes) / 2


def _alike(parts: list[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Which rows have the same levels and columns: group of each row, first row of each group."""
    columns = [v for part in parts for v in (part.codes, *part.z.T) if np.ptp(v) > 0]
    if not columns:
        return np.zeros(len(parts[0].codes), np.intp), np.zeros(1, np.intp)
    order = np.lexsort(columns)
    new = np.zeros(len(order), bool)
    for column in columns:
        new[1:] |= np.diff(column[order]) != 0
    group = np.empty(len(order), np.intp)
    group[order] = np.cumsum(new)
    new[0] = True
    return group, order[new]


def _clusters(parts: list[Part]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Cluster of each row, and of each level by factor: rows of one level are in one cluster."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    starts = np.cumsum([0, *(part.m for part in parts)])
    first = parts[0].codes
    ends = np.concatenate([part.codes + s for part, s in zip(parts[1:], starts[1:], strict=False)])
    edges = np.ones(len(ends), bool), (np.tile(first, len(parts) - 1), ends)
    graph = coo_array(edges, shape=(starts[-1], starts[-1])).tocsr()
    label = connected_components(graph, directed=False)[1]
    return label[first], np.split(label, starts[1:-1])


def _places(levels: list[np.ndarray], widths: list[int]) -> tuple[list[np.ndarray], int]:
    """Place of each effect among those of its cluster, (m, k) by factor, and the most of them."""
    count = 1 + max(int(label.max()) for label in levels)
    used, out = np.zeros(count, np.intp), []
    for label, k in zip(levels, widths, strict=True):
        order = np.argsort(label, kind="stable")
        sizes = np.bincount(label, minlength=count)
        rank = np.empty(len(label), np.intp)
        rank[order] = np.arange(len(label)) - (np.cumsum(sizes) - sizes)[label[order]]
        out.append(used[label][:, None] + rank[:, None] * k + np.arange(k))
        used += sizes * k
    return out, int(used.max())


# ---- pairs that share a level --------------------------------------------------------------------


def sharing(parts: list[Part], a: np.ndarray, core: Any) -> float:
    """sum_ij a_i a_j Sigma_ij^3 over pairs of rows that share levels, over the effects of these.

    Pairs that share exactly a set of factors, by inclusion and exclusion: those of the cells of the
    set, less those of the cells of larger sets. `core` stands where blocks of B can be read.
    """
    total = 0.0
    for own in _subsets(range(len(parts))):
        z = np.hstack([parts[f].z for f in own])
        rest = [f for f in range(len(parts)) if f not in own]
        for more in [(), *_subsets(rest)]:
            cells = _cells([parts[f].codes for f in (*own, *more)])
            first = np.empty(cells.max() + 1, np.intp)
            first[cells[::-1]] = np.arange(len(cells))[::-1]
            B = _blocks([(f, parts[f].codes[first]) for f in own], core)
            total += (-1) ** len(more) * contracted(moments(cells, z, a, len(first)), B)
    return total


def _subsets(of: Any) -> Iterator[tuple[int, ...]]:
    of = tuple(of)
    for size in range(1, len(of) + 1):
        yield from combinations(of, size)


def _cells(codes: list[np.ndarray]) -> np.ndarray:
    """Number of the combination of levels of each row."""
    found = codes[0].astype(np.int64)
    for more in codes[1:]:
        found = np.unique(found * (int(more.max()) + 1) + more, return_inverse=True)[1]
    return np.asarray(found)


def _blocks(own: list[tuple[int, np.ndarray]], core: Any) -> np.ndarray:
    """Blocks of B (cells, k, k) over the effects of one level of each of some factors."""
    rows = [
        [np.asarray(core.covariances(f, g, *_levels(a, b), False)) for g, b in own] for f, a in own
    ]
    return np.concatenate([np.concatenate(row, axis=2) for row in rows], axis=1)


def _levels(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.ascontiguousarray(one, np.int32), np.ascontiguousarray(other, np.int32)
