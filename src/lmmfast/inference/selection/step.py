"""Backward elimination: random effects first, then terms of the fixed effects by marginality.

References
----------
Kuznetsova, Brockhoff & Christensen (2017), *J. Stat. Softw.* 82(13), section 3.4 (the procedure and
its tables); Harrell (2015), *Regression Modeling Strategies*, 2nd ed., section 4.3 (what selection
does to p-values, standard errors and estimates).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import tables
from ...errors import FitError
from ...fit import Fit
from ...hints import hinted
from ...typing import Ddf
from ..ddf import ddf_of, fit_of, linear_only
from ..hypotheses.anova import Anova, terms_of
from ..refits import model_of_part, refitted
from .deletion_tables import NOTHING, drop1, tested_deletions
from .fixed_part import named_terms, reduction_of, without_term
from .reductions import Deletion, Refit, refit_reduced

if TYPE_CHECKING:
    import pandas as pd
else:
    from ...late import pandas as pd

RANDOM = ("Eliminated", "npar", "logLik", "AIC", "LRT", "Df", "Pr(>Chisq)")
SELECTED = (
    "the model was chosen by the same data that it is now tested on: its p-values are too small, "
    "its intervals too short, and estimates of what stayed too large (Harrell 2015, 4.3); report "
    "the first model, or say how this one was found"
)


@dataclass(frozen=True, eq=False, repr=False)
class Steps(tables.Printed):
    """The steps of a backward elimination.

    Attributes
    ----------
    random : pandas.DataFrame
        The random effects: ``Eliminated`` (1, 2, ... in the order of elimination, 0 for those that
        stay, missing for the first model), and the columns of `ranova`. Rows of what was taken out
        are tests in the model of their step, the others those in the last one.
    fixed : pandas.DataFrame
        The terms of the fixed effects, in the same way with the columns of `drop1`.
    fit : Fit
        The model found, of the same rows.
    notes : tuple of str
        What to know, above all of p-values after selection.
    """

    random: pd.DataFrame
    fixed: pd.DataFrame
    fit: Fit
    notes: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """Both tables, one below the other: ``random`` and ``fixed`` in the index."""
        import pandas as pd

        both = {"random": self.random, "fixed": self.fixed}
        return pd.concat({name: own for name, own in both.items() if len(own)}, names=["effects"])

    def summary(self) -> tables.Summary:
        """Both tables and the model on paper."""
        sections: list[tuple[str | tables.Table, ...]] = []
        for what, table in (("random", self.random), ("fixed", self.fixed)):
            if len(table):
                shown = Anova(f"Backward reduced {what}-effect table:", (), table, ()).summary()
                sections += shown.sections
        notes = [line for note in self.notes for line in tables.wrapped(f"Note: {note}")]
        found = tables.wrapped(f"Model found: {tables.formula_text(self.fit.formula)}")
        return tables.Summary((*sections, (*found, *notes)))


@hinted
def step(
    fit: Fit,
    ddf: Ddf | None = None,
    alpha_random: float = 0.1,
    alpha_fixed: float = 0.05,
    *,
    reduce_random: bool = True,
    reduce_fixed: bool = True,
    keep: str | Sequence[str] = (),
) -> Steps:
    """Backward elimination of random and fixed effects, as lmerTest's ``step``.

    As long as a random effect has a likelihood-ratio p-value above `alpha_random` (chi-squared, as
    `ranova`), the one with the largest is taken out; then, as long as a term of the fixed effects
    that no other term contains has an F test with p above `alpha_fixed`, the one with the largest.
    All models are fitted to the rows of the first one and by its criterion.

    Parameters
    ----------
    fit : Fit
        Of a formula.
    ddf : {"satterthwaite", "kenward-roger", "kenward-roger-observed", "residual"}
        Denominator degrees of freedom of the F tests.
    alpha_random : float, default 0.1
        Level of the likelihood-ratio tests of random effects.
    alpha_fixed : float, default 0.05
        Level of the F tests of the fixed effects.
    reduce_random, reduce_fixed : bool, default True
        Whether to eliminate random effects, and terms of the fixed effects.
    keep : str or sequence of str, optional
        Terms of the fixed effects that stay: names, or a formula such as ``"~ a + b"``.

    Returns
    -------
    Steps
        ``fit`` is the model found, ``random`` and ``fixed`` are the tables. What is written in its
        notes holds: after such a selection p-values are too small.

    Raises
    ------
    ValueError
        When alpha is not between 0 and 1, or `keep` names what is no term.
    DataError
        For a model made from arrays.
    FitError
        For parameters that were held or tied; Kenward-Roger for a fit by maximum likelihood.

    See Also
    --------
    lmmfast.simplify : Random parts of singular fits.
    lmmfast.drop1 : One step.
    lmmfast.ranova : One step of the random part.

    Examples
    --------
    >>> from lmmfast import datasets, lmer, step
    >>> data = datasets.load("cake")
    >>> fit = lmer("angle ~ recipe * temperature + (1 | recipe:replicate)", data)
    >>> found = step(fit)
    >>> found.fixed["Eliminated"].to_dict()
    {'recipe:temperature': 1, 'recipe': 2, 'temperature': 0}
    >>> found.fit.formula
    'angle ~ temperature + (1 | recipe:replicate)'
    """
    fit = fit_of(fit)
    ddf = ddf_of(ddf, fit)
    for name, alpha in (("alpha_random", alpha_random), ("alpha_fixed", alpha_fixed)):
        if not 0 <= alpha <= 1:
            raise ValueError(f"{name} must be between 0 and 1, not {alpha!r}")
    linear_only(fit, "step(), which makes F tests,")
    if ddf == "z":
        raise ValueError('step() makes F tests, of linear models: ddf must be another than "z"')
    kept = {terms_of(fit).variables(t) for t in named_terms(terms_of(fit), keep, "keep")}
    if fit.estimates.free is not None:
        raise FitError(
            "step() takes every covariance parameter as estimated, but some were held or tied in "
            "this fit: fit the smaller model and compare with anova()"
        )
    notes: list[str] = []
    last, random = _random(fit, alpha_random if reduce_random else 1.0, notes)
    last, fixed = _fixed(last, ddf, alpha_fixed if reduce_fixed else 1.0, kept, notes)
    if last is not fit:
        notes.append(SELECTED)
    return Steps(random, fixed, last, tuple(notes))


# ---- random effects ------------------------------------------------------------------------------


def _random(fit: Fit, alpha: float, notes: list[str]) -> tuple[Fit, pd.DataFrame]:
    """The fit without random effects that matter little, and the table."""
    import pandas as pd

    index = ["<none>"]
    rows: list[tuple[Any, ...]] = [(np.nan, fit.n_params, fit.llf, fit.aic, *NOTHING[:3])]
    number = 0
    while True:
        tested = list(tested_deletions(fit, True))
        worst = _least(fit, tested, alpha, notes)
        if worst is None:
            break
        deletion, row, reduction = worst
        number += 1
        index.append(deletion.label)
        rows.append((number, *row[:6]))
        fit = refit_reduced(fit, reduction)
    for deletion, _, row in tested:
        index.append(deletion.label)
        rows.append((0, *row[:6]))
    return fit, pd.DataFrame(rows, index=index, columns=list(RANDOM)).astype({"npar": int})


def _least(
    fit: Fit,
    tested: Sequence[tuple[Deletion, Refit | None, tuple[Any, ...]]],
    alpha: float,
    notes: list[str],
) -> tuple[Deletion, tuple[Any, ...], Any] | None:
    """The deletion with the largest p-value above alpha that leaves a model with a formula."""
    above = [(row[5], deletion, row) for deletion, _, row in tested if row and row[5] > alpha]
    for p, deletion, row in sorted(above, key=lambda one: -one[0]):
        reduction = reduction_of(fit.design, deletion)
        if reduction is None:
            why = "no formula says what is left"
        elif not reduction.parts:
            why = "without it the model is ordinary regression, which statsmodels fits"
        else:
            return deletion, row, reduction
        notes.append(f"{deletion.label} stays, though p = {tables.p_value(p)}: {why}")
    return None


# ---- fixed effects -------------------------------------------------------------------------------


def _fixed(
    fit: Fit, ddf: Ddf, alpha: float, kept: set[frozenset[str]], notes: list[str]
) -> tuple[Fit, pd.DataFrame]:
    """The fit without terms that matter little, and the table."""
    import pandas as pd

    parts: list[pd.DataFrame] = []
    while True:
        effects, table = terms_of(fit), drop1(fit, ddf=ddf).table
        worst = _weakest(effects, table, alpha, kept)
        if worst is None:
            break
        parts.append(table.iloc[[worst]].assign(Eliminated=len(parts) + 1))
        term = effects.variables(effects.droppable()[worst])
        design = without_term(fit.design, term)
        model = model_of_part(fit, design)
        fit = refitted(fit, model, fit.theta)
    parts.append(table.assign(Eliminated=0))
    whole = pd.concat([part for part in parts if len(part)] or parts[-1:])
    names = [name for name in whole.columns if name != "Eliminated"]
    return fit, whole[["Eliminated", *names]]


def _weakest(effects: Any, table: Any, alpha: float, kept: set[frozenset[str]]) -> int | None:
    """The row of the term with the largest p-value above alpha, None where there is none."""
    p = table["Pr(>F)"].to_numpy(dtype=float)
    free = [effects.variables(t) not in kept for t in effects.droppable()]
    only = sum(map(bool, effects.labels)) == 1 and "" not in effects.labels  # else no column stays
    above = np.where(np.array(free, dtype=bool) & (p > alpha), p, -1.0)
    if only or not len(above) or above.max() < 0:
        return None
    return int(above.argmax())
