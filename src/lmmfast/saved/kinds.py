"""Kinds of values in a saved fit: how each is written, and what is checked when it is read.

A record names the fields of a class with their kinds; the schema of a file is made of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..sources.records import Reader, Writer
from ..sources.verify import Damage, fields, flag, items, text, whole


class Packer(Writer):
    """A writer that writes an array once, however many refer to it, in the order of its memory."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, tuple[str, Any]] = {}

    def array(self, value: Any) -> str:
        known = self._known.get(id(value))
        if known is not None:
            return known[0]
        name, own = f"a{len(self.arrays)}", np.asarray(value)
        whole = own.flags.c_contiguous or own.flags.f_contiguous
        self.arrays[name] = own if whole else own.copy()
        self._known[id(value)] = name, value
        return name


@dataclass(frozen=True)
class Kind:
    """How values of one kind are written and read; `said` is its name in the documentation."""

    write: Callable[[Any, Packer], Any]
    read: Callable[[Any, str, Reader], Any]
    said: str


def _real(value: Any, what: str, _: Reader) -> float:
    """A number in hexadecimal; what is missing or infinite may be that."""
    try:
        return float.fromhex(text(value, what))
    except (ValueError, OverflowError):
        raise Damage(f"{what} is no hexadecimal number") from None


FLAG = Kind(lambda v, _: bool(v), lambda x, what, _: flag(x, what), "true or false")
WHOLE = Kind(lambda v, _: int(v), lambda x, what, _: whole(x, what), "whole number")
REAL = Kind(lambda v, _: float(v).hex(), _real, "number, hexadecimal")
TEXT = Kind(lambda v, _: str(v), lambda x, what, _: text(x, what), "text")
LABELS = Kind(
    lambda v, writer: writer.labels(v), lambda x, what, reader: reader.levels(x, what), "labels"
)


def array(ndim: int, kinds: str = "f", gaps: bool = False) -> Kind:
    """An array with so many dimensions; `gaps`: NaN may stand for what is missing."""
    named = {"f": "floats", "i": "integers", "b": "true or false"}
    shape = (None,) * ndim

    def read(item: Any, what: str, reader: Reader) -> Any:
        found = reader.array(item, what, kinds, shape, gaps)
        if kinds == "f" and np.isinf(found).any():
            raise Damage(f"{what} is not finite")
        return found

    said = f"array, {ndim} axes, {named.get(kinds, 'numbers')}{', NaN: none' * gaps}"
    return Kind(lambda v, writer: writer.array(v), read, said)


def optional(kind: Kind) -> Kind:
    """Null, or a value."""
    return Kind(
        lambda v, writer: None if v is None else kind.write(v, writer),
        lambda x, what, reader: None if x is None else kind.read(x, what, reader),
        f"{kind.said}, or null",
    )


def many(kind: Kind) -> Kind:
    """A tuple of values of one kind."""
    return Kind(
        lambda v, writer: [kind.write(one, writer) for one in v],
        lambda x, what, reader: tuple(kind.read(one, what, reader) for one in items(x, what)),
        f"list of: {kind.said}",
    )


def named(kind: Kind) -> Kind:
    """A mapping from texts."""

    def read(item: Any, what: str, reader: Reader) -> dict[str, Any]:
        if not isinstance(item, dict):
            raise Damage(f"{what} is no record but a {type(item).__name__}")
        return {name: kind.read(one, f"{what} {name[:40]!r}", reader) for name, one in item.items()}

    return Kind(
        lambda v, writer: {str(name): kind.write(one, writer) for name, one in v.items()},
        read,
        f"record of: {kind.said}",
    )


def one_of(*values: str) -> Kind:
    """One of some words."""

    def read(item: Any, what: str, _: Reader) -> str:
        if item not in values:
            raise Damage(f"{what} is none of {', '.join(values)}")
        return str(item)

    return Kind(lambda v, _: v, read, " | ".join(values))


@dataclass(frozen=True)
class Record:
    """The fields of a class with their kinds."""

    make: Callable[..., Any]
    fields: dict[str, Kind]
    later: Sequence[str] = ()  # fields that files of earlier versions lack

    def write(self, value: Any, writer: Packer) -> dict[str, Any]:
        """A value of the class as JSON and arrays."""
        return {
            name: kind.write(getattr(value, name), writer) for name, kind in self.fields.items()
        }

    def read(self, item: Any, what: str, reader: Reader) -> Any:
        """The value again."""
        own = fields(item, tuple(self.fields), self.later)
        return self.make(
            **{
                name: kind.read(own[name], f"{what}: {name}", reader)
                for name, kind in self.fields.items()
                if name in own
            }
        )

    @property
    def kind(self) -> Kind:
        """As a kind of a field."""
        return Kind(self.write, self.read, getattr(self.make, "__name__", "record"))
