"""Trials of an experiment that is planned: `lmmfast.design`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..hints import hinted
from ..many.streams import checked_seed
from .dropout import without_lost
from .factors import Cells, categorical, interleaved, labels_of, occurrence

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd

LIST, REPLICATE = "list", "replicate"


@hinted
def design(
    subjects: int | Mapping[str, int],
    items: int | None = None,
    *,
    within: Mapping[str, Sequence[object]] | None = None,
    between: Mapping[str, Sequence[object]] | None = None,
    between_items: Mapping[str, Sequence[object]] | None = None,
    counterbalancing: Literal["latin", "full"] | list[str] | tuple[str, ...] = "latin",
    replicates: int = 1,
    dropout: float
    | Mapping[str, float]
    | Callable[[pd.DataFrame, np.random.Generator], ArrayLike] = 0.0,
    balanced: bool = True,
    subject: str = "subj",
    item: str = "item",
    seed: int | None = None,
) -> pd.DataFrame:
    """Trials of an experiment: subjects, items and the factors that vary within and between them.

    Factors are dicts from names to levels: ``{"cond": ["a", "b"]}``. Text becomes a pandas
    categorical in this order (the first level is the reference), numbers stay a covariate.

    Parameters
    ----------
    subjects : int or dict
        Their number. For groups of different sizes the levels of the one factor of `between` and
        how many there are of each: ``{"young": 20, "old": 30}``.
    items : int, optional
        Default: no items; each subject has one row in each cell of `within`.
    within : dict, optional
        Factors that vary within subjects, and within items where there are some.
    between : dict, optional
        Factors between subjects (within items). Subjects are shared out evenly over the cells.
    between_items : dict, optional
        Factors between items (within subjects). One that is in `between` too, with the same levels,
        is between both: subjects see the items of their own level.
    counterbalancing : {"latin", "full"} or list of str, default "latin"
        "latin": each subject sees each item once. With L cells of `within` there are L lists;
        subjects of list k see item i in cell (k + i) mod L. Each subject has each cell equally
        often, and so has each item. "full": each subject sees each item in each cell. A list: the
        factors that are rotated over lists; the others are crossed.
    replicates : int, default 1
        Rows of each of these trials; numbered in the column ``replicate``.
    dropout : float, dict or callable, default 0
        What is lost at random: a share of the trials, ``{"subj": 0.1, "trials": 0.05}`` for shares
        of the levels of a column and of the trials that are left; or a function of the frame and a
        numpy Generator that returns true for each row that is lost.
    balanced : bool, default True
        Refuse counts that cannot be shared out evenly. False: as evenly as possible.
    subject, item : str, defaults "subj" and "item"
        Names of these columns.
    seed : int, optional
        Of the dropout. Default: a new one, kept in ``frame.attrs["seed"]``.

    Returns
    -------
    pandas.DataFrame
        One row a trial: subject, item, ``list`` (where there are lists, from 1 on), and the
        factors. Beginnings of the subjects (and of the items) are balanced too, as nearly as may
        be: groups and lists alternate.

    Raises
    ------
    ValueError
        For counts that cannot be balanced, with those nearby that can.

    See Also
    --------
    lmmfast.power : Power of a study of these trials.
    lmmfast.simulate : Responses of these trials.
    lmmfast.extend : Other sizes of data at hand.

    Examples
    --------
    >>> from lmmfast import design
    >>> trials = design(subjects=4, items=8, within={"cond": ["a", "b"]})
    >>> trials.groupby(["subj", "cond"], observed=True).size().unique().tolist()
    [4]
    >>> days = design(subjects=18, within={"Days": range(10)}, between={"group": ["old", "young"]})
    >>> days.head(3)
      subj group  Days
    0  S01   old     0
    1  S01   old     1
    2  S01   old     2
    """
    of_subjects, of_items = (
        Cells.read(between, "between"),
        Cells.read(between_items, "between_items"),
    )
    inner = Cells.read(within, "within")
    _check_names([subject, item], of_subjects, of_items, inner)
    if items is None and of_items.factors:
        raise ValueError("between_items needs items=, their number")
    seed = checked_seed(seed)
    rotated = inner.chosen(_rotated(counterbalancing, inner, items is not None))
    plan = _Plan(of_subjects, of_items, rotated, inner, balanced)
    people = plan.subjects(subjects)
    things = None if items is None else plan.items(items)
    frame = plan.frame(people, things, _whole(replicates, "replicates"), (subject, item))
    frame = without_lost(frame, dropout, np.random.default_rng(seed))
    frame.attrs["seed"] = seed
    return frame


@dataclass(frozen=True)
class _Units:
    """Subjects or items: the cell of each, and its list or place in the rotation."""

    cell: np.ndarray
    turn: np.ndarray

    def __len__(self) -> int:
        return len(self.cell)


@dataclass(frozen=True)
class _Plan:
    """The factors of an experiment."""

    of_subjects: Cells
    of_items: Cells
    rotated: Cells  # over lists
    inner: Cells  # all within subjects and items
    balanced: bool

    @property
    def crossed(self) -> Cells:
        """Factors within both that each subject has in full for each item."""
        rotated = self.rotated.names
        return self.inner.chosen(name for name in self.inner.names if name not in rotated)

    def subjects(self, given: Any) -> _Units:
        if not isinstance(given, Mapping):
            return self._shared(_whole(given, "subjects"), self.of_subjects, "subjects")
        (factor,) = self.of_subjects.factors if len(self.of_subjects.factors) == 1 else (None,)
        if factor is None or set(given) != set(factor.levels):
            raise ValueError(
                "subjects: counts by level need one factor in between=, and one for each of its "
                f"levels; got {dict(given)!r}"
            )
        counts = [_whole(given[level], f"subjects of {level!r}") for level in factor.levels]
        for level, count in zip(factor.levels, counts, strict=True):
            self._check(count, self.rotated.count, f"subjects of {level!r}", 1)
        return self._turned(interleaved(counts))

    def items(self, given: Any) -> _Units:
        return self._shared(_whole(given, "items"), self.of_items, "items")

    def _shared(self, count: int, cells: Cells, what: str) -> _Units:
        self._check(count, cells.count * self.rotated.count, what, cells.count)
        return self._turned(np.arange(count) % cells.count)

    def _turned(self, cell: np.ndarray) -> _Units:
        return _Units(cell, occurrence(cell) % self.rotated.count)

    def _check(self, count: int, unit: int, what: str, cells: int) -> None:
        """A count that cannot be shared out evenly is refused."""
        if count < cells:
            raise ValueError(f"{count} {what} are fewer than the {cells} cells between {what}")
        if not self.balanced or count % unit == 0:
            return
        lists = self.rotated.count
        parts = [f"{lists} lists ({' x '.join(self.rotated.names)})"] * (lists > 1)
        parts += [f"{cells} cells between {what}"] * (cells > 1)
        low, high = count // unit * unit, -(-count // unit) * unit
        near = f"{low} or {high}" if low else f"{high}"
        hint = ', counterbalancing="full"' if lists > 1 else ""
        raise ValueError(
            f"{count} {what} cannot be shared out evenly over {' x '.join(parts)}: use {near}"
            f"{hint}, or balanced=False for as evenly as possible"
        )

    def frame(
        self, people: _Units, things: _Units | None, replicates: int, names: tuple[str, str]
    ) -> pd.DataFrame:
        """One row a trial, subject by subject."""
        import pandas as pd

        counts = (len(people), 1 if things is None else len(things), self.crossed.count, replicates)
        s, i, cell, replicate = (index.ravel() for index in np.indices(counts))
        columns: dict[str, Any] = {
            names[0]: categorical(s, labels_of("S", len(people))),
        }
        turn = people.turn[s]
        if things is not None:
            columns[names[1]] = categorical(i, labels_of("I", len(things)))
            turn = (turn + things.turn[i]) % self.rotated.count
        if self.rotated.factors:
            columns[LIST] = people.turn[s] + 1
        columns |= self.of_subjects.columns(people.cell[s])
        met = np.ones(len(s), dtype=bool)
        if things is not None:
            theirs = self.of_items.columns(things.cell[i])
            for both in theirs.keys() & columns.keys():
                met &= np.asarray(columns[both] == theirs[both])
            columns |= theirs
        inner = self.rotated.columns(turn) | self.crossed.columns(cell)
        columns |= {name: inner[name] for name in self.inner.names}
        if replicates > 1:
            columns[REPLICATE] = replicate + 1
        made = pd.DataFrame(columns)
        return made if met.all() else made[met].reset_index(drop=True)


def _rotated(given: Any, inner: Cells, items: bool) -> tuple[str, ...]:
    """Names of the factors that are rotated over lists."""
    if isinstance(given, str):
        if given not in ("latin", "full"):
            raise ValueError(
                'counterbalancing must be "latin", "full" or a list of factors of within, not '
                f"{given!r}"
            )
        return inner.names if given == "latin" and items else ()
    names = tuple(given)
    for name in names:
        if name not in inner.names:
            raise ValueError(f"counterbalancing: {name!r} is no factor of within")
    if names and not items:
        raise ValueError("counterbalancing needs items: without them nothing can be rotated")
    return names


def _check_names(units: list[str], *parts: Cells) -> None:
    """Columns have different names; a factor between both is in two parts, with the same levels."""
    of_subjects, of_items, inner = parts
    by_name = {factor.name: factor for factor in of_subjects.factors}
    for factor in of_items.factors:
        if factor.name in by_name and by_name[factor.name].levels != factor.levels:
            raise ValueError(
                f"{factor.name!r} is between subjects and between items with different levels"
            )
    names = [*units, LIST, REPLICATE, *(by_name.keys() | set(of_items.names)), *inner.names]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is the name of two columns: rename one of them")


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a whole number from 1 on, not {value!r}")
    return int(value)
