"""A small frame for the tests of designs, and the question whether a design is R's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lmmfast.data.design import Design
from lmmfast.data.terms import RandomTerm

N = 48


def trials() -> pd.DataFrame:
    """48 rows with a column of each kind."""
    rng = np.random.default_rng(20)
    return pd.DataFrame(
        {
            "y": rng.normal(size=N),
            "x": rng.normal(3.0, 1.0, size=N).clip(0.5),
            "k": np.tile([2, 3, 5, 7], 12),
            "f": np.tile(["b", "a", "c"], 16),
            "flag": np.arange(N) % 5 < 2,
            "o": pd.Categorical(
                np.tile(["lo", "mid", "hi", "mid"], 12), ["lo", "mid", "hi", "none"], ordered=True
            ),
            "g": np.repeat([11, 3, 7, 20, 5, 1], 8),
            "h": np.tile(np.repeat(["u", "v"], 4), 6),
            "w.t": rng.uniform(0.5, 2.0, size=N),
            "row": [f"r{i}" for i in range(N)],
        }
    )


def r_column(name: str) -> str:
    """R's name of a column with treatment or polynomial contrasts: "f[T.b]:o[.L]" -> "fb:o.L"."""
    return "(Intercept)" if name == "Intercept" else re.sub(r"\[(?:T\.)?([^\]]*)\]", r"\1", name)


def design_differences(
    design: Design, reference: Mapping[str, Any], tolerance: float = 1e-12
) -> list[str]:
    """What differs from R's design, in words; nothing when all is equal.

    Parameters
    ----------
    design : Design
    reference : mapping
        With n, p, X_head (first rows, without dropped columns), dropped_columns (R's names),
        n_theta and n_levels.
    tolerance : float, default 1e-12
        Of the entries, relative to the largest of their column.
    """
    found = []
    dropped = set(reference.get("dropped_columns") or ())
    kept = [j for j, name in enumerate(design.x_names) if r_column(name) not in dropped]
    if len(design.y) != reference["n"]:
        found.append(f"{len(design.y)} rows, R has {reference['n']}")
    if len(kept) != reference["p"] or len(design.x_names) != len(kept) + len(dropped):
        found.append(f"columns {design.x_names}, R has {reference['X_columns']} and {dropped}")
    else:
        head = np.array(reference["X_head"], dtype=float).reshape(-1, len(kept))
        error = np.abs(design.X[: len(head), kept] - head) / np.maximum(np.abs(head).max(0), 1e-300)
        found += [
            f"column {design.x_names[kept[j]]}" for j in np.flatnonzero(error.max(0) > tolerance)
        ]
    levels = {term.group: len(term.levels) for term in design.terms}
    if sorted(levels.values()) != sorted(reference["n_levels"].values()):
        found.append(f"levels {levels}, R has {reference['n_levels']}")
    parameters = sum(map(_parameters, design.terms))
    if parameters != reference["n_theta"]:
        found.append(f"{parameters} covariance parameters, R has {reference['n_theta']}")
    return found


def _parameters(term: RandomTerm) -> int:
    k = len(term.columns)
    return k if term.structure == "diag" else k * (k + 1) // 2
