"""Whether a linear model could have made its response: statistics of its residuals and modes beside
those of responses drawn from it.

Residuals given modes are neither independent nor of equal variance, and modes are shrunken: tables
of usual tests do not hold for them. Those of drawn responses are what they would be where the model
is right. All statistics are free of scale. Variance parameters of linear mixed models stay at the
estimates; fixed effects and modes are those of each response.

References
----------
Loy, Hofmann & Cook (2017), *J. Comput. Graph. Statist.* 26, 478-492 (mixed models beside data drawn
from them); Shapiro & Francia (1972), *J. Am. Stat. Assoc.* 67 (W').
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DataError, FitError, LmmError
from .checks import FEWEST, Checks, compared
from .predict import fitted_of

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit

ROUNDING = 1e-10  # correlation that is zero
LEVELS = 5  # of a factor, below which the distribution of its modes says nothing


def check(
    fit: Fit,
    drawn: Iterable[np.ndarray],
    seed: int,
    again: Callable[[np.ndarray], Fit],
    kind: str,
) -> Checks:
    """As ``LMMFit.check`` documents it.

    drawn : responses from the model.
    again : the model with another response.
    kind : type of residuals.
    """
    import pandas as pd

    own: Any = fit
    residuals = own.residuals(kind)
    observed = statistics(fit, residuals.to_numpy())
    rows, failed = [], 0
    for y in drawn:
        try:
            other: Any = again(y)
            rows.append(statistics(other, other.residuals(kind).to_numpy()))
        except LmmError:
            failed += 1
    if len(rows) < FEWEST:
        raise FitError(
            f"{len(rows)} drawn responses could be compared with the data, {FEWEST} are needed: "
            "ask for more with n="
        )
    simulated = pd.DataFrame(rows)[list(observed)]
    table = compared(observed, simulated)
    n = len(rows) + failed
    return Checks(fit.formula, table, simulated, residuals, n, failed, seed, fit, influence_of(fit))


def at_estimates(fit: Fit, y: np.ndarray) -> Fit:
    """A linear mixed model's fit to another response, variance parameters where they are."""
    design = fit.design.with_rows(y=np.ascontiguousarray(y))
    model: Any = fit.model
    delta = {} if fit.estimates.delta is None else {"delta": fit.estimates.delta}
    point = model.point(fit.theta, reml=fit.reml, sums=design.sums, **delta)
    estimates = replace(fit.estimates, beta=point.beta, b=point.b, sigma=point.sigma)
    return fit.remade(estimates, design)


def statistics(fit: Fit, residuals: np.ndarray) -> dict[str, float]:
    """What is compared."""
    from scipy.special import ndtri

    n, fitted = len(residuals), fitted_of(fit)
    scores = ndtri((np.arange(1, n + 1) - 0.375) / (n + 0.25))
    centred = residuals - residuals.mean()
    found = {
        "normality": francia(residuals, scores),
        "outlier": float(np.abs(centred).max() / np.sqrt(np.mean(centred**2))),
    }
    x = fitted - fitted.mean()
    if np.abs(x).max() > 1e-8 * max(np.abs(fitted).max(), 1e-300):
        square = x**2 - (x**2).mean()
        square -= x * (x @ square) / (x @ x)
        curvature = correlation(residuals, square)
        if abs(curvature) > ROUNDING:  # else X has the squares in it
            found["curvature"] = curvature
        found["spread"] = correlation(np.abs(centred), x)
    for i, (term, b) in enumerate(zip(fit.design.terms, fit.estimates.b, strict=True)):
        m, sd = len(b), np.linalg.norm(fit.estimates.T[i], axis=1)
        if m >= LEVELS:
            scores = ndtri((np.arange(1, m + 1) - 0.375) / (m + 0.25))
            for j, column in enumerate(term.columns):
                if sd[j] > 1e-6:
                    found[f"modes of {column} | {term.group}"] = francia(b[:, j], scores)
    return found


def francia(values: np.ndarray, scores: np.ndarray) -> float:
    """W', the squared correlation of the ordered values with normal scores."""
    return correlation(np.sort(values), scores) ** 2


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of two columns; NaN where one does not vary."""
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else np.nan


def influence_of(fit: Fit) -> pd.DataFrame | None:
    """Cook's distance of the levels of the factor that has most; None where it cannot be had."""
    import pandas as pd

    own: Any = fit
    if not fit.design.terms:
        return None
    group = max(fit.n_levels, key=lambda name: fit.n_levels[name])
    try:
        found = own.influence(group)
    except (DataError, FitError, MemoryError):
        return None
    frame = pd.DataFrame({"level": list(found.index), "cooks_d": found["cooks_d"].to_numpy()})
    frame.attrs["by"] = group
    return frame
