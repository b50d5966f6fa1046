"""Responses drawn from a generalized model: random effects, then each row from its family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.columns import Table
from ..data.members import gathered
from ..engine.relations import draws
from ..errors import DataError
from ..inference.ddf import check_choice
from ..inference.rows.generalized import family_of
from ..inference.rows.prediction_errors import weights_of
from .job import checked_count
from .parameters import Parameters
from .simulate import Simulator, of_new_rows
from .streams import Streams

if TYPE_CHECKING:
    import pandas as pd

    from ..data.design import Design
    from ..engine.compiled import Engine
    from ..engine.families import Family
    from ..fit import Fit
    from .parameters import Assumed
    from .streams import Shared


@dataclass(frozen=True, eq=False)
class GeneralizedSimulator(Simulator):
    """Draws eta = mean + sum_terms Z b, b normal, offsets in the mean, and responses given eta."""

    family: Family
    extra: np.ndarray
    weights: np.ndarray | None

    @classmethod
    def of_rows(cls, design: Design, assumed: Assumed, family: Family) -> GeneralizedSimulator:
        """For the rows of a design."""
        linear = Simulator.of_design(design, assumed)
        mean = linear.mean if design.offset is None else linear.mean + design.offset
        return cls(mean, linear.parts, linear.residual, family, assumed.extra, design.weights)

    def facts(self) -> tuple[Any, ...]:
        family = self.family.core_name, self.family.core_link
        return (*super().facts(), *family, self.extra, self.weights)

    def with_modes(self, modes: Sequence[np.ndarray]) -> GeneralizedSimulator:
        return replace(self, mean=super().with_modes(modes).mean, parts=())

    def predictor(self, generator: np.random.Generator) -> np.ndarray:
        """A linear predictor (n), random effects drawn anew."""
        eta = self.mean.copy()
        for part in self.parts:
            own = generator.standard_normal((part.levels, len(part.factor)))
            if part.relation is not None:
                own = draws(part.relation, np.ascontiguousarray(own.T)).T
            b = own @ part.factor.T
            eta += np.einsum("ij,ij->i", part.z, gathered(part.codes, b))
        return eta

    def _draw_some(self, shared: Shared, first: int, effects: int, out: np.ndarray) -> None:
        for i in range(len(out)):
            generator = shared.at(first + i)
            eta = self.predictor(generator)
            self._check(eta)
            out[i] = self.family.simulate(generator, eta, self.extra, self.weights)

    def _check(self, eta: np.ndarray) -> None:
        """DataError where there is no distribution: normal effects may leave the link's domain."""
        bad = ~self.family.valid(eta)
        if bad.any():
            link = self.family.link.name
            raise DataError(
                f"family {self.family.name!r} with link {link!r} has no mean at the linear "
                f"predictor {eta[bad][0]:.3g} of row {int(np.argmax(bad))} and {bad.sum() - 1} "
                "more: random effects that are drawn anew may leave its domain; re='fixed' keeps "
                "those of the fit, and a model with another link has no such rows"
            )

    def moved(self, change: np.ndarray) -> GeneralizedSimulator:
        """With another mean of the linear predictor: change (n) is added."""
        return replace(self, mean=self.mean + change)


# ---- fit.simulate, and without a fit -------------------------------------------------------------


def simulator_of(fit: Fit, params: Any = None, re: str = "new") -> GeneralizedSimulator:
    """For the rows of a generalized fit, with some parameters assumed."""
    check_choice("re", re, ("new", "fixed"))
    simulator = GeneralizedSimulator.of_rows(fit.design, _assumed(fit, params, re), family_of(fit))
    return simulator.with_modes(fit.estimates.b) if re == "fixed" else simulator


def simulate(fit: Fit, n: int, seed: Any, re: str, params: Any, newdata: Any) -> pd.DataFrame:
    """As ``GLMMFit.simulate`` documents it."""
    import pandas as pd

    count, streams = checked_count(n), Streams(seed)
    if newdata is None:
        return _frame_of(simulator_of(fit, params, re), fit.design, streams, count)
    check_choice("re", re, ("new", "fixed"))
    table = Table.of(newdata)
    assumed = _assumed(fit, params, re)
    linear = of_new_rows(fit, table, assumed, re == "fixed")
    weights = weights_of(fit, table, None, table.n)
    own = linear.mean, linear.parts, linear.residual, family_of(fit), assumed.extra, weights
    values = GeneralizedSimulator(*own).draw(streams, 0, count)
    return pd.DataFrame(values, index=table.index, columns=range(count))


def simulate_design(
    design: Design, engine: Engine, family: Family, params: Any, n: int, seed: Any
) -> pd.DataFrame:
    """As `lmmfast.simulate` documents it."""
    assumed = Parameters.read(params).of(design, engine.theta_entries(), family=family)
    count, streams = checked_count(n), Streams(seed)
    return _frame_of(GeneralizedSimulator.of_rows(design, assumed, family), design, streams, count)


def _frame_of(
    simulator: GeneralizedSimulator, design: Design, streams: Streams, count: int
) -> pd.DataFrame:
    """Draws for the rows of a design, with their labels."""
    import pandas as pd

    index = design.rows if design.index is None else design.index
    values = simulator.draw(streams, 0, count)
    return pd.DataFrame(values, index=index, columns=range(count))


def _assumed(fit: Fit, params: Any, re: str) -> Assumed:
    """The parameters that are assumed; those of the fit where nothing else is said."""
    given = Parameters.read(params)
    if re == "fixed" and (given.sd, given.corr, given.theta) != (None, None, None):
        raise ValueError('re="fixed" keeps the conditional modes: sd, corr and theta mean nothing')
    return given.of(fit.design, fit.model.theta_entries, fit.estimates, fit.family)
