"""A mixed-model formula -> its parts: response, fixed part, random terms, offsets. No data here.

formula  := response ~ sum                  sum    := [+-] part ([+-] part)*
part     := ( columns | groups )            groups := factors combined by : / * +
          | ( columns || groups )
          | structure( columns | groups , options )
          | ( sum ) | offset( expression ) | a term of fixed effects
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from ..errors import FormulaError
from .covariances import SPATIAL, Covariance, coordinates_part, covariance_of, is_structure
from .parser import LOOKALIKES, misplaced, parse_text
from .tokens import refusal
from .tree import INFIX, Call, Constant, Name, Node, shown, strip, unquoted

_BARS = ("|", "||")
_ALGEBRA = ("(", "+", "-", "*", "/", ":", "^", "**", "%in%", "~", *_BARS)
_LOOSE = ("!", "if")  # bind less tightly than +, besides infix operators
MOST_GROUPS = 1000  # that one bar stands for

Signed = tuple[str, Node]  # "+" or "-", and what stands behind it
_Paths = list[tuple[Node, ...]]  # grouping factors, each as the factors that it combines


@dataclass(frozen=True)
class Bar:
    """One random term: `(columns | group)` or `(columns || group)`."""

    columns: str  # right-hand side: "1 + Days"
    group: tuple[str, ...]  # factors whose combinations are the levels: ("school", "class")
    structure: str  # "full" | "diag"
    explicit: bool = field(default=False, compare=False)  # by diag(): nothing needs to be said
    parts: tuple[Signed, ...] = field(default=(), compare=False, repr=False)  # of the columns
    atoms: tuple[Node, ...] = field(default=(), compare=False, repr=False)  # of the group
    covariance: Covariance | None = None  # a structure of its own; then `structure` is "full"
    relationship: str = ""  # name of a matrix between levels: K of propto(0 + species | 1, K)
    membership: Membership | None = None  # the group is mm(a, b): a row has several levels

    @cached_property
    def factor(self) -> str:
        """Name of the grouping factor, as in R: "school:class"."""
        return ":".join(map(unquoted, self.group))

    @cached_property
    def label(self) -> str:
        """The term as a reader would write it: "1 + Days | Subject", "ar1(0 + f | Subject)"."""
        return self.written(self.factor)

    def written(self, group: str) -> str:
        """The same with the group as it is given."""
        bar = f"{self.columns} {'|' if self.structure == 'full' else '||'} {group}"
        return bar if self.covariance is None else self.covariance.term(bar)

    @property
    def term(self) -> str:
        """The term in parentheses, or in the call that names its structure."""
        return self.label if self.covariance is not None else f"({self.label})"


@dataclass(frozen=True)
class Membership:
    """Several levels of one factor in each row: mm(school1, school2, weights=cbind(w1, w2))."""

    factors: tuple[Node, ...]  # each gives one level of a row
    weights: tuple[Node, ...]  # their shares; none: equal ones that sum to one
    scale: bool = True  # whether shares are divided by their sum


@dataclass(frozen=True)
class Formula:
    """A mixed-model formula cut into its parts: as text, and as trees."""

    text: str  # as the user wrote it
    response: str  # "log(rt)"
    fixed: str  # right-hand side without bars and offsets: "Days + cond"
    random: tuple[Bar, ...]  # in the formula's order
    offsets: tuple[str, ...]  # arguments of offset(...)
    left: Node = field(compare=False, repr=False)
    parts: tuple[Signed, ...] = field(compare=False, repr=False)  # of the fixed part
    shifts: tuple[Node, ...] = field(compare=False, repr=False)  # arguments of offset(...)


@lru_cache(maxsize=512)
def parse(text: str, python: bool = False) -> Formula:
    """Cut a formula in lme4's syntax into its parts: ``"rt ~ cond + (cond | subj) + (1 | item)"``.

    With `python` operators bind as in Python. What is not a mixed-model formula is a FormulaError,
    which says where and what to write.
    """
    if not isinstance(text, str):
        raise FormulaError(f"the formula must be text, not {type(text).__name__}")
    if "~" not in text:
        tilde = next((own for own in text if LOOKALIKES.get(own) == "~"), None)
        if tilde is not None:
            raise refusal(misplaced(tilde), text, text.index(tilde), text.index(tilde) + 1)
        raise FormulaError(f"there is no '~' in {text[:200]!r}: write 'response ~ predictors'")
    return _Cut(text).formula(parse_text(text, python))


def random_terms(node: Node, text: str) -> tuple[Bar, ...]:
    """The random terms that a part of the formula `text` stands for: those of (1 | g/h) are two."""
    cut = _Cut(text)
    cut.sum(node)
    return tuple(cut.random)


class _Cut:
    """The parts of one formula, as they are found."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.fixed: list[Signed] = []
        self.random: list[Bar] = []
        self.shifts: list[Node] = []

    def formula(self, node: Node) -> Formula:
        if not (isinstance(node, Call) and node.function == "~"):
            raise self.error("'~' must stand between the response and the predictors", node)
        if len(node.args) == 1:
            raise self.error("nothing stands left of '~': write the response there", node)
        left, right = node.operands
        if any(isinstance(side, Call) and side.function == "~" for side in (left, right)):
            raise self.error("there is more than one '~'", node)
        self.sum(self.unbarred(right))
        for _, part in self.fixed:
            self.check_binding(part)
        if not self.random:
            raise FormulaError(
                f"{self.text[:200]!r} has no random term such as (1 | subject); "
                "a model without random effects is ordinary regression (statsmodels fits it)"
            )
        shifts = tuple(self.shifts)
        return Formula(
            self.text, shown(left), joined(self.fixed), tuple(self.random),
            tuple(shown(shift) for shift in shifts), left, tuple(self.fixed), shifts,
        )  # fmt: skip

    def unbarred(self, right: Node) -> Node:
        """The right-hand side, a bar without parentheses put into them where it is clear."""
        if not _is_bar(right):
            return right
        columns = right.operands[0]  # type: ignore[union-attr]
        if has_bar(columns) or (isinstance(columns, Call) and columns.function in ("+", "-")):
            raise self.error(
                "a bar needs parentheses around its term: without them all that stands left of it "
                "belongs to it; write (1 | group)",
                right,
            )
        return Call("(", (("", right),), right.start, right.end)

    def sum(self, node: Node) -> None:
        """Sorts the parts of a sum; parentheses around sums that contain bars are opened."""
        for sign, part in signed_parts(node):
            inner = strip(part)
            if isinstance(inner, Call) and inner.function == "offset":
                self.offset(sign, inner)
            elif not has_bar(part):
                self.fixed.append((sign, part))
            elif sign == "-":
                raise self.error("a random term cannot be removed with '-'", part)
            elif _is_bar(inner) and inner is not part:
                self.bar(inner, part)
            elif isinstance(inner, Call) and _is_structure(inner):
                self.structured(inner)
            elif isinstance(inner, Call) and inner.function in ("+", "-"):
                self.sum(inner)
            else:
                term = shown(part)
                raise self.error(f"{term!r}: a random term can only be added with '+'", part)

    def check_binding(self, part: Node) -> None:
        """A random term must not be an operand of what stands before it: x > 0 + (1 | g)."""
        bar = _swallowed(part)
        if bar is not None and isinstance(part, Call):
            term, operator = shown(bar), part.function
            reason = (
                f"{term} is added to what {operator!r} takes, for {operator!r} binds less tightly "
                f"than '+': put the term before it into I(), as in I(x > 0) + {term}"
            )
            raise self.error(reason, bar)

    def offset(self, sign: str, call: Call) -> None:
        if sign == "-":
            raise self.error("an offset cannot be removed with '-'", call)
        if len(call.operands) != 1:
            raise self.error("offset() takes one argument", call)
        self.shifts.append(call.operands[0])

    def structured(self, call: Call) -> None:
        """A bar in a call that names its covariance structure."""
        bar, covariance, matrix = covariance_of(call, self.error)
        if matrix:
            return self.related(bar, call, matrix)
        plain = covariance is None and call.function == "diag"
        self.bar(bar, call, "diag" if plain else "", covariance)

    def related(self, bar: Node, call: Call, matrix: str) -> None:
        """propto(0 + species | 1, K): an intercept of each species, related by K."""
        assert isinstance(bar, Call)
        left, right = bar.operands
        parts = [part for part in signed_parts(left) if not isinstance(part[1], Constant)]
        alone = isinstance(right, Constant) and right.value == 1
        if not alone or len(parts) != 1 or parts[0][0] == "-" or has_bar(left):
            reason = (
                f"propto() relates the levels of one factor: write propto(0 + species | 1, "
                f"{matrix}), or (x | species) with relationship= for slopes"
            )
            raise self.error(reason, call)
        term = f"({shown(bar)})"
        one = (("+", Constant(1, "1", call.start, call.end)),)
        for atoms in self.groups(parts[0][1], term):
            group = tuple(shown(atom) for atom in atoms)
            self.random.append(Bar("1", group, "full", True, one, atoms, relationship=matrix))

    def bar(
        self, bar: Node, whole: Node, structure: str = "", covariance: Covariance | None = None
    ) -> None:
        """A random term, or several where its groups are combined."""
        assert isinstance(bar, Call)
        term = f"({shown(bar)})" if covariance is None else shown(whole)
        left, right = bar.operands
        if has_bar(left) or has_bar(right):
            raise self.error(f"{term}: a random term has exactly one bar", whole, term)
        kind = structure or ("diag" if bar.function == "||" else "full")
        parts = tuple(signed_parts(left))
        columns = _columns(parts)
        if covariance is not None and covariance.name in SPATIAL:
            assert isinstance(whole, Call)
            parts = ("+", Constant(0, "0")), ("+", coordinates_part(parts, whole, self.error))
        one = isinstance(right, Constant) and right.value == 1 and covariance is not None
        for atoms in [(right,)] if one else self.groups(right, term):  # 1: all rows are one group
            group = tuple(shown(atom) for atom in atoms)
            members = self.membership(atoms, term)
            own = Bar(columns, group, kind, bool(structure), parts, atoms, covariance, "", members)
            self.random.append(own)

    def membership(self, atoms: tuple[Node, ...], term: str) -> Membership | None:
        """What mm(a, b) as a grouping factor says; None where it is none."""
        calls = [atom for atom in atoms if isinstance(atom, Call) and atom.function == "mm"]
        if not calls:
            return None
        call = calls[0]
        if len(atoms) > 1:
            reason = f"{term}: mm() is a grouping factor by itself, not combined with others"
            raise self.error(reason, call, term)
        factors = tuple(v for name, v in call.args if not name and v is not None)
        named = [(name, value) for name, value in call.args if name]
        names = [name for name, _ in named]
        if len(factors) < 2 or {*names} - {"weights", "scale"} or len(names) > len({*names}):
            reason = (
                f"{term}: mm() takes two factors or more, and weights= and scale=: "
                "mm(school1, school2, weights=cbind(share1, share2), scale=FALSE)"
            )
            raise self.error(reason, call, term)
        weights: tuple[Node, ...] = ()
        scale = next((value for name, value in named if name == "scale"), None)
        if scale is not None and not (isinstance(scale, Constant) and scale.value in (0, 1)):
            reason = f"{term}: scale= of mm() is TRUE (weights of a row sum to one) or FALSE"
            raise self.error(reason, call, term)
        if "weights" in names:
            given = dict(named)["weights"]
            listed = isinstance(given, Call) and given.function in ("cbind", "c", "list")
            assert given is not None
            weights = given.operands if isinstance(given, Call) and listed else (given,)
            if len(weights) != len(factors):
                reason = f"{term}: {len(weights)} weights for {len(factors)} factors of mm()"
                raise self.error(reason, call, term)
        return Membership(factors, weights, scale is None or bool(scale.value))

    def groups(self, node: Node, term: str) -> _Paths:
        """`a / b` -> (a), (a, b);  `a : b` -> (a, b);  `a * b` -> (a), (b), (a, b);  `a + b`."""
        node = strip(node)
        if isinstance(node, Name):
            return [(node,)]
        if isinstance(node, Constant):
            reason = (
                f"{term}: {node.text} is a number or text, but right of the bar stands the name of "
                "a column that says which group each row belongs to"
            )
            raise self.error(reason, node, term)
        rule = _COMBINED.get(node.function) if len(node.args) == 2 else None
        if rule is None and node.function in _ALGEBRA:
            reason = (
                f"{term}: a grouping factor is one factor, a:b or a/b, not an expression with "
                f"{node.function!r}; write one term for each factor: (1 | a) + (1 | b)"
            )
            raise self.error(reason, node, term)
        if rule is None:
            return [(node,)]
        left, right = node.operands
        found = list(dict.fromkeys(rule(self.groups(left, term), self.groups(right, term))))
        if len(found) > MOST_GROUPS:
            reason = f"{term}: stands for more than {MOST_GROUPS} grouping factors"
            raise self.error(reason, node, term)
        return found

    def error(self, reason: str, node: Node, term: str | None = None) -> FormulaError:
        return at_node(reason, self.text, node, term)


def at_node(reason: str, text: str, node: Node, term: str | None = None) -> FormulaError:
    """The error for a part of a formula."""
    error = refusal(reason, text, node.start, node.end)
    error.term = term
    return error


def has_bar(node: Node) -> bool:
    """Whether there is a random term in a sum or product, not inside of a function's call."""
    stack = [node]
    while stack:
        node = stack.pop()
        if isinstance(node, Call) and (_is_bar(node) or _is_structure(node)):
            return True
        if isinstance(node, Call) and node.function in _ALGEBRA:
            stack += node.operands
    return False


def _swallowed(part: Node) -> Node | None:
    """A bar in parentheses that is added to something inside of another operator."""
    stack = [part]
    while stack:
        node = stack.pop()
        if not (isinstance(node, Call) and (node.function in INFIX or node.function in _LOOSE)):
            continue
        for operand in node.operands:
            if node.function == "+" and strip(operand) is not operand and _is_bar(strip(operand)):
                return operand
        stack += node.operands
    return None


def _is_bar(node: Node) -> bool:
    return isinstance(node, Call) and node.function in _BARS


def _is_structure(call: Call) -> bool:
    """Whether a call names the covariance structure of a random term: us(x | g)."""
    if call.function in INFIX or call.function in ("(", "{", "[", "I", "list", "if"):
        return False
    bars = [value for value in call.operands if _is_bar(strip(value))]
    return bool(bars) and (is_structure(call.function) or len(call.args) == 1)


def signed_parts(node: Node) -> list[Signed]:
    """Split a sum at its outer + and -: [("+", part), ("-", part), ...]."""
    parts: list[Signed] = []
    while isinstance(node, Call) and node.function in ("+", "-"):
        parts.append((node.function, node.operands[-1]))
        if len(node.args) == 1:
            return parts[::-1]
        node = node.operands[0]
    parts.append(("+", node))
    return parts[::-1]


def joined(parts: Iterable[Signed]) -> str:
    """[("+", a), ("-", 1)] -> "a - 1"; nothing at all is the intercept."""
    text = ""
    for sign, part in parts:
        text += f" {sign} {shown(part)}" if text else ("-" if sign == "-" else "") + shown(part)
    return text or "1"


def _columns(parts: Sequence[Signed]) -> str:
    """Columns of a random term, with the implied intercept written out."""
    explicit = [part for _, part in parts if isinstance(part, Constant)]
    if not explicit:
        return f"1 + {joined(parts)}" if parts[0][0] == "+" else f"1 {joined(parts)}"
    if parts[0][0] == "-" and shown(parts[0][1]) == "1":
        return joined([("+", Constant(0.0, "0")), *parts[1:]])
    return joined(parts)


def _crossed(left: _Paths, right: _Paths) -> _Paths:
    return [tuple(dict.fromkeys(a + b)) for a in left for b in right]


def _nested(left: _Paths, right: _Paths) -> _Paths:
    outer = tuple(atom for path in left for atom in path)
    return [*left, *_crossed([outer], right)]


_COMBINED: dict[str, Callable[[_Paths, _Paths], _Paths]] = {
    ":": _crossed,
    "/": _nested,
    "+": lambda left, right: [*left, *right],
    "*": lambda left, right: [*left, *right, *_crossed(left, right)],
}
