"""More starts of one fit: where they begin, and whether they end at one optimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..freeze import Frozen
from ..linalg import triangular_root

if TYPE_CHECKING:
    from .compiled import Engine


SAME = 1e-5  # two certified objectives that differ by less are one optimum, deviance units
SEED = 20_100_601  # of the first start; any number would do, but always the same
TYPICAL = 0.3  # standard deviation of a whitened column over that of the residuals, ...
SPREAD = 1.2  # ... and the standard deviation of its logarithm: most are within 0.03 to 3


@dataclass(frozen=True, eq=False)
class Starts(Frozen, arrays=("objectives", "thetas", "converged")):
    """Where the starts of one fit ended: the usual start first, then the random ones.

    Attributes
    ----------
    objectives : (k + 1,) array
        Objective at the end of each; NaN where there was none.
    thetas : (k + 1, ntheta) array
        theta at the end of each.
    converged : (k + 1,) bool array
        Whether the end is a certified optimum.
    """

    objectives: np.ndarray
    thetas: np.ndarray
    converged: np.ndarray

    @property
    def optima(self) -> tuple[float, ...]:
        """The objectives of the distinct certified optima, best first."""
        found: list[float] = []
        for value in np.sort(self.objectives[self.converged]):
            if not found or value > found[-1] + SAME:
                found.append(float(value))
        return tuple(found)

    @property
    def spread(self) -> float:
        """How far the worst optimum is above the best, deviance units."""
        return self.optima[-1] - self.optima[0] if self.optima else float("nan")

    def __str__(self) -> str:
        count, optima = len(self.objectives), self.optima
        others = ", ".join(f"{value - optima[0]:.2g}" for value in optima[1:])
        if not optima:
            said = "none reached an optimum"
        elif len(optima) == 1:
            said = "all reached the same optimum"
        else:
            said = f"{len(optima)} optima; the others are {others} above the best"
        failed = count - int(self.converged.sum())
        if failed and optima:
            said = said.replace("all", "all others") + f"; {failed} did not converge"
        return f"{count} starts: {said}"


def random_theta(engine: Engine, number: int) -> np.ndarray:
    """theta of a random start; the same number, the same theta.

    Each term gets standard deviations around `TYPICAL`, in whitened columns, and a random
    correlation matrix.
    """
    rng = np.random.default_rng([SEED, number])
    theta = np.empty(engine.core.ntheta)
    for i, C in enumerate(engine.whitening()):
        row, column = engine.entries(i)
        theta[engine.place(i).theta] = _random_factor(C, row, column, rng)[row, column]
    return theta


def _random_factor(
    C: np.ndarray, row: np.ndarray, column: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """T of one term, lower triangular with a nonnegative diagonal."""
    k = len(C)
    own = np.zeros((k, k))
    own[row, column] = rng.normal(size=len(row))
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    own *= TYPICAL * np.exp(SPREAD * rng.normal(size=(k, 1)))
    return triangular_root(C @ own)
