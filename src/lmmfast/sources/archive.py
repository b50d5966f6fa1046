"""Cross-products as bytes: an .npz archive of plain arrays with a header in JSON, no pickle."""

from __future__ import annotations

import errno
import io
import itertools
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .. import _core
from ..data.encode import Coding
from ..errors import DataError, LmmError
from ..formula.column import Column
from ..formula.expressions import Memory
from ..formula.plan import Plan, plan_of
from ..formula.vocabulary import is_known
from .bounds import check_sums
from .labels import Grouper, Labels, kind_of, labels_of
from .learn import Known, teach
from .part import Roles
from .records import (
    Arrays,
    Reader,
    Writer,
    read_codings,
    read_column,
    read_coordinates,
    read_label,
    read_layout,
    write_label,
)
from .spec import Spec, checked_formula
from .totals import Totals
from .verify import Damage, fields, flag, items, real, text, whole

FORMAT = "lmmfast cross-products"
VERSION, OLDEST = 3, 1

Made = TypeVar("Made", bound=Totals)


# ---- the spec -----------------------------------------------------------------------------------


_SPEC = (
    *("formula", "weights", "offset", "codings", "fixed"),
    *("random", "variables", "taught", "coordinates"),
)


def _spec_of(header: Any, reader: Reader) -> Spec:
    """What `Spec.record` made."""
    own = fields(header, _SPEC)
    formula = text(own["formula"], "the formula")
    checked_formula(formula, tuple)
    plan = plan_of(formula)
    roles = Roles(*(None if own[k] is None else text(own[k], k) for k in ("weights", "offset")))
    codings = read_codings(own["codings"], plan, reader)
    terms = items(own["random"], "the random terms", len(plan.random))
    fixed = read_layout(own["fixed"], plan.fixed, codings)
    random = tuple(
        read_layout(item, part, codings) for item, part in zip(terms, plan.random, strict=True)
    )
    made = Spec(
        formula=formula,
        roles=roles,
        codings=codings,
        fixed=fixed,
        random=random,
        variables=_variables_of(own["variables"], plan, roles, codings, reader),
        memory=Memory(),
        taught=_taught_of(own["taught"], plan, roles, reader),
        coordinates=read_coordinates(own["coordinates"], [fixed, *random], reader),
    )
    factors = {label for label, coding in codings.items() if coding.levels is not None}
    teach(plan, made.taught, made.memory, factors)
    return made


def _variables_of(
    given: Any, plan: Plan, roles: Roles, codings: dict[str, Coding], reader: Reader
) -> dict[str, Known]:
    """The variables of the fixed part and of offsets, all of them."""
    atoms = (*plan.fixed.atoms, *plan.offsets)
    possible = [name for atom in atoms for name in atom.names]
    possible += [] if roles.offset is None else [roles.offset]
    columns = {name for name in possible if name in plan.variables or not is_known(name)}
    found = fields(given, tuple(dict.fromkeys(possible)), set(possible) - columns)
    out: dict[str, Known] = {}
    for name, item in found.items():
        levels, numeric, ordered = items(item, repr(name), 3)
        own = reader.labels(levels, f"the levels of {name!r}")
        known = Known(own, flag(numeric, repr(name)), flag(ordered, repr(name)))
        if not known.numeric and own is None:
            raise Damage(f"the levels of {name!r} are missing")
        out[name] = known
    for atom in plan.fixed.atoms:
        if atom.is_name:
            _check_alike(out[atom.names[0]], codings[atom.label])
    return out


def _check_alike(known: Known, coding: Coding) -> None:
    """A variable that stands alone is coded as what it is."""
    mine = None if known.numeric or known.levels is None else known.levels.tolist()
    theirs = None if coding.levels is None else coding.levels.tolist()
    if mine != theirs:
        raise Damage(f"{coding.label!r} has other levels than its columns")


def _taught_of(given: Any, plan: Plan, roles: Roles, reader: Reader) -> dict[str, Column]:
    names = tuple(dict.fromkeys(roles.names(plan)))
    found = fields(given, names, names)
    return {name: read_column(name, item, reader) for name, item in found.items()}


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
        for a, c in itertools.combinations(K, 2)
    }
    diagonals, edges = [arrays[f"diagonal{k}"] for k in K], [arrays[f"edge{k}"] for k in K]
    nlev = [int(m) for m in arrays["nlev"]]
    return _core.Blocks.of_arrays(widths, border, nlev, diagonals, edges, arrays["corner"], pairs)


def _group(group: Grouper, writer: Writer) -> dict[str, Any]:
    return {
        "label": group.label,
        "atoms": [atom.label for atom in group.atoms],
        "tables": [_table(table, writer) for table in group.tables],
        "pairs": [writer.array(keys) for keys in group.pair_keys()],
        "counts": writer.array(group.counts),
    }


def _table(table: Labels, writer: Writer) -> dict[str, Any]:
    declared = table.declared
    return {
        "kind": table.kind,
        "labels": writer.labels(table.array()),
        "declared": None if declared is None else [write_label(key) for key in declared],
    }


_KINDS = {"": "", "number": "iufO", "text": "O", "flag": "b", "time": "mM", "other": "O"}


def _group_of(item: Any, group: Grouper, reader: Reader) -> None:
    """Fills an empty grouping factor."""
    own = fields(item, ("label", "atoms", "tables", "pairs", "counts"))
    what = f"the levels of {group.label!r}"
    if own["label"] != group.label or own["atoms"] != [atom.label for atom in group.atoms]:
        raise Damage(f"the grouping factor {group.label!r} is missing")
    tables = items(own["tables"], what, len(group.atoms))
    group.tables = [_table_of(table, what, reader) for table in tables]
    pairs = items(own["pairs"], what, len(group.atoms) - 1)
    keys = [reader.array(name, what, "i", (None,)) for name in pairs]
    left = len(group.tables[0])
    for own_keys, table in zip(keys, group.tables[1:], strict=True):
        first, second = own_keys >> 32, own_keys & 0xFFFFFFFF
        if (first < 0).any() or (first >= left).any() or (second >= len(table)).any():
            raise Damage(f"{what}: a combination is of unknown levels")
        if len(np.unique(own_keys)) != len(own_keys):
            raise Damage(f"{what}: a combination stands there twice")
        left = len(own_keys)
    group.fill(keys, reader.array(own["counts"], what, "i", (left,)))


def _table_of(item: Any, what: str, reader: Reader) -> Labels:
    own = fields(item, ("kind", "labels", "declared"))
    kind, labels = text(own["kind"], what), reader.levels(own["labels"], what)
    listed = None if own["declared"] is None else items(own["declared"], what)
    declared = None if listed is None else [read_label(key) for key in listed]
    if kind not in _KINDS or (len(labels) and labels.dtype.kind not in _KINDS[kind]):
        raise Damage(f"{what} are not of the kind {kind[:40]!r}")
    if labels.dtype == object and kind in ("text", "number") and kind_of(labels) not in ("", kind):
        raise Damage(f"{what} are not all {kind}s")
    made = labels_of(kind, labels, declared)
    if len(made) != len(labels):
        raise Damage(f"{what}: a level stands there twice")
    return made


# ---- whole cross-products -----------------------------------------------------------------------

_NUMBERS = ("_response", "_sums", "_cells", "_plain", "_columns", "_largest")
_NEW = ("_largest",)  # not in version 1


def pack(cross: Totals) -> bytes:
    """Cross-products as bytes."""
    writer = Writer()
    header = {
        "format": FORMAT,
        "version": VERSION,
        "spec": cross.spec.record(writer),
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
    return bytes_of(arrays)


def bytes_of(arrays: Mapping[str, Any]) -> bytes:
    """An .npz archive. ``allow_pickle=False`` of `numpy.savez` came with NumPy 2.2: those before
    write it as one more array."""
    objects = [name for name, own in arrays.items() if own.dtype.hasobject]
    if objects:
        raise ValueError(f"Object arrays cannot be written: {', '.join(objects)}")
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def unpack(data: bytes, name: str, make: Callable[[Spec], Made]) -> Made:
    """What `pack` made, filled into what `make` makes of a spec; messages call it `name`."""
    arrays = _arrays(data, name)
    header = _header(arrays, name)
    try:
        return _cross_of(header, arrays, make)
    except (Damage, LmmError) as error:
        raise _damaged(name, str(error)) from error
    except MemoryError:
        raise
    except Exception as error:  # whatever bytes that are not what was written lead to
        raise _damaged(name, f"{type(error).__name__}: {error}") from error


def _arrays(data: bytes, name: str) -> Arrays:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"cross-products are made of bytes, not of a {type(data).__name__}")
    if bytes(data[:4]) != b"PK\x03\x04":
        raise DataError(f"{name} are not cross-products of lmmfast: use what save() wrote")
    try:
        check_sizes(data)
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except MemoryError:
        raise
    except Exception as error:  # zipfile and numpy have many, NotImplementedError among them
        raise _damaged(name, f"{type(error).__name__}: {error}") from error


def check_sizes(data: bytes) -> None:
    """Arrays must be as long as they say, before memory is taken for them."""
    from numpy.lib import format as npy

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        listed = archive.infolist()
        if len({item.filename for item in listed}) != len(listed):
            raise ValueError("an array stands there twice")
        if sum(item.file_size for item in listed) > len(data):
            raise ValueError("the arrays are longer than the file")
        for item in listed:
            if item.compress_type != zipfile.ZIP_STORED or item.file_size > len(data):
                raise ValueError(f"{item.filename} is compressed or too long")
            with archive.open(item) as file:
                one = npy.read_magic(file) == (1, 0)
                read = npy.read_array_header_1_0 if one else npy.read_array_header_2_0
                shape, _, dtype = read(file)
                if dtype.kind not in "biufmM":
                    raise ValueError(f"{item.filename} has type {dtype}")
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
    if type(version) is not int or not OLDEST <= version <= VERSION:
        raise DataError(
            f"{name}: cross-products of version {version} of the format; this lmmfast reads "
            f"up to version {VERSION}: use the lmmfast that wrote them, or a newer one"
        )
    return header


def _damaged(name: str, reason: str) -> DataError:
    return DataError(f"{name}: the cross-products are damaged or cut short ({reason})")


_HEADER = (
    *("format", "version", "spec", "groups", "n", "n_rows"),
    *("dropped", "sumlogw", "weights", "numbers"),
)


def _cross_of(header: dict[str, Any], arrays: Arrays, make: Callable[[Spec], Made]) -> Made:
    reader = Reader(arrays)
    own = fields(header, _HEADER)
    spec = _spec_of(own["spec"], reader)
    cross = make(spec)
    groups = items(own["groups"], "the grouping factors", len(cross._groups))
    for group, item in zip(cross._groups, groups, strict=True):
        _group_of(item, group, reader)
    cross.n, cross.n_rows = whole(own["n"], "n"), whole(own["n_rows"], "n_rows")
    if not isinstance(own["dropped"], dict):
        raise Damage("the rows with missing values are no record")
    cross.dropped = {key: whole(count, "dropped") for key, count in own["dropped"].items()}
    cross._sumlogw = real(own["sumlogw"], "the sum of the weights")
    low, high = items(own["weights"], "the weights", 2)
    cross._weights = real(low, "weights", True), real(high, "weights", True)
    _numbers_of(own["numbers"], cross, reader)
    cross._blocks = _blocks_of(reader, cross)
    unused = arrays.keys() - reader.used
    if unused and own["version"] > 1:
        raise Damage(f"the array {min(unused)[:40]!r} is of no use")
    check_sums(cross, {key[2:]: array for key, array in arrays.items() if key.startswith("b_")})
    return cross


def _numbers_of(given: Any, cross: Totals, reader: Reader) -> None:
    numbers = fields(given, _NUMBERS, _NEW)
    for name in _NUMBERS:
        if name not in numbers:
            continue
        shape, what = getattr(cross, name).shape, f"the sums {name[1:]}"
        if getattr(cross, name).dtype.kind == "i":
            setattr(cross, name, reader.array(numbers[name], what, "i", shape).astype(np.int64))
        elif name == "_sums":  # NaN where a variable is missing in rows that are used
            sums = reader.array(numbers[name], what, "f", shape, gaps=True)
            if np.isinf(sums).any():
                raise Damage(f"{what} is not finite")
            setattr(cross, name, sums)
        else:
            setattr(cross, name, reader.finite(numbers[name], what, *shape))


def _blocks_of(reader: Reader, cross: Totals) -> Any:
    """The compiled cross-products, of arrays that fit the levels and columns."""
    widths, border = cross.spec.widths, cross.spec.border
    sizes = [len(group) for group in cross._groups]
    K = len(sizes)
    if reader.array("b_nlev", "the numbers of levels", "i", (K,)).tolist() != sizes:
        raise Damage("levels and blocks differ")
    reader.finite("b_corner", "corner", border, border)
    for a, (m, w) in enumerate(zip(sizes, widths, strict=True)):
        reader.finite(f"b_diagonal{a}", "diagonal", m, w, w)
        reader.finite(f"b_edge{a}", "edge", m, w, border)
        for c in range(a + 1, K):
            la, lc = (reader.array(f"b_l{x}{a}_{c}", "pairs", "i", (None,)) for x in "ac")
            for levels, most in ((la, m), (lc, sizes[c])):
                if (levels < 0).any() or (levels >= most).any():
                    raise Damage("a pair is of unknown levels")
            if len(la) != len(lc):
                raise Damage("a pair has one level")
            reader.finite(f"b_values{a}_{c}", "values", len(la), w, widths[c])
    own = {key[2:]: value for key, value in reader.arrays.items() if key.startswith("b_")}
    return blocks_from(own, widths, border)


def write(data: bytes, path: Path) -> None:
    """Writes a file whole or not at all, Ctrl-C included: to a neighbour, flushed to the disk, then
    renamed. Pipes and devices are written to; a rename would put a file in their place."""
    target, neighbour = Path(os.path.realpath(path)), ""
    if target.is_dir():
        what = f"{os.strerror(errno.EISDIR)}: give the name of a file in this folder"
        raise IsADirectoryError(errno.EISDIR, what, str(path))
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    try:
        try:
            handle, neighbour = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        except OSError as error:  # in words of the caller's path, not of the neighbour's
            what = f"{error.strerror}: no file can be written in this folder"
            raise OSError(error.errno, what, str(path)) from None
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        os.chmod(neighbour, mode)
        os.replace(neighbour, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(neighbour)
        if isinstance(error, OSError) and error.filename != str(path):  # none, or the neighbour's
            raise OSError(error.errno, error.strerror, str(path)) from None
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
