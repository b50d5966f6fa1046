"""The design with the values of some variables taken from other rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..data.columns import Table
from ..data.design import Design
from ..data.grouping import combine, factors_of
from ..data.rows import RowColumns
from ..data.terms import RandomTerm
from ..data.usable import taken
from ..errors import DataError
from ..formula.column import Column
from ..tables import joined


@dataclass(frozen=True, eq=False)
class Shuffled:
    """A design, and the columns of the data that it is made of, in the rows that it uses."""

    design: Design
    columns: dict[str, Column]
    variables: tuple[str, ...]  # those that are shuffled

    @classmethod
    def of(cls, design: Design, table: Table, variables: Sequence[str]) -> Shuffled:
        """Of a table that the design was just made of."""
        recipe = design.recipe
        assert recipe is not None
        known = [name for atom in recipe.offset_terms for name in atom.names]
        roles = {"offset": [recipe.offset, *known], "weights": [recipe.weights]}
        for name, role in ((name, role) for name in variables for role in roles):
            if name in roles[role]:
                raise DataError(f"{name!r} is shuffled, but it is in the {role} too", variable=name)
        rows = design.rows
        columns = {name: taken(table.column(name), rows) for name in sorted(recipe.names)}
        return cls(design, columns, tuple(variables))

    @property
    def words(self) -> str:
        """The variables, in words."""
        return joined(self.variables)

    def values(self) -> np.ndarray:
        """(n,): numbers 0, ..., k - 1 of the distinct joint values of the variables."""
        found = np.zeros(self.design.n, dtype=np.int64)
        for name in self.variables:
            codes = self.columns[name].as_factor().codes
            found = np.unique(found * (int(codes.max()) + 1) + codes, return_inverse=True)[
                1
            ].ravel()
        return found

    def columns_of(self) -> np.ndarray:
        """(p,): which fixed-effects columns are made of the variables."""
        recipe = self.design.recipe
        assert recipe is not None
        atoms = recipe.fixed_layout.atoms
        touched = {atom.label for atom in atoms if self._is_in([atom])}
        return np.array(
            [any(label in touched for label, *_ in own) for own in recipe.fixed_layout.columns]
        )

    def design_at(self, source: np.ndarray) -> Design:
        """The design in which each row has the variables of another, by its number (n)."""
        changed = {name: self.columns[name].take(source) for name in self.variables}
        table = Table.of_columns(self.columns | changed, self.design.n)
        recipe = self.design.recipe
        assert recipe is not None
        X = recipe.fixed(table)[0]
        made = self.design.with_rows(fixed=RowColumns(X))
        return replace(made, terms=self._terms(table), variables={})

    def _terms(self, table: Table) -> tuple[RandomTerm, ...]:
        """The random terms, of which those that have the variables are new."""
        recipe, terms = self.design.recipe, self.design.terms
        assert recipe is not None
        touched = [self._is_in(layout.atoms) for layout in recipe.random_layouts]
        matrices = recipe.random_columns(table) if any(touched) else []
        factors: dict[str, tuple[Any, Any]] = {}
        made = []
        for i, term in enumerate(terms):
            grouping, changes = recipe.groupings[i], {}
            codes = term.codes
            if self._is_in(grouping.atoms):
                if grouping.label not in factors:
                    factors[grouping.label] = self._factor(grouping, table)
                own, codes = factors[grouping.label]
                changes["levels"] = own.levels
            elif not touched[i]:
                made.append(term)
                continue
            made.append(term.with_rows(codes, matrices[i] if touched[i] else term.z, **changes))
        return tuple(made)

    def _factor(self, grouping: Any, table: Table) -> tuple[Any, Any]:
        """A grouping factor of other values: its levels are other combinations."""
        recipe = self.design.recipe
        assert recipe is not None
        columns = {name: table.column(name) for name in self.columns}
        parts = factors_of(grouping.label, grouping.atoms, columns, recipe.memory, self.design.n)
        return combine(grouping.label, grouping.atoms, [part.used() for part in parts])

    def _is_in(self, atoms: Sequence[Any]) -> bool:
        return any(name in self.variables for atom in atoms for name in atom.names)
