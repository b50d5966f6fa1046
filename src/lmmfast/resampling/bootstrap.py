"""Bootstrap of a fit: replicates, and what they say of its parameters."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import tables
from ..effects import range_of
from ..engine.options import MAX_EVALS
from ..errors import ConvergenceWarning, FitError, warn
from ..fit import Fit
from ..inference.ddf import check_choice, check_level
from ..inference.intervals.parameters import Parameter, chosen, parameters_of, values_of
from ..inference.refits import model_of
from ..many.asked import Asked, asked
from ..many.columns import numbers_of
from ..many.fits import ManyFits, fits_of
from ..many.job import Job, checked_count, checked_threads
from ..many.jobs import run_job
from ..many.parameters import Parameters
from ..many.run import ColumnsJob
from ..many.simulate import Simulator
from ..many.streams import Streams
from ..plots import results as _pictures
from ..typing import AxesLike, BootstrapLimits, ParameterNames
from . import intervals
from .cases import Cases, grouping
from .draws import Drawn, WithReplacement
from .jackknife import jackknife

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd

KINDS = ("parametric", "residual", "cases")


@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap(tables.Printed):
    """Replicates of a fit; ``fit.bootstrap`` makes them.

    A replicate that was not fitted, or did not converge, is a row like the others: ``fits.status``
    says why. What is read off replicates leaves out those without numbers, and says how many.

    Attributes
    ----------
    fit : LMMFit
    kind : str
        "parametric", "residual" or "cases".
    seed : int
        Gives the same replicates again.
    fits : ManyFits
        Objective, beta, se, theta, sigma, status of each replicate.
    by : str or None
        The grouping factor whose levels were drawn, of "cases".
    names : tuple of str
        Of the parameters, then of the statistic's numbers.
    estimates : (k,) array
        Of the fit.
    replicates : (n, k) array
        Of each replicate.
    """

    fit: Fit
    kind: str
    seed: int
    fits: ManyFits
    by: str | None
    names: tuple[str, ...]
    estimates: np.ndarray
    replicates: np.ndarray

    def __len__(self) -> int:
        return len(self.replicates)

    @property
    def n_failed(self) -> int:
        """Replicates without a fit, or whose fit did not converge."""
        return int((~self.fits.converged).sum())

    @cached_property
    def is_singular(self) -> np.ndarray:
        """(n,) Whether the replicate's fit has a combination of random effects without variance."""
        entries = self.fit.model.theta_entries
        diagonal = [i for i, (_, row, column) in enumerate(entries) if row == column]
        return np.asarray((self.fits.theta[:, diagonal] == 0).any(axis=1))

    @property
    def se(self) -> pd.Series:
        """Standard deviations of the replicates."""
        return self._series(np.nanstd(self.replicates, axis=0, ddof=1), "se")

    @property
    def bias(self) -> pd.Series:
        """Mean of the replicates minus the estimates."""
        return self._series(np.nanmean(self.replicates, axis=0) - self.estimates, "bias")

    def _series(self, values: np.ndarray, name: str) -> pd.Series:
        import pandas as pd

        return pd.Series(values, index=list(self.names), name=name)

    def to_frame(self) -> pd.DataFrame:
        """One row a replicate: the parameters, ``objective``, ``converged``, ``status``."""
        import pandas as pd

        found = pd.DataFrame(self.replicates, columns=list(self.names))
        more = {name: getattr(self.fits, name) for name in ("objective", "converged", "status")}
        return found.assign(**more)

    def plot(
        self,
        parameters: ParameterNames = "all",
        *,
        level: float = 0.95,
        kind: str = "percentile",
        axes: AxesLike | None = None,
    ) -> np.ndarray:
        """Draws densities of the replicates, estimates and intervals: `lmmfast.plots.bootstrap`.

        Parameters
        ----------
        parameters, level, kind : optional
            As for `conf_int`.
        axes : sequence of matplotlib axes, optional
            One a parameter. Default: a new figure.

        Returns
        -------
        (k,) array of matplotlib axes

        Raises
        ------
        ImportError
            Without matplotlib, when no axes are given.
        """
        return _pictures.bootstrap(self, parameters, level=level, kind=kind, axes=axes)

    def conf_int(
        self,
        level: float = 0.95,
        *,
        kind: BootstrapLimits = "percentile",
        parameters: ParameterNames = "all",
    ) -> pd.DataFrame:
        """Confidence intervals.

        Parameters
        ----------
        level : float, default 0.95
            Coverage of the intervals.
        kind : {"percentile", "basic", "normal", "studentized", "bca"}
            Davison & Hinkley 1997, *Bootstrap Methods and their Application*, chapter 5. "normal":
            estimate minus bias, standard deviation of the replicates. "studentized": quantiles of
            (replicate - estimate) / standard error; for fixed effects alone, others are missing.
            "bca": bias-corrected and accelerated (Efron 1987), the acceleration by the jackknife
            over the levels of each grouping factor, which are as many samples (Davison & Hinkley,
            5.3.2).
        parameters : {"fixed", "random", "all"} or list of str, default "all"
            As ``fit.conf_int``; "all" includes the statistic's numbers.

        Returns
        -------
        pandas.DataFrame
            Columns ``lower`` and ``upper``.

        Raises
        ------
        ValueError
            For arguments that mean nothing, and fewer than two replicates with numbers.
        """
        import pandas as pd

        check_level(level)
        check_choice("kind", kind, intervals.KINDS)
        if kind == "studentized" and self.fit.family is not None:
            raise FitError(
                "studentized intervals need a standard error of each replicate, which fits of "
                'generalized models compute on request only: write kind="bca" or "percentile"'
            )
        places = self._places(parameters)
        own = self.replicates[:, places]
        estimates = self.estimates[places]
        self._note_missing(own)
        if kind == "studentized":
            limits = intervals.studentized(estimates, own, *self._errors(places), level)
        elif kind == "bca":
            limits = intervals.bca(estimates, own, self._acceleration(places), level)
        else:
            limits = intervals.LIMITS[kind](estimates, own, level)
        names = [self.names[i] for i in places]
        return pd.DataFrame(limits, index=names, columns=["lower", "upper"])

    def _places(self, parameters: Any) -> list[int]:
        every = parameters_of(self.fit)
        if isinstance(parameters, str) and parameters == "all":
            return list(range(len(self.names)))
        extra = self.names[len(every) :]
        named = [parameters] if isinstance(parameters, str) else list(parameters)
        own = [name for name in named if name in extra and name not in self.names[: len(every)]]
        rest: Any = [name for name in named if name not in own]
        if isinstance(parameters, str) and not own:
            rest = parameters
        found = [every.index(one) for one in chosen(every, rest)] if rest else []
        return found + [len(every) + extra.index(name) for name in own]

    def _note_missing(self, own: np.ndarray) -> None:
        bad = int(np.isnan(own).any(axis=1).sum())
        if len(own) - bad < 2:
            raise ValueError(f"{len(own)} replicates, {bad} without numbers: more are needed")
        short = self.n_failed
        if bad or short:
            warn(
                ConvergenceWarning(
                    f"of {len(own)} replicates {short} did not converge and {bad} lack numbers "
                    "(a correlation without variance is one); these are left out: see fits.status"
                )
            )

    def _errors(self, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Standard errors of the fit (k,) and of the replicates (n, k); NaN where not known."""
        every = parameters_of(self.fit)
        one, many = np.full(len(places), np.nan), np.full((len(self), len(places)), np.nan)
        for k, place in enumerate(places):
            if place < len(every) and every[place].is_fixed:
                i = every[place].i
                one[k] = np.sqrt(self.fit.estimates.vcov[i, i])
                many[:, k] = self.fits.se[:, i]
        return one, many

    @cached_property
    def _accelerations(self) -> np.ndarray:
        """Of the parameters (k,): levels of each grouping factor are a sample (Davison & Hinkley
        1997, eq. 5.27). NaN for a statistic's numbers."""
        groups = dict.fromkeys(term.group for term in self.fit.design.terms)
        cubes, squares = 0.0, 0.0
        for group in [self.by] if self.by else groups:
            found = jackknife(self.fit, group)
            good = np.isfinite(found.values) & (found.status == "converged")[:, None]
            m = good.sum(axis=0)
            values = np.where(good, found.values, 0.0)
            d = np.where(good, values.sum(axis=0) / np.maximum(m, 1) - values, 0.0)
            share = (m - 1) / np.maximum(m, 1)  # empirical influence values over m
            cubes = cubes + share**3 * (d**3).sum(axis=0)
            squares = squares + share**2 * (d**2).sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            found_a = np.where(squares > 0, cubes / (6 * squares**1.5), 0.0)
        return np.concatenate([found_a, np.full(len(self.names) - len(found_a), np.nan)])

    def _acceleration(self, places: Sequence[int]) -> np.ndarray:
        every = len(parameters_of(self.fit))
        if any(place >= every for place in places):
            raise ValueError(
                'kind="bca" is for parameters: the jackknife of a statistic is not known; choose '
                'parameters= or kind="percentile"'
            )
        return np.asarray(self._accelerations[list(places)])

    def summary(self) -> tables.Summary:
        """Estimates, bias, standard errors and percentile intervals."""
        limits = intervals.LIMITS["percentile"](self.estimates, self.replicates, 0.95)
        columns = (self.estimates, self.bias.to_numpy(), self.se.to_numpy(), *limits.T)
        rows = tuple(
            (name, *(tables.general(float(column[i])) for column in columns))
            for i, name in enumerate(self.names)
        )
        heads = ("", "estimate", "bias", "SE", "2.5 %", "97.5 %")
        what = f" of levels of {self.by}" if self.by else ""
        title = f"{len(self):,} {self.kind} bootstrap replicates{what}, {self.fits.formula}"
        singular = int(self.is_singular.sum())
        how = f"{self.n_failed} did not converge, {singular} singular; seed {self.seed}"
        return tables.Summary(((title,), (tables.Table(heads, rows, 1), how)))


def bootstrap(
    fit: Fit,
    n: int,
    seed: Any,
    kind: str,
    statistic: Callable[[Any], Any] | None,
    by: Any,
    threads: int,
    client: Any,
    checkpoint: Any,
    re: str = "new",
) -> Bootstrap:
    """As ``LMMFit.bootstrap`` documents it."""
    count, threads = checked_count(n), checked_threads(threads)
    check_choice("kind", kind, KINDS)
    check_choice("re", re, ("new", "fixed"))
    if re == "fixed" and kind != "parametric":
        raise ValueError(f're="fixed" is for kind="parametric": a {kind} bootstrap draws levels')
    if by is not None and kind != "cases":
        raise ValueError(f'by= is for kind="cases": a {kind} bootstrap draws all factors')
    streams = Streams(seed)
    first = None if statistic is None else first_of(statistic, fit)
    want = asked(
        fit.design,
        None,
        "z",
        fit.reml,
        MAX_EVALS,
        start=None if fit.estimates.free is None else fit.theta,  # else moments are closer
        free=fit.estimates.free,
        kind=type(fit),
        statistic=statistic,
        width=0 if first is None else len(first[1]),
    )
    group = grouping(fit.design, by) if kind == "cases" else None
    job = _job(fit, kind, re, group, want, streams, count)
    began = time.perf_counter()
    found = run_job(job, threads=threads, client=client, checkpoint=checkpoint, what="bootstrap")
    seconds = time.perf_counter() - began
    rows = np.full(count, fit.nobs)
    fits = fits_of(fit.model, range(count), rows, want, found, seconds)
    every = parameters_of(fit)
    estimates = values_of(every, fit)
    replicates = values_of_all(every, fit, fits)
    names = tuple(one.name for one in every)
    if first is not None:
        names += first[0]
        estimates = np.concatenate([estimates, first[1]])
        replicates = np.hstack([replicates, found["statistic"]])
    return Bootstrap(fit, kind, streams.seed, fits, group, names, estimates, replicates)


def _job(
    fit: Fit, kind: str, re: str, group: str | None, want: Asked, streams: Streams, count: int
) -> Job:
    model = model_of(fit)
    if group is not None:
        return Cases(model, group, want, streams, count)
    if kind == "residual":
        return ColumnsJob(model, WithReplacement(fit.design, fit.estimates, streams), want, count)
    assumed = Parameters().of(fit.design, model.theta_entries, fit.estimates)
    simulator = Simulator.of_design(fit.design, assumed, fit.estimates.delta)
    if re == "fixed":
        simulator = simulator.with_modes(fit.estimates.b)
    return ColumnsJob(model, Drawn(simulator, streams), want, count)


def first_of(statistic: Callable[[Any], Any], fit: Fit) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of what a statistic returns, and its numbers of the fit."""
    if not callable(statistic):
        raise TypeError(f"statistic must be a function of a fit, not {statistic!r}")
    value = statistic(fit)
    numbers = numbers_of(value)
    if isinstance(value, dict):
        return tuple(str(name) for name in value), numbers
    if hasattr(value, "columns"):
        return tuple(f"{row}, {name}" for row in value.index for name in value.columns), numbers
    if hasattr(value, "index") and hasattr(value, "to_numpy"):
        return tuple(f"{name}" for name in value.index), numbers
    name = getattr(statistic, "__name__", "statistic").replace("<lambda>", "statistic")
    return tuple([name] if len(numbers) == 1 else [f"{name}[{i}]" for i in range(len(numbers))]), (
        numbers
    )


def values_of_all(
    every: Sequence[Parameter], fit: Fit, fits: ManyFits, extra: np.ndarray | None = None
) -> np.ndarray:
    """The parameters of many fits (n, k); correlations with a variance of zero are missing. extra
    (n, r): those of the distributions of generalized models."""
    T = [np.zeros((len(fits), len(t), len(t))) for t in fit.estimates.T]
    for k, (term, row, column) in enumerate(fit.model.theta_entries):
        T[term][:, row, column] = fits.theta[:, k]
    sizes = [np.sqrt((t * t).sum(axis=2)) for t in T]
    out: np.ndarray = np.empty((len(fits), len(every)))
    residual: Any = getattr(fits, "residual", None)
    for k, one in enumerate(every):
        if one.kind == "fixed":
            out[:, k] = fits.beta[:, one.i]
        elif one.kind == "sigma":
            out[:, k] = fits.sigma
        elif one.kind == "residual":
            out[:, k] = residual[:, one.i]
        elif one.kind == "extra":
            out[:, k] = np.nan if extra is None else extra[:, one.i]
        elif one.kind == "sd":
            out[:, k] = fits.sigma * sizes[one.term][:, one.i]
        elif one.kind == "loading":
            out[:, k] = fits.sigma * T[one.term][:, one.i, one.j]
        else:
            product = (T[one.term][:, one.i] * T[one.term][:, one.j]).sum(axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                share = product / (sizes[one.term][:, one.i] * sizes[one.term][:, one.j])
            share = np.clip(share, -1, 1)
            if one.of is not None:  # a range, which a correlation tells
                share = [range_of(one.of, one.i, one.j, float(own))[0] for own in share]
            out[:, k] = share
    return out
