"""A generalized model with covariance structures in what its fit moves: xi = (phi, beta, x), phi
the structures' parameters in place of theta.

With J = dpsi/dxi, the criterion's slope in xi is J'g and its second derivatives are

    J'HJ + sum_k g_k d2theta_k / dphi dphi'.

Of T, the lower triangular root of a term's Sigma(phi), and G, the slope in its entries (lower),

    <G, d2T_ij> = tr(W d2Sigma_ij) - 2 tr(W dT_i dT_j'),   W = T^-T K T^-1,

K symmetric with the lower triangle of T'G halved: T T' = Sigma differentiated twice, and dT = T
low(T^-1 dSigma T^-T), low the lower triangle with half the diagonal.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _core
from .corrected import GAIN as CORRECTED
from .corrected import STEP as CORRECTION_STEP
from .corrected import Corrected, correction_of, differences
from .generalized_point import STEP, covariance_of, derivative
from .search import Search
from .starts import Starts
from .structured import TYPICAL

if TYPE_CHECKING:
    from .options import Watch
    from .search import Minimum
    from .structured import Structured

NEAR = 1e-9  # of theta, relative to its size, at which it is that of a phi
LINEAR = ("us", "rr")  # structures whose root has phi itself as entries
COUNTED = ("neval", "factorizations", "passes")  # over all starts
WIDE = 8  # entries of theta for each of xi from which differences are faster than formulas in theta
APART = 1e-6  # of two minima that are not one, deviance units
LARGEST = 1e-12  # least reciprocal of the condition of a root that is inverted


class Within:
    """psi as a function of xi, of one model.

    Parameters
    ----------
    model : GeneralizedModel
        Some of whose terms have a structure.

    Attributes
    ----------
    size : int
        Length of xi.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.size = self._own.nphi + model.size - model.ntheta

    @property
    def _own(self) -> Structured:
        own: Structured = self._model.structured
        return own

    def at(self, point: Any, phi: np.ndarray) -> XiPoint:
        """A `GeneralizedPoint` of the model in xi."""
        return XiPoint(point, phi)

    def xi(self, phi: np.ndarray, psi: np.ndarray) -> np.ndarray:
        """(size,) of a phi, with the other parameters of psi."""
        return np.concatenate([phi, psi[self._model.ntheta :]])

    def psi(self, xi: np.ndarray) -> np.ndarray:
        """psi there; rounding in what is zero by a structure is none."""
        own = self._own
        theta = own.rounded(own.theta(xi[: own.nphi]))
        return np.concatenate([theta, xi[own.nphi :]])

    def phi(self, theta: np.ndarray) -> np.ndarray | None:
        """The phi that has this theta; None where no covariance of the structures is so."""
        own = self._own
        found = own.principal(own.nearest(theta))
        off = np.abs(own.theta(found) - theta).max(initial=0.0)
        return found if off <= NEAR * max(np.abs(theta).max(initial=0.0), 1.0) else None

    def jacobian(self, xi: np.ndarray) -> np.ndarray:
        """dpsi / dxi."""
        own, n = self._own, self._model.ntheta
        J = np.zeros((self._model.size, self.size))
        J[:n, : own.nphi] = own.theta_jacobian(xi[: own.nphi])
        J[n:, own.nphi :] = np.eye(self._model.size - n)
        return J

    def free(self, xi: np.ndarray) -> np.ndarray:
        """(size,) bool: in which of xi the criterion moves freely (`GeneralizedModel.free`)."""
        own = self._own
        rest = self._model.free(self.psi(xi))[self._model.ntheta :]
        return np.concatenate([own.moving(xi[: own.nphi]), rest])

    def held_by_bound(self, phi: np.ndarray) -> np.ndarray:
        """(nphi,) bool: standard deviations of their own that are zero, and may not be less."""
        own, out = self._own, np.zeros(len(phi), bool)
        for i, part in enumerate(own.slices):
            bounded = 0 if own.own(i) is None else own.own(i).nbound
            out[part.start : part.start + bounded] = phi[part][:bounded] <= 0
        return out

    def units(self, xi: np.ndarray, eta: np.ndarray) -> np.ndarray:
        """As `GeneralizedModel.units`, of xi."""
        own, whole = self._own, self._model.units(self.psi(xi), eta)
        out = np.concatenate([np.ones(own.nphi), whole[self._model.ntheta :]])
        for i, part in enumerate(own.slices):
            term = self._model.design.terms[i]
            out[part] = 1 / np.sqrt(len(term.levels))
            one = own.own(i)
            if one is None:
                out[part] = whole[self._model._engine.place(i).theta]
                continue
            size = np.linalg.norm(own.root(i, xi[: own.nphi]), axis=1)
            for j, (kind, row) in enumerate(zip(one.kinds, one.rows, strict=True)):
                if kind == "deviation":
                    out[part.start + j] *= size[row] or 1.0
        return out

    def bend(self, xi: np.ndarray, slope: np.ndarray) -> np.ndarray | None:
        """sum_k g_k d2theta_k / dphi dphi' of a slope (size of psi,) in psi, (nphi, nphi); None
        where the root of a covariance has no inverse."""
        own = self._own
        phi, out = xi[: own.nphi], np.zeros((own.nphi, own.nphi))
        for i, part in enumerate(own.slices):
            one = own.own(i)
            if one is None or one.name in LINEAR:
                continue
            T = own.root(i, phi)
            pivots = np.abs(T.diagonal())
            if not pivots.min() > LARGEST * pivots.max():
                return None
            row, column = self._model._engine.entries(i)
            G = np.zeros_like(T)
            G[row, column] = slope[self._model._engine.place(i).theta]
            K = np.tril(T.T @ G)
            K = (K + K.T) / 2
            K[np.diag_indices(len(K))] /= 2
            back = np.linalg.inv(T)
            W = back.T @ K @ back
            dT = np.moveaxis(own.root_slopes(i, phi), 2, 0)
            out[part, part] = one.bend(phi[part], W)
            out[part, part] -= 2 * np.einsum("ab,iac,jbc->ij", W, dT, dT, optimize=True)
        return out


class XiPoint:
    """A generalized model at one xi: slope, second derivatives, covariance of the estimates.

    Parameters
    ----------
    point : GeneralizedPoint
        The model at the psi of this xi.
    phi : (nphi,) array
    """

    def __init__(self, point: Any, phi: np.ndarray) -> None:
        self._point, self._model = point, point._model
        self.within: Within = point._model.within
        self.xi = self.within.xi(phi, point.psi)

    def slope_at(self, xi: np.ndarray) -> np.ndarray:
        """(size,) slope of the compiled criterion."""
        psi = self.within.psi(xi)
        return np.asarray(self._point._slope(psi) @ self.within.jacobian(xi))

    @cached_property
    def slope(self) -> np.ndarray:
        """(size,) slope of the criterion here."""
        return np.asarray(self._point.gradient @ self.within.jacobian(self.xi))

    @cached_property
    def free(self) -> np.ndarray:
        """(size,) bool: in which of xi the criterion moves freely."""
        return self.within.free(self.xi)

    def second(self, places: np.ndarray) -> np.ndarray:
        """Second derivatives of the criterion in some of xi, (k, k): of the compiled one by
        formulas in phi and the fixed effects where there are any, else by central differences of
        the slope; of what is added to that as its point has them."""
        whole, known = self._by_formula()
        steps = STEP * self.within.units(self.xi, self._point.predictor)
        for j in places[~known[places]]:
            column = derivative(self.slope_at, self.xi, int(j), steps[j])
            whole[:, j] = column
            whole[j, known] = column[known]
        H = (whole + whole.T) / 2 + self._more
        return np.asarray(H[np.ix_(places, places)])

    @cached_property
    def _more(self) -> np.ndarray:
        """Those of a correction, (size, size)."""
        units = self.within.units(self.xi, self._point.predictor)
        steps = np.where(self.free, units, 0.0)
        return np.asarray(self._point.more(self.within.psi, self.xi, steps))

    def _by_formula(self) -> tuple[np.ndarray, np.ndarray]:
        """Second derivatives (size, size), and which rows and columns of them are known."""
        none = np.zeros((self.within.size,) * 2), np.zeros(self.within.size, bool)
        if self._model.ntheta > WIDE * self.within.size:
            return none
        H, known = self._point._by_formula()
        if not known.any():
            return none
        bend = self.within.bend(self.xi, self._point._slope(self._point.psi))
        if bend is None:
            return none
        J, n = self.within.jacobian(self.xi), len(bend)
        whole = J.T @ H @ J
        whole[:n, :n] += bend
        mine = np.ones(self.within.size, bool)
        mine[n:] = known[self._model.ntheta :]
        return whole, mine

    @cached_property
    def covariance_of_xi(self) -> np.ndarray:
        """Twice the inverse of the Hessian, (size, size); NaN for what does not move."""
        places = np.flatnonzero(self.free)
        H = np.full((self.within.size,) * 2, np.nan)
        H[np.ix_(places, places)] = self.second(places)
        return covariance_of(H)

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of psi, (size, size): that of xi, through theta's derivatives in phi."""
        C, free = self.covariance_of_xi, self.free
        J = self.within.jacobian(self.xi)[:, free]
        out = np.asarray(J @ C[np.ix_(free, free)] @ J.T)
        lost = ~self._model.free(self._point.psi)
        out[lost] = np.nan
        out[:, lost] = np.nan
        return out


# ---- fits ----------------------------------------------------------------------------------------


class Found(NamedTuple):
    """The end of a fit within structures."""

    psi: np.ndarray
    info: dict[str, Any]
    phi: np.ndarray
    starts: Starts | None  # where the starts ended, if they differ


def minimum_within(
    model: Any, first: np.ndarray | None, callback: Any, how: dict[str, Any], watch: Watch
) -> Found:
    """The minimum of the compiled criterion from a psi, or from where fits begin; then also from
    another start, where there may be several minima or the first one is at a boundary."""
    own: Structured = model.structured
    best = _run(model, first, callback, how)
    at_bound = not own.moving(best.phi).all()
    if first is not None or watch.reason or best.info["status"] != "converged":
        return best
    if not (own.several or at_bound):
        return best
    other = own.typical(_size(own, best.phi))
    psi = np.concatenate([own.theta(other), best.psi[model.ntheta :]])
    runs = [best]
    with suppress(_core.NotPositiveDefinite):
        runs.append(_run(model, psi, callback, how))
    ends = [run.info["objective"] for run in runs]
    best = runs[int(np.argmin(ends))]
    info = {name: sum(run.info[name] for run in runs) for name in COUNTED}
    starts = None
    if max(ends) - min(ends) > APART:
        done = [run.info["status"] == "converged" for run in runs]
        starts = Starts(
            np.array(ends), np.array([run.psi[: model.ntheta] for run in runs]), np.array(done)
        )
    return Found(best.psi, best.info | info, best.phi, starts)


def _run(model: Any, first: np.ndarray | None, callback: Any, how: dict[str, Any]) -> Found:
    own: Structured = model.structured
    given = {name: value for name, value in how.items() if value is not None}
    psi, info = model._core.minimize(first, callback=callback, structured=own.everything(), **given)
    phi = np.empty(own.nphi)
    phi[own.order] = info["z"][: own.nphi]
    psi = np.array(psi)
    psi[: model.ntheta] = own.rounded(psi[: model.ntheta])
    return Found(psi, info, own.principal(phi), None)


def _size(own: Structured, phi: np.ndarray) -> float:
    """A standard deviation of middling columns, whitened."""
    sizes = own.sizes(phi)
    return float(np.sqrt(np.mean(np.square(sizes)))) if sizes.any() else TYPICAL


def maximum_within(
    model: Any,
    phi: np.ndarray,
    psi: np.ndarray,
    sums: Any,
    held: np.ndarray,
    most: int,
    watch: Any,
    evals: int,
) -> tuple[tuple[np.ndarray, np.ndarray], Minimum]:
    """psi and phi at the maximum of the corrected likelihood, from those of Laplace's, and how it
    ended: `corrected.maximum` in xi. What is at a boundary for Laplace's stays there."""
    own: Structured = model.structured
    laplace = model.uncorrected(psi, sums, phi)
    within, xi = laplace.within.within, laplace.within.xi.copy()
    free = np.flatnonzero(
        laplace.within.free & ~np.append(np.zeros(own.nphi, bool), held[model.ntheta :])
    )
    curvature = laplace.within.second(free)

    def whole(z: np.ndarray) -> np.ndarray:
        out: np.ndarray = xi.copy()
        out[free] = z
        return out

    def at(z: np.ndarray) -> Corrected:
        return corrected_at(model, within, whole(z), free, curvature, sums)

    found = Search(at, most, watch, evals, gain=CORRECTED).end(xi[free])
    end = whole(found.z)
    phi = own.principal(end[: own.nphi])
    return (within.psi(within.xi(phi, within.psi(end))), phi), found


def corrected_at(
    model: Any, within: Within, xi: np.ndarray, free: np.ndarray, curvature: np.ndarray, sums: Any
) -> Corrected:
    """The corrected criterion and its slope in some of xi; the slope of the correction is by
    differences."""
    psi = within.psi(xi)
    point = model.uncorrected(psi, sums)
    steps = np.zeros(within.size)
    steps[free] = CORRECTION_STEP * within.units(xi, point.predictor)[free]
    quick = correction_of(model, sums, quick=True)
    more = differences(lambda one: quick(within.psi(one)), xi, steps)
    slope = point.gradient @ within.jacobian(xi) + more
    value = point.value + correction_of(model, sums)(psi)
    return Corrected(value, slope[free], curvature)
