"""Joint tests of the interaction contrasts of marginal means: type III without a coding.

References
----------
Conventions are those documented for ``joint_tests`` of R's package emmeans; Yates (1934), *J. Amer.
Statist. Assoc.* 29, for weighted squares of means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ... import tables as _tables
from ...errors import DataError
from ...fit import Fit
from ...typing import Ddf
from ..ddf import METHODS, ddf_of, fit_of, method_of
from ..estimability import openness_of
from ..wald import statistic_cells
from .comparisons import contrast_weights
from .estimates import product
from .grid import Grid, terms_of, text

if TYPE_CHECKING:
    import pandas as pd
else:
    from ...late import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class JointTests(_tables.FrameLike):
    """F tests of `joint_tests`; prints as a table, and may be used as its data frame.

    Attributes
    ----------
    table : DataFrame
        Variables of ``by``, ``term``, ``df1``, ``df2``, ``F``, ``p`` and, where not all contrasts
        are estimable, ``note``.
    by : tuple of str
        Variables within whose levels effects are tested.
    ddf : str
        Degrees of freedom of the denominator.
    """

    table: pd.DataFrame
    by: tuple[str, ...]
    ddf: str

    def to_frame(self) -> pd.DataFrame:
        """A copy of ``table``.

        Returns
        -------
        pandas.DataFrame
        """
        return self.table.copy()

    def summary(self) -> _tables.Summary:
        """The tests on paper.

        Returns
        -------
        Summary
        """
        cells = {name: _printed(name, self.table[name]) for name in map(str, self.table)}
        if "note" in cells:
            cells["note"] = ["*" if note else "" for note in cells["note"]]
        names = {"note": ""}
        header = tuple(names.get(name, name) for name in cells)
        rows = tuple(zip(*cells.values(), strict=True))
        notes = [f"Degrees of freedom: {METHODS[self.ddf]}"]
        found = [note for note in self.table.get("note", ()) if note]
        notes += [f"* {note}" for note in found[:1]]
        title = "Joint tests of contrasts of means:"
        return _tables.Summary(((title, _tables.Table(header, rows, len(self.by) + 1), *notes),))


def _printed(name: str, values: pd.Series) -> list[str]:
    if name == "df1":
        return [_tables.fixed(value, 0) for value in values]
    if name == "df2":
        return _tables.df_cells(values)
    if name == "F":
        return statistic_cells(values.to_numpy())
    return [_tables.p_value(p) for p in values] if name == "p" else [text(own) for own in values]


def joint_tests(
    fit: Fit, *, by: str | Sequence[str] | None = None, ddf: Ddf | None = None
) -> JointTests:
    """F tests of main effects and interactions, from contrasts of equally weighted means.

    Those of ``anova(fit, type="III")`` where every cell has rows; where some are empty, of the
    contrasts that the data determine. Numeric variables are compared one above and one below their
    mean.

    Parameters
    ----------
    fit : Fit
        Of `lmmfast.lmer`, `lmmfast.glmer` or `lmmfast.mmrm`.
    by : str or list of str, optional
        Variables within whose levels effects are tested.
    ddf : {"satterthwaite", "kenward-roger", "kenward-roger-observed", "residual", "z"}
        As for ``Fit.t_test``.

    Returns
    -------
    JointTests
        Prints as a table, is used as its data frame (`to_frame`): variables of `by`, ``term``,
        ``df1``, ``df2``, ``F``, ``p`` and ``note``: what part of the contrasts is estimable where
        not all are.

    Raises
    ------
    DataError
        For variables that are not in the fixed part or a model made from arrays.

    See Also
    --------
    lmmfast.emmeans : The means that are compared.
    lmmfast.anova : The same tests where every cell has rows.

    Examples
    --------
    >>> from lmmfast import datasets, joint_tests, lmer
    >>> fit = lmer("score ~ Machine + (1 | Worker)", datasets.load("Machines"))
    >>> joint_tests(fit)[["term", "df1", "F"]].round(2)
          term  df1     F
    0  Machine    2  87.8
    """
    import pandas as pd

    fit = fit_of(fit)
    ddf = ddf_of(ddf, fit)
    grid = _grid(fit)
    _, within = grid.targets("1", by)
    variables = [n for n, values in grid.values.items() if len(values) > 1 and n not in within]
    terms = _terms_of(fit, variables, within)
    if not terms:
        raise DataError("there is no variable to test besides those of by")
    rows = []
    for cell in _cells(grid, within):
        for names in terms:
            rows.append(cell | _test(fit, ddf, grid, names, within, cell))
    found = pd.DataFrame(rows)
    found = found[found["df1"] > 0].reset_index(drop=True)
    found = found if found["note"].any() else found.drop(columns="note")
    return JointTests(found, tuple(within), ddf)


def _grid(fit: Fit) -> Grid:
    """The usual one, numeric variables at two values around their mean."""
    usual = Grid.of(fit, {})
    at = {
        name: [float(values[0]) - 1, float(values[0]) + 1]
        for name, values in usual.values.items()
        if name not in usual.factors and len(values) == 1
    }
    return Grid.of(fit, at) if at else usual


def _terms_of(fit: Fit, variables: list[str], within: list[str]) -> list[list[str]]:
    """Sets of variables that stand in one term of the formula, without those of by, small first."""
    found: dict[frozenset[str], None] = {}
    for term in terms_of(fit):
        own = [name for name in variables if name in term]
        for size in range(1, len(own) + 1):
            for names in combinations(own, size):
                found[frozenset(names)] = None
    order = {name: i for i, name in enumerate(variables)}
    sets = [sorted(own, key=order.__getitem__) for own in found]
    return sorted(sets, key=lambda own: (len(own), [order[name] for name in own]))


def _cells(grid: Grid, within: list[str]) -> list[dict[str, object]]:
    if not within:
        return [{}]
    cells = grid.cells(within)
    count = len(next(iter(cells.values())))
    return [{name: values[i] for name, values in cells.items()} for i in range(count)]


def _test(
    fit: Fit,
    ddf: str,
    grid: Grid,
    names: list[str],
    within: list[str],
    cell: dict[str, object],
) -> dict[str, object]:
    """One effect in one level of by."""
    L, _, there = grid.averages(names + within, "equal")
    cells = grid.cells(names + within)
    inside = np.ones(len(L), dtype=bool)
    for name, value in cell.items():
        inside &= cells[name] == value
    W: np.ndarray = np.ones((1, 1))
    for name in reversed(names):  # the first varies fastest
        W = np.kron(W, contrast_weights("consec", [str(v) for v in grid.values[name]])[1])
    own, known = L[inside], there[inside]
    usable = ~(np.abs(W[:, ~known]) > 0).any(axis=1)
    C = product(W[usable], own)
    C = C[(np.abs(C) > 0).any(axis=1)]
    estimable = openness_of(fit).estimable(C)
    C = _estimable_part(fit, C) if not estimable.all() else C
    short = "" if estimable.all() and usable.all() else "of the contrasts that the data determine"
    effect = {"term": ":".join(names), "df1": 0, "df2": np.nan, "F": np.nan, "p": np.nan}
    if len(C):
        statistic, rank, df = method_of(fit, ddf).f(np.where(fit.estimates.fixed_kept, C, 0.0))
        effect |= {"df1": rank, "df2": df, "F": statistic, "p": _p(statistic, rank, df)}
    return effect | {"note": short}


def _estimable_part(fit: Fit, C: np.ndarray) -> np.ndarray:
    """Combinations of the rows that no open direction moves."""
    moved = C @ openness_of(fit).directions
    U, values, _ = np.linalg.svd(moved)
    rank = int((values > 1e-8 * max(values.max(initial=0.0), 1e-300)).sum())
    return np.asarray(product(U[:, rank:].T, C))


def _p(statistic: float, rank: int, df: float) -> float:
    from scipy.special import chdtrc, fdtrc

    if np.isnan(statistic) or np.isnan(df):
        return float("nan")
    if np.isinf(df):
        return float(chdtrc(rank, rank * statistic))
    return float(fdtrc(rank, df, statistic))
