"""Linear functions of the fixed effects in families: means, and contrasts of them.

References
----------
Intervals on the scale of a transformed response are those of the fitted scale, transformed;
standard errors are by the delta method. Bias correction integrates over the distribution of the
response (Duan 1983, *J. Amer. Statist. Assoc.* 78, for a known normal distribution).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import tables as _tables
from ...fit import Fit
from ..ddf import METHODS, check_level
from ..response import ResponseScale
from ..wald import statistic_cells
from .adjust import Family, adjusted, critical
from .coefficients import Coefficients
from .grid import text

if TYPE_CHECKING:
    import pandas as pd
else:
    from ...late import pandas as pd


ROUNDING = 1e-13  # of a sum of products, relative to that of their sizes


@dataclass(frozen=True, eq=False, repr=False)
class LinearEstimates(_tables.Printed):
    """Estimates L beta + offset, some in each level of ``by``.

    Attributes
    ----------
    specs, by : tuple of str
        Columns that say what each estimate is of, and within which levels they belong together.
    L : (k, p) array
        Weights of the fixed effects in each: ``fit.t_test(result.L)`` tests them. Of probabilities
        of classes those of these.
    ddf, level : str, float
    """

    fit: Fit
    of: Coefficients  # that they are linear functions of
    ddf: str
    level: float
    specs: tuple[str, ...]
    by: tuple[str, ...]
    cells: dict[str, np.ndarray]  # of specs and by, a row an estimate
    L: np.ndarray
    offset: np.ndarray
    scale: ResponseScale | None  # that they are shown on; None: the fitted one
    bias: (
        float | np.ndarray
    )  # variance over which they are averaged, one or one for each; 0: they are not

    # ---- what they are

    @cached_property
    def families(self) -> list[np.ndarray]:
        """Places of the estimates in each level of by, in their order."""
        keys = list(zip(*(self.cells[name].tolist() for name in self.by), strict=True))
        groups: dict[Any, list[int]] = {}
        for i in range(len(self.L)):
            groups.setdefault(keys[i] if keys else (), []).append(i)
        return [np.array(own) for own in groups.values()]

    @cached_property
    def estimates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Estimates, standard errors and degrees of freedom on the fitted scale; NaN where the data
        leave them open."""
        usable = self.of.estimable(self.L)
        estimate = self.of.times(self.L) + self.offset
        se = np.sqrt(np.clip(np.diag(self._covariance(self.L)), 0.0, None))
        df = self.of.df(self.L)
        return tuple(np.where(usable, values, np.nan) for values in (estimate, se, df))  # type: ignore[return-value]

    def _covariance(self, L: np.ndarray) -> np.ndarray:
        return self.of.covariance(L)

    @property
    def vcov(self) -> pd.DataFrame:
        """Covariance matrix of the estimates on the fitted scale; NaN for those left open."""
        import pandas as pd

        covariance, open_ = self._covariance(self.L), np.isnan(self.estimates[0])
        covariance[open_] = covariance[:, open_] = np.nan
        labels = self.labels(self.specs + self.by)
        return pd.DataFrame(covariance, index=labels, columns=labels)

    def labels(self, names: Sequence[str]) -> list[str]:
        """What each estimate is called by these columns; numbers are preceded by their variable."""
        parts = [[label_of(name, value) for value in self.cells[name]] for name in names]
        return [" ".join(words) for words in zip(*parts, strict=True)] or ["overall"] * len(self.L)

    # ---- on the scale that is asked for

    def _shown(self, half: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Estimates, standard errors, and with half widths limits, on the shown scale."""
        estimate, se, df = self.estimates
        found = {self._name: estimate, "SE": se, "df": df}
        limits = {} if half is None else {"lower": estimate - half, "upper": estimate + half}
        if self.scale is None:
            return found | limits
        found[self._name], found["SE"] = self._transformed(estimate), self._slope(estimate) * se
        if half is not None:
            lower, upper = (self._transformed(limits[end]) for end in ("lower", "upper"))
            limits = {"lower": np.fmin(lower, upper), "upper": np.fmax(lower, upper)}
        return found | limits

    def _transformed(self, eta: np.ndarray) -> np.ndarray:
        assert self.scale is not None
        return self.scale.averaged(self.bias).values(eta)

    def _slope(self, eta: np.ndarray) -> np.ndarray:
        assert self.scale is not None
        return self.scale.averaged(self.bias).slope(eta)

    @property
    def _name(self) -> str:
        """The column of the estimates."""
        return "estimate"

    # ---- families of tests

    def _family(self, rows: np.ndarray, adjust: str, means: int) -> Family:
        needed = adjust in ("mvt", "scheffe")
        return Family(means, self._covariance(self.L[rows]) if needed else None)

    def _pvalues(self, statistic: np.ndarray, adjust: str, means: Sequence[int]) -> np.ndarray:
        df, p = self.estimates[2], np.full(len(self.L), np.nan)
        for rows, count in zip(self.families, means, strict=True):
            family = self._family(rows, adjust, count)
            p[rows] = adjusted(statistic[rows], df[rows], family, adjust)
        return p

    def _half_widths(self, level: float, adjust: str, means: Sequence[int]) -> np.ndarray:
        check_level(level)
        _, se, df = self.estimates
        half = np.full(len(self.L), np.nan)
        for rows, count in zip(self.families, means, strict=True):
            family = self._family(rows, adjust, count)
            half[rows] = critical(level, df[rows], family, adjust) * se[rows]
        return half

    # ---- words

    @property
    def _letter(self) -> str:
        return "z" if self.ddf == "z" else "t"

    def _method_note(self) -> str:
        adjusts = "; standard errors are adjusted" if self.ddf.startswith("kenward-roger") else ""
        return f"Degrees of freedom: {METHODS[self.ddf]}{adjusts}"

    def _scale_notes(self) -> list[str]:
        if self.scale is None:
            return []
        notes = [f"Back on the scale of {self.scale.variable} from {self.scale.label}"]
        if np.any(self.bias):
            what = "random effects" + " and residuals" * (self.fit.family is None)
            low, high = np.min(self.bias), np.max(self.bias)
            size = text(float(low)) + (f" to {text(float(high))}" if high > low else "")
            notes.append(f"Means of the response: averaged over {what}, variance {size}")
        return notes


def product(C: np.ndarray, L: np.ndarray) -> np.ndarray:
    """C L, exactly zero where the sum is nothing but rounding."""
    found = C @ L
    found[np.abs(found) <= ROUNDING * (np.abs(C) @ np.abs(L))] = 0.0
    return np.asarray(found)


def frame(columns: dict[str, np.ndarray]) -> pd.DataFrame:
    """Columns as a pandas data frame."""
    import pandas as pd

    return pd.DataFrame(columns)


def paper(shown: pd.DataFrame, n_left: int) -> _tables.Table:
    """A table of means or contrasts as text."""
    se = shown["SE"].to_numpy()
    columns: dict[str, Sequence[str]] = {
        str(name): _cells(str(name), shown[name].to_numpy(), se, position < n_left)
        for position, name in enumerate(shown.columns)
    }
    return _tables.Table(tuple(columns), tuple(zip(*columns.values(), strict=True)), n_left)


def _cells(name: str, values: np.ndarray, se: np.ndarray, label: bool) -> list[str]:
    if label or name == "letters":
        return [text(value) for value in values]
    if name == "df":
        return _tables.df_cells(values)
    if name in ("t", "z"):
        return statistic_cells(values)
    if name == "p":
        return [_tables.p_value(p) for p in values]
    return _tables.column(values, by=se)


def label_of(name: str, value: Any) -> str:
    """A level; a number is preceded by its variable."""
    label = text(value)
    try:
        float(label)
    except ValueError:
        return label
    return f"{name}{label}"
