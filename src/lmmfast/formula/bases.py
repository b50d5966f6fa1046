"""Functions that learn a basis from the training data: `scale`, `poly`, `bs`, `ns`, patsy's too."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .coerce import number, numbers, reals
from .function import Function, State, Wrong, learns
from .splines import MOST_COLUMNS, bs, ns, numbered
from .values import Matrix

Vector = NDArray[np.float64]
MOST_DEGREE = 100


def _scale(x: Any, center: Any = True, scale: Any = True, *, state: State) -> Matrix:
    """R's scale(): minus the mean, divided by the standard deviation (n - 1)."""
    found = reals(x, "scale()")
    matrix = found if isinstance(found, Matrix) else Matrix(np.atleast_1d(found)[:, None])
    values = matrix.values
    if "center" not in state:
        state["center"] = _centers(values, center)
        state["scale"] = _scales(values - state["center"], scale)
    return Matrix((values - state["center"]) / state["scale"], matrix.names)


def _centers(values: Vector, center: Any) -> Any:
    if isinstance(center, (bool, np.bool_)):
        return np.nanmean(values, axis=0) if center else 0.0
    return _for_columns(center, values.shape[1], "center")


def _scales(values: Vector, scale: Any) -> Any:
    """Root mean squares with n - 1: standard deviations where the columns are centred."""
    if isinstance(scale, (bool, np.bool_)):
        count = np.maximum(1, np.sum(~np.isnan(values), axis=0) - 1)
        return np.sqrt(np.nansum(values**2, axis=0) / count) if scale else 1.0
    return _for_columns(scale, values.shape[1], "scale")


def _for_columns(given: Any, columns: int, what: str) -> Vector:
    found = numbers(given, what)
    if len(found) not in (1, columns):
        raise Wrong(f"{what} must be one number for each column")
    return found


def _poly(
    x: Any,
    *more: Any,
    degree: Any = None,
    raw: Any = False,
    simple: Any = False,
    coefs: Any = None,
    state: State,
) -> Matrix:
    """R's poly(): orthogonal polynomials, or powers (raw = TRUE); of several variables products."""
    if degree is None and more and isinstance(more[-1], (int, float)):
        *more, degree = more  # type: ignore[assignment]
    given = [numbers(value, "poly()") for value in (x, *more)]
    power = 1 if degree is None else int(number(degree, "degree"))
    if not 1 <= power <= MOST_DEGREE:
        raise Wrong(f"the degree of poly() is 1 to {MOST_DEGREE}")
    if len(given) > 1:
        return _products(given, power, bool(raw), state)
    if raw:
        return numbered(given[0][:, None] ** np.arange(1, power + 1))
    if "alpha" not in state:
        state["alpha"], state["norm2"] = _recurrence(given[0], power)
    return numbered(_orthogonal(given[0], state["alpha"], state["norm2"]))


def _products(variables: list[Vector], power: int, raw: bool, state: State) -> Matrix:
    """Products of polynomials of several variables, of total degree up to `power`."""
    bases = [
        _poly(x, degree=power, raw=raw, state=state.setdefault(str(i), {})).values
        for i, x in enumerate(variables)
    ]
    if (power + 1) ** len(variables) > 100_000:
        raise Wrong("poly() of so many variables has too many columns")
    degrees = itertools.product(range(power + 1), repeat=len(variables))
    wanted = sorted((d for d in degrees if 0 < sum(d) <= power), key=lambda d: d[::-1])
    columns = []
    for powers in wanted:
        column = np.ones(len(variables[0]))
        for basis, d in zip(bases, powers, strict=True):
            column = column * basis[:, d - 1] if d else column
        columns.append(column)
    return Matrix(np.column_stack(columns), tuple(".".join(map(str, d)) for d in wanted))


def _recurrence(x: Vector, power: int) -> tuple[Vector, Vector]:
    """Coefficients of the three-term recurrence (Kennedy and Gentle 1980, pp. 343-344)."""
    if np.isnan(x).any():
        raise Wrong("poly() cannot have missing values")
    if power >= len(np.unique(x)):
        raise Wrong(f"the degree {power} must be less than the number of distinct values")
    centred = x - x.mean()
    q, r = np.linalg.qr(np.vander(centred, power + 1, increasing=True))
    z = q * np.diag(r)
    norm2 = np.sum(z**2, axis=0)
    alpha = (np.sum(centred[:, None] * z**2, axis=0) / norm2 + x.mean())[:power]
    return alpha, np.concatenate([[1.0], norm2])


def _orthogonal(x: Vector, alpha: Vector, norm2: Vector) -> Vector:
    power = len(alpha)
    z = np.ones((len(x), power + 1))
    z[:, 1] = x - alpha[0]
    for i in range(1, power):
        z[:, i + 1] = (x - alpha[i]) * z[:, i] - norm2[i + 1] / norm2[i] * z[:, i - 1]
    return np.asarray(z[:, 1:] / np.sqrt(norm2[2:]))


def _center(x: Any, *, state: State) -> Any:
    values = numbers(x, "center()")
    if "mean" not in state:
        state["mean"] = np.nanmean(values)
    return values - state["mean"]


def _standardize(
    x: Any, center: Any = True, rescale: Any = True, ddof: Any = 0, *, state: State
) -> Any:
    """patsy's standardize(): the standard deviation divides by n."""
    values = numbers(x, "standardize()")
    if "mean" not in state:
        state["mean"] = values.mean()
        state["sd"] = values.std(ddof=int(number(ddof, "ddof")))
    centred = values - state["mean"] if center else values
    return centred / state["sd"] if rescale else centred


def _counted_from_zero(x: Any, *values: Any, state: State, **options: Any) -> Matrix:
    """patsy's bs(): its columns are numbered from 0."""
    return numbered(BASES["bs"]([x, *values], options, state).values, start=0)


def _tensor(*smooths: Any, constraints: Any = None, state: State) -> Matrix:
    """patsy's te(): all products of the columns of several bases, the last varying fastest.

    Constraints c'b = 0 on its coefficients ("center": their mean over the training data) are
    absorbed: what is left are the columns orthogonal to c (Wood 2006, "Generalized Additive
    Models", section 1.8.1).
    """
    if not smooths:
        raise Wrong("te() needs bases, such as te(cr(x, df=4), cr(z, df=4))")
    columns = [_two_dimensional(smooth) for smooth in smooths]
    product = columns[0]
    for other in columns[1:]:
        if product.shape[1] * other.shape[1] > MOST_COLUMNS:
            raise Wrong(f"te() would have more than {MOST_COLUMNS} columns")
        product = np.einsum("ni,nj->nij", product, other).reshape(len(product), -1)
    if constraints is not None and "free" not in state:
        state["free"] = _unconstrained(product, constraints)
    return numbered(product @ state["free"] if "free" in state else product, start=0)


def _two_dimensional(smooth: Any) -> Vector:
    if isinstance(smooth, Matrix):
        return np.asarray(smooth.values, np.float64)
    return numbers(smooth, "te()")[:, None]


def _unconstrained(product: Vector, constraints: Any) -> Vector:
    """An orthonormal basis of the coefficients that fulfil the constraints."""
    if isinstance(constraints, str):
        if constraints != "center":
            raise Wrong(f'constraints of te() are "center" or numbers, not {constraints!r}')
        given = np.nanmean(product, axis=0)[None]
    else:
        found = constraints.values if isinstance(constraints, Matrix) else constraints
        given = np.atleast_2d(np.asarray(found, np.float64))
    if given.ndim != 2 or given.shape[1] != product.shape[1]:
        raise Wrong(f"constraints of te() need {product.shape[1]} columns, not {given.shape[1]}")
    return np.linalg.qr(given.T, mode="complete")[0][:, len(given) :]


BASES: dict[str, Function] = {
    "scale": learns(_scale),
    **dict.fromkeys(("poly", "polym"), learns(_poly)),
    "ns": learns(ns),
    "bs": learns(bs),
    "center": learns(_center),
    "standardize": learns(_standardize),
}
PATSYS: dict[str, Function] = {
    **dict.fromkeys(("scale", "standardize"), learns(_standardize)),
    "bs": learns(_counted_from_zero),
    "te": learns(_tensor),
}
