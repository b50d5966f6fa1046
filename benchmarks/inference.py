"""Degrees of freedom beside lmerTest and pbkrtest, one thread, the same run and the same theta.

    OPENBLAS_NUM_THREADS=1 python benchmarks/inference.py                # everything
    OPENBLAS_NUM_THREADS=1 python benchmarks/inference.py kr_kb07 --limit 600

Timed is the inference alone, the fit being at hand: the whole coefficient table or type III table.
Numbers are compared first: the largest relative difference in degrees of freedom is shown.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from problems import PROBLEMS

import lmmfast
from lmmfast import LMMFit, datasets, lmer

HERE = Path(__file__).resolve().parent
KB07 = "RTtrunc ~ S * P * C + (S * P * C | subj) + (S * P * C | item)"


@dataclass(frozen=True)
class Task:
    """A model and what is asked of it."""

    load: Callable[[], pd.DataFrame]
    formula: str
    method: str  # as inference.R names it
    peer: bool = True


def crossed(subjects: int, items: int, seed: int = 1) -> pd.DataFrame:
    """Every subject meets every item; a condition within both, and slopes."""
    rng = np.random.default_rng(seed)
    subj, item = np.divmod(np.arange(subjects * items), items)
    c = np.where((subj + item) % 2 == 0, -0.5, 0.5)
    b, d = rng.normal(size=(subjects, 2)) * [1, 0.4], rng.normal(size=(items, 2)) * [0.6, 0.3]
    y = b[subj, 0] + d[item, 0] + (0.3 + b[subj, 1] + d[item, 1]) * c + rng.normal(size=len(c))
    kept = rng.random(len(c)) < 0.98
    return pd.DataFrame({"subj": subj, "item": item, "c": c, "y": y})[kept]


SLOPES = "y ~ c + (1 + c | subj) + (1 + c | item)"
TASKS = {
    "satterthwaite_kb07_max": Task(lambda: datasets.load("kb07"), KB07, "summary-satterthwaite"),
    "kr_kb07": Task(
        lambda: datasets.load("kb07"),
        "RTtrunc ~ S * P * C + (1 + P | subj) + (1 + P | item)",
        "summary-kr",
    ),
    "kr_kb07_max": Task(lambda: datasets.load("kb07"), KB07, "summary-kr", peer=False),
    "kr_45000": Task(lambda: crossed(287, 160), SLOPES, "summary-kr", peer=False),
    "kr_1000000": Task(lambda: crossed(10_000, 102), SLOPES, "summary-kr", peer=False),
    "anova3_insteval": Task(
        lambda: PROBLEMS["insteval2"].load(), "y ~ service * dept + (1 | s) + (1 | d)", "anova3"
    ),
}


def ours(fit: LMMFit, method: str) -> np.ndarray:
    """Denominator degrees of freedom of the whole table, computed anew."""
    fresh = replace(fit)
    if method == "anova3":
        return lmmfast.anova(fresh).table["DenDF"].to_numpy()
    ddf = "kenward-roger" if method == "summary-kr" else "satterthwaite"
    return fresh.coef_test(ddf=ddf).df_denom


def theirs(task: Task, data: pd.DataFrame, fit: LMMFit, limit: float) -> tuple[float, np.ndarray]:
    """Seconds and degrees of freedom in R; infinite seconds when it takes longer than the limit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.csv"
        data.to_csv(path, index=False)
        theta = ",".join(f"{value:.17g}" for value in fit.theta)
        command = [
            "Rscript",
            str(HERE / "inference.R"),
            str(path),
            task.formula,
            theta,
            task.method,
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=limit, check=True
            )
        except subprocess.TimeoutExpired:
            return np.inf, np.empty(0)
    lines = done.stdout.split("\n")
    seconds = float(next(line for line in lines if line.startswith("seconds")).split()[1])
    table = pd.read_csv(io.StringIO("\n".join(lines[2:])))
    column = "DenDF" if task.method == "anova3" else "df"
    return seconds, table[column].to_numpy()


def line(name: str, limit: float) -> str:
    """One row of the table."""
    task = TASKS[name]
    data = task.load()
    began = time.perf_counter()
    fit = lmer(task.formula, data)
    fitted = time.perf_counter() - began
    times = []
    while not times or (sum(times) < 2 and len(times) < 7):
        began = time.perf_counter()
        df = ours(fit, task.method)
        times.append(time.perf_counter() - began)
    own = statistics.median(times)
    peer, difference, ratio = "", "", ""
    if task.peer:
        seconds, found = theirs(task, data, fit, limit)
        peer = f"{seconds:.3g} s" if np.isfinite(seconds) else f"> {limit:.0f} s"
        ratio = f"{min(seconds, limit) / own:.0f}"
        if len(found) == len(df):
            difference = f"{np.max(np.abs(found / df - 1)):.1e}"
    cells = [name, str(fit.nobs), f"{fitted:.3g} s", f"{own:.3g} s", peer, ratio, difference]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", default=list(TASKS), help="names; default: all")
    parser.add_argument("--limit", type=float, default=3600, help="seconds for one call of R")
    asked = parser.parse_args()
    print("| task | rows | our fit | our table | R's table | R / ours | df differ by |")
    print("|---|---|---|---|---|---|---|")
    for name in asked.tasks:
        print(line(name, asked.limit), flush=True)


if __name__ == "__main__":
    main()
