"""The reference data sets and results as Python objects, for the tests and the benchmarks."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

FOLDER = Path(__file__).resolve().parent / "reference"
GENERALIZED = "glmm__"  # how names of generalized models begin

_NUMPY = {"numeric": "float64", "character": "object"}


def _column(text: pd.Series, facts: dict[str, Any]) -> Any:
    """One column of strings as the type that its sidecar states; missing stays missing."""
    kind = facts["type"]
    if kind in ("factor", "ordered"):
        return pd.Categorical(text, categories=facts["levels"], ordered=kind == "ordered")
    if kind == "logical":
        return text.map({"TRUE": True, "FALSE": False}).astype(
            object if text.isna().any() else bool
        )
    if kind == "integer":
        return text.astype("float64" if text.isna().any() else "int64")
    return text.astype(_NUMPY[kind])


@cache
def _frame(name: str) -> pd.DataFrame:
    facts = sidecar(name)["columns"]
    path = FOLDER / "data" / f"{name}.csv.gz"
    text = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    return pd.DataFrame({column: _column(text[column], facts[column]) for column in text})


@cache
def sidecar(name: str) -> dict[str, Any]:
    """What is known about a data set: types, and levels in R's order."""
    found: dict[str, Any] = json.loads((FOLDER / "data" / f"{name}.json").read_text())
    return found


def data(name: str) -> pd.DataFrame:
    """A data set as a pandas frame of its own: factors are categoricals with R's level order."""
    return _frame(name).copy()


@cache
def reference(name: str) -> dict[str, Any]:
    """The results of lme4 for one model (see reference/README.md for the fields)."""
    found: dict[str, Any] = json.loads((FOLDER / "ref" / f"{name}.json").read_text())
    return found


def reference_names() -> list[str]:
    """Names of all linear models with a reference."""
    return [name for name in _names() if not name.startswith(GENERALIZED)]


def generalized_names() -> list[str]:
    """Names of all generalized models with a reference."""
    return [name for name in _names() if name.startswith(GENERALIZED)]


def _names() -> list[str]:
    return sorted(path.stem for path in (FOLDER / "ref").glob("*.json"))
