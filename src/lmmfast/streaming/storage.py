"""Cross-products as bytes: an .npz archive of plain arrays with a header in JSON, no pickle."""

from __future__ import annotations

import datetime
import io
import json
import math
import os
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..columns import Column
from ..encode import Coding, Layout
from ..errors import DataError, LmmError
from ..formula.expressions import Memory, read_expression
from .coordinates import Basis, Coordinates
from .labels import Grouper, Labels, labels_of
from .part import Roles
from .spec import Known, Spec, check_formula, teach

if TYPE_CHECKING:
    from .cross import CrossProducts

__all__ = ["blocks_from", "blocks_to", "pack", "spec_to", "unpack", "write"]

FORMAT = "lmmfast cross-products"
VERSION, OLDEST = 3, 1

Arrays = dict[str, NDArray[Any]]


class _Writer:
    """Collects arrays; what is written refers to them by name."""

    def __init__(self) -> None:
        self.arrays: Arrays = {}

    def array(self, value: Any) -> str:
        """A numeric array."""
        name = f"a{len(self.arrays)}"
        self.arrays[name] = np.ascontiguousarray(value)
        return name

    def labels(self, value: NDArray[Any] | None) -> Any:
        """Levels with their type: numbers, booleans and times as arrays, others one by one."""
        if value is None:
            return None
        if value.dtype.kind in "biufmM":
            return {"array": self.array(value)}
        return {"list": [_plain(label) for label in value.tolist()]}


class _Reader:
    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays

    def labels(self, value: Any) -> NDArray[Any] | None:
        """What `_Writer.labels` wrote."""
        if value is None:
            return None
        if "array" in value:
            return self.arrays[value["array"]]
        out = np.empty(len(value["list"]), dtype=object)
        out[:] = [_label(item) for item in value["list"]]
        return out


def _plain(label: Any) -> Any:
    """A label as JSON can hold it; what is not text is tagged."""
    if isinstance(label, str):
        return str(label)
    if isinstance(label, (bool, np.bool_)):
        return {"flag": bool(label)}
    if isinstance(label, (int, np.integer)):
        return {"int": str(int(label))}
    if isinstance(label, (float, np.floating)):
        return {"float": float(label).hex()}
    if isinstance(label, datetime.datetime):
        return {"datetime": label.isoformat()}
    if isinstance(label, datetime.date):
        return {"date": label.isoformat()}
    raise DataError(
        f"cross-products with a level of type {type(label).__name__} ({label!r}) cannot be saved: "
        "use numbers, text, booleans or dates as levels"
    )


def _label(item: Any) -> Any:
    if isinstance(item, str):
        return item
    ((kind, value),) = item.items()
    made: dict[str, Any] = {
        "flag": bool,
        "int": int,
        "float": float.fromhex,
        "datetime": datetime.datetime.fromisoformat,
        "date": datetime.date.fromisoformat,
    }
    return made[kind](value)


# ---- the spec -----------------------------------------------------------------------------------


def spec_to(spec: Spec) -> tuple[dict[str, Any], Arrays]:
    """A spec as a header and arrays."""
    writer = _Writer()
    return _spec(spec, writer), writer.arrays


def _spec(spec: Spec, writer: _Writer) -> dict[str, Any]:
    own = spec.coordinates
    assert own is not None
    return {
        "formula": spec.formula,
        "weights": spec.roles.weights,
        "offset": spec.roles.offset,
        "codings": [_coding(coding, writer) for coding in spec.codings.values()],
        "fixed": _layout(spec.fixed),
        "random": [_layout(layout) for layout in spec.random],
        "variables": {
            name: [writer.labels(known.levels), known.numeric, known.ordered]
            for name, known in spec.variables.items()
        },
        "taught": {name: _column(column, writer) for name, column in spec.taught.items()},
        "coordinates": {
            "fixed": _basis(own.fixed, writer),
            "random": [_basis(basis, writer) for basis in own.random],
            "slope": writer.array(own.slope),
            "yscale": own.yscale.hex(),
            "center": own.center.hex(),
            "shift": own.shift.hex(),
        },
    }


def _spec_of(header: dict[str, Any], reader: _Reader) -> Spec:
    check_formula(header["formula"])
    arrays, own = reader.arrays, header["coordinates"]
    made = Spec(
        formula=header["formula"],
        roles=Roles(header["weights"], header["offset"]),
        codings={item["label"]: _coding_of(item, reader) for item in header["codings"]},
        fixed=_layout_of(header["fixed"]),
        random=tuple(_layout_of(item) for item in header["random"]),
        variables={
            name: Known(reader.labels(levels), numeric, ordered)
            for name, (levels, numeric, ordered) in header["variables"].items()
        },
        memory=Memory(),
        taught={name: _column_of(name, item, reader) for name, item in header["taught"].items()},
        coordinates=Coordinates(
            _basis_of(own["fixed"], arrays),
            tuple(_basis_of(item, arrays) for item in own["random"]),
            arrays[own["slope"]],
            float.fromhex(own["yscale"]),
            float.fromhex(own["center"]),
            float.fromhex(own.get("shift", "0x0p+0")),  # not in version 1
        ),
    )
    factors = {label for label, coding in made.codings.items() if coding.levels is not None}
    teach(made.plan, made.taught, made.memory, factors)
    return made


def _coding(coding: Coding, writer: _Writer) -> dict[str, Any]:
    return {
        "label": coding.label,
        "levels": writer.labels(coding.levels),
        "contrast": None if coding.contrast is None else writer.array(coding.contrast),
        "names": list(coding.names),
        "dummy_names": list(coding.dummy_names),
    }


def _coding_of(item: dict[str, Any], reader: _Reader) -> Coding:
    contrast = item["contrast"]
    return Coding(
        item["label"],
        reader.labels(item["levels"]),
        None if contrast is None else np.asfortranarray(reader.arrays[contrast]),
        tuple(item["names"]),
        tuple(item["dummy_names"]),
    )


def _layout(layout: Layout) -> dict[str, Any]:
    return {
        "names": list(layout.names),
        "columns": [[list(own) for own in factors] for factors in layout.columns],
        "atoms": [atom.text for atom in layout.atoms],
    }


def _layout_of(item: dict[str, Any]) -> Layout:
    columns = tuple(
        tuple((label, bool(dummy), int(j)) for label, dummy, j in factors)
        for factors in map(_factors, item["columns"])
    )
    texts = (atom if isinstance(atom, str) else atom[0] for atom in item["atoms"])
    atoms = tuple(map(read_expression, texts))
    return Layout(tuple(item["names"]), columns, atoms)


def _factors(column: list[Any]) -> list[Any]:
    """The factors of a column; up to version 2 a number stood before them."""
    if column and not isinstance(column[0], list):
        scale, column = column
        if scale != 1:
            raise DataError(
                "these cross-products have numbers as factors, as in 2:x: make them anew"
            )
    return column


def _column(column: Column, writer: _Writer) -> dict[str, Any]:
    numeric = column.values is not None
    levels = column.values if numeric else column.levels
    return {
        "levels": writer.labels(levels),
        "numeric": numeric,
        "ordered": column.ordered,
        "category": column.declared is not None,
    }


def _column_of(name: str, item: dict[str, Any], reader: _Reader) -> Column:
    levels = reader.labels(item["levels"])
    assert levels is not None
    if item["numeric"]:
        return Column(name, levels)
    codes = np.arange(len(levels), dtype=np.int32)
    category = bool(item.get("category", False))  # not in files of earlier versions
    return Column(name, None, codes, levels, item["ordered"], declared=levels if category else None)


def _basis(basis: Basis, writer: _Writer) -> list[Any]:
    constant = float(basis.constant).hex()
    own = writer.array(basis.own)
    return [writer.array(basis.mean), writer.array(basis.B), constant, own, basis.doubtful]


def _basis_of(item: list[Any], arrays: Arrays) -> Basis:
    mean, B, constant, own, doubtful = item
    return Basis(arrays[mean], arrays[B], float.fromhex(constant), arrays[own], bool(doubtful))


# ---- blocks and grouping factors ----------------------------------------------------------------


def blocks_to(blocks: Any, factors: int) -> Arrays:
    """The compiled cross-products as arrays."""
    arrays: Arrays = {"corner": blocks.corner, "nlev": np.array(blocks.nlev, dtype=np.int64)}
    for a in range(factors):
        arrays[f"diagonal{a}"], arrays[f"edge{a}"] = blocks.diagonal(a), blocks.edge(a)
        for c in range(a + 1, factors):
            la, lc, values = blocks.pairs(a, c)
            arrays |= {f"la{a}_{c}": la, f"lc{a}_{c}": lc, f"values{a}_{c}": values}
    return arrays


def blocks_from(arrays: Arrays, widths: list[int], border: int) -> Any:
    """What `blocks_to` made, compiled again."""
    K = range(len(widths))
    pairs = {
        (a, c): (arrays[f"la{a}_{c}"], arrays[f"lc{a}_{c}"], arrays[f"values{a}_{c}"])
        for a in K
        for c in K
        if a < c
    }
    diagonals, edges = [arrays[f"diagonal{k}"] for k in K], [arrays[f"edge{k}"] for k in K]
    nlev = [int(m) for m in arrays["nlev"]]
    return _core.Blocks.of_arrays(widths, border, nlev, diagonals, edges, arrays["corner"], pairs)


def _group(group: Grouper, writer: _Writer) -> dict[str, Any]:
    return {
        "label": group.label,
        "atoms": [atom.label for atom in group.atoms],
        "tables": [_table(table, writer) for table in group.tables],
        "pairs": [writer.array(keys) for keys in group.pair_keys()],
        "counts": writer.array(group.counts),
    }


def _table(table: Labels, writer: _Writer) -> dict[str, Any]:
    declared = table.declared
    return {
        "kind": table.kind,
        "labels": writer.labels(table.array()),
        "declared": None if declared is None else [_plain(key) for key in declared],
    }


def _group_of(item: dict[str, Any], group: Grouper, reader: _Reader) -> None:
    """Fills an empty grouping factor."""
    group.tables = []
    for own in item["tables"]:
        declared = None if own["declared"] is None else [_label(key) for key in own["declared"]]
        labels = reader.labels(own["labels"])
        assert labels is not None
        group.tables.append(labels_of(own["kind"], labels, declared))
    group.fill([reader.arrays[name] for name in item["pairs"]], reader.arrays[item["counts"]])


# ---- whole cross-products -----------------------------------------------------------------------

_NUMBERS = ("_response", "_sums", "_cells", "_plain", "_columns", "_largest")
_NEW = ("_largest",)  # not in version 1


def pack(cross: CrossProducts) -> bytes:
    """Cross-products as bytes."""
    writer = _Writer()
    header = {
        "format": FORMAT,
        "version": VERSION,
        "spec": _spec(cross.spec, writer),
        "groups": [_group(group, writer) for group in cross._groups],
        "n": cross.n,
        "n_rows": cross.n_rows,
        "dropped": cross.dropped,
        "sumlogw": cross._sumlogw.hex(),
        "weights": [value.hex() for value in cross._weights],
        "numbers": {name: writer.array(getattr(cross, name)) for name in _NUMBERS},
    }
    arrays = writer.arrays | {
        f"b_{name}": array for name, array in blocks_to(cross._blocks, len(cross._groups)).items()
    }
    text = json.dumps(header, ensure_ascii=True, allow_nan=False).encode()
    arrays["header"] = np.frombuffer(text, dtype=np.uint8)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def unpack(data: bytes, name: str) -> CrossProducts:
    """What `pack` made.

    Raises
    ------
    DataError
        When it is something else, damaged, or of a later version.
    """
    arrays = _arrays(data, name)
    header = _header(arrays, name)
    try:
        return _cross_of(header, arrays)
    except LmmError:
        raise
    except Exception as error:  # whatever bytes that are not what was written lead to
        raise _damaged(name, f"{type(error).__name__}: {error}") from error


def _arrays(data: bytes, name: str) -> Arrays:
    if data[:4] != b"PK\x03\x04":
        raise DataError(f"{name} are not cross-products of lmmfast: use what save() wrote")
    try:
        _check_sizes(data)
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # zipfile and numpy have many, NotImplementedError among them
        raise _damaged(name, f"{type(error).__name__}: {error}") from error


def _check_sizes(data: bytes) -> None:
    """Arrays must be as long as they say, before memory is taken for them."""
    from numpy.lib import format as npy

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for item in archive.infolist():
            if item.compress_type != zipfile.ZIP_STORED or item.file_size > len(data):
                raise ValueError(f"{item.filename} is compressed or too long")
            with archive.open(item) as file:
                one = npy.read_magic(file) == (1, 0)
                read = npy.read_array_header_1_0 if one else npy.read_array_header_2_0
                shape, _, dtype = read(file)
                if math.prod(shape) * dtype.itemsize != item.file_size - file.tell():
                    raise ValueError(f"{item.filename} has another size than its shape {shape}")


def _header(arrays: Arrays, name: str) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(arrays["header"].tobytes())
        version = header["version"]
        if header["format"] != FORMAT:
            raise KeyError("format")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"{name} are not cross-products of lmmfast: use what save() wrote"
        ) from error
    if not isinstance(version, int) or not OLDEST <= version <= VERSION:
        raise DataError(
            f"{name}: cross-products of version {version} of the format; this lmmfast reads "
            f"up to version {VERSION}: use the lmmfast that wrote them, or a newer one"
        )
    return header


def _damaged(name: str, reason: str) -> DataError:
    return DataError(f"{name}: the cross-products are damaged or cut short ({reason})")


def _cross_of(header: dict[str, Any], arrays: Arrays) -> CrossProducts:
    from .cross import CrossProducts

    reader = _Reader(arrays)
    spec = _spec_of(header["spec"], reader)
    cross = CrossProducts(spec)
    for group, item in zip(cross._groups, header["groups"], strict=True):
        _group_of(item, group, reader)
    cross.n, cross.n_rows = int(header["n"]), int(header["n_rows"])
    cross.dropped = {str(key): int(value) for key, value in header["dropped"].items()}
    cross._sumlogw = float.fromhex(header["sumlogw"])
    low, high = map(float.fromhex, header["weights"])
    cross._weights = low, high
    for name in _NUMBERS:
        if name in _NEW and name not in header["numbers"]:
            continue
        value = arrays[header["numbers"][name]]
        if value.shape != getattr(cross, name).shape:
            raise ValueError(f"{name} has shape {value.shape}")
        setattr(cross, name, value)
    own = {key[2:]: array for key, array in arrays.items() if key.startswith("b_")}
    cross._blocks = blocks_from(own, spec.widths, spec.border)
    if cross._blocks.nlev != [len(group) for group in cross._groups]:
        raise ValueError("levels and blocks differ")
    _check_numbers(cross, own)
    return cross


def _check_numbers(cross: CrossProducts, blocks: Arrays) -> None:
    """Counts and sums that rows can have.

    Raises
    ------
    ValueError
    """
    if not 0 <= cross.n <= cross.n_rows or any(count < 0 for count in cross.dropped.values()):
        raise ValueError(f"{cross.n} rows are used of {cross.n_rows}")
    for group in cross._groups:
        if (group.counts < 0).any() or int(group.counts.sum()) != cross.n:
            raise ValueError(f"the levels of {group.label!r} do not have {cross.n} rows")
    numbers = {name: getattr(cross, name) for name in _NUMBERS} | blocks
    del numbers["_sums"]  # NaN where a variable is missing in rows that are used
    for name, values in numbers.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} is not finite")
    if not np.isfinite(cross._sumlogw):
        raise ValueError("the weights are not finite")


def write(data: bytes, path: Path) -> None:
    """Writes a file whole or not at all: to a neighbour first, flushed to the disk, then renamed.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    target = Path(os.path.realpath(path))
    handle, neighbour = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        os.chmod(neighbour, mode)
        os.replace(neighbour, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(neighbour)
        raise
    _flush_directory(target.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush_directory(path: Path) -> None:
    """The renaming too reaches the disk, where the system can do that."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
