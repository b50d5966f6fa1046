"""Numbers that follow from estimates alone: standard errors, z, covariances of random effects."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from .data.design import Design
    from .engine.estimates import Estimates


def standard_errors(estimates: Estimates) -> np.ndarray:
    """Standard errors of the fixed effects (p); NaN for dropped columns."""
    return np.sqrt(np.diag(estimates.vcov))


def ratios(estimates: Estimates) -> np.ndarray:
    """Estimates over standard errors (p)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(estimates.beta / standard_errors(estimates))


def normal_pvalues(z: np.ndarray) -> np.ndarray:
    """Two-sided p-values of z statistics."""
    from scipy.special import ndtr

    return np.asarray(2 * ndtr(-np.abs(z)))


def term_covariance(estimates: Estimates, term: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariance (k x k), standard deviations (k), correlations (k x k; NaN at variance 0)."""
    factor = estimates.sigma * estimates.T[term]
    cov = factor @ factor.T
    sd = np.sqrt(np.diag(cov))
    with np.errstate(divide="ignore", invalid="ignore"):
        corr = np.clip(cov / sd[:, None] / sd, -1.0, 1.0)
    return cov, sd, corr


def varcorr_frame(estimates: Estimates, design: Design, residual: bool = True) -> pd.DataFrame:
    """``Fit.varcorr``, with a last row for the residuals or without it."""
    import pandas as pd

    rows: list[tuple[Any, ...]] = []
    for i, term in enumerate(design.terms):
        cov, sd, corr = term_covariance(estimates, i)
        names = term.columns
        rows += [(term.group, names[j], None, cov[j, j], sd[j]) for j in range(len(names))]
        if term.structure == "full":
            pairs = combinations(range(len(names)), 2)
            rows += [(term.group, names[c], names[r], cov[r, c], corr[r, c]) for c, r in pairs]
    if residual:
        rows.append(("Residual", None, None, estimates.sigma**2, estimates.sigma))
    frame = pd.DataFrame(rows, columns=["group", "var1", "var2", "vcov", "sdcor"], dtype=object)
    return frame.astype({"vcov": float, "sdcor": float})
