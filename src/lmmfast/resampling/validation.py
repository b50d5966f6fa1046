"""Cross-validation: each fold predicted from the fit without it.

With y_o the rows that are left out and y_i the others, the predictive density at the estimates
without the fold is that of a multivariate normal vector, its random effects integrated out,

    log p(y_o | y_i) = log p(y) - log p(y_i),

both of them at these estimates: what the criterion of all rows says beyond that of the others, so
that no covariance of y_o is made. With V = Z Lambda Lambda'Z' + W^-1 and r^2 = y'P y,

    -2 log p(y) = n log(2 pi sigma^2) + log|V| + (r^2 + d'X'V^-1 X d) / sigma^2,

d being the difference of beta from the generalized least squares of these rows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .. import tables
from ..data.sums import Sums
from ..engine.estimates import Estimates
from ..engine.model import Model
from ..engine.point import Point
from ..errors import FitError
from ..fit import Fit
from ..inference.ddf import linear_only, without_residual_structure
from ..inference.rows.leaving import Leaving, are_identified_without, copied
from ..inference.rows.predict import random_part, row_series
from ..many.job import Columns, Job, checked_threads
from ..many.jobs import run_job
from ..typing import Client
from .folds import Folds, folds_of

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation(tables.Printed):
    """Predictions of m folds, each from the fit without it; `cross_validate` makes it.

    Attributes
    ----------
    labels : (m,) array
        The folds.
    n : (m,) array of int
        Rows of each.
    elpd : (m,) array
        Log predictive density of each fold: the joint density of its rows given the others.
    squares : (m,) array
        Sum of the squared errors of prediction of each fold.
    status : (m,) array of str
        How each fit ended: "converged", or why it has no numbers or not those of an optimum.
    predictions : pandas.Series
        Of each row, from the fit without its fold.
    folds : Folds
        ``codes``: the fold of each row; ``seed`` of random ones.
    seconds : float
    """

    formula: str
    folds: Folds
    y: np.ndarray
    n: np.ndarray
    elpd: np.ndarray
    squares: np.ndarray
    status: np.ndarray
    predictions: pd.Series
    seconds: float

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labels(self) -> np.ndarray:
        """The folds (m,)."""
        return self.folds.labels

    @property
    def seed(self) -> int | None:
        """Of random folds."""
        return self.folds.seed

    @property
    def n_failed(self) -> int:
        """Folds without which the model could not be fitted to an optimum."""
        return int((self.status != "converged").sum())

    @cached_property
    def rmse(self) -> np.ndarray:
        """(m,) root mean squared error of each fold."""
        return np.asarray(np.sqrt(self.squares / self.n))

    @property
    def total(self) -> pd.DataFrame:
        """``elpd`` and ``rmse`` of all folds together, with standard errors from their variation
        among folds, which are taken as independent; NaN where a fold has none."""
        import pandas as pd

        values = [self.elpd.sum(), np.sqrt(self.squares.sum() / self.n.sum())]
        mean = self.squares.sum() / self.n.sum()
        spread = _se_of_sum(self.squares - mean * self.n) / self.n.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            errors = [_se_of_sum(self.elpd), spread / (2 * values[1])]
        return pd.DataFrame({"estimate": values, "SE": errors}, index=["elpd", "rmse"])

    def to_frame(self) -> pd.DataFrame:
        """One row for each fold: ``n``, ``elpd``, ``rmse``, ``status``."""
        import pandas as pd

        columns = {"n": self.n, "elpd": self.elpd, "rmse": self.rmse, "status": self.status}
        return pd.DataFrame(columns, index=pd.Index(self.labels, name=self.folds.what))

    def compare(self, other: CrossValidation) -> Comparison:
        """How much better this model predicts the same folds than another one.

        Parameters
        ----------
        other : CrossValidation
            Of the same response and folds: `cross_validate` with the same arguments, or with
            ``folds=`` this one's ``folds.codes``.

        Returns
        -------
        Comparison
            Difference of ``elpd`` with its standard error, from the differences by fold.

        Raises
        ------
        ValueError
            When folds or responses differ.
        """
        if not self.folds.is_same(other.folds):
            raise ValueError(
                "the two leave out different rows: give cross_validate the same by=, k= and seed=, "
                "or folds=first.folds.codes"
            )
        if not np.array_equal(self.y, other.y):
            raise ValueError("the two models have different responses")
        by_fold = self.elpd - other.elpd
        rmse = float(self.total["estimate"]["rmse"] - other.total["estimate"]["rmse"])
        se, names = _se_of_sum(by_fold), (self.formula, other.formula)
        return Comparison(names, by_fold, float(by_fold.sum()), se, rmse)

    def summary(self) -> tables.Summary:
        """Totals, and folds that failed."""
        total = self.total
        cells = [[tables.general(float(v)) for v in row] for row in total.to_numpy()]
        rows = tuple((name, *row) for name, row in zip(total.index, cells, strict=True))
        title = f"Cross-validation, {len(self):,} folds by {self.folds.what}, {self.formula}"
        seed = "" if self.seed is None else f"seed {self.seed}; "
        how = f"{self.n_failed} did not converge; {seed}{tables.duration(self.seconds)}"
        return tables.Summary(((title,), (tables.Table(("", "estimate", "SE"), rows, 1), how)))


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(tables.Printed):
    """Predictions of two models; `CrossValidation.compare` makes it.

    Attributes
    ----------
    by_fold : (m,) array
        Differences of the log predictive densities.
    difference, se : float
        Their sum, positive where the first model is better, and its standard error.
    rmse : float
        Difference of the root mean squared errors, negative where the first model is better.
    """

    formulas: tuple[str, str]
    by_fold: np.ndarray
    difference: float
    se: float
    rmse: float

    def to_frame(self) -> pd.DataFrame:
        """One row: ``difference``, ``se``, ``rmse``."""
        import pandas as pd

        return pd.DataFrame(
            [[self.difference, self.se, self.rmse]], columns=["difference", "se", "rmse"]
        )

    def summary(self) -> tables.Summary:
        """The difference."""
        cells = map(tables.general, (self.difference, self.se, self.rmse))
        table = tables.Table(("elpd difference", "SE", "RMSE difference"), (tuple(cells),), 0)
        first, second = (tables.formula_text(one) for one in self.formulas)
        return tables.Summary(((f"{first}  minus", second), (table,)))


def _se_of_sum(values: np.ndarray) -> float:
    """Standard error of a sum of independent terms of one distribution."""
    return float(np.sqrt(len(values) * np.var(values, ddof=1)))


def cross_validate(
    fit: Fit,
    by: str | ArrayLike | None = None,
    *,
    k: int | None = None,
    folds: ArrayLike | None = None,
    seed: int | None = None,
    threads: int = 1,
    client: Client | None = None,
) -> CrossValidation:
    """Fits a model without each fold of its rows, and predicts these.

    Parameters are estimated without the fold, those of the random effects too. Its rows are then
    predicted from the others: random effects of levels that occur there too by their conditional
    modes, of others by zero. What the formula learned from all rows (means in ``scale(x)``, knots)
    stays.

    Parameters
    ----------
    fit : LMMFit
        Its rows must be in memory.
    by : str, or (n,) array, optional
        Leave out each level of a grouping factor of the model, or of labels of the rows.
    k : int, optional
        Leave out k random parts: of the levels of `by`, or of the rows.
    folds : (n,) array, optional
        The fold of each row, in place of `by` and `k`. Rows are those of the fit or of its data.
    seed : int, optional
        Of random parts. Default: a new one, which the result has.
    threads : int, default 1
        Threads that work; the result is identical for any number.
    client : concurrent.futures.Executor or dask.distributed.Client, optional
        Workers in place of threads.

    Returns
    -------
    CrossValidation
        ``elpd`` (log predictive density) and ``rmse`` by fold, ``total`` with standard errors,
        ``predictions``; ``first.compare(second)`` of two models. The density of a fold is the joint
        one of its rows, at the estimates: multivariate normal, random effects integrated out;
        NaN for iterative models, which only estimate it. A fold without which the model cannot be
        fitted, or its coefficients not estimated, is a row that says so.

    Raises
    ------
    DataError
        For what is no grouping factor of the model, and labels that do not fit its rows.
    ValueError
        When it is not said what to leave out, or folds are fewer than two.

    See Also
    --------
    lmmfast.jackknife : Estimates without each level.
    lmmfast.compare : Information criteria.

    References
    ----------
    Vehtari, Gelman & Gabry (2017), *Stat. Comput.* 27: elpd, differences and standard errors.

    Examples
    --------
    >>> from lmmfast import cross_validate, datasets, lmer
    >>> data = datasets.load("sleepstudy")
    >>> slopes = cross_validate(lmer("Reaction ~ Days + (Days | Subject)", data), "Subject")
    >>> means = cross_validate(lmer("Reaction ~ Days + (1 | Subject)", data), "Subject")
    >>> found = slopes.compare(means)
    >>> round(found.difference, 1), round(found.se, 1)
    (17.2, 15.4)
    """
    began = time.perf_counter()
    linear_only(fit, "cross_validate()")
    without_residual_structure(fit, "cross_validate()")
    threads, parts = checked_threads(threads), folds_of(fit, by, k, folds, seed)
    job = Validate(fit, parts, are_identified_without(fit, parts.sets))
    found = run_job(job, threads=threads, client=client, what="cross-validation", unit="folds")
    predictions = np.empty(fit.nobs)
    for rows, own in zip(parts.sets, found["predictions"], strict=True):
        predictions[rows] = own
    errors = (fit.design.y - predictions) ** 2
    return CrossValidation(
        formula=fit.formula,
        folds=parts,
        y=fit.design.y,
        n=np.bincount(parts.codes),
        elpd=found["elpd"],
        squares=np.bincount(parts.codes, errors),
        status=found["status"],
        predictions=row_series(fit.design, predictions, "predictions"),
        seconds=time.perf_counter() - began,
    )


class State(NamedTuple):
    """What one thread needs."""

    leaving: Leaving
    whole: Model


@dataclass(eq=False)
class Validate(Job):
    """The predictions of each fold."""

    fit: Fit
    folds: Folds
    are_identified: bool

    def __post_init__(self) -> None:
        self.count = len(self.folds.labels)

    def begin(self) -> State:
        return State(Leaving(self.fit, self.are_identified), copied(self.fit))

    def fingerprint(self) -> str:
        raise NotImplementedError  # there are no checkpoints

    def run(self, state: State, first: int, stop: int, part: Any) -> Columns:
        count = stop - first
        out = {
            "elpd": np.full(count, np.nan),
            "status": np.full(count, "", dtype=object),
            "predictions": np.empty(count, dtype=object),
        }
        for i, rows in enumerate(self.folds.sets[first:stop]):
            out["predictions"][i] = np.full(len(rows), np.nan)
            left = state.leaving.without(rows)
            out["status"][i] = left.status
            if left.estimates is None or not self._are_all_kept(left.estimates):
                continue
            try:
                inside = _point(state.leaving.model, left.estimates, left.remaining)
                out["predictions"][i] = self._predicted(left.estimates, inside, rows)
                out["elpd"][i] = self._density(state, left.estimates, inside, left.remaining)
            except FitError as error:
                out["status"][i] = str(error)
        return out

    def _are_all_kept(self, estimates: Estimates) -> bool:
        return bool((estimates.fixed_kept == self.fit.estimates.fixed_kept).all())

    def _predicted(self, estimates: Estimates, inside: Point, rows: np.ndarray) -> np.ndarray:
        """Means of the rows that are left out, given the others."""
        design, beta = self.fit.design, np.where(estimates.fixed_kept, estimates.beta, 0.0)
        values = design.fixed.at(rows) @ beta
        if design.offset is not None:
            values += design.offset[rows]
        for term, b in zip(design.terms, inside.b, strict=True):
            values += random_part(term.codes[rows], term.source.at(rows), b)
        return np.asarray(values)

    def _density(self, state: State, estimates: Estimates, inside: Point, remaining: Sums) -> float:
        """log p(y_o | y_i); NaN where determinants are only estimated."""
        if not inside.is_exact:
            return np.nan
        rows = self.fit.design.sums
        whole = _point(state.whole, estimates, rows)
        return _log_density(whole, rows.n, estimates) - _log_density(inside, remaining.n, estimates)


def _point(model: Model, estimates: Estimates, sums: Sums) -> Point:
    return model.point(estimates.theta, reml=False, sums=sums)


def _log_density(point: Point, n: int, estimates: Estimates) -> float:
    """log p of the n rows of a point, at estimates that may be those of other rows."""
    kept, r2 = estimates.fixed_kept, n * point.sigma**2
    log_det = point.value - n * (1 + np.log(2 * np.pi * point.sigma**2))
    d = (estimates.beta - point.beta)[kept]
    square = point.sigma**2 * d @ np.linalg.solve(point.vcov[np.ix_(kept, kept)], d)
    variance = estimates.sigma**2
    return float(-(n * np.log(2 * np.pi * variance) + log_det + (r2 + square) / variance) / 2)
