"""One evaluation of a model, read lazily: everything that inference asks of V^-1 at one theta.

With V = Z Lambda Lambda'Z' + W^-1, relative to sigma^2,

    B = Lambda (Lambda'Z'WZ Lambda + I)^-1 Lambda' = (Z'WZ + (Lambda Lambda')^-1)^-1

is the covariance of the random effects given y, over sigma^2; it exists for singular Lambda too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _core
from ..errors import FitError
from .compiled import SMALL, memory_limit

if TYPE_CHECKING:
    from .compiled import Engine


FILL = 10  # entries of a sparse factor for each of the matrix
ITERATIONS = 50  # of conjugate gradients

PATIENCE = 1e13  # operations for traces beyond which they are refused
RATE = 2e10  # operations a second, to say how long that would be

WORDS: dict[type[BaseException], str] = {  # for what the compiled model refuses at a theta
    _core.NotPositiveDefinite: "the objective is not finite at this theta",
    _core.NotFinite: "the derivatives of the criterion are not finite: check the response and the "
    "predictors for extreme values",
    _core.Exact: "the residual variance goes to zero: the random effects fit the response exactly; "
    "take columns or terms out",
    _core.Unsolved: "conjugate gradients did not converge in 1,000 iterations: the grouping "
    'factors hardly cross; storage="sparse" or "dense" is exact (lmmfast.plan shows what they '
    "take)",
    _core.Unavailable: "what is asked for (conditional variances, Kenward-Roger) needs an exact "
    'factorization of the trailing matrix: storage="dense" or "sparse", if there is memory for it '
    "(lmmfast.plan)",
}

RESIDUAL_STRUCTURE = (
    "this is not available for models with a residual structure (dispersion=, residual=): fit the "
    "model without it, or ask for something else"
)

Parts = tuple[np.ndarray, ...]  # one array for each term, in the formula's order


@dataclass(frozen=True, eq=False)
class Basis:
    """X in a basis E, (p, rank), in which it is orthonormal in V^-1: (X E)'V^-1 (X E) = I."""

    E: np.ndarray  # vcov = sigma^2 E E'; rows of dropped columns are zero
    projected: Parts  # Z'V^-1 X E, (m, k, rank) by term
    moved: Parts  # B Z'W X E, the same: what the fixed effects take from the random ones


class Point:
    """A model at one theta; what is read is computed then, and kept.

    A point may be used from several threads and after the model has gone elsewhere: each reading
    puts the model back at this theta, which costs a factorization only if it had left.
    `Model.point` has its parameters.

    Raises
    ------
    FitError
        By every reading: when the criterion is not finite at theta, or when what is asked for is
        not available with the model's storage.
    ValueError
        When theta has another length, or values that are not finite.
    """

    def __init__(self, model: Any, theta: Any, reml: bool = True, sums: Any = None) -> None:
        self._model, self._sums = model, sums
        self._engine: Engine = model._engine
        self._theta = self._engine.checked(theta).copy()
        self.reml = bool(reml)

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle knows where the model stands; what was read is read again."""
        return Point, (self._model, self._theta, self.reml, self._sums)

    @property
    def is_exact(self) -> bool:
        """Whether covariances can be read; else (iterative models) they are solved for."""
        return bool(self._model.storage["storage"] != "iterative")

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Levels and columns of each term, (m, k)."""
        return [(len(term.levels), term.source.width) for term in self._engine.design.terms]

    @property
    def price(self) -> float:
        """Operations of `solve` for one right-hand side, in order of magnitude."""
        stored = self._model.storage
        trailing = {
            "dense": float(stored["order"]) ** 2,
            "sparse": FILL * stored["density"] * float(stored["order"]) ** 2,
            "iterative": ITERATIONS * stored["pairs"],
        }
        return float(sum(m * k * k for m, k in self.shapes) + trailing[stored["storage"]])

    @contextmanager
    def _core(self) -> Iterator[Any]:
        """The compiled model, standing here."""
        with self._model._lock, in_words():
            self._model._use(self._sums)
            core = self._model._core
            core.evaluate(self._theta, self.reml, value=False)
            yield core

    # ---- the criterion ---------------------------------------------------------------------------

    @cached_property
    def value(self) -> float:
        """REML criterion or deviance."""
        with self._core() as core:
            return float(core.evaluate(self._theta, self.reml))

    @cached_property
    def gradient(self) -> np.ndarray:
        """Gradient in theta, (ntheta,); exact but for iterative models."""
        with self._core() as core:
            return np.asarray(core.derivatives()[0])

    @cached_property
    def information(self) -> np.ndarray:
        """Average information in theta and its boundary term, (ntheta, ntheta)."""
        self._engine.refuse_wide("the average information in theta")
        with self._core() as core:
            gradient, H = core.derivatives(hessian=True)
        self.__dict__.setdefault("gradient", gradient)
        return np.asarray(H)

    # ---- estimates -------------------------------------------------------------------------------

    @cached_property
    def _estimates(self) -> tuple[np.ndarray, np.ndarray, float, Parts]:
        with self._core() as core:
            beta, vcov, sigma, b = core.estimates()
        return beta, vcov, float(sigma), self._engine.modes(b)

    @property
    def beta(self) -> np.ndarray:
        """Fixed effects, (p,); zero for dropped columns."""
        return self._estimates[0]

    @property
    def vcov(self) -> np.ndarray:
        """Their covariance, (p, p); zero for dropped columns."""
        return self._estimates[1]

    @property
    def sigma(self) -> float:
        """Residual standard deviation of a row with weight 1."""
        return self._estimates[2]

    @property
    def b(self) -> Parts:
        """Conditional modes of each term, (m, k)."""
        return self._estimates[3]

    @cached_property
    def condvar(self) -> Parts:
        """Covariance of each level's effects given y over sigma^2, (m, k, k) by term."""
        with self._core() as core:
            return self._engine.conditional_variances(core.condvar())

    # ---- V^-1 ------------------------------------------------------------------------------------

    @cached_property
    def projection(self) -> tuple[Parts, Parts]:
        """Z'V^-1 X (X'V^-1 X)^-1, (m, k, p) by term, and Z'V^-1 (y - X beta), (m, k) by term."""
        with self._core() as core:
            G, g = core.projection()
        return self._engine.by_term(G), self._engine.modes(g)

    def contrasts(self, L: np.ndarray) -> Parts:
        """What derivatives of r^2 and of the variances of contrasts are made of.

        With g = Z'V^-1 (y - X beta), and h = Z'V^-1 X (X'V^-1 X)^-1 L' of each contrast.

        Parameters
        ----------
        L : (r, p) array

        Returns
        -------
        tuple of (r + 1, k, k) arrays
            Per term, in whitened columns (`whitening`): the sum of g g' over levels, then that of
            h h' of each contrast. Where T is that of the whitened columns, r^2 has the gradient
            -2 (sum of g g') T in T, and L (X'V^-1 X)^-1 L' the gradient 2 (sum of h h') T.
        """
        with self._core() as core:
            M = core.contrasts(np.ascontiguousarray(L, np.float64))
        return self._engine.squares_by_term(M)

    @cached_property
    def basis(self) -> Basis:
        """The fixed effects in a basis in which they are independent."""
        with self._core() as core:
            E, projected, moved = core.basis()
        engine = self._engine
        return Basis(E, engine.by_term(projected), engine.by_term(moved))

    def solve(self, V: Sequence[Any]) -> Parts:
        """B V for any number of right-hand sides: V and B V are (m, k, r) by term.

        Dropped columns are not read in V, and are zero in B V.
        """
        own = self._engine.by_factor([np.asarray(v, np.float64) for v in V])
        with self._core() as core:
            return self._engine.by_term(core.solve(own))

    def forms(self, V: Sequence[Any]) -> np.ndarray:
        """V'Z'V^-1 Z V, (r, r), for r vectors over all random effects.

        Parameters
        ----------
        V : sequence of (m, k, r) arrays
            One for each term in the formula's order; what stands in dropped columns is not read.

        Raises
        ------
        FitError
            For iterative models.
        ValueError
            When shapes do not fit, or values are not finite.
        """
        own = self._engine.by_factor([np.asarray(v, np.float64) for v in V])
        with self._core() as core:
            return np.asarray(core.forms(own))

    @cached_property
    def traces(self) -> tuple[np.ndarray, np.ndarray]:
        """tr V^-1 G_r, (ntheta,), and tr V^-1 G_r V^-1 G_s, (ntheta, ntheta).

        G_r is the derivative of V in an entry of a term's relative covariance matrix (and its
        mirror image; variances only, for ``||``), as theta is ordered, in whitened coordinates: the
        relative covariance matrix of a term is C S C' with S that of the whitened columns and C
        of `Engine.whitening`.

        Raises
        ------
        MemoryError
            When there is no memory for the matrices of the order of the trailing one.
        FitError
            For iterative models, and when it would take too long: ``PATIENCE``.
        """
        with self._core() as core:
            self._afford(*self.traces_price)
            single, pairs = core.traces()
        return np.asarray(single), np.asarray(pairs)

    @cached_property
    def hessian(self) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (ntheta,) and exact Hessian (ntheta, ntheta) of the criterion in the entries of
        relative covariance matrices; coordinates, price and errors as of `traces`.

        With P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1 and a_r = y'P G_r P y:

            f_r  = tr(P G_r) - nu a_r / r2
            f_rs = -tr(P G_r P G_s) + nu (2 y'P G_r P G_s P y / r2 - a_r a_s / r2^2)

        where traces of a deviance (not REML) have V^-1 for P.
        """
        with self._core() as core:
            self._afford(*self.traces_price)
            slope, second = core.hessian()
        return np.asarray(slope), np.asarray(second)

    @property
    def traces_price(self) -> tuple[float, float]:
        """Bytes and floating-point operations that `traces` takes."""
        size, work = self._model._core.traces_price()
        return float(size), float(work)

    def _afford(self, size: float, work: float) -> None:
        """Refuses traces that take too much memory or too long, or that are not there."""
        self._engine.refuse_wide("Kenward-Roger", "; use Satterthwaite degrees of freedom")
        columns = self._engine.core.report["order"]
        what = (
            f"Kenward-Roger needs all pairs of the {columns} columns that are left when the nested "
            "or the largest grouping factors are eliminated"
        )
        limit = memory_limit() if size > SMALL else math.inf
        if size > limit:
            raise MemoryError(
                f"{what}: {size / 1e9:.1f} GB, more than the {limit / 1e9:.1f} GB that may be "
                "used; use Satterthwaite degrees of freedom"
            )
        if work > PATIENCE:
            raise FitError(
                f"{what}: {work:.1e} operations, about {work / RATE:.0f} s; use Satterthwaite "
                "degrees of freedom"
            )

    def pairs(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Levels of terms i and j that occur together.

        Two integer arrays of one length; of terms that share a grouping factor, each level with
        itself. Where the core stores two crossed factors as one dense block, all their pairs.
        """
        a, c = self._engine.place(i).factor, self._engine.place(j).factor
        with self._model._lock:
            found: tuple[np.ndarray, np.ndarray] = self._model._core.pairs(a, c)
        return found

    def covariances(
        self,
        i: int,
        j: int,
        pairs: tuple[np.ndarray, np.ndarray] | None = None,
        *,
        whitened: bool = False,
    ) -> np.ndarray:
        """Blocks of B, (n, k_i, k_j), at pairs of levels of terms i and j.

        Covariance of b of the one with b of the other given y, over sigma^2; zero for dropped
        columns. Other pairs of levels than ``self.pairs(i, j)`` have a block where the trailing
        matrix has what it follows from, always where that is dense, else NaN (``solve`` has those);
        two levels of one factor where the trailing matrix has it: all that occur with one level of
        an eliminated factor do. Whitened: of the
        effects of whitened columns (`whitening`), without dropped ones: far origins and unequal
        units cost no digits there.
        """
        engine = self._engine
        one, other = engine.place(i), engine.place(j)
        la, lc = self.pairs(i, j) if pairs is None else pairs
        levels = np.ascontiguousarray(la, np.int32), np.ascontiguousarray(lc, np.int32)
        with self._core() as core:
            blocks = core.covariances(one.factor, other.factor, *levels, whitened)
        blocks = blocks[:, one.columns, other.columns]
        return blocks if whitened else engine.widened(i, j, blocks)

    @cached_property
    def whitening(self) -> Parts:
        """C of each term, (k, kept): b = C b_w, and columns z have the whitened columns z C."""
        terms = self._engine.design.terms
        out = []
        for i, C in enumerate(self._engine.whitening()):
            own = np.zeros((terms[i].source.width, len(C)))
            own[list(self._engine.kept(i))] = C
            out.append(own)
        return tuple(out)

    @cached_property
    def unwhitening(self) -> Parts:
        """The transpose of the inverse of each C, (k, kept); zero rows for dropped columns."""
        out = []
        for i, C in enumerate(self.whitening):
            kept, own = list(self._engine.kept(i)), np.zeros_like(C)
            own[kept] = np.linalg.inv(C[kept]).T
            out.append(own)
        return tuple(out)


@contextmanager
def in_words() -> Iterator[None]:
    """What the compiled model refuses at a theta, in words."""
    try:
        yield
    except tuple(WORDS) as error:
        raise FitError(WORDS[type(error)]) from None
