"""Contrasts by what their coefficients shall test: hypotheses about the means of levels.

A coding by columns C says how means follow from coefficients, mu = [1 C] beta; a hypothesis matrix
H says what coefficients are of means, beta = H mu. One is the generalized inverse of the other
(Schad, Vasishth, Hohenstein & Kliegl 2020, *Journal of Memory and Language* 110: 104038).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, FormulaError
from .column import label_of
from .parser import parse_text
from .tree import Constant, Name, Node, quoted, shown

Numbers = NDArray[np.float64]

INTERCEPT = "Intercept"
CLOSE = 1e-9  # of weights that are the same
LARGEST = 64  # denominator of a weight that is written as a fraction
_EQUALS = re.compile(r"==?(?=(?:[^`]*`[^`]*`)*[^`]*$)")  # not within the backticks of a name


@dataclass(frozen=True)
class Hypotheses:
    """What the coefficients of a factor shall be; `hypotheses` makes it."""

    texts: tuple[tuple[str, str], ...]  # name of the column, hypothesis
    rest: bool = False

    def matrix(self, levels: Sequence[Any], name: str) -> tuple[Numbers, tuple[str, ...]]:
        """Columns (L, k) beside an intercept, and their names: "cond[B-A]"."""
        labels = [label_of(level) for level in levels]
        rows = {label: _weights(text, labels, name) for label, text in self.texts}
        first = rows.pop(INTERCEPT, np.full(len(labels), 1 / len(labels)))
        if abs(first.sum() - 1) > CLOSE:
            raise _unfit(name, f"the weights of {INTERCEPT!r} sum to {_number(first.sum())}, not 1")
        for label, own in rows.items():
            if abs(own.sum()) > CLOSE:
                raise _unfit(
                    name,
                    f"the weights of {label!r} sum to {_number(own.sum())}, not 0: it compares no "
                    f"means (what the intercept shall be has the name {INTERCEPT!r})",
                )
        H = np.array([first, *rows.values()])
        self._check(H, labels, name)
        names = [f"{name}[{label}]" for label in rows]
        if len(H) < len(labels):
            more = np.linalg.svd(np.vstack([np.ones(len(labels)), *rows.values()]))[2][len(H) :]
            names += [f"{name}[rest {j + 1}]" for j in range(len(more))]
            H = np.vstack([H, more])
        matrix = np.linalg.inv(H)[:, 1:]
        matrix[np.abs(matrix) < CLOSE] = 0.0
        return matrix, tuple(names)

    def _check(self, H: Numbers, labels: list[str], name: str) -> None:
        count, size = len(H) - 1, len(labels)
        if count > size - 1:
            few = f"{size - 1} hypothes{'is' if size == 2 else 'es'}"
            raise _unfit(name, f"its {size} levels have room for {few}, not {count}")
        if np.linalg.matrix_rank(H) < len(H):
            raise _unfit(name, "one hypothesis follows from the others: leave one out")
        if count < size - 1 and not self.rest:
            raise _unfit(
                name,
                f"its {size} levels need {size - 1} hypotheses, there are {count}: add some, or "
                "write hypotheses({...}, rest=True) for columns that make up what is left",
            )


def hypotheses(given: Mapping[str, str], *, rest: bool = False) -> Hypotheses:
    """Contrasts of a factor by the hypotheses that its coefficients shall test.

    Parameters
    ----------
    given : dict of str to str
        Names of coefficients, and what each shall be of the levels' means: "B - A",
        "(B + C) / 2 - A", "mean(B, C) - A", or as an equation, "B = A", which tests the same as
        "B - A". Levels that are no names are quoted with backticks: "`2` - `1`". The name
        "Intercept" says what the intercept shall be; default: the mean of all levels.
    rest : bool, default False
        With fewer hypotheses than a factor has degrees of freedom: add columns, "rest 1", ..., for
        the differences that are left, orthogonal to those asked for.

    Returns
    -------
    Hypotheses
        For ``contrasts=``: ``lmer(..., contrasts={"cond": hypotheses({"B-A": "B - A"})})``; the
        rows of the summary are "cond[B-A]".

    Raises
    ------
    DataError
        When the model is made: levels that are not there, weights of a comparison that do not sum
        to zero, too many, too few or redundant hypotheses.
    TypeError
        When `given` is no dict of texts.

    See Also
    --------
    LMMFit.hypotheses : What the coefficients of a fit test.

    Notes
    -----
    The contrast matrix is the inverse of the hypothesis matrix: with a hypothesis a row, and the
    intercept's above them, H beta's means, [1 C] = H^-1.

    References
    ----------
    Schad, Vasishth, Hohenstein & Kliegl (2020), "How to capitalize on a priori contrasts in linear
    (mixed) models", *Journal of Memory and Language* 110: 104038, section "The hypothesis matrix".

    Examples
    --------
    >>> from lmmfast import datasets, hypotheses, lmer
    >>> coding = hypotheses({"B-A": "B - A", "C-AB": "C - mean(A, B)"})
    >>> data = datasets.load("Machines")
    >>> fit = lmer("score ~ Machine + (1 | Worker)", data, contrasts={"Machine": coding})
    >>> fit.params.round(2).to_dict()
    {'Intercept': 59.65, 'Machine[B-A]': 7.97, 'Machine[C-AB]': 9.93}
    """
    if not isinstance(given, Mapping) or not given:
        raise TypeError(f'hypotheses are a dict such as {{"B-A": "B - A"}}, not {given!r}')
    wrong = [own for own in given.values() if not isinstance(own, str)]
    if wrong:
        raise TypeError(f'a hypothesis is text such as "B - A", not {wrong[0]!r}')
    return Hypotheses(tuple((str(name), text) for name, text in given.items()), rest)


def _unfit(name: str, reason: str) -> DataError:
    return DataError(f"hypotheses for {name!r}: {reason}", variable=name)


# ---- text to weights ----------------------------------------------------------------------------


def _weights(text: str, labels: list[str], name: str) -> Numbers:
    """Weights of the levels' means (L,) in a hypothesis."""
    sides = _EQUALS.split(text)
    if len(sides) > 2:
        raise _unfit(name, f"{text!r} has several equals signs")
    try:
        found = [_linear(parse_text(side.strip()), labels, name) for side in sides]
    except FormulaError as error:
        raise _unfit(name, f"{text!r} cannot be read: {error}") from None
    total = found[0] - found[1] if len(found) == 2 else found[0]
    if total[-1] != 0:
        raise _unfit(
            name,
            f"{text!r} has a number that multiplies no level; a level that is a number is quoted "
            "with backticks, `2`",
        )
    if not total.any():
        raise _unfit(name, f"{text!r} is zero whatever the means are")
    return total[:-1]


def _linear(node: Node, labels: list[str], name: str) -> Numbers:
    """A linear form of the levels' means: its weights, and last its constant (L + 1,)."""
    if isinstance(node, Name) or (isinstance(node, Constant) and isinstance(node.value, str)):
        return _level(node.name if isinstance(node, Name) else str(node.value), labels, name)
    if isinstance(node, Constant):
        if isinstance(node.value, bool) or not isinstance(node.value, (int, float)):
            return _level(node.text, labels, name)
        return np.append(np.zeros(len(labels)), float(node.value))
    parts = [_linear(own, labels, name) for own in node.operands]
    if node.function == "(" and len(parts) == 1:
        return parts[0]
    if node.function == "mean" and parts:
        return np.asarray(np.mean(parts, axis=0))
    if node.function in ("+", "-"):
        sign = 1.0 if node.function == "+" else -1.0
        return sign * parts[0] if len(parts) == 1 else parts[0] + sign * parts[1]
    if node.function == "*" and not (parts[0][:-1].any() and parts[1][:-1].any()):
        factor, form = parts if not parts[0][:-1].any() else parts[::-1]
        return np.asarray(factor[-1] * form)
    if node.function == "/" and not parts[1][:-1].any() and parts[1][-1] != 0:
        return np.asarray(parts[0] / parts[1][-1])
    raise _unfit(
        name,
        f"{shown(node)} is no sum of weighted levels: hypotheses have names of levels, numbers, "
        "+, -, *, / and mean()",
    )


def _level(label: str, labels: list[str], name: str) -> Numbers:
    if label not in labels:
        known = ", ".join(quoted(own) for own in labels[:10])
        raise _unfit(name, f"there is no level {label!r}; its levels are {known}")
    out = np.zeros(len(labels) + 1)
    out[labels.index(label)] = 1.0
    return out


# ---- weights to text ----------------------------------------------------------------------------


def hypothesis_text(weights: Numbers, labels: Sequence[str]) -> str:
    """Weights of levels' means (L,) in words: "b - a", "a - mean of all", "(b + c)/2 - a"."""
    size = len(weights)
    own = np.where(np.abs(weights) < CLOSE, 0.0, weights)
    if np.ptp(own) < CLOSE and abs(own.sum() - 1) < CLOSE:
        return "mean of all" if size > 1 else labels[0]
    shifted = own + 1 / size
    alone = np.flatnonzero(np.abs(shifted) > CLOSE)
    if size > 2 and len(alone) == 1 and abs(shifted[alone[0]] - 1) < CLOSE:
        return f"{labels[int(alone[0])]} - mean of all"
    used = np.flatnonzero(own)
    if len(used) == 2 and abs(own.sum()) < CLOSE and abs(own.max() - 1) > CLOSE:
        high, low = labels[int(own.argmax())], labels[int(own.argmin())]
        return _times(float(own.max()), f"({high} - {low})")
    plus = _side(own.clip(min=0), labels)
    minus = _side((-own).clip(min=0), labels)
    return f"{plus} - {minus}" if plus and minus else plus or f"-{minus}"


def _side(weights: Numbers, labels: Sequence[str]) -> str:
    """A sum of means with positive weights; equal weights stand outside of it."""
    used = np.flatnonzero(weights)
    if len(used) == 0:
        return ""
    names, first = [labels[i] for i in used.tolist()], float(weights[used[0]])
    if len(used) > 1 and np.ptp(weights[used]) < CLOSE:
        together = f"({' + '.join(names)})"
        return together if abs(first - 1) < CLOSE else _times(first, together)
    parts = [
        own if abs(w - 1) < CLOSE else _times(w, own)
        for w, own in zip(weights[used], names, strict=True)
    ]
    return parts[0] if len(parts) == 1 else f"({' + '.join(parts)})"


def _times(weight: float, what: str) -> str:
    """(a + b)/2, 2/3 a, 0.707 a."""
    fraction = Fraction(weight).limit_denominator(LARGEST)
    if abs(float(fraction) - weight) > CLOSE:
        return f"{weight:.3g} {what}"
    if fraction.numerator == 1:
        return f"{what}/{fraction.denominator}"
    return f"{fraction} {what}"


def _number(value: float) -> str:
    return f"{value:.4g}"
