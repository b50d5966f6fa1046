"""Run the benchmarks: every problem with every engine, each pair in its own process, one thread.

    python benchmarks/run.py --problems kb07_max --engines lmmfast,lme4
    python benchmarks/run.py                     # everything; the largest take lme4 twenty minutes

Each result is one line of JSON, appended to benchmarks/results.jsonl; report.py makes the
table of them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
THREADS = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def main() -> None:
    """Command line."""
    from engines import ENGINES
    from problems import PROBLEMS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--problems", default=",".join(PROBLEMS), help="names, separated by commas")
    parser.add_argument("--engines", default=",".join(ENGINES), help="names, separated by commas")
    parser.add_argument(
        "--timeout", type=float, default=600.0, help="seconds for one engine and problem"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results.jsonl")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    problems, engines = asked.problems.split(","), asked.engines.split(",")
    for kind, names, known in (("problem", problems, PROBLEMS), ("engine", engines, ENGINES)):
        for name in names:
            if name not in known:
                parser.error(f"unknown {kind} {name!r}; known: {', '.join(known)}")
    if asked.child:
        print(json.dumps(child(problems[0], engines[0])))
        return
    for problem in problems:
        for engine in engines:
            record = in_own_process(problem, engine, asked.timeout)
            print(f"{problem:16s} {engine:12s} {describe(record)}", flush=True)
            with asked.out.open("a") as file:
                file.write(json.dumps(record) + "\n")


def child(problem: str, engine: str) -> dict[str, Any]:
    """Fit one problem with one engine: what the process of its own prints."""
    from engines import NotExpressible, NotInstalled, run
    from problems import PROBLEMS

    warnings.simplefilter("ignore")
    try:
        return {"status": "ok", **run(engine, PROBLEMS[problem])}
    except NotInstalled as error:
        return {"status": "not installed", "reason": str(error)}
    except NotExpressible as error:
        return {"status": "not expressible", "reason": str(error)}
    except Exception as error:  # an engine may fail in any way: that is a result
        traceback.print_exc()
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:200]}


def in_own_process(problem: str, engine: str, timeout: float) -> dict[str, Any]:
    """One engine on one problem, alone, with one thread; killed after `timeout` seconds."""
    load = os.getloadavg()[0]
    command = [sys.executable, __file__, "--child", "--problems", problem, "--engines", engine]
    found: dict[str, Any] = {"status": f"no answer within {timeout:g} s"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **dict.fromkeys(THREADS, "1")},
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
            lines = [line for line in out.splitlines() if line.startswith('{"status"')]
            last = (err.strip().splitlines() or ["died without a word"])[-1]
            found = json.loads(lines[-1]) if lines else {"status": "failed", "reason": last}
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
    return {"problem": problem, "engine": engine, **found, **circumstances(load)}


def circumstances(load: float) -> dict[str, Any]:
    """When and where: the machine's class, not its name."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "load_before": round(load, 2),
    }


def machine() -> str:
    """Processor, number of cores, operating system."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def describe(record: dict[str, Any]) -> str:
    """One line for the terminal."""
    if record["status"] != "ok":
        return f"{record['status']}: {record.get('reason', '')}"
    evals = record["evals"] if record["evals"] is not None else "?"
    return f"{record['objective']:18.6f} {record['seconds']:10.4f} s  {evals} evaluations"


if __name__ == "__main__":
    main()
