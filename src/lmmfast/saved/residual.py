"""Residual structures as records."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from ..data.grouping import Grouping
from ..data.residual import Numbers, Residual, RowDeviations, Subjects
from ..errors import FormulaError
from ..formula.expressions import Expression
from ..formula.residual import correlation_of, dispersion_of
from ..sources.records import Reader
from ..sources.verify import Damage, fields, text, whole
from .kept import no_data
from .kinds import REAL, Packer
from .recipe import read_grouping, write_grouping

_DEVIATIONS = ("asked", "grouping", "stratum", "column", "mean", "scale")
_SUBJECTS = ("asked", "grouping", "codes", "time", "visits", "unit", "largest")


class KeptDeviations(RowDeviations):
    """Standard deviations of new rows; those of the fit are not known any more."""

    def of_rows(self, delta: Numbers) -> NoReturn:
        raise no_data("standard deviations of the rows would be needed")


class KeptSubjects(Subjects):
    """Correlations without the rows that had them."""

    def chained(self, x: Numbers, values: Numbers, inverse: bool) -> NoReturn:
        raise no_data("correlations of the rows would be needed")


def without_rows(own: Residual | None) -> Residual | None:
    """The structure of which rows were forgotten."""
    if own is None:
        return None
    deviations, subjects = own.deviations, own.subjects
    if deviations is not None:
        one = deviations
        deviations = KeptDeviations(one.asked, one.grouping, None, None, one.mean, one.scale)
    if subjects is not None:
        two, none = subjects, np.zeros(0)
        ends = two.visits, two.unit, two.largest
        subjects = KeptSubjects(two.asked, two.grouping, np.zeros(0, np.int32), none, *ends)
    return Residual(deviations, subjects, own.n)


def write_residual(own: Residual | None, writer: Packer) -> dict[str, Any] | None:
    """What was asked for, and what is known of rows."""
    if own is None:
        return None
    return {
        "deviations": None if own.deviations is None else _write_deviations(own.deviations, writer),
        "subjects": None if own.subjects is None else _write_subjects(own.subjects, writer),
        "n": own.n,
    }


def _write_deviations(own: RowDeviations, writer: Packer) -> dict[str, Any]:
    return {
        "asked": own.asked.text,
        "grouping": None if own.grouping is None else write_grouping(own.grouping, writer),
        "stratum": None if own.stratum is None else writer.array(own.stratum),
        "column": None if own.column is None else writer.array(own.column),
        "mean": REAL.write(own.mean, writer),
        "scale": REAL.write(own.scale, writer),
    }


def _write_subjects(own: Subjects, writer: Packer) -> dict[str, Any]:
    rows = not isinstance(own, KeptSubjects)
    return {
        "asked": own.asked.text,
        "grouping": write_grouping(own.grouping, writer),
        "codes": writer.array(own.codes) if rows else None,
        "time": writer.array(own.time) if rows else None,
        "visits": writer.labels(own.visits),
        "unit": REAL.write(own.unit, writer),
        "largest": int(own.largest),
    }


def read_residual(item: Any, n: int, held: bool, reader: Reader) -> Residual | None:
    """What `write_residual` wrote; `held`: whether rows are there."""
    if item is None:
        return None
    own = fields(item, ("deviations", "subjects", "n"))
    whole(own["n"], "the rows of the residuals", n, n)
    deviations = subjects = None
    try:
        if own["deviations"] is not None:
            deviations = _deviations(own["deviations"], n, held, reader)
        if own["subjects"] is not None:
            subjects = _subjects(own["subjects"], n, held, reader)
    except FormulaError as error:
        raise Damage(f"the residual structure cannot be read ({error})") from None
    if deviations is None and subjects is None:
        raise Damage("the residual structure is empty")
    return Residual(deviations, subjects, n)


def _deviations(item: Any, n: int, held: bool, reader: Reader) -> RowDeviations:
    own, what = fields(item, _DEVIATIONS), "standard deviations of the residuals"
    asked = dispersion_of(text(own["asked"], what))
    grouping: Grouping | None = None
    if own["grouping"] is not None:
        grouping = read_grouping(own["grouping"], False, reader)
        if not isinstance(grouping, Grouping) or len(grouping.levels) < 2:
            raise Damage(f"{what} have no strata")
        _check_atoms(grouping, asked.atoms, what)
    if (asked.kind == "strata") != (grouping is not None):
        raise Damage(f"{what} are of another kind")
    ends = tuple(REAL.read(own[name], what, reader) for name in ("mean", "scale"))
    if not np.isfinite(ends).all() or not ends[1] > 0:
        raise Damage(f"{what} are not finite")
    if not held:
        return KeptDeviations(asked, grouping, None, None, *ends)
    stratum = column = None
    if grouping is None:
        column = reader.finite(own["column"], what, n)
    else:
        stratum = reader.array(own["stratum"], what, "i", (n,)).astype(np.int32, copy=False)
        if stratum.min() < 0 or stratum.max() >= len(grouping.levels):
            raise Damage(f"{what} have unknown strata")
    return RowDeviations(asked, grouping, stratum, column, *ends)


def _check_atoms(grouping: Grouping, asked: tuple[Expression, ...], what: str) -> None:
    if [atom.label for atom in grouping.atoms] != [atom.label for atom in asked]:
        raise Damage(f"{what} have another factor")


def _subjects(item: Any, n: int, held: bool, reader: Reader) -> Subjects:
    own, what = fields(item, _SUBJECTS), "correlations of the residuals"
    asked = correlation_of(text(own["asked"], what))
    grouping = read_grouping(own["grouping"], False, reader)
    if not isinstance(grouping, Grouping):
        raise Damage(f"{what} have no subjects")
    _check_atoms(grouping, asked.subjects, what)
    visits = reader.labels(own["visits"], what)
    if (asked.kind == "ante") != (visits is not None and len(visits) > 1):
        raise Damage(f"{what} have no visits")
    unit = REAL.read(own["unit"], what, reader)
    largest = whole(own["largest"], what, 2)
    if not 0 < unit < np.inf:
        raise Damage(f"{what} have no unit of time")
    ends = visits, unit, largest
    if not held:
        return KeptSubjects(asked, grouping, np.zeros(0, np.int32), np.zeros(0), *ends)
    codes = reader.array(own["codes"], what, "i", (n,)).astype(np.int32, copy=False)
    time = reader.finite(own["time"], what, n)
    if codes.min() < 0 or codes.max() >= len(grouping.levels):
        raise Damage(f"{what} are of unknown subjects")
    if visits is not None and (
        time.min() < 0 or time.max() >= len(visits) or (time != np.floor(time)).any()
    ):
        raise Damage(f"{what} are of unknown visits")
    order = np.lexsort((time, codes))
    same = np.diff(codes[order]) == 0
    if asked.kind != "cs" and (np.diff(time[order])[same] <= 0).any():
        raise Damage(f"{what}: a subject has two rows at one time")
    if int(np.bincount(codes).max()) != largest:
        raise Damage(f"{what}: the largest subject has another size")
    return Subjects(asked, grouping, codes, time, *ends)
