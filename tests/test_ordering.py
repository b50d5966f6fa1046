"""Fill-reducing orders: permutations, little fill, every time the same; the best one is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from lmmfast import _core
from lmmfast.data.arrays import design_of
from lmmfast.engine import ordering
from lmmfast.engine.compiled import Engine

Edges = Iterable[tuple[int, int]]
WAYS = (_core.AMD, _core.RCM)


class Graph:
    """Nodes 0, ..., n - 1 and edges; as the core takes it, and as a matrix of booleans."""

    def __init__(self, n: int, edges: Edges) -> None:
        pairs = np.array([(max(e), min(e)) for e in edges], int).reshape(-1, 2)
        self.n, self.full = n, np.eye(n, dtype=bool)
        self.full[pairs[:, 0], pairs[:, 1]] = self.full[pairs[:, 1], pairs[:, 0]] = True
        column, row = np.nonzero(np.tril(self.full).T)
        self.ptr, self.row = np.searchsorted(column, np.arange(n + 1)), row.astype(np.int32)

    def shuffled(self, seed: int) -> Graph:
        """The same graph, its nodes numbered at random."""
        number = np.random.default_rng(seed).permutation(self.n)
        return Graph(self.n, number[np.argwhere(np.tril(self.full, -1))].tolist())

    def order(self, how: str, weight: Iterable[int] | None = None) -> np.ndarray:
        columns = np.ones(self.n, np.int32) if weight is None else np.array([*weight], np.int32)
        found: np.ndarray = _core.fill_reducing_order(how, self.ptr, self.row, columns)
        return found


def counts(graph: Graph, order: np.ndarray) -> np.ndarray:
    """Entries of each column of the Cholesky factor, by elimination on the whole matrix."""
    full = graph.full[np.ix_(order, order)]
    found = np.empty(graph.n)
    for j in range(graph.n):
        below = j + np.flatnonzero(full[j:, j])
        found[j] = len(below)
        full[np.ix_(below, below)] = True
    return found


def fill(graph: Graph, order: np.ndarray) -> float:
    return float(counts(graph, order).sum())


def least_degree(graph: Graph) -> np.ndarray:
    """The minimum degree order from its definition: the graph itself is eliminated."""
    full, left = graph.full.copy(), np.ones(graph.n, bool)
    order = np.empty(graph.n, int)
    for k in range(graph.n):
        order[k] = node = min(np.flatnonzero(left), key=lambda i: full[i, left].sum())
        left[node] = False
        with_it = full[node] & left
        full[np.ix_(with_it, with_it)] = True
    return order


def random_edges(n: int, count: int, seed: int) -> Edges:
    return np.random.default_rng(seed).integers(0, n, (count, 2)).tolist()


def path(n: int) -> Edges:
    return ((i, i + 1) for i in range(n - 1))


def star(n: int) -> Edges:
    return ((0, i) for i in range(1, n))


def clique(n: int, first: int = 0) -> Edges:
    return ((first + i, first + j) for i in range(n) for j in range(i))


def band(n: int, width: int) -> Edges:
    return ((i, j) for i in range(n) for j in range(i + 1, min(n, i + width + 1)))


def tree(n: int) -> Edges:
    return (((i - 1) // 3, i) for i in range(1, n))


def grid(a: int, b: int) -> Edges:
    number = np.arange(a * b).reshape(a, b)
    yield from zip(number[1:].ravel(), number[:-1].ravel(), strict=True)
    yield from zip(number[:, 1:].ravel(), number[:, :-1].ravel(), strict=True)


def cycle(n: int) -> Edges:
    return ((i, (i + 1) % n) for i in range(n))


GRAPHS: dict[str, Callable[[], Graph]] = {
    "nothing": lambda: Graph(0, []),
    "one node": lambda: Graph(1, []),
    "no edges": lambda: Graph(30, []),
    "path": lambda: Graph(50, path(50)),
    "star": lambda: Graph(40, star(40)),
    "large star": lambda: Graph(900, star(900)),  # its centre is a dense row
    "clique": lambda: Graph(20, clique(20)),
    "large clique": lambda: Graph(250, clique(250)),  # all rows are dense
    "tree": lambda: Graph(200, tree(200)),
    "cliques that share a node": lambda: Graph(19, [*clique(10), *clique(10, 9)]),
    "parts": lambda: Graph(70, [*path(20), *clique(12, 25), *((40, i) for i in range(41, 60))]),
}
NO_FILL = tuple(GRAPHS)  # of these graphs no order needs any, and minimum degree finds one
GRAPHS |= {
    "band": lambda: Graph(200, band(200, 4)),
    "cycle": lambda: Graph(60, cycle(60)),
    "grid": lambda: Graph(400, grid(20, 20)),
    "long grid": lambda: Graph(300, grid(5, 60)),
    "random": lambda: Graph(300, random_edges(300, 700, 1)),
    "random, dense": lambda: Graph(120, random_edges(120, 2000, 2)),
    "random parts": lambda: Graph(400, random_edges(400, 220, 3)),
}
every = pytest.mark.parametrize("name", GRAPHS)


@every
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("weighted", [False, True])
def test_orders_are_permutations(name: str, how: str, weighted: bool) -> None:
    """And the same ones every time."""
    graph = GRAPHS[name]().shuffled(5)
    weight = np.random.default_rng(6).integers(1, 9, graph.n) if weighted else None
    order = graph.order(how, weight)
    assert np.array_equal(np.sort(order), np.arange(graph.n))
    for _ in range(3):
        assert np.array_equal(graph.order(how, weight), order)


@pytest.mark.parametrize("name", NO_FILL)
def test_minimum_degree_fills_nothing_where_nothing_must_be(name: str) -> None:
    for seed in range(3):
        graph = GRAPHS[name]().shuffled(seed)
        assert fill(graph, graph.order(_core.AMD)) == len(graph.row)


def test_minimum_degree_of_bands() -> None:
    """Nothing is filled until the ends meet: degrees are bounds there."""
    for width in (2, 4, 7):
        graph = Graph(150, band(150, width)).shuffled(width)
        assert fill(graph, graph.order(_core.AMD)) <= len(graph.row) + width


def test_minimum_degree_against_its_definition() -> None:
    """Degrees are bounds and ties fall otherwise: no worse on the whole, little in any one."""
    ours, wanted = [], []
    for seed in range(120):
        n = 5 + seed % 46
        graph = Graph(n, random_edges(n, n * (2 + seed % 3) // 2, seed))
        ours.append(fill(graph, graph.order(_core.AMD)))
        wanted.append(fill(graph, least_degree(graph)))
    assert sum(ours) <= 1.02 * sum(wanted)
    assert max(a / b for a, b in zip(ours, wanted, strict=True)) < 1.2


@pytest.mark.parametrize("k", [8, 16, 32, 45])
def test_fill_of_grids(k: int) -> None:
    """Of the order n log n, as by nested dissection (7.75 n log2 n at most); a band has n^1.5."""
    graph, n = Graph(k * k, grid(k, k)).shuffled(k), k * k
    found = fill(graph, graph.order(_core.AMD))
    assert 0.5 * n * np.log2(n) < found < 2 * n * np.log2(n)
    assert fill(graph, graph.order(_core.RCM)) <= n * (k + 1)
    flops = float((counts(graph, graph.order(_core.AMD)) ** 2).sum())
    assert flops < 20 * n**1.5


def test_multiplications_of_an_order() -> None:
    """Half the squares of the columns' entries, and some for the zeros of merged columns."""
    for name in ("clique", "large clique", "random", "random, dense"):
        graph = GRAPHS[name]()
        for order in (graph.order(_core.AMD), np.arange(graph.n)):
            wanted = float((counts(graph, order) ** 2).sum()) / 2
            found = _core.factor_flops(graph.ptr, graph.row, order)
            assert 0.8 * wanted <= found <= 1.3 * wanted


def test_dense_rows_come_last() -> None:
    """Nodes with very many neighbours wait, those with most of them longest."""
    n, hubs = 900, (17, 300, 899)
    rest = [i for i in range(n) if i not in hubs]
    spokes = [(hub, i) for k, hub in enumerate(hubs) for i in rest[k * 150 :]]
    links = list(pairwise(rest))
    graph = Graph(n, [*links, *spokes])
    order = graph.order(_core.AMD)
    assert [*order[-3:]] == [899, 300, 17]
    alone = Graph(n, links)
    assert fill(alone, order) == len(alone.row)


def test_weights_are_columns() -> None:
    """A heavy node is many neighbours to each of its own; orders of columns are as good."""
    graph = Graph(4, star(4))
    assert graph.order(_core.AMD)[0] != 0
    assert graph.order(_core.AMD, [50, 1, 1, 1])[0] == 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        graph, weight = Graph(90, random_edges(90, 200, seed)), rng.integers(1, 6, 90)
        node = np.repeat(np.arange(90), weight)
        columns = Graph(len(node), np.argwhere(graph.full[np.ix_(node, node)]).tolist())
        place = np.concatenate([np.flatnonzero(node == i) for i in graph.order(_core.AMD, weight)])
        assert fill(columns, place) < 1.1 * fill(columns, columns.order(_core.AMD))


def test_reverse_cuthill_mckee_keeps_bands() -> None:
    """Of every part of a shuffled graph, and their levels."""
    parts = [*band(150, 3), *((150 + i, 150 + j) for i, j in band(80, 6))]
    graph = Graph(240, parts).shuffled(9)
    order = graph.order(_core.RCM)
    assert fill(graph, order) <= 1.1 * len(graph.row)
    i, j = np.nonzero(graph.full[np.ix_(order, order)])
    assert np.abs(i - j).max() <= 12
    long = Graph(400, grid(4, 100)).shuffled(9)
    i, j = np.nonzero(long.full[np.ix_(*[long.order(_core.RCM)] * 2)])
    assert np.abs(i - j).max() <= 5


# ---- which of them is taken ----------------------------------------------------------------------


def source(first: np.ndarray, second: np.ndarray) -> tuple[Any, ...]:
    """What the core takes of two crossed factors; the smaller one is trailing."""
    codes = [np.unique(c, return_inverse=True)[1] for c in (first, second)]
    y = np.random.default_rng(2).normal(size=len(first))
    design = design_of(y, np.ones((len(y), 1)), [(c, None) for c in codes], None, None)
    engine = Engine(design, "dense", _core.plan)
    made: tuple[Any, ...] = design.sums.source(design.fixed, engine._groups)
    return made


def narrow() -> tuple[Any, ...]:
    """Levels of the second factor in a window that wanders with the first."""
    rng = np.random.default_rng(3)
    first = np.repeat(np.arange(6000), 4)
    second = first * 1440 // 6000 + rng.integers(0, 60, len(first))
    return source(first, rng.permutation(1500)[second])


def hard() -> tuple[Any, ...]:
    """Levels that occur in twos, at random."""
    rng = np.random.default_rng(4)
    first = np.repeat(np.arange(9000), 2)
    return source(first, np.r_[np.arange(4500), rng.integers(0, 4500, 13_500)])


def planned(made: tuple[Any, ...], order: Any = None) -> dict[str, Any]:
    found: dict[str, Any] = _core.plan(*made, storage="sparse", order=order)
    return found


def test_easy_graphs_have_one_of_our_orders() -> None:
    """Of a narrow design the envelope is smaller; nobody else is asked."""

    def never(ptr: np.ndarray, row: np.ndarray) -> None:
        raise AssertionError("asked for an order")

    assert planned(narrow(), never)["ordered_by"] == _core.RCM
    rng = np.random.default_rng(5)
    first = np.repeat(np.arange(3000), 2)
    scattered = source(first, np.r_[np.arange(900), rng.integers(0, 900, 5100)])
    assert planned(scattered, never)["ordered_by"] == _core.AMD


def test_hard_graphs_take_the_best_order() -> None:
    """One that is offered must be better; None, and one that is worse, change nothing."""
    made, graphs = hard(), []
    plain = planned(made)
    assert plain["ordered_by"] == _core.AMD

    def none(ptr: np.ndarray, row: np.ndarray) -> None:
        graphs.append((ptr, row))

    def worse(ptr: np.ndarray, row: np.ndarray) -> tuple[str, np.ndarray]:
        return "backwards", np.arange(len(ptr) - 1)[::-1]

    for order in (none, worse):
        assert planned(made, order) == plain
    [(ptr, row)] = graphs
    assert len(ptr) == 4501 and ptr[-1] == len(row)
    assert (np.diff(ptr) > 0).all() and (row[ptr[:-1]] == np.arange(4500)).all()

    def better(ptr: np.ndarray, row: np.ndarray) -> tuple[str, np.ndarray]:
        """Of all numberings of the nodes one in which ties fall well."""
        return "ties", best

    rng, best, least = np.random.default_rng(6), np.arange(4500), plain["flops"]
    columns = np.repeat(np.arange(4500), np.diff(ptr))
    for _ in range(40):
        number = rng.permutation(4500)
        pairs = np.sort(np.c_[number[row], number[columns]], axis=1)
        pairs = pairs[np.lexsort(pairs.T[::-1])]
        again = np.searchsorted(pairs[:, 0], np.arange(4501))
        ones = np.ones(4500, np.int32)
        order = _core.fill_reducing_order(_core.AMD, again, pairs[:, 1].astype(np.int32), ones)
        best = np.argsort(number)[order]
        found = planned(made, better)
        if found["flops"] < least:
            break
    assert found["flops"] < least and found["ordered_by"] == "ties"


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros(4500, int), np.arange(4500) + 1])
def test_offered_orders_that_are_none(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="an order of 4500 nodes must have each of"):
        planned(hard(), lambda ptr, row: ("wrong", wrong))


def test_errors_of_who_offers_an_order_come_through() -> None:
    def interrupted(ptr: np.ndarray, row: np.ndarray) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        planned(hard(), interrupted)


def test_nested_dissection() -> None:
    """Where scikit-sparse is installed: much less fill in a grid of three dimensions."""
    if ordering._cholmod() is None:
        pytest.skip("scikit-sparse is not installed")
    number = np.arange(14**3).reshape(14, 14, 14)
    edges = [
        *zip(number[1:].ravel(), number[:-1].ravel(), strict=True),
        *zip(number[:, 1:].ravel(), number[:, :-1].ravel(), strict=True),
        *zip(number[:, :, 1:].ravel(), number[:, :, :-1].ravel(), strict=True),
    ]
    graph = Graph(14**3, edges).shuffled(1)
    found = ordering.nested_dissection(graph.ptr, graph.row)
    assert found is not None and found[0] == "nested dissection (METIS)"
    assert np.array_equal(np.sort(found[1]), np.arange(graph.n))
    assert fill(graph, found[1]) < fill(graph, graph.order(_core.RCM))


class Failing:
    """A CHOLMOD that can't."""

    class CholmodError(Exception):
        pass

    @classmethod
    def analyze(cls, *arguments: Any, **options: Any) -> None:
        raise cls.CholmodError("METIS is not installed")


@pytest.mark.parametrize("module", [None, Failing])
def test_no_nested_dissection(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "_cholmod", lambda: module)
    graph = Graph(30, path(30))
    assert ordering.nested_dissection(graph.ptr, graph.row) is None
    assert planned(hard(), ordering.nested_dissection)["ordered_by"] == _core.AMD
