"""Parameters of a residual structure with their errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import FitError
from .variance_errors import covariance_parameters

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit


def parameters(fit: Fit) -> pd.DataFrame:
    """As ``LMMFit.residual_parameters`` documents it."""
    import pandas as pd

    residual, delta = fit.design.residual, fit.estimates.delta
    if residual is None or delta is None:
        raise FitError(
            "this fit has no residual structure: lmer(..., dispersion=...) or residual=..."
        )
    values, _ = residual.natural(delta)
    errors = covariance_parameters(fit).residual_se
    return pd.DataFrame({"estimate": values, "se": errors}, index=residual.names)
