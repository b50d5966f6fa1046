"""Arrays of a fit cannot be changed: results that are computed later would follow from others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["Frozen", "freeze"]


def freeze(values: Iterable[Any]) -> None:
    """Makes arrays read-only, also those in tuples, lists and dicts, and columns of a table."""
    for value in values:
        kind = type(value)
        if kind is np.ndarray:
            if value.flags.writeable:
                value.flags.writeable = False
        elif kind is tuple or kind is list:
            freeze(value)
        elif kind is dict:
            freeze(value.values())
        elif hasattr(kind, "arrays"):
            freeze(value.arrays())


class Frozen:
    """A dataclass whose arrays are read-only, in copies and after pickling too.

    They must be its own: an array of the user's is put in as a view or as a copy.
    """

    def __post_init__(self) -> None:
        freeze(vars(self).values())

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        freeze(state.values())
