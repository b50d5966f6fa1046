"""Models for repeated measures: sums by pattern of visits, in units in which they are well scaled.

The compiled class (src/_ext/repeated) sees columns of X that are centred, where the model has an
intercept, and of unit mean square, and a response in units of its residuals. Everything that leaves
this module is in the user's units.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core as _compiled
from ..data.units import Units, check_range, constant_of, units_of
from ..data.visits import PatternSums, RepeatedDesign, Visits
from ..errors import ConvergenceWarning, FitError, IdentifiabilityWarning, warn
from ..formula.repeated import STRUCTURES
from ..linalg import predicted_gain
from ..memory import available
from .estimates import Estimates
from .machine import _MACHINES, note_dropped_columns
from .options import Options

if TYPE_CHECKING:
    from typing_extensions import Self
else:
    from ..late import Self

_core: Any = _compiled
Matrix = np.ndarray
SMALL = 1e8  # bytes that are not worth a look at what there is
DEPENDENT = 1e-12  # square of a column that others leave, over its own, below which it is dropped
AT_BOUND = 1e-6  # standard deviations below this share of the largest are zero
CLOSE = 1e-6  # deviance units that a converged fit may be above its optimum
SEVERAL = ("toep", "toeph")  # structures whose likelihoods often have two optima
MOST_PLACES = 500  # whose covariance matrix is kept
SINGULAR = 1e-6  # eigenvalue of correlations of a search that did not end
ROUNDED = 1e-20  # residual variance over that of the response, below which there is none


@dataclass(frozen=True, eq=False, kw_only=True)
class RepeatedEstimates(
    Estimates, arrays=("theta", "beta", "vcov", "T", "b", "fixed_kept", "Sigma")
):
    """The numbers of a fit as arrays, in the user's units and coding; as `Estimates`, and:

    Attributes
    ----------
    theta : (groups x nphi,) array
        Parameters of the covariance structure of each group, as src/_ext/structures has them.
    sigma : float
        1: there is no residual variance besides Sigma.
    Sigma : (groups, visits, visits) array
        Covariance matrices of the visits of a subject with weights of 1.
    bounded : tuple of int
        Which of theta are standard deviations, or ranges, that are zero.
    """

    Sigma: np.ndarray
    bounded: tuple[int, ...] = ()


class RepeatedModel:
    """A design for repeated measures and its compiled sums.

    Methods of one model wait for each other. A pickle holds the design.

    Parameters
    ----------
    design : RepeatedDesign
        Rows, columns and visits, as `lmmfast.mmrm` makes them.

    Raises
    ------
    DataError
        When no covariance matrix has enough rows.
    MemoryError
        When the sums of all patterns do not fit.
    """

    known: Mapping[Any, Any] = MappingProxyType({})  # what was read of rows that are gone, by keys

    def __init__(self, design: RepeatedDesign) -> None:
        self.design = design
        self._lock = threading.RLock()
        self._sum()
        _MACHINES.add(self)  # type: ignore[arg-type]
        note_dropped_columns(design, self.units.kept)
        self.unidentified = _never_together(design.seen, self.patterns)
        if self.unidentified:
            more = len(self.unidentified) - 1
            others = f" (and {more} more pairs of visits)" * bool(more)
            warn(IdentifiabilityWarning(self.unidentified[0] + others))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self)), (self.design,), {"known": dict(self.known)}

    def _after_fork(self) -> None:
        """In a forked child: nothing but its lock is shared with the parent's process."""

    def with_design(self, design: RepeatedDesign) -> Self:
        """The model of another design."""
        return type(self)(design)

    def known_before(self, fit: Any) -> dict[Any, Any]:
        """What inference knows of a fit from the beginning, by its own keys."""
        return dict(self.known)

    # ---- sums -----------------------------------------------------------------------------------

    def _sum(self) -> None:
        """Reads the rows once: `units`, `core`, and constants of the criterion."""
        given = self.design.patterned
        if given is None:
            self._sum_rows()
        else:
            self._take(given)

    def _sum_rows(self) -> None:
        design = self.design
        there = design.rows_for("sums by pattern of visits would be needed")
        visits, X, y = design.seen, design.X, there.response()
        check_range(y, design.response)
        for column, name in zip(X.T, design.x_names, strict=True):
            check_range(column, name)
        units = units_of(X, y, constant_of(X))
        w = design.weights
        rows = units.rows(X, y, w)
        self.log_weights = 0.0 if w is None else float(np.log(w).sum())
        self.n = len(y)
        self.patterns = [(g, own) for g, own, _ in visits.patterns]

        def filled(kept: Matrix) -> Any:
            core = self._empty(int(kept.sum()))
            own = rows if kept.all() else rows[:, np.append(kept, True)]
            for i, (_, v, where) in enumerate(visits.patterns):
                core.add(i, own[where].reshape(len(where), len(v) * own.shape[1]))
            return core

        self._settle(units, filled)

    def _take(self, given: PatternSums) -> None:
        self.log_weights, self.n = given.log_weights, given.n
        self.patterns = [(g, own) for g, own, _ in given.patterns]

        def filled(kept: Matrix) -> Any:
            core = self._empty(int(kept.sum()))
            inside = np.append(kept, True)
            for i, ((_, v, count), total) in enumerate(
                zip(given.patterns, given.sums, strict=True)
            ):
                own = np.tile(inside, len(v))
                core.add_sums(i, count, np.ascontiguousarray(total[np.ix_(own, own)]))
            return core

        self._settle(given.units, filled)

    def _settle(self, units: Units, filled: Callable[[Matrix], Any]) -> None:
        """The core of the columns that do not depend on others, in units of the residuals."""
        kept = np.ones(len(units.kept), bool)
        core = filled(kept)
        G = _gram(core, self.patterns)
        kept = ~_dependent(G[:-1, :-1])
        if not kept.all():
            own = np.append(kept, True)
            core, G = filled(kept), G[np.ix_(own, own)]
        scale = _residual_scale(G, self.n)
        core.scale(scale)
        fields = vars(units) | {"scale": units.scale * scale, "kept": kept}
        self.units, self._core = Units(**fields), core

    def _empty(self, p: int) -> Any:
        visits = self.design.seen
        _check_memory(p, self.patterns)
        name = STRUCTURES[visits.covariance.structure]
        if visits.places is None:
            return _core.Repeated(p, structure_of(visits), len(visits.groups), self.patterns)
        own = [_spread_out(visits.places[v]) for _, v in self.patterns]
        spans = np.array([farthest(places) for places in own])
        self.span = float(spans.max())  # what the logarithm of a range is relative to
        self.closest = min(map(_closest, own))
        local = [_core.Structure(name, len(places), places) for places in own]
        inside = [(g, np.arange(len(v), dtype=np.int32)) for g, v in self.patterns]
        shift = np.log(self.span / spans)
        return _core.Repeated(p, local, len(visits.groups), inside, shift)

    def sigma(self, theta: Matrix, group: int, visits: Matrix) -> Matrix:
        """Covariance (k, k) of some visits of a subject of a group, in the user's units."""
        own = np.asarray(theta).reshape(len(self.design.seen.groups), -1)[group]
        places = self.design.seen.places
        if places is None:
            unit = self.per_unit.reshape(len(self.design.seen.groups), -1)[group]
            whole = self._core.structure.sigma(own / unit) * self.units.scale**2
            return np.asarray(whole[np.ix_(visits, visits)])
        return np.asarray(own[0] ** 2 * np.exp(-apart(places[visits]) / self.range_of(own)))

    def range_of(self, theta: Matrix) -> float:
        """The range of sp_exp, of the parameters of a group."""
        return float(self.span * np.exp(theta[1]))

    @property
    def n_patterns(self) -> int:
        """Number of different sets of visits, and groups, that subjects have."""
        return len(self.patterns)

    @property
    def nphi(self) -> int:
        """Number of parameters of the covariance matrices."""
        return int(self._core.nphi)

    @property
    def theta_entries(self) -> Any:
        """FitError: entries of theta belong to random terms."""
        raise FitError("a model for repeated measures has no random terms")

    @cached_property
    def per_unit(self) -> Matrix:
        """(nphi,): what a unit of each parameter in the core is in the user's units."""
        return np.where(self._core.deviations, self.units.scale, 1.0)

    def _constants(self, reml: bool) -> float:
        """The criterion less what the core gives."""
        nu = self.n - reml * int(self.units.kept.sum())
        own = nu * (np.log(2 * np.pi) + 2 * np.log(self.units.scale)) - self.log_weights
        return float(own + reml * self.units.log_determinant())

    # ---- fits -----------------------------------------------------------------------------------

    def minimize(self, options: Options) -> RepeatedEstimates:
        """Estimates of the fit that checked options ask for."""
        began = time.perf_counter()
        reml, core = bool(options.reml), self._core
        self._check_rows(reml)
        start = None if options.start is None else self._start(options.start)
        constants = self._constants(reml)
        callback: Any = options.watch.active(began)
        seen = callback and partial(_shifted, callback, constants)
        how = {"reml": reml, "maxeval": options.max_evals, "callback": seen}
        try:
            with self._lock:
                phi, value, certificate, evals, status = self._best(start, how)
                read = core.estimates()
        except _core.NotFinite:
            raise FitError("the derivatives of the criterion are not finite") from None
        except (_core.NotPositiveDefinite, _core.NoVariance):
            raise self._no_fit() from None
        if status == "stopped":
            status = options.watch.reason
        converged = status == "converged" and certificate < CLOSE
        seconds = time.perf_counter() - began
        if not converged and status == "converged":
            status = "limited by rounding"
        numbers = certificate, evals, seconds, status
        found = self._estimates(phi, reml, value + constants, read, *numbers)
        if not converged:
            self._check_singular(found.Sigma)
        if not converged and status != "stopped by callback":
            warn(ConvergenceWarning(f"not converged: {status}"))
        return found

    def _best(self, start: Matrix | None, how: dict[str, Any]) -> tuple[Any, ...]:
        """The fit, at which the core stands. Likelihoods of Toeplitz' structures may have a second
        optimum where data do not follow them: a fit from visits without correlation must not be
        better."""
        core = self._core
        first = core.fit(start, **how)
        again = self.design.seen.covariance.structure in SEVERAL and first[-1] == "converged"
        if start is not None or not again:
            return tuple(first)
        nearest = core.structure.nearest
        plain = [nearest(np.diag(own.diagonal())) for own in core.estimates()[2]]
        try:
            second = core.fit(np.concatenate(plain), **how)
        except _core.NotPositiveDefinite:
            second = (first[0], np.inf, *first[2:])
        better = second if second[-1] == "converged" and second[1] < first[1] - CLOSE else first
        if better is first:
            core.evaluate(first[0], how["reml"])
        return (*better[:3], first[3] + second[3], better[4])

    def estimates_at(self, theta: Any, reml: bool = True) -> RepeatedEstimates:
        """Estimates at given parameters of the covariance matrices."""
        began = time.perf_counter()
        phi = self._start(theta)
        try:
            with self._lock:
                value = self._core.evaluate(phi, reml) + self._constants(reml)
                gain = predicted_gain(*self._core.derivatives())
                read = self._core.estimates()
        except _core.NotPositiveDefinite:
            raise FitError(
                "the covariance matrix is not positive definite at these parameters"
            ) from None
        state = "converged" if gain < CLOSE else "given"
        numbers = gain, 1, time.perf_counter() - began, state
        return self._estimates(phi, reml, value, read, *numbers)

    def criterion(self, theta: Any, reml: bool, free: Any = None) -> float:
        """The criterion at given parameters; infinite where there is no covariance matrix."""
        try:
            return float(self._core.evaluate(self._start(theta), reml) + self._constants(reml))
        except _core.NotPositiveDefinite:
            return float("inf")

    def point(self, theta: Any, reml: bool) -> RepeatedPoint:
        """The model at some parameters, to be read."""
        return RepeatedPoint(self, self._start(theta), reml)

    def _start(self, theta: Any) -> Matrix:
        own = np.asarray(theta, np.float64)
        if own.shape != (self.nphi,) or not np.isfinite(own).all():
            raise ValueError(
                f"the covariance has {self.nphi} parameters, finite numbers: {theta!r}"
            )
        return np.asarray(own / self.per_unit)

    def _check_singular(self, Sigma: Matrix) -> None:
        """The likelihood has no maximum where few subjects have all of some visits."""
        for own in Sigma:
            sd = np.sqrt(own.diagonal())
            if len(own) and np.linalg.eigvalsh(own / np.outer(sd, sd))[0] < SINGULAR:
                raise FitError(
                    f"the likelihood has no maximum with {self.design.seen.covariance.text}: it "
                    "grows without end as the covariance matrix of the visits becomes singular, "
                    "for too few subjects have all of these visits; take a structure with fewer "
                    "parameters (toeph, ar1h, csh), or leave out groups or rare visits"
                )

    def _check_rows(self, reml: bool) -> None:
        rank = int(self.units.kept.sum())
        if self.n <= rank:
            raise FitError(
                f"{self.n} rows do not leave anything to estimate a covariance from beside {rank} "
                "fixed effects"
            )
        own, count = self.design.seen.covariance, int(self._core.nphi)
        if count >= self.n:
            times = ", ".join(own.visit)
            raise FitError(
                f"{own.text} has {count} parameters, and there are {self.n} rows: {times} has "
                f"{self.design.seen.m} different values; times that differ between subjects are "
                f"for sp_exp({times} | {own.subject}), or are rounded to visits",
                variable=own.visit[0],
            )

    def _no_fit(self) -> FitError:
        return FitError(
            f"no covariance matrix {self.design.seen.covariance.text} can be estimated: the fixed "
            "effects fit the response, or visits of all subjects, exactly"
        )

    def _estimates(
        self, phi: Matrix, reml: bool, value: float, read: tuple[Matrix, Matrix, Matrix],
        certificate: float, evals: int, seconds: float, status: str,
    ) -> RepeatedEstimates:  # fmt: skip
        units = self.units
        beta, vcov, Sigma = read
        full = units.back @ beta
        if units.constant is not None:
            full[units.constant] += units.mean / units.size[units.constant]
        cov = units.back @ vcov @ units.back.T
        full[~units.kept] = np.nan
        cov[~units.kept] = np.nan
        cov[:, ~units.kept] = np.nan
        deviation = np.abs(phi[self._core.bounded])
        small = np.flatnonzero(self._core.bounded)[
            deviation < AT_BOUND * max(deviation.max(initial=0), 1)
        ]
        bounded = [int(i) for i in small]
        if self.design.seen.places is not None:
            Sigma, bounded = self._far(phi), self._without_range(phi)
        return RepeatedEstimates(
            reml=reml, n=self.n, objective=value, theta=phi * self.per_unit, beta=full, vcov=cov,
            sigma=1.0, T=(), b=(), fixed_kept=units.kept, singular=(),
            converged=status == "converged" and certificate < CLOSE, certificate=certificate,
            n_evals=evals, seconds=seconds, status=status,
            unidentified=self.unidentified,
            Sigma=Sigma * units.scale**2, bounded=tuple(bounded),
        )  # fmt: skip

    def _without_range(self, phi: Matrix) -> list[int]:
        """Ranges next to which even the closest places are far: they are zero."""
        own = phi.reshape(len(self.design.seen.groups), -1)
        nothing = [np.exp(-self.closest / self.range_of(one)) < AT_BOUND for one in own]
        return [2 * g + 1 for g, zero in enumerate(nothing) if zero]

    def _far(self, phi: Matrix) -> Matrix:
        """Sigma of all places, in units of the core, where these are few; else of none."""
        m, groups = self.design.seen.m, len(self.design.seen.groups)
        theta = phi * self.per_unit
        visits = np.arange(m if m <= MOST_PLACES else 0)
        own = [self.sigma(theta, g, visits) for g in range(groups)]
        return np.array(own) / self.units.scale**2


class RepeatedPoint:
    """The model at given parameters of its covariance matrices, in the core's units.

    Attributes
    ----------
    model : RepeatedModel
    phi : (nphi,) array
    reml : bool
    """

    def __init__(self, model: RepeatedModel, phi: Matrix, reml: bool) -> None:
        self.model, self.phi, self.reml = model, phi, reml
        core = model._core
        with model._lock:
            core.evaluate(phi, reml)
            self.gradient, self.hessian = core.derivatives()
            self.beta, self.vcov, self.Sigma = core.estimates()
            self._slopes = core.slopes()

    @property
    def slopes(self) -> Matrix:
        """(nphi, kept, kept): derivatives of X'V^-1 X, the core's columns."""
        return np.asarray(self._slopes[:, :-1, :-1])

    @cached_property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.model.design.seen.groups)

    @cached_property
    def by_group(self) -> Matrix:
        """(groups, nphi of a group): the parameters."""
        return self.phi.reshape(self.groups, -1)

    @cached_property
    def changes(self) -> Matrix:
        """(groups, nphi of a group, visits, visits): derivatives of each Sigma."""
        structure = self.model._core.structure
        return np.array([structure.derivatives(own) for own in self.by_group])

    def changes_of(self, i: int) -> Matrix:
        """(nphi of a group, k, k): those of the visits of a pattern."""
        g, v = self.model.patterns[i]
        local = self.model._core.local
        if local is None:
            return np.asarray(self.changes[g][:, v[:, None], v])
        return self._local(i)[1]

    @cached_property
    def inverses(self) -> list[Matrix]:
        """Inverse of the covariance of the visits of each pattern."""
        patterns = self.model.patterns
        if self.model._core.local is None:
            return [np.linalg.inv(self.Sigma[g][np.ix_(v, v)]) for g, v in patterns]
        return [np.linalg.inv(self._local(i)[0]) for i in range(len(patterns))]

    def _local(self, i: int) -> tuple[Matrix, Matrix]:
        """Sigma of a pattern with a structure of its own, and its derivatives."""
        model = self.model
        g, v = model.patterns[i]
        sd, x = self.by_group[g]
        away = apart(model.design.seen.places[v]) / (model.span * np.exp(x))  # type: ignore[index]
        R = np.exp(-away)
        return sd * sd * R, np.array([2 * sd * R, sd * sd * away * R])

    def products(self, middle: Any) -> Matrix:
        """X'V^-1 B V^-1 X (kept, kept), B of each subject; `middle` gives it, k x k, of a pattern
        from its place, group, visits and inverse."""
        pairs = []
        for i, ((g, v), W) in enumerate(zip(self.model.patterns, self.inverses, strict=True)):
            B = W @ middle(i, g, v, W) @ W
            pairs.append(_upper((B + B.T) / 2))
        return np.asarray(self.model._core.weighted(np.concatenate(pairs)[:, None])[0][:-1, :-1])


def _upper(B: Matrix) -> Matrix:
    """The pairs (t <= s) of a symmetric matrix, t fastest."""
    return np.asarray(B.T[_places(len(B))])


@lru_cache(maxsize=256)
def _places(k: int) -> tuple[Matrix, Matrix]:
    return np.tril_indices(k)


def _shifted(
    callback: Any, shift: float, n: int, value: float, best: float, radius: float, predicted: float
) -> bool:
    return bool(callback(n, value + shift, best + shift, radius, predicted))


def _never_together(visits: Visits, patterns: Any) -> tuple[str, ...]:
    """Pairs of visits that no subject has both of, whose covariance is a parameter: a sentence for
    each."""
    if visits.covariance.structure != "us":
        return ()
    seen = np.zeros((len(visits.groups), visits.m, visits.m), bool)
    for g, v in patterns:
        seen[g, v[:, None], v] = True
    found = []
    for g, i, j in zip(*np.nonzero(~seen), strict=True):
        if i < j:
            where = f" of group {str(visits.groups[g])!r}" * (len(visits.groups) > 1)
            one, two = (str(visits.labels[k]) for k in (i, j))
            pair = f"no subject{where} has both {one} and {two}"
            found.append(f"{pair}: their correlation is unknown")
    return tuple(found)


# ---- sums ----------------------------------------------------------------------------------------


def structure_of(visits: Visits) -> Any:
    """The compiled structure of all visits; of those that are no places."""
    return _core.Structure(STRUCTURES[visits.covariance.structure], visits.m)


def _gram(core: Any, patterns: Any) -> Matrix:
    """Cross-products of (X, y) over all rows."""
    own = []
    for _, v in patterns:
        s, t = _places(len(v))
        own.append(s == t)
    return np.asarray(core.weighted(np.concatenate(own)[:, None])[0])


def apart(places: Matrix) -> Matrix:
    """Distances of places (k, k)."""
    return np.asarray(np.sqrt(((places[:, None] - places) ** 2).sum(axis=2)))


def _closest(places: Matrix) -> float:
    """The smallest distance of two places."""
    return float((apart(places) + np.diag(np.full(len(places), np.inf))).min())


def farthest(places: Matrix) -> float:
    """The largest distance of places."""
    return float(apart(places).max())


def _spread_out(places: Matrix) -> Matrix:
    """The places of a pattern; a single one with another that no row has, for a range to be of."""
    return places if len(places) > 1 else np.concatenate([places, places + 1.0])


def _check_memory(p: int, patterns: Any) -> None:
    """MemoryError where the sums of all patterns are more than there is room for."""
    q = p + 1
    pairs = sum(len(v) * (len(v) + 1) // 2 for _, v in patterns)
    need = 8.0 * pairs * (q * (q + 1) / 2 + q)
    room = available() if need > SMALL else need
    if need > room:
        raise MemoryError(
            f"{len(patterns)} patterns of visits with {p} columns of X need {need / 1e9:.1f} GB of "
            f"sums, there are {room / 1e9:.1f}: round visits to fewer different ones"
        )


def _dependent(G: Matrix) -> Matrix:
    """Which columns depend linearly on earlier ones, from their cross-products (p x p)."""
    p = len(G)
    left, size = G.copy(), G.diagonal().copy()
    out = np.zeros(p, bool)
    for j in range(p):
        out[j] = not left[j, j] > DEPENDENT * size[j]
        if not out[j]:
            left -= np.outer(left[:, j], left[j]) / left[j, j]
    return out


def _residual_scale(G: Matrix, n: int) -> float:
    """Root mean square of the residuals of least squares, from cross-products of (X, y); FitError
    where there are none."""
    total = G[-1, -1]
    left = total - G[:-1, -1] @ np.linalg.solve(G[:-1, :-1], G[:-1, -1]) if len(G) > 1 else total
    if not left > ROUNDED * total * n:
        raise FitError("the fixed effects fit the response exactly: there is no variance left")
    return float(np.sqrt(left / n))
