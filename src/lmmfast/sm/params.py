"""Parameters of a mixed model as statsmodels packs them, and masks that hold some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..data.terms import RandomTerm
from ..errors import FitError
from ..linalg import triangular_root


class MixedLMParams:
    """Parameters of a mixed model over the residual variance, or which of them are free.

    Made empty (zeros) by the sizes; see also `from_components`.

    Parameters
    ----------
    k_fe, k_re, k_vc : int
        Numbers of fixed effects, random columns of the groups, and variance components.

    Attributes
    ----------
    fe_params : (k_fe,) array
    cov_re : (k_re, k_re) array
        Covariance of the random effects over `scale`; as a mask: 1 free, 0 held at its start.
    vcomp : (k_vc,) array
        Variances of the components over `scale`.
    """

    def __init__(self, k_fe: int, k_re: int, k_vc: int) -> None:
        self.fe_params = np.zeros(k_fe)
        self.cov_re = np.zeros((k_re, k_re))
        self.vcomp = np.zeros(k_vc)

    @classmethod
    def of(cls, fe_params: np.ndarray, cov_re: np.ndarray, vcomp: np.ndarray) -> MixedLMParams:
        """Parameters made of these arrays."""
        own = cls(0, 0, 0)
        own.fe_params, own.cov_re, own.vcomp = fe_params, cov_re, vcomp
        return own

    @classmethod
    def from_components(
        cls,
        fe_params: ArrayLike | None = None,
        cov_re: ArrayLike | None = None,
        cov_re_sqrt: ArrayLike | None = None,
        vcomp: ArrayLike | None = None,
    ) -> MixedLMParams:
        """Parameters from their parts; what is left out is empty.

        Parameters
        ----------
        fe_params : (k_fe,) array, optional
            Fixed effects.
        cov_re : (k_re, k_re) array, optional
            Covariance matrix of the random effects.
        cov_re_sqrt : (k_re, k_re) array, optional
            Cholesky factor, instead of `cov_re`.
        vcomp : (k_vc,) array, optional
            Variance components.
        """
        if cov_re is None and cov_re_sqrt is not None:
            cov_re = np.asarray(cov_re_sqrt) @ np.asarray(cov_re_sqrt).T
        own = np.zeros((0, 0)) if cov_re is None else np.atleast_2d(np.asarray(cov_re, float))
        fixed = np.zeros(0) if fe_params is None else np.asarray(fe_params, float)
        return cls.of(fixed, own, np.zeros(0) if vcomp is None else np.asarray(vcomp, float))

    @classmethod
    def from_packed(
        cls, params: ArrayLike, k_fe: int, k_re: int, use_sqrt: bool, has_fe: bool
    ) -> MixedLMParams:
        """Parameters from one array.

        Parameters
        ----------
        params : (k,) array
            Fixed effects (if `has_fe`), the lower triangle of ``cov_re`` row by row, ``vcomp``;
            with `use_sqrt` the Cholesky factor and the square roots instead.
        k_fe, k_re : int
            Number of fixed effects.
        use_sqrt, has_fe : bool
            Whether covariances are given by their Cholesky factors.
        """
        packed = np.asarray(params, float)
        first, k2 = k_fe * has_fe, k_re * (k_re + 1) // 2
        lower = np.zeros((k_re, k_re))
        lower[np.tril_indices(k_re)] = packed[first : first + k2]
        own = lower @ lower.T if use_sqrt else lower + np.tril(lower, -1).T
        vcomp = packed[first + k2 :]
        fixed = packed[:k_fe] if has_fe else np.zeros(k_fe)
        return cls.of(fixed.copy(), own, vcomp**2 if use_sqrt else vcomp.copy())

    def get_packed(self, use_sqrt: bool, has_fe: bool = False) -> np.ndarray:
        """The parameters in one array, as `from_packed` reads them."""
        lower = cholesky_factor(self.cov_re) if use_sqrt else self.cov_re
        vcomp = np.sqrt(self.vcomp) if use_sqrt else self.vcomp
        variances = np.concatenate([lower[np.tril_indices(len(lower))], vcomp])
        return np.concatenate([self.fe_params, variances]) if has_fe else variances

    def copy(self) -> MixedLMParams:
        """Parameters with arrays of their own."""
        return MixedLMParams.of(self.fe_params.copy(), self.cov_re.copy(), self.vcomp.copy())


def mask_of(free: Any, k_fe: int, k_re: int, k_vc: int) -> MixedLMParams:
    """The `free` of a fit as a mask, checked."""
    fixed = np.asarray(free.fe_params, float)
    cov_re = np.asarray(free.cov_re, float).reshape(k_re, k_re) if k_re else np.zeros((0, 0))
    vcomp = np.asarray(free.vcomp, float) if np.size(free.vcomp) else np.ones(k_vc)
    if len(fixed) and not fixed.all():
        raise FitError("free holds fixed effects: subtract that part from the response instead")
    if len(vcomp) != k_vc:
        raise ValueError(f"free.vcomp has {len(vcomp)} values; the model has {k_vc} components")
    return MixedLMParams.of(np.ones(k_fe), cov_re, vcomp)


def blocks_of(mask: np.ndarray) -> list[list[int]]:
    """Columns that the mask lets correlate, in order of their first."""
    linked = (mask != 0) | (mask != 0).T
    left, blocks = set(range(len(mask))), []
    while left:
        block, grow = set(), {min(left)}
        while grow:
            block |= grow
            grow = {j for i in grow for j in np.flatnonzero(linked[i]).tolist()} & left - block
        blocks.append(sorted(block))
        left -= block
    return blocks


def block_of(term: RandomTerm, columns: Sequence[int]) -> RandomTerm:
    """Some columns of a term as a term of their own."""
    names = " + ".join(term.columns[j] for j in columns)
    return term.chosen(columns, label=f"{names} | {term.group}")


def cholesky_factor(cov: np.ndarray) -> np.ndarray:
    """Lower factor of a covariance that may be singular."""
    try:
        return np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(cov)
        return triangular_root(vectors * np.sqrt(np.maximum(values, 0.0)))
