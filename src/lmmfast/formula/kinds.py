"""Kinds of columns: new data are read as what they were in training.

Texts given as categories, categories given as texts or numbers: as.numeric() and its like treat
them differently, so that a prediction would silently be that of another variable.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .column import Column
from .factors import as_text, relevelled
from .values import Logical, Text, as_factor, label_of

__all__ = ["Kind", "kind_of_column", "of_kind"]


class Kind(NamedTuple):
    """What a column is for expressions.

    Attributes
    ----------
    name : {"text", "factor", "numbers", "other"}
    levels : list or None
        Of a factor, a categorical's unused ones included.
    ordered : bool
    """

    name: str
    levels: list[Any] | None = None
    ordered: bool = False


def kind_of_column(value: Any) -> Kind:
    """The kind of a column, as `exposed` gives it."""
    if isinstance(value, Text):
        return Kind("text")
    if isinstance(value, Column):
        known = value.levels if value.declared is None else value.declared
        assert known is not None
        return Kind("factor", known.tolist(), value.ordered)
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
    assert factor.levels is not None and kind.levels is not None
    known = {label_of(level) for level in kind.levels}
    others = [level for level in factor.levels.tolist() if label_of(level) not in known]
    made = relevelled(factor, [*kind.levels, *others])
    made.ordered, made.declared = kind.ordered, made.levels
    return made


def _labels_as_numbers(factor: Column) -> Any:
    """The numbers that a factor's levels are; the factor where they are none."""
    assert factor.levels is not None and factor.codes is not None
    if factor.levels.dtype.kind not in "iuf":
        return factor
    return np.append(factor.levels.astype(np.float64), np.nan)[factor.codes]
