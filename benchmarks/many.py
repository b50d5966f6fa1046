"""Bootstraps and many responses: CPU seconds of whole calls, beside other packages.

    OPENBLAS_NUM_THREADS=1 python benchmarks/many.py [problem ...] [--peers] [--threads]

Each problem is a share of what its name says, times what is left out; simulation and everything
around the fits are in it. `--peers`: lme-python's and mixedlm's bootstrap of sleepstudy and lme4's
`bootMer`, where they are there. `--threads`: wall time with one and with two threads.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

import lmmfast
from lmmfast import LMMFit, datasets, fit_many, lmer

KB07 = "S + P + C + SP + SC + PC + SPC"
SLEEP = "Reaction ~ Days + (Days | Subject)"
LME4 = """
suppressMessages(library(lme4))
fit <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy)
took <- system.time(suppressMessages(suppressWarnings(bootMer(fit, fixef, nsim = 100))))
cat(took[["user.self"]])
"""


def sleepstudy() -> LMMFit:
    return lmer(SLEEP, datasets.load("sleepstudy"))


def kb07() -> LMMFit:
    formula = f"RTtrunc ~ {KB07} + ({KB07} | subj) + ({KB07} | item)"
    return lmer(formula, datasets.load("kb07"))


def crossed(subjects: int, items: int) -> pd.DataFrame:
    """Subjects by items, a condition within both."""
    subj, item = (grid.ravel() for grid in np.mgrid[:subjects, :items])
    return pd.DataFrame({"subj": subj, "item": item, "x": np.where((subj + item) % 2, 0.5, -0.5)})


def slopes(count: int, threads: int = 1) -> object:
    data = crossed(56, 32)
    assumed = {"beta": [0, 0.1], "sd": {"subj": [1, 0.5], "item": [1, 0.4]}, "sigma": 2}
    formula = "~ x + (1 + x | subj) + (1 + x | item)"
    Y = lmmfast.simulate(formula, data, assumed, count, seed=1)
    return fit_many(formula, data, Y, threads=threads)


def genes(count: int, threads: int = 1) -> object:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"a": rng.integers(0, 30, 300), "b": rng.integers(0, 10, 300)})
    data["x"] = rng.normal(size=300)
    assumed = {"beta": [0, 0.1], "sd": {"a": 1, "b": 1}, "sigma": 1}
    Y = lmmfast.simulate("~ x + (1 | a) + (1 | b)", data, assumed, count, seed=1)
    return fit_many("~ x + (1 | a) + (1 | b)", data, Y, threads=threads)


# name: (what is measured, share of the whole)
PROBLEMS: dict[str, tuple[Callable[[int], object], int, int]] = {
    "10,000 bootstrap replicates of sleepstudy": (
        lambda threads: sleepstudy().bootstrap(10_000, seed=1, threads=threads),
        10_000,
        10_000,
    ),
    "1,000 bootstrap replicates of maximal kb07, 72 parameters": (
        lambda threads: kb07().bootstrap(60, seed=1, threads=threads),
        60,
        1_000,
    ),
    "10,000 responses, 56 x 32, slopes of both, p-values": (
        lambda threads: slopes(400, threads),
        400,
        10_000,
    ),
    "20,000 genes, 300 rows, crossed, p-values": (
        lambda threads: genes(4_000, threads),
        4_000,
        20_000,
    ),
}


def peers() -> dict[str, float]:
    """CPU seconds of 10,000 bootstrap replicates of sleepstudy elsewhere."""
    found = {}
    data = datasets.load("sleepstudy").astype({"Subject": str})
    try:
        import lme_python
        import polars as pl

        frame = pl.from_pandas(data)
        fit = lme_python.lmer(SLEEP, frame)
        began = time.process_time()
        fit.boot(SLEEP, frame, 500, n_jobs=1)
        found["lme-python"] = (time.process_time() - began) * 20
    except ImportError:
        pass
    try:
        import mixedlm

        fit = mixedlm.lmer(SLEEP, data)
        began = time.process_time()
        mixedlm.bootMer(fit, nsim=30, seed=1)
        found["mixedlm"] = (time.process_time() - began) * 10_000 / 30
    except ImportError:
        pass
    if shutil.which("Rscript"):
        done = subprocess.run(["Rscript", "-e", LME4], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            found["lme4"] = float(done.stdout) * 100
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("problems", nargs="*")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--threads", action="store_true")
    given = parser.parse_args()
    chosen = {
        name: own
        for name, own in PROBLEMS.items()
        if not given.problems or any(part in name for part in given.problems)
    }
    for call, _, _ in list(PROBLEMS.values())[:1]:
        call(1)  # imports
    for name, (call, some, every) in chosen.items():
        took = []
        for _ in range(3):
            began = time.process_time()
            call(1)
            took.append(time.process_time() - began)
        print(f"{name}: {min(took) * every / some:.2f} s ({some:,} took {min(took):.2f})")
        if given.threads:
            walls = {1: [], 2: []}
            for _ in range(3):
                for threads, wall in walls.items():
                    began = time.perf_counter()
                    call(threads)
                    wall.append(time.perf_counter() - began)
            print(f"  two threads: {min(walls[1]) / min(walls[2]):.2f} times as fast as one")
    if given.peers:
        for name, took in peers().items():
            print(f"10,000 bootstrap replicates of sleepstudy, {name}: {took:.1f} s")


if __name__ == "__main__":
    main()
