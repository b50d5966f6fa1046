"""Compact letters: means that share one do not differ significantly.

References
----------
Piepho (2004), *J. Comput. Graph. Stat.* 13, 456-466: insert and absorb.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import ascii_lowercase

import numpy as np


def letters(order: Sequence[int], different: Iterable[tuple[int, int]]) -> list[str]:
    """Letters of m means, the first ones for those that come first in `order`.

    Parameters
    ----------
    order : sequence of int
        The means by size.
    different : pairs of int
        Means that differ.
    """
    m = len(order)
    columns = [frozenset(range(m))]
    for i, j in different:
        columns = _absorbed(
            [
                part
                for column in columns
                for part in ((column - {i}, column - {j}) if {i, j} <= column else (column,))
            ]
        )
    rank = np.argsort(np.asarray(order))
    columns = sorted(columns, key=lambda column: sorted(rank[i] for i in column))
    return [
        "".join(_letter(c) if i in column else " " for c, column in enumerate(columns))
        for i in range(m)
    ]


def _absorbed(columns: list[frozenset[int]]) -> list[frozenset[int]]:
    """Without those that are part of another."""
    distinct = list(dict.fromkeys(columns))
    return [one for one in distinct if not any(one < other for other in distinct)]


def _letter(place: int) -> str:
    """a .. z, then a1, b1, ..."""
    turn, place = divmod(place, len(ascii_lowercase))
    return ascii_lowercase[place] + (str(turn) if turn else "")
