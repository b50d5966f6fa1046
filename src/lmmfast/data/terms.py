"""One random term of a model: names, levels, and columns wherever they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FitError
from ..formula.column import Codes
from ..freeze import Frozen
from .members import Members
from .relationship import Relation
from .rows import Part, RowColumns
from .sums import Columns

if TYPE_CHECKING:
    from .structures import Structure

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RandomTerm(Frozen, arrays=("levels",)):
    """One random-effects term: k columns for each of m levels."""

    label: str  # "1 + Days | Subject"
    group: str  # grouping factor: "Subject", "school:class"
    columns: tuple[str, ...]  # k names: ("Intercept", "Days")
    levels: NDArray[Any]  # m labels, read-only
    structure: str  # "full" or "diag": whether its columns are correlated
    source: Columns  # where its columns are
    covariance: Structure | None = None  # what it is made of; then `structure` is "full"
    relation: Relation | None = None  # of its levels; None: they are independent

    @property
    def term(self) -> str:
        """The term in parentheses, or in the call that names its structure."""
        return self.label if self.covariance is not None else f"({self.label})"

    @classmethod
    def of_rows(
        cls,
        label: str,
        group: str,
        columns: tuple[str, ...],
        codes: Codes | Members,
        levels: NDArray[Any],
        z: Matrix | tuple[tuple[Part, ...], ...],
        structure: str,
        covariance: Structure | None = None,
        relation: Relation | None = None,
    ) -> RandomTerm:
        """A term in memory, of a matrix (n, k) or of the parts of its columns; terms that share the
        array ``codes`` share a grouping factor."""
        if isinstance(z, tuple):
            source = RowColumns.of_parts(len(codes), z, codes)
        else:
            source = RowColumns(z, codes)
        return cls(label, group, columns, levels, structure, source, covariance, relation)

    @property
    def labels(self) -> NDArray[Any]:
        """Labels of all levels: of `levels`, and of those whose effects are sums of theirs."""
        return self.levels if self.relation is None else self.relation.labels

    def shown(self, b: Matrix) -> Matrix:
        """Effects of all levels (q, k) from those of `levels` (m, k)."""
        rest = None if self.relation is None else self.relation.dependent
        return b if rest is None else np.concatenate([b, rest.shares() @ b])

    @property
    def several(self) -> bool:
        """Whether rows have several levels of the factor."""
        return isinstance(self.source.incidence, Members)

    @property
    def incidence(self) -> Codes | Members:
        """Level, or levels, of each row; an error where rows are not in memory."""
        return self.codes if self.source.incidence is None else self.source.incidence

    @property
    def codes(self) -> Codes:
        """Level of each row (n), 0-based, all used unless levels are related; an error where rows
        are not in memory, or have several."""
        if self.several:
            raise FitError(
                f"rows have several levels of {self.group}: this is not available, for it takes "
                "the one level that each row has",
                variable=self.group,
                term=self.label,
            )
        return self.source.codes

    @property
    def z(self) -> Matrix:
        """The columns (n, k), C-contiguous; an error where rows are not in memory."""
        return self.source.values

    def chosen(self, columns: Sequence[int], **changes: Any) -> RandomTerm:
        """Some of its columns, in this order; other fields as given."""
        names = tuple(self.columns[j] for j in columns)
        fields: dict[str, Any] = {"columns": names, "source": self.source.chosen(columns)}
        if self.covariance is not None:
            fields["covariance"] = self.covariance.with_columns(columns)
        return replace(self, **fields | changes)

    def with_rows(self, codes: Codes | Members, z: Matrix, **changes: Any) -> RandomTerm:
        """The same of other rows; other fields as given."""
        return replace(self, source=RowColumns(z, codes), **changes)
