"""Generalized models: whole calls beside glmer, glmmTMB and the Python packages that fit them.

    python benchmarks/generalized.py                       # the small cases, what is installed
    python benchmarks/generalized.py --cases VerbAgg --engines lmmfast,glmer,glmm --rounds 3
    python benchmarks/generalized.py --cases all --engines lmmfast --out generalized.jsonl
    python benchmarks/generalized.py --list

Every engine fits a case in a process of its own with one thread; a round is one process of each, so
that ratios are of calls made minutes apart at most. CPU seconds of the whole call, formula included
(user and system; the median of calls and rounds), -2 log-likelihood with all its constants, as far
above the lowest of the case, and the peak of memory above what data and packages take. lmmfast's
standard errors, which glmer, glmmTMB and glmm compute within the call, are a column of their own.
An engine that ends more than 1e-3 above the best gets no ratio. Where the link is not canonical,
glmer and mixedlm have expected weights in Laplace's approximation, which is another objective:
they are compared with lmmfast-expected there (``information="expected"``), the others with lmmfast.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from engines import NotExpressible, NotInstalled, random_terms
from generalized_cases import CASES, Case
from run import THREADS, circumstances
from scale_measure import Memory

Record = dict[str, Any]
Call = Callable[[], Record]
AT_LEAST = 20.0  # no further calls after this many seconds
SAME = 1e-3  # deviance above the best with which times are still compared
EXPECTED = ("lmmfast-expected", "glmer", "mixedlm")  # their weights in Laplace's approximation
LARGE = ("logit_1e5", "logit_1e5_slope", "poisson_1e5", "logit_1e6", "elp")


# ---- the engines: a case and its frame to a call that gives -2 log-likelihood and counts ---------


def lmmfast(case: Case, frame: pd.DataFrame, information: str = "observed") -> Call:
    """Fit with lmmfast itself; standard errors come after the call."""
    import lmmfast

    def call() -> Record:
        how = {"weights": case.weights, "nagq": case.nagq, "information": information}
        fit = lmmfast.glmer(case.formula, frame, case.family, case.link, **how)
        own = fit.estimates
        counts = {"evals": own.n_evals, "factorizations": own.factorizations, "passes": own.passes}
        found = {"certificate": own.certificate, "converged": own.converged}
        return {"objective": fit.objective, **counts, **found, "later": lambda: fit.bse}

    return call


def lmmfast_expected(case: Case, frame: pd.DataFrame) -> Call:
    """The same with lme4's weights."""
    if case.canonical:
        raise NotExpressible("the same where the link is canonical")
    return lmmfast(case, frame, "expected")


def glmm(case: Case, frame: pd.DataFrame) -> Call:
    """Package glmm (Rust); it has no ``I()``."""
    import glmm

    formula = case.formula
    if "I(age^2)" in formula:
        frame = frame.assign(age2=frame["age"] ** 2)
        formula = formula.replace("I(age^2)", "age2")
    weights = None if case.weights is None else frame[case.weights].to_numpy(float)

    def call() -> Record:
        how = {"link": case.link, "weights": weights, "nagq": case.nagq}
        fit = glmm.fit(frame, formula, case.family, **how)
        return {"objective": -2 * fit.loglik, "evals": fit.n_eval}

    return call


def mixedlm(case: Case, frame: pd.DataFrame) -> Call:
    """Package mixedlm (Rust)."""
    import mixedlm
    from mixedlm import families

    if case.family == "negativebinomial":
        raise NotExpressible("its size is not estimated")
    family = {"binomial": families.Binomial, "poisson": families.Poisson}[case.family](case.link)

    def call() -> Record:
        how = {"weights": case.weights, "nAGQ": case.nagq}
        fit = mixedlm.glmer(case.formula, frame, family, **how)
        return {"objective": -2 * float(fit.logLik().value), "evals": fit.n_iter}

    return call


def gpboost(case: Case, frame: pd.DataFrame) -> Call:
    """GPModel of GPBoost: intercepts, and no trials."""
    import formulaic
    import gpboost

    terms = random_terms(case.formula)
    if case.weights or case.nagq > 1 or case.link == "cloglog":
        raise NotExpressible("trials, quadrature or links")
    if any(columns != "1" for columns, _, _ in terms):
        raise NotExpressible("no correlated slopes")
    likelihood = {"binomial": "bernoulli_logit", "negativebinomial": "negative_binomial"}
    fixed = case.formula.split(" + (")[0].replace("I(age^2)", "I(age**2)")
    groups = frame[[group for _, _, group in terms]].astype(str)

    def call() -> Record:
        y, x = formulaic.model_matrix(fixed, frame)
        name = likelihood.get(case.family, case.family)
        model = gpboost.GPModel(group_data=groups, likelihood=name)
        model.fit(np.asarray(y, float).ravel(), np.asarray(x, float))
        return {"objective": 2 * model.get_current_neg_log_likelihood(), "evals": None}

    return call


ENGINES: dict[str, Callable[[Case, pd.DataFrame], Call] | None] = {
    "lmmfast": lmmfast,
    "lmmfast-expected": lmmfast_expected,
    "glmer": None,
    "glmmTMB": None,
    "glmm": glmm,
    "mixedlm": mixedlm,
    "gpboost": gpboost,
}


def by_r(engine: str, case: Case, frame: pd.DataFrame) -> Record:
    """glmer or glmmTMB, in R's own process."""
    if engine == "glmmTMB" and case.nagq > 1:
        raise NotExpressible("no quadrature")
    package = "glmmTMB" if engine == "glmmTMB" else "lme4"
    rscript = shutil.which("Rscript")
    probe = [rscript or "", "-e", f"library({package})"]
    if rscript is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        raise NotInstalled(f"Rscript with {package}")
    factors = ",".join(frame.select_dtypes("category").columns)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/data.csv"
        frame.to_csv(path, index=False)
        model = [case.formula, case.family, case.link, case.weights or "", str(case.nagq)]
        script = str(Path(__file__).with_name("generalized.R"))
        asked = [rscript, script, engine, path, factors, *model, str(case.calls)]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    found: Record = json.loads(done.stdout.splitlines()[-1])
    return found


# ---- one engine, one case, in this process -------------------------------------------------------


def cpu(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call, and what it gave."""
    began = time.process_time()
    found = call()
    return time.process_time() - began, found


def measured(engine: str, case: Case) -> Record:
    """What the process of its own prints.

    Raises
    ------
    NotInstalled, NotExpressible
    """
    frame = case.load()
    prepare = ENGINES[engine]
    if prepare is None:
        return by_r(engine, case, frame)
    try:
        call = prepare(case, frame)
    except ImportError as error:
        raise NotInstalled(f"pip install {engine} ({error})") from error
    memory, peak = Memory(), 0
    times: list[float] = []
    errors: list[float] = []
    while len(times) < case.calls and sum(times) < AT_LEAST:
        taken, found = cpu(call)
        peak = peak or memory.peak - memory.before
        times.append(taken)
        if "later" in found:
            errors.append(cpu(found.pop("later"))[0])
    record = {**found, "seconds": statistics.median(times[1:] or times), "first": times[0]}
    if errors:
        record["se_seconds"] = statistics.median(errors)
    return {**record, "calls": len(times), "peak": peak, "version": version(engine)}


def version(package: str) -> str:
    """Name and number."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} (from the source tree)"


def child(engine: str, case: str) -> Record:
    """The measurement, or why there is none."""
    warnings.simplefilter("ignore")
    try:
        return {"status": "ok", **measured(engine, CASES[case])}
    except NotInstalled as error:
        return {"status": "not installed", "reason": str(error)}
    except NotExpressible as error:
        return {"status": "not expressible", "reason": str(error)}
    except Exception as error:  # an engine may fail in any way: that is a result
        traceback.print_exc()
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:200]}


def in_own_process(engine: str, case: str, timeout: float) -> Record:
    """One engine on one case, alone, with one thread; killed with its R after `timeout` seconds."""
    load = os.getloadavg()[0]
    command = [sys.executable, __file__, "--child", "--cases", case, "--engines", engine]
    one = {**os.environ, **dict.fromkeys(THREADS, "1")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    found: Record = {"status": f"no answer within {timeout:g} s"}
    with subprocess.Popen(command, env=one, start_new_session=True, **pipes) as process:
        try:
            out, err = process.communicate(timeout=timeout)
            lines = [line for line in out.splitlines() if line.startswith('{"status"')]
            last = (err.strip().splitlines() or ["died without a word"])[-1]
            found = json.loads(lines[-1]) if lines else {"status": "failed", "reason": last}
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
    return {"case": case, "engine": engine, **found, **circumstances(load)}


# ---- the table -----------------------------------------------------------------------------------


def row(engine: str, records: list[Record], best: float, ours: list[Record]) -> str:
    """One engine's line of a case: medians over rounds, the ratio within rounds."""
    good = [record for record in records if record["status"] == "ok"]
    if not good:
        why = records[-1].get("reason", "")
        return f"| {engine} | {records[-1]['status']}{': ' + why if why else ''} |" + " |" * 7
    one = good[-1]
    above = statistics.median(record["objective"] for record in good) - best
    seconds = statistics.median(record["seconds"] for record in good)
    pairs = [
        theirs["seconds"] / own["seconds"]
        for theirs, own in zip(records, ours, strict=False)
        if theirs["status"] == own["status"] == "ok"
    ]
    ratio = f"{statistics.median(pairs):.1f}" if pairs and above <= SAME else ""
    counts = [one.get(key) for key in ("evals", "factorizations", "passes")]
    cells = ["" if count is None else str(count) for count in counts]
    later = [record["se_seconds"] for record in good if "se_seconds" in record]
    errors = f"{statistics.median(later):.3g}" if later else ""
    deviance, memory = f"{one['objective']:.6f} (+{above:.1e})", f"{one['peak'] / 1e6:.0f}"
    return (
        f"| {engine} | {' | '.join([deviance, *cells, f'{seconds:.3g}', errors, memory, ratio])} |"
    )


def table(case: str, found: dict[str, list[Record]]) -> None:
    """Prints a case: objectives first."""
    given = CASES[case]
    best: dict[bool, float] = {}  # of each approximation
    for engine, records in found.items():
        kind = not given.canonical and engine in EXPECTED
        ends = [record["objective"] for record in records if record["status"] == "ok"]
        best[kind] = min([best.get(kind, float("inf")), *ends])
    method = "Laplace" if given.nagq == 1 else f"{given.nagq} nodes"
    loads = [record["load_before"] for records in found.values() for record in records]
    print(f"\n{case}: {given.structure}; {given.family} ({given.link}), {method}; {given.formula}")
    print(f"load of the machine {min(loads):.1f} to {max(loads):.1f}\n")
    titles = "engine | -2 log-likelihood (above the best) | evaluations | factorizations | passes"
    print(f"| {titles} | CPU s | standard errors | peak MB | times lmmfast |\n|{'---|' * 9}")
    for engine, records in found.items():
        kind = not given.canonical and engine in EXPECTED
        print(row(engine, records, best[kind], found.get("lmmfast", [])), flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    small = ",".join(case for case in CASES if case not in LARGE)
    parser.add_argument("--cases", default=small, help='names, separated by commas, or "all"')
    parser.add_argument("--engines", default=",".join(ENGINES), help="names, separated by commas")
    parser.add_argument("--rounds", type=int, default=1, help="processes of each engine")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds of one process")
    parser.add_argument("--out", type=Path, help="file that gets a line of JSON for each process")
    parser.add_argument("--list", action="store_true", help="the cases, and stop")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.list:
        for name, case in CASES.items():
            print(f"{name:20s} {case.structure:40s} {case.formula}")
        return
    cases = list(CASES) if asked.cases == "all" else asked.cases.split(",")
    engines = asked.engines.split(",")
    for kind, names, known in (("case", cases, CASES), ("engine", engines, ENGINES)):
        for name in names:
            if name not in known:
                parser.error(f"unknown {kind} {name!r}; known: {', '.join(known)}")
    if asked.child:
        print(json.dumps(child(engines[0], cases[0])))
        return
    for case in cases:
        found: dict[str, list[Record]] = {engine: [] for engine in engines}
        for _ in range(asked.rounds):
            for engine in engines:
                record = in_own_process(engine, case, asked.timeout)
                found[engine].append(record)
                if asked.out:
                    with asked.out.open("a") as file:
                        file.write(json.dumps(record) + "\n")
        table(case, found)


if __name__ == "__main__":
    main()
