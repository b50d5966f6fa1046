"""The numbers of a fit under the names of columns and levels: pandas begins here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from .effects import ratios, standard_errors, varcorr_frame
from .fit import Fit

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Labelled"]


class Labelled(Fit):
    """Fixed and random effects with names; what needs no inference."""

    @property
    def params(self) -> pd.Series:
        """Fixed-effect estimates; NaN for dropped columns."""
        return self._by_name(self.estimates.beta, "params")

    @property
    def bse(self) -> pd.Series:
        """Standard errors of the fixed effects; NaN for dropped columns."""
        return self._by_name(standard_errors(self.estimates), "bse")

    @property
    def tvalues(self) -> pd.Series:
        """Estimates over standard errors."""
        return self._by_name(ratios(self.estimates), "tvalues")

    def cov_params(self) -> pd.DataFrame:
        """Covariance matrix of the fixed effects; NaN for dropped columns."""
        import pandas as pd

        names = list(self.design.x_names)
        return pd.DataFrame(self.estimates.vcov, index=names, columns=names, copy=True)

    def _by_name(self, values: np.ndarray, name: str) -> pd.Series:
        import pandas as pd

        return pd.Series(values, index=list(self.design.x_names), name=name, copy=True)

    @property
    def varcorr(self) -> pd.DataFrame:
        """Variances and covariances of the random effects, as lme4's ``as.data.frame(VarCorr())``.

        Columns ``group``, ``var1``, ``var2``, ``vcov`` (variance or covariance) and ``sdcor``
        (standard deviation or correlation). ``var2`` is None for variances. The last row, group
        ``Residual``, is the residual variance. Correlations with a zero variance are NaN.
        """
        return varcorr_frame(self.estimates, self.design)

    def ranef(self, cond_var: bool = False) -> dict[str, pd.DataFrame]:
        """Conditional modes of the random effects (BLUPs).

        Parameters
        ----------
        cond_var : bool, default False
            Also give the conditional standard deviations, given the variance parameters.

        Returns
        -------
        dict of str to pandas.DataFrame
            Per grouping factor, in the formula's order, a frame levels x columns; the columns of
            terms with the same factor stand side by side. With ``cond_var=True`` the columns have
            two levels: ``frame["condval"]`` are the modes, ``frame["condsd"]`` their deviations.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> float(round(fit.ranef()["Subject"].loc["308", "Days"], 3))
        9.199
        >>> float(round(fit.ranef(cond_var=True)["Subject"]["condsd"].loc["308", "Days"], 3))
        2.305
        """
        modes = self._frames(self.estimates.b)
        if not cond_var:
            return modes
        import pandas as pd

        deviations = self._frames(self._conditional_sd())
        return {
            group: pd.concat({"condval": modes[group], "condsd": deviations[group]}, axis=1)
            for group in modes
        }

    def _conditional_sd(self) -> list[np.ndarray]:
        variances = self.point.condvar
        return [self.sigma * np.sqrt(np.einsum("mkk->mk", block)) for block in variances]

    def _frames(self, blocks: Iterable[np.ndarray]) -> dict[str, pd.DataFrame]:
        import pandas as pd

        parts: dict[str, list[pd.DataFrame]] = {}
        for term, block in zip(self.design.terms, blocks, strict=True):
            index = pd.Index(term.levels, name=term.group)
            frame = pd.DataFrame(block, index=index, columns=list(term.columns), copy=True)
            parts.setdefault(term.group, []).append(frame)
        return {group: pd.concat(frames, axis=1) for group, frames in parts.items()}
