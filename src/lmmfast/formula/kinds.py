"""Kinds of columns: new data are read as what they were in training.

Texts given as categories, categories given as texts or numbers: as.numeric() and its like treat
them differently, so that a prediction would silently be that of another variable.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .coerce import as_factor
from .column import Column, Text, label_of
from .factors import as_text, relevelled
from .values import Logical

__all__ = ["Kind", "kind_of_column", "of_kind"]


class Kind(NamedTuple):
    """What a column is for expressions."""

    name: str  # "text" | "factor" | "numbers" | "other"
    levels: list[Any] | None = None  # of a factor, a categorical's unused ones included
    ordered: bool = False


def kind_of_column(value: Any) -> Kind:
    """The kind of a column, as `exposed` gives it."""
    if isinstance(value, Text):
        return Kind("text")
    if isinstance(value, Column):
        return Kind("factor", value.known, value.ordered)
    numeric = value.dtype.kind in "iuf" and not isinstance(value, Logical)
    return Kind("numbers" if numeric else "other")


def of_kind(value: Any, kind: Kind) -> Any:
    """A column of new data as the kind that it was in training; as it is where it cannot be."""
    if kind.name == "text" and isinstance(value, Column):
        return as_text(value)
    if kind.name == "factor" and kind_of_column(value).name != "other":
        return _with_levels(as_factor(value), kind)
    if kind.name == "numbers" and isinstance(value, Column) and not isinstance(value, Text):
        return _labels_as_numbers(value)
    return value


def _with_levels(factor: Column, kind: Kind) -> Column:
    """A factor with the levels of training in front of its others."""
    assert kind.levels is not None
    known = {label_of(level) for level in kind.levels}
    others = [level for level in factor.levels.tolist() if label_of(level) not in known]
    made = relevelled(factor, [*kind.levels, *others])
    made.ordered, made.declared = kind.ordered, made.levels
    return made


def _labels_as_numbers(factor: Column) -> Any:
    """The numbers that a factor's levels are; the factor where they are none."""
    if factor.levels.dtype.kind not in "iuf":
        return factor
    return np.append(factor.levels.astype(np.float64), np.nan)[factor.codes]
