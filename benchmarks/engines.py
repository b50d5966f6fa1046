"""One small function per engine: the data in the form the engine likes best, and the call to time.

The timed call is the whole of what a user calls on data at hand, formula included. It gives the
criterion (deviance, or REML criterion, as lme4 defines them) and the number of evaluations where
the engine tells it. Every engine skips what the others do not compute (degrees of freedom).
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from problems import Problem

__all__ = ["ENGINES", "NotExpressible", "NotInstalled", "run"]

Call = Callable[[], tuple[float, int | None]]
WARM_SECONDS = 20.0  # no further repeats after this much time in an engine


class NotInstalled(Exception):
    """The engine is not on this machine."""


class NotExpressible(Exception):
    """The engine has no way to state the model."""


def lmmfast(problem: Problem, frame: pd.DataFrame) -> Call:
    """Fit with lmmfast itself, on the pandas frame."""
    import lmmfast

    def call() -> tuple[float, int]:
        fit = lmmfast.lmer(problem.formula, frame, reml=problem.reml)
        return fit.objective, fit.n_evals

    return call


def mixedlm(problem: Problem, frame: pd.DataFrame) -> Call:
    """Package mixedlm (Rust), on the pandas frame."""
    import mixedlm

    def call() -> tuple[float, int]:
        fit = mixedlm.lmer(problem.formula, frame, REML=problem.reml)
        return float(fit.deviance), fit.function_evals

    return call


def glmm(problem: Problem, frame: pd.DataFrame) -> Call:
    """Package glmm (Rust), on a dict of columns; no uncorrelated slopes."""
    import glmm

    if "||" in problem.formula:
        raise NotExpressible("no ||")

    def call() -> tuple[float, int]:
        fit = glmm.fit(frame, problem.formula, reml=problem.reml, satterthwaite=False)
        return -2 * fit.loglik, fit.n_eval

    return call


def lme_python(problem: Problem, frame: pd.DataFrame) -> Call:
    """Package lme-python (Rust), on a polars frame."""
    import lme_python
    import polars

    table = polars.from_pandas(frame)

    def call() -> tuple[float, int]:
        fit = lme_python.lmer(problem.formula, table, reml=problem.reml)
        return (fit.reml_criterion if problem.reml else fit.deviance), fit.iterations

    return call


def statsmodels(problem: Problem, frame: pd.DataFrame) -> Call:
    """MixedLM of statsmodels: one grouping factor."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    terms = random_terms(problem.formula)
    if len(terms) > 1:
        raise NotExpressible("one grouping factor only")
    columns, _, group = terms[0]
    fixed = problem.formula.split(" + (")[0]

    def call() -> tuple[float, None]:
        model = MixedLM.from_formula(fixed, frame, groups=group, re_formula=f"~{columns}")
        return -2 * model.fit(reml=problem.reml).llf, None

    return call


def gpboost(problem: Problem, frame: pd.DataFrame) -> Call:
    """GPModel of GPBoost: maximum likelihood, independent random slopes."""
    import formulaic
    import gpboost

    terms = random_terms(problem.formula)
    if problem.reml:
        raise NotExpressible("no REML")
    if any(bar == "|" and columns != "1" for columns, bar, _ in terms):
        raise NotExpressible("no correlated slopes")
    fixed = problem.formula.split(" + (")[0]
    slopes = [
        (number + 1, name)
        for number, (columns, _, _) in enumerate(terms)
        for name in columns.split(" + ")
        if name != "1"
    ]
    groups = frame[[group for _, _, group in terms]].astype(str)
    slope_data = frame[[name for _, name in slopes]].to_numpy(float) if slopes else None

    def call() -> tuple[float, int]:
        y, x = formulaic.model_matrix(fixed, frame)
        model = gpboost.GPModel(
            group_data=groups,
            group_rand_coef_data=slope_data,
            ind_effect_group_rand_coef=[number for number, _ in slopes] or None,
            likelihood="gaussian",
        )
        model.fit(np.asarray(y).ravel(), np.asarray(x))
        return 2 * model.get_current_neg_log_likelihood(), None

    return call


def random_terms(formula: str) -> list[tuple[str, str, str]]:
    """(columns, bar, group) of each random term."""
    found = re.findall(r"\(([^()|]*?)\s*(\|\|?)\s*(\w+)\)", formula)
    return [(columns.strip(), bar, group) for columns, bar, group in found]


def lme4(problem: Problem, frame: pd.DataFrame, repeats: int) -> dict[str, Any]:
    """lme4 in its own R process: `system.time()` around lmer(), the data already read."""
    rscript = shutil.which("Rscript")
    probe = [rscript or "", "-e", "library(lme4)"]
    if rscript is None or subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        raise NotInstalled("Rscript with lme4 (Debian: r-cran-lme4, and libopenblas0 for its BLAS)")
    factors = ",".join(frame.select_dtypes("category").columns)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/data.csv"
        frame.to_csv(path, index=False)
        script = str(Path(__file__).with_name("lme4.R"))
        asked = [path, factors, problem.formula, str(int(problem.reml)), str(repeats)]
        done = subprocess.run(
            [rscript, script, *asked], capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


ENGINES: dict[str, tuple[Callable[[Problem, pd.DataFrame], Call] | None, str]] = {
    "lmmfast": (lmmfast, "lmmfast"),
    "lme4": (None, ""),
    "mixedlm": (mixedlm, "mixedlm"),
    "glmm": (glmm, "glmm"),
    "lme-python": (lme_python, "lme-python"),
    "statsmodels": (statsmodels, "statsmodels"),
    "gpboost": (gpboost, "gpboost"),
}


def run(engine: str, problem: Problem) -> dict[str, Any]:
    """Time one engine on one problem: {objective, seconds, evals, calls, version}.

    Raises
    ------
    NotInstalled, NotExpressible
    """
    frame = problem.load()
    prepare, package = ENGINES[engine]
    if prepare is None:
        return lme4(problem, frame, problem.repeats)
    try:
        call = prepare(problem, frame)
    except ImportError as error:
        raise NotInstalled(f"pip install {package} ({error})") from error
    times: list[float] = []
    while len(times) <= problem.repeats and sum(times) < WARM_SECONDS:
        begin = time.perf_counter()
        objective, evals = call()
        times.append(time.perf_counter() - begin)
    return {
        "objective": float(objective),
        "seconds": statistics.median(times[1:] or times),
        "first": times[0],
        "evals": evals,
        "calls": len(times),
        "version": f"{package} {_version(package)}",
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(from the source tree)"
