"""The compiled model of cross-products, where `Engine` makes that of rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ..engine.compiled import Engine
from ..errors import FitError
from .moments import response_moments
from .recast import Recast, cholesky, dependent, recast, without

__all__ = ["CrossEngine"]

ROUNDED = 4e-16  # residuals below this share of the response are rounding, as for rows (moments.c)


class CrossEngine(Engine):
    """The compiled model of a streamed design; dependent columns are dropped as with rows."""

    def _source(self, y: np.ndarray) -> tuple[Any, ...]:
        cross = self.design.cross
        assert cross is not None
        own = self._judged(recast(self.design, self._factors, self._kept))
        owners = [self._owners(terms) for terms in self._factors]
        numbers = (own.C, np.asfortranarray(own.CX), own.beta0, own.yscale)
        finite = [np.isfinite(one).all() for one in (*own.C, numbers[1], own.beta0)]
        if not all(finite) or not np.isfinite(own.yscale):
            raise FitError(
                "the columns of the cross-products are too large or too small for floating-point "
                "numbers: measure the response and the predictors in other units"
            )
        self._check_residuals(own)
        return (_core.Cross(own.blocks, cross.n, cross._sumlogw, owners, *numbers),)

    def _check_residuals(self, own: Recast) -> None:
        """Least squares must leave more of the response than its rounding, as with rows.

        The size of the response is its root mean square: its largest value is not known.

        Raises
        ------
        _core.NoVariance
        """
        G = own.blocks.corner
        size = np.sqrt(np.where(G.diagonal() > 0, G.diagonal(), 1.0))
        share = cholesky(G / np.outer(size, size))[-1, -1]
        left = own.yscale * size[-1] * share / np.sqrt(self.design.n)
        mean, variance = response_moments(self.design)
        if not left > ROUNDED * np.sqrt((mean**2 + max(variance, 0.0)) * len(G)):
            raise _core.NoVariance

    def cross_products(self) -> tuple[Any, list[np.ndarray]]:
        own = recast(self.design, self._factors, self._kept)
        return own.blocks, own.C

    def _judged(self, own: Recast) -> Recast:
        """Columns that nearly depend on others are judged as those of rows would be."""
        assert self.design.cross is not None and self.design.cross.spec.coordinates is not None
        coordinates = self.design.cross.spec.coordinates
        if any(basis.doubtful for basis in coordinates.random):
            for factor in range(len(own.C)):
                if self._drop_dependent(own, factor):
                    return self._judged(recast(self.design, self._factors, self._kept))
        if not coordinates.fixed.doubtful:
            return own
        G = own.blocks.corner[:-1, :-1]
        columns = dependent(G, own.CX, _is_first(self.design.X, coordinates.fixed.constant))
        return without(own, columns) if len(columns) else own

    def _drop_dependent(self, own: Recast, factor: int) -> bool:
        """Drops the first dependent column of a factor's terms; whether there was one."""
        assert self.design.cross is not None and self.design.cross.spec.coordinates is not None
        bases = self.design.cross.spec.coordinates.random
        total, at = own.blocks.diagonal(factor).sum(axis=0), 0
        for i in self._factors[factor]:
            z: Any = self.design.terms[i].z
            cut = slice(at, at + len(self._kept[i]))
            at = cut.stop
            if self.design.terms[i].structure == "diag" or not bases[z.term].doubtful:
                continue
            first = _is_first(z, bases[z.term].constant) and 0 in self._kept[i]
            columns = dependent(total[cut, cut], own.C[factor][cut, cut], first)
            if len(columns):
                self._drop(factor, cut.start + int(columns[0]))
                return True
        return False


def _is_first(columns: Any, constant: float) -> bool:
    """Whether the first column is the constant one."""
    map = columns.map
    return bool(constant and map.shape[1] and map[0, 0] == 1 and not map[1:, 0].any())
