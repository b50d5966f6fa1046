"""Tokens -> syntax tree: R's grammar, and Python's spellings where R has none.

Top-down operator precedence (Pratt 1973): each operator has a binding power, and an expression
goes on as long as the next operator binds more tightly than what the expression stands in.
Python's ``**``, ``and``, ``or``, ``not``, ``in``, ``//``, ``[a, b]``, ``a if c else b`` are read.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NoReturn

from ..errors import FormulaError
from .tokens import Token, constant_text, refusal, tokens_of
from .tree import DOTS, INFIX, PREFIX, Call, Constant, Name, Node

MOST_DEPTH = 80  # parentheses and the like within each other
_COMPARES = INFIX["=="]
_PYTHON = INFIX | {"|": 54, "&": 56}

_CONSTANTS: dict[str, float | bool | str | None] = {
    **dict.fromkeys(("TRUE", "True"), True),
    **dict.fromkeys(("FALSE", "False"), False),
    **dict.fromkeys(("NULL", "None"), None),
    **dict.fromkeys(("NA", "NaN", "NA_real_", "NA_integer_", "NA_character_"), float("nan")),
    "Inf": float("inf"),
}
_WORDS = {"and": "&", "or": "|", "in": "in", "not": "not in", "if": "if"}  # infix, Python's
_REFUSED = {
    "=": "'=' compares nothing: write ==",
    "<-": "'<-' assigns in R: to compare, write 'x < -1' with a space",
    **{arrow: f"{arrow!r} assigns in R" for arrow in ("<<-", "->", "->>")},
    "|>": "pipes have no meaning in formulas: write f(x) for x |> f()",
    "$": "'$' has no meaning in formulas: name the column alone",
    **{word: f"{word!r} has no meaning in formulas" for word in (":=", "?", ";", ":::")},
    "\\": "functions cannot be defined in formulas",
}
_STATEMENTS = {
    "if": "write ifelse(condition, yes, no) for if",
    **dict.fromkeys(("for", "while", "repeat"), "loops have no meaning in formulas"),
    **dict.fromkeys(("function", "lambda"), "functions cannot be defined in formulas"),
}
LOOKALIKES = {  # what word processors and papers have in place of other characters
    **dict.fromkeys("\u223c\u02dc\u301c\uff5e", "~"),
    **dict.fromkeys("\u2212\u2013\u2014\u2010\u2011\uff0d", "-"),
    **dict.fromkeys("\u2223\u01c0\u2502\uff5c", "|"),
    **dict.fromkeys("\u00d7\u2217\u22c5\uff0a", "*"),
    **dict.fromkeys("\uff08", "("),
    **dict.fromkeys("\uff09", ")"),
    **dict.fromkeys("\uff0b", "+"),
    **dict.fromkeys("\u2236\uff1a", ":"),
    **dict.fromkeys("\u2018\u2019", "'"),
    **dict.fromkeys("\u201c\u201d", '"'),
}
_EQUALS = ("operator", "=")
_CLOSING = {"(": ")", "{": "}", "[": "]"}
_OPENING = {closing: opening for opening, closing in _CLOSING.items()}

Argument = tuple[str, "Node | None"]


@lru_cache(maxsize=256)
def parse_text(text: str, python: bool = False) -> Node:
    """The syntax tree of a formula or expression; those of the last texts are kept.

    With `python` ``&`` and ``|`` bind more tightly than comparisons. What cannot be read is a
    FormulaError, which shows where and says what to write.
    """
    return _Parser(text, _PYTHON if python else INFIX).whole()


class _Parser:
    """A text, its tokens, and the place where the reading stands."""

    def __init__(self, text: str, binds: dict[str, int]) -> None:
        self.text, self.binds = text, binds
        self.tokens = tokens_of(text)
        self.at = 0
        self.depth = 0
        self.open: list[Token] = []  # brackets that are not closed yet

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def whole(self) -> Node:
        if self.next.kind == "end":
            raise FormulaError("the formula is empty: write 'response ~ predictors'")
        node = self.expression(0)
        if self.next.kind != "end":
            self.unexpected()
        return node

    def expression(self, power: int) -> Node:
        """The longest expression from here whose operators bind more tightly than `power`."""
        self.depth += 1
        if self.depth > MOST_DEPTH:
            self.unexpected(f"expressions stand within each other more than {MOST_DEPTH} deep")
        node = self.operand()
        while operator := self.infix():
            binds = self.binds[operator]
            if binds < power or (binds == power and binds != INFIX["^"]):  # right-associative
                break
            node = self.infixed(node, operator, binds)
        self.depth -= 1
        return node

    def infix(self) -> str:
        """The infix operator that stands here, empty when there is none."""
        kind, word, _, _ = self.tokens[self.at]
        if kind == "operator":
            return word if word in self.binds else ""
        if kind != "word" or word not in _WORDS:
            return ""
        return "" if word == "not" and self.tokens[self.at + 1].text != "in" else _WORDS[word]

    def infixed(self, left: Node, operator: str, binds: int) -> Node:
        """The call of an infix operator whose left operand is read."""
        self.at += 2 if operator == "not in" else 1
        right = self.expression(binds)
        if operator == "if":  # Python's: yes if condition else no
            if self.next[:2] != ("word", "else"):
                self.unexpected("'else' is missing")
            self.at += 1
            other = self.expression(binds - 1)
            return Call("if", (("", right), ("", left), ("", other)), left.start, other.end)
        if binds == _COMPARES and _is_comparison(left):
            reason = "comparisons cannot be chained: write a < b & b < c"
            raise self.error(reason, left.start, right.end)
        return Call(operator, (("", left), ("", right)), left.start, right.end)

    # ---- operands --------------------------------------------------------------------------------

    def operand(self) -> Node:
        """A prefix operator with its operand, or a primary expression and what follows it."""
        kind, word, start, _ = self.next
        if kind == "operator" and word in PREFIX:
            return self.prefixed(word, start)
        if kind == "word" and word == "not":
            return self.prefixed("!", start)
        node = self.primary()
        while self.stands("["):
            args, end = self.arguments()
            node = Call("[", (("", node), *args), node.start, end)
        if self.stands("("):
            raise self.error("only functions known by name can be called", node.start, node.end)
        return node

    def prefixed(self, operator: str, start: int) -> Node:
        self.at += 1
        operand = self.expression(PREFIX[operator])
        return Call(operator, (("", operand),), start, operand.end)

    def primary(self) -> Node:
        kind, word, start, end = self.next
        if kind == "operator" and word in _CLOSING:
            return self.bracketed(word, start)
        if kind in ("operator", "end"):
            self.unexpected()
        self.at += 1
        if kind == "number":
            return self.number(word, start, end)
        if kind == "string":
            return self.string(word, start, end)
        if kind == "raw":
            return Constant(word, self.text[start:end], start, end)
        if kind == "quoted":
            return self.named(re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL), start, end)
        return self.word(word, start, end)

    def number(self, word: str, start: int, end: int) -> Constant:
        if word.endswith("i"):
            raise self.error("complex numbers have no meaning in formulas", start, end)
        digits = word.rstrip("L")
        hexadecimal = word[:2] in ("0x", "0X")
        value = float(int(digits, 16)) if hexadecimal else float(digits)
        whole = word.endswith("L") and value == int(min(value, 2.0**53))
        return Constant(int(value) if whole else value, word, start, end)

    def string(self, word: str, start: int, end: int) -> Constant:
        try:
            return Constant(constant_text(word), word, start, end)
        except ValueError as error:
            raise self.error(str(error), start, end) from None

    def word(self, word: str, start: int, end: int) -> Node:
        if word in _CONSTANTS:
            return Constant(_CONSTANTS[word], word, start, end)
        called = self.stands("(") or self.stands("{") or word in ("lambda", "repeat")
        if word in _STATEMENTS and called:
            named = "" if self.stands("(") or self.stands("{") else f"; a column's name is `{word}`"
            raise self.error(_STATEMENTS[word] + named, start, end)
        if word in ("else", "and", "or", "in") or DOTS.fullmatch(word):
            reason = f"{word!r} stands where a variable should; a column's name would be `{word}`"
            raise self.error(reason, start, end)
        return self.named(word, start, end)

    def named(self, name: str, start: int, end: int) -> Node:
        """A variable or a call, with or without a namespace."""
        if self.stands("::"):
            self.at += 1
            kind, word, begin, stop = self.next
            if kind not in ("word", "quoted"):
                raise self.error(f"a name must follow {name}::", begin, stop)
            self.at += 1
            if self.stands("("):
                return self.call(word, start, name)
            return Name(word, start, stop, f"{name}::{word}")
        return self.call(name, start) if self.stands("(") else Name(name, start, end)

    def call(self, function: str, start: int, namespace: str = "") -> Node:
        args, end = self.arguments()
        if function == "Q" and len(args) == 1:  # patsy's way to quote a name
            inside = args[0][1]
            if isinstance(inside, Constant) and isinstance(inside.value, str):
                return Name(inside.value, start, end, self.text[start:end])
        return Call(function, tuple(args), start, end, namespace)

    def bracketed(self, opening: str, start: int) -> Node:
        """What stands in parentheses, braces or square brackets."""
        function = "list" if opening == "[" else opening
        args, end = self.arguments()
        if not args and function != "list":
            reason = f"nothing stands between {opening} and {_CLOSING[opening]}"
            raise self.error(reason, start, end)
        if any(name for name, _ in args):
            raise self.error(_REFUSED["="], start, end)
        return Call(function, tuple(arg for arg in args if arg[1] is not None), start, end)

    def arguments(self) -> tuple[list[Argument], int]:
        """What a bracket that stands here holds, and where it ends; x[, 1] has an empty one."""
        opening = self.next
        closing = _CLOSING[opening.text]
        self.open.append(opening)
        self.at += 1
        args: list[Argument] = []
        while args or not self.stands(closing):
            empty = closing == "]" and (self.stands(",") or self.stands(closing))
            args.append(("", None) if empty else self.argument())
            if self.stands(closing):
                break
            if not self.stands(","):
                self.unexpected()
            self.at += 1
        end = self.next.end
        self.at += 1
        self.open.pop()
        return args, end

    def argument(self) -> Argument:
        kind, word, _, _ = self.next
        if kind in ("word", "quoted", "string") and self.tokens[self.at + 1][:2] == _EQUALS:
            self.at += 2
            return word.strip("\"'"), self.expression(0)
        return "", self.expression(0)

    def stands(self, operator: str) -> bool:
        """Whether the next token is this operator."""
        kind, word, _, _ = self.tokens[self.at]
        return word == operator and kind == "operator"

    # ---- errors ----------------------------------------------------------------------------------

    def error(self, reason: str, start: int, end: int) -> FormulaError:
        return refusal(f"cannot read the formula: {reason}", self.text, start, end)

    def unexpected(self, reason: str = "") -> NoReturn:
        """Says what is wrong with the token at which the reading stands."""
        before = self.tokens[self.at - 1] if self.at else Token("end", "", 0, 0)
        found = self.next
        raise self.error(reason or self.reason(found, before), found.start, found.end)

    def reason(self, found: Token, before: Token) -> str:
        """What is wrong with a token, given the one before it."""
        word, opened = found.text, self.open[-1].text if self.open else ""
        ends = found.kind == "end" or (found.kind == "operator" and word in _OPENING)
        if ends and before[:2] == ("operator", "~"):
            return "nothing stands right of '~': write the predictors there"
        if ends and before.kind == "operator" and before.text in ("|", "||"):
            return "nothing stands right of the bar"
        if found.kind == "end" and opened:
            return f"unbalanced parentheses: a {_CLOSING[opened]!r} is missing"
        if found.kind == "end":
            return f"it ends with {before.text!r}"
        if found.kind != "operator":
            return (
                f"an operator is missing before {self.text[found.start : found.end]!r}; "
                "a name with spaces is written in backticks: `reaction time`"
            )
        if word not in _OPENING:
            return misplaced(word)
        if not opened:
            return f"unbalanced parentheses: a {_OPENING[word]!r} is missing"
        if _CLOSING[opened] == word:
            return f"nothing stands between {before.text!r} and {word!r}"
        return f"unbalanced parentheses: {opened!r} is closed by {word!r}"


def misplaced(word: str) -> str:
    """What is wrong with an operator where none can stand."""
    if word in ("|", "||"):
        return "nothing stands left of the bar"
    if word in _REFUSED:
        return _REFUSED[word]
    if word in ("'", '"', "`"):
        return f"a closing {word} is missing"
    if word in INFIX:
        return f"nothing stands left of {word!r}"
    if word in _CLOSING:
        return f"an operator is missing before {word!r}"
    if word.startswith("%"):
        return f"the operator {word} is not known"
    if word in LOOKALIKES:
        meant = LOOKALIKES[word]
        return f"{word!r} (U+{ord(word):04X}) only looks like {meant!r}: write {meant!r}"
    return f"{word!r} has no meaning here"


def _is_comparison(node: Node) -> bool:
    """Whether a node is a comparison without parentheses around it."""
    return isinstance(node, Call) and len(node.args) == 2 and INFIX.get(node.function) == _COMPARES
