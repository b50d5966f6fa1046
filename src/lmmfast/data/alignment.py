"""Values given beside the data, one for each row: by their labels where both have some.

The rule, for `weights=`, `offset=`, a new response and everything else of this kind: a pandas
object with the index of the data is taken as it is; one whose unique labels are those of the data,
in another order or among others, is put in their order; any other is refused. Arrays, lists and
series of libraries without an index are taken by position.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from ..errors import DataError

DATA = "the data"


def index_of(values: Any) -> Any:
    """The index of a pandas Series or frame, None for everything else."""
    return values.index if hasattr(values, "iloc") else None


def aligned(values: Any, index: Any, role: str, whose: str = DATA, *, reorder: bool = True) -> Any:
    """Values in the order of the rows of the data, those of `index` (None: no labels).

    What has no pandas index is returned as it is; its length is the caller's to check. Messages say
    what the values are, `role`, and whose rows these are. Without `reorder` the rows of the data in
    another order are refused, too.
    """
    own = index_of(values)
    if own is None or own is index:
        return values
    if index is None:
        _refuse_shuffled(own, role, whose)
        return values
    if own.equals(index) or len(own) < len(index):  # too few: the caller tells
        return values
    _check_labels(own, index, role, whose)
    if not reorder and len(own) == len(index):
        raise DataError(
            f"{role}: these are the rows of the data in another order: use {role}.loc[data.index]",
            variable=role,
        )
    return values.iloc[own.get_indexer(index)]


def _check_labels(own: Any, index: Any, role: str, whose: str) -> None:
    """Every row of the data has one label, and the values have it once."""
    for name, labels in ((role, own), (whose, index)):
        if not labels.is_unique:
            again = labels[labels.duplicated()].tolist()[0]
            _refuse(
                role,
                f"its index is not that of {whose}, and in {name} the label {again!r} stands "
                "several times: which value is whose cannot be told",
            )
    lacking = np.flatnonzero(own.get_indexer(index) < 0)
    if len(lacking):
        _refuse(
            role,
            f"its index is that of other rows: {len(lacking)} of the {len(index)} labels of "
            f"{whose} are not in it, {index[lacking[:1]].tolist()[0]!r} first",
            lacking,
        )
    if len(own) > len(index) and _is_default(index):
        _refuse(
            role,
            f"it has {len(own)} values, {whose} have {len(index)} rows that are merely counted "
            "(0, 1, ...): these labels do not say which value is whose",
        )


def _is_default(index: Any) -> bool:
    """Whether rows are labelled 0, 1, ... as in a frame without labels."""
    whole = index.nlevels == 1 and index.dtype.kind in "iu"
    return whole and bool((index == np.arange(len(index))).all())


def _refuse_shuffled(own: Any, role: str, whose: str) -> None:
    """The data have no labels; a series of theirs in another order has them out of order."""
    if own.nlevels > 1 or own.dtype.kind not in "iu" or own.is_monotonic_increasing:
        return
    if own.is_unique and own.min() == 0 and own.max() == len(own) - 1:
        _refuse(role, f"its index is in another order (0, 1, ... sorted), and {whose} have none")


def _refuse(role: str, why: str, rows: Any = ()) -> NoReturn:
    raise DataError(
        f"{role}: {why}. Give one value for each row under the same label, or an array "
        "(.to_numpy()), which is taken in the order of the rows",
        variable=role,
        rows=list(rows[:10]),
    )
