"""Likelihood ratios of nested models beside those of responses drawn from the smaller one.

References
----------
Halekoh & Højsgaard (2014), *J. Stat. Softw.* 59(9), section 4; Davison & Hinkley (1997),
*Bootstrap Methods and their Application*, section 4.2.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import tables
from ..errors import FitError
from ..fit import Fit
from ..hints import hinted
from ..inference.ddf import fit_of, mixed_only
from ..inference.hypotheses.comparison import EQUAL, Comparison, chi2_tail, compared, criterion_name
from ..inference.hypotheses.nesting import nesting
from ..inference.hypotheses.regression import Regression, comparable_fit
from ..inference.refits import estimated
from ..many.job import checked_count, checked_threads
from ..many.jobs import run_job
from ..many.streams import Streams
from ..typing import Client, PathLike
from .ratios import job_of

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd

LEVEL = 0.95  # of the interval of p
ROWS = ("LRT", "PBtest", "Gamma", "Bartlett", "F")


@dataclass(frozen=True, eq=False, repr=False)
class PBTest(tables.Printed):
    """A likelihood ratio beside those of drawn responses; `pb_test` makes it.

    Attributes
    ----------
    title : str
    models : tuple of str
        The formulas: hypothesis, alternative.
    statistic : float
        Twice the difference of the log likelihoods.
    df : int
        Parameters that the alternative has more.
    pvalue : float
        (1 + number of drawn ratios that are as large) / (1 + used).
    interval : tuple of float
        Where the p-value of infinitely many draws lies, with probability 0.95 (Clopper-Pearson).
    null : (n,) array
        The drawn ratios; NaN where one of the fits failed.
    status : (n,) array of str
        "converged", or how the fit of the alternative, or of the hypothesis, ended.
    n, used, failed : int
        Responses drawn, ratios counted, and fits that failed.
    seed : int
        It repeats the draws.
    boundary : bool
        Whether variances are zero under the hypothesis: then some ratios are zero.
    reml : bool
        Whether restricted likelihoods are compared.
    seconds : float
    notes : tuple of str
    """

    title: str
    models: tuple[str, ...]
    statistic: float
    df: int
    pvalue: float
    interval: tuple[float, float]
    null: np.ndarray
    status: np.ndarray
    n: int
    used: int
    failed: int
    seed: int
    boundary: bool
    reml: bool
    seconds: float
    notes: tuple[str, ...]

    @property
    def pvalue_se(self) -> float:
        """Monte-Carlo standard error of the p-value."""
        return float(np.sqrt(self.pvalue * (1 - self.pvalue) / self.used))

    @cached_property
    def table(self) -> pd.DataFrame:
        """The test, and approximations by the mean and variance of the drawn ratios.

        Rows as pbkrtest's: ``LRT`` (chi-squared with ``df``), ``PBtest``, ``Gamma`` (a gamma
        distribution of the positive ratios), ``Bartlett`` (the ratio over its mean times df, beside
        chi-squared) and ``F`` (the ratio over df, beside F whose denominator degrees of freedom
        give the mean). The last two mean nothing on the boundary: NaN.
        """
        import pandas as pd

        rows = [self._asymptotic(), (self.statistic, np.nan, np.nan, self.pvalue)]
        rows += [self._gamma(), *self._by_mean()]
        return pd.DataFrame(rows, index=list(ROWS), columns=["stat", "df", "ddf", "pvalue"])

    def to_frame(self) -> pd.DataFrame:
        """The table."""
        return self.table.copy()

    def _asymptotic(self) -> tuple[float, ...]:
        return self.statistic, self.df, np.nan, chi2_tail(self.statistic, self.df)

    def _gamma(self) -> tuple[float, ...]:
        from scipy.special import gammaincc

        counted = self._counted
        own = counted[counted > 0]
        if len(own) < 2 or self.statistic <= 0:
            return self.statistic, np.nan, np.nan, np.nan if len(own) < 2 else 1.0
        mean, variance = own.mean(), own.var(ddof=1)
        tail = gammaincc(mean**2 / variance, self.statistic * mean / variance)
        return self.statistic, np.nan, np.nan, float(tail * len(own) / len(counted))

    def _by_mean(self) -> tuple[tuple[float, ...], ...]:
        """Bartlett's correction and the F distribution."""
        from scipy.special import fdtrc

        mean = float(self._counted.mean()) / self.df
        if self.boundary or not mean > 0:
            return ((np.nan, self.df, np.nan, np.nan),) * 2
        corrected = self.statistic / mean
        ddf = 2 * mean / (mean - 1) if mean > 1 else np.inf
        F = self.statistic / self.df
        p = float(fdtrc(self.df, ddf, F)) if mean > 1 else chi2_tail(self.statistic, self.df)
        return (corrected, self.df, np.nan, chi2_tail(corrected, self.df)), (F, self.df, ddf, p)

    @property
    def _counted(self) -> np.ndarray:
        return np.asarray(self.null[~np.isnan(self.null)])

    def summary(self) -> tables.Summary:
        """The test on paper."""
        own = self.table
        columns = [
            [tables.fixed(value, 4) for value in own["stat"]],
            tables.df_cells(own["df"]),
            [tables.general(value) for value in own["ddf"]],
            [tables.p_value(value) for value in own["pvalue"]],
        ]
        rows = tuple(zip(ROWS, *columns, strict=True))
        table = tables.Table(("", "Ratio", "Df", "ddf", "p"), rows, 1)
        low, high = (tables.p_value(end) if end else "0" for end in self.interval)
        how = (
            f"PBtest: {self.used:,} ratios drawn under the hypothesis (seed {self.seed}, "
            f"{tables.duration(self.seconds)}); with infinitely many p is in [{low}, {high}] "
            f"({100 * LEVEL:g} %)"
        )
        lines = [line for note in (how, *self.notes) for line in tables.wrapped(note)]
        return tables.Summary(((self.title,), self.models, (table, *lines)))


@hinted
def pb_test(
    fit0: Fit | Regression,
    fit1: Fit,
    n: int = 1000,
    seed: int | None = None,
    threads: int = 1,
    *,
    client: Client | None = None,
    checkpoint: PathLike | None = None,
) -> PBTest:
    """Test a model against a larger one by a parametric bootstrap of their likelihood ratio.

    Responses are drawn from the smaller model at its estimates, and both models are fitted to each.
    Restricted likelihoods are compared where both fits are by REML and differ in random effects
    only, else likelihoods. Variances on the boundary need no care: ratios of zero count as zero.

    Parameters
    ----------
    fit0 : Fit, or results of statsmodels' OLS or WLS
        The hypothesis, a special case of `fit1`.
    fit1 : Fit
        Fits by REML are refitted by maximum likelihood where likelihoods are compared.
    n : int, default 1000
        Responses drawn. p is 1 / (1 + n) at least.
    seed : int, optional
        Default: a new one, which the result has. Results do not depend on who draws.
    threads : int, default 1
        Threads that work; the result is identical for any number.
    client : concurrent.futures.Executor or dask.distributed.Client, optional
        Workers in place of threads.
    checkpoint : path, optional
        File of what is done; the same call with the same file goes on from there.

    Returns
    -------
    PBTest
        Responses to which a model could not be fitted are left out and counted.

    Raises
    ------
    FitError
        When the models are not nested, no fit succeeded, or they are fits of `mmrm`.
    DataError
        When the fits have different responses or rows, or these are not in memory.

    See Also
    --------
    lmmfast.rlr_test : One variance, without fits.
    lmmfast.anova : Asymptotic likelihood ratios.

    References
    ----------
    Halekoh & Højsgaard (2014), *J. Stat. Softw.* 59(9). As pbkrtest's `PBmodcomp`, which leaves
    ratios of zero out and has the mean, not the mean over df, in the F row.

    Examples
    --------
    >>> from lmmfast import datasets, lmer, pb_test
    >>> data = datasets.load("sleepstudy")
    >>> fit1 = lmer("Reaction ~ Days + (Days | Subject)", data)
    >>> fit0 = lmer("Reaction ~ 1 + (Days | Subject)", data)
    >>> test = pb_test(fit0, fit1, n=200, seed=1)
    >>> round(test.statistic, 3), test.df, test.failed
    (23.537, 1, 0)
    """
    n, threads, streams = checked_count(n), checked_threads(threads), Streams(seed)
    mixed_only(fit1, "pb_test()")
    found = _compared(fit0, fit1)
    smaller, larger = found.fits
    nested = nesting(smaller, larger)
    df = larger.n_params - smaller.n_params
    if nested.reason or df == 0 or found.names[0] != "hypothesis":
        why = nested.reason or "the first has as many parameters as the second, or more"
        raise FitError(f"the first model is no special case of the second: {why}")
    notes = [*found.notes, nested.note] if nested.note else list(found.notes)
    ratio = smaller.objective - larger.objective
    notes += [*estimated(larger), *_lower(np.array([ratio]), "the ratio of the data is")]
    statistic = float(ratio) if ratio > EQUAL else 0.0
    began = time.perf_counter()
    job = job_of(smaller, larger, streams, n)
    drawn = run_job(job, threads=threads, client=client, checkpoint=checkpoint, what="pb_test")
    status = drawn["status"]
    good = status == "converged"
    used = int(good.sum())
    if not used:
        raise FitError(f"none of {n} fits succeeded: {status[0]}")
    notes += _lower(drawn["ratio"][good], "ratios are") + _failures(status[~good])
    null = np.where(good, np.where(drawn["ratio"] > EQUAL, drawn["ratio"], 0.0), np.nan)
    extreme = int(np.count_nonzero(null[good] >= statistic))
    return PBTest(
        title=f"Parametric bootstrap of the likelihood ratio, {criterion_name(larger)}",
        models=found.models,
        statistic=statistic,
        df=df,
        pvalue=(1 + extreme) / (1 + used),
        interval=_interval(extreme, used),
        null=null,
        status=status,
        n=n,
        used=used,
        failed=n - used,
        seed=streams.seed,
        boundary=nested.boundary,
        reml=bool(larger.reml),
        seconds=time.perf_counter() - began,
        notes=tuple(notes),
    )


def _compared(fit0: Any, fit1: Any) -> Comparison:
    """Both fits by one criterion: restricted likelihood where they can be compared by it."""
    names = ("hypothesis", "alternative")
    first, second = comparable_fit(fit0), fit_of(fit1)
    if not isinstance(first, Regression) and first.reml and second.reml:
        try:
            return compared((first, second), False, names)
        except FitError:  # other fixed effects
            pass
    return compared((fit0, second), True, names)


def _interval(extreme: int, used: int) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share."""
    from scipy.special import betaincinv

    tail = (1 - LEVEL) / 2
    low = betaincinv(extreme, used - extreme + 1, tail) if extreme else 0.0
    high = betaincinv(extreme + 1, used - extreme, 1 - tail) if extreme < used else 1.0
    return float(low), float(high)


def _lower(ratios: np.ndarray, what: str) -> list[str]:
    """A note on ratios that are negative beyond rounding."""
    count = int(np.count_nonzero(ratios < -EQUAL))
    if not count:
        return []
    number = "" if len(ratios) == 1 else f"{count} "
    return [
        f"{number}{what} negative, and set to zero: the alternative ended at another optimum "
        "than the hypothesis's there"
    ]


def _failures(status: np.ndarray) -> list[str]:
    """A note on fits that are not counted."""
    if not len(status):
        return []
    counts = ", ".join(f"{count} {how}" for how, count in Counter(status).most_common())
    return [f"{len(status)} responses are left out, for their fits failed: {counts}"]
