"""How good a model is: explained variance, intraclass correlations, errors of variances, residuals.

References
----------
Nakagawa & Schielzeth (2013), *Methods Ecol. Evol.* 4 (R2); Johnson (2014), *Methods Ecol. Evol.* 5
(with random slopes); Nakagawa, Johnson & Schielzeth (2017), *J. R. Soc. Interface* 14 (ICC);
Fox & Monette (1992), *J. Am. Stat. Assoc.* 87 (generalized variance inflation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..engine import _memory_limit
from ..errors import FitError
from ..predict import fixed_part, row_series
from .ddf import method_of
from .satterthwaite import CovarianceParameters, Satterthwaite, covariance_parameters

if TYPE_CHECKING:
    import pandas as pd

    from ..design import Design
    from ..encode import Layout
    from ..results import LMMFit
    from ..terms import Sum

__all__ = ["icc", "r2", "residuals", "varcorr_se", "vcov_theta", "vif"]

RESIDUALS = ("response", "pearson", "marginal", "scaled")


# ---- variance explained --------------------------------------------------------------------------


@dataclass(frozen=True)
class Variances:
    """Where the variance of the response comes from.

    Attributes
    ----------
    fixed : float
        Of the linear predictor of the fixed effects over the rows, offset not included.
    random : dict of str to float
        Per grouping factor: mean over the rows of z'Cov(b) z (Johnson 2014).
    residual : float
        sigma^2, of a row with weight 1.
    """

    fixed: float
    random: dict[str, float]
    residual: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.fixed + sum(self.random.values()) + self.residual


def variances(fit: LMMFit) -> Variances:
    """The parts of the variance of the response."""
    linear = fixed_part(fit.estimates, fit.design.X)
    random: dict[str, float] = {}
    for i, term in enumerate(fit.design.terms):
        effects = term.z @ (fit.sigma * fit.estimates.T[i])
        share = float(np.einsum("ij,ij->", effects, effects)) / fit.nobs
        random[term.group] = random.get(term.group, 0.0) + share
    return Variances(float(np.var(linear, ddof=1)), random, fit.scale)


def r2(fit: LMMFit) -> pd.Series:
    """Marginal and conditional R2, as ``LMMFit.r2`` documents them."""
    import pandas as pd

    parts = variances(fit)
    explained = parts.fixed, parts.fixed + sum(parts.random.values())
    return pd.Series(
        [part / parts.total for part in explained], index=["marginal", "conditional"], name="r2"
    )


def icc(fit: LMMFit) -> pd.DataFrame:
    """Intraclass correlations, as ``LMMFit.icc`` documents them."""
    import pandas as pd

    parts = variances(fit)
    share = pd.Series({"all": sum(parts.random.values()), **parts.random})
    return pd.DataFrame(
        {"adjusted": share / (share["all"] + parts.residual), "unadjusted": share / parts.total}
    )


# ---- errors of the variance parameters -----------------------------------------------------------


def vcov_theta(fit: LMMFit) -> pd.DataFrame:
    """Covariance of theta and sigma, as ``LMMFit.vcov_theta`` documents it."""
    import pandas as pd

    names = [*theta_names(fit), "sigma"]
    return pd.DataFrame(_covariance_parameters(fit).vcov, index=names, columns=names, copy=True)


def theta_names(fit: LMMFit) -> list[str]:
    """Names of the entries of theta: "Subject.Intercept", "Subject.Days.Intercept" (row.column)."""
    names = []
    for i, row, column in fit.model.theta_entries:
        term = fit.design.terms[i]
        entry = [row] if row == column else [row, column]
        names.append(".".join([term.group, *(term.columns[j] for j in entry)]))
    return names


def varcorr_se(fit: LMMFit) -> pd.DataFrame:
    """Standard deviations, correlations and their errors, as ``LMMFit.varcorr_se`` documents."""
    own = _covariance_parameters(fit)
    errors: list[float] = []
    for i, term in enumerate(fit.design.terms):
        errors += list(own.sd_se[i])
        if term.structure == "full":
            k = len(term.columns)
            errors += [own.corr_se[i][r, c] for c in range(k) for r in range(c + 1, k)]
    return fit.varcorr.drop(columns="vcov").assign(se=[*errors, own.sigma_se])


def _covariance_parameters(fit: LMMFit) -> CovarianceParameters:
    known = method_of(fit, "satterthwaite")
    return covariance_parameters(fit, known if isinstance(known, Satterthwaite) else None)


# ---- collinearity --------------------------------------------------------------------------------


def vif(fit: LMMFit) -> pd.DataFrame:
    """Generalized variance inflation factors, as ``LMMFit.vif`` documents them."""
    import pandas as pd

    kept = fit.estimates.fixed_kept
    terms = {
        label: [j for j in columns if kept[j]]
        for label, columns in fixed_terms(fit.design).items()
        if label != "1"
    }
    terms = {label: columns for label, columns in terms.items() if columns}
    if not terms:
        raise FitError("there is no fixed effect besides the intercept: nothing can be inflated")
    used = [j for columns in terms.values() for j in columns]
    cov = fit.estimates.vcov[np.ix_(used, used)]
    sd = np.sqrt(np.diag(cov))
    corr = cov / np.outer(sd, sd)
    place = {j: at for at, j in enumerate(used)}
    rows = []
    for columns in terms.values():
        own = [place[j] for j in columns]
        inflation = _generalized_inflation(corr, own)
        rows.append((inflation, len(own), inflation ** (0.5 / len(own))))
    return pd.DataFrame(rows, index=list(terms), columns=["gvif", "df", "per_df"])


def _generalized_inflation(corr: np.ndarray, own: list[int]) -> float:
    """det(R_own) det(R_others) / det(R)."""
    others = [j for j in range(len(corr)) if j not in own]
    logs = [np.linalg.slogdet(corr[np.ix_(part, part)])[1] for part in (own, others)]
    return float(np.exp(sum(logs) - np.linalg.slogdet(corr)[1]))


def fixed_terms(design: Design) -> dict[str, list[int]]:
    """Columns of X of each term of the formula; "1" is the intercept's.

    Designs from arrays have no terms: every column is one, a constant one the intercept.
    """
    if design.recipe is None:
        constant = [np.ptp(column) == 0 for column in design.X.T]
        labels = ["1" if c else name for c, name in zip(constant, design.x_names, strict=True)]
        return {label: [j] for j, label in enumerate(labels)}
    from ..plan import plan_of

    return columns_of_terms(plan_of(design.formula).fixed, design.recipe.fixed_layout)


def columns_of_terms(terms: Sum, layout: Layout) -> dict[str, list[int]]:
    """Columns of each term of a right-hand side, by its label: those made of its variables."""
    out: dict[str, list[int]] = {terms.label(term): [] for term in terms.terms}
    labels = {
        tuple(terms.atoms[atom].label for atom in term.atoms): terms.label(term)
        for term in terms.terms
    }
    for j, (_, factors) in enumerate(layout.columns):
        out[labels[tuple(variable for variable, _, _ in factors)]].append(j)
    return out


# ---- residuals -----------------------------------------------------------------------------------


def residuals(fit: LMMFit, kind: str) -> pd.Series:
    """Residuals of the rows used, as ``LMMFit.residuals`` documents them."""
    if kind not in RESIDUALS:
        known = ", ".join(repr(name) for name in RESIDUALS)
        raise ValueError(f"type must be one of {known}, not {kind!r}")
    design = fit.design
    if kind in ("response", "pearson"):
        values = design.y - fit._fitted
        if kind == "pearson":
            values = values * _root_weights(design) / fit.sigma
    else:
        values = design.y - fixed_part(fit.estimates, design.X)
        if design.offset is not None:
            values = values - design.offset
        if kind == "scaled":
            values = _whitened(fit, values)
    return row_series(design, values, "resid")


def _root_weights(design: Design) -> np.ndarray:
    return np.ones(len(design.y)) if design.weights is None else np.sqrt(design.weights)


def _whitened(fit: LMMFit, marginal: np.ndarray) -> np.ndarray:
    """L^-1 r with L L' = Cov(y), in each set of rows that share random effects."""
    from scipy.linalg import solve_triangular

    root = _root_weights(fit.design)
    labels = _connected_rows(fit)
    _check_sizes(fit, np.bincount(labels))
    out = np.empty(fit.nobs)
    order = np.argsort(labels, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        V = np.eye(len(rows))
        for i, term in enumerate(fit.design.terms):
            effects = (term.z[rows] * root[rows, None]) @ fit.estimates.T[i]
            codes = term.codes[rows]
            V += (effects @ effects.T) * (codes[:, None] == codes)
        L = np.linalg.cholesky(V)
        out[rows] = solve_triangular(L, (root * marginal)[rows], lower=True) / fit.sigma
    return out


def _connected_rows(fit: LMMFit) -> np.ndarray:
    """A number for each row (n); rows with different numbers are independent."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n, at = fit.nobs, fit.nobs
    levels = []
    for term in fit.design.terms:
        levels.append(at + term.codes.astype(np.int64))
        at += len(term.levels)
    rows, columns = np.tile(np.arange(n), len(levels)), np.concatenate(levels)
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(at, at))
    return np.asarray(connected_components(graph, directed=False)[1][:n])


def _check_sizes(fit: LMMFit, sizes: np.ndarray) -> None:
    need = 4 * 8.0 * float(sizes.max()) ** 2
    if need > _memory_limit():
        raise MemoryError(
            f"scaled residuals need the covariance of {sizes.max()} rows that share random effects "
            f'({need / 1e9:.1f} GB): use type="pearson" or "marginal"'
        )
