"""Contrast matrices of factors: R's by name, or the user's own; which level is the reference.

Levels have their order from cells.py. Which contrasts a factor gets when none were asked for is in
data/encode.py, `coding_of`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, FormulaError
from .coerce import number, numbers, texts
from .column import label_of
from .function import Function, Wrong, each
from .hypotheses import Hypotheses
from .parser import parse_text
from .tree import Call, Constant, Node, shown
from .values import Matrix, is_textual, length

# a name, a `Contrast`, a matrix (levels x columns), a mapping, a data frame, formulaic's
Spec = Any
Numbers = NDArray[np.float64]
_KNOWN = "'treatment', 'sum', 'helmert', 'poly', 'SAS', 'sdif', 'deviation'"


@dataclass(frozen=True, eq=False)
class Contrast:
    """Contrasts by name, with their options."""

    kind: str  # of _KINDS
    base: Any = None  # reference of "treatment", level that "sum" omits; or its number from 1
    size: int | None = None  # number of levels they are for, where it was said
    count: int | None = None  # of columns, the first ones; default all
    scores: Numbers | None = None  # of "poly": positions of the levels
    levels: tuple[str, ...] = ()  # where they were said
    patsy: bool = False  # patsy's names of columns; a number as base is a level, or a place from 0

    def matrix(self) -> Matrix:
        """The matrix for `size` levels."""
        if self.size is None:
            raise Wrong(f"contr.{self.kind}() needs the number of levels")
        try:
            own = self.levels or tuple(str(i + 1) for i in range(self.size))
            values, labels = contrast_matrix(self, own, "")
        except DataError as error:
            raise Wrong(str(error)) from None
        if self.kind in ("sum", "helmert"):
            return Matrix(values)
        return Matrix(values, tuple(label[1:-1].removeprefix("T.") for label in labels))


# ---- by name ------------------------------------------------------------------------------------


def _treatment(size: int, base: int) -> Numbers:
    return np.delete(np.eye(size), base, axis=1)


def _sum(size: int, omitted: int) -> Numbers:
    return np.insert(np.eye(size - 1), omitted, -1.0, axis=0)


def _helmert(size: int, _: int) -> Numbers:
    row, column = np.indices((size, size - 1))
    return np.where(row <= column, -1.0, np.where(row == column + 1, row, 0.0))


def _poly(scores: Numbers) -> Numbers:
    """Orthonormal polynomials by QR, as contr.poly; leading coefficients are positive."""
    centred = scores - scores.mean()
    q, r = np.linalg.qr(np.vander(centred, len(scores), increasing=True))
    return np.ascontiguousarray((q * np.sign(np.diag(r)))[:, 1:])


def _successive(size: int, _: int) -> Numbers:
    """Coefficients are differences of neighbours (Venables and Ripley, MASS, section 6.2)."""
    row, column = np.indices((size, size - 1)) + 1
    return np.where(row <= column, -(size - column), column) / size


def _deviation(size: int, base: int) -> Numbers:
    """Treatment contrasts around the mean of the levels: two levels are -1/2 and 1/2."""
    matrix = _treatment(size, base)
    return np.asarray(matrix - matrix.mean(axis=0))


_MEANT = {
    "SAS": "sas",
    "sdif": "sdif repeated diff successive backward",
    "deviation": "simple deviation scaled_sum",
    "treatment": "dummy",
    "poly": "polynomial",
    "sum": "effects",
}
_ALIASES = {alias: kind for kind, aliases in _MEANT.items() for alias in aliases.split()}
_PATSYS = {"Treatment": "treatment", "Sum": "sum", "Poly": "poly", "Helmert": "helmert"}
_PATSYS |= {"Diff": "sdif"}
_KINDS = ("treatment", "sum", "helmert", "poly", "SAS", "sdif", "deviation")


def kind_of(name: str) -> str | None:
    """The kind that a name means: "contr.sum", "Sum", "sum"."""
    own = name.split("::")[-1].removeprefix("contr.")
    if own in _KINDS:
        return own
    lower = own.lower()
    return lower if lower in _KINDS else _ALIASES.get(lower)


def contrast_of(text: str, name: str) -> Contrast:
    """Contrasts as text: "sum", "contr.treatment", "treatment(base = 'b')"."""
    kind = kind_of(text.strip())
    if kind is not None:
        return Contrast(kind, patsy=text.strip() in _PATSYS)
    if "(" in text:
        try:
            return _called(parse_text(text))
        except (FormulaError, Wrong) as error:
            raise _unfit(name, f": {error}") from None
    raise _unfit(
        name,
        f": {text!r} is not known; use {_KNOWN} or a matrix with one row per level; a reference "
        "level is chosen by \"treatment(base='level')\"",
    )


def _unfit(name: str, reason: str) -> DataError:
    return DataError(f"contrasts for {name!r}{reason}", variable=name)


def _called(node: Node) -> Contrast:
    """Contrasts with constants as arguments: treatment(base = 'b')."""
    kind = kind_of(node.function) if isinstance(node, Call) else None
    pairs = node.args if isinstance(node, Call) else ()
    given = [(own, value.value) for own, value in pairs if isinstance(value, Constant)]
    if kind is None or len(given) < len(pairs):
        raise Wrong(f"{shown(node)} are no contrasts; use {_KNOWN}")
    values = [value for own, value in given if not own]
    made = CONTRASTS[f"contr.{kind}"](values, {own: value for own, value in given if own})
    assert isinstance(made, Contrast)
    return made


def _named(spec: Contrast, levels: Sequence[Any], name: str) -> tuple[Numbers, tuple[str, ...]]:
    size = len(levels)
    if spec.size is not None and spec.size != size:
        raise _unfit(name, f" are for {spec.size} levels, but it has {size}")
    base = _base_of(spec, levels, name)
    if spec.kind == "poly":
        scores = np.arange(1.0, size + 1) if spec.scores is None else spec.scores
        if len(scores) != size or len(np.unique(scores)) != size:
            raise _unfit(name, f" need {size} different scores")
        return _poly(scores), _poly_names(name, size, spec.patsy)
    if spec.kind == "sdif" and not spec.patsy:
        pairs = itertools.pairwise(levels)
        return _successive(size, base), tuple(f"{name}[{b}-{a}]" for a, b in pairs)
    others = [level for i, level in enumerate(levels) if i != base]
    matrix, letter, coded = {
        "treatment": (_treatment, "T", others),
        "SAS": (_treatment, "T", others),
        "deviation": (_deviation, "D", others),
        "sum": (_sum, "S", others),
        "sdif": (_successive, "D", levels[:-1]),
        "helmert": (_helmert, "H", levels[1:]),
    }[spec.kind]
    return matrix(size, base), tuple(f"{name}[{letter}.{level}]" for level in coded)


def _poly_names(name: str, size: int, patsy: bool) -> tuple[str, ...]:
    """cond[.L] as in R's cond.L, or patsy's cond.Linear."""
    words = (".Linear", ".Quadratic", ".Cubic") if patsy else (".L", ".Q", ".C")
    ends = [*words, *(f"^{degree}" for degree in range(4, size))][: size - 1]
    return tuple(name + end if patsy else f"{name}[{end}]" for end in ends)


def _base_of(spec: Contrast, levels: Sequence[Any], name: str) -> int:
    """Position of the reference level."""
    if spec.base is None:
        return len(levels) - 1 if spec.kind in ("SAS", "sum") else 0
    labels = [label_of(level) for level in levels]
    if isinstance(spec.base, str) or (spec.patsy and label_of(spec.base) in labels):
        if label_of(spec.base) in labels:
            return labels.index(label_of(spec.base))
    elif spec.patsy:
        if -len(levels) <= spec.base < len(levels) and float(spec.base).is_integer():
            return int(spec.base) % len(levels)
    elif 1 <= spec.base <= len(levels) and float(spec.base).is_integer():
        return int(spec.base) - 1
    among = f"its levels {', '.join(labels[:10])}"
    raise _unfit(name, f": the reference {spec.base!r} is not among {among}")


def contrast_matrix(
    spec: Spec, levels: Sequence[Any], name: str, patsy: bool = False
) -> tuple[Numbers, tuple[str, ...]]:
    """Columns that code a factor beside an intercept, (L, k), and k names such as "cond[T.b]".

    By name: "treatment" (first level is the reference; "treatment(base='b')"), "sum" (last level
    -1), "helmert" (R's: each level against the mean of those before), "poly" (orthonormal
    polynomials of the level's position), "SAS" (last level is the reference), "sdif", "repeated" or
    "diff" (each level against the one before), "deviation" or "simple" (each level against the
    first, the intercept is the mean of the levels: two levels are -1/2 and 1/2); R's names
    ("contr.sum") are understood. A matrix has one row per level. With `patsy` the columns of a
    matrix without names are called as patsy does: cond[custom0].
    """
    if isinstance(spec, str):
        spec = contrast_of(spec, name)
    if isinstance(spec, Contrast):
        matrix, names = _named(spec, levels, name)
        count = len(names) if spec.count is None else spec.count
        return matrix[:, :count], names[:count]
    if isinstance(spec, Hypotheses):
        return spec.matrix(levels, name)
    if isinstance(spec, type):  # formulaic's contr.sum is a class
        spec = spec()
    if hasattr(spec, "get_coding_matrix"):
        return _formulaics(spec, levels, name)
    if isinstance(spec, Matrix):
        spec = spec.values
    matrix, fields = _own_matrix(spec, levels, name)
    if patsy and fields is None:
        fields = [f"custom{j}" for j in range(matrix.shape[1])]
    fields = list(range(1, matrix.shape[1] + 1)) if fields is None else fields
    return matrix, tuple(f"{name}[{field}]" for field in fields)


_CONSTANTS = {"sum": "[mean]", "helmert": "[H.intercept]", "poly": ".Constant"}


def full_rank_matrix(
    spec: Spec, levels: Sequence[Any], name: str
) -> tuple[Numbers, tuple[str, ...]] | None:
    """patsy's columns for a factor whose constant is in no other term, and their names.

    None: a column for each level. patsy's own contrasts get a column of ones in front of them; a
    matrix stays as it is (patsy.contrasts, ``code_with_intercept``).
    """
    if isinstance(spec, str):
        spec = contrast_of(spec, name)
    if not isinstance(spec, Contrast):
        return contrast_matrix(spec, levels, name, patsy=True)
    if not spec.patsy or spec.kind == "treatment":
        return None
    matrix, names = _named(spec, levels, name)
    if spec.kind == "sdif":
        names = tuple(f"{name}[D.{level}]" for level in levels)
    else:
        names = (name + _CONSTANTS[spec.kind], *names)
    return np.column_stack([np.ones(len(levels)), matrix]), names


def completed(columns: Numbers, count: int) -> Numbers:
    """Contrasts with further columns orthogonal to these and to the mean, as R's C() adds them."""
    size, given = columns.shape
    if not given <= count < size:
        return columns[:, :count]
    full = np.linalg.qr(np.column_stack([np.ones(size), columns]), mode="complete")[0]
    return np.column_stack([columns, full[:, given + 1 : count + 1]])


def _formulaics(spec: Any, levels: Sequence[Any], name: str) -> tuple[Numbers, tuple[str, ...]]:
    try:
        frame = spec.get_coding_matrix(list(levels), reduced_rank=True)
    except ValueError as error:
        raise _unfit(name, f": {error}") from error
    form = spec.get_factor_format(list(levels), reduced_rank=True)
    names = tuple(form.format(name=name, field=field) for field in frame.columns)
    return np.asarray(frame, dtype=np.float64), names


def _columns_of(spec: Mapping[Any, Any], levels: Sequence[Any], name: str) -> Numbers:
    """The matrix of {column: weights of the levels}."""
    weights = [_by_level(own, levels, name) for own in spec.values()]
    try:
        matrix = np.array(weights, dtype=np.float64).T
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.ndim == 2 and len(matrix) == len(levels):
        return matrix
    example = ", ".join(["-1", "1", *["0"] * (len(levels) - 2)][: len(levels)])
    raise _unfit(
        name,
        f": a dict gives columns by name, each with a weight for every "
        f"level ({', '.join(map(str, levels[:10]))}), as in "
        f'{{"{name}": {{"{levels[1]}-{levels[0]}": [{example}]}}}}, not {dict(spec)!r}; '
        f'another reference level is {{"{name}": "treatment(base=\'{levels[-1]}\')"}}',
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
    raise _unfit(
        name,
        f": its index has no level {str(lacking[0])!r}; it needs one row for each of the levels "
        f"{', '.join(map(str, levels[:10]))}",
    )


def _own_matrix(spec: Any, levels: Sequence[Any], name: str) -> tuple[Numbers, list[Any] | None]:
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
        what = f"a name ({_KNOWN}) or a numeric matrix, not {spec!r}"
        raise _unfit(name, f" must be {what}") from error
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2 or matrix.shape[0] != len(levels) or not np.isfinite(matrix).all():
        shape = " x ".join(map(str, matrix.shape)) or "a single number"
        raise _unfit(
            name,
            f": the matrix is {shape}, but it needs one row of finite numbers for each of the "
            f"{len(levels)} levels {list(map(str, levels))[:10]}",
        )
    return matrix, fields


# ---- in formulas --------------------------------------------------------------------------------


def _maker(kind: str) -> Callable[..., Contrast]:
    """contr.sum(3), contr.treatment(base = 'b'): R's arguments, the number of levels first."""

    def make(
        n: Any = None, base: Any = None, scores: Any = None, contrasts: Any = True
    ) -> Contrast:
        if not contrasts:
            raise Wrong("contrasts = FALSE is a column for each level: write 0 + f")
        size = None if n is None else _size(n)
        given = None if scores is None else numbers(scores, "scores")
        levels = tuple(texts(n).tolist()) if n is not None and length(n) > 1 else ()
        made = Contrast(kind, _reference(base), size, scores=given, levels=levels)
        if size is not None:
            made.matrix()  # says what does not fit
        return made

    return make


def _size(n: Any) -> int:
    """Number of levels, from the number or the levels themselves."""
    entries = texts(n) if is_textual(n) else numbers(n, "the number of levels")
    size = len(entries) if len(entries) > 1 else number(n, "the number of levels")
    if not 2 <= size <= 1000:
        raise Wrong("contrasts are for 2 to 1000 levels")
    return int(size)


def _reference(base: Any) -> Any:
    if base is None or isinstance(base, str):
        return base
    return str(texts(base)[0]) if is_textual(base) else number(base, "base")


def _patsys_treatment(reference: Any = None) -> Contrast:
    return Contrast("treatment", _reference(reference), patsy=True)


def _patsys_sum(omit: Any = None) -> Contrast:
    return Contrast("sum", _reference(omit), patsy=True)


def _patsys_poly(scores: Any = None) -> Contrast:
    given = None if scores is None else numbers(scores, "scores")
    return Contrast("poly", scores=given, patsy=True)


CONTRASTS: dict[str, Function] = {
    **{f"contr.{kind}": each(_maker(kind)) for kind in _KINDS},
    **{f"contr.{alias}": each(_maker(_ALIASES[alias])) for alias in ("diff", "repeated", "simple")},
    "Treatment": each(_patsys_treatment),
    "Sum": each(_patsys_sum),
    "Poly": each(_patsys_poly),
    "Helmert": each(lambda: Contrast("helmert", patsy=True)),
    "Diff": each(lambda: Contrast("sdif", patsy=True)),
}
