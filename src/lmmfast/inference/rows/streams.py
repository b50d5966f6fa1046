"""Fitted values and residuals of a fit, chunk by chunk, from a source of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.columns import Table
from ...data.members import Members
from ...errors import DataError
from ...sources.open import source_of
from ...sources.part import Part, Roles, part_of
from ...sources.source import Source, check_columns, located, rows_for
from ..ddf import check_choice, without_residual_structure
from .predict import fixed_part, random_part, recipe_of

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit


def stream_residuals(fit: Fit, source: Any, kind: str) -> Iterator[pd.DataFrame]:
    """Fitted values and residuals, as ``Fit.stream_residuals`` documents them."""
    check_choice("type", kind, ("response", "pearson"))
    if kind == "pearson":
        without_residual_structure(fit, "a stream of Pearson residuals")
    recipe = recipe_of(fit)
    if recipe.offset_is_array or (fit.design.sums.is_weighted and recipe.weights is None):
        raise DataError(
            "this fit has weights or an offset that are no column of the data: use fit.residuals()"
        )
    # one pass is enough here: iterators are welcome
    if hasattr(source, "__next__") and not hasattr(source, "columns"):
        given = Source("the iterator", None, lambda *_: (frame for frame in source))
    else:
        given = source_of(source)
    return _frames(fit, given, Roles(recipe.weights, recipe.offset), kind)


def _frames(fit: Fit, source: Source, roles: Roles, kind: str) -> Iterator[pd.DataFrame]:
    import pandas as pd

    plan = fit.design.plan
    width = len(fit.design.x_names) + sum(len(term.columns) for term in fit.design.terms)
    check_columns(source, plan, roles)
    with closing(source.chunks(roles.names(plan), rows_for(width))) as chunks:
        for chunk in chunks:
            with located(chunk.where, chunk.start):
                part = part_of(plan, chunk.table, roles)
                fitted, resid = _values(fit, part)
            if kind == "pearson":
                root = 1.0 if part.weights is None else np.sqrt(part.weights)
                resid = resid * root / fit.sigma
            index = pd.Index(chunk.start + part.rows, name="row")
            yield pd.DataFrame({"fitted": fitted, "resid": resid}, index=index)


def _values(fit: Fit, part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Fitted values and response residuals of the rows of a chunk that can be used."""
    if part.n == 0:
        return np.zeros(0), np.zeros(0)
    recipe = recipe_of(fit)
    columns = dict(part.columns)
    if part.offset_column is not None:
        columns[part.offset_column.name] = part.offset_column
    table = Table.of_columns(columns, part.n)
    X, _ = recipe.fixed(table)
    fitted = fixed_part(fit.estimates, X)
    offset = part.offset(recipe.memory)
    if offset is not None:
        fitted = fitted + offset
    encoded = recipe.random(table)
    for term, b, (codes, z) in zip(fit.design.terms, fit.estimates.b, encoded, strict=True):
        assert not isinstance(codes, Members), "streams have one level a row"
        if (codes < 0).any():
            raise DataError(
                f"{term.group!r} has levels that the fit has not seen: these are not its rows",
                variable=term.group,
                rows=part.rows[codes < 0][:10].tolist(),
            )
        fitted = fitted + random_part(codes, z, b)
    return fitted, part.response(recipe.memory) - fitted
