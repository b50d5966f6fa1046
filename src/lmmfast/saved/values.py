"""Plain values of any shape as JSON and arrays: what expressions of a formula remember."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DataError
from ..formula.column import Column, Text
from ..formula.hypotheses import Hypotheses
from ..formula.values import Matrix, Named
from ..sources.records import Reader, read_label, write_label
from ..sources.verify import Damage, fields, flag, items, text
from .kinds import Kind, Packer

DEEPEST = 40  # lists in lists


def write_value(value: Any, writer: Packer, what: str) -> Any:
    """A value as JSON and arrays; DataError where it is of no kind that a file can hold."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Matrix):
        return {"matrix": writer.array(value.values), "names": list(value.names)}
    if isinstance(value, Named):
        return {"named": writer.array(np.asarray(value)), "names": list(value.names)}
    if type(value) is np.ndarray and value.dtype.kind in "biufmM":
        return {"array": writer.array(value)}
    if type(value) is np.ndarray and value.dtype.kind == "O" and value.ndim == 1:
        return {"objects": [write_value(one, writer, what) for one in value.tolist()]}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {"scalar": writer.array(np.array([value]))}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [write_value(one, writer, what) for one in value]}
    if isinstance(value, dict):
        pairs = value.items()
        return {"pairs": [[write_value(one, writer, what) for one in pair] for pair in pairs]}
    if isinstance(value, Column):
        return write_column(value, writer, what)
    if isinstance(value, Hypotheses):
        return {"hypotheses": [list(pair) for pair in value.texts], "rest": value.rest}
    try:
        return write_label(value)
    except DataError:
        raise DataError(
            f"{what} keeps a value of type {type(value).__name__}, which a file cannot hold: "
            "compute it as a column of the data, or pickle the fit"
        ) from None


def read_value(item: Any, what: str, reader: Reader, depth: int = 0) -> Any:
    """What `write_value` wrote."""
    if item is None or isinstance(item, (bool, str)):
        return item
    if not isinstance(item, dict) or not item or depth > DEEPEST:
        raise Damage(f"{what} has a value that is neither plain nor tagged")
    kind = next(iter(item))
    if kind in ("list", "tuple", "objects"):
        found = [
            read_value(one, what, reader, depth + 1)
            for one in items(fields(item, (kind,))[kind], what)
        ]
        if kind == "objects":
            out = np.empty(len(found), dtype=object)
            out[:] = found
            return out
        return found if kind == "list" else tuple(found)
    if kind == "pairs":
        return _pairs(fields(item, ("pairs",))["pairs"], what, reader, depth)
    if kind in ("array", "scalar"):
        own = reader.array(fields(item, (kind,))[kind], what, "biufmM", gaps=True)
        if kind == "array":
            return own
        if own.shape != (1,):
            raise Damage(f"{what} has a number of shape {own.shape}")
        return own[0]
    if kind in ("matrix", "named"):
        return _with_names(fields(item, (kind, "names")), kind, what, reader)
    if kind == "column":
        return read_column(item, what, reader)
    if kind == "hypotheses":
        given = fields(item, ("hypotheses", "rest"))
        pairs = [items(pair, what, 2) for pair in items(given["hypotheses"], what)]
        texts = tuple((text(name, what), text(said, what)) for name, said in pairs)
        return Hypotheses(texts, flag(given["rest"], what))
    return read_label(item)


def _pairs(given: Any, what: str, reader: Reader, depth: int) -> dict[Any, Any]:
    out: dict[Any, Any] = {}
    for pair in items(given, what):
        key, value = (read_value(one, what, reader, depth + 1) for one in items(pair, what, 2))
        try:
            out[key] = value
        except TypeError:
            raise Damage(f"{what} has a name that is a {type(key).__name__}") from None
    return out


def _with_names(own: dict[str, Any], kind: str, what: str, reader: Reader) -> Any:
    names = tuple(text(name, what) for name in items(own["names"], what))
    if kind == "matrix":
        return Matrix(reader.array(own[kind], what, "biuf", (None, None), gaps=True), names)
    values = reader.array(own[kind], what, "biuf", (None,), gaps=True).view(Named)
    values.names = names
    return values


_COLUMN = ("column", "values", "codes", "levels", "ordered", "text", "declared")


def write_column(column: Column, writer: Packer, what: str) -> dict[str, Any]:
    """A variable: numbers, or codes and levels."""
    if column.contrasts is not None:
        raise DataError(f"{what} keeps contrasts: give them as contrasts=, or pickle the fit")
    return {
        "column": column.name,
        "values": None if column.values is None else writer.array(column.values),
        "codes": None if column.codes is None else writer.array(column.codes),
        "levels": writer.labels(column.levels),
        "ordered": column.ordered,
        "text": isinstance(column, Text),
        "declared": writer.labels(column.declared),
    }


def read_column(item: Any, what: str, reader: Reader) -> Column:
    """Numbers, or codes of levels."""
    own = fields(item, _COLUMN)
    name = text(own["column"], what)
    if own["values"] is not None:
        if own["codes"] is not None or own["levels"] is not None:
            raise Damage(f"{what} has numbers and levels")
        return Column(name, reader.array(own["values"], what, "biuf", (None,), gaps=True))
    codes = reader.array(own["codes"], what, "i", (None,)).astype(np.int32, copy=False)
    levels = reader.levels(own["levels"], what)
    if len(codes) and not -1 <= codes.min() <= codes.max() < len(levels):
        raise Damage(f"{what} has codes of unknown levels")
    make = Text if flag(own["text"], what) else Column
    more = {"ordered": flag(own["ordered"], what), "declared": reader.labels(own["declared"], what)}
    return make.factor(name, codes, levels, **more)


def value(what: str) -> Kind:
    """Any plain value."""
    return Kind(
        lambda v, writer: write_value(v, writer, what),
        lambda x, said, reader: read_value(x, said, reader),
        "plain value",
    )
