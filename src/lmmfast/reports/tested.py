"""What each coefficient of a fit tests, in words: comparisons of levels' means, slopes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..data.encode import Coding, Layout
from ..errors import DataError
from ..formula.column import label_of
from ..formula.hypotheses import hypothesis_text
from ..tables import Printed, Summary, Table, formula_text, wrapped

if TYPE_CHECKING:
    import pandas as pd

    from ..fit import Fit

Factors = frozenset[str]


@dataclass(frozen=True, eq=False, repr=False)
class Tested(Printed):
    """What the coefficients of a fit test.

    Attributes
    ----------
    formula : str
    table : pandas.DataFrame
        ``coefficient``, ``hypothesis`` (what it is of the levels' means, zero under the null
        hypothesis) and ``where``: at which levels and values of other variables of its
        interactions.
    """

    formula: str
    table: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """As ``table``."""
        return self.table.copy()

    def summary(self) -> Summary:
        """The table on paper."""
        columns = ["coefficient", "hypothesis", "where"]
        columns = columns if any(self.table["where"]) else columns[:2]
        rows = tuple(self.table[columns].itertuples(index=False, name=None))
        table = Table(("", *columns[1:]), rows, len(columns))
        said = wrapped(f"Formula: {formula_text(self.formula)}")
        return Summary((("What each coefficient tests:", table, *said),))


def tested(fit: Fit) -> Tested:
    """As ``Labelled.hypotheses`` documents it."""
    import pandas as pd

    recipe = fit.design.recipe
    if recipe is None:
        raise DataError(
            "this model was made from arrays: what its coefficients test is known to who made them"
        )
    words = _Words(recipe.fixed_layout, recipe.codings)
    rows = [(name, *words.of(j)) for j, name in enumerate(recipe.fixed_layout.names)]
    columns = ["coefficient", "hypothesis", "where"]
    return Tested(fit.formula, pd.DataFrame(rows, columns=columns, dtype=object))


class _Words:
    """The coefficients of a layout; what they mean depends on the interactions around them."""

    def __init__(self, layout: Layout, codings: Mapping[str, Coding]) -> None:
        self.layout, self.codings = layout, codings
        self.terms = [frozenset(atom for atom, _, _ in own) for own in layout.columns]

    def of(self, j: int) -> tuple[str, str]:
        """What a coefficient is, and where."""
        factors = self.layout.columns[j]
        own = [(atom, self._levels(atom)[i]) for atom, d, i in factors if self._is_alone(atom, d)]
        at = [f"{atom} = {level}" for atom, level in own]
        compared = [
            self._compared(atom, dummy, i)
            for atom, dummy, i in factors
            if self._is_factor(atom) and not self._is_alone(atom, dummy)
        ]
        slopes = [self._slope(*one) for one in factors if not self._is_factor(one[0])]
        if not compared and not slopes:
            others = dict.fromkeys(atom for term in self.terms for atom in sorted(term))
            return "mean", ", ".join(at + self._places(others, j))
        parts = [f"slope of {' x '.join(slopes)}"] if slopes else []
        if len(compared) > 1:
            parts.append(" x ".join(f"({one})" if " - " in one else one for one in compared))
        else:
            parts += compared
        return ": ".join(parts), ", ".join(at + self._places(self._around(j), j))

    def _places(self, atoms: Iterable[str], j: int) -> list[str]:
        return [self._place(atom) for atom in atoms if atom not in self.terms[j]]

    def _is_alone(self, atom: str, dummy: bool) -> bool:
        """Whether a factor has a column for each level: a coefficient is of one level."""
        return dummy and self._is_factor(atom) and self.codings[atom].full_rank is None

    def _around(self, j: int) -> Iterable[str]:
        """Variables that interact with all of those of a column."""
        own = self.terms[j]
        return dict.fromkeys(atom for term in self.terms if term > own for atom in term - own)

    def _is_factor(self, atom: str) -> bool:
        return self.codings[atom].levels is not None

    def _levels(self, atom: str) -> list[str]:
        levels = self.codings[atom].levels
        assert levels is not None
        return [label_of(level) for level in levels]

    def _weights(self, atom: str) -> np.ndarray:
        """Weights of the levels' means in the intercept (first row) and the coefficients."""
        contrast = self.codings[atom].contrast
        assert contrast is not None
        C = contrast[:-1]
        return np.linalg.pinv(np.column_stack([np.ones(len(C)), C]))

    def _compared(self, atom: str, dummy: bool, j: int) -> str:
        whole = self.codings[atom].full_rank
        if dummy and whole is not None:  # patsy's, with a column for the constant
            return hypothesis_text(np.linalg.pinv(whole[:-1])[j], self._levels(atom))
        return hypothesis_text(self._weights(atom)[j + 1], self._levels(atom))

    def _slope(self, atom: str, dummy: bool, j: int) -> str:
        return self.codings[atom].fields(dummy)[j]

    def _place(self, atom: str) -> str:
        """Where another variable of an interaction is: at zero, at a level, at a mean."""
        if not self._is_factor(atom):
            return f"{atom} = 0"
        labels, weights = self._levels(atom), self._weights(atom)[0]
        alone = np.flatnonzero(np.abs(weights) > 1e-9)
        if len(alone) == 1:
            return f"{atom} = {labels[alone[0]]}"
        text = hypothesis_text(weights, labels)
        return f"mean over {atom}" if text == "mean of all" else f"{atom}: {text}"
