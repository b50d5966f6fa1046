"""Means of the probabilities of ordered classes over a grid, with their errors.

Probabilities of every cell are averaged, not linear predictors, as R's emmeans does. Errors are by
the delta method in the fixed effects and the thresholds together; variances of random effects count
as known, as in all means over these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..classes import ClassScale, covariance_of
from ..estimability import openness_of
from .coefficients import Numbers
from .grid import text

if TYPE_CHECKING:
    from ...fit import Fit
    from .grid import Grid

NONE = "1"  # the variable of the mean of all


class Roles(NamedTuple):
    """Variables of specs and by without the one that says which class, and where that stood."""

    specs: Any
    by: Any
    role: str  # "specs", "by" or ""


class ClassMeans(NamedTuple):
    """What `EMMeans` is made of."""

    specs: tuple[str, ...]
    by: tuple[str, ...]
    cells: dict[str, np.ndarray]
    numbers: Numbers
    notes: tuple[str, ...]


def response_name(fit: Fit) -> str:
    """Of the column with the classes: the response's, without the backticks of the formula."""
    quoted = re.fullmatch("`([^`]+)`", fit.design.response)
    return quoted[1] if quoted else fit.design.response


def roles(specs: Any, by: Any, name: str) -> Roles:
    """Specs and by without the variable of the classes, which the grid does not have."""
    if not name:
        return Roles(specs, by, "")
    parts = specs.split("|", 1) if isinstance(specs, str) else [specs]
    role, found = "", []
    for i, part in enumerate([*parts, by]):
        left = _without(part, name)
        if left is not part:
            role = role or ("by" if i else "specs")
        found.append(left)
    if not isinstance(specs, str):
        return Roles(found[0] or NONE, found[-1], role)
    own = found[0].strip().removeprefix("~").strip() or NONE
    within = [part for part in found[1:-1] if part.strip()]
    return Roles(" | ".join([own, *within]), found[-1], role)


def _without(names: Any, name: str) -> Any:
    """The same object where the name is not among the names."""
    if isinstance(names, str):
        words = [word for word in re.split(r"[\s*+:]+", names.strip().removeprefix("~")) if word]
        return " * ".join(word for word in words if word != name) if name in words else names
    if isinstance(names, Sequence) and name in names:
        return [own for own in names if own != name]
    return names


def class_means(
    fit: Fit,
    grid: Grid,
    kind: str,
    wanted: list[str],
    within: list[str],
    weights: str,
    role: str,
    averaged: bool,
) -> ClassMeans:
    """Means of one kind of numbers of the classes, for each combination of some variables."""
    scale = ClassScale.of(fit, kind)
    names = wanted + within
    variance = grid.cell_variances() if averaged else np.zeros(len(grid.table))
    values, slope, open_ = _moved(fit, grid, scale, variance)
    shape = grid.offset.shape

    def means(values: np.ndarray) -> np.ndarray:
        flat = values.reshape(len(values), -1)
        found = grid.means(flat.reshape(*shape, -1), names, weights)
        return found.reshape(len(found), *values.shape[1:])

    there = grid.there(names)
    numbers = means(values)[there]
    J = np.einsum("mk,ikp->imp", scale.turn, means(slope)[there])
    numbers[means(open_[:, None])[there][:, 0] > 0] = np.nan
    cells = {name: own[there] for name, own in grid.cells(names).items()}
    own = _arranged(scale, cells, numbers, J, tuple(wanted), tuple(within), role, fit)
    return own._replace(notes=tuple(_notes(fit, kind, variance if averaged else None)))


def _moved(
    fit: Fit, grid: Grid, scale: ClassScale, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every cell: the numbers (c, m), derivatives of cumulative probabilities in the fixed
    effects and what the thresholds are made of (c, K - 1, p + K - 1), and whether it is open."""
    X = grid.X.reshape(-1, grid.X.shape[-1])
    kept = fit.estimates.fixed_kept
    eta = X[:, kept] @ fit.estimates.beta[kept] + grid.offset.ravel()
    below, h = scale.below(eta, variance)
    own = np.where(kept, X, 0.0)
    slope = np.concatenate(
        [-h[:, :, None] * own[:, None, :], h[:, :, None] * scale.thresholds], axis=2
    )
    open_ = np.where(grid.possible.ravel(), ~openness_of(fit).estimable(X), False)
    return scale.numbers(eta, variance, below), slope, open_.astype(float)


def _arranged(
    scale: ClassScale,
    cells: dict[str, np.ndarray],
    numbers: np.ndarray,
    J: np.ndarray,
    wanted: tuple[str, ...],
    within: tuple[str, ...],
    role: str,
    fit: Fit,
) -> ClassMeans:
    """Rows in the order of their variables, of which the classes' goes first among specs and last
    among by."""
    k, m = numbers.shape
    column = scale.column
    if column:
        column = response_name(fit) if column == "class" else column
        labels = np.array(scale.names, dtype=object)
        inside = role == "specs" or (not role and not wanted)
        if inside:
            places, cell = np.tile(np.arange(m), k), np.repeat(np.arange(k), m)
        else:
            places, cell = np.repeat(np.arange(m), k), np.tile(np.arange(k), m)
        own = {name: values[cell] for name, values in cells.items() if name != NONE or not inside}
        own_class = {column: labels[places]}
        made = own_class | own if inside else {**own, **own_class}
        specs = (column, *wanted) if inside else wanted
        by = within if inside else (*within, column)
    else:
        places, cell = np.zeros(k, int), np.arange(k)
        made, specs, by = cells, wanted, within
    values, slopes = numbers[cell, places], J[cell, places]
    vcov = slopes @ covariance_of(fit) @ slopes.T
    open_ = np.isnan(values)
    vcov[open_] = vcov[:, open_] = np.nan
    return ClassMeans(specs, by, made, Numbers(values, vcov), ())


SAID = {
    "prob": "Probabilities of the classes",
    "cum.prob": "Probabilities of the classes up to each threshold",
    "exc.prob": "Probabilities of the classes above each threshold",
    "mean.class": "Mean numbers of the class, from 1",
}


def _notes(fit: Fit, kind: str, variance: np.ndarray | None) -> list[str]:
    """What the numbers are, and over what they are averaged."""
    family: Any = fit.family
    notes = [f"{SAID[kind]}: {' < '.join(family.levels)}"]
    if variance is not None and np.any(variance):
        low, high = float(np.min(variance)), float(np.max(variance))
        size = text(low) + (f" to {text(high)}" if high > low else "")
        notes.append(f"Averaged over random effects, variance {size}")
    return notes
