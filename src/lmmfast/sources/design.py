"""The design of a model whose rows are not in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.checks import check_levels
from ..data.design import Design, RandomTerm
from ..data.grouping import Grouping
from ..data.recipe import Recipe
from ..formula.column import Column
from .absent import Absent, AbsentCodes, AbsentColumns
from .cross import CrossProducts
from .spec import Spec

__all__ = ["Variable", "design_of"]


class Variable(Column):
    """A variable of the fixed part of which only the values are known, not where they stand."""

    __slots__ = ("_distinct", "_mean")

    def __init__(
        self,
        name: str,
        levels: NDArray[Any] | None,
        numeric: bool,
        ordered: bool,
        mean: float,
        n: int,
    ) -> None:
        rows: Any = Absent(f"the variable {name!r}", (n,))
        if numeric:
            super().__init__(name, rows)
        else:
            super().__init__(name, None, rows, levels, ordered)
        self._distinct, self._mean = levels, mean

    def __reduce__(self) -> tuple[Any, ...]:
        own = self.values if self.values is not None else self.codes
        assert own is not None
        numeric = self.values is not None
        return Variable, (self.name, self._distinct, numeric, self.ordered, self._mean, len(own))

    def copy(self) -> Column:
        """Itself: it has no rows."""
        return self

    def distinct(self) -> NDArray[Any]:
        """The distinct values; where they are many and not known, more than a factor may have."""
        if self._distinct is not None:
            return self._distinct
        return np.arange(20_000)  # more than any predictor has levels

    def mean(self) -> float:
        """The mean over the rows."""
        return self._mean


def design_of(cross: CrossProducts) -> Design:
    """The design of cross-products: names, levels and the recipe for new data.

    Raises
    ------
    DataError
        When there are no rows, or digits were lost by taking rows away, or a grouping factor has
        one level.
    """
    cross.check_digits()
    cross.note_late_columns()
    cross, groupings = cross.settled()
    spec, n = cross.spec, cross.n
    by_label = {grouping.label: grouping for grouping in groupings}
    terms = _terms(spec, by_label, n)
    low, high = cross._weights
    check_levels(terms, np.array([low, high]) if spec.weights else None, n)
    has_offset = bool(spec.plan.offsets) or spec.offset is not None
    p = len(spec.fixed.names)
    rows: dict[str, Any] = {
        "y": Absent("the response", (n,)),
        "X": AbsentColumns("the fixed-effects columns", n, -1, np.eye(p)),
        "weights": Absent("the weights", (n,)) if spec.weights else None,
        "offset": Absent("the offset", (n,)) if has_offset else None,
        "rows": Absent("the positions of the rows", (n,)),
    }
    return Design(
        formula=spec.formula,
        response=spec.plan.formula.response,
        x_names=spec.fixed.names,
        terms=terms,
        index=None,
        n_rows=cross.n_rows,
        dropped=dict(cross.dropped),
        recipe=_recipe(spec, by_label),
        variables=_variables(cross),
        cross=cross,
        **rows,
    )


def _terms(spec: Spec, groupings: dict[str, Grouping], n: int) -> tuple[RandomTerm, ...]:
    codes: dict[str, Any] = {
        label: AbsentCodes(f"the levels of {label!r}", n, k)
        for k, (label, _) in enumerate(spec.factors)
    }
    out = []
    for i, (bar, layout) in enumerate(zip(spec.plan.formula.random, spec.random, strict=True)):
        z: Any = AbsentColumns(f"the columns of ({bar.label})", n, i, np.eye(len(layout.names)))
        levels = groupings[bar.factor].levels
        out.append(
            RandomTerm(
                bar.label, bar.factor, layout.names, codes[bar.factor], levels, z, bar.structure
            )
        )
    return tuple(out)


def _recipe(spec: Spec, groupings: dict[str, Grouping]) -> Recipe:
    plan = spec.plan
    return Recipe(
        codings=spec.codings,
        fixed_layout=spec.fixed,
        random_layouts=spec.random,
        groupings=tuple(groupings[bar.factor] for bar in plan.formula.random),
        offset_terms=plan.offsets,
        offset=spec.offset,
        offset_is_array=False,
        names=_data_names(spec),
        memory=spec.memory,
        weights=spec.roles.weights,
    )


def _data_names(spec: Spec) -> frozenset[str]:
    """Names in the formula that are columns: all but constants and functions."""
    from ..formula.vocabulary import is_known

    plan = spec.plan
    known = spec.variables.keys() | spec.taught.keys() | plan.variables
    return frozenset(name for name in plan.names if name in known or not is_known(name))


def _variables(cross: CrossProducts) -> dict[str, Column]:
    return {
        name: Variable(
            name,
            known.levels,
            known.numeric,
            known.ordered,
            cross.mean(name) if known.numeric else 0.0,
            cross.n,
        )
        for name, known in cross.spec.variables.items()
    }
