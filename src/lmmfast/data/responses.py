"""Responses of generalized models: what stands left of ``~`` as the numbers of a family.

A binomial response is a number of successes with its trials, in whatever form it is written; counts
are whole; positive values are positive; an ordered response is the place of its class.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, LmmWarning, warn
from ..formula.column import Column, label_of, places
from .encode import Values, check_finite
from .strays import not_numbers

Matrix = NDArray[np.float64]
Positions = NDArray[np.int64] | range
Mask = NDArray[np.bool_]

WHOLE = 1e-3  # how far from whole a number of successes may be: shares are rounded in files
CBIND = re.compile(r"cbind\((\w+), (\w+)\)")  # of two names
TOTALS = ("trials", "total", "totals", "n", "size", "count", "all")  # names of trials, not failures
MOST_CLASSES = 100  # of an ordered response


@dataclass(frozen=True)
class Outcome:
    """What the response of a generalized model is.

    Attributes
    ----------
    kind : str
        What the family needs: "binomial", "count", "positive count", "positive", "unit", "real" or
        "ordered".
    form : str
        How it was given: "cbind" (successes and failures), "share" (of the trials, which are the
        weights), "binary" (0 and 1, or logicals), "factor" (two levels), "number" or "ordered".
    levels : tuple of str
        Of a factor: what is no success, and what is one. Of an ordered response: its classes.
    """

    kind: str
    form: str
    levels: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes of an ordered response, else 0."""
        return len(self.levels) if self.form == "ordered" else 0

    @property
    def said(self) -> str:
        """What a success is, in words; "" where it goes without saying."""
        if self.form != "factor":
            return ""
        return f"the probability of {self.levels[1]!r} (not {self.levels[0]!r}) is modelled"


class Answer(NamedTuple):
    """The numbers of a response as a family takes them, and what they are."""

    y: Matrix  # (n,): successes, counts, values, or places of classes
    weights: Matrix | None  # (n,): trials of a binomial response, else what rows count for
    outcome: Outcome


@dataclass(frozen=True)
class _Given:
    """A response as the formula gives it."""

    kind: str
    label: str
    value: Values
    weights: Matrix | None
    rows: Positions

    def refuse(self, bad: Mask, what: str, cure: str = "") -> None:
        """The error where some values cannot be; `what` may name the first of them: {}."""
        if not bad.any():
            return
        first = int(np.argmax(bad))
        at = places(self.rows)[bad][:10]
        count = int(bad.sum())
        more = f" and {count - 1} more" if count > 1 else ""
        shown = what.format(label_of(self.numbers()[first]))
        raise DataError(
            f"the response {self.label!r} {shown} in row {at[0]}{more}{cure and ': ' + cure}",
            variable=self.label,
            rows=at.tolist(),
        )

    def numbers(self) -> Matrix:
        """The values of one numeric column."""
        assert isinstance(self.value, dict)
        return np.array(next(iter(self.value.values())), dtype=np.float64)

    def one_column(self, needs: str) -> Matrix:
        """The numbers of a response that must be one numeric column."""
        if isinstance(self.value, Column):
            hint = not_numbers(self.value, self.rows)
            raise DataError(
                f"the response {self.label!r} is not numeric; {needs}{hint}", variable=self.label
            )
        if len(self.value) != 1:
            raise DataError(
                f"the response {self.label!r} has {len(self.value)} columns; {needs}",
                variable=self.label,
            )
        check_finite(self.value, self.label, self.rows)
        return self.numbers()

    def constant(self, what: str) -> DataError:
        return DataError(f"the response {self.label!r} {what}", variable=self.label)


def answer_of(
    kind: str, label: str, value: Values, weights: Matrix | None, rows: Positions
) -> Answer:
    """The response of a generalized model.

    Parameters
    ----------
    kind : str
        What the family needs, see `Outcome`.
    label : str
        The left side of the formula.
    value : Column, or dict of arrays (n,)
        What it is in the rows used: a factor, or numeric columns.
    weights : (n,) array, or None
        Positive. Trials of shares; else what a row counts for.
    rows : (n,) positions of the rows in the data, for messages

    Raises
    ------
    DataError
        When the family has no such values, or they do not vary; with variable and rows.
    """
    given = _Given(kind, label, value, weights, rows)
    return _READERS[kind](given)


# ---- binomial ------------------------------------------------------------------------------------


def _binomial(given: _Given) -> Answer:
    if isinstance(given.value, Column):
        return _two_levels(given, given.value)
    if len(given.value) == 2:
        return _successes_and_failures(given, given.value)
    if given.label.startswith("cbind(") and len(given.value) == 1:
        raise given.constant("has one column: cbind(successes, failures) has two")
    needs = "a binomial response is cbind(successes, failures), a share with weights=trials, 0 and "
    y = given.one_column(needs + "1, or a factor with two levels")
    cure = f"counts of successes are written cbind({given.label}, trials - {given.label})"
    values = np.unique(y)
    if len(values) == 2:
        cure = f"write which of the two values is a success, ({given.label} == {values[1]:g}) ~ ..."
    needed = "a binomial response is 0, 1 or a share between them; "
    given.refuse((y < 0) | (y > 1), "is {}", needed + cure)
    binary = bool(((y == 0) | (y == 1)).all())
    if given.weights is None:
        given.refuse(
            (y > 0) & (y < 1),
            "is the share {}",
            "how many trials it is a share of must be given, weights=trials; or write "
            'cbind(successes, failures); family="beta" is for shares of no trials',
        )
        return _tried(given, y, None, Outcome(given.kind, "binary"))
    _check_trials(given, given.weights)
    successes = y * given.weights
    near = np.rint(successes)
    given.refuse(
        np.abs(successes - near) > WHOLE,
        "is the share {}, which times its weight is no whole number of successes,",
        "weights= must be the trials",
    )
    outcome = Outcome(given.kind, "binary" if binary else "share")
    return _tried(given, near, given.weights, outcome)


def _check_trials(given: _Given, trials: Matrix) -> None:
    bad = trials != np.rint(trials)
    if bad.any():
        at = places(given.rows)[bad][:10]
        raise DataError(
            f"the weights of a binomial response are its trials, whole numbers; in row {at[0]} "
            f"they are {label_of(trials[np.argmax(bad)])}",
            variable="weights",
            rows=at.tolist(),
        )


def _two_levels(given: _Given, factor: Column) -> Answer:
    factor = factor.used()
    labels = tuple(factor.labels)
    check_finite(factor, given.label, given.rows)
    if len(labels) == 1:
        raise given.constant(f"is {labels[0]!r} in all rows used: there is nothing to model")
    if len(labels) > 2:
        shown = ", ".join(map(repr, labels[:5])) + (", ..." if len(labels) > 5 else "")
        raise given.constant(
            f"has {len(labels)} levels ({shown}); a binomial response has two: write which is the "
            f"success, ({given.label} == {labels[-1]!r}) ~ ...; an ordered response is for "
            'family="ordered"'
        )
    binary = factor.levels.dtype.kind == "b"
    outcome = Outcome(given.kind, *(("binary",) if binary else ("factor", labels)))
    y = factor.codes.astype(np.float64)
    if given.weights is None:
        return _tried(given, y, None, outcome)
    _check_trials(given, given.weights)
    return _tried(given, y * given.weights, given.weights, outcome)


def _successes_and_failures(given: _Given, columns: dict[str, NDArray[Any]]) -> Answer:
    check_finite(given.value, given.label, given.rows)
    one, two = (np.array(own, dtype=np.float64) for own in columns.values())
    counts = "cbind(successes, failures) are counts" + _in_shares(one, two)
    given.refuse((one < 0) | (two < 0), "has a negative count", counts)
    given.refuse(
        (one != np.rint(one)) | (two != np.rint(two)), "has a count that is not whole", counts
    )
    given.refuse(one + two == 0, "has neither successes nor failures", "leave such rows out")
    if given.weights is not None:
        raise DataError(
            f"weights are given beside {given.label}, which has the trials already: take them out; "
            "rows that count more often have larger counts",
            variable="weights",
        )
    _note_totals(given, one, two)
    return _tried(given, one, one + two, Outcome(given.kind, "cbind"))


def _note_totals(given: _Given, one: Matrix, two: Matrix) -> None:
    """A warning where the failures are called trials, and could be."""
    call = CBIND.fullmatch(given.label)
    if call is None or call[2].lower() not in TOTALS or (one > two).any():
        return
    what, total = call.groups()
    warn(
        LmmWarning(
            f"{given.label} means {total} failures beside {what} successes: if {total!r} counts "
            f"all trials, write cbind({what}, {total} - {what})",
            variable=given.label,
        )
    )


def _in_shares(one: Matrix, two: Matrix) -> str:
    """A hint where the columns look like shares."""
    shares = bool((one <= 1).all() and np.allclose(one + two, 1))
    return "; a share is written alone, with weights=trials" if shares else ""


def _tried(given: _Given, y: Matrix, trials: Matrix | None, outcome: Outcome) -> Answer:
    """Successes that are neither none nor all."""
    most = float(len(y)) if trials is None else float(trials.sum())
    if not 0 < y.sum() < most:
        what = "no row has a success" if y.sum() == 0 else "all trials are successes"
        raise given.constant(f"does not vary: {what} in the rows used")
    own = None if trials is None else np.ascontiguousarray(trials, dtype=np.float64)
    return Answer(np.ascontiguousarray(y), own, outcome)


# ---- other families ------------------------------------------------------------------------------


def _count(given: _Given) -> Answer:
    y = _counted(given, 0)
    if not y.any():
        raise given.constant("is 0 in all rows used: there is nothing to model")
    return Answer(y, given.weights, Outcome(given.kind, "number"))


def _positive_count(given: _Given) -> Answer:
    y = _counted(given, 1)
    if (y == 1).all():
        raise given.constant("is 1 in all rows used: there is nothing to model")
    return Answer(y, given.weights, Outcome(given.kind, "number"))


def _counted(given: _Given, least: int) -> Matrix:
    """Whole numbers from the least on."""
    y = given.one_column("counts are needed")
    given.refuse(y < least, f"must be a count, {least} or more; it is {{}}")
    rates = "rates are counts with offset(log(exposure))"
    given.refuse(y != np.rint(y), "must be a count, a whole number; it is {}", rates)
    return y


def _positive(given: _Given) -> Answer:
    y = given.one_column("positive numbers are needed")
    given.refuse(y <= 0, "must be positive; it is {}")
    return Answer(_varying(given, y), given.weights, Outcome(given.kind, "number"))


def _unit(given: _Given) -> Answer:
    y = given.one_column("shares between 0 and 1 are needed")
    given.refuse((y <= 0) | (y >= 1), "must be between 0 and 1, neither of them; it is {}")
    return Answer(_varying(given, y), given.weights, Outcome(given.kind, "number"))


def _number(given: _Given) -> Answer:
    y = given.one_column("numbers are needed")
    return Answer(_varying(given, y), given.weights, Outcome(given.kind, "number"))


def _varying(given: _Given, y: Matrix) -> Matrix:
    if y.min() == y.max():
        raise given.constant(f"is constant ({y[0]:g})")
    return y


def _ordered(given: _Given) -> Answer:
    if isinstance(given.value, Column):
        factor = given.value.used()
        named = factor.name == given.label  # else made by the formula: factor(y, levels = ...)
        if named and factor.declared is None and factor.levels.dtype.kind not in "biuf":
            shown = ", ".join(map(repr, factor.labels[:5]))
            raise given.constant(
                f"is text ({shown}, ...), whose order is not known: make it ordered, as in "
                f"pandas.Categorical(data[{given.label!r}], categories=[...], ordered=True), or "
                f"factor({given.label}, levels=c(...)) in the formula"
            )
    else:
        given.one_column("an ordered response is an ordered factor, or numbers")
        factor = Column(given.label, given.numbers()).as_factor()
    check_finite(factor, given.label, given.rows)
    count = len(factor.levels)
    if count < 2:
        raise given.constant(f"has only the class {factor.labels[0]!r} in the rows used")
    if count > MOST_CLASSES:
        raise given.constant(
            f"has {count} classes; family='ordered' is for at most {MOST_CLASSES}: a response of "
            "so many values is measured (lmer), or cut() into classes"
        )
    outcome = Outcome(given.kind, "ordered", tuple(factor.labels))
    return Answer(factor.codes.astype(np.float64), given.weights, outcome)


_READERS: dict[str, Callable[[_Given], Answer]] = {
    "binomial": _binomial,
    "count": _count,
    "positive count": _positive_count,
    "positive": _positive,
    "unit": _unit,
    "real": _number,
    "ordered": _ordered,
}


# ---- another response of the same rows -----------------------------------------------------------


def numbered(outcome: Outcome, label: str, values: Any) -> tuple[Any, Any]:
    """A new response as the core has it, and its trials where it brings them: labels become places
    of classes, successes and failures become successes. Everything else stays, index and all."""
    array = np.asarray(values)
    like = values.iloc[:, 0] if hasattr(values, "iloc") and array.ndim == 2 else values
    if outcome.kind == "binomial" and array.ndim == 2 and array.shape[1:] == (2,):
        both = array.astype(np.float64)
        return _indexed(both[:, 0], like), _indexed(both.sum(axis=1), like)
    text = array.dtype.kind in "OUS" and any(isinstance(cell, str) for cell in array.flat)
    if not (outcome.levels and (text or hasattr(getattr(values, "dtype", None), "categories"))):
        return values, None
    labels = np.array([label_of(cell) for cell in array.tolist()], dtype=object)
    place = {name: i for i, name in enumerate(outcome.levels)}
    bad = ~np.isin(labels, outcome.levels)
    if bad.any():
        raise DataError(
            f"the new response {label!r} is {labels[bad][0]!r} in row {np.argmax(bad)}; the fit "
            f"has the classes {', '.join(map(repr, outcome.levels))}",
            variable=label,
            rows=np.flatnonzero(bad)[:10].tolist(),
        )
    return _indexed(np.array([place[name] for name in labels], np.float64), like), None


def _indexed(numbers: Matrix, like: Any) -> Any:
    """The numbers with the index of a pandas object, if it is one."""
    if not hasattr(like, "iloc"):
        return numbers
    import pandas as pd

    return pd.Series(numbers, index=like.index)


def tried_again(outcome: Outcome, y: Matrix, weights: Matrix | None) -> Matrix:
    """Successes, where shares of the trials were given."""
    if outcome.form != "share" or weights is None or (y == np.rint(y)).all():
        return y
    near = np.rint(y * weights)
    return near if (np.abs(y * weights - near) <= WHOLE).all() else y


def check_again(outcome: Outcome, label: str, y: Matrix, weights: Matrix | None) -> None:
    """Whether numbers can be the response of a family, as it takes them.

    Successes of a binomial, counts, positive values, places of classes; as `simulate` gives them.

    Raises
    ------
    DataError
        Which number cannot be, in which of the rows used.
    """
    given = _Given(outcome.kind, label, {"": y}, weights, range(len(y)))
    if outcome.kind == "binomial":
        trials = np.ones(len(y)) if weights is None else weights
        _check_trials(given, trials)
        bad = (y < 0) | (y > trials) | (y != np.rint(y))
        given.refuse(bad, "must be a number of successes, 0 to the trials of its row; it is {}")
        _tried(given, y, weights, outcome)
    elif outcome.classes:
        bad = (y < 0) | (y >= outcome.classes) | (y != np.rint(y))
        given.refuse(bad, f"must be a class, 0 to {outcome.classes - 1}; it is {{}}")
        if len(np.unique(y)) < outcome.classes:
            raise given.constant("does not have all classes of the model")
    else:
        _READERS[outcome.kind](given)
