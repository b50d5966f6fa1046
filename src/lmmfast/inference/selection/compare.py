"""Information criteria of several models, and tests of those that are nested.

References
----------
Burnham & Anderson (2002), *Model Selection and Multimodel Inference*, 2nd ed. (AICc, eq. 2.11;
weights, eq. 2.9).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ...fit import Fit
from ...hints import hinted
from ..ddf import check_choice
from ..hypotheses.anova import Anova
from ..hypotheses.comparison import Comparison, compared

CRITERIA = ("AIC", "AICc", "BIC")
COLUMNS = ("npar", "logLik", *CRITERIA, "delta", "weight", "against", "Chisq", "Df", "Pr(>Chisq)")


@hinted
def compare(
    *fits: Fit,
    criterion: Literal["AIC", "AICc", "BIC"] = "AIC",
    refit: bool = True,
    names: Sequence[str] | None = None,
) -> Anova:
    """Compare models by information criteria, and by likelihood ratios where they are nested.

    Parameters
    ----------
    *fits : Fit
        Two or more, of the same response in the same rows; as for `anova`.
    criterion : {"AIC", "AICc", "BIC"}
        What ``delta`` and ``weight`` are of.
    refit : bool, default True
        Fit by maximum likelihood what was fitted by REML. Without it REML criteria are compared,
        which is possible for models with the same fixed effects.
    names : sequence of str, optional
        Names in the table, default m1, m2, ...

    Returns
    -------
    Anova
        Ordered by the number of parameters: ``npar``, ``logLik``, ``AIC``, ``AICc`` (corrected for
        the number of rows n: + 2 k (k + 1) / (n - k - 1) with k parameters, NaN where n is too
        small), ``BIC``, ``delta`` (the criterion minus the lowest), ``weight`` (exp(-delta / 2),
        their sum one), and the likelihood-ratio test ``against`` the largest of the models that are
        special cases of this one.

    Raises
    ------
    DataError
        When fits differ in the response or the rows.
    FitError
        With ``refit=False`` when REML criteria cannot be compared.

    See Also
    --------
    lmmfast.anova : Likelihood-ratio tests of nested models.
    lmmfast.cross_validate : Predictive densities.

    Examples
    --------
    >>> from lmmfast import compare, datasets, lmer
    >>> data = datasets.load("sleepstudy")
    >>> slopes = lmer("Reaction ~ Days + (Days | Subject)", data)
    >>> intercepts = slopes.update(". ~ . - (Days | Subject) + (1 | Subject)")
    >>> table = compare(slopes, intercepts, names=["slopes", "intercepts"]).table
    >>> table["AICc"].round(2).to_dict()
    {'intercepts': 1802.31, 'slopes': 1764.42}
    """
    check_choice("criterion", criterion, CRITERIA)
    if len(fits) < 2:
        raise TypeError("compare() needs at least two fits")
    found = compared(fits, refit, names)
    table, notes = _table(found, criterion)
    title = f"Comparison of models, {found.criterion}"
    return Anova(title, found.models, table, (*found.notes, *notes))


def _table(found: Comparison, criterion: str) -> tuple[Any, list[str]]:
    import pandas as pd

    rows, notes = [], []
    for i, fit in enumerate(found.fits):
        against, test, said = _against(found, i)
        notes += said
        rows.append((fit.n_params, fit.llf, fit.aic, _aicc(fit), fit.bic, against, *test))
    names = [name for name in COLUMNS if name not in ("delta", "weight")]
    table = pd.DataFrame(rows, index=list(found.names), columns=names)
    table["delta"] = table[criterion] - table[criterion].min()
    weight = np.exp(-table["delta"] / 2)
    table["weight"] = weight / weight.sum()
    return table[list(COLUMNS)].astype({"npar": int}), notes


def _aicc(fit: Any) -> float:
    """AIC corrected for few rows."""
    k, left = fit.n_params, fit.nobs - fit.n_params - 1
    return float(fit.aic + 2 * k * (k + 1) / left) if left > 0 else np.nan


def _against(found: Comparison, i: int) -> tuple[str, tuple[float, float, float], list[str]]:
    """The test of a model against the largest of those before it that are special cases of it."""
    for j in reversed(range(i)):
        test, notes = found.test(j, i)
        if not np.isnan(test[2]):
            return found.names[j], test, notes
    return "", (np.nan, np.nan, np.nan), []
