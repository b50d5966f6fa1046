"""Models for repeated measures: whole calls and their parts, beside nlme's gls and glmmTMB.

    OPENBLAS_NUM_THREADS=1 python benchmarks/mmrm.py [--peers]

CPU seconds, the least of several calls: the design (formula and data), the sums by pattern of
visits, the fit alone, the whole call, and all tests with Kenward and Roger's degrees of freedom.
`--peers` runs R once for the first: elapsed seconds and how far the criterion is above.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from lmmfast import MMRM, mmrm
from lmmfast.data.visits import build_repeated

DATA = Path(__file__).parent.parent / "tests" / "reference" / "mmrm"
PEERS = """
options(warn = -1)
d <- read.csv("{path}"); d$v <- factor(d$visit); d$id <- factor(d$id)
d <- d[order(d$id, d$v), ]; d$t <- as.integer(d$v)
for (engine in c("gls", "glmmTMB")) {{
  if (!requireNamespace(if (engine == "gls") "nlme" else engine, quietly = TRUE)) next
  time <- system.time(fit <- try(silent = TRUE, if (engine == "gls") nlme::gls({fixed}, d,
    correlation = nlme::corSymm(form = ~ t | id), weights = nlme::varIdent(form = ~ 1 | v)) else
    glmmTMB::glmmTMB(update({fixed}, . ~ . + us(0 + v | id)), d, REML = TRUE, dispformula = ~ 0)))
  value <- if (inherits(fit, "try-error")) NA else -2 * as.numeric(logLik(fit))
  cat(engine, time[["elapsed"]], format(value, digits = 12), "\\n")
}}
"""


def simulated(subjects: int, visits: int, covariates: int, monotone: bool) -> pd.DataFrame:
    """Subjects in two arms with visits missing, from one on for good, or now and then."""
    rng = np.random.default_rng(1)
    one = np.arange(subjects)
    data = pd.DataFrame(
        {"id": np.repeat(one, visits), "visit": np.tile(np.arange(visits), subjects)}
    )
    data["arm"] = np.where(data["id"] % 2, "drug", "placebo")
    L = np.tril(rng.normal(size=(visits, visits))) / 2 + 2 * np.eye(visits)
    data["y"] = (rng.normal(size=(subjects, visits)) @ L.T).ravel() + data["visit"]
    for j in range(covariates):
        data[f"x{j}"] = rng.normal(size=subjects)[data["id"]]
    last = rng.geometric(0.03, subjects)[data["id"]]
    there = data["visit"] < last if monotone else rng.random(len(data)) > 0.03 * data["visit"]
    return data[there].reset_index(drop=True)


def problems() -> dict[str, tuple[pd.DataFrame, str, str]]:
    """Rows, fixed part and covariance term; columns are named id and visit."""
    fev, bcva = (pd.read_csv(DATA / f"{name}.csv.gz") for name in ("fev", "bcva"))
    names = {"USUBJID": "id", "AVISIT": "visit"}
    fev = fev.rename(columns=names).dropna(subset=["FEV1"])
    bcva = bcva.rename(columns=names).dropna(subset=["BCVA_CHG"])
    wide = "y ~ factor(visit) * arm + " + " + ".join(f"x{j}" for j in range(10))
    return {
        "fev, 200 x 4": (fev, "FEV1 ~ RACE + SEX + ARMCD * visit", "us(visit | id)"),
        "bcva, 1,000 x 10": (bcva, "BCVA_CHG ~ BCVA_BL + RACE + ARMCD * visit", "us(visit | id)"),
        "10,000 x 10, monotone": (simulated(10_000, 10, 10, True), wide, "us(visit | id)"),
        "10,000 x 10, intermittent": (simulated(10_000, 10, 10, False), wide, "us(visit | id)"),
        "10,000 x 10, ar1h": (simulated(10_000, 10, 10, False), wide, "ar1h(visit | id)"),
    }


def least(call: Callable[[], object], rounds: int) -> float:
    """CPU seconds of a call."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return best


def tests(formula: str, data: pd.DataFrame, rounds: int) -> float:
    """CPU seconds of all tests of a new fit."""
    best = float("inf")
    for _ in range(rounds):
        fit = mmrm(formula, data)
        best = min(best, least(fit.coef_test, 1))
    return best


def peers(data: pd.DataFrame, fixed: str, criterion: float) -> None:
    """R's packages once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        data.to_csv(path, index=False)
        script = PEERS.format(path=path, fixed=fixed)
        found = subprocess.run(
            ["Rscript", "-e", script], capture_output=True, text=True, check=False
        )
        for line in found.stdout.splitlines():
            engine, seconds, value = line.split()
            print(f"    {engine}: {seconds} s, criterion {float(value) - criterion:+.2g}")


def main() -> None:
    """Prints a line a problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true")
    asked = parser.parse_args()
    for k, (name, (data, fixed, term)) in enumerate(problems().items()):
        formula, rounds = f"{fixed} + {term}", 20 if len(data) < 1000 else 5
        design = build_repeated(formula, data)
        model = MMRM(design)
        fit = mmrm(formula, data)
        seconds = {
            "design": least(lambda f=formula, d=data: build_repeated(f, d), rounds),
            "sums": least(lambda own=design: MMRM(own), rounds),
            "fit": least(model.fit, rounds),
            "call": least(lambda f=formula, d=data: mmrm(f, d), rounds),
            "tests": tests(formula, data, rounds),
        }
        shown = ", ".join(f"{part} {1e3 * value:.1f} ms" for part, value in seconds.items())
        patterns = len(model.patterns)
        print(f"{name} ({fit.nobs} rows, {patterns} patterns): {fit.n_evals} evaluations; {shown}")
        if asked.peers and k < 1:
            peers(data, fixed, fit.objective)


if __name__ == "__main__":
    main()
