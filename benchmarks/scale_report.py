"""Markdown tables of scale.jsonl; the last record of a case counts.

Times are compared where objectives agree: an engine that stops more than 1e-4 above the lowest one
gets no time, but its excess.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from report import SAME_OPTIMUM
from report import seconds as time_of
from scale_measure import Record, last_records

__all__ = ["tables"]


def tables(out: Path) -> str:
    """All tables but those of the curves."""
    records = list(last_records(out).values())
    made = {
        "Workers and firms, pupils and schools: beside lme4": _beside_lme4,
        "A megastudy beside LAPACK": _mega,
        "Ratings": _ratings,
        "Ratings: estimates": _estimates,
        "Ratings: iterative beside exact": _exactness,
        "Rows that are not in memory": _streams,
    }
    parts = [f"**{title}**\n\n{text}" for title, table in made.items() if (text := table(records))]
    failed = [f"- {r['benchmark']}, {r['case']}: {r['status']}" for r in records if not _ok(r)]
    return "\n\n".join([*parts, *(["\n".join(failed)] if failed else [])])


def _ok(record: Record) -> bool:
    return bool(record["status"] == "ok")


def _of(records: Sequence[Record], *names: str) -> list[Record]:
    return [r for r in records if r["benchmark"] in names and _ok(r)]


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines])


def memory(size: float) -> str:
    """MB, or GB from one on."""
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


# ---- beside lme4 --------------------------------------------------------------------------------


def _beside_lme4(records: Sequence[Record]) -> str:
    pairs: dict[tuple[str, str], dict[str, Record]] = {}
    for record in _of(records, "workers", "pupils"):
        pairs.setdefault((record["benchmark"], record["size"]), {})[record["engine"]] = record
    head = ["data", "rows", "levels", "way", "lmmfast", "lme4", "ratio", "evaluations"]
    head += ["memory", "lme4 - lmmfast, objective", "largest difference of sds"]
    return _table(head, (_pair(*item) for item in pairs.items() if "lmmfast" in item[1]))


def _pair(key: tuple[str, str], pair: dict[str, Record]) -> list[str]:
    ours, theirs = pair["lmmfast"], pair.get("lme4")
    levels = " / ".join(f"{count:,}" for count in ours["levels"].values())
    row = [key[1], f"{ours['n']:,}", levels, ours["storage"], time_of(ours["seconds"])]
    if theirs is None:
        return [*row, "", "", str(ours["evals"]), memory(ours["peak_above"]), "", ""]
    off = theirs["objective"] - ours["objective"]
    same = abs(off) <= SAME_OPTIMUM
    took = time_of(theirs["seconds"]) if same else f"not at the optimum (+{off:.2g})"
    ratio = f"{theirs['seconds'] / ours['seconds']:.3g}" if same else ""
    apart = max(abs(ours["sds"][name] - sd) for name, sd in theirs["sds"].items())
    both = [f"{ours['evals']} / {theirs['evals']}"]
    both += [f"{memory(ours['peak_above'])} / {memory(theirs['peak_above'])}"]
    return [*row, took, ratio, *both, f"{off:+.1e}", f"{apart:.1e}"]


# ---- beside LAPACK ------------------------------------------------------------------------------


def _mega(records: Sequence[Record]) -> str:
    head = ["rows", "threads", "order", "whole call", "fit", "evaluations", "an evaluation"]
    head += ["dpotrf + dpotri", "fit / (evaluations x LAPACK)", "evaluation / LAPACK", "memory"]
    return _table(head, map(_bound, _of(records, "mega")))


def _bound(record: Record) -> list[str]:
    bound = record["evals"] * record["lapack"]
    times = [time_of(record[name]) for name in ("seconds", "fit_seconds")]
    return [
        f"{record['n']:,}",
        str(record["threads"]),
        f"{record['order']:,}",
        *times,
        str(record["evals"]),
        time_of(record["evaluation"]),
        time_of(record["lapack"]),
        f"{record['fit_seconds'] / bound:.2f}",
        f"{record['evaluation'] / record['lapack']:.2f}",
        memory(record["peak_above"]),
    ]


# ---- iterative ----------------------------------------------------------------------------------


def _ratings(records: Sequence[Record]) -> str:
    head = ["rows", "users x movies", "pairs", "order", "way", "threads", "whole call", "fit"]
    head += ["evaluations", "an evaluation", "memory", "objective"]
    return _table(head, map(_rating, _of(records, "ratings")))


def _rating(record: Record) -> list[str]:
    users, movies = record["levels"].values()
    error = f" ± {record['objective_se']:.2g}" if record["objective_se"] else ""
    sizes = [f"{record['n']:,}", f"{users:,} x {movies:,}", f"{record['meetings']:,.0f}"]
    times = [time_of(record[name]) for name in ("seconds", "fit_seconds")]
    cost = [str(record["evals"]), time_of(record["evaluation"]), memory(record["peak_above"])]
    way = [f"{record['order']:,}", record["storage"], str(record["threads"])]
    return [*sizes, *way, *times, *cost, f"{record['objective']:,.3f}{error}"]


def _estimates(records: Sequence[Record]) -> str:
    head = ["rows", "way", "sd over residual sd", "truth", "estimate"]
    head += ["standard error", "of the random vectors", "(estimate - truth) / standard error"]
    own = (r for r in _of(records, "ratings") if r["threads"] == 1)
    return _table(head, (row for record in own for row in _parameters(record)))


def _parameters(record: Record) -> Iterator[list[str]]:
    names = ("theta", "truth", "theta_se", "theta_chance")
    columns = zip(record["levels"], *(record[name] for name in names), strict=True)
    for name, found, truth, error, chance in columns:
        row = [f"{record['n']:,}", record["storage"], name, f"{truth:g}", f"{found:.6f}"]
        yield [*row, f"{error:.2g}", f"{chance:.2g}", f"{(found - truth) / error:+.2f}"]


def _exactness(records: Sequence[Record]) -> str:
    own = [r for r in _of(records, "ratings") if r["threads"] == 1]
    exact = {r["n"]: r for r in own if r["storage"] == "dense"}
    pairs = [(r, exact[r["n"]]) for r in own if r["storage"] == "iterative" and r["n"] in exact]
    head = ["rows", "quantity", "iterative", "exact", "stated error", "difference / stated error"]
    head += ["difference / standard error of the data"]
    return _table(head, (row for one, other in pairs for row in _differences(one, other)))


def _differences(one: Record, other: Record) -> Iterator[list[str]]:
    """The error stated of theta: of the random vectors, and of where both fits stopped."""
    n, off = f"{one['n']:,}", one["objective"] - other["objective"]
    values = [f"{r['objective']:,.5f}" for r in (one, other)]
    error = one["objective_se"]
    yield [n, "objective", *values, f"{error:.2g}", f"{off / error:+.2f}", ""]
    stop = max(one["certificate"], 0.0) + max(other["certificate"], 0.0)
    names = ("theta", "theta_se", "theta_chance")
    columns = zip(one["levels"], other["theta"], *(one[name] for name in names), strict=True)
    for name, exact, found, data, chance in columns:
        error = (chance**2 + data**2 * stop) ** 0.5
        row = [n, f"theta of {name}", f"{found:.8f}", f"{exact:.8f}", f"{error:.2g}"]
        yield [*row, f"{(found - exact) / error:+.2f}", f"{(found - exact) / data:+.1e}"]


# ---- streams ------------------------------------------------------------------------------------


def _streams(records: Sequence[Record]) -> str:
    head = ["rows", "how", "seconds", "of them minimizing", "memory beyond imports"]
    head += ["cross-products", "model", "memory / (cross-products + model)", "largest difference"]
    return _table(head, map(_stream, _of(records, "parquet", "dask")))


def _stream(record: Record) -> list[str]:
    how = record["case"].split(", ", 1)[1]
    row = [f"{record['n']:,}", how, time_of(record["seconds"])]
    if record["task"] == "write_parquet":
        return [*row, "", memory(record["peak_above"]), "", "", "", ""]
    peak = memory(record["peak_above"])
    if "worker_peaks_above" in record:
        peak += "; workers " + ", ".join(map(memory, record["worker_peaks_above"]))
    cross = record.get("cross_bytes")
    held = cross + record["model_bytes"] if cross else 0
    ratio = f"{record['peak_above'] / held:.2f}" if cross else ""
    sizes = [memory(cross) if cross else "", memory(record["model_bytes"]), ratio]
    off = f"{record['difference']:.0e}" if "difference" in record else ""
    return [*row, time_of(record["fit_seconds"]), peak, *sizes, off]
