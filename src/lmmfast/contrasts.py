"""Contrast matrices of factors, R's: treatment, sum, helmert, poly, SAS, or the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError

__all__ = ["Spec", "contrast_matrix"]

Spec = (
    Any  # a name, a matrix (levels x columns), {name: weights}, a data frame, or formulaic's object
)

Matrix = NDArray[np.float64]
_POLY_NAMES = {1: ".L", 2: ".Q", 3: ".C"}


def contrast_matrix(spec: Spec, levels: Sequence[Any], name: str) -> tuple[Matrix, tuple[str, ...]]:
    """Columns that code a factor beside an intercept.

    Parameters
    ----------
    spec : str, matrix, mapping, data frame or formulaic contrast
        ``"treatment"`` (first level is the reference), ``"sum"`` (last level -1), ``"helmert"``
        (R's: each level against the mean of those before), ``"poly"`` (orthonormal polynomials of
        the level's position), ``"SAS"`` (last level is the reference); R's names
        (``"contr.sum"``) are understood. A matrix has one row per level.
    levels : sequence
        The levels in order, L of them.
    name : str
        Name of the factor, for column names and messages.

    Returns
    -------
    (L, k) array and k column names such as ``"cond[T.b]"``.

    Raises
    ------
    DataError
        For an unknown name or a matrix whose rows are not the levels.
    """
    if isinstance(spec, str):
        return _named(spec, levels, name)
    if isinstance(spec, type):  # formulaic's contr.sum is a class
        spec = spec()
    if hasattr(spec, "get_coding_matrix"):
        return _formulaic(spec, levels, name)
    matrix, fields = _own_matrix(spec, levels, name)
    return matrix, tuple(f"{name}[{field}]" for field in fields)


def _named(spec: str, levels: Sequence[Any], name: str) -> tuple[Matrix, tuple[str, ...]]:
    size = len(levels)
    kind = spec.removeprefix("contr.").lower()
    if kind == "treatment":
        return np.eye(size)[:, 1:], tuple(f"{name}[T.{level}]" for level in levels[1:])
    if kind == "sas":
        return np.eye(size)[:, :-1], tuple(f"{name}[T.{level}]" for level in levels[:-1])
    if kind == "sum":
        return _sum(size), tuple(f"{name}[S.{level}]" for level in levels[:-1])
    if kind == "helmert":
        return _helmert(size), tuple(f"{name}[H.{level}]" for level in levels[1:])
    if kind == "poly":
        fields = (_POLY_NAMES.get(degree, f"^{degree}") for degree in range(1, size))
        return _poly(size), tuple(f"{name}[{field}]" for field in fields)
    raise DataError(
        f"contrasts for {name!r}: {spec!r} is not known; use 'treatment', 'sum', 'helmert', "
        "'poly', 'SAS' or a matrix with one row per level",
        variable=name,
    )


def _sum(size: int) -> Matrix:
    matrix = np.eye(size, size - 1)
    matrix[-1] = -1.0
    return matrix


def _helmert(size: int) -> Matrix:
    matrix = np.zeros((size, size - 1))
    for j in range(size - 1):
        matrix[: j + 1, j] = -1.0
        matrix[j + 1, j] = j + 1.0
    return matrix


def _poly(size: int) -> Matrix:
    """Orthonormal polynomials by QR, as contr.poly; leading coefficients are positive."""
    scores = np.arange(size) - (size - 1) / 2.0
    q, r = np.linalg.qr(np.vander(scores, size, increasing=True))
    return np.ascontiguousarray((q * np.sign(np.diag(r)))[:, 1:])


def _formulaic(spec: Any, levels: Sequence[Any], name: str) -> tuple[Matrix, tuple[str, ...]]:
    try:
        frame = spec.get_coding_matrix(list(levels), reduced_rank=True)
    except ValueError as error:
        raise DataError(f"contrasts for {name!r}: {error}", variable=name) from error
    form = spec.get_factor_format(list(levels), reduced_rank=True)
    names = tuple(form.format(name=name, field=field) for field in frame.columns)
    return np.asarray(frame, dtype=np.float64), names


def _columns_of(spec: Mapping[Any, Any], levels: Sequence[Any], name: str) -> Matrix:
    """The matrix of {column: weights of the levels}."""
    weights = [_by_level(own, levels, name) for own in spec.values()]
    try:
        matrix = np.array(weights, dtype=np.float64).T
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.ndim == 2 and len(matrix) == len(levels):
        return matrix
    example = ", ".join(["-1", "1", *["0"] * (len(levels) - 2)][: len(levels)])
    other = f'; for another reference level write relevel({name}, "{levels[-1]}") in the formula'
    raise DataError(
        f"contrasts for {name!r}: a dict gives columns by name, each with a weight for every "
        f"level ({', '.join(map(str, levels[:10]))}), as in "
        f'{{"{name}": {{"{levels[1]}-{levels[0]}": [{example}]}}}}, not {dict(spec)!r}'
        f"{other if any(isinstance(own, str) for own in weights) else ''}",
        variable=name,
    )


def _by_level(spec: Any, levels: Sequence[Any], name: str) -> Any:
    """Rows of a pandas object in the order of the levels; merely counted ones have it already."""
    if not hasattr(spec, "iloc"):
        return spec
    if set(spec.index) >= set(levels):
        return spec.loc[list(levels)]
    if list(spec.index) == list(range(len(levels))):
        return spec
    lacking = [level for level in levels if level not in spec.index]
    raise DataError(
        f"contrasts for {name!r}: its index has no level {str(lacking[0])!r}; it needs one row "
        f"for each of the levels {', '.join(map(str, levels[:10]))}",
        variable=name,
    )


def _own_matrix(spec: Any, levels: Sequence[Any], name: str) -> tuple[Matrix, list[Any]]:
    """A matrix, {name: weights} or data frame; the rows of a data frame are found by level."""
    fields: list[Any] | None = None
    if isinstance(spec, Mapping):
        fields, spec = list(spec), _columns_of(spec, levels, name)
    elif hasattr(spec, "columns") and hasattr(spec, "index"):
        fields = list(spec.columns)
    spec = _by_level(spec, levels, name)
    try:
        matrix = np.array(spec, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"contrasts for {name!r} must be a name or a numeric matrix, not {spec!r}",
            variable=name,
        ) from error
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2 or matrix.shape[0] != len(levels) or not np.isfinite(matrix).all():
        shape = " x ".join(map(str, matrix.shape)) or "a single number"
        raise DataError(
            f"contrasts for {name!r}: the matrix is {shape}, but it needs one row of finite "
            f"numbers for each of the {len(levels)} levels {list(map(str, levels))[:10]}",
            variable=name,
        )
    return matrix, fields if fields is not None else list(range(1, matrix.shape[1] + 1))
