"""The table of the benchmarks: results.jsonl (and lme4_once.json) -> markdown.

    python benchmarks/report.py              # print the table
    python benchmarks/report.py --write      # put it between the markers of README.md

Times are comparable only at the same optimum: an engine whose criterion lies more than 1e-4 above
the lowest of the row gets no time in the table, but the excess.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- table: written by report.py -->", "<!-- end of table -->"
SAME_OPTIMUM = 1e-4
ORDER = ["lmmfast", "lme4", "mixedlm", "glmm", "lme-python", "statsmodels", "gpboost"]

Results = dict[str, dict[str, dict[str, Any]]]


def read() -> Results:
    """Take the last result of every pair; single runs of lme4 fill what was not run again."""
    found: Results = {}
    once = json.loads((HERE / "lme4_once.json").read_text())
    lines = (HERE / "results.jsonl").read_text().splitlines()
    for record in [*once, *map(json.loads, lines)]:
        found.setdefault(record["problem"], {})[record["engine"]] = record
    return found


def cell(record: dict[str, Any] | None, best: float) -> str:
    """Seconds, or why there are none."""
    if record is None:
        return ""
    if record["status"] != "ok":
        return record["status"].replace("no answer within", ">")
    excess = record["objective"] - best
    if excess > SAME_OPTIMUM:
        return f"not at the optimum (+{excess:.2g})"
    return f"{seconds(record['seconds'])}{'*' if record.get('once') else ''}"


def seconds(value: float) -> str:
    """Three significant digits, ms below a tenth of a second."""
    if value < 0.1:
        return f"{1000 * value:.2g} ms"
    return f"{value:,.0f} s" if value >= 100 else f"{value:.2g} s"


def table(results: Results) -> str:
    """One row per problem, one column per engine, and how many times faster lmmfast is."""
    from problems import PROBLEMS

    lines = [
        f"| problem | {' | '.join(ORDER)} | fastest other / lmmfast |",
        f"|---|{'---|' * (len(ORDER) + 1)}",
    ]
    for name in PROBLEMS:
        row = results.get(name, {})
        valid = {k: r for k, r in row.items() if r["status"] == "ok"}
        if not valid:
            continue
        best = min(record["objective"] for record in valid.values())
        times = {k: r["seconds"] for k, r in valid.items() if r["objective"] - best <= SAME_OPTIMUM}
        ours = times.pop("lmmfast", None)
        ratio = f"{min(times.values()) / ours:.3g}" if ours and times else ""
        cells = " | ".join(cell(row.get(engine), best) for engine in ORDER)
        lines.append(f"| {name} | {cells} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="into README.md, between the markers")
    text = table(read())
    if not parser.parse_args().write:
        print(text)
        return
    path = HERE / "README.md"
    before, rest = path.read_text().split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
