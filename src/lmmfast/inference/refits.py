"""Models of a fit's data, or of parts of its design, made without repeating its warnings."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ..errors import LmmWarning

if TYPE_CHECKING:
    from ..design import Design
    from ..model import LMM
    from ..results import LMMFit

__all__ = ["by_likelihood", "model_of", "model_of_part"]


def model_of(fit: LMMFit) -> LMM:
    """The model that holds the response of this fit: refits share that of another response."""
    if fit.design is fit.model.design:
        return fit.model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        return type(fit.model)(fit.design)


def model_of_part(design: Design) -> LMM:
    """A model; what its warnings say was said about the one that it is part of."""
    from ..model import LMM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        return LMM(design)


def by_likelihood(fit: LMMFit) -> LMMFit:
    """The fit, by maximum likelihood."""
    return model_of(fit).fit(reml=False, start=fit.theta) if fit.reml else fit
