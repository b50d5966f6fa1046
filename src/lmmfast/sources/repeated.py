"""Models for repeated measures of what is not a table in memory: two passes, sums by pattern.

The first pass finds levels, and how many rows each subject has. In the second, rows wait until
their subject is complete; then they are summed, and let go. Where rows of a subject stand together
few ever wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.design import Given
from ..data.units import Units, units_of
from ..data.visits import (
    PatternSums,
    RepeatedDesign,
    Visits,
    build_repeated,
    check_structure,
    patterns_of,
    repeated,
    twice_of,
    visit_twice,
)
from ..errors import DataError
from ..formula.repeated import VisitCovariance, covariance_of
from ..formula.tree import unquoted
from .cross import CrossProducts
from .design import design_of
from .open import collected, stream_of
from .part import Roles
from .source import Chunk, Source, located
from .spec import CHANGED, Encoded, Spec, checked_formula, sample_of, surveyed, with_coordinates
from .streamed import held
from .survey import Survey

Matrix = NDArray[np.float64]


def any_repeated(
    formula: str,
    data: Any,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
) -> RepeatedDesign:
    """The design of whatever `lmmfast.mmrm` was given."""
    covariance = covariance_of(formula)
    usual = type(data).__module__.partition(".")[0] in ("pandas", "polars") or type(data) is dict
    if not usual or type(data).__name__ == "LazyFrame":
        data = held(covariance.factors, collected(data))
        source = stream_of(data)
        if source is not None:
            given = Given(data, weights, offset, contrasts)
            return _streamed(formula, covariance, source, given)
    return build_repeated(formula, data, weights, offset, contrasts)


def _streamed(
    formula: str, covariance: VisitCovariance, source: Source, given: Given
) -> RepeatedDesign:
    if covariance.is_spatial:
        raise DataError(
            f"{covariance.text} needs its rows in memory, as a table: read what is streamed first "
            "(pandas.read_parquet(path), data.compute(), ...)"
        )
    text = checked_formula(covariance.factors, source.columns)
    roles = Roles.of(given.weights, given.offset)
    spec, survey = surveyed(text, source, roles, given.contrasts)
    with closing(source.chunks(spec.names, spec.chunk_rows)) as chunks:
        seen: deque[Chunk] = deque()  # the first chunks are used twice, and let go
        spec = with_coordinates(spec, sample_of(spec, _noted(chunks, seen)))
        cross = _begun(spec, survey)
        sums = _Summing(spec, cross, covariance, survey)
        for chunk in _chained(seen, chunks):
            with located(chunk.where, chunk.start):
                cross.add(chunk.table, grow=False)
                sums.add(chunk.table)
    sums.end()
    if cross.n != survey.n:
        raise DataError(
            f"the data changed between the two passes: {survey.n} rows could be used in the "
            f"first, {cross.n} in the second; give a source that yields the same rows each time"
        )
    return repeated(design_of(cross), formula, given, sums.visits, sums.made())


def _noted(chunks: Iterator[Chunk], seen: deque[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        seen.append(chunk)
        yield chunk


def _chained(seen: deque[Chunk], chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    while seen:
        yield seen.popleft()
    yield from chunks


def _begun(spec: Spec, survey: Survey) -> CrossProducts:
    """Cross-products without rows, with the levels of the first pass in their final order."""
    made = CrossProducts(spec)
    made._groups = []
    for label, _ in spec.factors:
        own = survey.groups[label].arranged(survey.groups[label].grouping()[1])
        own.counts = np.zeros(len(own), dtype=np.int64)
        made._groups.append(own)
    return made


class _Summing:
    """Sums by pattern of visits, chunk by chunk."""

    def __init__(
        self, spec: Spec, cross: CrossProducts, covariance: VisitCovariance, survey: Survey
    ) -> None:
        self.spec, self.cross = spec, cross
        labels = [label for label, _ in spec.factors]
        wanted = [covariance.subject, covariance.visit[0]]
        wanted += [] if covariance.group is None else [covariance.group]
        self.places = [labels.index(unquoted(name)) for name in wanted]
        groups = [survey.groups[labels[k]] for k in self.places]
        found = [group.grouping() for group in groups]
        names = [grouping.levels for grouping, _ in found]
        none = np.zeros(0, np.int32)
        self.visits = Visits(
            covariance=covariance,
            visit=none,
            subject=none,
            group=none,
            labels=names[1],
            subjects=names[0],
            groups=names[2] if len(names) > 2 else np.array([""], dtype=object),
            places=None,
        )
        self.wanted = groups[0].counts[found[0][1]]
        self.group_of = np.full(len(names[0]), -1, np.int32)
        self.waiting: list[tuple[NDArray[np.int32], NDArray[np.int32], Matrix]] = []
        self.there = np.zeros(len(names[0]), np.int64)
        self.units: Units | None = None
        self.sums: dict[tuple[int, tuple[int, ...]], tuple[int, Matrix]] = {}
        self.n, self.log_weights = 0, 0.0

    def add(self, table: Any) -> None:
        """The rows of a chunk that can be used."""
        encoded = self.spec.encode(table, CHANGED)
        if encoded is None:
            return
        every = self.cross._codes(encoded.part, False, "")
        subject, visit, *group = (every[k] for k in self.places)
        self._note_groups(subject, group[0] if group else np.zeros_like(subject))
        z = self._rows(encoded)
        self.n += len(z)
        self.there += np.bincount(subject, minlength=len(self.there))
        self.waiting.append((subject, visit, z))
        complete = self.there == self.wanted
        parts = [np.concatenate(own) for own in zip(*self.waiting, strict=True)]
        ready = complete[parts[0]]
        self.waiting = [tuple(own[~ready] for own in parts)]
        self._sum(*(own[ready] for own in parts))

    def _note_groups(self, subject: NDArray[np.int32], group: NDArray[np.int32]) -> None:
        known = self.group_of[subject]
        self.group_of[subject] = np.where(known < 0, group, known)
        other = np.flatnonzero(self.group_of[subject] != group)
        if len(other):
            name = self.visits.subjects[subject[other[0]]]
            raise DataError(
                f"subject {str(name)!r} is in two groups of {self.visits.covariance.group!r}: a "
                "subject has one covariance matrix",
                variable=self.visits.covariance.group,
            )

    def _rows(self, encoded: Encoded) -> Matrix:
        """(x, y) in units of the first chunk, scaled by the roots of the weights."""
        X, y, w = encoded.X, encoded.response, encoded.part.weights
        if self.units is None:
            layout = self.spec.fixed.columns
            self.units = units_of(X, y, layout.index(()) if () in layout else None)
        if w is not None:
            self.log_weights += float(np.log(w).sum())
        return self.units.rows(X, y, w)

    def _sum(self, subject: NDArray[np.int32], visit: NDArray[np.int32], z: Matrix) -> None:
        """Adds rows of complete subjects."""
        if not len(subject):
            return
        levels, place = np.unique(subject, return_inverse=True)
        own = place.astype(np.int32).ravel()
        order = np.lexsort((visit, own))
        twice = twice_of(own, visit, self.visits.m, order)
        if twice is not None:
            raise visit_twice(self.visits, subject[twice[0]], visit[twice[0]], [])
        first = np.concatenate([[0], np.cumsum(np.bincount(own))]).astype(np.int64)
        group = self.group_of[levels]
        for g, visits, rows in patterns_of(own, visit, group, order, first):
            flat = z[rows].reshape(len(rows), -1)
            key = g, tuple(visits.tolist())
            count, total = self.sums.get(key, (0, 0.0))
            self.sums[key] = count + len(rows), total + flat.T @ flat

    def end(self) -> None:
        """What still waits is of subjects that had more rows in the first pass."""
        left = sum(len(subject) for subject, _, _ in self.waiting)
        if left:
            name = self.visits.subjects[self.waiting[0][0][0]]
            raise DataError(
                f"subject {str(name)!r} has fewer rows than in the first pass{CHANGED}",
                variable=self.visits.covariance.subject,
            )
        seen = np.zeros((len(self.visits.groups), self.visits.m), bool)
        for g, visits in self.sums:
            seen[g, list(visits)] = True
        check_structure(self.visits, seen, max((len(v) for _, v in self.sums), default=0))

    def made(self) -> PatternSums:
        """The sums of all rows."""
        assert self.units is not None
        keys = sorted(self.sums)
        patterns = [(g, np.array(v, np.int32), self.sums[g, v][0]) for g, v in keys]
        return PatternSums(
            units=self.units,
            log_weights=self.log_weights,
            n=self.n,
            patterns=patterns,
            sums=[self.sums[key][1] for key in keys],
        )
