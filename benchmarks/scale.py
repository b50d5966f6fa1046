"""The scale benchmarks: large data, fresh processes, time and peak memory.

    python benchmarks/scale.py workers                          # beside lme4
    python benchmarks/scale.py pupils                           # beside lme4
    python benchmarks/scale.py mega                             # beside LAPACK, 1 and 2 threads
    python benchmarks/scale.py ratings                          # 25 million rows, iterative
    python benchmarks/scale.py ratings --compare                # iterative beside exact
    python benchmarks/scale.py parquet                          # 10 million rows that are streamed
    python benchmarks/scale.py dask                             # the same files on two workers
    python benchmarks/scale.py curves                           # slopes and scale.png
    python benchmarks/scale.py ways                             # dense, sparse, iterative
    python benchmarks/scale.py report                           # tables of scale.jsonl

Every measurement runs in a process of its own with one BLAS thread; it appends a line to
benchmarks/scale.jsonl. Data are simulated with fixed seeds and kept in the folder for temporary
files (or LMMFAST_SCALE_DATA). Time and memory are those of the call, the columns being at hand; the
memory is the highest resident memory beyond what was there before the call.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scale_measure import OUT, Asked, Record, append, cache, data_of, measured
from scale_problems import PROBLEMS

TRIALS = "y ~ x + cond + (1 + x | subj) + (1 | item)"


# ---- beside lme4 --------------------------------------------------------------------------------


def beside_lme4(asked: Asked, name: str, case: str, **arguments: Any) -> None:
    """One size of a problem with lmmfast, and with lme4 where that is wanted."""
    folder, formula = data_of(name, asked, **arguments), PROBLEMS[name].formula
    size = next(iter(arguments.values()))
    own = {"folder": folder, "formula": formula, "repeats": asked.repeats}
    marks = {"size": case, "truth": dict(PROBLEMS[name].truth)}
    ours = measured(asked, name, f"{case}, lmmfast", "fit", {**marks, "engine": "lmmfast"}, **own)
    if size > asked.lme4_to:
        return
    theirs = measured(asked, name, f"{case}, lme4", "lme4", {**marks, "engine": "lme4"}, **own)
    if ours["status"] == theirs["status"] == "ok":
        off = theirs["objective"] - ours["objective"]
        same = abs(off) <= 1e-6 * abs(ours["objective"])
        print(f"  objectives {'agree' if same else 'DIFFER'}: lme4's is {off:+.2g} from ours")


def workers(asked: Asked) -> None:
    """Workers at firms, five years each, ten times as many workers as firms."""
    for size in asked.sizes:
        sizes = {"n_workers": size, "n_firms": size // 10}
        beside_lme4(asked, "workers", f"{size:,} workers", **sizes)


def pupils(asked: Asked) -> None:
    """Pupils in schools and neighbourhoods, four years each."""
    for size in asked.sizes:
        sizes = {"n_pupils": size, "n_schools": size // 50, "n_neighbourhoods": size // 12}
        beside_lme4(asked, "pupils", f"{size:,} pupils", **sizes)


# ---- beside LAPACK ------------------------------------------------------------------------------


def mega(asked: Asked) -> None:
    """The megastudy: evaluations beside dpotrf + dpotri of their order, on 1 and on 2 threads."""
    sizes = {"n": asked.n, "subjects": asked.subjects, "items": asked.items}
    folder = data_of("mega", asked, **sizes)
    own = {"folder": folder, "formula": PROBLEMS["mega"].formula, "repeats": asked.repeats}
    for threads in asked.threads:
        case = f"{asked.n:,} rows, {threads} thread{'s' if threads > 1 else ''}"
        record = measured(asked, "mega", case, "fit", **own, threads=threads, lapack=5)
        if record["status"] == "ok":
            bound = record["evals"] * record["lapack"]
            print(f"  fit / (evaluations x LAPACK) = {record['fit_seconds'] / bound:.2f}")


# ---- iterative ----------------------------------------------------------------------------------


def ratings(asked: Asked) -> None:
    """MovieLens' shape: iterative at full size; with --compare beside the exact way at less."""
    if asked.compare:
        sizes = {"n": 2_000_000, "users": 20_000, "movies": 8_000}
        ways = ("iterative", "dense")
    else:
        sizes = {"n": 25_000_000, "users": 162_000, "movies": 59_000}
        ways = ("iterative",)
    sizes |= {name: own for name in sizes if (own := getattr(asked, name)) is not None}
    folder = data_of("ratings", asked, **sizes)
    own = {"folder": folder, "formula": PROBLEMS["ratings"].formula, "repeats": 0}
    for way in ways:
        for threads in asked.threads if way == "iterative" else (1,):
            case = f"{sizes['n']:,} rows, {way}, {threads} thread{'s' if threads > 1 else ''}"
            extra = {"storage": way, "threads": threads, "evaluations": asked.evaluations}
            marks = {"sizes": sizes, "truth": [0.4, 0.6]}
            measured(asked, "ratings", case, "fit", marks, **own, **extra, errors=True)


# ---- rows that are not in memory ----------------------------------------------------------------


def _parquet(asked: Asked, n: int) -> str:
    sizes = {"n": n, "subjects": asked.subjects, "items": asked.items}
    folder = cache("trials", sizes)
    if not folder.exists():
        case = f"{n:,} rows, written"
        measured(asked, "parquet", case, "write_parquet", folder=str(folder), **sizes)
    return str(folder)


def parquet(asked: Asked) -> None:
    """Streamed fits of a directory of Parquet files; of fewer rows beside the fit in memory."""
    for n in (asked.small, asked.n):
        own = {"folder": _parquet(asked, n), "formula": TRIALS}
        found = measured(asked, "parquet", f"{n:,} rows, streamed", "stream", **own)
        if n == asked.small or asked.whole:
            other = measured(asked, "parquet", f"{n:,} rows, in memory", "whole", **own)
            _compare(asked, found, other)


def dask(asked: Asked) -> None:
    """A cluster of two processes beside streaming in one."""
    own = {"folder": _parquet(asked, asked.n), "formula": TRIALS}
    one = measured(asked, "dask", f"{asked.n:,} rows, streamed", "stream", **own)
    two = measured(asked, "dask", f"{asked.n:,} rows, 2 workers", "cluster", **own)
    _compare(asked, one, two)


def _compare(asked: Asked, one: Record, other: Record) -> None:
    if one["status"] == other["status"] == "ok":
        worst = difference(one, other)
        append({**other, "difference": worst}, asked.out)
        print(f"  largest relative difference {worst:.1g}: {'equal' if worst < 1e-10 else 'NOT'}")


def difference(one: Record, other: Record) -> float:
    """Largest relative difference of objective, fixed effects and standard deviations."""
    pairs = [(one["objective"], other["objective"])]
    for name in ("fixed", "sds"):
        pairs += zip(one[name].values(), other[name].values(), strict=True)
    return max(abs(a - b) / abs(b) for a, b in pairs)


# ---- command line -------------------------------------------------------------------------------


def _curves(asked: Asked) -> None:
    from scale_curves import curves, draw

    curves(asked)
    print(draw(asked.out, asked.png))


def _ways(asked: Asked) -> None:
    from scale_curves import draw, ways

    ways(asked)
    print(draw(asked.out, asked.png))


def _report(asked: Asked) -> None:
    from scale_curves import draw
    from scale_report import tables

    print(tables(asked.out), draw(asked.out, asked.png), sep="\n\n")


def numbers(text: str) -> list[int]:
    """Numbers separated by commas; underscores are welcome."""
    return [int(part) for part in text.split(",")]


def _command(name: str, run: Callable[[Asked], None], commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=(run.__doc__ or "").split("\n")[0])
    parser.set_defaults(run=run)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds of one measurement")
    return parser


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, run, sizes in (
        ("workers", workers, [10_000, 100_000]),
        ("pupils", pupils, [10_000, 50_000]),
    ):
        own = _command(name, run, commands)
        own.add_argument("--sizes", type=numbers, default=sizes)
        own.add_argument("--lme4-to", type=int, default=100_000, help="largest size for lme4")
        own.add_argument("--repeats", type=int, default=3)
    own = _command("mega", mega, commands)
    _sizes(own, n=1_000_000, subjects=800, items=28_000, repeats=1)
    own.add_argument("--threads", type=numbers, default=[1, 2])
    own = _command("ratings", ratings, commands)
    _sizes(own, n=None, users=None, movies=None, evaluations=3)
    own.add_argument("--threads", type=numbers, default=[1])
    own.add_argument("--compare", action="store_true", help="2 million rows, dense too")
    own = _command("parquet", parquet, commands)
    _sizes(own, n=10_000_000, small=1_000_000, subjects=2_000, items=500)
    own.add_argument("--whole", action="store_true", help="all rows in memory too")
    _sizes(_command("dask", dask, commands), n=10_000_000, subjects=2_000, items=500)
    _plot_options(commands)
    return parser


def _plot_options(commands: Any) -> None:
    own = _command("curves", _curves, commands)
    own.add_argument("--only", default="rows,levels,columns", help="which, separated by commas")
    own.add_argument("--shrink", type=int, default=1, help="sizes divided by this, for a trial")
    other = _command("ways", _ways, commands)
    other.add_argument(
        "--orders", type=numbers, default=[500, 1000, 2000, 4000, 8000, 16000, 32000]
    )
    other.add_argument("--limit", type=float, default=4.0, help="no larger order after so many s")
    for parser in (own, other, _command("report", _report, commands)):
        parser.add_argument("--png", type=Path, default=OUT.with_suffix(".png"))


def _sizes(parser: argparse.ArgumentParser, **defaults: int | None) -> None:
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)


def main() -> None:
    """Command line."""
    asked = _options().parse_args()
    asked.run(asked)


if __name__ == "__main__":
    main()
