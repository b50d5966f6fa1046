"""Totals: what is summed over rows, by levels, and what it says; the base of `CrossProducts`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..errors import DataError, LmmWarning, warn
from .blocks import cholesky
from .labels import Grouper
from .spec import Spec

NO_DIGITS, SOME_DIGITS = 1e-9, 1e-6  # see `Totals.check_digits`
ROUNDED, LATE = 1e-13, 1e-8  # see `Totals.note_late_columns`


class Totals:
    """Sums over rows, none at first; `CrossProducts` has its arguments and attributes."""

    def __init__(self, spec: Spec) -> None:
        if not isinstance(spec, Spec):
            raise TypeError(f"cross-products need a Spec, not a {type(spec).__name__}")
        if spec.coordinates is None:
            raise DataError("the spec has no coordinates: make it with Spec.from_data")
        self.spec = spec
        self.n = self.n_rows = 0
        self.dropped: dict[str, int] = {}
        bars = [bar.factor for bar in spec.plan.formula.random]
        groups = dict(zip(bars, spec.plan.groups, strict=True))
        self._groups = [Grouper(label, groups[label]) for label, _ in spec.factors]
        self._blocks = _core.Blocks(spec.widths, spec.border)
        self._sumlogw = 0.0
        self._weights = (np.inf, -np.inf)  # lowest and highest
        self._response = np.zeros(2)  # sums of the response, nearly centred, and of its squares
        numeric = [name for name, known in spec.variables.items() if known.numeric]
        self._sums = np.zeros(len(numeric))
        cells = spec.cells
        size = 0 if cells is None else int(np.prod(cells[1], dtype=int))
        self._cells = np.zeros(size, dtype=np.int64)
        # without weights, in the coordinates: sums of X's columns, and X'X and Z'Z if there are any
        p, square = spec.border - 1, [len(layout.names) ** 2 for layout in spec.random]
        self._shared = False  # whether a fit refers to the same blocks
        # of squares of [z of each factor | X | y], before rows were taken away; 0: none were
        self._largest = np.zeros(sum(spec.widths) + spec.border)
        self._columns = np.zeros(p)
        self._plain = np.zeros(p * p + sum(square) if spec.weights else 0)

    @property
    def nbytes(self) -> int:
        """Memory of the cross-products (bytes)."""
        return int(self._blocks.nbytes)

    @property
    def n_levels(self) -> dict[str, int]:
        """Levels of each grouping factor that have rows."""
        return {group.label: int((group.counts > 0).sum()) for group in self._groups}

    def mean(self, name: str) -> float:
        """Mean of a numeric variable of the fixed part of the rows used; NaN where some lack it."""
        numeric = [own for own, known in self.spec.variables.items() if known.numeric]
        return float(self._sums[numeric.index(name)] / self.n)

    def frequencies(self) -> tuple[tuple[str, ...], NDArray[np.int64]] | None:
        """Variables with few values, and the rows in each combination of them (their sizes)."""
        cells = self.spec.cells
        return None if cells is None else (cells[0], self._cells.reshape(cells[1]))

    def second_moments(self) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        """X'X and Z'Z of each random term over the rows, without weights, in the coordinates."""
        p, widths = self.spec.border - 1, [len(layout.names) for layout in self.spec.random]
        if self.spec.weights:
            parts = np.split(self._plain, np.cumsum(np.square([p, *widths]))[:-1])
            X, *Z = (part.reshape(k, k) for part, k in zip(parts, [p, *widths], strict=True))
            return X, Z
        totals = [self._blocks.diagonal(f).sum(axis=0) for f in range(len(self._groups))]
        return self._blocks.corner[:p, :p], [totals[f][cut, cut] for f, cut in self.spec.places]

    # ---- digits ----------------------------------------------------------------------------------

    def _squared(self) -> NDArray[np.float64]:
        """Sums of squares of [z of each factor | X | y], in the coordinates, as they are now."""
        if not self.n:
            return np.zeros_like(self._largest)
        blocks, K = self._blocks, range(len(self._groups))
        totals = [np.einsum("mii->i", blocks.diagonal(f)) for f in K]
        return np.concatenate([*totals, np.diagonal(blocks.corner)])

    def check_digits(self) -> None:
        """Taking rows away must have left digits enough; where some are lost, that is a warning.

        A sum of squares that was A and is B has a relative error of about 1e-15 A / B (measured:
        sums of doubles keep the rounding of their largest values). Below B / A = 1e-9 that is more
        than 1e-6, which shows in what is fitted: an error. Below 1e-6 it shows in the ninth digit.
        """
        if not self._largest.any() or self.n <= 0:
            return
        left, held = self._squared(), self._largest
        share = np.where((held > 0) & (left != 0), left / np.where(held > 0, held, 1.0), 1.0)
        worst = int(np.argmin(share))
        if share[worst] >= SOME_DIGITS:
            return
        message = (
            f"digits are lost by taking away rows: of {self._column(worst)} the rows that stay are "
            f"{share[worst]:.1e} of the sum of squares that there was; build the cross-products "
            "anew from the rows that stay"
        )
        if share[worst] < NO_DIGITS:
            raise DataError(message)
        warn(LmmWarning(message))

    def note_late_columns(self) -> None:
        """Warns of fixed effects that are nearly combinations of others, unseen in the sample.

        In good coordinates the columns are nearly orthogonal. What is left of one, beside the
        others, has a relative error of 1e-16 over its share; shares of rounding are dropped later.
        """
        G = self._blocks.corner[:-1, :-1]
        size = np.sqrt(np.where(G.diagonal() > 0, G.diagonal(), 1.0))
        share = np.square(cholesky(G / np.outer(size, size)).diagonal())
        for j in np.flatnonzero((share > ROUNDED) & (share < LATE)):
            warn(
                LmmWarning(
                    f"the fixed effect {self.spec.fixed.names[j]} is nearly a combination of the "
                    "columns before it, and the first rows, which coordinates are learned from, "
                    f"do not tell it from one: its digits are lost (about {1e-16 / share[j]:.0e} "
                    "is left as error). Give the rows in another order, or make the spec of rows "
                    "that tell them apart"
                )
            )

    def _column(self, j: int) -> str:
        """What column j of [z of each factor | X | y] is, for messages."""
        spec = self.spec
        names = [
            f"the column {name} of ({spec.plan.formula.random[i].label})"
            for _, terms in spec.factors
            for i in terms
            for name in spec.random[i].names
        ]
        names += [f"the fixed effect {name}" for name in spec.fixed.names]
        return [*names, f"the response {spec.plan.formula.response}"][j]
