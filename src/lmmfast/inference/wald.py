"""Tests of linear hypotheses ``L beta = q`` on fixed effects: t, z, F and chi-squared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import show as _show
from ..columns import suggest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TTest", "WaldTest", "hypothesis", "t_test", "wald_test"]

ROUNDING = 1e-12  # weights smaller than this, relative to others, are zero but for rounding
DEPENDENT = 1e-10  # singular value of scaled rows below which rows depend on each other
NORMAL = "z"  # ``method`` of tests without denominator degrees of freedom


# ---- results ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class TTest:
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

    @property
    def zvalue(self) -> np.ndarray:
        """The statistics, whatever their distribution."""
        return self.statistic

    @property
    def df(self) -> np.ndarray:
        """Degrees of freedom (k); infinite for z."""
        return self.df_denom

    def conf_int(self, alpha: float = 0.05) -> np.ndarray:
        """Confidence intervals of the effects with coverage ``1 - alpha`` (k x 2)."""
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1, for example 0.05; got {alpha!r}")
        half = _t_quantile(1 - alpha / 2, self.df_denom) * self.sd
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

    def summary(self, xname: Sequence[str] | None = None, alpha: float = 0.05) -> _show.Summary:
        """The tests on paper; parameters as for ``summary_frame``."""
        letter = self._letter
        low, high = self.conf_int(alpha).T
        columns: dict[str, Sequence[str]] = {
            "": self._row_names(xname),
            "Estimate": _show.column(self.effect, by=self.sd),
            "Std. Error": _show.column(self.sd),
            f"{letter} value": _statistic_cells(self.statistic),
            f"Pr(>|{letter}|)": [_show.p_value(p) for p in self.pvalue],
            f"[{alpha / 2:g}": _show.column(low, by=self.sd),
            f"{1 - alpha / 2:g}]": _show.column(high, by=self.sd),
        }
        if self.distribution == "t":
            columns["df"] = _show.df_cells(self.df_denom)
        if np.any(self.null != 0):
            columns["Null"] = [_show.general(value) for value in self.null]
        rows = tuple(zip(*columns.values(), strict=True))
        table = _show.Table(tuple(columns), rows, 1)
        return _show.Summary((("Tests of linear hypotheses:", table, *self._notes()),))

    def __str__(self) -> str:
        return str(self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

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
            notes += _show.wrapped(f"NA, weight on a dropped column: {', '.join(unknown)}")
        return notes


@dataclass(frozen=True, eq=False, repr=False)
class WaldTest:
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
        columns: dict[str, Any] = {name: self.statistic, f"P>{name}": self.pvalue}
        columns["df constraint"] = self.df_num
        if name == "F":
            columns["df denom"] = self.df_denom
        return pd.DataFrame(columns, index=["joint"])

    def summary(self) -> _show.Summary:
        """The test on paper."""
        name = {"F": "F value", "chi2": "Chisq"}[self.distribution]
        columns = {name: _statistic_cells([self.statistic])[0]}
        if self.distribution == "F":
            columns |= {"NumDF": str(self.df_num), "DenDF": _show.df_cells([self.df_denom])[0]}
        else:
            columns |= {"Df": str(self.df_num)}
        columns[f"Pr(>{name.split()[0]})"] = _show.p_value(self.pvalue)
        table = _show.Table(tuple(columns), (tuple(columns.values()),), 0)
        notes = [f"p-value: {_reference(self.distribution, self.method)}"]
        if np.isnan(self.statistic):
            notes.append("NA: a contrast has weight on a dropped column")
        return _show.Summary((("Joint test of linear hypotheses:", table, *notes),))

    def __str__(self) -> str:
        return str(self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def _reference(distribution: str, method: str) -> str:
    """The reference distribution in words."""
    if distribution == "norm":
        return "z (normal approximation)"
    if distribution == "chi2":
        return "chi-squared (normal approximation)"
    return f"{distribution}, {method} degrees of freedom"


def _statistic_cells(values: Iterable[float]) -> list[str]:
    return [_show.fixed(v, 3) if abs(v) < 1e6 else _show.general(v) for v in values]


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
    """Test each row of ``L beta = q`` by itself.

    Parameters
    ----------
    L, q, labels : numpy.ndarray, numpy.ndarray, sequence of str
        The hypotheses, as `hypothesis` gives them.
    beta, vcov : numpy.ndarray
        Estimates (p) and their covariance matrix (p x p); NaN for dropped columns. A row with
        weight on a dropped column is NaN, the other rows ignore it.
    df : float or array, optional
        Degrees of freedom, one for all or one per row (k); without it the test is z.
    method : str, optional
        Where ``df`` comes from; default ``"residual"``, or ``"z"`` without ``df``.

    Returns
    -------
    TTest
        One row per hypothesis.

    Raises
    ------
    ValueError
        If ``df`` is neither one number nor one per row.
    """
    k = len(L)
    effect, sd = _effects(L, beta), _deviations(L, vcov)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = (effect - q) / sd
    df_denom = _per_row(np.inf if df is None else df, k, "df")
    return TTest(
        effect=effect,
        sd=sd,
        statistic=statistic,
        df_denom=df_denom,
        pvalue=_t_pvalues(statistic, df_denom),
        labels=tuple(labels),
        null=np.array(q, dtype=float),
        distribution="norm" if df is None else "t",
        method=method or (NORMAL if df is None else "residual"),
    )


def wald_test(
    L: np.ndarray,
    q: np.ndarray,
    beta: np.ndarray,
    vcov: np.ndarray,
    df_denom: Any = None,
    method: str | None = None,
    scale: float = 1.0,
) -> WaldTest:
    """Test all rows of ``L beta = q`` together.

    Rows that follow from the others are left out, so they do not count as degrees of freedom.

    Parameters
    ----------
    L, q : numpy.ndarray
        The hypotheses (k x p and k), as `hypothesis` gives them.
    beta, vcov : numpy.ndarray
        Estimates (p) and their covariance matrix (p x p); NaN for dropped columns. The test is
        NaN if a row has weight on a dropped column.
    df_denom : float, optional
        Denominator degrees of freedom of the F test; without it the test is chi-squared.
    method : str, optional
        Where ``df_denom`` comes from; default ``"residual"``, or ``"z"`` without it.
    scale : float, default 1.0
        Factor of the statistic (Kenward and Roger's lambda).

    Returns
    -------
    WaldTest
        The joint test.

    Raises
    ------
    ValueError
        If the rows contradict each other, are all zero, or have a singular covariance matrix.
    """
    deviations = np.sqrt(np.clip(np.diag(vcov), 0, None))
    units = np.where(deviations > 0, deviations, 1.0)  # False for NaN
    rows, values = _independent(L, q, units)
    rank = len(rows)
    effect = _effects(rows, beta / units) - values
    missing = np.isnan(beta) | np.isnan(deviations)
    if np.any(_uses(L, missing)):
        square = np.nan
    else:
        square = scale * _square(effect, _product(rows, vcov / units / units[:, None]))
    if df_denom is None:
        denominator, statistic, distribution = np.inf, square, "chi2"
    else:
        denominator, statistic, distribution = _number(df_denom), square / rank, "F"
    return WaldTest(
        statistic=float(statistic),
        df_num=rank,
        df_denom=denominator,
        pvalue=_f_pvalue(square / rank, rank, denominator),
        distribution=distribution,
        method=method or (NORMAL if df_denom is None else "residual"),
    )


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


def _t_pvalues(statistic: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Two-sided p-values of t, of z where ``df`` is infinite."""
    from scipy.special import ndtr, stdtr

    size = -np.abs(statistic)
    finite = np.where(np.isinf(df), 1.0, df)
    return np.asarray(2 * np.where(np.isinf(df), ndtr(size), stdtr(finite, size)))


def _t_quantile(p: float, df: np.ndarray) -> np.ndarray:
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


# ---- hypotheses ---------------------------------------------------------------------------------


class _Row(NamedTuple):
    """One hypothesis: ``weights @ beta = value``; without a label it is numbered."""

    weights: np.ndarray
    value: float
    label: str | None = None


def hypothesis(
    given: Any, names: Sequence[str], role: str = "L"
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Weights, right-hand sides and labels of hypotheses ``L beta = q``.

    Parameters
    ----------
    given : array_like, pandas.DataFrame, pandas.Series, dict, tuple, str or list
        One of

        - weights, in one or two dimensions, with a column per coefficient
        - a table or series whose labels are names of coefficients, or a dict from names to
          weights; coefficients that are not named have weight 0
        - text as ``"x = 0, x - 2*z = 1"``; ``"a = b = 0"`` is two hypotheses, and without a
          right-hand side it is 0
        - ``(L, q)``: weights as above and right-hand sides, one for all or one per row
        - a list of these (but of tuples)
    names : sequence of str
        The coefficients (p). In text the longest name that fits is read.
    role : str, default "L"
        What messages call ``given``.

    Returns
    -------
    L : numpy.ndarray
        Weights (k x p).
    q : numpy.ndarray
        Right-hand sides (k).
    labels : tuple of str
        The text or label given for each row, else ``"c0"``, ``"c1"``, ... by position.

    Raises
    ------
    ValueError
        If ``given`` has the wrong shape, names an unknown coefficient or cannot be read.

    Examples
    --------
    >>> L, q, labels = hypothesis("x - 2*z = 1, Intercept", ["Intercept", "x", "z"])
    >>> L
    array([[ 0.,  1., -2.],
           [ 1.,  0.,  0.]])
    >>> q
    array([1., 0.])
    >>> labels
    ('x - 2*z = 1', 'Intercept')
    """
    rows = _rows(given, [str(name) for name in names], role)
    if not rows:
        raise ValueError(f"{role} has no rows: there is nothing to test")
    L = np.array([row.weights for row in rows])
    q = np.array([row.value for row in rows])
    if not (np.all(np.isfinite(L)) and np.all(np.isfinite(q))):
        raise ValueError(f"{role} has weights or right-hand sides that are missing or infinite")
    labels = (f"c{i}" if row.label is None else row.label for i, row in enumerate(rows))
    return L, q, tuple(labels)


def _rows(given: Any, names: list[str], role: str) -> list[_Row]:
    """The rows of whatever a user gives."""
    if isinstance(given, str):
        return _Text(given, names, role).hypotheses()
    if isinstance(given, Mapping):
        return _labelled_rows(list(given), [list(given.values())], [None], names, role)
    if isinstance(given, tuple) and not (given and all(isinstance(item, str) for item in given)):
        return _with_values(given, names, role)
    if isinstance(given, (list, tuple)) and any(_has_names(item) for item in given):
        return [row for item in given for row in _rows(item, names, role)]
    if _has_names(given):
        return _pandas_rows(given, names, role)
    return _array_rows(given, names, role)


def _has_names(item: Any) -> bool:
    """Whether it is text or maps names to weights: not the row of an array."""
    if isinstance(item, (str, Mapping)):
        return True
    labels = getattr(item, "columns", None)
    if labels is None and hasattr(item, "to_numpy"):
        labels = getattr(item, "index", None)
    return labels is not None and not callable(labels) and not _numbered(labels)


def _numbered(labels: Iterable[Any]) -> bool:
    """Whether labels are pandas' default: 0, 1, ..."""
    return all(isinstance(label, (int, np.integer)) for label in labels)


def _array_rows(given: Any, names: list[str], role: str) -> list[_Row]:
    """Rows of an array, a column per coefficient."""
    weights = _numeric(given, role)
    if weights.ndim == 1:
        weights = weights[None, :]
    if weights.ndim != 2 or weights.shape[1] != len(names):
        shape = " x ".join(map(str, weights.shape)) or "a single number"
        raise ValueError(
            f"{role} should have {len(names)} columns, one per coefficient "
            f"({_listed(names)}); it is {shape}"
        )
    return [_Row(row, 0.0) for row in weights]


def _pandas_rows(given: Any, names: list[str], role: str) -> list[_Row]:
    """Rows of a table with coefficients as columns, or of a series indexed by them."""
    weights = given.to_numpy()
    if weights.ndim == 1:
        label = given.name if isinstance(given.name, str) else None
        return _labelled_rows(list(given.index), weights[None, :], [label], names, role)
    index = getattr(given, "index", None)  # polars has none
    labels: list[str | None] = [None] * len(weights)
    if index is not None and not _numbered(index):
        labels = [str(label) for label in index]
    return _labelled_rows(list(given.columns), weights, labels, names, role)


def _labelled_rows(
    columns: list[Any], weights: Any, labels: list[str | None], names: list[str], role: str
) -> list[_Row]:
    """Rows of weights on named columns, in the order of the coefficients."""
    for column in columns:
        if str(column) not in names:
            raise ValueError(_unknown(str(column), names, role))
    given = _numeric(weights, role)
    if given.ndim != 2:
        raise ValueError(f"{role} should have one weight per name")
    aligned = np.zeros((len(given), len(names)))
    for j, column in enumerate(columns):
        aligned[:, names.index(str(column))] += given[:, j]
    return [_Row(row, 0.0, label) for row, label in zip(aligned, labels, strict=True)]


def _with_values(given: tuple[Any, ...], names: list[str], role: str) -> list[_Row]:
    """Rows of ``(L, q)``."""
    if len(given) != 2 or isinstance(given[0], str):
        raise ValueError(
            f"{role}: a tuple is (L, q), weights and right-hand sides; give rows as a list or an "
            "array, and write right-hand sides of text into it"
        )
    rows = _rows(given[0], names, role)
    values = _per_row(_numeric(given[1], role), len(rows), f"{role}: q, the right-hand side,")
    return [row._replace(value=value) for row, value in zip(rows, values, strict=True)]


def _numeric(values: Any, role: str) -> np.ndarray:
    try:
        array = np.asarray(values)
        if array.dtype.kind in "biufO":
            return array.astype(float)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{role} must be numbers in rows of equal length; got {values!r}")


def _per_row(values: Any, k: int, role: str) -> np.ndarray:
    """One number for all rows, or one per row (k)."""
    array = np.asarray(values, dtype=float).ravel()
    if array.size not in (1, k):
        raise ValueError(f"{role} has {array.size} values for {k} row{'s' * (k != 1)}")
    return np.array(np.broadcast_to(array, (k,)))


def _number(value: Any) -> float:
    """A number, or the one in an array."""
    return float(np.asarray(value, dtype=float).item())


def _listed(names: list[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _unknown(name: str, names: list[str], role: str) -> str:
    hint = suggest(name, names, "coefficients")
    return f"{role} names {name!r}, which is not a coefficient{hint}"


# ---- hypotheses as text -------------------------------------------------------------------------

NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?!\w)"
OPERATOR = r"==|[-+*/=,()]"
WORD = r"[\w.:]+(?:[\[(][^\])]*[\])][\w.:]*)*|."  # what an unknown name looks like
NAME_ENDS = r"(?![\w.:\[(])"


class _Token(NamedTuple):
    kind: str  # "name", "number", "operator" or "end"
    text: str
    start: int
    end: int


class _Text:
    """Recursive descent over ``sum (= sum)*, ...``; values are weights and a constant (p + 1)."""

    def __init__(self, text: str, names: list[str], role: str) -> None:
        self.text, self.names, self.role = text, names, role
        self.tokens = list(self._tokens())
        self.position = 0

    def hypotheses(self) -> list[_Row]:
        """Everything, up to the end."""
        rows = self._equation()
        while self._accept(","):
            rows += self._equation()
        return rows

    def _equation(self) -> list[_Row]:
        sides = [self._side()]
        while self._accept("=", "=="):
            sides.append(self._side())
        if self._next.kind != "end" and self._next.text != ",":
            raise self._error("an operator, '=' or ','")
        if len(sides) == 1:
            value, label = sides[0]
            return [self._row(value, label)]
        return [self._row(a - b, f"{left} = {right}") for (a, left), (b, right) in pairwise(sides)]

    def _row(self, value: np.ndarray, label: str) -> _Row:
        if not np.any(value[:-1]):
            raise ValueError(f"{self.role}: no coefficient is left in {label!r}")
        return _Row(value[:-1], 0.0 - value[-1], label)

    def _side(self) -> tuple[np.ndarray, str]:
        start = self._next.start
        value = self._sum()
        end = self.tokens[self.position - 1].end
        return value, " ".join(self.text[start:end].split())

    def _sum(self) -> np.ndarray:
        value = self._product()
        while operator := self._accept("+", "-"):
            term = self._product()
            value = value + term if operator == "+" else value - term
        return value

    def _product(self) -> np.ndarray:
        value = self._factor()
        while operator := self._accept("*", "/"):
            factor = self._factor()
            value = self._times(value, factor) if operator == "*" else self._over(value, factor)
        return value

    def _factor(self) -> np.ndarray:
        if operator := self._accept("+", "-"):
            return self._factor() if operator == "+" else -self._factor()
        if self._accept("("):
            value = self._sum()
            if not self._accept(")"):
                raise self._error("')'")
            return value
        token = self._next
        if token.kind not in ("name", "number"):
            raise self._error("a coefficient, a number or '('")
        self.position += 1
        value = np.zeros(len(self.names) + 1)
        if token.kind == "name":
            value[self.names.index(token.text)] = 1.0
        else:
            value[-1] = float(token.text)
        return value

    def _times(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        if np.any(left[:-1]) and np.any(right[:-1]):
            raise ValueError(f"{self.role}: {self.text!r} multiplies coefficients: not linear")
        constant, other = (right, left) if np.any(left[:-1]) else (left, right)
        return np.asarray(other * constant[-1])

    def _over(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        if np.any(right[:-1]) or right[-1] == 0:
            what = "a coefficient: not linear" if np.any(right[:-1]) else "zero"
            raise ValueError(f"{self.role}: {self.text!r} divides by {what}")
        return np.asarray(left / right[-1])

    @property
    def _next(self) -> _Token:
        return self.tokens[self.position]

    def _accept(self, *operators: str) -> str:
        """Step over one of some operators; it, or nothing."""
        token = self._next
        if token.kind != "operator" or token.text not in operators:
            return ""
        self.position += 1
        return token.text

    def _error(self, expected: str) -> ValueError:
        rest = self.text[self._next.start :].strip()
        place = f"at {rest!r}" if rest else "at its end"
        return ValueError(f"{self.role}: cannot read {self.text!r} {place}: expected {expected}")

    def _tokens(self) -> Iterable[_Token]:
        longest_first = sorted(filter(None, self.names), key=len, reverse=True)
        known = "|".join(map(re.escape, longest_first)) or r"(?!)"
        pattern = re.compile(
            rf"\s*(?:(?P<name>(?:{known}){NAME_ENDS})|(?P<number>{NUMBER})"
            rf"|(?P<operator>{OPERATOR})|(?P<unknown>{WORD}))",
            re.DOTALL,
        )
        for match in pattern.finditer(self.text.rstrip()):
            kind = str(match.lastgroup)
            if kind == "unknown":
                raise ValueError(_unknown(match[kind], self.names, self.role))
            yield _Token(kind, match[kind], match.start(kind), match.end(kind))
        end = len(self.text)
        yield _Token("end", "", end, end)
