"""Simulated studies of generalized models: fits depend on the effect, so that each has its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.generalized import GeneralizedModel
from ..many.checkpoint import fingerprint
from ..many.columns import fitted_columns
from ..many.generalized import GeneralizedSimulator
from .replicates import Null, Replicates, smaller

if TYPE_CHECKING:
    from ..data.design import Design
    from ..many.job import Columns
    from ..many.parameters import Assumed


@dataclass(eq=False)
class GeneralizedReplicates(Replicates):
    """Tests of responses drawn from assumed parameters of a generalized model.

    All effects have the same random effects and the same random numbers of the responses, so that
    differences between their powers are known better than the powers. Fits begin at the parameters
    that are assumed.
    """

    simulator: GeneralizedSimulator
    like: dict[str, Any] = field(default_factory=dict)  # family, quadrature, ...: of the models
    first: np.ndarray | None = None  # psi of the parameters that are drawn; None: no start

    def made(self, design: Design) -> GeneralizedModel:
        return GeneralizedModel(design, **self.like)

    def restricted(self, N: np.ndarray, base: np.ndarray) -> Null:
        """X base is in the offset."""
        own = smaller(self.design, N)
        if base.any():
            more = self.design.fixed.times(base)
            own = own.with_rows(offset=more if own.offset is None else own.offset + more)
        return Null(self.made(own), np.linalg.pinv(N))  # which gives g of a beta

    def run(self, state: Any, first: int, stop: int, part: Any) -> Columns:
        each = [self._of_effect(state, first, stop, shift) for shift in self.shifts]
        return {name: np.stack([one[name] for one in each], axis=1) for name in each[0]}

    def _of_effect(self, state: Any, first: int, stop: int, shift: np.ndarray) -> Columns:
        """Of one effect: fixed effects that differ by shift (p) from those that are drawn."""
        model, null = state
        drawn = self.simulator.moved(self.design.fixed.times(shift))
        Y = drawn.draw(self.streams, first, stop)
        want = replace(self.want, start=self._start(model, shift, None))
        found = fitted_columns(model, Y, None, want)
        effect, out = self.said(model, found)
        out["separated"] = found["separated"]
        if null is None:
            out["p"] = self.wald(effect, found, np.zeros((1, len(self.tested.L))))[:, 0]
        else:
            start = self._start(model, shift, null.base)
            out["p"] = self._ratio(null, Y, found["objective"], start)
        return out

    def _start(
        self, model: GeneralizedModel, shift: np.ndarray, along: np.ndarray | None
    ) -> np.ndarray | None:
        """psi where fits begin, of the smaller model with `along` (k, p) of its coefficients."""
        if self.first is None:
            return None
        theta, beta, extra = model.split(self.first)
        beta = beta + shift
        return np.concatenate([theta, beta if along is None else along @ beta, extra])

    def _ratio(
        self, null: Null, Y: np.ndarray, deviance: np.ndarray, start: np.ndarray | None
    ) -> np.ndarray:
        """(c,) p-values of likelihood-ratio tests."""
        from scipy.special import chdtrc

        L = np.zeros((0, null.model.design.fixed.width))
        found = fitted_columns(null.model, Y, None, replace(self.want, L=L, start=start))
        return np.asarray(chdtrc(len(self.tested.L), np.maximum(found["objective"] - deviance, 0)))

    def fingerprint(self) -> str:
        own = self.like["nagq"], self.like["information"], self.first
        return fingerprint(super().fingerprint(), *own)


def first_psi(assumed: Assumed, model: GeneralizedModel) -> np.ndarray | None:
    """psi of assumed parameters; None where a variance is zero, which is no place to begin at."""
    theta = np.array([assumed.factors[i][row, c] for i, row, c in model.theta_entries])
    diagonal = [row == c for _, row, c in model.theta_entries]
    if (theta[diagonal] == 0).any():
        return None
    return np.concatenate([theta, assumed.beta, assumed.extra])
