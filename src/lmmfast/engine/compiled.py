"""The compiled model of a design: which arrays it is made of, how its numbers map to terms."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache, cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from .. import _core, memory
from ..data.design import Design
from ..data.relationship import related_groups
from ..data.sums import Columns, Group
from ..errors import DataError, FitError, RankDeficientWarning, warn
from .costs import StorageReport, refusal
from .free import Free
from .ordering import nested_dissection
from .relations import refuse_related, refuse_several
from .structures import compiled

MEMORY_SHARE = 0.9  # of the memory that is available now, which a model or a reading may take
SMALL = 1e8  # bytes that are there: no need to ask
MANY = 1_000  # entries of covariance matrices from which fits are in structures' parameters alone
OUT_OF_RANGE = (
    "variances are too large or too small for floating-point numbers: measure the response and the "
    "predictors in other units"
)


class Place(NamedTuple):
    """Where a term's columns and parameters are in the compiled model."""

    factor: int
    kept: tuple[int, ...]  # columns of the term that do not depend on others of its factor
    columns: slice  # their place among the factor's columns
    theta: slice  # its parameters in theta


class Engine:
    """The compiled cross-products of a design, and the place of each term's columns in them.

    The compiled model has arrays by grouping factor; users have them by term in the formula's
    order. theta is in the formula's order on both sides.
    """

    def __init__(self, design: Design, storage: str = "auto", make: Any = _core.Model) -> None:
        self.design = design
        self._plain = all(term.covariance is None for term in design.terms)
        self._kept = [tuple(range(term.source.width)) for term in design.terms]
        self._factors = self._gather()
        self._groups = [self._group(terms) for terms in self._factors]
        self._limit = memory_limit() if self._at_most() > SMALL else float("inf")
        self.core = self._compile(make, storage)
        self._places = self._locate()
        if not isinstance(self.core, dict):  # which is a plan
            self.core.arrange(self._by_factor())

    def _gather(self) -> list[list[int]]:
        """Terms of each grouping factor."""
        factors: dict[Hashable, list[int]] = {}
        for i, term in enumerate(self.design.terms):
            factors.setdefault(term.source.factor, []).append(i)
        return list(factors.values())

    def _group(self, terms: list[int]) -> Group:
        """A grouping factor with the columns that are kept."""
        columns: list[Columns] = []
        owners: list[int] = []
        for i in terms:
            term, kept = self.design.terms[i], self._kept[i]
            whole = len(kept) == term.source.width
            columns.append(term.source if whole else term.source.chosen(kept))
            if term.structure == "diag":
                owners += range(len(owners), len(owners) + len(kept))
            else:
                owners += [-i - 1] * len(kept)
        first = self.design.terms[terms[0]]
        related = None if first.relation is None else _core.Precision(*first.relation.arrays())
        several = _core_members(first) if first.several else None
        return Group(
            tuple(columns), np.array(owners, np.int32), len(first.levels), related, several
        )

    def fill(self, sums: Any, reweighted: bool) -> None:
        """The compiled model gets the response of other rows with these columns, and their weights.

        Raises
        ------
        FitError
            When the response is a combination of the fixed effects, or other columns are
            independent with these weights. The model must be filled again before it is used.
        """
        fill = self.core.refill if reweighted else self.core.response
        try:
            fill(*sums.source(self.design.fixed, self._groups))
        except _core.NoVariance:
            raise FitError(
                "the new response is a linear combination of the fixed effects"
            ) from None
        except _core.NotFinite:
            raise FitError(OUT_OF_RANGE, variable=self.design.response) from None
        except _core.Dependent:
            raise FitError(
                "with the new weights other columns are linearly independent: fit the formula anew"
            ) from None

    def without_fixed(self, values: np.ndarray) -> np.ndarray:
        """What the fixed effects leave of columns (n, r), scaled by the roots of the weights."""
        source = self.design.sums.source(self.design.fixed, self._groups)
        return np.asarray(self.core.without_fixed(values, *source))

    def products(self) -> tuple[Any, list[np.ndarray]]:
        """Of models without rows: blocks of cross-products, and C of each factor (their columns
        are the design's times C)."""
        sums: Any = self.design.sums
        blocks, C = sums.products(self.design.fixed, self._groups)
        return blocks, C

    @classmethod
    def report(cls, design: Design, storage: str = "auto") -> tuple[StorageReport, float]:
        """How the model would be stored, and the bytes that may be used; nothing large is made."""
        make = _core.plan if design.outcome is None else partial(_core.plan, generalized=True)
        return cls(design, storage, make).core, memory_limit()

    def _at_most(self) -> float:
        """Bytes that no model with so many rows and random effects can need more than."""
        terms = self.design.terms
        effects = sum(len(term.levels) * term.source.width for term in terms)
        columns = len(self.design.x_names) + 1 + sum(term.source.width for term in terms)
        return float(32 * effects**2 + 40 * self.design.n * columns**2)

    def _compile(self, make: Any, storage: str) -> Any:
        """The compiled model; dependent random columns are dropped one by one, with a warning."""
        if storage == "iterative":
            instead = "leave storage out"
            refuse_related(self.design, 'storage="iterative"', instead)
            refuse_several(self.design, 'storage="iterative"', instead)
        options: dict[str, Any] = {
            "limit": self._limit,
            "storage": storage,
            "order": nested_dissection,
        }
        while True:
            try:
                source = self.design.sums.source(self.design.fixed, self._groups)
                if not self._plain and self.moves and make in (_core.Model, _core.plan):
                    options["moves"] = self.moves
                return make(*source, **options)
            except _core.Dependent as error:
                self._drop(*error.args)
            except _core.NoVariance:
                name = self.design.response
                raise FitError(
                    f"the response {name!r} is a linear combination of the fixed effects: no "
                    "residual variance is left to model",
                    variable=name,
                ) from None
            except _core.NotFinite:
                raise FitError(OUT_OF_RANGE, variable=self.design.response) from None
            except _core.NotPositiveDefinite:
                raise DataError(self._not_definite()) from None
            except _core.TooLarge as error:
                raise MemoryError(refusal(self.design, error.args[0], self._limit)) from None

    def _not_definite(self) -> str:
        groups = related_groups(self.design.terms)
        return (
            f"the precision matrix of {' or '.join(map(repr, groups))}, the inverse of a "
            "relationship matrix, is not positive definite: it has eigenvalues that are zero or "
            "negative"
        )

    @cached_property
    def moves(self) -> int:
        """Parameters of the fits of a model whose structures have few of them beside the entries of
        their covariance matrices; 0: fits are in these entries."""
        entries = parameters = 0
        for kept, term in zip(self._kept, self.design.terms, strict=True):
            k = len(kept)
            own = k if term.structure == "diag" else k * (k + 1) // 2
            entries += own
            parameters += own if term.covariance is None else compiled(term.covariance).nphi
        return parameters if entries > MANY and 2 * parameters < entries else 0

    def refuse_wide(self, what: str, instead: str = "") -> None:
        """FitError for what needs second derivatives in all entries of the covariance matrices,
        where fits are in the parameters of structures alone."""
        if self.moves:
            wide = max(self.design.terms, key=lambda term: len(term.columns))
            raise FitError(
                f"{what}: second derivatives in the {self.core.ntheta:,} entries of covariance "
                f"matrices are needed, which models with so wide a structure, ({wide.label}) of "
                f"{len(wide.columns)} columns, do not have{instead}",
                term=wide.label,
            )

    def _drop(self, factor: int, column: int) -> None:
        i, c = [(i, c) for i in self._factors[factor] for c in self._kept[i]][column]
        label, name = self.design.terms[i].label, self.design.terms[i].columns[c]
        if len(self._kept[i]) == 1:
            what = f"the only column of ({label}), {name!r}, is zero"
            raise DataError(what, variable=name, term=label)
        self._kept[i] = tuple(k for k in self._kept[i] if k != c)
        self._groups[factor] = self._group(self._factors[factor])
        what = f"column {name!r} of ({label}) is a linear combination of the others"
        what += ": it is dropped, its variance is reported as zero"
        warn(RankDeficientWarning(what, variable=name, term=label))

    def _locate(self) -> list[Place]:
        factor_of = {i: number for number, terms in enumerate(self._factors) for i in terms}
        filled = [0] * len(self._factors)
        places, at = [], 0
        for i, term in enumerate(self.design.terms):
            number, k = factor_of[i], len(self._kept[i])
            first, count = filled[number], k if term.structure == "diag" else k * (k + 1) // 2
            columns, theta = slice(first, first + k), slice(at, at + count)
            places.append(Place(number, self._kept[i], columns, theta))
            filled[number], at = first + k, at + count
        return places

    def _by_factor(self) -> np.ndarray:
        """Place in theta of each parameter, factor by factor."""
        slices = [self._places[i].theta for terms in self._factors for i in terms]
        return np.concatenate([np.arange(part.start, part.stop, dtype=np.int32) for part in slices])

    def checked(self, theta: Any) -> np.ndarray:
        """A theta of the right length with finite values; ValueError for another."""
        theta = np.ascontiguousarray(theta, np.float64)
        if theta.shape != (self.core.ntheta,):
            raise ValueError(f"theta needs shape ({self.core.ntheta},), not {theta.shape}")
        if not np.isfinite(theta).all():
            raise ValueError(f"theta has values that are not finite: {theta}")
        return np.asarray(theta)

    def plane(self, free: Free) -> tuple[np.ndarray, np.ndarray]:
        """What of theta moves: the fixed part, and the basis in Fortran order."""
        if len(free.fixed) != self.core.ntheta:
            raise ValueError(
                f"free is for {len(free.fixed)} covariance parameters: the model has "
                f"{self.core.ntheta}"
            )
        return self.checked(free.fixed), np.asfortranarray(free.basis)

    def theta_entries(self) -> list[tuple[int, int, int]]:
        """Term, row and column in the term's T of each parameter, in the formula's order."""
        out: list[tuple[int, int, int]] = []
        for i, place in enumerate(self._places):
            diagonal = self.design.terms[i].structure == "diag"
            for c, column in enumerate(place.kept):
                rows = (column,) if diagonal else place.kept[c:]
                out += [(i, row, column) for row in rows]
        return out

    # ---- numbers of the core by term -------------------------------------------------------------

    def factors(self, theta: np.ndarray) -> tuple[np.ndarray, ...]:
        """T of each term, k x k lower triangular."""
        return tuple(self._factor(i, theta) for i in range(len(self._places)))

    def _factor(self, i: int, theta: np.ndarray) -> np.ndarray:
        place = self._places[i]
        k = len(place.kept)
        T = np.zeros((k, k))
        if self.design.terms[i].structure == "diag":
            np.fill_diagonal(T, theta[place.theta])
        else:
            T.T[_upper(k)] = theta[place.theta]
        return self._widen(i, self._widen(i, T).T).T

    def modes(self, b: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Conditional modes of each term, m x k, from those of the factors."""
        places = enumerate(self._places)
        return tuple(self._widen(i, b[place.factor][:, place.columns]) for i, place in places)

    def conditional_variances(self, blocks: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Conditional covariances of each term, m x k x k, from those of the factors."""
        return tuple(
            self.widened(i, i, blocks[place.factor][:, place.columns, place.columns])
            for i, place in enumerate(self._places)
        )

    def by_factor(self, V: list[np.ndarray]) -> list[np.ndarray]:
        """Arrays m x k x r of the terms to those of the factors, without dropped columns."""
        wanted = [(len(term.levels), term.source.width) for term in self.design.terms]
        fit = [v.shape[:2] for v in V] == wanted
        if not fit or {v.shape[2:] for v in V} != {V[0].shape[-1:]}:
            shapes = ", ".join(f"({m}, {k}, r)" for m, k in wanted)
            raise ValueError(f"arrays of shape {shapes} are needed, one for each term")
        parts = ([V[i][:, self._kept[i]] for i in terms] for terms in self._factors)
        return [np.concatenate(part, axis=1) for part in parts]

    def by_term(self, blocks: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Arrays m x k x r of each term from those of the factors.

        Zero for dropped columns: they have no variance, and nothing is differentiated in them.
        """
        return tuple(
            self._widen(i, blocks[place.factor][:, place.columns].swapaxes(1, 2)).swapaxes(1, 2)
            for i, place in enumerate(self._places)
        )

    def squares_by_term(self, M: np.ndarray) -> tuple[np.ndarray, ...]:
        """Diagonal blocks r x k x k of each term, kept columns, from r x K x K of all factors."""
        first = np.cumsum([0, *(sum(len(self._kept[i]) for i in own) for own in self._factors)])
        out = []
        for place in self._places:
            own = slice(first[place.factor] + place.columns.start, None)
            out.append(M[:, own, own][:, : len(place.kept), : len(place.kept)])
        return tuple(out)

    def widened(self, i: int, j: int, blocks: np.ndarray) -> np.ndarray:
        """Blocks n x k x k of two terms over all their columns: zero for dropped ones."""
        return self._widen(i, self._widen(j, blocks).swapaxes(1, 2)).swapaxes(1, 2)

    def kept(self, i: int) -> tuple[int, ...]:
        """Columns of term i that do not depend on others of its factor."""
        return self._kept[i]

    @property
    def reduced(self) -> dict[int, int]:
        """Rank of the terms whose covariance has one by its structure."""
        if self._plain:
            return {}
        pairs = enumerate(term.covariance for term in self.design.terms)
        return {i: own.rank for i, own in pairs if own is not None and own.rank}

    def place(self, i: int) -> Place:
        """Where term i is in the compiled model."""
        return self._places[i]

    def entries(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Row and column in T, among the kept columns, of each parameter of term i."""
        k = len(self._kept[i])
        if self.design.terms[i].structure == "diag":
            return np.arange(k), np.arange(k)
        column, row = _upper(k)
        return row, column

    def whitening(self) -> list[np.ndarray]:
        """C of each term, over its kept columns: T = C times the whitened T, up to rotation."""
        blocks = self.core.whitening()
        return [blocks[place.factor][place.columns, place.columns] for place in self._places]

    def _widen(self, i: int, own: np.ndarray) -> np.ndarray:
        """The last axis over all columns of term i: zero where a dependent column was dropped."""
        place, k = self._places[i], self.design.terms[i].source.width
        if len(place.kept) == k:
            return own
        full = np.zeros((*own.shape[:-1], k))
        full[..., place.kept] = own
        return full


def _core_members(term: Any) -> Any:
    """The levels of the rows of a term that have several, as the compiled core takes them."""
    own = term.incidence
    return _core.Members(own.ptr, own.level, own.weight, own.m)


@cache
def _upper(k: int) -> tuple[np.ndarray, ...]:
    """Indices of the upper triangle, row by row."""
    return np.triu_indices(k)


def memory_limit() -> float:
    """Bytes that a model or a reading of it may take: a share of what is available now."""
    return MEMORY_SHARE * memory.available()
