"""Conditional modes in other forms: coefficients by level, covariances, parts of fitted values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.columns import suggest
from ...engine.relations import diagonal as diagonal_of
from ...errors import DataError
from . import remaining
from .chosen import chosen_columns
from .predict import fixed_part_of, random_part, row_series

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit


def conditional_variances(fit: Fit) -> list[np.ndarray]:
    """Covariances of each term's modes given y, over sigma^2 (q, k, k): of all levels, also those
    whose effects are sums of others'."""
    return [
        np.concatenate([own, remaining.of_sums(fit.point, i, rest.shares())])
        if term.relation is not None and (rest := term.relation.dependent) is not None
        else np.asarray(own)
        for i, (term, own) in enumerate(zip(fit.design.terms, fit.point.condvar, strict=True))
    ]


def coef(fit: Fit) -> dict[str, pd.DataFrame]:
    """Fixed effects plus modes, by grouping factor; as ``LMMFit.coef`` documents it."""
    import pandas as pd

    names = list(fit.design.x_names)
    found: dict[str, pd.DataFrame] = {}
    for term, b in zip(fit.design.terms, fit.estimates.b, strict=True):
        if term.group not in found:
            index = pd.Index(term.labels, name=term.group)
            whole = np.tile(fit.estimates.beta, (len(index), 1))
            found[term.group] = pd.DataFrame(whole, index=index, columns=names)
        frame = found[term.group]
        for name, values in zip(term.columns, term.shown(b).T, strict=True):
            frame[name] = frame.get(name, 0.0) + values
    return found


def ranef_cov(fit: Fit) -> dict[str, np.ndarray]:
    """Conditional covariance matrices of the modes; as ``LMMFit.ranef_cov`` documents it."""
    blocks = conditional_variances(fit)
    return {
        f"{term.label}": fit.estimates.sigma**2 * np.asarray(block)
        for term, block in zip(fit.design.terms, blocks, strict=True)
    }


def reliability(fit: Fit) -> dict[str, pd.DataFrame]:
    """Modes, their prediction errors and reliabilities; as ``LMMFit.reliability`` documents it."""
    import pandas as pd

    point, found = fit.point, {}
    for i, term in enumerate(fit.design.terms):
        own = point.condvar[i].diagonal(axis1=1, axis2=2)
        pev = fit.scale * (own + np.square(point.basis.moved[i]).sum(axis=2))
        whole = fit.scale * np.square(fit.estimates.T[i]).sum(axis=1)
        prior = diagonal_of(term.relation, len(term.levels))[:, None] * whole
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(prior > 0, 1 - pev / prior, np.nan)
        columns = {
            (name, what): values[:, j]
            for j, name in enumerate(term.columns)
            for what, values in (
                ("mode", fit.estimates.b[i]),
                ("se", np.sqrt(pev)),
                ("reliability", share),
            )
        }
        index = pd.Index(term.levels, name=term.group)  # levels with effects of their own
        found[term.label] = pd.DataFrame(columns, index=index)
    return found


def partial_fitted(fit: Fit, fixed: str | Sequence[str], random: Any, residuals: bool) -> pd.Series:
    """Chosen effects of the rows used; as ``LMMFit.partial_fitted`` documents it."""
    if residuals and fit.family is not None:
        raise DataError(
            "residuals=True adds residuals to effects, which are on different scales in a "
            "generalized model: see fit.residuals()"
        )
    kept = _fixed_columns(fit, fixed)
    beta = np.where(kept & fit.estimates.fixed_kept, fit.estimates.beta, 0.0)
    values = fit.design.fixed.times(beta)
    chosen = chosen_columns(fit.design, random)
    rest = fixed_part_of(fit.estimates, fit.design)
    if fit.design.offset is not None:
        rest += fit.design.offset
    for i, (term, b) in enumerate(zip(fit.design.terms, fit.estimates.b, strict=True)):
        if i in chosen:
            values += random_part(term.incidence, term.z, b * chosen[i])
        if residuals:
            rest += random_part(term.incidence, term.z, b)
    if residuals:
        values += fit.design.y - rest
    return row_series(fit.design, values, "partial_fitted")


def _fixed_columns(fit: Fit, fixed: str | Sequence[str]) -> np.ndarray:
    """Which columns belong to the named coefficients, variables or terms (p)."""
    names = list(fit.design.x_names)
    if isinstance(fixed, str) and fixed in ("all", "none"):
        return np.full(len(names), fixed == "all")
    terms = _terms_of_columns(fit)
    kept = np.zeros(len(names), dtype=bool)
    for one in [fixed] if isinstance(fixed, str) else list(fixed):
        found = np.array([one in pair for pair in zip(names, terms, strict=True)])
        if not found.any():
            known = list(dict.fromkeys([*terms, *names]))
            raise DataError(
                f"fixed: {one!r} is no term or coefficient{suggest(str(one), known, 'terms')}",
                variable=str(one),
            )
        kept |= found
    return kept


def _terms_of_columns(fit: Fit) -> list[str]:
    """The term that each column of X belongs to: "f:x"; the intercept is its own."""
    recipe = fit.design.recipe
    if recipe is None:
        return list(fit.design.x_names)
    parts = [":".join(label for label, _, _ in own) for own in recipe.fixed_layout.columns]
    return [part or "Intercept" for part in parts]
