"""What is not defined, or not there, where a term has a covariance structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import FitError

if TYPE_CHECKING:
    from ..fit import Fit


def refuse_structured(fit: Fit, what: str, instead: str) -> None:
    """FitError for what is not defined, or not there, where a term has a covariance structure."""
    if fit.estimates.phi is not None:
        term = next(term for term in fit.design.terms if term.covariance is not None)
        raise FitError(f"{what} not for models with structures, as {term.label}: {instead}")
