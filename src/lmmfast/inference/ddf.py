"""Which distribution a test of fixed effects has: degrees of freedom and covariance, by method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .kenward import KenwardRoger
from .satterthwaite import Satterthwaite, contrasts, estimable

if TYPE_CHECKING:
    from ..results import LMMFit

__all__ = ["METHODS", "Method", "method_of"]

# What users write, and what tables say.
METHODS = {
    "satterthwaite": "Satterthwaite",
    "kenward-roger": "Kenward-Roger",
    "residual": "residual",
    "z": "z",
}


class Method(Protocol):
    """Degrees of freedom of single contrasts and joint tests, and the covariance they go with."""

    @property
    def vcov(self) -> np.ndarray:
        """(p, p) covariance of the fixed effects; NaN for dropped columns."""

    def df(self, L: Any) -> np.ndarray:
        """(k,) degrees of freedom of the rows of L."""

    def f(self, L: Any) -> tuple[float, int, float]:
        """F statistic of L beta = 0, numerator and denominator degrees of freedom."""


@dataclass(frozen=True, eq=False)
class Constant:
    """The same degrees of freedom for every test: those of the residuals, or infinitely many."""

    fit: LMMFit
    denominator: float

    @property
    def vcov(self) -> np.ndarray:
        """(p, p) covariance of the fixed effects; NaN for dropped columns."""
        return self.fit.estimates.vcov

    def df(self, L: Any) -> np.ndarray:
        """(k,) degrees of freedom; NaN for contrasts that are zero or involve a dropped column."""
        own = contrasts(L, len(self.fit.estimates.beta))
        usable = estimable(own, self.fit.estimates.fixed_kept)
        return np.where(usable, self.denominator, np.nan)

    def f(self, L: Any) -> tuple[float, int, float]:
        """Wald statistic over its rank, the rank, the degrees of freedom."""
        from .wald import wald_test

        own = contrasts(L, len(self.fit.estimates.beta))
        test = wald_test(own, np.zeros(len(own)), self.fit.estimates.beta, self.vcov)
        return test.fvalue, test.df_num, self.denominator


def method_of(fit: LMMFit, ddf: str) -> Method:
    """The method of this name for a fit; what it computes is kept with the fit.

    Parameters
    ----------
    fit : LMMFit
    ddf : {"satterthwaite", "kenward-roger", "residual", "z"}
        "residual": rows minus the rank of the fixed effects; "z": the normal distribution.

    Raises
    ------
    ValueError
        For another name.
    FitError
        Kenward-Roger for a fit by maximum likelihood.
    """
    if ddf not in METHODS:
        names = ", ".join(repr(name) for name in METHODS)
        raise ValueError(f"ddf must be one of {names}, not {ddf!r}")
    known = fit._methods
    if ddf not in known:
        known[ddf] = _make(fit, ddf)
    return known[ddf]


def _make(fit: LMMFit, ddf: str) -> Method:
    if ddf == "satterthwaite":
        return Satterthwaite(fit)
    if ddf == "kenward-roger":
        return KenwardRoger(fit)
    if ddf == "z":
        return Constant(fit, np.inf)
    return Constant(fit, float(fit.nobs - np.sum(fit.estimates.fixed_kept)))
