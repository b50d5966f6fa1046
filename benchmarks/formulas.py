"""Times of the formula language: reading new formulas, known ones, strange ones; whole calls.

    python benchmarks/formulas.py [COUNT]

COUNT strange formulas (default 20,000) are read and evaluated by the generator of
`tests/test_formula_language.py`; the slowest of them is shown.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from test_formula_language import strange

from lmmfast import LmmError, datasets, lmer
from lmmfast.data.columns import Table
from lmmfast.data.encode import value_of
from lmmfast.formula.expressions import Memory
from lmmfast.formula.plan import plan_of, without_dot

SLEEP = "Reaction ~ Days + (Days | Subject)"
NEW = "Reaction ~ Days + I(Days^2 + {}) + poly(Days, 3) + (Days | Subject) + (1 | Days)"


def milliseconds(call: Callable[[int], object], count: int) -> str:
    times = []
    for i in range(count):
        began = time.perf_counter()
        call(i)
        times.append(1e3 * (time.perf_counter() - began))
    return f"median {statistics.median(times):.3f} ms, fastest {min(times):.3f} ms ({count} times)"


def strange_formulas(count: int) -> None:
    """Reads and evaluates strange formulas."""
    rng, rows = random.Random(1), np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "y": rows.normal(size=60),
            "x": rows.normal(size=60),
            "z": rows.uniform(1, 9, 60),
            "f": np.tile(list("abc"), 20),
            "g": np.repeat(list("uvwxyz"), 10),
        }
    )
    columns = {name: Table(frame).column(name) for name in frame}
    worst, began, read = (0.0, ""), time.perf_counter(), 0
    for _ in range(count):
        text = strange(rng)
        at = time.perf_counter()
        try:
            plan = plan_of(without_dot(text, lambda: frame.columns))
            read += 1
            for atom in plan.everything:
                if not atom.is_name:
                    value_of(atom, columns, Memory(), len(frame))
        except LmmError:
            pass
        worst = max(worst, (time.perf_counter() - at, text))
    total = time.perf_counter() - began
    print(f"strange formulas: {count} in {total:.1f} s, {read} could be read;")
    print(f"  slowest {1e3 * worst[0]:.1f} ms: {worst[1]!r}")


def main() -> None:
    data = datasets.load("sleepstudy")
    lmer(SLEEP, data)
    warnings.simplefilter("ignore")
    import scipy.interpolate
    import scipy.stats  # noqa: F401  # imported by the first spline otherwise

    print("known formula, whole call:", milliseconds(lambda _: lmer(SLEEP, data), 1000))
    print("new formula, read:", milliseconds(lambda i: plan_of(NEW.format(i)), 500))
    print("new formula, whole call:", milliseconds(lambda i: lmer(NEW.format(-i), data), 50))
    strange_formulas(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)


if __name__ == "__main__":
    main()
