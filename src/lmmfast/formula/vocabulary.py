"""All that formulas may call by name, and what of it looks at other rows."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from .bases import BASES, PATSYS
from .coerce import texts
from .column import Column
from .contrasts import CONTRASTS
from .factors import FACTORS
from .function import Function
from .numeric import CONSTANTS, NUMERIC
from .numpys import NUMPY_CONSTANTS, NUMPYS
from .splines import numbered
from .textual import TEXTUAL
from .tree import Call, Constant, Name, Node, strip, walk
from .values import Matrix, whole

FUNCTIONS = NUMERIC | FACTORS | TEXTUAL | BASES | CONTRASTS | NUMPYS
_CONSTANTS = CONSTANTS | NUMPY_CONSTANTS
# The evaluator's own: they look at how their arguments are written.
SPECIAL = ("C", "cbind", "np.c_", "numpy.c_")
# They can have a value where an argument is missing.
_FILLING = "is.na is.nan is.finite is.element ifelse if_else if match paste paste0 pmin pmax"
FILLING = {*_FILLING.split(), "rowSums", "rowMeans", "%in%", "in", "not in", "&", "&&", "|", "||"}
_FORMULAICS = ("cr", "cc", "cs", "hashed", "lag", "exp2", "exp10")


def is_known(name: str) -> bool:
    """Whether a name means something in formulas when it is no column."""
    return name in FUNCTIONS or name in _CONSTANTS or name in SPECIAL or name in _FORMULAICS


def constant_of(name: str) -> Any:
    """The value of a constant, or the function of that name; KeyError without one."""
    return _CONSTANTS[name] if name in _CONSTANTS else FUNCTIONS[name]


PACKAGES = ("base", "stats", "splines", "MASS", "lme4", "lmerTest", "glmmTMB", "dplyr", "utils")


def function_of(name: str, patsy: bool = False) -> Function | None:
    """The function of a name, None when there is none."""
    if patsy and name in PATSYS:
        return PATSYS[name]
    if patsy and name in ("cr", "cc"):
        return _smooth(name)
    found = FUNCTIONS.get(name) or FUNCTIONS.get(name.replace("_", "."))
    return found or (_formulaics(name) if name in _FORMULAICS else None)


@lru_cache(maxsize=32)
def _formulaics(name: str) -> Function:
    """A transform of formulaic by its public table; a mapping of columns becomes a matrix."""
    from formulaic.transforms import TRANSFORMS

    transform = TRANSFORMS[name]
    stateful = getattr(transform, "__is_stateful_transform__", False)

    def run(*values: Any, state: dict[str, Any], **options: Any) -> Any:
        named = {key: _native(value) for key, value in options.items()}
        return transform(*map(_native, values), **named, **({"_state": state} if stateful else {}))

    return _Formulaics(run, "learns" if stateful else "all" if name == "lag" else "each")


@lru_cache(maxsize=2)
def _smooth(name: str) -> Function:
    """formulaic's cr() or cc(), which are patsy's, with columns numbered from 0."""
    found = _formulaics(name)

    def run(*values: Any, state: dict[str, Any], **options: Any) -> Matrix:
        columns = found(values, options, state)
        columns = getattr(columns, "__wrapped__", columns)
        return numbered(np.column_stack([columns[key] for key in columns]), start=0)

    return _Formulaics(run, "learns")


class _Formulaics(Function):
    """A function with formulaic's arguments, by their exact names."""

    def __call__(
        self, values: Any, named: dict[str, Any], state: dict[str, Any] | None = None
    ) -> Any:
        return self.run(*values, **named, state={} if state is None else state)


def _native(value: Any) -> Any:
    """A value as other libraries' functions take it: whole numbers as int, labels as texts."""
    if isinstance(value, Column):
        return texts(value).astype(str)
    return value.values if isinstance(value, Matrix) else whole(value)


def nearest(name: str) -> str:
    """The known function whose name is most alike, empty without one."""
    found = difflib.get_close_matches(name, FUNCTIONS, n=1, cutoff=0.75)
    return found[0] if found else ""


# ---- rows ---------------------------------------------------------------------------------------


def looks_at_other_rows(node: Node, is_column: Callable[[str], bool]) -> bool:
    """Whether an expression may give a row another value when others are beside it.

    Functions that remember levels are not meant: all levels can be known beforehand.
    """
    return any(isinstance(own, Call) and _looks(own, is_column) for own in walk(node))


def _looks(call: Call, is_column: Callable[[str], bool]) -> bool:
    operands = call.operands
    with_columns = [_has_column(value, is_column) for value in operands]
    if not any(with_columns):
        return False
    name = call.function
    if name == "[":
        joins = isinstance(operands[0], Name) and operands[0].name in SPECIAL
        whole_columns = len(call.args) == 3 and call.args[1][1] is None
        return not (joins or (whole_columns and not with_columns[-1]))
    if name in ("@", "%*%", "%o%", ":"):
        return True
    if name in ("%in%", "in", "not in"):
        return with_columns[1]
    base = name.removeprefix("np.").removeprefix("numpy.")
    if base != name and base in ("digitize", "interp", "isin"):
        return any(with_columns[1:])
    if base != name and base == "where":
        return len(operands) < 3
    function = function_of(name)
    if function is None or function.rows in ("each", "levels"):
        return False
    return function.rows == "all" or not _is_determined(call)


def _is_determined(call: Call) -> bool:
    """Whether a call that could learn from the rows has nothing left to learn."""
    named = {name.replace("_", "."): value for name, value in call.args if name}
    if call.function in ("poly", "polym"):
        raw = named.get("raw")
        return isinstance(raw, Constant) and raw.value is True
    if call.function == "cut":
        breaks = named.get("breaks") or (call.args[1][1] if len(call.args) > 1 else None)
        return isinstance(breaks, Call) and strip(breaks) == breaks and breaks.function == "c"
    if call.function in ("bs", "ns"):
        return "knots" in named and "Boundary.knots" in named
    return False


def _has_column(node: Node, is_column: Callable[[str], bool]) -> bool:
    return any(isinstance(own, Name) and is_column(own.name) for own in walk(node))
