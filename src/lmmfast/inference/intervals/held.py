"""Each parameter as a coordinate: the criterion where it is held, with exact derivatives.

- A fixed effect and sigma: see `criterion`.
- A standard deviation: that of a term's first column is sigma T[0, 0], and the columns of a term
  may stand in any order.
- A correlation: with its two columns in front, T[0, 0] = a^2 and T[1, :2] = b^2 (r, sqrt(1 - r^2)).

Where parameters are held or tied, coordinates take the place of theta throughout.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...engine.criterion import Criterion
from ...errors import FitError

if TYPE_CHECKING:
    from ...fit import Fit


SMALLEST = 1e-4  # sigma, relative to its estimate, down to which its profile is followed


class Local(NamedTuple):
    """The criterion at one point z of the others and one position w of the held parameter."""

    f: float
    slope: np.ndarray  # in z
    curvature: np.ndarray
    slope_held: float  # in w
    mixed: np.ndarray  # second derivatives in z and w, those of the map to theta left out
    curvature_held: float


class Held(ABC):
    """One parameter as a coordinate w: how theta and sigma follow from w and the others, z.

    ``best`` and ``z`` are the estimate's; w stays between ``low`` and ``high``.
    """

    best: float
    z: np.ndarray
    low = -np.inf
    high = np.inf
    zero_at: tuple[float, ...] = ()  # w where the column of T of a diagonal entry is zero ...
    place: int  # ... and this entry
    below: list[int]  # coordinates of the entries below it

    def __init__(self, criterion: Criterion) -> None:
        self.criterion = criterion

    def value(self, w: float) -> float:
        """The parameter in its own units."""
        return w

    def free(self, w: float) -> np.ndarray:
        """Which of the others are varied."""
        free = np.ones(len(self.z), dtype=bool)
        if w in self.zero_at:
            free[self.below] = False
        return free

    def entering(self, w: float, z: np.ndarray) -> np.ndarray:
        """z with the entries that are not free at w at rest."""
        return _without_column(self.criterion, z, self.place) if w in self.zero_at else z

    @abstractmethod
    def local(self, w: float, z: np.ndarray) -> Local:
        """The criterion and its derivatives there; FitError when it is not finite."""

    @abstractmethod
    def state(self, w: float, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """theta, beta and sigma there."""


class Effect(Held):
    """A fixed effect: w = b_j, z = theta."""

    def __init__(self, criterion: Criterion, base: Fit, j: int) -> None:
        super().__init__(criterion)
        self.j, self.best = j, float(base.estimates.beta[j])
        self.z = criterion.coordinates(base.theta)

    def local(self, w: float, z: np.ndarray) -> Local:
        value, slope, curved = self.criterion.with_effect(z, self.j, w)
        return Local(*value, slope, np.zeros(len(z)), curved)

    def state(self, w: float, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        beta, column, r2 = self.criterion.estimates(z, self.j)
        d, c = w - beta[self.j], column[self.j]
        sigma = np.sqrt((r2 + d * d / c) / self.criterion.nu)
        return z, beta + column * (d / c), float(sigma)


class Sigma(Held):
    """The residual standard deviation: w = log sigma, z = sigma theta."""

    def __init__(self, criterion: Criterion, base: Fit) -> None:
        super().__init__(criterion)
        self.best = float(np.log(base.sigma))
        self.z = base.sigma * criterion.coordinates(base.theta)
        self.low = self.best + float(np.log(SMALLEST))

    def value(self, w: float) -> float:
        return 0.0 if w <= self.low else float(np.exp(w))

    def local(self, w: float, z: np.ndarray) -> Local:
        over = float(np.exp(-w))
        theta = z * over
        at = self.criterion.with_sigma(theta, 2 * w)
        pushed = at.curvature @ theta
        return Local(
            at.f,
            over * at.slope,
            over * over * at.curvature,
            2 * at.slope_sigma - float(theta @ at.slope),
            over * (2 * at.mixed - pushed),
            float(theta @ pushed - 4 * (theta @ at.mixed)) + 4 * at.curvature_sigma,
        )

    def state(self, w: float, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        theta = z * np.exp(-w)
        return theta, self.criterion.estimates(theta)[0], float(np.exp(w))


class Deviation(Held):
    """A standard deviation that is sigma times the entry e of theta: z = theta, log sigma^2
    in place of e."""

    low = 0.0
    zero_at = (0.0,)

    def __init__(self, criterion: Criterion, theta: np.ndarray, sigma: float, place: int) -> None:
        super().__init__(criterion)
        e = _coordinate(criterion, place)
        self.z = criterion.coordinates(theta).copy()
        self.e, self.best = e, sigma * float(abs(self.z[e]))
        self.z[e] = 2 * np.log(sigma)
        self.place, self.below = place, entries_below(criterion, place)

    def _theta(self, w: float, z: np.ndarray) -> np.ndarray:
        theta = z.copy()
        if not abs(z[self.e]) < 700:
            raise FitError("the objective is not finite at this sigma")
        theta[self.e] = w * np.exp(-z[self.e] / 2)
        return theta

    def local(self, w: float, z: np.ndarray) -> Local:
        theta, e = self._theta(w, z), self.e
        at = self.criterion.with_sigma(theta, z[e])
        half, over = -theta[e] / 2, float(np.exp(-z[e] / 2))  # d theta_e / d z_e and / d w
        slope, curvature = at.slope.copy(), at.curvature.copy()
        slope[e] = half * at.slope[e] + at.slope_sigma
        curvature[e] = curvature[:, e] = half * at.curvature[e] + at.mixed
        own = half * (half * at.curvature[e, e] + 2 * at.mixed[e]) + at.curvature_sigma
        curvature[e, e] = own + at.slope[e] * theta[e] / 4
        mixed = over * at.curvature[e]
        mixed[e] = over * (half * at.curvature[e, e] + at.mixed[e])
        second = over * over * float(at.curvature[e, e])
        return Local(at.f, slope, curvature, over * float(at.slope[e]), mixed, second)

    def state(self, w: float, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        theta = self._theta(w, z)
        return theta, self.criterion.estimates(theta)[0], float(np.exp(z[self.e] / 2))


class DeviationOfPhi(Deviation):
    """A standard deviation of a covariance structure, sigma times the parameter e of phi."""

    def __init__(self, criterion: Criterion, phi: np.ndarray, sigma: float, e: int) -> None:
        Held.__init__(self, criterion)
        self.e, self.best = e, sigma * float(abs(phi[e]))
        self.z = phi.copy()
        self.z[e] = 2 * np.log(sigma)
        self.place, self.below = e, []

    def entering(self, w: float, z: np.ndarray) -> np.ndarray:
        return z


class ParameterOfPhi(Held):
    """Another parameter of a covariance structure, a function of w = phi_e alone."""

    def __init__(
        self,
        criterion: Criterion,
        phi: np.ndarray,
        e: int,
        natural: Callable[[float], float],
        bounds: tuple[float, float],
    ) -> None:
        super().__init__(criterion)
        self.e, self.best, self._natural = e, float(phi[e]), natural
        self.low, self.high = bounds
        self.z = phi.copy()
        self.z[e] = 0.0

    def value(self, w: float) -> float:
        return self._natural(w)

    def free(self, w: float) -> np.ndarray:
        free = np.ones(len(self.z), dtype=bool)
        free[self.e] = False
        return free

    def entering(self, w: float, z: np.ndarray) -> np.ndarray:
        return z

    def _phi(self, w: float, z: np.ndarray) -> np.ndarray:
        phi = z.copy()
        phi[self.e] = w
        return phi

    def local(self, w: float, z: np.ndarray) -> Local:
        at, e = self.criterion.profiled(self._phi(w, z)), self.e
        slope, curvature, mixed = at.slope.copy(), at.curvature.copy(), at.curvature[e].copy()
        slope[e] = mixed[e] = 0.0
        curvature[e] = curvature[:, e] = 0.0
        return Local(at.f, slope, curvature, float(at.slope[e]), mixed, float(at.curvature[e, e]))

    def state(self, w: float, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        phi = self._phi(w, z)
        beta, _, r2 = self.criterion.estimates(phi)
        return phi, beta, float(np.sqrt(r2 / self.criterion.nu))


class Correlation(Held):
    """The correlation sin(w) of the first two columns of a term, whose entries (0, 0), (1, 0) and
    (1, 1) are a^2, b^2 sin(w) and b^2 cos(w): z has a and b in the places of (0, 0) and (1, 0).

    Squares keep both lengths from changing sign: the correlation would.
    """

    zero_at = low, high = -np.pi / 2, np.pi / 2

    def __init__(self, criterion: Criterion, theta: np.ndarray, places: tuple[int, ...]) -> None:
        super().__init__(criterion)
        self.places = first, across, own = tuple(_coordinate(criterion, at) for at in places)
        theta = criterion.coordinates(theta)
        self.best = float(np.arctan2(theta[across], abs(theta[own])))
        self.z = theta.copy()
        self.z[first] = np.sqrt(abs(theta[first]))
        self.z[across] = np.sqrt(np.hypot(theta[across], theta[own]))
        self.z[own] = 0.0
        self.place, self.below = places[2], entries_below(criterion, places[2])

    def value(self, w: float) -> float:
        return float(np.sin(w))

    def free(self, w: float) -> np.ndarray:
        free = super().free(w)
        free[self.places[2]] = False
        return free

    def _theta(self, w: float, z: np.ndarray) -> np.ndarray:
        first, across, own = self.places
        theta = z.copy()
        theta[first] = z[first] ** 2
        theta[across], theta[own] = z[across] ** 2 * np.sin(w), z[across] ** 2 * self._cosine(w)
        return theta

    def _cosine(self, w: float) -> float:
        return 0.0 if w in self.zero_at else float(np.cos(w))

    def local(self, w: float, z: np.ndarray) -> Local:
        first, across, own = self.places
        value = self.criterion.profiled(self._theta(w, z))
        sine, cosine = float(np.sin(w)), self._cosine(w)
        J, second, along = np.eye(len(z)), np.zeros(len(z)), np.zeros(len(z))
        J[own, own] = 0.0
        J[first, first] = 2 * z[first]
        J[across, across], J[own, across] = 2 * z[across] * sine, 2 * z[across] * cosine
        second[first] = 2 * value.slope[first]
        second[across] = 2 * (sine * value.slope[across] + cosine * value.slope[own])
        along[across], along[own] = z[across] ** 2 * cosine, -(z[across] ** 2) * sine
        curvature, pushed = J.T @ value.curvature @ J, value.curvature @ along
        curvature.ravel()[:: len(z) + 1] += second
        held = float(along @ value.slope), J.T @ pushed, float(along @ pushed)
        return Local(value.f, J.T @ value.slope, curvature, *held)

    def state(self, w: float, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        theta = self._theta(w, z)
        beta, _, r2 = self.criterion.estimates(theta)
        return theta, beta, float(np.sqrt(r2 / self.criterion.nu))


def _coordinate(criterion: Criterion, place: int) -> int:
    """The coordinate that is an entry of theta."""
    e = criterion.coordinate(place)
    if e is None:
        raise FitError("a parameter that is held, or mixed with others, has no profile")
    return e


def entries_below(criterion: Criterion, place: int) -> list[int]:
    """Coordinates of the entries in the column of T of one on its diagonal, that excluded."""
    t, _, column = criterion.entries[place]
    inside = [
        k for k, (i, r, c) in enumerate(criterion.entries) if (i, c) == (t, column) and r != column
    ]
    return [_coordinate(criterion, k) for k in inside]


def _without_column(criterion: Criterion, z: np.ndarray, place: int) -> np.ndarray:
    """z with the column below a diagonal entry zero and the rows' covariance as it was."""
    term, _, first = criterion.entries[place]
    inside = [
        (_coordinate(criterion, k), r - first - 1, c - first)
        for k, (t, r, c) in enumerate(criterion.entries)
        if t == term and c >= first and r > first
    ]
    if not any(c == 0 for _, _, c in inside):
        return z
    places, row, column = np.array(inside).T
    rows = np.zeros((row.max() + 1, column.max() + 1))
    rows[row, column] = z[places]
    own, out = lower_root(rows), z.copy()
    out[places] = np.where(column > 0, own[row, column - 1], 0.0)
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
