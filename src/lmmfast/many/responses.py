"""Many responses beside the rows of one design: an array or a table, or chunks of these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..data.alignment import aligned
from ..data.design import Design
from ..errors import DataError
from ..formula.cells import floats_of

ROLE = "Y"  # what messages call the responses


class Responses(NamedTuple):
    """Some columns: a value for each row that the design uses, NaN where it is missing."""

    values: np.ndarray  # n x m, Fortran order, offsets of linear models subtracted
    names: tuple[Any, ...]  # m
    weights: np.ndarray | None  # n x m, Fortran order


def chunks_of(given: Any, weights: Any, design: Design) -> Iterator[Responses]:
    """The responses, chunk by chunk; arrays and tables are one chunk.

    Rows are those of the data that the design was made of, or those that it uses. weights: a column
    for each response, in the same chunks; None: those of the design.
    """
    if given is None or isinstance(given, (str, bytes)):
        raise DataError(
            f"{ROLE} must be an array (n, m), a table, or chunks of these, not {given!r}: of "
            "columns of the data write data[[...]]",
            variable=ROLE,
        )
    if _is_table(given):
        yield _weighted(_read(given, design, 0), weights, design)
        return
    seen = 0
    own = iter(weights() if callable(weights) else weights) if weights is not None else None
    for chunk in given() if callable(given) else given:
        found = _read(chunk, design, seen)
        seen += len(found.names)
        if own is None:
            yield found
            continue
        if (part := next(own, None)) is None:
            raise DataError("weights have fewer chunks than Y", variable="weights")
        yield _weighted(found, part, design)


def _weighted(found: Responses, weights: Any, design: Design) -> Responses:
    """With a weight for each value; a value without weight, or with weight zero, is missing."""
    if weights is None:
        return found
    w, names = _columns(weights, design, "weights")
    w = _in_rows(w, design, "weights")
    if w.shape != found.values.shape:
        raise DataError(
            f"weights have {w.shape[1]} columns, {ROLE} has {found.values.shape[1]}: give one "
            "column of weights for each response",
            variable="weights",
        )
    if names is not None and set(names) == set(found.names) and names != found.names:
        w = w[:, [names.index(name) for name in found.names]]
    if (w < 0).any() or np.isinf(w).any():
        raise DataError("weights must be finite and not negative", variable="weights")
    empty = ~(w > 0)
    values = np.where(empty, np.nan, found.values)
    return Responses(np.asfortranarray(values), found.names, np.where(empty, 1.0, w))


def _is_table(given: Any) -> bool:
    return isinstance(given, (np.ndarray, dict)) or hasattr(given, "columns")


def _read(given: Any, design: Design, first: int) -> Responses:
    values, names = _columns(given, design, ROLE)
    if not values.shape[1]:
        raise DataError(f"{ROLE} has no columns: there is nothing to fit", variable=ROLE)
    values = _in_rows(values, design, ROLE)
    if design.offset is not None and design.outcome is None:  # generalized models have their own
        values = values - design.offset[:, None]
    labels = tuple(range(first, first + values.shape[1])) if names is None else names
    return Responses(np.asfortranarray(values), labels, None)


def _in_rows(values: np.ndarray, design: Design, role: str) -> np.ndarray:
    """In the rows that the design uses."""
    n, rows = len(values), design.rows
    if n == design.n_rows:
        return values if len(rows) == n else values[rows]
    if n != design.n:
        used = "" if design.n == design.n_rows else f" ({design.n} of them are used)"
        raise DataError(
            f"{role} has {n} rows, the data have {design.n_rows}{used}: give one column a "
            "response and one value for each row",
            variable=role,
        )
    return values


def _columns(given: Any, design: Design, role: str) -> tuple[np.ndarray, tuple[Any, ...] | None]:
    """Numbers (n, m), and names where there are some."""
    if isinstance(given, dict):
        names = tuple(given)
        columns = [np.asarray(floats_of(column, str(name))) for name, column in given.items()]
        if len({column.shape for column in columns}) != 1:
            raise DataError(f"{role}: its columns have different lengths", variable=role)
        return np.column_stack(columns), names
    if hasattr(given, "iloc"):  # pandas: by its labels
        index = design.index
        whole = index is not None and len(given) == len(index)
        own = aligned(given, index, role) if whole else given
        return _floats(own.to_numpy(), role), tuple(own.columns)
    if hasattr(given, "columns"):
        import narwhals.stable.v2 as nw

        frame = nw.from_native(given, eager_only=True)
        return _floats(frame.to_numpy(), role), tuple(frame.columns)
    return _floats(given, role), None


def _floats(values: Any, role: str) -> np.ndarray:
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{role} has columns that are not numbers ({error})", variable=role
        ) from None
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2:
        raise DataError(
            f"{role} has shape {found.shape}; it needs one row for each row of the data and one "
            "column a response",
            variable=role,
        )
    return found
