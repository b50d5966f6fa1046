"""The README's example runs as it stands, and its commands are those that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


def test_python_example(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks("python")
    assert len([line for line in example.splitlines() if line]) == 12
    exec(compile(example, str(README), "exec"), {})
    out = capsys.readouterr().out
    assert "REML criterion: 1743.6283" in out
    assert "Optimum certified" in out


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """The first command is one of the command line's; the second is what CI calls."""
    import shlex

    from lmmfast.cli import main

    fit, tests = (block.strip() for block in blocks("sh"))
    words = shlex.split(fit)
    assert words[:3] == ["bash", ".ci/env", "lmmfast"]
    assert main(words[3:]) == 0
    out = capsys.readouterr().out
    assert "deviance" in out and "Optimum certified" in out and " ms" in out
    assert tests == "bash .ci/env python -m pytest"


def test_map_names_every_file() -> None:
    """Every module of the package and of the core is on the map, and nothing else is."""
    root = README.parent / "src"
    text = README.read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./]+\.(?:c|h|py|pyx|pxd))`", text))
    files = {path.name for path in root.glob("_ext/*.[ch]")}
    for path in root.glob("lmmfast/**/*.py"):
        if path.parent.name != "datasets" and path.name != "__init__.py":
            files.add(path.relative_to(root / "lmmfast").as_posix())
    left_out = {"__main__.py", "build.h", "newton.h", "rows.h"}
    assert files - named <= left_out
    assert named <= files | {"clmm.pxd", "_core.pyx"}
