"""What a linear fit says of the conditional autoregression of its levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .engine import autoregression
from .errors import FitError
from .fit import Fit
from .inference.ddf import check_level

if TYPE_CHECKING:
    import pandas as pd
else:
    from .late import pandas as pd


class Spatial(Fit):
    """Of fits in which rho was estimated."""

    def rho(self, level: float = 0.95) -> pd.DataFrame:
        """The estimated rho of a conditional autoregression, with its profile likelihood interval.

        Parameters
        ----------
        level : float, default 0.95
            Of the interval.

        Returns
        -------
        pandas.DataFrame
            One row, the grouping factor: ``estimate``, ``se`` (from the curvature of the criterion
            at the best of all other parameters; NaN at a bound), ``lower``, ``upper`` (where the
            criterion is a chi-square quantile above its minimum; NaN where it is nowhere), and
            ``status``, "estimated" or "at bound".

        Raises
        ------
        FitError
            When the model has no rho that is estimated.

        See Also
        --------
        lmmfast.Adjacency : Neighbours; ``rho="estimate"``.

        References
        ----------
        Besag (1974), *J. R. Statist. Soc. B* 36: 192-236.

        Examples
        --------
        >>> import numpy as np
        >>> import pandas as pd
        >>> from lmmfast import Adjacency, lmer
        >>> line = Adjacency(np.eye(20, k=1) + np.eye(20, k=-1), "estimate")
        >>> rng = np.random.default_rng(0)
        >>> g = np.repeat(np.arange(20), 4)
        >>> y = np.cumsum(rng.normal(size=20))[g] + rng.normal(size=80)
        >>> fit = lmer("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": g}), relationship={"g": line})
        >>> bool(0.5 < fit.rho().loc["g", "estimate"] < 1)
        True
        """
        import pandas as pd
        from scipy.stats import chi2

        check_level(level)
        found = self.estimates.rho
        if found is None:
            raise FitError(
                'no rho was estimated: Adjacency(W, "estimate") in relationship= asks for it'
            )
        options = autoregression.quiet(self.reml, self.theta)
        options.free = self.estimates.free
        profile = autoregression.profile_of(self.model, found.term, options)
        lower, upper = autoregression.interval(profile, found.estimate, float(chi2.ppf(level, 1)))
        return pd.DataFrame(
            {
                "estimate": [found.estimate],
                "se": [found.se],
                "lower": [lower],
                "upper": [upper],
                "status": ["at bound" if found.at_bound else "estimated"],
            },
            index=pd.Index([self.design.terms[found.term].group], name="group"),
        )
