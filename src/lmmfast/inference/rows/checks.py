"""Whether a generalized model could have made its response: statistics beside those of responses
drawn from it.

Residuals given the conditional modes are too small, for the modes followed the response. So the
statistics of drawn responses are computed as those of the data: random effects and responses are
drawn, and the modes of each at the estimates are found anew. What is compared is alike then, which
chi-squared distributions with n - p degrees of freedom are not. The parameters count as known.

References
----------
Hartig (2024), *DHARMa* (R package; the questions); Dunn & Smyth (1996), *J. Comput. Graph.
Statist.* 5 (quantile residuals).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import tables
from ...errors import FitError, LmmError
from .generalized import family_of, pearson, quantile_residuals
from .predict import fitted_of

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit


FEWEST = 20  # responses below which p-values say nothing


@dataclass(frozen=True, eq=False, repr=False)
class Checks(tables.Printed):
    """Statistics of the data beside those of responses drawn from the model; ``fit.check`` makes
    them.

    Attributes
    ----------
    table : pandas.DataFrame
        Rows ``dispersion`` (Pearson's sum of squares given the modes), ``uniformity`` (distance of
        Kolmogorov and Smirnov between the quantile residuals and the normal distribution),
        ``outlier`` (the largest quantile residual in size) and, for counts, ``zeros`` (how many).
        Columns ``observed``, ``expected`` (mean of the drawn ones), ``ratio`` and ``p``: dispersion
        and zeros two-sided, uniformity and outlier one-sided.
    simulated : pandas.DataFrame
        The statistics of each response drawn.
    residuals : pandas.Series
        Quantile residuals of the data, with random places within jumps.
    n, failed, seed : int
        Responses drawn, those whose modes were not found, and what repeats them.
    """

    formula: str
    table: pd.DataFrame
    simulated: pd.DataFrame
    residuals: pd.Series
    n: int
    failed: int
    seed: int

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        return self.table.copy()

    def summary(self) -> tables.Summary:
        """The checks on paper."""
        header = ("", "Observed", "Expected", "Ratio", "p")
        rows = []
        for name, own in self.table.iterrows():
            cells = [tables.general(float(own[c]), 4) for c in ("observed", "expected", "ratio")]
            rows.append((str(name), *cells, tables.p_value(float(own["p"]))))
        failed = f", {self.failed} left out, their modes were not found" if self.failed else ""
        notes = [
            f"p: place among {self.n - self.failed} responses drawn from the fit, each with modes "
            f"of its own (seed {self.seed}){failed}",
        ]
        ratio, p = (self.table[name].to_numpy()[0] for name in ("ratio", "p"))
        if p < 0.05:  # of the dispersion, which comes first
            what = "more" if ratio > 1 else "less"
            notes.append(f"The response varies {what} than the family has it")
        lines = [line for note in notes for line in tables.wrapped(note)]
        title = f"Checks by simulation: {tables.formula_text(self.formula)}"
        return tables.Summary(((title,), (tables.Table(header, tuple(rows), 1), *lines)))


def check(
    fit: Fit, n: int, seed: int, draw: Callable[[int, int], np.ndarray], index: Any
) -> Checks:
    """As ``GLMMFit.check`` documents it.

    draw : of first and stop, the responses of these replicates (rows, stop - first).
    """
    import pandas as pd

    random = np.random.default_rng(seed)
    observed, residuals = _statistics(fit, fit.design.y, fitted_of(fit), random)
    rows: list[dict[str, float]] = []
    failed = 0
    for i in range(n):
        y = draw(i, i + 1)[:, 0]
        try:
            rows.append(_statistics(fit, y, modes_of(fit, y), random)[0])
        except LmmError:
            failed += 1
    if len(rows) < FEWEST:
        raise FitError(f"modes of {failed} of {n} responses were not found: nothing to compare")
    simulated = pd.DataFrame(rows)
    expected = simulated.mean()
    values = pd.Series(observed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = values / expected
    p = [_p(value, simulated[name].to_numpy(), name) for name, value in observed.items()]
    columns = {"observed": values, "expected": expected, "ratio": ratio, "p": p}
    own = pd.Series(residuals, index=index, name="quantile")
    return Checks(fit.formula, pd.DataFrame(columns), simulated, own, n, failed, seed)


def modes_of(fit: Fit, y: np.ndarray) -> np.ndarray:
    """The linear predictor (n) at the modes that another response has at the fit's estimates."""
    own: Any = fit
    rows = fit.design.with_rows(y=np.ascontiguousarray(y)).sums
    found: np.ndarray = own.model.point(own.psi, rows).predictor
    return found


def _statistics(
    fit: Fit, y: np.ndarray, eta: np.ndarray, random: np.random.Generator
) -> tuple[dict[str, float], np.ndarray]:
    """What is compared, and the quantile residuals it is made of."""
    from scipy.special import ndtr

    residuals = quantile_residuals(fit, eta, y, random)
    place, k = ndtr(np.sort(residuals)), np.arange(len(y))
    distance = np.maximum(place - k / len(y), (k + 1) / len(y) - place).max()
    middle = quantile_residuals(fit, eta, y, None)
    found = {
        "dispersion": float(np.square(pearson(fit, eta, y)).sum()),
        "uniformity": float(distance),
        "outlier": float(np.abs(middle).max()),
    }
    if family_of(fit).response == "count":
        found["zeros"] = float((y == 0).sum())
    return found, residuals


def _p(value: float, drawn: np.ndarray, name: str) -> float:
    """Share of the drawn statistics, and of the value itself, that are as extreme."""
    above = (1 + int((drawn >= value).sum())) / (1 + len(drawn))
    if name in ("uniformity", "outlier"):
        return above
    below = (1 + int((drawn <= value).sum())) / (1 + len(drawn))
    return min(1.0, 2 * min(above, below))
