"""Formula text -> what it needs: variables and terms of each part, kept for the next call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from ..errors import FormulaError, LmmWarning, warn
from . import vocabulary
from .bars import Bar, Formula, parse
from .expressions import Expression, expression_of
from .terms import Sum, sum_of
from .tree import Name, Node, quoted, walk

_FACTORS = ("factor(", "as.factor(", "ordered(", "C(")


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
    besides: tuple[Expression, ...] = ()  # of a residual structure

    @property
    def atoms(self) -> Iterable[Expression]:
        """Variables of the fixed and random parts, with repetitions."""
        return (atom for part in (self.fixed, *self.random) for atom in part.atoms)

    @property
    def labelled(self) -> frozenset[str]:
        """Variables that are said to be labels: in factor(), and columns of terms with a covariance
        structure of their own."""
        calls = (atom for atom in self.atoms if atom.label.startswith(_FACTORS))
        terms = zip(self.formula.random, self.random, strict=True)
        columns = (atom for bar, own in terms if bar.covariance is not None for atom in own.atoms)
        return frozenset(name for atom in (*calls, *columns) for name in atom.names)

    @property
    def everything(self) -> tuple[Expression, ...]:
        """Variables and expressions of all parts, with repetitions."""
        groups = (atom for group in self.groups for atom in group)
        return (self.response, *self.atoms, *self.offsets, *groups, *self.besides)

    def beside(self, atoms: Iterable[Expression]) -> Plan:
        """The same with more variables, which the formula does not have."""
        more = tuple(atoms)
        if not more:
            return self
        names = dict.fromkeys((*self.names, *(name for atom in more for name in atom.names)))
        alone = self.variables | {atom.names[0] for atom in more if atom.is_name}
        return replace(self, names=tuple(names), variables=alone, besides=more)

    @cached_property
    def learners(self) -> tuple[Expression, ...]:
        """Expressions that learn from the training data."""
        return tuple(atom for atom in self.everything if _learns(atom))


def _learns(atom: Expression) -> bool:
    functions = (vocabulary.function_of(call.function) for call in atom.calls)
    return any(function is not None and function.remembers for function in functions)


@lru_cache(maxsize=256)
def plan_of(text: str, python: bool = False) -> Plan:
    """The plan of a formula; FormulaError when it or one of its expressions cannot be read.

    With `python` operators bind as in Python.
    """
    formula = parse(text, python)
    response = expression_of(formula.left, python)
    fixed = sum_of(formula.parts, text, python)
    random = tuple(sum_of(bar.parts, text, python) for bar in formula.random)
    groups = tuple(tuple(expression_of(a, python) for a in _atoms(bar)) for bar in formula.random)
    offsets = tuple(expression_of(shift, python) for shift in formula.shifts)
    for i, (bar, columns) in enumerate(zip(formula.random, random, strict=True)):
        if not columns.terms:
            raise FormulaError(f"{bar.term} has no columns", term=bar.label)
        if bar in formula.random[:i]:
            raise FormulaError(f"{bar.term} stands twice in the formula", term=bar.label)
    everything = [response, *fixed.atoms, *offsets]
    for columns, group in zip(random, groups, strict=True):
        everything += [*columns.atoms, *group]
    if any(atom == response for atom in everything[1:]):
        raise FormulaError(
            f"the response {response.label!r} stands among its own predictors", term=response.label
        )
    # As in R, rows are left out where a variable is missing whose terms were taken out again.
    everything += [atom for part in (fixed, *random) for atom in part.removed]
    variables = frozenset(atom.names[0] for atom in everything if atom.is_name)
    names = dict.fromkeys(name for atom in everything for name in atom.names)
    return Plan(formula, response, fixed, random, groups, offsets, tuple(names), variables)


def _atoms(bar: Bar) -> tuple[Node, ...]:
    """What a grouping factor is made of: of mm(a, b) the factors, and then the weights."""
    members = bar.membership
    return bar.atoms if members is None else (*members.factors, *members.weights)


_DOT = re.compile(r"(?<![\w.`\"'])\.(?![\w.])")


def without_dot(text: str, names: Callable[[], Iterable[Any]], quiet: bool = False) -> str:
    """The formula with ``.`` written out, as R reads it: all columns but those of the response.

    `names` gives the names of the columns; it is called only where there is a ``.``. A warning
    tells of grouping factors among them, unless `quiet`.
    """
    if "." not in text or not _DOT.search(text):
        return text
    formula = parse(text)
    nodes = [node for _, part in formula.parts for node in walk(part)]
    dots = [node for node in nodes if isinstance(node, Name) and node.name == "."]
    if not dots:
        return text
    own = {node.name for node in walk(formula.left) if isinstance(node, Name)}
    others = [str(name) for name in names() if str(name) not in own]
    if not others:
        raise FormulaError("'.' stands for the other columns of the data, but there are none")
    written = f"({' + '.join(map(quoted, others))})"
    for dot in sorted(dots, key=lambda node: -node.start):
        text = text[: dot.start] + written + text[dot.end :]
    if not quiet:
        _note_groups(text)
    return text


def _note_groups(text: str) -> None:
    """R's ``.`` takes grouping factors in, whose random intercepts are then left no variance."""
    formula = parse(text)
    groups = {atom.name for bar in formula.random for atom in bar.atoms if isinstance(atom, Name)}
    fixed = sum_of(formula.parts, text)
    name = next((name for name in map(fixed.label, fixed.terms) if name in groups), None)
    if name is not None:
        message = (
            "'.' stands for all columns besides the response, as in R: for the grouping factor "
            f"{name!r} too, whose fixed effects leave no variance to its random intercepts; write "
            f"'. - {name}'"
        )
        warn(LmmWarning(message, variable=name))
