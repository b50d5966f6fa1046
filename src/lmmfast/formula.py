"""Formula text -> its parts, as text: response, fixed part, random terms, offsets. No data here.

The text is cut with formulaic's tokenizer; only `~`, the bars and `offset()` are read here.
What stands between them is formulaic's (see `terms.py`), the left-hand side is one expression.

    formula  := response ~ sum                  sum    := [+-] part ([+-] part)*
    part     := ( columns | group )             columns, group: sums without a bar
              | ( columns || group )            group  := atom ((: atom)* / atom ...)
              | ( sum ) | offset(expression) | anything formulaic reads
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from .errors import FormulaError

if TYPE_CHECKING:
    from formulaic.parser.types import Token

__all__ = ["Bar", "Formula", "find_bar", "outer", "parse", "quoted", "tokenize"]

# The tokenizer joins neighbouring operators ("~-"); these are the ones that have meaning.
_OPERATOR = re.compile(r"\|\||\*\*|.")
_PLAIN_NAME = re.compile(r"[^\W\d][\w.]*|\.[^\W\d][\w.]*")


@dataclass(frozen=True)
class Bar:
    """One random term: `(columns | group)` or `(columns || group)`."""

    columns: str  # right-hand side for formulaic: "1 + Days"
    group: tuple[str, ...]  # factors whose combinations are the levels: ("school", "class")
    structure: str  # "full" | "diag"

    @property
    def factor(self) -> str:
        """Name of the grouping factor, as in R: "school:class"."""
        return ":".join(self.group).replace("`", "")

    @property
    def label(self) -> str:
        """The term as a reader would write it: "1 + Days | Subject"."""
        return f"{self.columns} {'|' if self.structure == 'full' else '||'} {self.factor}"


@dataclass(frozen=True)
class Formula:
    """A mixed-model formula cut into its parts, all of them text."""

    text: str  # as the user wrote it
    response: str  # "log(rt)"
    fixed: str  # right-hand side without bars and offsets: "Days + cond"
    random: tuple[Bar, ...]  # in the formula's order
    offsets: tuple[str, ...]  # arguments of offset(...)


@dataclass(frozen=True)
class _Piece:
    """A token: its text as formulaic reads it, its kind, and where it stands in the source."""

    text: str
    kind: str  # "context" | "operator" | "value" | "name" | "python"
    start: int
    end: int


@lru_cache(maxsize=512)
def parse(text: str) -> Formula:
    """Cut a formula into its parts.

    Parameters
    ----------
    text : str
        A formula in lme4's syntax, for example ``"rt ~ cond + (cond | subj) + (1 | item)"``.

    Returns
    -------
    Formula

    Raises
    ------
    FormulaError
        When the text is not a mixed-model formula; the message says where and what to write.
    """
    if not isinstance(text, str):
        raise FormulaError(f"the formula must be text, not {type(text).__name__}")
    pieces = tokenize(text)
    _check_balance(pieces, text)
    tilde = _only_tilde(pieces, text)
    response = text[: pieces[tilde].start].strip()
    right = pieces[tilde + 1 :]
    if not response:
        raise FormulaError(f"nothing stands left of '~' in {text!r}: write the response there")
    if not right:
        raise FormulaError(f"nothing stands right of '~' in {text!r}: write the predictors there")
    fixed: list[tuple[str, str]] = []
    random: list[Bar] = []
    offsets: list[str] = []
    for sign, part in _flat_sum(right, text):
        if find_bar(part) is not None:
            random += _bars(sign, part, text)
        elif len(part) == 1 and (argument := _offset(part[0])) is not None:
            if sign == "-":
                raise FormulaError(f"an offset cannot be removed with '-' in {text!r}")
            offsets.append(argument)
        else:
            fixed.append((sign, _join(part)))
    if not random:
        raise FormulaError(
            f"{text!r} has no random term such as (1 | subject); "
            "a model without random effects is ordinary regression (statsmodels fits it)"
        )
    return Formula(text, response, _join_sum(fixed), tuple(random), tuple(offsets))


def tokenize(text: str) -> list[_Piece]:
    """The tokens of formulaic, with joined operators taken apart."""
    from formulaic.errors import FormulaParsingError
    from formulaic.parser.algos.tokenize import tokenize as formulaic_tokens

    text = re.sub(r"#[^\n]*", " ", text)  # comments of a formula copied from R
    try:
        tokens = list(formulaic_tokens(text))
    except FormulaParsingError as error:
        if text.count("(") != text.count(")"):
            raise FormulaError(f"unbalanced parentheses in {text!r}") from error
        reason = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split("\n")[0]
        raise FormulaError(f"cannot read {text!r}: {reason}") from error
    return [piece for token in tokens for piece in _pieces(token)]


def _pieces(token: Token) -> list[_Piece]:
    kind = token.kind.value if token.kind else "operator"
    start, end = token.source_start or 0, (token.source_end or 0) + 1
    if kind != "operator" or token.token == "in":  # %in% arrives as the operator "in"
        return [_Piece(token.token, kind, start, end)]
    return [_Piece(text, kind, start, end) for text in _OPERATOR.findall(token.token)]


def _check_balance(pieces: Sequence[_Piece], text: str) -> None:
    depth = 0
    for piece in pieces:
        if piece.kind != "context":
            continue
        if piece.text in "[]":
            raise FormulaError(f"square brackets have no meaning in {text!r}")
        depth += 1 if piece.text == "(" else -1
        if depth < 0:
            break
    if depth != 0:
        missing = ")" if depth > 0 else "("
        raise FormulaError(f"unbalanced parentheses in {text!r}: a {missing!r} is missing")


def _only_tilde(pieces: Sequence[_Piece], text: str) -> int:
    where = [i for i, piece in enumerate(pieces) if _is(piece, "~")]
    if not where:
        raise FormulaError(f"there is no '~' in {text!r}: write 'response ~ predictors'")
    if len(where) > 1:
        raise FormulaError(f"there is more than one '~' in {text!r}")
    return where[0]


def _is(piece: _Piece, *symbols: str) -> bool:
    return piece.kind == "operator" and piece.text in symbols


def outer(pieces: Sequence[_Piece], *symbols: str) -> list[int]:
    """Positions of operators outside of all parentheses."""
    found, depth = [], 0
    for i, piece in enumerate(pieces):
        if piece.kind == "context":
            depth += 1 if piece.text == "(" else -1
        elif depth == 0 and _is(piece, *symbols):
            found.append(i)
    return found


def find_bar(pieces: Sequence[_Piece]) -> int | None:
    """Position of the first bar, inside of parentheses or not."""
    return next((i for i, piece in enumerate(pieces) if _is(piece, "|", "||")), None)


def _inside(pieces: Sequence[_Piece]) -> Sequence[_Piece] | None:
    """What one pair of parentheses around everything encloses, else None."""
    if len(pieces) < 2 or pieces[0].text != "(" or pieces[0].kind != "context":
        return None
    depth = 0
    for i, piece in enumerate(pieces):
        if piece.kind == "context":
            depth += 1 if piece.text == "(" else -1
        if depth == 0:
            return pieces[1:-1] if i == len(pieces) - 1 else None
    return None


def _signed_parts(pieces: Sequence[_Piece], text: str) -> list[tuple[str, Sequence[_Piece]]]:
    """Split a sum at its outer + and -: [("+", part), ("-", part), ...]."""
    cuts = [*outer(pieces, "+", "-"), len(pieces)]
    parts: list[tuple[str, Sequence[_Piece]]] = []
    sign, begin = "+", 0
    for cut in cuts:
        part = pieces[begin:cut]
        if part:
            parts.append((sign, part))
            sign = "+"
        elif begin != 0 and cut == len(pieces):
            raise FormulaError(f"{text!r} ends with {pieces[-1].text!r}")
        if cut < len(pieces):  # "+ -" is "-", "- -" is "+"
            negative = pieces[cut].text == "-"
            sign = ("+" if sign == "-" else "-") if negative else sign
        begin = cut + 1
    return parts


def _flat_sum(pieces: Sequence[_Piece], text: str) -> list[tuple[str, Sequence[_Piece]]]:
    """The parts of a sum; parentheses around sums that contain bars are opened."""
    if outer(pieces, "|", "||"):
        raise FormulaError(
            f"a bar needs parentheses around its term in {text!r}: write (1 | group)",
        )
    flat: list[tuple[str, Sequence[_Piece]]] = []
    for sign, part in _signed_parts(pieces, text):
        inner = _inside(part)
        if inner is None or find_bar(part) is None or outer(inner, "|", "||"):
            flat.append((sign, part))
        elif sign == "-":
            raise FormulaError(f"a random term cannot be removed with '-' in {text!r}")
        else:
            flat += _flat_sum(inner, text)
    return flat


def _bars(sign: str, part: Sequence[_Piece], text: str) -> list[Bar]:
    """`( columns | group )` -> its random terms, one for each level of nesting."""
    inner = _inside(part)
    term = _join(part)
    if inner is None:
        raise FormulaError(f"{term!r}: a random term can only be added with '+'", term=term)
    if sign == "-":
        raise FormulaError(f"a random term cannot be removed with '-': {term}", term=term)
    where = outer(inner, "|", "||")
    if len(where) != 1 or find_bar(inner[where[0] + 1 :]) is not None:
        raise FormulaError(f"{term}: a random term has exactly one bar", term=term)
    left, right = inner[: where[0]], inner[where[0] + 1 :]
    if not left or not right:
        side = "left" if not left else "right"
        raise FormulaError(f"{term}: nothing stands {side} of the bar", term=term)
    structure = "diag" if inner[where[0]].text == "||" else "full"
    columns = _random_columns(left, text)
    return [Bar(columns, group, structure) for group in _nested_groups(right, term)]


def _random_columns(pieces: Sequence[_Piece], text: str) -> str:
    """Columns of a random term, with the implied intercept written out."""
    parts = [(sign, _join(part)) for sign, part in _signed_parts(pieces, text)]
    explicit = [part for _, part in parts if part in ("0", "1")]
    if not explicit:
        parts.insert(0, ("+", "1"))
    elif parts[0] == ("-", "1"):
        parts[0] = ("+", "0")
    return _join_sum(parts)


def _nested_groups(pieces: Sequence[_Piece], term: str) -> list[tuple[str, ...]]:
    """`a / b / c` -> (a), (a, b), (a, b, c);  `a : b` -> (a, b)."""
    inner = _inside(pieces)
    if inner is not None:
        return _nested_groups(inner, term)
    wrong = outer(pieces, "+", "-", "*", "^", "**", "in")
    if wrong:
        raise FormulaError(
            f"{term}: a grouping factor is one factor, a:b or a/b, not a formula with "
            f"{pieces[wrong[0]].text!r}; write one term for each factor: (1 | a) + (1 | b)",
            term=term,
        )
    nested: list[tuple[str, ...]] = []
    path: tuple[str, ...] = ()
    for part in _split(pieces, "/"):
        atoms = tuple(_group_atom(atom, term) for atom in _split(part, ":"))
        path = tuple(dict.fromkeys(path + atoms))
        nested.append(path)
    return nested


def _split(pieces: Sequence[_Piece], symbol: str) -> list[Sequence[_Piece]]:
    cuts = [-1, *outer(pieces, symbol), len(pieces)]
    return [pieces[a + 1 : b] for a, b in pairwise(cuts)]


def _group_atom(pieces: Sequence[_Piece], term: str) -> str:
    inner = _inside(pieces)
    if inner is not None:
        return _group_atom(inner, term)
    if len(pieces) == 1 and pieces[0].kind in ("name", "python"):
        return _text(pieces[0])
    written = _join(pieces) or "nothing"
    if len(pieces) == 1 and pieces[0].kind == "value":
        raise FormulaError(
            f"{term}: {written} is a number, but right of the bar stands the name of "
            "a column that says which group each row belongs to",
            term=term,
        )
    raise FormulaError(f"{term}: cannot read {written!r} as a grouping factor", term=term)


def _offset(piece: _Piece) -> str | None:
    if piece.kind == "python" and piece.text.startswith("offset(") and piece.text.endswith(")"):
        return piece.text[len("offset(") : -1].strip()
    return None


def _join_sum(parts: Sequence[tuple[str, str]]) -> str:
    """[("+", "a"), ("-", "1")] -> "a - 1"; nothing at all is the intercept."""
    if not parts:
        return "1"
    first = parts[0][1] if parts[0][0] == "+" else f"-{parts[0][1]}"
    return first + "".join(f" {sign} {part}" for sign, part in parts[1:])


def _join(pieces: Sequence[_Piece]) -> str:
    """Tokens -> text that gives the same tokens again."""
    text = ""
    for piece in pieces:
        spaced = piece.kind == "operator" and piece.text in ("+", "-", "*", "/", "in", "|", "||")
        text += f" {_text(piece)} " if spaced else _text(piece)
    return text.strip()


def quoted(name: str) -> str:
    """A column's name as formulas write it."""
    return name if _PLAIN_NAME.fullmatch(name) else f"`{name}`"


def _text(piece: _Piece) -> str:
    if piece.kind == "name":
        return quoted(piece.text)
    if piece.kind == "operator" and piece.text == "in":
        return "%in%"
    return piece.text
