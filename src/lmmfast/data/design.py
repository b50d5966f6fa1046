"""Formula + data -> Design: response, fixed-effects matrix, random terms, and what was dropped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    DataError,
    FormulaError,
    LmmError,
    NumbersAsTextWarning,
    UnusedContrastsWarning,
    warn,
)
from ..formula.cells import array_of, read
from ..formula.column import Codes, Column, first_rows
from ..formula.expressions import Expression, Memory
from ..formula.plan import Plan, plan_of, without_dot
from ..formula.terms import Sum
from ..formula.vocabulary import FILLING, is_known
from ..freeze import Frozen
from .alignment import aligned
from .checks import check_levels, check_size, note_double_bars
from .columns import Table, suggest
from .encode import Coding, Layout, Values, check_finite, coding_of, layout_of, value_of
from .grouping import Grouping, grouping_of
from .recipe import Recipe, add_offsets, numbers_of
from .strays import not_numbers, strays_of

if TYPE_CHECKING:
    from ..sources.cross import CrossProducts

__all__ = [
    "Design",
    "RandomTerm",
    "build",
    "check_contrasts",
    "check_text",
    "complete_rows",
    "needed",
    "nothing_left",
    "numeric_vector",
    "read_columns",
    "taken",
]

Matrix = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RandomTerm(Frozen, arrays=("codes", "levels", "z")):
    """One random-effects term: k columns for each of m levels; its arrays are read-only."""

    label: str  # "1 + Days | Subject"
    group: str  # grouping factor: "Subject", "school:class"
    columns: tuple[str, ...]  # k names: ("Intercept", "Days")
    codes: Codes  # n, level of each row, 0-based, every level used
    levels: NDArray[Any]  # m labels
    z: Matrix  # n x k, C-contiguous
    structure: str  # "full" | "diag"


@dataclass(frozen=True, eq=False)
class Design(Frozen, arrays=("y", "X", "weights", "offset", "rows")):
    """The numbers of a model, and how to make them for new data; its arrays are read-only."""

    formula: str  # as the user wrote it
    response: str  # left-hand side: "log(rt)"
    y: Matrix  # n, offset not subtracted
    X: Matrix  # n x p, Fortran order, dependent columns included
    x_names: tuple[str, ...]  # p names: "Intercept", "cond[T.b]"
    terms: tuple[RandomTerm, ...]  # in the formula's order
    weights: Matrix | None  # n, > 0
    offset: Matrix | None  # n, sum of offset= and the offset() terms
    rows: Rows  # positions in the data that were kept
    index: Any  # pandas index of the kept rows, None for other data
    n_rows: int  # rows in the data
    dropped: dict[str, int]  # variable -> rows in which it is missing
    recipe: Recipe | None  # encodes new data; None for models given as arrays
    # columns that the fixed part and offsets are made of, in the rows used; copies
    variables: dict[str, Column] = field(default_factory=dict)
    cross: CrossProducts | None = None  # what stands for the rows where they are not in memory

    def __post_init__(self) -> None:
        super().__post_init__()
        for column in self.variables.values():
            column.freeze()

    @property
    def n(self) -> int:
        """Number of rows used."""
        return len(self.y)

    @property
    def plan(self) -> Plan:
        """What the formula needs; designs from arrays have no formula."""
        return plan_of(self.formula, self.recipe is not None and self.recipe.memory.patsy)


def build(
    formula: str,
    data: Any,
    *,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    scope: Mapping[str, Any] | None = None,
    patsy: bool = False,
) -> Design:
    """Design matrices of a mixed model.

    Parameters
    ----------
    formula : str
        In lme4's syntax: ``"rt ~ cond + (cond | subj) + (1 | item)"``.
    data : pandas, polars or pyarrow table, mapping from names to arrays, or Table
        Categories keep their order, unused ones are dropped; strings are sorted; booleans are
        factors with levels False, True. Rows are dropped where a used variable is missing, or where
        an expression is because of one; ``scale(x)`` and the like learn from all rows that have
        x, as in R.
    weights : str or array of n_rows, optional
        Column or values, >= 0: the residual variance is sigma^2 / weight. Zero drops the row. A
        Series goes by its labels (see `alignment.py`), also as offset.
    offset : str or array of n_rows, optional
        Column or values added to the linear predictor, besides ``offset()`` terms.
    contrasts : mapping, optional
        For factors by name: "treatment" ("treatment(base='b')"), "sum", "helmert", "poly", "SAS",
        "sdif", "deviation" or a matrix; for fixed and random terms. Default: treatment, poly for
        ordered categories.
    scope : mapping, optional
        Functions and constants that expressions of the formula may use besides the known ones.
    patsy : bool, default False
        Order of columns and default contrasts of patsy (statsmodels) instead of R's.

    Returns
    -------
    Design

    Raises
    ------
    FormulaError
        When the formula cannot be read or names a column that is not there.
    DataError
        When the data cannot be used as the formula asks.
    """
    if not isinstance(formula, str):
        raise FormulaError(f"the formula must be text, not {type(formula).__name__}")
    table = data if isinstance(data, Table) else Table(data)
    if not patsy:
        formula = without_dot(formula, lambda: table.names)
    plan = plan_of(formula, patsy)
    used = _used_rows(plan, table, weights, offset, Memory(scope, patsy))
    y = _response(plan, used)
    values = _values(plan, used)
    codings = _codings(values, contrasts or {}, "treatment" if patsy else "poly", table)

    def ordered(part: Sum) -> Sum:
        return (
            part.in_patsys_order(lambda a: codings[a.label].levels is not None) if patsy else part
        )

    fixed = layout_of(ordered(plan.fixed), codings)
    check_size(used.n, fixed.names, codings)
    X = fixed.fill(np.empty((used.n, len(fixed.names)), order="F"), codings, values)
    layouts = tuple(layout_of(ordered(part), codings) for part in plan.random)
    groupings, codes = _groupings(plan, used)
    terms = _random_terms(plan, layouts, groupings, codes, codings, values)
    w = None if used.weights is None else numbers_of(used.weights, "weights").copy()
    check_levels(terms, w, used.n)
    note_double_bars(plan, codings)
    offsets = _offset(plan, used)
    used.memory.close()
    return Design(
        formula=formula,
        response=plan.formula.response,
        y=y,
        X=X,
        x_names=fixed.names,
        terms=terms,
        weights=w,
        offset=offsets,
        rows=used.rows,
        index=_index(table, used.rows),
        n_rows=table.n,
        dropped=used.dropped,
        recipe=_recipe(plan, used, codings, fixed, layouts, groupings),
        variables=_variables(plan, used),
    )


@dataclass(frozen=True, eq=False)
class _Used:
    """The rows that are used, and what stateful transforms learn from them."""

    columns: dict[str, Column]
    weights: Column | None
    offset: Column | None  # its name is "" if it was given as an array
    rows: Rows
    dropped: dict[str, int]
    memory: Memory

    @property
    def n(self) -> int:
        return len(self.rows)


def _used_rows(plan: Plan, table: Table, weights: Any, offset: Any, memory: Memory) -> _Used:
    if table.n == 0:
        raise DataError("the data have no rows")
    columns = read_columns(plan, table, memory.scope)
    w = numeric_vector(weights, "weights", table)
    off = numeric_vector(offset, "offset", table)
    own = columns if memory.patsy else needed(plan, columns, table.n, memory)
    rows, dropped = complete_rows(own, w, off, table.n)
    if len(rows) == 0:
        raise nothing_left(table.n, dropped, weights if isinstance(weights, str) else "weights")
    if len(rows) < table.n:
        if not memory.patsy:
            _learn(plan, columns, table.n, memory)
        columns = {name: taken(column, rows) for name, column in columns.items()}
        w = None if w is None else w.take(rows)
        off = None if off is None else off.take(rows)
    return _Used(columns, w, off, rows, dropped, memory)


def taken(column: Column, rows: Rows) -> Column:
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
    found = {name: columns[name] for name in columns if name in plan.variables}
    for atom in dict.fromkeys(plan.everything):
        if atom.is_name:
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


def _still_missing(
    plan: Plan, atom: Expression, own: dict[str, Column], n: int, memory: Memory
) -> NDArray[np.bool_] | None:
    """Rows in which an expression of columns with gaps is missing; None when it cannot be told."""
    if not any(call.function in FILLING for call in atom.calls):
        return None
    try:
        if atom in plan.learners:
            _learn_one(atom, own, n, memory)
        value = value_of(atom, own, memory, n)
    except LmmError:  # told where the rows are used
        return None
    gaps = np.logical_or.reduce([c.missing for c in own.values() if c.missing is not None])
    if isinstance(value, Column):
        return np.asarray(gaps & (value.codes < 0)) if value.codes is not None else None
    bad = [np.isnan(column) for column in value.values() if column.dtype.kind == "f"]
    return np.asarray(gaps & np.logical_or.reduce(bad)) if bad else np.zeros(n, dtype=bool)


def _learn(plan: Plan, columns: Mapping[str, Column], n: int, memory: Memory) -> None:
    """Lets scale(x), poly(x, 2), ... learn as in R: from all rows in which their own variables are.

    Rows are dropped afterwards where another variable is missing.
    """
    for atom in dict.fromkeys(plan.learners):
        own = {name: columns[name] for name in atom.names if name in columns}
        _learn_one(atom, own, n, memory)


def _learn_one(atom: Expression, own: Mapping[str, Column], n: int, memory: Memory) -> None:
    if memory.get(atom.label):
        return
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
    given = aligned(given, table.index, role)
    array = given if hasattr(given, "dtype") else array_of(given)
    if len(np.shape(array)) != 1 or len(array) != table.n:
        raise DataError(
            f"{role} has shape {np.shape(array)}, but the data have {table.n} rows: "
            "give one value for each row, or the name of a column",
            variable=role,
        )
    column = read(role, array)
    numbers_of(column, role)
    return Column("", column.values, missing=column.missing)


def complete_rows(
    columns: Mapping[str, Column], weights: Column | None, offset: Column | None, n: int
) -> tuple[Rows, dict[str, int]]:
    """Rows without missing values and with a weight, and how many rows each variable costs."""
    missing = {name: column.missing for name, column in columns.items()}
    for role, given in (("weights", weights), ("offset", offset)):
        if given is not None:
            missing[given.name or role] = given.missing
    if weights is not None and weights.values is not None:
        missing["weights == 0"] = _zero_weights(weights.values, weights.name or "weights")
    masks = {name: mask for name, mask in missing.items() if mask is not None}
    if not masks:
        return np.arange(n), {}
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
            f"weights {name!r} are negative in {first_rows(negative)}: weights are inverse "
            "variances, greater than or equal to 0",
            variable=name,
            rows=np.flatnonzero(negative)[:10].tolist(),
        )
    zero = np.asarray(weights == 0, dtype=bool)
    return zero if zero.any() else None


def response_of(plan: Plan, columns: Mapping[str, Column], memory: Memory, rows: Rows) -> Matrix:
    """The left-hand side as numbers (n); the user's own array where it is a column of floats.

    Raises
    ------
    DataError
        When it is a factor, several columns, or not finite.
    """
    label = plan.formula.response
    value = evaluated(plan.response, columns, memory, rows)
    if isinstance(value, Column):
        raise DataError(
            f"the response {label!r} is not numeric; a linear mixed model needs numbers"
            f"{not_numbers(value, rows)}",
            variable=label,
        )
    if len(value) != 1:
        raise DataError(f"the response {label!r} has several columns", variable=label)
    check_finite(value, label, rows)
    return np.asarray(next(iter(value.values())), dtype=np.float64)


def evaluated(
    atom: Expression, columns: Mapping[str, Column], memory: Memory, rows: Rows
) -> Values:
    """A variable of the formula; what cannot be computed because a column is text says so."""
    try:
        return value_of(atom, columns, memory, len(rows))
    except FormulaError as error:
        used = (columns[name] for name in atom.names if name in columns)
        hint = next((found for own in used if (found := not_numbers(own, rows))), "")
        if not hint:
            raise
        raise FormulaError(f"{error}{hint}", variable=error.variable, term=error.term) from error


def _response(plan: Plan, used: _Used) -> Matrix:
    label = plan.formula.response
    y = np.array(response_of(plan, used.columns, used.memory, used.rows))  # our own copy
    if y.min() == y.max():
        raise DataError(f"the response {label!r} is constant ({y[0]:g})", variable=label)
    return y


def _values(plan: Plan, used: _Used) -> dict[str, Values]:
    """All variables of the fixed and random parts, transforms checked."""
    values: dict[str, Values] = {}
    for atom in plan.atoms:
        if atom.label not in values:
            value = evaluated(atom, used.columns, used.memory, used.rows)
            if not atom.is_name:
                check_finite(value, atom.label, used.rows)
            elif isinstance(value, Column):
                check_text(value, used.rows)
            values[atom.label] = value
    return values


def check_text(factor: Column, rows: Rows | None) -> None:
    """A predictor that is text must not be numbers with a few words among them.

    Parameters
    ----------
    factor : Column
        As `strays_of` takes it.
    rows : (n,) array or None
        Positions of its rows in the data.

    Raises
    ------
    DataError
        When there are many distinct numbers; when there are few, it may be a factor: a warning.
    """
    strays = strays_of(factor, rows)
    if strays is None:
        return
    if strays.surely:
        raise DataError(strays.message(), variable=factor.name, rows=strays.rows())
    warning = NumbersAsTextWarning(strays.message(), variable=factor.name, rows=strays.rows())
    warn(warning)


def check_contrasts(
    contrasts: Mapping[str, Any], values: Mapping[str, Values], has: Callable[[str], bool]
) -> None:
    """Contrasts must be for predictors of the model; `has` tells what other columns there are.

    Raises
    ------
    DataError
        Naming what is neither. Other columns get a warning: their contrasts are not used.
    """
    if not isinstance(contrasts, Mapping):
        raise DataError(
            f'contrasts must name the factors they are for, as in {{"cond": "sum"}}; '
            f"got {contrasts!r}"
        )
    for name in contrasts:
        if name in values:
            continue
        inside = [label for label, value in values.items() if f"({name}" in label]
        hint = f"; the formula has {inside[0]}: give contrasts for that name" if inside else ""
        if has(name):
            warn(
                UnusedContrastsWarning(
                    f"contrasts are given for {name!r}, which is no predictor by itself: they are "
                    f"not used{hint}",
                    variable=name,
                )
            )
        else:
            factors = [label for label, value in values.items() if isinstance(value, Column)]
            raise DataError(
                f"contrasts are given for {name!r}, which is not a predictor of the model"
                f"{suggest(name, factors, 'factors')}",
                variable=name,
            )


def _codings(
    values: dict[str, Values], contrasts: Mapping[str, Any], ordered: str, table: Table
) -> dict[str, Coding]:
    check_contrasts(contrasts, values, table.has)
    return {
        label: coding_of(label, value, contrasts.get(label), ordered)
        for label, value in values.items()
    }


def _groupings(plan: Plan, used: _Used) -> tuple[dict[str, Grouping], dict[str, Codes]]:
    """Each grouping factor once, so that its terms share one codes array."""
    groupings: dict[str, Grouping] = {}
    codes: dict[str, Codes] = {}
    for bar, atoms in zip(plan.formula.random, plan.groups, strict=True):
        if bar.factor not in groupings:
            made = grouping_of(bar.factor, atoms, used.columns, used.memory, used.n)
            groupings[bar.factor], codes[bar.factor] = made
    return groupings, codes


def _random_terms(
    plan: Plan,
    layouts: tuple[Layout, ...],
    groupings: dict[str, Grouping],
    codes: dict[str, Codes],
    codings: dict[str, Coding],
    values: dict[str, Values],
) -> tuple[RandomTerm, ...]:
    terms: list[RandomTerm] = []
    for bar, layout in zip(plan.formula.random, layouts, strict=True):
        level = codes[bar.factor]
        z = layout.fill(np.empty((len(level), len(layout.names))), codings, values)
        levels = groupings[bar.factor].levels
        terms.append(
            RandomTerm(bar.label, bar.factor, layout.names, level, levels, z, bar.structure)
        )
    return tuple(terms)


def _offset(plan: Plan, used: _Used) -> Matrix | None:
    given = None if used.offset is None else numbers_of(used.offset, "offset").copy()
    total = add_offsets(given, plan.offsets, used.columns, used.memory, used.n)
    if total is not None:
        check_finite({"": total}, "the offset", used.rows)
    return total


def _recipe(
    plan: Plan,
    used: _Used,
    codings: dict[str, Coding],
    fixed: Layout,
    layouts: tuple[Layout, ...],
    groupings: dict[str, Grouping],
) -> Recipe:
    return Recipe(
        codings=codings,
        fixed_layout=fixed,
        random_layouts=layouts,
        groupings=tuple(groupings[bar.factor] for bar in plan.formula.random),
        offset_terms=plan.offsets,
        offset=(used.offset.name or None) if used.offset else None,
        offset_is_array=used.offset is not None and not used.offset.name,
        names=frozenset(used.columns),
        memory=used.memory,
        weights=(used.weights.name or None) if used.weights else None,
    )


def _variables(plan: Plan, used: _Used) -> dict[str, Column]:
    """Columns of the fixed part and of offsets; the user may change the data after the fit."""
    atoms = (*plan.fixed.atoms, *plan.offsets)
    names = (name for atom in atoms for name in atom.names if name in used.columns)
    found = {name: used.columns[name].copy() for name in names}
    if used.offset is not None and used.offset.name:
        found[used.offset.name] = used.offset.copy()
    return found


def _index(table: Table, rows: Rows) -> Any:
    index = table.index
    if index is None:
        return None
    return index if len(rows) == table.n else index[rows]
