"""Cluster-based permutation tests beside the compiled fits that they are made of, the limit.

    OPENBLAS_NUM_THREADS=1 python benchmarks/clusters.py

56 subjects x 32 items, a condition within both, 100 points: fits a second of 20 permutations, of
`fit_many` with as many columns on one design, and of a loop of `lmer` over some of these points.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from lmmfast import cluster_test, fit_many, lmer

POINTS, PERMUTATIONS, LOOP, ROUNDS = 100, 20, 30, 3
MODELS = {
    "(1 | subj) + (1 | item)": 0.0,
    "(x | subj) + (1 | item)": 0.5,
    "(x | subj) + (x | item)": 0.5,
}


def trials(slopes: float) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows, and responses at every point."""
    rng = np.random.default_rng(0)
    subj, item = (grid.ravel() for grid in np.mgrid[:56, :32])
    data = pd.DataFrame({"subj": subj, "item": item, "x": np.where((subj + item) % 2, 0.5, -0.5)})
    x = data["x"].to_numpy()[:, None]
    Y = rng.normal(size=(56 * 32, POINTS))
    for codes, levels in ((subj, 56), (item, 32)):
        Y += rng.normal(size=(levels, POINTS))[codes]
        Y += slopes * rng.normal(size=(levels, POINTS))[codes] * x
    return data, Y


def best(call: Callable[[], object]) -> float:
    """CPU seconds, the least of some."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return min(found)


def line(bars: str, slopes: float) -> str:
    """A line of the table: fits a second."""
    data, Y = trials(slopes)
    formula = f"~ x + {bars}"
    fits = (PERMUTATIONS + 1) * POINTS
    how = {"test": "x", "n": PERMUTATIONS, "seed": 1}
    test = best(lambda: cluster_test(formula, data, Y, **how))
    many = best(lambda: fit_many(formula, data, Y, contrasts="x", ddf="z"))
    loop = best(lambda: [lmer(f"y {formula}", data.assign(y=y)) for y in Y.T[:LOOP]])
    return f"| `{bars}` | {fits / test:,.0f} | {POINTS / many:,.0f} | {LOOP / loop:,.0f} |"


if __name__ == "__main__":
    print("| model | cluster_test | limit: fit_many | lmer in a loop |\n|---|---|---|---|")
    for bars, slopes in MODELS.items():
        print(line(bars, slopes), flush=True)
