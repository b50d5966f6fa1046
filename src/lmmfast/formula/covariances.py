"""Covariance structures by the names that formulas give them: lme4's and glmmTMB's.

`ar1(0 + times | g)` -> kind "ar1". A name alone is heterogeneous where the structure has standard
deviations of its own for each column (cs, diag, toep, ad), ar1 alone is homogeneous; ``hom=TRUE``
and ``hom=FALSE`` say it as lme4 does, homcs, homdiag, homtoep and hetar1 as glmmTMB does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

from ..errors import FormulaError
from .tree import Call, Constant, Name, Node, shown, strip

# name -> kinds that hom=FALSE and hom=TRUE mean, and the one without it
_CHOICES = {
    "diag": ("diag", "homdiag", "diag"),
    "cs": ("cs", "homcs", "cs"),
    "ar1": ("hetar1", "ar1", "ar1"),
    "toep": ("toep", "homtoep", "toep"),
    "ad": ("ad", "homad", "ad"),
}
_FIXED = ("us", "homdiag", "homcs", "hetar1", "homtoep", "homad", "rr")
SPATIAL = ("exp", "ou", "gau", "mat")  # over coordinates
LAGGED = ("ar1", "hetar1", "toep", "homtoep", "ad", "homad")  # kinds over ordered columns
PLAIN_KINDS = ("homdiag", "cs", "homcs", "ar1", "hetar1", "toep", "homtoep", "ad", "homad")
NAMES = (*_CHOICES, *_FIXED, *SPATIAL, "propto")
_OPTIONS = {"rr": ("d",), "mat": ("nu",), **dict.fromkeys(_CHOICES, ("hom",))}
_MATERN = {1.5: "mat32", 2.5: "mat52"}
_ELSEWHERE = {  # names of SAS, nlme, mmrm and older versions
    "un": "us", "unstructured": "us", "symm": "us", "vc": "diag", "csh": "cs", "hetcs": "cs",
    "compsymm": "homcs", "ar1h": "hetar1", "ar": "ar1", "toeph": "toep", "hettoep": "toep",
    "adh": "ad", "ante": "ad", "fa": "rr", "sp_exp": "exp", "spatial": "exp", "matern": "mat",
    "car1": "ou", "hetdiag": "diag", "equalto": "propto",
}  # fmt: skip


_EACH, _ONE = "a standard deviation for each column", "one standard deviation"
_AT = "correlation at distance d:"
IN_WORDS = {
    "us": "any covariance",
    "diag": f"{_EACH}, no correlations",
    "homdiag": f"{_ONE}, no correlations",
    "cs": f"{_EACH}, one correlation",
    "homcs": f"{_ONE}, one correlation",
    "ar1": f"{_ONE}, correlation rho^|i - j| of columns i and j",
    "hetar1": f"{_EACH}, correlation rho^|i - j| of columns i and j",
    "toep": f"{_EACH}, a correlation for each distance |i - j| of columns",
    "homtoep": f"{_ONE}, a correlation for each distance |i - j| of columns",
    "ad": f"{_EACH}, correlations of neighbours, products of these farther apart",
    "homad": f"{_ONE}, correlations of neighbours, products of these farther apart",
    "exp": f"{_ONE}, {_AT} exp(-d / range)",
    "gau": f"{_ONE}, {_AT} exp(-(d / range)^2)",
    "mat32": f"{_ONE}, {_AT} (1 + v) exp(-v), v = sqrt(3) d / range",
    "mat52": f"{_ONE}, {_AT} (1 + v + v^2 / 3) exp(-v), v = sqrt(5) d / range",
    "rr": "loadings on latent variables; fit.parameters() has them",
}


@dataclass(frozen=True)
class Covariance:
    """What the covariance matrix of a random term is, as a formula says it."""

    name: str  # as it is shown: "homcs", "ou", "mat"
    kind: str  # one definition: "homcs", "exp", "mat32"
    rank: int = 0  # columns of its root, of "rr"
    options: str = ""  # as they are shown: ", d=2"

    def term(self, bar: str) -> str:
        """The whole term, given what stands in it: "ar1(0 + times | Subject)"."""
        return f"{self.name}({bar}{self.options})"


def is_structure(name: str) -> bool:
    """Whether a formula can name a covariance structure so."""
    return name in NAMES


def near_names(name: str) -> str:
    """What to write for a structure that is not known."""
    low = name.lower().replace(".", "").replace("cor", "", 1)
    meant = _ELSEWHERE.get(low) or next(iter(get_close_matches(low, NAMES, 1)), "")
    every = f"the structures are {', '.join(NAMES)}"
    return f"did you mean {meant}()? " * bool(meant) + every


def covariance_of(
    call: Call, error: Callable[[str, Node], FormulaError]
) -> tuple[Node, Covariance | None, str]:
    """The bar in a call, its covariance, and the name of a known matrix (``propto``).

    The covariance is None for us(), diag() and propto(), which need none of their own. `error`
    makes the errors, from a reason and the part of the formula that is wrong.
    """
    name = call.function
    if name not in NAMES:
        raise error(f"the covariance structure {name}() is not known: {near_names(name)}", call)
    bar, rest = _bar_of(call, error)
    if name == "propto":
        return bar, None, _matrix_of(call, rest, error)
    options = dict(_options(call, rest, error))
    if name in _CHOICES:
        het, hom, usual = _CHOICES[name]
        kind = usual if "hom" not in options else hom if options["hom"] else het
        return bar, None if kind == "diag" else Covariance(kind, kind), ""
    if name == "mat":
        nu = float(options.get("nu", 1.5))
        return bar, Covariance(name, _MATERN[nu], options=f", nu={nu:g}"), ""
    if name == "rr":
        rank = int(options.get("d", 2))
        return bar, Covariance(name, name, rank, f", d={rank}"), ""
    kind = "exp" if name == "ou" else name
    return bar, None if name == "us" else Covariance(name, kind), ""


def _bar_of(call: Call, error: Callable[[str, Node], FormulaError]) -> tuple[Call, list[int]]:
    """The one bar among the arguments, and the places of the others."""
    name = call.function
    bars = [(i, strip(value)) for i, (_, value) in enumerate(call.args) if value is not None]
    bars = [(i, v) for i, v in bars if isinstance(v, Call) and v.function in ("|", "||")]
    if len(bars) != 1:
        raise error(f"{name}() holds one random term, as in {name}(x | group)", call)
    place, bar = bars[0]
    assert isinstance(bar, Call)
    if bar.function == "||" and name not in ("us", "diag"):
        both = f"'||' takes all correlations out, which {name}() is about"
        raise error(f"{both}: write {name}({shown(bar).replace('||', '|')})", call)
    return bar, [i for i in range(len(call.args)) if i != place]


def _options(
    call: Call, rest: list[int], error: Callable[[str, Node], FormulaError]
) -> Iterator[tuple[str, float]]:
    """The options of a structure, checked; one without a name is the first that it has."""
    name = call.function
    known = _OPTIONS.get(name, ())
    for i in rest:
        option, value = call.args[i]
        option = option or next(iter(known), "")
        if option not in known or value is None:
            takes = f"its only option is {known[0]}=" if known else "it has no options"
            raise error(f"{name}() does not take {_text(call.args[i])!r}: {takes}", call)
        yield option, _value(name, option, value, lambda reason: _fail(error, reason, call))


def _value(name: str, option: str, node: Node, fail: Callable[[str], NoReturn]) -> float:
    value = node.value if isinstance(node, Constant) else None
    if option == "hom":
        if isinstance(node, Name) and node.name in ("T", "F"):
            value = node.name == "T"
        if not isinstance(value, bool):
            fail(f"hom= of {name}() is TRUE (one standard deviation) or FALSE (one for each)")
        return float(value)
    number = 0.0 if isinstance(value, (str, bool)) or value is None else float(value)
    if option == "nu" and number not in _MATERN:
        fail(f"nu= of mat() is 1.5 or 2.5, not {shown(node)}: exp() is 0.5, gau() its limit")
    if option == "d" and (number < 1 or number != int(min(number, 1e9))):
        fail(f"d= of rr(), the number of latent variables, is 1, 2, ..., not {shown(node)}")
    return number


def _fail(error: Callable[[str, Node], FormulaError], reason: str, call: Call) -> NoReturn:
    raise error(reason, call)


def _matrix_of(call: Call, rest: list[int], error: Callable[[str, Node], FormulaError]) -> str:
    """The name of the matrix that a term's covariance is a multiple of."""
    named = [call.args[i][1] for i in rest]
    if len(named) != 1 or not isinstance(named[0], Name):
        how = "propto(0 + species | 1, K)"
        raise error(f"propto() needs the name of a relationship matrix: {how}", call)
    return named[0].name


def _text(argument: tuple[str, Node | None]) -> str:
    option, value = argument
    text = "" if value is None else shown(value)
    return f"{option}={text}" if option else text


# ---- coordinates --------------------------------------------------------------------------------


def coordinates_part(
    parts: tuple[tuple[str, Node], ...], call: Call, error: Callable[[str, Node], FormulaError]
) -> Node:
    """The coordinates left of the bar of a spatial structure, as one call of numFactor()."""
    name = call.function
    found = []
    for sign, part in parts:
        inner = strip(part)
        if isinstance(inner, Constant):  # 0 + or 1 +: the locations have a column each anyway
            continue
        arithmetic = isinstance(inner, Call) and inner.function in ("*", ":", "/", "^", "%in%")
        if sign == "-" or arithmetic:
            how = f"write them as a sum: {name}(0 + x + y | group)"
            raise error(f"left of the bar of {name}() stand coordinates alone: {how}", part)
        found.append(inner)
    if not found:
        raise error(f"{name}() needs coordinates: {name}(0 + x + y | group)", call)
    if len(found) == 1 and isinstance(found[0], Call) and found[0].function == "numFactor":
        return found[0]
    return Call("numFactor", tuple(("", one) for one in found), call.start, call.end)
