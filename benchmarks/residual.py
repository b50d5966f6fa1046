"""Residual structures: CPU seconds of whole calls on 100,000 rows, beside nlme's `lme`.

    OPENBLAS_NUM_THREADS=1 python benchmarks/residual.py [problem ...] [--lme]

2,000 subjects with 50 rows each. `--lme`: the same in R with nlme, where it is there, which takes
half a minute a problem.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmmfast import lmer

SUBJECTS, ROWS = 2000, 50
CALLS = 7
PROBLEMS: dict[str, tuple[str, dict[str, str], str]] = {
    "plain": ("strata ~ x + t + (t | g)", {}, "random = ~t | g"),
    "strata": (
        "strata ~ x + t + (t | g)",
        {"dispersion": "~ s"},
        "random = ~t | g, weights = varIdent(form = ~1 | s)",
    ),
    "exp": (
        "exponential ~ x + t + (1 | g)",
        {"dispersion": "exp(x)"},
        "random = ~1 | g, weights = varExp(form = ~x)",
    ),
    "ar1": (
        "ar1 ~ x + t + (1 | g)",
        {"residual": "ar1(t | g)"},
        "random = ~1 | g, correlation = corAR1(form = ~t | g)",
    ),
    "car1": (
        "ar1 ~ x + t + (1 | g)",
        {"residual": "car1(t | g)"},
        "random = ~1 | g, correlation = corCAR1(form = ~t | g)",
    ),
    "both": (
        "ar1 ~ x + t + (1 | g)",
        {"residual": "ar1(t | g)", "dispersion": "~ s"},
        "random = ~1 | g, correlation = corAR1(form = ~t | g), weights = varIdent(form = ~1 | s)",
    ),
}
LME = """
suppressMessages(library(nlme))
data <- read.csv("{path}")
took <- system.time(fit <- lme({formula}, data, {rest}))
cat(sprintf("%.3f %.6f", took[["user.self"]] + took[["sys.self"]], -2 * as.numeric(logLik(fit))))
"""


def table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    n = SUBJECTS * ROWS
    g, t = np.repeat(np.arange(SUBJECTS), ROWS), np.tile(np.arange(ROWS), SUBJECTS)
    s, x, e = rng.integers(0, 3, n), rng.normal(size=n), rng.normal(size=n)
    chain = e.reshape(SUBJECTS, ROWS).copy()
    for i in range(1, ROWS):
        chain[:, i] = 0.5 * chain[:, i - 1] + np.sqrt(0.75) * chain[:, i]
    mean = 1 + 0.5 * x + rng.normal(size=SUBJECTS)[g]
    slopes = 0.05 * t * rng.normal(size=SUBJECTS)[g]
    return pd.DataFrame(
        {
            "g": g,
            "t": t,
            "x": x,
            "s": np.array(["a", "b", "c"])[s],
            "strata": mean + slopes + e * np.array([1, 1.5, 0.7])[s],
            "exponential": mean + e * np.exp(0.2 * x),
            "ar1": mean + chain.ravel(),
        }
    )


def ours(formula: str, data: pd.DataFrame, how: dict[str, Any]) -> str:
    seconds = []
    for _ in range(CALLS):
        began = time.process_time()
        fit = lmer(formula, data, **how)
        seconds.append(time.process_time() - began)
    found = f"{np.median(seconds):7.3f} s  {fit.n_evals:2d} evaluations  {fit.objective:.4f}"
    return found if fit.converged else f"{found} ({fit.estimates.status})"


def lme(formula: str, path: Path, rest: str) -> str:
    fixed = formula[: formula.index(" + (")]
    script = LME.format(path=path, formula=fixed, rest=rest)
    done = subprocess.run(["Rscript", "-e", script], capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    seconds, objective = done.stdout.split()
    return f"{float(seconds):7.1f} s  {float(objective):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problem", nargs="*", default=list(PROBLEMS))
    parser.add_argument("--lme", action="store_true")
    asked = parser.parse_args()
    data = table()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        if asked.lme and shutil.which("Rscript"):
            data.to_csv(path, index=False)
        for name in asked.problem:
            formula, how, rest = PROBLEMS[name]
            print(f"{name:8s} lmmfast {ours(formula, data, how)}", flush=True)
            if path.exists():
                print(f"{'':8s} lme     {lme(formula, path, rest)}", flush=True)


if __name__ == "__main__":
    main()
