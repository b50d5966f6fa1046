"""Which sums rows can have: counts agree, no square is negative, no product is too large."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .totals import Totals
from .verify import Damage

Side = tuple[NDArray[Any], NDArray[Any]]  # sums of squares of columns, lengths with removed rows
CLOSE = 1e-6  # what rounding may do to an inequality between sums, relative to the sums


def check_sums(cross: Totals, blocks: Mapping[str, NDArray[Any]]) -> None:
    """The counts, sums of squares and of products are those that some rows can have.

    `blocks` are the arrays of `cross`, with the names that `archive.blocks_to` gives them.
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
    *parts, rest = np.split(held, np.cumsum(cross.spec.widths))
    border = corner.diagonal(), rest
    _check_products("corner", corner, border, border)
    if not np.allclose(corner, corner.T, rtol=CLOSE, atol=CLOSE * float(rest.max()) ** 2):
        raise Damage("the products of X and y are not symmetric")
    for a, own in enumerate(squares):
        mine = own, parts[a]
        _check_products(f"diagonal{a}", blocks[f"diagonal{a}"], mine, mine)
        _check_products(f"edge{a}", blocks[f"edge{a}"], mine, border)
        for c in range(a + 1, len(squares)):
            left = own[blocks[f"la{a}_{c}"]], parts[a]
            right = squares[c][blocks[f"lc{a}_{c}"]], parts[c]
            _check_products(f"values{a}_{c}", blocks[f"values{a}_{c}"], left, right)


def _check_products(what: str, values: NDArray[Any], one: Side, two: Side) -> None:
    """No product of two columns is larger than the product of their lengths."""
    (left, left_held), (right, right_held) = one, two
    with np.errstate(over="ignore", invalid="ignore"):
        slack = CLOSE * left_held[:, None] * right_held[None, :]
        for squares, length in (one, two):
            if (squares < -CLOSE * length * length).any():
                raise Damage(f"{what}: a sum of squares is negative")
        roots = np.sqrt(np.maximum(left, 0)), np.sqrt(np.maximum(right, 0))
        lengths = roots[0][..., :, None] * roots[1][..., None, :]
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
