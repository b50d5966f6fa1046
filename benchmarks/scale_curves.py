"""Time and memory against rows, levels, columns and parameters; three ways to hold the same model.

Slopes are those of least squares through the logarithms of the upper half of a series (three points
at least): below it, what every call costs hides the growth.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scale_measure import Asked, Record, data_of, last_records, measured
from scale_problems import PROBLEMS

__all__ = ["curves", "draw", "slopes", "ways", "ways_table"]

MEASURES = {
    "evaluation": "an evaluation",
    "setup": "formula and set-up",
    "fit_seconds": "minimizing",
    "peak_above": "peak memory",
}
ONE, TWO = PROBLEMS["single"].formula, PROBLEMS["crossed"].formula
FIRMS = PROBLEMS["workers"].formula
COLUMNS, MOST = (1, 2, 3, 4, 6, 8, 12), 12
Point = tuple[str, str, str, dict[str, int], str]  # axis, series, problem, its arguments, formula


# ---- what is measured ---------------------------------------------------------------------------


def _rows() -> Iterator[Point]:
    for n in (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000):
        yield "rows", "one factor, 1,000 levels", "single", {"n": n, "levels": 1_000}, ONE
        yield "rows", "crossed, 1,000 x 500 levels", "crossed", {"n": n, "levels": 1_000}, TWO


def _levels() -> Iterator[Point]:
    fixed = 300_000
    for m in (1_000, 3_000, 10_000, 30_000, 100_000):
        yield "levels", "one factor, 300,000 rows", "single", {"n": fixed, "levels": m}, ONE
        yield "levels", "one factor, 10 rows a level", "single", {"n": 10 * m, "levels": m}, ONE
    for m in (200, 600, 2_000, 4_000, 8_000):
        yield "levels", "crossed, 300,000 rows", "crossed", {"n": fixed, "levels": m}, TWO
        yield "levels", "crossed, 50 rows a level", "crossed", {"n": 75 * m, "levels": m}, TWO
    for m in (3_000, 10_000, 30_000, 100_000, 300_000):
        sizes = {"n_workers": m, "n_firms": m // 10}
        yield "levels", "workers at firms, 5 rows a worker", "workers", sizes, FIRMS


def _columns() -> Iterator[Point]:
    for k in COLUMNS:
        sizes = {"n": 100_000, "levels": 200, "columns": k}
        yield "columns", "all columns correlated", "crossed", sizes, _in_terms(k, k)
    sizes = {"n": 100_000, "levels": 200, "columns": MOST}
    for size in (1, 2, 3, 4, 6, 12):
        yield (
            "parameters",
            "12 columns, in terms of 1 to 12",
            "crossed",
            sizes,
            _in_terms(MOST, size),
        )


def _in_terms(columns: int, size: int) -> str:
    """The formula with this many columns by both factors, in terms of a size."""
    names = ["1", *(f"z{j}" for j in range(1, columns))]
    bars = []
    for a in range(0, columns, size):
        inside = " + ".join(names[a : a + size] if a == 0 else ["0", *names[a : a + size]])
        bars += [f"({inside} | g)", f"({inside} | h)"]
    return f"y ~ {' + '.join(names)} + {' + '.join(bars)}"


def curves(asked: Asked) -> None:
    """Time and memory against rows, levels, columns and parameters."""
    made = {"rows": _rows, "levels": _levels, "columns": _columns}
    for name in asked.only.split(","):
        for axis, series, problem, arguments, formula in made[name]():
            sizes = {k: v if k == "columns" else v // asked.shrink for k, v in arguments.items()}
            folder = data_of(problem, asked, **sizes)
            own = {"folder": folder, "formula": formula, "repeats": 3}
            at = ", ".join(f"{k} {v:,}" for k, v in sizes.items())
            at += f", terms {formula.count('| g')}" if axis == "parameters" else ""
            marks = {"axis": axis, "series": series, "columns": arguments.get("columns", 1)}
            measured(asked, "curves", f"{axis}: {series}: {at}", "fit", marks, **own)


# ---- three ways ---------------------------------------------------------------------------------


def _local(order: int) -> tuple[str, dict[str, int]]:
    return "workers", {"n_workers": 10 * order, "n_firms": order}


def _random(order: int) -> tuple[str, dict[str, int]]:
    users = 3 * order
    return "ratings", {"n": 50 * users, "users": users, "movies": order}


KINDS = {"local markets": _local, "random meetings": _random}


def ways(asked: Asked) -> None:
    """Crossed models of rising trailing order, solved dense, sparse and iteratively."""
    for kind, sizes_of in KINDS.items():
        left = {"dense", "sparse", "iterative"}
        for order in asked.orders:
            problem, sizes = sizes_of(order)
            for way in sorted(left):
                record = _way(asked, kind, order, problem, sizes, way)
                if record["status"] != "ok" or record["evaluation"] > asked.limit:
                    left.discard(way)


def _way(
    asked: Asked, kind: str, order: int, problem: str, sizes: dict[str, int], way: str
) -> Record:
    truth = list(PROBLEMS[problem].truth.values())
    theta = [sd / truth[-1] for sd in truth[:-1]]
    own: dict[str, Any] = {"folder": data_of(problem, asked, **sizes), "theta": theta}
    own |= {"formula": PROBLEMS[problem].formula, "storage": way}
    marks = {"kind": kind, "asked_order": order, "way": way}
    return measured(asked, "ways", f"{kind}, order {order:,}, {way}", "evaluate", marks, **own)


def ways_table(records: Sequence[Record]) -> str:
    """Seconds of an evaluation by order and way."""
    own_way = [r for r in records if r["storage"] == r["way"]]
    found = {(r["kind"], r["asked_order"], r["way"]): r for r in own_way}
    lines = [
        "| crossing | trailing order | rows | not zero | dense | sparse | iterative |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, order in dict.fromkeys((k, o) for k, o, _ in found):
        own = {way: found.get((kind, order, way), {}) for way in ("dense", "sparse", "iterative")}
        made = [r for r in own.values() if "evaluation" in r]
        if not made:
            continue
        times = " | ".join(_time(r.get("evaluation")) for r in own.values())
        density = max(r["density"] for r in made)
        share = f"{100 * density:.2g} %" if density >= 0 else ""
        lines.append(f"| {kind} | {made[0]['order']:,} | {made[0]['n']:,} | {share} | {times} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _time(value: float | None) -> str:
    if value is None:
        return ""
    return f"{1e3 * value:.2g} ms" if value < 0.1 else f"{value:.2g} s"


# ---- slopes -------------------------------------------------------------------------------------


def _abscissa(record: Record) -> float:
    """Where a record lies on its axis."""
    axis = record["axis"]
    if axis == "levels":
        return float(sum(record["levels"].values()))
    return float(record["n"] if axis == "rows" else record[axis])


def _ordinate(record: Record, measure: str) -> float:
    value = record["seconds"] - record["fit_seconds"] if measure == "setup" else record[measure]
    return max(float(value), 1e-9)


def _series(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    out: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record["benchmark"] == "curves" and record["status"] == "ok":
            out[record["axis"], record["series"]].append(record)
    return {key: sorted(own, key=_abscissa) for key, own in out.items()}


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the logarithms, through the upper half of the points, three at least."""
    count = min(len(x), max(3, math.ceil(len(x) / 2)))
    if count < 2:
        return math.nan
    return float(np.polyfit(np.log(x[-count:]), np.log(y[-count:]), 1)[0])


def slopes(records: Sequence[Record]) -> str:
    """Markdown table of the slopes, and the largest point of each series."""
    lines = [
        f"| against | series | to | way | {' | '.join(MEASURES.values())} | largest: whole call |",
        f"|---|---|---|---|{'---|' * len(MEASURES)}---|",
    ]
    for (axis, series), own in _series(records).items():
        x = [_abscissa(record) for record in own]
        found = (slope(x, [_ordinate(r, measure) for r in own]) for measure in MEASURES)
        ways_of = "/".join(dict.fromkeys(r["storage"] for r in own))
        cells = " | ".join(f"{value:.2f}" for value in found)
        last = f"{_time(own[-1]['seconds'])}, {own[-1]['peak_above'] / 1e6:,.0f} MB"
        lines.append(f"| {axis} | {series} | {x[-1]:,.0f} | {ways_of} | {cells} | {last} |")
    return "\n".join(lines) if len(lines) > 2 else ""


# ---- the picture --------------------------------------------------------------------------------

SHORT = {
    "one factor, 10 rows a level": "one factor, 10 rows each",
    "crossed, 300,000 rows": "crossed at random, 300,000 rows",
    "crossed, 50 rows a level": "crossed at random, 50 rows each",
    "workers at firms, 5 rows a worker": "workers and firms, 5 rows each",
    "all columns correlated": "1 to 12 columns, all correlated",
}
STYLE = {
    "font.size": 11,
    "axes.titlesize": 11.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.markersize": 4.5,
    "lines.linewidth": 1.8,
}


def draw(out: Path, png: Path) -> str:
    """Four panels, log-log; the tables of what is in them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    records = [r for r in last_records(out).values() if r["status"] == "ok"]
    made = [r for r in records if r["benchmark"] == "ways"]
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(2, 2, figsize=(12, 10.5), layout="constrained")
        _panel(axes[0, 0], records, ("rows",), "rows", "More rows, the same levels")
        _panel(axes[0, 1], records, ("levels",), "levels of all factors", "More levels")
        title = "More columns: 200 x 100 levels, 100,000 rows"
        _panel(axes[1, 0], records, ("columns", "parameters"), "variance parameters", title)
        _panel_of_ways(axes[1, 1], made)
        figure.savefig(png, dpi=130)
        pyplot.close(figure)
    return "\n\n".join(filter(None, (slopes(records), ways_table(made))))


def _panel(
    ax: Any, records: Sequence[Record], wanted: Sequence[str], label: str, title: str
) -> None:
    own_series = [item for item in _series(records).items() if item[0][0] in wanted]
    for number, ((_, series), own) in enumerate(own_series):
        many = "parameters" in wanted
        x = [r["parameters"] if many else _abscissa(r) for r in own]
        for measure, style in (("seconds", ":"), ("evaluation", "-")):
            named = SHORT.get(series, series) if measure == "evaluation" else None
            y = [r[measure] for r in own]
            ax.plot(x, y, style, marker="o", color=f"C{number}", label=named)
    _finish(ax, label, f"{title}\nsolid: an evaluation; dotted: the whole call")


def _panel_of_ways(ax: Any, records: Sequence[Record]) -> None:
    for kind, style in zip(KINDS, ("-", "--"), strict=True):
        for number, way in enumerate(("dense", "sparse", "iterative")):
            own = [r for r in records if r["kind"] == kind and r["storage"] == r["way"] == way]
            own.sort(key=lambda r: r["order"])
            if own:
                named = way if style == "-" else f"{way}, {kind}"
                x, y = [r["order"] for r in own], [r["evaluation"] for r in own]
                ax.plot(x, y, style, marker="o", color=f"C{number}", label=named)
    _finish(
        ax,
        "order of the trailing matrix",
        "Three ways to solve it\nan evaluation; solid: local markets",
    )


def _finish(ax: Any, label: str, title: str) -> None:
    ax.set(xscale="log", yscale="log", xlabel=label, ylabel="seconds")
    ax.set_title(title, loc="left")
    ax.grid(alpha=0.25)
    if ax.lines:
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * (high / low) ** 0.32)  # room for the legend
        ax.legend(fontsize=9.5, frameon=False, loc="upper left")
