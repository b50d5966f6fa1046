"""Spec: everything about a model but its rows, so that chunks of rows can be encoded alike."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.checks import note_double_bars
from ..data.columns import Table
from ..data.design import check_contrasts
from ..data.encode import Coding, Layout, Values, coding_of, layout_of, value_of
from ..errors import DataError, FormulaError
from ..formula.column import Column
from ..formula.expressions import Expression, Memory
from ..formula.factors import relevelled
from ..formula.plan import Plan, plan_of, without_dot
from .coordinates import Coordinates, coordinates_of
from .open import is_dask, source_of
from .part import Part, Roles, part_of, refuse_functions
from .source import Chunk, Source, check_columns, located, rows_for
from .survey import Survey, survey_of

__all__ = [
    "Encoded",
    "Known",
    "Spec",
    "checked_formula",
    "constant_of",
    "learned",
    "located_coordinates",
    "sample_of",
]

Matrix = NDArray[np.float64]
CHANGED = ": the data changed between the two passes"
SAMPLE = 100_000  # rows that coordinates are learned from
MOST_CELLS = 1_000_000  # combinations of levels of predictors whose rows are counted


@dataclass(frozen=True, eq=False)
class Known:
    """A variable of the fixed part or of offsets.

    Attributes
    ----------
    levels : array or None
        Of factors, and the distinct values of numbers that have few; None: many.
    numeric, ordered : bool
    """

    levels: NDArray[Any] | None
    numeric: bool
    ordered: bool

    @cached_property
    def places(self) -> dict[Any, int]:
        """Number of each level."""
        levels = [] if self.levels is None else self.levels.tolist()
        return {level: i for i, level in enumerate(levels)}


@dataclass(frozen=True, eq=False)
class Encoded:
    """Rows of a chunk as numbers, in the user's columns.

    Attributes
    ----------
    part : Part
    y : (n,) array
        Offset not subtracted.
    offset : (n,) array or None
    X : (n, p) array
    z : list of (n, k) arrays
        One for each random term.
    """

    part: Part
    y: Matrix
    offset: Matrix | None
    X: Matrix
    z: list[Matrix]

    @property
    def response(self) -> Matrix:
        """The response without its offset (n)."""
        return self.y if self.offset is None else self.y - self.offset


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
        data: Any,
        *,
        weights: str | None = None,
        offset: str | None = None,
        contrasts: Mapping[str, Any] | None = None,
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
        if is_dask(data):
            from .workers import spec_of

            formula = checked_formula(formula, lambda: map(str, data.columns))
            return spec_of(formula, data, roles, contrasts)[0]
        source = source_of(data)
        formula = checked_formula(formula, source.columns)
        spec, _ = surveyed(formula, source, roles, contrasts)
        return located_coordinates(spec, source)

    @property
    def plan(self) -> Plan:
        """What the formula needs."""
        return plan_of(self.formula)

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
        from .files import spec_to

        header, arrays = spec_to(self)
        digest = hashlib.sha256(repr(header).encode())
        for name in sorted(arrays):
            digest.update(name.encode() + arrays[name].tobytes())
        return digest.digest()

    def __getstate__(self) -> dict[str, Any]:
        """Without what is computed from the rest."""
        names = self.__dataclass_fields__
        return {name: value for name, value in self.__dict__.items() if name in names}

    # ---- rows ------------------------------------------------------------------------------------

    def encode(self, table: Table, hint: str = "") -> Encoded | None:
        """The rows of a table that are used, as numbers; None when there are none.

        Parameters
        ----------
        table : Table
        hint : str
            Added to the message about a level that the spec does not have.

        Raises
        ------
        FormulaError, DataError
            What is wrong with the rows.
        """
        part = part_of(self.plan, table, self.roles)
        return self.encode_part(part, hint)

    def encode_part(self, part: Part, hint: str = "") -> Encoded | None:
        """The same for rows that were read."""
        if part.n == 0:
            return None
        memory = self.memory
        values = {
            label: self._recoded(label, value, part, hint)
            for label, value in part.values(self.plan.atoms, memory).items()
        }
        X = self.fixed.fill(np.empty((part.n, len(self.fixed.names))), self.codings, values)
        z = [
            layout.fill(np.empty((part.n, len(layout.names))), self.codings, values)
            for layout in self.random
        ]
        return Encoded(part, part.response(memory), part.offset(memory), X, z)

    def _recoded(self, label: str, value: Values, part: Part, hint: str) -> Values:
        try:
            return self.codings[label].recode(value)
        except DataError as error:
            rows = part.rows[list(error.rows)].tolist()
            raise DataError(f"{error}{hint}", variable=label, rows=rows) from error


def checked_formula(formula: Any, names: Callable[[], Iterable[str]]) -> str:
    """The formula with ``.`` written out.

    Parameters
    ----------
    formula : str
    names : callable
        Gives the columns of the data; called only where there is a ``.``.

    Raises
    ------
    FormulaError
        When it is not text, or has functions that need all rows at once.
    """
    if not isinstance(formula, str):
        raise FormulaError(f"the formula must be text, not {type(formula).__name__}")
    written = without_dot(formula, names)
    refuse_functions(plan_of(written))
    return written


# ---- the first pass -----------------------------------------------------------------------------


def surveyed(
    formula: str, source: Source, roles: Roles, contrasts: Mapping[str, Any] | None
) -> tuple[Spec, Survey]:
    """The spec without coordinates, by one pass over all rows."""
    plan = plan_of(formula)
    check_columns(source, plan, roles)
    with closing(source.chunks(roles.names(plan))) as chunks:
        survey = survey_of(formula, roles, chunks)
    return learned(survey, contrasts, source.names), survey


def learned(
    survey: Survey, contrasts: Mapping[str, Any] | None, names: Iterable[str] | None = None
) -> Spec:
    """The spec without coordinates, from a survey of all rows.

    Raises
    ------
    DataError
        When the rows cannot be used as the formula asks.
    """
    survey.check()
    plan, memory = survey.plan, Memory()
    taught = _taught(survey)
    values = _values(survey, plan, taught, memory)
    known = set(names or ()) | set(survey.variables)
    check_contrasts(contrasts or {}, values, known.__contains__)
    codings = {
        label: coding_of(label, value, (contrasts or {}).get(label))
        for label, value in values.items()
    }
    note_double_bars(plan, codings)
    return Spec(
        formula=survey.formula,
        roles=survey.roles,
        codings=codings,
        fixed=layout_of(plan.fixed, codings),
        random=tuple(layout_of(part, codings) for part in plan.random),
        variables=_variables(survey, plan),
        memory=memory,
        taught=taught,
        coordinates=None,
    )


def _taught(survey: Survey) -> dict[str, Column]:
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


def _values(
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
    return value.levels.tolist() if isinstance(value, Column) else None  # type: ignore[union-attr]


def teach(
    plan: Plan, taught: Mapping[str, Column], memory: Memory, factors: Collection[str]
) -> None:
    """Lets expressions of factors learn from all levels what they remember of levels.

    Parameters
    ----------
    taught : mapping
        Columns that have each level once.
    factors : collection of str
        Labels of the expressions that are factors.
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


def _variables(survey: Survey, plan: Plan) -> dict[str, Known]:
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


# ---- coordinates --------------------------------------------------------------------------------


def located_coordinates(spec: Spec, source: Source) -> Spec:
    """The spec with coordinates, from the first rows of a source.

    Raises
    ------
    DataError
        When there are none.
    """
    with closing(source.chunks(spec.names, spec.chunk_rows)) as chunks:
        return with_coordinates(spec, sample_of(spec, chunks))


def with_coordinates(spec: Spec, sample: list[Encoded]) -> Spec:
    """The spec with coordinates, from a sample."""
    if not sample:
        raise DataError("no rows can be used")
    layouts = (spec.fixed, *spec.random)
    own = coordinates_of(
        np.concatenate([one.X for one in sample]),
        [np.concatenate([one.z[i] for one in sample]) for i in range(len(spec.random))],
        np.concatenate([one.response for one in sample]),
        [constant_of(layout) for layout in layouts],
        [bar.structure == "full" for bar in spec.plan.formula.random],
    )
    return replace(spec, coordinates=own)


def sample_of(spec: Spec, chunks: Iterable[Chunk]) -> list[Encoded]:
    """The first rows that can be used, no more chunks than coordinates need."""
    sample: list[Encoded] = []
    for chunk in chunks:
        with located(chunk.where, chunk.start):
            encoded = spec.encode(chunk.table, CHANGED)
        if encoded is not None:
            sample.append(encoded)
        if sum(one.part.n for one in sample) >= min(SAMPLE, spec.chunk_rows):
            break
    return sample


def constant_of(layout: Layout) -> float:
    """1 where the first column is the intercept, else 0."""
    return 1.0 if layout.columns[:1] == ((),) else 0.0
