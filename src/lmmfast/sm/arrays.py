"""The arrays that `MixedLM` is given -> a design, with statsmodels' names of columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from ..data.alignment import aligned, index_of
from ..data.checks import check_levels
from ..data.design import Design, check_text
from ..data.rows import RowColumns, Rows
from ..data.terms import RandomTerm
from ..errors import DataError
from ..formula.cells import read
from ..formula.column import Column
from ..formula.tree import quoted
from .terms import UNNAMED, Component

_NO_NUMBERS = (
    "has values that are not numbers: give a pandas frame, whose columns of labels are coded"
)


class VarianceMatrices(Protocol):
    """Variance components as statsmodels' formulas make them: by name and group."""

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def colnames(self) -> Sequence[Sequence[Sequence[str]]]: ...
    @property
    def mats(self) -> Sequence[Sequence[ArrayLike]]: ...


@dataclass(frozen=True, eq=False)
class Arrays:
    """The arguments of MixedLM as columns, missing rows left out."""

    y: np.ndarray
    y_name: str
    X: np.ndarray
    x_names: tuple[str, ...]
    x_sources: tuple[str, ...]  # the same by the columns of the frame, labels not yet coded
    codes: np.ndarray
    labels: np.ndarray
    group_name: str
    z: np.ndarray | None
    z_names: tuple[str, ...]
    vc: tuple[tuple[str, Sequence[Any], Sequence[Any] | None], ...]
    index: Any
    labelled: bool
    rows: np.ndarray
    n_rows: int
    dropped: dict[str, int]

    @classmethod
    def of(
        cls, endog: Any, exog: Any, groups: Any, exog_re: Any, exog_vc: Any, missing: str
    ) -> Arrays:
        y, n = _vector(endog, "endog"), np.shape(endog)[0]
        aligned(groups, _common_index(endog, exog, exog_re), "groups", reorder=False)
        X, x_names = _matrix(exog, "exog", n, "x")
        z, z_names = (None, ()) if exog_re is None else _matrix(exog_re, "exog_re", n, "x_re")
        group = _group_factor(groups, n)
        holes = {"endog": np.isnan(y), "exog": np.isnan(X).any(axis=1)}
        holes["groups"] = np.asarray(group.codes) < 0
        if z is not None:
            holes["exog_re"] = np.isnan(z).any(axis=1)
        dropped = {name: int(mask.sum()) for name, mask in holes.items() if mask.any()}
        rows = np.flatnonzero(~np.logical_or.reduce(list(holes.values())))
        if dropped and missing != "drop":
            name = next(iter(dropped))
            raise DataError(
                f'{name} has missing values in {dropped[name]} rows; missing="drop" leaves them '
                "out",
                variable=name,
                rows=np.flatnonzero(holes[name])[:10].tolist(),
            )
        if dropped and exog_vc is not None:
            raise DataError("missing values beside exog_vc: drop such rows beforehand")
        if not len(rows):
            raise DataError("no rows are left without missing values")
        used = group.take(rows).used() if dropped else group
        labels = used.levels
        assert labels is not None and used.codes is not None
        index = index_of(endog)
        return cls(
            y=y[rows],
            y_name=str(getattr(endog, "name", None) or "y"),
            X=np.asfortranarray(X[rows]),
            x_names=x_names if hasattr(exog, "columns") else _named_constant(X[rows], x_names),
            x_sources=tuple(map(str, exog.columns)) if hasattr(exog, "columns") else (),
            codes=used.codes,
            labels=labels,
            group_name=str(getattr(groups, "name", None) or "Group"),
            z=None if z is None else np.ascontiguousarray(z[rows]),
            z_names=z_names,
            vc=_matrices(exog_vc, labels),
            index=None if index is None else index[rows],
            labelled=hasattr(endog, "iloc") or hasattr(exog, "iloc"),
            rows=rows,
            n_rows=n,
            dropped=dropped,
        )

    def design(self) -> tuple[Design, tuple[Component, ...]]:
        """The model's arrays, and what its terms are for statsmodels."""
        group = self.group_name
        terms: list[RandomTerm] = []
        parts: list[Component] = []
        z, names = self.z, self.z_names
        if z is None and not self.vc:
            z, names = np.ones((len(self.y), 1)), UNNAMED
        if z is not None:
            constant = len(names) == 1 and bool((z == 1.0).all())
            columns = ("Intercept",) if constant else names
            label = f"{'1' if constant else ' + '.join(('0', *names))} | {group}"
            levels = self.codes, self.labels
            terms.append(RandomTerm.of_rows(label, group, columns, *levels, z, "full"))
            parts.append(Component("re", "Group", ((0, tuple(range(z.shape[1]))),), names))
        for name, matrices, fields in self.vc:
            term, tied = self._component(name, matrices, fields)
            where = ((len(terms), tuple(range(term.z.shape[1]))),)
            parts.append(Component("vc", name, where, term.columns, tied))
            terms.append(term)
        for term in terms:
            if len(term.levels) < 2:
                raise DataError(
                    f"({term.label}) has one level: a variance between groups needs at least two",
                    variable=term.group,
                )
        check_levels(terms, None, len(self.y))
        if self.y.min() == self.y.max():
            raise DataError(f"endog is constant ({self.y[0]:g})", variable="endog")
        design = Design(
            formula="", response=self.y_name, x_names=self.x_names,
            fixed=RowColumns(self.X), terms=tuple(terms),
            sums=Rows(self.y, None, None, self.rows, self.index),
            n_rows=self.n_rows, dropped=self.dropped, recipe=None,
        )  # fmt: skip
        return design, tuple(parts)

    def formula_lme4(self, design: Design, components: tuple[Component, ...]) -> str | None:
        """The model in lme4's syntax, by the names of the columns."""
        if any(part.tied for part in components):
            return None
        constant = [self.x_names[j] for j in _constant(self.X)]
        slopes = [quoted(n) for n in self.x_sources or self.x_names if n not in constant]
        fixed = [*([] if constant else ["0"]), *slopes] or ["1"]
        bars = [f"({term.label})" for term in design.terms]
        return f"{quoted(self.y_name)} ~ {' + '.join([*fixed, *bars])}"

    def _component(
        self, name: str, matrices: Sequence[Any], columns: Sequence[Any] | None
    ) -> tuple[RandomTerm, bool]:
        """A variance component given as one matrix a group: a random term, and if it is tied.

        `columns` are the names of each matrix's columns. Rows with at most one entry (levels, or a
        single slope) become a term with a level for each column of each group; other matrices a
        term with uncorrelated columns of one variance.
        """
        labels, group = self.labels.tolist(), self.group_name
        sizes = np.bincount(self.codes, minlength=len(labels))
        dense = [_dense(name, m, label) for m, label in zip(matrices, labels, strict=True)]
        for matrix, label, size in zip(dense, labels, sizes, strict=True):
            if len(matrix) != size:
                raise DataError(
                    f"exog_vc[{name!r}] has {len(matrix)} rows for group {label!r}, which has "
                    f"{size}",
                    variable=name,
                )
        rows = np.split(np.argsort(self.codes, kind="stable"), np.cumsum(sizes)[:-1])
        width = max(matrix.shape[1] for matrix in dense)
        if width > 1 and all(np.count_nonzero(m, axis=1).max(initial=0) <= 1 for m in dense):
            return self._levelled(name, dense, columns, rows), False
        z = np.zeros((len(self.codes), width))
        for matrix, place in zip(dense, rows, strict=True):
            z[place, : matrix.shape[1]] = matrix
        names = tuple(f"{name}[{j}]" for j in range(width))
        structure, bar = ("diag", "||") if width > 1 else ("full", "|")
        label, levels = f"0 + {name} {bar} {group}", (self.codes, np.asarray(labels))
        return RandomTerm.of_rows(label, group, names, *levels, z, structure), width > 1

    def _levelled(
        self,
        name: str,
        dense: Sequence[np.ndarray],
        columns: Sequence[Any] | None,
        rows: Sequence[np.ndarray],
    ) -> RandomTerm:
        """A term with a level for each column of each group."""
        codes, z = np.empty(len(self.codes), np.int32), np.empty((len(self.codes), 1))
        levels: list[str] = []
        for i, (matrix, label) in enumerate(zip(dense, self.labels.tolist(), strict=True)):
            fields = list(columns[i] if columns else range(matrix.shape[1]))
            empty = not matrix.shape[1]
            column = np.zeros(len(matrix), int) if empty else np.abs(matrix).argmax(axis=1)
            used, place = np.unique(column, return_inverse=True)
            codes[rows[i]] = len(levels) + place
            z[rows[i], 0] = 0.0 if empty else matrix[np.arange(len(matrix)), column]
            levels += [f"{label}:{fields[j]}" for j in used]
        constant, group = bool((z == 1.0).all()), f"{self.group_name}:{name}"
        effects = ("Intercept",) if constant else (name,)
        label = f"{'1' if constant else f'0 + {name}'} | {group}"
        names = np.array(levels, dtype=object)
        return RandomTerm.of_rows(label, group, effects, codes, names, z, "full")


def _dense(name: str, given: Any, label: Any) -> np.ndarray:
    dense = given.toarray() if hasattr(given, "toarray") else given
    matrix = np.asarray(dense, dtype=np.float64)
    matrix = matrix[:, None] if matrix.ndim == 1 else matrix
    if not np.isfinite(matrix).all():
        raise DataError(
            f"exog_vc[{name!r}] has values that are not finite in group {label!r}", variable=name
        )
    return matrix


def _numbers(values: Any, name: str, otherwise: str) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{name} {otherwise}", variable=name) from None


def _vector(values: Any, name: str) -> np.ndarray:
    out = _numbers(values, name, "is not numeric")
    out = out[:, 0] if out.ndim == 2 and out.shape[1] == 1 else out
    if out.ndim != 1 or not len(out):
        raise DataError(f"{name} has shape {out.shape}; it needs one value a row", variable=name)
    _check_infinite(out, name)
    return out


def _common_index(endog: Any, *others: Any) -> Any:
    """The index of the arrays that have one, which must be the same: rows go by position."""
    found = [own for own in map(index_of, (endog, *others)) if own is not None]
    if any(not own.equals(found[0]) for own in found[1:]):
        raise DataError("endog, exog and exog_re have different indices: align them first")
    return found[0] if found else None


def _check_infinite(values: np.ndarray, name: str) -> None:
    bad = np.isinf(values)
    if bad.any():
        rows = np.unique(np.nonzero(bad)[0])[:10]
        raise DataError(
            f"{name} has infinite values, first in row {rows[0]}", variable=name, rows=rows.tolist()
        )


def _matrix(values: Any, name: str, n: int, prefix: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numeric columns and their names; labels and booleans of a frame become contrasts."""
    if hasattr(values, "columns"):
        coded = list(_coded(values))
        names = tuple(field for field, _ in coded)
        out = np.column_stack([column for _, column in coded]) if coded else np.empty((n, 0))
    else:
        out = _numbers(values, name, _NO_NUMBERS)
        out = out[:, None] if out.ndim == 1 else out
        label = getattr(values, "name", None)
        names = tuple(f"{prefix}{j + 1}" for j in range(out.shape[1] if out.ndim == 2 else 0))
        names = (str(label),) if label is not None and len(names) == 1 else names
    if out.ndim != 2 or len(out) != n:
        raise DataError(f"{name} has shape {np.shape(values)}; it needs {n} rows", variable=name)
    _check_infinite(out, name)
    return out, names


def _coded(frame: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Columns of a frame: numbers, indicators of booleans (random), or contrasts of labels."""
    for place, key in enumerate(frame.columns):
        name = str(key)
        column = read(name, frame.iloc[:, place] if hasattr(frame, "iloc") else frame[key])
        if column.values is not None:
            yield name, np.asarray(column.values, np.float64)
            continue
        assert column.levels is not None and column.codes is not None
        if column.levels.dtype.kind == "b":
            yield name, np.where(column.codes < 0, np.nan, column.codes)
            continue
        check_text(column, None)
        for j, level in enumerate(column.levels[1:], 1):
            yield f"{name}[T.{level}]", np.where(column.codes < 0, np.nan, column.codes == j)


def _named_constant(X: np.ndarray, names: tuple[str, ...]) -> tuple[str, ...]:
    """statsmodels' names: the constant column is "const", the others are counted."""
    j = next(iter(_constant(X)), None)
    return names if j is None else (*names[:j], "const", *names[j:-1])


def _constant(X: np.ndarray) -> list[int]:
    """Which columns are constant, and not zero."""
    return [j for j, column in enumerate(X.T) if column[0] != 0 and (column == column[0]).all()]


def _group_factor(groups: Any, n: int) -> Column:
    plain = groups if hasattr(groups, "dtype") else np.asarray(groups, dtype=object)
    if np.ndim(plain) != 1 or len(plain) != n:
        raise DataError(
            f"groups has shape {np.shape(groups)}; it needs one value for each of {n} rows",
            variable="groups",
        )
    return read("groups", plain).as_factor()


def _matrices(
    exog_vc: Any, labels: np.ndarray
) -> tuple[tuple[str, Sequence[Any], Sequence[Any] | None], ...]:
    """Variance components by name, with the matrix of each group in the order of the labels."""
    if exog_vc is None:
        return ()
    if hasattr(exog_vc, "mats"):
        named = getattr(exog_vc, "colnames", None) or [None] * len(exog_vc.mats)
        fields = [own if own and all(map(len, own)) else None for own in named]
        return tuple(zip(exog_vc.names, exog_vc.mats, fields, strict=True))
    if not isinstance(exog_vc, Mapping):
        raise DataError("exog_vc must be a dict of dicts: exog_vc[name][group] is a matrix")
    out = []
    for name in sorted(exog_vc):
        missing = [label for label in labels.tolist() if label not in exog_vc[name]]
        if missing:
            raise DataError(f"exog_vc[{name!r}] has no matrix for group {missing[0]!r}")
        matrices = [exog_vc[name][label] for label in labels.tolist()]
        framed = all(hasattr(matrix, "columns") for matrix in matrices)
        out.append((name, matrices, [list(m.columns) for m in matrices] if framed else None))
    return tuple(out)
