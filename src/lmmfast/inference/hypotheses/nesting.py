"""Whether one model is a special case of another, and whether it lies on its boundary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.members import Members, same_levels
from ...data.relationship import is_same
from ...engine.free import Free
from ..ddf import is_repeated
from .structures import holds_intercepts, kind_of, within

if TYPE_CHECKING:
    from ...data.design import Design
    from ...data.terms import RandomTerm
    from ...fit import Fit


INSIDE = 1e-7  # share of a column that may lie outside of the space that contains it
DENSE = 16  # combinations of levels for each row that are counted in a table
MOST_CELLS = 1000  # different rows of random columns that are compared one by one


@dataclass(frozen=True)
class Nesting:
    """How a smaller model sits in a larger one."""

    reason: str  # why it is not a special case of the larger one; empty when it is
    boundary: bool  # whether it has variances of zero where the larger one has parameters
    note: str = ""  # what is taken for granted
    where: str = "variances are zero"  # what is at the boundary, if something is


def nesting(small: Fit, large: Fit) -> Nesting:
    """Compare two fits of the same rows.

    Random terms are compared by the covariance matrices that they allow: a term is a special case
    of one with the same or a coarser grouping factor when its columns, those of each of its levels
    by themselves, are combinations of the other's columns. So (1 | g) + (1 | g:f) is a special
    case of (f | g).
    """
    if is_repeated(small) or is_repeated(large):
        return repeated_nesting(small, large)
    limit = _is_limit(small, large)
    if not limit and _distribution(small) != _distribution(large):
        return Nesting("their distributions or links differ", False)
    if any(getattr(fit.estimates, "penalty", 0.0) for fit in (small, large)):
        return Nesting("coefficients have priors: they do not maximize likelihoods", False)
    if _approximation(small) != _approximation(large):
        return Nesting("their likelihoods are approximated in different ways", False)
    found = _linear_nesting(small, large)
    return replace(found, boundary=True) if limit and not found.reason else found


# What each covariance structure of visits has as special cases.
SPECIAL = {
    "us": ("toeph", "toep", "ar1h", "ar1", "csh", "cs", "adh", "ad"),
    "toeph": ("toep", "ar1h", "ar1", "csh", "cs"),
    "toep": ("ar1", "cs"),
    "ar1h": ("ar1",),
    "csh": ("cs",),
    "adh": ("ad", "ar1h", "ar1"),
    "ad": ("ar1",),
}


def repeated_nesting(small: Any, large: Any) -> Nesting:
    """The same of models for repeated measures: by their structures, and groups."""
    if not (is_repeated(small) and is_repeated(large)):
        return Nesting("one has random effects, the other a covariance of visits", False)
    a, b = small.structure, large.structure
    if a != b and a not in SPECIAL.get(b, ()):
        return Nesting(f"{a} is no special case of {b}", False)
    if not small.design.is_held or not large.design.is_held:
        return Nesting("", False, "that they are nested is taken for granted (rows are needed)")
    for name, usual in (("offset", 0.0), ("weights", 1.0)):
        if not _same(getattr(small.design, name), getattr(large.design, name), usual):
            return Nesting(f"they have different {name}", False)
    if _coordinates(kept_columns(small), kept_columns(large)) is None:
        return Nesting("fixed effects of one are no combinations of the other's", False)
    one, two = small.design.seen, large.design.seen
    same = np.array_equal(one.subject, two.subject) and np.array_equal(one.visit, two.visit)
    if not same:
        return Nesting("their subjects or visits differ", False)
    if two.covariance.group is not None and not np.array_equal(one.group, two.group):
        if one.covariance.group is not None:
            return Nesting("they have different groups of subjects", False)
    elif one.covariance.group is not None and not np.array_equal(one.group, two.group):
        return Nesting("one has covariances by group, the other has not", False)
    return Nesting("", bool(small.estimates.bounded))


def _linear_nesting(small: Fit, large: Fit) -> Nesting:
    """The same of two fits with one distribution."""
    if not small.design.is_held or not large.design.is_held:
        wider = len(large.theta) > len(small.theta)
        return Nesting("", wider, "that they are nested is taken for granted (rows are needed)")
    for name, usual in (("offset", 0.0), ("weights", 1.0)):
        if not _same(getattr(small.design, name), getattr(large.design, name), usual):
            return Nesting(f"they have different {name}", False)
    different = _structures(small, large)
    if different:
        return Nesting(different, False)
    if _coordinates(kept_columns(small), kept_columns(large)) is None:
        return Nesting("fixed effects of one are no combinations of the other's", False)
    shares: list[list[np.ndarray]] = [[] for _ in large.design.terms]
    limits: list[str] = []
    for term in small.design.terms:
        if not _place(term, large.design, shares, limits):
            return Nesting(f"{term.term} is no special case of a term of the other", False)
    widths = [other.source.width for other in large.design.terms]
    ranks = [_rank(share) for share in shares]
    fewer = any(rank < width for rank, width in zip(ranks, widths, strict=True))
    found = _constrained(small, large, fewer or bool(limits))
    found = replace(found, where=limits[0]) if limits and not fewer else found
    limit = _limit_of_structure(small, large)
    return replace(found, note="; ".join(filter(None, (found.note, limit)))) if limit else found


def _place(
    term: RandomTerm, large: Design, shares: list[list[np.ndarray]], limits: list[str]
) -> bool:
    """Finds the terms of the larger model of which one is a special case, and notes in these what
    it takes of them; `limits`: what is at their boundary."""
    alike = [i for i, own in enumerate(large.terms) if is_same(term.relation, own.relation)]
    structured = [i for i in alike if large.terms[i].covariance is not None]
    if term.covariance is not None:  # one standard deviation, in a term that has one for each
        structured += [i for i in alike if large.terms[i].structure == "diag"]
    same = [i for i in structured if _is_alike(term, large.terms[i])]
    plain = [i for i in alike if i not in structured]
    if any(_takes(term, large.terms[i], shares[i], limits) for i in same):
        return True
    found: list[tuple[int, np.ndarray]] = []
    for codes, z in _pieces_of(term):
        each = ((i, _weights(codes, z, large.terms[i])) for i in plain)
        found += next(([(i, weights)] for i, weights in each if weights is not None), [])
    if len(found) == len(list(_pieces_of(term))):
        for i, weights in found:
            shares[i].append(weights)
        limits += ["variances are zero"] if kind_of(term) == "rr" else []
        return True
    return any(_takes(term, large.terms[i], shares[i], limits) for i in structured)


def _is_alike(term: RandomTerm, other: RandomTerm) -> bool:
    same = (term.group, term.columns) == (other.group, other.columns)
    return same and kind_of(term) == kind_of(other)


def _takes(term: RandomTerm, other: RandomTerm, share: list[np.ndarray], limits: list[str]) -> bool:
    """Whether a whole term is a special case of one that has a structure, which holds one alone:
    sums of two structures are neither."""
    own = replace(other, structure="full") if other.structure == "diag" else other
    weights = None if share else _weights(term.incidence, term.z, own)
    k = other.source.width
    where: str | None = None
    if weights is not None and weights.shape == (k, k):
        where = within(term, other) if np.abs(weights - np.eye(k)).max() < INSIDE else None
    elif weights is not None and weights.shape == (k, 1):
        where = holds_intercepts(other, weights[:, 0])
    if where is None:
        return False
    share.append(np.eye(k))
    limits += [where] if where else []
    return True


def _structures(small: Fit, large: Fit) -> str:
    """Why the residual structure of one is no special case of the other's; empty when it is."""
    one, two = (getattr(fit.design, "residual", None) for fit in (small, large))
    for name in ("deviations", "subjects"):
        own = None if one is None else getattr(one, name)
        other = None if two is None else getattr(two, name)
        if own is not None and (other is None or own.asked.text != other.asked.text):
            return "the residual structure of one is no special case of the other's"
    return ""


def _limit_of_structure(small: Fit, large: Fit) -> str:
    """What is at infinity in the smaller model and a parameter of the larger one's residuals."""
    one, two = (getattr(fit.design, "residual", None) for fit in (small, large))
    if two is None or two.subjects is None or two.subjects.asked.kind != "car1":
        return ""
    if one is not None and one.subjects is not None:
        return ""
    return (
        "independent residuals are the limit of car1 where the range is zero: the p-value is "
        "conservative (too large)"
    )


def _distribution(fit: Any) -> Any:
    """Family and link of a generalized fit; None of a linear one."""
    family = getattr(fit, "family", None)
    return None if family is None else (family.core_name, family.core_link)


def _approximation(fit: Any) -> Any:
    """How the likelihood of a generalized fit is computed."""
    own = fit.estimates
    kinds = {"nagq": 1, "information": "", "accuracy": "laplace"}
    return tuple(getattr(own, name, usual) for name, usual in kinds.items())


def _is_limit(small: Any, large: Any) -> bool:
    """Whether one distribution is the other's on its boundary: counts without overdispersion."""
    one, two = _distribution(small), _distribution(large)
    if one is None or two is None:
        return False
    return bool(one[0] == "poisson" and two[0] == "negativebinomial" and one[1] == two[1])


def _constrained(small: Fit, large: Fit, boundary: bool) -> Nesting:
    """What parameters that are held or tied change, where the random terms are nested."""
    own, other = small.estimates.free, large.estimates.free
    sigma = None if other is None else other.sigma
    if sigma is not None and (own is None or own.sigma != sigma):
        return Nesting(
            "the residual variance is known in one, and is not the same in the other", False
        )
    places = small.model.theta_entries
    at_zero = own is not None and any(
        r == c and not moves and value == 0
        for (_, r, c), moves, value in zip(places, own.moving, own.fixed, strict=True)
    )
    found = Nesting("", boundary or at_zero)
    if other is None:
        return found
    if places != large.model.theta_entries:
        note = "that its held or tied parameters allow the smaller model is taken for granted"
        return replace(found, note=note)
    own = own or Free(np.zeros(len(places)), np.eye(len(places)))
    added = np.column_stack([own.basis, own.fixed - other.fixed])
    if np.linalg.matrix_rank(np.column_stack([other.basis, added])) > other.nz:
        return Nesting("parameters that move in one are held or tied in the other", False)
    return found


def _same(one: np.ndarray | None, two: np.ndarray | None, usual: float) -> bool:
    """Equal arrays; one that was not given is `usual` everywhere."""
    if one is None and two is None:
        return True
    a, b = (np.asarray(usual) if given is None else given for given in (one, two))
    return bool((a == b).all()) if a.ndim == 0 or b.ndim == 0 else np.array_equal(a, b)


def kept_columns(fit: Fit) -> np.ndarray:
    """Columns of the fixed effects that were not dropped."""
    return np.asarray(fit.design.X[:, fit.estimates.fixed_kept])


def _coordinates(columns: np.ndarray, space: np.ndarray) -> np.ndarray | None:
    """Columns as combinations (k x m) of others, None when they are not."""
    same = _same_columns(columns, space)
    if same is not None:
        return np.eye(space.shape[1])[:, same]
    scale = np.linalg.norm(space, axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    found = np.linalg.lstsq(space / scale, columns, rcond=1e-10)[0]
    rest = np.linalg.norm(columns - (space / scale) @ found, axis=0)
    if (rest > INSIDE * np.linalg.norm(columns, axis=0)).any():
        return None
    return np.asarray(found / scale[:, None])


def _same_columns(columns: np.ndarray, space: np.ndarray) -> list[int] | None:
    """Where each column is among others, None where one is not there as it is."""
    places = []
    for column in columns.T:
        near = np.flatnonzero((space[:50] == column[:50, None]).all(axis=0))
        place = next((j for j in near if np.array_equal(space[:, j], column)), None)
        if place is None:
            return None
        places.append(int(place))
    return places


def _rank(share: list[np.ndarray]) -> int:
    if not share:
        return 0
    weights = np.hstack(share)
    length = np.linalg.norm(weights, axis=1)
    return int(np.linalg.matrix_rank(weights / np.where(length > 0, length, 1.0)[:, None]))


def _pieces_of(term: RandomTerm) -> Iterator[tuple[np.ndarray | Members, np.ndarray]]:
    """Codes and columns where a covariance matrix is in one piece: those of `||` apart."""
    pieces = 1 if term.structure == "full" else term.z.shape[1]
    for z in np.split(term.z, pieces, axis=1):
        yield term.incidence, z


def _weights(codes: np.ndarray | Members, z: np.ndarray, other: RandomTerm) -> np.ndarray | None:
    """What a part is in another term's columns (k x m), None where it is not a special case."""
    is_single = z.shape[1] == 1
    if isinstance(codes, Members) or other.several:
        if not same_levels(codes, other.incidence):
            return None
    elif not _refines(codes, other.codes):
        return None
    elif not _refines(other.codes, codes):
        pieces = _pieces(codes, other)
        if pieces is None:
            return None
        z = np.hstack([z * (pieces == piece)[:, None] for piece in range(pieces.max() + 1)])
    weights = _coordinates(z, other.z)
    if weights is None or other.structure == "full":
        return weights
    single = (np.abs(weights) > INSIDE * np.abs(weights).max(axis=0)).sum(axis=0) == 1
    return weights if single.all() and is_single else None


def _refines(fine: np.ndarray, coarse: np.ndarray) -> bool:
    """Whether each level of one factor lies in one level of the other."""
    return _count(fine, coarse) == _count(fine)


def _count(*codes: np.ndarray) -> int:
    """Number of combinations of levels that occur."""
    joint: np.ndarray = np.zeros(len(codes[0]), np.int64)
    for one in codes:
        joint = joint * (int(one.max()) + 1) + one
        if joint.max() > DENSE * len(joint):  # a table of all combinations would be large
            joint = np.unique(joint, return_inverse=True)[1].ravel()
    return int(np.count_nonzero(np.bincount(joint)))


def _pieces(codes: np.ndarray, other: RandomTerm) -> np.ndarray | None:
    """Numbers (n) that rows share if they share a level of the finer factor, whatever level of the
    coarser they are in; None unless that follows from the other's columns alone."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    cells = np.unique(other.z, axis=0, return_inverse=True)[1].ravel()
    if cells.max() >= MOST_CELLS:
        return None
    size = cells.max() + 1
    total = size + int(codes.max()) + 1
    graph = coo_array((np.ones(len(codes)), (cells, codes + size)), shape=(total, total))
    pieces = np.asarray(connected_components(graph, directed=False)[1])[cells]
    pieces = np.unique(pieces, return_inverse=True)[1].ravel()
    if pieces.max() >= other.z.shape[1]:
        return None
    level = other.codes
    same = _count(level, codes) == _count(level, pieces) == _count(level, codes, pieces)
    return pieces if same else None
