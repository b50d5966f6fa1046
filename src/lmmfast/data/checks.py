"""Models that cannot be told apart from others, or that lme4 reads differently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, DoubleBarWarning, FormulaError, OneRowPerLevelWarning, warn
from ..formula.plan import Plan
from .encode import Coding

if TYPE_CHECKING:
    from .terms import RandomTerm


_MOST_NUMBERS = 2**31  # in the fixed-effects matrix: 16 GB


def check_size(n: int, names: Sequence[str], codings: Mapping[str, Coding]) -> None:
    """A fixed-effects matrix that no memory holds: most likely labels that are not categories."""
    if n * len(names) > _MOST_NUMBERS:
        widest = max(codings.values(), key=lambda coding: len(coding.names))
        raise DataError(
            f"the fixed effects have {len(names)} columns for {n} rows, {len(widest.names)} "
            f"of them for {widest.label!r}: is it meant to be numeric, or a grouping factor as in "
            f"(1 | {widest.label})?",
            variable=widest.label,
        )


def check_levels(terms: Sequence[RandomTerm], weights: NDArray[np.float64] | None, n: int) -> None:
    """One row per level: an intercept's variance is the residual's unless weights differ."""
    for group in dict.fromkeys(
        term.group
        for term in terms
        if len(term.levels) == n and term.relation is None and not term.several
    ):
        own = [term for term in terms if term.group == group]
        constant = all(term.columns == ("Intercept",) for term in own)
        if constant and (weights is None or weights.min() == weights.max()):
            raise DataError(
                f"grouping factor {group!r} has one row per level ({n} levels, {n} rows): the "
                "variance of its intercept cannot be told from the residual variance; take "
                f"({own[0].label}) out or use a factor with repeated rows",
                variable=group,
                term=own[0].label,
            )
        warn(
            OneRowPerLevelWarning(
                f"grouping factor {group!r} has one row per level: its variances are hard to tell "
                "from the residual variance",
                variable=group,
                term=own[0].label,
            )
        )


def check_levels_of_rows(plan: Plan, refused: str = "") -> None:
    """What a design cannot have: related levels that are not given; rows with several levels of one
    factor, where `refused` says of what models."""
    for bar in plan.formula.random:
        if bar.membership is not None and refused:
            raise FormulaError(
                f"{bar.term}: {refused} do not have rows with several levels of one factor; "
                "models of data in memory have them",
                term=bar.label,
            )
        if bar.relationship:
            raise FormulaError(
                f"{bar.term}: the matrix {bar.relationship!r} is not known here: give it as "
                f"relationship={{{bar.factor!r}: {bar.relationship}}}",
                term=bar.label,
            )


def note_double_bars(plan: Plan, codings: Mapping[str, Coding]) -> None:
    """One warning for all `||` terms with factors: lme4 reads these differently."""
    terms, lme4s, factors = [], [], []
    for bar, part in zip(plan.formula.random, plan.random, strict=True):
        own = [atom.label for atom in part.atoms if codings[atom.label].levels is not None]
        if bar.structure == "diag" and own and not bar.explicit:
            terms.append(f"({bar.label})")
            factors += own
            columns = ("0 + " * bool(term.atoms) + part.label(term) for term in part.terms)
            lme4s += [f"({column} | {bar.factor})" for column in columns]
    if terms:
        message = (
            f"{', '.join(terms)}: all correlations are zero, as '||' says; lme4 keeps those "
            f"among the columns of a factor: its model is written {' + '.join(lme4s)}"
        )
        warn(DoubleBarWarning(message, variable=factors[0], term=terms[0]))
