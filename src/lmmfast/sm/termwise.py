"""Wald tests of the terms of the fixed effects, as statsmodels' ``wald_test_terms``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from ..inference.wald import WaldTest

if TYPE_CHECKING:
    import pandas as pd

    from ..data.design import Design


@dataclass(frozen=True, eq=False)
class TermTests:
    """Tests of terms.

    Attributes
    ----------
    table : DataFrame
        ``statistic``, ``pvalue``, ``df_constraint`` by term.
    distribution : str
        "chi2".
    """

    table: pd.DataFrame
    distribution: str = "chi2"

    @property
    def statistic(self) -> np.ndarray:
        """Chi-squared statistics."""
        return self.table["statistic"].to_numpy()

    @property
    def pvalues(self) -> np.ndarray:
        """Their p-values."""
        return self.table["pvalue"].to_numpy()

    @property
    def df_constraints(self) -> np.ndarray:
        """Numbers of columns that are tested."""
        return self.table["df_constraint"].to_numpy()

    @property
    def dframe(self) -> pd.DataFrame:
        """As `summary_frame`."""
        return self.summary_frame()

    def summary_frame(self) -> pd.DataFrame:
        """The table under statsmodels' titles."""
        titles = {"statistic": "chi2", "pvalue": "P>chi2", "df_constraint": "df constraint"}
        return self.table.rename(columns=titles)

    def __str__(self) -> str:
        return str(self.summary_frame())

    __repr__ = __str__


def wald_test_terms(
    design: Design,
    wald_test: Callable[[Any], WaldTest],
    skip_single: bool,
    extra_constraints: Sequence[Any],
    combine_terms: Sequence[str],
) -> TermTests:
    """As ``MixedLMResults.wald_test_terms`` documents it."""
    import pandas as pd

    terms = _columns_of_terms(design)
    rows: dict[str, WaldTest] = {}
    p = len(design.x_names)
    for name, columns in terms.items():
        if not (skip_single and len(columns) == 1):
            rows[name] = wald_test(np.eye(p)[columns])
    for part in combine_terms:
        columns = [c for name, own in terms.items() if part in name for c in own]
        if not columns:
            raise ValueError(f"combine_terms: no term contains {part!r}")
        rows[part] = wald_test(np.eye(p)[columns])
    for constraint in extra_constraints:
        rows[str(constraint)] = wald_test(constraint)
    numbers = [(float(t.statistic), float(t.pvalue), int(t.df_num)) for t in rows.values()]
    columns_of_table = ["statistic", "pvalue", "df_constraint"]
    return TermTests(pd.DataFrame(numbers, index=list(rows), columns=columns_of_table))


def _columns_of_terms(design: Design) -> dict[str, list[int]]:
    """Columns of the fixed effects by term, in their order."""
    recipe = design.recipe
    if recipe is None:
        raise DataError("wald_test_terms needs a model with a formula, which has terms")
    found: dict[str, list[int]] = {}
    for i, parts in enumerate(recipe.fixed_layout.columns):
        name = ":".join(label for label, _, _ in parts) or "Intercept"
        found.setdefault(name, []).append(i)
    return found
