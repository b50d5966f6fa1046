"""CrossProducts: everything that a fit needs of some rows; those of other rows can be added."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..data.columns import Table
from ..data.grouping import Grouping
from ..data.rows import cell_counts
from ..errors import DataError
from ..formula.column import Column
from ..given import Data
from .archive import blocks_from, blocks_to, pack, unpack, write
from .blocks import reordered
from .labels import Grouper
from .open import source_of
from .part import Part, add_counts, part_of
from .source import Chunk, check_columns, located
from .spec import CHANGED, Encoded, Spec
from .totals import Totals


class CrossProducts(Totals):
    """Cross-products of the columns of a mixed model over some rows: all that a fit needs of them.

    Those of one `Spec` can be added and taken away, whatever levels their grouping factors have:
    chunks of a large file, parts that live on several machines, the rows of a new day. Several
    threads may read them at a time, one may change them.

    Parameters
    ----------
    spec : Spec
        Without rows; see `from_frame`.

    Attributes
    ----------
    spec : Spec
    n : int
        Rows used.
    n_rows : int
        Rows, those with a missing value included.
    dropped : dict of str to int
        Rows in which each variable is missing.
    nbytes : int
        Memory of the cross-products.

    Examples
    --------
    >>> import lmmfast
    >>> data = lmmfast.datasets.load("sleepstudy")
    >>> spec = lmmfast.Spec.from_data("Reaction ~ Days + (Days | Subject)", data)
    >>> most = lmmfast.CrossProducts.from_frame(data[:170], spec)
    >>> last = lmmfast.CrossProducts.from_frame(data[170:], spec)
    >>> (most + last).n, (most + last - last).n
    (180, 170)
    >>> lmmfast.lmer(most + last).converged
    True
    """

    # ---- making them -----------------------------------------------------------------------------

    @classmethod
    def from_frame(cls, frame: Data, spec: Spec) -> CrossProducts:
        """Cross-products of some rows.

        Parameters
        ----------
        frame : table, or source
            What `Spec.from_data` takes. New levels of grouping factors are welcome; predictors
            must have the levels of the spec.
        spec : Spec
            Levels of predictors and coordinates, of all rows that there will be.

        Returns
        -------
        CrossProducts

        Raises
        ------
        FormulaError, DataError
            What is wrong with the rows.
        """
        made = cls(spec)
        source = source_of(frame)
        check_columns(source, spec.plan, spec.roles)
        single = source.name == "the data"
        with closing(source.chunks(spec.names, spec.chunk_rows)) as chunks:
            for chunk in chunks:
                whole = single and not chunk.start
                with nullcontext() if whole else located(chunk.where, chunk.start):
                    made.add(chunk.table, where="" if single else chunk.where)
        return made

    def add(self, table: Table, grow: bool = True, where: str = "") -> None:
        """Add the rows of a table in place.

        Parameters
        ----------
        table : Table
            Rows in memory, as the spec reads them.
        grow : bool, default True
            Whether new levels of grouping factors are welcome.
        where : str, default ""
            Where the rows are from, for messages.

        Raises
        ------
        DataError
            For rows that the spec cannot encode.
        """
        encoded = self.spec.encode(table, "" if grow else CHANGED)
        if encoded is None:
            part = part_of(self.spec.plan, table, self.spec.roles)
            self._count_rows(part)
            return
        columns_read = self._variables_read(encoded.part)
        self._own_blocks()
        codes = self._codes(encoded.part, grow, where)
        spec, weights = self.spec, encoded.part.weights
        factors: list[Any] = [
            (own, len(group), [column for i in terms for column in encoded.random[i]], owners)
            for own, group, (_, terms), owners in zip(
                codes, self._groups, spec.factors, spec.owners, strict=True
            )
        ]
        with self._changing():
            columns, plain, response, logs, low, high = self._add_blocks(encoded, factors)
            for group, own in zip(self._groups, codes, strict=True):
                group.count(own)
            self._count_rows(encoded.part)
            self._columns = self._columns + columns
            self._response = self._response + np.array(response)
            if weights is not None:
                self._plain = self._plain + self._by_term(plain)
                self._sumlogw += logs
                self._weights = min(self._weights[0], low), max(self._weights[1], high)
            self._add_variables(columns_read, encoded.part.n)

    def _add_blocks(self, encoded: Encoded, factors: list[Any]) -> tuple[Any, ...]:
        """Adds encoded rows to the blocks; what `_core.Blocks.add` says of them."""
        rows = encoded.response, list(encoded.fixed), factors, encoded.part.weights
        found: tuple[Any, ...] = self._blocks.add(self.spec.compiled, *rows)
        return found

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """What is begun inside and does not end (memory, Ctrl-C) is not used any more."""
        blocks = self._blocks
        blocks.check()
        blocks.spoiled = True
        yield
        blocks.spoiled = False

    def _codes(self, part: Part, grow: bool, where: str) -> list[NDArray[np.int32]]:
        return [level_codes(self.spec, group, part, grow, where) for group in self._groups]

    def _by_term(self, plain: NDArray[np.float64]) -> NDArray[np.float64]:
        """X'X and Z'Z of each factor as X'X and Z'Z of each term, in one."""
        sizes = [self.spec.border - 1, *self.spec.widths]
        parts = np.split(plain, np.cumsum(np.square(sizes))[:-1])
        X, *Z = (part.reshape(k, k) for part, k in zip(parts, sizes, strict=True))
        return np.concatenate([X.ravel(), *(Z[f][cut, cut].ravel() for f, cut in self.spec.places)])

    def _count_rows(self, part: Part) -> None:
        self.n, self.n_rows = self.n + part.n, self.n_rows + part.n_rows
        add_counts(self.dropped, part.dropped)

    def _variables_read(self, part: Part) -> dict[str, Column]:
        """The columns of the variables that are counted."""
        columns = dict(part.columns)
        if part.offset_column is not None:
            columns[part.offset_column.name] = part.offset_column
        for name in self.spec.variables:
            if name not in columns:
                raise DataError(f"the rows have no column {name!r}, which the spec has")
        return columns

    def _add_variables(self, columns: dict[str, Column], n: int) -> None:
        """Sums of numbers and counts of combinations of levels, for grids."""
        numeric = [name for name, known in self.spec.variables.items() if known.numeric]
        values = (columns[name].values for name in numeric)
        sums = [0.0 if own is None else float(own.sum(dtype=float)) for own in values]
        self._sums = self._sums + np.array(sums)
        if self.spec.cells is not None:
            names, sizes = self.spec.cells
            places = [self.spec.variables[name].places for name in names]
            counts = cell_counts([columns[name] for name in names], places, sizes, n)
            self._cells = self._cells + counts

    # ---- arithmetic ------------------------------------------------------------------------------

    def copy(self) -> CrossProducts:
        """Copy the cross-products.

        Returns
        -------
        CrossProducts
            Of the same rows, and with memory of its own.
        """
        return type(self)(self.spec)._take(self, 1)

    def __add__(self, other: CrossProducts) -> CrossProducts:
        """Of the rows of both."""
        if not isinstance(other, CrossProducts):
            return NotImplemented
        return self.copy()._take(other, 1)

    def __radd__(self, other: int) -> CrossProducts:
        """sum() begins with zero."""
        if isinstance(other, int) and other == 0:
            return self.copy()
        return NotImplemented

    def __iadd__(self, other: CrossProducts) -> CrossProducts:
        """Adds rows in place."""
        if not isinstance(other, CrossProducts):
            return NotImplemented
        return self._take(other if other is not self else other.copy(), 1)

    def __sub__(self, other: CrossProducts) -> CrossProducts:
        """Without the rows of `other`, which must be among these."""
        if not isinstance(other, CrossProducts):
            return NotImplemented
        return self.copy()._take(other, -1)

    def _take(self, other: CrossProducts, sign: int) -> CrossProducts:
        """Adds (or takes away) the rows of another in place."""
        if self.spec is not other.spec and self.spec.key != other.spec.key:
            raise DataError(
                "cross-products of different specs cannot be added: make one spec, with "
                "Spec.from_data, and use it for all chunks"
            )
        self._own_blocks()
        groups = self._groups if sign > 0 else [group.copy() for group in self._groups]
        for own, theirs in zip(groups, other._groups, strict=True):
            own.compare(theirs)  # before anything changes
        if sign < 0:
            maps = _united(groups, other._groups, sign)
            self._check_removal(other, groups)
        held = np.maximum(self._largest, other._largest)
        if sign < 0:
            held = np.maximum(held, np.maximum(self._squared(), other._squared()))
        with self._changing():
            if sign > 0:
                maps = _united(groups, other._groups, sign)
            sizes = [len(group) for group in groups]
            self._merge_blocks(other, maps, sizes, sign)
            self._largest, self._groups = held, groups
            self._count(other, sign)
        return self

    def _merge_blocks(
        self, other: CrossProducts, maps: list[NDArray[np.int32]], sizes: list[int], sign: int
    ) -> None:
        """Adds (or takes away) the blocks of another, whose levels are here where maps say."""
        self._blocks.merge(other._blocks, maps, sizes, float(sign))

    def _count(self, other: CrossProducts, sign: int) -> None:
        """Adds (or takes away) all but the blocks and the levels."""
        self.n, self.n_rows = self.n + sign * other.n, self.n_rows + sign * other.n_rows
        counts = dict(self.dropped)
        add_counts(counts, {name: sign * count for name, count in other.dropped.items()})
        self.dropped = {name: count for name, count in counts.items() if count > 0}
        self._sumlogw += sign * other._sumlogw
        low, high = zip(self._weights, other._weights, strict=True)
        self._weights = min(low), max(high)
        self._response = self._response + sign * other._response
        self._sums = self._sums + sign * other._sums
        self._columns = self._columns + sign * other._columns
        self._plain = self._plain + sign * other._plain
        self._cells = self._cells + sign * other._cells

    def _own_blocks(self) -> None:
        """Before they change: blocks that a fit refers to stay as they are."""
        if not self._shared:
            return
        blocks = _core.Blocks(self.spec.widths, self.spec.border)
        maps = [np.arange(m, dtype=np.int32) for m in self._blocks.nlev]
        blocks.merge(self._blocks, maps, self._blocks.nlev)
        self._blocks, self._groups = blocks, [group.copy() for group in self._groups]
        self.dropped, self._shared = dict(self.dropped), False

    def _check_removal(self, other: CrossProducts, groups: list[Grouper]) -> None:
        for group in groups:
            group.check()
        cells = (self._cells - other._cells < 0).any()
        if other.n > self.n or other.n_rows > self.n_rows or cells:
            raise DataError(
                f"rows are removed that were never added ({other.n} rows are taken from {self.n})"
            )

    def __repr__(self) -> str:
        levels = ", ".join(f"{label} ({m})" for label, m in self.n_levels.items())
        formula = " ".join(self.spec.formula.split())
        return f"<CrossProducts {formula}: {self.n} rows, {levels}, {self.nbytes / 1e6:.3g} MB>"

    # ---- files -----------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """All there is, in a format of its own (an .npz archive with a header in JSON, no pickle).

        Returns
        -------
        bytes
            For `from_bytes`.

        Raises
        ------
        DataError
            When levels are neither numbers, text, booleans nor dates.
        """
        return pack(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> CrossProducts:
        """What `to_bytes` made.

        Parameters
        ----------
        data : bytes
            Of `to_bytes`.

        Returns
        -------
        CrossProducts
            As they were.

        Raises
        ------
        DataError
            When these are not such bytes, are damaged, or of a later version.
        """
        return unpack(data, "the bytes", cls)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a file, whole or not at all.

        Parameters
        ----------
        path : str or path
            An existing file is replaced.

        Raises
        ------
        OSError
            When it cannot be written; nothing half-written is left.
        """
        write(self.to_bytes(), Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CrossProducts:
        """What `save` wrote.

        Parameters
        ----------
        path : str or path
            File of `save`.

        Returns
        -------
        CrossProducts
            As they were.

        Raises
        ------
        DataError
            When it is no such file, is damaged, or of a later version.
        """
        return unpack(Path(path).read_bytes(), repr(str(path)), cls)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles without the compiled object."""
        state = {name: value for name, value in self.__dict__.items() if name != "_blocks"}
        return _restored, (self.spec, state, blocks_to(self._blocks, len(self._groups)))

    # ---- for the model ---------------------------------------------------------------------------

    def settled(self) -> tuple[CrossProducts, list[Grouping]]:
        """Levels that have rows, in the order of data in memory; and the grouping factors."""
        if self.n <= 0:
            raise DataError("there are no rows in the cross-products")
        found = [group.grouping() for group in self._groups]
        orders = [order for _, order in found]
        if all(
            len(order) == len(group) and (order == np.arange(len(order))).all()
            for order, group in zip(orders, self._groups, strict=True)
        ):
            self._shared = True
            made = object.__new__(CrossProducts)
            made.__dict__.update(self.__dict__)
            return made, [grouping for grouping, _ in found]
        made = CrossProducts(self.spec)
        state = {k: v for k, v in self.__dict__.items() if k not in ("_blocks", "_groups")}
        made.__dict__.update(state | {"dropped": dict(self.dropped), "_shared": False})
        pairs = zip(self._groups, orders, strict=True)
        made._groups = [group.arranged(order) for group, order in pairs]
        made._blocks = reordered(self._blocks, self.spec.widths, self.spec.border, orders)
        return made, [grouping for grouping, _ in found]


def _united(groups: list[Grouper], others: list[Grouper], sign: int) -> list[NDArray[np.int32]]:
    """Takes in the levels of others; their numbers here, by factor."""
    return [own.unite(theirs, sign) for own, theirs in zip(groups, others, strict=True)]


def _restored(spec: Spec, state: dict[str, Any], blocks: Any) -> CrossProducts:
    made = CrossProducts(spec)
    made.__dict__.update(state)
    made._blocks = blocks_from(blocks, spec.widths, spec.border)
    return made


def emptied(group: Grouper) -> Grouper:
    """A grouping factor with its levels in final order, and no rows yet."""
    made = group.arranged(group.grouping()[1])
    made.counts = np.zeros(len(made), dtype=np.int64)
    return made


def level_codes(
    spec: Spec, group: Grouper, part: Part, grow: bool = False, where: str = ""
) -> NDArray[np.int32]:
    """Level of a grouping factor of each row (n); an error for new ones unless these may come."""
    factors = part.factors(group.label, group.atoms, spec.memory)
    codes = group.codes(factors, grow, where)
    if not grow and (codes < 0).any():
        bad = np.flatnonzero(codes < 0)
        labels = dict.fromkeys(
            repr(":".join(str(f.levels[f.codes[row]]) for f in factors)) for row in bad[:100]
        )
        raise DataError(
            f"{group.label!r} has levels that were not there in the first pass, such as "
            f"{', '.join(list(labels)[:3])}{CHANGED}",
            variable=group.label,
            rows=part.rows[bad][:10].tolist(),
        )
    return codes


def cross_products(
    spec: Spec,
    chunks: Iterable[Chunk],
    groups: Iterable[Grouper],
    made: CrossProducts | None = None,
) -> CrossProducts:
    """The second pass: cross-products with the levels of these grouping factors, in final order;
    made: empty ones of the spec."""
    made = CrossProducts(spec) if made is None else made
    made._groups = [emptied(group) for group in groups]
    for chunk in chunks:
        with located(chunk.where, chunk.start):
            made.add(chunk.table, grow=False)
    return made
