"""Small models in loops: whole calls beside the compiled fit of the same data, which is the limit.

    OPENBLAS_NUM_THREADS=1 python benchmarks/small.py

CPU milliseconds of one call, the least of many: `lmer`, `refit`, p-values of a fit that has none
yet, one row predicted with its error; and the loop of statsmodels' users, 1,000 data sets of 100
rows, each fitted with `mixedlm` and asked for one p-value (CPU seconds of the whole loop),
beside its limit: making the frames, and as many compiled fits of one of them.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd

from lmmfast import LMMFit, LmmWarning, datasets, lmer, mixedlm

ROUNDS = 200


def least(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """CPU milliseconds of a call."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return 1e3 * best


def designs() -> dict[str, tuple[str, pd.DataFrame]]:
    """Six small models."""
    rng = np.random.default_rng(1)

    def crossed(n: int, people: int, items: int) -> pd.DataFrame:
        d = pd.DataFrame({"s": rng.integers(0, people, n), "i": rng.integers(0, items, n)})
        d["x"] = rng.normal(size=n)
        effects = rng.normal(size=people)[d["s"]] + rng.normal(size=items)[d["i"]]
        slopes = 0.4 * (rng.normal(size=people)[d["s"]] + rng.normal(size=items)[d["i"]])
        return d.assign(y=effects + (1 + slopes) * d["x"] + rng.normal(size=n))

    days = datasets.load("sleepstudy")
    small, large = crossed(1200, 40, 30), crossed(8000, 800, 200)
    return {
        "sleepstudy, intercepts": ("Reaction ~ Days + (1 | Subject)", days),
        "sleepstudy, slopes": ("Reaction ~ Days + (Days | Subject)", days),
        "(1 | s) + (1 | i), 1,200 rows": ("y ~ x + (1 | s) + (1 | i)", small),
        "(x | s) + (1 | i), 1,200 rows": ("y ~ x + (x | s) + (1 | i)", small),
        "(x | s) + (x | i), 1,200 rows": ("y ~ x + (x | s) + (x | i)", small),
        "(1 | s) + (1 | i), 800 x 200": ("y ~ x + (1 | s) + (1 | i)", large),
    }


def line(name: str, formula: str, data: pd.DataFrame) -> str:
    """A line of the table."""
    fit = lmer(formula, data)
    row = data.iloc[[0]]
    calls = {
        "core": lambda: fit.model._core.fit(None),
        "lmer": lambda: lmer(formula, data),
        "refit": lambda: fit.refit(fit.design.y),
        "pvalues": lambda: LMMFit(fit.estimates, fit.design, fit.model).pvalues,
        "row": lambda: fit.predict(row, se=True),
    }
    _ = fit.predict(row, se=True)
    cells = " | ".join(f"{least(call):.2f}" for call in calls.values())
    return f"| {name} | {cells} |"


def loop(*, whole: bool) -> float:
    """Seconds of 1,000 data sets; not whole: the limit, their frames and as many compiled fits."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(20), 5)
    core = None
    began = time.process_time()
    for _ in range(1000):
        condition = rng.integers(0, 2, 100)
        y = rng.normal(size=20)[people] + 0.3 * condition + rng.normal(size=100)
        data = pd.DataFrame({"y": y, "subj": people, "cond": condition})
        if whole or core is None:
            result = mixedlm("y ~ cond", data, groups="subj").fit()
            core = result.lmm.model._core
        if whole:
            _ = result.pvalues["cond"]
        else:
            core.fit(None)
    return time.process_time() - began


def main() -> None:
    """The table, and the loop."""
    warnings.simplefilter("ignore", LmmWarning)
    print("| model | core's fit | lmer | refit | pvalues | a row with its error |")
    print("|---|---|---|---|---|---|")
    for name, (formula, data) in designs().items():
        print(line(name, formula, data), flush=True)
    whole, limit = (min(loop(whole=own) for _ in range(3)) for own in (True, False))
    print(f"1,000 data sets by mixedlm, one p-value each: {whole:.2f} s")
    print(f"their frames and the compiled fits alone, the limit: {limit:.2f} s")


if __name__ == "__main__":
    main()
