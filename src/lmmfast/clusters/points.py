"""Fits of one model at every point."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..engine.model import Model
from ..many.asked import Asked
from ..many.run import ColumnsJob, Given


class Points(NamedTuple):
    """Contrasts of the fits at T points, NaN where there is none, and how each fit ended."""

    estimate: np.ndarray  # (T, r)
    variance: np.ndarray  # (T, r)
    status: np.ndarray  # (T,)


class Permuted(Model):
    """The model of a permutation. Whether covariance parameters can be told apart is asked of the
    data alone: nobody reads those of permutations, and the answer takes as long as three fits."""

    def _check_identified(self, reml: bool) -> None:
        return


def points_of(model: Model, Y: np.ndarray, want: Asked) -> Points:
    """The contrasts that are wanted of the fits of the columns of Y (n, T); where a value is NaN,
    its row is missing."""
    count = Y.shape[1]
    job = ColumnsJob(model, Given(Y), want, count)
    found = job.run(job.begin(), 0, count, job.part(0, count))
    beta = found["beta"][:, None, :]
    estimate = np.where(want.L != 0, want.L * beta, 0.0).sum(axis=2)
    return Points(estimate, found["variance"], found["status"])
