"""What the fixed effects of a generalized fit would be without a level, or without a row: every
deletion is fitted anew, from the estimates of all rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...effects import standard_errors
from ...engine.relations import refuse_several
from ...errors import DataError
from .deletion import groups
from .influence import chosen_levels, cooks_distance
from .leaving import Leaving

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit


def influence(fit: Fit, by: str | None, levels: Any) -> pd.DataFrame:
    """As ``GLMMFit.influence`` documents it."""
    import pandas as pd

    if by is None and levels is not None:
        raise ValueError("levels= chooses among the levels of a grouping factor: give by= too")
    if by is not None and by not in fit.n_levels:
        message = f"{by!r} is not a grouping factor of the model; it has {', '.join(fit.n_levels)}"
        raise DataError(message, variable=by)
    index, sets = _rows_of(fit) if by is None else _levels_of(fit, by, levels)
    leaving = Leaving(fit, False)
    left = [leaving.without(rows) for rows in sets]
    p, theta = len(fit.design.x_names), len(fit.theta)
    change, moved = np.full((len(left), p), np.nan), np.full((len(left), theta), np.nan)
    for i, one in enumerate(left):
        if one.estimates is not None:
            change[i] = fit.estimates.beta - one.estimates.beta
            moved[i] = one.estimates.theta
    found = pd.DataFrame({"nobs": [len(rows) for rows in sets]}, index=index)
    found["cooks_d"] = cooks_distance(fit, change)
    scale = standard_errors(fit.estimates)
    names = [f"dfb_{name}" for name in fit.design.x_names]
    shifts = pd.DataFrame(change / scale, index=index, columns=names)
    names = [f"theta_{name}" for name in fit.model.theta_names]
    roots = pd.DataFrame(moved, index=index, columns=names)
    status = pd.DataFrame({"status": [one.status for one in left]}, index=index)
    return pd.concat([found, shifts, roots, status], axis=1)


def _rows_of(fit: Fit) -> tuple[Any, list[np.ndarray]]:
    """Each row by itself."""
    import pandas as pd

    index = fit.design.rows if fit.design.index is None else fit.design.index
    return pd.Index(index), list(np.arange(fit.nobs)[:, None])


def _levels_of(fit: Fit, by: str, levels: Any) -> tuple[Any, list[np.ndarray]]:
    """The rows of each level."""
    import pandas as pd

    term = next(term for term in fit.design.terms if term.group == by)
    if term.several:
        refuse_several(fit.design, "the deletion of levels")
    chosen = np.arange(len(term.levels)) if levels is None else chosen_levels(term, levels)
    every = groups(term.codes)
    return pd.Index(term.levels[chosen], name=by), [every[level] for level in chosen]
