"""Random terms that share one covariance matrix: ``lmer(..., ties=[("mother", "father")])``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from .free import Free

if TYPE_CHECKING:
    from ..data.design import Design
    from ..data.terms import RandomTerm

Entries = Sequence[tuple[int, int, int]]  # of each entry of theta: term, row and column


def tied(ties: Any, design: Design, entries: Entries, free: Free | None) -> Free | None:
    """What may move when terms have one covariance matrix; `free`: what was held besides.

    Parameters
    ----------
    ties : sequence of sequences of str, or None
        Each names two terms or more: by grouping factor, or by label ("1 + x | g") where a factor
        has several.
    design : Design
    entries : sequence of (term, row, column)
        Of theta.
    free : Free or None

    Raises
    ------
    ValueError
        For names that mean no term, or terms whose columns or structures differ.
    DataError
        When columns of one of the terms were dropped, or an entry is held in one of them alone.
    """
    groups = [_terms_of(group, design) for group in _checked(ties)]
    repeated = [i for group in groups for i in group]
    if len(set(repeated)) < len(repeated):
        raise ValueError("a term stands in two ties: write them as one, (a, b, c)")
    if not groups:
        return free
    free = free or Free(np.zeros(len(entries)), np.eye(len(entries)))
    fixed, basis = free.fixed, free.basis.copy()
    for first, *others in groups:
        own = _places(first, entries)
        for other in others:
            places = _places(other, entries)
            _check_same(design, first, other, own.keys() == places.keys())
            for entry, place in places.items():
                _tie(basis, fixed, own[entry], place, design.terms[other])
    return Free(fixed, basis[:, basis.any(axis=0)], free.sigma)


def _tie(basis: np.ndarray, fixed: np.ndarray, one: int, two: int, term: RandomTerm) -> None:
    """Makes the entry `two` of theta move as `one` does."""
    moving = basis[one].any(), basis[two].any()
    if moving[0] != moving[1] or fixed[one] != fixed[two]:
        raise DataError(
            f"an entry of the covariance of {term.label} is held in fixed=, but not, or not at "
            "that value, in the term that it is tied to: hold both",
            variable=term.group,
            term=term.label,
        )
    basis[two] = basis[one]


def _places(term: int, entries: Entries) -> dict[tuple[int, int], int]:
    """Where the entries of a term's factor are in theta."""
    return {(r, c): k for k, (t, r, c) in enumerate(entries) if t == term}


def _checked(ties: Any) -> list[list[str]]:
    """The names in each tie."""
    if ties is None:
        return []
    how = 'ties must be a list of groups of terms, as in [("mother", "father")]'
    if isinstance(ties, str) or not isinstance(ties, Sequence):
        raise ValueError(f"{how}, not {ties!r}")
    if ties and all(isinstance(name, str) for name in ties):
        ties = [ties]
    for group in ties:
        named = not isinstance(group, str) and all(isinstance(name, str) for name in group)
        if not named or len(group) < 2:
            raise ValueError(f"{how}, each of two names or more; got {group!r}")
    return [list(group) for group in ties]


def _terms_of(names: list[str], design: Design) -> list[int]:
    """The random terms that names mean."""
    try:
        return [design.place_of(name) for name in names]
    except ValueError as error:
        raise ValueError(f"ties: {error}") from None


def _check_same(design: Design, first: int, other: int, entries: bool) -> None:
    """Tied terms must have the same columns and the same structure."""
    one, two = design.terms[first], design.terms[other]
    if one.columns != two.columns or one.structure != two.structure:
        raise ValueError(
            f"ties: {one.label!r} and {two.label!r} cannot have one covariance: it needs the same "
            "columns in both, with correlations in both or in none"
        )
    structured = next((term for term in (one, two) if term.covariance is not None), None)
    if structured is not None:
        raise ValueError(f"ties: {structured.label} has a structure, which cannot be tied")
    if not entries:
        raise DataError(
            f"ties: {one.label!r} and {two.label!r} cannot have one covariance: dependent columns "
            "of one of them were dropped",
            variable=two.group,
            term=two.label,
        )
