"""What the scale benchmarks measure with: fresh processes, their memory, data on disk, records."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from run import HERE, THREADS, circumstances

__all__ = [
    "OUT",
    "Asked",
    "Memory",
    "Record",
    "cache",
    "columns_of",
    "data_of",
    "described",
    "fresh",
    "last_records",
    "measured",
    "median_seconds",
    "save_columns",
    "seconds",
]

OUT = HERE / "scale.jsonl"
WARM_SECONDS = 10.0  # no further repeats after this much time
KINDS = {"int32": np.int32, "float64": np.float64}
Record = dict[str, Any]
Asked = argparse.Namespace


# ---- time and memory of this process ------------------------------------------------------------


def seconds(call: Callable[[], object]) -> float:
    """Time of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Median time of some calls; of one, when calls are long."""
    times: list[float] = []
    while len(times) < repeats and sum(times) < WARM_SECONDS:
        times.append(seconds(call))
    return statistics.median(times)


class Memory:
    """Peak of the resident memory from here on, and how much of it was there before (bytes)."""

    def __init__(self) -> None:
        with suppress(OSError):  # where that is not allowed: the peak of the whole process
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self.before = _status("VmRSS")

    @property
    def peak(self) -> int:
        """Highest resident memory."""
        return _status("VmHWM")

    def record(self) -> Record:
        """What goes into a record."""
        peak = self.peak
        return {"rss_before": self.before, "peak": peak, "peak_above": peak - self.before}


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}")


# ---- data on disk: one raw array a column, read by Python and by R ------------------------------


def cache(name: str, arguments: Mapping[str, Any]) -> Path:
    """Where data made with these arguments are kept; other generators, other folders."""
    source = zlib.crc32((HERE / "scale_problems.py").read_bytes())
    given = "-".join(f"{key}{value}" for key, value in arguments.items())
    root = Path(os.environ.get("LMMFAST_SCALE_DATA", tempfile.gettempdir()))
    return root / f"lmmfast-scale-{source:08x}" / f"{name}-{given or 'default'}"


def save_columns(folder: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Raw little-endian arrays and a list of them; the folder appears when it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(dir=folder.parent))
    for name, values in columns.items():
        values.tofile(half / f"{name}.bin")
    kinds = {name: str(values.dtype) for name, values in columns.items()}
    (half / "columns.json").write_text(json.dumps(kinds))
    shutil.rmtree(folder, ignore_errors=True)
    half.rename(folder)


def columns_of(folder: str | Path) -> dict[str, np.ndarray]:
    """What `save_columns` wrote, in memory."""
    kinds = json.loads((Path(folder) / "columns.json").read_text())
    return {
        name: np.fromfile(Path(folder) / f"{name}.bin", KINDS[kind]) for name, kind in kinds.items()
    }


# ---- fresh processes ----------------------------------------------------------------------------


def fresh(task: str, timeout: float = 900.0, **arguments: Any) -> Record:
    """A task of scale_tasks.py in a process of its own, one BLAS thread; what it found."""
    script = str(Path(__file__).with_name("scale_tasks.py"))
    asked = [sys.executable, script, task, json.dumps(arguments)]
    load = os.getloadavg()[0]
    with subprocess.Popen(
        asked,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **dict.fromkeys(THREADS, "1")},
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return {"status": f"no answer within {timeout:g} s", **circumstances(load)}
    found = _answer(out, err)
    return {**found, **circumstances(load)}


def _answer(out: str, err: str) -> Record:
    lines = [line for line in out.splitlines() if line.startswith('{"status"')]
    if lines:
        answer: Record = json.loads(lines[-1])
        return answer
    last = (err.strip().splitlines() or ["died without a word"])[-1]
    return {"status": "failed", "reason": last[:300]}


# ---- records ------------------------------------------------------------------------------------


def data_of(name: str, asked: Asked, **arguments: Any) -> str:
    """The folder with the columns of a problem; they are made if they are not there."""
    folder = cache(name, arguments)
    if not folder.exists():
        made = fresh("make", asked.timeout, name=name, folder=str(folder), arguments=arguments)
        if made["status"] != "ok":
            raise SystemExit(f"{name} {arguments}: {made}")
    return str(folder)


def measured(
    asked: Asked,
    benchmark: str,
    case: str,
    task: str,
    marks: Record | None = None,
    **arguments: Any,
) -> Record:
    """A task in a fresh process, told and appended; `marks` are put into its record."""
    found = fresh(task, asked.timeout, **arguments)
    known = {key: value for key, value in arguments.items() if key in ("formula", "storage")}
    known |= {"benchmark": benchmark, "case": case, "task": task, **(marks or {})}
    record = {**known, **found}
    append(record, asked.out)
    print(f"{benchmark:9s}{case:52s} {described(record)}", flush=True)
    return record


def described(record: Record) -> str:
    """One line for the terminal."""
    if record["status"] != "ok":
        return f"{record['status']}: {record.get('reason', '')}"
    parts = [f"{record['objective']:.6f}" if "objective" in record else ""]
    parts.append(record.get("storage", ""))
    for name, unit in (("seconds", "s"), ("evaluation", "s an evaluation"), ("evals", "evals")):
        if record.get(name) is not None:
            parts.append(f"{record[name]:.4g} {unit}")
    if "peak_above" in record:
        parts.append(f"{record['peak_above'] / 1e6:,.0f} MB")
    return "  ".join(filter(None, parts))


def append(record: Record, out: Path) -> None:
    """One line of JSON."""
    with out.open("a") as file:
        file.write(json.dumps(record) + "\n")


def last_records(out: Path = OUT) -> dict[tuple[str, str], Record]:
    """The last record of every (benchmark, case), in the order of their first."""
    found: dict[tuple[str, str], Record] = {}
    if out.exists():
        for line in out.read_text().splitlines():
            record = json.loads(line)
            found[record["benchmark"], record["case"]] = record
    return found
