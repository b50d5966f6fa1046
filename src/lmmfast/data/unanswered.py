"""Designs of models whose responses come later: many at once, or drawn from parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .columns import Table
from .design import Design, build

RESPONSE = "response_"  # what stands in for responses


def without_response(
    formula: str,
    data: Any,
    *,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    learned: Mapping[str, Any] | None = None,
    kind: str | None = None,
    classes: Sequence[Any] = (),
    relationship: Mapping[str, Any] | None = None,
    dispersion: str | None = None,
    residual: str | None = None,
) -> Design:
    """The design of a formula whose left side is not read.

    kind: of the response of a generalized model, see `Outcome`. classes: names of those of an
    ordered one.
    """
    table = Table.of(data)
    if table is data:
        table = Table(data._native)
    table.add(RESPONSE, stand_in(kind, table.n, len(classes)))
    right = formula.partition("~")[2] if "~" in formula else formula
    how = {"weights": weights, "offset": offset, "contrasts": contrasts}
    how |= {"relationship": relationship, "dispersion": dispersion, "residual": residual}
    made = build(f"{RESPONSE} ~ {right}", table, **how, learned=learned, kind=kind)
    if made.outcome is None or not classes:
        return made
    outcome = replace(made.outcome, levels=tuple(map(str, classes)))
    return replace(made, outcome=outcome)


def stand_in(kind: str | None, n: int, classes: int) -> Any:
    """Values (n,) that a response of this kind may have, whichever rows are used."""
    wave = np.sin(np.arange(1.0, n + 1))
    if kind == "binomial":
        return (wave > 0).astype(float)
    if kind in ("count", "positive count"):
        return np.floor(2 + 2 * wave) + (kind != "count")
    if kind == "ordered":
        return np.floor(classes * (1 + wave) / 2)
    return {"positive": 2 + wave, "unit": (2 + wave) / 4}.get(str(kind), wave)
