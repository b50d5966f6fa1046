"""Expressions of a formula: their names, their value for some data, what they remember.

An expression is evaluated on its syntax tree: operators and the functions of `vocabulary`, nothing
else can be reached. A formula may come from a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..errors import FormulaError, LmmError, LmmWarning, warn
from . import vocabulary
from .coerce import as_factor, number
from .column import Column, Text, label_of
from .contrasts import Contrast, completed, contrast_of, kind_of
from .factors import as_text, relevelled
from .function import State, Wrong
from .numeric import bound
from .numpys import joined_columns
from .operators import BINARY, PYTHON_LOGIC, index, negated, opposite
from .parser import parse_text
from .tree import Call, Constant, Name, Node, shown, strip, walk
from .values import Logical, Matrix, exposed, is_textual, plain, whole

_SCALARS = (str, bool, int, float, np.number, np.bool_, type(None))
_ALLOWED = (
    "formulas may use arithmetic, comparisons, R's functions (log, factor, scale, poly, ifelse, "
    "...) and array functions such as np.log, np.where, np.clip, np.mean. Compute a column of the "
    "data with it and name that column"
)


@dataclass(frozen=True)
class Expression:
    """A variable or expression of the formula, ready to evaluate."""

    label: str  # as shown to the user: "log(x + 1)", "I(x^2)"
    text: str  # as it can be read again: with backticks
    tree: Node = field(compare=False, repr=False)
    python: bool = False  # whether it was read with Python's binding of operators

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Variables, and constants such as pi, each once."""
        own = (node.name for node in walk(self.tree) if isinstance(node, Name))
        return tuple(dict.fromkeys(n for n in own if not n.startswith(("np.", "numpy."))))

    @cached_property
    def is_name(self) -> bool:
        """Whether it is a column and nothing else."""
        return isinstance(self.tree, Name)

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """Its calls of functions and operators."""
        return tuple(node for node in walk(self.tree) if isinstance(node, Call))

    def __reduce__(self) -> tuple[Any, ...]:
        """Trees can be too deep to pickle; the text is read again."""
        return read_expression, (self.text, self.python)


def expression_of(node: Node, python: bool = False) -> Expression:
    """The expression that a tree is, parentheses around it left out."""
    inner = strip(node)
    return Expression(shown(inner, plain=True), shown(inner), inner, python)


@lru_cache(maxsize=2048)
def read_expression(text: str, python: bool = False) -> Expression:
    """The expression that a text is."""
    return expression_of(parse_text(text, python), python)


class Kind(NamedTuple):
    """What a column is for expressions: new data are read as what they were in training.

    Texts given as categories, categories given as texts or numbers: as.numeric() and its like treat
    them differently, so that a prediction would silently be that of another variable.
    """

    name: str  # "text" | "factor" | "numbers" | "other"
    levels: list[Any] | None = None  # of a factor, a categorical's unused ones included
    ordered: bool = False


def _kind_of(value: Any) -> Kind:
    """The kind of a column, as `exposed` gives it."""
    if isinstance(value, Text):
        return Kind("text")
    if isinstance(value, Column):
        return Kind("factor", value.known, value.ordered)
    numeric = value.dtype.kind in "iuf" and not isinstance(value, Logical)
    return Kind("numbers" if numeric else "other")


def _of_kind(value: Any, kind: Kind) -> Any:
    """A column of new data as the kind that it was in training; as it is where it cannot be."""
    if kind.name == "text" and isinstance(value, Column):
        return as_text(value)
    if kind.name == "factor" and _kind_of(value).name != "other":
        return _with_levels(as_factor(value), kind)
    if kind.name == "numbers" and isinstance(value, Column) and not isinstance(value, Text):
        return _labels_as_numbers(value)
    return value


def _with_levels(factor: Column, kind: Kind) -> Column:
    """A factor with the levels of training in front of its others."""
    assert kind.levels is not None
    known = {label_of(level) for level in kind.levels}
    others = [level for level in factor.levels.tolist() if label_of(level) not in known]
    made = relevelled(factor, [*kind.levels, *others])
    made.ordered, made.declared = kind.ordered, made.levels
    return made


def _labels_as_numbers(factor: Column) -> Any:
    """The numbers that a factor's levels are; the factor where they are none."""
    if factor.levels.dtype.kind not in "iuf":
        return factor
    return np.append(factor.levels.astype(np.float64), np.nan)[factor.codes]


class Memory(dict[str, Any]):
    """What expressions remember from the training data, by label, and the caller's own names.

    `scope` has the names that expressions may use besides columns, in front of the vocabulary: the
    caller's variables while a design is built, afterwards only those that were used.
    """

    def __init__(self, scope: Mapping[str, Any] | None = None, patsy: bool = False) -> None:
        super().__init__()
        self.scope: Mapping[str, Any] = scope or {}
        self.patsy = patsy  # whether patsy's functions stand in front of R's
        self.used: dict[str, Any] = {}  # the names of `scope` that were used
        self.lost: frozenset[str] = frozenset()  # those of them that a pickle could not keep
        self.closed = False  # whether the training data have been read: what comes now is new
        self.kinds: dict[str, Kind] = {}  # of the training data's columns: new ones are read alike

    def column(self, column: Column, name: str) -> Any:
        """A column as expressions see it: of the kind that it had in the training data."""
        value = exposed(column)
        own = _kind_of(value)
        kind = self.kinds.setdefault(name, own)
        return value if own.name == kind.name else _of_kind(value, kind)

    def find(self, name: str) -> Any:
        """The caller's value of a name; FormulaError when a pickle could not keep it."""
        if name in self.lost:
            raise FormulaError(
                f"{name!r} is a name of the script that made the fit and could not be pickled: "
                "define it at the top of a module that can be imported, and fit again",
                term=name,
            )
        self.used[name] = self.scope[name]
        return self.used[name]

    def close(self) -> None:
        """Forget the names of the caller that were not used: what comes now are new data."""
        self.scope, self.closed = self.used, True

    def __reduce__(self) -> tuple[Any, ...]:
        """What cannot be pickled (functions made inside of others) is known to be lost."""
        kept = {name: value for name, value in self.used.items() if _lasts(value)}
        lost = self.lost | (self.used.keys() - kept.keys())
        scope = {**kept, **dict.fromkeys(lost)}
        state = {"used": kept, "lost": lost, "closed": True, "kinds": self.kinds}
        return Memory, (scope, self.patsy), state, None, iter(self.items())


def _lasts(value: Any) -> bool:
    import pickle

    try:
        pickle.dumps(value)
    except Exception:  # whatever the value's own pickling raises
        return False
    return True


def evaluate(expression: Expression, columns: Mapping[str, Column], memory: Memory) -> Any:
    """The value of an expression; see `values` for what it can be.

    `columns` are those that it names; other names are looked up in the memory's scope and the
    vocabulary. `memory` is what stateful functions remember: empty for training data (it is
    filled), kept for new. FormulaError, with the reason, where there is no value.
    """
    state: State = memory.setdefault(expression.label, {})
    try:
        with np.errstate(all="ignore"):
            return _Evaluator(columns, memory, state).value(expression.tree)
    except LmmError as error:
        error.term = error.term or expression.label
        raise
    except (MemoryError, KeyboardInterrupt, Warning):  # a warning may be turned into an error
        raise
    except Exception as error:  # `Wrong`, and whatever the caller's own functions raise
        message = f"cannot evaluate {expression.label}: {error}"
        raise FormulaError(message, term=expression.label) from error


class _Evaluator:
    """Columns, names and memory of one evaluation."""

    def __init__(self, columns: Mapping[str, Column], memory: Memory, state: State) -> None:
        self.columns, self.memory, self.state = columns, memory, state

    def value(self, node: Node) -> Any:
        """The value of a tree; chains of operators lean to the left and are folded in a loop."""
        chain: list[tuple[Callable[[Any, Any], Any], Node]] = []
        while isinstance(node, Call) and len(node.args) == 2 and node.function in BINARY:
            left, right = node.operands
            python = PYTHON_LOGIC.get(node.function) if self.memory.patsy else None
            chain.append((python or BINARY[node.function], right))
            node = left
        result = self.leaf(node)
        for function, right in reversed(chain):
            result = function(result, self.value(right))
        return result

    def leaf(self, node: Node) -> Any:
        if isinstance(node, Constant):
            return node.value
        if isinstance(node, Name):
            return self.name(node)
        rule = _FORMS.get(node.function)
        return rule(self, node) if rule else self.call(node)

    def name(self, node: Name) -> Any:
        name = node.name
        if name in self.columns:
            return self.memory.column(self.columns[name], name)
        if name in self.memory.scope:
            return self.memory.find(name)
        try:
            return vocabulary.constant_of(name)
        except KeyError:
            raise _unknown(name, name) from None

    # ---- calls -----------------------------------------------------------------------------------

    def call(self, node: Call) -> Any:
        name = node.function
        if node.namespace and node.namespace not in vocabulary.PACKAGES:
            raise Wrong(f"the package {node.namespace!r} is not known: write {name}() alone")
        if name in self.memory.scope and not name.startswith(("np.", "numpy.")):
            return self.callers(node)
        function = vocabulary.function_of(name, self.memory.patsy)
        if function is None:
            raise _unknown(name, shown(node, plain=True), called=True)
        values, named = self.arguments(node)
        if any(own.startswith("_") for own in named) or "state" in named:
            raise Wrong(f"{name}() has no argument {next(iter(named))!r}")
        if function.rows == "all" and self.memory.closed:
            self.check_new(node)
        state = self.state.setdefault(shown(node), {}) if function.remembers else None
        try:
            return function(values, named, state)
        except Wrong as error:
            if f"{name}()" in str(error):
                raise
            raise Wrong(f"{name}(): {error}") from None

    def arguments(self, node: Call) -> tuple[list[Any], dict[str, Any]]:
        """Values by place and by name."""
        values = [self.value(value) for own, value in node.args if not own and value is not None]
        named = {own: self.value(value) for own, value in node.args if own and value is not None}
        return values, named

    def check_new(self, node: Call) -> None:
        """Warns that a value of new data is not what it would be among the training data."""
        if any(isinstance(own, Name) and own.name in self.columns for own in walk(node)):
            label = shown(node, plain=True)
            message = (
                f"{label} depends on the other rows: for new data it is computed among these "
                "alone; compute a column of all data beforehand and name it in the formula"
            )
            warn(LmmWarning(message, variable=label))

    def callers(self, node: Call) -> Any:
        """A function of the caller: it sees arrays, and pandas categories for factors."""
        function = self.memory.find(node.function)
        values, named = self.arguments(node)
        values = list(map(_native, values))
        named = {own: _native(value) for own, value in named.items()}
        if getattr(function, "__is_stateful_transform__", False):
            own = self.state.setdefault(shown(node), {})
            return function(*values, **named, _state=own, _metadata=None, _spec=None, _context={})
        if not callable(function):
            raise Wrong(f"{node.function!r} is no function")
        return function(*values, **named)

    def parenthesis(self, node: Call) -> Any:
        if len(node.args) == 1:
            return self.value(node.operands[0])
        return [self.value(value) for value in node.operands]

    def braces(self, node: Call) -> Any:
        if len(node.args) == 1 and not _is_entry(node.operands[0]):
            return self.value(node.operands[0])
        if not all(map(_is_entry, node.operands)):
            raise Wrong("braces hold one expression")
        pairs = (entry.operands for entry in node.operands if isinstance(entry, Call))
        return {self.value(key): self.value(value) for key, value in pairs}

    def list(self, node: Call) -> Any:
        entries = [self.value(value) for value in node.operands]
        if not all(isinstance(entry, _SCALARS) for entry in entries):
            return entries
        textual = any(isinstance(entry, str) for entry in entries)
        return np.array(entries, dtype=object if textual else None)

    def unary(self, node: Call) -> Any:
        value = self.value(node.operands[0])
        if node.function == "!":
            return opposite(value)
        return negated(value) if node.function == "-" else BINARY["+"](value, 0.0)

    def indexed(self, node: Call) -> Any:
        whole = node.args[0][1]
        places = [None if value is None else self.value(value) for _, value in node.args[1:]]
        if isinstance(whole, Name) and whole.name in vocabulary.SPECIAL:
            return joined_columns(places)
        assert whole is not None
        value = plain(self.value(whole))
        return index(value.matrix() if isinstance(value, Contrast) else value, places)

    def bound(self, node: Call) -> Any:
        """cbind(x, b = z): columns are named by their arguments, or by the variables they are."""
        pairs = [(own, value) for own, value in node.args if value is not None]
        names = [own or (value.name if isinstance(value, Name) else "") for own, value in pairs]
        return bound([plain(self.value(value)) for _, value in pairs], names)

    def coded(self, node: Call) -> Any:
        """C(x, contr.sum): a factor with contrasts, which are named by name."""
        given = _arguments(node, ("object", "contr", "how.many"))
        if "object" not in given:
            raise Wrong("C() needs a factor")
        value = plain(self.value(given["object"]))
        column = as_factor(value)
        if self.memory.patsy and _is_float(value) and not self.of_integers(given["object"]):
            column.levels = column.levels.astype(np.float64)  # labels 1.0, 2.0 rather than 1, 2
        if "levels" in given:
            factor = vocabulary.FUNCTIONS["factor"]
            column = factor([column], {"levels": self.value(given["levels"])}, {})
        spec = self.contrasts(given["contr"]) if "contr" in given else None
        if "base" in given or "reference" in given:
            base = self.value(given.get("base", given.get("reference")))  # type: ignore[arg-type]
            kind = spec.kind if isinstance(spec, Contrast) else "treatment"
            spec = Contrast(kind, base if isinstance(base, str) else number(base, "base"))
        count = number(self.value(given["how.many"]), "how.many") if "how.many" in given else None
        whole = self.memory.patsy and count is None  # patsy adds no columns to those of a matrix
        column.contrasts = spec if whole else _counted(spec, count, len(column.levels))
        return column

    def of_integers(self, node: Node) -> bool:
        """Whether Python's numbers would be integers here, which are floats as in R."""
        for own in walk(node):
            if isinstance(own, Name):
                values = self.columns[own.name].values if own.name in self.columns else None
                exact = values is not None and values.dtype.kind in "iu"
            elif isinstance(own, Constant):
                exact = own.text.isdigit()
            else:
                exact = own.function in ("(", "+", "-", "*", "//", "%", "^", "**")
            if not exact:
                return False
        return True

    def contrasts(self, node: Node) -> Any:
        """Contrasts: a name, a call of contr.*, a matrix, a text."""
        if isinstance(node, Name) and node.name not in self.memory.scope:
            return contrast_of(node.name, node.name)
        kind = kind_of(node.function) if isinstance(node, Call) else None
        if isinstance(node, Call) and kind and not vocabulary.function_of(node.function):
            node = replace(node, function=f"contr.{kind}")
        value = self.value(node)
        if isinstance(value, np.ndarray) and not is_textual(value):
            return Matrix(value[:, None])
        return value


def _is_float(value: Any) -> bool:
    """Whether it is floating-point numbers."""
    values = value.values if isinstance(value, (Column, Matrix)) else value
    return isinstance(values, np.ndarray) and values.dtype.kind == "f"


def _counted(spec: Any, count: float | None, size: int) -> Any:
    """Contrasts with as many columns as C() is asked for; without a number all there can be."""
    if isinstance(spec, Matrix):
        return completed(spec.values, size - 1 if count is None else int(count))
    if count is None:
        return spec
    return replace(spec if isinstance(spec, Contrast) else Contrast("treatment"), count=int(count))


def _arguments(node: Call, positions: tuple[str, ...]) -> dict[str, Node]:
    """Arguments by name; patsy and formulaic say contrasts= for R's contr=."""
    same = {"contrasts": "contr", "how_many": "how.many", "x": "object", "data": "object"}
    found: dict[str, Node] = {}
    free = list(positions)
    for name, value in node.args:
        if value is None:
            continue
        if name:
            found[same.get(name, name)] = value
        elif free:
            found[free.pop(0)] = value
        else:
            raise Wrong("C() takes a factor, contrasts and how many of them")
    for name in found:
        if name not in (*positions, "base", "reference", "levels"):
            raise Wrong(f"C() has no argument {name!r}")
    return found


def _native(value: Any) -> Any:
    """A value as functions of the caller take it."""
    if isinstance(value, Column):
        import pandas as pd

        made = pd.Categorical.from_codes(value.codes, value.levels.tolist(), value.ordered)
        return pd.Series(made)
    if isinstance(value, Matrix):
        return value.values
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
        return value.astype(np.float64)
    return whole(value)


def _is_entry(node: Node) -> bool:
    """Whether it is "key": value of a Python dict."""
    key = node.operands[0] if isinstance(node, Call) and node.function == ":" else None
    return isinstance(key, Constant) and isinstance(key.value, str)


def _unknown(name: str, label: str, called: bool = False) -> FormulaError:
    """The error for a name that formulas do not know."""
    near = vocabulary.nearest(name)
    hint = f" (did you mean {near}?)" if near else ""
    if name.startswith(("np.", "numpy.", "contr.")) or (called and "." in name):
        return FormulaError(f"{name} is not allowed{hint}; {_ALLOWED}", term=label)
    what = f"{'a function' if called else 'a column or constant'} that formulas know{hint}"
    return FormulaError(f"{label}: {name!r} is not {what}; {_ALLOWED}", term=label)


_FORMS: dict[str, Callable[[_Evaluator, Call], Any]] = {
    "(": _Evaluator.parenthesis,
    "{": _Evaluator.braces,
    "list": _Evaluator.list,
    "if": lambda self, node: vocabulary.FUNCTIONS["ifelse"](self.arguments(node)[0], {}),
    "[": _Evaluator.indexed,
    "C": _Evaluator.coded,
    "cbind": _Evaluator.bound,
    **dict.fromkeys(("-", "+", "!"), _Evaluator.unary),
}
