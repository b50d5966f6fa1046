"""LMMFit: one frozen fit, with statsmodels' names where it has one and lme4's where it does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from . import predict as _predict
from . import show as _show
from .effects import normal_pvalues, ratios, standard_errors, varcorr_rows

if TYPE_CHECKING:
    import pandas as pd

    from .design import Design
    from .estimates import Estimates
    from .model import LMM

__all__ = ["LMMFit"]


@dataclass(frozen=True, eq=False, repr=False)
class LMMFit:
    """A fitted linear mixed model.

    Everything is labelled with pandas where it has names; the bare arrays are in ``estimates``.
    A singular fit is a normal result: every method works on it. Fixed-effect columns that depend
    linearly on others were dropped: they are missing (NaN) in ``params``, ``bse`` and the like.

    Parameters
    ----------
    estimates : Estimates
        The numbers, as arrays in the user's units and coding.
    design : Design
        Response, columns, grouping factors and the recipe that encodes new data.
    model : LMM
        The machine that made the fit; it can evaluate the objective elsewhere and refit.

    Examples
    --------
    >>> from lmmfast import datasets, lmer
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> fit.params.round(3).to_dict()
    {'Intercept': 251.405, 'Days': 10.467}
    """

    estimates: Estimates
    design: Design
    model: LMM

    # ---- the model ------------------------------------------------------------------------------

    @property
    def formula(self) -> str:
        """The formula as it was written."""
        return self.design.formula

    @property
    def reml(self) -> bool:
        """Whether the fit maximizes the REML criterion (else the likelihood)."""
        return bool(self.estimates.reml)

    @property
    def weights(self) -> np.ndarray | None:
        """Prior weights of the rows used (n), or None."""
        return self.design.weights

    @property
    def nobs(self) -> int:
        """Number of rows used."""
        return int(self.estimates.n)

    @property
    def n_levels(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return {term.group: len(term.levels) for term in self.design.terms}

    @property
    def n_params(self) -> int:
        """Number of parameters: kept fixed effects, theta and sigma (lme4's ``df`` of logLik)."""
        return int(np.sum(self.estimates.fixed_kept)) + len(self.estimates.theta) + 1

    @property
    def df_resid(self) -> int:
        """Rows minus parameters (lme4's ``df.residual``)."""
        return self.nobs - self.n_params

    # ---- the optimum ----------------------------------------------------------------------------

    @property
    def theta(self) -> np.ndarray:
        """lme4's relative Cholesky parameters, by term in the formula's order."""
        return self.estimates.theta

    @property
    def objective(self) -> float:
        """REML criterion or deviance (-2 log likelihood) at the estimates."""
        return float(self.estimates.objective)

    @property
    def converged(self) -> bool:
        """Whether the optimum is certified."""
        return bool(self.estimates.converged)

    @property
    def certificate(self) -> float:
        """Decrease of ``objective`` that its slope and curvature still predict (deviance units)."""
        return float(self.estimates.certificate)

    @property
    def n_evals(self) -> int:
        """Number of evaluations of the objective and its derivatives."""
        return int(self.estimates.n_evals)

    @property
    def is_singular(self) -> bool:
        """Whether some combination of random effects has no variance at the optimum."""
        return len(self.estimates.singular) > 0

    @property
    def llf(self) -> float:
        """Log likelihood; for a REML fit the restricted one, as lme4's ``logLik``."""
        return -self.objective / 2

    @property
    def aic(self) -> float:
        """Akaike's criterion, from the REML criterion for a REML fit (as lme4)."""
        return self.objective + 2 * self.n_params

    @property
    def bic(self) -> float:
        """Bayesian criterion with the number of rows, from the REML criterion for a REML fit."""
        return self.objective + float(np.log(self.nobs)) * self.n_params

    # ---- fixed effects --------------------------------------------------------------------------

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

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of the fixed effects from the normal distribution (z)."""
        return self._by_name(normal_pvalues(ratios(self.estimates)), "pvalues")

    def conf_int(self, level: float = 0.95) -> pd.DataFrame:
        """Wald intervals of the fixed effects from the normal distribution.

        Parameters
        ----------
        level : float, default 0.95
            Coverage, between 0 and 1.

        Returns
        -------
        pandas.DataFrame
            Columns ``lower`` and ``upper``, one row per coefficient.

        Raises
        ------
        ValueError
            If ``level`` is not strictly between 0 and 1.
        """
        import pandas as pd
        from scipy.special import ndtri

        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, for example 0.95; got {level!r}")
        half = ndtri((1 + level) / 2) * standard_errors(self.estimates)
        beta = self.estimates.beta
        names = list(self.design.x_names)
        return pd.DataFrame({"lower": beta - half, "upper": beta + half}, index=names)

    def cov_params(self) -> pd.DataFrame:
        """Covariance matrix of the fixed effects; NaN for dropped columns."""
        import pandas as pd

        names = list(self.design.x_names)
        return pd.DataFrame(self.estimates.vcov, index=names, columns=names, copy=True)

    def _by_name(self, values: np.ndarray, name: str) -> pd.Series:
        import pandas as pd

        return pd.Series(values, index=list(self.design.x_names), name=name, copy=True)

    # ---- random effects -------------------------------------------------------------------------

    @property
    def sigma(self) -> float:
        """Residual standard deviation (of a row with weight 1)."""
        return float(self.estimates.sigma)

    @property
    def scale(self) -> float:
        """Residual variance, ``sigma ** 2``."""
        return self.sigma**2

    @property
    def varcorr(self) -> pd.DataFrame:
        """Variances and covariances of the random effects, as lme4's ``as.data.frame(VarCorr())``.

        Columns ``group``, ``var1``, ``var2``, ``vcov`` (variance or covariance) and ``sdcor``
        (standard deviation or correlation). ``var2`` is None for variances. The last row, group
        ``Residual``, is the residual variance. Correlations with a zero variance are NaN.
        """
        import pandas as pd

        rows = varcorr_rows(self.estimates, self.design)
        frame = pd.DataFrame(rows, columns=["group", "var1", "var2", "vcov", "sdcor"], dtype=object)
        return frame.astype({"vcov": float, "sdcor": float})

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
        variances = self.model.condvar(self.estimates.theta)
        return [self.sigma * np.sqrt(np.einsum("mkk->mk", block)) for block in variances]

    def _frames(self, blocks: Iterable[np.ndarray]) -> dict[str, pd.DataFrame]:
        import pandas as pd

        parts: dict[str, list[pd.DataFrame]] = {}
        for term, block in zip(self.design.terms, blocks, strict=True):
            index = pd.Index(term.levels, name=term.group)
            frame = pd.DataFrame(block, index=index, columns=list(term.columns), copy=True)
            parts.setdefault(term.group, []).append(frame)
        return {group: pd.concat(frames, axis=1) for group, frames in parts.items()}

    # ---- rows -----------------------------------------------------------------------------------

    @cached_property
    def _fitted(self) -> np.ndarray:
        fitted = _predict.fitted_array(self.estimates, self.design)
        fitted.flags.writeable = False
        return fitted

    @property
    def fittedvalues(self) -> pd.Series:
        """Fitted values of the rows used (n): fixed effects, conditional modes and offset."""
        return _predict.row_series(self.design, self._fitted, "fittedvalues")

    @property
    def resid(self) -> pd.Series:
        """Response residuals ``y - fittedvalues`` (n), not scaled by the weights."""
        return _predict.row_series(self.design, self.design.y - self._fitted, "resid")

    def predict(
        self,
        newdata: Any = None,
        *,
        re_form: str | Sequence[str] = "all",
        new_levels: str = "error",
        offset: Any = None,
    ) -> pd.Series:
        """Predict the response, for the rows of the fit or for new ones.

        Parameters
        ----------
        newdata : data frame or dict of arrays, optional
            The variables of the formula's right-hand side. Default: the rows of the fit.
        re_form : {"all", "none"} or list of str, default "all"
            Random effects to include: all, none (population), or those of the named factors.
        new_levels : {"error", "population"}, default "error"
            What an unseen level of a grouping factor means: an error, or random effects of zero.
        offset : float or array, optional
            Offset of the new rows, for fits with the argument ``offset=``. An ``offset()`` term of
            the formula is computed from ``newdata``.

        Returns
        -------
        pandas.Series
            One value per row; NaN where a predictor is missing.

        Raises
        ------
        DataError
            If variables or grouping factors are unknown, a level is unseen (and ``new_levels`` is
            "error"), or the fit had an ``offset=`` and none is given.

        Examples
        --------
        >>> from lmmfast import datasets, lmer
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
        >>> new = {"Days": [5], "Subject": ["someone"]}
        >>> float(fit.predict(new, new_levels="population").round(3)[0])
        303.742
        """
        return _predict.predict(self, newdata, re_form, new_levels, offset)

    # ---- again, and on paper --------------------------------------------------------------------

    def refit(self, y: Any) -> LMMFit:
        """Fit the same model to another response (n values, for the rows used)."""
        return self.model.refit(self, y)

    def summary(self, *, correlation: bool | None = None) -> _show.Summary:
        """Tables as lme4 prints them; ``print(fit.summary())``, or HTML in a notebook.

        Parameters
        ----------
        correlation : bool, optional
            Show the correlations of the fixed effects. Default: when there are 2 to 8 of them.
        """
        return _show.summarize(self, correlation)

    def __repr__(self) -> str:
        return _show.one_line(self)

    def _repr_html_(self) -> str:
        return _show.summarize(self, None)._repr_html_()
