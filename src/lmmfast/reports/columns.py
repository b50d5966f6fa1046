"""A fit as a column of a table of several models, as maketables asks for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ..inference.ddf import METHODS, ddf_of
from ..inference.hypotheses.tests import coef_test
from .equation import response_of

if TYPE_CHECKING:
    import pandas as pd
else:
    from ..late import pandas as pd

LEVELS = {"ci95": 0.95, "ci90": 0.9}
MOST = 10  # parameters of random effects that a table shows with their correlations
LABELS = {
    "N": "Observations",
    "ll": "Log-Likelihood",
    "aic": "AIC",
    "bic": "BIC",
    "reml": "REML criterion",
    "deviance": "Deviance",
    "marginal_r2": "Marginal R²",
    "conditional_r2": "Conditional R²",
    "converged": "Optimum certified",
    "singular": "Singular",
    "ddf": "Degrees of freedom",
}


class Column:
    """What the tables of maketables ask of a fit, by the names of its plug-in format."""

    @property
    def __maketables_coef_table__(self) -> pd.DataFrame:
        """Estimates, errors, tests and intervals of the fixed effects, by ``usual_ddf``."""
        return coefficients(self, None)

    @property
    def __maketables_depvar__(self) -> str:
        """The response."""
        return response_of(_fit(self))

    @property
    def __maketables_fixef_string__(self) -> None:
        """There are no absorbed effects."""

    @property
    def __maketables_vcov_info__(self) -> dict[str, Any]:
        """Degrees of freedom of the tests."""
        return {"vcov_type": METHODS[ddf_of(None, _fit(self))], "clustervar": None}

    @property
    def __maketables_default_stat_keys__(self) -> list[str]:
        """Standard deviations and correlations of the random effects, levels, observations."""
        found = list(_random(_fit(self)))
        if len(found) > MOST:  # correlations of wide terms would hide the rest
            found = [key for key in found if not key.startswith("Cor (")]
        return [*found, *_levels(_fit(self)), "N", "aic", "bic"]

    @property
    def __maketables_stat_labels__(self) -> dict[str, str]:
        """What stands in front of a statistic."""
        return LABELS

    def __maketables_stat__(self, key: str) -> Any:
        """A statistic, None for what a fit does not have."""
        return statistic(_fit(self), key)


def coefficients(result: Any, ddf: str | None) -> pd.DataFrame:
    """Columns b, se, t, p, ci95l, ci95u, ci90l, ci90u, df; a row a coefficient."""
    import pandas as pd

    fit = _fit(result)
    test = coef_test(fit, "z" if ddf is None and fit is not result else ddf)
    columns = {"b": test.effect, "se": test.sd, "t": test.statistic, "p": test.pvalue}
    for name, level in LEVELS.items():
        low, high = test.conf_int(1 - level).T
        columns |= {f"{name}l": low, f"{name}u": high}
    if test.distribution == "t":
        columns["df"] = test.df_denom
    names = list(fit.design.x_names)
    return pd.DataFrame(columns, index=pd.Index(names, name="Coefficient"), copy=True)


def statistic(fit: Any, key: str) -> Any:
    """Statistics by maketables' keys, and parameters of the random effects by their names."""
    random, levels = _random(fit), _levels(fit)
    if key in random:
        return random[key]
    if key in levels:
        return levels[key]
    simple = {"N": "nobs", "ll": "llf", "aic": "aic", "bic": "bic", "df_resid": "df_resid"}
    if key in simple:
        return getattr(fit, simple[key])
    if key in ("reml", "deviance"):
        return fit.objective if fit.reml == (key == "reml") else None
    if key in ("converged", "singular"):
        return "yes" if (fit.converged if key == "converged" else fit.is_singular) else "no"
    if key == "ddf":
        return METHODS[ddf_of(None, fit)]
    if key in ("marginal_r2", "conditional_r2") and hasattr(type(fit), "r2"):
        return float(fit.r2()[key.removesuffix("_r2")])
    return None


def _fit(result: Any) -> Any:
    """The fit; of statsmodels' results the one inside."""
    return getattr(result, "lmm", result) if not hasattr(result, "design") else result


def _random(fit: Any) -> dict[str, float]:
    """Parameters of the random effects, the residuals and the distribution: "SD (Days | Subject)";
    maketables asks for a statistic by the words that stand in front of it."""
    values = fit.parameters()["estimate"].to_dict()
    if fit.family is not None:
        values |= fit.extra.to_dict()
    return {_spelled(str(name)): float(value) for name, value in values.items()}


def _levels(fit: Any) -> dict[str, int]:
    return {f"Levels ({group})": int(m) for group, m in fit.n_levels.items()}


def _spelled(name: str) -> str:
    """SD (Days | Subject), Cor (Intercept, Days | Subject)."""
    if name == "sigma":
        return "SD (residual)"
    label, bracket, inside = name.partition("(")
    words = {"sd": "SD", "cor": "Cor"}
    return f"{words.get(label, label)} ({inside}" if bracket else name


# ---- statsmodels --------------------------------------------------------------------------------


class StatsmodelsColumn:
    """A fit as statsmodels' tables take results: intervals by alpha, names in ``model``.

    Attributes
    ----------
    params, bse, tvalues, pvalues : pandas.Series
    nobs, llf, aic, bic, df_resid
        As of the fit.
    model : object
        ``endog_names`` and ``exog_names``.
    """

    def __init__(self, fit: Any, ddf: str | None) -> None:
        import pandas as pd

        self._test = coef_test(fit, ddf)
        names = list(fit.design.x_names)
        self.params, self.bse, self.tvalues, self.pvalues = (
            pd.Series(own, index=names, copy=True)
            for own in (self._test.effect, self._test.sd, self._test.statistic, self._test.pvalue)
        )
        self.use_t = self._test.distribution == "t"
        self.nobs, self.llf, self.df_resid = fit.nobs, fit.llf, fit.df_resid
        self.aic, self.bic = fit.aic, fit.bic
        self.model = SimpleNamespace(endog_names=response_of(fit), exog_names=names)

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Intervals that cover 1 - alpha, columns 0 and 1."""
        import pandas as pd

        return pd.DataFrame(self._test.conf_int(alpha), index=self.model.exog_names)
