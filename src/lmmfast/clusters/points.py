"""Fits of one model at every point."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..engine.model import CERTIFIED, RESOLUTION, Model
from ..errors import LmmError
from ..many.run import _patterns, _restricted


class Points(NamedTuple):
    """Contrasts of the fits at T points, NaN where there is none, and how each fit ended."""

    estimate: np.ndarray  # (T, r)
    variance: np.ndarray  # (T, r)
    status: np.ndarray  # (T,)


def fitted(model: Model, Y: np.ndarray, L: np.ndarray, *, reml: bool, max_evals: int) -> Points:
    """Contrasts L (r, p) of the fits of the columns of Y (n, T); where a value is NaN, its row is
    missing."""
    count, r = Y.shape[1], len(L)
    estimate, variance = np.full((count, r), np.nan), np.full((count, r), np.nan)
    status = np.full(count, "", dtype=object)
    for columns, rows in _patterns(Y):
        own = model
        try:
            if rows is not None:
                own = model.with_design(_restricted(model.design, rows))
        except LmmError as error:
            status[columns] = f"no model: {error}"
            continue
        y = Y[:, columns] if rows is None else Y[np.ix_(rows, columns)]
        found = own.many(y, L, reml=reml, max_evals=max_evals, df=False)
        beta = found["beta"][:, None, :]
        estimate[columns] = np.where(L != 0, L * beta, 0.0).sum(axis=2)
        variance[columns] = found["variance"]
        known = (found["noise"] <= CERTIFIED) & (found["resolution"] <= RESOLUTION)
        short = (found["status"] == "converged") & ~(known & (found["certificate"] <= CERTIFIED))
        status[columns] = np.where(short, "not certified", found["status"])
    return Points(estimate, variance, status)
