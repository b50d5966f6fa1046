"""Cross-products as bytes: an .npz archive of plain arrays with a header in JSON, no pickle."""

from __future__ import annotations

import datetime
import io
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..data.encode import Coding, Layout, layout_of
from ..errors import DataError, LmmError
from ..formula.column import Column
from ..formula.expressions import Expression, Memory
from ..formula.plan import Plan, plan_of
from ..formula.terms import Sum
from ..formula.vocabulary import is_known
from .coordinates import Basis, Coordinates
from .labels import Grouper, Labels, kind_of, labels_of
from .part import Roles
from .spec import Known, Spec, checked_formula, constant_of, teach
from .verify import Damage, array, check_sums, fields, flag, items, real, text, whole

if TYPE_CHECKING:
    from .cross import CrossProducts

__all__ = ["blocks_from", "blocks_to", "pack", "spec_to", "unpack", "write"]

FORMAT = "lmmfast cross-products"
VERSION, OLDEST = 3, 1
LARGEST = 1e150  # of coordinates: their squares are numbers

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
    """Finds what `_Writer` wrote, each checked when it is taken."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.used = {"header"}

    def named(self, name: Any, what: str) -> NDArray[Any]:
        """An array as it is."""
        if not isinstance(name, str) or name not in self.arrays:
            raise Damage(f"{what} is missing")
        self.used.add(name)
        return self.arrays[name]

    def array(
        self,
        name: Any,
        what: str,
        kinds: str = "f",
        shape: tuple[int | None, ...] | None = None,
        gaps: bool = False,
    ) -> NDArray[Any]:
        """An array of these kinds of numbers and of this shape; NaN only where gaps may be."""
        found = array(self.named(name, what), what, kinds, shape, gaps)
        if kinds == "f" and found.dtype != np.float64:
            raise Damage(f"{what} has type {found.dtype}, not float64")
        return found

    def finite(self, name: Any, what: str, *shape: int | None) -> NDArray[np.float64]:
        """An array of finite numbers of this shape."""
        found = self.array(name, what, "f", shape)
        if not np.isfinite(found).all():
            raise Damage(f"{what} is not finite")
        return found

    def labels(self, value: Any, what: str) -> NDArray[Any] | None:
        """What `_Writer.labels` wrote: labels that differ from each other."""
        if value is None:
            return None
        if isinstance(value, dict) and "array" in value:
            fields(value, ("array",))
            out = self.array(value["array"], what, "biufmM", (None,))
        else:
            listed = items(fields(value, ("list",))["list"], what)
            out = np.empty(len(listed), dtype=object)
            out[:] = [_label(item) for item in listed]
        if len(set(out.tolist())) != len(out):
            raise Damage(f"{what} has a level twice")
        return out

    def levels(self, value: Any, what: str) -> NDArray[Any]:
        """The same where there must be some."""
        found = self.labels(value, what)
        if found is None:
            raise Damage(f"{what} is missing")
        return found


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
    if not isinstance(item, dict) or len(item) != 1:
        raise Damage("a level is neither text nor tagged")
    ((kind, value),) = item.items()
    if kind == "flag":
        return flag(value, "a level")
    if kind not in _MADE:
        raise Damage(f"a level is of an unknown kind, {kind[:40]!r}")
    made = _MADE[kind](text(value, "a level"))
    if made != made:  # NaN
        raise Damage("a level is missing")
    return made


_MADE: dict[str, Any] = {
    "int": int,
    "float": float.fromhex,
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
}


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


_SPEC = (
    *("formula", "weights", "offset", "codings", "fixed"),
    *("random", "variables", "taught", "coordinates"),
)
_COORDINATES = ("fixed", "random", "slope", "yscale", "center", "shift")


def _spec_of(header: Any, reader: _Reader) -> Spec:
    own = fields(header, _SPEC)
    formula = text(own["formula"], "the formula")
    checked_formula(formula, tuple)
    plan = plan_of(formula)
    roles = Roles(*(None if own[k] is None else text(own[k], k) for k in ("weights", "offset")))
    codings = _codings_of(own["codings"], plan, reader)
    terms = items(own["random"], "the random terms", len(plan.random))
    fixed = _layout_of(own["fixed"], plan.fixed, codings)
    random = tuple(
        _layout_of(item, part, codings) for item, part in zip(terms, plan.random, strict=True)
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
        coordinates=_coordinates_of(own["coordinates"], [fixed, *random], reader),
    )
    factors = {label for label, coding in codings.items() if coding.levels is not None}
    teach(plan, made.taught, made.memory, factors)
    return made


def _variables_of(
    given: Any, plan: Plan, roles: Roles, codings: dict[str, Coding], reader: _Reader
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


def _taught_of(given: Any, plan: Plan, roles: Roles, reader: _Reader) -> dict[str, Column]:
    names = tuple(dict.fromkeys(roles.names(plan)))
    found = fields(given, names, names)
    return {name: _column_of(name, item, reader) for name, item in found.items()}


def _coordinates_of(given: Any, layouts: Sequence[Layout], reader: _Reader) -> Coordinates:
    own = fields(given, _COORDINATES, ("shift",))  # not in version 1
    random = items(own["random"], "the coordinates of the random terms", len(layouts) - 1)
    bases = [
        _basis_of(item, layout, reader)
        for item, layout in zip([own["fixed"], *random], layouts, strict=True)
    ]
    slope = reader.finite(own["slope"], "the slope of the response", len(layouts[0].names))
    yscale = real(own["yscale"], "the scale of the response")
    if not yscale > 0:
        raise Damage("the scale of the response is not positive")
    center = real(own["center"], "the centre of the response")
    shift = real(own.get("shift", "0x0p+0"), "the centre of the response")
    return Coordinates(bases[0], tuple(bases[1:]), slope, yscale, center, shift)


def _coding(coding: Coding, writer: _Writer) -> dict[str, Any]:
    return {
        "label": coding.label,
        "levels": writer.labels(coding.levels),
        "contrast": None if coding.contrast is None else writer.array(coding.contrast),
        "names": list(coding.names),
        "dummy_names": list(coding.dummy_names),
    }


_CODING = ("label", "levels", "contrast", "names", "dummy_names")


def _codings_of(given: Any, plan: Plan, reader: _Reader) -> dict[str, Coding]:
    """One for each variable of the fixed and random parts, in their order."""
    atoms = {atom.label: atom for atom in plan.atoms}
    found = items(given, "the variables", len(atoms))
    return {
        label: _coding_of(item, atom, reader)
        for item, (label, atom) in zip(found, atoms.items(), strict=True)
    }


def _coding_of(item: Any, atom: Expression, reader: _Reader) -> Coding:
    own, label = fields(item, _CODING), atom.label
    if own["label"] != label:
        raise Damage(f"the columns of {label!r} are missing")
    names, dummies = (
        tuple(
            text(name, "a column's name") for name in items(own[key], f"the columns of {label!r}")
        )
        for key in ("names", "dummy_names")
    )
    if own["levels"] is None:
        if own["contrast"] is not None or names != dummies or not names:
            raise Damage(f"{label!r} is numeric and has contrasts")
        if atom.is_name and len(names) != 1:
            raise Damage(f"{label!r} is a variable and has {len(names)} columns")
        return Coding(label, None, None, names, names)
    levels = reader.levels(own["levels"], f"the levels of {label!r}")
    if len(dummies) != len(levels) or len(levels) < 2:
        raise Damage(f"{label!r} has {len(levels)} levels and {len(dummies)} columns for them")
    table = reader.named(own["contrast"], f"the contrasts of {label!r}")
    shape = (len(levels) + 1, len(names))  # the last row, NaN, answers missing values
    contrast = array(
        table[:-1] if table.ndim else table, "contrasts", "f", (len(levels), len(names))
    )
    if table.shape != shape or not np.isfinite(contrast).all() or not np.isnan(table[-1]).all():
        raise Damage(f"the contrasts of {label!r} do not fit its levels")
    return Coding(label, levels, np.asfortranarray(table, np.float64), names, dummies)


def _layout(layout: Layout) -> dict[str, Any]:
    return {
        "names": list(layout.names),
        "columns": [[list(own) for own in factors] for factors in layout.columns],
        "atoms": [atom.text for atom in layout.atoms],
    }


def _layout_of(item: Any, terms: Sum, codings: dict[str, Coding]) -> Layout:
    """The columns that formula and codings give; those of the file must be the same."""
    own = fields(item, ("names", "columns", "atoms"))
    names = items(own["names"], "the columns of a term")
    items(own["columns"], "the columns of a term", len(names))
    found = items(own["atoms"], "expressions", len(terms.atoms))
    for atom, wanted in zip(found, terms.atoms, strict=True):  # up to version 2 label and code
        if atom != wanted.text and (not isinstance(atom, list) or atom[:1] != [wanted.label]):
            raise Damage("the expressions of a term are not those of the formula")
    width = sum(
        math.prod(
            len(
                codings[terms.atoms[a].label].dummy_names
                if dummy
                else codings[terms.atoms[a].label].names
            )
            for a, dummy in zip(term.atoms, term.dummy, strict=True)
        )
        for term in terms.coded(lambda atom: codings[atom.label].levels is not None)
    )
    if width != len(names):
        raise Damage(f"a term has {len(names)} columns, its formula gives {width}")
    made = layout_of(terms, codings)
    mine = _layout(made)
    columns = [_factors(column) for column in own["columns"]]
    if own["names"] != mine["names"] or columns != mine["columns"]:
        raise Damage("the columns of a term are not those of the formula")
    return made


def _factors(column: Any) -> Any:
    """The factors of a column; up to version 2 a number stood before them."""
    if isinstance(column, list) and len(column) == 2 and not isinstance(column[0], list):
        scale, column = column
        if scale != 1:
            raise Damage("numbers as factors, as in 2:x, are not read any more: make them anew")
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


def _column_of(name: str, item: Any, reader: _Reader) -> Column:
    own = fields(item, ("levels", "numeric", "ordered", "category"), ("category",))
    levels = reader.levels(own["levels"], f"the levels of {name!r}")
    ordered = flag(own["ordered"], repr(name))
    if not len(levels):
        raise Damage(f"{name!r} has no levels")
    if flag(own["numeric"], repr(name)):
        return Column(name, array(levels, repr(name), "biuf"))
    codes = np.arange(len(levels), dtype=np.int32)
    category = flag(own.get("category", False), repr(name))  # not in files of version 1 and 2
    return Column(name, None, codes, levels, ordered, declared=levels if category else None)


def _basis(basis: Basis, writer: _Writer) -> list[Any]:
    constant = float(basis.constant).hex()
    own = writer.array(basis.own)
    return [writer.array(basis.mean), writer.array(basis.B), constant, own, basis.doubtful]


def _basis_of(item: Any, layout: Layout, reader: _Reader) -> Basis:
    mean, B, constant, own, doubtful = items(item, "coordinates", 5)
    k, what = len(layout.names), "the coordinates of a term"
    matrix = reader.finite(B, what, k, k)
    if np.tril(matrix, -1).any() or not matrix.diagonal().all():
        raise Damage("coordinates are not triangular")
    if (
        not 1 / LARGEST
        < abs(matrix.diagonal()).min(initial=1.0)
        <= abs(matrix).max(initial=1.0)
        < LARGEST
    ):
        raise Damage("coordinates are too large or too small")
    value = real(constant, what)
    if value != constant_of(layout):
        raise Damage("the constant column of a term is not that of the formula")
    chosen = reader.array(own, what, "b", (k,))
    return Basis(reader.finite(mean, what, k), matrix, value, chosen, flag(doubtful, what))


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


_KINDS = {"": "", "number": "iufO", "text": "O", "flag": "b", "time": "mM", "other": "O"}


def _group_of(item: Any, group: Grouper, reader: _Reader) -> None:
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


def _table_of(item: Any, what: str, reader: _Reader) -> Labels:
    own = fields(item, ("kind", "labels", "declared"))
    kind, labels = text(own["kind"], what), reader.levels(own["labels"], what)
    listed = None if own["declared"] is None else items(own["declared"], what)
    declared = None if listed is None else [_label(key) for key in listed]
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
        _check_sizes(data)
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except MemoryError:
        raise
    except Exception as error:  # zipfile and numpy have many, NotImplementedError among them
        raise _damaged(name, f"{type(error).__name__}: {error}") from error


def _check_sizes(data: bytes) -> None:
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
    if (
        not isinstance(version, int)
        or isinstance(version, bool)
        or not OLDEST <= version <= VERSION
    ):
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


def _cross_of(header: dict[str, Any], arrays: Arrays) -> CrossProducts:
    from .cross import CrossProducts

    reader = _Reader(arrays)
    own = fields(header, _HEADER)
    spec = _spec_of(own["spec"], reader)
    cross = CrossProducts(spec)
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


def _numbers_of(given: Any, cross: CrossProducts, reader: _Reader) -> None:
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


def _blocks_of(reader: _Reader, cross: CrossProducts) -> Any:
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
