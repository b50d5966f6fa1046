"""How good a model is: explained variance, intraclass correlations, inflation of variances.

References
----------
Nakagawa & Schielzeth (2013), *Methods Ecol. Evol.* 4 (R2); Johnson (2014), *Methods Ecol. Evol.* 5
(with random slopes); Nakagawa, Johnson & Schielzeth (2017), *J. R. Soc. Interface* 14 (ICC, and
generalized models);
Fox & Monette (1992), *J. Am. Stat. Assoc.* 87 (generalized variance inflation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...errors import FitError
from .generalized import extra_of, family_of
from .predict import fixed_part_of

if TYPE_CHECKING:
    import pandas as pd

    from ...data.design import Design
    from ...data.encode import Layout
    from ...fit import Fit
    from ...formula.terms import Sum


@dataclass(frozen=True)
class Variances:
    """Where the variance of the response comes from."""

    fixed: float  # of the linear predictor of the fixed effects over the rows, without offset
    random: dict[str, float]  # per grouping factor: mean of z'Cov(b) z (Johnson 2014)
    # sigma^2, of a row with weight 1 (its mean over the rows of a residual structure); of
    residual: float  # a latent variable given its predictor

    @property
    def total(self) -> float:
        """All of it."""
        return self.fixed + sum(self.random.values()) + self.residual


def variances(fit: Fit) -> Variances:
    """The parts of the variance of the response."""
    beta = np.where(fit.estimates.fixed_kept, fit.estimates.beta, 0.0)
    random: dict[str, float] = {}
    for i, term in enumerate(fit.design.terms):
        share = float(term.source.mean_squares(fit.estimates.sigma * fit.estimates.T[i]).sum())
        random[term.group] = random.get(term.group, 0.0) + share
    fixed = fit.design.fixed.variance(beta)
    if fit.family is None:
        residual, delta = fit.design.residual, fit.estimates.delta
        share = 1.0
        if residual is not None and delta is not None:
            share = float(np.mean(residual.deviation(delta) ** 2))
        return Variances(fixed, random, fit.scale * share)
    alone = [term for term in fit.design.terms if term.relation is None]
    rows = {term.group for term in alone if len(term.levels) == fit.nobs}
    own = sum(random.pop(group) for group in rows)  # overdispersion, a level a row
    return Variances(fixed, random, own + _latent(fit, sum(random.values()) + own))


def _latent(fit: Fit, spread: float) -> float:
    """Variance of a latent variable given its predictor; where that depends on the mean, at the
    mean of the population: of rows with random effects drawn anew."""
    family = family_of(fit)
    eta = fixed_part_of(fit.estimates, fit.design)
    if fit.design.offset is not None:
        eta = eta + fit.design.offset
    ordered = family.response == "ordered"
    mu, x = np.array(np.nan), extra_of(fit)
    if not ordered:
        mu = np.asarray(np.mean(family.marginal_mean(eta, np.full(len(eta), spread), x)))
    return float(family.latent_variance(mu, x))


def r2(fit: Fit) -> pd.Series:
    """Marginal and conditional R2, as ``Fit.r2`` documents them."""
    import pandas as pd

    parts = variances(fit)
    marginal = parts.fixed / parts.total
    conditional = (parts.fixed + sum(parts.random.values())) / parts.total
    return pd.Series({"marginal": marginal, "conditional": conditional}, name="r2")


def icc(fit: Fit) -> pd.DataFrame:
    """Intraclass correlations, as ``Fit.icc`` documents them."""
    import pandas as pd

    parts = variances(fit)
    share = pd.Series({"all": sum(parts.random.values()), **parts.random})
    adjusted = share / (share["all"] + parts.residual)
    return pd.DataFrame({"adjusted": adjusted, "unadjusted": share / parts.total})


def vif(fit: Fit) -> pd.DataFrame:
    """Generalized variance inflation factors, as ``Fit.vif`` documents them."""
    import pandas as pd

    kept, terms = fit.estimates.fixed_kept, {}
    for label, columns in fixed_terms(fit.design).items():
        own = [j for j in columns if kept[j]]
        if own and label != "1":
            terms[label] = own
    if not terms:
        raise FitError("there is no fixed effect besides the intercept: nothing can be inflated")
    used = [j for columns in terms.values() for j in columns]
    cov = fit.estimates.vcov[np.ix_(used, used)]
    sd = np.sqrt(np.diag(cov))
    corr = cov / np.outer(sd, sd)
    rows = []
    for columns in terms.values():
        own = [used.index(j) for j in columns]
        inflation = _generalized_inflation(corr, own)
        rows.append((inflation, len(own), inflation ** (0.5 / len(own))))
    return pd.DataFrame(rows, index=list(terms), columns=["gvif", "df", "per_df"])


def _generalized_inflation(corr: np.ndarray, own: list[int]) -> float:
    """det(R_own) det(R_others) / det(R)."""
    others = [j for j in range(len(corr)) if j not in own]
    logs = [np.linalg.slogdet(corr[np.ix_(part, part)])[1] for part in (own, others)]
    return float(np.exp(sum(logs) - np.linalg.slogdet(corr)[1]))


def fixed_terms(design: Design) -> dict[str, list[int]]:
    """Columns of X of each term of the formula; "1" is the intercept's. Designs from arrays have no
    terms: every column is one, a constant one the intercept."""
    if design.recipe is None:
        constant = design.fixed.constant()
        labels = ["1" if c else name for c, name in zip(constant, design.x_names, strict=True)]
        return {label: [j] for j, label in enumerate(labels)}
    return columns_of_terms(design.plan.fixed, design.recipe.fixed_layout)


def columns_of_terms(terms: Sum, layout: Layout) -> dict[str, list[int]]:
    """Columns of each term of a right-hand side, by its label: those made of its variables."""
    variables = {tuple(terms.atoms[a].label for a in term.atoms): term for term in terms.terms}
    out: dict[str, list[int]] = {terms.label(term): [] for term in terms.terms}
    for j, factors in enumerate(layout.columns):
        out[terms.label(variables[tuple(name for name, _, _ in factors)])].append(j)
    return out
