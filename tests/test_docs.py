"""What the documentation says runs: every "now write" of the pages for users of other packages."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = sorted(page.name for page in DOCS.glob("coming-from/*.md") if page.name != "index.md")
PART = re.compile(r"```\{code-cell\}\n(?P<cell>.*?)```|^(?P<row>\|[^\n]*\|)$", re.S | re.M)
HEAD = ["you write", "now write", "what differs and why"]


def cells_of(row: str) -> list[str]:
    """The cells of a row of a Markdown table; a bar within one is written with a backslash."""
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", row)][1:-1]


def code_of(text: str) -> Iterator[tuple[str, bool]]:
    """Code of a page in its order, and whether it is of a table."""
    for part in PART.finditer(text):
        if part["cell"]:
            yield part["cell"], False
            continue
        cells = cells_of(part["row"])
        if cells != HEAD and not set(cells[0]) <= {"-"}:
            yield from ((code, True) for code in re.findall(r"`([^`]+)`", cells[1]))


@pytest.mark.parametrize("name", PAGES)
def test_every_call_runs(name: str) -> None:
    names: dict[str, Any] = {}
    count = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for code, is_row in code_of((DOCS / "coming-from" / name).read_text(encoding="utf-8")):
            try:
                exec(compile(code, name, "exec"), names)
            except Exception as error:
                raise AssertionError(f"{name}: {code}") from error
            count += is_row
    assert count >= 10
