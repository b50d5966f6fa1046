"""Which rows of the data a model can use: nothing is missing that it needs, no weight is zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, FormulaError, LmmError
from ..formula.column import Column, first_rows
from ..formula.expressions import Expression, Memory
from ..formula.plan import Plan
from ..formula.vocabulary import FILLING, is_known
from .alignment import aligned
from .columns import Table
from .encode import value_of
from .membership import lacking
from .recipe import numbers_of

Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Used:
    """The rows that are used, and what stateful transforms learn from them."""

    columns: dict[str, Column]
    weights: Column | None
    offset: Column | None  # its name is "" if it was given as an array
    rows: Positions | range
    dropped: dict[str, int]
    memory: Memory

    @property
    def n(self) -> int:
        return len(self.rows)


def used_rows(plan: Plan, table: Table, weights: Any, offset: Any, memory: Memory) -> Used:
    if table.n == 0:
        raise DataError("the data have no rows")
    columns = read_columns(plan, table, memory.scope)
    w = numeric_vector(weights, "weights", table)
    off = numeric_vector(offset, "offset", table)
    own = columns if memory.patsy else needed(plan, columns, table.n, memory)
    complete, dropped = _complete(own, w, off, table.n)
    rows = range(table.n) if complete is None else complete
    if len(rows) == 0:
        raise nothing_left(table.n, dropped, weights if isinstance(weights, str) else "weights")
    if complete is not None and len(rows) < table.n:
        if not memory.patsy:
            for atom in dict.fromkeys(plan.learners):
                _learn(atom, columns, table.n, memory)
        columns = {name: taken(column, complete) for name, column in columns.items()}
        w = None if w is None else w.take(complete)
        off = None if off is None else off.take(complete)
    else:
        atoms = (plan.response, *plan.atoms, *plan.offsets, *plan.besides)
        numbers = {name for atom in atoms for name in atom.names}  # others: grouping factors alone
        columns = {
            name: table.lasting(name, column, copy=name in numbers)
            for name, column in columns.items()
        }
    return Used(columns, w, off, rows, dropped, memory)


def taken(column: Column, rows: Positions) -> Column:
    """The rows of a column; some may be missing where an expression has a value all the same."""
    taken = column.take(rows)
    if column.missing is not None and column.missing[rows].any():
        taken.missing = column.missing[rows]
    return taken.used()


def needed(plan: Plan, columns: dict[str, Column], n: int, memory: Memory) -> dict[str, Column]:
    """What must not be missing: variables, or what an expression makes of them.

    As in R, ``ifelse(is.na(x), 0, x)`` has a value where x has none, and such a row is kept.
    """
    if all(column.missing is None for column in columns.values()):
        return columns
    members, alone = _members(plan)
    found = {name: columns[name] for name in columns if name in alone}
    for bar, atoms in zip(plan.formula.random, plan.groups, strict=True):
        if bar.membership is not None:  # a level may be missing that has no weight
            lacks = lacking(bar.factor, atoms, bar, columns, memory, n)
            found[bar.factor] = Column(
                bar.factor, np.zeros(n), missing=lacks if lacks.any() else None
            )
    for atom in dict.fromkeys(plan.everything):
        if atom.is_name or atom in members:
            continue
        own = {name: columns[name] for name in atom.names if name in columns}
        gaps = [column.missing for column in own.values() if column.missing is not None]
        missing = _still_missing(plan, atom, own, n, memory) if gaps else None
        if missing is None or np.array_equal(missing, np.logical_or.reduce(gaps)):
            found |= own
        else:
            gaps_left = missing if missing.any() else None
            found[atom.label] = Column(atom.label, np.zeros(n), missing=gaps_left)
    return found


def _members(plan: Plan) -> tuple[set[Expression], frozenset[str]]:
    """What factors of rows with several levels are made of, and all other variables."""
    if all(bar.membership is None for bar in plan.formula.random):
        return set(), plan.variables
    members: set[Expression] = set()
    others: set[Expression] = {plan.response, *plan.atoms, *plan.offsets, *plan.besides}
    for bar, atoms in zip(plan.formula.random, plan.groups, strict=True):
        (members if bar.membership is not None else others).update(atoms)
    own = {atom.names[0] for atom in members - others if atom.is_name}
    return members - others, plan.variables - own


def _still_missing(
    plan: Plan, atom: Expression, own: dict[str, Column], n: int, memory: Memory
) -> NDArray[np.bool_] | None:
    """Rows in which an expression of columns with gaps is missing; None when it cannot be told."""
    if not any(call.function in FILLING for call in atom.calls):
        return None
    try:
        if atom in plan.learners:
            _learn(atom, own, n, memory)
        value = value_of(atom, own, memory, n)
    except LmmError:  # told where the rows are used
        return None
    gaps = np.logical_or.reduce([c.missing for c in own.values() if c.missing is not None])
    if isinstance(value, Column):
        return np.asarray(gaps & (value.codes < 0)) if value.codes is not None else None
    bad = [np.isnan(column) for column in value.values() if column.dtype.kind == "f"]
    return np.asarray(gaps & np.logical_or.reduce(bad)) if bad else np.zeros(n, dtype=bool)


def _learn(atom: Expression, columns: Mapping[str, Column], n: int, memory: Memory) -> None:
    """Lets scale(x), poly(x, 2), ... learn as in R: from all rows in which their own variables are.

    Rows are dropped afterwards where another variable is missing.
    """
    if memory.get(atom.label):
        return
    own = {name: columns[name] for name in atom.names if name in columns}
    rows, _ = complete_rows(own, None, None, n)
    value_of(atom, {name: c.take(rows).used() for name, c in own.items()}, memory, len(rows))


def read_columns(plan: Plan, table: Table, scope: Mapping[str, Any]) -> dict[str, Column]:
    """All columns that the formula uses."""
    columns: dict[str, Column] = {}
    for name in plan.names:
        if table.has(name):
            columns[name] = table.column(name)
        elif name in plan.variables or (not is_known(name) and name not in scope):
            raise table.lacks(name, FormulaError, "column")
    return columns


def numeric_vector(given: Any, role: str, table: Table) -> Column | None:
    """weights= or offset= as a numeric column; one given as an array has the name ""."""
    if given is None:
        return None
    if isinstance(given, str):
        if not table.has(given):
            raise table.lacks(given, DataError, f"the column for {role}")
        column = table.column(given)
        numbers_of(column, role)
        return column
    column = table.beside(role, aligned(given, table.index, role))
    numbers_of(column, role)
    return Column("", column.values, missing=column.missing)


def complete_rows(
    columns: Mapping[str, Column], weights: Column | None, offset: Column | None, n: int
) -> tuple[Positions, dict[str, int]]:
    """Rows without missing values and with a weight, and how many rows each variable costs."""
    rows, dropped = _complete(columns, weights, offset, n)
    return np.arange(n) if rows is None else rows, dropped


def _complete(
    columns: Mapping[str, Column], weights: Column | None, offset: Column | None, n: int
) -> tuple[Positions | None, dict[str, int]]:
    """The same; None for all rows."""
    missing = {name: column.missing for name, column in columns.items()}
    for role, given in (("weights", weights), ("offset", offset)):
        if given is not None:
            missing[given.name or role] = given.missing
    if weights is not None and weights.values is not None:
        missing["weights == 0"] = _zero_weights(weights.values, weights.name or "weights")
    masks = {name: mask for name, mask in missing.items() if mask is not None}
    if not masks:
        return None, {}
    dropped = {name: int(mask.sum()) for name, mask in masks.items()}
    return np.flatnonzero(~np.logical_or.reduce(list(masks.values()))), dropped


def nothing_left(n: int, dropped: Mapping[str, int], weights: str | None) -> DataError:
    """The error for data of n rows in which something is missing everywhere."""
    if dropped.get("weights == 0") == n:
        return DataError(f"all weights {weights!r} are 0: no rows are left", variable=weights)
    worst = ", ".join(f"{name} in {count}" for name, count in dropped.items())
    return DataError(f"no rows are left: of {n} rows, missing are {worst}")


def _zero_weights(weights: NDArray[Any], name: str) -> NDArray[np.bool_] | None:
    negative = weights < 0
    if negative.any():
        raise DataError(
            f"weights {name!r} are negative in {first_rows(negative)}: weights are 0 or more",
            variable=name,
            rows=np.flatnonzero(negative)[:10].tolist(),
        )
    zero = np.asarray(weights == 0, dtype=bool)
    return zero if zero.any() else None
