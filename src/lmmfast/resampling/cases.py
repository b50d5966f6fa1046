"""Levels of a factor drawn with replacement: each replicate is a design of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..data.arrays import design_of
from ..data.design import Design
from ..engine.model import Model
from ..engine.relations import refuse_related
from ..errors import DataError, LmmError, silenced
from ..many.asked import Asked
from ..many.checkpoint import fingerprint
from ..many.columns import fill_row, no_fits
from ..many.job import Columns, Job
from ..many.run import design_fingerprint, named_as
from ..many.streams import Streams


def grouping(design: Design, by: Any) -> str:
    """The factor whose levels are drawn: the first one, or that of a name."""
    groups = list(dict.fromkeys(term.group for term in design.terms))
    if by is None:
        return groups[0]
    if by not in groups:
        known = ", ".join(map(repr, groups))
        raise ValueError(f"by must be a grouping factor of the model, {known}, not {by!r}")
    return str(by)


class Cases(Job):
    """Fits to rows of levels that are drawn with replacement.

    A level that is drawn twice is two levels, and so are those of factors nested in it; crossed
    factors keep their levels.
    """

    def __init__(self, model: Model, by: str, want: Asked, streams: Streams, count: int) -> None:
        design = model.design
        refuse_related(design, "a bootstrap that draws levels")
        rows = design.rows_for("levels that are drawn need the rows")
        self.model, self.want, self.count, self._streams = model, want, count, streams
        codes = next(term.codes for term in design.terms if term.group == by)
        self._order = np.argsort(codes, kind="stable")
        self._ends = np.searchsorted(codes[self._order], np.arange(codes.max() + 2))
        self._nested = {id(term.codes): _is_nested(term.codes, codes) for term in design.terms}
        self._y = np.array(rows.response())

    def __getstate__(self) -> dict[str, Any]:
        nested = [self._nested[id(term.codes)] for term in self.model.design.terms]
        return vars(self) | {"_nested": nested}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        terms = self.model.design.terms
        self._nested = {
            id(term.codes): nested for term, nested in zip(terms, state["_nested"], strict=True)
        }

    def begin(self) -> None:
        """Every replicate has its own model."""

    def run(self, state: None, first: int, stop: int, part: Any) -> Columns:
        out = no_fits(self.model, self.want, stop - first, "")
        shared = self._streams.shared()
        with silenced():
            for i in range(first, stop):
                drawn = shared.at(i).integers(0, len(self._ends) - 1, len(self._ends) - 1)
                self._fill(out, i - first, drawn)
        return out

    def _fill(self, out: Columns, i: int, drawn: np.ndarray) -> None:
        want = self.want
        try:
            model = self.model.with_design(self._design(drawn))
            if model.ntheta != self.model.ntheta:
                raise DataError("random columns are linearly dependent in the rows drawn")
            free = want.free
            estimates = model.again(model.design.sums, reml=want.reml, start=want.start, free=free)
            fill_row(out, i, want.kind(estimates, model.design, model), want)
        except LmmError as error:
            out["status"][i] = str(error)

    def _design(self, drawn: np.ndarray) -> Design:
        """The rows of the levels drawn, one after the other."""
        design = self.model.design
        pieces = [self._order[self._ends[g] : self._ends[g + 1]] for g in drawn]
        rows = np.concatenate(pieces)
        copy = np.repeat(np.arange(len(drawn)), [len(piece) for piece in pieces])
        known: dict[int, np.ndarray] = {}
        terms = []
        for term in design.terms:
            key = id(term.codes)
            if key not in known:
                codes = term.codes[rows].astype(np.int64)
                if self._nested[key]:
                    codes += copy * np.int64(len(term.levels))
                known[key] = np.unique(codes, return_inverse=True)[1].astype(np.int32).ravel()
            terms.append((known[key], term.source.at(rows), term.covariance or term.structure))
        weights = None if design.weights is None else design.weights[rows]
        made = design_of(self._y[rows], design.fixed.at(rows), terms, weights, None)
        own = None if design.residual is None else design.residual.taken(rows, copy)
        return replace(named_as(made, design), residual=own)

    def fingerprint(self) -> str:
        streams = self._streams.seed, self._streams.branch
        design = design_fingerprint(self.model.design)
        return fingerprint(
            "cases", design, self._y, self._order, self._ends, self.want.facts(), *streams
        )


def _is_nested(inner: np.ndarray, outer: np.ndarray) -> bool:
    """Whether every level of one is in one level of the other."""
    image = np.empty(int(inner.max()) + 1, outer.dtype)
    image[inner] = outer
    return bool((image[inner] == outer).all())
