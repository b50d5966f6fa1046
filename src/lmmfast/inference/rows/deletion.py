"""Leverages, and what the coefficients would be without some rows, at given variance parameters.

Rows are scaled by the square roots of their weights. With V = I + Z T T'Z' (relative to sigma^2),
P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1 and e = P y, the residuals of the fit,

    d yhat / d y = I - P,    beta - beta_(g) = (X'V^-1 X)^-1 X_g'V^-1 P_gg^-1 e_g

for any set g of rows that is left out: adding an effect for each of them is the same. With N the
rows and columns g of V^-1, (V^-1)_ii = 1 - z_i'B z_i of a row, and of a level of a factor

    N^-1 = I + Z_g Cov(b | y without g) Z_g',    Cov(b | y without g) = (I - B S)^-1 B

for the effects b of levels that also occur elsewhere, S = Z_g'V_in^-1 Z_g what the rows of g say
about them; those of levels that occur in g alone are as if they had not been seen, T T', and are in
V_in. Where there are more such columns than rows, N = V_in^-1 - V_in^-1 Z_g B Z_g'V_in^-1 itself.

References
----------
Cook (1977), *Technometrics* 19; Belsley, Kuh & Welsch (1980), *Regression Diagnostics*;
Christensen, Pearson & Johnson (1992), *Technometrics* 34; Demidenko & Stukel (2005), *Stat. Med.*
24 (leverage and deletion of groups in mixed models).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...engine.compiled import _memory_limit
from . import remaining
from .predict import fitted_of

if TYPE_CHECKING:
    from ...engine.point import Point
    from ...fit import Fit

__all__ = ["Deletion", "groups"]

LOST = 1e-10  # share of the information on a coefficient below which a deletion leaves none
PAIRS = 4e6  # numbers of B that are held at a time, unless one level needs more
PLENTY = 1e8  # bytes that are there: no need to ask


def groups(codes: np.ndarray) -> list[np.ndarray]:
    """Rows of each level."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


@dataclass(frozen=True, eq=False)
class Deletion:
    """Deletions of rows from one fit, at its variance parameters.

    Attributes
    ----------
    point : Point
        The model at the estimates.
    parts : list of remaining.Loading
        Random terms in the rows.
    T : list of (k, k) arrays
        Their relative factors, in whitened columns.
    VX : (n, p) array
        V^-1 X in the basis of X in which X'V^-1 X = I; kept columns.
    back : (p, p) array
        Coefficients of the user's kept columns are this times those in that basis.
    residuals : (n,) array
        P y: those of the fit, times the square roots of the weights.
    """

    point: Point
    parts: list[remaining.Loading]
    T: list[np.ndarray]
    VX: np.ndarray
    back: np.ndarray
    residuals: np.ndarray

    @classmethod
    def of(cls, fit: Fit) -> Deletion:
        design, point = fit.design, fit.point
        root = np.ones(fit.nobs) if fit.weights is None else np.sqrt(fit.weights)
        back = point.basis.E[fit.estimates.fixed_kept]
        VX = design.X[:, fit.estimates.fixed_kept] @ back
        parts, T = [], []
        for i, term in enumerate(design.terms):
            VX -= np.einsum("ij,ijr->ir", term.z, point.basis.moved[i][term.codes])
            parts.append(remaining.loading(point, i, term.codes, term.z * root[:, None]))
            T.append(point.unwhitening[i].T @ fit.estimates.T[i])
        residuals = (design.y - fitted_of(fit)) * root
        return cls(point, parts, T, VX * root[:, None], back, residuals)

    def uncertain(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The diagonal of V^-1 in some rows."""
        return 1 - remaining.variances(self.point, [part.at(rows) for part in self.parts])

    @cached_property
    def diagonal(self) -> np.ndarray:
        """(n,) diagonal of V^-1."""
        return self.uncertain()

    def leverage(self, rows: np.ndarray | None = None) -> np.ndarray:
        """The diagonal of d yhat / d y, of all rows (None) or of some."""
        if rows is None:
            return np.asarray(1 - self.diagonal + (self.VX**2).sum(axis=1))
        return np.asarray(1 - self.uncertain(rows) + (self.VX[rows] ** 2).sum(axis=1))

    def by_row(self) -> np.ndarray:
        """(n, p) changes of the coefficients in the basis of VX, each row left out."""
        left = 1 - self.leverage()  # P_ii = (V^-1)_ii times the share of information that is left
        lost = left <= LOST * self.diagonal
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = np.where(lost, np.nan, self.residuals / left)
        return np.asarray(self.VX * weight[:, None])

    def by_level(self, codes: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Changes of the coefficients in the basis of VX, each of these levels left out.

        Parameters
        ----------
        codes : (n,) int array
            Level of each row.
        chosen : (g,) int array
            Levels.

        Returns
        -------
        (g, p) array
            NaN where coefficients cannot be estimated without the level.
        """
        found = [_change(gram) for gram in _Levels(self, codes).grams(chosen)]
        return np.array(found).reshape(len(chosen), self.VX.shape[1])


def _change(gram: np.ndarray) -> np.ndarray:
    """From Y'N^-1 Y, Y = (V^-1 X, P y) in the rows that are left out."""
    p = len(gram) - 1
    left = np.eye(p) - gram[:p, :p]
    if np.linalg.eigvalsh((left + left.T) / 2)[:1].min(initial=1.0) <= LOST:
        return np.full(p, np.nan)
    return np.asarray(np.linalg.solve(left, gram[:p, p]))


# ---- levels of a factor --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Term:
    """A random term in rows that are sorted by the levels g that may be left out.

    Levels of the term that occur in one g only are inside of it; the others are shared.
    """

    part: remaining.Loading  # rows sorted
    T: np.ndarray
    levels: np.ndarray  # those inside, g by g ...
    inside: np.ndarray  # ... from where on, for each g
    shared: np.ndarray  # levels that are not, g by g ...
    starts: np.ndarray  # ... from where on
    place: np.ndarray  # of each row: its level among those inside its g, or the shared ones of g
    is_inside: np.ndarray  # of each row


def _term(part: remaining.Loading, T: np.ndarray, codes: np.ndarray, ngroups: int) -> _Term:
    """codes: g of each row, ascending."""
    m = int(part.codes.max()) + 1
    home = np.empty(m, codes.dtype)
    home[part.codes] = codes
    alone = np.bincount(part.codes, codes != home[part.codes], m) == 0
    levels = np.flatnonzero(alone)
    levels = levels[np.argsort(home[levels], kind="stable")]
    inside = np.searchsorted(home[levels], np.arange(ngroups + 1))
    is_inside = alone[part.codes]
    where = np.empty(m, np.int64)
    where[levels] = np.arange(len(levels)) - inside[home[levels]]
    keys, back = np.unique(
        codes[~is_inside].astype(np.int64) * m + part.codes[~is_inside], return_inverse=True
    )
    starts = np.searchsorted(keys, np.arange(ngroups + 1) * np.int64(m))
    place = where[part.codes]
    place[~is_inside] = back.ravel() - starts[codes[~is_inside]]
    return _Term(part, T, levels, inside, keys % m, starts, place, is_inside)


class _Levels:
    """Y'N^-1 Y for levels of one factor."""

    def __init__(self, own: Deletion, codes: np.ndarray) -> None:
        order = np.argsort(codes, kind="stable")
        codes = codes[order]
        self._point = own.point
        self._ends = np.searchsorted(codes, np.arange(codes[-1] + 2))
        self._Y = np.column_stack([own.VX, own.residuals])[order]
        n = int(codes[-1]) + 1
        self._terms = [
            _term(part.at(order), T, codes, n) for part, T in zip(own.parts, own.T, strict=True)
        ]
        self._sums = [_sums(term, self._Y) for term in self._terms]

    def grams(self, chosen: np.ndarray) -> Iterator[np.ndarray]:
        """Y'N^-1 Y for each of these levels."""
        shared = [i for i, term in enumerate(self._terms) if len(term.shared)]
        for some in self._batches(chosen, shared):
            B = {pair: self._blocks(some, *pair) for pair in _pairs(shared)}
            for at, g in enumerate(some):
                yield self._gram(g, shared, {pair: own.of(at) for pair, own in B.items()})

    def _gram(self, g: int, shared: list[int], B: dict[tuple[int, int], _Blocks]) -> np.ndarray:
        rows = slice(self._ends[g], self._ends[g + 1])
        Y = self._Y[rows]
        width = sum(B[i, i].width for i in shared)
        if width == 0:
            return self._apart(g, Y)
        self._check_memory(rows, g, width)
        Q = self._inner_root(g, rows)
        if len(Y) <= width:
            return self._by_rows(rows, Q, self._among(rows, shared, B))
        Z = np.concatenate([self._matrix(i, rows, False, g) for i in shared], axis=1)
        cov = np.block([[_square(B, i, j) for j in shared] for i in shared])
        ZQ, ZY = Q.T @ Z, Z.T @ Y
        S = Z.T @ Z - ZQ.T @ ZQ
        return np.asarray(
            self._apart(g, Y) + ZY.T @ np.linalg.solve(np.eye(width) - cov @ S, cov @ ZY)
        )

    def _by_rows(self, rows: slice, Q: np.ndarray, H: np.ndarray) -> np.ndarray:
        """Y'N^-1 Y from N = V_in^-1 - V_in^-1 H V_in^-1, H = Z_g B Z_g'."""
        Y = self._Y[rows]
        H = H - Q @ (Q.T @ H)
        H -= (H @ Q) @ Q.T
        return np.asarray(Y.T @ np.linalg.solve(np.eye(len(Y)) - Q @ Q.T - H, Y))

    def _among(
        self, rows: slice, shared: list[int], B: dict[tuple[int, int], _Blocks]
    ) -> np.ndarray:
        """Z_g B Z_g': a row has one level of each term."""
        n = rows.stop - rows.start
        H = np.zeros((n, n))
        for i, j in _pairs(shared):
            one, other = (self._shared_rows(k, rows) for k in (i, j))
            part = B[i, j].forms(one, other)
            H[np.ix_(one.rows, other.rows)] += part
            if i != j:
                H[np.ix_(other.rows, one.rows)] += part.T
        return H

    def _shared_rows(self, i: int, rows: slice) -> _Sharing:
        term = self._terms[i]
        mine = np.flatnonzero(~term.is_inside[rows])
        return _Sharing(mine, term.place[rows][mine], term.part.z[rows][mine])

    def _apart(self, g: int, Y: np.ndarray) -> np.ndarray:
        """Y'V_in Y = Y'Y + the squares of T'Z'Y of all levels inside."""
        out = Y.T @ Y
        for term, sums in zip(self._terms, self._sums, strict=True):
            own = sums[term.inside[g] : term.inside[g + 1]].reshape(-1, Y.shape[1])
            out += own.T @ own
        return np.asarray(out)

    def _inner_root(self, g: int, rows: slice) -> np.ndarray:
        """Q with V_in^-1 = I - Q Q' in the rows of g."""
        F = [self._matrix(i, rows, True, g) for i in range(len(self._terms))]
        inner = np.concatenate(F, axis=1)
        L = np.linalg.cholesky(np.eye(inner.shape[1]) + inner.T @ inner)
        return np.asarray(np.linalg.solve(L, inner.T).T)

    def _matrix(self, i: int, rows: slice, inside: bool, g: int) -> np.ndarray:
        """Columns of a term in the rows of g: Z T of levels inside, or Z of those shared."""
        term = self._terms[i]
        z = term.part.z[rows] @ term.T if inside else term.part.z[rows]
        first = term.inside if inside else term.starts
        out = np.zeros((len(z), first[g + 1] - first[g], z.shape[1]))
        mine = np.flatnonzero(term.is_inside[rows] == inside)
        out[mine, term.place[rows][mine]] = z[mine]
        return out.reshape(len(z), -1)

    def _batches(self, chosen: np.ndarray, shared: list[int]) -> Iterator[np.ndarray]:
        """Levels g whose parts of B are held together."""
        width = [np.diff(self._terms[i].starts) * self._terms[i].T.shape[1] for i in shared]
        if not shared:
            yield chosen
            return
        total = np.cumsum(np.sum(width, axis=0)[chosen].astype(float) ** 2)
        batch = (total // PAIRS).astype(np.int64)
        yield from np.split(chosen, np.flatnonzero(np.diff(batch)) + 1)

    def _blocks(self, some: np.ndarray, i: int, j: int) -> _Batch:
        """B at the shared levels of two terms."""
        one, other = self._terms[i], self._terms[j]
        li = [one.shared[one.starts[g] : one.starts[g + 1]] for g in some]
        lj = [other.shared[other.starts[g] : other.starts[g + 1]] for g in some]
        pairs = list(zip(li, lj, strict=True))
        m = int(other.part.codes.max()) + 1
        keys = [(a[:, None].astype(np.int64) * m + b).ravel() for a, b in pairs]
        distinct, back = np.unique(np.concatenate(keys), return_inverse=True)
        first, second = np.divmod(distinct, m)
        B = remaining.blocks(self._point, one.part.term, other.part.term, first, second)
        ends = np.cumsum([len(key) for key in keys])[:-1]
        places = np.split(back.ravel(), ends)
        return _Batch(
            B, [p.reshape(len(a), len(b)) for p, (a, b) in zip(places, pairs, strict=True)]
        )

    def _check_memory(self, rows: slice, g: int, width: int) -> None:
        n = rows.stop - rows.start
        inner = sum(
            (term.inside[g + 1] - term.inside[g]) * term.part.z.shape[1] for term in self._terms
        )
        need = 8.0 * (
            2 * n * (inner + width) + 2 * inner**2 + 4 * width**2 + 4 * min(n, width) ** 2
        )
        if need > PLENTY and need > _memory_limit():
            raise MemoryError(
                f"leaving out {n:,} rows needs {need / 1e9:.1f} GB: they have {width:,} random "
                f"effects in common with the others, {inner:,} of their own; refit without them "
                "instead, or choose other levels"
            )


class _Sharing(NamedTuple):
    """Rows in which a term has a shared level."""

    rows: np.ndarray
    place: np.ndarray  # of the level
    z: np.ndarray


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Blocks of B at the levels of two terms."""

    B: np.ndarray  # pairs x k_i x k_j
    place: np.ndarray  # l_i x l_j, which pair

    @property
    def width(self) -> int:
        """Columns of the first term."""
        return len(self.place) * int(self.B.shape[1])

    def forms(self, one: _Sharing, other: _Sharing) -> np.ndarray:
        """z_i'B z_j of rows of the one and of the other."""
        out = np.empty((len(one.rows), len(other.rows)))
        step = max(1, int(PAIRS / max(1, out.shape[1] * self.B.shape[1] * self.B.shape[2])))
        for a in range(0, len(out), step):
            cut = slice(a, a + step)
            own = self.B[self.place[one.place[cut, None], other.place]]
            half = np.einsum("ijab,jb->ija", own, other.z)
            out[cut] = np.einsum("ija,ia->ij", half, one.z[cut])
        return out


@dataclass(frozen=True, eq=False)
class _Batch:
    """The same for some levels g, each pair of levels once."""

    B: np.ndarray
    places: list[np.ndarray]

    def of(self, at: int) -> _Blocks:
        """Those of one g."""
        return _Blocks(self.B, self.places[at])


def _pairs(shared: Sequence[int]) -> list[tuple[int, int]]:
    return [(i, j) for a, i in enumerate(shared) for j in shared[a:]]


def _square(B: dict[tuple[int, int], _Blocks], i: int, j: int) -> np.ndarray:
    """Blocks as a matrix (l_i k_i, l_j k_j)."""
    if i > j:
        return _square(B, j, i).T
    own = B[i, j].B[B[i, j].place].transpose(0, 2, 1, 3)
    return np.asarray(own.reshape(own.shape[0] * own.shape[1], -1))


def _sums(term: _Term, Y: np.ndarray) -> np.ndarray:
    """T'Z'Y of the levels inside, in their order (l, k, columns of Y)."""
    from scipy.sparse import csr_array

    mine = np.flatnonzero(term.is_inside)
    rank: np.ndarray = np.empty(int(term.part.codes.max()) + 1, np.int64)
    rank[term.levels] = np.arange(len(term.levels))
    k = term.T.shape[1]
    z = term.part.z[mine] @ term.T
    columns = rank[term.part.codes[mine]][:, None] * k + np.arange(k)
    ends = np.arange(0, z.size + 1, k)
    Z = csr_array((z.ravel(), columns.ravel(), ends), shape=(len(mine), len(term.levels) * k))
    return np.asarray((Z.T @ Y[mine]).reshape(len(term.levels), k, Y.shape[1]))
