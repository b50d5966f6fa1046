"""Linear hypotheses ``L beta = q`` on fixed effects: from arrays, tables, dicts and text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from ..data.columns import suggest


class _Row(NamedTuple):
    """One hypothesis: ``weights @ beta = value``; without a label it is numbered."""

    weights: np.ndarray
    value: float
    label: str | None = None


def hypothesis(
    given: Any, names: Sequence[str], role: str = "L"
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Weights (k x p), right-hand sides and labels (k) of hypotheses ``L beta = q``.

    ``given`` is one of

    - weights, in one or two dimensions, with a column per coefficient
    - a table or series whose labels are names of coefficients, or a dict from names to weights;
      coefficients that are not named have weight 0
    - text as ``"x = 0, x - 2*z = 1"``; ``"a = b = 0"`` is two hypotheses, and without a right-hand
      side it is 0. The longest name that fits is read.
    - ``(L, q)``: weights as above and right-hand sides, one for all or one per row
    - a list of these (but of tuples)

    Labels are the text or label given for each row, a dict in words, else ``"c0"``, ``"c1"``, ...
    by position. Messages call ``given`` by its role.

    >>> L, q, labels = hypothesis("x - 2*z = 1, Intercept", ["Intercept", "x", "z"])
    >>> L.tolist(), q.tolist()
    ([[0.0, 1.0, -2.0], [1.0, 0.0, 0.0]], [1.0, 0.0])
    >>> labels
    ('x - 2*z = 1', 'Intercept')
    """
    rows = _rows(given, [str(name) for name in names], role)
    if not rows:
        raise ValueError(f"{role} has no rows: there is nothing to test")
    L = np.array([row.weights for row in rows])
    q = np.array([row.value for row in rows])
    if not (np.all(np.isfinite(L)) and np.all(np.isfinite(q))):
        raise ValueError(f"{role} has weights or right-hand sides that are missing or infinite")
    labels = (f"c{i}" if row.label is None else row.label for i, row in enumerate(rows))
    return L, q, tuple(labels)


def _rows(given: Any, names: list[str], role: str) -> list[_Row]:
    """The rows of whatever a user gives."""
    if isinstance(given, str):
        return _Text(given, names, role).hypotheses()
    if isinstance(given, Mapping):
        plain = _in_words(given)
        return _labelled_rows(list(given), [list(given.values())], [plain], names, role)
    if isinstance(given, tuple) and not (given and all(isinstance(item, str) for item in given)):
        return _with_values(given, names, role)
    if isinstance(given, (list, tuple)) and any(_has_names(item) for item in given):
        return [row for item in given for row in _rows(item, names, role)]
    if _has_names(given):
        return _pandas_rows(given, names, role)
    return _array_rows(given, names, role)


def _in_words(weights: Mapping[Any, Any]) -> str | None:
    """Weights by name as text: ``2*x - z``; None where they are no numbers."""
    if not weights or not all(isinstance(weight, Real) for weight in weights.values()):
        return None
    text = " + ".join(f"{float(weight):g}*{name}" for name, weight in weights.items())
    return text.replace("+ -", "- ").replace(" 1*", " ").removeprefix("1*")


def _has_names(item: Any) -> bool:
    """Whether it is text or maps names to weights: not the row of an array."""
    if isinstance(item, (str, Mapping)):
        return True
    labels = getattr(item, "columns", None)
    if labels is None and hasattr(item, "to_numpy"):
        labels = getattr(item, "index", None)
    return not (labels is None or callable(labels) or _numbered(labels))


def _numbered(labels: Iterable[Any]) -> bool:
    """Whether labels are pandas' default: 0, 1, ..."""
    return all(isinstance(label, (int, np.integer)) for label in labels)


def _array_rows(given: Any, names: list[str], role: str) -> list[_Row]:
    """Rows of an array, a column per coefficient."""
    weights = _numeric(given, role)
    weights = weights[None, :] if weights.ndim == 1 else weights
    if weights.ndim != 2 or weights.shape[1] != len(names):
        shape = " x ".join(map(str, weights.shape)) or "a single number"
        listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        columns = f"{len(names)} columns, one per coefficient ({listed})"
        raise ValueError(f"{role} should have {columns}; it is {shape}")
    return [_Row(row, 0.0) for row in weights]


def _pandas_rows(given: Any, names: list[str], role: str) -> list[_Row]:
    """Rows of a table with coefficients as columns, or of a series indexed by them."""
    weights = given.to_numpy()
    if weights.ndim == 1:
        label = given.name if isinstance(given.name, str) else None
        return _labelled_rows(list(given.index), weights[None, :], [label], names, role)
    index = getattr(given, "index", None)  # polars has none
    labels: list[str | None] = [None] * len(weights)
    if index is not None and not _numbered(index):
        labels = [str(label) for label in index]
    return _labelled_rows(list(given.columns), weights, labels, names, role)


def _labelled_rows(
    columns: list[Any], weights: Any, labels: list[str | None], names: list[str], role: str
) -> list[_Row]:
    """Rows of weights on named columns, in the order of the coefficients."""
    columns = [str(column) for column in columns]
    for column in columns:
        if column not in names:
            raise _unknown(column, names, role)
    given = _numeric(weights, role)
    if given.ndim != 2:
        raise ValueError(f"{role} should have one weight per name")
    aligned = np.zeros((len(given), len(names)))
    for column, own in zip(columns, given.T, strict=True):
        aligned[:, names.index(column)] += own
    return [_Row(row, 0.0, label) for row, label in zip(aligned, labels, strict=True)]


def _with_values(given: tuple[Any, ...], names: list[str], role: str) -> list[_Row]:
    """Rows of ``(L, q)``."""
    if len(given) != 2 or isinstance(given[0], str):
        raise ValueError(
            f"{role}: a tuple is (L, q), weights and right-hand sides; give rows as a list or an "
            "array, and write right-hand sides of text into it"
        )
    rows = _rows(given[0], names, role)
    values = per_row(_numeric(given[1], role), len(rows), f"{role}: q, the right-hand side,")
    return [row._replace(value=value) for row, value in zip(rows, values, strict=True)]


def _numeric(values: Any, role: str) -> np.ndarray:
    try:
        array = np.asarray(values)
        if array.dtype.kind in "biufO":
            return array.astype(float)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{role} must be numbers in rows of equal length; got {values!r}")


def per_row(values: Any, k: int, role: str) -> np.ndarray:
    """One number for all rows, or one per row (k)."""
    array = np.asarray(values, dtype=float).ravel()
    if array.size not in (1, k):
        raise ValueError(f"{role} has {array.size} values for {k} row{'s' * (k != 1)}")
    return np.array(np.broadcast_to(array, (k,)))


def _unknown(name: str, names: list[str], role: str) -> ValueError:
    hint = suggest(name, names, "coefficients")
    return ValueError(f"{role} names {name!r}, which is not a coefficient{hint}")


# ---- hypotheses as text -------------------------------------------------------------------------

NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?!\w)"
OPERATOR = r"==|[-+*/=,()]"
WORD = r"[\w.:]+(?:[\[(][^\])]*[\])][\w.:]*)*|."  # what an unknown name looks like
NAME_ENDS = r"(?![\w.:\[(])"


class _Token(NamedTuple):
    kind: str  # "name", "number", "operator" or "end"
    text: str
    start: int
    end: int


class _Text:
    """Recursive descent over ``sum (= sum)*, ...``; values are weights and a constant (p + 1)."""

    def __init__(self, text: str, names: list[str], role: str) -> None:
        self.text, self.names, self.role = text, names, role
        self.tokens = list(self._tokens())
        self.position = 0

    def hypotheses(self) -> list[_Row]:
        """Everything, up to the end."""
        rows = self._equation()
        while self._accept(","):
            rows += self._equation()
        return rows

    def _equation(self) -> list[_Row]:
        sides = [self._side()]
        while self._accept("=", "=="):
            sides.append(self._side())
        if self._next.kind != "end" and self._next.text != ",":
            raise self._error("an operator, '=' or ','")
        if len(sides) == 1:
            return [self._row(*sides[0])]
        return [self._row(a - b, f"{left} = {right}") for (a, left), (b, right) in pairwise(sides)]

    def _row(self, value: np.ndarray, label: str) -> _Row:
        if not np.any(value[:-1]):
            raise ValueError(f"{self.role}: no coefficient is left in {label!r}")
        return _Row(value[:-1], 0.0 - value[-1], label)

    def _side(self) -> tuple[np.ndarray, str]:
        start = self._next.start
        value = self._sum()
        end = self.tokens[self.position - 1].end
        return value, " ".join(self.text[start:end].split())

    def _sum(self) -> np.ndarray:
        value = self._product()
        while operator := self._accept("+", "-"):
            term = self._product()
            value = value + term if operator == "+" else value - term
        return value

    def _product(self) -> np.ndarray:
        value = self._factor()
        while operator := self._accept("*", "/"):
            factor = self._factor()
            value = self._times(value, factor) if operator == "*" else self._over(value, factor)
        return value

    def _factor(self) -> np.ndarray:
        if operator := self._accept("+", "-"):
            return self._factor() if operator == "+" else -self._factor()
        if self._accept("("):
            value = self._sum()
            if not self._accept(")"):
                raise self._error("')'")
            return value
        token = self._next
        if token.kind not in ("name", "number"):
            raise self._error("a coefficient, a number or '('")
        self.position += 1
        value = np.zeros(len(self.names) + 1)
        if token.kind == "name":
            value[self.names.index(token.text)] = 1.0
        else:
            value[-1] = float(token.text)
        return value

    def _times(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        if np.any(left[:-1]) and np.any(right[:-1]):
            raise ValueError(f"{self.role}: {self.text!r} multiplies coefficients: not linear")
        return np.asarray(left * right[-1] if np.any(left[:-1]) else right * left[-1])

    def _over(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        if np.any(right[:-1]) or right[-1] == 0:
            what = "a coefficient: not linear" if np.any(right[:-1]) else "zero"
            raise ValueError(f"{self.role}: {self.text!r} divides by {what}")
        return np.asarray(left / right[-1])

    @property
    def _next(self) -> _Token:
        return self.tokens[self.position]

    def _accept(self, *operators: str) -> str:
        """Step over one of some operators; it, or nothing."""
        token = self._next
        if token.kind != "operator" or token.text not in operators:
            return ""
        self.position += 1
        return token.text

    def _error(self, expected: str) -> ValueError:
        rest = self.text[self._next.start :].strip()
        place = f"at {rest!r}" if rest else "at its end"
        return ValueError(f"{self.role}: cannot read {self.text!r} {place}: expected {expected}")

    def _tokens(self) -> Iterable[_Token]:
        longest_first = sorted(filter(None, self.names), key=len, reverse=True)
        known = "|".join(map(re.escape, longest_first)) or r"(?!)"
        pattern = re.compile(
            rf"\s*(?:(?P<name>(?:{known}){NAME_ENDS})|(?P<number>{NUMBER})"
            rf"|(?P<operator>{OPERATOR})|(?P<unknown>{WORD}))",
            re.DOTALL,
        )
        for match in pattern.finditer(self.text.rstrip()):
            kind = str(match.lastgroup)
            if kind == "unknown":
                raise _unknown(match[kind], self.names, self.role)
            yield _Token(kind, match[kind], match.start(kind), match.end(kind))
        yield _Token("end", "", len(self.text), len(self.text))
