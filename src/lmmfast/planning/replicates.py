"""Simulated studies: responses are drawn, fitted and tested, block by block."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..data.rows import RowColumns
from ..engine.residual import linear_model
from ..errors import silenced
from ..inference.wald import t_pvalues
from ..many.checkpoint import fingerprint
from ..many.columns import AnyModel, fitted_columns
from ..many.job import Columns, Job
from ..many.run import design_fingerprint
from ..many.simulate import Simulator
from ..many.streams import Streams
from .joint import Joint
from .tested import Tested

if TYPE_CHECKING:
    from ..data.design import Design
    from ..many.asked import Asked


class Null(NamedTuple):
    """The model in which the hypothesis holds, of responses less X base."""

    model: Any
    base: np.ndarray  # p


@dataclass(eq=False)
class Replicates(Job):
    """Tests of responses drawn from assumed parameters.

    Fits do not depend on the fixed effects that are assumed: other effects shift the estimates,
    and cost no fit but those of the smaller model of a likelihood-ratio test.
    """

    count: int
    design: Design
    simulator: Simulator
    streams: Streams
    tested: Tested
    want: Asked  # of each fit: the rows that are tested, or contrasts from which `joint` has them
    shifts: np.ndarray  # E x p  differences from the fixed effects that are drawn
    joint: Joint | None = None
    by_likelihood: bool = False
    is_kept: bool = False  # in a checkpoint
    spare: list[Any] = field(default_factory=list)  # models that are made already

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"spare": []}

    def begin(self) -> tuple[Any, Null | None]:
        with silenced():
            model = self.spare.pop() if self.spare else self.made(self.design)
            null = None
            if self.by_likelihood:
                null = self.restricted(*restriction(self.tested, model._core.keep))
        return model, null

    def made(self, design: Design) -> AnyModel:
        """The model of a design."""
        return linear_model(design)

    def restricted(self, N: np.ndarray, base: np.ndarray) -> Null:
        """The model in which the hypothesis holds, see `restriction`."""
        return Null(self.made(smaller(self.design, N)), base)

    def part(self, first: int, stop: int) -> Any:
        """Which study the replicates are of, where several share a checkpoint."""
        return self._print if self.is_kept else None

    @cached_property
    def _print(self) -> str:
        return self.fingerprint()

    def run(self, state: Any, first: int, stop: int, part: Any) -> Columns:
        model, null = state
        Y = self.simulator.draw(self.streams, first, stop)
        found = fitted_columns(model, Y, None, self.want)
        effect, out = self.said(model, found)
        out["p"] = (
            self.wald(effect, found, self.shifts @ self.tested.L.T)
            if null is None
            else self._ratios(null, Y, found["objective"])
        )
        return out

    def said(self, model: AnyModel, found: Columns) -> tuple[np.ndarray, Columns]:
        """Distances from the hypothesis (c, r), and what is kept of fits besides p-values."""
        effect = _times(self.tested.L, found["beta"]) - self.tested.q
        out = {
            "fitted": np.isfinite(found["objective"]),
            "converged": found["status"] == "converged",
            "singular": _singular(model, found["theta"]),
        }
        if len(self.tested.L) == 1:
            out |= {"estimate": effect[:, 0], "se": np.sqrt(found["variance"][:, 0])}
            out["df"] = found["df"][:, 0]
        return effect, out

    def wald(self, effect: np.ndarray, found: Columns, shifts: np.ndarray) -> np.ndarray:
        """(c, E) p-values of t, z, F or chi-squared, at distances that are shifted by (E, r)."""
        from scipy.special import chdtrc, fdtrc

        variance, df = found["variance"], found["df"]
        if self.joint is None:
            return t_pvalues((effect + shifts[:, 0]) / np.sqrt(variance), df)
        r = len(self.tested.L)
        squares = [self.joint.square(effect + shift, variance) for shift in shifts]
        square = np.stack(squares, axis=1)
        if self.want.ddf == "z":
            return np.asarray(chdtrc(r, square))
        return np.asarray(fdtrc(r, self.joint.denominator(variance, df)[:, None], square / r))

    def _ratios(self, null: Null, Y: np.ndarray, deviance: np.ndarray) -> np.ndarray:
        """(c, E) p-values of likelihood-ratio tests."""
        from scipy.special import chdtrc

        want = replace(self.want, L=np.zeros((0, null.model.design.fixed.width)))
        p = np.empty((Y.shape[1], len(self.shifts)))
        for e, shift in enumerate(self.shifts):
            moved = Y + self.design.fixed.times(shift - null.base)[:, None]
            found = fitted_columns(null.model, moved, None, want)
            chisq = np.maximum(found["objective"] - deviance, 0)
            p[:, e] = chdtrc(len(self.tested.L), chisq)
        return p

    def fingerprint(self) -> str:
        return fingerprint(
            design_fingerprint(self.design),
            self.simulator.facts(),
            self.tested.L,
            self.tested.q,
            self.by_likelihood,
            (self.streams.seed, self.streams.branch),
            self.want.facts(),
            self.shifts,
        )


def restriction(tested: Tested, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """N (p, k) and b (p): the coefficients with L beta = q are b + N g; those of columns that are
    not kept (p) are zero."""
    from scipy.linalg import qr

    places = np.flatnonzero(kept)
    L = tested.L[:, places]
    order = qr(L, pivoting=True, mode="r")[1]
    pivot, rest = order[: len(L)], np.sort(order[len(L) :])
    N, b = np.zeros((len(kept), len(rest))), np.zeros(len(kept))
    N[places[rest], np.arange(len(rest))] = 1.0
    N[places[pivot]] = -np.linalg.solve(L[:, pivot], L[:, rest])
    b[places[pivot]] = np.linalg.solve(L[:, pivot], tested.q)
    return N, b


def smaller(design: Design, N: np.ndarray) -> Design:
    """The design in which coefficients are N g, of `restriction`; b is to be subtracted."""
    X = RowColumns(np.asfortranarray(design.X @ N))
    names = tuple(f"g{j}" for j in range(N.shape[1]))
    return replace(design, fixed=X, x_names=names, recipe=None, variables={})


def _times(L: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """(c, r) L beta, each row alone; columns without weight may be missing."""
    used = L.any(axis=0)
    return np.asarray((beta[:, None, used] @ L[:, used].T)[:, 0])


def _singular(model: AnyModel, theta: np.ndarray) -> np.ndarray:
    """(c,) whether some variance, or what is left of it, is zero."""
    diagonal = [row == column for _, row, column in model.theta_entries]
    return np.asarray((theta[:, diagonal] == 0).any(axis=1))
