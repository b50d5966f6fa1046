"""R's names for formulas: `I(x^2)`, `poly`, `scale`, `log`, `factor`, `relevel`, `ifelse`, ...

An R (or Python) expression is translated to Python text once (`translate`), checked and evaluated
by `expressions`, so that `scale`, `poly`, splines, `mean` ... remember for new data what they
learned from the training data.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import Column, read
from .errors import FormulaError
from .expressions import ALIAS, NUMPY, check, numpy_functions, run
from .splines import ns

__all__ = [
    "Expression",
    "Memory",
    "called",
    "evaluate",
    "functions",
    "patsy_functions",
    "translate",
]

_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | `(?P<quoted>[^`]+)`
      | \bQ\(\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)')\s*\)
      | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)L?
      | (?P<word>[^\W\d][\w.]*|\.[^\W\d][\w.]*)
      | (?P<operator>%%|%/%|%in%|&&|\|\||==|!=|<=|>=|\*\*|.)""",
    re.VERBOSE | re.DOTALL,
)
_OPERATORS = {"^": "**", "%%": "%", "%/%": "//", "&&": "&", "||": "|", "!": "~"}
_CONSTANTS = {"TRUE": "True", "FALSE": "False", "NULL": "None", "NA": "nan", "Inf": "inf"}
_MODULES = ("np", "numpy", "contr")  # dots after these are Python's


@dataclass(frozen=True)
class Expression:
    """An expression of the formula, ready to evaluate."""

    label: str  # as shown to the user: "log(x + 1)", "I(x^2)"
    code: str  # Python
    names: tuple[tuple[str, str], ...]  # (name in the code, name in the formula), each once

    @property
    def is_name(self) -> bool:
        """Whether it is a column and nothing else."""
        return self.code == "_v0_" and len(self.names) == 1


class Memory(dict[str, Any]):
    """What expressions remember from the training data, by label, and the caller's own names.

    Attributes
    ----------
    scope : mapping
        Names that expressions may use besides columns, in front of `functions()`: the caller's
        variables while a design is built, afterwards only those that were used.
    patsy : bool
        Whether `patsy_functions()` stand in front of `functions()`.
    used : dict
        The names of `scope` that were used.
    lost : frozenset
        Those of them that a pickle could not keep.
    """

    def __init__(self, scope: Mapping[str, Any] | None = None, patsy: bool = False) -> None:
        super().__init__()
        self.scope: Mapping[str, Any] = scope or {}
        self.patsy = patsy
        self.used: dict[str, Any] = {}
        self.lost: frozenset[str] = frozenset()

    def find(self, name: str) -> Any:
        """The caller's value of a name.

        Raises
        ------
        FormulaError
            When a pickle could not keep it.
        """
        if name in self.lost:
            raise FormulaError(
                f"{name!r} is a name of the script that made the fit and could not be pickled: "
                "define it at the top of a module that can be imported, and fit again",
                term=name,
            )
        self.used[name] = self.scope[name]
        return self.used[name]

    def close(self) -> None:
        """Forget the names of the caller that were not used."""
        self.scope = self.used

    def __reduce__(self) -> tuple[Any, ...]:
        """What cannot be pickled (functions made inside of others) is known to be lost."""
        kept = {name: value for name, value in self.used.items() if _lasts(value)}
        lost = self.lost | (self.used.keys() - kept.keys())
        return _remembering, (dict(self), self.patsy, kept, lost)


def _remembering(
    learned: dict[str, Any], patsy: bool, used: dict[str, Any], lost: frozenset[str]
) -> Memory:
    memory = Memory({**used, **dict.fromkeys(lost)}, patsy)
    memory.used, memory.lost = used, frozenset(lost)
    memory.update(learned)
    return memory


def _lasts(value: Any) -> bool:
    import pickle

    try:
        pickle.dumps(value)
    except Exception:  # whatever the value's own pickling raises
        return False
    return True


@lru_cache(maxsize=2048)
def translate(text: str) -> Expression:
    """R or Python expression -> Python code with names _v0_, _v1_, ... for what may be columns.

    Raises
    ------
    FormulaError
        When the text is neither an R nor a Python expression that can be read.
    """
    names: dict[str, str] = {}
    code = "".join(_word(match, text, names) for match in _TOKEN.finditer(text)).strip()
    try:
        clean = ast.unparse(ast.parse(code, mode="eval"))
    except SyntaxError as error:
        raise FormulaError(f"cannot read the expression {text!r}", term=text) from error
    pairs = tuple((alias, name) for name, alias in names.items())
    if clean == "_v0_" and text.lstrip().startswith("Q("):
        return Expression(text.strip(), clean, pairs)  # patsy's label
    return Expression(_label(clean, pairs, text), clean, pairs)


def _word(match: re.Match[str], text: str, names: dict[str, str]) -> str:
    """One token in Python."""
    kind, word = match.lastgroup, match[match.lastgroup or 0]
    if kind in ("quoted", "double", "single"):
        return names.setdefault(word, f"_v{len(names)}_")
    if kind == "operator":
        return _OPERATORS.get(word, word)
    if kind != "word":
        return word
    before, after = text[: match.start()].rstrip(), text[match.end() :].lstrip()
    keyword = after.startswith("=") and not after.startswith("==") and before[-1:] in ("(", ",")
    if keyword or after.startswith("(") or before.endswith("."):
        return _function_name(word)
    if word.split(".")[0] in _MODULES and "." in word:
        return word
    if word in _CONSTANTS:
        return _CONSTANTS[word]
    if word in ("and", "or", "not", "in", "if", "else", "True", "False", "None"):
        return word
    return names.setdefault(word, f"_v{len(names)}_")


def _function_name(word: str) -> str:
    """as.factor -> as_factor; np.log stays."""
    return word if word.split(".")[0] in _MODULES else word.replace(".", "_")


def _label(clean: str, pairs: tuple[tuple[str, str], ...], text: str) -> str:
    """Evenly spaced text of the expression in the user's names: formulaic's, or R's with ^."""
    originals = dict(pairs)
    label = re.sub(r"\b_v\d+_\b", lambda match: originals.get(match[0], match[0]), clean)
    for function in {word for word in re.findall(r"[^\W\d][\w.]*(?=\s*\()", text) if "." in word}:
        label = label.replace(_function_name(function) + "(", function + "(")
    for constant in ("TRUE", "FALSE"):
        if re.search(rf"\b{constant}\b", text):
            label = re.sub(rf"\b{_CONSTANTS[constant]}\b", constant, label)
    return _with_literals(label.replace(" ** ", "^") if "^" in text else label, text)


def _with_literals(label: str, text: str) -> str:
    """The label with strings and numbers as they were written: "b" not 'b', .5 not 0.5."""
    written = [m[0] for m in _TOKEN.finditer(text) if m.lastgroup in ("string", "number")]
    found = [m for m in _TOKEN.finditer(label) if m.lastgroup in ("string", "number")]
    if len(written) != len(found):
        return label
    for match, literal in zip(reversed(found), reversed(written), strict=True):
        label = label[: match.start()] + literal + label[match.end() :]
    return label


def evaluate(expression: Expression, columns: Mapping[str, Column], memory: Memory) -> Any:
    """The value of an expression: array, `Column`, mapping of columns or a formulaic value.

    Parameters
    ----------
    expression : Expression
    columns : mapping
        The columns it names; names that are not there are looked up among the functions.
    memory : Memory
        What stateful functions remember: empty for training data (it is filled), kept for new.

    Raises
    ------
    FormulaError
        When the expression cannot be evaluated; the message carries the reason.
    """
    check(expression.code, expression.label)
    env: dict[str, Any] = functions() | (patsy_functions() if memory.patsy else {})
    for alias, name in expression.names:
        if name in columns:
            env[alias] = _exposed(columns[name])
        else:
            env[alias] = memory.find(name) if name in memory.scope else env[name]
    for name in called(expression.code):
        if name in memory.scope and name not in NUMPY:
            env[name] = memory.find(name)
    state: MutableMapping[str, Any] = memory.setdefault(expression.label, {})
    try:
        with np.errstate(all="ignore"):
            return run(expression.code, env, state)
    except NameError as error:
        raise FormulaError(
            f"{expression.label}: {error.name!r} is not a function that formulas know; "
            "compute a column of the data with it and name that column",
            term=expression.label,
        ) from error
    except Exception as error:  # whatever the user's expression raises
        raise FormulaError(
            f"cannot evaluate {expression.label}: {error}", term=expression.label
        ) from error


@lru_cache(maxsize=2048)
def called(code: str) -> tuple[str, ...]:
    """Names in an expression that do not stand for columns."""
    names = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    return tuple(sorted(name for name in names if not ALIAS.fullmatch(name)))


def _exposed(column: Column) -> Any:
    """A column as the functions see it: float array, or pandas categorical series."""
    if column.values is not None:
        return np.asarray(column.values, dtype=np.float64)
    import pandas as pd

    assert column.codes is not None and column.levels is not None
    if column.levels.dtype.kind == "b" and column.missing is None:
        return column.levels[column.codes]
    values = pd.Categorical.from_codes(column.codes, column.levels.tolist(), column.ordered)
    return pd.Series(values)


def _as_column(x: Any) -> Column:
    """A value inside an expression as a factor; numbers become levels in increasing order."""
    column = x if isinstance(x, Column) else read("factor", _plain(x))
    if column.values is not None:
        return column.as_factor()
    return column if column.missing is not None else column.used()


def _factor(
    x: Any, levels: Any = None, labels: Any = None, ordered: bool | None = None, _state: Any = None
) -> Column:
    """R's factor(): levels in increasing order or as given, with other labels if given."""
    column = _as_column(x)
    if levels is not None:
        column = _reordered(column, list(np.atleast_1d(_plain(levels))))
    assert column.levels is not None
    if labels is not None:  # new data may not have all levels: the training data's count
        if "labels" not in _state:
            _state["labels"] = dict(zip(column.levels, labels, strict=True))
        named = [_state["labels"].get(level, level) for level in column.levels]
        column.levels = np.array(named, dtype=object)
    if ordered is not None:
        column.ordered = bool(ordered)
    return column


def _plain(x: Any) -> Any:
    """Values without formulaic's wrapper."""
    return getattr(x, "__wrapped__", x)


def _reordered(column: Column, levels: list[Any]) -> Column:
    """The same factor with these levels; values that are not among them become missing."""
    position = {level: i for i, level in enumerate(levels)}
    assert column.codes is not None and column.levels is not None
    lookup = [position.get(level, position.get(str(level), -1)) for level in column.levels]
    codes = np.array([*lookup, -1], dtype=np.int32)[column.codes]
    labels = np.empty(len(levels), dtype=object)
    labels[:] = levels
    missing = codes < 0
    return Column(
        column.name, None, codes, labels, column.ordered, missing if missing.any() else None
    )


def _ordered(x: Any, levels: Any = None, labels: Any = None, _state: Any = None) -> Column:
    return _factor(x, levels, labels, True, _state)


def _categorical(x: Any, contrasts: Any = None, levels: Any = None) -> Column:
    """C(x, contr.sum): a factor with its own contrasts (a name, formulaic's object, a matrix)."""
    column = _factor(x, levels)
    column.contrasts = contrasts
    return column


def _relevel(x: Any, ref: Any) -> Column:
    """R's relevel(): the level `ref` first."""
    column = _as_column(x)
    assert column.levels is not None
    levels = list(column.levels)
    first = [level for level in levels if level == ref or str(level) == str(ref)]
    return _reordered(column, first + [level for level in levels if level not in first])


def _numeric(x: Any, _state: Any = None) -> NDArray[np.float64]:
    """as.numeric(): numbers as they are; of a factor the number of its training level."""
    values = _plain(x)
    if not isinstance(values, Column) and not hasattr(values, "cat"):
        return np.asarray(values, dtype=np.float64)
    column = _as_column(values)
    assert column.codes is not None and column.levels is not None
    if "number" not in _state:
        start = 0 if column.levels.dtype.kind == "b" else 1
        _state["number"] = {level: start + i for i, level in enumerate(column.levels.tolist())}
    known = [_state["number"][level] for level in column.levels.tolist()]
    numbers: NDArray[np.float64] = np.array([*known, np.nan])[column.codes]
    return numbers


def _integer(x: Any, _state: Any = None) -> NDArray[np.float64]:
    return np.asarray(np.trunc(_numeric(x, _state)))


def _combine(*values: Any) -> list[Any]:
    return list(values)


def _log(x: Any, base: float | None = None) -> Any:
    return np.log(x) if base is None else np.log(x) / np.log(base)


def _ns(
    x: Any, df: Any = None, knots: Any = None, intercept: bool = False, _state: Any = None
) -> dict[int, NDArray[np.float64]]:
    basis = ns(x, df, knots, intercept, _state)
    return {j + 1: basis[:, j] for j in range(basis.shape[1])}


def _ifelse(test: Any, yes: Any, no: Any) -> Any:
    return np.where(np.asarray(test, dtype=bool), yes, no)


def _remembered(summary: Callable[..., Any]) -> Any:
    """A summary such as mean(x) that keeps its training value for new data."""
    from formulaic.utils.stateful_transforms import stateful_transform

    def remember(x: Any, na_rm: bool = True, _state: Any = None) -> Any:
        if "value" not in _state:
            _state["value"] = summary(np.asarray(x, dtype=np.float64))
        return _state["value"]

    return stateful_transform(remember)


def _sd(x: NDArray[np.float64]) -> Any:
    return np.std(x, ddof=1)


@lru_cache(maxsize=1)
def functions() -> dict[str, Any]:
    """All names an expression may use: formulaic's, NumPy's `np` and R's (which win)."""
    from formulaic.transforms import TRANSFORMS
    from formulaic.utils.stateful_transforms import stateful_transform

    factor, ordered = stateful_transform(_factor), stateful_transform(_ordered)
    as_numeric = stateful_transform(_numeric)
    same_name = (
        "sqrt exp expm1 log1p log10 log2 abs floor trunc round sign sin cos tan sinh cosh tanh"
    )
    other_name = {"ceiling": "ceil", "asin": "arcsin", "acos": "arccos", "atan": "arctan"}
    other_name |= {"pmin": "minimum", "pmax": "maximum"}
    summaries: dict[str, Callable[..., Any]] = {"mean": np.mean, "median": np.median, "sd": _sd}
    summaries |= {"min": np.min, "max": np.max}
    return {
        **TRANSFORMS,
        **{name: getattr(np, name) for name in same_name.split()},
        **{name: getattr(np, numpys) for name, numpys in other_name.items()},
        **{name: _remembered(summary) for name, summary in summaries.items()},
        "np": numpy_functions,
        "numpy": numpy_functions,
        **{builtin.__name__: builtin for builtin in (bool, float, int, len, str)},
        "T": True,
        "F": False,
        "pi": np.pi,
        "nan": np.nan,
        "inf": np.inf,
        "log": _log,
        "factor": factor,
        "as_factor": factor,
        "ordered": ordered,
        "as_ordered": ordered,
        "C": _categorical,
        "relevel": _relevel,
        "ifelse": _ifelse,
        "c": _combine,
        "ns": stateful_transform(_ns),
        "as_numeric": as_numeric,
        "as_double": as_numeric,
        "as_integer": stateful_transform(_integer),
    }


@lru_cache(maxsize=1)
def patsy_functions() -> dict[str, Any]:
    """Functions of patsy's formulas that mean something else in R's."""
    from formulaic.utils.stateful_transforms import stateful_transform

    standardize = stateful_transform(_standardize)
    return {"standardize": standardize, "scale": standardize}


def _standardize(
    x: Any, center: bool = True, rescale: bool = True, ddof: int = 0, _state: Any = None
) -> Any:
    """patsy's standardize(): the standard deviation divides by n."""
    values = np.asarray(x, dtype=np.float64)
    if "mean" not in _state:
        _state["mean"], _state["sd"] = values.mean(), values.std(ddof=ddof)
    centered = values - _state["mean"] if center else values
    return centered / _state["sd"] if rescale else centered
