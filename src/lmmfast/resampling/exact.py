"""Tests of one variance by the distribution that the likelihood ratio has with these rows.

References
----------
Crainiceanu & Ruppert (2004), *J. R. Statist. Soc. B* 66 (one variance); Greven, Crainiceanu,
Küchenhoff & Peters (2008), *J. Comput. Graph. Stat.* 17 (beside others).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import tables
from ..errors import FitError
from ..fit import Fit
from ..hints import hinted
from ..inference.ddf import fit_of, linear_only, without_residual_structure
from ..inference.hypotheses.comparison import EQUAL, chi2_tail, compared
from ..inference.hypotheses.nesting import nesting
from ..inference.hypotheses.regression import Regression, comparable_fit
from ..inference.refits import by_likelihood, by_restricted_likelihood, estimated, model_of
from ..many.job import checked_count
from ..many.streams import Streams
from .spectrum import spectrum_of
from .suprema import Ratio

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class RatioTest(tables.Printed):
    """A likelihood ratio beside its distribution under the hypothesis, which was simulated.

    Attributes
    ----------
    title : str
    models : tuple of str
        The formulas: hypothesis, alternative.
    statistic : float
        Twice the difference of the log likelihoods.
    pvalue : float
        (1 + number of ratios drawn that are as large) / (1 + n).
    pvalue_se : float
        Its Monte-Carlo standard error.
    pvalue_mixture : float
        What chi-squared mixtures with equal weights give, which hold for infinitely many
        independent groups (Self & Liang 1987).
    null : (n,) array
        The ratios drawn.
    n, seed : int
        Ratios drawn, and the seed that repeats them.
    notes : tuple of str
    """

    title: str
    models: tuple[str, ...]
    statistic: float
    pvalue: float
    pvalue_se: float
    pvalue_mixture: float
    null: np.ndarray
    n: int
    seed: int
    notes: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """The test as a table of one row."""
        import pandas as pd

        names = ("statistic", "pvalue", "pvalue_se", "pvalue_mixture", "n", "seed")
        return pd.DataFrame([{name: getattr(self, name) for name in names}])

    def summary(self) -> tables.Summary:
        """The test on paper."""
        cells = (
            tables.fixed(self.statistic, 4),
            tables.p_value(self.pvalue),
            tables.general(self.pvalue_se, 2),
            tables.p_value(self.pvalue_mixture),
        )
        table = tables.Table(("Ratio", "p", "SE of p", "p of the mixture"), (cells,), 0)
        zero = f"{100 * np.mean(self.null <= 0):.1f} % of them are zero"
        how = f"p: {self.n:,} ratios drawn under the hypothesis (seed {self.seed}), {zero}"
        notes = [line for note in self.notes for line in tables.wrapped(note)]
        return tables.Summary(((self.title,), self.models, (table, how, *notes)))


@hinted
def rlr_test(
    fit: Fit, fit0: Fit | Regression | None = None, n: int = 10_000, seed: int | None = None
) -> RatioTest:
    """Test whether the variance of one random effect is zero, by its restricted likelihood ratio.

    The distribution of the ratio is that of these rows and their number of levels, not that of
    infinitely many: exact for a model with one random term of one column, `(1 | g)` or
    `(0 + x | g)`. Beside other random terms the tested one is taken alone with the fixed effects
    (Greven et al. 2008): an approximation, good unless the terms are strongly related.

    Parameters
    ----------
    fit : Fit
        With the tested random effect; refitted by REML if it is by maximum likelihood.
    fit0 : Fit, optional
        Without it, everything else the same; needed where `fit` has other random effects. Where it
        has none, results of statsmodels' OLS or WLS are as good as nothing.
    n : int, default 10,000
        Ratios drawn.
    seed : int, optional
        Default: a new one, which the result has.

    Returns
    -------
    RatioTest

    Raises
    ------
    FitError
        When the two fits differ in more than one random effect, when it has covariances with
        others, or when parameters were held.
    DataError
        When the fits have different responses or rows.

    See Also
    --------
    lmmfast.pb_test : Any two nested models, by a parametric bootstrap.
    lmmfast.ranova : Asymptotic mixtures.

    References
    ----------
    Crainiceanu & Ruppert (2004), *J. R. Statist. Soc. B* 66(1), 165-185; Greven, Crainiceanu,
    Küchenhoff & Peters (2008), *J. Comput. Graph. Stat.* 17(4), 870-891. As RLRsim's `exactRLRT`.

    Examples
    --------
    >>> from lmmfast import datasets, lmer, rlr_test
    >>> fit = lmer("Reaction ~ Days + (1 | Subject)", datasets.load("sleepstudy"))
    >>> test = rlr_test(fit, n=1000, seed=1)
    >>> round(test.statistic, 3), round(test.pvalue, 4)
    (107.199, 0.001)
    """
    n, streams = checked_count(n), Streams(seed)
    larger, notes = _free_fit(fit), []
    if not larger.reml:
        larger = by_restricted_likelihood(larger)
        notes.append("fitted by REML (instead of maximum likelihood)")
    if fit0 is None or _is_regression(fit0, larger):
        i, column = _only_column(larger)
        null = model_of(larger).criterion(np.zeros_like(larger.theta), True, None)
        models = _formulas(f"no ({larger.design.terms[i].label})", larger)
    else:
        smaller = _free_fit(fit0)
        smaller = smaller if smaller.reml else by_restricted_likelihood(smaller)
        found = compared((smaller, larger), False, ("hypothesis", "alternative"))
        smaller, larger = found.fits
        i, column = _added_column(smaller, larger)
        null, models = smaller.objective, _formulas(tables.formula_text(smaller.formula), larger)
        notes.append(
            "the other random effects count as known in the distribution (Greven et al. 2008): p "
            "is approximate"
        )
    draws = Ratio.restricted(spectrum_of(larger, i, column)).draws(n, streams.generator(0))
    statistic = _statistic(null, larger, notes)
    mixture = (chi2_tail(statistic, 0) + chi2_tail(statistic, 1)) / 2
    title = f"Restricted likelihood ratio of the variance of {_name(larger, i, column)}"
    return _tested(title, models, statistic, mixture, draws, streams.seed, notes)


@hinted
def lr_test(
    fit: Fit, fit0: Regression | None = None, n: int = 10_000, seed: int | None = None
) -> RatioTest:
    """Test the variance of the only random effect, and fixed effects with it, by likelihood ratio.

    The distribution is exact: that of these rows.

    Parameters
    ----------
    fit : Fit
        With one random term of one column; refitted by maximum likelihood if it is by REML.
    fit0 : results of statsmodels' OLS or WLS, optional
        The hypothesis: without random effects, its fixed effects those of `fit` or fewer. Default:
        those of `fit`.
    n : int, default 10,000
        Ratios drawn.
    seed : int, optional
        Default: a new one, which the result has.

    Returns
    -------
    RatioTest

    Raises
    ------
    FitError
        When `fit` has other random effects, when models are not nested or parameters were held.
    DataError
        When the fits have different responses or rows.

    See Also
    --------
    lmmfast.rlr_test : Better of the variance alone.
    lmmfast.anova : Likelihood ratios of any nested fits, asymptotic.

    References
    ----------
    Crainiceanu & Ruppert (2004), *J. R. Statist. Soc. B* 66(1), 165-185, theorem 1. As RLRsim's
    `exactLRT`.

    Examples
    --------
    >>> from lmmfast import datasets, lmer, lr_test
    >>> fit = lmer("Reaction ~ Days + (1 | Subject)", datasets.load("sleepstudy"))
    >>> round(lr_test(fit, n=1000, seed=1).statistic, 3)
    106.214
    """
    n, streams = checked_count(n), Streams(seed)
    larger, notes = _free_fit(fit), []
    if larger.reml:
        notes.append("fitted by maximum likelihood (instead of REML)")
        larger = by_likelihood(larger)
    i, column = _only_column(larger)
    if fit0 is None:
        null, q = model_of(larger).criterion(np.zeros_like(larger.theta), False, None), 0
        models = _formulas(f"no ({larger.design.terms[i].label})", larger)
    else:
        found = compared((fit0, larger), True, ("hypothesis", "alternative"))
        smaller, larger = found.fits
        if len(smaller.theta) or not len(larger.theta):
            raise FitError(
                "the hypothesis has no random effects: give a fit of statsmodels' OLS or WLS as "
                "fit0; lmmfast.anova and lmmfast.pb_test compare two fits of lmer"
            )
        reason = nesting(smaller, larger).reason
        if reason:
            raise FitError(f"the models are not nested: {reason}")
        null, models = smaller.objective, _formulas(smaller.formula, larger)
        q = larger.n_params - smaller.n_params - 1
    own = spectrum_of(larger, i, column)
    draws = Ratio.whole(own, larger.nobs).draws(n, streams.generator(0), q)
    statistic = _statistic(null, larger, notes)
    mixture = (chi2_tail(statistic, q) + chi2_tail(statistic, q + 1)) / 2
    more = f" and {q} fixed effect{'s' * (q > 1)}" if q else ""
    title = f"Likelihood ratio of the variance of {_name(larger, i, column)}{more}"
    return _tested(title, models, statistic, mixture, draws, streams.seed, notes)


# ---- which variance ------------------------------------------------------------------------------


def _free_fit(fit: Any) -> Fit:
    """A fit whose parameters were all estimated."""
    own = fit_of(fit)
    linear_only(own, "the exact distribution of the ratio (see lmmfast.pb_test)")
    without_residual_structure(own, "the exact distribution of the ratio")
    if own.estimates.free is not None:
        raise FitError(
            "parameters of the fit were held: the distribution of the ratio is known where sigma "
            "and the tested variance are estimated, and all else is"
        )
    return own


def _is_regression(fit0: Any, larger: Fit) -> bool:
    """Whether the hypothesis is the regression with the fixed effects of the alternative; FitError
    where it is another one."""
    regression = comparable_fit(fit0)
    if not isinstance(regression, Regression):
        return False
    found = compared((fit0, larger), True, ("hypothesis", "alternative"))
    reason = nesting(*found.fits).reason
    if reason or regression.rank != int(np.sum(larger.estimates.fixed_kept)):
        why = f" ({reason})" if reason else ""
        raise FitError(
            "restricted likelihoods can only be compared when the fixed effects are the same"
            f"{why}: lmmfast.lr_test tests fixed effects, too"
        )
    return True


def _only_column(fit: Fit) -> tuple[int, int]:
    """The term and column of the only random effect."""
    terms = fit.design.terms
    if len(terms) == 1 and terms[0].source.width == 1:
        return 0, 0
    raise FitError(
        "the exact distribution is that of models with one random term of one column, (1 | g); "
        f"this one has {', '.join(term.term for term in terms)}. For one variance beside "
        "others give rlr_test the fit without it as fit0; lmmfast.pb_test compares any two"
    )


def _added_column(smaller: Fit, larger: Fit) -> tuple[int, int]:
    """The term and column that only the larger fit has."""
    left = [(i, columns) for i, columns in _pieces(larger)]
    for i, columns in _pieces(smaller):
        same = next(
            (own for own in left if _is_same(smaller, i, columns, larger, *own)),
            None,
        )
        if same is None:
            label = smaller.design.terms[i].label
            raise FitError(f"({label}) of the hypothesis is no random effect of the alternative")
        left.remove(same)
    if len(left) == 1 and len(left[0][1]) == 1:
        return left[0][0], left[0][1][0]
    names = [_name(larger, i, j) for i, columns in left for j in columns]
    raise FitError(
        "the fits must differ in one random effect without covariances; they differ in "
        f"{tables.joined(names) if names else 'none'}: lmmfast.pb_test compares any two nested fits"
    )


def _pieces(fit: Fit) -> list[tuple[int, tuple[int, ...]]]:
    """Columns whose effects are correlated, term by term."""
    out: list[tuple[int, tuple[int, ...]]] = []
    for i, term in enumerate(fit.design.terms):
        columns = tuple(range(term.source.width))
        out += [(i, columns)] if term.structure == "full" else [(i, (j,)) for j in columns]
    return out


def _is_same(
    one: Fit, i: int, columns: tuple[int, ...], two: Fit, k: int, others: tuple[int, ...]
) -> bool:
    """Whether random effects have the same columns and the same levels, by whatever name."""
    a, b = one.design.terms[i], two.design.terms[k]
    if len(columns) != len(others) or len(a.levels) != len(b.levels):
        return False
    if a.covariance != b.covariance:
        return False
    if not np.array_equal(a.z[:, list(columns)], b.z[:, list(others)]):
        return False
    place = np.zeros(len(a.levels), dtype=np.int64)
    place[a.codes] = b.codes
    return bool((place[a.codes] == b.codes).all())


def _name(fit: Fit, i: int, column: int) -> str:
    term = fit.design.terms[i]
    return f"{term.columns[column]} by {term.group}"


# ---- the result ----------------------------------------------------------------------------------


def _formulas(hypothesis: str, larger: Fit) -> tuple[str, ...]:
    alternative = tables.formula_text(larger.formula)
    return f"hypothesis: {hypothesis}", f"alternative: {alternative}"


def _statistic(null: float, larger: Fit, notes: list[str]) -> float:
    """The ratio; what is zero but for rounding is zero."""
    ratio = null - larger.objective
    notes += estimated(larger)
    if ratio < -EQUAL:
        notes.append(
            "the hypothesis has the higher likelihood, so the alternative is at another optimum or "
            "was not fitted to the end"
        )
    return float(ratio) if ratio > EQUAL else 0.0


def _tested(
    title: str,
    models: tuple[str, ...],
    statistic: float,
    mixture: float,
    draws: np.ndarray,
    seed: int,
    notes: list[str],
) -> RatioTest:
    n = len(draws)
    p = float((1 + np.count_nonzero(draws >= statistic)) / (1 + n))
    se = float(np.sqrt(p * (1 - p) / n))
    return RatioTest(title, models, statistic, p, se, mixture, draws, n, seed, tuple(notes))
