"""A model from statsmodels' formulas: what they may name, which rows are used, the groups."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from ..data.alignment import aligned
from ..data.columns import Table
from ..data.design import Design, build
from ..data.terms import RandomTerm
from ..errors import DataError, FormulaError
from .stated import Stated
from .terms import Component, state

__all__ = ["model_of", "names_of_caller"]

Model = TypeVar("Model", bound=Stated)


class _Names(Mapping[str, Any]):
    """Names that a frame of the caller sees, looked up when they are needed."""

    def __init__(self, frame: Any) -> None:
        self._local, self._global = frame.f_locals, frame.f_globals

    def __getitem__(self, name: str) -> Any:
        return self._local[name] if name in self._local else self._global[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._global, **self._local})

    def __len__(self) -> int:
        return len({**self._global, **self._local})


def names_of_caller(depth: int) -> Mapping[str, Any]:
    """Names that a caller sees: depth 1 is who calls this function, 2 whoever calls that one."""
    return _Names(sys._getframe(depth))


def model_of(
    cls: type[Model],
    formula: str,
    data: Any,
    groups: Any,
    re_formula: str | None,
    vc_formula: Mapping[str, str] | None,
    subset: Any,
    missing: str,
    scope: Mapping[str, Any] | None,
    use_sqrt: bool,
) -> Model:
    """A model of the class `cls`, as `mixedlm` documents it; `scope` has what formulas may name."""
    if groups is None:
        raise FormulaError(
            "groups= is required: a column of the data or the group of each row "
            "(a formula with its random effects, as in lme4, is for lmmfast.lmer)"
        )
    if subset is not None:
        data, groups = _subset(data, groups, subset)
    table = Table(data)
    group, shown = _group_column(table, data, groups)
    stated = state(formula, table, group, re_formula, vc_formula)
    design = build(stated.formula, table, scope=scope, patsy=True)
    if missing != "drop" and design.dropped:
        counts = ", ".join(f"{name} ({rows})" for name, rows in design.dropped.items())
        raise DataError(
            f"{design.n_rows - len(design.rows)} rows have missing values: {counts}; "
            'missing="drop" leaves them out',
            variable=next(iter(design.dropped)),
        )
    components = tuple(
        Component(
            kind, name, ((i, tuple(range(term.z.shape[1]))),), _shown(term, kind, shown), tied
        )
        for i, ((kind, name, tied), term) in enumerate(
            zip(stated.components, design.terms, strict=True)
        )
    )
    codes, labels = _groups_of(design, components, table, group)
    model = cls.__new__(cls)
    model._open(
        design,
        components,
        True,
        codes,
        labels,
        shown,
        stated.formula_lme4,
        use_sqrt,
        formula,
        data,
    )
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
    return data.iloc[where], groups.iloc[where] if hasattr(groups, "iloc") else (
        np.asarray(groups)[where]
    )


def _group_column(table: Table, data: Any, groups: Any) -> tuple[str, str]:
    """Name of the groups' column (added to the table if need be), and as statsmodels shows it."""
    if isinstance(groups, str):
        if not table.has(groups):
            raise table.lacks(groups, DataError, "groups:")
        return groups, groups
    aligned(groups, table.index, "groups", reorder=False)
    name = getattr(groups, "name", None)
    if isinstance(name, str) and table.has(name) and _same(groups, data[name]):
        return name, "Group"
    added = "Group"
    while table.has(added):
        added += "_"
    table.add(added, groups)
    return added, "Group"


def _same(given: Any, column: Any) -> bool:
    equals = getattr(given, "equals", None)
    return equals is not None and bool(equals(column))


def _shown(term: RandomTerm, kind: str, group: str) -> tuple[str, ...]:
    """Names of the random columns; statsmodels calls the groups' intercept by their name."""
    if kind != "re":
        return term.columns
    return tuple(name.replace("Intercept", group) for name in term.columns)


def _groups_of(
    design: Design, components: tuple[Component, ...], table: Table, group: str
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
