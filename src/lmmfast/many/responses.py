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

    values: np.ndarray  # n x m, Fortran order, offsets subtracted
    names: tuple[Any, ...]  # m


def chunks_of(given: Any, design: Design) -> Iterator[Responses]:
    """The responses, chunk by chunk; arrays and tables are one chunk.

    Rows are those of the data that the design was made of, or those that it uses.
    """
    if _is_table(given):
        yield _read(given, design, 0)
        return
    seen = 0
    for chunk in given() if callable(given) else given:
        found = _read(chunk, design, seen)
        seen += len(found.names)
        yield found


def _is_table(given: Any) -> bool:
    return isinstance(given, (np.ndarray, dict)) or hasattr(given, "columns")


def _read(given: Any, design: Design, first: int) -> Responses:
    values, names = _columns(given, design)
    n, rows = len(values), design.rows
    if n == design.n_rows:
        values = values if len(rows) == n else values[rows]
    elif n != design.n:
        used = "" if design.n == design.n_rows else f" ({design.n} of them are used)"
        raise DataError(
            f"{ROLE} has {n} rows, the data have {design.n_rows}{used}: give one column a "
            "response and one value for each row",
            variable=ROLE,
        )
    if design.offset is not None:
        values = values - design.offset[:, None]
    labels = tuple(range(first, first + values.shape[1])) if names is None else names
    return Responses(np.asfortranarray(values), labels)


def _columns(given: Any, design: Design) -> tuple[np.ndarray, tuple[Any, ...] | None]:
    """Numbers (n, m), and names where there are some."""
    if isinstance(given, dict):
        names = tuple(given)
        columns = [np.asarray(floats_of(column, str(name))) for name, column in given.items()]
        if len({column.shape for column in columns}) != 1:
            raise DataError(f"{ROLE}: its columns have different lengths", variable=ROLE)
        return np.column_stack(columns), names
    if hasattr(given, "iloc"):  # pandas: by its labels
        index = design.index
        whole = index is not None and len(given) == len(index)
        own = aligned(given, index, ROLE) if whole else given
        return _floats(own.to_numpy()), tuple(own.columns)
    if hasattr(given, "columns"):
        import narwhals.stable.v2 as nw

        frame = nw.from_native(given, eager_only=True)
        return _floats(frame.to_numpy()), tuple(frame.columns)
    return _floats(given), None


def _floats(values: Any) -> np.ndarray:
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{ROLE} has columns that are not numbers ({error})", variable=ROLE
        ) from None
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2:
        raise DataError(
            f"{ROLE} has shape {found.shape}; it needs one row for each row of the data and one "
            "column a response",
            variable=ROLE,
        )
    return found
