"""What a model was made of, as statsmodels shows it: `model.data`, `model.exog_vc`, its terms.

Nothing here is made before it is asked for: fits need none of it. A model here is a `Stated`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..data.design import Design
from ..formula.redundancy import patsys_terms
from ..tables import name_index
from .terms import Component, is_component, pair_name


class ModelData:
    """Names and original data of a model, as statsmodels' ``model.data``.

    Attributes
    ----------
    xnames, exog_re_names, exog_re_names_full, vcomp_names, param_names : list of str
        Names of the fixed-effects columns, of the groups' random columns, of their variances and
        covariances, of the variance components and of all parameters.
    ynames : str
    row_labels : pandas.Index or None
        Labels of the rows used.
    """

    missing_row_idx: Sequence[int] = ()

    def __init__(self, model: Any) -> None:
        self._model = model
        self._indices: dict[tuple[str, ...], Any] = {}
        part = model._group_effects
        self.xnames, self.ynames = model.exog_names, model.endog_names
        self.exog_re_names = columns = [] if part is None else list(part.columns)
        self.exog_re_names_full = [
            pair_name(columns, i, j) for i in range(len(columns)) for j in range(i + 1)
        ]
        self.vcomp_names = model.vcomp_names
        self.param_names = [
            *self.xnames,
            *self.exog_re_names_full,
            *(f"{name} Var" for name in self.vcomp_names),
            *_further_names(model),
        ]

    @property
    def cov_names(self) -> list[str]:
        """As `param_names`."""
        return self.param_names

    @property
    def row_labels(self) -> Any:
        """Labels of the rows used, a pandas index; None for other data."""
        return self._model._design.index

    @property
    def formula(self) -> str | None:
        """The formula of the fixed effects."""
        formula: str | None = getattr(self._model, "formula", None)
        return formula

    @property
    def frame(self) -> Any:
        """The data of the formula: of a pandas frame the rows used, other tables whole."""
        frame, model = self._model._frame, self._model
        if not hasattr(frame, "iloc") or len(frame) == model.nobs:
            return frame
        return frame.iloc[model._design.rows]

    @property
    def endog(self) -> np.ndarray:
        """Response (n)."""
        return np.asarray(self._model.endog)

    @property
    def exog(self) -> np.ndarray:
        """Fixed-effects columns (n, k_fe)."""
        return np.asarray(self._model.exog)

    @property
    def exog_re(self) -> np.ndarray | None:
        """Random columns of the groups (n, k_re)."""
        columns: np.ndarray | None = self._model.exog_re
        return columns

    @property
    def orig_endog(self) -> Any:
        """The response as pandas has it; an array where the model is of arrays."""
        return self._labelled(self.endog, [self.ynames], series=self.model_spec is None)

    @property
    def orig_exog(self) -> Any:
        """The fixed-effects columns by name; an array where the model is of arrays."""
        return self._labelled(self.exog, self.xnames)

    def _labelled(self, values: np.ndarray, names: list[str], series: bool = False) -> Any:
        if not self._model.labelled:
            return values
        import pandas as pd

        if series:
            return pd.Series(values, self.row_labels, name=names[0])
        return pd.DataFrame(values, self.row_labels, names)

    @property
    def const_idx(self) -> int | None:
        """Which of the fixed-effects columns is the constant."""
        if self.model_spec is not None:
            return self.xnames.index("Intercept") if "Intercept" in self.xnames else None
        X = self.exog
        found = (j for j in range(X.shape[1]) if X[0, j] != 0 and (X[:, j] == X[0, j]).all())
        return next(found, None) if len(X) else None

    @property
    def k_constant(self) -> int:
        """1 if there is a constant column, else 0."""
        return int(self.const_idx is not None)

    @property
    def model_spec(self) -> ModelSpec | None:
        """The formula's terms and columns; None where the model is of arrays."""
        spec: ModelSpec | None = self._model.spec
        return spec

    def index(self, names: Sequence[str]) -> Any:
        """A pandas index of names, made once."""
        key = tuple(names)
        if key not in self._indices:
            self._indices[key] = name_index(key, "object")
        return self._indices[key]


def _further_names(model: Any) -> list[str]:
    """Names of the variances and covariances of crossed random effects with several columns."""
    return [
        f"{part.name}: {pair_name(part.columns, i, j)}"
        for part in model.components
        if part.kind == "crossed" and not is_component(part)
        for i in range(len(part.columns))
        for j in range(i + 1)
        if model._design.terms[part.terms[0][0]].structure == "full" or i == j
    ]


# ---- formulas ------------------------------------------------------------------------------------


class ModelSpec:
    """Formulas of a model and their columns; part of what patsy's ``DesignInfo`` has.

    Attributes
    ----------
    re_formula : str or None
    vc_formula : mapping of str, or None
    """

    def __init__(
        self, design: Design, re_formula: str | None, vc_formula: Mapping[str, str] | None
    ) -> None:
        self._design, self.re_formula, self.vc_formula = design, re_formula, vc_formula

    @property
    def scope(self) -> Any:
        """The caller's functions and constants, which the formulas may use."""
        assert self._design.recipe is not None
        return self._design.recipe.memory.scope

    @property
    def column_names(self) -> list[str]:
        """Names of the fixed-effects columns."""
        return list(self._design.x_names)

    @property
    def term_names(self) -> list[str]:
        """Names of the terms, in the order of their columns."""
        return list(self.term_name_slices)

    @cached_property
    def term_name_slices(self) -> dict[str, slice]:
        """Which columns each term has."""
        recipe, terms = self._design.recipe, self._design.plan.fixed
        assert recipe is not None
        codings = recipe.codings
        found, start = {}, 0
        for term, products in patsys_terms(terms, lambda a: codings[a.label].levels is not None):
            width = sum(
                math.prod(
                    len(codings[terms.atoms[atom].label].fields(dummy))
                    for atom, dummy in zip(product.atoms, product.dummy, strict=True)
                )
                for product in products
            )
            found[terms.label(term) if term.atoms else "Intercept"] = slice(start, start + width)
            start += width
        return found

    def slice(self, term: str) -> slice:
        """The columns of a term."""
        return self.term_name_slices[term]


# ---- variance components -------------------------------------------------------------------------


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

    def __init__(self, model: Any) -> None:
        self._model = model
        self._parts = [part for part in model.components if part.kind == "vc"]
        self.names = [part.name for part in self._parts]

    @cached_property
    def colnames(self) -> list[list[list[str]]]:
        """Names of the columns, by component and group."""
        return [[names for names, _ in groups] for groups in self._made]

    @cached_property
    def mats(self) -> list[list[np.ndarray]]:
        """The columns, by component and group."""
        return [[columns for _, columns in groups] for groups in self._made]

    @cached_property
    def _made(self) -> list[list[tuple[list[str], np.ndarray]]]:
        groups = list(enumerate(self._model.row_indices.values()))
        return [[self._of(part, rows, group) for group, rows in groups] for part in self._parts]

    def _of(self, part: Component, rows: np.ndarray, group: int) -> tuple[list[str], np.ndarray]:
        term = self._model._design.terms[part.terms[0][0]]
        z, codes = term.z[rows], term.codes[rows]
        if part.kind == "vc" and len(term.levels) == self._model.n_groups and not part.written:
            return [
                name.removeprefix(f"{part.name}[").removesuffix("]") for name in term.columns
            ], z
        prefix = f"{self._model.group_labels[group]}:"
        levels = np.unique(codes)
        labels = [str(term.levels[level]).removeprefix(prefix) for level in levels]
        names = [part.level_name(label)[len(part.name) + 1 : -1] for label in labels]
        return names, z * (codes[:, None] == levels)
