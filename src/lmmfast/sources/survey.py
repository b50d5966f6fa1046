"""The first pass: which rows can be used, what kind each variable is, all levels. Additive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..data.columns import Table
from ..data.design import check_text
from ..data.encode import Values
from ..data.usable import nothing_left
from ..errors import DataError, LmmError
from ..formula.column import Column
from ..formula.expressions import Expression, Memory
from ..formula.plan import Plan
from .labels import Grouper, Labels, check_kinds
from .part import Part, Roles, add_counts, part_of, refuse_state, refuse_unlike_rows
from .source import located

MOST = 10_000  # distinct values of a predictor that are remembered
CHECKED = 3  # chunks in which expressions are checked to be made row by row
FEW = 3  # of a numeric variable that no factor is made of: more than a grid of its values has


@dataclass
class Kind:
    """What is known of a variable or an expression."""

    numeric: bool
    suffixes: tuple[str, ...] = ("",)  # numeric: names of its columns after its own
    labels: Labels | None = None  # levels, or numbers' distinct values unless many or not needed
    most: int = MOST
    ordered: bool = False
    contrasts: Any = None  # what ``C()`` says
    where: str = ""  # the chunk that it was first seen in
    example: str = ""  # a level, for messages

    def unite(self, other: Kind, label: str) -> None:
        """Takes in what is known from other rows; numbers and labels cannot be united."""
        if self.numeric != other.numeric:
            numeric, labelled = (self, other) if self.numeric else (other, self)
            raise DataError(
                f"{label!r} is numeric in {numeric.where}, but has labels such as "
                f"{labelled.example} in {labelled.where}: give it one type in all chunks",
                variable=label,
            )
        self.ordered = self.ordered and other.ordered
        if self.labels is None or other.labels is None:
            self.labels = None
            return
        check_kinds(self.labels, self.where, other.labels, other.where, label)
        declared = self.labels.declared is not None
        orders = self.labels.declared, other.labels.declared
        self.labels.unite(other.labels)
        if self.ordered and orders[0] != orders[1]:
            self.labels.declared = None
        if declared and self.labels.declared is None:  # as in memory: no order is left
            self.ordered = False
        if self.numeric and len(self.labels) > self.most:
            self.labels = None


@dataclass
class Survey:
    """What the first pass finds out about a model's data; surveys of other rows can be added."""

    formula: str
    roles: Roles
    n_rows: int = 0
    n: int = 0  # rows that are used
    dropped: dict[str, int] = field(default_factory=dict)  # rows in which each variable is missing
    # columns of the fixed and random parts and of offsets, and expressions of these
    variables: dict[str, Kind] = field(default_factory=dict)
    expressions: dict[str, Kind] = field(default_factory=dict)
    groups: dict[str, Grouper] = field(default_factory=dict)
    low: float = np.inf  # range of the response; of a generalized model ...
    high: float = -np.inf
    answer: Kind | None = None  # ... what it is
    _checked: int = 0

    @property
    def plan(self) -> Plan:
        """What the formula needs."""
        return self.roles.plan(self.formula)

    def add(self, table: Table, where: str) -> None:
        """The rows of a chunk."""
        part = part_of(self.plan, table, self.roles)
        self.n_rows += part.n_rows
        add_counts(self.dropped, part.dropped)
        if part.n == 0:
            return
        self.n += part.n
        memory = Memory()
        if self._checked < CHECKED and part.n > 1:
            refuse_unlike_rows(part)
            self._checked += 1
        self._add_variables(part, where)
        self._add_expressions(part, memory, where)
        self._add_response(part, memory, where)
        self._add_groups(part, memory, where)
        numeric = {name for name, kind in self.variables.items() if kind.numeric}
        refuse_state(memory, part.plan, part.columns.keys() - numeric)

    def copy(self) -> Survey:
        """A survey of its own."""
        return Survey(self.formula, self.roles).unite(self)

    def unite(self, other: Survey) -> Survey:
        """Takes in a survey of other rows."""
        self.n_rows, self.n = self.n_rows + other.n_rows, self.n + other.n
        add_counts(self.dropped, other.dropped)
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        if other.answer is not None:
            self._meet_answer(other.answer)
        for label, kind in other.variables.items():
            _meet(self.variables, label, kind)
        for label, kind in other.expressions.items():
            _meet(self.expressions, label, kind)
        for label, group in other.groups.items():
            if label in self.groups:
                self.groups[label].unite(group)
            else:
                self.groups[label] = group.copy()
        return self

    def check(self) -> None:
        """Rows are left, the response is not constant, and grouping factors have levels enough."""
        if self.n_rows == 0:
            raise DataError("the data have no rows")
        if self.n == 0:
            raise nothing_left(self.n_rows, self.dropped, self.roles.weights)
        if self.low == self.high:
            response = self.plan.formula.response
            raise DataError(
                f"the response {response!r} is constant ({self.low:g})", variable=response
            )
        for group in self.groups.values():
            group.grouping()
        self._check_text()

    def _check_text(self) -> None:
        """Predictors that are text must not be numbers with a few words among them."""
        for name in dict.fromkeys(atom.label for atom in self.plan.atoms if atom.is_name):
            kind = self.variables[name]
            if not kind.numeric and kind.labels is not None and kind.labels.declared is None:
                own = Column(name, levels=kind.labels.array())
                check_text(own, None, labels=name in self.plan.labelled)

    # ---- parts of a chunk ------------------------------------------------------------------------

    def _add_variables(self, part: Part, where: str) -> None:
        plan = part.plan
        atoms = (*plan.atoms, *plan.offsets)
        # of these, all distinct values are needed: expressions may make factors of them
        inside = {name for atom in atoms if not atom.is_name for name in atom.names}
        names = {name for atom in atoms for name in atom.names if name in part.columns}
        for name in sorted(names):
            most = MOST if name in inside else FEW
            _meet(self.variables, name, _kind(part.columns[name], most, where))
        if part.offset_column is not None:
            kind = _kind(part.offset_column, FEW, where)
            _meet(self.variables, part.offset_column.name, kind)

    def _add_expressions(self, part: Part, memory: Memory, where: str) -> None:
        """Expressions whose kind is not known yet, and those that are factors by themselves."""
        wanted: list[Expression] = []
        for atom in part.plan.atoms:
            known = self.expressions.get(atom.label)
            if atom.is_name or self._is_learned_later(atom, part):
                continue
            if known is None or not known.numeric:
                wanted.append(atom)
        for label, value in part.values(wanted, memory).items():
            _meet(self.expressions, label, _kind(value, 0, where))

    def _is_learned_later(self, atom: Expression, part: Part) -> bool:
        """Whether an expression is a function of a single factor, all of whose levels it needs.

        Those of a number with few values may make a factor of it: they are if they do in a chunk,
        or cannot be evaluated in one that has not all of the values.
        """
        own = {name for name in atom.names if name in part.columns}
        if len(own) != 1:
            return False
        kind = self.variables[own.pop()]
        if not kind.numeric or kind.labels is None:
            return not kind.numeric
        known = self.expressions.get(atom.label)
        if known is not None:
            return not known.numeric
        try:
            value = part.values([atom], Memory())[atom.label]
        except LmmError:
            return True
        return isinstance(value, Column)

    def _add_response(self, part: Part, memory: Memory, where: str) -> None:
        part.offset(memory)
        if self.roles.kind is not None:
            self._meet_answer(_kind(part.answer(), MOST, where))
            return
        y = part.response(memory)
        self.low, self.high = min(self.low, float(y.min())), max(self.high, float(y.max()))

    def _meet_answer(self, kind: Kind) -> None:
        label = self.plan.formula.response
        known = {} if self.answer is None else {label: self.answer}
        _meet(known, label, kind)
        self.answer = known[label]

    def _add_groups(self, part: Part, memory: Memory, where: str) -> None:
        plan = part.plan
        factors = (bar.factor for bar in plan.formula.random)
        for label, atoms in dict(zip(factors, plan.groups, strict=True)).items():
            group = self.groups.setdefault(label, Grouper(label, atoms))
            group.count(group.codes(part.factors(label, atoms, memory), where=where))


def _meet(known: dict[str, Kind], label: str, kind: Kind) -> None:
    if label in known:
        known[label].unite(kind, label)
    else:
        known[label] = replace(kind, labels=None if kind.labels is None else kind.labels.copy())


def _kind(value: Values, most: int, where: str) -> Kind:
    if isinstance(value, Column) and value.values is None:
        assert value.levels is not None
        present = value if value.codes is None else value.used()
        assert present.levels is not None
        labels = Labels()
        labels.find(present.levels, present.declared)
        example = repr(str(present.levels[0])) if len(present.levels) else ""
        return Kind(
            False, (), labels, most, value.ordered, value.contrasts, where=where, example=example
        )
    if isinstance(value, Column):
        return Kind(True, ("",), _distinct(value, most), most, where=where)
    return Kind(True, tuple(value), None, most, where=where)


def _distinct(column: Column, most: int) -> Labels | None:
    """The distinct values of numbers, unless there are many."""
    import pandas as pd

    assert column.values is not None
    present = column.values if column.missing is None else column.values[~column.missing]
    head = pd.unique(present[: 4 * most])
    if len(head) > most:
        return None
    values = head if len(present) <= 4 * most else pd.unique(present)
    if len(values) > most:
        return None
    labels = Labels()
    labels.find(np.asarray(values))
    return labels


def survey_of(formula: str, roles: Roles, chunks: Iterable[Any]) -> Survey:
    """One pass over all chunks."""
    survey = Survey(formula, roles)
    for chunk in chunks:
        with located(chunk.where, chunk.start):
            survey.add(chunk.table, chunk.where)
    return survey
