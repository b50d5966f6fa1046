"""Relationships between the levels of a grouping factor: b ~ N(0, sigma^2 K (x) T T').

Models know K by its inverse, which is sparse where K is a pedigree's or a neighbourhood's. What
users have becomes one: `Relationship` (K), `Precision` (its inverse), `Adjacency`, or anything with
a method ``precision()`` that gives a `Precision`, as `lmmfast.Pedigree`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..freeze import Frozen
from ..given import Matrix, SparseMatrix
from ..memory import available
from .columns import suggest
from .grouping import Grouping
from .members import Members
from .membership import Grouped, SpannedGrouping
from .singular import Dependent, inverse_of

SYMMETRIC = 1e-8  # largest difference from its transpose, relative to the largest entry
SHOWN = 5  # levels that a message names
LOWEST = {"car": -1.0, "leroux": 0.0}  # rho of each kind of conditional autoregression
BYTES = 40.0  # for each entry of a dense inverse: triangle, factor, and the matrices of a fit


def _sparse(values: Any, what: str) -> Any:
    """A square matrix of finite numbers as scipy's CSC; symmetric up to rounding."""
    from scipy import sparse

    if sparse.issparse(values):
        Q = sparse.csc_matrix(values, dtype=np.float64)
    else:
        try:
            dense = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            raise DataError(f"{what} must be a matrix of numbers") from None
        if dense.ndim != 2:
            raise DataError(f"{what} has shape {dense.shape}: a square matrix is needed")
        Q = sparse.csc_matrix(dense)
    if Q.shape[0] != Q.shape[1]:
        raise DataError(f"{what} has shape {Q.shape}: a square matrix is needed")
    Q.sum_duplicates()
    if not np.isfinite(Q.data).all():
        raise DataError(f"{what} has entries that are not finite")
    size = float(np.abs(Q.data).max(initial=0.0))
    apart = float(np.abs((Q - Q.T).data).max(initial=0.0))
    if apart > SYMMETRIC * size:
        raise DataError(f"{what} is not symmetric: entries differ from their mirror by {apart:.3g}")
    return Q


def _labels(levels: Any, q: int, what: str) -> NDArray[Any] | None:
    """Labels of q levels as an array, each once; None where there are none."""
    if levels is None:
        return None
    out = np.empty(len(levels), object)
    out[:] = list(levels)
    if len(out) != q:
        raise DataError(f"{what} has {q} rows, and {len(out)} levels are given")
    seen: set[Any] = set()
    for label in out.tolist():
        if label in seen:
            raise DataError(f"the level {label!r} of {what} is there twice", variable=str(label))
        seen.add(label)
    return out


def _framed(values: Any, levels: Any, what: str) -> tuple[Any, Any]:
    """Values and levels of a labelled table, whose columns are put in the order of its rows."""
    index: Any = getattr(values, "index", None)
    columns: Any = getattr(values, "columns", None)
    if columns is None or callable(index) or levels is not None:
        return (values.to_numpy() if columns is not None else values), levels
    if list(index) == list(columns):
        return values.to_numpy(), list(index)
    if not index.is_unique or set(index) != set(columns):
        raise DataError(f"the rows and the columns of {what} have different labels")
    return values.loc[:, list(index)].to_numpy(), list(index)


class Precision:
    """The inverse of a relationship matrix, for ``relationship=`` of `lmmfast.lmer`.

    Parameters
    ----------
    Q : (q, q) array, sparse matrix or labelled DataFrame
        Symmetric and positive definite, K^-1.
    levels : sequence, optional
        Labels of its rows; those without records get predictions too. Default: labels of the
        frame, else the levels of the factor in their order.

    Attributes
    ----------
    matrix : (q, q) scipy.sparse.csc_matrix
    levels : (q,) array of labels, or None

    Raises
    ------
    DataError
        When Q is not square, symmetric and finite, or labels do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from lmmfast import Precision
    >>> Q = 2 * np.eye(3) - 0.5 * (np.eye(3, k=1) + np.eye(3, k=-1))
    >>> Precision(Q, ["a", "b", "c"]).matrix.nnz
    7
    """

    def __init__(self, Q: Matrix, levels: Iterable[object] | None = None) -> None:
        Q, levels = _framed(Q, levels, "the precision matrix")
        self.matrix = _sparse(Q, "the precision matrix")
        self.levels = _labels(levels, self.matrix.shape[0], "the precision matrix")

    root: SparseMatrix | None = None  # csr_matrix G, lower triangular, K^-1 = G'G; None: not known
    diagonal: NDArray[np.float64] | None = None  # of K
    dependent: Dependent | None = None  # levels beside these, where K is singular
    autoregression: Adjacency | None = None  # whose rho is to be estimated

    @classmethod
    def of_root(
        cls, root: SparseMatrix, levels: Iterable[object] | None, diagonal: NDArray[np.float64]
    ) -> Precision:
        """Of a sparse lower triangle G, K^-1 = G'G, and the diagonal of K."""
        G: Any = root
        made = cls(G.T @ G, levels)
        made.root, made.diagonal = root, diagonal
        return made

    def precision(self) -> Precision:
        """Itself."""
        return self

    def __repr__(self) -> str:
        q, count = self.matrix.shape[0], self.matrix.nnz
        return f"Precision of {q} levels, {count} entries that are not zero"


class Relationship:
    """A relationship matrix K with the labels of its rows, for ``relationship=`` of `lmmfast.lmer`.

    Parameters
    ----------
    K : (q, q) array, sparse matrix or labelled DataFrame
        Symmetric and positive semidefinite. Blocks of related levels (families) are inverted one by
        one. A K of less than full rank (clones, identical twins, a centred matrix of genotypes) is
        taken as it is: as many levels as its rank have effects of their own, those of the others
        are sums of these.
    levels : sequence, optional
        As for `Precision`.

    Raises
    ------
    DataError
        When K is not square, symmetric, finite and positive semidefinite, or labels do not fit.
    MemoryError
        When a block is so large that its inverse does not fit in memory.

    Examples
    --------
    >>> import numpy as np
    >>> from lmmfast import Relationship
    >>> K = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> Relationship(K, ["a", "b", "c"]).precision().matrix.nnz
    5
    """

    def __init__(self, K: Matrix, levels: Iterable[object] | None = None) -> None:
        K, levels = _framed(K, levels, "the relationship matrix")
        self.matrix = _sparse(K, "the relationship matrix")
        self.levels = _labels(levels, self.matrix.shape[0], "the relationship matrix")

    def precision(self) -> Precision:
        """The inverse, block by block; of a singular K that of as many levels as it has rank."""
        from scipy.sparse.csgraph import connected_components

        K = self.matrix
        count, member = connected_components(K, directed=False)
        sizes = np.bincount(member, minlength=count)
        _afford(float(sizes.max(initial=0)), K.shape[0])
        order = np.argsort(member, kind="stable")
        families = np.split(order, np.cumsum(sizes)[:-1])
        Q, dependent = inverse_of(K, families)
        if dependent is None:
            return Precision(Q, self.levels)
        made = Precision(Q, None if self.levels is None else self.levels[dependent.kept])
        made.dependent = dependent.named(self.levels)
        return made

    def __repr__(self) -> str:
        return f"Relationship of {self.matrix.shape[0]} levels"


class Adjacency:
    """Neighbours, for ``relationship=`` of `lmmfast.lmer`: a conditional autoregression (CAR).

    "car": K^-1 = D - rho W, D with the row sums of W: each level given the others has mean rho
    times that of its neighbours, weighted by W, and variance sigma_b^2 / D_ii (Besag 1974).
    "leroux": K^-1 = (1 - rho) I + rho (D - W), independent levels at rho = 0 (Leroux, Lei and
    Breslow 2000).

    Parameters
    ----------
    W : (q, q) array, sparse matrix or labelled DataFrame
        Symmetric, not negative, with zeros on its diagonal: 1 where two levels are neighbours, or
        weights.
    rho : float or "estimate"
        Between -1 and 1 ("leroux": 0 and 1), not at its ends. "estimate": by the criterion of the
        model, together with all other parameters, in `lmmfast.lmer`; ``fit.rho()`` tells it.
    levels : sequence, optional
        As for `Precision`.
    kind : {"car", "leroux"}, default "car"

    Raises
    ------
    DataError
        When W is not as said, rho is out of range, or a level has no neighbours ("car").

    References
    ----------
    Besag (1974), *J. R. Statist. Soc. B* 36: 192-236; Leroux, Lei and Breslow (2000), in
    *Statistical Models in Epidemiology, the Environment, and Clinical Trials*, 179-191.

    Examples
    --------
    >>> import numpy as np
    >>> from lmmfast import Adjacency
    >>> line = np.eye(4, k=1) + np.eye(4, k=-1)
    >>> Adjacency(line, 0.9, "abcd").precision().matrix.diagonal().tolist()
    [1.0, 2.0, 2.0, 1.0]
    """

    def __init__(
        self,
        W: Matrix,
        rho: float | str,
        levels: Iterable[object] | None = None,
        *,
        kind: Literal["car", "leroux"] = "car",
    ) -> None:
        what = "the adjacency matrix"
        if kind not in LOWEST:
            raise DataError(f'kind of an Adjacency is "car" or "leroux", not {kind!r}')
        W, levels = _framed(W, levels, what)
        self.matrix = _sparse(W, what)
        self.levels = _labels(levels, self.matrix.shape[0], what)
        self.kind, self.rho = kind, _rho(rho, kind)
        if (self.matrix.data < 0).any() or self.matrix.diagonal().any():
            raise DataError(f"{what} must have no negative entries, and zeros on its diagonal")
        self._sums = np.asarray(self.matrix.sum(axis=0)).ravel()
        alone = np.flatnonzero(self._sums == 0)
        if len(alone) and kind == "car":
            name = int(alone[0]) if self.levels is None else self.levels[alone[0]]
            more = f" (and {len(alone) - 1} more)" * (len(alone) > 1)
            which = "the level in row" if self.levels is None else "the level"
            raise DataError(
                f"{which} {name!r} has no neighbours{more} in {what}, and so no variance: "
                'join it to the nearest, leave its rows out, or write kind="leroux", where islands '
                "have effects of their own",
                variable=str(name),
            )

    @property
    def base(self) -> NDArray[np.float64]:
        """Diagonal of K^-1 at rho = 0 (q,)."""
        return np.asarray(self._sums if self.kind == "car" else np.ones(len(self._sums)))

    @property
    def slope(self) -> SparseMatrix:
        """Derivative of K^-1 in rho (q, q), scipy.sparse.csc_matrix."""
        from scipy import sparse

        own = self._sums - self.base
        found: SparseMatrix = (sparse.diags(own) - self.matrix).tocsc()
        return found

    def at(self, rho: float) -> Precision:
        """K^-1 at a rho."""
        from scipy import sparse

        slope: Any = self.slope
        return Precision(sparse.diags(self.base) + rho * slope, self.levels)

    def precision(self) -> Precision:
        """K^-1, where rho is to be estimated at a first value."""
        if self.rho is not None:
            return self.at(self.rho)
        made = self.at(0.5)
        made.autoregression = self
        return made

    def __repr__(self) -> str:
        pairs = self.matrix.nnz // 2
        rho = "rho to be estimated" if self.rho is None else f"rho = {self.rho:g}"
        return f"Adjacency of {self.matrix.shape[0]} levels, {pairs} pairs, {rho}"


def _rho(rho: float | str, kind: str) -> float | None:
    """rho, None where it is to be estimated."""
    if isinstance(rho, str):
        if rho != "estimate":
            raise DataError(f'rho must be a number or "estimate", not {rho!r}')
        return None
    if not (LOWEST[kind] < rho < 1 or rho == 0):
        raise DataError(
            f"rho must be between {LOWEST[kind]:g} and 1, not {rho}: else K^-1 is singular"
        )
    return float(rho)


def _afford(largest: float, q: int) -> None:
    """Refuses a dense inverse that does not fit in memory."""
    size = BYTES * largest**2
    if size > 1e8 and size > 0.9 * available():
        raise MemoryError(
            f"the relationship matrix of {q} levels has a block of {largest:.0f} that are all "
            f"related: a fit with its inverse takes {size / 1e9:.1f} GB; give a sparse inverse "
            "(Precision, Pedigree)"
        )


@dataclass(frozen=True, eq=False)
class Relation(Frozen, arrays=("levels", "ptr", "row", "x", "root")):
    """Precision of a grouping factor's levels: lower triangle by columns, the diagonal first."""

    group: str
    levels: NDArray[Any]
    ptr: NDArray[np.intp]
    row: NDArray[np.int32]
    x: NDArray[np.float64]
    root: tuple[NDArray[Any], ...] | None = None  # of K^-1 = G'G: rows, columns and values of G
    diagonal: NDArray[np.float64] | None = None  # of K, where it is known
    dependent: Dependent | None = None  # levels beside these, where K is singular
    autoregression: Adjacency | None = None  # whose rho is estimated
    rho: float | None = None  # where a fit left it

    @classmethod
    def of(cls, group: str, given: Any, levels: NDArray[Any]) -> Relation:
        """Of what ``relationship=`` has for a factor with these levels."""
        found = given if hasattr(given, "precision") else Relationship(given)
        found = found.precision()
        if not isinstance(found, Precision):
            raise DataError(
                f"the relationship of {group!r} must be a matrix, a Relationship, a Precision or a "
                f"Pedigree, not {type(given).__name__}",
                variable=group,
            )
        rest = found.dependent
        q = found.matrix.shape[0] + (0 if rest is None else len(rest.others))
        if found.levels is None and q != len(levels):
            raise DataError(
                f"the relationship matrix of {group!r} has {q} rows, and the data have "
                f"{len(levels)} levels: name its levels, as in Relationship(K, levels)",
                variable=group,
            )
        L = _lower(found.matrix)
        if not (L.diagonal() > 0).all():
            raise DataError(
                f"the precision matrix of {group!r} has a diagonal that is not positive",
                variable=group,
            )
        parts = L.indptr.astype(np.intp), L.indices.astype(np.int32), L.data.copy()
        own = levels if found.levels is None else found.levels
        root = None if found.root is None else _by_rows(found.root)
        if rest is not None and len(rest.kept) < 2:
            raise DataError(
                f"the relationship matrix of {group!r} is singular, of rank 1: all its levels have "
                "the same effect, up to a factor",
                variable=group,
            )
        if rest is not None:
            rest = rest if found.levels is not None else rest.named(levels)
            own = own if found.levels is not None else levels[rest.kept]
        return cls(group, own, *parts, root, found.diagonal, rest, found.autoregression)

    def at(self, rho: float) -> Relation:
        """The same with another rho of its conditional autoregression."""
        assert self.autoregression is not None
        L = _lower(self.autoregression.at(rho).matrix)
        arrays = {"ptr": L.indptr.astype(np.intp), "row": L.indices.astype(np.int32)}
        return replace(self, **arrays, x=L.data.copy(), rho=rho)

    @property
    def labels(self) -> NDArray[Any]:
        """Of all levels: those with effects of their own, and then the dependent ones."""
        rest = self.dependent
        return self.levels if rest is None else np.concatenate([self.levels, rest.labels])

    def arrays(self) -> tuple[Any, ...]:
        """Columns, rows and values, and the root, as the compiled core takes them."""
        return self.ptr, self.row, self.x, self.root

    def matrix(self) -> Any:
        """K^-1, both triangles, scipy.sparse.csc_matrix."""
        from scipy import sparse

        q = len(self.levels)
        L = sparse.csc_matrix((self.x, self.row, self.ptr), shape=(q, q))
        return (L + sparse.tril(L, -1).T).tocsc()

    def places(self, levels: NDArray[Any]) -> NDArray[np.int32]:
        """Where levels of the data stand among those of the relationship, dependent ones last."""
        labels = self.labels.tolist()
        known = {label: i for i, label in enumerate(labels)}
        found = [known.get(label, -1) for label in levels.tolist()]
        if -1 in found:  # 7 in the data, "7" in the matrix
            spelled = {str(label): i for i, label in enumerate(labels)}
            if len(spelled) == len(labels):
                found = [spelled.get(str(label), -1) for label in levels.tolist()]
        if -1 in found:
            lacking = [str(levels[i]) for i, at in enumerate(found) if at < 0]
            more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
            raise DataError(
                f"the relationship of {self.group!r} lacks levels that the data have: "
                f"{', '.join(lacking[:SHOWN])}{more}",
                variable=self.group,
            )
        return np.array(found, np.int32)


def _by_rows(root: Any) -> tuple[NDArray[Any], ...]:
    """Rows, columns and values of a sparse triangle."""
    G = root.tocsr()
    G.sum_duplicates()
    G.sort_indices()
    return G.indptr.astype(np.intp), G.indices.astype(np.int32), G.data.copy()


def _lower(Q: Any) -> Any:
    """The lower triangle by columns, without zeros but with its diagonal."""
    from scipy import sparse

    L = sparse.tril(Q).tocsc()
    L.eliminate_zeros()
    L.sort_indices()
    return L


def relate(
    relationship: Any, groupings: Mapping[str, Grouped]
) -> tuple[dict[str, Grouped], dict[str, Relation]]:
    """Grouping factors with the levels of their relationships, and these by the factor's label."""
    if relationship is None:
        return dict(groupings), {}
    if not isinstance(relationship, Mapping):
        raise DataError(
            'relationship= must name the grouping factors it is for, as in {"animal": K}; got '
            f"{type(relationship).__name__}"
        )
    out, relations = dict(groupings), {}
    for group, given in relationship.items():
        if group not in groupings:
            raise DataError(
                f"a relationship is given for {group!r}, which is no grouping factor of the model"
                f"{suggest(str(group), list(groupings), 'grouping factors')}",
                variable=str(group),
            )
        grouping, codes = groupings[group]
        if isinstance(grouping, Grouping) and len(grouping.atoms) > 1:
            raise DataError(
                f"a relationship is given for {group!r}, a combination of factors: make it a "
                "column of its own, whose levels have the labels of the matrix",
                variable=group,
            )
        relation = relations[group] = Relation.of(group, given, grouping.levels)
        out[group] = _among(grouping, codes, relation)
    return out, relations


def _among(grouping: Any, codes: Any, relation: Relation) -> Any:
    """A grouping factor with the levels of its relationship, and the rows' levels among these."""
    place = relation.places(grouping.levels)
    own = grouping.among(relation.labels)
    several = isinstance(codes, Members)
    codes = codes.moved(place, len(relation.labels)) if several else place[codes]
    if relation.dependent is None:
        return own, codes
    own = SpannedGrouping(own, relation.dependent.spread(len(relation.levels)))
    return own, own.spanned(codes)


def is_same(one: Relation | None, other: Relation | None) -> bool:
    """Whether two factors are related alike, or both not at all."""
    if one is None or other is None:
        return one is other
    pairs = zip(one.arrays()[:3], other.arrays()[:3], strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def not_related(group: str, names: Sequence[str]) -> DataError:
    """The error for levels of new data that the relationship matrix of their factor lacks."""
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - SHOWN} more" if len(distinct) > SHOWN else ""
    return DataError(
        f"the relationship of {group!r} lacks {', '.join(distinct[:SHOWN])}{more}: how they are "
        "related to the others is not known; fit with a relationship that has them (they need no "
        "records)",
        variable=group,
    )


def refuse_moving(terms: Iterable[Any], what: str) -> None:
    """DataError where rho of a conditional autoregression is still to be estimated."""
    for term in terms:
        own = term.relation
        if own is not None and own.autoregression is not None and own.rho is None:
            raise DataError(
                f"rho of the Adjacency of {term.group!r} is to be estimated, which {what} does not "
                "do: lmer does; give the rho that a fit found",
                variable=term.group,
            )


def related_groups(terms: Iterable[Any]) -> list[str]:
    """Labels of the grouping factors whose levels are related."""
    return list(dict.fromkeys(term.group for term in terms if term.relation is not None))
