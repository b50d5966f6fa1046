"""Fill-reducing orders of sparse trailing matrices: how long they take and what they save.

    OPENBLAS_NUM_THREADS=1 python benchmarks/orders.py

For each design and each order alone: milliseconds to find it, and multiplications of an evaluation
in millions. CHOLMOD needs scikit-sparse (METIS where AMD fills in too much).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse
from scale_problems import pupils, workers_firms
from scipy.sparse.csgraph import reverse_cuthill_mckee

from lmmfast import _core
from lmmfast.data.arrays import design_of
from lmmfast.engine import ordering
from lmmfast.engine.compiled import Engine

Finder = Callable[[scipy.sparse.csc_matrix], np.ndarray]


def neighbours(rng: np.random.Generator, levels: int, others: int, far: float) -> list[np.ndarray]:
    """Four rows a level, at neighbouring levels of the other factor and at a few distant ones."""
    first = np.repeat(np.arange(levels), 4)
    second = first * others // levels + rng.integers(0, 4, len(first))
    distant = rng.random(len(first)) < far
    second[distant] = rng.integers(0, others, distant.sum())
    return [first, second % others]


def designs() -> Iterator[tuple[str, list[np.ndarray]]]:
    """Codes of the grouping factors."""
    rng = np.random.default_rng(1)
    workers = workers_firms()
    yield "100,000 workers, 10,000 firms", [workers["worker"], workers["firm"]]
    yield "15,000 x 6,000, 2 % distant", neighbours(rng, 15_000, 6_000, 0.02)
    yield "20,000 x 5,000, neighbours", neighbours(rng, 20_000, 5_000, 0.0)
    own = pupils()
    yield "pupils, schools, neighbourhoods", [own[k] for k in ("pupil", "school", "neighbourhood")]


FINDERS: dict[str, Finder] = {
    "minimum degree": ordering._minimum_degree,
    "reverse Cuthill-McKee": lambda S: reverse_cuthill_mckee((S + S.T).tocsr(), True),
    "CHOLMOD": ordering._by_cholmod,
}


def measured(codes: list[np.ndarray], name: str) -> tuple[float, float]:
    """Milliseconds to find an order, and millions of multiplications with it."""
    spent = [0.0]

    def order(ptr: np.ndarray, row: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        parts = np.ones(len(row)), row, ptr.astype(np.int32)
        lower = scipy.sparse.csc_matrix(parts, shape=(len(ptr) - 1,) * 2)
        began = time.perf_counter()
        found = FINDERS[name](lower)
        spent[0] = time.perf_counter() - began
        yield name, found

    n = len(codes[0])
    y = np.random.default_rng(2).normal(size=n)
    levels = [np.unique(c, return_inverse=True)[1] for c in codes]
    design = design_of(y, np.ones((n, 1)), [(c, None) for c in levels], None, None)
    engine = Engine(design, "dense", _core.plan)
    source = design.sums.source(design.fixed, engine._groups)
    report = _core.plan(*source, storage="sparse", order=order)
    return 1e3 * spent[0], report["flops"] / 1e6


def main() -> None:
    """The table."""
    names = [name for name in FINDERS if name != "CHOLMOD" or ordering._cholmod() is not None]
    print("| design | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for title, codes in designs():
        found = [measured(codes, name) for name in names]
        cells = [f"{spent:.0f} ms, {flops:,.0f} M" for spent, flops in found]
        print(f"| {title} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
