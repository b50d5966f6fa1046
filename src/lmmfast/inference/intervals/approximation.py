"""What the error of Laplace's approximation means for a fit: how far the estimates would move.

With the correction c of -2 log-likelihood (`engine.second_order`) and its Hessian H, a maximum of
the corrected likelihood is at -H^-1 dc/dpsi from that of Laplace's, to first order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import tables
from ...engine.generalized_checks import MOST_DIRECTIONS
from ...errors import FitError
from ...fit import Fit
from .parameters import Parameter, parameters_of, value_of

if TYPE_CHECKING:
    import pandas as pd
else:
    from ...late import pandas as pd

SMALL = 0.1  # change of an estimate, in standard errors, that hardly matters
STEP = 1e-6  # of derivatives of parameters in psi, relative to standard errors
NODES = 11  # of the quadrature that is advised


@dataclass(frozen=True, eq=False, repr=False)
class Approximation(tables.Printed):
    """The error of Laplace's approximation at a fit; ``fit.approximation()`` makes it.

    Attributes
    ----------
    correction : float
        What the next order of the approximation adds to -2 log-likelihood at the estimates.
    table : pandas.DataFrame
        One row a parameter: ``estimate``, ``se``, ``change`` (how far the correction would move the
        estimate, to first order) and ``ratio`` (change over se). NaN where there is no standard
        error.
    largest : float
        Largest size of a ratio; NaN where there is none.
    exact : bool
        Whether all pairs of rows are in the correction; else those that share a level.
    advice : str
        What to do.
    """

    formula: str
    correction: float
    table: pd.DataFrame
    largest: float
    exact: bool
    advice: str

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        return self.table.copy()

    def summary(self) -> tables.Summary:
        """The error on paper."""
        header = ("", "Estimate", "Std. Error", "Change", "In std. errors")
        parts = [tables.column(self.table[name]) for name in ("estimate", "se", "change")]
        ratios = [tables.fixed(ratio, 3) for ratio in self.table["ratio"]]
        names = [str(name) for name in self.table.index]
        rows = tuple(zip(names, *parts, ratios, strict=True))
        lines = [f"The next order adds {self.correction:.4g} to -2 log likelihood"]
        if not self.exact:
            lines.append("Of pairs of rows those that share a level are in it")
        title = f"Error of Laplace's approximation: {tables.formula_text(self.formula)}"
        notes = tables.wrapped(self.advice)
        return tables.Summary(((title, *lines), (tables.Table(header, rows, 1), *notes)))


def approximation(fit: Fit) -> Approximation:
    """As ``GLMMFit.approximation`` documents it."""
    import pandas as pd

    own: Any = fit
    model = _laplace(own)
    correction, slope = model.correction(own.psi, gradient=True)
    covariance = np.asarray(own.estimates.covariance)
    moves = ~np.isnan(covariance.diagonal())
    V = np.where(np.outer(moves, moves), covariance, 0.0)
    every = parameters_of(fit)
    J = _slopes(every, own, np.sqrt(V.diagonal()))
    estimates = _values(every, own, own.psi)
    se = np.sqrt(np.einsum("ij,jk,ik->i", J, V, J))
    known = se > 0
    se[~known] = np.nan
    change = np.where(known, -J @ (V @ slope) / 2, np.nan)
    columns = {"estimate": estimates, "se": se, "change": change, "ratio": change / se}
    table = pd.DataFrame(columns, index=[one.name for one in every])
    largest = float(np.abs(change[known] / se[known]).max(initial=0.0)) if known.any() else np.nan
    exact = bool(model.second_order.exact)
    return Approximation(
        fit.formula, float(correction), table, largest, exact, _advice(own, table, largest)
    )


def _laplace(fit: Any) -> Any:
    """The model of a fit; FitError where it is not Laplace's approximation."""
    own = fit.estimates
    if own.nagq > 1:
        raise FitError(
            f"the likelihood is by quadrature (nagq={own.nagq}), not by Laplace's approximation: "
            "compare it with more nodes"
        )
    if own.accuracy == "second-order":
        raise FitError(
            "accuracy='second-order' has the correction in the likelihood: ask a fit without it"
        )
    if own.information == "expected":
        raise FitError(
            "with information='expected' the log-determinant is not Laplace's: fit with "
            "information='observed'"
        )
    if fit.reml:
        raise FitError(
            "the correction is that of the likelihood, this fit is by restricted likelihood: fit "
            "with reml=False"
        )
    return fit.model if fit.design is fit.model.design else fit._remodelled(fit.design)


def _values(every: Sequence[Parameter], fit: Any, psi: np.ndarray) -> np.ndarray:
    """Parameters as users see them, at psi."""
    theta, beta, extra = fit.model.split(psi)
    T = fit.model._engine.factors(theta)
    natural = np.asarray(fit.family.natural(extra)[0]) if len(extra) else ()
    beta = np.where(fit.estimates.fixed_kept, beta, np.nan)
    return np.array([value_of(one, T, 1.0, beta, natural) for one in every])


def _slopes(every: Sequence[Parameter], fit: Any, se: np.ndarray) -> np.ndarray:
    """Their derivatives in what of psi has a standard error, (parameters, size)."""
    out = np.zeros((len(every), len(se)))
    for j in np.flatnonzero(se):
        step = STEP * se[j] * (np.arange(len(se)) == j)
        up, down = (_values(every, fit, fit.psi + sign * step) for sign in (1, -1))
        out[:, j] = (up - down) / (2 * STEP * se[j])
    return np.nan_to_num(out)


def _advice(fit: Any, table: pd.DataFrame, largest: float) -> str:
    """What to do about it, in one sentence."""
    if not np.isfinite(largest):
        return "There are no standard errors to compare the changes with."
    if largest < SMALL:
        return (
            f"No estimate would move by more than {largest:.2g} standard errors: Laplace's "
            "approximation is good enough here."
        )
    terms = fit.design.terms
    one = len({term.source.factor for term in terms}) == 1
    width = sum(term.source.width for term in terms)
    way = f"nagq={NODES}" if one and width <= MOST_DIRECTIONS else 'accuracy="second-order"'
    name = table["ratio"].abs().idxmax()
    return (
        f"{name} would move by {largest:.2g} standard errors, the others by less: fit with {way}."
    )
