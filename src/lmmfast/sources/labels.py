"""Tables of labels that grow chunk by chunk and can be united; grouping factors made of them.

A label keeps its number for ever, so codes made of an earlier chunk stay valid. A column may be
read as integers in one chunk and as floats in another: numbers are compared as numbers, integers
of any size exactly. Numbers in one chunk and text in another are refused: 7 may have been "007".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.grouping import Grouping, combine
from ..errors import DataError
from ..formula.cells import is_exact
from ..formula.column import Codes, Column
from ..formula.expressions import Expression

NONE = np.zeros(0, dtype=object)


class Labels:
    """Labels in order of appearance.

    Their kind is "number", "text", "flag" (booleans), "time" or "other"; "" while there are none.
    """

    __slots__ = ("_place", "declared", "dtype", "kind")

    def __init__(self) -> None:
        self.kind = ""
        self.dtype: np.dtype | None = None  # of times: their unit
        self.declared: list[Any] | None = None  # categories in order, if all chunks have the same
        self._place: dict[Any, int] = {}

    def __len__(self) -> int:
        return len(self._place)

    def __reduce__(self) -> tuple[Any, ...]:
        return _labels, (self.kind, self.dtype, self.declared, list(self._place))

    def find(
        self, levels: NDArray[Any], declared: NDArray[Any] | None = None, grow: bool = True
    ) -> Codes:
        """Numbers of some labels (m), each once; unknown ones are added, or -1."""
        kind = kind_of(levels)
        if not kind:
            return np.zeros(0, dtype=np.int32)
        if grow:
            self._declare(declared)
            self._accept(kind, levels.dtype)
        return _found(_keys(levels, kind, self.kind, self.dtype), self._place, grow)

    def unite(self, other: Labels) -> Codes:
        """Takes in the labels of another table; their numbers here, by their numbers there."""
        if not len(other):
            return np.zeros(0, dtype=np.int32)
        declared = None if other.declared is None else _objects(other.declared)
        return self.find(other.array(), declared)

    def copy(self) -> Labels:
        """A table of its own."""
        return _labels(self.kind, self.dtype, self.declared, list(self._place))

    def array(self) -> NDArray[Any]:
        """The labels in order of appearance, as arrays in memory have them."""
        keys = list(self._place)
        if self.kind == "number":
            return _numbers(keys)
        if self.kind == "flag":
            return np.array(keys, dtype=bool)
        if self.kind == "time":
            return np.array(keys, dtype=np.int64).view(self.dtype or np.int64)
        return _objects(keys)

    def rank(self) -> NDArray[np.int64]:
        """Place of each label in the order that data in memory would have."""
        keys = list(self._place)
        if self.declared is not None:
            known = {key: i for i, key in enumerate(self.declared)}
            order = sorted(range(len(keys)), key=lambda i: known.get(keys[i], len(known)))
        else:
            try:
                order = sorted(range(len(keys)), key=keys.__getitem__)
            except TypeError:  # labels of several types
                order = sorted(range(len(keys)), key=lambda i: (str(type(keys[i])), str(keys[i])))
        return np.argsort(order)

    def column(self, codes: NDArray[Any] | None = None, ordered: bool = False) -> Column:
        """A factor in the right order of its levels: the given rows, or each label once."""
        rank = self.rank()
        levels = self.array()[np.argsort(rank)]
        own = rank if codes is None else rank[codes]
        column = Column("", None, own.astype(np.int32), levels, ordered)
        return column if codes is None else column.used()

    def _accept(self, kind: str, dtype: np.dtype) -> None:
        """Makes the table's kind one that has these labels too."""
        wanted = _common(self.kind, kind)
        unit = dtype if kind == "time" else None
        if wanted == "time" and self.dtype is not None and unit is not None:
            unit = np.promote_types(self.dtype, unit)
        if len(self) and (wanted != self.kind or (wanted == "time" and unit != self.dtype)):
            keys = _keys(self.array(), self.kind, wanted, unit)
            self._place = {key: i for i, key in enumerate(keys)}
            self.declared = None
        self.kind, self.dtype = wanted, unit if wanted == "time" else None

    def _declare(self, declared: NDArray[Any] | None) -> None:
        """Declared categories count while all chunks have the same; else levels are sorted."""
        kind = "" if declared is None else kind_of(declared)
        given = None if declared is None else _keys(declared, kind, kind, None)
        if not len(self):
            self.declared = given
        elif given is None or self.declared is None or set(given) != set(self.declared):
            self.declared = None


def labels_of(kind: str, labels: NDArray[Any], declared: list[Any] | None) -> Labels:
    """A table from what `array` and its attributes gave."""
    dtype = labels.dtype if kind == "time" else None
    own = _keys(labels, kind, kind, dtype) if kind else []
    return _labels(kind, dtype, declared, own)


def _labels(kind: str, dtype: Any, declared: Any, keys: list[Any]) -> Labels:
    made = Labels()
    made.kind, made.dtype = kind, dtype
    made.declared = None if declared is None else list(declared)
    made._place = {key: i for i, key in enumerate(keys)}
    return made


def _found(keys: list[Any], place: dict[Any, int], grow: bool) -> Codes:
    """Numbers of keys; unknown ones are added, or -1."""
    if grow:
        numbers = [place.setdefault(key, len(place)) for key in keys]
    else:
        numbers = [place.get(key, -1) for key in keys]
    return np.array(numbers, dtype=np.int32)


def kind_of(levels: NDArray[Any]) -> str:
    """The kind of labels, as `Labels.kind`."""
    if not len(levels):
        return ""
    kind = levels.dtype.kind
    if kind in "iuf":
        return "number"
    if kind in "bmM":
        return "flag" if kind == "b" else "time"
    if kind in "US" or all(isinstance(label, str) for label in levels):
        return "text"
    return "number" if all(_is_number(label) for label in levels) else "other"


def _is_number(label: Any) -> bool:
    return isinstance(label, (int, float, np.integer, np.floating)) and not isinstance(label, bool)


def _common(one: str, two: str) -> str:
    """The kind of labels of two kinds together."""
    if one == two or not one:
        return two
    return "other" if "other" in (one, two) else "text"


def _keys(levels: NDArray[Any], kind: str, wanted: str, dtype: np.dtype | None) -> list[Any]:
    """What labels are known by in a table of the wanted kind."""
    if kind == "time":
        if wanted == "time":
            own = levels if dtype is None else levels.astype(dtype)
            keys: list[Any] = own.view(np.int64).tolist()
            return keys
        return [str(label) for label in levels]
    keys = levels.tolist()
    if kind == "number":
        keys = [_number(key) for key in keys]
    if wanted == "text" and kind != "text":
        return [str(key) for key in keys]
    return keys


def _number(key: Any) -> int | float:
    """A number as Python has it, whole ones as integers."""
    if isinstance(key, (int, np.integer)):
        return int(key)
    return int(key) if float(key).is_integer() else float(key)


def _numbers(keys: list[int | float]) -> NDArray[Any]:
    """Different numbers as an array in which they are still different."""
    if all(type(key) is int for key in keys):
        low, high = min(keys, default=0), max(keys, default=0)
        for dtype in (np.int64, np.uint64):
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return np.array(keys, dtype=dtype)
    if not all(type(key) is float or is_exact(int(key)) for key in keys):
        return _objects(keys)
    return np.array(keys, dtype=np.float64)


def check_kinds(one: Labels, where: str, two: Labels, there: str, label: str) -> None:
    """Labels of two kinds cannot be told to be the same.

    `where` and `there` are the chunks that they are in, "" where these have no name.
    """
    kinds = (one.kind, two.kind)
    if "" in kinds or "other" in kinds or kinds[0] == kinds[1]:
        return
    sides = [
        f"{_KINDS[own.kind]} such as {own.array().tolist()[0]!r} in {place}"
        for own, place in ((one, where or "some rows"), (two, there or "others"))
    ]
    raise DataError(
        f"{label!r} has {sides[0]}, but {sides[1]}: levels that are the same would be taken for "
        "different ones (7 for '007'); read the column as one type everywhere, for instance as "
        f"text: pandas.read_csv(path, dtype={{{label!r}: str}}, chunksize=...)",
        variable=label,
    )


_KINDS = {"number": "numbers", "text": "text", "flag": "booleans", "time": "times"}


def _objects(keys: Sequence[Any]) -> NDArray[Any]:
    out = np.empty(len(keys), dtype=object)
    out[:] = keys
    return out


class Grouper:
    """A grouping factor whose levels are found chunk by chunk, and its rows per level.

    Its levels are the combinations of the labels of `atoms`. They are numbered in steps: a pair of
    numbers of a and of b has a number, which together with that of c has another.
    """

    def __init__(self, label: str, atoms: tuple[Expression, ...]) -> None:
        self.label, self.atoms = label, atoms
        self.tables = [Labels() for _ in atoms]
        self.counts = np.zeros(0, dtype=np.int64)  # rows of each level
        self.where = [""] * len(atoms)  # the chunk that each atom's labels were first seen in
        self._pairs: list[dict[int, int]] = [{} for _ in atoms[1:]]

    def __len__(self) -> int:
        return len(self._pairs[-1]) if self._pairs else len(self.tables[0])

    def codes(self, factors: Sequence[Column], grow: bool = True, where: str = "") -> Codes:
        """Level of each row, -1 for unknown ones unless the table grows; counts nothing.

        Labels that are numbers here and were text before are refused; `where` is this chunk.
        """
        codes: Codes = np.zeros(0, dtype=np.int32)
        for i, factor in enumerate(factors):
            assert factor.codes is not None and factor.levels is not None
            present = factor.used()
            assert present.codes is not None and present.levels is not None
            self._compare(i, labels_of(kind_of(present.levels), present.levels[:1], None), where)
            own = self.tables[i].find(present.levels, present.declared, grow)[present.codes]
            codes = own if i == 0 else self._paired(i - 1, codes, own, grow)
        return codes

    def compare(self, other: Grouper) -> None:
        """Refuses labels that are numbers in one and text in the other, or the like."""
        for i, theirs in enumerate(other.tables):
            self._compare(i, theirs, other.where[i])

    def _compare(self, i: int, labels: Labels, where: str) -> None:
        check_kinds(self.tables[i], self.where[i], labels, where, self.atoms[i].label)
        if not len(self.tables[i]):
            self.where[i] = where

    def count(self, codes: Codes, sign: int = 1) -> None:
        """Adds (or takes away) the rows of these levels."""
        self._grow()
        self.counts += sign * np.bincount(codes, minlength=len(self.counts))

    def unite(self, other: Grouper, sign: int = 1) -> Codes:
        """Takes in the levels of another and their counts; their numbers here."""
        self.compare(other)
        maps = [own.unite(theirs) for own, theirs in zip(self.tables, other.tables, strict=True)]
        codes = maps[0]
        for i, keys in enumerate(other.pair_keys()):
            codes = self._numbers(i, codes[keys >> 32], maps[i + 1][keys & 0xFFFFFFFF], True)
        self._grow()
        self.counts[codes] += sign * other.counts
        return codes

    def copy(self) -> Grouper:
        """A table of its own."""
        made = Grouper(self.label, self.atoms)
        made.tables = [table.copy() for table in self.tables]
        made.counts, made.where = self.counts.copy(), list(self.where)
        made._pairs = [dict(pairs) for pairs in self._pairs]
        return made

    def pair_keys(self) -> list[NDArray[np.int64]]:
        """Of each table of pairs, the two numbers that each pair is made of, in one."""
        return [np.fromiter(own, dtype=np.int64, count=len(own)) for own in self._pairs]

    def fill(self, keys: Sequence[NDArray[np.int64]], counts: NDArray[np.int64]) -> None:
        """Takes over what `pair_keys` gave, and rows per level; they must fit."""
        self._pairs = [{key: i for i, key in enumerate(own.tolist())} for own in keys]
        if len(keys) != len(self.atoms) - 1 or len(self) != len(counts):
            raise ValueError(f"levels of {self.label!r} do not fit their counts")
        self.counts = counts.astype(np.int64)

    def parts(self) -> NDArray[np.int64]:
        """Number of each level's label in each atom's table (levels x atoms)."""
        columns: list[NDArray[np.int64]] = []
        left = np.arange(len(self), dtype=np.int64)
        for pairs in reversed(self.pair_keys()):
            keys = pairs[left]
            columns.append(keys & 0xFFFFFFFF)
            left = keys >> 32
        return np.stack([left, *reversed(columns)], axis=1)

    def grouping(self) -> tuple[Grouping, NDArray[np.intp]]:
        """The grouping factor of the levels that have rows, and which number each of them has."""
        used = np.flatnonzero(self.counts > 0)
        parts = self.parts()[used]
        factors = [table.column(own) for table, own in zip(self.tables, parts.T, strict=True)]
        grouping, codes = combine(self.label, self.atoms, factors)
        return grouping, used[np.argsort(codes)]

    def arranged(self, order: NDArray[np.intp]) -> Grouper:
        """The same factor with these levels only, in this order."""
        import pandas as pd

        made = Grouper(self.label, self.atoms)
        codes: Codes = np.zeros(0, dtype=np.int32)
        for i, (table, own) in enumerate(zip(self.tables, self.parts()[order].T, strict=True)):
            back, distinct = pd.factorize(own)  # by appearance
            keys = list(table._place)
            chosen = [keys[j] for j in distinct]
            made.tables[i] = _labels(table.kind, table.dtype, table.declared, chosen)
            codes = back if i == 0 else made._paired(i - 1, codes, back, True)
        made.counts, made.where = self.counts[order], list(self.where)
        return made

    def _paired(self, i: int, left: Codes, right: Codes, grow: bool) -> Codes:
        """Number of each row's pair."""
        import pandas as pd

        known = (left >= 0) & (right >= 0)
        keys = np.where(known, (left.astype(np.int64) << 32) | right, -1)
        back, distinct = pd.factorize(keys)  # by appearance
        own = self._numbers(i, distinct >> 32, distinct & 0xFFFFFFFF, grow)
        own[distinct < 0] = -1
        return own[back]

    def _numbers(
        self, i: int, left: NDArray[np.integer], right: NDArray[np.integer], grow: bool
    ) -> Codes:
        keys = ((left.astype(np.int64) << 32) | right).tolist()
        return _found(keys, self._pairs[i], grow)

    def _grow(self) -> None:
        if len(self.counts) < len(self):
            more = np.zeros(len(self) - len(self.counts), dtype=np.int64)
            self.counts = np.concatenate([self.counts, more])

    def check(self) -> None:
        """Rows that were never there must not be taken away."""
        if (self.counts < 0).any():
            labels = self.names(np.flatnonzero(self.counts < 0)[:3])
            raise DataError(
                f"rows are removed that were never added: more of {self.label!r} "
                f"{', '.join(labels)} than there were",
                variable=self.label,
            )

    def names(self, codes: NDArray[Any]) -> list[str]:
        """Labels of some levels, quoted, for messages."""
        parts = self.parts()[codes]
        labels = [table.array().tolist() for table in self.tables]
        rows = parts.tolist()
        return [repr(":".join(str(own[j]) for own, j in zip(labels, r, strict=True))) for r in rows]
