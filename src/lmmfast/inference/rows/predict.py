"""Predictions: the linear predictor from arrays, for the rows of a fit and for new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.alignment import aligned
from ...data.columns import Table
from ...data.members import Members
from ...data.new_rows import ArrayRecipe, NewRows
from ...data.relationship import not_related
from ...data.spelling import seen
from ...data.strays import not_numbers
from ...errors import DataError, FitError, RankDeficientWarning, warn
from ...formula.cells import floats_of
from ...formula.column import first_rows
from ..estimability import openness_of
from .chosen import Chosen, chosen_columns

if TYPE_CHECKING:
    import pandas as pd

    from ...data.design import Design
    from ...data.recipe import Recipe
    from ...engine.estimates import Estimates
    from ...fit import Fit


NEW_LEVELS = ("error", "population", "missing", "sample")
BLOCK = 65_536  # rows that are worked on together where there is no memory for all
SHOWN = 5  # unseen levels and dropped columns named in a message


def predict(
    fit: Fit, newdata: Any, re_form: Any, new_levels: str, offset: Any, random_only: bool, seed: int
) -> pd.Series:
    """Predictions as ``Fit.predict`` documents them."""
    import pandas as pd

    chosen = chosen_columns(fit.design, re_form)
    if new_levels not in NEW_LEVELS:
        known = ", ".join(f'"{name}"' for name in NEW_LEVELS)
        raise DataError(f"new_levels must be one of {known}, not {new_levels!r}")
    if newdata is None:
        if offset is not None:
            raise DataError("offset= is for new data: the rows of the fit have theirs already")
        values = fitted_array(fit.estimates, fit.design, chosen, fixed=not random_only)
        return row_series(fit.design, values, "predict")
    table = Table.of(newdata)
    values = np.zeros(table.n) if random_only else new_fixed(fit, table, offset)
    if chosen:
        values += new_random(fit, table, chosen, new_levels, seed)
    return pd.Series(values, index=table.index, name="predict")


# ---- the rows of the fit ------------------------------------------------------------------------


def fitted_of(fit: Fit) -> np.ndarray:
    """Fitted values of the rows used (n), computed once; read-only."""
    if fitted_of not in fit._known:
        fit._known[fitted_of] = fitted_array(fit.estimates, fit.design)
        fit._known[fitted_of].flags.writeable = False
    values: np.ndarray = fit._known[fitted_of]
    return values


def fitted_array(
    estimates: Estimates, design: Design, chosen: Chosen | None = None, fixed: bool = True
) -> np.ndarray:
    """Fitted values of the rows used (n) with the chosen random effects (None: all)."""
    if design.reading is not None and design.reading.in_file:
        return _fitted_in_blocks(estimates, design, chosen, fixed)
    values = fixed_part_of(estimates, design) if fixed else np.zeros(design.n)
    if design.offset is not None and fixed:
        values += design.offset
    for i, (term, b) in enumerate(zip(design.terms, estimates.b, strict=True)):
        if chosen is None or i in chosen:
            own = b if chosen is None else b * chosen[i]
            values += random_part(term.incidence, term.z, own)
    return values


def _fitted_in_blocks(
    estimates: Estimates, design: Design, chosen: Chosen | None, fixed: bool
) -> np.ndarray:
    """The same where matrices of all rows would be more than there is memory for."""
    values = np.zeros(design.n)
    beta = np.where(estimates.fixed_kept, estimates.beta, 0.0)
    for first in range(0, design.n, BLOCK):
        rows = slice(first, first + BLOCK)
        if fixed:
            values[rows] = design.fixed.at(rows) @ beta
        if design.offset is not None and fixed:
            values[rows] += design.offset[rows]
        for i, (term, b) in enumerate(zip(design.terms, estimates.b, strict=True)):
            if chosen is None or i in chosen:
                own = b if chosen is None else b * chosen[i]
                values[rows] += random_part(term.incidence[rows], term.source.at(rows), own)
    return values


def row_series(design: Design, values: np.ndarray, name: str) -> pd.Series:
    """One value per row used, labelled as the data are (by position where they have no index)."""
    import pandas as pd

    index = design.rows if design.index is None else design.index
    return pd.Series(values, index=index, name=name, copy=True)


def fixed_part(estimates: Estimates, X: np.ndarray) -> np.ndarray:
    """Kept columns of ``X`` times their coefficients (n)."""
    kept = estimates.fixed_kept
    if np.all(kept):
        return np.asarray(X @ estimates.beta)
    return np.asarray(X[:, kept] @ estimates.beta[kept])


def fixed_part_of(estimates: Estimates, design: Design) -> np.ndarray:
    """The same of the rows used; columns of wide factors are not made."""
    return design.fixed.times(np.where(estimates.fixed_kept, estimates.beta, 0.0))


def random_part(codes: np.ndarray | Members, z: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``sum_j z[i, j] * b[codes[i], j]`` for every row i (n)."""
    if isinstance(codes, Members):
        return np.asarray(np.einsum("ij,ij->i", z, codes.gathered(b)))
    if b.shape[1] == 1:  # saves the n x k temporary of the general case
        return np.asarray(z[:, 0] * b[codes, 0])
    return np.asarray(np.einsum("ij,ij->i", z, b[codes]))


# ---- new rows -----------------------------------------------------------------------------------


def new_fixed(fit: Fit, newdata: Table, offset: Any) -> np.ndarray:
    """Fixed part of the predictor of new rows, with their offset; NaN where not estimable."""
    recipe = recipe_for(fit, newdata)
    if offset is not None:  # takes the place of the fit's argument offset=
        recipe = replace(recipe, offset=None, offset_is_array=False)
    elif recipe.offset_is_array:
        raise DataError(
            "the model was fitted with an array as offset=, which new data do not carry: "
            "give predict(..., offset=...) for the new rows (offset=0 for none)",
            variable="offset",
        )
    X, values_offset = recipe.fixed(newdata)
    values = fixed_part(fit.estimates, X)
    if not fit.estimates.fixed_kept.all():
        unknown = open_rows(fit, X)
        values[unknown] = np.nan
        note_open(fit, unknown)
    if values_offset is not None:
        values += values_offset
    if offset is not None:
        values += values_for(offset, newdata, "offset", newdata.n)
    return values


def open_rows(fit: Fit, X: np.ndarray) -> np.ndarray:
    """Rows of X whose prediction depends on which dependent columns were dropped (n). Those with a
    missing value are none: their prediction is missing anyway."""
    present = ~np.isnan(X).any(axis=1)
    unknown = np.zeros(len(X), dtype=bool)
    unknown[present] = ~openness_of(fit).estimable(X[present])
    return unknown


def note_open(fit: Fit, unknown: np.ndarray) -> None:
    """A warning for rows of new data that are not estimable."""
    if not unknown.any():
        return
    dropped = np.array(fit.design.x_names, dtype=object)[~fit.estimates.fixed_kept].tolist()
    message = (
        f"{first_rows(unknown)} of the new data cannot be predicted and are missing (NaN): the "
        "data say nothing about such rows, the result would depend on which linearly dependent "
        f"columns were dropped ({first_of(dropped)})"
    )
    rows = np.flatnonzero(unknown)[:10].tolist()
    warn(RankDeficientWarning(message, variable=dropped[0], rows=rows))


def first_of(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def recipe_for(fit: Fit, newdata: Table) -> Any:
    """What encodes these new data."""
    return ArrayRecipe.of(fit.design) if isinstance(newdata, NewRows) else recipe_of(fit)


def recipe_of(fit: Fit) -> Recipe:
    """The recipe that encodes new data, or an error for models made from arrays."""
    recipe = fit.design.recipe
    if recipe is None:
        raise DataError(
            "a model made from arrays cannot encode new data: give its columns, "
            "predict(X=..., Z=[(codes, columns), ...]), or fit with a formula"
        )
    return recipe


def values_for(given: Any, table: Table | None, role: str, n: int) -> np.ndarray:
    """An offset or weights of new rows: a number, a column's name, or one value for each row."""
    if isinstance(given, str):
        if table is None:
            what = "names a column, but without new data there are no columns: give the values"
            raise DataError(f"{role}={given!r} {what}", variable=role)
        if not table.has(given):
            raise table.lacks(given, DataError, f"the column for {role}")
        column = table.column(given)
        if column.values is None:
            what = f"used as {role}, is not numeric{not_numbers(column)}"
            raise DataError(f"{given!r}, {what}", variable=given)
        return np.asarray(column.values, dtype=float)
    if table is not None:
        given = aligned(given, table.index, role, "the new data")
    values = floats_of(given, role)
    if values.shape not in ((), (n,)):
        raise DataError(f"{role} has shape {values.shape}: give one number, or one per row ({n})")
    return values


def new_random(
    fit: Fit, newdata: Table, chosen: Chosen, new_levels: str, seed: int = 0
) -> np.ndarray:
    """Random part of the predictor of new rows; missing levels are NaN, unseen ones as
    `new_levels` says."""
    terms = fit.design.terms
    recipe = recipe_for(fit, newdata)
    encoded = encoded_terms(recipe, newdata, terms, chosen)
    total = np.zeros(newdata.n)
    for i, (codes, z) in encoded.items():
        z = z * chosen[i]
        part = random_part(codes, z, fit.estimates.b[i])
        unknown = codes.unknown if isinstance(codes, Members) else codes < 0
        if unknown.any():
            unseen = np.flatnonzero(unknown & ~np.isnan(z).all(axis=1))
            if len(unseen) and terms[i].relation is not None:
                names = recipe.level_names(newdata, terms[i].group, unseen)
                raise not_related(terms[i].group, names)
            if len(unseen) and new_levels == "error":
                raise unseen_levels(fit, newdata, terms[i].group, unseen)
            if not isinstance(codes, Members):
                part[unknown] = 0.0 * z[unknown].sum(axis=1)  # NaN where something is missing
            if new_levels == "missing":
                part[unseen] = np.nan
            elif new_levels == "sample":
                if isinstance(codes, Members):
                    raise FitError(
                        f'new_levels="sample" is not available for {terms[i].group}, of which rows '
                        'have several levels: "population" takes new ones as zero',
                        variable=terms[i].group,
                    )
                names = recipe.level_names(newdata, terms[i].group, unseen)
                b = _sampled(fit, i, names, seed)
                part[unseen] += np.einsum("ij,ij->i", z[unseen], b)
        total += part
    return total


def encoded_terms(
    recipe: Recipe | ArrayRecipe, newdata: Any, terms: Sequence[Any], chosen: Chosen
) -> dict[int, tuple[np.ndarray | Members, np.ndarray]]:
    """Levels and columns of the chosen terms in new rows."""
    groups = {terms[i].group for i in chosen}
    inside = [i for i, term in enumerate(terms) if term.group in groups]
    encoded = dict(zip(inside, recipe.random(newdata, groups), strict=True)) if groups else {}
    return {i: encoded[i] for i in chosen}


def _sampled(fit: Fit, term: int, labels: list[str], seed: int) -> np.ndarray:
    """Effects (n, k) of unseen levels, drawn from their estimated distribution: the same for one
    level in all rows, and whatever other levels there are."""
    import pandas as pd
    from scipy.special import ndtri

    T = fit.estimates.sigma * fit.estimates.T[term]
    names = pd.util.hash_array(np.array(labels, dtype=object))
    normal = np.empty((len(names), len(T)))
    for column in range(len(T)):
        key = np.random.SeedSequence([seed, term, column]).generate_state(1, np.uint64)
        uniform = (_mixed(_mixed(names) ^ key) >> np.uint64(11)) + 0.5
        normal[:, column] = ndtri(uniform / 2.0**53)
    return np.asarray(normal @ T.T)


def _mixed(x: np.ndarray) -> np.ndarray:
    """Well-mixed 64 bits of each number: splitmix64 (Steele, Lea & Flood 2014, *OOPSLA*)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def _other_form(unseen: Sequence[str], levels: Sequence[Any]) -> str:
    """Whether one of them is a level of the fit in another form: "007" for 7, "S1" for "s1"."""
    known = {_read(str(level)): level for level in reversed(levels)}
    other = next((name for name in unseen if _read(name) in known), None)
    if other is None:
        return ""
    shown = known[_read(other)]
    return f" (the fit has {shown!r} for {other!r}: give levels as its data had them)"


def _read(label: str) -> float | str:
    """A label as a number, or as a text of one form."""
    try:
        return float(label)
    except ValueError:
        return seen(label).casefold()


def unseen_levels(fit: Fit, newdata: Table, group: str, rows: np.ndarray) -> DataError:
    """The error for levels of ``group`` that the fit has no random effects for."""
    found = recipe_for(fit, newdata).level_names(newdata, group, rows)
    names = [repr(one) for one in dict.fromkeys(found)]
    levels = next(term.labels for term in fit.design.terms if term.group == group)
    hint = _other_form(found, levels.tolist())
    return DataError(
        f"levels of {group!r} that the fit has not seen: {first_of(names)}{hint}; "
        'new_levels="population" predicts them with random effects of zero, "missing" as missing, '
        '"sample" with effects drawn from their distribution',
        variable=group,
        rows=rows[:SHOWN].tolist(),
    )
