"""What rows cost: the parts of a call beside a bare pass over its columns, and beside package glmm.

    OPENBLAS_NUM_THREADS=1 RAYON_NUM_THREADS=1 python benchmarks/rows.py

Least CPU milliseconds of the design (formula, levels), of set-up (everything that is summed over
rows, and the model's memory), of minimizing, and of one pass over the columns that the model reads;
those of glmm's whole call, where it is installed. They alternate within one run, and objectives are
compared before times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import engines
from problems import PROBLEMS, Problem

from lmmfast import LMM
from lmmfast.api import design_from

NAMES = ("intercepts_125k", "slopes_125k", "nested_100k", "small_factors")
REPEATS = 15


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU time of a call, and what it gives."""
    began = time.process_time()
    given = call()
    return time.process_time() - began, given


def bare_pass(frame: Any) -> None:
    """Every number and every code of a level is added once."""
    for name in frame:
        own = frame[name]
        (own.cat.codes if own.dtype == "category" else own).to_numpy().sum()


def peer(problem: Problem, frame: Any) -> Callable[[], Any] | None:
    """A whole call of glmm; None where it is not installed."""
    try:
        return engines.glmm(problem, frame)
    except ImportError:
        return None


def measured(name: str) -> str:
    """A line of the table."""
    problem = PROBLEMS[name]
    frame = problem.load()
    theirs = peer(problem, frame)
    least: dict[str, float] = {}

    def timed(part: str, call: Callable[[], Any]) -> Any:
        took, given = seconds(call)
        least[part] = min(took, least.get(part, took))
        return given

    def whole() -> Any:
        design = timed("design", lambda: design_from(problem.formula, frame))
        model = timed("set-up", lambda: LMM(design))
        return timed("minimizing", lambda: model.fit(reml=problem.reml))

    for _ in range(REPEATS):
        fit = timed("call", whole)
        timed("bare", lambda: bare_pass(frame))
        if theirs is not None:
            objective, _ = timed("glmm", theirs)
            assert abs(objective - fit.objective) < 1e-4, (objective, fit.objective)
    parts = ("design", "set-up", "minimizing", "call", "bare", "glmm")
    shown = [f"{1e3 * least[part]:.1f}" if part in least else "" for part in parts]
    a_row = f"{1e9 * least['set-up'] / len(frame):.0f} ns"
    ratio = f"{least['glmm'] / least['call']:.2f}" if "glmm" in least else ""
    return f"| {name} | {len(frame):,} | {' | '.join(shown)} | {a_row} | {ratio} |"


def main() -> None:
    """The table."""
    titles = ("problem", "rows", "design", "set-up", "minimizing", "call", "bare pass", "glmm")
    titles += ("set-up a row", "glmm / call")
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for name in NAMES:
        print(measured(name), flush=True)


if __name__ == "__main__":
    main()
