"""The design of a model whose rows are not in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..data.checks import check_levels
from ..data.design import Design
from ..data.grouping import Grouping
from ..data.recipe import Recipe
from ..data.term_structure import structure_of
from ..data.terms import RandomTerm
from ..formula.column import Column
from ..formula.vocabulary import is_known
from .columns import StreamColumns
from .cross import CrossProducts
from .spec import Spec
from .strata import StratifiedProducts
from .sums import StreamSums, Variable


def design_of(cross: CrossProducts) -> Design:
    """The design of cross-products: names, levels and the recipe for new data."""
    cross.check_digits()
    cross.note_late_columns()
    cross, groupings = cross.settled()
    spec, n = cross.spec, cross.n
    by_label = {grouping.label: grouping for grouping in groupings}
    terms = _terms(cross, by_label)
    low, high = cross._weights
    check_levels(terms, np.array([low, high]) if spec.weights else None, n)
    return Design(
        formula=spec.formula,
        response=spec.plan.formula.response,
        x_names=spec.fixed.names,
        fixed=StreamColumns(cross, -1, np.eye(len(spec.fixed.names))),
        terms=terms,
        sums=StreamSums(cross),
        n_rows=cross.n_rows,
        dropped=dict(cross.dropped),
        recipe=recipe_of(spec, by_label),
        variables=_variables(cross),
    )


def stratified_design_of(cross: StratifiedProducts) -> Design:
    """The same with strata of the rows."""
    residual, strata = cross.finish()
    made = design_of(cross.plain())
    sums: Any = made.sums
    return replace(made, residual=residual, sums=StreamSums(sums.cross, strata))


def _terms(cross: CrossProducts, groupings: dict[str, Grouping]) -> tuple[RandomTerm, ...]:
    spec = cross.spec
    return tuple(
        RandomTerm(
            bar.label,
            bar.factor,
            layout.names,
            groupings[bar.factor].levels,
            bar.structure,
            StreamColumns(cross, i, np.eye(len(layout.names))),
            structure_of(bar, layout, spec.codings),
        )
        for i, (bar, layout) in enumerate(zip(spec.plan.formula.random, spec.random, strict=True))
    )


def recipe_of(spec: Spec, groupings: dict[str, Grouping]) -> Recipe:
    """How new data are encoded."""
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
        )
        for name, known in cross.spec.variables.items()
    }
