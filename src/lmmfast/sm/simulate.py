"""Draws responses of a mixed model at given parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import FitError
from .params import MixedLMParams, cholesky_factor
from .stated import Stated
from .terms import is_component

__all__ = ["Simulator"]


class Simulator:
    """Draws responses of a model at given parameters, all random effects new."""

    def __init__(self, model: Stated, params: np.ndarray, scale: float, exog: Any) -> None:
        self._model, self._scale = model, scale
        self._mean = model.predict(params, exog)
        over = MixedLMParams.from_packed(params, model.k_fe, model.k_re, False, True)
        self._cov_re, self._vcomp = scale * over.cov_re, scale * over.vcomp

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
                    factor = cholesky_factor(self._cov_re[np.ix_(columns, columns)])
                elif is_component(part):
                    factor = next(spreads) * np.eye(term.z.shape[1])
                else:
                    raise FitError(f"({term.label}) has no place in the parameters of statsmodels")
                b = draw.normal(size=(len(term.levels), len(factor))) @ factor.T
                y += np.einsum("nk,nk->n", term.z, b[term.codes])
        return np.asarray(y + np.sqrt(self._scale) * draw.normal(size=len(y)))
