"""Residual structures of the rows of a design: strata, columns, subjects and times, as arrays.

With delta the parameters that are optimized, the residual of row i has the standard deviation
sigma d_i, and two of one subject the correlation C_ij:

    strata   d = exp delta_s, 1 in the first stratum
    power    log d = delta (log|x| - mean) / scale            exp: log d = delta (x - mean) / scale
    ar1      C = rho^(|t - s| / unit), rho = sin delta         cs: rho = 1 - k / (k - 1) cos^2 delta
    car1     C = exp(-|t - s| / range), range = unit exp delta
    ante     C = rho_t ... rho_(s-1), rho_t = sin delta_t

Boundaries of correlations are finite places about which the criterion is even (ar1, cs, ante).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..formula.column import Codes, Column
from ..formula.expressions import Expression, Memory
from ..formula.residual import Correlation, Dispersion
from ..freeze import Frozen
from .columns import Table, column_in
from .encode import value_of
from .grouping import Grouping
from .sums import no_rows

Numbers = NDArray[np.float64]
FIRST_ANGLE, FIRST_DECAY = 0.3, -0.2  # where fits begin: rho = 0.3, exp(-1.2) of neighbours


@dataclass(frozen=True, eq=False)
class RowDeviations(Frozen, arrays=("stratum", "column")):
    """Standard deviations of the rows over sigma, and how to find them in new data."""

    asked: Dispersion
    grouping: Grouping | None  # strata
    stratum: Codes | None  # (n,)  of each row
    column: Numbers | None  # (n,)  what log d is proportional to
    mean: float = 0.0
    scale: float = 1.0

    @property
    def names(self) -> list[str]:
        """Of the parameters, as users see them."""
        if self.grouping is None:
            return [f"{self.asked.kind}({self.asked.label})"]
        first, *others = map(str, self.grouping.levels.tolist())
        return [f"sd({level}) / sd({first})" for level in others]

    @property
    def count(self) -> int:
        """Number of parameters."""
        return 1 if self.grouping is None else len(self.grouping.levels) - 1

    def taken(self, rows: NDArray[np.intp]) -> RowDeviations:
        """Those of some rows. DataError where a stratum has none of them."""
        if self.stratum is None:
            assert self.column is not None
            return replace(self, column=self.column[rows])
        assert self.grouping is not None
        stratum = self.stratum[rows]
        counts = np.bincount(stratum, minlength=len(self.grouping.levels))
        if not counts.all():
            level = str(self.grouping.levels[int(counts.argmin())])
            raise DataError(
                f"dispersion={self.asked.text!r}: {level!r} has no rows here",
                variable=self.asked.label,
            )
        return replace(self, stratum=stratum)

    def of_rows(self, delta: Numbers) -> Numbers:
        """(n,) d of the rows of the fit."""
        if self.stratum is not None:
            return np.asarray(np.exp(np.append(0.0, delta))[self.stratum])
        if self.column is None:
            raise no_rows("standard deviations of the rows would be needed")
        return np.asarray(np.exp(self.column * delta[0]))

    def of_new(self, delta: Numbers, table: Table, memory: Memory) -> Numbers:
        """(n',) d of new rows; NaN where a variable is missing.

        Raises
        ------
        DataError
            For a stratum that the fit has not seen, or a variable that is not there.
        """
        names = dict.fromkeys(name for atom in self.asked.atoms for name in atom.names)
        columns = {name: column_in(table, name) for name in names}
        if self.grouping is None:
            x = numbers_in(self.asked.atoms[0], columns, memory, table.n)
            return np.asarray(np.exp(column_of(self.asked.kind, x, self) * delta[0]))
        codes, missing = self.grouping.codes(columns, memory, table.n)
        unseen = (codes < 0) & ~missing
        if unseen.any():
            raise DataError(
                f"{self.asked.label!r} has levels that the fit has no residual standard deviation "
                "for",
                variable=self.asked.label,
                rows=np.flatnonzero(unseen)[:10].tolist(),
            )
        found = np.exp(np.append(0.0, delta))[codes]
        found[missing] = np.nan
        return np.asarray(found)


@dataclass(frozen=True, eq=False)
class Subjects(Frozen, arrays=("codes", "time", "visits")):
    """Correlations of the rows of each subject."""

    asked: Correlation
    grouping: Grouping
    codes: Codes  # (n,)
    time: Numbers  # (n,)  over unit; ante: number of the visit; cs: zeros
    visits: NDArray[Any] | None  # ante: what the visits are called
    unit: float  # car1: median of the times between neighbours; ar1: what divides them all
    largest: int  # rows of the largest subject

    @property
    def count(self) -> int:
        """Number of parameters."""
        return 1 if self.visits is None else len(self.visits) - 1

    @property
    def names(self) -> list[str]:
        """Of the parameters, as users see them."""
        kind = self.asked.kind
        if self.visits is not None:
            own = list(map(str, self.visits.tolist()))
            return [f"rho({a}, {b})" for a, b in pairwise(own)]
        if kind == "car1":
            return [f"range({self.asked.text})"]
        step = f", step {self.unit:g}" if kind == "ar1" and self.unit != 1 else ""
        return [f"rho({self.asked.text}{step})"]

    def taken(self, rows: NDArray[np.intp], copy: NDArray[np.int64] | None) -> Subjects:
        """Those of some rows; copy: rows of one subject with different numbers are different
        ones. DataError where no subject has two rows."""
        numbers = self.codes[rows].astype(np.int64)
        if copy is not None:
            numbers += copy * np.int64(len(self.grouping.levels))
        codes: Codes = np.unique(numbers, return_inverse=True)[1].ravel().astype(np.int32)
        largest = int(np.bincount(codes).max())
        if largest < 2:
            raise DataError(
                f"residual={self.asked.text!r}: no level of {self.asked.subject!r} has two rows",
                variable=self.asked.subject,
            )
        return replace(self, codes=codes, time=self.time[rows], largest=largest)

    def natural(self, x: Numbers) -> tuple[Numbers, Numbers]:
        """The parameters as users see them, and their derivatives."""
        if self.asked.kind == "car1":
            return self.unit * np.exp(x), self.unit * np.exp(x)
        if self.asked.kind == "cs":
            share = self.largest / (self.largest - 1)
            return 1 - share * np.cos(x) ** 2, share * np.sin(2 * x)
        return np.sin(x), np.cos(x)

    def from_other(self, other: Subjects, x: Numbers) -> Numbers:
        """The parameters of the same correlations, where other rows have x."""
        if self.asked.kind == "car1":
            return np.asarray(x + np.log(other.unit / self.unit))
        if self.asked.kind == "cs":
            share = (1 - other.natural(x)[0]) * (1 - 1 / self.largest)
            return np.arccos(np.sqrt(np.clip(share, 0.0, 1.0)))
        if self.asked.kind == "ar1" and self.unit != other.unit:
            power, rho = self.unit / other.unit, np.sin(x)
            return np.arcsin(np.sign(rho) ** round(power) * np.abs(rho) ** power)
        return x

    def matrix(self, x: Numbers, time: Numbers) -> Numbers:
        """Correlations (k, k) of rows of one subject at these times (as `time`)."""
        lag = np.abs(time[:, None] - time)
        if self.asked.kind == "ar1":
            rho = np.sin(x[0])
            return np.asarray(np.sign(rho) ** lag * np.abs(rho) ** lag)
        if self.asked.kind == "car1":
            return np.asarray(np.exp(-lag * np.exp(-x[0])))
        if self.asked.kind == "cs":
            rho = self.natural(x)[0][0]
            return np.asarray(np.where(np.eye(len(time)) > 0, 1.0, rho))
        logs = np.append(0.0, np.cumsum(np.log(np.abs(np.sin(x)) + 1e-300)))
        signs = np.append(1.0, np.cumprod(np.where(np.sin(x) < 0, -1.0, 1.0)))
        at = time.astype(np.intp)
        size = np.exp(-np.abs(logs[at][:, None] - logs[at]))
        return np.asarray(signs[at][:, None] * signs[at] * size)

    def chained(self, x: Numbers, values: Numbers, inverse: bool) -> Numbers:
        """L times the columns of values (n, r), or L^-1: each row given those before it in time."""
        order = np.lexsort((self.time, self.codes))
        first = np.append(True, np.diff(self.codes[order]) != 0)
        starts = np.flatnonzero(first)
        place = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
        weight, spread = self._given_before(x, order, place)
        u = np.asarray(values, dtype=float)[order]
        out = np.array(u)
        total = self.asked.kind == "cs"  # weight of the sum of the rows before, not of the last one
        known = u if inverse else out  # correlated values
        before = np.zeros_like(u)
        for k in range(int(place.max()) + 1):  # the k-th row of every subject
            now = np.flatnonzero(place == k) if k else starts
            if k:
                before[now] = known[now - 1] + (before[now - 1] if total else 0.0)
            mean = weight[now, None] * before[now]
            own = spread[now, None]
            out[now] = (u[now] - mean) / own if inverse else mean + own * u[now]
        back = np.empty_like(out)
        back[order] = out
        return back

    def _given_before(
        self, x: Numbers, order: NDArray[np.intp], place: NDArray[np.int64]
    ) -> tuple[Numbers, Numbers]:
        """Of rows in order: weight of what is before them, standard deviation of what is left."""
        if self.asked.kind == "cs":
            rho = self.natural(x)[0][0]
            weight = np.where(place > 0, rho / (1 + (place - 1) * rho), 0.0)
            return weight, np.sqrt(1 - weight * place * rho)
        time = self.time[order]
        phi = np.zeros(len(order))
        later = np.flatnonzero(place > 0)
        if self.visits is None:
            gaps = time[later] - time[later - 1]
            rho = np.sin(x[0]) if self.asked.kind == "ar1" else np.exp(-np.exp(-x[0]))
            phi[later] = np.sign(rho) ** np.round(gaps) * np.abs(rho) ** gaps
        else:
            pairs = np.stack([time[later - 1], time[later]], axis=1)
            distinct, back = np.unique(pairs, axis=0, return_inverse=True)
            known = np.array([self.matrix(x, pair)[0, 1] for pair in distinct])
            phi[later] = known[back.ravel()]
        return phi, np.sqrt((1 - phi) * (1 + phi))


@dataclass(frozen=True, eq=False)
class Residual:
    """The residual structure of the rows of a design: deviations, correlations, or both."""

    deviations: RowDeviations | None
    subjects: Subjects | None
    n: int

    @property
    def count(self) -> int:
        """Number of parameters, delta."""
        return self._first + (0 if self.subjects is None else self.subjects.count)

    @property
    def _first(self) -> int:
        return 0 if self.deviations is None else self.deviations.count

    @property
    def names(self) -> list[str]:
        """Names of the parameters, in the order of delta."""
        parts = [part.names for part in (self.deviations, self.subjects) if part is not None]
        return [name for part in parts for name in part]

    @property
    def text(self) -> str:
        """What was asked for."""
        parts = []
        if self.deviations is not None:
            parts.append(f"standard deviations {self.deviations.asked.text}")
        if self.subjects is not None:
            parts.append(f"correlations {self.subjects.asked.text}")
        return "; ".join(parts)

    @property
    def reference(self) -> str:
        """Which rows sigma is of; empty where it is of all."""
        own = self.deviations
        if own is None:
            return ""
        label = own.asked.label
        if own.grouping is not None:
            return f"sigma is that of {label} = {own.grouping.levels[0]}"
        at = np.exp(own.mean) if own.asked.kind == "power" else own.mean
        return f"sigma is that at {label} = {at:.4g}"

    @property
    def start(self) -> Numbers:
        """Where a fit begins."""
        out = np.zeros(self.count)
        if self.subjects is not None:
            kind = self.subjects.asked.kind
            first = {"car1": FIRST_DECAY, "cs": None}.get(kind, FIRST_ANGLE)
            if first is None:  # rho = 0.3
                first = float(np.arccos(np.sqrt(0.7 * (1 - 1 / self.subjects.largest))))
            out[self._first :] = first
        return out

    def taken(self, rows: NDArray[np.intp], copy: NDArray[np.int64] | None = None) -> Residual:
        """The structure of some of the rows, see `Subjects.taken`."""
        return Residual(
            None if self.deviations is None else self.deviations.taken(rows),
            None if self.subjects is None else self.subjects.taken(rows, copy),
            len(rows),
        )

    def from_other(self, other: Residual, delta: Numbers) -> tuple[Numbers, float]:
        """The parameters of the same structure in other rows, and sigma over that of those rows:
        what deviations are taken from, and units of time, follow the rows.

        Raises
        ------
        DataError
            Where the rows have other strata or visits.
        """
        kept = self.deviations, self.subjects
        strata = kept[0] is not None and kept[0].grouping is not None
        visits = kept[1] is not None and kept[1].visits is not None
        if (strata or visits) and self.names != other.names:
            raise DataError(
                f"the residual structure ({self.text}) has other levels in these rows: "
                f"{', '.join(self.names)} instead of {', '.join(other.names)}"
            )
        out, scale, own = np.array(delta, dtype=float), 1.0, self.deviations
        if own is not None and other.deviations is not None and own.grouping is None:
            slope = delta[0] / other.deviations.scale
            out[0] = slope * own.scale
            scale = float(np.exp(slope * (own.mean - other.deviations.mean)))
        if self.subjects is not None and other.subjects is not None:
            rest = slice(self._first, None)
            out[rest] = self.subjects.from_other(other.subjects, out[rest])
        return out, scale

    def facts(self) -> tuple[Any, ...]:
        """What fits depend on, for a checkpoint."""
        own, subjects = self.deviations, self.subjects
        rows = [] if own is None else [own.column if own.stratum is None else own.stratum]
        rows += [] if subjects is None else [subjects.codes, subjects.time]
        return self.text, rows

    def natural(self, delta: Numbers) -> tuple[Numbers, Numbers]:
        """The parameters as users see them, and their derivatives in delta, one by one."""
        values, slopes = np.array(delta, dtype=float), np.ones(self.count)
        if self.deviations is not None:
            own = slice(0, self._first)
            if self.deviations.grouping is None:
                values[own], slopes[own] = (
                    values[own] / self.deviations.scale,
                    1 / self.deviations.scale,
                )
            else:
                values[own] = slopes[own] = np.exp(values[own])
        if self.subjects is not None:
            rest = slice(self._first, None)
            values[rest], slopes[rest] = self.subjects.natural(values[rest])
        return values, slopes

    def principal(self, delta: Numbers) -> Numbers:
        """The same parameters, angles in [-pi/2, pi/2], of cs in [0, pi/2]."""
        out = np.array(delta, dtype=float)
        if self.subjects is not None and self.subjects.asked.kind != "car1":
            own = slice(self._first, None)
            folded = np.arccos(np.abs(np.cos(out[own])))
            out[own] = folded if self.subjects.asked.kind == "cs" else np.arcsin(np.sin(out[own]))
        return out

    def within(self, i: int, x: float) -> float:
        """The i-th parameter, an angle no further than where its correlation turns back."""
        if self.subjects is None or i < self._first or self.subjects.asked.kind == "car1":
            return x
        low, high = (
            (0.0, np.pi / 2) if self.subjects.asked.kind == "cs" else (-np.pi / 2, np.pi / 2)
        )
        return float(np.clip(x, low, high))

    def deviation(self, delta: Numbers) -> Numbers:
        """(n,) standard deviations of the rows over sigma, prior weights aside."""
        if self.deviations is None:
            return np.ones(self.n)
        return self.deviations.of_rows(delta[: self._first])

    def new_deviation(self, delta: Numbers, table: Table, memory: Memory) -> Numbers:
        """The same of new rows."""
        if self.deviations is None:
            return np.ones(table.n)
        return self.deviations.of_new(delta[: self._first], table, memory)

    def correlation(self, delta: Numbers, rows: NDArray[np.intp]) -> Numbers:
        """Correlations (k, k) of some rows."""
        if self.subjects is None:
            return np.eye(len(rows))
        codes, time = self.subjects.codes[rows], self.subjects.time[rows]
        own = self.subjects.matrix(delta[self._first :], time)
        return np.where(codes[:, None] == codes, own, 0.0)

    def correlate(self, delta: Numbers, values: Numbers, inverse: bool = False) -> Numbers:
        """L times the columns (n, r) of independent values, C = L L'; inverse: L^-1."""
        if self.subjects is None:
            return values
        return self.subjects.chained(delta[self._first :], values, inverse)


def column_of(kind: str, x: Numbers, own: RowDeviations) -> Numbers:
    """What log d is proportional to, centred and scaled as the fit's."""
    if kind == "exp":
        return np.asarray((x - own.mean) / own.scale)
    if (x == 0).any():
        raise DataError(
            f"dispersion={own.asked.text!r}: {own.asked.label!r} is zero in some rows, where a "
            'power of it is no standard deviation: write "exp(x)", or shift it',
            variable=own.asked.label,
            rows=np.flatnonzero(x == 0)[:10].tolist(),
        )
    return np.asarray((np.log(np.abs(x)) - own.mean) / own.scale)


def numbers_in(atom: Expression, columns: Mapping[str, Column], memory: Memory, n: int) -> Numbers:
    value = value_of(atom, columns, memory, n)
    if isinstance(value, Column) or len(value) != 1:
        raise DataError(f"{atom.label!r} is not one number for each row", variable=atom.label)
    return np.asarray(next(iter(value.values())), dtype=np.float64)
