"""Covariances that users wrote, for terms of a design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .design import Design
from .term_structure import custom_structure


def with_covariances(design: Design, given: Mapping[str, Any]) -> Design:
    """A design whose terms, by grouping factor or label, have covariances that a user wrote.

    ValueError for names that mean no term, or several, and terms with a structure; TypeError for
    what is no covariance; FormulaError for one of another number of columns.
    """
    if not isinstance(given, Mapping):
        how = 'covariance={"subject": CustomCovariance(...)}'
        raise TypeError(f"covariance must say which term has which: {how}, not {given!r}")
    terms = list(design.terms)
    for name, own in given.items():
        i = design.place_of(name)
        term = terms[i]
        if term.covariance is not None or term.structure != "full":
            raise ValueError(
                f"covariance: {term.label!r} has a structure in the formula: write ( | )"
            )
        found = custom_structure(own, term.columns)
        if found is None:
            raise TypeError(f"covariance of {name!r} must be a CustomCovariance, not {own!r}")
        terms[i] = replace(term, label=f"custom({term.label})", covariance=found)
    return replace(design, terms=tuple(terms))
