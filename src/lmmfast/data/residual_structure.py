"""What ``dispersion=`` and ``residual=`` are in the rows of a table: strata, subjects, times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, SpacingWarning, warn
from ..formula.column import Codes, Column, factorize
from ..formula.expressions import Expression, Memory
from ..formula.residual import Correlation, Dispersion, correlation_of, dispersion_of
from .columns import Table, column_in
from .encode import check_finite, value_of
from .grouping import combine, factors_of
from .residual import Numbers, Residual, RowDeviations, Subjects, column_of, numbers_in
from .term_structure import misplaced, unseen_between

MOST_STRATA = 200  # more are likely a number that was meant as a covariate


@dataclass(frozen=True)
class Asked:
    """What was asked for, read."""

    dispersion: Dispersion | None
    correlation: Correlation | None

    @property
    def atoms(self) -> list[Expression]:
        """Its variables."""
        out = [] if self.dispersion is None else list(self.dispersion.atoms)
        if self.correlation is not None:
            out += self.correlation.subjects
            out += [] if self.correlation.time is None else [self.correlation.time]
        return out

    def of_rows(self, columns: Mapping[str, Column], memory: Memory, n: int) -> Residual | None:
        """The residual structure of n rows; None where none was asked for.

        Raises
        ------
        DataError
            When a variable does not give what is needed: numbers other than zero, whole numbers,
            distinct times within a subject.
        """
        if self.dispersion is None and self.correlation is None:
            return None
        own = self.dispersion, self.correlation
        deviations = None if own[0] is None else _deviations(own[0], columns, memory, n)
        subjects = None if own[1] is None else _subjects(own[1], columns, memory, n)
        return Residual(deviations, subjects, n)


def residual_asked(dispersion: Any, residual: Any) -> Asked:
    """What ``dispersion=`` and ``residual=`` of `lmer` say; FormulaError for what means nothing."""
    return Asked(
        None if dispersion is None else dispersion_of(dispersion),
        None if residual is None else correlation_of(residual),
    )


def _deviations(
    asked: Dispersion, columns: Mapping[str, Column], memory: Memory, n: int
) -> RowDeviations:
    if asked.kind == "strata":
        factors = factors_of(asked.label, asked.atoms, columns, memory, n)
        grouping, codes = combine(asked.label, asked.atoms, factors)
        check_strata(asked, grouping.levels, np.bincount(codes), codes)
        return RowDeviations(asked, grouping, codes, None)
    x = numbers_in(asked.atoms[0], columns, memory, n)
    check_finite({"": x}, asked.label, range(n))
    bare = RowDeviations(asked, None, None, np.zeros(0))
    column = column_of(asked.kind, x, bare)
    mean, scale = float(column.mean()), float(column.std())
    if not scale > 0:
        raise DataError(
            f"dispersion={asked.text!r}: {asked.label!r} is constant", variable=asked.label
        )
    return RowDeviations(asked, None, None, (column - mean) / scale, mean, scale)


def check_strata(
    asked: Dispersion,
    levels: NDArray[Any],
    counts: NDArray[np.int64],
    codes: Codes | None = None,
) -> None:
    """DataError where strata, with so many rows each, are too many or too small; codes: of rows."""
    if len(levels) > MOST_STRATA:
        raise DataError(
            f"dispersion={asked.text!r} has {len(levels)} levels, each with a "
            'standard deviation of its own: for a number write "exp(x)" or "power(x)"',
            variable=asked.label,
        )
    if counts.min() < 2:
        rows = [] if codes is None else np.flatnonzero(codes == counts.argmin()).tolist()
        raise DataError(
            f"dispersion={asked.text!r}: {str(levels[int(counts.argmin())])!r} has only one row, "
            "which has no standard deviation of its own; join it with another level or leave it "
            "out",
            variable=asked.label,
            rows=rows,
        )


def _subjects(
    asked: Correlation, columns: Mapping[str, Column], memory: Memory, n: int
) -> Subjects:
    factors = factors_of(asked.subject, asked.subjects, columns, memory, n)
    grouping, codes = combine(asked.subject, asked.subjects, factors)
    sizes = np.bincount(codes)
    if sizes.max() < 2:
        raise DataError(
            f"residual={asked.text!r}: no level of {asked.subject!r} has two rows",
            variable=asked.subject,
        )
    time, visits = _times(asked, columns, memory, n)
    unit = 1.0
    if asked.kind != "cs":
        order, same, gaps = _gaps(codes, time)
        if (gaps == 0).any():
            twice = order[1:][same][gaps == 0]
            raise _twice(asked, grouping.levels[codes[twice[0]]], twice)
        if asked.kind == "car1":
            unit = float(np.median(gaps))
        elif asked.kind == "ar1":
            unit = float(np.gcd.reduce(gaps.astype(np.int64)))
    return Subjects(asked, grouping, codes, time / unit, visits, unit, int(sizes.max()))


def _gaps(codes: Codes, time: Numbers) -> tuple[NDArray[np.intp], NDArray[np.bool_], Numbers]:
    """Rows by subject and time, which of their neighbours are of one subject, and the times between
    these."""
    order = np.arange(len(codes))
    same, gaps = codes[1:] == codes[:-1], np.diff(time)
    if not ((codes[1:] >= codes[:-1]).all() and (gaps[same] > 0).all()):
        order = np.lexsort((time, codes))
        same, gaps = np.diff(codes[order]) == 0, np.diff(time[order])
    return order, same, gaps[same]


def _times(
    asked: Correlation, columns: Mapping[str, Column], memory: Memory, n: int
) -> tuple[Numbers, NDArray[Any] | None]:
    """Times of the rows, and of ante the visits."""
    if asked.time is None or asked.kind == "cs":
        return np.zeros(n), None
    value = value_of(asked.time, columns, memory, n)
    if isinstance(value, Column):
        if asked.kind == "car1":
            raise DataError(
                f"residual={asked.text!r} needs numbers as time: {asked.time.label!r} has labels",
                variable=asked.time.label,
            )
        visits = np.asarray(value.levels)
        _note_steps(asked, value)
        return value.codes.astype(np.float64), visits if asked.kind == "ante" else None
    x = numbers_in(asked.time, columns, memory, n)
    check_finite({"": x}, asked.time.label, range(n))
    if asked.kind == "ante":
        places, visits = factorize(x)
        return places.astype(np.float64), visits
    if asked.kind == "ar1" and (x != np.floor(x)).any():
        raise DataError(
            f"residual={asked.text!r} needs whole numbers (or a factor) as time: "
            f'{asked.time.label!r} has others; write "car1(...)" for times of any kind',
            variable=asked.time.label,
            rows=np.flatnonzero(x != np.floor(x))[:10].tolist(),
        )
    return x, None


def _note_steps(asked: Correlation, time: Column) -> None:
    """A warning where the order or the steps of a factor's levels are not those of their names."""
    assert asked.time is not None
    labels = [str(level) for level in time.levels]
    what = misplaced(labels, asked.kind == "ar1", "ar1() or car1() of numbers")
    unseen = unseen_between(time.declared, labels) if asked.kind == "ar1" else []
    if not what and unseen:
        lacking = ", ".join(map(repr, unseen[:5]))
        what = f"takes the levels before and after {lacking}, which no row has, as neighbours"
    if what:
        name = asked.time.label
        warn(SpacingWarning(f"residual={asked.text!r} {what}", variable=name))


# ---- new rows ------------------------------------------------------------------------------------


def subjects_of_new(own: Subjects, table: Table, memory: Memory) -> Subjects:
    """The subjects and times of new rows, in the units of those of a fit.

    Raises
    ------
    DataError
        Where a variable is missing, a time of a subject occurs twice or is none of those that the
        fit has correlations for.
    """
    asked = own.asked
    atoms = [*asked.subjects, *([] if asked.time is None else [asked.time])]
    columns = {name: column_in(table, name) for atom in atoms for name in atom.names}
    factors = factors_of(asked.subject, asked.subjects, columns, memory, table.n)
    grouping, codes = combine(asked.subject, asked.subjects, factors, fewest=1)
    time = np.zeros(table.n)
    if asked.kind != "cs":
        time = _new_times(own, columns, memory, table.n)
        order, same, gaps = _gaps(codes, time)
        if (gaps == 0).any():
            twice = order[1:][same][gaps == 0]
            raise _twice(asked, grouping.levels[codes[twice[0]]], twice)
    return Subjects(asked, own.grouping, codes, time, own.visits, own.unit, own.largest)


def _new_times(own: Subjects, columns: Mapping[str, Column], memory: Memory, n: int) -> Numbers:
    asked = own.asked
    assert asked.time is not None
    value = value_of(asked.time, columns, memory, n)
    if own.visits is not None:
        known = {str(visit): i for i, visit in enumerate(own.visits.tolist())}
        if isinstance(value, Column):
            labels = np.asarray(value.levels)[value.codes]
        else:
            labels = np.asarray(next(iter(value.values())))
        found = np.array([known.get(str(one), -1) for one in labels.tolist()])
        bad = np.flatnonzero(found < 0)
        what = "a visit that the fit has not seen"
    elif isinstance(value, Column):
        raise DataError(
            f"residual={asked.text!r}: {asked.time.label!r} has labels, whose times in new rows "
            "are not known: make it a number before the fit",
            variable=asked.time.label,
        )
    else:
        found = numbers_in(asked.time, columns, memory, n) / own.unit
        whole = asked.kind != "ar1" or found == np.floor(found)
        bad = np.flatnonzero(~(np.isfinite(found) & whole))
        what = "no number" if asked.kind != "ar1" else f"no multiple of {own.unit:g}"
    if len(bad):
        raise DataError(
            f"residual={asked.text!r}: {asked.time.label!r} is {what} in some rows",
            variable=asked.time.label,
            rows=bad[:10].tolist(),
        )
    return np.asarray(found, dtype=np.float64)


def _twice(asked: Correlation, subject: Any, rows: NDArray[np.intp]) -> DataError:
    """A subject has two rows at one time."""
    assert asked.time is not None
    return DataError(
        f"residual={asked.text!r}: level {str(subject)!r} of {asked.subject!r} has two rows at one "
        f"{asked.time.label!r}: are rows doubled, or is a variable missing in the term?",
        variable=asked.time.label,
        rows=rows[:10].tolist(),
    )
