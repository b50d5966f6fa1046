"""The scale of a transformed response: from the formula's left side back to what was measured.

``log(rt + 1)``, ``-1000 / rt``, ``sqrt(y)``, ``log(p / (1 - p))`` and the like are undone step by
step; everything that a step needs besides the response must be a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import DataError
from ..formula.tree import Call, Constant, Name, Node, shown, strip

if TYPE_CHECKING:
    import pandas as pd

    from ..fit import Fit

Values = Any  # arrays of floats
E = math.e
NODES = 65  # of an integral over the distribution of the response


class Step(NamedTuple):
    """One function on the way back: the inverse, and its derivative at the same place."""

    inverse: Callable[[Values], Values]
    slope: Callable[[Values], Values]


@dataclass(frozen=True)
class ResponseScale:
    """What the fitted response is a function of, and the way back.

    Attributes
    ----------
    label : str
        The response as it was fitted: "log(rt)".
    variable : str
        What was measured: "rt".
    kind : str
        "log" or "logit" where differences become ratios (of odds), else "".
    """

    label: str
    variable: str
    kind: str
    steps: tuple[Step, ...]  # the first undoes the outermost function
    base: float = E  # of a logarithm

    def to_response(self, eta: Values) -> np.ndarray:
        """Values on the response's own scale; NaN where there are none."""
        with np.errstate(all="ignore"):
            for step in self.steps:
                eta = step.inverse(eta)
        return np.asarray(eta, dtype=float)

    def slope(self, eta: Values) -> np.ndarray:
        """Derivative of `to_response`, for the delta method."""
        product = np.ones_like(np.asarray(eta, dtype=float))
        with np.errstate(all="ignore"):
            for step in self.steps:
                product = product * step.slope(eta)
                eta = step.inverse(eta)
        return np.asarray(product, dtype=float)

    def averaged(self, variance: float) -> Averaged:
        """The same, as means over a normal distribution of this variance (0: as it is)."""
        return Averaged(self, variance)

    @property
    def ratio(self) -> str:
        """What differences become: "ratio", "odds.ratio" or nothing."""
        return {"log": "ratio", "logit": "odds.ratio"}.get(self.kind, "")

    def to_ratio(self, difference: Values) -> np.ndarray:
        """base^difference."""
        return np.asarray(np.exp(np.log(self.base) * np.asarray(difference, dtype=float)))


def response_scale(fit: Fit, inverse: Any = None) -> ResponseScale:
    """The scale of a fit's response.

    Parameters
    ----------
    fit : Fit
    inverse : callable, or mapping with "inverse" and "derivative", optional
        The way back where the formula's left side does not tell it; a derivative that is not given
        is taken by differences.

    Raises
    ------
    DataError
        When the left side is a variable itself, or cannot be undone.
    """
    label = fit.design.response
    if inverse is not None:
        return _given(label, inverse)
    if fit.design.recipe is None:
        raise DataError(
            'type="response": a model from arrays does not know its transformation: give inverse='
        )
    tree = strip(fit.design.plan.response.tree)
    if isinstance(tree, Name):
        raise DataError(
            f'type="response": the response {label!r} is not transformed in the formula; give '
            "inverse= if it was transformed before",
            variable=label,
        )
    steps: list[Step] = []
    kind, base = "", E
    node: Node = tree
    while not isinstance(node, Name):
        step, node, what, power = _undone(node, label)
        if not steps and what:
            kind, base = what, power
        if step is not None:
            steps.append(step)
    if kind == "log" and not _is_scale(steps[1:]):
        kind = ""
    return ResponseScale(label, node.name, kind, tuple(steps), base)


def _is_scale(steps: list[Step]) -> bool:
    """Whether the steps multiply by a number: ratios inside are ratios of the response."""
    values: Values = np.array([1.0, 2.0, 3.0])
    for step in steps:
        values = step.inverse(values)
    return bool(np.allclose(values, values[0] * np.array([1.0, 2.0, 3.0])))


def _given(label: str, inverse: Any) -> ResponseScale:
    if isinstance(inverse, Mapping):
        back, slope = inverse.get("inverse"), inverse.get("derivative")
    else:
        back, slope = inverse, None
    if not callable(back) or not (slope is None or callable(slope)):
        raise ValueError(
            "inverse must be a function of arrays, or {'inverse': function, 'derivative': function}"
        )

    def difference(eta: Values) -> Values:
        h = 1e-5 * np.maximum(1.0, np.abs(eta))
        return (np.asarray(back(eta + h)) - np.asarray(back(eta - h))) / (2 * h)

    return ResponseScale(label, label, "", (Step(back, slope or difference),))


# ---- undoing one call ---------------------------------------------------------------------------


def _power(p: float) -> Step:
    return Step(lambda v: np.power(v, 1 / p), lambda v: np.power(v, 1 / p - 1) / p)


def _exponential(base: float) -> Step:
    rate = np.log(base)
    return Step(lambda v: np.exp(rate * v), lambda v: rate * np.exp(rate * v))


_LOGS = {
    "log": E,
    "ln": E,
    "np.log": E,
    "log2": 2.0,
    "np.log2": 2.0,
    "log10": 10.0,
    "np.log10": 10.0,
}
_LOGIT = Step(
    lambda v: 1 / (1 + np.exp(-v)), lambda v: np.exp(-np.abs(v)) / (1 + np.exp(-np.abs(v))) ** 2
)
_FUNCTIONS: dict[str, tuple[Step, str]] = {
    "sqrt": (Step(np.square, lambda v: 2 * v), ""),
    "np.sqrt": (Step(np.square, lambda v: 2 * v), ""),
    "np.cbrt": (Step(lambda v: v**3, lambda v: 3 * v**2), ""),
    "log1p": (Step(np.expm1, np.exp), ""),
    "np.log1p": (Step(np.expm1, np.exp), ""),
    "exp": (Step(np.log, lambda v: 1 / v), ""),
    "np.exp": (Step(np.log, lambda v: 1 / v), ""),
    "qlogis": (_LOGIT, "logit"),
    "logit": (_LOGIT, "logit"),
    "asin": (Step(np.sin, np.cos), ""),
    "np.arcsin": (Step(np.sin, np.cos), ""),
    "atanh": (Step(np.tanh, lambda v: 1 / np.cosh(v) ** 2), ""),
    "np.arctanh": (Step(np.tanh, lambda v: 1 / np.cosh(v) ** 2), ""),
    "asinh": (Step(np.sinh, np.cosh), ""),
    "np.arcsinh": (Step(np.sinh, np.cosh), ""),
}


def _undone(node: Node, label: str) -> tuple[Step | None, Node, str, float]:
    """The step back from a call, what it was taken of, its kind and base."""
    node = strip(node)
    if not isinstance(node, Call):
        raise _cannot(label, node)
    name = node.function if not node.namespace else f"{node.namespace}.{node.function}"
    if name in ("I", "(", "identity"):
        return None, strip(node.operands[0]), "", E
    if name in _LOGS:
        base = _LOGS[name] if len(node.operands) == 1 else _number(node.operands[1], label)
        return _exponential(base), strip(node.operands[0]), "log", base
    if name in _FUNCTIONS and len(node.operands) == 1:
        step, kind = _FUNCTIONS[name]
        return step, strip(node.operands[0]), kind, E
    if name in ("+", "-") and len(node.operands) == 1:
        sign = -1.0 if name == "-" else 1.0
        return _linear(1 / sign, 0.0), strip(node.operands[0]), "", E
    if len(node.operands) == 2:
        return *_undone_operator(name, node, label), "", E
    raise _cannot(label, node)


def _undone_operator(name: str, node: Call, label: str) -> tuple[Step, Node]:
    left, right = (strip(operand) for operand in node.operands)
    a, b = _constant(left), _constant(right)
    if b is not None and a is None:
        if name in ("+", "-"):
            return _linear(1.0, -b if name == "+" else b), left
        if name in ("*", "/") and b != 0:
            return _linear(1 / b if name == "*" else b, 0.0), left
        if name in ("^", "**") and b != 0:
            return _power(b), left
    if a is not None and b is None:
        if name == "+":
            return _linear(1.0, -a), right
        if name == "-":
            return _linear(-1.0, a), right
        if name == "*" and a != 0:
            return _linear(1 / a, 0.0), right
        if name == "/" and a != 0:
            return Step(lambda v: a / v, lambda v: -a / v**2), right
    raise _cannot(label, node)


def _linear(by: float, plus: float) -> Step:
    return Step(lambda v: by * v + plus, lambda v: np.full_like(np.asarray(v, dtype=float), by))


def _constant(node: Node) -> float | None:
    """The number that an expression of numbers is; None for what has a variable."""
    if isinstance(node, Constant) and isinstance(node.value, (int, float)):
        return float(node.value)
    if isinstance(node, Name):
        return math.pi if node.name in ("pi", "np.pi") else None
    if not isinstance(node, Call):
        return None
    parts = [_constant(strip(operand)) for operand in node.operands]
    if any(part is None for part in parts):
        return None
    values = [part for part in parts if part is not None]
    if len(values) == 1:
        one: dict[str, Callable[[float], float]] = {
            "-": lambda v: -v,
            "+": lambda v: v,
            "log": math.log,
            "sqrt": math.sqrt,
            "(": lambda v: v,
        }
        return float(one[node.function](values[0])) if node.function in one else None
    if len(values) == 2:
        two: dict[str, Callable[[float, float], float]] = {
            "+": lambda a, b: a + b,
            "-": lambda a, b: a - b,
            "*": lambda a, b: a * b,
            "/": lambda a, b: a / b,
            "^": lambda a, b: a**b,
            "**": lambda a, b: a**b,
        }
        return float(two[node.function](*values)) if node.function in two else None
    return None


def _number(node: Node, label: str) -> float:
    value = _constant(strip(node))
    if value is None:
        raise _cannot(label, node)
    return value


def _cannot(label: str, node: Node) -> DataError:
    return DataError(
        f'type="response": {label!r} cannot be undone at {shown(node)!r}: give the way back, '
        "inverse=function",
        variable=label,
    )


def total_variance(fit: Fit, known: Mapping[int, np.ndarray] | None = None) -> float:
    """Variance of a response around what is known of it: of the residuals, and of the random
    effects on average over the rows, but those that are known (masks of columns, by term)."""
    estimates, total = fit.estimates, 0.0
    for i, (T, term) in enumerate(zip(estimates.T, fit.design.terms, strict=True)):
        mask = (known or {}).get(i)
        own = T if mask is None else T * ~mask[:, None]
        total += float(term.source.mean_squares(own).sum())
    return float(estimates.sigma**2 * (1 + total))


@dataclass(frozen=True)
class Averaged:
    """A response's scale, averaged over a normal distribution of what is not known.

    References
    ----------
    Duan (1983), *J. Amer. Statist. Assoc.* 78, for a known distribution.
    """

    scale: ResponseScale
    variance: float  # 0: not averaged

    def values(self, eta: Values) -> np.ndarray:
        """Means of the response."""
        return self._mean(self.scale.to_response, eta)

    def slope(self, eta: Values) -> np.ndarray:
        """Absolute derivative of `values`."""
        return np.asarray(np.abs(self._mean(self.scale.slope, eta)))

    def _mean(self, function: Callable[[Values], np.ndarray], eta: Values) -> np.ndarray:
        eta = np.asarray(eta, dtype=float)
        if not self.variance:
            return function(eta)
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        found = function(eta[:, None] + np.sqrt(self.variance) * nodes)
        return np.asarray(found @ weights / weights.sum())

    def limits(self, lower: Values, upper: Values) -> tuple[np.ndarray, np.ndarray]:
        """Ends of an interval on this scale, the smaller one first."""
        one, two = self.values(lower), self.values(upper)
        return np.fmin(one, two), np.fmax(one, two)

    def series(self, values: pd.Series) -> pd.Series:
        """Predictions on this scale."""
        return type(values)(self.values(values.to_numpy()), index=values.index, name=values.name)

    def frame(self, table: pd.DataFrame) -> pd.DataFrame:
        """Predictions, their standard errors and limits on this scale."""
        fit = table["fit"].to_numpy()
        lower, upper = self.limits(table["lower"].to_numpy(), table["upper"].to_numpy())
        se = self.slope(fit) * table["se"].to_numpy()
        return table.assign(fit=self.values(fit), se=se, lower=lower, upper=upper)
