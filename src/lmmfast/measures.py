"""Mixed models for repeated measures: `mmrm`, and `MMRM` as users hold it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from numpy.typing import ArrayLike

from .engine.estimates import Evaluation
from .engine.options import MAX_EVALS, Options
from .engine.repeated import RepeatedModel
from .hints import hinted
from .inference.ddf import ddf_of
from .mmrm_fit import MMRMFit
from .sources.repeated import any_repeated
from .typing import Coding, Data, Ddf, Rows


class MMRM(RepeatedModel):
    __doc__ = RepeatedModel.__doc__

    def fit(self, *, reml: bool = True, ddf: Ddf = "kenward-roger") -> MMRMFit:
        """Minimizes the REML criterion or the deviance.

        Parameters
        ----------
        reml : bool, default True
            Restricted likelihood; False for the likelihood.
        ddf : str, default "kenward-roger"
            As for `lmmfast.mmrm`.

        Returns
        -------
        MMRMFit
        """
        return self.fitted(Options(reml), ddf)

    def at(self, theta: ArrayLike, *, reml: bool = True) -> MMRMFit:
        """The model at given parameters of its covariance matrices, without minimizing.

        Parameters
        ----------
        theta : (groups x nphi,) array
            As ``fit.theta`` of a fit of this model.
        reml : bool, default True
            Restricted likelihood; False for the likelihood.

        Returns
        -------
        MMRMFit
            Its ``certificate`` is what a step of length one (in units of the curvature) is
            predicted to gain.

        Raises
        ------
        FitError
            When there is no covariance matrix at theta.
        """
        return MMRMFit(self.estimates_at(theta, reml), self.design, self)

    def fitted(self, options: Options, ddf: Ddf = "kenward-roger") -> MMRMFit:
        """The fit that checked options ask for."""
        return MMRMFit(self.minimize(options), self.design, self, ddf)


@hinted
def mmrm(
    formula: str,
    data: Data,
    *,
    reml: bool = True,
    ddf: Ddf = "kenward-roger",
    weights: Rows | None = None,
    offset: Rows | None = None,
    contrasts: Mapping[str, Coding] | None = None,
    start: ArrayLike | None = None,
    verbose: bool = False,
    callback: Callable[[Evaluation], object] | None = None,
    max_seconds: float | None = None,
    max_evals: int = MAX_EVALS,
) -> MMRMFit:
    """Fit a mixed model for repeated measures (MMRM).

    Visits of one subject are correlated, by a covariance matrix over all visits; subjects are
    independent. Missing visits are allowed: estimates are valid where they are missing at random.

    Parameters
    ----------
    formula : str
        R mmrm's: ``"FEV1 ~ RACE + ARMCD * AVISIT + us(AVISIT | USUBJID)"``, one covariance term
        beside the fixed effects. Structures are "us" (unstructured), "toep" and "toeph" (Toeplitz),
        "ar1" and "ar1h" (autoregressive), "cs" and "csh" (compound symmetry), "ad" and "adh"
        (antedependence), those with h with a variance for each visit; and ``sp_exp(x, y | id)``,
        exp(-distance / range) of coordinates. ``us(visit | arm / id)`` has a matrix for each arm.
        Visits are levels of a factor in their order (of numbers by size); those without rows are
        left out.
    data : pandas, polars or pyarrow table, dict of arrays, file, or a source that is streamed
        One row a visit. Rows with a missing value in a variable of the formula are dropped and
        counted. Sources are those of ``lmer``: read twice, in chunks; rows are kept until all of
        their subject's are there, and then summed.
    reml : bool, default True
        Restricted maximum likelihood; False for maximum likelihood.
    ddf : str, default "kenward-roger"
        Degrees of freedom of tests where none are asked for: "kenward-roger" (from the observed
        information, as SAS), "kenward-roger-linear", "satterthwaite", "between-within", "residual",
        "z". By maximum likelihood Satterthwaite's are in place of Kenward and Roger's.
    weights : str or (n,) array, optional
        The covariance of rows s and t of a subject is Sigma_st / sqrt(w_s w_t).
    offset : str or (n,) array, optional
        Known part of the mean, besides ``offset()`` terms.
    contrasts : dict, optional
        Coding of factors by name, as for ``lmer``.
    start : (nphi,) array, optional
        ``fit.theta`` of another fit. Default: from covariances of residuals of least squares.
    verbose : bool, default False
        One line an evaluation on stderr.
    callback : callable, optional
        Called with an ``Evaluation`` after each; a true result stops the fit.
    max_seconds : float, optional
        Stop this long after the call with the best so far, marked not converged.
    max_evals : int, default 500
        Evaluations of the objective at most.

    Returns
    -------
    MMRMFit

    Raises
    ------
    FormulaError, DataError, FitError
        What is wrong, in which variable, and what to do: a visit that a subject has twice, a
        subject in two groups, a visit without rows.
    MemoryError
        When the sums of all patterns of visits do not fit.

    See Also
    --------
    lmmfast.lmer : Random effects; residual structures beside them.

    Notes
    -----
    The rows are read once, to sums of products by pattern of visits; no step of the fit depends on
    the number of subjects. The Hessian is exact, and the optimum certified.

    References
    ----------
    Mallinckrodt et al. (2008), *Drug Inf. J.* 42, 303-319 (the model); Jennrich & Schluchter
    (1986), *Biometrics* 42, 805-820 (structures).

    Examples
    --------
    >>> from lmmfast import datasets, mmrm
    >>> fit = mmrm("Reaction ~ Days + ar1h(Days | Subject)", datasets.load("sleepstudy"))
    >>> float(fit.parameters().loc["rho", "estimate"].round(3))
    0.811
    """
    options = Options(reml, start, verbose, callback, max_seconds, max_evals)
    design = any_repeated(formula, data, weights, offset, contrasts)
    model = MMRM(design)
    fit = MMRMFit(model.minimize(options), design, model)
    return replace(fit, ddf=ddf_of(ddf, fit))
