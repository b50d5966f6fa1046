"""psi, all parameters of a generalized model: its parts and their sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .machine import Machine


class PsiMachine(Machine):
    """A machine whose parameters are psi = (theta, beta of all columns of X, the family's)."""

    @property
    def nextra(self) -> int:
        """Number of parameters of the family."""
        return int(self._core.nextra)

    @property
    def classes(self) -> int:
        """Number of classes of an ordered response, else 0."""
        return 0 if self.design.outcome is None else self.design.outcome.classes

    @property
    def size(self) -> int:
        """Length of psi."""
        return self.ntheta + len(self.design.x_names) + self.nextra

    def split(self, psi: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """theta, beta and the family's parameters, of psi (size,)."""
        p = len(self.design.x_names)
        theta, beta, extra = np.split(psi, [self.ntheta, self.ntheta + p])
        return theta, beta, extra
