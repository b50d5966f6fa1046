"""What an installed lmmfast must be able to do: fits with the criteria that lme4 prints.

python tools/smoke.py
"""

from __future__ import annotations

import platform
import time
from importlib import metadata

import numpy as np

import lmmfast
from lmmfast import datasets, glmer, lmer

REML = {  # Bates, Mächler, Bolker & Walker (2015), and the pages of lme4's data sets
    "sleepstudy": ("Reaction ~ Days + (Days | Subject)", 1743.6283),
    "Dyestuff": ("Yield ~ 1 + (1 | Batch)", 319.6543),
    "Penicillin": ("diameter ~ 1 + (1 | plate) + (1 | sample)", 330.8606),
    "Pastes": ("strength ~ 1 + (1 | batch / cask)", 246.9907),
}


def check_criteria() -> None:
    """Linear models, with their tests and predictions."""
    for name, (formula, criterion) in REML.items():
        fit = lmer(formula, datasets.load(name))
        if abs(fit.objective - criterion) > 6e-5:
            raise SystemExit(f"{name}: {fit.objective}, where lme4 has {criterion}")
        fit.summary()
        fit.conf_int(method="profile")


def check_threads() -> None:
    """A large model: the same whatever the number of threads."""
    data = datasets.load("kb07")
    formula = "RTtrunc ~ S * P * C + (S * P * C | subj) + (S * P * C | item)"
    one, two = (lmer(formula, data, reml=False, threads=n) for n in (1, 2))
    if one.objective != two.objective or not one.converged:
        raise SystemExit(f"kb07: {one.objective} by one thread, {two.objective} by two")


def check_generalized() -> None:
    """A generalized model, by callbacks and families."""
    data = datasets.load("sleepstudy")
    data["slow"] = np.where(data["Reaction"] > 300, 1.0, 0.0)
    fit = glmer("slow ~ Days + (1 | Subject)", data, "binomial")
    if not fit.converged:
        raise SystemExit("a generalized model did not converge")


def main() -> None:
    """All of it, with the time it took."""
    begin = time.perf_counter()
    installed = metadata.version("lmmfast")
    if lmmfast.__version__ != installed:
        raise SystemExit(f"lmmfast says {lmmfast.__version__}, its metadata {installed}")
    check_criteria()
    check_threads()
    check_generalized()
    seconds = time.perf_counter() - begin
    print(f"lmmfast {installed}, Python {platform.python_version()}: works ({seconds:.1f} s)")


if __name__ == "__main__":
    main()
