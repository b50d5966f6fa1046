"""One chunk of rows: the columns that a formula uses, the rows that can be used, their values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.columns import Table
from ..data.design import evaluated, response_of, total_offset
from ..data.encode import Values, check_finite, value_of
from ..data.grouping import factors_of
from ..data.recipe import numbers_of
from ..data.usable import complete_rows, needed, numeric_vector, read_columns, taken
from ..errors import DataError, FormulaError, LmmError
from ..formula.column import Column
from ..formula.expressions import Expression, Memory
from ..formula.plan import Plan, plan_of
from ..formula.residual import Dispersion, dispersion_of
from ..formula.vocabulary import is_known, looks_at_other_rows

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Roles:
    """Columns with a role besides the formula."""

    weights: str | None = None
    offset: str | None = None
    kind: str | None = None  # of the response of a generalized model (see `Outcome`)
    dispersion: str | None = None  # strata of the residuals, as `lmer` takes them

    @classmethod
    def of(cls, weights: Any, offset: Any, kind: str | None = None) -> Roles:
        """The names of columns; values are refused."""
        for role, given in (("weights", weights), ("offset", offset)):
            if given is not None and not isinstance(given, str):
                raise DataError(
                    f"{role} of a stream must be the name of a column, not a "
                    f"{type(given).__name__}: put the values beside the data",
                    variable=role,
                )
        return cls(weights, offset, kind)

    @property
    def strata(self) -> Dispersion | None:
        """The strata of the residuals, read."""
        return None if self.dispersion is None else dispersion_of(self.dispersion)

    def plan(self, formula: str) -> Plan:
        """What a formula and these need."""
        strata = self.strata
        return plan_of(formula).beside(() if strata is None else strata.atoms)

    def names(self, plan: Plan) -> list[str]:
        """All columns that a model needs."""
        extra = [name for name in (self.weights, self.offset) if name is not None]
        return [*plan.names, *extra]


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of a chunk that a model uses."""

    plan: Plan
    columns: dict[str, Column]  # as read, rows with a missing value left out
    weights: Matrix | None  # (n,), positive
    given_offset: Matrix | None  # (n,): the column ``offset=``, without terms ``offset()``
    rows: NDArray[np.int64]  # (n,): positions in the chunk
    n_rows: int  # rows of the chunk
    dropped: dict[str, int]
    offset_column: Column | None

    @property
    def n(self) -> int:
        """Rows that are used."""
        return len(self.rows)

    def values(self, atoms: Iterable[Expression], memory: Memory) -> dict[str, Values]:
        """Variables and expressions of the formula, checked to be finite."""
        out: dict[str, Values] = {}
        for atom in atoms:
            if atom.label not in out:
                out[atom.label] = value_of(atom, self.columns, memory, self.n)
                if not atom.is_name:
                    check_finite(out[atom.label], atom.label, self.rows)
        return out

    def factors(self, label: str, atoms: Sequence[Expression], memory: Memory) -> list[Column]:
        """The factors whose combinations are a grouping factor."""
        return factors_of(label, atoms, self.columns, memory, self.n)

    def response(self, memory: Memory) -> Matrix:
        """The response (n)."""
        return response_of(self.plan, self.columns, memory, self.rows)

    def answer(self) -> Values:
        """The response of a generalized model, whatever it is; nothing is learned from its rows."""
        return evaluated(self.plan.response, self.columns, Memory(), self.rows)

    def offset(self, memory: Memory) -> Matrix | None:
        """Sum of the column and the terms (n), None when there is neither."""
        return total_offset(self.given_offset, self.plan, self.columns, memory, self.rows)


def part_of(plan: Plan, table: Table, roles: Roles) -> Part:
    """The rows of a table that a model can use; there may be none."""
    columns = read_columns(plan, table, {})
    w, off = (
        _numeric(name, role, table)
        for name, role in ((roles.weights, "weights"), (roles.offset, "offset"))
    )
    rows, dropped = complete_rows(needed(plan, columns, table.n, Memory()), w, off, table.n)
    if len(rows) < table.n:
        columns = {name: taken(column, rows) for name, column in columns.items()}
        w = None if w is None else w.take(rows)
        off = None if off is None else off.take(rows)
    return Part(
        plan=plan,
        columns=columns,
        weights=None if w is None or not len(rows) else numbers_of(w, "weights"),
        given_offset=None if off is None or not len(rows) else numbers_of(off, "offset"),
        rows=rows,
        n_rows=table.n,
        dropped=dropped,
        offset_column=off,
    )


def add_counts(total: dict[str, int], counts: dict[str, int]) -> None:
    """Adds rows in which each variable is missing, in place."""
    for name, count in counts.items():
        total[name] = total.get(name, 0) + count


def _numeric(name: str | None, role: str, table: Table) -> Column | None:
    """A numeric column by name; one without any value in this chunk says nothing of its kind."""
    if name is not None and table.has(name):
        column = table.column(name)
        if column.missing is not None and column.missing.all():
            return column
    return numeric_vector(name, role, table)


def refuse_state(memory: Memory, plan: Plan, factors: Iterable[str]) -> None:
    """Expressions such as ``scale(x)``, splines, ``mean(x)`` must not learn from a chunk's rows.

    `memory` is what they learned from one. What is learned of the levels of columns that are
    `factors` is learned of all of them.
    """
    known = set(factors)
    for atom in plan.everything:
        learned = {key for state in memory.get(atom.label, {}).values() for key in state}
        if learned & {"levels", "kept"} and not set(atom.names) <= known:
            raise _needs_all_rows(atom)


def _needs_all_rows(atom: Expression) -> FormulaError:
    return FormulaError(
        f"{atom.label} needs all rows at once, but the data come in chunks: compute the column "
        "beforehand and name it in the formula, or write the numbers out, as in "
        "I((x - 3.2) / 1.5)",
        term=atom.label,
    )


def refuse_functions(plan: Plan) -> None:
    """Functions that learn from all rows are refused before any row is read."""
    for atom in plan.everything:
        if looks_at_other_rows(atom.tree, lambda name: not is_known(name)):
            raise _needs_all_rows(atom)


def refuse_unlike_rows(part: Part) -> None:
    """Expressions must give each row the same value whatever rows are beside it.

    ``x - np.mean(x)``, ``np.cumsum(x)`` and the like are refused.
    """
    pieces = np.split(np.arange(part.n), [part.n // 2])
    for atom in part.plan.everything:
        if atom.is_name:
            continue
        memory = Memory()
        try:
            whole = _plain(value_of(atom, part.columns, memory, part.n))
            halves = [
                _plain(value_of(atom, _rows(part.columns, rows), Memory(), len(rows)))
                for rows in pieces
            ]
        except LmmError:  # told where the rows are used
            continue
        if any(memory.get(atom.label, {}).values()):  # what it learns is told by `refuse_state`
            continue
        for j, column in enumerate(whole):
            parts = [own[j] if j < len(own) else column[:0] for own in halves]
            joined = np.concatenate(parts)
            if len(joined) != len(column) or not _equal(joined, column):
                raise _needs_all_rows(atom)


def _rows(columns: dict[str, Column], rows: NDArray[np.int64]) -> dict[str, Column]:
    return {name: column.take(rows) for name, column in columns.items()}


def _plain(value: Values) -> list[NDArray[Any]]:
    """The columns of a value; of a factor its labels."""
    if not isinstance(value, Column):
        return list(value.values())
    assert value.codes is not None and value.levels is not None
    labels = np.array([*map(str, value.levels.tolist()), ""], dtype=object)
    return [labels[value.codes]]


def _equal(one: NDArray[Any], two: NDArray[Any]) -> bool:
    if one.dtype == object or two.dtype == object:
        return bool((one == two).all())
    return bool(np.allclose(one, two, rtol=1e-12, atol=0, equal_nan=True))
