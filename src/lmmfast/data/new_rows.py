"""New rows that come as columns of the design, not as variables: X, and levels and columns of each
random term."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError
from ..formula.cells import floats_of
from ..formula.column import Codes
from ..formula.expressions import Memory
from .columns import Table
from .design import Design
from .recipe import Matrix


class NewRows(Table):
    """Rows of a design by its columns: X (n, p); by term codes (n) and columns (n, k)."""

    def __init__(self, X: Matrix, terms: Sequence[tuple[Codes, Matrix]] | None) -> None:
        super().__init__({})
        self.X, self.terms, self.n = X, terms, len(X)


def rows_given(design: Design, newdata: Any, X: Any, Z: Any) -> Any:
    """The rows of ``predict(newdata, X=..., Z=...)``: data, or columns of the design, checked."""
    if X is None and Z is None:
        return newdata
    if newdata is not None:
        raise DataError("give newdata, or X and Z, not both: they are the same rows")
    if X is None:
        raise DataError("Z needs X, the fixed-effects columns of the same rows", variable="X")
    fixed = np.asfortranarray(floats_of(_in_order(X, design.x_names), "X"))
    if fixed.ndim != 2 or fixed.shape[1] != len(design.x_names):
        raise DataError(
            f"X has shape {fixed.shape}; the model has {len(design.x_names)} fixed-effects "
            f"columns, {', '.join(design.x_names[:5])}{' ...' * (len(design.x_names) > 5)}",
            variable="X",
        )
    if Z is None:
        return NewRows(fixed, None)
    given = list(Z)
    if len(given) != len(design.terms):
        raise DataError(
            f"Z has {len(given)} terms, the model has {len(design.terms)}: give (codes, columns) "
            "of each, in their order",
            variable="Z",
        )
    n = len(fixed)
    return NewRows(fixed, [_term(design, i, part, n) for i, part in enumerate(given)])


def _in_order(X: Any, names: Sequence[str]) -> Any:
    """Columns of a pandas frame with the names of the model's, in the model's order."""
    if not (hasattr(X, "iloc") and hasattr(X, "columns")):
        return X
    at = {str(name): j for j, name in enumerate(X.columns)}
    if at.keys() != {*names} or len(X.columns) != len(names):
        return X
    return X.iloc[:, [at[name] for name in names]]


def _term(design: Design, i: int, part: Any, n: int) -> tuple[Codes, Matrix]:
    term, name = design.terms[i], f"Z[{i}]"
    if not isinstance(part, Sequence) or len(part) != 2:
        raise DataError(f"{name} must be (codes, columns)", variable=name)
    codes = np.asarray(part[0])
    if codes.shape != (n,) or codes.dtype.kind not in "iu":
        raise DataError(f"{name}: codes must be {n} integers", variable=name)
    known = (codes >= 0) & (codes < len(term.levels))
    width = len(term.columns)
    z = np.ones((n, 1)) if part[1] is None else np.ascontiguousarray(floats_of(part[1], name))
    z = z[:, None] if z.ndim == 1 else z
    if z.shape != (n, width):
        raise DataError(f"{name}: columns have shape {z.shape}; they need ({n}, {width})")
    return np.where(known, codes, -1).astype(np.int32), z


@dataclass(frozen=True, eq=False)
class ArrayRecipe:
    """What `Recipe` is, for rows that are `NewRows`."""

    groups: tuple[str, ...]  # by random term
    offset: str | None
    offset_is_array: bool
    memory: Memory
    offset_terms: tuple[()] = ()

    @classmethod
    def of(cls, design: Design) -> ArrayRecipe:
        """That of a design."""
        groups = tuple(term.group for term in design.terms)
        return cls(groups, None, design.offset is not None, Memory(None, False))

    def fixed(self, newdata: NewRows) -> tuple[Matrix, None]:
        """X (n, p); an offset is never among them."""
        return newdata.X, None

    def random(
        self, newdata: NewRows, groups: Collection[str] | None = None
    ) -> list[tuple[Codes, Matrix]]:
        """Codes (n, -1: unseen) and columns (n, k) of the terms of some groups, or of all."""
        if newdata.terms is None:
            raise DataError(
                "random effects need Z, (codes, columns) of each random term; predictions without "
                'them need re_form="none"',
                variable="Z",
            )
        pairs = zip(self.groups, newdata.terms, strict=True)
        return [part for group, part in pairs if groups is None or group in groups]

    def random_columns(self, newdata: NewRows) -> list[Matrix]:
        """Columns (n, k) of every random term."""
        return [z for _, z in self.random(newdata)]

    def level_names(self, newdata: NewRows, group: str, rows: np.ndarray) -> list[str]:
        """Unseen levels have no names: one for each row."""
        return [f"row {row}" for row in rows]
