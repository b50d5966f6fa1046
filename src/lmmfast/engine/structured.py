"""Covariance parameters phi of a model some of whose terms have a structure: what theta and the
covariance matrices of all terms are there, and how they move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FormulaError
from ..linalg import root_slopes, triangular_root
from .structures import compiled

if TYPE_CHECKING:
    from .compiled import Engine

ROUNDING = 1e-14  # of a row of a root, that is zero
TYPICAL = 0.5  # standard deviations of random starts, in whitened columns ...
FALLING = 0.6  # correlation of neighbours where such a start is correlated
SPREAD = 1.2  # ... and the standard deviation of their logarithm
SEED = 20_161
FAR = 2.9e3  # standard deviations over sigma, whitened, beside which sigma is next to nothing
STILL = 1e-6  # change of a covariance (whitened columns) below which a parameter does not move it
FLAT = 1e-6  # a parameter that moves no covariance by more, whitened, is at a boundary
ALTERNATIVES = ("cs", "hetar1", "toep", "ad")  # with several optima now and then: started twice


class Structured:
    """phi by term in the formula's order: the parameters of a structure's Sigma (relative to
    sigma^2), of other terms their part of theta.

    Attributes
    ----------
    nphi : int
    slices : list of slice
        Each term's place in phi.
    order : (nphi,) array
        Where each parameter of the core's phi, factor by factor, stands here.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._own: list[Any] = []  # compiled structure of each term, or None
        self.slices: list[slice] = []
        at = 0
        for i, term in enumerate(engine.design.terms):
            own = None
            if term.covariance is not None:
                if len(engine.kept(i)) < len(term.columns):
                    raise FormulaError(
                        f"a column of ({term.label}) is a linear combination of the others: a "
                        f"{term.covariance.kind} structure needs all of them",
                        term=term.label,
                    )
                own = compiled(term.covariance)
            place = engine.place(i).theta
            count = place.stop - place.start if own is None else own.nphi
            self._own.append(own)
            self.slices.append(slice(at, at + count))
            at += count
        self.nphi = at
        groups: list[list[int]] = engine._factors
        indices = [np.arange(self.nphi)[self.slices[i]] for own in groups for i in own]
        self.order = np.concatenate(indices)
        self._table: list[Any] = []
        for i in (i for own in groups for i in own):
            diagonal = engine.design.terms[i].structure == "diag"
            self._table += [None] * len(engine.kept(i)) if diagonal else [self._own[i]]

    @property
    def several(self) -> bool:
        """Whether a structure may have several optima."""
        return any(own is not None and own.name in ALTERNATIVES for own in self._own)

    def own(self, i: int) -> Any:
        """The compiled structure of term i, or None."""
        return self._own[i]

    # ---- as the core takes it --------------------------------------------------------------------

    def plane(self, fixed: np.ndarray, basis: np.ndarray) -> tuple[Any, ...]:
        """phi = fixed + basis z."""
        return fixed[self.order], np.asfortranarray(basis[self.order]), self._table

    def everything(self) -> tuple[Any, ...]:
        """All of phi moves."""
        return self.plane(np.zeros(self.nphi), np.eye(self.nphi))

    # ---- maps ------------------------------------------------------------------------------------

    def theta(self, phi: np.ndarray) -> np.ndarray:
        """(ntheta,) theta at phi."""
        out = np.empty(self._engine.core.ntheta)
        for i, (own, part) in enumerate(zip(self._own, self.slices, strict=True)):
            place = self._engine.place(i).theta
            if own is None:
                out[place] = phi[part]
                continue
            row, column = self._engine.entries(i)
            out[place] = triangular_root(own.root(phi[part]))[row, column]
        return out

    def rounded(self, theta: np.ndarray) -> np.ndarray:
        """theta with what is rounding in the roots of structures at zero: at a bound of theirs a
        covariance is singular."""
        out = theta.copy()
        for i, own in enumerate(self._own):
            if own is not None:
                row, _ = self._engine.entries(i)
                part = out[self._engine.place(i).theta]
                size = np.linalg.norm(self._root(i, theta), axis=1)[row]
                part[np.abs(part) <= ROUNDING * size] = 0.0
        return out

    def nearest(self, theta: np.ndarray) -> np.ndarray:
        """(nphi,) a phi whose covariances are near those of theta."""
        out = np.empty(self.nphi)
        for i, (own, part) in enumerate(zip(self._own, self.slices, strict=True)):
            place = self._engine.place(i).theta
            if own is None:
                out[part] = theta[place]
                continue
            T = self._root(i, theta)
            out[part] = own.nearest(T @ T.T)
        return out

    def sizes(self, phi: np.ndarray) -> np.ndarray:
        """Standard deviations of the columns of structured terms, whitened."""
        sizes = [np.zeros(0)]
        for i, C in enumerate(self._engine.whitening()):
            if self._own[i] is not None:
                sizes.append(np.linalg.norm(np.linalg.inv(C) @ self.root(i, phi), axis=1))
        return np.concatenate(sizes)

    def typical(self, deviation: float = TYPICAL) -> np.ndarray:
        """phi of a middling start: uncorrelated columns of equal size."""
        theta = np.zeros(self._engine.core.ntheta)
        for i, C in enumerate(self._engine.whitening()):
            row, column = self._engine.entries(i)
            size = deviation * np.linalg.norm(C, axis=1)[row]
            theta[self._engine.place(i).theta] = np.where(row == column, size, 0.0)
        return self.nearest(theta)

    def correlated(self) -> np.ndarray:
        """The same with correlations that fall from column to column."""
        out = self.typical()
        for i, (own, part) in enumerate(zip(self._own, self.slices, strict=True)):
            if own is None:
                continue
            size = TYPICAL * np.linalg.norm(self._engine.whitening()[i], axis=1)
            lag = np.abs(np.subtract.outer(np.arange(len(size)), np.arange(len(size))))
            out[part] = own.nearest(np.outer(size, size) * FALLING**lag)
        return out

    def random(self, number: int) -> np.ndarray:
        """phi of a random start; the same number, the same phi."""
        rng = np.random.default_rng([SEED, number])
        out = np.empty(self.nphi)
        for i, (own, part) in enumerate(zip(self._own, self.slices, strict=True)):
            size = np.linalg.norm(self._engine.whitening()[i], axis=1)
            if own is None:
                row, column = self._engine.entries(i)
                deviations = TYPICAL * np.exp(SPREAD * rng.normal(size=len(row))) * size[row]
                small = 0.3 * deviations * rng.normal(size=len(row))
                out[part] = np.where(row == column, deviations, small)
                continue
            for j, (kind, row) in enumerate(zip(own.kinds, own.rows, strict=True)):
                deviation = kind == "deviation"
                draw = TYPICAL * np.exp(SPREAD * rng.normal()) * size[row] if deviation else None
                out[part.start + j] = 0.7 * rng.normal() if draw is None else draw
        return out

    def slopes(self, i: int, phi: np.ndarray) -> np.ndarray:
        """(count, k, k) derivatives of term i's relative covariance, in its kept columns."""
        own, part = self._own[i], phi[self.slices[i]]
        if own is not None:
            return np.asarray(own.derivatives(part))
        row, column = self._engine.entries(i)
        k = len(self._engine.kept(i))
        T = np.zeros((k, k))
        T[row, column] = part
        half = np.zeros((len(part), k, k))
        half[np.arange(len(part)), row] = T[:, column].T
        return half + half.swapaxes(1, 2)

    def principal(self, phi: np.ndarray) -> np.ndarray:
        """The phi of the same covariances whose common standard deviations are positive and whose
        angles are within a quarter turn."""
        out = phi.copy()
        for own, part in zip(self._own, self.slices, strict=True):
            if own is None or own.name in ("us", "rr", "own"):
                continue
            for j, kind in enumerate(own.kinds, part.start):
                if kind == "deviation":
                    out[j] = abs(out[j])
                elif kind == "angle" and own.name == "cs":
                    out[j] = np.arcsin(abs(np.sin(out[j])))
                elif kind == "angle":
                    out[j] = np.arcsin(np.sin(out[j]))
        return out

    def alone(self, i: int, phi: np.ndarray, readings: Sequence[tuple[int, int]]) -> int | None:
        """The one parameter of term i's structure that some entries of its covariance, as
        correlations (r, c) or variances (r, r), depend on; None: there are several."""
        slopes, part = self.slopes(i, phi), self.slices[i]
        S = self._sigma(i, phi)
        size = np.sqrt(S.diagonal())
        moved = np.zeros(len(slopes), dtype=bool)
        for r, c in readings:
            if r == c:
                moved |= np.abs(slopes[:, r, r]) > FLAT * S[r, r]
                continue
            share = slopes[:, r, r] / S[r, r] + slopes[:, c, c] / S[c, c]
            change = (
                slopes[:, r, c] / (size[r] * size[c]) - S[r, c] / (size[r] * size[c]) * share / 2
            )
            moved |= np.abs(change) > FLAT
        found = np.flatnonzero(moved)
        return part.start + int(found[0]) if len(found) == 1 else None

    def bounds(self, i: int, e: int) -> tuple[float, float]:
        """Between which values the parameter e of phi, of term i, means all that it can."""
        own = self._own[i]
        if own.kinds[e - self.slices[i].start] == "angle":
            return (0.0 if own.name == "cs" else -np.pi / 2), np.pi / 2
        return -np.inf, np.inf

    def _sigma(self, i: int, phi: np.ndarray) -> np.ndarray:
        T = self._root(i, self.theta(phi))
        return np.asarray(T @ T.T)

    def bend(self, i: int, phi: np.ndarray, S: np.ndarray) -> np.ndarray:
        """tr(S d2Sigma) of term i, (count, count); S (k, k) in its kept columns."""
        own, part = self._own[i], phi[self.slices[i]]
        if own is not None:
            return np.asarray(own.bend(part, S))
        row, column = self._engine.entries(i)
        return np.asarray(2 * S[row[:, None], row] * (column[:, None] == column))

    def jacobian(self, phi: np.ndarray) -> np.ndarray:
        """(ntheta, nphi): derivatives of the entries of every term's covariance, in whitened
        columns and the order of theta."""
        J = np.zeros((self._engine.core.ntheta, self.nphi))
        for i, (C, part) in enumerate(zip(self._engine.whitening(), self.slices, strict=True)):
            back = np.linalg.inv(C)
            row, column = self._engine.entries(i)
            moved = back @ self.slopes(i, phi) @ back.T
            J[self._engine.place(i).theta, part] = moved[:, row, column].T
        return J

    def theta_jacobian(self, phi: np.ndarray) -> np.ndarray:
        """(ntheta, nphi): derivatives of theta; zero in columns of T that are zero."""
        J = np.zeros((self._engine.core.ntheta, self.nphi))
        theta = self.theta(phi)
        for i, part in enumerate(self.slices):
            row, column = self._engine.entries(i)
            moved = root_slopes(self._root(i, theta), self.slopes(i, phi))
            J[self._engine.place(i).theta, part] = moved[row, column]
        return J

    def root(self, i: int, phi: np.ndarray) -> np.ndarray:
        """(k, k) lower triangular T of term i, in its kept columns."""
        return self._root(i, self.theta(phi))

    def root_slopes(self, i: int, phi: np.ndarray) -> np.ndarray:
        """(k, k, count) its derivatives."""
        return root_slopes(self.root(i, phi), self.slopes(i, phi))

    def moving(self, phi: np.ndarray) -> np.ndarray:
        """(nphi,) bool: the parameters that are not at a boundary.

        There the covariance does not change with them at first order: the criterion is even in a
        standard deviation of zero, and in the angle of a correlation of one. Standard deviations of
        their own that are zero are held by a bound, as those beside which sigma is next to nothing.
        """
        free = np.ones(self.nphi, dtype=bool)
        for i, (C, part) in enumerate(zip(self._engine.whitening(), self.slices, strict=True)):
            back, scale = np.linalg.inv(C), np.linalg.norm(C, axis=1)
            change = np.linalg.norm(back @ self.slopes(i, phi) @ back.T, axis=(1, 2))
            own = self._own[i]
            if own is None:
                free[part] = change * scale[self._engine.entries(i)[0]] > STILL
                continue
            size = float(np.linalg.norm(back @ self._sigma(i, phi) @ back.T))
            for j, (kind, row) in enumerate(zip(own.kinds, own.rows, strict=True)):
                deviation = kind == "deviation"
                moves = change[j] * scale[row] > STILL if deviation else change[j] > STILL * size
                bound = j < own.nbound and phi[part][j] <= 0
                bound |= deviation and abs(phi[part][j]) >= FAR * scale[row]
                free[part.start + j] = moves and not bound
        return free

    def chain(self, phi: np.ndarray, slope: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(nphi, nphi) the Hessian in phi, from slope and Hessian in the whitened entries of every
        term's covariance (`Point.hessian`)."""
        J = self.jacobian(phi)
        H = J.T @ second @ J
        for i, (C, part) in enumerate(zip(self._engine.whitening(), self.slices, strict=True)):
            row, column = self._engine.entries(i)
            S = np.zeros(C.shape)
            own = slope[self._engine.place(i).theta]
            S[row, column] = S[column, row] = np.where(row == column, 1.0, 0.5) * own
            back = np.linalg.inv(C)
            H[part, part] += self.bend(i, phi, back.T @ S @ back)
        return np.asarray((H + H.T) / 2)

    def _root(self, i: int, theta: np.ndarray) -> np.ndarray:
        row, column = self._engine.entries(i)
        T = np.zeros((len(self._engine.kept(i)),) * 2)
        T[row, column] = theta[self._engine.place(i).theta]
        return T


def structured(engine: Engine) -> Structured | None:
    """None where no term has a structure."""
    terms: Sequence[Any] = engine.design.terms
    return Structured(engine) if any(term.covariance is not None for term in terms) else None
