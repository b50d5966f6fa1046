"""Families of responses that are not there yet: how many classes an ordered one has."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np

from ..engine.families import Family, find_family
from ..engine.ordered import Ordered
from ..errors import DataError
from .parameters import Parameters


def family_for(family: Any, link: Any, Y: Any) -> Family:
    """The family of responses in a table; an ordered one with as many classes as occur there."""
    found = find_family(family, link)
    if not isinstance(found, Ordered) or found.classes:
        return found
    is_table = isinstance(Y, (np.ndarray, dict)) or hasattr(Y, "columns")
    values = np.array([np.nan])
    if is_table:
        given = np.column_stack(list(Y.values())) if isinstance(Y, dict) else Y
        with suppress(TypeError, ValueError):
            values = np.asarray(given, dtype=float)
    top = np.nanmax(values, initial=0.0)
    if not 1 <= top < np.inf:
        raise DataError(
            "Y of an ordered response must be a table of classes 0 .. K - 1, so that their number "
            "is known",
            variable="Y",
        )
    return found.with_levels(range(int(top) + 1))


def family_given(family: Any, link: Any, params: Any) -> Family:
    """The family of assumed parameters; the names of thresholds are those of an ordered one's
    classes.

    Raises
    ------
    ValueError
        When thresholds are not known, or their names are none.
    """
    found = find_family(family, link)
    if not isinstance(found, Ordered) or found.classes:
        return found
    extra = Parameters.read(params).extra
    if extra is None:
        raise ValueError(
            'params needs extra, the thresholds of an ordered response: {"low|middle": -1, '
            '"middle|high": 1}, or a list of them'
        )
    if not isinstance(extra, Mapping):
        return found.with_levels(range(np.size(extra) + 1))
    pairs = [str(name).split("|") for name in extra]
    chained = all(len(pair) == 2 for pair in pairs) and all(
        a[1] == b[0] for a, b in pairwise(pairs)
    )
    if not chained:
        raise ValueError(
            f"params: extra are thresholds between neighbouring classes in their order, as in "
            f'{{"low|middle": -1, "middle|high": 1}}, not {", ".join(map(repr, extra))}'
        )
    return found.with_levels([pairs[0][0], *(pair[1] for pair in pairs)])
