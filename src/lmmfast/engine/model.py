"""The model as a machine: a Design and its compiled cross-products; objective, fit, refit, lmer."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _core
from ..errors import (
    ConvergenceWarning,
    DataError,
    FitError,
    IdentifiabilityWarning,
    RankDeficientWarning,
    warn,
)
from ..fit import Estimates, Evaluation, singular_directions
from .compiled import Engine
from .identify import Overlap, overlaps
from .options import check_callback, check_reml, seconds, whole
from .starts import Starts, random_theta
from .watch import Watch

if TYPE_CHECKING:
    from ..data.design import Design
    from ..results import LMMFit
    from ..sources.cross import CrossProducts

__all__ = ["LMM", "lmer"]

MOST_EVALS = 10**9  # no fit lasts so long
MOST_STARTS = 100_000
MAX_EVALS = 500  # far above any fit seen (48): a limit for the pathological
CERTIFIED = 1e-6  # predicted decrease above which a fit is not called converged
RESOLUTION = 1e-3  # the same for the bound of the rounding error of the objective
MOST_THREADS = 1024  # no machine gains from more, and each takes a stack
MOST_FIXED = 20_000  # columns of X: a dense cross-product of 3.2 GB
MOST_RANDOM = 2_000  # columns of one random term: two million variance parameters

_NOT_CERTIFIED = {
    "evaluation limit": "the objective can still fall by about {left}",
    "out of time": "the objective can still fall by about {left}",
    "limited by rounding": "the residual variance is so small beside the random effects' that the "
    "objective is only known to {left}; do the random effects fit the response exactly?",
}


class LMM:
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

    def __init__(self, design: Design, *, storage: str = "auto", threads: int = 1) -> None:
        self.design = design
        self._storage = storage
        self._lock = threading.RLock()
        self._y = design.sums.response()
        self._theirs = False  # does the compiled model hold another response than the design's?
        _check_width(design)
        self._engine = Engine(design, self._y, storage)
        self._core = self._engine.core
        self._overlaps: dict[bool, tuple[Overlap, ...]] = {}
        self.threads = threads
        _MODELS.add(self)
        rank = int(self._core.keep.sum())
        if design.n <= rank:
            raise FitError(
                f"{design.n} rows cannot estimate {rank} fixed effects and a residual "
                "variance: use more rows or a smaller formula"
            )
        _note_dropped_columns(design, self._core.keep)
        _note_many_effects(design)

    @classmethod
    def from_arrays(
        cls,
        y: Any,
        X: Any,
        terms: Sequence[tuple[Any, ...]],
        weights: Any = None,
        offset: Any = None,
        *,
        storage: str = "auto",
        threads: int = 1,
    ) -> LMM:
        """A model from arrays, without a formula and without pandas.

        Parameters
        ----------
        y : (n,) array
            Response.
        X : (n, p) array
            Fixed-effects columns, the intercept included.
        terms : sequence of (codes, columns) or (codes, columns, structure)
            Random terms: ``codes`` (n,) are the levels 0 .. m-1, ``columns`` (n, k) the random
            columns (None: an intercept), ``structure`` "full" (default) or "diag".
        weights : (n,) array, optional
            Positive; the residual variance of a row is sigma^2 / weight.
        offset : (n,) array, optional
            Added to the linear predictor.
        storage, threads
            As for ``LMM``.

        Returns
        -------
        LMM

        Raises
        ------
        DataError
            When shapes differ, values are not finite, weights not positive or codes have gaps.

        Examples
        --------
        >>> import numpy as np
        >>> from lmmfast import LMM
        >>> rng = np.random.default_rng(1)
        >>> codes = np.repeat(np.arange(10), 5)
        >>> y = rng.normal(size=10)[codes] + rng.normal(size=50)
        >>> fit = LMM.from_arrays(y, np.ones((50, 1)), [(codes, None)]).fit()
        >>> fit.converged
        True
        """
        from ..data.arrays import design_of

        return cls(design_of(y, X, terms, weights, offset), storage=storage, threads=threads)

    @classmethod
    def from_cross_products(
        cls, cross: CrossProducts, *, storage: str = "auto", threads: int = 1
    ) -> LMM:
        """The model of cross-products; its rows are not needed.

        Parameters
        ----------
        cross : CrossProducts
        storage, threads
            As for ``LMM``.

        Returns
        -------
        LMM

        Raises
        ------
        DataError
            When there are no rows, or a grouping factor has fewer than two levels.

        Examples
        --------
        >>> from lmmfast import LMM, CrossProducts, Spec, datasets
        >>> data = datasets.load("sleepstudy")
        >>> spec = Spec.from_data("Reaction ~ Days + (Days | Subject)", data)
        >>> fit = LMM.from_cross_products(CrossProducts.from_frame(data, spec)).fit()
        >>> round(fit.objective, 4)
        1743.6283
        """
        from ..sources.design import design_of

        return cls(design_of(cross), storage=storage, threads=threads)

    def with_design(self, design: Design) -> LMM:
        """A model of another design that is stored and run as this one."""
        return type(self)(design, storage=self._storage, threads=self._threads)

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle holds the design; cross-products are made anew."""
        return _again, (self.design, self._storage, self._threads)

    @property
    def ntheta(self) -> int:
        """Number of variance parameters in theta."""
        return int(self._core.ntheta)

    @property
    def theta_entries(self) -> list[tuple[int, int, int]]:
        """For each parameter of theta: its term, and its row and column in the term's factor T."""
        return self._engine.theta_entries()

    @property
    def storage(self) -> dict[str, Any]:
        """How the cross-products are stored: eliminated factors, the trailing matrix, bytes."""
        return dict(self._core.report)

    @property
    def threads(self) -> int:
        """Threads of evaluations and fits; may be set at any time."""
        return self._threads

    @threads.setter
    def threads(self, count: int) -> None:
        whole = isinstance(count, (int, np.integer)) and not isinstance(count, bool)
        if not whole or not 1 <= count <= MOST_THREADS:
            raise ValueError(f"threads must be a whole number, 1 to {MOST_THREADS}, not {count!r}")
        self._core.use_threads(int(count))
        self._threads = int(count)

    # ---- evaluation ------------------------------------------------------------------------------

    def _use(self, y: np.ndarray | None) -> None:
        """Makes the compiled model hold y (None: the design's response)."""
        if y is None and not self._theirs:
            return
        self._theirs = True
        self._core.response(*self._engine.source(self._y if y is None else y))
        self._theirs = y is not None

    def objective(
        self, theta: Any, *, reml: bool = True, gradient: bool = False, hessian: bool = False
    ) -> Any:
        """REML criterion or deviance at theta, with exact gradient and curvature if asked for.

        Parameters
        ----------
        theta : (ntheta,) array
            Relative Cholesky parameters as in ``Estimates.theta``.
        reml : bool, default True
        gradient, hessian : bool, default False
            Whether to return derivatives too. The curvature is the average information of
            Gilmour, Thompson and Cullis (1995) in theta, plus its boundary term; it equals the
            Hessian in expectation, not exactly.

        Returns
        -------
        float, or tuple
            The criterion alone, or followed by the gradient (ntheta,) and the curvature
            (ntheta, ntheta), as asked for.

        Raises
        ------
        FitError
            When the criterion is not finite at theta.
        """
        own = self._engine.to_core(theta)
        with self._lock:
            self._use(None)
            with _finite():
                f, g, H = self._core.objective(own, reml=reml, gradient=gradient, hessian=hessian)
        order = self._engine.order
        asked: list[Any] = [f]
        if gradient:
            asked.append(g[order])
        if hessian:
            asked.append(H[np.ix_(order, order)])
        return asked[0] if len(asked) == 1 else tuple(asked)

    def condvar(self, theta: Any) -> tuple[np.ndarray, ...]:
        """Conditional covariances of the random effects over sigma^2, given theta.

        Parameters
        ----------
        theta : (ntheta,) array

        Returns
        -------
        tuple of (m, k, k) arrays
            Per term: the diagonal blocks of Lambda M^-1 Lambda' (Bates et al. 2015, eq. 58).
        """
        own = self._engine.to_core(theta)
        with self._lock, _finite():
            blocks = self._core.estimates(own, condvar=True)[5]
        return self._engine.conditional_variances(blocks)

    def monte_carlo(self, theta: Any, *, reml: bool = True) -> tuple[float, np.ndarray]:
        """What chance adds to an iterative model: its log-determinant and gradient are estimated.

        Parameters
        ----------
        theta : (ntheta,) array
            The optimum of a fit.
        reml : bool, default True

        Returns
        -------
        se : float
            Standard error of the objective.
        cov : (ntheta, ntheta) array
            Covariance of the theta that a fit finds, over the random vectors: H^-1 Cov(g) H^-1.
            The data's own uncertainty comes on top; it is usually a thousand times larger. So does
            where the minimizer stopped, up to sqrt(certificate) of the data's standard errors,
            which can be the larger of the two where the levels of the factors meet at random.
            Zero for exact models, NaN where the curvature H is not positive definite.

        Raises
        ------
        FitError
            When the objective is not finite at theta.
        """
        own = self._engine.to_core(theta)
        with self._lock:
            self._use(None)
            with _finite():
                se, cov = self._core.montecarlo(own, reml=reml)
        order = self._engine.order
        return float(se), cov[np.ix_(order, order)]

    def projection(
        self, theta: Any, *, reml: bool = True
    ) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """What derivatives of ``vcov`` and of the residual sum of squares are made of.

        With V = I + sum Z T T'Z' over all terms (relative to sigma^2, rows scaled by the square
        roots of the weights).

        Parameters
        ----------
        theta : (ntheta,) array
        reml : bool, default True
            Of the fit; the result does not depend on it, but is at hand at a fit's own theta.

        Returns
        -------
        G : tuple of (m, k, p) arrays
            Per term: Z'V^-1 X (X'V^-1 X)^-1, zero for dropped columns of X.
        g : tuple of (m, k) arrays
            Per term: Z'V^-1 (y - X beta).
        """
        own = self._engine.to_core(theta)
        with self._lock:
            self._use(None)
            with _finite():
                G, g = self._core.projection(own, reml=reml)
        return self._engine.projection(G, g)

    # ---- fit -------------------------------------------------------------------------------------

    def fit(
        self,
        *,
        reml: bool = True,
        start: Any = None,
        verbose: bool = False,
        callback: Callable[[Evaluation], object] | None = None,
        max_seconds: float | None = None,
        max_evals: int = MAX_EVALS,
        starts: int = 0,
    ) -> LMMFit:
        """Minimizes the REML criterion or the deviance.

        Parameters
        ----------
        reml : bool, default True
        start : (ntheta,) array, optional
            First theta. Default: moment estimates.
        verbose : bool, default False
            One line an evaluation on stderr.
        callback : callable, optional
            Called with an ``Evaluation`` after each; a true result stops the fit.
        max_seconds : float, optional
            Stop after this time with the best so far.
        max_evals : int, default 500
            Of each start.
        starts : int, default 0
            So many more starts at random theta, always the same ones. The best end is the fit;
            ``fit.starts`` says where the others ended.

        Returns
        -------
        LMMFit
            Marked not converged when it was stopped.

        Raises
        ------
        FitError
            When the objective is not finite at the start, or its derivatives are not.
        TypeError, ValueError
            When an option means nothing, in words.
        KeyboardInterrupt
            On Ctrl-C, between two evaluations.
        """
        options = _Options(
            reml, start, verbose, callback, max_seconds, max_evals, starts, time.perf_counter()
        )
        return self._fit(options)

    def _fit(self, options: _Options) -> LMMFit:
        from ..results import LMMFit

        if not self._core.report["identified"]:
            self._check_identified(bool(options.reml))
        with self._lock:
            self._use(None)
            estimates = self._minimize(options.reml, options.start, options.watch, options)
        return LMMFit(estimates, self.design, self)

    def refit(self, fit: LMMFit, y: Any) -> LMMFit:
        """The same model fitted to another response, from the theta of an earlier fit.

        Parameters
        ----------
        fit : LMMFit
            A fit of this model.
        y : (n,) array, or Series
            One value for each row that the fit used, in their order. A Series goes by its labels:
            those of the rows used, or of all rows of the data.

        Returns
        -------
        LMMFit

        Raises
        ------
        DataError
            When y has another length, labels of other rows, or values that are not finite.
        FitError
            When y leaves no residual variance.
        """
        from ..results import LMMFit

        y = _new_response(y, self.design)
        with self._lock:
            try:
                self._use(_response(y, self.design.offset))
                estimates = self._minimize(fit.reml, fit.theta, Watch())
            except _core.NoVariance:
                raise FitError(
                    "the new response is a linear combination of the fixed effects"
                ) from None
        return LMMFit(estimates, self.design.with_rows(y=y), self)

    def at(self, theta: Any, *, reml: bool = True) -> LMMFit:
        """The model at a given theta: estimates, modes and criterion without minimizing.

        Parameters
        ----------
        theta : (ntheta,) array
        reml : bool, default True

        Returns
        -------
        LMMFit
            Its ``certificate`` is what a step of length one (in units of the curvature) is
            predicted to gain; it is called
            converged when that is below 1e-6.

        Raises
        ------
        FitError
            When the criterion is not finite at theta.
        """
        from ..results import LMMFit
        from .within import scaled_step

        began = time.perf_counter()
        own = self._engine.to_core(theta)
        with self._lock:
            _, slope, information = self.objective(theta, reml=reml, gradient=True, hessian=True)
            gain = scaled_step(slope, information, 1.0)[2]
            status = "converged" if gain <= CERTIFIED else "theta was given, not fitted"
            estimates = self._estimates(reml, own, gain, 1, began, status)
        return LMMFit(estimates, self.design, self)

    def fit_within(self, fixed: Any, basis: Any, *, reml: bool = True, start: Any = None) -> LMMFit:
        """Minimizes over theta = fixed + basis @ z: values held, or parameters that are equal.

        Parameters
        ----------
        fixed : (ntheta,) array
            What is held: the theta of z = 0.
        basis : (ntheta, nz) array
            A column of the identity leaves a parameter free; a column with several ones makes
            parameters equal.
        reml : bool, default True
        start : (nz,) array, optional
            Default: the z nearest to the unconstrained optimum.

        Returns
        -------
        LMMFit
            Its certificate is within the constraint.

        Raises
        ------
        FitError
            When the criterion is not finite at the start.
        """
        from ..results import LMMFit
        from .within import minimize_within

        began = time.perf_counter()
        fixed, basis = np.asarray(fixed, np.float64), np.asarray(basis, np.float64)
        if basis.shape[1] == 0:
            return self.at(fixed, reml=reml)
        with self._lock:
            self._use(None)
            if start is None:
                free = self._core.fit(None, reml=reml)[0][self._engine.order]
                start = np.linalg.lstsq(basis, free - fixed, rcond=None)[0]
            found = minimize_within(self, fixed, basis, np.asarray(start, np.float64), reml)
            theta, certificate, evals = found
            status = "converged" if certificate <= CERTIFIED else "evaluation limit"
            if status in _NOT_CERTIFIED:
                why = _NOT_CERTIFIED[status].format(left=f"{certificate:.2g}")
                warn(ConvergenceWarning(f"{status}: {why}"))
            own = self._engine.to_core(theta)
            estimates = self._estimates(reml, own, certificate, evals, began, status)
        return LMMFit(estimates, self.design, self)

    def _minimize(
        self, reml: bool, start: Any, watch: Watch, options: _Options | None = None
    ) -> Estimates:
        """The estimates at the minimum, from one start or several."""
        first = None if start is None else self._engine.to_core(start)
        most, more = (options.max_evals, options.starts) if options else (MAX_EVALS, 0)
        began = time.perf_counter()
        best = self._run(first, reml, watch, began, most)
        starts, evals = None, best.evals
        if more:
            runs = [best, *self._more_runs(more, reml, watch, began, most)]
            best = min(runs, key=_Run.rank)
            starts, evals = self._starts(runs), sum(run.evals for run in runs)
        if best.status in _NOT_CERTIFIED:
            left = f"{best.left:.2g}" if best.left < np.inf else "any amount"
            why = _NOT_CERTIFIED[best.status].format(left=left)
            warn(ConvergenceWarning(f"{best.status}: {why}"))
        found = self._estimates(reml, best.theta, best.certificate, evals, began, best.status)
        return found if starts is None else replace(found, starts=starts)

    def _check_identified(self, reml: bool) -> None:
        """Parameters that cannot be told apart are refused, or named in a warning."""
        if reml not in self._overlaps:
            self._overlaps[reml] = overlaps(self.design, self._engine, reml)
        for found in self._overlaps[reml]:
            term = self.design.terms[found.terms[0]]
            if found.kind == "refused":
                raise DataError(found.message, variable=term.group, term=term.label)
            if found.kind == "warned":
                warning = IdentifiabilityWarning(
                    found.message, variable=term.group, term=term.label
                )
                warn(warning)

    def _run(
        self, first: np.ndarray | None, reml: bool, watch: Watch, began: float, max_evals: int
    ) -> _Run:
        """One start followed to its end."""
        try:
            theta, objective, certificate, rounding, evals, status = self._core.fit(
                first, reml=reml, maxeval=max_evals, callback=watch.active(began)
            )
        except _core.Unsolved:
            raise _unsolved() from None
        except _core.NotFinite:
            raise _not_finite() from None
        except _core.NotPositiveDefinite:
            raise FitError(
                "the objective is not finite at the starting value: check the response and the "
                "predictors for extreme values"
            ) from None
        status = watch.reason or status
        if status == "converged" and not _is_certified(certificate, *rounding):
            status = "limited by rounding"
        return _Run(theta, objective, certificate, max(certificate, *rounding), evals, status)

    def _more_runs(
        self, count: int, reml: bool, watch: Watch, began: float, max_evals: int
    ) -> Iterator[_Run]:
        """Random starts, until one is stopped. One that fails ends nowhere."""
        for number in range(count):
            if watch.reason:
                return
            try:
                yield self._run(random_theta(self._engine, number), reml, watch, began, max_evals)
            except FitError:
                yield _Run(np.full(self.ntheta, np.nan), np.nan, np.inf, np.inf, 0, "failed")

    def _starts(self, runs: Sequence[_Run]) -> Starts:
        """Where they ended, in the formula's order."""
        return Starts(
            np.array([run.objective for run in runs]),
            np.array([run.theta[self._engine.order] for run in runs]),
            np.array([run.status == "converged" for run in runs]),
        )

    def _estimates(
        self,
        reml: bool,
        theta: np.ndarray,
        certificate: float,
        evals: int,
        began: float,
        status: str,
    ) -> Estimates:
        """Everything that follows from theta (in the core's order)."""
        try:
            objective, beta, vcov, sigma, b, _ = self._core.estimates(theta, reml=reml)
        except _core.NotPositiveDefinite:
            raise FitError(
                "the residual variance goes to zero: the random effects fit the response exactly; "
                "take columns or terms out"
            ) from None
        seconds = time.perf_counter() - began
        keep = self._core.keep
        _check_range(sigma, beta, vcov)
        if not keep.all():
            beta[~keep] = np.nan
            vcov[~keep] = np.nan
            vcov[:, ~keep] = np.nan
        T = self._engine.factors(theta)
        return Estimates(
            bool(reml),
            self.design.n,
            objective,
            theta[self._engine.order],
            beta,
            vcov,
            sigma,
            T,
            self._engine.modes(b),
            keep,
            singular_directions(T),
            status == "converged",
            certificate,
            evals,
            seconds,
            status,
            self._core.deviation(),
            unidentified=tuple(found.message for found in self._overlaps.get(bool(reml), ())),
        )


def _is_certified(certificate: float, bound: float, noise: float) -> bool:
    """Is the criterion at its minimum, and known? bound: of its rounding error; noise: as seen."""
    return certificate <= CERTIFIED and noise <= CERTIFIED and bound <= RESOLUTION


class _Run(NamedTuple):
    """The end of one start."""

    theta: np.ndarray  # the core's order
    objective: float
    certificate: float
    left: float  # what the criterion may still fall, or is not known
    evals: int
    status: str

    def rank(self) -> tuple[bool, float]:
        """Lowest objective first; what is not a number last."""
        return np.isnan(self.objective), self.objective


@dataclass
class _Options:
    """The options of a fit, checked, and when it was asked for."""

    reml: Any
    start: Any
    verbose: Any
    callback: Any
    max_seconds: Any
    max_evals: Any
    starts: Any
    began: float

    def __post_init__(self) -> None:
        check_reml(self.reml)
        check_callback(self.callback)
        self.max_evals = whole("max_evals", self.max_evals, 1, MOST_EVALS)
        self.starts = whole("starts", self.starts, 0, MOST_STARTS)
        limit = seconds("max_seconds", self.max_seconds)
        self.watch = Watch(self.verbose, self.callback, limit, self.began)


_ELSEWHERE = {
    "REML": "write reml=False for maximum likelihood",
    "groups": "the formula has the random effects, as in lme4; lmmfast.mixedlm takes groups=",
    "family": "only linear mixed models are fitted",
    "control": "there is one optimizer, and it certifies its optimum: nothing needs to be set",
    "subset": "select the rows of the data beforehand",
    "na_action": "rows with missing values are dropped and counted",
}


def _unknown_argument(name: str) -> TypeError:
    hint = _ELSEWHERE.get(name, "see help(lmmfast.lmer)")
    return TypeError(f"lmer() has no argument {name!r}: {hint}")


def lmer(
    formula: str | CrossProducts,
    data: Any = None,
    *,
    reml: bool = True,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    start: Any = None,
    verbose: bool = False,
    callback: Callable[[Evaluation], object] | None = None,
    max_seconds: float | None = None,
    max_evals: int = MAX_EVALS,
    starts: int = 0,
    storage: str = "auto",
    threads: int = 1,
    **unknown: Any,
) -> LMMFit:
    """Fit a linear mixed-effects model.

    Parameters
    ----------
    formula : str or CrossProducts
        lme4's syntax: ``"rt ~ cond + (1 + cond | subj) + (1 | item)"``. ``||`` sets every
        correlation of its term to zero, those among the columns of a factor too (lme4 keeps them).
        Of cross-products the formula and the rows are known: ``lmer(cross)``.
    data : pandas, polars or pyarrow table, dict of arrays, file, or a source that is streamed
        Rows with a missing value in a variable of the formula are dropped and counted. Text files
        (.csv, .tsv, .txt, packed or not; one, a pattern such as ``"data/*.csv"`` or a list) are
        read whole where that fits in memory; empty fields and NA, N/A, #N/A, NaN are missing
        values. Sources are read twice, in chunks, and never held in memory: larger text files,
        Parquet and Arrow files (a path, a pattern, a list, a directory of Parquet files), pyarrow
        datasets, DuckDB relations, Dask data frames, lists of frames, and functions that return an
        iterator of frames.
    reml : bool, default True
        Restricted maximum likelihood; False for maximum likelihood.
    weights : str or (n,) array, optional
        Precision weights: the residual variance of a row is sigma^2 / weight. A column's name, or
        one value for each row of the data: arrays in the order of the rows, a Series by its labels
        where its index is not that of the data (refused where these do not say whose is whose).
    offset : str or (n,) array, optional
        Known part of the linear predictor, besides ``offset()`` terms; given as `weights`.
    contrasts : dict, optional
        Coding of factors by name, as in ``{"cond": "sum"}``: "treatment" (another reference by
        "treatment(base='b')"), "sum", "helmert", "poly", "SAS", "sdif" (neighbours), "deviation"
        (levels against the first, around the mean of all), or a matrix with one row per level.
    start : (ntheta,) array, optional
        First theta. Default: moment estimates.
    verbose : bool, default False
        One line an evaluation on stderr.
    callback : callable, optional
        Called with an ``Evaluation`` after each; a true result stops the fit.
    max_seconds : float, optional
        Stop this long after the call with the best so far, marked not converged. Reading and
        setting up count, but are not interrupted: at least one evaluation is made.
    max_evals : int, default 500
        Of each start.
    starts : int, default 0
        So many more starts at random theta, always the same ones: a likelihood may have several
        optima. The best is returned; ``fit.starts`` says where the others ended.
    storage : {"auto", "dense", "sparse", "iterative"}, default "auto"
        How the matrix is held that is left when the first grouping factor is eliminated;
        ``lmmfast.plan`` shows what each way takes. "auto": the fastest that fits.
    threads : int, default 1
        Threads of the fit. The result is identical for any number.

    Returns
    -------
    LMMFit

    Raises
    ------
    FormulaError, DataError, FitError
        What is wrong, in which variable, and what to do.
    MemoryError
        When the model would not fit in the memory that is available.

    Examples
    --------
    >>> from lmmfast import datasets, lmer
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> round(fit.objective, 4)
    1743.6283
    """
    if unknown:
        raise _unknown_argument(next(iter(unknown)))
    options = _Options(
        reml, start, verbose, callback, max_seconds, max_evals, starts, time.perf_counter()
    )
    design = design_from(formula, data, weights, offset, contrasts)
    return LMM(design, storage=storage, threads=threads)._fit(options)


def _renew_locks() -> None:
    """In a forked child, where threads that held a lock are not there to give it back."""
    for model in list(_MODELS):
        model._lock = threading.RLock()
        model._core.renew_lock()


_MODELS: weakref.WeakSet[LMM] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def _again(design: Design, storage: str, threads: int) -> LMM:
    return LMM(design, storage=storage, threads=threads)


def design_from(
    formula: Any,
    data: Any,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
) -> Design:
    """The design of what `lmer` is given: a frame, a source that is streamed, cross-products."""
    from ..data.design import build

    usual = type(data).__module__.partition(".")[0] in ("pandas", "polars") or type(data) is dict
    if usual and isinstance(formula, str) and type(data).__name__ != "LazyFrame":
        return build(formula, data, weights=weights, offset=offset, contrasts=contrasts)
    from ..sources.fit import any_design

    return any_design(formula, data, weights, offset, contrasts)


@contextmanager
def _finite() -> Iterator[None]:
    """What the compiled model refuses at a theta, in words."""
    try:
        yield
    except _core.Unsolved:
        raise _unsolved() from None
    except _core.NotFinite:
        raise _not_finite() from None
    except _core.NotPositiveDefinite:
        raise FitError("the objective is not finite at this theta") from None
    except _core.Unavailable:
        raise FitError(
            "conditional variances need an exact factorization of the trailing matrix: "
            'storage="dense" or "sparse", if there is memory for it (lmmfast.plan)'
        ) from None


def _not_finite() -> FitError:
    return FitError(
        "the derivatives of the criterion are not finite: check the response and the predictors "
        "for extreme values"
    )


def _unsolved() -> FitError:
    return FitError(
        "conjugate gradients did not converge in 1,000 iterations: the grouping factors hardly "
        'cross; storage="sparse" or "dense" is exact (lmmfast.plan shows what they take)'
    )


def _response(y: np.ndarray, offset: np.ndarray | None) -> np.ndarray:
    own: np.ndarray = np.ascontiguousarray(y if offset is None else y - offset, np.float64)
    return own


def _new_response(given: Any, design: Design) -> np.ndarray:
    rows = design.sums.rows("a fit to another response")
    from ..data.alignment import aligned_to_fit
    from ..data.arrays import floats_of

    role = "the new response"
    if isinstance(given, str):
        raise DataError(
            f"{role} must be values, not a name: the fit keeps no other columns of the data; "
            f"write fit.refit(data[{given!r}])",
            variable=given,
        )
    y: np.ndarray = np.array(floats_of(aligned_to_fit(given, design, role), role))
    if y.shape != rows.y.shape:
        raise DataError(
            f"the new response has shape {y.shape}; the fit used {design.n} rows "
            "(rows with missing values were dropped: see design.rows)",
            variable=design.response,
        )
    if not np.isfinite(y).all():
        raise DataError(
            "the new response has values that are not finite",
            variable=design.response,
            rows=np.flatnonzero(~np.isfinite(y))[:10].tolist(),
        )
    return y


def _check_width(design: Design) -> None:
    """Dense columns have a limit; more of them are levels of a grouping factor."""
    if not design.terms:
        raise FitError("the model has no random term")
    widths = [("the fixed effects", design.fixed.width, MOST_FIXED)]
    widths += [(f"({term.label})", term.source.width, MOST_RANDOM) for term in design.terms]
    for what, columns, most in widths:
        if columns > most:
            raise FitError(
                f"{what} have {columns} columns, more than the {most} that can be fitted"
            )


def _note_many_effects(design: Design) -> None:
    """As many random effects as rows: what they vary and what is left can hardly be told apart."""
    n = design.n
    for term in design.terms:
        effects = len(term.levels) * term.source.width
        if effects >= n > len(term.levels):
            warn(
                IdentifiabilityWarning(
                    f"({term.label}) has {effects} random effects for {n} rows: its variances are "
                    "hard to tell from the residual variance",
                    variable=term.group,
                    term=term.label,
                )
            )


def _check_range(sigma: float, beta: np.ndarray, vcov: np.ndarray) -> None:
    """Units so large or small that variances leave the range of numbers are refused."""
    with np.errstate(over="ignore", under="ignore"):
        fits = np.isfinite(beta).all() and np.isfinite(vcov).all()
        fits = fits and 0 < sigma**2 < np.inf and (vcov.diagonal()[beta != 0] > 0).all()
    if not fits:
        raise FitError(
            "variances are too large or too small for floating-point numbers: measure the response "
            "and the predictors in other units"
        )


def _note_dropped_columns(design: Design, keep: np.ndarray) -> None:
    if keep.all():
        return
    dropped = [name for name, kept in zip(design.x_names, keep, strict=True) if not kept]
    warn(
        RankDeficientWarning(
            f"the fixed effects are linearly dependent: {len(dropped)} of {len(keep)} columns are "
            f"dropped and reported as missing: {', '.join(dropped)}",
            variable=dropped[0],
        )
    )
