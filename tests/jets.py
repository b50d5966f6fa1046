"""Truncated power series: derivatives that nobody has to write down, for checking the engine.

A `Jet` is a function of t and of e_1, ..., e_r for n rows: in t up to the power `ORDER`, in every
e_j to first order. Arithmetic is that of polynomials, so that a density written once in jets has
all its derivatives in eta, and one derivative of each of them in every extra parameter.
"""

from __future__ import annotations

from math import factorial
from typing import Any

import numpy as np
from scipy.special import log_ndtr, polygamma

ORDER = 4  # derivatives in t

# which powers of t make each power in a product
_LEFT, _RIGHT = np.array([(i, k - i) for k in range(ORDER + 1) for i in range(k + 1)]).T
_FIRST = np.cumsum([0, *range(1, ORDER + 1)])


class Jet:
    """Coefficients c[j, k, i] of t^k in row i: of the value (j = 0), and times e_j."""

    __array_priority__ = 100  # array + jet is a jet

    def __init__(self, c: np.ndarray) -> None:
        self.c = c

    @classmethod
    def variable(cls, value: np.ndarray, extra: int) -> Jet:
        """value + t."""
        out = cls.constant(value, extra)
        out.c[0, 1] = 1.0
        return out

    @classmethod
    def parameter(cls, value: float, j: int, extra: int, n: int) -> Jet:
        """value + e_j, j from 0."""
        out = cls.constant(np.full(n, float(value)), extra)
        out.c[1 + j, 0] = 1.0
        return out

    @classmethod
    def constant(cls, value: np.ndarray, extra: int) -> Jet:
        c = np.zeros((1 + extra, ORDER + 1, len(value)))
        c[0, 0] = value
        return cls(c)

    @property
    def value(self) -> np.ndarray:
        return np.asarray(self.c[0, 0])

    def derivative(self, k: int) -> np.ndarray:
        """The k-th derivative in t."""
        return np.asarray(self.c[0, k] * factorial(k))

    def mixed(self, k: int) -> np.ndarray:
        """The k-th derivative in t of the derivative in each e_j, (r, n)."""
        return np.asarray(self.c[1:, k] * factorial(k))

    def __add__(self, other: Any) -> Jet:
        c = self.c.copy()
        if isinstance(other, Jet):
            c += other.c
        else:
            c[0, 0] += other
        return Jet(c)

    def __mul__(self, other: Any) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.c * other)
        products = self.c[:, _LEFT] * other.c[:1, _RIGHT]
        products[1:] += self.c[:1, _LEFT] * other.c[1:, _RIGHT]
        return Jet(np.add.reduceat(products, _FIRST, axis=1))

    def __neg__(self) -> Jet:
        return Jet(-self.c)

    def __sub__(self, other: Any) -> Jet:
        return self + (-other)

    def __rsub__(self, other: Any) -> Jet:
        return -self + other

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> Jet:
        return self * (power(other, -1.0) if isinstance(other, Jet) else 1.0 / other)

    def __rtruediv__(self, other: Any) -> Jet:
        return power(self, -1.0) * other

    def of(self, series: list[Any]) -> Jet:
        """g(self), of the Taylor coefficients g^(k)(value) / k!, k = 0 .. ORDER + 1, of g."""
        rest = Jet(self.c.copy())
        rest.c[0, 0] = 0.0
        out = Jet(np.zeros_like(self.c)) + series[-1]
        for coefficient in series[-2::-1]:
            out = out * rest + coefficient
        return out


def where(rows: np.ndarray, one: Jet, other: Jet) -> Jet:
    """one in these rows, other in the rest."""
    return Jet(np.where(rows, one.c, other.c))


_TERMS = range(ORDER + 2)


def exp(a: Jet) -> Jet:
    return a.of([np.exp(a.value) / factorial(k) for k in _TERMS])


def log(a: Jet) -> Jet:
    x = a.value
    return a.of([np.log(x), *((-1) ** (k - 1) / (k * x**k) for k in _TERMS[1:])])


def power(a: Jet, r: float) -> Jet:
    """a^r; a may be negative where r is a whole number."""
    x, factor, series = a.value, 1.0, []
    for k in _TERMS:
        series.append(factor * x ** (r - k))
        factor *= (r - k) / (k + 1)
    return a.of(series)


def gammaln(a: Jet) -> Jet:
    from scipy.special import gammaln as value

    x = a.value
    return a.of([value(x), *(polygamma(k - 1, x) / factorial(k) for k in _TERMS[1:])])


def trigamma(a: Jet) -> Jet:
    return a.of([polygamma(k + 1, a.value) / factorial(k) for k in _TERMS])


def lorentz(a: Jet) -> Jet:
    """1 / (1 + a^2)."""
    return 1.0 / (a * a + 1.0)


def integral(value: np.ndarray, slope: list[np.ndarray]) -> list[np.ndarray]:
    """Taylor coefficients of a function from its value and those of its derivative."""
    return [value, *(s / (k + 1) for k, s in enumerate(slope))][: ORDER + 2]


def log_normal(a: Jet) -> Jet:
    """log of the normal distribution function, whose slope h has h' = -h (x + h)."""
    x = a.value
    h = [np.exp(-x * x / 2 - log_ndtr(x)) / np.sqrt(2 * np.pi)]
    for k in range(ORDER + 1):
        product = x * h[k] + sum(h[i] * h[k - i] for i in range(k + 1))
        product = product + (h[k - 1] if k else 0.0)
        h.append(-product / (k + 1))
    return a.of(integral(log_ndtr(x), h))
