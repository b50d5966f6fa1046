"""A formula changed by another, in the language of R's ``update.formula``: ``. ~ . - x + (1 | g)``.

``.`` on the left is the response, on the right all of the right-hand side. Random terms are terms
like any other: they are added and taken out, by what they mean, however they are written. In
products, powers and calls ``.`` is the fixed part alone (R puts the other variables into the bars).
As in R, a fixed part that changes is written out as its terms, by degree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..errors import FormulaError, LmmWarning, warn
from .bars import Bar, Formula, Signed, at_node, has_bar, joined, parse, random_terms, signed_parts
from .parser import parse_text
from .repeated import covariance_calls
from .terms import Sum, sum_of
from .tree import INFIX, Call, Name, Node, shown, strip, unquoted, walk

_THERE, _OTHER = "(1 | .covariance)", "(1 | .other_covariance)"  # what stands for such terms


def updated(old: str, new: str) -> str:
    """The formula `old` changed by `new`.

    What is taken out and is not there changes nothing, as in R, but gives a warning. FormulaError
    for what cannot be read, and when no random term is left.

    Examples
    --------
    >>> updated("rt ~ a * b + (a | subj)", ". ~ . - a:b + (1 | item)")
    'rt ~ a + b + (a | subj) + (1 | item)'
    >>> updated("rt ~ a + (1 | subj/item)", "log(.) ~ . - (1 | item:subj)")
    'log(rt) ~ a + (1 | subj)'
    """
    if not isinstance(new, str):
        raise FormulaError(f"the change of a formula must be text, not {type(new).__name__}")
    tree = parse_text(new)
    if not (isinstance(tree, Call) and tree.function == "~"):
        raise FormulaError(
            f"{new[:200]!r} is no change of a formula: write '. ~ . + x' to add x, '. ~ . - x' to "
            "take it out"
        )
    before = parse(old)
    *left, right = tree.operands
    response = _with(left[0], before.left) if left else before.left
    found = _Update(before, new)
    found.sum(right)
    return found.written(shown(response))


def updated_repeated(old: str, new: str) -> str:
    """The same of a formula for repeated measures: another covariance term takes the place of the
    one that there is.

    Examples
    --------
    >>> updated_repeated("y ~ arm * visit + us(visit | id)", ". ~ . - arm:visit")
    'y ~ arm + visit + us(visit | id)'
    >>> updated_repeated("y ~ arm + us(visit | id)", ". ~ . + ar1(visit | id)")
    'y ~ arm + ar1(visit | id)'
    """
    if not isinstance(new, str):
        return updated(old, new)
    (term,) = covariance_calls(parse_text(old))
    there, other = shown(term), ""
    before = old[: term.start] + _THERE + old[term.end :]
    change = new
    for call in reversed(covariance_calls(parse_text(new))):
        same = shown(call) == there
        other = other if same else new[call.start : call.end]
        change = change[: call.start] + (_THERE if same else _OTHER) + change[call.end :]
    try:
        found = updated(before, change)
    except FormulaError:
        if ("~" in new and _THERE not in change and not other) or f"- {_THERE}" in change:
            raise FormulaError(f"{new!r} leaves no covariance term such as {there}") from None
        raise
    if other:
        found = found.replace(f" + {_THERE}", "").replace(_OTHER, other)
    return found.replace(_THERE, old[term.start : term.end])


@dataclass(frozen=True)
class _Piece:
    """A part of a formula that is no fixed effect: random terms, or an offset."""

    text: str
    bars: tuple[Bar, ...]  # those that it stands for; none: an offset

    def without(self, gone: Sequence[Bar]) -> list[_Piece]:
        """What is left when some random terms are taken out, each written by itself."""
        left = [bar for bar in self.bars if not _among(bar, gone)]
        if len(left) == len(self.bars):
            return [self]
        return [_Piece(_written(bar), (bar,)) for bar in left]


def _among(bar: Bar, others: Sequence[Bar]) -> bool:
    """Whether one of these is the same random term, with factors and columns in any order."""
    return any(_meaning(bar) == _meaning(other) for other in others)


def _meaning(bar: Bar) -> tuple[object, ...]:
    columns = sum_of(bar.parts, bar.columns)
    terms = frozenset(
        frozenset(columns.atoms[atom].label for atom in term.atoms) for term in columns.terms
    )
    kind = bar.structure if len(terms) > 1 else "full"
    group = frozenset(map(unquoted, bar.group))
    return terms, group, kind, bar.covariance, bar.relationship


def _written(bar: Bar) -> str:
    group = ":".join(bar.group)
    if bar.relationship:
        return f"propto(0 + {group} | 1, {bar.relationship})"
    text = bar.written(group)
    if bar.covariance is not None:
        return text
    explicit = bar.explicit and bar.structure == "diag"
    return f"diag({text.replace('||', '|')})" if explicit else f"({text})"


def _pieces(node: Node, text: str) -> list[_Piece]:
    """The random terms and offsets of a right-hand side, in its order."""
    found = []
    for _, part in signed_parts(node):
        inner = strip(part)
        if isinstance(inner, Call) and inner.function == "offset":
            found.append(_Piece(shown(inner), ()))
        elif has_bar(part) and isinstance(inner, Call) and inner.function in ("+", "-"):
            found += _pieces(inner, text)
        elif has_bar(part):
            found.append(_Piece(_shown(part), random_terms(_bracketed(part), text)))
    return found


def _bracketed(part: Node) -> Node:
    """A bar with the parentheses that a formula of nothing else may lack."""
    is_bar = isinstance(part, Call) and part.function in ("|", "||")
    return Call("(", (("", part),), part.start, part.end) if is_bar else part


def _shown(part: Node) -> str:
    return shown(_bracketed(part))


class _Update:
    """The parts of the new formula, as they are found."""

    def __init__(self, before: Formula, text: str) -> None:
        self.before, self.text = before, text
        tree = parse_text(before.text)
        assert isinstance(tree, Call)
        self.old = _pieces(tree.operands[1], before.text)
        self.whole = parse_text(f"({before.fixed})")
        self.fixed: list[Signed] = []
        self.pieces: list[_Piece] = []

    def sum(self, node: Node, sign: str = "+") -> None:
        """Adds or takes out the parts of a sum."""
        for own, part in signed_parts(node):
            inner = strip(part)
            nested = isinstance(inner, Call) and inner.function in ("+", "-")
            if nested and (has_bar(inner) or any(map(_is_dot, walk(inner)))):
                if sign == "-" or own == "-":
                    self.check_plain(inner)
                self.sum(inner, "-" if "-" in (sign, own) else "+")
            else:
                self.part("-" if "-" in (sign, own) else "+", part, inner)

    def check_plain(self, node: Node) -> None:
        """What is taken out together must be a plain sum."""
        if any(sign == "-" for sign, _ in signed_parts(node)):
            raise at_node(
                f"{shown(node)!r} is taken out and takes out: write one '-' for each term",
                self.text,
                node,
            )

    def part(self, sign: str, part: Node, inner: Node) -> None:
        if _is_dot(inner):
            self.fixed += [(sign, self.whole)] if self.before.parts else []
            self.change(sign, self.old, inner)
        elif has_bar(part):
            bars = random_terms(_bracketed(part), self.text)
            self.change(sign, [_Piece(_shown(part), bars)], inner)
        elif isinstance(inner, Call) and inner.function == "offset":
            self.change(sign, [_Piece(shown(_with(inner, self.whole)), ())], inner)
        else:
            self.fixed.append((sign, _with(part, self.whole)))
            if sign == "+" and any(map(_is_dot, walk(inner))):
                self.change(sign, self.old, inner)

    def change(self, sign: str, pieces: Sequence[_Piece], node: Node) -> None:
        """Adds random terms and offsets, or takes them out."""
        bars = [bar for piece in pieces for bar in piece.bars]
        shifts = {piece.text for piece in pieces if not piece.bars}
        if sign == "+":
            known = [bar for piece in self.pieces for bar in piece.bars]
            self.pieces += [left for piece in pieces for left in _new(piece, known)]
            return
        before, kept = list(self.pieces), []
        for piece in before:
            if piece.bars:
                kept += piece.without(bars)
            elif piece.text not in shifts:
                kept.append(piece)
        self.pieces = kept
        if kept == before and not _is_dot(node):
            _note_nothing(shown(node), [piece.text for piece in before])

    def written(self, response: str) -> str:
        """The new formula; its fixed part as it was where nothing was done to it."""
        fixed = self.before.fixed
        if self.fixed != [("+", self.whole)]:
            fixed = _terms_text(_formula_text(response, joined(self.fixed), self.pieces))
        text = _formula_text(response, fixed, self.pieces)
        return parse(text).text


def _new(piece: _Piece, known: Sequence[Bar]) -> Iterator[_Piece]:
    """A piece without the random terms that are there already; an offset is added each time."""
    if not piece.bars:
        yield piece
    yield from piece.without(known) if piece.bars else []


def _formula_text(response: str, fixed: str, pieces: Sequence[_Piece]) -> str:
    return f"{response} ~ {' + '.join([fixed, *(piece.text for piece in pieces)])}"


def _terms_text(text: str) -> str:
    """The fixed part of a formula as its terms, with a warning for each - that took nothing out."""
    parts = parse(text).parts
    found = sum_of(parts, text)
    for i, (sign, part) in enumerate(parts):
        if sign == "-":
            before, after = sum_of(parts[:i], text), sum_of(parts[: i + 1], text)
            if _labels(before) == _labels(after):
                _note_nothing(shown(part), _labels(before))
    terms = [
        ":".join(found.atoms[atom].text for atom in term.atoms)
        for term in found.terms
        if term.atoms
    ]
    if not found.intercept:
        return " + ".join(["0", *terms])
    return " + ".join(terms) or "1"


def _labels(terms: Sum) -> list[str]:
    return [terms.label(term) for term in terms.terms]


def _note_nothing(removed: str, there: Sequence[str]) -> None:
    message = f"{removed} is not in the formula: nothing is taken out; it has {', '.join(there)}"
    warn(LmmWarning(message, term=removed))


def _is_dot(node: Node) -> bool:
    return isinstance(node, Name) and node.name == "." and not node.written


def _with(node: Node, value: Node, bare: bool = True) -> Node:
    """A tree with each ``.`` replaced, in parentheses where an operator would take it apart."""
    if _is_dot(node):
        inner = strip(value)
        alone = not (isinstance(inner, Call) and (inner.function in INFIX or inner.function == "!"))
        return inner if bare or alone else Call("(", (("", inner),))
    if not isinstance(node, Call):
        return node
    bare = node.function not in INFIX and node.function != "!"
    return replace(
        node,
        args=tuple((n, None if arg is None else _with(arg, value, bare)) for n, arg in node.args),
    )
