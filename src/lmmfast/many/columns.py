"""Fits of columns of responses, a row of numbers each: compiled, or one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.design import Design
from ..data.responses import check_again
from ..engine.estimates import Estimates
from ..engine.generalized import GeneralizedModel
from ..engine.model import CERTIFIED, RESOLUTION, Model
from ..errors import LmmError, silenced
from ..fit import Fit
from ..inference.ddf import method_of
from ..inference.intervals.parameters import natural_extra
from .asked import Asked
from .job import Columns

AnyModel = Model | GeneralizedModel


def fitted_columns(
    model: AnyModel, values: np.ndarray, weights: np.ndarray | None, want: Asked
) -> Columns:
    """One row for each column of values (n, m); weights (n, m): of each."""
    plain = isinstance(model, Model) and model.structured is None and not model.has_residual
    if isinstance(model, Model) and plain and want.is_compiled:
        return _compiled(model, values, weights, want)
    out = no_fits(model, want, values.shape[1], "")
    with silenced():
        for i in range(values.shape[1]):
            own = None if weights is None else weights[:, i]
            _fill(out, i, model, values[:, i], own, want)
    return out


def no_fits(model: AnyModel, want: Asked, count: int, why: str) -> Columns:
    """Rows of responses that were not fitted."""
    p, r = want.L.shape[1], len(want.L)
    widths = {"theta": model.ntheta, "beta": p, "se": p, "variance": r, "df": r}
    out = {name: np.full((count, width), np.nan) for name, width in widths.items()}
    out |= {name: np.full(count, np.nan) for name in ("objective", "certificate", "sigma")}
    out["evals"] = np.zeros(count, dtype=np.int64)
    out["status"] = np.full(count, why, dtype=object)
    if want.statistic is not None:
        out["statistic"] = np.full((count, want.width), np.nan)
    if isinstance(model, Model) and model.has_residual:
        assert model.design.residual is not None
        out["residual"] = np.full((count, model.design.residual.count), np.nan)
    if isinstance(model, GeneralizedModel):
        out["extra"] = np.full((count, model.nextra), np.nan)
        out["separated"] = np.full(count, "", dtype=object)
    return out


def _compiled(model: Model, values: np.ndarray, weights: np.ndarray | None, want: Asked) -> Columns:
    """All in one pass."""
    found = model.many(
        values,
        want.L,
        weights=weights,
        start=want.start,
        reml=want.reml,
        max_evals=want.max_evals,
        df=want.ddf == "satterthwaite",
    )
    status = found["status"].copy()  # with what `LMM.fit` would say of them
    known = (found.pop("noise") <= CERTIFIED) & (found.pop("resolution") <= RESOLUTION)
    short = (status == "converged") & ~(known & (found["certificate"] <= CERTIFIED))
    status[short & known] = "flat direction"
    status[short & ~known] = "limited by rounding"
    found["status"] = status
    if "df" not in found:
        found["df"] = np.full_like(found["variance"], np.inf)
    return found


def _fill(
    out: Columns,
    i: int,
    model: AnyModel,
    y: np.ndarray,
    weights: np.ndarray | None,
    want: Asked,
) -> None:
    """Row i, from a fit that inference can read."""
    design = model.design
    shifted = design.outcome is None and design.offset is not None
    changes: dict[str, Any] = {"y": y + design.offset if shifted else np.ascontiguousarray(y)}
    if weights is not None:
        changes["weights"] = np.array(weights)
    try:
        own = design.with_rows(**changes)
        fill_row(out, i, want.kind(_again(model, own, want), own, model), want)  # type: ignore[arg-type]
    except LmmError as error:
        out["status"][i] = str(error)


def _again(model: AnyModel, own: Design, want: Asked) -> Estimates:
    """The estimates of a model for the response of another design of its rows."""
    if isinstance(model, Model):
        return model.again(own.sums, reml=want.reml, start=want.start, free=want.free)
    assert own.outcome is not None
    check_again(own.outcome, own.response, own.y, own.weights)
    return model.again(own.sums, start=want.start, max_evals=want.max_evals)


def fill_row(out: Columns, i: int, fit: Fit, want: Asked) -> None:
    """Row i: the numbers of a fit. LmmError where a test cannot be had."""
    estimates: Any = fit.estimates
    out["status"][i] = estimates.status
    out["objective"][i], out["sigma"][i] = estimates.objective, estimates.sigma
    out["certificate"][i], out["evals"][i] = estimates.certificate, estimates.n_evals
    out["theta"][i], out["beta"][i] = estimates.theta, estimates.beta
    if fit.design.residual is not None and fit.family is None:
        out["residual"][i] = fit.design.residual.natural(estimates.delta)[0]
    if isinstance(fit.model, GeneralizedModel):
        out["extra"][i] = natural_extra(estimates, fit.model.family)[0]
        out["separated"][i] = "; ".join(estimates.separation)
    if want.errors:
        _fill_errors(out, i, fit, want)
    if want.statistic is None:
        return
    try:
        out["statistic"][i] = numbers_of(want.statistic(fit))
    except Exception as error:  # the user's own: a row that says so
        out["status"][i] = f"statistic: {type(error).__name__}: {error}"


def _fill_errors(out: Columns, i: int, fit: Fit, want: Asked) -> None:
    """What tests of row i need."""
    out["se"][i] = np.sqrt(fit.estimates.vcov.diagonal())
    method = method_of(fit, want.ddf)
    out["df"][i] = method.df(want.L)
    known = np.isfinite(method.vcov)  # not those of dropped columns
    vcov = np.where(known, method.vcov, 0.0)
    variance = np.einsum("ij,jk,ik->i", want.L, vcov, want.L)
    out["variance"][i] = variance if known.any() else np.nan


def numbers_of(value: object) -> np.ndarray:
    """What a statistic returns, as so many numbers; TypeError for anything else."""
    try:
        if value is None:
            raise TypeError
        return np.asarray(list(value.values()) if isinstance(value, dict) else value, float).ravel()
    except (TypeError, ValueError):
        raise TypeError(
            "statistic must return a number, an array, a Series or a dict of numbers, not "
            f"{value!r}"
        ) from None
