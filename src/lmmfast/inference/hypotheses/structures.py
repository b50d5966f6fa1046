"""Which covariance structures are special cases of which, and whether on their boundary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ...data.terms import RandomTerm

# kind -> the next smaller ones, of the same columns, that it becomes inside of its parameter space
INSIDE = {
    "us": ("toep", "ad", "cs", "diag"),
    "toep": ("homtoep", "hetar1", "cs"),
    "ad": ("homad", "hetar1"),
    "cs": ("homcs", "diag"),
    "hetar1": ("ar1", "diag"),
    "homtoep": ("ar1", "homcs"),
    "homad": ("ar1",),
    "homcs": ("homdiag",),
    "ar1": ("homdiag",),
    "diag": ("homdiag",),
}
# those that are limits of it: a kernel's when the range goes to zero
LIMITS = dict.fromkeys(("exp", "gau", "mat32", "mat52"), ("homdiag",))


def kind_of(term: RandomTerm) -> str:
    """The structure of a term's covariance matrix."""
    if term.covariance is not None:
        return term.covariance.kind
    return "us" if term.structure == "full" else "diag"


def smaller_kinds(kind: str) -> set[str]:
    """All structures that one becomes when parameters are equal or zero, itself not included."""
    found: set[str] = set()
    waiting = list(INSIDE.get(kind, ()))
    while waiting:
        own = waiting.pop()
        found.add(own)
        waiting += INSIDE.get(own, ())
    return found


def within(small: RandomTerm, large: RandomTerm) -> str | None:
    """Where a term is a special case of one with the same columns: "" inside, else what is at its
    boundary there; None where it is no special case."""
    one, two = kind_of(small), kind_of(large)
    if small.covariance is not None and large.covariance is not None:
        if not _same_places(small.covariance.coordinates, large.covariance.coordinates):
            return None
        if one == two == "rr":
            ranks = small.covariance.rank, large.covariance.rank
            if ranks[0] > ranks[1]:
                return None
            return "" if ranks[0] == ranks[1] else "loadings are zero"
    if one == two or one in smaller_kinds(two):
        return ""
    if one in LIMITS.get(two, ()):
        return "the range is zero"
    if two == "us" and one == "rr":
        return "variances are zero"
    return "" if two == "us" else None


def _same_places(one: np.ndarray | None, two: np.ndarray | None) -> bool:
    return one is None or two is None or np.array_equal(one, two)


def holds_intercepts(large: RandomTerm, weights: np.ndarray) -> str | None:
    """The same for random intercepts, which are `weights` of the columns of a structured term."""
    kind = kind_of(large)
    if not weights.size or np.ptp(weights) > 1e-7 * np.abs(weights).max():
        return None
    if kind in ("diag", "homdiag"):
        return None
    if kind == "rr":
        assert large.covariance is not None
        return "" if large.covariance.rank == 1 else "loadings are zero"
    return "the range is infinite" if kind in LIMITS else "correlations are one"
