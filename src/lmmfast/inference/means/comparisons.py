"""Contrasts among means, and p-values and critical values for several of them.

References
----------
Tukey (1953) and Kramer (1956), *Biometrics* 12 (studentized range); Holm (1979), *Scand. J. Stat.*
6; Šidák (1967), *J. Amer. Statist. Assoc.* 62. Integer orthogonal polynomials are those of Fisher &
Yates' tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from math import gcd, lcm
from typing import Any

import numpy as np

from ..wald import t_pvalues, t_quantile

# Which of m means are compared: numbers of the first and the second of each pair.
PAIRS: dict[str, Callable[[int], list[tuple[int, int]]]] = {
    "pairwise": lambda m: list(combinations(range(m), 2)),
    "revpairwise": lambda m: [(j, i) for i, j in combinations(range(m), 2)],
    "trt.vs.ctrl": lambda m: [(i, 0) for i in range(1, m)],
    "consec": lambda m: [(i + 1, i) for i in range(m - 1)],
}
KINDS = (*PAIRS, "poly")
ADJUSTMENTS = ("none", "bonferroni", "holm", "sidak", "tukey")
DEFAULTS = dict(zip(PAIRS, ("tukey", "tukey", "holm", "holm"), strict=True))
HIGHEST_DEGREE = 6
DEGREES = ("linear", "quadratic", "cubic", "quartic", "degree 5", "degree 6")


def contrast_weights(kind: Any, labels: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Names and weights (k x m) of contrasts among m means, which are called ``labels``.

    They are given by a name of `KINDS`, by weights with or without names, or by a table with one
    contrast a row and m columns; ValueError for anything else.
    """
    if isinstance(kind, str):
        if kind not in KINDS:
            known = ", ".join(map(repr, KINDS))
            raise ValueError(f"contrasts must be one of {known}, weights or None, not {kind!r}")
        if kind == "poly":
            return _polynomial(labels)
        return _differences(PAIRS[kind](len(labels)), labels)
    names: list[str] | None = None
    if isinstance(kind, Mapping):
        names, kind = [str(name) for name in kind], list(kind.values())
    elif hasattr(kind, "index") and hasattr(kind, "columns"):
        names = [str(name) for name in kind.index]
    try:
        weights = np.atleast_2d(np.asarray(kind, dtype=float))
    except (TypeError, ValueError):
        raise ValueError(f"contrasts must be rows of equally many weights; got {kind!r}") from None
    if weights.ndim != 2 or weights.shape[1] != len(labels) or not np.isfinite(weights).all():
        shape = " x ".join(map(str, weights.shape))
        raise ValueError(
            f"contrasts need a finite weight for each of the {len(labels)} means "
            f"({', '.join(labels[:10])}); they are {shape}"
        )
    return names or [f"c{i}" for i in range(len(weights))], weights


def _differences(
    pairs: Sequence[tuple[int, int]], labels: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """First minus second of every pair."""
    weights = np.zeros((len(pairs), len(labels)))
    for row, (first, second) in zip(weights, pairs, strict=True):
        row[first], row[second] = 1.0, -1.0
    return [f"{labels[first]} - {labels[second]}" for first, second in pairs], weights


def _polynomial(labels: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Orthogonal polynomials of equally spaced levels, in the smallest integers."""
    points = [Fraction(i) for i in range(len(labels))]
    basis: list[list[Fraction]] = [[Fraction(1)] * len(points)]
    for degree in range(1, min(HIGHEST_DEGREE, len(labels) - 1) + 1):
        new = [point**degree for point in points]
        for old in basis:
            share = _dot(new, old) / _dot(old, old)
            new = [a - share * b for a, b in zip(new, old, strict=True)]
        basis.append(new)
    rows = [_smallest_integers(row) for row in basis[1:]]
    return list(DEGREES[: len(rows)]), np.array(rows, dtype=float).reshape(len(rows), len(labels))


def _dot(left: list[Fraction], right: list[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(left, right, strict=True)), Fraction(0))


def _smallest_integers(row: list[Fraction]) -> list[int]:
    whole = lcm(*(value.denominator for value in row))
    integers = [int(value * whole) for value in row]
    return [value // gcd(*integers) for value in integers]


def adjustment(kind: Any, asked: str | None) -> str:
    """What was asked for, or the default: Tukey's for all pairs, Holm's for other differences,
    none for polynomials and weights. Tukey's is for all pairs only, else it becomes Sidak's."""
    default = DEFAULTS.get(kind, "none") if isinstance(kind, str) else "none"
    adjust = asked or default
    return "sidak" if adjust == "tukey" and default != "tukey" else adjust


def adjusted(statistic: np.ndarray, df: np.ndarray, means: int, adjust: str) -> np.ndarray:
    """Two-sided p-values of one family of tests (k), by one of `ADJUSTMENTS`.

    NaN for contrasts that cannot be estimated: they count, as in R. Tukey's needs the number of
    means that are compared.
    """
    p, k = t_pvalues(statistic, df), len(statistic)
    if adjust == "none" or k < 2:
        return p
    if adjust == "tukey":
        return _tukey(np.abs(statistic), df, means)
    if adjust == "bonferroni":
        return np.asarray(np.minimum(1.0, k * p))
    if adjust == "sidak":
        with np.errstate(divide="ignore"):
            return np.asarray(-np.expm1(k * np.log1p(-p)))
    order = np.argsort(p)  # Holm's; missing ones last
    steps = np.maximum.accumulate((k - np.arange(k)) * p[order])
    p[order] = np.minimum(1.0, steps)
    return p


def _tukey(size: np.ndarray, df: np.ndarray, means: int) -> np.ndarray:
    from scipy.stats import studentized_range  # a second: only where it is needed

    p, known = np.full(len(size), np.nan), ~np.isnan(size)
    p[known] = studentized_range.sf(np.sqrt(2) * size[known], means, df[known])
    return np.asarray(np.clip(p, 0.0, 1.0))


def critical(level: float, df: np.ndarray, tests: int, means: int, adjust: str) -> np.ndarray:
    """Critical values (k) of simultaneous intervals; Holm's have none: Bonferroni's."""
    outside = 1 - level
    if tests < 2 or adjust == "none":
        return t_quantile(1 - outside / 2, df)
    if adjust == "tukey":
        from scipy.stats import studentized_range

        found = {v: studentized_range.ppf(level, means, v) for v in np.unique(df[~np.isnan(df)])}
        return np.asarray(np.array([found.get(value, np.nan) for value in df]) / np.sqrt(2))
    each = -np.expm1(np.log1p(-outside) / tests) if adjust == "sidak" else outside / tests
    return t_quantile(1 - each / 2, df)
