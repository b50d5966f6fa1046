"""Who may use whom: imports (of types too) and includes go one way, and nowhere in a circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from conftest import each

SOURCE = Path(__file__).parent.parent / "src"
PACKAGE, CORE = SOURCE / "lmmfast", SOURCE / "_ext"

# A room may import those of earlier lines, and of its own line those that are its own folder.
LAYERS = """
errors linalg memory threads freeze hints markup progress late
given
_core
formula
data
sources
engine
typing
tables effects plots
fit
inference
inference.hypotheses
inference.rows
inference.intervals
inference.means
inference.selection
many
resampling
clusters
saved
summary
reports
labelled
rowwise
resampled
spatial
results
glmm_rowwise
glmm_fit
mmrm_summary mmrm_rowwise
mmrm_fit
lmm glmm measures
loading
responses
api
planning
sm datasets
maketables sklearn
cli
capi
"""
FLOOR = {name: i for i, line in enumerate(LAYERS.split("\n")) for name in line.split()}
COMPILED = {"engine", "sources"}  # the rooms that may import the compiled core

INCLUDES = {
    "base": set(),
    "cholesky": {"base"},
    "sums": {"base"},
    "families": {"base"},
    "structures": {"base"},
    "pedigree": set(),
    "model": {"base", "cholesky", "sums"},
    "trailing": {"base", "cholesky", "sums", "model"},
    "evaluate": {"base", "cholesky", "sums", "model", "trailing"},
    "optimize": {"base", "cholesky", "sums", "model", "trailing", "evaluate", "structures"},
    "repeated": {"base", "structures", "optimize"},
    "setup": {"base", "cholesky", "sums", "model", "trailing", "evaluate", "optimize"},
    "residual": {"base", "sums", "model", "trailing", "evaluate", "optimize", "setup"},
    "generalized": {"base", "families", "model", "trailing", "evaluate", "optimize", "setup"},
    "interface": {"structures"},
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


FILES = {
    name_of(path): path
    for path in PACKAGE.rglob("*.py")
    if path.parent != PACKAGE or not path.name.startswith("__")
}


def room_of(module: str) -> str:
    """inference.rows.predict is in inference.rows, inference.ddf in inference."""
    parts = module.split(".")
    nested = len(parts) > 2 and parts[0] == "inference"
    return ".".join(parts[:2]) if nested or (PACKAGE / "/".join(parts)).is_dir() else parts[0]


@cache
def imported(module: str) -> list[str]:
    """Modules of this package that a module imports, wherever in it."""
    return list(imports(module))


def imports(module: str) -> Iterator[str]:
    path = FILES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = base + (node.module.split(".") if node.module else [])
            for alias in node.names:
                whole = ".".join([*target, alias.name])
                found = whole if whole in FILES or whole == "_core" else ".".join(target)
                if found in FILES or found == "_core":
                    yield found


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """What is left when those who use nothing that is left are taken away, one after the other."""
    left = {name: set(to) & arrows.keys() - {name} for name, to in arrows.items()}
    while free := [name for name, to in left.items() if not to & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def test_no_module_is_in_a_circle() -> None:
    assert circles({module: set(imported(module)) for module in FILES}) == []


def test_imports_go_upwards() -> None:
    each(sorted(FILES), check_imports)


def check_imports(module: str) -> None:
    room = room_of(module)
    assert room in FLOOR, f"{room} has no layer"
    for other in imported(module):
        theirs = room_of(other)
        if theirs == "_core":
            assert room in COMPILED, f"{module} imports the compiled core"
        elif theirs != room:
            assert FLOOR[theirs] < FLOOR[room], f"{module} imports {other}"


def test_includes_go_upwards() -> None:
    files = sorted(CORE.glob("*/*.[ch]"))
    arrows: dict[str, set[str]] = {}
    for path in files:
        found = re.findall(r'#include "(?:(\w+)/)?(\w+\.h)"', path.read_text(encoding="utf-8"))
        room = path.parent.name
        allowed = INCLUDES[room] | {room, ""}  # "": lmm.h
        assert {folder for folder, _ in found} <= allowed, path
        arrows[f"{room}/{path.name}"] = {f"{folder}/{name}" for folder, name in found if folder}
    assert len(files) > 30
    assert circles(arrows) == []


def test_files_are_short() -> None:
    files = [
        *PACKAGE.rglob("*.py"),
        *CORE.rglob("*.[ch]"),
        *CORE.rglob("*.px[di]"),
        *CORE.rglob("*.pyx"),
    ]
    lengths = {
        path.relative_to(SOURCE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in files
    }
    assert {name: length for name, length in lengths.items() if length > 600} == {}


def test_the_document_has_these_rooms_in_this_order() -> None:
    text = (SOURCE.parent / "docs/architecture.md").read_text(encoding="utf-8")
    text = text[text.index("## Python") : text.index("## The core")]
    named = re.findall(r"`([\w/]+?)(?:\.py|/)`", text)
    rooms = [name.replace("/", ".") for name in named if name.replace("/", ".") in FLOOR]
    floors = [FLOOR[name] for name in rooms]
    assert floors == sorted(floors)
    assert set(rooms) == FLOOR.keys() - {"_core"}
