"""Estimated marginal means: averages of predictions over a grid of the predictors.

References
----------
Searle, Speed & Milliken (1980), *Amer. Statist.* 34, 216-221. Conventions are those documented for
R's package emmeans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import tables as _tables
from ..ddf import METHODS, check_choice, check_level, ddf_of, fit_of, method_of
from ..estimability import openness_of
from ..wald import statistic_cells, t_quantile
from .comparisons import ADJUSTMENTS, adjusted, adjustment, contrast_weights, critical
from .grid import Grid, text

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit
    from ..ddf import Method


ROUNDING = 1e-13  # of a sum of products, relative to that of their sizes


def emmeans(
    fit: Fit,
    specs: str | Sequence[str],
    *,
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    contrasts: Any = None,
    adjust: str | None = None,
    ddf: str = "satterthwaite",
    level: float = 0.95,
    weights: str = "equal",
) -> EMMeans:
    """Estimated marginal means of a fit, and contrasts among them.

    Predictions of the fixed effects on the grid of all levels of the factors, with numeric
    variables at their means (those with two values, and those that are made factors by the
    formula, at all their values), averaged over what is not asked for. A transform such as
    ``log(x)`` is taken of the mean of x.

    Parameters
    ----------
    fit : Fit
    specs : str or list of str
        Variables whose means are asked for: ``"cond"``, ``"a * b"`` or ``["a", "b"]`` for all
        combinations, ``"a | b"`` for a by b.
    by : str or list of str, optional
        Variables within whose levels means are compared.
    at : dict, optional
        Values of variables instead of their levels or mean: ``{"age": [8, 14]}``.
    contrasts : str, dict or array, optional
        Comparisons: "pairwise" and "revpairwise" (all pairs, in either direction), "trt.vs.ctrl"
        (each with the first), "consec" (each with the one before), "poly" (polynomials, smallest
        integers), or weights for the means of ``specs``, rows or ``{name: weights}``.
    adjust : {"tukey", "holm", "bonferroni", "sidak", "none"}, optional
        For several tests, within each level of ``by``. Default: "tukey" for "pairwise", "holm" for
        "trt.vs.ctrl" and "consec", else "none". Tukey's for anything but "pairwise" becomes
        "sidak", as in R.
    ddf : {"satterthwaite", "kenward-roger", "residual", "z"}
        As for ``Fit.t_test``.
    level : float, default 0.95
        Coverage of the intervals.
    weights : {"equal", "proportional"}
        Of the cells that are averaged: the same for all, or the number of rows that have these
        levels.

    Returns
    -------
    EMMeans
        ``table``, ``contrasts``, ``notes``; NaN where the data leave a mean open.

    Raises
    ------
    DataError
        For variables that are not in the fixed part, unknown levels or a model made from arrays.
    ValueError
        For other arguments that cannot be used.

    Examples
    --------
    >>> from lmmfast import datasets, emmeans, lmer
    >>> fit = lmer("score ~ Machine + (1 | Worker)", datasets.load("Machines"))
    >>> found = emmeans(fit, "Machine", contrasts="pairwise", ddf="kenward-roger")
    >>> found.table.round(3)[["Machine", "emmean", "SE", "df"]]
      Machine  emmean     SE     df
    0       A  52.356  2.229  5.833
    1       B  60.322  2.229  5.833
    2       C  66.272  2.229  5.833
    """
    fit, ddf = fit_of(fit), ddf_of(ddf)
    check_level(level)
    check_choice("weights", weights, ("equal", "proportional"))
    if adjust is not None:
        check_choice("adjust", adjust, ADJUSTMENTS)
    grid = Grid.of(fit, at or {})
    wanted, within = grid.targets(specs, by)
    L, offset = grid.averages(wanted + within, weights)
    means = EMMeans(
        fit=fit,
        method=method_of(fit, ddf),
        ddf=ddf,
        level=level,
        specs=tuple(wanted),
        by=tuple(within),
        cells=grid.cells(wanted + within),
        groups=int(np.prod([len(grid.values[name]) for name in within], dtype=int)),
        L=L,
        offset=offset,
        kind=contrasts,
        adjust=adjustment(contrasts, adjust),
        grid_notes=tuple(grid.notes(wanted, within, weights)),
    )
    if contrasts is not None:
        _ = means._weights  # refuses what cannot be compared now rather than when it is printed
    return means


# ---- the result ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class EMMeans(_tables.Printed):
    """Estimated marginal means; `emmeans` makes them.

    Attributes
    ----------
    specs, by : tuple of str
        Variables whose means these are, and those within which they are compared.
    L : (k, p) array
        Weights of the fixed effects in each mean: ``fit.t_test(result.L)`` tests them.
    ddf, adjust, level : str, str, float
    """

    fit: Fit
    method: Method
    ddf: str
    level: float
    specs: tuple[str, ...]
    by: tuple[str, ...]
    cells: dict[str, np.ndarray]  # values of specs and by, a row a mean
    groups: int  # levels of by; their means stand one after the other
    L: np.ndarray
    offset: np.ndarray
    kind: Any
    adjust: str
    grid_notes: tuple[str, ...]

    @property
    def table(self) -> pd.DataFrame:
        """The means: variables, ``emmean``, ``SE``, ``df``, ``lower``, ``upper``."""
        return self._table.copy()

    @cached_property
    def _table(self) -> pd.DataFrame:
        mean, se, df = self._estimates(self.L, self.offset)
        half = t_quantile((1 + self.level) / 2, df) * se
        numbers = {"emmean": mean, "SE": se, "df": df, "lower": mean - half, "upper": mean + half}
        return _frame({**self.cells, **numbers})

    @property
    def contrasts(self) -> pd.DataFrame | None:
        """The contrasts: ``contrast``, variables of ``by``, ``estimate``, ``SE``, ``df``, ``t`` (or
        ``z``) and ``p``, adjusted; None if none were asked for."""
        return None if self._contrasts is None else self._contrasts.copy()

    @cached_property
    def _contrasts(self) -> pd.DataFrame | None:
        if self.kind is None:
            return None
        estimate, se, df = self._contrast_estimates
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = estimate / se
        parts = zip(np.split(statistic, self.groups), np.split(df, self.groups), strict=True)
        p = [adjusted(one, own, self._means, self.adjust) for one, own in parts]
        numbers = {"estimate": estimate, "SE": se, "df": df}
        tests = {self._letter: statistic, "p": np.concatenate(p)}
        return _frame({**self._contrast_cells, **numbers, **tests})

    def conf_int(self, level: float | None = None) -> pd.DataFrame:
        """Intervals of the contrasts, simultaneous by ``adjust`` within each level of ``by``.

        Parameters
        ----------
        level : float, optional
            Coverage; default that of the means.

        Returns
        -------
        pandas.DataFrame
            Columns ``lower`` and ``upper`` beside those of ``contrasts`` without tests.

        Raises
        ------
        ValueError
            If no contrasts were asked for, or ``level`` is not between 0 and 1.
        """
        level = self.level if level is None else level
        if self.kind is None:
            raise ValueError("no contrasts were asked for: emmeans(..., contrasts='pairwise')")
        check_level(level)
        estimate, se, df = self._contrast_estimates
        each, size = np.split(df, self.groups), len(df) // self.groups
        values = [critical(level, own, size, self._means, self.adjust) for own in each]
        half = np.concatenate(values) * se
        numbers = {"estimate": estimate, "SE": se, "df": df}
        limits = {"lower": estimate - half, "upper": estimate + half}
        return _frame({**self._contrast_cells, **numbers, **limits})

    @property
    def notes(self) -> tuple[str, ...]:
        """What was averaged and held, how degrees of freedom and p-values were computed."""
        adjusts = "; standard errors are adjusted" if self.ddf.startswith("kenward-roger") else ""
        method = f"Degrees of freedom: {METHODS[self.ddf]}{adjusts}"
        found = [*self.grid_notes, method, f"Confidence level: {self.level:g}"]
        unknown = int(self.table["emmean"].isna().sum())
        if unknown:
            what = f"{unknown} mean{'s are' if unknown > 1 else ' is'} not estimable"
            why = "the data have no rows for some of the cells that are averaged"
            found.insert(len(self.grid_notes), f"NA: {what}, {why}")
        return tuple(found)

    def summary(self) -> _tables.Summary:
        """The means, and the contrasts, on paper."""
        notes = [line for note in self.notes for line in _tables.wrapped(note)]
        sections: list[tuple[str | _tables.Table, ...]] = [
            ("Estimated marginal means:", _paper(self.table, len(self.cells)), *notes)
        ]
        if self.contrasts is not None:
            table = _paper(self.contrasts, len(self._contrast_cells))
            sections.append(("Contrasts:", table, *self._adjust_notes()))
        return _tables.Summary(tuple(sections))

    # ---- what these are made of

    @property
    def _letter(self) -> str:
        return "z" if self.ddf == "z" else "t"

    @property
    def _means(self) -> int:
        """Number of means that are compared."""
        return len(self.L) // self.groups

    @cached_property
    def _weights(self) -> tuple[list[str], np.ndarray]:
        """Names and weights of the contrasts within one level of by."""
        cells = {name: self.cells[name][: self._means] for name in self.specs}
        return contrast_weights(self.kind, _labels(cells))

    @property
    def _contrast_cells(self) -> dict[str, np.ndarray]:
        names = self._weights[0]
        first = [i * self._means for i in range(self.groups)]
        cells: dict[str, np.ndarray] = {"contrast": np.array(names * self.groups, dtype=object)}
        return cells | {name: np.repeat(self.cells[name][first], len(names)) for name in self.by}

    @cached_property
    def _contrast_estimates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        C = np.kron(np.eye(self.groups), self._weights[1])
        return self._estimates(_product(C, self.L), _product(C, self.offset))

    def _estimates(
        self, L: np.ndarray, offset: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Estimates, standard errors and degrees of freedom of L beta + offset."""
        kept = self.fit.estimates.fixed_kept
        usable, own = openness_of(self.fit).estimable(L), np.where(kept, L, 0.0)
        vcov = self.method.vcov[np.ix_(kept, kept)]
        estimate = own[:, kept] @ self.fit.estimates.beta[kept] + offset
        se = np.sqrt(np.einsum("ij,jk,ik->i", own[:, kept], vcov, own[:, kept]))
        df = self.method.df(own)
        return tuple(np.where(usable, values, np.nan) for values in (estimate, se, df))  # type: ignore[return-value]

    def _adjust_notes(self) -> list[str]:
        count = len(self._weights[0])
        if count < 2:
            return []
        if self.adjust == "none":
            return [f"p-values: not adjusted for {count} tests"]
        family = f"{count} tests"
        if self.adjust == "tukey":
            family = f"comparing a family of {self._means} estimates"
        each = f" in each level of {', '.join(self.by)}" if self.by else ""
        return [f"p-values: adjusted, {self.adjust} method for {family}{each}"]


def _product(C: np.ndarray, L: np.ndarray) -> np.ndarray:
    """C L, exactly zero where the sum is nothing but rounding."""
    product = C @ L
    product[np.abs(product) <= ROUNDING * (np.abs(C) @ np.abs(L))] = 0.0
    return np.asarray(product)


def _frame(columns: dict[str, np.ndarray]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns)


def _paper(frame: pd.DataFrame, n_left: int) -> _tables.Table:
    """A table of means or contrasts as text."""
    se = frame["SE"].to_numpy()
    columns: dict[str, Sequence[str]] = {
        str(name): _cells(str(name), frame[name].to_numpy(), se, position < n_left)
        for position, name in enumerate(frame.columns)
    }
    return _tables.Table(tuple(columns), tuple(zip(*columns.values(), strict=True)), n_left)


def _cells(name: str, values: np.ndarray, se: np.ndarray, label: bool) -> list[str]:
    if label:
        return [text(value) for value in values]
    if name == "df":
        return _tables.df_cells(values)
    if name in ("t", "z"):
        return statistic_cells(values)
    if name == "p":
        return [_tables.p_value(p) for p in values]
    return _tables.column(values, by=se)


def _labels(cells: dict[str, np.ndarray]) -> list[str]:
    """What each mean is called in contrasts; numbers are preceded by their variable."""
    parts = [[_label(name, value) for value in values] for name, values in cells.items()]
    return [" ".join(words) for words in zip(*parts, strict=True)]


def _label(name: str, value: Any) -> str:
    label = text(value)
    try:
        float(label)
    except ValueError:
        return label
    return f"{name}{label}"
