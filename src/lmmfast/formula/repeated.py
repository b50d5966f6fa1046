"""The covariance term of a model for repeated measures, as R's mmrm: ``us(visit | group / id)``.

The rest of the formula is one of a mixed model whose random terms only say which variables are
needed: `VisitCovariance.formula` can be read by `bars.parse`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import FormulaError
from .bars import at_node, has_bar
from .parser import parse_text
from .tree import Call, Node, shown, strip, walk

# As mmrm writes them: the name in src/_ext/structures/structure.h.
STRUCTURES = {
    "us": "us",
    "toep": "homtoep",
    "toeph": "toep",
    "ar1": "ar1",
    "ar1h": "hetar1",
    "cs": "homcs",
    "csh": "cs",
    "ad": "homad",
    "adh": "ad",
    "sp_exp": "exp",
}
SPATIAL = "sp_exp"
OTHERS = {  # names in SAS, SPSS, nlme and glmmTMB
    "un": "us",
    "unstructured": "us",
    "ar": "ar1",
    "arh": "ar1h",
    "arh1": "ar1h",
    "hetar1": "ar1h",
    "ante": "adh",
    "car1": "sp_exp",
    "ou": "sp_exp",
    "exp": "sp_exp",
}
_EXAMPLE = "us(visit | subject)"
IN_WORDS = {
    "us": "unstructured",
    "toep": "Toeplitz, one variance",
    "toeph": "heterogeneous Toeplitz",
    "ar1": "autoregressive of order 1, one variance",
    "ar1h": "heterogeneous autoregressive of order 1",
    "cs": "compound symmetry, one variance",
    "csh": "heterogeneous compound symmetry",
    "ad": "antedependence of order 1, one variance",
    "adh": "heterogeneous antedependence of order 1",
    "sp_exp": "spatial exponential, exp(-distance / range)",
}


@dataclass(frozen=True)
class VisitCovariance:
    """The covariance term of a formula, and the formula in which it stands for its variables."""

    structure: str  # as written: "ar1h"
    text: str  # "us(AVISIT | ARMCD / USUBJID)"
    visit: tuple[str, ...]  # the visits' factor; of sp_exp the coordinates
    subject: str
    group: str | None  # of subjects with a covariance matrix of their own
    formula: str  # random terms in its place: visits by subject, and one of the group
    factors: str  # the same with intercepts alone, of subjects, visits and groups

    @property
    def is_spatial(self) -> bool:
        """Whether visits are places with coordinates."""
        return self.structure == SPATIAL


def covariance_of(text: str) -> VisitCovariance:
    """The one covariance term of a formula; FormulaError where it is not there, or not readable."""
    if not isinstance(text, str):
        raise FormulaError(f"the formula must be text, not {type(text).__name__}")
    tree = parse_text(text, False)
    found = covariance_calls(tree)
    if not found:
        _refuse_bars(tree, text)
        known = ", ".join(STRUCTURES)
        raise FormulaError(
            f"{text[:200]!r} has no covariance term such as {_EXAMPLE}; structures are {known}"
        )
    if len(found) > 1:
        raise at_node("a model for repeated measures has one covariance term", text, found[1])
    _refuse_bars(tree, text, found[0])
    return _read(found[0], text)


def covariance_calls(tree: Node) -> list[Call]:
    """The covariance terms of a formula, in their order."""
    return [node for node in walk(tree) if isinstance(node, Call) and _is_covariance(node)]


def _is_covariance(call: Call) -> bool:
    bars = [value for value in call.operands if _is_bar(value)]
    return bool(bars) and call.function in STRUCTURES


def _is_bar(node: Node) -> bool:
    node = strip(node)
    return isinstance(node, Call) and node.function in ("|", "||")


def _refuse_bars(tree: Node, text: str, but: Node | None = None) -> None:
    """What stands in place of a covariance term, or beside the one, and is none."""
    for node in walk(tree):
        if but and but.start <= node.start and node.end <= but.end:
            continue
        if isinstance(node, Call) and any(map(_is_bar, node.operands)):
            if node.function in ("(", "+", "~"):
                reason = f"random effects are for lmer; here a covariance is written {_EXAMPLE}"
                raise at_node(reason, text, node)
            known, other = ", ".join(STRUCTURES), OTHERS.get(node.function.lower())
            meant = f"write {other}(); " if other else ""
            reason = f"{node.function}() is not known: {meant}structures are {known}"
            raise at_node(reason, text, node)


def _read(call: Call, text: str) -> VisitCovariance:
    *first, last = call.operands
    bar = strip(last)
    if not _is_bar(last) or any(map(_is_bar, first)) or any(name for name, _ in call.args):
        raise at_node(f"the bar stands last, as in {_EXAMPLE}", text, call)
    assert isinstance(bar, Call)
    if bar.function != "|":
        raise at_node("'||' has no meaning here: write one bar", text, call)
    left, right = bar.operands
    visit = [*first, left]
    spatial = call.function == SPATIAL
    if len(visit) > 1 and not spatial:
        raise at_node(f"{call.function}() has one variable of visits, a factor", text, call)
    if any(has_bar(node) or _is_sum(node) for node in visit):
        raise at_node("left of the bar stands one variable", text, call)
    subject, group = _subject(strip(right), text)
    names = tuple(shown(node) for node in visit)
    wanted = names if spatial else tuple(f"factor({name})" for name in names)
    terms = [f"(0 + {' + '.join(wanted)} | {subject})"]
    if group is not None:
        terms.append(f"(1 | {group})")
    groups = [subject, *names, *([] if group is None else [group])]
    plain, factors = (
        text[: call.start] + " + ".join(own) + text[call.end :]
        for own in (terms, [f"(1 | {name})" for name in groups])
    )
    return VisitCovariance(call.function, shown(call), names, subject, group, plain, factors)


def _is_sum(node: Node) -> bool:
    node = strip(node)
    return isinstance(node, Call) and node.function in ("+", "-", "*", "/")


def _subject(node: Node, text: str) -> tuple[str, str | None]:
    """Subject and group of ``group / subject``."""
    if isinstance(node, Call) and node.function == "/" and len(node.operands) == 2:
        group, subject = map(strip, node.operands)
        if not any(_is_sum(own) or has_bar(own) for own in (group, subject)):
            return shown(subject), shown(group)
    elif not (_is_sum(node) or has_bar(node)):
        return shown(node), None
    raise at_node("right of the bar stands subject, or group / subject", text, node)
