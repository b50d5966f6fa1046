"""Variables -> numeric columns: factors by contrasts, products of variables, by a fixed layout."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, FormulaError
from ..formula.cells import read
from ..formula.coerce import as_factor
from ..formula.column import Column, first_rows, places
from ..formula.contrasts import Contrast, Spec, contrast_matrix, full_rank_matrix
from ..formula.expressions import Expression, Memory, evaluate
from ..formula.terms import Sum
from ..formula.values import Logical, Matrix, length
from ..freeze import freeze
from .columns import Levels, is_time
from .rows import Part

Numbers = NDArray[np.float64]
# What a variable is in some data: a factor, or named numeric columns {"": x} or {"[1]": ...}.
Values = Union[Column, "dict[str, NDArray[Any]]"]


@dataclass(frozen=True, eq=False)
class Coding:
    """How one variable of the formula becomes columns; learned from the training data."""

    label: str
    levels: NDArray[Any] | None  # None: numeric
    contrast: Numbers | None  # (L + 1) x k, the last row, NaN, answers missing values
    names: tuple[str, ...]  # k columns beside an intercept, or the numeric columns
    dummy_names: tuple[str, ...]  # one column for each level; numeric: the same as names
    full_rank: Numbers | None = None  # (L + 1) x k, in place of one column for each level

    def fields(self, dummy: bool) -> tuple[str, ...]:
        """Names of its columns: one for each level, or beside an intercept."""
        return self.dummy_names if dummy else self.names

    @cached_property
    def _training(self) -> Levels:
        return Levels(np.zeros(0) if self.levels is None else self.levels)

    def recode(self, values: Values) -> Values:
        """New data in the training data's levels, none of which may be new."""
        if self.levels is None:
            if isinstance(values, Column):
                if not len(values.levels):  # None alone has no type: numbers that are missing
                    nothing = np.full(len(values.codes), np.nan)
                    return dict.fromkeys(self.names, nothing)
                raise DataError(
                    f"{self.label!r} was numeric when the model was fitted, but the new data have "
                    f"labels such as {_some_levels(values)}",
                    variable=self.label,
                )
            if len(values) != len(self.names):
                raise DataError(
                    f"{self.label!r} gives {len(values)} columns; it had {len(self.names)} when "
                    "the model was fitted",
                    variable=self.label,
                )
            return values
        factor = factor_of(self.label, values)
        codes = self._training.codes(factor, unseen=-2)
        if (codes == -2).any():
            assert factor.codes is not None and factor.levels is not None
            new = [str(level) for level in factor.levels[np.unique(factor.codes[codes == -2])]]
            known = ", ".join(str(level) for level in self.levels[:10])
            raise DataError(
                f"{self.label!r} has level{'s' if len(new) > 1 else ''} "
                f"{', '.join(map(repr, new[:5]))} that the training data do not have; "
                f"they have {known}",
                variable=self.label,
                rows=np.flatnonzero(codes == -2)[:10].tolist(),
            )
        return Column(self.label, None, codes, self.levels)

    @cached_property
    def _dummies(self) -> Numbers:
        """As `contrast`, for a column for each level."""
        assert self.levels is not None
        if self.full_rank is not None:
            return self.full_rank
        size = len(self.levels)
        table: Numbers = np.full((size + 1, size), np.nan, order="F")
        table[:-1] = np.eye(size)
        freeze((table,))
        return table

    def part(self, values: Values, dummy: bool, j: int) -> Part:
        """The j-th column of this variable as it is: numbers, or codes and what they mean."""
        if not isinstance(values, Column):
            return _readable(values[list(values)[j] if len(values) > 1 else next(iter(values))])
        assert values.codes is not None and self.contrast is not None
        return values.codes, self.table(dummy)[:, j]

    def table(self, dummy: bool) -> Numbers:
        """What its columns are at each level, with a last row of NaN for missing values."""
        assert self.contrast is not None
        return self._dummies if dummy else self.contrast

    def column(self, values: Values, dummy: bool, j: int) -> NDArray[Any]:
        """The j-th column of this variable."""
        if not isinstance(values, Column):
            return values[list(values)[j] if len(values) > 1 else next(iter(values))]
        assert values.codes is not None and self.contrast is not None
        if not dummy or self.full_rank is not None:
            return np.asarray(self.table(dummy)[:, j][values.codes])
        column: Numbers = (values.codes == j).astype(np.float64)
        if (values.codes < 0).any():
            column[values.codes < 0] = np.nan
        return column


@dataclass(frozen=True, eq=False)
class Layout:
    """The columns of one model matrix: each a product of columns of variables."""

    names: tuple[str, ...]
    columns: tuple[tuple[tuple[str, bool, int], ...], ...]  # factors of each; none: constant
    atoms: tuple[Expression, ...]

    def parts(
        self,
        codings: Mapping[str, Coding],
        values: Mapping[str, Values],
        chosen: Sequence[int] | None = None,
    ) -> tuple[tuple[Part, ...], ...]:
        """The parts whose products are the columns, or the chosen ones, of data without missing
        values."""
        columns = self.columns if chosen is None else [self.columns[j] for j in chosen]
        return tuple(
            tuple(codings[a].part(values[a], dummy, j) for a, dummy, j in factors)
            for factors in columns
        )

    def without_constant(self) -> Layout:
        """The layout without its intercept; an error where it has none."""
        if () not in self.columns:
            raise FormulaError(
                "the thresholds of an ordered response take the place of the intercept, which the "
                "formula must not take out: factors are coded beside it"
            )
        kept = [j for j, factors in enumerate(self.columns) if factors]
        names = tuple(self.names[j] for j in kept)
        return Layout(names, tuple(self.columns[j] for j in kept), self.atoms)

    def fill(
        self,
        out: Numbers,
        codings: Mapping[str, Coding],
        values: Mapping[str, Values],
    ) -> Numbers:
        """Write the columns into `out` (n x p)."""
        for target, factors in enumerate(self.columns):
            if not factors:
                out[:, target] = 1.0
                continue
            parts = [codings[a].column(values[a], dummy, j) for a, dummy, j in factors]
            out[:, target] = parts[0]
            for part in parts[1:]:
                out[:, target] *= part
        return out


def _readable(numbers: NDArray[Any]) -> NDArray[Any]:
    """Numbers of a type that the compiled core reads; floats where they are not."""
    kind, size = numbers.dtype.kind, numbers.itemsize
    if numbers.dtype.isnative and (kind in "iub" or (kind == "f" and 4 <= size <= 8)):
        return numbers
    return numbers.astype(np.float64)


def value_of(atom: Expression, columns: Mapping[str, Column], memory: Memory, n: int) -> Values:
    """A variable of the formula in some data: a column, or an expression evaluated."""
    if atom.is_name:
        column = columns[atom.names[0]]
        return column if column.values is None else {"": column.values}
    value = _normalized(evaluate(atom, columns, memory), atom.label, n)
    sizes = [len(c) for c in value.values()] if isinstance(value, dict) else [length(value)]
    if any(size != n for size in sizes):
        raise FormulaError(f"{atom.label} gives {sizes[0]} values for {n} rows", term=atom.label)
    return value


def _normalized(result: Any, label: str, n: int) -> Values:
    """What an expression gives as a factor or named numeric columns.

    Series, frames and formulaic's values come from functions of the caller.
    """
    metadata = getattr(result, "__formulaic_metadata__", None)
    kind = getattr(getattr(metadata, "kind", None), "value", "unknown")
    names = getattr(metadata, "column_names", None)
    result = getattr(result, "__wrapped__", result)
    if isinstance(result, Contrast):
        raise FormulaError(
            f"{label} are contrasts: write C(f, {label}) to code f by them", term=label
        )
    if isinstance(result, (list, tuple, str)) or result is None:
        raise FormulaError(f"{label} does not give a value for each row", term=label)
    if isinstance(result, Column):
        return result.used()
    if isinstance(result, Matrix):
        names, result = result.names or None, result.values
    if isinstance(result, Mapping) or hasattr(result, "columns"):
        fields = [key for key in result if not str(key).startswith("__")]
        return {f"[{key}]": _real(result[key], label) for key in fields}
    if np.ndim(result) == 2:
        return _columns_of(np.asarray(result), names, label)
    if isinstance(result, Logical):
        return as_factor(result)
    if isinstance(result, np.ndarray):
        result = np.asarray(result)
    if np.ndim(result) == 0:
        result = np.full(n, result)
    column = read(label, _nan_for_infinite(result))
    if kind == "categorical":
        return column.as_factor()
    return column if column.values is None else {"": column.values}


def _columns_of(array: NDArray[Any], names: Sequence[Any] | None, label: str) -> Values:
    """The columns of a matrix; a single one without a name is the expression's own."""
    fields = list(names or range(array.shape[1]))
    if array.shape[1] == 1 and not names:
        return {"": _real(array[:, 0], label)}
    return {f"[{field}]": _real(array[:, j], label) for j, field in enumerate(fields)}


def _nan_for_infinite(values: Any) -> Any:
    """log(0) is reported as what the transform made of the data, not as infinite data."""
    array = values if isinstance(values, np.ndarray) else None
    if array is None or array.dtype.kind != "f" or np.isfinite(array).all():
        return values
    return np.where(np.isfinite(array), array, np.nan)


def _real(values: Any, label: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise FormulaError(f"{label} does not give numbers: {error}", term=label) from error


def check_finite(values: Values, label: str, rows: NDArray[np.int64] | range) -> None:
    """A transform of data without missing values must not give missing or infinite ones."""
    if not isinstance(values, Column) and all(map(_is_finite, values.values())):
        return
    bad = np.zeros(len(rows), dtype=bool)
    if isinstance(values, Column):
        if values.codes is not None:
            bad = values.codes < 0
    else:
        for column in values.values():
            if column.dtype.kind == "f":
                bad |= ~np.isfinite(column)
    if bad.any():
        where = places(rows)[bad]
        mask = np.zeros(int(where.max()) + 1, dtype=bool)
        mask[where] = True
        lack = "has no level" if isinstance(values, Column) else "is not a finite number"
        cure = "levels or intervals" if isinstance(values, Column) else "transform"
        raise DataError(
            f"{label} {lack} in {first_rows(mask)} of the data; "
            f"remove these rows or change the {cure}",
            variable=label,
            rows=where[:10].tolist(),
        )


def _is_finite(numbers: NDArray[Any]) -> bool:
    """Whether the sum of all is finite: one pass, without a mask."""
    if numbers.dtype.kind != "f":
        return True
    with np.errstate(all="ignore"):
        return bool(np.isfinite(numbers.sum()))


_MOST_LEVELS = 10_000  # of a predictor: its contrast matrix takes 0.8 GB


def coding_of(label: str, values: Values, spec: Spec | None, patsy: bool = False) -> Coding:
    """Levels, contrasts and column names of a variable, from the training data.

    Contrasts: `spec`, else those of the values, else "poly" for ordered categories and "treatment"
    for others, with `patsy` for all; formula/contrasts.py makes their matrix.
    """
    if not isinstance(values, Column):
        if spec is not None:
            raise DataError(
                f"contrasts are given for {label!r}, which is numeric: write factor({label}) in "
                "the formula and as the name in contrasts",
                variable=label,
            )
        names = tuple(f"{label}{suffix}" for suffix in values)
        return Coding(label, None, None, names, names)
    assert values.levels is not None
    levels = list(values.levels)
    if is_time(values.levels):
        raise DataError(
            f"{label!r} holds dates or times: turn them into numbers (days since the first, say)",
            variable=label,
        )
    if len(levels) < 2:
        raise DataError(
            f"{label!r} has only one level ({_some_levels(values)}) in the rows used: "
            "it cannot be a predictor, take it out of the formula",
            variable=label,
        )
    if len(levels) > _MOST_LEVELS:
        raise DataError(
            f"{label!r} has {len(levels)} levels ({_some_levels(values)}, ...), too many for a "
            f"predictor: is it meant to be numeric, or a grouping factor as in (1 | {label})?",
            variable=label,
        )
    if spec is None:
        spec = values.contrasts
    if spec is None:
        spec = "poly" if values.ordered and not patsy else "treatment"
    matrix, names = contrast_matrix(spec, levels, label, patsy)
    full = full_rank_matrix(spec, levels, label) if patsy else None
    if full is not None:
        return Coding(label, values.levels, _table(matrix), names, full[1], _table(full[0]))
    dummies = tuple(f"{label}[{level}]" for level in levels)
    return Coding(label, values.levels, _table(matrix), names, dummies)


def _table(matrix: Numbers) -> Numbers:
    """A matrix by level with a last row that answers missing values."""
    return np.asfortranarray(np.vstack([matrix, np.full((1, matrix.shape[1]), np.nan)]))


def layout_of(terms: Sum, codings: Mapping[str, Coding]) -> Layout:
    """Columns and names of a model matrix; in products the first variable varies fastest."""
    names: list[str] = []
    columns: list[tuple[tuple[str, bool, int], ...]] = []
    for term in terms.coded(lambda atom: codings[atom.label].levels is not None):
        if not term.atoms:
            names.append("Intercept")
            columns.append(())
            continue
        choices: list[Sequence[tuple[str, tuple[str, bool, int]]]] = []
        for atom, dummy in zip(term.atoms, term.dummy, strict=True):
            coding = codings[terms.atoms[atom].label]
            fields = enumerate(coding.fields(dummy))
            choices.append([(f, (coding.label, dummy, j)) for j, f in fields])
        for product in itertools.product(*reversed(choices)):
            chosen = product[::-1]
            names.append(":".join(name for name, _ in chosen))
            columns.append(tuple(column for _, column in chosen))
    _check_names(names)
    return Layout(tuple(names), tuple(columns), terms.atoms)


def _check_names(names: Sequence[str]) -> None:
    """Coefficients go by their names: a variable may be called as the intercept, or as a level."""
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FormulaError(
            f"two columns of the model would be named {twice!r}: rename the variable of that name",
            variable=twice,
        )


def factor_of(label: str, values: Values) -> Column:
    """A value as a factor: numbers become levels in increasing order."""
    if isinstance(values, Column):
        return values
    numbers = next(iter(values.values()))
    missing = np.isnan(numbers) if numbers.dtype.kind == "f" else None
    has_missing = missing is not None and bool(missing.any())
    return Column(label, numbers, missing=missing if has_missing else None).as_factor()


def _some_levels(column: Column) -> str:
    levels: list[Any] = [] if column.levels is None else column.levels[:3].tolist()
    return ", ".join(repr(str(level)) for level in levels)
