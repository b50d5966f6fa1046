"""The model as a machine: a Design and its compiled cross-products; objective, fit, refit, lmer."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core
from .errors import ConvergenceWarning, DataError, FitError, RankDeficientWarning

if TYPE_CHECKING:
    from .design import Design
    from .results import LMMFit

__all__ = ["LMM", "Estimates", "Evaluation", "Singular", "lmer"]

MAX_EVALS = 500  # far above any fit seen (48): a limit for the pathological
MEMORY_SHARE = 0.9  # of the memory that is available now, which a model may take


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the objective during a fit, as callbacks receive it.

    Attributes
    ----------
    n : int
        Number of this evaluation, from 1.
    objective, best : float
        REML criterion or deviance here, and the lowest so far.
    radius : float
        Trust radius, in units of whitened theta.
    predicted : float
        Decrease that the local model promised for this step (nan for the first).
    seconds : float
        Time since the fit began.
    """

    n: int
    objective: float
    best: float
    radius: float
    predicted: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Singular:
    """What has no variance in one random term.

    Attributes
    ----------
    term : int
        Index of the term in ``design.terms``.
    zero : tuple of int
        Columns whose variance is exactly zero.
    direction : (k,) array
        A combination of the columns, in the user's coordinates, that has no variance.
    """

    term: int
    zero: tuple[int, ...]
    direction: np.ndarray


@dataclass(frozen=True, eq=False)
class Estimates:
    """The numbers of a fit as arrays, in the user's units and coding.

    Attributes
    ----------
    reml : bool
    n : int
        Rows used.
    objective : float
        REML criterion or deviance (-2 log likelihood).
    theta : (ntheta,) array
        Relative Cholesky parameters: by term in the formula's order, column-major lower triangle
        (uncorrelated terms: the diagonal).
    beta, vcov : (p,) and (p, p) arrays
        Fixed effects and their covariance; NaN for dropped columns.
    sigma : float
        Residual standard deviation of a row with weight 1.
    T : tuple of (k, k) arrays
        Per term: Cov(b of a level) = sigma^2 T T'.
    b : tuple of (m, k) arrays
        Per term: conditional modes, levels x columns.
    fixed_kept : (p,) bool array
    singular : tuple of Singular
        One for each term that has a direction without variance.
    converged : bool
    certificate : float
        Decrease of the objective that its slope and curvature still predict, deviance units.
    n_evals : int
    seconds : float
    status : str
        "converged", "stopped by callback", "out of time" or "evaluation limit".
    """

    reml: bool
    n: int
    objective: float
    theta: np.ndarray
    beta: np.ndarray
    vcov: np.ndarray
    sigma: float
    T: tuple[np.ndarray, ...]
    b: tuple[np.ndarray, ...]
    fixed_kept: np.ndarray
    singular: tuple[Singular, ...]
    converged: bool
    certificate: float
    n_evals: int
    seconds: float
    status: str


@dataclass(frozen=True)
class _Place:
    """Where a term's columns and parameters are in the compiled model."""

    factor: int
    kept: tuple[int, ...]  # independent columns of the term
    first: int  # first of them among the factor's columns
    theta: slice  # its parameters in the core's theta


class LMM:
    """A linear mixed model and its data, ready to be evaluated and fitted.

    After construction memory does not depend on the number of rows except for the arrays of the
    design that it refers to. Methods may be called from several threads: calls on one model wait
    for each other, calls on different models run in parallel without the GIL.

    Parameters
    ----------
    design : Design
        Made by ``lmmfast.design.build``; see also ``LMM.from_arrays``.

    Raises
    ------
    FitError
        When the response leaves no residual variance, or there are no degrees of freedom.
    MemoryError
        When the factorization would not fit in the memory that is available, with its size.
    """

    def __init__(self, design: Design) -> None:
        self.design = design
        self._lock = threading.RLock()
        self._y = _response(design.y, design.offset)
        self._theirs = False  # does the compiled model hold another response than the design's?
        _check_rows(design)
        self._kept = [tuple(range(term.z.shape[1])) for term in design.terms]
        self._factors = self._gather()
        self._core = self._compile()
        self._places = self._locate()
        rank = int(self._core.keep.sum())
        if len(design.y) <= rank:
            raise FitError(
                f"{len(design.y)} rows cannot estimate {rank} fixed effects and a residual "
                "variance: use more rows or a smaller formula"
            )
        _note_dropped_columns(design, self._core.keep)

    @classmethod
    def from_arrays(
        cls,
        y: Any,
        X: Any,
        terms: Sequence[tuple[Any, ...]],
        weights: Any = None,
        offset: Any = None,
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
        from .arrays import design_of

        return cls(design_of(y, X, terms, weights, offset))

    # ---- compiled model --------------------------------------------------------------------------

    def _gather(self) -> list[list[int]]:
        """Terms of each grouping factor: terms that share a codes array share a factor."""
        factors: dict[int, list[int]] = {}
        for i, term in enumerate(self.design.terms):
            factors.setdefault(id(term.codes), []).append(i)
        return list(factors.values())

    def _factor_arrays(self, terms: list[int]) -> _core.Factor:
        """codes, number of levels, columns side by side, and which term each column is of."""
        parts: list[np.ndarray] = []
        owner: list[int] = []
        for i in terms:
            term, kept = self.design.terms[i], self._kept[i]
            parts.append(term.z if len(kept) == term.z.shape[1] else term.z[:, kept])
            diagonal = term.structure == "diag"
            owner += [len(owner) + j if diagonal else -i - 1 for j in range(len(kept))]
        z = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        first = self.design.terms[terms[0]]
        return first.codes, len(first.levels), np.ascontiguousarray(z), np.array(owner, np.int32)

    def _rows(
        self, y: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, list[_core.Factor], np.ndarray | None]:
        factors = [self._factor_arrays(terms) for terms in self._factors]
        return y, self.design.X, factors, self.design.weights

    def _compile(self) -> Any:
        """The compiled model; dependent random columns are dropped one by one, with a warning."""
        while True:
            try:
                return _core.Model(*self._rows(self._y), _memory_limit())
            except _core.Dependent as error:
                self._drop(*error.args)
            except _core.NoVariance:
                raise FitError(
                    f"the response {self.design.response!r} is a linear combination of the fixed "
                    "effects: no residual variance is left to model",
                    variable=self.design.response,
                ) from None
            except _core.TooLarge as error:
                raise MemoryError(
                    f"the model needs {error.args[0] / 1e9:.1f} GB, more than the "
                    f"{_memory_limit() / 1e9:.1f} GB that may be used; grouping factors: "
                    + ", ".join(f"{t.group} ({len(t.levels)} levels)" for t in self.design.terms)
                ) from None

    def _drop(self, factor: int, column: int) -> None:
        columns = [(i, c) for i in self._factors[factor] for c in self._kept[i]]
        i, c = columns[column]
        term = self.design.terms[i]
        if len(self._kept[i]) == 1:
            raise DataError(
                f"the only column of ({term.label}), {term.columns[c]!r}, is zero",
                variable=term.columns[c],
                term=term.label,
            )
        self._kept[i] = tuple(k for k in self._kept[i] if k != c)
        warnings.warn(
            RankDeficientWarning(
                f"column {term.columns[c]!r} of ({term.label}) is a linear combination of the "
                "others: it is dropped, its variance is reported as zero",
                variable=term.columns[c],
                term=term.label,
            ),
            stacklevel=4,
        )

    def _locate(self) -> list[_Place]:
        places: dict[int, _Place] = {}
        at = 0
        for number, terms in enumerate(self._factors):
            first = 0
            for i in terms:
                k = len(self._kept[i])
                count = k if self.design.terms[i].structure == "diag" else k * (k + 1) // 2
                places[i] = _Place(number, self._kept[i], first, slice(at, at + count))
                at, first = at + count, first + k
        return [places[i] for i in range(len(places))]

    def _to_core(self, theta: Any) -> np.ndarray:
        """theta in the formula's order to the order of the compiled model."""
        theta = np.ascontiguousarray(theta, np.float64)
        if theta.shape != (self.ntheta,):
            raise ValueError(f"theta needs shape ({self.ntheta},), not {theta.shape}")
        own: np.ndarray = np.empty_like(theta)
        own[self._order] = theta
        return own

    @property
    def _order(self) -> np.ndarray:
        """Place in the compiled model of each parameter in the formula's order."""
        places = [np.arange(p.theta.start, p.theta.stop) for p in self._places]
        return np.concatenate(places) if places else np.empty(0, int)

    @property
    def ntheta(self) -> int:
        """Number of variance parameters in theta."""
        return int(self._core.ntheta)

    @property
    def storage(self) -> dict[str, Any]:
        """How the cross-products are stored: eliminated factors, order of the dense rest, bytes."""
        return dict(self._core.report)

    # ---- evaluation ------------------------------------------------------------------------------

    def _use(self, y: np.ndarray | None) -> None:
        """Makes the compiled model hold y (None: the design's response)."""
        if y is None and not self._theirs:
            return
        self._theirs = True
        self._core.response(*self._rows(self._y if y is None else y))
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
        own = self._to_core(theta)
        with self._lock:
            self._use(None)
            try:
                f, g, H = self._core.objective(own, reml=reml, gradient=gradient, hessian=hessian)
            except _core.NotPositiveDefinite:
                raise FitError("the objective is not finite at this theta") from None
        order = self._order
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
        with self._lock:
            blocks = self._core.estimates(self._to_core(theta), condvar=True)[5]
        out = []
        for term, place in zip(self.design.terms, self._places, strict=True):
            k = term.z.shape[1]
            own = np.arange(place.first, place.first + len(place.kept))
            full = np.zeros((len(term.levels), k, k))
            full[:, np.array(place.kept)[:, None], place.kept] = blocks[place.factor][
                :, own[:, None], own
            ]
            out.append(full)
        return tuple(out)

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
    ) -> LMMFit:
        """Minimizes the REML criterion or the deviance.

        Parameters
        ----------
        reml : bool, default True
        start : (ntheta,) array, optional
            First theta. Default: 0.3 I in whitened coordinates.
        verbose : bool, default False
            One line an evaluation on stderr.
        callback : callable, optional
            Called with an ``Evaluation`` after each; a true result stops the fit.
        max_seconds : float, optional
            Stop after this time with the best so far.
        max_evals : int, default 500

        Returns
        -------
        LMMFit
            Marked not converged when it was stopped.

        Raises
        ------
        FitError
            When the objective is not finite at the start.
        KeyboardInterrupt
            On Ctrl-C, between two evaluations.
        """
        from .results import LMMFit

        with self._lock:
            self._use(None)
            watch = _Watch(verbose, callback, max_seconds)
            estimates = self._minimize(reml, start, watch, max_evals)
        return LMMFit(estimates, self.design, self)

    def refit(self, fit: LMMFit, y: Any) -> LMMFit:
        """The same model fitted to another response, from the theta of an earlier fit.

        Parameters
        ----------
        fit : LMMFit
            A fit of this model.
        y : (n,) array
            One value for each row that the fit used.

        Returns
        -------
        LMMFit

        Raises
        ------
        DataError
            When y has another length or values that are not finite.
        FitError
            When y leaves no residual variance.
        """
        from .results import LMMFit

        y = _new_response(y, self.design)
        with self._lock:
            try:
                self._use(_response(y, self.design.offset))
                estimates = self._minimize(fit.reml, fit.theta, _Watch(), MAX_EVALS)
            except _core.NoVariance:
                raise FitError(
                    "the new response is a linear combination of the fixed effects"
                ) from None
        return LMMFit(estimates, replace(self.design, y=y), self)

    def _minimize(self, reml: bool, start: Any, watch: _Watch, max_evals: int) -> Estimates:
        first = None if start is None else self._to_core(start)
        began = time.perf_counter()
        try:
            theta, _, certificate, evals, _, status = self._core.fit(
                first, reml=reml, maxeval=max_evals, callback=watch.active(began)
            )
            objective, beta, vcov, sigma, b, _ = self._core.estimates(theta, reml=reml)
        except _core.NotPositiveDefinite:
            raise FitError(
                "the objective is not finite at the starting value: check the response and the "
                "predictors for extreme values"
            ) from None
        seconds = time.perf_counter() - began
        keep = self._core.keep
        if not keep.all():
            beta[~keep] = np.nan
            vcov[~keep] = np.nan
            vcov[:, ~keep] = np.nan
        T = tuple(self._factor_of(i, theta) for i in range(len(self._places)))
        status = watch.reason or status
        if status in ("evaluation limit", "out of time"):
            warnings.warn(
                ConvergenceWarning(
                    f"stopped before the optimum was certified ({status}): the objective can "
                    f"still fall by about {certificate:.2g}"
                ),
                stacklevel=4,
            )
        return Estimates(
            bool(reml),
            len(self.design.y),
            objective,
            theta[self._order],
            beta,
            vcov,
            sigma,
            T,
            tuple(self._modes_of(i, b) for i in range(len(self._places))),
            keep,
            tuple(_singular(i, t) for i, t in enumerate(T) if (t.diagonal() == 0).any()),
            status == "converged",
            certificate,
            evals,
            seconds,
            status,
        )

    def _factor_of(self, i: int, theta: np.ndarray) -> np.ndarray:
        """T of term i (k x k lower triangular; zero rows for dropped columns)."""
        term, place = self.design.terms[i], self._places[i]
        k, kept = term.z.shape[1], len(place.kept)
        own = np.zeros((kept, kept))
        if term.structure == "diag":
            np.fill_diagonal(own, theta[place.theta])
        else:
            own.T[np.triu_indices(kept)] = theta[place.theta]
        if kept == k:
            return own
        T = np.zeros((k, k))
        T[np.ix_(place.kept, place.kept)] = own
        return T

    def _modes_of(self, i: int, b: list[np.ndarray]) -> np.ndarray:
        term, place = self.design.terms[i], self._places[i]
        k, kept = term.z.shape[1], len(place.kept)
        own = b[place.factor][:, place.first : place.first + kept]
        if kept == k:
            return own
        full = np.zeros((len(term.levels), k))
        full[:, place.kept] = own
        return full


def lmer(
    formula: str,
    data: Any,
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
) -> LMMFit:
    """Fit a linear mixed-effects model.

    Parameters
    ----------
    formula : str
        lme4's syntax: ``"rt ~ cond + (1 + cond | subj) + (1 | item)"``. ``||`` sets every
        correlation of its term to zero, those among the columns of a factor too (lme4 keeps them).
    data : pandas, polars or pyarrow table, or dict of arrays
        Rows with a missing value in a variable of the formula are dropped and counted.
    reml : bool, default True
        Restricted maximum likelihood; False for maximum likelihood.
    weights : str or (n,) array, optional
        Precision weights: the residual variance of a row is sigma^2 / weight.
    offset : str or (n,) array, optional
        Known part of the linear predictor, besides ``offset()`` terms.
    contrasts : dict, optional
        Coding of factors: ``{"cond": "sum" | "treatment" | "helmert" | "poly" | matrix}``.
    start : (ntheta,) array, optional
        First theta. Default: 0.3 I in whitened coordinates.
    verbose : bool, default False
        One line an evaluation on stderr.
    callback : callable, optional
        Called with an ``Evaluation`` after each; a true result stops the fit.
    max_seconds : float, optional
        Stop after this time with the best so far, marked not converged.
    max_evals : int, default 500

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
    from .design import build

    design = build(formula, data, weights=weights, offset=offset, contrasts=contrasts)
    return LMM(design).fit(
        reml=reml,
        start=start,
        verbose=verbose,
        callback=callback,
        max_seconds=max_seconds,
        max_evals=max_evals,
    )


class _Watch:
    """Progress line, user callback and time limit of one fit."""

    def __init__(
        self,
        verbose: bool = False,
        callback: Callable[[Evaluation], object] | None = None,
        max_seconds: float | None = None,
    ) -> None:
        self.verbose, self.callback, self.max_seconds = verbose, callback, max_seconds
        self.reason = ""

    def active(self, began: float) -> Callable[..., bool] | None:
        """The callback for the compiled fit, None when there is nothing to watch."""
        if not self.verbose and self.callback is None and self.max_seconds is None:
            return None
        return partial(self._see, began)

    def _see(
        self, began: float, n: int, objective: float, best: float, radius: float, predicted: float
    ) -> bool:
        now = Evaluation(n, objective, best, radius, predicted, time.perf_counter() - began)
        if self.verbose:
            print(
                f"{n:4d}  objective {objective:.8f}  best {best:.8f}  radius {radius:.2g}  "
                f"predicted {predicted:.2g}  {now.seconds:.3f} s",
                file=sys.stderr,
            )
        if self.callback is not None and self.callback(now):
            self.reason = "stopped by callback"
        elif self.max_seconds is not None and now.seconds > self.max_seconds:
            self.reason = "out of time"
        return bool(self.reason)


def _singular(i: int, T: np.ndarray) -> Singular:
    """What has no variance in term i, whose T has a zero on its diagonal."""
    sd = np.sqrt((T * T).sum(axis=1))
    zero = np.flatnonzero(sd == 0)
    if len(zero) == np.sum(T.diagonal() == 0):
        direction = np.zeros(len(T))
        direction[zero[0]] = 1
    else:  # null vector of the correlation matrix of the columns that vary
        vary = np.flatnonzero(sd)
        rows = T[vary] / sd[vary, None]
        direction = np.zeros(len(T))
        direction[vary] = np.linalg.svd(rows)[0][:, -1] / sd[vary]
    return Singular(i, tuple(int(j) for j in zero), direction / np.abs(direction).max())


def _response(y: np.ndarray, offset: np.ndarray | None) -> np.ndarray:
    own: np.ndarray = np.ascontiguousarray(y if offset is None else y - offset, np.float64)
    return own


def _new_response(given: Any, design: Design) -> np.ndarray:
    y: np.ndarray = np.array(given, np.float64)
    if y.shape != design.y.shape:
        raise DataError(
            f"the new response has shape {y.shape}; the fit used {len(design.y)} rows "
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


def _check_rows(design: Design) -> None:
    if not design.terms:
        raise FitError("the model has no random term")


def _note_dropped_columns(design: Design, keep: np.ndarray) -> None:
    if keep.all():
        return
    dropped = [name for name, kept in zip(design.x_names, keep, strict=True) if not kept]
    warnings.warn(
        RankDeficientWarning(
            f"the fixed effects are linearly dependent: {len(dropped)} of {len(keep)} columns are "
            f"dropped and reported as missing: {', '.join(dropped)}",
            variable=dropped[0],
        ),
        stacklevel=4,
    )


def _memory_limit() -> float:
    """Bytes that a model may take: a share of what is available now."""
    try:
        with open("/proc/meminfo", encoding="ascii") as info:
            for line in info:
                if line.startswith("MemAvailable:"):
                    return MEMORY_SHARE * 1024 * float(line.split()[1])
    except (OSError, ValueError):
        pass
    try:
        return MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # no way to know: let malloc decide
        return float("inf")
