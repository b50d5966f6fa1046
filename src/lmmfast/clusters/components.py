"""Clusters of neighbouring points beyond a threshold, and enhancement without one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .neighbours import Graph

TAILS = ("two-sided", "greater", "less")
KINDS = ("mass", "size", "tfce")


@dataclass(frozen=True)
class Rule:
    """How a map of statistics is read: what a cluster is, and what is compared.

    ``threshold`` is for "mass" and "size"; ``extent`` and ``height`` are E and H of "tfce".
    """

    kind: str
    tail: str
    threshold: float
    extent: float
    height: float

    def largest(self, statistic: np.ndarray, graph: Graph) -> float:
        """The largest size, absolute mass or enhanced value of a map; 0 where there is no cluster.

        Points that are NaN belong to no cluster.
        """
        if self.kind == "tfce":
            return float(np.abs(self.enhanced(statistic, graph)).max(initial=0.0))
        return float(np.abs(self.weights(statistic, self.labels(statistic, graph))).max(initial=0))

    def labels(self, statistic: np.ndarray, graph: Graph) -> np.ndarray:
        """(T,): the cluster of each point, from 1 on by their first points; 0 for none."""
        return clusters(self.signs(statistic), graph)

    def signs(self, statistic: np.ndarray) -> np.ndarray:
        """(T,): 1 and -1 for points beyond the threshold on either side, else 0."""
        above = self.tail != "less"
        below = self.tail != "greater"
        with np.errstate(invalid="ignore"):
            up, down = statistic > self.threshold, statistic < -self.threshold
        return np.asarray((up & above).astype(np.int8) - (down & below).astype(np.int8))

    def weights(self, statistic: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """(K,): the size of each cluster, or its mass, the sum of its statistics."""
        if self.kind == "size":
            return np.bincount(labels)[1:].astype(float)
        return np.bincount(labels, np.where(labels > 0, statistic, 0.0))[1:]

    def enhanced(self, statistic: np.ndarray, graph: Graph) -> np.ndarray:
        """(T,): the map after threshold-free cluster enhancement, with the sign of each point."""
        values = np.nan_to_num(statistic, nan=0.0)
        out = np.zeros(len(values))
        for sign in (1, -1):
            if self.tail != ("less" if sign > 0 else "greater"):
                out += sign * enhanced(
                    np.maximum(sign * values, 0), graph, self.extent, self.height
                )
        return out


def clusters(signs: np.ndarray, graph: Graph) -> np.ndarray:
    """(T,): connected components of neighbours that have the same sign, numbered from 1 on by their
    first points; 0 for points of sign 0."""
    kept = (signs[graph.one] == signs[graph.two]) & (signs[graph.one] != 0)
    root = list(range(graph.count))
    for one, two in zip(graph.one[kept].tolist(), graph.two[kept].tolist(), strict=True):
        a, b = _top(root, one), _top(root, two)
        root[max(a, b)] = min(a, b)
    labels, number = np.zeros(graph.count, dtype=np.int64), 0
    for point in np.flatnonzero(signs).tolist():
        first = _top(root, point)
        number += first == point
        labels[point] = number if first == point else labels[first]
    return labels


def _top(root: list[int], node: int) -> int:
    """The root of a node's tree, with shorter ways to it."""
    while root[node] != node:
        root[node] = root[root[node]]
        node = root[node]
    return node


def enhanced(values: np.ndarray, graph: Graph, extent: float, height: float) -> np.ndarray:
    """Threshold-free cluster enhancement of values that are not negative (T,).

    Smith and Nichols (2009, *NeuroImage* 44, equation 1): the integral over h, from 0 to the value
    of a point, of e(h)^E h^H, where e(h) is the number of points in its cluster at the threshold h.
    The integral is exact: between two heights at which clusters merge e is constant, so that there
    is no step to choose. The merging is Kruskal's, from the highest point down.
    """
    top = values.tolist()  # of each component: single points first, then what they merge into
    size = [1] * len(top)
    parent = [-1] * len(top)
    root = list(range(len(top)))  # of the tree of components, shortened on the way
    active = [False] * len(top)

    for point in np.argsort(-values, kind="stable").tolist():
        level = top[point]
        if level <= 0:
            break
        active[point] = True
        for other in graph.lists[point]:
            if not active[other]:
                continue
            one, two = _top(root, point), _top(root, other)
            if one != two:
                made = len(top)
                parent[one] = parent[two] = root[one] = root[two] = made
                top.append(level)
                size.append(size[one] + size[two])
                parent.append(-1)
                root.append(made)
    return _integrals(np.array(top), np.array(size), np.array(parent), extent, height)[
        : len(values)
    ]


def _integrals(
    top: np.ndarray, size: np.ndarray, parent: np.ndarray, extent: float, height: float
) -> np.ndarray:
    """The sum of the integrals of each component and of those that it becomes part of."""
    bottom = np.where(parent >= 0, top[parent], 0.0)
    power = height + 1
    total = size.astype(float) ** extent * (top**power - bottom**power) / power
    order = np.flatnonzero(parent >= 0)[::-1]
    for node, up in zip(order.tolist(), parent[order].tolist(), strict=True):
        total[node] += total[up]  # parents are made later than their parts
    return total
