"""A model from statsmodels' formulas: what they may name, which rows are used, the groups."""

from __future__ import annotations

import sys
from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ..data.alignment import aligned
from ..data.columns import Table
from ..data.design import Design, build
from ..errors import DataError, FormulaError
from .original import ModelSpec
from .stated import Stated
from .terms import Component, state

Model = TypeVar("Model", bound=Stated)


def checked_missing(missing: str) -> str:
    """One of the three ways to treat missing values."""
    if missing not in ("none", "drop", "raise"):
        raise ValueError(f'missing must be "none", "drop" or "raise", not {missing!r}')
    return missing


def model_of(
    cls: type[Model],
    formula: str,
    data: Any,
    groups: Any,
    re_formula: str | None,
    vc_formula: Mapping[str, str] | None,
    subset: Any,
    missing: str,
    eval_env: int,
    use_sqrt: bool,
    spec: ModelSpec | None = None,
) -> Model:
    """A model of the class `cls`, as `mixedlm` documents it; who calls is called by the user.

    `spec` are the formulas of another model, whose random part and names this one has.
    """
    checked_missing(missing)
    scope: Any = None
    if spec is not None:
        re_formula, vc_formula, scope = spec.re_formula, spec.vc_formula, spec.scope
    elif eval_env >= 0:
        seen = sys._getframe(2 + eval_env)
        scope = ChainMap(seen.f_locals, seen.f_globals)
    if groups is None:
        raise FormulaError(
            "groups= is required: a column of the data or the group of each row "
            "(a formula with its random effects, as in lme4, is for lmmfast.lmer)"
        )
    if subset is not None:
        data, groups = _subset(data, groups, subset)
    table = Table(data)
    group, shown = _group_column(table, data, groups)
    whole, terms = state(formula, table, group, re_formula, vc_formula)
    design = build(whole, table, scope=scope, patsy=True)
    if missing != "drop" and design.dropped:
        counts = ", ".join(f"{name} ({rows})" for name, rows in design.dropped.items())
        raise DataError(
            f"{design.n_rows - len(design.rows)} rows have missing values: {counts}; "
            'missing="drop" leaves them out',
            variable=next(iter(design.dropped)),
        )
    parts: list[Component] = []
    for i, (own, term) in enumerate(zip(terms, design.terms, strict=True)):
        columns = term.columns
        if own.kind == "re":  # statsmodels calls the groups' intercept by their name
            columns = tuple(column.replace("Intercept", shown) for column in columns)
        where = ((i, tuple(range(len(columns)))),)
        parts.append(Component(own.kind, own.name, where, columns, own.tied, own.written))
    codes, labels = _groups_of(design, parts, table, group)
    lme4 = None if any(part.tied for part in parts) else whole  # it has no shared variances
    model = cls.__new__(cls)
    given = formula, data, (re_formula, vc_formula)
    model._open(design, tuple(parts), True, codes, labels, shown, lme4, use_sqrt, *given)
    return model


def _subset(data: Any, groups: Any, subset: Any) -> tuple[Any, Any]:
    """The chosen rows of a pandas frame, and of groups given as an array."""
    if not hasattr(data, "loc"):
        raise DataError("subset= needs a pandas frame: select the rows beforehand")
    import pandas as pd

    try:
        where = pd.Series(np.arange(len(data)), data.index).loc[subset].to_numpy()
    except (IndexError, KeyError, TypeError, ValueError, pd.errors.IndexingError) as error:
        raise DataError(
            f"subset= does not choose rows of the data: {error}; give booleans, one for each row, "
            "or labels of data.index",
            variable="subset",
        ) from error
    if isinstance(groups, str) or len(groups) != len(data):
        return data.iloc[where], groups
    groups = aligned(groups, data.index, "groups", reorder=False)
    groups = groups if hasattr(groups, "iloc") else np.asarray(groups)
    return data.iloc[where], getattr(groups, "iloc", groups)[where]


def _refuse_names(groups: Sequence[str], table: Table) -> None:
    """The error for several columns as groups; labels of rows are as many as the data have."""
    if len(groups) == table.n or not all(table.has(own) for own in groups):
        return
    bars = " + ".join(f"(1 | {own})" for own in groups)
    raise DataError(
        f"groups={list(groups)}: one column has the groups, by its name, groups={groups[0]!r}; "
        f"several grouping factors are vc_formula=, or lmmfast.lmer('... + {bars}', data)",
        variable="groups",
    )


def _group_column(table: Table, data: Any, groups: Any) -> tuple[str, str]:
    """Name of the groups' column (added to the table if need be), and as statsmodels shows it."""
    if isinstance(groups, str):
        if not table.has(groups):
            raise table.lacks(groups, DataError, "groups:")
        return groups, groups
    if isinstance(groups, (list, tuple)) and all(isinstance(own, str) for own in groups):
        _refuse_names(groups, table)
    aligned(groups, table.index, "groups", reorder=False)
    name, same = getattr(groups, "name", None), getattr(groups, "equals", None)
    if isinstance(name, str) and table.has(name) and same is not None and same(data[name]):
        return name, "Group"
    added = "Group"
    while table.has(added):
        added += "_"
    table.add(added, groups)
    return added, "Group"


def _groups_of(
    design: Design, components: Sequence[Component], table: Table, group: str
) -> tuple[np.ndarray, np.ndarray]:
    """Group of each row used, and the labels."""
    for part, term in zip(components, design.terms, strict=True):
        if part.kind == "re":
            return term.codes, term.levels
    column = table.column(group).as_factor()
    if len(design.rows) < table.n:
        column = column.take(design.rows).used()
    assert column.codes is not None and column.levels is not None
    return column.codes, column.levels
