"""Relationship matrices in computations: products with K, draws; and what has no way yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from .. import _core
from ..data.relationship import Relation, related_groups
from ..errors import FitError

if TYPE_CHECKING:
    from ..data.design import Design
    from ..data.terms import RandomTerm

_KNOWN: WeakKeyDictionary[Relation, Any] = WeakKeyDictionary()
_DIAGONALS: WeakKeyDictionary[Relation, np.ndarray] = WeakKeyDictionary()


def _of(relation: Relation) -> Any:
    """The factored precision, made once."""
    found = _KNOWN.get(relation)
    if found is None:
        found = _KNOWN[relation] = _core.Related(_core.Precision(*relation.arrays()))
    return found


def times_relation(term: RandomTerm, values: np.ndarray) -> np.ndarray:
    """K times values (m, ...) of a term's levels; the values themselves where K is the identity."""
    if term.relation is None:
        return values
    flat = values.reshape(len(values), -1)
    return np.asarray(_of(term.relation).times(flat.T).T.reshape(values.shape))


def draws(relation: Relation, normal: np.ndarray) -> np.ndarray:
    """Independent normal numbers (k, m), levels last, as rows of covariance K."""
    return np.asarray(_of(relation).draws(normal))


def diagonal(relation: Relation | None, m: int) -> np.ndarray:
    """Diagonal of K, (m,): variances of the levels over those of the term."""
    if relation is None:
        return np.ones(m)
    if relation.diagonal is not None:
        return relation.diagonal
    if relation not in _DIAGONALS:
        _DIAGONALS[relation] = _of(relation).diagonal()
    return _DIAGONALS[relation]


def covariance(relation: Relation, levels: np.ndarray) -> np.ndarray:
    """K of some levels, (j, j)."""
    unit = np.zeros((len(levels), len(relation.levels)))
    unit[np.arange(len(levels)), levels] = 1.0
    return np.asarray(_of(relation).times(unit)[:, levels])


def common_variance(term: RandomTerm, what: str) -> float:
    """The diagonal of K where it is the same for all levels, 1 where these are independent.

    Raises
    ------
    FitError
        Where it differs (inbreeding): `what` would be another thing for each level.
    """
    if term.relation is None:
        return 1.0
    own = diagonal(term.relation, len(term.levels))
    if np.ptp(own) > 1e-8 * own.max():
        raise FitError(
            f"{what}: levels of {term.group!r} have different variances, the diagonal of their "
            f"relationship matrix goes from {own.min():.3g} to {own.max():.3g}",
            variable=term.group,
        )
    return float(own[0])


def refuse_related(design: Design, what: str, instead: str = "") -> None:
    """FitError where levels of a grouping factor are related; `what` is not available then, but
    perhaps something `instead`."""
    groups = related_groups(design.terms)
    if groups:
        raise FitError(
            f"{what} takes the levels of grouping factors as independent; those of "
            f"{' and '.join(map(repr, groups))} have a relationship matrix{_but(instead)}",
            variable=groups[0],
        )


def refuse_several(design: Design, what: str, instead: str = "") -> None:
    """FitError where rows have several levels of a factor; `what` is not available then."""
    groups = [term.group for term in design.terms if term.several]
    if groups:
        raise FitError(
            f"{what} takes rows that have one level of each grouping factor; they have several of "
            f"{groups[0]}{_but(instead)}",
            variable=groups[0],
        )


def _but(instead: str) -> str:
    return f"; {instead}" if instead else ""
