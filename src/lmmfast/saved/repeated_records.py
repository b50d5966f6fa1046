"""Fits for repeated measures as records: visits, sums by pattern, what was read of the model."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.design import Design
from ..data.units import Units
from ..data.visits import (
    PatternSums,
    RepeatedDesign,
    Visits,
    check_structure,
    twice_of,
    visit_twice,
)
from ..engine.repeated import RepeatedEstimates, structure_of
from ..errors import FormulaError
from ..fit import Fit
from ..formula.repeated import VisitCovariance, covariance_of
from ..inference.ddf import METHODS
from ..inference.estimability import Openness
from ..sources.records import Reader
from ..sources.verify import Damage, fields, text
from .estimates import LINEAR, check_fixed
from .kinds import LABELS, REAL, TEXT, WHOLE, Packer, Record, array, many, named, optional
from .model_records import OPENNESS, read_openness
from .repeated import KeptRepeated, RepeatedReadings, known_of

REPEATED = Record(
    RepeatedEstimates,
    {**LINEAR.fields, "Sigma": array(3), "bounded": many(WHOLE)},
)

UNITS = Record(
    Units,
    {
        "center": array(1),
        "size": array(1),
        "constant": optional(WHOLE),
        "mean": REAL,
        "scale": REAL,
        "kept": array(1, "b"),
    },
)

READINGS = Record(
    RepeatedReadings,
    {
        "gradient": array(1),
        "hessian": array(2),
        "beta": array(1),
        "vcov": array(2),
        "Sigma": array(3),
        "slopes": array(3),
        "deviations": array(1, "b"),
        "span": REAL,
        "closest": REAL,
        "n_patterns": WHOLE,
        "adjusted": named(array(2)),
        "inside": optional(array(1)),
    },
)

_FACTS = ("ddf", "visits", "patterned", "openness")
_VISITS = ("visit", "subject", "group", "labels", "subjects", "groups", "places", "absent")
_SUMS = ("units", "log_weights", "n", "group", "start", "visit", "count", "sums")


def write_repeated(
    fit: Fit, patterned: PatternSums | None, rows: bool, writer: Packer
) -> dict[str, Any]:
    """What a fit for repeated measures has besides the design of its fixed effects; `rows`: visits
    and subjects of all rows, too."""
    own: Any = fit
    visits: Visits = own.design.seen
    return {
        "ddf": own.ddf,
        "visits": {
            "visit": writer.array(visits.visit) if rows else None,
            "subject": writer.array(visits.subject) if rows else None,
            "group": writer.array(visits.group) if rows else None,
            "labels": writer.labels(visits.labels),
            "subjects": writer.labels(visits.subjects),
            "groups": writer.labels(visits.groups),
            "places": None if visits.places is None else writer.array(visits.places),
            "absent": list(visits.absent),
        },
        "patterned": None if patterned is None else _write_sums(patterned, writer),
        "openness": None if rows else optional(OPENNESS.kind).write(_open(fit), writer),
    }


def _open(fit: Fit) -> Openness | None:
    found: Openness | None = known_of(fit).get(Openness)
    return found


def _write_sums(own: PatternSums, writer: Packer) -> dict[str, Any]:
    sizes = [len(v) for _, v, _ in own.patterns]
    return {
        "units": UNITS.write(own.units, writer),
        "log_weights": REAL.write(own.log_weights, writer),
        "n": own.n,
        "group": writer.array(np.array([g for g, _, _ in own.patterns], np.int32)),
        "start": writer.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)),
        "visit": writer.array(np.concatenate([v for _, v, _ in own.patterns]).astype(np.int32)),
        "count": writer.array(np.array([count for _, _, count in own.patterns], np.int64)),
        "sums": writer.array(np.concatenate([total.ravel() for total in own.sums])),
    }


def write_kept_repeated(model: KeptRepeated, writer: Packer) -> dict[str, Any]:
    """The model of a fit without data."""
    return {
        "units": UNITS.write(model.units, writer),
        "readings": READINGS.write(model.readings, writer),
    }


# ---- reading -------------------------------------------------------------------------------------


def covariance_in(formula: str) -> VisitCovariance:
    """The covariance term of a formula in a file."""
    try:
        return covariance_of(formula)
    except FormulaError as error:
        raise Damage(f"the formula cannot be read ({error})") from None


def read_repeated(item: Any, made: Design, reader: Reader) -> tuple[RepeatedDesign, str]:
    """The design with its visits, and the usual degrees of freedom of the fit."""
    own = fields(item, _FACTS)
    ddf = text(own["ddf"], "the degrees of freedom")
    if ddf not in METHODS:
        raise Damage("the degrees of freedom are of no known method")
    visits = _visits_of(own["visits"], covariance_in(made.formula), made, reader)
    patterned = None
    if own["patterned"] is not None:
        patterned = _sums_of(own["patterned"], visits, made, reader)
    return RepeatedDesign(**vars(made), visits=visits, patterned=patterned), ddf


def _visits_of(item: Any, covariance: VisitCovariance, made: Design, reader: Reader) -> Visits:
    own, what = fields(item, _VISITS), "the visits"
    labels, subjects, groups = (
        LABELS.read(own[name], f"{what}: {name}", reader)
        for name in ("labels", "subjects", "groups")
    )
    sizes = {
        "visit": (made.n, len(labels)),
        "subject": (made.n, len(subjects)),
        "group": (len(subjects), len(groups)),
    }
    codes = {}
    for name, (n, most) in sizes.items():
        if (own[name] is not None) != made.is_held:
            raise Damage(f"{what} of the rows are missing, or of no rows")
        codes[name] = _codes(own[name], n, most, reader)
    places = optional(array(2)).read(own["places"], what, reader)
    if (places is not None) != covariance.is_spatial:
        raise Damage(f"{what} are no places, or places of visits without coordinates")
    if places is not None and places.shape != (len(labels), len(covariance.visit)):
        raise Damage(f"{what}: coordinates have shape {places.shape}")
    if len(groups) > 1 and covariance.group is None:
        raise Damage(f"{what} have groups that the formula has not")
    visits = Visits(
        covariance=covariance,
        **codes,
        labels=labels,
        subjects=subjects,
        groups=groups,
        places=places,
        absent=many(TEXT).read(own["absent"], what, reader),
    )
    if made.is_held:
        _check_rows(visits)
    return visits


def _codes(item: Any, n: int, most: int, reader: Reader) -> np.ndarray:
    if item is None:
        return np.zeros(0, np.int32)
    found = reader.array(item, "the visits", "i", (n,)).astype(np.int32, copy=False)
    if n and (found.min() < 0 or found.max() >= most):
        raise Damage("the visits of rows, or the groups of subjects, are unknown")
    return np.ascontiguousarray(found)


def _check_rows(visits: Visits) -> None:
    """Every subject has rows, every visit once."""
    count = np.bincount(visits.subject, minlength=len(visits.subjects))
    if not count.all():
        raise Damage("a subject has no rows")
    twice = twice_of(visits.subject, visits.visit, visits.m, visits.order)
    if twice is not None:
        raise visit_twice(visits, visits.subject[twice[0]], visits.visit[twice[0]], twice)
    seen = np.zeros((len(visits.groups), visits.m), bool)
    seen[visits.group[visits.subject], visits.visit] = True
    check_structure(visits, seen, int(count.max()))


def _units_of(item: Any, p: int, reader: Reader) -> Units:
    made: Units = UNITS.read(item, "the units", reader)
    shapes = {len(own) for own in (made.center, made.size, made.kept)}
    if shapes != {p} or not (made.size != 0).all():
        raise Damage("the units are not those of the columns")
    if made.constant is not None and made.constant >= p:
        raise Damage("the units are of a constant that is not there")
    if not (np.isfinite(made.mean) and 0 < made.scale < np.inf):
        raise Damage("the units of the response are not finite")
    return made


def _sums_of(item: Any, visits: Visits, made: Design, reader: Reader) -> PatternSums:
    own, what = fields(item, _SUMS), "the sums by pattern of visits"
    if made.is_held or visits.places is not None:
        raise Damage(f"{what} stand beside rows, or are of places")
    units = _units_of(own["units"], len(made.x_names), reader)
    k = len(own_group := reader.array(own["group"], what, "i", (None,)))
    start = reader.array(own["start"], what, "i", (k + 1,)).astype(np.int64)
    visit = reader.array(own["visit"], what, "i", (None,)).astype(np.int32)
    count = reader.array(own["count"], what, "i", (k,)).astype(np.int64)
    sizes = np.diff(start)
    if not k or start[0] != 0 or start[-1] != len(visit) or (sizes < 1).any():
        raise Damage(f"{what} have no visits")
    if visit.min() < 0 or visit.max() >= visits.m or (count < 1).any():
        raise Damage(f"{what} are of unknown visits")
    if (own_group < 0).any() or (own_group >= len(visits.groups)).any():
        raise Damage(f"{what} are of unknown groups")
    inside = np.ones(len(visit), bool)
    inside[start[:-1]] = False
    if (np.diff(visit, prepend=-1)[inside] < 1).any() or (np.diff(own_group) < 0).any():
        raise Damage(f"{what} are not in order")
    if int((sizes * count).sum()) != made.n or int(count.sum()) != len(visits.subjects):
        raise Damage(f"{what} are of other rows")
    sides = sizes * (len(made.x_names) + 1)
    flat = reader.finite(own["sums"], what, int(np.square(sides).sum()))
    ends = np.concatenate([[0], np.cumsum(np.square(sides))])
    seen = np.zeros((len(visits.groups), visits.m), bool)
    seen[np.repeat(own_group, sizes), visit] = True
    check_structure(visits, seen, int(sizes.max()))
    return PatternSums(
        units=units,
        log_weights=REAL.read(own["log_weights"], what, reader),
        n=made.n,
        patterns=[
            (int(g), visit[a:b].copy(), int(c))
            for g, a, b, c in zip(own_group, start[:-1], start[1:], count, strict=True)
        ],
        sums=[
            flat[a:b].reshape(side, side)
            for a, b, side in zip(ends[:-1], ends[1:], sides, strict=True)
        ],
    )


def read_kept_repeated(
    item: Any, design: RepeatedDesign, estimates: RepeatedEstimates, reader: Reader
) -> KeptRepeated:
    """What `write_kept_repeated` wrote."""
    own = fields(item, ("units", "readings"))
    units = _units_of(own["units"], len(design.x_names), reader)
    read: RepeatedReadings = READINGS.read(own["readings"], "the model", reader)
    visits = design.seen
    groups, k, nphi = len(visits.groups), int(units.kept.sum()), len(estimates.theta)
    wanted: dict[str, tuple[int, ...]] = {
        "gradient": (nphi,),
        "hessian": (nphi, nphi),
        "beta": (k,),
        "vcov": (k, k),
        "Sigma": (groups, visits.m, visits.m) if visits.places is None else (0, 0, 0),
        "slopes": (nphi, k + 1, k + 1),
        "deviations": (nphi,),
    }
    for name, shape in wanted.items():
        found = getattr(read, name).shape
        if found != shape:
            raise Damage(f"{name} has shape {found}, not {shape}")
    each = 2 if visits.places is not None else structure_of(visits).nphi
    if nphi != groups * each or not np.array_equal(units.kept, estimates.fixed_kept):
        raise Damage("the parameters are not those of the formula")
    if visits.places is not None and not (0 < read.span < np.inf):
        raise Damage("the places have no distance")
    for name, adjusted in read.adjusted.items():
        if not name.startswith("kenward-roger") or name not in METHODS or not estimates.reml:
            raise Damage("tests were kept that the fit has not")
        if adjusted.shape != (k, k):
            raise Damage(f"the covariance of {name} has shape {adjusted.shape}")
    if read.inside is not None and read.inside.shape != estimates.beta.shape:
        raise Damage("degrees of freedom were kept of other coefficients")
    return KeptRepeated(design, units, read)


def known_in(item: Any, estimates: RepeatedEstimates, reader: Reader) -> dict[Any, Any]:
    """What is known of rows that are gone."""
    found = read_openness(fields(item, _FACTS)["openness"], estimates, reader)
    return {} if found is None else {Openness: found}


def check_repeated(estimates: RepeatedEstimates, design: RepeatedDesign) -> None:
    """The numbers are those of a model of this design."""
    check_fixed(estimates, design)
    visits = design.seen
    g, m = len(visits.groups), visits.m
    found = estimates.Sigma.shape
    few = visits.places is not None and found[1:] == (0, 0)
    if found[0] != g or (found[1:] != (m, m) and not few):
        raise Damage(f"the covariances of visits have shape {found}")
    if estimates.T or estimates.b or any(i >= len(estimates.theta) for i in estimates.bounded):
        raise Damage("the estimates are of another kind of model")
