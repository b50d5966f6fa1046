"""Small problems of every structure that the engine stores in its own way, with random data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
from dense import Problem, Term

Storage = tuple[int, bool, int]  # factors eliminated, dense off-diagonal, order of the dense rest
Cases = Iterator[tuple[str, Problem, Storage]]


def _codes(rng: np.random.Generator, n: int, m: int) -> np.ndarray:
    """n codes with every one of m levels, unbalanced."""
    rest = rng.choice(m, n - m, p=rng.dirichlet(np.full(m, 3.0)))
    return rng.permutation(np.concatenate([np.arange(m), rest]))


def _columns(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """An intercept and k - 1 correlated columns away from zero."""
    x = rng.normal(size=(n, k - 1)) @ (np.eye(k - 1) + 0.3) + 0.5
    return np.column_stack([np.ones(n), x])


def problem(
    rng: np.random.Generator,
    factors: list[np.ndarray],
    widths: list[int],
    structures: list[str] | None = None,
    fixed: int = 2,
) -> Problem:
    """Factors with so many columns each; y has effects of every column and noise."""
    n = len(factors[0])
    structures = structures or ["full"] * len(factors)
    terms = [
        Term(codes, _columns(rng, n, k), structure)
        for codes, k, structure in zip(factors, widths, structures, strict=True)
    ]
    y = rng.normal(size=n) + 3
    for term in terms:
        effects = rng.normal(size=(term.levels, term.z.shape[1])) * 0.7
        y += (term.z * effects[term.codes]).sum(axis=1)
    X = _columns(rng, n, fixed) if fixed else np.empty((n, 0))
    return Problem(y, X, terms)


def sparse_pair(rng: np.random.Generator, n: int, m1: int, m2: int) -> list[np.ndarray]:
    """Two factors; each level of the first co-occurs with two or three of the second."""
    first = np.arange(n) % m1
    second = (first + rng.integers(0, 3, n)) % m2
    second[:m2] = np.arange(m2)
    return [first, second]


def dense_pair(rng: np.random.Generator, m1: int, m2: int) -> list[np.ndarray]:
    """Every level of one co-occurs with every level of the other, rows shuffled."""
    rows = rng.permutation(m1 * m2)
    return [rows % m1, rows // m1]


def chain(rng: np.random.Generator, n: int, *sizes: int) -> list[np.ndarray]:
    """Nested factors, finest first: sizes levels each."""
    codes = [_codes(rng, n, sizes[0])]
    for fine, coarse in pairwise(sizes):
        parent = rng.permutation(np.arange(fine) % coarse)
        codes.append(parent[codes[-1]])
    return codes


def _weighted(made: Problem, rng: np.random.Generator) -> Problem:
    """The same with weights over three decades and an offset."""
    n = len(made.y)
    offset = rng.normal(size=n) * 2
    return replace(made, y=made.y + offset, weights=10 ** rng.uniform(-1.5, 1.5, n), offset=offset)


def _one_factor(rng: np.random.Generator) -> Cases:
    codes = _codes(rng, 80, 9)
    for k in (1, 2, 3, 4, 8, 17):
        for kind in ("full", "diag"):
            yield (
                f"single-{k}-{kind}",
                problem(rng, [_codes(rng, 110, 13)], [k], [kind]),
                (1, True, 0),
            )
    yield "two-terms", problem(rng, [codes, codes], [2, 3]), (1, True, 0)
    kinds = ["diag", "full", "full"]
    yield "three-terms", problem(rng, [codes, codes, codes], [2, 1, 3], kinds), (1, True, 0)
    yield "many-fixed", problem(rng, [codes], [2], fixed=12), (1, True, 0)
    yield "no-fixed", problem(rng, [codes], [2], fixed=0), (1, True, 0)


def _designed(rng: np.random.Generator) -> Cases:
    for k1, k2 in [(1, 1), (2, 1), (1, 3), (3, 4), (8, 2)]:
        order = min(14 * k2, 21 * k1)
        yield (
            f"designed-{k1}-{k2}",
            problem(rng, dense_pair(rng, 21, 14), [k1, k2]),
            (1, True, order),
        )
    four = [*dense_pair(rng, 12, 8), _codes(rng, 96, 5), _codes(rng, 96, 3)]
    yield "designed-four", problem(rng, four, [2, 2, 3, 1]), (1, True, 34)
    kinds = ["diag", "full", "diag", "diag"]
    yield "designed-diag", problem(rng, four, [3, 2, 3, 2], kinds), (1, True, 37)
    yield "designed-fixed", problem(rng, four[:2], [2, 1], fixed=12), (1, True, 8)
    yield "designed-no-fixed", problem(rng, four[:2], [2, 1], fixed=0), (1, True, 8)


def _sparse(rng: np.random.Generator) -> Cases:
    for k1 in range(1, 7):
        for k2 in range(1, 6):
            pair = sparse_pair(rng, 200, 84, 15)
            yield f"sparse-{k1}-{k2}", problem(rng, pair, [k1, k2]), (1, False, 15 * k2)
    pair = sparse_pair(rng, 200, 84, 15)
    yield "sparse-diag", problem(rng, pair, [2, 3], ["diag", "diag"]), (1, False, 45)
    yield "sparse-fixed", problem(rng, pair, [2, 3], fixed=12), (1, False, 45)
    yield "sparse-no-fixed", problem(rng, pair, [2, 3], fixed=0), (1, False, 45)
    # more than the 256 columns of one strip
    pair = sparse_pair(rng, 600, 320, 290)
    yield "sparse-strips", problem(rng, pair, [1, 1]), (1, False, 290)
    pair = sparse_pair(rng, 400, 210, 110)
    yield "sparse-strips-3", problem(rng, pair, [2, 3]), (1, False, 330)
    pair = sparse_pair(rng, 300, 120, 30)
    three = [*pair, (pair[0] + rng.integers(0, 2, 300)) % 20]
    yield "sparse-three", problem(rng, three, [2, 1, 3]), (1, False, 90)
    five = [*three, _codes(rng, 300, 4), _codes(rng, 300, 3)]
    yield "sparse-five", problem(rng, five, [2, 3, 2, 4, 1]), (1, False, 149)


def _nested(rng: np.random.Generator) -> Cases:
    codes = _codes(rng, 80, 9)
    yield "identical", problem(rng, [codes, rng.permutation(9)[codes]], [1, 2]), (2, False, 0)
    for widths in [(1, 1), (2, 1), (1, 3), (3, 5)]:
        made = problem(rng, chain(rng, 200, 40, 9), list(widths))
        yield f"nested-{widths[0]}-{widths[1]}", made, (2, False, 0)
    three = chain(rng, 240, 60, 16, 5)
    yield "nested-three", problem(rng, three, [2, 1, 3]), (3, False, 0)
    yield "nested-reversed", problem(rng, three[::-1], [2, 1, 3]), (3, False, 0)
    yield "nested-four", problem(rng, chain(rng, 300, 90, 30, 10, 3), [1, 2, 1, 2]), (4, False, 0)
    yield "nested-diag", problem(rng, three, [2, 3, 2], ["diag"] * 3), (3, False, 0)
    yield "nested-fixed", problem(rng, three, [2, 1, 2], fixed=12), (3, False, 0)
    yield "nested-no-fixed", problem(rng, three, [2, 1, 2], fixed=0), (3, False, 0)
    pupils = chain(rng, 300, 110, 14)
    crossed = [*pupils, (pupils[0] + rng.integers(0, 2, 300)) % 12]
    yield "nested-crossed", problem(rng, crossed, [2, 1, 3]), (2, False, 36)
    several = [*crossed, (pupils[0] + rng.integers(0, 2, 300)) % 17]
    yield "nested-several", problem(rng, several, [1, 2, 3, 1]), (2, False, 53)
    deep = [*three, (three[0] + rng.integers(0, 2, 240)) % 11]
    yield "nested-three-crossed", problem(rng, deep, [2, 1, 2, 3]), (3, False, 33)
    shared = [three[0], three[0], three[1], deep[3], deep[3]]
    kinds = ["full", "diag", "diag", "full", "full"]
    made = problem(rng, shared, [1, 2, 2, 2, 1], kinds)
    yield "nested-shared-terms", made, (2, False, 33)


def _apart(rng: np.random.Generator) -> Cases:
    """A factor's terms with another factor's between them: theta goes by terms, not by factors."""
    first, second = sparse_pair(rng, 300, 120, 30)
    kinds = ["full", "full", "diag"]
    made = problem(rng, [first, second, first], [1, 2, 2], kinds)
    yield "apart", made, (1, False, 60)
    made = problem(rng, [second, first, second], [2, 2, 1])
    yield "apart-trailing", made, (1, False, 90)


def _all() -> Iterator[tuple[str, Problem, Storage]]:
    rng = np.random.default_rng(20)
    for family in (_one_factor, _designed, _sparse, _nested):
        yield from family(rng)
    for family in (_one_factor, _designed, _sparse, _nested):
        name, made, storage = list(family(rng))[-1]
        yield f"{name}-weighted", _weighted(made, rng), storage
    yield from _apart(np.random.default_rng(21))


STRUCTURES: dict[str, tuple[Problem, Storage]] = {
    name: (made, storage) for name, made, storage in _all()
}

# Each pair of widths is a way through the kernels: test_kernels and test_gradient go them all. What
# is computed from what the kernels give meets every width at either factor, the others if slow.
OFTEN = {(1, 1), (1, 4), (2, 3), (3, 2), (4, 1), (5, 5), (6, 1)}
MORE_WIDTHS = [
    f"sparse-{k1}-{k2}" for k1 in range(1, 7) for k2 in range(1, 6) if (k1, k2) not in OFTEN
]
