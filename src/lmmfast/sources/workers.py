"""Dask: partitions are reduced where they are, and results are united in a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..data.columns import is_not
from ..errors import FormulaError
from ..formula.plan import plan_of
from .part import Roles
from .source import Chunk, Source

__all__ = ["chunks_of", "later", "partitions", "reduced"]

SPLIT = 8  # results that are united at a time


def partitions(formula: str, data: Any, roles: Roles) -> list[Any]:
    """The partitions, with the columns that are needed."""
    plan = plan_of(formula)
    columns = list(map(str, data.columns))
    for name in sorted(plan.variables):
        if name not in columns:
            raise is_not(name, columns, FormulaError, "column")
    wanted = set(roles.names(plan))
    return list(data[[name for name in data.columns if name in wanted]].to_delayed())


def later(function: Callable[..., Any]) -> Any:
    """The function as one whose calls Dask runs, each anew."""
    from dask.delayed import delayed

    return delayed(function, pure=False)


def reduced(
    parts: Sequence[Any],
    one: Callable[[Any, Any, int], Any],
    given: Any,
    unite: Callable[[list[Any]], Any],
) -> Any:
    """A function of every partition and of what it is given, united eight at a time."""
    from dask.delayed import delayed

    reduce, combine = later(one), later(unite)
    shared = delayed(given, traverse=False)  # sent once to each worker
    level = [reduce(shared, part, number) for number, part in enumerate(parts)]
    while len(level) > 1:
        level = [combine(level[a : a + SPLIT]) for a in range(0, len(level), SPLIT)]
    return level[0].compute()


def chunks_of(part: Any, number: int, rows: int) -> Iterator[Chunk]:
    """A partition in chunks."""
    source = Source("the partition", None, lambda *_: iter([part]))
    return (replace(chunk, number=number, kind="partition") for chunk in source.chunks(rows=rows))
