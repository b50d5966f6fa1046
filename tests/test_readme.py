"""The README's example runs as it stands and prints what it shows; its commands and links exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lmmfast.cli import main

README = Path(__file__).resolve().parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


def timeless(text: str) -> str:
    """Without how long a fit took, and the digits of a certificate that are rounding."""
    return re.sub(r"more than .*?\(1 evaluation, .*?\)", "", text)


def test_the_example_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("python")[0], str(README), "exec"), {})
    assert timeless(capsys.readouterr().out) == timeless(blocks("text")[0])


def test_the_case_is_as_told() -> None:
    from lmmfast import datasets, lmer

    text = README.read_text(encoding="utf-8")
    formula = re.search(r"`(log\(RTtrunc\) ~ [^`]*)`", text)
    assert formula is not None
    fit = lmer(formula[1], datasets.load("kb07"))
    assert f"The optimum is {fit.objective:.2f}" in text
    assert f"the t value of `S` there is {fit.tvalues['S']:.2f}" in text
    assert fit.certificate < 1e-6


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """The first command is one of the command line's; the second is what CI calls."""
    fit, tests = (block.strip() for block in blocks("sh") if ".ci/env" in block)
    words = shlex.split(fit)
    assert words[:3] == ["bash", ".ci/env", "lmmfast"]
    assert main(words[3:]) == 0
    out = capsys.readouterr().out
    assert "deviance" in out and "Optimum certified" in out
    assert tests == "bash .ci/env python -m pytest -n auto --dist loadfile"


def test_links_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    paths = [path for path in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in path]
    assert len(paths) > 10
    assert [path for path in paths if not (README.parent / path).exists()] == []


def test_map_names_every_room() -> None:
    """Every folder of the package and of the core is in docs/architecture.md, and no other is."""
    root = README.parent
    text = (root / "docs/architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./]+/)`", text))
    rooms = {path.parent.relative_to(root / "src/_ext") for path in root.glob("src/_ext/*/*.c")}
    package = root / "src/lmmfast"
    rooms |= {path.parent.relative_to(package) for path in package.glob("*/**/*.py")}
    assert named == {f"{room.as_posix()}/" for room in rooms}
