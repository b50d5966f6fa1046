"""The calls that take a formula and data: `lmer`, `glmer`, `plan`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal

from numpy.typing import ArrayLike

from .data.own_covariances import with_covariances
from .engine.compiled import Engine
from .engine.costs import ModelPlan, planned
from .engine.custom_covariance import CustomCovariance
from .engine.estimates import Evaluation
from .engine.families import find_family
from .engine.options import MAX_EVALS, Options
from .errors import OneRowPerLevelWarning, silenced
from .glmm import GLMM
from .glmm_fit import GLMMFit
from .hints import hinted
from .lmm import lmm_of
from .responses import linear_only
from .results import LMMFit
from .sources.cross import CrossProducts
from .sources.given import design_from
from .typing import Coding, Data, Family, Held, Priors, Related, Rows, Storage


@hinted
def lmer(
    formula: str | CrossProducts,
    data: Data | None = None,
    *,
    reml: bool = True,
    weights: Rows | None = None,
    offset: Rows | None = None,
    contrasts: Mapping[str, Coding] | None = None,
    relationship: Mapping[str, Related] | None = None,
    start: ArrayLike | None = None,
    verbose: bool = False,
    callback: Callable[[Evaluation], object] | None = None,
    max_seconds: float | None = None,
    max_evals: int = MAX_EVALS,
    starts: int = 0,
    storage: Storage = "auto",
    threads: int = 1,
    fixed: Mapping[str, Held] | None = None,
    sigma: float | None = None,
    ties: Sequence[Sequence[str]] | None = None,
    covariance: Mapping[str, CustomCovariance] | None = None,
    dispersion: str | None = None,
    residual: str | None = None,
) -> LMMFit:
    """Fit a linear mixed-effects model.

    Parameters
    ----------
    formula : str or CrossProducts
        lme4's syntax: ``"rt ~ cond + (1 + cond | subj) + (1 | item)"``. ``||`` sets every
        correlation of its term to zero, those among the columns of a factor too (lme4 keeps them).
        ``ar1(0 + time | subj)``, ``cs``, ``toep``, ``exp(0 + x + y | g)`` and others say what
        covariance the columns of a term have: `lmmfast.structures`. ``hom=TRUE`` gives cs, toep, ad
        and diag one standard deviation for all columns, ``hom=FALSE`` gives ar1 one for each. The
        coordinates of the rows stand left of the bar of exp, gau, mat and ou.
        ``(1 | mm(a, b))``, ``mm(a, b, weights=cbind(w1, w2))``: rows with several levels of one
        factor, whose weights are made to sum to one unless ``scale=FALSE`` (data in memory).
        Of cross-products the formula and the rows are known: ``lmer(cross)``.
    data : pandas, polars or pyarrow table, dict of arrays, file, or a source that is streamed
        Rows with a missing value in a variable of the formula are dropped and counted. Columns of
        pandas (3 or later), polars and arrow tables of 100,000 rows and more are not copied but
        shared with the table, whose later changes are not seen: it copies what it changes. Text
        files (.csv, .tsv, .txt, packed or not; one, a pattern such as ``"data/*.csv"`` or a list)
        are read whole where that fits in memory; empty fields and NA, N/A, #N/A, NaN are missing
        values. Sources are read twice, in chunks, and never held in memory: larger text files,
        Parquet and Arrow files (a path, a pattern, a list, a directory of Parquet files), pyarrow
        datasets, DuckDB relations, Dask data frames, lists of frames, and functions that return an
        iterator of frames.
    reml : bool, default True
        Restricted maximum likelihood; False for maximum likelihood.
    weights : str or (n,) array, optional
        Precision weights: the residual variance of a row is sigma^2 / weight. A column's name, or
        one value for each row of the data: arrays in the order of the rows, a Series by its labels
        where its index is not that of the data (refused where these do not say whose is whose).
    offset : str or (n,) array, optional
        Known part of the linear predictor, besides ``offset()`` terms; given as `weights`.
    contrasts : dict, optional
        Coding of factors by name, as in ``{"cond": "sum"}``: "treatment" (another reference by
        "treatment(base='b')"), "sum", "helmert", "poly", "SAS", "sdif" (neighbours), "deviation"
        (levels against the first, around the mean of all), `hypotheses` or a matrix, a row a level.
    relationship : dict, optional
        How the levels of grouping factors are related, Cov(b) = sigma^2 K (x) T T': ``{"animal":
        K}`` with K a matrix (a labelled frame goes by its labels, an array by the order of the
        levels), a `Relationship`, `Precision`, `Pedigree` or `Adjacency`; K may be singular,
        rho estimated. Levels without records are predicted.
    start : (ntheta,) array, optional
        First theta. Default: moment estimates.
    verbose : bool, default False
        One line an evaluation on stderr.
    callback : callable, optional
        Called with an ``Evaluation`` after each; a true result stops the fit.
    max_seconds : float, optional
        Stop this long after the call with the best so far, marked not converged. Reading and
        setting up count, but are not interrupted: at least one evaluation is made.
    max_evals : int, default 500
        Of each start.
    starts : int, default 0
        So many more starts at random theta, always the same ones: a likelihood may have several
        optima. The best is returned; ``fit.starts`` says where the others ended.
    storage : {"auto", "dense", "sparse", "iterative"}, default "auto"
        How the matrix is held that is left when the first grouping factor is eliminated;
        ``lmmfast.plan`` shows what each way takes. "auto": the fastest that fits.
    threads : int, default 1
        Threads of the fit. The result is identical for any number.
    fixed : dict, optional
        Covariance parameters that are held: ``{"theta": {"Subject.Days.Intercept": 0}}``, or all of
        theta in order, None for what is estimated: ``{"theta": [0.9, None, 0.2]}``. theta is of
        ``T`` with Cov(b) = sigma^2 T T', its names are ``fit.model.theta_names``. The certificate
        is within the constraint; tests and criteria do not count held parameters. "sigma" is the
        residual standard deviation (of a row with weight 1).
    sigma : float, optional
        Short for ``fixed={"sigma": sigma}``: 1 with ``weights=1 / variance`` in meta-analyses.
    ties : list of tuples of str, optional
        Random terms with one covariance matrix, by their grouping factors, or labels where a factor
        has several terms: ``[("mother", "father")]`` with ``(x | mother) + (x | father)``. Their
        columns must be the same.
    covariance : dict, optional
        Covariance structures of your own, by grouping factor or label of a ``( | )`` term:
        ``{"subj": CustomCovariance(...)}``. Those that formulas name are in `lmmfast.structures`.
    dispersion : str, optional
        How the residual standard deviation differs between rows: ``"~ sex"``, one for each level of
        a factor (or of ``a:b``); ``"power(x)"``, proportional to a power of ``|x|``; ``"exp(x)"``,
        its logarithm linear in x. ``sigma`` is that of the first level, or where ``log |x|`` or x
        is at its mean. Weights multiply it as always.
    residual : str, optional
        Correlations of the residuals of a subject: ``"ar1(time | id)"``, rho to the power of the
        steps between whole numbers or a factor's levels (a step: what divides all differences);
        ``"car1(time | id)"``, exp(-difference / range); ``"cs(id)"``, all the same;
        ``"ante(time | id)"``, one rho for each pair of neighbouring visits, products of them for
        others. Every grouping factor of the formula must be constant within a subject. Rows must be
        in memory; of files and streams there is ``dispersion="~ factor"``.

    Returns
    -------
    LMMFit

    Raises
    ------
    FormulaError, DataError, FitError
        What is wrong, in which variable, and what to do.
    MemoryError
        When the model would not fit in the memory that is available, or its columns do not.

    See Also
    --------
    lmmfast.glmer : Generalized models.
    lmmfast.mmrm : Repeated measures without random effects.
    lmmfast.fit_many : Many responses of one model.
    lmmfast.plan : What a fit would take.
    lmmfast.LMMFit : What is returned.

    Examples
    --------
    >>> from lmmfast import datasets, lmer
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> round(fit.objective, 4)
    1743.6283
    """
    options = Options(reml, start, verbose, callback, max_seconds, max_evals, starts)
    if sigma is not None:
        if fixed is not None and "sigma" in fixed:
            raise TypeError("sigma is given twice, in fixed= and in sigma=")
        fixed = {**(fixed or {}), "sigma": sigma}
    given = relationship, None, dispersion, residual
    if fixed is None and ties is None:
        design = design_from(formula, data, weights, offset, contrasts, *given)
        design = design if covariance is None else with_covariances(design, covariance)
        return lmm_of(design, storage, threads).fitted(options)
    known = isinstance(fixed, Mapping) and fixed.get("sigma") is not None  # it can be told then
    with silenced(OneRowPerLevelWarning) if known else nullcontext():
        design = design_from(formula, data, weights, offset, contrasts, *given)
        design = design if covariance is None else with_covariances(design, covariance)
        model = lmm_of(design, storage, threads)
        options.free = model.holding(fixed, ties)
        return model.fitted(options)


@hinted
def glmer(
    formula: str,
    data: Data | None = None,
    family: Family = "binomial",
    link: str | None = None,
    *,
    weights: Rows | None = None,
    offset: Rows | None = None,
    contrasts: Mapping[str, Coding] | None = None,
    relationship: Mapping[str, Related] | None = None,
    covariance: Mapping[str, CustomCovariance] | None = None,
    start: ArrayLike | Mapping[str, ArrayLike] | None = None,
    verbose: bool = False,
    callback: Callable[[Evaluation], object] | None = None,
    max_seconds: float | None = None,
    max_evals: int = MAX_EVALS,
    storage: Storage = "auto",
    threads: int = 1,
    nagq: int = 1,
    information: Literal["observed", "expected"] = "observed",
    prior: Priors | None = None,
    accuracy: Literal["laplace", "second-order"] = "laplace",
    reml: bool = False,
) -> GLMMFit:
    """Fit a generalized linear mixed model by maximum, or restricted maximum, likelihood.

    All parameters are optimized together, with exact derivatives, and the optimum is certified:
    theta, the fixed effects and what the family has of its own (dispersion, size, thresholds).

    Parameters
    ----------
    formula : str
        As for ``lmer``, with its covariance structures and ``mm(a, b)``. A binomial response is
        ``cbind(successes, failures)``; a share, with its trials as `weights`; 0 and 1, or True and
        False; or a factor with two levels: the second is the success. An ordered one is an ordered
        factor, or numbers.
    data : table, or source
        As for ``lmer``. Files and streams are read twice, chunk by chunk; the columns that the
        model needs stay. Rows that do not fit in memory are kept in temporary files.
    family : str, family of lmmfast or statsmodels, or `CustomFamily`, default "binomial"
        "binomial", "poisson", "negativebinomial" (variance mu + mu^2 / size), "gamma" (variance
        dispersion mu^2), "inversegaussian" (dispersion mu^3), "gaussian", "ordered" (cumulative
        link model with thresholds in place of the intercept), "beta", "betabinomial", "nb1",
        "truncatedpoisson", "truncatednegativebinomial"; other packages' names are understood,
        "nbinom2" for one.
    link : str, optional
        Default, as in R: "logit" for binomial and ordered responses and shares, "log" for counts,
        "inverse" for "gamma", "inversesquared" for "inversegaussian", "identity" for "gaussian".
        Others: "probit", "cloglog", "loglog", "cauchit", "log", "sqrt".
    weights : str or (n,) array, optional
        Trials of binomial shares; else what a row counts for: a multiplier of its log-density
        (counts, ordered), or a divisor of its dispersion. Rows with weight 0 are dropped.
    offset : str or (n,) array, optional
        Known part of the linear predictor, besides ``offset()`` terms.
    contrasts, relationship, covariance : dict, optional
        Coding of factors, relationships of levels, covariances of terms: as for ``lmer``.
    start : (size,) array or dict, optional
        Where the fit begins: ``fit.estimates.psi`` of another fit, or some of ``{"theta": ...,
        "beta": ..., "extra": ...}``.
    verbose : bool, default False
        One line an evaluation on stderr.
    callback : callable, optional
        Called with an ``Evaluation`` after each; a true result stops the fit.
    max_seconds : float, optional
        Stop this long after the call with the best so far, marked not converged.
    max_evals : int, default 500
        Evaluations of the objective at most.
    storage : {"auto", "dense", "sparse"}, default "auto"
        How the matrix is held that is left when the first grouping factor is eliminated.
    threads : int, default 1
        Threads of the fit. The result is identical for any number.
    nagq : int, default 1
        Nodes of adaptive Gauss-Hermite quadrature in each direction of the random effects of a
        level, for models with one grouping factor and up to three random columns; 1: Laplace's
        approximation. The objective keeps all constants, so that orders can be compared.
    information : {"observed", "expected"}, default "observed"
        Weights in Laplace's approximation: "observed" is its own, as glmmTMB has it; "expected"
        reproduces lme4, whose likelihood differs where the link is not canonical.
    prior : dict or float, optional
        Normal priors on coefficients, for data that separate: ``{"cond[T.b]": 2.5}`` is a standard
        deviation around 0, ``{"cond[T.b]": (0.5, 2.5)}`` one around 0.5; a number is for all but
        the intercept. Estimates are modes then; ``objective`` and ``llf`` are of the likelihood
        alone, and likelihoods are not compared.
    accuracy : {"laplace", "second-order"}, default "laplace"
        "second-order" has the next order of Laplace's approximation in the likelihood (Shun &
        McCullagh 1995): for crossed factors too, whose levels are not related, and of use where
        levels have few rows; see ``fit.approximation()``. Standard errors are those of that
        likelihood, by second differences of the correction; where these would take more than some
        seconds they are Laplace's, and the summary says so. Only with nagq=1 and observed
        information.
    reml : bool, default False
        Restricted likelihood, as glmmTMB's REML=TRUE: Laplace's approximation goes over the fixed
        effects, too, which have a flat prior: for few groups and many fixed effects. Not with nagq,
        prior, accuracy, expected information or an ordered response. Such criteria are compared
        between models of the same fixed effects only: tests of these refit by maximum likelihood.

    Returns
    -------
    GLMMFit

    Raises
    ------
    FormulaError, DataError, FitError
        What is wrong, in which variable, and what to do.
    MemoryError
        When the model would not fit in the memory that is available.

    See Also
    --------
    lmmfast.lmer : Linear models.
    lmmfast.CustomFamily : A family of your own.
    lmmfast.GLMMFit : What is returned.

    Notes
    -----
    Rows of the same levels and predictors are kept once where their likelihood is that of a sum:
    trials of a cell one by one cost as much as their counts. The likelihood, and all that is said
    of rows, is that of the rows as they are given.

    Gamma, inverse Gaussian and negative binomial models have proper likelihoods in which the
    dispersion or size is a parameter as any other. lme4's Gamma and inverse Gaussian models measure
    the random effects by the dispersion, which is another model, and its ``glmer.nb`` alternates
    between the size and the rest: numbers of these three differ from lme4's and agree with
    glmmTMB's.

    Examples
    --------
    >>> from lmmfast import datasets, glmer
    >>> cbpp = datasets.load("cbpp")
    >>> fit = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp)
    >>> round(fit.objective, 4)
    184.0526
    >>> accuracy = glmer("r2 ~ mode + btype + (1 | id) + (1 | item)", datasets.load("VerbAgg"))
    >>> accuracy.converged
    True
    """
    if data is None and not isinstance(formula, str):
        raise TypeError("a formula and data are needed: glmer(formula, data)")
    options = Options(reml, start, verbose, callback, max_seconds, max_evals)
    found = find_family(family, link)
    given = weights, offset, contrasts, relationship
    design = design_from(formula, data, *given, found.response)
    design = design if covariance is None else with_covariances(design, covariance)
    how: dict[str, Any] = {"nagq": nagq, "information": information, "accuracy": accuracy}
    how |= {"reml": reml, "storage": storage, "threads": threads, "prior": prior}
    return GLMM(design, found, **how).fitted(options)


@hinted
def plan(
    formula: str | CrossProducts,
    data: Data | None = None,
    *,
    weights: Rows | None = None,
    offset: Rows | None = None,
    contrasts: Mapping[str, Coding] | None = None,
    relationship: Mapping[str, Related] | None = None,
    storage: Storage = "auto",
    family: Family | None = None,
    link: str | None = None,
) -> ModelPlan:
    """How a model would be stored, and the memory and time it would take; nothing is fitted.

    Parameters
    ----------
    formula, data, weights, offset, contrasts, relationship : various
        As for ``lmer``; cross-products alone too.
    storage : {"auto", "dense", "sparse", "iterative"}, default "auto"
        A way to insist on.
    family, link : optional
        Of a generalized model, as for ``glmer``: its rows count too. Default: a linear model.

    Returns
    -------
    ModelPlan
        Prints as a table. Its memory is that of the model; what the data and the design matrices
        take comes on top.

    Raises
    ------
    FormulaError, DataError
        As ``lmer``.

    See Also
    --------
    lmmfast.lmer : Fits the model.

    Examples
    --------
    >>> from lmmfast import datasets, plan
    >>> data = datasets.load("kb07")
    >>> chosen = plan("RTtrunc ~ S * P + (S | subj) + (1 | item)", data)
    >>> chosen.storage, chosen.order
    ('dense', 32)
    """
    kind = None
    if family is None:
        linear_only(link)
    else:
        kind = find_family(family, link).response
    design = design_from(formula, data, weights, offset, contrasts, relationship, kind)
    with silenced():
        report, available = Engine.report(design, storage)
    return planned(design, report, available)
