"""Formula text -> tokens, and the error that shows a place in it."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import FormulaError

MOST_CHARACTERS = 100_000
SHOWN = 76  # characters of a line that an error message shows

_TOKEN = re.compile(
    r"""(?P<space>(?:\s+|\#[^\n]*)+)
      | (?P<number>0[xX][0-9a-fA-F]+L?|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[Li]?)
      | (?P<raw>[rR](?:"-*[(\[{]|'-*[(\[{]))
      | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | `(?P<quoted>(?:\\.|[^`\\])+)`
      | (?P<word>[^\W\d][\w.]*|\.(?![0-9])[\w.]*)
      | (?P<operator>%%|%/%|%[A-Za-z]{1,9}%|%[^%\s\w]{1,3}%|<<-|->>|:::|\|>|\|\||&&|==|!=|<=
          |>=|<-|->|::|:=|\*\*|//|.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{1,2})|[uU]\{([0-9a-fA-F]{1,8})\}|[uU]([0-9a-fA-F]{4,8})|(.))", re.DOTALL
)
_ESCAPES = {"\\": "\\", "'": "'", '"': '"', "`": "`", " ": " ", "\n": "\n"}
_ESCAPES |= {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class Token(NamedTuple):
    """A word of the language."""

    kind: str  # "number" | "raw" | "string" | "quoted" | "word" | "operator" | "end"
    text: str
    start: int
    end: int


def tokens_of(text: str) -> list[Token]:
    """All tokens, and one of kind "end"."""
    if len(text) > MOST_CHARACTERS:
        raise FormulaError(
            f"the formula has {len(text)} characters, more than the {MOST_CHARACTERS} that are read"
        )
    found: list[Token] = []
    at = 0
    while match := _TOKEN.match(text, at):
        kind = match.lastgroup or ""
        at = match.end()
        if kind == "raw":
            found.append(_raw_string(text, match))
            at = found[-1].end
        elif kind != "space":
            found.append(Token(kind, match[kind], match.start(), at))
    found.append(Token("end", "", len(text), len(text)))
    return found


def _raw_string(text: str, match: re.Match[str]) -> Token:
    """R's r"(...)": no escapes inside."""
    opening = match["raw"]
    closing = {"(": ")", "[": "]", "{": "}"}[opening[-1]] + opening[2:-1] + opening[1]
    end = text.find(closing, match.end())
    if end < 0:
        raise refusal(f"a closing {closing} is missing", text, match.start(), match.end())
    return Token("raw", text[match.end() : end], match.start(), end + len(closing))


def constant_text(quoted: str) -> str:
    """What a string with R's escapes stands for; ValueError for the number of no character."""

    def character(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        if not code and match[4] not in _ESCAPES:
            raise ValueError(match[0])
        return chr(int(code, 16)) if code else _ESCAPES[match[4]]

    inside = quoted[1:-1]
    try:
        return _ESCAPE.sub(character, inside) if "\\" in inside else inside
    except (ValueError, OverflowError):
        raise ValueError(f"{quoted} has a backslash before what is no escape: write \\\\") from None


def refusal(reason: str, text: str, start: int, end: int) -> FormulaError:
    """The error for a place in a formula: what is wrong, the line, and carets under the place."""
    begin = text.rfind("\n", 0, start) + 1
    stop = text.find("\n", start)
    line = text[begin : len(text) if stop < 0 else stop].replace("\t", " ")
    at = start - begin
    if len(line) > SHOWN:
        cut = max(0, at - SHOWN // 2)
        dots = "..." if cut else ""
        line, at = dots + line[cut : cut + SHOWN], at - cut + len(dots)
    carets = "^" * max(1, min(end - start, len(line) - at))
    return FormulaError(f"{reason}\n    {line}\n    {' ' * at}{carets}")
