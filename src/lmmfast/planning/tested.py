"""What a power analysis tests: a coefficient, a contrast, a term; and effects of other sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.encode import layout_of
from ..errors import DataError
from ..formula.terms import read_sum
from ..inference.hypotheses.estimable import effects_of
from ..inference.linear import hypothesis
from ..inference.selection.fixed_part import columns_of

if TYPE_CHECKING:
    from ..data.design import Design
    from ..inference.hypotheses.estimable import Effects

DEPENDENT = 1e-8  # singular value of columns of length one below which they depend on others
ZERO = 1e-12  # weights of a hypothesis that are rounding errors


@dataclass(frozen=True, eq=False)
class Tested:
    """A hypothesis L beta = q about the fixed effects, of independent rows."""

    label: str
    L: np.ndarray  # r x p
    q: np.ndarray  # r

    @classmethod
    def read(cls, given: Any, design: Design, kept: np.ndarray) -> Tested:
        """What `test` means in a design; kept (p): columns that are not dropped."""
        names = [str(name) for name in design.x_names]
        if isinstance(given, str) and given.lstrip().startswith("~"):
            L = _beyond(given, design, kept)
            return cls(f"the model against {given.strip()}", L, np.zeros(len(L)))._checked(
                kept, names
            )
        effects = _effects(design, kept)
        if given is None:
            given = _only(names, effects)
        term = _term(given, names, effects)
        if term is not None:
            assert effects is not None
            L = effects.hypothesis(term, 3)
            L = np.where(np.abs(L) > ZERO * np.abs(L).max(initial=1.0), L, 0.0)
            found = cls(effects.labels[term], L, np.zeros(len(L)))
        else:
            L, q, labels = hypothesis(given, names, "test")
            found = cls(", ".join(labels), L, q)
        return found._checked(kept, names)

    def _checked(self, kept: np.ndarray, names: Sequence[str]) -> Tested:
        lost = (self.L != 0).any(axis=0) & ~kept
        if lost.any() or not len(self.L):
            which = ", ".join(name for name, gone in zip(names, lost, strict=True) if gone)
            why = f": {which} depends on other columns" if which else ""
            raise DataError(f"{self.label!r} cannot be estimated in this design{why}")
        if np.linalg.matrix_rank(self.L) < len(self.L):
            raise ValueError(f"test: the rows of {self.label!r} depend on each other")
        return self

    @property
    def coefficient(self) -> int | None:
        """Its place where one coefficient alone is tested."""
        places = np.flatnonzero(self.L.any(axis=0))
        alone = len(self.L) == 1 and len(places) == 1 and self.L[0, places[0]] == 1
        return int(places[0]) if alone else None

    def effect(self, beta: np.ndarray) -> np.ndarray:
        """Distance from the hypothesis (r)."""
        return np.asarray(self.L @ beta - self.q)

    def moved(self, beta: np.ndarray, effect: float) -> np.ndarray:
        """beta (p) with this value of the tested coefficient."""
        place = self.coefficient
        if place is None:
            raise ValueError(
                f"effect= are values of one coefficient, and {self.label!r} is none: give scale=, "
                "multiples of the coefficients that are tested"
            )
        out = beta.copy()
        out[place] = effect
        return out

    def scaled(self, beta: np.ndarray, scale: float) -> np.ndarray:
        """beta (p) with all coefficients that have weight multiplied."""
        return np.where(self.L.any(axis=0), scale * beta, beta)


def _beyond(text: str, design: Design, kept: np.ndarray) -> np.ndarray:
    """(r, p) hypothesis that holds where a smaller fixed part, ``~ a + b``, is enough."""
    from scipy.linalg import qr

    recipe = design.recipe
    if recipe is None:
        raise ValueError("test: a model made from arrays has no terms")
    small = read_sum(text.lstrip().removeprefix("~"))
    known = [atom.label for atom in recipe.fixed_layout.atoms]
    for atom in small.atoms:
        if atom.label not in known:
            raise ValueError(
                f"test: {atom.label!r} is no variable of the fixed part, which has "
                f"{', '.join(dict.fromkeys(known))}"
            )
    X = design.X[:, kept]
    length = np.sqrt((X * X).sum(axis=0))
    unit, inner = X / length, columns_of(design, layout_of(small, recipe.codings)).values
    inner = inner / np.sqrt((inner * inner).sum(axis=0))
    basis = np.linalg.qr(unit)[0]
    if np.abs(inner - basis @ (basis.T @ inner)).max(initial=0.0) > DEPENDENT:
        raise ValueError(f"test: {text.strip()} is not part of the model's fixed part")
    left, values, _ = np.linalg.svd(inner, full_matrices=False)
    inside = left[:, values > DEPENDENT * values.max(initial=0.0)]
    _, values, right = np.linalg.svd(unit - inside @ (inside.T @ unit), full_matrices=False)
    rows = right[values > DEPENDENT]
    if not len(rows):
        raise ValueError(f"test: {text.strip()} is the whole fixed part: there is nothing to test")
    pivot = np.sort(qr(rows, pivoting=True, mode="r")[1][: len(rows)])
    rows = np.linalg.solve(rows[:, pivot], rows)
    rows = np.where(np.abs(rows) > DEPENDENT, rows, 0.0)
    L = np.zeros((len(rows), len(kept)))
    L[:, kept] = rows * length / length[pivot, None]
    return L


def _effects(design: Design, kept: np.ndarray) -> Effects | None:
    recipe = design.recipe
    if recipe is None:
        return None
    return effects_of(design.fixed, kept, recipe.fixed_layout, recipe.codings)


def _only(names: Sequence[str], effects: Effects | None) -> str:
    """The one thing that there is to test."""
    others = [name for name in names if name != "Intercept"] or list(names)
    if len(others) == 1:
        return others[0]
    terms = [] if effects is None else [label for label in effects.labels if label]
    if len(terms) == 1:
        return terms[0]
    more = [term for term in terms if term not in names]
    raise ValueError(
        f"say what is tested: test= one of the coefficients {', '.join(names)}"
        + (f", or of the terms {', '.join(more)}" if more else "")
    )


def _term(given: Any, names: Sequence[str], effects: Effects | None) -> int | None:
    """The term that is named, where no coefficient is."""
    if not isinstance(given, str) or effects is None or given in names:
        return None
    wanted = sorted(part.strip() for part in given.split(":"))
    for place, label in enumerate(effects.labels):
        if label and sorted(label.split(":")) == wanted:
            return place
    return None
