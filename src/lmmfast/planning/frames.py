"""Tables of any kind as pandas has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def like(data: Any, frame: pd.DataFrame) -> Any:
    """A pandas table as one of the library that some data are of; of mappings it stays as it is."""
    if isinstance(data, dict) or hasattr(data, "iloc"):
        return frame
    import narwhals.stable.v2 as nw

    found = nw.from_native(frame, eager_only=True)
    kind = nw.from_native(data, eager_only=True).implementation
    if kind.is_polars():
        return found.to_polars()
    return found.to_arrow() if kind.is_pyarrow() else frame


def table_of(data: Any) -> pd.DataFrame:
    """A table as pandas has it, rows numbered."""
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return data.reset_index(drop=True)
    if isinstance(data, dict):
        return pd.DataFrame(data)
    try:
        import narwhals.stable.v2 as nw

        frame: pd.DataFrame = nw.from_native(data, eager_only=True).to_pandas()
        return frame.reset_index(drop=True)
    except TypeError:
        raise DataError(
            f"data is a {type(data).__name__}; give a pandas, polars or pyarrow table, a dict of "
            "arrays, or a fit"
        ) from None
