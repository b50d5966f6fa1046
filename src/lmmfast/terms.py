"""A right-hand side -> terms, by formulaic's algebra and R's coding of factors.

R's rule (Chambers & Hastie, "Statistical Models in S", p. 38): inside a term a factor is coded
by contrasts when an earlier term contains all the other variables of this term, else by one
column for each level; a main effect always by contrasts. Without an intercept the first factor
of the first term that has one gets a column for each level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from .errors import FormulaError
from .formula import tokenize
from .rlang import Expression, translate

__all__ = ["Sum", "Term", "read_sum"]


@dataclass(frozen=True)
class Term:
    """A product of variables; the intercept is the empty product."""

    atoms: tuple[int, ...]  # indices into Sum.atoms, in order of first appearance
    dummy: tuple[bool, ...]  # per atom: a column for each level (if it is a factor)
    scale: float  # numeric factor, as in 2:x


@dataclass(frozen=True)
class Sum:
    """A right-hand side: variables and terms, in R's order (intercept, main effects, ...)."""

    text: str
    atoms: tuple[Expression, ...]
    terms: tuple[Term, ...]

    def label(self, term: Term) -> str:
        """A term as R writes it: "1", "a:b"."""
        return ":".join(self.atoms[atom].label for atom in term.atoms) or "1"

    @property
    def intercept(self) -> bool:
        """Whether there is a constant column."""
        return any(not term.atoms for term in self.terms)

    def in_patsys_order(self, is_factor: Callable[[Expression], bool]) -> Sum:
        """The same terms as patsy orders and codes them (statsmodels' formulas).

        Terms without numeric variables come first, then those with each set of these in order of
        appearance; inside these by degree.
        """
        numeric = {i for i, atom in enumerate(self.atoms) if not is_factor(atom)}
        raw = []
        for term in self.terms:
            own = set(term.atoms) & numeric
            place = (max(own), len(own)) if own else (-1, 0)  # atoms are in order of appearance
            raw.append((place, len(term.atoms), term.atoms, term.scale))
        raw.sort(key=lambda item: item[:2])
        terms = _coded_terms([(atoms, scale) for _, _, atoms, scale in raw])
        return Sum(self.text, self.atoms, tuple(terms))

    def coded(self, is_factor: Callable[[Expression], bool]) -> tuple[Term, ...]:
        """The terms, with R's correction when there is no intercept."""
        if self.intercept:
            return self.terms
        for i, term in enumerate(self.terms):
            for j, atom in enumerate(term.atoms):
                if is_factor(self.atoms[atom]):
                    dummy = (*term.dummy[:j], True, *term.dummy[j + 1 :])
                    changed = Term(term.atoms, dummy, term.scale)
                    return (*self.terms[:i], changed, *self.terms[i + 1 :])
        return self.terms


@lru_cache(maxsize=1024)
def read_sum(text: str) -> Sum:
    """Terms of a right-hand side such as ``"Days * cond + I(x^2)"``.

    Raises
    ------
    FormulaError
        When formulaic cannot read it, or it holds something that is not a term.
    """
    from formulaic import Formula
    from formulaic.parser.types import Factor

    aliased, atoms = _alias_atoms(text)
    try:
        products = list(Formula(aliased))
    except Exception as error:  # formulaic's, and Python's on text that makes no sense
        reason = str(error).split("\n")[0]
        raise FormulaError(f"cannot read {text!r}: {reason}", term=text) from error
    position = {f"@{i}": i for i in range(len(atoms))}
    raw: list[tuple[tuple[int, ...], float]] = []
    for product in products:
        scale, used = 1.0, set()
        for factor in product.factors:
            if factor.eval_method is Factor.EvalMethod.LITERAL:
                scale *= _number(factor.expr, text)
            else:
                used.add(position[factor.expr])
        raw.append((tuple(sorted(used)), scale))
    raw.sort(key=lambda item: len(item[0]))
    return Sum(text, atoms, _coded_terms(raw))


def _alias_atoms(text: str) -> tuple[str, tuple[Expression, ...]]:
    """The text with each variable or expression as `@i`, and what these stand for."""
    atoms: dict[str, tuple[int, Expression]] = {}
    aliased = ""
    pieces = tokenize(text)
    for i, piece in enumerate(pieces):
        if piece.text == ".":
            raise FormulaError(f"{text!r}: '.' is not supported, name the columns", term=text)
        if piece.kind == "operator" and piece.text == "in":
            aliased += " : "  # R's a %in% b is a:b; formulaic's would add b
            if pieces[i + 1 : i + 2] and pieces[i + 1].text == "(":
                raise FormulaError(f"{text!r}: write a:b:c for a %in% (b + c)", term=text)
            continue
        if piece.kind not in ("name", "python"):
            aliased += f" {piece.text} "
            continue
        code = f"`{piece.text}`" if piece.kind == "name" else piece.text
        expression = translate(code)
        if expression.code.startswith("offset("):
            raise FormulaError(f"{text!r}: an offset can only be added with '+'", term=text)
        index, _ = atoms.setdefault(expression.label, (len(atoms), expression))
        aliased += f"`@{index}`"
    return aliased, tuple(expression for _, expression in atoms.values())


def _number(literal: str, text: str) -> float:
    try:
        return float(literal)
    except ValueError:
        raise FormulaError(f"{text!r}: {literal} is not a term", term=text) from None


def _coded_terms(raw: list[tuple[tuple[int, ...], float]]) -> tuple[Term, ...]:
    """R's coding for each variable of each term, given the terms before it."""
    terms: list[Term] = []
    for atoms, scale in raw:
        earlier = [set(term.atoms) for term in terms]
        dummy = tuple(_needs_dummies(set(atoms) - {atom}, earlier) for atom in atoms)
        terms.append(Term(atoms, dummy, scale))
    return tuple(terms)


def _needs_dummies(others: set[int], earlier: list[set[int]]) -> bool:
    return bool(others) and not any(others <= term for term in earlier)
