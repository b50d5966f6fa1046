"""The criterion where sigma or a fixed effect is held: exact derivatives, one factorization.

- A fixed effect b_j: at given theta the best residual sum of squares with b_j held at v is
  r^2 + (v - b_j)^2 / c_jj with c = (X'V^-1 X)^-1, so that only theta is left.
- sigma: the criterion in (theta, log sigma^2) is f(theta) + nu (k - 1 - log k), where f is the
  criterion at the best sigma, nu = n - p (REML) or n (ML), and k the ratio of r^2(theta) / nu to
  sigma^2.

Both need derivatives of r^2 beside those of f: d r^2 / dT = -2 (sum_l g_l g_l') T with
g = Z'V^-1 (y - X beta), sums over levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import FitError
from .point import RESIDUAL_STRUCTURE, in_words

if TYPE_CHECKING:
    from ..data.sums import Sums
    from .compiled import Engine
    from .free import Free
    from .structured import Structured


NO_COLUMN = 1e-4  # entries of T, in units of the whitened columns, that count as zero here


class Value(NamedTuple):
    """A criterion with its gradient (k,) and curvature (k, k) in the coordinates."""

    f: float
    slope: np.ndarray
    curvature: np.ndarray


class ValueWithSigma(NamedTuple):
    """The same at a given log sigma^2, with the derivatives in that: first, mixed (k,), second."""

    f: float
    slope: np.ndarray
    curvature: np.ndarray
    slope_sigma: float
    mixed: np.ndarray
    curvature_sigma: float


class _Evaluation(NamedTuple):
    """All that one factorization says at a theta; see ``_core.Model.squares``."""

    theta: np.ndarray
    f: float
    g: np.ndarray
    H: np.ndarray
    r2: float
    beta: np.ndarray
    column: np.ndarray
    M: np.ndarray


class Criterion:
    """Deviance or REML criterion of one model at any theta: at best, sigma or b_j given.

    Coordinates z of theta are those of ``free`` where parameters are held or tied, else theta
    itself. ``nu`` is n - p (REML) or n (ML), ``entries`` each parameter's term, row and column,
    ``unit`` the size of its row of T in whitened columns. ``sums`` are of other rows than the
    model's, where another response or other weights are fitted.
    """

    def __init__(
        self, model: Any, reml: bool, free: Free | None = None, sums: Sums | None = None
    ) -> None:
        if model.design.residual is not None:
            raise FitError(RESIDUAL_STRUCTURE)
        self.model, self.reml, self._free, self._sums = model, reml, free, sums
        self.entries = model.theta_entries
        rank = int(model._core.keep.sum())
        self.nu = (model.design if sums is None else sums).n - (rank if reml else 0)
        self._row, self._column, self.unit = _places(model)
        same = self._column[:, None] == self._column
        self._first, self._second = np.nonzero(same)

    # ---- coordinates ----------------------------------------------------------------------------

    def coordinates(self, theta: np.ndarray) -> np.ndarray:
        """The coordinates of a theta."""
        return theta if self._free is None else self._free.nearest(theta)

    def theta(self, z: np.ndarray) -> np.ndarray:
        """theta of the coordinates."""
        return z if self._free is None else self._free.theta(z)

    def coordinate(self, place: int) -> int | None:
        """The coordinate that is an entry of theta, perhaps tied to others; None: there is none."""
        if self._free is None:
            return place
        if not self._free.is_multiple(place):
            return None
        j = int(np.flatnonzero(self._free.basis[place])[0])
        return j if self._free.basis[place, j] == 1 else None

    def factors(self, z: np.ndarray) -> tuple[np.ndarray, ...]:
        """T of each term."""
        engine: Engine = self.model._engine
        return engine.factors(engine.checked(self.theta(z)))

    # ---- values ---------------------------------------------------------------------------------

    def profiled(self, z: np.ndarray) -> Value:
        """At the best sigma and fixed effects."""
        at = self._evaluate(z, -1)
        return Value(at.f, self._pulled(at.g), self._both_pulled(at.H))

    def estimates(self, z: np.ndarray, j: int = -1) -> tuple[np.ndarray, np.ndarray, float]:
        """beta, column j of (X'V^-1 X)^-1 and the residual sum of squares."""
        model, theta = self.model, self.model._engine.checked(self.theta(z))
        with model._lock, in_words():
            model._use(self._sums)
            model._core.evaluate(theta, self.reml, value=False)
            r2, beta, column, _ = model._core.squares(j)
        return beta, column, r2

    def with_sigma(self, z: np.ndarray, log_variance: float) -> ValueWithSigma:
        """At a given log sigma^2; derivatives in the coordinates and in it."""
        at, nu = self._evaluate(z, -1), self.nu
        log_k = float(np.log(at.r2 / nu)) - log_variance
        if not abs(log_k) < 700:
            raise FitError("the objective is not finite at this sigma")
        k = float(np.exp(log_k))
        S = at.M[0] * (-2 / at.r2)
        u = self._pulled(self._slope(S, at.theta))
        curvature = self._both_pulled(self._at_zero(at.H, nu * (k - 1), S, at.theta))
        return ValueWithSigma(
            at.f + nu * float(np.expm1(log_k) - log_k),
            self._pulled(at.g) + nu * (k - 1) * u,
            curvature + nu * k * u[:, None] * u,
            nu * (1 - k),
            -nu * k * u,
            nu * k,
        )

    def with_effect(self, z: np.ndarray, j: int, value: float) -> tuple[Value, float, float]:
        """At a given fixed effect j; also the derivative in it, and the second at its best."""
        at, nu = self._evaluate(z, j), self.nu
        c = float(at.column[j])
        d = value - float(at.beta[j])
        away = d / c
        total = at.r2 + d * away
        held = at.M[0] - away * at.M[1] + away * away * at.M[2]
        S = held * (-2 / total) - at.M[0] * (-2 / at.r2)
        slope = self._pulled(at.g + nu * self._slope(S, at.theta))
        curvature = self._both_pulled(self._at_zero(at.H, nu, S, at.theta))
        f = at.f + nu * float(np.log1p(d * away / at.r2))
        scale = 2 * nu / (c * total)
        return Value(f, slope, curvature), scale * d, scale

    # ---- derivatives ----------------------------------------------------------------------------

    def _evaluate(self, z: np.ndarray, j: int) -> _Evaluation:
        model, theta = self.model, self.model._engine.checked(self.theta(z))
        with model._lock, in_words():
            model._use(self._sums)
            f = model._core.evaluate(theta, self.reml)
            g, H = model._core.derivatives(True)
            r2, beta, column, M = model._core.squares(j)
        return _Evaluation(theta, f, g, H, r2, beta, column, M)

    def _slope(self, S: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """The entries of S T that are in theta."""
        T = np.zeros_like(S)
        T[self._row, self._column] = theta
        return np.asarray((S @ T)[self._row, self._column])

    def _at_zero(
        self, H: np.ndarray, weight: float, S: np.ndarray, theta: np.ndarray
    ) -> np.ndarray:
        """H + weight d(S T)/dT between columns of T that are zero: the average information has
        nothing of these."""
        small = np.abs(theta) <= NO_COLUMN * self.unit
        a, b, out = self._first, self._second, H.copy()
        a, b = a[small[a] & small[b]], b[small[a] & small[b]]
        out[a, b] += weight * S[self._row[a], self._row[b]]
        return out

    def _pulled(self, slope: np.ndarray) -> np.ndarray:
        return slope if self._free is None else self._free.basis.T @ slope

    def _both_pulled(self, H: np.ndarray) -> np.ndarray:
        return H if self._free is None else self._free.basis.T @ H @ self._free.basis


class PhiCriterion(Criterion):
    """The same of a model with covariance structures, in their parameters phi (see `structured`).

    phi : (nphi,) array, that of the fit whose theta `coordinates` is asked for.
    """

    def __init__(self, model: Any, reml: bool, phi: np.ndarray) -> None:
        super().__init__(model, reml)
        self._own: Structured = model.structured
        self._phi = phi
        self._blocks = [
            slice(first + place.columns.start, first + place.columns.stop)
            for first, place in _first_columns(model)
        ]

    def coordinates(self, theta: np.ndarray) -> np.ndarray:
        """phi of the fit."""
        return self._phi

    def theta(self, z: np.ndarray) -> np.ndarray:
        """theta of the coordinates."""
        return self._own.theta(z)

    def coordinate(self, place: int) -> int | None:
        """The place in phi itself."""
        return place

    def _evaluate(self, z: np.ndarray, j: int) -> _Evaluation:
        model, order = self.model, self._own.order
        with model._lock, in_words():
            model._use(self._sums)
            f, slope, second = model._core.within(
                self._own.everything(), np.ascontiguousarray(z[order]), reml=self.reml
            )
            r2, beta, column, M = model._core.squares(j)
        g, H = np.empty(len(z)), np.empty((len(z), len(z)))
        g[order], H[np.ix_(order, order)] = slope, second
        return _Evaluation(z, f, g, H, r2, beta, column, M)

    def _slope(self, S: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Half of tr(S dSigma)."""
        parts = [
            np.einsum("ab,nab->n", S[block, block], self._own.slopes(i, theta)) / 2
            for i, block in enumerate(self._blocks)
        ]
        return np.concatenate(parts)

    def _at_zero(
        self, H: np.ndarray, weight: float, S: np.ndarray, theta: np.ndarray
    ) -> np.ndarray:
        return H


def _places(model: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each parameter: row and column among the columns of all factors, size of its row of T."""
    engine = model._engine
    rows, columns, units = [], [], []
    for i, ((first, place), C) in enumerate(
        zip(_first_columns(model), engine.whitening(), strict=True)
    ):
        row, column = engine.entries(i)
        rows.append(first + place.columns.start + row)
        columns.append(first + place.columns.start + column)
        units.append(np.linalg.norm(C, axis=1)[row])
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(units)


def _first_columns(model: Any) -> list[tuple[int, Any]]:
    """Of each term: where its factor's columns begin among those of all factors, and its place."""
    engine = model._engine
    places = [engine.place(i) for i in range(len(model.design.terms))]
    widths = np.zeros(1 + max(place.factor for place in places), dtype=int)
    for place in places:
        widths[place.factor] = max(widths[place.factor], place.columns.stop)
    first = np.cumsum([0, *widths])
    return [(int(first[place.factor]), place) for place in places]
