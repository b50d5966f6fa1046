"""Random effects by group, as statsmodels orders them, and results without their data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.rows import RowColumns, Rows
from .estimated import Estimated
from .terms import Component

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RandomEffects", "covariance_of_group", "effects_of_group", "without_data"]


class RandomEffects(dict):  # type: ignore[type-arg]
    """Values by group; a slice gives those of the first groups."""

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, slice):
            return super().__getitem__(key)
        return {label: self[label] for label in islice(self, *key.indices(len(self)))}


class _Levels:
    """Which levels of a term belong to each group."""

    def __init__(self, owner: np.ndarray, n_groups: int) -> None:
        self.order = np.argsort(owner, kind="stable")
        self.starts = np.searchsorted(owner[self.order], np.arange(n_groups + 1))

    def of(self, group: int) -> np.ndarray:
        """Levels of one group."""
        return self.order[self.starts[group] : self.starts[group + 1]]


def levels_of(result: Estimated) -> dict[int, _Levels]:
    """For each term of a variance component, its levels by group."""
    model = result.model
    out: dict[int, _Levels] = {}
    for part in result._components:
        if part.kind == "vc":
            where = part.terms[0][0]
            term = model._design.terms[where]
            owner = np.zeros(len(term.levels), np.intp)
            owner[term.codes] = model.group_codes
            out[where] = _Levels(owner, model.n_groups)
    return out


def _levels(result: Estimated) -> dict[int, _Levels]:
    found: dict[int, _Levels] | None = result.__dict__.get("_levels_by_group")
    if found is None:
        found = result.__dict__["_levels_by_group"] = levels_of(result)
    return found


def _level_names(result: Estimated, part: Component, group: int, own: np.ndarray) -> list[str]:
    """Names of a component's effects within a group: ``class[a]``."""
    term = result.lmm.design.terms[part.terms[0][0]]
    if len(own) == 1 and len(term.levels) == result.model.n_groups:  # slopes by group
        return [c if c.startswith(f"{part.name}[") else f"{part.name}[{c}]" for c in term.columns]
    prefix = f"{result.model.group_labels[group]}:"
    return [f"{part.name}[{str(label).removeprefix(prefix)}]" for label in term.levels[own]]


def effects_of_group(result: Estimated) -> Callable[[int], pd.Series]:
    """Makes the random effects of the group at a place."""
    import pandas as pd

    levels = _levels(result)
    own_names = list(result.model.data.exog_re_names)
    b = result.lmm.estimates.b
    if not levels:
        whole = np.zeros((result.model.n_groups, len(own_names)))
        for part in result._components:
            if part.kind == "re":
                for term, columns in part.terms:
                    whole[:, columns] = b[term]
        index = pd.Index(own_names)
        return lambda group: pd.Series(whole[group], index=index)

    def make(group: int) -> pd.Series:
        names, values = list(own_names), [np.zeros(len(own_names))]
        for part in result._components:
            if part.kind == "re":
                for term, columns in part.terms:
                    values[0][list(columns)] = b[term][group]
            elif part.kind == "vc":
                own = levels[part.terms[0][0]].of(group)
                names += _level_names(result, part, group, own)
                values.append(b[part.terms[0][0]][own].ravel())
        return pd.Series(np.concatenate(values), index=names)

    return make


def covariance_of_group(result: Estimated) -> Callable[[int], pd.DataFrame]:
    """Makes the conditional covariance of the random effects of the group at a place.

    For independent groups sigma^2 L (L'Z'Z L + I)^-1 L' with the factor L of their covariance
    (Bates et al. 2015, eq. 58); where crossed factors link the groups, the block of the groups'
    own effects.
    """
    import pandas as pd

    names_of = effects_of_group(result)
    whole = len(result._components) == 1 and len(result._components[0].terms) == 1
    if whole or any(part.kind == "crossed" for part in result._components):
        return _blocks(result)

    def make(group: int) -> pd.DataFrame:
        names = names_of(group).index
        Z, L = _group_design(result, group)
        ZL = Z @ L
        inner = np.linalg.solve(ZL.T @ ZL + np.eye(L.shape[1]), L.T)
        return pd.DataFrame(result.scale * L @ inner, index=names, columns=names)

    return make


def _group_design(result: Estimated, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns of all random effects of one group, and the relative factor of their covariance."""
    rows = result.model.row_indices[result.model.group_labels[group]]
    levels = _levels(result)
    Z, factors = [], []
    if result.k_re:
        own = np.zeros((len(rows), result.k_re))
        T = np.zeros((result.k_re, result.k_re))
        for part in result._components:
            if part.kind == "re":
                for term, columns in part.terms:
                    own[:, columns] = result.lmm.design.terms[term].z[rows]
                    T[np.ix_(columns, columns)] = result.lmm.estimates.T[term]
        Z.append(own)
        factors.append(T)
    for part in result._components:
        if part.kind == "vc":
            where = part.terms[0][0]
            term_ = result.lmm.design.terms[where]
            k = term_.z.shape[1]
            for level in levels[where].of(group):
                Z.append(term_.z[rows] * (term_.codes[rows] == level)[:, None])
                factors.append(result.lmm.estimates.T[where][0, 0] * np.eye(k))
    size = sum(len(T) for T in factors)
    L = np.zeros((size, size))
    at = 0
    for T in factors:
        L[at : at + len(T), at : at + len(T)] = T
        at += len(T)
    return np.concatenate(Z, axis=1), L


def _blocks(result: Estimated) -> Callable[[int], pd.DataFrame]:
    import pandas as pd

    names = pd.Index(result.model.data.exog_re_names)
    variances = result.lmm.point.condvar
    own = [part for part in result._components if part.kind == "re"]

    def make(group: int) -> pd.DataFrame:
        out = np.zeros((len(names), len(names)))
        for part in own:
            for term, columns in part.terms:
                out[np.ix_(columns, columns)] = result.scale * variances[term][group]
        return pd.DataFrame(out, index=names, columns=names)

    return make


def without_data(result: Estimated) -> None:
    """Drops rows from the results and their model; estimates, names and counts stay."""
    if result.lmm.model is None:
        return
    _ = _levels(result), result._uncertainty, result.model.data, result._cov, result._group_sizes
    result.__dict__.pop("random_effects_cov", None)
    design = result.lmm.design
    bare = tuple(
        term.with_rows(np.zeros(0, np.int32), np.zeros((0, term.source.width)))
        for term in design.terms
    )
    small = replace(
        design,
        fixed=RowColumns(np.zeros((0, design.fixed.width))),
        terms=bare,
        sums=Rows(np.zeros(0), None, None, np.zeros(0, np.int64), None),
    )
    result.lmm = replace(result.lmm, design=small, model=None)  # type: ignore[arg-type]
    result.model = result.model.without_data(small)
