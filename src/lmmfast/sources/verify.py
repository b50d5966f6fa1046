"""What a file says is checked once, before anything is made of it: kinds, sizes, ranges.

Everything here raises `Damage`, a ValueError in words; whoever reads a file says which file it is.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 2**53  # rows that can be counted


class Damage(ValueError):
    """A file is not what was written."""


# ---- values of the header -----------------------------------------------------------------------


def fields(value: Any, names: Sequence[str], optional: Collection[str] = ()) -> dict[str, Any]:
    """A mapping with these keys and no others."""
    if not isinstance(value, dict):
        raise Damage(f"a record of {', '.join(names)} is a {type(value).__name__}")
    missing = [name for name in names if name not in value and name not in optional]
    more = [name for name in value if name not in names]
    if missing or more:
        said = [f"{name!r} is missing" for name in missing[:3]]
        raise Damage(", ".join(said + [f"{name[:40]!r} is unknown" for name in more[:3]]))
    return value


def items(value: Any, what: str, size: int | None = None) -> list[Any]:
    """A list, of so many items."""
    if not isinstance(value, list) or (size is not None and len(value) != size):
        found = f"{len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"
        raise Damage(f"{what}: {'a list' if size is None else size} expected, {found} found")
    return value


def text(value: Any, what: str) -> str:
    """Text."""
    if not isinstance(value, str):
        raise Damage(f"{what} is no text but a {type(value).__name__}")
    return value


def flag(value: Any, what: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise Damage(f"{what} is neither true nor false")
    return value


def whole(value: Any, what: str, low: int = 0, high: int = MOST) -> int:
    """A whole number in a range."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        shown = value if isinstance(value, int) and abs(value) < MOST else type(value).__name__
        raise Damage(f"{what} is no number from {low} to {high} but {shown}")
    return value


def real(value: Any, what: str, infinite: bool = False) -> float:
    """A number that was written with all its digits (hexadecimal)."""
    try:
        number = float.fromhex(text(value, what))
    except (ValueError, OverflowError):
        raise Damage(f"{what} is no hexadecimal number") from None
    if math.isnan(number) or (math.isinf(number) and not infinite):
        raise Damage(f"{what} is not finite")
    return number


def array(
    value: NDArray[Any],
    what: str,
    kinds: str,
    shape: tuple[int | None, ...] | None = None,
    gaps: bool = False,
) -> NDArray[Any]:
    """An array of these kinds of numbers and of this shape (None: any length), in native order.

    NaN stands for what is missing where there may be gaps, and is refused elsewhere.
    """
    if value.dtype.kind not in kinds or value.dtype.fields is not None:
        raise Damage(f"{what} has type {value.dtype}")
    if shape is not None and (
        value.ndim != len(shape)
        or any(m is not None and m != n for m, n in zip(shape, value.shape, strict=True))
    ):
        wanted = " x ".join("any" if m is None else str(m) for m in shape)
        raise Damage(f"{what} has shape {value.shape}, not {wanted}")
    if value.dtype.kind == "f" and not gaps and np.isnan(value).any():
        raise Damage(f"{what} is not finite")
    if value.dtype.kind in "mM" and np.isnat(value).any():
        raise Damage(f"{what} has times that are missing")
    native: NDArray[Any] = value.astype(value.dtype.newbyteorder("="), copy=False)
    return native
