"""What the fixed effects would be without a row, or without a level of a grouping factor.

At the variance parameters of the fit in closed form (deletion.py); refined, these move too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...effects import standard_errors
from ...engine.free import directions
from ...errors import DataError, FitError, LmmWarning
from ...linalg import trust_step
from ..ddf import check_choice
from ..refits import refitted
from .deletion import Deletion, groups
from .predict import first_of

if TYPE_CHECKING:
    import pandas as pd

    from ...data.design import Design
    from ...data.terms import RandomTerm
    from ...engine.model import Model
    from ...fit import Fit


RADIUS = 4.0  # longest step in theta, in standard deviations of the parameters given the others


def influence(fit: Fit, by: str | None, levels: Any, refine: bool | str) -> pd.DataFrame:
    """Deletion diagnostics, as ``Fit.influence`` documents them."""
    import pandas as pd

    fit.design.rows_for("influence is that of rows")
    check_choice("refine", refine, (False, True, "full"))
    if refine is True and fit.estimates.is_sigma_known:
        raise FitError('a step takes sigma as estimated, but it was held: write refine="full"')
    if by is None and levels is not None:
        raise ValueError("levels= chooses among the levels of a grouping factor: give by= too")
    if by is not None and by not in fit.n_levels:
        message = f"{by!r} is not a grouping factor of the model; it has {', '.join(fit.n_levels)}"
        raise DataError(message, variable=by)
    own, kept = Deletion.of(fit), fit.estimates.fixed_kept
    found = _of_rows(fit, own) if by is None else _of_levels(fit, own, by, levels)
    index, columns, changes, sets = found
    beta = np.full((len(sets), len(kept)), np.nan)
    beta[:, kept] = changes @ own.back.T
    scale = standard_errors(fit.estimates)
    if refine:
        beta, scale, columns["sigma"] = _refined(fit, sets, refine == "full")
    columns["cooks_d"] = _cooks_distance(fit, beta)
    names = [f"dfb_{name}" for name in fit.design.x_names]
    shifts = pd.DataFrame(beta / scale, index=index, columns=names)
    return pd.concat([pd.DataFrame(columns, index=index), shifts], axis=1)


# Labels, first columns, changes of the kept coefficients in the basis of `Deletion`, and the rows.
Found = tuple["pd.Index", dict[str, np.ndarray], np.ndarray, list[np.ndarray]]


def _of_rows(fit: Fit, own: Deletion) -> Found:
    import pandas as pd

    index = pd.Index(fit.design.rows if fit.design.index is None else fit.design.index)
    rows = list(np.arange(fit.nobs)[:, None])
    return index, {"hat_diag": own.leverage()}, own.by_row(), rows


def _of_levels(fit: Fit, own: Deletion, by: str, levels: Any) -> Found:
    import pandas as pd

    term = next(term for term in fit.design.terms if term.group == by)
    chosen = np.arange(len(term.levels)) if levels is None else _chosen(term, levels)
    every = groups(term.codes)
    sets = [every[level] for level in chosen]
    rows = np.flatnonzero(np.isin(term.codes, chosen))
    trace = np.bincount(term.codes[rows], own.leverage(rows), len(every))
    columns = {"nobs": np.array([len(one) for one in sets]), "hat_trace": trace[chosen]}
    return pd.Index(term.levels[chosen], name=by), columns, own.by_level(term.codes, chosen), sets


def _chosen(term: RandomTerm, levels: Any) -> np.ndarray:
    """Numbers of levels that are given by their labels."""
    given = [levels] if isinstance(levels, str) or not isinstance(levels, Iterable) else [*levels]
    place = {level: i for i, level in enumerate(term.levels.tolist())}
    texts = {str(level): i for level, i in place.items()}
    found = [place.get(level, texts.get(str(level))) for level in given]
    strange = [level for level, i in zip(given, found, strict=True) if i is None]
    if strange:
        unknown = first_of([repr(level) for level in strange])
        raise DataError(f"{term.group!r} has no level {unknown}", variable=term.group)
    if len(set(found)) < len(found):
        raise DataError(f"levels of {term.group!r} are given twice", variable=term.group)
    return np.array(found, np.int64)


def _cooks_distance(fit: Fit, change: np.ndarray) -> np.ndarray:
    """Squared length of the change of beta in units of its covariance, over its rank."""
    kept = fit.estimates.fixed_kept
    if not kept.any():
        return np.full(len(change), np.nan)
    L = np.linalg.cholesky(fit.estimates.vcov[np.ix_(kept, kept)])
    return np.asarray((np.linalg.solve(L, change[:, kept].T) ** 2).sum(axis=0) / kept.sum())


def _refined(
    fit: Fit, sets: list[np.ndarray], full: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Changes of beta, standard errors and sigma when theta moves too after each deletion."""
    beta = np.full((len(sets), len(fit.design.x_names)), np.nan)
    scale, sigma = np.full_like(beta, np.nan), np.full(len(sets), np.nan)
    for i, rows in enumerate(sets):
        smaller = _moved(fit, rows, full)
        if smaller is not None:
            beta[i] = fit.estimates.beta - smaller.estimates.beta
            scale[i] = standard_errors(smaller.estimates)
            sigma[i] = smaller.sigma
    return beta, scale, sigma


def _moved(fit: Fit, rows: np.ndarray, full: bool) -> Fit | None:
    """The model without some rows, from the fit's theta; None if it lacks a parameter."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LmmWarning)
            model = fit.model.with_design(without(fit.design, rows))
            if model.theta_entries != fit.model.theta_entries:
                return None
            if full:
                return refitted(fit, model, fit.theta, free=fit.estimates.free)
            return _one_step(fit, model)
    except (FitError, DataError):
        return None


def _one_step(fit: Fit, model: Model) -> Fit:
    """Newton's step with the average information, within a trust radius, if it leads down.
    Parameters at the boundary stay there: the criterion is even in them."""
    f, slope, curvature = model.objective(fit.theta, reml=fit.reml, gradient=True, hessian=True)
    along = directions(fit.estimates.free, fit.estimates.T, fit.model.theta_entries)
    slope, curvature = along.T @ slope, along.T @ curvature @ along
    size = np.abs(curvature.diagonal())  # may be negative: it is an optimum of other rows
    unit = 1 / np.sqrt(np.maximum(size, 1e-8 * size.max(initial=1e-300)))
    step = trust_step(unit * slope, unit[:, None] * curvature * unit, RADIUS)[0]
    theta = fit.theta + along @ (unit * step)
    moved = model.estimates_at(theta, reml=fit.reml)
    if moved.objective > f:
        moved = model.estimates_at(fit.theta, reml=fit.reml)
    return fit.remade(moved, model.design, model)


def without(design: Design, rows: np.ndarray) -> Design:
    """The design without some rows; levels that have none left are gone. DataError when a grouping
    factor has a single level left."""
    keep = np.ones(len(design.y), bool)
    keep[rows] = False
    known: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    terms = []
    for term in design.terms:
        if id(term.codes) not in known:
            left, back = np.unique(term.codes[keep], return_inverse=True)
            if len(left) < 2:
                raise DataError(f"{term.group!r} has a single level left", variable=term.group)
            known[id(term.codes)] = back.astype(np.int32), term.levels[left]
        codes, levels = known[id(term.codes)]
        terms.append(term.with_rows(codes, np.ascontiguousarray(term.z[keep]), levels=levels))
    return replace(design, terms=tuple(terms)).with_rows(
        fixed=design.fixed.taken(np.flatnonzero(keep)),
        y=design.y[keep],
        weights=None if design.weights is None else design.weights[keep],
        offset=None if design.offset is None else design.offset[keep],
        positions=design.rows[keep],
        index=None if design.index is None else design.index[keep],
    )
