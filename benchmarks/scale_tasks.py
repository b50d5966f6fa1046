"""What runs in the fresh processes of the scale benchmarks.

    python benchmarks/scale_tasks.py TASK '{"its": "arguments"}'

prints one line of JSON; scale.py starts them.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scale_measure import Memory, Record, columns_of, median_seconds, save_columns, seconds

WARM_SECONDS = 10.0


# ---- data ---------------------------------------------------------------------------------------


def make(name: str, folder: str, arguments: dict[str, Any]) -> Record:
    """Columns of a problem, on disk."""
    from scale_problems import PROBLEMS

    began = time.perf_counter()
    columns = PROBLEMS[name].make(**arguments)
    save_columns(Path(folder), columns)
    return {"seconds": time.perf_counter() - began, "n": len(next(iter(columns.values())))}


def write_parquet(folder: str, n: int, subjects: int, items: int) -> Record:
    """Rows of the experiment as Parquet files, a million rows each, one chunk in memory."""
    import pyarrow as pa
    from pyarrow import parquet
    from scale_problems import trials

    memory, began = Memory(), time.perf_counter()
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(dir=Path(folder).parent))
    for number, chunk in enumerate(trials(n, subjects, items)):
        parquet.write_table(pa.table(chunk), half / f"part-{number:05d}.parquet")
    size = sum(path.stat().st_size for path in half.iterdir())
    shutil.rmtree(folder, ignore_errors=True)
    half.rename(folder)
    return {"seconds": time.perf_counter() - began, "n": n, "bytes": size, **memory.record()}


# ---- fits in memory -----------------------------------------------------------------------------


def fit(
    folder: str,
    formula: str,
    storage: str = "auto",
    threads: int = 1,
    repeats: int = 3,
    evaluations: int = 5,
    lapack: int = 0,
    errors: bool = False,
) -> Record:
    """lmmfast on columns in memory: whole calls, then evaluations at the optimum.

    The memory is that of the first call beyond the columns. With `lapack`, dpotrf and dpotri of
    the trailing matrix's order are timed so many times, alternating with evaluations; with
    `errors`, theta gets its standard errors: of the data, and of the random vectors.
    """
    import lmmfast

    columns = columns_of(folder)
    _warm(columns_only=True)
    memory = Memory()
    result, record = _calls(
        lambda: lmmfast.lmer(formula, columns, storage=storage, threads=threads), repeats, memory
    )
    record |= {"engine": "lmmfast", "version": lmmfast.__version__, "threads": threads}
    if errors:
        record |= _errors(result)
    if evaluations or lapack:
        record |= _evaluations(
            result.model, np.array(result.theta), max(evaluations, lapack), lapack
        )
    return record


def _warm(columns_only: bool = False) -> None:
    """A tiny fit of each kind: what is imported late is no memory of the fit that is measured."""
    import lmmfast

    data, formula = lmmfast.datasets.load("sleepstudy"), "Reaction ~ Days + (Days | Subject)"
    columns = {"y": data["Reaction"].to_numpy(), "g": np.arange(len(data), dtype=np.int32) // 10}
    lmmfast.lmer("y ~ 1 + (1 | g)", columns).varcorr  # noqa: B018
    if not columns_only:
        lmmfast.lmer(formula, data)
        lmmfast.lmer(formula, [data[:90], data[90:]])


def _calls(call: Callable[[], Any], repeats: int, memory: Memory) -> tuple[Any, Record]:
    """The result of the first call and its record, with the median times of the later ones."""
    began = time.perf_counter()
    first = call()
    times = [(time.perf_counter() - began, first.estimates.seconds)]
    record = {**memory.record(), **results(first), "first": times[0][0], "calls": 1}
    while len(times) <= repeats and sum(whole for whole, _ in times) < WARM_SECONDS:
        began = time.perf_counter()
        own = call()
        times.append((time.perf_counter() - began, own.estimates.seconds))
        del own
    medians = [statistics.median(column) for column in zip(*(times[1:] or times), strict=True)]
    record |= {"seconds": medians[0], "fit_seconds": medians[1], "calls": len(times)}
    return first, record


def results(result: Any) -> Record:
    """Numbers of a fit."""
    table = result.varcorr
    sds = table[table["var2"].isna()]
    storage = result.model.storage
    return {
        "n": result.nobs,
        "levels": result.n_levels,
        "parameters": len(result.theta),
        "objective": result.objective,
        "fixed": {str(name): float(value) for name, value in result.params.items()},
        "sds": {
            " ".join(filter(None, (group, column))): float(sd)
            for group, column, sd in zip(sds["group"], sds["var1"], sds["sdcor"], strict=True)
        },
        "evals": result.n_evals,
        "fit_seconds": result.estimates.seconds,
        "converged": result.converged,
        "certificate": result.certificate,
        "storage": storage["storage"] if storage["order"] else "block diagonal",
        "order": storage["order"],
        "density": storage["density"],
        "meetings": storage["pairs"],
        "model_bytes": storage["bytes"],
        "flops": storage["flops"],
    }


def _errors(result: Any) -> Record:
    """Standard errors of theta by the curvature at the optimum, and by chance of the method."""
    model, theta = result.model, result.theta
    _, _, curvature = model.objective(theta, gradient=True, hessian=True)
    objective_se, chance = model.monte_carlo(theta)
    return {
        "theta": theta.tolist(),
        "theta_se": np.sqrt(np.diag(2 * np.linalg.inv(curvature))).tolist(),
        "theta_chance": np.sqrt(np.diag(chance)).tolist(),
        "objective_se": objective_se,
    }


def _evaluations(model: Any, theta: np.ndarray, repeats: int, lapack: int) -> Record:
    """Median seconds of an evaluation with derivatives, and of LAPACK's share of it."""
    calls = [_evaluation(model, theta)]
    if lapack and model.storage["order"]:
        from evaluation import lapack as bare

        calls.append(bare(int(model.storage["order"])))
    times: list[list[float]] = []
    while len(times) < repeats and sum(map(sum, times)) < 2 * WARM_SECONDS:
        times.append([seconds(call) for call in calls])
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return dict(zip(("evaluation", "lapack"), medians, strict=False))


def _evaluation(model: Any, theta: np.ndarray) -> Callable[[], Any]:
    """A call that evaluates, each time at a slightly different theta: nothing can be remembered."""
    count = 0

    def call() -> Any:
        nonlocal count
        count += 1
        return model.objective(theta * (1 + 1e-6 * count), gradient=True, hessian=True)

    return call


def evaluate(
    folder: str, formula: str, theta: list[float], storage: str, threads: int = 1, repeats: int = 5
) -> Record:
    """A model of columns in memory and evaluations of it at a given theta; no fit."""
    import lmmfast
    from lmmfast.data.design import build

    design = build(formula, columns_of(folder))
    memory, began = Memory(), time.perf_counter()
    model = lmmfast.LMM(design, storage=storage, threads=threads)
    setup = time.perf_counter() - began
    call, began = _evaluation(model, np.array(theta)), time.perf_counter()
    objective, *_ = call()
    first = time.perf_counter() - began
    warm = first if first > WARM_SECONDS else median_seconds(call, repeats)
    report = model.storage
    return {
        "n": design.n,
        "order": report["order"],
        "density": report["density"],
        "storage": report["storage"],
        "model_bytes": report["bytes"],
        "flops": report["flops"],
        "threads": threads,
        "setup": setup,
        "evaluation": warm,
        "objective": objective,
        **memory.record(),
    }


# ---- rows that are not in memory ----------------------------------------------------------------


def stream(folder: str, formula: str, threads: int = 1) -> Record:
    """lmer() of a directory of Parquet files; memory beyond the imports."""
    import lmmfast

    _one_arrow_thread()
    _warm()
    memory, began = Memory(), time.perf_counter()
    result = lmmfast.lmer(formula, folder, threads=threads)
    took = time.perf_counter() - began
    record = {**memory.record(), **results(result), "seconds": took, "threads": threads}
    return {**record, "cross_bytes": result.design.sums.cross.nbytes}


def whole(folder: str, formula: str, threads: int = 1) -> Record:
    """The same rows read into memory first.

    `call_peak` is what the call takes beside the data; `bare` one pass over these, the least time.
    """
    import pyarrow as pa
    from pyarrow import parquet

    import lmmfast

    _one_arrow_thread()
    _warm()
    memory, began = Memory(), time.perf_counter()
    table = parquet.read_table(folder).to_pandas()
    read = time.perf_counter() - began
    pa.default_memory_pool().release_unused()
    call, began = Memory(), time.perf_counter()
    result = lmmfast.lmer(formula, table, threads=threads)
    took = time.perf_counter() - began
    record = {**memory.record(), **results(result), "seconds": read + took, "threads": threads}
    record |= {"data_bytes": int(table.memory_usage(index=False).sum()), "bare": _bare(table)}
    return {**record, "read_seconds": read, "call": took, "call_peak": call.peak - call.before}


def _bare(table: Any) -> float:
    """Seconds of a pass over the columns of a frame: numbers are added, texts' bytes too."""
    arrays = []
    for name in table:
        own = table[name].array
        if hasattr(own, "__arrow_array__") and own.dtype.kind == "O":
            chunks = own.__arrow_array__().chunks
            buffers = [buffer for chunk in chunks for buffer in chunk.buffers() if buffer]
            arrays += [np.frombuffer(buffer, np.uint8) for buffer in buffers]
        else:
            arrays.append(table[name].to_numpy())
    began = time.perf_counter()
    for array in arrays:
        array.sum()
    return time.perf_counter() - began


def _one_arrow_thread() -> None:
    import pyarrow as pa
    import pyarrow.parquet  # part of the imports, not of the measurement

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


def cluster(folder: str, formula: str, workers: int = 2) -> Record:
    """lmer() of a Dask data frame on a cluster of processes with one thread each."""
    import dask.dataframe as dd
    import distributed

    import lmmfast

    options = {"n_workers": workers, "threads_per_worker": 1, "processes": True}
    with (
        distributed.LocalCluster(**options, dashboard_address=None) as here,
        distributed.Client(here) as client,
    ):
        client.run(_warm)
        _warm()
        before = client.run(_resident)
        memory, began = Memory(), time.perf_counter()
        result = lmmfast.lmer(formula, dd.read_parquet(folder))
        took = time.perf_counter() - began
        above = [peak - before[key] for key, peak in client.run(_peak).items()]
        record = {**memory.record(), **results(result), "seconds": took, "workers": workers}
    return {**record, "threads": 1, "worker_peaks_above": above}


def _resident() -> int:
    return Memory().before


def _peak() -> int:
    from scale_measure import _status

    return _status("VmHWM")


# ---- lme4 ---------------------------------------------------------------------------------------


def lme4(folder: str, formula: str, repeats: int = 3) -> Record:
    """lmer() of lme4 in R; reading and factor() are not timed."""
    rscript = shutil.which("Rscript")
    if rscript is None:
        raise FileNotFoundError("Rscript with lme4 is needed (Debian: r-cran-lme4, libopenblas0)")
    script = str(Path(__file__).with_name("scale.R"))
    factors = ",".join(_groups(formula))
    asked = [rscript, script, folder, factors, formula, str(repeats)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["R died without a word"])[-1])
    found: Record = json.loads(done.stdout.splitlines()[-1])
    found["sds"] = {
        name.replace("(Intercept)", "Intercept").strip(): sd for name, sd in found["sds"].items()
    }
    return {**found, "engine": "lme4", "threads": 1}


def _groups(formula: str) -> Sequence[str]:
    return re.findall(r"\|\s*(\w+)\)", formula)


# ---- the process --------------------------------------------------------------------------------

TASKS: dict[str, Callable[..., Record]] = {
    task.__name__: task
    for task in (make, write_parquet, fit, evaluate, stream, whole, cluster, lme4)
}


def main() -> None:
    """Command line."""
    warnings.simplefilter("ignore")
    task, arguments = TASKS[sys.argv[1]], json.loads(sys.argv[2])
    try:
        found = {"status": "ok", **task(**arguments)}
    except Exception as error:  # whatever goes wrong is a result
        traceback.print_exc()
        found = {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:300]}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
