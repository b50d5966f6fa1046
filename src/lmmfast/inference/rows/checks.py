"""Checks of a fit, and those of generalized models: statistics beside those of responses drawn from
it. Linear ones are in `linear_checks`.

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
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import tables
from ...errors import FitError, LmmError
from ...fit import Fit
from ...plots import checks as _pictures
from ...typing import AxesLike
from .generalized import family_of, pearson, quantile_residuals
from .predict import fitted_of
from .verdicts import verdicts_of

if TYPE_CHECKING:
    import pandas as pd
else:
    from ...late import pandas as pd


FEWEST = 20  # responses below which p-values say nothing


@dataclass(frozen=True, eq=False, repr=False)
class Checks(tables.Printed):
    """Statistics of the data beside those of responses drawn from the model, and what they mean;
    ``fit.check`` makes them.

    Attributes
    ----------
    table : pandas.DataFrame
        Of generalized models rows ``dispersion`` (Pearson's sum of squares given the modes),
        ``uniformity`` (distance of Kolmogorov and Smirnov between the quantile residuals and the
        normal distribution), ``outlier`` (the largest quantile residual in size) and, for counts,
        ``zeros`` (how many).
        Of others ``normality`` (Shapiro and Francia's W' of the residuals), ``outlier`` (the
        largest over their root mean square), ``curvature`` (correlation with squared fitted values,
        the linear part taken out), ``spread`` (correlation of their sizes with fitted values) and
        ``modes of ...`` (W' of the modes of each random effect with at least 5 levels).
        Columns ``observed``, ``expected`` (mean of the drawn ones), ``ratio`` (not of correlations)
        and ``p``: one-sided for uniformity, outlier, normality and modes, else two-sided.
    simulated : pandas.DataFrame
        The statistics of each response drawn.
    residuals : pandas.Series
        Residuals of the data: of generalized models quantile ones, with random places within
        jumps; of others scaled ones.
    n, failed, seed : int
        Responses drawn, those whose modes were not found, and what repeats them.
    fit : LMMFit, GLMMFit or MMRMFit
    influence : pandas.DataFrame or None
        Columns ``level`` and ``cooks_d``, of the grouping factor with most levels; linear mixed
        models have it where it is quickly computed.
    """

    formula: str
    table: pd.DataFrame
    simulated: pd.DataFrame
    residuals: pd.Series
    n: int
    failed: int
    seed: int
    fit: Fit
    influence: pd.DataFrame | None = None

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        return self.table.copy()

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """A line for each question: ``check``, ``verdict`` ("fine", or "look" where p is below 0.02
        or a limit is passed) and ``says``. In very many rows deviations show that do not matter,
        in few none do: the pictures say more."""
        return verdicts_of(self.fit, self.table, self.influence)

    def plot(self, *, axes: AxesLike | None = None) -> np.ndarray:
        """Draws residuals, quantiles, influence, collinearity and drawn responses:
        `lmmfast.plots.check`.

        Parameters
        ----------
        axes : sequence of matplotlib axes, optional
            Default: a new figure.

        Returns
        -------
        array of matplotlib axes

        Raises
        ------
        ImportError
            Without matplotlib, when no axes are given.
        """
        return _pictures.check(self, axes=axes)

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
        if "dispersion" in self.table.index:
            ratio, p = (float(self.table[name]["dispersion"]) for name in ("ratio", "p"))
            if p < 0.05:
                what = "more" if ratio > 1 else "less"
                notes.append(f"The response varies {what} than the family has it")
        lines = [line for note in notes for line in tables.wrapped(note)]
        title = f"Checks by simulation: {tables.formula_text(self.formula)}"
        said = [tuple(map(str, row)) for row in self.verdicts.itertuples(index=False, name=None)]
        verdicts = tables.Table(("Check", "Verdict", ""), tuple(said), 3)
        first: tuple[str | tables.Table, ...] = (tables.Table(header, tuple(rows), 1), *lines)
        return tables.Summary((tuple(tables.wrapped(title)), first, (verdicts,)))


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
    own = pd.Series(residuals, index=index, name="quantile")
    table = compared(observed, simulated)
    return Checks(fit.formula, table, simulated, own, n, failed, seed, fit)


def compared(observed: dict[str, float], simulated: pd.DataFrame) -> pd.DataFrame:
    """The table of statistics of the data beside those of drawn responses, a row each."""
    import pandas as pd

    expected = simulated.mean()
    values = pd.Series(observed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (values / expected).where(~values.index.isin(["curvature", "spread"]))
    p = [_p(value, simulated[name].to_numpy(), name) for name, value in observed.items()]
    columns = {"observed": values, "expected": expected, "ratio": ratio, "p": p}
    return pd.DataFrame(columns, index=list(observed))


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
    if np.isnan(value):
        return np.nan
    above = (1 + int((drawn >= value).sum())) / (1 + len(drawn))
    if name in ("uniformity", "outlier"):
        return above
    below = (1 + int((drawn <= value).sum())) / (1 + len(drawn))
    if name == "normality" or name.startswith("modes of"):
        return below
    return min(1.0, 2 * min(above, below))
