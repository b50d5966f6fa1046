"""A design without rows as a record."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from ..data.design import Design, Given
from ..data.grouping import Grouping
from ..data.relationship import Relation
from ..data.responses import Outcome
from ..data.rows import RowColumns, Rows
from ..data.structures import Structure
from ..data.terms import RandomTerm
from ..data.visits import plan_beside
from ..errors import DataError, FormulaError
from ..formula.column import Column
from ..formula.plan import Plan, plan_of
from ..formula.repeated import covariance_of
from ..sources.records import Reader
from ..sources.verify import Damage, fields, items, text, whole
from .kept import Cells, KeptColumns, KeptSums, KeptVariable
from .kinds import (
    FLAG,
    LABELS,
    REAL,
    TEXT,
    WHOLE,
    Kind,
    Packer,
    Record,
    array,
    many,
    named,
    one_of,
    optional,
)
from .recipe import read_recipe, write_recipe
from .residual import read_residual, write_residual
from .rows import (
    RowPacker,
    read_columns,
    read_levels,
    read_rows,
    write_columns,
    write_levels,
    write_rows,
)
from .values import read_column, read_value, write_column, write_value

COLUMNS = Record(
    KeptColumns,
    {
        "name": TEXT,
        "owner": Kind(lambda v, _: int(v), lambda x, what, _: whole(x, what, -1), "whole number"),
        "constants": array(1, "b"),
        "root_": optional(array(2)),
        "covariance": optional(array(2)),
        "squares": optional(array(2)),
        "sharing": REAL,
    },
    later=("sharing",),
)

STRUCTURE = Record(
    Structure,
    {"kind": TEXT, "columns": many(TEXT), "coordinates": optional(array(2)), "rank": WHOLE},
)

RELATION = Record(
    Relation,
    {
        "group": TEXT,
        "levels": LABELS,
        "ptr": array(1, "i"),
        "row": array(1, "i"),
        "x": array(1),
        "root": optional(many(array(1, "if"))),
        "diagonal": optional(array(1)),
    },
)


OUTCOME = Record(Outcome, {"kind": TEXT, "form": TEXT, "levels": many(TEXT)})

_TERM = ("label", "group", "columns", "levels", "structure", "source", "covariance", "relation")
_STRUCTURES = one_of("full", "diag")
_DESIGN = (
    *("formula", "response", "x_names", "fixed", "terms", "sums", "n_rows", "dropped", "recipe"),
    *("variables", "outcome", "residual", "levels", "given"),
)
_SUMS = ("count", "weighted", "shifted", "moments", "cells")
_VARIABLE = ("levels", "numeric", "ordered", "mean", "ends")


def write_design(design: Design, writer: RowPacker) -> dict[str, Any]:
    """Names, levels, the recipe for new data, and rows or sums of these."""
    if any(
        term.covariance is not None and term.covariance.own is not None for term in design.terms
    ):
        raise DataError(
            "covariances of the user's own are code, which a file does not hold: pickle the fit"
        )
    variables = {name: _variable(own, writer) for name, own in design.variables.items()}
    return {
        "formula": design.formula,
        "response": design.response,
        "x_names": list(design.x_names),
        "fixed": _write_source(design.fixed, writer),
        "terms": [_term(term, design, writer) for term in design.terms],
        "sums": _write_sums(design.sums, writer),
        "n_rows": design.n_rows,
        "dropped": named(WHOLE).write(design.dropped, writer),
        "recipe": None if design.recipe is None else write_recipe(design.recipe, writer),
        "variables": variables,
        "outcome": optional(OUTCOME.kind).write(design.outcome, writer),
        "residual": write_residual(design.residual, writer),
        "levels": [write_levels(own, writer) for own in writer.levels],
        "given": None if design.given is None else write_given(design, writer),
    }


_GIVEN = ("weights", "offset", "contrasts", "dispersion", "residual")


def write_given(design: Design, writer: Packer) -> dict[str, Any]:
    """What the fit was asked with besides formula and data; contrasts that are not plain, as data
    frames, by the columns that they gave."""
    assert design.given is not None
    own, contrasts = design.given.without_data(), None
    if own.contrasts is not None:
        plain = {name: _plain(name, spec, design) for name, spec in own.contrasts.items()}
        with suppress(DataError):
            contrasts = write_value(plain, writer, "contrasts")
    return {
        "weights": own.weights,
        "offset": own.offset,
        "contrasts": contrasts,
        "dispersion": own.dispersion,
        "residual": own.residual,
    }


def _plain(name: str, spec: Any, design: Design) -> Any:
    """Contrasts of a variable that a file can hold: as given, or {column: weights of levels}."""
    try:
        write_value(spec, Packer(), "contrasts")
        return spec
    except DataError:
        coding = None if design.recipe is None else design.recipe.codings.get(name)
    if coding is None or coding.contrast is None:
        return spec
    pairs = zip(coding.names, coding.contrast[:-1].T, strict=True)
    return {label[len(name) + 1 : -1]: np.array(weights) for label, weights in pairs}


def _given_of(item: Any, reader: Reader) -> Given | None:
    if item is None:
        return None
    own = fields(item, _GIVEN)
    names = {
        key: optional(TEXT).read(own[key], key, reader) for key in _GIVEN if key != "contrasts"
    }
    contrasts = read_value(own["contrasts"], "the contrasts", reader)
    if contrasts is not None and not isinstance(contrasts, dict):
        raise Damage("the contrasts are no record")
    return Given(None, contrasts=contrasts, **names)


def _write_source(columns: Any, writer: RowPacker) -> dict[str, Any]:
    if isinstance(columns, RowColumns):
        return write_columns(columns, writer)
    return {"kept": COLUMNS.write(columns, writer)}


def _write_sums(sums: Any, writer: RowPacker) -> dict[str, Any]:
    if isinstance(sums, Rows):
        return {"rows": write_rows(sums, writer)}
    own = {
        "count": sums.count,
        "weighted": sums.weighted,
        "shifted": sums.shifted,
        "moments": writer.array(sums.moments),
        "cells": optional(_CELLS).write(sums.cells, writer),
    }
    return {"kept": own}


def _term(term: RandomTerm, design: Design, writer: RowPacker) -> dict[str, Any]:
    """Levels are those of the recipe's grouping factor, where there is one."""
    return {
        "label": term.label,
        "group": term.group,
        "columns": list(term.columns),
        "levels": writer.labels(term.levels) if design.recipe is None else None,
        "structure": term.structure,
        "source": _write_source(term.source, writer),
        "covariance": optional(STRUCTURE.kind).write(term.covariance, writer),
        "relation": optional(RELATION.kind).write(term.relation, writer),
    }


def _variable(own: Any, writer: Packer) -> dict[str, Any]:
    if not isinstance(own, KeptVariable):
        return write_column(own, writer, f"the variable {own.name!r}")
    return {
        "levels": writer.labels(own._distinct),
        "numeric": own.numeric,
        "ordered": bool(own.ordered),
        "mean": REAL.write(own.mean() if own.numeric else 0.0, writer),
        "ends": [REAL.write(end, writer) for end in own.ends],
    }


def _read_cells(item: Any, what: str, reader: Reader) -> Cells:
    own = fields(item, ("names", "values", "counts"))
    names = many(TEXT).read(own["names"], what, reader)
    given = items(own["values"], what, len(names))
    values = tuple(reader.levels(one, what) for one in given)
    shape = tuple(len(one) for one in values)
    counts = reader.array(own["counts"], what, "i", shape)
    if (counts < 0).any():
        raise Damage(f"{what} has counts below zero")
    return Cells(names, values, counts.astype(np.int64, copy=False))


_CELLS = Kind(
    lambda v, writer: {
        "names": list(v.names),
        "values": [writer.labels(one) for one in v.values],
        "counts": writer.array(v.counts),
    },
    _read_cells,
    "Cells",
)


# ---- reading ------------------------------------------------------------------------------------


def read_design(
    item: Any, names: Mapping[str, Any], reader: Reader, fixed_only: bool = False
) -> Design:
    """What `write_design` wrote; `names` has the functions of the caller. `fixed_only`: of a model
    for repeated measures, whose covariance term is no random one."""
    own = fields(item, _DESIGN)
    formula = text(own["formula"], "the formula")
    recipe = None
    if own["recipe"] is not None:
        python = (
            bool(own["recipe"].get("memory", {}).get("patsy"))
            if isinstance(own["recipe"], dict)
            else False
        )
        plan = fixed_plan(formula) if fixed_only else _plan(formula, python)
        recipe = read_recipe(own["recipe"], plan, names, reader)
    x_names = many(TEXT).read(own["x_names"], "the fixed effects", reader)
    if recipe is not None and recipe.fixed_layout.names != x_names:
        raise Damage("the fixed effects are not the columns of the recipe")
    sums = _sums_of(own["sums"], reader)
    given = items(own["terms"], "the random terms")
    levels = _levels_of(own["levels"], given, sums, recipe, reader)
    fixed = _columns_of(own["fixed"], len(x_names), sums, levels, reader)
    terms = tuple(_read_term(one, i, recipe, (sums, levels), reader) for i, one in enumerate(given))
    wrong = recipe is not None and len(recipe.random_layouts) != len(terms)
    if wrong or bool(terms) == fixed_only:
        raise Damage("the random terms are not those of the recipe")
    _check_factors(terms)
    return Design(
        formula=formula,
        response=text(own["response"], "the response"),
        x_names=x_names,
        fixed=fixed,
        terms=terms,
        sums=sums,
        n_rows=whole(own["n_rows"], "n_rows"),
        dropped=named(WHOLE).read(own["dropped"], "dropped rows", reader),
        recipe=recipe,
        variables=_variables_of(own["variables"], sums, reader),
        outcome=optional(OUTCOME.kind).read(own["outcome"], "the outcome", reader),
        given=_given_of(own["given"], reader),
        residual=read_residual(own["residual"], sums.n, isinstance(sums, Rows), reader),
    )


def fixed_plan(formula: str) -> Plan:
    """The plan of the fixed part of a formula for repeated measures."""
    try:
        return plan_beside(covariance_of(formula))
    except FormulaError as error:
        raise Damage(f"the formula cannot be read ({error})") from None


def _plan(formula: str, python: bool) -> Plan:
    try:
        return plan_of(formula, python)
    except FormulaError as error:
        raise Damage(f"the formula cannot be read ({error})") from None


def _levels_of(item: Any, terms: list[Any], sums: Any, recipe: Any, reader: Reader) -> list[Any]:
    """Levels of the rows, each as many as the terms say that have it."""
    given = items(item, "the levels of rows")
    if not isinstance(sums, Rows):
        if given:
            raise Damage("there are levels of rows, and no rows")
        return []
    out = []
    for i, one in enumerate(given):
        counts = {_count(t, k, recipe, reader) for k, t in enumerate(terms) if _level(t) == i}
        if len(counts) != 1:
            raise Damage("the levels of rows are not those of the terms")
        out.append(read_levels(one, sums.n, counts.pop(), reader))
    return out


def _level(term: Any) -> Any:
    """The number of a term's levels of rows, in a record that was not checked."""
    for key in ("source", "rows", "level"):
        term = term.get(key) if isinstance(term, dict) else None
    return term


def _count(term: Any, i: int, recipe: Any, reader: Reader) -> int:
    """Levels of a term."""
    if recipe is not None:
        if i >= len(recipe.groupings):
            raise Damage("the random terms are not those of the recipe")
        return len(recipe.groupings[i].levels)
    return len(reader.levels(term.get("levels"), "the levels of a term"))


def _columns_of(item: Any, k: int, sums: Any, levels: list[Any], reader: Reader) -> Any:
    if isinstance(sums, Rows):
        return read_columns(fields(item, ("rows",))["rows"], sums.n, k, levels, reader)
    made: KeptColumns = COLUMNS.read(fields(item, ("kept",))["kept"], "sums of columns", reader)
    wanted = {"constants": (k,), "covariance": (k, k), "squares": (k, k)}
    for name, shape in wanted.items():
        found = getattr(made, name)
        if found is not None and found.shape != shape:
            raise Damage(f"{name} of {made.name[:40]!r} have shape {found.shape}, not {shape}")
    if made.root_ is not None and made.root_.shape[1:] != (k,):
        raise Damage(f"the root of {made.name[:40]!r} has another width")
    return made


def _read_term(
    item: Any, i: int, recipe: Any, rows: tuple[Any, list[Any]], reader: Reader
) -> RandomTerm:
    own = fields(item, _TERM)
    what = "a random term"
    label, group = text(own["label"], what), text(own["group"], what)
    columns = many(TEXT).read(own["columns"], what, reader)
    if recipe is None:
        levels = reader.levels(own["levels"], f"the levels of {group[:40]!r}")
    else:
        if i >= len(recipe.groupings) or own["levels"] is not None:
            raise Damage("the random terms are not those of the recipe")
        grouping: Grouping = recipe.groupings[i]
        levels = grouping.levels
        if grouping.label != group or recipe.random_layouts[i].names != columns:
            raise Damage(f"the columns of ({label[:40]}) are not those of the recipe")
    if not columns or not len(levels):
        raise Damage(f"({label[:40]}) has no columns, or no levels")
    covariance = optional(STRUCTURE.kind).read(own["covariance"], what, reader)
    relation = optional(RELATION.kind).read(own["relation"], what, reader)
    if covariance is not None and covariance.columns != columns:
        raise Damage(f"the structure of ({label[:40]}) is of other columns")
    if relation is not None:
        relation = _checked_relation(relation, levels)
    structure = _STRUCTURES.read(own["structure"], what, reader)
    source = _columns_of(own["source"], len(columns), *rows, reader)
    if isinstance(source, RowColumns) and source.level is None:
        raise Damage(f"({label[:40]}) has no levels")
    return RandomTerm(label, group, columns, levels, structure, source, covariance, relation)


def _check_factors(terms: tuple[RandomTerm, ...]) -> None:
    """Terms of one factor have the same levels."""
    first: dict[Any, RandomTerm] = {}
    for term in terms:
        other = first.setdefault(term.source.factor, term)
        if other.group != term.group or len(other.levels) != len(term.levels):
            raise Damage("terms of one grouping factor have different levels")


def _checked_relation(relation: Relation, levels: np.ndarray) -> Relation:
    """A lower triangle by columns, the diagonal first, rows ascending."""
    q, what = len(levels), f"the relationship of {relation.group[:40]!r}"
    if relation.levels.tolist() != levels.tolist():
        raise Damage(f"{what} is of other levels")
    ptr, row = relation.ptr.astype(np.intp, copy=False), relation.row.astype(np.int32, copy=False)
    _check_pointers(ptr, q, len(row), what)
    if len(row) != len(relation.x) or len(row) == 0 or row.min() < 0 or row.max() >= q:
        raise Damage(f"{what} has entries of unknown levels")
    column = np.repeat(np.arange(q), np.diff(ptr))
    firsts = ptr[:-1]
    inside = np.ones(len(row), dtype=bool)
    inside[firsts] = False
    ascending = np.diff(row, prepend=row[0]) > 0
    if (np.diff(ptr) < 1).any() or (row[firsts] != np.arange(q)).any() or (row < column).any():
        raise Damage(f"{what} is no lower triangle")
    if not ascending[inside].all() or not (relation.x[firsts] > 0).all():
        raise Damage(f"{what} is no lower triangle")
    root = relation.root
    if root is not None:
        if len(root) != 3 or root[0].dtype.kind != "i" or root[1].dtype.kind != "i":
            raise Damage(f"{what} has a root that is none")
        start, columns = root[0].astype(np.intp, copy=False), root[1].astype(np.int32, copy=False)
        _check_pointers(start, q, len(columns), what)
        rows = np.repeat(np.arange(q), np.diff(start))
        if len(columns) != len(root[2]) or (len(columns) and columns.min() < 0):
            raise Damage(f"{what} has a root that is none")
        if (columns > rows).any() or (np.diff(start) < 1).any():
            raise Damage(f"{what} has a root that is none")
        if (columns[start[1:] - 1] != np.arange(q)).any():
            raise Damage(f"{what} has a root that is none")
        root = start, columns, root[2].astype(np.float64, copy=False)
    diagonal = relation.diagonal
    if diagonal is not None and (diagonal.shape != (q,) or not (diagonal > 0).all()):
        raise Damage(f"{what} has another diagonal")
    return Relation(relation.group, levels, ptr, row, relation.x, root, diagonal)


def _check_pointers(ptr: np.ndarray, q: int, count: int, what: str) -> None:
    whole = len(ptr) == q + 1 and ptr[0] == 0 and ptr[-1] == count
    if not whole or (np.diff(ptr) < 0).any():
        raise Damage(f"{what} has columns that do not fit its entries")


def _sums_of(item: Any, reader: Reader) -> Any:
    if isinstance(item, dict) and "rows" in item:
        return read_rows(fields(item, ("rows",))["rows"], reader)
    own = fields(fields(item, ("kept",))["kept"], _SUMS)
    return KeptSums(
        whole(own["count"], "the number of rows", 1),
        FLAG.read(own["weighted"], "weighted", reader),
        FLAG.read(own["shifted"], "shifted", reader),
        reader.finite(own["moments"], "the moments of the response", 2),
        optional(_CELLS).read(own["cells"], "the cells", reader),
    )


def _variables_of(item: Any, sums: Any, reader: Reader) -> dict[str, Column]:
    if not isinstance(item, dict):
        raise Damage("the variables are no record")
    out: dict[str, Column] = {}
    if isinstance(sums, Rows):
        for name, given in item.items():
            out[name] = read_column(given, f"the variable {name[:40]!r}", reader)
            column: Any = out[name]
            if len(column.values if column.numeric else column.codes) != sums.n:
                raise Damage(f"the variable {name[:40]!r} has not {sums.n} rows")
        return out
    for name, given in item.items():
        what = f"the variable {name[:40]!r}"
        own = fields(given, _VARIABLE)
        numeric = FLAG.read(own["numeric"], what, reader)
        ordered = FLAG.read(own["ordered"], what, reader)
        levels = _values_of(own["levels"], what, numeric, reader)
        ends = tuple(REAL.read(end, what, reader) for end in items(own["ends"], what, 2))
        if not np.isfinite(ends).all():
            raise Damage(f"{what} has ends that are not finite")
        mean = REAL.read(own["mean"], what, reader)
        out[name] = KeptVariable(name, levels, numeric, ordered, mean, ends)
    return out


def _values_of(item: Any, what: str, numeric: bool, reader: Reader) -> Any:
    levels = reader.labels(item, what)
    if levels is None:
        if not numeric:
            raise Damage(f"{what} has no levels")
        return None
    if not len(levels) or (numeric and levels.dtype.kind not in "biuf"):
        raise Damage(f"{what} has no values, or values that are no numbers")
    return levels
