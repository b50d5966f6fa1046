"""Formula text -> what it needs: variables and terms of each part, kept for the next call."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from .errors import FormulaError
from .formula import Formula, parse
from .rlang import Expression, translate
from .terms import Sum, read_sum

__all__ = ["Plan", "plan_of"]


@dataclass(frozen=True)
class Plan:
    """What a formula needs, before any data are seen."""

    formula: Formula
    response: Expression
    fixed: Sum
    random: tuple[Sum, ...]
    groups: tuple[tuple[Expression, ...], ...]
    offsets: tuple[Expression, ...]
    names: tuple[str, ...]  # of all columns and constants, each once
    variables: frozenset[str]  # those that stand alone and must be columns

    @property
    def atoms(self) -> Iterable[Expression]:
        """Variables of the fixed and random parts, with repetitions."""
        return (atom for part in (self.fixed, *self.random) for atom in part.atoms)


_importing = threading.Lock()


def _import_formulaic() -> None:
    """Its modules import each other in circles: two threads at once would meet half of one."""
    with _importing:
        import formulaic  # noqa: F401


@lru_cache(maxsize=256)
def plan_of(text: str) -> Plan:
    """The plan of a formula.

    Raises
    ------
    FormulaError
        When the formula or one of its expressions cannot be read.
    """
    _import_formulaic()
    formula = parse(text)
    response = translate(formula.response)
    fixed = read_sum(formula.fixed)
    random = tuple(read_sum(bar.columns) for bar in formula.random)
    groups = tuple(tuple(translate(atom) for atom in bar.group) for bar in formula.random)
    offsets = tuple(translate(offset) for offset in formula.offsets)
    for i, (bar, columns) in enumerate(zip(formula.random, random, strict=True)):
        if not columns.terms:
            raise FormulaError(f"({bar.label}) has no columns", term=bar.label)
        if bar in formula.random[:i]:
            raise FormulaError(f"({bar.label}) stands twice in the formula", term=bar.label)
    everything = [response, *fixed.atoms, *offsets]
    for columns, group in zip(random, groups, strict=True):
        everything += [*columns.atoms, *group]
    variables = frozenset(atom.names[0][1] for atom in everything if atom.is_name)
    names = dict.fromkeys(name for atom in everything for _, name in atom.names)
    return Plan(formula, response, fixed, random, groups, offsets, tuple(names), variables)
