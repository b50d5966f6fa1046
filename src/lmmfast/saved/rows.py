"""Rows as records: columns of model matrices, levels, response, weights, labels of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.fixed import Coded, FixedColumns
from ..data.members import Members
from ..data.rows import Part, RowColumns, Rows
from ..errors import DataError
from ..sources.records import Reader
from ..sources.verify import Damage, fields, items, text, whole
from .kinds import Packer
from .values import read_value, write_value

_ROWS = ("y", "weights", "offset", "positions", "index")
_COLUMNS = ("parts", "values", "level", "place", "coded", "width")


class RowPacker(Packer):
    """A writer that also collects the levels of rows, which terms share."""

    def __init__(self) -> None:
        super().__init__()
        self.levels: list[Any] = []

    def level(self, own: Any) -> int:
        """The number of some levels of rows."""
        found = [i for i, known in enumerate(self.levels) if known is own]
        if not found:
            self.levels.append(own)
        return found[0] if found else len(self.levels) - 1


# ---- levels of rows -----------------------------------------------------------------------------


def write_levels(own: Any, writer: Packer) -> Any:
    """Level of each row, or the weights of several."""
    if not isinstance(own, Members):
        return writer.array(own)
    parts = {name: writer.array(getattr(own, name)) for name in ("ptr", "level", "weight")}
    return {"m": own.m, **parts, "unseen": writer.array(own.unseen)}


def read_levels(item: Any, n: int, m: int, reader: Reader) -> Any:
    """What `write_levels` wrote, for n rows and m levels, each of which has rows."""
    what = "the levels of rows"
    if isinstance(item, dict):
        return _members(item, n, m, reader)
    codes = reader.array(item, what, "i", (n,)).astype(np.int32, copy=False)
    if codes.min(initial=0) < 0 or codes.max(initial=0) >= m:
        raise Damage(f"{what} are unknown")
    return np.ascontiguousarray(codes)


def _members(item: Any, n: int, m: int, reader: Reader) -> Members:
    own, what = fields(item, ("m", "ptr", "level", "weight", "unseen")), "the levels of rows"
    whole(own["m"], what, m, m)
    ptr = reader.array(own["ptr"], what, "i", (n + 1,)).astype(np.int64, copy=False)
    level = reader.array(own["level"], what, "i", (None,)).astype(np.int32, copy=False)
    if ptr[0] != 0 or ptr[-1] != len(level) or (np.diff(ptr) < 0).any():
        raise Damage(f"{what} do not fit the rows")
    if level.min(initial=0) < 0 or level.max(initial=0) >= m:
        raise Damage(f"{what} are unknown")
    inside = np.ones(len(level), dtype=bool)
    inside[ptr[:-1][ptr[:-1] < len(level)]] = False
    if (np.diff(level, prepend=-1)[inside] <= 0).any():
        raise Damage(f"{what} are not in order")
    weight = reader.finite(own["weight"], what, len(level))
    return Members(m, ptr, level, weight, reader.finite(own["unseen"], what, n))


# ---- columns ------------------------------------------------------------------------------------


def write_columns(columns: RowColumns, writer: RowPacker) -> dict[str, Any]:
    """The columns of a model matrix by their parts, or as they are."""
    own: dict[str, Any] = dict.fromkeys(_COLUMNS)
    own["width"] = columns.width
    if columns.level is not None:
        own["level"] = writer.level(columns.level)
    if columns.parts is None:
        own["values"] = writer.array(columns.values)
        return {"rows": own}
    own["parts"] = [[_write_part(part, writer) for part in column] for column in columns.parts]
    if isinstance(columns, FixedColumns):
        own["place"] = writer.array(columns.place)
        own["coded"] = [_write_coded(one, writer) for one in columns.coded]
    return {"rows": own}


def _write_part(part: Part, writer: Packer) -> Any:
    if isinstance(part, tuple):
        return [writer.array(one) for one in part]
    return writer.array(part)


def _write_coded(coded: Coded, writer: Packer) -> dict[str, Any]:
    names = ("codes", "start", "column", "value")
    numbers = None if coded.numbers is None else writer.array(coded.numbers)
    return {**{name: writer.array(getattr(coded, name)) for name in names}, "numbers": numbers}


def read_columns(item: Any, n: int, k: int, levels: list[Any], reader: Reader) -> RowColumns:
    """What `write_columns` wrote: k columns of n rows."""
    own, what = fields(item, _COLUMNS), "the columns of a model matrix"
    whole(own["width"], what, k, k)
    level = None
    if own["level"] is not None:
        level = levels[whole(own["level"], what, 0, len(levels) - 1)]
    if own["parts"] is None:
        return RowColumns(_finite(own["values"], what, reader, (n, k)), level)
    place = own["place"]
    stored = items(own["parts"], what, k if place is None else None)
    parts = tuple(
        tuple(_part_of(one, n, reader) for one in items(column, what)) for column in stored
    )
    if place is None:
        return RowColumns.of_parts(n, parts, level)
    if level is not None:
        raise Damage(f"{what} are of fixed effects and have levels")
    at = reader.array(place, what, "i", (len(parts),)).astype(np.int32, copy=False)
    coded = tuple(_coded_of(one, n, k, reader) for one in items(own["coded"], what))
    taken = np.concatenate([at, *(np.unique(one.column) for one in coded)])
    if not np.array_equal(np.sort(taken), np.arange(k)):
        raise Damage(f"{what} are not {k}, each once")
    return FixedColumns.of_coded(n, k, parts, at, coded)


def _part_of(item: Any, n: int, reader: Reader) -> Part:
    what = "a part of a column"
    if not isinstance(item, list):
        return _finite(item, what, reader, (n,))
    codes, table = items(item, what, 2)
    own = reader.array(codes, what, "i", (n,)).astype(np.int32, copy=False)
    values = reader.array(table, what, "f", (None,), gaps=True)  # the last answers what is missing
    if own.min(initial=0) < 0 or own.max(initial=-1) >= len(values):
        raise Damage(f"{what} has unknown levels")
    if not np.isfinite(values[own]).all():
        raise Damage(f"{what} is not finite")
    return own, values


def _coded_of(item: Any, n: int, p: int, reader: Reader) -> Coded:
    own, what = fields(item, ("codes", "start", "column", "value", "numbers")), "coded columns"
    codes = reader.array(own["codes"], what, "i", (n,)).astype(np.int32, copy=False)
    start = reader.array(own["start"], what, "i", (None,)).astype(np.int32, copy=False)
    column = reader.array(own["column"], what, "i", (None,)).astype(np.int32, copy=False)
    value = reader.finite(own["value"], what, len(column))
    if len(start) < 2 or start[0] != 0 or start[-1] != len(column) or (np.diff(start) < 0).any():
        raise Damage(f"{what} do not fit their levels")
    if codes.min(initial=0) < 0 or codes.max(initial=0) >= len(start) - 1:
        raise Damage(f"{what} have unknown levels")
    if column.min(initial=0) < 0 or column.max(initial=0) >= p:
        raise Damage(f"{what} are unknown")
    inside = np.ones(len(column), dtype=bool)
    inside[start[:-1][start[:-1] < len(column)]] = False
    if (np.diff(column, prepend=-1)[inside] <= 0).any():
        raise Damage(f"{what} are not in order")
    numbers = None if own["numbers"] is None else reader.finite(own["numbers"], what, n)
    return Coded(codes, numbers, start, column, value)


def _finite(item: Any, what: str, reader: Reader, shape: tuple[int, ...]) -> NDArray[Any]:
    """Finite numbers of any width, of a kind that the core reads."""
    found = reader.named(item, what)
    if found.dtype.kind not in "biuf" or found.itemsize > 8 or not found.dtype.isnative:
        raise Damage(f"{what} has type {found.dtype}")
    if found.dtype.kind == "f" and found.itemsize < 4:
        raise Damage(f"{what} has type {found.dtype}")
    if found.shape != shape:
        raise Damage(f"{what} has shape {found.shape}, not {shape}")
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise Damage(f"{what} is not finite")
    return found


# ---- what is not in the matrices ----------------------------------------------------------------


def write_rows(rows: Rows, writer: Packer) -> dict[str, Any]:
    """Response, weights, offset, and which rows of the data these are."""
    at = rows.positions
    positions = [at.start, at.stop] if isinstance(at, range) else writer.array(at)
    weights, offset = (
        None if own is None else writer.array(own) for own in (rows.weights, rows.offset)
    )
    return {
        "y": writer.array(rows.y),
        "weights": weights,
        "offset": offset,
        "positions": positions,
        "index": _write_index(rows.index, writer),
    }


def read_rows(item: Any, reader: Reader) -> Rows:
    """What `write_rows` wrote."""
    own = fields(item, _ROWS)
    y = reader.finite(own["y"], "the response", None)
    n = len(y)
    if not n:
        raise Damage("there are no rows")
    weights, offset = (
        None if own[name] is None else reader.finite(own[name], f"the {name}", n)
        for name in ("weights", "offset")
    )
    if weights is not None and not (weights > 0).all():
        raise Damage("the weights are not positive")
    return Rows(y, weights, offset, _positions(own["positions"], n, reader), _index(own, n, reader))


def _positions(item: Any, n: int, reader: Reader) -> NDArray[np.int64] | range:
    what = "the positions of the rows"
    if isinstance(item, list):
        start, stop = (whole(one, what) for one in items(item, what, 2))
        if stop - start != n:
            raise Damage(f"{what} are not {n}")
        return range(start, stop)
    found = reader.array(item, what, "i", (n,)).astype(np.int64, copy=False)
    if found.min() < 0 or (np.diff(found) <= 0).any():
        raise Damage(f"{what} do not increase")
    return found


def _write_index(index: Any, writer: Packer) -> Any:
    """Labels of the rows used, of pandas data."""
    if index is None:
        return None
    import pandas as pd

    name = None if index.name is None else str(index.name)
    if isinstance(index, pd.RangeIndex):
        return {"name": name, "range": [index.start, index.stop, index.step], "labels": None}
    if isinstance(index, pd.MultiIndex):
        raise DataError(
            "the data have an index of several levels, which a file does not hold: fit "
            "data.reset_index()"
        )
    labels = write_value(index.to_numpy(), writer, "the index of the data")
    return {"name": name, "range": None, "labels": labels}


def _index(rows: dict[str, Any], n: int, reader: Reader) -> Any:
    if rows["index"] is None:
        return None
    import pandas as pd

    what = "the index of the data"
    own = fields(rows["index"], ("name", "range", "labels"))
    name = None if own["name"] is None else text(own["name"], what)
    if own["range"] is not None:
        parts = items(own["range"], what, 3)
        if not all(type(one) is int and abs(one) < 2**53 for one in parts) or not parts[2]:
            raise Damage(f"{what} is no range")
        made: Any = pd.RangeIndex(parts[0], parts[1], parts[2], name=name)
    else:
        labels = read_value(own["labels"], what, reader)
        if not isinstance(labels, np.ndarray) or labels.ndim != 1:
            raise Damage(f"{what} is no list of labels")
        made = pd.Index(labels, name=name)
    if len(made) != n:
        raise Damage(f"{what} has {len(made)} labels, the rows are {n}")
    return made
