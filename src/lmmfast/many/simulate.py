"""Responses drawn from a model: its random effects, its residuals, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.columns import Table
from ..data.members import Members, flat, gathered
from ..data.membership import not_seen
from ..data.relationship import not_related, refuse_moving
from ..data.residual import Residual
from ..data.residual_structure import subjects_of_new
from ..engine.relations import draws
from ..errors import DataError, FitError
from ..inference.ddf import check_choice
from ..inference.rows.predict import new_fixed, random_part, recipe_of, values_for
from .job import checked_count
from .parameters import Assumed, Parameters
from .streams import Shared, Streams

if TYPE_CHECKING:
    import pandas as pd

    from ..data.design import Design
    from ..data.recipe import Recipe
    from ..data.relationship import Relation
    from ..engine.compiled import Engine
    from ..fit import Fit

NUMBERS = 2_000_000  # random effects and rows that are held at a time, at most


@dataclass(frozen=True, eq=False)
class Part:
    """A random term in some rows."""

    codes: np.ndarray | Members  # n
    z: np.ndarray  # n x k
    factor: np.ndarray  # k x k  effects of a level = factor times independent normal numbers
    levels: int
    relation: Relation | None = None  # of the levels; None: they are independent


@dataclass(frozen=True, eq=False)
class Simulator:
    """Draws responses: mean + sum_terms Z b + e, b and e normal.

    No number depends on which replicates are drawn together: sums are taken in one order.
    """

    mean: np.ndarray  # n
    parts: tuple[Part, ...]
    residual: np.ndarray  # n  standard deviations

    @classmethod
    def of_design(cls, design: Design, assumed: Assumed, delta: Any = None) -> Simulator:
        """For the rows of a design, offsets not added. delta: of its residual structure.

        Raises
        ------
        FitError
            When the design has a residual structure and delta is not given.
        """
        if design.residual is not None and delta is None:
            raise FitError(
                "responses cannot be drawn here for a model with a residual structure "
                "(dispersion=, residual=): see fit.simulate()"
            )
        refuse_moving(design.terms, "a simulation")
        rows = design.rows_for("simulated responses need the rows")
        parts = [
            Part(term.incidence, term.z, factor, len(term.levels), term.relation)
            for term, factor in zip(design.terms, assumed.factors, strict=True)
        ]
        residual = np.full(rows.n, assumed.sigma)
        if rows.weights is not None:
            residual /= np.sqrt(rows.weights)
        mean = design.fixed.times(assumed.beta)
        if design.residual is None:
            return cls(mean, tuple(parts), residual)
        own = design.residual
        residual *= own.deviation(delta)
        return Correlated(mean, tuple(parts), residual, own, np.asarray(delta))

    def with_modes(self, modes: Sequence[np.ndarray]) -> Simulator:
        """The random effects given, (m, k) of each term, in place of new ones."""
        mean = self.mean.copy()
        for part, b in zip(self.parts, modes, strict=True):
            mean += np.einsum("ij,ij->i", part.z, gathered(part.codes, b))
        return replace(self, mean=mean, parts=())

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.mean)

    def facts(self) -> tuple[Any, ...]:
        """What draws depend on besides the random numbers, for a checkpoint."""
        parts = [(flat(part.codes), part.z, part.factor, part.levels) for part in self.parts]
        related = [part.relation.arrays()[:3] for part in self.parts if part.relation is not None]
        return self.mean, parts, self.residual, *related

    def draw(self, streams: Streams, first: int, stop: int) -> np.ndarray:
        """Replicates first .. stop - 1 as columns (n, stop - first), in Fortran order."""
        out = np.empty((stop - first, self.n))
        effects = sum(part.levels * len(part.factor) for part in self.parts)
        step = max(1, NUMBERS // max(1, effects + self.n))
        shared = streams.shared()
        for a in range(first, stop, step):
            b = min(a + step, stop)
            self._draw_some(shared, a, effects, out[a - first : b - first])
        return out.T

    def _correlate(self, out: np.ndarray) -> None:
        """Independent residuals (r, n) of variance one stay so."""

    def _draw_some(self, shared: Shared, first: int, effects: int, out: np.ndarray) -> None:
        normal = np.empty((len(out), effects))
        for i in range(len(out)):
            generator = shared.at(first + i)
            generator.standard_normal(out=normal[i])
            generator.standard_normal(out=out[i])
        self._correlate(out)
        out *= self.residual
        out += self.mean
        at = 0
        for part in self.parts:
            k = len(part.factor)
            size = part.levels * k
            own = normal[:, at : at + size].reshape(len(out), k, part.levels)
            at += size
            if part.relation is not None:  # one by one: no number depends on the others
                own = np.stack([draws(part.relation, one) for one in own])
            for j in range(k):
                b = _row_times(part.factor[j], own)
                if b is not None:
                    if isinstance(part.codes, Members):
                        out += part.z[:, j] * part.codes.gathered(b.T).T
                    else:
                        out += part.z[:, j] * b[:, part.codes]


@dataclass(frozen=True, eq=False)
class Correlated(Simulator):
    """Draws responses whose residuals have a structure."""

    structure: Residual
    delta: np.ndarray  # its parameters

    def facts(self) -> tuple[Any, ...]:
        return (*super().facts(), *self.structure.facts(), self.delta)

    def _correlate(self, out: np.ndarray) -> None:
        out[:] = self.structure.correlate(self.delta, out.T).T


def _row_times(row: np.ndarray, normal: np.ndarray) -> np.ndarray | None:
    """Sum of row[j] normal[:, j], None where the row is zero."""
    total = None
    for weight, own in zip(row, normal.swapaxes(0, 1), strict=True):
        if weight != 0:
            total = weight * own if total is None else total + weight * own
    return total


# ---- fit.simulate --------------------------------------------------------------------------------


def simulate_design(design: Design, engine: Engine, params: Any, n: int, seed: Any) -> pd.DataFrame:
    """As `lmmfast.simulate` documents it."""
    assumed = Parameters.read(params).of(design, engine.theta_entries())
    count, streams = checked_count(n), Streams(seed)
    return _frame_of(Simulator.of_design(design, assumed), design, streams, count)


def _frame_of(simulator: Simulator, design: Design, streams: Streams, count: int) -> pd.DataFrame:
    """Draws for the rows of a design, with their labels and offsets."""
    import pandas as pd

    values = simulator.draw(streams, 0, count)
    if design.offset is not None:
        values += design.offset[:, None]
    index = design.rows if design.index is None else design.index
    return pd.DataFrame(values, index=index, columns=range(count))


def simulate(fit: Fit, n: int, seed: Any, re: str, params: Any, newdata: Any) -> pd.DataFrame:
    """As ``Fit.simulate`` documents it."""
    import pandas as pd

    check_choice("re", re, ("new", "fixed"))
    count = checked_count(n)
    streams = Streams(seed)
    given = Parameters.read(params)
    assumed = given.of(fit.design, fit.model.theta_entries, fit.estimates)
    if re == "fixed" and (given.sd, given.corr, given.theta) != (None, None, None):
        raise ValueError('re="fixed" keeps the conditional modes: sd, corr and theta mean nothing')
    if newdata is None:
        simulator = Simulator.of_design(fit.design, assumed, fit.estimates.delta)
        if re == "fixed":
            simulator = simulator.with_modes(fit.estimates.b)
        return _frame_of(simulator, fit.design, streams, count)
    table = Table.of(newdata)
    found = of_new_rows(fit, table, assumed, re == "fixed")
    residual = _residual_of(fit.design, recipe_of(fit), table, assumed.sigma)
    if fit.design.residual is not None:
        own, delta, memory = fit.design.residual, fit.estimates.delta, recipe_of(fit).memory
        assert delta is not None
        residual = residual * own.new_deviation(delta, table, memory)
        if own.subjects is not None:
            subjects = subjects_of_new(own.subjects, table, memory)
            structure, rest = Residual(None, subjects, table.n), delta[-subjects.count :]
            found = Correlated(found.mean, found.parts, residual, structure, rest)
    values = replace(found, residual=residual).draw(streams, 0, count)
    return pd.DataFrame(values, index=table.index, columns=range(count))


def drawn(fit: Fit, n: int, seed: int) -> Iterator[np.ndarray]:
    """The responses of ``fit.simulate(n, seed)``, one at a time."""
    own = fit.estimates
    assumed = Parameters().of(fit.design, fit.model.theta_entries, own)
    simulator, streams = Simulator.of_design(fit.design, assumed, own.delta), Streams(seed)
    offset = 0.0 if fit.design.offset is None else fit.design.offset
    for i in range(n):
        yield simulator.draw(streams, i, i + 1)[:, 0] + offset


def of_new_rows(fit: Fit, table: Table, assumed: Assumed, given: bool) -> Simulator:
    """For new data, without residuals: levels that the fit has not seen get new effects."""
    design, recipe = fit.design, recipe_of(fit)
    beta = np.where(fit.estimates.fixed_kept, assumed.beta, np.nan)
    mean = new_fixed(fit.remade(replace(fit.estimates, beta=beta)), table, None)
    parts, bad = [], np.isnan(mean)
    for i, (term, (codes, z)) in enumerate(zip(design.terms, recipe.random(table), strict=True)):
        bad |= np.isnan(z).any(axis=1)
        own = codes
        unknown = codes.unknown if isinstance(codes, Members) else codes < 0
        if unknown.any() and isinstance(codes, Members):
            names = recipe.level_names(table, term.group, np.flatnonzero(unknown))
            raise not_seen(term.group, names)
        if term.relation is None and not isinstance(codes, Members):
            own = _with_unseen(recipe, table, term.group, codes, len(term.levels))
        elif unknown.any():
            names = recipe.level_names(table, term.group, np.flatnonzero(unknown))
            raise not_related(term.group, names)
        if given:
            mean[~unknown] += random_part(codes[~unknown], z[~unknown], fit.estimates.b[i])
            z = np.where(unknown[:, None], z, 0.0)
        levels = len(term.levels)
        if term.relation is None and not isinstance(own, Members):
            levels = int(own.max(initial=0)) + 1
        parts.append(Part(own, z, assumed.factors[i], levels, term.relation))
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} rows of newdata cannot be simulated: a variable is missing there, "
            "or the data of the fit say nothing about them",
            rows=np.flatnonzero(bad)[:10].tolist(),
        )
    return Simulator(mean, tuple(parts), np.zeros(table.n))


def _with_unseen(
    recipe: Recipe, table: Table, group: str, codes: np.ndarray, known: int
) -> np.ndarray:
    """Codes of all levels, those that the fit has not seen after those that it has."""
    unseen = np.flatnonzero(codes < 0)
    if not len(unseen):
        return codes
    whole = codes.copy()
    names = recipe.level_names(table, group, unseen)
    whole[unseen] = known + np.unique(names, return_inverse=True)[1].ravel()
    return whole


def _residual_of(design: Design, recipe: Recipe, table: Table, sigma: float) -> np.ndarray:
    """Standard deviations of the residuals of new rows."""
    residual = np.full(table.n, sigma)
    if recipe.weights is not None:
        residual /= np.sqrt(values_for(recipe.weights, table, "weights", table.n))
    elif design.sums.is_weighted:
        raise DataError(
            "the model was fitted with an array as weights=, which new data do not carry: fit it "
            "with a column's name as weights",
            variable="weights",
        )
    return residual
