"""A right-hand side -> terms, by R's algebra and R's coding of factors.

The algebra is that of Wilkinson and Rogers (1973), *Appl. Stat.* 22, as R's ``terms.formula`` has
it: terms are sets of variables; ``+`` unites, ``:`` combines each with each, ``a*b`` is
``a + b + a:b``, ``a/b`` is ``a + b:(all of a)``, ``a %in% b`` is ``a:b``, ``^`` repeats, ``-``
takes out, 0 and 1 set the intercept.

R's rule of coding (Chambers & Hastie, "Statistical Models in S", p. 38): inside a term a factor is
coded by contrasts when an earlier term contains all the other variables of this term, else by one
column for each level; a main effect always by contrasts. Without an intercept the first factor
of the first term that has one gets a column for each level.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce

from ..errors import FormulaError, LmmWarning, warn
from .bars import Signed, at_node, signed_parts
from .expressions import Expression, expression_of
from .parser import parse_text
from .tree import Call, Constant, Name, Node, shown, strip

MOST_TERMS = 4096  # that products and powers may make

Mask = int  # a set of variables, one bit each
Rule = Callable[[list[Mask], list[Mask]], list[Mask]]


@dataclass(frozen=True)
class Term:
    """A product of variables; the intercept is the empty product."""

    atoms: tuple[int, ...]  # indices into Sum.atoms, in order of first appearance
    dummy: tuple[bool, ...]  # per atom: a column for each level (if it is a factor)


@dataclass(frozen=True)
class Sum:
    """A right-hand side: variables and terms, in R's order (intercept, main effects, ...)."""

    atoms: tuple[Expression, ...]
    terms: tuple[Term, ...]
    removed: tuple[Expression, ...] = ()  # variables all of whose terms were taken out again
    settled: bool = False  # whether `dummy` holds already for the factors that there are

    def label(self, term: Term) -> str:
        """A term as R writes it: "1", "a:b"."""
        return ":".join(self.atoms[atom].label for atom in term.atoms) or "1"

    @cached_property
    def intercept(self) -> bool:
        """Whether there is a constant column."""
        return any(not term.atoms for term in self.terms)

    def coded(self, is_factor: Callable[[Expression], bool]) -> tuple[Term, ...]:
        """The terms, with R's correction when there is no intercept."""
        if self.intercept or self.settled:
            return self.terms
        for i, term in enumerate(self.terms):
            for j, atom in enumerate(term.atoms):
                if is_factor(self.atoms[atom]):
                    dummy = (*term.dummy[:j], True, *term.dummy[j + 1 :])
                    return (*self.terms[:i], Term(term.atoms, dummy), *self.terms[i + 1 :])
        return self.terms


@lru_cache(maxsize=1024)
def read_sum(text: str, python: bool = False) -> Sum:
    """Terms of a right-hand side such as ``"Days * cond + I(x^2)"``."""
    return sum_of(signed_parts(parse_text(text, python)), text, python)


def sum_of(parts: Iterable[Signed], text: str, python: bool = False) -> Sum:
    """Terms of the parts of a sum in the formula `text`; FormulaError for what is not a term.

    With `python` operators bind as in Python, and terms and their variables stay in the order in
    which they are written.
    """
    algebra = _Algebra(text, python)
    found = algebra.sum(parts, True)
    degrees = found if python else sorted(found, key=int.bit_count)  # Python's sort is stable
    used = _members(_union(degrees))
    place = {atom: i for i, atom in enumerate(used)}
    atoms = [tuple(place[atom] for atom in _written(mask)) for mask in degrees]
    if algebra.intercept:
        atoms.insert(0, ())
    kept = tuple(algebra.atoms[i] for i in used)
    removed = tuple(atom for i, atom in enumerate(algebra.atoms) if i not in place)
    return Sum(kept, _coded_terms(atoms), removed)


class _Algebra:
    """Variables met so far, and what was said of the intercept."""

    def __init__(self, text: str, python: bool) -> None:
        self.text, self.python = text, python
        self.places: dict[str, int] = {}
        self.atoms: list[Expression] = []
        self.intercept = True

    def terms(self, node: Node, added: bool = True) -> list[Mask]:
        """The terms of a part; `added` is false behind a minus, where 0 and 1 change meaning."""
        node = strip(node)
        if isinstance(node, Constant):
            self.constant(node, added)
            return []
        if isinstance(node, Name):
            return self.atom(node)
        if node.function in ("+", "-"):
            return self.sum(signed_parts(node), added)
        if node.function in ("^", "**"):
            return self.power(node, added)
        rule = _RULES.get(node.function)
        return self.product(node, rule, added) if rule else self.atom(node)

    def sum(self, parts: Iterable[Signed], added: bool) -> list[Mask]:
        found: dict[Mask, None] = {}
        for sign, part in parts:
            terms = dict.fromkeys(self.terms(part, added == (sign == "+")))
            if sign == "+":
                found |= terms
            else:
                found = {mask: None for mask in found if mask not in terms}
        return list(found)

    def product(self, node: Call, rule: Rule, added: bool) -> list[Mask]:
        """A chain of one operator, which leans to the left."""
        spine = [node]
        while isinstance(left := spine[-1].operands[0], Call) and left.function == node.function:
            spine.append(left)
        found = self.operand(spine[-1].operands[0], node, added)
        for call in reversed(spine):
            right = self.operand(call.operands[1], call, added)
            self.check_nesting(call)
            self.bounded(len(found) * len(right), call)
            found = list(dict.fromkeys(rule(found, right)))
        return found

    def check_nesting(self, call: Call) -> None:
        """Among terms a %in% b is nesting; a set of values stands in I()."""
        table = strip(call.operands[1])
        if call.function == "%in%" and isinstance(table, Call) and table.function == "c":
            raise self.error(f"among terms %in% nests variables: write I({shown(call)})", call)

    def operand(self, node: Node, product: Call, added: bool) -> list[Mask]:
        inner = strip(node)
        if isinstance(inner, Constant):
            what = shown(product)
            reason = f"{inner.text} is no variable, so that {what!r} is no product of variables"
            raise self.error(f"{reason}: write I({what}) for arithmetic", product)
        return self.terms(inner, added)

    def power(self, node: Call, added: bool) -> list[Mask]:
        base, exponent = node.operands
        value = strip(exponent)
        number = value.value if isinstance(value, Constant) else None
        count = int(min(number, 1e9)) if isinstance(number, (int, float)) and number >= 2 else 0
        if count == 0 or count != number:
            reason = "the power of a sum must be a whole number, 2 or more"
            raise self.error(f"{reason}: write I({shown(node)}) for arithmetic", node)
        found = first = self.operand(base, node, added)
        for _ in range(count - 1):
            self.bounded(len(found) * len(first), node)
            products = [a | b for a in first for b in found]
            more = list(dict.fromkeys([*found, *products] if self.python else products))
            done = set(more) == set(found)
            found = more
            if done:
                break
        if isinstance(strip(base), Name) and not self.python:
            what = shown(node)
            text = f"{what} among terms is {shown(base)} alone, as in R: the power is I({what})"
            warn(LmmWarning(text))
        return found

    def bounded(self, size: int, node: Node) -> None:
        if size > 16 * MOST_TERMS:
            raise self.error(f"{shown(node)[:60]!r} stands for more than {MOST_TERMS} terms", node)

    def constant(self, node: Constant, added: bool) -> None:
        if isinstance(node.value, bool) or node.value not in (0, 1):
            meaning = "1 and 0 stand for an intercept and none, other constants for nothing"
            raise self.error(f"{node.text} is not a term: {meaning}", node)
        self.intercept = (node.value == 1) == added

    def atom(self, node: Node) -> list[Mask]:
        """The variable or expression as a set of one."""
        self.check(node)
        expression = expression_of(node, self.python)
        place = self.places.setdefault(expression.label, len(self.atoms))
        if place == len(self.atoms):
            self.atoms.append(expression)
        return [Product(1 << place, (place,)) if self.python else 1 << place]

    def check(self, node: Node) -> None:
        if isinstance(node, Name) and node.name == "." and not node.written:
            raise self.error(
                "'.' stands for the other columns of the data in the fixed part of a formula only: "
                "name the columns",
                node,
            )
        if isinstance(node, Call) and node.function in _REFUSED:
            raise self.error(_REFUSED[node.function], node)

    def error(self, reason: str, node: Node) -> FormulaError:
        return at_node(reason, self.text, node, shown(node))


class Product(int):
    """A set of variables that remembers in which order they were multiplied, as patsy's do."""

    order: tuple[int, ...]

    def __new__(cls, mask: Mask, order: tuple[int, ...]) -> Product:
        new = super().__new__(cls, mask)
        new.order = order
        return new

    def __or__(self, other: Mask) -> Product:
        order = (*self.order, *(atom for atom in _written(other) if not self >> atom & 1))
        return Product(int(self) | int(other), order)

    def __ror__(self, other: Mask) -> Product:
        return Product(other, _members(other)) | self


def _written(mask: Mask) -> tuple[int, ...]:
    """Numbers of the bits that are set, in the order in which they are known to come."""
    return mask.order if isinstance(mask, Product) else _members(mask)


def _union(masks: Iterable[Mask]) -> Mask:
    return reduce(operator.or_, masks, 0)


_REFUSED = {
    "list": "square brackets have no meaning among terms",
    "offset": "an offset can only be added with '+'",
    "~": "there is more than one '~'",
}
_RULES: dict[str, Rule] = {
    ":": lambda left, right: [a | b for a in left for b in right],
    "*": lambda left, right: [*left, *right, *(a | b for a in left for b in right)],
    "/": lambda left, right: [*left, *(_union(left) | b for b in right)],
    "%in%": lambda left, right: [a | _union(right) for a in left],
}


def _members(mask: Mask) -> tuple[int, ...]:
    """Numbers of the bits that are set."""
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return tuple(found)


def _coded_terms(raw: Sequence[tuple[int, ...]]) -> tuple[Term, ...]:
    """R's coding for each variable of each term, given the terms before it."""
    known: set[Mask] = set()
    holding: dict[int, list[Mask]] = {}  # earlier terms by variable
    terms: list[Term] = []
    for atoms in raw:
        mask = _union(1 << atom for atom in atoms)
        dummy = tuple(_needs_dummies(mask & ~(1 << atom), known, holding) for atom in atoms)
        terms.append(Term(atoms, dummy))
        known.add(mask)
        for atom in atoms:
            holding.setdefault(atom, []).append(mask)
    return tuple(terms)


def _needs_dummies(others: Mask, known: set[Mask], holding: dict[int, list[Mask]]) -> bool:
    """Whether no earlier term contains these variables; a main effect never needs them."""
    if not others or others in known:
        return False
    candidates = min((holding.get(atom, []) for atom in _members(others)), key=len)
    return not any(others & ~mask == 0 for mask in candidates)
