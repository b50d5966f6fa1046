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

from ..errors import DataError, LmmWarning, warn
from ..formula.tree import Call, Constant, Name, Node, shown, strip

if TYPE_CHECKING:
    import pandas as pd

    from ..engine.families import Family
    from ..fit import Fit

Values = Any  # arrays of floats
E = math.e
NODES = 65  # of an integral over the distribution of the response
IMPOSSIBLE = 1e-6  # share of the distribution beyond what can be undone, above which means are none


class Step(NamedTuple):
    """One function on the way back: the inverse, and its derivative at the same place."""

    inverse: Callable[[Values], Values]
    slope: Callable[[Values], Values]
    pole: bool = False  # whether the inverse is infinite at 0: its two sides do not belong together


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
    # its mean at normal predictors, given mean and variance of these, where that is known
    mean: Callable[[Values, Values], Values] | None = None

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

    def same_side(self, eta: Values, centre: Values) -> np.ndarray | bool:
        """Whether no pole lies between `eta` and `centre`."""
        found: Any = True
        if any(step.pole for step in self.steps):
            with np.errstate(all="ignore"):
                for step in self.steps:
                    if step.pole:
                        found = found & (np.sign(eta) == np.sign(centre))
                    eta, centre = step.inverse(eta), step.inverse(centre)
        return found if found is True else np.asarray(found)

    def averaged(self, variance: Values) -> Averaged:
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
    if fit.family is not None:
        extra: Any = fit.estimates
        return _of_link(fit.family, np.asarray(extra.extra, dtype=float), label, inverse)
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
        learned = fit.design.recipe.memory.get(label, {}).get(shown(node))
        step, node, what, power = (
            _undone(node, label) if learned is None else _unscaled(node, learned)
        )
        if not steps and what:
            kind, base = what, power
        if step is not None:
            steps.append(step)
    if kind == "log" and not _is_scale(steps[1:]):
        kind = ""
    return ResponseScale(label, node.name, kind, tuple(steps), base)


def _of_link(family: Family, x: np.ndarray, label: str, inverse: Any) -> ResponseScale:
    """The scale of the mean of a generalized model's response."""
    if inverse is not None:
        raise DataError("inverse= is for linear models: the family has its own way back, its link")
    kind = family.link.name if family.link.name in ("log", "logit") else ""

    def mean(eta: Values) -> Values:
        return family.mean(eta, x)

    def averaged(eta: Values, variance: Values) -> Values:
        return family.marginal_mean(eta, variance, x)

    truncated = family.response == "positive count"  # where the mean is not that of the link
    step = Step(mean, _differences(mean) if truncated else family.mu_eta)
    variable = label if label.replace(".", "_").isidentifier() else "the response"
    return ResponseScale(f"the {family.link.name} link", variable, kind, (step,), mean=averaged)


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
    return ResponseScale(label, label, "", (Step(back, slope or _differences(back)),))


def _differences(function: Callable[[Values], Values]) -> Callable[[Values], Values]:
    """Its derivative by central differences."""

    def difference(eta: Values) -> Values:
        h = 1e-5 * np.maximum(1.0, np.abs(eta))
        return (np.asarray(function(eta + h)) - np.asarray(function(eta - h))) / (2 * h)

    return difference


def _unscaled(node: Node, learned: Mapping[str, Any]) -> tuple[Step, Node, str, float]:
    """The step back from scale(), center() and standardize(), by what the training data gave."""
    centre = learned.get("center", learned.get("mean"))
    if not isinstance(node, Call) or centre is None:
        raise _cannot(shown(node), node)
    scale = learned.get("scale", learned.get("sd", 1.0))
    by, plus = (float(np.ravel(value)[0]) for value in (scale, centre))
    return _linear(by, plus), strip(node.operands[0]), "", E


# ---- undoing one call ---------------------------------------------------------------------------


def _power(p: float) -> Step:
    return Step(lambda v: np.power(v, 1 / p), lambda v: np.power(v, 1 / p - 1) / p, p < 0)


def _quotient(a: float) -> Step:
    return Step(lambda v: a / v, lambda v: -a / v**2, True)


def _density(v: Values) -> Values:
    return np.exp(-np.square(v) / 2) / math.sqrt(2 * math.pi)


def _probability(v: Values) -> Values:
    from scipy.special import ndtr

    return ndtr(v)


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
_ODDS = Step(lambda v: 1 / (1 + 1 / v), lambda v: 1 / (1 + v) ** 2)
_FUNCTIONS: dict[str, tuple[Step, str]] = {
    "sqrt": (Step(np.square, lambda v: 2 * v), ""),
    "np.sqrt": (Step(np.square, lambda v: 2 * v), ""),
    "np.cbrt": (Step(lambda v: v**3, lambda v: 3 * v**2), ""),
    "log1p": (Step(np.expm1, np.exp), ""),
    "np.log1p": (Step(np.expm1, np.exp), ""),
    "expm1": (Step(np.log1p, lambda v: 1 / (1 + v)), ""),
    "np.expm1": (Step(np.log1p, lambda v: 1 / (1 + v)), ""),
    "np.square": (_power(2.0), ""),
    "np.reciprocal": (_quotient(1.0), ""),
    "exp": (Step(np.log, lambda v: 1 / v), ""),
    "np.exp": (Step(np.log, lambda v: 1 / v), ""),
    "qlogis": (_LOGIT, "logit"),
    "logit": (_LOGIT, "logit"),
    "qnorm": (Step(_probability, _density), ""),
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
        return _undone_log(_LOGS[name], node, label)
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
        if name in ("^", "**", "np.power", "np.float_power") and b != 0:
            return _power(b), left
    if a is not None and b is None:
        if name == "+":
            return _linear(1.0, -a), right
        if name == "-":
            return _linear(-1.0, a), right
        if name == "*" and a != 0:
            return _linear(1 / a, 0.0), right
        if name == "/" and a != 0:
            return _quotient(a), right
    if name == "/" and _is_rest(right, left):
        return _ODDS, left
    raise _cannot(label, node)


def _undone_log(base: float, node: Call, label: str) -> tuple[Step, Node, str, float]:
    """The same of a logarithm, whose base may be given by name."""
    named = dict(zip(("x", "base"), (value for name, value in node.args if not name), strict=False))
    named |= {name: value for name, value in node.args if name}
    inner, given = named.get("x"), named.get("base")
    if inner is None:
        raise _cannot(label, node)
    if given is not None:
        base = _number(given, label)
    inner = strip(inner)
    if base == E and isinstance(inner, Call) and inner.function == "/":
        p, rest = (strip(operand) for operand in inner.operands)
        if _is_rest(rest, p):
            return _LOGIT, p, "logit", E
    return _exponential(base), inner, "log", base


def _is_rest(node: Node, share: Node) -> bool:
    """Whether an expression is 1 - share."""
    if not (isinstance(node, Call) and node.function == "-" and len(node.operands) == 2):
        return False
    one, taken = (strip(operand) for operand in node.operands)
    return _constant(one) == 1 and _constant(share) is None and shown(taken) == shown(share)


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


def total_variance(fit: Fit) -> float:
    """Variance of a response around its population mean: of the residuals, and of the random
    effects on average over the rows. Of a generalized model that of its linear predictor."""
    estimates = fit.estimates
    total = 1.0 if fit.family is None else 0.0
    for T, term in zip(estimates.T, fit.design.terms, strict=True):
        total += float(term.source.mean_squares(T).sum())
    return float(estimates.sigma**2 * total)


@dataclass(frozen=True)
class Averaged:
    """A response's scale, averaged over a normal distribution of what is not known.

    References
    ----------
    Duan (1983), *J. Amer. Statist. Assoc.* 78, for a known distribution.
    """

    scale: ResponseScale
    variance: Values  # one, or one for each value; 0: not averaged

    def values(self, eta: Values) -> np.ndarray:
        """Means of the response; NaN, with a warning, where there are none."""
        eta = np.asarray(eta, dtype=float)
        if self.scale.mean is not None and np.any(self.variance):
            return np.asarray(self.scale.mean(eta, self.variance), dtype=float)
        found = self._mean(self.scale.to_response, eta)
        lost = np.isnan(found) & ~np.isnan(self.scale.to_response(eta))
        if lost.any():
            warn(
                LmmWarning(
                    f"{self.scale.label}: {int(lost.sum())} of {lost.size} means are missing "
                    "(NaN): the distribution that the model estimates reaches where the "
                    "transformation cannot be undone, so that the response has no mean there; "
                    "bias_adjust=False gives its median",
                    variable=self.scale.variable,
                )
            )
        return found

    def slope(self, eta: Values) -> np.ndarray:
        """Absolute derivative of `values`."""
        return np.asarray(np.abs(self._mean(self.scale.slope, eta)))

    def _mean(self, function: Callable[[Values], np.ndarray], eta: Values) -> np.ndarray:
        """Mean of a function, given that it can be undone; NaN where that is not nearly sure."""
        eta = np.asarray(eta, dtype=float)
        if not np.any(self.variance):
            return function(eta)
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        total, sure = np.zeros(eta.shape), np.zeros(eta.shape)
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            at = eta + np.sqrt(self.variance) * node
            value = function(at)
            possible = ~np.isnan(value) & self.scale.same_side(at, eta)
            total += weight * np.where(possible, value, 0.0)
            sure += weight * possible
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(sure >= 1 - IMPOSSIBLE, total / sure, np.nan)

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
