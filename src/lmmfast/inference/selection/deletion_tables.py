"""Tables of single deletions: terms of the fixed effects, random effects.

References
----------
Kuznetsova, Brockhoff & Christensen (2017), *J. Stat. Softw.* 82(13) (the tables); Stram & Lee
(1994), *Biometrics* 50 (variances on the boundary).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ...fit import Fit
from ...hints import hinted
from ...typing import Ddf
from ..ddf import check_choice, ddf_of, fit_of, mixed_only
from ..hypotheses.anova import (
    Anova,
    method_name,
    model_line,
    table_of_tests,
    terms_of,
    untested,
)
from ..hypotheses.comparison import EQUAL, chi2_tail, criterion_name
from ..hypotheses.estimable import Effects
from ..refits import by_likelihood, estimated, model_of_part, refitted
from .fixed_part import named_terms
from .reductions import Deletion, Refit, allowed_deletions, refit_without

NOTHING = (np.nan, np.nan, np.nan, "", np.nan)  # of the whole model: no test


# ---- fixed effects ------------------------------------------------------------------------------


@hinted
def drop1(
    fit: Fit,
    test: Literal["F", "Chisq"] | None = None,
    ddf: Ddf | None = None,
    scope: str | Sequence[str] | None = None,
) -> Anova:
    """Test what taking out one term of the fixed effects does, for each that may be taken out.

    These are the terms whose variables are not all in another term: main effects stay while there
    is an interaction.

    Parameters
    ----------
    fit : Fit
        Of `lmmfast.lmer`, `lmmfast.glmer` or `lmmfast.mmrm`.
    test : {"F", "Chisq"}, optional
        F tests in the fitted model, as lmerTest's (of generalized models Wald's chi-squared tests),
        or likelihood ratios of models fitted by maximum likelihood with and without the term, as
        lme4's. Default: "F", of generalized models "Chisq".
    ddf : {"satterthwaite", "kenward-roger", "kenward-roger-observed", "residual", "z"}
        Of F tests: denominator degrees of freedom; "z" gives Wald's chi-squared tests.
    scope : str or sequence of str, optional
        The terms to take out, by name or as a formula: ``"x"``, ``["x", "a:b"]``, ``"~ x + a:b"``;
        ``"~ ."`` are all terms. Nothing is left to test of a term that others contain, as in
        lme4: without it the model is the same. Default: those that no other term contains.

    Returns
    -------
    Anova
        Columns as of `anova`, or ``npar`` (of the term), ``AIC`` (without it), ``LRT`` and
        ``Pr(Chi)``.

    Raises
    ------
    DataError
        For a model made from arrays.
    ValueError
        For a scope that names what is no term.
    FitError
        Kenward-Roger for a fit by maximum likelihood.

    See Also
    --------
    lmmfast.anova : Tables of terms of types I to III.
    lmmfast.step : Backward elimination.

    Examples
    --------
    >>> from lmmfast import datasets, drop1, lmer
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> float(drop1(fit, test="Chisq").table.loc["Days", "LRT"].round(3))
    23.537
    """
    fit = fit_of(fit)
    ddf = ddf_of(ddf, fit)
    if test is None:
        test = "F" if fit.family is None else "Chisq"
    check_choice("test", test, ("F", "Chisq"))
    effects = terms_of(fit)
    terms = effects.droppable() if scope is None else named_terms(effects, scope, "scope")
    if test == "Chisq":
        return _drop_by_likelihood(fit, effects, terms)
    tests = {effects.labels[t]: effects.removal(t) for t in terms}
    notes = untested(tests, [len(L) or 1 for L in tests.values()])
    title = f"Single term deletions, {method_name(ddf)}"
    return Anova(title, (model_line(fit),), *table_of_tests(fit, tests, ddf, notes))


def _drop_by_likelihood(fit: Fit, effects: Effects, terms: list[int]) -> Anova:
    import pandas as pd

    full = by_likelihood(fit)
    rows: list[tuple[float, ...]] = [(np.nan, full.aic, np.nan, np.nan)]
    notes = ["fitted by maximum likelihood (instead of REML)"] if fit.reml else []
    higher = []
    for t in terms:
        basis = effects.without(t)
        df = int(effects.kept.sum()) - basis.shape[1]
        if df == 0:
            notes.append(f"{effects.labels[t]}: the other terms make the same model")
            rows.append((0, full.aic, 0.0, np.nan))
            continue
        fixed = fit.design.fixed.combined(basis)
        names = tuple(f"x{j}" for j in range(fixed.width))
        model = model_of_part(fit, replace(fit.design, fixed=fixed, x_names=names, recipe=None))
        small = refitted(fit, model, full.theta, reml=False, free=full.estimates.free)
        ratio = small.objective - full.objective
        if ratio < -EQUAL:
            higher.append(effects.labels[t])
        ratio = max(ratio, 0.0)
        rows.append((df, small.objective + 2 * (full.n_params - df), ratio, chi2_tail(ratio, df)))
    notes += _other_optimum(higher) + estimated(full)
    index = ["<none>", *(effects.labels[t] for t in terms)]
    table = pd.DataFrame(rows, index=index, columns=["npar", "AIC", "LRT", "Pr(Chi)"])
    title = "Single term deletions, likelihood-ratio tests"
    return Anova(title, (model_line(fit),), table, tuple(notes))


def _other_optimum(higher: list[str]) -> list[str]:
    """What it means that models without these have higher likelihoods."""
    if not higher:
        return []
    return [
        f"the likelihood is higher without {', '.join(higher)}: the fit is at another optimum or "
        "was not fitted to the end"
    ]


# ---- random effects -----------------------------------------------------------------------------


@hinted
def ranova(fit: Fit, reduce_terms: bool = True, *, reduce: bool | None = None) -> Anova:
    """Test what taking out one random effect does, as lmerTest's ``ranova``.

    Likelihood-ratio tests by the fit's criterion, REML or maximum likelihood. A variance of zero is
    on the boundary, where the ratio is not chi-squared with ``Df`` degrees of freedom:
    ``Pr(>Chisq)``, which assumes it, is too large. For one variance with its k covariances the
    ratio is chi-squared with k or k + 1 degrees of freedom with equal probability (Stram & Lee
    1994), provided that no other variance is zero: ``Pr(mixture)``.

    Parameters
    ----------
    fit : Fit
        Of `lmmfast.lmer` or `lmmfast.glmer`.
    reduce_terms : bool, default True
        Take the columns of one term out of ``(x1 + x2 | g)`` at a time, its intercept only when it
        stands alone; columns of ``||`` one by one. False: whole random terms.
    reduce : bool, optional
        The same, by a shorter name.

    Returns
    -------
    Anova
        Columns ``npar``, ``logLik``, ``AIC``, ``LRT``, ``Df``, ``Pr(>Chisq)``, ``mixture`` and
        ``Pr(mixture)``, NaN where no mixture is known.

    Raises
    ------
    FitError
        For a fit of `mmrm`, which has no random effects.

    See Also
    --------
    lmmfast.rlr_test : The finite-sample distribution for one variance.
    lmmfast.simplify : Smaller random parts of singular fits.
    lmmfast.anova : Terms of the fixed effects.

    Examples
    --------
    >>> from lmmfast import datasets, lmer, ranova
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> table = ranova(fit).table
    >>> table.index[1], table["mixture"].iloc[1], float(table["LRT"].iloc[1].round(3))
    ('Days in (1 + Days | Subject)', '0.5 chi2(1) + 0.5 chi2(2)', 42.837)
    """
    import pandas as pd

    fit = fit_of(fit)
    mixed_only(fit, "ranova()")
    reduce_terms = reduce_terms if reduce is None else reduce
    columns = ["npar", "logLik", "AIC", "LRT", "Df", "Pr(>Chisq)", "mixture", "Pr(mixture)"]
    index, rows = ["<none>"], [(fit.n_params, fit.llf, fit.aic, *NOTHING)]
    held, higher, unknown = [], [], []
    for deletion, reduced, row in tested_deletions(fit, reduce_terms):
        if reduced is None:
            held.append(deletion.note)
            continue
        index.append(deletion.label)
        rows.append(row)
        if reduced.objective < fit.objective - EQUAL:
            higher.append(deletion.label)
        if reduced.singular and deletion.beside is not None:
            unknown.append(deletion.label)
    notes = held + _other_optimum(higher) + estimated(fit)
    if unknown:
        them = ", ".join(unknown)
        notes.append(f"other variances are zero without {them}: no mixture is known there")
    notes.append(
        "Pr(>Chisq) is conservative (too large): variances of zero are on the boundary; "
        "use Pr(mixture) where it is given"
    )
    table = pd.DataFrame(rows, index=index, columns=columns).astype({"npar": int})
    title = f"Single deletions of random effects, likelihood-ratio tests, {criterion_name(fit)}"
    return Anova(title, (model_line(fit),), table, tuple(notes))


def tested_deletions(
    fit: Fit, reduce_terms: bool
) -> Iterator[tuple[Deletion, Refit | None, tuple[Any, ...]]]:
    """Each random effect that may be taken out, the fit without it (None: it is held, and its note
    says so), and its row in the table."""
    for deletion in allowed_deletions(fit, reduce_terms):
        reduced = None if deletion.note else refit_without(fit, deletion)
        yield deletion, reduced, () if reduced is None else _deletion_row(fit, deletion, reduced)


def _deletion_row(fit: Fit, deletion: Deletion, reduced: Refit) -> tuple[Any, ...]:
    """npar, logLik, AIC, LRT, Df, p, mixture, its p."""
    npar, df, k = fit.n_params - reduced.lost, reduced.lost, deletion.beside
    ratio = reduced.objective - fit.objective if df else 0.0
    ratio = ratio if ratio > EQUAL else 0.0
    naive = chi2_tail(ratio, df) if df else np.nan
    mixture, p = "", np.nan
    if k is not None and df == k + 1 and not reduced.singular:
        mixture = f"0.5 chi2({k}) + 0.5 chi2({k + 1})"
        p = (chi2_tail(ratio, k) + chi2_tail(ratio, k + 1)) / 2
    aic = reduced.objective + 2 * npar
    return npar, -reduced.objective / 2, aic, ratio, df, naive, mixture, p
