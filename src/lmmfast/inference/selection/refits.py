"""Models of a fit's data, or of parts of its design, made without repeating its warnings."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ...errors import LmmWarning

if TYPE_CHECKING:
    from ...data.design import Design
    from ...engine.model import LMM
    from ...results import LMMFit

__all__ = ["by_likelihood", "estimated", "model_of", "model_of_part"]


def model_of(fit: LMMFit) -> LMM:
    """The model that holds the response of this fit: refits share that of another response."""
    if fit.design is fit.model.design:
        return fit.model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        return fit.model.with_design(fit.design)


def model_of_part(fit: LMMFit, design: Design) -> LMM:
    """A part of a fit's model; what its warnings say was said about the whole."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        return fit.model.with_design(design)


def estimated(fit: LMMFit) -> list[str]:
    """A note where the criteria that are compared are estimates themselves."""
    if not fit.objective_se:
        return []
    return [
        "criteria are estimated (storage='iterative'): each is known to "
        f"{fit.objective_se:.2g} (one standard error)"
    ]


def by_likelihood(fit: LMMFit) -> LMMFit:
    """The fit, by maximum likelihood."""
    return model_of(fit).fit(reml=False, start=fit.theta) if fit.reml else fit
