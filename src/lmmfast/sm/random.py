"""Random effects by group, as statsmodels orders them, and results without their data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.rows import RowColumns, Rows
from .estimated import Estimated
from .terms import Component, group_terms

if TYPE_CHECKING:
    import pandas as pd


class RandomEffects(dict):
    """Values by group; a slice gives those of the first groups."""

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, slice):
            return super().__getitem__(key)
        return {label: self[label] for label in islice(self, *key.indices(len(self)))}


def _level_names(result: Estimated, part: Component, group: int, own: np.ndarray) -> list[str]:
    """Names of a component's effects within a group: ``class[C(class)[a]]``."""
    term = result.lmm.design.terms[part.terms[0][0]]
    by_group = len(term.levels) == result.model.n_groups and not part.written
    if len(own) == 1 and by_group:  # slopes
        return [c if c.startswith(f"{part.name}[") else f"{part.name}[{c}]" for c in term.columns]
    prefix = f"{result.model.group_labels[group]}:"
    return [part.level_name(str(label).removeprefix(prefix)) for label in term.levels[own]]


def effects_of_group(result: Estimated) -> Callable[[int], pd.Series]:
    """Makes the random effects of the group at a place."""
    import pandas as pd

    re_names = list(result.model.data.exog_re_names)
    b = result.lmm.estimates.b
    whole = np.zeros((result.model.n_groups, len(re_names)))
    for term, columns in group_terms(result._components):
        whole[:, columns] = b[term]
    components = [part for part in result._components if part.kind == "vc"]
    if not components:
        index = pd.Index(re_names)
        return lambda group: pd.Series(whole[group], index=index)

    def make(group: int) -> pd.Series:
        names, values = list(re_names), [whole[group]]
        for part in components:
            term = part.terms[0][0]
            levels = result._levels_of(term, group)
            names += _level_names(result, part, group, levels)
            values.append(b[term][levels].ravel())
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
    from scipy.linalg import block_diag

    rows = result.model.row_indices[result.model.group_labels[group]]
    terms, T = result.lmm.design.terms, result.lmm.estimates.T
    whole = np.zeros((len(rows), result.k_re))
    for t, columns in group_terms(result._components):
        whole[:, columns] = terms[t].z[rows]
    Z, factors = [whole], [result._of_groups(dict(enumerate(T)))]
    for part in result._components:
        if part.kind == "vc":
            t = part.terms[0][0]
            z, codes = terms[t].z[rows], terms[t].codes[rows]
            for level in result._levels_of(t, group):
                Z.append(z * (codes == level)[:, None])
                factors.append(T[t][0, 0] * np.eye(z.shape[1]))
    return np.concatenate(Z, axis=1), block_diag(*factors)


def _blocks(result: Estimated) -> Callable[[int], pd.DataFrame]:
    import pandas as pd

    names = pd.Index(result.model.data.exog_re_names)
    variances = result.lmm.point.condvar
    terms = group_terms(result._components)

    def make(group: int) -> pd.DataFrame:
        out = result._of_groups({t: result.scale * variances[t][group] for t, _ in terms})
        return pd.DataFrame(out, index=names, columns=names)

    return make


def without_data(result: Estimated) -> None:
    """Drops rows from the results and their model; estimates, names and counts stay."""
    if result.lmm.model is None:
        return
    _ = result._levels, result._uncertainty, result.model.data, result._cov, result._group_sizes
    result.__dict__.pop("random_effects_cov", None)
    design = result.lmm.design
    none = np.zeros(0, np.int32)
    terms = (term.with_rows(none, np.zeros((0, term.source.width))) for term in design.terms)
    fixed = RowColumns(np.zeros((0, design.fixed.width)))
    sums = Rows(np.zeros(0), None, None, np.zeros(0, np.int64), None)
    small = replace(design, fixed=fixed, terms=tuple(terms), sums=sums)
    result.lmm = replace(result.lmm, design=small, model=None)  # type: ignore[arg-type]
    result.model = result.model.without_data(small)
