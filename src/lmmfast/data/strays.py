"""Numbers read as text: columns of numbers in which a few entries are words."""

from __future__ import annotations

import numbers
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..formula.column import Column
from .columns import is_time

MANY = 10  # distinct numbers that a factor of digit strings may well have
FEW_WORDS = 3  # distinct words that may stray into a column of numbers, or
SHARE = 20  # ... one for so many distinct numbers
SHOWN = 5  # entries that a message names

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_PADDED = re.compile(r"\s*0\d")  # "07" is a label
_COMMA = re.compile(r"[-+]?(\d+,\d+|\d{1,3}(,\d{3})+(\.\d+)?)")
# how missing values are spelt in files
_MISSING = frozenset({"", "-", "--", "?", ".", "..", "*", "#N/A", "<NA>", "N/A", "n/a", "NA", "na"})
_MISSING |= {"NaN", "nan", "NULL", "null", "None", "missing", "Missing"}


@dataclass(frozen=True, eq=False)
class Strays:
    """What is known of a text column whose entries are numbers for the most part.

    A kind is "number", "comma" (a decimal comma, or commas between thousands), "missing" (a
    spelling of missing values) or "word".
    """

    name: str
    kinds: NDArray[np.str_]  # (L,), of each level
    levels: NDArray[Any]  # (L,)
    counts: NDArray[np.int64]  # (L,): rows of each level
    codes: NDArray[Any] | None  # (n,): level of each row, where the rows are known
    surely: bool  # so many distinct numbers can hardly be meant as labels

    @property
    def are_numbers(self) -> bool:
        """Whether nothing is there but numbers."""
        return bool(np.isin(self.kinds, ("number", "comma")).all())

    def message(self, factor: str = "factor") -> str:
        """What is wrong and what to do; `factor` is the formula's word for one."""
        n, total = int(self.counts[self.kinds == "number"].sum()), int(self.counts.sum())
        what = "entries" if self.codes is not None else "distinct entries"
        found = f"{n} of {total} {what} are numbers" if n else f"its {what} are numbers"
        return (
            f"{self.name!r} is text, but {found}; as text each of its {len(self.levels)} "
            f"distinct entries is a level of a factor{self.listed()}. {self.cure()}; if labels "
            f"are meant, write {factor}({self.name}) in the formula"
        )

    def listed(self) -> str:
        """The entries that are no numbers, the most frequent first; "" when there are none."""
        stray = np.flatnonzero(self.kinds != "number")
        if not len(stray):
            return ""
        stray = stray[np.argsort(-self.counts[stray], kind="stable")]
        shown = [self._entry(level) for level in stray[:SHOWN]]
        more = f" and {len(stray) - SHOWN} more" if len(stray) > SHOWN else ""
        return f". Not numbers: {', '.join(shown)}{more}"

    def _entry(self, level: np.intp) -> str:
        text = repr(str(self.levels[level]))
        if self.codes is None:
            return text
        first = int(np.argmax(self.codes == level))
        count = int(self.counts[level])
        return f"{text} ({f'{count} times, first in ' if count > 1 else ''}row {first})"

    def cure(self) -> str:
        """How the column becomes numbers."""
        name = self.name
        if (self.kinds == "comma").any():
            return (
                "pandas.read_csv reads numbers with a decimal comma by decimal=',' and those with "
                f"commas between thousands by thousands=','; data[{name!r}].str.replace(',', '.')"
                ".astype(float) converts the first"
            )
        if (self.kinds == "number").all():
            return f"Convert it: data[{name!r}] = pandas.to_numeric(data[{name!r}])"
        return (
            f"Make it numeric: data[{name!r}] = pandas.to_numeric(data[{name!r}], "
            "errors='coerce') makes missing values of them, as na_values=[...] does when a file "
            "is read"
        )

    def rows(self) -> list[int]:
        """Positions of the first rows with such an entry."""
        if self.codes is None:
            return []
        stray = np.append(self.kinds != "number", False)  # code -1: missing
        return [int(row) for row in np.flatnonzero(stray[self.codes])[:10]]


def strays_of(column: Column, rows: NDArray[np.int64] | range | None = None) -> Strays | None:
    """Whether a text column should have been numeric.

    Words are entries that are neither numbers nor spellings of missing values. A column with words
    in a quarter of its entries is a factor, and so is one with more than 3 distinct words and more
    than 1 for 20 distinct numbers ("10a", "10b" ... are ids). Any other one should be numeric

    - `surely`, where there are more than 10 distinct numbers, and besides something that is none (a
      word, "NA", "?", "1,5"), or decimals in most of them, or more distinct ones than half of the
      rows;
    - probably, for they may be labels, where there is nothing but numbers, more than 10 or some
      with decimals; or few numbers, and spellings of missing values in at most half of the entries.

    Anything else is a factor: few digit strings (as ``astype(str)`` makes of codes), numbers with
    zeros before them ("01"). So is a declared categorical.

    A column without codes counts each level once; `rows` (n) are the positions of its rows in the
    data, for messages.
    """
    levels = column.levels
    if levels is None or column.declared is not None or levels.dtype != object:
        return None
    found = [_kind(level) for level in levels.tolist()]
    if "number" not in found and "comma" not in found:
        return None
    if not any(isinstance(level, str) for level in levels.tolist()):
        return None
    kinds = np.array(found, dtype="U7")
    numeric = (kinds == "number") | (kinds == "comma")
    counts = _counts(column, len(levels))
    words = kinds == "word"
    distinct = int(numeric.sum())
    if words.sum() > max(FEW_WORDS, distinct / SHARE):
        return None
    if 3 * counts[words].sum() >= counts[numeric].sum():
        return None
    codes = _in_data(column, rows)
    surely = distinct > MANY and _is_measured(levels, kinds, counts, codes is not None)
    if not surely and not _only_missing(kinds, counts) and not _only_numbers(levels, numeric):
        return None
    return Strays(column.name, kinds, levels, counts, codes, surely)


def not_numbers(column: Column, rows: NDArray[np.int64] | range | None = None) -> str:
    """Why a column that must be numeric is not: its entries that are no numbers, and the cure."""
    levels = column.levels
    if levels is not None and is_time(levels):
        return (
            f"; {column.name!r} holds dates or times: turn them into numbers, in pandas "
            f"data[{column.name!r}].dt.total_seconds() for durations"
        )
    if levels is not None and all(isinstance(level, (bool, np.bool_)) for level in levels.tolist()):
        number = f"as.numeric({column.name})"
        return f"; it is True and False: {number} for 1 and 0, or glmer(...) for probabilities"
    if levels is None or not any(isinstance(level, str) for level in levels.tolist()):
        return ""
    kinds = np.array([_kind(level) for level in levels.tolist()], dtype="U7")
    counts = _counts(column, len(levels))
    own = Strays(column.name, kinds, levels, counts, _in_data(column, rows), True)
    if not (kinds == "number").any() and not (kinds == "comma").any():
        return f"; {column.name!r} is text such as {str(levels[0])!r}"
    return f"; {column.name!r} is text{own.listed()}. {own.cure()}"


def _kind(level: Any) -> str:
    if isinstance(level, str):
        text = level.strip()
        if text in _MISSING:
            return "missing"
        if _NUMBER.fullmatch(text):
            return "number"
        return "comma" if _COMMA.fullmatch(text) else "word"
    real = isinstance(level, numbers.Real) and not isinstance(level, (bool, np.bool_))
    return "number" if real else "word"


def _counts(column: Column, size: int) -> NDArray[np.int64]:
    """Rows of each level; one where the rows are not known."""
    if not isinstance(column.codes, np.ndarray):
        return np.ones(size, dtype=np.int64)
    return np.bincount(column.codes + 1, minlength=size + 1)[1:].astype(np.int64)


def _is_measured(
    levels: NDArray[Any], kinds: NDArray[np.str_], counts: NDArray[np.int64], rows_known: bool
) -> bool:
    """Whether many distinct numbers are measurements rather than labels."""
    if (kinds != "number").any():
        return True
    decimals = sum(isinstance(level, float) or "." in str(level) for level in levels.tolist())
    return 2 * decimals > len(levels) or (rows_known and 2 * len(levels) > int(counts.sum()))


def _only_numbers(levels: NDArray[Any], numeric: NDArray[np.bool_]) -> bool:
    """Whether all entries are numbers that few would write as labels: many, or with decimals, and
    without leading zeros."""
    shown = [str(level) for level in levels.tolist()]
    odd = len(shown) > MANY or any("." in one or "," in one for one in shown)
    return bool(numeric.all()) and odd and not any(_PADDED.match(one) for one in shown)


def _only_missing(kinds: NDArray[np.str_], counts: NDArray[np.int64]) -> bool:
    """Whether all that strays among few numbers are spellings of missing values."""
    missing = kinds == "missing"
    return bool(missing.any() and (missing | (kinds == "number")).all()) and bool(
        2 * counts[missing].sum() <= counts.sum()
    )


def _in_data(column: Column, rows: NDArray[np.int64] | range | None) -> NDArray[Any] | None:
    """Level of each row of the data, -1 for rows that are not used."""
    if not isinstance(column.codes, np.ndarray) or rows is None or not len(rows):
        return column.codes if isinstance(column.codes, np.ndarray) else None
    if isinstance(rows, range):
        return column.codes
    out = np.full(int(rows[-1]) + 1, -1, dtype=np.int32)
    out[rows] = column.codes
    return out
