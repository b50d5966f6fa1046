"""What ``dispersion=`` and ``residual=`` say: variances and correlations of the residuals, as text.

The variables in them are read as those of a formula are, by a formula made for the purpose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..errors import FormulaError
from .expressions import Expression
from .plan import Plan, plan_of

CORRELATIONS = ("ar1", "car1", "cs", "ante")
_CALL = re.compile(r"\s*(\w+)\s*\((.*)\)\s*\Z", re.DOTALL)
_LEFT, _GROUP = "`response of a residual structure`", "`group of a residual structure`"


@dataclass(frozen=True)
class Dispersion:
    """How the standard deviations of residuals differ."""

    text: str
    kind: str  # "strata", "power" or "exp"
    label: str  # of what they depend on
    atoms: tuple[Expression, ...]  # strata: factors whose combinations they are; else one


@dataclass(frozen=True)
class Correlation:
    """How residuals of a subject are correlated."""

    text: str
    kind: str  # one of CORRELATIONS
    subject: str  # label
    subjects: tuple[Expression, ...]
    time: Expression | None  # None: the order of the rows


def dispersion_of(text: Any) -> Dispersion:
    """``"~ sex"``, ``"power(x)"`` or ``"exp(x)"``; FormulaError for anything else."""
    known = 'it may be "~ factor" (a standard deviation for each level), "power(x)" or "exp(x)"'
    if not isinstance(text, str):
        raise FormulaError(f"dispersion= must be text, not {type(text).__name__}: {known}")
    text = str(text)  # of NumPy's too
    call = _CALL.match(text)
    if text.lstrip().startswith("~"):
        plan = _plan(f"{_LEFT} ~ 1 + (1 | {text.lstrip()[1:]})", text, "dispersion", known)
        bar = _only(plan, text, "dispersion", known)
        return Dispersion(text, "strata", plan.formula.random[bar].factor, plan.groups[bar])
    if call and call[1] in ("power", "exp"):
        plan = _plan(f"{_LEFT} ~ 0 + {call[2]} + (1 | {_GROUP})", text, "dispersion", known)
        atoms = tuple(plan.fixed.atoms)
        if len(atoms) != 1 or len(plan.fixed.terms) != 1:
            raise FormulaError(f"dispersion={text!r} needs one variable: {known}", term=text)
        return Dispersion(text, call[1], atoms[0].label, atoms)
    raise FormulaError(f"dispersion={text!r} cannot be read: {known}", term=text)


def correlation_of(text: Any) -> Correlation:
    """``"ar1(time | id)"`` and the like; FormulaError for anything else."""
    known = 'it may be "ar1(time | id)", "car1(time | id)", "cs(id)" or "ante(time | id)"'
    if not isinstance(text, str):
        raise FormulaError(f"residual= must be text, not {type(text).__name__}: {known}")
    text = str(text)
    call = _CALL.match(text)
    if not call or call[1] not in CORRELATIONS:
        raise FormulaError(f"residual={text!r} cannot be read: {known}", term=text)
    kind, inside = call[1], call[2]
    if kind == "cs" and "|" not in inside:
        inside = f"1 | {inside}"
    if "|" not in inside:
        raise FormulaError(
            f"residual={text!r} needs the time and the subject: {kind}(time | id)", term=text
        )
    left, _, right = inside.rpartition("|")
    plan = _plan(f"{_LEFT} ~ 1 + (0 + {left} | {right})", text, "residual", known)
    bar = _only(plan, text, "residual", known)
    atoms = tuple(dict.fromkeys(plan.random[bar].atoms))
    if len(atoms) > 1 or len(plan.random[bar].terms) > 1:
        raise FormulaError(f"residual={text!r} needs one variable for the time", term=text)
    if not atoms and kind != "cs":
        raise FormulaError(
            f"residual={text!r} needs the time of each row: {kind}(time | id)", term=text
        )
    factor = plan.formula.random[bar].factor
    return Correlation(text, kind, factor, plan.groups[bar], atoms[0] if atoms else None)


def _plan(formula: str, text: str, role: str, known: str) -> Plan:
    try:
        return plan_of(formula)
    except FormulaError:
        raise FormulaError(f"{role}={text!r} cannot be read: {known}", term=text) from None


def _only(plan: Plan, text: str, role: str, known: str) -> int:
    """The place of the one grouping factor."""
    if len(plan.groups) != 1:
        raise FormulaError(f"{role}={text!r} needs one factor, or a:b: {known}", term=text)
    return 0
