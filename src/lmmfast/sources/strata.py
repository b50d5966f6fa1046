"""Cross-products by strata of the rows, which differ in their residual standard deviations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..data.residual import Residual, RowDeviations
from ..data.residual_structure import check_strata
from ..data.rows import Part as Cells
from .archive import blocks_from, blocks_to
from .cross import CrossProducts
from .labels import Grouper
from .spec import Encoded, Spec


class StratifiedProducts(CrossProducts):
    """Cross-products of rows of one `Spec` whose roles have a dispersion, one for each stratum.

    Strata are found chunk by chunk. Their sum, which the base has, is made by `finish`.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        asked = spec.roles.strata
        assert asked is not None
        self._asked = asked
        self._stratum = Grouper(asked.label, asked.atoms)
        self._parts: list[Any] = []  # blocks of each stratum
        self._logs: list[float] = []  # sums of logarithms of weights

    def _add_blocks(self, encoded: Encoded, factors: list[Any]) -> tuple[Any, ...]:
        stratum, part = self._stratum, encoded.part
        factor = part.factors(stratum.label, stratum.atoms, self.spec.memory)
        codes = stratum.codes(factor)
        stratum.count(codes)
        self._grow()
        found = []
        for s in np.unique(codes).tolist():
            rows = np.flatnonzero(codes == s)
            weights = None if part.weights is None else part.weights[rows]
            fixed = [_of_rows(column, rows) for column in encoded.fixed]
            some = [
                (level[rows], m, [_of_rows(column, rows) for column in columns], owners)
                for level, m, columns, owners in factors
            ]
            own = self._parts[s].add(
                self.spec.compiled, encoded.response[rows], fixed, some, weights
            )
            self._logs[s] += own[3]
            found.append(own)
        columns, plain, responses, logs, low, high = zip(*found, strict=True)
        response = tuple(np.sum(responses, axis=0))
        return sum(columns), sum(plain), response, sum(logs), min(low), max(high)

    def _grow(self) -> None:
        """Room for all strata."""
        while len(self._parts) < len(self._stratum):
            self._parts.append(_core.Blocks(self.spec.widths, self.spec.border))
            self._logs.append(0.0)

    def _merge_blocks(
        self, other: CrossProducts, maps: list[NDArray[np.int32]], sizes: list[int], sign: int
    ) -> None:
        assert isinstance(other, StratifiedProducts)
        codes = self._stratum.unite(other._stratum, sign)
        self._grow()
        for s, blocks, logs in zip(codes.tolist(), other._parts, other._logs, strict=True):
            known = [own[:m] for own, m in zip(maps, blocks.nlev, strict=True)]
            self._parts[s].merge(blocks, known, sizes, float(sign))
            self._logs[s] += sign * logs

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles without compiled objects."""
        state = {k: v for k, v in self.__dict__.items() if k not in ("_blocks", "_parts")}
        blocks = [blocks_to(own, len(self._groups)) for own in (self._blocks, *self._parts)]
        return _restored, (self.spec, state, blocks)

    def finish(self) -> tuple[Residual, tuple[CrossProducts, ...]]:
        """Sums the strata; the structure of the rows, and each stratum's own cross-products.

        Raises
        ------
        DataError
            For one stratum, too many, or one with a single row.
        """
        grouping, order = self._stratum.grouping()
        counts = self._stratum.counts[order]
        check_strata(self._asked, grouping.levels, counts)
        sizes = [len(group) for group in self._groups]
        for s, blocks in enumerate(self._parts):
            maps = [np.arange(m, dtype=np.int32) for m in blocks.nlev]
            self._blocks.merge(blocks, maps, sizes)
            if blocks.nlev != sizes:  # levels that came after the last row of the stratum
                self._parts[s] = _core.Blocks(self.spec.widths, self.spec.border)
                self._parts[s].merge(blocks, maps, sizes)
        strata = tuple(
            self._alone(self._parts[s], int(n), self._logs[s]).settled()[0]
            for s, n in zip(order.tolist(), counts, strict=True)
        )
        return Residual(RowDeviations(self._asked, grouping, None, None), None, self.n), strata

    def _alone(self, blocks: Any, n: int, logs: float) -> CrossProducts:
        """The cross-products of one stratum, with the levels of all."""
        blocks.compact()
        made = object.__new__(CrossProducts)
        kept = {name: value for name, value in self.__dict__.items() if name not in _OWN}
        made.__dict__.update(kept | {"_blocks": blocks, "n": n, "_sumlogw": logs, "_shared": True})
        return made

    def plain(self) -> CrossProducts:
        """The sum alone."""
        made = object.__new__(CrossProducts)
        kept = {name: value for name, value in self.__dict__.items() if name not in _OWN}
        made.__dict__.update(kept)
        return made


def _restored(spec: Spec, state: dict[str, Any], blocks: list[Any]) -> StratifiedProducts:
    made = StratifiedProducts(spec)
    made.__dict__.update(state)
    made._blocks, *made._parts = (blocks_from(one, spec.widths, spec.border) for one in blocks)
    return made


def empty_products(spec: Spec) -> CrossProducts:
    """Of no rows: by strata, where the spec has some."""
    return CrossProducts(spec) if spec.roles.dispersion is None else StratifiedProducts(spec)


_OWN = ("_asked", "_stratum", "_parts", "_logs")


def _of_rows(column: tuple[Cells, ...], rows: NDArray[np.intp]) -> tuple[Cells, ...]:
    """Some rows of what a column is made of."""
    return tuple(
        (part[0][rows], part[1]) if isinstance(part, tuple) else part[rows] for part in column
    )
