"""Simulated likelihood ratios beside what they cannot do without, and beside R's.

    OPENBLAS_NUM_THREADS=1 python benchmarks/ratios.py

`pb_test` beside drawing and fitting alone (`fit.simulate`, two `fit_many`); `rlr_test` beside the
random numbers, the matrix product of its grid and the eigenvalues. R (pbkrtest, RLRsim) where it is
installed. CPU seconds.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from lmmfast import datasets, lmer, pb_test, rlr_test

N, DRAWS, ROUNDS, R_FITS = 1000, 10_000, 3, 50
PAIRS = {
    "sleepstudy": ("Reaction ~ 1 + (Days | Subject)", "Reaction ~ Days + (Days | Subject)"),
    "kb07": (
        "RTtrunc ~ S + P + (1 | subj) + (1 | item)",
        "RTtrunc ~ S * P + (1 | subj) + (1 | item)",
    ),
}
LEVELS = {"18 levels, balanced": 18, "500 levels, slopes": 500, "3,000 levels, slopes": 3000}


def best(call: Callable[[], object]) -> float:
    """CPU seconds, the least of some."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return min(found)


def by_r(data: pd.DataFrame, *args: str, n: int) -> str:
    """Seconds that R takes."""
    if shutil.which("Rscript") is None:
        return "no R"
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/data.csv"
        data.to_csv(path, index=False)
        script = Path(__file__).with_name("ratios.R")
        command = ["Rscript", str(script), *args, path, str(n)]
        run = subprocess.run(command, capture_output=True, text=True)
    return run.stdout if run.returncode == 0 else "failed"


def pair(name: str) -> str:
    """A line of the first table."""
    data = datasets.load(name)
    small, large = PAIRS[name]
    fit0, fit1 = lmer(small, data, reml=False), lmer(large, data, reml=False)
    test = best(lambda: pb_test(fit0, fit1, n=N, seed=1))

    def alone() -> None:
        Y = fit0.simulate(N, seed=1).to_numpy()
        for fit in (fit0, fit1):
            fit.model.fit_many(Y, reml=False, ddf="z")

    r = by_r(data, "pb", large, small, n=R_FITS)
    r = f"{float(r) * N / R_FITS:.0f} s (of {R_FITS})" if r[:1].isdigit() else r
    return f"| {name} | {test:.2f} s | {best(alone):.2f} s | {r} |"


def spectrum(name: str) -> str:
    """A line of the second table."""
    m = LEVELS[name]
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(m), 10)
    data = pd.DataFrame({"g": g, "x": rng.normal(size=10 * m)})
    effects = 0.5 * rng.normal(size=m)[g] * (data["x"] if "slopes" in name else 1.0)
    data["y"] = rng.normal(size=10 * m) + effects  # RLRsim draws nothing for a ratio of zero
    formula = "y ~ x + (0 + x | g)" if "slopes" in name else "y ~ x + (1 | g)"
    test = best(lambda: rlr_test(lmer(formula, data), n=DRAWS, seed=1))
    K = m if "slopes" in name else 2  # distinct eigenvalues

    def alone() -> None:
        parts = max(1, DRAWS * K // 2_000_000)
        for _ in range(parts):
            rng.standard_normal((DRAWS // parts, K)) ** 2 @ np.ones((K, 160))
        if K > 2:
            np.linalg.eigvalsh(np.eye(K) + 1e-3)

    r = by_r(data, "rlr", formula, n=DRAWS) if m <= 500 else "not tried"
    r = f"{float(r):.2f} s" if r[:1].isdigit() else r
    return f"| {name} | {test:.2f} s | {best(alone):.2f} s | {r} |"


if __name__ == "__main__":
    print("| 1,000 ratios | pb_test | drawn and fitted alone | pbkrtest |\n|---|---|---|---|")
    for name in PAIRS:
        print(pair(name), flush=True)
    print("\n| 10,000 ratios | rlr_test | random numbers, product, eigenvalues | RLRsim |")
    print("|---|---|---|---|")
    for name in LEVELS:
        print(spectrum(name), flush=True)
