"""Stated: a mixed model as it is stated, its arrays, sizes and names; the base of `MixedLM`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..data.design import Design
from ..tables import name_index
from .terms import Component, is_component, pair_name


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
    endog: np.ndarray = field(repr=False)
    exog: np.ndarray = field(repr=False)
    _indices: dict[tuple[str, ...], Any] = field(default_factory=dict, repr=False)

    @property
    def orig_endog(self) -> Any:
        """The response as pandas has it; an array where the model is of arrays."""
        if self.row_labels is None:
            return self.endog
        import pandas as pd

        return pd.DataFrame({self.ynames: self.endog}, index=self.row_labels)

    @property
    def orig_exog(self) -> Any:
        """The fixed-effects columns by name; an array where the model is of arrays."""
        if self.row_labels is None:
            return self.exog
        import pandas as pd

        return pd.DataFrame(self.exog, index=self.row_labels, columns=self.xnames)

    def index(self, names: Sequence[str]) -> Any:
        """A pandas index of names, made once."""
        key = tuple(names)
        if key not in self._indices:
            self._indices[key] = name_index(key, "object")
        return self._indices[key]


class VarianceColumns:
    """Columns of the variance components, as statsmodels' ``VCSpec``; made when asked for.

    Attributes
    ----------
    names : list of str
        The components.
    colnames : list of lists of lists of str
        Of each component and group: names of its columns.
    mats : list of lists of (rows, columns) arrays
        The columns themselves.
    """

    def __init__(self, model: Stated) -> None:
        self._model = model
        self._parts = [part for part in model.components if part.kind == "vc"]
        self.names = [part.name for part in self._parts]

    @cached_property
    def colnames(self) -> list[list[list[str]]]:
        """Names of the columns, by component and group."""
        return [[names for names, _ in own] for own in self._made]

    @cached_property
    def mats(self) -> list[list[np.ndarray]]:
        """The columns, by component and group."""
        return [[columns for _, columns in own] for own in self._made]

    @cached_property
    def _made(self) -> list[list[tuple[list[str], np.ndarray]]]:
        rows = list(self._model.row_indices.values())
        return [[self._of(part, own, g) for g, own in enumerate(rows)] for part in self._parts]

    def _of(self, part: Component, rows: np.ndarray, group: int) -> tuple[list[str], np.ndarray]:
        names: list[str] = []
        columns = []
        prefix = f"{self._model.group_labels[group]}:"
        for t, _ in part.terms:
            term = self._model._design.terms[t]
            z, codes = term.z[rows], term.codes[rows]
            levels = np.unique(codes)
            if not part.written:
                names += [str(name) for name in term.columns]
                columns.append(z)
                continue
            for level in levels:
                label = str(term.levels[level]).removeprefix(prefix)
                names.append(part.level_name(label)[len(part.name) + 1 : -1])
                columns.append(z * (codes == level)[:, None])
        return names, np.concatenate(columns, axis=1)


class Stated:
    """A mixed model of which nothing is fitted yet; `MixedLM` has its arguments and attributes."""

    def _open(
        self,
        design: Design,
        components: tuple[Component, ...],
        labelled: bool,
        codes: np.ndarray,
        labels: np.ndarray,
        group: str,
        formula_lme4: str | None,
        use_sqrt: bool,
        formula: str | None = None,
        frame: Any = None,
    ) -> None:
        self._design, self._frame, self.labelled = design, frame, labelled
        self.components = components
        self._group_effects = next((part for part in components if part.kind == "re"), None)
        self.vcomp_names = [part.name for part in components if is_component(part)]
        self.endog_names, self.exog_names = design.response, list(design.x_names)
        self.group_codes, self.group_name = codes, group
        self.group_labels: list[Any] = labels.tolist()
        self.groups: np.ndarray = labels[codes]
        self.n_groups = len(self.group_labels)
        self.k_fe, self.k_vc = design.fixed.width, len(self.vcomp_names)
        self.k_re = 0 if self._group_effects is None else len(self._group_effects.columns)
        self.k_re2 = self.k_re * (self.k_re + 1) // 2
        self.formula, self.formula_lme4 = formula, formula_lme4
        self.use_sqrt, self.reml = use_sqrt, True

    def without_data(self, design: Design) -> Stated:
        """A model of the same names with no rows: `design` has none."""
        bare = copy(self)
        bare._design, bare._frame = design, None
        bare.group_codes, bare.groups = np.zeros(0, np.int32), np.zeros(0)
        for cached in ("row_indices", "data", "_lmm"):
            bare.__dict__.pop(cached, None)
        return bare

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
        part = self._group_effects
        return None if part is None else self._design.terms[part.terms[0][0]].z

    @property
    def nobs(self) -> int:
        """Rows used."""
        return len(self._design.y)

    n_totobs = nobs

    @property
    def k_params(self) -> int:
        """Number of parameters without the residual variance."""
        return len(self.data.param_names)

    @cached_property
    def data(self) -> ModelData:
        """Names of all parameters, and the frame of the formula."""
        columns = [] if self._group_effects is None else list(self._group_effects.columns)
        full = [pair_name(columns, i, j) for i in range(len(columns)) for j in range(i + 1)]
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
            self._frame, self.exog_names, self.endog_names, columns, full, vcomp, names,
            self._design.index, self.endog, self.exog,
        )  # fmt: skip

    @cached_property
    def exog_vc(self) -> VarianceColumns:
        """Variance components: ``names``, and by name and group ``colnames`` and ``mats``."""
        return VarianceColumns(self)

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
