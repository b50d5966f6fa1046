"""statsmodels' interface: `mixedlm(formula, data, groups=...)` and `MixedLM(endog, exog, groups)`.

A facade without an engine: it states the model in lme4's terms (`formulas.py` and `arrays.py`, with
`terms.py`), fits it as `lmer` does, and gives results under statsmodels' names (`results.py`). What
the model was made of is in `original.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from ..engine.free import Free
from ..errors import FitError, UnusedArgumentWarning, warn
from ..given import NewData
from ..lmm import LMM
from ..results import LMMFit
from .arrays import Arrays, VarianceMatrices
from .formulas import checked_missing, model_of
from .original import ModelSpec
from .params import MixedLMParams, block_of, blocks_of, mask_of
from .results import MixedLMResults
from .score import Likelihood, Simulator, theta_of
from .stated import Stated
from .terms import Component, is_component

# What statsmodels' optimizers are told, and what lmmfast's does not need.
_UNUSED = ("method", "maxiter", "gtol", "ftol", "tol", "eps", "maxcor", "maxls", "disp")


class MixedLM(Stated):
    """Linear mixed model from arrays, with statsmodels' arguments.

    Parameters
    ----------
    endog : (n,) array or Series
        Response.
    exog : (n, k_fe) array or DataFrame
        Fixed-effects columns, the constant included. Columns of labels or booleans are coded by
        treatment contrasts.
    groups : (n,) array
        Group of each row: numbers, strings or booleans.
    exog_re : (n, k_re) array or DataFrame, optional
        Columns with correlated random effects by group. Default: an intercept, or nothing if there
        is an `exog_vc`.
    exog_vc : dict of dicts, or an object with names, colnames and mats, optional
        Variance components: ``exog_vc[name][group]`` (rows of the group x k) are columns whose
        coefficients are independent with one variance.
    use_sqrt : bool, default True
        Without effect: theta is always a Cholesky factor.
    missing : {"none", "drop", "raise"}
        "drop" leaves out rows with a missing value in any array, the others are an error.

    Attributes
    ----------
    endog, exog, exog_re : arrays
        Response (n), fixed (n, k_fe) and random columns (n, k_re; None if there are none).
    formula_lme4 : str or None
        The same model for `lmer`; None when a component has several columns of one variance.
    group_labels : list
        Sorted; `n_groups` of them.
    row_indices : mapping from labels to arrays of rows
    endog_names : str
    exog_names, vcomp_names : list of str
        Fixed-effects columns, variance components.
    k_fe, k_re, k_re2, k_vc : int
        Numbers of fixed-effects columns, of random columns of the groups, of their variances and
        covariances, and of variance components.

    Raises
    ------
    DataError
        When shapes differ or values are missing or not finite.
    """

    def __init__(
        self,
        endog: ArrayLike,
        exog: ArrayLike,
        groups: ArrayLike,
        exog_re: ArrayLike | None = None,
        exog_vc: Mapping[str, Mapping[str, ArrayLike]] | VarianceMatrices | None = None,
        use_sqrt: bool = True,
        missing: Literal["none", "drop", "raise"] = "none",
        **kwargs: object,
    ) -> None:
        for name in kwargs:
            if name not in ("missing_idx", "model_spec", "formula"):
                raise ValueError(f"MixedLM has no argument {name!r}")
        arrays = Arrays.of(endog, exog, groups, exog_re, exog_vc, checked_missing(missing))
        design, parts = arrays.design()
        lme4, codes, labels = arrays.formula_lme4(design, parts), arrays.codes, arrays.labels
        self._open(design, parts, arrays.labelled, codes, labels, "Group", lme4, use_sqrt)

    @classmethod
    def from_formula(
        cls,
        formula: str,
        data: NewData,
        re_formula: str | None = None,
        vc_formula: Mapping[str, str] | None = None,
        subset: ArrayLike | None = None,
        use_sparse: bool = False,
        missing: Literal["none", "drop", "raise"] = "none",
        *,
        groups: str | ArrayLike | None = None,
        eval_env: int = 0,
        use_sqrt: bool = True,
        exog_re: object = None,
        exog_vc: object = None,
        missing_idx: object = None,
        model_spec: ModelSpec | None = None,
    ) -> MixedLM:
        """A model from formulas; see `mixedlm`, which drops missing values by default.

        statsmodels' tools make the same model of other data with the formulas of `model_spec`; what
        they hand on beside it (exog_re, exog_vc, missing_idx) the formulas say.
        """
        given = groups, re_formula, vc_formula, subset, missing, eval_env, use_sqrt
        return model_of(cls, formula, data, *given, model_spec)

    def _get_init_kwds(self) -> dict[str, Any]:
        """What statsmodels' tools (`Mediation`) make the same model of other rows with."""
        columns = self.exog_vc if self.exog_vc.names else None
        given = {"groups": self.groups, "exog_re": self.exog_re, "exog_vc": columns}
        spec = {} if self.spec is None else {"formula": self.data.formula, "model_spec": self.spec}
        return given | {"use_sqrt": self.use_sqrt} | spec

    # ---- fit ------------------------------------------------------------------------------------

    @cached_property
    def _lmm(self) -> LMM:
        return LMM(self._design)

    @property
    def _likelihood(self) -> Likelihood:
        return Likelihood(self._lmm, self.components, self.reml)

    def fit(
        self,
        start_params: MixedLMParams | ArrayLike | None = None,
        reml: bool = True,
        niter_sa: int = 0,
        do_cg: bool = True,
        fe_pen: None = None,
        cov_pen: None = None,
        free: MixedLMParams | None = None,
        full_output: bool = False,
        method: object = None,
        **fit_kwargs: object,
    ) -> MixedLMResults:
        """Fit the model to its certified optimum.

        Parameters
        ----------
        start_params : MixedLMParams or array, optional
            Where the fit starts, and with `free` what is held; as an array the fixed effects (or
            not), the lower triangle of the Cholesky factor of ``cov_re / scale`` row by row, and
            the square roots of ``vcomp / scale``. Not needed otherwise.
        reml : bool, default True
            Restricted maximum likelihood; False for maximum likelihood.
        do_cg : bool, default True
            False evaluates the model at `start_params` without fitting.
        free : MixedLMParams, optional
            Mask: 1 for parameters to be estimated, 0 for those held at their start. The identity as
            ``cov_re`` makes random effects independent.
        full_output : bool, default False
            Keep the evaluations in ``result.hist``.
        fe_pen, cov_pen : None
            Penalties are not part of lmmfast.
        niter_sa, method, **fit_kwargs : optional
            Settings of statsmodels' optimizers (``maxiter``, ``gtol``, ``disp``, ...): accepted
            with one note. There is one optimizer, and it proves its optimum.

        Returns
        -------
        MixedLMResults

        Raises
        ------
        FitError
            When there is no residual variance, or for penalties.
        """
        if fe_pen is not None or cov_pen is not None:
            self.fit_regularized()
        _note_unused(niter_sa, method, fit_kwargs)
        self.reml = bool(reml)
        history: list[Any] | None = [] if full_output else None
        mask = None if free is None else mask_of(free, self.k_fe, self.k_re, self.k_vc)
        model, components = self._restricted(mask)
        moving = self._moving(model, components, mask, start_params)
        first: Any = None
        if not do_cg or (start_params is not None and moving is None):
            first = theta_of(model, components, self._start(start_params))
        if do_cg:
            keep = None if history is None else history.append
            fit = model.fit(reml=reml, callback=keep, start=first, free=moving)
        else:
            given = model.estimates_at(first, reml=reml)
            fit = LMMFit(replace(given, free=moving), model.design, model)
        return MixedLMResults(self, fit, components, history, mask)

    def fit_regularized(self, *args: object, **kwargs: object) -> NoReturn:
        """Penalized fits are not part of lmmfast."""
        raise FitError("penalized fits are not part of lmmfast: use statsmodels for these")

    def _restricted(self, mask: MixedLMParams | None) -> tuple[LMM, tuple[Component, ...]]:
        """The model with the random effects of the groups cut into uncorrelated blocks."""
        part, terms = self._group_effects, self._design.terms
        blocks = [] if mask is None else blocks_of(mask.cov_re)
        if part is None or part.terms[1:] or len(blocks) <= 1:
            return self._lmm, self.components
        where, shift = part.terms[0][0], len(blocks) - 1
        parts = [block_of(terms[where], block) for block in blocks]
        cut = tuple((where + i, tuple(block)) for i, block in enumerate(blocks))
        components = []
        for other in self.components:
            moved = tuple((t + shift if t > where else t, columns) for t, columns in other.terms)
            components.append(replace(other, terms=cut if other is part else moved))
        design = replace(self._design, terms=(*terms[:where], *parts, *terms[where + 1 :]))
        return LMM(design), tuple(components)

    def _moving(
        self,
        model: LMM,
        components: tuple[Component, ...],
        mask: MixedLMParams | None,
        start_params: Any,
    ) -> Free | None:
        """What of theta may move; None when everything may."""
        if mask is None and not any(part.tied for part in components):
            return None
        free, owner = np.ones(model.ntheta, bool), np.arange(model.ntheta)
        entries = model.theta_entries
        estimated = iter(np.ones(self.k_vc) if mask is None else mask.vcomp)
        for part in components:
            columns = dict(part.terms)
            where = [k for k, (t, _, _) in enumerate(entries) if t in columns]
            if part.tied:
                owner[where] = where[0]
            if part.kind == "re" and mask is not None:
                for k in where:
                    t, r, c = entries[k]
                    free[k] = bool(mask.cov_re[columns[t][r], columns[t][c]])
            if is_component(part) and not next(estimated):
                free[where] = False
        if free.all() and (owner == np.arange(model.ntheta)).all():
            return None
        basis = np.array([(owner == k) & free for k in np.unique(owner[free])], float)
        held = np.zeros(model.ntheta)
        if not free.all():
            held = theta_of(model, components, self._start(start_params))
        held[free] = 0.0
        return Free(held, basis.reshape(-1, model.ntheta).T)

    def _start(self, given: Any) -> MixedLMParams:
        """start_params as an object; unit variances by default."""
        if given is None:
            fixed, vcomp = np.zeros(self.k_fe), np.ones(self.k_vc)
            return MixedLMParams.of(fixed, np.eye(self.k_re), vcomp)
        if hasattr(given, "cov_re"):
            cov_re = np.asarray(given.cov_re, float).reshape(self.k_re, self.k_re)
            vcomp = np.asarray(given.vcomp, float)
            return MixedLMParams.of(np.asarray(given.fe_params), cov_re, vcomp)
        packed = np.asarray(given, float)
        extra = len(packed) - self.k_re2 - self.k_vc
        if packed.ndim != 1 or extra not in (0, self.k_fe):
            raise ValueError(
                f"start_params has shape {packed.shape}; it needs {self.k_re2 + self.k_vc} "
                f"values, or {self.k_fe} fixed effects more"
            )
        return MixedLMParams.from_packed(packed, self.k_fe, self.k_re, True, extra == self.k_fe)

    # ---- at given parameters --------------------------------------------------------------------

    def loglike(self, params: MixedLMParams | ArrayLike, profile_fe: bool = True) -> float:
        """Log likelihood (restricted, if the last fit was) at given parameters.

        Parameters
        ----------
        params : MixedLMParams or array
            Over the residual variance, which is profiled out; an array as for `fit`.
        profile_fe : bool, default True
            Whether the fixed effects too are at their best; else those in `params` count.
        """
        return self._likelihood.loglike(self._start(params), profile_fe)

    def score(self, params: MixedLMParams | ArrayLike, profile_fe: bool = True) -> np.ndarray:
        """Gradient of `loglike`, exact.

        Parameters
        ----------
        params : MixedLMParams or array
            As for `loglike`.
        profile_fe : bool, default True
            Whether the fixed effects are profiled out; else their slopes come first.

        Returns
        -------
        (k,) array
            In fixed effects, the lower triangle of the Cholesky factor of ``cov_re`` by rows and
            the square roots of ``vcomp``; with ``use_sqrt=False`` in ``cov_re`` and ``vcomp``.
        """
        return self._likelihood.score(self._start(params), profile_fe, self.use_sqrt)

    def score_sqrt(
        self, params: MixedLMParams | ArrayLike, calc_fe: bool = True
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gradient of `loglike` at the fixed effects of `params`, in three parts.

        Parameters
        ----------
        params : MixedLMParams or array
            As for `loglike`.
        calc_fe : bool, default True
            False: zeros for the fixed effects.

        Returns
        -------
        (k_fe,), (k_re2,), (k_vc,) arrays
            In fixed effects, the Cholesky factor of ``cov_re`` and the square roots of ``vcomp``.
        """
        return self._score_parts(params, calc_fe, True)

    def score_full(
        self, params: MixedLMParams | ArrayLike, calc_fe: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `score_sqrt`, in ``cov_re`` and ``vcomp`` themselves.

        Parameters
        ----------
        params : MixedLMParams or array
            Where the score is taken.
        calc_fe : bool
            Whether the part of the fixed effects is wanted.
        """
        return self._score_parts(params, calc_fe, False)

    def _score_parts(
        self, params: Any, calc_fe: bool, use_sqrt: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        whole = self._likelihood.score(self._start(params), False, use_sqrt)
        fixed, groups, parts = np.split(whole, [self.k_fe, self.k_fe + self.k_re2])
        return fixed if calc_fe else np.zeros(self.k_fe), groups, parts

    def get_fe_params(
        self, cov_re: ArrayLike, vcomp: ArrayLike, tol: float = 1e-10
    ) -> tuple[np.ndarray, bool]:
        """Best fixed effects at given variances, and whether these are singular.

        Parameters
        ----------
        cov_re : (k_re, k_re) array
            Covariance of the groups' random effects over `scale`.
        vcomp : (k_vc,) array
            Variances of the components over `scale`.
        tol : float, default 1e-10
            Eigenvalues of `cov_re` below this count as zero.
        """
        params = self._start(
            MixedLMParams.from_components(np.zeros(self.k_fe), cov_re, None, vcomp)
        )
        singular = self.k_re > 0 and float(np.linalg.eigvalsh(params.cov_re)[0]) < tol
        return self._likelihood.fe_params(params), singular

    def get_scale(self, fe_params: ArrayLike, cov_re: ArrayLike, vcomp: ArrayLike) -> float:
        """Best residual variance at given fixed effects and variances.

        Parameters
        ----------
        fe_params : (k_fe,) array
            Fixed effects.
        cov_re, vcomp : arrays
            As for `get_fe_params`.
        """
        params = self._start(MixedLMParams.from_components(fe_params, cov_re, None, vcomp))
        return self._likelihood.scale(params)

    def hessian(self, params: MixedLMParams | ArrayLike) -> tuple[np.ndarray, bool]:
        """Hessian of `loglike` in fixed effects, ``cov_re`` and ``vcomp``; whether it is singular.

        Parameters
        ----------
        params : MixedLMParams or array
            As for `loglike`.
        """
        H = self._likelihood.hessian(self._start(params))
        return H, bool(np.linalg.matrix_rank(H) < len(H))

    def get_distribution(
        self, params: ArrayLike, scale: float, exog: ArrayLike | None = None
    ) -> Simulator:
        """What draws responses at given parameters; see `Simulator.rvs`."""
        return Simulator(self, np.asarray(params, float), float(scale), exog)


def mixedlm(
    formula: str,
    data: NewData,
    re_formula: str | None = None,
    vc_formula: Mapping[str, str] | None = None,
    subset: ArrayLike | None = None,
    use_sparse: bool = False,
    missing: Literal["none", "drop", "raise"] = "drop",
    *,
    groups: str | ArrayLike | None = None,
    eval_env: int = 0,
    use_sqrt: bool = True,
) -> MixedLM:
    """A linear mixed model with statsmodels' arguments; ``mixedlm(...).fit()`` fits it.

    Parameters
    ----------
    formula : str
        Response and fixed effects: ``"y ~ x + C(cond)"``.
    data : pandas, polars or pyarrow table, or dict of arrays
        Whose rows are repeated, or left out.
    re_formula : str, optional
        Random effects of the groups, one-sided: ``"~x"``. ``"~1|item"`` adds a crossed random
        intercept of item to that of the groups. Default: an intercept, or nothing if there is a
        `vc_formula`.
    vc_formula : dict of str, optional
        Variance components within the groups: ``{"class": "0 + C(classroom)"}``; with a single
        group, ``groups=np.ones(n)``, crossed factors.
    subset : array, optional
        Rows to use: booleans, positions' labels of the frame's index.
    use_sparse, use_sqrt : bool, defaults False and True
        Without effect: sparsity is always used, theta is always a Cholesky factor.
    missing : {"drop", "none", "raise"}
        "drop" (default) leaves out rows with a missing value in a variable of the model; the others
        are an error.
    groups : str or (n,) array
        Column of the groups, or the group of each row.
    eval_env : int, default 0
        Whose functions and constants the formula may use: 0 for the caller's, -1 for none.

    Returns
    -------
    MixedLM

    Raises
    ------
    FormulaError, DataError
        What is wrong, in which variable, and what to do.

    See Also
    --------
    lmmfast.lmer : The same fits by lme4's formulas.
    lmmfast.MixedLM : The model from arrays.

    Examples
    --------
    >>> from lmmfast import datasets, mixedlm
    >>> data = datasets.load("sleepstudy")
    >>> result = mixedlm("Reaction ~ Days", data, groups="Subject", re_formula="~Days").fit()
    >>> result.formula_lme4
    'Reaction ~ Days + (Days | Subject)'
    >>> float(result.fe_params["Days"].round(3))
    10.467
    """
    given = groups, re_formula, vc_formula, subset, missing, eval_env, use_sqrt
    return model_of(MixedLM, formula, data, *given)


def _note_unused(niter_sa: int, method: Any, fit_kwargs: Mapping[str, Any]) -> None:
    """One note for all arguments without effect."""
    known = [name for name in _UNUSED if name in fit_kwargs]
    known += ["method"] * (method is not None) + ["niter_sa"] * bool(niter_sa)
    unknown = [name for name in fit_kwargs if name not in _UNUSED]
    names = [*unknown, *known]
    if not names:
        return
    why = "there is one optimizer, which needs no settings and certifies its optimum"
    if unknown:
        why = f"{', '.join(unknown)} changes nothing; {why}" if known else "it changes nothing"
    listed = f"Argument{'s' * (len(names) > 1)} {', '.join(names)}"
    warn(UnusedArgumentWarning(f"{listed} not used by lmmfast: {why}"))
