"""Cells of text as LaTeX, Markdown and HTML, with what these languages would misread escaped."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape

Row = Sequence[str]

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"\textquotedbl{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
_TO_LATEX = str.maketrans(_LATEX)
_NUMBER = re.compile(r"(<?)(-?)(\d+(?:\.\d+)?|\.\d+)(?:e([+-]?\d+))?")
# What starts emphasis, code, math, links, entities and tags, but not where it would be plain text.
_MARKDOWN = re.compile(
    r"""[\\|*`$<]                       # wherever it is
    | (?<![^\W_])_ | _(?![^\W_])        # not inside words
    | (?<=\S)~ | ~(?=\S)                # y ~ x is no subscript
    | \[(?=\^ | [^\]]*\][(\[])          # links and footnotes; cond[T.b] is none
    | &(?=\#?\w+;)""",
    re.VERBOSE,
)
_MARKDOWN_START = re.compile(r"^(\s*\d*)([#>+.)-])(?=\s)")  # headings, quotes, lists: "1. "


# ---- LaTeX --------------------------------------------------------------------------------------


def latex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return text.translate(_TO_LATEX).replace("--", "-{}-")


def latex_number(cell: str) -> str:
    """A cell of a column of numbers: minus signs and powers of ten are set as mathematics."""
    if cell in ("Inf", "-Inf"):
        return r"$\infty$" if cell == "Inf" else r"$-\infty$"
    found = _NUMBER.fullmatch(cell)
    if found is None:
        return latex(cell)
    below, minus, digits, power = found.groups()
    if power is not None:
        digits += rf" \times 10^{{{int(power)}}}"
    plain = not (below or minus or power)
    return digits if plain else f"${below}{minus}{digits}$"


def latex_table(header: Row, rows: Iterable[Row], n_left: int, long: bool = False) -> str:
    """A table with the rules of booktabs; over several pages as a longtable."""
    kind = "longtable" if long else "tabular"
    sides = "l" * n_left + "r" * (len(header) - n_left)
    head = _latex_row([latex(cell) for cell in header])
    body = [
        _latex_row([*map(latex, row[:n_left]), *map(latex_number, row[n_left:])]) for row in rows
    ]
    again = [r"\endhead", r"\bottomrule", r"\endfoot"] if long else []
    end = [] if long else [r"\bottomrule"]
    lines = [r"\toprule", head, r"\midrule", *again, *body, *end]
    return "\n".join([f"\\begin{{{kind}}}{{{sides}}}", *lines, f"\\end{{{kind}}}"])


def _latex_row(cells: Row) -> str:
    """A line; [ and * at its beginning would be arguments of the end of the line before."""
    line = " & ".join(cells) + r" \\"
    return f"{{{line[0]}}}{line[1:]}" if line[0] in "[*" else line


def latex_float(table: str, caption: str | None, label: str | None, below: Row = ()) -> str:
    """A table that floats, with a caption above it and notes below."""
    lines = [r"\begin{table}", r"\centering"]
    lines += [f"\\caption{{{latex(caption)}}}"] if caption is not None else []
    lines += [f"\\label{{{label}}}"] if label is not None else []
    lines += [table, *(f"\\par\\smallskip {note}" for note in below), r"\end{table}"]
    return "\n".join(lines)


# ---- columns in text ----------------------------------------------------------------------------


def width(text: str) -> int:
    """Cells that a text takes in a console: two for wide characters, none for marks."""
    if text.isascii():
        return len(text)
    marks = ("Mn", "Me", "Cf")
    seen = (own for own in text if unicodedata.category(own) not in marks)
    return sum(2 if unicodedata.east_asian_width(own) in "WF" else 1 for own in seen)


def padded(text: str, wide: int, *, left: bool) -> str:
    """A text with blanks to that width, behind it (`left`) or in front of it."""
    blanks = " " * (wide - width(text))
    return text + blanks if left else blanks + text


# ---- Markdown -----------------------------------------------------------------------------------


def markdown(text: str) -> str:
    """Text that Markdown shows as it is (CommonMark, GitHub, pandoc)."""
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", text)


def markdown_lines(lines: Iterable[str]) -> str:
    """A paragraph that keeps its lines."""
    return "\\\n".join(_MARKDOWN_START.sub(r"\1\\\2", markdown(line)) for line in lines)


def markdown_table(header: Row, rows: Iterable[Row], n_left: int) -> str:
    """A pipe table, aligned for those who read the text."""
    lines = [[markdown(cell) for cell in line] for line in (header, *rows)]
    widths = [max(3, *map(width, column)) for column in zip(*lines, strict=True)]
    rule = [
        ":" + "-" * (wide - 1) if j < n_left else "-" * (wide - 1) + ":"
        for j, wide in enumerate(widths)
    ]
    sides = [
        [
            padded(cell, wide, left=j < n_left)
            for j, (cell, wide) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (sides[0], rule, *sides[1:]))


# ---- HTML ---------------------------------------------------------------------------------------


def html_table(header: Row, rows: Iterable[Row], n_left: int) -> str:
    """A table; labels are headers of their rows."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{_html_row(row, n_left)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _html_row(row: Row, n_left: int) -> str:
    left = "".join(f"<th>{escape(cell)}</th>" for cell in row[:n_left])
    return left + "".join(f"<td>{escape(cell)}</td>" for cell in row[n_left:])
