"""Which points are neighbours: a graph over points in time, in space or in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

LISTED = "a square matrix (dense or scipy.sparse) or a list of pairs of places"


@dataclass(frozen=True, eq=False)
class Graph:
    """Points 0, ..., count - 1 and the pairs of them that are neighbours, each pair once."""

    shape: tuple[int, ...]  # extents of their axes
    one: np.ndarray  # (m,), less than
    two: np.ndarray  # (m,)

    @classmethod
    def of_pairs(cls, shape: Sequence[int], one: np.ndarray, two: np.ndarray) -> Graph:
        """Pairs in any order, repeated or not; a point is no neighbour of itself."""
        count = math.prod(shape)
        low, high = np.minimum(one, two), np.maximum(one, two)
        keys = np.unique((low * np.int64(count) + high)[low != high])
        return cls(tuple(shape), keys // count, keys % count)

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @cached_property
    def lists(self) -> list[list[int]]:
        """Neighbours of each point."""
        found: list[list[int]] = [[] for _ in range(self.count)]
        for i, j in zip(self.one.tolist(), self.two.tolist(), strict=True):
            found[i].append(j)
            found[j].append(i)
        return found


def shape_of(shape: Any, count: int) -> tuple[int, ...]:
    """The extents of the points' axes, whose product is their number; default: one axis."""
    if shape is None:
        return (count,)
    try:
        found = tuple(int(size) for size in np.atleast_1d(shape))
    except (TypeError, ValueError):
        found = ()
    if math.prod(found) != count or min(found, default=0) < 1:
        raise ValueError(
            f"shape {shape!r} does not have as many points as Y has columns ({count}): give the "
            "extents of its axes, the last one varying fastest, as in (channels, times)"
        )
    return found


def neighbours(shape: Sequence[int], adjacency: Any = None) -> Graph:
    """The lattice of a shape; with an adjacency, of all points or of the places on the first axis.

    Places on the first axis that are adjacent are neighbours at the same point of the other axes.
    """
    count = math.prod(shape)
    if adjacency is None:
        return _lattice(shape)
    size, one, two = _pairs(adjacency, shape[0])
    if size == count:
        return Graph.of_pairs(shape, one, two)
    if size != shape[0]:
        raise ValueError(
            f"adjacency is of {size} places: it should be of all {count} points, or of the "
            f"{shape[0]} places on the first axis of shape {tuple(shape)}"
        )
    rest = count // size
    within = _lattice(shape[1:])
    along, at = np.arange(rest), rest * np.arange(size)[:, None]
    return Graph.of_pairs(
        shape,
        np.concatenate([_all(one[:, None] * rest + along), _all(at + within.one)]),
        np.concatenate([_all(two[:, None] * rest + along), _all(at + within.two)]),
    )


def _lattice(shape: Sequence[int]) -> Graph:
    """Neighbours differ by one on one axis."""
    places = np.arange(math.prod(shape)).reshape(shape)
    one, two = [], []
    for axis, size in enumerate(shape):
        if size > 1:
            one.append(_all(places.take(range(size - 1), axis)))
            two.append(_all(places.take(range(1, size), axis)))
    none = np.zeros(0, dtype=np.int64)
    return Graph.of_pairs(shape, np.concatenate([none, *one]), np.concatenate([none, *two]))


def _all(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.int64).ravel()


def _pairs(adjacency: Any, first: int) -> tuple[int, np.ndarray, np.ndarray]:
    """The number of places, and pairs of them."""
    if hasattr(adjacency, "tocoo"):
        return _of_matrix(adjacency.tocoo())
    given = adjacency if hasattr(adjacency, "shape") else list(adjacency)
    try:
        values = np.asarray(given)
    except ValueError:
        values = np.zeros(0)
    if isinstance(given, list) and not given:
        values = np.zeros((0, 2), dtype=np.int64)
    listed = values.ndim == 2 and values.shape[1] == 2 and values.dtype.kind in "iu"
    if values.ndim == 2 and values.shape[0] == values.shape[1] and not (listed and first != 2):
        from scipy.sparse import coo_matrix

        return _of_matrix(coo_matrix(values))
    if not listed:
        raise ValueError(f"adjacency should be {LISTED}, not {_told(adjacency)}")
    wrong = values[(values < 0) | (values >= first)]
    if len(wrong):
        raise ValueError(f"adjacency names the place {wrong[0]}: there are {first}, from 0 on")
    return first, _all(values[:, 0]), _all(values[:, 1])


def _of_matrix(matrix: Any) -> tuple[int, np.ndarray, np.ndarray]:
    rows, columns = matrix.shape
    if rows != columns:
        raise ValueError(f"adjacency should be {LISTED}; it is {rows} x {columns}")
    kept = matrix.data != 0
    return int(rows), _all(matrix.row[kept]), _all(matrix.col[kept])


def _told(given: Any) -> str:
    shape = getattr(given, "shape", None)
    return type(given).__name__ if shape is None else f"an array of shape {tuple(shape)}"
