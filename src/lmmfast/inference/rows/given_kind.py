"""What is said of new rows, in the kind of table that they came in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...data.columns import Table, series_of

# kinds whose answer is one of pandas: its own, and those that are no frames
_PANDAS = ("pandas", "builtins", "numpy", "collections")


def as_given(rows: Any, found: Any) -> Any:
    """A pandas series or frame about new rows as one of their library: polars for polars, pyarrow
    for pyarrow, missing values as nulls. Rows of pandas, arrays and mappings have one of pandas."""
    module = type(rows).__module__.partition(".")[0]
    if rows is None or isinstance(rows, (Table, Mapping)):
        return found
    if module in _PANDAS or hasattr(rows, "iloc"):
        return found
    import narwhals.stable.v2 as nw

    frame = nw.from_native(rows, eager_only=True, pass_through=True)
    if not isinstance(frame, nw.DataFrame) or frame.implementation.is_pandas():
        return found
    if not hasattr(found, "columns"):
        return _series(str(found.name), found.to_numpy(), frame.implementation).to_native()
    columns = {_name(name): found.iloc[:, j].to_numpy() for j, name in enumerate(found.columns)}
    kind = frame.implementation
    made = {name: _series(name, own, kind).to_native() for name, own in columns.items()}
    return nw.from_dict(made, backend=kind).to_native()


def _name(name: Any) -> str:
    """The name of a column: of one under a class "high fit"."""
    return " ".join(map(str, name)) if isinstance(name, tuple) else str(name)


def _series(name: str, values: np.ndarray, backend: Any) -> Any:
    import narwhals.stable.v2 as nw

    if values.dtype.kind == "f":
        return series_of(name, values, backend)
    present = [None if one != one else one for one in values.tolist()]
    return nw.new_series(name, present, backend=backend)
