"""statsmodels' interface: `mixedlm(formula, data, groups=...)` and `MixedLM(endog, exog, groups)`.

A facade without an engine of its own: it states the model in lme4's terms (`terms.py`), fits it as
`lmer` does, and gives results under statsmodels' names (`results.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..data.alignment import aligned
from ..data.columns import Table
from ..data.design import Design, build
from ..data.terms import RandomTerm
from ..engine.free import Free
from ..errors import DataError, FitError, FormulaError, UnusedArgumentWarning, warn
from ..lmm import LMM
from ..results import LMMFit
from .arrays import Arrays
from .params import MixedLMParams, block_of, blocks_of, cholesky_factor, mask_of
from .results import MixedLMResults
from .score import loglike, observed_hessian, score, theta_of
from .terms import Component, is_component, pair_name, state

__all__ = ["MixedLM", "mixedlm"]

# What statsmodels' optimizers are told, and what lmmfast's does not need.
_UNUSED = ("method", "maxiter", "gtol", "ftol", "tol", "eps", "maxcor", "maxls", "disp")


@dataclass(eq=False)
class ModelData:
    """Names and original data of a model, as statsmodels' ``model.data``."""

    frame: Any
    xnames: list[str]
    ynames: str
    exog_re_names: list[str]
    exog_re_names_full: list[str]
    vcomp_names: list[str]
    param_names: list[str]
    row_labels: Any
    _indices: dict[tuple[str, ...], Any] = field(default_factory=dict, repr=False)

    def index(self, names: Sequence[str]) -> Any:
        """A pandas index of names, made once."""
        import pandas as pd

        key = tuple(names)
        if key not in self._indices:
            self._indices[key] = pd.Index(list(names), dtype="object")
        return self._indices[key]


class MixedLM:
    """Linear mixed model from arrays, with statsmodels' arguments.

    Parameters
    ----------
    endog : (n,) array or Series
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
    use_sqrt : bool
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
        Sorted.
    row_indices : mapping from labels to arrays of rows

    Raises
    ------
    DataError
        When shapes differ or values are missing or not finite.
    """

    def __init__(
        self,
        endog: Any,
        exog: Any,
        groups: Any,
        exog_re: Any = None,
        exog_vc: Any = None,
        use_sqrt: bool = True,
        missing: str = "none",
        **kwargs: Any,
    ) -> None:
        for name in kwargs:
            if name not in ("missing_idx", "model_spec", "formula"):
                raise ValueError(f"MixedLM has no argument {name!r}")
        arrays = Arrays.of(endog, exog, groups, exog_re, exog_vc, _checked_missing(missing))
        design, components = arrays.design()
        self._open(design, components, arrays.labelled, arrays.codes, arrays.labels, "Group")
        self.groups = arrays.groups
        self.formula_lme4: str | None = arrays.formula_lme4(design, components)
        self.formula: str | None = None
        self.use_sqrt = use_sqrt

    def _open(
        self,
        design: Design,
        components: tuple[Component, ...],
        labelled: bool,
        codes: np.ndarray,
        labels: np.ndarray,
        group: str,
        frame: Any = None,
    ) -> None:
        self._design = design
        self.components = components
        self.labelled = labelled
        self.group_codes = codes
        self.group_labels: list[Any] = labels.tolist()
        self.group_name = group
        self._frame = frame
        self.reml = True

    def without_data(self, design: Design) -> MixedLM:
        """A model of the same names with no rows: `design` has none."""
        bare = copy(self)
        bare._design, bare._frame = design, None
        bare.group_codes, bare.groups = np.zeros(0, np.int32), np.zeros(0)
        for cached in ("_lmm", "row_indices", "data"):
            bare.__dict__.pop(cached, None)
        return bare

    @classmethod
    def from_formula(
        cls,
        formula: str,
        data: Any,
        re_formula: str | None = None,
        vc_formula: Mapping[str, str] | None = None,
        subset: Any = None,
        use_sparse: bool = False,
        missing: str = "none",
        *,
        groups: Any = None,
        eval_env: int = 0,
        use_sqrt: bool = True,
    ) -> MixedLM:
        """A model from formulas; see `mixedlm`, which drops missing values by default."""
        return _from_formula(
            cls,
            formula,
            data,
            groups,
            re_formula,
            vc_formula,
            subset,
            _checked_missing(missing),
            None if eval_env < 0 else _names_of_caller(2 + eval_env),
            use_sqrt,
        )

    # ---- sizes and names ------------------------------------------------------------------------

    @property
    def endog(self) -> np.ndarray:
        """Response (n)."""
        return self._design.y

    @property
    def exog(self) -> np.ndarray:
        """Fixed-effects columns (n, k_fe)."""
        return self._design.X

    @property
    def exog_re(self) -> np.ndarray | None:
        """Random columns of the groups (n, k_re)."""
        own = self._own
        return None if own is None else self._design.terms[own.terms[0][0]].z

    @property
    def endog_names(self) -> str:
        """Name of the response."""
        return self._design.response

    @property
    def exog_names(self) -> list[str]:
        """Names of the fixed-effects columns."""
        return list(self._design.x_names)

    @property
    def nobs(self) -> int:
        """Rows used."""
        return len(self._design.y)

    n_totobs = nobs

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.group_labels)

    @property
    def k_fe(self) -> int:
        """Number of fixed-effects columns."""
        return int(self._design.X.shape[1])

    @property
    def k_re(self) -> int:
        """Number of random columns of the groups."""
        return 0 if self._own is None else len(self._own.columns)

    @property
    def k_re2(self) -> int:
        """Number of their variances and covariances."""
        return self.k_re * (self.k_re + 1) // 2

    @property
    def k_vc(self) -> int:
        """Number of variance components."""
        return len(self.vcomp_names)

    @property
    def k_params(self) -> int:
        """Number of parameters without the residual variance."""
        return len(self.data.param_names)

    @property
    def vcomp_names(self) -> list[str]:
        """Names of the variance components."""
        return [part.name for part in self.components if is_component(part)]

    @property
    def _own(self) -> Component | None:
        """The groups' own random effects."""
        return next((part for part in self.components if part.kind == "re"), None)

    @cached_property
    def data(self) -> ModelData:
        """Names of all parameters, and the frame of the formula."""
        own = [] if self._own is None else list(self._own.columns)
        full = [pair_name(own, i, j) for i in range(len(own)) for j in range(i + 1)]
        vcomp = self.vcomp_names
        further = [
            f"{part.name}: {pair_name(part.columns, i, j)}"
            for part in self.components
            if part.kind == "crossed" and not is_component(part)
            for i in range(len(part.columns))
            for j in range(i + 1)
            if self._design.terms[part.terms[0][0]].structure == "full" or i == j
        ]
        names = [*self.exog_names, *full, *(f"{name} Var" for name in vcomp), *further]
        return ModelData(
            self._frame, self.exog_names, self.endog_names, own, full, vcomp, names,
            self._design.index,
        )  # fmt: skip

    @cached_property
    def row_indices(self) -> Mapping[Any, np.ndarray]:
        """Rows of each group."""
        order = np.argsort(self.group_codes, kind="stable")
        order.flags.writeable = False
        cuts = np.searchsorted(self.group_codes[order], np.arange(1, self.n_groups))
        return dict(zip(self.group_labels, np.split(order, cuts), strict=True))

    def group_list(self, array: Any) -> list[np.ndarray] | None:
        """The rows of an array by group."""
        if array is None:
            return None
        return [np.asarray(array)[rows] for rows in self.row_indices.values()]

    @property
    def endog_li(self) -> list[np.ndarray] | None:
        """The response by group."""
        return self.group_list(self.endog)

    @property
    def exog_li(self) -> list[np.ndarray] | None:
        """The fixed-effects columns by group."""
        return self.group_list(self.exog)

    @property
    def exog_re_li(self) -> list[np.ndarray] | None:
        """The groups' random columns by group."""
        return self.group_list(self.exog_re)

    # ---- fit ------------------------------------------------------------------------------------

    @cached_property
    def _lmm(self) -> LMM:
        return LMM(self._design)

    def fit(
        self,
        start_params: Any = None,
        reml: bool = True,
        niter_sa: int = 0,
        do_cg: bool = True,
        fe_pen: Any = None,
        cov_pen: Any = None,
        free: Any = None,
        full_output: bool = False,
        method: Any = None,
        **fit_kwargs: Any,
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
        full_output : bool
            Keep the evaluations in ``result.hist``.
        fe_pen, cov_pen : None
            Penalties are not part of lmmfast.
        niter_sa, method, fit_kwargs
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
            raise FitError("penalized fits are not part of lmmfast: use statsmodels for these")
        _note_unused(niter_sa, method, fit_kwargs)
        self.reml = bool(reml)
        history: list[Any] | None = [] if full_output else None
        mask = None if free is None else mask_of(free, self.k_fe, self.k_re, self.k_vc)
        model, components = self._restricted(mask)
        moving = self._moving(model, components, mask, start_params)
        first = None
        if not do_cg or (start_params is not None and moving is None):
            first = theta_of(model, components, self._start(start_params))
        if do_cg:
            keep = None if history is None else history.append
            fit = model.fit(reml=reml, callback=keep, start=first, free=moving)
        else:
            given = model.estimates_at(first, reml=reml)
            fit = LMMFit(replace(given, free=moving), model.design, model)
        return MixedLMResults(self, fit, components, history, mask)

    def fit_regularized(self, *args: Any, **kwargs: Any) -> MixedLMResults:
        """Penalized fits are not part of lmmfast."""
        raise FitError("penalized fits are not part of lmmfast: use statsmodels for these")

    def _restricted(self, mask: MixedLMParams | None) -> tuple[LMM, tuple[Component, ...]]:
        """The model with the random effects of the groups cut into uncorrelated blocks."""
        own = self._own
        if mask is None or own is None or mask.cov_re.all() or own.terms[1:]:
            return self._lmm, self.components
        blocks = blocks_of(mask.cov_re)
        if len(blocks) == 1:
            return self._lmm, self.components
        where = own.terms[0][0]
        term = self._design.terms[where]
        parts = [block_of(term, block) for block in blocks]
        terms = (*self._design.terms[:where], *parts, *self._design.terms[where + 1 :])
        shift = len(parts) - 1
        moved = tuple(
            replace(
                part,
                terms=tuple((t + shift if t > where else t, columns) for t, columns in part.terms),
            )
            for part in self.components
        )
        cut = tuple((where + i, tuple(block)) for i, block in enumerate(blocks))
        components = tuple(replace(p, terms=cut) if p.kind == "re" else p for p in moved)
        return LMM(replace(self._design, terms=terms)), components

    def _moving(
        self,
        model: LMM,
        components: tuple[Component, ...],
        mask: MixedLMParams | None,
        start_params: Any,
    ) -> Free | None:
        """What of theta may move; None when everything may."""
        free = np.ones(model.ntheta, bool)
        owner = np.arange(model.ntheta)
        entries = model.theta_entries
        vcomp = 0
        for part in components:
            where = [k for k, (t, _, _) in enumerate(entries) if t in dict(part.terms)]
            if part.tied:
                owner[where] = where[0]
            if part.kind == "re" and mask is not None:
                columns = dict(part.terms)
                for k in where:
                    t, r, c = entries[k]
                    free[k] = bool(mask.cov_re[columns[t][r], columns[t][c]])
            if is_component(part):
                if mask is not None and not mask.vcomp[vcomp]:
                    free[where] = False
                vcomp += 1
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
            own = np.asarray(given.cov_re, float).reshape(self.k_re, self.k_re)
            return MixedLMParams.of(
                np.asarray(given.fe_params), own, np.asarray(given.vcomp, float)
            )
        packed = np.asarray(given, float)
        extra = len(packed) - self.k_re2 - self.k_vc
        if packed.ndim != 1 or extra not in (0, self.k_fe):
            raise ValueError(
                f"start_params has shape {packed.shape}; it needs {self.k_re2 + self.k_vc} "
                f"values, or {self.k_fe} fixed effects more"
            )
        return MixedLMParams.from_packed(packed, self.k_fe, self.k_re, True, extra == self.k_fe)

    # ---- at given parameters --------------------------------------------------------------------

    def loglike(self, params: Any, profile_fe: bool = True) -> float:
        """Log likelihood (restricted, if the last fit was) at given parameters.

        Parameters
        ----------
        params : MixedLMParams or array
            Over the residual variance, which is profiled out; an array as for `fit`.
        profile_fe : bool, default True
            Whether the fixed effects too are at their best; else those in `params` count.
        """
        given = self._start(params)
        return loglike(self._lmm, self.components, given, self.reml, profile_fe)

    def score(self, params: Any, profile_fe: bool = True) -> np.ndarray:
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
        given = self._start(params)
        return score(self._lmm, self.components, given, self.reml, profile_fe, self.use_sqrt)

    def hessian(self, params: Any) -> tuple[np.ndarray, bool]:
        """Hessian of `loglike` in fixed effects, ``cov_re`` and ``vcomp``; whether it is singular.

        Parameters
        ----------
        params : MixedLMParams or array
            As for `loglike`.
        """
        H = observed_hessian(self._lmm, self.components, self._start(params), self.reml)
        return H, bool(np.linalg.matrix_rank(H) < len(H))

    def predict(self, params: Any, exog: Any = None) -> np.ndarray:
        """Mean of the response by the fixed effects: ``exog @ fe_params``.

        Parameters
        ----------
        params : MixedLMParams or array
            Fixed effects, or all parameters, these first.
        exog : (m, k_fe) array, optional
            Default: the model's.
        """
        fixed = params.fe_params if hasattr(params, "fe_params") else np.asarray(params)
        columns = self.exog if exog is None else np.asarray(exog)
        return np.asarray(columns @ np.asarray(fixed)[: self.k_fe])

    def get_distribution(self, params: Any, scale: float, exog: Any = None) -> Simulator:
        """What draws responses at given parameters; see `Simulator.rvs`."""
        return Simulator(self, np.asarray(params, float), float(scale), exog)


class Simulator:
    """Draws responses of a model at given parameters, all random effects new."""

    def __init__(self, model: MixedLM, params: np.ndarray, scale: float, exog: Any) -> None:
        self._model, self._scale = model, scale
        self._mean = model.predict(params, exog)
        over = MixedLMParams.from_packed(params, model.k_fe, model.k_re, False, True)
        self._own, self._vcomp = scale * over.cov_re, scale * over.vcomp

    def rvs(self, n: Any = None, rng: Any = None) -> np.ndarray:
        """One response (n), whatever `n` says.

        Parameters
        ----------
        n : int
            Without effect, as in statsmodels.
        rng : int, numpy Generator or RandomState, optional
            What draws; default: a new generator.
        """
        draw = rng if hasattr(rng, "normal") else np.random.default_rng(rng)
        y = self._mean.copy()
        spreads = iter(np.sqrt(self._vcomp))
        for part in self._model.components:
            for t, columns in part.terms:
                term = self._model._design.terms[t]
                if part.kind == "re":
                    factor = cholesky_factor(self._own[np.ix_(columns, columns)])
                elif is_component(part):
                    factor = next(spreads) * np.eye(term.z.shape[1])
                else:
                    raise FitError(f"({term.label}) has no place in the parameters of statsmodels")
                b = draw.normal(size=(len(term.levels), len(factor))) @ factor.T
                y += np.einsum("nk,nk->n", term.z, b[term.codes])
        return np.asarray(y + np.sqrt(self._scale) * draw.normal(size=len(y)))


def mixedlm(
    formula: str,
    data: Any,
    re_formula: str | None = None,
    vc_formula: Mapping[str, str] | None = None,
    subset: Any = None,
    use_sparse: bool = False,
    missing: str = "drop",
    *,
    groups: Any = None,
    eval_env: int = 0,
    use_sqrt: bool = True,
) -> MixedLM:
    """A linear mixed model with statsmodels' arguments; ``mixedlm(...).fit()`` fits it.

    Parameters
    ----------
    formula : str
        Response and fixed effects: ``"y ~ x + C(cond)"``.
    data : pandas, polars or pyarrow table, or dict of arrays
    re_formula : str, optional
        Random effects of the groups, one-sided: ``"~x"``. ``"~1|item"`` adds a crossed random
        intercept of item to that of the groups. Default: an intercept, or nothing if there is a
        `vc_formula`.
    vc_formula : dict of str, optional
        Variance components within the groups: ``{"class": "0 + C(classroom)"}``; with a single
        group, ``groups=np.ones(n)``, crossed factors.
    subset : array, optional
        Rows to use: booleans, positions' labels of the frame's index.
    use_sparse, use_sqrt : bool
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
    return _from_formula(
        MixedLM,
        formula,
        data,
        groups,
        re_formula,
        vc_formula,
        subset,
        _checked_missing(missing),
        None if eval_env < 0 else _names_of_caller(2 + eval_env),
        use_sqrt,
    )


# ---- formulas -----------------------------------------------------------------------------------


class _Names(Mapping[str, Any]):
    """Names that a frame of the caller sees, looked up when they are needed."""

    def __init__(self, frame: Any) -> None:
        self._local, self._global = frame.f_locals, frame.f_globals

    def __getitem__(self, name: str) -> Any:
        return self._local[name] if name in self._local else self._global[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._global, **self._local})

    def __len__(self) -> int:
        return len({**self._global, **self._local})


def _names_of_caller(depth: int) -> _Names:
    return _Names(sys._getframe(depth))


def _from_formula(
    cls: type[MixedLM],
    formula: str,
    data: Any,
    groups: Any,
    re_formula: str | None,
    vc_formula: Mapping[str, str] | None,
    subset: Any,
    missing: str,
    scope: Mapping[str, Any] | None,
    use_sqrt: bool,
) -> MixedLM:
    if groups is None:
        raise FormulaError(
            "groups= is required: a column of the data or the group of each row "
            "(a formula with its random effects, as in lme4, is for lmmfast.lmer)"
        )
    if subset is not None:
        data, groups = _subset(data, groups, subset)
    table = Table(data)
    group, shown = _group_column(table, data, groups)
    stated = state(formula, table, group, re_formula, vc_formula)
    design = build(stated.formula, table, scope=scope, patsy=True)
    if missing != "drop" and design.dropped:
        counts = ", ".join(f"{name} ({rows})" for name, rows in design.dropped.items())
        raise DataError(
            f"{design.n_rows - len(design.rows)} rows have missing values: {counts}; "
            'missing="drop" leaves them out',
            variable=next(iter(design.dropped)),
        )
    components = tuple(
        Component(
            kind, name, ((i, tuple(range(term.z.shape[1]))),), _shown(term, kind, shown), tied
        )
        for i, ((kind, name, tied), term) in enumerate(
            zip(stated.components, design.terms, strict=True)
        )
    )
    codes, labels = _groups_of(design, components, table, group)
    model = cls.__new__(cls)
    model._open(design, components, True, codes, labels, shown, data)
    model.groups = labels[codes]
    model.formula_lme4 = stated.formula_lme4
    model.formula = formula
    model.use_sqrt = use_sqrt
    return model


def _subset(data: Any, groups: Any, subset: Any) -> tuple[Any, Any]:
    """The chosen rows of a pandas frame, and of groups given as an array."""
    if not hasattr(data, "loc"):
        raise DataError("subset= needs a pandas frame: select the rows beforehand")
    import pandas as pd

    try:
        where = pd.Series(np.arange(len(data)), data.index).loc[subset].to_numpy()
    except (IndexError, KeyError, TypeError, ValueError, pd.errors.IndexingError) as error:
        raise DataError(
            f"subset= does not choose rows of the data: {error}; give booleans, one for each row, "
            "or labels of data.index",
            variable="subset",
        ) from error
    if isinstance(groups, str) or len(groups) != len(data):
        return data.iloc[where], groups
    groups = aligned(groups, data.index, "groups", reorder=False)
    return data.iloc[where], groups.iloc[where] if hasattr(groups, "iloc") else (
        np.asarray(groups)[where]
    )


def _group_column(table: Table, data: Any, groups: Any) -> tuple[str, str]:
    """Name of the groups' column (added to the table if need be), and as statsmodels shows it."""
    if isinstance(groups, str):
        if not table.has(groups):
            raise table.lacks(groups, DataError, "groups:")
        return groups, groups
    aligned(groups, table.index, "groups", reorder=False)
    name = getattr(groups, "name", None)
    if isinstance(name, str) and table.has(name) and _same(groups, data[name]):
        return name, "Group"
    added = "Group"
    while table.has(added):
        added += "_"
    table.add(added, groups)
    return added, "Group"


def _same(given: Any, column: Any) -> bool:
    equals = getattr(given, "equals", None)
    return equals is not None and bool(equals(column))


def _shown(term: RandomTerm, kind: str, group: str) -> tuple[str, ...]:
    """Names of the random columns; statsmodels calls the groups' intercept by their name."""
    if kind != "re":
        return term.columns
    return tuple(name.replace("Intercept", group) for name in term.columns)


def _groups_of(
    design: Design, components: tuple[Component, ...], table: Table, group: str
) -> tuple[np.ndarray, np.ndarray]:
    """Group of each row used, and the labels."""
    for part, term in zip(components, design.terms, strict=True):
        if part.kind == "re":
            return term.codes, term.levels
    column = table.column(group).as_factor()
    if len(design.rows) < table.n:
        column = column.take(design.rows).used()
    assert column.codes is not None and column.levels is not None
    return column.codes, column.levels


# ---- arguments -----------------------------------------------------------------------------------


def _checked_missing(missing: str) -> str:
    if missing not in ("none", "drop", "raise"):
        raise ValueError(f'missing must be "none", "drop" or "raise", not {missing!r}')
    return missing


def _note_unused(niter_sa: int, method: Any, fit_kwargs: Mapping[str, Any]) -> None:
    """One note for all arguments without effect."""
    known = [name for name in _UNUSED if name in fit_kwargs]
    known += ["method"] if method is not None else []
    known += ["niter_sa"] if niter_sa else []
    unknown = [name for name in fit_kwargs if name not in _UNUSED]
    if not known and not unknown:
        return
    names = ", ".join([*unknown, *known])
    ending = "s" if len(known) + len(unknown) > 1 else ""
    why = "there is one optimizer, which needs no settings and certifies its optimum"
    if unknown:
        why = f"{', '.join(unknown)} changes nothing; {why}" if known else "it changes nothing"
    warn(UnusedArgumentWarning(f"Argument{ending} {names} not used by lmmfast: {why}"))
