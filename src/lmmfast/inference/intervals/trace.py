"""The walk along one profile: points outwards from the estimate, and ends of intervals.

A parameter is held at a value w and the criterion D is minimized over all others; the profile is
zeta(w) = sign(w - estimate) sqrt(D(w) - D(estimate)). Gradients are exact, and so is dD/dw, which
at the minimum is the partial derivative. The curvature is the average information, corrected by
what the steps show (symmetric rank one). The others are guessed by a cubic through the nearest
points, the next point is aimed by slope and bend of zeta, and ends are roots of zeta found by
Newton's method: most points take one or two evaluations.

References
----------
Venzon & Moolgavkar (1988), *Appl. Stat.* 37 (ends of intervals by Newton's method).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import FitError
from ...linalg import rank_one, trust_step
from .held import Held, Local

SPACING = 0.66  # of the points of a profile, in zeta, at most
NEAR = 0.05  # zeta from a target at which a point is good to find the end from
MAX_POINTS = 60  # a side
MAX_EVALS = 200  # a point
BAD = 10.0  # rise of the criterion from one point to a guess of the next that is too much
TOLERANCE = 1e-8  # predicted decrease at which the last step is not evaluated, deviance units
LONG = 1e3  # squared length over predicted decrease of a step along no curvature: leads nowhere
PRECISION = 1e-8  # of zeta at the ends of intervals
NODES = 4  # points that a guess goes through


@dataclass(frozen=True, eq=False)
class TracePoint:
    """One point of a profile."""

    w: float
    zeta: float
    slope: float  # d zeta / d w; NaN at the estimate
    f: float
    z: np.ndarray


# ---- minimization over the others ----------------------------------------------------------------


def _minimize(
    held: Held, w: float, z: np.ndarray, here: Local, learnt: np.ndarray
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Newton's method over the others in a trust region; ``here`` is the criterion at z.

    The criterion at its minimum, its slope in w, z, and what was learnt about the curvature.

    The curvature is the average information plus a matrix that is corrected by the rank-one formula
    after every step, so that the convergence is superlinear. The last step, which promises less
    than can be seen, is taken without an evaluation.
    """
    free = np.flatnonzero(held.free(w))
    both = slice(None) if len(free) == len(z) else np.ix_(free, free)
    radius = 1.0
    for _ in range(MAX_EVALS):
        curvature = here.curvature[both]
        size = np.abs(curvature.diagonal())
        unit = 1 / np.sqrt(np.maximum(size, max(1e-12 * size.max(initial=0.0), 1e-300)))
        model = unit[:, None] * (curvature + learnt[both]) * unit
        scaled, gain = trust_step(unit * here.slope[free], model, radius)
        step = np.zeros(len(z))
        step[free] = unit * scaled
        length = float(scaled @ scaled)
        if gain <= max(TOLERANCE, 1e-14 * abs(here.f)):
            if length > LONG * gain:
                break
            slope = here.slope_held + float(here.mixed @ step)
            return here.f - gain, slope, z + step, learnt
        trial = _try(held, w, z + step)
        decrease = here.f - trial.f if trial is not None else -np.inf
        if trial is not None:
            learnt = _learn(learnt, here, trial, step, free, unit)
        if decrease > 0.75 * gain:
            radius = max(radius, 2 * length**0.5)
        elif decrease < 0.25 * gain:
            radius = length**0.5 / 4
        if trial is not None and decrease > 0:
            z, here = z + step, trial
        elif gain < 1e-12 * max(abs(here.f), 1.0):  # the rest is rounding
            break
    return here.f, here.slope_held, z, learnt


def _try(held: Held, w: float, z: np.ndarray) -> Local | None:
    try:
        return held.local(w, z)
    except FitError:
        return None


def _learn(
    learnt: np.ndarray,
    here: Local,
    there: Local,
    step: np.ndarray,
    free: np.ndarray,
    unit: np.ndarray,
) -> np.ndarray:
    """The symmetric rank-one correction that explains the change of the slope along a step."""
    change = there.slope - here.slope - (here.curvature + there.curvature) @ step / 2
    both = np.ix_(free, free)
    out = learnt.copy()
    out[both] = rank_one(learnt[both], change[free], step[free], unit)
    return out


# ---- the walk ------------------------------------------------------------------------------------


class Trace:
    """The profile of one parameter, followed as far as it was asked for.

    ``sides[-1]`` and ``sides[1]`` are its points below and above the estimate, outwards; both
    begin with the estimate. ``lowest`` is the lowest criterion met.
    """

    def __init__(self, held: Held, minimum: float) -> None:
        self.held, self.minimum = held, minimum
        start = TracePoint(held.best, 0.0, np.nan, minimum, held.z)
        self.sides = {-1: [start], 1: [start]}
        self.ends: dict[tuple[int, float], TracePoint | None] = {}
        self.learnt: dict[int, np.ndarray] = {}
        self.tangent, self.rate = _first_step(held)

    @property
    def lowest(self) -> float:
        """The lowest criterion met."""
        return min(point.f for side in self.sides.values() for point in side)

    @property
    def points(self) -> list[TracePoint]:
        """All points and ends in the order of the parameter."""
        found = [*self.sides[-1], *self.sides[1], *(p for p in self.ends.values() if p)]
        points = {p.w: p for p in found}
        return [points[w] for w in sorted(points)]

    def limit(self, sign: int) -> float:
        """The parameter's bound on a side."""
        return self.held.high if sign > 0 else self.held.low

    def end(self, sign: int, target: float) -> TracePoint | None:
        """The first point on a side where |zeta| is the target; None where it never gets there."""
        key = (sign, target)
        if key not in self.ends:
            self._follow(sign, target)
            self.ends[key] = self._refine(sign, target)
        return self.ends[key]

    # ---- outwards -------------------------------------------------------------------------------

    def _follow(self, sign: int, target: float) -> None:
        """Extends a side until |zeta| is near the target or the parameter at its bound."""
        side, limit = self.sides[sign], self.limit(sign)
        while abs(side[-1].zeta) < target - NEAR and side[-1].w != limit and len(side) < MAX_POINTS:
            w = side[-1].w + sign * self._stride(side, target)
            w = limit if (limit - w) * sign <= 0.25 * abs(w - side[-1].w) else w
            point = self._solve(sign, w, side[-1], self._known(sign))
            if point is None:
                return
            side.append(point)

    def _stride(self, side: list[TracePoint], target: float) -> float:
        """How far to go for the next point: equal rises of zeta end at the target."""
        left = target - abs(side[-1].zeta)
        rise = left / max(np.ceil(left / SPACING), 1.0)
        if len(side) == 1:
            return float(min(rise * self.rate, (self.held.high - self.held.low) / 4))
        last = abs(side[-1].w - side[-2].w)
        slope = abs(side[-1].slope)
        if not slope > 0:
            return 3 * last
        bend = (slope - abs(side[-2].slope)) / last if len(side) > 2 else 0.0
        root = slope * slope + 2 * bend * rise
        far = 2 * rise / (slope + root**0.5) if root > 0 else rise / slope
        return float(min(far, 2 * rise / slope, 3 * last))

    def _known(self, sign: int) -> list[TracePoint]:
        """Points that a guess may go through: those of this side, those of the other beyond."""
        inside = [p for p in self.sides[-sign][1:] if p.w != self.limit(-sign)]
        return [*inside[::-1], *(p for p in self.sides[sign] if p.w != self.limit(sign))]

    def _guess(self, known: list[TracePoint], w: float) -> np.ndarray:
        """The others at w: the polynomial through the nearest points, with the tangent at the
        estimate as long as that is all there is."""
        nearest = sorted(known, key=lambda p: abs(p.w - w))[:NODES]
        if len(nearest) == 1:
            return nearest[0].z + self.tangent * (w - nearest[0].w)
        out = np.zeros_like(nearest[0].z)
        for point in nearest:
            weight = 1.0
            for other in nearest:
                if other is not point:
                    weight *= (w - other.w) / (point.w - other.w)
            out += weight * point.z
        return out

    def _solve(
        self, sign: int, w: float, near: TracePoint, known: list[TracePoint]
    ) -> TracePoint | None:
        """The point at w, from a guess or, where that is bad, from a near point."""
        held = self.held
        z = held.entering(w, self._guess(known, w))
        here = _try(held, w, z)
        if here is None or here.f > near.f + BAD:
            there = _try(held, w, other := held.entering(w, near.z))
            if there is not None and (here is None or there.f < here.f):
                z, here = other, there
        if here is None:
            return None
        nothing = self.learnt.get(-sign, np.zeros((len(z), len(z))))
        f, slope, z, learnt = _minimize(held, w, z, here, self.learnt.get(sign, nothing))
        self.learnt[sign] = learnt
        zeta = float(sign * np.sqrt(max(f - self.minimum, 0.0)))
        return TracePoint(w, zeta, slope / (2 * zeta) if zeta != 0 else np.nan, f, z)

    # ---- ends -----------------------------------------------------------------------------------

    def _refine(self, sign: int, target: float) -> TracePoint | None:
        """Newton's method for |zeta| = target from the first point near it; bisection where it
        fails."""
        side, limit = self.sides[sign], self.limit(sign)
        at = next((i for i, p in enumerate(side) if abs(p.zeta) >= target - NEAR), None)
        if at is None:
            return None
        here, before = side[at], side[at - 1]
        known = self._known(sign)
        inner, outer = (here, None) if abs(here.zeta) < target else (before, here)
        for _ in range(60):
            if abs(abs(here.zeta) - target) <= max(PRECISION, 1e-13 * abs(here.f)):
                break
            w, beyond = _aim(here, before, sign * target), limit if outer is None else outer.w
            if (w - inner.w) * sign > 0 and (beyond - w) * sign > 0:
                last = _last_step(here, before, w, sign * target)
                if last is not None:
                    return last
            elif outer is not None:
                w = (inner.w + outer.w) / 2
            elif np.isfinite(limit) and here.w != limit:
                w = limit
            else:
                return None
            if w in (inner.w, beyond) and w != limit:
                break
            found = self._solve(sign, w, inner, known)
            if found is None:
                break
            known = [*known, found]
            before, here = here, found
            inner, outer = (inner, here) if abs(here.zeta) >= target else (here, outer)
        return here


def _aim(here: TracePoint, before: TracePoint, target: float) -> float:
    """Where zeta is the target, by its slope and the change of that since another point."""
    if not here.slope:
        return np.nan
    first = (target - here.zeta) / here.slope
    bend = _bend(here, before)
    return here.w + first * (1 - bend * first / (2 * here.slope))


def _bend(here: TracePoint, before: TracePoint) -> float:
    """d2 zeta / d w2 between two points."""
    bend = (here.slope - before.slope) / (here.w - before.w)
    return bend if np.isfinite(bend) else 0.0


def _last_step(here: TracePoint, before: TracePoint, w: float, target: float) -> TracePoint | None:
    """The end at w without an evaluation, where what the bend adds is not to be seen."""
    move = w - here.w
    if not np.isfinite(before.slope) or abs(_bend(here, before)) * move * move > 4 * PRECISION:
        return None
    z = here.z + (here.z - before.z) * (move / (here.w - before.w))
    slope = here.slope + _bend(here, before) * move
    return TracePoint(w, target, slope, here.f - here.zeta**2 + target**2, z)


def _first_step(held: Held) -> tuple[np.ndarray, float]:
    """How the others move with w at the estimate, and dw / d zeta there.

    From the curvature of the profile, h_ww - h_wz H^-1 h_zw.
    """
    local, free = held.local(held.best, held.z), held.free(held.best)
    tangent = np.zeros(len(held.z))
    H = local.curvature[np.ix_(free, free)]
    unit = 1 / np.sqrt(np.maximum(np.abs(np.diag(H)), 1e-300))
    inverse = np.linalg.pinv(unit[:, None] * H * unit, rcond=1e-10, hermitian=True)
    tangent[free] = -unit * (inverse @ (unit * local.mixed[free]))
    curvature = local.curvature_held + float(local.mixed @ tangent)
    if curvature <= 1e-6 * local.curvature_held or not np.isfinite(curvature):
        curvature = max(local.curvature_held, 1e-300)
    rate = 1 / np.sqrt(curvature / 2)
    return tangent, float(rate) if np.isfinite(rate) else 0.15
