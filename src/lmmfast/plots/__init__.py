"""Pictures of fits and results; they need matplotlib, ``pip install 'lmmfast[plot]'``.

Every function draws into the axes it is given (``ax=``, or ``axes=`` for several panels), else into
a new figure, and returns the axes. The style is that of the caller. What is drawn can be had as a
data frame, for other libraries: that of `caterpillar` is `caterpillar_frame`, and so on.
"""

from .checks import (
    check,
    collinearity,
    collinearity_frame,
    influence,
    influence_frame,
    simulated,
    simulated_frame,
)
from .coefficients import coefficients, coefficients_frame
from .lines import fitted, fitted_frame, partial_residuals, partial_residuals_frame
from .modes import (
    caterpillar,
    caterpillar_frame,
    qq_ranef,
    qq_ranef_frame,
    shrinkage,
    shrinkage_frame,
)
from .profiles import (
    profile,
    profile_contours,
    profile_contours_frame,
    profile_density,
    profile_density_frame,
    profile_frame,
)
from .results import (
    bootstrap,
    bootstrap_frame,
    clusters,
    clusters_frame,
    contrasts,
    contrasts_frame,
    means,
    means_frame,
    power,
    power_frame,
)
from .rows import (
    qq,
    qq_frame,
    residuals,
    residuals_frame,
    scale_location,
    scale_location_frame,
)

__all__ = [
    "bootstrap",
    "bootstrap_frame",
    "caterpillar",
    "caterpillar_frame",
    "check",
    "clusters",
    "clusters_frame",
    "coefficients",
    "coefficients_frame",
    "collinearity",
    "collinearity_frame",
    "contrasts",
    "contrasts_frame",
    "fitted",
    "fitted_frame",
    "influence",
    "influence_frame",
    "means",
    "means_frame",
    "partial_residuals",
    "partial_residuals_frame",
    "power",
    "power_frame",
    "profile",
    "profile_contours",
    "profile_contours_frame",
    "profile_density",
    "profile_density_frame",
    "profile_frame",
    "qq",
    "qq_frame",
    "qq_ranef",
    "qq_ranef_frame",
    "residuals",
    "residuals_frame",
    "scale_location",
    "scale_location_frame",
    "shrinkage",
    "shrinkage_frame",
    "simulated",
    "simulated_frame",
]


def __dir__() -> list[str]:
    """What users call; the modules are not."""
    return list(__all__)
