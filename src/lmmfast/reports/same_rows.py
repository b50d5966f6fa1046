"""Where the rows of a fit are in a table, and whether they are these rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.alignment import index_of
from ..data.columns import Table
from ..data.design import evaluated
from ..data.responses import answer_of
from ..errors import DataError, LmmError, silenced

Places = NDArray[np.int64]
NEAR = 1e-6  # relative: tables that were rounded on their way through a file are the same


def places_in(design: Any, data: Any) -> Places:
    """Places (n) in a table of the rows that a fit used.

    They go by labels where both have some (pandas), else by order; the responses tell whether these
    are the rows.

    Raises
    ------
    DataError
        When the table has another number of rows, or other responses in these places.
    """
    table = Table.of(data)
    places = _by_order(design, table.n)
    index, own = design.index, index_of(data)
    if index is not None and own is not None and not own.take(places).equals(index):
        found = own.get_indexer(index) if own.is_unique and index.is_unique else np.array([-1])
        places = found if (found >= 0).all() else places
    _check_responses(design, table, places)
    return places


def _by_order(design: Any, n: int) -> Places:
    """The places of rows that stand as they did, with or without those that were dropped."""
    if n == design.n_rows:
        return np.asarray(design.rows)
    if n == design.n:
        return np.arange(n)
    dropped = f" ({design.n} of them used)" if design.n < design.n_rows else ""
    raise DataError(
        f"data has {n} rows, the fit was made of {design.n_rows}{dropped}: give these, or "
        "other rows as newdata="
    )


def _check_responses(design: Any, table: Table, places: Places) -> None:
    found = _responses(design, table, places)
    if found is None:
        return
    differ = ~np.isclose(found, design.y, rtol=NEAR, atol=0, equal_nan=True)
    if not differ.any():
        return
    first = int(places[np.argmax(differ)])
    raise DataError(
        f"data has other responses {design.response!r} than the fit in {int(differ.sum())} of its "
        f"{design.n} rows (row {first} is the first): these are the rows in another order, or "
        "others. Give the rows of the fit in their order, or other rows as newdata=",
        variable=design.response,
        rows=places[differ][:10].tolist(),
    )


def _responses(design: Any, table: Table, places: Places) -> NDArray[Any] | None:
    """The responses of rows of a table; None where it does not have what they are made of."""
    if design.recipe is None or not all(table.has(name) for name in design.plan.response.names):
        return None
    atom, outcome = design.plan.response, design.outcome
    try:
        with silenced():
            columns = {name: table.column(name).take(places).used() for name in atom.names}
            value = evaluated(atom, columns, design.recipe.memory, places)
            if outcome is None:
                return next(iter(value.values())) if isinstance(value, dict) else None
            weights = None if outcome.form == "cbind" else design.weights
            return answer_of(outcome.kind, design.response, value, weights, places).y
    except LmmError:  # what cannot be read is not compared
        return None
