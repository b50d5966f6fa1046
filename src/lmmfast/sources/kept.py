"""The design of a generalized model of a source: rows are read twice, the columns they need stay.

The first pass finds levels and counts rows, the second one fills the columns of all rows. From then
on the design is that of data in memory, whose arrays the system may have put on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

from .. import memory
from ..data.design import Design, Streamed, random_terms
from ..data.encode import Values
from ..data.fixed import fixed_columns
from ..data.responses import answer_of
from ..data.rows import Rows
from ..errors import DataError
from ..formula.column import Column
from .cross import emptied, level_codes
from .design import recipe_of
from .labels import Grouper, Labels
from .part import Part, Roles, part_of
from .source import Chunk, Source, located
from .spec import CHANGED, Spec, surveyed
from .store import Store
from .survey import Survey

MEMORY_SHARE = 0.5  # of the memory that is available, which columns may take and the model beside
BESIDE = 120  # bytes a row that a generalized model has besides its columns (generalized/state.h)


def kept_design(
    formula: str, source: Source, roles: Roles, contrasts: Mapping[str, Any] | None
) -> Design:
    """Two passes over a source.

    Raises
    ------
    FormulaError, DataError
        What is wrong with the model or its data, in which chunk.
    MemoryError
        When neither memory nor the disk has room for the columns.
    """
    spec, survey = surveyed(formula, source, roles, contrasts)
    store = Store(survey.n, _bytes(spec) * survey.n > MEMORY_SHARE * memory.available())
    kept = _Kept(spec, survey, store)
    with closing(source.chunks(spec.names, spec.chunk_rows)) as chunks:
        kept.fill(chunks)
    return kept.design(Streamed(source.name, 2, store.nbytes, store.in_file))


def _bytes(spec: Spec) -> float:
    """Of a row: its columns, and those that the model makes of them."""
    numbers = len(tuple(spec.plan.everything)) + sum(spec.widths) + spec.border
    return 8.0 * numbers + BESIDE


class _Kept:
    """The columns of a model's rows, while they are read."""

    def __init__(self, spec: Spec, survey: Survey, store: Store) -> None:
        self.spec, self.survey, self.store = spec, survey, store
        self.n = 0  # rows so far
        self.groups = {label: emptied(survey.groups[label]) for label, _ in spec.factors}
        self.shapes: dict[Any, Values] = {}  # of every value, with the rows of a chunk
        known = None if survey.answer is None else survey.answer.labels
        self.answers = Labels() if known is None else known  # of a response that is a factor

    # ---- the second pass -------------------------------------------------------------------------

    def fill(self, chunks: Iterable[Chunk]) -> None:
        """All rows."""
        for chunk in chunks:
            with located(chunk.where, chunk.start):
                part = part_of(self.spec.plan, chunk.table, self.spec.roles)
                if part.n:
                    self._add(part, chunk.start)
        if self.n != self.survey.n:
            raise self._changed(self.n)
        for label, group in self.groups.items():
            same_counts(self.survey.groups[label], group)

    def _add(self, part: Part, start: int) -> None:
        spec, store, at = self.spec, self.store, self.n
        if at + part.n > self.survey.n:
            raise self._changed(at + part.n)
        values = spec.values(part, CHANGED)
        for label, value in values.items():
            self._put(("atom", label), value)
        for name in spec.variables:
            if name not in values:
                self._put(("variable", name), self._variable(name, part))
        self._put("answer", self._answer(part))
        for label, group in self.groups.items():
            codes = level_codes(spec, group, part)
            group.count(codes)
            store.put(("level", label), at, codes)
        offset = part.offset(spec.memory)
        for name, numbers in (("weights", part.weights), ("offset", offset)):
            if numbers is not None:
                store.put(name, at, np.asarray(numbers, np.float64))
        if self.survey.n < self.survey.n_rows:
            store.put("position", at, start + part.rows)
        self.n = at + part.n

    def _put(self, key: Any, value: Values) -> None:
        self.shapes.setdefault(key, value)
        if isinstance(value, Column):
            self.store.put((key, "codes"), self.n, value.codes)
            return
        for suffix, numbers in value.items():
            self.store.put((key, suffix), self.n, np.asarray(numbers))

    def _variable(self, name: str, part: Part) -> Values:
        """A variable that stands in expressions alone."""
        column = part.columns.get(name, part.offset_column)
        if column is None:
            raise DataError(f"the rows have no column {name!r}, which the model has")
        if column.values is not None:
            return {"": column.values}
        levels = self.spec.variables[name].levels
        places = self.spec.variables[name].places
        assert levels is not None
        return column.recoded([places.get(one, -1) for one in column.levels.tolist()], levels)

    def _answer(self, part: Part) -> Values:
        """The response; of a factor in the levels of all rows."""
        value = part.answer()
        if not isinstance(value, Column):
            return value
        found = self.answers.find(value.levels, value.declared, grow=False)
        if (found < 0).any():
            label = self.spec.plan.formula.response
            raise DataError(f"the response {label!r} has other levels{CHANGED}", variable=label)
        return replace(value, codes=found[value.codes], levels=self.answers.array())

    def _changed(self, n: int) -> DataError:
        return DataError(
            f"the data changed between the two passes: {self.survey.n} rows could be used in the "
            f"first, {n} or more in the second; give a source that yields the same rows each time"
        )

    # ---- all rows --------------------------------------------------------------------------------

    def value(self, key: Any) -> Values:
        """A value, of all rows."""
        shape = self.shapes[key]
        if isinstance(shape, Column):
            return replace(shape, codes=self.store[key, "codes"])
        return {suffix: self.store[key, suffix] for suffix in shape}

    def design(self, reading: Streamed) -> Design:
        """The design, once all rows are there."""
        spec, survey, store = self.spec, self.survey, self.store
        plan, n, kind = spec.plan, survey.n, spec.roles.kind
        assert kind is not None
        positions = range(n) if survey.n == survey.n_rows else store["position"]
        weights, offset = store.get("weights"), store.get("offset")
        response = plan.formula.response
        answer = answer_of(kind, response, self._whole_answer(), weights, positions)
        if answer.weights is not weights:
            weights = self._put_away("trials", answer.weights)
        if answer.outcome.classes:
            spec = replace(spec, fixed=spec.fixed.without_constant())
        values = {atom.label: self.value(("atom", atom.label)) for atom in plan.atoms}
        groupings = {
            label: (group.grouping()[0], store["level", label])
            for label, group in self.groups.items()
        }
        terms = random_terms(plan, spec.random, groupings, spec.codings, values, {})
        return Design(
            formula=spec.formula,
            response=response,
            x_names=spec.fixed.names,
            fixed=fixed_columns(n, spec.fixed, spec.codings, values),
            terms=tuple(terms),
            sums=Rows(self._put_away("y", answer.y), weights, offset, positions, None),
            n_rows=survey.n_rows,
            dropped=dict(survey.dropped),
            recipe=recipe_of(spec, {label: own for label, (own, _) in groupings.items()}),
            variables=dict(self._variables()),
            outcome=answer.outcome,
            reading=reading,
        )

    def _put_away(self, name: str, numbers: Any) -> Any:
        """Numbers of all rows, where the others are."""
        if not self.store.in_file:
            return numbers
        self.store.put(name, 0, numbers)
        return self.store[name]

    def _whole_answer(self) -> Values:
        """The response of all rows, a factor's levels in the order of data in memory."""
        value, kind = self.value("answer"), self.survey.answer
        if not isinstance(value, Column):
            return value
        assert kind is not None
        rank, levels = self.answers.rank(), self.answers.array()
        order = np.argsort(rank)
        own = replace(
            value,
            codes=rank.astype(np.int32)[value.codes],
            levels=levels[order],
            ordered=kind.ordered,
            declared=None if self.answers.declared is None else levels[order],
        )
        return own

    def _variables(self) -> Iterator[tuple[str, Column]]:
        """The variables of the fixed part and of offsets."""
        for name, known in self.spec.variables.items():
            key = ("atom", name) if ("atom", name) in self.shapes else ("variable", name)
            value = self.value(key)
            if isinstance(value, Column):
                yield name, replace(value, name=name, ordered=known.ordered)
            else:
                yield name, Column(name, next(iter(value.values())), lasting=True)


def same_counts(known: Grouper, found: Grouper) -> None:
    """Levels in final order have as many rows in the second pass as they had in the first."""
    own = known.arranged(known.grouping()[1])
    other = np.flatnonzero(own.counts != found.counts)
    if not len(other):
        return
    first = other[0]
    raise DataError(
        f"the data changed between the two passes: {found.label!r} {own.names(other[:1])[0]} has "
        f"{own.counts[first]} rows in the first, {found.counts[first]} in the second; give a "
        "source that yields the same rows each time",
        variable=found.label,
    )
