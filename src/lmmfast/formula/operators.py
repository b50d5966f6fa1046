"""R's operators on values: arithmetic, comparisons, logic, `%in%`, ranges, indexing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .coerce import aligned, as_factor, check_lengths, days, number, numbers, reals, texts, truths
from .column import Column, Text, label_of
from .factors import crossed
from .function import Wrong
from .values import Matrix, flags, is_textual, length

MOST_ENTRIES = 10_000_000  # of a vector that an expression makes out of nothing

Binary = Callable[[Any, Any], Any]


# ---- arithmetic ---------------------------------------------------------------------------------


def _arithmetic(operator: str, function: Binary) -> Binary:
    def apply(a: Any, b: Any) -> Any:
        left, right = reals(a, f"'{operator}'"), reals(b, f"'{operator}'")
        names = next((v.names for v in (left, right) if isinstance(v, Matrix)), None)
        left, right = aligned(left, right)
        result = function(left, right)
        return result if names is None else Matrix(result, names)

    return apply


def _matmul(a: Any, b: Any) -> Any:
    left, right = reals(a, "'%*%'"), reals(b, "'%*%'")
    left, right = (v.values if isinstance(v, Matrix) else np.atleast_1d(v) for v in (left, right))
    if left.shape[-1] != right.shape[0]:
        raise Wrong(f"{left.shape[-1]} columns and {right.shape[0]} rows do not fit")
    result = left @ right
    return Matrix(result) if np.ndim(result) == 2 else result


_PLAIN: dict[str, Binary] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "^": np.power,
    "**": np.power,
    "%%": np.mod,
    "%": np.mod,
    "%/%": np.floor_divide,
    "//": np.floor_divide,
}


def negated(value: Any) -> Any:
    """-x."""
    found = reals(value, "'-'")
    return Matrix(-found.values, found.names) if isinstance(found, Matrix) else -found


# ---- comparisons --------------------------------------------------------------------------------

_COMPARE: dict[str, Binary] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    ">": np.greater,
    "<=": np.less_equal,
    ">=": np.greater_equal,
}
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


def _comparison(operator: str) -> Binary:
    compare = _COMPARE[operator]

    def apply(a: Any, b: Any) -> Any:
        if _is_date(a) or _is_date(b):
            return _numeric_comparison(compare, _date_number(a), _date_number(b))
        if isinstance(a, Column) and not isinstance(b, (Column, np.ndarray)):
            return _level_comparison(operator, a, b)
        if isinstance(b, Column) and not isinstance(a, (Column, np.ndarray)):
            return _level_comparison(_MIRRORED.get(operator, operator), b, a)
        if is_textual(a) or is_textual(b):
            return _text_comparison(operator, a, b)
        return _numeric_comparison(compare, reals(a), reals(b))

    return apply


def _numeric_comparison(compare: Binary, a: Any, b: Any) -> Any:
    left, right = aligned(a, b)
    return flags(compare(left, right), np.isnan(left) | np.isnan(right))


def _is_date(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "M"


def _date_number(value: Any) -> Any:
    if _is_date(value):
        return days(value)
    if isinstance(value, str):
        try:
            return days(np.array([value], dtype="datetime64[us]"))
        except ValueError:
            raise Wrong(f"{value!r} is no date such as '2024-12-31'") from None
    return reals(value)


def _level_comparison(operator: str, factor: Column, other: Any) -> Any:
    """A factor or text beside one value: compared once a level."""
    labels, wanted = factor.labels, label_of(other)
    if operator not in ("==", "!=") and not isinstance(factor, Text):
        if not factor.ordered:
            raise Wrong(f"{operator!r} has no meaning for a factor that is not ordered")
        if wanted not in labels:
            raise Wrong(f"{wanted!r} is no level; the levels are {', '.join(labels[:10])}")
        answer = _COMPARE[operator](np.arange(len(labels)), labels.index(wanted))
    else:
        answer = np.array([_compare_texts(operator, label, wanted) for label in labels], dtype=bool)
    return flags(np.append(answer, False)[factor.codes], factor.codes < 0)


def _compare_texts(operator: str, a: str, b: str) -> bool:
    if operator in ("==", "!="):
        return (a == b) == (operator == "==")
    one, two = ((text.lower(), text.swapcase()) for text in (a, b))  # R's usual collation
    return {"<": one < two, ">": one > two, "<=": one <= two, ">=": one >= two}[operator]


def _text_comparison(operator: str, a: Any, b: Any) -> Any:
    factors = any(isinstance(v, Column) and not isinstance(v, Text) for v in (a, b))
    if factors and operator not in ("==", "!="):
        return _ordered_comparison(operator, a, b)
    left, right = texts(a), texts(b)
    check_lengths(left, right)
    left, right = np.broadcast_arrays(left, right)
    pairs = list(zip(left.tolist(), right.tolist(), strict=True))
    missing = np.array([x is None or y is None for x, y in pairs])
    answer = [x is not None and y is not None and _compare_texts(operator, x, y) for x, y in pairs]
    return flags(np.array(answer, dtype=bool), missing)


def _ordered_comparison(operator: str, a: Any, b: Any) -> Any:
    """Two ordered factors of the same levels."""
    fits = (
        isinstance(a, Column) and isinstance(b, Column)
        and a.ordered and b.ordered and a.levels.tolist() == b.levels.tolist()
    )  # fmt: skip
    if not fits:
        raise Wrong(f"{operator!r} needs ordered factors with the same levels")
    return flags(_COMPARE[operator](a.codes, b.codes), (a.codes < 0) | (b.codes < 0))


# ---- logic --------------------------------------------------------------------------------------


def _and(a: Any, b: Any) -> Any:
    left, right = truths(a, "'&'"), truths(b, "'&'")
    check_lengths(left, right)
    if np.asarray(left).dtype.kind == "b" and np.asarray(right).dtype.kind == "b":
        return np.logical_and(left, right)
    false = (left == 0) | (right == 0)
    return flags(~false, ~false & (np.isnan(left) | np.isnan(right)))


def _or(a: Any, b: Any) -> Any:
    return opposite(_and(opposite(a), opposite(b)))


def opposite(value: Any) -> Any:
    """!x; missing stays missing."""
    found = truths(value, "'!'")
    return ~found if np.asarray(found).dtype.kind == "b" else flags(found == 0, np.isnan(found))


def _bitwise(function: Binary, logical: Binary) -> Binary:
    """Python's & and |: of whole numbers bit by bit."""

    def apply(a: Any, b: Any) -> Any:
        both = [np.asarray(reals(v, "'&' and '|'")) for v in (a, b)]
        if all(np.asarray(v).dtype.kind == "b" for v in (a, b)):
            return logical(a, b)
        if any((v != np.floor(v)).any() for v in both):
            raise Wrong("& and | need logicals or whole numbers: write (x > 1) & (y > 2)")
        return function(*(v.astype(np.int64) for v in both)).astype(np.float64)

    return apply


PYTHON_LOGIC: dict[str, Binary] = {
    "&": _bitwise(np.bitwise_and, _and),
    "|": _bitwise(np.bitwise_or, _or),
}


def among(value: Any, table: Any) -> NDArray[np.bool_]:
    """x %in% table: never missing."""
    if is_textual(value) or is_textual(table):
        wanted = set(texts(table).tolist())
        if isinstance(value, Column) and value.codes is not None:
            answer = [label in wanted for label in value.labels]
            return np.array([*answer, None in wanted], dtype=bool)[value.codes]
        return np.array([entry in wanted for entry in texts(value).tolist()], dtype=bool)
    found, wanted_numbers = numbers(value), numbers(table)
    return np.isin(found, wanted_numbers) | (np.isnan(found) & np.isnan(wanted_numbers).any())


# ---- ranges and parts ---------------------------------------------------------------------------


def sequence(a: Any, b: Any) -> Any:
    """a:b, a range of numbers; of two factors their combinations."""
    if isinstance(a, Column) and isinstance(b, Column):
        return _combined(a, b)
    first, last = number(a, "the start of ':'"), number(b, "the end of ':'")
    if not (abs(last - first) < MOST_ENTRIES):
        raise Wrong(f"{first:g}:{last:g} has more than {MOST_ENTRIES} entries")
    count = int(abs(last - first) + 1e-10) + 1
    return first + np.arange(count, dtype=np.float64) * (1.0 if last >= first else -1.0)


def _combined(a: Column, b: Column) -> Column:
    """The combinations of two factors, the second varies fastest."""
    columns = [as_factor(a), as_factor(b)]
    if len(columns[0].levels) * len(columns[1].levels) > 1_000_000:
        raise Wrong("the factors have more than 1,000,000 combinations")
    return crossed(columns, ":")


BINARY: dict[str, Binary] = {
    **{operator: _arithmetic(operator, function) for operator, function in _PLAIN.items()},
    **{operator: _comparison(operator) for operator in _COMPARE},
    **dict.fromkeys(("@", "%*%"), _matmul),
    **dict.fromkeys(("&", "&&"), _and),
    **dict.fromkeys(("|", "||"), _or),
    **dict.fromkeys(("%in%", "in"), among),
    "not in": lambda x, table: ~among(x, table),
    ":": sequence,
}


def index(value: Any, places: list[Any]) -> Any:
    """x[i], M[, j]: positions from 1, logicals, names of columns."""
    if isinstance(value, Matrix):
        if len(places) != 2:
            raise Wrong("a matrix has rows and columns: write [, 1] for its first column")
        return _part_of_matrix(value, *places)
    if len(places) != 1:
        raise Wrong(f"it has one dimension, not {len(places)}")
    if places[0] is None:
        return value
    where = _positions(places[0], length(value), getattr(value, "names", ()))
    if isinstance(value, Column):
        part = value.take(where)
        part.missing = None if value.missing is None else value.missing[where]
        return part
    return np.atleast_1d(np.asarray(value))[where]


def _part_of_matrix(matrix: Matrix, rows: Any, columns: Any) -> Any:
    values, names = matrix.values, matrix.names
    if columns is not None:
        where = _positions(columns, values.shape[1], names)
        values, names = values[:, where], tuple(names[j] for j in where) if names else ()
    if rows is not None:
        values = values[_positions(rows, len(values), ())]
    return values[:, 0] if values.shape[1] == 1 else Matrix(values, names)


def _positions(given: Any, size: int, names: tuple[str, ...]) -> NDArray[np.intp]:
    """Positions from 0 of what R's index names."""
    if isinstance(given, Column) and not isinstance(given, Text):  # the numbers of its levels
        if (given.codes < 0).any() or given.codes.max(initial=-1) >= size:
            raise Wrong(f"the factor has levels or missing values beyond the {size} entries")
        return np.asarray(given.codes, dtype=np.intp)
    if is_textual(given):
        wanted = texts(given).tolist()
        for name in wanted:
            if name not in names:
                raise Wrong(f"there is none named {name!r}")
        return np.array([names.index(name) for name in wanted], dtype=np.intp)
    array = np.atleast_1d(np.asarray(given))
    if array.dtype.kind == "b":
        return np.flatnonzero(np.broadcast_to(array, (size,)) if len(array) == 1 else array[:size])
    wanted_numbers = numbers(given, "an index")
    whole = np.isfinite(wanted_numbers).all() and (np.abs(wanted_numbers) < 2**53).all()
    if not whole:
        raise Wrong("an index must be a number of a row or column, from 1")
    places = wanted_numbers.astype(np.intp)
    if (places < 0).all() and len(places):
        return np.setdiff1d(np.arange(size), -places - 1)
    if (places < 1).any() or (places > size).any():
        raise Wrong(f"index {places[(places < 1) | (places > size)][0]} is outside of 1 to {size}")
    return places - 1
