"""Functions of texts: `paste0`, `substr`, `toupper`, ...; a text is a factor where it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .coerce import number, texts
from .column import label_of, objects
from .function import Function, Wrong, each
from .values import flags, is_textual


def _mapped(function: Callable[[str], Any]) -> Callable[..., Any]:
    """A function of texts, entry by entry; missing stays missing."""

    def apply(x: Any) -> Any:
        return objects([None if text is None else function(text) for text in texts(x).tolist()])

    return apply


def _paste(*values: Any, sep: Any = " ") -> Any:
    if not values:
        raise Wrong("it needs values")
    columns = [[label_of("NA") if t is None else t for t in texts(v).tolist()] for v in values]
    n = max(map(len, columns))
    if any(len(column) not in (1, n) for column in columns):
        raise Wrong(f"values of lengths {', '.join(str(len(c)) for c in columns)} do not fit")
    full = [column * n if len(column) == 1 else column for column in columns]
    return objects([label_of(sep).join(row) for row in zip(*full, strict=True)])


def _substr(x: Any, start: Any, stop: Any) -> Any:
    first, last = int(number(start, "start")), int(number(stop, "stop"))
    return _mapped(lambda text: text[max(first - 1, 0) : max(last, 0)])(x)


def _nchar(x: Any) -> Any:
    return np.array([np.nan if t is None else len(t) for t in texts(x).tolist()], dtype=float)


def _tested(test: Callable[[str, str], bool], x: Any, pattern: Any) -> Any:
    wanted = label_of(pattern)
    if not is_textual(x):
        raise Wrong("it needs texts")
    entries = texts(x).tolist()
    missing = np.array([entry is None for entry in entries])
    return flags(np.array([t is not None and test(t, wanted) for t in entries]), missing)


def _plain_pattern(pattern: Any, fixed: Any) -> str:
    """A pattern without special characters; regular expressions can take for ever."""
    wanted = label_of(pattern)
    if not fixed and any(character in wanted for character in ".^$*+?()[]{}|\\"):
        raise Wrong("patterns are plain text: write fixed = TRUE, or startsWith(), endsWith()")
    return wanted


def _replaced(pattern: Any, replacement: Any, x: Any, fixed: Any, count: int) -> Any:
    old, new = _plain_pattern(pattern, fixed), label_of(replacement)
    if len(new) > 1000 or not old:
        raise Wrong("the pattern is empty, or the replacement too long")
    return _mapped(lambda text: text.replace(old, new, count))(x)


def _sub(pattern: Any, replacement: Any, x: Any, fixed: Any = False) -> Any:
    return _replaced(pattern, replacement, x, fixed, 1)


def _gsub(pattern: Any, replacement: Any, x: Any, fixed: Any = False) -> Any:
    return _replaced(pattern, replacement, x, fixed, -1)


def _grepl(pattern: Any, x: Any, fixed: Any = False) -> Any:
    """Whether a text holds a pattern."""
    wanted = _plain_pattern(pattern, fixed)
    return np.array([t is not None and wanted in t for t in texts(x).tolist()])


TEXTUAL: dict[str, Function] = {
    "paste": each(_paste),
    "paste0": each(lambda *values: _paste(*values, sep="")),
    "substr": each(_substr),
    "substring": each(lambda x, first, last=1_000_000: _substr(x, first, last)),
    "nchar": each(_nchar),
    "toupper": each(_mapped(str.upper)),
    "tolower": each(_mapped(str.lower)),
    "trimws": each(_mapped(str.strip)),
    "startsWith": each(lambda x, prefix: _tested(str.startswith, x, prefix)),
    "endsWith": each(lambda x, suffix: _tested(str.endswith, x, suffix)),
    "grepl": each(_grepl),
    "sub": each(_sub),
    "gsub": each(_gsub),
}
