"""Fits without some of the rows, from the optimum of all.

Rows that are left out get weight zero in the compiled model. What is left of it is the model of the
other rows: a level without rows adds M_l = I, and log|I| = 0, to the criterion, so that pattern,
storage and coordinates can stay. Where other columns are independent then, or residuals have a
structure, the model is made anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...data.rows import Remaining
from ...engine.identify import are_told_apart
from ...errors import DataError, FitError, silenced
from ..refits import refitted

if TYPE_CHECKING:
    from ...data.design import Design
    from ...engine.estimates import Estimates
    from ...engine.model import Model
    from ...fit import Fit


EASY = 3  # evaluations of a fit whose first guess is better than the optimum of other rows


class Left(NamedTuple):
    """A fit without some rows."""

    estimates: Estimates | None  # None: there is none
    status: str  # "converged", or what is not as in the fit of all rows
    remaining: Remaining


class Leaving:
    """Fits a model without some rows, again and again.

    Parameters
    ----------
    fit : Fit
        Of all rows; in memory.
    are_identified : bool
        Whether its covariance parameters are known to be told apart without the rows too, see
        `are_identified_without`; else that is looked at each time.
    model : Model, optional
        The model to fill, of the fit's design. Default: one of its own.
    """

    def __init__(self, fit: Fit, are_identified: bool, model: Model | None = None) -> None:
        self._fit, self._rows = fit, fit.design.rows_for("rows can be left out of those in memory")
        self.model = copied(fit) if model is None else model
        self._are_identified = are_identified
        terms = {term.group: term for term in fit.design.terms if not term.several}
        self._codes = {group: term.codes for group, term in terms.items()}
        self._counts = {group: np.bincount(term.codes) for group, term in terms.items()}
        # balanced data have their optimum where the moments are
        is_easy = fit.n_evals <= EASY and fit.estimates.free is None
        self._start = None if is_easy else fit.theta

    def without(self, rows: np.ndarray) -> Left:
        """The fit without these rows: estimates of all levels, effects of those that are gone are
        zero (of a model that had to be made anew, of the levels that are left)."""
        remaining = Remaining(self._rows, rows)
        short = self._shortage(rows, remaining)
        if short:
            return Left(None, short, remaining)
        fit = self._fit
        if self._are_identified and fit.design.residual is None:
            free = fit.estimates.free
            try:
                with silenced():
                    found = self.model.again(remaining, reml=fit.reml, start=self._start, free=free)
                return Left(found, found.status, remaining)
            except FitError:
                pass  # other columns may be independent
        return Left(*self._anew(rows), remaining)

    def _shortage(self, rows: np.ndarray, remaining: Remaining) -> str:
        """What is too little without these rows."""
        rank = int(self._fit.estimates.fixed_kept.sum())
        if remaining.n <= rank:
            return f"too few rows are left: {remaining.n}"
        for group, codes in self._codes.items():
            levels, counts = np.unique(codes[rows], return_counts=True)
            gone = int((self._counts[group][levels] == counts).sum())
            if len(self._counts[group]) - gone < 2:
                return f"{group!r} has a single level left"
        return ""

    def _anew(self, rows: np.ndarray) -> tuple[Estimates | None, str]:
        """The fit of a new model of the other rows."""
        fit = self._fit
        try:
            with silenced():
                model = fit.model.with_design(without(fit.design, rows))
                if model.theta_entries != fit.model.theta_entries:
                    return None, "columns of random terms are linearly dependent"
                found = refitted(fit, model, self._start, free=fit.estimates.free).estimates
        except (FitError, DataError) as error:
            return None, str(error)
        if (found.fixed_kept != fit.estimates.fixed_kept).any():
            lost = np.array(fit.design.x_names)[fit.estimates.fixed_kept & ~found.fixed_kept]
            return found, f"cannot be estimated: {', '.join(lost)}"
        if found.unidentified and not fit.estimates.unidentified:
            return found, f"not identified: {found.unidentified[0]}"
        return found, found.status


def copied(fit: Fit) -> Model:
    """The model of a fit once more."""
    with silenced():
        return fit.model.with_design(fit.design)


def are_identified_without(fit: Fit, sets: Sequence[np.ndarray]) -> bool:
    """Whether covariance parameters can be told apart without any one of these sets of rows.

    True is certain: the rows outside all sets of even number tell them apart, and those outside
    all of odd number; one of the two is whole whatever set is left out.
    """
    for first in (0, 1):
        out = np.zeros(fit.nobs, dtype=bool)
        for rows in sets[first::2]:
            out[rows] = True
        try:
            rest = without(fit.design, np.flatnonzero(out))
        except DataError:
            return False
        if not are_told_apart(rest, fit.model._engine, fit.reml):
            return False
    return True


def without(design: Design, rows: np.ndarray) -> Design:
    """The design without some rows; levels that have none left are gone, unless they are related,
    or rows have several. DataError when a grouping factor has a single level left."""
    keep = np.ones(len(design.y), bool)
    keep[rows] = False
    known: dict[int, tuple[Any, np.ndarray]] = {}
    terms = []
    for term in design.terms:
        shared = id(term.incidence)
        if term.several:
            known.setdefault(shared, (term.incidence[keep], term.levels))
        if shared not in known:
            left, back = np.unique(term.codes[keep], return_inverse=True)
            if len(left) < 2:
                raise DataError(f"{term.group!r} has a single level left", variable=term.group)
            known[shared] = back.astype(np.int32), term.levels[left]
            if term.relation is not None:
                known[shared] = term.codes[keep], term.levels
        codes, levels = known[shared]
        terms.append(term.with_rows(codes, np.ascontiguousarray(term.z[keep]), levels=levels))
    own = None if design.residual is None else design.residual.taken(np.flatnonzero(keep))
    return replace(design, terms=tuple(terms), residual=own).with_rows(
        fixed=design.fixed.taken(np.flatnonzero(keep)),
        y=design.y[keep],
        weights=None if design.weights is None else design.weights[keep],
        offset=None if design.offset is None else design.offset[keep],
        positions=design.rows[keep],
        index=None if design.index is None else design.index[keep],
    )
