"""Animal models: inbreeding, the inverse of A, and whole fits; many traits of one genomic matrix.

    OPENBLAS_NUM_THREADS=1 python benchmarks/pedigree.py 2000 20000 100000
    OPENBLAS_NUM_THREADS=1 python benchmarks/pedigree.py --traits 2000 1000

Ten generations with one record an animal, h2 = 0.4, REML. "few sires": one sire to ten dams, a dam
has four progeny, as in livestock; "random": every animal of a generation may become a parent, two
progeny on average, the hardest pattern to factor. Processor seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from lmmfast import Pedigree, Relationship, fit_many, lmer

GENERATIONS = 10
T = TypeVar("T")


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """The result, and processor seconds."""
    began = time.process_time()
    found = call()
    return found, time.process_time() - began


def parents(n: int, few: bool, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, sires and dams, -1 for none; parents come first."""
    rng = np.random.default_rng(seed)
    size = n // GENERATIONS
    sire, dam = np.full(n, -1), np.full(n, -1)
    for first in range(size, n, size):
        own, before = slice(first, min(first + size, n)), first - size
        count = own.stop - own.start
        half = size // 2
        sires = rng.choice(half, max(half // 20, 2), replace=False) if few else np.arange(half)
        dams = rng.choice(half, half // 2, replace=False) if few else np.arange(half)
        sire[own] = before + 2 * rng.choice(sires, count)
        dam[own] = before + 2 * rng.choice(dams, count) + 1
    return np.arange(n), sire, dam


def records(pedigree: Pedigree, seed: int) -> pd.DataFrame:
    """One record an animal."""
    rng = np.random.default_rng(seed)
    F, n = np.append(pedigree.inbreeding, -1.0), len(pedigree)
    spread = np.sqrt(0.5 - (F[pedigree.sire] + F[pedigree.dam]) / 4) * rng.normal(size=n)
    a = np.zeros(n + 1)  # the last: unknown
    for i, (s, d) in enumerate(zip(pedigree.sire, pedigree.dam, strict=True)):
        a[i] = (a[s] + a[d]) / 2 + spread[i]
    sex = rng.integers(0, 2, n)
    y = 5 + 0.5 * sex + np.sqrt(0.4) * a[:n] + np.sqrt(0.6) * rng.normal(size=n)
    return pd.DataFrame({"y": y, "sex": sex, "animal": pedigree.levels})


def animals(n: int, few: bool) -> None:
    """One line: the parts of a fit."""
    label, sire, dam = parents(n, few, 1)
    known = [np.where(p < 0, -1, p).astype(object) for p in (sire, dam)]
    for p in known:
        p[p == -1] = None
    pedigree, made = timed(lambda: Pedigree(label, *known))
    _, inbred = timed(lambda: pedigree.inbreeding)
    data = records(pedigree, 2)
    given: dict[str, Any] = {"animal": pedigree}
    fit, took = timed(lambda: lmer("y ~ sex + (1 | animal)", data, relationship=given))
    stored = fit.model.storage
    print(
        f"{'few sires' if few else 'random':10s} {n:8d} animals: order {made:.2f}, inbreeding "
        f"{inbred:.2f}, fit {took:.2f} s, {fit.n_evals} evaluations, h2 "
        f"{fit.icc()['adjusted']['animal']:.3f}, {stored['bytes'] / 1e9:.2f} GB, converged "
        f"{fit.converged}",
        flush=True,
    )


def traits(n: int, count: int) -> None:
    """Many traits of one genomic matrix."""
    rng = np.random.default_rng(3)
    M = rng.binomial(2, 0.3, size=(n, 3 * n)) - 0.6
    G = M @ M.T / (3 * n * 0.42) + 0.01 * np.eye(n)
    L = np.linalg.cholesky(G)
    Y = L @ rng.normal(size=(n, count)) + rng.normal(size=(n, count))
    data = pd.DataFrame({"x": rng.normal(size=n), "g": np.arange(n)})
    given = {"g": Relationship(G)}
    first, one = timed(lambda: fit_many("~ x + (1 | g)", data, Y[:, :1], relationship=given))
    found, took = timed(lambda: fit_many("~ x + (1 | g)", data, Y, relationship=given))
    print(
        f"{n} levels, {count} traits: {took:.1f} s, {one:.1f} s of them before the first fit and "
        f"in it; all converged {found.converged.all()}, the first alike "
        f"{np.allclose(first.theta, found.theta[:1])}"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("animals", type=int, nargs="*")
    parser.add_argument("--traits", type=int, nargs=2)
    asked = parser.parse_args()
    for n in asked.animals:
        for few in (True, False):
            animals(n, few)
    if asked.traits:
        traits(*asked.traits)


if __name__ == "__main__":
    main()
