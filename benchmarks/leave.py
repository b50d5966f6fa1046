"""Fits without each level: jackknife and cross-validation beside a loop of `lmer` calls.

    python benchmarks/leave.py [--levels N]

CPU seconds of one thread. The loop gets frames without a level and fits each from its own start;
objectives are compared before times.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import pandas as pd

from lmmfast import cross_validate, datasets, jackknife, lmer


def insteval_like() -> pd.DataFrame:
    """73,421 ratings of 1,128 lecturers in 14 departments by 2,972 students."""
    rng = np.random.default_rng(1)
    n = 73_421
    s, d = rng.permutation(np.arange(n) % 2972), rng.permutation(np.arange(n) % 1128)
    y = 3 + rng.normal(size=2972)[s] * 0.33 + rng.normal(size=1128)[d] * 0.5
    y += rng.normal(size=n) * 1.2
    return pd.DataFrame({"y": y, "s": s, "d": d, "dept": d % 14, "service": rng.integers(0, 2, n)})


FEW = "RTtrunc ~ S * P * C + (1 + P | subj) + (1 + P | item)"
MAXIMAL = "RTtrunc ~ S * P * C + (S * P * C | subj) + (S * P * C | item)"
PROBLEMS = {
    "sleepstudy": ("Reaction ~ Days + (Days | Subject)", "Subject"),
    "kb07, 2 slopes": (FEW, "subj"),
    "kb07, maximal": (MAXIMAL, "subj"),
    "insteval-like": ("y ~ service + (1 | s) + (1 | d) + (1 | dept)", "dept"),
}


def data_of(name: str) -> pd.DataFrame:
    return insteval_like() if name.startswith("inst") else datasets.load(name.split(",")[0])


def clocked(function):
    began = time.process_time()
    found = function()
    return found, time.process_time() - began


def row(name: str, most: int) -> str:
    formula, by = PROBLEMS[name]
    data = data_of(name)
    fit = lmer(formula, data, reml="maximal" not in name)
    levels = next(term.levels for term in fit.design.terms if term.group == by)
    some = levels[:most]
    loop, looped = clocked(
        lambda: [lmer(formula, data[data[by] != one], reml=fit.reml).objective for one in some]
    )
    found, left = clocked(lambda: jackknife(fit, by))
    excess = np.max(found.objective[: len(some)] - np.array(loop))
    _, validated = clocked(lambda: cross_validate(fit, by))
    each = looped / len(some), left / len(levels), validated / len(levels)
    cells = " | ".join(f"{1e3 * one:.2f}" for one in each)
    return f"| {name}, {len(levels)} levels of {by} | {cells} | {excess:.1e} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--levels", type=int, default=20, help="levels that the loop leaves out")
    most = parser.parse_args().levels
    warnings.simplefilter("ignore")
    print("| data | loop of lmer, ms a level | jackknife | cross_validate | objective above |")
    print("|---|---|---|---|---|")
    for name in PROBLEMS:
        print(row(name, most), flush=True)


if __name__ == "__main__":
    main()
