"""Tests of linear hypotheses ``L beta = q`` on fixed effects: t, z, F and chi-squared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import tables as _tables
from .linear import per_row

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd


ROUNDING = 1e-12  # weights smaller than this, relative to others, are zero but for rounding
DEPENDENT = 1e-10  # singular value of scaled rows below which rows depend on each other
NORMAL = "z"  # ``method`` of tests without denominator degrees of freedom


# ---- results ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class TTest(_tables.Printed):
    """Tests of single contrasts, one row each; statsmodels' names where it has one.

    Attributes
    ----------
    effect, sd : numpy.ndarray
        Estimates ``L beta`` and their standard errors (k); NaN where a dropped column is used.
    statistic : numpy.ndarray
        ``(effect - null) / sd`` (k).
    df_denom : numpy.ndarray
        Degrees of freedom (k); infinite for z.
    pvalue : numpy.ndarray
        Two-sided p-values (k).
    labels : tuple of str
        Names of the rows.
    null : numpy.ndarray
        Right-hand sides of the hypotheses (k).
    distribution : str
        ``"t"`` or ``"norm"``.
    method : str
        Where the degrees of freedom come from: ``"z"`` (none), ``"Satterthwaite"``,
        ``"Kenward-Roger"`` or ``"residual"``.
    """

    effect: np.ndarray
    sd: np.ndarray
    statistic: np.ndarray
    df_denom: np.ndarray
    pvalue: np.ndarray
    labels: tuple[str, ...]
    null: np.ndarray
    distribution: str
    method: str

    @property
    def tvalue(self) -> np.ndarray:
        """The statistics, whatever their distribution (as statsmodels)."""
        return self.statistic

    zvalue = tvalue

    @property
    def df(self) -> np.ndarray:
        """Degrees of freedom (k); infinite for z."""
        return self.df_denom

    def conf_int(self, alpha: float = 0.05) -> np.ndarray:
        """Confidence intervals of the effects with coverage ``1 - alpha`` (k x 2)."""
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1, for example 0.05; got {alpha!r}")
        half = t_quantile(1 - alpha / 2, self.df_denom) * self.sd
        return np.column_stack([self.effect - half, self.effect + half])

    def summary_frame(
        self, xname: Sequence[str] | None = None, alpha: float = 0.05
    ) -> pd.DataFrame:
        """The tests as a table with statsmodels' columns, and ``df`` unless they are z.

        Parameters
        ----------
        xname : sequence of str, optional
            Names of the rows; default ``labels``.
        alpha : float, default 0.05
            One minus the coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            One row per contrast.
        """
        import pandas as pd

        letter = self._letter
        low, high = self.conf_int(alpha).T
        columns = {
            "coef": self.effect,
            "std err": self.sd,
            letter: self.statistic,
            f"P>|{letter}|": self.pvalue,
            "Conf. Int. Low": low,
            "Conf. Int. Upp.": high,
        }
        if self.distribution == "t":
            columns["df"] = self.df_denom
        return pd.DataFrame(columns, index=self._row_names(xname), copy=True)

    def to_frame(self) -> pd.DataFrame:
        """As `summary_frame`."""
        return self.summary_frame()

    def summary(self, xname: Sequence[str] | None = None, alpha: float = 0.05) -> _tables.Summary:
        """The tests on paper; parameters as for ``summary_frame``."""
        letter = self._letter
        low, high = self.conf_int(alpha).T
        columns: dict[str, Sequence[str]] = {
            "": self._row_names(xname),
            "Estimate": _tables.column(self.effect, by=self.sd),
            "Std. Error": _tables.column(self.sd),
            f"{letter} value": statistic_cells(self.statistic),
            f"Pr(>|{letter}|)": [_tables.p_value(p) for p in self.pvalue],
            f"[{alpha / 2:g}": _tables.column(low, by=self.sd),
            f"{1 - alpha / 2:g}]": _tables.column(high, by=self.sd),
        }
        if self.distribution == "t":
            columns["df"] = _tables.df_cells(self.df_denom)
        if np.any(self.null != 0):
            columns["Null"] = [_tables.general(value) for value in self.null]
        rows = tuple(zip(*columns.values(), strict=True))
        table = _tables.Table(tuple(columns), rows, 1)
        return _tables.Summary((("Tests of linear hypotheses:", table, *self._notes()),))

    @property
    def _letter(self) -> str:
        return "t" if self.distribution == "t" else "z"

    def _row_names(self, given: Sequence[str] | None) -> list[str]:
        names = list(self.labels if given is None else given)
        if len(names) != len(self.labels):
            raise ValueError(f"xname has {len(names)} names for {len(self.labels)} rows")
        return names

    def _notes(self) -> list[str]:
        notes = [f"p-values: {_reference(self.distribution, self.method)}"]
        unknown = [label for label, e in zip(self.labels, self.effect, strict=True) if np.isnan(e)]
        if unknown:
            notes += _tables.wrapped(f"NA, weight on a dropped column: {', '.join(unknown)}")
        return notes


@dataclass(frozen=True, eq=False, repr=False)
class WaldTest(_tables.Printed):
    """Joint test of several contrasts.

    Attributes
    ----------
    statistic : float
        F or chi-squared statistic; NaN where a contrast uses a dropped column.
    df_num : int
        Number of linearly independent contrasts.
    df_denom : float
        Denominator degrees of freedom; infinite for chi-squared.
    pvalue : float
        Probability of a larger statistic under the hypothesis.
    distribution : str
        ``"F"`` or ``"chi2"``.
    method : str
        Where ``df_denom`` comes from, as in `TTest`.
    """

    statistic: float
    df_num: int
    df_denom: float
    pvalue: float
    distribution: str
    method: str

    @property
    def fvalue(self) -> float:
        """The F statistic; of a chi-squared test the statistic over its degrees of freedom."""
        return self.statistic if self.distribution == "F" else self.statistic / self.df_num

    def summary_frame(self) -> pd.DataFrame:
        """The test as a table of one row, with the columns of statsmodels' tests of terms."""
        import pandas as pd

        name = self.distribution
        columns = {name: self.statistic, f"P>{name}": self.pvalue, "df constraint": self.df_num}
        columns |= {"df denom": self.df_denom} if name == "F" else {}
        return pd.DataFrame(columns, index=["joint"])

    def to_frame(self) -> pd.DataFrame:
        """As `summary_frame`."""
        return self.summary_frame()

    def summary(self) -> _tables.Summary:
        """The test on paper."""
        header, df = ["Chisq", "Df", "Pr(>Chisq)"], [str(self.df_num)]
        if self.distribution == "F":
            header = ["F value", "NumDF", "DenDF", "Pr(>F)"]
            df += _tables.df_cells([self.df_denom])
        cells = *statistic_cells([self.statistic]), *df, _tables.p_value(self.pvalue)
        table = _tables.Table(tuple(header), (cells,), 0)
        notes = [f"p-value: {_reference(self.distribution, self.method)}"]
        if np.isnan(self.statistic):
            notes.append("NA: a contrast has weight on a dropped column")
        return _tables.Summary((("Joint test of linear hypotheses:", table, *notes),))


def _reference(distribution: str, method: str) -> str:
    """The reference distribution in words."""
    if distribution == "norm":
        return "z (normal approximation)"
    if distribution == "chi2":
        return "chi-squared (normal approximation)"
    return f"{distribution}, {method} degrees of freedom"


def statistic_cells(values: Iterable[float]) -> list[str]:
    """Statistics as text."""
    return [_tables.fixed(v, 3) if abs(v) < 1e6 else _tables.general(v) for v in values]


# ---- tests --------------------------------------------------------------------------------------


def t_test(
    L: np.ndarray,
    q: np.ndarray,
    labels: Sequence[str],
    beta: np.ndarray,
    vcov: np.ndarray,
    df: Any = None,
    method: str | None = None,
) -> TTest:
    """Test each row of ``L beta = q`` (k x p) by itself, the hypotheses as `hypothesis` gives them.

    ``beta`` and ``vcov`` are NaN for dropped columns: a row with weight on one is NaN, the other
    rows ignore it. ``df``, one number or one per row, makes t of z; ``method`` says where it comes
    from, by default the residuals.
    """
    effect, sd = _effects(L, beta), _deviations(L, vcov)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = (effect - q) / sd
    df_denom = per_row(np.inf if df is None else df, len(L), "df")
    p, null = t_pvalues(statistic, df_denom), np.array(q, dtype=float)
    distribution, usual = ("norm", NORMAL) if df is None else ("t", "residual")
    numbers = effect, sd, statistic, df_denom, p
    return TTest(*numbers, tuple(labels), null, distribution, method or usual)


def wald_test(
    L: np.ndarray,
    q: np.ndarray,
    beta: np.ndarray,
    vcov: np.ndarray,
    df_denom: Any = None,
    method: str | None = None,
    scale: float = 1.0,
) -> WaldTest:
    """Test all rows of ``L beta = q`` (k x p) together; arguments as for `t_test`.

    Rows that follow from the others are left out, so they do not count as degrees of freedom; the
    test is NaN if a row has weight on a dropped column. ``df_denom`` makes F of chi-squared, and
    ``scale`` is a factor of the statistic (Kenward and Roger's lambda). ValueError if the rows
    contradict each other, are all zero, or have a singular covariance matrix.
    """
    deviations = np.sqrt(np.clip(np.diag(vcov), 0, None))
    units = np.where(deviations > 0, deviations, 1.0)  # False for NaN
    rows, values = _independent(L, q, units)
    rank = len(rows)
    square, missing = np.nan, np.isnan(beta) | np.isnan(deviations)
    if not np.any(_uses(L, missing)):
        effect = _effects(rows, beta / units) - values
        square = scale * _square(effect, _product(rows, vcov / units / units[:, None]))
    f = square / rank
    if df_denom is None:
        p = _f_pvalue(f, rank, np.inf)
        return WaldTest(float(square), rank, np.inf, p, "chi2", method or NORMAL)
    denominator = float(np.asarray(df_denom, dtype=float).item())  # also in an array
    p = _f_pvalue(f, rank, denominator)
    return WaldTest(float(f), rank, denominator, p, "F", method or "residual")


def _uses(L: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Which rows have weight on any of some columns (k)."""
    size = np.abs(L)
    return np.asarray(
        np.any(size[:, columns] > ROUNDING * size.max(axis=1, keepdims=True, initial=0.0), axis=1)
    )


def _effects(L: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """``L beta`` (k), NaN only for rows that use a missing coefficient."""
    missing = np.isnan(beta)
    return np.where(_uses(L, missing), np.nan, L @ np.where(missing, 0.0, beta))


def _deviations(L: np.ndarray, vcov: np.ndarray) -> np.ndarray:
    """Standard errors of ``L beta`` (k), NaN only for rows that use a missing coefficient."""
    missing = np.isnan(np.diag(vcov))
    variances = np.diag(_product(L, vcov))
    with np.errstate(invalid="ignore"):
        return np.where(_uses(L, missing), np.nan, np.sqrt(variances))


def _product(L: np.ndarray, vcov: np.ndarray) -> np.ndarray:
    """``L vcov L'`` over the columns that are there (k x k)."""
    kept = np.flatnonzero(~np.isnan(np.diag(vcov)))
    return np.asarray(L[:, kept] @ vcov[np.ix_(kept, kept)] @ L[:, kept].T)


def _independent(L: np.ndarray, q: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hypotheses of full rank with the same content, on the coefficients over their ``units``.

    The singular value decomposition sees rows of length one on coefficients in units of their
    standard errors, so what depends on what does not change with the units of the covariates.
    """
    rows = np.where(np.abs(L) > ROUNDING * np.abs(L).max(axis=0), L, 0.0) * units
    length = np.linalg.norm(rows, axis=1)
    if not np.any(length > 0):
        raise ValueError("all weights of the hypothesis are zero: there is nothing to test")
    length = np.where(length > 0, length, 1.0)
    left, values, right = np.linalg.svd(rows / length[:, None])
    rank = int(np.sum(values > DEPENDENT * values[0]))
    rotated = left.T @ (q / length)
    if np.any(np.abs(rotated[rank:]) > DEPENDENT * np.abs(q / length).max()):
        raise ValueError("the hypotheses contradict each other: no coefficients satisfy them all")
    return right[:rank], rotated[:rank] / values[:rank]


def _square(effect: np.ndarray, cov: np.ndarray) -> float:
    """``effect' cov^-1 effect``."""
    if not np.all(np.isfinite(cov)):
        return float("nan")
    values, vectors = np.linalg.eigh(cov)
    if values[0] <= len(values) * np.finfo(float).eps * values[-1]:
        raise ValueError(
            "the covariance matrix of the contrasts is singular: they cannot be tested"
        )
    return float(np.sum((vectors.T @ effect) ** 2 / values))


# ---- distributions ------------------------------------------------------------------------------


def t_pvalues(statistic: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Two-sided p-values of t, of z where ``df`` is infinite."""
    from scipy.special import ndtr, stdtr

    size = -np.abs(statistic)
    finite = np.where(np.isinf(df), 1.0, df)
    return np.asarray(2 * np.where(np.isinf(df), ndtr(size), stdtr(finite, size)))


def t_quantile(p: float, df: np.ndarray) -> np.ndarray:
    """Quantiles of t, of z where ``df`` is infinite."""
    from scipy.special import ndtri, stdtrit

    finite = np.where(np.isinf(df), 1.0, df)
    return np.asarray(np.where(np.isinf(df), ndtri(p), stdtrit(finite, p)))


def _f_pvalue(f: float, df_num: int, df_denom: float) -> float:
    """Upper tail of F; with infinite ``df_denom`` of chi-squared over its degrees of freedom."""
    from scipy.special import chdtrc, fdtrc

    if np.isinf(df_denom):
        return float(chdtrc(df_num, f * df_num))
    return float(fdtrc(df_num, df_denom, f))
