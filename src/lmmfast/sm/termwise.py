"""Wald tests of the terms of the fixed effects, as statsmodels' ``wald_test_terms``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..inference.wald import WaldTest

if TYPE_CHECKING:
    import pandas as pd

    from ..data.design import Design
    from .original import ModelSpec


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

    @property
    def col_names(self) -> list[str]:
        """statsmodels' titles of the columns."""
        return ["chi2", "P>chi2", "df constraint"]

    def summary_frame(self) -> pd.DataFrame:
        """The table under statsmodels' titles."""
        return self.table.rename(columns=dict(zip(self.table.columns, self.col_names, strict=True)))

    def __str__(self) -> str:
        return str(self.summary_frame())

    __repr__ = __str__


def wald_test_terms(
    design: Design,
    spec: ModelSpec | None,
    wald_test: Callable[[Any], WaldTest],
    skip_single: bool,
    extra_constraints: Sequence[Any],
    combine_terms: Sequence[str],
) -> TermTests:
    """As ``MixedLMResults.wald_test_terms`` documents it."""
    import pandas as pd

    names = list(design.x_names)
    slices = (
        {name: slice(j, j + 1) for j, name in enumerate(names)}
        if spec is None
        else (spec.term_name_slices)
    )
    identity = np.eye(len(names))
    rows = [
        (name, identity[columns])
        for name, columns in slices.items()
        if not (skip_single and len(names[columns]) == 1)
    ]
    for part in combine_terms:
        found = [identity[columns] for name, columns in slices.items() if part in name]
        if not found:
            raise ValueError(f"combine_terms: no term contains {part!r}: {', '.join(slices)}")
        rows.append((part, np.vstack(found)))
    rows += [
        constraint if _is_named(constraint) else (str(constraint), constraint)
        for constraint in extra_constraints
    ]
    tests = [wald_test(constraint) for _, constraint in rows]
    numbers = [(float(t.statistic), float(t.pvalue), int(t.df_num)) for t in tests]
    titles = ["statistic", "pvalue", "df_constraint"]
    return TermTests(pd.DataFrame(numbers, index=[name for name, _ in rows], columns=titles))


def _is_named(constraint: Any) -> bool:
    """Whether it is a name and a matrix, as statsmodels has it."""
    return isinstance(constraint, tuple) and isinstance(constraint[0], str)
