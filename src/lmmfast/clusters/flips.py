"""Sign flips: the same model of data without an effect, whose random effects change signs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..data.design import Design
from ..data.rows import Rows
from ..engine.estimates import Estimates
from ..engine.model import Model
from ..errors import DataError, LmmError, LmmWarning
from ..many.draws import reflated
from ..many.streams import Shared
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LmmWarning)
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
    """The conditional modes and residuals of every point; zero where there is no fit.

    They are centred and scaled to the estimated covariances, for modes are shrunken (Carpenter,
    Goldstein and Rasbash 2003, *JRSS C* 52).
    """
    if np.isnan(Y).any():
        raise DataError(
            "Y has missing values: permute='signs' needs every row at every point", variable="Y"
        )
    design, count = model.design, Y.shape[1]
    order: dict[int, list[int]] = {}
    for i, term in enumerate(design.terms):
        order.setdefault(id(term.codes), []).append(i)
    modes = [np.zeros((len(term.levels), len(term.columns), count)) for term in design.terms]
    residuals = np.zeros(Y.shape)
    for t in np.flatnonzero(known).tolist():
        _fill(modes, residuals, t, model, Y[:, t], reml)
    return Effects(
        [design.terms[own[0]].codes for own in order.values()],
        [[(design.terms[i].z, modes[i]) for i in own] for own in order.values()],
        residuals,
    )


def _fill(
    modes: list[np.ndarray], residuals: np.ndarray, t: int, model: Model, y: np.ndarray, reml: bool
) -> None:
    """One point's."""
    design = model.design
    own = design.rows_for("sign flips need the rows")
    sums = Rows(y, own.weights, None, own.positions, own.index)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LmmWarning)
            found = model.again(sums, reml=reml, start=None)
    except LmmError:
        return
    for made, b, T in zip(modes, found.b, found.T, strict=True):
        made[:, :, t] = reflated(b, found.sigma * T)
    residuals[:, t] = _residuals(design, found, y)


def _residuals(design: Design, found: Estimates, y: np.ndarray) -> np.ndarray:
    """With the estimated variance."""
    e = y - design.fixed.times(np.nan_to_num(found.beta, nan=0.0))
    for term, b in zip(design.terms, found.b, strict=True):
        e = e - np.einsum("ij,ij->i", term.z, b[term.codes])
    root = 1.0 if design.weights is None else np.sqrt(design.weights)
    e = (e * root) - np.mean(e * root)
    size = np.sqrt(np.mean(e * e))
    return np.asarray(e * (found.sigma / size) / root) if size > 0 else np.zeros_like(e)
