"""Which rows are left out together: levels of a factor, random parts, or the user's labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.design import aligned_to_fit
from ..errors import DataError
from ..inference.rows.deletion import groups
from ..many.job import checked_count
from ..many.streams import Streams

if TYPE_CHECKING:
    from ..fit import Fit


@dataclass(frozen=True, eq=False)
class Folds:
    """Disjoint sets of the rows that a fit used, each row in one of them."""

    what: str  # "subj", "10 parts of subj", ...
    labels: np.ndarray  # m
    codes: np.ndarray  # n  the fold of each row
    seed: int | None = None  # of random folds

    @cached_property
    def sets(self) -> list[np.ndarray]:
        """Rows of each fold."""
        return groups(self.codes)

    def is_same(self, other: Folds) -> bool:
        """Whether the same rows are left out together, in the same order."""
        return bool(np.array_equal(self.codes, other.codes))


def folds_of(fit: Fit, by: Any, k: Any = None, folds: Any = None, seed: Any = None) -> Folds:
    """The folds that are asked for: at least two."""
    fit.design.rows_for("rows are left out of those in memory")
    if folds is not None:
        if by is not None or k is not None:
            raise ValueError("folds= says which rows go together: give it without by= and k=")
        found = _given(fit, folds, "folds")
    elif by is None:
        if k is None:
            raise ValueError("say what is left out: by= a grouping factor, k= parts, or folds=")
        found = Folds("rows", fit.design.rows, np.arange(fit.nobs))
    else:
        found = _levels(fit, by) if isinstance(by, str) else _given(fit, by, "by")
    if k is not None:
        found = _dealt(found, checked_count(k, "k"), seed)
    if len(found.labels) < 2:
        raise ValueError(f"there is a single fold ({found.labels[0]}): two are needed at least")
    return found


def _levels(fit: Fit, by: str) -> Folds:
    for term in fit.design.terms:
        if term.group == by:
            return Folds(by, term.levels, term.codes)
    known = ", ".join(fit.n_levels)
    raise DataError(
        f"{by!r} is not a grouping factor of the model; it has {known}: give an array with the "
        "label of each row for others",
        variable=by,
    )


def _given(fit: Fit, labels: Any, role: str) -> Folds:
    """Folds by a label for each row of the fit, or of its data."""
    import pandas as pd

    own = np.asarray(aligned_to_fit(labels, fit.design, role))
    if own.shape == (fit.design.n_rows,):
        own = own[fit.design.rows]
    if own.shape != (fit.nobs,):
        raise DataError(
            f"{role} has shape {own.shape}; it needs a label for each of the {fit.nobs} rows of "
            f"the fit, or of the {fit.design.n_rows} rows of the data",
            variable=role,
        )
    missing = np.flatnonzero(pd.isna(own))
    if len(missing):
        raise DataError(f"{role} has missing labels", variable=role, rows=missing[:10].tolist())
    codes, names = pd.factorize(own, sort=True)
    return Folds(role, np.asarray(names), codes)


def _dealt(parts: Folds, k: int, seed: Any) -> Folds:
    """The parts dealt to k folds at random, as many to each."""
    m = len(parts.labels)
    if k > m:
        raise ValueError(f"k is {k}: there are only {m} {parts.what} to deal")
    streams = Streams(seed)
    place = streams.generator(0).permutation(np.arange(m) % k)
    return Folds(f"{k} parts of {parts.what}", np.arange(k), place[parts.codes], streams.seed)
