"""The summary of `MixedLMResults`, in statsmodels' look."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import summary, tables
from ..effects import normal_pvalues
from .estimated import Estimated

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Summary", "summarize"]

_LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\^{}", "\\": r"\textbackslash{}", ">": "$>$"}
_LATEX |= {"<": "$<$", "|": "$|$"}


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
        blocks = [_text_lines(table, header=i > 0) for i, table in enumerate(self.tables)]
        width = max(len(line) for block in blocks for line in block)
        blocks[0] = _text_lines(self.tables[0], header=False, width=width)
        lines = [self.title.center(width).rstrip(), "=" * width, *_filled(blocks[0], width)]
        for block in blocks[1:]:
            lines += ["-" * width, block[0], "-" * width, *block[1:]]
        return "\n".join([*lines, "=" * width, *self.extra_txt])

    def as_html(self) -> str:
        """The summary as HTML tables."""
        facts, *others = self.tables
        cells = "".join(
            f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>"
            for row in facts.to_numpy()
        )
        html = [
            f'<table class="simpletable"><caption>{escape(self.title)}</caption>{cells}</table>'
        ]
        for table in others:
            head = "".join(f"<th>{escape(str(name))}</th>" for name in table.columns)
            body = "".join(
                f"<tr><th>{escape(str(name))}</th>"
                f"{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>"
                for name, row in zip(table.index, table.to_numpy(), strict=True)
            )
            html.append(f'<table class="simpletable"><tr><td></td>{head}</tr>{body}</table>')
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
        notes = "".join(f"\\bigskip\n{_latex(note)}\n" for note in self.extra_txt)
        return (
            f"\\begin{{table}}\n\\caption{{{_latex(self.title)}}}\n\\label{{{label}}}\n{body}\n"
            f"\\end{{table}}\n{notes}"
        )

    __str__ = as_text
    __repr__ = as_text

    def _repr_html_(self) -> str:
        return self.as_html()

    def _repr_latex_(self) -> str:
        return self.as_latex()


def _text_lines(table: pd.DataFrame, header: bool, width: int = 0) -> list[str]:
    """Rows of a table: labels left, numbers right; facts in two pairs of columns."""
    cells = [[str(cell) for cell in row] for row in table.to_numpy()]
    if header:
        cells = [["", *map(str, table.columns)]] + [
            [str(name), *row] for name, row in zip(table.index, cells, strict=True)
        ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if header:
        return [
            " ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in cells
        ]
    spare = max(0, width - sum(widths) - len(widths) + 1)
    gap = " " * (1 + spare // (len(widths) - 1))
    return [gap.join(map(str.ljust, row, widths)) for row in cells]


def _filled(lines: Sequence[str], width: int) -> list[str]:
    return [line.ljust(width) for line in lines]


def _tabular(rows: Any, align: str, header: Sequence[str] | None) -> str:
    lines = [" & ".join(_latex(cell) for cell in row) + r" \\" for row in rows]
    head = [] if header is None else [" & ".join(map(_latex, header)) + r" \\", r"\hline"]
    return "\n".join([f"\\begin{{tabular}}{{{align}}}", r"\hline", *head, *lines, r"\hline",
                      r"\end{tabular}"])  # fmt: skip


def _latex(text: object) -> str:
    return "".join(_LATEX.get(character, character) for character in str(text))


def summarize(
    result: Estimated,
    yname: str | None,
    xname_fe: Sequence[str] | None,
    xname_re: Sequence[str] | None,
    title: str | None,
    alpha: float,
) -> Summary:
    """The summary as `MixedLMResults.summary` documents it."""
    names = _names(result, xname_fe, xname_re)
    return Summary(
        [_facts(result, yname), _parameters(result, names, alpha)],
        title or "Mixed Linear Model Regression Results",
        _notes(result),
    )


def _names(
    result: Estimated, xname_fe: Sequence[str] | None, xname_re: Sequence[str] | None
) -> list[str]:
    names, k = list(result.model.data.param_names), result.k_fe
    for given, place, what in (
        (xname_fe, slice(0, k), "xname_fe"),
        (xname_re, slice(k, None), "xname_re"),
    ):
        if given is not None:
            if len(given) != len(names[place]):
                raise ValueError(f"{what} should be a list of length {len(names[place])}")
            names[place] = given
    return names


def _facts(result: Estimated, yname: str | None) -> pd.DataFrame:
    import pandas as pd

    small, large, mean = result._group_sizes
    left = {
        "Model:": "MixedLM",
        "No. Observations:": str(result.nobs),
        "No. Groups:": str(result.model.n_groups),
        "Min. group size:": str(small),
        "Max. group size:": str(large),
        "Mean group size:": f"{mean:.1f}",
    }
    right = {
        "Dependent Variable:": yname or result.model.endog_names,
        "Method:": result.method,
        "Scale:": f"{result.scale:.4f}" if result.scale >= 1e-2 else f"{result.scale:.4g}",
        "Log-Likelihood:": f"{result.lmm.llf:.4f}",
        "Converged:": "Yes" if result.converged else "No",
        "": "",
    }
    rows = [(*a, *b) for a, b in zip(left.items(), right.items(), strict=True)]
    return pd.DataFrame(rows, dtype=object)


def _parameters(result: Estimated, names: list[str], alpha: float) -> pd.DataFrame:
    import pandas as pd
    from scipy.special import ndtri

    estimates = result.lmm.estimates
    se = np.sqrt(np.diag(estimates.vcov))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = estimates.beta / se
    half = ndtri(1 - alpha / 2) * se
    fixed = np.column_stack(
        [estimates.beta, se, z, normal_pvalues(z), estimates.beta - half, estimates.beta + half]
    )
    variances = np.full((len(names) - len(fixed), 6), np.nan)
    variances[:, 0] = result.scale * result._variance_parameters
    variances[:, 1] = np.asarray(result.bse_re)
    columns = ["Coef.", "Std.Err.", "z", "P>|z|", f"[{alpha / 2:g}", f"{1 - alpha / 2:g}]"]
    cells = [
        [
            tables.fixed(value, 3) if column == 3 and value >= 0 else _cell(value)
            for column, value in enumerate(row)
        ]
        for row in np.vstack([fixed, variances])
    ]
    return pd.DataFrame(cells, pd.Index(names, dtype=object), columns, dtype=object)


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
