"""Random effects one by one: what can be taken out of a model, and the fit without it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError, LmmWarning
from .satterthwaite import model_of

if TYPE_CHECKING:
    from ..design import Design, RandomTerm
    from ..model import LMM
    from ..results import LMMFit

__all__ = ["Deletion", "Reduced", "deletions", "model_of_part", "without"]


@dataclass(frozen=True, eq=False)
class Deletion:
    """A random term, and which of its columns stay.

    Attributes
    ----------
    label : str
    term : int
    stay : tuple of int
        Columns that stay.
    constant : bool
        Whether an intercept takes the place of the others.
    beside : int or None
        Covariances that go with one variance; None where several variances go.
    """

    label: str
    term: int
    stay: tuple[int, ...]
    constant: bool
    beside: int | None


def deletions(design: Design, reduce: bool) -> Iterator[Deletion]:
    """What `ranova` takes out.

    Parameters
    ----------
    design : Design
    reduce : bool
        Columns of one term at a time; False: whole random terms.

    Yields
    ------
    Deletion
    """
    for i, term in enumerate(design.terms):
        groups = _column_groups(design, i)
        everything = Deletion(
            f"({term.label})", i, (), False, 0 if len(term.columns) == 1 else None
        )
        if term.structure == "diag":
            yield from _diagonal_deletions(term, i, groups)
        elif not reduce or list(groups) == [()]:
            yield everything
        else:
            for atoms in groups:
                if atoms and not any(set(atoms) < set(other) for other in groups):
                    yield _reduction(design, i, groups, atoms)


def _column_groups(design: Design, i: int) -> dict[tuple[str, ...], list[int]]:
    """Columns of a random term by the term of its left-hand side, () for the intercept."""
    groups: dict[tuple[str, ...], list[int]] = {}
    if design.recipe is None:
        term = design.terms[i]
        for j, name in enumerate(term.columns):
            constant = bool((term.z[:, j] == term.z[0, j]).all())
            groups.setdefault(() if constant else (name,), []).append(j)
        return groups
    for j, (_, factors) in enumerate(design.recipe.random_layouts[i].columns):
        groups.setdefault(tuple(atom for atom, _, _ in factors), []).append(j)
    return groups


def _diagonal_deletions(
    term: RandomTerm, i: int, groups: dict[tuple[str, ...], list[int]]
) -> Iterator[Deletion]:
    for atoms, columns in groups.items():
        stay = tuple(j for j in range(len(term.columns)) if j not in columns)
        name = f"0 + {':'.join(atoms)}" if atoms else "1"
        sign = "||" if len(columns) > 1 else "|"
        beside = 0 if len(columns) == 1 else None
        yield Deletion(f"({name} {sign} {term.group})", i, stay, False, beside)


def _reduction(
    design: Design, i: int, groups: dict[tuple[str, ...], list[int]], atoms: tuple[str, ...]
) -> Deletion:
    """A random term without the columns of one term of its left-hand side."""
    term = design.terms[i]
    label = f"{':'.join(atoms)} in ({term.label})"
    stay = tuple(j for j in range(len(term.columns)) if j not in groups[atoms])
    constant = () not in groups and _leaves_constant(design, i, atoms, list(groups))
    beside = len(stay) if len(groups[atoms]) == 1 and not constant else None
    return Deletion(label, i, stay, constant, beside)


def _leaves_constant(
    design: Design, i: int, atoms: tuple[str, ...], groups: list[tuple[str, ...]]
) -> bool:
    """Whether (0 + f | g) goes over to (1 | g), or (0 + f1 + f2 | g) to all levels of f2."""
    recipe, term = design.recipe, design.terms[i]
    if recipe is None:
        return False
    factors = [name for name, coding in recipe.codings.items() if coding.levels is not None]
    rest = [group for group in groups if group != atoms]
    if not set(atoms) <= set(factors) or (rest and not any(set(g) <= set(factors) for g in rest)):
        return False
    others = (one for j, one in enumerate(design.terms) if j != i and one.codes is term.codes)
    return not any("Intercept" in one.columns for one in others)


@dataclass(frozen=True)
class Reduced:
    """The criterion of a reduced model, how many parameters it lost, whether it is singular."""

    objective: float
    lost: int
    singular: bool


def without(fit: LMMFit, deletion: Deletion) -> Reduced:
    """The model with less random effects, fitted by the same criterion."""
    terms, T = list(fit.design.terms), list(fit.estimates.T)
    if deletion.stay or deletion.constant:
        terms[deletion.term] = _narrowed(terms[deletion.term], deletion)
        T[deletion.term] = T[deletion.term][list(deletion.stay)]
        try:
            return _fitted(fit, terms, None if deletion.constant else T)
        except DataError:  # all columns that stay are zero
            pass
    del terms[deletion.term], T[deletion.term]
    return _fitted(fit, terms, T)


def _narrowed(term: RandomTerm, deletion: Deletion) -> RandomTerm:
    """A term with the columns that stay."""
    z = term.z[:, list(deletion.stay)]
    columns = tuple(term.columns[j] for j in deletion.stay)
    if deletion.constant:
        z, columns = np.column_stack([np.ones(len(z)), z]), ("Intercept", *columns)
    return replace(term, columns=columns, z=np.ascontiguousarray(z))


def _fitted(fit: LMMFit, terms: Sequence[RandomTerm], T: Sequence[np.ndarray] | None) -> Reduced:
    """The model with these random terms, from these factors of their covariance matrices."""
    if not terms:  # ordinary regression
        theta = np.zeros_like(fit.theta)
        return Reduced(model_of(fit).objective(theta, reml=fit.reml), len(theta), False)
    model = model_of_part(replace(fit.design, terms=tuple(terms), recipe=None))
    start = None if T is None else _start(terms, T)
    if start is not None and len(start) != model.ntheta:  # dependent columns are not in theta
        start = None
    small = model.fit(reml=fit.reml, start=start)
    return Reduced(small.objective, len(fit.theta) - len(small.theta), small.is_singular)


def _start(terms: Sequence[RandomTerm], T: Sequence[np.ndarray]) -> np.ndarray:
    """theta of these factors of covariance matrices, which need not be square."""
    parts = []
    for term, root in zip(terms, T, strict=True):
        if term.structure == "diag":
            parts.append(np.linalg.norm(root, axis=1))
            continue
        lower = np.asarray(np.linalg.qr(root.T, mode="r")).T
        lower = lower * np.where(lower.diagonal() < 0, -1.0, 1.0)
        parts.append(lower.T[np.triu_indices(len(lower))])
    return np.concatenate(parts)


def model_of_part(design: Design) -> LMM:
    """A model; what its warnings say was said about the one that it is part of."""
    from ..model import LMM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        return LMM(design)
