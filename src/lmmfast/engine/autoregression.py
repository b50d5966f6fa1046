"""rho of a conditional autoregression, estimated with all other parameters.

For rho given, f(rho) = min over theta of the criterion is found by an ordinary fit; its derivative
is that of the criterion alone (envelope theorem). With K^-1 = Q, Q' = dQ/drho, B the covariances of
the effects given y, Sigma = T T' of rank k over sigma^2, g = Z'P y, c = K g T and C_a the same of
the a-th column of X in a basis orthonormal in V^-1,

    df/drho = sum_ij Q'_ij [ tr(B_ij Sigma^+) + (nu / r^2) c_i'c_j + [REML] sum_a C_ai'C_aj ]
              - k tr(K Q'),     tr(K Q') = (q - sum_i K_ii Q_ii(0)) / rho.

Second derivatives are differences of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FitError
from .estimates import Rho
from .options import Options, Watch
from .relations import diagonal, times_relation

if TYPE_CHECKING:
    from ..data.design import Design
    from ..data.relationship import Relation
    from .estimates import Estimates
    from .model import Model

EDGE = 1e-5  # how near to its bounds rho may come
FIRST = (-0.9, -0.5, 0.0, 0.3, 0.6, 0.85, 0.97)  # where minima are looked for
RHO = 1e-9  # how well rho is found
STEP = 1e-4  # of differences, relative to the distance from the bound
FLAT = 1e-12  # variance of a direction, relative, that counts as zero


@dataclass
class RhoProfile:
    """The criterion at the best of all other parameters, as a function of rho."""

    make: Callable[[Design], Model]
    design: Design
    term: int
    options: Options
    theta: np.ndarray | None = None
    evals: int = 0
    known: dict[float, tuple[Estimates, Model]] = field(default_factory=dict)

    @property
    def relation(self) -> Relation:
        """Of the term."""
        found = self.design.terms[self.term].relation
        assert found is not None and found.autoregression is not None
        return found

    @property
    def bounds(self) -> tuple[float, float]:
        """Where rho may be."""
        assert self.relation.autoregression is not None
        lowest = -1.0 if self.relation.autoregression.kind == "car" else 0.0
        return lowest + (EDGE if lowest else 0.0), 1 - EDGE

    def fit(self, rho: float) -> tuple[Estimates, Model]:
        """The fit at a rho, and its model."""
        if rho not in self.known:
            model = self.make(with_rho(self.design, self.term, rho))
            asked = self.options
            # a new start is not worth its time where a neighbour's optimum is known
            start = asked.start if self.theta is None else self.theta
            own = replace(asked, start=start, starts=asked.starts if self.theta is None else 0)
            estimates = model.minimize(own)
            self.theta = estimates.theta
            self.evals += estimates.n_evals
            self.known[rho] = estimates, model
        return self.known[rho]

    def value(self, rho: float) -> float:
        """f(rho)."""
        return float(self.fit(rho)[0].objective)

    def slope(self, rho: float) -> float:
        """Its derivative, exact at the minimum in theta."""
        estimates, model = self.fit(rho)
        return slope(model, estimates, self.term, rho)


def moving_term(design: Design) -> int | None:
    """The term whose rho is estimated; None: there is none. FitError where there are several."""
    found = [
        i
        for i, term in enumerate(design.terms)
        if term.relation is not None and term.relation.autoregression is not None
    ]
    if len(found) > 1:
        groups = list(dict.fromkeys(design.terms[i].group for i in found))
        raise FitError(
            f"rho is estimated of one random term; here it would be of {len(found)}, of "
            f"{' and '.join(map(repr, groups))}: give a number for all but one",
            variable=groups[0],
        )
    return found[0] if found else None


def with_rho(design: Design, i: int, rho: float) -> Design:
    """The same design with another rho."""
    term = design.terms[i]
    assert term.relation is not None
    terms = list(design.terms)
    terms[i] = replace(term, relation=term.relation.at(rho))
    return replace(design, terms=tuple(terms))


def slope(model: Model, estimates: Estimates, i: int, rho: float) -> float:
    """df/drho at given theta."""
    point = model.point(estimates.theta, reml=estimates.reml)
    term, T = model.design.terms[i], estimates.T[i]
    relation = term.relation
    assert relation is not None and relation.autoregression is not None
    own = relation.autoregression
    slope: Any = own.slope
    change = slope.tocoo()
    lower = change.row >= change.col
    la, lc = change.row[lower], change.col[lower]
    weight = change.data[lower] * np.where(la == lc, 1.0, 2.0)
    values, U = np.linalg.eigh(T @ T.T)
    varies = values > FLAT * max(float(values[-1]), 0.0)
    rank = int(varies.sum())
    if not rank:
        return 0.0  # without variance there is nothing that rho is of
    inverse = (U[:, varies] / values[varies]) @ U[:, varies].T
    B = point.covariances(i, i, (la, lc))
    total = float(weight @ np.einsum("nij,ji->n", B, inverse))
    q = len(relation.levels)
    if abs(rho) > 1e-6:
        trace = (q - float(diagonal(relation, q) @ own.base)) / rho
    else:
        trace = float((change.tocsr().diagonal() / own.base).sum())
    total -= rank * trace
    g = times_relation(term, point.projection[1][i]) @ T
    total += float(weight @ (g[la] * g[lc]).sum(axis=1)) / estimates.sigma**2
    if estimates.reml:
        C = np.einsum("mjr,jk->mkr", times_relation(term, point.basis.projected[i]), T)
        total += float(weight @ (C[la] * C[lc]).sum(axis=(1, 2)))
    return total


def minimum(profile: RhoProfile) -> tuple[Estimates, Model, Rho]:
    """The fit at the best rho, and what is known of rho."""
    low, high = profile.bounds
    places = np.array([low, *(rho for rho in FIRST if low < rho < high), high])
    values = np.array([profile.value(rho) for rho in places[1:-1]])
    rho, at_bound = _root(profile, [float(place) for place in places], int(values.argmin()) + 1)
    estimates, model = profile.fit(rho)
    se = np.nan if at_bound else _error(profile, rho)
    found = Rho(profile.term, rho, se, at_bound)
    return replace(estimates, n_evals=profile.evals, rho=found), model, found


def _root(profile: RhoProfile, places: list[float], best: int) -> tuple[float, bool]:
    """Where the slope is zero beside the best of some places, or the bound that it falls to."""
    from scipy.optimize import brentq

    here = profile.slope(places[best])
    ahead = places[best + 1 :] if here < 0 else places[best - 1 :: -1]
    one = places[best]
    for other in ahead if here != 0 else ():
        if profile.slope(other) * here < 0:
            return float(brentq(profile.slope, *sorted((one, other)), xtol=RHO)), False
        one = other
    return one, here != 0


def _error(profile: RhoProfile, rho: float) -> float:
    """Standard error: f'' is twice the information."""
    low, high = profile.bounds
    step = STEP * min(rho - low if low else 1.0, high - rho, 1.0)
    step = min(step, rho / 2) if low == 0 and rho > 0 else step
    second = (profile.slope(rho + step) - profile.slope(rho - step)) / (2 * step)
    return float(np.sqrt(2 / second)) if second > 0 else np.nan


def interval(profile: RhoProfile, rho: float, height: float) -> tuple[float, float]:
    """Where the criterion is so much above that at rho; NaN where it is nowhere."""
    from scipy.optimize import brentq

    target = profile.value(rho) + height

    def above(place: float) -> float:
        return profile.value(place) - target

    ends = [
        brentq(above, *sorted((rho, bound)), xtol=1e-6) if above(bound) > 0 else np.nan
        for bound in profile.bounds
    ]
    return float(ends[0]), float(ends[1])


def quiet(reml: bool, theta: np.ndarray) -> Options:
    """Options of fits that nobody watches."""
    made = Options(reml, theta)
    made.watch = Watch()
    return made


def profile_of(model: Any, i: int, options: Options) -> RhoProfile:
    """The profile of the models like this one."""
    return RhoProfile(model.with_design, model.design, i, options)
