"""More of the same: levels of a grouping factor repeated, or rows within cells."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from ..data.columns import suggest
from ..errors import DataError
from ..fit import Fit
from ..given import IntoDataFrame, NewData
from ..hints import hinted
from .factors import occurrence
from .frames import like, table_of
from .study import Study, study_of

Frame = TypeVar("Frame", bound="IntoDataFrame")

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd


@overload
def extend(
    data: Fit | Study, *, along: str | None = ..., within: str | Sequence[str] | None = ...,
    to: int, nested: str | Sequence[str] = ...,
) -> Study: ...  # fmt: skip


@overload
def extend(
    data: Mapping[str, ArrayLike], *, along: str | None = ...,
    within: str | Sequence[str] | None = ..., to: int, nested: str | Sequence[str] = ...,
) -> pd.DataFrame: ...  # fmt: skip


@overload
def extend(
    data: Frame, *, along: str | None = ..., within: str | Sequence[str] | None = ...,
    to: int, nested: str | Sequence[str] = ...,
) -> Frame: ...  # fmt: skip


@hinted
def extend(
    data: Fit | Study | NewData,
    *,
    along: str | None = None,
    within: str | Sequence[str] | None = None,
    to: int,
    nested: str | Sequence[str] = (),
) -> Study | IntoDataFrame:
    """A sample of another size: levels of a factor repeated under new labels, or left out.

    Rows of a level are copied as they are, its covariates and conditions with them. Levels are
    taken in an order whose every beginning has about the same shares of groups (of the columns,
    other than fractions, that are constant within levels), so that larger and smaller samples stay
    as balanced as the data are.

    Parameters
    ----------
    data : table, fit of `lmer` or `glmer`, or Study
        Whose rows are repeated, or left out.
    along : str, optional
        Column whose levels are counted: ``along="subj", to=60``.
    within : str or list of str, optional
        In place of `along`: columns that make cells, each of which gets `to` rows, its own repeated
        in turn: ``within=["subj", "cond"], to=10``.
    to : int
        How many there shall be.
    nested : str or list of str, optional
        Columns whose levels get new labels with each copy, such as pupils along schools. Columns of
        text whose levels each belong to one level of `along`, and such grouping factors of a fit,
        are found.

    Returns
    -------
    pandas.DataFrame, or Study
        Of a table a table, of its own library. Of a fit a `Study`: its formula, the larger data
        (responses are copied and mean nothing), its estimates as assumed parameters; for `power`.

    Raises
    ------
    ValueError
        For arguments that mean nothing.
    DataError
        When there is no such column, or it has missing values.
    FitError
        For a fit with related levels, or one of `mmrm`.

    See Also
    --------
    lmmfast.power : Power of the larger study.
    lmmfast.design : Trials from nothing.

    Examples
    --------
    >>> from lmmfast import datasets, extend, lmer
    >>> data = datasets.load("sleepstudy")
    >>> extend(data, along="Subject", to=40)["Subject"].nunique()
    40
    >>> len(extend(data, within=["Subject", "Days"], to=3))
    540
    """
    if (along is None) == (within is None):
        raise ValueError(
            "give along= (levels are repeated) or within= (rows of cells), one of them"
        )
    if isinstance(to, bool) or not isinstance(to, (int, np.integer)) or to < 1:
        raise ValueError(f"to must be a whole number from 1 on, not {to!r}")
    study = study_of(data)
    frame = table_of(data) if study is None else study.table()
    if along is None:
        larger = _within(frame, _names(within), int(to))
    else:
        given = _names(nested) + ([] if study is None else study.groups)
        larger = extended(frame, along, int(to), given)
    return like(data, larger) if study is None else study.with_data(larger)


def extended(frame: pd.DataFrame, along: str, to: int, nested: Iterable[str]) -> pd.DataFrame:
    """As `extend` along a column describes it."""
    levels, codes = levels_of(frame, along)
    if to < 2:
        raise ValueError(f"a sample needs two levels of {along!r} at least, not {to!r}")
    order, m = _balanced_order(frame, along, codes, len(levels)), len(levels)
    copies = [np.arange(m)] * (to // m) + [order[: to % m]] * (to % m > 0)
    rows = [np.flatnonzero(np.isin(codes, chosen)) for chosen in copies]
    larger = frame.iloc[np.concatenate(rows)].reset_index(drop=True)
    copy = np.repeat(np.arange(len(rows)), list(map(len, rows)))
    for name in [along, *_nested(frame, along, codes, m, nested)]:
        larger[name] = _relabelled(frame[name], larger[name], copy)
    return _without_unused(larger) if to < m else larger


def _within(frame: pd.DataFrame, names: Sequence[str], to: int) -> pd.DataFrame:
    """So many rows in each cell of some columns."""
    if not names:
        raise ValueError("within must name the columns that make cells")
    cell = np.zeros(len(frame), dtype=np.int64)
    for name in names:
        levels, codes = levels_of(frame, name)
        cell = np.unique(cell * len(levels) + codes, return_inverse=True)[1].ravel()
    counts = np.bincount(cell)
    by_cell = np.split(np.argsort(cell, kind="stable"), np.cumsum(counts)[:-1])
    rows = np.concatenate([np.resize(places, to) for places in by_cell])
    return frame.iloc[rows].reset_index(drop=True)


def _names(given: Any) -> list[str]:
    """Names of columns; ``"subj+cond"`` as simr has it."""
    if isinstance(given, str):
        return [one.strip() for one in given.split("+")]
    return [str(one) for one in given]


def levels_of(frame: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Levels of a column as they come in the rows, and the level of each row."""
    import pandas as pd

    if name not in frame.columns:
        hint = suggest(name, list(frame.columns), "columns")
        raise DataError(f"the data have no column {name!r}{hint}", variable=name)
    codes, levels = pd.factorize(frame[name])
    if (codes < 0).any():
        raise DataError(f"{name!r} has missing values: drop such rows", variable=name)
    return np.asarray(levels), np.asarray(codes)


def _balanced_order(frame: pd.DataFrame, along: str, codes: np.ndarray, m: int) -> np.ndarray:
    """The m levels in an order whose every beginning has nearly the shares of their groups."""
    group = _groups(frame, along, codes, m)
    counts = np.bincount(group)
    return np.lexsort((np.arange(m), (occurrence(group) + 0.5) / counts[group]))


def _groups(frame: pd.DataFrame, along: str, codes: np.ndarray, m: int) -> np.ndarray:
    """The group of each of m levels, by columns that are constant within levels: those with few
    values first, as long as groups have two levels on average."""
    first = np.unique(codes, return_index=True)[1]
    constant = []
    for name in frame.columns:
        if name != along and frame[name].dtype.kind != "f":
            coded = _codes(frame[name])
            if np.array_equal(coded, coded[first][codes]):
                constant.append(coded[first] + 1)  # 0: missing
    group = np.zeros(m, dtype=np.int64)
    for coded in sorted(constant, key=np.max):
        finer = np.unique(group * (coded.max() + 1) + coded, return_inverse=True)[1].ravel()
        if 2 * (finer.max() + 1) > m:
            break
        group = finer
    return group


def _codes(column: pd.Series) -> np.ndarray:
    import pandas as pd

    return np.asarray(pd.factorize(column)[0])


def _nested(
    frame: pd.DataFrame, along: str, codes: np.ndarray, count: int, given: Iterable[str]
) -> list[str]:
    """Columns whose levels are each in one level of `along`, several in some of them."""
    wanted = set(given) - {along}
    found = []
    for name in frame.columns:
        column = frame[name]
        if name == along or (name not in wanted and column.dtype.kind in "biufM"):
            continue
        coded = _codes(column)
        first = np.unique(coded, return_index=True)[1]
        inside = bool((coded >= 0).all()) and np.array_equal(codes, codes[first][coded])
        if inside and coded.max() + 1 > count:
            found.append(name)
    for name in wanted:
        if name not in frame.columns:
            levels_of(frame, name)
    return found


def _relabelled(before: pd.Series, column: pd.Series, copy: np.ndarray) -> Any:
    """New labels for copies 1, 2, ...: ``S07.2`` is the second of ``S07``; numbers go on."""
    import pandas as pd

    if not copy.any():
        return column
    if before.dtype.kind in "iu" or all(isinstance(one, numbers.Integral) for one in before):
        low, high = int(before.min()), int(before.max())
        return column.astype("int64").to_numpy() + copy * (high - low + 1)
    labels = np.asarray(column.astype(str), dtype=object)
    known = set(map(str, before.unique()))
    dot = next(mark for mark in (".", "_copy", "_copy_") if not _clash(known, mark, copy.max()))
    new = np.where(copy == 0, labels, labels + dot + (copy + 1).astype(str).astype(object))
    if before.dtype == "category":
        there = [label for label in map(str, before.cat.categories) if label in known]
        return pd.Categorical(new, categories=list(dict.fromkeys([*there, *new])))
    return new


def _clash(known: set[str], mark: str, most: int) -> bool:
    return any(f"{one}{mark}{k + 1}" in known for one in known for k in range(1, most + 1))


def _without_unused(frame: pd.DataFrame) -> pd.DataFrame:
    for name in frame.columns:
        if frame[name].dtype == "category":
            frame[name] = frame[name].cat.remove_unused_categories()
    return frame
