"""Fits the columns of a matrix of responses: rows that are missing, weights, chunks."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from ..data.arrays import design_of
from ..data.design import Design
from ..data.members import flat
from ..data.relationship import related_groups
from ..data.rows import Rows
from ..data.terms import RandomTerm
from ..engine.generalized import GeneralizedModel
from ..errors import LmmError, silenced
from .asked import Asked
from .checkpoint import Checkpoint, fingerprint
from .columns import AnyModel, fitted_columns, no_fits
from .fits import ManyFits, fits_of, joined
from .job import Columns, Job, checked_threads
from .jobs import run_job
from .responses import chunks_of
from .rotation import rotation_of

HELD = 8  # models of some rows that a thread holds


class Source(Protocol):
    """Where the responses of a job come from."""

    def part(self, first: int, stop: int) -> Any:
        """What travels with these columns."""

    def columns(self, first: int, stop: int, part: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Responses (n, stop - first), offsets subtracted, NaN where missing; weights, if any."""

    def fingerprint(self) -> str:
        """Of everything that the columns depend on besides `part`."""


class Given:
    """Responses that are at hand; only those that are needed travel."""

    def __init__(self, values: np.ndarray, weights: np.ndarray | None = None) -> None:
        self._values, self._weights = values, weights

    def __getstate__(self) -> dict[str, Any]:
        return {"_values": None, "_weights": None}

    def part(self, first: int, stop: int) -> Any:
        some = slice(first, stop)
        return self._values[:, some], None if self._weights is None else self._weights[:, some]

    def columns(self, first: int, stop: int, part: Any) -> tuple[np.ndarray, np.ndarray | None]:
        values, weights = part
        return values, weights

    def fingerprint(self) -> str:
        return "given"


class ColumnsJob(Job):
    """Fits of a model to columns of responses."""

    def __init__(self, model: AnyModel, source: Source, want: Asked, count: int) -> None:
        self.model, self.source, self.want, self.count = model, source, want, count
        self._is_lent = False

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_is_lent": False}

    def begin(self) -> _State:
        """The model itself first, and then copies of it."""
        if not self._is_lent:
            self._is_lent = True
            return _State(self.model, self.want)
        with silenced():
            return _State(self.model.with_design(self.model.design), self.want)

    def part(self, first: int, stop: int) -> Any:
        return self.source.part(first, stop)

    def run(self, state: _State, first: int, stop: int, part: Any) -> Columns:
        return state.fits(*self.source.columns(first, stop, part))

    def fingerprint(self) -> str:
        model = model_fingerprint(self.model)
        return fingerprint(model, self.want.facts(), self.source.fingerprint())


def model_fingerprint(model: AnyModel) -> str:
    """Of everything that fits of a model depend on but the response."""
    design = design_fingerprint(model.design)
    if not isinstance(model, GeneralizedModel):
        return design
    own = model.family
    kind = own.core_name, own.core_link, model.classes
    how = model.nagq, model.information, model.accuracy, sorted(model.prior.items())
    return fingerprint(design, *kind, *how)


def design_fingerprint(design: Design) -> str:
    """Of everything in a design but its response."""
    terms = [
        (term.label, _structure_facts(term), flat(term.incidence), term.z) for term in design.terms
    ]
    related = [term.relation.arrays()[:3] for term in design.terms if term.relation is not None]
    own = design.weights, design.offset, *related
    own += () if design.residual is None else design.residual.facts()
    return fingerprint(design.x_names, design.X, terms, *own)


def _structure_facts(term: RandomTerm) -> Any:
    """What a term's covariance is."""
    own = term.covariance
    if own is None:
        return term.structure
    places = np.zeros(0) if own.coordinates is None else np.asarray(own.coordinates)
    return own.kind, own.rank, places


class _State:
    """The model of one thread, and those of the rows which the last responses had."""

    def __init__(self, model: AnyModel, want: Asked) -> None:
        self._whole, self._want = model, want
        self._some: OrderedDict[bytes, AnyModel | LmmError] = OrderedDict()
        self._turned: WeakKeyDictionary[AnyModel, AnyModel] = WeakKeyDictionary()

    def fits(self, values: np.ndarray, weights: np.ndarray | None) -> Columns:
        """One row a column; columns that are missing in the same rows together."""
        missing = np.isnan(values)
        if not missing.any():
            return self._fitted(self._whole, values, weights, self._want)
        parts, order = [], []
        for columns in patterns(missing):
            own = None if weights is None else weights[:, columns]
            parts.append(self._fits_of(values[:, columns], own, ~missing[:, columns[0]]))
            order.append(columns)
        place = np.argsort(np.concatenate(order))
        return {name: np.concatenate([part[name] for part in parts])[place] for name in parts[0]}

    def _fits_of(self, values: np.ndarray, weights: np.ndarray | None, has: np.ndarray) -> Columns:
        """Of columns that have the same rows."""
        want, count = self._want, values.shape[1]
        if has.all():
            return self._fitted(self._whole, values, weights, want)
        if not has.any():
            return no_fits(self._whole, want, count, "no model: all values are missing")
        model = self._of_rows(has)
        if isinstance(model, LmmError):
            return no_fits(self._whole, want, count, f"no model: {model}")
        same = model.ntheta == self._whole.ntheta
        own = want if same else want.without_start()
        weights = None if weights is None else weights[has]
        found = self._fitted(model, values[has], weights, own)
        if not same:  # a random column depends on others in these rows
            found["theta"] = np.full((count, self._whole.ntheta), np.nan)
        return found

    def _fitted(
        self, model: AnyModel, values: np.ndarray, weights: np.ndarray | None, want: Asked
    ) -> Columns:
        """One row a column, rotated where that makes related levels independent."""
        turn = rotation_of(model) if weights is None and want.is_compiled else None
        if turn is None:
            return fitted_columns(model, values, weights, want)
        if model not in self._turned:
            self._turned[model] = model.with_design(turn.design)
        return fitted_columns(self._turned[model], turn.times(values), None, want)

    def _of_rows(self, has: np.ndarray) -> AnyModel | LmmError:
        """The model of these rows alone, or why there is none."""
        key = np.packbits(has).tobytes()
        if key not in self._some:
            while len(self._some) >= HELD:
                self._some.popitem(last=False)
            with silenced():
                try:
                    design = restricted(self._whole.design, np.flatnonzero(has))
                    self._some[key] = self._whole.with_design(design)
                except LmmError as error:
                    self._some[key] = error
        return self._some[key]


def patterns(missing: np.ndarray) -> list[np.ndarray]:
    """Columns that are missing in the same rows (n, m), in the order of their first ones."""
    packed = np.packbits(missing, axis=0)
    _, first, back = np.unique(packed, axis=1, return_index=True, return_inverse=True)
    order = np.argsort(back.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(back.ravel(), minlength=len(first)))[:-1]
    groups = np.split(order, ends)
    return [groups[i] for i in np.argsort(first)]


def restricted(design: Design, rows: np.ndarray) -> Design:
    """The design of some of its rows; levels without rows are gone, unless they are related."""
    if related_groups(design.terms) or any(term.several for term in design.terms):
        return _some_rows(design, rows)
    known: dict[int, np.ndarray] = {}
    terms = []
    for term in design.terms:
        codes = known.setdefault(
            id(term.codes), np.unique(term.codes[rows], return_inverse=True)[1].astype(np.int32)
        )
        terms.append((codes, term.source.at(rows), term.covariance or term.structure))
    y = np.arange(len(rows), dtype=float)  # replaced before anything is fitted
    weights = None if design.weights is None else design.weights[rows]
    X, kind = design.fixed.at(rows), None if design.outcome is None else "real"
    made = named_as(design_of(y, X, terms, weights, None, kind), design)
    if design.outcome is None:
        own = None if design.residual is None else design.residual.taken(rows)
        return replace(made, residual=own)
    offset = None if design.offset is None else design.offset[rows]
    whole = design.rows
    some = Rows(design.y[rows], weights, offset, whole[rows], None)
    return replace(made, sums=some, outcome=design.outcome)


def _some_rows(design: Design, rows: np.ndarray) -> Design:
    """The same where levels are related, or rows have several: these are all kept."""
    known: dict[int, tuple[Any, np.ndarray]] = {}
    terms = []
    for term in design.terms:
        shared = id(term.incidence)
        if term.relation is not None or term.several:
            known.setdefault(shared, (term.incidence[rows], term.levels))
        elif shared not in known:
            left, back = np.unique(term.codes[rows], return_inverse=True)
            known[shared] = back.astype(np.int32), term.levels[left]
        codes, levels = known[shared]
        terms.append(term.with_rows(codes, np.ascontiguousarray(term.z[rows]), levels=levels))
    linear = design.outcome is None
    own = None if design.residual is None else design.residual.taken(rows)
    return replace(design, terms=tuple(terms), residual=own).with_rows(
        fixed=design.fixed.taken(rows),
        y=np.arange(len(rows), dtype=float) if linear else design.y[rows],
        weights=None if design.weights is None else design.weights[rows],
        offset=None if linear or design.offset is None else design.offset[rows],
        positions=design.rows[rows],
        index=None,
    )


def named_as(made: Design, design: Design) -> Design:
    """A design from arrays with the names of another."""
    terms = tuple(
        replace(new, label=term.label, group=term.group, columns=term.columns)
        for new, term in zip(made.terms, design.terms, strict=True)
    )
    return replace(
        made,
        formula=design.formula,
        response=design.response,
        x_names=design.x_names,
        terms=terms,
    )


def fit_all(
    model: AnyModel,
    given: Any,
    want: Asked,
    *,
    weights: Any = None,
    threads: int = 1,
    client: Any = None,
    checkpoint: Any = None,
) -> ManyFits:
    """The fits of every chunk of responses, as `lmmfast.fit_many` documents them."""
    threads = checked_threads(threads)
    parts, done = [], 0
    book: Any = nullcontext(None)
    if checkpoint is not None:
        nothing = ColumnsJob(model, Given(np.empty((model.design.n, 0))), want, 0)
        book = Checkpoint(checkpoint, nothing.fingerprint())
    with book as kept:
        for chunk in chunks_of(given, weights, model.design):
            began = time.perf_counter()
            missing = np.isnan(chunk.values)
            order = np.concatenate(patterns(missing)) if missing.any() else None
            values, own = chunk.values, chunk.weights
            if order is not None:  # models of some rows are made once
                values, own = values[:, order], None if own is None else own[:, order]
            job = ColumnsJob(model, Given(values, own), want, values.shape[1])
            found = run_job(
                job,
                threads=threads,
                client=client,
                checkpoint=kept,
                done=done,
                unit="responses",
            )
            done += job.count
            if order is not None:
                found = {name: part[np.argsort(order)] for name, part in found.items()}
            rows = (~missing).sum(axis=0)
            seconds = time.perf_counter() - began
            parts.append(fits_of(model, chunk.names, rows, want, found, seconds))
    if not parts:
        raise ValueError("Y has no chunks: there is nothing to fit")
    return joined(parts)
