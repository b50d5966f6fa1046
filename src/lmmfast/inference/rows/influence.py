"""What the fixed effects would be without a row, or without a level of a grouping factor.

At the variance parameters of the fit in closed form (deletion.py); refined, these move too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...effects import standard_errors
from ...engine.criterion import PhiCriterion
from ...engine.free import directions
from ...engine.relations import refuse_related, refuse_several
from ...errors import DataError, FitError, FormulaError, silenced
from ...linalg import trust_step
from ..ddf import check_choice, without_residual_structure
from .deletion import Deletion, groups
from .leaving import Leaving, Left, are_identified_without, without
from .predict import first_of

if TYPE_CHECKING:
    import pandas as pd

    from ...data.terms import RandomTerm
    from ...engine.estimates import Estimates
    from ...engine.model import Model
    from ...fit import Fit


RADIUS = 4.0  # longest step in theta, in standard deviations of the parameters given the others


def influence(fit: Fit, by: str | None, levels: Any, refine: bool | str) -> pd.DataFrame:
    """Deletion diagnostics, as ``Fit.influence`` documents them."""
    import pandas as pd

    fit.design.rows_for("influence is that of rows")
    without_residual_structure(fit, "influence")
    check_choice("refine", refine, (False, True, "full"))
    if refine is True and fit.estimates.is_sigma_known:
        raise FitError('a step takes sigma as estimated, but it was held: write refine="full"')
    if by is None and levels is not None:
        raise ValueError("levels= chooses among the levels of a grouping factor: give by= too")
    if by is not None and by not in fit.n_levels:
        message = f"{by!r} is not a grouping factor of the model; it has {', '.join(fit.n_levels)}"
        raise DataError(message, variable=by)
    if by is not None:
        refuse_related(fit.design, "the deletion of levels")
        refuse_several(fit.design, "the deletion of levels")
    own = Deletion.of(fit)
    found = _of_rows(fit, own) if by is None else _of_levels(fit, own, by, levels)
    if refine:
        beta, scale = (_refitted if refine == "full" else _refined)(fit, found.sets, found.columns)
    else:
        beta, scale = _changes(fit, own, found.chosen), standard_errors(fit.estimates)
    index, columns = found.labels, found.columns
    last = {"status": columns.pop("status")} if refine == "full" else {}
    columns["cooks_d"] = cooks_distance(fit, beta)
    names = [f"dfb_{name}" for name in fit.design.x_names]
    shifts = pd.DataFrame(beta / scale, index=index, columns=names)
    frames = [pd.DataFrame(columns, index=index), shifts, pd.DataFrame(last, index=index)]
    return pd.concat(frames, axis=1)


class Found(NamedTuple):
    """What is left out, one set of rows after the other."""

    labels: pd.Index
    columns: dict[str, np.ndarray]  # the first ones of the result
    sets: list[np.ndarray]  # rows
    chosen: tuple[np.ndarray, np.ndarray] | None  # levels of the rows, and which; None: each row


def _of_rows(fit: Fit, own: Deletion) -> Found:
    import pandas as pd

    index = pd.Index(fit.design.rows if fit.design.index is None else fit.design.index)
    rows = list(np.arange(fit.nobs)[:, None])
    return Found(index, {"hat_diag": own.leverage()}, rows, None)


def _of_levels(fit: Fit, own: Deletion, by: str, levels: Any) -> Found:
    import pandas as pd

    term = next(term for term in fit.design.terms if term.group == by)
    chosen = np.arange(len(term.levels)) if levels is None else chosen_levels(term, levels)
    every = groups(term.codes)
    sets = [every[level] for level in chosen]
    rows = np.flatnonzero(np.isin(term.codes, chosen))
    trace = np.bincount(term.codes[rows], own.leverage(rows), len(every))
    columns = {"nobs": np.array([len(one) for one in sets]), "hat_trace": trace[chosen]}
    return Found(pd.Index(term.levels[chosen], name=by), columns, sets, (term.codes, chosen))


def _changes(fit: Fit, own: Deletion, chosen: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    """Changes of the coefficients at the fit's variance parameters; NaN for dropped columns."""
    kept = fit.estimates.fixed_kept
    moved = own.by_row() if chosen is None else own.by_level(*chosen)
    beta = np.full((len(moved), len(kept)), np.nan)
    beta[:, kept] = moved @ own.back.T
    return beta


def chosen_levels(term: RandomTerm, levels: Any) -> np.ndarray:
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


def cooks_distance(fit: Fit, change: np.ndarray) -> np.ndarray:
    """Squared length of the change of beta in units of its covariance, over its rank."""
    kept = fit.estimates.fixed_kept
    if not kept.any():
        return np.full(len(change), np.nan)
    L = np.linalg.cholesky(fit.estimates.vcov[np.ix_(kept, kept)])
    return np.asarray((np.linalg.solve(L, change[:, kept].T) ** 2).sum(axis=0) / kept.sum())


def _refined(
    fit: Fit, sets: list[np.ndarray], columns: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Changes of beta and standard errors when theta moves by a step after each deletion."""
    beta = np.full((len(sets), len(fit.design.x_names)), np.nan)
    scale, sigma = np.full_like(beta, np.nan), np.full(len(sets), np.nan)
    for i, rows in enumerate(sets):
        moved = _stepped(fit, rows)
        if moved is not None:
            beta[i] = fit.estimates.beta - moved.beta
            scale[i] = standard_errors(moved)
            sigma[i] = moved.sigma
    columns["sigma"] = sigma
    return beta, scale


def _refitted(
    fit: Fit, sets: list[np.ndarray], columns: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The same when everything is fitted anew."""
    leaving = Leaving(fit, are_identified_without(fit, sets))
    left = [leaving.without(rows) for rows in sets]
    columns["sigma"] = _column(left, "sigma", np.nan)
    names = [f"theta_{name}" for name in fit.model.theta_names]
    theta = _column(left, "theta", np.full(len(names), np.nan)).reshape(len(left), len(names))
    columns.update(zip(names, theta.T, strict=True))
    columns["status"] = np.array([one.status for one in left], dtype=object)
    p = len(fit.design.x_names)
    beta = _column(left, "beta", np.full(p, np.nan)).reshape(len(left), p)
    scale = np.full_like(beta, np.nan)
    for own, one in zip(scale, left, strict=True):
        if one.estimates is not None:
            own[:] = standard_errors(one.estimates)
    return fit.estimates.beta - beta, scale


def _column(left: list[Left], name: str, missing: Any) -> np.ndarray:
    """An attribute of the estimates of all deletions."""
    return np.array([missing if own is None else getattr(own, name) for own, _, _ in left])


def _stepped(fit: Fit, rows: np.ndarray) -> Estimates | None:
    """The model without some rows, one step from the fit's theta; None if it lacks a parameter."""
    try:
        with silenced():
            model = fit.model.with_design(without(fit.design, rows))
            if model.theta_entries != fit.model.theta_entries:
                return None
            return _one_step(fit, model)
    except (FitError, DataError, FormulaError):
        return None


def _one_step(fit: Fit, model: Model) -> Estimates:
    """Newton's step with the average information, within a trust radius, if it leads down.
    Parameters at the boundary stay there: the criterion is even in them."""
    own: Any = model.structured
    if own is None:
        f, slope, curvature = model.objective(fit.theta, reml=fit.reml, gradient=True, hessian=True)
        along = directions(fit.estimates.free, fit.estimates.T, fit.model.theta_entries)
    else:
        phi = fit.estimates.phi
        assert phi is not None
        f, slope, curvature = PhiCriterion(model, fit.reml, phi).profiled(phi)
        along = np.eye(own.nphi)[:, own.moving(phi)]
    slope, curvature = along.T @ slope, along.T @ curvature @ along
    size = np.abs(curvature.diagonal())  # may be negative: it is an optimum of other rows
    unit = 1 / np.sqrt(np.maximum(size, 1e-8 * size.max(initial=1e-300)))
    step = trust_step(unit * slope, unit[:, None] * curvature * unit, RADIUS)[0]
    moves = along @ (unit * step)
    theta = fit.theta + moves if own is None else own.theta(phi + moves)
    moved = model.estimates_at(theta, reml=fit.reml)
    if moved.objective > f:
        moved = model.estimates_at(fit.theta, reml=fit.reml)
    return moved
