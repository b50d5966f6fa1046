"""statsmodels' way of stating random effects -> lme4's: groups, re_formula, vc_formula, exog_vc."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..data.columns import Table
from ..errors import FormulaError
from ..formula.bars import Bar, has_bar, parse
from ..formula.expressions import Expression
from ..formula.parser import parse_text
from ..formula.terms import Sum, read_sum
from ..formula.tree import INFIX, Call, quoted

# What statsmodels calls the random intercepts of a model from arrays that was given no columns.
UNNAMED = ("Group Var",)


@dataclass(frozen=True)
class Component:
    """A random part of the model as statsmodels names it."""

    kind: str  # "re": random effects of the groups, "vc": a variance component, else "crossed"
    name: str  # of the variance component or the further grouping factor
    terms: tuple[tuple[int, tuple[int, ...]], ...]  # in the design; which of its columns each has
    columns: tuple[str, ...] = ()  # what these are called, as statsmodels does
    tied: bool = False  # whether its columns share one variance
    # of factors and numbers of a variance component: how they are written, and which are factors
    written: tuple[tuple[str, bool], ...] = ()

    def level_name(self, label: str) -> str:
        """statsmodels' name of the effect of a level: "class[C(class)[a]]"."""
        factors = [own for own, is_factor in self.written if is_factor]
        if not factors:
            return f"{self.name}[{label}]"
        levels = iter(label.split(":", len(factors) - 1) if len(factors) > 1 else [label])
        parts = [f"{own}[{next(levels)}]" if is_factor else own for own, is_factor in self.written]
        return f"{self.name}[{':'.join(parts)}]"


class Stating(NamedTuple):
    """What a random term is stated as: kind, name, tied and written of a `Component`."""

    kind: str
    name: str
    tied: bool = False
    written: tuple[tuple[str, bool], ...] = ()


def is_component(part: Component) -> bool:
    """Whether it has one variance, listed among the variance components."""
    return part.kind == "vc" or (part.kind == "crossed" and len(part.columns) == 1)


def group_terms(components: Sequence[Component]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """The terms of the groups' random effects, and which of their columns each has."""
    return next((part.terms for part in components if part.kind == "re"), ())


def pair_name(columns: Sequence[str], i: int, j: int) -> str:
    """statsmodels' name of a variance or covariance."""
    if tuple(columns) == UNNAMED:
        return UNNAMED[0]
    return f"{columns[i]} Var" if i == j else f"{columns[j]} x {columns[i]} Cov"


def state(
    formula: str,
    table: Table,
    group: str,
    re_formula: str | None,
    vc_formula: Mapping[str, str] | None,
) -> tuple[str, list[Stating]]:
    """The model in lme4's syntax, and what its random terms are, in their order.

    The table tells numbers from factors, and whether all rows are one group. Of re_formula,
    ``"~x"`` is ``(x | group)``, and ``"~1|item"`` is ``(1 | group)`` and a crossed ``(1 | item)``;
    None: an intercept, none at all if there is a vc_formula. Of vc_formula, ``"0 + C(v)"`` is
    ``(1 | group:v)``, ``"0 + x"`` is ``(0 + x | group)``, several numeric columns share one
    variance.
    """
    if not isinstance(formula, str) or "~" not in formula:
        raise FormulaError(f"the formula must be text such as 'y ~ x', not {formula!r}")
    bars: list[str] = []
    # random terms that the main formula has already, as lme4's would
    present = parse(formula, python=True).random if "|" in formula else ()
    components = [Stating("crossed", bar.factor) for bar in present]
    if vc_formula is not None and not isinstance(vc_formula, Mapping):
        raise FormulaError(
            f'vc_formula must name its components, as in {{"class": "0 + C(class)"}}, not '
            f"{vc_formula!r}"
        )
    nothing = isinstance(re_formula, str) and re_formula.strip(" ~") in ("0", "-1")
    if (re_formula is not None and not (nothing and vc_formula)) or not vc_formula:
        for place, (text, factor) in enumerate(_random_effects(re_formula, group)):
            bars.append(text)
            components.append(Stating("crossed" if place else "re", factor))
    if vc_formula:
        single = _is_single(table, group)
        for name in sorted(vc_formula):
            text, own = _variance_component(name, vc_formula[name], table, group, single)
            if text in bars:
                raise FormulaError(
                    f"vc_formula[{name!r}] states {text} once more: only the sum of both variances "
                    "is determined, leave one out",
                    term=text,
                )
            bars.append(text)
            components.append(own)
    return " + ".join([_open_to_terms(formula.strip()), *bars]), components


def _open_to_terms(formula: str) -> str:
    """The formula with parentheses where an added term would go into a comparison: y ~ x > 0."""
    left, _, right = formula.partition("~")
    if not right.strip():
        return formula
    node = parse_text(formula, True)
    top = node.operands[-1] if isinstance(node, Call) and node.function == "~" else None
    if isinstance(top, Call) and (INFIX.get(top.function) == INFIX["=="] or top.function == "!"):
        return f"{left.rstrip()} ~ ({right.strip()})"
    return formula


def _one_sided(text: Any, role: str) -> str:
    """Right-hand side of a one-sided formula."""
    if not isinstance(text, str):
        raise FormulaError(f"{role} must be text such as '~x', not {text!r}")
    left, _, right = text.rpartition("~")
    if left.strip() or not right.strip():
        raise FormulaError(f"{role} must be one-sided, such as '~x', not {text!r}")
    return right.strip()


def _random_effects(re_formula: str | None, group: str) -> list[tuple[str, str]]:
    """Terms of re_formula, as text, with the grouping factor of each; the groups' own first."""
    empty = re_formula is None or (isinstance(re_formula, str) and not re_formula.strip(" ~"))
    right = "1" if empty else _one_sided(re_formula, "re_formula")
    own = quoted(group)
    tree = parse_text(right, python=True)
    if not has_bar(tree):
        return [(f"({right} | {own})", group)]
    if isinstance(tree, Call) and tree.function in ("|", "||"):  # ~x | item, without parentheses
        bars = parse(f"y ~ ({right})", python=True).random
        others = [(_text(bar), bar.factor) for bar in bars if bar.factor != group]
        of_groups = [(_text(bar), group) for bar in bars if bar.factor == group]
        return [*(of_groups or [(f"(1 | {own})", group)]), *others]
    whole = parse(f"y ~ {right}", python=True)
    own_columns = (f"({whole.fixed} | {own})", group)
    return [own_columns, *((_text(bar), bar.factor) for bar in whole.random)]


def _text(bar: Bar) -> str:
    """A random term as it is written; an intercept beside other columns is understood."""
    if bar.covariance is not None:
        return bar.written(":".join(bar.group))
    columns = bar.columns.removeprefix("1 + ")
    return f"({columns} {'|' if bar.structure == 'full' else '||'} {':'.join(bar.group)})"


def _is_single(table: Table, group: str) -> bool:
    """Do all rows belong to one group, statsmodels' idiom for crossed factors?"""
    column = table.column(group)
    values = np.asarray(column.values if column.codes is None else column.codes)
    present = values if column.missing is None else values[~column.missing]
    return len(present) > 0 and bool((present == present[0]).all())


def _variance_component(
    name: str, text: str, table: Table, group: str, single: bool
) -> tuple[str, Stating]:
    """One entry of vc_formula as a random term, and what it is."""
    parts = read_sum(_one_sided(text, f"vc_formula[{name!r}]"), python=True)
    own = quoted(group)
    factors, numbers = _sorted_atoms(parts, table)
    if not factors:
        slopes = [parts.label(term) for term in parts.terms]
        columns = " + ".join(slopes if parts.intercept else ["0", *slopes])
        tied = len(slopes) > 1
        return f"({columns} {'||' if tied else '|'} {own})", Stating("vc", name, tied)
    if len(parts.terms) > 1:
        raise FormulaError(
            f"vc_formula[{name!r}] = {text!r} mixes the levels of {factors[0]!r} with other "
            f"columns: write '0 + C({factors[0]})', and a component of its own for the rest",
            term=text,
        )
    levels = ":".join(quoted(factor) for factor in factors)
    columns = f"0 + {':'.join(numbers)}" if numbers else "1"
    written = tuple((atom.label, _is_levels(atom, table)) for atom in parts.atoms)
    return f"({columns} | {levels if single else f'{own}:{levels}'})", Stating(
        "vc", name, False, written
    )


def _sorted_atoms(parts: Sum, table: Table) -> tuple[list[str], list[str]]:
    """Labels of the factors and of the numeric variables of a sum."""
    factors, numbers = [], []
    for atom in parts.atoms:
        if _is_levels(atom, table):
            factors.append(atom.names[0])  # its coding does not matter: a level each
        else:
            numbers.append(atom.label)
    return factors, numbers


def _is_levels(atom: Expression, table: Table) -> bool:
    """Whether an expression is a factor."""
    inner = atom.names[0] if len(atom.names) == 1 else ""
    labels = atom.is_name and table.has(inner) and table.column(inner).values is None
    return labels or bool(inner and atom.label.startswith(("C(", "factor(", "as.factor(")))
