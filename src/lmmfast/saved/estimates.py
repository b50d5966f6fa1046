"""The numbers of a fit as records."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.design import Design
from ..engine.estimates import Estimates, Singular
from ..engine.free import Free
from ..engine.starts import Starts
from ..sources.verify import Damage
from .kinds import FLAG, REAL, TEXT, WHOLE, Kind, Record, array, many, optional

_VECTOR, _MATRIX = array(1), array(2)

FREE = Record(Free, {"fixed": _VECTOR, "basis": _MATRIX, "sigma": optional(REAL)})

STARTS = Record(
    Starts,
    {
        "objectives": array(1, gaps=True),
        "thetas": array(2, gaps=True),
        "converged": array(1, "b"),
    },
)

SINGULAR = Record(Singular, {"term": WHOLE, "zero": many(WHOLE), "direction": _VECTOR})

SHARED: dict[str, Kind] = {
    "reml": FLAG,
    "n": WHOLE,
    "objective": REAL,
    "theta": _VECTOR,
    "beta": array(1, gaps=True),
    "sigma": REAL,
    "T": many(_MATRIX),
    "b": many(_MATRIX),
    "fixed_kept": array(1, "b"),
    "singular": many(SINGULAR.kind),
    "converged": FLAG,
    "certificate": REAL,
    "n_evals": WHOLE,
    "seconds": REAL,
    "status": TEXT,
    "objective_se": REAL,
    "starts": optional(STARTS.kind),
    "unidentified": many(TEXT),
    "free": optional(FREE.kind),
    "phi": optional(_VECTOR),
    "lost": WHOLE,
    "delta": optional(_VECTOR),
}

LINEAR = Record(Estimates, {**SHARED, "vcov": array(2, gaps=True)})


def check(estimates: Any, design: Design) -> None:
    """The numbers are those of a model of this design."""
    p, terms = len(design.x_names), design.terms
    shapes = [(len(term.levels), len(term.columns)) for term in terms]
    _shape("beta", estimates.beta, (p,))
    _shape("fixed_kept", estimates.fixed_kept, (p,))
    _count("T", estimates.T, len(terms))
    _count("b", estimates.b, len(terms))
    for T, b, (m, k) in zip(estimates.T, estimates.b, shapes, strict=True):
        _shape("T", T, (k, k))
        _shape("b", b, (m, k))
    kept = estimates.fixed_kept
    if np.isnan(estimates.beta[kept]).any():
        raise Damage("a coefficient that was estimated is missing")
    if not (0 <= estimates.sigma < np.inf and np.isfinite(estimates.objective)):
        raise Damage("sigma or the objective is not finite")
    if estimates.n != design.n:
        raise Damage(f"the estimates are of {estimates.n} rows, the design has {design.n}")
    for one in estimates.singular:
        if one.term >= len(terms) or any(j >= shapes[one.term][1] for j in one.zero):
            raise Damage("a singular term is not there")
        _shape("a direction without variance", one.direction, shapes[one.term][1:])
    if estimates.free is not None and len(estimates.free.fixed) != len(estimates.theta):
        raise Damage("what was held is of another length than theta")


def check_fixed(estimates: Estimates, design: Design) -> None:
    """The same, with the covariance of the fixed effects."""
    check(estimates, design)
    p = len(design.x_names)
    _shape("vcov", estimates.vcov, (p, p))
    kept = estimates.fixed_kept
    if np.isnan(estimates.vcov[np.ix_(kept, kept)]).any():
        raise Damage("the covariance of the fixed effects is missing")


def check_linear(estimates: Estimates, design: Design) -> None:
    """The same of a linear mixed model, with the parameters of its residual structure."""
    check_fixed(estimates, design)
    count = 0 if design.residual is None else design.residual.count
    if (0 if estimates.delta is None else len(estimates.delta)) != count:
        raise Damage("the parameters of the residual structure are not those of the design")


def _shape(what: str, value: np.ndarray, wanted: tuple[int, ...]) -> None:
    if value.shape != wanted:
        raise Damage(f"{what} has shape {value.shape}, not {wanted}")


def _count(what: str, values: tuple[Any, ...], wanted: int) -> None:
    if len(values) != wanted:
        raise Damage(f"{what} is of {len(values)} terms, the model has {wanted}")
