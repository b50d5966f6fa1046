"""Least squares within the levels of grouping factors, beside the conditional modes.

With e = y - offset - X beta - Z b, the residuals, least squares of what the fixed effects and the
other terms leave solve, in each level,

    Z'WZ beta_g = Z'We + Z'WZ b,

which rows in memory and cross-products of others both tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...data.sums import Group
from ...sources.recast import recast
from ...sources.sums import StreamSums
from ..ddf import without_residual_structure
from .predict import fitted_of

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit


DEPENDENT = 1e-10  # least eigenvalue of a level's scaled Z'WZ below which it leaves columns open
ROUNDING = 1e-13  # share of a column's largest square below which it is zero in a level


class Normal(NamedTuple):
    """Normal equations of least squares within the levels of one term."""

    A: np.ndarray  # Z'WZ (m, k, k)
    c: np.ndarray  # Z'W of what the fixed effects and the other terms leave (m, k)
    rows: np.ndarray  # (m,)


def shrinkage(fit: Fit) -> pd.DataFrame:
    """Within-level least squares beside the modes; as ``LMMFit.shrinkage`` documents it."""
    import pandas as pd

    without_residual_structure(fit, "least squares within levels")
    design = fit.design
    if not design.is_held and not isinstance(design.sums, StreamSums):
        raise design.sums.refused("least squares within levels would be needed")
    equations = _of_rows(fit) if design.is_held else _of_products(fit)
    frames = []
    for i, (term, b) in enumerate(zip(design.terms, fit.estimates.b, strict=True)):
        m, k = b.shape
        condvar = np.einsum("mkk->mk", fit.point.condvar[i])
        frames.append(
            pd.DataFrame(
                {
                    "group": term.group,
                    "level": np.repeat(np.asarray(term.levels, dtype=object), k),
                    "column": np.tile(np.array(term.columns, dtype=object), m),
                    "rows": np.repeat(equations[i].rows, k),
                    "least_squares": _solved(equations[i]).ravel(),
                    "mode": b.ravel(),
                    "condsd": (fit.sigma * np.sqrt(condvar)).ravel(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _of_rows(fit: Fit) -> list[Normal]:
    """From rows in memory: Z'We + Z'WZ b, e being the residuals."""
    design = fit.design
    weights = np.ones(design.n) if design.weights is None else design.weights
    residuals = weights * (design.y - fitted_of(fit))
    found = []
    for term, b in zip(design.terms, fit.estimates.b, strict=True):
        codes, z, (m, k) = term.codes, term.z, b.shape
        A, c = np.empty((m, k, k)), np.empty((m, k))
        for r in range(k):
            c[:, r] = np.bincount(codes, z[:, r] * residuals, m)
            for s in range(r, k):
                A[:, r, s] = A[:, s, r] = np.bincount(codes, weights * z[:, r] * z[:, s], m)
        c += np.einsum("mrs,ms->mr", A, b)
        found.append(Normal(A, c, np.bincount(codes, minlength=m)))
    return found


def _of_products(fit: Fit) -> list[Normal]:
    """From cross-products, level by level, of rows that are not in memory."""
    places = _places(fit)
    fixed: Any = fit.design.fixed  # StreamColumns
    own = recast(fixed, [_group(fit, terms) for terms in places])
    beta = np.where(fit.estimates.fixed_kept, fit.estimates.beta, 0.0)
    left = np.linalg.solve(own.CX, beta - own.beta0)
    modes = [
        np.column_stack([fit.estimates.b[i] for i in terms]) @ np.linalg.inv(C).T
        for terms, C in zip(places, own.C, strict=True)
    ]
    found: dict[int, Normal] = {}
    for f, (terms, C) in enumerate(zip(places, own.C, strict=True)):
        edge = own.blocks.edge(f)
        c = own.yscale * edge[:, :, -1] - edge[:, :, :-1] @ left - _of_others(own.blocks, f, modes)
        back = np.linalg.inv(C)
        c, at = c @ back, 0
        for i in terms:
            cut = slice(at, at + fit.estimates.b[i].shape[1])
            A = back[:, cut].T @ own.blocks.diagonal(f) @ back[:, cut]
            inside = np.einsum("mrs,ms->mr", A, fit.estimates.b[i])
            rest = np.einsum("kr,mks,ms->mr", back[:, cut], own.blocks.diagonal(f), modes[f])
            source: Any = fit.design.terms[i].source
            found[i] = Normal(A, c[:, cut] - rest + inside, source.level_counts)
            at = cut.stop
    return [found[i] for i in range(len(found))]


def _of_others(blocks: Any, factor: int, modes: Sequence[np.ndarray]) -> np.ndarray:
    """Cross-products of a factor's columns with the random effects of the other factors (m, k)."""
    total = np.zeros(blocks.edge(factor).shape[:2])
    for other, b in enumerate(modes):
        if other == factor:
            continue
        first, second, values = blocks.pairs(min(factor, other), max(factor, other))
        if factor < other:
            np.add.at(total, first, np.einsum("irs,is->ir", values, b[second]))
        else:
            np.add.at(total, second, np.einsum("isr,is->ir", values, b[first]))
    return total


def _places(fit: Fit) -> list[list[int]]:
    """Terms of each grouping factor."""
    factors: dict[Any, list[int]] = {}
    for i, term in enumerate(fit.design.terms):
        factors.setdefault(term.source.factor, []).append(i)
    return list(factors.values())


def _group(fit: Fit, terms: Sequence[int]) -> Group:
    """A grouping factor with all the columns of its terms."""
    sources = tuple(fit.design.terms[i].source for i in terms)
    owners: list[int] = []
    for i in terms:
        width, diagonal = fit.design.terms[i].source.width, fit.design.terms[i].structure == "diag"
        owners += range(len(owners), len(owners) + width) if diagonal else [-i - 1] * width
    return Group(sources, np.array(owners, np.int32), len(fit.estimates.b[terms[0]]))


def _solved(equations: Normal) -> np.ndarray:
    """Coefficients of each level (m, k), NaN where its rows leave them open."""
    A, c, _ = equations
    squares = np.einsum("mkk->mk", A)
    there = squares > ROUNDING * squares.max(axis=0, initial=0.0)
    unit = np.sqrt(np.where(there, squares, 1.0))
    scaled = np.where(there[:, :, None] & there[:, None, :], A, 0.0)
    scaled = scaled / unit[:, :, None] / unit[:, None, :]
    full = np.linalg.eigvalsh(scaled)[:, 0] > DEPENDENT
    out = np.full(c.shape, np.nan)
    out[full] = np.linalg.solve(scaled[full], (c / unit)[full][:, :, None])[:, :, 0] / unit[full]
    return out
