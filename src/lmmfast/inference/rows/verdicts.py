"""What checks of a fit mean, a line each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import FitError
from ...tables import general, joined, p_value

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit

LOOK = 0.02  # p-value of a statistic from which on a picture is worth a look
MODERATE, HIGH = 5**0.5, 10**0.5  # inflation of standard errors: VIF of 5 and 10

# Of each statistic: what is checked, what it is where the model is right, and where it is not.
WORDS = {
    "normality": ("normal residuals", "as of normal values", "not as of normal values"),
    "outlier": ("outliers", "the largest residual is as expected", "the largest residual is large"),
    "curvature": ("linearity", "no curve is left in the residuals", "residuals follow a curve"),
    "spread": (
        "equal variances",
        "residuals are of one size",
        "their size changes with fitted values",
    ),
    "uniformity": ("distribution", "residuals are distributed as expected", "they are not"),
    "dispersion": ("dispersion", "the response varies as the family has it", "it does not"),
    "zeros": ("zeros", "as many as expected", "not as many as expected"),
}


def verdicts_of(fit: Fit, table: pd.DataFrame, influence: pd.DataFrame | None) -> pd.DataFrame:
    """``check``, ``verdict`` ("fine" or "look") and ``says``, a line each."""
    import pandas as pd

    rows = [_optimum(fit)]
    if fit.design.terms:
        rows.append(_singular(fit))
    rows += [_of_statistic(str(name), row) for name, row in table.iterrows()]
    rows += [*_influence(fit, influence), *_collinearity(fit)]
    return pd.DataFrame(rows, columns=["check", "verdict", "says"])


def _optimum(fit: Fit) -> tuple[str, str, str]:
    if fit.converged:
        return "optimum", "fine", "certified"
    return "optimum", "look", f"not certified: {fit.estimates.status}"


def _singular(fit: Fit) -> tuple[str, str, str]:
    if not fit.is_singular:
        return "random effects", "fine", "every one has variance"
    labels = [fit.design.terms[own.term].label for own in fit.estimates.singular]
    says = f"singular in {joined(labels)}: fit.explain_singularity()"
    return "random effects", "look", says


def _of_statistic(name: str, row: Any) -> tuple[str, str, str]:
    what, right, wrong = WORDS.get(name, ("normal " + name, *WORDS["normality"][1:]))
    p = float(row["p"])
    bad = p < LOOK
    if name == "dispersion" and bad:
        wrong = f"the response varies {'more' if row['ratio'] > 1 else 'less'} than the family has"
    if name == "spread" and bad:
        how = "larger" if row["observed"] > 0 else "smaller"
        wrong = f"residuals are {how} for large fitted values"
    if name == "zeros" and bad:
        wrong = f"{'more' if row['ratio'] > 1 else 'fewer'} than expected"
    numbers = f"{general(float(row['observed']), 3)}, expected {general(float(row['expected']), 3)}"
    says = f"{wrong if bad else right} ({numbers}; p = {p_value(p)})"
    return what, "look" if bad else "fine", says


def _influence(fit: Fit, influence: pd.DataFrame | None) -> Iterator[tuple[str, str, str]]:
    """Beside the median of F(p, levels - p), as Cook & Weisberg (1982) have it."""
    from scipy.stats import f

    if influence is None or not influence["cooks_d"].notna().any():
        return
    place = int(influence["cooks_d"].fillna(-1).to_numpy().argmax())
    level, distance = influence["level"].iloc[place], float(influence["cooks_d"].iloc[place])
    p = int(np.sum(fit.estimates.fixed_kept))
    limit = float(f.ppf(0.5, p, max(len(influence) - p, 1)))
    by = influence.attrs.get("by", "level")
    says = f"largest Cook's distance {general(distance, 3)}, of {by} {level} (limit {limit:.2f})"
    yield "influence", "look" if distance > limit else "fine", says


def _collinearity(fit: Fit) -> Iterator[tuple[str, str, str]]:
    own: Any = fit
    try:
        found = own.vif()["per_df"]
    except FitError:
        return
    if len(found) < 2:
        return
    most, name = float(found.max()), found.idxmax()
    size = "high" if most > HIGH else "moderate" if most > MODERATE else "low"
    verdict = "fine" if size == "low" else "look"
    says = f"{size}: the others make the standard error of {name} {most:.2f} times as large"
    yield "collinearity", verdict, says
