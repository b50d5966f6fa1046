"""Natural parameters of correlations: from the angles of the core and back, with derivatives.

The core takes a correlation as the sine of a parameter, so that no value is forbidden and |rho| = 1
is a point like others. What is told to users are correlations and ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]  # values (k,), derivatives in the core's parameters (k, k)

ROUNDING = 1e-12  # a correlation may be that far outside of where it can be


class Correlation:
    """What a correlation of p columns has for parameters; this one has none."""

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Of the natural parameters."""
        return ()

    def natural(self, x: np.ndarray) -> Pair:
        """Natural parameters of the core's, and how they change with them."""
        return np.zeros(0), np.zeros((0, 0))

    def core(self, values: np.ndarray) -> np.ndarray:
        """The core's parameters of natural ones."""
        return np.zeros(0)

    def flat(self, live: np.ndarray) -> np.ndarray:
        """Which natural parameters nothing depends on, given the columns with variance (p,)."""
        return np.full(len(self.names([""] * len(live))), np.sum(live) < 2)


@dataclass(frozen=True)
class Compound(Correlation):
    """One correlation of all pairs: rho = 1 - p/(p - 1) cos^2 x."""

    p: int

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        return ("rho",)

    def natural(self, x: np.ndarray) -> Pair:
        scale = self.p / (self.p - 1)
        return 1 - scale * np.cos(x) ** 2, np.array([scale * np.sin(2 * x)])

    def core(self, values: np.ndarray) -> np.ndarray:
        rho = between(values, -1 / (self.p - 1), 1)
        return np.asarray(np.arccos(np.sqrt((1 - rho) * (self.p - 1) / self.p)))


@dataclass(frozen=True)
class Serial(Correlation):
    """Correlations of neighbours, one for all (autoregression) or each its own: rho = sin x."""

    p: int
    own: bool

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        return numbered("rho", self.p - 1) if self.own else ("rho",)

    def natural(self, x: np.ndarray) -> Pair:
        return np.sin(x), np.diag(np.cos(x))

    def core(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(np.arcsin(between(values, -1, 1)))

    def flat(self, live: np.ndarray) -> np.ndarray:
        if not self.own:
            return super().flat(live)
        before = np.cumsum(live)[:-1] > 0
        after = np.cumsum(live[::-1])[::-1][1:] > 0
        return np.asarray(~(before & after))


@dataclass(frozen=True)
class Toeplitz(Correlation):
    """Correlations by lag; sin x_k are partial autocorrelations."""

    p: int

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        return numbered("rho", self.p - 1)

    def natural(self, x: np.ndarray) -> Pair:
        n = len(x)
        r, dr = np.ones(n + 1), np.zeros((n + 1, n))
        a, da = np.zeros(0), np.zeros((0, n))
        v, dv = 1.0, np.zeros(n)
        for k, s in enumerate(np.sin(x)):
            ds = np.cos(x[k]) * np.eye(n)[k]
            back, dback = r[k:0:-1], dr[k:0:-1]
            r[k + 1] = a @ back + s * v
            dr[k + 1] = back @ da + a @ dback + s * dv + ds * v
            da = np.vstack([da - s * da[::-1] - np.outer(a[::-1], ds), ds])
            a = np.append(a - s * a[::-1], s)
            v, dv = v * (1 - s * s), dv * (1 - s * s) - 2 * s * v * ds
        return r[1:], dr[1:]

    def core(self, values: np.ndarray) -> np.ndarray:
        r, a, v = np.append(1.0, values), np.zeros(0), 1.0
        x = np.zeros(len(values))
        for k in range(len(values)):
            rest = r[k + 1] - a @ r[k:0:-1]
            s = rest / v if v > ROUNDING else 0.0
            if not abs(rest - np.clip(s, -1, 1) * v) <= ROUNDING:
                raise ValueError(
                    f"there is no such covariance: given the correlations of smaller lags, that of "
                    f"lag {k + 1} is between {r[k + 1] - rest - v:.6g} and "
                    f"{r[k + 1] - rest + v:.6g}, not {r[k + 1]:.6g}"
                )
            s = float(np.clip(s, -1, 1))
            x[k] = np.arcsin(s)
            a, v = np.append(a - s * a[::-1], s), v * (1 - s * s)
        return x

    def flat(self, live: np.ndarray) -> np.ndarray:
        return np.array([not np.any(live[k:] & live[:-k]) for k in range(1, self.p)])


@dataclass(frozen=True)
class Kernel(Correlation):
    """A correlation that falls with distance: log(range / largest distance)."""

    unit: float  # the largest distance

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        return ("range",)

    def natural(self, x: np.ndarray) -> Pair:
        value = self.unit * np.exp(x)
        return value, np.diag(value)

    def core(self, values: np.ndarray) -> np.ndarray:
        if not values[0] > 0:
            raise ValueError(f"a range must be above 0, not {values[0]:g}")
        return np.asarray(np.log(values / self.unit))


def numbered(name: str, n: int) -> tuple[str, ...]:
    """Names with numbers: rho 1, rho 2; of one alone just rho."""
    return tuple(f"{name} {i + 1}" for i in range(n)) if n > 1 else (name,) * n


def between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Correlations, put inside where rounding took them out."""
    for value in values:
        if not low - ROUNDING <= value <= high + ROUNDING:
            raise ValueError(f"a correlation must be from {low:.6g} to {high:.6g}, not {value:.6g}")
    return np.asarray(np.clip(values, low, high))
