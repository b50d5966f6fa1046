"""The generalized model straight from its definition, in dense NumPy: slow, small n, for checking.

`DenseGeneralized` has the interface of the compiled `_core.Generalized`. Z and Lambda are whole
matrices, the mode is found by Newton's method, and every parameter is a direction in which eta,
Lambda or the density moves: of Laplace's

    f = -2 sum l + u'u + log|M|,    M = Lambda'Z'WZ Lambda + I,    Z'l' Lambda = u,

the slope in each is written down for this one direction, as the definition has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg as sl
from dense_families import Family, Rows
from scipy.optimize import minimize

Factor = tuple[np.ndarray, int, Any, np.ndarray]


class NotPositiveDefinite(ArithmeticError):
    """The criterion is not finite."""


@dataclass(frozen=True, eq=False)
class Term:
    """One random term: its columns among the q of Z, and its parameters in the user's theta."""

    place: np.ndarray  # (m, k): columns of Z, levels x columns of the term
    theta: np.ndarray  # places in theta of the entries
    entries: list[tuple[int, int]]  # (row, column) of T


@dataclass(frozen=True, eq=False)
class State:
    """A psi with the mode and the rows there."""

    psi: np.ndarray
    Lambda: np.ndarray  # (q, q)
    u: np.ndarray  # (q,)
    eta: np.ndarray  # (n,)
    rows: Rows
    W: np.ndarray  # (n,): weights in log|M|
    dW: np.ndarray  # (n,): their slope in eta
    Wx: np.ndarray  # (r, n): in the extra parameters
    M: np.ndarray
    value: float


class DenseGeneralized:
    """As `_core.Generalized`; see the top of the file."""

    def __init__(
        self,
        y: np.ndarray,
        X: Any,
        factors: list[Factor],
        weights: np.ndarray | None = None,
        limit: float = np.inf,
        *,
        storage: str = "auto",
        order: Any = None,
        family: str,
        link: str,
        classes: int = 0,
        offset: np.ndarray | None = None,
        information: str = "observed",
    ) -> None:
        n = len(y)
        self.y, self.family = np.asarray(y, float), Family(family, link, classes)
        self.w = np.ones(n) if weights is None else np.asarray(weights, float)
        self.o = np.zeros(n) if offset is None else np.asarray(offset, float)
        self.X = _matrix(X, n)
        self.keep = _independent(self.X)
        self.expected = {"observed": False, "expected": True}[information]
        self.nextra, self.p = self.family.nextra, self.X.shape[1]
        self.terms: list[Term] = []
        self.given = factors
        self.factors: list[tuple[int, int, int]] = []  # first column of Z, levels, columns
        blocks = [self._add(*factor) for factor in factors]
        self.Z = np.concatenate(blocks, axis=1)
        self.q, self.ntheta = self.Z.shape[1], sum(len(term.theta) for term in self.terms)
        self.report = {"storage": "dense", "order": self.q, "eliminated": 0, "full": True}
        self.state: State | None = None

    def _add(self, codes: np.ndarray, m: int, columns: Any, owners: np.ndarray) -> np.ndarray:
        """Z of a factor; its terms are noted. `codes`: level of each row (n,), or the weight of
        each level in each row (n, m)."""
        z = _matrix(columns, len(codes))
        k = z.shape[1]
        W = codes if codes.ndim == 2 else np.eye(m)[codes]
        block = W[:, :, None] * z[:, None, :]
        first = sum(m * k for _, m, k in self.factors)
        place = first + np.arange(m * k).reshape(m, k)
        for owner in dict.fromkeys(np.asarray(owners).tolist()):
            own = np.flatnonzero(np.asarray(owners) == owner)
            at = sum(len(term.theta) for term in self.terms)
            entries = [(r, c) for c in range(len(own)) for r in range(c, len(own))]
            self.terms.append(Term(place[:, own], at + np.arange(len(entries)), entries))
        self.factors.append((first, m, k))
        return block.reshape(len(codes), m * k)

    def arrange(self, place: np.ndarray) -> None:
        """Place in the user's theta of each parameter, factor by factor."""
        self.terms = [Term(t.place, np.asarray(place)[t.theta], t.entries) for t in self.terms]

    def use_threads(self, threads: int) -> None:
        """There is one."""

    # ---- the criterion ---------------------------------------------------------------------------

    def _split(self, psi: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        psi = np.asarray(psi, float)
        assert psi.shape == (self.ntheta + self.p + self.nextra,)
        return tuple(np.split(psi, [self.ntheta, self.ntheta + self.p]))  # type: ignore[return-value]

    def _lambda(self, theta: np.ndarray) -> np.ndarray:
        out = np.zeros((self.q, self.q))
        for term in self.terms:
            for value, (r, c) in zip(theta[term.theta], term.entries, strict=True):
                out[term.place[:, r], term.place[:, c]] = value
        return out

    def _hessian(self, B: np.ndarray, W: np.ndarray, prior: float) -> np.ndarray:
        return np.asarray(B.T @ (W[:, None] * B) + prior * np.eye(B.shape[1]))

    def _mode(
        self, B: np.ndarray, offset: np.ndarray, v: np.ndarray, x: np.ndarray, prior: float = 1.0
    ) -> np.ndarray:
        """The v of the largest sum l(offset + B v) - prior v'v / 2: Newton's method, halving."""
        rows = self.family.rows(self.y, self.w, offset + B @ v, x)
        j = -rows.l.sum() + prior * v @ v / 2
        if not np.isfinite(j):
            raise NotPositiveDefinite("the density is not finite at the start")
        for _ in range(200):
            g = B.T @ rows.d1 - prior * v
            step = _newton(self._hessian(B, -rows.d2, prior), g)
            if step is None:
                step = _newton(self._hessian(B, rows.w, prior), g)
            if step is None:
                raise NotPositiveDefinite("there is no step to the mode")
            promise = g @ step
            if promise < 1e-22 * max(1.0, abs(j)):
                return v
            for length in 0.5 ** np.arange(50):
                trial = self.family.rows(self.y, self.w, offset + B @ (v + length * step), x)
                lower = -trial.l.sum() + prior * (v + length * step) @ (v + length * step) / 2
                # near the mode rounding decides: whole steps
                if lower <= j or (promise < 1e-6 and np.isfinite(lower)):
                    break
            else:
                return v
            v, j, rows = v + length * step, lower, trial
            if promise < 1e-15 * max(1.0, abs(j)):
                return v
        return v

    def _stand(self, psi: Any) -> State:
        """The state at psi; the last one where it is the same."""
        psi = np.array(psi, float)
        if self.state is not None and np.array_equal(self.state.psi, psi):
            return self.state
        theta, beta, x = self._split(psi)
        Lambda = self._lambda(theta)
        B, offset = self.Z @ Lambda, self.o + self.X[:, self.keep] @ beta[self.keep]
        u = self._mode(B, offset, self._first(B, offset, x), x)
        eta = offset + B @ u
        rows = self.family.rows(self.y, self.w, eta, x)
        W, dW, Wx = (rows.w, rows.dw, rows.wx) if self.expected else (-rows.d2, -rows.d3, -rows.d2x)
        M = self._hessian(B, W, 1.0)
        if _newton(M, u) is None:
            raise NotPositiveDefinite("M is not positive definite at the mode")
        value = -2 * rows.l.sum() + u @ u + np.linalg.slogdet(M)[1]
        self.state = State(psi, Lambda, u, eta, rows, W, dW, Wx, M, float(value))
        return self.state

    def _first(self, B: np.ndarray, offset: np.ndarray, x: np.ndarray) -> np.ndarray:
        """A u at which the density is finite: the last mode, zero, or near the response."""
        near = self.family.feasible(self.y, self.w) - offset
        tries = [np.zeros(self.q), sl.lstsq(B, near)[0]]
        if self.state is not None:
            tries.insert(0, self.state.u)
        for u in tries:
            if np.isfinite(self.family.rows(self.y, self.w, offset + B @ u, x).l).all():
                return np.asarray(u)
        raise NotPositiveDefinite("the density is not finite at any mode that was tried")

    def value(self, psi: Any, gradient: bool = False) -> Any:
        """-2 log-likelihood (Laplace) with all constants; and its gradient."""
        s = self._stand(psi)
        return (s.value, self._gradient(s)) if gradient else s.value

    def _moves(self, s: State) -> list[tuple[np.ndarray, np.ndarray | None, int]]:
        """Of each parameter: how it moves eta at fixed u, and Lambda; or which extra one it is."""
        none = np.zeros(len(self.y))
        out: list[Any] = [None] * self.ntheta
        for term in self.terms:
            for place, (r, c) in zip(term.theta, term.entries, strict=True):
                E = np.zeros((self.q, self.q))
                E[term.place[:, r], term.place[:, c]] = 1
                out[place] = (self.Z @ (E @ s.u), E, -1)
        out += [(column * kept, None, -1) for column, kept in zip(self.X.T, self.keep, strict=True)]
        return out + [(none, None, j) for j in range(self.nextra)]

    def _gradient(self, s: State) -> np.ndarray:
        B, rows = self.Z @ s.Lambda, s.rows
        inverse = np.linalg.inv(s.M)
        h = np.einsum("ij,jk,ik->i", B, inverse, B)
        own = self._hessian(B, -rows.d2, 1.0)  # the Hessian of the inner problem
        t = np.linalg.solve(own, B.T @ (h * s.dW))  # how log|M| answers to the mode
        out = []
        for eta, E, j in self._moves(s):
            slope = -2 * rows.d1 @ eta + (h * s.dW) @ eta
            pull = B.T @ (rows.d2 * eta)  # what moves the mode
            if E is not None:
                slope += 2 * np.sum((self.Z @ E) * (s.W[:, None] * (B @ inverse)))
                pull += E.T @ (self.Z.T @ rows.d1)
            if j >= 0:
                slope += -2 * rows.lx[j].sum() + h @ s.Wx[j]
                pull = B.T @ rows.d1x[j]
            out.append(slope + t @ pull)
        return np.array(out)

    def curvature(self, psi: Any) -> np.ndarray:
        """The model Hessian: average information of the working model, and outer products."""
        s = self._stand(psi)
        rows, B = s.rows, self.Z @ s.Lambda
        W = -rows.d2 if (rows.d2 <= 0).all() else rows.w
        c = self.Z.T @ rows.d1
        columns = [x * k for x, k in zip(self.X.T, self.keep, strict=True)]
        columns += [-d / np.maximum(W, 1e-12) for d in rows.d1x]
        K = np.column_stack([self._along(s, c), *columns])
        BK = B.T @ (W[:, None] * K)
        H = 2 * (K.T @ (W[:, None] * K) - BK.T @ np.linalg.solve(self._hessian(B, W, 1.0), BK))
        m, first = self.ntheta, self.ntheta + self.p
        H[:m, :m] /= 2
        own = K[:, first:]
        H[first:, first:] += 2 * (rows.lx @ rows.lx.T - own.T @ (W[:, None] * own))
        H[:m, :m] += self._boundary(s, c)
        return np.asarray((H + H.T) / 2)

    def _along(self, s: State, c: np.ndarray) -> np.ndarray:
        """Z (E Lambda' + Lambda E') c of every entry of theta, (n, ntheta)."""
        out = np.empty((len(self.y), self.ntheta))
        for place, (_, E, _) in enumerate(self._moves(s)[: self.ntheta]):
            out[:, place] = self.Z @ (E @ (s.Lambda.T @ c) + s.Lambda @ (E.T @ c))
        return out

    def _boundary(self, s: State, c: np.ndarray) -> np.ndarray:
        """2 S[r, s] for entries in one column of one term."""
        B, rows, out = self.Z @ s.Lambda, s.rows, np.zeros((self.ntheta, self.ntheta))
        h = np.einsum("ij,jk,ik->i", B, np.linalg.inv(s.M), B)
        t = np.linalg.solve(self._hessian(B, -rows.d2, 1.0), B.T @ (h * s.dW))
        d = self.Z.T @ (h * s.dW + rows.d2 * (B @ t))
        A = self.Z.T @ (s.W[:, None] * self.Z)
        AL = A @ s.Lambda
        A = A - AL @ np.linalg.solve(s.M, AL.T)
        for term in self.terms:
            S = np.zeros((term.place.shape[1],) * 2)
            for own in term.place:
                cross = np.outer(d[own], c[own])
                S += A[np.ix_(own, own)] - np.outer(c[own], c[own]) + (cross + cross.T) / 2
            for i, (r, a) in zip(term.theta, term.entries, strict=True):
                for j, (v, b) in zip(term.theta, term.entries, strict=True):
                    out[i, j] = 2 * S[r, v] if a == b else 0.0
        return out

    # ---- the fit ---------------------------------------------------------------------------------

    def start(self) -> np.ndarray:
        """Half an identity for every T, the fixed effects without random ones, and middling x."""
        psi = np.zeros(self.ntheta + self.p + self.nextra)
        for term in self.terms:
            psi[term.theta] = [0.5 * (r == c) for r, c in term.entries]
        x = psi[self.ntheta + self.p :]
        if self.family.name == "ordered":
            share = np.cumsum(np.bincount(self.y.astype(int), self.w))[:-1] / self.w.sum()
            ends = np.log(share / (1 - share))
            x[:] = np.r_[ends[0], np.log(np.diff(ends))]
        X = self.X[:, self.keep]
        beta = sl.lstsq(X, self.family.feasible(self.y, self.w) - self.o)[0] if X.size else X[0]
        beta = self._mode(X, self.o, beta, x, prior=1e-8) if X.size else beta
        psi[self.ntheta : self.ntheta + self.p][self.keep] = beta
        return psi

    def minimize(
        self,
        start: np.ndarray | None = None,
        maxeval: int = 500,
        tolerance: float = 1e-10,
        radius: float = 1.0,
        callback: Callable[[int, float, float, float, float], bool] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The optimum by SciPy's trust region; columns of T that end near zero are zero."""
        psi = self.start() if start is None else np.array(start, float)
        free = np.r_[np.ones(self.ntheta, bool), self.keep, np.ones(self.nextra, bool)]
        seen = {"n": 0, "best": np.inf, "psi": psi, "stopped": False}

        def at(z: np.ndarray) -> tuple[float, np.ndarray]:
            trial = psi.copy()
            trial[free] = z
            seen["n"] += 1
            try:
                f, g = self.value(trial, gradient=True)
            except NotPositiveDefinite:
                return np.inf, np.zeros(len(z))
            if f < seen["best"]:
                seen["best"], seen["psi"] = f, trial
            if callback is not None and callback(seen["n"], f, seen["best"], radius, np.nan):
                seen["stopped"] = True
                raise StopIteration
            if seen["n"] >= maxeval:
                raise StopIteration
            return f, g[free]

        def model(z: np.ndarray) -> np.ndarray:
            trial = psi.copy()
            trial[free] = z
            return self.curvature(trial)[np.ix_(free, free)]

        at_start = at(psi[free])[0]
        if not np.isfinite(at_start):
            raise NotPositiveDefinite("the criterion is not finite at the start")
        status = "converged"
        try:
            options = {"gtol": 1e-7, "initial_trust_radius": radius, "max_trust_radius": 100.0}
            minimize(at, psi[free], jac=True, hess=model, method="trust-exact", options=options)
        except StopIteration:
            status = "stopped" if seen["stopped"] else "maxeval"
        psi = self._zeros(seen["psi"])
        f, g = self.value(psi, gradient=True)
        step = np.linalg.lstsq(self.curvature(psi)[np.ix_(free, free)], g[free], rcond=1e-10)[0]
        info = {
            "objective": f,
            "certificate": float(abs(g[free] @ step) / 2),
            "mode": 0.0,
            "neval": seen["n"],
            "factorizations": 0,
            "passes": 0,
            "status": status,
        }
        return psi, info

    def _zeros(self, psi: np.ndarray) -> np.ndarray:
        """psi with positive diagonals, and zeros where they are as good."""
        psi = psi.copy()
        for term in self.terms:
            for place, (r, c) in zip(term.theta, term.entries, strict=True):
                own = [p for p, (_, b) in zip(term.theta, term.entries, strict=True) if b == c]
                if r == c and psi[place] < 0:
                    psi[own] *= -1
                if r == c and abs(psi[place]) < 1e-2:
                    trial = psi.copy()
                    trial[own] = 0.0
                    if self.value(trial) <= self.value(psi) + 1e-7:
                        psi = trial
        return psi

    # ---- what is read there ----------------------------------------------------------------------

    def _here(self) -> State:
        assert self.state is not None, "the model stands nowhere"
        return self.state

    def modes(self) -> list[np.ndarray]:
        """Conditional modes b by factor, (m, k)."""
        b = self._here().Lambda @ self._here().u
        return [b[at : at + m * k].reshape(m, k) for at, m, k in self.factors]

    def predictor(self) -> np.ndarray:
        return self._here().eta

    def _covariance(self) -> np.ndarray:
        s = self._here()
        return np.asarray(s.Lambda @ np.linalg.solve(s.M, s.Lambda.T))

    def leverages(self) -> np.ndarray:
        """z_i'B z_i."""
        return np.einsum("ij,jk,ik->i", self.Z, self._covariance(), self.Z)

    def condvar(self) -> list[np.ndarray]:
        """B of every level, (m, k, k) by factor."""
        B, out = self._covariance(), []
        for at, m, k in self.factors:
            own = [at + np.arange(i * k, (i + 1) * k) for i in range(m)]
            out.append(np.stack([B[np.ix_(level, level)] for level in own]))
        return out


def _newton(H: np.ndarray, g: np.ndarray) -> np.ndarray | None:
    """H^-1 g; None where H is not positive definite."""
    try:
        return np.asarray(sl.cho_solve(sl.cho_factor(H), g))
    except (np.linalg.LinAlgError, ValueError):
        return None


def _independent(X: np.ndarray) -> np.ndarray:
    """Which columns are linearly independent of earlier ones."""
    keep = np.zeros(X.shape[1], bool)
    for j in range(X.shape[1]):
        left = X[:, j] - X[:, keep] @ np.linalg.lstsq(X[:, keep], X[:, j], rcond=None)[0]
        keep[j] = np.linalg.norm(left) > 1e-9 * np.linalg.norm(X[:, j])
    return keep


def _matrix(columns: Any, n: int) -> np.ndarray:
    """Columns as the compiled core takes them, as a matrix (n, k)."""
    if isinstance(columns, np.ndarray):
        return np.asarray(columns, float)
    if isinstance(columns, tuple):
        return _coded(n, *columns)
    out = np.ones((n, len(columns)))
    for j, parts in enumerate(columns):
        for part in parts:
            out[:, j] *= part[1][part[0]] if isinstance(part, tuple) else part
    return out


def _coded(n: int, p: int, stored: Any, place: np.ndarray, coded: list[Any]) -> np.ndarray:
    """Columns of which some are zero but for the levels of a factor."""
    out = np.zeros((n, p))
    out[:, np.asarray(place)] = _matrix(stored, n)
    for level, v, start, column, value in coded:
        for i in range(n):
            own = slice(start[level[i]], start[level[i] + 1])
            out[i, np.asarray(column[own])] = value[own] * (1.0 if v is None else v[i])
    return out
