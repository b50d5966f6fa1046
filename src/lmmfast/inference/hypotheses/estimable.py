"""What can be tested about terms of the fixed effects: estimable functions of types I, II, III.

A hypothesis on a term must not depend on the contrasts that the fit happened to use. So every
term is written in indicator columns, one for each level or cell, in which the model has more
parameters than can be estimated. Linear functions of these are estimable when they lie in the row
space of the indicator columns. With s a vector in R^r, r the rank, and X = Q R over the columns
that were kept,

    function on the fit's coefficients: s'R,    on a term's indicator columns: s'M_t, M_t = Q'X_t,

every s gives one estimable function and every estimable function has one s. The hypotheses of a
term F are subspaces of R^r:

- type I: what M_F adds to the columns of the terms before it
- type II: what M_F adds to the columns of the terms that do not contain F
- type III: the functions that are zero on the terms that do not contain F, orthogonal (as weights
  of indicator columns) to those that are zero on F too

F is contained in a term with the same numeric variables and the same factors and more.

Satterthwaite's denominator depends (little) on the rows that a subspace is written in. They are
lmerTest's: weights on the columns of F are a unit upper triangle in type I, and for terms that
others contain in type II, else the identity. In type III the columns are those that treatment
contrasts would give F, whatever contrasts the fit used, so that nothing depends on these.

References
----------
SAS Institute, SAS/STAT User's Guide, "The Four Types of Estimable Functions"; Goodnight (1978),
*Tests of hypotheses in fixed effects linear models*, SAS Technical Report R-101; Searle (1987),
*Linear Models for Unbalanced Data*.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...data.encode import Coding, Layout
from ...data.sums import Columns

EMPTY = 1e-11  # length of an indicator column, all of its cells together one, that has no rows
DEPENDENT = 1e-9  # singular value of columns of length one below which they depend on each other


@dataclass(frozen=True)
class _Variable:
    """A variable in a term: how many columns it has there and, of a factor, how it is coded."""

    label: str
    columns: int
    dummy: bool
    indicators: np.ndarray  # L x L, rows 1 and contrasts -> a factor's indicator columns; or 0 x 0


@dataclass(frozen=True, eq=False)
class _Term:
    variables: tuple[_Variable, ...]
    places: np.ndarray  # columns of the matrix, an axis for each variable

    @property
    def label(self) -> str:
        return ":".join(variable.label for variable in self.variables)

    @property
    def parts(self) -> tuple[list[_Variable], list[_Variable]]:
        """Numeric variables, and factors."""
        numeric = [v for v in self.variables if not v.indicators.size]
        return numeric, [v for v in self.variables if v.indicators.size]

    @property
    def factors(self) -> frozenset[str]:
        return frozenset(v.label for v in self.parts[1])

    @property
    def numeric(self) -> frozenset[tuple[str, bool]]:
        return frozenset((v.label, v.dummy) for v in self.parts[0])

    @property
    def treatment(self) -> list[int]:
        """Which indicator columns treatment contrasts would give, in the order of the columns:
        those are numbered by numeric variables, then factors, the last fastest."""
        numeric, factors = self.parts
        cells = [*(v.columns for v in numeric), *(len(v.indicators) for v in factors)]
        order = np.argsort([bool(v.indicators.size) for v in self.variables], kind="stable")
        places = np.arange(np.prod(cells, dtype=int)).reshape(cells).transpose(np.argsort(order))
        first = [int(v.indicators.size > 0 and not v.dummy) for v in self.variables]
        chosen = places[tuple(slice(at, None) for at in first)]
        return [int(j) for j in chosen.ravel(order="F")]

    def provides(self, numeric: frozenset[tuple[str, bool]], factors: frozenset[str]) -> bool:
        """Whether products of contrasts of these factors are combinations of its columns."""
        # factors with an indicator for each level may be left out: their constant is in the term
        needed = frozenset(v.label for v in self.parts[1] if not v.dummy)
        return self.numeric == numeric and needed <= factors <= self.factors

    def component(self, factors: frozenset[str], p: int) -> tuple[list[str], np.ndarray]:
        """Products of contrasts of these factors and its numeric variables, in all p columns.

        Labels of the variables, and an array with one axis for each and a last one of length p.
        """
        out = np.eye(p)[self.places]
        axes: list[str] = []
        for variable in self.variables:
            at = len(axes)
            if not (variable.indicators.size and variable.dummy):
                axes.append(variable.label)
            elif variable.label in factors:
                contrasts = np.linalg.inv(variable.indicators)[:, 1:]
                out = np.moveaxis(np.tensordot(out, contrasts, axes=(at, 0)), -1, at)
                axes.append(variable.label)
            else:
                out = out.sum(axis=at)
        return axes, out


def _terms(layout: Layout, codings: Mapping[str, Coding]) -> list[_Term]:
    """The terms of a model matrix, from its columns."""
    found: dict[tuple[str, ...], list[int]] = {}
    for j, factors in enumerate(layout.columns):
        found.setdefault(tuple(atom for atom, _, _ in factors), []).append(j)
    terms = []
    for columns in found.values():
        first = layout.columns[columns[0]]
        variables = tuple(_variable(codings[atom], dummy) for atom, dummy, _ in first)
        shape = [variable.columns for variable in variables]
        size = int(np.prod(shape, dtype=int))
        # x + 2:x has two columns of one term, which depend on each other: the first is enough
        terms.append(_Term(variables, np.array(columns[:size]).reshape(shape, order="F")))
    return terms


def _variable(coding: Coding, dummy: bool) -> _Variable:
    """Factors whose contrasts do not tell all levels apart count as numeric."""
    columns, none = len(coding.dummy_names if dummy else coding.names), np.zeros((0, 0))
    if coding.levels is None or coding.contrast is None:
        return _Variable(coding.label, columns, False, none)
    size = len(coding.levels)
    full = np.column_stack([np.ones(size), coding.contrast[:size]])
    whole = full.shape[1] == size == np.linalg.matrix_rank(full)
    return _Variable(coding.label, columns, dummy, np.linalg.inv(full) if whole else none)


def _indicators(term: _Term, terms: Iterable[_Term], p: int) -> np.ndarray | None:
    """Indicator columns of a term as combinations of the p columns of the model matrix: (numeric
    columns, cells, p), or None where the model lacks some of them."""
    numeric, own = term.parts
    order = [v.label for v in (*numeric, *own)]
    # per factor: the constant, then the contrasts
    parts = np.zeros([*(v.columns for v in numeric), *(len(v.indicators) for v in own), p])
    for present in itertools.product((False, True), repeat=len(own)):
        factors = frozenset(v.label for v, used in zip(own, present, strict=True) if used)
        provider = next((t for t in terms if t.provides(term.numeric, factors)), None)
        if provider is None:
            return None
        axes, component = provider.component(factors, p)
        turn = [axes.index(label) for label in order if label in axes]
        slices = [slice(None)] * len(numeric) + [slice(1, None) if u else 0 for u in present]
        parts[tuple(slices)] = component.transpose(*turn, len(turn))
    for axis, variable in enumerate(own, len(numeric)):
        parts = np.moveaxis(np.tensordot(parts, variable.indicators, axes=(axis, 0)), -1, axis)
    return parts.reshape(int(np.prod([v.columns for v in numeric], dtype=int)), -1, p)


@dataclass(frozen=True, eq=False)
class Effects:
    """The terms of a model matrix and what can be tested about them."""

    labels: tuple[str, ...]  # the terms as R writes them, "" for the intercept
    columns: tuple[np.ndarray, ...]  # per term: its columns of the model matrix
    kept: np.ndarray  # which of the p columns are not dropped
    _terms: tuple[_Term, ...]
    _R: np.ndarray  # r x p, kept columns and, at their place, what dropped ones are made of

    @cached_property
    def _made(self) -> list[tuple[np.ndarray, np.ndarray, list[int]]]:
        """Per term: M_t with products of numeric variables of length one, these lengths, and C."""
        p = len(self.kept)
        made = []
        for term in self._terms:
            cells = _indicators(term, self._terms, p)
            own_columns = cells is None
            if cells is None:
                cells = np.eye(p)[term.places.ravel(order="F")][:, None]
            cells = cells @ self._R.T
            length = np.linalg.norm(cells.sum(axis=1), axis=1)
            length = np.where(length > 0, length, 1.0)
            span = (cells / length[:, None, None]).reshape(-1, len(self._R)).T
            span[:, np.linalg.norm(span, axis=0) < EMPTY] = 0
            lengths = np.repeat(length, cells.shape[1])
            first = list(range(len(lengths))) if own_columns else term.treatment
            made.append((span, lengths, first))
        return made

    def contains(self, outer: int, inner: int) -> bool:
        """Whether one term contains another: the same numeric variables, and more factors."""
        a, b = self._terms[outer], self._terms[inner]
        return a.numeric == b.numeric and a.factors > b.factors

    def variables(self, term: int) -> frozenset[str]:
        """The variables of a term."""
        return frozenset(variable.label for variable in self._terms[term].variables)

    def contained(self, term: int) -> bool:
        """Whether some term contains this one."""
        return any(self.contains(outer, term) for outer in range(len(self.labels)))

    def droppable(self) -> list[int]:
        """Terms whose variables are not all in another term: those that may be taken out."""
        names = [frozenset(v.label for v in term.variables) for term in self._terms]
        return [i for i, own in enumerate(names) if own and not any(own < one for one in names)]

    def hypothesis(self, term: int, kind: int) -> np.ndarray:
        """What a test of type 1, 2 or 3 says about a term: independent rows L (k, p) of L beta = 0,
        zero for dropped columns; k = 0 when nothing about the term can be estimated by itself."""
        others = [t for t in range(len(self.labels)) if t != term]
        alone = sum(map(bool, self.labels)) == 1  # all types are type I then, as in lmerTest
        own = self._treatment(term) if kind == 3 else self._coded(term)
        if kind == 3 and not alone:
            return self._functions(_identity(own, self._type_three(term)))
        before = [t for t in others if not self.contains(t, term)]
        if kind == 1 or alone:
            before = list(range(term))
        elif before == others:
            return self.removal(term)
        return self._functions(_triangle(own, self._range_of(before)))

    def removal(self, term: int) -> np.ndarray:
        """The hypothesis (k, p) that the model without this term holds."""
        own = self._coded(term)
        others = self._range_of(t for t in range(len(self.labels)) if t != term)
        return self._functions(_identity(own, _triangle(own, others)))

    def without(self, term: int) -> np.ndarray:
        """(p, k) combinations of the columns: an orthonormal basis of the model without a term."""
        basis = self._range_of(t for t in range(len(self.labels)) if t != term)
        out = np.zeros((len(self.kept), basis.shape[1]))
        out[self.kept] = np.linalg.solve(self._R[:, self.kept], basis)
        return out

    def _treatment(self, term: int) -> np.ndarray:
        """The term's columns with treatment contrasts, then all its indicator columns."""
        span, lengths, first = self._made[term]
        return np.asarray((span * lengths)[:, [*dict.fromkeys([*first, *range(span.shape[1])])]])

    def _coded(self, term: int) -> np.ndarray:
        """The term's columns as the fit has them, then all its indicator columns."""
        span, lengths, _ = self._made[term]
        places = self.columns[term]
        return np.hstack([self._R[:, places[self.kept[places]]], span * lengths])

    def _range_of(self, terms: Iterable[int]) -> np.ndarray:
        """Orthonormal basis of the columns of terms."""
        spans = [np.zeros((len(self._R), 0)), *(self._made[t][0] for t in terms)]
        axes, rank = _svd(np.hstack(spans), True)
        return np.asarray(axes[:, :rank])

    def _functions(self, s: np.ndarray) -> np.ndarray:
        L = np.zeros((s.shape[1], len(self.kept)))
        L[:, self.kept] = s.T @ self._R[:, self.kept]
        return L

    def _type_three(self, term: int) -> np.ndarray:
        others = [t for t in range(len(self.labels)) if t != term]
        outer = [t for t in others if self.contains(t, term)]
        zero = self._range_of(t for t in others if t not in outer)
        free = _complement(zero)
        if not outer or not free.shape[1]:
            return free
        own = self._made[term][0]
        mine = free.T @ _unit(own)
        beyond = free @ _complement(mine, scaled=False)  # of the containing terms alone
        weights = np.hstack([own, *(self._made[t][0] for t in outer)])
        inner = free.T @ weights @ (weights.T @ beyond)
        if not inner.shape[1]:
            return free
        axes = np.linalg.qr(inner, mode="complete")[0]
        return np.asarray(free @ axes[:, inner.shape[1] :])


# C: columns of a term, in coordinates of Q; those to write hypotheses on come first.


def _triangle(C: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What the columns add to a space with this basis: weights are a unit upper triangle."""
    own = C - known @ (known.T @ C)
    axes, pivots = _independent(own, np.linalg.norm(C, axis=0))
    return np.asarray(axes / np.einsum("ij,ij->j", axes, own[:, pivots]))


def _identity(C: np.ndarray, s: np.ndarray) -> np.ndarray:
    """The same functions with the weights 1 and 0 on independent columns."""
    own = s.T @ C
    scale = np.linalg.norm(s, axis=0).max(initial=0.0) * np.linalg.norm(C, axis=0)
    _, pivots = _independent(own, scale)
    return np.asarray(np.linalg.solve(own[:, pivots], s.T).T)


def _independent(A: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Gram-Schmidt from left to right: an orthonormal basis of A (r, m), and the columns that made
    it; the length of a new direction is compared with the column's scale (m)."""
    basis: np.ndarray = np.zeros((len(A), 0))
    pivots: list[int] = []
    for j in range(A.shape[1]):
        if len(pivots) == len(A):
            break
        rest = A[:, j]
        for _ in range(2):
            rest = rest - basis @ (basis.T @ rest)
        length = np.linalg.norm(rest)
        if length > DEPENDENT * scale[j]:
            basis = np.column_stack([basis, rest / length])
            pivots.append(j)
    return basis, pivots


def _unit(A: np.ndarray) -> np.ndarray:
    """Columns of length one; those that are zero but for rounding are left out."""
    length = np.linalg.norm(A, axis=0)
    used = length > DEPENDENT * length.max(initial=0.0)
    return np.asarray(A[:, used] / length[used])


def _svd(A: np.ndarray, scaled: bool) -> tuple[np.ndarray, int]:
    """Left singular vectors, all of them, and the rank."""
    own = _unit(A) if scaled else A
    if not own.shape[1] or not len(own):
        return np.eye(len(A)), 0
    if own.shape[1] > len(own):  # the right singular vectors are not needed
        own = np.asarray(np.linalg.qr(own.T, mode="r")).T
    axes, size, _ = np.linalg.svd(own)
    return axes, int((size > DEPENDENT).sum())


def _complement(A: np.ndarray, scaled: bool = True) -> np.ndarray:
    """Orthonormal basis of what is orthogonal to the columns."""
    axes, rank = _svd(A, scaled)
    return np.asarray(axes[:, rank:])


def effects_of(
    X: Columns, kept: np.ndarray, layout: Layout, codings: Mapping[str, Coding]
) -> Effects:
    """The terms of the fixed effects: X has p columns, of which kept (p) do not depend on those
    before; layout and codings are the recipe's."""
    terms = tuple(_terms(layout, codings))
    labels = tuple(term.label for term in terms)
    columns = tuple(term.places.ravel(order="F") for term in terms)
    return Effects(labels, columns, kept, terms, X.root(kept))
