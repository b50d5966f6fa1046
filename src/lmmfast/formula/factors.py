"""Functions that make or change factors: `factor`, `cut`, `interaction`, `dummy`, `relevel`, ...

Levels of the training data are remembered, so that new data are coded alike.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import LmmWarning, warn
from .coerce import as_factor, number, numbers, reals, texts, truths
from .column import Column, Text, label_of, objects
from .function import Function, State, Wrong, each, learns, levels
from .values import Matrix, flags, is_textual, length, whole

MOST_LEVELS = 1_000_000  # that interaction() and cut() may make


def _learned_levels(column: Column, state: State) -> list[Any]:
    """Levels of the training data, a categorical's unused ones included."""
    levels: list[Any] = state.setdefault("levels", column.known)
    return levels


def relevelled(column: Column, wanted: Sequence[Any]) -> Column:
    """The same factor with these levels; entries that are not among them become missing."""
    if len({label_of(level) for level in wanted}) < len(wanted):
        raise Wrong(f"the levels {', '.join(map(label_of, wanted[:10]))} are not all different")
    position: dict[Any, int] = {label_of(level): i for i, level in enumerate(wanted)}
    levels = [level.item() if isinstance(level, np.generic) else level for level in wanted]
    return column.recoded([position.get(label, -1) for label in column.labels], objects(levels))


def _listed(values: Any) -> list[Any]:
    """Levels or labels that a formula names."""
    if isinstance(values, Column) or is_textual(values):
        return list(texts(values).tolist())
    entries = np.atleast_1d(values.values if isinstance(values, Matrix) else values)
    return list(map(whole, entries.tolist()))  # 1 rather than 1.0, as levels are written


def _factor(
    x: Any,
    levels: Any = None,
    labels: Any = None,
    exclude: Any = None,
    ordered: Any = None,
    *,
    state: State,
) -> Column:
    """R's factor(): levels in increasing order or as given, with other labels if given."""
    column = as_factor(x)
    if levels is not None:
        column = relevelled(column, _listed(levels))
    if exclude is not None:
        out = {label_of(entry) for entry in _listed(exclude)}
        kept = [level for level in column.levels.tolist() if label_of(level) not in out]
        column = relevelled(column, kept)
    if labels is not None:
        column = _labelled(column, _listed(labels), state)
    if ordered is not None:
        column.ordered = bool(ordered)
    return column


def _labelled(column: Column, labels: list[str], state: State) -> Column:
    """Other labels for the training data's levels; equal labels unite levels."""
    known = column.labels
    if "labels" not in state:
        if len(labels) == 1 and len(known) > 1:
            labels = [f"{label_of(labels[0])}{i + 1}" for i in range(len(known))]
        if len(labels) != len(known):
            raise Wrong(f"{len(labels)} labels for {len(known)} levels ({', '.join(known[:10])})")
        state["labels"] = dict(zip(known, labels, strict=True))
    levels = zip(known, column.levels.tolist(), strict=True)
    return _united(column, [state["labels"].get(label, level) for label, level in levels])


def _united(column: Column, named: Sequence[Any]) -> Column:
    """The factor with these labels for its levels; equal labels are one level."""
    distinct = list(dict.fromkeys(named))
    return column.recoded([distinct.index(name) for name in named], objects(distinct))


def _ordered(x: Any, levels: Any = None, labels: Any = None, *, state: State) -> Column:
    return _factor(x, levels, labels, None, True, state=state)


def _relevel(x: Any, ref: Any, *, state: State) -> Column:
    """The level `ref` first; a number is the place of a level, if it is none itself."""
    column = as_factor(x)
    if column.ordered:
        raise Wrong("it has no meaning for ordered factors: write factor(x, ordered = FALSE)")
    known, wanted = column.levels.tolist(), label_of(ref)
    first = [level for level in known if label_of(level) == wanted]
    if not first and not is_textual(ref):
        place = number(ref, "ref")
        if place in range(1, len(known) + 1):
            first = [known[int(place) - 1]]
    if not first and "levels" not in state:
        raise Wrong(f"{wanted!r} is not among the levels {', '.join(map(label_of, known[:10]))}")
    state["levels"] = True
    return relevelled(column, first + [level for level in known if level not in first])


def _droplevels(x: Any) -> Column:
    return as_factor(x).used() if length(x) else as_factor(x)


def _cut(
    x: Any,
    breaks: Any,
    labels: Any = None,
    include_lowest: Any = False,
    right: Any = True,
    dig_lab: Any = 3,
    ordered_result: Any = False,
    *,
    state: State,
) -> Any:
    """R's cut(): intervals of a number as a factor."""
    values = numbers(x, "cut()")
    if "breaks" not in state:
        state["breaks"] = _breaks(values, numbers(breaks, "breaks"))
    ends: NDArray[np.float64] = state["breaks"]
    closed = bool(right)
    codes = np.searchsorted(ends, values, side="left" if closed else "right") - 1
    if include_lowest:
        codes[values == (ends[0] if closed else ends[-1])] = 0 if closed else len(ends) - 2
    outside = (codes < 0) | (codes >= len(ends) - 1) | np.isnan(values)
    place = np.where(outside, -1, codes).astype(np.int32)
    if isinstance(labels, (bool, np.bool_)) and not labels:
        return np.where(outside, np.nan, place + 1.0)
    names = _interval_names(ends, labels, closed, bool(include_lowest), int(number(dig_lab, "it")))
    column = Column.factor("cut()", place, objects(names), ordered=bool(ordered_result))
    return column if len(set(names)) == len(names) else _united(column, names)


def _breaks(values: NDArray[np.float64], breaks: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(breaks) == 1:
        count = breaks[0]
        if not 2 <= count < MOST_LEVELS or np.isnan(values).all():
            raise Wrong("the number of intervals must be 2 or more")
        low, high = np.nanmin(values), np.nanmax(values)
        width = high - low
        if width == 0:
            width = abs(low)
            return np.linspace(low - width / 1000, high + width / 1000, int(count) + 1)
        ends = np.linspace(low, high, int(count) + 1)
        ends[[0, -1]] = low - width / 1000, high + width / 1000
        return ends
    ends = np.sort(breaks)
    if (np.diff(ends) == 0).any() or np.isnan(ends).any():
        raise Wrong("breaks must be different numbers")
    return ends


def _interval_names(
    ends: NDArray[np.float64], labels: Any, closed: bool, lowest: bool, digits: int
) -> list[str]:
    if labels is not None:
        given = _listed(labels)
        if len(given) != len(ends) - 1:
            raise Wrong(f"{len(given)} labels for {len(ends) - 1} intervals")
        return [label_of(label) for label in given]
    for precision in range(digits, max(12, digits) + 1):
        shown = [_significant(end, precision) for end in ends]
        if len(set(shown)) == len(shown):
            break
    opening, closing = ("(", "]") if closed else ("[", ")")
    names = [f"{opening}{a},{b}{closing}" for a, b in itertools.pairwise(shown)]
    if lowest and closed:
        names[0] = "[" + names[0][1:]
    elif lowest:
        names[-1] = names[-1][:-1] + "]"
    return names


def _significant(value: float, digits: int) -> str:
    """formatC(value, digits, width = 1): %g."""
    if math.isinf(value):
        return " Inf" if value > 0 else "-Inf"  # R's own space
    return f"{value:.{digits}g}"


def _interaction(
    *factors: Any, drop: Any = False, sep: Any = ".", lex_order: Any = False, state: State
) -> Column:
    """R's interaction(): combinations of levels; the first varies fastest unless lex.order."""
    if not factors:
        raise Wrong("interaction() needs factors")
    columns = [as_factor(factor) for factor in factors]
    if "levels" not in state:
        state["levels"] = [column.levels.tolist() for column in columns]
    columns = [relevelled(c, known) for c, known in zip(columns, state["levels"], strict=True)]
    if math.prod(len(column.levels) for column in columns) > MOST_LEVELS:
        raise Wrong(f"interaction() would have more than {MOST_LEVELS} levels")
    column = crossed(columns, label_of(sep), not lex_order, "interaction()")
    return _dropped(column, state) if drop else column


def crossed(
    columns: Sequence[Column], sep: str, first_fastest: bool = False, name: str = ""
) -> Column:
    """The combinations of the levels of factors; the last one varies fastest, or the first."""
    columns = columns[::-1] if first_fastest else columns
    codes = np.zeros(max(map(length, columns)), dtype=np.int64)
    missing = np.zeros(len(codes), dtype=bool)
    for column in columns:
        codes = codes * len(column.levels) + column.codes
        missing |= column.codes < 0
    rows = itertools.product(*(column.labels for column in columns))
    names = [sep.join(row[::-1] if first_fastest else row) for row in rows]
    return Column.factor(name, np.where(missing, -1, codes), objects(names))


def _dropped(column: Column, state: State) -> Column:
    """Without the combinations that no training row has."""
    if "kept" not in state:
        seen = np.bincount(column.codes[column.codes >= 0], minlength=len(column.levels)) > 0
        state["kept"] = column.levels[seen].tolist()
    return relevelled(column, state["kept"])


def _dummy(f: Any, levelsToKeep: Any = None, *, state: State) -> Any:
    """lme4's dummy(): a column of 0 and 1 for each level to keep, all but the first by default."""
    column = as_factor(f)
    known = list(map(label_of, _learned_levels(column, state)))
    wanted = known[1:] if levelsToKeep is None else list(map(label_of, _listed(levelsToKeep)))
    for level in wanted:
        if level not in known:
            raise Wrong(f"dummy(): {level!r} is not among the levels {', '.join(known[:10])}")
    labels = texts(column)
    missing = np.array([label is None for label in labels.tolist()])
    columns = [np.where(missing, np.nan, labels == level) for level in wanted]
    values = np.column_stack(columns).astype(np.float64)
    return values[:, 0] if len(wanted) == 1 else Matrix(values, tuple(wanted))


# ---- locations ----------------------------------------------------------------------------------


def _num_factor(*coordinates: Any) -> Column:
    """glmmTMB's numFactor(): a level for each location, named by its coordinates, "(1,2.5)".

    A factor with such labels, or whose labels are numbers, is one already.
    """
    if not coordinates:
        raise Wrong("numFactor() needs coordinates")
    parts = [_located(own) for own in coordinates]
    points = np.hstack(parts)
    missing = np.isnan(points).any(axis=1)
    known, codes = np.unique(points[~missing], axis=0, return_inverse=True)
    place = np.full(len(points), -1, dtype=np.int32)
    place[~missing] = codes.ravel()
    return Column.factor("numFactor()", place, objects(list(map(_location, known.tolist()))))


def _located(x: Any) -> NDArray[np.float64]:
    """The coordinates that an argument gives for each row (n, d), NaN where it is missing."""
    if isinstance(x, Matrix):
        return np.asarray(x.values, dtype=np.float64)
    if not isinstance(x, Column) and not is_textual(x):
        return numbers(x, "numFactor()")[:, None]
    column = as_factor(x)
    known = [located(label) for label in column.labels]
    wrong = [label for label, at in zip(column.labels, known, strict=True) if at is None]
    sizes = {len(at) for at in known if at is not None}
    if wrong or len(sizes) != 1:
        shown = ", ".join(map(repr, (wrong or list(column.labels))[:3]))
        raise Wrong(f"these levels are no coordinates: {shown}; they are written 2.5 or (1,2.5)")
    table = np.array([*known, (math.nan,) * sizes.pop()], dtype=np.float64)
    return table[column.codes]


def located(label: str) -> tuple[float, ...] | None:
    """The coordinates that a level is named by; None where it is named by something else."""
    inside = label.strip()
    if inside[:1] == "(" and inside[-1:] == ")":
        inside = inside[1:-1]
    try:
        point = tuple(map(float, inside.split(",")))
    except ValueError:
        return None
    return point if all(map(math.isfinite, point)) else None


def _location(point: Sequence[float]) -> str:
    """The name of a location, from which its coordinates can be read again without loss."""
    written = (str(int(v)) if v == int(v) and abs(v) < 1e15 else repr(v) for v in point)
    return f"({','.join(written)})"


# ---- conversions --------------------------------------------------------------------------------


def _as_numeric(x: Any, *, state: State) -> Any:
    """as.numeric(): texts are parsed, factors give the number of their level, dates days."""
    if isinstance(x, Column) and not isinstance(x, Text):
        if "levels" not in state:
            _note_codes(x)
        known = {label_of(v): i + 1.0 for i, v in enumerate(_learned_levels(x, state))}
        return np.array([*(known.get(label, math.nan) for label in x.labels), math.nan])[x.codes]
    if isinstance(x, Text):
        return np.array([*_parsed(x.levels.tolist()), math.nan])[x.codes]
    if is_textual(x):
        return np.array(_parsed(texts(x).tolist()))
    found = reals(x)
    return numbers(found) if isinstance(found, Matrix) else found


def _note_codes(factor: Column) -> None:
    """Labels that are numbers: most likely these were meant."""
    try:
        meant = _parsed(factor.levels.tolist())
    except Wrong:
        return
    if meant != list(range(1, len(meant) + 1)):
        shown = ", ".join(f"{label_of(v)!r} is {i + 1}" for i, v in enumerate(factor.levels[:3]))
        message = (
            f"as.numeric() of a factor gives the numbers of its levels ({shown}), as in R; "
            "as.numeric(as.character(x)) gives the numbers that its labels are"
        )
        warn(LmmWarning(message, variable=factor.name or "a factor"))


def _parsed(entries: Sequence[Any]) -> list[float]:
    """Numbers of texts; `Wrong` names those that are none."""
    found: list[float] = []
    bad: list[str] = []
    for entry in entries:
        try:
            text = "nan" if entry is None or str(entry).strip() == "NA" else str(entry).strip()
            found.append(float(int(text, 16)) if text[:2].lower() == "0x" else float(text))
            if "_" in text:
                raise ValueError
        except ValueError:
            found.append(math.nan)
            bad.append(repr(str(entry)))
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise Wrong(f"these texts are no numbers: {', '.join(bad[:5])}{more}")
    return found


def _as_integer(x: Any, *, state: State) -> Any:
    return np.trunc(_as_numeric(x, state=state))


def _as_character(x: Any) -> Any:
    if isinstance(x, Text):
        return x
    return as_text(as_factor(x)) if isinstance(x, Column) else texts(x)


def as_text(factor: Column) -> Text:
    """The labels of a factor as texts, whose levels are in order of text."""
    labels = objects(factor.labels)
    order = np.argsort(labels, kind="stable") if len(labels) else np.zeros(0, int)
    rank = np.full(len(labels) + 1, -1, dtype=np.int32)
    rank[order] = np.arange(len(labels), dtype=np.int32)
    return Text(factor.name, None, rank[factor.codes], labels[order], False, factor.missing)


def _as_logical(x: Any) -> Any:
    if not is_textual(x):
        return truths(x, "as.logical()")
    words = dict.fromkeys(("TRUE", "true", "T", "True"), 1.0)
    words |= dict.fromkeys(("FALSE", "false", "F", "False"), 0.0)
    found = np.array([words.get(entry, math.nan) for entry in texts(x).tolist()])
    return flags(found == 1, np.isnan(found))


def _as_date(x: Any, format: Any = None) -> Any:
    if isinstance(x, np.ndarray) and x.dtype.kind == "M":
        return x.astype("datetime64[D]")
    if not is_textual(x):
        return (numbers(x) * 86_400e6).astype("datetime64[us]")
    from datetime import datetime

    pattern = None if format is None else str(format)
    try:
        made = [
            None if entry is None
            else datetime.fromisoformat(entry) if pattern is None
            else datetime.strptime(entry, pattern)
            for entry in texts(x).tolist()
        ]  # fmt: skip
    except ValueError as error:
        raise Wrong(f"as.Date(): {error}; dates are written 2024-12-31, or give format=") from None
    return np.array(made, dtype="datetime64[us]")


def _named_by(names: Sequence[str], place: Callable[[NDArray[Any]], NDArray[Any]]) -> Any:
    """The English name of each date's month or weekday, as text."""

    def name(x: Any) -> Any:
        dates = _as_date(x).astype("datetime64[D]")
        missing = np.isnat(dates)
        found = np.array([*names, None], dtype=object)
        return found[np.where(missing, len(names), place(dates).astype(np.int64))]

    return name


_MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September"]
_MONTHS += ["October", "November", "December"]
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_months = _named_by(_MONTHS, lambda dates: dates.astype("datetime64[M]").astype(np.int64) % 12)
_weekdays = _named_by(_WEEKDAYS, lambda dates: (dates.astype(np.int64) + 3) % 7)  # 1970: Thursday


def _difftime(time1: Any, time2: Any, units: Any = "days") -> Any:
    """The difference of two dates, in days or weeks."""
    length_of = {"days": 1.0, "weeks": 7.0, "hours": 1 / 24, "mins": 1 / 1440, "secs": 1 / 86400}
    if units not in length_of:
        raise Wrong(f"units is one of {', '.join(length_of)}")
    return (reals(_as_date(time1)) - reals(_as_date(time2))) / length_of[units]


def _levels(x: Any, *, state: State) -> Any:
    return objects(list(map(label_of, _learned_levels(as_factor(x), state))))


def _find_interval(x: Any, vec: Any) -> Any:
    return np.searchsorted(np.sort(numbers(vec)), numbers(x), side="right").astype(np.float64)


def _match(x: Any, table: Any) -> Any:
    wanted = {entry: i + 1.0 for i, entry in reversed(list(enumerate(texts(table).tolist())))}
    return np.array([wanted.get(entry, math.nan) for entry in texts(x).tolist()])


FACTORS: dict[str, Function] = {
    "factor": levels(_factor),
    "as.factor": each(lambda x: as_factor(x)),
    **dict.fromkeys(("ordered", "as.ordered"), levels(_ordered)),
    "relevel": levels(_relevel),
    "droplevels": each(_droplevels),
    "cut": learns(_cut),
    "interaction": levels(_interaction),
    "dummy": levels(_dummy),
    "numFactor": each(_num_factor),
    **dict.fromkeys(("as.numeric", "as.double", "float"), levels(_as_numeric)),
    **dict.fromkeys(("as.integer", "int", "unclass"), levels(_as_integer)),
    **dict.fromkeys(("as.character", "str"), each(_as_character)),
    **dict.fromkeys(("as.logical", "bool"), each(_as_logical)),
    "as.Date": each(_as_date),
    "difftime": each(_difftime),
    "months": each(_months),
    "weekdays": each(_weekdays),
    "levels": levels(_levels),
    "nlevels": levels(lambda x, *, state: np.float64(len(_levels(x, state=state)))),
    "findInterval": each(_find_interval),
    "match": each(_match),
}
