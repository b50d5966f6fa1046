"""The summary of `MixedLMResults`, in statsmodels' look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import summary, tables
from ..effects import normal_pvalues, ratios, standard_errors
from ..markup import latex
from .estimated import Estimated

if TYPE_CHECKING:
    import pandas as pd


class Summary:
    """Tables with a title, and notes below.

    Attributes
    ----------
    tables : list of DataFrame
        Facts on the model, and the parameters.
    title : str
    extra_txt : list of str
        Notes.
    """

    def __init__(self, tables: list[pd.DataFrame], title: str, extra_txt: list[str]) -> None:
        self.tables = tables
        self.title = title
        self.extra_txt = extra_txt

    def as_text(self) -> str:
        """The summary as text of equal line lengths."""
        facts, *others = self.tables
        blocks = [_aligned(table) for table in others]
        width = max(len(line) for block in [_spread(facts, 0), *blocks] for line in block)
        lines = [self.title.center(width).rstrip(), "=" * width]
        lines += [line.ljust(width) for line in _spread(facts, width)]
        for head, *body in blocks:
            lines += ["-" * width, head, "-" * width, *body]
        return "\n".join([*lines, "=" * width, *self.extra_txt])

    def as_html(self) -> str:
        """The summary as HTML tables."""
        facts, *others = self.tables
        body = "".join(f"<tr>{_html('td', row)}</tr>" for row in facts.to_numpy())
        inner = [f"<caption>{escape(self.title)}</caption>{body}"]
        for table in others:
            rows = zip(table.index, table.to_numpy(), strict=True)
            body = "".join(
                f"<tr>{_html('th', [name])}{_html('td', row)}</tr>" for name, row in rows
            )
            inner.append(f"<tr><td></td>{_html('th', table.columns)}</tr>{body}")
        html = [f'<table class="simpletable">{table}</table>' for table in inner]
        return "\n".join([*html, *(f"<p>{escape(note)}</p>" for note in self.extra_txt)])

    def as_latex(self, label: str = "") -> str:
        """The summary as a LaTeX table.

        Parameters
        ----------
        label : str
            For references.
        """
        facts, *others = self.tables
        parts = [_tabular(facts.to_numpy(), "l" * facts.shape[1], None)]
        for table in others:
            rows = [[name, *row] for name, row in zip(table.index, table.to_numpy(), strict=True)]
            parts.append(_tabular(rows, "l" + "r" * table.shape[1], ["", *table.columns]))
        body = "\n\n".join(f"\\begin{{center}}\n{part}\n\\end{{center}}" for part in parts)
        notes = "".join(f"\\bigskip\n{latex(note)}\n" for note in self.extra_txt)
        return (
            f"\\begin{{table}}\n\\caption{{{latex(self.title)}}}\n\\label{{{label}}}\n{body}\n"
            f"\\end{{table}}\n{notes}"
        )

    __str__ = as_text
    __repr__ = as_text

    def _repr_html_(self) -> str:
        return self.as_html()

    def _repr_latex_(self) -> str:
        return self.as_latex()


def _widths(cells: list[list[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*cells, strict=True)]


def _aligned(table: pd.DataFrame) -> list[str]:
    """The lines of a table, its header first: labels left, numbers right."""
    cells = [["", *map(str, table.columns)]]
    cells += [[str(name), *map(str, row)] for name, *row in table.itertuples()]
    first, *widths = _widths(cells)
    return [" ".join([row[0].ljust(first), *map(str.rjust, row[1:], widths)]) for row in cells]


def _spread(table: pd.DataFrame, width: int) -> list[str]:
    """The lines of facts in two pairs of columns, over a width."""
    cells = [[str(cell) for cell in row] for row in table.to_numpy()]
    widths = _widths(cells)
    spare = max(0, width - sum(widths) - len(widths) + 1)
    gap = " " * (1 + spare // (len(widths) - 1))
    return [gap.join(map(str.ljust, row, widths)) for row in cells]


def _html(tag: str, cells: Iterable[object]) -> str:
    return "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells)


def _tabular(rows: Any, align: str, header: Sequence[str] | None) -> str:
    lines = [" & ".join(latex(str(cell)) for cell in row) + r" \\" for row in rows]
    head = [] if header is None else [" & ".join(map(latex, header)) + r" \\", r"\hline"]
    top, bottom = f"\\begin{{tabular}}{{{align}}}\n\\hline", "\\hline\n\\end{tabular}"
    return "\n".join([top, *head, *lines, bottom])


def summarize(
    result: Estimated,
    yname: str | None,
    xname_fe: Sequence[str] | None,
    xname_re: Sequence[str] | None,
    title: str | None,
    alpha: float,
) -> Summary:
    """The summary as `MixedLMResults.summary` documents it."""
    names, k = result.model.data.param_names, result.k_fe
    fixed = _names("xname_fe", xname_fe, names[:k])
    variances = _names("xname_re", xname_re, names[k:])
    both = [_facts(result, yname), _parameters(result, [*fixed, *variances], alpha)]
    return Summary(both, title or "Mixed Linear Model Regression Results", _notes(result))


def _names(what: str, given: Sequence[str] | None, usual: Sequence[str]) -> Sequence[str]:
    if given is not None and len(given) != len(usual):
        raise ValueError(f"{what} should be a list of length {len(usual)}")
    return usual if given is None else given


def _facts(result: Estimated, yname: str | None) -> pd.DataFrame:
    import pandas as pd

    small, large, mean = result._group_sizes
    scale = f"{result.scale:.4f}" if result.scale >= 1e-2 else f"{result.scale:.4g}"
    rows = [
        ("Model:", "MixedLM", "Dependent Variable:", yname or result.model.endog_names),
        ("No. Observations:", str(result.nobs), "Method:", result.method),
        ("No. Groups:", str(result.model.n_groups), "Scale:", scale),
        ("Min. group size:", str(small), "Log-Likelihood:", f"{result.lmm.llf:.4f}"),
        ("Max. group size:", str(large), "Converged:", "Yes" if result.converged else "No"),
        ("Mean group size:", f"{mean:.1f}", "", ""),
    ]
    return pd.DataFrame(rows, dtype=object)


def _parameters(result: Estimated, names: list[str], alpha: float) -> pd.DataFrame:
    import pandas as pd
    from scipy.special import ndtri

    beta = result.lmm.estimates.beta
    se, z = standard_errors(result.lmm.estimates), ratios(result.lmm.estimates)
    half = ndtri(1 - alpha / 2) * se
    fixed = np.column_stack([beta, se, z, normal_pvalues(z), beta - half, beta + half])
    variances = np.full((len(names) - len(fixed), 6), np.nan)
    variances[:, 0] = result.scale * result._variance_parameters
    variances[:, 1] = np.asarray(result.bse_re)
    columns = ["Coef.", "Std.Err.", "z", "P>|z|", f"[{alpha / 2:g}", f"{1 - alpha / 2:g}]"]
    cells = [[_cell(value) for value in row] for row in np.vstack([fixed, variances])]
    frame = pd.DataFrame(cells, pd.Index(names, dtype=object), columns, dtype=object)
    frame.iloc[: len(z), 3] = [tables.fixed(p, 3) if p >= 0 else "" for p in fixed[:, 3]]
    return frame


def _cell(value: float) -> str:
    """Three decimals, more where they would show nothing."""
    if not np.isfinite(value):
        return ""
    return tables.general(value, 3) if 0 < abs(value) < 5e-4 else tables.fixed(value, 3)


def _notes(result: Estimated) -> list[str]:
    """What statsmodels does not say: the model in lme4's syntax, the proof, dropped rows."""
    formula = result.formula_lme4
    if formula is None:
        tied = ", ".join(part.name for part in result._components if part.tied)
        notes = [f"lme4: no formula ({tied}: several columns share one variance)"]
    else:
        notes = tables.wrapped(f"lme4: {formula}")
    notes += tables.wrapped(summary.proof(result.lmm))
    notes += summary.singular_lines(result.lmm)
    if len(result.lmm.design.rows):
        notes += summary.dropped_rows(result.lmm.design)
    return notes
