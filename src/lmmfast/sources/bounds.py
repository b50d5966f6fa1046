"""Which sums rows can have: counts agree, no square is negative, no product is too large."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .totals import Totals
from .verify import Damage

__all__ = ["check_sums"]

CLOSE = 1e-6  # what rounding may do to an inequality between sums, relative to the sums


def check_sums(cross: Totals, blocks: Mapping[str, NDArray[Any]]) -> None:
    """The counts, sums of squares and of products are those that some rows can have.

    `blocks` are the arrays of `cross`, with the names that `files.blocks_to` gives them.
    """
    _check_counts(cross)
    squares: list[NDArray[Any]] = [
        np.einsum("lii->li", blocks[f"diagonal{k}"]) for k in range(len(cross._groups))
    ]
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


def _check_counts(cross: Totals) -> None:
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
