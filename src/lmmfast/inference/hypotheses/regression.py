"""A regression of statsmodels among fits that are compared: a model without random effects."""

from __future__ import annotations

from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np

from ...data.design import Design
from ...data.rows import RowColumns, Rows
from ..ddf import fit_of

KINDS = ("OLS", "WLS")
CONSTANT = 1e-12  # spread of weights, relative, that are all the same


class Regression:
    """Ordinary or weighted least squares, as comparisons take fits: by maximum likelihood.

    Parameters
    ----------
    results : statsmodels' results of OLS or WLS
    """

    reml = False
    objective_se = 0.0

    def __init__(self, results: Any) -> None:
        model = results.model
        labels = getattr(model.data, "row_labels", None)
        y, w = np.array(model.endog, dtype=float), np.array(model.weights, dtype=float)
        X = np.asfortranarray(model.exog, dtype=float)
        if w.ndim == 0 or np.ptp(w) <= CONSTANT * abs(w).max():
            # the likelihood is the same for weights that are all the same
            w = None  # type: ignore[assignment]
        self.formula = str(getattr(model, "formula", f"{model.endog_names} ~ ..."))
        self.objective = -2 * float(results.llf)
        self.rank = int(np.linalg.matrix_rank(X))
        self.theta = np.zeros(0)
        names = tuple(map(str, model.exog_names))
        self.design = Design(
            formula=self.formula,
            response=str(model.endog_names),
            x_names=names,
            fixed=RowColumns(X),
            terms=(),
            sums=Rows(y, w, None, range(len(y)), labels),
            n_rows=len(y),
            dropped={},
            recipe=None,
        )

    @property
    def nobs(self) -> int:
        """Number of rows."""
        return self.design.n

    @property
    def n_params(self) -> int:
        """Coefficients and the residual variance."""
        return self.rank + 1

    @property
    def llf(self) -> float:
        """Log likelihood."""
        return -self.objective / 2

    @property
    def aic(self) -> float:
        """Akaike's criterion; statsmodels' own does not count the residual variance."""
        return self.objective + 2 * self.n_params

    @property
    def bic(self) -> float:
        """The Bayesian criterion, counted in the same way."""
        return self.objective + float(np.log(self.nobs)) * self.n_params

    @cached_property
    def estimates(self) -> Any:
        """What `nesting` asks of estimates: no column was dropped, no parameter is held."""
        return SimpleNamespace(fixed_kept=np.ones(len(self.design.x_names), bool), free=None)

    @cached_property
    def model(self) -> Any:
        """What `nesting` asks of a model: there is no theta."""
        return SimpleNamespace(theta_entries=[])


def comparable_fit(fit: Any) -> Any:
    """A fit, or a regression of statsmodels as one; TypeError for anything else."""
    inner = getattr(fit, "_results", fit)
    model = getattr(inner, "model", None)
    if type(model).__module__.startswith("statsmodels.regression"):
        if type(model).__name__ in KINDS:
            return Regression(inner)
        if type(model).__name__ in ("GLS", "GLSAR"):
            raise TypeError(f"a fit of statsmodels' {' or '.join(KINDS)} can be compared, not GLS")
    return fit_of(fit)
