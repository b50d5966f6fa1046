"""One full evaluation (criterion, gradient, curvature) beside the two LAPACK calls that bound it.

    OPENBLAS_NUM_THREADS=1 python benchmarks/evaluation.py

For models with a dense trailing matrix: median milliseconds of an evaluation, of dpotrf + dpotri of
that order, and their ratio; for sleepstudy the parts of a call. Times alternate within one run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from problems import PROBLEMS
from scipy.linalg.lapack import dpotrf, dpotri

from lmmfast import LMM
from lmmfast.data.design import build


def seconds(call: Callable[[], object]) -> float:
    """Time of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def lapack(order: int) -> Callable[[], object]:
    """Cholesky factor and inverse of a positive definite matrix of this order."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(order, order))
    S = np.asfortranarray(X @ X.T + order * np.eye(order))
    return lambda: dpotri(dpotrf(S, lower=1, overwrite_a=0, clean=0)[0], lower=1, overwrite_c=1)


def trailing(name: str, repeats: int) -> str:
    """A line of the table for one problem."""
    problem = PROBLEMS[name]
    model = LMM(build(problem.formula, problem.load()))
    theta = model.fit(reml=problem.reml).theta
    order = int(model.storage["order"])
    bare = lapack(order)

    def evaluate() -> object:
        return model.objective(theta, reml=problem.reml, gradient=True, hessian=True)

    pairs = [(seconds(evaluate), seconds(bare)) for _ in range(repeats)]
    ours, theirs = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return f"| {name} | {order} | {ours:.1f} | {theirs:.1f} | {ratio:.2f} |"


def small() -> str:
    """The parts of a warm sleepstudy call, microseconds."""
    problem = PROBLEMS["sleepstudy"]
    frame = problem.load()
    design = build(problem.formula, frame)
    model = LMM(design)
    fit = model.fit()
    core, y = model._core, design.y.copy()
    parts = {
        "design": lambda: build(problem.formula, frame),
        "cross-products": lambda: LMM(design),
        "minimizer (core)": lambda: core.fit(None),
        "fit": model.fit,
        "refit(y)": lambda: fit.refit(y),
    }
    times = {
        name: 1e6 * statistics.median(seconds(call) for _ in range(500))
        for name, call in parts.items()
    }
    return ", ".join(f"{name} {value:.0f}" for name, value in times.items())


if __name__ == "__main__":
    print("sleepstudy, microseconds:", small())
    print(
        "| problem | order | evaluation, ms | dpotrf + dpotri, ms | ratio |\n|---|---|---|---|---|"
    )
    for name, repeats in (
        ("insteval3", 15),
        ("megastudy_100k", 25),
        ("megastudy_1m", 5),
        ("ratings_1m", 5),
    ):
        print(trailing(name, repeats), flush=True)
