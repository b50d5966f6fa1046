"""Spec: everything about a model but its rows, so that chunks of rows can be encoded alike."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from ..data.checks import check_levels_of_rows, note_double_bars
from ..data.columns import Table
from ..data.design import codings_of
from ..data.encode import Coding, Layout, Values, layout_of
from ..data.rows import Part as Cells
from ..data.rows import multiplied
from ..errors import DataError, FormulaError
from ..formula.column import Column
from ..formula.expressions import Memory
from ..formula.hypotheses import Hypotheses
from ..formula.plan import Plan, plan_of, without_dot
from ..given import Data, IntoDataFrame
from .coordinates import Coordinates, constant_of, coordinates_of
from .learn import Known, values_of, variables_of, with_all_levels
from .libraries import chunks_of, later, partitions, reduced
from .open import is_dask, source_of
from .part import Part, Roles, part_of, refuse_functions
from .records import Writer, write_coding, write_column, write_coordinates, write_layout
from .source import ROWS, Chunk, Source, check_columns, located, rows_for
from .survey import Survey, survey_of

Matrix = NDArray[np.float64]
CHANGED = ": the data changed between the two passes"
SAMPLE = 100_000  # rows that coordinates are learned from
MOST_CELLS = 1_000_000  # combinations of levels of predictors whose rows are counted


@dataclass(frozen=True, eq=False)
class Encoded:
    """Rows of a chunk by what their columns are made of, in the user's columns."""

    part: Part
    response: Matrix  # (n,), without its offset
    fixed: tuple[tuple[Cells, ...], ...]  # of each of p columns, see data/rows.py
    random: list[tuple[tuple[Cells, ...], ...]]  # of each random term

    @property
    def X(self) -> Matrix:
        """The columns of the fixed effects (n, p)."""
        return multiplied(self.fixed, self.part.n)

    def z(self, i: int) -> Matrix:
        """The columns of a random term (n, k)."""
        return multiplied(self.random[i], self.part.n)


@dataclass(frozen=True, eq=False)
class Spec:
    """How rows become numbers: formula, levels of predictors, contrasts and coordinates.

    Made once, by `from_data`, and used for every chunk: cross-products of one spec can be added.
    Levels of grouping factors are not in it, they may differ between chunks.

    Attributes
    ----------
    formula : str
    weights, offset : str or None
        Columns.
    names : tuple of str
        Columns of the data that are needed.

    Examples
    --------
    >>> import lmmfast
    >>> data = lmmfast.datasets.load("sleepstudy")
    >>> spec = lmmfast.Spec.from_data("Reaction ~ Days + (Days | Subject)", data)
    >>> parts = [lmmfast.CrossProducts.from_frame(data[a : a + 60], spec) for a in (0, 60, 120)]
    >>> round(lmmfast.lmer(sum(parts)).objective, 4)
    1743.6283
    """

    formula: str
    roles: Roles
    codings: dict[str, Coding] = field(repr=False)
    fixed: Layout = field(repr=False)
    random: tuple[Layout, ...] = field(repr=False)
    variables: dict[str, Known] = field(repr=False)
    memory: Memory = field(repr=False)
    taught: dict[str, Column] = field(repr=False)  # what the memory was learned from
    coordinates: Coordinates | None = field(repr=False)

    @classmethod
    def from_data(
        cls,
        formula: str,
        data: Data,
        *,
        weights: str | None = None,
        offset: str | None = None,
        contrasts: Mapping[str, str | ArrayLike | IntoDataFrame | Hypotheses] | None = None,
    ) -> Spec:
        """The spec of a model, from its data or from a part that has all levels of the predictors.

        Parameters
        ----------
        formula : str
            In lme4's syntax. Functions that need all rows at once (``scale``, ``poly``, splines)
            are refused.
        data : table, or source
            What `lmer` takes: a table in memory, files, a pyarrow dataset, a DuckDB
            relation, a Dask data frame, a list of frames, a function that returns an iterator of
            frames. Read once for the levels, and from its start again for the coordinates.
        weights, offset : str, optional
            Names of columns.
        contrasts : mapping, optional
            As for `lmer`.

        Returns
        -------
        Spec

        Raises
        ------
        FormulaError, DataError
            What is wrong, in which variable or chunk, and what to do.
        """
        roles = Roles.of(weights, offset)
        dask: Any = data
        if is_dask(dask):
            formula = checked_formula(formula, lambda: map(str, dask.columns))
            return spec_of(formula, data, roles, contrasts)[0]
        source = source_of(data)
        formula = checked_formula(formula, source.columns)
        spec, _ = surveyed(formula, source, roles, contrasts)
        with closing(source.chunks(spec.names, spec.chunk_rows)) as chunks:
            return with_coordinates(spec, sample_of(spec, chunks))

    @property
    def plan(self) -> Plan:
        """What the formula needs."""
        return self.roles.plan(self.formula)

    @property
    def weights(self) -> str | None:
        """Name of the column of weights."""
        return self.roles.weights

    @property
    def offset(self) -> str | None:
        """Name of the column that is an offset."""
        return self.roles.offset

    @property
    def names(self) -> tuple[str, ...]:
        """Columns of the data that are needed, and constants."""
        return tuple(dict.fromkeys(self.roles.names(self.plan)))

    @cached_property
    def factors(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Grouping factors in order of appearance, each with its random terms."""
        found: dict[str, list[int]] = {}
        for i, bar in enumerate(self.plan.formula.random):
            found.setdefault(bar.factor, []).append(i)
        return tuple((label, tuple(terms)) for label, terms in found.items())

    @cached_property
    def widths(self) -> list[int]:
        """Columns of each grouping factor."""
        return [sum(len(self.random[i].names) for i in terms) for _, terms in self.factors]

    @cached_property
    def places(self) -> list[tuple[int, slice]]:
        """Of each random term: its factor, and where its columns are among those of that."""
        found: dict[int, tuple[int, slice]] = {}
        for factor, (_, terms) in enumerate(self.factors):
            ends = np.cumsum([0, *(len(self.random[i].names) for i in terms)]).tolist()
            cuts = map(slice, ends[:-1], ends[1:])
            found |= {i: (factor, cut) for i, cut in zip(terms, cuts, strict=True)}
        return [found[i] for i in range(len(found))]

    @cached_property
    def cuts(self) -> list[slice]:
        """Of each random term: its columns in [z of each factor | X | y]."""
        starts = np.cumsum([0, *self.widths]).tolist()
        return [slice(starts[f] + own.start, starts[f] + own.stop) for f, own in self.places]

    @cached_property
    def owners(self) -> list[NDArray[np.int32]]:
        """Of each grouping factor: the random term of each of its columns."""
        return [
            np.repeat(np.array(terms, np.int32), [len(self.random[i].names) for i in terms])
            for _, terms in self.factors
        ]

    @cached_property
    def compiled(self) -> _core.Coordinates:
        """The coordinates as the compiled core takes them."""
        own = self.coordinates
        assert own is not None
        means = [np.zeros(width) for width in self.widths]
        B = [np.zeros((width, width)) for width in self.widths]
        for (factor, cut), basis in zip(self.places, own.random, strict=True):
            means[factor][cut], B[factor][cut, cut] = basis.mean, basis.B
        fixed, factors = (own.fixed.mean, own.fixed.B), list(zip(means, B, strict=True))
        return _core.Coordinates(factors, fixed, own.slope, own.center, own.yscale, bool(own.shift))

    @property
    def border(self) -> int:
        """Fixed effects and the response."""
        return len(self.fixed.names) + 1

    @property
    def chunk_rows(self) -> int:
        """Rows that are encoded at a time."""
        return rows_for(sum(self.widths) + self.border)

    @cached_property
    def cells(self) -> tuple[tuple[str, ...], tuple[int, ...]] | None:
        """Variables with few values and how many; None when they have too many combinations."""
        few = {
            name: known.levels
            for name, known in self.variables.items()
            if known.levels is not None and self._is_few(name, known)
        }
        sizes = tuple(len(levels) for levels in few.values())
        return (tuple(few), sizes) if np.prod(sizes, dtype=float) <= MOST_CELLS else None

    def _is_few(self, name: str, known: Known) -> bool:
        if not known.numeric or (known.levels is not None and len(known.levels) <= 2):
            return True
        inside = [atom for atom in self.fixed.atoms if set(atom.names) == {name}]
        return any(self.codings[atom.label].levels is not None for atom in inside)

    @cached_property
    def key(self) -> bytes:
        """Equal for specs whose cross-products can be added."""
        writer = Writer()
        digest = hashlib.sha256(repr(self.record(writer)).encode())
        for name in sorted(writer.arrays):
            digest.update(name.encode() + writer.arrays[name].tobytes())
        return digest.digest()

    def record(self, writer: Writer) -> dict[str, Any]:
        """All there is, for files: `archive.unpack` reads it."""
        assert self.coordinates is not None
        return {
            "formula": self.formula,
            "weights": self.roles.weights,
            "offset": self.roles.offset,
            "codings": [write_coding(coding, writer) for coding in self.codings.values()],
            "fixed": write_layout(self.fixed),
            "random": [write_layout(layout) for layout in self.random],
            "variables": {
                name: [writer.labels(known.levels), known.numeric, known.ordered]
                for name, known in self.variables.items()
            },
            "taught": {name: write_column(column, writer) for name, column in self.taught.items()},
            "coordinates": write_coordinates(self.coordinates, writer),
        }

    def __getstate__(self) -> dict[str, Any]:
        """Without what is computed from the rest."""
        names = self.__dataclass_fields__
        return {name: value for name, value in self.__dict__.items() if name in names}

    # ---- rows ------------------------------------------------------------------------------------

    def encode(self, table: Table, hint: str = "") -> Encoded | None:
        """The rows of a table that are used, as numbers; None when there are none.

        `hint` is added to the message about a level that the spec does not have.
        """
        part = part_of(self.plan, table, self.roles)
        if part.n == 0:
            return None
        values, memory = self.values(part, hint), self.memory
        y, offset = part.response(memory), part.offset(memory)
        return Encoded(
            part,
            np.ascontiguousarray(y if offset is None else y - offset, np.float64),
            self.fixed.parts(self.codings, values),
            [layout.parts(self.codings, values) for layout in self.random],
        )

    def values(self, part: Part, hint: str = "") -> dict[str, Values]:
        """What the fixed and random parts are made of, in the levels of the spec."""
        found = part.values(self.plan.atoms, self.memory)
        return {label: self._recoded(label, value, part, hint) for label, value in found.items()}

    def _recoded(self, label: str, value: Values, part: Part, hint: str) -> Values:
        try:
            return self.codings[label].recode(value)
        except DataError as error:
            rows = part.rows[list(error.rows)].tolist()
            raise DataError(f"{error}{hint}", variable=label, rows=rows) from error


def checked_formula(formula: Any, names: Callable[[], Iterable[str]]) -> str:
    """The formula with ``.`` written out; functions that need all rows at once are refused.

    `names` gives the columns of the data, and is called only where there is a ``.``.
    """
    if not isinstance(formula, str):
        raise FormulaError(f"the formula must be text, not {type(formula).__name__}")
    written = without_dot(formula, names)
    plan = plan_of(written)
    refuse_functions(plan)
    check_levels_of_rows(plan, "streams")
    return written


# ---- the first pass -----------------------------------------------------------------------------


def surveyed(
    formula: str, source: Source, roles: Roles, contrasts: Mapping[str, Any] | None
) -> tuple[Spec, Survey]:
    """The spec without coordinates, by one pass over all rows."""
    plan = roles.plan(formula)
    check_columns(source, plan, roles)
    with closing(source.chunks(roles.names(plan))) as chunks:
        survey = survey_of(formula, roles, chunks)
    return learned(survey, contrasts, source.names), survey


def learned(
    survey: Survey, contrasts: Mapping[str, Any] | None, names: Iterable[str] | None = None
) -> Spec:
    """The spec without coordinates, from a survey of all rows."""
    survey.check()
    plan, memory = survey.plan, Memory()
    taught = with_all_levels(survey)
    values = values_of(survey, plan, taught, memory)
    known = set(names or ()) | set(survey.variables)
    codings = codings_of(values, contrasts or {}, known.__contains__)
    note_double_bars(plan, codings)
    return Spec(
        formula=survey.formula,
        roles=survey.roles,
        codings=codings,
        fixed=layout_of(plan.fixed, codings),
        random=tuple(layout_of(part, codings) for part in plan.random),
        variables=variables_of(survey, plan),
        memory=memory,
        taught=taught,
        coordinates=None,
    )


def spec_of(
    formula: str, data: Any, roles: Roles, contrasts: Mapping[str, Any] | None
) -> tuple[Spec, Survey]:
    """The spec of a Dask data frame: one pass over its partitions, then its first rows."""
    from dask.delayed import delayed

    parts = partitions(formula, data, roles)
    survey = reduced(parts, _survey, (formula, roles), _united)
    spec = learned(survey, contrasts, map(str, data.columns))
    for number, part in enumerate(parts):
        shared = delayed(spec, traverse=False)
        sampled: Spec | None = later(_sampled)(shared, part, number).compute()
        if sampled is not None:
            return sampled, survey
    raise DataError(f"no rows can be used{CHANGED}")


def _survey(model: tuple[str, Roles], part: Any, number: int) -> Survey:
    return survey_of(*model, chunks_of(part, number, ROWS))


def _united(surveys: list[Survey]) -> Survey:
    return functools.reduce(Survey.unite, surveys[1:], surveys[0].copy())


def _sampled(spec: Spec, part: Any, number: int) -> Spec | None:
    """The spec with coordinates from the first rows of a partition; None when it has none."""
    first = next(_encoded(spec, chunks_of(part, number, spec.chunk_rows)), None)
    return None if first is None else with_coordinates(spec, [first])


# ---- coordinates --------------------------------------------------------------------------------


def with_coordinates(spec: Spec, sample: list[Encoded]) -> Spec:
    """The spec with coordinates, from a sample."""
    if not sample:
        raise DataError("no rows can be used")
    layouts = (spec.fixed, *spec.random)
    own = coordinates_of(
        np.concatenate([one.X for one in sample]),
        [np.concatenate([one.z(i) for one in sample]) for i in range(len(spec.random))],
        np.concatenate([one.response for one in sample]),
        [constant_of(layout) for layout in layouts],
        # structures are about the user's columns: these are scaled, not rotated
        [bar.structure == "full" and bar.covariance is None for bar in spec.plan.formula.random],
    )
    return replace(spec, coordinates=own)


def sample_of(spec: Spec, chunks: Iterable[Chunk]) -> list[Encoded]:
    """The first rows that can be used, no more chunks than coordinates need."""
    sample: list[Encoded] = []
    for encoded in _encoded(spec, chunks):
        sample.append(encoded)
        if sum(one.part.n for one in sample) >= min(SAMPLE, spec.chunk_rows):
            break
    return sample


def _encoded(spec: Spec, chunks: Iterable[Chunk]) -> Iterator[Encoded]:
    """Chunks as numbers, where they have rows that can be used."""
    for chunk in chunks:
        with located(chunk.where, chunk.start):
            encoded = spec.encode(chunk.table, CHANGED)
        if encoded is not None:
            yield encoded
