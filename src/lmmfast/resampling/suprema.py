"""Likelihood ratios of one variance under the hypothesis that it is zero, drawn by their spectrum.

References
----------
Crainiceanu & Ruppert (2004), *J. R. Statist. Soc. B* 66, theorem 1 (likelihood), equation (9)
(restricted likelihood): with independent chi-squared numbers c_s of the eigenvalues mu_s and c_0 of
the rest, D(l) = sum_s c_s / (1 + l mu_s) + c_0, and eigenvalues xi_s of the penalty, the ratio is

    sup over l >= 0 of  nu log(D(0) / D(l)) - sum_s log(1 + l xi_s),

nu being n - p and xi = mu for the restricted likelihood, n and the eigenvalues of Z'WZ for the
other one, to which n log(1 + chi-squared(q) / D(0)) is added for q fixed effects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .spectrum import Spectrum

NUMBERS = 2_000_000  # random numbers that are held at a time, at most
SPACING = 0.2  # of the logarithm of l, where the supremum is looked for ...
LOWEST, HIGHEST = 1e-5, 1e8  # ... between these over the largest and the smallest eigenvalue
REACH = 3  # values on both sides of the best that a polynomial goes through
STEPS = 6  # of Newton's method to its summit


@dataclass(frozen=True, eq=False)
class Ratio:
    """The ratio as a function of the draws."""

    spectrum: Spectrum
    nu: int
    xi: np.ndarray  # eigenvalues of the penalty
    times: np.ndarray  # and how often they occur

    @classmethod
    def restricted(cls, own: Spectrum) -> Ratio:
        """Of the restricted likelihood."""
        return cls(own, own.residual, own.values, own.counts)

    @classmethod
    def whole(cls, own: Spectrum, n: int) -> Ratio:
        """Of the likelihood of n rows."""
        return cls(own, n, own.diagonal, own.diagonal_counts)

    def draws(self, n: int, rng: np.random.Generator, fixed: int = 0) -> np.ndarray:
        """(n,) ratios under the hypothesis, with this number of fixed effects in it."""
        parts = []
        for c, rest in self._squares(n, rng):
            found = self._suprema(c, rest)
            if fixed:
                tested = rng.chisquare(fixed, len(rest))
                found += self.nu * np.log1p(tested / (c.sum(axis=1) + rest))
            parts.append(found)
        return np.concatenate(parts)

    def _squares(self, n: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Chi-squared numbers (b, K) and those of the rest (b), b replicates at a time."""
        counts, rest = self.spectrum.counts, self.spectrum.rest
        single = counts == 1
        size = max(1, NUMBERS // max(1, len(counts)))
        for first in range(0, n, size):
            b = min(size, n - first)
            c = np.empty((b, len(counts)))
            c[:, single] = rng.standard_normal((b, int(single.sum()))) ** 2
            c[:, ~single] = rng.chisquare(counts[~single], (b, int((~single).sum())))
            yield c, rng.chisquare(rest, b) if rest else np.zeros(b)

    def _suprema(self, c: np.ndarray, rest: np.ndarray) -> np.ndarray:
        grid, f = self._values(c, rest)
        best = f.argmax(axis=1)
        found = f[np.arange(len(f)), best]
        some = np.flatnonzero(found > 0)
        center = np.clip(best[some], REACH, len(grid) - 1 - REACH)
        near = f[some[:, None], center[:, None] + np.arange(-REACH, REACH + 1)]
        found[some] = np.maximum(found[some], _summit(near, best[some] - center))
        return np.asarray(np.maximum(found, 0.0))

    def _values(self, c: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values of l, evenly spaced on the logarithmic scale, and the ratios there (b, values).

        Where a ratio rises from zero to a summit below the first, that is too low to matter.
        """
        mu = self.spectrum.values
        ends = np.log([LOWEST / max(mu[-1], self.xi.max()), HIGHEST / mu[0]])
        grid = np.exp(np.arange(ends[0], ends[1] + SPACING, SPACING))
        left = c @ (1 / (1 + np.outer(mu, grid))) + rest[:, None]
        total = c.sum(axis=1) + rest
        penalty = self.times @ np.log1p(np.outer(self.xi, grid))
        return grid, self.nu * np.log(total[:, None] / left) - penalty


def _summit(f: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Maxima near `at` (b,) of polynomials through values (b, 2 REACH + 1) at -REACH .. REACH."""
    power = np.arange(2 * REACH + 1)
    a = np.linalg.solve(np.arange(-REACH, REACH + 1.0)[:, None] ** power, f.T)  # degree x b
    first, second = a[1:] * power[1:, None], a[2:] * (power[2:] * power[1:-1])[:, None]
    begin = at = at.astype(float)
    for _ in range(STEPS):
        powers = at ** power[:, None]
        slope, curvature = (first * powers[:-1]).sum(axis=0), (second * powers[:-2]).sum(axis=0)
        step = np.divide(-slope, curvature, out=np.zeros_like(at), where=curvature < 0)
        at = np.clip(at + step, begin - 1, begin + 1)
    return np.asarray((a * at ** power[:, None]).sum(axis=0))
