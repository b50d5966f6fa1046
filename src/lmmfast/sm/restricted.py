"""Restricted: a criterion of a REML fit, which warns when it meets that of other fixed effects."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import RestrictedLikelihoodWarning, warn

__all__ = ["Restricted"]


class Restricted(np.float64):
    """A criterion of a REML fit, which warns when it meets that of other fixed effects.

    Restricted likelihoods of models with different fixed effects are densities of different data
    (of different error contrasts); only those of maximum likelihood can be compared.
    """

    fixed: tuple[str, ...]

    def __new__(cls, value: float, fixed: tuple[str, ...]) -> Restricted:
        new = super().__new__(cls, value)
        new.fixed = fixed
        return new

    def __reduce__(self) -> Any:
        return Restricted, (float(self), self.fixed)

    def _check(self, other: object) -> np.float64:
        """The plain number; a warning if the other is of another model."""
        if isinstance(other, Restricted) and other.fixed != self.fixed:
            warn(
                RestrictedLikelihoodWarning(
                    "REML likelihoods of models with different fixed effects cannot be compared "
                    "(nor their AIC or BIC): fit both with reml=False for this test"
                )
            )
        return np.float64(self)

    def __neg__(self) -> Restricted:
        return Restricted(-float(self), self.fixed)

    def __mul__(self, other: Any) -> Any:
        scaled = np.float64(self) * other
        return Restricted(scaled, self.fixed) if isinstance(scaled, float) else scaled

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Any:
        return self._check(other) - _plain(other)

    def __lt__(self, other: Any) -> Any:
        return self._check(other) < _plain(other)

    def __gt__(self, other: Any) -> Any:
        return self._check(other) > _plain(other)

    def __le__(self, other: Any) -> Any:
        return self._check(other) <= _plain(other)

    def __ge__(self, other: Any) -> Any:
        return self._check(other) >= _plain(other)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Restricted) else value
