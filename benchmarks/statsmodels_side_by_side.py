"""The same calls to statsmodels and to lmmfast, side by side: log likelihoods, then times.

    python benchmarks/statsmodels_side_by_side.py                 # everything: a quarter of an hour
    python benchmarks/statsmodels_side_by_side.py --cases slide_4,nested --timeout 60
    python benchmarks/statsmodels_side_by_side.py --write         # the table into README.md

Every case is a process of its own with one thread, in which lmmfast runs first and statsmodels
second, on the same frame and by the same code: only `mixedlm` and `MixedLM` are another's. The time
is that of a whole call: formula and frame to model, `fit()`, then params, bse, pvalues, conf_int()
and the text of summary(); of slide 11 that of its simulations and p-values. Calls are repeated
(median of those after the first) while they take less than ten seconds together. A process may use
16 GB. Results are appended to benchmarks/statsmodels.jsonl; the last of a case counts.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from problems import megastudy, one_factor, reference_frame
from report import seconds
from run import HERE, THREADS, circumstances

OUT = HERE / "statsmodels.jsonl"
BEGIN, END = "<!-- statsmodels -->", "<!-- end statsmodels -->"
ENGINES = ("lmmfast", "statsmodels")
SAME_OPTIMUM = 1e-4  # of log likelihoods
WARM_SECONDS = 10.0  # no further repeats after this much time
REPEATS = 15
GIGABYTES = 16


@dataclass(frozen=True)
class Package:
    """What a case calls: one package's names, and options that only statsmodels needs."""

    mixedlm: Callable[..., Any]
    MixedLM: Callable[..., Any]
    is_statsmodels: bool

    @property
    def sparse(self) -> dict[str, bool]:
        """For models with many dummies: statsmodels' faster way for them."""
        return {"use_sparse": self.is_statsmodels}


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes
    ----------
    title : str
        What is fitted, for the table.
    load : callable
        Gives the data.
    fits : callable
        (package, data) -> log likelihoods of the fits of one call.
    """

    title: str
    load: Callable[[], pd.DataFrame]
    fits: Callable[[Package, pd.DataFrame], list[float]]


def numbers(result: Any) -> float:
    """Read what a user reads; the log likelihood."""
    assert len(result.params) == len(result.bse) == len(result.pvalues) == len(result.conf_int())
    assert "Coef." in str(result.summary())
    return float(result.llf)


def by_formula(formula: str, **kwargs: Any) -> Callable[[Package, pd.DataFrame], list[float]]:
    """One fit of `mixedlm`."""

    def fits(package: Package, data: pd.DataFrame) -> list[float]:
        return [numbers(package.mixedlm(formula, data, **kwargs).fit())]

    return fits


def by_crossed(formula: str, *factors: str) -> Callable[[Package, pd.DataFrame], list[float]]:
    """One fit with crossed factors: one group of all rows, and dummies of each factor."""
    vc = {name: f"0 + C({name})" for name in factors}

    def fits(package: Package, data: pd.DataFrame) -> list[float]:
        groups = np.ones(len(data))
        model = package.mixedlm(formula, data, groups=groups, vc_formula=vc, **package.sparse)
        return [numbers(model.fit())]

    return fits


# ---- data ---------------------------------------------------------------------------------------


def pairs() -> pd.DataFrame:
    """125,066 groups, two categorical variables and a number (statsmodels issue 9097)."""
    frame = one_factor(125_066, 4)
    rng = np.random.default_rng(6)
    frame["cat1"] = np.array(["a", "b", "c"])[rng.integers(0, 3, len(frame))]
    frame["cat2"] = np.array(["u", "v"])[rng.integers(0, 2, len(frame))]
    frame["unit"] = frame["g"].cat.codes.to_numpy(np.int64)
    return frame.drop(columns="g")


def crossed(n: int) -> Callable[[], pd.DataFrame]:
    """About n rows, every subject with a tenth of the items: the shape of 1,000 x 4,000 x 400."""
    scale = (n / 400_000) ** 0.5

    def load() -> pd.DataFrame:
        frame = megastudy(round(1000 * scale), round(4000 * scale), round(400 * scale))
        return frame.astype({"subj": str, "item": str})

    return load


def blood_pressure() -> pd.DataFrame:
    """Data of the first tutorial."""
    bp = [140, 150, 160, 145, 155, 150, 148, 152, 160, 158, 135, 148, 158, 140, 150]
    bp += [148, 145, 150, 155, 153, 130, 145, 155, 135, 145, 142, 140, 145, 150, 150]
    time_num = np.repeat([0, 1, 2], 10)
    return pd.DataFrame({"patient": list(range(1, 11)) * 3, "bp": bp, "time_num": time_num})


def slide_1() -> pd.DataFrame:
    """Data of the second tutorial: noise, four subjects."""
    np.random.seed(1)  # noqa: NPY002 (the tutorial's generator)
    return pd.DataFrame(
        {
            "subject": np.repeat(["A", "B", "C", "D"], 5),
            "time": np.tile(range(5), 4),
            "treatment": np.repeat(["control", "treatment"], 10),
            "response": np.random.normal(0, 1, 20),  # noqa: NPY002
        }
    )


def slide_7() -> pd.DataFrame:
    """Its crossed data, as its seed makes them."""
    np.random.seed(42)  # noqa: NPY002
    n_subjects, n_items = 50, 30
    n_obs = n_subjects * n_items
    return pd.DataFrame(
        {
            "subject": np.repeat(range(n_subjects), n_items),
            "item": np.tile(range(n_items), n_subjects),
            "condition": np.random.choice(["A", "B"], n_obs),  # noqa: NPY002
            "response": np.random.normal(0, 1, n_obs),  # noqa: NPY002
        }
    )


def slide_8() -> pd.DataFrame:
    """The same with missing responses; left out beforehand, as groups=np.ones(n) asks for."""
    data = slide_7()
    data.loc[np.random.choice(data.index, 100), "response"] = np.nan  # noqa: NPY002
    return data.dropna().reset_index(drop=True)


def power(package: Package, _: pd.DataFrame) -> list[float]:
    """Slide 11: 1,000 data sets and fits, of which it asks for a p-value."""
    np.random.seed(11)  # noqa: NPY002
    found, significant = [], 0
    for _ in range(1000):
        subjects = np.repeat(range(20), 5)
        x = np.random.normal(0, 1, 100)  # noqa: NPY002
        effects = np.random.normal(0, 0.5, 20)  # noqa: NPY002
        y = 0.3 * x + np.repeat(effects, 5) + np.random.normal(0, 1, 100)  # noqa: NPY002
        data = pd.DataFrame({"subject": subjects, "X": x, "y": y})
        result = package.mixedlm("y ~ X", data, groups="subject").fit()
        significant += result.pvalues["X"] < 0.05
        found.append(float(result.llf))
    assert significant > 500
    return found


def pigs() -> pd.DataFrame:
    """Growth of 72 pigs in 12 weeks, intercepts and slopes by pig (the size of dietox)."""
    rng = np.random.default_rng(7)
    pig = np.repeat(np.arange(72), 12)
    week = np.tile(np.arange(1.0, 13.0), 72)
    own = rng.multivariate_normal([15.7, 6.9], [[19.5, 0.3], [0.3, 0.42]], 72)
    weight = own[pig, 0] + own[pig, 1] * week + rng.normal(0, 2.5, len(pig))
    return pd.DataFrame({"Pig": pig, "Time": week, "Weight": weight})


def classes() -> pd.DataFrame:
    """Pupils in 5 classes in each of 200 schools."""
    rng = np.random.default_rng(8)
    cls = np.repeat(np.arange(1000), 10)
    x = rng.normal(size=len(cls))
    y = 2 * x + rng.normal(0, 3, 200)[cls // 5] + rng.normal(0, 2, 1000)[cls]
    y = y + rng.normal(0, 5, len(cls))
    return pd.DataFrame({"school": cls // 5, "cls": cls, "x": x, "y": y})


def by_arrays(package: Package, data: pd.DataFrame) -> list[float]:
    """`MixedLM` with arrays: random intercepts and slopes."""
    columns = np.column_stack([np.ones(len(data)), data["Time"]])
    model = package.MixedLM(data["Weight"], columns, groups=data["Pig"], exog_re=columns)
    return [numbers(model.fit())]


_MEGASTUDY = by_crossed("lrt ~ freq + length + prior", "subj", "item")

CASES: dict[str, Case] = {
    "intercepts_125k": Case(
        "random intercepts, 125,066 groups of 4 rows, two factors and a number",
        pairs,
        by_formula("y ~ C(cat1) + C(cat2) + x", groups="unit"),
    ),
    "crossed_4k": Case("100 subjects x 400 items, crossed", crossed(4_000), _MEGASTUDY),
    "crossed_10k": Case("158 subjects x 632 items, crossed", crossed(10_000), _MEGASTUDY),
    "crossed_25k": Case("250 subjects x 1,000 items, crossed", crossed(25_000), _MEGASTUDY),
    "crossed_40k": Case("316 subjects x 1,265 items, crossed", crossed(40_000), _MEGASTUDY),
    "crossed_70k": Case("418 subjects x 1,673 items, crossed", crossed(70_000), _MEGASTUDY),
    "crossed_400k": Case("1,000 subjects x 4,000 items, crossed", crossed(400_000), _MEGASTUDY),
    "blood_pressure": Case(
        "first tutorial: 10 patients",
        blood_pressure,
        by_formula("bp ~ time_num", groups="patient"),
    ),
    "slide_1": Case(
        "second tutorial, slide 1: random intercepts, 4 subjects",
        slide_1,
        by_formula("response ~ time + treatment", groups="subject"),
    ),
    "slide_4": Case(
        "slide 4: random slopes, 4 subjects",
        slide_1,
        by_formula("response ~ time + treatment", groups="subject", re_formula="~time"),
    ),
    "slide_7": Case(
        "slide 7: 50 subjects x 30 items, crossed",
        slide_7,
        by_crossed("response ~ condition", "subject", "item"),
    ),
    "slide_8": Case(
        "slide 8: the same, rows missing",
        slide_8,
        by_crossed("response ~ condition", "subject", "item"),
    ),
    "slide_11": Case(
        "slide 11: power simulation, 1,000 data sets and fits of 100 rows", pd.DataFrame, power
    ),
    "pigs": Case(
        "random slopes, 72 pigs, 12 weeks",
        pigs,
        by_formula("Weight ~ Time", groups="Pig", re_formula="~Time"),
    ),
    "pigs_arrays": Case("the same by MixedLM with arrays", pigs, by_arrays),
    "pastes": Case(
        "Pastes: casks in 10 batches, vc_formula",
        lambda: reference_frame("Pastes"),
        by_formula(
            "strength ~ 1", groups="batch", re_formula="1", vc_formula={"cask": "0 + C(cask)"}
        ),
    ),
    "nested": Case(
        "1,000 classes in 200 schools, vc_formula",
        classes,
        by_formula("y ~ x", groups="school", re_formula="1", vc_formula={"cls": "0 + C(cls)"}),
    ),
}


# ---- runs ---------------------------------------------------------------------------------------


def package(engine: str) -> Package:
    """The names of one package."""
    if engine == "lmmfast":
        import lmmfast

        return Package(lmmfast.mixedlm, lmmfast.MixedLM, False)
    from statsmodels.formula.api import mixedlm
    from statsmodels.regression.mixed_linear_model import MixedLM

    return Package(mixedlm, MixedLM, True)


def timed(engine: str, case: Case, data: pd.DataFrame) -> dict[str, Any]:
    """Log likelihoods and the median time of a call; of one call alone where it is slow."""
    times: list[float] = []
    try:
        own = package(engine)
        while len(times) <= REPEATS and sum(times) < WARM_SECONDS:
            begin = time.perf_counter()
            llf = case.fits(own, data)
            times.append(time.perf_counter() - begin)
    except Exception as error:  # a package may fail in any way: that is a result
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return {"engine": engine, "status": "failed", "reason": reason}
    return {
        "engine": engine,
        "status": "ok",
        "llf": llf,
        "seconds": statistics.median(times[1:] or times),
        "first": times[0],
        "calls": len(times),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def child(name: str) -> None:
    """Both packages on one case: a line of JSON each."""
    resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30, GIGABYTES << 30))
    warnings.simplefilter("ignore")
    case = CASES[name]
    data = case.load()
    print(json.dumps({"engine": "data", "rows": len(data)}), flush=True)
    for engine in ENGINES:
        print(json.dumps(timed(engine, case, data)), flush=True)


def in_own_process(name: str, timeout: float) -> dict[str, Any]:
    """One case in a process with one thread, killed `timeout` seconds after it began."""
    load = os.getloadavg()[0]
    command = [sys.executable, __file__, "--child", "--cases", name]
    quiet = subprocess.DEVNULL  # statsmodels warns whatever the filter says
    env = {**os.environ, **dict.fromkeys(THREADS, "1")}
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=quiet, env=env, timeout=timeout, check=False
        )
        reason = signal.strsignal(-done.returncode) if done.returncode < 0 else "no result"
        out, missing = done.stdout, {"status": "failed", "reason": reason}
    except subprocess.TimeoutExpired as late:
        out, missing = late.stdout or b"", {"status": f"no answer within {timeout:g} s"}
    found = {record["engine"]: record for record in map(json.loads, out.decode().splitlines())}
    for engine in ENGINES:
        found.setdefault(engine, {"engine": engine, **missing})
    record = {"case": name, "rows": found.get("data", {}).get("rows", 0)}
    record |= compared(*(found[engine].pop("llf", None) for engine in ENGINES))
    record |= {engine: found[engine] for engine in ENGINES}
    packages = ("statsmodels", "numpy", "scipy", "pandas")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {**record, "versions": versions, **circumstances(load)}


def compared(ours: Sequence[float] | None, theirs: Sequence[float] | None) -> dict[str, Any]:
    """statsmodels' log likelihood minus lmmfast's: the extremes over the fits of a case."""
    out: dict[str, Any] = {}
    for name, llf in (("llf_lmmfast", ours), ("llf_statsmodels", theirs)):
        if llf is not None:
            out[name] = float(np.sum(llf))
    if ours is None or theirs is None:
        return out
    gaps = np.subtract(theirs, ours)
    return {
        **out,
        "fits": len(gaps),
        "gap_min": float(gaps.min()),
        "gap_max": float(gaps.max()),
        "lower": int((gaps < -SAME_OPTIMUM).sum()),
        "higher": int((gaps > SAME_OPTIMUM).sum()),
    }


# ---- table --------------------------------------------------------------------------------------


def likelihoods(record: dict[str, Any]) -> str:
    """Who is higher, and by how much."""
    if "gap_min" not in record:
        return ""
    low, high = record["gap_min"], record["gap_max"]
    if not record["lower"] and not record["higher"]:
        return f"the same to {max(abs(low), abs(high), 1e-10):.0e}"
    of = f" in {record['lower']} of {record['fits']}" if record["fits"] > 1 else ""
    parts = [f"lmmfast higher{of} by {'up to ' if of else ''}{-low:.2g}"] if record["lower"] else []
    parts += [f"statsmodels higher by {high:.2g}"] if record["higher"] else []
    return ", ".join(parts)


def cell(found: dict[str, Any]) -> str:
    """Seconds, or why there are none."""
    if found["status"] == "ok":
        return seconds(found["seconds"])
    reason = found.get("reason", "").split(":")[0]
    status = found["status"].replace("no answer within", ">")
    return f"{status} ({reason})" if reason else status


def table(path: Path) -> str:
    """One row per case, in the order of the script."""
    lines = path.read_text().splitlines() if path.exists() else []
    last = {record["case"]: record for record in map(json.loads, lines)}
    rows = [
        "| case | rows | log likelihood | lmmfast | statsmodels | statsmodels / lmmfast |",
        "|---|---|---|---|---|---|",
    ]
    for name, case in CASES.items():
        if name not in last:
            continue
        record = last[name]
        ours, theirs = (record[engine] for engine in ENGINES)
        both = ours["status"] == theirs["status"] == "ok"
        ratio = f"{theirs['seconds'] / ours['seconds']:,.0f}" if both else ""
        size = f"{record['rows']:,}" if record["rows"] else ""
        cells = [case.title, size, likelihoods(record), cell(ours), cell(theirs), ratio]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", default=",".join(CASES), help="names, separated by commas")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one case")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--write", action="store_true", help="only the table, into README.md")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    names = asked.cases.split(",")
    for name in names:
        if name not in CASES:
            parser.error(f"unknown case {name!r}; known: {', '.join(CASES)}")
    if asked.child:
        child(names[0])
        return
    if asked.write:
        path = HERE / "README.md"
        before, rest = path.read_text().split(BEGIN)
        path.write_text(f"{before}{BEGIN}\n{table(asked.out)}\n{END}{rest.split(END)[1]}")
        return
    for name in names:
        record = in_own_process(name, asked.timeout)
        times = "  ".join(f"{engine} {cell(record[engine])}" for engine in ENGINES)
        print(f"{name:16s} {times}  {likelihoods(record)}", flush=True)
        with asked.out.open("a") as file:
            file.write(json.dumps(record) + "\n")
    print(table(asked.out))


if __name__ == "__main__":
    main()
