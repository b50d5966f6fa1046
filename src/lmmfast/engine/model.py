"""The model as a machine: a design and its compiled cross-products; evaluation and fits."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from .. import _core
from ..data.design import Design
from ..data.relationship import refuse_moving
from ..data.sums import Sums
from ..errors import (
    ConvergenceWarning,
    DataError,
    FitError,
    IdentifiabilityWarning,
    warn,
)
from ..linalg import predicted_gain
from .compiled import OUT_OF_RANGE
from .criterion import Criterion
from .estimates import (
    Estimates,
    Objective,
    ObjectiveAndGradient,
    ObjectiveAndInformation,
    singular_directions,
)
from .free import Free, positive
from .identify import Overlap, overlaps
from .known import minimum
from .machine import Machine, note_dropped_columns
from .options import MAX_EVALS, Options, Watch
from .point import RESIDUAL_STRUCTURE, WORDS, Point, in_words
from .starts import Starts, random_theta
from .structured import Structured, structured

CERTIFIED = 1e-6  # predicted decrease above which a fit is not called converged
RESOLUTION = 1e-3  # the same for the bound of the rounding error of the objective

_NOT_CERTIFIED = {
    "evaluation limit": "the objective can still fall by {left}",
    "out of time": "the objective can still fall by {left}",
    "limited by rounding": "the residual variance is so small beside the random effects' that the "
    "objective is uncertain by {left}; do the random effects fit the response exactly?",
    "flat direction": "no step lowers the objective any more, though its slope still promises "
    "{left}: it hardly changes along some curve of covariance parameters (are all of them "
    "identified?)",
}

_BAD_START = (
    "the objective is not finite at the starting value: check the response and the predictors for "
    "extreme values"
)


class Model(Machine):
    """A linear mixed model and its data, ready to be evaluated and fitted.

    After construction memory does not depend on the number of rows except for the arrays of the
    design that it refers to. Methods may be called from several threads: calls on one model wait
    for each other, calls on different models run in parallel without the GIL.

    Parameters
    ----------
    design : Design
        Made by ``lmmfast.data.design.build``; see also ``LMM.from_arrays``.
    storage : {"auto", "dense", "sparse", "iterative"}, default "auto"
        How the matrix is held that is left when the first grouping factor is eliminated; see
        ``lmmfast.plan``. "auto": whichever is predicted to be fastest among those that fit.
    threads : int, default 1
        Threads of evaluations and fits. Results are identical for any number; BLAS itself always
        uses one.

    Raises
    ------
    FitError
        When the response leaves no residual variance, or there are no degrees of freedom.
    MemoryError
        When the factorization would not fit in the memory that is available, with its size.
    """

    _compiled: Any = _core.Model  # what is compiled
    has_residual = False  # whether the rows have a residual structure

    def __init__(self, design: Design, *, storage: str = "auto", threads: int = 1) -> None:
        if (design.residual is not None) != self.has_residual:
            raise FitError(RESIDUAL_STRUCTURE)
        self._compile(design, storage, threads, self._compiled)
        self._held: Any = design.sums  # what the compiled model is filled with
        self._overlaps: dict[bool, tuple[Overlap, ...]] = {}
        self.structured = structured(self._engine)
        rank = int(self._core.keep.sum())
        if design.n <= rank:
            raise FitError(
                f"{design.n} rows cannot estimate {rank} fixed effects and a residual "
                "variance: use more rows or a smaller formula"
            )
        note_dropped_columns(design, self._core.keep)
        _note_many_effects(design)

    # ---- evaluation ------------------------------------------------------------------------------

    def _use(self, sums: Any) -> None:
        """Fills the compiled model with the response and weights of other rows; None: its own."""
        wanted: Any = self.design.sums if sums is None else sums
        held, self._held = self._held, None
        if wanted is not held:
            reweighted = held is None or wanted.weights is not held.weights
            if wanted is self.design.sums and isinstance(held, _LastResponse):
                reweighted = True  # its sums to the last digit, as they were made
            self._engine.fill(wanted, reweighted)
        self._held = wanted

    @overload
    def objective(
        self, theta: ArrayLike, *, reml: bool = ..., gradient: Literal[False] = ...,
        hessian: Literal[False] = ...,
    ) -> float: ...  # fmt: skip

    @overload
    def objective(
        self, theta: ArrayLike, *, reml: bool = ..., gradient: Literal[True],
        hessian: Literal[False] = ...,
    ) -> ObjectiveAndGradient: ...  # fmt: skip

    @overload
    def objective(
        self, theta: ArrayLike, *, reml: bool = ..., gradient: Literal[False] = ...,
        hessian: Literal[True],
    ) -> ObjectiveAndInformation: ...  # fmt: skip

    @overload
    def objective(
        self, theta: ArrayLike, *, reml: bool = ..., gradient: Literal[True],
        hessian: Literal[True],
    ) -> Objective: ...  # fmt: skip

    def objective(
        self, theta: ArrayLike, *, reml: bool = True, gradient: bool = False, hessian: bool = False
    ) -> float | ObjectiveAndGradient | ObjectiveAndInformation | Objective:
        """REML criterion or deviance at theta, with exact gradient and information if asked for.

        Parameters
        ----------
        theta : (ntheta,) array
            Relative Cholesky parameters as in ``Estimates.theta``.
        reml : bool, default True
            Restricted likelihood; False for the likelihood.
        gradient, hessian : bool, default False
            Whether to return derivatives too. In place of the Hessian stands the average
            information of Gilmour, Thompson and Cullis (1995) in theta, plus its boundary term,
            which equals it in expectation, not exactly.

        Returns
        -------
        float, or named tuple
            The criterion alone, or ``value`` with ``gradient`` (ntheta,) and ``information``
            (ntheta, ntheta), as asked for.

        Raises
        ------
        FitError
            When the criterion is not finite at theta.
        """
        theta = self._engine.checked(theta)
        if hessian:
            self._engine.refuse_wide("the average information in theta")
        with self._lock, in_words():
            self._use(None)
            value: float = self._core.evaluate(theta, reml)
            if not (gradient or hessian):
                return value
            g, H = self._core.derivatives(hessian)
        if not hessian:
            return ObjectiveAndGradient(value, g)
        return Objective(value, g, H) if gradient else ObjectiveAndInformation(value, H)

    def criterion(self, theta: np.ndarray, reml: bool, free: Free | None) -> float:
        """The criterion at theta as a fit with these parameters has it: at its sigma, if known."""
        if free is None or free.sigma is None:
            return float(self.objective(theta, reml=reml))
        return float(Criterion(self, reml).with_sigma(theta, 2 * float(np.log(free.sigma))).f)

    def point(self, theta: ArrayLike, *, reml: bool = True, sums: Sums | None = None) -> Point:
        """The model at one theta, to be read: criterion, derivatives, estimates, V^-1.

        Parameters
        ----------
        theta : (ntheta,) array
            Relative Cholesky parameters as in ``Estimates.theta``.
        reml : bool, default True
            Restricted likelihood; False for the likelihood.
        sums : Sums, optional
            Rows with another response or other weights; default: the design's.

        Returns
        -------
        Point
        """
        return Point(self, theta, reml, sums)

    def condvar(self, theta: ArrayLike) -> tuple[np.ndarray, ...]:
        """Conditional covariances of the random effects over sigma^2, given theta.

        Parameters
        ----------
        theta : (ntheta,) array
            Relative Cholesky parameters, in the order of ``theta_names``.

        Returns
        -------
        tuple of (m, k, k) arrays
            Per term: the diagonal blocks of Lambda M^-1 Lambda' (Bates et al. 2015, eq. 58).
        """
        return self.point(theta).condvar

    def monte_carlo(self, theta: ArrayLike, *, reml: bool = True) -> tuple[float, np.ndarray]:
        """What chance adds to an iterative model: its log-determinant and gradient are estimated.

        Parameters
        ----------
        theta : (ntheta,) array
            The optimum of a fit.
        reml : bool, default True
            Restricted likelihood; False for the likelihood.

        Returns
        -------
        se : float
            Standard error of the objective.
        cov : (ntheta, ntheta) array
            Covariance of the theta that a fit finds, over the random vectors: H^-1 Cov(g) H^-1.
            The data's own uncertainty comes on top; it is usually a thousand times larger. So does
            where the minimizer stopped, up to sqrt(certificate) of the data's standard errors,
            which can be the larger of the two where levels of the factors co-occur at random.
            Zero for exact models, NaN where the curvature H is not positive definite.

        Raises
        ------
        FitError
            When the objective is not finite at theta.
        """
        theta = self._engine.checked(theta)
        with self._lock, in_words():
            self._use(None)
            self._core.evaluate(theta, reml, value=False)
            se, cov = self._core.montecarlo()
        return float(se), cov

    def projection(
        self, theta: ArrayLike, *, reml: bool = True
    ) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """What derivatives of ``vcov`` and of the residual sum of squares are made of.

        With V = I + sum Z T T'Z' over all terms (relative to sigma^2, rows scaled by the square
        roots of the weights).

        Parameters
        ----------
        theta : (ntheta,) array
            Relative Cholesky parameters, in the order of ``theta_names``.
        reml : bool, default True
            Of the fit; the result does not depend on it, but is at hand at a fit's own theta.

        Returns
        -------
        G : tuple of (m, k, p) arrays
            Per term: Z'V^-1 X (X'V^-1 X)^-1, zero for dropped columns of X.
        g : tuple of (m, k) arrays
            Per term: Z'V^-1 (y - X beta).
        """
        return self.point(theta, reml=reml).projection

    # ---- fit -------------------------------------------------------------------------------------

    def minimize(self, options: Options) -> Estimates:
        """The estimates at the minimum of the REML criterion or the deviance, as `LMM.fit`."""
        if not self._core.report["identified"]:
            self._check_identified(bool(options.reml))
        with self._lock:
            self._use(None)
            limits = options.max_evals, options.starts
            return self._minimize(options.reml, options.start, options.watch, options.free, *limits)

    def again(
        self, sums: Sums, *, reml: bool, start: np.ndarray | None, free: Free | None = None
    ) -> Estimates:
        """The estimates for other rows: another response and other weights, all else the same."""
        with self._lock:
            self._use(sums)
            return self._minimize(reml, start, Watch(), free, MAX_EVALS, 0)

    def many(
        self,
        Y: np.ndarray,
        L: np.ndarray,
        *,
        weights: np.ndarray | None = None,
        start: np.ndarray | None = None,
        reml: bool,
        max_evals: int,
        df: bool,
    ) -> dict[str, np.ndarray]:
        """Fits of the columns of Y (n, m), each as `again` would, and contrasts L (r, p) of them.

        weights (n, m): of each column, in place of the design's. start (ntheta): where all fits
        begin, each at moments of its response otherwise. Nothing is raised for single columns:
        ``status`` says how each ended.
        """
        refuse_moving(self.design.terms, "a fit of many responses")
        if not self._core.report["identified"]:
            self._check_identified(reml)
        kept = self._core.keep
        first = None if start is None else self._engine.checked(start)
        W = None if weights is None else np.asfortranarray(weights)
        how = {"weights": W, "start": first, "reml": reml, "maxeval": max_evals, "df": df}
        with self._lock:
            source = self.design.sums.source(self.design.fixed, self._engine._groups)
            own: Any = self.design.sums
            if weights is None:
                self._use(None)  # the weights of the design, whoever was here before
            self._held = None
            found: dict[str, np.ndarray] = self._core.many(np.asfortranarray(Y), L, *source, **how)
            if weights is None:
                self._held = _LastResponse(own.weights)
        found["beta"][:, ~kept] = found["se"][:, ~kept] = np.nan
        return found

    def estimates_at(self, theta: ArrayLike, *, reml: bool = True) -> Estimates:
        """The estimates at a given theta, as `LMM.at` describes them."""
        began = time.perf_counter()
        theta = self._engine.checked(theta)
        with self._lock:
            _, slope, information = self.objective(theta, reml=reml, gradient=True, hessian=True)
            gain = predicted_gain(slope, information)
            status = "converged" if gain <= CERTIFIED else "theta was given, not fitted"
            return self._estimates(reml, _Run(theta, np.nan, gain, gain, 1, status), 1, began)

    def _minimize(
        self, reml: bool, start: Any, watch: Watch, free: Free | None, most: int, more: int
    ) -> Estimates:
        """The estimates at the minimum, from one start or several."""
        first = None if start is None else self._engine.checked(start)
        began = time.perf_counter()
        how = {"reml": reml, "maxeval": most, "callback": watch.active(began)}
        best = self._run(first, watch, free, how)
        starts, evals = None, best.evals
        if self.structured is not None and self.structured.several and first is None and not more:
            runs = [best, *self._second_run(self.structured, best, watch, how)]
            best, evals = min(runs, key=_Run.rank), sum(run.evals for run in runs)
            if not _agree(runs):
                starts = _starts(runs)
        if more:
            runs = [best, *self._more_runs(more, watch, free, how)]
            best = min(runs, key=_Run.rank)
            starts = _starts(runs)
            evals = sum(run.evals for run in runs)
        if best.status in _NOT_CERTIFIED:
            left = f"about {best.left:.2g}" if best.left < np.inf else "any amount"
            why = _NOT_CERTIFIED[best.status].format(left=left)
            warn(ConvergenceWarning(f"{best.status}: {why}"))
        found = self._estimates(reml, best, evals, began, free)
        if starts is None and free is None and best.phi is None:
            return found
        return replace(found, starts=starts, free=free, phi=best.phi)

    def _check_identified(self, reml: bool) -> None:
        """Parameters that cannot be told apart are refused, or named in a warning."""
        if reml not in self._overlaps:
            self._overlaps[reml] = overlaps(self.design, self._engine, reml)
        for found in self._overlaps[reml]:
            term = self.design.terms[found.terms[0]]
            if found.kind == "refused":
                raise DataError(found.message, variable=term.group, term=term.label)
            if found.kind == "warned":
                warn(IdentifiabilityWarning(found.message, variable=term.group, term=term.label))

    def _run(
        self, first: np.ndarray | None, watch: Watch, free: Free | None, how: dict[str, Any]
    ) -> _Run:
        """One start followed to its end."""
        before = 0
        if self.structured is not None:
            return self._structured_run(self.structured, first, watch, free, how)
        if free is not None and free.sigma is not None:
            return self._known_sigma(first, watch, free, how)
        try:
            if free is not None:
                if first is None:
                    (first, *_, before, _), _ = self._search(None, how)
                how = {**how, "plane": self._engine.plane(free)}
                first = free.nearest(first)
            found, delta = self._search(first, how)
        except _core.NotPositiveDefinite as error:
            plain = type(error) is _core.NotPositiveDefinite
            raise FitError(_BAD_START if plain else WORDS[type(error)]) from None
        return self._end(found, watch, before, delta)

    def _structured_run(
        self,
        own: Structured,
        first: np.ndarray | None,
        watch: Watch,
        free: Free | None,
        how: dict[str, Any],
        phi: np.ndarray | None = None,
    ) -> _Run:
        """One start over phi, from the phi nearest to a theta, or a given one."""
        if free is not None:
            raise FitError(
                "parameters cannot be held or tied in a model with covariance structures"
            )
        start = own.nearest(first) if first is not None else phi
        core_start = None if start is None else start[own.order]
        try:
            found, delta = self._search(core_start, {**how, "plane": own.everything()})
        except _core.NotPositiveDefinite as error:
            plain = type(error) is _core.NotPositiveDefinite
            raise FitError(_BAD_START if plain else WORDS[type(error)]) from None
        at = np.empty(own.nphi)
        at[own.order] = found[-1]
        ended = self._end((own.rounded(found[0]), *found[1:-1]), watch, 0, delta)
        return ended._replace(phi=own.principal(at))

    def _second_run(
        self, own: Structured, best: _Run, watch: Watch, how: dict[str, Any]
    ) -> Iterator[_Run]:
        """Another start, where structures have several optima now and then."""
        if watch.reason or best.status == "evaluation limit":
            return
        with suppress(FitError):
            # fits of wide structures begin at a middling start: the other one is unlike it
            other = own.correlated() if self._engine.moves else own.typical()
            yield self._structured_run(own, None, watch, None, how, other)

    def _end(self, found: tuple[Any, ...], watch: Watch, before: int, delta: Any = None) -> _Run:
        """What a fit of the core came to."""
        theta, objective, certificate, rounding, evals, status = found[:6]
        status = watch.reason or status
        bound, noise = rounding  # of the criterion's rounding error, and as seen
        known = noise <= CERTIFIED and bound <= RESOLUTION
        if status == "converged" and not (known and certificate <= CERTIFIED):
            status = "flat direction" if known else "limited by rounding"
        left = certificate if status == "flat direction" else max(certificate, *rounding)
        return _Run(theta, objective, certificate, left, before + evals, status, None, delta)

    def _search(self, first: np.ndarray | None, how: dict[str, Any]) -> tuple[Any, Any]:
        """What the compiled fit finds, and (see `ResidualModel`) parameters besides theta."""
        return self._core.fit(first, **how), None

    def _known_sigma(
        self, first: np.ndarray | None, watch: Watch, free: Free, how: dict[str, Any]
    ) -> _Run:
        """One start with a residual standard deviation that is known."""
        assert free.sigma is not None
        criterion = Criterion(self, bool(how["reml"]), replace(free, sigma=None), self._held)
        before = 0
        if first is None:  # covariances as they are where sigma is estimated
            run = self._run(None, watch, replace(free, sigma=None), how)
            r2 = criterion.estimates(criterion.coordinates(run.theta))[2]
            first, before = run.theta * np.sqrt(r2 / criterion.nu) / free.sigma, run.evals
        start = free.nearest(first)
        found = minimum(criterion, start, free.sigma, how["maxeval"], how["callback"])
        status = watch.reason or found.status
        if status == "converged" and found.gain > CERTIFIED:
            status = "flat direction"
        theta = positive(free.theta(found.z), self.theta_entries, free)
        return _Run(theta, found.value, found.gain, found.gain, before + found.evals, status)

    def _more_runs(
        self, count: int, watch: Watch, free: Free | None, how: dict[str, Any]
    ) -> Iterator[_Run]:
        """Random starts, until one is stopped. One that fails ends nowhere."""
        for number in range(count):
            if watch.reason:
                return
            try:
                if self.structured is not None:
                    phi = self.structured.random(number)
                    yield self._structured_run(self.structured, None, watch, free, how, phi)
                else:
                    yield self._run(random_theta(self._engine, number), watch, free, how)
            except FitError:
                yield _Run(np.full(self.ntheta, np.nan), np.nan, np.inf, np.inf, 0, "failed")

    def _estimates(
        self, reml: bool, run: _Run, evals: int, began: float, free: Free | None = None
    ) -> Estimates:
        """Everything that follows from the theta of a run."""
        try:
            self._core.evaluate(run.theta, reml, value=False)
            beta, vcov, sigma, b = self._core.estimates()
            objective = self._core.value()
        except _core.NotPositiveDefinite:
            raise FitError(WORDS[_core.Exact]) from None
        if free is not None and free.sigma is not None:
            vcov *= (free.sigma / sigma) ** 2
            objective, sigma = run.objective, free.sigma
        seconds = time.perf_counter() - began
        keep = self._core.keep
        _check_range(sigma, beta, vcov)
        if not keep.all():
            beta[~keep], vcov[~keep], vcov[:, ~keep] = np.nan, np.nan, np.nan
        T, known = self._engine.factors(run.theta), self._overlaps.get(bool(reml), ())
        return Estimates(
            bool(reml),
            self._held.n,
            objective,
            run.theta.copy(),
            beta,
            vcov,
            sigma,
            T,
            self._engine.modes(b),
            keep,
            singular_directions(T, self._engine.reduced),
            run.status == "converged",
            run.certificate,
            evals,
            seconds,
            run.status,
            self._core.deviation(),
            unidentified=tuple([found.message for found in known]),
            lost=sum([found.lost for found in known]),
        )


class _Run(NamedTuple):
    """The end of one start."""

    theta: np.ndarray
    objective: float
    certificate: float
    left: float  # what the criterion may still fall, or is not known
    evals: int
    status: str
    phi: np.ndarray | None = None
    delta: np.ndarray | None = None  # of a residual structure

    def rank(self) -> tuple[bool, float]:
        """Lowest objective first; what is not a number last."""
        return np.isnan(self.objective), self.objective


def _starts(runs: Sequence[_Run]) -> Starts:
    ends = [(run.objective, run.theta, run.status == "converged") for run in runs]
    return Starts(*map(np.array, zip(*ends, strict=True)))


def _agree(runs: Sequence[_Run]) -> bool:
    """Whether all starts ended at one optimum."""
    found = [run.objective for run in runs if run.status == "converged"]
    return not found or max(found) - min(found) < CERTIFIED


@dataclass(frozen=True)
class _LastResponse:
    """What `many` leaves in the compiled model: a response that nobody keeps, and these weights."""

    weights: Any


def _note_many_effects(design: Design) -> None:
    """As many random effects as rows: what they vary and what is left can hardly be told apart."""
    for term in design.terms:
        effects = len(term.levels) * term.source.width
        plain = term.covariance is None and term.relation is None
        if plain and effects >= design.n > len(term.levels):
            what = (
                f"({term.label}) has {effects} random effects for {design.n} rows: its variances "
                "are hard to tell from the residual variance"
            )
            warn(IdentifiabilityWarning(what, variable=term.group, term=term.label))


def _check_range(sigma: float, beta: np.ndarray, vcov: np.ndarray) -> None:
    """Units so large or small that variances leave the range of numbers are refused."""
    fits = 0 < sigma * sigma < math.inf and np.isfinite(beta).all() and np.isfinite(vcov).all()
    if not (fits and (vcov.diagonal()[beta != 0] > 0).all()):
        raise FitError(OUT_OF_RANGE)
