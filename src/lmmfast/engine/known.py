"""Fits with a known residual standard deviation: the criterion at this sigma, in theta alone.

It is f(theta) + nu (k - 1 - log k), with f the criterion at the best sigma and k = r^2(theta) / nu
over sigma^2 (see `criterion`); `search` finds its minimum. A column of T that ends near zero is
tried at zero, as every fit has exact zeros.
"""

from __future__ import annotations

import numpy as np

from .criterion import Criterion, ValueWithSigma
from .search import GAIN, Minimum, Search, Watch

NEAR_ZERO = 1e-2  # diagonal entries of T, in units of the whitened columns, that are tried at zero


def minimum(
    criterion: Criterion, z: np.ndarray, sigma: float, most: int, watch: Watch | None
) -> Minimum:
    """The minimum over the coordinates z of theta, from a start."""
    log_variance = 2 * float(np.log(sigma))

    def at(place: np.ndarray) -> ValueWithSigma:
        return criterion.with_sigma(place, log_variance)

    found = Search(at, most, watch).end(z)
    zero = _at_zero(criterion, found.z)
    if zero is None or found.status != "converged":
        return found
    there = Search(at, most, watch, found.evals).end(zero)
    return there if there.value <= found.value + GAIN else found._replace(evals=there.evals)


def _at_zero(criterion: Criterion, z: np.ndarray) -> np.ndarray | None:
    """The coordinates with columns of T at zero that are near it; None where none is."""
    theta, entries = criterion.theta(z), criterion.entries
    out = z.copy()
    for place, (term, row, column) in enumerate(entries):
        if row != column or abs(theta[place]) > NEAR_ZERO * criterion.unit[place]:
            continue
        mine = [k for k, (t, _, c) in enumerate(entries) if (t, c) == (term, column)]
        own = [criterion.coordinate(k) for k in mine]
        if all(e is not None for e in own):
            out[[e for e in own if e is not None]] = 0.0
    return None if np.array_equal(out, z) else out
