"""What an expression of a formula may do: arithmetic and calls of known functions, nothing else.

A formula may come from a file. So expressions are not Python: no attributes besides `np.<function>`
and `contr.<contrast>`, no builtins, no lambdas; what is not listed here is refused.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from types import CodeType, SimpleNamespace
from typing import Any

import numpy as np

from .errors import FormulaError

__all__ = ["ALIAS", "NUMPY", "check", "numpy_functions", "of_all_rows", "run"]

ALIAS = re.compile(r"_v\d+_")  # what columns are called in the code
NUMPY = ("np", "numpy")

_ELEMENTWISE = (
    "abs absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh around asarray "
    "array bool_ cbrt ceil clip column_stack cos cosh deg2rad degrees divide equal exp exp2 "
    "expm1 fabs fix float32 float64 float_power floor floor_divide fmax fmin fmod full_like "
    "greater greater_equal heaviside hypot int32 int64 isclose isfinite isinf isnan less "
    "less_equal log log10 log1p log2 logaddexp logaddexp2 logical_and logical_not logical_or "
    "logical_xor maximum minimum mod multiply nan_to_num negative not_equal ones_like "
    "positive power rad2deg radians reciprocal remainder rint round select sign sin sinc sinh "
    "sqrt square subtract tan tanh true_divide trunc vander where zeros_like"
)
_BY_CONSTANTS = ["digitize", "interp", "isin"]  # elementwise where all but the first are constants
_CONSTANTS = ["e", "inf", "nan", "newaxis", "pi"]
_OF_ALL_ROWS = (
    "all amax amin any arange argsort average bincount concatenate convolve corrcoef "
    "count_nonzero cov cumprod cumsum diff dot flip gradient hstack linspace max mean median "
    "min nancumprod nancumsum nanmax nanmean nanmedian nanmin nanpercentile nanprod "
    "nanquantile nanstd nansum nanvar ones percentile prod ptp quantile repeat roll "
    "searchsorted sort stack std sum tile unique var vstack zeros"
)
numpy_functions: Any = SimpleNamespace(
    **{
        name: getattr(np, name)
        for name in (*_ELEMENTWISE.split(), *_BY_CONSTANTS, *_CONSTANTS, *_OF_ALL_ROWS.split())
        if hasattr(np, name)
    },
    c_=np.c_,
)
_CONTRASTS = ("SAS", "custom", "diff", "helmert", "poly", "sum", "treatment")
_BUILTINS: dict[str, Any] = {
    own.__name__: own
    for own in (bool, float, int, len, str, sum, pow, all, any, range, list, tuple, dict, sorted)
}
_PLAIN = {"bool", "float", "int", "pow"}  # of these, what gives each row its own value
_ALLOWED = (
    ast.Expression,
    ast.Attribute,
    ast.BinOp,
    ast.BoolOp,
    ast.Call,
    ast.Compare,
    ast.Constant,
    ast.Dict,
    ast.IfExp,
    ast.List,
    ast.Name,
    ast.Slice,
    ast.Subscript,
    ast.Tuple,
    ast.UnaryOp,
    ast.keyword,
    ast.expr_context,
    ast.operator,
    ast.boolop,
    ast.unaryop,
    ast.cmpop,
)


def check(code: str, label: str) -> None:
    """
    Raises
    ------
    FormulaError
        When an expression is more than arithmetic and calls of functions.
    """
    reason = _reason(code)
    if reason:
        raise FormulaError(
            f"{label}: {reason}; formulas may use arithmetic, comparisons, their functions (log, "
            "factor, scale, poly, ifelse, ...) and array functions such as np.log, np.where, "
            "np.clip, np.mean. Compute a column of the data with it and name that column",
            term=label,
        )


@lru_cache(maxsize=2048)
def _reason(code: str) -> str:
    """What is not allowed in an expression, empty when all is."""
    try:
        tree = ast.parse(code, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "it cannot be read"
    for node in ast.walk(tree):
        reason = _refused(node)
        if reason:
            return reason
    return ""


def _refused(node: ast.AST) -> str:
    if not isinstance(node, _ALLOWED):
        return f"{type(node).__name__.lower()} expressions are not allowed"
    if isinstance(node, ast.Attribute):
        return _refused_attribute(node)
    if isinstance(node, ast.Name) and node.id.startswith("_") and not ALIAS.fullmatch(node.id):
        return f"the name {node.id!r} is not allowed"
    if isinstance(node, ast.keyword) and (node.arg is None or node.arg.startswith("_")):
        return "arguments with ** or names that begin with an underscore are not allowed"
    if isinstance(node, ast.Dict) and None in node.keys:
        return "dicts with ** are not allowed"
    return ""


def _refused_attribute(node: ast.Attribute) -> str:
    root = node.value.id if isinstance(node.value, ast.Name) else ""
    if root in NUMPY and hasattr(numpy_functions, node.attr) and not node.attr.startswith("_"):
        return ""
    if root == "contr" and node.attr in _CONTRASTS:
        return ""
    shown = ALIAS.sub("...", ast.unparse(node))
    return f"{shown} is not allowed"


def of_all_rows(code: str) -> bool:
    """Whether an expression may give a row another value when others are beside it.

    Functions that remember (``scale``, ``mean``) and the caller's own are not judged here.
    """
    return any(_of_all_rows(node) for node in ast.walk(ast.parse(code, mode="eval")))


def _of_all_rows(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):
        return ast.unparse(node.value) not in ("np.c_", "numpy.c_")
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.MatMult)
    if isinstance(node, ast.Compare):
        return any(isinstance(op, (ast.In, ast.NotIn, ast.Is, ast.IsNot)) for op in node.ops)
    if not isinstance(node, ast.Call) or not _has_columns(node):
        return False
    if isinstance(node.func, ast.Name):
        return node.func.id in _BUILTINS.keys() - _PLAIN
    assert isinstance(node.func, ast.Attribute)
    name, root = node.func.attr, ast.unparse(node.func.value)
    if name in _BY_CONSTANTS:
        given = [*node.args[1:], *(keyword.value for keyword in node.keywords)]
        return any(_has_columns(own) for own in given)
    if name == "where":
        return len(node.args) < 3
    return root in NUMPY and name in _OF_ALL_ROWS.split()


def _has_columns(node: ast.AST) -> bool:
    names = (own.id for own in ast.walk(node) if isinstance(own, ast.Name))
    return any(ALIAS.fullmatch(name) for name in names)


def run(code: str, env: Mapping[str, Any], state: MutableMapping[str, Any]) -> Any:
    """The value of a checked expression.

    Parameters
    ----------
    code : str
        `check` has seen it.
    env : mapping
        All names.
    state : mapping
        What each call of a stateful function remembers, by its text.

    Raises
    ------
    NameError
        For a name that is not in `env`.
    """
    names = {**_BUILTINS, **env, **dict.fromkeys(NUMPY, numpy_functions)}
    compiled, calls = _compiled(code)
    for text, name in calls:
        if name not in names:
            raise NameError(f"name {name!r} is not defined", name=name)
        names[f"__call_{text}"] = _bound(names[name], state, text, env)
    return eval(compiled, {"__builtins__": {}}, _Names(names))


class _Names(dict[str, Any]):
    """Names with a clear error for those that are not there."""

    def __missing__(self, name: str) -> Any:
        raise NameError(f"name {name!r} is not defined", name=name)


def _bound(function: Any, state: MutableMapping[str, Any], text: str, env: Any) -> Any:
    """A stateful function with its memory; any other as it is."""
    if not getattr(function, "__is_stateful_transform__", False):
        return function
    own = state.setdefault(text, {})

    def call(*args: Any, **options: Any) -> Any:
        return function(*args, **options, _state=own, _metadata=None, _spec=None, _context=env)

    return call


@lru_cache(maxsize=2048)
def _compiled(code: str) -> tuple[CodeType, tuple[tuple[str, str], ...]]:
    """The code with calls of names by their text, and (text, name) of each."""
    tree = ast.parse(code, mode="eval")
    nodes = [
        (node, node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    calls = tuple((ast.unparse(node).replace("\n", " "), func.id) for node, func in nodes)
    for (_, func), (text, _) in zip(nodes, calls, strict=True):
        func.id = f"__call_{text}"
    return compile(ast.fix_missing_locations(tree), "<formula>", "eval"), calls
