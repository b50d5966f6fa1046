"""Sign flips: the same model of data without an effect, whose random effects change signs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..data.design import Design
from ..data.rows import Rows
from ..engine.estimates import Estimates
from ..engine.model import Model
from ..errors import LmmError, silenced
from ..many.run import patterns, restricted
from ..many.streams import Shared
from ..resampling.draws import reflated
from ..tables import joined
from .null import Null
from .points import Permuted, Points, points_of


class Effects(NamedTuple):
    """What responses are made of besides the fixed effects, at T points."""

    codes: list[np.ndarray]  # of each grouping factor (n)
    terms: list[list[tuple[np.ndarray, np.ndarray]]]  # columns (n, k) and modes (m, k, T) of each
    residuals: np.ndarray  # (n, T)


@dataclass(eq=False)
class Flips(Null):
    """The design as it is, and data whose random effects and residuals change signs."""

    effects: Effects

    @property
    def words(self) -> str:
        groups = dict.fromkeys(term.group for term in self.design.terms)
        return f"signs of the effects of {joined(list(groups))}, and of residuals, are flipped"

    def begin(self) -> tuple[Shared, Model]:
        """The random numbers of a thread, and its model."""
        with silenced():
            return self.streams.shared(), Permuted(self.design, storage=self.storage)

    def fits(self, number: int, state: tuple[Shared, Model]) -> Points:
        generators, model = state
        return points_of(model, flipped(self.effects, generators.at(number)), self.want)

    def facts(self) -> tuple[Any, ...]:
        return ()


def flipped(effects: Effects, rng: np.random.Generator) -> np.ndarray:
    """(n, T): every level of a factor, and every row, has one sign for all of its terms and points.

    Nothing is said of fixed effects: estimates of the tested ones are around zero then, and
    variances do not depend on the others.
    """
    made = _signs(rng, len(effects.residuals))[:, None] * effects.residuals
    for codes, terms in zip(effects.codes, effects.terms, strict=True):
        signs = _signs(rng, len(terms[0][1]))[:, None]
        for z, modes in terms:
            for j in range(z.shape[1]):
                made += z[:, j, None] * (signs * modes[:, j])[codes]
    return np.asfortranarray(made)


def _signs(rng: np.random.Generator, count: int) -> np.ndarray:
    return 2.0 * rng.integers(0, 2, count) - 1.0


def effects_of(model: Model, Y: np.ndarray, known: np.ndarray, reml: bool) -> Effects:
    """The conditional modes and residuals of every point; zero where there is no fit, and residuals
    missing where values are.

    They are centred and scaled to the estimated covariances, for modes are shrunken (Carpenter,
    Goldstein and Rasbash 2003, *JRSS C* 52).
    """
    terms, count = model.design.terms, Y.shape[1]
    order: dict[int, list[int]] = {}
    for i, term in enumerate(terms):
        order.setdefault(id(term.codes), []).append(i)
    modes = [np.zeros((len(term.levels), len(term.columns), count)) for term in terms]
    residuals = np.where(np.isnan(Y), np.nan, 0.0)
    with silenced():
        for rows, points in _patterns(~np.isnan(Y), known):
            own = model if len(rows) == len(Y) else Permuted(restricted(model.design, rows))
            levels = [np.unique(term.codes[rows]) for term in terms]
            for t in points:
                found = _estimates(own, Y[rows, t], reml)
                if found is None:
                    continue
                for made, at, b, T in zip(modes, levels, found.b, found.T, strict=True):
                    made[at, :, t] = reflated(b, found.sigma * T)
                residuals[rows, t] = _residuals(own.design, found, Y[rows, t])
    return Effects(
        [terms[own[0]].codes for own in order.values()],
        [[(terms[i].z, modes[i]) for i in own] for own in order.values()],
        residuals,
    )


def _patterns(has: np.ndarray, known: np.ndarray) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Rows, and the points that have values in these alone."""
    points = np.flatnonzero(known)
    for own in patterns(~has[:, points]):
        yield np.flatnonzero(has[:, points[own[0]]]), points[own].tolist()


def _estimates(model: Model, y: np.ndarray, reml: bool) -> Estimates | None:
    """The fit of a response; None where there is none."""
    own = model.design.rows_for("sign flips need the rows")
    try:
        sums = Rows(y, own.weights, None, own.positions, own.index)
        return model.again(sums, reml=reml, start=None)
    except LmmError:
        return None


def _residuals(design: Design, found: Estimates, y: np.ndarray) -> np.ndarray:
    """With the estimated variance."""
    e = y - design.fixed.times(np.nan_to_num(found.beta, nan=0.0))
    for term, b in zip(design.terms, found.b, strict=True):
        e = e - np.einsum("ij,ij->i", term.z, b[term.codes])
    root = 1.0 if design.weights is None else np.sqrt(design.weights)
    e = (e * root) - np.mean(e * root)
    size = np.sqrt(np.mean(e * e))
    return np.asarray(e * (found.sigma / size) / root) if size > 0 else np.zeros_like(e)
