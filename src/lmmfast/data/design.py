"""Formula + data -> Design: response, fixed-effects matrix, random terms, and what was dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, FormulaError, NumbersAsTextWarning, UnusedContrastsWarning, warn
from ..formula.cells import floats_of
from ..formula.column import Column, places
from ..formula.expressions import Expression, Memory
from ..formula.plan import Plan, plan_of, without_dot
from ..formula.redundancy import in_patsys_order
from ..formula.terms import Sum
from .alignment import aligned, index_of
from .checks import (
    check_levels,
    check_levels_of_rows,
    check_size,
    note_double_bars,
)
from .columns import Table, suggest
from .encode import Coding, Layout, Values, check_finite, coding_of, layout_of, value_of
from .fixed import fixed_columns
from .grouping import combine, factors_of
from .membership import Grouped, members_of
from .recipe import Recipe, add_offsets, numbers_of
from .relationship import Relation, refuse_moving, relate
from .residual import Residual
from .residual_structure import residual_asked
from .responses import Answer, Outcome, answer_of, check_again, numbered, tried_again
from .rows import RowColumns, Rows
from .spelling import check_labels, check_spelling
from .strays import not_numbers, strays_of
from .sums import Columns, Sums
from .term_structure import fewest_levels, structure_of
from .terms import RandomTerm
from .usable import Used, used_rows

Matrix = NDArray[np.float64]
Positions = NDArray[np.int64] | range  # of rows in the data


class Given(NamedTuple):
    """What `lmer` was given besides the formula; the fit of a changed formula reads it again."""

    data: Any
    weights: Any
    offset: Any
    contrasts: Any
    relationship: Any = None
    dispersion: Any = None
    residual: Any = None

    def without_data(self) -> Given:
        """The names of columns, and contrasts."""
        weights, offset = (
            own if isinstance(own, str) else None for own in (self.weights, self.offset)
        )
        return self._replace(data=None, weights=weights, offset=offset)


class Streamed(NamedTuple):
    """How the rows of a generalized model were read that did not come as a table in memory."""

    source: str  # "the Dask data frame"
    passes: int  # over the source
    nbytes: int  # of the columns that were kept
    in_file: bool  # whether they are in temporary files, not in memory


@dataclass(frozen=True, eq=False)
class Design:
    """The numbers of a model, and how to make them for new data; its arrays are read-only."""

    formula: str  # as the user wrote it
    response: str  # left-hand side: "log(rt)"
    x_names: tuple[str, ...]  # p names: "Intercept", "cond[T.b]"
    fixed: Columns  # fixed-effects columns (p), dependent ones included
    terms: tuple[RandomTerm, ...]  # in the formula's order
    sums: Sums  # what else is known of the rows: number, response, weights, frequencies
    n_rows: int  # rows in the data
    dropped: dict[str, int]  # rows in which each variable is missing
    recipe: Recipe | None  # encodes new data; None for models given as arrays
    # what the fixed part and offsets are made of, in the rows used; copies
    variables: dict[str, Column] = field(default_factory=dict)
    given: Given | None = None  # None: not known, or others; pickles are without data and values
    outcome: Outcome | None = None  # what the response of a generalized model is
    reading: Streamed | None = None  # how rows were read that are no table; None: they are one
    residual: Residual | None = None  # variances and correlations of the rows; None: weights alone

    def __post_init__(self) -> None:
        for column in self.variables.values():
            column.freeze()

    def __getstate__(self) -> dict[str, Any]:
        reading = self.reading and self.reading._replace(in_file=False)  # where it is loaded
        return vars(self) | {"given": self.given and self.given.without_data(), "reading": reading}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Design:
        """Itself: nothing in it changes, and a copy by way of a pickle would lose the data."""
        return self

    @property
    def n(self) -> int:
        """Number of rows used."""
        return self.sums.n

    @property
    def plan(self) -> Plan:
        """What the formula needs; designs from arrays have no formula."""
        return plan_of(self.formula, self.recipe is not None and self.recipe.memory.patsy)

    def place_of(self, term: str | int | None) -> int:
        """Place of a random term, by its number, label or grouping factor; ValueError if it means
        none or several."""
        labels = [one.label for one in self.terms]
        if isinstance(term, int) and not isinstance(term, bool):
            found = [term] if 0 <= term < len(labels) else []
        elif term is None:
            found = list(range(len(labels)))
        else:
            bare = str(term).strip()
            bare = bare[1:-1].strip() if bare[:1] == "(" and bare[-1:] == ")" else bare
            found = [i for i, label in enumerate(labels) if bare == label]
            found = found or [i for i, one in enumerate(self.terms) if bare == one.group]
        if len(found) != 1:
            what = f"several terms are {term!r}" if found else f"there is no random term {term!r}"
            what = "there are several random terms" if term is None else what
            raise ValueError(f"{what}: name one of {', '.join(map(repr, labels))}")
        return found[0]

    # ---- rows: DataError where they are not in memory --------------------------------------------

    @property
    def is_held(self) -> bool:
        """Whether its rows are in memory."""
        return isinstance(self.sums, Rows)

    def rows_for(self, what: str) -> Rows:
        """The rows; `what` says what needs them."""
        if not isinstance(self.sums, Rows):
            raise self.sums.refused(what)
        return self.sums

    @property
    def y(self) -> Matrix:
        """The response (n), offset not subtracted."""
        return self.rows_for("the response would be needed").y

    @property
    def X(self) -> Matrix:
        """Fixed-effects columns (n, p), Fortran order, dependent ones included.

        Columns of wide factors are made when they are asked for.
        """
        return self.fixed.values

    @property
    def weights(self) -> Matrix | None:
        """Weights (n), positive; None where there are none."""
        if not self.sums.is_weighted:
            return None
        return self.rows_for("the weights would be needed").weights

    @property
    def offset(self) -> Matrix | None:
        """Sum of ``offset=`` and the ``offset()`` terms (n); None where there are none."""
        if not self.sums.has_offset:
            return None
        return self.rows_for("the offset would be needed").offset

    @property
    def rows(self) -> NDArray[np.int64]:
        """Positions in the data of the rows used (n)."""
        return places(self.rows_for("the positions of the rows would be needed").positions)

    @property
    def index(self) -> Any:
        """pandas index of the rows used; None for other data."""
        return self.sums.index if isinstance(self.sums, Rows) else None

    def made_of(self, given: Given) -> Design:
        """This design, which was just made, remembering what of."""
        vars(self)["given"] = given  # a copy of all fields would take thrice as long
        return self

    def with_rows(self, *, fixed: RowColumns | None = None, **changes: Any) -> Design:
        """The same model of other rows (attributes of `Rows`), or with another X."""
        rows = self.rows_for("rows cannot be replaced")
        own = vars(self) | {"sums": Rows(**(vars(rows) | changes)), "given": None}
        if fixed is not None:
            own["fixed"] = fixed
        return type(self)(**own)


def build(
    formula: str,
    data: Any,
    *,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    scope: Mapping[str, Any] | None = None,
    patsy: bool = False,
    learned: Mapping[str, Any] | None = None,
    kind: str | None = None,
    relationship: Mapping[str, Any] | None = None,
    dispersion: str | None = None,
    residual: str | None = None,
) -> Design:
    """Design matrices of a mixed model, of what `lmer` takes; `data` may be a `Table`.

    Categories keep their order, unused ones are dropped; strings are sorted; booleans are factors
    with levels False, True. Rows are dropped where a used variable is missing, or where an
    expression is because of one; ``scale(x)`` and the like learn from all rows that have x, as in
    R. A weight of zero drops its row. Expressions may use the functions and constants of `scope`
    besides the known ones. With `patsy`, order of columns and default contrasts are patsy's (those
    of statsmodels) instead of R's. `learned` is the memory of another design: what its expressions
    learned is not learned anew. `kind` says what the response of a generalized model is, see
    `Outcome`; an ordered one has thresholds in place of an intercept. `relationship` has the
    relationships of levels by grouping factor, see `relate`. `dispersion`
    and `residual` are as `lmer` has them.
    """
    if not isinstance(formula, str):
        raise FormulaError(f"the formula must be text, not {type(formula).__name__}")
    table = Table.of(data)
    if not patsy:
        formula = without_dot(formula, lambda: table.names)
    plan = plan_of(formula, patsy)
    check_levels_of_rows(plan)
    structure = residual_asked(dispersion, residual)
    plan = plan.beside(structure.atoms)
    memory = Memory(scope, patsy)
    memory.update(learned or {})
    used = used_rows(plan, table, weights, offset, memory)
    w = None if used.weights is None else numbers_of(used.weights, "weights").copy()
    outcome = None
    if kind is None:
        y = _response(plan, used)
    else:
        y, w, outcome = _answer(kind, plan, used, w)
    values = _values(plan, used)
    codings = codings_of(values, contrasts or {}, table.has, patsy)

    def ordered(part: Sum) -> Sum:
        return (
            in_patsys_order(part, lambda a: codings[a.label].levels is not None) if patsy else part
        )

    fixed = layout_of(ordered(plan.fixed), codings)
    if outcome is not None and outcome.classes:
        fixed = fixed.without_constant()
    check_size(used.n, fixed.names, codings)
    layouts = tuple(layout_of(ordered(part), codings) for part in plan.random)
    groupings, relations = relate(relationship, _groupings(plan, used))
    terms = tuple(random_terms(plan, layouts, groupings, codings, values, relations))
    if outcome is None:
        check_levels(terms, w, used.n)
    else:
        refuse_moving(terms, "a generalized model")
    note_double_bars(plan, codings)
    given = None if used.offset is None else numbers_of(used.offset, "offset").copy()
    offsets = total_offset(given, plan, used.columns, used.memory, used.rows)
    found = structure.of_rows(used.columns, used.memory, used.n)
    used.memory.close()
    index = table.index
    if index is not None and used.n < table.n:
        index = index[places(used.rows)]
    return Design(
        formula=formula,
        response=plan.formula.response,
        x_names=fixed.names,
        fixed=fixed_columns(used.n, fixed, codings, values),
        terms=terms,
        sums=Rows(y, w, offsets, used.rows, index),
        n_rows=table.n,
        dropped=used.dropped,
        recipe=_recipe(plan, used, codings, fixed, layouts, groupings),
        variables=_variables(plan, used),
        outcome=outcome,
        residual=found,
    )


def response_of(
    plan: Plan, columns: Mapping[str, Column], memory: Memory, rows: Positions
) -> Matrix:
    """The left-hand side as numbers (n); the user's own array where it is a column of floats.

    A factor, several columns, what is not finite and integers that floats would round are refused.
    """
    label = plan.formula.response
    value = evaluated(plan.response, columns, memory, rows)
    if isinstance(value, Column):
        ordinal = "; of ordered classes there is glmer(..., family='ordered')"
        raise DataError(
            f"the response {value.name!r} is not numeric; a linear mixed model needs numbers"
            f"{not_numbers(value, rows)}{ordinal if value.ordered else ''}",
            variable=label,
        )
    if len(value) != 1:
        raise DataError(f"the response {label!r} has several columns", variable=label)
    check_finite(value, label, rows)
    numbers = next(iter(value.values()))
    if numbers.dtype.kind in "iu" and len(numbers):
        _check_rounding(numbers, label)
    return np.asarray(numbers, dtype=np.float64)


def _check_rounding(integers: NDArray[Any], label: str) -> None:
    """Integers beyond 2^53 would be rounded: their residuals could be those of rounding."""
    low, high = int(integers.min()), int(integers.max())
    if max(-low, high) <= 2**53:
        return
    with np.errstate(invalid="ignore"):  # the largest becomes 2^63, which is no int64
        same = integers.astype(np.float64).astype(integers.dtype) == integers
    if not same.all():
        raise DataError(
            f"the response {label!r} has integers beyond 2^53 that floating-point numbers would "
            f"round: subtract a constant beforehand, {low} for example",
            variable=label,
        )


def evaluated(
    atom: Expression, columns: Mapping[str, Column], memory: Memory, rows: Positions
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


def _response(plan: Plan, used: Used) -> Matrix:
    label = plan.formula.response
    y = response_of(plan, used.columns, used.memory, used.rows)
    if y.min() == y.max():
        raise DataError(f"the response {label!r} is constant ({y[0]:g})", variable=label)
    return y


def _answer(kind: str, plan: Plan, used: Used, w: Matrix | None) -> Answer:
    """The response of a generalized model."""
    value = evaluated(plan.response, used.columns, used.memory, used.rows)
    return answer_of(kind, plan.formula.response, value, w, used.rows)


def _values(plan: Plan, used: Used) -> dict[str, Values]:
    """All variables of the fixed and random parts, transforms checked."""
    values: dict[str, Values] = {}
    word, labelled = "C" if used.memory.patsy else "factor", plan.labelled
    for atom in plan.atoms:
        if atom.label not in values:
            value = evaluated(atom, used.columns, used.memory, used.rows)
            if not atom.is_name:
                check_finite(value, atom.label, used.rows)
            elif isinstance(value, Column):
                check_text(value, used.rows, word, value.name in labelled)
                check_spelling(value)
            values[atom.label] = value
    return values


def check_text(
    factor: Column, rows: Positions | None, word: str = "factor", labels: bool = False
) -> None:
    """A predictor that is text must not be numbers with a few words among them.

    An error where there are many distinct numbers; few may be a factor: a warning. `rows` are the
    positions of its rows in the data, where these are known; `word` is the formula's for a factor;
    `labels`: it is said to be one elsewhere in the formula, and may be nothing but numbers.
    """
    strays = strays_of(factor, rows)
    if strays is None or (labels and not strays.surely and strays.are_numbers):
        return
    if strays.surely:
        raise DataError(strays.message(word), variable=factor.name, rows=strays.rows())
    warn(NumbersAsTextWarning(strays.message(word), variable=factor.name, rows=strays.rows()))


def codings_of(
    values: Mapping[str, Values],
    contrasts: Mapping[str, Any],
    has: Callable[[str], bool],
    patsy: bool = False,
) -> dict[str, Coding]:
    """The coding of each variable, with `patsy` as patsy has it."""
    _check_contrasts(contrasts, values, has)
    return {
        label: coding_of(label, value, contrasts.get(label), patsy)
        for label, value in values.items()
    }


def _check_contrasts(
    contrasts: Mapping[str, Any], values: Mapping[str, Values], has: Callable[[str], bool]
) -> None:
    """Contrasts must be for predictors of the model; `has` tells what other columns there are.

    Contrasts for those get a warning: they are not used. For anything else they are an error.
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


def _groupings(plan: Plan, used: Used) -> dict[str, Grouped]:
    """Each grouping factor once, so that its terms share one codes array."""
    made: dict[str, Grouped] = {}
    parts: dict[str, Column] = {}
    for bar, atoms in zip(plan.formula.random, plan.groups, strict=True):
        if bar.factor in made:
            continue
        if bar.membership is not None:
            own = used.columns, used.memory, used.n
            made[bar.factor] = members_of(bar.factor, atoms, bar, *own)
        else:
            factors = factors_of(bar.factor, atoms, used.columns, used.memory, used.n)
            parts.update({own.name: own for own in factors})
            made[bar.factor] = combine(bar.factor, atoms, factors, fewest_levels(plan, bar))
    for factor in parts.values():
        check_labels(factor)
    return made


def random_terms(
    plan: Plan,
    layouts: tuple[Layout, ...],
    groupings: Mapping[str, Grouped],
    codings: dict[str, Coding],
    values: dict[str, Values],
    relations: Mapping[str, Relation],
) -> Iterator[RandomTerm]:
    """The random terms of a formula, of rows; `groupings` with the level of each of them, relations
    by factor."""
    for bar, layout in zip(plan.formula.random, layouts, strict=True):
        grouping, codes = groupings[bar.factor]
        z = layout.parts(codings, values)
        own = bar.label, bar.factor, layout.names, codes, grouping.levels, z, bar.structure
        structure = structure_of(bar, layout, codings)
        yield RandomTerm.of_rows(*own, structure, relations.get(bar.factor))


def total_offset(
    given: Matrix | None, plan: Plan, columns: dict[str, Column], memory: Memory, rows: Positions
) -> Matrix | None:
    """The sum of offset= and the offset() terms (n), finite; None when there is neither."""
    total = add_offsets(given, plan.offsets, columns, memory, len(rows))
    if total is not None:
        check_finite({"": total}, "the offset", rows)
    return total


def _recipe(
    plan: Plan,
    used: Used,
    codings: dict[str, Coding],
    fixed: Layout,
    layouts: tuple[Layout, ...],
    groupings: Mapping[str, Grouped],
) -> Recipe:
    return Recipe(
        codings=codings,
        fixed_layout=fixed,
        random_layouts=layouts,
        groupings=tuple(groupings[bar.factor][0] for bar in plan.formula.random),
        offset_terms=plan.offsets,
        offset=(used.offset.name or None) if used.offset else None,
        offset_is_array=used.offset is not None and not used.offset.name,
        names=frozenset(used.columns),
        memory=used.memory,
        weights=(used.weights.name or None) if used.weights else None,
    )


def _variables(plan: Plan, used: Used) -> dict[str, Column]:
    """Columns of the fixed part and of offsets; changes of the data after the fit are not seen."""
    atoms = (*plan.fixed.atoms, *plan.offsets)
    names = (name for atom in atoms for name in atom.names if name in used.columns)
    found = {name: used.columns[name].copy() for name in names}
    if used.offset is not None and used.offset.name:
        found[used.offset.name] = used.offset.copy()
    return found


# ---- values given for the rows of a fit ----------------------------------------------------------


def aligned_to_fit(values: Any, design: Design, role: str) -> Any:
    """Values of the n rows that a fit used, given for these or for all rows of its data.

    As `aligned`; rows of data without an index are labelled by their positions.
    """
    import pandas as pd

    own = index_of(values)
    if own is None or own is design.index:
        return values
    index = pd.Index(design.rows) if design.index is None else design.index
    all_rows = len(own) == design.n_rows > design.n
    if all_rows and own.take(design.rows).equals(index):
        return values.iloc[design.rows]
    if design.index is None and not own.equals(index) and not all_rows:
        index = None
    return aligned(values, index, role, "the rows of the fit")


def refilled(design: Design, y: Any, weights: Any) -> Design:
    """A design with another response or other weights (None: as they are); see `LMMFit.refit`."""
    design.rows_for("a fit to another response")
    if y is None and weights is None:
        raise DataError("a new response, or new weights, are needed", variable=design.response)
    changes: dict[str, Any] = {}
    if design.outcome is not None and y is not None and not isinstance(y, str):
        y, trials = numbered(design.outcome, design.response, y)
        weights = trials if weights is None else weights
    if y is not None:
        changes["y"] = _new_values(y, design, "the new response", design.response)
    if weights is not None:
        w = changes["weights"] = _new_values(weights, design, "the new weights", "weights")
        if not (w > 0).all():
            raise DataError(
                "the new weights must be positive (rows without weight are left out of the data)",
                variable="weights",
                rows=np.flatnonzero(~(w > 0))[:10].tolist(),
            )
    if design.outcome is not None:
        own = vars(design.sums) | changes
        if y is not None:
            own["y"] = changes["y"] = tried_again(design.outcome, own["y"], own["weights"])
        check_again(design.outcome, design.response, own["y"], own["weights"])
    return design.with_rows(**changes)


def _new_values(given: Any, design: Design, role: str, variable: str) -> Matrix:
    """A number for each row of a design."""
    if isinstance(given, str):
        raise DataError(
            f"{role} must be values, not a name: the fit keeps no other columns of the data; "
            f"write fit.refit({'' if variable != 'weights' else 'weights='}data[{given!r}])",
            variable=given,
        )
    values: Matrix = np.array(floats_of(aligned_to_fit(given, design, role), role))
    have = f"{role} {'have' if variable == 'weights' else 'has'}"
    if values.shape != (design.n,):
        raise DataError(
            f"{have} shape {values.shape}; the fit used {design.n} rows "
            "(rows with missing values were dropped: see design.rows)",
            variable=variable,
        )
    if not np.isfinite(values).all():
        raise DataError(
            f"{have} values that are not finite",
            variable=variable,
            rows=np.flatnonzero(~np.isfinite(values))[:10].tolist(),
        )
    return values
