"""Stated: a mixed model as it is stated, its arrays, sizes and names; the base of `MixedLM`."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..data.design import Design
from .original import ModelData, ModelSpec, VarianceColumns
from .params import MixedLMParams
from .terms import Component, is_component


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
        parts: tuple[str | None, Mapping[str, str] | None] = (None, None),
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
        self.formula_lme4, self._parts = formula_lme4, parts
        if formula is not None:  # statsmodels' tools ask whether there is one
            self.formula = formula
        self.use_sqrt, self.reml = use_sqrt, True

    def without_data(self, design: Design) -> Stated:
        """A model of the same names with no rows: `design` has none."""
        bare = copy(self)
        bare._design, bare._frame = design, None
        bare.group_codes, bare.groups = np.zeros(0, np.int32), np.zeros(0)
        for cached in ("row_indices", "data", "spec", "exog_vc", "_lmm"):
            bare.__dict__.pop(cached, None)
        return bare

    fe_pen = cov_pen = re_pen = None  # statsmodels' penalties, which are not part of lmmfast

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

    @property
    def k_constant(self) -> int:
        """1 if a fixed-effects column is constant, else 0."""
        return self.data.k_constant

    @cached_property
    def data(self) -> ModelData:
        """Names of all parameters, and what the model was made of."""
        return ModelData(self)

    @cached_property
    def spec(self) -> ModelSpec | None:
        """The formulas and their columns; None where the model is of arrays."""
        return None if self._design.recipe is None else ModelSpec(self._design, *self._parts)

    @cached_property
    def exog_vc(self) -> VarianceColumns:
        """Variance components: ``names``, and by name and group ``colnames`` and ``mats``."""
        return VarianceColumns(self)

    @cached_property
    def row_indices(self) -> Mapping[object, np.ndarray]:
        """Rows of each group."""
        order = np.argsort(self.group_codes, kind="stable")
        order.flags.writeable = False
        cuts = np.searchsorted(self.group_codes[order], np.arange(1, self.n_groups))
        return dict(zip(self.group_labels, np.split(order, cuts), strict=True))

    def group_list(self, array: ArrayLike | None) -> list[np.ndarray] | None:
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

    @property
    def exog_re2_li(self) -> list[np.ndarray] | None:
        """Products Z'Z of the groups' random columns by group."""
        columns = self.exog_re_li
        return None if columns is None else [Z.T @ Z for Z in columns]

    def predict(
        self, params: MixedLMParams | ArrayLike, exog: ArrayLike | None = None
    ) -> np.ndarray:
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
