"""Dask: partitions are reduced where they are, results are united in a tree, the fit runs here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..data.columns import is_not
from ..errors import DataError, FormulaError
from ..formula.plan import plan_of
from .cross import CrossProducts
from .labels import Grouper
from .part import Roles
from .source import ROWS, Source, located
from .spec import CHANGED, Spec, learned, with_coordinates
from .survey import Survey

__all__ = ["cross_of", "spec_of"]

SPLIT = 8  # results that are united at a time


def spec_of(
    formula: str, data: Any, roles: Roles, contrasts: Mapping[str, Any] | None
) -> tuple[Spec, Survey]:
    """The spec of a Dask data frame: one pass over its partitions, then its first rows.

    Raises
    ------
    FormulaError, DataError
        What is wrong, in which partition.
    """
    from dask.delayed import delayed

    parts = _parts(formula, data, roles)
    survey = _reduced(parts, _survey, (formula, roles), _united)
    spec = learned(survey, contrasts, map(str, data.columns))
    for number, part in enumerate(parts):
        shared = delayed(spec, traverse=False)
        sampled: Spec | None = _delayed(_sampled)(shared, part, number).compute()
        if sampled is not None:
            return sampled, survey
    raise DataError(f"no rows can be used{CHANGED}")


def cross_of(
    formula: str, data: Any, roles: Roles, contrasts: Mapping[str, Any] | None
) -> CrossProducts:
    """The cross-products of a Dask data frame.

    Raises
    ------
    FormulaError, DataError
        What is wrong, in which partition.
    """
    spec, survey = spec_of(formula, data, roles, contrasts)
    parts = _parts(formula, data, roles)
    cross: CrossProducts = _reduced(parts, _cross, spec, _added)
    if cross.n != survey.n:
        raise DataError(
            f"{survey.n} rows could be used in the first pass, {cross.n} in the second{CHANGED}"
        )
    for own in cross._groups:
        _check_levels(own, survey.groups[own.label])
    return cross


def _check_levels(found: Grouper, known: Grouper) -> None:
    united = known.copy()
    before = len(united)
    codes = united.unite(found, -1)
    if len(united) > before:
        names = ", ".join(united.names(codes[codes >= before][:3]))
        raise DataError(
            f"{found.label!r} has levels that were not there in the first pass, such as "
            f"{names}{CHANGED}",
            variable=found.label,
        )
    other = np.flatnonzero(united.counts)
    if len(other):
        rows = known.counts[other[0]]
        raise DataError(
            f"{found.label!r} {united.names(other[:1])[0]} has {rows} rows in the first pass, "
            f"{rows - united.counts[other[0]]} in the second{CHANGED}",
            variable=found.label,
        )


def _parts(formula: str, data: Any, roles: Roles) -> list[Any]:
    """The partitions, with the columns that are needed."""
    plan = plan_of(formula)
    columns = list(map(str, data.columns))
    for name in sorted(plan.variables):
        if name not in columns:
            raise is_not(name, columns, FormulaError, "column")
    wanted = set(roles.names(plan))
    return list(data[[name for name in data.columns if name in wanted]].to_delayed())


def _delayed(function: Callable[..., Any]) -> Any:
    from dask.delayed import delayed

    return delayed(function, pure=False)


def _reduced(
    parts: Sequence[Any],
    one: Callable[[Any, Any, int], Any],
    given: Any,
    unite: Callable[[list[Any]], Any],
) -> Any:
    """A function of every partition and of what it is given, united eight at a time."""
    from dask.delayed import delayed

    reduce, combine = _delayed(one), _delayed(unite)
    shared = delayed(given, traverse=False)  # sent once to each worker
    level = [reduce(shared, part, number) for number, part in enumerate(parts)]
    while len(level) > 1:
        level = [combine(level[a : a + SPLIT]) for a in range(0, len(level), SPLIT)]
    return level[0].compute()


# ---- on the workers -----------------------------------------------------------------------------


def _chunks(part: Any, number: int, rows: int) -> Any:
    """A partition in chunks; errors name it."""
    source = Source("the partition", None, lambda *_: iter([part]))
    for chunk in source.chunks(rows=rows):
        stop = chunk.start + chunk.table.n - 1
        yield chunk.table, f"partition {number} (rows {chunk.start} to {stop})", chunk.start


def _survey(model: tuple[str, Roles], part: Any, number: int) -> Survey:
    survey = Survey(*model)
    for table, where, start in _chunks(part, number, ROWS):
        with located(where, start):
            survey.add(table, where)
    return survey


def _united(surveys: list[Survey]) -> Survey:
    return functools.reduce(Survey.unite, surveys[1:], surveys[0].copy())


def _sampled(spec: Spec, part: Any, number: int) -> Spec | None:
    """The spec with coordinates from the first rows of a partition; None when it has none."""
    for table, where, start in _chunks(part, number, spec.chunk_rows):
        with located(where, start):
            encoded = spec.encode(table, CHANGED)
        if encoded is not None:
            return with_coordinates(spec, [encoded])
    return None


def _cross(spec: Spec, part: Any, number: int) -> CrossProducts:
    made = CrossProducts(spec)
    for table, where, start in _chunks(part, number, spec.chunk_rows):
        with located(where, start):
            made.add(table)
    return made


def _added(parts: list[CrossProducts]) -> CrossProducts:
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total
