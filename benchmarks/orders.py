"""Fill-reducing orders of sparse trailing matrices: how long they take and what they save.

    OPENBLAS_NUM_THREADS=1 python benchmarks/orders.py

For each graph and each order alone: milliseconds of processor time to find it (least of several),
and multiplications of one factorization in it, in millions. Ours are approximate minimum degree
(AMD) and reverse Cuthill-McKee (RCM). The limits: SuiteSparse's AMD, called in libamd, and
CHOLMOD's analyses by AMD and by METIS through scikit-sparse (apt-get install libsuitesparse-dev;
pip install scikit-sparse); what is not installed is reported so.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import time
from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse
from scale_problems import pupils, workers_firms

from lmmfast import _core
from lmmfast.engine import ordering

Graph = scipy.sparse.csc_array  # lower triangle with the diagonal
Finder = Callable[[Graph], Callable[[], np.ndarray]]  # what is timed is the second call


def graph(n: int, one: np.ndarray, other: np.ndarray) -> Graph:
    """Edges between n nodes."""
    rows, columns = np.maximum(one, other), np.minimum(one, other)
    rows, columns = np.r_[rows, np.arange(n)], np.r_[columns, np.arange(n)]
    made = scipy.sparse.csc_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))
    made.sum_duplicates()
    made.sort_indices()
    return made


def trailing(first: np.ndarray, *others: np.ndarray) -> Graph:
    """Levels of other factors that share a level of the first one, or rows."""
    codes = [np.unique(c, return_inverse=True)[1] for c in others]
    sizes = [int(c.max()) + 1 for c in codes]
    rows = np.tile(first, len(codes))
    columns = np.concatenate([c + sum(sizes[:k]) for k, c in enumerate(codes)])
    made = scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)))
    one, other = scipy.sparse.tril(made.T @ made).nonzero()
    return graph(sum(sizes), one, other)


def crossing(rng: np.random.Generator, levels: int, others: int, wide: int, far: float) -> Graph:
    """Four rows a level, at neighbouring levels of the other factor and at a few distant ones."""
    first = np.repeat(np.arange(levels), 4)
    second = first * others // levels + rng.integers(0, wide, len(first))
    distant = rng.random(len(first)) < far
    second[distant] = rng.integers(0, others, distant.sum())
    return trailing(first, rng.permutation(others)[second % others])


def random(rng: np.random.Generator, n: int, degree: int) -> Graph:
    """Edges at random: hard, whatever the order."""
    return graph(n, *rng.integers(0, n, (2, n * degree // 2)))


def cube(rng: np.random.Generator, k: int) -> Graph:
    """A grid of three dimensions: hard, but for nested dissection."""
    number = rng.permutation(k**3).reshape(k, k, k)
    pairs = [(number.take(range(k - 1), a), number.take(range(1, k), a)) for a in range(3)]
    return graph(k**3, *(np.concatenate([p[i].ravel() for p in pairs]) for i in (0, 1)))


def graphs() -> Iterator[tuple[str, Graph]]:
    """Those of designs first."""
    rng = np.random.default_rng(1)
    spells = workers_firms()
    yield "100,000 workers, 10,000 firms", trailing(spells["worker"], spells["firm"])
    school = pupils()
    places = trailing(*(school[k] for k in ("pupil", "school", "neighbourhood")))
    yield "pupils, schools, neighbourhoods", places
    yield "15,000 x 6,000, 2 % distant", crossing(rng, 15_000, 6_000, 4, 0.02)
    yield "20,000 x 5,000, neighbours", crossing(rng, 20_000, 5_000, 4, 0.0)
    yield "20,000 x 5,000, a window of 60", crossing(rng, 20_000, 5_000, 60, 0.0)
    yield "random, 20,000 nodes of degree 4", random(rng, 20_000, 4)
    yield "random, 20,000 nodes of degree 20", random(rng, 20_000, 20)
    yield "random, 20,000 nodes of degree 100", random(rng, 20_000, 100)
    yield "random, 5,000 nodes of degree 100", random(rng, 5_000, 100)
    yield "a grid of 30 x 30 x 30", cube(rng, 30)


def ours(how: str) -> Finder:
    """One of the orders that are always at hand."""

    def prepare(lower: Graph) -> Callable[[], np.ndarray]:
        ptr, row = lower.indptr.astype(np.intp), lower.indices.astype(np.int32)
        ones = np.ones(len(ptr) - 1, np.int32)
        return lambda: _core.fill_reducing_order(how, ptr, row, ones)

    return prepare


def suitesparse(lower: Graph) -> Callable[[], np.ndarray]:
    """amd_order of libamd."""
    order_of = ctypes.CDLL(ctypes.util.find_library("amd")).amd_order
    n, order = lower.shape[0], np.empty(lower.shape[0], np.int32)
    ptr, row = lower.indptr.astype(np.int32), lower.indices.astype(np.int32)
    arrays = ptr, row, order

    def find() -> np.ndarray:
        if order_of(n, *(ctypes.c_void_p(a.ctypes.data) for a in arrays), None, None) < 0:
            raise RuntimeError(f"amd_order failed with {len(row)} entries")
        return order

    return find


def cholmod(how: str) -> Finder:
    """CHOLMOD's analysis by one method."""
    module = ordering._cholmod()

    def prepare(lower: Graph) -> Callable[[], np.ndarray]:
        if hasattr(module, "CholeskyFactor"):  # scikit-sparse 0.5
            options = {"lower": True, "order": how, "supernodal_mode": "simplicial"}
            return lambda: module.CholeskyFactor(lower, **options).get_perm()
        return lambda: module.analyze(lower, mode="simplicial", ordering_method=how).P()

    return prepare


def finders() -> dict[str, Finder]:
    """Those that are installed."""
    found: dict[str, Finder] = {"AMD": ours(_core.AMD), "RCM": ours(_core.RCM)}
    if ctypes.util.find_library("amd"):
        found["SuiteSparse AMD"] = suitesparse
    else:
        print("libamd is not installed: no limit for AMD")
    if ordering._cholmod() is not None:
        found |= {"CHOLMOD AMD": cholmod("amd"), "CHOLMOD METIS": cholmod("metis")}
    else:
        print("scikit-sparse is not installed: no METIS")
    return found


def measured(lower: Graph, finder: Finder) -> tuple[float, float]:
    """Milliseconds to find an order, and millions of multiplications with it."""
    find, least = finder(lower), np.inf
    for _ in range(5):
        began = time.process_time()
        order = find()
        least = min(least, time.process_time() - began)
    ptr, row = lower.indptr.astype(np.intp), lower.indices.astype(np.int32)
    return 1e3 * least, _core.factor_flops(ptr, row, order) / 1e6


def main() -> None:
    """The table."""
    found = finders()
    print("| graph | nodes, entries | " + " | ".join(found) + " |\n|---|---|" + "---|" * len(found))
    for title, lower in graphs():
        cells = [f"{lower.shape[0]:,}, {lower.nnz:,}"]
        for finder in found.values():
            spent, flops = measured(lower, finder)
            cells.append(f"{spent:.1f} ms, {flops:,.1f} M")
        print(f"| {title} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
