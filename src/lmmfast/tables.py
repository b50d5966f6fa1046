"""Text and tables: how numbers are written, and how results show in consoles and notebooks."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

MISSING = "NA"
DIGITS = 4  # significant digits of the smallest number in a column
WIDTH = 12  # a column that would be wider goes over to general (exponent) format
LINE = 100


@dataclass(frozen=True)
class Table:
    """Cells of text under a header; the first ``n_left`` columns are labels (left-aligned)."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_left: int

    def __str__(self) -> str:
        lines, n = [self.header, *self.rows], self.n_left
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        sides = [
            [*map(str.ljust, line[:n], widths[:n]), *map(str.rjust, line[n:], widths[n:])]
            for line in lines
        ]
        return "\n".join("  ".join(cells).rstrip() for cells in sides)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.header)
        body = "".join(f"<tr>{self._html_row(row)}</tr>" for row in self.rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _html_row(self, row: tuple[str, ...]) -> str:
        left = "".join(f"<th>{escape(cell)}</th>" for cell in row[: self.n_left])
        return left + "".join(f"<td>{escape(cell)}</td>" for cell in row[self.n_left :])


@dataclass(frozen=True)
class Summary:
    """Summary of a fit: sections of sentences and tables. ``str()`` for text, HTML in notebooks."""

    sections: tuple[tuple[str | Table, ...], ...]

    def __str__(self) -> str:
        return "\n\n".join("\n".join(str(part) for part in section) for section in self.sections)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        html = []
        for section in self.sections:
            for kind, parts in groupby(section, type):
                if kind is Table:
                    html += [part._repr_html_() for part in parts]  # type: ignore[union-attr]
                else:  # lines between two tables are one paragraph
                    lines = "\n".join(map(str, parts)).split("\n")
                    html.append(f"<p>{'<br>'.join(map(escape, lines))}</p>")
        return "".join(html)


class Printed:
    """A result that shows as its summary: text, HTML in notebooks. Dataclasses need repr=False."""

    def summary(self) -> Summary:
        """What there is to say, on paper."""
        raise NotImplementedError

    def __str__(self) -> str:
        return str(self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def formula_text(formula: str) -> str:
    """A formula on one line."""
    return " ".join(formula.split()) or "none (made from arrays)"


def joined(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def be(count: int) -> str:
    """The verb that goes with a number of things."""
    return "is" if count == 1 else "are"


# ---- numbers ------------------------------------------------------------------------------------


def column(values: Iterable[float], by: Iterable[float] | None = None) -> list[str]:
    """Numbers with one number of decimals: ``DIGITS`` significant ones for the smallest in ``by``.

    Where that would be too wide (scales that differ by many powers of ten) each number is
    written on its own, with an exponent where it helps.
    """
    numbers = [float(value) for value in values]
    sizes = np.abs(np.array(numbers if by is None else list(by), dtype=float))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    smallest = math.floor(math.log10(sizes.min())) if len(sizes) else 0
    decimals = max(0, DIGITS - 1 - smallest)
    cells = [fixed(value, decimals) for value in numbers]
    if max(map(len, cells), default=0) <= WIDTH:
        return cells
    return [general(value, DIGITS + 1) for value in numbers]


def fixed(value: float, decimals: int) -> str:
    """A number with that many decimals; never ``-0.00``."""
    if not math.isfinite(value):
        return not_finite(value)
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def general(value: float, digits: int = DIGITS + 1) -> str:
    """A number with that many significant digits."""
    return f"{value:.{digits}g}" if math.isfinite(value) else not_finite(value)


def not_finite(value: float) -> str:
    """Missing or infinite."""
    return MISSING if math.isnan(value) else ("Inf" if value > 0 else "-Inf")


def df_cells(values: Iterable[float]) -> list[str]:
    """Degrees of freedom: whole numbers if all are (nearly), else with two decimals."""
    df = np.asarray(list(values), dtype=float)
    finite = df[np.isfinite(df)]
    decimals = 2 if np.any(np.abs(finite - np.round(finite)) > 5e-3) else 0
    return [fixed(value, decimals) for value in df]


def p_value(p: float) -> str:
    """A p-value, to four decimals or three digits."""
    if math.isnan(p):
        return MISSING
    if p < 2e-16:
        return "<2e-16"
    return f"{p:.4f}" if p >= 1e-3 else f"{p:.2e}"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them: 0.4 ms, 35 ms, 2.1 s, 20.0 min."""
    for unit, size in (("min", 60.0), ("s", 1.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{1e3 * seconds:.{0 if seconds >= 0.01 else 1}f} ms"


def wrapped(text: str) -> list[str]:
    """Text in lines of at most 100 characters, continued with an indent."""
    options = {"subsequent_indent": "  ", "break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(text, LINE, **options)  # type: ignore[arg-type]


# ---- labels --------------------------------------------------------------------------------------

FEW_NAMES = 64  # of which an index is remembered: loops fit one formula to many data sets


def name_index(names: Sequence[str], dtype: str | None = None) -> pd.Index:
    """A pandas index of names that its owner may rename."""
    key = tuple(names)
    return _index(key, dtype).copy() if len(key) <= FEW_NAMES else _index.__wrapped__(key, dtype)


@lru_cache(maxsize=64)
def _index(names: tuple[str, ...], dtype: str | None) -> pd.Index:
    import pandas as pd

    return pd.Index(list(names), dtype=dtype)
