"""Pedigrees: the relationships of animals (or plants, or people) by descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..data.relationship import Precision
from ..errors import DataError

# Parents that are none, unless there is an animal of this name: what programs for pedigrees and
# tables that were made text write.
UNKNOWN = (0, "", "0", "NA", "N/A", "nan", "NaN", "None", "<NA>", ".", "*")
MOST_DENSE = 20_000  # animals whose relationship matrix is made


class Pedigree:
    """A pedigree, for ``relationship=`` of `lmmfast.lmer`: b ~ N(0, sigma_a^2 A).

    The inverse of A, which is what a fit needs, is made from the pedigree directly (Henderson
    1976), with the inbreeding of every animal (Meuwissen & Luo 1992); A itself is never formed.

    Parameters
    ----------
    id : (n,) sequence
        Labels of the animals, each once.
    sire, dam : (n,) sequence
        Their parents' labels; None, NaN, "", 0, numbers below it, and the texts "0", "NA", "nan",
        "None", "." and "*" are unknown parents. Others that have no row of their own are added as
        founders.
    hermaphrodite : bool, default False
        Whether an animal (a plant) may be sire and dam, its own mate too.

    Attributes
    ----------
    levels : (q,) array
        Labels, ancestors first. Otherwise in the order that was given; added parents stand where
        they are needed.
    sire, dam : (q,) int32 arrays
        Places of the parents in `levels`, -1 where unknown.
    inbreeding : (q,) array
        Coefficients F; A_ii = 1 + F_i.

    Raises
    ------
    DataError
        When an animal is there twice, is among its own ancestors, or is both a sire and a dam; when
        animals are numbers and their parents text, or the other way round.

    References
    ----------
    Henderson (1976), *Biometrics* 32: 69-83. Meuwissen & Luo (1992), *Genet. Sel. Evol.* 24:
    305-313.

    Examples
    --------
    >>> from lmmfast import Pedigree
    >>> family = Pedigree(["c", "d", "e"], ["a", "a", "c"], ["b", "b", "d"])
    >>> family.levels.tolist()
    ['a', 'b', 'c', 'd', 'e']
    >>> family.inbreeding.tolist()
    [0.0, 0.0, 0.0, 0.0, 0.25]
    >>> family.relationship()[2].tolist()
    [0.5, 0.5, 1.0, 0.5, 0.75]
    """

    levels: np.ndarray
    sire: NDArray[np.int32]
    dam: NDArray[np.int32]

    def __init__(
        self,
        id: Iterable[object],
        sire: Iterable[object],
        dam: Iterable[object],
        *,
        hermaphrodite: bool = False,
    ) -> None:
        own, sires, dams = (
            _labels(values, what) for values, what in ((id, "id"), (sire, "sire"), (dam, "dam"))
        )
        if not len(own) == len(sires) == len(dams):
            raise DataError(
                f"a pedigree needs a sire and a dam for each animal: {len(own)} animals, "
                f"{len(sires)} sires, {len(dams)} dams are given"
            )
        place, listed = _places(own), len(own)
        first, second = _parents(sires, own, place), _parents(dams, own, place)
        _check_kinds(own, listed)
        if not hermaphrodite:
            _check_sexes(own, first, second)
        missing = np.full(len(own) - len(first), -1, np.int32)
        first, second = np.append(first, missing), np.append(second, missing)
        order, cycle = _core.order_of_pedigree(first, second)
        if cycle >= 0:
            raise DataError(
                f"animal {own[cycle]!r} is among its own ancestors", variable=str(own[cycle])
            )
        rank = np.empty(len(own) + 1, np.int32)
        rank[order], rank[-1] = np.arange(len(own)), -1  # -1 stays -1
        self.levels = np.empty(len(own), object)
        self.levels[:] = [own[i] for i in order]
        self.sire, self.dam = rank[first[order]], rank[second[order]]

    @cached_property
    def _numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """Inbreeding, and Mendelian variances d: A = T diag(d) T'."""
        found: tuple[np.ndarray, np.ndarray] = _core.inbreeding(self.sire, self.dam)
        return found

    @property
    def inbreeding(self) -> np.ndarray:
        """Coefficients of inbreeding F, (q,): A_ii = 1 + F_i."""
        return self._numbers[0]

    def _descent(self) -> Any:
        """T^-1 = I - P, lower triangular: P has 1/2 for each parent."""
        from scipy import sparse

        q = len(self.levels)
        known = [np.flatnonzero(parent >= 0) for parent in (self.sire, self.dam)]
        rows = np.concatenate([np.arange(q), *known])
        columns = np.concatenate([np.arange(q), self.sire[known[0]], self.dam[known[1]]])
        values = np.concatenate([np.ones(q), np.full(len(rows) - q, -0.5)])
        return sparse.csr_matrix((values, (rows, columns)), shape=(q, q))

    def precision(self) -> Precision:
        """The inverse of A, sparse: T^-T diag(1 / d) T^-1."""
        from scipy import sparse

        F, d = self._numbers
        root = sparse.diags(1 / np.sqrt(d)) @ self._descent()
        return Precision.of_root(root.tocsr(), self.levels, 1 + F)

    def relationship(self) -> np.ndarray:
        """A as a dense matrix (q, q): of small pedigrees, to look at.

        Raises
        ------
        MemoryError
            For more than 20,000 animals.
        """
        from scipy.linalg import solve_triangular

        q = len(self.levels)
        if q > MOST_DENSE:
            raise MemoryError(
                f"the relationship matrix of {q} animals takes {8e-9 * q**2:.1f} GB: a fit needs "
                "its inverse only, precision()"
            )
        T = solve_triangular(self._descent().toarray(), np.eye(q), lower=True)
        return np.asarray((T * self._numbers[1]) @ T.T)

    def __len__(self) -> int:
        return len(self.levels)

    def __repr__(self) -> str:
        founders = int(np.sum((self.sire < 0) & (self.dam < 0)))
        return f"Pedigree of {len(self)} animals, {founders} of them founders"


def _labels(values: Any, what: str) -> list[Any]:
    """Labels as Python objects."""
    one = getattr(values, "ndim", 1) == 1 and not isinstance(values, (str, Mapping))
    if values is None or not one or not (hasattr(values, "tolist") or isinstance(values, Iterable)):
        raise DataError(
            f"{what} of a pedigree must be one column, a label for each animal: "
            "Pedigree(table['id'], table['sire'], table['dam'])"
        )
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _places(own: list[Any]) -> dict[Any, int]:
    place: dict[Any, int] = {}
    for i, label in enumerate(own):
        if _is_missing(label):
            raise DataError("an animal of the pedigree has no label", rows=[i])
        if label in place:
            raise DataError(
                f"animal {label!r} is in the pedigree twice", variable=str(label), rows=[i]
            )
        place[label] = i
    return place


def _is_missing(label: Any) -> bool:
    """None, NaN and pandas' NA and NaT."""
    return label is None or type(label).__name__ in ("NAType", "NaTType") or label != label


def _parents(labels: list[Any], own: list[Any], place: dict[Any, int]) -> np.ndarray:
    """Places of parents, -1 where unknown; those without a row are added to the animals."""
    out = np.empty(len(labels), np.int32)
    for i, label in enumerate(labels):
        at = -1 if _is_missing(label) else place.get(label, -2)
        if at == -2 and (label in UNKNOWN or (isinstance(label, (int, float)) and label < 0)):
            at = -1
        elif at == -2:
            at = place[label] = len(own)
            own.append(label)
        if at == i:
            raise DataError(f"animal {label!r} is its own parent", variable=str(label), rows=[i])
        out[i] = at
    return out


def _check_kinds(own: list[Any], listed: int) -> None:
    """Parents without a row that are an animal with one, written in another way."""
    added = own[listed:]
    names = {str(label): label for label in own[:listed]} if added else {}
    other = next((label for label in added if str(label) in names), None)
    if other is not None:
        one = names[str(other)]
        raise DataError(
            f"{other!r} among the parents is of type {type(other).__name__}, and {one!r} among the "
            f"animals of type {type(one).__name__}: make them one, as by .astype(str)",
            variable=str(other),
        )


def _check_sexes(own: list[Any], sire: np.ndarray, dam: np.ndarray) -> None:
    both = np.intersect1d(sire[sire >= 0], dam[dam >= 0])
    if len(both):
        names = ", ".join(repr(own[i]) for i in both[:5])
        more = f" and {len(both) - 5} more" if len(both) > 5 else ""
        raise DataError(
            f"{names}{more}: both a sire and a dam; of plants write Pedigree(..., "
            "hermaphrodite=True)",
            variable=str(own[both[0]]),
        )
