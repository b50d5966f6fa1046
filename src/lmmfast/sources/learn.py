"""What a survey of all rows tells of a formula's variables and expressions."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.encode import Values, value_of
from ..errors import DataError
from ..formula.column import Column
from ..formula.expressions import Expression, Memory
from ..formula.factors import relevelled
from ..formula.plan import Plan
from .survey import Survey


@dataclass(frozen=True, eq=False)
class Known:
    """A variable of the fixed part or of offsets."""

    levels: NDArray[Any] | None  # of factors, and of numbers that have few values; None: many
    numeric: bool
    ordered: bool

    @cached_property
    def places(self) -> dict[Any, int]:
        """Number of each level."""
        levels = [] if self.levels is None else self.levels.tolist()
        return {level: i for i, level in enumerate(levels)}


def with_all_levels(survey: Survey) -> dict[str, Column]:
    """Each factor, and each number that is known by its values, once with all of them."""
    out: dict[str, Column] = {}
    for name, kind in survey.variables.items():
        if kind.labels is None:
            continue
        if kind.labels.kind == "flag" and not survey.dropped:
            kind.labels.find(np.array([False, True]))  # as in memory, where no row is missing
        column = kind.labels.column(ordered=kind.ordered)
        assert column.levels is not None
        if kind.numeric:
            values = np.asarray(column.levels)
            out[name] = Column(name, values.astype(float) if values.dtype == object else values)
        else:
            codes = np.arange(len(column.levels), dtype=np.int32)
            out[name] = Column(name, None, codes, column.levels, kind.ordered)
            if kind.labels.declared is not None:  # a category, not text
                out[name].declared = column.levels
    return out


def values_of(
    survey: Survey, plan: Plan, taught: dict[str, Column], memory: Memory
) -> dict[str, Values]:
    """What each variable of the formula is, with all levels in the order of data in memory."""
    numeric = {label for label, kind in survey.expressions.items() if kind.numeric}
    teach(plan, taught, memory, {atom.label for atom in plan.atoms} - numeric)
    out: dict[str, Values] = {}
    for atom in plan.atoms:
        if atom.label in out:
            continue
        if atom.is_name:
            name = atom.names[0]
            is_number = survey.variables[name].numeric
            out[atom.label] = {"": np.zeros(1)} if is_number else taught[name]
        else:
            out[atom.label] = _expression(atom, survey, taught, memory)
    return out


def _expression(
    atom: Expression, survey: Survey, taught: dict[str, Column], memory: Memory
) -> Values:
    kind = survey.expressions.get(atom.label)
    own = _columns_of(atom, survey.variables)
    if len(own) == 1 and own[0] in taught and (kind is None or not kind.numeric):
        return value_of(atom, taught, memory, _size(taught[own[0]]))
    assert kind is not None
    if kind.numeric:
        return {suffix: np.zeros(1) for suffix in kind.suffixes}
    if len(own) == 1 or kind.labels is None:
        raise DataError(
            f"{atom.label} has too many levels for a predictor: is it meant to be numeric, or a "
            f"grouping factor as in (1 | {atom.label})?",
            variable=atom.label,
        )
    column = kind.labels.column(ordered=kind.ordered)
    column.contrasts = kind.contrasts
    order = _order_in_memory(atom, taught, own, memory)
    return column if order is None else relevelled(column, order).used()


_MOST_CELLS = 100_000


def _order_in_memory(
    atom: Expression, taught: dict[str, Column], own: list[str], memory: Memory
) -> list[Any] | None:
    """Levels of an expression of several factors, from all combinations of theirs.

    None when that is not known, or too much: numbers inside, too many combinations.
    """
    factors = [taught[name] for name in own if name in taught and taught[name].values is None]
    sizes = [_size(factor) for factor in factors]
    if len(factors) < len(own) or math.prod(sizes) > _MOST_CELLS:
        return None
    places = np.indices(sizes).reshape(len(sizes), -1)
    columns = {name: f.take(rows) for name, f, rows in zip(own, factors, places, strict=True)}
    value = value_of(atom, columns, memory, places.shape[1])
    return value.levels.tolist() if isinstance(value, Column) else None


def teach(
    plan: Plan, taught: Mapping[str, Column], memory: Memory, factors: Collection[str]
) -> None:
    """Lets expressions of factors learn from all levels what they remember of levels.

    `taught` are columns that have each level once, `factors` the labels of expressions that are
    factors.
    """
    for atom in plan.everything:
        own = [name for name in atom.names if name in taught]
        of_factors = all(taught[name].values is None for name in own)
        columns = {name for name in atom.names if name in taught or name in plan.variables}
        if atom.is_name or not own or set(own) != columns:
            continue
        if not (of_factors or atom.label in factors):
            continue
        n = max(_size(taught[name]) for name in own)
        value_of(atom, {name: _recycled(taught[name], n) for name in own}, memory, n)


def _columns_of(atom: Expression, variables: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(name for name in atom.names if name in variables))


def _size(column: Column) -> int:
    own = column.codes if column.values is None else column.values
    assert own is not None
    return len(own)


def _recycled(column: Column, n: int) -> Column:
    """The column repeated to n rows."""
    return column.take(np.arange(n) % _size(column))


def variables_of(survey: Survey, plan: Plan) -> dict[str, Known]:
    """Variables of the fixed part and of offsets, in the formula's order."""
    atoms = (*plan.fixed.atoms, *plan.offsets)
    names = [name for atom in atoms for name in atom.names if name in survey.variables]
    if survey.roles.offset is not None:
        names.append(survey.roles.offset)
    out: dict[str, Known] = {}
    for name in names:
        kind = survey.variables[name]
        levels = None
        if kind.labels is not None:
            few = not kind.numeric or len(kind.labels) <= 2
            if few or _in_factor(name, survey, plan):
                levels = kind.labels.column().levels
        out[name] = Known(levels, kind.numeric, kind.ordered)
    return out


def _in_factor(name: str, survey: Survey, plan: Plan) -> bool:
    """Whether the fixed part has a factor that is made of this variable alone."""
    return any(
        _columns_of(atom, survey.variables) == [name]
        and not atom.is_name
        and not (atom.label in survey.expressions and survey.expressions[atom.label].numeric)
        for atom in plan.fixed.atoms
    )
