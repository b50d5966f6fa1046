"""A fit without its data: what inference had to read of model and rows, in small arrays."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from ..data.design import Design
from ..data.rows import Rows
from ..data.sums import Columns
from ..errors import DataError, FitError
from ..fit import Fit
from ..formula.column import Column
from ..inference.ddf import ddf_of, method_of
from ..inference.estimability import openness_of
from ..inference.kenward import KenwardRoger
from ..inference.satterthwaite import Satterthwaite
from ..sources.spec import MOST_CELLS
from .kept import FEW, Cells, KeptColumns, KeptSums, KeptVariable
from .model import Adjusted, Core, Information, KeptModel, KeptPsi, Readings, pairs_of
from .residual import without_rows

Kind = TypeVar("Kind", bound=Fit)

MOST_FIXED = 500  # coefficients of which cross-products are kept
MOST_PRODUCTS = 4_000_000  # numbers of `Information.products`, 32 MB
MOST_PAIRS = 250_000  # numbers of covariances between levels of two terms, 2 MB
AT_ONCE = 256  # contrasts that are read together


def without_data(fit: Kind, ddf: Any = None) -> Kind:
    """The fit without rows and model; ddf: whose degrees of freedom stay to be had.

    One name or several. Default: what is usual for the fit, and what has been used.
    """
    if isinstance(fit.model, KeptModel):
        return fit
    design = design_without_rows(fit.design)
    engine = fit.model._engine
    core = Core(
        int(engine.core.ntheta),
        int(getattr(engine.core, "nextra", 0)),
        np.array(fit.estimates.fixed_kept, dtype=bool),
        dict(fit.model.storage),
    )
    kept = [engine.kept(i) for i in range(len(design.terms))]
    C = tuple(np.array(one) for one in engine.whitening())
    model: Any = KeptModel(design, core, kept, C, readings_of(fit, ddf), facts_of(fit))
    model.fingerprint = fingerprint(fit)
    return replace(fit, estimates=_estimates(fit), design=design, model=model)


def fingerprint(fit: Fit) -> str | None:
    """A digest of the responses used, in increasing order; None where they are not in memory."""
    sums: Any = fit.design.sums
    if isinstance(sums, KeptSums):
        known: str | None = getattr(fit.model, "fingerprint", None)
        return known
    return digest_of(sums) if isinstance(sums, Rows) else None


def digest_of(sums: Rows) -> str:
    """A digest of responses, in increasing order."""
    y = np.sort(np.asarray(sums.y, dtype="<f8")) + 0.0  # no zeros below zero
    return hashlib.sha256(y.tobytes()).hexdigest()


FACTS = ("family", "prior", "nagq", "information", "accuracy", "reml")  # of generalized models


def facts_of(fit: Fit) -> dict[str, Any]:
    """What is asked of models of some kinds besides."""
    own: Any = fit.model
    return {} if fit.family is None else {name: getattr(own, name) for name in FACTS}


def _estimates(fit: Fit) -> Any:
    """The estimates, without the model that they may refer to."""
    own: Any = fit.estimates
    if fit.family is None:
        return own
    return replace(own, point=KeptPsi(own.psi, own.covariance))


# ---- the design ---------------------------------------------------------------------------------


def design_without_rows(design: Design) -> Design:
    """The design of which rows were forgotten."""
    factors = {term.source.factor: i for i, term in reversed(list(enumerate(design.terms)))}
    terms = tuple(
        replace(term, source=_random_columns(term.source, factors[term.source.factor], term.term))
        for term in design.terms
    )
    variables: dict[str, Column] = {
        name: _variable(name, own) for name, own in design.variables.items()
    }
    sums = design.sums
    moments = np.array(sums.response_moments(), dtype=float)
    return replace(
        design,
        fixed=_fixed_columns(design.fixed, design.n),
        terms=terms,
        sums=KeptSums(design.n, sums.is_weighted, sums.has_offset, moments, _cells(design)),
        variables=variables,
        given=None if design.given is None else design.given.without_data(),
        reading=None,
        residual=without_rows(design.residual),
    )


def _fixed_columns(columns: Columns, n: int) -> KeptColumns:
    """Cross-products of X, and the covariances of its columns over the rows."""
    p = columns.width
    if p > MOST_FIXED:
        return KeptColumns("the fixed-effects columns", -1, np.zeros(p, dtype=bool))
    everything = np.ones(p, dtype=bool)
    return KeptColumns(
        "the fixed-effects columns",
        -1,
        np.array(columns.constant(), dtype=bool),
        columns.root(everything),
        _polarized(lambda M: np.array([columns.variance(v) for v in M.T]), p),
    )


def _random_columns(columns: Columns, factor: int, term: str) -> KeptColumns:
    k, name = columns.width, f"the columns of {term}"
    constants = np.array(columns.constant(), dtype=bool)
    if k > MOST_FIXED:
        return KeptColumns(name, factor, constants, sharing=columns.sharing)
    squares = _polarized(columns.mean_squares, k)
    return KeptColumns(name, factor, constants, squares=squares, sharing=columns.sharing)


def _polarized(of: Any, k: int) -> np.ndarray:
    """The symmetric matrix (k, k) of a quadratic form of columns (k, j)."""
    eye = np.eye(k)
    out = np.diag(np.asarray(of(eye), dtype=float)).copy()
    for j in range(1, k):
        both = np.asarray(of(eye[:, :j] + eye[:, j : j + 1]), dtype=float)
        out[j, :j] = out[:j, j] = (both - out.diagonal()[:j] - out[j, j]) / 2
    return out


def _variable(name: str, column: Column) -> KeptVariable:
    """What is known of a variable of the fixed part."""
    distinct = column.distinct()
    if not column.numeric:
        return KeptVariable(name, distinct, False, column.ordered, 0.0, (0.0, 0.0))
    present = distinct[~np.isnan(distinct)] if distinct.dtype.kind == "f" else distinct
    ends = (float(present.min()), float(present.max())) if len(present) else (0.0, 0.0)
    few = distinct if len(distinct) <= FEW else None
    return KeptVariable(name, few, True, column.ordered, float(column.mean()), ends)


def _cells(design: Design) -> Cells | None:
    """Counts of combinations of the variables that have few values, as far as they are known."""
    if design.recipe is None:
        return None
    values = {
        name: column.distinct()
        for name, column in design.variables.items()
        if _is_few(design, name, column)
    }
    sizes = [len(own) for own in values.values()]
    if math.prod(sizes) > MOST_CELLS:
        return None
    try:
        counts = design.sums.frequencies(design.variables, values)
    except DataError:  # a stream's were too many to be counted
        return None
    return Cells(tuple(values), tuple(values.values()), np.asarray(counts, np.int64))


def _is_few(design: Design, name: str, column: Column) -> bool:
    """Whether the grids of means may have all values of a variable."""
    assert design.recipe is not None
    if not column.numeric or len(column.distinct()) <= 2:
        return True
    codings = design.recipe.codings
    inside = [atom for atom in design.recipe.fixed_layout.atoms if set(atom.names) == {name}]
    return any(codings[atom.label].levels is not None for atom in inside)


# ---- the model ----------------------------------------------------------------------------------


def readings_of(fit: Fit, ddf: Any) -> Readings:
    """What inference reads at the estimates."""
    point: Any = fit.point
    wanted = methods(fit, ddf)
    blocks = _blocks(point) if point.is_exact else None
    basis = point.basis
    return Readings(
        np.array(basis.E),
        tuple(np.array(own) for own in basis.moved) if blocks is not None else None,
        blocks,
        _pairs(point) if blocks is not None else {},
        _information(fit) if "satterthwaite" in wanted else None,
        {name: _adjusted(fit, name) for name in wanted if name.startswith("kenward-roger")},
        None if fit.estimates.fixed_kept.all() else openness_of(fit),
    )


def methods(fit: Fit, ddf: Any) -> list[str]:
    """Names of the degrees of freedom that are to be kept."""
    if ddf is None:
        used = [name for name in fit._known if isinstance(name, str)]
        return list(dict.fromkeys([fit.usual_ddf, *used]))
    given: Iterable[Any] = [ddf] if isinstance(ddf, str) else ddf
    return list(dict.fromkeys(ddf_of(name, fit) for name in given))


def _blocks(point: Any) -> tuple[np.ndarray, ...]:
    """Covariances of each level's whitened effects, (m, k, k) by term."""
    every = [np.arange(m, dtype=np.int32) for m, _ in point.shapes]
    return tuple(point.covariances(i, i, (own, own), whitened=True) for i, own in enumerate(every))


def _pairs(point: Any) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """Covariances between levels of two terms that the model has, where these are few."""
    found = {}
    count = len(point.shapes)
    for i in range(count):
        for j in range(i + 1, count):
            (mi, ki), (mj, kj) = point.shapes[i], point.shapes[j]
            levels = point.pairs(i, j)
            if mi * mj * ki * kj <= MOST_PAIRS:  # all of them, where the model has them
                levels = tuple(np.indices((mi, mj), dtype=np.int32).reshape(2, -1))
            if len(levels[0]) * ki * kj > MOST_PAIRS:
                continue
            blocks = point.covariances(i, j, levels, whitened=True)
            known = ~np.isnan(blocks).any(axis=(1, 2))
            own = np.stack(levels, axis=1)[known].astype(np.int32)
            order = np.lexsort((own[:, 1], own[:, 0]))
            if len(order):
                found[i, j] = np.ascontiguousarray(own[order]), blocks[known][order]
    return found


def _information(fit: Fit) -> Information | None:
    """What Satterthwaite's degrees of freedom are made of; None where that is too much."""
    point: Any = fit.point
    p, sizes = len(fit.design.x_names), [C.shape[1] for C in point.whitening]
    if p * (p + 1) // 2 * sum(k * (k + 1) // 2 for k in sizes) > MOST_PRODUCTS:
        return None
    own = method_of(fit, "satterthwaite")
    assert isinstance(own, Satterthwaite)
    try:
        root, unknown = own.root, own.unknown
    except FitError:  # second derivatives are not available
        return None
    single = _squares(point, np.eye(p))
    row, column = pairs_of(p)
    products = [np.zeros((len(row), flat.shape[1])) for flat in single]
    for a in range(0, len(row), AT_ONCE):
        cut = slice(a, a + AT_ONCE)
        both = np.eye(p)[row[cut]] + np.eye(p)[column[cut]]
        for i, flat in enumerate(_squares(point, both)):
            alone = single[i][1:]
            products[i][cut] = flat[1:] - alone[row[cut]] - alone[column[cut]]
    for i, flat in enumerate(single):
        products[i][row == column] = flat[1:]
    slopes = point.slopes()[2] if own.ndelta else None
    return Information(root, unknown, tuple(f[0] for f in single), tuple(products), slopes)


def _squares(point: Any, L: np.ndarray) -> list[np.ndarray]:
    """`Point.contrasts` as lower triangles."""
    out = []
    for M in point.contrasts(L):
        r, c = pairs_of(M.shape[1])
        out.append(np.ascontiguousarray(M[:, r, c]))
    return out


def _adjusted(fit: Fit, name: str) -> Adjusted:
    own = method_of(fit, name)
    assert isinstance(own, KenwardRoger)
    return Adjusted(own._W, own._adjusted, own._basis, own._moments.P)
