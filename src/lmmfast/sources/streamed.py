"""Designs of what is not a table in memory: two passes over a source, or cross-products."""

from __future__ import annotations

import functools
import operator
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from ..data.design import Design, build
from ..errors import DataError, FormulaError
from ..formula.plan import plan_of, without_dot
from ..formula.residual import dispersion_of
from .cross import CrossProducts, cross_products
from .design import design_of, stratified_design_of
from .kept import kept_design, same_counts
from .labels import Grouper
from .libraries import chunks_of, partitions, reduced
from .open import collected, files_source, is_dask, stream_of
from .part import Roles
from .paths import Text, columns_of, expand, fits_in_memory, kind_of, read_text
from .source import Chunk, Source, located
from .spec import CHANGED, Spec, checked_formula, sample_of, spec_of, surveyed, with_coordinates
from .strata import StratifiedProducts, empty_products

_NEEDS_ROWS = (
    "a generalized model goes over its rows many times, and cross-products have none: give it the "
    "data, glmer(formula, data); files and streams are read twice"
)
_RELATED = (
    "relationship= needs the rows in memory, as a table; read what is streamed first "
    "(pandas.read_parquet(path), data.compute(), ...)"
)
_STRUCTURE_NEEDS_ROWS = (
    "residual= and dispersion= need the rows in memory, as a table; read what is streamed first "
    "(pandas.read_parquet(path), data.compute(), ...). Only strata, "
    'dispersion="~ factor", can be summed'
)


def any_design(
    formula: Any,
    data: Any,
    weights: Any,
    offset: Any,
    contrasts: Mapping[str, Any] | None,
    kind: str | None = None,
    relationship: Mapping[str, Any] | None = None,
    structure: tuple[str | None, str | None] = (None, None),
) -> Design:
    """The design of whatever `lmer`, or with a kind `glmer`, was given besides pandas, polars and
    dicts."""
    if relationship is not None and (is_dask(data) or isinstance(formula, CrossProducts)):
        raise DataError(_RELATED)
    if kind is not None and (isinstance(formula, CrossProducts) or isinstance(data, CrossProducts)):
        raise DataError(_NEEDS_ROWS)
    if structure != (None, None) and isinstance(formula, CrossProducts):
        raise DataError(_STRUCTURE_NEEDS_ROWS)
    if isinstance(formula, CrossProducts):
        if not (data is weights is offset is contrasts is None):
            raise TypeError(
                "lmer(cross) takes no data, weights, offset or contrasts: they are in the "
                "cross-products"
            )
        return design_of(formula)
    if isinstance(data, CrossProducts):
        raise TypeError("cross-products have their formula: write lmer(cross)")
    if data is None:
        raise TypeError("a formula needs data: lmer(formula, data), plan(formula, data)")
    if not isinstance(formula, str):
        raise FormulaError(
            f"the formula comes first: it must be text, not {type(formula).__name__}"
        )
    if is_dask(data) and kind is None:
        formula = checked_formula(formula, lambda: map(str, data.columns))
        roles = _with_strata(Roles.of(weights, offset), structure)
        return _any_design_of(cross_of(formula, data, roles, contrasts))
    data = held(formula, collected(data))
    source = stream_of(data)
    if source is None:
        how = {"weights": weights, "offset": offset, "contrasts": contrasts}
        dispersion, residual = structure
        more: dict[str, Any] = {"kind": kind, "dispersion": dispersion, "residual": residual}
        return build(formula, data, **how, **more, relationship=relationship)
    if relationship is not None:
        raise DataError(_RELATED)
    formula = checked_formula(formula, source.columns)
    roles = _with_strata(Roles.of(weights, offset, kind), structure)
    made = streamed_design if kind is None else kept_design
    return made(formula, source, roles, contrasts)


def _with_strata(roles: Roles, structure: tuple[str | None, str | None]) -> Roles:
    """With strata of the residuals, which can be summed; DataError for other structures."""
    dispersion, residual = structure
    strata = dispersion is not None and dispersion_of(dispersion).kind == "strata"
    if residual is not None or (dispersion is not None and not strata):
        raise DataError(_STRUCTURE_NEEDS_ROWS)
    return replace(roles, dispersion=dispersion)


def _any_design_of(cross: CrossProducts) -> Design:
    if isinstance(cross, StratifiedProducts):
        return stratified_design_of(cross)
    return design_of(cross)


def held(formula: Any, data: Any) -> Any:
    """Text files that fit in memory as a frame, other files as a source, anything else as it is."""
    listed = isinstance(data, (list, tuple)) and len(data) > 0
    names = data if listed else [data]
    if not all(isinstance(one, (str, os.PathLike)) for one in names):
        return data
    paths = expand(data)
    if any(path.is_dir() for path in paths):
        return data
    text = kind_of(paths) == "text"
    numeric = numeric_names(formula, lambda: columns_of(paths[0], Text())) if text else ()
    if text and fits_in_memory(paths):
        return read_text(paths, Text(), numeric)
    return files_source(data, Text(), numeric)


def numeric_names(formula: Any, names: Callable[[], Iterable[str]]) -> tuple[str, ...]:
    """Variables of the response, the fixed part and the offsets of a formula.

    `names` gives the columns of the data, which a ``.`` stands for.
    """
    if not isinstance(formula, str):
        return ()
    plan = plan_of(without_dot(formula, names, quiet=True))
    atoms = (plan.response, *plan.fixed.atoms, *plan.offsets)
    return tuple(dict.fromkeys(name for atom in atoms for name in atom.names))


def streamed_design(
    formula: str, source: Source, roles: Roles, contrasts: Mapping[str, Any] | None
) -> Design:
    """Two passes over a source."""
    spec, survey = surveyed(formula, source, roles, contrasts)
    with closing(source.chunks(spec.names, spec.chunk_rows)) as chunks:
        seen: deque[Chunk] = deque()  # the first chunks are used twice, and let go
        spec = with_coordinates(spec, sample_of(spec, _noted(chunks, seen)))
        again = (seen.popleft() for _ in range(len(seen)))
        groups = (survey.groups[label] for label, _ in spec.factors)
        made = cross_products(spec, chain(again, chunks), groups, empty_products(spec))
    if made.n != survey.n:
        raise DataError(
            f"the data changed between the two passes: {survey.n} rows could be used in the "
            f"first, {made.n} in the second; give a source that yields the same rows each time"
        )
    for group in made._groups:
        same_counts(survey.groups[group.label], group)
    made._blocks.compact()  # the model comes beside it
    return _any_design_of(made)


def _noted(chunks: Iterator[Chunk], seen: deque[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        seen.append(chunk)
        yield chunk


# ---- Dask ----------------------------------------------------------------------------------------


def cross_of(
    formula: str, data: Any, roles: Roles, contrasts: Mapping[str, Any] | None
) -> CrossProducts:
    """The cross-products of a Dask data frame."""
    spec, survey = spec_of(formula, data, roles, contrasts)
    parts = partitions(formula, data, roles)
    cross: CrossProducts = reduced(parts, _cross, spec, _added)
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


def _cross(spec: Spec, part: Any, number: int) -> CrossProducts:
    made = empty_products(spec)
    for chunk in chunks_of(part, number, spec.chunk_rows):
        with located(chunk.where, chunk.start):
            made.add(chunk.table)
    return made


def _added(parts: list[CrossProducts]) -> CrossProducts:
    return functools.reduce(operator.iadd, parts[1:], parts[0].copy())
