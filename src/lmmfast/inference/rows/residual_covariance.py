"""What a residual structure says of the rows of a fit: standard deviations and covariances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit


def row_deviations(fit: Fit) -> np.ndarray:
    """(n,) residual standard deviations of the rows used over sigma: structure and weights."""
    out = np.ones(fit.nobs) if fit.weights is None else 1 / np.sqrt(fit.weights)
    if fit.design.residual is not None and fit.estimates.delta is not None:
        out = out * fit.design.residual.deviation(fit.estimates.delta)
    return np.asarray(out)


def covariance(fit: Fit, subject: Any) -> pd.DataFrame:
    """As ``LMMFit.residual_covariance`` documents it."""
    import pandas as pd

    rows = _rows_of(fit, subject)
    sd = fit.sigma * row_deviations(fit)[rows]
    correlation = np.eye(len(rows))
    residual, delta = fit.design.residual, fit.estimates.delta
    if residual is not None and delta is not None:
        correlation = residual.correlation(delta, rows)
    labels = fit.design.rows[rows] if fit.design.index is None else fit.design.index[rows]
    return pd.DataFrame(sd[:, None] * correlation * sd, index=labels, columns=labels)


def _rows_of(fit: Fit, subject: Any) -> np.ndarray:
    """The rows of a subject, or of a level of the first grouping factor, by time."""
    residual = fit.design.residual
    order = np.arange(fit.nobs)
    if residual is not None and residual.subjects is not None:
        own = residual.subjects
        codes, levels, name = own.codes, own.grouping.levels, own.asked.subject
        order = np.lexsort((own.time, codes))
    else:
        term = fit.design.terms[0]
        codes, levels, name = term.codes, term.levels, term.group
    if subject is None:
        code = int(np.argmax(np.bincount(codes)))
    else:
        found = np.flatnonzero([str(level) == str(subject) for level in levels])
        if not len(found):
            raise DataError(f"{name!r} has no level {subject!r}", variable=name)
        code = int(found[0])
    return np.asarray(order[codes[order] == code])
