"""Contrasts of means, and contrasts of contrasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product as combinations_of
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import tables as _tables
from ...plots import results as _pictures
from ...typing import Adjustment, Axes, Contrasted
from ..ddf import check_choice
from .adjust import ADJUSTMENTS, WITHOUT_INTERVALS, adjustment
from .comparisons import contrast_weights, kind_of
from .estimates import LinearEstimates, frame, paper, product
from .grid import text

if TYPE_CHECKING:
    import pandas as pd
else:
    from ...late import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Contrasts(LinearEstimates, _tables.FrameLike):
    """Contrasts of means within each level of ``by``; `EMMeans.contrast` makes them.

    They print as a table, and may be used as their data frame: ``contrasts["p"]``.

    Attributes
    ----------
    table : DataFrame
        The contrasts, their standard errors, degrees of freedom, t (or z) and p-values.
    adjust : str
        How p-values and intervals are adjusted for their number.
    """

    adjust: str
    means: tuple[int, ...]  # that are compared in each family
    ratios: bool  # whether they are ratios on the shown scale
    notes: tuple[str, ...]

    @property
    def table(self) -> pd.DataFrame:
        """The contrasts with their tests, p-values adjusted within each level of by."""
        return self._table.copy()

    def to_frame(self) -> pd.DataFrame:
        """As ``table``."""
        return self.table

    @cached_property
    def _table(self) -> pd.DataFrame:
        estimate, se, _ = self.estimates
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = estimate / se
        tests = {
            self._letter: statistic,
            "p": self._pvalues(statistic, self.adjust, self.means),
        }
        return frame(self._columns() | self._shown() | tests)

    def conf_int(self, level: float | None = None) -> pd.DataFrame:
        """Intervals, simultaneous by ``adjust`` within each level of ``by``.

        Parameters
        ----------
        level : float, optional
            Coverage; default that of the means.

        Returns
        -------
        pandas.DataFrame
            Columns ``lower`` and ``upper`` beside those of ``table`` without tests.
        """
        half = self._half_widths(self.level if level is None else level, self.adjust, self.means)
        return frame(self._columns() | self._shown(half))

    def plot(self, *, level: float | None = None, ax: Axes | None = None) -> Axes:
        """Draws the contrasts with their simultaneous intervals: `lmmfast.plots.contrasts`.

        Parameters
        ----------
        level : float, optional
            Coverage. Default: that of the means.
        ax : matplotlib axes, optional
            Default: a new figure.

        Returns
        -------
        matplotlib axes

        Raises
        ------
        ImportError
            Without matplotlib, when no axes are given.
        """
        return _pictures.contrasts(self, level=level, ax=ax)

    def contrast(
        self,
        kind: Contrasted = "pairwise",
        *,
        by: str | Sequence[str] | None = "same",
        adjust: Adjustment | None = None,
        ref: str | int | None = None,
    ) -> Contrasts:
        """Contrasts of these contrasts.

        Parameters
        ----------
        kind, by, adjust, ref : optional
            As for `EMMeans.contrast`.

        Returns
        -------
        Contrasts
            Which can be contrasted again.
        """
        return contrasts_of(self, kind, by=by, adjust=adjust, ref=ref)

    def summary(self, *, conf_int: bool = False) -> _tables.Summary:
        """The contrasts on paper.

        Parameters
        ----------
        conf_int : bool, default False
            With the intervals of `conf_int` beside the tests.

        Returns
        -------
        Summary
            With ``to_latex``, ``to_html`` and ``to_markdown``.
        """
        return _tables.Summary((self.section(conf_int),))

    def section(self, conf_int: bool = False) -> tuple[str | _tables.Table, ...]:
        """The contrasts under a title, with what was adjusted."""
        shown, lines = self._table, [*self._scale_notes(), *self.notes, *self._adjust_notes()]
        if conf_int:
            limits = self.conf_int()[["lower", "upper"]]
            shown = shown.join(limits)[[*shown.columns[:-2], *limits, *shown.columns[-2:]]]
            lines.append(self._interval_note())
        wrapped = [line for note in lines for line in _tables.wrapped(note)]
        return ("Contrasts:", paper(shown, len(self._columns())), *wrapped)

    def _interval_note(self) -> str:
        said = f"Confidence level: {self.level:g}"
        if max(len(rows) for rows in self.families) < 2 or self.adjust == "none":
            return said
        own = "bonferroni" if self.adjust in WITHOUT_INTERVALS else self.adjust
        return f"{said}, simultaneous, {own} method"

    def _columns(self) -> dict[str, np.ndarray]:
        return {name: self.cells[name] for name in self.specs + self.by}

    @property
    def _name(self) -> str:
        return self.scale.ratio if self.scale is not None and self.ratios else "estimate"

    def _transformed(self, eta: np.ndarray) -> np.ndarray:
        assert self.scale is not None
        return self.scale.to_ratio(eta)

    def _slope(self, eta: np.ndarray) -> np.ndarray:
        assert self.scale is not None
        return np.asarray(self.scale.to_ratio(eta) * np.log(self.scale.base))

    def _adjust_notes(self) -> list[str]:
        count = max(len(rows) for rows in self.families)
        if count < 2:
            return []
        if self.adjust == "none":
            return [f"p-values: not adjusted for {count} tests"]
        family = f"{count} tests"
        if self.adjust == "tukey":
            family = f"comparing a family of {max(self.means)} estimates"
        each = f" in each level of {', '.join(self.by)}" if self.by else ""
        return [f"p-values: adjusted, {self.adjust} method for {family}{each}"]


def contrasts_of(
    given: LinearEstimates,
    kind: Any,
    *,
    by: Any = "same",
    adjust: str | None = None,
    ref: Any = None,
    interaction: Any = None,
) -> Contrasts:
    """Contrasts among estimates, within each level of `by`."""
    if adjust is not None:
        check_choice("adjust", adjust, ADJUSTMENTS)
    within = _within(given, by)
    specs = tuple(name for name in given.specs + given.by if name not in within)
    if not specs:
        raise ValueError("nothing is left to compare: by names every variable")
    own = _regrouped(given, specs, within)
    if interaction is not None and interaction is not False:
        return _interactions(own, kind, interaction, adjust or "none", ref)
    kind = kind_of(kind)
    names, blocks, columns = [], [], []
    for rows in own.families:
        labels = [label for i, label in enumerate(own.labels(specs)) if i in set(rows.tolist())]
        label, weights = contrast_weights(kind, _bracketed(labels), ref)
        names += label
        C = np.zeros((len(weights), len(own.L)))
        C[:, rows] = weights
        blocks.append(C)
        columns += [rows[0]] * len(weights)
    C = np.concatenate(blocks)
    cells = {"contrast": np.array(names, dtype=object)}
    cells |= {name: own.cells[name][columns] for name in within}
    means = tuple(len(rows) for rows in own.families)
    return _made(own, C, ("contrast",), within, cells, adjustment(kind, adjust), means)


def _made(
    own: LinearEstimates,
    C: np.ndarray,
    specs: tuple[str, ...],
    within: tuple[str, ...],
    cells: dict[str, np.ndarray],
    adjust: str,
    means: tuple[int, ...],
) -> Contrasts:
    ratios = own.scale is not None and bool(own.scale.ratio) and bool(np.allclose(C.sum(1), 0))
    notes: list[str] = []
    if own.scale is not None and not ratios:
        notes.append(f"Contrasts are on the scale of {own.scale.label}")
    if ratios and np.any(own.bias) and own.fit.family is not None:
        notes.append("Ratios are given the random effects, not of the means that are averaged")
    if ratios:  # of one contrast, or of each variable of an interaction
        for name in specs:
            divided = [label.replace(" - ", " / ") for label in cells[name]]
            cells = cells | {name: np.array(divided, dtype=object)}
    found = Contrasts(
        own.fit,
        own.of,
        own.ddf,
        own.level,
        specs,
        within,
        cells,
        product(C, own.L),
        product(C, own.offset[:, None])[:, 0],
        own.scale if ratios else None,
        0.0,
        adjust,
        means,
        ratios,
        tuple(notes),
    )
    return found


def _within(given: LinearEstimates, by: Any) -> tuple[str, ...]:
    if isinstance(by, str) and by == "same":
        return given.by
    names = () if by is None else (by,) if isinstance(by, str) else tuple(by)
    for name in names:
        if name not in given.specs + given.by:
            known = ", ".join(given.specs + given.by)
            raise ValueError(f"by: {name!r} is none of the columns {known}")
    return names


def _regrouped(
    given: LinearEstimates, specs: tuple[str, ...], within: tuple[str, ...]
) -> LinearEstimates:
    """The same estimates, with other families; rows of one family stand together."""
    own = LinearEstimates(
        given.fit, given.of, given.ddf, given.level, specs, within, given.cells, given.L,
        given.offset, given.scale, given.bias,
    )  # fmt: skip
    order = np.concatenate(own.families)
    if (order == np.arange(len(order))).all():
        return own
    cells = {name: values[order] for name, values in given.cells.items()}
    bias = given.bias[order] if isinstance(given.bias, np.ndarray) else given.bias
    return LinearEstimates(
        given.fit, given.of, given.ddf, given.level, specs, within, cells, given.L[order],
        given.offset[order], given.scale, bias,
    )  # fmt: skip


def _bracketed(labels: Sequence[str]) -> list[str]:
    """Names that are contrasts themselves, in parentheses."""
    return [f"({label})" if " - " in label or " / " in label else label for label in labels]


def _interactions(
    own: LinearEstimates, kind: Any, interaction: Any, adjust: str, ref: Any
) -> Contrasts:
    """Products of a contrast of each variable of specs."""
    kinds = _kinds(own.specs, kind, interaction)
    levels = {name: list(dict.fromkeys(own.cells[name].tolist())) for name in own.specs}
    if ref is not None and len(kinds) > 1:
        raise ValueError("ref is for comparisons of one variable: give weights for interactions")
    parts = [
        contrast_weights(kinds[name], [text(v) for v in levels[name]], ref) for name in own.specs
    ]
    written = {name: kind if isinstance(kind, str) else "custom" for name, kind in kinds.items()}
    titles = [f"{name}_{written[name]}" for name in own.specs]
    choices = [range(len(names)) for names, _ in reversed(parts)]
    chosen = [tuple(reversed(choice)) for choice in combinations_of(*choices)]
    size = int(np.prod([len(own_levels) for own_levels in levels.values()]))
    blocks, first = [], []
    cells: dict[str, list[str]] = {title: [] for title in titles}
    for rows in own.families:
        if len(rows) != size:
            raise ValueError("interaction contrasts need every combination of the variables")
        place = [[levels[name].index(v) for v in own.cells[name][rows]] for name in own.specs]
        for choice in chosen:
            weights = np.ones(len(rows))
            for (names, W), c, at, title in zip(parts, choice, place, titles, strict=True):
                weights = weights * W[c][at]
                cells[title].append(names[c])
            C = np.zeros(len(own.L))
            C[rows] = weights
            blocks.append(C)
            first.append(rows[0])
    columns = {title: np.array(values, dtype=object) for title, values in cells.items()}
    columns |= {name: own.cells[name][first] for name in own.by}
    means = tuple(len(rows) for rows in own.families)
    return _made(own, np.array(blocks), tuple(titles), own.by, columns, adjust, means)


def _kinds(specs: tuple[str, ...], kind: Any, interaction: Any) -> dict[str, Any]:
    """The kind of contrasts of each variable."""
    if interaction is True:
        interaction = "pairwise" if kind is None else kind
    if isinstance(interaction, Mapping):
        if set(interaction) != set(specs):
            raise ValueError(f"interaction needs a kind for each of {', '.join(specs)}")
        return {name: kind_of(interaction[name]) for name in specs}
    if isinstance(interaction, (list, tuple)):
        if len(interaction) not in (1, len(specs)):
            raise ValueError(f"interaction needs a kind for each of {', '.join(specs)}")
        own = list(interaction) * (len(specs) if len(interaction) == 1 else 1)
        return dict(zip(specs, map(kind_of, own), strict=True))
    return {name: kind_of(interaction) for name in specs}
