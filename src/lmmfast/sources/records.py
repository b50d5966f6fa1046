"""Records: parts of a spec as JSON and plain arrays, each checked when it is read again."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.encode import Coding, Layout, layout_of
from ..errors import DataError
from ..formula.column import Column
from ..formula.expressions import Expression
from ..formula.plan import Plan
from ..formula.terms import Sum
from .coordinates import Basis, Coordinates, constant_of
from .verify import Damage, array, fields, flag, items, real, text

LARGEST = 1e150  # of coordinates: their squares are numbers

Arrays = dict[str, NDArray[Any]]


class Writer:
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
        return {"list": [write_label(label) for label in value.tolist()]}


class Reader:
    """Finds what `Writer` wrote, each checked when it is taken."""

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
        """What `Writer.labels` wrote: labels that differ from each other."""
        if value is None:
            return None
        if isinstance(value, dict) and "array" in value:
            fields(value, ("array",))
            out = self.array(value["array"], what, "biufmM", (None,))
            _check_labels(out, what)
        else:
            listed = items(fields(value, ("list",))["list"], what)
            out = np.empty(len(listed), dtype=object)
            out[:] = [read_label(item) for item in listed]
        if len(set(out.tolist())) != len(out):
            raise Damage(f"{what} has a level twice")
        return out

    def levels(self, value: Any, what: str) -> NDArray[Any]:
        """The same where there must be some."""
        found = self.labels(value, what)
        if found is None:
            raise Damage(f"{what} is missing")
        return found


def _check_labels(labels: NDArray[Any], what: str) -> None:
    """Of a type that an index of labels may have: times with a unit, floats of usual size."""
    kind = labels.dtype.kind
    if kind in "mM" and np.datetime_data(labels.dtype)[0] == "generic":
        raise Damage(f"{what} has times without a unit")
    if kind == "f" and labels.itemsize not in (4, 8):
        raise Damage(f"{what} has type {labels.dtype}")


def write_label(label: Any) -> Any:
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
        f"a level of type {type(label).__name__} ({label!r}) cannot be saved in a file: "
        "use numbers, text, booleans or dates as levels"
    )


def read_label(item: Any) -> Any:
    """What `write_label` made."""
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


# ---- codings, layouts, columns ------------------------------------------------------------------


def write_coding(coding: Coding, writer: Writer) -> dict[str, Any]:
    """How an expression becomes columns, as a record."""
    return {
        "label": coding.label,
        "levels": writer.labels(coding.levels),
        "contrast": None if coding.contrast is None else writer.array(coding.contrast),
        "names": list(coding.names),
        "dummy_names": list(coding.dummy_names),
    }


_CODING = ("label", "levels", "contrast", "names", "dummy_names")


def read_codings(given: Any, plan: Plan, reader: Reader) -> dict[str, Coding]:
    """One for each variable of the fixed and random parts, in their order."""
    atoms = {atom.label: atom for atom in plan.atoms}
    found = items(given, "the variables", len(atoms))
    return {
        label: _coding_of(item, atom, reader)
        for item, (label, atom) in zip(found, atoms.items(), strict=True)
    }


def _coding_of(item: Any, atom: Expression, reader: Reader) -> Coding:
    own, label = fields(item, _CODING), atom.label
    if own["label"] != label:
        raise Damage(f"the columns of {label!r} are missing")
    listed = (items(own[key], f"the columns of {label!r}") for key in ("names", "dummy_names"))
    names, dummies = (tuple(text(name, "a column's name") for name in found) for found in listed)
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
    inner = table[:-1] if table.ndim else table
    contrast = array(inner, "contrasts", "f", (len(levels), len(names)))
    if table.shape != shape or not np.isfinite(contrast).all() or not np.isnan(table[-1]).all():
        raise Damage(f"the contrasts of {label!r} do not fit its levels")
    return Coding(label, levels, np.asfortranarray(table, np.float64), names, dummies)


def write_layout(layout: Layout) -> dict[str, Any]:
    """The columns of a term as a record."""
    return {
        "names": list(layout.names),
        "columns": [[list(own) for own in factors] for factors in layout.columns],
        "atoms": [atom.text for atom in layout.atoms],
    }


def read_layout(item: Any, terms: Sum, codings: dict[str, Coding]) -> Layout:
    """The columns that formula and codings give; those of the file must be the same."""
    own = fields(item, ("names", "columns", "atoms"))
    names = items(own["names"], "the columns of a term")
    items(own["columns"], "the columns of a term", len(names))
    found = items(own["atoms"], "expressions", len(terms.atoms))
    for atom, wanted in zip(found, terms.atoms, strict=True):  # up to version 2 label and code
        if atom != wanted.text and (not isinstance(atom, list) or atom[:1] != [wanted.label]):
            raise Damage("the expressions of a term are not those of the formula")

    def size(atom: int, dummy: bool) -> int:
        return len(codings[terms.atoms[atom].label].fields(dummy))

    coded = terms.coded(lambda atom: codings[atom.label].levels is not None)
    width = sum(math.prod(map(size, term.atoms, term.dummy)) for term in coded)
    if width != len(names):
        raise Damage(f"a term has {len(names)} columns, its formula gives {width}")
    made = layout_of(terms, codings)
    mine = write_layout(made)
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


def write_column(column: Column, writer: Writer) -> dict[str, Any]:
    """The distinct values of a variable as a record."""
    numeric = column.values is not None
    levels = column.values if numeric else column.levels
    return {
        "levels": writer.labels(levels),
        "numeric": numeric,
        "ordered": column.ordered,
        "category": column.declared is not None,
    }


def read_column(name: str, item: Any, reader: Reader) -> Column:
    """A variable with each of its values once."""
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


# ---- coordinates --------------------------------------------------------------------------------


def write_coordinates(coordinates: Coordinates, writer: Writer) -> dict[str, Any]:
    """Coordinates of all columns as a record."""
    return {
        "fixed": _basis(coordinates.fixed, writer),
        "random": [_basis(basis, writer) for basis in coordinates.random],
        "slope": writer.array(coordinates.slope),
        "yscale": coordinates.yscale.hex(),
        "center": coordinates.center.hex(),
        "shift": coordinates.shift.hex(),
    }


_COORDINATES = ("fixed", "random", "slope", "yscale", "center", "shift")


def read_coordinates(given: Any, layouts: Sequence[Layout], reader: Reader) -> Coordinates:
    """What `write_coordinates` made, for terms of these layouts."""
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


def _basis(basis: Basis, writer: Writer) -> list[Any]:
    constant = float(basis.constant).hex()
    own = writer.array(basis.own)
    return [writer.array(basis.mean), writer.array(basis.B), constant, own, basis.doubtful]


def _basis_of(item: Any, layout: Layout, reader: Reader) -> Basis:
    mean, B, constant, own, doubtful = items(item, "coordinates", 5)
    k, what = len(layout.names), "the coordinates of a term"
    matrix = reader.finite(B, what, k, k)
    if np.tril(matrix, -1).any() or not matrix.diagonal().all():
        raise Damage("coordinates are not triangular")
    smallest, largest = abs(matrix.diagonal()).min(initial=1.0), abs(matrix).max(initial=1.0)
    if not 1 / LARGEST < smallest <= largest < LARGEST:
        raise Damage("coordinates are too large or too small")
    value = real(constant, what)
    if value != constant_of(layout):
        raise Damage("the constant column of a term is not that of the formula")
    chosen = reader.array(own, what, "b", (k,))
    return Basis(reader.finite(mean, what, k), matrix, value, chosen, flag(doubtful, what))
