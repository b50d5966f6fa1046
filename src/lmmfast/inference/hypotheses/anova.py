"""Tables of tests: terms of the fixed effects, nested models.

References
----------
Kuznetsova, Brockhoff & Christensen (2017), *J. Stat. Softw.* 82(13) (the tables); Self & Liang
(1987), *JASA* 82 (variances on the boundary).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ... import tables as _tables
from ...errors import DataError
from ...fit import Fit
from ...hints import hinted
from ...typing import Ddf
from ..ddf import METHODS, Method, ddf_of, fit_of, method_of
from ..wald import wald_test
from .comparison import chi2_tail, compared
from .estimable import Effects, effects_of

if TYPE_CHECKING:
    import pandas as pd
else:
    from ...late import pandas as pd


TYPES = {1: 1, 2: 2, 3: 3, "1": 1, "2": 2, "3": 3, "I": 1, "II": 2, "III": 3}
ROMAN = {1: "I", 2: "II", 3: "III"}


# ---- the result ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Anova(_tables.Printed):
    """A table of tests; ``print`` shows it as R does, notebooks as HTML.

    Attributes
    ----------
    title : str
    models : tuple of str
        The formulas concerned.
    table : pandas.DataFrame
        One row per term or model, R's column names; NaN where there is no test.
    notes : tuple of str
        What to know about the tests.
    """

    title: str
    models: tuple[str, ...]
    table: pd.DataFrame
    notes: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """As ``table``."""
        return self.table.copy()

    def summary(self) -> _tables.Summary:
        """The table on paper."""
        columns = {str(name): _cells(str(name), self.table[name].to_list()) for name in self.table}
        names = [str(name) for name in self.table.index]
        rows = tuple(zip(names, *columns.values(), strict=True))
        models = [line for model in self.models for line in _tables.wrapped(model)]
        notes = [line for note in self.notes for line in _tables.wrapped(f"Note: {note}")]
        table = _tables.Table(("", *columns), rows, 1)
        return _tables.Summary(((self.title, *models), (table, *notes)))


WHOLE = ("npar", "Df", "NumDF", "Eliminated")
DECIMALS = {"AIC": 3, "BIC": 3, "logLik": 3, "deviance": 3, "Chisq": 4, "LRT": 4, "F value": 4}
DECIMALS |= {"AICc": 3, "delta": 3, "weight": 4}


def _cells(name: str, values: list[Any]) -> list[str]:
    """A column as text; what is missing is left out, as in R."""
    if all(isinstance(value, str) for value in values):
        return values
    numbers = [float(value) for value in values]
    if name.startswith("Pr("):
        cells = [_tables.p_value(p) for p in numbers]
    elif name in WHOLE:
        cells = [_tables.fixed(value, 0) for value in numbers]
    elif name in DECIMALS:
        cells = [_tables.fixed(value, DECIMALS[name]) for value in numbers]
    elif name == "DenDF":
        cells = [_tables.general(df, 5) if df < 1e4 else _tables.fixed(df, 0) for df in numbers]
    else:
        cells = _tables.column(numbers)
    return ["" if np.isnan(value) else cell for value, cell in zip(numbers, cells, strict=True)]


# ---- terms of the fixed effects -----------------------------------------------------------------


@hinted
def anova(
    *fits: Fit,
    type: Literal[1, 2, 3, "1", "2", "3", "I", "II", "III"] = 3,
    ddf: Ddf | None = None,
    refit: bool = True,
    names: Sequence[str] | None = None,
) -> Anova:
    """Test the terms of the fixed effects of one fit, or compare several fits.

    One fit: F tests of its terms, as lmerTest's. Type III does not depend on the contrasts that the
    fit used. Several fits: likelihood-ratio tests of each against the next smaller one, as lme4's.

    Parameters
    ----------
    *fits : Fit
        Several fits must have the same response in the same rows; rows of pandas in another order
        are put in order by their labels. Among several may be fits of statsmodels' OLS and WLS,
        models without random effects.
    type : {3, 2, 1, "III", "II", "I"}
        Of one fit; SAS's types. 3: each term given all others; 2: given those that do not contain
        it; 1: given those before it.
    ddf : {"satterthwaite", "kenward-roger", "kenward-roger-observed", "residual", "z"}
        Of one fit: denominator degrees of freedom; "z" gives chi-squared tests, which is what
        generalized models have.
    refit : bool, default True
        Of several: fit by maximum likelihood what was fitted by REML. Without it REML criteria are
        compared, which is possible for models with the same fixed effects.
    names : sequence of str, optional
        Of several: their names in the table, default m1, m2, ...

    Returns
    -------
    Anova
        Columns ``Sum Sq``, ``Mean Sq`` (F times the residual variance), ``NumDF``, ``DenDF``,
        ``F value`` and ``Pr(>F)``, or ``Chisq``, ``Df`` and ``Pr(>Chisq)``; several fits:
        ``npar``, ``AIC``, ``BIC``, ``logLik``, ``deviance``, ``Chisq``, ``Df``, ``Pr(>Chisq)``.

    Raises
    ------
    DataError
        When fits differ in the response or the rows; for terms of a model made from arrays.
    FitError
        With ``refit=False`` when REML criteria cannot be compared; Kenward-Roger for a fit by
        maximum likelihood.

    See Also
    --------
    lmmfast.drop1 : Each term that may be taken out.
    lmmfast.ranova : Random effects.
    lmmfast.compare : Information criteria.
    lmmfast.pb_test : Nested models by simulation.

    Examples
    --------
    >>> from lmmfast import anova, datasets, lmer
    >>> data = datasets.load("sleepstudy")
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", data)
    >>> table = anova(fit).table
    >>> float(table.loc["Days", "F value"].round(3)), float(table.loc["Days", "DenDF"].round(2))
    (45.853, 17.0)
    >>> small = lmer("Reaction ~ Days + (1 | Subject)", data)
    >>> float(anova(small, fit).table.loc["m2", "Chisq"].round(3))
    42.139
    """
    if not fits:
        raise TypeError("anova needs at least one fit")
    if len(fits) > 1:
        if type != 3 or ddf is not None:
            raise ValueError("type= and ddf= are for the terms of one fit, not for several fits")
        return _compare(fits, refit, names)
    if type not in TYPES or isinstance(type, bool):
        raise ValueError(f"type must be 1, 2 or 3, not {type!r}")
    fit, kind = fit_of(fits[0]), TYPES[type]
    ddf = ddf_of(ddf, fit)
    effects = terms_of(fit)
    terms = [t for t, label in enumerate(effects.labels) if label]
    tests = {effects.labels[t]: effects.hypothesis(t, kind) for t in terms}
    nominal = [len(effects.columns[t]) for t in terms]
    notes = untested(tests, nominal)
    if not terms:
        notes.append("the model has no terms beside the intercept")
    pairs = zip(fit.design.x_names, fit.estimates.fixed_kept, strict=True)
    dropped = [name for name, kept in pairs if not kept]
    if kind == 3 and dropped and any(map(effects.contained, terms)):
        shown = ", ".join(dropped[:5]) + (", ..." if len(dropped) > 5 else "")
        notes.append(
            f"{shown} {_tables.be(len(dropped))} dropped: what type III tests of terms that others "
            "contain say depends on which cells are there"
        )
    title = f"Type {ROMAN[kind]} analysis of variance table, {method_name(ddf)}"
    return Anova(title, (model_line(fit),), *table_of_tests(fit, tests, ddf, notes))


def model_line(fit: Fit) -> str:
    """The model, for the head of a table."""
    return f"Model: {_tables.formula_text(fit.formula)}"


def method_name(ddf: str) -> str:
    """What the tests are, for titles."""
    return "Wald chi-squared tests" if ddf == "z" else f"{METHODS[ddf]} degrees of freedom"


def terms_of(fit: Fit) -> Effects:
    """The terms of the fixed effects."""
    recipe, kept = fit.design.recipe, fit.estimates.fixed_kept
    if recipe is None:
        raise DataError(
            "a model made from arrays has columns, but no terms: test the columns that belong "
            "together with fit.f_test(L)"
        )
    return effects_of(fit.design.fixed, kept, recipe.fixed_layout, recipe.codings)


def untested(tests: dict[str, np.ndarray], nominal: list[int]) -> list[str]:
    """Which terms cannot be tested, or not in all their columns."""
    notes = []
    for (label, L), columns in zip(tests.items(), nominal, strict=True):
        if not len(L):
            notes.append(f"{label} cannot be told from the other terms: there is nothing to test")
        elif len(L) < columns:
            notes.append(f"{label}: only {len(L)} of its {columns} columns can be tested")
    return notes


def table_of_tests(
    fit: Fit, tests: dict[str, np.ndarray], ddf: str, notes: list[str]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The test of each term, and the notes with what there is to add."""
    import pandas as pd

    own = method_of(fit, ddf)
    rows = [_chisq(own, L) if ddf == "z" else _f(fit, own, L) for L in tests.values()]
    columns = ["Sum Sq", "Mean Sq", "NumDF", "DenDF", "F value", "Pr(>F)"]
    columns = ["Chisq", "Df", "Pr(>Chisq)"] if ddf == "z" else columns
    table = pd.DataFrame(rows, index=list(tests), columns=columns, dtype=float)
    if ddf.startswith("kenward-roger") and any(len(L) > 1 for L in tests.values()):
        notes.append("sums and mean squares go with F before Kenward and Roger's scaling")
    return table.astype({name: int for name in columns if name in WHOLE}), tuple(notes)


def _f(fit: Fit, own: Method, L: np.ndarray) -> tuple[float, ...]:
    from scipy.special import fdtrc

    if not len(L):
        return np.nan, np.nan, 0, np.nan, np.nan, np.nan
    statistic, df, denominator = _joint(own, L)
    plain = wald_test(L, np.zeros(len(L)), fit.estimates.beta, own.vcov).fvalue
    mean = plain * fit.scale
    return mean * df, mean, df, denominator, statistic, float(fdtrc(df, denominator, statistic))


def _joint(own: Method, L: np.ndarray) -> tuple[float, int, float]:
    """F, its degrees of freedom and the denominator's; all rows of L are independent."""
    found = own.f(L)
    if found[1] == len(L):
        return found
    # columns in such different units that some variances are lost beside others
    sd = np.sqrt(np.einsum("ij,jk,ik->i", L, np.nan_to_num(own.vcov), L))
    return own.f(L / sd[:, None])


def _chisq(own: Method, L: np.ndarray) -> tuple[float, ...]:
    if not len(L):
        return np.nan, 0, np.nan
    statistic, df, _ = _joint(own, L)
    return statistic * df, df, chi2_tail(statistic * df, df)


# ---- nested models ------------------------------------------------------------------------------


def _compare(fits: Sequence[Any], refit: bool, names: Sequence[str] | None) -> Anova:
    """Likelihood-ratio tests of each model against the next smaller one."""
    import pandas as pd

    found = compared(fits, refit, names)
    tests: list[tuple[float, float, float]] = [(np.nan, np.nan, np.nan)]
    notes = list(found.notes)
    for before, i in pairwise(range(len(fits))):
        test, said = found.test(before, i)
        tests.append(test)
        notes += said
    rows = [
        (fit.n_params, fit.aic, fit.bic, fit.llf, fit.objective, *test)
        for fit, test in zip(found.fits, tests, strict=True)
    ]
    columns = ["npar", "AIC", "BIC", "logLik", "deviance", "Chisq", "Df", "Pr(>Chisq)"]
    table = pd.DataFrame(rows, index=list(found.names), columns=columns)
    title = f"Likelihood-ratio tests, {found.criterion}"
    return Anova(title, found.models, table.astype({"npar": int}), tuple(notes))
