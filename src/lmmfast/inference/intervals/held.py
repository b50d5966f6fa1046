"""Each parameter as a coordinate: the criterion where it is held, with exact derivatives.

- A fixed effect b_j: at given theta the best residual sum of squares with b_j held at v is
  r^2 + (v - b_j)^2 / c_jj with c = (X'V^-1 X)^-1, so that only theta is left.
- sigma: the criterion in (theta, sigma) is f(theta) + nu (k - 1 - log k), where f is the criterion
  at the best sigma, nu = n - p (REML) or n (ML), and k the ratio of r^2(theta) / nu to sigma^2.
- A standard deviation: that of a term's first column is sigma T[0, 0], and the columns of a term
  may stand in any order.
- A correlation: with its two columns in front, T[0, 0] = a^2 and T[1, :2] = b^2 (r, sqrt(1 - r^2)).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...errors import FitError

if TYPE_CHECKING:
    from ...engine.model import Model
    from ...fit import Fit

__all__ = [
    "Correlation",
    "Criterion",
    "Deviation",
    "Effect",
    "Held",
    "Local",
    "Sigma",
    "lower_root",
]

NO_COLUMN = 1e-4  # entries of T, in units of the whitened columns, that count as zero here
SMALLEST = 1e-4  # sigma, relative to its estimate, down to which its profile is followed


# ---- the criterion and its derivatives -----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Squares:
    """log of a residual sum of squares: gradient, second derivatives between zero columns of T."""

    total: float
    slope: np.ndarray
    at_zero: np.ndarray


@dataclass(frozen=True, eq=False)
class _Value:
    """A criterion with its derivatives."""

    f: float
    slope: np.ndarray
    curvature: np.ndarray


class Criterion:
    """Deviance or REML criterion of one model at any theta: at best, sigma or b_j given."""

    def __init__(self, model: Model, reml: bool) -> None:
        self.model, self.reml = model, reml
        self.term, self.row, self.column = np.array(model.theta_entries).T
        rank = int(model._core.keep.sum())
        self.nu = model.design.n - (rank if reml else 0)
        same = (self.term[:, None] == self.term) & (self.column[:, None] == self.column)
        self._first, self._second = np.nonzero(same)
        units = []
        for i, C in enumerate(model._engine.whitening()):
            unit = np.ones(len(model.design.terms[i].columns))
            unit[list(model._engine.kept(i))] = np.linalg.norm(C, axis=1)
            units.append(unit)
        self._unit = np.array([units[t][r] for t, r in zip(self.term, self.row, strict=True)])

    def factors(self, theta: np.ndarray) -> tuple[np.ndarray, ...]:
        return self.model._engine.factors(self.model._engine.to_core(theta))

    def profiled(self, theta: np.ndarray) -> _Value:
        """At the best sigma and fixed effects."""
        f, g, H = self.model.objective(theta, reml=self.reml, gradient=True, hessian=True)
        return _Value(f, g, H)

    def estimates(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """beta, (X'V^-1 X)^-1 and the residual sum of squares."""
        at = self.model.point(theta, reml=self.reml)
        return at.beta, at.vcov / at.sigma**2, self.nu * at.sigma**2

    def with_sigma(self, theta: np.ndarray, log_variance: float) -> _Value:
        """At a given log sigma^2; derivatives in theta and in it."""
        profiled = self.profiled(theta)
        _, _, r2 = self.estimates(theta)
        _, g = self.model.projection(theta, reml=self.reml)
        own = self._squares(theta, g, r2)
        u, nu = own.slope, self.nu
        log_k = np.log(r2 / nu) - log_variance
        with np.errstate(over="ignore", under="ignore"):
            k = float(np.exp(log_k))
        if not 0 < k < np.inf:
            raise FitError("the objective is not finite at this sigma")
        slope = np.append(profiled.slope + nu * (k - 1) * u, nu * (1 - k))
        direction = np.append(u, -1.0)
        H = nu * k * np.outer(direction, direction)
        H[:-1, :-1] += profiled.curvature + nu * (k - 1) * own.at_zero
        return _Value(profiled.f + nu * float(np.expm1(log_k) - log_k), slope, H)

    def with_effect(self, theta: np.ndarray, j: int, value: float) -> tuple[_Value, float, float]:
        """At a given fixed effect j; also the derivative in it, and the second at its best."""
        profiled = self.profiled(theta)
        beta, inverse, r2 = self.estimates(theta)
        G, g = self.model.projection(theta, reml=self.reml)
        d, c = value - beta[j], inverse[j, j]
        held = [own - each[:, :, j] * (d / c) for own, each in zip(g, G, strict=True)]
        free = self._squares(theta, g, r2)
        tied = self._squares(theta, held, r2 + d * d / c)
        f = profiled.f + self.nu * np.log1p(d * d / (c * r2))
        slope = profiled.slope + self.nu * (tied.slope - free.slope)
        H = profiled.curvature + self.nu * (tied.at_zero - free.at_zero)
        scale = float(2 * self.nu / (c * tied.total))
        return _Value(float(f), slope, H), scale * d, scale

    def _squares(self, theta: np.ndarray, g: Sequence[np.ndarray], total: float) -> _Squares:
        """From g = Z'V^-1 r by term: the derivative in an entry e of a T is -2 (g'g T)[e]."""
        crossed = [own.T @ own for own in g]
        T = self.factors(theta)
        moved = [a @ b for a, b in zip(crossed, T, strict=True)]
        entries = zip(self.term, self.row, self.column, strict=True)
        slope = -2 / total * np.array([moved[t][r, c] for t, r, c in entries])
        at_zero = np.zeros((len(theta), len(theta)))
        small = np.abs(theta) <= NO_COLUMN * self._unit
        for a, b in zip(self._first, self._second, strict=True):
            if small[a] and small[b]:
                t = self.term[a]
                at_zero[a, b] = -2 / total * crossed[t][self.row[a], self.row[b]]
        return _Squares(total, slope, at_zero)


# ---- parameters as coordinates -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Local:
    """The criterion at one point z of the others and one position w of the held parameter."""

    f: float
    slope: np.ndarray  # in z
    curvature: np.ndarray
    slope_held: float  # in w
    mixed: np.ndarray  # second derivatives in z and w, those of the map to theta left out
    curvature_held: float


class Held(ABC):
    """One parameter as a coordinate w: how theta and sigma follow from w and the others, z.

    Attributes
    ----------
    best : float
        w at the estimate.
    z : (nz,) array
        The others there.
    low, high : float
        Bounds of w.
    """

    best: float
    z: np.ndarray
    low = -np.inf
    high = np.inf

    def __init__(self, criterion: Criterion) -> None:
        self.criterion = criterion

    def value(self, w: float) -> float:
        """The parameter in its own units."""
        return w

    def free(self, w: float) -> np.ndarray:
        """Which of the others are varied."""
        return np.ones(len(self.z), dtype=bool)

    def entering(self, w: float, z: np.ndarray) -> np.ndarray:
        """z with the entries that are not free at w at rest."""
        return z

    @abstractmethod
    def local(self, w: float, z: np.ndarray) -> Local:
        """The criterion and its derivatives there.

        Raises
        ------
        FitError
            When it is not finite.
        """

    @abstractmethod
    def state(self, w: float, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """theta, beta and sigma there."""

    def _mapped(self, value: _Value, J: np.ndarray, along: np.ndarray, second: np.ndarray) -> Local:
        """Chain rule: J and along are derivatives in z and w, second is the diagonal of
        sum_x (dD/dx) d2x/dz2."""
        curvature = J.T @ value.curvature @ J
        curvature[np.diag_indices_from(curvature)] += second
        pushed = value.curvature @ along
        return Local(
            value.f,
            J.T @ value.slope,
            curvature,
            float(along @ value.slope),
            J.T @ pushed,
            float(along @ pushed),
        )


class Effect(Held):
    """A fixed effect: w = b_j, z = theta."""

    def __init__(self, criterion: Criterion, base: Fit, j: int) -> None:
        super().__init__(criterion)
        self.j, self.best, self.z = j, float(base.estimates.beta[j]), base.theta

    def local(self, w: float, z: np.ndarray) -> Local:
        value, slope, curved = self.criterion.with_effect(z, self.j, w)
        return Local(value.f, value.slope, value.curvature, slope, np.zeros(len(z)), curved)

    def state(self, w: float, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        beta, inverse, r2 = self.criterion.estimates(z)
        d, c = w - beta[self.j], inverse[self.j, self.j]
        sigma = np.sqrt((r2 + d * d / c) / self.criterion.nu)
        return z, beta + inverse[:, self.j] * (d / c), float(sigma)


class Sigma(Held):
    """The residual standard deviation: w = log sigma, z = sigma theta."""

    def __init__(self, criterion: Criterion, base: Fit) -> None:
        super().__init__(criterion)
        self.best, self.z = float(np.log(base.sigma)), base.sigma * base.theta
        self.low = self.best + float(np.log(SMALLEST))

    def value(self, w: float) -> float:
        return 0.0 if w <= self.low else float(np.exp(w))

    def local(self, w: float, z: np.ndarray) -> Local:
        theta = z * np.exp(-w)
        value = self.criterion.with_sigma(theta, 2 * w)
        J = np.vstack([np.exp(-w) * np.eye(len(z)), np.zeros(len(z))])
        return self._mapped(value, J, np.append(-theta, 2.0), np.zeros(len(z)))

    def state(self, w: float, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        theta = z * np.exp(-w)
        return theta, self.criterion.estimates(theta)[0], float(np.exp(w))


class Deviation(Held):
    """A standard deviation that is sigma times the entry e of theta: z = theta, log sigma^2
    in the place of e."""

    low = 0.0

    def __init__(self, criterion: Criterion, theta: np.ndarray, sigma: float, e: int) -> None:
        super().__init__(criterion)
        self.e, self.best = e, sigma * float(abs(theta[e]))
        self.z = theta.copy()
        self.z[e] = 2 * np.log(sigma)
        self._below = _below(criterion, e)

    def free(self, w: float) -> np.ndarray:
        free = super().free(w)
        if w == 0:
            free[self._below] = False
        return free

    def entering(self, w: float, z: np.ndarray) -> np.ndarray:
        return _without_column(self.criterion, z, self.e) if w == 0 else z

    def _theta(self, w: float, z: np.ndarray) -> np.ndarray:
        theta = z.copy()
        with np.errstate(over="ignore"):
            theta[self.e] = w * np.exp(-z[self.e] / 2)
        if not np.isfinite(theta).all():
            raise FitError("the objective is not finite at this sigma")
        return theta

    def local(self, w: float, z: np.ndarray) -> Local:
        theta, e = self._theta(w, z), self.e
        value = self.criterion.with_sigma(theta, z[e])
        J = np.vstack([np.eye(len(z)), np.zeros(len(z))])
        J[e, e], J[-1, e] = -theta[e] / 2, 1.0
        along, second = np.zeros(len(z) + 1), np.zeros(len(z))
        along[e], second[e] = np.exp(-z[e] / 2), value.slope[e] * theta[e] / 4
        return self._mapped(value, J, along, second)

    def state(self, w: float, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        theta = self._theta(w, z)
        return theta, self.criterion.estimates(theta)[0], float(np.exp(z[self.e] / 2))


class Correlation(Held):
    """The correlation sin(w) of the first two columns of a term, whose entries (0, 0), (1, 0) and
    (1, 1) are a^2, b^2 sin(w) and b^2 cos(w): z has a and b in the places of (0, 0) and (1, 0).

    Squares keep both lengths from changing sign: the correlation would.
    """

    low, high = -np.pi / 2, np.pi / 2

    def __init__(self, criterion: Criterion, theta: np.ndarray, places: tuple[int, ...]) -> None:
        super().__init__(criterion)
        self.places = places
        first, across, own = places
        self.best = float(np.arctan2(theta[across], abs(theta[own])))
        self.z = theta.copy()
        self.z[first] = np.sqrt(abs(theta[first]))
        self.z[across] = np.sqrt(np.hypot(theta[across], theta[own]))
        self.z[own] = 0.0
        self._below = _below(criterion, own)

    def value(self, w: float) -> float:
        return float(np.sin(w))

    def free(self, w: float) -> np.ndarray:
        free = super().free(w)
        free[self.places[2]] = False
        if w in (self.low, self.high):
            free[self._below] = False
        return free

    def entering(self, w: float, z: np.ndarray) -> np.ndarray:
        if w not in (self.low, self.high):
            return z
        return _without_column(self.criterion, z, self.places[2])

    def _theta(self, w: float, z: np.ndarray) -> np.ndarray:
        first, across, own = self.places
        theta = z.copy()
        theta[first] = z[first] ** 2
        theta[across], theta[own] = z[across] ** 2 * np.sin(w), z[across] ** 2 * self._cosine(w)
        return theta

    def _cosine(self, w: float) -> float:
        return 0.0 if w in (self.low, self.high) else float(np.cos(w))

    def local(self, w: float, z: np.ndarray) -> Local:
        first, across, own = self.places
        value = self.criterion.profiled(self._theta(w, z))
        sine, cosine = np.sin(w), self._cosine(w)
        J, second, along = np.eye(len(z)), np.zeros(len(z)), np.zeros(len(z))
        J[own, own] = 0.0
        J[first, first] = 2 * z[first]
        J[across, across], J[own, across] = 2 * z[across] * sine, 2 * z[across] * cosine
        second[first] = 2 * value.slope[first]
        second[across] = 2 * (sine * value.slope[across] + cosine * value.slope[own])
        along[across], along[own] = z[across] ** 2 * cosine, -(z[across] ** 2) * sine
        return self._mapped(value, J, along, second)

    def state(self, w: float, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        theta = self._theta(w, z)
        beta, _, r2 = self.criterion.estimates(theta)
        return theta, beta, float(np.sqrt(r2 / self.criterion.nu))


def _below(criterion: Criterion, e: int) -> np.ndarray:
    """Entries of theta in the column of e, e excluded."""
    same = (criterion.term == criterion.term[e]) & (criterion.column == criterion.column[e])
    same[e] = False
    return np.asarray(same, dtype=bool)


def _without_column(criterion: Criterion, z: np.ndarray, e: int) -> np.ndarray:
    """z with the column below the diagonal entry e zero and the rows' covariance as it was."""
    term, first = criterion.term[e], int(criterion.column[e])
    inside = (criterion.term == term) & (criterion.column >= first) & (criterion.row > first)
    row, column = criterion.row[inside] - first - 1, criterion.column[inside] - first
    if not len(row) or not (column == 0).any():
        return z
    rows = np.zeros((row.max() + 1, column.max() + 1))
    rows[row, column] = z[inside]
    own, out = lower_root(rows), z.copy()
    out[inside] = np.where(column > 0, own[row, column - 1], 0.0)
    return out


def lower_root(rows: np.ndarray) -> np.ndarray:
    """Lower triangular L, k x k, with L L' = rows rows'; zero columns where a row depends on those
    before it."""
    k = len(rows)
    L, axes = np.zeros((k, k)), np.zeros((k, rows.shape[1]))
    for i, row in enumerate(rows):
        rest = row.copy()
        for _ in range(2):
            part = axes @ rest
            L[i] += part
            rest = rest - part @ axes
        length = float(np.linalg.norm(rest))
        if length > 1e-8 * np.linalg.norm(row):
            L[i, i], axes[i] = length, rest / length
    return L
