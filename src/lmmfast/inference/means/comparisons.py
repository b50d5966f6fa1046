"""Contrasts among means: which there are, what they are called, their weights.

References
----------
Integer orthogonal polynomials are those of Fisher & Yates' tables; names and directions are those
documented for R's package emmeans.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import combinations, pairwise
from math import gcd, lcm
from typing import Any

import numpy as np

from ..linear import hypothesis

Named = tuple[list[str], np.ndarray]  # names, and weights (k x m)

# Which of m means are compared: numbers of the first and the second of each pair.
PAIRS: dict[str, Callable[[int], list[tuple[int, int]]]] = {
    "pairwise": lambda m: list(combinations(range(m), 2)),
    "revpairwise": lambda m: [(j, i) for i, j in combinations(range(m), 2)],
    "consec": lambda m: [(i + 1, i) for i in range(m - 1)],
}
CONTROLS = {"trt.vs.ctrl": 0, "trt.vs.ctrl1": 0, "trt.vs.ctrlk": -1, "dunnett": 0}
OTHERS = ("eff", "del.eff", "mean_chg", "poly", "identity")
ALIASES = {"tukey": "pairwise", "trt_vs_ctrl": "trt.vs.ctrl", "del_eff": "del.eff"}
KINDS = (*PAIRS, *CONTROLS, *OTHERS)
DEFAULTS = {  # adjustments
    "pairwise": "tukey",
    "revpairwise": "tukey",
    **dict.fromkeys(CONTROLS, "holm"),
    "consec": "holm",
    "mean_chg": "holm",
    "eff": "fdr",
    "del.eff": "fdr",
}
HIGHEST_DEGREE = 6
DEGREES = ("linear", "quadratic", "cubic", "quartic", "degree 5", "degree 6")


def kind_of(kind: Any) -> Any:
    """A kind by its own name, or weights as they are."""
    return ALIASES.get(kind, kind) if isinstance(kind, str) else kind


def contrast_weights(kind: Any, labels: Sequence[str], ref: Any = None) -> Named:
    """Names and weights (k x m) of contrasts among m means, which are called ``labels``.

    They are given by a name of `KINDS`, by weights with or without names, by text about the labels
    ("b - a, (b + c) / 2 - a"), or by a table with one contrast a row and m columns. ``ref`` is the
    mean that comparisons with a control are made with, by label or place. ValueError for anything
    else.
    """
    kind = kind_of(kind)
    if isinstance(kind, str) and kind in KINDS:
        return _of_kind(kind, labels, ref)
    if ref is not None:
        raise ValueError(f"ref is for comparisons with a control ({', '.join(CONTROLS)})")
    if isinstance(kind, str):
        return _in_words(kind, labels)
    return _given(kind, labels)


def _of_kind(kind: str, labels: Sequence[str], ref: Any) -> Named:
    m = len(labels)
    if kind in CONTROLS:
        control = _control(CONTROLS[kind] if ref is None else ref, labels)
        return _differences([(i, control) for i in range(m) if i != control], labels)
    if ref is not None:
        raise ValueError(f"ref is for comparisons with a control, not for {kind!r}")
    if kind in PAIRS:
        return _differences(PAIRS[kind](m), labels)
    if kind == "poly":
        return _polynomial(labels)
    if kind == "identity":
        return list(labels), np.eye(m)
    if kind == "mean_chg":
        return _changes(labels)
    others = np.full((m, m), 1 / m) if kind == "eff" else (1 - np.eye(m)) / max(m - 1, 1)
    return [f"{label} effect" for label in labels], np.eye(m) - others


def _control(ref: Any, labels: Sequence[str]) -> int:
    """The place of the control."""
    if isinstance(ref, (int, np.integer)) and not isinstance(ref, bool):
        if not -len(labels) <= ref < len(labels):
            raise ValueError(f"ref: there are {len(labels)} means, counted from 0; got {ref}")
        return int(ref) % len(labels)
    if str(ref) not in labels:
        raise ValueError(f"ref: {ref!r} is none of the means: {', '.join(labels[:12])}")
    return list(labels).index(str(ref))


def _changes(labels: Sequence[str]) -> Named:
    """Mean of all after a place minus mean of all up to it."""
    m = len(labels)
    weights = np.array([[1 / (m - i) if j >= i else -1 / i for j in range(m)] for i in range(1, m)])
    names = [f"{a}|{b}" for a, b in pairwise(labels)]
    return names, weights.reshape(m - 1, m)


def _in_words(text: str, labels: Sequence[str]) -> Named:
    known = ", ".join(map(repr, KINDS))
    try:
        weights, values, names = hypothesis(text, labels, "contrasts")
    except ValueError as error:
        raise ValueError(
            f"contrasts must be one of {known}, weights, or an expression of the means "
            f"{', '.join(labels[:8])}, not {text!r} ({error})"
        ) from None
    if values.any():
        raise ValueError(f"contrasts: {text!r} has a right-hand side; leave it out")
    return list(names), weights


def _given(kind: Any, labels: Sequence[str]) -> Named:
    names: list[str] | None = None
    if isinstance(kind, Mapping):
        if any(isinstance(own, str) for own in kind.values()):
            return _named_texts(kind, labels)
        names = [str(name) for name in kind]
        kind = [_by_level(own, labels) for own in kind.values()]
    elif hasattr(kind, "index") and hasattr(kind, "columns"):
        kind = _of_frame(kind, labels)
        names = [str(name) for name in kind.index]
    elif isinstance(kind, (list, tuple)) and kind and all(isinstance(own, str) for own in kind):
        parts = [_in_words(own, labels) for own in kind]
        return [name for own, _ in parts for name in own], np.concatenate([w for _, w in parts])
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


def _of_frame(frame: Any, labels: Sequence[str]) -> Any:
    """A row for each contrast, columns in the order of the means: by their names, where rows or
    columns are named after all means."""
    for own in (frame, frame.T):
        at = {str(name): i for i, name in enumerate(own.columns)}
        if at.keys() == {*labels} and len(own.columns) == len(labels):
            return own.iloc[:, [at[label] for label in labels]]
    return frame


def _by_level(weights: Any, labels: Sequence[str]) -> Any:
    """Weights by the names of the means, zero where one is not named; others as they are."""
    items = getattr(weights, "items", None)
    own = {} if items is None else {str(name): value for name, value in items()}
    named = isinstance(weights, Mapping) or (own and own.keys() <= {*labels})
    if not named:
        return weights
    unknown = [name for name in own if name not in labels]
    if unknown:
        raise ValueError(
            f"contrasts: {unknown[0]!r} is none of the means: {', '.join(labels[:12])}"
        )
    return [own.get(label, 0.0) for label in labels]


def _named_texts(kind: Mapping[Any, Any], labels: Sequence[str]) -> Named:
    """Contrasts in words, or weights, by name."""
    names, rows = [], []
    for name, own in kind.items():
        if isinstance(own, str):
            given = _in_words(own, labels)
        else:
            given = _given([_by_level(own, labels)], labels)
        several = len(given[1]) > 1
        names += [f"{name} {i}" if several else str(name) for i in range(len(given[1]))]
        rows.append(given[1])
    return names, np.concatenate(rows)


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
