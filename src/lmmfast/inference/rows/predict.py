"""Predictions: the linear predictor from arrays, for the rows of a fit and for new ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.alignment import aligned
from ...data.columns import Table
from ...data.strays import not_numbers
from ...errors import DataError, RankDeficientWarning, warn
from ...formula.cells import floats_of
from ...formula.column import first_rows
from ..estimability import openness_of

if TYPE_CHECKING:
    import pandas as pd

    from ...data.design import Design
    from ...data.recipe import Recipe
    from ...engine.estimates import Estimates
    from ...fit import Fit


SHOWN = 5  # unseen levels and dropped columns named in a message


def predict(
    fit: Fit, newdata: Any, re_form: str | Sequence[str], new_levels: str, offset: Any
) -> pd.Series:
    """Predictions as ``Fit.predict`` documents them."""
    import pandas as pd

    groups = chosen_groups(fit.design, re_form)
    if new_levels not in ("error", "population"):
        raise DataError(f'new_levels must be "error" or "population", not {new_levels!r}')
    if newdata is None:
        if offset is not None:
            raise DataError("offset= is for new data: the rows of the fit have theirs already")
        return row_series(fit.design, fitted_array(fit.estimates, fit.design, groups), "predict")
    table = Table.of(newdata)
    values = new_fixed(fit, table, offset)
    if groups:
        values += new_random(fit, table, groups, new_levels)
    return pd.Series(values, index=table.index, name="predict")


def chosen_groups(design: Design, re_form: str | Sequence[str]) -> list[str]:
    """Grouping factors that ``re_form`` asks for, in the formula's order."""
    known = list(dict.fromkeys(term.group for term in design.terms))
    if isinstance(re_form, str) and re_form in ("all", "none"):
        return known if re_form == "all" else []
    if isinstance(re_form, str) or not isinstance(re_form, Iterable):
        raise DataError(
            f're_form must be "all", "none" or a list of grouping factors ({", ".join(known)}), '
            f'not {re_form!r} (R\'s NULL is "all"; NA and ~0 are "none")'
        )
    wanted = list(re_form)
    for group in wanted:
        if group not in known:
            what = f"is no grouping factor of this model; it has {', '.join(known)}"
            raise DataError(f"re_form names {group!r}, which {what}", variable=str(group))
    return [group for group in known if group in wanted]


# ---- the rows of the fit ------------------------------------------------------------------------


def fitted_of(fit: Fit) -> np.ndarray:
    """Fitted values of the rows used (n), computed once; read-only."""
    if fitted_of not in fit._known:
        fit._known[fitted_of] = fitted_array(fit.estimates, fit.design)
        fit._known[fitted_of].flags.writeable = False
    values: np.ndarray = fit._known[fitted_of]
    return values


def fitted_array(
    estimates: Estimates, design: Design, groups: Collection[str] | None = None
) -> np.ndarray:
    """Fitted values of the rows used (n) with the random effects of ``groups`` (None: all)."""
    values = fixed_part_of(estimates, design)
    if design.offset is not None:
        values += design.offset
    for term, b in zip(design.terms, estimates.b, strict=True):
        if groups is None or term.group in groups:
            values += random_part(term.codes, term.z, b)
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


def random_part(codes: np.ndarray, z: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``sum_j z[i, j] * b[codes[i], j]`` for every row i (n)."""
    if b.shape[1] == 1:  # saves the n x k temporary of the general case
        return np.asarray(z[:, 0] * b[codes, 0])
    return np.asarray(np.einsum("ij,ij->i", z, b[codes]))


# ---- new rows -----------------------------------------------------------------------------------


def new_fixed(fit: Fit, newdata: Table, offset: Any) -> np.ndarray:
    """Fixed part of the predictor of new rows, with their offset; NaN where not estimable."""
    recipe = recipe_of(fit)
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


def recipe_of(fit: Fit) -> Recipe:
    """The recipe that encodes new data, or an error for models made from arrays."""
    recipe = fit.design.recipe
    if recipe is None:
        raise DataError(
            "a model made from arrays cannot encode new data: "
            "multiply your new columns by fit.estimates.beta and .b, or fit with a formula"
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


def new_random(fit: Fit, newdata: Table, groups: list[str], new_levels: str) -> np.ndarray:
    """Random part of the predictor of new rows: unseen levels count zero, missing ones NaN."""
    encoded = recipe_of(fit).random(newdata, groups)
    pairs = zip(fit.design.terms, fit.estimates.b, strict=True)
    chosen = [(term, b) for term, b in pairs if term.group in groups]
    total = np.zeros(len(encoded[0][0]))
    for (term, b), (codes, z) in zip(chosen, encoded, strict=True):
        part = random_part(codes, z, b)
        unknown = codes < 0
        if unknown.any():
            unseen = np.flatnonzero(unknown & ~np.isnan(z).all(axis=1))
            if len(unseen) and new_levels == "error":
                raise unseen_levels(newdata, term.group, unseen)
            part[unknown] = 0.0 * z[unknown].sum(axis=1)  # NaN where something is missing
        total += part
    return total


def unseen_levels(newdata: Table, group: str, rows: np.ndarray) -> DataError:
    """The error for levels of ``group`` that the fit has no random effects for."""
    names = list(dict.fromkeys(level_labels(newdata, group, rows)))
    return DataError(
        f"levels of {group!r} that the fit has not seen: {first_of(names)}; "
        'new_levels="population" predicts them with random effects of zero',
        variable=group,
        rows=rows[:SHOWN].tolist(),
    )


def level_labels(table: Table, group: str, rows: np.ndarray) -> list[str]:
    """Levels of ``group`` in some rows of the new data, quoted, for messages."""
    names = [group] if table.has(group) else group.split(":")
    if not all(table.has(name) for name in names):  # an expression, as in (1 | factor(g))
        return [f"the one in row {row}" for row in rows]
    columns = []
    for factor in (table.column(name).as_factor() for name in names):
        assert factor.codes is not None and factor.levels is not None  # what as_factor() makes
        columns.append(map(str, factor.levels[factor.codes[rows]]))
    return [repr(":".join(parts)) for parts in zip(*columns, strict=True)]
