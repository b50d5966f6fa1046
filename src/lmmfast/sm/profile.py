"""Profile likelihood of a variance, for results under statsmodels' names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..engine.free import Free
from ..engine.model import Model
from ..engine.options import Options
from ..linalg import triangular_root
from ..results import LMMFit
from .estimated import Estimated
from .terms import group_terms, is_component


def profile_variance(
    result: Estimated, which: Any, vtype: str, below: tuple[int, float], above: tuple[int, float]
) -> np.ndarray:
    """Variances and log likelihoods, as `MixedLMResults.profile_re` documents them."""
    if vtype not in ("re", "vc"):
        raise ValueError(f'vtype must be "re" or "vc", not {vtype!r}')
    term, column = _held_term(result, which, vtype)
    fit = result.lmm
    model, theta = _with_column_first(fit, term, column)
    T = fit.estimates.T[term]
    ratio = float(T[column] @ T[column])
    low, high = ratio - below[1] / result.scale, ratio + above[1] / result.scale
    if low <= 0:
        raise ValueError(
            f"dist_low = {below[1]:g} would make the variance negative: it is "
            f"{result.scale * ratio:g}"
        )
    up, down = np.linspace(ratio, high, above[0] + 1), np.linspace(low, ratio, below[0] + 1)
    ratios = np.concatenate([down, up[1:]])
    held, basis = _held_and_free(result, model.theta_entries, term)
    out = []
    for value in ratios:
        fixed = np.where(held, np.sqrt(value), 0.0)
        here = model.minimize(Options(result.reml, theta, free=Free(fixed, basis)))
        out.append((value * here.sigma**2, -here.objective / 2))
    return np.array(out)


def _held_term(result: Estimated, which: Any, vtype: str) -> tuple[int, int]:
    """Term and column of the variance that is profiled."""
    if result.freepat is not None and (result.freepat.vcomp == 0).any():
        raise ValueError("a fit in which variances were held has no profile")
    if vtype == "re":
        if not 0 <= int(which) < result.k_re:
            raise ValueError(f"re_ix must be 0 to {result.k_re - 1}, not {which!r}")
        terms = group_terms(result._components)
        return next((t, cols.index(int(which))) for t, cols in terms if int(which) in cols)
    for part in result._components:
        if is_component(part) and part.name == which:
            return part.terms[0][0], 0
    names = ", ".join(result.model.vcomp_names) or "none"
    raise ValueError(f"there is no variance component {which!r}; there are {names}")


def _with_column_first(fit: LMMFit, term: int, column: int) -> tuple[Model, np.ndarray]:
    """The model with one random column moved to the front of its term, and theta there."""
    if column == 0:
        return fit.model, fit.theta
    own = fit.design.terms[term]
    order = [column, *(j for j in range(own.source.width) if j != column)]
    terms = (*fit.design.terms[:term], own.chosen(order), *fit.design.terms[term + 1 :])
    T = list(fit.estimates.T)
    T[term] = triangular_root(T[term][order])
    model = Model(replace(fit.design, terms=terms))
    return model, np.array([T[t][r, c] for t, r, c in model.theta_entries])


def _held_and_free(
    result: Estimated, entries: list[tuple[int, int, int]], term: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which parameters are held, and the basis of the others; tied ones move together."""
    of_term = np.array([t for t, _, _ in entries])
    owner = np.arange(len(entries))
    held = np.array([entry == (term, 0, 0) for entry in entries])
    for part in result._components:
        if part.tied:
            where = np.flatnonzero(of_term == part.terms[0][0])
            owner[where] = where[0]
            held |= (of_term == term) & (part.terms[0][0] == term)
    return held, (owner[:, None] == np.unique(owner[~held])).astype(float)
