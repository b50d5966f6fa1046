"""What the documentation says runs: calls for users of other packages, examples of errors."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lmmfast
from lmmfast.engine.families import FAMILIES, find_family

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = sorted(f"coming-from/{page.name}" for page in DOCS.glob("coming-from/*.md"))
PAGES = [*(page for page in PAGES if not page.endswith("index.md")), "guide/answers.md"]
PART = re.compile(r"```\{code-cell\}\n(?P<cell>.*?)```|^(?P<row>\|[^\n]*\|)$", re.S | re.M)
HEADS = ["you write", "question"]


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
        if cells[0] not in HEADS and not set(cells[0]) <= {"-"}:
            yield from ((code, True) for code in re.findall(r"`([^`]+)`", cells[1]))


@pytest.mark.parametrize("name", PAGES)
def test_every_call_runs(name: str) -> None:
    names: dict[str, Any] = {}
    count = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for code, is_row in code_of((DOCS / name).read_text(encoding="utf-8")):
            try:
                exec(compile(code, name, "exec"), names)
            except Exception as error:
                raise AssertionError(f"{name}: {code}") from error
            count += is_row
    assert count >= 10


ERRORS = (DOCS / "errors.md").read_text(encoding="utf-8")
CLASSES = [
    name for name in lmmfast.errors.__all__ if name not in ("warn", "LmmError", "LmmWarning")
]


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_a_section(name: str) -> None:
    assert f"({name})=\n### {name}\n" in ERRORS


@pytest.mark.parametrize("name", sorted({*CLASSES} - {"LostWorkerWarning"}))
def test_its_example_raises_it(name: str) -> None:
    names: dict[str, Any] = {}
    setup = next(code for code, _ in code_of(ERRORS) if code.startswith("import numpy"))
    section = ERRORS.split(f"({name})=\n")[1].split("\n(")[0]
    example = re.sub(r":tags: .*\n", "", next(code for code, _ in code_of(section)))
    kind = getattr(lmmfast.errors, name)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        exec(compile(setup, "errors.md", "exec"), names)
        try:
            exec(compile(example, "errors.md", "exec"), names)
        except lmmfast.LmmError as error:
            assert type(error) is kind
            return
    assert kind in [warning.category for warning in given]


def test_families_of_the_table() -> None:
    """Every family, with its links (the default first) and parameters, and no other."""
    text = (DOCS / "guide" / "families.md").read_text(encoding="utf-8")
    named = {}
    for row in text.split("| family | links")[1].split("\n\n")[0].splitlines()[2:]:
        families, links, own = cells_of(row)
        each = own.split(";") if ";" in own else [own] * 2
        parts = families.split(";") if ";" in own else [families]
        for part, extra in zip(parts, each, strict=False):
            for family in re.findall(r"`(\w+)`", part):
                named[family] = (links.split(", "), extra.strip())
    assert named.keys() == FAMILIES.keys()
    for name, (links, extra) in named.items():
        family = find_family(name)
        assert list(family.links) == links
        if name != "ordered":
            assert ", ".join(family.extra_names) == extra
