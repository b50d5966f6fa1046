"""Whole fits with wide fixed effects beside the dsyrk and the dpotrf of a matrix of that width.

    OPENBLAS_NUM_THREADS=1 python benchmarks/wide.py

20,000 rows, 100 groups: a factor of so many levels beside a number, the same with a slope for each
level, and numeric columns alone. Processor seconds; calls and limit alternate within one run, and
the least of three counts: other processes on the machine only add.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

import numpy as np
from problems import wide
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dpotrf

from lmmfast import LMM, lmer

ROWS = 20_000


def seconds(call: Callable[[], object]) -> float:
    """Processor time of one call."""
    began = time.process_time()
    call()
    return time.process_time() - began


def limit(columns: int) -> Callable[[], object]:
    """X'X of a dense matrix of this width, and its Cholesky factor."""
    X = np.asfortranarray(np.random.default_rng(1).normal(size=(ROWS, columns)))
    return lambda: dpotrf(dsyrk(1.0, X, trans=1, lower=1), lower=1)


def numeric(columns: int) -> Callable[[], object]:
    """A fit of numeric columns."""
    rng = np.random.default_rng(2)
    X = np.column_stack([np.ones(ROWS), rng.normal(size=(ROWS, columns - 1))])
    X, g = np.asfortranarray(X), rng.integers(0, 100, ROWS)
    y = X @ rng.normal(0, 0.1, columns) + rng.normal(size=100)[g] + rng.normal(size=ROWS)
    return lambda: LMM.from_arrays(y, X, [(g, None)]).fit()


def coded(formula: str, levels: int) -> Callable[[], object]:
    """A fit of a formula with a factor of so many levels."""
    data = wide(levels)
    return lambda: lmer(formula, data)


def line(name: str, columns: int, call: Callable[[], object]) -> str:
    """A line of the table."""
    bare = limit(columns)
    ours, theirs = (
        min(t) for t in zip(*((seconds(call), seconds(bare)) for _ in range(3)), strict=True)
    )
    return f"| {name} | {columns} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |"


if __name__ == "__main__":
    lmer("y ~ x + (1 | g)", wide(500))
    print("| model | columns | fit, s | dsyrk + dpotrf, s | ratio |\n|---|---|---|---|---|")
    for levels in map(int, sys.argv[1:] or ("500", "1000", "2000")):
        print(line("f + x", levels + 1, coded("y ~ f + x + (1 | g)", levels)), flush=True)
        print(line("f * x", 2 * levels, coded("y ~ f * x + (1 | g)", levels)), flush=True)
        print(line("numbers", levels, numeric(levels)), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"peak {peak:.0f} MB, the limit's dense matrices included")
