"""Without an optional package, its functions say in one sentence what to install."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lmmfast
from lmmfast import datasets, lmer, plots
from lmmfast.cli import main

PACKAGE = Path(lmmfast.__file__).parent
FORMULA = "Reaction ~ Days + (Days | Subject)"
WHERE = {  # optional packages are imported; all but those in GIVEN have a case below
    "cloudpickle": "many/workers.py",
    "dask": "sources/libraries.py sources/spec.py",
    "distributed": "many/workers.py",
    "maketables": "maketables.py",
    "marginaleffects": "inference/means/marginal.py",
    "matplotlib": "plots/axes.py",
    "polars": "inference/means/marginal.py",
    "pyarrow": "many/fits.py sources/libraries.py sources/source.py",
    "sklearn": "sklearn.py",
    "sksparse": "engine/ordering.py",
}
GIVEN = {
    "cloudpickle",  # without it, what is said of functions is true
    "dask",  # a frame of it is there
    "distributed",  # a client of it is there
    "polars",  # marginaleffects brings it
    "sksparse",  # without it another order of elimination is found
}


def saved(folder: Path, name: str) -> str:
    """A file of that name: what is in it does not matter, for nobody reads it."""
    path = folder / name
    path.write_bytes(b"\x28\xb5\x2f\xfd\x24\x0e\x71\x00\x00")
    return str(path)


class Relation:
    """What is known of a DuckDB relation before it is read."""

    __module__ = "duckdb.duckdb"
    columns = ("Reaction", "Days", "Subject")

    def project(self, columns: str) -> Relation:
        return self


def fit() -> Any:
    return lmer(FORMULA, datasets.load("sleepstudy"))


def many() -> Any:
    data = datasets.load("sleepstudy")
    return lmmfast.fit_many(FORMULA, data, np.asarray(data["Reaction"], float)[:, None])


CASES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "picture": (
        "matplotlib.pyplot",
        lambda _: plots.residuals(fit()),
        r"residuals\(\) needs the package matplotlib: pip install 'lmmfast\[plot\]'",
    ),
    "parquet": (
        "pyarrow.dataset",
        lambda folder: lmer(FORMULA, saved(folder, "a.parquet")),
        r"reading a Parquet file '.*a.parquet' needs the package pyarrow: "
        r"pip install 'lmmfast\[parquet\]'",
    ),
    "feather": (
        "pyarrow.dataset",
        lambda folder: lmer(FORMULA, saved(folder, "a.feather")),
        r"reading an Arrow file '.*a.feather' needs the package pyarrow: "
        r"pip install 'lmmfast\[parquet\]'",
    ),
    "folder": (
        "pyarrow.dataset",
        lambda folder: lmer(FORMULA, str(folder)),
        r"reading a directory of Parquet files '.*' needs the package pyarrow: "
        r"pip install 'lmmfast\[parquet\]'",
    ),
    "zst": (
        "zstandard",
        lambda folder: lmer(FORMULA, saved(folder, "a.csv.zst")),
        r"reading '.*a.csv.zst' needs the package zstandard: pip install zstandard",
    ),
    "duckdb": (
        "pyarrow",
        lambda _: lmer(FORMULA, Relation()),
        r"reading a DuckDB relation needs the package pyarrow: pip install 'lmmfast\[duckdb\]'",
    ),
    "to_arrow": (
        "pyarrow",
        lambda _: many().to_arrow(),
        r"to_arrow\(\) needs the package pyarrow: pip install 'lmmfast\[parquet\]'",
    ),
    "maketables": (
        "maketables",
        lambda _: import_module("lmmfast.maketables"),
        r"lmmfast.maketables needs the package maketables: pip install 'lmmfast\[maketables\]'",
    ),
    "sklearn": (
        "sklearn.base",
        lambda _: import_module("lmmfast.sklearn"),
        r"lmmfast.sklearn needs the package scikit-learn, 1.6 or later: "
        r"pip install 'lmmfast\[sklearn\]'",
    ),
    "marginaleffects": (
        "marginaleffects.classes",
        lambda _: fit().to_marginaleffects(),
        r"to_marginaleffects\(\) needs the package marginaleffects: "
        r"pip install 'lmmfast\[effects\]'",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_sentence_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked, call, sentence = CASES[name]
    own = ("lmmfast.maketables", "lmmfast.sklearn", "lmmfast.inference.means.marginal")
    for module in [m for m in sys.modules if m in own or m.startswith(f"{blocked}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, blocked, None)
    with pytest.raises(ImportError) as error:
        call(tmp_path)
    assert re.fullmatch(sentence, str(error.value))


def test_the_command_line_says_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.dataset", None)
    assert main(["fit", FORMULA, saved(tmp_path, "a.parquet")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("lmmfast: error: reading a Parquet file") and said.count("\n") == 1


def imports(node: ast.AST) -> set[str]:
    """Packages of import statements, whatever happens when they fail; not those for types alone."""
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return set() if node.level else {str(node.module).partition(".")[0]}
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return set()
    return set().union(*map(imports, ast.iter_child_nodes(node)))


def test_every_other_import_is_of_what_comes_along() -> None:
    """A new optional import has a sentence, and a case above."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    needed = re.search(r"^dependencies = \[(.*?)\]", text, re.M | re.S)
    assert needed is not None
    along = {*re.findall(r'"(\w+)', needed[1]), "lmmfast"}
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for name in (
            imports(ast.parse(path.read_text(encoding="utf-8"))) - along - sys.stdlib_module_names
        ):
            found.setdefault(name, set()).add(path.relative_to(PACKAGE).as_posix())
    assert {name: " ".join(sorted(files)) for name, files in found.items()} == WHERE
    tested = {case[0].partition(".")[0] for case in CASES.values()} - {"zstandard"}  # by pandas
    assert tested == WHERE.keys() - GIVEN
