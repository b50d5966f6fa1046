"""What a fit looks like on paper: the only place where numbers become text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from .effects import term_covariance
from .inference.ddf import METHODS, ddf_of

if TYPE_CHECKING:
    from .data.design import Design
    from .results import LMMFit

__all__ = ["Printed", "Summary", "Table", "one_line", "proof", "singular_sentences", "summarize"]

MISSING = "NA"
DIGITS = 4  # significant digits of the smallest number in a column
WIDTH = 12  # a column that would be wider goes over to general (exponent) format
LINE = 100
MAX_CORRELATED = 8  # more fixed effects than this: their correlations are shown on request only
NEGLIGIBLE = 0.005  # share of a zero combination below which a column is not worth naming
NO_VARIANCE = (
    1e-4  # standard deviation, relative, below which a combination counts as zero (as lme4)
)


@dataclass(frozen=True)
class Table:
    """Cells of text under a header; the first ``n_left`` columns are labels (left-aligned)."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_left: int

    def __str__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(self._line(cells, widths) for cells in lines)

    def _line(self, cells: tuple[str, ...], widths: list[int]) -> str:
        left = [cell.ljust(w) for cell, w in zip(cells, widths, strict=True)][: self.n_left]
        right = [cell.rjust(w) for cell, w in zip(cells, widths, strict=True)][self.n_left :]
        return "  ".join(left + right).rstrip()

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.header)
        body = "".join(f"<tr>{self._html_row(row)}</tr>" for row in self.rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _html_row(self, row: tuple[str, ...]) -> str:
        left = "".join(f"<th>{escape(cell)}</th>" for cell in row[: self.n_left])
        return left + "".join(f"<td>{escape(cell)}</td>" for cell in row[self.n_left :])


@dataclass(frozen=True)
class Summary:
    """Summary of a fit: sections of sentences and tables. ``str()`` for text, HTML in notebooks."""

    sections: tuple[tuple[str | Table, ...], ...]

    def __str__(self) -> str:
        return "\n\n".join("\n".join(str(part) for part in section) for section in self.sections)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(
            part._repr_html_() if isinstance(part, Table) else f"<p>{text_html(part)}</p>"
            for section in self.sections
            for part in paragraphs(section)
        )


class Printed:
    """A result that shows as its summary: text, HTML in notebooks. Dataclasses need repr=False."""

    def summary(self) -> Summary:
        """What there is to say, on paper."""
        raise NotImplementedError

    def __str__(self) -> str:
        return str(self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def text_html(text: str) -> str:
    """Lines of text as HTML."""
    return "<br>".join(escape(line) for line in text.split("\n"))


def paragraphs(section: tuple[str | Table, ...]) -> list[str | Table]:
    """Parts of a section with the lines between two tables joined to one text."""
    parts: list[str | Table] = []
    for part in section:
        if parts and isinstance(part, str) and isinstance(parts[-1], str):
            parts[-1] = f"{parts[-1]}\n{part}"
        else:
            parts.append(part)
    return parts


def summarize(fit: LMMFit, correlation: bool | None, ddf: str) -> Summary:
    """Summary of a fit, as ``LMMFit.summary`` documents it."""
    kept = int(np.sum(fit.estimates.fixed_kept))
    if correlation is None:
        correlation = kept <= MAX_CORRELATED
    sections: list[tuple[str | Table, ...]] = [
        (title(fit), *wrapped(f"Formula: {formula_text(fit)}")),
        criteria(fit),
        ("Scaled residuals:", residual_table(fit)) if fit.design.sums.at_hand else (),
        (
            "Random effects:",
            random_table(fit),
            *unidentified_lines(fit),
            counts(fit),
            *dropped_rows(fit.design),
        ),
        ("Fixed effects:", fixed_table(fit, ddf), *fixed_notes(fit, ddf))
        if fit.design.x_names
        else (),
    ]
    if correlation and kept > 1:
        sections.append(("Correlation of fixed effects:", correlation_table(fit)))
    starts = wrapped(f"{fit.starts}.") if fit.starts is not None else ()
    sections.append((*wrapped(proof(fit)), *starts, *singular_lines(fit)))
    return Summary(tuple(section for section in sections if section))


def one_line(fit: LMMFit) -> str:
    """The fit in one line, for ``repr``."""
    state = fit.estimates.status + (", singular" if fit.is_singular else "")
    value = f"{criterion_name(fit)} {fit.objective:.4f}"
    return f"<LMMFit {formula_text(fit)}: {value}, n = {fit.nobs}, {state}>"


# ---- sections -----------------------------------------------------------------------------------


def title(fit: LMMFit) -> str:
    """First line of a summary."""
    method = "REML" if fit.reml else "maximum likelihood"
    sums = fit.design.sums
    given = [("prior weights", sums.is_weighted), ("an offset", sums.has_offset)]
    extras = [name for name, is_there in given if is_there]
    return f"Linear mixed model fit by {method}" + (f", with {' and '.join(extras)}" * bool(extras))


def formula_text(fit: LMMFit) -> str:
    """The formula on one line."""
    return " ".join(fit.formula.split()) or "none (made from arrays)"


def criterion_name(fit: LMMFit) -> str:
    """What ``fit.objective`` is called."""
    return "REML criterion" if fit.reml else "deviance"


def criteria(fit: LMMFit) -> tuple[str | Table, ...]:
    """The criterion; for maximum likelihood lme4's row of five."""
    if fit.reml:
        return (f"REML criterion: {fit.objective:.4f}",)
    values = [f"{value:.4f}" for value in (fit.aic, fit.bic, fit.llf, fit.objective)]
    header = ("AIC", "BIC", "logLik", "deviance", "df.resid")
    return (Table(header, ((*values, str(fit.df_resid)),), 0),)


def residual_table(fit: LMMFit) -> Table:
    """Quartiles of the residuals over sigma (times the root of the weights)."""
    residuals = (fit.design.y - fit._fitted) / fit.sigma
    if fit.weights is not None:
        residuals = residuals * np.sqrt(fit.weights)
    quartiles = np.quantile(residuals, [0, 0.25, 0.5, 0.75, 1])
    cells = tuple(f"{value:.4f}" for value in quartiles)
    return Table(("Min", "1Q", "Median", "3Q", "Max"), (cells,), 0)


def random_table(fit: LMMFit) -> Table:
    """Variances, standard deviations and correlations, term by term."""
    labels: list[tuple[str, str]] = []
    correlations: list[list[str]] = []
    sds: list[float] = []
    for i, term in enumerate(fit.design.terms):
        _, sd, corr = term_covariance(fit.estimates, i)
        sds += list(sd)
        for row, name in enumerate(term.columns):
            labels.append((term.group if row == 0 else "", name))
            full = term.structure == "full"
            correlations.append([fixed(c, 2) for c in corr[row, :row]] if full else [])
    labels.append(("Residual", ""))
    correlations.append([])
    sds.append(fit.sigma)
    width = max(map(len, correlations))
    variance, deviation = column(np.square(sds)), column(sds)
    rows = tuple(
        (*label, v, s, *corr, *[""] * (width - len(corr)))
        for label, v, s, corr in zip(labels, variance, deviation, correlations, strict=True)
    )
    corr_header = ["Corr", *[""] * (width - 1)] if width else []
    return Table(("Groups", "Name", "Variance", "Std.Dev.", *corr_header), rows, 2)


def counts(fit: LMMFit) -> str:
    """Rows and levels."""
    groups = "; ".join(f"{group}, {m}" for group, m in fit.n_levels.items())
    return f"Number of obs: {fit.nobs}, groups: {groups}"


def dropped_rows(design: Design) -> list[str]:
    """How many rows were dropped, and which variables were missing there."""
    count = design.n_rows - design.n
    if count == 0:
        return []
    missing = ", ".join(f"{name} ({rows})" for name, rows in design.dropped.items())
    return wrapped(f"{count} of {design.n_rows} rows dropped, missing or unusable: {missing}")


def fixed_table(fit: LMMFit, ddf: str) -> Table:
    """Estimates, standard errors, degrees of freedom, t (or z) values and p-values."""
    ddf = ddf_of(ddf)
    test = fit.coef_test(ddf=ddf)
    letter = "z" if ddf == "z" else "t"
    columns: dict[str, Sequence[str]] = {
        "": fit.design.x_names,
        "Estimate": column(test.effect, by=test.sd),
        "Std. Error": column(test.sd),
    }
    if letter == "t":
        columns["df"] = df_cells(test.df_denom)
    columns[f"{letter} value"] = [
        fixed(value, 3) if abs(value) < 1e6 else general(value) for value in test.tvalue
    ]
    columns[f"Pr(>|{letter}|)"] = [p_value(p) for p in test.pvalue]
    return Table(tuple(columns), tuple(zip(*columns.values(), strict=True)), 1)


def fixed_notes(fit: LMMFit, ddf: str) -> list[str]:
    """How p was computed, and which columns were dropped."""
    ddf = ddf_of(ddf)
    method = METHODS[ddf]
    kind = "z (normal approximation)" if ddf == "z" else f"t, {method} degrees of freedom"
    notes = [f"p-values: {kind}"]
    if ddf == "kenward-roger":
        notes[0] += "; standard errors are adjusted"
    dropped = [
        name
        for name, kept in zip(fit.design.x_names, fit.estimates.fixed_kept, strict=True)
        if not kept
    ]
    if dropped:
        depend = "it depends" if len(dropped) == 1 else "they depend"
        notes += wrapped(f"Dropped: {', '.join(dropped)} ({depend} linearly on the others)")
    return notes


def correlation_table(fit: LMMFit) -> Table:
    """Lower triangle of the correlations of the kept fixed effects; columns are numbered."""
    kept = np.flatnonzero(fit.estimates.fixed_kept)
    cov = fit.estimates.vcov[np.ix_(kept, kept)]
    sd = np.sqrt(np.diag(cov))
    corr = cov / sd[:, None] / sd
    names = [fit.design.x_names[i] for i in kept]
    size = len(kept)
    rows = tuple(
        (str(r + 1), names[r], *[fixed(c, 3) for c in corr[r, :r]], *[""] * (size - 1 - r))
        for r in range(size)
    )
    return Table(("", "", *[str(c + 1) for c in range(size - 1)]), rows, 2)


# ---- what was proved ----------------------------------------------------------------------------


def proof(fit: LMMFit) -> str:
    """One sentence: what is known about the optimum, and what it cost."""
    evaluations = f"{fit.n_evals} evaluation{'s' * (fit.n_evals != 1)}"
    cost = f"{evaluations}, {duration(fit.estimates.seconds)}"
    bound = general(max(fit.certificate, float(np.spacing(abs(fit.objective)))), 1)
    if fit.converged and fit.estimates.objective_se > 0:
        error = general(fit.estimates.objective_se, 2)
        return (
            f"Optimum found by a stochastic gradient: the slope that was estimated promises less "
            f"than {bound}; the criterion itself is known to {error} (one standard error). ({cost})"
        )
    if fit.converged:
        many = ", along which the variances not identified are one choice of many"
        return (
            f"Optimum certified{many * bool(fit.estimates.unidentified)}: no local step lowers the "
            f"criterion by more than {bound} ({cost})."
        )
    left = "how far the optimum is, is not known"
    if math.isfinite(fit.certificate):
        left = f"the next step would lower the criterion by about {bound}"
    return f"Not converged: {fit.estimates.status} ({cost}); {left}."


def unidentified_lines(fit: LMMFit) -> list[str]:
    """Which variances are one choice of many, as lines of a summary."""
    said = [f"Not identified: {message}." for message in fit.estimates.unidentified]
    return [line for sentence in said for line in wrapped(sentence)]


def singular_lines(fit: LMMFit) -> list[str]:
    """The sentences on singular terms, as lines of a summary."""
    return [
        line
        for sentence in singular_sentences(fit)
        for line in wrapped(f"Singular fit, {sentence}")
    ]


def singular_sentences(fit: LMMFit) -> list[str]:
    """One plain sentence per singular term: which combination of its effects has no variance."""
    return [
        f"({fit.design.terms[item.term].label}): {no_variance(fit, item)}."
        for item in fit.estimates.singular
    ]


def no_variance(fit: LMMFit, item: Any) -> str:
    """What has no variance in one singular term."""
    columns = fit.design.terms[item.term].columns
    zero = set(item.zero)
    parts = []
    if zero:
        names = joined([columns[j] for j in sorted(zero)])
        parts.append(f"the variance{'s' * (len(zero) > 1)} of {names} {be(len(zero))} zero")
    _, sd, _ = term_covariance(fit.estimates, item.term)
    rest = [j for j in range(len(columns)) if j not in zero]
    size = len(rest) - rank(fit.estimates.T[item.term][rest], sd[rest])
    if size > 0:
        share = np.asarray(item.direction) * sd  # of zero columns: nothing
        text = combination(columns, np.asarray(item.direction), share)
        count = f" (one of {size} such combinations)" if size > 1 else ""
        perfect = " (random effects perfectly correlated)" if len(rest) == 2 else count
        parts.append(f"the combination {text} has no variance{perfect}")
    return ", and ".join(parts)


def rank(factor: np.ndarray, sd: np.ndarray) -> int:
    """Numerical rank of a relative covariance factor with rows scaled to length one."""
    if len(factor) == 0:
        return 0
    return int(
        np.linalg.matrix_rank(factor / np.linalg.norm(factor, axis=1)[:, None], tol=NO_VARIANCE)
    )


def combination(columns: Sequence[str], direction: np.ndarray, share: np.ndarray) -> str:
    """``direction`` in words, its most important column with coefficient one."""
    lead = int(np.argmax(np.abs(share)))
    text = ""
    for j, name in enumerate(columns):
        if abs(share[j]) < NEGLIGIBLE * abs(share[lead]):
            continue
        value = direction[j] / direction[lead]
        size = "" if abs(abs(value) - 1) < 5e-4 else f"{general(abs(value), 3)}*"
        sign = ("- " if value < 0 else "+ ") if text else ("-" if value < 0 else "")
        text += f"{' ' if text else ''}{sign}{size}{name}"
    return text


def joined(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def be(count: int) -> str:
    """The verb that goes with a number of things."""
    return "is" if count == 1 else "are"


# ---- numbers ------------------------------------------------------------------------------------


def column(values: Iterable[float], by: Iterable[float] | None = None) -> list[str]:
    """Numbers with one number of decimals: ``DIGITS`` significant ones for the smallest in ``by``.

    Where that would be too wide (scales that differ by many powers of ten) each number is
    written on its own, with an exponent where it helps.
    """
    numbers = [float(value) for value in values]
    sizes = np.abs(np.array(numbers if by is None else list(by), dtype=float))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    smallest = math.floor(math.log10(sizes.min())) if len(sizes) else 0
    decimals = max(0, DIGITS - 1 - smallest)
    cells = [fixed(value, decimals) for value in numbers]
    if max(map(len, cells), default=0) <= WIDTH:
        return cells
    return [general(value, DIGITS + 1) for value in numbers]


def fixed(value: float, decimals: int) -> str:
    """A number with that many decimals; never ``-0.00``."""
    if not math.isfinite(value):
        return not_finite(value)
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def general(value: float, digits: int = DIGITS + 1) -> str:
    """A number with that many significant digits."""
    return f"{value:.{digits}g}" if math.isfinite(value) else not_finite(value)


def not_finite(value: float) -> str:
    """Missing or infinite."""
    return MISSING if math.isnan(value) else ("Inf" if value > 0 else "-Inf")


def df_cells(values: Iterable[float]) -> list[str]:
    """Degrees of freedom: whole numbers if all are (nearly), else with two decimals."""
    df = np.asarray(list(values), dtype=float)
    finite = df[np.isfinite(df)]
    decimals = 2 if np.any(np.abs(finite - np.round(finite)) > 5e-3) else 0
    return [fixed(value, decimals) for value in df]


def p_value(p: float) -> str:
    """A p-value, to four decimals or three digits."""
    if math.isnan(p):
        return MISSING
    if p < 2e-16:
        return "<2e-16"
    return f"{p:.4f}" if p >= 1e-3 else f"{p:.2e}"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them: 0.4 ms, 35 ms, 2.1 s, 20.0 min."""
    for unit, size in (("min", 60.0), ("s", 1.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{1e3 * seconds:.{0 if seconds >= 0.01 else 1}f} ms"


def wrapped(text: str) -> list[str]:
    """Text in lines of at most 100 characters, continued with an indent."""
    options = {"subsequent_indent": "  ", "break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(text, LINE, **options)  # type: ignore[arg-type]
