"""Likelihood ratios of two models, fitted to responses that are drawn from the smaller one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.options import MAX_EVALS
from ..errors import silenced
from ..inference.hypotheses.regression import Regression
from ..inference.refits import model_of
from ..many.asked import Asked
from ..many.checkpoint import fingerprint
from ..many.columns import AnyModel, fitted_columns
from ..many.generalized import simulator_of
from ..many.job import Columns, Job
from ..many.parameters import Parameters
from ..many.run import model_fingerprint
from ..many.simulate import Simulator

if TYPE_CHECKING:
    from ..data.design import Design
    from ..fit import Fit
    from ..many.streams import Streams


@dataclass(frozen=True, eq=False)
class Mixed:
    """A mixed model as a side of a ratio."""

    model: AnyModel
    want: Asked

    @classmethod
    def of(cls, fit: Fit) -> Mixed:
        """By the criterion of a fit, with what is held there."""
        own: Any = fit
        start = None if fit.family is None else own.psi
        none = np.zeros((0, len(fit.design.x_names)))
        how: dict[str, Any] = {"free": fit.estimates.free, "start": start, "errors": False}
        want = Asked(none, (), (), "z", fit.reml, MAX_EVALS, **how)
        return cls(model_of(fit), want)

    def copied(self) -> Mixed:
        """For another thread."""
        with silenced():
            return Mixed(self.model.with_design(self.model.design), self.want)

    def objectives(self, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Criterion of each column, and how its fit ended."""
        found = fitted_columns(self.model, Y, None, self.want)
        return found["objective"], found["status"]

    def fingerprint(self) -> str:
        """Of all that its objectives depend on."""
        return fingerprint(model_fingerprint(self.model), self.want.facts())


@dataclass(frozen=True, eq=False)
class Linear:
    """A model without random effects, by maximum likelihood."""

    Q: np.ndarray  # n x rank  orthonormal basis of X, rows scaled by the roots of the weights
    root: np.ndarray  # n  these roots

    @classmethod
    def of(cls, fit: Regression) -> Linear:
        """Of a regression's columns."""
        w = fit.design.weights
        root = np.ones(fit.nobs) if w is None else np.sqrt(w)
        U, _, _ = np.linalg.svd(root[:, None] * fit.design.X, full_matrices=False)
        return cls(U[:, : fit.rank], root)

    def copied(self) -> Linear:
        """It has no state."""
        return self

    def left(self, Y: np.ndarray) -> np.ndarray:
        """Weighted residuals of columns."""
        V = self.root[:, None] * Y
        return np.asarray(V - self.Q @ (self.Q.T @ V))

    def objectives(self, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """-2 log likelihood of each column."""
        n, left = len(Y), self.left(Y)
        variance = np.einsum("ij,ij->j", left, left) / n
        value = n * (1 + np.log(2 * np.pi * variance)) - 2 * np.log(self.root).sum()
        return value, np.full(len(value), "converged", dtype=object)

    def fingerprint(self) -> str:
        """Of all that its objectives depend on."""
        return fingerprint(self.Q, self.root)


class RatioJob(Job):
    """Ratios of responses drawn from the hypothesis."""

    def __init__(
        self,
        simulator: Simulator,
        streams: Streams,
        sides: tuple[Any, Any],  # what has objectives(Y): Mixed, Linear
        count: int,
    ) -> None:
        self.simulator, self.streams, self.sides, self.count = simulator, streams, sides, count
        self._is_lent = False

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_is_lent": False}

    def begin(self) -> tuple[Any, Any]:
        """The models themselves first, and then copies of them."""
        if not self._is_lent:
            self._is_lent = True
            return self.sides
        hypothesis, alternative = self.sides
        return hypothesis.copied(), alternative.copied()

    def run(self, state: Any, first: int, stop: int, part: Any) -> Columns:
        Y = np.asfortranarray(self.simulator.draw(self.streams, first, stop))
        (small, ended), (large, end) = (side.objectives(Y) for side in state)
        good = ended == "converged"
        status = np.where(good, end, [f"hypothesis: {one}" for one in ended])
        return {"ratio": small - large, "status": status.astype(object)}

    def fingerprint(self) -> str:
        sides = [side.fingerprint() for side in self.sides]
        return fingerprint("ratios", self.simulator.facts(), self.streams.seed, sides)


def job_of(smaller: Fit | Regression, larger: Fit, streams: Streams, count: int) -> RatioJob:
    """So many ratios under the smaller model, at its estimates."""
    if larger.family is not None:
        small: Any = smaller
        both = Mixed.of(small), Mixed.of(larger)
        return RatioJob(simulator_of(small), streams, both, count)
    alternative = Mixed.of(larger)
    if isinstance(smaller, Regression):
        return RatioJob(_regressed(smaller), streams, (Linear.of(smaller), alternative), count)
    design: Design = smaller.design
    assumed = Parameters().of(design, smaller.model.theta_entries, smaller.estimates)
    simulator = Simulator.of_design(design, assumed, smaller.estimates.delta)
    return RatioJob(simulator, streams, (Mixed.of(smaller), alternative), count)


def _regressed(fit: Regression) -> Simulator:
    """Draws of a regression: its mean, and independent residuals."""
    own, y = Linear.of(fit), np.asarray(fit.design.sums.response(), dtype=float)[:, None]
    left = own.left(y)[:, 0]
    sigma = np.sqrt(left @ left / len(left))
    return Simulator(y[:, 0] - left / own.root, (), sigma / own.root)
