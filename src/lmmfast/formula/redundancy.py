"""patsy's order and coding of terms, for statsmodels' formulas.

Terms without numeric variables come first, then those of each set of these in order of appearance;
inside these by degree. A product of factors is the sum of the products of contrasts of some of
them (none: the constant); those that no earlier term of the set has are put together again, from
left to right, into columns for each level (patsy's documentation, "How formulas work", section
"Redundancy and categorical factors"). So the columns of a term may be several products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

from .expressions import Expression
from .terms import Sum, Term

Factors = tuple[int, ...]
Subterm = dict[int, bool]  # factors, and whether each has its constant in it


def in_patsys_order(terms: Sum, is_factor: Callable[[Expression], bool]) -> Sum:
    """The same terms as patsy orders and codes them."""
    products = [product for _, parts in patsys_terms(terms, is_factor) for product in parts]
    return Sum(terms.atoms, tuple(products), terms.removed, settled=True)


def patsys_terms(
    terms: Sum, is_factor: Callable[[Expression], bool]
) -> list[tuple[Term, list[Term]]]:
    """The terms in patsy's order, each with the products that give its columns."""
    numeric = {i for i, atom in enumerate(terms.atoms) if not is_factor(atom)}
    buckets: dict[frozenset[int], list[Term]] = {frozenset(): []}
    for term in terms.terms:
        buckets.setdefault(frozenset(term.atoms) & numeric, []).append(term)
    found = []
    for bucket in buckets.values():
        used: set[frozenset[int]] = set()
        for term in sorted(bucket, key=lambda term: len(term.atoms)):
            factors = tuple(atom for atom in term.atoms if atom not in numeric)
            subterms = _joined(_unused(factors, used))
            found.append((term, [_product(term, part, numeric) for part in subterms]))
    return found


def _product(term: Term, subterm: Subterm, numeric: set[int]) -> Term:
    atoms = tuple(atom for atom in term.atoms if atom in numeric or atom in subterm)
    return Term(atoms, tuple(subterm.get(atom, False) for atom in atoms))


def _unused(factors: Factors, used: set[frozenset[int]]) -> Iterator[Subterm]:
    """Products of contrasts of some of the factors that no earlier term has, short ones first."""
    for some in _subsets(factors):
        if frozenset(some) not in used:
            used.add(frozenset(some))
            yield dict.fromkeys(some, False)


def _subsets(factors: Factors) -> Iterator[Factors]:
    for size in range(len(factors) + 1):
        yield from combinations(factors, size)


def _joined(subterms: Iterator[Subterm]) -> list[Subterm]:
    """The same columns in fewer products: contrasts with their constant are a column a level."""
    found = list(subterms)
    while _join_first(found):
        pass
    return found


def _join_first(subterms: list[Subterm]) -> bool:
    """Puts the first that it can into a later one with one factor more; whether there was one."""
    for i, short in enumerate(subterms):
        for long in subterms[i + 1 :]:
            if len(long) == len(short) + 1 and short.items() <= long.items():
                long[next(iter(long.keys() - short.keys()))] = True
                del subterms[i]
                return True
    return False
