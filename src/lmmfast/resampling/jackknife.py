"""The jackknife: a model fitted without each level of a factor."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .. import tables
from ..fit import Fit
from ..inference.ddf import mixed_only
from ..inference.intervals.parameters import parameters_of, values_in, values_of
from ..inference.rows.leaving import Leaving, are_identified_without
from ..many.job import Columns, Job, checked_threads
from ..many.jobs import run_job
from ..typing import Client
from .folds import Folds, folds_of

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Jackknife(tables.Printed):
    """Estimates without each of m levels; `jackknife` makes it.

    Attributes
    ----------
    by : str
        What is left out.
    labels : (m,) array
        The levels, one of them left out in each row.
    names : tuple of str
        Names of the r parameters: standard deviations and correlations of random effects, sigma,
        fixed effects.
    estimates : (r,) array
        From all rows.
    values : (m, r) array
        Without each level. NaN where there is none, also a correlation with a variance of zero.
    theta : (m, ntheta) array
    objective : (m,) array
    status : (m,) array of str
        How each fit ended: "converged", or why it has no numbers or not those of an optimum.
    seconds : float
    """

    formula: str
    by: str
    labels: np.ndarray
    names: tuple[str, ...]
    estimates: np.ndarray
    values: np.ndarray
    theta: np.ndarray
    objective: np.ndarray
    status: np.ndarray
    seconds: float

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_failed(self) -> int:
        """Levels whose fit did not converge: they have rows, but no part in what follows."""
        return int((self.status != "converged").sum())

    @cached_property
    def _deviations(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Number of levels and mean by parameter (r,), and mean minus values, zero for none."""
        good = np.isfinite(self.values) & (self.status == "converged")[:, None]
        m = good.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(good, self.values, 0.0).sum(axis=0) / m
        return m, mean, np.where(good, mean - self.values, 0.0)

    @property
    def bias(self) -> pd.Series:
        """``(m - 1) (mean - estimate)`` (Quenouille 1956)."""
        m, mean, _ = self._deviations
        return self._named((m - 1) * (mean - self.estimates), "bias")

    @property
    def se(self) -> pd.Series:
        """Standard errors: roots of ``(m - 1) / m`` times the sum of squares about the mean."""
        m, _, d = self._deviations
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._named(np.sqrt((m - 1) / m * (d**2).sum(axis=0)), "se")

    @property
    def acceleration(self) -> pd.Series:
        """The acceleration of BCa intervals: sum of cubes of ``mean - value`` over six times the
        3/2 power of their sum of squares (Efron 1987, eq. 6.6); zero where nothing varies."""
        m, _, d = self._deviations
        squares = (d**2).sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            a = np.where(squares > 0, (d**3).sum(axis=0) / (6 * squares**1.5), 0.0)
        return self._named(np.where(m > 0, a, np.nan), "acceleration")

    def _named(self, values: np.ndarray, name: str) -> pd.Series:
        import pandas as pd

        return pd.Series(values, index=list(self.names), name=name)

    def to_frame(self) -> pd.DataFrame:
        """One row for each level: its estimates, ``objective`` and ``status``."""
        import pandas as pd

        index = pd.Index(self.labels, name=self.by)
        frame = pd.DataFrame(self.values, index=index, columns=list(self.names))
        return frame.assign(objective=self.objective, status=self.status)

    def summary(self) -> tables.Summary:
        """Estimates, bias, standard errors, acceleration."""
        columns = (self.estimates, self.bias, self.se, self.acceleration)
        rows = tuple(
            (name, *map(tables.general, map(float, values)))
            for name, *values in zip(self.names, *columns, strict=True)
        )
        table = tables.Table(("", "estimate", "bias", "SE", "acceleration"), rows, 1)
        title = f"Jackknife over {len(self):,} levels of {self.by}, {self.formula}"
        how = f"{self.n_failed} did not converge; {tables.duration(self.seconds)}"
        return tables.Summary(((title,), (table, how)))


def jackknife(
    fit: Fit, by: str | ArrayLike, *, threads: int = 1, client: Client | None = None
) -> Jackknife:
    """Fits a model without each level of a factor: bias, standard errors, acceleration.

    All parameters are fitted anew each time, those of the random effects too, from the optimum of
    all rows. What the formula learned from all rows (means in ``scale(x)``, knots) stays.

    Parameters
    ----------
    fit : LMMFit
        Its rows must be in memory.
    by : str, or (n,) array
        A grouping factor of the model, or a label for each row of the fit or of its data.
    threads : int, default 1
        Threads that work; the result is identical for any number.
    client : concurrent.futures.Executor or dask.distributed.Client, optional
        Workers in place of threads.

    Returns
    -------
    Jackknife
        ``bias``, ``se``, ``acceleration`` by parameter; ``values`` without each level,
        ``to_frame()``. A level without which the model cannot be fitted is a row that says so.

    Raises
    ------
    DataError
        For what is no grouping factor of the model, and labels that do not fit its rows.

    See Also
    --------
    lmmfast.cross_validate : Predictions of what is left out.

    References
    ----------
    Efron & Stein (1981), *Ann. Stat.* 9: the jackknife estimate of variance. Efron (1987), *JASA*
    82: acceleration. Levels are independent samples; of crossed factors each has its own jackknife,
    and its standard errors miss what the levels of the others contribute.

    Examples
    --------
    >>> from lmmfast import datasets, jackknife, lmer
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> jackknife(fit, "Subject").se[["sigma", "Days"]].round(3).to_dict()
    {'sigma': 4.428, 'Days': 1.546}
    """
    mixed_only(fit, "jackknife()")
    began = time.perf_counter()
    threads, folds = checked_threads(threads), folds_of(fit, by)
    linear = fit.family is None  # fits of generalized models are set up anew
    job = LeaveOut(fit, folds, linear and are_identified_without(fit, folds.sets))
    found = run_job(job, threads=threads, client=client, what="jackknife", unit="levels")
    return Jackknife(
        formula=fit.formula,
        by=folds.what,
        labels=folds.labels,
        names=tuple(one.name for one in job.parameters),
        estimates=values_of(job.parameters, fit),
        values=found["values"],
        theta=found["theta"],
        objective=found["objective"],
        status=found["status"],
        seconds=time.perf_counter() - began,
    )


@dataclass(eq=False)
class LeaveOut(Job):
    """The fits without each fold."""

    fit: Fit
    folds: Folds
    are_identified: bool

    def __post_init__(self) -> None:
        self.count = len(self.folds.labels)
        self.parameters = parameters_of(self.fit)

    def begin(self) -> Leaving:
        return Leaving(self.fit, self.are_identified)

    def fingerprint(self) -> str:
        raise NotImplementedError  # there are no checkpoints

    def run(self, state: Leaving, first: int, stop: int, part: Any) -> Columns:
        count, r = stop - first, len(self.parameters)
        out = {
            "values": np.full((count, r), np.nan),
            "theta": np.full((count, len(self.fit.theta)), np.nan),
            "objective": np.full(count, np.nan),
            "status": np.full(count, "", dtype=object),
        }
        residual, every = self.fit.design.residual, np.arange(self.fit.nobs)
        for i, rows in enumerate(self.folds.sets[first:stop]):
            estimates, out["status"][i], _ = state.without(rows)
            if estimates is not None:
                own = None if residual is None else residual.taken(np.delete(every, rows))
                out["values"][i] = values_in(self.parameters, estimates, self.fit.family, own)
                out["theta"][i], out["objective"][i] = estimates.theta, estimates.objective
        return out
