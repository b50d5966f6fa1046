"""What a file says is checked once, before anything is made of it: kinds, sizes, ranges, sums.

Everything here raises `Damage`, a ValueError in words; whoever reads a file says which file it is.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .cross import CrossProducts

__all__ = ["Damage", "array", "check_sums", "fields", "flag", "items", "real", "text", "whole"]

MOST = 2**53  # rows that can be counted
CLOSE = 1e-6  # what rounding may do to an inequality between sums, relative to the sums


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


# ---- sums of rows -------------------------------------------------------------------------------


def check_sums(cross: CrossProducts, blocks: Mapping[str, NDArray[Any]]) -> None:
    """Sums of squares and of products that some rows can have.

    Parameters
    ----------
    cross : CrossProducts
    blocks : mapping
        Its arrays, with the names that `storage.blocks_to` gives them.
    """
    _check_counts(cross)
    squares = [_diagonal(blocks[f"diagonal{k}"]) for k in range(len(cross._groups))]
    corner = blocks["corner"]
    total = np.concatenate([own.sum(axis=0) for own in squares] + [corner.diagonal()])
    if (cross._largest < 0).any():
        raise Damage("a sum of squares is negative")
    # lengths of the columns, with the rows that were taken away
    held = np.sqrt(np.maximum(abs(total), cross._largest))
    ends = np.cumsum([0, *cross.spec.widths])
    border = slice(int(ends[-1]), None)
    _check_products(
        "corner", corner, corner.diagonal(), corner.diagonal(), held[border], held[border]
    )
    if not np.allclose(corner, corner.T, rtol=CLOSE, atol=CLOSE * float(held[border].max()) ** 2):
        raise Damage("the products of X and y are not symmetric")
    for a, own in enumerate(squares):
        mine = held[ends[a] : ends[a + 1]]
        _check_products(f"diagonal{a}", blocks[f"diagonal{a}"], own, own, mine, mine)
        edge = blocks[f"edge{a}"]
        _check_products(f"edge{a}", edge, own, corner.diagonal(), mine, held[border])
        for c in range(a + 1, len(squares)):
            left, right = own[blocks[f"la{a}_{c}"]], squares[c][blocks[f"lc{a}_{c}"]]
            theirs = held[ends[c] : ends[c + 1]]
            _check_products(f"values{a}_{c}", blocks[f"values{a}_{c}"], left, right, mine, theirs)


def _diagonal(blocks: NDArray[Any]) -> NDArray[Any]:
    squares: NDArray[Any] = np.einsum("lii->li", blocks)
    return squares


def _check_products(
    what: str,
    values: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    left_held: NDArray[Any],
    right_held: NDArray[Any],
) -> None:
    """No product of two columns is larger than the product of their lengths."""
    with np.errstate(over="ignore", invalid="ignore"):
        slack = CLOSE * left_held[:, None] * right_held[None, :]
        for squares, length in ((left, left_held), (right, right_held)):
            if (squares < -CLOSE * length * length).any():
                raise Damage(f"{what}: a sum of squares is negative")
        lengths = (
            np.sqrt(np.maximum(left, 0))[..., :, None] * np.sqrt(np.maximum(right, 0))[..., None, :]
        )
        fits = abs(values) <= (1 + CLOSE) * lengths + slack
    if not fits.all():
        raise Damage(f"{what}: products are larger than their columns are long")


def _check_counts(cross: CrossProducts) -> None:
    """Counts of rows that agree with each other."""
    if cross.n > cross.n_rows or any(count > cross.n_rows for count in cross.dropped.values()):
        raise Damage(f"{cross.n} rows are used of {cross.n_rows}")
    for group in cross._groups:
        counts = group.counts
        if (counts < 0).any() or (counts > cross.n).any() or int(counts.sum()) != cross.n:
            raise Damage(f"the levels of {group.label!r} do not have {cross.n} rows")
    cells = cross._cells
    if (cells < 0).any() or (cells > cross.n).any() or int(cells.sum()) > cross.n:
        raise Damage("the rows of combinations of levels are not those of the rows used")
    low, high = cross._weights
    if not cross.spec.weights or not cross.n:
        return
    slack = CLOSE * (1 + abs(cross._sumlogw))
    if not 0 < low <= high < math.inf or not (
        cross.n * math.log(low) - slack <= cross._sumlogw <= cross.n * math.log(high) + slack
    ):
        raise Damage("the weights are not those of rows")
