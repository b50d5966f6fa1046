"""Natural parameters of covariances: standard deviations and correlations, or loadings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .correlations import ROUNDING, Compound, Correlation, Pair, between


class Covariance:
    """What a covariance of p columns has for parameters, in the core's order and in the user's.

    `kinds` are those of the natural parameters: "sd", "correlation", "range", "loading" or "own".
    """

    nphi: int
    nbound: int = 0

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Of the natural parameters."""
        raise NotImplementedError

    @property
    def kinds(self) -> tuple[str, ...]:
        raise NotImplementedError

    def natural(self, phi: np.ndarray) -> Pair:
        """Natural parameters (nphi,), and how they change with phi (nphi, nphi)."""
        raise NotImplementedError

    def core(self, values: np.ndarray) -> np.ndarray:
        """phi of natural parameters."""
        raise NotImplementedError

    def flat(self, phi: np.ndarray, tolerance: float) -> np.ndarray:
        """Which natural parameters nothing depends on (nphi,)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Deviations(Covariance):
    """Standard deviations, one for all columns or each its own, times correlations."""

    p: int
    common: bool
    correlation: Correlation
    word: str = "correlation"  # what its other parameters are

    @property
    def n(self) -> int:
        """How many standard deviations."""
        return 1 if self.common else self.p

    @property
    def nphi(self) -> int:  # type: ignore[override]
        return self.n + len(self.correlation.names([""] * self.p))

    @property
    def nbound(self) -> int:  # type: ignore[override]
        """A sign would turn correlations; where there are none, it means nothing."""
        return 0 if self.common or self.nphi == self.n else self.p

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        own = ("sd",) if self.common else tuple(f"sd {name}" for name in columns)
        return own + self.correlation.names(columns)

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("sd",) * self.n + (self.word,) * (self.nphi - self.n)

    def natural(self, phi: np.ndarray) -> Pair:
        values, slopes = self.correlation.natural(phi[self.n :])
        jacobian = np.zeros((len(phi), len(phi)))
        jacobian[: self.n, : self.n] = np.diag(np.where(phi[: self.n] < 0, -1.0, 1.0))
        jacobian[self.n :, self.n :] = slopes
        return np.append(np.abs(phi[: self.n]), values), jacobian

    def core(self, values: np.ndarray) -> np.ndarray:
        return np.append(not_negative(values[: self.n]), self.correlation.core(values[self.n :]))

    def flat(self, phi: np.ndarray, tolerance: float) -> np.ndarray:
        live = np.broadcast_to(np.abs(phi[: self.n]) > tolerance, self.p)
        return np.append(np.zeros(self.n, bool), self.correlation.flat(live))


@dataclass(frozen=True)
class HomogeneousCompound(Covariance):
    """a^2 (I - J/p) + b^2 J/p: one standard deviation, one correlation."""

    p: int
    nphi = 2

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        return "sd", "rho"

    @property
    def kinds(self) -> tuple[str, ...]:
        return "sd", "correlation"

    def natural(self, phi: np.ndarray) -> Pair:
        p, (a, b) = self.p, np.abs(phi)
        both = (p - 1) * a * a + b * b
        if not both > 0:  # no variance: the sd grows with either
            return np.array([0.0, np.nan]), np.array([[((p - 1) / p) ** 0.5, p**-0.5], [0, 0]])
        sd, rho = np.sqrt(both / p), (b * b - a * a) / both
        of_sd = np.array([(p - 1) * a, b]) / (p * sd)
        of_rho = np.array([-2 * p * a * b * b, 2 * p * a * a * b]) / both**2
        return np.array([sd, rho]), np.array([of_sd, of_rho]) * np.where(phi < 0, -1, 1)

    def core(self, values: np.ndarray) -> np.ndarray:
        sd = not_negative(values[:1])
        if sd[0] == 0:
            return np.zeros(2)
        rho = between(values[1:], -1 / (self.p - 1), 1)
        return np.concatenate([sd * np.sqrt(1 - rho), sd * np.sqrt(1 + (self.p - 1) * rho)])

    def flat(self, phi: np.ndarray, tolerance: float) -> np.ndarray:
        return np.array([False, bool((np.abs(phi) <= tolerance).all())])


@dataclass(frozen=True)
class Unstructured(Covariance):
    """T T': standard deviations and correlations of all pairs."""

    p: int

    @property
    def nphi(self) -> int:  # type: ignore[override]
        return self.p * (self.p + 1) // 2

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Row and column of correlations, in the order of the lower triangle by columns."""
        return [(i, j) for j in range(self.p) for i in range(j + 1, self.p)]

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        own = tuple(f"sd {name}" for name in columns)
        return own + tuple(f"cor {columns[i]}, {columns[j]}" for i, j in self.pairs)

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("sd",) * self.p + ("correlation",) * len(self.pairs)

    def natural(self, phi: np.ndarray) -> Pair:
        p, T = self.p, triangle(phi, self.p, self.p)
        place = np.zeros((p, p), int)  # of T's entries in phi
        place[np.triu_indices(p)[::-1]] = np.arange(len(phi))
        sd = np.linalg.norm(T, axis=1)
        values, jacobian = np.zeros(len(phi)), np.zeros((len(phi), len(phi)))
        values[:p] = sd
        for i in range(p):
            own = place[i, : i + 1]
            jacobian[i, own] = T[i, : i + 1] / sd[i] if sd[i] > 0 else np.arange(i + 1) == i
        for at, (i, j) in enumerate(self.pairs, p):
            if not sd[i] * sd[j] > 0:
                values[at] = np.nan
                continue
            one, two = T[i] / sd[i], T[j] / sd[j]
            values[at] = one @ two
            jacobian[at, place[i, : i + 1]] = ((two - values[at] * one) / sd[i])[: i + 1]
            jacobian[at, place[j, : j + 1]] = ((one - values[at] * two) / sd[j])[: j + 1]
        return values, jacobian

    def core(self, values: np.ndarray) -> np.ndarray:
        p = self.p
        sd, R = not_negative(values[:p]), np.eye(p)
        for (i, j), value in zip(self.pairs, values[p:], strict=True):
            both = sd[i] * sd[j] > 0  # else it has no value
            R[i, j] = R[j, i] = between(np.array([value]), -1, 1)[0] if both else 0.0
        return lower(semidefinite(R) * sd[:, None])

    def flat(self, phi: np.ndarray, tolerance: float) -> np.ndarray:
        zero = np.linalg.norm(triangle(phi, self.p, self.p), axis=1) <= tolerance
        return np.append(np.zeros(self.p, bool), [zero[i] or zero[j] for i, j in self.pairs])


@dataclass(frozen=True)
class Loadings(Covariance):
    """B B', B (p, rank) with zeros above its diagonal, which is not negative."""

    p: int
    rank: int

    @property
    def nphi(self) -> int:  # type: ignore[override]
        return self.p * self.rank - self.rank * (self.rank - 1) // 2

    def names(self, columns: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            f"loading {c + 1} {columns[r]}" for c in range(self.rank) for r in range(c, self.p)
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("loading",) * self.nphi

    def natural(self, phi: np.ndarray) -> Pair:
        sign = self._signs(phi)
        return phi * sign, np.diag(sign)

    def core(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values * self._signs(values))

    def flat(self, phi: np.ndarray, tolerance: float) -> np.ndarray:
        return np.zeros(self.nphi, bool)

    def _signs(self, phi: np.ndarray) -> np.ndarray:
        """That make the diagonal of B not negative, of every entry."""
        signs: list[float] = []
        for c in range(self.rank):
            signs += [-1.0 if phi[len(signs)] < 0 else 1.0] * (self.p - c)
        return np.array(signs)


def homogeneous_compound(p: int) -> Covariance:
    """Of one column: a variance."""
    return HomogeneousCompound(p) if p > 1 else Deviations(p, True, Correlation())


def compound(p: int) -> Correlation:
    """Of one column: none."""
    return Compound(p) if p > 1 else Correlation()


def triangle(phi: np.ndarray, p: int, rank: int) -> np.ndarray:
    """B (p, rank) of its entries, column after column."""
    B, at = np.zeros((p, rank)), 0
    for c in range(rank):
        B[c:, c] = phi[at : at + p - c]
        at += p - c
    return B


def lower(T: np.ndarray) -> np.ndarray:
    """Entries of a lower triangle, column after column."""
    return np.concatenate([T[c:, c] for c in range(T.shape[1])])


def semidefinite(R: np.ndarray) -> np.ndarray:
    """Lower root of correlations that may be singular."""
    p, L = len(R), np.zeros_like(R)
    for j in range(p):
        rest = R[j:, j] - L[j:, :j] @ L[j, :j]
        if rest[0] < -ROUNDING or (rest[0] < ROUNDING and np.abs(rest).max() > ROUNDING**0.5):
            raise ValueError("there is no covariance with these correlations")
        if rest[0] >= ROUNDING:
            L[j:, j] = rest / np.sqrt(rest[0])
    return L


def not_negative(sd: np.ndarray) -> np.ndarray:
    for value in sd:
        if not (value >= 0 and np.isfinite(value)):
            raise ValueError(f"a standard deviation must be 0 or more, not {value:g}")
    return sd
