"""A Design from bare arrays: for libraries that have no formula and want no pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DataError
from ..formula.cells import floats_of
from ..formula.covariances import PLAIN_KINDS
from .alignment import aligned, index_of
from .checks import check_levels
from .design import Design
from .responses import answer_of
from .rows import RowColumns, Rows
from .structures import Structure
from .term_structure import custom_structure
from .terms import RandomTerm


def design_of(
    y: Any,
    X: Any,
    terms: Sequence[tuple[Any, ...]],
    weights: Any,
    offset: Any,
    kind: str | None = None,
    names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> Design:
    """The design of `LMM.from_arrays`, checked; columns are named x0.., factors g0.., where they
    are given no names.

    Rows are those of y: pandas objects with another index are put in its order, or refused.
    `kind` (see `Outcome`): y is the response of a generalized model, or two columns of successes
    and failures.
    """
    index = index_of(y)
    columns = _columns_of(y) if kind is not None else [_vector(y, "y")]
    y, n = columns[0], len(columns[0])
    X = np.asfortranarray(floats_of(aligned(X, index, "X", "y"), "X")).view()
    if X.ndim != 2 or len(X) != n:
        raise DataError(f"X has shape {X.shape}; it needs ({n}, p)", variable="X")
    _check_finite(X, "X")
    if kind is None and y.min() == y.max():
        raise DataError(f"y is constant ({y[0]:g})", variable="y")
    x_names = _x_names(names, X.shape[1])
    fixed = {} if names is None else dict(zip(x_names, X.T, strict=True))
    made = _terms(terms, n, index, _groups(groups, len(terms)), fixed)
    own = _weights(aligned(weights, index, "weights", "y"), n)
    offset = aligned(offset, index, "offset", "y")
    outcome = None
    if kind is None:
        check_levels(made, own, n)
    else:
        value = {f"[{j}]": column for j, column in enumerate(columns)}
        y, own, outcome = answer_of(kind, "y", value, own, range(n))
    return Design(
        formula="",
        response="y",
        x_names=x_names,
        fixed=RowColumns(X),
        terms=made,
        sums=Rows(
            y, own, None if offset is None else _vector(offset, "offset", n), np.arange(n), index
        ),
        n_rows=n,
        dropped={},
        recipe=None,
        outcome=outcome,
    )


def _columns_of(y: Any) -> list[np.ndarray]:
    """A response of one column (n,), or of several (n, k)."""
    given = floats_of(y, "y")
    if np.ndim(given) != 2:
        return [_vector(given, "y")]
    return [_vector(column, "y") for column in np.asarray(given).T]


def _vector(values: Any, name: str, n: int | None = None) -> np.ndarray:
    out = np.array(floats_of(values, name))
    if out.ndim != 1 or not len(out) or (n is not None and len(out) != n):
        raise DataError(
            f"{name} has shape {out.shape}; it needs one value for each row", variable=name
        )
    _check_finite(out, name)
    return out


def _check_finite(values: np.ndarray, name: str) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        rows = np.unique(np.nonzero(bad)[0])[:10]
        raise DataError(
            f"{name} has values that are not finite, first in row {rows[0]}: drop such rows",
            variable=name,
            rows=rows.tolist(),
        )


def _weights(weights: Any, n: int) -> np.ndarray | None:
    if weights is None:
        return None
    out = _vector(weights, "weights", n)
    if (out <= 0).any():
        raise DataError(
            "weights must be positive: drop rows with weight 0",
            variable="weights",
            rows=np.flatnonzero(out <= 0)[:10].tolist(),
        )
    return out


def _x_names(names: Sequence[str] | None, p: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"x{j}" for j in range(p))
    out = (names,) if isinstance(names, str) else tuple(map(str, names))
    if len(out) != p or len(set(out)) < p:
        raise DataError(f"names must be different names of the columns of X ({p}), not {out}")
    return out


def _groups(groups: Sequence[str] | None, n: int) -> tuple[str, ...] | None:
    if groups is None:
        return None
    out = (groups,) if isinstance(groups, str) else tuple(map(str, groups))
    if len(out) != n:
        raise DataError(f"groups must name the grouping factor of each term ({n}), not {out}")
    return out


def _terms(
    terms: Sequence[tuple[Any, ...]],
    n: int,
    index: Any,
    groups: tuple[str, ...] | None,
    fixed: Mapping[str, np.ndarray],
) -> tuple[RandomTerm, ...]:
    """The random terms; columns equal to one of `fixed` have its name."""
    out: list[RandomTerm] = []
    known: list[tuple[np.ndarray, str, np.ndarray]] = []  # terms with equal codes share a factor
    for i, term in enumerate(terms):
        if not 2 <= len(term) <= 3:
            raise DataError(f"terms[{i}] must be (codes, columns) or (codes, columns, structure)")
        structure = term[2] if len(term) == 3 else "full"
        given, columns = (aligned(part, index, f"terms[{i}]", "y") for part in term[:2])
        codes, group, levels = _factor(given, i, n, known, groups)
        z = _columns(columns, i, n)
        constant = z.shape[1] == 1 and (z == z[0]).all()
        names = ("Intercept",) if constant and not fixed else _z_names(z, fixed)
        covariance = _covariance(structure, names, i)
        label = f"{' + '.join(names)} {'||' if structure == 'diag' else '|'} {group}"
        if covariance is not None:
            label, structure = f"{covariance.kind}(0 + {label.split(' |')[0]} | {group})", "full"
        out.append(RandomTerm.of_rows(label, group, names, codes, levels, z, structure, covariance))
    return tuple(out)


def _z_names(z: np.ndarray, fixed: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    out: list[str] = []
    for j, column in enumerate(z.T):
        same = [name for name, x in fixed.items() if name not in out and np.array_equal(x, column)]
        out.append(same[0] if same else f"z{j}")
    return tuple(out)


def _covariance(structure: Any, names: tuple[str, ...], i: int) -> Structure | None:
    """The covariance structure of a term; None for any covariance, and for none."""
    if isinstance(structure, Structure):
        if structure.p != len(names):
            raise DataError(
                f"terms[{i}] has {len(names)} columns, its structure is for {structure.p}"
            )
        return structure
    if isinstance(structure, str) and structure in ("full", "diag"):
        return None
    own = custom_structure(structure, names)
    if own is not None:
        return own
    if isinstance(structure, str) and structure in PLAIN_KINDS and len(names) > 1:
        return Structure(structure, names)
    raise DataError(
        f"terms[{i}]: structure must be 'full', 'diag', a CustomCovariance or, for two columns, "
        f"one of {', '.join(PLAIN_KINDS)}, not {structure!r}"
    )


def _factor(
    codes: Any,
    i: int,
    n: int,
    known: list[tuple[np.ndarray, str, np.ndarray]],
    groups: tuple[str, ...] | None,
) -> tuple[np.ndarray, str, np.ndarray]:
    name = f"terms[{i}]"
    if np.ma.is_masked(codes):
        raise DataError(f"{name}: codes are missing (masked): drop such rows", variable=name)
    given = np.asarray(codes)
    if given.shape != (n,) or given.dtype.kind not in "iu":
        raise DataError(f"{name}: codes must be {n} integers", variable=name)
    for old, group, levels in known:
        if old is given or np.array_equal(old, given):
            if groups is not None and groups[i] != group:
                raise DataError(
                    f"{name} has the codes of {group!r}: they are one grouping factor, and groups= "
                    f"must not call it {groups[i]!r} too",
                    variable=name,
                )
            return old, group, levels
    possible = given.min() >= 0 and given.max() < n
    counts = np.bincount(given) if possible else np.zeros(1, int)
    if (counts == 0).any():
        raise DataError(
            f"{name}: codes must be 0 .. m-1 without gaps (numpy.unique(..., return_inverse=True) "
            "makes such codes)",
            variable=name,
        )
    if len(counts) == 1:
        raise DataError(f"{name}: a grouping factor needs at least two levels", variable=name)
    own = np.ascontiguousarray(given, np.int32).view()
    group = f"g{len(known)}" if groups is None else groups[i]
    if any(group == other for _, other, _ in known):
        raise DataError(
            f"{name}: groups= calls two factors with different codes {group!r}", variable=name
        )
    found = (own, group, np.arange(len(counts)))
    known.append(found)
    return found


def _columns(columns: Any, i: int, n: int) -> np.ndarray:
    if columns is None:
        return np.ones((n, 1))
    z = np.ascontiguousarray(floats_of(columns, f"terms[{i}]")).view()
    z = z[:, None] if z.ndim == 1 else z
    if z.ndim != 2 or len(z) != n or z.shape[1] == 0:
        raise DataError(f"terms[{i}]: columns have shape {z.shape}; they need ({n}, k)")
    _check_finite(z, f"terms[{i}]")
    return z
