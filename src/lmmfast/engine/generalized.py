"""Generalized linear mixed models: a design, a family, and their compiled form.

eta = o + X beta + Z b,  Cov(b of a level) = T T',  y ~ family(eta, x), with x the family's own
parameters (log dispersion, log size, thresholds), all of them without bounds. What is minimized is
f = -2 log-likelihood, by Laplace's approximation, with its next order if asked for, or adaptive
quadrature, and with all constants, jointly in psi = (theta, beta, x); or -2 log restricted
likelihood, in which beta is integrated out (`restricted`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from .. import _core
from ..data.design import Design
from ..data.rows import Rows
from ..errors import FitError, silenced
from ..memory import in_file
from .compiled import OUT_OF_RANGE, Engine
from .corrected import STEP, CorrectedPoint, correction_of, differences, maximum
from .endings import STATUS, note_ending, standing_still, why_undefined
from .estimates import singular_directions
from .families import Family, find_family
from .generalized_checks import (
    check_family,
    check_predictors,
    check_random,
    check_thresholds,
    checked_accuracy,
    checked_reml,
    note_identification,
)
from .generalized_estimates import GeneralizedEstimates, Run
from .generalized_point import GeneralizedPoint
from .generalized_structured import Within, maximum_within, minimum_within
from .machine import note_dropped_columns
from .options import MAX_EVALS, Options, Watch, whole
from .priors import precisions, priors
from .psi_parts import PsiMachine
from .restricted import Restricted, RestrictedPoint, check_restricted, restricted_minimum
from .second_order import SecondOrder
from .separation import separation
from .starts import Starts
from .structured import structured
from .units import units

if TYPE_CHECKING:
    from typing_extensions import Self
else:
    from ..late import Self

CERTIFIED = 1e-6  # predicted decrease above which a fit is not called converged, deviance units
MOST_NODES = 100  # of a quadrature, in each direction

_NOT_FINITE = "the likelihood is not finite at these parameters"


class GeneralizedModel(PsiMachine):
    """A generalized linear mixed model and its data, ready to be evaluated and fitted.

    Parameters
    ----------
    design : Design
        Of a generalized model: its response has been read for the family.
    family : Family, str or other packages' family, default "binomial"
        Distribution and link.
    link : str, optional
        Default: the family's first one.
    storage : {"auto", "dense", "sparse"}, default "auto"
        How the matrix is held that is left when the first grouping factor is eliminated.
    threads : int, default 1
        Results are identical for any number.
    nagq : int, default 1
        Nodes of adaptive Gauss-Hermite quadrature in each direction; 1: Laplace's approximation.
    information : {"observed", "expected"}, default "observed"
        Which weights stand in Laplace's log-determinant: those of the log-density itself, as in
        glmmTMB, or their expectation, as in lme4. They differ for links that are not canonical.
    prior : dict or float, optional
        Standard deviations, or pairs of mean and standard deviation, of normal priors on
        coefficients by name; one number for all but the intercept.
    accuracy : {"laplace", "second-order"}, default "laplace"
        Whether -2 log-likelihood, with its derivatives, has the next order (`SecondOrder`).
    reml : bool, default False
        Restricted likelihood: the fixed effects are integrated out, too, over a flat prior. Only
        with nagq=1, observed information, no prior and accuracy="laplace".

    Raises
    ------
    FitError
        When there is no random term, there are too few rows, the random effects have too many
        directions for quadrature, or there is no restricted likelihood.
    MemoryError
        When the factorization would not fit in the memory that is available.
    """

    def __init__(
        self,
        design: Design,
        family: Any = "binomial",
        link: str | None = None,
        *,
        storage: str = "auto",
        threads: int = 1,
        nagq: int = 1,
        information: str = "observed",
        prior: Any = None,
        accuracy: str = "laplace",
        reml: bool = False,
    ) -> None:
        if information not in ("observed", "expected"):
            raise ValueError(f"information must be 'observed' or 'expected', not {information!r}")
        self.information = information
        self.prior = priors(prior, design.x_names)
        self.nagq = whole("nagq", nagq, 1, MOST_NODES)
        self.accuracy = checked_accuracy(accuracy, self.nagq, information)
        if storage == "iterative":
            raise ValueError(
                "a generalized model needs an exact factorization: storage='dense' or 'sparse'"
            )
        self.family: Family = find_family(family, link)
        if design.outcome is not None and design.outcome.classes:
            self.family = self.family.with_levels(design.outcome.levels)  # type: ignore[attr-defined]
        check_random(design, self.nagq, self.accuracy)
        self.reml = checked_reml(reml)
        if self.reml:
            check_restricted(
                design,
                nagq=(self.nagq, 1),
                information=(information, "observed"),
                prior=(prior if self.prior else None, None),
                accuracy=(accuracy, "laplace"),
            )
        check_family(self.family, design, information)
        self._compile(design, storage, threads, self._made(design, merge=True))
        self.structured = structured(self._engine)
        self._held: Any = design.sums  # whose response and weights the compiled model has
        self._uses = 0  # of `_filled`, one inside the other
        self._merge = True  # whether equal rows may be one
        self._is_copy = False  # of another process's model
        size = int(self._core.keep.sum()) + int(self._core.nextra)
        if design.n <= size:
            raise FitError(
                f"{design.n} rows cannot estimate {size} fixed effects and parameters of the "
                "family: use more rows or a smaller formula"
            )
        note_dropped_columns(design, self._core.keep)
        if self.classes:
            check_thresholds(design, np.asarray(self._core.keep, bool))
        note_identification(design, self.family)

    def _made(self, design: Design, merge: bool) -> Any:
        """What makes the compiled model: the response is not shifted by the offset here.

        With `merge` rows that are equal may be kept once. Rows that do not fit in memory go to
        files.
        """
        rows = design.rows_for("a generalized model needs its rows")
        own: dict[str, Any] = {"family": self.family.core_family, "link": self.family.core_link}
        classes = 0 if design.outcome is None else design.outcome.classes
        own |= {"classes": classes, "nagq": self.nagq, "information": self.information}
        own |= {"merge": merge, "elsewhere": partial(in_file, what="the rows of the model")}
        if self.prior:
            own["prior"] = precisions(self.prior, design.x_names)

        def make(_: Any, X: Any, factors: Any, weights: Any, limit: float, **how: Any) -> Any:
            def plain(X: Any, factors: Any, offset: Any, limit: float, **more: Any) -> Any:
                given = {"offset": offset, **own, **how, **more}
                return _core.Generalized(rows.y, X, factors, weights, limit, **given)

            if self.reml:
                return Restricted(plain, design, X, factors, rows.offset, limit)
            return plain(X, factors, rows.offset, limit)

        return make

    def _options(self) -> dict[str, Any]:
        own = {"family": self.family, "nagq": self.nagq, "information": self.information}
        own |= {"accuracy": self.accuracy, "prior": self.prior or None, "reml": self.reml}
        return super()._options() | own

    def with_design(self, design: Design, **other: Any) -> Self:
        """A model of another design that is run as this one, but for what is given; priors of
        columns that are gone are, too."""
        kept = {name: own for name, own in self.prior.items() if name in design.x_names}
        make: Any = type(self)
        return make(design, **self._options() | {"prior": kept or None} | other)  # type: ignore[no-any-return]

    def by_criterion(self, reml: bool) -> Self:
        """The model of the same design by likelihood, or restricted likelihood."""
        if reml == self.reml:
            return self
        make: Any = type(self)
        return make(self.design, **self._options() | {"reml": reml})  # type: ignore[no-any-return]

    @cached_property
    def second_order(self) -> SecondOrder:
        """What Laplace's approximation lacks, for this model."""
        return SecondOrder(self)

    @property
    def is_corrected(self) -> bool:
        """Whether it is in the criterion."""
        return self.accuracy == "second-order"

    @property
    def within(self) -> Within:
        """psi as a function of what moves where terms have covariance structures."""
        return Within(self)

    # ---- psi -------------------------------------------------------------------------------------

    def checked(self, psi: Any) -> np.ndarray:
        """A psi of the right length with finite values (NaN in dropped columns is zero)."""
        out: np.ndarray = np.array(psi, np.float64)
        if out.shape != (self.size,):
            raise ValueError(
                f"psi (theta, beta, parameters of the family) needs shape ({self.size},), not "
                f"{out.shape}"
            )
        p = len(self.design.x_names)
        out[self.ntheta : self.ntheta + p][~self._core.keep] = 0.0
        if not np.isfinite(out).all():
            raise ValueError(f"psi has values that are not finite: {out}")
        return out

    @property
    def _is_plain(self) -> bool:
        """Whether the approximation is Laplace's with observed information, as it is by default."""
        return (
            self.information == "observed"
            and self.nagq == 1
            and not (self.reml or self.is_corrected)
        )

    def units(self, psi: np.ndarray, eta: np.ndarray) -> np.ndarray:
        """(size,) changes of each parameter from psi for which the curvature is about one: a guess,
        in which steps begin. eta (n,) is the predictor there."""
        return units(self, psi, eta)

    # ---- evaluation ------------------------------------------------------------------------------

    @contextmanager
    def _filled(self, sums: Any) -> Iterator[Any]:
        """The compiled model with the response and weights of other rows; None: its own. They stay
        until others are asked for, and come back after a use inside this one."""
        with self._lock, _in_words():
            if self._is_copy:
                self._compile_again(self._merge)
            before = self._held
            self._fill(self.design.sums if sums is None else sums)
            self._uses += 1
            try:
                yield self._core
            finally:
                self._uses -= 1
                if self._uses and before is not None:
                    self._fill(before)

    def _fill(self, wanted: Any) -> None:
        if wanted is not self._held:
            self._held = None  # while neither is whole
            try:
                self._core.again(wanted.y, wanted.weights)
            except _core.Unavailable:  # rows that were equal are so no more
                self._compile_again(merge=False)
                self._core.again(wanted.y, wanted.weights)
            self._held = wanted

    def _compile_again(self, merge: bool) -> None:
        """Who reads the model that there was goes on with that."""
        with silenced():  # what is to be said of the columns was said
            self._engine = Engine(self.design, self._storage, self._made(self.design, merge))
        self._core = self._engine.core
        self.structured = structured(self._engine)
        self._held = self.design.sums
        self._merge, self._is_copy = merge, False
        self.threads = self._threads

    def _after_fork(self) -> None:
        """Rows in files are those of the parent, which may be reading them."""
        self._is_copy = self._core.outside > 0

    @contextmanager
    def standing(self, psi: np.ndarray, sums: Any = None) -> Iterator[Any]:
        """The compiled model, evaluated at psi; `sums` as for `point`."""
        with self._filled(sums) as core:
            core.value(psi)
            yield core

    @overload
    def objective(
        self, psi: ArrayLike, *, gradient: Literal[False] = ..., sums: Rows | None = ...
    ) -> float: ...

    @overload
    def objective(
        self, psi: ArrayLike, *, gradient: Literal[True], sums: Rows | None = ...
    ) -> tuple[float, np.ndarray]: ...

    def objective(
        self, psi: ArrayLike, *, gradient: bool = False, sums: Rows | None = None
    ) -> float | tuple[float, np.ndarray]:
        """-2 log-likelihood at psi (and what priors add), with its exact gradient if asked for;
        restricted likelihood does not depend on beta.

        Parameters
        ----------
        psi : (size,) array
            theta, beta of all columns of X, parameters of the family.
        gradient : bool, default False
            Whether to return the exact gradient too.
        sums : Rows, optional
            Another response and other weights of the same rows; default: the design's.

        Returns
        -------
        float, or (float, (size,) array)
            The gradient is zero for dropped columns.

        Raises
        ------
        FitError
            When the likelihood is not finite at psi.
        """
        psi = self.checked(psi)
        with self._filled(sums) as core:
            found: Any = core.value(psi, gradient)
            if not self.is_corrected:
                return found  # type: ignore[no-any-return]
            more = self.correction(psi, gradient=gradient, sums=sums)
        return (found[0] + more[0], found[1] + more[1]) if gradient else found + more

    value = objective

    def correction(
        self, psi: ArrayLike, *, gradient: bool = False, sums: Rows | None = None
    ) -> Any:
        """What the next order of Laplace's approximation adds to -2 log-likelihood at psi.

        Parameters and errors as of `objective`; the gradient is by central differences, in the
        parameters that move freely.
        """
        psi = self.checked(psi)
        at = correction_of(self, sums, quick=True)
        with self._filled(sums) as core:
            value = correction_of(self, sums)(psi)
            if not gradient:
                return value
            core.value(psi)
            steps = STEP * self.units(psi, core.predictor())
            return value, differences(at, psi, np.where(self.free(psi), steps, 0.0))

    def point(self, psi: Any, sums: Any = None, phi: np.ndarray | None = None) -> GeneralizedPoint:
        """The model at psi, to be read: derivatives, modes, leverages; sums as for `objective`.

        phi (nphi,): parameters of covariance structures that have this theta.
        """
        kind = CorrectedPoint if self.is_corrected else GeneralizedPoint
        kind = RestrictedPoint if self.reml else kind
        return kind(self, self.checked(psi), sums, phi)

    def uncorrected(
        self, psi: Any, sums: Any = None, phi: np.ndarray | None = None
    ) -> GeneralizedPoint:
        """The same of the criterion that the compiled model has, without a correction."""
        return GeneralizedPoint(self, self.checked(psi), sums, phi)

    # ---- fit -------------------------------------------------------------------------------------

    def minimize(self, options: Options, held: Any = None) -> GeneralizedEstimates:
        """The estimates at the maximum of the likelihood.

        Parameters
        ----------
        options : Options
            As of linear models; `start` is psi, or a dict with some of theta, beta and extra.
        held : (size,) bool array, optional
            Which parameters keep the values that they have in `start`, which is psi then.
        """
        with self._filled(None):
            how = {"maxeval": options.max_evals, "held": held}
            return self._minimize(options.start, options.watch, None, how)

    def minimum(self, psi: np.ndarray, held: np.ndarray) -> float:
        """-2 log-likelihood at the best of what is not held at its value in psi."""
        with self._filled(None) as core:
            if self.reml:
                return restricted_minimum(self, self.checked(psi), held)
            best, found = core.minimize(psi, held=held)
            if not self.is_corrected:
                return float(found["objective"])
            return maximum(self, best, None, held, MAX_EVALS, None, found["neval"])[1].value

    def again(
        self, sums: Any, *, start: Any = None, max_evals: int = MAX_EVALS
    ) -> GeneralizedEstimates:
        """The estimates for another response and other weights of the same rows (`Rows`), without
        a new set-up. The offset stays."""
        with self._filled(sums):
            return self._minimize(start, Watch(), sums, {"maxeval": max_evals})

    def estimates_at(self, psi: Any) -> GeneralizedEstimates:
        """What the model says at a given psi, without minimizing."""
        began = time.perf_counter()
        psi = self.checked(psi)
        phi = None if self.structured is None else self.within.phi(psi[: self.ntheta])
        point = self.point(psi, phi=phi)
        psi = np.array(point.psi)  # beta is another one by restricted likelihood
        gain = point.gain()
        status = "converged" if gain <= CERTIFIED else "psi was given, not fitted"
        with self.standing(psi):
            run = Run(psi, point.value, gain, 0.0, 1, 1, 1, status, phi)
            return self._estimates(run, began)

    def _minimize(
        self, start: Any, watch: Watch, sums: Any, how: dict[str, Any]
    ) -> GeneralizedEstimates:
        """The end of a fit, with what the compiled model is filled with."""
        began = time.perf_counter()
        try:
            first = self._start(start)
            psi, info, phi, starts = self._least(first, watch, began, how)
        except _core.NotPositiveDefinite as error:
            why = why_undefined(
                error, self._core.obstacle(), self.family, self._is_plain, start is not None
            )
            raise FitError(why, variable=self.design.response) from None
        check_predictors(self.design, self.split(np.asarray(psi))[1])
        if not np.isfinite(psi).all():
            raise FitError(OUT_OF_RANGE)
        status = watch.reason or STATUS.get(info["status"], info["status"])
        if status == "converged" and info["certificate"] > CERTIFIED:
            status = standing_still(info["certificate"], self._core.obstacle(), self.family)
        if self.is_corrected and status == "converged":
            given = (np.array(psi), phi), info, watch.active(began), sums, how
            (psi, phi), info = self._improved(*given)
            status = watch.reason or info["status"]
        run = Run(
            np.array(psi),
            float(info["objective"]),
            float(info["certificate"]),
            float(info["mode"]),
            int(info["neval"]),
            int(info["factorizations"]),
            int(info["passes"]),
            status,
            phi,
            starts,
        )
        found = self._estimates(run, began, sums)
        note_ending(found, self._design_of(sums), self.family, self._is_plain)
        return found

    def _least(
        self, first: np.ndarray | None, watch: Watch, began: float, how: dict[str, Any]
    ) -> tuple[np.ndarray, dict[str, Any], np.ndarray | None, Starts | None]:
        """The minimum of the compiled criterion: psi, how it ended, phi, and several starts."""
        callback = watch.active(began)
        if self.structured is not None:
            return minimum_within(self, first, callback, how, watch)
        return *self._core.minimize(first, callback=callback, **how), None, None

    def _improved(
        self, at: tuple[np.ndarray, Any], info: dict[str, Any], watch: Any, sums: Any, how: Any
    ) -> tuple[tuple[np.ndarray, Any], dict[str, Any]]:
        """psi and phi at the maximum of the corrected likelihood, from Laplace's, and how it
        ended."""
        held = how.get("held")
        held = np.zeros(self.size, bool) if held is None else np.asarray(held, bool)
        limits = sums, held, how["maxeval"], watch, info["neval"]
        if at[1] is None:
            psi, end = maximum(self, at[0], *limits)
            at = psi, None
        else:
            at, end = maximum_within(self, at[1], at[0], *limits)
        factorizations, passes = self._core.work()
        took = {"neval": end.evals, "factorizations": factorizations, "passes": passes}
        own = {"objective": end.value, "certificate": end.gain, "status": end.status}
        return at, info | took | own

    def _start(self, start: Any) -> np.ndarray | None:
        """The psi that a fit begins with; None: the core's own."""
        if start is None:
            return None
        if not isinstance(start, Mapping):
            return self.checked(start)
        parts = ("theta", "beta", "extra")
        if not start or not set(start) <= set(parts):
            raise ValueError(f"start must be psi, or a dict with some of {', '.join(parts)}")
        if set(start) < set(parts):  # what is not given is as where fits begin
            psi, _ = self._core.minimize(None, maxeval=1)
        else:
            psi = np.zeros(self.size)
        whole = list(self.split(np.asarray(psi)))
        for i, name in enumerate(parts):
            if name not in start:
                continue
            own = np.atleast_1d(np.asarray(start[name], np.float64))
            if own.shape != whole[i].shape:
                raise ValueError(f"start[{name!r}] needs shape {whole[i].shape}, not {own.shape}")
            whole[i] = own
        return self.checked(np.concatenate(whole))

    def free(self, psi: np.ndarray) -> np.ndarray:
        """(size,) bool: the parameters in which f moves freely at psi: all but those of dropped
        columns, those of columns of T that are zero, beta by restricted likelihood, and parameters
        of the family at its limit."""
        theta, _, extra = self.split(psi)
        T = self._engine.factors(theta)
        varied = [bool(T[i][:, c].any()) for i, _, c in self.theta_entries]
        kept = np.asarray(self._core.keep, bool) & (not self.reml)
        return np.concatenate([np.array(varied, bool), kept, ~self.family.at_limit(extra)])

    def _design_of(self, sums: Any) -> Design:
        return self.design if sums is None else replace(self.design, sums=sums)

    def _penalty(self, beta: np.ndarray) -> float:
        """What the priors add to the criterion: -2 log-density without constants."""
        if not self.prior:
            return 0.0
        mean, precision = precisions(self.prior, self.design.x_names)
        return float(precision[self._core.keep] @ (beta - mean)[self._core.keep] ** 2)

    def _estimates(self, run: Run, began: float, sums: Any = None) -> GeneralizedEstimates:
        """Everything that follows from the psi of a run, where the compiled model stands."""
        if self.is_corrected or self.reml:
            self._core.value(run.psi)
        modes, eta = self._engine.modes(self._core.modes()), np.asarray(self._core.predictor())
        theta, beta, extra = self.split(run.psi)
        keep = np.asarray(self._core.keep, bool)
        T = self._engine.factors(theta)
        b = tuple(own * t.any(axis=1) for own, t in zip(modes, T, strict=True))
        design = self._design_of(sums)
        found = separation(design, self.family, eta, extra, keep)
        if any(name in self.prior for name in found):
            found = ()  # the prior has a limit there
        penalty = self._penalty(beta)
        return GeneralizedEstimates(
            reml=self.reml,
            n=self.design.n,
            objective=run.objective - penalty,
            theta=theta.copy(),
            beta=np.where(keep, beta, np.nan),
            sigma=1.0,
            T=T,
            b=b,
            fixed_kept=keep,
            singular=singular_directions(T, self._engine.reduced),
            converged=run.status == "converged",
            certificate=float(run.certificate),
            n_evals=run.evals,
            seconds=time.perf_counter() - began,
            status=run.status,
            extra=extra.copy(),
            point=self.point(run.psi, sums, run.phi),
            mode_certificate=float(run.mode),
            factorizations=run.factorizations,
            passes=run.passes,
            separation=found,
            nagq=self.nagq,
            information=self.information,
            penalty=penalty,
            accuracy=self.accuracy,
            rows=int(self._core.rows),
            outside=float(self._core.outside),
            phi=run.phi,
            starts=run.starts,
        )


@contextmanager
def _in_words() -> Iterator[None]:
    """What the compiled model refuses, as a FitError."""
    try:
        yield
    except _core.NotPositiveDefinite:
        raise FitError(_NOT_FINITE) from None
