"""The model as an equation in LaTeX: what `fit.equation` shows and a paper prints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from ..data.visits import RepeatedDesign
from ..effects import standard_errors, term_covariance
from ..formula.covariances import IN_WORDS
from ..inference.rows.generalized import is_ordered
from ..tables import column, general

if TYPE_CHECKING:
    from ..data.encode import Layout
    from ..data.terms import RandomTerm
    from ..fit import Fit

WIDTH = 80  # characters of a line of the sum, as they are read
SHOWN = 4  # columns of a term whose covariance matrix is written out
LETTERS = ("u", "v", "w")  # of the random effects of terms, if there are no more

_RUNS = re.compile(r"[\\&%$#_{}~^<>|]|[^\\&%$#_{}~^<>|]+")
_SIGNS = {
    "\\": r"\backslash ",
    "~": r"\sim ",
    "^": r"\wedge ",
    **{sign: f"{{{sign}}}" for sign in "<>|"},
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}
_BOLD_ZERO = r"\mathbf{0}"
_LINKS = {"identity": "", "log": r"\log", "logit": r"\operatorname{logit}", "probit": r"\Phi^{-1}"}


@dataclass(frozen=True)
class Equation:
    """An equation in LaTeX; notebooks typeset it. ``str()`` is the code, an ``aligned`` block."""

    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\\begin{aligned}\n" + " \\\\\n".join(self.lines) + "\n\\end{aligned}"

    __repr__ = __str__

    def to_latex(self) -> str:
        """An ``equation*``, for documents with ``\\usepackage{amsmath}``."""
        return f"\\begin{{equation*}}\n{self}\n\\end{{equation*}}"

    def to_markdown(self) -> str:
        """Between double dollar signs, for GitHub, pandoc, Quarto and Jupyter."""
        return f"$$\n{self}\n$$"

    def _repr_latex_(self) -> str:
        return self.to_markdown()


def equation(fit: Fit, numbers: bool, short: bool, width: int) -> Equation:
    """As ``Labelled.equation`` documents it."""
    own = _Generalized if fit.family is not None else _Linear
    own = _Repeated if isinstance(fit.design, RepeatedDesign) else own
    return Equation(tuple(own(fit, numbers, short, width).lines()))


def response_of(fit: Any) -> str:
    """The left-hand side, names without the formula's backticks."""
    return re.sub("`([^`]*)`", r"\1", str(fit.design.response))


def text(name: str) -> str:
    """A name within mathematics, as LaTeX, MathJax and KaTeX read it."""
    runs = _RUNS.findall(name)
    parts = "".join(_SIGNS.get(run) or f"\\text{{{run}}}" for run in runs)
    return parts if len(runs) == 1 else f"{{{parts}}}"  # which a subscript is of as a whole


# ---- parts --------------------------------------------------------------------------------------


class _Linear:
    """A model with random effects and normal residuals."""

    row = "i"

    def __init__(self, fit: Any, numbers: bool, short: bool, width: int) -> None:
        self.fit, self.design, self.numbers, self.width = fit, fit.design, numbers, width
        self.short, self.shown = short, 1 if short else SHOWN

    def lines(self) -> list[str]:
        """The equation of the response, and the distributions below it."""
        terms = [*self._fixed(), *self._random(), ("+", rf"\varepsilon_{{{self.row}}}")]
        left = self._response()
        return [*self._sum(left, terms), *self._distributions(), *self._residuals()]

    def _response(self) -> str:
        return f"{text(response_of(self.fit))}_{{{self.row}}}"

    def _sum(self, left: str, terms: Sequence[tuple[str, str]]) -> list[str]:
        """left = a + b - c, with a new line where one would be too long."""
        lines, line, length = [], f"{left} &=", 0
        for k, (sign, term) in enumerate(terms or [("+", "0")]):
            size = _length(term) + 3
            if length and length + size > self.width:
                lines.append(line)
                line, length = "&\\quad", 0
            front = sign.removeprefix("+") if k == 0 else f"{sign} "
            line += f" {front}{term}"
            length += size
        return [*lines, line]

    def _fixed(self) -> list[tuple[str, str]]:
        """The fixed effects and the offset: signs and products."""
        estimates = self.fit.estimates
        cells = column(estimates.beta, by=standard_errors(estimates))
        found, number = [], 0 if "Intercept" in self.design.x_names[:1] else 1
        for j, kept in enumerate(estimates.fixed_kept):
            if not kept:
                continue
            sign, symbol = "+", rf"\beta_{{{number}}}"
            if self.numbers:
                sign = "-" if cells[j].startswith("-") else "+"
                symbol = cells[j].removeprefix("-")
            found.append((sign, _product(symbol, self._columns(j), self.row)))
            number += 1
        if self.design.sums.has_offset:
            found.append(("+", rf"\text{{offset}}_{{{self.row}}}"))
        return found

    def _columns(self, j: int) -> list[str]:
        """Names of the variables whose product a column is; none: the constant."""
        recipe = self.design.recipe
        layout = None if recipe is None else recipe.fixed_layout
        return self._factors(layout, self.design.x_names, j)

    def _factors(self, layout: Layout | None, names: Sequence[str], j: int) -> list[str]:
        if layout is None:
            return [] if names[j] == "Intercept" else [names[j]]
        codings = self.design.recipe.codings
        return [codings[atom].fields(dummy)[i] for atom, dummy, i in layout.columns[j]]

    def _letter(self, t: int) -> str:
        return LETTERS[t] if len(self.design.terms) <= len(LETTERS) else f"u^{{({t + 1})}}"

    def _random(self) -> list[tuple[str, str]]:
        found = []
        for t, term in enumerate(self.design.terms):
            level = rf"{text(term.group)}[{self.row}]"
            if len(term.columns) > self.shown:
                z = rf"\mathbf{{z}}_{{{self._letter(t)},{self.row}}}^{{\top}}"
                found.append(("+", rf"{z} {self._vector(t)}_{{{level}}}"))
                continue
            recipe = self.design.recipe
            layout = None if recipe is None else recipe.random_layouts[t]
            if layout is not None and layout.names != term.columns:
                layout = None  # a structure has columns of its own
            for c in range(len(term.columns)):
                place = f"{c},{level}" if len(term.columns) > 1 else level
                names = self._factors(layout, term.columns, c)
                found.append(("+", _product(f"{self._letter(t)}_{{{place}}}", names, self.row)))
        return found

    def _distributions(self) -> list[str]:
        return [self._distribution(t, term) for t, term in enumerate(self.design.terms)]

    def _distribution(self, t: int, term: RandomTerm) -> str:
        """Of the random effects of a term."""
        letter, m, k = self._letter(t), len(term.levels), len(term.columns)
        where = rf"\quad j = 1, \ldots, {m} \text{{ of }} {text(term.group)}"
        if term.relation is not None:
            where += rf",\ \mathbf{{K}}_{{{letter}}} \text{{ between levels}}"
        kind = None if term.covariance is None else term.covariance.kind
        if k == 1 and kind in (None, "us", "diag", "homdiag"):
            variance = rf"\sigma_{{{letter}}}^2"
            if self.numbers:
                variance = _squared(term_covariance(self.fit.estimates, t)[1][0])
            return rf"{letter}_j &\sim {_normal('0', variance)}, {where}"
        covariance, words = self._covariance(t, term, letter), ""
        if kind is not None:
            words = rf",\ {text(IN_WORDS.get(kind, 'its own covariance'))}"
        elif k > self.shown and term.structure != "full":
            words = r",\ \text{no correlations}"
        if k <= self.shown:
            vector = _matrix([[rf"{letter}_{{{c},j}}"] for c in range(k)])
        else:
            vector = f"{self._vector(t)}_j"
            ends = [text(name) for name in term.columns]
            ends = ends if k <= SHOWN else [ends[0], r"\ldots", ends[-1]]
            words += rf",\ \mathbf{{z}}_{{{letter}}} = ({', '.join(ends)})"
            words += self._deviations(t, letter) if self.short and self.numbers else ""
        return rf"{vector} &\sim {_normal(_BOLD_ZERO, covariance)}, {where}{words}"

    def _deviations(self, t: int, letter: str) -> str:
        """Standard deviations of the columns of a term."""
        own = ", ".join(general(sd, 4) for sd in term_covariance(self.fit.estimates, t)[1])
        return rf",\ \boldsymbol{{\sigma}}_{{{letter}}} = ({own})"

    def _vector(self, t: int) -> str:
        letter, _, number = self._letter(t).partition("^")
        return rf"\mathbf{{{letter}}}" + f"^{number}" * bool(number)

    def _covariance(self, t: int, term: RandomTerm, letter: str) -> str:
        k = len(term.columns)
        if k > self.shown or (term.covariance is not None and not self.numbers):
            return rf"\boldsymbol{{\Sigma}}_{{{letter}}}"
        if self.numbers:
            cov = term_covariance(self.fit.estimates, t)[0]
            return _matrix([[general(value, 4) for value in row] for row in cov.tolist()])
        sigma = [rf"\sigma_{{{letter}{c}}}" for c in range(k)]
        rows = [[f"{sigma[a]}^2" if a == b else "0" for b in range(k)] for a in range(k)]
        if term.structure == "full":
            for a, b in combinations(range(k), 2):
                rows[a][b] = rows[b][a] = rf"\rho_{{{letter}{a}{b}}} {sigma[a]} {sigma[b]}"
        return _matrix(rows)

    def _residuals(self) -> list[str]:
        variance = _squared(self.fit.sigma) if self.numbers else r"\sigma^2"
        if self.design.sums.is_weighted:
            variance += rf" / w_{{{self.row}}}"
        said = rf"\varepsilon_{{{self.row}}} &\sim {_normal('0', variance)}"
        if self.design.residual is None:
            return [said]
        return [rf"{said}\ \text{{with }} {text(self.design.residual.text)}"]


class _Generalized(_Linear):
    """A generalized model: a distribution around means, a link."""

    def lines(self) -> list[str]:
        """Distribution, linear predictor, random effects."""
        terms = [*self._fixed(), *self._random()]
        if is_ordered(self.fit):
            return [*self._classes(), *self._sum(r"\eta_i", terms), *self._distributions()]
        head = rf"{self._response()} &\sim {self._family()}"
        return [head, *self._sum(self._linked(), terms), *self._distributions()]

    def _linked(self) -> str:
        name = self.fit.family.link.name
        mean = r"p_i" if self.fit.family.response == "binomial" else r"\mu_i"
        link = _LINKS.get(name, rf"\operatorname{{{_letters(name)}}}")
        return f"{link}({mean})" if link else mean

    def _family(self) -> str:
        family, extra, mean = self.fit.family, self.fit.extra, r"\mu_i"
        if family.response == "binomial":
            counts = r"\operatorname{Binomial}(n_i,\, p_i)"
            return counts if self.design.sums.is_weighted else r"\operatorname{Bernoulli}(p_i)"
        name = rf"\operatorname{{{_camel(family.name)}}}"
        more = [
            f"{text(str(own))} = {general(value, 4)}" if self.numbers else text(str(own))
            for own, value in extra.items()
        ]
        return f"{name}({', '.join([mean, *more])})"

    def _classes(self) -> list[str]:
        name = self.fit.family.link.name
        link = _LINKS.get(name, rf"\operatorname{{{_letters(name)}}}")
        response = text(response_of(self.fit))
        lines = [rf"{link}\!\left(\Pr({response}_i \le k)\right) &= \tau_k - \eta_i"]
        if self.numbers:
            values = ", ".join(general(value, 4) for value in self.fit.extra)
            lines.append(rf"\tau &= ({values})")
        return lines


class _Repeated(_Linear):
    """A model for repeated measures: correlated rows of a subject."""

    row = "it"

    def lines(self) -> list[str]:
        """The mean, and the covariance of the rows of a subject."""
        terms = [*self._fixed(), ("+", r"\varepsilon_{it}")]
        visits = self.design.seen
        group = "" if visits.covariance.group is None else r"_{g(i)}"
        where = rf"\quad i = 1, \ldots, {len(visits.subjects)} \text{{ of }} "
        where += text(visits.covariance.subject)
        covariance = rf"\boldsymbol{{\Sigma}}{group}"
        if self.numbers and not group and visits.places is None and visits.m <= self.shown:
            sigma = self.fit.covariance().to_numpy().tolist()
            covariance = _matrix([[general(value, 4) for value in row] for row in sigma])
        words = rf"\boldsymbol{{\Sigma}}{group} \text{{: }} {text(visits.covariance.text)}"
        return [
            *self._sum(self._response(), terms),
            rf"\boldsymbol{{\varepsilon}}_i &\sim {_normal(_BOLD_ZERO, covariance)}, "
            rf"{where},\ {words}",
        ]


# ---- how it is written --------------------------------------------------------------------------


def _product(symbol: str, names: Iterable[str], row: str) -> str:
    parts = [f"{text(name)}_{{{row}}}" for name in names]
    return r" \, ".join([symbol, r" \times ".join(parts)]) if parts else symbol


def _matrix(rows: Sequence[Sequence[str]]) -> str:
    inside = r" \\ ".join(" & ".join(row) for row in rows)
    return rf"\begin{{pmatrix}} {inside} \end{{pmatrix}}"


def _normal(mean: str, variance: str) -> str:
    tall = "pmatrix" in variance
    left, right = (r"\!\left(", r"\right)") if tall else ("(", ")")
    return rf"\mathcal{{N}}{left}{mean},\, {variance}{right}"


def _squared(sd: float) -> str:
    return f"{general(sd, 4)}^2" if sd > 0 else "0"


def _length(latex: str) -> int:
    """About how many characters are read."""
    bare = re.sub(r"\\(?:text|mathrm|operatorname|mathbf)(?=\{)", "", latex)
    return len(re.sub(r"\\[A-Za-z]+", "x", bare).translate(str.maketrans("", "", "{}\\ _")))


def _letters(name: str) -> str:
    """A name for an operator: letters alone."""
    return re.sub(r"[^A-Za-z]", "", name) or "g"


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", name) if part)
