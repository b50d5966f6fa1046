"""Syntax trees of R's expressions: names, constants and calls, and their text.

As in R, everything else is a call: ``x + 1`` is ``+`` of ``x`` and ``1``, ``(x)`` is ``(`` of
``x``, ``x[, 1]`` is ``[`` of ``x``, nothing and ``1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Name:
    """A variable, or a constant of that name if there is no such variable."""

    name: str
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)
    written: str = field(default="", compare=False)  # where it is not the quoted name: Q("a b")


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, a text, TRUE, FALSE, NULL, NA, Inf or NaN."""

    value: float | int | str | bool | None
    text: str = field(compare=False)  # as written
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A function or operator and its arguments; ``"list"`` is the function of Python's ``[a, b]``.

    An argument has a name ("" without one) and a value: None where ``x[, 1]`` has none.
    """

    function: str  # "log", "+", "(", "["
    args: tuple[tuple[str, Name | Constant | Call | None], ...]
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)
    namespace: str = field(default="", compare=False)  # splines of splines::ns

    @property
    def operands(self) -> tuple[Node, ...]:
        """The values of the arguments that have one."""
        return tuple(value for _, value in self.args if value is not None)


Node: TypeAlias = "Name | Constant | Call"

# How tightly operators bind, R's ?Syntax; Python's where R has none ("//", "@", "%" alone).
_BINDING: dict[int, tuple[str, ...]] = {
    10: ("~",),
    15: ("if",),
    20: ("|", "||"),
    30: ("&", "&&"),
    50: ("==", "!=", "<", ">", "<=", ">=", "in", "not in"),
    60: ("+", "-"),
    70: ("*", "/", "//", "@", "%"),
    80: ("%%", "%/%", "%in%", "%*%", "%o%", "%x%"),
    90: (":",),
    110: ("^", "**"),
}
INFIX = {operator: power for power, operators in _BINDING.items() for operator in operators}
PREFIX = {"~": 10, "!": 40, "-": 100, "+": 100}
_TIGHT = (":", "^")  # written without spaces
_PLAIN = re.compile(r"[^\W\d][\w.]*|\.(?![0-9])[\w.]*")
_RESERVED = frozenset(
    """if else repeat while function for TRUE FALSE NULL Inf NaN NA NA_integer_ NA_real_
    NA_character_ in and or not lambda True False None""".split()  # noqa: SIM905
)
DOTS = re.compile(r"\.\.\.|\.\.[0-9]+")  # R's arguments of functions
_QUOTED = re.compile(r"`((?:[^`\\]|\\.)*)`", re.DOTALL)


def quoted(name: str) -> str:
    """A column's name as formulas write it."""
    if _PLAIN.fullmatch(name) and name not in _RESERVED and not DOTS.fullmatch(name):
        return name
    return "`" + re.sub(r"([\\`])", r"\\\1", name) + "`"


def unquoted(text: str) -> str:
    """A text with the names in it as they are, without backticks."""
    return _QUOTED.sub(lambda found: re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL), text)


def strip(node: Node) -> Node:
    """What stands inside of parentheses around everything."""
    while isinstance(node, Call) and node.function == "(" and len(node.args) == 1:
        node = node.operands[0]
    return node


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it, in the order in which they are written."""
    stack: list[Node] = [node]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, Call):
            stack.extend(reversed(node.operands))


def shown(node: Node, plain: bool = False) -> str:
    """The text of a tree, evenly spaced, strings and numbers as they were written.

    With `plain` names are without backticks, as in the names of coefficients.
    """
    spine: list[tuple[Call, str]] = []  # long sums lean to the left: no recursion along them
    while isinstance(node, Call) and len(node.args) == 2 and node.function in INFIX:
        left, right = node.operands
        spine.append((node, shown(right, plain)))
        node = left
    text = _leaf(node, plain)
    for call, written in reversed(spine):
        space = "" if call.function in _TIGHT else " "
        text = f"{text}{space}{call.function}{space}{written}"
    return text


def _leaf(node: Node, plain: bool) -> str:
    if isinstance(node, Name):
        return node.written or (node.name if plain else quoted(node.name))
    if isinstance(node, Constant):
        return node.text
    function = node.function
    if function in PREFIX and len(node.args) == 1:
        return function + shown(node.operands[0], plain)
    parts = [
        (f"{name}=" if name else "") + ("" if value is None else shown(value, plain))
        for name, value in node.args
    ]
    if function == "[":
        return f"{parts[0]}[{', '.join(parts[1:])}]"
    if function == "if":
        return f"{parts[1]} if {parts[0]} else {parts[2]}"
    inside = ", ".join(parts)
    if brackets := {"(": "()", "{": "{}", "list": "[]"}.get(function):
        return f"{brackets[0]}{inside}{brackets[1]}"
    prefix = f"{node.namespace}::" if node.namespace else ""
    return f"{prefix}{function}({inside})"
