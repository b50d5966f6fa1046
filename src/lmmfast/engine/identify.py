"""Which covariance parameters the data cannot tell apart, whatever the response.

The covariance of the rows is a sum of parts, one for each entry of each term's Sigma and one for
the residual variance:

  V = sum_e s_e Z (I x E_e) Z' + sigma^2 W^-1    (K for I where levels are related)

Where a combination of parts vanishes, the criterion does not change along it: it has no single
optimum in these parameters. With REML only M V M counts, M taking out the fixed effects.
Combinations are found by applying the parts to random vectors (one product with Z' and one with Z
each): parts whose images are independent are independent. Some rows usually suffice to see that;
all rows decide that they are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.members import Members, gathered, summed
from ..data.relationship import is_same
from .relations import times_relation
from .structures import compiled

if TYPE_CHECKING:
    from ..data.design import Design
    from ..data.terms import RandomTerm
    from .compiled import Engine


FIRST = 200  # rows that are looked at first, and more for each part and fixed effect
GROWTH = 8  # by how much more rows are taken each time
DOUBTFUL = 1e-6  # share of a part that the others leave, above which it is independent
NONE = 1e-9  # singular value, relative, below which a combination of parts vanishes
TOGETHER = 1e-6  # share of a combination that counts
WIDE = 200  # fixed effects
MOST_PARTS = 1_500  # beyond that the algebra would take longer than the fit
MOST_NUMBERS = 4e7  # rows times parts that are held at a time
MOST_PAIRS = 4e6  # pairs of co-occurring levels of streamed data

Matrix = NDArray[np.float64]


def is_wide(engine: Engine) -> bool:
    """Would a basis of the fixed effects on some rows take longer than the model's on all?"""
    return int(engine.core.keep.sum()) > WIDE


class Part(NamedTuple):
    """An entry of a term's Sigma; of one with a covariance structure what a parameter, the row,
    changes in Sigma (column -1); term -1 is the residual variance."""

    term: int
    row: int
    column: int


@dataclass(frozen=True)
class Overlap:
    """Terms whose parts can be written with each other's.

    A mistake is refused. Terms of different grouping factors, or the residual variance, are warned
    of. Parts of one grouping factor that people fit knowingly (lme4 writes
    ``(1 | g) + (0 + a | g)`` for ``(a || g)``), or that the fixed effects take up, are noted.
    """

    terms: tuple[int, ...]  # their places in the formula
    message: str  # what cannot be told apart, and what to write instead
    kind: str  # "refused", "warned" or "noted" in the fit
    lost: int = 0  # parameters of covariance structures that are not counted


def overlaps(design: Design, engine: Engine, reml: bool) -> tuple[Overlap, ...]:
    """Groups of terms that cannot be told apart, in the formula's order; none in most models."""
    parts = _parts(engine, len(design.terms))
    if len(parts) > MOST_PARTS:
        return ()
    null = _combinations(design, engine, parts, reml)
    if null is None or not null.shape[1]:
        return ()
    always = _combinations(design, engine, parts, False) if reml else null
    assert always is not None
    null = _unwhitened(engine, parts, null)
    return tuple(
        _describe(engine, parts, terms, null, always)
        for terms in _components(parts, null)
        if max(terms) >= 0  # the residual variance by itself is no random term
    )


def are_told_apart(design: Design, engine: Engine, reml: bool) -> bool:
    """Whether no parts overlap on these rows, which are some of the engine's."""
    parts = _parts(engine, len(design.terms))
    if len(parts) > MOST_PARTS:
        return True
    if is_wide(engine):
        return False  # not looked for
    null = _combinations(design, engine, parts, reml)
    return null is None or not null.shape[1]


def _parts(engine: Engine, count: int) -> list[Part]:
    entries = [(i, _places(engine, i)) for i in range(count)]
    return [
        *(Part(i, row, column) for i, pairs in entries for row, column in pairs),
        Part(-1, 0, 0),
    ]


def _places(engine: Engine, i: int) -> list[list[int]]:
    """Row and column of the parts of term i."""
    structure = engine.design.terms[i].covariance
    if structure is not None:
        return [[j, -1] for j in range(structure.nphi)]
    places: list[list[int]] = np.column_stack(engine.entries(i)).tolist()
    return places


def _tangents(engine: Engine) -> dict[int, Matrix]:
    """How the Sigma of each term with a structure moves with its parameters, in whitened columns
    (nphi, k, k), at a place of no special kind: there they depend on each other only if they do
    everywhere."""
    found: dict[int, Matrix] = {}
    for i, (term, C) in enumerate(zip(engine.design.terms, engine.whitening(), strict=True)):
        if term.covariance is None:
            continue
        own, k = compiled(term.covariance), len(C)
        size = 0.8 + 0.4 * np.modf(np.sqrt(2) * np.arange(k))[0]
        lag = np.abs(np.subtract.outer(np.arange(k), np.arange(k)))
        typical = np.outer(size, size) * 0.6**lag
        slopes = own.derivatives(own.nearest(C @ typical @ C.T))
        back = np.linalg.inv(C)
        slopes = back @ slopes @ back.T
        sizes = np.linalg.norm(slopes, axis=(1, 2))[:, None, None]
        found[i] = slopes / np.where(sizes > 0, sizes, 1.0)
    return found


# ---- combinations that vanish --------------------------------------------------------------------


def _combinations(design: Design, engine: Engine, parts: list[Part], free: bool) -> Matrix | None:
    """A basis (parts x d) of the combinations that vanish; None: not looked for."""
    rng = np.random.default_rng(1)
    if not design.is_held:
        stream = _Stream.of(design, engine, parts)
        return None if stream is None else _combinations_of(stream, rng, free)
    count = FIRST + 2 * (len(parts) + int(engine.core.keep.sum()))
    most = int(min(design.n, max(MOST_NUMBERS / len(parts), count)))
    if is_wide(engine) and most == design.n:
        count = most
    while count < most:
        own = _Rows.of(design, engine, parts, count)
        if _are_independent(own.images(rng, True)):
            return np.zeros((len(parts), 0))
        count *= GROWTH
    found = _combinations_of(_Rows.of(design, engine, parts, most), rng, free)
    if most == design.n or not found.shape[1]:
        return found
    return _confirmed(_Rows.of(design, engine, parts, design.n), found, rng, free)


def _confirmed(own: _Rows, found: Matrix, rng: np.random.Generator, free: bool) -> Matrix:
    """Of the combinations that vanish on some rows, those that vanish on all."""
    v, met = own.meet(rng, free)
    left = np.zeros((len(v), found.shape[1]))
    size = np.zeros(found.shape[1])
    for part, share in zip(own.parts, found, strict=True):
        if share.any():
            image = own.image(part, v, met)
            left += image[:, None] * share
            size += np.abs(share) * np.linalg.norm(image)
    left = own.without_fixed(left) if free else left
    values, vectors = np.linalg.svd(_triangle(left / size))[1:]
    return np.asarray((found / size) @ vectors[values < NONE].T)


def _combinations_of(own: _Rows | _Stream, rng: np.random.Generator, free: bool) -> Matrix:
    if not _are_independent(own.images(rng, True)):
        # images of as many random vectors as parts need, at least two
        first = own.images(rng, free)
        more = 1 + 2 * len(own.parts) // max(len(first), 1)
        draws = np.vstack([first, *(own.images(rng, free) for _ in range(more))])
        if np.isfinite(draws).all():  # else the fit says so
            return _vanishing(draws)
    return np.zeros((len(own.parts), 0))


def _unwhitened(engine: Engine, parts: list[Part], null: Matrix) -> Matrix:
    """Combinations of parts in the user's columns, C S C' for S of whitened ones; an orthonormal
    basis, columns counting by their size."""
    out = null.copy()
    for i, C in enumerate(engine.whitening()):
        if engine.design.terms[i].covariance is not None:
            continue
        own = [e for e, part in enumerate(parts) if part.term == i]
        row, column = np.array([parts[e][1:] for e in own]).T
        size = np.linalg.norm(np.linalg.inv(C), axis=0)
        for j in range(null.shape[1]):
            S = np.zeros_like(C)
            S[row, column] = S[column, row] = null[own, j]
            out[own, j] = (C @ S @ C.T)[row, column] * size[row] * size[column]
    return np.asarray(np.linalg.qr(out)[0])


def _triangle(A: Matrix) -> Matrix:
    """R of A = Q R."""
    return np.asarray(np.linalg.qr(A, mode="r"))


def _are_independent(images: Matrix) -> bool:
    """Is every column away from the span of those before it?"""
    rows, columns = images.shape
    if rows < columns:
        return False
    size = np.sqrt(np.einsum("ij,ij->j", images, images))
    left = np.abs(np.diag(_triangle(images)))
    seen = size > NONE * size.max()  # the fixed effects leave something of it
    return bool((left > DOUBTFUL * size).all() and seen.all())


def _vanishing(images: Matrix) -> Matrix:
    """The combinations of columns that are zero, a basis; columns count by their own size."""
    size = np.linalg.norm(images, axis=0)
    size[size <= NONE * size.max(initial=0.0)] = np.inf  # nothing is left of these
    scaled = images / size
    tall = len(images) > 3 * images.shape[1]
    values, vectors = np.linalg.svd(_triangle(scaled) if tall else scaled)[1:]
    values = np.concatenate([values, np.zeros(len(vectors) - len(values))])
    null = vectors[values < NONE].T
    size[np.isinf(size)] = 1.0
    return np.asarray(null / size[:, None])


@dataclass(frozen=True, eq=False)
class _Rows:
    """Parts over some rows, in whitened columns and scaled by the square roots of the weights."""

    parts: list[Part]
    codes: list[np.ndarray | Members]
    levels: list[int]
    z: list[Matrix]
    Q: Matrix | None  # orthonormal basis of the fixed effects; None: the compiled model has one
    engine: Engine
    tangents: dict[int, Matrix]

    @classmethod
    def of(cls, design: Design, engine: Engine, parts: list[Part], count: int) -> _Rows:
        """The first rows and some from everywhere, together count."""
        n = design.n
        rows: slice | NDArray[np.int64] = slice(None)
        if count < n:
            spread = np.linspace(count // 2, n - 1, count - count // 2).astype(np.int64)
            rows = np.concatenate([np.arange(count // 2), spread])
        root = None if design.weights is None else np.sqrt(design.weights[rows])[:, None]
        codes, levels, z = [], [], []
        for i, (term, C) in enumerate(zip(design.terms, engine.whitening(), strict=True)):
            own = term.source.at(rows)[:, engine.kept(i)] @ C
            z.append(own if root is None else own * root)
            codes.append(term.incidence[rows])
            levels.append(len(term.levels))
        if count >= n and is_wide(engine):
            return cls(parts, codes, levels, z, None, engine, _tangents(engine))
        X = design.fixed.at(rows)[:, engine.core.keep]
        Q = np.linalg.qr(X if root is None else X * root)[0]
        return cls(parts, codes, levels, z, Q, engine, _tangents(engine))

    def without_fixed(self, values: Matrix) -> Matrix:
        """What fixed effects leave of columns."""
        if self.Q is None:
            left = self.engine.without_fixed(values.reshape(len(values), -1))
            return left.reshape(values.shape)
        return np.asarray(values - self.Q @ (self.Q.T @ values))

    def meet(self, rng: np.random.Generator, free: bool) -> tuple[Matrix, list[Matrix]]:
        """A random vector v, and Z'v (K Z'v of related levels) of each term at every row."""
        v = rng.normal(size=len(self.codes[0]))
        v = self.without_fixed(v) if free else v
        met = []
        parts = zip(self.engine.design.terms, self.codes, self.levels, self.z, strict=True)
        for term, codes, m, z in parts:
            sums = [summed(codes, z[:, j] * v, m) for j in range(z.shape[1])]
            met.append(gathered(codes, times_relation(term, np.column_stack(sums))))
        return v, met

    def image(self, part: Part, v: Matrix, met: list[Matrix]) -> Matrix:
        """One part times v."""
        i, r, c = part
        if i < 0:
            return v
        if c < 0:
            return np.asarray(((self.z[i] @ self.tangents[i][r]) * met[i]).sum(axis=1))
        out = self.z[i][:, r] * met[i][:, c]
        return np.asarray(out if r == c else out + self.z[i][:, c] * met[i][:, r])

    def images(self, rng: np.random.Generator, free: bool) -> Matrix:
        """One column for each part: its product with a random vector. free: of fixed effects."""
        v, met = self.meet(rng, free)
        out = np.empty((len(v), len(self.parts)))
        for e, part in enumerate(self.parts):
            out[:, e] = self.image(part, v, met)
        return self.without_fixed(out) if free else out


@dataclass(frozen=True, eq=False)
class _Stream:
    """Parts in the space of the random effects: Z'W V W Z, from cross-products."""

    parts: list[Part]
    sizes: list[tuple[int, int]]  # levels and columns of each factor
    place: list[tuple[int, tuple[int, ...]]]  # factor and columns in it, of each term
    diagonal: list[Matrix]
    pairs: list[tuple[int, int, np.ndarray, np.ndarray, Matrix]]
    edge: list[Matrix]  # Z'WX R^-1 of each factor, m x k x p
    loose: bool  # has the residual variance rows to itself?
    tangents: dict[int, Matrix]

    @classmethod
    def of(cls, design: Design, engine: Engine, parts: list[Part]) -> _Stream | None:
        blocks, columns = engine.products()
        found = map(engine.place, range(len(design.terms)))
        place = [(p.factor, tuple(range(p.columns.start, p.columns.stop))) for p in found]
        whiten = [np.zeros_like(C) for C in columns]  # from the columns of the blocks
        for (k, own), C in zip(place, engine.whitening(), strict=True):
            at = np.ix_(own, own)
            whiten[k][at] = np.linalg.solve(columns[k][at], C)
        K, pairs = len(blocks.widths), []
        for a, c in combinations(range(K), 2):
            la, lc, values = blocks.pairs(a, c)
            pairs.append((a, c, la, lc, _between(whiten[a], values, whiten[c])))
        if sum(len(pair[2]) for pair in pairs) > MOST_PAIRS:
            return None
        keep = np.flatnonzero(engine.core.keep)
        G = blocks.corner[np.ix_(keep, keep)]
        values, vectors = np.linalg.eigh(G)
        root = vectors / np.sqrt(values) if len(keep) else np.zeros((0, 0))
        edge = [whiten[k].T @ blocks.edge(k)[:, :, keep] @ root for k in range(K)]
        sizes = list(zip(blocks.nlev, blocks.widths, strict=True))
        loose = design.n - len(keep) > sum(m * k for m, k in sizes)
        diagonal = [W.T @ blocks.diagonal(k) @ W for k, W in enumerate(whiten)]
        return cls(parts, sizes, place, diagonal, pairs, edge, loose, _tangents(engine))

    def _times(self, u: list[Matrix], free: bool, only: int | None = None) -> list[Matrix]:
        """N u, N = Z'WZ or Z'WMZ. `only`: the factor in which u is not zero."""
        out = [np.einsum("lij,lj->li", D, x) for D, x in zip(self.diagonal, u, strict=True)]
        for a, c, la, lc, block in self.pairs:
            there, back = (a, la, lc, c, block), (c, lc, la, a, block.swapaxes(1, 2))
            for to, at, other, of, B in (there, back):
                if only not in (None, of):
                    continue
                for j in range(B.shape[1]):
                    sent = sum(B[:, j, i] * u[of][other, i] for i in range(B.shape[2]))
                    out[to][:, j] += np.bincount(at, sent, len(out[to]))
        if free:
            x = sum(np.einsum("lip,li->p", B, v) for B, v in zip(self.edge, u, strict=True))
            out = [o - B @ x for o, B in zip(out, self.edge, strict=True)]
        return out

    def images(self, rng: np.random.Generator, free: bool) -> Matrix:
        t = self._times([rng.normal(size=size) for size in self.sizes], free)
        columns = [self._image(part, t, free) for part in self.parts]
        if self.loose:  # the residual variance reaches beyond the columns of Z
            columns = [np.append(column, 0.0) for column in columns]
            size = max(np.linalg.norm(column) for column in columns) or 1.0  # as the largest
            columns[-1] = size * np.eye(1, len(columns[0]), len(columns[0]) - 1)[0]
        return np.column_stack(columns)

    def _image(self, part: Part, t: list[Matrix], free: bool) -> Matrix:
        """One part times the vector of which t is the image."""
        if part.term < 0:
            return np.concatenate([x.ravel() for x in t])
        w = [np.zeros(size) for size in self.sizes]
        k, own = self.place[part.term]
        if part.column < 0:
            w[k][:, own] = t[k][:, own] @ self.tangents[part.term][part.row]
            return np.concatenate([x.ravel() for x in self._times(w, free, only=k)])
        r, c = own[part.row], own[part.column]
        w[k][:, r] += t[k][:, c]
        if r != c:
            w[k][:, c] += t[k][:, r]
        return np.concatenate([x.ravel() for x in self._times(w, free, only=k)])


def _between(A: Matrix, blocks: Matrix, C: Matrix) -> Matrix:
    """A' B C of every block."""
    right = blocks.reshape(-1, blocks.shape[2]) @ C
    return np.asarray(np.einsum("ij,lik->ljk", A, right.reshape(blocks.shape)))


# ---- in words ------------------------------------------------------------------------------------


def _components(parts: Sequence[Part], null: Matrix) -> list[tuple[int, ...]]:
    """Terms (-1: the residual) that occur together in combinations."""
    together = np.abs(null @ null.T) > TOGETHER
    found: list[set[int]] = []
    for e in np.flatnonzero(together.diagonal()):
        own = {parts[int(f)].term for f in np.flatnonzero(together[e])}
        for other in [terms for terms in found if terms & own]:
            own |= other
            found.remove(other)
        found.append(own)
    return sorted(tuple(sorted(terms)) for terms in found)


def _describe(
    engine: Engine, parts: list[Part], terms: tuple[int, ...], null: Matrix, always: Matrix
) -> Overlap:
    own = tuple(i for i in terms if i >= 0)
    chosen = [engine.design.terms[i] for i in own]
    labels = [term.term for term in chosen]
    touched = [e for e, part in enumerate(parts) if part.term in terms]
    only_reml = not always.shape[1] or not np.abs(always[touched]).max(initial=0.0) > 0
    structured = [term for term in chosen if term.covariance is not None]
    if structured:
        lost = int(np.linalg.matrix_rank(null[touched], tol=TOGETHER))
        message = _say_structured(structured[0], labels, -1 in terms, only_reml, lost)
        return Overlap(own, message, "warned", lost)
    twins = next((pair for pair in combinations(chosen, 2) if _are_twins(*pair)), None)
    if twins is not None:
        return Overlap(own, _say_twins(*twins), "warned")
    if only_reml:
        return Overlap(own, _say_absorbed(labels, chosen), "noted")
    if len(own) == 1 and _tells_levels_apart(engine, own[0]):
        named = _names_its_group(chosen[0])
        return Overlap(own, _say_own_factor(chosen[0]), "refused" if named else "noted")
    if -1 in terms:
        return Overlap(own, _say_residual(labels), "warned")
    if len(own) == 1:
        zeros = _needs_zeros(parts, own[0], null)
        return Overlap(own, _say_few_values(chosen[0], zeros), "noted")
    spare = [label for i, label in zip(own, labels, strict=True) if _is_spare(parts, i, null)]
    one_factor = len({term.group for term in chosen}) == 1
    return Overlap(own, _say_overlap(labels, spare), "noted" if one_factor else "warned")


def twins(terms: Sequence[RandomTerm]) -> list[tuple[RandomTerm, str]]:
    """Terms whose grouping factors divide the rows as an earlier one's, each with a sentence."""
    pairs = combinations(terms, 2)
    return [(other, _say_twins(one, other)) for one, other in pairs if _are_twins(one, other)]


def _are_twins(one: RandomTerm, other: RandomTerm) -> bool:
    """Do different grouping factors divide the rows in the same way?"""
    same = one.group != other.group and len(one.levels) == len(other.levels)
    same = same and is_same(one.relation, other.relation)
    return same and one.source.divides_as(other.source)


def _names_its_group(term: RandomTerm) -> bool:
    """Are the columns those of the grouping factor itself, as in (1 + g | g)?"""
    pieces = {piece.partition("[")[0] for name in term.columns for piece in name.split(":")}
    return set(term.group.split(":")) <= pieces


def _is_spare(parts: list[Part], i: int, null: Matrix) -> bool:
    """Can every part of term i be written with those of other terms?"""
    own = [e for e, part in enumerate(parts) if part.term == i]
    return bool(np.linalg.matrix_rank(null[own], tol=TOGETHER) == len(own))


def _needs_zeros(parts: list[Part], i: int, null: Matrix) -> bool:
    """Would zero correlations be enough to tell the variances of term i apart?"""
    variances = [e for e, part in enumerate(parts) if part.term == i and part.row == part.column]
    if len(variances) < 2:
        return False
    values = np.linalg.svd(np.delete(null, variances, axis=0), compute_uv=False)
    return bool((values > TOGETHER).sum() == null.shape[1])  # none among the variances alone


def _tells_levels_apart(engine: Engine, i: int) -> bool:
    """Are the columns of term i constant within levels, and free between them?"""
    source = engine.design.terms[i].source
    G = source.by_level(np.eye(source.width)[:, engine.kept(i)] @ engine.whitening()[i])
    values = np.linalg.eigvalsh(G)
    constant = (values[:, :-1] < NONE * values[:, -1:]).all()
    return bool(constant and np.linalg.matrix_rank(G.sum(axis=0), tol=None) >= len(G))


def _say_twins(one: RandomTerm, other: RandomTerm) -> str:
    return (
        f"the grouping factors {one.group!r} and {other.group!r} divide the rows in the same way: "
        f"the variances of ({one.label}) and ({other.label}) cannot be told apart; keep one of the "
        "two terms"
    )


def _say_own_factor(term: RandomTerm) -> str:
    return (
        f"({term.label}): the columns are constant within the levels of {term.group!r} and have "
        "one free value for each: their variances and covariances cannot be told apart; write "
        f"(1 | {term.group})"
    )


def _say_absorbed(labels: list[str], terms: list[RandomTerm]) -> str:
    groups = " and ".join(dict.fromkeys(repr(term.group) for term in terms))
    return (
        f"the fixed effects already take up what {' and '.join(labels)} would vary between the "
        f"levels of {groups}: REML cannot estimate the variance; take the random term or those "
        "fixed effects out (with reml=False the variance is zero)"
    )


def _say_residual(labels: list[str]) -> str:
    return (
        f"the variances of {' and '.join(labels)} cannot be told apart from the residual variance, "
        "whatever the response: use fewer random columns, or data with more rows for each level"
    )


def _say_few_values(term: RandomTerm, zeros: bool) -> str:
    instead = "take columns out"
    if zeros and " | " in term.label:
        instead = f"write ({term.label.replace(' | ', ' || ')}), or {instead}"
    return (
        f"the columns of ({term.label}) take too few different values in the levels of "
        f"{term.group!r}: not all its variances and covariances can be told apart; {instead}"
    )


def _say_structured(
    term: RandomTerm, labels: list[str], residual: bool, only_reml: bool, lost: int
) -> str:
    if residual:
        what = f"the variance of {' and '.join(labels)} cannot be told from the residual variance"
        why = "there is hardly more than one row for each level and column"
    elif len(labels) > 1:
        what, why = f"{' and '.join(labels)} cannot be told apart", "the rows are too few"
    else:
        what = f"not all parameters of {term.label} can be told apart"
        why = "its columns take too few different values in the levels"
    why = "the fixed effects take up what they differ in" if only_reml else why
    count = "one parameter is" if lost == 1 else f"{lost} parameters are"
    return (
        f"{what}, whatever the response: {why}. The fit, its fixed effects and predictions are not "
        f"affected; {count} one choice of many, and not counted"
    )


def _say_overlap(labels: list[str], spare: list[str]) -> str:
    instead = f"take {' or '.join(spare)} out" if spare else "take columns out of one of them"
    return (
        f"{' and '.join(labels)} overlap: the same covariance of the rows can be written with "
        f"either, so that their variances cannot be told apart; {instead}"
    )
