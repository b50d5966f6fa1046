"""The grid of a fit: all combinations of the values of the variables of its fixed part."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import tables as _tables
from ...data.columns import suggest
from ...errors import DataError
from ..response import total_variance
from ..rows.predict import recipe_of
from .comparisons import KINDS

if TYPE_CHECKING:
    import pandas as pd

    from ...fit import Fit
    from ...formula.column import Column


WEIGHTS = ("equal", "proportional", "outer", "cells", "flat")
LEVELS = 2  # a numeric variable with no more distinct values stands in the grid with all of them
MOST_CELLS = 1_000_000  # of a grid


def text(value: Any) -> str:
    """A level or a number for labels and notes."""
    return _tables.general(float(value)) if isinstance(value, (float, np.floating)) else str(value)


@dataclass(frozen=True, eq=False)
class Grid:
    """All combinations of the values of the variables of the fixed part."""

    fit: Fit
    values: dict[str, np.ndarray]  # of every variable
    factors: frozenset[str]  # variables whose values are levels in the data
    X: np.ndarray  # sizes of the variables x p
    offset: np.ndarray  # sizes of the variables
    table: pd.DataFrame  # the variables in every cell

    @classmethod
    def of(cls, fit: Fit, at: Mapping[str, Any]) -> Grid:
        """The grid of a fit."""
        recipe = recipe_of(fit)
        columns = dict(fit.design.variables)  # of the fixed part and offsets
        for name in at:
            if name not in columns:
                raise _unknown(name, columns, "at")
        factors = frozenset(n for n, column in columns.items() if _is_factor(fit, n, column))
        values = {
            name: _given(name, at[name], column, name in factors)
            if name in at
            else _usual(column, name in factors)
            for name, column in columns.items()
        }
        shape = tuple(len(own) for own in values.values())
        if np.prod(shape, dtype=float) > MOST_CELLS:
            sizes = ", ".join(f"{name} ({len(own)})" for name, own in values.items())
            raise DataError(f"the grid of {sizes} has too many cells: restrict variables with at=")
        table = _table(columns, values, shape)
        X, offset = _encode(fit, recipe, table)
        return cls(fit, values, factors, X.reshape(*shape, -1), offset.reshape(shape), table)

    def targets(
        self, specs: str | Sequence[str], by: str | Sequence[str] | None
    ) -> tuple[list[str], list[str]]:
        """Variables of specs and by."""
        left, bar, right = specs.partition("|") if isinstance(specs, str) else (specs, "", "")
        if isinstance(specs, str) and specs in self.values:
            left, bar = specs, ""
        within = self._names(right, "specs") if bar else []
        within += [name for name in self._names(by or [], "by") if name not in within]
        if isinstance(left, str) and left.strip().removeprefix("~").strip() == "1":
            return [], within
        wanted = [name for name in self._names(left, "specs") if name not in within]
        if not wanted:
            raise ValueError('specs names no variable besides those of by: emmeans(fit, "cond")')
        return wanted, within

    def _names(self, given: str | Sequence[str], role: str) -> list[str]:
        self._check_variables(given, role)
        if isinstance(given, str) and given not in self.values:
            given = given.strip().removeprefix("~")
            for operator in "*+:":
                given = given.replace(operator, " ")
            given = given.split()
        names = [given] if isinstance(given, str) else list(dict.fromkeys(given))
        for name in names:
            if name not in self.values:
                raise _unknown(name, self.values, role)
        return names

    def _check_variables(self, given: str | Sequence[str], role: str) -> None:
        """Expressions of the formula are no variables: their own have values in the grid."""
        for text in [given] if isinstance(given, str) else given:
            if not isinstance(text, str) or "(" not in text or text in self.values:
                continue
            text = text.strip()
            inside = [name for name in self.values if re.search(rf"\b{re.escape(name)}\b", text)]
            if inside:
                example = f"{inside[0]!r}"
                if inside[0] not in self.factors:
                    example += f" and give its values, as in at={{{example}: [1, 2]}}"
                raise DataError(
                    f"{role}: {text!r} is no variable but an expression: name {example}",
                    variable=text,
                )

    def cells(self, names: list[str]) -> dict[str, np.ndarray]:
        """Values of some variables in all their combinations, the first varying fastest."""
        if not names:
            return {"1": np.array(["overall"], dtype=object)}
        mesh = np.meshgrid(*(self.values[name] for name in reversed(names)), indexing="ij")
        return {name: values.ravel() for name, values in zip(names, reversed(mesh), strict=True)}

    def averages(self, names: list[str], weights: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights (k, p) of the fixed effects, and offset, in the mean of each combination of
        these variables; and which combinations can be."""
        shares = self._shares(names, weights)
        L = self._averaged(self.X, names, shares).reshape(-1, self.X.shape[-1])
        offset = self._averaged(self.offset[..., None], names, shares).ravel()
        return L, offset, self.there(names)

    def there(self, names: list[str]) -> np.ndarray:
        """Which combinations of these variables can be (k)."""
        there = self._averaged(self.possible[..., None].astype(float), names, None).ravel()
        return np.asarray(there > 0)

    def means(self, values: np.ndarray, names: list[str], weights: str) -> np.ndarray:
        """Means (k, m) of what cells have (sizes of the variables x m), for each combination of
        these variables."""
        shares = self._shares(names, weights)
        return self._averaged(values, names, shares).reshape(-1, values.shape[-1])

    def cell_variances(self) -> np.ndarray:
        """Variance of the random effects in every cell; their average over the rows where random
        terms have variables that the grid has not."""
        fit = self.fit
        try:
            columns = recipe_of(fit).random_columns(self.table)
        except DataError:
            return np.full(len(self.table), total_variance(fit))
        total = np.zeros(len(self.table))
        for Z, T, term in zip(columns, fit.estimates.T, fit.design.terms, strict=True):
            total += term.source.sharing * np.square(Z @ T).sum(axis=1)
        return total

    def variances(self, names: list[str], weights: str) -> np.ndarray:
        """Variance (k,) of the random effects in the mean of each combination of these variables;
        their average over the rows where random terms have variables that the grid has not."""
        fit, shape = self.fit, self.offset.shape
        try:
            columns = recipe_of(fit).random_columns(self.table)
        except DataError:
            sizes = [len(self.values[name]) for name in names]
            return np.full(int(np.prod(sizes, dtype=int)), total_variance(fit))
        shares, total = self._shares(names, weights), 0.0
        for Z, T, term in zip(columns, fit.estimates.T, fit.design.terms, strict=True):
            z = self._averaged(Z.reshape(*shape, -1), names, shares).reshape(-1, Z.shape[1])
            total = total + term.source.sharing * np.square(z @ T).sum(axis=1)
        return np.asarray(total)

    def _split(self, names: list[str]) -> tuple[list[int], list[int]]:
        """Places of these variables, in reverse order, and of the others."""
        order = list(self.values)
        rest = [i for i, name in enumerate(order) if name not in names]
        return [order.index(name) for name in reversed(names)], rest

    def _shares(self, names: list[str], weights: str) -> np.ndarray:
        """Weights of all cells of the grid; zero for those that cannot be. Their sums over the
        averaged variables are one."""
        targets, rest = self._split(names)
        if weights in ("equal", "flat"):
            share = np.ones(self.possible.shape)
            if weights == "flat":
                share = (self._frequencies() > 0).astype(float)
        elif weights == "cells":
            share = self._frequencies()
        else:
            counts = self._frequencies()
            share = counts.sum(axis=tuple(targets), keepdims=True)
            if weights == "outer":
                parts = [
                    counts.sum(axis=tuple(j for j in range(counts.ndim) if j != i), keepdims=True)
                    for i in rest
                ]
                share = np.ones(())
                for part in parts:
                    share = share * part
            share = np.broadcast_to(share, self.possible.shape)
        if not share.sum() > 0:
            raise DataError(f"weights={weights!r}: no row of the data is in the grid")
        share = share * self.possible
        total = share.sum(axis=tuple(rest), keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(total > 0, share / total, 0.0))

    def _averaged(
        self, cells: np.ndarray, names: list[str], share: np.ndarray | None
    ) -> np.ndarray:
        """Sums over the variables that are not among ``names``, which come in reverse order."""
        targets, rest = self._split(names)
        weighted = cells if share is None else cells * share[..., None]
        moved = weighted.transpose(*targets, *rest, cells.ndim - 1)
        return np.asarray(moved.sum(axis=tuple(range(len(targets), len(targets) + len(rest)))))

    @cached_property
    def possible(self) -> np.ndarray:
        """Which cells can be: no level of a nested factor with another level than its own."""
        out = np.ones(self.offset.shape, dtype=bool)
        order = list(self.values)
        for inner, outer, pairs in self._nested:
            axes = tuple(i for i, name in enumerate(order) if name not in (inner, outer))
            table = pairs if order.index(inner) < order.index(outer) else pairs.T
            out &= np.expand_dims(table, axes)
        return out

    @cached_property
    def _nested(self) -> list[tuple[str, str, np.ndarray]]:
        """Factors each of whose levels occurs with one level of another only: inner, outer, and
        which of their levels occur together (inner x outer)."""
        names = [n for n in self.values if n in self.factors and len(self.values[n]) > 1]
        found = []
        design = self.fit.design
        for inner in names:
            for outer in names:
                if inner == outer or len(self.values[inner]) <= len(self.values[outer]):
                    continue
                own = {n: self.values[n] for n in self.values if n in (inner, outer)}
                counts = design.sums.frequencies(design.variables, own)
                table = counts if list(own) == [inner, outer] else counts.T
                if ((table > 0).sum(axis=1) == 1).all() and _terms_share(self.fit, inner, outer):
                    found.append((inner, outer, table > 0))
        return found

    def parents(self, names: list[str]) -> list[str]:
        """Factors in which some of these are nested and that are not among them."""
        found = [outer for inner, outer, _ in self._nested if inner in names]
        return [name for name in dict.fromkeys(found) if name not in names]

    def _frequencies(self) -> np.ndarray:
        """Rows of the data in each cell, as far as factors tell them apart."""
        values = {name: own for name, own in self.values.items() if name in self.factors}
        design = self.fit.design
        counts = design.sums.frequencies(design.variables, values).astype(float)
        shape = [len(v) if name in self.factors else 1 for name, v in self.values.items()]
        return np.broadcast_to(counts.reshape(shape), self.offset.shape)

    def notes(
        self, wanted: list[str], within: list[str], weights: str, link: bool = True
    ) -> Iterable[str]:
        """What was averaged, what is held, and what may mislead."""
        response = self.fit.design.response
        if link and self.fit.family is not None:
            family = self.fit.family
            if family.response == "ordered":
                yield (
                    "Means of the latent variable, whose origin is arbitrary: compare them; "
                    'type="prob" has probabilities of the classes'
                )
            else:
                yield f"Means are on the scale of the {family.link.name} link"
        elif link and not response.replace(".", "_").isidentifier():
            yield f"Means are on the scale of {response}"
        for inner, outer, _ in self._nested:
            yield f"Nested: {inner} in {outer}; combinations without rows are left out"
        rest = {name: v for name, v in self.values.items() if name not in wanted + within}
        averaged = [name for name, values in rest.items() if len(values) > 1]
        if averaged:
            how = "" if weights == "equal" else f" (weights: {weights})"
            yield f"Averaged over the levels of: {', '.join(averaged)}{how}"
        held = [f"{name} = {text(values[0])}" for name, values in rest.items() if len(values) == 1]
        if held:
            yield f"At: {', '.join(held)}"
        terms = [term for term in terms_of(self.fit) if term & set(wanted)]  # that are compared
        nested = {name for name, _, _ in self._nested}
        found = [n for n in averaged if n not in nested and any(n in term for term in terms)]
        if found:
            verb = "interacts" if len(found) == 1 else "interact"
            them = f"{', '.join(found)}, averaged over, {verb} with {', '.join(wanted)}"
            yield f"Means may mislead: {them}"


def terms_of(fit: Fit) -> list[set[str]]:
    """Variables of each column of the fixed part."""
    layout = recipe_of(fit).fixed_layout
    names = {atom.label: set(atom.names) for atom in layout.atoms}
    return [set().union(*(names[label] for label, _, _ in parts)) for parts in layout.columns]


def _terms_share(fit: Fit, inner: str, outer: str) -> bool:
    """Whether the formula treats them as nested: a column of one with the other, or both."""
    variables = set().union(*terms_of(fit))
    return inner in variables and outer in variables


def _is_factor(fit: Fit, name: str, column: Column) -> bool:
    """Whether a variable stands in the grid with all its values."""
    if not column.numeric:
        return True
    recipe = recipe_of(fit)
    inside = [atom for atom in recipe.fixed_layout.atoms if name in atom.names]
    if not inside:  # an offset
        return False
    distinct = len(column.distinct())
    if distinct <= LEVELS:
        return True
    levels = [recipe.codings[atom.label].levels for atom in inside if len(atom.names) == 1]
    return any(own is not None and len(own) == distinct for own in levels)


def _usual(column: Column, factor: bool) -> np.ndarray:
    """Values of a variable that ``at`` does not name: its levels, or its mean."""
    if factor or not column.numeric:
        return column.distinct()
    mean = column.mean()
    if not np.isfinite(mean):
        raise DataError(
            f"the mean of {column.name!r} is not known, for it is missing in rows that are used: "
            f"give its value, as in at={{{column.name!r}: 0}}",
            variable=column.name,
        )
    return np.array([mean])


def _given(name: str, values: Any, column: Column, factor: bool) -> np.ndarray:
    """Values that ``at`` gives a variable; those of a factor must be levels that it has."""
    asked = np.atleast_1d(np.asarray(values, dtype=object))
    if asked.ndim != 1 or not len(asked):
        raise ValueError(f"at: {name!r} needs one value or a list of values, not {values!r}")
    if len({str(value) for value in asked}) < len(asked):
        raise ValueError(f"at: {name!r} has a value twice: {values!r}")
    if column.numeric:
        try:
            asked = np.asarray(asked, dtype=float)
        except (TypeError, ValueError):
            asked = np.array([np.nan])
        if not np.isfinite(asked).all():
            raise ValueError(f"at: {name!r} is numeric and needs finite numbers, not {values!r}")
        return asked
    known = {str(level): level for level in _usual(column, factor)}
    for value in asked:
        if str(value) not in known:
            raise DataError(
                f"at: {name!r} has no level {str(value)!r}{suggest(str(value), known, 'levels')}",
                variable=name,
            )
    out = np.empty(len(asked), dtype=np.asarray(column.levels).dtype)
    out[:] = [known[str(value)] for value in asked]
    return out


def _unknown(name: Any, known: Iterable[str], role: str) -> DataError:
    if str(name) in KINDS:
        kind = f"contrasts={name!r}"
        what = f"a kind of contrasts: write {kind} and only the variables in front"
    else:
        hint = suggest(str(name), known, "variables of the fixed effects")
        what = f"not in the fixed effects{hint}"
    return DataError(f"{role}: {name!r} is {what}", variable=str(name))


def _table(
    columns: dict[str, Column], values: dict[str, np.ndarray], shape: tuple[int, ...]
) -> pd.DataFrame:
    """The variables in every cell, the last one varying fastest."""
    import pandas as pd

    cells = int(np.prod(shape, dtype=int))
    data: dict[str, Any] = {}
    for i, (name, column) in enumerate(columns.items()):
        place = np.indices(shape)[i].ravel() if shape else np.zeros(1, dtype=int)
        own = values[name][place]
        if not column.numeric and column.levels is not None and column.levels.dtype != bool:
            own = pd.Categorical(own, categories=column.levels, ordered=column.ordered)
        data[name] = own
    return pd.DataFrame(data, index=range(cells))


def _encode(fit: Fit, recipe: Any, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Fixed-effects columns and offset of every cell."""
    cells = len(table)
    X, offset = recipe.fixed(table)
    if recipe.offset_is_array:
        return X, np.full(cells, np.mean(np.asarray(fit.design.offset)))
    return X, np.zeros(cells) if offset is None else offset
