"""Text and tables: how numbers are written, and how results show in consoles and notebooks."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from . import markup

if TYPE_CHECKING:
    import pandas as pd
else:
    from .late import pandas as pd

MISSING = "NA"
DIGITS = 4  # significant digits of the smallest number in a column
WIDTH = 12  # a column that would be wider goes over to general (exponent) format
LINE = 100


class Exported:
    """What is printed, in other languages; texts and tables come from `sections`."""

    def _sections(self) -> tuple[tuple[str | Table, ...], ...]:
        raise NotImplementedError

    def _chosen(
        self, which: str | None, text: bool, rename: Mapping[str, str] | None
    ) -> list[tuple[str | Table, ...]]:
        """The sections of all tables or of those under a heading, with their text or without."""
        found = list(self._sections())
        if which is not None:
            under = [own for own in found if _heading(own) == which.rstrip(":")]
            if not under:
                known = ", ".join(repr(_heading(own)) for own in found if _heading(own))
                raise ValueError(f"there is no table {which!r}: name one of {known}")
            found = under
        if rename:
            found = _renamed(found, rename)
        if text:
            return found
        tables = [tuple(part for part in own if isinstance(part, Table)) for own in found]
        return [own for own in tables if own]

    def to_latex(
        self,
        which: str | None = None,
        *,
        text: bool = True,
        rename: Mapping[str, str] | None = None,
        caption: str | None = None,
        label: str | None = None,
        longtable: bool = False,
    ) -> str:
        """LaTeX with the printed digits; tables need ``\\usepackage{booktabs}``.

        Parameters
        ----------
        which : str, optional
            Heading of one table, as printed: "Fixed effects". Default: everything.
        text : bool, default True
            Also the lines above and below the tables.
        rename : dict of str to str, optional
            Other words for headers and labels: ``{"Pr(>|t|)": "p", "cond[T.b]": "B - A"}``.
        caption, label : str, optional
            Make each table float, with this caption (escaped) and label; the text is below it. The
            labels of several are ``label``, ``label-2``, ...
        longtable : bool, default False
            Tables over several pages: ``\\usepackage{longtable}``. They do not float.

        Returns
        -------
        str
            Names and levels are escaped; minus signs and powers of ten are mathematics.

        Raises
        ------
        ValueError
            When no table has this heading, or nothing a name of `rename`.
        """
        parts, floats = [], 0
        for section in self._chosen(which, text, rename):
            tables = [own for own in section if isinstance(own, Table)]
            if (caption is None and label is None) or not tables or longtable:
                parts += [_latex_part(own, longtable) for own in _paragraphs(section)]
                continue
            drawn = [markup.latex_table(own.header, own.rows, own.n_left) for own in tables]
            said = [own for own in section[_heading(section) != "" :] if isinstance(own, str)]
            notes = [markup.latex(line) for own in said for line in own.split("\n")]
            own_label = label if label is None or not floats else f"{label}-{floats + 1}"
            parts.append(markup.latex_float("\n\n".join(drawn), caption, own_label, notes))
            floats += 1
        return "\n\n".join(parts)

    def to_markdown(
        self,
        which: str | None = None,
        *,
        text: bool = True,
        rename: Mapping[str, str] | None = None,
    ) -> str:
        """Markdown with the printed digits: pipe tables, for GitHub, pandoc and Quarto.

        Parameters
        ----------
        which : str, optional
            Heading of one table, as printed: "Fixed effects". Default: everything.
        text : bool, default True
            Also the lines above and below the tables.
        rename : dict of str to str, optional
            Other words for headers and labels: ``{"Pr(>|t|)": "p", "cond[T.b]": "B - A"}``.

        Raises
        ------
        ValueError
            When no table has this heading, or nothing a name of `rename`.
        """
        parts = [
            own for section in self._chosen(which, text, rename) for own in _paragraphs(section)
        ]
        return "\n\n".join(
            markup.markdown_table(own.header, own.rows, own.n_left)
            if isinstance(own, Table)
            else markup.markdown_lines(own)
            for own in parts
        )

    def to_html(
        self,
        which: str | None = None,
        *,
        text: bool = True,
        rename: Mapping[str, str] | None = None,
    ) -> str:
        """HTML with the printed digits, as notebooks show it.

        Parameters
        ----------
        which : str, optional
            Heading of one table, as printed: "Fixed effects". Default: everything.
        text : bool, default True
            Also the lines above and below the tables.
        rename : dict of str to str, optional
            Other words for headers and labels: ``{"Pr(>|t|)": "p", "cond[T.b]": "B - A"}``.

        Raises
        ------
        ValueError
            When no table has this heading, or nothing a name of `rename`.
        """
        parts = [
            own for section in self._chosen(which, text, rename) for own in _paragraphs(section)
        ]
        return "".join(
            markup.html_table(own.header, own.rows, own.n_left)
            if isinstance(own, Table)
            else f"<p>{'<br>'.join(map(escape, own))}</p>"
            for own in parts
        )


def _renamed(
    sections: list[tuple[str | Table, ...]], names: Mapping[str, str]
) -> list[tuple[str | Table, ...]]:
    """The tables with other words for headers and labels; ValueError for names of nothing."""
    tables = [part for own in sections for part in own if isinstance(part, Table)]
    words = {word for own in tables for word in own.header}
    words |= {word for own in tables for row in own.rows for word in row[: own.n_left]}
    for name in names:
        if name not in words:
            raise ValueError(f"there is no {name!r} to rename: there are {sorted(words - {''})}")
    return [
        tuple(part.renamed(names) if isinstance(part, Table) else part for part in own)
        for own in sections
    ]


def _heading(section: tuple[str | Table, ...]) -> str:
    """The line above the table of a section; empty where there is none."""
    first = section[0] if section else ""
    return first.rstrip(":") if isinstance(first, str) and first.endswith(":") else ""


def _paragraphs(section: tuple[str | Table, ...]) -> Iterator[Table | list[str]]:
    """The tables of a section, and the lines between two tables as one paragraph."""
    for is_table, parts in groupby(section, lambda part: isinstance(part, Table)):
        if is_table:
            yield from parts  # type: ignore[misc]
        else:
            yield "\n".join(map(str, parts)).split("\n")


def _latex_part(part: Table | list[str], long: bool) -> str:
    if isinstance(part, Table):
        return markup.latex_table(part.header, part.rows, part.n_left, long)
    return "\\noindent " + " \\\\\n".join(
        f"{{{line[0]}}}{line[1:]}" if line[:1] in ("[", "*") else line
        for line in map(markup.latex, part)
    )


@dataclass(frozen=True)
class Table(Exported):
    """Cells of text under a header; the first ``n_left`` columns are labels (left-aligned)."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_left: int

    def _sections(self) -> tuple[tuple[str | Table, ...], ...]:
        return ((self,),)

    def to_frame(self) -> pd.DataFrame:
        """The cells, as text, in a data frame."""
        import pandas as pd

        return pd.DataFrame([list(row) for row in self.rows], columns=list(self.header), dtype=str)

    def renamed(self, names: Mapping[str, str]) -> Table:
        """Other words for headers and labels."""
        rows = (
            (*(names.get(cell, cell) for cell in row[: self.n_left]), *row[self.n_left :])
            for row in self.rows
        )
        header = tuple(names.get(cell, cell) for cell in self.header)
        return Table(header, tuple(rows), self.n_left)

    def __str__(self) -> str:
        lines, n = [self.header, *self.rows], self.n_left
        widths = [max(map(markup.width, column)) for column in zip(*lines, strict=True)]
        sides = [
            [
                markup.padded(cell, width, left=j < n)
                for j, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            for line in lines
        ]
        return "\n".join("  ".join(cells).rstrip() for cells in sides)

    def _repr_html_(self) -> str:
        return self.to_html()


@dataclass(frozen=True)
class Summary(Exported):
    """Summary of a fit: sections of sentences and tables. ``str()`` for text, HTML in notebooks."""

    sections: tuple[tuple[str | Table, ...], ...]

    def _sections(self) -> tuple[tuple[str | Table, ...], ...]:
        return self.sections

    @property
    def tables(self) -> dict[str, Table]:
        """The tables by their headings: "Random effects", "Fixed effects", ...; numbered where
        there is none."""
        found: dict[str, Table] = {}
        for section in self.sections:
            for part in section:
                if isinstance(part, Table):
                    name = _heading(section)
                    found[name if name and name not in found else str(len(found) + 1)] = part
        return found

    def to_frame(self, which: str | None = None) -> pd.DataFrame:
        """The cells of one table, as printed.

        Parameters
        ----------
        which : str, optional
            Heading of a table, see ``tables``. Default: "Fixed effects", else the first one.

        Returns
        -------
        pandas.DataFrame
            Of text; the numbers are in ``fit.tidy()`` and in ``to_frame()`` of other results.

        Raises
        ------
        ValueError
            When there is no table, or none with this heading.
        """
        found = self.tables
        name = which
        if name is None and found:
            name = "Fixed effects" if "Fixed effects" in found else next(iter(found))
        if name is None or name.rstrip(":") not in found:
            known = ", ".join(map(repr, found)) or "none: there is no table"
            raise ValueError(f"there is no table {which!r}: name one of {known}")
        return found[name.rstrip(":")].to_frame()

    def __str__(self) -> str:
        return "\n\n".join("\n".join(str(part) for part in section) for section in self.sections)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.to_html()


class Printed(Exported):
    """A result that shows as its summary: text, HTML in notebooks. Dataclasses need repr=False."""

    def summary(self) -> Summary:
        """What there is to say, on paper."""
        raise NotImplementedError

    def to_frame(self) -> pd.DataFrame:
        """The numbers, unrounded, in a data frame."""
        raise NotImplementedError

    def _sections(self) -> tuple[tuple[str | Table, ...], ...]:
        return self.summary().sections

    def __str__(self) -> str:
        return str(self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.to_html()


class FrameLike(Printed):
    """A result that prints as a table and is used as its data frame: ``result["p"]``,
    ``result.loc[0]``, ``result.query("p < 0.05")``; `to_frame` is the frame itself.
    """

    def __getitem__(self, key: Any) -> Any:
        return self.to_frame()[key]

    def __len__(self) -> int:
        return len(self.to_frame())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_frame())

    def __contains__(self, name: Any) -> bool:
        return name in self.to_frame()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.to_frame().to_numpy(dtype)

    def __getattr__(self, name: str) -> Any:
        """What else a data frame has."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.to_frame(), name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.to_frame())})


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
