"""Values that are given for the rows of a fit: another response, weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DataError
from ..formula.cells import floats_of
from .alignment import aligned, index_of
from .design import Design

__all__ = ["aligned_to_fit", "new_response"]


def aligned_to_fit(values: Any, design: Design, role: str) -> Any:
    """Values of the n rows that a fit used, given for these or for all rows of its data.

    As `aligned`; rows of data without an index are labelled by their positions.
    """
    import pandas as pd

    own = index_of(values)
    if own is None or own is design.index:
        return values
    index = pd.Index(design.rows) if design.index is None else design.index
    all_rows = len(own) == design.n_rows > design.n
    if all_rows and own.take(design.rows).equals(index):
        return values.iloc[design.rows]
    if design.index is None and not own.equals(index) and not all_rows:
        index = None
    return aligned(values, index, role, "the rows of the fit")


def new_response(given: Any, design: Design) -> np.ndarray:
    """The values of another response for the rows of a design, checked; see `LMMFit.refit`."""
    rows = design.rows_for("a fit to another response")
    role = "the new response"
    if isinstance(given, str):
        raise DataError(
            f"{role} must be values, not a name: the fit keeps no other columns of the data; "
            f"write fit.refit(data[{given!r}])",
            variable=given,
        )
    y: np.ndarray = np.array(floats_of(aligned_to_fit(given, design, role), role))
    if y.shape != rows.y.shape:
        raise DataError(
            f"the new response has shape {y.shape}; the fit used {design.n} rows "
            "(rows with missing values were dropped: see design.rows)",
            variable=design.response,
        )
    if not np.isfinite(y).all():
        raise DataError(
            "the new response has values that are not finite",
            variable=design.response,
            rows=np.flatnonzero(~np.isfinite(y))[:10].tolist(),
        )
    return y
