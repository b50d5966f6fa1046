"""What a model will take before it is made: storage, memory and seconds an evaluation."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from typing import TypedDict

import numpy as np

from ..data.design import Design


class StorageReport(TypedDict):
    """How a model is stored; bytes and operations of an evaluation, NaN where not considered."""

    eliminated: int  # factors, from the first one on
    which: list[int]  # these, of the first 64
    order: int  # of the trailing matrix
    full: bool  # whether it is dense by nature
    identified: bool  # whether all covariance parameters can be told apart
    storage: str
    pairs: float  # of levels that occur together
    density: float  # share of the trailing matrix that is not zero; -1: not counted
    approach: bool
    ordered_by: str
    bytes: float
    rows: float  # bytes of the rows of a generalized model
    flops: float
    considered: dict[str, tuple[float, float]]  # bytes and operations by storage


NAMES = {  # of the trailing matrix: what is left when the first factor is eliminated
    "dense": "one dense Cholesky factor (LAPACK)",
    "sparse": "a sparse Cholesky factor",
    "iterative": "conjugate gradients; log-determinant and gradient are estimated",
}
SHOWN = 10  # grouping factors that a refusal names


@dataclass(frozen=True, repr=False)
class ModelPlan:
    """How a model would be stored and what that takes; printed, it is a table.

    Attributes
    ----------
    formula : str
    n, fixed, parameters : int
        Rows, columns of X, variance parameters.
    factors : tuple of (name, levels, columns, how)
        Grouping factors; ``how`` is "level by level" or "trailing matrix".
    storage : str
        "block diagonal", "dense", "sparse" or "iterative".
    order : int
        Order of the trailing matrix.
    density : float
        Share of the trailing matrix that is not zero; nan where it was not counted.
    ordered_by : str
        What found the fill-reducing order of a sparse trailing matrix; "" where none was asked for.
    approach : bool
        Whether fits take their first steps the iterative way, which is much cheaper, and end with
        exact evaluations.
    bytes, seconds : float
        Memory, and time of one evaluation with derivatives on one thread. A fit is about five
        evaluations.
    available : float
        Bytes that may be used now.
    rows : float
        Bytes of the rows of a generalized model, beside its memory; 0 of a linear one. What does
        not fit in memory is in files.
    considered : dict
        The same two numbers for each way that was considered.
    """

    formula: str
    n: int
    fixed: int
    parameters: int
    factors: tuple[tuple[str, int, int, str], ...]
    storage: str
    order: int
    density: float
    ordered_by: str
    approach: bool
    bytes: float
    seconds: float
    available: float
    considered: dict[str, tuple[float, float]]
    rows: float = 0.0

    @property
    def fits(self) -> bool:
        """Whether the memory is there."""
        return self.bytes <= self.available

    def __str__(self) -> str:
        return "\n".join([*self._levels(), *self._ways()])

    __repr__ = __str__

    def _levels(self) -> list[str]:
        rows = [("grouping factor", "levels", "columns", "solved")]
        rows += [(name, f"{m:,}", str(k), how) for name, m, k, how in self.factors]
        a, b, c, _ = (max(map(len, cells)) for cells in zip(*rows, strict=True))
        title = f"{self.formula}: " if self.formula else ""
        fixed = f"{self.fixed} fixed effect{'' if self.fixed == 1 else 's'}"
        variances = f"{self.parameters} variance parameter{'' if self.parameters == 1 else 's'}"
        lines = [f"{title}{self.n:,} rows, {fixed}, {variances}", ""]
        return lines + [
            f"{name:<{a}}  {m:>{b}}  {k:>{c}}  {how}".rstrip() for name, m, k, how in rows
        ]

    def _ways(self) -> list[str]:
        filled = "" if math.isnan(self.density) else f", {100 * self.density:.2g} % of it not zero"
        lines = ["", f"trailing matrix: order {self.order:,}{filled}", ""]
        if self.order == 0:
            lines[1] = "nothing is left behind: one block a level"
        lines.append(f"{'way':<15}{'memory':>10}  {'an evaluation':>14}")
        for name, (size, seconds) in self.considered.items():
            mark = "  <- " + NAMES[name] if name == self.storage else ""
            if mark and name == "sparse":
                mark += f" (order: {self.ordered_by})"
            if name == "iterative" and self.approach:
                mark = "  <- first steps of a fit"
            label = name
            if self.storage == "block diagonal":
                label, mark = self.storage, "  <- chosen"
            lines.append(f"{label:<15}{_memory(size):>10}  {_seconds(seconds):>14}{mark}")
        room = f"{_memory(self.available)} may be used" if self.available < math.inf else ""
        if not self.fits:
            room = f"it does not fit: {room}"
        said = [*self._rows(), *([room] if room else [])]
        return [*lines, "", *said] if said else lines

    def _rows(self) -> list[str]:
        """What the rows of a generalized model take."""
        if not self.rows:
            return []
        where = "in memory"
        if self.bytes + self.rows > self.available:
            where = f"in files in {tempfile.gettempdir()!r} what does not fit in memory"
        return [f"rows: {_memory(self.rows)} ({where}); less where equal rows are merged"]


def planned(design: Design, report: StorageReport, available: float) -> ModelPlan:
    """What the report of a compiled model says of its storages."""
    groups: dict[str, list[int]] = {}
    parameters = 0
    for term in design.terms:
        k = term.source.width
        if term.covariance is not None:
            parameters += term.covariance.nphi
        else:
            parameters += k if term.structure == "diag" else k * (k + 1) // 2
        levels, columns = groups.get(term.group, (len(term.levels), 0))
        groups[term.group] = [levels, columns + k]
    ways = ["trailing matrix"] * len(groups)
    for i in report["which"]:
        ways[i] = "level by level"
    parts = zip(groups.items(), ways, strict=True)
    rate, density = _rate(), report["density"]
    ways_considered = report["considered"].items()
    return ModelPlan(
        formula=design.formula,
        n=design.n,
        fixed=len(design.x_names),
        parameters=parameters,
        factors=tuple((name, levels, k, way) for (name, (levels, k)), way in parts),
        storage=report["storage"] if report["order"] else "block diagonal",
        order=report["order"],
        density=density if density >= 0 else math.nan,
        ordered_by=report["ordered_by"],
        approach=report["approach"],
        bytes=report["bytes"],
        seconds=report["flops"] / rate,
        available=available,
        considered={name: (size, flops / rate) for name, (size, flops) in ways_considered},
        rows=report["rows"],
    )


def refusal(design: Design, report: StorageReport, limit: float) -> str:
    """Why a model is not made: its table, and what can be done."""
    factors = list(dict.fromkeys(f"{t.group} ({len(t.levels)} levels)" for t in design.terms))
    levels = ", ".join(factors[:SHOWN])
    if len(factors) > SHOWN:
        levels += f" and {len(factors) - SHOWN} more"
    lines = [
        f"the model needs {_memory(report['bytes'])}, more than the {_memory(limit)} that may be "
        f"used; grouping factors: {levels}"
    ]
    if report["considered"]:
        lines += ["", str(planned(design, report, limit)), ""]
    return "\n".join(lines).rstrip()


@cache
def _rate() -> float:
    """Operations a second of LAPACK on one thread, measured once."""
    from scipy.linalg.lapack import dpotrf

    from .._core import OneThread
    from ..threads import control

    n = 600
    matrix = np.asfortranarray(np.eye(n) + 1e-3)
    best = math.inf
    with OneThread(control()):
        for _ in range(4):
            began = time.perf_counter()
            dpotrf(matrix)
            best = min(best, time.perf_counter() - began)
    return n**3 / 3 / best


def _memory(size: float) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{_two(max(seconds * 1e3, 0.01))} ms"
    return f"{_two(seconds)} s" if seconds < 600 else f"{_two(seconds / 60)} min"


def _two(value: float) -> str:
    """Two digits, without an exponent: 0.012, 1.7, 170."""
    return f"{float(f'{value:.2g}'):,.10g}"
