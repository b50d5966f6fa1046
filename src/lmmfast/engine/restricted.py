"""Restricted likelihood of generalized models: the fixed effects are integrated out as well.

    L_R(theta, x) = integral of L(theta, beta, x) over beta, Laplace's approximation in (b, beta),

for coefficients with a flat prior: REML where the response is Gaussian, and glmmTMB's REML=TRUE.
beta is at its mode given theta and x, and is no parameter of the criterion.

In the compiled form the columns of X are those of one more grouping factor with a single level. The
rows of the likelihood itself are compiled beside it: from them everything is read that is
conditional on beta, as of a fit by maximum likelihood.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _core
from ..errors import FitError
from .costs import StorageReport
from .generalized_point import STEP, GeneralizedPoint
from .machine import MOST_RANDOM
from .options import MAX_EVALS
from .search import Search

if TYPE_CHECKING:
    from ..data.design import Design

BLOCK = 65_536  # rows of X that are made at a time
HELD = (
    "parameters of a fit by restricted likelihood cannot be held: use a fit by maximum likelihood "
    "(reml=False)"
)


def check_restricted(design: Design, **others: Any) -> None:
    """FitError where there is no restricted likelihood: with other ways to approximate it, priors,
    thresholds, or nothing to integrate out."""
    for name, (value, usual) in others.items():
        if value != usual:
            raise FitError(
                "reml=True is for Laplace's approximation without priors: leave out "
                f"{name}={value!r}"
            )
    if design.outcome is not None and design.outcome.classes:
        raise FitError(
            "reml=True: the thresholds of an ordered response are fixed effects that are not "
            "integrated out; use maximum likelihood (reml=False)",
            variable=design.response,
        )
    if not design.x_names:
        raise FitError(
            "reml=True: the model has no fixed effects, so that restricted likelihood is "
            "likelihood; write reml=False"
        )
    if len(design.x_names) > MOST_RANDOM:
        raise FitError(
            f"reml=True is for at most {MOST_RANDOM} columns of fixed effects, not "
            f"{len(design.x_names)}: write reml=False"
        )


class Restricted:
    """The restricted likelihood, with the interface of `_core.Generalized`.

    psi = (theta, beta, x) is as there, but beta is not read: it follows from the others. Readings
    are of the likelihood at that beta.

    Parameters
    ----------
    make : function of (X, factors, offset, limit, more)
        The compiled model of the same rows and response with these columns; more: other arguments.
    design : Design
    factors : list
        As of `_core.Generalized`.
    offset : (n,) array or None
    limit : float
        Bytes that both compiled models may use together.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        design: Design,
        X: Any,
        factors: list[Any],
        offset: Any,
        limit: float,
    ) -> None:
        self._plain = make(X, factors, offset, limit / 2)
        self._kept = np.flatnonzero(self._plain.keep)
        self._first: np.ndarray | None = None  # psi where fits to this response begin
        self._near = self._middle()
        shift = _predictor(design, self._kept, self._near)
        one = np.zeros(design.n, np.int32), 1, *_flat(X, design, self._kept)
        try:
            self._whole = make(
                np.zeros((design.n, 0), order="F"),
                [*factors, one],
                shift if offset is None else offset + shift,
                limit / 2,
                flat=len(factors),
            )
        except _core.Dependent as error:
            if error.args[0] < len(factors):
                raise
            name = design.x_names[self._kept[error.args[1]]]
            raise FitError(
                f"reml=True: the fixed effect {name!r} is nearly a linear combination of the "
                "others: take it out, or write reml=False",
                variable=name,
            ) from None
        self._psi = np.zeros(0)  # of the last value, ...
        self._stands = False  # ... and whether the likelihood itself stands there

    def __getattr__(self, name: str) -> Any:
        """Everything that does not depend on the criterion."""
        if name == "_plain":
            raise AttributeError(name)
        return getattr(self._plain, name)

    @property
    def report(self) -> StorageReport:
        """Storage of the likelihood's own model, memory and price of both."""
        own, other = self._plain.report, self._whole.report
        both: StorageReport = own.copy()
        both["bytes"], both["rows"] = own["bytes"] + other["bytes"], own["rows"] + other["rows"]
        both["flops"] = other["flops"]
        return both

    @property
    def outside(self) -> float:
        """Bytes of the rows of both that are not in memory."""
        return float(self._plain.outside + self._whole.outside)

    def _begin(self) -> np.ndarray:
        """psi where fits by likelihood begin: its coefficients are those without random effects."""
        if self._first is None:
            self._first = np.asarray(self._plain.minimize(None, maxeval=1)[0])
        return self._first

    def _middle(self) -> np.ndarray:
        """Kept coefficients around which the prior is flat, so that eta begins in the domain of the
        link; zero where no fit can begin, which fits say."""
        try:
            return self._begin()[self._plain.ntheta :][self._kept]
        except _core.NotPositiveDefinite:
            return np.zeros(len(self._kept))

    # ---- psi of both -----------------------------------------------------------------------------

    def _inner(self, psi: np.ndarray) -> np.ndarray:
        """psi of the compiled model: beta is not there, the flat factor's theta is not read."""
        first, last = self.ntheta, len(psi) - self.nextra
        unread = np.zeros(self._whole.ntheta - first)
        return np.concatenate([psi[:first], unread, psi[last:]])

    def _outer(self, inner: np.ndarray) -> np.ndarray:
        """The other way round, where the compiled model stands."""
        extra = inner[len(inner) - self.nextra :]
        return np.concatenate([inner[: self.ntheta], self.coefficients(), extra])

    def coefficients(self) -> np.ndarray:
        """(p,) the mode of beta where the model stands; zero for dropped columns."""
        out = np.zeros(len(self.keep))
        out[self._kept] = self._near + self._whole.modes()[-1][0]
        return out

    def coefficient_covariance(self) -> np.ndarray:
        """(kept, kept) covariance of beta given theta, x and y where the model stands."""
        return np.asarray(self._whole.condvar()[-1][0])

    # ---- as `_core.Generalized` ------------------------------------------------------------------

    def arrange(self, place: np.ndarray) -> None:
        """theta gets another order."""
        self._plain.arrange(place)
        rest = np.arange(len(place), self._whole.ntheta, dtype=np.int32)
        self._whole.arrange(np.concatenate([place, rest]))

    def use_threads(self, threads: int) -> None:
        """Threads of both models."""
        self._plain.use_threads(threads)
        self._whole.use_threads(threads)

    def renew_lock(self) -> None:
        """In a forked child."""
        self._plain.renew_lock()
        self._whole.renew_lock()

    def again(self, y: Any, weights: Any = None) -> None:
        """Replaces the response and its weights."""
        self._first, self._stands = None, False
        self._plain.again(y, weights)
        self._whole.again(y, weights)

    def work(self) -> tuple[int, int]:
        """Factorizations and passes over the rows since the last fit began."""
        return self._whole.work()  # type: ignore[no-any-return]

    def obstacle(self) -> str:
        """What the last evaluation that failed has met."""
        return self._whole.obstacle()  # type: ignore[no-any-return]

    def minimize(
        self, start: Any = None, *, held: Any = None, structured: Any = None, **how: Any
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Minimizes -2 log restricted likelihood; start without one: that of the likelihood.

        In a plane of phi (`structured`) the flat factor has parameters that no variable moves.
        """
        if held is not None and np.any(held):
            raise FitError(HELD)
        if structured is not None:
            fixed, basis, table = structured
            more = self._whole.ntheta - self.ntheta
            wide = np.asfortranarray(np.vstack([basis, np.zeros((more, basis.shape[1]))]))
            how["structured"] = np.append(fixed, np.zeros(more)), wide, [*table, None]
        self._stands = False
        start = self._begin() if start is None else start
        inner, info = self._whole.minimize(self._inner(np.asarray(start, np.float64)), **how)
        return self._outer(np.asarray(inner)), info

    def value(self, psi: Any, gradient: bool = False) -> Any:
        """-2 log restricted likelihood, and its gradient, which is zero in beta."""
        psi = np.asarray(psi, np.float64)
        self._psi, self._stands = psi, False
        found = self._whole.value(self._inner(psi), gradient)
        if not gradient:
            return found
        f, slope = found
        out = np.zeros(len(psi))
        out[: self.ntheta] = slope[: self.ntheta]
        out[len(psi) - self.nextra :] = slope[len(slope) - self.nextra :]
        return f, out

    def hessian(self, psi: Any) -> np.ndarray | None:
        """Second derivatives in theta and beta, which are zero in beta."""
        found = self._whole.hessian(self._inner(np.asarray(psi, np.float64)))
        if found is None:
            return None
        out = np.zeros((self.ntheta + len(self.keep),) * 2)
        out[: self.ntheta, : self.ntheta] = found[: self.ntheta, : self.ntheta]
        return out

    def _stand(self) -> Any:
        """The likelihood's model at the psi of the last value, with beta at its mode."""
        if not self._stands:
            psi = self._psi.copy()
            psi[self.ntheta :][: len(self.keep)] = self.coefficients()
            self._plain.value(psi)
            self._stands = True
        return self._plain

    def evaluate(self, *given: Any, **how: Any) -> Any:
        """The linear model with the rows' weights stands at a theta."""
        return self._stand().evaluate(*given, **how)

    def modes(self) -> list[np.ndarray]:
        """Conditional modes of the random effects, m x k by factor."""
        return self._stand().modes()  # type: ignore[no-any-return]

    def predictor(self) -> np.ndarray:
        """eta of every row."""
        return np.asarray(self._stand().predictor())

    def leverages(self) -> np.ndarray:
        """Variance of z'b of every row given y and all parameters."""
        return np.asarray(self._stand().leverages())

    def condvar(self) -> list[np.ndarray]:
        """Conditional covariances of each level given y and all parameters, m x k x k by factor."""
        return self._stand().condvar()  # type: ignore[no-any-return]

    def solve(self, V: list[np.ndarray]) -> list[np.ndarray]:
        """The covariance of the random effects given y and all parameters, times V."""
        return self._stand().solve(V)  # type: ignore[no-any-return]


def _predictor(design: Design, kept: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """The kept columns of X times beta (n), column by column: the same to the bit for rows that are
    equal, which are merged."""
    out = np.zeros(design.n)
    for first in range(0, design.n, BLOCK):
        rows = slice(first, first + BLOCK)
        X = design.fixed.at(rows)
        for j, own in zip(kept, beta, strict=True):
            out[rows] += X[:, j] * own
    return out


def _flat(X: Any, design: Design, kept: np.ndarray) -> tuple[Any, np.ndarray]:
    """Columns of the factor of the fixed effects, and that they are of one term."""
    term = np.zeros(len(kept), np.int32)
    if isinstance(X, list):
        return [X[j] for j in kept], term
    return np.ascontiguousarray(design.X[:, kept]), term


class _Value(NamedTuple):
    """The criterion in some parameters."""

    f: float
    slope: np.ndarray
    curvature: np.ndarray


def restricted_minimum(model: Any, psi: np.ndarray, held: np.ndarray) -> float:
    """-2 log restricted likelihood at the best of what is not held at its value in psi."""
    free = ~np.asarray(held, bool)
    free[model.ntheta :][: len(model.design.x_names)] = False
    places = np.flatnonzero(free)

    def at(z: np.ndarray) -> _Value:
        trial = psi.copy()
        trial[places] = z
        point = RestrictedPoint(model, trial)
        return _Value(point.value, point.gradient[places], point.second(places))

    if not len(places):
        return float(model.objective(psi))
    return float(Search(at, MAX_EVALS, None).end(psi[places]).value)


class RestrictedPoint(GeneralizedPoint):
    """A generalized model at one psi, by restricted likelihood: beta is where it follows from the
    others, and has no derivatives."""

    def __init__(
        self, model: Any, psi: np.ndarray, sums: Any = None, phi: np.ndarray | None = None
    ) -> None:
        super().__init__(model, psi, sums, phi)
        with model.standing(psi, sums) as core:
            own = psi.copy()
            own[model.ntheta :][: len(core.keep)] = core.coefficients()
        self.psi = own
        self.psi.setflags(write=False)

    @cached_property
    def curvature(self) -> np.ndarray:
        """Second derivatives of f, (size, size); zero for the fixed effects."""
        moving = np.ones(len(self.psi), bool)
        moving[self._model.ntheta :][: len(self._model._core.keep)] = False
        out, places = np.zeros((len(self.psi),) * 2), np.flatnonzero(moving)
        out[np.ix_(places, places)] = self.second(places)
        return out

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of the estimates psi, (size, size).

        V of theta and x is twice the inverse of the Hessian. With C the covariance of beta given
        these and J = dbeta/d(theta, x), that of beta is C + J V J', and J V that of both. NaN where
        parameters do not move, and everywhere when the Hessian is not positive definite.
        """
        out = np.array(super().covariance)
        free = np.flatnonzero(~np.isnan(out.diagonal()))
        if not len(free) and self._model.free(self.psi).any():
            return out
        kept = self._model.ntheta + np.flatnonzero(self._model._core.keep)
        with self._model.standing(self.psi, self._sums) as core:
            C = core.coefficient_covariance()
        J, V = self._answers(free), out[np.ix_(free, free)]
        out[np.ix_(kept, free)] = J @ V
        out[np.ix_(free, kept)] = V @ J.T
        out[np.ix_(kept, kept)] = C + J @ V @ J.T
        return out

    def _answers(self, places: np.ndarray) -> np.ndarray:
        """J: how kept coefficients follow some of the parameters, (kept, k), by differences."""
        steps = STEP * self._model.units(self.psi, self.predictor)
        kept = np.flatnonzero(self._model._core.keep)
        J = np.empty((len(kept), len(places)))
        for i, j in enumerate(places):
            ends = []
            for side in (1, -1):
                with self._model.standing(self._moved(j, side * steps[j]), self._sums) as core:
                    ends.append(core.coefficients()[kept])
            J[:, i] = (ends[0] - ends[1]) / (2 * steps[j])
        return J
