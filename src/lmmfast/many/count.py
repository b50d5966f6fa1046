"""How often something is drawn."""

from __future__ import annotations

import operator
from typing import Any


def checked_count(n: Any, what: str = "n") -> int:
    """A whole number from 1 on; else ValueError."""
    try:
        found = operator.index(n)
    except TypeError:
        found = 0
    if found < 1 or isinstance(n, bool):
        raise ValueError(f"{what} must be a whole number from 1 on, not {n!r}")
    return found
