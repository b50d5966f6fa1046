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


@dataclass(eq=False)
class GeneralizedReplicates(Replicates):
    """Tests of responses drawn from assumed parameters of a generalized model.

    All effects have the same random effects and the same random numbers of the responses, so that
    differences between their powers are known better than the powers.
    """

    simulator: GeneralizedSimulator
    like: dict[str, Any] = field(default_factory=dict)  # family, quadrature, ...: of the models

    def made(self, design: Design) -> GeneralizedModel:
        return GeneralizedModel(design, **self.like)

    def restricted(self, N: np.ndarray, base: np.ndarray) -> Null:
        """X base is in the offset."""
        own = smaller(self.design, N)
        if base.any():
            more = self.design.fixed.times(base)
            own = own.with_rows(offset=more if own.offset is None else own.offset + more)
        return Null(self.made(own), base)

    def run(self, state: Any, first: int, stop: int, part: Any) -> Columns:
        each = [self._of_effect(state, first, stop, shift) for shift in self.shifts]
        return {name: np.stack([one[name] for one in each], axis=1) for name in each[0]}

    def _of_effect(self, state: Any, first: int, stop: int, shift: np.ndarray) -> Columns:
        """Of one effect: fixed effects that differ by shift (p) from those that are drawn."""
        model, null = state
        drawn = self.simulator.moved(self.design.fixed.times(shift))
        Y = drawn.draw(self.streams, first, stop)
        found = fitted_columns(model, Y, None, self.want)
        effect, out = self.said(model, found)
        out["separated"] = found["separated"]
        if null is None:
            out["p"] = self.wald(effect, found, np.zeros((1, len(self.tested.L))))[:, 0]
        else:
            out["p"] = self._ratio(null, Y, found["objective"])
        return out

    def _ratio(self, null: Null, Y: np.ndarray, deviance: np.ndarray) -> np.ndarray:
        """(c,) p-values of likelihood-ratio tests."""
        from scipy.special import chdtrc

        L = np.zeros((0, null.model.design.fixed.width))
        found = fitted_columns(null.model, Y, None, replace(self.want, L=L))
        return np.asarray(chdtrc(len(self.tested.L), np.maximum(found["objective"] - deviance, 0)))

    def fingerprint(self) -> str:
        own = self.like["nagq"], self.like["information"]
        return fingerprint(super().fingerprint(), *own)
