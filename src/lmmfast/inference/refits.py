"""Models of a fit's data, or of parts of its design, made without repeating its warnings."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.options import Options
from ..engine.psi import minimum_with
from ..errors import FitError, SeparationWarning, silenced

if TYPE_CHECKING:
    from ..data.design import Design
    from ..engine.free import Free
    from ..engine.model import Model
    from ..fit import Fit


def model_of(fit: Fit) -> Model:
    """The model that holds the response of this fit: refits share that of another response."""
    return fit.model if fit.design is fit.model.design else model_of_part(fit, fit.design)


def model_of_part(fit: Fit, design: Design) -> Model:
    """A part of a fit's model; what its warnings say was said about the whole."""
    with silenced():
        return fit.model.with_design(design)


def model_by(model: Any, reml: bool) -> Any:
    """The model by the criterion that is asked for: a generalized one is compiled for its own."""
    if not hasattr(model, "by_criterion"):
        return model
    with silenced():
        return model.by_criterion(reml)


def estimated(fit: Fit) -> list[str]:
    """A note where the criteria that are compared are estimates themselves."""
    known = f"each is known to {fit.objective_se:.2g} (one standard error)"
    note = f"criteria are estimated (storage='iterative'): {known}"
    return [note] if fit.objective_se else []


def refitted(
    fit: Fit,
    model: Model,
    start: np.ndarray | None = None,
    *,
    reml: bool | None = None,
    free: Free | None = None,
) -> Fit:
    """The fit of a model, of the same kind as a fit and (if reml is None) by the same criterion.
    `free` says what is held or tied: ``fit.estimates.free`` where the random terms are the same."""
    first = None if start is None else fit.start_of(model, start)
    reml = fit.reml if reml is None else reml
    options = Options(reml, first, free=free)
    model = model_by(model, reml)
    separated = getattr(fit.estimates, "separation", ())  # which was said of the fit itself
    with silenced(SeparationWarning) if separated else nullcontext():
        return fit.remade(model.minimize(options), model.design, model)


def without_random(fit: Fit) -> float:
    """The criterion of the model without its random effects, at the best of the others."""
    theta = np.zeros_like(fit.theta)
    if fit.family is None:
        return float(model_of(fit).criterion(theta, fit.reml, fit.estimates.free))
    own: Any = fit
    psi = np.concatenate([theta, own.psi[len(theta) :]])
    model: Any = model_of(fit)
    return minimum_with(model, psi, np.arange(len(psi)) < len(theta))


def by_likelihood(fit: Fit) -> Fit:
    """The fit, by maximum likelihood."""
    if not fit.reml:
        return fit
    if fit.estimates.rho is not None:
        raise FitError(
            "rho of a conditional autoregression was estimated by REML, and models are compared by "
            "maximum likelihood: fit with reml=False"
        )
    return refitted(fit, model_of(fit), fit.theta, reml=False, free=fit.estimates.free)


def by_restricted_likelihood(fit: Fit) -> Fit:
    """The fit, by restricted maximum likelihood."""
    if fit.reml:
        return fit
    return refitted(fit, model_of(fit), fit.theta, reml=True, free=fit.estimates.free)
