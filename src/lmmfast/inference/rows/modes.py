"""Conditional modes in other forms: coefficients by level, covariances, shrinkage, parts of fitted
values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.columns import suggest
from ...errors import DataError
from .chosen import chosen_columns
from .predict import fixed_part, fixed_part_of, random_part, row_series

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit


def coef(fit: Fit) -> dict[str, pd.DataFrame]:
    """Fixed effects plus modes, by grouping factor; as ``LMMFit.coef`` documents it."""
    import pandas as pd

    names = list(fit.design.x_names)
    found: dict[str, pd.DataFrame] = {}
    for term, b in zip(fit.design.terms, fit.estimates.b, strict=True):
        if term.group not in found:
            index = pd.Index(term.levels, name=term.group)
            whole = np.tile(fit.estimates.beta, (len(index), 1))
            found[term.group] = pd.DataFrame(whole, index=index, columns=names)
        frame = found[term.group]
        for name, values in zip(term.columns, b.T, strict=True):
            frame[name] = frame.get(name, 0.0) + values
    return found


def ranef_cov(fit: Fit) -> dict[str, np.ndarray]:
    """Conditional covariance matrices of the modes; as ``LMMFit.ranef_cov`` documents it."""
    blocks = fit.point.condvar
    return {
        f"{term.label}": fit.scale * np.asarray(block)
        for term, block in zip(fit.design.terms, blocks, strict=True)
    }


def partial_fitted(fit: Fit, fixed: str | Sequence[str], random: Any, residuals: bool) -> pd.Series:
    """Chosen effects of the rows used; as ``LMMFit.partial_fitted`` documents it."""
    kept = _fixed_columns(fit, fixed)
    beta = np.where(kept & fit.estimates.fixed_kept, fit.estimates.beta, 0.0)
    values = fit.design.fixed.times(beta)
    chosen = chosen_columns(fit.design, random)
    rest = fixed_part_of(fit.estimates, fit.design)
    if fit.design.offset is not None:
        rest += fit.design.offset
    for i, (term, b) in enumerate(zip(fit.design.terms, fit.estimates.b, strict=True)):
        if i in chosen:
            values += random_part(term.codes, term.z, b * chosen[i])
        if residuals:
            rest += random_part(term.codes, term.z, b)
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


def shrinkage(fit: Fit) -> pd.DataFrame:
    """Within-level least squares beside the modes; as ``LMMFit.shrinkage`` documents it."""
    import pandas as pd

    design = fit.design
    rest = design.rows_for("least squares within levels would be needed").response()
    rest = rest - fixed_part(fit.estimates, design.X)
    weights = np.ones(design.n) if design.weights is None else design.weights
    frames = []
    for i, (term, b) in enumerate(zip(design.terms, fit.estimates.b, strict=True)):
        own = rest.copy()
        for j, (other, modes) in enumerate(zip(design.terms, fit.estimates.b, strict=True)):
            if j != i:
                own -= random_part(other.codes, other.z, modes)
        least, size = _least_squares(term.codes, term.z, own, weights, len(b))
        deviation = fit.sigma * np.sqrt(np.einsum("mkk->mk", fit.point.condvar[i]))
        m, k = b.shape
        frames.append(
            pd.DataFrame(
                {
                    "group": term.group,
                    "level": np.repeat(np.asarray(term.levels, dtype=object), k),
                    "column": np.tile(np.array(term.columns, dtype=object), m),
                    "rows": np.repeat(size, k),
                    "least_squares": least.ravel(),
                    "mode": b.ravel(),
                    "condsd": deviation.ravel(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _least_squares(
    codes: np.ndarray, z: np.ndarray, y: np.ndarray, w: np.ndarray, m: int
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of z in each level (m, k), NaN where its rows leave them open; and rows."""
    k = z.shape[1]
    A = np.empty((m, k, k))
    c = np.empty((m, k))
    for r in range(k):
        c[:, r] = np.bincount(codes, w * z[:, r] * y, m)
        for s in range(r, k):
            A[:, r, s] = A[:, s, r] = np.bincount(codes, w * z[:, r] * z[:, s], m)
    unit = np.sqrt(np.einsum("mkk->mk", A))
    unit[unit == 0] = 1.0
    scaled = A / unit[:, :, None] / unit[:, None, :]
    full = np.linalg.eigvalsh(scaled)[:, 0] > 1e-10
    out = np.full((m, k), np.nan)
    out[full] = np.linalg.solve(scaled[full], (c / unit)[full][:, :, None])[:, :, 0] / unit[full]
    return out, np.bincount(codes, minlength=m)
